/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * forward.bpf.h - the way to the chosen backend: rewrite the link header (l2) or put an IP header in front (ipip),
 * then out. Decides whether the packet fits; where it goes is in the backend's record, kept right by shuntd.
 *
 * Lengths come from the packet's IP header, never from the frame: what follows the IP packet is padding.
 */
#ifndef SHUNT_FORWARD_BPF_H
#define SHUNT_FORWARD_BPF_H

#include "icmp.bpf.h"
#include "maps.bpf.h"
#include "packet.bpf.h"

#define AF_INET6 10 /* linux/socket.h has only its types */
#define OUTER_TTL 64 /* RFC 2003 3.1, RFC 1700 */
#define IPV4_DF 0x4000

/* One hop less: RFC 1812 5.3.1, RFC 8200 3. The checksum follows as in RFC 1624, the TTL being the high byte of a word. */
static __always_inline void ttl_decrement(struct packet *p)
{
	struct ipv6hdr *ip6 = p->is_v6 ? packet_at(p, p->l3, sizeof(*ip6)) : NULL;
	struct iphdr *ip = p->is_v6 ? NULL : packet_at(p, p->l3, sizeof(*ip));
	__u32 check;

	if (ip6)
		ip6->hop_limit--;
	if (ip) {
		check = ip->check + bpf_htons(0x0100);
		ip->check = check + (check >= 0xffff);
		ip->ttl--;
	}
}

/* DSCP and ECN of the packet: the outer header gets both (RFC 2983 uniform model; RFC 6040 4.1 normal mode). */
static __always_inline __u8 traffic_class(const struct packet *p, __u32 offset)
{
	__be16 *word = packet_at(p, offset, sizeof(*word));

	if (!word)
		return 0;
	return p->is_v6 ? bpf_ntohs(*word) >> 4 : bpf_ntohs(*word);
}

/* RFC 2003 (4in4), RFC 4213 (6in4). Don't Fragment is set: what doesn't fit was told so. The ID may be 0 then (RFC 6864). */
static __always_inline enum reason encapsulate_v4(struct packet *p, const struct backend *b)
{
	struct iphdr *ip;
	__u32 *word;
	__u64 sum;

	if (bpf_xdp_adjust_head(p->ctx, -(int)sizeof(*ip)))
		return REASON_NO_ROOM;
	packet_reload(p);
	ip = packet_at(p, p->l3, sizeof(*ip));
	if (!ip || !link_write(p, sizeof(*ip), b->dst_mac, b->src_mac, bpf_htons(ETH_P_IP)))
		return REASON_NO_ROOM;
	word = (void *)ip;
	word[0] = bpf_htonl(0x45U << 24 | (__u32)traffic_class(p, p->l3 + sizeof(*ip)) << 16 |
			    (sizeof(*ip) + p->ip_bytes));
	word[1] = bpf_htonl(IPV4_DF);
	word[3] = b->local.w[3];
	word[4] = b->address.w[3];
	word[2] = bpf_htonl(OUTER_TTL << 24 | (p->is_v6 ? IPPROTO_IPV6 : IPPROTO_IPIP) << 16);
	sum = (__u64)word[0] + word[1] + word[2] + word[3] + word[4];
	ip->check = ~csum_fold(sum);
	return GO_ON;
}

/* RFC 2473. The flow label is the flow's hash, so that routers spread flows without looking inside (RFC 6438). */
static __always_inline enum reason encapsulate_v6(struct packet *p, const struct backend *b)
{
	struct ipv6hdr *ip6;

	if (bpf_xdp_adjust_head(p->ctx, -(int)sizeof(*ip6)))
		return REASON_NO_ROOM;
	packet_reload(p);
	ip6 = packet_at(p, p->l3, sizeof(*ip6));
	if (!ip6 || !link_write(p, sizeof(*ip6), b->dst_mac, b->src_mac, bpf_htons(ETH_P_IPV6)))
		return REASON_NO_ROOM;
	*(__be32 *)ip6 = bpf_htonl(6U << 28 | (__u32)traffic_class(p, p->l3 + sizeof(*ip6)) << 20 | p->hash >> 12);
	ip6->payload_len = bpf_htons(p->ip_bytes);
	ip6->nexthdr = p->is_v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	ip6->hop_limit = OUTER_TTL;
	ip6->saddr = *(const struct in6_addr *)&b->local;
	ip6->daddr = *(const struct in6_addr *)&b->address;
	return GO_ON;
}

/*
 * Cut what follows the IP packet, so that the frame fits where the packet does. With no outer header (outer_bytes 0) the
 * padding that makes it the shortest Ethernet frame stays.
 */
static __always_inline enum reason padding_cut(struct packet *p, __u32 outer_bytes)
{
	__u32 used_bytes = p->l3 + p->ip_bytes;

	if (!outer_bytes && used_bytes < ETH_ZLEN)
		used_bytes = ETH_ZLEN;
	if (used_bytes >= p->frame_bytes)
		return GO_ON;
	if (bpf_xdp_adjust_tail(p->ctx, (int)used_bytes - (int)p->frame_bytes))
		return REASON_NO_ROOM;
	packet_reload(p);
	return GO_ON;
}

/* Out of the interface it came in by, or another that shuntd added to `egress`. */
static __always_inline enum reason emit(struct packet *p, const struct backend *b)
{
	if (b->egress_ifindex == p->ctx->ingress_ifindex)
		return REASON_FORWARDED;
	return bpf_redirect_map(&egress, b->egress_ifindex, 0) == XDP_REDIRECT ? REASON_REDIRECTED
									       : REASON_TABLE_MISSING;
}

/* Everything behind the choice. */
static __always_inline enum reason forward(struct packet *p, const struct backend *b)
{
	__u32 outer_bytes = b->forward != FORWARD_IPIP ? 0
			    : b->family == AF_INET6    ? sizeof(struct ipv6hdr)
						       : sizeof(struct iphdr);
	enum reason reason;

	if (!b->egress_ifindex || !b->mtu_bytes)
		return REASON_NO_NEIGHBOUR;
	if (p->ip_bytes + outer_bytes > b->mtu_bytes)
		return icmp_too_big(p, (int)b->mtu_bytes - (int)outer_bytes);
	reason = padding_cut(p, outer_bytes);
	if (reason != GO_ON)
		return reason;
	ttl_decrement(p);
	if (!outer_bytes)
		link_write(p, 0, b->dst_mac, b->src_mac, bpf_htons(p->is_v6 ? ETH_P_IPV6 : ETH_P_IP));
	else if (b->family == AF_INET6)
		reason = encapsulate_v6(p, b);
	else
		reason = encapsulate_v4(p, b);
	return reason == GO_ON ? emit(p, b) : reason;
}

#endif
