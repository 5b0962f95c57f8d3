// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * detect_test.c - the rule of shunt/detect.h, clause by clause, with a clock and a prober of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>

#include "shunt/detect.h"

#define US 1000ULL
#define INTERVAL_NS (100 * US)
#define MULTIPLIER 3
#define N 4 /* sessions 1 .. N - 1 */
#define ALL 0xeU /* all of them, as bits */

/* What prober and receiver write, and the time. */
static struct session sessions[N];
static struct detector detector;
static uint64_t now_ns;
static struct silence why;

static int world_make(void **state)
{
	(void)state;
	memset(sessions, 0, sizeof(sessions));
	memset(&detector, 0, sizeof(detector));
	memset(&why, 0, sizeof(why));
	detector.interval_ns = INTERVAL_NS;
	detector.multiplier = MULTIPLIER;
	detector.n_sessions = N - 1;
	now_ns = 77 * 1000 * US;
	return 0;
}

/* Begin the next round, asking the sessions in `asked`: its time and its bits, not yet its number. */
static uint64_t round_begin(unsigned asked)
{
	uint64_t round = detector.round + 1, bit = 1ULL << round % SHUNT_ROUNDS;

	detector.rounds[round % SHUNT_ROUNDS] = (struct round_time){ .round = round, .sent_ns = now_ns };
	for (unsigned id = 1; id < N; id++)
		sessions[id].asked = asked >> id & 1 ? sessions[id].asked | bit : sessions[id].asked & ~bit;
	return round;
}

static void answer(unsigned id)
{
	sessions[id].answered_round = detector.round;
	sessions[id].answered_ns = now_ns;
}

/* One round: ask, hear the answers of `answering` at once, and let an interval pass. */
static void round_pass(unsigned asked, unsigned answering)
{
	detector.round = round_begin(asked);
	for (unsigned id = 1; id < N; id++)
		if (answering >> id & 1)
			answer(id);
	now_ns += INTERVAL_NS;
}

static enum silence_verdict judge(unsigned id)
{
	struct witnesses w = { 0 };

	for (unsigned i = 1; i < N; i++)
		witnesses_add(&w, i, sessions[i].answered_round, sessions[i].kind);
	return silence_judge(&sessions[id], &detector, &w, id, now_ns, &why);
}

/* Some rounds that all answer. */
static void peace(unsigned rounds)
{
	while (rounds--)
		round_pass(ALL, ALL);
}

static void who_answers_is_not_silent(void **state)
{
	(void)state;
	for (int i = 0; i < 300; i++) {
		peace(1);
		for (unsigned id = 1; id < N; id++)
			assert_int_equal(judge(id), SILENCE_NO);
	}
}

static void nobody_is_judged_before_the_first_round(void **state)
{
	(void)state;
	now_ns += 1000 * INTERVAL_NS;
	assert_int_equal(judge(1), SILENCE_NO);
}

static void multiplier_unanswered_rounds_convict_and_one_less_does_not(void **state)
{
	static const uint32_t multipliers[] = { 1, 2, 3, 5, SHUNT_ROUNDS / 2 };

	for (size_t i = 0; i < sizeof(multipliers) / sizeof(multipliers[0]); i++) {
		uint32_t multiplier = multipliers[i];

		world_make(state);
		detector.multiplier = multiplier;
		peace(10);
		for (uint32_t n = 1; n < multiplier; n++) {
			round_pass(ALL, ALL & ~2U);
			assert_int_equal(judge(1), SILENCE_NO);
		}
		/* However long ago. */
		now_ns += 1000 * INTERVAL_NS;
		assert_int_equal(judge(1), SILENCE_NO);
		round_pass(ALL, ALL & ~2U);
		assert_int_equal(judge(1), SILENCE_CONVICTED);
		assert_int_equal(why.first_round, 11);
		assert_int_equal(why.last_round, 10 + multiplier);
		assert_int_equal(why.first_sent_ns, detector.rounds[11 % SHUNT_ROUNDS].sent_ns);
		assert_int_equal(judge(2), SILENCE_NO);
	}
}

