/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.c - which slot a flow has and who serves it. See flow.h.
 */
#include "core/flow.h"

#include <netinet/in.h>
#include <string.h>

#include "shunt/hash.h"

/* The first `bits` of an address of `size` bytes, as a mask in network order. */
static void prefix_mask(uint8_t *out, size_t size, unsigned bits)
{
	for (size_t i = 0; i < size; i++, bits -= bits < 8 ? bits : 8)
		out[i] = bits < 8 ? (uint8_t)(0xff00 >> bits) : 0xff;
}

void vip_hash_mask(uint64_t mask[SHUNT_FLOW_WORDS], const struct config_vip *vip)
{
	if (vip->hash == HASH_5TUPLE) {
		memset(mask, 0xff, SHUNT_FLOW_WORDS * sizeof(*mask));
		return;
	}
	/* The source is what comes first in word 0: 4 bytes of IPv4, 16 of IPv6. Nothing else counts. */
	memset(mask, 0, SHUNT_FLOW_WORDS * sizeof(*mask));
	prefix_mask((uint8_t *)mask, address_is_v4(&vip->address) ? 4 : 16, vip->hash_prefix);
}

uint32_t flow_hash_under(const struct flow_tuple *flow, uint64_t seed, const uint64_t mask[SHUNT_FLOW_WORDS])
{
	struct flow_keys key = flow_keys_of(seed);
	struct flow_words words = { 0 };
	__u64 m[SHUNT_FLOW_WORDS];
	bool v6 = !address_is_v4(&flow->destination);

	for (int i = 0; i < SHUNT_FLOW_WORDS; i++)
		m[i] = mask[i];
	if (v6) {
		memcpy(&words.w[0], &flow->source, sizeof(flow->source));
		memcpy(&words.w[2], &flow->destination, sizeof(flow->destination));
	} else {
		words.w[0] = flow_word_v4(flow->source.w[3], flow->destination.w[3]);
	}
	words.w[4] = flow_word_l4(flow->source_port, flow->destination_port, flow->protocol);
	return flow_hash(&key, &words, m, v6);
}

void flow_choose(struct flow_way *way, uint32_t hash, const struct slot *slots, uint32_t n_slots,
		 bool (*is_up)(const void *arg, uint16_t id), const void *arg)
{
	uint32_t slot;

	memset(way, 0, sizeof(*way));
	if (!n_slots)
		return;
	slot = hash_slot(hash, n_slots);
	way->slot = slot;
	way->at = slots[slot];
	for (;;) {
		const struct slot *s = &slots[slot];

		way->served_slot = slot;
		if (s->owner && is_up(arg, s->owner)) {
			way->backend = s->owner;
			return;
		}
		if (s->heir && is_up(arg, s->heir)) {
			way->backend = s->heir;
			way->by_heir = true;
			return;
		}
		if (way->n_walked == SHUNT_SLOT_TRIES)
			return;
		way->n_walked++;
		slot = slot_after(slot, hash, n_slots);
	}
}
