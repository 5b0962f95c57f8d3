// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * availability_test.c - figures out of made-up histories, the time line they are on, and moments as text.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/availability.h"
#include "core/wall_time.h"

#define S 1000000000LL
#define GPU1 0
#define GPU2 1
#define STRANGER 2

/* A row of a history: seconds, whose, how it stands from then on. */
struct row {
	int64_t s;
	int object; /* GAP: nobody looks */
	enum standing standing;
};
#define GAP -1
#define END              \
	{                \
		-1, 0, 0 \
	}

static const uint32_t group_of[] = { 0, 0, NO_GROUP };
static struct availability gpu[3], pool;

/* Figures of a history from `from` to `now`, seconds, of which n_max changes are kept. */
static void figure(const struct row *rows, int64_t from, int64_t now, size_t n_max)
{
	struct history *h = history_new(n_max);

	assert_non_null(h);
	for (; rows->s >= 0; rows++)
		assert_int_equal(rows->object == GAP
					 ? history_gap(h, rows->s * S)
					 : history_add(h, rows->s * S, (uint32_t)rows->object, rows->standing),
				 0);
	assert_int_equal(history_figures(h, from * S, now * S, group_of, gpu, 3, &pool, 1), 0);
	history_free(h);
}

/* Seconds up, down, drained, unknown. */
static void assert_times(const struct availability *a, uint64_t up, uint64_t down, uint64_t drained, uint64_t unknown)
{
	assert_int_equal(a->time_ns[STANDING_UP], up * S);
	assert_int_equal(a->time_ns[STANDING_DOWN], down * S);
	assert_int_equal(a->time_ns[STANDING_DRAINED], drained * S);
	assert_int_equal(a->time_ns[STANDING_UNKNOWN], unknown * S);
}

static void up_times_end_in_failures_and_outages_in_service(void **state)
{
	static const struct row rows[] = { { 0, GPU1, STANDING_UP },   { 100, GPU1, STANDING_DOWN },
					   { 110, GPU1, STANDING_UP }, { 310, GPU1, STANDING_DOWN },
					   { 340, GPU1, STANDING_UP }, END };

	(void)state;
	figure(rows, 0, 1000, 100);
	assert_times(&gpu[GPU1], 100 + 200 + 660, 40, 0, 0);
	assert_int_equal(gpu[GPU1].failures, 2);
	assert_int_equal(gpu[GPU1].up_times_ns, 300 * S); /* MTTF: 150 s; what goes on still is not in it */
	assert_int_equal(gpu[GPU1].repairs, 2);
	assert_int_equal(gpu[GPU1].repairs_ns, 40 * S);
}

static void an_outage_that_goes_on_is_a_failure_and_no_repair(void **state)
{
	static const struct row rows[] = { { 0, GPU1, STANDING_UP }, { 100, GPU1, STANDING_DOWN }, END };

	(void)state;
	figure(rows, 0, 150, 100);
	assert_times(&gpu[GPU1], 100, 50, 0, 0);
	assert_int_equal(gpu[GPU1].failures, 1);
	assert_int_equal(gpu[GPU1].repairs, 0);
}

static void who_never_came_up_has_not_failed(void **state)
{
	static const struct row rows[] = { { 10, GPU1, STANDING_DOWN }, { 20, GPU1, STANDING_UP }, END };

	(void)state;
	figure(rows, 0, 30, 100);
	assert_times(&gpu[GPU1], 10, 10, 0, 0);
	assert_int_equal(gpu[GPU1].failures, 0);
	assert_int_equal(gpu[GPU1].repairs, 0);
}

static void drained_time_is_no_failure_and_interrupts_an_up_time_without_ending_it(void **state)
{
	static const struct row rows[] = { { 0, GPU1, STANDING_UP },
					   { 100, GPU1, STANDING_DRAINED },
					   { 400, GPU1, STANDING_UP },
					   { 450, GPU1, STANDING_DOWN },
					   END };

	(void)state;
	figure(rows, 0, 450, 100);
	assert_times(&gpu[GPU1], 150, 0, 300, 0);
	assert_int_equal(gpu[GPU1].failures, 1);
	assert_int_equal(gpu[GPU1].up_times_ns, 150 * S);
}

