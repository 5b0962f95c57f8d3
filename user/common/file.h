/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * file.h - small files, read whole, and replaced so that nobody ever finds half of one.
 */
#ifndef COMMON_FILE_H
#define COMMON_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * The first `max` bytes of a regular file, with a zero byte behind them; to be freed. NULL: *err is -errno; -ENOTSUP: it
 * is something else than a file.
 */
char *file_read(const char *path, size_t max, size_t *length, int *err);

/*
 * Put `length` bytes in the place of a file: whoever opens it, at any moment and after any crash, finds all that was there
 * or all that is. Written beside it, synced, renamed; then the directory is synced. It has the mode and owner of the file
 * before, or `mode` where there was none. keep: the file before stays as PATH~. Blocks for as long as the disk takes.
 * 0; or -errno, and then the file is what it was, but where only the sync of its directory failed.
 */
int file_replace(const char *path, const char *text, size_t length, mode_t mode, bool keep);

#endif
