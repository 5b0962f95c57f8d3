// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * adopt.c - see adopt.h. Order of trust, where a run was killed between two writes: what packets see (a VIP's record, a
 * table, a backend's word), then the names.
 */
#include "shuntd/adopt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shunt/detect.h"
#include "shuntd/backends.h"
#include "shuntd/journal.h"
#include "shuntd/names.h"
#include "shuntd/pools.h"

/* ---- reading ---- */

/* Whether packets for any VIP find this table. */
static bool is_led_to(struct shuntd *s, uint32_t table)
{
	const struct vip *vips[SHUNT_MAX_VIPS];
	size_t n = dataplane_vips(s->dataplane, vips);

	for (size_t i = 0; i < n; i++)
		if (vips[i]->table == table)
			return true;
	return false;
}

/* The pool of an id; of two that one has while its slots change, the one that VIPs are led to already. */
static int pool_read(struct shuntd *s, uint32_t id)
{
	const struct pool_name *names = dataplane_pool_names(s->dataplane), *name = &names[id];
	struct config_pool conf = { .n_slots = name->n_slots, .max_soft_eject = (uint8_t)name->max_soft_eject };
	uint32_t before = name->moved_from - 1;
	struct pool_run *pool;
	bool moves;

	if (!name->name[0] || s->pool_ids[id])
		return 0;
	moves = before < SHUNT_MAX_POOLS && !strncmp(names[before].name, name->name, SHUNT_NAME_MAX);
	if (moves && !is_led_to(s, id)) {
		conf.n_slots = names[before].n_slots;
		id = before;
		moves = false;
		if (s->pool_ids[id])
			return 0;
	}
	memcpy(conf.name, name->name, sizeof(conf.name) - 1);
	pool = pool_run_put(s, id, &conf);
	if (!pool)
		return -ENOMEM;
	pool->removed = name->removed;
	if (moves) {
		pool->id_before = before;
		s->pool_ids[before] = pool;
	}
	return 0;
}

/* The pool that had an id; also of one that led nowhere yet when the run ended. */
static struct pool_run *pool_of(const struct shuntd *s, uint32_t id)
{
	const struct pool_name *names = dataplane_pool_names(s->dataplane);
	struct pool_run *pool = pool_by_id(s, id);

	return pool || id >= SHUNT_MAX_POOLS ? pool : pool_by_id(s, names[id].moved_from - 1);
}

static int pools_read(struct shuntd *s)
{
	const struct pool_name *names = dataplane_pool_names(s->dataplane);
	int err = 0;

	/* Those that have a place from before first: they claim both. */
	for (uint32_t id = 0; !err && id < SHUNT_MAX_POOLS; id++)
		if (names[id].moved_from)
			err = pool_read(s, id);
	for (uint32_t id = 0; !err && id < SHUNT_MAX_POOLS; id++)
		err = pool_read(s, id);
	return err;
}

static int backend_read(struct shuntd *s, uint16_t id)
{
	const struct backend_name *name = &dataplane_backend_names(s->dataplane)[id];
	const struct backend *record = &dataplane_backends(s->dataplane)[id];
	const struct session *session = &dataplane_sessions(s->dataplane)[id];
	struct admission_limits limits = backends_limits(s);
	struct pool_run *pool = pool_of(s, name->pool);
	struct backend_run read = { 0 }, *b;

	if (!name->name[0])
		return 0;
	names_backend_read(name, &read);
	if (!pool || !read.conf.weight)
		return -EINVAL;
	/* A fall that nobody has acted upon is found by backends_run(). */
	if (word_is_judged(record->word) || !word_is_judged(read.last_word))
		read.last_word = record->word;
	b = backend_run_put(s, id, &read.conf, pool);
	if (!b)
		return -ENOMEM;
	read.id = id;
	read.pool = pool;
	memcpy(read.identity, b->identity, sizeof(read.identity));
	read.ever_resolved = record->egress_ifindex != 0;
	read.rtt_ns = session->rtt_ns;
	/* As last acted upon: another word of its agent is news. */
	read.engine = read.draining == VERDICT_ASKED     ? ENGINE_DRAINING
		      : read.draining == VERDICT_LOADING ? ENGINE_LOADING
							 : ENGINE_UNKNOWN;
	if (BACKEND_WORD_VERDICT(read.last_word) != VERDICT_JOINING)
		admission_rise(&read.admission, 1);
	if (!word_is_judged(read.last_word) && read.admission.up_since_ns)
		admission_fall(&read.admission, &limits, read.since_ns);
	*b = read;
	if (name->gone)
		backend_run_hide(s, b);
	return 0;
}

static int vip_read(struct shuntd *s, const struct vip *vip)
{
	const struct vip_name *name = &dataplane_vip_names(s->dataplane)[vip->id % SHUNT_MAX_VIPS];
	struct pool_run *pool = pool_of(s, vip->table);
	struct config_vip conf = { .address = vip->key.address,
				   .protocol = vip->key.protocol,
				   .port = ntohs(vip->key.port),
				   .on_failure = (enum on_failure)vip->on_failure };
	struct vip_run *v;

	if (vip->id >= SHUNT_MAX_VIPS || !name->name[0] || !pool || s->vip_ids[vip->id])
		return -EINVAL;
	names_vip_read(name, &conf);
	v = vip_run_put(s, vip->id, &conf, pool);
	if (!v)
		return -ENOMEM;
	v->migrating = vip->flags & VIP_MIGRATING || vip->table != pool->id;
	v->n_slots_before = vip->table != pool->id ? vip->n_slots : vip->n_slots_before;
	return 0;
}

