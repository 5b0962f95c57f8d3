/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rounds.h - how the backends are asked, and how often: tells the prober, watches what its rounds cost, widens the
 * interval where they can't be kept and narrows it again (core/pace.h). Every change is in the ledger. Runs in the main
 * loop; shuntd->pace.interval_ns is the interval in force, for whoever judges by it.
 */
#ifndef SHUNTD_ROUNDS_H
#define SHUNTD_ROUNDS_H

#include "shuntd/shuntd.h"

/*
 * Start the prober with these options (all but the settings), watch its first rounds, which ask everybody, and widen the
 * interval at once if they need it. 0 or -errno with *why.
 */
int rounds_start(struct shuntd *shuntd, struct prober_options *options, const char **why);

/* The configuration, the keys or the sessions are others. What fails is in the ledger. */
void rounds_apply(struct shuntd *shuntd);

/* Periodic: look at what the rounds cost. */
void rounds_run(struct shuntd *shuntd);

#endif