static void an_outage_that_somebody_drains_is_in_no_mean(void **state)
{
	static const struct row rows[] = { { 0, GPU1, STANDING_UP },       { 10, GPU1, STANDING_DOWN },
					   { 20, GPU1, STANDING_DRAINED }, { 50, GPU1, STANDING_DOWN },
					   { 60, GPU1, STANDING_UP },      END };

	(void)state;
	figure(rows, 0, 100, 100);
	assert_times(&gpu[GPU1], 50, 20, 30, 0);
	assert_int_equal(gpu[GPU1].failures, 1);
	assert_int_equal(gpu[GPU1].repairs, 0);
}

static void time_while_no_shuntd_ran_counts_as_neither(void **state)
{
	static const struct row rows[] = { { 0, GPU1, STANDING_UP },
					   { 100, GAP, 0 },
					   { 5000, GPU1, STANDING_UP },
					   { 5050, GPU1, STANDING_DOWN },
					   END };

	(void)state;
	figure(rows, 0, 5050, 100);
	assert_times(&gpu[GPU1], 150, 0, 0, 4900);
	assert_int_equal(gpu[GPU1].failures, 1);
	assert_int_equal(gpu[GPU1].up_times_ns, 150 * S);
}

static void a_failure_that_nobody_saw_ends_an_up_time_and_counts_in_no_mean(void **state)
{
	static const struct row rows[] = { { 0, GPU1, STANDING_UP },     { 100, GAP, 0 },
					   { 200, GPU1, STANDING_DOWN }, { 300, GPU1, STANDING_UP },
					   { 350, GPU1, STANDING_DOWN }, END };

	(void)state;
	figure(rows, 0, 360, 100);
	assert_times(&gpu[GPU1], 150, 110, 0, 100);
	assert_int_equal(gpu[GPU1].failures, 1); /* the one at 350 */
	assert_int_equal(gpu[GPU1].up_times_ns, 50 * S);
	assert_int_equal(gpu[GPU1].repairs, 0);
}

static void an_outage_that_a_gap_interrupts_is_in_no_mean(void **state)
{
	static const struct row rows[] = {
		{ 0, GPU1, STANDING_UP }, { 10, GPU1, STANDING_DOWN }, { 20, GAP, 0 }, { 30, GPU1, STANDING_UP }, END
	};

	(void)state;
	figure(rows, 0, 40, 100);
	assert_times(&gpu[GPU1], 20, 10, 0, 10);
	assert_int_equal(gpu[GPU1].repairs, 0);
}

static void a_window_counts_its_own_time_and_what_ends_in_it(void **state)
{
	static const struct row rows[] = { { 0, GPU1, STANDING_UP },   { 100, GPU1, STANDING_DOWN },
					   { 110, GPU1, STANDING_UP }, { 310, GPU1, STANDING_DOWN },
					   { 340, GPU1, STANDING_UP }, END };

	(void)state;
	figure(rows, 320, 400, 100);
	assert_times(&gpu[GPU1], 60, 20, 0, 0);
	assert_int_equal(gpu[GPU1].failures, 0);
	assert_int_equal(gpu[GPU1].repairs, 1);
	assert_int_equal(gpu[GPU1].repairs_ns, 30 * S); /* whole, though it began before */
	figure(rows, 300, 400, 100);
	assert_int_equal(gpu[GPU1].failures, 1);
	assert_int_equal(gpu[GPU1].up_times_ns, 200 * S);
}

static void a_window_older_than_the_history_is_as_long_as_that(void **state)
{
	static const struct row rows[] = { { 50, GPU1, STANDING_UP }, { 60, GPU2, STANDING_UP }, END };

	(void)state;
	figure(rows, 10, 100, 100);
	assert_times(&gpu[GPU1], 50, 0, 0, 0);
	assert_times(&gpu[GPU2], 40, 0, 0, 10); /* its first 10 seconds are unknown, not those before the history */
}

