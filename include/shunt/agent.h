/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * agent.h - the maps of the agent's programs: what shunt-agent and the kernel know of the engine, and how the reflector
 * makes one state of it for every answer.
 */
#ifndef SHUNT_AGENT_H
#define SHUNT_AGENT_H

#include "shunt/abi.h"
#include "shunt/heartbeat.h"

#define AGENT_MAX_VIPS 1024 /* entries of map `agent_vips`: the inner destinations that are decapsulated */
#define AGENT_MAX_BALANCERS 64 /* entries of map `agent_balancers` */
#define AGENT_MAX_MACS 4096 /* entries of map `agent_macs` */
#define AGENT_MAX_WATCHED 4096 /* entries of map `agent_watched`, chosen: more processes than an engine has */

/*
 * An engine's life, changed by compare-and-swap on the whole of it: which engine (counted by shunt-agent; 0: none was seen
 * yet) and, once it is dead, its ENGINE_CAUSE(). The kernel's programs end a life, shunt-agent ends and begins them. Who
 * means an earlier engine fails to swap.
 */
#define ENGINE_LIFE(number, cause) ((__u64)(number) << 32 | (cause))
#define ENGINE_LIFE_NUMBER(life) ((__u32)((life) >> 32))
#define ENGINE_LIFE_CAUSE(life) ((__u32)(life))

/*
 * map `agent`: ARRAY of one, mmap-able. Written by shunt-agent; `life` to `stopping` also by bpf/agent_watch.bpf.c. An agent
 * that was killed leaves its own to the next, of whatever version: the first AGENT_WORD_HEAD bytes keep their places, and
 * another meaning of the rest must have another size.
 */
#define AGENT_WORD_HEAD 16
struct agent_word {
	__u32 engine; /* ENGINE_UNKNOWN: nobody watches it; ENGINE_LOADING or ENGINE_SERVING */
	__u32 draining; /* 1: an operator took this host out of service */
	__u64 updated_ns; /* CLOCK_MONOTONIC of the agent's last turn; 0: never */
	__u64 life; /* ENGINE_LIFE() */
	__u64 ended_ns; /* CLOCK_MONOTONIC of its end, written after `life`; 0: it lives */
	__u32 ended_tgid; /* the process whose end it was, written with it */
	__u32 stopping; /* number of the engine whose main processes caught SIGTERM or SIGINT: it ends what it has to, and goes */
	__u64 beat_limit_ns; /* a beat older than this is a stall; 0: beats are not looked at */
	__u32 in_flight; /* requests running */
	__u32 queued; /* requests waiting */
	__u32 utilisation_permille; /* 0 .. 1000 */
	__u32 flags; /* PROBE_FULL */
	__u32 incarnation; /* drawn at the agent's start */
	__u32 other_version; /* PROBE_VERSION of the newest probe whose version isn't ours, written by the reflector; 0: none */
	struct shunt_addr
		refused; /* who sent the newest probe without a right tag, written by the reflector; zero: nobody */
};
SHUNT_ASSERT_SIZE(struct agent_word, 88);

/*
 * map `agent_beat`: ARRAY of one __u64, mmap-able, in a page of its own: the engine writes it. CLOCK_MONOTONIC of its last
 * beat; 0: it doesn't beat. See shunt/beat.h.
 */

/*
 * map `agent_macs`: HASH, link address -> __u32: those of this host's interfaces, written by shunt-agent. What is for
 * another host, and came here because a switch didn't know where that one is, is none of our business: who answered it
 * would keep a dead backend alive.
 */
struct agent_mac {
	__u8 bytes[6];
	__u8 zero[2];
};
SHUNT_ASSERT_SIZE(struct agent_mac, 8);

/* map `agent_watched`: HASH, process (tgid in the first pid namespace) -> what it is to the engine. */
#define WATCHED_MAIN 1U /* its end is the engine's, unless others go on and it was no crash; else only a crash is */
#define WATCHED_FOLLOW 2U /* its children are workers of the engine */
#define WATCHED_LEAVING 4U /* a main process that was asked to stop or ended well: the others are the engine */

struct watched {
	__u64 life; /* ENGINE_LIFE(number, 0) of the engine that it belongs to */
	__u64 born_ns; /* CLOCK_MONOTONIC */
	__u32 flags; /* WATCHED_* */
	__u32 main; /* the main process that it descends from, or is */
};
SHUNT_ASSERT_SIZE(struct watched, 24);

/* The one state that an answer tells: the worst that is true. A beat from the future is a fresh one. */
static inline __attribute__((always_inline)) enum engine_state agent_state(const struct agent_word *w, __u64 beat_ns,
									   __u64 now_ns)
{
	if (ENGINE_LIFE_CAUSE(w->life))
		return ENGINE_DEAD;
	if (w->beat_limit_ns && beat_ns && now_ns > beat_ns && now_ns - beat_ns > w->beat_limit_ns)
		return ENGINE_STALLED;
	if (w->draining || (w->stopping && w->stopping == ENGINE_LIFE_NUMBER(w->life)))
		return ENGINE_DRAINING;
	return (enum engine_state)w->engine;
}

#endif
