/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * parse.bpf.h - from bytes to addresses and ports. Decides whether the packet can be read at all; what is readable
 * but wrong becomes p->flaw, which counts only if the packet turns out to be for a VIP.
 */
#ifndef SHUNT_PARSE_BPF_H
#define SHUNT_PARSE_BPF_H

#include "packet.bpf.h"

/*
 * IPv6 extension headers read before the walk gives up. RFC 8200 4.1 recommends an order with five that are not
 * encrypted or authenticated: hop-by-hop, destination options, routing, fragment, destination options. One more, chosen.
 */
#define EXTENSIONS_MAX 6

#define IPV4_FRAGMENT 0x3fff /* more fragments, or an offset: RFC 791 3.1 */
#define IPV4_OFFSET 0x1fff
#define IPV6_OFFSET 0xfff8 /* RFC 8200 4.5 */
#define IPV6_MORE 1

struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

/* An IP header, of the packet or of a quote. */
struct network {
	union address saddr, daddr;
	__u32 l4; /* offset of what follows */
	__u32 bytes; /* of the IP packet, as the header says */
	__u8 protocol;
	__u8 ttl;
	__u8 is_fragment;
	__u8 is_later_fragment;
};

/* Where the extension headers end, in one word: subprograms return no more. */
#define EXTENSIONS_UNREADABLE 0 /* cut short, or too many */
#define EXTENSIONS_END(offset, protocol, fragment, later) \
	(((offset)&OFFSET_MAX) | (__u32)(protocol) << 16 | (__u32)(fragment) << 24 | (__u32)(later) << 25)

/*
 * Skip extension headers from `offset` on. A function of its own, as those below: few packets need it, and the verifier
 * looks at it once instead of at every way that leads here.
 */
__noinline __u32 extensions_skip(struct xdp_md *ctx, __u32 offset, __u32 protocol)
{
	struct packet p = { .ctx = ctx };
	__u32 fragment = 0, later = 0;

	packet_reload(&p);
	for (int i = 0; i <= EXTENSIONS_MAX; i++) {
		__u8 *option; /* next header, length in units of 8 bytes; of a fragment header, offset and flags at 2 */

		if (protocol != IPPROTO_HOPOPTS && protocol != IPPROTO_ROUTING && protocol != IPPROTO_DSTOPTS &&
		    protocol != IPPROTO_FRAGMENT)
			return EXTENSIONS_END(offset, protocol, fragment, later);
		option = packet_at(&p, offset, 8);
		if (!option)
			return EXTENSIONS_UNREADABLE;
		if (protocol == IPPROTO_FRAGMENT) {
			/* One that is alone is a whole packet: an atomic fragment, RFC 6946. */
			fragment |= !!(*(__be16 *)(option + 2) & bpf_htons(IPV6_OFFSET | IPV6_MORE));
			later = !!(*(__be16 *)(option + 2) & bpf_htons(IPV6_OFFSET));
			offset += 8;
		} else {
			offset += (option[1] + 1) * 8;
		}
		protocol = option[0];
		if (later) /* what follows is not a header */
			return EXTENSIONS_END(offset, protocol, fragment, later);
	}
	return EXTENSIONS_UNREADABLE;
}

/* The one's complement sum of n_words 32-bit words of the frame from `offset` on, at most WORDS_MAX, folded. */
#define WORDS_MAX 320
__noinline __u32 words_sum(struct xdp_md *ctx, __u32 offset, __u32 n_words)
{
	struct packet p = { .ctx = ctx };
	__u64 sum = 0;

	packet_reload(&p);
	for (__u32 i = 0; i < WORDS_MAX && i < n_words; i++) {
		__u32 *word = packet_at(&p, offset + i * 4, sizeof(*word));

		if (!word)
			break;
		sum += *word;
	}
	return csum_fold(sum);
}

/* Read the IP header at `offset`. False: it can't be read. */
static __always_inline int network_read(const struct packet *p, __u32 offset, struct network *n)
{
	if (!p->is_v6) {
		struct iphdr *ip = packet_at(p, offset, sizeof(*ip));

		if (!ip || ip->version != 4 || ip->ihl < 5)
			return 0;
		n->saddr.addr = (struct shunt_addr){ .w = { 0, 0, SHUNT_V4_MAPPED, ip->saddr } };
		n->daddr.addr = (struct shunt_addr){ .w = { 0, 0, SHUNT_V4_MAPPED, ip->daddr } };
		n->l4 = offset + ip->ihl * 4;
		n->bytes = bpf_ntohs(ip->tot_len);
		n->protocol = ip->protocol;
		n->ttl = ip->ttl;
		n->is_fragment = !!(ip->frag_off & bpf_htons(IPV4_FRAGMENT));
		n->is_later_fragment = !!(ip->frag_off & bpf_htons(IPV4_OFFSET));
	} else {
		struct ipv6hdr *ip6 = packet_at(p, offset, sizeof(*ip6));

		if (!ip6 || ip6->version != 6)
			return 0;
		n->saddr.half[0] = ((__u64 *)&ip6->saddr)[0];
		n->saddr.half[1] = ((__u64 *)&ip6->saddr)[1];
		n->daddr.half[0] = ((__u64 *)&ip6->daddr)[0];
		n->daddr.half[1] = ((__u64 *)&ip6->daddr)[1];
		n->l4 = offset + sizeof(*ip6);
		n->bytes = sizeof(*ip6) + bpf_ntohs(ip6->payload_len);
		n->protocol = ip6->nexthdr;
		n->ttl = ip6->hop_limit;
		n->is_fragment = 0;
		n->is_later_fragment = 0;
		if (n->protocol != IPPROTO_TCP && n->protocol != IPPROTO_UDP && n->protocol != IPPROTO_ICMPV6) {
			__u32 end = extensions_skip(p->ctx, n->l4, n->protocol);

			if (end == EXTENSIONS_UNREADABLE)
				return 0;
			n->l4 = end & OFFSET_MAX;
			n->protocol = end >> 16;
			n->is_fragment = end >> 24 & 1;
			n->is_later_fragment = end >> 25 & 1;
		}
	}
	return 1;
}

