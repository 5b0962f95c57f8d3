/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * keepalived.h - what is said to keepalived and heard from it. A track file tells it whether this balancer is fit to have the
 * VIPs (health.h): 0, or 1. Its notify FIFO tells who is master. Neither is needed to forward packets: what fails here is in
 * the ledger, and tried again. Runs in the main loop.
 */
#ifndef SHUNTD_KEEPALIVED_H
#define SHUNTD_KEEPALIVED_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct keepalived;
struct shuntd;

/*
 * As the configuration has it; with neither file it does nothing. Unless the traffic was `taken_over` from the shuntd before,
 * the file says 1 when this returns. 0 or -errno with *why.
 */
int keepalived_open(struct keepalived **out, struct shuntd *shuntd, bool taken_over, const char **why);

/* Nobody forwards any more: 1. Returns when keepalived has taken the VIPs away, or after a second. */
void keepalived_leave(struct keepalived *keepalived);
void keepalived_close(struct keepalived *keepalived); /* NULL is allowed; the file stays as it is */

/* Write the file where health is another. Called in each period, after health_run(); now_ns: CLOCK_MONOTONIC. */
void keepalived_run(struct keepalived *keepalived, uint64_t now_ns);

/* What the track file says, null: none, or it can't be written; what each instance said last: {name,group,state,priority,since_ns}. */
json_t *keepalived_track_json(const struct keepalived *keepalived);
json_t *keepalived_instances_json(const struct keepalived *keepalived);

#endif
