/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * journal.h - shuntd's side of the journal (shunt/abi.h): gives entries back, tells the clients of a dead backend,
 * leads flows on when slots move. Runs in the main loop, a bounded slice at a time; the walk goes on meanwhile.
 *
 * Sweep: what is closed or unanswered is given back. An idle flow's client is asked whether it lives (a challenge: see
 * core/segment.h). When the journal fills, VIP_CONFIRM is set, and SYNs that nothing followed are given back.
 */
#ifndef SHUNTD_JOURNAL_H
#define SHUNTD_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shunt/abi.h"

struct shuntd;
struct peer_flow;
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
 * refused; all others are challenged and reset when they answer). Begins now, before this returns (up to 10 ms of it), and
 * goes on in journal_run(). Where the VIP says `rehash` or `drop` nobody is told. The ledger gets an event "flows told"
 * with counts and times when all are through. Ends early if the backend serves again.
 */
void journal_tell(struct journal *journal, uint16_t backend);

/* After another run of shuntd: whoever that may not have told to the end is told. Goes on in journal_run(). */
void journal_resume(struct journal *journal);

/*
 * After another run of shuntd, which may have been killed between a change of a word and that of its counts (they are then
 * too high, never too low): recount. A backend whose entries stay what they are for as long as that takes is counted
 * exactly; what is found wrong twice is corrected, and the others are tried again. Goes on in journal_run(), behind all else.
 */
void journal_audit(struct journal *journal);

/*
 * True while clients wait for their first word: what blocks the main loop for milliseconds and is not urgent (swapping in
 * a table with new heirs) should wait until this is false.
 */
bool journal_telling(const struct journal *journal);

/* What flows; a member that is 0 or NULL matches all. */
struct flow_filter {
	uint16_t backend;
	uint32_t vip; /* id + 1; 0: any */
	const struct shunt_addr *client; /* NULL: any */
	uint8_t client_prefix; /* bits of it that count, as written: 0 .. 32 for IPv4, 0 .. 128 for IPv6 */
	__be16 client_port; /* 0: any */
	uint8_t state; /* enum flow_state; 0: all but FLOW_FREE */
	uint64_t heard_ns; /* CLOCK_MONOTONIC: of those that close only who was heard since; 0: all */
	int detour; /* 1: those with FLOW_DETOUR only; -1: others only; 0: both */
	bool ours; /* of journal_reset() alone: not those that the peer answers for */
};

bool flow_matches(const struct flow_filter *filter, const struct flow *flow);

/*
 * End flows of living backends: each becomes an orphan now (FLOW_RESET), and its client is challenged, which begins in the
 * next journal_run(). What of the peer's is reset is ours from then on. Returns how many.
 */
size_t journal_reset(struct journal *journal, const struct flow_filter *filter);

/*
 * The slots of a pool moved: its new table is in force (dataplane_set_table()), VIP_MIGRATING is set on its VIPs. Gives
 * every recorded flow its new owner, a slice at a time; then calls `done`. Called again for the same pool meanwhile it
 * begins anew, and the newer `done` alone is called.
 */
void journal_move(struct journal *journal, uint32_t pool, void (*done)(void *arg, uint32_t pool), void *arg);

/*
 * Copies of the peer's flows (FLOW_SYNCED: core/peer.h). While the peer is there they are its own to sweep, to ask and to
 * tell, and this end only tells what of a dead backend's the peer left untold. While it is away they are as ours are.
 */
void journal_peer(struct journal *journal, bool is_there);

/*
 * What the peer says of flows. The walk goes on meanwhile, on other CPUs, and may at any moment take a packet of the same
 * flow. What then happens:
 *   find    It may open a flow that wasn't found: insert says so. What was found only shuntd gives back.
 *   insert  An entry is taken, filled, and its word set before the hash knows it, as the walk does it; so nobody sees half
 *           an entry, and nobody else has it. The hash takes one entry a flow: if the walk was faster, ours goes back, and
 *           -EEXIST. If we are faster, the walk's goes back, and the SYN went to whom the walk chose, which may not be
 *           whom the entry names: the client's next SYN is led by the entry.
 *   follow, claim, drop   The word is swapped. If the walk changed it meanwhile, the flow has packets here: follow says
 *           so, claim has nothing left to do, and what is to be dropped is no copy any more and stays.
 *   isn, opened_ns   The walk writes them when it opens an entry anew. A follow at that moment may overwrite them; the
 *           walk's word is no copy, so the peer is told, and comes to the same.
 */
int journal_find(struct journal *journal, const struct flow_key *key, uint32_t *entry); /* 0 or -ENOENT */
int journal_insert(struct journal *journal, const struct peer_flow *flow, uint32_t *entry); /* 0, -EEXIST, -ENOSPC */
bool journal_follow(struct journal *journal, uint32_t entry, uint64_t word, const struct peer_flow *flow);
void journal_claim(struct journal *journal, uint32_t entry);
void journal_drop(struct journal *journal, uint32_t entry);

/* Entries in use and how they stand; exact at some moment during the call. */
struct journal_counts {
	uint32_t used, capacity; /* used: not FLOW_FREE */
	uint64_t open, closing, closed, detours;
};
void journal_count(const struct journal *journal, struct journal_counts *out);

/* Entries in use, as far as is known without a look at each. */
uint64_t journal_in_use(const struct journal *journal); /* NULL: it is not looked through, 0 */

#endif
