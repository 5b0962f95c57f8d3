/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * unix.h - a daemon's listening Unix socket: its directory, the way cleared of a stale one, its rights.
 */
#ifndef COMMON_UNIX_H
#define COMMON_UNIX_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>

struct unix_listener {
	int fd; /* non-blocking; -1: none */
	bool bound;
	struct sockaddr_un address;
	struct stat socket; /* as we made it, so that only our own is removed */
};

int unix_address(struct sockaddr_un *address, const char *path); /* 0 or -ENAMETOOLONG */

/*
 * Bind and listen. The socket gets this group ((gid_t)-1: as it comes) and mode before it can be connected to. One that is
 * answered on is -EADDRINUSE, a stale one is replaced, anything else there is -EEXIST. Two daemons that start in the same
 * instant are told apart by the kernel when they attach, not here. 0 or -errno; close it in either case.
 */
int unix_listen(struct unix_listener *l, const char *path, int type, mode_t mode, gid_t group, int backlog);
void unix_close(struct unix_listener *l); /* removes the socket */

#endif
