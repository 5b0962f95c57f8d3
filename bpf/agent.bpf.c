/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * agent.bpf.c - the backend's side, at its interface: answers probes (S-BFD reflector, RFC 7880 7.2, RFC 7881) and
 * takes the outer header off packets that the balancer encapsulated (RFC 2003, RFC 2473, RFC 4213). Everything else
 * is left to the host, untouched.
 *
 * shunt-agent writes the maps `agent`, `agent_vips`, `agent_balancers`, `probe_keys`, the engine `agent_beat`; this program
 * writes only agent_word.other_version and .refused. If shunt-agent dies, this goes on and its answers say how old the agent's word is.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "agent_maps.bpf.h"
#include "keys.bpf.h"
#include "shunt/agent.h"
#include "shunt/heartbeat.h"
#include "shunt/reasons.h"

const volatile __u32 restrict_sources; /* 1: only the balancers in `agent_balancers` are answered */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} agent_beat SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, AGENT_MAX_VIPS);
	__type(key, struct shunt_addr);
	__type(value, __u32);
} agent_vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, AGENT_MAX_BALANCERS);
	__type(key, struct shunt_addr);
	__type(value, __u32);
} agent_balancers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, AGENT_MAX_MACS);
	__type(key, struct agent_mac);
	__type(value, __u32);
} agent_macs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, AGENT_REASON_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} agent_reasons SEC(".maps");

struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

#define VLAN_TAGS_MAX 2
#define IP_FRAGMENT 0x3fff /* more fragments, or an offset: RFC 791 3.1 */

/* What the program knows of a packet. */
struct packet {
	struct xdp_md *ctx;
	__u32 l3; /* offset of the outer IP header, bytes */
	__u32 l4;
	int is_v6;
	__u8 protocol;
	__u8 ttl;
	__u8 ecn; /* outer */
	struct shunt_addr saddr, daddr;
};

static __always_inline struct shunt_addr address_v4(__be32 a)
{
	return (struct shunt_addr){ .w = { 0, 0, SHUNT_V4_MAPPED, a } };
}

static __always_inline struct shunt_addr address_v6(const struct in6_addr *a)
{
	return (struct shunt_addr){ .w = { a->in6_u.u6_addr32[0], a->in6_u.u6_addr32[1], a->in6_u.u6_addr32[2],
					   a->in6_u.u6_addr32[3] } };
}

/* A pointer into the packet. The mask is for the verifier, which forgets what the compiler knows of an offset. */
static __always_inline void *packet_at(const struct packet *p, __u32 offset)
{
	asm volatile("" : "+r"(offset));
	return (void *)(long)p->ctx->data + (offset & 0x7f);
}

/* A length from the wire, bytes. The mask is for the verifier again: on 6.1 a swapped register may hold anything. */
static __always_inline __u32 packet_length(__be16 wire)
{
	__u32 length = bpf_ntohs(wire);

	asm volatile("" : "+r"(length));
	return length & 0xffff;
}

/* 0, or -1: nothing of ours. */
static __always_inline int packet_parse(struct packet *p)
{
	void *data = (void *)(long)p->ctx->data, *end = (void *)(long)p->ctx->data_end;
	struct ethhdr *eth = data;
	struct vlan_tag *tag = (void *)(eth + 1);
	__be16 type;

	if ((void *)(eth + 1) > end)
		return -1;
	type = eth->h_proto;
	p->l3 = sizeof(*eth);
	for (int i = 0; i < VLAN_TAGS_MAX; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return -1;
		type = tag->ethertype;
		p->l3 += sizeof(*tag);
		tag++;
	}
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)tag;

		if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->frag_off & bpf_htons(IP_FRAGMENT))
			return -1;
		p->protocol = ip->protocol;
		p->ttl = ip->ttl;
		p->ecn = ip->tos & 3;
		p->saddr = address_v4(ip->saddr);
		p->daddr = address_v4(ip->daddr);
		p->l4 = p->l3 + sizeof(*ip);
		return 0;
	}
	if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)tag;

		if ((void *)(ip + 1) > end || ip->version != 6)
			return -1;
		p->is_v6 = 1;
		p->protocol = ip->nexthdr;
		p->ttl = ip->hop_limit;
		p->ecn = ip->flow_lbl[0] >> 4 & 3;
		p->saddr = address_v6(&ip->saddr);
		p->daddr = address_v6(&ip->daddr);
		p->l4 = p->l3 + sizeof(*ip);
		return 0;
	}
	return -1;
}

