/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * record.c - see record.h.
 */
#include "shuntd/record.h"

#include <errno.h>

#include "shuntd/shuntd.h"

/* Verdicts that are failures of a backend that served. */
static const enum verdict failures[] = { VERDICT_SILENT, VERDICT_DEAD, VERDICT_STALLED, VERDICT_PEER_DOWN };
#define N_FAILURES (sizeof(failures) / sizeof(*failures))

struct record {
	struct shuntd *shuntd;
	struct histogram detection[N_FAILURES], steering;
};

int record_open(struct record **out, struct shuntd *shuntd)
{
	struct record *record = calloc(1, sizeof(*record));

	if (!record)
		return -ENOMEM;
	record->shuntd = shuntd;
	*out = record;
	return 0;
}

void record_close(struct record *record)
{
	free(record);
}

void record_run(struct record *record)
{
	(void)record;
}

bool record_histogram(const struct record *record, unsigned i, struct record_histogram *out)
{
	if (i > N_FAILURES)
		return false;
	*out = (struct record_histogram){ .name = "steering",
					  .help = "from the flip to the first packet that an heir got instead",
					  .times = &record->steering };
	if (i < N_FAILURES)
		*out = (struct record_histogram){
			.name = "detection",
			.help = "from the first probe that stayed unanswered, or whose answer said so, to the flip",
			.verdict = backend_verdict_name(BACKEND_WORD(BACKEND_DOWN, failures[i])),
			.times = &record->detection[i]
		};
	return true;
}
