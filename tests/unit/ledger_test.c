// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * ledger_test.c - the ledger over restarts, on files that are whole, torn, full of rubbish or no files at all; and what the
 * record makes of its events. Real files; the clocks are the test's, and so is the dataplane.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/wall_time.h"
#include "shuntd/ledger.h"
#include "shuntd/record.h"
#include "shuntd/shuntd.h"

#define S 1000000000ULL
#define WALL (1795244400 * S) /* CLOCK_REALTIME while CLOCK_MONOTONIC is 0 */
#define LIMIT (64 << 10)
#define GPU1 1
#define GPU2 2

/* ---- the clocks and the dataplane ---- */

static uint64_t now; /* CLOCK_MONOTONIC */
static uint64_t wall_step; /* of the other clock */

int clock_gettime(clockid_t clock, struct timespec *t)
{
	uint64_t ns = clock == CLOCK_REALTIME ? WALL + wall_step + now : now;

	t->tv_sec = (time_t)(ns / S);
	t->tv_nsec = (long)(ns % S);
	return 0;
}

static struct backend_flows backend_flows[SHUNT_MAX_BACKENDS];
static struct session sessions[SHUNT_MAX_BACKENDS];

struct backend_flows *dataplane_backend_flows(struct dataplane *dp)
{
	(void)dp;
	return backend_flows;
}

struct session *dataplane_sessions(struct dataplane *dp)
{
	(void)dp;
	return sessions;
}

const char *backend_verdict_name(uint32_t word)
{
	return BACKEND_WORD_VERDICT(word) == VERDICT_SILENT    ? "silent"
	       : BACKEND_WORD_VERDICT(word) == VERDICT_DEAD    ? "dead"
	       : BACKEND_WORD_VERDICT(word) == VERDICT_JOINING ? "joining"
							       : "another";
}

/* ---- the rig: a ledger with its record, of a pool of two ---- */

static struct {
	struct shuntd s;
	char directory[64], path[96], older[96];
} rig;

static int rig_open(void **state)
{
	const struct config_pool pool = { .name = "gpus", .n_slots = 251 };
	struct config_backend conf = { .name = "gpu1" };
	struct pool_run *run;

	(void)state;
	memset(&rig, 0, sizeof(rig));
	memset(backend_flows, 0, sizeof(backend_flows));
	now = 1000 * S;
	wall_step = 0;
	snprintf(rig.directory, sizeof(rig.directory), "/tmp/shunt-ledger-%d", (int)getpid());
	snprintf(rig.path, sizeof(rig.path), "%s/events.jsonl", rig.directory);
	snprintf(rig.older, sizeof(rig.older), "%s/events.jsonl.1", rig.directory);
	run = pool_run_add(&rig.s, &pool);
	backend_run_add(&rig.s, &conf, run);
	conf.name[3] = '2';
	backend_run_add(&rig.s, &conf, run);
	return rig.s.n_backends == 2 ? 0 : -1;
}

static void stop(void)
{
	record_close(rig.s.record);
	ledger_close(rig.s.ledger);
	rig.s.record = NULL;
	rig.s.ledger = NULL;
}

static int rig_close(void **state)
{
	(void)state;
	stop();
	runs_free(&rig.s);
	unlink(rig.path);
	rmdir(rig.path);
	unlink(rig.older);
	rmdir(rig.directory);
	return 0;
}

static struct ledger *start_with(const char *directory, uint64_t limit)
{
	struct ledger_options options = { .directory = directory, .limit_bytes = limit, .on_event = record_event };

	stop();
	assert_int_equal(record_open(&rig.s.record, &rig.s), 0);
	options.arg = rig.s.record;
	assert_int_equal(ledger_open(&rig.s.ledger, &options), 0);
	return rig.s.ledger;
}

static struct ledger *start(void)
{
	return start_with(rig.directory, LIMIT);
}

static void run(void)
{
	ledger_run(rig.s.ledger);
	record_run(rig.s.record);
}

