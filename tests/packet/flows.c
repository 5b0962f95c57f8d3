// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * flows.c - see flows.h. First the table of the design: what the slot's owner is, where the flow is, what kind of segment;
 * then what a table can't say; last, many random segments beside a model that knows nothing of maps.
 */
#include <linux/bpf.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "counted.h"
#include "flows.h"

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define ACK 0x10

#define ISN 1000
#define ISN_OTHER 5000

enum kind { KIND_SYN, KIND_SYN_AGAIN, KIND_DATA, KIND_FIN, KIND_RST, KIND_ICMP, KIND_UDP, N_KINDS };
static const char *const kind_names[] = { "SYN", "SYN again", "data", "FIN", "RST", "ICMP error", "UDP" };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The n-th client's segment. KIND_SYN_AGAIN has the number that most flows here are opened with, KIND_SYN another. */
static void segment_build(struct frame *out, struct spec *spec, enum kind kind, int family, uint16_t n)
{
	static struct spec quoted;
	const uint8_t flags[N_KINDS] = { SYN, SYN, ACK, FIN | ACK, RST | ACK };
	bool v6 = family == 6;
	uint16_t port = (uint16_t)(20000 + n);

	*spec = (struct spec){ .family = family,
			       .dst = v6 ? VIP_6 : VIP_4,
			       .sport = port,
			       .dport = POOL_FLOWS,
			       .tcp_flags = flags[kind],
			       .seq = kind == KIND_SYN ? ISN_OTHER : ISN,
			       .data_bytes = kind == KIND_DATA ? 20 : 0 };
	if (kind == KIND_UDP)
		spec->protocol = IPPROTO_UDP;
	if (kind == KIND_ICMP) {
		struct spec error = { .family = family,
				      .src = v6 ? "2001:db8:1::1" : "192.0.2.1",
				      .dst = spec->dst,
				      .protocol = v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP,
				      .icmp_type = v6 ? 2 : 3,
				      .icmp_code = v6 ? 0 : 4,
				      .icmp_word = 1400,
				      .quote = &quoted,
				      .quote_bytes = v6 ? 48 : 28 };

		quoted = (struct spec){ .family = family,
					.src = spec->dst,
					.dst = v6 ? CLIENT_6 : CLIENT_4,
					.sport = POOL_FLOWS,
					.dport = port };
		frame_build(out, &error);
		return;
	}
	frame_build(out, spec);
}

/* What became of a segment: the backend's id, or minus the reason. */
static int segment_send(enum kind kind, int family, uint16_t n)
{
	struct frame in;
	struct spec spec;
	struct run got;
	enum reason reason;

	segment_build(&in, &spec, kind, family, n);
	reason = run(&got, &in, 0);
	return reason == REASON_FORWARDED ? got.frame.bytes[4] << 8 | got.frame.bytes[5] : -(int)reason;
}

static struct flow *flow_of(int family, uint16_t n)
{
	struct frame frame;
	struct spec spec;

	segment_build(&frame, &spec, KIND_DATA, family, n);
	return world_flow(&spec);
}

static const char *fate(int to)
{
	static char names[2][32];
	static int next;
	char *name = names[next++ % 2];

	if (to <= 0)
		return reason_names[-to];
	snprintf(name, sizeof(names[0]), "backend %d", to);
	return name;
}

#define assert_fate(got, want) assert_fate_at(got, want, __FILE__, __LINE__)
static void assert_fate_at(int got, int want, const char *file, int line)
{
	if (got == want)
		return;
	print_error("# %s, not %s\n", fate(got), fate(want));
	_fail(file, line);
}

/* ---- the table ---- */

enum where {
	NOWHERE, /* not recorded */
	AT_OWNER,
	AT_HEIR, /* opened while the owner was down */
	ENDED_AT_OWNER, /* an operator reset it */
	OTHERS, /* not recorded; but the owner has detours */
};

#define SECOND_NS 1000000000ULL
#define OWNER FLOW_OWNER
#define HEIR FLOW_HEIR
#define THIRD FLOW_THIRD
#define TOLD (-REASON_ORPHAN_RESET)
#define DROPPED (-REASON_ORPHAN_DROPPED)
#define NOBODY (-REASON_NO_BACKEND)
#define UP BACKEND_UP
#define DOWN BACKEND_DOWN
#define DRAINING BACKEND_DRAINING
/* Down, with a verdict, and that in doubt or no more. */
#define DOUBTED 0x100
#define DOUBTED_BEFORE 0x101
#define DEAD_IN_DOUBT 0x102

struct state_row {
	const char *name; /* a sentence */
	uint32_t owner, heir; /* states */
	enum where where;
	uint32_t flags; /* of the VIP */
	uint32_t on_failure;
	uint16_t before; /* the owner before slots moved */
	uint32_t third; /* state; 0: up */
	int to[N_KINDS];
	unsigned looked_up; /* bit KIND_*: the journal was asked */
};

#define NOT_SYN (1U << KIND_FIN | 1U << KIND_RST)
#define ALL_TCP (NOT_SYN | 1U << KIND_DATA | 1U << KIND_ICMP)

