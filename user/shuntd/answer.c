/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer.c - what each request is answered: one function a command, found through the table at the end. Those about
 * flows, probes, the configuration, events and pools are in answer_flow.c, answer_probe.c, answer_config.c and
 * answer_event.c.
 *
 * Reads the controller's state and the shared memory; what changes anything is done elsewhere, and asked of here. Called
 * by control.c from the main loop, which it must not keep: nothing here waits, and what is long is answered in pages.
 */
#include "shuntd/answer.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <time.h>

#include "common/clock.h"
#include "shuntd/backends.h"
#include "shuntd/health.h"
#include "shuntd/journal.h"
#include "shuntd/keepalived.h"
#include "shuntd/peer.h"
#include "shuntd/reload.h"

/* ---- refusals ---- */

json_t *refuse(struct request *r, enum control_code code, const char *format, ...)
{
	va_list ap;

	r->code = code;
	va_start(ap, format);
	vsnprintf(r->error, sizeof(r->error), format, ap);
	va_end(ap);
	return NULL;
}

const char *quoted(const char *text)
{
	return strlen(text) < CONFIG_NAME_MAX ? text : "";
}

json_t *refuse_unknown(struct request *r, const char *what, const char *name)
{
	return refuse(r, CONTROL_REFUSED, "there is no %s '%s'", what, quoted(name));
}

const char *arg_string(const struct request *r, const char *key)
{
	return json_string_value(json_object_get(r->args, key));
}

/* ---- values ---- */

