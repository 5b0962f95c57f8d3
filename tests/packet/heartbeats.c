// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * heartbeats.c - see heartbeats.h. First a table: who signed it with what, of which version, for which kind of session;
 * what is refused leaves everything as it was. Then what a table can't say. What is wrong with a probe whatever its tag
 * is in rows.c.
 */
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "counted.h"
#include "heartbeats.h"
#include "shunt/heartbeat.h"
#include "shunt/detect.h"
#include "shunt/round_trip.h"

/* A row overrides what its macro says; what it does not say is 0. */
#pragma GCC diagnostic ignored "-Woverride-init"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define UP_WORD BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING)
#define DRAINING_WORD BACKEND_WORD(BACKEND_DRAINING, VERDICT_DRAINED)
#define SILENT_WORD BACKEND_WORD(BACKEND_DOWN, VERDICT_SILENT)
#define DEAD_WORD BACKEND_WORD(BACKEND_DOWN, VERDICT_DEAD)

enum signer { NOBODY, FIRST, SECOND, ECHO, STRANGER };
static const struct siphash_key keys[] = {
	[FIRST] = { 1, 2 }, [SECOND] = { 3, 4 }, [ECHO] = { 5, 6 }, [STRANGER] = { 7, 8 }
};

struct row {
	const char *name;
	bool is_echo;
	enum signer signer;
	uint32_t n_keys;
	enum reason reason;
	uint8_t engine, version; /* of the packet; version 0: ours */
	enum engine_state stamped; /* engine of the session after it was taken in */
	uint32_t word; /* after it; 0: as before, up */
	enum session_kind kind; /* of the session */
	uint64_t round; /* 0: the newest */
	uint32_t my, your; /* added to the discriminators */
	struct spec other; /* family, src, dst, ttl, l4_length_off, fragment, data_bytes, where they are another */
};

#define HEARD .reason = REASON_PROBE_ANSWER
#define ANSWER .engine = ENGINE_SERVING, .stamped = ENGINE_SERVING, .n_keys = 2
#define ECHOED .is_echo = true, .kind = SESSION_ECHO, .signer = ECHO, .n_keys = 2

