// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * agent_test.c - the backend's program, packet by packet: probes answered or refused, outer headers taken off, all else
 * left alone.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <endian.h>
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

#include "agent.skel.h"
#include "frame.h"
#include "shunt/agent.h"
#include "shunt/heartbeat.h"
#include "shunt/reasons.h"

/* A row overrides what its macro says; what it does not say is 0. */
#pragma GCC diagnostic ignored "-Woverride-init"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define VIP_4 "203.0.113.10"
#define VIP_6 "2001:db8:f::10"
#define BALANCER_4 "10.0.0.1"
#define BALANCER_6 "fd00::1"
#define BACKEND_4 "10.0.0.11"
#define BACKEND_6 "fd00::11"
#define BACKEND_4_NUMBER 0x0a00000bU
#define BACKEND_6_FOLDED (0xfd000000U ^ 0x11U)
#define INITIATOR 0x00042007U
#define INCARNATION 0xfeedbeefU
#define ROUND 4711
#define CPUS_MAX 1024
#define FUZZ_PACKETS 20000

#define REASON_NAME(name, action, sentence) #name,
#define REASON_ACTION(name, action, sentence) XDP_##action,
static const char *const reason_names[] = { SHUNT_AGENT_REASONS(REASON_NAME) };
static const uint32_t reason_actions[] = { SHUNT_AGENT_REASONS(REASON_ACTION) };

static struct agent_bpf *skel;
static bool reached[AGENT_REASON_COUNT];

enum leaves {
	UNTOUCHED = 0,
	ANSWERED, /* turned back with the answer to its probe */
	BARE, /* without its outer header */
};

/* Who signed a probe; its answer shall be signed alike. */
enum signer { NOBODY, FIRST, SECOND, STRANGER };
static const struct siphash_key keys[] = { [FIRST] = { 1, 2 }, [SECOND] = { 3, 4 }, [STRANGER] = { 5, 6 } };

struct row {
	const char *name;
	struct spec in;
	enum agent_reason reason;
	enum leaves leaves;
	uint32_t engine; /* enum engine_state, as the agent's word says */
	uint32_t cause; /* how its life ended, if it did */
	uint32_t draining, flags; /* as the agent's word says */
	uint32_t stopping; /* number of the engine that was asked to stop; the engine's is 1 */
	uint64_t beat_limit_ns; /* of a beat at 1 ns, so of one that is long over */
	uint32_t said; /* enum engine_state that the answer says, where it is another */
	enum signer signer;
	uint32_t n_keys; /* that the reflector has */
};

/* The state that the answer to a row's probe says. */
static uint32_t said_of(const struct row *row)
{
	return row->said ? row->said : row->engine;
}

#define PROBE_OF(discriminator, flags_, length_, mult, magic_, version_)                   \
	(const struct probe[])                                                             \
	{                                                                                  \
		{                                                                          \
			.bfd = { .vers_diag = BFD_VERS_DIAG(0),                            \
				 .flags = (flags_),                                        \
				 .detect_mult = (mult),                                    \
				 .length = (length_),                                      \
				 .my_discriminator = __builtin_bswap32(INITIATOR),         \
				 .your_discriminator = __builtin_bswap32(discriminator) }, \
			.trailer = { .magic = __builtin_bswap32(magic_),                   \
				     .version = (version_),                                \
				     .round = __builtin_bswap64(ROUND) },                  \
		}                                                                          \
	}
#define ASK (BFD_UP << BFD_STATE_SHIFT | BFD_DEMAND)
#define PROBE(discriminator) PROBE_OF(discriminator, ASK, BFD_LENGTH, 3, PROBE_MAGIC, PROBE_VERSION)
#define TO_4(payload)                                                                                                 \
	.src = BALANCER_4, .dst = BACKEND_4, .protocol = IPPROTO_UDP, .sport = PROBE_SOURCE_PORT, .dport = SBFD_PORT, \
	.ttl = 255, .data = (payload), .data_bytes = sizeof(struct probe)
#define TO_6(payload)                                                                                          \
	.family = 6, .src = BALANCER_6, .dst = BACKEND_6, .protocol = IPPROTO_UDP, .sport = PROBE_SOURCE_PORT, \
	.dport = SBFD_PORT, .ttl = 255, .data = (payload), .data_bytes = sizeof(struct probe)