/* One that is about a backend, at this moment. */
static void tell(const char *name, const char *what, json_t *evidence)
{
	ledger_add(rig.s.ledger, 0, "backend", name, what, "silent", evidence);
}

/* The newest event of a kind, a new reference, or NULL. */
static json_t *event_of(const char *what)
{
	const struct ledger_filter filter = { .what = what };
	json_t *events = ledger_find(rig.s.ledger, &filter);
	json_t *event = json_incref(json_array_get(events, json_array_size(events) - 1));

	json_decref(events);
	return event;
}

static size_t count_of(const char *what)
{
	const struct ledger_filter filter = { .what = what };
	json_t *events = ledger_find(rig.s.ledger, &filter);
	size_t n = json_array_size(events);

	json_decref(events);
	return n;
}

#define assert_evidence(what, key, wanted) assert_evidence_at(what, key, wanted, __FILE__, __LINE__)
/* As JSON text. */
static void assert_evidence_at(const char *what, const char *key, const char *wanted, const char *file, int line)
{
	json_t *event = event_of(what);
	const json_t *value = json_object_get(json_object_get(event, "evidence"), key);
	char *got = value ? json_dumps(value, JSON_ENCODE_ANY) : strdup("nothing");

	if (strcmp(got, wanted)) {
		print_error("# %s %s: %s, not %s\n", what, key, got, wanted);
		_fail(file, line);
	}
	free(got);
	json_decref(event);
}

static void file_write(const char *path, const char *mode, const char *bytes, size_t n)
{
	FILE *f = fopen(path, mode);

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	fclose(f);
}

static off_t file_size(const char *path)
{
	struct stat st;

	return stat(path, &st) ? -1 : st.st_size;
}

/* When shuntd is last known to have run. */
static void file_touch(uint64_t mono_ns)
{
	const uint64_t ns = WALL + mono_ns;
	const struct timespec times[2] = { { (time_t)(ns / S), (long)(ns % S) }, { (time_t)(ns / S), (long)(ns % S) } };

	assert_int_equal(utimensat(AT_FDCWD, rig.path, times, 0), 0);
}

/* ---- over restarts ---- */

static void events_and_their_numbers_survive_a_restart(void **state)
{
	json_t *before, *after;
	uint64_t next;

	(void)state;
	start();
	tell("gpu1", "up", NULL);
	tell("gpu1", "down", json_pack("{s:s, s:n}", "cause", "\"a\"\n\\ \x01 z", "nothing"));
	before = ledger_since(rig.s.ledger, 1, &next);
	assert_int_equal(next, 4);
	start();
	after = ledger_since(rig.s.ledger, 1, &next);
	assert_int_equal(next, 5); /* it was opened once more */
	assert_int_equal(json_array_size(after), 4);
	assert_evidence("ledger opened", "read", "3");
	assert_evidence("ledger opened", "skipped", "0");
	json_array_remove(after, 3);
	assert_true(json_equal(before, after));
	json_decref(before);
	json_decref(after);
}

