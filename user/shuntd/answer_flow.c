/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer_flow.c - what requests about flows are answered: where one goes and why, which there are, how many.
 *
 * Reads the journal while the walk writes it: what opens or ends meanwhile is in an answer or is not. A request looks at
 * a bounded number of entries; where that is not all, the answer says where the next one is to go on.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <time.h>

#include "core/flow.h"
#include "shuntd/answer.h"
#include "shuntd/journal.h"

/* Of one request, chosen so that it takes some 0.5 ms: clients of a dead backend are told by the same loop. */
#define FLOWS_SCANNED 16384 /* entries looked at */
#define FLOWS_SHOWN 100 /* flows in an answer: some 25 kB of JSON */

/* ---- names of endpoints ---- */

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

/* ADDRESS[/PREFIX][:PORT], an IPv6 address with a port in brackets; 0 or -EINVAL. No prefix: all bits; no port: 0. */
static int client_parse(struct flow_filter *filter, struct shunt_addr *address, const char *text)
{
	char host[INET6_ADDRSTRLEN + 5], *slash, *end;
	const char *close = *text == '[' ? strchr(text, ']') : NULL;
	const char *port = close ? close + 1 : strchr(text, ':'), *first = text + (close != NULL);
	size_t length;
	unsigned long number;

	if (!close && port && strchr(port + 1, ':'))
		port = NULL; /* an IPv6 address alone */
	length = close ? (size_t)(close - first) : port ? (size_t)(port - text) : strlen(text);
	if ((*text == '[' && !close) || length >= sizeof(host))
		return -EINVAL;
	memcpy(host, first, length);
	host[length] = 0;
	slash = strchr(host, '/');
	if (slash)
		*slash++ = 0;
	if (address_parse(address, host) || (close && address_is_v4(address)))
		return -EINVAL;
	filter->client = address;
	filter->client_prefix = address_is_v4(address) ? 32 : 128;
	if (slash) {
		number = strtoul(slash, &end, 10);
		if (*slash < '0' || *slash > '9' || *end || number > filter->client_prefix)
			return -EINVAL;
		filter->client_prefix = (uint8_t)number;
	}
	if (port && *port) {
		number = strtoul(port + 1, &end, 10);
		if (*port != ':' || port[1] < '1' || port[1] > '9' || *end || number > UINT16_MAX)
			return -EINVAL;
		filter->client_port = htons((uint16_t)number);
	}
	return 0;
}

/* ---- where ---- */

/* "gpu2 is down (silent)", of a backend that is not up. */
static void state_print(FILE *f, const struct shuntd *s, const char *is, uint16_t id)
{
	uint32_t word = backend_word(s, id);
	const char *name = backend_name(s, id);

	fprintf(f, "%s %s%s (%s)", name ? name : "(gone)", is, backend_state_name(word), backend_verdict_name(word));
}

static void down_print(FILE *f, const struct shuntd *s, const char *part, uint16_t id)
{
	if (!id) {
		fprintf(f, "no %s, ", part);
		return;
	}
	fprintf(f, "%s ", part);
	state_print(f, s, "", id);
	fputs(", ", f);
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

/* What becomes of a packet that has no living backend of its own. */
static void orphan_print(FILE *f, const struct shuntd *s, const struct vip_run *vip, const struct flow_way *way)
{
	const char *heir = backend_name(s, way->backend);

	if (vip->conf.on_failure == ON_FAILURE_RESET)
		fputs(": its client is reset", f);
	else if (vip->conf.on_failure == ON_FAILURE_DROP)
		fputs(": dropped", f);
	else if (heir)
		fprintf(f, ": rehashed to %s", heir);
	else
		fputs(": nobody is there to take it", f);
}

/*
 * A recorded flow in words; *backend is who gets its packets, 0: nobody. The journal doesn't say why a flow is a detour:
 * it is told from since when its owner is what it is.
 */
static void recorded_print(FILE *f, const struct shuntd *s, const struct vip_run *vip, const struct flow_way *way,
			   const struct flow *flow, uint16_t *backend)
{
	uint16_t id = FLOW_WORD_BACKEND(flow->word), owner = FLOW_WORD_OWNER(flow->word);
	uint8_t state = BACKEND_WORD_STATE(backend_word(s, id));
	const struct backend_run *o = backend_by_id(s, owner);
	const char *name = backend_name(s, id);

	*backend = vip->conf.on_failure == ON_FAILURE_REHASH ? way->backend : 0;
	if (FLOW_WORD_FLAGS(flow->word) & FLOW_RESET) {
		fprintf(f, "recorded: on %s, ended by an operator", name ? name : "(gone)");
		orphan_print(f, s, vip, way);
		return;
	}
	if (state != BACKEND_UP && state != BACKEND_DRAINING) {
		fputs("recorded: its backend ", f);
		state_print(f, s, "is ", id);
		orphan_print(f, s, vip, way);
		return;
	}
	*backend = id;
	if (id == owner) {
		fputs(state == BACKEND_DRAINING ? "recorded: stays at its owner, which drains"
						: "recorded: at its owner",
		      f);
		return;
	}
	if (!o) {
		fputs("recorded: detour", f);
		return;
	}
	fprintf(f, "recorded: detour since its owner %s ", o->conf.name);
	if (o->since_ns > flow->opened_ns)
		fputs("was out of service when it opened", f);
	else if (backend_is_up(s, owner))
		fputs("was given its slot after it opened", f);
	else
		fprintf(f, "was %s when it opened", backend_state_name(backend_word(s, owner)));
}

/* An entry as it was at some moment. False: it is free, or changes too fast. */
static bool entry_read(const struct shuntd *s, uint32_t entry, struct flow *out)
{
	const struct flow *shared = &dataplane_journal(s->dataplane)[entry];

	for (int i = 0; i < 3; i++) {
		uint64_t word = __atomic_load_n(&shared->word, __ATOMIC_ACQUIRE);

		if (!word)
			return false;
		memcpy(out, shared, sizeof(*out));
		out->word = word;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&shared->word, __ATOMIC_RELAXED) == word)
			return true;
	}
	return false;
}