static const struct state_row state_rows[] = {
	/*                                         SYN    again  data   FIN    RST      ICMP     UDP */
	{ "an_owner_that_is_up_serves_without_a_look_up", UP, UP, NOWHERE,
	  .to = { OWNER, OWNER, OWNER, OWNER, OWNER, OWNER, OWNER }, .looked_up = NOT_SYN },
	{ "a_recorded_flow_of_an_owner_that_is_up_is_not_looked_up", UP, UP, AT_OWNER,
	  .to = { OWNER, OWNER, OWNER, OWNER, OWNER, OWNER, OWNER }, .looked_up = NOT_SYN },
	{ "detours_of_others_cost_a_look_up", UP, UP, OTHERS, .to = { OWNER, OWNER, OWNER, OWNER, OWNER, OWNER, OWNER },
	  .looked_up = ALL_TCP },
	{ "a_detour_stays_when_its_owner_is_back", UP, UP, AT_HEIR, .to = { HEIR, HEIR, HEIR, HEIR, HEIR, HEIR, OWNER },
	  .looked_up = ALL_TCP },
	{ "a_detour_to_a_draining_heir_stays", UP, DRAINING, AT_HEIR,
	  .to = { HEIR, HEIR, HEIR, HEIR, HEIR, HEIR, OWNER }, .looked_up = ALL_TCP },
	{ "a_detour_whose_heir_is_dead_is_an_orphan", UP, DOWN, AT_HEIR,
	  .to = { OWNER, OWNER, TOLD, TOLD, DROPPED, DROPPED, OWNER }, .looked_up = ALL_TCP },
	{ "a_draining_owner_takes_no_new_flow", DRAINING, UP, NOWHERE,
	  .to = { HEIR, HEIR, OWNER, OWNER, OWNER, OWNER, HEIR }, .looked_up = ALL_TCP },
	{ "a_draining_owner_keeps_its_flows", DRAINING, UP, AT_OWNER,
	  .to = { OWNER, OWNER, OWNER, OWNER, OWNER, OWNER, HEIR }, .looked_up = ALL_TCP },
	{ "a_detour_of_a_draining_owner_stays", DRAINING, UP, AT_HEIR,
	  .to = { HEIR, HEIR, HEIR, HEIR, HEIR, HEIR, HEIR }, .looked_up = ALL_TCP },
	{ "a_draining_owner_with_a_dead_heir_takes_no_new_flow", DRAINING, DOWN, NOWHERE,
	  .to = { NOBODY, NOBODY, OWNER, OWNER, OWNER, OWNER, NOBODY }, .looked_up = ALL_TCP },
	{ "a_dead_owner_s_flows_are_orphans", DOWN, UP, AT_OWNER,
	  .to = { HEIR, HEIR, TOLD, TOLD, DROPPED, DROPPED, HEIR }, .looked_up = ALL_TCP },
	{ "what_is_not_recorded_of_a_dead_owner_is_an_orphan", DOWN, UP, NOWHERE,
	  .to = { HEIR, HEIR, TOLD, TOLD, DROPPED, DROPPED, HEIR }, .looked_up = ALL_TCP },
	{ "a_detour_of_a_dead_owner_stays", DOWN, UP, AT_HEIR, .to = { HEIR, HEIR, HEIR, HEIR, HEIR, HEIR, HEIR },
	  .looked_up = ALL_TCP },
	{ "a_detour_of_a_dead_owner_to_a_draining_heir_stays", DOWN, DRAINING, AT_HEIR,
	  .to = { HEIR, HEIR, HEIR, HEIR, HEIR, HEIR, NOBODY }, .looked_up = ALL_TCP },
	{ "owner_and_heir_dead_makes_orphans", DOWN, DOWN, AT_HEIR,
	  .to = { NOBODY, NOBODY, TOLD, TOLD, DROPPED, DROPPED, NOBODY }, .looked_up = ALL_TCP },
	/* found silent, and maybe only late */
	{ "who_was_found_silent_keeps_its_flows_while_in_doubt", DOUBTED, UP, AT_OWNER,
	  .to = { HEIR, HEIR, OWNER, OWNER, OWNER, OWNER, HEIR }, .looked_up = ALL_TCP },
	{ "what_is_not_recorded_of_who_was_found_silent_is_its_while_in_doubt", DOUBTED, UP, NOWHERE,
	  .to = { HEIR, HEIR, OWNER, OWNER, OWNER, OWNER, HEIR }, .looked_up = ALL_TCP },
	{ "rehash_waits_for_the_end_of_the_doubt", DOUBTED, UP, AT_OWNER, .on_failure = ON_FAILURE_REHASH,
	  .to = { HEIR, HEIR, OWNER, OWNER, OWNER, OWNER, HEIR }, .looked_up = ALL_TCP },
	{ "a_detour_to_an_heir_in_doubt_stays", UP, DOUBTED, AT_HEIR,
	  .to = { OWNER, OWNER, HEIR, HEIR, HEIR, HEIR, OWNER }, .looked_up = ALL_TCP },
	{ "an_owner_before_that_is_in_doubt_keeps_its_flows", UP, UP, NOWHERE, .flags = VIP_MIGRATING, .before = THIRD,
	  .third = DOUBTED, .to = { OWNER, OWNER, THIRD, THIRD, THIRD, THIRD, OWNER }, .looked_up = ALL_TCP },
	{ "a_flow_that_was_reset_is_an_orphan_in_doubt_too", DOUBTED, UP, ENDED_AT_OWNER,
	  .to = { HEIR, HEIR, TOLD, TOLD, DROPPED, DROPPED, HEIR }, .looked_up = ALL_TCP },
	{ "behind_the_doubt_its_flows_are_orphans", DOUBTED_BEFORE, UP, AT_OWNER,
	  .to = { HEIR, HEIR, TOLD, TOLD, DROPPED, DROPPED, HEIR }, .looked_up = ALL_TCP },
	{ "who_says_that_it_is_dead_is_not_in_doubt", DEAD_IN_DOUBT, UP, AT_OWNER,
	  .to = { HEIR, HEIR, TOLD, TOLD, DROPPED, DROPPED, HEIR }, .looked_up = ALL_TCP },
	/* ended by an operator */
	{ "a_flow_that_was_reset_is_an_orphan_though_its_backend_lives", UP, UP, ENDED_AT_OWNER,
	  .to = { OWNER, OWNER, TOLD, TOLD, DROPPED, DROPPED, OWNER }, .looked_up = ALL_TCP },
	{ "a_flow_that_was_reset_is_told_whatever_its_vip_does_with_orphans", UP, UP, ENDED_AT_OWNER,
	  .on_failure = ON_FAILURE_REHASH, .to = { OWNER, OWNER, TOLD, TOLD, DROPPED, DROPPED, OWNER },
	  .looked_up = ALL_TCP },
	{ "a_flow_that_was_reset_on_a_draining_backend_opens_anew_elsewhere", DRAINING, UP, ENDED_AT_OWNER,
	  .to = { HEIR, HEIR, TOLD, TOLD, DROPPED, DROPPED, HEIR }, .looked_up = ALL_TCP },
	/* on_failure */
	{ "rehash_leads_orphans_to_the_heir", DOWN, UP, AT_OWNER, .on_failure = ON_FAILURE_REHASH,
	  .to = { HEIR, HEIR, HEIR, HEIR, HEIR, HEIR, HEIR }, .looked_up = ALL_TCP },
	{ "rehash_leads_what_is_not_recorded_to_the_heir", DOWN, UP, NOWHERE, .on_failure = ON_FAILURE_REHASH,
	  .to = { HEIR, HEIR, HEIR, HEIR, HEIR, HEIR, HEIR }, .looked_up = ALL_TCP },
	{ "rehash_leads_a_dead_heir_s_detours_home", UP, DOWN, AT_HEIR, .on_failure = ON_FAILURE_REHASH,
	  .to = { OWNER, OWNER, OWNER, OWNER, OWNER, OWNER, OWNER }, .looked_up = ALL_TCP },
	{ "rehash_without_a_living_backend_is_no_backend", DOWN, DOWN, AT_OWNER, .on_failure = ON_FAILURE_REHASH,
	  .to = { NOBODY, NOBODY, NOBODY, NOBODY, NOBODY, NOBODY, NOBODY }, .looked_up = ALL_TCP },
	{ "drop_drops_orphans", DOWN, UP, AT_OWNER, .on_failure = ON_FAILURE_DROP,
	  .to = { HEIR, HEIR, DROPPED, DROPPED, DROPPED, DROPPED, HEIR }, .looked_up = ALL_TCP },
	{ "drop_drops_what_is_not_recorded", DOWN, UP, NOWHERE, .on_failure = ON_FAILURE_DROP,
	  .to = { HEIR, HEIR, DROPPED, DROPPED, DROPPED, DROPPED, HEIR }, .looked_up = ALL_TCP },
	/* slots that move */
	{ "what_is_not_recorded_follows_the_owner_before", UP, UP, NOWHERE, .flags = VIP_MIGRATING, .before = THIRD,
	  .to = { OWNER, OWNER, THIRD, THIRD, THIRD, THIRD, OWNER }, .looked_up = ALL_TCP },
	{ "the_owner_before_keeps_its_flows_while_it_drains", UP, UP, NOWHERE, .flags = VIP_MIGRATING, .before = THIRD,
	  .third = DRAINING, .to = { OWNER, OWNER, THIRD, THIRD, THIRD, THIRD, OWNER }, .looked_up = ALL_TCP },
	{ "a_dead_owner_before_is_not_followed", UP, UP, NOWHERE, .flags = VIP_MIGRATING, .before = THIRD,
	  .third = DOWN, .to = { OWNER, OWNER, OWNER, OWNER, OWNER, OWNER, OWNER }, .looked_up = ALL_TCP },
	{ "both_owners_dead_makes_orphans", DOWN, UP, NOWHERE, .flags = VIP_MIGRATING, .before = THIRD, .third = DOWN,
	  .to = { HEIR, HEIR, TOLD, TOLD, DROPPED, DROPPED, HEIR }, .looked_up = ALL_TCP },
	{ "a_dead_new_owner_leaves_flows_where_they_were", DOWN, UP, NOWHERE, .flags = VIP_MIGRATING, .before = THIRD,
	  .to = { HEIR, HEIR, THIRD, THIRD, THIRD, THIRD, HEIR }, .looked_up = ALL_TCP },
	{ "what_is_recorded_does_not_follow_the_owner_before", UP, UP, AT_OWNER, .flags = VIP_MIGRATING,
	  .before = THIRD, .to = { OWNER, OWNER, OWNER, OWNER, OWNER, OWNER, OWNER }, .looked_up = ALL_TCP },
	{ "a_detour_does_not_follow_the_owner_before", UP, UP, AT_HEIR, .flags = VIP_MIGRATING, .before = THIRD,
	  .to = { HEIR, HEIR, HEIR, HEIR, HEIR, HEIR, OWNER }, .looked_up = ALL_TCP },
	{ "a_slot_without_an_owner_before_follows_the_new_one", UP, UP, NOWHERE, .flags = VIP_MIGRATING,
	  .to = { OWNER, OWNER, OWNER, OWNER, OWNER, OWNER, OWNER }, .looked_up = ALL_TCP },
	{ "an_emptied_pool_s_flows_follow_the_owner_before", UP, UP, NOWHERE, .flags = VIP_MIGRATING | WORLD_EMPTY_POOL,
	  .before = THIRD, .third = DRAINING, .to = { NOBODY, NOBODY, THIRD, THIRD, THIRD, THIRD, OWNER },
	  .looked_up = ALL_TCP },
	{ "an_emptied_pool_s_recorded_flows_go_on", DRAINING, UP, AT_OWNER, .flags = WORLD_EMPTY_POOL,
	  .to = { OWNER, OWNER, OWNER, OWNER, OWNER, OWNER, HEIR }, .looked_up = ALL_TCP },
	/* the journal fills */
	{ "confirming_looks_everything_up", UP, UP, AT_OWNER, .flags = VIP_CONFIRM,
	  .to = { OWNER, OWNER, OWNER, OWNER, OWNER, OWNER, OWNER }, .looked_up = ALL_TCP },
};
#define N_STATE_ROWS (sizeof(state_rows) / sizeof(state_rows[0]))

