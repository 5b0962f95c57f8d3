/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * icmp.bpf.h - errors about a flow. icmp_follow() makes an ICMP error look like the flow that it is about, so that the
 * same VIP, slot and backend are found; icmp_too_big() tells a sender which size fits.
 */
#ifndef SHUNT_ICMP_BPF_H
#define SHUNT_ICMP_BPF_H

#include "packet.bpf.h"
#include "parse.bpf.h"

/* An error's first eight bytes, in either version. linux/icmp.h needs a C library's headers, so it is stated here. */
struct icmp {
	__u8 type;
	__u8 code;
	__u16 check;
	__be32 mtu_bytes; /* of the two types built here: RFC 1191 4 (its upper half is 0), RFC 4443 3.2 */
};

/* RFC 792. */
#define ICMP_DEST_UNREACH 3
#define ICMP_FRAG_NEEDED 4 /* a code of it */
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
/* RFC 4443. */
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PKT_TOOBIG 2
#define ICMPV6_PARAMPROB 4

/* RFC 792, RFC 4443 2.1: these types speak of a packet that they quote. */
static __always_inline int icmp_is_error(const struct packet *p, __u8 type)
{
	if (p->is_v6)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/*
 * The quote is a packet from the VIP to a client, so its source is our destination. Four bytes of it behind the IP
 * header are needed, the ports; RFC 792 guarantees eight. Anything that isn't an error about TCP or UDP is not ours.
 */
static __always_inline enum reason icmp_follow(struct packet *p)
{
	struct icmp *icmp = packet_at(p, p->l4, sizeof(*icmp));
	struct network quote;
	__be16 *ports;

	if (p->is_fragment)
		return REASON_NOT_VIP;
	if (!icmp)
		return REASON_UNPARSED;
	if (!icmp_is_error(p, icmp->type))
		return REASON_NOT_VIP;
	if (!network_read(p, (p->l4 & OFFSET_MAX) + sizeof(*icmp), &quote))
		return REASON_UNPARSED;
	if (quote.protocol != IPPROTO_TCP && quote.protocol != IPPROTO_UDP)
		return REASON_NOT_VIP;
	p->client = quote.daddr;
	p->protocol = quote.protocol;
	p->is_fragment = quote.is_fragment;
	p->is_later_fragment = quote.is_later_fragment;
	if (quote.saddr.half[0] != p->vip.half[0] || quote.saddr.half[1] != p->vip.half[1])
		p->flaw = REASON_ICMP_UNRELATED;
	if (quote.is_later_fragment)
		return GO_ON;
	ports = packet_at(p, quote.l4, 4);
	if (!ports || quote.l4 + 4 > p->l3 + p->ip_bytes)
		return REASON_UNPARSED;
	p->vip_port = ports[0];
	p->client_port = ports[1];
	return GO_ON;
}

/*
 * How much of the packet is quoted. IPv4: what fits the 576 bytes that every host takes (RFC 1812 4.3.2.3), in whole
 * 32-bit words. IPv6: what fits the minimum MTU (RFC 4443 2.4 c), 1280 bytes; a packet is too big for no link unless
 * it is larger than that, so there always is as much to quote.
 */
#define QUOTE_V4 (576 - sizeof(struct iphdr) - sizeof(struct icmp))
#define IPV6_MIN_MTU 1280
#define QUOTE_V6 (IPV6_MIN_MTU - sizeof(struct ipv6hdr) - sizeof(struct icmp))
#define IPV4_MIN_MTU 68 /* RFC 791 3.2 */
#define ICMP_TTL 64 /* RFC 1700 */
#define TOS_INTERNETWORK_CONTROL 0xc0 /* RFC 1812 4.3.2.5 */

_Static_assert((QUOTE_V6 + sizeof(struct icmp)) / 4 <= WORDS_MAX, "the quote is summed whole");

/* RFC 1122 3.2.2, RFC 4443 2.4 e: no error about an error, a later fragment, or to a source that is not one host. */
static __always_inline int icmp_may_answer(const struct packet *p)
{
	__u8 first = p->is_v6 ? bpf_ntohl(p->client.addr.w[0]) >> 24 : bpf_ntohl(p->client.addr.w[3]) >> 24;

	if (p->is_icmp_error || p->is_later_fragment)
		return 0;
	if (p->is_v6)
		return first != 0xff && (p->client.half[0] | p->client.half[1]);
	return first != 0 && first != 127 && first < 224;
}

/*
 * Turn the packet into the answer "fragmentation needed" (RFC 792, RFC 1191 4) or "packet too big" (RFC 4443 3.2)
 * from the VIP, out of the interface it came in by, tags kept. mtu_bytes: largest packet that the way to the backend
 * carries, what the outer header takes subtracted; may be negative. Don't Fragment is not looked at: XDP can't
 * fragment, so everybody is told. The answer is no larger than the packet, so it amplifies nothing and is not paced.
 */
static __always_inline enum reason icmp_too_big(struct packet *p, int mtu_bytes)
{
	__u32 quote_bytes = p->is_v6 ? QUOTE_V6 : QUOTE_V4;
	__u32 ip_header_bytes = p->is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	__u32 moved = ip_header_bytes + sizeof(struct icmp);
	struct ethhdr eth, *old = packet_at(p, 0, sizeof(eth));
	int cut;

	/* Below 1280 a link must fragment for IPv6 (RFC 8200 5), which ours doesn't: tell 1280 where that helps. */
	if (p->is_v6 && mtu_bytes < IPV6_MIN_MTU)
		mtu_bytes = IPV6_MIN_MTU;
	if (!icmp_may_answer(p) || mtu_bytes < IPV4_MIN_MTU || (int)p->ip_bytes <= mtu_bytes)
		return REASON_TOO_BIG_UNTOLD;
	if (p->ip_bytes < quote_bytes)
		quote_bytes = p->ip_bytes & ~3U;
	if (!old)
		return REASON_NO_ROOM;
	eth = *old;

	cut = (int)(p->l3 + quote_bytes) - (int)p->frame_bytes;
	if ((cut < 0 && bpf_xdp_adjust_tail(p->ctx, cut)) || bpf_xdp_adjust_head(p->ctx, -(int)moved))
		return REASON_NO_ROOM;
	packet_reload(p);
	if (!p->is_v6) {
		struct iphdr *ip = packet_at(p, p->l3, sizeof(*ip) + sizeof(struct icmp));
		struct icmp *icmp = (void *)(ip + 1);

		if (!ip || !link_write(p, sizeof(*ip) + sizeof(*icmp), eth.h_source, eth.h_dest, bpf_htons(ETH_P_IP)))
			return REASON_NO_ROOM;
		*ip = (struct iphdr){
			.version = 4,
			.ihl = 5,
			.tos = TOS_INTERNETWORK_CONTROL,
			.tot_len = bpf_htons(moved + quote_bytes),
			.ttl = ICMP_TTL,
			.protocol = IPPROTO_ICMP,
			.saddr = p->vip.addr.w[3],
			.daddr = p->client.addr.w[3],
		};
		ip->check = ~words_sum(p->ctx, p->l3, sizeof(*ip) / 4);
		*icmp = (struct icmp){
			.type = ICMP_DEST_UNREACH,
			.code = ICMP_FRAG_NEEDED,
			.mtu_bytes = bpf_htonl(mtu_bytes),
		};
		icmp->check = ~words_sum(p->ctx, p->l3 + sizeof(*ip), (sizeof(struct icmp) + quote_bytes) / 4);
	} else {
		struct ipv6hdr *ip6 = packet_at(p, p->l3, sizeof(*ip6) + sizeof(struct icmp));
		struct icmp *icmp = (void *)(ip6 + 1);
		__u64 sum;

		if (!ip6 ||
		    !link_write(p, sizeof(*ip6) + sizeof(*icmp), eth.h_source, eth.h_dest, bpf_htons(ETH_P_IPV6)))
			return REASON_NO_ROOM;
		*(__be32 *)ip6 = bpf_htonl(6U << 28);
		ip6->payload_len = bpf_htons(sizeof(struct icmp) + quote_bytes);
		ip6->nexthdr = IPPROTO_ICMPV6;
		ip6->hop_limit = ICMP_TTL;
		((__u64 *)&ip6->saddr)[0] = p->vip.half[0];
		((__u64 *)&ip6->saddr)[1] = p->vip.half[1];
		((__u64 *)&ip6->daddr)[0] = p->client.half[0];
		((__u64 *)&ip6->daddr)[1] = p->client.half[1];
		*icmp = (struct icmp){
			.type = ICMPV6_PKT_TOOBIG,
			.mtu_bytes = bpf_htonl(mtu_bytes),
		};
		/* The pseudo-header of RFC 8200 8.1: the addresses, the length, the protocol. */
		sum = words_sum(p->ctx, p->l3 + 8, 8) + bpf_htonl(sizeof(struct icmp) + quote_bytes) +
		      (__u64)bpf_htonl(IPPROTO_ICMPV6) +
		      words_sum(p->ctx, p->l3 + sizeof(*ip6), (sizeof(struct icmp) + quote_bytes) / 4);
		icmp->check = ~csum_fold(sum);
	}
	return REASON_TOO_BIG;
}

#endif
