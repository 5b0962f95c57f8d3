// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * packet_test.c - the real program, packet by packet: the rows of rows.c, then what a row can't say.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "counted.h"
#include "flows.h"
#include "heartbeats.h"
#include "rows.h"
#include "shunt/hash.h"

#define VERIFIED_INSNS_MAX 300000 /* chosen: a third of what the kernel allows; 6.1 takes 2.6 times the steps of 6.18 */
#define FUZZ_PACKETS 40000
#define FUZZ_SEED 0x5eedULL

static bool unreachable[REASON_COUNT]; /* by this kernel's test runs */

static int is_sent(uint32_t action)
{
	return action == XDP_TX || action == XDP_REDIRECT;
}

/* The flow that a spec's packet belongs to; of an ICMP error the quoted one, turned round. */
static uint32_t spec_hash(const struct spec *s)
{
	bool is_any = s->dst && (!strcmp(s->dst, ANY_4) || !strcmp(s->dst, ANY_6));
	const char *client = s->family == 6 ? CLIENT_6 : CLIENT_4;

	if (s->quote)
		return world_hash(s->quote->dst, s->dst, s->quote->protocol ?: IPPROTO_TCP, s->quote->dport,
				  s->quote->sport, is_any);
	return world_hash(s->src ?: client, s->dst, s->protocol ?: IPPROTO_TCP, s->sport ?: 40000, s->dport, is_any);
}

/* The RST in answer to a segment: RFC 9293 3.10.7.1. */
static void reset_expect(struct frame *out, const struct spec *s)
{
	uint8_t flags = s->tcp_flags ?: 0x10;
	bool is_ack = flags & 0x10;
	size_t length = s->data_bytes - 4 * (size_t)s->l4_length_off + (flags & 0x01) + (flags >> 1 & 1);
	struct spec rst = {
		.dst_mac = mac_client,
		.src_mac = mac_balancer,
		.tags = s->tags,
		.family = s->family,
		.src = s->dst,
		.dst = s->src
			       ?: s->family == 6 ? CLIENT_6
						 : CLIENT_4,
		.fragment = s->family == 6 ? 0 : 0x4000,
		.sport = s->dport,
		.dport = s->sport ?: 40000,
		.is_exact = 1,
		.seq = is_ack ? s->ack ?: ACKNOWLEDGED : 0,
		.ack = is_ack ? 0 : (s->seq ?: SEQ) + (uint32_t)length,
		.tcp_flags = is_ack ? 0x04 : 0x14,
	};

	frame_build(out, &rst);
}

/* The frame that shall leave. */
static void row_expect(struct frame *out, const struct row *row)
{
	struct spec s = row->in;
	size_t shortest = 60, used;
	struct frame bare;

	if (row->leaves == UNTOUCHED) {
		frame_build(out, &s);
		return;
	}
	if (row->leaves == ANSWERED) {
		bool v6 = s.family == 6;
		struct spec answer = {
			.dst_mac = mac_client,
			.src_mac = mac_balancer,
			.tags = s.tags,
			.family = s.family,
			.src = s.dst,
			.dst = s.src
				       ?: v6 ? CLIENT_6
					     : CLIENT_4,
			.tos = v6 ? 0 : 0xc0,
			.protocol = v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP,
			.icmp_type = v6 ? 2 : 3,
			.icmp_code = v6 ? 0 : 4,
			.icmp_word = row->mtu,
			.quote = &row->in,
			.quote_bytes = row->quote_bytes,
		};

		frame_build(out, &answer);
		return;
	}
	if (row->leaves == RESET) {
		reset_expect(out, &s);
		return;
	}
	s.ttl = (uint8_t)((s.ttl ?: 64) - 1);
	s.dst_mac = mac_next_hop;
	s.src_mac = mac_balancer;
	if (row->leaves == IN_IPV4)
		s.outer = (struct outer){ .family = 4, .src = LOCAL_4, .dst = BACKEND_4 };
	if (row->leaves == IN_IPV6)
		s.outer = (struct outer){
			.family = 6, .src = LOCAL_6, .dst = BACKEND_6, .flow_label = spec_hash(&s) >> 12
		};
	s.padding_bytes = 0;
	frame_build(&bare, &s);
	used = bare.size;
	/* A bad checksum that came in is not in any row that leaves, so building anew is what an update must equal. */
	if (row->leaves == REWRITTEN && used < shortest && used + row->in.padding_bytes >= shortest)
		s.padding_bytes = shortest - used;
	frame_build(out, &s);
}

