/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * file_test.c - files that are replaced whole or not at all.
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
#include <unistd.h>

#include "common/file.h"

static char directory[64], path[96];

static int directory_make(void **state)
{
	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/shunt-file-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/file", directory);
	return 0;
}

static int directory_remove(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command);
}

static void file_is(const char *name, const char *expected)
{
	size_t length;
	int err;
	char *text = file_read(name, 1000, &length, &err);

	if (expected)
		assert_string_equal(text, expected);
	else
		assert_null(text);
	free(text);
}

static int n_files(void)
{
	char command[128];
	FILE *f;
	int n = -1;

	snprintf(command, sizeof(command), "ls -A %s | wc -l", directory);
	f = popen(command, "r");
	assert_int_equal(fscanf(f, "%d", &n), 1);
	pclose(f);
	return n;
}

static void a_file_that_was_not_there_gets_the_mode_that_is_asked_for(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(file_replace(path, "new", 3, 0640, true), 0);
	file_is(path, "new");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(n_files(), 1);
}

static void a_file_that_is_replaced_keeps_its_mode_and_stays_as_the_one_before(void **state)
{
	char before[128];
	struct stat st;

	(void)state;
	snprintf(before, sizeof(before), "%s~", path);
	for (int i = 0; i < 3; i++) {
		char text[] = { (char)('a' + i), 0 };
		char last[] = { (char)('a' + i - 1), 0 };

		assert_int_equal(file_replace(path, text, 1, 0644, true), 0);
		assert_int_equal(chmod(path, 0604), 0);
		file_is(path, text);
		file_is(before, i ? last : NULL);
	}
	assert_int_equal(file_replace(path, "d", 1, 0644, false), 0);
	file_is(path, "d");
	file_is(before, "b");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0604);
	assert_int_equal(n_files(), 2);
}

/* As a crash between the two steps would leave them. */
static void the_one_before_may_be_the_same_file(void **state)
{
	char before[128];

	(void)state;
	snprintf(before, sizeof(before), "%s~", path);
	assert_int_equal(file_replace(path, "a", 1, 0644, false), 0);
	assert_int_equal(link(path, before), 0);
	assert_int_equal(file_replace(path, "b", 1, 0644, true), 0);
	file_is(path, "b");
	file_is(before, "a");
	assert_int_equal(n_files(), 2);
}

static void what_is_no_file_is_neither_read_nor_replaced(void **state)
{
	size_t length;
	int err;

	(void)state;
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(file_replace(path, "x", 1, 0644, true), -EINVAL);
	assert_null(file_read(path, 10, &length, &err));
	assert_int_equal(err, -ENOTSUP);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0644), 0);
	assert_null(file_read(path, 10, &length, &err)); /* and doesn't wait for a writer */
	assert_int_equal(err, -ENOTSUP);
	assert_int_equal(n_files(), 1);
}

static void a_directory_that_is_not_there_is_said(void **state)
{
	char deeper[128];

	(void)state;
	snprintf(deeper, sizeof(deeper), "%s/absent/file", directory);
	assert_int_equal(file_replace(deeper, "x", 1, 0644, false), -ENOENT);
	file_is(deeper, NULL);
}

static void a_long_file_is_read_as_far_as_asked(void **state)
{
	size_t length;
	char *text;
	int err;

	(void)state;
	assert_int_equal(file_replace(path, "0123456789", 10, 0644, false), 0);
	text = file_read(path, 4, &length, &err);
	assert_string_equal(text, "0123");
	assert_int_equal(length, 4);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, directory_make, directory_remove)
		TEST(a_file_that_was_not_there_gets_the_mode_that_is_asked_for),
		TEST(a_file_that_is_replaced_keeps_its_mode_and_stays_as_the_one_before),
		TEST(the_one_before_may_be_the_same_file),
		TEST(what_is_no_file_is_neither_read_nor_replaced),
		TEST(a_directory_that_is_not_there_is_said),
		TEST(a_long_file_is_read_as_far_as_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
