/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * succession.h - who serves a slot when its owner can't: the order of succession, and the heirs that follow from it
 * and from who is alive. See succession.c for the construction.
 *
 * Members are known by their index, 0 .. n - 1, in the order they were given in; callers sort them.
 */
#ifndef SHUNT_CORE_SUCCESSION_H
#define SHUNT_CORE_SUCCESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SUCCESSION_NONE UINT16_MAX /* no member */

struct succession_member {
	uint64_t identity; /* hash of its name under the seed */
	uint32_t weight; /* 1 .. 65535 */
	uint16_t domain; /* failure domain, 0 .. n - 1 */
	bool alive;
};

struct succession;

/*
 * For n members (1 .. SHUNT_MAX_BACKENDS - 1), n_slots slots (prime, up to SHUNT_MAX_SLOTS), and a secret that all
 * of them share. Copies the members. 0 and *out owned by the caller, or -ENOMEM.
 */
int succession_new(struct succession **out, const struct succession_member *members, size_t n, uint32_t n_slots,
		   uint64_t secret);
void succession_free(struct succession *s);

bool succession_is_alive(const struct succession *s, uint16_t member);

/*
 * Note that a member died or returned. No heir changes by this; see succession_fill() and succession_return().
 */
void succession_set_alive(struct succession *s, uint16_t member, bool alive);

/* The member after `previous` (SUCCESSION_NONE: the first) in the slot's order, owner left out, dead ones included. */
uint16_t succession_next(const struct succession *s, uint32_t slot, uint16_t owner, uint16_t previous);

/*
 * Give an heir to every slot whose heir is SUCCESSION_NONE and leave the others alone. owners[] and heirs[] have
 * n_slots entries. A slot for which nobody lives keeps SUCCESSION_NONE. 0 or -ENOMEM, and then heirs[] is as it was.
 */
int succession_fill(const struct succession *s, const uint16_t *owners, uint16_t *heirs);

/* A member has returned: make it the heir of the slots where it comes before the one there is. */
void succession_return(const struct succession *s, uint16_t member, const uint16_t *owners, uint16_t *heirs);

#endif
