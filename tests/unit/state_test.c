/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * state_test.c - what outlives shuntd: read whole or not at all, written so that what is read is what was meant. The real
 * state.c over a real directory; a drain is only noted, and events are kept as sentences.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/file.h"
#include "shuntd/backends.h"
#include "shuntd/state.h"

static const char config_text[] = "interfaces: [eth0]\n"
				  "seed: 1\n"
				  "vips: [{name: v, address: 203.0.113.10, protocol: tcp, port: 443, pool: gpus}]\n"
				  "pools:\n"
				  "  - name: gpus\n"
				  "    forward: ipip\n"
				  "    slots: 251\n"
				  "    backends:\n"
				  "      - {name: gpu1, address: 10.0.0.11}\n"
				  "      - {name: gpu2, address: 10.0.0.12, weight: 50}\n"
				  "      - {name: gpu3, address: 10.0.0.13}\n";

static struct rig {
	struct shuntd s;
	char events[4096]; /* WHAT: WHY, a line each */
	char directory[64], file[96], bad[96];
} rig;

/* ---- the parts that are not there ---- */

int backends_drain(struct shuntd *s, struct backend_run *b, enum verdict why, uint64_t deadline_ns)
{
	(void)s;
	b->draining = why;
	b->drain_deadline_ns = deadline_ns;
	return 0;
}

void ledger_add(struct ledger *ledger, uint64_t at_ns, const char *object, const char *name, const char *what,
		const char *why, json_t *evidence)
{
	size_t used = strlen(rig.events);

	(void)ledger;
	(void)at_ns;
	(void)name;
	assert_string_equal(object, "shuntd");
	snprintf(rig.events + used, sizeof(rig.events) - used, "%s: %s\n", what, why ? why : "");
	json_decref(evidence);
}

/* ---- the rig ---- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

/* What an earlier run left in the pinned maps is there as that left it. */
static void start_pinned(void (*left)(void))
{
	struct shuntd *s = &rig.s;
	struct config_error error;
	struct pool_run *pool;

	memset(s, 0, sizeof(*s));
	rig.events[0] = 0;
	assert_int_equal(config_parse(&s->config, config_text, strlen(config_text), &error), 0);
	snprintf(s->config->state, sizeof(s->config->state), "%s", rig.directory);
	assert_int_equal(state_open(&s->state, s), 0);
	if (!left)
		state_heed(s->state, s->config);
	pool = pool_run_add(s, &s->config->pools[0]);
	for (size_t i = 0; i < s->config->pools[0].n_backends; i++)
		assert_non_null(backend_run_add(s, &s->config->pools[0].backends[i], pool));
	if (left) {
		left();
		state_heed(s->state, s->config);
	}
	state_restore(s->state);
}

/* As shuntd at its start. */
static void start(void)
{
	start_pinned(NULL);
}

static void stop(void)
{
	state_close(rig.s.state);
	runs_free(&rig.s);
	config_free(rig.s.config);
}

static int set_up(void **state)
{
	(void)state;
	snprintf(rig.directory, sizeof(rig.directory), "/tmp/shunt-state-XXXXXX");
	if (!mkdtemp(rig.directory))
		return -1;
	snprintf(rig.file, sizeof(rig.file), "%s/state.json", rig.directory);
	snprintf(rig.bad, sizeof(rig.bad), "%s/state.json.bad", rig.directory);
	return 0;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", rig.directory);
	return system(command);
}

static char *content(const char *path)
{
	size_t length;
	int err;

	return file_read(path, STATE_TEXT_MAX, &length, &err);
}

static void write_text(const char *text)
{
	assert_int_equal(file_replace(rig.file, text, strlen(text), 0640, false), 0);
}

static void weigh(const char *name, uint32_t weight)
{
	backend_find(&rig.s, name)->conf.weight = weight;
	state_changed(rig.s.state);
}

static void drain(const char *name, uint64_t deadline_ns)
{
	backends_drain(&rig.s, backend_find(&rig.s, name), VERDICT_DRAINED, deadline_ns);
	state_changed(rig.s.state);
}

