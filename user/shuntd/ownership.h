/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ownership.h - which VIPs are addresses of this host: keepalived, or whoever else moves them, put them there. For showing:
 * packets for a VIP are forwarded whether this host has its address or not, and where they come by a route it never has.
 */
#ifndef SHUNTD_OWNERSHIP_H
#define SHUNTD_OWNERSHIP_H

#include <stdbool.h>

struct shuntd;

/* Ask the kernel, and tell the ledger what changed: "held" or "released". At the start, and when addresses or VIPs change. */
void ownership_read(struct shuntd *shuntd);

/* Whether this host has any of them as an address, by which packets come to it: not on the loopback. */
bool ownership_any(const struct shuntd *shuntd);

#endif
