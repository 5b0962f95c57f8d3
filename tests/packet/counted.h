/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * counted.h - a packet through the program under test, and the one reason that it was counted under. A test fails here
 * if there is none or more than one.
 */
#ifndef SHUNT_TESTS_COUNTED_H
#define SHUNT_TESTS_COUNTED_H

#include "world.h"

extern const char *const reason_names[REASON_COUNT];
extern const uint32_t reason_actions[REASON_COUNT]; /* XDP_* */

/* meta_bytes of headroom are taken by metadata. */
enum reason run(struct run *out, const struct frame *in, unsigned meta_bytes);

/* Whether any packet so far was counted under it. */
bool reason_was_reached(enum reason reason);

void assert_frame(const struct frame *got, const struct frame *want);

#endif