static const struct row table[] = {
	/* ---- tags ---- */
	{ "an_answer_signed_with_the_first_key_is_taken_in", ANSWER, .signer = FIRST, HEARD },
	{ "an_answer_signed_with_the_second_key_is_taken_in", ANSWER, .signer = SECOND, HEARD },
	{ "an_answer_signed_with_the_only_key_is_taken_in", ANSWER, .signer = FIRST, .n_keys = 1, HEARD },
	{ "a_signed_answer_over_ipv6_is_taken_in", ANSWER, .signer = FIRST, HEARD, .other = { .family = 6 } },
	{ "an_answer_without_a_tag_is_forged", ANSWER, .signer = NOBODY, .reason = REASON_PROBE_FORGED },
	{ "an_answer_signed_with_another_key_is_forged", ANSWER, .signer = STRANGER, .reason = REASON_PROBE_FORGED },
	{ "an_answer_signed_with_a_key_that_is_no_more_is_forged", ANSWER, .signer = SECOND, .n_keys = 1,
	  .reason = REASON_PROBE_FORGED },
	{ "an_answer_signed_with_the_key_of_echoes_is_forged", ANSWER, .signer = ECHO, .reason = REASON_PROBE_FORGED },
	{ "a_forged_answer_that_says_dead_kills_nobody", ANSWER, .engine = ENGINE_DEAD, .signer = STRANGER,
	  .reason = REASON_PROBE_FORGED },
	{ "a_signed_answer_that_says_dead_takes_the_backend_down", ANSWER, .engine = ENGINE_DEAD, .signer = SECOND,
	  HEARD, .stamped = ENGINE_DEAD, .word = DEAD_WORD },
	{ "without_keys_a_tag_is_not_looked_at", ANSWER, .signer = STRANGER, .n_keys = 0, HEARD },
	{ "a_signed_answer_to_an_answered_round_is_old", ANSWER, .signer = FIRST, .round = ROUND_NOW - 3,
	  .reason = REASON_PROBE_OLD },
	{ "a_forged_answer_to_an_answered_round_is_old", ANSWER, .signer = STRANGER, .round = ROUND_NOW - 3,
	  .reason = REASON_PROBE_OLD },
	{ "an_answer_to_a_round_that_is_no_longer_known_is_too_late", ANSWER, .signer = FIRST,
	  .round = ROUND_NOW - SHUNT_ROUNDS, .reason = REASON_PROBE_OLD },
	/* ---- versions ---- */
	{ "an_answer_of_another_version_proves_the_host", ANSWER, .version = PROBE_VERSION + 1, .signer = FIRST, HEARD,
	  .stamped = ENGINE_UNKNOWN },
	{ "an_answer_of_another_version_that_says_dead_takes_nobody_down", ANSWER, .version = PROBE_VERSION + 1,
	  .engine = ENGINE_DEAD, .signer = FIRST, HEARD, .stamped = ENGINE_UNKNOWN },
	{ "an_answer_of_another_version_that_says_stalled_takes_nobody_down", ANSWER, .version = 0xff,
	  .engine = ENGINE_STALLED, .n_keys = 0, HEARD, .stamped = ENGINE_UNKNOWN },
	{ "a_forged_answer_of_another_version_is_forged", ANSWER, .version = PROBE_VERSION + 1, .signer = STRANGER,
	  .reason = REASON_PROBE_FORGED },
	/* ---- echoes ---- */
	{ "an_echo_is_taken_in_rfc9747", ECHOED, HEARD },
	{ "an_echo_over_ipv6_is_taken_in_rfc9747", ECHOED, HEARD, .other = { .family = 6 } },
	{ "an_echo_is_signed_though_there_is_no_key", ECHOED, .n_keys = 0, HEARD },
	{ "an_echo_without_a_tag_is_forged", ECHOED, .signer = NOBODY, .reason = REASON_PROBE_FORGED },
	{ "an_echo_without_a_tag_is_forged_though_there_is_no_key", ECHOED, .signer = NOBODY, .n_keys = 0,
	  .reason = REASON_PROBE_FORGED },
	{ "an_echo_signed_with_the_key_of_answers_is_forged", ECHOED, .signer = FIRST, .reason = REASON_PROBE_FORGED },
	{ "an_echo_that_says_dead_takes_nobody_down", ECHOED, .engine = ENGINE_DEAD, HEARD },
	{ "an_echo_to_an_answered_round_is_old", ECHOED, .round = ROUND_NOW - 3, .reason = REASON_PROBE_OLD },
	{ "an_echo_of_the_future_was_not_asked", ECHOED, .round = ROUND_NOW + 1, .reason = REASON_PROBE_UNASKED },
	{ "an_echo_with_ttl_253_is_refused_rfc9747", ECHOED, .reason = REASON_PROBE_TTL,
	  .other = { .ttl = ECHO_TTL - 1 } },
	{ "an_echo_with_hop_limit_253_is_refused_rfc9747", ECHOED, .reason = REASON_PROBE_TTL,
	  .other = { .family = 6, .ttl = ECHO_TTL - 1 } },
	{ "an_echo_that_nobody_has_sent_back_yet_is_left_to_the_host", ECHOED, .reason = REASON_NOT_VIP,
	  .other = { .ttl = ECHO_TTL + 1 } },
	{ "an_echo_from_another_address_is_unknown", ECHOED, .reason = REASON_PROBE_UNKNOWN,
	  .other = { .src = BACKEND_4 } },
	{ "an_echo_to_another_address_is_unknown", ECHOED, .reason = REASON_PROBE_UNKNOWN,
	  .other = { .dst = BACKEND_4 } },
	{ "an_echo_from_and_to_another_address_is_unknown", ECHOED, .reason = REASON_PROBE_UNKNOWN,
	  .other = { .src = BACKEND_4, .dst = BACKEND_4 } },
	{ "an_echo_whose_your_discriminator_isn_t_ours_is_unknown", ECHOED, .your = 0x1000,
	  .reason = REASON_PROBE_UNKNOWN },
	{ "an_echo_whose_my_discriminator_isn_t_ours_is_unknown", ECHOED, .my = 0x1000,
	  .reason = REASON_PROBE_UNKNOWN },
	{ "an_echo_of_another_version_is_malformed", ECHOED, .version = PROBE_VERSION + 1,
	  .reason = REASON_PROBE_MALFORMED },
	{ "an_echo_whose_udp_length_is_short_is_malformed", ECHOED, .reason = REASON_PROBE_MALFORMED,
	  .other = { .l4_length_off = -1 } },
	{ "an_echo_too_short_for_ours_is_left_to_the_host", ECHOED, .reason = REASON_NOT_VIP,
	  .other = { .data_bytes = BFD_LENGTH } },
	{ "an_echo_in_a_fragment_is_left_to_the_host", ECHOED, .reason = REASON_NOT_VIP,
	  .other = { .fragment = 0x2000 } },
	{ "an_echo_to_a_vip_is_a_packet_like_any_other", ECHOED, .reason = REASON_FORWARDED,
	  .other = { .dst = ANY_4 } },
	/* ---- each kind of session takes its own ---- */
	{ "an_echo_of_a_heartbeat_s_session_is_unknown", ECHOED, .kind = SESSION_HEARTBEAT,
	  .reason = REASON_PROBE_UNKNOWN, .other = { .src = BACKEND_4, .dst = BACKEND_4 } },
	{ "an_answer_to_an_echo_s_session_is_unknown", ANSWER, .signer = FIRST, .kind = SESSION_ECHO,
	  .reason = REASON_PROBE_UNKNOWN, .other = { .src = LOCAL_4 } },
	{ "a_session_that_is_checked_takes_no_answer", ANSWER, .signer = FIRST, .kind = SESSION_CHECKED,
	  .reason = REASON_PROBE_UNKNOWN },
	{ "a_session_that_is_checked_takes_no_echo", ECHOED, .kind = SESSION_CHECKED, .reason = REASON_PROBE_UNKNOWN,
	  .other = { .src = BACKEND_4, .dst = BACKEND_4 } },
};
#define N_ROWS (sizeof(table) / sizeof(table[0]))