static void state_set(uint32_t backend, uint32_t state)
{
	if (state < DOUBTED)
		world_set_state(backend, state);
	else
		world_find_silent(backend, state == DEAD_IN_DOUBT ? VERDICT_DEAD : VERDICT_SILENT,
				  now_ns() + (state == DOUBTED_BEFORE ? 0 : 1000000000));
}

static void row_arrange(const struct state_row *row, int family)
{
	struct flow *f;

	world_flows_reset();
	if (row->where == AT_HEIR || row->where == OTHERS)
		world_set_state(OWNER, DOWN);
	if (row->where != NOWHERE)
		assert_fate(segment_send(KIND_SYN_AGAIN, family, row->where == OTHERS ? 99 : 0),
			    row->where == AT_HEIR || row->where == OTHERS ? HEIR : OWNER);
	f = flow_of(family, 0);
	if (row->where == ENDED_AT_OWNER)
		world_flow_set(f, FLOW_WORD(OWNER, OWNER, FLOW_OPEN, FLOW_RESET | FLOW_DETOUR));
	state_set(OWNER, row->owner);
	state_set(HEIR, row->heir);
	state_set(THIRD, row->third ?: UP);
	world_flows_vip(row->flags, row->on_failure, row->before);
}

static void row_test(void **state)
{
	const struct state_row *row = *state;

	for (int family = 4; family <= 6; family += 2) {
		for (enum kind kind = 0; kind < N_KINDS; kind++) {
			uint64_t looked_up;
			int to;

			row_arrange(row, family);
			looked_up = world_flow_stats().looked_up;
			to = segment_send(kind, family, 0);
			if (to != row->to[kind])
				fail_msg("IPv%d %s: %s, not %s", family, kind_names[kind], fate(to),
					 fate(row->to[kind]));
			looked_up = world_flow_stats().looked_up - looked_up;
			if (looked_up != (row->looked_up >> kind & 1))
				fail_msg("IPv%d %s: %d look-ups", family, kind_names[kind], (int)looked_up);
		}
	}
}

/* ---- what is remembered ---- */

static void assert_word(const struct flow *f, uint16_t backend, uint16_t owner, uint8_t state, uint8_t flags)
{
	assert_non_null(f);
	assert_int_equal(FLOW_WORD_BACKEND(f->word), backend);
	assert_int_equal(FLOW_WORD_OWNER(f->word), owner);
	assert_int_equal(FLOW_WORD_STATE(f->word), state);
	assert_int_equal(FLOW_WORD_FLAGS(f->word), flags);
	assert_int_equal(f->word >> 48, 0);
}

static void a_syn_is_recorded_whole(void **state)
{
	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		uint64_t begin = now_ns();
		struct flow_key key;
		struct frame in;
		struct spec spec;
		struct flow *f;

		world_flows_reset();
		segment_build(&in, &spec, KIND_SYN, family, 0);
		key = world_flow_key(&spec);
		assert_fate(segment_send(KIND_SYN, family, 0), OWNER);
		f = world_flow(&spec);
		assert_word(f, OWNER, OWNER, FLOW_OPEN, 0);
		assert_memory_equal(&f->key, &key, sizeof(key));
		assert_int_equal(f->isn, ISN_OTHER);
		assert_int_equal(f->vip, POOL_FLOWS);
		assert_int_equal(f->ingress_ifindex, 1);
		assert_true(f->opened_ns >= begin && f->opened_ns <= now_ns());
		assert_int_equal(f->seen_ns, f->opened_ns);
		assert_int_equal(world_live(OWNER), 1);
		assert_int_equal(world_detours(OWNER), 0);
		assert_int_equal(world_journal_used(), 1);
		assert_int_equal(world_flow_stats().opened, 1);
	}
}

