/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * key_file.c - see key_file.h. Who may read the file is asked of the opened descriptor, so that it is the file that is
 * read. Tests: tests/unit/key_file_test.c.
 */
#include "common/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_DIGITS 32
#define EXPECTED "expected 32 hexadecimal digits"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* 16 bytes, written as 32 digits, to the two little-endian words of SipHash's key (the paper's section 2.1). */
static struct siphash_key key_of(const char *digits)
{
	__u64 k[2] = { 0 };

	for (unsigned i = 0; i < KEY_DIGITS / 2; i++)
		k[i / 8] |= (__u64)(digit(digits[2 * i]) << 4 | digit(digits[2 * i + 1])) << i % 8 * 8;
	return (struct siphash_key){ .k0 = k[0], .k1 = k[1] };
}

/* One line without its newline. 0, 1: it has a key, or -EINVAL. */
static int line_parse(struct siphash_key *key, const char *line, size_t length, unsigned number, char *why,
		      size_t why_size)
{
	const char *comment = memchr(line, '#', length);
	size_t n = comment ? (size_t)(comment - line) : length, hex = 0;

	while (n && is_blank(line[n - 1]))
		n--;
	while (n && is_blank(*line)) {
		line++;
		n--;
	}
	if (!n)
		return 0;
	while (hex < n && digit(line[hex]) >= 0)
		hex++;
	if (hex < n)
		snprintf(why, why_size, "%u: a character that is no hexadecimal digit, " EXPECTED, number);
	else if (n != KEY_DIGITS)
		snprintf(why, why_size, "%u: a key of %zu digits, " EXPECTED, number, n);
	else
		*key = key_of(line);
	if (hex < n || n != KEY_DIGITS)
		return -EINVAL;
	if (key->k0 | key->k1)
		return 1;
	snprintf(why, why_size, "%u: a key of zeros, expected 32 random hexadecimal digits", number);
	return -EINVAL;
}

int key_file_parse(struct probe_keys *keys, const char *text, size_t length, char *why, size_t why_size)
{
	struct siphash_key found[2], key;
	const char *end = text + length;
	unsigned n = 0, number = 1;

	if (length > KEY_FILE_BYTES_MAX) {
		snprintf(why, why_size, "longer than %d bytes, expected one or two lines of 32 hexadecimal digits",
			 KEY_FILE_BYTES_MAX);
		return -EINVAL;
	}
	for (const char *next; text < end; text = next, number++) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		int has;

		next = newline ? newline + 1 : end;
		has = line_parse(&key, text, (size_t)((newline ? newline : end) - text), number, why, why_size);
		if (has < 0)
			return has;
		if (has && n == 2) {
			snprintf(why, why_size, "%u: a third key, expected at most two", number);
			return -EINVAL;
		}
		if (has)
			found[n++] = key;
	}
	if (!n) {
		snprintf(why, why_size, "no key, expected one or two lines of 32 hexadecimal digits");
		return -EINVAL;
	}
	keys->n = n;
	keys->key[0] = found[0];
	keys->key[1] = found[n - 1];
	return 0;
}

/* What speaks against a file before it is read; NULL: nothing. */
static const char *file_fault(const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return "not a regular file";
	if (st->st_uid && st->st_uid != geteuid())
		return "belongs neither to root nor to whom this runs as: chown it";
	if (st->st_mode & 077)
		return "open to others than its owner: chmod 600 it";
	return NULL;
}

int key_file_read(struct probe_keys *keys, const char *path, char *why, size_t why_size)
{
	char text[KEY_FILE_BYTES_MAX + 1], what[128];
	const char *fault = NULL;
	size_t length = 0;
	struct stat st;
	ssize_t n = 1;
	/* Not blocking: a FIFO in its place must not stop us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), err = 0;

	if (fd < 0)
		err = -errno;
	/* Of a file that may not be read the owner still says why. */
	if (!(fd < 0 ? stat(path, &st) : fstat(fd, &st)))
		fault = file_fault(&st);
	else if (!err)
		err = -errno;
	while (!err && !fault && n && length < sizeof(text)) {
		n = read(fd, text + length, sizeof(text) - length);
		err = n < 0 ? -errno : 0;
		length += n > 0 ? (size_t)n : 0;
	}
	if (fd >= 0)
		close(fd);
	if (err || fault) {
		snprintf(why, why_size, "%s: %s", path, fault ? fault : strerror(-err));
		err = err ? err : -EPERM;
	} else {
		err = key_file_parse(keys, text, length, what, sizeof(what));
		if (err)
			snprintf(why, why_size, "%s:%s%s", path, *what >= '0' && *what <= '9' ? "" : " ", what);
	}
	explicit_bzero(text, sizeof(text));
	return err;
}
