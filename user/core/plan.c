/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * plan.c - two configurations walked side by side: see plan.h. All lists of the model are sorted by name, so what is
 * on one side only is found in passing.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/plan.h"

/* ---- changes ---- */

/* One more change; NULL: no memory. */
static struct plan_change *change_add(struct plan *plan, enum plan_kind kind, const char *object, const char *name,
				      const char *what)
{
	struct plan_change *c;

	if (plan->n == plan->capacity) {
		size_t capacity = plan->capacity ? 2 * plan->capacity : 16;
		struct plan_change *changes = realloc(plan->changes, capacity * sizeof(*changes));

		if (!changes)
			return NULL;
		plan->changes = changes;
		plan->capacity = capacity;
	}
	c = &plan->changes[plan->n++];
	*c = (struct plan_change){ .kind = kind, .object = object, .what = what };
	snprintf(c->name, sizeof(c->name), "%s", name);
	return c;
}

/* The same with its detail; returns 0 or -ENOMEM. */
__attribute__((format(printf, 6, 7))) static int change(struct plan *plan, enum plan_kind kind, const char *object,
							const char *name, const char *what, const char *format, ...)
{
	struct plan_change *c = change_add(plan, kind, object, name, what);
	va_list ap;

	if (!c)
		return -ENOMEM;
	va_start(ap, format);
	vsnprintf(c->detail, sizeof(c->detail), format, ap);
	va_end(ap);
	return 0;
}

/*
 * Walk two lists sorted by name (each item begins with it): `fn` gets the pair, or one of it and NULL. Stops at its
 * first error.
 */
static int pairs_walk(const void *before, size_t n_before, const void *after, size_t n_after, size_t size,
		      int (*fn)(void *arg, const void *before, const void *after), void *arg)
{
	const char *b = before, *a = after;
	const char *b_end = b + n_before * size, *a_end = a + n_after * size;
	int err = 0;

	while (!err && (b < b_end || a < a_end)) {
		int order = b == b_end ? 1 : a == a_end ? -1 : strcmp(b, a);

		err = fn(arg, order <= 0 ? b : NULL, order >= 0 ? a : NULL);
		b += order <= 0 ? size : 0;
		a += order >= 0 ? size : 0;
	}
	return err;
}

static const char *forward_name(enum forward_mode forward)
{
	return forward == FORWARD_L2 ? "l2" : "ipip";
}

