/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * orphan.bpf.h - the answer to a segment whose backend is dead: a RST made of the segment itself, from the VIP, out of
 * the interface it came in by, tags kept. Decides nothing but its bytes and its pace; who is an orphan is flow.bpf.h's.
 *
 * The client's own numbers make it the one RST that the client believes: its sequence number is exactly the next that the
 * client expects (RFC 5961 3.2).
 */
#ifndef SHUNT_ORPHAN_BPF_H
#define SHUNT_ORPHAN_BPF_H

#include "icmp.bpf.h"
#include "maps.bpf.h"
#include "packet.bpf.h"
#include "police.bpf.h"

#define RST_TTL 64 /* RFC 1700 */
#define RST_DF 0x4000 /* so the identification may be 0: RFC 6864 4.1 */
#define RST_BURST_NS 10000000 /* chosen: a CPU that slept for 10 ms may catch up */

/* TCP's header as whole words, in network order. */
struct tcp_words {
	__be16 source, dest;
	__be32 seq, ack;
	__be32 flags; /* data offset, flags, window */
	__u16 check;
	__u16 urgent;
};
SHUNT_ASSERT_SIZE(struct tcp_words, 20);

/* A packet on its way through the journal: what the functions below the walk need to know of it. */
struct flow_job {
	struct flow_key key;
	__u32 hash;
	__u32 slot;
	__u32 owner; /* of the slot; 0: none */
	__u32 l3, l4, ip_bytes, frame_bytes; /* as in struct packet */
	__u16 tcp_flags;
	__u16 is_v6;
	__u16 is_icmp_error;
	__u16 zero;
	__u32 zero1;
	/* of the answer */
	__u8 peer_mac[8], own_mac[8];
	struct tcp_words answer;
	__u32 zero2;
};
SHUNT_ASSERT_SIZE(struct flow_job, 120);

/*
 * The job of this CPU, on which one packet at a time is: too large for the stack beside what the walk holds there. The
 * functions find it themselves, so that the verifier knows it for a map's value, which a key may be.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_job);
} flow_jobs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64); /* due_ns */
} orphan_pace SEC(".maps");

static __always_inline struct flow_job *flow_job_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&flow_jobs, &zero);
}

/* May a RST leave this CPU now? */
static __always_inline int orphan_is_in_time(__u64 now_ns)
{
	__u32 zero = 0;
	__u64 *due = bpf_map_lookup_elem(&orphan_pace, &zero);

	return due && !rate_is_above(due, now_ns, 1000000000 / ORPHAN_RESETS_PER_S, RST_BURST_NS);
}

/* Is there a host to answer, and is it no answer to a RST (RFC 9293 3.10.7.1) or to an error? */
static __always_inline int orphan_may_answer(const struct flow_job *job)
{
	struct packet p = { .is_v6 = job->is_v6, .is_icmp_error = job->is_icmp_error, .client.addr = job->key.client };

	return !(job->tcp_flags & TCP_RST) && icmp_may_answer(&p);
}

static __always_inline __u64 address_sum(const struct shunt_addr *a)
{
	/* A v4-mapped address adds what its last word does and two times the same 0xffff of both: nothing. */
	return (__u64)a->w[0] + a->w[1] + a->w[2] + a->w[3];
}

/*
 * RFC 9293 3.10.7.1, CLOSED: a segment with ACK is answered with its acknowledgement as the sequence number; any other
 * with 0, and with what it would have acknowledged.
 */
__noinline int orphan_reset(struct xdp_md *ctx)
{
	struct packet p = { .ctx = ctx };
	struct flow_job *job = flow_job_here();
	struct tcp_words *tcp, *answer;
	struct ethhdr *eth;
	__u32 ip_header_bytes, end;
	__u64 sum;

	if (!job)
		return REASON_ORPHAN_UNTOLD;
	packet_reload(&p);
	eth = packet_at(&p, 0, sizeof(*eth));
	tcp = packet_at(&p, job->l4, sizeof(*tcp));
	if (!eth || !tcp)
		return REASON_ORPHAN_UNTOLD;
	mac_copy(job->peer_mac, eth->h_source);
	mac_copy(job->own_mac, eth->h_dest);
	answer = &job->answer;
	answer->source = tcp->dest;
	answer->dest = tcp->source;
	answer->check = 0;
	if (job->tcp_flags & TCP_ACK) {
		answer->seq = tcp->ack;
		answer->ack = 0;
		answer->flags = bpf_htonl((sizeof(*answer) / 4) << 28 | TCP_RST << 16);
	} else {
		end = job->l3 + job->ip_bytes - job->l4 - (bpf_ntohl(tcp->flags) >> 28) * 4;
		end += !!(job->tcp_flags & TCP_SYN) + !!(job->tcp_flags & TCP_FIN);
		answer->seq = 0;
		answer->ack = bpf_htonl(bpf_ntohl(tcp->seq) + end);
		answer->flags = bpf_htonl((sizeof(*answer) / 4) << 28 | (TCP_RST | TCP_ACK) << 16);
	}
	sum = address_sum(&job->key.client) + address_sum(&job->key.vip) + bpf_htonl(IPPROTO_TCP) +
	      (__u64)bpf_htonl(sizeof(*answer)) + answer->seq + answer->ack + answer->flags + answer->source +
	      answer->dest;
	answer->check = ~csum_fold(sum);

	p.l3 = job->l3;
	p.is_v6 = job->is_v6;
	ip_header_bytes = p.is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	if (bpf_xdp_adjust_tail(ctx, (int)(job->l3 + ip_header_bytes + sizeof(*answer)) - (int)job->frame_bytes))
		return REASON_ORPHAN_UNTOLD;
	packet_reload(&p);
	if (!link_write(&p, 0, job->peer_mac, job->own_mac, bpf_htons(p.is_v6 ? ETH_P_IPV6 : ETH_P_IP)))
		return REASON_ORPHAN_UNTOLD;
	if (p.is_v6) {
		struct ipv6hdr *ip6 = packet_at(&p, p.l3, sizeof(*ip6));

		if (!ip6)
			return REASON_ORPHAN_UNTOLD;
		*(__be32 *)ip6 = bpf_htonl(6U << 28);
		ip6->payload_len = bpf_htons(sizeof(*answer));
		ip6->nexthdr = IPPROTO_TCP;
		ip6->hop_limit = RST_TTL;
		ip6->saddr = *(struct in6_addr *)&job->key.vip;
		ip6->daddr = *(struct in6_addr *)&job->key.client;
	} else {
		__u32 *word = packet_at(&p, p.l3, sizeof(struct iphdr));

		if (!word)
			return REASON_ORPHAN_UNTOLD;
		word[0] = bpf_htonl(0x45U << 24 | (sizeof(struct iphdr) + sizeof(*answer)));
		word[1] = bpf_htonl(RST_DF);
		word[2] = bpf_htonl(RST_TTL << 24 | IPPROTO_TCP << 16);
		word[3] = job->key.vip.w[3];
		word[4] = job->key.client.w[3];
		sum = (__u64)word[0] + word[1] + word[2] + word[3] + word[4];
		((struct iphdr *)word)->check = ~csum_fold(sum);
	}
	tcp = packet_at(&p, p.l3 + ip_header_bytes, sizeof(*tcp));
	if (!tcp)
		return REASON_ORPHAN_UNTOLD;
	*tcp = *answer;
	return REASON_ORPHAN_RESET;
}

#endif
