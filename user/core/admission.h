/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * admission.h - the way back up, slow on purpose. A backend that was down is admitted after it answered without a
 * gap for `hold`; a backend that is new to a run of shuntd after ADMISSION_FIRST_ANSWERS answers in a row.
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

struct admission {
	bool was_up; /* it has been up in this run: `hold` applies */
	uint64_t answering_since_ns; /* when that was first seen; 0: not answering */
	uint64_t answers_at_start; /* session.answers then */
};

struct admission_limits {
	uint64_t gap_ns; /* longest time without an answer that still counts as answering */
	uint64_t hold_ns;
};

/*
 * What the heartbeats say at `now_ns` (CLOCK_MONOTONIC, not 0): answers counted so far, when the last came (0: never;
 * may be a little after now_ns). True: admit it now.
 */
bool admission_update(struct admission *a, const struct admission_limits *limits, uint64_t now_ns, uint64_t answers,
		      uint64_t answered_ns);

/* It was taken down, or is up: begin anew. */
void admission_reset(struct admission *a, bool was_up);

#endif
