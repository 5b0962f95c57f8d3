/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.c - shunt flow: which connection is where, how many there are, where a new one would go; ending some.
 *
 * The daemon looks at so much of its journal at a time as keeps nobody waiting, and says where to go on: the pages are
 * put together here. What opens and ends meanwhile may or may not be among them.
 */
#include "shunt/shunt.h"

#include <inttypes.h>

#define SHOW_LIMIT 1000 /* flows shown unless told, chosen */

static const struct column where_columns[] = {
	{ "backend", "backend", 0 }, { "why", "why", 0 },   { "vip", "vip", 0 }, { "slot", "slot", 0 },
	{ "owner", "owner", 0 },     { "heir", "heir", 0 }, { NULL, NULL, 0 },
};

static const struct column show_columns[] = {
	{ "client", "CLIENT", 0 },
	{ "vip", "VIP", 0 },
	{ "backend", "BACKEND", 0 },
	{ "state", "STATE", 0 },
	{ "opened_ns", "AGE", UNIT_SINCE_NS },
	{ "detour", "DETOUR", 0 },
	{ "owner", "OWNER", 0 },
	{ NULL, NULL, 0 },
};

static const struct column count_columns[] = {
	{ "backend", "BACKEND", 0 }, { "open", "OPEN", 0 },       { "closing", "CLOSING", 0 },
	{ "closed", "CLOSED", 0 },   { "detours", "DETOURS", 0 }, { NULL, NULL, 0 },
};

static const struct column total_columns[] = {
	{ "open", "open", 0 },       { "closing", "closing", 0 }, { "closed", "closed", 0 },
	{ "detours", "detours", 0 }, { NULL, NULL, 0 },
};

static const struct column text_columns[] = { { "text", "", 0 }, { NULL, NULL, 0 } };

static const struct view where_views[] = { { SHAPE_RECORD, NULL, where_columns, NULL }, { 0 } };
static const struct view show_views[] = { { SHAPE_TABLE, "flows", show_columns, NULL }, { 0 } };
static const struct view count_views[] = { { SHAPE_TABLE, "counts", count_columns, NULL },
					   { SHAPE_RECORD, "total", total_columns, NULL },
					   { 0 } };
static const struct view text_view = { SHAPE_LINES, NULL, text_columns, NULL };

#define FILTER_KEYS                                                                                               \
	{ .word = "vip", .value = VALUE_VIP, .title = "NAME", .group = "FILTER" },                                \
		{ .word = "backend", .value = VALUE_BACKEND, .title = "NAME", .group = "FILTER" },                \
		{ .word = "client", .value = VALUE_TEXT, .title = "ADDRESS[/PREFIX][:PORT]", .group = "FILTER" }, \
		{ .word = "state", .value = VALUE_TEXT, .title = "open|closing|closed", .group = "FILTER" },      \
	{                                                                                                         \
		.word = "detours", .group = "FILTER"                                                              \
	}

static const struct key filter_keys[] = { FILTER_KEYS, { 0 } };
static const struct key show_keys[] = { FILTER_KEYS, { .word = "limit", .value = VALUE_NUMBER, .title = "N" }, { 0 } };
static const struct key reset_keys[] = { FILTER_KEYS, { .word = "all" }, { 0 } };

static int flow_where(struct call *call)
{
	return request_show(call, "flow", "where", json_incref(call->args), where_views);
}

/* Ask for the page that begins at `from`; *next is where the one after it does, NULL where there is none. */
static int page_ask(const struct call *call, const char *command, const json_t *filter, json_int_t limit,
		    json_int_t from, json_t **page, const json_t **next)
{
	json_t *args = filter ? json_copy((json_t *)filter) : json_object();
	int code;

	json_object_set_new(args, "from", json_integer(from));
	if (limit)
		json_object_set_new(args, "limit", json_integer(limit));
	code = request_ask(call, "flow", command, args, page);
	if (code)
		return code;
	*next = json_object_get(*page, "next");
	*next = json_is_integer(*next) ? *next : NULL;
	return CONTROL_DONE;
}

/* Add the numbers of `row` to those of the same backend. */
static void count_add(json_t *counts, const json_t *row)
{
	const char *key;
	json_t *into = NULL, *value, *other;
	size_t i;

	json_array_foreach(counts, i, other) if (json_equal(json_object_get(other, "backend"),
							    json_object_get(row, "backend"))) into = other;
	if (!into) {
		json_array_append_new(counts, json_copy((json_t *)row));
		return;
	}
	json_object_foreach((json_t *)row, key, value) if (json_is_integer(value)) json_object_set_new(
		into, key, json_integer(json_integer_value(value) + json_integer_value(json_object_get(into, key))));
}

