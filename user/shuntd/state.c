/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * state.c - see state.h. The model of the file is its JSON: checked whole before any of it is believed. What is to be
 * written is gathered from the backends as they run, so nothing is kept here that could differ from them.
 *
 * Tests: tests/unit/state_test.c, tests/net/test_state.py.
 */
#include "shuntd/state.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "shuntd/backends.h"

#define STACK_BYTES 131072 /* of the writing thread, chosen: file_replace() has three paths on it; locked memory */
#define TIME_FORMAT "%Y-%m-%dT%H:%M:%SZ" /* RFC 3339 */
#define LEFT_MAX_S (INT64_MAX / 4000000000LL) /* a deadline further away is as good as this one: 73 years */

struct state {
	struct shuntd *shuntd;
	char path[CONFIG_PATH_MAX + sizeof(STATE_FILE)]; /* "": nothing is kept */
	json_t *read; /* as found at the start, until it is restored; NULL: there was none */
	bool is_older; /* than what an earlier run left in the pinned maps */
	bool changed;
	uint64_t retry_ns; /* CLOCK_MONOTONIC: not to try again before */
	char *written; /* what the file holds; NULL: not known */
	int failed; /* how the newest attempt ended; 0: well */
	/* the thread's, while `writing` and not `done` */
	bool writing;
	pthread_t thread;
	char *text;
	int err;
	atomic_bool done;
};

/* ---- reading ---- */

static int deadline_parse(time_t *out, const char *text)
{
	struct tm tm = { 0 };
	const char *end = strptime(text, TIME_FORMAT, &tm);

	*out = end ? timegm(&tm) : 0;
	return end && !*end ? 0 : -EINVAL;
}

static bool drains_make_sense(const json_t *drains)
{
	const char *name, *text;
	json_t *drain, *deadline;
	time_t at;
	size_t i;

	json_array_foreach(drains, i, drain)
	{
		if (json_unpack(drain, "{s:s, s:o!}", "backend", &name, "deadline", &deadline))
			return false;
		text = json_string_value(deadline);
		if (!json_is_null(deadline) && (!text || deadline_parse(&at, text)))
			return false;
	}
	return json_is_array(drains);
}

static bool weights_make_sense(json_t *weights)
{
	const char *name;
	json_t *weight;

	json_object_foreach(weights, name, weight)
	{
		if (json_integer_value(weight) < 1 || json_integer_value(weight) > UINT16_MAX)
			return false;
	}
	return json_is_object(weights);
}

/* The file's content, or NULL and what is wrong with it. */
static json_t *state_parse(const char *text, size_t length, char *why, size_t why_size)
{
	json_error_t error;
	json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error), *drains, *weights;
	const json_t *version = json_object_get(root, "version");
	int number;

	if (length > STATE_TEXT_MAX)
		snprintf(why, why_size, "is longer than %u bytes", STATE_TEXT_MAX);
	else if (!root)
		snprintf(why, why_size, "is no JSON at line %d, column %d", error.line, error.column);
	else if (json_is_integer(version) && json_integer_value(version) != STATE_VERSION)
		snprintf(why, why_size, "is of version %lld, expected %d", (long long)json_integer_value(version),
			 STATE_VERSION);
	else if (json_unpack(root, "{s:i, s:o, s:o!}", "version", &number, "drains", &drains, "weights", &weights))
		snprintf(why, why_size, "is not an object of version, drains and weights");
	else if (!drains_make_sense(drains))
		snprintf(why, why_size, "has a drain that is not a backend and a deadline");
	else if (!weights_make_sense(weights))
		snprintf(why, why_size, "has a weight that is not a number from 1 to 65535");
	else
		return root;
	json_decref(root);
	return NULL;
}

/* What can't be believed is kept beside, and never written over: without a place for it nothing is kept at all. */
static void put_aside(struct state *st, const char *why)
{
	char other[sizeof(st->path) + 4], text[sizeof(other) + 256];
	bool is_kept;

	snprintf(other, sizeof(other), "%s.bad", st->path);
	is_kept = !rename(st->path, other);
	snprintf(text, sizeof(text), "%s %s, so drains and weights are as configured; %s", st->path, why,
		 is_kept ? "it is now " STATE_FILE ".bad" : "it can't be put aside, so none are kept");
	ledger_add(st->shuntd->ledger, 0, "shuntd", "self", "state not read", text, NULL);
	if (!is_kept)
		st->path[0] = 0;
}