/* Memory that the kernel or the prober writes meanwhile. */
static uint64_t load(const __u64 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static uint32_t load32(const __u32 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

json_t *integer_or_null(bool known, uint64_t value)
{
	return known ? json_integer((json_int_t)value) : json_null();
}

json_t *us_json(uint64_t ns)
{
	return json_integer((json_int_t)((ns + 500) / 1000));
}

/* An interval may be no whole number of them. */
json_t *interval_json(uint64_t ns)
{
	return ns % 1000 ? json_real((double)ns / 1000) : us_json(ns);
}

json_t *address_json(const struct shunt_addr *address)
{
	char text[ADDRESS_TEXT_MAX];

	return json_string(address_format(address, text, sizeof(text)));
}

uint32_t backend_word(const struct shuntd *s, uint16_t id)
{
	return __atomic_load_n(&dataplane_backends(s->dataplane)[id].word, __ATOMIC_RELAXED);
}

bool backend_is_up(const void *shuntd, uint16_t id)
{
	return BACKEND_WORD_STATE(backend_word(shuntd, id)) == BACKEND_UP;
}

const char *backend_name(const struct shuntd *s, uint16_t id)
{
	const struct backend_run *b = backend_by_id(s, id);

	return b ? b->conf.name : NULL;
}

static void traffic_set(json_t *object, bool known, const struct traffic *t)
{
	json_object_set_new(object, "packets", integer_or_null(known, t->packets));
	json_object_set_new(object, "bytes", integer_or_null(known, t->bytes));
	json_object_set_new(object, "new_flows", integer_or_null(known, t->new_flows));
}

static const char *protocol_name(uint8_t protocol)
{
	return protocol == IPPROTO_UDP ? "udp" : "tcp";
}

/* ---- vip ---- */

const char *on_failure_name(enum on_failure on_failure)
{
	static const char *const names[] = {
		[ON_FAILURE_RESET] = "reset", [ON_FAILURE_REHASH] = "rehash", [ON_FAILURE_DROP] = "drop"
	};

	return names[on_failure];
}

static json_t *syn_limit_json(const struct config_syn_limit *limit)
{
	if (limit->action == SYN_LIMIT_OFF)
		return json_null();
	return json_pack("{s:I, s:I, s:i, s:s}", "rate", (json_int_t)limit->rate, "burst", (json_int_t)limit->burst,
			 "prefix", limit->prefix, "action", limit->action == SYN_LIMIT_DROP ? "drop" : "count");
}

json_t *vip_json(const struct shuntd *s, const struct vip_run *run)
{
	const struct config_vip *v = &run->conf;
	char hash[32], interface[IF_NAMESIZE];
	struct traffic t;
	bool known;
	json_t *o;

	if (v->hash == HASH_5TUPLE)
		snprintf(hash, sizeof(hash), "5tuple");
	else if (v->hash_prefix == (address_is_v4(&v->address) ? 32 : 128))
		snprintf(hash, sizeof(hash), "source");
	else
		snprintf(hash, sizeof(hash), "source/%u", v->hash_prefix);
	o = json_pack("{s:s, s:o, s:s, s:i, s:s, s:s, s:s, s:i, s:i}", "name", v->name, "address",
		      address_json(&v->address), "protocol", protocol_name(v->protocol), "port", v->port, "pool",
		      run->pool->name, "policy", "maglev", "hash", hash, "id", (int)run->id, "slots",
		      (int)run->pool->n_slots);
	known = !dataplane_vip_traffic(s->dataplane, run->id, &t);
	traffic_set(o, known, &t);
	json_object_set_new(o, "policed", integer_or_null(known, t.policed));
	json_object_set_new(o, "on_failure", json_string(on_failure_name(v->on_failure)));
	json_object_set_new(o, "syn_limit", syn_limit_json(&v->syn_limit));
	json_object_set_new(o, "held", s->health ? json_boolean(run->held_ifindex) : json_null());
	json_object_set_new(o, "held_by",
			    if_indextoname(run->held_ifindex, interface) ? json_string(interface) : json_null());
	return o;
}

static json_t *vip_show(struct request *r)
{
	const char *name = arg_string(r, "name");
	json_t *list = json_array();

	for (size_t i = 0; i < r->shuntd->n_vips; i++)
		if (!name || !strcmp(name, r->shuntd->vips[i]->conf.name))
			json_array_append_new(list, vip_json(r->shuntd, r->shuntd->vips[i]));
	if (!name || json_array_size(list))
		return list;
	json_decref(list);
	return refuse_unknown(r, "VIP", name);
}

/* ---- backend ---- */

static uint64_t live_flows(const struct shuntd *s, const struct backend_run *b)
{
	return load(&dataplane_backend_flows(s->dataplane)[b->id].live);
}

/* Draining: why, how long until the rest is cut, whether it is over and how it ended. */
static void drain_set(json_t *o, const struct backend_run *b)
{
	uint64_t now = monotonic_ns(), deadline = b->drain_deadline_ns;
	bool draining = b->draining != VERDICT_NONE;

	json_object_set_new(o, "draining",
			    draining ? json_string(backend_verdict_name(BACKEND_WORD(BACKEND_DRAINING, b->draining)))
				     : json_null());
	json_object_set_new(o, "deadline_us",
			    draining && deadline && !b->drained ? us_json(deadline > now ? deadline - now : 0)
								: json_null());
	json_object_set_new(o, "drained", json_boolean(draining && b->drained));
	json_object_set_new(o, "cut", integer_or_null(draining && b->drained, b->n_cut));
}

/* Down, and it was up before: how long it has to answer, and how much of that is left once it does. */
void hold_set(json_t *o, const struct shuntd *s, const struct backend_run *b)
{
	struct admission_limits limits = backends_limits(s);
	uint64_t hold_ns = admission_hold_ns(&b->admission, &limits);
	bool waits = hold_ns && BACKEND_WORD_STATE(backend_word(s, b->id)) == BACKEND_DOWN;

	json_object_set_new(o, "hold_us", waits ? us_json(hold_ns) : json_null());
	json_object_set_new(o, "hold_left_us",
			    waits && b->admission.answering_since_ns
				    ? us_json(admission_left_ns(&b->admission, &limits, monotonic_ns()))
				    : json_null());
}

json_t *backend_json(const struct shuntd *s, const struct backend_run *b)
{
	const struct backend *record = &dataplane_backends(s->dataplane)[b->id];
	const struct nexthop *hop = &b->nexthop;
	uint32_t word = backend_word(s, b->id);
	char since[32] = "", mac[18] = "", egress[IF_NAMESIZE] = "";
	time_t since_s = b->since_wall_s;
	struct traffic t;
	struct tm tm;
	json_t *o;

	if (b->since_ns)
		strftime(since, sizeof(since), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&since_s, &tm));
	if (b->resolved) {
		snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", hop->dst_mac[0], hop->dst_mac[1],
			 hop->dst_mac[2], hop->dst_mac[3], hop->dst_mac[4], hop->dst_mac[5]);
		if_indextoname(hop->ifindex, egress);
	}
	o = json_pack("{s:s, s:s, s:i, s:o, s:s, s:i, s:s, s:s, s:s, s:s?, s:o}", "name", b->conf.name, "pool",
		      b->pool->name, "id", b->id, "address", address_json(&b->conf.address), "forward",
		      b->conf.forward == FORWARD_L2 ? "l2" : "ipip", "weight", (int)b->conf.weight, "domain",
		      b->conf.domain, "state", backend_state_name(word), "verdict", backend_verdict_name(word), "since",
		      *since ? since : NULL, "since_ns", integer_or_null(b->since_ns, b->since_ns));
	json_object_set_new(o, "configured_weight", json_integer(b->conf.configured_weight));
	traffic_set(o, !dataplane_backend_traffic(s->dataplane, b->id, &t), &t);
	json_object_set_new(o, "live", json_integer((json_int_t)live_flows(s, b)));
	json_object_set_new(o, "failures", json_integer((json_int_t)b->n_failures));
	json_object_set_new(o, "detours", json_integer((json_int_t)load32(&record->detours)));
	json_object_set_new(o, "doubted", json_boolean(backend_is_doubted(s, b)));
	drain_set(o, b);
	hold_set(o, s, b);
	json_object_set_new(o, "egress", *egress ? json_string(egress) : json_null());
	json_object_set_new(o, "mac", *mac ? json_string(mac) : json_null());
	json_object_set_new(o, "mtu", integer_or_null(b->resolved, hop->mtu_bytes));
	json_object_set_new(o, "local", b->resolved ? address_json(&hop->local) : json_null());
	return o;
}

