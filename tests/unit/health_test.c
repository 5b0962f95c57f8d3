// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * health_test.c - when a balancer is not fit to have the VIPs. The shared memory and the clock are the test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "shuntd/backends.h"
#include "shuntd/checker.h"
#include "shuntd/health.h"
#include "shuntd/shuntd.h"

static struct backend backends[SHUNT_MAX_BACKENDS];
static struct detector detector;
static bool is_attached;
static uint64_t deaf_ns;

struct backend *dataplane_backends(struct dataplane *dp)
{
	(void)dp;
	return backends;
}

struct detector *dataplane_detector(struct dataplane *dp)
{
	(void)dp;
	return &detector;
}

bool dataplane_attached(const struct dataplane *dp, unsigned ifindex)
{
	(void)dp;
	(void)ifindex;
	return is_attached;
}

uint64_t checker_deaf_ns(const struct checker *c)
{
	(void)c;
	return deaf_ns;
}

static const char text[] =
	"interfaces: [lo]\n"
	"seed: 1\n"
	"vips:\n"
	"  - {name: chat, address: 203.0.113.10, protocol: tcp, port: 443, pool: a}\n"
	"  - {name: extra, address: 203.0.113.10, protocol: tcp, port: 444, pool: b, required: false}\n"
	"  - {name: voice, address: 203.0.113.10, protocol: tcp, port: 445, pool: b}\n"
	"pools:\n"
	"  - {name: a, forward: ipip, backends: [{name: a1, address: 10.0.0.1}, {name: a2, address: 10.0.0.2}]}\n"
	"  - {name: b, forward: ipip, backends: [{name: b1, address: 10.0.0.3}]}\n";

struct fixture {
	struct shuntd s;
	uint64_t now_ns;
	char why[256];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct config_error error;

	assert_int_equal(config_parse(&f->s.config, text, strlen(text), &error), 0);
	assert_int_equal(ledger_open(&f->s.ledger, &(struct ledger_options){ .directory = "" }), 0);
	assert_int_equal(health_open(&f->s.health, &f->s, false), 0);
	for (size_t p = 0; p < 2; p++) {
		struct pool_run *pool = pool_run_add(&f->s, &f->s.config->pools[p]);

		for (size_t i = 0; i < f->s.config->pools[p].n_backends; i++)
			backend_run_add(&f->s, &f->s.config->pools[p].backends[i], pool);
	}
	for (size_t v = 0; v < f->s.config->n_vips; v++)
		vip_run_add(&f->s, &f->s.config->vips[v], f->s.pools[f->s.config->vips[v].pool]);
	for (size_t i = 0; i < f->s.n_backends; i++)
		backends[f->s.backends[i]->id].word = BACKEND_WORD(BACKEND_DOWN, VERDICT_JOINING);
	f->s.pace.interval_ns = 100000;
	f->now_ns = f->s.started_ns = 1000000000;
	detector = (struct detector){ 0 };
	is_attached = true;
	deaf_ns = 0;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	health_close(f->s.health);
	runs_free(&f->s);
	ledger_close(f->s.ledger);
	config_free(f->s.config);
	free(f);
	return 0;
}

static void backend_is(struct fixture *f, const char *name, enum backend_state state)
{
	backends[backend_find(&f->s, name)->id].word = BACKEND_WORD(state, VERDICT_NONE);
}

/* Looks for so long, while rounds and ticks are made or not; what is wrong at the end, "": nothing. */
static const char *after(struct fixture *f, uint64_t ms, bool asks, bool judges)
{
	for (uint64_t end_ns = f->now_ns + ms * 1000000; f->now_ns < end_ns; f->now_ns += BACKENDS_PERIOD_NS) {
		detector.round += asks;
		detector.ticks += judges;
		health_run(f->s.health, f->now_ns);
	}
	return shuntd_ill(&f->s, f->why, sizeof(f->why)) ? f->why : "";
}

static void all_up(struct fixture *f)
{
	backend_is(f, "a1", BACKEND_UP);
	backend_is(f, "a2", BACKEND_UP);
	backend_is(f, "b1", BACKEND_UP);
	assert_string_equal(after(f, 10, true, true), "");
}

static size_t n_events(const struct fixture *f, const char *what)
{
	json_t *events = ledger_since(f->s.ledger, 1, NULL), *event;
	size_t n = 0, i;

	json_array_foreach(events, i, event) n += !strcmp(json_string_value(json_object_get(event, "what")), what);
	json_decref(events);
	return n;
}

static void it_is_ill_until_every_required_vip_had_a_living_backend(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(shuntd_ill(&f->s, f->why, sizeof(f->why)), "starting");
	assert_string_equal(after(f, 10, true, true), "starting: no backend of VIP chat is up yet");
	backend_is(f, "a1", BACKEND_UP);
	assert_string_equal(after(f, 10, true, true), "starting: no backend of VIP voice is up yet");
	backend_is(f, "b1", BACKEND_UP);
	assert_string_equal(after(f, 10, true, true), "starting: backend a2 is not up yet");
	backend_is(f, "a2", BACKEND_UP);
	assert_string_equal(after(f, 10, true, true), "");
	assert_int_equal(n_events(f, "well"), 1);
}

static void a_start_does_not_wait_for_ever_for_a_dead_backend(void **state)
{
	struct fixture *f = *state;

	backend_is(f, "a1", BACKEND_UP);
	backend_is(f, "b1", BACKEND_UP);
	assert_string_equal(after(f, 3000, true, true), "starting: backend a2 is not up yet");
	assert_string_equal(after(f, 3000, true, true), "");
	backend_is(f, "a1", BACKEND_DOWN);
	backend_is(f, "a2", BACKEND_UP);
	assert_string_equal(after(f, 10, true, true), "");
}

