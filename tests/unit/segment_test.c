/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * segment_test.c - the packets that user space makes, byte by byte: segments that make a client speak, echoes. What real
 * hosts answer: tests/net.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>

#include "core/config.h"
#include "core/echo.h"
#include "core/segment.h"

static struct flow flow_of(const char *client, uint16_t client_port, const char *vip, uint16_t vip_port, uint32_t isn)
{
	struct flow f = {
		.isn = isn,
		.key = { .client_port = htons(client_port), .vip_port = htons(vip_port), .protocol = IPPROTO_TCP }
	};

	assert_int_equal(address_parse(&f.key.client, client), 0);
	assert_int_equal(address_parse(&f.key.vip, vip), 0);
	return f;
}

static uint32_t be(const uint8_t *p, int n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

/* The sum of RFC 1071 over pieces laid one behind the other, another way than the code's: carry at each step. */
static uint16_t checksum(const uint8_t *a, size_t n_a, const uint8_t *b, size_t n_b, const uint8_t *c, size_t n_c)
{
	const struct {
		const uint8_t *p;
		size_t n;
	} pieces[] = { { a, n_a }, { b, n_b }, { c, n_c } };
	uint32_t sum = 0;

	for (int i = 0; i < 3; i++) {
		for (size_t k = 0; k < pieces[i].n; k += 2) {
			sum += be(pieces[i].p + k, 2);
			if (sum > 0xffff)
				sum -= 0xffff;
		}
	}
	return (uint16_t)sum;
}

static void check_tcp(const uint8_t *tcp, uint16_t sport, uint16_t dport, uint32_t seq, uint32_t ack, uint8_t flags)
{
	assert_int_equal(be(tcp, 2), sport);
	assert_int_equal(be(tcp + 2, 2), dport);
	assert_int_equal(be(tcp + 4, 4), seq);
	assert_int_equal(be(tcp + 8, 4), ack);
	assert_int_equal(tcp[12], 5 << 4);
	assert_int_equal(tcp[13], flags);
	assert_int_equal(be(tcp + 18, 2), 0);
}

static void a_challenge_over_ipv4_is_a_bare_ack_of_the_syn_alone(void **state)
{
	struct flow f = flow_of("192.0.2.7", 40001, "203.0.113.10", 443, 0x01020304);
	static const uint8_t addresses[] = { 203, 0, 113, 10, 192, 0, 2, 7 };
	uint8_t out[SEGMENT_BYTES_MAX], pseudo[4] = { 0, IPPROTO_TCP, 0, 20 };

	(void)state;
	assert_int_equal(segment_challenge(out, &f, 0xdeadbeef), 40);
	assert_int_equal(out[0], 0x45);
	assert_int_equal(be(out + 2, 2), 40);
	assert_int_equal(be(out + 6, 2), 0x4000);
	assert_int_equal(out[8], 64);
	assert_int_equal(out[9], IPPROTO_TCP);
	assert_memory_equal(out + 12, addresses, 8);
	assert_int_equal(checksum(out, 20, NULL, 0, NULL, 0), 0xffff);
	check_tcp(out + 20, 443, 40001, 0xdeadbeef, 0x01020305, 0x10);
	assert_int_equal(checksum(out + 12, 8, pseudo, 4, out + 20, 20), 0xffff);
}

static void a_challenge_over_ipv6_is_the_same_behind_another_header(void **state)
{
	struct flow f = flow_of("2001:db8::7", 40001, "2001:db8:ff::10", 443, 0x01020304);
	uint8_t out[SEGMENT_BYTES_MAX], pseudo[8] = { 0, 0, 0, 20, 0, 0, 0, IPPROTO_TCP };

	(void)state;
	assert_int_equal(segment_challenge(out, &f, 0xdeadbeef), 60);
	assert_int_equal(be(out, 4), 6U << 28);
	assert_int_equal(be(out + 4, 2), 20);
	assert_int_equal(out[6], IPPROTO_TCP);
	assert_int_equal(out[7], 64);
	assert_memory_equal(out + 8, &f.key.vip, 16);
	assert_memory_equal(out + 24, &f.key.client, 16);
	check_tcp(out + 40, 443, 40001, 0xdeadbeef, 0x01020305, 0x10);
	assert_int_equal(checksum(out + 8, 32, pseudo, 8, out + 40, 20), 0xffff);
}

static void a_refusal_resets_and_acknowledges_the_syn(void **state)
{
	struct flow v4 = flow_of("192.0.2.7", 40001, "203.0.113.10", 443, 0xffffffff);
	struct flow v6 = flow_of("2001:db8::7", 40001, "2001:db8:ff::10", 443, 7);
	uint8_t out[SEGMENT_BYTES_MAX];

	(void)state;
	/* RFC 9293 3.10.7.1: sequence number 0, and the number after the SYN's, which may be 0 too. */
	assert_int_equal(segment_refuse(out, &v4), 40);
	check_tcp(out + 20, 443, 40001, 0, 0, 0x14);
	assert_int_equal(segment_refuse(out, &v6), 60);
	check_tcp(out + 40, 443, 40001, 0, 8, 0x14);
}

static void checksums_hold_for_all_sorts_of_numbers(void **state)
{
	uint32_t x = 1;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct flow f = flow_of("0.0.0.0", 0, "0.0.0.0", 0, 0);
		uint8_t out[SEGMENT_BYTES_MAX], pseudo[4] = { 0, IPPROTO_TCP, 0, 20 };

		x = x * 1664525 + 1013904223; /* Knuth, TAOCP 2, 3.3.4: only that they vary matters */
		f.key.client.w[3] = i % 3 ? x : 0xffffffff;
		f.key.vip.w[3] = i % 5 ? x * 3 : 0;
		f.key.client_port = (uint16_t)(x >> 8);
		f.isn = x * 7;
		segment_challenge(out, &f, x * 5);
		assert_int_equal(checksum(out, 20, NULL, 0, NULL, 0), 0xffff);
		assert_int_equal(checksum(out + 12, 8, pseudo, 4, out + 20, 20), 0xffff);
	}
}

