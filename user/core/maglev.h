/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * maglev.h - who owns a slot. See maglev.c for the construction and where it leaves the paper.
 */
#ifndef SHUNT_CORE_MAGLEV_H
#define SHUNT_CORE_MAGLEV_H

#include <stddef.h>
#include <stdint.h>

struct maglev_member {
	uint64_t identity; /* hash of its name under the seed */
	uint32_t weight; /* 1 .. 65535 */
};

/*
 * Write the owner of each of n_slots (1 .. SHUNT_MAX_SLOTS) slots: an index into members[n], n = 1 .. SHUNT_MAX_BACKENDS - 1.
 * The result is a function of the members in their order; callers sort them. 0 or -ENOMEM.
 */
int maglev_fill(uint16_t *owners, uint32_t n_slots, const struct maglev_member *members, size_t n);

#endif
