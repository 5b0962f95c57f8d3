// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * admission_test.c - the way back up, with a clock of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/admission.h"

#define US 1000ULL
#define MS 1000000ULL
#define START (5000 * MS)

static const struct admission_limits limits = { .gap_ns = 300 * US, .hold_ns = 1000 * MS };

/* Answers each 100 us from `from` until `until`, evaluated each millisecond. The first time of admission, 0: none. */
static uint64_t answer_from_until(struct admission *a, uint64_t from, uint64_t until, uint64_t *answers)
{
	for (uint64_t now = from; now <= until; now += MS) {
		if (admission_update(a, &limits, now, *answers, now))
			return now;
		*answers += 10;
	}
	return 0;
}

static void a_new_backend_is_admitted_after_three_answers(void **state)
{
	struct admission a;
	uint64_t now = START;

	(void)state;
	admission_reset(&a, false);
	assert_false(admission_update(&a, &limits, now, 0, 0)); /* never answered */
	assert_false(a.answering_since_ns);
	assert_false(admission_update(&a, &limits, limits.gap_ns / 2, 0, 0)); /* not even on a clock that just began */
	assert_false(a.answering_since_ns);
	/* The one that is there at first, and three more. */
	for (uint64_t answers = 1; answers <= 4; answers++) {
		now += 100 * US;
		assert_int_equal(admission_update(&a, &limits, now, answers, now), answers == 4);
	}
}

static void a_new_backends_answers_count_in_a_row_only(void **state)
{
	struct admission a;
	uint64_t now = START;

	(void)state;
	admission_reset(&a, false);
	for (uint64_t answers = 1; answers < 100; answers++) {
		now += limits.gap_ns + 1; /* each answer a gap after the one before */
		assert_false(admission_update(&a, &limits, now, answers - 1, now - limits.gap_ns - 1));
		assert_false(admission_update(&a, &limits, now, answers, now));
	}
}

static void a_backend_that_was_up_is_admitted_after_hold_and_not_before(void **state)
{
	struct admission a;
	uint64_t answers = 700;

	(void)state;
	admission_reset(&a, true);
	assert_int_equal(answer_from_until(&a, START, START + 2000 * MS, &answers), START + limits.hold_ns);
}

static void a_gap_begins_the_hold_anew(void **state)
{
	struct admission a;
	uint64_t answers = 700, last = START + 900 * MS;

	(void)state;
	admission_reset(&a, true);
	assert_int_equal(answer_from_until(&a, START, last, &answers), 0);
	assert_false(admission_update(&a, &limits, last + limits.gap_ns, answers, last)); /* not yet one */
	assert_int_equal(a.answering_since_ns, START);
	assert_false(admission_update(&a, &limits, last + limits.gap_ns + 1, answers, last));
	assert_int_equal(a.answering_since_ns, 0);
	/* Counted from when it is seen, not from the answer. */
	assert_false(admission_update(&a, &limits, last + 5 * MS, answers, last + 5 * MS - 200 * US));
	assert_int_equal(a.answering_since_ns, last + 5 * MS);
	assert_false(admission_update(&a, &limits, last + 9 * MS, answers, last + 5 * MS - 200 * US));
	last += 10 * MS;
	assert_int_equal(answer_from_until(&a, last, last + 2000 * MS, &answers), last + limits.hold_ns);
}

static void an_answer_from_before_the_fall_admits_nobody(void **state)
{
	const struct admission_limits no_hold = { .gap_ns = 300 * US, .hold_ns = 0 };
	struct admission a;

	(void)state;
	admission_reset(&a, true);
	/* The last answer before it went down is still fresh. */
	assert_false(admission_update(&a, &no_hold, START, 700, START - 200 * US));
	assert_false(admission_update(&a, &no_hold, START + 100 * US, 700, START - 200 * US));
	assert_false(admission_update(&a, &no_hold, START + 200 * US, 700, START - 200 * US));
	/* A new one. */
	assert_false(admission_update(&a, &no_hold, START + 300 * US, 701, START + 300 * US));
	assert_true(admission_update(&a, &no_hold, START + 400 * US, 702, START + 400 * US));
}

static void an_answer_that_overtook_the_clock_is_no_gap(void **state)
{
	struct admission a;

	(void)state;
	admission_reset(&a, false);
	assert_false(admission_update(&a, &limits, START, 10, START + 50 * US));
	assert_true(admission_update(&a, &limits, START + 400 * US, 14, START + 450 * US));
}

static void a_count_that_went_back_begins_anew(void **state)
{
	struct admission a;

	(void)state;
	admission_reset(&a, false);
	assert_false(admission_update(&a, &limits, START, 700, START));
	assert_false(admission_update(&a, &limits, START + 100 * US, 1, START + 100 * US));
	assert_false(admission_update(&a, &limits, START + 200 * US, 3, START + 200 * US));
	assert_true(admission_update(&a, &limits, START + 300 * US, 4, START + 300 * US));
}

static void a_reset_forgets_all_but_whether_it_was_up(void **state)
{
	struct admission a;
	uint64_t answers = 0;

	(void)state;
	admission_reset(&a, true);
	assert_int_equal(answer_from_until(&a, START, START + 999 * MS, &answers), 0);
	admission_reset(&a, true);
	assert_true(a.was_up);
	assert_int_equal(answer_from_until(&a, START + 1000 * MS, START + 1999 * MS, &answers), 0);
	admission_reset(&a, false);
	assert_false(a.was_up);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_backend_is_admitted_after_three_answers),
		cmocka_unit_test(a_new_backends_answers_count_in_a_row_only),
		cmocka_unit_test(a_backend_that_was_up_is_admitted_after_hold_and_not_before),
		cmocka_unit_test(a_gap_begins_the_hold_anew),
		cmocka_unit_test(an_answer_from_before_the_fall_admits_nobody),
		cmocka_unit_test(an_answer_that_overtook_the_clock_is_no_gap),
		cmocka_unit_test(a_count_that_went_back_begins_anew),
		cmocka_unit_test(a_reset_forgets_all_but_whether_it_was_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