#define GOOD_4 TO_4(PROBE(BACKEND_4_NUMBER))
#define GOOD_6 TO_6(PROBE(BACKEND_6_FOLDED))

#define OUTER_4 .outer = { .family = 4, .src = BALANCER_4, .dst = BACKEND_4 }
#define OUTER_6 .outer = { .family = 6, .src = BALANCER_6, .dst = BACKEND_6 }
#define INNER_4 .dst = VIP_4, .dport = 80, .data_bytes = 100
#define INNER_6 .family = 6, .dst = VIP_6, .dport = 80, .data_bytes = 100

static const uint8_t mac_other[MAC_BYTES] = { 0x02, 0, 0, 0, 0xba, 0x02 };

static const struct row rows[] = {
	{ "a_probe_is_answered", { GOOD_4 }, AGENT_REASON_REFLECTED, ANSWERED },
	{ "a_probe_over_ipv6_is_answered", { GOOD_6 }, AGENT_REASON_REFLECTED, ANSWERED },
	{ "a_probe_that_was_sent_to_another_host_is_not_answered",
	  { GOOD_4, .dst_mac = mac_other },
	  AGENT_REASON_OTHER },
	{ "a_tagged_probe_over_ipv6_that_was_sent_to_another_host_is_not_answered",
	  { GOOD_6, .tags = 2, .dst_mac = mac_other },
	  AGENT_REASON_OTHER },
	{ "a_packet_in_a_tunnel_to_another_host_is_left_alone",
	  { INNER_4, OUTER_4, .dst_mac = mac_other },
	  AGENT_REASON_OTHER },
	{ "a_tagged_probe_is_answered_with_its_tag", { GOOD_4, .tags = 1 }, AGENT_REASON_REFLECTED, ANSWERED },
	{ "a_doubly_tagged_probe_over_ipv6_is_answered", { GOOD_6, .tags = 2 }, AGENT_REASON_REFLECTED, ANSWERED },
	{ "padding_behind_a_probe_changes_nothing", { GOOD_4, .padding_bytes = 7 }, AGENT_REASON_REFLECTED, ANSWERED },
	{ "the_answer_says_that_the_engine_serves",
	  { GOOD_4 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .engine = ENGINE_SERVING },
	{ "a_draining_backend_answers_admin_down_rfc7880_7_2_2",
	  { GOOD_6 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .draining = 1,
	  .said = ENGINE_DRAINING },
	{ "an_engine_that_was_asked_to_stop_drains",
	  { GOOD_4 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .engine = ENGINE_SERVING,
	  .stopping = 1,
	  .said = ENGINE_DRAINING },
	{ "an_engine_whose_predecessor_was_asked_to_stop_serves",
	  { GOOD_4 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .engine = ENGINE_SERVING,
	  .stopping = 4 },
	{ "the_answer_says_that_the_engine_loads",
	  { GOOD_4 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .engine = ENGINE_LOADING },
	{ "the_answer_says_that_the_engine_is_full",
	  { GOOD_6 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .engine = ENGINE_SERVING,
	  .flags = PROBE_FULL },
	{ "the_answer_says_that_the_engine_is_dead_and_how",
	  { GOOD_4 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .engine = ENGINE_SERVING,
	  .cause = ENGINE_CAUSE(ENGINE_KILLED, 9) | ENGINE_CAUSE_WORKER,
	  .said = ENGINE_DEAD },
	{ "an_engine_that_died_in_a_drain_is_dead",
	  { GOOD_6 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .draining = 1,
	  .cause = ENGINE_CAUSE(ENGINE_EXITED, 0) | ENGINE_CAUSE_PLANNED,
	  .said = ENGINE_DEAD },
	{ "an_engine_whose_beat_is_older_than_its_limit_is_stalled",
	  { GOOD_4 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .engine = ENGINE_SERVING,
	  .beat_limit_ns = 1000,
	  .said = ENGINE_STALLED },
	{ "an_engine_that_died_is_not_stalled_but_dead",
	  { GOOD_4 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .engine = ENGINE_SERVING,
	  .beat_limit_ns = 1000,
	  .cause = ENGINE_CAUSE(ENGINE_NOT_LISTENING, 0),
	  .said = ENGINE_DEAD },

	{ "a_probe_that_was_routed_is_refused_rfc5082", { GOOD_4, .ttl = 254 }, AGENT_REASON_REFUSED_TTL },
	{ "a_probe_over_ipv6_that_was_routed_is_refused_rfc5082", { GOOD_6, .ttl = 254 }, AGENT_REASON_REFUSED_TTL },
	{ "a_probe_from_port_7784_is_refused_rfc7881_4_2", { GOOD_4, .sport = SBFD_PORT }, AGENT_REASON_REFUSED_LOOP },
	{ "a_probe_without_demand_is_refused",
	  { TO_4(PROBE_OF(BACKEND_4_NUMBER, BFD_UP << BFD_STATE_SHIFT, BFD_LENGTH, 3, PROBE_MAGIC, PROBE_VERSION)) },
	  AGENT_REASON_REFUSED_LOOP },
	{ "a_probe_of_a_stranger_is_refused", { GOOD_4, .src = "10.0.0.99" }, AGENT_REASON_REFUSED_SOURCE },
	{ "a_probe_for_another_reflector_is_refused",
	  { TO_4(PROBE(BACKEND_4_NUMBER + 1)) },
	  AGENT_REASON_REFUSED_MALFORMED },
	{ "a_probe_with_an_authentication_section_is_refused",
	  { TO_4(PROBE_OF(BACKEND_4_NUMBER, ASK | BFD_AUTH, BFD_LENGTH, 3, PROBE_MAGIC, PROBE_VERSION)) },
	  AGENT_REASON_REFUSED_MALFORMED },
	{ "a_multipoint_probe_is_refused_rfc5880_6_8_6",
	  { TO_4(PROBE_OF(BACKEND_4_NUMBER, ASK | BFD_MULTIPOINT, BFD_LENGTH, 3, PROBE_MAGIC, PROBE_VERSION)) },
	  AGENT_REASON_REFUSED_MALFORMED },
	{ "a_probe_with_multiplier_0_is_refused_rfc5880_6_8_6",
	  { TO_4(PROBE_OF(BACKEND_4_NUMBER, ASK, BFD_LENGTH, 0, PROBE_MAGIC, PROBE_VERSION)) },
	  AGENT_REASON_REFUSED_MALFORMED },
	{ "a_probe_with_a_wrong_bfd_length_is_refused",
	  { TO_4(PROBE_OF(BACKEND_4_NUMBER, ASK, BFD_LENGTH + 2, 3, PROBE_MAGIC, PROBE_VERSION)) },
	  AGENT_REASON_REFUSED_MALFORMED },
	{ "a_probe_without_our_trailer_is_refused",
	  { GOOD_4, .data_bytes = BFD_LENGTH },
	  AGENT_REASON_REFUSED_MALFORMED },
	{ "a_probe_with_a_wrong_magic_is_refused",
	  { TO_4(PROBE_OF(BACKEND_4_NUMBER, ASK, BFD_LENGTH, 3, PROBE_MAGIC + 1, PROBE_VERSION)) },
	  AGENT_REASON_REFUSED_MALFORMED },
	{ "a_probe_of_another_version_is_answered_with_ours",
	  { TO_4(PROBE_OF(BACKEND_4_NUMBER, ASK, BFD_LENGTH, 3, PROBE_MAGIC, PROBE_VERSION + 1)) },
	  AGENT_REASON_REFLECTED_OTHER_VERSION,
	  ANSWERED },
	{ "a_signed_probe_of_another_version_has_a_signed_answer",
	  { TO_4(PROBE_OF(BACKEND_4_NUMBER, ASK, BFD_LENGTH, 3, PROBE_MAGIC, 7)) },
	  AGENT_REASON_REFLECTED_OTHER_VERSION,
	  ANSWERED,
	  .signer = SECOND,
	  .n_keys = 2 },
	{ "a_forged_probe_of_another_version_is_refused",
	  { TO_4(PROBE_OF(BACKEND_4_NUMBER, ASK, BFD_LENGTH, 3, PROBE_MAGIC, PROBE_VERSION + 1)) },
	  AGENT_REASON_REFUSED_TAG,
	  .signer = STRANGER,
	  .n_keys = 2 },
	{ "a_probe_signed_with_the_first_key_has_an_answer_signed_with_it",
	  { GOOD_4 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .signer = FIRST,
	  .n_keys = 2 },
	{ "a_probe_signed_with_the_second_key_has_an_answer_signed_with_it",
	  { GOOD_4 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .signer = SECOND,
	  .n_keys = 2 },
	{ "a_signed_probe_over_ipv6_under_its_tags_is_answered",
	  { GOOD_6, .tags = 2 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .signer = SECOND,
	  .n_keys = 2 },
	{ "the_only_key_signs", { GOOD_4 }, AGENT_REASON_REFLECTED, ANSWERED, .signer = FIRST, .n_keys = 1 },
	{ "a_probe_signed_with_a_key_that_is_no_more_is_refused",
	  { GOOD_4 },
	  AGENT_REASON_REFUSED_TAG,
	  .signer = SECOND,
	  .n_keys = 1 },
	{ "a_probe_without_a_tag_is_refused", { GOOD_4 }, AGENT_REASON_REFUSED_TAG, .n_keys = 2 },
	{ "a_probe_signed_with_another_key_is_refused",
	  { GOOD_6 },
	  AGENT_REASON_REFUSED_TAG,
	  .signer = STRANGER,
	  .n_keys = 1 },
	{ "without_keys_a_tag_is_not_looked_at_and_the_answer_has_none",
	  { GOOD_4 },
	  AGENT_REASON_REFLECTED,
	  ANSWERED,
	  .signer = STRANGER },
	{ "a_signed_probe_of_a_stranger_s_address_is_refused",
	  { GOOD_4, .src = "10.0.0.99" },
	  AGENT_REASON_REFUSED_SOURCE,
	  .signer = FIRST,
	  .n_keys = 2 },
	{ "a_probe_whose_udp_length_is_wrong_is_refused",
	  { GOOD_4, .l4_length_off = -4 },
	  AGENT_REASON_REFUSED_MALFORMED },
	{ "a_fragmented_probe_is_left_alone", { GOOD_4, .fragment = 0x2000 }, AGENT_REASON_OTHER },
	{ "another_datagram_is_left_alone", { GOOD_4, .dport = 53 }, AGENT_REASON_OTHER },
	{ "tcp_is_left_alone", { .dst = VIP_4, .dport = 80 }, AGENT_REASON_OTHER },
	{ "arp_is_left_alone", { .dst = BACKEND_4, .ethertype = 0x0806 }, AGENT_REASON_OTHER },
	{ "three_tags_are_left_alone", { GOOD_4, .tags = 3 }, AGENT_REASON_OTHER },

	{ "ipv4_in_ipv4_is_taken_out_rfc2003", { INNER_4, OUTER_4 }, AGENT_REASON_DECAPSULATED, BARE },
	{ "ipv6_in_ipv4_is_taken_out_rfc4213", { INNER_6, OUTER_4 }, AGENT_REASON_DECAPSULATED, BARE },
	{ "ipv4_in_ipv6_is_taken_out_rfc2473", { INNER_4, OUTER_6 }, AGENT_REASON_DECAPSULATED, BARE },
	{ "ipv6_in_ipv6_is_taken_out_rfc2473", { INNER_6, OUTER_6 }, AGENT_REASON_DECAPSULATED, BARE },
	{ "tags_stay_when_the_outer_header_goes", { INNER_4, OUTER_6, .tags = 1 }, AGENT_REASON_DECAPSULATED, BARE },
	{ "two_tags_stay_when_the_outer_header_goes",
	  { INNER_6, OUTER_4, .tags = 2 },
	  AGENT_REASON_DECAPSULATED,
	  BARE },
	{ "inner_options_are_kept", { INNER_4, OUTER_4, .options_bytes = 8 }, AGENT_REASON_DECAPSULATED, BARE },
	{ "a_tunnel_to_another_address_is_left_alone",
	  { INNER_4, OUTER_4, .dst = "203.0.113.99" },
	  AGENT_REASON_OTHER },
	{ "a_tunnel_over_ipv6_to_another_address_is_left_alone",
	  { INNER_6, OUTER_6, .dst = "2001:db8:f::99" },
	  AGENT_REASON_OTHER },
	{ "a_tunnel_from_a_stranger_is_refused",
	  { INNER_4, .outer = { .family = 4, .src = "10.0.0.99", .dst = BACKEND_4 } },
	  AGENT_REASON_REFUSED_SOURCE },
	{ "an_inner_packet_longer_than_the_frame_is_refused",
	  { INNER_4, OUTER_4, .length_off = 40 },
	  AGENT_REASON_REFUSED_INNER },
	{ "an_inner_ipv6_packet_longer_than_the_frame_is_refused",
	  { INNER_6, OUTER_6, .length_off = 40 },
	  AGENT_REASON_REFUSED_INNER },
	{ "an_inner_packet_of_another_version_is_refused",
	  { INNER_4, OUTER_4, .version_off = 1 },
	  AGENT_REASON_REFUSED_INNER },
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static struct shunt_addr address_of(const char *text)
{
	struct shunt_addr a = { .w = { 0, 0, SHUNT_V4_MAPPED, 0 } };

	if (inet_pton(AF_INET, text, &a.w[3]) != 1)
		inet_pton(AF_INET6, text, &a);
	return a;
}

static int open_program(void)
{
	static const char *const vips[] = { VIP_4, VIP_6 }, *const balancers[] = { BALANCER_4, BALANCER_6 };
	struct agent_mac mac = { 0 };
	uint32_t one = 1;
	int err;

	skel = agent_bpf__open();
	if (!skel)
		return -errno;
	skel->rodata->restrict_sources = 1;
	err = agent_bpf__load(skel);
	memcpy(mac.bytes, mac_balancer, sizeof(mac.bytes)); /* where a frame goes unless its row says otherwise */
	err = err ?: bpf_map_update_elem(bpf_map__fd(skel->maps.agent_macs), &mac, &one, BPF_ANY);
	for (int i = 0; i < 2 && !err; i++) {
		struct shunt_addr vip = address_of(vips[i]), balancer = address_of(balancers[i]);

		err = bpf_map_update_elem(bpf_map__fd(skel->maps.agent_vips), &vip, &one, BPF_ANY);
		err = err ?: bpf_map_update_elem(bpf_map__fd(skel->maps.agent_balancers), &balancer, &one, BPF_ANY);
	}
	return err;
}

static void say(struct agent_word word, uint64_t beat_ns)
{
	uint32_t zero = 0;

	word.incarnation = INCARNATION;
	word.in_flight = 7;
	word.queued = 9;
	word.utilisation_permille = 500;
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.agent), &zero, &word, BPF_ANY), 0);
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.agent_beat), &zero, &beat_ns, BPF_ANY), 0);
}

static void say_serving(void)
{
	say((struct agent_word){ .engine = ENGINE_SERVING }, 0);
}

static void count(uint64_t out[AGENT_REASON_COUNT])
{
	static uint64_t values[CPUS_MAX];
	int n = libbpf_num_possible_cpus();

	for (uint32_t i = 0; i < AGENT_REASON_COUNT; i++) {
		out[i] = 0;
		assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(skel->maps.agent_reasons), &i, values), 0);
		for (int cpu = 0; cpu < n; cpu++)
			out[i] += values[cpu];
	}
}

/* Run it: the one reason counted, and the frame as it left. */
static enum agent_reason run(struct frame *out, const struct frame *in)
{
	uint64_t before[AGENT_REASON_COUNT], after[AGENT_REASON_COUNT];
	enum agent_reason moved = AGENT_REASON_COUNT;
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = in->bytes, .data_size_in = (uint32_t)in->size,
		    .data_out = out->bytes, .data_size_out = sizeof(out->bytes), .repeat = 1);

	count(before);
	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(skel->progs.shunt_agent), &o), 0);
	out->size = o.data_size_out;
	count(after);
	for (int r = 0; r < AGENT_REASON_COUNT; r++) {
		if (after[r] == before[r])
			continue;
		if (moved != AGENT_REASON_COUNT || after[r] != before[r] + 1)
			fail_msg("%s counted beside another, or twice", reason_names[r]);
		moved = (enum agent_reason)r;
	}
	if (moved == AGENT_REASON_COUNT)
		fail_msg("counted nowhere");
	assert_int_equal(o.retval, reason_actions[moved]);
	reached[moved] = true;
	return moved;
}

static void set_keys(uint32_t n)
{
	struct probe_keys set = { .n = n };
	uint32_t zero = 0;

	if (n) {
		set.key[0] = keys[FIRST];
		set.key[1] = keys[n == 2 ? SECOND : FIRST];
	}
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.probe_keys), &zero, &set, BPF_ANY), 0);
}