/* The entry of a flow that is not over. */
static bool flow_find(const struct shuntd *s, const struct flow_tuple *tuple, struct flow *out)
{
	struct flow_key key = { .client = tuple->source,
				.vip = tuple->destination,
				.client_port = tuple->source_port,
				.vip_port = tuple->destination_port,
				.protocol = tuple->protocol };
	uint32_t entry;

	return tuple->protocol == IPPROTO_TCP && !dataplane_flow_find(s->dataplane, &key, &entry) &&
	       entry_read(s, entry, out) && !memcmp(&out->key, &key, sizeof(key)) &&
	       FLOW_WORD_STATE(out->word) != FLOW_CLOSED;
}

static const char *const state_names[] = {
	[FLOW_FREE] = "free", [FLOW_OPEN] = "open", [FLOW_CLOSING] = "closing", [FLOW_CLOSED] = "closed"
};
#define N_STATES (sizeof(state_names) / sizeof(*state_names))

static json_t *endpoint_json(const struct shunt_addr *address, __be16 port)
{
	char text[ADDRESS_TEXT_MAX], endpoint[ADDRESS_TEXT_MAX + 8];

	snprintf(endpoint, sizeof(endpoint), address_is_v4(address) ? "%s:%u" : "[%s]:%u",
		 address_format(address, text, sizeof(text)), ntohs(port));
	return json_string(endpoint);
}

/* An interface's name, "" if it is gone; remembered, for asking the kernel costs more than all the rest of an answer. */
struct interface {
	unsigned ifindex; /* 0: none yet */
	char name[IF_NAMESIZE];
};

static const char *interface_name(struct interface *newest, unsigned ifindex)
{
	if (newest->ifindex != ifindex && !if_indextoname(ifindex, newest->name))
		*newest->name = 0;
	newest->ifindex = ifindex;
	return newest->name;
}

static json_t *flow_json(const struct shuntd *s, const struct flow *flow, struct interface *interface)
{
	const struct vip_run *vip = vip_by_id(s, flow->vip);
	uint8_t state = FLOW_WORD_STATE(flow->word), flags = FLOW_WORD_FLAGS(flow->word);
	const char *ingress = interface_name(interface, flow->ingress_ifindex);

	return json_pack("{s:o, s:o, s:s?, s:s?, s:s?, s:s, s:b, s:b, s:b, s:b, s:I, s:I, s:s?}", "client",
			 endpoint_json(&flow->key.client, flow->key.client_port), "service",
			 endpoint_json(&flow->key.vip, flow->key.vip_port), "vip", vip ? vip->conf.name : NULL,
			 "backend", backend_name(s, FLOW_WORD_BACKEND(flow->word)), "owner",
			 backend_name(s, FLOW_WORD_OWNER(flow->word)), "state",
			 state < N_STATES ? state_names[state] : "unknown", "detour", !!(flags & FLOW_DETOUR),
			 "confirmed", !!(flags & FLOW_CONFIRMED), "reset", !!(flags & FLOW_RESET), "copy",
			 !!(flags & FLOW_SYNCED), "opened_ns", (json_int_t)flow->opened_ns, "seen_ns",
			 (json_int_t)flow->seen_ns, "ingress", *ingress ? ingress : NULL);
}

