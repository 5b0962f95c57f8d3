/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * dataplane.h - the seam to the kernel's side: programs, maps, the tick. The only file of shuntd that sees libbpf is
 * dataplane.c.
 */
#ifndef SHUNTD_DATAPLANE_H
#define SHUNTD_DATAPLANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shunt/abi.h"
#include "shunt/heartbeat.h"
#include "shunt/reasons.h"

struct dataplane;

typedef void dataplane_event_fn(void *arg, const struct event *event);

struct dataplane_options {
	uint64_t seed;
	uint32_t flows_max; /* capacity of the journal */
	dataplane_event_fn *on_event;
	void *arg;
};

/* Load programs and maps; nothing is attached. 0 or -errno, and then *why says in one sentence what is missing. */
int dataplane_open(struct dataplane **out, const struct dataplane_options *options, const char **why);
void dataplane_close(struct dataplane *dp); /* detaches */

/* Attach to an interface, native mode first. -EBUSY: somebody's program is there and stays. */
int dataplane_attach(struct dataplane *dp, unsigned ifindex, const char **mode, const char **why);

/* Whether our program is there now: somebody may have detached it, or the interface is another one. Asks the kernel. */
bool dataplane_attached(const struct dataplane *dp, unsigned ifindex);

void dataplane_detach(struct dataplane *dp, unsigned ifindex); /* nothing where it was not attached */

/* Whether this kernel can run the tick (bpf_timer); start it: evaluates every tick_ns until
 * detector.tick_stopped. Again: on another CPU, or after it stopped. */
bool dataplane_has_timer(const struct dataplane *dp);
int dataplane_start_tick(struct dataplane *dp, int cpu);

/* Shared memory, valid until dataplane_close(): arrays of SHUNT_MAX_BACKENDS, but one detector. */
struct backend *dataplane_backends(struct dataplane *dp);
struct session *dataplane_sessions(struct dataplane *dp);
struct detector *dataplane_detector(struct dataplane *dp);
const struct round_trips *dataplane_round_trips(struct dataplane *dp);

/* What answers and echoes are to be signed with, from the next one on. 0 or -errno. */
int dataplane_set_keys(struct dataplane *dp, const struct probe_keys *keys);

struct flow *dataplane_journal(struct dataplane *dp); /* journal_state.capacity of them */
struct journal_state *dataplane_journal_state(struct dataplane *dp);
struct backend_flows *dataplane_backend_flows(struct dataplane *dp); /* SHUNT_MAX_BACKENDS */
const struct syn *dataplane_syns(struct dataplane *dp); /* SHUNT_SYNS */

/* Give an entry back, whose word the caller has swapped for 0: the hash's entry goes, then the index. 0 or -errno. */
int dataplane_flow_free(struct dataplane *dp, uint32_t entry);

/* The entry of a flow, or -ENOENT. */
int dataplane_flow_find(struct dataplane *dp, const struct flow_key *key, uint32_t *entry);

/* Let a recorded SYN walk once more, as if it came in again now. 0 or -errno. */
int dataplane_syn_replay(struct dataplane *dp, const struct syn *syn);

int dataplane_flow_stats(struct dataplane *dp, struct flow_stats *out);

/* Replace a pool's table in one step. 0 or -errno. Returns when no packet reads the old one any more. */
int dataplane_set_table(struct dataplane *dp, uint32_t pool, const struct slot *slots, uint32_t n_slots);

/* The table that unrecorded flows follow while a VIP is VIP_MIGRATING. */
int dataplane_set_table_before(struct dataplane *dp, uint32_t pool, const struct slot *slots, uint32_t n_slots);
int dataplane_clear_table(struct dataplane *dp, uint32_t pool); /* and the one before */
int dataplane_set_police(struct dataplane *dp, uint32_t vip, const struct police *police);
int dataplane_delete_vip(struct dataplane *dp, const struct vip_key *key);
int dataplane_set_vip(struct dataplane *dp, const struct vip *vip); /* new, or instead of what has its key; -ENOSPC */
int dataplane_add_egress(struct dataplane *dp, unsigned ifindex);

/* Sums over CPUs. 0 or -errno. */
int dataplane_vip_traffic(struct dataplane *dp, uint32_t vip, struct traffic *out);
void dataplane_forget_vip(struct dataplane *dp, uint32_t vip); /* the id is another's now: its traffic begins at 0 */
void dataplane_forget_backend(struct dataplane *dp, uint32_t backend);
int dataplane_backend_traffic(struct dataplane *dp, uint32_t backend, struct traffic *out);
int dataplane_reasons(struct dataplane *dp, uint64_t out[REASON_COUNT]);

/* Ring buffer: poll the descriptor for reading, then drain; each event goes to on_event. */
int dataplane_event_fd(const struct dataplane *dp);
int dataplane_drain_events(struct dataplane *dp);

#endif