static uint32_t other_version(void)
{
	struct agent_word word;
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(skel->maps.agent), &zero, &word), 0);
	return word.other_version;
}

/* A row's packet, its probe signed. */
static void build(struct frame *out, const struct row *row)
{
	struct spec s = row->in;
	struct probe probe;

	if (row->signer != NOBODY) {
		memcpy(&probe, s.data, sizeof(probe));
		probe.trailer.tag = probe_tag(&keys[row->signer], &probe);
		s.data = &probe;
	}
	frame_build(out, &s);
}

static void expect(struct frame *out, const struct row *row)
{
	struct spec s = row->in;
	struct probe answer;

	if (row->leaves == ANSWERED) {
		memcpy(&answer, s.data, sizeof(answer));
		answer.trailer.version = PROBE_VERSION;
		answer.bfd.flags = (said_of(row) >= ENGINE_DRAINING ? BFD_ADMIN_DOWN : BFD_UP) << BFD_STATE_SHIFT;
		answer.bfd.my_discriminator = answer.bfd.your_discriminator;
		answer.bfd.your_discriminator = htonl(INITIATOR);
		answer.trailer.engine = (uint8_t)said_of(row);
		answer.trailer.cause = htons((uint16_t)row->cause);
		answer.trailer.flags = htons((uint16_t)row->flags);
		answer.trailer.in_flight = htonl(7);
		answer.trailer.queued = htonl(9);
		answer.trailer.utilisation_permille = htons(500);
		answer.trailer.beat_age_us = answer.trailer.agent_age_us = htonl(PROBE_AGE_UNKNOWN);
		answer.trailer.incarnation = htonl(INCARNATION);
		answer.trailer.tag = row->n_keys ? probe_tag(&keys[row->signer], &answer) : 0;
		s.data = &answer;
		s.src = row->in.dst;
		s.dst = row->in.src;
		s.sport = row->in.dport;
		s.dport = row->in.sport;
		s.src_mac = mac_balancer; /* the test's frames come from mac_client and go to mac_balancer */
		s.dst_mac = mac_client;
		frame_build(out, &s);
		return;
	}
	if (row->leaves == BARE)
		s.outer = (struct outer){ 0 };
	frame_build(out, &s);
}

