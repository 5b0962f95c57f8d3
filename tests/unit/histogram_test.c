// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * histogram_test.c - times counted as OpenMetrics wants them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/histogram.h"

static void limits_rise_by_a_quarter_or_so_from_10_us_to_10_s(void **state)
{
	(void)state;
	assert_int_equal(histogram_limit_ns(0), 10000);
	assert_int_equal(histogram_limit_ns(20), 1000000);
	assert_int_equal(histogram_limit_ns(HISTOGRAM_BUCKETS - 2), 10000000000);
	assert_true(histogram_limit_ns(HISTOGRAM_BUCKETS - 1) == UINT64_MAX);
	for (unsigned i = 1; i < HISTOGRAM_BUCKETS - 1; i++) {
		assert_true(histogram_limit_ns(i) > histogram_limit_ns(i - 1));
		assert_true(histogram_limit_ns(i) * 100 <= histogram_limit_ns(i - 1) * 128);
	}
}

static void a_time_counts_in_every_bucket_whose_limit_it_does_not_exceed(void **state)
{
	struct histogram h = { 0 };

	(void)state;
	histogram_add(&h, 1000000); /* the limit belongs to the bucket */
	histogram_add(&h, 1000001);
	assert_int_equal(h.buckets[19], 0);
	assert_int_equal(h.buckets[20], 1);
	assert_int_equal(h.buckets[21], 2);
	assert_int_equal(h.buckets[HISTOGRAM_BUCKETS - 1], 2);
	assert_int_equal(h.sum_ns, 2000001);
}

static void what_is_beyond_all_limits_counts_in_the_last_bucket_alone(void **state)
{
	struct histogram h = { 0 };

	(void)state;
	histogram_add(&h, 10000000001);
	assert_int_equal(h.buckets[HISTOGRAM_BUCKETS - 2], 0);
	assert_int_equal(h.buckets[HISTOGRAM_BUCKETS - 1], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_rise_by_a_quarter_or_so_from_10_us_to_10_s),
		cmocka_unit_test(a_time_counts_in_every_bucket_whose_limit_it_does_not_exceed),
		cmocka_unit_test(what_is_beyond_all_limits_counts_in_the_last_bucket_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
