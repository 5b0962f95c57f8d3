/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reload.c - see reload.h. All that can be refused is refused before anything is changed. Then, in this order, so that
 * no packet ever finds less than it did before:
 *
 *   added pools and backends (ids, sessions, records, the prober); the tables of pools that changed, whose flows
 *   pools.c leads over; VIPs; interfaces; when those flows are over: VIPs that change their pool or hash, one after
 *   another; at last the backends of removed pools drain.
 */
#include "shuntd/reload.h"

#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/socket.h>

#include <arpa/inet.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/key_file.h"
#include "core/plan.h"
#include "shuntd/backends.h"
#include "shuntd/checker.h"
#include "shuntd/names.h"
#include "shuntd/ownership.h"
#include "shuntd/peer.h"
#include "shuntd/rounds.h"
#include "shuntd/state.h"

#define RETRY_NS 1000000000ULL /* chosen: a table that could not be built for want of memory is tried again */

/* ---- the file ---- */

/* A configuration's text to its model. As config_load(). */
static int config_read(struct config **out, const char *name, const char *text, size_t length, char *why,
		       size_t why_size)
{
	struct config_error error = { 0 };
	int err = config_parse(out, text, length, &error);

	if (err == -EINVAL)
		snprintf(why, why_size, "%s:%u:%u: %s", name, error.line, error.column, error.text);
	else if (err)
		snprintf(why, why_size, "%s: %s", name, strerror(-err));
	return err;
}

/* A file's text, to be freed; one that is too long is cut, and left to config_parse() to refuse. As config_load(). */
static int text_load(char **text, size_t *length, const char *path, char *why, size_t why_size)
{
	int err;

	*text = file_read(path, CONFIG_TEXT_MAX + 1, length, &err);
	if (err)
		snprintf(why, why_size, "%s: %s", path, err == -ENOTSUP ? "not a regular file" : strerror(-err));
	return err;
}

int config_load(struct config **out, const char *path, char *why, size_t why_size)
{
	size_t length;
	char *text;
	int err = text_load(&text, &length, path, why, why_size);

	if (err)
		return err;
	err = config_read(out, path, text, length, why, why_size);
	free(text);
	return err;
}

/* Whether any interface has an address of a family that could be an outer source. */
static bool host_has_family(const struct shuntd *s, int family)
{
	struct if_nameindex *links = if_nameindex();
	bool has = false;

	for (const struct if_nameindex *l = links; !has && l && l->if_index; l++)
		has = netlink_has_family(s->netlink, l->if_name, family);
	if_freenameindex(links);
	return has;
}

/* Fill a fault of a backend; returns `err`. */
__attribute__((format(printf, 4, 5))) static int
backend_fault(struct config_fault *fault, const struct config_backend *b, int err, const char *format, ...)
{
	va_list args;

	fault->error.line = b->line;
	fault->error.column = b->column;
	va_start(args, format);
	vsnprintf(fault->error.text, sizeof(fault->error.text), format, args);
	va_end(args);
	return err;
}

/* ipip needs an address of the backend's family to write as the outer source. */
int config_check(const struct shuntd *s, const struct config *config, struct config_fault *fault)
{
	const bool has_v4 = host_has_family(s, AF_INET), has_v6 = host_has_family(s, AF_INET6);

	for (size_t i = 0; i < config->n_interfaces; i++) {
		if (if_nametoindex(config->interfaces[i]))
			continue;
		snprintf(fault->key, sizeof(fault->key), "interfaces.%s", config->interfaces[i]);
		snprintf(fault->error.text, sizeof(fault->error.text), "%s: no such interface", config->interfaces[i]);
		return -ENODEV;
	}
	for (size_t p = 0; p < config->n_pools; p++) {
		for (size_t i = 0; i < config->pools[p].n_backends; i++) {
			const struct config_backend *b = &config->pools[p].backends[i];
			bool v4 = address_is_v4(&b->address);

			if (b->forward == FORWARD_IPIP && !(v4 ? has_v4 : has_v6))
				return backend_fault(
					fault, b, -EADDRNOTAVAIL,
					"backend '%s' can't be reached by ipip: no interface has an %s address",
					b->name, v4 ? "IPv4" : "IPv6");
		}
	}
	return 0;
}

