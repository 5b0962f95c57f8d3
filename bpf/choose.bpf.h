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
	struct flow_words flow = { .w = { [4] = flow_word_l4(p->client_port, p->to.port, p->to.protocol) } };

	if (p->is_v6) {
		__builtin_memcpy(&flow.w[0], &p->client, sizeof(p->client));
		__builtin_memcpy(&flow.w[2], &p->to.address, sizeof(p->to.address));
	} else {
		flow.w[0] = flow_word_v4(p->client.w[3], p->to.address.w[3]);
	}
	return flow_hash(&key, &flow, vip->hash_mask, p->is_v6);
}

/* The state word is one aligned load: whoever flips it, this packet sees the old state or the new one. */
static __always_inline int backend_is_up(const struct backend *b)
{
	return BACKEND_WORD_STATE(*(const volatile __u32 *)&b->word) == BACKEND_UP;
}

/* Who serves a slot: its owner's or its heir's id; 0: neither is up. Negative: the table or a record is missing. */
static __always_inline int slot_serve(void *table, __u32 slot)
{
	__u32 pair_index = slot / 2, id;
	struct slot_pair *pair = bpf_map_lookup_elem(table, &pair_index);
	struct backend *b;

	if (!pair)
		return -1;
	id = pair->slot[slot & 1].owner;
	b = bpf_map_lookup_elem(&backends, &id);
	if (b && backend_is_up(b))
		return id;
	if (!b)
		return -1;
	id = pair->slot[slot & 1].heir;
	b = bpf_map_lookup_elem(&backends, &id);
	if (!b)
		return -1;
	return backend_is_up(b) ? id : 0;
}

/* Owner and heir of `slot` are down: the first of SHUNT_SLOT_TRIES other slots that is served. Returns as slot_serve(). */
__noinline int slot_serve_elsewhere(__u32 pool, __u32 slot, __u32 hash, __u32 n_slots)
{
	void *table = bpf_map_lookup_elem(&tables, &pool);
	int id = 0;

	if (!table)
		return -1;
	for (int i = 0; i < SHUNT_SLOT_TRIES && !id; i++) {
		slot = slot_after(slot, hash, n_slots);
		id = slot_serve(table, slot);
	}
	return id;
}

static __always_inline enum reason choose(struct packet *p, const struct vip *vip, struct backend **chosen)
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
	id = slot_serve(table, slot);
	if (!id)
		id = slot_serve_elsewhere(vip->table, slot, p->hash, n_slots);
	if (!id)
		return REASON_NO_BACKEND;
	p->backend = id;
	*chosen = bpf_map_lookup_elem(&backends, &p->backend);
	return *chosen ? GO_ON : REASON_TABLE_MISSING;
}

#endif
