/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * abi.h - every map key and value shared by the BPF programs and user space.
 *
 * Decides the layout, nothing else. No implicit padding: each struct's size is asserted.
 * Byte order lives in the type: __beNN is network order, __uNN is host order.
 */
#ifndef SHUNT_ABI_H
#define SHUNT_ABI_H

#include <linux/types.h>

/* Bumped whenever a size, an offset or a meaning below changes. */
#define SHUNT_ABI_VERSION 1

/* Capacities, chosen: the maps are preallocated, so these are memory (see tests/packet for the totals). */
#define SHUNT_MAX_VIPS 1024 /* entries of map `vips` and `vip_stats` */
#define SHUNT_MAX_POOLS 256 /* entries of map `tables` */
#define SHUNT_MAX_BACKENDS \
	4096 /* entries of map `backends`, `backend_stats`; a power of two: the low 12 bits of a discriminator */
#define SHUNT_MAX_INTERFACES 64 /* entries of map `egress` */
#define SHUNT_MAX_SLOTS 655373 /* largest prime allowed for `slots:` */
#define SHUNT_DEFAULT_SLOTS 65537

#define SHUNT_ASSERT_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type " has padding or moved")

/* An address: IPv6, or IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2). */
struct shunt_addr {
	__be32 w[4];
};
SHUNT_ASSERT_SIZE(struct shunt_addr, 16);

#ifdef __BYTE_ORDER__
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SHUNT_V4_MAPPED ((__be32)0xffff0000U) /* w[2] of a v4-mapped address */
#else
#define SHUNT_V4_MAPPED ((__be32)0x0000ffffU)
#endif
#endif

/* map `vips`: BPF_MAP_TYPE_HASH, vip_key -> vip. Written by shuntd, read by the walk. */
struct vip_key {
	struct shunt_addr address;
	__be16 port; /* 0: every port */
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 zero;
};
SHUNT_ASSERT_SIZE(struct vip_key, 20);

/* Words of a flow that are hashed; see hash.h for their content. */
#define SHUNT_FLOW_WORDS 5

struct vip {
	__u32 id; /* index into `vip_stats`, 0 .. SHUNT_MAX_VIPS - 1 */
	__u32 table; /* index into `tables`: the pool's id; VIPs of one pool share one table */
	__u32 n_slots; /* slots of that table, prime; 0: the pool is empty */
	__u32 flags; /* none yet */
	__u64 hash_mask[SHUNT_FLOW_WORDS]; /* ANDed with the flow's words: what `hash:` leaves out is 0 */
};
SHUNT_ASSERT_SIZE(struct vip, 56);

/* map `tables`: ARRAY_OF_MAPS, pool id -> array of slot_pair, ceil(n_slots / 2) entries (an array's element is
 * at least 8 bytes, so two slots share one). Replaced whole by one update: a packet sees the old table or the new one. */
struct slot {
	__u16 owner; /* backend id; 0: none */
	__u16 heir; /* first living backend after the owner in the order of succession; 0: none */
};
SHUNT_ASSERT_SIZE(struct slot, 4);

struct slot_pair {
	struct slot slot[2];
};
SHUNT_ASSERT_SIZE(struct slot_pair, 8);

/* When owner and heir are both down the walk tries this many other slots, then reason NO_BACKEND. */
#define SHUNT_SLOT_TRIES 8

/* map `backends`: ARRAY, mmap-able, backend id -> backend. Id 0 is never used. */
enum backend_state {
	BACKEND_UNUSED = 0,
	BACKEND_DOWN = 1, /* gets nothing; also the state before the first answers */
	BACKEND_UP = 2,
};

/* Why a backend is in its state; second byte of the state word. */
enum verdict {
	VERDICT_NONE = 0,
	VERDICT_JOINING = 1, /* configured, not yet answered for long enough */
	VERDICT_ANSWERING = 2, /* up */
	VERDICT_SILENT = 3, /* rounds unanswered, with a witness */
	VERDICT_UNRESOLVED = 4, /* no route or no link address (MAC) for it */
};

enum forward_mode {
	FORWARD_L2 = 1, /* rewrite the MAC addresses; direct return */
	FORWARD_IPIP = 2, /* IPv4 or IPv6 in IPv4 (RFC 2003, RFC 4213) or IPv6 (RFC 2473) */
};

/* The state word: flipping it is the failover. `UP` may be taken away by the detector in the kernel or by shuntd,
 * given by shuntd only; both by compare-and-swap on the whole word. */
#define BACKEND_WORD(state, verdict) ((__u32)(state) | (__u32)(verdict) << 8)
#define BACKEND_WORD_STATE(word) ((word)&0xffU)
#define BACKEND_WORD_VERDICT(word) (((word) >> 8) & 0xffU)