static void a_syn_s_frame_is_kept_as_it_came(void **state)
{
	(void)state;
	for (int tags = 0; tags <= 2; tags++) {
		int family = tags == 1 ? 4 : 6;
		const struct syn *syn;
		struct frame in;
		struct spec spec;
		struct run got;

		world_flows_reset();
		segment_build(&in, &spec, KIND_SYN, family, 0);
		spec.tags = tags;
		spec.l4_length_off = 10; /* all the options there may be */
		spec.data_bytes = 40;
		frame_build(&in, &spec);
		assert_int_equal(run(&got, &in, 0), REASON_FORWARDED);
		syn = world_syn(world_hash(family == 6 ? CLIENT_6 : CLIENT_4, spec.dst, IPPROTO_TCP, spec.sport,
					   spec.dport, 0));
		assert_int_equal(syn->n_bytes, in.size);
		assert_memory_equal(syn->frame, in.bytes, in.size);
		assert_int_equal(syn->ifindex, 1);
		assert_int_equal(syn->entry, world_flow_entry(world_flow(&spec)));
		assert_int_equal(syn->at_ns, world_flow(&spec)->opened_ns);
	}
}

static void a_syn_too_long_to_be_kept_is_served(void **state)
{
	struct frame in;
	struct spec spec;
	struct run got;

	(void)state;
	world_flows_reset();
	segment_build(&in, &spec, KIND_SYN, 4, 0);
	spec.data_bytes = SYN_BYTES; /* TCP Fast Open: RFC 7413 */
	frame_build(&in, &spec);
	assert_int_equal(run(&got, &in, 0), REASON_FORWARDED);
	assert_word(world_flow(&spec), OWNER, OWNER, FLOW_OPEN, 0);
	assert_int_equal(world_syn(world_hash(CLIENT_4, spec.dst, IPPROTO_TCP, spec.sport, spec.dport, 0))->at_ns, 0);
}

static void a_flow_is_opened_confirmed_closed(void **state)
{
	uint64_t seen_ns;
	struct flow *f;

	(void)state;
	world_flows_reset();
	segment_send(KIND_SYN, 4, 0);
	f = flow_of(4, 0);
	segment_send(KIND_DATA, 4, 0);
	assert_word(f, OWNER, OWNER, FLOW_OPEN, 0);
	world_flows_vip(VIP_CONFIRM, ON_FAILURE_RESET, 0);
	seen_ns = f->seen_ns;
	segment_send(KIND_ICMP, 4, 0);
	assert_int_equal(f->seen_ns, seen_ns);
	assert_word(f, OWNER, OWNER, FLOW_OPEN, 0);
	segment_send(KIND_DATA, 4, 0);
	assert_word(f, OWNER, OWNER, FLOW_OPEN, FLOW_CONFIRMED);
	assert_true(f->seen_ns > seen_ns);
	assert_int_equal(world_live(OWNER), 1);
	segment_send(KIND_FIN, 4, 0);
	assert_word(f, OWNER, OWNER, FLOW_CLOSING, FLOW_CONFIRMED);
	assert_int_equal(world_live(OWNER), 0);
	seen_ns = f->seen_ns;
	segment_send(KIND_DATA, 4, 0);
	segment_send(KIND_FIN, 4, 0);
	assert_word(f, OWNER, OWNER, FLOW_CLOSING, FLOW_CONFIRMED);
	assert_true(f->seen_ns > seen_ns);
	assert_int_equal(world_live(OWNER), 0);
	segment_send(KIND_RST, 4, 0);
	assert_word(f, OWNER, OWNER, FLOW_CLOSED, FLOW_CONFIRMED);
	segment_send(KIND_FIN, 4, 0);
	assert_word(f, OWNER, OWNER, FLOW_CLOSED, FLOW_CONFIRMED);
	assert_int_equal(world_live(OWNER), 0);
}

static void a_port_used_again_opens_the_entry_anew(void **state)
{
	const enum kind ends[] = { KIND_FIN, KIND_RST };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct flow *f;

		world_flows_reset();
		world_set_state(OWNER, DOWN);
		assert_fate(segment_send(KIND_SYN_AGAIN, 6, 0), HEIR);
		f = flow_of(6, 0);
		assert_word(f, HEIR, OWNER, FLOW_OPEN, FLOW_DETOUR);
		assert_fate(segment_send(ends[i], 6, 0), HEIR);
		world_set_state(OWNER, UP);
		assert_int_equal(world_detours(OWNER), 1);
		f->seen_ns -= 2 * SECOND_NS;
		assert_fate(segment_send(KIND_SYN, 6, 0), OWNER);
		assert_ptr_equal(flow_of(6, 0), f);
		assert_word(f, OWNER, OWNER, FLOW_OPEN, 0);
		assert_int_equal(f->isn, ISN_OTHER);
		assert_int_equal(world_detours(OWNER), 0);
		assert_int_equal(world_live(OWNER), 1);
		assert_int_equal(world_live(HEIR), 0);
		assert_int_equal(world_journal_used(), 1);
		assert_int_equal(world_flow_stats().opened, 2);
	}
}

static void a_retransmitted_syn_changes_nothing_but_when_it_was_seen(void **state)
{
	struct flow *f, before;

	(void)state;
	world_flows_reset();
	segment_send(KIND_SYN_AGAIN, 4, 0);
	f = flow_of(4, 0);
	before = *f;
	assert_fate(segment_send(KIND_SYN_AGAIN, 4, 0), OWNER);
	assert_true(f->seen_ns > before.seen_ns);
	before.seen_ns = f->seen_ns;
	assert_memory_equal(f, &before, sizeof(before));
	assert_int_equal(world_live(OWNER), 1);
	assert_int_equal(world_flow_stats().opened, 1);
}

/* An off-path attacker may know the addresses and guess the port; RFC 5961 has the end points hold out, we too. */
static void a_forged_syn_moves_no_open_flow(void **state)
{
	struct flow *f;

	(void)state;
	world_flows_reset();
	world_set_state(OWNER, DOWN);
	segment_send(KIND_SYN_AGAIN, 4, 0);
	f = flow_of(4, 0);
	world_set_state(OWNER, UP);
	segment_send(KIND_DATA, 4, 0);
	assert_fate(segment_send(KIND_SYN, 4, 0), HEIR);
	assert_word(f, HEIR, OWNER, FLOW_OPEN, FLOW_DETOUR | FLOW_CONFIRMED);
	assert_fate(segment_send(KIND_DATA, 4, 0), HEIR);
	assert_int_equal(world_live(HEIR), 1);
	assert_int_equal(world_detours(OWNER), 1);
}

/* As long as the client goes on: what it sends is heard there. */
static void a_forged_end_and_a_syn_behind_it_move_no_flow(void **state)
{
	const enum kind ends[] = { KIND_FIN, KIND_RST };

	(void)state;
	for (int i = 0; i < 4; i++) {
		bool is_drained = i >= 2;
		int there = is_drained ? OWNER : HEIR;

		world_flows_reset();
		if (!is_drained)
			world_set_state(OWNER, DOWN);
		segment_send(KIND_SYN_AGAIN, 4, 0);
		world_set_state(OWNER, is_drained ? DRAINING : UP);
		assert_fate(segment_send(ends[i % 2], 4, 0), there);
		assert_fate(segment_send(KIND_SYN, 4, 0), there);
		assert_fate(segment_send(KIND_DATA, 4, 0), there);
		assert_word(flow_of(4, 0), there, OWNER, FLOW_OPEN, FLOW_CONFIRMED | (is_drained ? 0 : FLOW_DETOUR));
	}
}

