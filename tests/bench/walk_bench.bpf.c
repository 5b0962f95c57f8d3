// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * walk_bench.bpf.c - the walk, the floor under it and nothing at all, each made repeatable: a test run doesn't put the
 * packet back between repeats, so restore() does, and gives each repeat another source address. Read and written by
 * bench_datapath.c.
 */
#include "walk.bpf.h"

#define LOCAL_V4 0x0a000001U /* 10.0.0.1 */
#define BACKEND_V4 0x0a00000bU
#define CLIENT_V4 0x0b000000U /* 11.0.0.0 and the flow's number */
#define VIP_V4 0xcb00710aU /* 203.0.113.10 */
#define VIP_PORT 443
#define DATA_BYTES 26 /* TCP payload: 80 bytes of Ethernet frame for IPv4 */

const volatile __u32 bench_family = 4;
const volatile __u32 flow_mask; /* number of flows less 1, a power of two less 1 */
__u32 next_flow;

/* The sum of an IPv4 header whose variable words are 0, and the fold: constants to the compiler. */
static __always_inline __u16 header_check(__u16 tot_len, __u8 ttl, __u8 protocol, __u16 frag, __u32 saddr, __u32 daddr)
{
	__u64 sum = 0x4500 + tot_len + frag + (ttl << 8 | protocol) + (saddr >> 16) + (saddr & 0xffff) + (daddr >> 16) +
		    (daddr & 0xffff);

	return bpf_htons(~csum_fold(sum));
}

static __always_inline void restore_link(void *eth, __be16 ethertype)
{
	*(__u64 *)eth = 0x02000000ba010200ULL;
	*(__u32 *)(eth + 8) = 0x000000c1;
	*(__u16 *)(eth + 12) = ethertype;
}

/* The frame as it came in, from the next client: link and network header, ports. False: no room, never. */
static __always_inline int restore_v4(struct xdp_md *ctx)
{
	const __u32 ip_bytes = sizeof(struct iphdr) + sizeof(struct tcphdr) + DATA_BYTES;
	int moved = (int)(ETH_HLEN + ip_bytes) - (int)(ctx->data_end - ctx->data);
	__u32 client = CLIENT_V4 + (next_flow++ & flow_mask);
	struct iphdr *ip;
	void *eth;

	if (moved && bpf_xdp_adjust_head(ctx, -moved))
		return 0;
	eth = (void *)(long)ctx->data;
	ip = eth + ETH_HLEN;
	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return 0;
	restore_link(eth, bpf_htons(ETH_P_IP));
	*ip = (struct iphdr){ .version = 4,
			      .ihl = 5,
			      .tot_len = bpf_htons(ip_bytes),
			      .ttl = 64,
			      .protocol = IPPROTO_TCP,
			      .check = header_check(ip_bytes, 64, IPPROTO_TCP, 0, client, VIP_V4),
			      .saddr = bpf_htonl(client),
			      .daddr = bpf_htonl(VIP_V4) };
	return 1;
}

static __always_inline int restore_v6(struct xdp_md *ctx)
{
	const __u32 payload_bytes = sizeof(struct tcphdr) + DATA_BYTES;
	int moved = (int)(ETH_HLEN + sizeof(struct ipv6hdr) + payload_bytes) - (int)(ctx->data_end - ctx->data);
	__u32 client = next_flow++ & flow_mask;
	struct ipv6hdr *ip6;
	__u32 *word;
	void *eth;

	if (moved && bpf_xdp_adjust_head(ctx, -moved))
		return 0;
	eth = (void *)(long)ctx->data;
	ip6 = eth + ETH_HLEN;
	if ((void *)(ip6 + 1) > (void *)(long)ctx->data_end)
		return 0;
	restore_link(eth, bpf_htons(ETH_P_IPV6));
	word = (void *)ip6;
	word[0] = bpf_htonl(6U << 28);
	word[1] = bpf_htonl(payload_bytes << 16 | IPPROTO_TCP << 8 | 64);
	word[2] = bpf_htonl(0x20010db8);
	word[3] = 0;
	word[4] = 0;
	word[5] = bpf_htonl(client);
	word[6] = bpf_htonl(0x20010db8);
	word[7] = 0;
	word[8] = 0;
	word[9] = bpf_htonl(VIP_PORT);
	return 1;
}

static __always_inline int restore(struct xdp_md *ctx)
{
	return bench_family == 6 ? restore_v6(ctx) : restore_v4(ctx);
}

SEC("xdp")
int bench_empty(struct xdp_md *ctx)
{
	return XDP_TX;
}

SEC("xdp")
int bench_walk(struct xdp_md *ctx)
{
	return restore(ctx) ? shunt_walk(ctx) : XDP_ABORTED;
}

/* The least that forwarding costs: constant addresses into a constant header, nothing read, nothing looked up. */
SEC("xdp")
int bench_floor_l2(struct xdp_md *ctx)
{
	void *eth;

	if (!restore(ctx))
		return XDP_ABORTED;
	eth = (void *)(long)ctx->data;
	if (eth + ETH_HLEN > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	*(__u64 *)eth = 0x02000000be010200ULL;
	*(__u32 *)(eth + 8) = 0x000000ba;
	return XDP_TX;
}

SEC("xdp")
int bench_floor_ipip(struct xdp_md *ctx)
{
	const __u16 tot_len = 2 * sizeof(struct iphdr) + sizeof(struct tcphdr) + DATA_BYTES;
	struct iphdr *ip;
	void *eth;

	if (!restore(ctx) || bpf_xdp_adjust_head(ctx, -(int)sizeof(*ip)))
		return XDP_ABORTED;
	eth = (void *)(long)ctx->data;
	ip = eth + ETH_HLEN;
	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	*(__u64 *)eth = 0x02000000be010200ULL;
	*(__u32 *)(eth + 8) = 0x000000ba;
	*(__u16 *)(eth + 12) = bpf_htons(ETH_P_IP);
	*ip = (struct iphdr){ .version = 4,
			      .ihl = 5,
			      .tot_len = bpf_htons(tot_len),
			      .frag_off = bpf_htons(IPV4_DF),
			      .ttl = OUTER_TTL,
			      .protocol = IPPROTO_IPIP,
			      .check = header_check(tot_len, OUTER_TTL, IPPROTO_IPIP, IPV4_DF, LOCAL_V4, BACKEND_V4),
			      .saddr = bpf_htonl(LOCAL_V4),
			      .daddr = bpf_htonl(BACKEND_V4) };
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