json_t *backends_json(struct request *r, json_t *(*json)(const struct shuntd *, const struct backend_run *))
{
	const char *name = arg_string(r, "name");
	json_t *list = json_array();

	for (size_t i = 0; i < r->shuntd->n_backends; i++)
		if (!name || !strcmp(name, r->shuntd->backends[i]->conf.name))
			json_array_append_new(list, json(r->shuntd, r->shuntd->backends[i]));
	if (!name || json_array_size(list))
		return list;
	json_decref(list);
	return refuse_unknown(r, "backend", name);
}

/* Availability takes a look at the whole record: of the one that args name only. */
static json_t *backend_show(struct request *r)
{
	const char *name = arg_string(r, "name");
	json_t *list = backends_json(r, backend_json);
	const struct backend_run *b = name && list ? backend_find(r->shuntd, name) : NULL;

	if (b)
		json_object_set_new(json_array_get(list, 0), "availability", backend_availability(r->shuntd, b));
	return list;
}

/* The backend that args name, or NULL and the refusal. */
static struct backend_run *backend_named(struct request *r)
{
	const char *name = arg_string(r, "name");
	struct backend_run *b = name ? backend_find(r->shuntd, name) : NULL;

	if (!name)
		refuse(r, CONTROL_MISUSE, "a backend has a name: name one");
	else if (!b)
		refuse_unknown(r, "backend", name);
	return b;
}

/* How the backend stands after a drain or its end. Takes over `notes`. */
static json_t *drain_outcome(const struct shuntd *s, const struct backend_run *b, json_t *notes)
{
	const char *state = backend_state_name(backend_word(s, b->id));
	uint64_t live = live_flows(s, b);
	char text[CONFIG_NAME_MAX + 64];
	json_t *o;

	snprintf(text, sizeof(text), "%s: %s, %llu live %s", b->conf.name, state, (unsigned long long)live,
		 live == 1 ? "flow" : "flows");
	o = json_pack("{s:s, s:s, s:I, s:o, s:s}", "name", b->conf.name, "state", state, "live", (json_int_t)live,
		      "notes", notes, "text", text);
	drain_set(o, b);
	return o;
}

static json_t *note(const char *format, const char *name)
{
	char text[CONFIG_NAME_MAX + 96];

	snprintf(text, sizeof(text), format, name);
	return json_string(text);
}

static bool pool_serves(const struct shuntd *s, const struct pool_run *pool)
{
	for (size_t i = 0; i < s->n_backends; i++)
		if (s->backends[i]->pool == pool && backend_is_up(s, s->backends[i]->id))
			return true;
	return false;
}