static void a_line_is_the_event_as_it_is_shown(void **state)
{
	json_t *lines = json_array(), *events;
	char line[4096];
	FILE *f;

	(void)state;
	start();
	tell("gpu1", "up", NULL);
	ledger_run(rig.s.ledger);
	f = fopen(rig.path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		json_array_append_new(lines, json_loads(line, 0, NULL));
	fclose(f);
	events = ledger_since(rig.s.ledger, 1, NULL);
	assert_true(json_equal(lines, events));
	json_decref(lines);
	json_decref(events);
}

/* More of them than fit into memory, before the period ends. */
static void of_many_events_at_once_all_are_written(void **state)
{
	(void)state;
	start_with(rig.directory, 8 << 20);
	for (int i = 0; i < 3 * LEDGER_SIZE; i++)
		tell("gpu1", i % 2 ? "up" : "down", NULL);
	start_with(rig.directory, 8 << 20);
	assert_evidence("ledger opened", "read", "3073");
	assert_evidence("ledger opened", "skipped", "0");
}

static void no_directory_is_no_file(void **state)
{
	(void)state;
	start_with("", LIMIT);
	tell("gpu1", "up", NULL);
	assert_int_equal(count_of("ledger opened"), 0);
	assert_int_equal(count_of("ledger not written"), 0);
	assert_int_equal(file_size(rig.path), -1);
}

static void only_the_newest_are_read_back_and_numbers_go_on(void **state)
{
	uint64_t next;
	json_t *events;

	(void)state;
	start_with(rig.directory, 8 << 20);
	for (int i = 0; i < LEDGER_SIZE + 100; i++)
		tell("gpu1", i % 2 ? "up" : "down", NULL);
	start_with(rig.directory, 8 << 20);
	events = ledger_since(rig.s.ledger, 1, &next);
	assert_int_equal(next, LEDGER_SIZE + 103);
	assert_int_equal(json_array_size(events), LEDGER_SIZE);
	json_decref(events);
}

/* ---- torn, garbage, rotated ---- */

static void a_line_that_a_crash_cut_short_is_cut_off_and_counted(void **state)
{
	off_t whole;

	(void)state;
	start();
	tell("gpu1", "up", NULL);
	stop();
	whole = file_size(rig.path);
	file_write(rig.path, "a", "{\"number\":3,\"time\":\"2026-1", 26);
	start();
	assert_evidence("ledger opened", "read", "2");
	assert_evidence("ledger opened", "skipped", "1");
	ledger_run(rig.s.ledger);
	assert_true(file_size(rig.path) > whole);
	start(); /* mended: it isn't there any more */
	assert_evidence("ledger opened", "read", "3");
	assert_evidence("ledger opened", "skipped", "0");
}

/* As after a write that failed half-way, and a cut that failed too. */
static void no_line_is_written_behind_half_a_line(void **state)
{
	char text[4096], half[5000];
	size_t n;
	FILE *f;

	(void)state;
	start();
	tell("gpu1", "up", NULL);
	ledger_run(rig.s.ledger);
	f = fopen(rig.path, "r");
	assert_non_null(f);
	n = fread(text, 1, sizeof(text), f);
	fclose(f);
	unlink(rig.path);
	now += 11 * S;
	ledger_run(rig.s.ledger); /* it is gone: closed */
	file_write(rig.path, "w", text, n);
	memset(half, 'x', sizeof(half));
	file_write(rig.path, "a", half, sizeof(half));
	tell("gpu1", "down", NULL);
	ledger_run(rig.s.ledger);
	start();
	assert_evidence("ledger opened", "read", "3");
	assert_evidence("ledger opened", "skipped", "0");
}

static void lines_that_are_no_events_are_skipped_and_counted(void **state)
{
	static const char *const lines[] = {
		"",
		"[1]",
		"{}",
		"\xff\xfe rubbish",
		"{\"number\":1}",
		/* each of these has one flaw */
		"{\"number\":0,\"time\":\"2026-11-21T07:00:00.000000Z\",\"at_ns\":1,\"boot\":\"b\",\"object\":"
		"\"backend\",\"name\":\"gpu1\",\"what\":\"up\",\"why\":null,\"evidence\":{},\"text\":\"\"}",
		"{\"number\":9,\"time\":\"yesterday\",\"at_ns\":1,\"boot\":\"b\",\"object\":\"backend\",\"name\":"
		"\"gpu1\",\"what\":\"up\",\"why\":null,\"evidence\":{},\"text\":\"\"}",
		"{\"number\":9,\"time\":\"2026-11-21T07:00:00.000000Z\",\"at_ns\":-1,\"boot\":\"b\",\"object\":"
		"\"backend\",\"name\":\"gpu1\",\"what\":\"up\",\"why\":null,\"evidence\":{},\"text\":\"\"}",
		"{\"number\":9,\"time\":\"2026-11-21T07:00:00.000000Z\",\"at_ns\":1,\"boot\":\"b\",\"object\":"
		"\"backend\",\"name\":1,\"what\":\"up\",\"why\":null,\"evidence\":{},\"text\":\"\"}",
		"{\"number\":9,\"time\":\"2026-11-21T07:00:00.000000Z\",\"at_ns\":1,\"boot\":\"b\",\"object\":"
		"\"backend\",\"name\":\"gpu1\",\"what\":\"up\",\"why\":null,\"evidence\":[],\"text\":\"\"}",
		"{\"number\":9,\"time\":\"2026-11-21T07:00:00.000000Z\",\"at_ns\":1,\"boot\":\"b\",\"object\":"
		"\"backend\",\"name\":\"gpu1\",\"what\":\"up\",\"why\":null,\"evidence\":{},\"text\":\"\",\"more\":1}",
		"{\"number\":99999999999999999,\"time\":\"2026-11-21T07:00:00.000000Z\",\"at_ns\":1,\"boot\":\"b\","
		"\"object\":\"backend\",\"name\":\"gpu1\",\"what\":\"up\",\"why\":null,\"evidence\":{},\"text\":\"\"}",
	};
	char wanted[16];

	(void)state;
	start();
	stop();
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		file_write(rig.path, "a", lines[i], strlen(lines[i]));
		file_write(rig.path, "a", "\n", 1);
	}
	file_write(rig.path, "a", "\0\0\0\0\n", 5); /* as a file system leaves it that lost its power */
	start();
	snprintf(wanted, sizeof(wanted), "%zu", sizeof(lines) / sizeof(*lines) + 1);
	assert_evidence("ledger opened", "skipped", wanted);
	assert_evidence("ledger opened", "read", "1");
	tell("gpu1", "up", NULL);
	start();
	assert_evidence("ledger opened", "read", "3");
}

