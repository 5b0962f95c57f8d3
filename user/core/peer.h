/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * peer.h - what the two balancers of a pair tell each other: their journals' flows, and what operators said of backends,
 * so that either can take over from the other and break no connection. Tables aren't told: both compute the same.
 *
 * A protocol without I/O: datagrams, the time and the journal's memory come in; datagrams and changes go out. Whoever owns
 * it (shuntd/peer.c) calls peer_receive() with what came and peer_send() until it is 0, every PEER_PERIOD_NS at least.
 * Tests: tests/unit/peer_test.c, two ends and a network that loses, repeats, reorders and cuts.
 *
 * Whose a flow is. It is the balancer's that recorded it, and the other holds a copy with FLOW_SYNCED. A copy is neither
 * asked nor swept; it goes when its holder says so. It becomes ours
 *   - with the first packet of it that is looked up here: the walk takes FLOW_SYNCED away, and that is a claim, which the
 *     holder yields to. A flow goes back and forth with its packets;
 *   - when the peer came back and no longer knows it: it had lost its journal;
 *   - for as long as the peer is away, without a change of the entry: see journal_peer().
 * Most packets are looked up by nobody (their owner is up and has no detours), so after a take-over flows may be the
 * other's still. That does no harm. When a backend dies, each balancer tells the clients of its own flows at once; their
 * answers are believed wherever they arrive. What the other left untold, because it can't see the backend or the
 * clients, is told here 110 ms later and at the end. The question whether an idle client lives (FLOW_ASKED) and an
 * operator's reset (FLOW_RESET) are told with the flow, so that its answer is looked up at either balancer.
 * Of two who both call a flow theirs the one keeps it who claimed it from the other last, which a number says that rises
 * with each claim; of two who both recorded it the one with the later SYN; else the one with the lower run.
 *
 * A connection is a pair of runs, random numbers that each side draws for this connection alone. Each datagram carries
 * both and a number that rises, and is signed (SipHash-2-4) over all of that: one of another connection, a repeated one and
 * one that was overtaken by a later one count for nothing. So the newest state of a flow is never overwritten by an older,
 * and the sender knows of each number below the newest acknowledged one whether it was taken in. What was not is told anew,
 * as it is by then: nothing is kept to be sent again but the numbers of entries.
 *
 * Every integer is in network order. A datagram has at most PEER_DATAGRAM_MAX bytes:
 *
 *    0                   1                   2                   3
 *    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *   +---------------------------------------------------------------+
 *   |                       magic, "shup"                           |
 *   +---------------+---------------+-------------------------------+
 *   |    version    |     kind      |   bytes of the whole datagram |   these two lines and the tag
 *   +---------------+---------------+-------------------------------+   are the same in every version
 *   |                    the sender's run (64)                      |
 *   |               the receiver's run, 0: unknown (64)             |
 *   |          the datagram's number, from 1; HELLO: 0 (64)         |
 *   +---------------------------------------------------------------+
 *   |                          frames ...                           |
 *   +---------------------------------------------------------------+
 *   |                     tag, SipHash-2-4 (64)                     |
 *   +---------------------------------------------------------------+
 *
 * HELLO has no frames. Frames of DATA, each after a byte that says which:
 *   ACK     number(64), ranges(8), then for each: how many were taken in(16), how many below them weren't(16); the first
 *           range ends at the number
 *   PING    wants an ACK, as all that follow do
 *   FLOWS   VIPs(8), names; backends(8), identities; flows(16), then for each: the sender's entry(32), its VIP(8) and backend(8)
 *           among the names, state(8), flags(8), claims(8), IP version(8), client's port(16), VIP's port(16), client's
 *           initial sequence number(32), ms since its SYN(32), client's address(4 or 16 bytes)
 *   GONE    entries(16), each(32): not the sender's any more
 *   SETTING a backend's name; drained(8), zero(8), weight or 0(16), ms to the deadline or 0(32), when that was said: of the
 *           drain(64), of the weight(64), ns since 1970
 *   END     all that the sender has was told once
 *   AGAIN   tell everything again
 * A name is its length(8) and as many bytes; so is an identity, which is of a backend's name and address.
 */
#ifndef SHUNT_CORE_PEER_H
#define SHUNT_CORE_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config.h"
#include "shunt/abi.h"
#include "shunt/siphash.h"

#define PEER_VERSION 2
#define PEER_MAGIC 0x73687570U
#define PEER_DATAGRAM_MAX 1400

/* All chosen. */
#define PEER_PERIOD_NS 10000000ULL
#define PEER_PING_NS 100000000ULL /* nothing sent for so long: a PING */
#define PEER_LOST_NS 1000000000ULL /* nothing heard for so long: it is away */

struct peer;

