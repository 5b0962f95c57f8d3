/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * plan_test.c - what changes from one configuration to another, each change as its sentence.
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

#include "core/plan.h"

/* Two pools, two VIPs; a test replaces a piece of it. */
static const char text[] = "interfaces: [eth0, eth1]\n"
			   "seed: 0x5eed\n"
			   "probe: {interval: 100us, multiplier: 3, hold: 1s}\n"
			   "control: {socket: /run/a.sock, group: shunt}\n"
			   "vips:\n"
			   "  - {name: chat, address: 203.0.113.10, protocol: tcp, port: 443, pool: gpus}\n"
			   "  - {name: dns, address: 203.0.113.11, protocol: udp, port: 53, pool: spare}\n"
			   "pools:\n"
			   "  - name: gpus\n"
			   "    forward: ipip\n"
			   "    backends:\n"
			   "      - {name: gpu1, address: 10.0.0.11}\n"
			   "      - {name: gpu2, address: 10.0.0.12}\n"
			   "  - name: spare\n"
			   "    forward: ipip\n"
			   "    slots: 251\n"
			   "    backends:\n"
			   "      - {name: old, address: 10.0.0.99, weight: 7}\n";

static struct config *parse(const char *yaml)
{
	struct config_error error;
	struct config *config;

	if (config_parse(&config, yaml, strlen(yaml), &error))
		fail_msg("%u:%u: %s", error.line, error.column, error.text);
	return config;
}

/* The text with its only `from` replaced by `to`; to be freed. */
static char *edited(const char *yaml, const char *from, const char *to)
{
	const char *at = strstr(yaml, from);
	char *out = malloc(strlen(yaml) + strlen(to) + 1);

	assert_non_null(at);
	assert_null(strstr(at + 1, from));
	snprintf(out, strlen(yaml) + strlen(to) + 1, "%.*s%s%s", (int)(at - yaml), yaml, to, at + strlen(from));
	return out;
}

/* The plan from one text to another, as sentences joined by "; "; `why` where it is refused. */
static const char *plan_between(const char *yaml_before, const char *yaml_after)
{
	static char sentences[1024];
	struct config *before = parse(yaml_before), *after = parse(yaml_after);
	struct plan plan = { 0 };
	char sentence[256];
	int err = plan_make(&plan, before, after, sentences, sizeof(sentences));

	assert_true(!err || err == -EPERM);
	if (!err)
		sentences[0] = 0;
	for (size_t i = 0; i < plan.n; i++) {
		size_t used = strlen(sentences);

		snprintf(sentences + used, sizeof(sentences) - used, "%s%s", i ? "; " : "",
			 plan_change_text(&plan.changes[i], sentence, sizeof(sentence)));
	}
	plan_free(&plan);
	config_free(before);
	config_free(after);
	return sentences;
}

static const char *plan_of(const char *from, const char *to)
{
	char *after = edited(text, from, to);
	const char *sentences = plan_between(text, after);

	free(after);
	return sentences;
}

static void the_same_configuration_changes_nothing(void **state)
{
	(void)state;
	assert_string_equal(plan_between(text, text), "");
}

static void the_order_of_lines_changes_nothing(void **state)
{
	char *after = edited(text,
			     "      - {name: gpu1, address: 10.0.0.11}\n"
			     "      - {name: gpu2, address: 10.0.0.12}\n",
			     "      - {name: gpu2, address: 10.0.0.12}\n"
			     "      - {name: gpu1, address: 10.0.0.11}\n");
	char *again = edited(after, "[eth0, eth1]", "[eth1, eth0]");

	(void)state;
	assert_string_equal(plan_between(text, again), "");
	free(after);
	free(again);
}

static void a_default_written_out_changes_nothing(void **state)
{
	(void)state;
	assert_string_equal(plan_of("address: 10.0.0.12}", "address: 10.0.0.12, weight: 100, forward: ipip}"), "");
}

static void backends_are_added_and_removed(void **state)
{
	(void)state;
	assert_string_equal(
		plan_of("      - {name: gpu2", "      - {name: gpu15, address: 10.0.0.15}\n      - {name: gpu2"),
		"backend gpu15 added to pool gpus");
	assert_string_equal(plan_of("      - {name: gpu2, address: 10.0.0.12}\n", ""),
			    "backend gpu2 removed from pool gpus");
	assert_string_equal(plan_of("name: gpu2", "name: gpu3"),
			    "backend gpu2 removed from pool gpus; backend gpu3 added to pool gpus");
}

