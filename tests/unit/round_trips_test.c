// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * round_trips_test.c - quantiles out of counted round trips.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/round_trips.h"
#include "shunt/round_trip.h"

static void count(struct round_trips *t, uint64_t ns, uint32_t n)
{
	t->buckets[round_trip_bucket(ns)] += n;
}

static void quantile_is_above_what_it_tells_by_a_quarter_at_most(void **state)
{
	const struct round_trips before = { 0 };

	(void)state;
	for (uint64_t ns = 5000; ns < 190000000; ns += ns / 9) {
		struct round_trips now = { 0 };
		uint64_t median;

		count(&now, ns, 1);
		median = round_trips_quantile_ns(&now, &before, 500);
		assert_true(median > ns && median <= ns + ns / 4 + 1);
	}
}

static void quantiles_part_the_counts(void **state)
{
	struct round_trips now = { 0 }, before = { 0 };

	(void)state;
	count(&now, 20000, 989);
	count(&now, 900000, 11);
	assert_true(round_trips_quantile_ns(&now, &before, 500) < 26000);
	assert_true(round_trips_quantile_ns(&now, &before, 989) < 26000);
	assert_true(round_trips_quantile_ns(&now, &before, 990) > 900000);
}

static void what_was_counted_before_does_not_count(void **state)
{
	struct round_trips now = { 0 }, before = { 0 };

	(void)state;
	count(&before, 900000, UINT32_MAX - 5); /* and wraps */
	now = before;
	assert_int_equal(round_trips_quantile_ns(&now, &before, 500), 0);
	count(&now, 900000, 10);
	count(&now, 20000, 5);
	assert_true(round_trips_quantile_ns(&now, &before, 300) < 26000);
	assert_true(round_trips_quantile_ns(&now, &before, 500) > 900000);
}

static void the_longest_are_told_as_the_last_limit(void **state)
{
	struct round_trips now = { 0 };
	const struct round_trips before = { 0 };

	(void)state;
	count(&now, 5000000000, 1);
	assert_int_equal(round_trips_quantile_ns(&now, &before, 990), round_trip_limit_ns(ROUND_TRIP_BUCKETS - 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quantile_is_above_what_it_tells_by_a_quarter_at_most),
		cmocka_unit_test(quantiles_part_the_counts),
		cmocka_unit_test(what_was_counted_before_does_not_count),
		cmocka_unit_test(the_longest_are_told_as_the_last_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