static void the_file_is_bounded_and_the_newest_events_are_in_it(void **state)
{
	uint64_t next;
	json_t *events;

	(void)state;
	start();
	for (int i = 0; i < 2000; i++) {
		tell("gpu1", i % 2 ? "up" : "down", NULL);
		ledger_run(rig.s.ledger);
		assert_true(file_size(rig.path) <= LIMIT && file_size(rig.older) <= LIMIT);
	}
	start();
	events = ledger_since(rig.s.ledger, 1, &next);
	assert_int_equal(next, 2003);
	assert_true(json_array_size(events) > LIMIT / 300); /* more than one file has */
	assert_int_equal(json_integer_value(json_object_get(json_array_get(events, 0), "number")),
			 next - json_array_size(events));
	json_decref(events);
}

static void of_a_file_that_is_too_large_the_newest_lines_are_read(void **state)
{
	uint64_t next;
	json_t *events;

	(void)state;
	start_with(rig.directory, 8 << 20);
	for (int i = 0; i < 500; i++)
		tell("gpu1", i % 2 ? "up" : "down", NULL);
	start_with(rig.directory, 4096);
	events = ledger_since(rig.s.ledger, 1, &next);
	assert_int_equal(next, 503);
	assert_in_range(json_array_size(events), 8, 24);
	assert_evidence("ledger opened", "skipped", "0");
	json_decref(events);
	ledger_run(rig.s.ledger);
	assert_true(file_size(rig.path) < 4096);
}

static void a_number_that_was_there_already_gets_the_next(void **state)
{
	char *copy = malloc(LIMIT);
	uint64_t next;
	size_t n;
	FILE *f;

	(void)state;
	start();
	tell("gpu1", "up", NULL);
	stop();
	f = fopen(rig.path, "r");
	assert_non_null(f);
	n = fread(copy, 1, LIMIT, f);
	fclose(f);
	file_write(rig.path, "a", copy, n);
	free(copy);
	start();
	assert_evidence("ledger opened", "read", "4");
	json_decref(ledger_since(rig.s.ledger, 1, &next));
	assert_int_equal(next, 6);
}

/* ---- no room, no file ---- */