static void is(const char *name, enum verdict draining, uint32_t weight)
{
	assert_int_equal(backend_find(&rig.s, name)->draining, draining);
	assert_int_equal(backend_find(&rig.s, name)->conf.weight, weight);
}

/* ---- the tests ---- */

static void without_a_file_all_is_as_configured_and_none_is_made(void **state)
{
	(void)state;
	start();
	is("gpu1", VERDICT_NONE, 100);
	is("gpu2", VERDICT_NONE, 50);
	assert_string_equal(rig.events, "");
	stop();
	assert_null(content(rig.file));
}

static void drains_deadlines_and_weights_come_back(void **state)
{
	uint64_t before, left_ns;

	(void)state;
	start();
	drain("gpu1", 0);
	drain("gpu3", now_ns() + 600000000000ULL);
	weigh("gpu2", 300);
	stop();
	start();
	is("gpu1", VERDICT_DRAINED, 100);
	is("gpu2", VERDICT_NONE, 300);
	is("gpu3", VERDICT_DRAINED, 100);
	assert_int_equal(backend_find(&rig.s, "gpu2")->conf.configured_weight, 50);
	assert_int_equal(backend_find(&rig.s, "gpu1")->drain_deadline_ns, 0);
	before = now_ns();
	left_ns = backend_find(&rig.s, "gpu3")->drain_deadline_ns - before;
	assert_in_range(left_ns, 500000000000ULL, 602000000000ULL); /* to the second */
	assert_non_null(strstr(rig.events, "state restored: "));
	stop();
}

static void a_deadline_that_passed_meanwhile_is_now(void **state)
{
	(void)state;
	write_text("{\"version\": 1, \"drains\": [{\"backend\": \"gpu1\", \"deadline\": \"2020-01-01T00:00:00Z\"}], "
		   "\"weights\": {}}");
	start();
	assert_in_range(backend_find(&rig.s, "gpu1")->drain_deadline_ns, 1, now_ns());
	stop();
}

static void what_others_asked_for_is_not_kept(void **state)
{
	char *text;

	(void)state;
	start();
	backends_drain(&rig.s, backend_find(&rig.s, "gpu1"), VERDICT_ASKED, 0);
	backends_drain(&rig.s, backend_find(&rig.s, "gpu2"), VERDICT_LOADING, 0);
	backends_drain(&rig.s, backend_find(&rig.s, "gpu3"), VERDICT_REMOVED, 0);
	weigh("gpu3", 7);
	stop();
	text = content(rig.file);
	assert_non_null(text);
	assert_null(strstr(text, "gpu"));
	free(text);
}

static void who_is_no_longer_configured_is_dropped_at_the_next_write(void **state)
{
	char *text;

	(void)state;
	write_text("{\"version\": 1, \"drains\": [{\"backend\": \"old\", \"deadline\": null}], \"weights\": "
		   "{\"older\": 7}}");
	start();
	stop();
	text = content(rig.file);
	assert_non_null(strstr(text, "older"));
	free(text);
	start();
	weigh("gpu1", 7);
	stop();
	text = content(rig.file);
	assert_null(strstr(text, "old"));
	assert_non_null(strstr(text, "\"gpu1\": 7"));
	free(text);
}

static void left_pinned(void)
{
	backend_run_remove(&rig.s, backend_find(&rig.s, "gpu3")); /* of the wanted configuration alone */
	backends_drain(&rig.s, backend_find(&rig.s, "gpu2"), VERDICT_DRAINED, now_ns() + 600000000000ULL);
	backend_find(&rig.s, "gpu2")->conf.weight = 7;
}

