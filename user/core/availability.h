/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * availability.h - how available something was, from a history of what was known of it.
 *
 *   up       it serves
 *   down     it failed, or never came up
 *   drained  it gets nothing new because somebody wants it so: neither available nor failed
 *   unknown  nobody looked, because no shuntd ran, or it wasn't configured: neither as well
 *
 * Availability is the time up in the time up and down. A failure is a step from up to down. MTTF is the mean of the up times
 * that ended in a failure; MTTR the mean of the times from a failure to service. A drain or an unknown time interrupts an up
 * time without ending it, and isn't part of it. An outage that is interrupted so is not in the MTTR: nobody saw its end, or
 * nobody waited for it. A step from unknown to down ends an up time that counts in no mean: when it ended nobody knows.
 *
 * A group, a pool, is up while at least one of its members is. Else it is unknown while one of them is, else drained while
 * one is, else down.
 *
 * Times are of a time line of the history's own, which never goes back: timeline_at(). Tests: tests/unit/availability_test.c.
 */
#ifndef SHUNT_CORE_AVAILABILITY_H
#define SHUNT_CORE_AVAILABILITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum standing { STANDING_UNKNOWN, STANDING_UP, STANDING_DOWN, STANDING_DRAINED, N_STANDINGS };

/* ---- the time line ---- */

/* When something happened, by all clocks there are. */
struct moment {
	uint64_t boot; /* which run of the kernel: equal numbers, equal run */
	uint64_t mono_ns; /* CLOCK_MONOTONIC, counted from that run's begin */
	int64_t wall_ns; /* CLOCK_REALTIME */
};

/* All 0 at first. */
struct timeline {
	bool has_begun;
	struct moment last;
	int64_t at_ns; /* of `last` */
};

/*
 * Where a moment is on the time line, which it moves on. The first is at 0. Within a boot CLOCK_MONOTONIC says how much later
 * than the one before, so steps of the wall clock count for nothing; beyond it the wall clock is all there is. What seems
 * to be earlier than the moment before is at the same time.
 */
int64_t timeline_at(struct timeline *line, const struct moment *moment);

/* Where a moment of the wall clock is that lies between the newest and `end`, before timeline_at(end). */
int64_t timeline_between(const struct timeline *line, int64_t wall_ns, const struct moment *end);

/* ---- the history ---- */

struct history;

struct history *history_new(size_t n_max); /* so many changes are kept, 2 at least; NULL: no memory */
void history_free(struct history *history);

/* From `at_ns` (not before the one before) on an object, a small number, is known to stand so. 0 or -ENOMEM. */
int history_add(struct history *history, int64_t at_ns, uint32_t object, enum standing standing);

/* The same of all objects at once: nobody looked. */
int history_gap(struct history *history, int64_t at_ns);

enum standing history_standing(const struct history *history,
			       uint32_t object); /* now; of one never heard of: unknown */
int64_t history_start(const struct history *history); /* the oldest time that it tells of */

/* ---- the figures ---- */

struct availability {
	uint64_t time_ns[N_STANDINGS]; /* how long it stood so */
	uint64_t failures, up_times_ns; /* and the sum of the up times that they ended */
	uint64_t repairs, repairs_ns; /* outages from failure to service, and their sum */
};

#define NO_GROUP UINT32_MAX

/*
 * Figures of each object and group for the time from `from_ns` (at history_start() at the earliest) to `now_ns`. Failures, up times and outages count
 * whole if they end in that time. group_of[object]: index into groups, or NO_GROUP.
 * 0 or -ENOMEM.
 */
int history_figures(const struct history *history, int64_t from_ns, int64_t now_ns, const uint32_t *group_of,
		    struct availability *objects, size_t n_objects, struct availability *groups, size_t n_groups);

#endif
