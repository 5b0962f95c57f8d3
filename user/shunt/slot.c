/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * slot.c - shunt slot: who owns how much of a table, and who follows in a slot.
 */
#include "shunt/shunt.h"

static const struct column columns[] = {
	{ "pool", "POOL", 0 }, { "backend", "BACKEND", 0 }, { "owner", "OWNER", 0 },
	{ "heir", "HEIR", 0 }, { "slots", "OF", 0 },        { NULL, NULL, 0 },
};

static const struct column details[] = {
	{ "pool", "pool", 0 },
	{ "slot", "slot", 0 },
	{ "owner", "owner", 0 },
	{ "heir", "heir", 0 },
	{ "succession", "succession", 0 },
	{ NULL, NULL, 0 },
};

static const struct view all[] = { { SHAPE_TABLE, NULL, columns, NULL }, { 0 } };
static const struct view one[] = { { SHAPE_RECORD, NULL, details, NULL }, { 0 } };

static int slot_show(struct call *call)
{
	return request_show(call, "slot", "show", json_incref(call->args), call->argc < 2 ? all : one);
}

static const struct command commands[] = {
	{ .name = "show",
	  .help = "slots that each backend owns and is heir to; of one slot, who follows",
	  .run = slot_show,
	  .arguments = { { "POOL", VALUE_POOL, "pool", true }, { "SLOT", VALUE_NUMBER, "slot", true } } },
	{ 0 },
};

const struct object slot_object = { "slot", "the servers' shares of the tables", commands };