/* A disk that was full kept the file from following. */
static void what_is_pinned_is_newer_than_the_file(void **state)
{
	char *text;

	(void)state;
	write_text("{\"version\": 1, \"drains\": [{\"backend\": \"gpu1\", \"deadline\": null}], "
		   "\"weights\": {\"gpu1\": 300, \"gpu3\": 8}}");
	start_pinned(left_pinned);
	is("gpu1", VERDICT_NONE, 100);
	is("gpu2", VERDICT_DRAINED, 7);
	assert_int_equal(rig.s.config->pools[0].backends[0].weight, 100);
	assert_int_equal(rig.s.config->pools[0].backends[2].weight, 8);
	stop();
	text = content(rig.file);
	assert_null(strstr(text, "gpu1"));
	assert_non_null(strstr(text, "\"gpu2\": 7"));
	free(text);
}

static void a_file_that_is_right_is_not_written_again(void **state)
{
	struct stat before, after;

	(void)state;
	start();
	drain("gpu2", now_ns() + 600000000000ULL);
	weigh("gpu2", 7);
	stop();
	assert_int_equal(stat(rig.file, &before), 0);
	start();
	state_changed(rig.s.state);
	stop();
	assert_int_equal(stat(rig.file, &after), 0);
	assert_int_equal(after.st_ino, before.st_ino);
}

static const char *const bad_texts[][2] = {
	{ "", "no JSON" },
	{ "garbage", "no JSON" },
	{ "{\"version\": 1, \"drains\": [], \"wei", "no JSON" },
	{ "{\"version\": 1, \"version\": 1, \"drains\": [], \"weights\": {}}", "no JSON" },
	{ "[]", "not an object of" },
	{ "{}", "not an object of" },
	{ "{\"version\": 2, \"drains\": {}, \"more\": 1}", "of version 2, expected 1" },
	{ "{\"version\": 0, \"drains\": [], \"weights\": {}}", "of version 0" },
	{ "{\"version\": \"1\", \"drains\": [], \"weights\": {}}", "not an object of" },
	{ "{\"version\": 1, \"drains\": []}", "not an object of" },
	{ "{\"version\": 1, \"drains\": [], \"weights\": {}, \"more\": 1}", "not an object of" },
	{ "{\"version\": 1, \"drains\": {}, \"weights\": {}}", "a drain that" },
	{ "{\"version\": 1, \"drains\": [1], \"weights\": {}}", "a drain that" },
	{ "{\"version\": 1, \"drains\": [{\"backend\": \"gpu1\"}], \"weights\": {}}", "a drain that" },
	{ "{\"version\": 1, \"drains\": [{\"backend\": 1, \"deadline\": null}], \"weights\": {}}", "a drain that" },
	{ "{\"version\": 1, \"drains\": [{\"backend\": \"gpu1\", \"deadline\": 5}], \"weights\": {}}", "a drain that" },
	{ "{\"version\": 1, \"drains\": [{\"backend\": \"gpu1\", \"deadline\": \"now\"}], \"weights\": {}}",
	  "a drain that" },
	{ "{\"version\": 1, \"drains\": [{\"backend\": \"gpu1\", \"deadline\": \"2026-11-21T07:00:00Zx\"}], "
	  "\"weights\": {}}",
	  "a drain that" },
	{ "{\"version\": 1, \"drains\": [], \"weights\": []}", "a weight that" },
	{ "{\"version\": 1, \"drains\": [], \"weights\": {\"gpu1\": 0}}", "a weight that" },
	{ "{\"version\": 1, \"drains\": [], \"weights\": {\"gpu1\": 65536}}", "a weight that" },
	{ "{\"version\": 1, \"drains\": [], \"weights\": {\"gpu1\": \"7\"}}", "a weight that" },
	{ "{\"version\": 1, \"drains\": [], \"weights\": {\"gpu1\": 7.5}}", "a weight that" },
};