static void state_read(struct state *st)
{
	char why[128];
	size_t length;
	int err;
	char *text = file_read(st->path, STATE_TEXT_MAX + 1, &length, &err);

	if (err == -ENOENT || err == -ENOTDIR)
		return;
	if (text)
		st->read = state_parse(text, length, why, sizeof(why));
	else
		snprintf(why, sizeof(why), "can't be read (%s)",
			 err == -ENOTSUP ? "it is no regular file" : strerror(-err));
	if (st->read) {
		st->written = text;
		return;
	}
	put_aside(st, why);
	free(text);
}

static void known_drop(const struct shuntd *s, json_t *drains, json_t *weights)
{
	const char *name;
	json_t *weight;
	void *next;

	for (size_t i = json_array_size(drains); i--;)
		if (backend_find(s, json_string_value(json_object_get(json_array_get(drains, i), "backend"))))
			json_array_remove(drains, i);
	json_object_foreach_safe(weights, next, name, weight)
	{
		if (backend_find(s, name))
			json_object_del(weights, name);
	}
}

void state_heed(struct state *st, struct config *config)
{
	json_t *weights = json_object_get(st->read, "weights");

	st->is_older = st->shuntd->n_backends;
	known_drop(st->shuntd, json_object_get(st->read, "drains"), weights);
	for (size_t p = 0; p < config->n_pools; p++) {
		for (size_t i = 0; i < config->pools[p].n_backends; i++) {
			struct config_backend *b = &config->pools[p].backends[i];
			const json_t *weight = json_object_get(weights, b->name);

			if (weight)
				b->weight = (uint32_t)json_integer_value(weight);
		}
	}
}

static void failed(struct state *st, int err)
{
	char text[sizeof(st->path) + 128];

	if (err && err != st->failed) {
		snprintf(text, sizeof(text), "%s: %s: drains and weights would not outlive shuntd", st->path,
			 strerror(-err));
		ledger_add(st->shuntd->ledger, 0, "shuntd", "self", "state not kept", text, NULL);
	} else if (!err && st->failed) {
		ledger_add(st->shuntd->ledger, 0, "shuntd", "self", "state kept again", st->path, NULL);
	}
	st->failed = err;
}

int state_open(struct state **out, struct shuntd *s)
{
	struct state *st = calloc(1, sizeof(*st));

	if (!st)
		return -ENOMEM;
	st->shuntd = s;
	*out = st;
	if (!s->config->state[0])
		return 0;
	snprintf(st->path, sizeof(st->path), "%s/" STATE_FILE, s->config->state);
	if ((mkdir(s->config->state, 0750) && errno != EEXIST) || access(s->config->state, W_OK | X_OK))
		failed(st, -errno);
	state_read(st);
	return 0;
}

static uint64_t deadline_ns(const json_t *deadline)
{
	const int64_t now_ns = (int64_t)clock_ns(CLOCK_REALTIME);
	int64_t left_s = 0;
	time_t at;

	if (!json_is_string(deadline))
		return 0;
	if (!deadline_parse(&at, json_string_value(deadline)))
		left_s = at - now_ns / 1000000000;
	left_s = left_s > LEFT_MAX_S ? LEFT_MAX_S : left_s;
	return monotonic_ns() + (left_s > 0 ? (uint64_t)(left_s * 1000000000 - now_ns % 1000000000) : 0);
}

void state_restore(struct state *st)
{
	const json_t *drains = json_object_get(st->read, "drains"), *drain;
	size_t i;

	json_array_foreach(drains, i, drain)
	{
		struct backend_run *b = backend_find(st->shuntd, json_string_value(json_object_get(drain, "backend")));

		if (b)
			backends_drain(st->shuntd, b, VERDICT_DRAINED, deadline_ns(json_object_get(drain, "deadline")));
	}
	if (json_array_size(drains) || json_object_size(json_object_get(st->read, "weights")))
		ledger_add(st->shuntd->ledger, 0, "shuntd", "self", "state restored", st->path,
			   json_pack("{s:I, s:I}", "drains", (json_int_t)json_array_size(drains), "weights",
				     (json_int_t)json_object_size(json_object_get(st->read, "weights"))));
	json_decref(st->read);
	st->read = NULL;
	st->changed = st->is_older;
}

