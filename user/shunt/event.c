/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * event.c - shunt event: what happened, and what happens.
 */
#include "shunt/shunt.h"

static const struct column columns[] = { { "time", "TIME", 0 }, { "text", "EVENT", 0 }, { NULL, NULL, 0 } };
static const struct view views[] = { { SHAPE_LINES, NULL, columns, NULL }, { 0 } };

static const struct key keys[] = { { "from", KEY_NUMBER, NULL }, { NULL, 0, NULL } };

static int event_show(struct call *call)
{
	json_t *args = NULL;
	int code = keys_parse(call, 0, keys, &args);

	return code ? code : request_show(call, "event", "show", args, views);
}

static int event_monitor(struct call *call)
{
	json_t *args = NULL;
	int code = keys_parse(call, 0, keys, &args);

	return code ? code : request_follow(call, "event", "monitor", args, views);
}

static const struct command commands[] = {
	{ "show", "[from NUMBER]", "what happened, oldest first", event_show, 0, 2, NULL },
	{ "monitor", "[from NUMBER]", "what happens, as it happens, until Ctrl-C", event_monitor, 0, 2, NULL },
	{ 0 },
};

const struct object event_object = { "event", "what happened, and why", commands };
