// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * plug.bpf.c - a switch whose ports can be pulled, and a witness on the hosts behind it.
 *
 * A port is unplugged by one store into `unplugged`: from then on the switch drops what comes from the host (XDP on
 * the port) and what goes to it (tc egress on the port), and the link stays up, as when a host loses its power behind
 * a switch that does not notice. One way can be taken alone, or a part of what goes to the host by chance. The stamp runs at tc ingress on a host's own interface, hence behind its XDP program,
 * and notes when the first packet of a watched flow arrives. Written and read by plug.c or whoever maps the arrays.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "plug.h"

const volatile __u32 host; /* which entry of `seen` this instance of the stamp fills */

#define PLUG_ARRAY(name, type_, n)                 \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);  \
		__uint(map_flags, BPF_F_MMAPABLE); \
		__uint(max_entries, n);            \
		__type(key, __u32);                \
		__type(value, type_);              \
	} name SEC(".maps")

PLUG_ARRAY(unplugged, __u64, PLUG_MAX_PORTS);
PLUG_ARRAY(watched, __u64, PLUG_SOURCE_PORTS);
PLUG_ARRAY(armed, __u64, 1);
PLUG_ARRAY(seen, struct seen, PLUG_MAX_HOSTS);

static __always_inline __u64 port_word(__u32 ifindex)
{
	volatile __u64 *word = bpf_map_lookup_elem(&unplugged, &ifindex);

	return word ? *word : 0;
}

SEC("xdp")
int port_ingress(struct xdp_md *ctx)
{
	return port_word(ctx->ingress_ifindex) & PLUG_FROM ? XDP_DROP : XDP_PASS;
}

SEC("tc")
int port_egress(struct __sk_buff *skb)
{
	__u64 word = port_word(skb->ifindex);

	if (word & PLUG_TO || (word && bpf_get_prandom_u32() % 1000 < PLUG_LOSS_PERMILLE(word)))
		return TC_ACT_SHOT;
	return TC_ACT_UNSPEC;
}

/* Source port of a TCP or UDP packet, host order; -1: another packet. IPv6 extension headers are not looked behind. */
static __always_inline int source_port(struct __sk_buff *skb)
{
	__u32 offset = ETH_HLEN;
	__u8 protocol, version_ihl;
	__be16 port;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, offset, &version_ihl, 1) ||
		    bpf_skb_load_bytes(skb, offset + offsetof(struct iphdr, protocol), &protocol, 1))
			return -1;
		offset += (version_ihl & 0x0f) * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (bpf_skb_load_bytes(skb, offset + offsetof(struct ipv6hdr, nexthdr), &protocol, 1))
			return -1;
		offset += sizeof(struct ipv6hdr);
	} else {
		return -1;
	}
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return -1;
	if (bpf_skb_load_bytes(skb, offset, &port, sizeof(port)))
		return -1;
	return bpf_ntohs(port);
}

SEC("tc")
int stamp(struct __sk_buff *skb)
{
	__u64 now_ns = bpf_ktime_get_ns();
	__u32 zero = 0, id = host, port;
	int found = source_port(skb);
	struct seen *s = bpf_map_lookup_elem(&seen, &id);
	volatile __u64 *trial = bpf_map_lookup_elem(&armed, &zero);
	__u64 old, *watch;

	if (found < 0 || !s || !trial)
		return TC_ACT_UNSPEC;
	__sync_fetch_and_add(&s->packets, 1);
	port = found;
	watch = bpf_map_lookup_elem(&watched, &port);
	if (!watch || !*trial || *watch != *trial)
		return TC_ACT_UNSPEC;
	__sync_fetch_and_add(&s->watched, 1);
	old = s->trial;
	if (old != *watch && __sync_val_compare_and_swap(&s->trial, old, *watch) == old)
		s->first_ns = now_ns;
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
