/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * process.h - what /proc and the kernel's socket list say of processes: who listens, who descends from whom, who ends.
 */
#ifndef AGENT_PROCESS_H
#define AGENT_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* proc(5), /proc/PID/stat. A number is used again; number and start are not. */
struct process {
	pid_t pid, parent;
	uint64_t start_ticks; /* since the boot, in sysconf(_SC_CLK_TCK) */
	bool ending; /* its last thread is on the way out, or was there: what is left of it doesn't run */
};

int process_read(struct process *p, pid_t pid); /* 0; -ENOENT: there is none */
bool process_is(const struct process *a, const struct process *b); /* the same one */
uint64_t process_born_ns(const struct process *p); /* CLOCK_MONOTONIC */

/* All that are there, for the caller to free; *n of them. NULL: no memory, or no /proc. */
struct process *processes_read(size_t *n);

/* The nearest of `from` that one descends from, as they are listed. NULL: from none. */
const struct process *process_ancestor(const struct process *list, size_t n, const struct process *p,
				       const struct process *from, size_t n_from);

/* Inodes of the TCP sockets that listen on a port in this network namespace, at most max, sorted. How many, or -errno. */
int listeners_find(uint16_t port, uint32_t *inodes, size_t max);

/* Whether it has one of these sockets open. */
bool process_holds(pid_t pid, const uint32_t *inodes, size_t n);

#endif