static bool address_equal(const struct shunt_addr *a, const struct shunt_addr *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* ---- backends and pools ---- */

/* What the walk through the pools carries. */
struct pool_pair {
	struct plan *plan;
	const char *pool;
};

/* The newest change is about a backend of this pool. */
static int backend_of(const struct pool_pair *p, int err)
{
	if (!err)
		snprintf(p->plan->changes[p->plan->n - 1].pool, CONFIG_NAME_MAX, "%s", p->pool);
	return err;
}

static int backend_added(const struct pool_pair *p, const struct config_backend *b)
{
	return backend_of(p, change(p->plan, PLAN_BACKEND_ADDED, "backend", b->name, "added", "to pool %s", p->pool));
}

static int backend_removed(const struct pool_pair *p, const struct config_backend *b)
{
	return backend_of(
		p, change(p->plan, PLAN_BACKEND_REMOVED, "backend", b->name, "removed", "from pool %s", p->pool));
}

static int check_changed(struct plan *plan, const struct config_backend *b, const struct config_backend *a)
{
	if (b->check.type == a->check.type)
		return change(plan, PLAN_BACKEND_CHECK, "backend", a->name, "changed", "another check by %s",
			      check_name(a->check.type));
	return change(plan, PLAN_BACKEND_CHECK, "backend", a->name, "changed", "check %s becomes %s",
		      check_name(b->check.type), check_name(a->check.type));
}

static int backend_pair(void *arg, const void *before, const void *after)
{
	const struct pool_pair *p = arg;
	const struct config_backend *b = before, *a = after;
	int err = 0;

	if (!b)
		return backend_added(p, a);
	if (!a)
		return backend_removed(p, b);
	if (!address_equal(&b->address, &a->address)) {
		err = backend_removed(p, b);
		return err ? err : backend_added(p, a);
	}
	if (b->weight != a->weight)
		err = backend_of(p, change(p->plan, PLAN_BACKEND_WEIGHT, "backend", a->name, "changed",
					   "weight %u becomes %u", b->weight, a->weight));
	else if (b->configured_weight != a->configured_weight && a->configured_weight != a->weight)
		err = backend_of(p, change(p->plan, PLAN_BACKEND_CONFIGURED, "backend", a->name, "changed",
					   "configured weight %u becomes %u, %u by command stays", b->configured_weight,
					   a->configured_weight, a->weight));
	if (!err && strcmp(b->domain, a->domain) != 0)
		err = backend_of(p, change(p->plan, PLAN_BACKEND_WEIGHT, "backend", a->name, "changed",
					   "domain %s becomes %s", b->domain[0] ? b->domain : "its own",
					   a->domain[0] ? a->domain : "its own"));
	if (!err && b->forward != a->forward)
		err = backend_of(p,
				 change(p->plan, PLAN_BACKEND_FORWARD, "backend", a->name, "changed",
					"forward %s becomes %s", forward_name(b->forward), forward_name(a->forward)));
	if (!err && !check_equal(&b->check, &a->check))
		err = backend_of(p, check_changed(p->plan, b, a));
	return err;
}

static int pool_pair(void *arg, const void *before, const void *after)
{
	static const struct config_pool none;
	struct plan *plan = arg;
	const struct config_pool *b = before ? before : &none, *a = after ? after : &none;
	struct pool_pair pair = { plan, after ? a->name : b->name };
	int err = 0;

	if (!before)
		err = change(plan, PLAN_POOL_ADDED, "pool", a->name, "added", "with %u slots", a->n_slots);
	else if (!after)
		err = change(plan, PLAN_POOL_REMOVED, "pool", b->name, "removed", "with its backends");
	else if (b->n_slots != a->n_slots)
		err = change(plan, PLAN_POOL_SLOTS, "pool", a->name, "changed", "slots %u becomes %u", b->n_slots,
			     a->n_slots);
	if (!err && before && after && b->max_soft_eject != a->max_soft_eject)
		err = change(plan, PLAN_POOL_SOFT_EJECT, "pool", a->name, "changed", "max_soft_eject %u%% becomes %u%%",
			     b->max_soft_eject, a->max_soft_eject);
	if (err)
		return err;
	return pairs_walk(b->backends, b->n_backends, a->backends, a->n_backends, sizeof(*a->backends), backend_pair,
			  &pair);
}

/* ---- VIPs ---- */

/* What the walk through the VIPs carries. */
struct vip_walk {
	struct plan *plan;
	const struct config *before, *after;
};

static void hash_print(char *buffer, size_t size, const struct config_vip *v)
{
	if (v->hash == HASH_5TUPLE)
		snprintf(buffer, size, "5tuple");
	else
		snprintf(buffer, size, "source/%u", v->hash_prefix);
}

/* What distinguishes the packets of one VIP from another's. */
static int vip_place(struct plan *plan, enum plan_kind kind, const struct config_vip *v, const char *what)
{
	const char *protocol = v->protocol == IPPROTO_UDP ? "udp" : "tcp";
	char address[ADDRESS_TEXT_MAX];

	address_format(&v->address, address, sizeof(address));
	if (!v->port)
		return change(plan, kind, "vip", v->name, what, "at %s %s, every port", protocol, address);
	return change(plan, kind, "vip", v->name, what, "at %s %s port %u", protocol, address, v->port);
}

static int vip_changes(const struct vip_walk *w, const struct config_vip *b, const struct config_vip *a)
{
	static const char *const failures[] = {
		[ON_FAILURE_RESET] = "reset", [ON_FAILURE_REHASH] = "rehash", [ON_FAILURE_DROP] = "drop"
	};
	const char *pool_before = w->before->pools[b->pool].name, *pool_after = w->after->pools[a->pool].name;
	char hash_before[16], hash_after[16];
	int err = 0;

	hash_print(hash_before, sizeof(hash_before), b);
	hash_print(hash_after, sizeof(hash_after), a);
	if (strcmp(pool_before, pool_after) != 0)
		err = change(w->plan, PLAN_VIP_MOVED, "vip", a->name, "changed", "pool %s becomes %s", pool_before,
			     pool_after);
	if (!err && strcmp(hash_before, hash_after) != 0)
		err = change(w->plan, PLAN_VIP_MOVED, "vip", a->name, "changed", "hash %s becomes %s", hash_before,
			     hash_after);
	if (!err && b->on_failure != a->on_failure)
		err = change(w->plan, PLAN_VIP_RULES, "vip", a->name, "changed", "on_failure %s becomes %s",
			     failures[b->on_failure], failures[a->on_failure]);
	if (!err && (b->syn_limit.action != a->syn_limit.action || b->syn_limit.rate != a->syn_limit.rate ||
		     b->syn_limit.burst != a->syn_limit.burst || b->syn_limit.prefix != a->syn_limit.prefix))
		err = change(w->plan, PLAN_VIP_RULES, "vip", a->name, "changed", "another syn_limit");
	if (!err && b->required != a->required)
		err = change(w->plan, PLAN_VIP_RULES, "vip", a->name, "changed", "%s",
			     a->required ? "required" : "no longer required");
	return err;
}

/* The same VIP in another configuration, whatever its name; NULL: it isn't there. */
static const struct config_vip *vip_in(const struct config *config, const struct config_vip *v)
{
	for (size_t i = 0; i < config->n_vips; i++) {
		const struct config_vip *other = &config->vips[i];

		if (address_equal(&other->address, &v->address) && other->protocol == v->protocol &&
		    other->port == v->port)
			return other;
	}
	return NULL;
}

static int vip_pair(void *arg, const void *before, const void *after)
{
	const struct vip_walk *w = arg;
	const struct config_vip *was;
	int err = 0;

	if (before && !vip_in(w->after, before))
		err = vip_place(w->plan, PLAN_VIP_REMOVED, before, "removed");
	if (err || !after)
		return err;
	was = vip_in(w->before, after);
	if (!was)
		return vip_place(w->plan, PLAN_VIP_ADDED, after, "added");
	if (strcmp(was->name, ((const struct config_vip *)after)->name) != 0)
		err = change(w->plan, PLAN_VIP_RENAMED, "vip", ((const struct config_vip *)after)->name, "renamed",
			     "from %s", was->name);
	return err ? err : vip_changes(w, was, after);
}

/* ---- what there is one of ---- */

static int interface_pair(void *arg, const void *before, const void *after)
{
	if (before && after)
		return 0;
	return change(arg, after ? PLAN_INTERFACE_ADDED : PLAN_INTERFACE_REMOVED, "interface", after ? after : before,
		      after ? "added" : "removed", "%s", "");
}

static int duration_change(struct plan *plan, enum plan_kind kind, const char *key, uint64_t before_ns,
			   uint64_t after_ns)
{
	char before[DURATION_TEXT_MAX], after[DURATION_TEXT_MAX];

	if (before_ns == after_ns)
		return 0;
	return change(plan, kind, "config", key, "changed", "%s becomes %s",
		      duration_format(before_ns, before, sizeof(before)),
		      duration_format(after_ns, after, sizeof(after)));
}

static int settings_compare(struct plan *plan, const struct config *b, const struct config *a)
{
	static const char *const detectors[] = { [DETECTOR_KERNEL] = "kernel", [DETECTOR_CONTROLLER] = "controller" };
	int err = duration_change(plan, PLAN_PROBE, "probe.interval", b->probe_interval_ns, a->probe_interval_ns);

	if (!err && b->probe_multiplier != a->probe_multiplier)
		err = change(plan, PLAN_PROBE, "config", "probe.multiplier", "changed", "%u becomes %u",
			     b->probe_multiplier, a->probe_multiplier);
	if (!err)
		err = duration_change(plan, PLAN_PROBE, "probe.doubt", b->probe_doubt_ns, a->probe_doubt_ns);
	if (!err)
		err = duration_change(plan, PLAN_PROBE, "probe.hold", b->probe_hold_ns, a->probe_hold_ns);
	if (!err)
		err = duration_change(plan, PLAN_PROBE, "probe.hold_max", b->probe_hold_max_ns, a->probe_hold_max_ns);
	if (!err && strcmp(b->probe_key_file, a->probe_key_file) != 0)
		err = change(plan, PLAN_PROBE, "config", "probe.key_file", "changed", "%s becomes %s",
			     b->probe_key_file[0] ? b->probe_key_file : "none",
			     a->probe_key_file[0] ? a->probe_key_file : "none");
	if (!err && b->probe_cpu != a->probe_cpu)
		err = change(plan, PLAN_PROBE, "config", "probe.cpu", "changed", "another CPU");
	if (!err && b->detector != a->detector)
		err = change(plan, PLAN_PROBE, "config", "detector", "changed", "%s becomes %s", detectors[b->detector],
			     detectors[a->detector]);
	if (!err)
		err = duration_change(plan, PLAN_FLOWS, "flows.closed", b->flows_closed_ns, a->flows_closed_ns);
	if (!err)
		err = duration_change(plan, PLAN_FLOWS, "flows.idle", b->flows_idle_ns, a->flows_idle_ns);
	return err;
}

/* The key that can't change while shuntd runs and does; NULL: none. */
static const char *fixed_key(const struct config *b, const struct config *a)
{
	if (b->seed != a->seed)
		return "seed";
	if (b->flows_max != a->flows_max)
		return "flows.max";
	if (strcmp(b->control_socket, a->control_socket) != 0)
		return "control.socket";
	if (strcmp(b->control_group, a->control_group) != 0)
		return "control.group";
	if (strcmp(b->control_admins, a->control_admins) != 0)
		return "control.admins";
	if (strcmp(b->pin, a->pin) != 0)
		return "pin";
	if (strcmp(b->state, a->state) != 0)
		return "state";
	if (memcmp(&b->keepalived, &a->keepalived, sizeof(a->keepalived)) != 0)
		return "keepalived";
	if (memcmp(&b->peer, &a->peer, sizeof(a->peer)) != 0)
		return "peer";
	if (memcmp(&b->http, &a->http, sizeof(a->http)) != 0)
		return "http";
	return NULL;
}

int plan_make(struct plan *plan, const struct config *before, const struct config *after, char *why, size_t why_size)
{
	struct vip_walk vips = { plan, before, after };
	int err;

	plan->fixed = fixed_key(before, after);
	if (plan->fixed) {
		snprintf(why, why_size, "%s can't change while shuntd runs: restart it, or leave it as it was",
			 plan->fixed);
		return -EPERM;
	}
	err = pairs_walk(before->interfaces, before->n_interfaces, after->interfaces, after->n_interfaces,
			 sizeof(*after->interfaces), interface_pair, plan);
	if (!err)
		err = settings_compare(plan, before, after);
	if (!err)
		err = pairs_walk(before->pools, before->n_pools, after->pools, after->n_pools, sizeof(*after->pools),
				 pool_pair, plan);
	if (!err)
		err = pairs_walk(before->vips, before->n_vips, after->vips, after->n_vips, sizeof(*after->vips),
				 vip_pair, &vips);
	if (err)
		snprintf(why, why_size, "out of memory");
	return err;
}

void plan_free(struct plan *plan)
{
	free(plan->changes);
	*plan = (struct plan){ 0 };
}

const char *plan_change_text(const struct plan_change *c, char *buffer, size_t size)
{
	bool changed = !strcmp(c->what, "changed");

	snprintf(buffer, size, "%s %s%s %s%s%s", c->object, c->name, changed ? ":" : "", changed ? "" : c->what,
		 !changed && c->detail[0] ? " " : "", c->detail);
	return buffer;
}
