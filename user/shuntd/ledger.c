/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ledger.c - a ring of events, each kept as the JSON object that the control socket hands out (include/shunt/control.h) and
 * that is a line of the file.
 *
 * Decides how an event reads and how grave it is; what is an event, and its evidence, is its caller's. Written and read by
 * the main loop.
 */
#include "shuntd/ledger.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "core/wall_time.h"
#include "shuntd/ledger_file.h"

#define SECOND_NS 1000000000LL
#define RETRY_NS SECOND_NS /* chosen: between two attempts to write */
#define TOUCH_NS (10 * SECOND_NS) /* chosen: of a time without shuntd so much may be taken for one with it */
#define WRITES_MAX 64 /* chosen: lines that are written at once */

#define BOOT_ID "/proc/sys/kernel/random/boot_id" /* proc(5): made anew at each boot */
#define BOOT_TEXT_MAX 40

struct ledger {
	struct {
		json_t *event; /* number n is at [n % LEDGER_SIZE]; NULL or an older one: there is none */
		int64_t wall_ns;
	} ring[LEDGER_SIZE];
	uint64_t next; /* number of the next event; the first is 1 */
	char boot[BOOT_TEXT_MAX];
	bool to_journal; /* stderr is the journal's */
	struct ledger_options options;
	void (*listener)(void *arg);
	void *listener_arg;
	/* the file */
	struct ledger_file *file; /* NULL: there is none */
	uint64_t written; /* all events below were written, or can't be any more */
	uint64_t n_lost; /* of those: fell out of the ring before they could be */
	bool failing; /* said once */
	int64_t next_try_ns, touched_ns; /* CLOCK_MONOTONIC */
};

/* ---- how an event reads ---- */

/*
 * How grave it is, as the journal has it (sd-daemon(3)). Errors: shuntd can't do its work. Warnings: something failed, or
 * is about to. What isn't here is a notice.
 */
static const struct {
	const char *what;
	int priority;
} priorities[] = {
	{ "ill", LOG_ERR },
	{ "failed", LOG_ERR },
	{ "self-suspect", LOG_ERR },
	{ "netlink lost", LOG_ERR },
	{ "table kept", LOG_ERR },
	{ "flows not told", LOG_ERR },
	{ "ledger not written", LOG_ERR },
	{ "state not kept", LOG_ERR },
	{ "state not read", LOG_ERR },
	{ "not pinned", LOG_ERR },
	{ "probes not changed", LOG_ERR },
	{ "probes not moved", LOG_ERR },
	{ "checks not changed", LOG_ERR },
	{ "probe keys not changed", LOG_ERR },
	{ "not changed", LOG_ERR },
	{ "down", LOG_WARNING },
	{ "not up", LOG_WARNING },
	{ "unresolved", LOG_WARNING },
	{ "kept", LOG_WARNING },
	{ "late", LOG_WARNING },
	{ "cut", LOG_WARNING },
	{ "reload refused", LOG_WARNING },
	{ "detector: controller", LOG_WARNING },
	{ "began anew", LOG_WARNING },
	{ "probes widened", LOG_WARNING },
	{ "journal fills", LOG_WARNING },
	{ "answers come too late", LOG_WARNING },
	{ "answers bear no tag of ours", LOG_WARNING },
	{ "agent of another version", LOG_WARNING },
	{ "agent's word is old", LOG_WARNING },
	{ "resolved", LOG_INFO },
	{ "flows told", LOG_INFO },
	{ "flows moved", LOG_INFO },
	{ "table rebuilt", LOG_INFO },
	{ "forgotten", LOG_INFO },
	{ "ledger opened", LOG_INFO },
};

static int priority_of(const char *what)
{
	for (size_t i = 0; i < sizeof(priorities) / sizeof(*priorities); i++)
		if (!strcmp(priorities[i].what, what))
			return priorities[i].priority;
	return LOG_NOTICE;
}

/* systemd.exec(5): $JOURNAL_STREAM is the device and inode of what the service was given; stderr may be another by now. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char text[64];
	struct stat st;

	if (!stream || fstat(STDERR_FILENO, &st))
		return false;
	snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return !strcmp(stream, text);
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

/* ---- the ring ---- */

static json_t *event_at(const struct ledger *ledger, uint64_t number)
{
	json_t *event = ledger->ring[number % LEDGER_SIZE].event;

	return (uint64_t)json_integer_value(json_object_get(event, "number")) == number ? event : NULL;
}

