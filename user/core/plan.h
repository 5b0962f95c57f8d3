/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * plan.h - what changes from one configuration to another, as a list of changes by name. Pure: says what is to be done,
 * not how or in what order (shuntd/reload.c).
 *
 * The order of lines, and defaults written out, are no change. A backend is the same one while its name, pool and
 * address are: with another pool or address it is another, that is removed and added. A VIP is its address, protocol and
 * port: with another name it is the same. Tests: tests/unit/plan_test.c.
 */
#ifndef SHUNT_CORE_PLAN_H
#define SHUNT_CORE_PLAN_H

#include <stddef.h>

#include "core/config.h"

enum plan_kind {
	PLAN_INTERFACE_ADDED,
	PLAN_INTERFACE_REMOVED,
	PLAN_PROBE, /* interval, multiplier, hold, hold_max, key_file, cpu or detector */
	PLAN_FLOWS, /* closed or idle */
	PLAN_POOL_ADDED, /* its backends are changes of their own */
	PLAN_POOL_REMOVED,
	PLAN_POOL_SLOTS, /* another number of slots */
	PLAN_POOL_SOFT_EJECT, /* another max_soft_eject */
	PLAN_BACKEND_ADDED,
	PLAN_BACKEND_REMOVED,
	PLAN_BACKEND_WEIGHT, /* weight or domain: the pool's table changes */
	PLAN_BACKEND_CONFIGURED, /* another configured weight, against which a command holds: nothing to do */
	PLAN_BACKEND_FORWARD, /* the way to it changes */
	PLAN_BACKEND_CHECK, /* how it is asked whether it lives; its own, or its pool's for it */
	PLAN_VIP_ADDED,
	PLAN_VIP_REMOVED,
	PLAN_VIP_RENAMED, /* the name is the new one */
	PLAN_VIP_MOVED, /* another pool, or another part of its flows is hashed: their slots change */
	PLAN_VIP_RULES, /* on_failure, syn_limit or required */
};

struct plan_change {
	enum plan_kind kind;
	const char *object; /* "interface", "pool", "backend", "vip", "config" */
	char name[CONFIG_NAME_MAX]; /* of the object; of "config": the key */
	char pool[CONFIG_NAME_MAX]; /* PLAN_BACKEND_*: of the backend */
	const char *what; /* "added", "removed", "changed" */
	char detail[160]; /* "to pool gpus", "weight 100 becomes 50" */
};

struct plan {
	struct plan_change *changes; /* owned */
	size_t n, capacity;
	const char *fixed; /* the key that can't change and does: "flows.max"; NULL: none */
};

/*
 * Fill *plan (all zero before) with what changes. 0; -EPERM: something changes that can't while shuntd runs, plan->fixed
 * and `why`, one sentence, name it; or -ENOMEM. plan_free() it in any case.
 */
int plan_make(struct plan *plan, const struct config *before, const struct config *after, char *why, size_t why_size);
void plan_free(struct plan *plan);

/* "backend gpu4 added to pool gpus", "backend gpu1: weight 100 becomes 50". Cut to fit; returns buffer. */
const char *plan_change_text(const struct plan_change *change, char *buffer, size_t size);

#endif
