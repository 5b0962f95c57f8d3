/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * frame.h - frames for the packet tests, built from a description and checked, by routines of their own: nothing here
 * is shared with the BPF code, so an error there is not repeated here.
 */
#ifndef SHUNT_TESTS_FRAME_H
#define SHUNT_TESTS_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_MAX 3000 /* bytes; what a test run takes in one piece */
#define MAC_BYTES 6

struct frame {
	uint8_t bytes[FRAME_MAX];
	size_t size;
};

/* What stands in front of the IP packet in an encapsulated frame. */
struct outer {
	int family; /* 0: none; 4 or 6 */
	const char *src, *dst;
	uint32_t flow_label; /* 6 */
};

/* A frame. What is 0 or NULL takes the default in parentheses. */
struct spec {
	const uint8_t *dst_mac, *src_mac; /* (client to balancer) */
	int tags; /* 0, 1 (802.1Q), 2 (802.1ad over 802.1Q), 3 */
	uint16_t ethertype; /* (of the family) */
	struct outer outer;
	int family; /* 4 or 6 (4) */
	const char *src, *dst; /* (a client of the family), required */
	uint8_t ttl; /* (64) */
	uint8_t tos; /* DSCP and ECN */
	int protocol; /* (IPPROTO_TCP) */
	size_t options_bytes; /* 4: multiple of 4 */
	const char *
		extensions; /* 6: h hop-by-hop, d destination options, r routing, f first, l later, a atomic fragment */
	uint16_t fragment; /* 4: flags and offset, host order */
	uint16_t id; /* 4 */
	uint16_t sport, dport; /* (40000), required */
	uint8_t tcp_flags; /* (ACK) */
	uint32_t seq, ack; /* host order */
	int is_exact; /* seq and ack are what is said, 0 too, and the window is 0 (a number each) */
	const void *data; /* (a pattern) */
	size_t data_bytes; /* behind the TCP, UDP or ICMP header */
	uint8_t icmp_type, icmp_code;
	uint32_t icmp_word; /* host order, the four bytes behind the checksum */
	const struct spec *quote; /* of an ICMP error: data is this packet's IP packet ... */
	size_t quote_bytes; /* ... so much of it */
	size_t padding_bytes; /* behind the IP packet */
	/* damage */
	int length_off; /* added to the IP length field */
	int l4_length_off; /* added to the UDP length field, or to TCP's data offset */
	int checksum_off; /* added to the IPv4 checksum */
	int version_off; /* added to the IP version */
	int ihl_off; /* added to IHL */
};

#define CLIENT_4 "198.51.100.7"
#define CLIENT_6 "2001:db8:c::7"
extern const uint8_t mac_client[MAC_BYTES], mac_balancer[MAC_BYTES];

/* TCP's numbers where a spec says nothing. */
#define SEQ 0x01020304U
#define ACKNOWLEDGED 0x0a0b0c0dU

void frame_build(struct frame *out, const struct spec *spec);

/* RFC 1071 over bytes: the sum's complement, in host order. */
uint16_t checksum(const uint8_t *bytes, size_t size, uint32_t start);

/*
 * Is this a frame that may leave? Lengths agree with each other and with the frame, IPv4 header checksums are right,
 * of inner packets too. NULL, or what is wrong. l4: TCP, UDP and ICMP checksums must be right as well.
 */
const char *frame_fault(const struct frame *frame, int l4);

#endif
