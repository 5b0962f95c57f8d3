/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wall_time.h - a moment of CLOCK_REALTIME, nanoseconds since 1970, as text and back (RFC 3339). Tests:
 * tests/unit/availability_test.c.
 */
#ifndef SHUNT_CORE_WALL_TIME_H
#define SHUNT_CORE_WALL_TIME_H

#include <stddef.h>
#include <stdint.h>

#define WALL_TIME_TEXT_MAX 32

/* "2026-11-21T06:59:59.000001Z": UTC, microseconds, cut off. Writes at most WALL_TIME_TEXT_MAX bytes; returns the buffer. */
const char *wall_time_format(int64_t wall_ns, char *buffer, size_t size);

/* The same, with any fraction of a second or none, "Z" or an offset "+01:00". 0 or -EINVAL. Years 1970 to 2199. */
int wall_time_parse(int64_t *wall_ns, const char *text);

#endif