static const struct row *row_named(const char *name)
{
	size_t i = 0;

	while (strcmp(table[i].name, name))
		i++;
	return &table[i];
}

/* The session as the row has it; its packet, signed. */
static void row_build(const struct row *row, struct probe *probe, struct spec *spec)
{
	struct probe_keys set = { .n = row->n_keys, .echo = keys[ECHO] };

	world_reset_session(row->other.family);
	world_set_session_kind(row->kind);
	if (row->n_keys) {
		set.key[0] = keys[FIRST];
		set.key[1] = keys[row->n_keys == 2 ? SECOND : FIRST];
	}
	world_set_keys(&set);
	*world_word(SESSION_ID) = UP_WORD;

	*spec = row->other;
	spec->protocol = IPPROTO_UDP;
	spec->data = probe;
	spec->dst = spec->dst ?: spec->family == 6 ? LOCAL_6 : LOCAL_4;
	if (row->is_echo) {
		spec->src = spec->src ?: spec->family == 6 ? LOCAL_6 : LOCAL_4;
		spec->sport = PROBE_SOURCE_PORT;
		spec->dport = ECHO_PORT;
		spec->ttl = spec->ttl ?: ECHO_TTL;
	} else {
		spec->src = spec->src ?: spec->family == 6 ? BACKEND_6 : BACKEND_4;
		spec->sport = SBFD_PORT;
		spec->dport = PROBE_SOURCE_PORT;
		spec->ttl = spec->ttl ?: SBFD_TTL;
	}
	spec->data_bytes = spec->data_bytes ?: sizeof(*probe);

	*probe = (struct probe){
		.bfd = { .vers_diag = BFD_VERS_DIAG(0),
			 .flags = (uint8_t)(BFD_UP << BFD_STATE_SHIFT | (row->is_echo ? BFD_DEMAND : 0)),
			 .detect_mult = 3,
			 .length = BFD_LENGTH,
			 .my_discriminator = htonl(world_session()->your_discriminator + row->my),
			 .your_discriminator = htonl(SESSION_DISCRIMINATOR + row->your) },
		.trailer = { .magic = htonl(PROBE_MAGIC),
			     .version = row->version ?: PROBE_VERSION,
			     .engine = row->engine,
			     .flags = htons(PROBE_FULL),
			     .round = __builtin_bswap64(row->round ?: ROUND_NOW),
			     .in_flight = htonl(7),
			     .queued = htonl(9),
			     .agent_age_us = htonl(20000),
			     .incarnation = htonl(0xfeedbeef) },
	};
	if (row->signer != NOBODY)
		probe->trailer.tag = probe_tag(&keys[row->signer], probe);
}

