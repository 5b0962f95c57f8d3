/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vip.c - shunt vip: the addresses that clients know.
 */
#include "shunt/shunt.h"

static const struct column columns[] = {
	{ "name", "NAME", 0 },
	{ "address", "ADDRESS", 0 },
	{ "protocol", "PROTO", 0 },
	{ "port", "PORT", UNIT_PORT },
	{ "pool", "POOL", 0 },
	{ "hash", "HASH", 0 },
	{ "on_failure", "ON FAILURE", 0 },
	{ "packets", "PACKETS", UNIT_COUNT },
	{ "bytes", "BYTES", UNIT_BYTES },
	{ "new_flows", "OPENED", UNIT_COUNT },
	{ "held_by", "HELD BY", 0 },
	{ NULL, NULL, 0 },
};

static const struct column details[] = {
	{ "name", "name", 0 },
	{ "id", "id", 0 },
	{ "address", "address", 0 },
	{ "protocol", "protocol", 0 },
	{ "port", "port", UNIT_PORT },
	{ "pool", "pool", 0 },
	{ "policy", "policy", 0 },
	{ "hash", "hash", 0 },
	{ "on_failure", "on failure", 0 },
	{ "syn_limit", "SYN limit", 0 },
	{ "slots", "slots", 0 },
	{ "packets", "packets", 0 },
	{ "bytes", "bytes", 0 },
	{ "new_flows", "new flows", 0 },
	{ "policed", "SYNs above their limit", 0 },
	{ "held", "held by this host", 0 },
	{ "held_by", "on interface", 0 },
	{ NULL, NULL, 0 },
};

static const struct view all[] = { { SHAPE_TABLE, NULL, columns, NULL }, { 0 } };
static const struct view one[] = { { SHAPE_RECORD, NULL, details, NULL }, { 0 } };

static int vip_show(struct call *call)
{
	return request_show(call, "vip", "show", json_incref(call->args), call->argc ? one : all);
}

static const struct command commands[] = {
	{ .name = "show",
	  .help = "addresses, their pools and their traffic; of one, everything",
	  .run = vip_show,
	  .arguments = { { "NAME", VALUE_VIP, "name", true } } },
	{ 0 },
};

const struct object vip_object = { "vip", "the addresses that clients connect to", commands };