/* Can this kernel make such a packet? 6.1 lets metadata be no longer than 32 bytes. Asked once for each length. */
static bool row_is_possible(const struct row *row)
{
	static unsigned taken = 0, refused = -1U;
	struct frame in;
	struct run got;

	if (row->meta_bytes > taken && row->meta_bytes < refused) {
		frame_build(&in, &row->in);
		*(world_run(&got, &in, row->meta_bytes) == -EINVAL ? &refused : &taken) = row->meta_bytes;
	}
	return row->meta_bytes <= taken;
}

static void row_test(void **state)
{
	const struct row *row = *state;
	struct frame in, want;
	struct run got;
	enum reason reason;

	if (!row_is_possible(row)) {
		unreachable[row->reason] = true;
		skip();
	}
	world_reset_session(row->in.family);
	frame_build(&in, &row->in);
	reason = run(&got, &in, row->meta_bytes);
	if (reason != row->reason)
		fail_msg("counted as %s, not %s", reason_names[reason], reason_names[row->reason]);
	if (got.action == XDP_DROP)
		return;
	row_expect(&want, row);
	assert_frame(&got.frame, &want);
	if (is_sent(got.action) && (row->leaves == RESET || !row->in.l4_length_off) && !row->in.quote)
		assert_null(frame_fault(&got.frame, 1));
}

/* ---- what a row can't say ---- */

static void every_ipv4_checksum_is_right_after_the_hop_rfc1624(void **state)
{
	struct row row = { .in = { .dst = VIP_4, .dport = POOL_L2 }, .leaves = REWRITTEN };
	struct frame in, want;
	struct run got;

	(void)state;
	for (unsigned id = 0; id <= 0xffff; id++) {
		row.in.id = (uint16_t)id;
		frame_build(&in, &row.in);
		row_expect(&want, &row);
		assert_int_equal(world_run(&got, &in, 0), 0);
		assert_int_equal(got.action, XDP_TX);
		assert_frame(&got.frame, &want);
	}
}

/* Whatever length a frame is cut to, it is left alone, dropped or forwarded whole. */
static void a_frame_cut_anywhere_is_never_forwarded_damaged(void **state)
{
	struct frame in, whole;
	struct run got;

	(void)state;
	for (size_t i = 0; i < n_rows; i++) {
		if (!row_is_possible(&rows[i]))
			continue;
		world_reset_session(rows[i].in.family);
		frame_build(&whole, &rows[i].in);
		for (size_t size = 14; size < whole.size; size++) {
			bool is_whole = size + rows[i].in.padding_bytes >= whole.size;

			/* Long frames are cut densely where headers may be, and sparsely behind. */
			if (size > 200 && size % 97 && size + 8 < whole.size)
				continue;
			in = whole;
			in.size = size;
			if (world_run(&got, &in, rows[i].meta_bytes))
				fail_msg("%s cut to %zu bytes: not run", rows[i].name, size);
			if (got.action == XDP_ABORTED)
				fail_msg("%s cut to %zu bytes: aborted", rows[i].name, size);
			if (is_sent(got.action) && (!is_whole || frame_fault(&got.frame, 0)))
				fail_msg("%s cut to %zu bytes: sent (%s)", rows[i].name, size,
					 frame_fault(&got.frame, 0));
			if (got.action == XDP_PASS &&
			    (got.frame.size != size || memcmp(got.frame.bytes, in.bytes, size)))
				fail_msg("%s cut to %zu bytes: passed but changed", rows[i].name, size);
		}
	}
}