/* Its client may be gone without a word, and another has its port. */
static void a_syn_for_a_flow_that_was_silent_for_long_leaves_a_draining_backend(void **state)
{
	struct flow *f;

	(void)state;
	world_flows_reset();
	segment_send(KIND_SYN_AGAIN, 4, 0);
	f = flow_of(4, 0);
	world_set_state(OWNER, DRAINING);
	f->seen_ns -= 30 * SECOND_NS;
	assert_fate(segment_send(KIND_SYN, 4, 0), OWNER);
	f->seen_ns -= 61 * SECOND_NS;
	assert_fate(segment_send(KIND_SYN, 4, 0), OWNER); /* the same again: a retransmission */
	f->seen_ns -= 61 * SECOND_NS;
	assert_fate(segment_send(KIND_SYN_AGAIN, 4, 0), HEIR);
	assert_word(f, HEIR, OWNER, FLOW_OPEN, FLOW_DETOUR);
}

static void a_syn_that_takes_a_dead_backend_s_entry_makes_a_detour(void **state)
{
	struct flow *f;

	(void)state;
	world_flows_reset();
	segment_send(KIND_SYN_AGAIN, 4, 0);
	f = flow_of(4, 0);
	world_set_state(OWNER, DOWN);
	assert_fate(segment_send(KIND_SYN_AGAIN, 4, 0), HEIR); /* as shuntd lets it walk again */
	assert_word(f, HEIR, OWNER, FLOW_OPEN, FLOW_DETOUR);
	assert_int_equal(world_live(OWNER), 0);
	assert_int_equal(world_live(HEIR), 1);
	assert_int_equal(world_detours(OWNER), 1);
	world_set_state(OWNER, UP);
	assert_fate(segment_send(KIND_DATA, 4, 0), HEIR);
}

/* A client's segment that nobody gets is none, nor is one that a draining backend doesn't take. */
static void the_first_packet_that_an_heir_gets_for_a_dead_backend_is_noted_once(void **state)
{
	static const enum kind kinds[] = { KIND_SYN, KIND_UDP };
	uint64_t *moved_ns = world_moved_ns(FLOW_OWNER), before_ns;

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		world_flows_reset();
		assert_fate(segment_send(kinds[i], 4, 1), FLOW_OWNER);
		world_set_state(FLOW_OWNER, BACKEND_DRAINING);
		assert_fate(segment_send(kinds[i], 4, 2), FLOW_HEIR);
		world_set_state(FLOW_OWNER, BACKEND_DOWN);
		world_set_state(FLOW_HEIR, BACKEND_DOWN);
		assert_fate(segment_send(kinds[i], 4, 3), -REASON_NO_BACKEND);
		assert_int_equal(*moved_ns, 0);
		world_set_state(FLOW_HEIR, BACKEND_UP);
		before_ns = now_ns();
		assert_fate(segment_send(kinds[i], 4, 4), FLOW_HEIR);
		assert_in_range(*moved_ns, before_ns, now_ns());
		before_ns = *moved_ns;
		assert_fate(segment_send(kinds[i], 4, 5), FLOW_HEIR);
		assert_int_equal(*moved_ns, before_ns);
	}
}

static void an_answer_to_shuntd_s_question_is_looked_up_and_confirms(void **state)
{
	const uint8_t asked = FLOW_ASKED | FLOW_DETOUR;
	struct flow *f;

	(void)state;
	world_flows_reset();
	segment_send(KIND_SYN_AGAIN, 4, 0);
	f = flow_of(4, 0);
	world_flow_set(f, FLOW_WORD(OWNER, OWNER, FLOW_OPEN, asked));
	assert_int_equal(world_detours(OWNER), 1);
	assert_fate(segment_send(KIND_DATA, 4, 0), OWNER);
	assert_word(f, OWNER, OWNER, FLOW_OPEN, asked | FLOW_CONFIRMED);
	assert_int_equal(world_detours(OWNER), 1);
	segment_send(KIND_FIN, 4, 0);
	assert_word(f, OWNER, OWNER, FLOW_CLOSING, asked | FLOW_CONFIRMED);
	f->seen_ns -= 2 * SECOND_NS;
	assert_fate(segment_send(KIND_SYN, 4, 0), OWNER);
	assert_word(f, OWNER, OWNER, FLOW_OPEN, 0);
	assert_int_equal(world_detours(OWNER), 0);
	assert_int_equal(world_live(OWNER), 1);
}

static void a_copy_of_the_peer_s_flow_is_ours_once_a_packet_of_it_is_looked_up(void **state)
{
	const uint64_t copy = FLOW_WORD(HEIR, OWNER, FLOW_OPEN, FLOW_SYNCED | FLOW_DETOUR);
	struct flow *f;

	(void)state;
	world_flows_reset();
	segment_send(KIND_SYN, 4, 0);
	f = flow_of(4, 0);
	world_flow_set(f, copy);
	assert_fate(segment_send(KIND_ICMP, 4, 0), HEIR);
	assert_word(f, HEIR, OWNER, FLOW_OPEN, FLOW_SYNCED | FLOW_DETOUR); /* an error is no sign of life */
	assert_fate(segment_send(KIND_DATA, 4, 0), HEIR);
	assert_word(f, HEIR, OWNER, FLOW_OPEN, FLOW_CONFIRMED | FLOW_DETOUR);
	world_flow_set(f, copy);
	segment_send(KIND_FIN, 4, 0);
	assert_word(f, HEIR, OWNER, FLOW_CLOSING, FLOW_CONFIRMED | FLOW_DETOUR);
	world_flow_set(f, copy);
	segment_send(KIND_SYN_AGAIN, 4, 0);
	assert_word(f, HEIR, OWNER, FLOW_OPEN, FLOW_DETOUR);
	world_flow_set(f, copy);
	world_set_state(HEIR, DOWN);
	assert_fate(segment_send(KIND_DATA, 4, 0), TOLD);
	assert_word(f, HEIR, OWNER, FLOW_CLOSED, FLOW_CONFIRMED | FLOW_DETOUR);
	assert_int_equal(world_live(HEIR), 0);
	assert_int_equal(world_detours(OWNER), 1);
}

static void an_orphan_that_was_told_is_closed(void **state)
{
	struct flow *f;

	(void)state;
	world_flows_reset();
	segment_send(KIND_SYN, 4, 0);
	f = flow_of(4, 0);
	world_set_state(OWNER, DOWN);
	assert_fate(segment_send(KIND_ICMP, 4, 0), DROPPED);
	assert_word(f, OWNER, OWNER, FLOW_OPEN, 0);
	assert_fate(segment_send(KIND_DATA, 4, 0), TOLD);
	assert_word(f, OWNER, OWNER, FLOW_CLOSED, FLOW_CONFIRMED);
	assert_int_equal(world_live(OWNER), 0);
	assert_fate(segment_send(KIND_DATA, 4, 0), TOLD); /* the RST may have been lost */
}

