/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * round_trips.c - see round_trips.h. The counts wrap, so what lies between two looks is their difference.
 */
#include "core/round_trips.h"
#include "shunt/round_trip.h"

uint64_t round_trips_quantile_ns(const struct round_trips *now, const struct round_trips *before, unsigned permille)
{
	uint64_t n = 0, below = 0;
	uint32_t i;

	for (i = 0; i < ROUND_TRIP_BUCKETS; i++)
		n += (uint32_t)(now->buckets[i] - before->buckets[i]);
	if (!n)
		return 0;
	for (i = 0; i < ROUND_TRIP_BUCKETS - 2; i++) {
		below += (uint32_t)(now->buckets[i] - before->buckets[i]);
		if (1000 * below >= n * permille)
			break;
	}
	return round_trip_limit_ns(i);
}