static const struct probe question = { .bfd = { .vers_diag = 0x20, .my_discriminator = 0x78563412 },
				       .trailer = { .round = 7, .tag = 0xfedcba9876543210 } };

static void an_echo_over_ipv4_goes_from_us_to_us(void **state)
{
	static const uint8_t addresses[] = { 192, 0, 2, 7, 192, 0, 2, 7 }, pseudo[] = { 0, IPPROTO_UDP, 0, 80 };
	struct shunt_addr local;
	uint8_t out[ECHO_BYTES_MAX];

	(void)state;
	assert_int_equal(address_parse(&local, "192.0.2.7"), 0);
	assert_int_equal(echo_write(out, &local, 61785, 0xc0, &question), 100);
	assert_int_equal(out[0], 0x45);
	assert_int_equal(out[1], 0xc0);
	assert_int_equal(be(out + 2, 2), 100);
	assert_int_equal(out[8], 255);
	assert_int_equal(out[9], IPPROTO_UDP);
	assert_memory_equal(out + 12, addresses, 8);
	assert_int_equal(checksum(out, 20, NULL, 0, NULL, 0), 0xffff);
	assert_int_equal(be(out + 20, 2), 61785);
	assert_int_equal(be(out + 22, 2), 3785);
	assert_int_equal(be(out + 24, 2), 80);
	assert_int_equal(checksum(out + 12, 8, pseudo, 4, out + 20, 80), 0xffff);
	assert_memory_equal(out + 28, &question, sizeof(question));
}

static void an_echo_over_ipv6_is_the_same_behind_another_header(void **state)
{
	static const uint8_t pseudo[] = { 0, 0, 0, 80, 0, 0, 0, IPPROTO_UDP };
	struct shunt_addr local;
	uint8_t out[ECHO_BYTES_MAX];

	(void)state;
	assert_int_equal(address_parse(&local, "2001:db8::7"), 0);
	assert_int_equal(echo_write(out, &local, 61785, 0xc0, &question), 120);
	assert_int_equal(be(out, 4), 6U << 28 | 0xc0U << 20);
	assert_int_equal(be(out + 4, 2), 80);
	assert_int_equal(out[6], IPPROTO_UDP);
	assert_int_equal(out[7], 255);
	assert_memory_equal(out + 8, &local, 16);
	assert_memory_equal(out + 24, &local, 16);
	assert_int_equal(checksum(out + 8, 32, pseudo, 8, out + 40, 80), 0xffff);
	assert_memory_equal(out + 48, &question, sizeof(question));
}

/* RFC 768: 0 says that there is no checksum, so a sum that comes to 0 is sent as 65535. */
static void an_echo_always_has_a_checksum(void **state)
{
	struct probe probe = question;
	struct shunt_addr local;
	uint8_t out[ECHO_BYTES_MAX];
	bool was_all_ones = false;

	(void)state;
	assert_int_equal(address_parse(&local, "192.0.2.7"), 0);
	for (uint32_t i = 0; i < 65536; i++) {
		probe.trailer.cause = (__be16)i;
		echo_write(out, &local, 61785, 0xc0, &probe);
		assert_int_not_equal(be(out + 26, 2), 0);
		was_all_ones = was_all_ones || be(out + 26, 2) == 0xffff;
	}
	assert_true(was_all_ones);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_challenge_over_ipv4_is_a_bare_ack_of_the_syn_alone),
		cmocka_unit_test(a_challenge_over_ipv6_is_the_same_behind_another_header),
		cmocka_unit_test(a_refusal_resets_and_acknowledges_the_syn),
		cmocka_unit_test(checksums_hold_for_all_sorts_of_numbers),
		cmocka_unit_test(an_echo_over_ipv4_goes_from_us_to_us),
		cmocka_unit_test(an_echo_over_ipv6_is_the_same_behind_another_header),
		cmocka_unit_test(an_echo_always_has_a_checksum),
	};

	return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