static void a_pool_is_available_while_one_of_its_backends_is(void **state)
{
	static const struct row rows[] = { { 0, GPU1, STANDING_UP },     { 0, GPU2, STANDING_UP },
					   { 0, STRANGER, STANDING_UP }, { 100, GPU1, STANDING_DOWN },
					   { 150, GPU2, STANDING_DOWN }, { 157, GPU1, STANDING_UP },
					   { 200, GPU2, STANDING_UP },   END };

	(void)state;
	figure(rows, 0, 300, 100);
	assert_times(&pool, 293, 7, 0, 0);
	assert_int_equal(pool.failures, 1);
	assert_int_equal(pool.up_times_ns, 150 * S);
	assert_int_equal(pool.repairs_ns, 7 * S);
}

static void a_pool_whose_last_backend_is_drained_has_not_failed(void **state)
{
	static const struct row rows[] = { { 0, GPU1, STANDING_UP },    { 0, GPU2, STANDING_UP },
					   { 10, GPU1, STANDING_DOWN }, { 20, GPU2, STANDING_DRAINED },
					   { 30, GPU1, STANDING_UP },   END };

	(void)state;
	figure(rows, 0, 40, 100);
	assert_times(&pool, 30, 0, 10, 0);
	assert_int_equal(pool.failures, 0);
}

static void of_a_pool_nobody_knows_while_nobody_knows_of_one_of_its_backends(void **state)
{
	static const struct row rows[] = { { 0, GPU1, STANDING_UP },
					   { 0, GPU2, STANDING_UP },
					   { 10, GAP, 0 },
					   { 20, GPU1, STANDING_DOWN },
					   { 25, GPU2, STANDING_DOWN },
					   { 30, GPU2, STANDING_UP },
					   END };

	(void)state;
	figure(rows, 0, 40, 100);
	assert_times(&pool, 20, 5, 0, 15);
	assert_int_equal(pool.failures, 0);
}

static void what_a_long_history_forgot_still_says_how_it_stood(void **state)
{
	static const struct row rows[] = { { 0, GPU1, STANDING_UP },
					   { 0, GPU2, STANDING_UP },
					   { 10, GPU1, STANDING_DOWN },
					   { 20, GPU1, STANDING_UP },
					   { 30, GPU1, STANDING_DOWN },
					   { 40, GPU1, STANDING_UP },
					   END };

	(void)state;
	figure(rows, 0, 50, 4); /* of the first four two are left when the fifth comes */
	assert_times(&gpu[GPU2], 40, 0, 0, 0); /* up since long before the history's begin, now at 10 s */
	assert_times(&gpu[GPU1], 20, 20, 0, 0);
	assert_int_equal(gpu[GPU1].failures, 2);
}

static void nothing_known_is_no_figure(void **state)
{
	static const struct row rows[] = { END };

	(void)state;
	figure(rows, 0, 10, 100);
	assert_times(&gpu[GPU1], 0, 0, 0, 10);
	assert_times(&pool, 0, 0, 0, 10);
}

/* ---- the time line ---- */

static int64_t at(struct timeline *line, uint64_t boot, int64_t mono, int64_t wall)
{
	const struct moment m = { .boot = boot, .mono_ns = (uint64_t)(mono * S), .wall_ns = wall * S };

	return timeline_at(line, &m) / S;
}

static void a_step_of_the_clock_within_a_boot_is_no_time(void **state)
{
	struct timeline line = { 0 };

	(void)state;
	assert_int_equal(at(&line, 1, 500, 1000), 0);
	assert_int_equal(at(&line, 1, 510, 5000), 10);
	assert_int_equal(at(&line, 1, 520, 200), 20);
	assert_int_equal(at(&line, 1, 515, 195), 20); /* told a little late */
	assert_int_equal(at(&line, 1, 530, 210), 30);
}

static void from_boot_to_boot_the_wall_clock_says_how_long_and_never_goes_back(void **state)
{
	struct timeline line = { 0 };

	(void)state;
	assert_int_equal(at(&line, 1, 500, 1000), 0);
	assert_int_equal(at(&line, 2, 3, 1060), 60);
	assert_int_equal(at(&line, 3, 3, 900), 60);
	assert_int_equal(at(&line, 3, 13, 910), 70);
}

