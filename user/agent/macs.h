/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * macs.h - the link addresses of this host, told to the program at the interfaces, so that it leaves alone what was sent
 * to another host. All of them, not those of the interfaces it is at alone: a bond or a bridge above may have its own.
 */
#ifndef AGENT_MACS_H
#define AGENT_MACS_H

#include <stdint.h>

struct macs {
	int map_fd; /* `agent_macs` of shunt/agent.h */
	uint64_t next_ns; /* CLOCK_MONOTONIC of the next look */
};

/* A turn: add what is new, looked for every MACS_PERIOD_NS. One that is no more stays known. 0 or -errno. */
int macs_run(struct macs *m, uint64_t now_ns);

#endif