static int runs_read(struct shuntd *s)
{
	const struct vip *vips[SHUNT_MAX_VIPS];
	size_t n = dataplane_vips(s->dataplane, vips);
	int err = pools_read(s);

	for (uint16_t id = 1; !err && id < SHUNT_MAX_BACKENDS; id++)
		err = backend_read(s, id);
	for (size_t i = 0; !err && i < n; i++)
		err = vip_read(s, vips[i]);
	for (size_t i = 0; !err && i < s->n_pools; i++)
		err = pool_table(s, s->pools[i]);
	return err;
}

/* ---- as a configuration ---- */

static int pool_config(const struct shuntd *s, const struct pool_run *pool, struct config_pool *out)
{
	*out = (struct config_pool){ .n_slots = pool->n_slots, .max_soft_eject = pool->max_soft_eject };
	memcpy(out->name, pool->name, sizeof(out->name));
	out->backends = calloc(s->n_backends + 1, sizeof(*out->backends));
	if (!out->backends)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];

		if (b->pool != pool || b->draining == VERDICT_REMOVED)
			continue;
		out->forward = b->conf.forward;
		out->backends[out->n_backends++] = b->conf;
	}
	return 0;
}

static size_t pool_index(const struct config *c, const struct pool_run *pool)
{
	for (size_t i = 0; i < c->n_pools; i++)
		if (!strcmp(c->pools[i].name, pool->name))
			return i;
	return 0;
}

/* What runs, in the words of a configuration; the lists are sorted as it wants them. */
static int config_make(const struct shuntd *s, const struct config *wanted, struct config **out)
{
	const struct about *about = dataplane_about(s->dataplane);
	struct config *c = malloc(sizeof(*c));
	int err = 0;

	if (!c)
		return -ENOMEM;
	*c = *wanted;
	c->seed = about->seed;
	c->flows_max = about->flows_max;
	c->n_pools = c->n_vips = 0;
	c->interfaces = calloc(wanted->n_interfaces + 1, sizeof(*c->interfaces));
	c->pools = calloc(s->n_pools + 1, sizeof(*c->pools));
	c->vips = calloc(s->n_vips + 1, sizeof(*c->vips));
	err = c->interfaces && c->pools && c->vips ? 0 : -ENOMEM;
	if (!err)
		memcpy(c->interfaces, wanted->interfaces, wanted->n_interfaces * sizeof(*c->interfaces));
	for (size_t i = 0; !err && i < s->n_pools; i++)
		if (!s->pools[i]->removed)
			err = pool_config(s, s->pools[i], &c->pools[c->n_pools++]);
	for (size_t i = 0; !err && i < s->n_vips; i++) {
		c->vips[i] = s->vips[i]->conf;
		c->vips[i].pool = pool_index(c, s->vips[i]->pool);
		c->n_vips++;
	}
	if (err)
		config_free(c);
	else
		*out = c;
	return err;
}

int adopt_read(struct shuntd *s)
{
	struct config *ran = NULL;
	int err = runs_read(s);

	err = err ? err : config_make(s, s->config, &ran);
	if (err) {
		runs_free(s);
		return err;
	}
	s->wanted = s->config;
	s->config = ran;
	return 0;
}

/* ---- going on ---- */

/* Names that nobody has: their run was about to give them to somebody, or had just taken them away. */
static void names_mend(struct shuntd *s)
{
	for (uint32_t id = 0; id < SHUNT_MAX_VIPS; id++)
		if (!s->vip_ids[id])
			names_vip_forget(s, id);
	for (size_t i = 0; i < s->n_pools; i++)
		names_pool(s, s->pools[i]);
	for (uint32_t id = 0; id < SHUNT_MAX_POOLS; id++) {
		if (s->pool_ids[id] || !dataplane_pool_names(s->dataplane)[id].name[0])
			continue;
		names_pool_forget(s, id);
		dataplane_clear_table(s->dataplane, id);
	}
}

/* No answer to what was asked till now is waited for, and none convicts. */
static void detector_mend(struct shuntd *s)
{
	struct detector *d = dataplane_detector(s->dataplane);
	const struct session *sessions = dataplane_sessions(s->dataplane);

	d->round++; /* the newest may have been begun and not noted */
	d->pardoned_round = d->round;
	d->last_tick_ns = d->late_max_ns = d->suspect_since_ns = d->deaf_round = 0;
	d->n_sessions = 0;
	for (uint32_t id = 1; id < SHUNT_MAX_BACKENDS; id++)
		if (sessions[id].discriminator)
			d->n_sessions = id;
}

int adopt_resume(struct shuntd *s, const char **why)
{
	uint32_t id = 0;
	int err = 0;

	*why = "cannot go on with what an earlier run left in the kernel";
	for (uint32_t v = 0; v < SHUNT_MAX_VIPS; v++)
		if (s->vip_ids[v])
			id = v + 1;
	s->next_vip_id = id % SHUNT_MAX_VIPS;
	names_mend(s);
	for (size_t b = 1; !err && b < SHUNT_MAX_BACKENDS; b++)
		if (s->backend_ids[b])
			err = backend_resume(s, s->backend_ids[b]);
	detector_mend(s);
	for (size_t p = 0; !err && p < s->n_pools; p++)
		err = pool_adopt(s, s->pools[p]);
	if (!err) {
		journal_resume(s->journal);
		journal_audit(s->journal);
	}
	return err;
}
