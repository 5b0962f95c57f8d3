/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * peer.h - the other balancer of a pair: the socket to it, and what its word does here. The protocol, and whose a flow is,
 * are core/peer.h's. Runs in the main loop; packets are not aware of it.
 *
 * What operators said of a backend (drain, weight) is not handed in by whoever carries it out but found by looking at the
 * backends: whatever differs from what was there a moment ago was said now. What was there at the start was said long ago.
 */
#ifndef SHUNTD_PEER_H
#define SHUNTD_PEER_H

#include <jansson.h>

#include "shunt/heartbeat.h"
#include "shuntd/shuntd.h"

struct peering;

/*
 * The keys of a configuration's peer; n = 0 where it has none. 0; or -errno, and `why` is a sentence.
 */
int peering_keys(struct probe_keys *keys, const struct config *config, char *why, size_t why_size);

/* Talk to shuntd->config's peer, from the next period on: when the journal, the backends and the loop are there. 0, and
 * *out is NULL where there is none; or -errno, and `why` is a sentence. */
int peering_open(struct peering **out, struct shuntd *shuntd, char *why, size_t why_size);
void peering_close(struct peering *peering); /* NULL is allowed, here and below */

/* Once in each period of the main loop. */
void peering_run(struct peering *peering);

/* A reload was applied: these are its keys. */
void peering_reloaded(struct peering *peering, const struct probe_keys *keys);

/* What `peer show` is answered, include/shunt/control.h: an array of one, or of none. */
json_t *peering_json(const struct peering *peering);

#endif
