/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config_test.c - addresses and durations as text and back. Whole files are tested in tests/golden.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "core/config.h"

static void address_of_either_family_is_one_key_in_network_order(void **state)
{
	static const uint8_t v4[16] = { [10] = 0xff, [11] = 0xff, [12] = 203, [13] = 0, [14] = 113, [15] = 10 };
	static const uint8_t v6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 0x10 };
	struct shunt_addr address;

	(void)state;
	assert_int_equal(address_parse(&address, "203.0.113.10"), 0);
	assert_memory_equal(&address, v4, sizeof(v4));
	assert_true(address_is_v4(&address));
	assert_int_equal(address_parse(&address, "2001:db8::10"), 0);
	assert_memory_equal(&address, v6, sizeof(v6));
	assert_false(address_is_v4(&address));
}

static void address_prints_in_its_one_spelling(void **state)
{
	static const char *const spellings[][2] = {
		{ "0.0.0.0", "0.0.0.0" },
		{ "255.255.255.255", "255.255.255.255" },
		{ "::", "::" },
		{ "2001:DB8:0:0:0:0:0:1", "2001:db8::1" },
		{ "2001:db8::1:0:0:1", "2001:db8::1:0:0:1" }, /* RFC 5952 4.2.3 */
		{ "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
	};
	char buffer[ADDRESS_TEXT_MAX];
	struct shunt_addr address;

	(void)state;
	for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++) {
		assert_int_equal(address_parse(&address, spellings[i][0]), 0);
		assert_string_equal(address_format(&address, buffer, sizeof(buffer)), spellings[i][1]);
	}
}

static void text_that_is_not_an_address_is_refused(void **state)
{
	static const char *const texts[] = { "",
					     "1",
					     "1.2.3",
					     "1.2.3.4.5",
					     "1.2.3.256",
					     "1.2.3.04",
					     " 1.2.3.4",
					     "1.2.3.4 ",
					     "0x1.2.3.4",
					     ":",
					     ":::",
					     "1::2::3",
					     "g::",
					     "::1%lo",
					     "1.2.3.4/32",
					     "::ffff:1.2.3.4",
					     "::ffff:102:304",
					     "localhost" };
	struct shunt_addr address;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(address_parse(&address, texts[i]), -EINVAL);
}

static void duration_is_a_whole_number_and_its_unit(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = {
		{ "0ns", 0 },
		{ "0h", 0 },
		{ "1ns", 1 },
		{ "100us", 100000 },
		{ "007ms", 7000000 },
		{ "1s", 1000000000 },
		{ "2m", 120000000000 },
		{ "1h", 3600000000000 },
		{ "18446744073709551615ns", UINT64_MAX },
	};
	static const char *const bad[] = { "",
					   "1",
					   "us",
					   "1 us",
					   "-1s",
					   "+1s",
					   "1.5s",
					   "1S",
					   "1sec",
					   "1s ",
					   "0x1s",
					   "1us1",
					   "1d",
					   "18446744073709551616ns",
					   "18446744073709552us" };
	uint64_t ns;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(duration_parse(&ns, good[i].text), 0);
		assert_int_equal(ns, good[i].ns);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(duration_parse(&ns, bad[i]), -EINVAL);
}

static void duration_prints_in_the_largest_unit_that_loses_nothing(void **state)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} durations[] = {
		{ 0, "0s" },
		{ 1, "1ns" },
		{ 100000, "100us" },
		{ 1500000, "1500us" },
		{ 1000000000, "1s" },
		{ 90000000000, "90s" },
		{ 120000000000, "2m" },
		{ 7200000000000, "2h" },
		{ UINT64_MAX, "18446744073709551615ns" },
	};
	char buffer[DURATION_TEXT_MAX];
	uint64_t ns;

	(void)state;
	for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
		assert_string_equal(duration_format(durations[i].ns, buffer, sizeof(buffer)), durations[i].text);
		assert_int_equal(duration_parse(&ns, buffer), 0);
		assert_int_equal(ns, durations[i].ns);
	}
}

static void a_key_is_found_where_it_stands_or_where_it_would(void **state)
{
	static const char text[] = "# a comment\n"
				   "interfaces:\n"
				   "  - eth0\n"
				   "  - eth0.100\n"
				   "flows: {closed: 1s, max: 2048}\n"
				   "vips: []\n";
	static const struct {
		const char *key;
		unsigned line, column;
	} places[] = {
		{ "interfaces", 3, 3 },
		{ "interfaces.eth0", 3, 5 },
		{ "interfaces.eth0.100", 4, 5 },
		{ "interfaces.eth7", 3, 3 },
		{ "flows.max", 5, 26 },
		{ "flows.idle", 5, 8 },
		{ "seed", 2, 1 },
		{ "probe.key_file", 2, 1 },
		{ "", 2, 1 },
	};
	struct config_error error;

	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		config_place(text, strlen(text), places[i].key, &error);
		assert_int_equal(error.line, places[i].line);
		assert_int_equal(error.column, places[i].column);
	}
	config_place("[", 1, "seed", &error);
	assert_int_equal(error.line + error.column, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(address_of_either_family_is_one_key_in_network_order),
		cmocka_unit_test(address_prints_in_its_one_spelling),
		cmocka_unit_test(text_that_is_not_an_address_is_refused),
		cmocka_unit_test(duration_is_a_whole_number_and_its_unit),
		cmocka_unit_test(duration_prints_in_the_largest_unit_that_loses_nothing),
		cmocka_unit_test(a_key_is_found_where_it_stands_or_where_it_would),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