static void a_flow_that_was_rehashed_stays_where_it_went(void **state)
{
	struct flow *f;

	(void)state;
	world_flows_reset();
	world_flows_vip(0, ON_FAILURE_REHASH, 0);
	segment_send(KIND_SYN, 4, 0);
	f = flow_of(4, 0);
	world_set_state(OWNER, DOWN);
	assert_fate(segment_send(KIND_DATA, 4, 0), HEIR);
	assert_word(f, HEIR, OWNER, FLOW_OPEN, FLOW_DETOUR | FLOW_CONFIRMED);
	assert_int_equal(world_live(OWNER), 0);
	assert_int_equal(world_live(HEIR), 1);
	world_set_state(OWNER, UP);
	assert_fate(segment_send(KIND_DATA, 4, 0), HEIR);
}

static void an_entry_that_was_given_back_is_used_again(void **state)
{
	uint32_t entry;

	(void)state;
	world_flows_reset();
	segment_send(KIND_SYN, 4, 0);
	segment_send(KIND_SYN, 4, 1);
	entry = world_flow_entry(flow_of(4, 0));
	world_flow_free(flow_of(4, 0));
	assert_null(flow_of(4, 0));
	assert_int_equal(world_live(OWNER), 1);
	segment_send(KIND_SYN, 6, 2);
	assert_int_equal(world_flow_entry(flow_of(6, 2)), entry);
	assert_int_equal(world_live(OWNER), 2);
	assert_int_equal(world_journal_used(), 2);
}

/* Between shuntd's two steps: the word is 0, the hash still has the flow. */
static void an_entry_that_is_being_given_back_is_none(void **state)
{
	struct flow *f;

	(void)state;
	world_flows_reset();
	world_set_state(OWNER, DOWN);
	segment_send(KIND_SYN, 4, 0);
	segment_send(KIND_SYN, 4, 1); /* keeps the owner's flows looked up */
	world_set_state(OWNER, UP);
	f = flow_of(4, 0);
	world_flow_set(f, 0);
	assert_fate(segment_send(KIND_DATA, 4, 0), OWNER);
	assert_int_equal(f->word, 0);
	assert_fate(segment_send(KIND_SYN, 4, 0), OWNER);
	assert_int_equal(f->word, 0);
	assert_ptr_not_equal(flow_of(4, 0), f);
	assert_word(flow_of(4, 0), OWNER, OWNER, FLOW_OPEN, 0);
	assert_int_equal(world_live(OWNER), 1);
	assert_int_equal(world_live(HEIR), 1);
}

static void an_entry_that_is_another_s_by_now_is_not_believed(void **state)
{
	struct flow *f;

	(void)state;
	world_flows_reset();
	world_set_state(OWNER, DOWN);
	segment_send(KIND_SYN, 4, 0);
	world_set_state(OWNER, UP);
	f = flow_of(4, 0);
	f->key.client_port++;
	assert_fate(segment_send(KIND_DATA, 4, 0), OWNER);
	assert_fate(segment_send(KIND_RST, 4, 0), OWNER);
	assert_word(f, HEIR, OWNER, FLOW_OPEN, FLOW_DETOUR);
}

static void a_full_journal_still_serves(void **state)
{
	struct flow_stats stats;

	(void)state;
	world_flows_reset();
	world_journal(3);
	for (uint16_t n = 0; n < 10; n++)
		assert_fate(segment_send(KIND_SYN, 4, n), OWNER);
	stats = world_flow_stats();
	assert_int_equal(stats.opened, 3);
	assert_int_equal(stats.full, 7);
	assert_int_equal(world_live(OWNER), 3);
	assert_int_equal(world_journal_used(), 3);
	for (uint16_t n = 0; n < 10; n++) {
		assert_fate(segment_send(KIND_DATA, 4, n), OWNER);
		assert_int_equal(flow_of(4, n) != NULL, n < 3);
	}
	/* Flows that have an entry are opened anew in it. */
	segment_send(KIND_FIN, 4, 1);
	assert_fate(segment_send(KIND_SYN_AGAIN, 4, 1), OWNER);
	assert_int_equal(world_flow_stats().full, 7);
	assert_int_equal(world_live(OWNER), 3);
	/* An entry given back is had again. */
	world_flow_free(flow_of(4, 0));
	assert_fate(segment_send(KIND_SYN, 4, 9), OWNER);
	assert_int_equal(world_flow_stats().full, 7);
	assert_word(flow_of(4, 9), OWNER, OWNER, FLOW_OPEN, 0);
}

static void nobody_to_serve_records_nothing(void **state)
{
	(void)state;
	world_flows_reset();
	world_set_state(OWNER, DOWN);
	world_set_state(HEIR, DOWN);
	assert_fate(segment_send(KIND_SYN, 4, 0), NOBODY);
	assert_null(flow_of(4, 0));
	assert_int_equal(world_journal_used(), 0);
}

static void fragments_are_not_journalled(void **state)
{
	struct spec spec = { .dst = ANY_4, .dport = 5, .tcp_flags = SYN, .fragment = 0x2000, .data_bytes = 64 };
	struct frame in;
	struct run got;

	(void)state;
	world_flows_reset();
	frame_build(&in, &spec);
	assert_int_equal(run(&got, &in, 0), REASON_FORWARDED);
	assert_int_equal(world_journal_used(), 0);
	assert_int_equal(world_flow_stats().looked_up, 0);
}

static void only_a_bare_syn_opens_a_flow(void **state)
{
	static const uint8_t flags[] = { SYN | ACK, SYN | FIN, SYN | RST, SYN | FIN | RST, 0x80 };

	(void)state;
	world_flows_reset();
	for (size_t i = 0; i < sizeof(flags); i++) {
		struct frame in;
		struct spec spec;
		struct run got;

		segment_build(&in, &spec, KIND_SYN, 4, 0);
		spec.tcp_flags = flags[i];
		frame_build(&in, &spec);
		assert_int_equal(run(&got, &in, 0), REASON_FORWARDED);
	}
	assert_int_equal(world_journal_used(), 0);
}

/* ---- pace and police ---- */

static void resets_are_paced(void **state)
{
	struct flow *f;

	(void)state;
	world_flows_reset();
	segment_send(KIND_SYN, 4, 0);
	f = flow_of(4, 0);
	world_set_state(OWNER, DOWN);
	world_pace(now_ns() + 1000000000);
	assert_fate(segment_send(KIND_DATA, 4, 0), -REASON_ORPHAN_UNTOLD);
	assert_fate(segment_send(KIND_FIN, 6, 1), -REASON_ORPHAN_UNTOLD);
	assert_fate(segment_send(KIND_RST, 6, 1), DROPPED);
	assert_int_equal(FLOW_WORD_STATE(f->word), FLOW_OPEN);
	assert_int_equal(world_live(OWNER), 1);
	world_pace(now_ns());
	assert_fate(segment_send(KIND_DATA, 4, 0), TOLD);
	assert_int_equal(FLOW_WORD_STATE(f->word), FLOW_CLOSED);
	world_pace(now_ns() + 5000000); /* within the burst */
	assert_fate(segment_send(KIND_DATA, 4, 0), TOLD);
}

#define HOUR_NS 3600000000000ULL

