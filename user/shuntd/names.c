// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * names.c - see names.h.
 */
#include "shuntd/names.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

_Static_assert(SHUNT_NAME_MAX == CONFIG_NAME_MAX && SHUNT_PATH_MAX == CONFIG_PATH_MAX,
	       "a name that fits one fits the other");

/* Each kind of entry begins with its name: the rest, then the name's rest, then its first byte. */
static void entry_write(void *shared, const void *entry, size_t size)
{
	char *to = shared;
	const char *from = entry;

	memcpy(to + SHUNT_NAME_MAX, from + SHUNT_NAME_MAX, size - SHUNT_NAME_MAX);
	if (*to)
		return; /* it has its name */
	memcpy(to + 1, from + 1, SHUNT_NAME_MAX - 1);
	__atomic_store_n(to, *from, __ATOMIC_RELEASE);
}

static void entry_forget(char *name)
{
	__atomic_store_n(name, 0, __ATOMIC_SEQ_CST);
}

static void text_copy(char *to, const char *from, size_t size)
{
	snprintf(to, size, "%.*s", (int)size - 1, from); /* from may lack its end; `to` is all zeros */
}

void names_backend(struct shuntd *s, const struct backend_run *b)
{
	struct backend_name name = {
		.address = b->conf.address,
		.pool = b->pool->id,
		.weight = b->conf.weight,
		.configured_weight = b->conf.configured_weight,
		.forward = b->conf.forward,
		.word = b->last_word,
		.since_ns = b->since_ns,
		.since_wall_s = (__u64)b->since_wall_s,
		.drain_since_ns = b->drain_since_ns,
		.drain_deadline_ns = b->drain_deadline_ns,
		.n_cut = b->n_cut,
		/* One that is leaving is still a member: who goes on after a crash lets it leave anew. */
		.draining = b->leaving ? VERDICT_NONE : b->draining,
		.drained = b->drained,
		.gone = b->gone,
		.check_type = b->conf.check.type,
		.check_interval_ns = b->conf.check.interval_ns,
		.check_timeout_ns = b->conf.check.timeout_ns,
		.check_multiplier = b->conf.check.multiplier,
		.check_rise = b->conf.check.rise,
		.check_fall = b->conf.check.fall,
		.check_port = b->conf.check.port,
	};

	text_copy(name.name, b->conf.name, sizeof(name.name));
	text_copy(name.domain, b->conf.domain, sizeof(name.domain));
	text_copy(name.check_path, b->conf.check.path, sizeof(name.check_path));
	entry_write(&dataplane_backend_names(s->dataplane)[b->id], &name, sizeof(name));
}

void names_backend_read(const struct backend_name *name, struct backend_run *b)
{
	b->conf = (struct config_backend){
		.address = name->address,
		.weight = name->weight,
		.configured_weight = name->configured_weight,
		.forward = (enum forward_mode)name->forward,
		.check = { .type = (enum config_check_type)name->check_type,
			   .interval_ns = name->check_interval_ns,
			   .timeout_ns = name->check_timeout_ns,
			   .multiplier = name->check_multiplier,
			   .rise = name->check_rise,
			   .fall = name->check_fall,
			   .port = (uint16_t)name->check_port },
	};
	text_copy(b->conf.name, name->name, sizeof(b->conf.name));
	text_copy(b->conf.domain, name->domain, sizeof(b->conf.domain));
	text_copy(b->conf.check.path, name->check_path, sizeof(b->conf.check.path));
	b->last_word = name->word;
	b->since_ns = name->since_ns;
	b->since_wall_s = (int64_t)name->since_wall_s;
	b->drain_since_ns = name->drain_since_ns;
	b->drain_deadline_ns = name->drain_deadline_ns;
	b->n_cut = name->n_cut;
	b->draining = name->draining;
	b->drained = name->drained;
	b->ending = !name->drained;
}

void names_backend_forget(struct shuntd *s, uint32_t id)
{
	entry_forget(dataplane_backend_names(s->dataplane)[id].name);
}

void names_pool(struct shuntd *s, const struct pool_run *p)
{
	struct pool_name name = {
		.n_slots = p->n_slots,
		.moved_from = p->id != p->id_before ? 1 + p->id_before : 0,
		.max_soft_eject = p->max_soft_eject,
		.removed = p->removed,
	};

	text_copy(name.name, p->name, sizeof(name.name));
	entry_write(&dataplane_pool_names(s->dataplane)[p->id], &name, sizeof(name));
	for (size_t id = 1; id < SHUNT_MAX_BACKENDS; id++)
		if (s->backend_ids[id] && s->backend_ids[id]->pool == p)
			dataplane_backend_names(s->dataplane)[id].pool = p->id;
}

void names_pool_forget(struct shuntd *s, uint32_t id)
{
	entry_forget(dataplane_pool_names(s->dataplane)[id].name);
}

void names_vip_begin(struct shuntd *s, const struct vip_run *v)
{
	if (!dataplane_vip_names(s->dataplane)[v->id].name[0])
		names_vip(s, v);
}

void names_vip(struct shuntd *s, const struct vip_run *v)
{
	const struct config_syn_limit *limit = &v->conf.syn_limit;
	struct vip_name name = {
		.hash = v->conf.hash,
		.hash_prefix = v->conf.hash_prefix,
		.required = v->conf.required,
		.syn_action = limit->action,
		.syn_rate = limit->rate,
		.syn_burst = limit->burst,
		.syn_prefix = limit->prefix,
	};

	text_copy(name.name, v->conf.name, sizeof(name.name));
	entry_write(&dataplane_vip_names(s->dataplane)[v->id], &name, sizeof(name));
}

/* A name that is torn by a crash harms nobody: a VIP is known by its address. */
void names_vip_rename(struct shuntd *s, const struct vip_run *v)
{
	struct vip_name *name = &dataplane_vip_names(s->dataplane)[v->id];

	memset(name->name + 1, 0, sizeof(name->name) - 1);
	text_copy(name->name, v->conf.name, sizeof(name->name));
}

void names_vip_read(const struct vip_name *name, struct config_vip *conf)
{
	text_copy(conf->name, name->name, sizeof(conf->name));
	conf->hash = (enum config_hash)name->hash;
	conf->hash_prefix = (uint8_t)name->hash_prefix;
	conf->required = name->required;
	conf->syn_limit = (struct config_syn_limit){ .action = (enum config_syn_action)name->syn_action,
						     .rate = name->syn_rate,
						     .burst = name->syn_burst,
						     .prefix = (uint8_t)name->syn_prefix };
}

void names_vip_forget(struct shuntd *s, uint32_t id)
{
	entry_forget(dataplane_vip_names(s->dataplane)[id].name);
}
