/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * event.c - shunt event: what happened, and what happens.
 */
#include "shunt/shunt.h"

static const struct column columns[] = { { "time", "TIME", 0 }, { "text", "EVENT", 0 }, { NULL, NULL, 0 } };
static const struct view views[] = { { SHAPE_LINES, NULL, columns, NULL }, { 0 } };

/* [from NUMBER] -> args in *args, or the exit status. */
static int from_parse(struct call *call, json_t **args)
{
	json_int_t number;

	*args = NULL;
	if (!call->argc)
		return CONTROL_DONE;
	if (call->argc != 2 || !is_prefix(call->argv[0], "from") || number_parse(&number, call->argv[1]))
		return complain(call, CONTROL_MISUSE, "events are chosen by 'from NUMBER'");
	*args = json_pack("{s:I}", "from", number);
	return CONTROL_DONE;
}

static int event_show(struct call *call)
{
	json_t *args;
	int code = from_parse(call, &args);

	return code ? code : request_show(call, "event", "show", args, views);
}

static int event_monitor(struct call *call)
{
	json_t *args;
	int code = from_parse(call, &args);

	return code ? code : request_follow(call, "event", "monitor", args, views);
}

static const struct command commands[] = {
	{ "show", "[from NUMBER]", "what happened, oldest first", event_show, 0, 2 },
	{ "monitor", "[from NUMBER]", "what happens, as it happens, until Ctrl-C", event_monitor, 0, 2 },
	{ NULL, NULL, NULL, NULL, 0, 0 },
};

const struct object event_object = { "event", "changes of state, their reasons and evidence", commands };