/* splitmix64 (Steele, Lea, Flood, 2014): the same packets in every run. */
static uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static void mutated_packets_are_each_counted_once_and_never_leave_damaged(void **state)
{
	uint64_t before[REASON_COUNT], after[REASON_COUNT], random = FUZZ_SEED;
	uint64_t actions[XDP_REDIRECT + 1] = { 0 }, counted[XDP_REDIRECT + 1] = { 0 };
	struct frame in;
	struct run got;

	(void)state;
	world_reasons(before);
	for (int i = 0; i < FUZZ_PACKETS; i++) {
		const struct row *row = &rows[random_next(&random) % n_rows];
		uint64_t n = 1 + random_next(&random) % 4;

		if (!row_is_possible(row))
			continue;
		frame_build(&in, &row->in);
		for (uint64_t m = 0; m < n; m++) {
			size_t at = random_next(&random) % (in.size < 100 ? in.size : 100);
			uint64_t how = random_next(&random);

			if (how % 4 == 0)
				in.bytes[at] = (uint8_t)(how >> 8);
			else if (how % 4 == 1)
				in.bytes[at] ^= (uint8_t)(1 << (how >> 8) % 8);
			else if (how % 4 == 2)
				in.bytes[at] = how >> 8 & 1 ? 0xff : 0;
			else
				in.bytes[at] = (uint8_t)(in.bytes[at] + (how >> 8 & 1 ? 1 : -1));
		}
		if (random_next(&random) % 8 == 0)
			in.size = 14 + random_next(&random) % (in.size - 13);
		if (world_run(&got, &in, row->meta_bytes) || got.action > XDP_REDIRECT)
			fail_msg("packet %d (%s): not run, or action %u", i, row->name, got.action);
		actions[got.action]++;
		if (is_sent(got.action) && frame_fault(&got.frame, 0))
			fail_msg("packet %d (%s): left with %s", i, row->name, frame_fault(&got.frame, 0));
		if (got.action == XDP_PASS && (got.frame.size != in.size || memcmp(got.frame.bytes, in.bytes, in.size)))
			fail_msg("packet %d (%s): passed but changed", i, row->name);
	}
	world_reasons(after);
	for (int r = 0; r < REASON_COUNT; r++)
		counted[reason_actions[r]] += after[r] - before[r];
	for (int a = 0; a <= XDP_REDIRECT; a++)
		assert_int_equal(counted[a], actions[a]);
	assert_int_equal(actions[XDP_ABORTED], 0);
	assert_true(actions[XDP_TX] > FUZZ_PACKETS / 20); /* the mutations are not all fatal */
}

static void a_packet_counts_for_its_vip_and_its_backend(void **state)
{
	struct spec spec = { .dst = VIP_4, .dport = POOL_IPIP4, .data_bytes = 10, .tcp_flags = 0x02 };
	struct traffic vip[2], backend[2];
	struct frame in;
	struct run got;

	(void)state;
	frame_build(&in, &spec);
	world_traffic(1, POOL_IPIP4, &vip[0]);
	world_traffic(0, POOL_IPIP4, &backend[0]);
	assert_int_equal(run(&got, &in, 0), REASON_FORWARDED);
	world_traffic(1, POOL_IPIP4, &vip[1]);
	world_traffic(0, POOL_IPIP4, &backend[1]);
	assert_int_equal(vip[1].packets - vip[0].packets, 1);
	assert_int_equal(vip[1].bytes - vip[0].bytes, in.size);
	assert_int_equal(vip[1].new_flows - vip[0].new_flows, 1);
	assert_int_equal(backend[1].packets - backend[0].packets, 1);
	assert_int_equal(backend[1].bytes - backend[0].bytes, in.size);
	assert_int_equal(backend[1].new_flows - backend[0].new_flows, 1);
}

static void only_a_syn_without_ack_is_a_new_flow(void **state)
{
	static const uint8_t flags[] = { 0x10, 0x12, 0x11, 0x04, 0x18 };
	struct spec spec = { .dst = VIP_4, .dport = POOL_IPIP4 };
	struct traffic before, after;
	struct frame in;
	struct run got;

	(void)state;
	world_traffic(1, POOL_IPIP4, &before);
	for (size_t i = 0; i < sizeof(flags); i++) {
		spec.tcp_flags = flags[i];
		frame_build(&in, &spec);
		run(&got, &in, 0);
	}
	spec.protocol = IPPROTO_UDP;
	frame_build(&in, &spec);
	run(&got, &in, 0);
	world_traffic(1, POOL_IPIP4, &after);
	assert_int_equal(after.packets - before.packets, sizeof(flags) + 1);
	assert_int_equal(after.new_flows - before.new_flows, 0);
}

