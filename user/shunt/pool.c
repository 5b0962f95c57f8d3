/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pool.c - shunt pool: the groups of servers, how many of each serve, and how available they were.
 */
#include "shunt/shunt.h"

static const struct column columns[] = {
	{ "name", "NAME", 0 },
	{ "slots", "SLOTS", 0 },
	{ "backends", "BACKENDS", 0 },
	{ "up", "UP", 0 },
	{ "draining", "DRAINING", 0 },
	{ "down", "DOWN", 0 },
	{ "live", "LIVE", 0 },
	{ "heirs_changed", "HEIRS CHANGED", 0 },
	{ "rebuilt_ns", "REBUILT AGO", UNIT_SINCE_NS },
	{ "availability.availability_percent", "AVAILABLE", UNIT_PERCENT },
	{ NULL, NULL, 0 },
};

static const struct column details[] = {
	{ "name", "name", 0 },
	{ "slots", "slots", 0 },
	{ "backends", "backends", 0 },
	{ "up", "up", 0 },
	{ "draining", "draining", 0 },
	{ "down", "down", 0 },
	{ "live", "live flows", 0 },
	{ "heirs_changed", "heirs changed", 0 },
	{ "rebuilt", "table rebuilt", 0 },
	{ "max_soft_eject_percent", "max soft eject", UNIT_PERCENT },
	{ "availability.availability_percent", "available", UNIT_PERCENT },
	{ "availability.failures", "failures", UNIT_COUNT },
	{ "availability.mttf_us", "MTTF", UNIT_US },
	{ "availability.mttr_us", "MTTR", UNIT_US },
	{ "availability.down_us", "time down", UNIT_US },
	{ "availability.drained_us", "time drained", UNIT_US },
	{ "availability.unknown_us", "time unknown", UNIT_US },
	{ "availability.since", "all that since", 0 },
	{ NULL, NULL, 0 },
};

static const struct view all[] = { { SHAPE_TABLE, NULL, columns, NULL }, { 0 } };
static const struct view one[] = { { SHAPE_RECORD, NULL, details, NULL }, { 0 } };

static int pool_show(struct call *call)
{
	return request_show(call, "pool", "show", json_incref(call->args), call->argc ? one : all);
}

static const struct command commands[] = {
	{ .name = "show",
	  .help = "how many servers of each serve, and how available it was; of one, everything",
	  .run = pool_show,
	  .arguments = { { "NAME", VALUE_POOL, "name", true } } },
	{ 0 },
};

const struct object pool_object = { "pool", "groups of servers", commands };
