/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * slot.bpf.h - from a packet to its slot, and who serves a slot. Reads tables that shuntd wrote; what is computed here
 * from a flow, user space computes with the same headers. Which flow stays where is flow.bpf.h's.
 */
#ifndef SHUNT_SLOT_BPF_H
#define SHUNT_SLOT_BPF_H

#include "maps.bpf.h"
#include "packet.bpf.h"
#include "shunt/detect.h"
#include "shunt/hash.h"

/*
 * The flow's hash under a mask. The walk takes it whole before the VIP is known, so that it waits for no look-up, and
 * again only for a VIP that leaves something out.
 */
static const __u64 hash_whole[SHUNT_FLOW_WORDS] = { ~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL };

static __always_inline __u32 packet_hash(const struct packet *p, const __u64 *mask)
{
	struct flow_words flow = { .w = { [4] = flow_word_l4(p->client_port, p->vip_port, p->protocol) } };

	if (p->is_v6) {
		flow.w[0] = p->client.half[0];
		flow.w[1] = p->client.half[1];
		flow.w[2] = p->vip.half[0];
		flow.w[3] = p->vip.half[1];
	} else {
		flow.w[0] = flow_word_v4(p->client.addr.w[3], p->vip.addr.w[3]);
	}
	return flow_hash(&flow_keys, &flow, mask, p->is_v6);
}

/* The state word is one aligned load: whoever flips it, this packet sees the old state or the new one. */
static __always_inline __u32 backend_state(const struct backend *b)
{
	return BACKEND_WORD_STATE(*(const volatile __u32 *)&b->word);
}

static __always_inline int backend_is_up(const struct backend *b)
{
	return backend_state(b) == BACKEND_UP;
}

/* The state of a backend by its id; BACKEND_UNUSED: there is none. */
static __always_inline __u32 backend_state_of(__u32 id)
{
	struct backend *b = bpf_map_lookup_elem(&backends, &id);

	return b ? backend_state(b) : BACKEND_UNUSED;
}

/*
 * Does it keep the flows that it has? Who was found silent does for a while, in case its answers are only late: new flows go to
 * others already, but to end one is final.
 */
static __always_inline int backend_keeps_flows(__u32 id)
{
	struct backend *b = bpf_map_lookup_elem(&backends, &id);
	struct backend_flows *flows_of;
	__u32 word;

	if (!b)
		return 0;
	word = *(const volatile __u32 *)&b->word;
	if (word_is_judged(word))
		return 1;
	flows_of = bpf_map_lookup_elem(&backend_flows, &id);
	return flows_of && word_is_doubted(word, *(volatile __u64 *)&flows_of->doubted_until_ns, bpf_ktime_get_ns());
}

/* Owner and heir of a slot of a table; NULL: the table is shorter. */
static __always_inline const struct slot *slot_look_up(void *table, __u32 slot)
{
	__u32 pair_index = slot / 2;
	struct slot_pair *pair = bpf_map_lookup_elem(table, &pair_index);

	return pair ? &pair->slot[slot & 1] : NULL;
}

/* A packet of a dead backend's slot goes to another. Only the first one's time is kept, so the line stays clean after it. */
static __always_inline void moved_note(__u32 owner)
{
	struct backend_flows *flows_of = bpf_map_lookup_elem(&backend_flows, &owner);

	if (flows_of && !*(volatile __u64 *)&flows_of->moved_ns)
		__sync_val_compare_and_swap(&flows_of->moved_ns, 0, bpf_ktime_get_ns());
}

/*
 * Who takes a new flow of `slot`: its owner, its heir, or the same of SHUNT_SLOT_TRIES other slots, whoever is up first: an
 * id; 0: nobody; negative: something is missing. A function of its own, which the verifier looks at once.
 */
__noinline int slot_serve(__u32 pool, __u32 slot, __u32 hash, __u32 n_slots)
{
	void *table = bpf_map_lookup_elem(&tables, &pool);
	__u32 fallen = 0; /* the slot's owner, where that is down */

	if (!table)
		return -1;
	/* 64 bits: a counter of 32 would share its place on the stack, and the verifier would lose it. */
	for (__u64 i = 0; i <= SHUNT_SLOT_TRIES; i++) {
		const struct slot *s = slot_look_up(table, slot);
		struct backend *b;
		__u32 id;

		if (!s)
			return -1;
		id = s->owner;
		b = bpf_map_lookup_elem(&backends, &id);
		if (b && !backend_is_up(b)) {
			if (!i && backend_state(b) == BACKEND_DOWN)
				fallen = id;
			id = s->heir;
			b = bpf_map_lookup_elem(&backends, &id);
		}
		if (!b)
			return -1;
		if (backend_is_up(b)) {
			if (fallen)
				moved_note(fallen);
			return id;
		}
		slot = slot_after(slot, hash, n_slots);
	}
	return 0;
}

#endif
