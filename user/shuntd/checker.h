/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * checker.h - the other questions, where no agent can run: `bfd` (RFC 5880, RFC 5881), `tcp`, `http`. One thread beside
 * the prober's, which asks in each backend's own time, takes in the answers and flips the word of who failed.
 *
 * It says what it learns in the terms of a session (SESSION_CHECKED), so that admission, draining and showing need not
 * know the difference. Writes of a session: asked_count, answers, answered_ns, rtt_ns, engine, answered_round (tcp and
 * http: the round that was the newest when the question was sent, so that it bears witness; bfd: never).
 *
 *   engine         LOADING: http answers, but not as it should: a soft verdict. DRAINING: the BFD peer says AdminDown
 *                  (RFC 5882 4.2: that is no failure). SERVING: it is well. UNKNOWN: nothing is known yet.
 *   EVENT_SILENT   no answer within the time, `fall` times or for the detection time, and a witness: another session,
 *                  of whatever kind, heard since the last question that was left open. Without one: EVENT_SELF_SUSPECT.
 *   EVENT_DEAD     nobody listens on the port: `fall` refusals (cause: ENGINE_NOT_LISTENING).
 *   EVENT_PEER_DOWN the BFD peer signals Down.
 *
 * Sockets are read before timers are judged, and a thread that woke late judges nobody in that turn.
 */
#ifndef SHUNTD_CHECKER_H
#define SHUNTD_CHECKER_H

#include <stdint.h>

#include "core/config.h"
#include "shunt/abi.h"

struct checker;

struct checker_options {
	struct session *sessions; /* SHUNT_MAX_BACKENDS, shared with BPF */
	struct backend *backends; /* words */
	const struct detector *detector; /* `round`, `n_sessions` */
	int cpu; /* to be pinned to; -1: any */
	void (*on_event)(void *arg, const struct event *event); /* from the checker's thread */
	void *arg;
};

/* A backend whose check is none of the prober's. */
struct checked {
	uint32_t id;
	struct shunt_addr address;
	struct config_check check;
};

/* 0 or -errno with *why. The thread starts with the first backend. */
int checker_open(struct checker **out, const struct checker_options *options, const char **why);

/* Whether a backend can be asked so: BFD's port may be another daemon's. 0 or -errno with *why. */
int checker_can(struct checker *c, const struct checked *checked, const char **why);

/*
 * These are to be asked from now on, and no others; what goes on unchanged goes on undisturbed. Waits until the thread
 * no longer touches those that are gone. 0; or -errno with *why, and then all that can be are asked.
 */
int checker_update(struct checker *c, const struct checked *checked, size_t n, const char **why);

/* How a backend's question stands, as one line for people: "up, peer 10.0.0.7: discriminator 4, 3 x 10 ms". "": not here. */
void checker_describe(struct checker *c, uint32_t id, char *text, size_t size);

/* The longest time without an answer that still counts as answering. 0: not here. */
uint64_t checker_gap_ns(struct checker *c, uint32_t id);

/* Since when none of them answers, and nobody else does either; CLOCK_MONOTONIC, 0: not so. NULL is allowed. */
uint64_t checker_deaf_ns(const struct checker *c);

void checker_close(struct checker *c); /* NULL is allowed */

#endif