/* Takes over the event, which has the next number. */
static void ring_put(struct ledger *ledger, json_t *event, int64_t wall_ns, bool is_old)
{
	uint64_t place = ledger->next % LEDGER_SIZE;

	json_decref(ledger->ring[place].event);
	ledger->ring[place].event = event;
	ledger->ring[place].wall_ns = wall_ns;
	ledger->next++;
	if (ledger->options.on_event)
		ledger->options.on_event(ledger->options.arg, event, is_old);
}

/* ---- the file ---- */

static bool is_text_or_null(const json_t *value)
{
	return json_is_string(value) || json_is_null(value);
}

/* A line of the file. One with a number that was there already gets the next: shuntd ran for a while without its file. */
static bool line_take(void *arg, const char *line, size_t length)
{
	json_t *event = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL), *name, *why, *evidence, *text;
	const char *time, *boot, *object, *what;
	struct ledger *ledger = arg;
	json_int_t number, at_ns;
	int64_t wall_ns;

	if (json_unpack(event, "{s:I, s:s, s:I, s:s, s:s, s:o, s:s, s:o, s:o, s:o!}", "number", &number, "time", &time,
			"at_ns", &at_ns, "boot", &boot, "object", &object, "name", &name, "what", &what, "why", &why,
			"evidence", &evidence, "text", &text) ||
	    number < 1 || number > 1LL << 53 || at_ns < 0 || !is_text_or_null(name) || !is_text_or_null(why) ||
	    !is_text_or_null(text) || !json_is_object(evidence) || wall_time_parse(&wall_ns, time)) {
		json_decref(event);
		return false;
	}
	if ((uint64_t)number < ledger->next)
		json_object_set_new(event, "number", json_integer((json_int_t)ledger->next));
	else
		ledger->next = (uint64_t)number;
	ring_put(ledger, event, wall_ns, true);
	return true;
}

/* Write what isn't yet, as far as the file takes it. 0 or -errno. */
static int file_follow(struct ledger *ledger)
{
	uint64_t oldest = ledger->next > LEDGER_SIZE ? ledger->next - LEDGER_SIZE : 1;
	int err = 0, n = 0;

	if (ledger->written < oldest) {
		ledger->n_lost += oldest - ledger->written;
		ledger->written = oldest;
	}
	for (; !err && ledger->written < ledger->next && n < WRITES_MAX; n++) {
		json_t *event = event_at(ledger, ledger->written);
		char *line = event ? json_dumps(event, JSON_COMPACT) : NULL;

		if (line)
			err = ledger_file_append(ledger->file, line, strlen(line));
		free(line);
		ledger->written += !err;
	}
	return err;
}

static void file_failed(struct ledger *ledger, int err)
{
	ledger->next_try_ns = monotonic_ns() + RETRY_NS;
	if (ledger->failing)
		return;
	ledger->failing = true;
	ledger_add(ledger, 0, "shuntd", "self", "ledger not written",
		   err == -EBUSY ? "another process writes it" : strerror(-err),
		   json_pack("{s:s}", "directory", ledger->options.directory));
}

static void file_write(struct ledger *ledger)
{
	int err = file_follow(ledger);

	if (err) {
		file_failed(ledger, err);
	} else if (ledger->failing && ledger->written == ledger->next) {
		ledger->failing = false;
		ledger_add(ledger, 0, "shuntd", "self", "ledger written again", NULL,
			   json_pack("{s:I}", "lost", (json_int_t)ledger->n_lost));
		ledger->n_lost = 0;
	}
}

void ledger_run(struct ledger *ledger)
{
	int64_t now_ns = monotonic_ns();

	if (!ledger->file)
		return;
	if (now_ns - ledger->touched_ns >= TOUCH_NS) {
		ledger->touched_ns = now_ns;
		ledger_file_touch(ledger->file);
	}
	if (ledger->written < ledger->next && now_ns >= ledger->next_try_ns)
		file_write(ledger);
}

/* ---- open, add, find ---- */

static void boot_read(char boot[BOOT_TEXT_MAX])
{
	FILE *f = fopen(BOOT_ID, "re");

	if (!f || !fgets(boot, BOOT_TEXT_MAX, f))
		*boot = '\0'; /* all boots are one then */
	boot[strcspn(boot, "\n")] = '\0';
	if (f)
		fclose(f);
}

