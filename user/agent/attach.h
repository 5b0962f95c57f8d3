/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * attach.h - the program at the interfaces: attached, taken over from an agent that was killed, attached again when
 * somebody took it off. Somebody else's program is never replaced.
 */
#ifndef AGENT_ATTACH_H
#define AGENT_ATTACH_H

#include <net/if.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/pins.h"

struct attach;

/*
 * Put the program at the interfaces that have none, and find the links that are pinned at the others. 0; or 1 after a
 * sentence on stderr, and then nothing is changed. `interfaces` and `pins` stay the caller's.
 */
int attach_open(struct attach **out, int program_fd, const char (*interfaces)[IF_NAMESIZE], size_t n,
		struct pins *pins);

/* Replace the program of the links that were found, each in one step, and pin the others. 0, or 1 after a sentence. */
int attach_take_over(struct attach *a);

/* A turn: is it still there? If not, say so, and attach it again unless another program is there. CLOCK_MONOTONIC. */
void attach_run(struct attach *a, uint64_t now_ns);

/* A line for each interface, for people. */
void attach_describe(const struct attach *a, FILE *f);

/* What was put or taken over is detached, what was only found stays. NULL is allowed. */
void attach_close(struct attach *a);

#endif