static void a_backend_is_asked_in_another_way(void **state)
{
	char *pool = edited(text, "    slots: 251\n", "    slots: 251\n    check: {type: tcp, port: 80}\n");
	char *another = edited(pool, "port: 80}", "port: 81}"),
	     *own = edited(pool, "weight: 7", "weight: 7, check: echo");

	(void)state;
	assert_string_equal(plan_of("address: 10.0.0.12}", "address: 10.0.0.12, check: heartbeat}"), "");
	assert_string_equal(plan_of("address: 10.0.0.12}", "address: 10.0.0.12, check: bfd}"),
			    "backend gpu2: check heartbeat becomes bfd");
	assert_string_equal(plan_between(text, pool), "backend old: check heartbeat becomes tcp");
	assert_string_equal(plan_between(pool, another), "backend old: another check by tcp");
	assert_string_equal(plan_between(another, own), "backend old: check tcp becomes echo");
	free(pool);
	free(another);
	free(own);
}

static void a_pool_bears_more_soft_verdicts(void **state)
{
	(void)state;
	assert_string_equal(plan_of("    slots: 251\n", "    slots: 251\n    max_soft_eject: 20%\n"),
			    "pool spare: max_soft_eject 50% becomes 20%");
}

static void a_backend_with_another_address_is_another_backend(void **state)
{
	(void)state;
	assert_string_equal(plan_of("10.0.0.12", "10.0.0.13"),
			    "backend gpu2 removed from pool gpus; backend gpu2 added to pool gpus");
}

static void a_backend_in_another_pool_is_another_backend(void **state)
{
	char *without = edited(text, "      - {name: gpu2, address: 10.0.0.12}\n", "");
	char *after = edited(without, "weight: 7}\n", "weight: 7}\n      - {name: gpu2, address: 10.0.0.12}\n");

	(void)state;
	assert_string_equal(plan_between(text, after),
			    "backend gpu2 removed from pool gpus; backend gpu2 added to pool spare");
	free(without);
	free(after);
}

static void a_backend_keeps_its_identity_through_weight_domain_and_forward(void **state)
{
	(void)state;
	assert_string_equal(plan_of("weight: 7", "weight: 9"), "backend old: weight 7 becomes 9");
	assert_string_equal(plan_of("weight: 7", "weight: 7, domain: rack-1"),
			    "backend old: domain its own becomes rack-1");
	assert_string_equal(plan_of("weight: 7", "weight: 7, forward: l2"), "backend old: forward ipip becomes l2");
}

/* The plan from the text, where gpu1 has weight 300 by command, to one where the file gives it another; a command's stays. */
static const char *plan_of_weights(uint32_t configured, uint32_t in_force)
{
	static char sentence[256];
	struct config *before = parse(text), *after = parse(text);
	struct plan plan = { 0 };

	before->pools[0].backends[0].weight = 300;
	after->pools[0].backends[0].configured_weight = configured;
	after->pools[0].backends[0].weight = in_force;
	assert_int_equal(plan_make(&plan, before, after, sentence, sizeof(sentence)), 0);
	assert_in_range(plan.n, 0, 1);
	sentence[0] = 0;
	if (plan.n)
		plan_change_text(&plan.changes[0], sentence, sizeof(sentence));
	plan_free(&plan);
	config_free(before);
	config_free(after);
	return sentence;
}

static void a_weight_by_command_is_no_change_while_it_stays(void **state)
{
	(void)state;
	assert_string_equal(plan_of_weights(100, 300), "");
	assert_string_equal(plan_of_weights(300, 300), "");
	assert_string_equal(plan_of_weights(200, 300),
			    "backend gpu1: configured weight 100 becomes 200, 300 by command stays");
	assert_string_equal(plan_of_weights(200, 200), "backend gpu1: weight 300 becomes 200");
}

static void pools_are_added_removed_and_resized(void **state)
{
	char *after =
		edited(text, "pools:\n",
		       "pools:\n"
		       "  - {name: extra, forward: l2, slots: 257, backends: [{name: e1, address: 10.0.0.50}]}\n");

	(void)state;
	assert_string_equal(plan_between(text, after),
			    "pool extra added with 257 slots; backend e1 added to pool extra");
	assert_string_equal(plan_between(after, text),
			    "pool extra removed with its backends; backend e1 removed from pool extra");
	assert_string_equal(plan_of("slots: 251", "slots: 257"), "pool spare: slots 251 becomes 257");
	free(after);
}

static void vips_are_added_removed_and_led_elsewhere(void **state)
{
	(void)state;
	assert_string_equal(
		plan_of("vips:\n",
			"vips:\n  - {name: all, address: 203.0.113.9, protocol: tcp, port: any, pool: gpus}\n"),
		"vip all added at tcp 203.0.113.9, every port");
	assert_string_equal(
		plan_of("port: 443", "port: 444"),
		"vip chat removed at tcp 203.0.113.10 port 443; vip chat added at tcp 203.0.113.10 port 444");
	assert_string_equal(plan_of("pool: gpus}", "pool: spare}"), "vip chat: pool gpus becomes spare");
	assert_string_equal(plan_of("pool: spare}", "pool: spare, hash: source/24}"),
			    "vip dns: hash 5tuple becomes source/24");
}