static json_t *backend_drain(struct request *r)
{
	const json_t *within = json_object_get(r->args, "within_ns");
	struct backend_run *b = backend_named(r);
	uint64_t deadline_ns = 0;
	json_t *notes;
	int err;

	if (!b)
		return NULL;
	if (within && json_integer_value(within) < 0)
		return refuse(r, CONTROL_MISUSE, "a deadline is not in the past");
	if (within && __builtin_add_overflow(monotonic_ns(), (uint64_t)json_integer_value(within), &deadline_ns))
		return refuse(r, CONTROL_MISUSE, "a deadline is not that far away");
	err = backends_drain(r->shuntd, b, VERDICT_DRAINED, deadline_ns);
	if (err && err != -EALREADY && err != -ENOTCONN)
		return refuse(r, CONTROL_REFUSED, "cannot drain '%s': %s", b->conf.name, strerror(-err));
	notes = json_array();
	if (err == -EALREADY)
		json_array_append_new(notes, note(deadline_ns ? "%s was draining already: the deadline is new"
							      : "%s was draining already",
						  b->conf.name));
	if (err == -ENOTCONN)
		json_array_append_new(
			notes, note("%s is down: it will stay out of service until 'backend undrain'", b->conf.name));
	if (!pool_serves(r->shuntd, b->pool))
		json_array_append_new(notes, note("warning: no backend of pool %s takes new flows now", b->pool->name));
	return drain_outcome(r->shuntd, b, notes);
}

static json_t *backend_undrain(struct request *r)
{
	struct backend_run *b = backend_named(r);
	json_t *notes;
	int err;

	if (!b)
		return NULL;
	err = backends_undrain(r->shuntd, b);
	if (err == -EPERM)
		return refuse(r, CONTROL_REFUSED, "'%s' drains because the configuration no longer has it",
			      b->conf.name);
	if (err == -EBUSY)
		return refuse(r, CONTROL_REFUSED,
			      "'%s' drains because its agent asks for it: 'shunt-agent undrain' on its host ends that",
			      b->conf.name);
	if (err == -EAGAIN)
		return refuse(r, CONTROL_REFUSED, "'%s' gets no new flow until its engine is ready", b->conf.name);
	if (err && err != -EALREADY)
		return refuse(r, CONTROL_REFUSED, "cannot undrain '%s': %s", b->conf.name, strerror(-err));
	notes = json_array();
	if (err == -EALREADY)
		json_array_append_new(notes, note("%s was not draining", b->conf.name));
	return drain_outcome(r->shuntd, b, notes);
}

static json_t *backend_set(struct request *r)
{
	json_int_t weight = json_integer_value(json_object_get(r->args, "weight"));
	struct backend_run *b = backend_named(r);
	char text[CONFIG_NAME_MAX + 64];

	if (!b)
		return NULL;
	if (!json_object_get(r->args, "weight"))
		return refuse(r, CONTROL_MISUSE, "say which weight");
	if (weight < 0 || weight > UINT16_MAX)
		return refuse(r, CONTROL_REFUSED, "a weight is a number from 1 to %d", UINT16_MAX);
	if (shuntd_set_weight(r->shuntd, b, (uint32_t)weight))
		return refuse(r, CONTROL_REFUSED, "the configuration no longer has '%s'", b->conf.name);
	if (b->conf.weight == b->conf.configured_weight)
		snprintf(text, sizeof(text), "%s: weight %u", b->conf.name, b->conf.weight);
	else
		snprintf(text, sizeof(text), "%s: weight %u, configured %u", b->conf.name, b->conf.weight,
			 b->conf.configured_weight);
	return json_pack("{s:s, s:I, s:I, s:s}", "name", b->conf.name, "weight", (json_int_t)b->conf.weight,
			 "configured_weight", (json_int_t)b->conf.configured_weight, "text", text);
}

/* ---- stats ---- */

static json_t *reasons_json(const struct shuntd *s)
{
	static const struct {
		const char *name, *action, *meaning;
	} reasons[] = {
#define REASON_ROW(name, action, sentence) { #name, #action, sentence },
		SHUNT_REASONS(REASON_ROW)
	};
	uint64_t packets[REASON_COUNT] = { 0 };
	bool known = !dataplane_reasons(s->dataplane, packets);
	json_t *list = json_array();

	for (int i = 0; i < REASON_COUNT; i++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:s}", "name", reasons[i].name, "action",
						      reasons[i].action, "packets", integer_or_null(known, packets[i]),
						      "meaning", reasons[i].meaning));
	return list;
}

