/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * process.c - see process.h.
 */
#include "agent/process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/sockets.h"
#include "common/clock.h"

#define EXITING 0x4U /* PF_EXITING, include/linux/sched.h */
#define ANCESTORS_MAX 64 /* chosen: deeper than process trees are */

static ssize_t file_read(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buffer, size - 1);
	n = n < 0 ? -errno : n;
	buffer[n > 0 ? n : 0] = 0;
	close(fd);
	return n;
}

int process_read(struct process *p, pid_t pid)
{
	char path[32], text[1024], state;
	const char *rest;
	unsigned flags;
	int parent, n_threads;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (pid <= 0 || file_read(path, text, sizeof(text)) <= 0)
		return -ENOENT;
	rest = strrchr(text, ')'); /* the name before may hold anything */
	if (!rest ||
	    sscanf(rest + 1, " %c %d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d %*d %" SCNu64,
		   &state, &parent, &flags, &n_threads, &p->start_ticks) != 5)
		return -ENOENT;
	p->pid = pid;
	p->parent = parent;
	/* The first thread may be gone while others live. */
	p->ending = (state == 'Z' || state == 'X' || flags & EXITING) && n_threads <= 1;
	return 0;
}

bool process_is(const struct process *a, const struct process *b)
{
	return a->pid == b->pid && a->start_ticks == b->start_ticks;
}

uint64_t process_born_ns(const struct process *p)
{
	uint64_t per_tick = 1000000000ULL / (uint64_t)sysconf(_SC_CLK_TCK);
	uint64_t age = clock_ns(CLOCK_BOOTTIME) - p->start_ticks * per_tick, now = monotonic_ns();

	return age < now ? now - age : 0;
}

struct process *processes_read(size_t *n)
{
	struct process *list = NULL, *more;
	DIR *proc = opendir("/proc");
	size_t room = 0;
	struct dirent *entry;

	*n = 0;
	while (proc && (entry = readdir(proc))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		if (*n == room) {
			room = room ? 2 * room : 256;
			more = realloc(list, room * sizeof(*list));
			if (!more) {
				free(list);
				list = NULL;
				break;
			}
			list = more;
		}
		*n += !process_read(&list[*n], (pid_t)strtol(entry->d_name, NULL, 10));
	}
	if (proc)
		closedir(proc);
	return list;
}

static const struct process *by_pid(const struct process *list, size_t n, pid_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].pid == pid)
			return &list[i];
	return NULL;
}

const struct process *process_ancestor(const struct process *list, size_t n, const struct process *p,
				       const struct process *from, size_t n_from)
{
	for (int depth = 0; p && depth < ANCESTORS_MAX; depth++) {
		p = by_pid(list, n, p->parent);
		for (size_t i = 0; p && i < n_from; i++)
			if (process_is(p, &from[i]))
				return &from[i];
	}
	return NULL;
}

/* ---- sockets ---- */

struct found {
	uint32_t *inodes;
	size_t n, max;
};

static void listener_take(const struct inet_diag_msg *socket, void *arg)
{
	struct found *f = arg;

	if (f->n < f->max)
		f->inodes[f->n++] = socket->idiag_inode;
}

static int compare_inodes(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

int listeners_find(uint16_t port, uint32_t *inodes, size_t max)
{
	struct found f = { .inodes = inodes, .max = max };
	int err = sockets_dump(1U << TCP_LISTEN, port, listener_take, &f);

	qsort(inodes, f.n, sizeof(*inodes), compare_inodes);
	return err ? err : (int)f.n;
}

bool process_holds(pid_t pid, const uint32_t *inodes, size_t n)
{
	char path[48], target[64];
	struct dirent *entry;
	bool holds = false;
	uint32_t inode;
	ssize_t length;
	DIR *fds;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	fds = opendir(path);
	while (fds && !holds && (entry = readdir(fds))) {
		length = readlinkat(dirfd(fds), entry->d_name, target, sizeof(target) - 1);
		if (length <= 0)
			continue;
		target[length] = 0;
		holds = sscanf(target, "socket:[%" SCNu32 "]", &inode) == 1 &&
			bsearch(&inode, inodes, n, sizeof(inode), compare_inodes);
	}
	if (fds)
		closedir(fds);
	return holds;
}