static void file_open(struct ledger *ledger)
{
	char ran_until[WALL_TIME_TEXT_MAX] = "";
	struct ledger_file_read read;
	int64_t newest_ns;
	int err = ledger_file_read(ledger->file, line_take, ledger, &read);

	ledger->written = ledger->next;
	if (err) {
		file_failed(ledger, err);
		return;
	}
	/* A file whose time is no later than its last line was copied, or the clock stepped back. */
	newest_ns = read.n_taken ? ledger->ring[(ledger->next - 1) % LEDGER_SIZE].wall_ns : 0;
	if (read.n_taken)
		wall_time_format(read.touched_ns > newest_ns ? read.touched_ns : newest_ns, ran_until,
				 sizeof(ran_until));
	ledger_add(ledger, 0, "shuntd", "self", "ledger opened", NULL,
		   json_pack("{s:I, s:I, s:s?}", "read", (json_int_t)read.n_taken, "skipped",
			     (json_int_t)read.n_skipped, "ran_until", *ran_until ? ran_until : NULL));
}

int ledger_open(struct ledger **out, const struct ledger_options *options)
{
	struct ledger *ledger = calloc(1, sizeof(*ledger));

	if (!ledger)
		return -ENOMEM;
	ledger->next = 1;
	ledger->options = *options;
	ledger->to_journal = stderr_is_journal();
	boot_read(ledger->boot);
	if (*options->directory) {
		ledger->file = ledger_file_new(options->directory, options->limit_bytes);
		if (!ledger->file) {
			ledger_close(ledger);
			return -ENOMEM;
		}
		file_open(ledger);
	}
	*out = ledger;
	return 0;
}

void ledger_close(struct ledger *ledger)
{
	if (!ledger)
		return;
	while (ledger->file && ledger->written < ledger->next && !file_follow(ledger))
		;
	if (ledger->file)
		ledger_file_touch(ledger->file);
	ledger_file_free(ledger->file);
	for (int i = 0; i < LEDGER_SIZE; i++)
		json_decref(ledger->ring[i].event);
	free(ledger);
}

void ledger_add(struct ledger *ledger, uint64_t at_ns, const char *object, const char *name, const char *what,
		const char *why, json_t *evidence)
{
	int64_t now_ns = monotonic_ns(), wall_ns = clock_ns(CLOCK_REALTIME);
	char time[WALL_TIME_TEXT_MAX], *text = NULL;
	json_t *event;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!at_ns)
		at_ns = (uint64_t)now_ns;
	wall_ns -= now_ns - (int64_t)at_ns;
	wall_time_format(wall_ns, time, sizeof(time));
	if (f) {
		sentence_print(f, object, name, what, why, evidence);
		fclose(f);
	}
	if (ledger->to_journal)
		fprintf(stderr, "<%d>", priority_of(what));
	fprintf(stderr, "%s\n", text ? text : what);

	event = json_pack("{s:I, s:s, s:I, s:s, s:s, s:s?, s:s, s:s?, s:o, s:s?}", "number", (json_int_t)ledger->next,
			  "time", time, "at_ns", (json_int_t)at_ns, "boot", ledger->boot, "object", object, "name",
			  name, "what", what, "why", why, "evidence", evidence ? evidence : json_object(), "text",
			  text);
	free(text);
	if (!event)
		return; /* out of memory: it was logged */
	ring_put(ledger, event, wall_ns, false);
	if (ledger->file && !ledger->failing && ledger->next - ledger->written >= LEDGER_SIZE / 2)
		file_write(ledger); /* many at once: before one falls out of the ring */
	if (ledger->listener)
		ledger->listener(ledger->listener_arg);
}

static bool filter_matches(const char *wanted, const json_t *event, const char *key)
{
	const char *value = json_string_value(json_object_get(event, key));

	return !wanted || (value && !strcmp(wanted, value));
}

json_t *ledger_find(const struct ledger *ledger, const struct ledger_filter *filter)
{
	uint64_t n = ledger->next > LEDGER_SIZE ? ledger->next - LEDGER_SIZE : 1;
	json_t *events = json_array();

	for (n = filter->from > n ? filter->from : n; n < ledger->next; n++) {
		json_t *event = event_at(ledger, n);

		if (event && ledger->ring[n % LEDGER_SIZE].wall_ns >= filter->since_ns &&
		    filter_matches(filter->object, event, "object") && filter_matches(filter->name, event, "name") &&
		    filter_matches(filter->what, event, "what"))
			json_array_append(events, event);
	}
	return events;
}

json_t *ledger_since(const struct ledger *ledger, uint64_t from, uint64_t *next)
{
	const struct ledger_filter filter = { .from = from };

	if (next)
		*next = ledger->next;
	return ledger_find(ledger, &filter);
}

void ledger_listen(struct ledger *ledger, void (*fn)(void *arg), void *arg)
{
	ledger->listener = fn;
	ledger->listener_arg = arg;
}
