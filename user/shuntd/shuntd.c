/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntd.c - what runs: found by id and by name, added, removed. Book-keeping only: when, and what follows from it, is
 * decided in backends.c and reload.c.
 */
#include "shuntd/shuntd.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mix.h"

struct backend_run *backend_by_id(const struct shuntd *s, uint32_t id)
{
	return id < SHUNT_MAX_BACKENDS ? s->backend_ids[id] : NULL;
}

struct pool_run *pool_by_id(const struct shuntd *s, uint32_t id)
{
	return id < SHUNT_MAX_POOLS ? s->pool_ids[id] : NULL;
}

struct vip_run *vip_by_id(const struct shuntd *s, uint32_t id)
{
	return id < SHUNT_MAX_VIPS ? s->vip_ids[id] : NULL;
}

struct backend_run *backend_find(const struct shuntd *s, const char *name)
{
	struct backend_run *removed = NULL;

	for (size_t i = 0; i < s->n_backends; i++) {
		struct backend_run *b = s->backends[i];

		if (strcmp(b->conf.name, name))
			continue;
		if (b->draining != VERDICT_REMOVED && !b->pool->removed)
			return b;
		removed = b;
	}
	return removed;
}

bool backend_is_replaced(const struct shuntd *s, const struct backend_run *b)
{
	const struct backend_run *found = NULL;

	if (b->draining == VERDICT_REMOVED || b->pool->removed)
		found = backend_find(s, b->conf.name);
	return found && found != b;
}

struct pool_run *pool_find(const struct shuntd *s, const char *name)
{
	struct pool_run *removed = NULL;

	for (size_t i = 0; i < s->n_pools; i++) {
		struct pool_run *p = s->pools[i];

		if (strcmp(p->name, name))
			continue;
		if (!p->removed)
			return p;
		removed = p;
	}
	return removed;
}

struct vip_run *vip_find(const struct shuntd *s, const char *name)
{
	for (size_t i = 0; i < s->n_vips; i++)
		if (!strcmp(s->vips[i]->conf.name, name))
			return s->vips[i];
	return NULL;
}

json_t *commanded(const struct shuntd *s, json_t *evidence)
{
	if (s->commander)
		json_object_set_new(evidence, "uid", json_integer((json_int_t)*s->commander));
	return evidence;
}

void backend_tell(const struct shuntd *s, const struct backend_run *b, uint64_t at_ns, const char *what,
		  const char *why, json_t *evidence)
{
	bool is_replaced = backend_is_replaced(s, b);

	if (is_replaced && !evidence)
		evidence = json_object();
	if (is_replaced)
		json_object_set_new(evidence, "replaced", json_true());
	ledger_add(s->ledger, at_ns, "backend", b->conf.name, what, why, evidence);
}

bool event_is_of_replaced(const json_t *event)
{
	return json_object_get(json_object_get(event, "evidence"), "replaced");
}

/* ---- adding and removing ---- */

/* The name of a run of any kind: each kind's begins `name_offset` bytes into it. */
static const char *run_name(const void *run, size_t name_offset)
{
	return (const char *)run + name_offset;
}

/* Room for one more pointer; false: no memory. */
static bool list_grow(void *list, size_t n)
{
	void *grown = realloc(*(void **)list, (n + 1) * sizeof(void *));

	if (grown)
		*(void **)list = grown;
	return grown;
}

/* Into a list sorted by name that has room, behind those of the same name. */
static void list_insert(void **list, size_t *n, void *run, size_t name_offset)
{
	size_t at = *n;

	while (at && strcmp(run_name(list[at - 1], name_offset), run_name(run, name_offset)) > 0) {
		list[at] = list[at - 1];
		at--;
	}
	list[at] = run;
	++*n;
}

static void list_remove(void **list, size_t *n, const void *run)
{
	size_t at = 0;

	while (list[at] != run)
		at++;
	memmove(list + at, list + at + 1, (--*n - at) * sizeof(*list));
}

/* NAME@HASH, with as much of the name as there is room for. All of it is hashed. */
static void identity_write(char out[CONFIG_NAME_MAX], const struct config_backend *conf)
{
	uint64_t hash = 0;

	for (const char *c = conf->name; *c; c++)
		hash = mix_at(hash, (uint8_t)*c);
	for (int i = 0; i < 4; i++)
		hash = mix_at(hash, ntohl(conf->address.w[i]));
	snprintf(out, CONFIG_NAME_MAX, "%.46s@%016llx", conf->name, (unsigned long long)hash);
}