/* A flow as it is told; ids are those of whom it is told to. */
struct peer_flow {
	struct flow_key key;
	uint32_t vip;
	uint16_t backend;
	uint8_t state; /* enum flow_state, not FLOW_FREE */
	uint8_t flags; /* PEER_FLOW_FLAGS */
	uint32_t isn;
	uint64_t opened_ns; /* by the receiver's clock */
};
#define PEER_FLOW_FLAGS (FLOW_CONFIRMED | FLOW_RESET | FLOW_ASKED)

/* What operators said of a backend. The later word counts, whoever was told it. */
struct peer_setting {
	char backend[CONFIG_NAME_MAX];
	bool drained;
	uint16_t weight; /* 0: the configuration's */
	uint64_t deadline_ns; /* from now; 0: none */
	uint64_t drain_at_ns, weight_at_ns; /* CLOCK_REALTIME of the word; 0: there was none */
};

enum peer_event {
	PEER_EVENT_UP,
	PEER_EVENT_LOST,
	PEER_EVENT_RESYNCED, /* each has told the other all it has */
};

/* What happens here because of the peer, and names. All take `arg`. */
struct peer_ops {
	uint64_t (*draw)(void *arg); /* 64 random bits */
	void (*event)(void *arg, enum peer_event event);
	/* Names of what is here, and identities; NULL: nobody's any more. */
	const char *(*vip_name)(void *arg, uint32_t id);
	const char *(*backend_name)(void *arg, uint16_t id);
	/* Who has that name, or identity: false: nobody. Of a VIP its address too; false if it isn't journalled or has another port. */
	bool (*vip_find)(void *arg, const char *name, __be16 port, uint32_t *id, struct shunt_addr *address);
	bool (*backend_find)(void *arg, const char *name, uint16_t *id);
	/* The journal. The walk writes it at the same time: see shuntd/journal.h, which has functions for each of these. */
	int (*find)(void *arg, const struct flow_key *key, uint32_t *entry);
	int (*insert)(void *arg, const struct peer_flow *flow, uint32_t *entry);
	bool (*follow)(void *arg, uint32_t entry, uint64_t word, const struct peer_flow *flow);
	void (*claim)(void *arg, uint32_t entry);
	void (*drop)(void *arg, uint32_t entry);
	/* What operators said of the backend of an id, false: nothing; and what the peer's did. */
	bool (*setting)(void *arg, uint16_t id, struct peer_setting *out);
	void (*set)(void *arg, const struct peer_setting *setting);
};

struct peer_options {
	struct siphash_key keys[2]; /* the first signs, either is accepted; where there is one, both are the same */
	uint64_t bits_per_s; /* sent at most, headers included */
	const struct flow *flows; /* the journal */
	const struct journal_state *state;
	const struct peer_ops *ops;
	void *arg;
};

enum peer_state {
	PEER_DOWN,
	PEER_RESYNCING,
	PEER_IN_SYNC,
};

struct peer_status {
	enum peer_state state;
	uint64_t since_ns; /* of that, by the caller's clock */
	uint64_t run, peer_run; /* 0: down */
	uint64_t lag_ns; /* the oldest change that isn't acknowledged is at most so old; 0: there is none */
	uint64_t rtt_ns; /* smoothed; 0: not known yet */
	uint8_t peer_version; /* of its newest datagram; 0: none came */
	/* since peer_open() */
	uint64_t flows_sent, flows_received; /* changes of flows */
	uint64_t refused_full, refused_unknown; /* received, and not taken in: no room; no such VIP or backend here */
	uint64_t resyncs; /* times that everything was told */
	uint64_t datagrams_sent, datagrams_received, bytes_sent, bytes_received;
	uint64_t lost; /* datagrams with changes that the peer didn't take in */
	uint64_t forged, replayed, truncated,
		other_version; /* dropped. Replayed: repeated, overtaken, of another connection */
};

/* 0 or -ENOMEM. Memory: 16 bytes an entry of the journal, 4 an entry of the peer's, and half a MB. */
int peer_open(struct peer **out, const struct peer_options *options, uint64_t now_ns);
void peer_close(struct peer *peer); /* NULL is allowed */
void peer_set_keys(struct peer *peer, const struct siphash_key keys[2]);

/* A datagram came from the peer's address. */
void peer_receive(struct peer *peer, const void *bytes, size_t n, uint64_t now_ns);
/* One came from another address, which is not worth a look. */
void peer_receive_strange(struct peer *peer);

/* The next datagram that is to be sent now; its bytes, 0: none. The time between two looks at the journal is its own affair. */
size_t peer_send(struct peer *peer, uint8_t out[PEER_DATAGRAM_MAX], uint64_t now_ns);

/* Some of what was refused may be taken in now: have the peer tell everything again. */
void peer_ask_again(struct peer *peer);

void peer_status(const struct peer *peer, struct peer_status *out, uint64_t now_ns);

#endif
