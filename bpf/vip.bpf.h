/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vip.bpf.h - is it for a VIP, and may it pass as one? The exact port goes before every port. From here on the packet
 * is ours: it is counted for its VIP, and what is wrong with it drops it.
 */
#ifndef SHUNT_VIP_BPF_H
#define SHUNT_VIP_BPF_H

#include "maps.bpf.h"
#include "packet.bpf.h"

/* t: a look-up's result, so it may be NULL. */
static __always_inline void traffic_count(struct traffic *t, const struct packet *p)
{
	if (!t)
		return;
	t->packets++;
	t->bytes += p->frame_bytes;
	t->new_flows += p->is_new_flow;
}

/* The keys, written in the words that the maps' hash reads. */
union vip_lookup {
	struct vip_key key;
	struct {
		__u64 address[2];
		__be32 port_protocol;
	};
};
union vip4_lookup {
	struct vip4_key key;
	struct {
		__be32 address;
		__be32 port_protocol;
	};
};

static __always_inline struct vip *vip_look_up(const struct packet *p, __be16 port)
{
	__be32 port_protocol = bpf_htonl((__u32)bpf_ntohs(port) << 16 | p->protocol << 8);
	union vip_lookup key = { .address = { p->vip.half[0], p->vip.half[1] }, .port_protocol = port_protocol };
	union vip4_lookup key4 = { .address = p->vip.addr.w[3], .port_protocol = port_protocol };

	return p->is_v6 ? bpf_map_lookup_elem(&vips, &key) : bpf_map_lookup_elem(&vips4, &key4);
}

static __always_inline struct vip *vip_find(struct packet *p)
{
	struct vip *vip = vip_look_up(p, p->vip_port);

	p->is_any_port = !p->vip_port;
	if (vip || p->is_any_port)
		return vip;
	p->is_any_port = 1;
	return vip_look_up(p, 0);
}

/*
 * Later fragments have no ports. So fragments are led only where none are needed: to an any-port VIP that hashes no
 * ports. Elsewhere the first one is dropped, and the later ones aren't known to be for a VIP.
 */
static __always_inline int vip_takes_fragments(const struct packet *p, const struct vip *vip)
{
	return p->is_any_port && !(__u32)vip->hash_mask[4];
}

static __always_inline enum reason vip_admit(struct packet *p, const struct vip *vip)
{
	traffic_count(bpf_map_lookup_elem(&vip_stats, &vip->id), p);
	if (p->flaw != GO_ON)
		return p->flaw;
	if (p->is_fragment && !vip_takes_fragments(p, vip))
		return REASON_FRAGMENT;
	if (p->ttl <= 1)
		return REASON_TTL_EXPIRED;
	return GO_ON;
}

#endif
