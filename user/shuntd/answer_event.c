/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer_event.c - what happened, and what it came to: the ledger's events, availability, pools.
 */
#include "common/clock.h"
#include "shuntd/answer.h"

#include <time.h>

#include "core/wall_time.h"
#include "shuntd/record.h"

static uint64_t arg_from(const struct request *r, uint64_t otherwise)
{
	const json_t *from = json_object_get(r->args, "from");

	return from && json_integer_value(from) > 0 ? (uint64_t)json_integer_value(from) : otherwise;
}

/*
 * "since": a moment, or how long ago. *wall_ns is CLOCK_REALTIME, *ago_ns the same seen from now; both are left alone where it
 * isn't there. False: refused.
 */
static bool arg_since(struct request *r, int64_t *wall_ns, uint64_t *ago_ns)
{
	const char *text = arg_string(r, "since");
	int64_t now_ns = clock_ns(CLOCK_REALTIME);

	if (!text)
		return true;
	if (!duration_parse(ago_ns, text) && *ago_ns <= INT64_MAX) {
		*wall_ns = now_ns - (int64_t)*ago_ns;
		return true;
	}
	if (!wall_time_parse(wall_ns, text)) {
		*ago_ns = now_ns > *wall_ns ? (uint64_t)(now_ns - *wall_ns) : 0;
		return true;
	}
	refuse(r, CONTROL_MISUSE,
	       "'since' is how long ago, such as 1h, or a moment such as 2026-11-21T06:00:00Z, not '%s'", quoted(text));
	return false;
}

/* ---- events ---- */

json_t *event_show(struct request *r)
{
	struct ledger_filter filter = { .from = arg_from(r, 1),
					.object = arg_string(r, "object"),
					.name = arg_string(r, "name"),
					.what = arg_string(r, "what") };
	const char *since = arg_string(r, "since");
	uint64_t ago_ns;

	if (since && *since && strspn(since, "0123456789") == strlen(since)) /* a number: another word for `from` */
		filter.from = strtoull(since, NULL, 10);
	else if (!arg_since(r, &filter.since_ns, &ago_ns))
		return NULL;
	return ledger_find(r->shuntd->ledger, &filter);
}

json_t *event_monitor(struct request *r)
{
	uint64_t next;

	json_decref(ledger_since(r->shuntd->ledger, UINT64_MAX, &next));
	r->monitor = true;
	r->monitor_from = arg_from(r, next);
	return NULL;
}

/* ---- availability ---- */

static json_t *mean_us(uint64_t sum_ns, uint64_t n)
{
	return n ? us_json(sum_ns / n) : json_null();
}

static void availability_set(json_t *o, const struct availability *a)
{
	uint64_t up_ns = a->time_ns[STANDING_UP], down_ns = a->time_ns[STANDING_DOWN];

	json_object_set_new(o, "availability_percent",
			    up_ns + down_ns ? json_real(100.0 * (double)up_ns / (double)(up_ns + down_ns))
					    : json_null());
	json_object_set_new(o, "failures", json_integer((json_int_t)a->failures));
	json_object_set_new(o, "mttf_us", mean_us(a->up_times_ns, a->failures));
	json_object_set_new(o, "mttr_us", mean_us(a->repairs_ns, a->repairs));
	json_object_set_new(o, "up_us", us_json(up_ns));
	json_object_set_new(o, "down_us", us_json(down_ns));
	json_object_set_new(o, "drained_us", us_json(a->time_ns[STANDING_DRAINED]));
	json_object_set_new(o, "unknown_us", us_json(a->time_ns[STANDING_UNKNOWN]));
}

static json_t *availability_json(const struct record_figures *figures, const struct availability *a)
{
	char since[WALL_TIME_TEXT_MAX];
	json_t *o = json_pack("{s:s}", "since", wall_time_format(figures->since_ns, since, sizeof(since)));

	availability_set(o, a);
	return o;
}

json_t *backend_availability(const struct shuntd *s, const struct backend_run *b)
{
	struct record_figures figures;
	json_t *o = NULL;

	if (!s->ledger || record_figures(s->record, UINT64_MAX, &figures))
		return json_null();
	for (size_t i = 0; i < s->n_backends; i++)
		if (s->backends[i] == b)
			o = availability_json(&figures, &figures.backends[i]);
	record_figures_free(&figures);
	return o ? o : json_null();
}

