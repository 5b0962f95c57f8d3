/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntd.h - the controller's state, as its parts see it. One thread owns all of it (the main loop); the prober's
 * thread touches only what prober.h names.
 */
#ifndef SHUNTD_H
#define SHUNTD_H

#include "core/admission.h"
#include "core/config.h"
#include "core/table.h"
#include "shuntd/dataplane.h"
#include "shuntd/ledger.h"
#include "shuntd/netlink.h"
#include "shuntd/prober.h"

/* A backend as it runs. */
struct backend_run {
	uint16_t id; /* index into the shared arrays */
	const struct config_backend *conf;
	size_t pool; /* index into config->pools */
	struct admission admission; /* the way back up */
	bool resolved; /* route, neighbour and link are known */
	bool ever_resolved;
	int way_error; /* why it is not resolved, -errno */
	struct nexthop nexthop;
	uint64_t rtt_ns; /* smoothed round trip of its probes */
	bool flip_unexplained; /* its word went down and no event said why yet */
	uint64_t since_ns; /* CLOCK_MONOTONIC of the newest change of its word */
	int64_t since_wall_s; /* the same, CLOCK_REALTIME, seconds */
	uint32_t last_word; /* as last seen by the main loop */
};

/* A pool as it runs. */
struct pool_run {
	struct table *table;
	uint32_t heirs_changed; /* slots, since the newest table swap */
	uint64_t build_ns; /* time it took to find them */
	uint64_t rebuilt_ns; /* CLOCK_MONOTONIC of the newest table swap */
};

struct shuntd {
	const char *config_path;
	struct config *config;
	struct dataplane *dataplane;
	struct netlink *netlink;
	struct prober *prober;
	struct ledger *ledger;
	struct control *control;
	struct backend_run *backends; /* n_backends of them, sorted by name; ids are 1 .. n_backends in this order */
	size_t n_backends;
	struct pool_run *pools; /* config->n_pools of them */
	char (*xdp_mode)[16]; /* per interface: "native" or "generic" */
	int pipe[2]; /* events from the prober's thread, when it judges */
	enum config_detector detector; /* the one that runs, after fallback */
	uint64_t events_taken; /* from the detector */
	uint64_t started_ns;
};

/* Name of the states and verdicts above as users see them. */
const char *backend_state_name(uint32_t word);
const char *backend_verdict_name(uint32_t word);

#endif
