// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * key_file_test.c - what is a file of keys, and what is said of one that isn't.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/key_file.h"

#define ONE "000102030405060708090a0b0c0d0e0f"
#define TWO "00112233445566778899AABBCCDDEEFF"
#define ZERO "00000000000000000000000000000000"

static const struct siphash_key one = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 }; /* the paper's key, appendix A */
static const struct siphash_key two = { 0x7766554433221100, 0xffeeddccbbaa9988 };

/* Parse from memory that ends where the text does, so that a read beyond it is seen. */
static int parse(struct probe_keys *keys, const char *text, size_t length, char *why)
{
	char *exact = malloc(length ? length : 1);
	int err;

	memcpy(exact, text, length);
	err = key_file_parse(keys, exact, length, why, 128);
	free(exact);
	return err;
}

static void one_key_signs_and_is_accepted(void **state)
{
	static const char *const texts[] = { ONE, ONE "\n", "\n\t" ONE " \r\n\n", "# gpu racks\n" ONE " # of May\n#" };
	struct probe_keys keys = { .echo = { 7, 8 } };
	char why[128];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		keys.n = 9;
		assert_int_equal(parse(&keys, texts[i], strlen(texts[i]), why), 0);
		assert_int_equal(keys.n, 1);
		assert_memory_equal(&keys.key[0], &one, sizeof(one));
		assert_memory_equal(&keys.key[1], &one, sizeof(one));
		assert_int_equal(keys.echo.k0, 7);
	}
}

static void the_first_of_two_keys_signs(void **state)
{
	struct probe_keys keys = { 0 };
	char why[128];

	(void)state;
	assert_int_equal(parse(&keys, TWO "\n" ONE, strlen(TWO "\n" ONE), why), 0);
	assert_int_equal(keys.n, 2);
	assert_memory_equal(&keys.key[0], &two, sizeof(two));
	assert_memory_equal(&keys.key[1], &one, sizeof(one));
}

static void what_is_no_key_is_refused_by_its_line_and_changes_nothing(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "", "no key, " },
		{ "\n# " ONE "\n", "no key, " },
		{ "00", "1: a key of 2 digits, " },
		{ "\n" ONE "0\n", "2: a key of 33 digits, " },
		{ ONE ONE, "1: a key of 64 digits, " },
		{ ONE " " TWO, "1: a character that is no hexadecimal digit, " },
		{ "0x" ONE, "1: a character that is no hexadecimal digit, " },
		{ ONE "\nsecret\n", "2: a character that is no hexadecimal digit, " },
		{ ONE "\n" TWO "\n\n" ONE, "4: a third key, " },
		{ ZERO, "1: a key of zeros, " },
		{ ONE "\n" ZERO, "2: a key of zeros, " },
	};
	const struct probe_keys before = { .n = 1, .key = { { 1, 2 }, { 1, 2 } }, .echo = { 3, 4 } };
	struct probe_keys keys = before;
	char why[128];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		assert_int_equal(parse(&keys, rows[i].text, strlen(rows[i].text), why), -EINVAL);
		assert_memory_equal(why, rows[i].why, strlen(rows[i].why));
		assert_null(strstr(why, "secret"));
		assert_memory_equal(&keys, &before, sizeof(keys));
	}
	assert_int_equal(parse(&keys, ONE "\n\0", 34, why), -EINVAL);
}

static void a_text_without_end_is_refused(void **state)
{
	static char text[KEY_FILE_BYTES_MAX + 1];
	struct probe_keys keys;
	char why[128];

	(void)state;
	memset(text, '\n', sizeof(text));
	memcpy(text, ONE, strlen(ONE));
	assert_int_equal(parse(&keys, text, sizeof(text) - 1, why), 0);
	assert_int_equal(parse(&keys, text, sizeof(text), why), -EINVAL);
	assert_memory_equal(why, "longer than 4096 bytes, ", 24);
}

/* ---- files ---- */

static char directory[] = "/tmp/shunt-key-XXXXXX", path[64];

static int directory_open(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "%s/key", mkdtemp(directory));
	return 0;
}

static int directory_close(void **state)
{
	(void)state;
	return rmdir(directory);
}

static void file_write(const char *text, mode_t mode)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && !fchmod(fd, mode));
	close(fd);
}

/* What is said of the file, without its path; then it is gone. */
static const char *file_complaint(int expected)
{
	static char why[256];
	struct probe_keys keys = { 0 };

	assert_int_equal(key_file_read(&keys, path, why, sizeof(why)), expected);
	remove(path);
	assert_memory_equal(why, path, strlen(path));
	return why + strlen(path);
}

static void a_file_of_our_own_is_read(void **state)
{
	struct probe_keys keys = { 0 };
	char why[256];

	(void)state;
	file_write(ONE "\n" TWO "\n", 0400);
	assert_int_equal(key_file_read(&keys, path, why, sizeof(why)), 0);
	assert_int_equal(keys.n, 2);
	remove(path);
}

static void a_file_that_others_may_read_or_write_is_refused(void **state)
{
	static const mode_t modes[] = { 0644, 0640, 0604, 0620, 0602, 0610, 0601 };

	(void)state;
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		file_write(ONE, modes[i]);
		assert_string_equal(file_complaint(-EPERM), ": open to others than its owner: chmod 600 it");
	}
}

static void a_file_of_somebody_else_is_refused(void **state)
{
	(void)state;
	if (geteuid())
		skip();
	file_write(ONE, 0600);
	assert_int_equal(chown(path, 65534, 0), 0);
	assert_string_equal(file_complaint(-EPERM), ": belongs neither to root nor to whom this runs as: chown it");
}

static void what_is_no_file_is_refused_and_not_waited_for(void **state)
{
	(void)state;
	assert_string_equal(file_complaint(-ENOENT), ": No such file or directory");
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_string_equal(file_complaint(-EPERM), ": not a regular file");
	assert_int_equal(mkdir(path, 0700), 0);
	assert_string_equal(file_complaint(-EPERM), ": not a regular file");
}

static void a_bad_line_is_named_behind_its_file(void **state)
{
	(void)state;
	file_write(ONE "\n00\n", 0600);
	assert_string_equal(file_complaint(-EINVAL), ":2: a key of 2 digits, expected 32 hexadecimal digits");
	file_write("", 0600);
	assert_string_equal(file_complaint(-EINVAL), ": no key, expected one or two lines of 32 hexadecimal digits");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_key_signs_and_is_accepted),
		cmocka_unit_test(the_first_of_two_keys_signs),
		cmocka_unit_test(what_is_no_key_is_refused_by_its_line_and_changes_nothing),
		cmocka_unit_test(a_text_without_end_is_refused),
		cmocka_unit_test(a_file_of_our_own_is_read),
		cmocka_unit_test(a_file_that_others_may_read_or_write_is_refused),
		cmocka_unit_test(a_file_of_somebody_else_is_refused),
		cmocka_unit_test(what_is_no_file_is_refused_and_not_waited_for),
		cmocka_unit_test(a_bad_line_is_named_behind_its_file),
	};

	return cmocka_run_group_tests(tests, directory_open, directory_close);
}