/* How they stand is told by `flow count`: that takes a look at each. */
static json_t *flows_json(const struct shuntd *s)
{
	struct flow_stats stats = { 0 };
	bool known = !dataplane_flow_stats(s->dataplane, &stats);

	return json_pack("{s:I, s:I, s:o, s:o, s:o}", "capacity",
			 (json_int_t)dataplane_journal_state(s->dataplane)->capacity, "in_use",
			 (json_int_t)journal_in_use(s->journal), "opened", integer_or_null(known, stats.opened), "full",
			 integer_or_null(known, stats.full), "looked_up", integer_or_null(known, stats.looked_up));
}

static json_t *stats_show(struct request *r)
{
	const struct shuntd *s = r->shuntd;
	const struct detector *d = dataplane_detector(s->dataplane);
	const struct prober_stats *prober = s->prober ? prober_stats(s->prober) : NULL;
	uint64_t suspect_ns = load(&d->suspect_since_ns);
	json_t *interfaces = json_array(), *probe;
	char sentence[256];
	const char *ill = shuntd_ill(s, sentence, sizeof(sentence));

	for (size_t i = 0; i < s->config->n_interfaces; i++)
		json_array_append_new(
			interfaces, json_pack("{s:s, s:s}", "name", s->config->interfaces[i], "mode", s->xdp_mode[i]));
	probe = json_pack("{s:o, s:i, s:I, s:o, s:o, s:o, s:o, s:I, s:o, s:o}", "interval_us",
			  interval_json(s->pace.interval_ns), "multiplier", (int)s->config->probe_multiplier, "round",
			  (json_int_t)load(&d->round), "rounds_late",
			  integer_or_null(prober, prober ? prober->rounds_late : 0), "rounds_skipped",
			  integer_or_null(prober, prober ? prober->rounds_skipped : 0), "send_errors",
			  integer_or_null(prober, prober ? prober->send_errors : 0), "late_max_us",
			  prober ? us_json(prober->late_max_ns) : json_null(), "ticks", (json_int_t)load(&d->ticks),
			  "tick_late_max_us", us_json(load(&d->late_max_ns)), "suspect_since_ns",
			  integer_or_null(suspect_ns, suspect_ns));
	json_object_set_new(probe, "configured_interval_us", interval_json(s->config->probe_interval_ns));
	json_object_set_new(probe, "round_cost_us", prober ? us_json(prober->round_ns) : json_null());
	return json_pack("{s:I, s:o, s:s?, s:s, s:s?, s:o, s:o, s:o, s:o, s:o, s:o}", "now_ns",
			 (json_int_t)monotonic_ns(), "uptime_s",
			 integer_or_null(s->ledger, (monotonic_ns() - s->started_ns) / 1000000000), "detector",
			 !s->ledger                       ? NULL
			 : s->detector == DETECTOR_KERNEL ? "kernel"
							  : "controller",
			 "health", ill ? "ill" : "well", "ill_because", ill, "track_file",
			 keepalived_track_json(s->keepalived), "vrrp", keepalived_instances_json(s->keepalived),
			 "interfaces", interfaces, "probe", probe, "flows", flows_json(s), "reasons", reasons_json(s));
}

/* ---- slot ---- */

static void slots_count(json_t *list, const struct shuntd *s, const struct pool_run *pool, uint32_t (*counts)[2])
{
	uint32_t n_slots = 0;
	const struct slot *slots = table_slots(pool->table, &n_slots);

	memset(counts, 0, SHUNT_MAX_BACKENDS * sizeof(*counts));
	for (uint32_t i = 0; i < n_slots; i++) {
		if (slots[i].owner < SHUNT_MAX_BACKENDS)
			counts[slots[i].owner][0]++;
		if (slots[i].heir < SHUNT_MAX_BACKENDS)
			counts[slots[i].heir][1]++;
	}
	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];

		if (b->pool == pool && !backend_is_replaced(s, b))
			json_array_append_new(list, json_pack("{s:s, s:i, s:s, s:i, s:i}", "pool", pool->name, "slots",
							      (int)n_slots, "backend", b->conf.name, "owner",
							      (int)counts[b->id][0], "heir", (int)counts[b->id][1]));
	}
}