/* Whether the frame was sent to this host. A function of its own: 6.1's verifier follows the rest of the walk then. */
static __noinline int is_for_this_host(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct agent_mac mac = {};

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return 0;
	__builtin_memcpy(mac.bytes, eth->h_dest, sizeof(mac.bytes));
	return bpf_map_lookup_elem(&agent_macs, &mac) != NULL;
}

static __always_inline int source_allowed(const struct packet *p)
{
	return !restrict_sources || bpf_map_lookup_elem(&agent_balancers, &p->saddr);
}

/* UDP checksum of the answer (RFC 768; RFC 8200 8.1), whose probe is the whole payload; its field must be 0. */
static __always_inline __be16 udp_checksum(const struct packet *p, struct udphdr *udp)
{
	__be32 pseudo[2] = { bpf_htonl(sizeof(*udp) + sizeof(struct probe)), bpf_htonl(IPPROTO_UDP) };
	struct shunt_addr saddr = p->saddr, daddr = p->daddr;
	__s64 sum;

	if (!p->is_v6)
		saddr.w[2] = daddr.w[2] = 0;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&saddr, sizeof(saddr), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&daddr, sizeof(daddr), sum);
	sum = bpf_csum_diff(NULL, 0, pseudo, sizeof(pseudo), sum);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)udp, sizeof(*udp) + sizeof(struct probe), sum);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~sum & 0xffff;
	return sum ? (__be16)sum : 0xffff;
}

static __always_inline __be32 age_us(__u64 then_ns, __u64 now_ns)
{
	__u64 us = now_ns > then_ns ? (now_ns - then_ns) / 1000 : 0; /* the engine's clock may be ahead by a hair */

	return then_ns ? bpf_htonl(us < PROBE_AGE_UNKNOWN ? us : PROBE_AGE_UNKNOWN - 1) : bpf_htonl(PROBE_AGE_UNKNOWN);
}