static void events_that_a_full_disk_refused_are_written_when_there_is_room(void **state)
{
	const struct rlimit full = { 700, RLIM_INFINITY }, room = { RLIM_INFINITY, RLIM_INFINITY };
	void (*before)(int) = signal(SIGXFSZ, SIG_IGN);

	(void)state;
	start();
	setrlimit(RLIMIT_FSIZE, &full); /* a line fits in part only */
	for (int i = 0; i < 5; i++) {
		tell("gpu1", i % 2 ? "up" : "down", NULL);
		now += 2 * S;
		ledger_run(rig.s.ledger);
	}
	setrlimit(RLIMIT_FSIZE, &room);
	assert_int_equal(count_of("ledger not written"), 1);
	assert_true(file_size(rig.path) <= 700);
	ledger_run(rig.s.ledger); /* too soon after the last attempt */
	assert_int_equal(count_of("ledger written again"), 0);
	now += 2 * S;
	ledger_run(rig.s.ledger);
	assert_int_equal(count_of("ledger written again"), 1);
	assert_evidence("ledger written again", "lost", "0");
	signal(SIGXFSZ, before);
	start();
	assert_evidence("ledger opened", "read", "8");
	assert_evidence("ledger opened", "skipped", "0");
}

static void what_fell_out_of_memory_before_there_was_room_is_counted(void **state)
{
	(void)state;
	mkdir(rig.directory, 0755);
	mkdir(rig.path, 0755); /* what is in its place is left alone */
	start_with(rig.directory, 8 << 20);
	assert_int_equal(count_of("ledger not written"), 1);
	for (int i = 0; i < LEDGER_SIZE + 99; i++)
		tell("gpu1", i % 2 ? "up" : "down", NULL);
	rmdir(rig.path);
	for (int i = 0; i < 20; i++) {
		now += S;
		ledger_run(rig.s.ledger);
	}
	assert_evidence("ledger written again", "lost", "100");
	start_with(rig.directory, 8 << 20);
	assert_evidence("ledger opened", "read", "1025");
}

static void a_file_that_another_writes_is_left_alone(void **state)
{
	const struct ledger_options options = { .directory = rig.directory, .limit_bytes = LIMIT };
	struct ledger *other;
	json_t *event;

	(void)state;
	assert_int_equal(ledger_open(&other, &options), 0);
	start();
	event = event_of("ledger not written");
	assert_string_equal(json_string_value(json_object_get(event, "why")), "another process writes it");
	json_decref(event);
	ledger_close(other);
	now += 2 * S;
	ledger_run(rig.s.ledger);
	assert_int_equal(count_of("ledger written again"), 1);
}

static void a_file_that_somebody_removed_is_begun_anew(void **state)
{
	(void)state;
	start();
	tell("gpu1", "up", NULL);
	ledger_run(rig.s.ledger);
	unlink(rig.path);
	now += 20 * S;
	ledger_run(rig.s.ledger);
	tell("gpu1", "down", NULL);
	ledger_run(rig.s.ledger);
	assert_true(file_size(rig.path) > 0);
	unlink(rig.path);
	for (int i = 0; i < 1000; i++) { /* it would be renamed meanwhile */
		tell("gpu1", i % 2 ? "up" : "down", NULL);
		ledger_run(rig.s.ledger);
	}
	assert_true(file_size(rig.path) > 0);
	assert_int_equal(count_of("ledger not written"), 0);
}

/* ---- the log ---- */

static void the_journal_gets_priorities_and_nobody_else_does(void **state)
{
	static const char *const wanted[2] = {
		"backend gpu1: down (silent)\nbackend gpu1: up (silent)\nbackend gpu1: resolved (silent)\n"
		"backend gpu1: table kept (silent)\n",
		"<4>backend gpu1: down (silent)\n<5>backend gpu1: up (silent)\n<6>backend gpu1: resolved (silent)\n"
		"<3>backend gpu1: table kept (silent)\n"
	};
	char name[] = "/tmp/shunt-ledger-log-XXXXXX", stream[64], text[512] = "";
	int saved = dup(STDERR_FILENO), fd;
	struct stat st;

	(void)state;
	for (int is_journal = 0; is_journal < 2; is_journal++) {
		memcpy(name + sizeof(name) - 7, "XXXXXX", 6);
		fd = mkstemp(name);
		assert_true(fd >= 0 && !fstat(fd, &st));
		/* Set for a stderr that is another by now, it says nothing. */
		snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino + !is_journal);
		setenv("JOURNAL_STREAM", stream, 1);
		dup2(fd, STDERR_FILENO);
		start_with("", LIMIT);
		tell("gpu1", "down", NULL);
		tell("gpu1", "up", NULL);
		tell("gpu1", "resolved", NULL);
		tell("gpu1", "table kept", NULL);
		dup2(saved, STDERR_FILENO);
		unsetenv("JOURNAL_STREAM");
		assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
		assert_string_equal(text, wanted[is_journal]);
		memset(text, 0, sizeof(text));
		close(fd);
		unlink(name);
	}
	close(saved);
}