static json_t *slot_json(struct request *r, const struct pool_run *pool, json_int_t number)
{
	const struct shuntd *s = r->shuntd;
	uint32_t n_slots = 0;
	const struct slot *slots = table_slots(pool->table, &n_slots);
	uint16_t ids[8]; /* enough of the order of succession to see who follows */
	json_t *succession;
	size_t n;

	if (number < 0 || number >= n_slots)
		return refuse(r, CONTROL_REFUSED, "pool '%s' has slots 0 to %u", pool->name, n_slots ? n_slots - 1 : 0);
	succession = json_array();
	n = table_succession(pool->table, (uint32_t)number, ids, sizeof(ids) / sizeof(*ids));
	for (size_t i = 0; i < n; i++)
		json_array_append_new(succession, json_string(backend_name(s, ids[i])));
	return json_pack("{s:s, s:I, s:s?, s:s?, s:o}", "pool", pool->name, "slot", number, "owner",
			 backend_name(s, slots[number].owner), "heir", backend_name(s, slots[number].heir),
			 "succession", succession);
}

static json_t *slot_show(struct request *r)
{
	const struct shuntd *s = r->shuntd;
	const char *name = arg_string(r, "pool");
	const json_t *slot = json_object_get(r->args, "slot");
	uint32_t(*counts)[2];
	bool found = false;
	json_t *list;

	if (slot && !name)
		return refuse(r, CONTROL_MISUSE, "a slot is one of a pool's: name the pool");
	counts = calloc(SHUNT_MAX_BACKENDS, sizeof(*counts));
	list = json_array();
	for (size_t i = 0; counts && i < s->n_pools; i++) {
		if (s->pools[i]->removed || (name && strcmp(name, s->pools[i]->name)))
			continue;
		found = true;
		if (slot) {
			json_decref(list);
			list = slot_json(r, s->pools[i], json_integer_value(slot));
		} else {
			slots_count(list, s, s->pools[i], counts);
		}
	}
	free(counts);
	if (found || !name)
		return list;
	json_decref(list);
	return refuse_unknown(r, "pool", name);
}

/* ---- peer ---- */

static json_t *peer_show(struct request *r)
{
	return peering_json(r->shuntd->peering);
}

/* ---- the table ---- */

struct argument {
	const char *name;
	json_type type; /* JSON_STRING, JSON_INTEGER or JSON_TRUE */
};

#define FILTER_ARGUMENTS                                                                                         \
	{ "vip", JSON_STRING }, { "backend", JSON_STRING }, { "client", JSON_STRING }, { "state", JSON_STRING }, \
	{                                                                                                        \
		"detours", JSON_TRUE                                                                             \
	}

static const struct command {
	const char *object, *name;
	bool writes; /* for root and admins; an event of it says whose command it was */
	json_t *(*answer)(struct request *r);
	struct argument
		arguments[9]; /* ends with a name of NULL; all may be left out unless the command says otherwise */
} commands[] = {
	{ "vip", "show", false, vip_show, { { "name", JSON_STRING } } },
	{ "backend", "show", false, backend_show, { { "name", JSON_STRING } } },
	{ "backend", "drain", true, backend_drain, { { "name", JSON_STRING }, { "within_ns", JSON_INTEGER } } },
	{ "backend", "undrain", true, backend_undrain, { { "name", JSON_STRING } } },
	{ "backend", "set", true, backend_set, { { "name", JSON_STRING }, { "weight", JSON_INTEGER } } },
	{ "probe", "show", false, probe_show, { { "name", JSON_STRING } } },
	{ "stats", "show", false, stats_show, { { NULL, 0 } } },
	{ "stats", "metrics", false, stats_metrics, { { NULL, 0 } } },
	{ "slot", "show", false, slot_show, { { "pool", JSON_STRING }, { "slot", JSON_INTEGER } } },
	{ "pool", "show", false, pool_show, { { "name", JSON_STRING } } },
	{ "event",
	  "show",
	  false,
	  event_show,
	  { { "since", JSON_STRING },
	    { "from", JSON_INTEGER },
	    { "object", JSON_STRING },
	    { "name", JSON_STRING },
	    { "what", JSON_STRING } } },
	{ "event", "summary", false, event_summary, { { "since", JSON_STRING } } },
	{ "event", "monitor", false, event_monitor, { { "from", JSON_INTEGER } } },
	{ "flow", "where", false, flow_where, { { "source", JSON_STRING }, { "vip", JSON_STRING } } },
	{ "flow", "show", false, flow_show, { FILTER_ARGUMENTS, { "limit", JSON_INTEGER }, { "from", JSON_INTEGER } } },
	{ "flow", "count", false, flow_count, { FILTER_ARGUMENTS, { "from", JSON_INTEGER } } },
	{ "flow", "reset", true, flow_reset, { FILTER_ARGUMENTS, { "all", JSON_TRUE } } },
	{ "peer", "show", false, peer_show, { { NULL, 0 } } },
	{ "daemon", "show", false, daemon_show, { { NULL, 0 } } },
	{ "daemon", "stop", true, daemon_stop, { { "detach", JSON_TRUE } } },
	{ "config", "show", false, config_show, { { NULL, 0 } } },
	{ "config", "reload", true, config_reload, { { "force", JSON_TRUE } } },
	{ "config",
	  "apply",
	  true,
	  config_apply,
	  { { "config", JSON_STRING }, { "name", JSON_STRING }, { "force", JSON_TRUE } } },
	{ "config", "diff", true, config_diff, { { "config", JSON_STRING }, { "name", JSON_STRING } } },
};

