/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pools.c - see pools.h. Writes the maps `tables`, `tables_before`, `vips` and `police`; who lives is for backends.c to
 * say, what the configuration wants for reload.c, and the flows' new owners are written by journal.c.
 */
#include "shuntd/pools.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "common/clock.h"
#include "core/flow.h"
#include "shuntd/journal.h"
#include "shuntd/names.h"

/* ---- tables ---- */

/* A table of the pool's backends that are configured, with `n_slots`; the heirs are those who are up. */
static int table_of(struct shuntd *s, const struct pool_run *pool, uint32_t n_slots, struct table **out)
{
	struct table_member *members = calloc(s->n_backends + 1, sizeof(*members));
	size_t n = 0;
	int err;

	if (!members)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];

		if (b->pool == pool && b->draining != VERDICT_REMOVED)
			members[n++] = (struct table_member){ .id = b->id,
							      .alive = BACKEND_WORD_STATE(b->last_word) == BACKEND_UP,
							      .weight = b->conf.weight,
							      .name = b->conf.name,
							      .domain = b->conf.domain };
	}
	err = table_build(out, members, n, n_slots, s->config->seed);
	free(members);
	return err;
}

int pool_load(struct shuntd *s, struct pool_run *pool)
{
	const struct slot *slots;
	uint32_t n_slots;
	int err = table_of(s, pool, pool->n_slots, &pool->table);

	if (err)
		return err;
	slots = table_slots(pool->table, &n_slots);
	return dataplane_set_table(s->dataplane, pool->id, slots, n_slots);
}

void pool_follow(const struct backend_run *b, bool alive)
{
	struct pool_run *pool = b->pool;
	uint64_t start = monotonic_ns();
	int changed = table_set_alive(pool->table, b->id, alive); /* -ENOENT: it was removed */

	if (changed > 0)
		pool->heirs_changed += (uint32_t)changed;
	pool->build_ns += monotonic_ns() - start;
}

void pools_swap(struct shuntd *s)
{
	if (s->journal && journal_telling(s->journal))
		return;
	for (size_t p = 0; p < s->n_pools; p++) {
		struct pool_run *pool = s->pools[p];
		const struct slot *slots;
		uint32_t n_slots;
		uint64_t at;
		int err;

		if (!pool->heirs_changed)
			continue;
		slots = table_slots(pool->table, &n_slots);
		at = monotonic_ns();
		err = dataplane_set_table(s->dataplane, pool->id, slots, n_slots);
		if (err) {
			ledger_add(s->ledger, at, "pool", pool->name, "table kept", strerror(-err), NULL);
			continue; /* tried again after the next change; the old table is still a right one */
		}
		pool->rebuilt_ns = at;
		ledger_add(s->ledger, at, "pool", pool->name, "table rebuilt", "the living changed",
			   json_pack("{s:I, s:I}", "heirs_changed", (json_int_t)pool->heirs_changed, "build_us",
				     (json_int_t)(pool->build_ns / 1000)));
		pool->heirs_swapped = pool->heirs_changed;
		pool->heirs_changed = 0;
		pool->build_ns = 0;
	}
}

/* ---- VIPs ---- */

static uint32_t vip_flags(const struct shuntd *s, const struct vip_run *v)
{
	uint32_t flags = VIP_JOURNAL;

	if (v->conf.protocol != IPPROTO_TCP)
		return 0;
	flags |= v->migrating ? VIP_MIGRATING : 0;
	flags |= s->confirm ? VIP_CONFIRM : 0;
	flags |= v->conf.syn_limit.action != SYN_LIMIT_OFF ? VIP_POLICED : 0;
	flags |= v->conf.hash != HASH_5TUPLE ? VIP_MASKED : 0;
	return flags;
}

static int police_load(struct shuntd *s, const struct vip_run *v)
{
	const struct config_syn_limit *limit = &v->conf.syn_limit;
	struct police police = { .drop = limit->action == SYN_LIMIT_DROP };
	unsigned bits = limit->prefix + (address_is_v4(&v->conf.address) ? 96U : 0);

	if (limit->action == SYN_LIMIT_OFF)
		return 0;
	police.period_ns = 1000000000ULL / limit->rate;
	police.burst_ns = police.period_ns * (limit->burst - 1);
	for (unsigned i = 0; i < 4; i++)
		if (bits > 32 * i)
			police.mask[i] = htonl(bits >= 32 * i + 32 ? UINT32_MAX : ~(UINT32_MAX >> (bits - 32 * i)));
	return dataplane_set_police(s->dataplane, v->id, &police);
}

int vip_load(struct shuntd *s, const struct vip_run *v)
{
	struct vip vip = {
		.id = v->id,
		.key = { .address = v->conf.address, .port = htons(v->conf.port), .protocol = v->conf.protocol },
		.table = v->pool->id,
		.n_slots = v->pool->n_slots,
		.flags = vip_flags(s, v),
		.on_failure = v->conf.on_failure,
		.n_slots_before = v->migrating ? v->n_slots_before : 0
	};
	int err = police_load(s, v);

	if (err)
		return err;
	vip_hash_mask((uint64_t *)vip.hash_mask, &v->conf);
	names_vip_begin(s, v);
	err = dataplane_set_vip(s->dataplane, &vip);
	names_vip(s, v);
	return err;
}