int config_keys(struct probe_keys *keys, const struct config *config, char *why, size_t why_size)
{
	if (*config->probe_key_file)
		return key_file_read(keys, config->probe_key_file, why, why_size);
	*keys = (struct probe_keys){ .echo = keys->echo };
	return 0;
}

int config_cpu(const struct config *config)
{
	cpu_set_t cpus;
	int last = -1;

	if (config->probe_cpu >= 0)
		return config->probe_cpu;
	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		return -1;
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET((size_t)i, &cpus))
			last = i;
	return last;
}

/* ---- before anything is changed ---- */

static size_t plan_count(const struct plan *plan, enum plan_kind kind)
{
	size_t n = 0;

	for (size_t i = 0; i < plan->n; i++)
		n += plan->changes[i].kind == kind;
	return n;
}

/* Ids for what is added, beside those of what has not gone yet. */
static int room_check(const struct shuntd *s, const struct plan *plan, struct config_fault *fault)
{
	size_t n = plan_count(plan, PLAN_BACKEND_ADDED);
	size_t n_pools = s->n_pools + plan_count(plan, PLAN_POOL_ADDED) + plan_count(plan, PLAN_POOL_SLOTS);

	for (size_t id = 0; id < SHUNT_MAX_BACKENDS; id++)
		n += s->backend_ids[id] != NULL;
	snprintf(fault->key, sizeof(fault->key), "pools");
	if (n > SHUNT_MAX_BACKENDS - 1) {
		snprintf(fault->error.text, sizeof(fault->error.text),
			 "%zu backends with those that were removed and still have flows: at most %d", n,
			 SHUNT_MAX_BACKENDS - 1);
		return -ENOSPC;
	}
	if (n_pools > SHUNT_MAX_POOLS) {
		snprintf(fault->error.text, sizeof(fault->error.text),
			 "%zu pools with those that were removed and still have flows: at most %d", n_pools,
			 SHUNT_MAX_POOLS);
		return -ENOSPC;
	}
	return 0;
}

static bool has_interface(const struct config *config, const char *name, size_t *at)
{
	for (*at = 0; *at < config->n_interfaces; ++*at)
		if (!strcmp(config->interfaces[*at], name))
			return true;
	return false;
}

/* Attach to the interfaces that are added; where one fails, to none. The modes of all of them in *modes. */
static int interfaces_attach(struct shuntd *s, const struct config *after, char (**modes)[16],
			     struct config_fault *fault)
{
	const char *mode, *because = "";
	size_t at, i;
	int err = 0;

	*modes = calloc(after->n_interfaces, sizeof(**modes));
	if (!*modes) {
		snprintf(fault->error.text, sizeof(fault->error.text), "out of memory");
		return -ENOMEM;
	}
	for (i = 0; i < after->n_interfaces; i++) {
		if (has_interface(s->config, after->interfaces[i], &at)) {
			memcpy((*modes)[i], s->xdp_mode[at], sizeof(**modes));
			continue;
		}
		err = dataplane_attach(s->dataplane, if_nametoindex(after->interfaces[i]), &mode, &because);
		if (err)
			break;
		snprintf((*modes)[i], sizeof(**modes), "%s", mode);
	}
	if (!err)
		return 0;
	snprintf(fault->key, sizeof(fault->key), "interfaces.%s", after->interfaces[i]);
	snprintf(fault->error.text, sizeof(fault->error.text), "interface %s: %s", after->interfaces[i], because);
	while (i--)
		if (!has_interface(s->config, after->interfaces[i], &at))
			dataplane_detach(s->dataplane, if_nametoindex(after->interfaces[i]));
	free(*modes);
	return err;
}

/* ---- applying ---- */

static const struct config_pool *pool_conf(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_pools; i++)
		if (!strcmp(config->pools[i].name, name))
			return &config->pools[i];
	return NULL;
}

static const struct config_backend *backend_conf(const struct config_pool *pool, const char *name)
{
	for (size_t i = 0; pool && i < pool->n_backends; i++)
		if (!strcmp(pool->backends[i].name, name))
			return &pool->backends[i];
	return NULL;
}

static const struct config_vip *vip_conf(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_vips; i++)
		if (!strcmp(config->vips[i].name, name))
			return &config->vips[i];
	return NULL;
}

