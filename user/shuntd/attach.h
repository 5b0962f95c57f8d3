/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * attach.h - our program at the configured interfaces: attached or taken over at the start, and again when somebody took
 * it off or an interface came back. What a reload adds and removes is reload.c's.
 */
#ifndef SHUNTD_ATTACH_H
#define SHUNTD_ATTACH_H

#include "shuntd/shuntd.h"

/* All of them, then what earlier runs have left goes. 0, or 1 after a sentence on stderr. */
int attach_open(struct shuntd *shuntd);

/* Is it still there? In each period. CLOCK_MONOTONIC. */
void attach_run(struct shuntd *shuntd, uint64_t now_ns);

#endif