static __always_inline enum agent_reason reflect(struct packet *p)
{
	void *data = (void *)(long)p->ctx->data, *end = (void *)(long)p->ctx->data_end;
	struct ethhdr *eth = data;
	struct udphdr *udp = packet_at(p, p->l4);
	struct probe *probe = (void *)(udp + 1);
	struct agent_word *word;
	struct probe_keys *keys;
	enum engine_state engine;
	enum agent_reason reason = AGENT_REASON_REFLECTED;
	__u32 zero = 0, signer = 0;
	__u64 now = bpf_ktime_get_ns(), *beat, beat_ns;
	__u8 mac[6];
	__be16 port;

	/* source_port, then the rest: a looping answer must be named as such whatever else it is */
	if ((void *)(udp + 1) > end)
		return AGENT_REASON_REFUSED_MALFORMED;
	if (udp->source == bpf_htons(SBFD_PORT))
		return AGENT_REASON_REFUSED_LOOP;
	if ((void *)(probe + 1) > end || udp->len != bpf_htons(sizeof(*udp) + sizeof(*probe)))
		return AGENT_REASON_REFUSED_MALFORMED;
	if (p->ttl != SBFD_TTL)
		return AGENT_REASON_REFUSED_TTL;
	if (!source_allowed(p))
		return AGENT_REASON_REFUSED_SOURCE;
	if (!(probe->bfd.flags & BFD_DEMAND))
		return AGENT_REASON_REFUSED_LOOP;
	if (probe->bfd.vers_diag >> 5 != BFD_VERSION || probe->bfd.length != BFD_LENGTH || !probe->bfd.detect_mult ||
	    (probe->bfd.flags & (BFD_AUTH | BFD_MULTIPOINT)) || !probe->bfd.my_discriminator ||
	    bpf_ntohl(probe->bfd.your_discriminator) != reflector_discriminator(&p->daddr) ||
	    probe->trailer.magic != bpf_htonl(PROBE_MAGIC))
		return AGENT_REASON_REFUSED_MALFORMED;
	word = bpf_map_lookup_elem(&agent, &zero);
	beat = bpf_map_lookup_elem(&agent_beat, &zero);
	keys = bpf_map_lookup_elem(&probe_keys, &zero);
	if (!word || !beat || !keys)
		return AGENT_REASON_REFUSED_MALFORMED;
	if (keys->n) {
		signer = tag_signer(keys, probe);
		if (signer == TAG_FORGED) {
			word->refused = p->saddr;
			return AGENT_REASON_REFUSED_TAG;
		}
	}
	if (probe->trailer.version != PROBE_VERSION) {
		word->other_version = probe->trailer.version;
		reason = AGENT_REASON_REFLECTED_OTHER_VERSION;
	}
	beat_ns = *(volatile __u64 *)beat;
	engine = agent_state(word, beat_ns, now);

	__builtin_memcpy(mac, eth->h_dest, 6);
	__builtin_memcpy(eth->h_dest, eth->h_source, 6);
	__builtin_memcpy(eth->h_source, mac, 6);
	/* The addresses change places and the TTL stays 255: the IPv4 header's checksum stays right. */
	if (p->is_v6) {
		struct ipv6hdr *ip = packet_at(p, p->l3);
		struct in6_addr a;

		if ((void *)(ip + 1) > end)
			return AGENT_REASON_REFUSED_MALFORMED;
		a = ip->saddr;
		ip->saddr = ip->daddr;
		ip->daddr = a;
	} else {
		struct iphdr *ip = packet_at(p, p->l3);
		__be32 a;

		if ((void *)(ip + 1) > end)
			return AGENT_REASON_REFUSED_MALFORMED;
		a = ip->saddr;
		ip->saddr = ip->daddr;
		ip->daddr = a;
	}
	port = udp->source;
	udp->source = udp->dest;
	udp->dest = port;

	/* RFC 7880 7.2.2: discriminators change places, demand is cleared, the state is Up, or AdminDown to say "out of
	 * service", as it is while draining and when the engine is gone; the multiplier and the interval are the asker's. */
	probe->bfd.your_discriminator = probe->bfd.my_discriminator;
	probe->bfd.my_discriminator = bpf_htonl(reflector_discriminator(&p->daddr));
	probe->bfd.vers_diag = BFD_VERS_DIAG(0);
	probe->bfd.flags = (engine >= ENGINE_DRAINING ? BFD_ADMIN_DOWN : BFD_UP) << BFD_STATE_SHIFT;
	probe->trailer.version = PROBE_VERSION;
	probe->trailer.engine = engine;
	probe->trailer.flags = bpf_htons(word->flags);
	probe->trailer.cause = bpf_htons(engine == ENGINE_DEAD ? ENGINE_LIFE_CAUSE(word->life) : 0);
	probe->trailer.in_flight = bpf_htonl(word->in_flight);
	probe->trailer.queued = bpf_htonl(word->queued);
	probe->trailer.utilisation_permille = bpf_htons(word->utilisation_permille);
	probe->trailer.beat_age_us = age_us(beat_ns, now);
	probe->trailer.agent_age_us = age_us(word->updated_ns, now);
	probe->trailer.incarnation = bpf_htonl(word->incarnation);
	probe->trailer.tag = keys->n ? tag_of(&keys->key[signer & 1], probe) : 0;
	udp->check = 0;
	udp->check = udp_checksum(p, udp);
	return reason;
}

/*
 * Take the outer header off where the inner packet is for one of our VIPs; it must be as long as it says. Other tunnels
 * of the host are left alone. A congestion mark on the outer header is carried over (RFC 6040 4.2); where the inner packet can't bear it, the packet is refused.
 */