struct backend {
	__u32 word; /* BACKEND_WORD(); alone in its cache line */
	__u32 pad0[15];
	/* where packets go; written by shuntd from the kernel's tables */
	__u8 forward; /* enum forward_mode */
	__u8 family; /* outer address family: AF_INET or AF_INET6 */
	__u16 mtu_bytes; /* of the egress interface or route: largest outer IP packet; 0: unresolved */
	__u32 egress_ifindex; /* 0: unresolved, packets are dropped as NO_NEIGHBOUR */
	__u8 dst_mac[6]; /* next hop */
	__u8 src_mac[6]; /* egress interface */
	struct shunt_addr local; /* outer source (ipip) */
	struct shunt_addr address; /* outer destination (ipip) */
	__u32 pad1[3];
};
SHUNT_ASSERT_SIZE(struct backend, 128);

/* maps `vip_stats`, `backend_stats`: PERCPU_ARRAY, id -> traffic. */
struct traffic {
	__u64 packets;
	__u64 bytes; /* as received: from the Ethernet header on */
	__u64 new_flows; /* TCP segments with SYN and without ACK; 0 for UDP */
};
SHUNT_ASSERT_SIZE(struct traffic, 24);

/* map `reasons`: PERCPU_ARRAY, enum reason -> __u64 packets. The sum over all reasons is the packets seen. */
/* map `egress`: DEVMAP_HASH, ifindex -> ifindex. */

/* ---- heartbeats ---- */

/* Rounds remembered, the bits of a word; bounds `multiplier` to half of it. */
#define SHUNT_ROUNDS 64

/* A round is numbered from 1 and never repeats in a run of shuntd. */
struct round_time {
	__u64 round;
	__u64 sent_ns; /* CLOCK_MONOTONIC, taken just before its first probe was sent */
};
SHUNT_ASSERT_SIZE(struct round_time, 16);

/* One session: one backend's probes. Three writers, three cache lines or more. */
struct session {
	/* written by shuntd */
	__u32 discriminator; /* My Discriminator of our probes; low 12 bits: backend id; 0: no session */
	__u32 your_discriminator; /* the reflector's */
	struct shunt_addr address; /* answers come from here only */
	__u64 grace_ns; /* added to the silence that convicts: the usual round trip, where it exceeds an interval */
	__u32 pad0[8];
	/* written by the heartbeat receiver */
	__u64 answered_round; /* highest round answered */
	__u64 answered_ns; /* CLOCK_MONOTONIC, when that answer arrived */
	__u64 answers; /* accepted answers */
	__u64 rtt_ns; /* of the newest answer */
	__u32 engine; /* enum engine_state of the newest answer */
	__u32 incarnation; /* of the agent that gave it */
	__u32 agent_age_us;
	__u32 pad1[5];
	/* written by the prober */
	__u64 asked; /* bit r % SHUNT_ROUNDS: round r was really sent to this backend; the newest SHUNT_ROUNDS rounds */
	__u64 asked_count;
	__u64 pad2[6];
};
SHUNT_ASSERT_SIZE(struct session, 192);

/* map `sessions`: ARRAY, mmap-able, backend id -> session. */

/* map `detector`: ARRAY of one, mmap-able. Parameters by shuntd; counters by whoever runs the rule. */
struct detector {
	__u64 interval_ns;
	__u32 multiplier;
	__u32 n_sessions; /* session ids in use are 1 .. n_sessions */
	__u64 tick_ns; /* period of the rule's evaluation */
	__u64 round; /* newest round sent, written by the prober after the round was sent and its `asked` bits were set */
	__u64 ticks; /* evaluations made */
	__u64 late_max_ns; /* worst lateness of an evaluation */
	__u64 suspect_since_ns; /* self-suspect: silence without a witness since; 0: no */
	__u64 last_tick_ns;
	__u64 deaf_round; /* 1 + the highest round that anybody had answered when all fell silent; 0: not so */
	__u64 pardoned_round; /* rounds up to here convict nobody: they were sent while all were silent */
	__u64 pad[6];
	struct round_time rounds[SHUNT_ROUNDS]; /* [round % SHUNT_ROUNDS] */
};
SHUNT_ASSERT_SIZE(struct detector, 128 + 16 * SHUNT_ROUNDS);

/* map `events`: RINGBUF of struct event, BPF to shuntd. */
enum event_kind {
	EVENT_SILENT = 1, /* the detector took a backend down */
	EVENT_SELF_SUSPECT = 2 /* silence everywhere, nobody to bear witness */
};

struct event {
	__u32 kind; /* enum event_kind */
	__u32 backend; /* id; 0 for SELF_SUSPECT */
	__u64 at_ns; /* CLOCK_MONOTONIC, after the word was flipped */
	__u64 first_round; /* oldest unanswered round */
	__u64 first_sent_ns;
	__u64 last_round; /* newest round that counted */
	__u64 answered_ns; /* last answer of this backend */
	__u64 witness_round;
	__u32 witness; /* backend id */
	__u32 pad;
};
SHUNT_ASSERT_SIZE(struct event, 64);

#endif
