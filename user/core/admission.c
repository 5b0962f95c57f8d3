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

	if (!answered_ns || answered_ns < a->fell_ns ||
	    (now_ns > answered_ns && now_ns - answered_ns > limits->gap_ns)) {
		a->answering_since_ns = 0;
		return false;
	}
	if (!a->answering_since_ns || answers < a->answers_at_start) {
		a->answering_since_ns = now_ns;
		a->answers_at_start = answers;
	}
	counted = answers - a->answers_at_start;
	if (!a->up_since_ns)
		return counted >= limits->first_answers;
	return counted && !admission_left_ns(a, limits, now_ns);
}

void admission_restart(struct admission *a)
{
	a->answering_since_ns = 0;
}

void admission_rise(struct admission *a, uint64_t now_ns)
{
	admission_restart(a);
	a->up_since_ns = now_ns;
}

void admission_fall(struct admission *a, const struct admission_limits *limits, uint64_t now_ns)
{
	admission_restart(a);
	if (now_ns > a->up_since_ns && now_ns - a->up_since_ns >= limits->hold_max_ns)
		a->n_falls = 0;
	a->n_falls++;
	a->fell_ns = now_ns;
}

uint64_t admission_hold_ns(const struct admission *a, const struct admission_limits *limits)
{
	uint64_t hold_ns = limits->hold_ns;

	if (!a->up_since_ns)
		return 0;
	for (unsigned i = 1; i < a->n_falls && hold_ns && hold_ns < limits->hold_max_ns; i++)
		hold_ns *= 2;
	return hold_ns < limits->hold_max_ns ? hold_ns : limits->hold_max_ns;
}

uint64_t admission_left_ns(const struct admission *a, const struct admission_limits *limits, uint64_t now_ns)
{
	uint64_t hold_ns = admission_hold_ns(a, limits);
	uint64_t answered_ns = a->answering_since_ns ? now_ns - a->answering_since_ns : 0;

	return answered_ns < hold_ns ? hold_ns - answered_ns : 0;
}
