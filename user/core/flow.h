/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.h - which slot a flow has and who serves it, in user space: the walk's choice, repeated without a packet.
 *
 * Decides what of a flow a VIP hashes (the mask that shuntd puts into the map `vips`). The hash itself and the stride
 * are in shunt/hash.h, the choice in the data path in bpf/choose.bpf.h; tests/unit/flow_test.c holds this one to
 * the same rules. Pure.
 */
#ifndef SHUNT_CORE_FLOW_H
#define SHUNT_CORE_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config.h"
#include "shunt/abi.h"

/* As the client's packets carry it. Both addresses are of one family. */
struct flow_tuple {
	struct shunt_addr source, destination;
	__be16 source_port, destination_port;
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP */
};

/* What `hash:` says, as the mask of shunt/hash.h: SHUNT_FLOW_WORDS words to be ANDed with the flow's. */
void vip_hash_mask(uint64_t mask[SHUNT_FLOW_WORDS], const struct config_vip *vip);

/* The flow's 32-bit hash under a seed and a VIP's mask. */
uint32_t flow_hash_under(const struct flow_tuple *flow, uint64_t seed, const uint64_t mask[SHUNT_FLOW_WORDS]);

/* Where a flow goes, and by which way it came to that. */
struct flow_way {
	uint32_t slot; /* the flow's own slot */
	struct slot at; /* its owner and heir */
	uint32_t served_slot; /* the slot whose backend was taken; the flow's own unless n_walked */
	uint32_t n_walked; /* further slots looked at, 0 .. SHUNT_SLOT_TRIES */
	uint16_t backend; /* id; 0: nobody lives there */
	bool by_heir; /* the backend is served_slot's heir, not its owner */
};

/*
 * Choose for a hash among n_slots slots: owner if up, else heir if up, else the same in up to SHUNT_SLOT_TRIES
 * further slots. `is_up` says whether a backend id (never 0) gets packets now. n_slots 0: nobody.
 */
void flow_choose(struct flow_way *way, uint32_t hash, const struct slot *slots, uint32_t n_slots,
		 bool (*is_up)(const void *arg, uint16_t id), const void *arg);

#endif