static void a_vip_with_another_name_is_the_same(void **state)
{
	char *swapped, *half, *after;

	(void)state;
	assert_string_equal(plan_of("name: chat", "name: talk"), "vip talk renamed from chat");
	assert_string_equal(plan_of("name: chat, ", "name: talk, on_failure: drop, "),
			    "vip talk renamed from chat; vip talk: on_failure reset becomes drop");
	/* Two change their names; and one takes the name of one that goes. */
	swapped = edited(text, "name: chat", "name: swap");
	half = edited(swapped, "name: dns", "name: chat");
	after = edited(half, "name: swap", "name: dns");
	assert_string_equal(plan_between(text, after), "vip chat renamed from dns; vip dns renamed from chat");
	free(after);
	free(half);
	free(swapped);
	assert_string_equal(plan_of("chat, address: 203.0.113.10, protocol: tcp, port: 443, pool: gpus}\n"
				    "  - {name: dns, address: 203.0.113.11, protocol: udp, port: 53, pool: spare}\n",
				    "dns, address: 203.0.113.10, protocol: tcp, port: 443, pool: gpus}\n"),
			    "vip dns removed at udp 203.0.113.11 port 53; vip dns renamed from chat");
}

static void a_vips_rules_change_without_a_move(void **state)
{
	(void)state;
	assert_string_equal(plan_of("pool: gpus}", "pool: gpus, on_failure: drop}"),
			    "vip chat: on_failure reset becomes drop");
	assert_string_equal(plan_of("pool: gpus}", "pool: gpus, syn_limit: {rate: 10}}"),
			    "vip chat: another syn_limit");
}

static void settings_change_by_their_key(void **state)
{
	(void)state;
	assert_string_equal(
		plan_of("interval: 100us, multiplier: 3, hold: 1s", "interval: 1ms, multiplier: 4, hold: 2s"),
		"config probe.interval: 100us becomes 1ms; config probe.multiplier: 3 becomes 4; "
		"config probe.hold: 1s becomes 2s");
	assert_string_equal(plan_of("hold: 1s}", "hold: 1s, hold_max: 2m, key_file: /k}"),
			    "config probe.hold_max: 1m becomes 2m; config probe.key_file: none becomes /k");
	assert_string_equal(plan_of("vips:\n", "detector: controller\nflows: {idle: 2h}\nvips:\n"),
			    "config detector: kernel becomes controller; config flows.idle: 1h becomes 2h");
	assert_string_equal(plan_of("[eth0, eth1]", "[eth0, eth2]"), "interface eth1 removed; interface eth2 added");
}

static void what_is_fixed_while_running_is_refused_by_its_key(void **state)
{
	(void)state;
	assert_string_equal(plan_of("0x5eed", "0x5eee"),
			    "seed can't change while shuntd runs: restart it, or leave it as it was");
	assert_string_equal(plan_of("vips:\n", "flows: {max: 2048}\nvips:\n"),
			    "flows.max can't change while shuntd runs: restart it, or leave it as it was");
	assert_string_equal(plan_of("/run/a.sock", "/run/b.sock"),
			    "control.socket can't change while shuntd runs: restart it, or leave it as it was");
	assert_string_equal(plan_of("group: shunt", "group: ops"),
			    "control.group can't change while shuntd runs: restart it, or leave it as it was");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_configuration_changes_nothing),
		cmocka_unit_test(the_order_of_lines_changes_nothing),
		cmocka_unit_test(a_default_written_out_changes_nothing),
		cmocka_unit_test(backends_are_added_and_removed),
		cmocka_unit_test(a_backend_is_asked_in_another_way),
		cmocka_unit_test(a_pool_bears_more_soft_verdicts),
		cmocka_unit_test(a_backend_with_another_address_is_another_backend),
		cmocka_unit_test(a_backend_in_another_pool_is_another_backend),
		cmocka_unit_test(a_backend_keeps_its_identity_through_weight_domain_and_forward),
		cmocka_unit_test(a_weight_by_command_is_no_change_while_it_stays),
		cmocka_unit_test(pools_are_added_removed_and_resized),
		cmocka_unit_test(vips_are_added_removed_and_led_elsewhere),
		cmocka_unit_test(a_vip_with_another_name_is_the_same),
		cmocka_unit_test(a_vips_rules_change_without_a_move),
		cmocka_unit_test(settings_change_by_their_key),
		cmocka_unit_test(what_is_fixed_while_running_is_refused_by_its_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
