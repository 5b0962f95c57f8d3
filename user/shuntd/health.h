/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * health.h - whether this balancer is fit to have the VIPs: its program is attached, its prober asks, its detector judges,
 * it hears somebody, and every required VIP has a living backend. Runs in the main loop; changes are in the ledger.
 *
 * What follows from it is decided elsewhere: keepalived.h tells keepalived, the page and the metrics tell people.
 */
#ifndef SHUNTD_HEALTH_H
#define SHUNTD_HEALTH_H

#include <stddef.h>
#include <stdint.h>

struct health;
struct shuntd;

int health_open(struct health **out, struct shuntd *shuntd); /* 0 or -errno */
void health_close(struct health *health); /* NULL is allowed */

/*
 * Look, and tell the ledger if it is another than before: "ill" with the reason, or "well". Called in each period;
 * now_ns: CLOCK_MONOTONIC.
 */
void health_run(struct health *health, uint64_t now_ns);

/*
 * Why this balancer is not fit for traffic, as of the newest look: one sentence in `why`, which is returned. NULL: it is
 * fit. Until the first look, and until every required VIP had a living backend once, it is starting, and not fit.
 */
const char *shuntd_ill(const struct shuntd *shuntd, char *why, size_t size);

#endif