/* ---- the record: availability ---- */

static struct availability figures_of(int backend)
{
	struct record_figures figures;
	struct availability a;

	assert_int_equal(record_figures(rig.s.record, UINT64_MAX, &figures), 0);
	a = backend ? figures.backends[backend - 1] : figures.pools[0];
	record_figures_free(&figures);
	return a;
}

#define assert_times(a, up, down, drained, unknown)                          \
	do {                                                                 \
		assert_int_equal((a).time_ns[STANDING_UP], up *S);           \
		assert_int_equal((a).time_ns[STANDING_DOWN], down *S);       \
		assert_int_equal((a).time_ns[STANDING_DRAINED], drained *S); \
		assert_int_equal((a).time_ns[STANDING_UNKNOWN], unknown *S); \
	} while (0)

static void availability_goes_on_over_a_restart_and_the_time_between_is_unknown(void **state)
{
	(void)state;
	start();
	tell("gpu1", "up", NULL);
	tell("gpu2", "up", NULL);
	now += 100 * S;
	tell("gpu1", "down", NULL);
	now += 20 * S;
	tell("gpu1", "up", NULL);
	now += 30 * S;
	stop();
	file_touch(now);
	now += 1000 * S;
	start();
	now += S;
	tell("gpu1", "up", NULL);
	now += 9 * S;
	assert_times(figures_of(GPU1), 139, 20, 0, 1001);
	assert_int_equal(figures_of(GPU1).failures, 1);
	assert_int_equal(figures_of(GPU1).repairs_ns, 20 * S);
	assert_times(figures_of(GPU2), 150, 0, 0, 1010);
	assert_times(figures_of(0), 159, 0, 0, 1001);
}

static void a_step_of_the_clock_changes_no_figure(void **state)
{
	(void)state;
	start();
	tell("gpu1", "up", NULL);
	now += 100 * S;
	wall_step = 86400 * S;
	tell("gpu1", "down", NULL);
	now += 20 * S;
	wall_step = 0;
	tell("gpu1", "up", NULL);
	start(); /* and read back from the file */
	tell("gpu1", "up", NULL);
	now += 5 * S;
	assert_times(figures_of(GPU1), 105, 20, 0, 0);
}

static void a_window_is_as_long_as_what_is_known_of_it(void **state)
{
	struct record_figures figures;

	(void)state;
	start();
	tell("gpu1", "up", NULL);
	now += 100 * S;
	assert_int_equal(record_figures(rig.s.record, 30 * S, &figures), 0);
	assert_int_equal(figures.window_ns, 30 * S);
	assert_int_equal(figures.since_ns, WALL + now - 30 * S);
	record_figures_free(&figures);
	assert_int_equal(record_figures(rig.s.record, 3000 * S, &figures), 0);
	assert_int_equal(figures.window_ns, 100 * S);
	record_figures_free(&figures);
}

static void who_is_drained_cannot_fail(void **state)
{
	(void)state;
	start();
	tell("gpu1", "up", NULL);
	now += 10 * S;
	tell("gpu1", "draining", NULL);
	now += 10 * S;
	tell("gpu1", "down", NULL);
	now += 10 * S;
	tell("gpu1", "undrained", json_pack("{s:s}", "state", "down"));
	now += 10 * S;
	tell("gpu1", "up", NULL);
	tell("gpu1", "draining", NULL);
	now += 10 * S;
	tell("gpu1", "undrained", json_pack("{s:i}", "live", 0));
	now += 10 * S;
	assert_times(figures_of(GPU1), 20, 10, 30, 0);
	assert_int_equal(figures_of(GPU1).failures, 0);
}