static void an_answer_in_between_begins_the_count_anew(void **state)
{
	(void)state;
	peace(10);
	for (int i = 0; i < 100; i++) {
		round_pass(ALL, ALL & ~2U);
		round_pass(ALL, ALL & ~2U);
		assert_int_equal(judge(1), SILENCE_NO);
		round_pass(ALL, ALL);
		assert_int_equal(judge(1), SILENCE_NO);
	}
}

/* The rounds were sent in a burst, as after a pause of the prober. */
static void the_oldest_unanswered_round_has_to_be_interval_times_multiplier_old(void **state)
{
	uint64_t burst_ns;

	(void)state;
	peace(10);
	burst_ns = now_ns;
	for (int i = 0; i < 5; i++) {
		detector.round = round_begin(ALL);
		answer(2);
	}
	assert_int_equal(judge(1), SILENCE_NO);
	now_ns = burst_ns + INTERVAL_NS * MULTIPLIER - 1;
	assert_int_equal(judge(1), SILENCE_NO);
	now_ns++;
	assert_int_equal(judge(1), SILENCE_CONVICTED);
	assert_int_equal(why.first_sent_ns, burst_ns);
}

static void grace_is_added_to_the_silence_that_convicts(void **state)
{
	const uint64_t grace_ns = 850 * US;
	uint64_t first_sent_ns;

	(void)state;
	peace(10);
	sessions[1].grace_ns = grace_ns;
	first_sent_ns = now_ns;
	while (now_ns < first_sent_ns + INTERVAL_NS * MULTIPLIER + grace_ns - INTERVAL_NS)
		round_pass(ALL, ALL & ~2U);
	now_ns = first_sent_ns + INTERVAL_NS * MULTIPLIER + grace_ns - 1;
	assert_int_equal(judge(1), SILENCE_NO);
	now_ns++;
	assert_int_equal(judge(1), SILENCE_CONVICTED);
	assert_int_equal(why.first_round, 11);
	assert_int_equal(why.last_round, 13);
}

static void a_round_that_was_not_asked_counts_for_nothing(void **state)
{
	(void)state;
	peace(10);
	round_pass(ALL, ALL & ~2U); /* 11: asked */
	round_pass(ALL & ~2U, ALL & ~2U);
	round_pass(ALL & ~2U, ALL & ~2U);
	round_pass(ALL, ALL & ~2U); /* 14: asked */
	round_pass(ALL & ~2U, ALL & ~2U);
	now_ns += 10 * INTERVAL_NS;
	assert_int_equal(judge(1), SILENCE_NO);
	round_pass(ALL, ALL & ~2U); /* 16: asked */
	assert_int_equal(judge(1), SILENCE_CONVICTED);
	assert_int_equal(why.first_round, 11);
	assert_int_equal(why.last_round, 16);
}

static void who_was_never_asked_is_never_convicted(void **state)
{
	(void)state;
	for (int i = 0; i < 300; i++) {
		round_pass(ALL & ~2U, ALL & ~2U);
		assert_int_equal(judge(1), SILENCE_NO);
	}
	/* Nor who is asked too seldom: twice in what is remembered. */
	for (int i = 0; i < 300; i++) {
		round_pass(i % 32 ? ALL & ~2U : ALL, ALL & ~2U);
		assert_int_equal(judge(1), SILENCE_NO);
	}
}

/* A balancer that stalls sends no round: time alone convicts nobody, and after the stall the answers come. */
static void a_stall_of_the_balancer_convicts_nobody(void **state)
{
	(void)state;
	peace(10);
	detector.round = round_begin(ALL); /* sent, and its answers wait in a queue */
	now_ns += 1000 * 1000 * US;
	for (unsigned id = 1; id < N; id++)
		assert_int_equal(judge(id), SILENCE_NO);
	for (unsigned id = 1; id < N; id++)
		answer(id);
	peace(5);
	for (unsigned id = 1; id < N; id++)
		assert_int_equal(judge(id), SILENCE_NO);
}