/* The Ethernet header and up to two tags (802.1Q, 802.1ad): sets l3, is_v6. */
static __always_inline enum reason parse_link(struct packet *p)
{
	__be16 *eth = packet_at(p, 0, ETH_HLEN);
	__be16 ethertype;

	if (!eth)
		return REASON_UNPARSED;
	p->l3 = ETH_HLEN;
	ethertype = eth[6];
	for (int i = 0; i < VLAN_TAGS_MAX; i++) {
		struct vlan_tag *tag;

		if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD))
			break;
		tag = packet_at(p, p->l3, sizeof(*tag));
		if (!tag)
			return REASON_UNPARSED;
		p->l3 += sizeof(*tag);
		ethertype = tag->ethertype;
	}
	if (ethertype != bpf_htons(ETH_P_IP) && ethertype != bpf_htons(ETH_P_IPV6))
		return REASON_NOT_IP;
	p->is_v6 = ethertype == bpf_htons(ETH_P_IPV6);
	return GO_ON;
}

/* An IPv4 header's checksum is right when its words sum up to all ones: RFC 1071. */
static __always_inline int ipv4_is_intact(const struct packet *p)
{
	__u32 *word = packet_at(p, p->l3, sizeof(struct iphdr));
	__u64 sum;

	if (!word)
		return 0;
	sum = (__u64)word[0] + word[1] + word[2] + word[3] + word[4];
	if (p->l4 != p->l3 + sizeof(struct iphdr))
		sum += words_sum(p->ctx, p->l3 + sizeof(struct iphdr), (p->l4 - p->l3) / 4 - 5);
	return csum_fold(sum) == 0xffff;
}

/*
 * The TCP or UDP header: ports, and whether it is as long as it says. The rest of a fragmented datagram's header may
 * come in a later fragment, so a fragment's length is not judged.
 */
static __always_inline enum reason parse_ports(struct packet *p)
{
	__be16 *ports;
	__u32 l4_bytes = p->l3 + p->ip_bytes - p->l4; /* l4 is within the IP packet: parse() */

	if (p->is_later_fragment)
		return GO_ON;
	ports = packet_at(p, p->l4, 4);
	if (!ports || l4_bytes < 4)
		return REASON_UNPARSED;
	p->client_port = ports[0];
	p->vip_port = ports[1];
	if (p->is_fragment)
		return GO_ON;
	if (p->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = packet_at(p, p->l4, sizeof(*tcp));

		if (!tcp || tcp->doff < 5 || tcp->doff * 4 > l4_bytes)
			p->flaw = REASON_TRUNCATED;
		else
			p->tcp_flags = ((__u8 *)tcp)[13];
		p->is_new_flow = (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)) == TCP_SYN;
	} else {
		struct udphdr *udp = packet_at(p, p->l4, sizeof(*udp));

		if (!udp || bpf_ntohs(udp->len) < sizeof(*udp) || bpf_ntohs(udp->len) > l4_bytes)
			p->flaw = REASON_TRUNCATED;
	}
	return GO_ON;
}

/* The whole packet, up to its ports. What is neither TCP, UDP nor ICMP is not for a VIP. */
static __always_inline enum reason parse(struct packet *p)
{
	struct network n;
	enum reason reason = parse_link(p);

	if (reason != GO_ON)
		return reason;
	if (!network_read(p, p->l3, &n) || p->l3 + n.bytes < n.l4)
		return REASON_UNPARSED;
	p->l4 = n.l4;
	p->ip_bytes = n.bytes;
	p->client = n.saddr;
	p->vip = n.daddr;
	p->protocol = n.protocol;
	p->ttl = n.ttl;
	p->is_fragment = n.is_fragment;
	p->is_later_fragment = n.is_later_fragment;
	if (p->l3 + n.bytes > p->frame_bytes)
		p->flaw = REASON_TRUNCATED;
	else if (!p->is_v6 && !ipv4_is_intact(p))
		p->flaw = REASON_BAD_CHECKSUM;
	if (n.protocol == IPPROTO_TCP || n.protocol == IPPROTO_UDP)
		return parse_ports(p);
	p->is_icmp_error = n.protocol == (p->is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	return p->is_icmp_error ? GO_ON : REASON_NOT_VIP;
}

#endif
