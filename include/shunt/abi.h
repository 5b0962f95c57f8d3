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
#define SHUNT_ABI_VERSION 4

/* Capacities, chosen: the maps are preallocated, so these are memory (see tests/packet for the totals). */
#define SHUNT_MAX_VIPS 1024 /* entries of map `vip_stats` */
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

/*
 * A VIP is found by its key through map `vip_index`: ARRAY, mmap-able, of VIP_BUCKETS 64-bit buckets: a record's number in
 * the low half, 0: none; a check in the high half. Its record is in map `vips`: ARRAY, mmap-able, of VIP_RECORDS struct vip.
 * How: shunt/vips.h. Both written by shuntd, read by the walk.
 */
#define VIP_BUCKETS 4096 /* power of two; chosen: a quarter full at the most */
#define VIP_PROBES 16 /* chosen: far more than a set of VIPs a quarter as large needs */
#define VIP_RECORDS (2 * SHUNT_MAX_VIPS) /* a record that is replaced is left alone for a while */
#define VIP_BUCKET_GONE 0xffffffffULL /* was in use: those behind it are to be looked for still */

struct vip_key {
	struct shunt_addr address;
	__be16 port; /* 0: every port */
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 zero;
};
SHUNT_ASSERT_SIZE(struct vip_key, 20);

/* Words of a flow that are hashed; see hash.h for their content. */
#define SHUNT_FLOW_WORDS 5

enum on_failure { /* what becomes of a packet whose flow's backend is dead */
		  ON_FAILURE_RESET = 0, /* TCP: the client is reset */
		  ON_FAILURE_REHASH = 1, /* it goes to the heir */
		  ON_FAILURE_DROP = 2,
};

#define VIP_JOURNAL 1U /* flows are recorded: TCP */
#define VIP_MIGRATING 2U /* slots moved: `tables_before` holds the table that unrecorded flows still follow */
#define VIP_CONFIRM 4U /* the journal fills: data packets look their flow up once and mark it confirmed */
#define VIP_POLICED 8U /* SYNs are policed: map `police` */
#define VIP_MASKED 16U /* hash_mask leaves something out */

struct vip {
	__u32 id; /* index into `vip_stats` and `police`, 0 .. SHUNT_MAX_VIPS - 1 */
	__u32 table; /* index into `tables`: the pool's id; VIPs of one pool share one table */
	__u32 n_slots; /* slots of that table, prime; 0: the pool is empty */
	__u32 flags; /* VIP_* */
	__u32 on_failure; /* enum on_failure */
	__u32 n_slots_before; /* VIP_MIGRATING: slots of the table in `tables_before`; 0: it had none */
	__u64 hash_mask[SHUNT_FLOW_WORDS]; /* ANDed with the flow's words: what `hash:` leaves out is 0 */
	struct vip_key key; /* in the next cache line */
	__u32 pad[11];
};
SHUNT_ASSERT_SIZE(struct vip, 128);

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
	BACKEND_DRAINING = 3, /* no new flow; those it has go on */
};

/* Why a backend is in its state; second byte of the state word. */
enum verdict {
	VERDICT_NONE = 0,
	VERDICT_JOINING = 1, /* configured, not yet answered for long enough */
	VERDICT_ANSWERING = 2, /* up */
	VERDICT_SILENT = 3, /* rounds unanswered, with a witness */
	VERDICT_UNRESOLVED = 4, /* no route or no link address (MAC) for it */
	VERDICT_DRAINED = 5, /* draining because an operator said so */
	VERDICT_ASKED = 6, /* draining because its agent asked for it (S-BFD AdminDown, RFC 7880 7.3.3) */
	VERDICT_REMOVED = 7, /* draining because the configuration no longer has it */
	VERDICT_DEAD = 8, /* its agent's answer says that the engine ended */
	VERDICT_STALLED = 9, /* its agent's answer says that the engine's beat is older than its limit */
	VERDICT_LOADING = 10, /* draining because its engine isn't ready: a soft verdict */
	VERDICT_PEER_DOWN = 11, /* its BFD peer says that it doesn't hear us (RFC 5880 6.8.6: neighbor signaled down) */
};

enum forward_mode {
	FORWARD_L2 = 1, /* rewrite the MAC addresses; direct return */
	FORWARD_IPIP = 2, /* IPv4 or IPv6 in IPv4 (RFC 2003, RFC 4213) or IPv6 (RFC 2473) */
};