static void who_took_over_does_not_start(void **state)
{
	struct fixture *f = *state;

	health_close(f->s.health);
	assert_int_equal(health_open(&f->s.health, &f->s, true), 0);
	assert_null(shuntd_ill(&f->s, f->why, sizeof(f->why)));
	backend_is(f, "b1", BACKEND_UP);
	assert_string_equal(after(f, 10, true, true), "no backend of VIP chat is up");
	backend_is(f, "a1", BACKEND_UP);
	assert_string_equal(after(f, 10, true, true), "");
}

static void the_last_living_backend_of_a_required_vip_makes_it_ill(void **state)
{
	struct fixture *f = *state;

	all_up(f);
	backend_is(f, "a1", BACKEND_DOWN);
	assert_string_equal(after(f, 10, true, true), "");
	backend_is(f, "a2", BACKEND_DOWN);
	assert_string_equal(after(f, 1000, true, true), "no backend of VIP chat is up");
	assert_int_equal(n_events(f, "ill"), 1);
	backend_is(f, "a2", BACKEND_UP);
	assert_string_equal(after(f, 10, true, true), "");
	assert_int_equal(n_events(f, "well"), 2);
}

static void a_draining_backend_lives(void **state)
{
	struct fixture *f = *state;

	all_up(f);
	backend_is(f, "b1", BACKEND_DRAINING);
	assert_string_equal(after(f, 10, true, true), "");
}

static void a_vip_that_is_not_required_may_be_without_backends(void **state)
{
	struct fixture *f = *state;

	all_up(f);
	vip_find(&f->s, "voice")->conf.required = false;
	backend_is(f, "b1", BACKEND_DOWN);
	assert_string_equal(after(f, 10, true, true), "");
}

static void a_vip_that_a_reload_added_counts_once_it_was_served(void **state)
{
	struct fixture *f = *state;
	struct config_vip conf = f->s.config->vips[0];
	struct config_pool pool = f->s.config->pools[1];
	struct config_backend backend = pool.backends[0];

	all_up(f);
	snprintf(conf.name, sizeof(conf.name), "added");
	snprintf(pool.name, sizeof(pool.name), "c");
	snprintf(backend.name, sizeof(backend.name), "c1");
	vip_run_add(&f->s, &conf, pool_run_add(&f->s, &pool));
	backend_run_add(&f->s, &backend, pool_find(&f->s, "c"));
	backend_is(f, "c1", BACKEND_DOWN);
	assert_string_equal(after(f, 1000, true, true), "");
	backend_is(f, "c1", BACKEND_UP);
	assert_string_equal(after(f, 10, true, true), "");
	backend_is(f, "c1", BACKEND_DOWN);
	assert_string_equal(after(f, 10, true, true), "no backend of VIP added is up");
}

static void a_program_that_is_not_attached_makes_it_ill(void **state)
{
	struct fixture *f = *state;

	all_up(f);
	is_attached = false;
	assert_string_equal(after(f, 10, true, true), "the program is not attached to lo");
	is_attached = true;
	assert_string_equal(after(f, 10, true, true), "");
}

static void rounds_or_ticks_that_stand_still_make_it_ill(void **state)
{
	struct fixture *f = *state;

	all_up(f);
	assert_string_equal(after(f, 400, false, true), "");
	assert_string_equal(after(f, 200, false, true), "the prober has stopped");
	assert_string_equal(after(f, 10, true, true), "");
	assert_string_equal(after(f, 600, true, false), "the detector has stopped");
	assert_string_equal(after(f, 10, true, true), "");
}

static void a_long_interval_is_no_standstill(void **state)
{
	struct fixture *f = *state;

	all_up(f);
	f->s.pace.interval_ns = 1000000000;
	assert_string_equal(after(f, 5000, false, false), "");
}

static void who_had_no_processor_himself_calls_nobody_stopped(void **state)
{
	struct fixture *f = *state;

	all_up(f);
	f->now_ns += 10000000000;
	assert_string_equal(after(f, 100, false, false), "");
}

static void to_hear_nobody_for_long_makes_it_ill(void **state)
{
	struct fixture *f = *state;

	all_up(f);
	detector.suspect_since_ns = f->now_ns;
	assert_string_equal(after(f, 150, true, true), "");
	assert_string_equal(after(f, 100, true, true), "all backends are silent: is this host's own link cut?");
	detector.suspect_since_ns = 0;
	assert_string_equal(after(f, 10, true, true), "");
	deaf_ns = f->now_ns; /* the same of those who are asked otherwise than by probes */
	assert_string_equal(after(f, 150, true, true), "");
	assert_string_equal(after(f, 100, true, true), "all backends are silent: is this host's own link cut?");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(it_is_ill_until_every_required_vip_had_a_living_backend),
		TEST(a_start_does_not_wait_for_ever_for_a_dead_backend),
		TEST(who_took_over_does_not_start),
		TEST(the_last_living_backend_of_a_required_vip_makes_it_ill),
		TEST(a_draining_backend_lives),
		TEST(a_vip_that_is_not_required_may_be_without_backends),
		TEST(a_vip_that_a_reload_added_counts_once_it_was_served),
		TEST(a_program_that_is_not_attached_makes_it_ill),
		TEST(rounds_or_ticks_that_stand_still_make_it_ill),
		TEST(a_long_interval_is_no_standstill),
		TEST(who_had_no_processor_himself_calls_nobody_stopped),
		TEST(to_hear_nobody_for_long_makes_it_ill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
