// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * vrrp_line_test.c - what keepalived writes is understood, and nothing else is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "core/vrrp_line.h"

static int parse(struct vrrp_line *out, const char *line)
{
	return vrrp_line_parse(out, line, strlen(line));
}

static void states_of_instances_and_groups_are_understood(void **state)
{
	struct vrrp_line l;

	(void)state;
	assert_int_equal(parse(&l, "INSTANCE \"VI_1\" MASTER 100"), 0);
	assert_false(l.is_group);
	assert_string_equal(l.name, "VI_1");
	assert_string_equal(l.state, "master");
	assert_int_equal(l.priority, 100);
	assert_int_equal(parse(&l, "GROUP \"all-of-them\" FAULT 0"), 0);
	assert_true(l.is_group);
	assert_string_equal(l.name, "all-of-them");
	assert_string_equal(l.state, "fault");
	assert_int_equal(parse(&l, "INSTANCE \"a\" BACKUP 1"), 0);
	assert_string_equal(l.state, "backup");
	assert_int_equal(parse(&l, "INSTANCE \"a\" STOP 255"), 0);
	assert_string_equal(l.state, "stop");
	assert_int_equal(parse(&l, "INSTANCE \"a\" DELETED 255"), 0);
	assert_string_equal(l.state, "deleted");
}

static void a_changed_priority_is_no_change_of_state(void **state)
{
	struct vrrp_line l;

	(void)state;
	assert_int_equal(parse(&l, "INSTANCE \"VI_1\" MASTER_PRIORITY 90"), 0);
	assert_null(l.state);
	assert_int_equal(l.priority, 90);
	assert_int_equal(parse(&l, "INSTANCE \"VI_1\" BACKUP_PRIORITY 90"), 0);
	assert_int_equal(parse(&l, "INSTANCE \"VI_1\" MASTER_RX_LOWER_PRI 90"), 0);
	assert_null(l.state);
}

static void anything_else_is_refused(void **state)
{
	static const char *const lines[] = {
		"",
		"INSTANCE",
		"INSTANCE \"VI_1\"",
		"INSTANCE \"VI_1\" MASTER",
		"INSTANCE \"VI_1\" MASTER ",
		"INSTANCE \"VI_1\" MASTER 256",
		"INSTANCE \"VI_1\" MASTER 1000",
		"INSTANCE \"VI_1\" MASTER -1",
		"INSTANCE \"VI_1\" MASTER 100 ",
		"INSTANCE \"VI_1\" MASTER 100\r",
		"INSTANCE \"VI_1\" master 100",
		"INSTANCE \"VI_1\" MASTERED 100",
		"INSTANCE \"\" MASTER 100",
		"INSTANCE \"VI 1\" MASTER 100",
		"INSTANCE \"VI\033[2J\" MASTER 100",
		"INSTANCE \"V\xc3\xa4\" MASTER 100",
		"INSTANCE VI_1 MASTER 100",
		"instance \"VI_1\" MASTER 100",
		" INSTANCE \"VI_1\" MASTER 100",
		"VS [192.0.2.1]:tcp:80 UP",
		"INSTANCE \"0123456789012345678901234567890123456789012345678901234567890123\" MASTER 100",
	};
	struct vrrp_line l;

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		if (parse(&l, lines[i]) != -EINVAL)
			fail_msg("taken: %s", lines[i]);
	assert_int_equal(
		parse(&l, "INSTANCE \"012345678901234567890123456789012345678901234567890123456789012\" MASTER 100"),
		0);
}

static void no_byte_beyond_the_line_is_read(void **state)
{
	static const char line[] = "INSTANCE \"VI_1\" MASTER 100";
	struct vrrp_line l;

	(void)state;
	for (size_t n = 0; n < strlen(line); n++) {
		char *cut = test_malloc(n + 1);
		int err;

		memcpy(cut, line, n);
		err = vrrp_line_parse(&l, cut, n);
		test_free(cut);
		assert_int_equal(err, n > strlen(line) - 3 ? 0 : -EINVAL); /* "MASTER 1" and "MASTER 10" are whole */
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(states_of_instances_and_groups_are_understood),
		cmocka_unit_test(a_changed_priority_is_no_change_of_state),
		cmocka_unit_test(anything_else_is_refused),
		cmocka_unit_test(no_byte_beyond_the_line_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