static __always_inline enum agent_reason decapsulate(struct packet *p)
{
	void *end = (void *)(long)p->ctx->data_end;
	__u32 outer = p->l4 - p->l3, l2 = p->l3;
	struct {
		__be32 w[6];
	} head = {}; /* Ethernet header and up to two tags: 14, 18 or 22 bytes */
	struct shunt_addr daddr;
	__be16 type;

	if (p->protocol == IPPROTO_IPIP) {
		struct iphdr *ip = packet_at(p, p->l4);
		__u32 length;

		if ((void *)(ip + 1) > end)
			return AGENT_REASON_OTHER;
		daddr = address_v4(ip->daddr);
		if (!bpf_map_lookup_elem(&agent_vips, &daddr))
			return AGENT_REASON_OTHER;
		length = packet_length(ip->tot_len);
		if (ip->version != 4 || ip->ihl < 5 || length < ip->ihl * 4 || (void *)ip + length > end)
			return AGENT_REASON_REFUSED_INNER;
		if (p->ecn == 3 && (ip->tos & 3) != 3) {
			__u32 sum = (__u16)~ip->check, mark = 3 - (ip->tos & 3);

			if (!(ip->tos & 3))
				return AGENT_REASON_REFUSED_INNER;
			sum += bpf_htons(mark); /* RFC 1624: only the low byte of the first word grows */
			sum = (sum & 0xffff) + (sum >> 16);
			ip->check = ~sum;
			ip->tos |= 3;
		}
		type = bpf_htons(ETH_P_IP);
	} else {
		struct ipv6hdr *ip = packet_at(p, p->l4);

		if ((void *)(ip + 1) > end)
			return AGENT_REASON_OTHER;
		daddr = address_v6(&ip->daddr);
		if (!bpf_map_lookup_elem(&agent_vips, &daddr))
			return AGENT_REASON_OTHER;
		if (ip->version != 6 || (void *)(ip + 1) + packet_length(ip->payload_len) > end)
			return AGENT_REASON_REFUSED_INNER;
		if (p->ecn == 3) {
			if (!(ip->flow_lbl[0] >> 4 & 3))
				return AGENT_REASON_REFUSED_INNER;
			ip->flow_lbl[0] |= 3 << 4;
		}
		type = bpf_htons(ETH_P_IPV6);
	}
	if (!source_allowed(p))
		return AGENT_REASON_REFUSED_SOURCE;
	asm volatile("" : "+r"(l2));
	if (l2 != ETH_HLEN && l2 != ETH_HLEN + 4 && l2 != ETH_HLEN + 8)
		return AGENT_REASON_REFUSED_INNER;
	if (bpf_xdp_load_bytes(p->ctx, 0, &head, l2) || bpf_xdp_adjust_head(p->ctx, outer))
		return AGENT_REASON_REFUSED_INNER;
	if (bpf_xdp_store_bytes(p->ctx, 0, &head, l2) ||
	    bpf_xdp_store_bytes(p->ctx, l2 - sizeof(type), &type, sizeof(type)))
		return AGENT_REASON_REFUSED_INNER;
	return AGENT_REASON_DECAPSULATED;
}

static __always_inline enum agent_reason agent_walk(struct packet *p)
{
	if (packet_parse(p))
		return AGENT_REASON_OTHER;
	if (p->protocol == IPPROTO_IPIP || p->protocol == IPPROTO_IPV6)
		return is_for_this_host(p->ctx) ? decapsulate(p) : AGENT_REASON_OTHER;
	if (p->protocol == IPPROTO_UDP) {
		struct udphdr *udp = packet_at(p, p->l4);

		if ((void *)(udp + 1) <= (void *)(long)p->ctx->data_end && udp->dest == bpf_htons(SBFD_PORT) &&
		    is_for_this_host(p->ctx))
			return reflect(p);
	}
	return AGENT_REASON_OTHER;
}

/* Count the reason; the only place that knows the XDP actions. */
static __always_inline int verdict(enum agent_reason reason)
{
	__u32 key = reason;
	__u64 *count = bpf_map_lookup_elem(&agent_reasons, &key);
	int action = XDP_ABORTED;

	if (count)
		(*count)++;
	switch (reason) {
#define REASON_ACTION(name, act, sentence) \
	case AGENT_REASON_##name:          \
		action = XDP_##act;        \
		break;
		SHUNT_AGENT_REASONS(REASON_ACTION)
	default:
		break;
	}
	return action;
}

SEC("xdp")
int shunt_agent(struct xdp_md *ctx)
{
	struct packet p = { .ctx = ctx };

	return verdict(agent_walk(&p));
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
