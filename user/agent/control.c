/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * control.c - see control.h. All of it runs in the agent's one loop.
 */
#include "agent/control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/connections.h"
#include "shunt/heartbeat.h"

#define ANSWER_TIMEOUT_S 5 /* chosen: far above what any answer takes */

struct control_server {
	struct control_options options;
	int listen_fd;
	int clients[AGENT_CLIENTS_MAX]; /* -1: free */
	unsigned next; /* place that the next client gets */
	bool bound;
	struct stat socket; /* as we made it, so that only our own is removed */
};

static int address_fill(struct sockaddr_un *address, const char *path)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	memcpy(address->sun_path, path, strlen(path) + 1);
	return 0;
}

/* ---- the agent's side ---- */

static void client_answer(struct control_server *server, int fd)
{
	__u32 *engine = server->options.engine;
	char message[AGENT_MESSAGE_MAX], answer[AGENT_MESSAGE_MAX];
	ssize_t n = recv(fd, message, sizeof(message) - 1, MSG_DONTWAIT);
	const char *state;
	uint64_t connections;
	int length, err;

	if (n <= 0)
		return;
	message[n] = 0;
	if (!strcmp(message, "drain"))
		__atomic_store_n(engine, ENGINE_DRAINING, __ATOMIC_RELAXED);
	else if (!strcmp(message, "undrain"))
		__atomic_store_n(engine, ENGINE_UNKNOWN, __ATOMIC_RELAXED); /* nobody watches an engine yet */
	state = *engine == ENGINE_DRAINING ? "draining" : "serving";
	err = connections_count(&connections, server->options.vips, server->options.n_vips);
	if (strcmp(message, "drain") && strcmp(message, "undrain") && strcmp(message, "status"))
		length = snprintf(answer, sizeof(answer), "error there is no such request");
	else if (err)
		length = snprintf(answer, sizeof(answer), "error %s, but the connections can't be counted: %s", state,
				  strerror(-err));
	else
		length = snprintf(answer, sizeof(answer), "%s %" PRIu64 " %zu", state, connections,
				  server->options.n_vips);
	send(fd, answer, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void client_accept(struct control_server *server)
{
	int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int *place = &server->clients[server->next];

	if (fd < 0)
		return;
	if (*place >= 0)
		close(*place);
	*place = fd;
	server->next = (server->next + 1) % AGENT_CLIENTS_MAX;
}

nfds_t control_poll(const struct control_server *server, struct pollfd *fds)
{
	nfds_t n = 0;

	fds[n++] = (struct pollfd){ .fd = server->listen_fd, .events = POLLIN };
	for (unsigned i = 0; i < AGENT_CLIENTS_MAX; i++)
		if (server->clients[i] >= 0)
			fds[n++] = (struct pollfd){ .fd = server->clients[i], .events = POLLIN };
	return n;
}

void control_run(struct control_server *server, const struct pollfd *fds, nfds_t n)
{
	for (nfds_t i = 1; i < n; i++) {
		if (!fds[i].revents)
			continue;
		client_answer(server, fds[i].fd);
		for (unsigned c = 0; c < AGENT_CLIENTS_MAX; c++)
			if (server->clients[c] == fds[i].fd)
				server->clients[c] = -1;
		close(fds[i].fd);
	}
	if (fds[0].revents)
		client_accept(server);
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
static int stale_remove(const struct sockaddr_un *address)
{
	struct stat st;
	int fd, err;

	if (lstat(address->sun_path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	err = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? errno : 0;
	close(fd);
	/* EAGAIN: its backlog is full; EPROTOTYPE: somebody listens there with another kind of socket. */
	if (err != ECONNREFUSED)
		return !err || err == EAGAIN || err == EPROTOTYPE ? -EADDRINUSE : -err;
	return unlink(address->sun_path) ? -errno : 0;
}

int control_open(struct control_server **out, const struct control_options *options)
{
	struct sockaddr_un address;
	struct control_server *server = calloc(1, sizeof(*server));
	int err;

	if (!server)
		return -ENOMEM;
	server->options = *options;
	for (unsigned i = 0; i < AGENT_CLIENTS_MAX; i++)
		server->clients[i] = -1;
	server->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	err = server->listen_fd < 0 ? -errno : address_fill(&address, options->path);
	if (!err)
		err = directory_make(options->path);
	if (!err)
		err = stale_remove(&address);
	if (err)
		goto out;
	if (bind(server->listen_fd, (struct sockaddr *)&address, sizeof(address))) {
		err = -errno;
		goto out;
	}
	/* Root's alone, and before listen(), so that nobody connects with other rights. */
	if (lstat(options->path, &server->socket) || chmod(options->path, 0600)) {
		err = -errno;
		goto out;
	}
	server->bound = true;
	if (listen(server->listen_fd, AGENT_CLIENTS_MAX)) {
		err = -errno;
		goto out;
	}
	*out = server;
	server = NULL;
out:
	control_close(server);
	return err;
}

void control_close(struct control_server *server)
{
	struct stat st;

	if (!server)
		return;
	for (unsigned i = 0; i < AGENT_CLIENTS_MAX; i++)
		if (server->clients[i] >= 0)
			close(server->clients[i]);
	if (server->bound && !lstat(server->options.path, &st) && st.st_dev == server->socket.st_dev &&
	    st.st_ino == server->socket.st_ino)
		unlink(server->options.path);
	if (server->listen_fd >= 0)
		close(server->listen_fd);
	free(server);
}

/* ---- the asking side ---- */

int control_ask(const char *path, const char *request, char answer[AGENT_MESSAGE_MAX])
{
	const struct timeval patience = { .tv_sec = ANSWER_TIMEOUT_S };
	struct sockaddr_un address;
	int fd, err = address_fill(&address, path);
	ssize_t n;

	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    send(fd, request, strlen(request), MSG_NOSIGNAL) < 0) {
		err = -errno;
		goto out;
	}
	n = recv(fd, answer, AGENT_MESSAGE_MAX - 1, 0);
	if (n > 0)
		answer[n] = 0;
	else
		err = n == 0 ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : -errno;
out:
	close(fd);
	return err;
}