json_t *flow_where(struct request *r)
{
	const struct shuntd *s = r->shuntd;
	const char *source = arg_string(r, "source"), *name = arg_string(r, "vip");
	uint16_t source_port, port = 0, backend;
	uint64_t mask[SHUNT_FLOW_WORDS];
	const struct vip_run *vip;
	const struct slot *slots;
	uint32_t n_slots = 0;
	struct flow_tuple tuple = { 0 };
	struct flow_way way;
	struct interface interface = { 0 };
	struct flow flow;
	bool recorded;
	char *why = NULL;
	size_t size;
	json_t *o;
	FILE *f;

	if (!source || !name)
		return refuse(r, CONTROL_MISUSE, "flow where needs a source and a VIP");
	if (endpoint_parse(&tuple.source, &source_port, source))
		return refuse(r, CONTROL_MISUSE, "a source is ADDRESS:PORT or [ADDRESS]:PORT, not '%s'",
			      quoted(source));
	vip = vip_named(r, name, &port);
	if (!vip)
		return NULL;
	if (address_is_v4(&tuple.source) != address_is_v4(&vip->conf.address))
		return refuse(r, CONTROL_REFUSED, "VIP '%s' is of the other address family", vip->conf.name);

	tuple.destination = vip->conf.address;
	tuple.source_port = htons(source_port);
	tuple.destination_port = htons(port);
	tuple.protocol = vip->conf.protocol;
	vip_hash_mask(mask, &vip->conf);
	slots = table_slots(vip->pool->table, &n_slots);
	flow_choose(&way, flow_hash_under(&tuple, s->config->seed, mask), slots, n_slots, backend_is_up, s);
	backend = way.backend;

	f = open_memstream(&why, &size);
	if (!f)
		return NULL;
	recorded = flow_find(s, &tuple, &flow);
	if (recorded)
		recorded_print(f, s, vip, &way, &flow, &backend);
	else
		way_print(f, s, &way);
	fclose(f);
	o = json_pack("{s:s, s:s, s:o, s:s?, s:s?, s:s?, s:s, s:o}", "vip", vip->conf.name, "source", source, "slot",
		      integer_or_null(n_slots, way.slot), "owner", backend_name(s, way.at.owner), "heir",
		      backend_name(s, way.at.heir), "backend", backend_name(s, backend), "why", why, "recorded",
		      recorded ? flow_json(s, &flow, &interface) : json_null());
	free(why);
	return o;
}

/* ---- many ---- */

/* What args ask for; `client` is room for its address. False, and the refusal. */
static bool filter_read(struct request *r, struct flow_filter *filter, struct shunt_addr *client)
{
	const char *vip = arg_string(r, "vip"), *backend = arg_string(r, "backend"), *state = arg_string(r, "state"),
		   *from = arg_string(r, "client");

	*filter = (struct flow_filter){ .detour = json_object_get(r->args, "detours") != NULL };
	if (vip) {
		const struct vip_run *v = vip_find(r->shuntd, vip);

		if (!v) {
			refuse_unknown(r, "VIP", vip);
			return false;
		}
		filter->vip = v->id + 1;
	}
	if (backend) {
		const struct backend_run *b = backend_find(r->shuntd, backend);

		if (!b) {
			refuse_unknown(r, "backend", backend);
			return false;
		}
		filter->backend = b->id;
	}
	if (from && client_parse(filter, client, from)) {
		refuse(r, CONTROL_MISUSE, "a client is ADDRESS[/PREFIX][:PORT], IPv6 with a port in brackets, not '%s'",
		       quoted(from));
		return false;
	}
	while (state && filter->state < N_STATES && strcmp(state, state_names[filter->state]))
		filter->state++;
	if (state && (filter->state == FLOW_FREE || filter->state == N_STATES)) {
		refuse(r, CONTROL_MISUSE, "a state is one of: open, closing, closed, not '%s'", quoted(state));
		return false;
	}
	return true;
}

