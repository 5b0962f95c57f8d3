/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * event.c - shunt event: what happened, and what happens.
 */
#include "shunt/shunt.h"

static const struct column columns[] = { { "time", "TIME", 0 }, { "text", "EVENT", 0 }, { NULL, NULL, 0 } };
static const struct view views[] = { { SHAPE_LINES, NULL, columns, NULL }, { 0 } };

#define FIGURES                                                                                                 \
	{ "availability_percent", "AVAILABLE", UNIT_PERCENT }, { "failures", "FAILURES", UNIT_COUNT },          \
		{ "mttf_us", "MTTF", UNIT_US }, { "mttr_us", "MTTR", UNIT_US }, { "down_us", "DOWN", UNIT_US }, \
		{ "drained_us", "DRAINED", UNIT_US }, { "unknown_us", "UNKNOWN", UNIT_US },                     \
	{                                                                                                       \
		NULL, NULL, 0                                                                                   \
	}

static const struct column window_columns[] = {
	{ "since", "since", 0 },
	{ "window_us", "which is", UNIT_US },
	{ NULL, NULL, 0 },
};

static const struct column pool_columns[] = { { "name", "POOL", 0 }, FIGURES };
static const struct column backend_columns[] = { { "name", "BACKEND", 0 }, { "state", "STATE", 0 }, FIGURES };

static const struct column failover_columns[] = {
	{ "time", "FAILOVER", 0 },
	{ "backend", "BACKEND", 0 },
	{ "verdict", "WHY", 0 },
	{ "fault_us", "FAULT", UNIT_US },
	{ "first_heir_us", "FIRST AT HEIR", UNIT_US },
	{ "flows_told", "TOLD", UNIT_COUNT },
	{ "told_us", "IN", UNIT_US },
	{ "table_us", "TABLE", UNIT_US },
	{ "outage_us", "BACK AFTER", UNIT_US },
	{ NULL, NULL, 0 },
};

static const struct view summary_views[] = {
	{ SHAPE_RECORD, NULL, window_columns, NULL },
	{ SHAPE_TABLE, "pools", pool_columns, NULL },
	{ SHAPE_TABLE, "backends", backend_columns, NULL },
	{ SHAPE_TABLE, "failovers", failover_columns, NULL },
	{ 0 },
};

#define SINCE                                                         \
	{                                                             \
		.word = "since", .value = VALUE_TEXT, .title = "TIME" \
	}
#define FROM                                                             \
	{                                                                \
		.word = "from", .value = VALUE_NUMBER, .title = "NUMBER" \
	}

static const struct key show_keys[] = {
	SINCE,
	FROM,
	{ .word = "object", .value = VALUE_TEXT, .title = "OBJECT" },
	{ .word = "name", .value = VALUE_TEXT, .title = "NAME" },
	{ .word = "what", .value = VALUE_TEXT, .title = "WHAT" },
	{ 0 },
};
static const struct key summary_keys[] = { SINCE, { 0 } };
static const struct key monitor_keys[] = { FROM, { 0 } };

static int event_show(struct call *call)
{
	return request_show(call, "event", "show", json_incref(call->args), views);
}

static int event_summary(struct call *call)
{
	return request_show(call, "event", "summary", json_incref(call->args), summary_views);
}

static int event_monitor(struct call *call)
{
	return request_follow(call, "event", "monitor", json_incref(call->args), views);
}

static const struct command commands[] = {
	{ .name = "show", .help = "what happened, oldest first", .run = event_show, .keys = show_keys },
	{ .name = "summary",
	  .help = "how available pools and backends were, and the failovers",
	  .run = event_summary,
	  .keys = summary_keys },
	{ .name = "monitor",
	  .help = "what happens, as it happens, until Ctrl-C",
	  .run = event_monitor,
	  .keys = monitor_keys },
	{ 0 },
};

const struct object event_object = { "event", "what happened, and why", commands };
