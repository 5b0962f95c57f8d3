/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * heartbeat.h - the probe and its answer on the wire.
 *
 * A Seamless BFD control packet (RFC 7880, RFC 7881: UDP port 7784, TTL or hop limit 255) whose Length field says
 * 24; behind it, outside of what BFD reads, a trailer of 48 bytes. Network byte order throughout.
 *
 *    0                   1                   2                   3
 *    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |   RFC 5880 4.1
 *   |                       My Discriminator                        |
 *   |                      Your Discriminator                       |
 *   |                    Desired Min TX Interval (us)               |
 *   |                   Required Min RX Interval (us)               |
 *   |                 Required Min Echo RX Interval (us)            |
 *   +---------------------------------------------------------------+
 *   |                             Magic                             |   trailer
 *   |    Version    | Engine state  |             Flags             |
 *   |                         Round (64 bits)                       |
 *   |                                                               |
 *   |                           In flight                           |
 *   |                            Queued                             |
 *   |  Utilisation (per mille)      |             Cause             |
 *   |                    Engine's beat, age (us)                    |
 *   |                    Agent's word, age (us)                     |
 *   |                          Incarnation                          |
 *   |                      Tag (64 bits, SipHash-2-4)               |
 *   |                                                               |
 *   +---------------------------------------------------------------+
 *
 * Versions: in every one of them magic, version, round and tag are where they are here, and the packet is as long. Who
 * gets another version than its own takes the rest for unknown: an answer then proves the host and nothing of its engine.
 *
 * Tag: SipHash-2-4 of the packet up to the tag, as nine blocks: its eight 64-bit words as they are on the wire, read
 * little-endian, and 64 << 56 for the length. 0 where no key is configured, and then not looked at. Addresses need not be
 * in it: both discriminators are. An answer is signed with the key that its probe was signed with, so that keys can be
 * changed on one host after the other, in any order.
 *
 * An echo (RFC 9747) is the same packet to UDP port 3785, from and to the balancer's own address, sent to the far
 * host's MAC with TTL 255; that host forwards it back with TTL 254. Its tag is always there, under a key that the
 * balancer draws for itself. Who asks hears himself, so both discriminators are his: by Your Discriminator its session is
 * found (RFC 5880 6.3), and My Discriminator must be the same.
 */
#ifndef SHUNT_HEARTBEAT_H
#define SHUNT_HEARTBEAT_H

#include <linux/types.h>
#include "shunt/abi.h"
#include "shunt/siphash.h"

#define SBFD_PORT 7784 /* RFC 7881 section 3 */
#define SBFD_TTL 255 /* RFC 7881 section 3, RFC 5082 */
#define ECHO_PORT 3785 /* RFC 5881 section 4, RFC 9747 section 2 */
#define ECHO_TTL 254 /* of what comes back: RFC 9747 section 2 */
#define BFD_VERSION 1 /* RFC 5880 4.1 */
#define BFD_LENGTH 24 /* RFC 5880 4.1, no authentication section */
#define BFD_VERS_DIAG(diag) (BFD_VERSION << 5 | (diag))
#define BFD_STATE_SHIFT 6
#define BFD_ADMIN_DOWN 0
#define BFD_DOWN 1
#define BFD_INIT 2
#define BFD_UP 3
#define BFD_POLL 0x20
#define BFD_FINAL 0x10
#define BFD_AUTH 0x04
#define BFD_DEMAND 0x02 /* set by the initiator, clear in the answer: RFC 7880 7.2.2, 7.3.2 */
#define BFD_MULTIPOINT 0x01

/* Probes leave from successive ports, one a round, so that answers take different queues and paths. */
#define PROBE_SOURCE_PORT 61784 /* chosen, in the dynamic range that RFC 5881 section 4 asks for */
#define PROBE_SOURCE_PORTS 4 /* power of two */

#define PROBE_MAGIC 0x7368756eU /* "shun" */
#define PROBE_VERSION 1

enum engine_state {
	ENGINE_UNKNOWN = 0, /* nobody watches an engine there */
	ENGINE_LOADING = 1,
	ENGINE_SERVING = 2,
	ENGINE_DRAINING = 3,
	ENGINE_STALLED = 4,
	ENGINE_DEAD = 5,
};