static void silence_of_all_has_no_witness(void **state)
{
	(void)state;
	peace(10);
	for (int i = 0; i < MULTIPLIER; i++)
		round_pass(ALL, 0);
	for (unsigned id = 1; id < N; id++) {
		assert_int_equal(judge(id), SILENCE_UNWITNESSED);
		assert_int_equal(why.witness, 0);
		assert_int_equal(why.witness_round, 0);
		assert_int_equal(why.first_round, 11);
		assert_int_equal(why.last_round, 13);
	}
}

static void the_witness_is_another_session(void **state)
{
	(void)state;
	/* Alone in the world. */
	for (int i = 0; i < 10; i++)
		round_pass(2, 2);
	for (int i = 0; i < MULTIPLIER; i++)
		round_pass(2, 0);
	assert_int_equal(judge(1), SILENCE_UNWITNESSED);
	assert_int_equal(why.witness, 0);

	/* With one other; the accused itself answered last of all before. */
	world_make(state);
	peace(10);
	for (int i = 0; i < MULTIPLIER; i++)
		round_pass(ALL, 1U << 3);
	assert_int_equal(judge(1), SILENCE_CONVICTED);
	assert_int_equal(why.witness, 3);
	assert_int_equal(why.witness_round, 13);
	assert_int_equal(judge(2), SILENCE_CONVICTED);
	assert_int_equal(why.witness, 3);
	assert_int_equal(judge(3), SILENCE_NO);
}

static void a_witness_of_an_older_round_is_none(void **state)
{
	(void)state;
	peace(10);
	round_pass(ALL, ALL & ~2U);
	round_pass(ALL, ALL & ~2U); /* 12: the others' last answer */
	round_pass(ALL, 0); /* 13: the third that session 1 missed */
	assert_int_equal(judge(1), SILENCE_UNWITNESSED);
	/* One of the others answers that round after all: enough. */
	sessions[2].answered_round = 12;
	sessions[3].answered_round = 13;
	assert_int_equal(judge(1), SILENCE_CONVICTED);
	assert_int_equal(why.witness, 3);
	assert_int_equal(why.witness_round, 13);
	assert_int_equal(why.last_round, 13);
}

/* Only a round the silent one was asked too can have been answered instead of it. */
static void a_witness_at_the_last_of_its_rounds_is_enough(void **state)
{
	(void)state;
	peace(10);
	for (int i = 0; i < MULTIPLIER; i++)
		round_pass(ALL, ALL & ~2U);
	for (int i = 0; i < 10; i++)
		round_pass(ALL, 0); /* then all are silent */
	assert_int_equal(judge(1), SILENCE_CONVICTED);
	assert_int_equal(why.witness_round, 13);
	assert_int_equal(judge(2), SILENCE_UNWITNESSED);
}

static void a_silence_longer_than_what_is_remembered_still_convicts(void **state)
{
	(void)state;
	peace(10);
	for (int i = 1; i <= 5 * SHUNT_ROUNDS; i++) {
		round_pass(ALL, ALL & ~2U);
		assert_int_equal(judge(1), i < MULTIPLIER ? SILENCE_NO : SILENCE_CONVICTED);
		assert_true(why.first_round + SHUNT_ROUNDS > detector.round);
	}
	assert_int_equal(judge(2), SILENCE_NO);
}

/* The bit of the round that begins is that of a round SHUNT_ROUNDS before; the number comes last. */
static void a_round_that_begins_is_not_mistaken_for_an_old_one(void **state)
{
	(void)state;
	/* Session 1 was asked in no round that is remembered; the others answer. */
	for (int i = 0; i < 2 * SHUNT_ROUNDS; i++)
		round_pass(i < 5 ? ALL : ALL & ~2U, ALL & ~2U);
	round_pass(ALL, ALL & ~2U);
	round_pass(ALL, ALL & ~2U);
	now_ns += 10 * INTERVAL_NS;
	assert_int_equal(judge(1), SILENCE_NO); /* two asked */
	round_begin(ALL); /* the third: sent to it, its number not yet written */
	assert_int_equal(judge(1), SILENCE_NO);
	detector.round++;
	answer(2);
	assert_int_equal(judge(1), SILENCE_CONVICTED);
}