/* The state word: flipping it is the failover. `UP` may be taken away by the detector and the heartbeat receiver in the
 * kernel or by shuntd, given by shuntd only; both by compare-and-swap on the whole word. */
#define BACKEND_WORD(state, verdict) ((__u32)(state) | (__u32)(verdict) << 8)
#define BACKEND_WORD_STATE(word) ((word)&0xffU)
#define BACKEND_WORD_VERDICT(word) (((word) >> 8) & 0xffU)

struct backend {
	__u32 word; /* BACKEND_WORD(); in its cache line only what changes as seldom */
	__u32 detours; /* flows whose slot it owns and that another backend serves, or that are to be reset: while there are
			  any, packets for its slots are looked up. Added to by the walk, subtracted from by shuntd, atomically */
	__u32 pad0[14];
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
	__u64 policed; /* `vip_stats` alone: those above their source's limit, dropped or only counted */
};
SHUNT_ASSERT_SIZE(struct traffic, 32);

/* map `reasons`: PERCPU_ARRAY, enum reason -> __u64 packets. The sum over all reasons is the packets seen. */
/* map `egress`: DEVMAP_HASH, ifindex -> ifindex. */

/* ---- flows ---- */

/*
 * The journal: which TCP flow is where. A hash finds an entry by its flow (map `flows`: flow_key -> __u32 index), an
 * mmap-able array holds it (map `journal`), so that user space reads all entries without asking the kernel. Free entries
 * are in a stack (map `journal_free`: __u32 index) and, never used yet, above `journal_state.used`. The walk takes entries,
 * shuntd alone gives them back: first its word is swapped for 0, then the hash's entry goes, then the index is pushed. So
 * the walk takes an entry whose word is 0 for none, and never revives it.
 */
struct flow_key {
	struct shunt_addr client;
	struct shunt_addr vip;
	__be16 client_port;
	__be16 vip_port;
	__u8 protocol;
	__u8 zero[3];
};
SHUNT_ASSERT_SIZE(struct flow_key, 40);

enum flow_state {
	FLOW_FREE = 0,
	FLOW_OPEN = 1, /* its SYN was seen; counted in `backend_flows.live` of its backend */
	FLOW_CLOSING = 2, /* the client's FIN was seen */
	FLOW_CLOSED = 3, /* a RST was seen, or sent to the client */
};

#define FLOW_DETOUR 1U /* it counts in its owner's `detours`: served by another, or FLOW_RESET or FLOW_ASKED is set */
#define FLOW_CONFIRMED 2U /* a packet of it other than its SYN or a RST was looked up */
#define FLOW_RESET 4U /* an operator ended it: an orphan though its backend lives */
/* shuntd asked its client whether it lives, or listens to it. Set along with FLOW_DETOUR and without FLOW_CONFIRMED, so that
 * what it sends is looked up and confirms it; the walk leaves it as it is, and a SYN that takes the entry anew drops it. */
#define FLOW_ASKED 8U
/* A copy of the peer's flow: its packets come to the other balancer. Set by shuntd; the walk takes it away when it looks up
 * a packet of it, for then they come here. See core/peer.h. */
#define FLOW_SYNCED 16U

/* The entry's word: changed by compare-and-swap on the whole of it, and whoever wins adjusts the counts. */
#define FLOW_WORD(backend, owner, state, flags) \
	((__u64)(backend) | (__u64)(owner) << 16 | (__u64)(state) << 32 | (__u64)(flags) << 40)
#define FLOW_WORD_BACKEND(word) ((__u16)(word))
#define FLOW_WORD_OWNER(word) ((__u16)((word) >> 16))
#define FLOW_WORD_STATE(word) ((__u8)((word) >> 32))
#define FLOW_WORD_FLAGS(word) ((__u8)((word) >> 40))

struct flow {
	__u64 word; /* FLOW_WORD(); 0: the entry is free */
	__u64 opened_ns; /* CLOCK_MONOTONIC, its SYN */
	__u64 seen_ns; /* CLOCK_MONOTONIC, the newest packet that was looked up */
	struct flow_key key;
	__u32 isn; /* client's initial sequence number, host order */
	__u32 vip; /* id */
	__u32 ingress_ifindex; /* where its SYN came in */
	__u32 challenged; /* FLOW_CHALLENGED(): what shuntd sent the client so that it speaks; written by shuntd alone */
};
SHUNT_ASSERT_SIZE(struct flow, 80);

