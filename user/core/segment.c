/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * segment.c - see segment.h. IPv4 without options (RFC 791), IPv6 without extension headers (RFC 8200), TCP without
 * options (RFC 9293). A missing timestamp does no harm: the receiver looks at the sequence number all the same.
 */
#include "core/segment.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "core/config.h"

#define TTL 64 /* RFC 1700, "IP time to live parameter" */
/* Chosen: were the drawn number by chance inside the window, the client would believe this one of the server's. */
#define CHALLENGE_WINDOW 65535
#define TCP_BYTES 20

enum { TCP_RST = 0x04, TCP_ACK = 0x10 };

struct tcp_header {
	__be16 source, destination;
	__be32 sequence, acknowledgement;
	uint8_t offset, flags; /* offset: words of the header, in the high half */
	__be16 window, checksum, urgent;
};
_Static_assert(sizeof(struct tcp_header) == TCP_BYTES, "padding");

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
_Static_assert(sizeof(struct ipv6_header) == 40, "padding");

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

static size_t segment_write(uint8_t *out, const struct flow_key *key, uint32_t sequence, uint32_t acknowledgement,
			    uint8_t flags, uint16_t window)
{
	struct tcp_header tcp = {
		.source = key->vip_port,
		.destination = key->client_port,
		.sequence = htonl(sequence),
		.acknowledgement = htonl(acknowledgement),
		.offset = TCP_BYTES / 4 << 4,
		.flags = flags,
		.window = htons(window),
	};
	size_t ip_bytes;
	uint32_t sum;

	/* A v4-mapped address adds to the sum what its last word does, and two times the same 0xffff: nothing. */
	sum = sum_add(IPPROTO_TCP + TCP_BYTES, &key->vip, sizeof(key->vip));
	sum = sum_add(sum, &key->client, sizeof(key->client));
	tcp.checksum = sum_fold(sum_add(sum, &tcp, sizeof(tcp)));

	if (address_is_v4(&key->vip)) {
		struct ipv4_header ip = {
			.version_words = 4 << 4 | 5,
			.bytes = htons(sizeof(ip) + TCP_BYTES),
			.fragment = htons(0x4000), /* don't fragment; so the identification may be 0 (RFC 6864) */
			.ttl = TTL,
			.protocol = IPPROTO_TCP,
			.source = key->vip.w[3],
			.destination = key->client.w[3],
		};

		ip.checksum = sum_fold(sum_add(0, &ip, sizeof(ip)));
		ip_bytes = sizeof(ip);
		memcpy(out, &ip, ip_bytes);
	} else {
		struct ipv6_header ip = {
			.version = htonl(6U << 28),
			.payload_bytes = htons(TCP_BYTES),
			.next = IPPROTO_TCP,
			.hop_limit = TTL,
			.source = key->vip,
			.destination = key->client,
		};

		ip_bytes = sizeof(ip);
		memcpy(out, &ip, ip_bytes);
	}
	memcpy(out + ip_bytes, &tcp, sizeof(tcp));
	return ip_bytes + TCP_BYTES;
}

size_t segment_challenge(uint8_t out[SEGMENT_BYTES_MAX], const struct flow *flow, uint32_t draw)
{
	return segment_write(out, &flow->key, draw, flow->isn + 1, TCP_ACK, CHALLENGE_WINDOW);
}

size_t segment_refuse(uint8_t out[SEGMENT_BYTES_MAX], const struct flow *flow)
{
	return segment_write(out, &flow->key, 0, flow->isn + 1, TCP_RST | TCP_ACK, 0);
}