/* How an engine that is ENGINE_DEAD ended: 16 bits, on the wire and wherever a cause is kept. */
enum engine_end {
	ENGINE_END_NONE = 0,
	ENGINE_EXITED = 1, /* detail: exit status */
	ENGINE_KILLED = 2, /* detail: number of the signal */
	ENGINE_OOM_VICTIM = 3, /* chosen by the kernel's out-of-memory killer */
	ENGINE_NOT_LISTENING = 4, /* the process lives, its listening socket is gone */
	ENGINE_VANISHED = 5, /* found gone; nobody saw how */
};
#define ENGINE_CAUSE(end, detail) ((end) << 8 | (detail))
#define ENGINE_CAUSE_END(cause) ((cause) >> 8 & 0x3fU) /* enum engine_end */
#define ENGINE_CAUSE_DETAIL(cause) ((cause)&0xffU)
#define ENGINE_CAUSE_WORKER 0x4000U /* it was one of the engine's workers, not its main process */
#define ENGINE_CAUSE_PLANNED 0x8000U /* it ended by itself with status 0, or was asked to: SIGTERM, SIGINT, SIGHUP */

/* Flags of the trailer. */
#define PROBE_FULL 1U /* the engine serves and says that it takes no more */

#define PROBE_AGE_UNKNOWN 0xffffffffU /* an age field nobody fills */

struct bfd_packet {
	__u8 vers_diag;
	__u8 flags; /* state in the top two bits */
	__u8 detect_mult;
	__u8 length;
	__be32 my_discriminator;
	__be32 your_discriminator;
	__be32 desired_min_tx_us;
	__be32 required_min_rx_us;
	__be32 required_min_echo_rx_us;
} __attribute__((packed, aligned(2)));
SHUNT_ASSERT_SIZE(struct bfd_packet, 24);

struct probe_trailer {
	__be32 magic;
	__u8 version;
	__u8 engine; /* enum engine_state; 0 in a probe */
	__be16 flags; /* PROBE_FULL */
	__be64 round; /* copied into the answer */
	__be32 in_flight;
	__be32 queued;
	__be16 utilisation_permille;
	__be16 cause; /* ENGINE_CAUSE(), if the engine is dead; else 0 */
	__be32 beat_age_us;
	__be32 agent_age_us;
	__be32 incarnation; /* changes with each start of the agent */
	__be64 tag;
} __attribute__((packed, aligned(2)));
SHUNT_ASSERT_SIZE(struct probe_trailer, 48);

struct probe {
	struct bfd_packet bfd;
	struct probe_trailer trailer;
} __attribute__((packed, aligned(2)));
SHUNT_ASSERT_SIZE(struct probe, 72);

/*
 * The tag of a probe or of its answer under a key; network byte order, as it is in the packet. In BPF the packet is read
 * in whole words though they may be unaligned there, which each machine that XDP runs on allows.
 */
static __always_inline __be64 probe_tag(const struct siphash_key *key, const struct probe *probe)
{
#define PROBE_TAG_WORDS (__builtin_offsetof(struct probe, trailer.tag) / 8)
	__u64 blocks[PROBE_TAG_WORDS + 1];

#ifdef __bpf__
	SHUNT_UNROLL
	for (int i = 0; i < (int)PROBE_TAG_WORDS; i++)
		blocks[i] = ((const __u64 *)probe)[i];
#else
	__builtin_memcpy(blocks, probe, 8 * PROBE_TAG_WORDS);
#endif
	blocks[PROBE_TAG_WORDS] = 8ULL * PROBE_TAG_WORDS << 56;
	return __builtin_bswap64(siphash_blocks(key, blocks, PROBE_TAG_WORDS + 1, 2, 4));
}

/* map `probe_keys` of balancer and agent: ARRAY of one. Two keys, so that they can be changed while probes go on. */
struct probe_keys {
	__u64 n; /* 0: no tags; the prober signs with the first key, the reflector as it was asked; each is accepted */
	struct siphash_key key[2]; /* n = 1: both are the same, so that checking costs the same */
	struct siphash_key echo; /* the balancer's own */
};
SHUNT_ASSERT_SIZE(struct probe_keys, 56);

/*
 * The reflector's discriminator of an address, so that neither side configures it (RFC 7880 section 4 leaves the
 * choice open, asking for uniqueness in the domain): an IPv4 address is its own number; an IPv6 address is folded.
 * Host order.
 */
static inline __attribute__((always_inline)) __u32 reflector_discriminator(const struct shunt_addr *a)
{
	__be32 d = a->w[2] == SHUNT_V4_MAPPED && !a->w[0] && !a->w[1] ? a->w[3] : a->w[0] ^ a->w[1] ^ a->w[2] ^ a->w[3];

	return __builtin_bswap32(d);
}

#endif
