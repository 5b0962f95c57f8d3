// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * pace_test.c - how often can be asked, with measurements and a clock of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/pace.h"

#define US 1000ULL
#define S 1000000000ULL
#define START (5000 * S)

static const struct pace_look calm = { .configured_ns = 100 * US, .cost_ns = 10 * US, .n_rounds = 10000, .n_late = 20 };

/* Looks alike, a second apart, until something changes: how many, and what. */
static int looks_until(struct pace *p, const struct pace_look *look, uint64_t *now, int most, enum pace_change *change)
{
	for (int n = 1; n <= most; n++) {
		*now += S;
		*change = pace_update(p, look, *now);
		if (*change != PACE_KEPT)
			return n;
	}
	return 0;
}

static void a_round_that_fits_changes_nothing(void **state)
{
	struct pace p = { .interval_ns = 100 * US };
	struct pace_look look = calm;
	enum pace_change change;
	uint64_t now = START;

	(void)state;
	look.cost_ns = 50 * US;
	look.n_late = look.n_rounds / 4;
	assert_int_equal(looks_until(&p, &look, &now, 1000, &change), 0);
	assert_int_equal(p.interval_ns, 100 * US);
}

static void one_bad_second_widens_nothing(void **state)
{
	struct pace p = { .interval_ns = 100 * US };
	struct pace_look bad = calm;
	uint64_t now = START;

	(void)state;
	bad.cost_ns = 900 * US;
	bad.n_late = bad.n_rounds;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(pace_update(&p, i % 2 ? &calm : &bad, now += S), PACE_KEPT);
		assert_int_equal(p.interval_ns, 100 * US);
	}
}

static void a_round_that_costs_too_much_is_asked_as_often_as_it_can_be(void **state)
{
	struct pace p = { .interval_ns = 100 * US };
	struct pace_look look = calm;
	enum pace_change change;
	uint64_t now = START;

	(void)state;
	look.cost_ns = 51 * US;
	assert_int_equal(looks_until(&p, &look, &now, 9, &change), 2);
	assert_int_equal(change, PACE_COST);
	assert_int_equal(p.interval_ns, 200 * US);
	look.cost_ns = 700 * US;
	assert_int_equal(looks_until(&p, &look, &now, 9, &change), 2);
	assert_int_equal(p.interval_ns, 1600 * US);
}

static void rounds_that_begin_late_widen_a_step(void **state)
{
	struct pace p = { .interval_ns = 100 * US };
	struct pace_look look = calm;
	enum pace_change change;
	uint64_t now = START;

	(void)state;
	look.n_late = look.n_rounds / 4 + 1;
	assert_int_equal(looks_until(&p, &look, &now, 9, &change), 2);
	assert_int_equal(change, PACE_LATE);
	assert_int_equal(p.interval_ns, 200 * US);
}

static void a_round_trip_longer_than_the_look_back_widens(void **state)
{
	struct pace p = { .interval_ns = 100 * US };
	struct pace_look look = calm;
	enum pace_change change;
	uint64_t now = START;

	(void)state;
	look.reach_ns = 101 * US;
	assert_int_equal(looks_until(&p, &look, &now, 9, &change), 2);
	assert_int_equal(change, PACE_FAR);
	assert_int_equal(p.interval_ns, 200 * US);
	assert_int_equal(looks_until(&p, &look, &now, 1000, &change), 0); /* nor is there room to narrow */
}

static void the_interval_narrows_after_a_while_with_room(void **state)
{
	struct pace p = { .interval_ns = 100 * US };
	struct pace_look bad = calm, room = calm;
	enum pace_change change;
	uint64_t now = START;

	(void)state;
	bad.cost_ns = 150 * US;
	room.cost_ns = 100 * US / 6;
	looks_until(&p, &bad, &now, 9, &change);
	assert_int_equal(p.interval_ns, 400 * US);
	assert_int_equal(looks_until(&p, &room, &now, 1000, &change), 1 + PACE_PATIENCE_MIN_NS / S);
	assert_int_equal(change, PACE_ROOM);
	assert_int_equal(p.interval_ns, 200 * US);
	assert_int_equal(looks_until(&p, &room, &now, 1000, &change), 1 + PACE_PATIENCE_MIN_NS / S);
	assert_int_equal(p.interval_ns, 100 * US);
	assert_int_equal(looks_until(&p, &room, &now, 1000, &change), 0);
}

