/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * backends.h - the backends as they run: their records and sessions in the shared maps, what a verdict entails, the way
 * back up, draining and leaving. Runs in the main loop; the flip itself was the detector's.
 */
#ifndef SHUNTD_BACKENDS_H
#define SHUNTD_BACKENDS_H

#include "shuntd/pools.h"
#include "shuntd/shuntd.h"

/* How often backends_run() wants to be called, ns: admission and reconciliation need no more. */
#define BACKENDS_PERIOD_NS 10000000ULL

/*
 * Who is up when a run begins is judged from its first round on, which is a cold one: caches, pages, neighbours. So each is
 * taken for this far away at first; that fades as its answers come (grace_follow()), in a quarter of a second. Chosen.
 */
#define BACKENDS_COLD_NS 2500000ULL

/* A session and a record for a backend that was added: it joins. The prober is told by whoever calls. 0 or -errno. */
int backend_join(struct shuntd *shuntd, struct backend_run *backend);

/*
 * It was an earlier run's: its session and its word are there, and stay; what that run has left half done about them is
 * brought to its end. 0 or -errno.
 */
int backend_resume(struct shuntd *shuntd, struct backend_run *backend);

/*
 * Its check is of another type: it is asked so when the prober has been told, by whoever calls and at once. Its state
 * stays what it is until answers, or their absence, make another of it. 0 or -errno.
 */
int backend_ask_anew(struct shuntd *shuntd, struct backend_run *backend);

/* When a backend that is down is up again, as the configuration and the probes have it now. */
struct admission_limits backends_limits(const struct shuntd *shuntd);

/* Whether it alone is up in its pool: to drain it leaves new flows to nobody. Allowed, with a warning. */
bool backends_is_last(const struct shuntd *shuntd, const struct backend_run *backend);

/* Tell the checker which backends it is to ask, and how. 0 or -errno with *why: some of them aren't asked. */
int backends_check(struct shuntd *shuntd, const char **why);

/*
 * Fill records, sessions, tables and VIPs from the configuration. assume_up: other maps with the same backends serve
 * traffic, so these are up until rounds say otherwise. 0 or -errno with *why.
 */
int backends_open(struct shuntd *shuntd, bool assume_up, const char **why);
void backends_close(struct shuntd *shuntd);

/* The kernel's tables changed: look up every backend's way anew. */
void backends_resolve(struct shuntd *shuntd);

/* The detector's word (also from the prober's thread by way of the main loop). */
void backends_event(struct shuntd *shuntd, const struct event *event);

/* It was found silent, and has the flows that it had: its answers may only be late. Nothing is decided yet. */
bool backend_is_doubted(const struct shuntd *shuntd, const struct backend_run *backend);

/* Whoever was found silent and may only be late: at the end of the doubt it is down, or was late. s->doubts says when. */
void backends_doubts_run(struct shuntd *shuntd);

/*
 * Periodic, and once after a batch of events: notice flips whose event was lost, admit who answered for long enough,
 * swap in the tables that changed.
 */
void backends_run(struct shuntd *shuntd);

/*
 * Drain: no new flow from the moment this returns; those it has go on. `why` is VERDICT_DRAINED, _ASKED, _LOADING or _REMOVED.
 * deadline_ns (CLOCK_MONOTONIC, 0: none): what is left then is reset. The ledger gets "draining", and "drained" (at zero
 * live flows) or "cut" (at the deadline, with how many were reset). 0; -EALREADY: it drains, and a deadline_ns
 * that is not 0 is its new one; -ENOTCONN: it is down, so
 * there is nothing to drain, but it will not be admitted until undrained.
 */
int backends_drain(struct shuntd *shuntd, struct backend_run *backend, enum verdict why, uint64_t deadline_ns);

/*
 * The configuration has it no more: it drains as above, and goes. Who calls takes it out of the table. One that is `leaving`
 * goes on taking new flows until backend_leave().
 */
void backend_leave(struct shuntd *shuntd, struct backend_run *backend);
void backend_drop(struct shuntd *shuntd, struct backend_run *backend, uint64_t deadline_ns);

/*
 * Back to service: at once if it answers, through admission if not. 0; -EALREADY: it doesn't drain; -EBUSY: its agent
 * asks for it, so it ends there; -EPERM: the configuration no longer has it; -EAGAIN: its engine isn't
 * ready, so it ends when that is.
 */
int backends_undrain(struct shuntd *shuntd, struct backend_run *backend);

#endif
