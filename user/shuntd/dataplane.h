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
struct pins;

typedef void dataplane_event_fn(void *arg, const struct event *event);

struct dataplane_options {
	uint64_t seed;
	uint32_t flows_max; /* capacity of the journal */
	dataplane_event_fn *on_event;
	void *arg;
	struct pins *pins; /* the caller's, open */
	bool anew; /* don't go on with pinned maps, though they fit */
};

/*
 * Load programs and maps; nothing is attached. Maps that an earlier run has left pinned are used again if they are of this
 * layout, seed and capacity (dataplane_inherited()), and others are left alone. 0 or -errno, and then *why says in one
 * sentence what is missing.
 */
int dataplane_open(struct dataplane **out, const struct dataplane_options *options, const char **why);

/*
 * To read only, beside a shuntd or without one: the newest maps that are pinned in the directory and of this layout. Of what
 * is below only what shows may be called, and nothing written. 0; -ENOENT: none are; or -errno, and *why.
 */
int dataplane_look(struct dataplane **out, struct pins *pins, const char *directory, const char **why);

bool dataplane_inherited(const struct dataplane *dp); /* the maps are an earlier run's, with what it had in them */
bool dataplane_replaces(
	const struct dataplane *dp); /* they are new, but other ones were left: traffic is served by them */

/* Pin what isn't yet. 0 or -errno, and then nothing of this run's is pinned. */
int dataplane_pin(struct dataplane *dp);

enum dataplane_end {
	DATAPLANE_LEAVE, /* what is pinned stays, and serves; all else goes */
	DATAPLANE_FAILED, /* as it was before this run, as far as that can be */
	DATAPLANE_REMOVE, /* links and pins go */
	DATAPLANE_AGAIN, /* nothing was attached yet, and it is opened once more */
};
void dataplane_close(struct dataplane *dp, enum dataplane_end end); /* and the pins, but for _AGAIN; NULL is allowed */

/*
 * Attach to an interface, native mode first, or find the link that an earlier run has left there, with its program
 * still: dataplane_take_over() replaces that. -EBUSY: somebody's program is there and stays.
 */
int dataplane_attach(struct dataplane *dp, unsigned ifindex, const char **mode, const char **why);

/*
 * Replace the programs that were found, each in one step, then remove everything that an earlier run has left pinned and
 * that is not used: other layouts, interfaces that are not ours any more. 0; or -errno, *why, and the interface.
 */
int dataplane_take_over(struct dataplane *dp, unsigned *ifindex, const char **why);

void dataplane_detach(struct dataplane *dp, unsigned ifindex); /* nothing where it was not attached */

/* Whether our program is there now: somebody may have detached it, or the interface is another one. Asks the kernel. */
bool dataplane_attached(const struct dataplane *dp, unsigned ifindex);

uint32_t dataplane_program_id(const struct dataplane *dp);

/* Whether this kernel can run the tick (bpf_timer); start it: evaluates every tick_ns until
 * detector.tick_stopped. Again: on another CPU, or after it stopped. */
bool dataplane_has_timer(const struct dataplane *dp);
int dataplane_start_tick(struct dataplane *dp, int cpu);

/* Shared memory, valid until dataplane_close(): arrays of SHUNT_MAX_BACKENDS, but one detector. */
struct backend *dataplane_backends(struct dataplane *dp);
struct session *dataplane_sessions(struct dataplane *dp);
struct detector *dataplane_detector(struct dataplane *dp);
const struct round_trips *dataplane_round_trips(struct dataplane *dp);

/* For the next run: one `about`; SHUNT_MAX_BACKENDS, SHUNT_MAX_POOLS and SHUNT_MAX_VIPS names. */
struct about *dataplane_about(struct dataplane *dp);
struct backend_name *dataplane_backend_names(struct dataplane *dp);
struct pool_name *dataplane_pool_names(struct dataplane *dp);
struct vip_name *dataplane_vip_names(struct dataplane *dp);

/* What answers and echoes are to be signed with, from the next one on. 0 or -errno. */
int dataplane_set_keys(struct dataplane *dp, const struct probe_keys *keys);

struct flow *dataplane_journal(struct dataplane *dp); /* journal_state.capacity of them */
struct journal_state *dataplane_journal_state(struct dataplane *dp);
struct backend_flows *dataplane_backend_flows(struct dataplane *dp); /* SHUNT_MAX_BACKENDS */
const struct syn *dataplane_syns(struct dataplane *dp); /* SHUNT_SYNS */

/* Give an entry back, whose word the caller has swapped for 0: the hash's entry goes, then the index. 0 or -errno. */
int dataplane_flow_free(struct dataplane *dp, uint32_t entry);

/* A free entry, whose word is 0: the caller's. 0, or -ENOSPC: the journal is full. */
int dataplane_flow_take(struct dataplane *dp, uint32_t *entry);

/* Let the entry, which is filled, be found by its flow. 0; -EEXIST: the flow has another; or -errno. */
int dataplane_flow_add(struct dataplane *dp, uint32_t entry);

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

/* The table that is in force in the kernel, to be freed; *n_slots of it at the most, and then how many it has. -ENOENT: there
 * is none, or its pin is gone. */
int dataplane_get_table(struct dataplane *dp, uint32_t pool, struct slot **slots, uint32_t *n_slots);
int dataplane_get_table_before(struct dataplane *dp, uint32_t pool, struct slot **slots, uint32_t *n_slots);
int dataplane_set_police(struct dataplane *dp, uint32_t vip, const struct police *police);
int dataplane_delete_vip(struct dataplane *dp, const struct vip_key *key);
int dataplane_set_vip(struct dataplane *dp, const struct vip *vip); /* new, or instead of what has its key; -ENOSPC */
/* The VIPs that packets find now: records of VIP_RECORDS, their number; `out` has room for SHUNT_MAX_VIPS. */
size_t dataplane_vips(struct dataplane *dp, const struct vip **out);
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
