/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * admission.h - the way back up, slow on purpose. A backend that was down is admitted after it answered without a
 * gap for its hold; a backend that is new to a run of shuntd after `first_answers` in a row.
 *
 * Damping: the hold is `hold` after the first fall, and twice as long after each further one, up to `hold_max`. A
 * backend that stayed up for `hold_max` begins again with `hold` when it falls next.
 *
 * A gap is a time without a new answer, longer than the caller allows, seen when the caller evaluates. The answer that
 * is there when a count begins is not counted: it may be older than the fall. Pure: the caller brings the clock.
 * Tests: tests/unit/admission_test.c.
 */
#ifndef SHUNT_CORE_ADMISSION_H
#define SHUNT_CORE_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#define ADMISSION_FIRST_ANSWERS 3 /* chosen: as many answers as silences convict */

/* All zero: it is new. */
struct admission {
	uint64_t answering_since_ns; /* when that was first seen; 0: not answering */
	uint64_t answers_at_start; /* session.answers then */
	uint64_t up_since_ns; /* its newest admission; 0: there was none in this run, and no hold applies */
	uint64_t fell_ns; /* its newest fall: an answer from before it counts for nothing */
	unsigned n_falls; /* in a row, none of them after it stayed up for hold_max */
};

struct admission_limits {
	uint64_t gap_ns; /* longest time without an answer that still counts as answering */
	uint64_t hold_ns;
	uint64_t hold_max_ns; /* not less than hold_ns */
	uint64_t first_answers; /* in a row, that admit a new one; usually ADMISSION_FIRST_ANSWERS */
};

/*
 * What the heartbeats say at `now_ns` (CLOCK_MONOTONIC, not 0): answers counted so far, when the last came (0: never;
 * may be a little after now_ns). True: admit it now.
 */
bool admission_update(struct admission *a, const struct admission_limits *limits, uint64_t now_ns, uint64_t answers,
		      uint64_t answered_ns);

/* It isn't to be admitted as yet, whatever it answers: what it has answered so far doesn't count. */
void admission_restart(struct admission *a);

/* It was admitted; it went down, whatever for. */
void admission_rise(struct admission *a, uint64_t now_ns);
void admission_fall(struct admission *a, const struct admission_limits *limits, uint64_t now_ns);

/* How long it has to answer before it is up again, and how much of that is left. 0: it is new. */
uint64_t admission_hold_ns(const struct admission *a, const struct admission_limits *limits);
uint64_t admission_left_ns(const struct admission *a, const struct admission_limits *limits, uint64_t now_ns);

#endif