static void a_round_whose_time_was_overwritten_counts_for_nothing(void **state)
{
	(void)state;
	peace(10);
	for (int i = 0; i < MULTIPLIER; i++)
		round_pass(ALL, ALL & ~2U);
	assert_int_equal(judge(1), SILENCE_CONVICTED);
	/* The prober came round while this was judged: the entry of the first unanswered round is a newer one's. */
	detector.rounds[11].round += SHUNT_ROUNDS;
	assert_int_equal(judge(1), SILENCE_NO);
}

static void an_answer_to_a_round_not_yet_published_is_no_silence(void **state)
{
	(void)state;
	peace(10);
	sessions[1].answered_round = round_begin(ALL);
	now_ns += 100 * INTERVAL_NS;
	assert_int_equal(judge(1), SILENCE_NO);
}

static void without_a_multiplier_nobody_is_judged(void **state)
{
	(void)state;
	peace(10);
	for (int i = 0; i < 10; i++)
		round_pass(ALL, ALL & ~2U);
	detector.multiplier = 0;
	assert_int_equal(judge(1), SILENCE_NO);
}

/* One evaluation as its callers do it. Returns the convicted, as bits. */
static unsigned evaluate(void)
{
	struct witnesses w = { 0 };
	uint64_t newest = detector.round;
	unsigned convicted = 0;

	for (unsigned id = 1; id < N; id++)
		witnesses_add(&w, id, sessions[id].answered_round, sessions[id].kind);
	if (suspicion_holds(&detector, &w, newest))
		return 0;
	for (unsigned id = 1; id < N; id++) {
		enum silence_verdict verdict = silence_judge(&sessions[id], &detector, &w, id, now_ns, &why);

		if (verdict == SILENCE_UNWITNESSED)
			suspicion_begin(&detector, &w, &why);
		convicted |= (unsigned)(verdict == SILENCE_CONVICTED) << id;
	}
	return convicted;
}

static void the_first_answer_after_a_cut_bears_witness_against_nobody(void **state)
{
	static const unsigned cut_rounds[] = { 1, 2, 3, 4, 10, SHUNT_ROUNDS - 1, 3 * SHUNT_ROUNDS };

	for (size_t i = 0; i < sizeof(cut_rounds) / sizeof(cut_rounds[0]); i++) {
		world_make(state);
		peace(10);
		for (unsigned n = 0; n < cut_rounds[i]; n++) {
			round_pass(ALL, 0);
			assert_int_equal(evaluate(), 0);
		}
		/* The link is back: the answers to this round arrive one after another. */
		detector.round = round_begin(ALL);
		for (unsigned id = 1; id < N; id++) {
			answer(id);
			assert_int_equal(evaluate(), 0);
		}
		/* And all is as before. */
		for (int n = 0; n < 10; n++) {
			peace(1);
			assert_int_equal(evaluate(), 0);
		}
		assert_int_equal(detector.deaf_round, 0);
	}
}

static void who_stays_silent_after_a_cut_is_convicted_by_the_rounds_that_follow(void **state)
{
	(void)state;
	peace(10);
	for (int i = 0; i < 20; i++) {
		round_pass(ALL, 0);
		assert_int_equal(evaluate(), 0);
	}
	round_pass(ALL, ALL & ~2U); /* 31: the others are back */
	assert_int_equal(evaluate(), 0);
	round_pass(ALL, ALL & ~2U);
	assert_int_equal(evaluate(), 0);
	round_pass(ALL, ALL & ~2U);
	assert_int_equal(evaluate(), 0);
	round_pass(ALL, ALL & ~2U); /* 34: the third after it */
	assert_int_equal(evaluate(), 2);
	assert_int_equal(judge(1), SILENCE_CONVICTED);
	assert_int_equal(why.first_round, 32);
	assert_int_equal(why.last_round, 34);
}