static void who_does_not_come_up_is_down_after_a_while_and_who_serves_already_is_up(void **state)
{
	(void)state;
	start();
	rig.s.backends[0]->last_word = BACKEND_WORD(BACKEND_DOWN, VERDICT_JOINING);
	rig.s.backends[0]->since_ns = now;
	rig.s.backends[1]->last_word = BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING);
	run();
	assert_int_equal(count_of("up"), 1);
	assert_int_equal(count_of("not up"), 0);
	for (int i = 0; i < 20; i++) {
		now += S;
		run();
	}
	assert_int_equal(count_of("up"), 1);
	assert_int_equal(count_of("not up"), 1);
	assert_times(figures_of(GPU1), 0, 9, 0, 11);
	assert_times(figures_of(GPU2), 20, 0, 0, 0);
}

/* ---- the record: failovers ---- */

/* gpu1 falls now; learnt of 50 us later. */
static void fall(json_t *evidence)
{
	uint64_t flip_ns = now;

	now += 50000;
	ledger_add(rig.s.ledger, flip_ns, "backend", "gpu1", "down", "silent", evidence);
}

static void told(int flows)
{
	tell("gpu1", "flows told", json_pack("{s:i, s:i, s:i}", "flows", flows, "closed", flows / 2, "last_us", 300));
}

static void table_swapped(void)
{
	ledger_add(rig.s.ledger, 0, "pool", "gpus", "table rebuilt", "the living changed", NULL);
}

static void a_failover_is_told_once_all_of_it_is_through(void **state)
{
	struct record_histogram h;

	(void)state;
	start();
	rig.s.pools[0]->heirs_changed = 1;
	fall(json_pack("{s:i}", "unanswered_us", 340));
	now += 100000;
	backend_flows[GPU1].moved_ns = now;
	run();
	assert_int_equal(count_of("failover"), 0);
	told(8);
	run();
	assert_int_equal(count_of("failover"), 0);
	rig.s.pools[0]->heirs_changed = 0;
	now += 850000;
	table_swapped();
	run();
	run();
	assert_int_equal(count_of("failover"), 1);
	assert_evidence("failover", "pool", "\"gpus\"");
	assert_evidence("failover", "down", "2");
	assert_evidence("failover", "detector", "\"kernel\"");
	assert_evidence("failover", "fault_us", "340");
	assert_evidence("failover", "learnt_us", "50");
	assert_evidence("failover", "first_heir_us", "150");
	assert_evidence("failover", "flows_told", "8");
	assert_evidence("failover", "flows_reset", "4");
	assert_evidence("failover", "told_us", "350");
	assert_evidence("failover", "table_us", "1000");
	assert_evidence("failover", "outage_us", "null");
	assert_true(record_histogram(rig.s.record, 0, &h));
	assert_string_equal(h.verdict, "silent");
	assert_int_equal(h.times->sum_ns, 340000);
	for (unsigned i = 0; record_histogram(rig.s.record, i, &h); i++)
		;
	assert_string_equal(h.name, "steering");
	assert_int_equal(h.times->sum_ns, 150000);
}

static void what_is_not_known_of_a_failover_is_null(void **state)
{
	(void)state;
	start();
	fall(NULL);
	told(0);
	run();
	assert_int_equal(count_of("failover"), 0); /* a packet may come yet */
	now += 2 * S;
	run();
	assert_int_equal(count_of("failover"), 1);
	assert_evidence("failover", "fault_us", "null");
	assert_evidence("failover", "first_heir_us", "null");
	assert_evidence("failover", "told_us", "null");
	assert_evidence("failover", "table_us", "null");
}

