/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * probe.c - shunt probe: how the backends are asked, what they answer, and what is made of it.
 */
#include "shunt/shunt.h"

static const struct column columns[] = {
	{ "backend", "BACKEND", 0 },
	{ "check.type", "CHECK", 0 },
	{ "state", "STATE", 0 },
	{ "verdict", "WHY", 0 },
	{ "since_ns", "FOR", UNIT_SINCE_NS },
	{ "rounds_asked", "ASKED", UNIT_COUNT },
	{ "window_loss_permille", "LOSS", UNIT_PERMILLE },
	{ "rtt_p50_us", "P50", UNIT_US },
	{ "rtt_p99_us", "P99", UNIT_US },
	{ "last_answer_us", "LAST", UNIT_US },
	{ "engine", "ENGINE", 0 },
	{ "agent_age_us", "AGENT", UNIT_US },
	{ NULL, NULL, 0 },
};

static const struct column details[] = {
	{ "backend", "backend", 0 },
	{ "address", "address", 0 },
	{ "check.type", "check", 0 },
	{ "check.text", "it says", 0 },
	{ "interval_us", "interval", UNIT_US },
	{ "configured_interval_us", "configured", UNIT_US },
	{ "state", "state", 0 },
	{ "verdict", "why", 0 },
	{ "since_ns", "for", UNIT_SINCE_NS },
	{ "evidence", "evidence", 0 },
	{ "hold_us", "hold", UNIT_US },
	{ "hold_left_us", "hold left", UNIT_US },
	{ "rounds_asked", "asked", 0 },
	{ "answers", "answers", 0 },
	{ "too_late", "came too late", 0 },
	{ "forged", "without our tag", 0 },
	{ "late", "silent, only late", 0 },
	{ "loss_permille", "loss", UNIT_PERMILLE },
	{ "rounds_to_convict", "silent after", 0 },
	{ "last_answer_us", "last answer", UNIT_US },
	{ "rtt_us", "its round trip", UNIT_US },
	{ "window_us", "lately means", UNIT_US },
	{ "window_asked", "asked lately", 0 },
	{ "window_answers", "answers lately", 0 },
	{ "window_loss_permille", "loss lately", UNIT_PERMILLE },
	{ "rtt_p50_us", "median round trip", UNIT_US },
	{ "rtt_p99_us", "99 % of them below", UNIT_US },
	{ "engine", "engine", 0 },
	{ "full", "full", 0 },
	{ "in_flight", "requests running", 0 },
	{ "queued", "requests waiting", 0 },
	{ "agent_age_us", "agent's word, age", UNIT_US },
	{ "agent_version", "agent's version", 0 },
	{ NULL, NULL, 0 },
};

static const struct view all[] = { { SHAPE_TABLE, NULL, columns, NULL }, { 0 } };
static const struct view one[] = { { SHAPE_RECORD, NULL, details, NULL }, { 0 } };

/* The interval is one for all backends. */
static void widened_note(const struct call *call, const json_t *probes)
{
	const json_t *probe = json_array_get(probes, 0);
	double now_us = json_number_value(json_object_get(probe, "interval_us"));
	double configured_us = json_number_value(json_object_get(probe, "configured_interval_us"));
	char text[128];

	if (now_us <= configured_us)
		return;
	snprintf(text, sizeof(text), "interval %.12g us (configured %.12g us): 'event show' says why", now_us,
		 configured_us);
	call->out->note(text);
}

static int probe_show(struct call *call)
{
	json_t *result;
	int code = request_ask(call, "probe", "show", json_incref(call->args), &result);

	if (code)
		return code;
	call->out->show(result, call->argc ? one : all);
	widened_note(call, result);
	json_decref(result);
	return CONTROL_DONE;
}

static const struct command commands[] = {
	{ .name = "show",
	  .help = "rounds asked and lost, round trips, verdict, the agent's word",
	  .run = probe_show,
	  .arguments = { { "BACKEND", VALUE_BACKEND, "name", true } } },
	{ 0 },
};

const struct object probe_object = { "probe", "how the servers are asked, and what they answer", commands };