static void a_dropped_packet_counts_for_its_vip_only(void **state)
{
	struct spec spec = { .dst = VIP_4, .dport = POOL_DOWN, .tcp_flags = 0x02 };
	struct traffic vip[2], backend[2];
	struct frame in;
	struct run got;

	(void)state;
	frame_build(&in, &spec);
	world_traffic(1, POOL_DOWN, &vip[0]);
	world_traffic(0, POOL_DOWN, &backend[0]);
	assert_int_equal(run(&got, &in, 0), REASON_NO_BACKEND);
	world_traffic(1, POOL_DOWN, &vip[1]);
	world_traffic(0, POOL_DOWN, &backend[1]);
	assert_int_equal(vip[1].packets - vip[0].packets, 1);
	assert_int_equal(backend[1].packets - backend[0].packets, 0);
}

/* The backend that a packet to POOL_MANY went to, as its counter says. */
static uint32_t many_served(const struct frame *in)
{
	struct traffic before[MANY], after;
	struct run got;

	for (uint32_t i = 0; i < MANY; i++)
		world_traffic(0, MANY_FIRST + i, &before[i]);
	assert_int_equal(run(&got, in, 0), REASON_FORWARDED);
	for (uint32_t i = 0; i < MANY; i++) {
		world_traffic(0, MANY_FIRST + i, &after);
		if (after.packets != before[i].packets)
			return MANY_FIRST + i;
	}
	return 0;
}

static void user_space_computes_the_slot_that_the_walk_takes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		struct spec spec = { .dst = i % 2 ? VIP_6 : VIP_4,
				     .family = i % 2 ? 6 : 4,
				     .protocol = i % 4 < 2 ? IPPROTO_TCP : IPPROTO_UDP,
				     .dport = POOL_MANY,
				     .sport = (uint16_t)(1024 + i * 977) };
		uint32_t slot = hash_slot(spec_hash(&spec), SHUNT_DEFAULT_SLOTS);
		struct frame in;

		frame_build(&in, &spec);
		assert_int_equal(many_served(&in), world_owner(slot));
	}
}

static void an_icmp_error_goes_where_its_flow_goes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 32; i++) {
		bool v6 = i % 2;
		struct spec flow = { .dst = v6 ? VIP_6 : VIP_4,
				     .family = v6 ? 6 : 4,
				     .dport = POOL_MANY,
				     .sport = (uint16_t)(1024 + i * 977) };
		struct spec quoted = { .src = v6 ? VIP_6 : VIP_4,
				       .dst = v6 ? CLIENT_6 : CLIENT_4,
				       .family = v6 ? 6 : 4,
				       .sport = POOL_MANY,
				       .dport = flow.sport };
		struct spec error = { .dst = v6 ? VIP_6 : VIP_4,
				      .family = v6 ? 6 : 4,
				      .protocol = v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP,
				      .icmp_type = v6 ? 2 : 3,
				      .icmp_code = v6 ? 0 : 4,
				      .quote = &quoted,
				      .quote_bytes = v6 ? 48 : 28 };
		struct frame in, in_error;

		frame_build(&in, &flow);
		frame_build(&in_error, &error);
		assert_int_equal(many_served(&in), many_served(&in_error));
	}
}

static void a_flipped_word_moves_the_next_packet(void **state)
{
	struct spec spec = { .dst = VIP_4, .dport = POOL_MANY, .sport = 4711, .protocol = IPPROTO_UDP };
	struct frame in;
	uint32_t owner, heir;

	(void)state;
	frame_build(&in, &spec);
	owner = many_served(&in);
	world_set_state(owner, BACKEND_DOWN);
	heir = many_served(&in);
	world_set_state(owner, BACKEND_UP);
	assert_int_equal(many_served(&in), owner);
	assert_int_not_equal(heir, owner);
}