int vips_flags_apply(struct shuntd *s)
{
	int err = 0;

	for (size_t i = 0; i < s->n_vips; i++) {
		int failed = vip_load(s, s->vips[i]);

		err = err ? err : failed;
	}
	return err;
}

/* ---- moves ---- */

bool pools_moving(const struct shuntd *s)
{
	for (size_t p = 0; p < s->n_pools; p++)
		if (s->pools[p]->moving)
			return true;
	return false;
}

/* All recorded flows of the pool know their new owner: what is unrecorded now follows the new table too. */
static void move_done(void *arg, uint32_t id)
{
	struct shuntd *s = arg;
	struct pool_run *pool = pool_by_id(s, id);
	uint64_t now = monotonic_ns();

	for (size_t i = 0; i < s->n_vips; i++) {
		if (s->vips[i]->pool != pool || !s->vips[i]->migrating)
			continue;
		s->vips[i]->migrating = false;
		vip_load(s, s->vips[i]);
	}
	if (pool->id_before != pool->id) {
		dataplane_clear_table(s->dataplane, pool->id_before);
		names_pool_forget(s, pool->id_before);
		s->pool_ids[pool->id_before] = NULL;
		pool->id_before = pool->id;
		names_pool(s, pool);
	}
	pool->moving = false;
	ledger_add(s->ledger, now, "pool", pool->name, "flows moved", NULL,
		   json_pack("{s:I}", "took_us", (json_int_t)((now - pool->moved_ns) / 1000)));
}

static void move_begin(struct shuntd *s, struct pool_run *pool)
{
	pool->moving = true;
	pool->moved_ns = monotonic_ns();
	journal_move(s->journal, pool->id, move_done, s);
}

/* The VIPs of a pool know that its slots move, from a table of n_slots_before. */
static int vips_migrate(struct shuntd *s, const struct pool_run *pool, uint32_t n_slots_before)
{
	int err = 0;

	for (size_t i = 0; !err && i < s->n_vips; i++) {
		struct vip_run *v = s->vips[i];

		if (v->pool != pool)
			continue;
		v->migrating = true;
		v->n_slots_before = n_slots_before;
		err = vip_load(s, v);
	}
	return err;
}

/* Slots whose owner is another one; all where the tables differ in length. */
static uint32_t slots_moved(const struct slot *before, uint32_t n_before, const struct slot *after, uint32_t n_after)
{
	uint32_t n = 0;

	if (n_before != n_after)
		return n_after;
	for (uint32_t i = 0; i < n_after; i++)
		n += before[i].owner != after[i].owner;
	return n;
}

/*
 * Another number of slots: table and number must change in one step for a packet, so the new table gets a place of its
 * own, and the VIPs' records lead there. The old place is free again when the flows have moved.
 */
static int pool_move_place(struct shuntd *s, struct pool_run *pool)
{
	uint32_t id = 0;

	while (id < SHUNT_MAX_POOLS && s->pool_ids[id])
		id++;
	if (id == SHUNT_MAX_POOLS)
		return -ENOSPC;
	s->pool_ids[id] = pool;
	pool->id = id;
	return 0;
}

/* No packet that read a VIP's record before goes on after this: swapping a table for itself waits for them. */
static void tables_settle(struct shuntd *s, const struct pool_run *pool)
{
	uint32_t n_slots;
	const struct slot *slots = table_slots(pool->table, &n_slots);

	dataplane_set_table(s->dataplane, pool->id, slots, n_slots);
}

