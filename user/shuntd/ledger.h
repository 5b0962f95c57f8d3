/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ledger.h - what happened: every change of state with its reason, time and evidence, kept in memory (the newest
 * LEDGER_SIZE) and in a file that outlives shuntd, logged to stderr, and handed to whoever monitors.
 */
#ifndef SHUNTD_LEDGER_H
#define SHUNTD_LEDGER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define LEDGER_SIZE 1024 /* events kept in memory, chosen */
#define LEDGER_FILE_BYTES (8ULL << 20) /* chosen: some 20,000 events, and as many in the file before it */

struct ledger;

struct ledger_options {
	const char *directory; /* where the file is; "": there is none */
	uint64_t limit_bytes; /* of the file */
	/* Called with each event: with the file's before ledger_open() returns, with others as they are added. It adds none. */
	void (*on_event)(void *arg, const json_t *event, bool is_old);
	void *arg;
};

/*
 * Read back what the file has: numbers go on from there. The first event is then "ledger opened", with how many were
 * `read` and `skipped` because they could not be, and until when the shuntd before is known to have run (`ran_until`). A
 * file that can't be had is no error: an event says so, and it is tried again. 0 or -ENOMEM.
 */
int ledger_open(struct ledger **out, const struct ledger_options *options);
void ledger_close(struct ledger *ledger);

/*
 * To be called in each period: writes the events since, so that no verdict waits for a disk, and tries again what could not
 * be written. The file also shows that shuntd runs.
 */
void ledger_run(struct ledger *ledger);

/*
 * Add an event: object ("backend", "vip", "shuntd"), its name, what changed ("down"), why ("silent"), evidence (an
 * object whose reference is taken over, or NULL). Logs `OBJECT NAME: WHAT (WHY: EVIDENCE AS key value, ...)`.
 * at_ns: CLOCK_MONOTONIC of the thing itself; 0: now.
 */
void ledger_add(struct ledger *ledger, uint64_t at_ns, const char *object, const char *name, const char *what,
		const char *why, json_t *evidence);

/* Which events; a member that is 0 or NULL matches all. */
struct ledger_filter {
	uint64_t from; /* this number and later ones */
	int64_t since_ns; /* CLOCK_REALTIME */
	const char *object, *name, *what;
};

/* Those that are kept in memory, oldest first, as a new JSON array. */
json_t *ledger_find(const struct ledger *ledger, const struct ledger_filter *filter);

/* Events with number >= `from` (they count from 1), oldest first, as a new JSON array; *next is where to go on. */
json_t *ledger_since(const struct ledger *ledger, uint64_t from, uint64_t *next);

/* Called after each ledger_add(); one listener (the control socket). */
void ledger_listen(struct ledger *ledger, void (*fn)(void *arg), void *arg);

#endif
