/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stats.c - shunt stats: what became of every packet, how full the journal of flows is, and how well the prober and the
 * detector keep time.
 */
#include "shunt/shunt.h"

static const struct column daemon_columns[] = {
	{ "uptime_s", "running for", UNIT_SECONDS }, { "detector", "detector", 0 },          { "health", "health", 0 },
	{ "ill_because", "ill because", 0 },         { "track_file", "track file says", 0 }, { NULL, NULL, 0 },
};

static const struct column interface_columns[] = {
	{ "name", "INTERFACE", 0 },
	{ "mode", "MODE", 0 },
	{ NULL, NULL, 0 },
};

static const struct column vrrp_columns[] = {
	{ "name", "VRRP", 0 },
	{ "state", "STATE", 0 },
	{ "priority", "PRIORITY", 0 },
	{ "since_ns", "SINCE", UNIT_SINCE_NS },
	{ NULL, NULL, 0 },
};

static const struct column probe_columns[] = {
	{ "interval_us", "probe interval", UNIT_US },
	{ "configured_interval_us", "configured", UNIT_US },
	{ "round_cost_us", "a round costs", UNIT_US },
	{ "multiplier", "multiplier", 0 },
	{ "round", "newest round", 0 },
	{ "rounds_late", "rounds late", 0 },
	{ "rounds_skipped", "rounds skipped", 0 },
	{ "send_errors", "probes not sent", 0 },
	{ "late_max_us", "latest round, by", UNIT_US },
	{ "ticks", "detector ticks", 0 },
	{ "tick_late_max_us", "latest tick, by", UNIT_US },
	{ "suspect_since_ns", "suspects itself for", UNIT_SINCE_NS },
	{ NULL, NULL, 0 },
};

static const struct column flow_columns[] = {
	{ "used", "flows recorded", 0 },
	{ "capacity", "of", 0 },
	{ "open", "open", 0 },
	{ "closing", "closing", 0 },
	{ "closed", "closed", 0 },
	{ "detours", "detours", 0 },
	{ "opened", "opened", 0 },
	{ "full", "unrecorded, it was full", 0 },
	{ "looked_up", "packets looked up", 0 },
	{ NULL, NULL, 0 },
};

static const struct column reason_columns[] = {
	{ "name", "REASON", 0 },     { "action", "ACTION", 0 }, { "packets", "PACKETS", 0 },
	{ "meaning", "MEANING", 0 }, { NULL, NULL, 0 },
};

static const struct view views[] = {
	{ SHAPE_RECORD, NULL, daemon_columns, NULL },
	{ SHAPE_TABLE, "vrrp", vrrp_columns, NULL },
	{ SHAPE_TABLE, "interfaces", interface_columns, NULL },
	{ SHAPE_RECORD, "probe", probe_columns, NULL },
	{ SHAPE_RECORD, "flows", flow_columns, NULL },
	{ SHAPE_TABLE, "reasons", reason_columns, "packets" },
	{ 0 },
};

static const struct column metrics_columns[] = { { "text", NULL, 0 }, { NULL, NULL, 0 } };

static const struct view metrics_views[] = { { SHAPE_TEXT, NULL, metrics_columns, NULL }, { 0 } };

static int stats_show(struct call *call)
{
	json_t *result, *total, *flows;
	int code = request_ask(call, "stats", "show", NULL, &result);

	if (code)
		return code;
	code = flow_total_ask(call, &total);
	if (!code) {
		flows = json_object_get(result, "flows");
		json_object_update(flows, total);
		json_object_set_new(flows, "used",
				    json_integer(json_integer_value(json_object_get(total, "open")) +
						 json_integer_value(json_object_get(total, "closing")) +
						 json_integer_value(json_object_get(total, "closed"))));
		json_decref(total);
		call->out->show(result, views);
	}
	json_decref(result);
	return code;
}

static int stats_metrics(struct call *call)
{
	return request_show(call, "stats", "metrics", NULL, metrics_views);
}

static const struct command commands[] = {
	{ .name = "show",
	  .help = "packets by reason (JSON: also those with none), flows, probes, detector",
	  .run = stats_show },
	{ .name = "metrics", .help = "all figures as OpenMetrics, as Prometheus reads them", .run = stats_metrics },
	{ 0 },
};

const struct object stats_object = { "stats", "what became of the packets", commands };
