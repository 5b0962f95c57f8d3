/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * round_trips.h - quantiles of the round trips that the receiver counted between two looks. Tests:
 * tests/unit/round_trips_test.c.
 */
#ifndef SHUNT_CORE_ROUND_TRIPS_H
#define SHUNT_CORE_ROUND_TRIPS_H

#include <stdint.h>

#include "shunt/abi.h"

/*
 * Nanoseconds that `permille` of the round trips counted since `before` stayed below, up to 25 % too high (see
 * shunt/round_trip.h); those that are longer than its last limit are told as that. 0: none was counted.
 */
uint64_t round_trips_quantile_ns(const struct round_trips *now, const struct round_trips *before, unsigned permille);

#endif