/* The failovers since then, with the outage if the backend was back only after its record was made. */
static json_t *failovers_json(const struct shuntd *s, int64_t since_ns)
{
	const struct ledger_filter filter = { .since_ns = since_ns, .object = "backend" };
	json_t *events = ledger_find(s->ledger, &filter), *list = json_array(), *event, *other;
	size_t i, j;

	json_array_foreach(events, i, event)
	{
		json_t *f, *evidence = json_object_get(event, "evidence"), *name = json_object_get(event, "name");

		if (strcmp(json_string_value(json_object_get(event, "what")), "failover"))
			continue;
		f = json_object();
		json_object_set(f, "number", json_object_get(event, "number"));
		json_object_set(f, "time", json_object_get(event, "time"));
		json_object_set(f, "backend", name);
		json_object_set(f, "verdict", json_object_get(event, "why"));
		json_object_update(f, evidence);
		for (j = i + 1; json_is_null(json_object_get(f, "outage_us")) && j < json_array_size(events); j++) {
			other = json_array_get(events, j);
			if (!json_equal(json_object_get(other, "name"), name) || event_is_of_replaced(other))
				continue;
			if (!strcmp(json_string_value(json_object_get(other, "what")), "down"))
				break; /* of another outage */
			other = json_object_get(json_object_get(other, "evidence"), "outage_us");
			if (other)
				json_object_set(f, "outage_us", other);
		}
		json_array_append_new(list, f);
	}
	json_decref(events);
	return list;
}

json_t *event_summary(struct request *r)
{
	const struct shuntd *s = r->shuntd;
	json_t *backends = json_array(), *pools = json_array(), *o;
	uint64_t ago_ns = UINT64_MAX;
	struct record_figures figures;
	char since[WALL_TIME_TEXT_MAX];
	int64_t wall_ns = 0;

	if (!arg_since(r, &wall_ns, &ago_ns) || record_figures(s->record, ago_ns, &figures)) {
		json_decref(backends);
		json_decref(pools);
		return NULL;
	}
	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];

		if (backend_is_replaced(s, b))
			continue;
		o = json_pack("{s:s, s:s, s:s}", "name", b->conf.name, "pool", b->pool->name, "state",
			      backend_state_name(backend_word(s, b->id)));
		availability_set(o, &figures.backends[i]);
		json_array_append_new(backends, o);
	}
	for (size_t i = 0; i < s->n_pools; i++) {
		if (s->pools[i]->removed)
			continue;
		o = json_pack("{s:s}", "name", s->pools[i]->name);
		availability_set(o, &figures.pools[i]);
		json_array_append_new(pools, o);
	}
	o = json_pack("{s:s, s:o, s:o, s:o, s:o}", "since", wall_time_format(figures.since_ns, since, sizeof(since)),
		      "window_us", us_json(figures.window_ns), "pools", pools, "backends", backends, "failovers",
		      failovers_json(s, figures.since_ns));
	record_figures_free(&figures);
	return o;
}

/* ---- pool ---- */

/* availability: takes over the reference. */
static json_t *pool_json(const struct shuntd *s, const struct pool_run *pool, json_t *availability)
{
	size_t n[BACKEND_DRAINING + 1] = { 0 }, n_backends = 0;
	char rebuilt[WALL_TIME_TEXT_MAX] = "";
	uint64_t live = 0;

	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];

		if (b->pool != pool)
			continue;
		n_backends++;
		n[BACKEND_WORD_STATE(backend_word(s, b->id)) % (BACKEND_DRAINING + 1)]++;
		live += __atomic_load_n(&dataplane_backend_flows(s->dataplane)[b->id].live, __ATOMIC_RELAXED);
	}
	if (pool->rebuilt_ns)
		wall_time_format(clock_ns(CLOCK_REALTIME) - (monotonic_ns() - (int64_t)pool->rebuilt_ns), rebuilt,
				 sizeof(rebuilt));
	return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:I, s:o, s:s?, s:o, s:i, s:o}", "name", pool->name, "slots",
			 (int)pool->n_slots, "backends", (int)n_backends, "up", (int)n[BACKEND_UP], "draining",
			 (int)n[BACKEND_DRAINING], "down", (int)n[BACKEND_DOWN], "live", (json_int_t)live,
			 "heirs_changed", integer_or_null(s->ledger, pool->heirs_swapped), "rebuilt",
			 *rebuilt ? rebuilt : NULL, "rebuilt_ns", integer_or_null(pool->rebuilt_ns, pool->rebuilt_ns),
			 "max_soft_eject_percent", (int)pool->max_soft_eject, "availability", availability);
}

json_t *pool_show(struct request *r)
{
	const struct shuntd *s = r->shuntd;
	const char *name = arg_string(r, "name");
	struct record_figures figures = { 0 };
	json_t *list;

	if (s->ledger && record_figures(s->record, UINT64_MAX, &figures))
		return NULL;
	list = json_array();
	for (size_t i = 0; i < s->n_pools; i++)
		if (!s->pools[i]->removed && (!name || !strcmp(name, s->pools[i]->name)))
			json_array_append_new(list, pool_json(s, s->pools[i],
							      s->ledger ? availability_json(&figures, &figures.pools[i])
									: json_null()));
	record_figures_free(&figures);
	if (!name || json_array_size(list))
		return list;
	json_decref(list);
	return refuse_unknown(r, "pool", name);
}
