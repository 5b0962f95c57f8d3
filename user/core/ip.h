/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ip.h - IP headers and the checksums of what they carry, as bytes. Pure: whoever calls sends them.
 */
#ifndef SHUNT_CORE_IP_H
#define SHUNT_CORE_IP_H

#include <stddef.h>
#include <stdint.h>

#include "shunt/abi.h"

#define IP_HEADER_MAX 40 /* IPv6 without extension headers */

/* A packet from one address to another of the same family. */
struct ip_packet {
	struct shunt_addr source, destination;
	uint8_t protocol;
	uint8_t tos; /* DSCP and ECN */
	uint8_t ttl; /* or hop limit */
	uint16_t payload_bytes;
};

/* IPv4 without options (RFC 791), IPv6 without extension headers (RFC 8200). Returns its bytes, at most IP_HEADER_MAX. */
size_t ip_write(uint8_t *out, const struct ip_packet *packet);

/* The checksum of its payload, TCP or UDP, whose own field is 0 and whose length is even. */
__be16 ip_checksum(const struct ip_packet *packet, const void *payload);

#endif
