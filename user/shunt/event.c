/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * event.c - shunt event: what happened, and what happens.
 */
#include "shunt/shunt.h"

static const struct column columns[] = { { "time", "TIME", 0 }, { "text", "EVENT", 0 }, { NULL, NULL, 0 } };
static const struct view views[] = { { SHAPE_LINES, NULL, columns, NULL }, { 0 } };

static const struct key keys[] = { { .word = "from", .value = VALUE_NUMBER, .title = "NUMBER" }, { 0 } };

static int event_show(struct call *call)
{
	return request_show(call, "event", "show", json_incref(call->args), views);
}

static int event_monitor(struct call *call)
{
	return request_follow(call, "event", "monitor", json_incref(call->args), views);
}

static const struct command commands[] = {
	{ .name = "show", .help = "what happened, oldest first", .run = event_show, .keys = keys },
	{ .name = "monitor", .help = "what happens, as it happens, until Ctrl-C", .run = event_monitor, .keys = keys },
	{ 0 },
};

const struct object event_object = { "event", "what happened, and why", commands };
