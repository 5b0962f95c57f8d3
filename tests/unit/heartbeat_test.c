// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * heartbeat_test.c - what both sides of a heartbeat compute alike: the tag, and the bucket of a round trip.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "shunt/heartbeat.h"
#include "shunt/round_trip.h"

/* Bytes 00 .. 0f, as in the appendix A of SipHash's paper, and 10 .. 1f. */
static const struct siphash_key key = { 0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL };
static const struct siphash_key other_key = { 0x1716151413121110ULL, 0x1f1e1d1c1b1a1918ULL };

static struct probe probe_make(void)
{
	return (struct probe){
		.bfd = { .vers_diag = BFD_VERS_DIAG(0),
			 .flags = BFD_UP << BFD_STATE_SHIFT | BFD_DEMAND,
			 .detect_mult = 3,
			 .length = BFD_LENGTH,
			 .my_discriminator = htonl(0x00042007),
			 .your_discriminator = htonl(0x0a00000b),
			 .desired_min_tx_us = htonl(100) },
		.trailer = { .magic = htonl(PROBE_MAGIC), .version = 1, .round = __builtin_bswap64(4711) },
	};
}

static uint64_t tag(const struct siphash_key *with, const struct probe *probe)
{
	return __builtin_bswap64(probe_tag(with, probe));
}

/* Computed by another implementation: `openssl mac ... SIPHASH` of the same bytes. */
static void a_tag_is_siphash_2_4_of_the_64_bytes_before_it(void **state)
{
	struct probe probe = probe_make(), count;
	uint8_t bytes[sizeof(count)];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	memcpy(&count, bytes, sizeof(count));
	assert_int_equal(tag(&key, &count), 0xacd2c40b8502cad8ULL);
	assert_int_equal(tag(&key, &probe), 0xf53c748763a01793ULL);
	assert_int_equal(tag(&other_key, &probe), 0xd80b9aa6c1e4f99aULL);
	probe.trailer.tag = ~0ULL;
	assert_int_equal(tag(&key, &probe), 0xf53c748763a01793ULL);
}

static void each_bit_before_the_tag_is_in_it(void **state)
{
	struct probe probe = probe_make();
	uint64_t right = tag(&key, &probe);
	struct probe altered;
	uint8_t bytes[sizeof(probe)];

	(void)state;
	for (size_t bit = 0; bit < 8 * offsetof(struct probe, trailer.tag); bit++) {
		memcpy(bytes, &probe, sizeof(bytes));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		memcpy(&altered, bytes, sizeof(altered));
		if (tag(&key, &altered) == right)
			fail_msg("bit %zu is not in the tag", bit);
	}
}

/* What another version must find where it is here. */
static void the_fields_of_every_version_are_where_they_were(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct probe), 72);
	assert_int_equal(offsetof(struct probe, trailer.magic), 24);
	assert_int_equal(offsetof(struct probe, trailer.version), 28);
	assert_int_equal(offsetof(struct probe, trailer.round), 32);
	assert_int_equal(offsetof(struct probe, trailer.tag), 64);
}

static void a_round_trip_is_below_its_bucket_s_limit_and_no_shorter_than_the_one_before(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < ROUND_TRIP_BUCKETS; i++) {
		uint64_t limit = round_trip_limit_ns(i), from = i ? round_trip_limit_ns(i - 1) : 0;

		assert_true(limit > from);
		assert_int_equal(round_trip_bucket(from), i);
		assert_int_equal(round_trip_bucket(from + (limit - from) / 2), i);
		assert_int_equal(round_trip_bucket(limit - 1), i);
	}
	assert_int_equal(round_trip_bucket(UINT64_MAX), ROUND_TRIP_BUCKETS - 1);
}

static void buckets_double_with_every_fourth(void **state)
{
	(void)state;
	assert_int_equal(round_trip_limit_ns(0), 4096);
	assert_int_equal(round_trip_limit_ns(ROUND_TRIP_BUCKETS - 2), 201326592);
	for (uint32_t i = 0; i + 4 < ROUND_TRIP_BUCKETS - 1; i++)
		assert_int_equal(round_trip_limit_ns(i + 4), 2 * round_trip_limit_ns(i));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tag_is_siphash_2_4_of_the_64_bytes_before_it),
		cmocka_unit_test(each_bit_before_the_tag_is_in_it),
		cmocka_unit_test(the_fields_of_every_version_are_where_they_were),
		cmocka_unit_test(a_round_trip_is_below_its_bucket_s_limit_and_no_shorter_than_the_one_before),
		cmocka_unit_test(buckets_double_with_every_fourth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
