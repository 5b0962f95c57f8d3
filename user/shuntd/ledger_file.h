/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ledger_file.h - the ledger's file: DIR/events.jsonl, a line an event. When it would grow beyond a limit it is renamed to
 * events.jsonl.1, in place of the one before, and begun anew: so both together are twice the limit at most.
 *
 * A line is one write() to the page cache: what a crash of the host takes is the newest lines, and of one of them a part
 * may be there. That is cut off when the file is read.
 */
#ifndef SHUNTD_LEDGER_FILE_H
#define SHUNTD_LEDGER_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ledger_file;

struct ledger_file *ledger_file_new(const char *directory,
				    uint64_t limit_bytes); /* nothing is opened; NULL: no memory */
void ledger_file_free(struct ledger_file *file);

/* What was read. */
struct ledger_file_read {
	uint64_t n_taken, n_skipped; /* lines */
	int64_t touched_ns; /* CLOCK_REALTIME: when it was last written or touched; 0: it is new */
};

/*
 * Open the file, or make it, with its directory if need be, and read both, the older first: `take` says whether it could use a
 * line. Of a file beyond the limit the newest lines. 0 or -errno; -EBUSY: another process has it open.
 */
int ledger_file_read(struct ledger_file *file, bool (*take)(void *arg, const char *line, size_t length), void *arg,
		     struct ledger_file_read *out);

/* One line more; the newline is added. 0 or -errno: then nothing of it is in the file. */
int ledger_file_append(struct ledger_file *file, const char *line, size_t length);

/* shuntd still runs, though nothing happens. A file that somebody removed is begun anew by the next line. */
void ledger_file_touch(struct ledger_file *file);

#endif