/* ---- writing ---- */

/* To the nearest second, so that one is the same whenever it is written. */
static json_t *deadline_json(uint64_t at_ns)
{
	time_t at = (time_t)((clock_ns(CLOCK_REALTIME) + (at_ns - monotonic_ns()) + 500000000) / 1000000000);
	char text[40];
	struct tm tm;

	if (!at_ns)
		return json_null();
	strftime(text, sizeof(text), TIME_FORMAT, gmtime_r(&at, &tm));
	return json_string(text);
}

/* The file as it should be; to be freed; NULL: no memory. */
static char *state_format(const struct shuntd *s)
{
	json_t *drains = json_array(), *weights = json_object(), *root;
	char *text, *line = NULL;

	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];

		if (b->draining == VERDICT_REMOVED || b->pool->removed)
			continue;
		if (b->draining == VERDICT_DRAINED)
			json_array_append_new(drains, json_pack("{s:s, s:o}", "backend", b->conf.name, "deadline",
								deadline_json(b->drain_deadline_ns)));
		if (b->conf.weight != b->conf.configured_weight)
			json_object_set_new(weights, b->conf.name, json_integer(b->conf.weight));
	}
	root = json_pack("{s:i, s:o, s:o}", "version", STATE_VERSION, "drains", drains, "weights", weights);
	text = root ? json_dumps(root, JSON_INDENT(4)) : NULL;
	if (text && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	json_decref(root);
	return line;
}

static void *write_thread(void *arg)
{
	struct state *st = arg;

	st->err = file_replace(st->path, st->text, strlen(st->text), 0640, false);
	atomic_store(&st->done, true);
	return NULL;
}

/* Begin to write st->text. */
static int write_begin(struct state *st)
{
	pthread_attr_t attributes;
	int err = pthread_attr_init(&attributes);

	if (err)
		return -err;
	atomic_store(&st->done, false);
	err = pthread_attr_setstacksize(&attributes, STACK_BYTES);
	err = err ? err : pthread_create(&st->thread, &attributes, write_thread, st);
	pthread_attr_destroy(&attributes);
	st->writing = !err;
	return -err;
}

/* The text is in the file, or it isn't. */
static void write_end(struct state *st, int err)
{
	failed(st, err);
	if (!err) {
		free(st->written);
		st->written = st->text;
	} else {
		free(st->text);
		st->changed = true;
		st->retry_ns = monotonic_ns() + STATE_RETRY_NS;
	}
	st->text = NULL;
}

static void write_wait(struct state *st)
{
	if (!st->writing)
		return;
	pthread_join(st->thread, NULL);
	st->writing = false;
	write_end(st, st->err);
}

/* Whether there is something to write, which is then st->text. */
static bool write_wanted(struct state *st)
{
	if (!st->changed || !st->path[0])
		return false;
	st->text = state_format(st->shuntd);
	st->changed = !st->text;
	if (st->text && (!st->written || strcmp(st->text, st->written) != 0))
		return true;
	free(st->text);
	st->text = NULL;
	return false;
}

void state_changed(struct state *st)
{
	if (st)
		st->changed = true;
}

void state_run(struct state *st)
{
	int err;

	if (st->writing && !atomic_load(&st->done))
		return;
	write_wait(st);
	if (monotonic_ns() < st->retry_ns || !write_wanted(st))
		return;
	err = write_begin(st);
	if (err)
		write_end(st, err);
}

void state_close(struct state *st)
{
	if (!st)
		return;
	write_wait(st);
	if (write_wanted(st))
		write_end(st, file_replace(st->path, st->text, strlen(st->text), 0640, false));
	json_decref(st->read);
	free(st->written);
	free(st);
}