int pool_rebuild(struct shuntd *s, struct pool_run *pool, uint32_t n_slots)
{
	uint32_t id, n_before, n_after, n_moved, n_slots_before = pool->n_slots;
	struct table *table, *table_before = pool->table;
	const struct slot *before = table_slots(table_before, &n_before), *after;
	uint64_t start = monotonic_ns();
	int err = table_of(s, pool, n_slots, &table);

	if (err)
		return err;
	after = table_slots(table, &n_after);
	n_moved = slots_moved(before, n_before, after, n_after);
	if (n_slots != n_slots_before)
		err = pool_move_place(s, pool);
	if (!err && n_moved)
		err = dataplane_set_table_before(s->dataplane, pool->id, before, n_before);
	if (!err && pool->id != pool->id_before)
		err = dataplane_set_table(s->dataplane, pool->id, after, n_after);
	pool->n_slots = n_slots;
	if (!err && pool->id != pool->id_before)
		names_pool(s, pool);
	if (!err && n_moved)
		err = vips_migrate(s, pool, n_before);
	if (!err && n_moved && pool->id == pool->id_before)
		tables_settle(s, pool); /* none that doesn't know that flows move sees the table in which they have */
	if (!err && pool->id == pool->id_before)
		err = dataplane_set_table(s->dataplane, pool->id, after, n_after);
	if (err)
		goto out;
	pool->table = table;
	pool->heirs_swapped = pool->heirs_changed = 0;
	pool->build_ns = 0;
	pool->rebuilt_ns = monotonic_ns();
	ledger_add(s->ledger, 0, "pool", pool->name, "table rebuilt", "the configuration changed",
		   json_pack("{s:I, s:I, s:I}", "slots", (json_int_t)n_after, "moved", (json_int_t)n_moved, "build_us",
			     (json_int_t)((pool->rebuilt_ns - start) / 1000)));
	table_free(table_before);
	if (pool->id != pool->id_before)
		tables_settle(s, pool);
	if (n_moved)
		move_begin(s, pool);
	return 0;
out:
	/* Whatever was published meanwhile says the same as the table that is in force. */
	table_free(table);
	pool->n_slots = n_slots_before;
	for (size_t i = 0; i < s->n_vips; i++)
		if (s->vips[i]->pool == pool)
			s->vips[i]->migrating = false;
	id = pool->id;
	pool->id = pool->id_before;
	vips_flags_apply(s);
	if (id != pool->id) {
		names_pool(s, pool);
		names_pool_forget(s, id);
		dataplane_clear_table(s->dataplane, id);
		s->pool_ids[id] = NULL;
	}
	return err;
}

int pool_table(struct shuntd *s, struct pool_run *pool)
{
	return table_of(s, pool, pool->n_slots, &pool->table);
}

/* The VIPs that follow a table from before: how many, and how many slots that has. */
static size_t vips_migrating(const struct shuntd *s, const struct pool_run *pool, uint32_t *n_slots_before)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_vips; i++) {
		if (s->vips[i]->pool != pool || !s->vips[i]->migrating)
			continue;
		*n_slots_before = s->vips[i]->n_slots_before;
		n++;
	}
	return n;
}

/* What can't be read is taken for a table in which nobody owned anything: then every flow is looked up. */
static struct slot *slots_or_nobody(struct slot *slots, uint32_t *n, uint32_t n_slots)
{
	if (slots)
		return slots;
	*n = n_slots;
	return calloc(n_slots + 1, sizeof(*slots));
}

int pool_adopt(struct shuntd *s, struct pool_run *pool)
{
	uint32_t n_after, n_now = pool->n_slots, n_before = pool->n_slots;
	const struct slot *after = table_slots(pool->table, &n_after);
	size_t n_migrating = vips_migrating(s, pool, &n_before);
	struct slot *now = NULL, *before = NULL;
	bool is_there = !dataplane_get_table(s->dataplane, pool->id, &now, &n_now);
	int err = 0;

	now = slots_or_nobody(now, &n_now, n_after);
	if (n_migrating && dataplane_get_table_before(s->dataplane, pool->id, &before, &n_before))
		before = slots_or_nobody(before, &n_before, n_after);
	if (!now || (n_migrating && !before)) {
		err = -ENOMEM;
		goto out;
	}
	if (!slots_moved(now, n_now, after, n_after)) {
		pool->heirs_changed = memcmp(now, after, n_after * sizeof(*now)) ? 1 : 0;
	} else {
		/* shuntd ended after it had written who is in the pool, and before its table said so. */
		err = dataplane_set_table_before(s->dataplane, pool->id, before ? before : now,
						 before ? n_before : n_now);
		err = err ? err : vips_migrate(s, pool, before ? n_before : n_now);
		if (!err && is_there)
			err = dataplane_set_table(s->dataplane, pool->id, now, n_now); /* as in pool_rebuild() */
		err = err ? err : dataplane_set_table(s->dataplane, pool->id, after, n_after);
		n_migrating = 1;
	}
	for (size_t i = 0; !err && i < s->n_vips; i++)
		if (s->vips[i]->pool == pool)
			err = vip_load(s, s->vips[i]);
	if (!err && n_migrating) {
		tables_settle(s, pool);
		move_begin(s, pool);
	}
out:
	free(now);
	free(before);
	return err;
}

int vip_switch(struct shuntd *s, struct vip_run *v, const struct config_vip *conf, struct pool_run *pool)
{
	uint32_t n_before = pool->n_slots;
	struct slot *nobody = NULL;
	const struct slot *before;
	int err;

	if (v->pool != pool && v->conf.hash == conf->hash && v->conf.hash_prefix == conf->hash_prefix) {
		before = table_slots(v->pool->table, &n_before);
	} else {
		/* Hashed otherwise, a packet can't tell its slot before. Nobody owned it then: so every flow is looked up. */
		before = nobody = calloc(n_before, sizeof(*nobody));
		if (!nobody)
			return -ENOMEM;
	}
	err = dataplane_set_table_before(s->dataplane, pool->id, before, n_before);
	free(nobody);
	if (err)
		return err;
	v->conf = *conf;
	v->pool = pool;
	v->migrating = true;
	v->n_slots_before = n_before;
	err = vip_load(s, v);
	tables_settle(s, pool);
	move_begin(s, pool);
	return err;
}
