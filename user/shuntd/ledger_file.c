/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ledger_file.c - see ledger_file.h. Knows nothing of what is in a line.
 */
#include "shuntd/ledger_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define NAME "events.jsonl"

struct ledger_file {
	char *directory, *path, *older;
	uint64_t limit_bytes, n_bytes;
	int fd; /* -1: not open */
};

struct ledger_file *ledger_file_new(const char *directory, uint64_t limit_bytes)
{
	struct ledger_file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->fd = -1;
	f->limit_bytes = limit_bytes;
	f->directory = strdup(directory);
	if (asprintf(&f->path, "%s/" NAME, directory) < 0)
		f->path = NULL;
	if (asprintf(&f->older, "%s/" NAME ".1", directory) < 0)
		f->older = NULL;
	if (f->directory && f->path && f->older)
		return f;
	ledger_file_free(f);
	return NULL;
}

static void file_close(struct ledger_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

void ledger_file_free(struct ledger_file *f)
{
	if (!f)
		return;
	file_close(f);
	free(f->directory);
	free(f->path);
	free(f->older);
	free(f);
}

/* Two that write would mix their numbers, so it is locked. Whatever else is in its place is left alone. */
static int file_open(struct ledger_file *f)
{
	struct stat st;
	int err = 0;

	if (f->fd >= 0)
		return 0;
	if (mkdir(f->directory, 0750) && errno != EEXIST)
		return -errno;
	f->fd = open(f->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
	if (f->fd < 0 || fstat(f->fd, &st))
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = -EINVAL;
	else if (flock(f->fd, LOCK_EX | LOCK_NB))
		err = -EBUSY;
	if (err)
		file_close(f);
	else
		f->n_bytes = (uint64_t)st.st_size;
	return err;
}

/* ---- reading ---- */

/* The newest limit_bytes of a file, to be freed, and where they begin; NULL with errno: not so. */
static char *tail_read(int fd, uint64_t limit_bytes, size_t *n, uint64_t *from)
{
	struct stat st;
	char *text;
	ssize_t got = 1;

	if (fstat(fd, &st))
		return NULL;
	*from = (uint64_t)st.st_size > limit_bytes ? (uint64_t)st.st_size - limit_bytes : 0;
	text = malloc((uint64_t)st.st_size - *from + 1);
	for (*n = 0; text && got > 0 && *n < (uint64_t)st.st_size - *from; *n += (size_t)(got > 0 ? got : 0))
		got = pread(fd, text + *n, (uint64_t)st.st_size - *from - *n, (off_t)(*from + *n));
	if (got < 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* Hand out whole lines; *end is where the last one ends. A line whose begin wasn't read is passed over. */
static int lines_take(int fd, uint64_t limit_bytes, bool (*take)(void *, const char *, size_t), void *arg,
		      struct ledger_file_read *out, uint64_t *end)
{
	uint64_t from = 0;
	size_t n = 0;
	char *text = tail_read(fd, limit_bytes, &n, &from), *at = text, *newline;

	if (!text)
		return -errno;
	if (from) {
		at = memchr(text, '\n', n);
		at = at ? at + 1 : text + n;
	}
	while ((newline = memchr(at, '\n', n - (size_t)(at - text)))) {
		if (take(arg, at, (size_t)(newline - at)))
			out->n_taken++;
		else
			out->n_skipped++;
		at = newline + 1;
	}
	*end = from + (uint64_t)(at - text);
	out->n_skipped += at < text + n;
	free(text);
	return 0;
}

int ledger_file_read(struct ledger_file *f, bool (*take)(void *arg, const char *line, size_t length), void *arg,
		     struct ledger_file_read *out)
{
	int err = file_open(f), older;
	struct stat st;
	uint64_t end;

	*out = (struct ledger_file_read){ 0 };
	if (err)
		return err;
	older = open(f->older, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (older >= 0) {
		if (lines_take(older, f->limit_bytes, take, arg, out, &end))
			out->n_skipped++; /* that is all there is to say of it */
		close(older);
	}
	if (f->n_bytes && !fstat(f->fd, &st))
		out->touched_ns = st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec;
	err = lines_take(f->fd, f->limit_bytes, take, arg, out, &end);
	if (!err && end < f->n_bytes) {
		err = ftruncate(f->fd, (off_t)end) ? -errno : 0;
		f->n_bytes = err ? f->n_bytes : end;
	}
	return err;
}

/* ---- writing ---- */

/* Cut off what is behind the last line's end: half a line that couldn't be when it was written. */
static int half_line_cut(struct ledger_file *f)
{
	uint64_t end = f->n_bytes;
	char text[4096], *newline = NULL;

	while (end && !newline) {
		size_t n = end < sizeof(text) ? (size_t)end : sizeof(text);

		if (pread(f->fd, text, n, (off_t)(end - n)) != (ssize_t)n)
			return -EIO;
		newline = memrchr(text, '\n', n);
		end -= newline ? n - (size_t)(newline + 1 - text) : n;
	}
	if (end == f->n_bytes)
		return 0;
	if (ftruncate(f->fd, (off_t)end))
		return -errno;
	f->n_bytes = end;
	return 0;
}

static int file_reopen(struct ledger_file *f)
{
	int err = 0;

	if (f->fd >= 0)
		return 0;
	err = file_open(f);
	err = err ? err : half_line_cut(f);
	if (err)
		file_close(f);
	return err;
}

static int file_begin(struct ledger_file *f)
{
	if (rename(f->path, f->older) && errno != ENOENT)
		return -errno;
	file_close(f);
	return file_open(f);
}

int ledger_file_append(struct ledger_file *f, const char *line, size_t length)
{
	char newline = '\n';
	struct iovec parts[] = { { (char *)line, length }, { &newline, 1 } };
	int err = file_reopen(f);
	ssize_t n;

	if (!err && f->n_bytes && f->n_bytes + length + 1 > f->limit_bytes)
		err = file_begin(f);
	if (err)
		return err;
	n = writev(f->fd, parts, 2);
	if (n == (ssize_t)length + 1) {
		f->n_bytes += (uint64_t)n;
		return 0;
	}
	err = n < 0 ? -errno : -ENOSPC;
	/* Half a line is cut off; where even that fails, what follows must not be written behind it: file_reopen(). */
	if (n > 0 && ftruncate(f->fd, (off_t)f->n_bytes))
		file_close(f);
	return err;
}

void ledger_file_touch(struct ledger_file *f)
{
	struct stat st;

	if (f->fd < 0)
		return;
	futimens(f->fd, NULL);
	if (!fstat(f->fd, &st) && !st.st_nlink)
		file_close(f); /* somebody removed it: the next line begins another */
}
