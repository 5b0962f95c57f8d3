/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pins.c - see pins.h.
 */
#include "common/pins.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#define OPEN_TRIES 50 /* chosen: one that was told to end, or killed, has a second for it */
#define OPEN_PERIOD_NS 20000000L

/* Remember and say why something isn't pinned, once. */
__attribute__((format(printf, 2, 3))) static void complain(struct pins *p, const char *format, ...)
{
	bool first = !*p->why;
	va_list args;

	va_start(args, format);
	vsnprintf(p->why, sizeof(p->why), format, args);
	va_end(args);
	if (first)
		fprintf(stderr, "%s: not pinned, so %s: %s\n", p->program, p->loss, p->why);
}

/* Whether a directory, or what it would be made in, is in a bpffs. */
static bool is_bpffs(const char *directory)
{
	char parent[CONFIG_PATH_MAX], *slash;
	struct statfs fs;

	if (!statfs(directory, &fs))
		return (unsigned)fs.f_type == BPF_FS_MAGIC;
	snprintf(parent, sizeof(parent), "%s", directory);
	slash = strrchr(parent, '/');
	slash[slash == parent] = 0;
	return !statfs(parent, &fs) && (unsigned)fs.f_type == BPF_FS_MAGIC;
}

/* 0; -EBUSY; -EAGAIN: its owner removed it when it ended. Else `p->why` says what is in the way, and 0. */
static int directory_lock(struct pins *p)
{
	struct stat here, there;
	int err = 0;

	if (mkdir(p->directory, 0700) && errno != EEXIST) {
		complain(p, "%s can't be made: %s%s", p->directory, strerror(errno),
			 strchr(p->directory, '.') ? " (a bpffs takes no dots in names)" : "");
		return 0;
	}
	p->fd = open(p->directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (p->fd < 0 || fstat(p->fd, &here)) {
		complain(p, "%s: %s", p->directory, strerror(errno));
		goto out;
	}
	if (flock(p->fd, LOCK_EX | LOCK_NB)) {
		err = -EBUSY;
		goto out;
	}
	if (stat(p->directory, &there) || here.st_ino != there.st_ino) {
		err = -EAGAIN;
		goto out;
	}
	if (here.st_uid != geteuid() || here.st_mode & (S_IWGRP | S_IWOTH))
		complain(p, "%s: others can write there, expected mode 0700 and user %u", p->directory, geteuid());
	else if (access(p->directory, W_OK))
		complain(p, "%s: %s", p->directory, strerror(errno));
	else
		return 0;
out:
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	return err;
}

void pins_run(struct pins *p, uint32_t run)
{
	snprintf(p->run, sizeof(p->run), "%08x", run);
}

int pins_look(struct pins *p, const char *directory)
{
	*p = (struct pins){ 0 };
	snprintf(p->directory, sizeof(p->directory), "%s", directory);
	p->fd = open(p->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return p->fd < 0 ? -errno : 0;
}

int pins_open(struct pins *p, const char *directory)
{
	const struct timespec period = { .tv_nsec = OPEN_PERIOD_NS };
	int err;

	*p = (struct pins){ .program = p->program, .loss = p->loss, .fd = -1 };
	snprintf(p->directory, sizeof(p->directory), "%s", directory);
	if (!*directory) {
		snprintf(p->why, sizeof(p->why), "the configuration says 'pin: none'");
		return 0;
	}
	if (!is_bpffs(directory)) {
		complain(p, "%s is not in a bpffs: mount one (mount -t bpf bpf /sys/fs/bpf), or say 'pin: none'",
			 directory);
		return 0;
	}
	err = directory_lock(p);
	for (int i = 1; i < OPEN_TRIES && err; i++) {
		nanosleep(&period, NULL);
		err = directory_lock(p);
	}
	return err ? -EBUSY : 0;
}

const char *pins_path(const struct pins *p, const char *name, char path[PINS_PATH_MAX])
{
	snprintf(path, PINS_PATH_MAX, "%s/%s", p->directory, name);
	return path;
}

int pins_get(const struct pins *p, const char *name)
{
	char path[PINS_PATH_MAX];

	return p->fd < 0 ? -ENOENT : bpf_obj_get(pins_path(p, name, path));
}

static const char *name_with_run(const struct pins *p, const char *name, char with_run[PIN_NAME_MAX])
{
	snprintf(with_run, PIN_NAME_MAX, "%.22s-%s", name, p->run);
	return with_run;
}

int pins_get_run(const struct pins *p, const char *name)
{
	char with_run[PIN_NAME_MAX];

	return pins_get(p, name_with_run(p, name, with_run));
}

static bool is_own(const struct pins *p, const char *name)
{
	for (size_t i = 0; i < p->n_own; i++)
		if (!strcmp(p->own[i], name))
			return true;
	return false;
}

void pins_own(struct pins *p, const char *name)
{
	if (p->fd >= 0 && !is_own(p, name) && p->n_own < PINS_MAX)
		snprintf(p->own[p->n_own++], PIN_NAME_MAX, "%s", name);
}

void pins_own_run(struct pins *p, const char *name)
{
	char with_run[PIN_NAME_MAX];

	pins_own(p, name_with_run(p, name, with_run));
}

void pins_put(struct pins *p, const char *name, int fd)
{
	char path[PINS_PATH_MAX];
	int err;

	if (p->fd < 0)
		return;
	unlinkat(p->fd, name, 0);
	err = bpf_obj_pin(fd, pins_path(p, name, path));
	if (err)
		complain(p, "%s: %s", path, strerror(-err));
	else
		pins_own(p, name);
}

void pins_put_run(struct pins *p, const char *name, int fd)
{
	char with_run[PIN_NAME_MAX];

	pins_put(p, name_with_run(p, name, with_run), fd);
}

void pins_remove(struct pins *p, const char *name)
{
	for (size_t i = 0; i < p->n_own; i++)
		if (!strcmp(p->own[i], name)) {
			unlinkat(p->fd, name, 0);
			memmove(p->own[i], p->own[--p->n_own], PIN_NAME_MAX);
			return;
		}
}

void pins_sweep(struct pins *p)
{
	struct dirent *entry;
	DIR *d = p->fd < 0 ? NULL : opendir(p->directory);

	while (d && (entry = readdir(d)))
		if (entry->d_name[0] != '.' && !is_own(p, entry->d_name))
			unlinkat(p->fd, entry->d_name, 0);
	if (d)
		closedir(d);
}

uint32_t pins_newest(const struct pins *p, const char *name, uint32_t below)
{
	struct dirent *entry;
	DIR *d = p->fd < 0 ? NULL : opendir(p->directory);
	size_t length = strlen(name);
	uint32_t newest = 0;

	while (d && (entry = readdir(d))) {
		const char *run = entry->d_name + length + 1;
		unsigned long number;
		char *end;

		if (strncmp(entry->d_name, name, length) || entry->d_name[length] != '-')
			continue;
		number = strtoul(run, &end, 16);
		if (strlen(run) == 8 && !*end && number < below && number > newest)
			newest = (uint32_t)number;
	}
	if (d)
		closedir(d);
	return newest;
}

void pins_remove_all(struct pins *p)
{
	while (p->n_own)
		unlinkat(p->fd, p->own[--p->n_own], 0);
}

void pins_leave(struct pins *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

void pins_close(struct pins *p)
{
	if (p->fd < 0)
		return;
	pins_remove_all(p);
	rmdir(p->directory);
	pins_leave(p);
}

unsigned pins_link_ifindex(int link, uint32_t *program)
{
	struct bpf_link_info info = { 0 };
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(link, &info, &length) || info.type != BPF_LINK_TYPE_XDP)
		return 0;
	*program = info.prog_id;
	return info.xdp.ifindex;
}