/* SYNs of the flows' VIP above their limit, since the programs were loaded. */
static uint64_t syns_policed(void)
{
	struct traffic traffic;

	world_traffic(1, POOL_FLOWS, &traffic);
	return traffic.policed;
}

/* A SYN from an address; the reason. */
static enum reason syn_from(const char *src, int family, uint16_t n)
{
	struct frame in;
	struct spec spec;
	struct run got;

	segment_build(&in, &spec, KIND_SYN, family, n);
	spec.src = src;
	frame_build(&in, &spec);
	return run(&got, &in, 0);
}

static void syns_above_the_burst_are_dropped_before_they_are_recorded(void **state)
{
	uint64_t before = syns_policed();
	struct traffic other;

	(void)state;
	world_flows_reset();
	world_flows_vip(VIP_POLICED, ON_FAILURE_RESET, 0);
	world_police(HOUR_NS, 2 * HOUR_NS, "255.255.255.0", true);
	for (uint16_t n = 0; n < 5; n++)
		assert_int_equal(syn_from("198.51.100.7", 4, n), n < 3 ? REASON_FORWARDED : REASON_SYN_POLICED);
	assert_int_equal(world_live(OWNER), 3);
	assert_int_equal(world_journal_used(), 3);
	assert_int_equal(syns_policed() - before, 2);
	world_traffic(1, POOL_L2, &other);
	assert_int_equal(other.policed, 0);
	/* The prefix is one source; another is not it. What isn't a SYN isn't policed. */
	assert_int_equal(syn_from("198.51.100.200", 4, 0), REASON_SYN_POLICED);
	assert_int_equal(syn_from("198.51.101.7", 4, 0), REASON_FORWARDED);
	assert_fate(segment_send(KIND_DATA, 4, 0), OWNER);
	assert_fate(segment_send(KIND_FIN, 4, 0), OWNER);
	assert_fate(segment_send(KIND_UDP, 4, 0), OWNER);
}

static void the_prefix_of_an_ipv6_source_is_policed(void **state)
{
	(void)state;
	world_flows_reset();
	world_flows_vip(VIP_POLICED, ON_FAILURE_RESET, 0);
	world_police(HOUR_NS, 0, "ffff:ffff:ffff:ffff::", true);
	assert_int_equal(syn_from("2001:db8:c:1::1", 6, 0), REASON_FORWARDED);
	assert_int_equal(syn_from("2001:db8:c:1:8000::2", 6, 1), REASON_SYN_POLICED);
	assert_int_equal(syn_from("2001:db8:c:2::1", 6, 0), REASON_FORWARDED);
}

static void counting_only_counts_and_serves(void **state)
{
	uint64_t before = syns_policed();

	(void)state;
	world_flows_reset();
	world_flows_vip(VIP_POLICED, ON_FAILURE_RESET, 0);
	world_police(HOUR_NS, 0, "255.255.255.255", false);
	for (uint16_t n = 0; n < 4; n++)
		assert_int_equal(syn_from("198.51.100.7", 4, n), REASON_FORWARDED);
	assert_int_equal(syns_policed() - before, 3);
	assert_int_equal(world_live(OWNER), 4);
}

/* The rate is a due time that moves by a period a SYN, and that the clock overtakes. */
static void a_source_that_waited_is_within_its_rate_again(void **state)
{
	uint64_t begin;
	uint16_t n;

	(void)state;
	world_flows_reset();
	world_flows_vip(VIP_POLICED, ON_FAILURE_RESET, 0);
	world_police(2000000, 0, "255.255.255.255", true);
	begin = now_ns();
	assert_int_equal(syn_from("198.51.100.7", 4, 0), REASON_FORWARDED);
	for (n = 1; n < 1000 && syn_from("198.51.100.7", 4, n) != REASON_FORWARDED; n++)
		assert_true(now_ns() - begin < 10000000000ULL);
	assert_true(now_ns() - begin >= 2000000);
}

static void a_vip_without_a_limit_polices_nobody(void **state)
{
	uint64_t before = syns_policed();

	(void)state;
	world_flows_reset();
	world_police(HOUR_NS, 0, "255.255.255.255", true);
	for (uint16_t n = 0; n < 4; n++)
		assert_int_equal(syn_from("198.51.100.7", 4, n), REASON_FORWARDED);
	assert_int_equal(syns_policed(), before);
}

/* ---- a model ---- */

#define CLIENTS 40
#define STEPS 20000

/* What the journal should hold of a client; entry: it is recorded. */
struct model_flow {
	bool entry;
	int backend;
	uint8_t state;
	bool again; /* opened with KIND_SYN_AGAIN's number */
	bool reset, confirmed;
};

struct model {
	struct model_flow flows[CLIENTS];
	uint32_t state[3]; /* of owner, heir, third */
	uint32_t on_failure;
	bool confirm;
};

static bool serves(const struct model *m, int id, bool draining_too)
{
	uint32_t state = m->state[id - FLOW_OWNER];

	return state == UP || (draining_too && state == DRAINING);
}

static int model_new(const struct model *m)
{
	return serves(m, OWNER, false) ? OWNER : serves(m, HEIR, false) ? HEIR : NOBODY;
}

static bool is_detour(const struct model_flow *f)
{
	return f->entry && (f->backend != OWNER || f->reset);
}

static uint32_t model_detours(const struct model *m)
{
	uint32_t n = 0;

	for (int i = 0; i < CLIENTS; i++)
		n += is_detour(&m->flows[i]);
	return n;
}

static int model_syn(struct model *m, struct model_flow *f, bool again, uint64_t quiet_s)
{
	bool is_open = f->state == FLOW_OPEN, is_same = is_open && f->again == again,
	     stays = f->entry && !f->reset && serves(m, f->backend, true) &&
		     (is_same || (is_open && serves(m, f->backend, false)) || quiet_s < (is_open ? 60 : 1));
	int to = stays ? f->backend : model_new(m);

	if (to > 0 && !(stays && is_same))
		*f = (struct model_flow){ .entry = true,
					  .backend = to,
					  .state = FLOW_OPEN,
					  .again = again,
					  .confirmed = stays && f->confirmed };
	return to;
}

static int model_other(struct model *m, struct model_flow *f, enum kind kind)
{
	bool is_asked = kind == KIND_FIN || kind == KIND_RST || m->confirm || model_detours(m) || m->state[0] != UP;
	bool is_marked = is_asked && f->entry && kind != KIND_ICMP;
	int to;

	if (!is_asked)
		return OWNER;
	if (is_marked) {
		f->confirmed = f->confirmed || kind != KIND_RST;
		if (kind == KIND_RST)
			f->state = FLOW_CLOSED;
		if (kind == KIND_FIN && f->state == FLOW_OPEN)
			f->state = FLOW_CLOSING;
	}
	if (f->entry ? !f->reset && serves(m, f->backend, true) : serves(m, OWNER, true))
		return f->entry ? f->backend : OWNER;
	if (m->on_failure == ON_FAILURE_REHASH && !f->reset) {
		to = model_new(m);
		if (to > 0 && is_marked)
			f->backend = to;
		return to;
	}
	if ((m->on_failure == ON_FAILURE_DROP && !f->reset) || kind == KIND_RST || kind == KIND_ICMP)
		return DROPPED;
	if (f->entry)
		f->state = FLOW_CLOSED;
	return TOLD;
}

static uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static void model_compare(const struct model *m, int step)
{
	uint64_t live[3] = { 0 };

	for (uint16_t n = 0; n < CLIENTS; n++) {
		const struct model_flow *want = &m->flows[n];
		const struct flow *got = flow_of(n % 2 ? 6 : 4, n);
		uint8_t flags = (is_detour(want) ? FLOW_DETOUR : 0) | (want->reset ? FLOW_RESET : 0) |
				(want->confirmed ? FLOW_CONFIRMED : 0);

		if (!got != !want->entry)
			fail_msg("step %d, client %d: %s recorded", step, n, got ? "" : "not");
		if (!got)
			continue;
		if (got->word != FLOW_WORD(want->backend, OWNER, want->state, flags))
			fail_msg("step %d, client %d: word %llx, not %llx", step, n, (unsigned long long)got->word,
				 (unsigned long long)FLOW_WORD(want->backend, OWNER, want->state, flags));
		if (want->state == FLOW_OPEN)
			live[want->backend - FLOW_OWNER]++;
	}
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(world_live(FLOW_OWNER + i), live[i]);
	assert_int_equal(world_detours(OWNER), model_detours(m));
}

/* Everything that changes comes from one seed: states, on_failure, sweeps, resets by the operator, segments. */
static void random_segments_leave_what_a_model_says_and_exact_counts(void **state)
{
	static struct model m;
	uint64_t random = 0x5eed;
	unsigned fates[REASON_COUNT] = { 0 };

	(void)state;
	m = (struct model){ .state = { UP, UP, UP } };
	world_flows_reset();
	for (int step = 0; step < STEPS; step++) {
		uint16_t n = (uint16_t)(random_next(&random) % CLIENTS);
		enum kind kind = (enum kind)(random_next(&random) % KIND_UDP);
		int family = n % 2 ? 6 : 4, got, want;
		struct model_flow *f = &m.flows[n];
		uint64_t quiet_s = (uint64_t[]){ 0, 30, 90 }[random_next(&random) % 3];

		if (random_next(&random) % 16 == 0) {
			uint32_t which = (uint32_t)(random_next(&random) % 2);

			m.state[which] = random_next(&random) % 2 ? UP : 1 + (uint32_t)(random_next(&random) % 3);
			world_set_state(FLOW_OWNER + which, m.state[which]);
		}
		if (random_next(&random) % 64 == 0) {
			m.on_failure = (uint32_t)(random_next(&random) % 3);
			m.confirm = random_next(&random) % 4 == 0;
			world_flows_vip(m.confirm ? VIP_CONFIRM : 0, m.on_failure, 0);
		}
		if (f->entry && random_next(&random) % 16 == 0) {
			world_flow_free(flow_of(family, n));
			*f = (struct model_flow){ 0 };
		}
		if (f->entry && f->state == FLOW_OPEN && random_next(&random) % 16 == 0) {
			struct flow *entry = flow_of(family, n);

			world_flow_set(entry, entry->word | (uint64_t)(FLOW_RESET | FLOW_DETOUR) << 40);
			f->reset = true;
		}
		if (f->entry)
			flow_of(family, n)->seen_ns = now_ns() - quiet_s * SECOND_NS;
		want = kind == KIND_SYN || kind == KIND_SYN_AGAIN ? model_syn(&m, f, kind == KIND_SYN_AGAIN, quiet_s)
								  : model_other(&m, f, kind);
		world_pace(0);
		got = segment_send(kind, family, n);
		if (got != want)
			fail_msg("step %d, client %d, %s: %s, not %s", step, n, kind_names[kind], fate(got),
				 fate(want));
		fates[got > 0 ? REASON_FORWARDED : -got]++;
		model_compare(&m, step);
	}
	assert_true(fates[REASON_FORWARDED] > STEPS / 4 && fates[REASON_ORPHAN_RESET] > STEPS / 100 &&
		    fates[REASON_ORPHAN_DROPPED] > STEPS / 100 && fates[REASON_NO_BACKEND] > STEPS / 100);
}

/* ---- the list ---- */

static const struct CMUnitTest others[] = {
	cmocka_unit_test(a_syn_is_recorded_whole),
	cmocka_unit_test(a_syn_s_frame_is_kept_as_it_came),
	cmocka_unit_test(a_syn_too_long_to_be_kept_is_served),
	cmocka_unit_test(a_flow_is_opened_confirmed_closed),
	cmocka_unit_test(a_port_used_again_opens_the_entry_anew),
	cmocka_unit_test(a_retransmitted_syn_changes_nothing_but_when_it_was_seen),
	cmocka_unit_test(a_forged_syn_moves_no_open_flow),
	cmocka_unit_test(a_forged_end_and_a_syn_behind_it_move_no_flow),
	cmocka_unit_test(a_syn_for_a_flow_that_was_silent_for_long_leaves_a_draining_backend),
	cmocka_unit_test(a_syn_that_takes_a_dead_backend_s_entry_makes_a_detour),
	cmocka_unit_test(the_first_packet_that_an_heir_gets_for_a_dead_backend_is_noted_once),
	cmocka_unit_test(an_answer_to_shuntd_s_question_is_looked_up_and_confirms),
	cmocka_unit_test(a_copy_of_the_peer_s_flow_is_ours_once_a_packet_of_it_is_looked_up),
	cmocka_unit_test(an_orphan_that_was_told_is_closed),
	cmocka_unit_test(a_flow_that_was_rehashed_stays_where_it_went),
	cmocka_unit_test(an_entry_that_was_given_back_is_used_again),
	cmocka_unit_test(an_entry_that_is_being_given_back_is_none),
	cmocka_unit_test(an_entry_that_is_another_s_by_now_is_not_believed),
	cmocka_unit_test(a_full_journal_still_serves),
	cmocka_unit_test(nobody_to_serve_records_nothing),
	cmocka_unit_test(fragments_are_not_journalled),
	cmocka_unit_test(only_a_bare_syn_opens_a_flow),
	cmocka_unit_test(resets_are_paced),
	cmocka_unit_test(syns_above_the_burst_are_dropped_before_they_are_recorded),
	cmocka_unit_test(the_prefix_of_an_ipv6_source_is_policed),
	cmocka_unit_test(counting_only_counts_and_serves),
	cmocka_unit_test(a_source_that_waited_is_within_its_rate_again),
	cmocka_unit_test(a_vip_without_a_limit_polices_nobody),
	cmocka_unit_test(random_segments_leave_what_a_model_says_and_exact_counts),
};
#define N_OTHERS (sizeof(others) / sizeof(others[0]))

const struct CMUnitTest *flow_tests(size_t *n)
{
	static struct CMUnitTest tests[N_STATE_ROWS + N_OTHERS];

	for (size_t i = 0; i < N_STATE_ROWS; i++)
		tests[i] = (struct CMUnitTest){ state_rows[i].name, row_test, NULL, NULL,
						(void *)(uintptr_t)&state_rows[i] };
	memcpy(tests + N_STATE_ROWS, others, sizeof(others));
	*n = N_STATE_ROWS + N_OTHERS;
	return tests;
}
