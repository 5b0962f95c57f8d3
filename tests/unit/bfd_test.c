/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bfd_test.c - BFD's state machine in a time of its own: rule by rule, then two of them on a wire that loses packets.
 * A test that begins with rfcNNNN_ is named after the section whose rule it holds us to. Real peers: tests/net.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "core/bfd.h"

#define US 1000ULL
#define MS 1000000ULL
#define S 1000000000ULL
#define START (5000 * S)
#define OURS 0x1001U
#define PEERS 0x2002U
#define NOBODYS 0x3003U

static const struct bfd_settings ten_ms = { .min_tx_ns = 10 * MS, .min_rx_ns = 10 * MS, .multiplier = 3 };

/* What the peer says, if nothing else is said. */
static struct bfd_packet packet(uint8_t state, uint8_t flags)
{
	return (struct bfd_packet){ .vers_diag = BFD_VERS_DIAG(0),
				    .flags = (uint8_t)(state << BFD_STATE_SHIFT | flags),
				    .detect_mult = 3,
				    .length = BFD_LENGTH,
				    .my_discriminator = htonl(PEERS),
				    .your_discriminator = htonl(OURS),
				    .desired_min_tx_us = htonl(10000),
				    .required_min_rx_us = htonl(10000) };
}

static void take(struct bfd *b, uint8_t state, uint8_t flags, uint64_t now)
{
	struct bfd_packet p = packet(state, flags);

	assert_int_equal(bfd_check(&p, sizeof(p), BFD_TTL), BFD_TAKEN);
	assert_int_equal(bfd_receive(b, &p, now), BFD_TAKEN);
}

static struct bfd_packet put(struct bfd *b, uint64_t now, uint32_t random)
{
	struct bfd_packet p;

	bfd_put(b, &p, now, random);
	return p;
}

/* A session that has just come up, its poll answered and all said. */
static struct bfd up(void)
{
	struct bfd b;

	bfd_open(&b, OURS, &ten_ms);
	take(&b, BFD_DOWN, 0, START);
	put(&b, START, 0);
	take(&b, BFD_UP, 0, START);
	put(&b, START, 0);
	take(&b, BFD_UP, BFD_FINAL, START);
	assert_int_equal(b.state, BFD_UP);
	assert_false(b.poll);
	assert_false(bfd_should_send(&b, START));
	return b;
}

/* ---- what is discarded ---- */

static void rfc5881_5_packet_that_passed_a_router_is_discarded(void **state)
{
	struct bfd_packet p = packet(BFD_UP, 0);

	(void)state;
	assert_int_equal(bfd_check(&p, sizeof(p), 255), BFD_TAKEN);
	assert_int_equal(bfd_check(&p, sizeof(p), 254), BFD_REFUSED_TTL);
	assert_int_equal(bfd_check(&p, sizeof(p), 0), BFD_REFUSED_TTL);
}

static void rfc5880_6_8_6_packet_of_another_version_is_discarded(void **state)
{
	struct bfd_packet p = packet(BFD_UP, 0);

	(void)state;
	for (unsigned version = 0; version < 8; version++) {
		p.vers_diag = (uint8_t)(version << 5);
		assert_int_equal(bfd_check(&p, sizeof(p), 255), version == 1 ? BFD_TAKEN : BFD_REFUSED_VERSION);
	}
}

static void rfc5880_6_8_6_packet_with_a_length_that_cannot_be_is_discarded(void **state)
{
	uint8_t payload[BFD_LENGTH + 8] = { 0 };
	struct bfd_packet p = packet(BFD_UP, 0);

	(void)state;
	p.length = 23;
	assert_int_equal(bfd_check(&p, sizeof(p), 255), BFD_REFUSED_LENGTH);
	p.length = 25; /* more than there is */
	assert_int_equal(bfd_check(&p, sizeof(p), 255), BFD_REFUSED_LENGTH);
	p.length = 24;
	for (size_t size = 0; size < sizeof(p); size++)
		assert_int_equal(bfd_check(&p, size, 255), BFD_REFUSED_LENGTH);
	memcpy(payload, &p, sizeof(p)); /* what follows is not BFD's */
	assert_int_equal(bfd_check(payload, sizeof(payload), 255), BFD_TAKEN);
}

static void rfc5880_6_8_6_packet_with_multiplier_zero_is_discarded(void **state)
{
	struct bfd_packet p = packet(BFD_UP, 0);

	(void)state;
	p.detect_mult = 0;
	assert_int_equal(bfd_check(&p, sizeof(p), 255), BFD_REFUSED_MULTIPLIER);
	p.detect_mult = 1;
	assert_int_equal(bfd_check(&p, sizeof(p), 255), BFD_TAKEN);
}

static void rfc5880_6_8_6_packet_with_the_multipoint_bit_is_discarded(void **state)
{
	struct bfd_packet p = packet(BFD_UP, BFD_MULTIPOINT);

	(void)state;
	assert_int_equal(bfd_check(&p, sizeof(p), 255), BFD_REFUSED_MULTIPOINT);
}

