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

static const struct admission_limits limits = {
	.gap_ns = 300 * US, .first_answers = 3, .hold_ns = 1000 * MS, .hold_max_ns = 6000 * MS
};

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

/* Up since START - UP_FOR, and fallen at START. */
#define UP_FOR (100 * MS)
static struct admission fallen(void)
{
	struct admission a = { 0 };

	admission_rise(&a, START - UP_FOR);
	admission_fall(&a, &limits, START);
	return a;
}

static void a_new_backend_is_admitted_after_three_answers(void **state)
{
	struct admission a = { 0 };
	uint64_t now = START;

	(void)state;
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
	struct admission a = { 0 };
	uint64_t now = START;

	(void)state;
	for (uint64_t answers = 1; answers < 100; answers++) {
		now += limits.gap_ns + 1; /* each answer a gap after the one before */
		assert_false(admission_update(&a, &limits, now, answers - 1, now - limits.gap_ns - 1));
		assert_false(admission_update(&a, &limits, now, answers, now));
	}
}

static void a_backend_that_was_up_is_admitted_after_hold_and_not_before(void **state)
{
	struct admission a = fallen();
	uint64_t answers = 700;

	(void)state;
	assert_int_equal(answer_from_until(&a, START, START + 2000 * MS, &answers), START + limits.hold_ns);
}

static void a_gap_begins_the_hold_anew(void **state)
{
	struct admission a = fallen();
	uint64_t answers = 700, last = START + 900 * MS;

	(void)state;
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
	const struct admission_limits no_hold = {
		.gap_ns = 300 * US, .first_answers = 3, .hold_ns = 0, .hold_max_ns = 6000 * MS
	};
	struct admission a = fallen();

	(void)state;
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
	struct admission a = { 0 };

	(void)state;
	assert_false(admission_update(&a, &limits, START, 10, START + 50 * US));
	assert_true(admission_update(&a, &limits, START + 400 * US, 14, START + 450 * US));
}

static void a_count_that_went_back_begins_anew(void **state)
{
	struct admission a = { 0 };

	(void)state;
	assert_false(admission_update(&a, &limits, START, 700, START));
	assert_false(admission_update(&a, &limits, START + 100 * US, 1, START + 100 * US));
	assert_false(admission_update(&a, &limits, START + 200 * US, 3, START + 200 * US));
	assert_true(admission_update(&a, &limits, START + 300 * US, 4, START + 300 * US));
}

static void a_restart_forgets_what_was_answered(void **state)
{
	struct admission a = fallen();
	uint64_t answers = 0;

	(void)state;
	assert_int_equal(answer_from_until(&a, START, START + 999 * MS, &answers), 0);
	admission_restart(&a);
	assert_int_equal(answer_from_until(&a, START + 1000 * MS, START + 1999 * MS, &answers), 0);
	assert_int_equal(answer_from_until(&a, START + 2000 * MS, START + 2000 * MS, &answers), START + 2000 * MS);
}

/* Admit it at its hold's end, let it stay up for `up_ns` and fall; the hold it had to keep. */
static uint64_t return_and_fall(struct admission *a, uint64_t *now, uint64_t up_ns)
{
	uint64_t answers = 0, hold_ns = admission_hold_ns(a, &limits);
	uint64_t admitted = answer_from_until(a, *now, *now + 2 * limits.hold_max_ns, &answers);

	assert_int_equal(admitted - *now, hold_ns);
	admission_rise(a, admitted);
	*now = admitted + up_ns;
	admission_fall(a, &limits, *now);
	return hold_ns;
}

static void hold_doubles_with_each_fall_up_to_hold_max(void **state)
{
	static const uint64_t holds_s[] = { 1, 2, 4, 6, 6, 6 };
	struct admission a = fallen();
	uint64_t now = START;

	(void)state;
	for (size_t i = 0; i < sizeof(holds_s) / sizeof(holds_s[0]); i++)
		assert_int_equal(return_and_fall(&a, &now, UP_FOR), holds_s[i] * 1000 * MS);
}

