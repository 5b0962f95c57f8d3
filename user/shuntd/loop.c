/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * loop.c - see loop.h.
 */
#include "shuntd/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

struct loop {
	int epoll;
	struct {
		int fd; /* -1: free */
		void (*fn)(void *arg);
		void *arg;
	} entries[LOOP_MAX];
};

int loop_open(struct loop **out)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return -ENOMEM;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0) {
		free(loop);
		return -errno;
	}
	for (int i = 0; i < LOOP_MAX; i++)
		loop->entries[i].fd = -1;
	*out = loop;
	return 0;
}

void loop_close(struct loop *loop)
{
	if (!loop)
		return;
	close(loop->epoll);
	free(loop);
}

int loop_add(struct loop *loop, int fd, void (*fn)(void *arg), void *arg)
{
	struct epoll_event event = { .events = EPOLLIN };
	int i = 0;

	while (i < LOOP_MAX && loop->entries[i].fd >= 0)
		i++;
	if (i == LOOP_MAX)
		return -ENOSPC;
	event.data.u32 = (uint32_t)i;
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event))
		return -errno;
	loop->entries[i].fd = fd;
	loop->entries[i].fn = fn;
	loop->entries[i].arg = arg;
	return 0;
}

void loop_remove(struct loop *loop, int fd)
{
	for (int i = 0; i < LOOP_MAX; i++) {
		if (loop->entries[i].fd != fd || fd < 0)
			continue;
		epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd, NULL);
		loop->entries[i].fd = -1;
	}
}

int loop_turn(struct loop *loop, int at_once, void (*first)(void *arg), void *arg)
{
	struct epoll_event ready[LOOP_MAX];
	int n = epoll_wait(loop->epoll, ready, LOOP_MAX, at_once ? 0 : -1);

	if (n < 0 && errno != EINTR)
		return -errno;
	first(arg);
	for (int i = 0; i < n; i++)
		if (loop->entries[ready[i].data.u32].fd >= 0) /* one before it may have removed it */
			loop->entries[ready[i].data.u32].fn(loop->entries[ready[i].data.u32].arg);
	return 0;
}