static void a_suspicion_holds_until_somebody_answers(void **state)
{
	(void)state;
	peace(10);
	for (int i = 0; i < MULTIPLIER; i++)
		round_pass(ALL, 0);
	assert_int_equal(evaluate(), 0);
	assert_int_equal(detector.deaf_round, 11);
	for (int i = 0; i < 100; i++) {
		round_pass(ALL, 0);
		assert_int_equal(evaluate(), 0);
		assert_int_equal(detector.deaf_round, 11);
		assert_int_equal(detector.pardoned_round, 0);
	}
	round_pass(ALL, 1U << 3);
	assert_int_equal(evaluate(), 0);
	assert_int_equal(detector.deaf_round, 0);
	assert_int_equal(detector.pardoned_round, detector.round);
}

/* The others have answered since its first unanswered round, only not yet the last: that is no silence of all. */
static void one_silent_backend_begins_no_suspicion(void **state)
{
	(void)state;
	peace(10);
	round_pass(ALL, ALL & ~2U);
	round_pass(ALL, ALL & ~2U);
	round_pass(ALL, 0);
	assert_int_equal(judge(1), SILENCE_UNWITNESSED);
	assert_int_equal(evaluate(), 0);
	assert_int_equal(detector.deaf_round, 0);
	answer(2);
	assert_int_equal(evaluate(), 2);
}

/*
 * Session 1 is asked each round and silent; session 2 is asked each 50 rounds only, as a check by TCP is. Its first
 * answer could be that of a link that has just come back; its second one convicts.
 */
static void the_second_answer_of_one_who_is_asked_seldom_convicts(void **state)
{
	unsigned convicted = 0, n_convicted_by = 0;

	(void)state;
	sessions[2].kind = SESSION_CHECKED;
	for (unsigned i = 0; i < 10; i++)
		round_pass(2, 2);
	for (unsigned i = 1; i <= 150; i++) {
		round_pass(2, i % 50 ? 0 : 4);
		convicted |= evaluate();
		if (convicted && !n_convicted_by)
			n_convicted_by = i;
	}
	assert_int_equal(convicted, 2);
	assert_int_equal(n_convicted_by, 100);
}

/* The link was cut, and the one who is asked seldom is the first to be heard. */
static void an_answer_of_one_who_is_asked_seldom_convicts_nobody_after_a_cut(void **state)
{
	(void)state;
	sessions[2].kind = SESSION_CHECKED;
	for (unsigned cut = 1; cut < 200; cut++) {
		for (unsigned i = 0; i < 10; i++)
			round_pass(ALL & ~4U, ALL);
		for (unsigned i = 0; i < cut; i++) {
			round_pass(ALL & ~4U, 0);
			assert_int_equal(evaluate(), 0);
		}
		detector.round = round_begin(ALL & ~4U);
		answer(2);
		assert_int_equal(evaluate(), 0);
		for (unsigned id = 1; id < N; id++) {
			answer(id);
			assert_int_equal(evaluate(), 0);
		}
		now_ns += INTERVAL_NS;
	}
}

static void the_two_best_witnesses_are_kept_in_any_order(void **state)
{
	static const uint64_t rounds[6][3] = { { 5, 7, 9 }, { 5, 9, 7 }, { 7, 5, 9 },
					       { 7, 9, 5 }, { 9, 5, 7 }, { 9, 7, 5 } };

	(void)state;
	for (int i = 0; i < 6; i++) {
		struct witnesses w = { 0 };

		for (unsigned k = 0; k < 3; k++)
			witnesses_add(&w, 10 + (unsigned)rounds[i][k], rounds[i][k], SESSION_HEARTBEAT);
		assert_int_equal(w.round[0], 9);
		assert_int_equal(w.id[0], 19);
		assert_int_equal(w.round[1], 7);
		assert_int_equal(w.id[1], 17);
	}
}

static void who_never_answered_is_no_witness(void **state)
{
	struct witnesses w = { 0 };

	(void)state;
	witnesses_add(&w, 3, 0, SESSION_HEARTBEAT);
	assert_int_equal(w.id[0], 0);
	assert_int_equal(w.id[1], 0);
}