static const struct command *command_find(struct request *r, const char *object, const char *name)
{
	bool known = false;

	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(commands[i].object, object))
			continue;
		known = true;
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	}
	if (known)
		refuse(r, CONTROL_MISUSE, "%s has no command '%s'", object, quoted(name));
	else
		refuse(r, CONTROL_MISUSE, "there is no object '%s'", quoted(object));
	return NULL;
}

static bool arguments_fit(struct request *r, const struct command *command)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)r->args, key, value)
	{
		const struct argument *a = command->arguments;

		while (a->name && strcmp(a->name, key))
			a++;
		if (!a->name) {
			refuse(r, CONTROL_MISUSE, "%s %s has no argument '%s'", command->object, command->name,
			       quoted(key));
			return false;
		}
		if (json_typeof(value) != a->type) {
			refuse(r, CONTROL_MISUSE, "argument '%s' is to be %s", key,
			       a->type == JSON_STRING    ? "a string"
			       : a->type == JSON_INTEGER ? "an integer"
							 : "true");
			return false;
		}
	}
	return true;
}

json_t *answer_arguments(const char *object, const char *name, json_t *words)
{
	struct request unused = { 0 };
	const struct command *command = command_find(&unused, object, name);
	json_t *args = json_copy(words), *value;
	const char *key;

	json_object_foreach(words, key, value)
	{
		const struct argument *a = command ? command->arguments : NULL;
		const char *text = json_string_value(value);

		while (a && a->name && strcmp(a->name, key))
			a++;
		if (a && a->name && a->type == JSON_INTEGER && *text && strspn(text, "0123456789") == strlen(text))
			json_object_set_new(args, key, json_integer(strtoll(text, NULL, 10)));
		if (a && a->name && a->type == JSON_TRUE && !strcmp(text, "true"))
			json_object_set_new(args, key, json_true());
	}
	return args;
}

json_t *answer_command(struct request *r, const char *object, const char *name, const json_t *args)
{
	const struct command *command;
	json_t *result = NULL;
	const char *admins;

	r->code = CONTROL_DONE;
	r->monitor = false;
	r->args = args;
	command = command_find(r, object, name);
	if (!command || !arguments_fit(r, command))
		goto out;
	if (command->writes && r->uid && !r->is_admin) {
		admins = r->shuntd->config->control_admins;
		refuse(r, CONTROL_REFUSED, "%s %s is for root %s%s", command->object, command->name,
		       *admins ? "and group " : "only", admins);
		goto out;
	}
	r->shuntd->commander = command->writes ? &r->uid : NULL;
	result = command->answer(r);
	r->shuntd->commander = NULL;
	if (!result && r->code == CONTROL_DONE && !r->monitor)
		refuse(r, CONTROL_REFUSED, "out of memory");
out:
	r->args = NULL;
	return result;
}

json_t *answer(struct request *r, const char *line, size_t length)
{
	const char *object = NULL, *name = NULL;
	json_t *message, *args = NULL, *result = NULL;
	json_error_t error;

	message = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
	if (!message)
		return refuse(r, CONTROL_MISUSE, "a request is one JSON object on one line: column %d cannot be read",
			      error.column);
	if (json_unpack(message, "{s:s, s:s, s?o!}", "object", &object, "command", &name, "args", &args) ||
	    (args && !json_is_object(args)))
		refuse(r, CONTROL_MISUSE,
		       "a request has \"object\" and \"command\", two strings, and may have \"args\", an object");
	else
		result = answer_command(r, object, name, args);
	json_decref(message);
	return result;
}
