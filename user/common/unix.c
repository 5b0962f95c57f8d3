/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * unix.c - see unix.h.
 */
#include "common/unix.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int unix_address(struct sockaddr_un *address, const char *path)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	memcpy(address->sun_path, path, strlen(path) + 1);
	return 0;
}

/* Make the directory of `path` if it is missing. */
static int directory_make(const char *path)
{
	char directory[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *slash;

	memcpy(directory, path, strlen(path) + 1);
	slash = strrchr(directory, '/');
	if (!slash || slash == directory)
		return 0;
	*slash = 0;
	if (mkdir(directory, 0755))
		return errno == EEXIST ? 0 : -errno;
	return chmod(directory, 0755) ? -errno : 0; /* whatever the umask is */
}

/* Clear the way: remove a socket that nobody listens on; anything else there is not ours to remove. */
static int stale_remove(const struct sockaddr_un *address, int type)
{
	struct stat st;
	int fd, err;

	if (lstat(address->sun_path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	err = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? errno : 0;
	close(fd);
	/* EAGAIN: its backlog is full; EPROTOTYPE: somebody listens there with another kind of socket. */
	if (err != ECONNREFUSED)
		return !err || err == EAGAIN || err == EPROTOTYPE ? -EADDRINUSE : -err;
	return unlink(address->sun_path) ? -errno : 0;
}

int unix_listen(struct unix_listener *l, const char *path, int type, mode_t mode, gid_t group, int backlog)
{
	int err;

	*l = (struct unix_listener){ .fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };
	err = l->fd < 0 ? -errno : unix_address(&l->address, path);
	if (!err)
		err = directory_make(path);
	if (!err)
		err = stale_remove(&l->address, type);
	if (err)
		return err;
	if (bind(l->fd, (struct sockaddr *)&l->address, sizeof(l->address)))
		return -errno;
	/* Before listen(), so that nobody connects with other rights. */
	if (lstat(path, &l->socket) || chmod(path, mode) || (group != (gid_t)-1 && chown(path, (uid_t)-1, group)))
		return -errno;
	l->bound = true;
	return listen(l->fd, backlog) ? -errno : 0;
}

void unix_close(struct unix_listener *l)
{
	const char *path = l->address.sun_path;
	struct stat st;

	if (l->bound && !lstat(path, &st) && st.st_dev == l->socket.st_dev && st.st_ino == l->socket.st_ino)
		unlink(path);
	if (l->fd >= 0)
		close(l->fd);
	*l = (struct unix_listener){ .fd = -1 };
}
