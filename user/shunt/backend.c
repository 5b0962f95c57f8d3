/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * backend.c - shunt backend: the servers, their state and its reason, the way to them.
 */
#include "shunt/shunt.h"

static const struct column columns[] = {
	{ "name", "NAME", 0 },
	{ "pool", "POOL", 0 },
	{ "address", "ADDRESS", 0 },
	{ "state", "STATE", 0 },
	{ "verdict", "WHY", 0 },
	{ "since_ns", "FOR", UNIT_SINCE_NS },
	{ "forward", "FORWARD", 0 },
	{ "weight", "WEIGHT", 0 },
	{ "packets", "PACKETS", UNIT_COUNT },
	{ "bytes", "BYTES", UNIT_BYTES },
	{ "new_flows", "FLOWS", UNIT_COUNT },
	{ NULL, NULL, 0 },
};

static const struct column details[] = {
	{ "name", "name", 0 },           { "id", "id", 0 },
	{ "pool", "pool", 0 },           { "address", "address", 0 },
	{ "state", "state", 0 },         { "verdict", "why", 0 },
	{ "since", "since", 0 },         { "weight", "weight", 0 },
	{ "domain", "domain", 0 },       { "forward", "forward", 0 },
	{ "egress", "egress", 0 },       { "mac", "next hop", 0 },
	{ "local", "outer source", 0 },  { "mtu", "mtu", 0 },
	{ "packets", "packets", 0 },     { "bytes", "bytes", 0 },
	{ "new_flows", "new flows", 0 }, { NULL, NULL, 0 },
};

static const struct view all[] = { { SHAPE_TABLE, NULL, columns, NULL }, { 0 } };
static const struct view one[] = { { SHAPE_RECORD, NULL, details, NULL }, { 0 } };

static int backend_show(struct call *call)
{
	return request_show(call, "backend", "show", call->argc ? json_pack("{s:s}", "name", call->argv[0]) : NULL,
			    call->argc ? one : all);
}

static const struct command commands[] = {
	{ "show", "[NAME]", "backends, their states and their traffic; of one, everything", backend_show, 0, 1 },
	{ NULL, NULL, NULL, NULL, 0, 0 },
};

const struct object backend_object = { "backend", "servers behind them", commands };
