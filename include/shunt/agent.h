/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * agent.h - the maps of the agent's program: what shunt-agent says and the program repeats to every probe.
 */
#ifndef SHUNT_AGENT_H
#define SHUNT_AGENT_H

#include "shunt/abi.h"

#define AGENT_MAX_VIPS 1024 /* entries of map `agent_vips`: the inner destinations that are decapsulated */
#define AGENT_MAX_BALANCERS 64 /* entries of map `agent_balancers` */

/* map `agent`: ARRAY of one, mmap-able. Written by shunt-agent alone. */
struct agent_word {
	__u32 engine; /* enum engine_state of heartbeat.h */
	__u32 incarnation; /* drawn at the agent's start */
	__u64 updated_ns; /* CLOCK_MONOTONIC of the agent's last turn; 0: never */
	__u64 beat_ns; /* CLOCK_MONOTONIC of the engine's last beat; 0: it doesn't beat */
	__u32 in_flight; /* requests running */
	__u32 queued; /* requests waiting */
	__u32 utilisation_permille; /* 0 .. 1000 */
	__u32 zero;
};
SHUNT_ASSERT_SIZE(struct agent_word, 40);

#endif