/* What was decided in advance not to fail did: there is no memory. What can be done is done, and the ledger says it. */
static void failed(struct shuntd *s, const struct plan_change *c, int err)
{
	ledger_add(s->ledger, 0, c->object, c->name, "not changed", strerror(-err), NULL);
}

static bool is_up(const struct shuntd *s, const struct backend_run *b)
{
	uint32_t word = __atomic_load_n(&dataplane_backends(s->dataplane)[b->id].word, __ATOMIC_RELAXED);

	return BACKEND_WORD_STATE(word) == BACKEND_UP;
}

/* Who takes new flows in a pool when those leave that are to. */
static bool pool_serves(const struct shuntd *s, const struct pool_run *pool)
{
	for (size_t i = 0; i < s->n_backends; i++)
		if (s->backends[i]->pool == pool && !s->backends[i]->leaving && is_up(s, s->backends[i]))
			return true;
	return false;
}

/* Whether somebody is added to a pool, or was and hasn't served yet. */
static bool pool_grows(const struct shuntd *s, const struct plan *plan, const struct pool_run *pool)
{
	for (size_t i = 0; i < plan->n; i++)
		if (plan->changes[i].kind == PLAN_BACKEND_ADDED && !strcmp(plan->changes[i].pool, pool->name))
			return true;
	for (size_t i = 0; i < s->n_backends; i++)
		if (s->backends[i]->pool == pool && !s->backends[i]->draining &&
		    BACKEND_WORD_VERDICT(s->backends[i]->last_word) == VERDICT_JOINING)
			return true;
	return false;
}

/* Those who are removed leave; at once where others serve, or nobody comes in their place. */
static void leaving_mark(struct shuntd *s, const struct plan *plan)
{
	for (size_t i = 0; !s->reload_force && i < plan->n; i++) {
		struct backend_run *b =
			plan->changes[i].kind == PLAN_BACKEND_REMOVED ? backend_find(s, plan->changes[i].name) : NULL;

		if (b && !b->draining)
			b->leaving = pool_grows(s, plan, b->pool);
	}
	for (size_t i = 0; i < s->n_backends; i++)
		if (s->backends[i]->leaving && !s->backends[i]->draining && pool_serves(s, s->backends[i]->pool))
			s->backends[i]->leaving = false;
}

static void backend_remove(struct shuntd *s, const struct plan_change *c)
{
	struct backend_run *b = backend_find(s, c->name);

	if (!b)
		return;
	if (!pool_conf(s->config, c->pool)) {
		b->pool->removed = true; /* its VIPs are led elsewhere first: then it drains */
		names_pool(s, b->pool);
		return;
	}
	b->pool->stale = true;
	backend_drop(s, b, s->reload_force ? s->reload_ns : 0);
}

static void backend_add(struct shuntd *s, const struct plan_change *c)
{
	struct pool_run *pool = pool_find(s, c->pool);
	struct backend_run *b = backend_run_add(s, backend_conf(pool_conf(s->config, c->pool), c->name), pool);
	int err = b ? backend_join(s, b) : -ENOMEM;

	if (err) {
		failed(s, c, err);
		return;
	}
	pool->stale = true;
}

static void backend_change(struct shuntd *s, const struct plan_change *c)
{
	struct backend_run *b = backend_find(s, c->name);

	if (!b)
		return;
	b->conf = *backend_conf(pool_conf(s->config, c->pool), c->name);
	names_backend(s, b);
	if (c->kind == PLAN_BACKEND_WEIGHT)
		b->pool->stale = true;
	else
		b->resolved = false; /* its record is written anew */
}

static void pool_add(struct shuntd *s, const struct plan_change *c)
{
	struct pool_run *pool = pool_run_add(s, pool_conf(s->config, c->name));

	if (pool)
		names_pool(s, pool);
	else
		failed(s, c, -ENOMEM);
}

/* Its members, and so its table, come with it. */
static void pool_begin(struct shuntd *s, const struct plan_change *c)
{
	struct pool_run *pool = pool_find(s, c->name);
	int err = pool_load(s, pool);

	pool->stale = false;
	if (err)
		failed(s, c, err);
}

