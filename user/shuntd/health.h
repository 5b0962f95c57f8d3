/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * health.h - whether this balancer is fit to have the VIPs: its program is attached, its prober asks, its detector judges,
 * it hears somebody, and every required VIP has a living backend. Runs in the main loop; changes are in the ledger.
 *
 * What follows from it is decided elsewhere: keepalived.h tells keepalived, the page and the metrics tell people.
 */
#ifndef SHUNTD_HEALTH_H
#define SHUNTD_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct health;
struct shuntd;

/* Once there are VIPs. taken_over: backends and traffic are those of the shuntd before, so it is no start. 0 or -errno. */
int health_open(struct health **out, struct shuntd *shuntd, bool taken_over);
void health_close(struct health *health); /* NULL is allowed */

/*
 * Look, and tell the ledger if it is another than before: "ill" with the reason, or "well". Called in each period;
 * now_ns: CLOCK_MONOTONIC.
 */
void health_run(struct health *health, uint64_t now_ns);

/*
 * Why this balancer is not fit for traffic, as of the newest look: one sentence in `why`, which is returned. NULL: it is
 * fit. A start ends when all backends are up, or after 5 seconds when every required VIP has a living one; until then it is not fit.
 */
const char *shuntd_ill(const struct shuntd *shuntd, char *why, size_t size);

#endif
