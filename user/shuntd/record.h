/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * record.h - what is made of the ledger's events: a record of each failover, histograms of how long they took, and how
 * available backends and pools were. Runs in the main loop.
 */
#ifndef SHUNTD_RECORD_H
#define SHUNTD_RECORD_H

#include <stdbool.h>

#include "core/histogram.h"
#include "shunt/abi.h"

struct record;
struct shuntd;

int record_open(struct record **out, struct shuntd *shuntd); /* 0 or -errno */
void record_close(struct record *record);

/* Take in the events since the last call, and finish what failovers are through. Called in each period. */
void record_run(struct record *record);

/*
 * The histograms, all since shuntd started: "detection", by verdict: from the first probe that stayed unanswered, or the
 * one whose answer said so, to the flip; "steering": from the flip to the first packet that an heir got instead.
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
