/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * table.h - who serves a slot, and who after it: owner by Maglev, heirs by weighted rendezvous.
 *
 * Pure, integers only: the same members in any order give bit-identical tables on any machine (P1).
 * Sources: Eisenbud et al., "Maglev", NSDI 2016, 3.4; Thaler and Ravishankar, "Using name-based mappings to increase
 * hit rates", 1998 (rendezvous); Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005 (its weights).
 * The constructions, and where they leave their sources: maglev.c, succession.c. P1 .. P6: tests/unit/table_test.c.
 */
#ifndef SHUNT_CORE_TABLE_H
#define SHUNT_CORE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shunt/abi.h"

#define TABLE_NAME_MAX 64 /* bytes of a member's name, with the terminating zero */

struct table_member {
	uint16_t id; /* backend id, 1 .. SHUNT_MAX_BACKENDS - 1; what the table holds */
	bool alive; /* may be an heir; an owner stays the owner while it is dead */
	uint32_t weight; /* 1 .. 65535 */
	const char *name; /* identity that is hashed; 1 .. TABLE_NAME_MAX - 1 bytes */
	const char *domain; /* failure domain; "": a domain of its own */
};

struct table; /* the members' hashed identities, the owners, the heirs */

/*
 * Build the table of n_slots (prime, up to SHUNT_MAX_SLOTS) for n members (0 .. SHUNT_MAX_BACKENDS - 1) under a seed.
 * The members' strings are not kept. 0 and *out owned by the caller (table_free); -EINVAL (slots not prime, name empty
 * or too long, weight or id out of range, duplicate name or id) or -ENOMEM, and *out is NULL.
 */
int table_build(struct table **out, const struct table_member *members, size_t n, uint32_t n_slots, uint64_t seed);

/*
 * Say that one member died or came back, and follow it: only heirs change, only where they must. Equal to building
 * anew with that `alive` (P4, P5). Returns the number of slots whose heir changed, -ENOENT (no member has this id), or
 * -ENOMEM, and then nothing has changed.
 */
int table_set_alive(struct table *table, uint16_t id, bool alive);

/* The slots, n_slots of them: {owner, heir}, valid until the next call on this table. 0: nobody. */
const struct slot *table_slots(const struct table *table, uint32_t *n_slots);

/*
 * The order of succession of a slot (0 .. n_slots - 1), owner first, then members of other failure domains than the
 * owner's, then those of its own: writes up to `max` ids, returns how many. Dead members included; the heir is the
 * first living one after the owner.
 */
size_t table_succession(const struct table *table, uint32_t slot, uint16_t *ids, size_t max);

void table_free(struct table *table); /* NULL is allowed */

#endif
