/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * round_trip.h - from a round trip to its bucket in `struct round_trips` and back, for the receiver that counts and for
 * whoever reads quantiles.
 *
 * Four buckets a doubling: the limits are 4, 5, 6, 7, 8, 10, 12, 14, 16, 20 ... times 1.024 us, so what is read from a
 * bucket is true to 25 %. The last bucket, from 201 ms on, has no limit.
 */
#ifndef SHUNT_ROUND_TRIP_H
#define SHUNT_ROUND_TRIP_H

#include "shunt/abi.h"
#include "shunt/siphash.h" /* __always_inline */

#define ROUND_TRIP_UNIT_SHIFT 10 /* chosen: 1.024 us, below any round trip over a wire */

/* What bucket i holds is shorter than this, and no shorter than the limit of bucket i - 1. Nanoseconds. */
static __always_inline __u64 round_trip_limit_ns(__u32 i)
{
	return i < ROUND_TRIP_BUCKETS - 1 ? (4ULL + (i & 3)) << (i >> 2) << ROUND_TRIP_UNIT_SHIFT : ~0ULL;
}

static __always_inline __u32 round_trip_bucket(__u64 ns)
{
	__u32 units, doublings = 0;

	if (ns >= round_trip_limit_ns(ROUND_TRIP_BUCKETS - 2))
		return ROUND_TRIP_BUCKETS - 1;
	units = (__u32)(ns >> ROUND_TRIP_UNIT_SHIFT); /* below 6 << 15 */
	if (units < 4)
		return 0;
	for (__u32 step = 8; step; step >>= 1)
		if (units >> (doublings + step) >= 4)
			doublings += step;
	return 4 * doublings + (units >> doublings) - 3;
}

#endif
