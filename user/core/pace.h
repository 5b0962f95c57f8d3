/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pace.h - how often the backends can be asked. The configuration says an interval; where this machine can't keep it, or
 * where answers need longer than the detector looks back, it is widened, step by step to twice as long, and narrowed
 * again when there has been room for a while.
 *
 * The budget: a round costs at most half of its interval, and at most a quarter of the rounds begin more than half an
 * interval late. Who is beyond it at two looks in a row is: a machine that stalls once is not. To narrow, a round must
 * cost at most a third of the half of the shorter interval, at every look for PACE_PATIENCE_MIN_NS; that doubles with
 * each widening that follows another within PACE_PATIENCE_MAX_NS. Pure: the caller measures, and brings the clock.
 * Tests: tests/unit/pace_test.c.
 */
#ifndef SHUNT_CORE_PACE_H
#define SHUNT_CORE_PACE_H

#include <stdint.h>

/* All chosen. */
#define PACE_LOOK_NS 1000000000ULL /* between two looks, at the least */
#define PACE_ROUNDS_MIN 16 /* that a look rests upon, at the least */
#define PACE_PATIENCE_MIN_NS 10000000000ULL
#define PACE_PATIENCE_MAX_NS 600000000000ULL
#define PACE_INTERVAL_MAX_NS 10000000000ULL /* the longest interval that the configuration can say */

/* All zero but for interval_ns: a new one. */
struct pace {
	uint64_t interval_ns; /* in force: configured, or longer */
	unsigned n_over; /* looks in a row that were beyond the budget */
	uint64_t room_since_ns; /* there has been room to narrow since; 0: there is none */
	uint64_t patience_ns; /* how long there must be room */
	uint64_t widened_ns; /* when that was last done; 0: never */
};

/* What was measured since the look before. */
struct pace_look {
	uint64_t configured_ns;
	uint64_t cost_ns; /* of a usual round */
	uint64_t n_rounds, n_late;
	uint64_t reach_ns; /* shortest interval at which the silence of the farthest backend can be judged */
};

enum pace_change {
	PACE_KEPT,
	PACE_COST, /* widened: a round costs too much */
	PACE_LATE, /* widened: rounds begin late */
	PACE_FAR, /* widened: a round trip is too long */
	PACE_ROOM, /* narrowed */
};

/* The shortest interval, configured or twice that or twice again, that leaves room for a round and for a round trip. */
uint64_t pace_fit(uint64_t configured_ns, uint64_t cost_ns, uint64_t reach_ns);

/* Look at `now_ns` (CLOCK_MONOTONIC, not 0): what became of pace->interval_ns, and why. */
enum pace_change pace_update(struct pace *pace, const struct pace_look *look, uint64_t now_ns);

#endif