/* Make the beat's age of both the same, and the UDP checksum. IPv4, no tags. */
static void forget(struct frame *got, struct frame *want)
{
	size_t udp = 14 + 20, age = udp + 8 + offsetof(struct probe, trailer.beat_age_us);

	assert_null(frame_fault(got, 1));
	memcpy(want->bytes + udp + 6, got->bytes + udp + 6, 2);
	memcpy(want->bytes + age, got->bytes + age, 4);
}

static void row_test(void **state)
{
	const struct row *row = *state;
	struct frame in, want, got;
	enum agent_reason reason;

	say((struct agent_word){ .engine = row->engine,
				 .draining = row->draining,
				 .stopping = row->stopping,
				 .flags = row->flags,
				 .life = ENGINE_LIFE(1, row->cause),
				 .beat_limit_ns = row->beat_limit_ns },
	    row->beat_limit_ns ? 1 : 0);
	set_keys(row->n_keys);
	build(&in, row);
	reason = run(&got, &in);
	if (reason != row->reason)
		fail_msg("counted as %s, not %s", reason_names[reason], reason_names[row->reason]);
	if (reason != AGENT_REASON_REFLECTED_OTHER_VERSION)
		assert_int_equal(other_version(), 0);
	if (reason_actions[reason] == XDP_DROP)
		return;
	expect(&want, row);
	assert_int_equal(got.size, want.size);
	if (row->beat_limit_ns) /* its age is another each time; so the checksum is */
		forget(&got, &want);
	for (size_t i = 0; i < want.size; i++)
		if (got.bytes[i] != want.bytes[i])
			fail_msg("byte %zu is %02x, not %02x", i, got.bytes[i], want.bytes[i]);
	if (row->leaves != UNTOUCHED && !row->in.padding_bytes &&
	    !row->beat_limit_ns) /* an answer is as long as its question */
		assert_null(frame_fault(&got, 1));
}