static void row_test(void **state)
{
	const struct row *row = *state;
	bool is_ours = !row->is_echo && !row->version;
	const struct session *s = world_session();
	struct round_trips trips;
	struct session before;
	struct probe probe;
	struct spec spec;
	struct frame in;
	struct run got;
	enum reason reason;

	row_build(row, &probe, &spec);
	frame_build(&in, &spec);
	before = *s;
	trips = *world_round_trips();
	reason = run(&got, &in, 0);
	if (reason != row->reason)
		fail_msg("counted as %s, not %s", reason_names[reason], reason_names[row->reason]);
	assert_int_equal(*world_word(SESSION_ID), row->word ?: UP_WORD);
	*world_word(SESSION_ID) = UP_WORD;
	if (got.action == XDP_PASS)
		assert_frame(&got.frame, &in);
	if (reason != REASON_PROBE_ANSWER) {
		before.too_late += row->round == ROUND_NOW - SHUNT_ROUNDS;
		before.forged += reason == REASON_PROBE_FORGED;
		assert_memory_equal(s, &before, sizeof(before));
		assert_memory_equal(world_round_trips(), &trips, sizeof(trips));
		return;
	}
	assert_int_equal(s->answered_round, ROUND_NOW);
	assert_int_equal(s->answers, 1);
	assert_int_equal(s->version, row->version ?: PROBE_VERSION);
	assert_int_equal(s->engine, row->stamped);
	assert_int_equal(s->flags, is_ours ? PROBE_FULL : 0);
	assert_int_equal(s->in_flight, is_ours ? 7 : 0);
	assert_int_equal(s->queued, is_ours ? 9 : 0);
	assert_int_equal(s->agent_age_us, is_ours ? 20000 : PROBE_AGE_UNKNOWN);
	assert_int_equal(s->incarnation, is_ours ? 0xfeedbeef : 0);
	assert_int_equal(run(&got, &in, 0), REASON_PROBE_OLD);
	assert_int_equal(s->answers, 1);
}

/* ---- what a table can't say ---- */

static void rounds_that_were_lost_before_an_answer_are_remembered(void **state)
{
	struct session *s = world_session();
	struct probe probe;
	struct spec spec;
	struct frame in;
	struct run got;

	(void)state;
	row_build(row_named("an_answer_signed_with_the_first_key_is_taken_in"), &probe, &spec);
	s->answered_round = ROUND_NOW - 3;
	s->asked = 1ULL << (ROUND_NOW - 1) % SHUNT_ROUNDS; /* the other one wasn't asked */
	frame_build(&in, &spec);
	assert_int_equal(run(&got, &in, 0), REASON_PROBE_ANSWER);
	assert_int_equal(s->loss, loss_update(0, 1));
	assert_true(s->loss);

	row_build(row_named("an_answer_signed_with_the_first_key_is_taken_in"), &probe, &spec);
	s->answered_round = ROUND_NOW - 3;
	s->asked = ~0ULL;
	*world_word(SESSION_ID) = SILENT_WORD; /* an outage */
	assert_int_equal(run(&got, &in, 0), REASON_PROBE_ANSWER);
	assert_int_equal(s->loss, 0);
}

static void an_answer_is_stamped_with_its_time(void **state)
{
	struct timespec before, after;
	const struct session *s = world_session();
	struct probe probe;
	struct spec spec;
	struct frame in;
	struct run got;

	(void)state;
	row_build(row_named("an_answer_signed_with_the_first_key_is_taken_in"), &probe, &spec);
	frame_build(&in, &spec);
	clock_gettime(CLOCK_MONOTONIC, &before);
	assert_int_equal(run(&got, &in, 0), REASON_PROBE_ANSWER);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_in_range(s->answered_ns, (uint64_t)before.tv_sec * 1000000000 + (uint64_t)before.tv_nsec,
			(uint64_t)after.tv_sec * 1000000000 + (uint64_t)after.tv_nsec);
	assert_int_equal(s->rtt_ns, s->answered_ns - ROUND_NOW * 100000);
}

