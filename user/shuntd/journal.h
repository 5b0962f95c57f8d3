/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * journal.h - shuntd's side of the journal (shunt/abi.h): gives entries back, tells the clients of a dead backend,
 * leads flows on when slots move. Runs in the main loop, a bounded slice at a time; the walk goes on meanwhile.
 */
#ifndef SHUNTD_JOURNAL_H
#define SHUNTD_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shunt/abi.h"

struct shuntd;
struct journal;

int journal_open(struct journal **out, struct shuntd *shuntd);
void journal_close(struct journal *journal);

/*
 * Do the next slice of whatever is due: telling clients first, then moves, then the sweep. True: there is more to do at
 * once; false: nothing before the next period. Called once in each turn of the main loop, after verdicts were taken.
 */
bool journal_run(struct journal *journal);

/*
 * A backend is dead: every client of a flow of it is told (design: a SYN still unanswered walks again to the heir, or is
 * refused; all others are challenged and reset when they answer). Begins now, goes on in journal_run(). Where the VIP says
 * `rehash` or `drop` nobody is told. The ledger gets an event "flows told" with counts and times when all are through.
 */
void journal_tell(struct journal *journal, uint16_t backend);

/* What flows; a member that is 0 or NULL matches all. */
struct flow_filter {
	uint16_t backend;
	uint32_t vip; /* id + 1; 0: any */
	const struct shunt_addr *client; /* NULL: any */
	uint8_t client_prefix; /* bits of it that count */
	__be16 client_port; /* 0: any */
	uint8_t state; /* enum flow_state; 0: all but FLOW_FREE */
	int detour; /* 1: detours only; -1: others only; 0: both */
};

bool flow_matches(const struct flow_filter *filter, const struct flow *flow);

/* End flows of living backends: each becomes an orphan and its client is challenged. Returns how many. */
size_t journal_reset(struct journal *journal, const struct flow_filter *filter);

/*
 * The slots of a pool moved: its new table is in force, VIP_MIGRATING is set on its VIPs. Gives every recorded flow its new
 * owner, a slice at a time; then calls `done`.
 */
void journal_move(struct journal *journal, uint32_t pool, void (*done)(void *arg, uint32_t pool), void *arg);

/* Entries in use and how they stand; exact at some moment during the call. */
struct journal_counts {
	uint32_t used, capacity;
	uint64_t open, closing, closed, detours;
};
void journal_count(const struct journal *journal, struct journal_counts *out);

#endif
