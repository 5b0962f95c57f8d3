/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * backend.c - shunt backend: the servers, their state and its reason, the way to them; taking one out of service.
 *
 * The daemon drains and keeps the deadline; `wait` only watches, so that whoever asked may go away meanwhile.
 */
#include "shunt/shunt.h"

#include <inttypes.h>
#include <signal.h>
#include <time.h>

#define WAIT_PERIOD_NS 200000000L /* between two looks at a backend that drains, chosen */

static const struct column columns[] = {
	{ "name", "NAME", 0 },
	{ "pool", "POOL", 0 },
	{ "address", "ADDRESS", 0 },
	{ "state", "STATE", 0 },
	{ "verdict", "WHY", 0 },
	{ "since_ns", "FOR", UNIT_SINCE_NS },
	{ "weight", "WEIGHT", 0 },
	{ "live", "LIVE", 0 },
	{ "packets", "PACKETS", UNIT_COUNT },
	{ "bytes", "BYTES", UNIT_BYTES },
	{ "new_flows", "OPENED", UNIT_COUNT },
	{ NULL, NULL, 0 },
};

static const struct column details[] = {
	{ "name", "name", 0 },
	{ "id", "id", 0 },
	{ "pool", "pool", 0 },
	{ "address", "address", 0 },
	{ "state", "state", 0 },
	{ "verdict", "why", 0 },
	{ "since", "since", 0 },
	{ "doubted", "doubted", 0 },
	{ "hold_us", "hold", UNIT_US },
	{ "hold_left_us", "hold left", UNIT_US },
	{ "weight", "weight", 0 },
	{ "configured_weight", "configured", 0 },
	{ "domain", "domain", 0 },
	{ "live", "live flows", 0 },
	{ "detours", "detours", 0 },
	{ "draining", "draining", 0 },
	{ "deadline_us", "rest is cut in", UNIT_US },
	{ "cut", "cut", 0 },
	{ "forward", "forward", 0 },
	{ "egress", "egress", 0 },
	{ "mac", "next hop", 0 },
	{ "local", "outer source", 0 },
	{ "mtu", "mtu", 0 },
	{ "packets", "packets", 0 },
	{ "bytes", "bytes", 0 },
	{ "new_flows", "new flows", 0 },
	{ "availability.availability_percent", "available", UNIT_PERCENT },
	{ "availability.failures", "failures", UNIT_COUNT },
	{ "availability.mttf_us", "MTTF", UNIT_US },
	{ "availability.mttr_us", "MTTR", UNIT_US },
	{ "availability.since", "all that since", 0 },
	{ NULL, NULL, 0 },
};

static const struct view all[] = { { SHAPE_TABLE, NULL, columns, NULL }, { 0 } };
static const struct view one[] = { { SHAPE_RECORD, NULL, details, NULL }, { 0 } };

static int backend_show(struct call *call)
{
	return request_show(call, "backend", "show", json_incref(call->args), call->argc ? one : all);
}

/* ---- drain ---- */

static const struct column text_columns[] = { { "text", "", 0 }, { NULL, NULL, 0 } };
static const struct view text_view = { SHAPE_LINES, NULL, text_columns, NULL };

static volatile sig_atomic_t interrupted; /* by this signal */

static void interrupt(int signal)
{
	interrupted = signal;
}

/* What the daemon answered to drain or undrain. Programs find the notes in the result. */
static void outcome_show(const struct call *call, const json_t *result, bool last)
{
	const json_t *note;
	size_t i;

	if (last)
		call->out->item(result, &text_view);
	json_array_foreach(json_object_get(result, "notes"), i, note) call->out->note(json_string_value(note));
}

static json_int_t number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static const char *flows(json_int_t n)
{
	return n == 1 ? "flow" : "flows";
}

static void progress_show(const struct call *call, const json_t *backend)
{
	const char *name = json_string_value(json_object_get(backend, "name"));
	json_int_t live = number_of(backend, "live"), left_s = (number_of(backend, "deadline_us") + 999999) / 1000000;
	char text[192];

	if (!live)
		snprintf(text, sizeof(text), "%s: no flow open, the last ones end", name);
	else if (json_is_integer(json_object_get(backend, "deadline_us")))
		snprintf(text, sizeof(text), "%s: %" PRId64 " %s left, cut in %" PRId64 " s", name, (int64_t)live,
			 flows(live), (int64_t)left_s);
	else
		snprintf(text, sizeof(text), "%s: %" PRId64 " %s left", name, (int64_t)live, flows(live));
	call->out->progress(text);
}

/* How the wait ended, as an exit status; -1: it goes on. */
static int wait_end(const struct call *call, const json_t *backend)
{
	const char *name = json_string_value(json_object_get(backend, "name"));
	const char *state = json_string_value(json_object_get(backend, "state"));
	json_int_t cut = number_of(backend, "cut");
	json_t *result;
	char text[128];

	if (!json_is_string(json_object_get(backend, "draining"))) {
		call->out->progress(NULL);
		return complain(call, CONTROL_REFUSED, "%s was put back into service meanwhile", name);
	}
	if (json_is_true(json_object_get(backend, "drained"))) {
		call->out->progress(NULL);
		if (cut)
			return complain(call, CONTROL_REFUSED, "%s: %" PRId64 " %s cut at the deadline", name,
					(int64_t)cut, cut == 1 ? "flow was" : "flows were");
		snprintf(text, sizeof(text), "%s: drained", name);
		result = json_pack("{s:s, s:I, s:I, s:s}", "name", name, "live", number_of(backend, "live"), "cut", cut,
				   "text", text);
		call->out->item(result, &text_view);
		json_decref(result);
		return CONTROL_DONE;
	}
	if (state && !strcmp(state, "down")) {
		call->out->progress(NULL);
		return complain(call, CONTROL_REFUSED, "%s went down before its flows had ended", name);
	}
	return -1;
}