/* How many challenges (up to 15), and when the newest: CLOCK_MONOTONIC in 1/16 s, the low 28 bits of it. */
#define FLOW_CHALLENGED(n, at_ns) ((__u32)(n) | (__u32)((at_ns) / 62500000U) << 4)
#define FLOW_CHALLENGES(challenged) ((challenged)&15U)

/* map `journal_state`: ARRAY of one, mmap-able. */
struct journal_state {
	__u32 used; /* entries below were used at some time; the walk adds, atomically */
	__u32 capacity; /* entries in `journal` */
	__u32 pad[14];
};
SHUNT_ASSERT_SIZE(struct journal_state, 64);

/* map `backend_flows`: ARRAY, mmap-able, backend id -> its flows; a cache line each. */
struct backend_flows {
	__u64 live; /* entries in FLOW_OPEN that it serves: exact; added to and subtracted from by walk and shuntd */
	__u64 moved_ns; /* CLOCK_MONOTONIC: when the walk first gave another a packet of its slots because it was down; 0: it
			   didn't since shuntd last wrote 0, which it does when the backend comes up */
	__u64 doubted_until_ns; /* CLOCK_MONOTONIC: a `silent` one keeps the flows that it has until then. By who judged it;
				   0 by shuntd, when it has decided */
	__u64 pad[5];
};
SHUNT_ASSERT_SIZE(struct backend_flows, 64);

/* map `flow_stats`: PERCPU_ARRAY of one. */
struct flow_stats {
	__u64 opened; /* entries taken or taken anew */
	__u64 full; /* SYNs served without an entry, the journal being full */
	__u64 looked_up; /* packets other than SYNs looked up */
};
SHUNT_ASSERT_SIZE(struct flow_stats, 24);

/*
 * map `syns`: ARRAY, mmap-able, hash % SHUNT_SYNS -> the frame of a SYN that was recorded, the newest of that number, so
 * that shuntd can let it walk again when its backend dies before it answered.
 */
#define SHUNT_SYNS 4096
#define SYN_BYTES 128 /* Ethernet, two tags, IPv6, TCP with all its options: 122 */
struct syn {
	__u64 at_ns; /* CLOCK_MONOTONIC; 0: none. Written last, and 0 first */
	__u32 entry; /* of its flow in `journal` */
	__u32 ifindex; /* where it came in */
	__u32 n_bytes;
	__u32 zero;
	__u8 frame[SYN_BYTES];
};
SHUNT_ASSERT_SIZE(struct syn, 24 + SYN_BYTES);

/*
 * Policing of SYNs, per VIP and source prefix, by the generic cell rate algorithm (ITU-T I.371): a bucket is the time at
 * which the next SYN is due; one that comes more than burst_ns too early is above the limit.
 * map `police`: ARRAY, VIP id -> police. map `police_buckets`: LRU_HASH, police_key -> __u64 due_ns.
 */
struct police {
	__u64 period_ns; /* a second divided by the rate */
	__u64 burst_ns; /* period x (burst - 1) */
	__be32 mask[4]; /* of the source address, v4-mapped as always */
	__u32 drop; /* 1: drop what is above; 0: only count it */
	__u32 zero;
};
SHUNT_ASSERT_SIZE(struct police, 40);

#define SHUNT_POLICE_BUCKETS 65536 /* chosen: the newest sources; an older one starts with a full bucket again */
struct police_key {
	struct shunt_addr prefix;
	__u32 vip;
};
SHUNT_ASSERT_SIZE(struct police_key, 20);

/* RSTs in answer to orphans: at most so many a second on each CPU, chosen: twice what a push of 100,000 flows needs. */
#define ORPHAN_RESETS_PER_S 200000

/* ---- heartbeats ---- */

/* Rounds remembered, the bits of a word; bounds `multiplier` to half of it. */
#define SHUNT_ROUNDS 64

/* A round is numbered from 1 and never repeats while the maps live. */
struct round_time {
	__u64 round;
	__u64 sent_ns; /* CLOCK_MONOTONIC, taken just before its first probe was sent */
};
SHUNT_ASSERT_SIZE(struct round_time, 16);