static void owner_and_heir_down_goes_to_one_of_eight_other_slots_and_no_farther(void **state)
{
	unsigned found = 0, given_up = 0;

	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		struct spec spec = {
			.dst = VIP_4, .dport = POOL_FEW, .sport = (uint16_t)(1024 + i), .tcp_flags = 0x02
		};
		uint32_t hash = spec_hash(&spec), slot = hash_slot(hash, FEW_SLOTS);
		bool expect = world_few_served(slot);
		struct frame in;
		struct run got;

		for (int n = 0; n < SHUNT_SLOT_TRIES; n++) {
			slot = slot_after(slot, hash, FEW_SLOTS);
			expect |= world_few_served(slot);
		}
		frame_build(&in, &spec);
		assert_int_equal(run(&got, &in, 0), expect ? REASON_FORWARDED : REASON_NO_BACKEND);
		if (expect)
			found++;
		else
			given_up++;
	}
	assert_true(found > 30 && given_up > 30);
}

static void the_verifier_needs_few_steps(void **state)
{
	static const char *const programs[] = { "shunt_ingress", "shunt_heartbeat" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		uint32_t n = world_verified_insns(programs[i]);

		print_message("# %s: %u instructions processed by the verifier\n", programs[i], n);
		assert_true(n > 0 && n < VERIFIED_INSNS_MAX);
	}
}

static void every_reason_was_reached(void **state)
{
	int missing = 0;

	(void)state;
	for (int r = 0; r < REASON_COUNT; r++) {
		if (reason_was_reached((enum reason)r) || unreachable[r])
			continue;
		print_error("# never reached: %s\n", reason_names[r]);
		missing++;
	}
	assert_int_equal(missing, 0);
}

static const struct CMUnitTest others[] = {
	cmocka_unit_test(every_ipv4_checksum_is_right_after_the_hop_rfc1624),
	cmocka_unit_test(a_packet_counts_for_its_vip_and_its_backend),
	cmocka_unit_test(only_a_syn_without_ack_is_a_new_flow),
	cmocka_unit_test(a_dropped_packet_counts_for_its_vip_only),
	cmocka_unit_test(user_space_computes_the_slot_that_the_walk_takes),
	cmocka_unit_test(an_icmp_error_goes_where_its_flow_goes),
	cmocka_unit_test(a_flipped_word_moves_the_next_packet),
	cmocka_unit_test(owner_and_heir_down_goes_to_one_of_eight_other_slots_and_no_farther),
	cmocka_unit_test(a_frame_cut_anywhere_is_never_forwarded_damaged),
	cmocka_unit_test(mutated_packets_are_each_counted_once_and_never_leave_damaged),
	cmocka_unit_test(the_verifier_needs_few_steps),
	cmocka_unit_test(every_reason_was_reached),
};
#define N_OTHERS (sizeof(others) / sizeof(others[0]))

int main(void)
{
	size_t n_flows, n_heartbeats, n = 0;
	const struct CMUnitTest *flows = flow_tests(&n_flows), *heartbeats = heartbeat_tests(&n_heartbeats);
	struct CMUnitTest *tests = calloc(n_rows + n_flows + n_heartbeats + N_OTHERS, sizeof(*tests));
	int err = tests ? world_open() : -ENOMEM, failed = 1;

	if (err) {
		fprintf(stderr, "the program under test does not load: %s\n", strerror(-err));
		goto out;
	}
	for (; n < n_rows; n++)
		tests[n] = (struct CMUnitTest){ rows[n].name, row_test, NULL, NULL, (void *)(uintptr_t)&rows[n] };
	memcpy(tests + n, flows, n_flows * sizeof(*flows));
	n += n_flows;
	memcpy(tests + n, heartbeats, n_heartbeats * sizeof(*heartbeats));
	n += n_heartbeats;
	memcpy(tests + n, others, sizeof(others));
	n += N_OTHERS;
	failed = _cmocka_run_group_tests("packet", tests, n, NULL, NULL);
out:
	world_close();
	free(tests);
	return failed;
}