struct backend_run *backend_run_put(struct shuntd *s, uint16_t id, const struct config_backend *conf,
				    struct pool_run *pool)
{
	struct backend_run *b = list_grow(&s->backends, s->n_backends) ? calloc(1, sizeof(*b)) : NULL;

	if (!b)
		return NULL;
	b->id = id;
	b->conf = *conf;
	identity_write(b->identity, conf);
	b->pool = pool;
	s->backend_ids[id] = b;
	list_insert((void **)s->backends, &s->n_backends, b, offsetof(struct backend_run, conf.name));
	return b;
}

struct backend_run *backend_run_add(struct shuntd *s, const struct config_backend *conf, struct pool_run *pool)
{
	uint16_t id = 1;

	while (id < SHUNT_MAX_BACKENDS && s->backend_ids[id])
		id++;
	return id < SHUNT_MAX_BACKENDS ? backend_run_put(s, id, conf, pool) : NULL;
}

struct pool_run *pool_run_put(struct shuntd *s, uint32_t id, const struct config_pool *conf)
{
	struct pool_run *p = list_grow(&s->pools, s->n_pools) ? calloc(1, sizeof(*p)) : NULL;

	if (!p)
		return NULL;
	p->id = p->id_before = id;
	memcpy(p->name, conf->name, sizeof(p->name));
	p->n_slots = p->n_slots_wanted = conf->n_slots;
	p->max_soft_eject = conf->max_soft_eject;
	s->pool_ids[id] = p;
	list_insert((void **)s->pools, &s->n_pools, p, offsetof(struct pool_run, name));
	return p;
}

struct pool_run *pool_run_add(struct shuntd *s, const struct config_pool *conf)
{
	uint32_t id = 0;

	while (id < SHUNT_MAX_POOLS && s->pool_ids[id])
		id++;
	return id < SHUNT_MAX_POOLS ? pool_run_put(s, id, conf) : NULL;
}

struct vip_run *vip_run_put(struct shuntd *s, uint32_t id, const struct config_vip *conf, struct pool_run *pool)
{
	struct vip_run *v = list_grow(&s->vips, s->n_vips) ? calloc(1, sizeof(*v)) : NULL;

	if (!v)
		return NULL;
	v->id = id;
	v->conf = *conf;
	v->pool = pool;
	s->vip_ids[id] = v;
	s->next_vip_id = (id + 1) % SHUNT_MAX_VIPS;
	list_insert((void **)s->vips, &s->n_vips, v, offsetof(struct vip_run, conf.name));
	return v;
}

struct vip_run *vip_run_add(struct shuntd *s, const struct config_vip *conf, struct pool_run *pool)
{
	uint32_t id = s->next_vip_id, tried = 0;

	for (; tried < SHUNT_MAX_VIPS && s->vip_ids[id]; tried++)
		id = (id + 1) % SHUNT_MAX_VIPS;
	return tried < SHUNT_MAX_VIPS ? vip_run_put(s, id, conf, pool) : NULL;
}

void backend_run_hide(struct shuntd *s, struct backend_run *b)
{
	list_remove((void **)s->backends, &s->n_backends, b);
	b->gone = true;
}

void backend_run_remove(struct shuntd *s, struct backend_run *b)
{
	if (!b->gone)
		backend_run_hide(s, b);
	s->backend_ids[b->id] = NULL;
	json_decref(b->evidence);
	free(b);
}

void pool_run_remove(struct shuntd *s, struct pool_run *p)
{
	s->pool_ids[p->id] = s->pool_ids[p->id_before] = NULL;
	list_remove((void **)s->pools, &s->n_pools, p);
	table_free(p->table);
	free(p);
}

void vip_run_rename(struct shuntd *s, struct vip_run *v, const char *name)
{
	list_remove((void **)s->vips, &s->n_vips, v);
	memcpy(v->conf.name, name, sizeof(v->conf.name));
	list_insert((void **)s->vips, &s->n_vips, v, offsetof(struct vip_run, conf.name));
}

void vip_run_remove(struct shuntd *s, struct vip_run *v)
{
	s->vip_ids[v->id] = NULL;
	list_remove((void **)s->vips, &s->n_vips, v);
	free(v);
}

void runs_free(struct shuntd *s)
{
	while (s->n_vips)
		vip_run_remove(s, s->vips[s->n_vips - 1]);
	for (size_t id = 0; id < SHUNT_MAX_BACKENDS; id++)
		if (s->backend_ids[id])
			backend_run_remove(s, s->backend_ids[id]);
	while (s->n_pools)
		pool_run_remove(s, s->pools[s->n_pools - 1]);
	free(s->vips);
	free(s->backends);
	free(s->pools);
	s->vips = NULL;
	s->backends = NULL;
	s->pools = NULL;
}
