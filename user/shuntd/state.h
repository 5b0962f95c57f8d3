/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * state.h - what commands set and what is to outlive shuntd: drains and weights, in DIR/state.json (config->state).
 *
 *   {"version": 1, "drains": [{"backend": NAME, "deadline": "2026-11-21T07:00:00Z" or null}], "weights": {NAME: N}}
 *
 * Read once, at the start, and written whenever it changes, by a thread, so that no disk delays the main loop. Nothing
 * about the file ends shuntd, or keeps it from starting: what is wrong is an event. Runs in the main loop.
 */
#ifndef SHUNTD_STATE_H
#define SHUNTD_STATE_H

#include "shuntd/shuntd.h"

#define STATE_VERSION 1
#define STATE_FILE "state.json"
#define STATE_TEXT_MAX (2U << 20) /* longest file, bytes; chosen: twice one that names every backend twice */
#define STATE_RETRY_NS 1000000000ULL /* chosen: what could not be written is tried again */

struct state;

/*
 * Read the file. One that makes no sense is put aside as state.json.bad; a directory that isn't there is made. 0 or -ENOMEM.
 */
int state_open(struct state **out, struct shuntd *shuntd);

/*
 * Of backends that run already, as the pinned maps had them, these know better: a disk that is full keeps the file from
 * following. The file's word on them is dropped, and it is written anew when the rest is restored. The others of a configuration
 * get their weights: before tables are built of it.
 */
void state_heed(struct state *state, struct config *config);

/* Those that were drained drain: after backends_open(), and before any is admitted. */
void state_restore(struct state *state);

/* A drain or a weight is, or may be, another. NULL is allowed. */
void state_changed(struct state *state);

/* Begin to write what changed, and hear of how that ended. In each period of the main loop. */
void state_run(struct state *state);

/* Write what is not written yet, and wait for that. NULL is allowed. */
void state_close(struct state *state);

#endif
