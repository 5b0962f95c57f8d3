/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * histogram.c - see histogram.h.
 */
#include "core/histogram.h"

uint64_t histogram_limit_ns(unsigned i)
{
	/* Renard's series R10 (ISO 3), rounded: decimal, so that a limit reads well as a label. */
	static const uint64_t decade[] = { 100, 125, 160, 200, 250, 315, 400, 500, 630, 800 };
	uint64_t unit_ns = 100; /* the first limit: 10 us */

	if (i >= HISTOGRAM_BUCKETS - 1)
		return UINT64_MAX;
	for (; i >= 10; i -= 10)
		unit_ns *= 10;
	return decade[i] * unit_ns;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		h->buckets[i] += ns <= histogram_limit_ns(i);
	h->sum_ns += ns;
}