/* All pages of `flow count`: a row each backend. */
static int counts_ask(const struct call *call, const json_t *filter, json_t **counts)
{
	json_int_t from = 0;
	const json_t *next, *row;
	json_t *page;
	size_t i;
	int code;

	*counts = json_array();
	do {
		code = page_ask(call, "count", filter, 0, from, &page, &next);
		if (code)
			break;
		json_array_foreach(json_object_get(page, "counts"), i, row) count_add(*counts, row);
		from = next ? json_integer_value(next) : 0;
		json_decref(page);
	} while (from);
	if (code)
		json_decref(*counts);
	return code;
}

static json_int_t counts_sum(const json_t *counts, const char *key)
{
	json_int_t sum = 0;
	const json_t *row;
	size_t i;

	json_array_foreach(counts, i, row) sum += json_integer_value(json_object_get(row, key));
	return sum;
}

/* How many there are beyond those shown. */
static int more_ask(const struct call *call, const json_t *filter, size_t shown, json_int_t *more)
{
	json_t *counts;
	int code = counts_ask(call, filter, &counts);

	if (code)
		return code;
	*more = counts_sum(counts, "open") + counts_sum(counts, "closing") + counts_sum(counts, "closed") -
		(json_int_t)shown;
	json_decref(counts);
	return CONTROL_DONE;
}

static int flow_show(struct call *call)
{
	json_t *filter = call->args, *page, *flows, *result;
	json_int_t limit = SHOW_LIMIT, more = 0, from = 0;
	const json_t *next;
	char note[128];
	int code;

	if (json_object_get(filter, "limit"))
		limit = json_integer_value(json_object_get(filter, "limit"));
	json_object_del(filter, "limit");
	flows = json_array();
	do {
		json_int_t room = limit - (json_int_t)json_array_size(flows);

		if (room == 0) {
			code = more_ask(call, filter, json_array_size(flows), &more);
			break;
		}
		code = page_ask(call, "show", filter, room, from, &page, &next);
		if (code)
			break;
		json_array_extend(flows, json_object_get(page, "flows"));
		from = next ? json_integer_value(next) : 0;
		json_decref(page);
	} while (from);
	if (code) {
		json_decref(flows);
		return code;
	}
	more = more > 0 ? more : 0;
	result = json_pack("{s:o, s:I}", "flows", flows, "more", more);
	call->out->show(result, show_views);
	if (more) {
		snprintf(note, sizeof(note), "and %" PRId64 " more: 'limit N' shows as many as you like",
			 (int64_t)more);
		call->out->note(note);
	}
	json_decref(result);
	return CONTROL_DONE;
}

static json_t *counts_total(const json_t *counts)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "open", counts_sum(counts, "open"), "closing",
			 counts_sum(counts, "closing"), "closed", counts_sum(counts, "closed"), "detours",
			 counts_sum(counts, "detours"));
}

int flow_total_ask(const struct call *call, json_t **total)
{
	json_t *counts;
	int code = counts_ask(call, NULL, &counts);

	if (code)
		return code;
	*total = counts_total(counts);
	json_decref(counts);
	return CONTROL_DONE;
}

static int flow_count(struct call *call)
{
	json_t *counts, *result;
	int code = counts_ask(call, call->args, &counts);

	if (code)
		return code;
	result = json_pack("{s:o, s:o}", "counts", counts, "total", counts_total(counts));
	call->out->show(result, count_views);
	json_decref(result);
	return CONTROL_DONE;
}

static int flow_reset(struct call *call)
{
	json_t *result;
	int code = request_ask(call, "flow", "reset", json_incref(call->args), &result);

	if (code)
		return code;
	call->out->item(result, &text_view);
	json_decref(result);
	return CONTROL_DONE;
}

static const struct command commands[] = {
	{ .name = "show",
	  .help = "the connections that are recorded, 1000 unless told",
	  .run = flow_show,
	  .keys = show_keys },
	{ .name = "count", .help = "how many there are, by backend and state", .run = flow_count, .keys = filter_keys },
	{ .name = "where",
	  .help = "which backend such a packet goes to now, and why; changes nothing",
	  .run = flow_where,
	  .arguments = { { "SOURCE:PORT", VALUE_TEXT, "source", false }, { "VIP", VALUE_VIP, "vip", false } } },
	{ .name = "reset",
	  .help = "end connections; their clients are told at once",
	  .run = flow_reset,
	  .keys = reset_keys,
	  .needs_key = true },
	{ 0 },
};

const struct object flow_object = { "flow", "connections, and where they go", commands };
