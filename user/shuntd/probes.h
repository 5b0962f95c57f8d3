/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * probes.h - what the answers tell beside verdicts: how many came lately and how quickly, which version the agent has and
 * how old its word is. Looks at the sessions, writes none. Runs in the main loop.
 */
#ifndef SHUNTD_PROBES_H
#define SHUNTD_PROBES_H

#include "shuntd/shuntd.h"

#define PROBES_WINDOW_NS 10000000000ULL /* "lately" is this to twice as long; chosen */
#define PROBES_OLD_US 5000000U /* an agent's word is old from here on: it turns several times a second; chosen */
#define PROBES_USELESS 16 /* answers that come too late or bear no tag of ours, and none that counts; chosen */

/* Periodic: follows the windows, tells of agents that changed. */
void probes_run(struct shuntd *shuntd);

/* Round trips of a backend's answers since it was first looked at, by bucket (shunt/round_trip.h). */
void probes_round_trips(const struct shuntd *shuntd, const struct backend_run *backend,
			uint64_t counts[ROUND_TRIP_BUCKETS]);

#endif
