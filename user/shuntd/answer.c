/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer.c - what each request is answered: one function a command, found through the table at the end.
 *
 * Reads the controller's state and the shared memory, changes nothing. Called by control.c from the main loop.
 */
#include "shuntd/answer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <time.h>

#include "core/flow.h"
#include "shunt/heartbeat.h"

/* ---- refusals ---- */

__attribute__((format(printf, 3, 4))) static json_t *refuse(struct request *r, enum control_code code,
							    const char *format, ...)
{
	va_list ap;

	r->code = code;
	va_start(ap, format);
	vsnprintf(r->error, sizeof(r->error), format, ap);
	va_end(ap);
	return NULL;
}

/* Of what the client sent, so much as may stand in a sentence: "" if it is too long to be a name of ours. */
static const char *quoted(const char *text)
{
	return strlen(text) < CONFIG_NAME_MAX ? text : "";
}

static json_t *refuse_unknown(struct request *r, const char *what, const char *name)
{
	return refuse(r, CONTROL_REFUSED, "there is no %s '%s'", what, quoted(name));
}

static const char *arg_string(const struct request *r, const char *key)
{
	return json_string_value(json_object_get(r->args, key));
}

/* ---- values ---- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Memory that the kernel or the prober writes meanwhile. */
static uint64_t load(const __u64 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static json_t *integer_or_null(bool known, uint64_t value)
{
	return known ? json_integer((json_int_t)value) : json_null();
}

static json_t *us(uint64_t ns)
{
	return json_integer((json_int_t)((ns + 500) / 1000));
}

static json_t *address_json(const struct shunt_addr *address)
{
	char text[INET6_ADDRSTRLEN];

	return json_string(address_format(address, text, sizeof(text)));
}

static uint32_t backend_word(const struct shuntd *s, uint16_t id)
{
	return __atomic_load_n(&dataplane_backends(s->dataplane)[id].word, __ATOMIC_RELAXED);
}

static bool backend_is_up(const void *shuntd, uint16_t id)
{
	return BACKEND_WORD_STATE(backend_word(shuntd, id)) == BACKEND_UP;
}

/* NULL for id 0 and for ids that nobody has. */
static const char *backend_name(const struct shuntd *s, uint16_t id)
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

static json_t *vip_json(const struct shuntd *s, const struct vip_run *run)
{
	const struct config_vip *v = &run->conf;
	struct traffic t;
	char hash[32];
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
	traffic_set(o, !dataplane_vip_traffic(s->dataplane, run->id, &t), &t);
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

static json_t *backend_json(const struct shuntd *s, const struct backend_run *b)
{
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
	traffic_set(o, !dataplane_backend_traffic(s->dataplane, b->id, &t), &t);
	json_object_set_new(o, "egress", *egress ? json_string(egress) : json_null());
	json_object_set_new(o, "mac", *mac ? json_string(mac) : json_null());
	json_object_set_new(o, "mtu", integer_or_null(b->resolved, hop->mtu_bytes));
	json_object_set_new(o, "local", b->resolved ? address_json(&hop->local) : json_null());
	return o;
}

/* One object a backend, or of the one that args name. */
static json_t *backends_json(struct request *r, json_t *(*json)(const struct shuntd *, const struct backend_run *))
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

static json_t *backend_show(struct request *r)
{
	return backends_json(r, backend_json);
}

/* ---- probe ---- */

static const char *engine_name(uint32_t engine)
{
	static const char *const names[] = {
		[ENGINE_UNKNOWN] = "unknown",   [ENGINE_LOADING] = "loading", [ENGINE_SERVING] = "serving",
		[ENGINE_DRAINING] = "draining", [ENGINE_STALLED] = "stalled", [ENGINE_DEAD] = "dead",
	};

	return engine < sizeof(names) / sizeof(*names) ? names[engine] : "unknown";
}

static json_t *probe_json(const struct shuntd *s, const struct backend_run *b)
{
	const struct session *session = &dataplane_sessions(s->dataplane)[b->id];
	uint64_t asked = load(&session->asked_count), answers = load(&session->answers);
	uint64_t answered_ns = load(&session->answered_ns), now = now_ns();
	uint64_t lost = asked > answers ? asked - answers : 0;
	bool known = answers > 0;
	json_t *o = json_pack("{s:s, s:o, s:s, s:I, s:I, s:o}", "backend", b->conf.name, "address",
			      address_json(&b->conf.address), "state", backend_state_name(backend_word(s, b->id)),
			      "rounds_asked", (json_int_t)asked, "answers", (json_int_t)answers, "loss_permille",
			      integer_or_null(asked, asked ? lost * 1000 / asked : 0));

	json_object_set_new(o, "rtt_us", known ? us(load(&session->rtt_ns)) : json_null());
	json_object_set_new(o, "last_answer_us", known ? us(now > answered_ns ? now - answered_ns : 0) : json_null());
	json_object_set_new(o, "engine", known ? json_string(engine_name(session->engine)) : json_null());
	json_object_set_new(
		o, "agent_age_us",
		integer_or_null(known && session->agent_age_us != PROBE_AGE_UNKNOWN, session->agent_age_us));
	return o;
}

static json_t *probe_show(struct request *r)
{
	return backends_json(r, probe_json);
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

static json_t *stats_show(struct request *r)
{
	const struct shuntd *s = r->shuntd;
	const struct detector *d = dataplane_detector(s->dataplane);
	const struct prober_stats *prober = s->prober ? prober_stats(s->prober) : NULL;
	uint64_t interval_ns = s->config->probe_interval_ns, suspect_ns = load(&d->suspect_since_ns);
	json_t *interfaces = json_array(), *probe;

	for (size_t i = 0; i < s->config->n_interfaces; i++)
		json_array_append_new(
			interfaces, json_pack("{s:s, s:s}", "name", s->config->interfaces[i], "mode", s->xdp_mode[i]));
	probe = json_pack("{s:o, s:i, s:I, s:o, s:o, s:o, s:o, s:I, s:o, s:o}", "interval_us",
			  interval_ns % 1000 ? json_real((double)interval_ns / 1000) : us(interval_ns), "multiplier",
			  (int)s->config->probe_multiplier, "round", (json_int_t)load(&d->round), "rounds_late",
			  integer_or_null(prober, prober ? prober->rounds_late : 0), "rounds_skipped",
			  integer_or_null(prober, prober ? prober->rounds_skipped : 0), "send_errors",
			  integer_or_null(prober, prober ? prober->send_errors : 0), "late_max_us",
			  prober ? us(prober->late_max_ns) : json_null(), "ticks", (json_int_t)load(&d->ticks),
			  "tick_late_max_us", us(load(&d->late_max_ns)), "suspect_since_ns",
			  integer_or_null(suspect_ns, suspect_ns));
	return json_pack("{s:I, s:s, s:o, s:o, s:o}", "uptime_s", (json_int_t)((now_ns() - s->started_ns) / 1000000000),
			 "detector", s->detector == DETECTOR_KERNEL ? "kernel" : "controller", "interfaces", interfaces,
			 "probe", probe, "reasons", reasons_json(s));
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

		if (b->pool == pool)
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

/* ---- event ---- */

static uint64_t arg_from(const struct request *r, uint64_t otherwise)
{
	const json_t *from = json_object_get(r->args, "from");

	return from && json_integer_value(from) > 0 ? (uint64_t)json_integer_value(from) : otherwise;
}

static json_t *event_show(struct request *r)
{
	return ledger_since(r->shuntd->ledger, arg_from(r, 1), NULL);
}

static json_t *event_monitor(struct request *r)
{
	uint64_t next;

	json_decref(ledger_since(r->shuntd->ledger, UINT64_MAX, &next));
	r->monitor = true;
	r->monitor_from = arg_from(r, next);
	return NULL;
}

/* ---- flow ---- */

/* "A:P" or "[v6]:P"; 0 or -EINVAL. */
static int endpoint_parse(struct shunt_addr *address, uint16_t *port, const char *text)
{
	const char *colon = strrchr(text, ':'), *first = text, *last = colon;
	char host[INET6_ADDRSTRLEN];
	unsigned long number;
	bool bracketed = *text == '[';
	char *end;

	if (!colon || colon[1] < '0' || colon[1] > '9')
		return -EINVAL;
	number = strtoul(colon + 1, &end, 10);
	if (*end || number > UINT16_MAX || end - colon > 6)
		return -EINVAL;
	if (bracketed) {
		first++;
		last--;
		if (last < first || *last != ']')
			return -EINVAL;
	}
	if (last - first >= (ptrdiff_t)sizeof(host))
		return -EINVAL;
	memcpy(host, first, (size_t)(last - first));
	host[last - first] = 0;
	if (address_parse(address, host) || address_is_v4(address) == bracketed)
		return -EINVAL;
	*port = (uint16_t)number;
	return 0;
}

/*
 * The VIP that args name, by name, or by address and port as a packet finds it: the exact port first, then every
 * port. *port becomes the flow's destination port.
 */
static const struct vip_run *vip_named(struct request *r, const char *text, uint16_t *port)
{
	const struct shuntd *s = r->shuntd;
	const struct vip_run *exact = NULL, *any = NULL, *v = vip_find(s, text);
	struct shunt_addr address;

	if (v) {
		*port = v->conf.port;
		if (v->conf.port || v->conf.hash == HASH_SOURCE)
			return v;
		refuse(r, CONTROL_REFUSED, "VIP '%s' has every port and hashes it: name its address and a port",
		       v->conf.name);
		return NULL;
	}
	if (endpoint_parse(&address, port, text)) {
		refuse_unknown(r, "VIP", text);
		return NULL;
	}
	for (size_t i = 0; i < s->n_vips; i++) {
		const struct vip_run **place;

		v = s->vips[i];
		place = v->conf.port == *port ? &exact : v->conf.port ? NULL : &any;
		if (!place || memcmp(&v->conf.address, &address, sizeof(address)))
			continue;
		if (*place) {
			refuse(r, CONTROL_REFUSED, "VIPs '%s' and '%s' share that address and port: name one",
			       (*place)->conf.name, v->conf.name);
			return NULL;
		}
		*place = v;
	}
	if (!exact && !any)
		refuse_unknown(r, "VIP", text);
	return exact ? exact : any;
}

static void down_print(FILE *f, const struct shuntd *s, const char *part, uint16_t id)
{
	if (id)
		fprintf(f, "%s %s down (%s), ", part, backend_name(s, id), backend_verdict_name(backend_word(s, id)));
	else
		fprintf(f, "no %s, ", part);
}

/* The choice in words. The states are read anew: they are what makes the sentence, not what made the choice. */
static void way_print(FILE *f, const struct shuntd *s, const struct flow_way *way)
{
	if (way->backend && way->backend == way->at.owner && !way->n_walked) {
		fputs("owner up", f);
		return;
	}
	if (!way->at.owner && !way->at.heir && !way->n_walked) {
		fputs("the pool is empty", f);
		return;
	}
	down_print(f, s, "owner", way->at.owner);
	if (!way->n_walked) {
		fputs("heir", f);
		return;
	}
	down_print(f, s, "heir", way->at.heir);
	if (way->backend)
		fprintf(f, "%s of slot %u, %u further on", way->by_heir ? "heir" : "owner", way->served_slot,
			way->n_walked);
	else
		fprintf(f, "nor has any of %u further slots a living backend", way->n_walked);
}

static json_t *flow_where(struct request *r)
{
	const struct shuntd *s = r->shuntd;
	const char *source = arg_string(r, "source"), *name = arg_string(r, "vip");
	uint16_t source_port, port = 0;
	uint64_t mask[SHUNT_FLOW_WORDS];
	const struct vip_run *run;
	const struct config_vip *vip;
	const struct slot *slots;
	uint32_t n_slots = 0;
	struct flow_tuple flow = { 0 };
	struct flow_way way;
	char *why = NULL;
	size_t size;
	json_t *o;
	FILE *f;

	if (!source || !name)
		return refuse(r, CONTROL_MISUSE, "flow where needs a source and a VIP");
	if (endpoint_parse(&flow.source, &source_port, source))
		return refuse(r, CONTROL_MISUSE, "a source is ADDRESS:PORT or [ADDRESS]:PORT, not '%s'",
			      quoted(source));
	run = vip_named(r, name, &port);
	if (!run)
		return NULL;
	vip = &run->conf;
	if (address_is_v4(&flow.source) != address_is_v4(&vip->address))
		return refuse(r, CONTROL_REFUSED, "VIP '%s' is of the other address family", vip->name);

	flow.destination = vip->address;
	flow.source_port = htons(source_port);
	flow.destination_port = htons(port);
	flow.protocol = vip->protocol;
	vip_hash_mask(mask, vip);
	slots = table_slots(run->pool->table, &n_slots);
	flow_choose(&way, flow_hash_under(&flow, s->config->seed, mask), slots, n_slots, backend_is_up, s);

	f = open_memstream(&why, &size);
	if (!f)
		return NULL;
	way_print(f, s, &way);
	fclose(f);
	o = json_pack("{s:s, s:s, s:o, s:s?, s:s?, s:s?, s:s}", "vip", vip->name, "source", source, "slot",
		      integer_or_null(n_slots, way.slot), "owner", backend_name(s, way.at.owner), "heir",
		      backend_name(s, way.at.heir), "backend", backend_name(s, way.backend), "why", why);
	free(why);
	return o;
}

/* ---- config ---- */

static json_t *config_show(struct request *r)
{
	char *text = config_format(r->shuntd->config);
	json_t *o = text ? json_pack("{s:s}", "text", text) : NULL;

	free(text);
	return o;
}

/* ---- the table ---- */

struct argument {
	const char *name;
	json_type type; /* JSON_STRING or JSON_INTEGER */
};

static const struct command {
	const char *object, *name;
	bool writes; /* for root only */
	json_t *(*answer)(struct request *r);
	struct argument
		arguments[3]; /* ends with a name of NULL; all may be left out unless the command says otherwise */
} commands[] = {
	{ "vip", "show", false, vip_show, { { "name", JSON_STRING } } },
	{ "backend", "show", false, backend_show, { { "name", JSON_STRING } } },
	{ "probe", "show", false, probe_show, { { "name", JSON_STRING } } },
	{ "stats", "show", false, stats_show, { { NULL, 0 } } },
	{ "slot", "show", false, slot_show, { { "pool", JSON_STRING }, { "slot", JSON_INTEGER } } },
	{ "event", "show", false, event_show, { { "from", JSON_INTEGER } } },
	{ "event", "monitor", false, event_monitor, { { "from", JSON_INTEGER } } },
	{ "flow", "where", false, flow_where, { { "source", JSON_STRING }, { "vip", JSON_STRING } } },
	{ "config", "show", false, config_show, { { NULL, 0 } } },
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
			       a->type == JSON_STRING ? "a string" : "an integer");
			return false;
		}
	}
	return true;
}

json_t *answer(struct request *r, const char *line, size_t length)
{
	const char *object = NULL, *name = NULL;
	const struct command *command;
	json_t *message, *args = NULL, *result = NULL;
	json_error_t error;

	r->code = CONTROL_DONE;
	r->monitor = false;
	message = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
	if (!message)
		return refuse(r, CONTROL_MISUSE, "a request is one JSON object on one line: column %d cannot be read",
			      error.column);
	if (json_unpack(message, "{s:s, s:s, s?o!}", "object", &object, "command", &name, "args", &args) ||
	    (args && !json_is_object(args))) {
		refuse(r, CONTROL_MISUSE,
		       "a request has \"object\" and \"command\", two strings, and may have \"args\", an object");
		goto out;
	}
	r->args = args;
	command = command_find(r, object, name);
	if (!command || !arguments_fit(r, command))
		goto out;
	if (command->writes && r->uid) {
		refuse(r, CONTROL_REFUSED, "%s %s is for root only", command->object, command->name);
		goto out;
	}
	result = command->answer(r);
	if (!result && r->code == CONTROL_DONE && !r->monitor)
		refuse(r, CONTROL_REFUSED, "out of memory");
out:
	r->args = NULL;
	json_decref(message);
	return result;
}
