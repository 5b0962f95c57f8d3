// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * walk_bench.bpf.c - the walk, the floor under it and nothing at all, each made repeatable: a test run doesn't put the
 * packet back between repeats, so frame_restore() does, and gives each repeat another source address. Filled and run
 * by bench_datapath.c.
 */
#include "walk.bpf.h"

#define HEADERS_V4 (ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr))
#define HEADERS_V6 (ETH_HLEN + sizeof(struct ipv6hdr) + sizeof(struct tcphdr))

#define BENCH_SESSION 1 /* backend that bench_answer() hears */

/* Set before loading: constants to the verifier, which drops what the family doesn't need. */
const volatile __u32 bench_family = 4;
const volatile __u32 bench_frame_bytes;
const volatile __u32 flow_mask; /* number of flows less 1, a power of two less 1 */

/* The headers as they come in, the source address and the IPv4 checksum those of flow 0: its last 24 bits are 0. */
union {
	__u8 bytes[HEADERS_V6];
	struct {
		__u8 link[ETH_HLEN];
		struct iphdr ip;
	} __attribute__((packed, aligned(2))) v4;
	struct {
		__u8 link[ETH_HLEN];
		struct ipv6hdr ip6;
	} __attribute__((packed, aligned(2))) v6;
} bench_headers;
__u32 bench_client; /* of flow 0, host order: the source address or its last 32 bits */
__u32 bench_sum; /* of the IPv4 header's words, host order, without checksum and source */
__u32 next_flow;
struct backend bench_backend; /* where the floor sends everything */

/* The frame as it came in, from the next client: as long as it was, all headers written anew. Not 0: it can't be. */
static __always_inline long frame_restore(struct xdp_md *ctx)
{
	int moved = (int)bench_frame_bytes - (int)(ctx->data_end - ctx->data);
	__u32 client = bench_client + (next_flow++ & flow_mask);

	if (moved && bpf_xdp_adjust_head(ctx, -moved))
		return -1;
	if (bench_family == 6) {
		bench_headers.v6.ip6.saddr.in6_u.u6_addr32[3] = bpf_htonl(client);
		return bpf_xdp_store_bytes(ctx, 0, &bench_headers, HEADERS_V6);
	}
	bench_headers.v4.ip.saddr = bpf_htonl(client);
	bench_headers.v4.ip.check = bpf_htons(~csum_fold((__u64)bench_sum + (client >> 16) + (client & 0xffff)));
	return bpf_xdp_store_bytes(ctx, 0, &bench_headers, HEADERS_V4);
}

SEC("xdp")
int bench_empty(struct xdp_md *ctx)
{
	return XDP_TX;
}

SEC("xdp")
int bench_walk(struct xdp_md *ctx)
{
	return frame_restore(ctx) ? XDP_ABORTED : shunt_walk(ctx);
}

/* The answer to a probe, or what is forged to look like one: it leaves the frame as it is, and each is the first. */
SEC("xdp")
int bench_answer(struct xdp_md *ctx)
{
	__u32 id = BENCH_SESSION;
	struct session *s = bpf_map_lookup_elem(&sessions, &id);

	if (!s)
		return XDP_ABORTED;
	s->answered_round = 0;
	return shunt_walk(ctx);
}

/* What forwarding itself costs: the walk's last step, to a backend that is fixed. Nothing is parsed or looked up. */
SEC("xdp")
int bench_floor(struct xdp_md *ctx)
{
	struct packet p = {
		.ctx = ctx,
		.frame_bytes = bench_frame_bytes,
		.l3 = ETH_HLEN,
		.ip_bytes = bench_frame_bytes - ETH_HLEN,
		.is_v6 = bench_family == 6,
	};

	if (frame_restore(ctx))
		return XDP_ABORTED;
	packet_reload(&p);
	return forward(&p, &bench_backend) == REASON_FORWARDED ? XDP_TX : XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