/* ---- what a row can't say ---- */

/* The first byte of the IP header's second half: DSCP and ECN, in either version. */
static uint8_t tos_of(const struct frame *f)
{
	const uint8_t *ip = f->bytes + 14;

	return ip[0] >> 4 == 4 ? ip[1] : (uint8_t)((ip[0] & 0xf) << 4 | ip[1] >> 4);
}

/* Mark the outer header "congestion experienced"; its checksum follows. */
static void mark_outer(struct frame *f)
{
	uint8_t *ip = f->bytes + 14;
	uint16_t check;

	if (ip[0] >> 4 == 6) {
		ip[1] |= 3 << 4;
		return;
	}
	ip[1] |= 3;
	ip[10] = ip[11] = 0;
	check = checksum(ip, 20, 0);
	ip[10] = (uint8_t)(check >> 8);
	ip[11] = (uint8_t)check;
}

static void a_congestion_mark_goes_inside_rfc6040_4_2(void **state)
{
	static const struct spec tunnels[] = {
		{ INNER_4, OUTER_4 }, { INNER_6, OUTER_4 }, { INNER_4, OUTER_6 }, { INNER_6, OUTER_6 }
	};

	(void)state;
	say_serving();
	for (int i = 0; i < 4; i++) {
		for (uint8_t ecn = 0; ecn < 4; ecn++) {
			struct spec s = tunnels[i];
			struct frame in, got;
			enum agent_reason reason;

			s.tos = 0xb8 | ecn;
			frame_build(&in, &s);
			mark_outer(&in);
			reason = run(&got, &in);
			if (!ecn) { /* the inner packet can't bear a mark: dropping is how it is told */
				assert_int_equal(reason, AGENT_REASON_REFUSED_INNER);
				continue;
			}
			assert_int_equal(reason, AGENT_REASON_DECAPSULATED);
			assert_int_equal(tos_of(&got), 0xb8 | 3);
			assert_null(frame_fault(&got, 1));
		}
	}
}