static void hold_begins_anew_after_it_stayed_up_for_hold_max(void **state)
{
	struct admission a = fallen();
	uint64_t now = START;

	(void)state;
	assert_int_equal(return_and_fall(&a, &now, limits.hold_max_ns - 1), 1000 * MS);
	assert_int_equal(return_and_fall(&a, &now, limits.hold_max_ns), 2000 * MS);
	assert_int_equal(return_and_fall(&a, &now, UP_FOR), 1000 * MS);
}

static void another_hold_in_the_configuration_counts_at_once(void **state)
{
	const struct admission_limits longer = {
		.gap_ns = 300 * US, .first_answers = 3, .hold_ns = 10000 * MS, .hold_max_ns = 10000 * MS
	};
	struct admission a = fallen();
	uint64_t now = START;

	(void)state;
	return_and_fall(&a, &now, UP_FOR);
	assert_int_equal(admission_hold_ns(&a, &limits), 2000 * MS);
	assert_int_equal(admission_hold_ns(&a, &longer), 10000 * MS);
}

static void a_hold_of_nothing_stays_nothing(void **state)
{
	const struct admission_limits none = {
		.gap_ns = 300 * US, .first_answers = 3, .hold_ns = 0, .hold_max_ns = 6000 * MS
	};
	struct admission a = fallen();

	(void)state;
	for (int i = 0; i < 100; i++)
		admission_fall(&a, &none, START);
	assert_int_equal(admission_hold_ns(&a, &none), 0);
}

static void what_is_left_of_the_hold_shrinks_while_it_answers(void **state)
{
	struct admission a = fallen();

	(void)state;
	assert_int_equal(admission_left_ns(&a, &limits, START + 500 * MS), 1000 * MS); /* it doesn't */
	assert_false(admission_update(&a, &limits, START + 500 * MS, 10, START + 500 * MS));
	assert_int_equal(admission_left_ns(&a, &limits, START + 500 * MS), 1000 * MS);
	assert_int_equal(admission_left_ns(&a, &limits, START + 800 * MS), 700 * MS);
	assert_int_equal(admission_left_ns(&a, &limits, START + 9000 * MS), 0);
}

/* Where answers are seconds apart, the newest from before the fall is no gap yet. */
static void an_answer_from_before_the_fall_begins_no_count(void **state)
{
	const struct admission_limits seldom = {
		.gap_ns = 4000 * MS, .first_answers = 0, .hold_ns = 1000 * MS, .hold_max_ns = 6000 * MS
	};
	struct admission a = { 0 };

	(void)state;
	assert_true(admission_update(&a, &seldom, START, 1, START)); /* new: the first one will do */
	admission_rise(&a, START);
	admission_fall(&a, &seldom, START + 100 * MS);
	assert_false(admission_update(&a, &seldom, START + 110 * MS, 1, START));
	assert_false(a.answering_since_ns);
	assert_false(admission_update(&a, &seldom, START + 2000 * MS, 2, START + 2000 * MS));
	assert_false(admission_update(&a, &seldom, START + 2900 * MS, 3, START + 2900 * MS)); /* the hold isn't over */
	assert_true(admission_update(&a, &seldom, START + 3000 * MS, 3, START + 2900 * MS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_backend_is_admitted_after_three_answers),
		cmocka_unit_test(a_new_backends_answers_count_in_a_row_only),
		cmocka_unit_test(a_backend_that_was_up_is_admitted_after_hold_and_not_before),
		cmocka_unit_test(a_gap_begins_the_hold_anew),
		cmocka_unit_test(an_answer_from_before_the_fall_admits_nobody),
		cmocka_unit_test(an_answer_from_before_the_fall_begins_no_count),
		cmocka_unit_test(an_answer_that_overtook_the_clock_is_no_gap),
		cmocka_unit_test(a_count_that_went_back_begins_anew),
		cmocka_unit_test(a_restart_forgets_what_was_answered),
		cmocka_unit_test(hold_doubles_with_each_fall_up_to_hold_max),
		cmocka_unit_test(hold_begins_anew_after_it_stayed_up_for_hold_max),
		cmocka_unit_test(another_hold_in_the_configuration_counts_at_once),
		cmocka_unit_test(a_hold_of_nothing_stays_nothing),
		cmocka_unit_test(what_is_left_of_the_hold_shrinks_while_it_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
