/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * segment.c - see segment.h. TCP without options (RFC 9293). A missing timestamp does no harm: the receiver looks at the sequence number all the same.
 */
#include "core/segment.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "core/ip.h"

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
	const struct ip_packet ip = { .source = key->vip,
				      .destination = key->client,
				      .protocol = IPPROTO_TCP,
				      .ttl = TTL,
				      .payload_bytes = TCP_BYTES };
	size_t ip_bytes = ip_write(out, &ip);

	tcp.checksum = ip_checksum(&ip, &tcp);
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