static void ages_are_in_microseconds_since_the_agents_word(void **state)
{
	struct frame in, got;
	struct probe answer;

	(void)state;
	set_keys(0);
	say((struct agent_word){ .updated_ns = 1 }, 1);
	frame_build(&in, &rows[0].in);
	assert_int_equal(run(&got, &in), AGENT_REASON_REFLECTED);
	memcpy(&answer, got.bytes + 14 + 20 + 8, sizeof(answer));
	assert_true(ntohl(answer.trailer.agent_age_us) > 0 && answer.trailer.agent_age_us != htonl(PROBE_AGE_UNKNOWN));
	assert_int_equal(answer.trailer.agent_age_us, answer.trailer.beat_age_us);
	assert_null(frame_fault(&got, 1));
}

static void the_agent_is_told_which_other_version_asked(void **state)
{
	static const uint8_t versions[] = { PROBE_VERSION + 1, 0xff };
	struct frame in, got;
	struct probe probe;
	struct spec s = rows[0].in;

	(void)state;
	set_keys(2);
	say_serving();
	s.data = &probe;
	for (int i = 0; i < 2; i++) {
		memcpy(&probe, rows[0].in.data, sizeof(probe));
		probe.trailer.version = versions[i];
		probe.trailer.tag = probe_tag(&keys[SECOND], &probe);
		frame_build(&in, &s);
		assert_int_equal(run(&got, &in), AGENT_REASON_REFLECTED_OTHER_VERSION);
		assert_int_equal(other_version(), versions[i]);
	}
	set_keys(0);
}

