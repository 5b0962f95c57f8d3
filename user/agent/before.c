/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * before.c - see before.h. Of several runs, some of which ended while they took over, the one that said last that it
 * lives.
 */
#include "agent/before.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>

#define WORD_MAX 4096 /* bytes of any version's word, chosen */

/* The size of an array's or a hash's value, bytes. 0: it isn't one. */
static __u32 value_size(int fd)
{
	struct bpf_map_info info = { 0 };
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &length))
		return 0;
	return info.type == BPF_MAP_TYPE_ARRAY || info.type == BPF_MAP_TYPE_HASH ? info.value_size : 0;
}

/* What every version's word begins with: see shunt/agent.h. Its size, 0: it is none. */
static __u32 word_read(int fd, struct agent_word *word)
{
	_Alignas(struct agent_word) char bytes[WORD_MAX] = { 0 };
	__u32 zero = 0, size = value_size(fd);

	if (size < AGENT_WORD_HEAD || size > WORD_MAX || bpf_map_lookup_elem(fd, &zero, bytes))
		return 0;
	memcpy(word, bytes, sizeof(*word));
	return size;
}

static void run_read(struct before *b, const struct pins *p, const char *run, uint64_t *newest_ns)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char name[PIN_NAME_MAX];
	struct agent_word word;
	void *memory = MAP_FAILED;
	__u32 size;
	int fd;

	snprintf(name, sizeof(name), "agent-%s", run);
	fd = pins_get(p, name);
	if (fd < 0)
		return;
	size = word_read(fd, &word);
	if (size && (!b->found || word.updated_ns > *newest_ns)) {
		before_close(b);
		b->found = true;
		b->draining = word.draining;
		*newest_ns = word.updated_ns;
		if (size == sizeof(word))
			memory = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
		b->word = memory == MAP_FAILED ? NULL : memory;
		snprintf(name, sizeof(name), "watched-%s", run);
		b->watched_fd = b->word ? pins_get(p, name) : -1;
		if (b->watched_fd >= 0 && value_size(b->watched_fd) != sizeof(struct watched)) {
			close(b->watched_fd);
			b->watched_fd = -1;
		}
	}
	close(fd);
}

void before_open(struct before *b, const struct pins *p)
{
	DIR *d = p->fd < 0 ? NULL : opendir(p->directory);
	uint64_t newest_ns = 0;
	struct dirent *entry;

	*b = (struct before){ .watched_fd = -1 };
	while (d && (entry = readdir(d)))
		if (!strncmp(entry->d_name, "agent-", 6) && strlen(entry->d_name) < PIN_NAME_MAX)
			run_read(b, p, entry->d_name + 6, &newest_ns);
	if (d)
		closedir(d);
}

void before_close(struct before *b)
{
	if (b->word)
		munmap((void *)(uintptr_t)b->word, (size_t)sysconf(_SC_PAGESIZE));
	if (b->watched_fd >= 0)
		close(b->watched_fd);
	*b = (struct before){ .watched_fd = -1 };
}