static void vip_remove(struct shuntd *s, const struct plan_change *c)
{
	struct vip_run *v = vip_find(s, c->name);
	struct vip_key key = { .address = v->conf.address, .port = htons(v->conf.port), .protocol = v->conf.protocol };

	dataplane_delete_vip(s->dataplane, &key);
	names_vip_forget(s, v->id);
	vip_run_remove(s, v);
}

/* It is found by what its packets have: two may have changed their names. */
static void vip_rename(struct shuntd *s, const struct plan_change *c)
{
	const struct config_vip *conf = vip_conf(s->config, c->name);

	for (size_t i = 0; i < s->n_vips; i++) {
		struct vip_run *v = s->vips[i];

		if (memcmp(&v->conf.address, &conf->address, sizeof(conf->address)) != 0 ||
		    v->conf.protocol != conf->protocol || v->conf.port != conf->port)
			continue;
		vip_run_rename(s, v, conf->name);
		names_vip_rename(s, v);
		return;
	}
}

static void vip_add(struct shuntd *s, const struct plan_change *c)
{
	const struct config_vip *conf = vip_conf(s->config, c->name);
	struct vip_run *v = vip_run_add(s, conf, pool_find(s, s->config->pools[conf->pool].name));
	int err = -ENOMEM;

	if (v) {
		dataplane_forget_vip(s->dataplane, v->id);
		err = vip_load(s, v);
	}
	if (err)
		failed(s, c, err);
}

static void vip_rule(struct shuntd *s, const struct plan_change *c)
{
	const struct config_vip *conf = vip_conf(s->config, c->name);
	struct vip_run *v = vip_find(s, c->name);
	int err;

	v->conf.on_failure = conf->on_failure;
	v->conf.syn_limit = conf->syn_limit;
	v->conf.required = conf->required;
	err = vip_load(s, v);
	if (err)
		failed(s, c, err);
}

static void interface_remove(struct shuntd *s, const struct plan_change *c)
{
	dataplane_detach(s->dataplane, if_nametoindex(c->name));
}

/* Whom to ask otherwise than by probes. */
static void checks_apply(struct shuntd *s)
{
	const char *why = "";

	if (backends_check(s, &why))
		ledger_add(s->ledger, 0, "shuntd", "self", "checks not changed", why, NULL);
}

/* All changes of a kind, by the function that makes one. */
static void apply_kind(struct shuntd *s, const struct plan *plan, enum plan_kind kind,
		       void (*fn)(struct shuntd *s, const struct plan_change *c))
{
	for (size_t i = 0; i < plan->n; i++)
		if (plan->changes[i].kind == kind)
			fn(s, &plan->changes[i]);
}

/* Another type of check. Another interval or port of the same is the checker's. */
static void backend_check(struct shuntd *s, const struct plan_change *c)
{
	struct backend_run *b = backend_find(s, c->name);
	enum config_check_type before = b ? b->conf.check.type : CHECK_HEARTBEAT;
	int err = 0;

	backend_change(s, c);
	if (b && b->conf.check.type != before)
		err = backend_ask_anew(s, b);
	if (err)
		failed(s, c, err);
}

/* What signs and what is accepted: the receiver takes the new ones before the first probe bears them. */
static void keys_apply(struct shuntd *s, const struct probe_keys *keys)
{
	int err = dataplane_set_keys(s->dataplane, keys);

	if (err)
		ledger_add(s->ledger, 0, "shuntd", "self", "probe keys not changed", strerror(-err), NULL);
	else
		s->keys = *keys;
}

/* Removed before, and what it still serves is to be cut now. */
static bool is_to_be_cut(const struct backend_run *b)
{
	return b->draining == VERDICT_REMOVED && !b->drained && !b->drain_deadline_ns;
}

/* The changes as sentences. Of keys no more than that they are others. */
static json_t *changes_list(const struct shuntd *s, const struct plan *plan, const struct probe_keys *keys, bool force)
{
	json_t *list = json_array();
	char text[256];

	for (size_t i = 0; i < plan->n; i++)
		json_array_append_new(list, json_string(plan_change_text(&plan->changes[i], text, sizeof(text))));
	if (memcmp(keys, &s->keys, sizeof(*keys)) != 0)
		json_array_append_new(list, json_string("probe keys: changed"));
	for (size_t i = 0; force && i < s->n_backends; i++) {
		if (!is_to_be_cut(s->backends[i]))
			continue;
		snprintf(text, sizeof(text), "backend %s: removed before, what it still serves is cut",
			 s->backends[i]->conf.name);
		json_array_append_new(list, json_string(text));
	}
	return list;
}