/* Of two of a name, one of which was removed from the configuration, the other one: the one that was asked for. */
static const json_t *backend_of(const json_t *list)
{
	const json_t *backend, *why;
	size_t i;

	json_array_foreach(list, i, backend)
	{
		why = json_object_get(backend, "draining");
		if (!json_is_string(why) || strcmp(json_string_value(why), "removed"))
			return backend;
	}
	return json_array_get(list, 0);
}

/* Watch until the last flow has ended, one way or another. */
static int drain_wait(const struct call *call, const char *name)
{
	const struct timespec period = { .tv_nsec = WAIT_PERIOD_NS };
	struct sigaction action = { .sa_handler = interrupt };
	json_int_t live = 0;
	int code = -1;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	while (code < 0 && !interrupted) {
		const json_t *backend;
		json_t *list;

		code = request_ask(call, "backend", "show", json_pack("{s:s}", "name", name), &list);
		if (code)
			return code;
		backend = backend_of(list);
		live = number_of(backend, "live");
		code = wait_end(call, backend);
		if (code < 0)
			progress_show(call, backend);
		json_decref(list);
		if (code < 0 && !interrupted)
			nanosleep(&period, NULL);
	}
	if (code >= 0)
		return code;
	call->out->progress(NULL);
	complain(call, CONTROL_REFUSED, "%s goes on draining: %" PRId64 " %s left", name, (int64_t)live, flows(live));
	fflush(stdout);
	signal(interrupted, SIG_DFL);
	raise(interrupted); /* so that whoever called sees why it ended */
	return CONTROL_REFUSED;
}

static int backend_drain(struct call *call)
{
	bool wait = json_object_get(call->args, "wait");
	const char *state;
	json_t *result;
	int code;

	json_object_del(call->args, "wait");
	code = request_ask(call, "backend", "drain", json_incref(call->args), &result);
	if (code)
		return code;
	state = json_string_value(json_object_get(result, "state"));
	wait = wait && state && strcmp(state, "down"); /* then there is nothing to wait for */
	outcome_show(call, result, !wait);
	json_decref(result);
	return wait ? drain_wait(call, call->argv[0]) : CONTROL_DONE;
}

static int backend_undrain(struct call *call)
{
	json_t *result;
	int code = request_ask(call, "backend", "undrain", json_incref(call->args), &result);

	if (code)
		return code;
	outcome_show(call, result, true);
	json_decref(result);
	return CONTROL_DONE;
}

static int backend_set(struct call *call)
{
	const char *text = json_string_value(json_object_get(call->args, "weight"));
	char *end = NULL;
	long weight = strtol(text, &end, 10);
	json_t *result;
	int code;

	if (strcmp(text, "default") != 0 && (*text < '0' || *text > '9' || *end || weight < 1 || weight > UINT16_MAX))
		return complain(call, CONTROL_MISUSE,
				"'weight' needs a whole number from 1 to %d, or 'default', not '%s'", UINT16_MAX, text);
	json_object_set_new(call->args, "weight", json_integer(weight));
	code = request_ask(call, "backend", "set", json_incref(call->args), &result);
	if (code)
		return code;
	outcome_show(call, result, true);
	json_decref(result);
	return CONTROL_DONE;
}

static const struct key drain_keys[] = {
	{ .word = "wait" },
	{ .word = "deadline", .value = VALUE_DURATION, .title = "TIME", .name = "within_ns" },
	{ 0 },
};

static const struct key set_keys[] = {
	{ .word = "weight", .value = VALUE_TEXT, .title = "N|default" },
	{ 0 },
};

static const struct command commands[] = {
	{ .name = "show",
	  .help = "backends, their states and their traffic; of one, everything",
	  .run = backend_show,
	  .arguments = { { "NAME", VALUE_BACKEND, "name", true } } },
	{ .name = "drain",
	  .help = "no new flow; those it has go on, until TIME (such as 10m) at most; wait for the last",
	  .run = backend_drain,
	  .arguments = { { "NAME", VALUE_BACKEND, "name", false } },
	  .keys = drain_keys },
	{ .name = "undrain",
	  .help = "back into service",
	  .run = backend_undrain,
	  .arguments = { { "NAME", VALUE_BACKEND, "name", false } } },
	{ .name = "set",
	  .help = "another weight than the configured one, from now on; or that one again",
	  .run = backend_set,
	  .arguments = { { "NAME", VALUE_BACKEND, "name", false } },
	  .keys = set_keys,
	  .needs_key = true },
	{ 0 },
};

const struct object backend_object = { "backend", "the servers, and taking one out of service", commands };
