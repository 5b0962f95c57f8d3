/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * heartbeats.h - tests of the receiver: whose answers and echoes it believes, and what it remembers of them.
 */
#ifndef SHUNT_TESTS_HEARTBEATS_H
#define SHUNT_TESTS_HEARTBEATS_H

#include <stddef.h>

struct CMUnitTest;

/* The tests, n of them. */
const struct CMUnitTest *heartbeat_tests(size_t *n);

#endif