static void a_late_tick_judges_nobody(void **state)
{
	const uint64_t tick_ns = 50 * US, last_ns = 77 * 1000 * US;

	(void)state;
	assert_false(tick_was_late(0, last_ns, tick_ns)); /* the first */
	assert_false(tick_was_late(last_ns, last_ns + tick_ns, tick_ns));
	assert_false(tick_was_late(last_ns, last_ns + 2 * tick_ns, tick_ns));
	assert_true(tick_was_late(last_ns, last_ns + 2 * tick_ns + 1, tick_ns));
}

static void the_lowest_bit_of_a_word_is_found(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(lowest_bit(1ULL << i), i);
		assert_int_equal(lowest_bit(~0ULL << i), i);
		assert_int_equal(lowest_bit(1ULL << 63 | 1ULL << i), i);
	}
}

#define RULE_TEST(f) cmocka_unit_test_setup(f, world_make)

/* ---- loss ---- */

/* As the receiver does. */
static void answer_lossily(unsigned id, uint64_t round)
{
	struct session *s = &sessions[id];

	s->loss = loss_update(s->loss, rounds_missed(s->asked, s->answered_round, round));
	s->answered_round = round;
	s->answered_ns = now_ns;
}

/* n rounds, each lost to session 1 with this probability: how often it is convicted. It goes on as if nothing were. */
static unsigned convictions(unsigned n, double probability, bool patient)
{
	uint64_t random = 88172645463325252ULL;
	unsigned count = 0;

	for (unsigned i = 0; i < n; i++) {
		detector.round = round_begin(ALL);
		random ^= random << 13; /* xorshift64: Marsaglia, "Xorshift RNGs", 2003 */
		random ^= random >> 7;
		random ^= random << 17;
		if ((double)(random >> 11) / 9007199254740992.0 >= probability)
			answer_lossily(1, detector.round);
		answer(2);
		now_ns += INTERVAL_NS;
		if (!patient)
			sessions[1].loss = 0;
		if (judge(1) != SILENCE_CONVICTED)
			continue;
		count++;
		sessions[1].answered_round = detector.round;
	}
	return count;
}

static void rounds_lost_by_chance_convict_nobody(void **state)
{
	(void)state;
	assert_in_range(convictions(100000, 0.2, false), 500, 2000); /* what it would be without the share */
	world_make(NULL);
	assert_int_equal(convictions(1000000, 0.2, true), 0);
	world_make(NULL);
	assert_int_equal(convictions(1000000, 0.01, true), 0);
	world_make(NULL);
	assert_in_range(convictions(1000000, 0.4, true), 0, 1);
}

static void who_dies_on_a_lossy_way_is_convicted_all_the_same(void **state)
{
	unsigned rounds = 0;

	(void)state;
	convictions(10000, 0.2, true);
	while (judge(1) != SILENCE_CONVICTED && rounds++ < SHUNT_ROUNDS)
		round_pass(ALL, ALL & ~2U);
	assert_in_range(rounds, 8, 24);
	assert_true(why.rounds >= 8 && why.rounds <= 24);
}

static void a_way_that_loses_nothing_any_more_is_trusted_again(void **state)
{
	(void)state;
	convictions(1000, 0.3, true);
	for (int i = 0; i < 1500; i++) {
		detector.round = round_begin(ALL);
		answer_lossily(1, detector.round);
		now_ns += INTERVAL_NS;
	}
	assert_int_equal(sessions[1].loss, 0);
	assert_int_equal(rounds_to_convict(&sessions[1], &detector), MULTIPLIER);
}

static void missed_rounds_are_those_asked_between_two_answers(void **state)
{
	(void)state;
	peace(100);
	assert_int_equal(rounds_missed(sessions[1].asked, 100, 101), 0);
	round_pass(ALL, 0);
	round_pass(0, 0); /* not asked */
	round_pass(ALL, 0);
	detector.round = round_begin(ALL);
	assert_int_equal(rounds_missed(sessions[1].asked, 100, 104), 2);
	assert_int_equal(rounds_missed(sessions[1].asked, 0, 104), 0); /* it never answered */
	for (int i = 0; i < 40; i++)
		round_pass(ALL, 0);
	assert_int_equal(rounds_missed(sessions[1].asked, 100, 145), 0); /* an outage */
	assert_int_equal(rounds_missed(sessions[1].asked, 10, 145), 0);
}