static void a_failover_that_does_not_come_to_its_end_is_told_all_the_same(void **state)
{
	(void)state;
	start();
	fall(NULL);
	now += 9 * S;
	run();
	assert_int_equal(count_of("failover"), 0);
	now += 2 * S;
	run();
	assert_int_equal(count_of("failover"), 1);
	assert_evidence("failover", "flows_told", "null");
}

static void who_is_back_soon_has_his_outage_in_the_record(void **state)
{
	(void)state;
	start();
	fall(NULL);
	tell("gpu1", "up", json_pack("{s:i}", "outage_us", 77));
	run();
	assert_evidence("failover", "outage_us", "77");
}

/* One that saw it down while it came up wrote its time behind the 0. */
static void a_time_from_before_the_fall_is_no_first_packet(void **state)
{
	(void)state;
	start();
	backend_flows[GPU1].moved_ns = now - 2000000;
	fall(NULL);
	assert_int_equal(backend_flows[GPU1].moved_ns, 0);
	told(0);
	backend_flows[GPU1].moved_ns = now;
	run();
	assert_evidence("failover", "first_heir_us", "50");
}

static void who_ends_tells_of_the_failovers_that_are_not_through(void **state)
{
	(void)state;
	start();
	fall(NULL);
	record_end(rig.s.record);
	record_end(rig.s.record);
	assert_int_equal(count_of("failover"), 1);
}

static void failovers_of_a_former_run_are_not_told_again(void **state)
{
	struct record_histogram h;

	(void)state;
	start();
	fall(json_pack("{s:i}", "unanswered_us", 340));
	start();
	now += 60 * S;
	run();
	assert_int_equal(count_of("failover"), 0);
	assert_true(record_histogram(rig.s.record, 0, &h));
	assert_int_equal(h.times->sum_ns, 0);
}

#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_open, rig_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(events_and_their_numbers_survive_a_restart),
		RIG_TEST(a_line_is_the_event_as_it_is_shown),
		RIG_TEST(of_many_events_at_once_all_are_written),
		RIG_TEST(no_directory_is_no_file),
		RIG_TEST(only_the_newest_are_read_back_and_numbers_go_on),
		RIG_TEST(a_line_that_a_crash_cut_short_is_cut_off_and_counted),
		RIG_TEST(no_line_is_written_behind_half_a_line),
		RIG_TEST(lines_that_are_no_events_are_skipped_and_counted),
		RIG_TEST(the_file_is_bounded_and_the_newest_events_are_in_it),
		RIG_TEST(of_a_file_that_is_too_large_the_newest_lines_are_read),
		RIG_TEST(a_number_that_was_there_already_gets_the_next),
		RIG_TEST(events_that_a_full_disk_refused_are_written_when_there_is_room),
		RIG_TEST(what_fell_out_of_memory_before_there_was_room_is_counted),
		RIG_TEST(a_file_that_another_writes_is_left_alone),
		RIG_TEST(a_file_that_somebody_removed_is_begun_anew),
		RIG_TEST(the_journal_gets_priorities_and_nobody_else_does),
		RIG_TEST(availability_goes_on_over_a_restart_and_the_time_between_is_unknown),
		RIG_TEST(a_step_of_the_clock_changes_no_figure),
		RIG_TEST(a_window_is_as_long_as_what_is_known_of_it),
		RIG_TEST(who_is_drained_cannot_fail),
		RIG_TEST(who_does_not_come_up_is_down_after_a_while_and_who_serves_already_is_up),
		RIG_TEST(a_failover_is_told_once_all_of_it_is_through),
		RIG_TEST(what_is_not_known_of_a_failover_is_null),
		RIG_TEST(a_failover_that_does_not_come_to_its_end_is_told_all_the_same),
		RIG_TEST(who_is_back_soon_has_his_outage_in_the_record),
		RIG_TEST(a_time_from_before_the_fall_is_no_first_packet),
		RIG_TEST(who_ends_tells_of_the_failovers_that_are_not_through),
		RIG_TEST(failovers_of_a_former_run_are_not_told_again),
	};

	setlinebuf(stderr);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
