/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * record.h - what is made of the ledger's events: a record of each failover, histograms of how long they took, and how
 * available backends and pools were. Runs in the main loop.
 */
#ifndef SHUNTD_RECORD_H
#define SHUNTD_RECORD_H

#include <jansson.h>
#include <stdbool.h>

#include "core/availability.h"
#include "core/histogram.h"

struct record;
struct shuntd;

int record_open(struct record **out, struct shuntd *shuntd); /* before the ledger, which may have events. 0 or -errno */
void record_close(struct record *record);

/* Take in an event: the ledger's on_event. */
void record_event(void *record, const json_t *event, bool is_old);

/*
 * Called in each period. Adds to the ledger "failover" when all of one is through that follows a fall at once, or is given up
 * waiting for; "not up" when a backend didn't come up in time; and "up" of one that served when shuntd began.
 */
void record_run(struct record *record);

void record_end(struct record *record); /* shuntd ends: tell of the failovers that aren't through. NULL is allowed */

/* ---- availability ---- */

struct record_figures {
	struct availability *backends, *pools; /* in the order of shuntd->backends and ->pools */
	uint64_t window_ns; /* the time that they are about, which ends now */
	int64_t since_ns; /* CLOCK_REALTIME, its begin */
};

/*
 * Of the newest window_ns, or of as much of it as is known; UINT64_MAX: of the whole record, the ledger's file included.
 * A backend is known by its name. 0 or -ENOMEM; to be freed.
 */
int record_figures(struct record *record, uint64_t window_ns, struct record_figures *out);
void record_figures_free(struct record_figures *figures);

/* ---- histograms ---- */

/*
 * All since shuntd started: "detection", by verdict: from the first probe that stayed unanswered, or the one whose answer
 * said so, to the flip; "steering": from the flip to the first packet that an heir got instead.
 */
struct record_histogram {
	const char *name; /* "detection" or "steering" */
	const char *help; /* one sentence */
	const char *verdict; /* as backend_verdict_name() has it; NULL: it isn't split by verdict */
	const struct histogram *times; /* live: counts on */
};

/* Number `i` of them, those of a name one after another; false: there are no more. */
bool record_histogram(const struct record *record, unsigned i, struct record_histogram *out);

#endif
