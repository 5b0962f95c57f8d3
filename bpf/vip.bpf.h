/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vip.bpf.h - is it for a VIP, and may it pass as one? The exact port goes before every port. From here on the packet
 * is ours: it is counted for its VIP, and what is wrong with it drops it.
 */
#ifndef SHUNT_VIP_BPF_H
#define SHUNT_VIP_BPF_H

#include "maps.bpf.h"
#include "packet.bpf.h"
#include "shunt/vips.h"

/* t: a look-up's result, so it may be NULL. */
static __always_inline void traffic_count(struct traffic *t, const struct packet *p)
{
	if (!t)
		return;
	t->packets++;
	t->bytes += p->frame_bytes;
	if (p->is_new_flow)
		t->new_flows++;
}

/* What is looked for: the address's halves as vip_place_of() takes them, port, protocol, and which family that is. */
#define VIP_WHAT(port, protocol, is_v6) ((__u32)(port) | (__u32)(protocol) << 16 | (__u32)(is_v6) << 24)

static __always_inline int vip_is(const struct vip *vip, __u64 high, __u64 low, __u32 what)
{
	const __u64 *half = (const __u64 *)&vip->key.address;

	if (vip->key.port != (__u16)what || vip->key.protocol != (__u8)(what >> 16))
		return 0;
	if (what >> 24)
		return half[0] == high && half[1] == low;
	return vip->key.address.w[3] == low && vip->key.address.w[2] == SHUNT_V4_MAPPED && !half[0];
}

/* The VIP that the n-th bucket from its place on leads to, or NULL; *end: there are none behind it. */
static __always_inline struct vip *vip_probe(__u64 high, __u64 low, __u32 what, struct vip_place place, __u32 n,
					     int *end)
{
	__u32 bucket = (place.bucket + n) & (VIP_BUCKETS - 1), record;
	const volatile __u64 *word = bpf_map_lookup_elem(&vip_index, &bucket);
	__u64 found = word ? *word : 0;
	struct vip *vip;

	*end = !found;
	if (found >> 32 != place.check)
		return NULL;
	record = found;
	vip = bpf_map_lookup_elem(&vips, &record);
	return vip && vip_is(vip, high, low, what) ? vip : NULL;
}

/* Behind the first bucket: the record's number, 0: none. A function of its own, which the verifier looks at once. */
__noinline __u32 vip_search(__u64 high, __u64 low, __u32 what)
{
	struct vip_place place = vip_place_of(high, low, (__u16)what, (__u8)(what >> 16));
	int end = 0;

	for (__u32 n = 0; n < VIP_PROBES && !end; n++)
		if (vip_probe(high, low, what, place, n, &end)) {
			__u32 bucket = (place.bucket + n) & (VIP_BUCKETS - 1);
			const volatile __u64 *word = bpf_map_lookup_elem(&vip_index, &bucket);

			return word ? *word : 0;
		}
	return 0;
}

static __always_inline struct vip *vip_find(struct packet *p)
{
	__u64 high = p->is_v6 ? p->vip.half[0] : 0, low = p->is_v6 ? p->vip.half[1] : p->vip.addr.w[3];
	__u32 what = VIP_WHAT(p->vip_port, p->protocol, p->is_v6), record = 0;
	int end;
	struct vip *vip = vip_probe(high, low, what, vip_place_of(high, low, p->vip_port, p->protocol), 0, &end);

	p->is_any_port = !p->vip_port;
	if (vip)
		return vip;
	if (!end)
		record = vip_search(high, low, what);
	if (!record && !p->is_any_port) {
		p->is_any_port = 1;
		record = vip_search(high, low, VIP_WHAT(0, p->protocol, p->is_v6));
	}
	return record ? bpf_map_lookup_elem(&vips, &record) : NULL;
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
