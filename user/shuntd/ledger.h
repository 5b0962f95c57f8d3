/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ledger.h - what happened: every change of state with its reason, time and evidence, kept in memory (the newest
 * LEDGER_SIZE), logged to stderr, and handed to whoever monitors.
 */
#ifndef SHUNTD_LEDGER_H
#define SHUNTD_LEDGER_H

#include <jansson.h>
#include <stdint.h>

#define LEDGER_SIZE 1024 /* events kept, chosen */

struct ledger;

int ledger_open(struct ledger **out);
void ledger_close(struct ledger *ledger);

/*
 * Add an event: object ("backend", "vip", "shuntd"), its name, what changed ("down"), why ("silent"), evidence (an
 * object whose reference is taken over, or NULL). Logs `OBJECT NAME: WHAT (WHY: EVIDENCE AS key value, ...)`.
 * at_ns: CLOCK_MONOTONIC of the thing itself; 0: now.
 */
void ledger_add(struct ledger *ledger, uint64_t at_ns, const char *object, const char *name, const char *what,
		const char *why, json_t *evidence);

/* Events with number >= `from` (they count from 1), oldest first, as a new JSON array; *next is where to go on. */
json_t *ledger_since(const struct ledger *ledger, uint64_t from, uint64_t *next);

/* Called after each ledger_add(); one listener (the control socket). */
void ledger_listen(struct ledger *ledger, void (*fn)(void *arg), void *arg);

#endif