/* Each in the ledger. */
static void changes_tell(struct shuntd *s, const struct plan *plan, const struct probe_keys *keys)
{
	for (size_t i = 0; i < plan->n; i++) {
		const struct plan_change *c = &plan->changes[i];

		ledger_add(s->ledger, 0, c->object, c->name, c->what, c->detail, NULL);
	}
	if (memcmp(keys, &s->keys, sizeof(*keys)) != 0)
		ledger_add(s->ledger, 0, "config", "probe.key_file", "changed", "other keys",
			   json_pack("{s:I}", "keys", (json_int_t)keys->n));
}

/* The weight that is configured, and the one in force, of all; those in force are in the tables, or will be. */
static void weights_apply(struct shuntd *s)
{
	for (size_t p = 0; p < s->config->n_pools; p++) {
		const struct config_pool *pool = &s->config->pools[p];

		for (size_t i = 0; i < pool->n_backends; i++) {
			struct backend_run *b = backend_find(s, pool->backends[i].name);

			if (!b)
				continue;
			b->conf.configured_weight = pool->backends[i].configured_weight;
			names_backend(s, b);
		}
	}
}

static void apply(struct shuntd *s, const struct plan *plan, const struct probe_keys *keys)
{
	bool new_keys = memcmp(keys, &s->keys, sizeof(*keys));

	apply_kind(s, plan, PLAN_POOL_ADDED, pool_add);
	leaving_mark(s, plan);
	apply_kind(s, plan, PLAN_BACKEND_REMOVED, backend_remove);
	apply_kind(s, plan, PLAN_BACKEND_ADDED, backend_add);
	if (new_keys)
		keys_apply(s, keys);
	/* First of what changes a backend: each takes over all of its configuration. */
	apply_kind(s, plan, PLAN_BACKEND_CHECK, backend_check);
	apply_kind(s, plan, PLAN_BACKEND_WEIGHT, backend_change);
	apply_kind(s, plan, PLAN_BACKEND_FORWARD, backend_change);
	weights_apply(s);
	for (size_t i = 0; i < s->config->n_pools; i++) {
		struct pool_run *pool = pool_find(s, s->config->pools[i].name);

		if (!pool)
			continue;
		pool->max_soft_eject = s->config->pools[i].max_soft_eject;
		names_pool(s, pool);
		pool->n_slots_wanted = s->config->pools[i].n_slots;
		pool->stale = pool->stale || pool->n_slots_wanted != pool->n_slots;
	}
	if (plan_count(plan, PLAN_BACKEND_ADDED) || plan_count(plan, PLAN_PROBE) ||
	    plan_count(plan, PLAN_BACKEND_CHECK) || new_keys)
		rounds_apply(s);
	if (plan_count(plan, PLAN_BACKEND_ADDED) || plan_count(plan, PLAN_BACKEND_CHECK))
		checks_apply(s);
	backends_resolve(s);
	apply_kind(s, plan, PLAN_POOL_ADDED, pool_begin);
	apply_kind(s, plan, PLAN_VIP_REMOVED, vip_remove);
	apply_kind(s, plan, PLAN_VIP_RENAMED, vip_rename);
	apply_kind(s, plan, PLAN_VIP_ADDED, vip_add);
	apply_kind(s, plan, PLAN_VIP_RULES, vip_rule);
	apply_kind(s, plan, PLAN_INTERFACE_REMOVED, interface_remove);
	ownership_read(s);
}

/* Weights that commands gave hold on, but where the new configuration has another backend. */
static void weights_carry(const struct shuntd *s, struct config *after)
{
	for (size_t i = 0; i < s->n_backends; i++) {
		const struct config_backend *b = &s->backends[i]->conf;
		struct config_backend *a;

		if (b->weight == b->configured_weight || s->backends[i]->draining == VERDICT_REMOVED ||
		    s->backends[i]->pool->removed)
			continue;
		a = (struct config_backend *)backend_conf(pool_conf(after, s->backends[i]->pool->name), b->name);
		if (a && !memcmp(&a->address, &b->address, sizeof(a->address)))
			a->weight = b->weight;
	}
}