/* The entries that this request looks at: *first to before *end; false, and the refusal. *more: there are others. */
static bool page_read(struct request *r, uint32_t *first, uint32_t *end, bool *more)
{
	const struct journal_state *state = dataplane_journal_state(r->shuntd->dataplane);
	json_int_t from = json_integer_value(json_object_get(r->args, "from"));
	uint32_t used = __atomic_load_n(&state->used, __ATOMIC_ACQUIRE);

	if (used > state->capacity)
		used = state->capacity; /* the walk may count beyond the end */
	if (from < 0) {
		refuse(r, CONTROL_MISUSE, "a page begins where the one before it said");
		return false;
	}
	*first = from < used ? (uint32_t)from : used;
	*more = used - *first > FLOWS_SCANNED;
	*end = *more ? *first + FLOWS_SCANNED : used;
	return true;
}

json_t *flow_show(struct request *r)
{
	const json_t *limit_json = json_object_get(r->args, "limit");
	json_int_t limit = limit_json ? json_integer_value(limit_json) : FLOWS_SHOWN;
	uint32_t entry, end;
	struct interface interface = { 0 };
	struct flow_filter filter;
	struct shunt_addr client;
	json_t *flows;
	bool more;

	if (limit < 1)
		return refuse(r, CONTROL_MISUSE, "a limit is 1 or more");
	if (!filter_read(r, &filter, &client) || !page_read(r, &entry, &end, &more))
		return NULL;
	if (limit > FLOWS_SHOWN)
		limit = FLOWS_SHOWN;
	flows = json_array();
	for (; entry < end && (json_int_t)json_array_size(flows) < limit; entry++) {
		struct flow flow;

		if (entry_read(r->shuntd, entry, &flow) && flow_matches(&filter, &flow))
			json_array_append_new(flows, flow_json(r->shuntd, &flow, &interface));
	}
	return json_pack("{s:o, s:o}", "flows", flows, "next", integer_or_null(more || entry < end, entry));
}

json_t *flow_count(struct request *r)
{
	uint32_t entry, end, (*counts)[N_STATES + 1]; /* by backend: each state, detours */
	struct flow_filter filter;
	struct shunt_addr client;
	json_t *rows;
	bool more;

	if (!filter_read(r, &filter, &client) || !page_read(r, &entry, &end, &more))
		return NULL;
	counts = calloc(SHUNT_MAX_BACKENDS, sizeof(*counts));
	if (!counts)
		return NULL;
	for (; entry < end; entry++) {
		struct flow flow;
		uint16_t id;

		if (!entry_read(r->shuntd, entry, &flow) || !flow_matches(&filter, &flow))
			continue;
		id = FLOW_WORD_BACKEND(flow.word) % SHUNT_MAX_BACKENDS;
		counts[id][FLOW_WORD_STATE(flow.word) % N_STATES]++;
		counts[id][N_STATES] += !!(FLOW_WORD_FLAGS(flow.word) & FLOW_DETOUR);
	}
	rows = json_array();
	for (uint16_t id = 0; id < SHUNT_MAX_BACKENDS; id++) {
		const uint32_t *n = counts[id];

		if (n[FLOW_OPEN] + n[FLOW_CLOSING] + n[FLOW_CLOSED])
			json_array_append_new(
				rows,
				json_pack("{s:s?, s:I, s:I, s:I, s:I}", "backend", backend_name(r->shuntd, id), "open",
					  (json_int_t)n[FLOW_OPEN], "closing", (json_int_t)n[FLOW_CLOSING], "closed",
					  (json_int_t)n[FLOW_CLOSED], "detours", (json_int_t)n[N_STATES]));
	}
	free(counts);
	return json_pack("{s:o, s:o}", "counts", rows, "next", integer_or_null(more, end));
}

json_t *flow_reset(struct request *r)
{
	bool all = json_object_get(r->args, "all") != NULL;
	struct flow_filter filter;
	struct shunt_addr client;
	char text[64];
	size_t n;

	if (!filter_read(r, &filter, &client))
		return NULL;
	if (!json_object_size(r->args) || (all && json_object_size(r->args) > 1))
		return refuse(r, CONTROL_MISUSE, "say which flows, or 'all' alone");
	n = journal_reset(r->shuntd->journal, &filter);
	ledger_add(r->shuntd->ledger, 0, "shuntd", "self", "flows reset", "asked by an operator",
		   commanded(r->shuntd, json_pack("{s:I}", "flows", (json_int_t)n)));
	snprintf(text, sizeof(text), "%zu %s reset", n, n == 1 ? "flow" : "flows");
	return json_pack("{s:I, s:s}", "reset", (json_int_t)n, "text", text);
}
