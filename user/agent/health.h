/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * health.h - asks the engine's health URL by HTTP whether it is ready. A slow, wrong or missing answer makes it "not
 * ready", which is soft: the balancers open no new connection. It is never taken for death.
 *
 * A 2xx is "ready"; 429 is "ready, and full" (RFC 6585 section 4); anything else is not. Ready with the first good answer
 * of an engine, then by `rise` and `fall` answers in a row. Engines that say "full" elsewhere, by the 503 that says "loading"
 * here, have a second URL for it: it is asked after each good answer.
 */
#ifndef AGENT_HEALTH_H
#define AGENT_HEALTH_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/config.h"

struct health;

/* NULL: no memory. `config` stays the caller's. */
struct health *health_open(const struct config_engine *config);
void health_close(struct health *h); /* NULL is allowed */

/* Another engine: not ready until it says so. Asked at once. */
void health_restart(struct health *h, uint64_t now_ns);

/* The engine that an earlier agent knew: as it was then, until `rise` or `fall` answers say otherwise. */
void health_resume(struct health *h, bool ready, bool full, uint64_t now_ns);

/* Nobody is there to ask: give up a question that is open. To be asked again after one of the two above. */
void health_rest(struct health *h);

/* poll(2) that also returns when an answer moves on. */
int health_poll(struct health *h, struct pollfd *fds, nfds_t n, int timeout_ms);

/* A turn: begin a question that is due, take an answer that came. Never waits. CLOCK_MONOTONIC. */
void health_run(struct health *h, uint64_t now_ns);

bool health_is_known(
	const struct health *h); /* it was asked, and answered or didn't in time; or was ready when resumed */
bool health_is_ready(const struct health *h);
bool health_is_full(const struct health *h);
const char *health_reason(const struct health *h); /* of the newest change of health_is_ready() */

#endif