static void a_file_that_makes_no_sense_is_put_aside_whole_and_said(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_texts) / sizeof(*bad_texts); i++) {
		char *kept;

		write_text(bad_texts[i][0]);
		start();
		if (!strstr(rig.events, bad_texts[i][1]) || !strstr(rig.events, "state not read: "))
			fail_msg("%s: %s", bad_texts[i][0], rig.events);
		is("gpu1", VERDICT_NONE, 100);
		assert_null(content(rig.file));
		kept = content(rig.bad);
		assert_string_equal(kept, bad_texts[i][0]);
		free(kept);
		weigh("gpu1", 7);
		stop();
		start();
		is("gpu1", VERDICT_NONE, 7);
		weigh("gpu1", 100);
		stop();
	}
}

static void a_file_that_is_too_long_is_put_aside(void **state)
{
	char *text = malloc(STATE_TEXT_MAX + 2);

	(void)state;
	memset(text, ' ', STATE_TEXT_MAX + 1);
	text[STATE_TEXT_MAX + 1] = 0;
	write_text(text);
	start();
	assert_non_null(strstr(rig.events, "is longer than"));
	stop();
	free(text);
}

static void what_is_no_file_is_put_aside(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(mkdir(rig.file, 0755), 0);
	start();
	assert_non_null(strstr(rig.events, "no regular file"));
	assert_int_equal(stat(rig.bad, &st), 0);
	weigh("gpu1", 7);
	stop();
	start();
	is("gpu1", VERDICT_NONE, 7);
	stop();
}

static void what_can_not_be_put_aside_is_never_written_over(void **state)
{
	char *text, deeper[128];

	(void)state;
	snprintf(deeper, sizeof(deeper), "%s/x", rig.bad);
	assert_int_equal(mkdir(rig.bad, 0755) || mkdir(deeper, 0755), 0);
	write_text("{\"version\": 2}");
	start();
	assert_non_null(strstr(rig.events, "can't be put aside, so none are kept"));
	weigh("gpu1", 7);
	stop();
	text = content(rig.file);
	assert_string_equal(text, "{\"version\": 2}");
	free(text);
}

static void without_a_directory_nothing_is_kept(void **state)
{
	(void)state;
	start();
	stop();
	rig.directory[0] = 0;
	start();
	drain("gpu1", 0);
	stop();
	assert_string_equal(rig.events, "");
	memcpy(rig.directory, rig.file, strlen(rig.file) - strlen("/state.json"));
	assert_null(content(rig.file));
}

/* What a round of the main loop does, until the thread has ended. */
static void run_until(const char *event)
{
	for (int i = 0; i < 20000 && !strstr(rig.events, event); i++) {
		state_run(rig.s.state);
		usleep(1000);
	}
	assert_non_null(strstr(rig.events, event));
}

static void what_can_not_be_written_is_said_once_and_written_later(void **state)
{
	char moved[96], *text;

	(void)state;
	start();
	snprintf(moved, sizeof(moved), "%s-moved", rig.directory);
	assert_int_equal(rename(rig.directory, moved), 0);
	weigh("gpu1", 7);
	run_until("state not kept: ");
	assert_non_null(strstr(rig.events, "No such file"));
	assert_int_equal(rename(moved, rig.directory), 0);
	run_until("state kept again: ");
	assert_ptr_equal(strstr(rig.events, "state not kept"), rig.events);
	text = content(rig.file);
	assert_non_null(strstr(text, "\"gpu1\": 7"));
	free(text);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(without_a_file_all_is_as_configured_and_none_is_made),
		TEST(drains_deadlines_and_weights_come_back),
		TEST(a_deadline_that_passed_meanwhile_is_now),
		TEST(what_others_asked_for_is_not_kept),
		TEST(what_is_pinned_is_newer_than_the_file),
		TEST(a_file_that_is_right_is_not_written_again),
		TEST(who_is_no_longer_configured_is_dropped_at_the_next_write),
		TEST(a_file_that_makes_no_sense_is_put_aside_whole_and_said),
		TEST(a_file_that_is_too_long_is_put_aside),
		TEST(what_is_no_file_is_put_aside),
		TEST(what_can_not_be_put_aside_is_never_written_over),
		TEST(without_a_directory_nothing_is_kept),
		TEST(what_can_not_be_written_is_said_once_and_written_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
