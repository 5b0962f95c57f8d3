// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * admission.c - when a backend that is down has answered for long enough to be up. Decides that only: who is down and
 * why is the detector's business (shunt/detect.h), whether it can be reached the controller's, who asks and flips.
 */
#include "core/admission.h"

bool admission_update(struct admission *a, const struct admission_limits *limits, uint64_t now_ns, uint64_t answers,
		      uint64_t answered_ns)
{
	uint64_t counted;

	if (!answered_ns || (now_ns > answered_ns && now_ns - answered_ns > limits->gap_ns)) {
		a->answering_since_ns = 0;
		return false;
	}
	if (!a->answering_since_ns || answers < a->answers_at_start) {
		a->answering_since_ns = now_ns;
		a->answers_at_start = answers;
	}
	counted = answers - a->answers_at_start;
	if (!a->was_up)
		return counted >= ADMISSION_FIRST_ANSWERS;
	return counted && now_ns - a->answering_since_ns >= limits->hold_ns;
}

void admission_reset(struct admission *a, bool was_up)
{
	*a = (struct admission){ .was_up = was_up };
}
