/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * histogram.h - how long something took, counted as OpenMetrics wants it: each bucket counts all that took no longer than
 * its limit. Ten limits a decade, 10 us to 10 s: what is read from a bucket is true to 25 %. Tests:
 * tests/unit/histogram_test.c.
 */
#ifndef SHUNT_CORE_HISTOGRAM_H
#define SHUNT_CORE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS 62 /* the last has no limit: it counts all */

struct histogram {
	uint64_t buckets
		[HISTOGRAM_BUCKETS]; /* [i]: so many took histogram_limit_ns(i) or less; never falls from i to i + 1 */
	uint64_t sum_ns; /* of all */
};

/* Bucket i's limit, itself included (`le`), ns; UINT64_MAX for the last one. */
uint64_t histogram_limit_ns(unsigned i);

void histogram_add(struct histogram *histogram, uint64_t ns);

#endif
