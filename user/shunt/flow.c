/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.c - shunt flow: where a connection goes.
 */
#include "shunt/shunt.h"

static const struct column columns[] = {
	{ "backend", "backend", 0 }, { "why", "why", 0 },   { "vip", "vip", 0 }, { "slot", "slot", 0 },
	{ "owner", "owner", 0 },     { "heir", "heir", 0 }, { NULL, NULL, 0 },
};

static const struct view views[] = { { SHAPE_RECORD, NULL, columns, NULL }, { 0 } };

static int flow_where(struct call *call)
{
	return request_show(call, "flow", "where",
			    json_pack("{s:s, s:s}", "source", call->argv[0], "vip", call->argv[1]), views);
}

static const struct command commands[] = {
	{ "where", "SOURCE:PORT VIP", "which backend such a packet goes to now, and why; changes nothing", flow_where,
	  2, 2 },
	{ NULL, NULL, NULL, NULL, 0, 0 },
};

const struct object flow_object = { "flow", "where a connection goes", commands };
