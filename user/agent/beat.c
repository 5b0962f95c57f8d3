/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * beat.c - see beat.h.
 */
#include "agent/beat.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 16 /* chosen */

int beat_open(struct unix_listener *l, const struct config_engine *config, const char **why)
{
	const struct group *group = *config->beat_group ? getgrnam(config->beat_group) : NULL;
	int err;

	*why = config->beat_group;
	if (*config->beat_group && !group)
		return -ENOENT;
	*why = config->beat_socket;
	err = unix_listen(l, config->beat_socket, SOCK_SEQPACKET, group ? 0660 : 0600,
			  group ? group->gr_gid : (gid_t)-1, BACKLOG);
	return err;
}

void beat_run(struct unix_listener *l, int map_fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .align = {
			      .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) } };
	char byte = 0;
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	const struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
	};
	int fd;

	memcpy(CMSG_DATA(&control.align), &map_fd, sizeof(map_fd));
	for (int i = 0; i < BACKLOG; i++) {
		fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return;
		sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
	}
}