static void each_accepted_answer_counts_for_its_round_trip_s_bucket(void **state)
{
	static const uint64_t ago_ns[] = { 0, 100000, 3000000, 1000000000 };
	const struct session *s = world_session();
	struct round_trips want;
	struct probe probe;
	struct spec spec;
	struct frame in;
	struct run got;

	(void)state;
	row_build(row_named("an_answer_signed_with_the_first_key_is_taken_in"), &probe, &spec);
	want = *world_round_trips();
	for (uint64_t i = 0; i < 4; i++) {
		probe.trailer.round = __builtin_bswap64(ROUND_NOW + 1 + i);
		probe.trailer.tag = probe_tag(&keys[FIRST], &probe);
		frame_build(&in, &spec);
		world_ask(ROUND_NOW + 1 + i, ago_ns[i]);
		assert_int_equal(run(&got, &in, 0), REASON_PROBE_ANSWER);
		assert_true(s->rtt_ns >= ago_ns[i]);
		want.buckets[round_trip_bucket(s->rtt_ns)]++;
		assert_memory_equal(world_round_trips(), &want, sizeof(want));
	}
	assert_int_equal(want.buckets[ROUND_TRIP_BUCKETS - 1], 1);
}

static void an_answer_altered_anywhere_is_never_taken_in(void **state)
{
	static const char *const names[] = { "an_answer_signed_with_the_first_key_is_taken_in",
					     "an_answer_signed_with_the_second_key_is_taken_in",
					     "an_answer_of_another_version_proves_the_host",
					     "an_echo_is_taken_in_rfc9747" };
	uint8_t bytes[sizeof(struct probe)];
	struct probe probe;
	struct spec spec;
	struct frame in;
	struct run got;

	(void)state;
	for (int i = 0; i < 4; i++) {
		row_build(row_named(names[i]), &probe, &spec);
		for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
			memcpy(bytes, &probe, sizeof(bytes));
			bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			spec.data = bytes;
			frame_build(&in, &spec);
			if (run(&got, &in, 0) == REASON_PROBE_ANSWER)
				fail_msg("%s: taken in with bit %zu altered", names[i], bit);
		}
		assert_int_equal(world_session()->answers, 0);
	}
}

static void without_its_program_a_heartbeat_is_dropped_and_counted(void **state)
{
	static const char *const names[] = { "an_answer_signed_with_the_first_key_is_taken_in",
					     "an_echo_is_taken_in_rfc9747" };
	struct probe probe;
	struct spec spec;
	struct frame in;
	struct run got;

	(void)state;
	for (int i = 0; i < 2; i++) {
		row_build(row_named(names[i]), &probe, &spec);
		frame_build(&in, &spec);
		world_set_heartbeats(false);
		assert_int_equal(run(&got, &in, 0), REASON_TABLE_MISSING);
		assert_int_equal(world_session()->answers, 0);
		world_set_heartbeats(true);
		assert_int_equal(run(&got, &in, 0), REASON_PROBE_ANSWER);
	}
}

static void an_echo_without_our_magic_is_left_to_the_host(void **state)
{
	struct probe probe;
	struct spec spec;
	struct frame in;
	struct run got;

	(void)state;
	row_build(row_named("an_echo_is_taken_in_rfc9747"), &probe, &spec);
	probe.trailer.magic ^= 1;
	frame_build(&in, &spec);
	assert_int_equal(run(&got, &in, 0), REASON_NOT_VIP);
	assert_frame(&got.frame, &in);
}

/* arg: where the only event is to go; NULL: forget them. */
static int event_keep(void *arg, void *data, size_t size)
{
	struct event *e = arg;

	assert_int_equal(size, sizeof(*e));
	if (!e)
		return 0;
	assert_int_equal(e->kind, 0);
	memcpy(e, data, sizeof(*e));
	return 0;
}

static void events_take(struct event *e)
{
	struct ring_buffer *ring = ring_buffer__new(world_events_fd(), event_keep, e, NULL);

	assert_non_null(ring);
	assert_true(ring_buffer__consume(ring) >= 0);
	ring_buffer__free(ring);
}

