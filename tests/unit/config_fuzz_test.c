/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config_fuzz_test.c - good files with random damage, from a fixed seed: a fraction of a fuzzer's hunt in each run,
 * under the sanitizers. The texts are small ones that use every key, so that damage hits meaning and not comments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../fuzz/config_property.h"

#define MUTANTS 20000 /* of each file: about two seconds with the sanitizers */
#define TEXT_MAX 4096

static const char shunt_text[] =
	"interfaces: [eth0, eth1]\n"
	"seed: 0x5eed\n"
	"probe: {interval: 100us, multiplier: 3, hold: 1s, hold_max: 9s, key_file: /k, cpu: 1}\n"
	"detector: kernel\n"
	"flows: {max: 2048, closed: 1m, idle: 1h}\n"
	"control: {socket: \"/run/s\", group: g}\n"
	"vips:\n"
	"  - {name: v, address: 203.0.113.1, protocol: tcp, port: 443, pool: p, policy: maglev,\n"
	"     on_failure: drop, syn_limit: {rate: 10, burst: 20, prefix: 24, action: count}}\n"
	"  - {name: w, address: \"2001:db8::1\", protocol: udp, port: any, pool: q, hash: source/64}\n"
	"pools:\n"
	"  - name: p\n"
	"    forward: ipip\n"
	"    slots: 251\n"
	"    max_soft_eject: 25%\n"
	"    check: {type: http, port: 80, path: /h, interval: 1s, timeout: 2s, rise: 1, fall: 2}\n"
	"    backends:\n"
	"      - {name: a, address: 10.0.0.1, weight: 5, domain: d, forward: l2}\n"
	"      - {name: b, address: \"fd00::2\", check: {type: bfd, interval: 5ms, multiplier: 2}}\n"
	"  - {name: q, forward: l2, backends: [{name: c, address: 10.0.0.1}]}\n";

static const char agent_text[] = "interfaces: [eth0]\n"
				 "vips:\n"
				 "  - 203.0.113.1\n"
				 "  - \"2001:db8::1\"\n"
				 "setup_vips: true\n"
				 "balancers: [10.0.0.1, 10.0.0.2]\n"
				 "control: {socket: /run/a}\n"
				 "key_file: /k\n"
				 "pin: none\n"
				 "engine:\n"
				 "  listen: 8000\n"
				 "  worker_age: 5s\n"
				 "  beat: {limit: 500ms, group: g, pin: /b}\n"
				 "  health: {url: \"http://a/b?c\", interval: 1s, rise: 2}\n";

static const char *const tokens[] = {
	"[",
	"]",
	"{",
	"}",
	",",
	": ",
	"- ",
	"? ",
	"&a ",
	"*a",
	"!t ",
	"|\n",
	">\n",
	"\"",
	"'",
	"#",
	"\n",
	"\t",
	"---",
	"...",
	"%YAML ",
	"<<",
	"\\",
	"0",
	"-1",
	"0x",
	"any",
	"\r",
	"l2",
	"ipip",
	"a",
	"eth0",
	"us",
	"true",
	"auto",
	"65536",
	"99999999999999999999",
	"::1",
	"\xff",
	"/",
	"source",
	"name: ",
	"weight: ",
	"10.0.0.1",
	"::ffff:10.0.0.1",
	"  ",
	"\xc2\x85",
	"\xe2\x80\xa8",
};

static uint64_t rng_state;

/* xorshift64 (Marsaglia, 2003); below n. */
static size_t rng_below(size_t n)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return (size_t)(rng_state % n);
}

/* Put `n` bytes in the place of `gap` bytes at `at`; the new length. */
static size_t splice(char *text, size_t length, size_t at, size_t gap, const char *bytes, size_t n)
{
	if (length - gap + n > TEXT_MAX)
		return length;
	memmove(text + at + n, text + at + gap, length - at - gap);
	memcpy(text + at, bytes, n);
	return length - gap + n;
}

static size_t mutate(char *text, size_t length)
{
	size_t at = rng_below(length + 1), span = rng_below(24), from;
	const char *token = tokens[rng_below(sizeof(tokens) / sizeof(tokens[0]))];
	char copy[24];

	if (span > length - at)
		span = length - at;
	switch (rng_below(5)) {
	case 0: /* another byte */
		if (at < length)
			text[at] = (char)rng_below(256);
		return length;
	case 1: /* bytes lost */
		return splice(text, length, at, span, "", 0);
	case 2: /* a token more */
		return splice(text, length, at, 0, token, strlen(token));
	case 3: /* a token instead */
		return splice(text, length, at, span, token, strlen(token));
	default: /* a piece from elsewhere */
		from = rng_below(length - span + 1);
		memcpy(copy, text + from, span);
		return splice(text, length, at, 0, copy, span);
	}
}

/* Give mutants of a good text to a property; how many of them were good files. */
static size_t mutants_good(const char *good, bool (*property)(const char *, size_t))
{
	char text[TEXT_MAX], *exact;
	size_t n_good = 0, length;

	assert_true(property(good, strlen(good)));
	rng_state = 0x5eed0123456789abULL;
	for (int i = 0; i < MUTANTS; i++) {
		length = strlen(good);
		memcpy(text, good, length);
		for (size_t n = 1 + rng_below(3); n; n--)
			length = mutate(text, length);
		exact = malloc(length + !length); /* exactly as long as the text: a byte read beyond is seen */
		assert_non_null(exact);
		memcpy(exact, text, length);
		n_good += property(exact, length);
		free(exact);
	}
	return n_good;
}

static void damaged_shunt_yaml_is_refused_with_a_place_or_read_as_what_it_prints(void **state)
{
	size_t n_good = mutants_good(shunt_text, property_config);

	(void)state;
	assert_in_range(n_good, MUTANTS / 100, MUTANTS / 2); /* damage reaches both outcomes */
}

static void damaged_agent_yaml_is_refused_with_a_place_or_read_as_what_it_prints(void **state)
{
	size_t n_good = mutants_good(agent_text, property_agent_config);

	(void)state;
	assert_in_range(n_good, MUTANTS / 100, MUTANTS / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(damaged_shunt_yaml_is_refused_with_a_place_or_read_as_what_it_prints),
		cmocka_unit_test(damaged_agent_yaml_is_refused_with_a_place_or_read_as_what_it_prints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
