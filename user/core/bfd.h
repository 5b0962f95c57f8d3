/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bfd.h - Bidirectional Forwarding Detection, asynchronous mode, one hop (RFC 5880, RFC 5881), without any I/O: packets,
 * the time and random numbers come in, decisions go out. Both ends are active; no authentication, no echo, and demand
 * mode only as the peer's wish.
 *
 * Whoever calls owns the sockets: it looks at a packet with bfd_check(), finds the session that it is for
 * (bfd_packet.your_discriminator, or the sender's address where that is 0), gives it to bfd_receive(), calls bfd_run(), and
 * while bfd_should_send() sends what bfd_put() wrote. Then it waits until bfd_wake_ns(). Packets that have arrived are
 * to be given before bfd_run() judges the silence. Times are CLOCK_MONOTONIC, ns. Tests: tests/unit/bfd_test.c.
 */
#ifndef SHUNT_CORE_BFD_H
#define SHUNT_CORE_BFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shunt/heartbeat.h"

#define BFD_PORT 3784 /* RFC 5881 section 4 */
#define BFD_TTL 255 /* RFC 5881 section 5 */
#define BFD_SLOW_NS 1000000000ULL /* least interval while a session isn't Up: RFC 5880 6.8.3 */

/* Diagnostics of RFC 5880 4.1 that have a meaning here. */
enum bfd_diag {
	BFD_DIAG_NONE = 0,
	BFD_DIAG_EXPIRED = 1, /* control detection time expired */
	BFD_DIAG_NEIGHBOUR = 3, /* neighbour signaled session down */
	BFD_DIAG_ADMIN = 7, /* administratively down */
};

/* What one end asks for. Whole microseconds, 1 us to 4294 s. */
struct bfd_settings {
	uint64_t min_tx_ns; /* Desired Min TX Interval, while Up */
	uint64_t min_rx_ns; /* Required Min RX Interval */
	uint8_t multiplier; /* Detect Mult, 2 .. 255 */
};

/* A session: the variables of RFC 5880 6.8.1 and when what is due. Fields are for reading. */
struct bfd {
	struct bfd_settings settings;
	uint8_t state, remote_state; /* BFD_ADMIN_DOWN .. BFD_UP */
	uint8_t diag, remote_diag;
	uint32_t discriminator, remote_discriminator; /* the latter 0: unknown */
	uint64_t remote_min_rx_ns; /* 0: it wants nothing periodic */
	uint64_t remote_min_tx_ns; /* 0: not heard yet */
	uint8_t remote_multiplier;
	bool remote_demand;
	/* in force: another than what is advertised while a poll is under way (6.8.3) */
	uint64_t tx_ns; /* our Desired Min TX, as it counts for our pace */
	uint64_t rx_ns; /* our Required Min RX, as it counts for the detection time */
	bool poll, polled; /* a Poll Sequence is wanted; a packet of it was sent */
	bool poll_again; /* something changed since: another one after it */
	bool final; /* a poll is to be answered */
	bool changed; /* our state changed: the next packet doesn't wait */
	uint64_t sent_ns; /* 0: nothing sent yet */
	uint64_t received_ns; /* newest valid packet, or when the count began anew; 0: none */
	uint32_t jitter; /* the interval that runs is shortened by jitter / 2^32 of a quarter */
};

/* Why a packet is none for us: the checks of RFC 5880 6.8.6, in their order after GTSM's. */
enum bfd_refusal {
	BFD_TAKEN = 0,
	BFD_REFUSED_TTL, /* RFC 5881 section 5 */
	BFD_REFUSED_VERSION,
	BFD_REFUSED_LENGTH, /* Length is too small, or more than there is */
	BFD_REFUSED_MULTIPLIER, /* Detect Mult 0 */
	BFD_REFUSED_MULTIPOINT,
	BFD_REFUSED_DISCRIMINATOR, /* My Discriminator 0 */
	BFD_REFUSED_SESSION, /* Your Discriminator of no session, or 0 in a state that has one */
	BFD_REFUSED_AUTHENTICATION, /* authenticated, and we have no key */
};

/*
 * The checks that need no session, of a UDP payload of `size` bytes, at least 0, that came with this TTL or hop limit.
 * BFD_TAKEN: the first BFD_LENGTH bytes can be read as struct bfd_packet.
 */
enum bfd_refusal bfd_check(const void *payload, size_t size, uint8_t ttl);

/* A session in state Down. `discriminator` is unique on this host, not 0. */
void bfd_open(struct bfd *b, uint32_t discriminator, const struct bfd_settings *settings);

/* Ask for something else from now on; by a Poll Sequence where that needs one. */
void bfd_change(struct bfd *b, const struct bfd_settings *settings);

/* Administratively down, or no longer so (6.8.16). */
void bfd_admin(struct bfd *b, bool down);

/* A packet that passed bfd_check() and is for this session. Not BFD_TAKEN: it changed nothing. */
enum bfd_refusal bfd_receive(struct bfd *b, const struct bfd_packet *packet, uint64_t now_ns);

/* Judge the silence: Down if the detection time passed (6.8.4). */
void bfd_run(struct bfd *b, uint64_t now_ns);

/* The caller's clock stood still, and packets may have been lost meanwhile: the detection time begins anew. */
void bfd_pardon(struct bfd *b, uint64_t now_ns);

bool bfd_should_send(const struct bfd *b, uint64_t now_ns);

/* The packet to be sent now. `random`: 32 bits, for the time until the next. */
void bfd_put(struct bfd *b, struct bfd_packet *packet, uint64_t now_ns, uint32_t random);

/* When bfd_run() or bfd_should_send() may have another answer. UINT64_MAX: not before a packet arrives. */
uint64_t bfd_wake_ns(const struct bfd *b);

uint64_t bfd_detection_ns(const struct bfd *b); /* 6.8.4; 0: the peer was not heard yet */
uint64_t bfd_interval_ns(const struct bfd *b); /* between our packets, before jitter; 0: none periodic (6.8.7) */

const char *bfd_state_name(uint8_t state);
const char *bfd_diag_name(uint8_t diag); /* "control detection time expired"; RFC 5880 4.1 */

#endif
