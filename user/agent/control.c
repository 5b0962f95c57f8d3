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
#include <sys/time.h>
#include <unistd.h>

#include "agent/connections.h"
#include "common/clock.h"
#include "common/unix.h"
#include "core/cause.h"

#define ANSWER_TIMEOUT_S 5 /* chosen: far above what any answer takes */

struct control_server {
	struct control_options options;
	struct unix_listener listener;
	int clients[AGENT_CLIENTS_MAX]; /* -1: free */
	unsigned next; /* place that the next client gets */
};

/* ---- the agent's side ---- */

static void answer_write(struct control_server *server, const char *request, FILE *f)
{
	struct agent_word *word = server->options.word;
	bool is_status = !strcmp(request, "status");
	enum engine_state engine;
	uint64_t connections;
	const char *state;
	int err;

	if (!strcmp(request, "drain"))
		__atomic_store_n(&word->draining, 1, __ATOMIC_RELAXED);
	else if (!strcmp(request, "undrain"))
		__atomic_store_n(&word->draining, 0, __ATOMIC_RELAXED);
	else if (!is_status) {
		fprintf(f, "error there is no such request");
		return;
	}
	/* To a drain that waits, a host out of service is draining, whatever its engine does. */
	engine = word->draining ? ENGINE_DRAINING : agent_state(word, *server->options.beat, monotonic_ns());
	state = engine == ENGINE_UNKNOWN ? "serving" : engine_name(engine);
	err = connections_count(&connections, server->options.vips, server->options.n_vips);
	if (err)
		fprintf(f, "error %s, but the connections can't be counted: %s", state, strerror(-err));
	else
		fprintf(f, "%s %" PRIu64 " %zu\n", state, connections, server->options.n_vips);
	if (is_status && !err)
		server->options.describe(f, server->options.arg);
}

static void client_answer(struct control_server *server, int fd)
{
	char request[16], answer[AGENT_MESSAGE_MAX] = "";
	ssize_t n = recv(fd, request, sizeof(request) - 1, MSG_DONTWAIT);
	FILE *f;

	if (n <= 0)
		return;
	request[n] = 0;
	f = fmemopen(answer, sizeof(answer), "w");
	if (!f)
		return;
	answer_write(server, request, f);
	fclose(f);
	send(fd, answer, strlen(answer), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void client_accept(struct control_server *server)
{
	int fd = accept4(server->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
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

	fds[n++] = (struct pollfd){ .fd = server->listener.fd, .events = POLLIN };
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

int control_open(struct control_server **out, const struct control_options *options)
{
	struct control_server *server = calloc(1, sizeof(*server));
	int err;

	if (!server)
		return -ENOMEM;
	server->options = *options;
	for (unsigned i = 0; i < AGENT_CLIENTS_MAX; i++)
		server->clients[i] = -1;
	err = unix_listen(&server->listener, options->path, SOCK_SEQPACKET, 0600, (gid_t)-1,
			  AGENT_CLIENTS_MAX); /* root's alone */
	if (err)
		control_close(server);
	else
		*out = server;
	return err;
}

void control_close(struct control_server *server)
{
	if (!server)
		return;
	for (unsigned i = 0; i < AGENT_CLIENTS_MAX; i++)
		if (server->clients[i] >= 0)
			close(server->clients[i]);
	unix_close(&server->listener);
	free(server);
}

/* ---- the asking side ---- */

int control_ask(const char *path, const char *request, char answer[AGENT_MESSAGE_MAX])
{
	const struct timeval patience = { .tv_sec = ANSWER_TIMEOUT_S };
	struct sockaddr_un address;
	int fd, err = unix_address(&address, path);
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
