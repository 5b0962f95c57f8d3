// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * daemon.c - shunt daemon: which shuntd runs and what it went on with, and its end.
 */
#include "shunt/shunt.h"

#include <errno.h>
#include <poll.h>
#include <sys/pidfd.h>
#include <unistd.h>

static const struct column daemon_columns[] = {
	{ "version", "version", 0 },
	{ "pid", "process", 0 },
	{ "uptime_s", "running for", UNIT_SECONDS },
	{ "config", "configuration", 0 },
	{ "pin", "pinned in", 0 },
	{ "not_pinned_because", "not pinned because", 0 },
	{ "start", "start", 0 },
	{ "generation", "generation", 0 },
	{ "maps_age_s", "maps made", UNIT_SECONDS },
	{ "runs", "runs with them", 0 },
	{ "layout", "layout", 0 },
	{ NULL, NULL, 0 },
};

static const struct column interface_columns[] = {
	{ "name", "INTERFACE", 0 }, { "attached", "ATTACHED", 0 }, { "mode", "MODE", 0 }, { "program", "PROGRAM", 0 },
	{ NULL, NULL, 0 },
};

static const struct view show_views[] = {
	{ SHAPE_RECORD, NULL, daemon_columns, NULL },
	{ SHAPE_TABLE, "interfaces", interface_columns, NULL },
	{ 0 },
};

static const struct column stop_columns[] = { { "text", NULL, 0 }, { NULL, NULL, 0 } };

static const struct view stop_views[] = { { SHAPE_TEXT, NULL, stop_columns, NULL }, { 0 } };

static int daemon_show(struct call *call)
{
	return request_show(call, "daemon", "show", NULL, show_views);
}

static int daemon_stop(struct call *call)
{
	struct pollfd ended = { .events = POLLIN };
	json_t *result;
	int n, code = request_ask(call, "daemon", "stop", json_incref(call->args), &result);

	if (code)
		return code;
	/* It may have ended already, and then there is nothing to wait for. */
	ended.fd = pidfd_open((pid_t)json_integer_value(json_object_get(result, "pid")), 0);
	n = ended.fd < 0 ? 1 : poll(&ended, 1, (int)call->patience_ms);
	if (ended.fd >= 0)
		close(ended.fd);
	if (n == 1) {
		json_object_set_new(
			result, "text",
			json_string(json_is_true(json_object_get(result, "detach"))
					    ? "shuntd has ended, and its programs with it: no VIP is served\n"
					    : "shuntd has ended; what it left in the kernel goes on\n"));
		call->out->show(result, stop_views);
	} else {
		code = complain(call, CONTROL_REFUSED, "shuntd was told to end, and hasn't ended yet");
	}
	json_decref(result);
	return code;
}

static const struct key stop_keys[] = { { .word = "detach" }, { 0 } };

static const struct command commands[] = {
	{ .name = "show",
	  .help = "which shuntd runs, what it went on with, and where its program is",
	  .run = daemon_show },
	{ .name = "stop",
	  .help = "end shuntd; what is pinned serves on, but with detach nothing stays",
	  .run = daemon_stop,
	  .keys = stop_keys },
	{ 0 },
};

const struct object daemon_object = { "daemon", "shuntd itself", commands };