static void a_moment_of_the_wall_clock_lies_between_the_newest_and_the_next(void **state)
{
	struct timeline line = { 0 };
	const struct moment end = { .boot = 1, .mono_ns = 600 * S, .wall_ns = 1100 * S };

	(void)state;
	assert_int_equal(timeline_between(&line, 1050 * S, &end), 0);
	at(&line, 1, 500, 1000);
	assert_int_equal(timeline_between(&line, 1050 * S, &end), 50 * S);
	assert_int_equal(timeline_between(&line, 900 * S, &end), 0);
	assert_int_equal(timeline_between(&line, 9000 * S, &end), 100 * S);
}

/* ---- moments as text ---- */

static void a_moment_is_read_as_it_is_written(void **state)
{
	char text[WALL_TIME_TEXT_MAX];
	int64_t ns;

	(void)state;
	assert_string_equal(wall_time_format(1795244399000001999, text, sizeof(text)), "2026-11-21T06:59:59.000001Z");
	assert_int_equal(wall_time_parse(&ns, text), 0);
	assert_int_equal(ns, 1795244399000001000);
}

static void every_spelling_of_rfc_3339_is_read(void **state)
{
	static const char *const texts[] = { "2026-11-21T06:59:59Z", "2026-11-21t06:59:59.000z",
					     "2026-11-21 07:59:59+01:00", "2026-11-20T21:29:59.0-09:30" };
	int64_t ns;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		assert_int_equal(wall_time_parse(&ns, texts[i]), 0);
		assert_int_equal(ns, 1795244399 * S);
	}
}

static void what_is_no_moment_is_refused(void **state)
{
	static const char *const texts[] = { "",
					     "now",
					     "1h",
					     "2026-11-21",
					     "2026-11-21T06:59Z",
					     "2026-11-21T06:59:59",
					     "2026-11-21T06:59:59.Z",
					     "2026-11-21T06:59:59Z ",
					     "2026-11-21T06:59:59+1:00",
					     "2026-11-21T06:59:59+24:00",
					     "2026-13-21T06:59:59Z",
					     "2026-02-30T06:59:59Z",
					     "2026-11-21T24:00:00Z",
					     "1969-12-31T23:59:59Z",
					     "1970-01-01T00:00:00+01:00",
					     "20261121T065959Z" };
	int64_t ns;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		assert_int_equal(wall_time_parse(&ns, texts[i]), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(up_times_end_in_failures_and_outages_in_service),
		cmocka_unit_test(an_outage_that_goes_on_is_a_failure_and_no_repair),
		cmocka_unit_test(who_never_came_up_has_not_failed),
		cmocka_unit_test(drained_time_is_no_failure_and_interrupts_an_up_time_without_ending_it),
		cmocka_unit_test(an_outage_that_somebody_drains_is_in_no_mean),
		cmocka_unit_test(time_while_no_shuntd_ran_counts_as_neither),
		cmocka_unit_test(a_failure_that_nobody_saw_ends_an_up_time_and_counts_in_no_mean),
		cmocka_unit_test(an_outage_that_a_gap_interrupts_is_in_no_mean),
		cmocka_unit_test(a_window_counts_its_own_time_and_what_ends_in_it),
		cmocka_unit_test(a_window_older_than_the_history_is_as_long_as_that),
		cmocka_unit_test(a_pool_is_available_while_one_of_its_backends_is),
		cmocka_unit_test(a_pool_whose_last_backend_is_drained_has_not_failed),
		cmocka_unit_test(of_a_pool_nobody_knows_while_nobody_knows_of_one_of_its_backends),
		cmocka_unit_test(what_a_long_history_forgot_still_says_how_it_stood),
		cmocka_unit_test(nothing_known_is_no_figure),
		cmocka_unit_test(a_step_of_the_clock_within_a_boot_is_no_time),
		cmocka_unit_test(from_boot_to_boot_the_wall_clock_says_how_long_and_never_goes_back),
		cmocka_unit_test(a_moment_of_the_wall_clock_lies_between_the_newest_and_the_next),
		cmocka_unit_test(a_moment_is_read_as_it_is_written),
		cmocka_unit_test(every_spelling_of_rfc_3339_is_read),
		cmocka_unit_test(what_is_no_moment_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