static void a_probe_altered_anywhere_is_never_answered(void **state)
{
	uint8_t bytes[sizeof(struct probe)];
	struct frame in, got;
	struct probe probe;
	struct spec s = rows[0].in;

	(void)state;
	set_keys(2);
	say_serving();
	s.data = bytes;
	memcpy(&probe, rows[0].in.data, sizeof(probe));
	probe.trailer.tag = probe_tag(&keys[SECOND], &probe);
	for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
		memcpy(bytes, &probe, sizeof(bytes));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		frame_build(&in, &s);
		if (reason_actions[run(&got, &in)] != XDP_DROP)
			fail_msg("answered with bit %zu altered", bit);
	}
	set_keys(0);
}

static void a_frame_cut_anywhere_is_left_alone_or_dropped(void **state)
{
	struct frame in, whole, got;

	(void)state;
	say_serving();
	for (size_t i = 0; i < N_ROWS; i++) {
		frame_build(&whole, &rows[i].in);
		for (size_t size = 14; size + rows[i].in.padding_bytes < whole.size; size++) {
			enum agent_reason reason;

			in = whole;
			in.size = size;
			reason = run(&got, &in);
			if (reason == AGENT_REASON_REFLECTED || reason == AGENT_REASON_DECAPSULATED)
				fail_msg("%s cut to %zu bytes: %s", rows[i].name, size, reason_names[reason]);
			if (reason == AGENT_REASON_OTHER && (got.size != size || memcmp(got.bytes, in.bytes, size)))
				fail_msg("%s cut to %zu bytes: changed", rows[i].name, size);
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

static void mutated_packets_are_each_counted_once(void **state)
{
	uint64_t random = 1, answered = 0;
	struct frame in, got;

	(void)state;
	say_serving();
	for (int i = 0; i < FUZZ_PACKETS; i++) {
		const struct row *row = &rows[random_next(&random) % N_ROWS];
		enum agent_reason reason;

		frame_build(&in, &row->in);
		for (uint64_t n = random_next(&random) % 3; n; n--)
			in.bytes[random_next(&random) % (in.size < 120 ? in.size : 120)] ^=
				(uint8_t)(1 << random_next(&random) % 8);
		reason = run(&got, &in);
		answered += reason == AGENT_REASON_REFLECTED;
		if (reason == AGENT_REASON_OTHER && (got.size != in.size || memcmp(got.bytes, in.bytes, in.size)))
			fail_msg("packet %d (%s): left alone but changed", i, row->name);
	}
	assert_true(answered > FUZZ_PACKETS / 100);
}

static void every_reason_was_reached(void **state)
{
	(void)state;
	for (int r = 0; r < AGENT_REASON_COUNT; r++)
		if (!reached[r])
			fail_msg("never reached: %s", reason_names[r]);
}

static const struct CMUnitTest others[] = {
	cmocka_unit_test(a_congestion_mark_goes_inside_rfc6040_4_2),
	cmocka_unit_test(ages_are_in_microseconds_since_the_agents_word),
	cmocka_unit_test(the_agent_is_told_which_other_version_asked),
	cmocka_unit_test(a_probe_altered_anywhere_is_never_answered),
	cmocka_unit_test(a_frame_cut_anywhere_is_left_alone_or_dropped),
	cmocka_unit_test(mutated_packets_are_each_counted_once),
	cmocka_unit_test(every_reason_was_reached),
};
#define N_OTHERS (sizeof(others) / sizeof(others[0]))

int main(void)
{
	static struct CMUnitTest tests[N_ROWS + N_OTHERS];
	int err = open_program(), failed = 1;

	if (err)
		fprintf(stderr, "the program under test does not load: %s\n", strerror(-err));
	for (size_t i = 0; i < N_ROWS; i++)
		tests[i] = (struct CMUnitTest){ rows[i].name, row_test, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	memcpy(tests + N_ROWS, others, sizeof(others));
	if (!err)
		failed = _cmocka_run_group_tests("agent", tests, N_ROWS + N_OTHERS, NULL, NULL);
	agent_bpf__destroy(skel);
	return failed;
}