/* How a session's question is asked, and who takes in the answer. */
enum session_kind {
	SESSION_HEARTBEAT = 0, /* by the prober, each round; an agent answers; the receiver in XDP */
	SESSION_ECHO = 1, /* by the prober, each round; the host only forwards (RFC 9747); the receiver in XDP */
	SESSION_CHECKED =
		2, /* by the checker (bfd, tcp, http), in its own time: no round is asked, so silence_judge() has no say */
};

/* One session: one backend's probes. Three writers, three cache lines or more. */
struct session {
	/* written by shuntd */
	__u32 discriminator; /* My Discriminator of our probes; low 12 bits: backend id; 0: no session */
	__u32 your_discriminator; /* the reflector's; SESSION_ECHO: our own once more */
	struct shunt_addr
		address; /* answers come from here only; SESSION_ECHO: the balancer's own, where they go and come from */
	__u64 grace_ns; /* added to the silence that convicts: the usual round trip, where it exceeds an interval */
	__u32 kind; /* enum session_kind */
	__u32 pad0[7];
	/* written by the heartbeat receiver; SESSION_CHECKED: by the checker */
	__u64 answered_round; /* highest round answered */
	__u64 answered_ns; /* CLOCK_MONOTONIC, when that answer arrived */
	__u64 answers; /* accepted answers */
	__u64 rtt_ns; /* of the newest answer */
	__u32 engine; /* enum engine_state of the newest answer */
	__u32 incarnation; /* of the agent that gave it */
	__u32 agent_age_us; /* PROBE_AGE_UNKNOWN of an echo, and of another version, of which the rest is 0 */
	__u32 flags; /* of the newest answer's trailer: PROBE_FULL */
	__u32 version; /* PROBE_VERSION of the agent that gave it; another than ours: it proves the host, not the engine */
	__u32 in_flight; /* requests running there, as it said */
	__u32 queued; /* requests waiting */
	__u32 too_late; /* answers to rounds that are no longer in detector.rounds, or that say so; wraps */
	/* written by the heartbeat receiver where rounds get lost */
	__u32 loss; /* share of the rounds asked that was not answered though a later one was: LOSS_ONE is all; smoothed */
	__u32 forged; /* answers to a round asked whose tag was made with none of the keys; wraps */
	__u32 pad1[14];
	/* written by the prober */
	__u64 asked; /* bit r % SHUNT_ROUNDS: round r was really sent to this backend; the newest SHUNT_ROUNDS rounds */
	__u64 asked_count;
	__u64 pad2[6];
};
SHUNT_ASSERT_SIZE(struct session, 256);

/* map `sessions`: ARRAY, mmap-able, backend id -> session. */

/*
 * map `round_trips`: ARRAY, mmap-able, backend id -> its round trips so far, counted by the receiver. Bucket i holds those
 * below its limit: see shunt/round_trip.h.
 */
#define ROUND_TRIP_BUCKETS 64
struct round_trips {
	__u32 buckets[ROUND_TRIP_BUCKETS]; /* wraps */
};
SHUNT_ASSERT_SIZE(struct round_trips, 256);

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
	__u64 pardoned_round; /* rounds up to here convict nobody: sent while all were silent, or under other parameters */
	__u64 tick_stopped; /* 1: the kernel's tick ends itself, shuntd runs the rule; written by shuntd */
	__u64 doubt_ns; /* how long the verdict `silent` leaves a backend its flows if shuntd doesn't decide; by shuntd */
	__u64 pad[4];
	struct round_time rounds[SHUNT_ROUNDS]; /* [round % SHUNT_ROUNDS] */
};
SHUNT_ASSERT_SIZE(struct detector, 128 + 16 * SHUNT_ROUNDS);

/* ---- what the next run of shuntd must know ---- */

/*
 * The maps above outlive shuntd, pinned; those below say what is in them. The walk knows nothing of them: they are written
 * and read by shuntd alone, all mmap-able. An id's name is written before anything else uses the id, and taken away
 * after nothing does: its first byte is the last to be written, and the first to go.
 */

/* map `about`: ARRAY of one. abi_version is the first for ever. */
struct about {
	__u32 abi_version; /* SHUNT_ABI_VERSION of all the maps that are pinned with it */
	__u32 flows_max;
	__u64 seed; /* of tables and of flow_keys */
	__u64 began_ns; /* CLOCK_MONOTONIC, when the maps were made */
	__u64 started_ns; /* CLOCK_MONOTONIC, when the newest run took them */
	__u32 n_runs; /* that had them */
	__u32 pid; /* of the newest run */
	__u64 pad[3];
};
SHUNT_ASSERT_SIZE(struct about, 64);

