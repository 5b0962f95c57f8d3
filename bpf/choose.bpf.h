/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * choose.bpf.h - which backend: the slot's owner if it is up, else its heir, else the same of a few other slots.
 * Reads tables that shuntd wrote; what it computes from a flow, user space computes with the same headers.
 */
#ifndef SHUNT_CHOOSE_BPF_H
#define SHUNT_CHOOSE_BPF_H

#include "maps.bpf.h"
#include "packet.bpf.h"
#include "shunt/hash.h"

static __always_inline __u32 packet_hash(const struct packet *p, const struct vip *vip)
{
	struct siphash_key key = { .k0 = flow_key.k0, .k1 = flow_key.k1 };
	struct flow_words flow = { .w = { [4] = flow_word_l4(p->client_port, p->vip_port, p->protocol) } };

	if (p->is_v6) {
		flow.w[0] = p->client.half[0];
		flow.w[1] = p->client.half[1];
		flow.w[2] = p->vip.half[0];
		flow.w[3] = p->vip.half[1];
	} else {
		flow.w[0] = flow_word_v4(p->client.addr.w[3], p->vip.addr.w[3]);
	}
	return flow_hash(&key, &flow, vip->hash_mask, p->is_v6);
}

/* The state word is one aligned load: whoever flips it, this packet sees the old state or the new one. */
static __always_inline int backend_is_up(const struct backend *b)
{
	return BACKEND_WORD_STATE(*(const volatile __u32 *)&b->word) == BACKEND_UP;
}

/* Who serves a slot: its owner if it is up, or its heir if that is. */
struct served {
	struct backend *backend; /* NULL: nobody */
	__u32 id;
	int is_missing; /* the table or a record: a fault of shunt */
};

static __always_inline struct served slot_serve(void *table, __u32 slot)
{
	__u32 pair_index = slot / 2;
	struct slot_pair *pair = bpf_map_lookup_elem(table, &pair_index);
	struct served s = { 0 };

	if (!pair)
		return (struct served){ .is_missing = 1 };
	s.id = pair->slot[slot & 1].owner;
	s.backend = bpf_map_lookup_elem(&backends, &s.id);
	if (s.backend && !backend_is_up(s.backend)) {
		s.id = pair->slot[slot & 1].heir;
		s.backend = bpf_map_lookup_elem(&backends, &s.id);
	}
	s.is_missing = !s.backend;
	if (s.backend && !backend_is_up(s.backend))
		s.backend = NULL;
	return s;
}

/*
 * Owner and heir of `slot` are down: the id of the first of SHUNT_SLOT_TRIES other slots' that is up; 0: none; negative:
 * something is missing. A function of its own, which the verifier looks at once.
 */
__noinline int slot_serve_elsewhere(__u32 pool, __u32 slot, __u32 hash, __u32 n_slots)
{
	void *table = bpf_map_lookup_elem(&tables, &pool);

	if (!table)
		return -1;
	for (int i = 0; i < SHUNT_SLOT_TRIES; i++) {
		struct served s;

		slot = slot_after(slot, hash, n_slots);
		s = slot_serve(table, slot);
		if (s.is_missing)
			return -1;
		if (s.backend)
			return s.id;
	}
	return 0;
}

/* Sets the backend and its id. */
static __always_inline enum reason choose(struct packet *p, const struct vip *vip, struct served *chosen)
{
	__u32 n_slots = vip->n_slots, slot;
	void *table;
	int id;

	if (!n_slots)
		return REASON_NO_BACKEND;
	table = bpf_map_lookup_elem(&tables, &vip->table);
	if (!table)
		return REASON_TABLE_MISSING;
	p->hash = packet_hash(p, vip);
	slot = hash_slot(p->hash, n_slots);
	*chosen = slot_serve(table, slot);
	if (chosen->backend)
		return GO_ON;
	if (chosen->is_missing)
		return REASON_TABLE_MISSING;
	id = slot_serve_elsewhere(vip->table, slot, p->hash, n_slots);
	if (!id)
		return REASON_NO_BACKEND;
	chosen->id = id;
	chosen->backend = bpf_map_lookup_elem(&backends, &id);
	return chosen->backend ? GO_ON : REASON_TABLE_MISSING;
}

#endif