/* Whether the backends can be asked as they are to be. */
static int checks_can(const struct shuntd *s, const struct config *config, struct config_fault *fault)
{
	for (size_t p = 0; p < config->n_pools; p++) {
		for (size_t i = 0; i < config->pools[p].n_backends; i++) {
			const struct config_backend *b = &config->pools[p].backends[i];
			const struct checked checked = { .address = b->address, .check = b->check };
			const char *why = "";
			int err = checker_can(s->checker, &checked, &why);

			if (err)
				return backend_fault(fault, b, err, "backend '%s' can't be asked so: %s", b->name, why);
		}
	}
	return 0;
}

/* All that can be found wrong without changing anything. 0, the plan and the keys; or -errno and the fault. */
static int reload_judge(const struct shuntd *s, const struct config *after, struct plan *plan, struct probe_keys *keys,
			struct probe_keys *peer_keys, struct config_fault *fault)
{
	int err = plan_make(plan, s->config, after, fault->error.text, sizeof(fault->error.text));

	if (err) {
		snprintf(fault->key, sizeof(fault->key), "%s", plan->fixed ? plan->fixed : "");
		return err;
	}
	err = room_check(s, plan, fault);
	err = err ? err : config_check(s, after, fault);
	err = err ? err : checks_can(s, after, fault);
	if (err)
		return err;
	snprintf(fault->key, sizeof(fault->key), "probe.key_file");
	err = config_keys(keys, after, fault->error.text, sizeof(fault->error.text));
	if (err)
		return err;
	snprintf(fault->key, sizeof(fault->key), "peer.key_file");
	return peering_keys(peer_keys, after, fault->error.text, sizeof(fault->error.text));
}

/* Make it the running one. It can be refused no more. Takes over the configuration and the modes. */
static json_t *reload_begin(struct shuntd *s, const struct reload *how, struct config *after, char (*modes)[16],
			    const struct plan *plan, const struct probe_keys *keys, const struct probe_keys *peer_keys)
{
	struct config *before = s->config;
	json_t *changes = changes_list(s, plan, keys, how->force);

	s->config = after;
	s->reloading = true;
	s->reload_force = how->force;
	s->reload_ns = monotonic_ns();
	s->reload_retry_ns = 0;
	s->reload_waits = false;
	snprintf(s->reload_name, sizeof(s->reload_name), "%s", how->name);
	json_decref(s->reload_by);
	s->reload_by = commanded(s, json_object());
	free(s->xdp_mode);
	s->xdp_mode = modes;
	changes_tell(s, plan, keys);
	apply(s, plan, keys);
	peering_reloaded(s->peering, peer_keys);
	state_changed(s->state);
	config_free(before);
	for (size_t i = 0; how->force && i < s->n_backends; i++) {
		if (!is_to_be_cut(s->backends[i]))
			continue;
		s->backends[i]->drain_deadline_ns = s->reload_ns;
		names_backend(s, s->backends[i]);
	}
	reload_run(s);
	return changes;
}

/* The same, with the text at hand. */
static int reload_text(struct shuntd *s, const struct reload *how, json_t **changes, char *why, size_t why_size)
{
	struct config_fault fault = { 0 };
	struct probe_keys keys = s->keys, peer_keys;
	struct config *after = NULL;
	struct plan plan = { 0 };
	char(*modes)[16] = NULL;
	int err = config_read(&after, how->name, how->text, how->length, why, why_size);

	if (err)
		return err;
	weights_carry(s, after);
	err = reload_judge(s, after, &plan, &keys, &peer_keys, &fault);
	if (!err && !how->only_look)
		err = interfaces_attach(s, after, &modes, &fault);
	if (!err && how->only_look)
		*changes = changes_list(s, &plan, &keys, how->force);
	if (!err && !how->only_look) {
		*changes = reload_begin(s, how, after, modes, &plan, &keys, &peer_keys);
		after = NULL;
	}
	if (err && !fault.error.line)
		config_place(how->text, how->length, fault.key, &fault.error);
	if (err)
		snprintf(why, why_size, "%s:%u:%u: %s", how->name, fault.error.line, fault.error.column,
			 fault.error.text);
	plan_free(&plan);
	config_free(after);
	return err;
}

