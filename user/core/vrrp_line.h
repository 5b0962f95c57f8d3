/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vrrp_line.h - a line that keepalived writes to its vrrp_notify_fifo:  INSTANCE "VI_1" MASTER 100
 * (keepalived.conf(5), "vrrp_sync_group"; written by notify_fifo() of its vrrp_notify.c). Pure.
 */
#ifndef SHUNT_CORE_VRRP_LINE_H
#define SHUNT_CORE_VRRP_LINE_H

#include <stdbool.h>
#include <stddef.h>

#define VRRP_NAME_MAX 64 /* bytes, with the terminating zero; chosen: a longer name is no name */

struct vrrp_line {
	bool is_group; /* GROUP: a sync group; else an instance */
	char name[VRRP_NAME_MAX];
	const char *state; /* "master", "backup", "fault", "stop" or "deleted"; NULL: only the priority changed */
	unsigned priority; /* 0 .. 255; of a group 0 */
};

/* `length` bytes without the newline. 0, or -EINVAL: it is no such line. */
int vrrp_line_parse(struct vrrp_line *out, const char *line, size_t length);

#endif
