/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * key_file.h - the keys of the probes' tags, from a file: one or two lines of 32 hexadecimal digits each, blank lines and
 * comments (# to the end of the line) between them. The first key signs, each of them is accepted.
 *
 * What is said of a bad file never shows a key or a part of one.
 */
#ifndef COMMON_KEY_FILE_H
#define COMMON_KEY_FILE_H

#include <stddef.h>

#include "shunt/heartbeat.h"

#define KEY_FILE_BYTES_MAX 4096 /* chosen: two keys and a page of comments */

/*
 * The keys of a text: n and key[] of *keys, whose `echo` is left alone. 0; or -EINVAL, and `why` says what is wrong as
 * "LINE: what, and what was expected", or without a line where it is the whole of it; *keys is then as before.
 */
int key_file_parse(struct probe_keys *keys, const char *text, size_t length, char *why, size_t why_size);

/*
 * The same of a file, which must be a regular one, of root or of whom we run as, and for nobody else's eyes. 0; or -errno,
 * and `why` is one sentence that begins with the path.
 */
int key_file_read(struct probe_keys *keys, const char *path, char *why, size_t why_size);

#endif
