/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ledger.c - a ring of events, each kept as the JSON object that the control socket hands out (include/shunt/control.h).
 *
 * Decides how an event reads; what is an event, and its evidence, is its caller's. Written and read by the main loop.
 */
#include "shuntd/ledger.h"

#include <errno.h>
#include <stdbool.h>
#include <time.h>

struct ledger {
	json_t *events[LEDGER_SIZE]; /* event number n is at [n % LEDGER_SIZE] */
	uint64_t next; /* number of the next event; the first is 1 */
	void (*listener)(void *arg);
	void *listener_arg;
};

int ledger_open(struct ledger **out)
{
	struct ledger *ledger = calloc(1, sizeof(*ledger));

	if (!ledger)
		return -ENOMEM;
	ledger->next = 1;
	*out = ledger;
	return 0;
}

void ledger_close(struct ledger *ledger)
{
	if (!ledger)
		return;
	for (int i = 0; i < LEDGER_SIZE; i++)
		json_decref(ledger->events[i]);
	free(ledger);
}

static int64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* RFC 3339, UTC, microseconds. */
static void time_format(char out[40], int64_t wall_ns)
{
	time_t seconds = wall_ns / 1000000000;
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(out, 40, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, 40 - n, ".%06dZ", (int)(wall_ns % 1000000000 / 1000));
}

/* `OBJECT NAME: WHAT (WHY: KEY VALUE, ...)`, leaving out what is not there. */
static void sentence_print(FILE *f, const char *object, const char *name, const char *what, const char *why,
			   json_t *evidence)
{
	const char *key, *comma = "";
	bool has_why = why && *why, has_evidence = json_object_size(evidence) > 0;
	json_t *value;

	fprintf(f, "%s%s%s: %s", object, name && *name ? " " : "", name ? name : "", what);
	if (has_why || has_evidence)
		fprintf(f, " (%s%s", has_why ? why : "", has_why && has_evidence ? ": " : "");
	json_object_foreach(evidence, key, value)
	{
		fprintf(f, "%s%s ", comma, key);
		comma = ", ";
		if (json_is_string(value))
			fputs(json_string_value(value), f);
		else
			json_dumpf(value, f, JSON_COMPACT | JSON_ENCODE_ANY);
	}
	if (has_why || has_evidence)
		fputc(')', f);
}

void ledger_add(struct ledger *ledger, uint64_t at_ns, const char *object, const char *name, const char *what,
		const char *why, json_t *evidence)
{
	int64_t now_ns = clock_ns(CLOCK_MONOTONIC), wall_ns = clock_ns(CLOCK_REALTIME);
	char time[40], *text = NULL;
	size_t size;
	json_t *event, **place;
	FILE *f = open_memstream(&text, &size);

	if (!at_ns)
		at_ns = (uint64_t)now_ns;
	time_format(time, wall_ns - (now_ns - (int64_t)at_ns));
	if (f) {
		sentence_print(f, object, name, what, why, evidence);
		fclose(f);
	}
	fprintf(stderr, "%s\n", text ? text : what);

	event = json_pack("{s:I, s:s, s:I, s:s, s:s?, s:s, s:s?, s:o, s:s?}", "number", (json_int_t)ledger->next,
			  "time", time, "at_ns", (json_int_t)at_ns, "object", object, "name", name, "what", what, "why",
			  why, "evidence", evidence ? evidence : json_object(), "text", text);
	free(text);
	if (!event)
		return; /* out of memory: it was logged */
	place = &ledger->events[ledger->next % LEDGER_SIZE];
	json_decref(*place);
	*place = event;
	ledger->next++;
	if (ledger->listener)
		ledger->listener(ledger->listener_arg);
}

json_t *ledger_since(const struct ledger *ledger, uint64_t from, uint64_t *next)
{
	uint64_t oldest = ledger->next > LEDGER_SIZE ? ledger->next - LEDGER_SIZE : 1;
	json_t *events = json_array();

	for (uint64_t n = from > oldest ? from : oldest; n < ledger->next; n++)
		json_array_append(events, ledger->events[n % LEDGER_SIZE]);
	if (next)
		*next = ledger->next;
	return events;
}

void ledger_listen(struct ledger *ledger, void (*fn)(void *arg), void *arg)
{
	ledger->listener = fn;
	ledger->listener_arg = arg;
}
