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
	json_int_t number;

	if (call->argc < 2)
		return request_show(call, "slot", "show", call->argc ? json_pack("{s:s}", "pool", call->argv[0]) : NULL,
				    all);
	if (number_parse(&number, call->argv[1]))
		return complain(call, CONTROL_MISUSE, "a slot is a number, not '%s'", call->argv[1]);
	return request_show(call, "slot", "show", json_pack("{s:s, s:I}", "pool", call->argv[0], "slot", number), one);
}

static const struct command commands[] = {
	{ "show", "[POOL [SLOT]]", "slots that each backend owns and is heir to; of one slot, who follows", slot_show,
	  0, 2, NULL },
	{ 0 },
};

const struct object slot_object = { "slot", "the servers' shares of the tables", commands };