/* Flows are being led over. A change that only waits for those who come can be followed by another. */
static bool is_busy(const struct shuntd *s)
{
	return s->reloading && (!s->reload_waits || pools_moving(s));
}

int shuntd_reload(struct shuntd *s, const struct reload *how, json_t **changes, char *why, size_t why_size)
{
	struct reload its_own = *how;
	char *text = NULL;
	int err = 0;

	*changes = NULL;
	if (is_busy(s) && !how->only_look) {
		snprintf(why, why_size,
			 "flows are still being led over after the change before: try again in a moment");
		return -EBUSY;
	}
	if (!how->text) {
		its_own.name = s->config_path;
		err = text_load(&text, &its_own.length, s->config_path, why, why_size);
		its_own.text = text;
	}
	err = err ? err : reload_text(s, &its_own, changes, why, why_size);
	free(text);
	if (err && !how->only_look)
		ledger_add(s->ledger, 0, "shuntd", "self", "reload refused", why, commanded(s, json_object()));
	return err;
}

int shuntd_take_over(struct shuntd *s)
{
	const struct reload how = { .name = s->config_path };
	struct config_fault fault = { 0 };
	struct probe_keys keys = s->keys, peer_keys;
	struct config *after = s->wanted;
	struct plan plan = { 0 };
	char(*modes)[16] = NULL;
	int err;

	s->wanted = NULL;
	weights_carry(s, after);
	err = reload_judge(s, after, &plan, &keys, &peer_keys, &fault);
	err = err ? err : interfaces_attach(s, after, &modes, &fault);
	if (!err) {
		json_decref(reload_begin(s, &how, after, modes, &plan, &keys, &peer_keys));
	} else {
		ledger_add(s->ledger, 0, "shuntd", "self", "reload refused", fault.error.text, NULL);
		config_free(after);
	}
	plan_free(&plan);
	return err;
}

void shuntd_reload_asked(struct shuntd *s)
{
	json_t *changes = NULL;
	char why[512];

	s->reload_asked = is_busy(s);
	if (!s->reload_asked)
		shuntd_reload(s, &(struct reload){ 0 }, &changes, why, sizeof(why));
	json_decref(changes);
}

int shuntd_set_weight(struct shuntd *s, struct backend_run *b, uint32_t weight)
{
	struct config_backend *conf =
		(struct config_backend *)backend_conf(pool_conf(s->config, b->pool->name), b->conf.name);
	uint32_t before = b->conf.weight;
	json_t *evidence;

	if (!conf || b->draining == VERDICT_REMOVED)
		return -ENOENT;
	if (!weight)
		weight = b->conf.configured_weight;
	if (weight == before)
		return 0;
	conf->weight = b->conf.weight = weight;
	names_backend(s, b);
	evidence = json_pack("{s:I, s:I, s:I}", "weight", (json_int_t)weight, "before", (json_int_t)before,
			     "configured", (json_int_t)b->conf.configured_weight);
	ledger_add(s->ledger, 0, "backend", b->conf.name, "weight set", NULL, commanded(s, evidence));
	state_changed(s->state);
	b->pool->stale = true;
	if (!s->reloading) {
		s->reloading = true;
		s->reload_force = false;
		s->reload_retry_ns = 0;
		s->reload_name[0] = 0;
	}
	reload_run(s);
	return 0;
}

/* ---- what follows in time ---- */

#define NEWCOMERS_NS 10000000000ULL /* chosen: so long those who come may take until the first of them serves */
#define TOGETHER_NS 100000000ULL /* chosen: and so long, from then on, until all do: or the first gets all new flows */

/*
 * Whether those who come to a pool are waited for: nobody who was there before serves, and not all of them do yet. One that
 * never comes up holds a reload up for so long only.
 */
