// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * frame.c - see frame.h. Bytewise on purpose: slow, plain, and unlike the code under test.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "frame.h"

const uint8_t mac_client[MAC_BYTES] = { 0x02, 0, 0, 0, 0xc1, 0x01 };
const uint8_t mac_balancer[MAC_BYTES] = { 0x02, 0, 0, 0, 0xba, 0x01 };

uint16_t checksum(const uint8_t *bytes, size_t size, uint32_t start)
{
	uint32_t sum = start;

	for (size_t i = 0; i < size; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put8(struct frame *f, unsigned value)
{
	if (f->size < FRAME_MAX)
		f->bytes[f->size++] = (uint8_t)value;
}

static void put16(struct frame *f, unsigned value)
{
	put8(f, value >> 8);
	put8(f, value);
}

static void put32(struct frame *f, uint32_t value)
{
	put16(f, value >> 16);
	put16(f, value);
}

static void put(struct frame *f, const void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		put8(f, ((const uint8_t *)bytes)[i]);
}

static void set16(struct frame *f, size_t at, unsigned value)
{
	f->bytes[at] = (uint8_t)(value >> 8);
	f->bytes[at + 1] = (uint8_t)value;
}

static unsigned get16(const struct frame *f, size_t at)
{
	return (unsigned)f->bytes[at] << 8 | f->bytes[at + 1];
}

static void put_address(struct frame *f, int family, const char *text)
{
	uint8_t address[16] = { 0 };

	if (inet_pton(family == 6 ? AF_INET6 : AF_INET, text, address) != 1)
		fprintf(stderr, "bad address in a test: %s\n", text);
	put(f, address, family == 6 ? 16 : 4);
}

/* Sum of the pseudo-header: RFC 793 3.1, RFC 8200 8.1. The addresses are at `at`. */
static uint32_t pseudo_sum(const struct frame *f, size_t at, int family, int protocol, size_t l4_bytes)
{
	uint32_t sum = (uint32_t)protocol + (uint32_t)l4_bytes;

	for (int i = 0; i < (family == 6 ? 32 : 8); i += 2)
		sum += get16(f, at + (size_t)i);
	return sum;
}

static void put_extensions(struct frame *f, const char *list, int protocol)
{
	for (; *list; list++) {
		/* next header: of the extension behind, else the protocol */
		const char *kinds = "hdrfla";
		const uint8_t numbers[] = { IPPROTO_HOPOPTS,  IPPROTO_DSTOPTS,  IPPROTO_ROUTING,
					    IPPROTO_FRAGMENT, IPPROTO_FRAGMENT, IPPROTO_FRAGMENT };

		put8(f, list[1] ? numbers[strchr(kinds, list[1]) - kinds] : (unsigned)protocol);
		if (strchr("fla", *list)) {
			put8(f, 0);
			put16(f, *list == 'l' ? 185 << 3 : *list == 'f');
			put32(f, 0x12345678);
		} else if (*list == 'd') { /* 16 bytes, padding options */
			put8(f, 1);
			put16(f, 0x010c);
			for (int i = 0; i < 12; i++)
				put8(f, 0);
		} else { /* 8 bytes: PadN, or routing type 253 with no segments left */
			put8(f, 0);
			put16(f, *list == 'h' ? 0x0104 : 0xfd00);
			put32(f, 0);
		}
	}
}

static int first_header(const char *extensions, int protocol)
{
	switch (extensions ? *extensions : 0) {
	case 'h':
		return IPPROTO_HOPOPTS;
	case 'd':
		return IPPROTO_DSTOPTS;
	case 'r':
		return IPPROTO_ROUTING;
	case 'f':
	case 'l':
	case 'a':
		return IPPROTO_FRAGMENT;
	default:
		return protocol;
	}
}

static int protocol_of(const struct spec *s)
{
	return s->protocol ? s->protocol : IPPROTO_TCP;
}

static void put_l4(struct frame *f, const struct spec *s, int family, size_t addresses_at)
{
	int protocol = protocol_of(s);
	size_t at = f->size, checksum_at = at;
	struct frame quoted;
	const uint8_t *data = s->data;
	size_t data_bytes = s->data_bytes;
	uint32_t sum = 0;

	if (s->quote) {
		size_t link;

		frame_build(&quoted, s->quote);
		link = 14 + 4 * (size_t)s->quote->tags;
		data = quoted.bytes + link;
		data_bytes = s->quote_bytes ? s->quote_bytes : quoted.size - link - s->quote->padding_bytes;
	}
	/* A later fragment starts in the middle of the data. */
	if (s->fragment & 0x1fff || (s->extensions && strchr(s->extensions, 'l')))
		protocol = -1;
	switch (protocol) {
	case IPPROTO_TCP:
		put16(f, s->sport ? s->sport : 40000);
		put16(f, s->dport);
		put32(f, s->is_exact || s->seq ? s->seq : SEQ);
		put32(f, s->is_exact || s->ack ? s->ack : ACKNOWLEDGED);
		put8(f, (unsigned)(5 + s->l4_length_off) << 4);
		put8(f, s->tcp_flags ? s->tcp_flags : 0x10);
		put16(f, s->is_exact ? 0 : 0x2000);
		put32(f, 0);
		checksum_at = at + 16;
		break;
	case IPPROTO_UDP:
		put16(f, s->sport ? s->sport : 40000);
		put16(f, s->dport);
		put16(f, (unsigned)(8 + data_bytes + (size_t)(ssize_t)s->l4_length_off));
		put16(f, 0);
		checksum_at = at + 6;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		put8(f, s->icmp_type);
		put8(f, s->icmp_code);
		put16(f, 0);
		put32(f, s->icmp_word);
		checksum_at = at + 2;
		break;
	}
	for (size_t i = 0; i < data_bytes; i++)
		put8(f, data ? data[i] : (unsigned)(i * 7 + 3));
	if (checksum_at == at)
		return;
	if (protocol != IPPROTO_ICMP)
		sum = pseudo_sum(f, addresses_at, family, protocol, f->size - at);
	set16(f, checksum_at, checksum(f->bytes + at, f->size - at, sum));
}

static void put_ipv4(struct frame *f, const struct spec *s)
{
	size_t at = f->size, header_bytes = 20 + s->options_bytes;

	put8(f, (unsigned)(4 + s->version_off) << 4 | ((unsigned)(header_bytes / 4) + (unsigned)s->ihl_off));
	put8(f, s->tos);
	put16(f, 0);
	put16(f, s->id);
	put16(f, s->fragment);
	put8(f, s->ttl ? s->ttl : 64);
	put8(f, (unsigned)protocol_of(s));
	put16(f, 0);
	put_address(f, 4, s->src ? s->src : CLIENT_4);
	put_address(f, 4, s->dst);
	for (size_t i = 0; i < s->options_bytes; i++)
		put8(f, i + 1 < s->options_bytes ? 1 : 0); /* no operation; end of options */
	put_l4(f, s, 4, at + 12);
	set16(f, at + 2, (unsigned)(f->size - at) + (unsigned)s->length_off);
	set16(f, at + 10, (unsigned)checksum(f->bytes + at, header_bytes, 0) + (unsigned)s->checksum_off);
}

static void put_ipv6(struct frame *f, const struct spec *s)
{
	size_t at = f->size;

	put32(f, (uint32_t)(6 + s->version_off) << 28 | (uint32_t)s->tos << 20);
	put16(f, 0);
	put8(f, (unsigned)first_header(s->extensions, protocol_of(s)));
	put8(f, s->ttl ? s->ttl : 64);
	put_address(f, 6, s->src ? s->src : CLIENT_6);
	put_address(f, 6, s->dst);
	if (s->extensions)
		put_extensions(f, s->extensions, protocol_of(s));
	put_l4(f, s, 6, at + 8);
	set16(f, at + 4, (unsigned)(f->size - at - 40) + (unsigned)s->length_off);
}

/* The outer header, its length still 0. */
static void put_outer(struct frame *f, const struct outer *o, int inner_family, uint8_t tos)
{
	unsigned protocol = inner_family == 6 ? IPPROTO_IPV6 : IPPROTO_IPIP;

	if (o->family == 4) {
		put8(f, 0x45);
		put8(f, tos);
		put32(f, 0);
		put16(f, 0x4000); /* don't fragment */
		put8(f, 64);
		put8(f, protocol);
		put16(f, 0);
	} else {
		put32(f, 6U << 28 | (uint32_t)tos << 20 | o->flow_label);
		put16(f, 0);
		put8(f, protocol);
		put8(f, 64);
	}
	put_address(f, o->family, o->src);
	put_address(f, o->family, o->dst);
}

void frame_build(struct frame *f, const struct spec *s)
{
	int family = s->family ? s->family : 4, outermost = s->outer.family ? s->outer.family : family;
	size_t outer_at;

	f->size = 0;
	put(f, s->dst_mac ? s->dst_mac : mac_balancer, MAC_BYTES);
	put(f, s->src_mac ? s->src_mac : mac_client, MAC_BYTES);
	for (int i = s->tags; i > 0; i--) {
		put16(f, i > 1 ? 0x88a8 : 0x8100);
		put16(f, 0x2000 + 100 + (unsigned)i);
	}
	put16(f, s->ethertype ? s->ethertype : outermost == 6 ? 0x86dd : 0x0800);
	outer_at = f->size;
	if (s->outer.family)
		put_outer(f, &s->outer, family, s->tos);
	if (family == 6)
		put_ipv6(f, s);
	else
		put_ipv4(f, s);
	if (s->outer.family == 4) {
		set16(f, outer_at + 2, (unsigned)(f->size - outer_at));
		set16(f, outer_at + 10, checksum(f->bytes + outer_at, 20, 0));
	} else if (s->outer.family == 6) {
		set16(f, outer_at + 4, (unsigned)(f->size - outer_at - 40));
	}
	for (size_t i = 0; i < s->padding_bytes; i++)
		put8(f, 0xee);
}

/* ---- checking ---- */

static const char *l4_fault(const struct frame *f, size_t at, size_t end, size_t addresses_at, int family, int protocol)
{
	size_t need = protocol == IPPROTO_TCP ? 20 : 8;
	uint32_t sum = pseudo_sum(f, addresses_at, family, protocol, end - at);

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_ICMP &&
	    protocol != IPPROTO_ICMPV6)
		return NULL;
	if (end - at < need)
		return "transport header cut short";
	if (checksum(f->bytes + at, end - at, protocol == IPPROTO_ICMP ? 0 : sum))
		return "transport checksum wrong";
	return NULL;
}

static const char *ip_fault(const struct frame *f, size_t at, size_t end, int family, int l4, int depth)
{
	size_t next, packet_end;
	int protocol;

	if (family == 4) {
		size_t header_bytes;

		if (end - at < 20 || f->bytes[at] >> 4 != 4)
			return "not an IPv4 header";
		header_bytes = (size_t)(f->bytes[at] & 15) * 4;
		packet_end = at + get16(f, at + 2);
		if (header_bytes < 20 || at + header_bytes > packet_end)
			return "IPv4 lengths contradict each other";
		if (packet_end > end)
			return "IPv4 packet longer than what holds it";
		if (checksum(f->bytes + at, header_bytes, 0))
			return "IPv4 header checksum wrong";
		protocol = f->bytes[at + 9];
		next = at + header_bytes;
		if (get16(f, at + 6) & 0x3fff)
			l4 = 0;
	} else {
		if (end - at < 40 || f->bytes[at] >> 4 != 6)
			return "not an IPv6 header";
		packet_end = at + 40 + get16(f, at + 4);
		if (packet_end > end)
			return "IPv6 packet longer than what holds it";
		protocol = f->bytes[at + 6];
		next = at + 40;
	}
	if (depth > 0 && packet_end != end)
		return "inner packet shorter than the outer one says";
	if (depth == 0 && packet_end < end && end > 60)
		return "padding left on a frame that needs none";
	if (depth == 0 && (protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6))
		return ip_fault(f, next, packet_end, protocol == IPPROTO_IPV6 ? 6 : 4, l4, 1);
	return l4 ? l4_fault(f, next, packet_end, family == 6 ? at + 8 : at + 12, family, protocol) : NULL;
}

const char *frame_fault(const struct frame *f, int l4)
{
	size_t at = 12;

	while (at + 4 <= f->size && (get16(f, at) == 0x8100 || get16(f, at) == 0x88a8))
		at += 4;
	if (at + 2 > f->size)
		return "link header cut short";
	if (get16(f, at) != 0x0800 && get16(f, at) != 0x86dd)
		return "not IP";
	return ip_fault(f, at + 2, f->size, get16(f, at) == 0x86dd ? 6 : 4, l4, 0);
}
