/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * segment.h - bare TCP segments from a VIP to a client, as bytes. Pure: whoever calls sends them.
 */
#ifndef SHUNT_CORE_SEGMENT_H
#define SHUNT_CORE_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "shunt/abi.h"

#define SEGMENT_BYTES_MAX 60 /* IPv6 and TCP headers without options */

/*
 * A segment that a client in any synchronised state must answer with an ACK that carries its exact state: an ACK outside
 * its window (RFC 9293 3.10.7.4, first check). The server's sequence numbers are not known, so one is drawn: `draw`, a
 * different one for each attempt. Acknowledges only the client's SYN. Writes the IP packet; returns its bytes.
 */
size_t segment_challenge(uint8_t out[SEGMENT_BYTES_MAX], const struct flow *flow, uint32_t draw);

/* RST and ACK of the client's SYN: refuses the connection of a client in SYN-SENT (RFC 9293 3.10.7.3), no other's. */
size_t segment_refuse(uint8_t out[SEGMENT_BYTES_MAX], const struct flow *flow);

#endif
