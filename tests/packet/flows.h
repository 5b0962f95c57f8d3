/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flows.h - tests of the journal: which backend a segment of a flow goes to, what is remembered of it.
 */
#ifndef SHUNT_TESTS_FLOWS_H
#define SHUNT_TESTS_FLOWS_H

#include <stddef.h>

struct CMUnitTest;

/* The tests, n of them. */
const struct CMUnitTest *flow_tests(size_t *n);

#endif