static void rfc5880_6_8_6_packet_with_my_discriminator_zero_is_discarded(void **state)
{
	struct bfd_packet p = packet(BFD_UP, 0);

	(void)state;
	p.my_discriminator = 0;
	assert_int_equal(bfd_check(&p, sizeof(p), 255), BFD_REFUSED_DISCRIMINATOR);
}

static void rfc5880_6_8_6_packet_for_another_session_is_discarded(void **state)
{
	struct bfd b = up(), before = b;
	struct bfd_packet p = packet(BFD_DOWN, BFD_POLL);

	(void)state;
	p.your_discriminator = htonl(NOBODYS);
	assert_int_equal(bfd_receive(&b, &p, START + 5 * MS), BFD_REFUSED_SESSION);
	assert_memory_equal(&b, &before, sizeof(b)); /* nor does it count as heard */
}

static void rfc5880_6_8_6_packet_without_your_discriminator_is_discarded_unless_its_state_is_down(void **state)
{
	(void)state;
	for (uint8_t s = BFD_ADMIN_DOWN; s <= BFD_UP; s++) {
		struct bfd_packet p = packet(s, 0);

		p.your_discriminator = 0;
		assert_int_equal(bfd_check(&p, sizeof(p), 255),
				 s == BFD_DOWN || s == BFD_ADMIN_DOWN ? BFD_TAKEN : BFD_REFUSED_SESSION);
	}
}

static void rfc5880_6_8_6_authenticated_packet_is_discarded_where_no_key_is_in_use(void **state)
{
	uint8_t payload[BFD_LENGTH + 8] = { 0 };
	struct bfd_packet p = packet(BFD_UP, BFD_AUTH);

	(void)state;
	assert_int_equal(bfd_check(&p, sizeof(p), 255), BFD_REFUSED_LENGTH); /* no room for the section */
	p.length = sizeof(payload);
	memcpy(payload, &p, sizeof(p));
	assert_int_equal(bfd_check(payload, sizeof(payload), 255), BFD_REFUSED_AUTHENTICATION);
}

/* ---- the state machine ---- */

