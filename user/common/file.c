/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * file.c - see file.h. That a rename is the one step that can't be seen half done: rename(2); that the data must be on the
 * disk before it, and the directory after it: fsync(2). Tests: tests/unit/file_test.c.
 */
#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *file_read(const char *path, size_t max, size_t *length, int *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo would wait for a writer */
	char *text = NULL;
	size_t size = 0;
	struct stat st;
	ssize_t n = 1;

	*length = 0;
	*err = fd < 0 || fstat(fd, &st) ? -errno : !S_ISREG(st.st_mode) ? -ENOTSUP : 0;
	if (!*err) {
		size = (size_t)st.st_size < max ? (size_t)st.st_size : max;
		text = malloc(size + 1);
		*err = text ? 0 : -ENOMEM;
	}
	while (!*err && n && *length < size) {
		n = read(fd, text + *length, size - *length);
		*length += n > 0 ? (size_t)n : 0;
		*err = n < 0 && errno != EINTR ? -errno : 0;
	}
	if (fd >= 0)
		close(fd);
	if (*err) {
		free(text);
		return NULL;
	}
	text[*length] = 0;
	return text;
}

static int write_all(int fd, const char *text, size_t length)
{
	while (length) {
		ssize_t n = write(fd, text, length);

		if (n < 0 && errno != EINTR)
			return -errno;
		text += n > 0 ? n : 0;
		length -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* A second name for the file, in place of whatever had that name. */
static int keep_as(const char *path, const char *other, const char *temporary)
{
	int err;

	unlink(temporary);
	err = link(path, temporary) || rename(temporary, other) ? -errno : 0;
	unlink(temporary); /* rename() leaves it where both are the same file */
	return err;
}

static int directory_sync(const char *path)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int fd, err;

	snprintf(directory, sizeof(directory), "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = fd < 0 || fsync(fd) ? -errno : 0;
	if (fd >= 0)
		close(fd);
	return err == -EINVAL ? 0 : err; /* a file system that has nothing to sync */
}

int file_replace(const char *path, const char *text, size_t length, mode_t mode, bool keep)
{
	char temporary[PATH_MAX], before[PATH_MAX];
	struct stat st;
	bool exists = !lstat(path, &st);
	int fd, err;

	if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= (int)sizeof(temporary))
		return -ENAMETOOLONG;
	snprintf(before, sizeof(before), "%s~", path);
	if (exists && !S_ISREG(st.st_mode))
		return -EINVAL;
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = fchmod(fd, exists ? st.st_mode & 07777 : mode) ? -errno : 0;
	if (!err && exists && fchown(fd, st.st_uid, st.st_gid))
		err = -errno;
	err = err ? err : write_all(fd, text, length);
	if (!err && fsync(fd))
		err = -errno;
	if (close(fd) && !err)
		err = -errno;
	if (!err && keep && exists) {
		char second[PATH_MAX];

		snprintf(second, sizeof(second), "%s.~", path);
		err = keep_as(path, before, second);
	}
	if (!err && rename(temporary, path))
		err = -errno;
	if (err)
		unlink(temporary);
	return err ? err : directory_sync(path);
}