static bool newcomers_wait(const struct shuntd *s, const struct pool_run *pool, uint64_t now)
{
	uint64_t first_ns = UINT64_MAX;
	bool joining = false;

	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];

		if (b->pool != pool || b->leaving || b->draining)
			continue;
		if (is_up(s, b) && b->since_ns < s->reload_ns)
			return false;
		if (is_up(s, b))
			first_ns = b->since_ns < first_ns ? b->since_ns : first_ns;
		joining = joining || BACKEND_WORD_VERDICT(b->last_word) == VERDICT_JOINING;
	}
	return joining && now < (first_ns == UINT64_MAX ? s->reload_ns + NEWCOMERS_NS : first_ns + TOGETHER_NS);
}

/* Whether a pool's table stays as it is for those who leave, and serve. */
static bool pool_waits(const struct shuntd *s, const struct pool_run *pool, uint64_t now)
{
	bool serve = false;

	for (size_t i = 0; !s->reload_force && i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];

		serve = serve || (b->pool == pool && b->leaving && (is_up(s, b) || backend_is_doubted(s, b)));
	}
	return serve && newcomers_wait(s, pool, now);
}

/* When its table names them no more. */
static void leaving_end(struct shuntd *s, const struct pool_run *pool)
{
	for (size_t i = 0; i < s->n_backends; i++)
		if (s->backends[i]->leaving && s->backends[i]->pool == pool)
			backend_leave(s, s->backends[i]);
}

/* Tables that are not what the configuration says, anew. -errno: one of them has to wait. */
static int tables_follow(struct shuntd *s, uint64_t now)
{
	int err = 0;

	for (size_t p = 0; p < s->n_pools; p++) {
		struct pool_run *pool = s->pools[p];
		int failure;

		if (!pool->stale || pool->removed)
			continue;
		if (pool_waits(s, pool, now)) {
			s->reload_waits = true;
			continue;
		}
		failure = pool_rebuild(s, pool, pool->n_slots_wanted);
		pool->stale = failure;
		if (failure)
			ledger_add(s->ledger, 0, "pool", pool->name, "table kept", strerror(-failure), NULL);
		if (!failure)
			leaving_end(s, pool);
		err = err ? err : failure;
	}
	return err;
}

/* The next VIP whose pool or hash is not what the configuration says. 1: its flows are being led over; 0: none is left, but those that wait. */
static int vips_follow(struct shuntd *s, uint64_t now)
{
	for (size_t i = 0; i < s->config->n_vips; i++) {
		const struct config_vip *conf = &s->config->vips[i];
		struct pool_run *pool = pool_find(s, s->config->pools[conf->pool].name);
		struct vip_run *v = vip_find(s, conf->name);
		int err;

		if (!v || !pool ||
		    (v->pool == pool && v->conf.hash == conf->hash && v->conf.hash_prefix == conf->hash_prefix)) {
			if (v)
				v->conf = *conf;
			continue;
		}
		if (!s->reload_force && v->pool != pool && pool_serves(s, v->pool) && newcomers_wait(s, pool, now)) {
			s->reload_waits = true;
			continue;
		}
		err = vip_switch(s, v, conf, pool);
		if (err)
			ledger_add(s->ledger, 0, "vip", conf->name, "not changed", strerror(-err), NULL);
		return err ? err : 1;
	}
	return 0;
}

void reload_run(struct shuntd *s)
{
	uint64_t now;
	int err;

	if (!s->reloading || pools_moving(s))
		return;
	now = monotonic_ns();
	if (now < s->reload_retry_ns)
		return;
	s->reload_waits = false;
	err = tables_follow(s, now);
	if (!err && !pools_moving(s))
		err = vips_follow(s, now);
	if (err < 0)
		s->reload_retry_ns = now + RETRY_NS;
	if (err || pools_moving(s))
		return;
	if (s->reload_waits) {
		if (s->reload_asked)
			shuntd_reload_asked(s); /* it may be what ends that */
		return;
	}
	for (size_t i = 0; i < s->n_backends; i++)
		if (s->backends[i]->pool->removed)
			backend_drop(s, s->backends[i], s->reload_force ? now : 0);
	s->reloading = false;
	if (s->reload_name[0]) {
		json_object_set_new(s->reload_by, "took_us", json_integer((json_int_t)((now - s->reload_ns) / 1000)));
		ledger_add(s->ledger, 0, "shuntd", "self", "reloaded", s->reload_name, s->reload_by);
		s->reload_by = NULL;
	}
	if (s->reload_asked)
		shuntd_reload_asked(s);
}
