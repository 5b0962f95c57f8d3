/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * probe.c - shunt probe: what the heartbeats say.
 */
#include "shunt/shunt.h"

static const struct column columns[] = {
	{ "backend", "BACKEND", 0 },
	{ "address", "ADDRESS", 0 },
	{ "state", "STATE", 0 },
	{ "rounds_asked", "ASKED", UNIT_COUNT },
	{ "answers", "ANSWERS", UNIT_COUNT },
	{ "loss_permille", "LOSS", UNIT_PERMILLE },
	{ "rtt_us", "RTT", UNIT_US },
	{ "last_answer_us", "LAST", UNIT_US },
	{ "engine", "ENGINE", 0 },
	{ "agent_age_us", "AGENT", UNIT_US },
	{ NULL, NULL, 0 },
};

static const struct view all[] = { { SHAPE_TABLE, NULL, columns, NULL }, { 0 } };

static int probe_show(struct call *call)
{
	return request_show(call, "probe", "show", call->argc ? json_pack("{s:s}", "name", call->argv[0]) : NULL, all);
}

static const struct command commands[] = {
	{ "show", "[BACKEND]", "rounds asked and answered, round trip, age of the newest answer", probe_show, 0, 1,
	  NULL },
	{ 0 },
};

const struct object probe_object = { "probe", "heartbeats to the backends", commands };
