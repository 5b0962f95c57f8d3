/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * world.h - the program under test with its maps filled: VIPs on two addresses of each family, one pool per way to be
 * forwarded or not. A destination port chooses the pool.
 */
#ifndef SHUNT_TESTS_WORLD_H
#define SHUNT_TESTS_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "shunt/abi.h"
#include "shunt/heartbeat.h"
#include "shunt/reasons.h"

#define VIP_4 "203.0.113.10"
#define VIP_6 "2001:db8:f::10"
#define ANY_4 "203.0.113.20" /* every port, hashes the source */
#define ANY_6 "2001:db8:f::20"
#define ANY_5TUPLE_4 "203.0.113.21" /* every port, hashes the ports */
#define ANY_5TUPLE_6 "2001:db8:f::21"
#define LOCAL_4 "10.0.0.1"
#define LOCAL_6 "fd00::1"
#define BACKEND_4 "10.0.0.11"
#define BACKEND_6 "fd00::11"

/* Pools; each is the destination port of a VIP too. Pools below POOL_EMPTY have one backend of the pool's number. */
enum pool {
	POOL_L2 = 1,
	POOL_IPIP4,
	POOL_IPIP6,
	POOL_IPIP4_ELSEWHERE, /* another interface */
	POOL_L2_ELSEWHERE,
	POOL_IPIP4_SMALL, /* path of 600 bytes */
	POOL_IPIP6_SMALL, /* path of 1320 bytes */
	POOL_IPIP4_TINY, /* path of 87 bytes: no IPv4 link */
	POOL_UNRESOLVED,
	POOL_NO_EGRESS, /* an interface that is not in `egress` */
	POOL_DOWN, /* owner and heir */
	POOL_EMPTY,
	POOL_MISSING, /* no table */
	POOL_NO_RECORD, /* a slot names a backend beyond the map */
	POOL_HEIR, /* owner down, heir is the backend of POOL_L2 */
	POOL_MANY, /* 100 backends, 65,537 slots */
	POOL_FLOWS, /* one slot: FLOW_OWNER, FLOW_HEIR */
	POOL_FEW, /* FEW_SLOTS slots, few of them served: world_few_served() */
	N_POOLS
};

/* The last two bytes of their MAC addresses are their ids. */
#define FLOW_OWNER 2001
#define FLOW_HEIR 2002
#define FLOW_THIRD 2003

#define MANY_FIRST 1000 /* id of the first of the 100 */
#define MANY 100
#define FEW_SLOTS 251 /* the least that a configuration may ask for */
#define FLOWS_MAX 4096 /* entries of the journal */
#define WORLD_SEED 0x5eed0123456789abULL
#define MTU 1500
#define MTU_SMALL 600
#define MTU_SMALL_6 1320

extern const uint8_t mac_next_hop[MAC_BYTES];

/* Session for heartbeat rows. */
#define SESSION_ID 7
#define SESSION_DISCRIMINATOR 0x00042007U
#define ROUND_NOW 1000 /* newest round; answered so far: ROUND_NOW - 3 */

int world_open(void); /* 0 or -errno */
void world_close(void);
void world_reset_session(int family); /* unanswered since ROUND_NOW - 3; no keys */
void world_set_session_kind(enum session_kind kind); /* of SESSION_ECHO also the address and the discriminators */
void world_set_keys(const struct probe_keys *keys);
void world_ask(uint64_t round, uint64_t ago_ns); /* the round was sent so long ago */
void world_set_heartbeats(bool is_there); /* the program that the walk leaves for */
struct session *world_session(void);
const struct round_trips *world_round_trips(void); /* of SESSION_ID */
uint32_t *world_word(uint32_t backend); /* the state word itself */
int world_events_fd(void); /* map `events` */
void world_set_state(uint32_t backend, uint32_t state);
void world_find_silent(uint32_t backend, enum verdict verdict, uint64_t doubted_until_ns); /* it is down */

/* Slot's owner in POOL_MANY, as the world filled it. */
uint16_t world_owner(uint32_t slot);
bool world_few_served(uint32_t slot);
/* The flow's hash as user space computes it. */
uint32_t world_hash(const char *src, const char *dst, int protocol, uint16_t sport, uint16_t dport, int source_only);

struct run {
	uint32_t action; /* XDP_* */
	struct frame frame; /* as it left */
};

/* One packet through shunt_ingress(), meta_bytes of headroom taken by metadata. 0 or -errno. */
int world_run(struct run *out, const struct frame *in, unsigned meta_bytes);

void world_reasons(uint64_t out[REASON_COUNT]);
void world_traffic(int is_vip, uint32_t id, struct traffic *out);
uint32_t world_verified_insns(const char *program);

/* ---- flows: those of POOL_FLOWS, over TCP ---- */

/* An empty journal, no counts, all three backends up, the VIP as world_flows_vip(0, ON_FAILURE_RESET, 0) makes it. */
void world_flows_reset(void);

/* VIP_* flags, enum on_failure, the slot's owner in `tables_before` (0: there is no such table). */
#define WORLD_EMPTY_POOL 0x80000000U /* a flag of our own: the pool has no slots */
void world_flows_vip(uint32_t flags, uint32_t on_failure, uint16_t owner_before);
void world_journal(uint32_t capacity); /* at most FLOWS_MAX */
uint32_t world_journal_used(void);
void world_pace(uint64_t due_ns); /* CLOCK_MONOTONIC, of the next RST on each CPU */
void world_police(uint64_t period_ns, uint64_t burst_ns, const char *mask, bool drop);

struct flow_key world_flow_key(const struct spec *s);
struct flow *world_flow(const struct spec *s); /* the entry of the flow that a spec's segment belongs to; NULL: none */
uint32_t world_flow_entry(const struct flow *f);
void world_flow_set(struct flow *f, uint64_t word); /* and the counts, as shuntd does */
void world_flow_free(struct flow *f);
uint64_t world_live(uint32_t backend);
uint64_t *world_moved_ns(uint32_t backend); /* backend_flows.moved_ns itself */
uint32_t world_detours(uint32_t backend);
struct flow_stats world_flow_stats(void);
const struct syn *world_syn(uint32_t hash);

#endif
