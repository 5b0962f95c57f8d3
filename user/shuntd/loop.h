/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * loop.h - the main loop's descriptors: whoever has one says what is to be called when it can be read.
 */
#ifndef SHUNTD_LOOP_H
#define SHUNTD_LOOP_H

#define LOOP_MAX 32 /* descriptors, chosen */

struct loop;

int loop_open(struct loop **out); /* 0 or -errno */
void loop_close(struct loop *loop); /* closes none of the descriptors; NULL is allowed */

/* Call fn(arg) whenever `fd` can be read, level-triggered. 0, -ENOSPC or -errno. */
int loop_add(struct loop *loop, int fd, void (*fn)(void *arg), void *arg);
void loop_remove(struct loop *loop, int fd); /* before it is closed; nothing where it was not added */

/*
 * Wait for descriptors, not at all if `at_once`; then call first(arg), whatever became ready, then the functions of those that
 * did. 0 or -errno.
 */
int loop_turn(struct loop *loop, int at_once, void (*first)(void *arg), void *arg);

#endif