#define SHUNT_NAME_MAX 64 /* CONFIG_NAME_MAX of core/config.h */
#define SHUNT_PATH_MAX 256 /* CONFIG_PATH_MAX of core/config.h */

/* map `backend_names`: ARRAY, backend id -> who has it; as configured (core/config.h), and how it stands. */
struct backend_name {
	char name[SHUNT_NAME_MAX]; /* "": nobody */
	char domain[SHUNT_NAME_MAX];
	struct shunt_addr address;
	__u32 pool; /* id */
	__u32 weight;
	__u32 forward; /* enum forward_mode */
	__u32 word; /* the newest that shuntd has acted upon */
	__u64 since_ns; /* CLOCK_MONOTONIC, when it came into force */
	__u64 since_wall_s; /* the same, CLOCK_REALTIME */
	__u64 drain_since_ns; /* CLOCK_MONOTONIC */
	__u64 drain_deadline_ns; /* CLOCK_MONOTONIC; 0: none */
	__u64 n_cut; /* flows that were reset at the deadline */
	__u8 draining; /* enum verdict: why; VERDICT_NONE: it doesn't */
	__u8 drained; /* its draining is over */
	__u8 gone; /* removed and drained: nothing is left but flows that name it */
	__u8 zero;
	/* how it is asked: struct config_check */
	__u32 check_type;
	__u64 check_interval_ns;
	__u64 check_timeout_ns;
	__u32 check_multiplier;
	__u32 check_rise;
	__u32 check_fall;
	__u32 check_port;
	char check_path[SHUNT_PATH_MAX];
	__u32 configured_weight; /* another than `weight` while a command holds against it */
	__u32 pad[3];
};
SHUNT_ASSERT_SIZE(struct backend_name, 512);

/* map `pool_names`: ARRAY, pool id -> which pool has it. While its number of slots changes a pool has two. */
struct pool_name {
	char name[SHUNT_NAME_MAX]; /* "": none */
	__u32 n_slots; /* of the tables of this id */
	__u32 moved_from; /* 1 + the id that it had before, until its flows are led over; 0: they are */
	__u32 max_soft_eject; /* percent */
	__u32 removed; /* 1: the configuration no longer has it; it waits for its backends to go */
	__u32 pad[12];
};
SHUNT_ASSERT_SIZE(struct pool_name, 128);

/* map `vip_names`: ARRAY, VIP id -> which VIP has it; what isn't in its record. */
struct vip_name {
	char name[SHUNT_NAME_MAX]; /* "": none */
	__u32 hash; /* enum config_hash */
	__u32 hash_prefix;
	__u32 required;
	/* struct config_syn_limit */
	__u32 syn_action;
	__u32 syn_rate;
	__u32 syn_burst;
	__u32 syn_prefix;
	__u32 pad[9];
};
SHUNT_ASSERT_SIZE(struct vip_name, 128);

/* map `events`: RINGBUF of struct event, BPF to shuntd. */
enum event_kind {
	EVENT_SILENT = 1, /* the detector took a backend down */
	EVENT_SELF_SUSPECT = 2, /* silence everywhere, nobody to bear witness */
	EVENT_DEAD = 3, /* the receiver took a backend down: VERDICT_DEAD */
	EVENT_STALLED = 4, /* the receiver took a backend down: VERDICT_STALLED */
	EVENT_PEER_DOWN =
		5, /* the checker took a backend down: VERDICT_PEER_DOWN; cause: the peer's diagnostic, RFC 5880 4.1 */
};

struct event {
	__u32 kind; /* enum event_kind */
	__u32 backend; /* id; 0 for SELF_SUSPECT */
	__u64 at_ns; /* CLOCK_MONOTONIC, after the word was flipped */
	__u64 first_round; /* oldest unanswered round; DEAD, STALLED: the round whose answer said so */
	__u64 first_sent_ns;
	__u64 last_round; /* newest round that counted */
	__u64 answered_ns; /* last answer of this backend */
	__u64 witness_round;
	__u32 witness; /* backend id */
	__u32 cause; /* DEAD: ENGINE_CAUSE() of heartbeat.h; SILENT of rounds: how many were left unanswered */
	__u32 beat_age_us; /* DEAD, STALLED: as the answer said */
	__u32 agent_age_us;
};
SHUNT_ASSERT_SIZE(struct event, 72);

#endif
