/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * prober.h - the thread that asks: one round of probes every interval, from one pinned real-time thread. With
 * `detector: controller` it runs the verdict rule too, half-way between its rounds. It asks the sessions SESSION_HEARTBEAT
 * and SESSION_ECHO; the way of an echo it takes from its backend's record, round after round.
 *
 * Writes: detector.round and rounds[], session.asked*; the detector's parameters, and with them pardoned_round, when
 * they change. Reads: session.answered*.
 */
#ifndef SHUNTD_PROBER_H
#define SHUNTD_PROBER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shunt/abi.h"
#include "shunt/heartbeat.h"

struct prober;

/* A backend that is down is asked every this many rounds only: its answers are not urgent, a dead rack costs less. */
#define PROBER_SLOW 16
/* But the first rounds ask everybody, to see what a round costs this machine once all are up. */
#define PROBER_FULL_ROUNDS 32

/* What may become another while it runs. */
struct prober_settings {
	uint64_t interval_ns; /* between rounds */
	uint32_t multiplier;
	bool judge; /* detector: controller */
	struct probe_keys keys; /* what probes and echoes are signed with */
};

struct prober_options {
	struct detector *detector; /* shared with BPF */
	struct session
		*sessions; /* SHUNT_MAX_BACKENDS of them; of ids 1 .. detector->n_sessions those with a discriminator */
	struct backend *backends; /* words flipped when it judges; the echoes' ways */
	struct backend_flows *flows; /* until when who was found silent keeps his, when it judges */
	struct prober_settings settings;
	int cpu; /* to be pinned to; -1: not pinned */
	void (*on_event)(void *arg, const struct event *event); /* from the prober's thread, when it judges */
	void *arg;
};

/* Updated by the thread, read by anybody. */
struct prober_stats {
	atomic_uint_fast64_t rounds_late; /* started more than half an interval late */
	atomic_uint_fast64_t rounds_skipped; /* not asked at all because the thread came too late */
	atomic_uint_fast64_t send_errors; /* probes that could not be sent */
	atomic_uint_fast64_t late_max_ns;
	atomic_uint_fast64_t round_ns; /* what sending a round costs: the median of those lately */
	atomic_uint_fast64_t full_rounds; /* at the start, of everybody whatever his state: up to PROBER_FULL_ROUNDS */
	atomic_uint_fast64_t full_round_ns; /* the quickest of them */
};

int prober_start(struct prober **out, const struct prober_options *options, const char **why);

/*
 * Other settings, keys, sessions: the thread takes them up before its next round, without a gap, and what was asked
 * before convicts nobody. A session may be given up (discriminator 0) without it. 0 or -errno with *why.
 */
int prober_update(struct prober *p, const struct prober_settings *settings, const char **why);
int prober_pin(struct prober *p, int cpu); /* 0 or -errno */

const struct prober_stats *prober_stats(const struct prober *p);
void prober_stop(struct prober *p);

#endif