static void as_many_rounds_are_demanded_as_come_together_once_in_a_thousand_million(void **state)
{
	uint32_t before = 0;

	(void)state;
	for (uint32_t loss = 1; loss < LOSS_ONE / 2; loss++) {
		uint32_t n = loss_rounds(loss) < MULTIPLIER ? MULTIPLIER : loss_rounds(loss);

		assert_true(n >= before);
		assert_true(pow((double)loss / LOSS_ONE, n) <= 1.01e-9);
		before = n;
	}
}

static void far_backend_on_a_lossy_way_is_judged_within_the_rounds_remembered(void **state)
{
	(void)state;
	sessions[1].loss = LOSS_ONE / 2;
	assert_int_equal(rounds_to_convict(&sessions[1], &detector), LOSS_ROUNDS_MAX);
	sessions[1].grace_ns = 50 * INTERVAL_NS;
	assert_int_equal(rounds_to_convict(&sessions[1], &detector), 10);
	sessions[1].grace_ns = 70 * INTERVAL_NS;
	assert_int_equal(rounds_to_convict(&sessions[1], &detector), LOSS_ROUNDS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RULE_TEST(who_answers_is_not_silent),
		RULE_TEST(nobody_is_judged_before_the_first_round),
		RULE_TEST(multiplier_unanswered_rounds_convict_and_one_less_does_not),
		RULE_TEST(an_answer_in_between_begins_the_count_anew),
		RULE_TEST(the_oldest_unanswered_round_has_to_be_interval_times_multiplier_old),
		RULE_TEST(grace_is_added_to_the_silence_that_convicts),
		RULE_TEST(a_round_that_was_not_asked_counts_for_nothing),
		RULE_TEST(who_was_never_asked_is_never_convicted),
		RULE_TEST(a_stall_of_the_balancer_convicts_nobody),
		RULE_TEST(silence_of_all_has_no_witness),
		RULE_TEST(the_witness_is_another_session),
		RULE_TEST(a_witness_of_an_older_round_is_none),
		RULE_TEST(a_witness_at_the_last_of_its_rounds_is_enough),
		RULE_TEST(a_silence_longer_than_what_is_remembered_still_convicts),
		RULE_TEST(a_round_that_begins_is_not_mistaken_for_an_old_one),
		RULE_TEST(a_round_whose_time_was_overwritten_counts_for_nothing),
		RULE_TEST(an_answer_to_a_round_not_yet_published_is_no_silence),
		RULE_TEST(without_a_multiplier_nobody_is_judged),
		RULE_TEST(the_first_answer_after_a_cut_bears_witness_against_nobody),
		RULE_TEST(who_stays_silent_after_a_cut_is_convicted_by_the_rounds_that_follow),
		RULE_TEST(a_suspicion_holds_until_somebody_answers),
		RULE_TEST(one_silent_backend_begins_no_suspicion),
		RULE_TEST(the_second_answer_of_one_who_is_asked_seldom_convicts),
		RULE_TEST(an_answer_of_one_who_is_asked_seldom_convicts_nobody_after_a_cut),
		RULE_TEST(the_two_best_witnesses_are_kept_in_any_order),
		RULE_TEST(who_never_answered_is_no_witness),
		RULE_TEST(a_late_tick_judges_nobody),
		RULE_TEST(the_lowest_bit_of_a_word_is_found),
		RULE_TEST(rounds_lost_by_chance_convict_nobody),
		RULE_TEST(who_dies_on_a_lossy_way_is_convicted_all_the_same),
		RULE_TEST(a_way_that_loses_nothing_any_more_is_trusted_again),
		RULE_TEST(missed_rounds_are_those_asked_between_two_answers),
		RULE_TEST(as_many_rounds_are_demanded_as_come_together_once_in_a_thousand_million),
		RULE_TEST(far_backend_on_a_lossy_way_is_judged_within_the_rounds_remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