static void between_room_and_budget_nothing_changes(void **state)
{
	struct pace p = { .interval_ns = 100 * US };
	struct pace_look look = calm;
	enum pace_change change;
	uint64_t now = START;

	(void)state;
	look.cost_ns = 80 * US;
	looks_until(&p, &look, &now, 9, &change);
	assert_int_equal(p.interval_ns, 200 * US);
	look.cost_ns = 17 * US;
	assert_int_equal(looks_until(&p, &look, &now, 1000, &change), 0);
}

static void room_must_last_without_a_break(void **state)
{
	struct pace p = { .interval_ns = 400 * US, .patience_ns = PACE_PATIENCE_MIN_NS };
	struct pace_look dear = calm;
	uint64_t now = START;

	(void)state;
	dear.cost_ns = 60 * US;
	for (int i = 0; i < 100; i++)
		assert_int_equal(pace_update(&p, i % 5 ? &calm : &dear, now += S), PACE_KEPT);
}

static void who_must_widen_again_and_again_narrows_later_and_later(void **state)
{
	static const int waits_s[] = { 10, 20, 40, 80, 160, 320, 600 };
	struct pace p = { .interval_ns = 100 * US };
	struct pace_look bad = calm;
	enum pace_change change;
	uint64_t now = START;

	(void)state;
	bad.cost_ns = 80 * US;
	for (size_t i = 0; i < sizeof(waits_s) / sizeof(waits_s[0]); i++) {
		looks_until(&p, &bad, &now, 9, &change);
		assert_int_equal(p.interval_ns, 200 * US);
		assert_int_equal(looks_until(&p, &calm, &now, 1000, &change), 1 + waits_s[i]);
		assert_int_equal(p.interval_ns, 100 * US);
	}
	/* After a calm time that is forgotten. */
	now += PACE_PATIENCE_MAX_NS;
	looks_until(&p, &bad, &now, 9, &change);
	assert_int_equal(looks_until(&p, &calm, &now, 1000, &change), 1 + waits_s[0]);
}

static void no_interval_is_longer_than_can_be_configured(void **state)
{
	struct pace p = { .interval_ns = 8 * S };
	struct pace_look look = { .configured_ns = 8 * S, .cost_ns = 60 * S, .n_rounds = 16, .n_late = 16 };
	enum pace_change change;
	uint64_t now = START;

	(void)state;
	assert_int_equal(looks_until(&p, &look, &now, 9, &change), 2);
	assert_int_equal(p.interval_ns, PACE_INTERVAL_MAX_NS);
	assert_int_equal(looks_until(&p, &look, &now, 9, &change), 0);
	assert_int_equal(pace_fit(100 * US, 0, 0), 100 * US);
	assert_int_equal(pace_fit(100 * US, 60 * S, 0), PACE_INTERVAL_MAX_NS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_round_that_fits_changes_nothing),
		cmocka_unit_test(one_bad_second_widens_nothing),
		cmocka_unit_test(a_round_that_costs_too_much_is_asked_as_often_as_it_can_be),
		cmocka_unit_test(rounds_that_begin_late_widen_a_step),
		cmocka_unit_test(a_round_trip_longer_than_the_look_back_widens),
		cmocka_unit_test(the_interval_narrows_after_a_while_with_room),
		cmocka_unit_test(between_room_and_budget_nothing_changes),
		cmocka_unit_test(room_must_last_without_a_break),
		cmocka_unit_test(who_must_widen_again_and_again_narrows_later_and_later),
		cmocka_unit_test(no_interval_is_longer_than_can_be_configured),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
