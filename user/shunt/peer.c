/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * peer.c - shunt peer: the other balancer of the pair.
 */
#include "shunt/shunt.h"

static const struct column details[] = {
	{ "address", "address", 0 },
	{ "state", "state", 0 },
	{ "since_ns", "for", UNIT_SINCE_NS },
	{ "lag_us", "lag", UNIT_US },
	{ "rtt_us", "round trip", UNIT_US },
	{ "flows_sent", "flows sent", UNIT_COUNT },
	{ "flows_received", "flows received", UNIT_COUNT },
	{ "flows_refused_full", "of them, no room", UNIT_COUNT },
	{ "flows_refused_unknown", "of them, unknown", UNIT_COUNT },
	{ "resyncs", "resyncs", UNIT_COUNT },
	{ "datagrams_sent", "datagrams sent", UNIT_COUNT },
	{ "datagrams_received", "datagrams received", UNIT_COUNT },
	{ "bytes_sent", "sent", UNIT_BYTES },
	{ "bytes_received", "received", UNIT_BYTES },
	{ "lost", "lost", UNIT_COUNT },
	{ "send_errors", "not sent", UNIT_COUNT },
	{ "forged", "forged", UNIT_COUNT },
	{ "replayed", "replayed", UNIT_COUNT },
	{ "truncated", "truncated", UNIT_COUNT },
	{ "other_version", "other version", UNIT_COUNT },
	{ "run", "run", 0 },
	{ "peer_run", "peer's run", 0 },
	{ "version", "version", 0 },
	{ "peer_version", "peer's version", 0 },
	{ NULL, NULL, 0 },
};
static const struct view views[] = { { SHAPE_RECORD, NULL, details, NULL }, { 0 } };

static int peer_show(struct call *call)
{
	json_t *result;
	int code = request_ask(call, "peer", "show", json_incref(call->args), &result);

	if (code)
		return code;
	call->out->show(result, views);
	if (!json_array_size(result))
		call->out->note("there is no peer: the configuration has no `peer`");
	json_decref(result);
	return CONTROL_DONE;
}

static const struct command commands[] = {
	{ .name = "show", .help = "whether it answers, how far it is behind, what was refused", .run = peer_show },
	{ 0 },
};

const struct object peer_object = { "peer", "the other balancer of a pair", commands };