/* The backend's word is `word`, its agent says `engine`; the word after, and the event or none. */
static uint32_t word_after(uint32_t word, uint8_t engine, struct event *e)
{
	struct row row = { .engine = engine };
	struct probe probe;
	struct frame in;
	struct spec spec;
	struct run got;

	events_take(NULL);
	*e = (struct event){ 0 };
	row_build(&row, &probe, &spec);
	probe.trailer.cause = htons(ENGINE_CAUSE(ENGINE_KILLED, 9) | ENGINE_CAUSE_WORKER);
	probe.trailer.beat_age_us = htonl(600000);
	*world_word(SESSION_ID) = word;
	frame_build(&in, &spec);
	assert_int_equal(run(&got, &in, 0), REASON_PROBE_ANSWER);
	events_take(e);
	word = *world_word(SESSION_ID);
	*world_word(SESSION_ID) = UP_WORD;
	return word;
}

static void an_answer_that_says_dead_or_stalled_takes_the_backend_down(void **state)
{
	static const uint32_t words[] = { UP_WORD, DRAINING_WORD };
	struct event e;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(word_after(words[i], ENGINE_DEAD, &e), DEAD_WORD);
		assert_int_equal(e.kind, EVENT_DEAD);
		assert_int_equal(e.backend, SESSION_ID);
		assert_int_equal(e.first_round, ROUND_NOW);
		assert_int_equal(e.first_sent_ns, ROUND_NOW * 100000);
		assert_int_equal(e.cause, ENGINE_CAUSE(ENGINE_KILLED, 9) | ENGINE_CAUSE_WORKER);
		assert_int_equal(e.agent_age_us, 20000);
		assert_true(e.at_ns > e.first_sent_ns);
		assert_int_equal(word_after(words[i], ENGINE_STALLED, &e), BACKEND_WORD(BACKEND_DOWN, VERDICT_STALLED));
		assert_int_equal(e.kind, EVENT_STALLED);
		assert_int_equal(e.beat_age_us, 600000);
	}
}

static void an_answer_that_says_dead_changes_no_verdict_of_a_backend_that_is_down(void **state)
{
	struct event e;

	(void)state;
	assert_int_equal(word_after(SILENT_WORD, ENGINE_DEAD, &e), SILENT_WORD);
	assert_int_equal(e.kind, 0);
	assert_int_equal(word_after(0, ENGINE_STALLED, &e), 0);
	assert_int_equal(e.kind, 0);
}

static void an_answer_that_says_anything_else_leaves_the_word_alone(void **state)
{
	struct event e;

	(void)state;
	for (uint32_t engine = 0; engine < 256; engine++) {
		if (engine == ENGINE_DEAD || engine == ENGINE_STALLED)
			continue;
		assert_int_equal(word_after(UP_WORD, (uint8_t)engine, &e), UP_WORD);
		assert_int_equal(e.kind, 0);
	}
}

static const struct CMUnitTest others[] = {
	cmocka_unit_test(rounds_that_were_lost_before_an_answer_are_remembered),
	cmocka_unit_test(an_answer_is_stamped_with_its_time),
	cmocka_unit_test(each_accepted_answer_counts_for_its_round_trip_s_bucket),
	cmocka_unit_test(an_answer_altered_anywhere_is_never_taken_in),
	cmocka_unit_test(without_its_program_a_heartbeat_is_dropped_and_counted),
	cmocka_unit_test(an_echo_without_our_magic_is_left_to_the_host),
	cmocka_unit_test(an_answer_that_says_dead_or_stalled_takes_the_backend_down),
	cmocka_unit_test(an_answer_that_says_dead_changes_no_verdict_of_a_backend_that_is_down),
	cmocka_unit_test(an_answer_that_says_anything_else_leaves_the_word_alone),
};
#define N_OTHERS (sizeof(others) / sizeof(others[0]))

const struct CMUnitTest *heartbeat_tests(size_t *n)
{
	static struct CMUnitTest tests[N_ROWS + N_OTHERS];

	for (size_t i = 0; i < N_ROWS; i++)
		tests[i] = (struct CMUnitTest){ table[i].name, row_test, NULL, NULL, (void *)(uintptr_t)&table[i] };
	memcpy(tests + N_ROWS, others, sizeof(others));
	*n = N_ROWS + N_OTHERS;
	return tests;
}