static void rfc5880_6_8_6_each_state_received_in_each_state(void **state)
{
	static const struct {
		uint8_t from, received, to, diag;
	} rows[] = {
		{ BFD_DOWN, BFD_ADMIN_DOWN, BFD_DOWN, 0 },
		{ BFD_DOWN, BFD_DOWN, BFD_INIT, 0 },
		{ BFD_DOWN, BFD_INIT, BFD_UP, 0 },
		{ BFD_DOWN, BFD_UP, BFD_DOWN, 0 },
		{ BFD_INIT, BFD_ADMIN_DOWN, BFD_DOWN, 3 },
		{ BFD_INIT, BFD_DOWN, BFD_INIT, 0 },
		{ BFD_INIT, BFD_INIT, BFD_UP, 0 },
		{ BFD_INIT, BFD_UP, BFD_UP, 0 },
		{ BFD_UP, BFD_ADMIN_DOWN, BFD_DOWN, 3 },
		{ BFD_UP, BFD_DOWN, BFD_DOWN, 3 },
		{ BFD_UP, BFD_INIT, BFD_UP, 0 },
		{ BFD_UP, BFD_UP, BFD_UP, 0 },
		{ BFD_ADMIN_DOWN, BFD_ADMIN_DOWN, BFD_ADMIN_DOWN, 7 },
		{ BFD_ADMIN_DOWN, BFD_DOWN, BFD_ADMIN_DOWN, 7 },
		{ BFD_ADMIN_DOWN, BFD_INIT, BFD_ADMIN_DOWN, 7 },
		{ BFD_ADMIN_DOWN, BFD_UP, BFD_ADMIN_DOWN, 7 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct bfd b;

		bfd_open(&b, OURS, &ten_ms);
		if (rows[i].from == BFD_ADMIN_DOWN)
			bfd_admin(&b, true);
		if (rows[i].from == BFD_INIT || rows[i].from == BFD_UP)
			take(&b, BFD_DOWN, 0, START);
		if (rows[i].from == BFD_UP)
			take(&b, BFD_UP, 0, START);
		assert_int_equal(b.state, rows[i].from);
		put(&b, START, 0);
		take(&b, rows[i].received, 0, START);
		assert_int_equal(b.state, rows[i].to);
		assert_int_equal(b.diag, rows[i].diag);
		/* Whoever changes his state says so at once. */
		assert_int_equal(bfd_should_send(&b, START), rows[i].from != rows[i].to);
	}
}

static void rfc5880_6_8_7_a_packet_says_what_the_session_is(void **state)
{
	struct bfd b = up();
	struct bfd_packet p;

	(void)state;
	bfd_run(&b, START + 30 * MS);
	p = put(&b, START + 30 * MS, 0);
	assert_int_equal(p.vers_diag, 1 << 5 | BFD_DIAG_EXPIRED);
	assert_int_equal(p.flags, BFD_DOWN << 6 | BFD_POLL); /* its pace is another one now */
	assert_int_equal(p.detect_mult, 3);
	assert_int_equal(p.length, 24);
	assert_int_equal(ntohl(p.my_discriminator), OURS);
	assert_int_equal(p.your_discriminator, 0); /* forgotten with the detection time */
	assert_int_equal(ntohl(p.desired_min_tx_us), 1000000);
	assert_int_equal(ntohl(p.required_min_rx_us), 10000);
	assert_int_equal(p.required_min_echo_rx_us, 0);
}

/* ---- the detection time ---- */

static void rfc5880_6_8_4_silence_for_the_detection_time_is_down(void **state)
{
	struct bfd b = up();

	(void)state;
	assert_int_equal(bfd_detection_ns(&b), 30 * MS);
	bfd_run(&b, START + 30 * MS - 1);
	assert_int_equal(b.state, BFD_UP);
	assert_int_equal(b.remote_discriminator, PEERS);
	bfd_run(&b, START + 30 * MS);
	assert_int_equal(b.state, BFD_DOWN);
	assert_int_equal(b.diag, BFD_DIAG_EXPIRED);
	assert_true(bfd_should_send(&b, START + 30 * MS));
}

static void rfc5880_6_8_4_the_slower_side_and_the_peers_multiplier_count(void **state)
{
	struct bfd b = up();
	struct bfd_packet p = packet(BFD_UP, 0);

	(void)state;
	p.detect_mult = 5;
	p.desired_min_tx_us = htonl(50000);
	bfd_receive(&b, &p, START);
	assert_int_equal(bfd_detection_ns(&b), 250 * MS);
	p.desired_min_tx_us = htonl(1);
	bfd_receive(&b, &p, START);
	assert_int_equal(bfd_detection_ns(&b), 50 * MS);
}

static void rfc5880_6_8_4_init_ends_with_the_detection_time(void **state)
{
	struct bfd b;

	(void)state;
	bfd_open(&b, OURS, &ten_ms);
	take(&b, BFD_DOWN, 0, START);
	assert_int_equal(b.state, BFD_INIT);
	bfd_run(&b, START + 30 * MS);
	assert_int_equal(b.state, BFD_DOWN);
}

static void rfc5880_6_8_1_the_peers_discriminator_is_forgotten_when_it_is_silent(void **state)
{
	struct bfd b;

	(void)state;
	bfd_open(&b, OURS, &ten_ms);
	take(&b, BFD_ADMIN_DOWN, 0, START);
	assert_int_equal(b.remote_discriminator, PEERS);
	bfd_run(&b, START + 30 * MS);
	assert_int_equal(b.remote_discriminator, 0);
	assert_int_equal(b.diag, BFD_DIAG_NONE); /* it was down before */
}

static void a_clock_that_stood_still_gives_the_peer_its_time_again(void **state)
{
	struct bfd b = up();

	(void)state;
	bfd_pardon(&b, START + 2 * S);
	bfd_run(&b, START + 2 * S + 30 * MS - 1);
	assert_int_equal(b.state, BFD_UP);
	bfd_run(&b, START + 2 * S + 30 * MS);
	assert_int_equal(b.state, BFD_DOWN);
}

/* ---- pace ---- */

static void rfc5880_6_8_3_a_session_that_is_not_up_is_slow(void **state)
{
	struct bfd b;
	struct bfd_packet p;

	(void)state;
	bfd_open(&b, OURS, &ten_ms);
	assert_true(bfd_should_send(&b, START));
	p = put(&b, START, 0);
	assert_int_equal(ntohl(p.desired_min_tx_us), 1000000);
	assert_false(bfd_should_send(&b, START + 1 * S - 1));
	assert_true(bfd_should_send(&b, START + 1 * S));
}

static void rfc5880_6_8_7_jitter_takes_up_to_a_quarter(void **state)
{
	struct bfd b = up();

	(void)state;
	put(&b, START, 0);
	assert_int_equal(bfd_wake_ns(&b), START + 10 * MS);
	put(&b, START, UINT32_MAX);
	assert_in_range(bfd_wake_ns(&b), START + 7500 * US, START + 7500 * US + 1);
	put(&b, START, 1U << 31);
	assert_int_equal(bfd_wake_ns(&b), START + 8750 * US);
}

static void rfc5880_6_8_7_the_slower_side_sets_the_pace(void **state)
{
	struct bfd b = up();
	struct bfd_packet p = packet(BFD_UP, 0);

	(void)state;
	p.required_min_rx_us = htonl(300000);
	bfd_receive(&b, &p, START);
	assert_int_equal(bfd_interval_ns(&b), 300 * MS);
	p.required_min_rx_us = htonl(1);
	bfd_receive(&b, &p, START);
	assert_int_equal(bfd_interval_ns(&b), 10 * MS);
}

static void rfc5880_6_8_7_a_peer_that_wants_nothing_periodic_gets_nothing_periodic(void **state)
{
	struct bfd b = up();
	struct bfd_packet p = packet(BFD_UP, 0);

	(void)state;
	p.required_min_rx_us = 0;
	bfd_receive(&b, &p, START);
	assert_false(bfd_should_send(&b, START + 3600 * S));
	assert_int_equal(bfd_wake_ns(&b), START + 30 * MS); /* its silence is judged all the same */
	p.flags |= BFD_POLL;
	bfd_receive(&b, &p, START);
	assert_true(bfd_should_send(&b, START)); /* but an answer is none */
}

static void rfc5880_6_8_7_a_peer_in_demand_mode_gets_polls_and_answers_only(void **state)
{
	struct bfd b = up();
	struct bfd_settings slower = ten_ms;

	(void)state;
	take(&b, BFD_UP, BFD_DEMAND, START);
	assert_false(bfd_should_send(&b, START + 3600 * S));
	slower.min_rx_ns = 20 * MS;
	bfd_change(&b, &slower);
	assert_true(bfd_should_send(&b, START + 10 * MS));
	assert_int_equal(put(&b, START + 10 * MS, 0).flags & (BFD_POLL | BFD_DEMAND), BFD_POLL);
	take(&b, BFD_UP, BFD_DEMAND | BFD_FINAL, START + 11 * MS);
	assert_false(bfd_should_send(&b, START + 3600 * S));
	take(&b, BFD_DOWN, BFD_DEMAND, START + 12 * MS); /* not both up: no demand mode */
	put(&b, START + 12 * MS, 0);
	take(&b, BFD_DOWN, BFD_DEMAND | BFD_FINAL, START + 13 * MS);
	put(&b, START + 13 * MS, 0);
	assert_false(b.poll);
	assert_true(bfd_should_send(&b, START + 1013 * MS));
}

static void rfc5880_6_8_3_a_peer_that_wants_more_gets_it_at_once(void **state)
{
	struct bfd b = up();
	struct bfd_packet p = packet(BFD_UP, 0);

	(void)state;
	p.required_min_rx_us = htonl(1000000);
	bfd_receive(&b, &p, START);
	put(&b, START, 0);
	assert_false(bfd_should_send(&b, START + 500 * MS));
	p.required_min_rx_us = htonl(50000);
	bfd_receive(&b, &p, START + 500 * MS);
	assert_true(bfd_should_send(&b, START + 500 * MS)); /* 50 ms have passed since the last one */
}

static void rfc5880_6_8_3_our_longer_interval_holds_only_after_the_final(void **state)
{
	struct bfd b = up();
	struct bfd_settings slower = ten_ms;
	struct bfd_packet p;

	(void)state;
	slower.min_tx_ns = 100 * MS;
	bfd_change(&b, &slower);
	p = put(&b, START + 10 * MS, 0);
	assert_int_equal(ntohl(p.desired_min_tx_us), 100000);
	assert_int_equal(p.flags & BFD_POLL, BFD_POLL);
	assert_int_equal(bfd_interval_ns(&b), 10 * MS);
	take(&b, BFD_UP, 0, START + 11 * MS);
	assert_int_equal(bfd_interval_ns(&b), 10 * MS);
	take(&b, BFD_UP, BFD_FINAL, START + 12 * MS);
	assert_int_equal(bfd_interval_ns(&b), 100 * MS);
	assert_int_equal(put(&b, START + 110 * MS, 0).flags & BFD_POLL, 0);
}

static void rfc5880_6_8_3_our_shorter_interval_holds_at_once(void **state)
{
	struct bfd b = up();
	struct bfd_settings faster = ten_ms;

	(void)state;
	faster.min_tx_ns = 3 * MS;
	bfd_change(&b, &faster);
	assert_true(b.poll);
	assert_int_equal(b.tx_ns, 3 * MS);
}

static void rfc5880_6_8_3_a_shorter_detection_time_counts_only_after_the_final(void **state)
{
	struct bfd b = up();
	struct bfd_settings faster = ten_ms;
	struct bfd_packet p = packet(BFD_UP, 0);

	(void)state;
	p.desired_min_tx_us = htonl(3000);
	bfd_receive(&b, &p, START);
	faster.min_rx_ns = 3 * MS;
	bfd_change(&b, &faster);
	put(&b, START, 0);
	assert_int_equal(bfd_detection_ns(&b), 30 * MS);
	p.flags |= BFD_FINAL;
	bfd_receive(&b, &p, START);
	assert_int_equal(bfd_detection_ns(&b), 9 * MS);
	faster.min_rx_ns = 50 * MS; /* and a longer one at once */
	bfd_change(&b, &faster);
	assert_int_equal(bfd_detection_ns(&b), 150 * MS);
}

static void rfc5880_6_8_12_another_multiplier_needs_no_poll(void **state)
{
	struct bfd b = up();
	struct bfd_settings other = ten_ms;

	(void)state;
	other.multiplier = 5;
	bfd_change(&b, &other);
	assert_false(b.poll);
	assert_int_equal(put(&b, START, 0).detect_mult, 5);
}

/* ---- poll and final ---- */

static void rfc5880_6_5_a_poll_is_answered_at_once_and_never_with_a_poll(void **state)
{
	struct bfd b = up();
	struct bfd_settings slower = ten_ms;
	struct bfd_packet p;

	(void)state;
	slower.min_tx_ns = 20 * MS;
	bfd_change(&b, &slower); /* we would poll ourselves */
	put(&b, START, 0);
	take(&b, BFD_UP, BFD_POLL, START + 1 * MS);
	assert_true(bfd_should_send(&b, START + 1 * MS));
	p = put(&b, START + 1 * MS, 0);
	assert_int_equal(p.flags & (BFD_POLL | BFD_FINAL), BFD_FINAL);
	p = put(&b, START + 11 * MS, 0);
	assert_int_equal(p.flags & (BFD_POLL | BFD_FINAL), BFD_POLL);
}

static void rfc5880_6_5_a_final_that_nobody_asked_for_ends_no_poll(void **state)
{
	struct bfd b = up();
	struct bfd_settings slower = ten_ms;

	(void)state;
	slower.min_tx_ns = 20 * MS;
	bfd_change(&b, &slower);
	take(&b, BFD_UP, BFD_FINAL, START); /* before the poll was sent */
	assert_true(b.poll);
	assert_int_equal(bfd_interval_ns(&b), 10 * MS);
}

static void rfc5880_6_5_what_changes_during_a_poll_is_polled_for_anew(void **state)
{
	struct bfd b = up();
	struct bfd_settings slower = ten_ms;

	(void)state;
	slower.min_tx_ns = 20 * MS;
	bfd_change(&b, &slower);
	put(&b, START, 0);
	slower.min_tx_ns = 40 * MS;
	bfd_change(&b, &slower);
	take(&b, BFD_UP, BFD_FINAL, START); /* may be the answer to the first */
	assert_true(b.poll);
	assert_int_equal(bfd_interval_ns(&b), 10 * MS);
	put(&b, START, 0);
	take(&b, BFD_UP, BFD_FINAL, START);
	assert_false(b.poll);
	assert_int_equal(bfd_interval_ns(&b), 40 * MS);
}

/* ---- administratively down ---- */

static void rfc5880_6_8_16_who_is_taken_down_says_so_and_stays_there(void **state)
{
	struct bfd b = up();
	struct bfd_packet p;

	(void)state;
	bfd_admin(&b, true);
	assert_true(bfd_should_send(&b, START));
	p = put(&b, START, 0);
	assert_int_equal(p.flags >> 6, BFD_ADMIN_DOWN);
	assert_int_equal(p.vers_diag & 31, BFD_DIAG_ADMIN);
	take(&b, BFD_DOWN, BFD_POLL, START);
	assert_int_equal(b.state, BFD_ADMIN_DOWN);
	assert_false(bfd_should_send(&b, START)); /* what it hears is discarded */
	assert_true(bfd_should_send(&b, START + 1 * S)); /* it goes on saying so */
	bfd_admin(&b, false);
	assert_int_equal(b.state, BFD_DOWN);
	assert_int_equal(b.diag, BFD_DIAG_NONE);
}

static void a_peer_that_is_taken_down_can_be_told_from_one_that_fails(void **state)
{
	struct bfd b = up();

	(void)state;
	take(&b, BFD_ADMIN_DOWN, 0, START);
	assert_int_equal(b.state, BFD_DOWN);
	assert_int_equal(b.remote_state, BFD_ADMIN_DOWN);
	bfd_run(&b, START + 3600 * S); /* it may fall silent then */
	assert_int_equal(b.remote_state, BFD_ADMIN_DOWN);
	take(&b, BFD_DOWN, 0, START + 3601 * S);
	assert_int_equal(b.state, BFD_INIT);
}

/* ---- silly peers ---- */

static void a_peer_that_wants_a_packet_a_microsecond_gets_our_pace(void **state)
{
	struct bfd b = up();
	struct bfd_packet p = packet(BFD_UP, 0);

	(void)state;
	p.desired_min_tx_us = p.required_min_rx_us = htonl(1);
	p.detect_mult = 1;
	bfd_receive(&b, &p, START);
	assert_int_equal(bfd_interval_ns(&b), 10 * MS);
	assert_int_equal(bfd_detection_ns(&b), 10 * MS);
}

static void a_peer_that_speaks_once_an_hour_is_given_its_time(void **state)
{
	struct bfd b = up();
	struct bfd_packet p = packet(BFD_UP, 0);

	(void)state;
	p.desired_min_tx_us = p.required_min_rx_us = htonl(UINT32_MAX);
	p.detect_mult = 255;
	bfd_receive(&b, &p, START);
	assert_int_equal(bfd_interval_ns(&b), UINT32_MAX * US);
	assert_int_equal(bfd_detection_ns(&b), 255 * (UINT32_MAX * US));
	bfd_run(&b, START + 255 * (UINT32_MAX * US) - 1);
	assert_int_equal(b.state, BFD_UP);
}

/* ---- two on a wire ---- */

#define IN_FLIGHT 64

struct wire {
	struct bfd end[2];
	struct {
		uint64_t at_ns;
		int to;
		struct bfd_packet packet;
	} flight[IN_FLIGHT];
	size_t n;
	uint64_t now, random, sent[2], ups[2], downs[2];
	unsigned loss_percent;
	bool cut[2]; /* nothing arrives at this end */
	bool dead[2]; /* it neither sends nor hears */
};

static uint32_t draw(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return (uint32_t)(*x >> 16);
}

static void note(struct wire *w, int i, uint8_t before)
{
	w->ups[i] += before != BFD_UP && w->end[i].state == BFD_UP;
	w->downs[i] += before == BFD_UP && w->end[i].state != BFD_UP;
}

static void end_run(struct wire *w, int i)
{
	uint8_t before = w->end[i].state;

	for (size_t k = 0; k < w->n;) {
		if (w->flight[k].to != i || w->flight[k].at_ns > w->now) {
			k++;
			continue;
		}
		assert_int_equal(bfd_check(&w->flight[k].packet, BFD_LENGTH, 255), BFD_TAKEN);
		if (!w->cut[i])
			bfd_receive(&w->end[i], &w->flight[k].packet, w->now);
		w->flight[k] = w->flight[--w->n];
	}
	bfd_run(&w->end[i], w->now);
	note(w, i, before);
	if (!bfd_should_send(&w->end[i], w->now))
		return;
	w->sent[i]++;
	assert_true(w->n < IN_FLIGHT);
	w->flight[w->n].at_ns = w->now + 100 * US + draw(&w->random) % (400 * US);
	w->flight[w->n].to = !i;
	bfd_put(&w->end[i], &w->flight[w->n].packet, w->now, draw(&w->random));
	w->n += draw(&w->random) % 100 >= w->loss_percent;
	assert_false(bfd_should_send(&w->end[i], w->now));
}

static uint64_t wire_wake(const struct wire *w)
{
	uint64_t wake = UINT64_MAX;

	for (int i = 0; i < 2; i++)
		if (!w->dead[i] && bfd_wake_ns(&w->end[i]) < wake)
			wake = bfd_wake_ns(&w->end[i]);
	for (size_t k = 0; k < w->n; k++)
		if (!w->dead[w->flight[k].to] && w->flight[k].at_ns < wake)
			wake = w->flight[k].at_ns;
	return wake;
}

static void wire_run(struct wire *w, uint64_t for_ns)
{
	uint64_t until = w->now + for_ns;

	for (;;) {
		uint64_t wake = wire_wake(w);

		if (wake > until)
			break;
		w->now = wake > w->now ? wake : w->now;
		for (int i = 0; i < 2; i++)
			if (!w->dead[i])
				end_run(w, i);
	}
	w->now = until;
}

static struct wire wire(uint64_t tx0, uint64_t rx0, uint64_t tx1, uint64_t rx1)
{
	struct wire w = { .now = START, .random = 88172645463325252ULL };

	bfd_open(&w.end[0], OURS, &(struct bfd_settings){ tx0, rx0, 3 });
	bfd_open(&w.end[1], PEERS, &(struct bfd_settings){ tx1, rx1, 3 });
	return w;
}

static void two_ends_come_up_agree_on_a_pace_and_stay_up(void **state)
{
	struct wire w = wire(10 * MS, 10 * MS, 20 * MS, 50 * MS);

	(void)state;
	wire_run(&w, 10 * MS); /* a state change doesn't wait for the slow pace */
	assert_int_equal(w.end[0].state, BFD_UP);
	assert_int_equal(w.end[1].state, BFD_UP);
	w.sent[0] = w.sent[1] = 0;
	wire_run(&w, 300 * S);
	assert_int_equal(w.downs[0] + w.downs[1], 0);
	assert_int_equal(bfd_interval_ns(&w.end[0]), 50 * MS);
	assert_int_equal(bfd_interval_ns(&w.end[1]), 20 * MS);
	assert_in_range(w.sent[0], 300 * 20, 300 * 20 * 4 / 3 + 1); /* of the 0 to 25 % less */
	assert_in_range(w.sent[1], 300 * 50, 300 * 50 * 4 / 3 + 1);
}

static void a_wire_that_loses_every_tenth_packet_seldom_takes_a_session_down(void **state)
{
	struct wire w = wire(10 * MS, 10 * MS, 10 * MS, 10 * MS);

	(void)state;
	w.loss_percent = 10;
	wire_run(&w, 600 * S);
	/* A down is three lost in a row, or four: 1/1000 of 70,000 at most in each direction. */
	assert_in_range(w.downs[0] + w.downs[1], 1, 2 * 2 * 70);
	assert_int_equal(w.ups[0] - w.downs[0], w.end[0].state == BFD_UP);
	w.loss_percent = 0;
	wire_run(&w, 3 * S);
	assert_int_equal(w.end[0].state, BFD_UP);
	assert_int_equal(w.end[1].state, BFD_UP);
}

static void an_end_that_dies_is_seen_within_the_detection_time(void **state)
{
	(void)state;
	for (uint64_t phase = 0; phase < 20; phase++) {
		struct wire w = wire(10 * MS, 10 * MS, 10 * MS, 10 * MS);

		wire_run(&w, 2 * S + phase * 777 * US);
		w.dead[1] = true;
		wire_run(&w, 19 * MS);
		assert_int_equal(w.end[0].state, BFD_UP);
		wire_run(&w, 12 * MS);
		assert_int_equal(w.end[0].state, BFD_DOWN);
	}
}

static void a_direction_that_is_lost_is_seen_by_both(void **state)
{
	struct wire w = wire(10 * MS, 10 * MS, 10 * MS, 10 * MS);

	(void)state;
	wire_run(&w, 2 * S);
	w.cut[1] = true;
	wire_run(&w, 100 * MS);
	assert_int_equal(w.end[0].state, BFD_DOWN);
	assert_int_equal(w.end[0].diag, BFD_DIAG_NEIGHBOUR);
	assert_int_equal(w.end[0].remote_diag, BFD_DIAG_EXPIRED);
	wire_run(&w, 10 * S);
	assert_int_not_equal(w.end[0].state, BFD_UP);
	assert_int_not_equal(w.end[1].state, BFD_UP);
	w.cut[1] = false;
	wire_run(&w, 3 * S);
	assert_int_equal(w.end[0].state, BFD_UP);
	assert_int_equal(w.end[1].state, BFD_UP);
}

static void an_end_that_was_restarted_comes_up_again_with_another_discriminator(void **state)
{
	struct wire w = wire(10 * MS, 10 * MS, 10 * MS, 10 * MS);

	(void)state;
	wire_run(&w, 2 * S);
	bfd_open(&w.end[1], NOBODYS, &ten_ms);
	for (size_t k = 0; k < w.n; k++) /* what is under way was sent to the one before: nobody has its number */
		w.flight[k].to = -1;
	w.n = 0;
	w.dead[0] = w.dead[1] = false;
	wire_run(&w, 3 * S);
	assert_int_equal(w.end[0].state, BFD_UP);
	assert_int_equal(w.end[0].remote_discriminator, NOBODYS);
	assert_int_equal(w.end[1].state, BFD_UP);
}

static void settings_that_change_all_the_time_take_no_session_down(void **state)
{
	struct wire w = wire(10 * MS, 10 * MS, 10 * MS, 10 * MS);

	(void)state;
	wire_run(&w, 2 * S);
	for (int i = 0; i < 2000; i++) {
		struct bfd_settings s = { (3 + draw(&w.random) % 200) * MS, (3 + draw(&w.random) % 200) * MS,
					  (uint8_t)(3 + draw(&w.random) % 5) };

		bfd_change(&w.end[draw(&w.random) % 2], &s);
		wire_run(&w, draw(&w.random) % (150 * MS));
	}
	assert_int_equal(w.downs[0] + w.downs[1], 0);
	assert_int_equal(w.ups[0], 1);
}

/* Bytes that nobody chose, times that leap: nothing of it is read out of bounds, and the machine stays one. */
static void whatever_comes_the_session_stays_one(void **state)
{
	uint64_t x = 0x2545f4914f6cdd1dULL, now = START;
	unsigned n_taken = 0;
	struct bfd b;

	(void)state;
	bfd_open(&b, OURS, &ten_ms);
	for (int i = 0; i < 300000; i++) {
		size_t size = draw(&x) % 4 ? BFD_LENGTH : draw(&x) % 64;
		uint8_t *payload = test_malloc(size + 1);
		struct bfd_packet p;

		for (size_t k = 0; k < size; k++)
			payload[k] = (uint8_t)draw(&x);
		if (size >= BFD_LENGTH && draw(&x) % 8) { /* most are nearly right */
			p = packet(draw(&x) % 4, draw(&x) & 0x3a);
			memcpy(payload, &p, 12);
			if (draw(&x) % 4)
				payload[2] = (uint8_t)draw(&x);
		}
		if (bfd_check(payload, size, draw(&x) % 16 ? 255 : 254) == BFD_TAKEN) {
			memcpy(&p, payload, sizeof(p));
			n_taken += bfd_receive(&b, &p, now) == BFD_TAKEN;
		}
		test_free(payload);
		bfd_run(&b, now);
		if (bfd_should_send(&b, now)) {
			p = put(&b, now, draw(&x));
			assert_int_not_equal(p.flags & (BFD_POLL | BFD_FINAL), BFD_POLL | BFD_FINAL);
			assert_int_equal(bfd_check(&p, sizeof(p), 255), BFD_TAKEN);
			assert_false(bfd_should_send(&b, now));
		}
		assert_in_range(b.state, BFD_DOWN, BFD_UP);
		assert_true(bfd_wake_ns(&b) > now);
		now += draw(&x) % 4 ? draw(&x) % (5 * MS) : draw(&x) * 100ULL;
	}
	assert_in_range(n_taken, 10000, 300000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc5881_5_packet_that_passed_a_router_is_discarded),
		cmocka_unit_test(rfc5880_6_8_6_packet_of_another_version_is_discarded),
		cmocka_unit_test(rfc5880_6_8_6_packet_with_a_length_that_cannot_be_is_discarded),
		cmocka_unit_test(rfc5880_6_8_6_packet_with_multiplier_zero_is_discarded),
		cmocka_unit_test(rfc5880_6_8_6_packet_with_the_multipoint_bit_is_discarded),
		cmocka_unit_test(rfc5880_6_8_6_packet_with_my_discriminator_zero_is_discarded),
		cmocka_unit_test(rfc5880_6_8_6_packet_for_another_session_is_discarded),
		cmocka_unit_test(rfc5880_6_8_6_packet_without_your_discriminator_is_discarded_unless_its_state_is_down),
		cmocka_unit_test(rfc5880_6_8_6_authenticated_packet_is_discarded_where_no_key_is_in_use),
		cmocka_unit_test(rfc5880_6_8_6_each_state_received_in_each_state),
		cmocka_unit_test(rfc5880_6_8_7_a_packet_says_what_the_session_is),
		cmocka_unit_test(rfc5880_6_8_4_silence_for_the_detection_time_is_down),
		cmocka_unit_test(rfc5880_6_8_4_the_slower_side_and_the_peers_multiplier_count),
		cmocka_unit_test(rfc5880_6_8_4_init_ends_with_the_detection_time),
		cmocka_unit_test(rfc5880_6_8_1_the_peers_discriminator_is_forgotten_when_it_is_silent),
		cmocka_unit_test(a_clock_that_stood_still_gives_the_peer_its_time_again),
		cmocka_unit_test(rfc5880_6_8_3_a_session_that_is_not_up_is_slow),
		cmocka_unit_test(rfc5880_6_8_7_jitter_takes_up_to_a_quarter),
		cmocka_unit_test(rfc5880_6_8_7_the_slower_side_sets_the_pace),
		cmocka_unit_test(rfc5880_6_8_7_a_peer_that_wants_nothing_periodic_gets_nothing_periodic),
		cmocka_unit_test(rfc5880_6_8_7_a_peer_in_demand_mode_gets_polls_and_answers_only),
		cmocka_unit_test(rfc5880_6_8_3_a_peer_that_wants_more_gets_it_at_once),
		cmocka_unit_test(rfc5880_6_8_3_our_longer_interval_holds_only_after_the_final),
		cmocka_unit_test(rfc5880_6_8_3_our_shorter_interval_holds_at_once),
		cmocka_unit_test(rfc5880_6_8_3_a_shorter_detection_time_counts_only_after_the_final),
		cmocka_unit_test(rfc5880_6_8_12_another_multiplier_needs_no_poll),
		cmocka_unit_test(rfc5880_6_5_a_poll_is_answered_at_once_and_never_with_a_poll),
		cmocka_unit_test(rfc5880_6_5_a_final_that_nobody_asked_for_ends_no_poll),
		cmocka_unit_test(rfc5880_6_5_what_changes_during_a_poll_is_polled_for_anew),
		cmocka_unit_test(rfc5880_6_8_16_who_is_taken_down_says_so_and_stays_there),
		cmocka_unit_test(a_peer_that_is_taken_down_can_be_told_from_one_that_fails),
		cmocka_unit_test(a_peer_that_wants_a_packet_a_microsecond_gets_our_pace),
		cmocka_unit_test(a_peer_that_speaks_once_an_hour_is_given_its_time),
		cmocka_unit_test(two_ends_come_up_agree_on_a_pace_and_stay_up),
		cmocka_unit_test(a_wire_that_loses_every_tenth_packet_seldom_takes_a_session_down),
		cmocka_unit_test(an_end_that_dies_is_seen_within_the_detection_time),
		cmocka_unit_test(a_direction_that_is_lost_is_seen_by_both),
		cmocka_unit_test(an_end_that_was_restarted_comes_up_again_with_another_discriminator),
		cmocka_unit_test(settings_that_change_all_the_time_take_no_session_down),
		cmocka_unit_test(whatever_comes_the_session_stays_one),
	};

	return cmocka_run_group_tests_name("bfd", tests, NULL, NULL);
}
