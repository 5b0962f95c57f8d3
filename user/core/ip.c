/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ip.c - see ip.h.
 */
#include "core/ip.h"

#include <arpa/inet.h>
#include <string.h>

#include "core/config.h"

struct ipv4_header {
	uint8_t version_words, tos;
	__be16 bytes, id, fragment;
	uint8_t ttl, protocol;
	__be16 checksum;
	__be32 source, destination;
};
_Static_assert(sizeof(struct ipv4_header) == 20, "padding");

struct ipv6_header {
	__be32 version;
	__be16 payload_bytes;
	uint8_t next, hop_limit;
	struct shunt_addr source, destination;
};
_Static_assert(sizeof(struct ipv6_header) == IP_HEADER_MAX, "padding");

/* Ones' complement sum (RFC 1071) of an even number of bytes, added to `sum`. */
static uint32_t sum_add(uint32_t sum, const void *data, size_t bytes)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < bytes; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	return sum;
}

static __be16 sum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

__be16 ip_checksum(const struct ip_packet *p, const void *payload)
{
	uint32_t sum = (uint32_t)p->protocol + p->payload_bytes;

	/* A v4-mapped address adds to the sum what its last word does, and two times the same 0xffff: nothing. */
	sum = sum_add(sum, &p->source, sizeof(p->source));
	sum = sum_add(sum, &p->destination, sizeof(p->destination));
	return sum_fold(sum_add(sum, payload, p->payload_bytes));
}

size_t ip_write(uint8_t *out, const struct ip_packet *p)
{
	if (address_is_v4(&p->source)) {
		struct ipv4_header ip = {
			.version_words = 4 << 4 | 5,
			.tos = p->tos,
			.bytes = htons((uint16_t)(sizeof(ip) + p->payload_bytes)),
			.fragment = htons(0x4000), /* don't fragment; so the identification may be 0 (RFC 6864) */
			.ttl = p->ttl,
			.protocol = p->protocol,
			.source = p->source.w[3],
			.destination = p->destination.w[3],
		};

		ip.checksum = sum_fold(sum_add(0, &ip, sizeof(ip)));
		memcpy(out, &ip, sizeof(ip));
		return sizeof(ip);
	} else {
		struct ipv6_header ip = {
			.version = htonl(6U << 28 | (uint32_t)p->tos << 20),
			.payload_bytes = htons(p->payload_bytes),
			.next = p->protocol,
			.hop_limit = p->ttl,
			.source = p->source,
			.destination = p->destination,
		};

		memcpy(out, &ip, sizeof(ip));
		return sizeof(ip);
	}
}
