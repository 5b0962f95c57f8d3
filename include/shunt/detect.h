/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * detect.h - when silence becomes a verdict. One rule, compiled into the BPF tick and into shuntd.
 *
 * A backend is `silent` when `multiplier` consecutive rounds that were really asked (more where rounds get lost by chance)
 * are unanswered, the oldest of them for at least as many intervals (plus the session's grace), and a witness exists: another session answered
 * a round at or after the last of them. Silence alone convicts nobody: a balancer that stalls, or whose own link is
 * cut, asks no questions and hears no answers, so it has no witness.
 *
 * Pure: the caller brings the clock. Tests: tests/unit/detect_test.c.
 */
#ifndef SHUNT_DETECT_H
#define SHUNT_DETECT_H

#include "shunt/abi.h"
#include "shunt/siphash.h" /* __always_inline */

/* Whose silence is judged: who has flows to lose. */
static __always_inline int word_is_judged(__u32 word)
{
	return BACKEND_WORD_STATE(word) == BACKEND_UP || BACKEND_WORD_STATE(word) == BACKEND_DRAINING;
}

/* Whether a verdict of silence is in doubt yet: the backend is down, and keeps the flows that it has. */
static __always_inline int word_is_doubted(__u32 word, __u64 doubted_until_ns, __u64 now_ns)
{
	return word == BACKEND_WORD(BACKEND_DOWN, VERDICT_SILENT) && now_ns < doubted_until_ns;
}

/* The two sessions with the highest answered round, so that each session finds the best one that is not itself. */
struct witnesses {
	__u64 round[2];
	__u32 id[2];
	__u32 seldom; /* 1: the first of them is SESSION_CHECKED: it isn't asked in each round */
	__u32 zero;
};

static __always_inline void witnesses_add(struct witnesses *w, __u32 id, __u64 answered_round, __u32 kind)
{
	if (answered_round > w->round[0]) {
		w->seldom = kind == SESSION_CHECKED;
		w->round[1] = w->round[0];
		w->id[1] = w->id[0];
		w->round[0] = answered_round;
		w->id[0] = id;
	} else if (answered_round > w->round[1]) {
		w->round[1] = answered_round;
		w->id[1] = id;
	}
}

/* The evidence of a silence; what event.h's consumers are shown. */
struct silence {
	__u64 first_round; /* oldest unanswered round asked */
	__u64 first_sent_ns;
	__u64 last_round; /* the multiplier-th of them */
	__u64 witness_round; /* 0: no witness */
	__u32 witness; /* backend id; 0: no witness */
	__u32 rounds; /* unanswered ones that it takes */
};

enum silence_verdict {
	SILENCE_NO = 0, /* it answers, or not enough was asked, or not long enough ago */
	SILENCE_UNWITNESSED, /* the silence is complete but nobody else answered either: suspect ourselves */
	SILENCE_CONVICTED,
};

/*
 * Number of bits set, adding in parallel and without a branch (Warren, "Hacker's Delight", 5-1): clang 14 has no such builtin for BPF, and branches cost the verifier.
 */
static __always_inline __u32 bits_set(__u64 x)
{
	x -= x >> 1 & 0x5555555555555555ULL;
	x = (x & 0x3333333333333333ULL) + (x >> 2 & 0x3333333333333333ULL);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return x * 0x0101010101010101ULL >> 56;
}

/* Number of the lowest bit set, 0 .. 63; x isn't 0. */
static __always_inline __u32 lowest_bit(__u64 x)
{
	return bits_set((x & -x) - 1);
}

/*
 * Where rounds get lost by chance, a few in a row prove nothing: with 20 % loss three are lost in a row 80 times a second.
 * So as many are demanded as come together by chance once in 10^9 rounds, a day at 100 us: n such that loss^n <= 10^-9.
 * Chosen: the share is smoothed over 128 rounds, so that it is known soon and forgotten soon; a single lost round makes it
 * 0.8 %, and 5 rounds are demanded instead of 3 for the next 4 ms, 4 for some 20 ms.
 */
#define LOSS_ONE 65536
#define LOSS_SHIFT 7
#define LOSS_ROUNDS_MAX (SHUNT_ROUNDS / 2)

/* Rounds between two answered ones that were asked and are not answered; more than LOSS_ROUNDS_MAX are no loss but an
 * outage, and count as none. `asked` as in struct session; answered is below round, 0: never. */
static __always_inline __u32 rounds_missed(__u64 asked, __u64 answered, __u64 round)
{
	__u64 span = round - answered - 1;
	__u32 shift = (answered + 1) & (SHUNT_ROUNDS - 1), n;

	if (!span || span >= SHUNT_ROUNDS || !answered)
		return 0;
	asked = asked >> shift | asked << (-shift & (SHUNT_ROUNDS - 1));
	n = bits_set(asked & ((1ULL << span) - 1));
	return n <= LOSS_ROUNDS_MAX ? n : 0;
}

/* The share after one more answer, before which `missed` rounds (0 .. LOSS_ROUNDS_MAX) got lost. */
static __always_inline __u32 loss_update(__u32 loss, __u32 missed)
{
	for (__u32 i = 0; i < LOSS_ROUNDS_MAX && i < missed; i++)
		loss += (LOSS_ONE - loss) >> LOSS_SHIFT;
	return loss - ((loss + (1 << LOSS_SHIFT) - 1) >> LOSS_SHIFT);
}

/* How many unanswered rounds it takes at this share: LOSS_ONE x 10^(-9 / n). 0: as few as one likes. */
static __always_inline __u32 loss_rounds(__u32 loss)
{
	return loss <= 65      ? 0
	       : loss <= 368   ? 4
	       : loss <= 1038  ? 5
	       : loss <= 2072  ? 6
	       : loss <= 4915  ? 8
	       : loss <= 8250  ? 10
	       : loss <= 11654 ? 12
	       : loss <= 17946 ? 16
	       : loss <= 23253 ? 20
	       : loss <= 27635 ? 24
			       : LOSS_ROUNDS_MAX;
}

/* How many unanswered rounds convict: the multiplier, more where rounds get lost; never more than can be looked back at. */
static __always_inline __u32 rounds_to_convict(const struct session *s, const struct detector *d)
{
	__u32 n = loss_rounds(*(const volatile __u32 *)&s->loss), reach;

	if (n <= d->multiplier)
		return d->multiplier;
	reach = SHUNT_ROUNDS - 4 - (d->interval_ns ? s->grace_ns / d->interval_ns : 0);
	n = reach <= SHUNT_ROUNDS && n > reach ? reach : n;
	return n > d->multiplier ? n : d->multiplier;
}

/*
 * Judge session `id` at `now_ns` (CLOCK_MONOTONIC). Looks back over at most SHUNT_ROUNDS - 1 rounds, so that a round
 * the prober begins meanwhile is not mistaken for an old one. No loop but the one over `n` bits.
 */
static __always_inline enum silence_verdict silence_judge(const struct session *s, const struct detector *d,
							  const struct witnesses *w, __u32 id, __u64 now_ns,
							  struct silence *out)
{
	__u64 answered = *(const volatile __u64 *)&s->answered_round;
	__u64 newest = *(const volatile __u64 *)&d->round;
	__u64 asked = *(const volatile __u64 *)&s->asked;
	__u64 span, base;
	__u32 shift, k, n = rounds_to_convict(s, d);
	int which;

	if (answered < d->pardoned_round)
		answered = d->pardoned_round;
	span = newest - answered;
	if (newest <= answered || !d->multiplier)
		return SILENCE_NO;
	if (span > SHUNT_ROUNDS - 1)
		span = SHUNT_ROUNDS - 1;
	base = newest - span + 1;
	/* Bit i now is round base + i. */
	shift = base & (SHUNT_ROUNDS - 1);
	asked = asked >> shift | asked << (-shift & (SHUNT_ROUNDS - 1));
	asked &= (1ULL << span) - 1;
	if (!asked)
		return SILENCE_NO;
	out->first_round = base + lowest_bit(asked);
	out->rounds = n;
	for (__u32 i = 1; i < SHUNT_ROUNDS / 2; i++) {
		if (i >= n)
			break;
		asked &= asked - 1;
	}
	if (!asked)
		return SILENCE_NO;
	out->last_round = base + lowest_bit(asked);

	k = out->first_round & (SHUNT_ROUNDS - 1);
	out->first_sent_ns = d->rounds[k].sent_ns;
	if (d->rounds[k].round != out->first_round || now_ns < out->first_sent_ns + d->interval_ns * n + s->grace_ns)
		return SILENCE_NO;

	which = w->id[0] == id;
	out->witness = w->id[which];
	out->witness_round = w->round[which];
	if (!out->witness || out->witness_round < out->last_round) {
		out->witness = 0;
		out->witness_round = 0;
		return SILENCE_UNWITNESSED;
	}
	return SILENCE_CONVICTED;
}

/*
 * All silent. When a cut link comes back somebody's answer is the first, and it would bear witness against everybody
 * whose answer is still under way. So the rounds that were sent while nobody answered are pardoned: they prove nothing
 * about anybody. suspicion_begin() follows a judgement of SILENCE_UNWITNESSED. suspicion_holds() precedes the next
 * judgements, with the newest round as read before the witnesses were collected; true: nobody has answered since, judge
 * nobody.
 */
static __always_inline void suspicion_begin(struct detector *d, const struct witnesses *w, const struct silence *s)
{
	/* Who is asked seldom isn't silent in between: once his answer has ended a suspicion, his next one convicts. */
	if (w->seldom && w->round[0] <= d->pardoned_round)
		return;
	if (w->round[0] < s->first_round)
		d->deaf_round = w->round[0] + 1;
}

static __always_inline int suspicion_holds(struct detector *d, const struct witnesses *w, __u64 newest)
{
	if (!d->deaf_round)
		return 0;
	if (w->round[0] + 1 == d->deaf_round)
		return 1;
	d->deaf_round = 0;
	d->pardoned_round = newest;
	return 0;
}

/*
 * Lateness credit: an evaluation that comes more than two periods after the one before it saw a stall of its own
 * CPU; answers may still wait in a queue there. It judges nobody; the next one does.
 */
static __always_inline int tick_was_late(__u64 last_tick_ns, __u64 now_ns, __u64 tick_ns)
{
	return last_tick_ns && now_ns - last_tick_ns > 2 * tick_ns;
}

#endif
