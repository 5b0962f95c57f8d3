/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * control.c - the Unix socket: clients, their lines in and their lines out.
 *
 * Decides who may connect, how much of the daemon's memory and time a client may have, and when it is cut off. What
 * is answered is answer.c's. All of it runs in the main loop and never blocks: a client has one unfinished reply at
 * most (its next request is not read before), and one that leaves a reply or its own request unfinished for
 * CONTROL_PATIENCE_MS is cut off. Limits: include/shunt/control.h.
 */
#include "shuntd/control.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/unix.h"
#include "shunt/control.h"
#include "shuntd/answer.h"

/* Wake-ups handled in one control_run(), chosen: each is one request at most, so the main loop gets its turn. */
#define CONTROL_BATCH 16
#define CONTROL_SLICE_NS \
	1000000ULL /* and no new one after so long: some requests take many milliseconds where backends are many */

struct client {
	int fd;
	uid_t uid; /* SO_PEERCRED */
	bool is_admin;
	uint32_t interest; /* EPOLLIN, EPOLLOUT as registered */
	bool ended; /* it sends no more */
	bool closing; /* cut off once its output is written */
	bool monitors;
	uint64_t next_event; /* a monitor's */
	uint64_t active_ns; /* when it last sent or took something */
	uint64_t deadline_ns; /* by when it must have taken its reply or finished its request; 0: owes nothing */
	size_t input_start, input_end; /* unread part of input */
	size_t input_size; /* bytes allocated: CONTROL_REQUEST_MAX, more while root sends a longer line */
	size_t output_start, output_end, output_size; /* unwritten part of output; bytes allocated */
	char *output, *input;
};

struct control {
	struct shuntd *shuntd;
	int epoll_fd, timer_fd;
	struct unix_listener listener;
	gid_t admins; /* whose members may command; -1: root alone */
	uint64_t timer_ns; /* when it is set to fire; 0: never */
	struct client *clients[CONTROL_CLIENTS_MAX]; /* NULL: free */
	const struct client *answered; /* whose request is being answered: what it monitors waits until that is done */
};

/* ---- one client ---- */

static void client_close(struct control *control, struct client *client)
{
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		if (control->clients[i] == client)
			control->clients[i] = NULL;
	close(client->fd); /* and so leaves the epoll set */
	free(client->output);
	free(client->input);
	free(client);
}

static size_t output_pending(const struct client *client)
{
	return client->output_end - client->output_start;
}

/* json_dump_callback_t */
static int output_append(const char *data, size_t size, void *arg)
{
	struct client *client = arg;

	if (client->output_size - client->output_end < size && client->output_start) {
		memmove(client->output, client->output + client->output_start, output_pending(client));
		client->output_end -= client->output_start;
		client->output_start = 0;
	}
	if (client->output_size - client->output_end < size) {
		size_t want = 2 * (client->output_end + size);
		char *grown = realloc(client->output, want);

		if (!grown)
			return -1;
		client->output = grown;
		client->output_size = want;
	}
	memcpy(client->output + client->output_end, data, size);
	client->output_end += size;
	return 0;
}

/* Queue one line, {key: value, ...}; takes over the reference. A line that finds no memory ends the client. */
static void output_line(struct client *client, json_t *reply)
{
	if (!reply || json_dump_callback(reply, output_append, client, JSON_COMPACT) || output_append("\n", 1, client))
		client->closing = true;
	json_decref(reply);
}

/* Write what the socket takes. 0, or -errno and the client is to be closed. */
static int output_flush(struct client *client)
{
	while (output_pending(client)) {
		ssize_t n = send(client->fd, client->output + client->output_start, output_pending(client),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		client->output_start += (size_t)n;
		client->active_ns = monotonic_ns();
	}
	/* Big replies are rare: memory is not kept for the next one. */
	free(client->output);
	client->output = NULL;
	client->output_start = client->output_end = client->output_size = 0;
	return 0;
}

/* The next complete line of the input, or NULL. */
static const char *input_line(const struct client *client, size_t *length)
{
	const char *start = client->input + client->input_start;
	const char *end = memchr(start, '\n', client->input_end - client->input_start);

	if (!end)
		return NULL;
	*length = (size_t)(end - start);
	return start;
}

static size_t input_unread(const struct client *client)
{
	return client->input_end - client->input_start;
}

static bool may_command(const struct client *client)
{
	return !client->uid || client->is_admin;
}

static bool request_is_too_long(const struct client *client)
{
	return input_unread(client) == (may_command(client) ? CONTROL_REQUEST_ROOT_MAX : CONTROL_REQUEST_MAX);
}

/* What is unread to the front, and room for so many bytes. */
static int input_resize(struct client *client, size_t size)
{
	char *input;

	memmove(client->input, client->input + client->input_start, input_unread(client));
	client->input_end -= client->input_start;
	client->input_start = 0;
	if (size == client->input_size)
		return 0;
	input = realloc(client->input, size);
	if (!input)
		return -ENOMEM;
	client->input = input;
	client->input_size = size;
	return 0;
}

/* More room for a line that fills it, of somebody who may send a configuration. */
static size_t input_wanted(const struct client *client)
{
	if (!may_command(client) || input_unread(client) < client->input_size)
		return client->input_size;
	return client->input_size < CONTROL_REQUEST_ROOT_MAX / 8 ? 8 * client->input_size : CONTROL_REQUEST_ROOT_MAX;
}

/* Read what fits. 0, or -errno and the client is to be closed. */
static int input_read(struct client *client)
{
	ssize_t n;

	if (input_resize(client, input_wanted(client)))
		return -ENOMEM;
	n = recv(client->fd, client->input + client->input_end, client->input_size - client->input_end, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	client->input_end += (size_t)n;
	client->ended = n == 0;
	client->active_ns = monotonic_ns();
	return 0;
}

static void client_error(struct client *client, enum control_code code, const char *text)
{
	output_line(client, json_pack("{s:s, s:i}", "error", text, "code", code));
}

static void monitor_start(struct control *control, struct client *client, uint64_t from)
{
	int n = 0;

	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		n += control->clients[i] && control->clients[i]->monitors;
	if (!client->monitors && n >= CONTROL_MONITORS_MAX) {
		client_error(client, CONTROL_REFUSED, "too many clients monitor already");
		return;
	}
	client->monitors = true;
	client->next_event = from;
}

/* Queue the events that a monitor has not seen; one that leaves too many unread is cut off. */
static void monitor_push(struct control *control, struct client *client)
{
	json_t *events = ledger_since(control->shuntd->ledger, client->next_event, &client->next_event), *event;
	size_t i;

	json_array_foreach(events, i, event) output_line(client, json_pack("{s:O}", "result", event));
	json_decref(events);
}

static void request_answer(struct control *control, struct client *client, const char *line, size_t length)
{
	struct request request = { .shuntd = control->shuntd, .uid = client->uid, .is_admin = client->is_admin };
	json_t *result = answer(&request, line, length);

	if (result) {
		output_line(client, json_pack("{s:o}", "result", result));
	} else if (request.monitor) {
		monitor_start(control, client, request.monitor_from);
	} else {
		client_error(client, request.code, request.error);
	}
}

/* Answer the next request, if there is one and the reply to the one before it was taken. */
static void client_answer(struct control *control, struct client *client)
{
	const char *line;
	size_t length;

	if (client->closing || output_pending(client))
		return;
	line = input_line(client, &length);
	if (line) {
		client->input_start += length + 1;
		client->deadline_ns = 0;
		control->answered = client;
		request_answer(control, client, line, length);
		control->answered = NULL;
		if (client->monitors)
			monitor_push(control, client);
	} else if (request_is_too_long(client)) {
		client_error(client, CONTROL_MISUSE,
			     may_command(client) ? "a request is longer than a configuration"
						 : "a request is longer than 65536 bytes");
		client->closing = true;
	}
}

/*
 * After anything happened: write, then close, or say what to wait for and how long. Level-triggered: a client with
 * a complete line left waits for writability, which it has if it takes its replies, and so takes turns with the
 * others.
 */
static void client_settle(struct control *control, struct client *client)
{
	struct epoll_event event = { .data.ptr = client };
	size_t length;
	bool line, done, owes;

	if (output_flush(client)) {
		client_close(control, client);
		return;
	}
	if (client->input_size > CONTROL_REQUEST_MAX && input_unread(client) < CONTROL_REQUEST_MAX &&
	    input_resize(client, CONTROL_REQUEST_MAX)) {
		client_close(control, client);
		return;
	}
	line = input_line(client, &length) || request_is_too_long(client);
	done = client->closing || (client->ended && !line && !client->monitors);
	if ((done && !output_pending(client)) ||
	    (client->monitors && output_pending(client) > CONTROL_MONITOR_BACKLOG_MAX)) {
		client_close(control, client);
		return;
	}
	if (output_pending(client) || (line && !client->closing))
		event.events |= EPOLLOUT;
	if (!output_pending(client) && !line && !client->ended && !client->closing)
		event.events |= EPOLLIN;
	if (event.events != client->interest && epoll_ctl(control->epoll_fd, EPOLL_CTL_MOD, client->fd, &event)) {
		client_close(control, client);
		return;
	}
	client->interest = event.events;

	/* A line that waits is owed too: for replies to be taken, so that the socket has room again. */
	owes = (output_pending(client) && !client->monitors) || input_unread(client);
	if (!owes)
		client->deadline_ns = 0;
	else if (!client->deadline_ns)
		client->deadline_ns = monotonic_ns() + CONTROL_PATIENCE_MS * 1000000ULL;
}

static void client_run(struct control *control, struct client *client, uint32_t events)
{
	/* HUP: both directions are closed, nobody is there to read an answer. */
	if (events & (EPOLLHUP | EPOLLERR) || (events & EPOLLIN && input_read(client))) {
		client_close(control, client);
		return;
	}
	client_answer(control, client);
	client_settle(control, client);
}

/* ---- all clients ---- */

/* A free place; if there is none, the one of whoever was silent longest. Monitors keep theirs: they are fewer. */
static struct client **client_place(struct control *control)
{
	struct client *oldest = NULL;
	int place = 0;

	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *client = control->clients[i];

		if (!client)
			return &control->clients[i];
		if (!client->monitors && (!oldest || client->active_ns < oldest->active_ns)) {
			oldest = client;
			place = i;
		}
	}
	client_close(control, oldest);
	return &control->clients[place];
}

/* Whether who connected was of a group then, by its own or a supplementary one. */
static bool is_member(int fd, gid_t own, gid_t group)
{
	socklen_t size = 0;
	bool found = own == group;
	gid_t *groups;

	getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size); /* how much room they need */
	groups = malloc(size + 1);
	if (groups && !getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size))
		for (size_t i = 0; i < size / sizeof(*groups); i++)
			found = found || groups[i] == group;
	free(groups);
	return found;
}

static void client_accept(struct control *control)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct ucred credentials = { .uid = (uid_t)-1 };
	socklen_t size = sizeof(credentials);
	int fd = accept4(control->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *client;

	if (fd < 0)
		return;
	client = calloc(1, sizeof(*client));
	if (client)
		client->input = malloc(CONTROL_REQUEST_MAX);
	if (!client || !client->input || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size)) {
		free(client ? client->input : NULL);
		free(client);
		close(fd);
		return;
	}
	client->input_size = CONTROL_REQUEST_MAX;
	client->fd = fd;
	client->uid = credentials.uid;
	client->is_admin = control->admins != (gid_t)-1 && is_member(fd, credentials.gid, control->admins);
	client->interest = event.events;
	client->active_ns = monotonic_ns();
	event.data.ptr = client;
	*client_place(control) = client;
	if (epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, fd, &event))
		client_close(control, client);
}

static void deadlines_check(struct control *control)
{
	uint64_t now = monotonic_ns(), expirations;

	/* Reading is what silences it; whether it had fired is told by the deadlines. */
	if (read(control->timer_fd, &expirations, sizeof(expirations)) > 0)
		control->timer_ns = 0;
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *client = control->clients[i];

		if (client && client->deadline_ns && client->deadline_ns <= now)
			client_close(control, client);
	}
}

/* Let the timer fire at the earliest deadline. */
static void timer_set(struct control *control)
{
	struct itimerspec at = { 0 };
	uint64_t earliest = 0;

	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *client = control->clients[i];

		if (client && client->deadline_ns && (!earliest || client->deadline_ns < earliest))
			earliest = client->deadline_ns;
	}
	if (earliest == control->timer_ns)
		return;
	control->timer_ns = earliest;
	at.it_value.tv_sec = (time_t)(earliest / 1000000000);
	at.it_value.tv_nsec = (long)(earliest % 1000000000);
	timerfd_settime(control->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

void control_run(struct control *control)
{
	const uint64_t end_ns = monotonic_ns() + CONTROL_SLICE_NS;
	struct epoll_event event;

	/* One at a time: handling one event may close the client of another. */
	for (int i = 0; i < CONTROL_BATCH && (!i || monotonic_ns() < end_ns); i++) {
		if (epoll_wait(control->epoll_fd, &event, 1, 0) != 1)
			break;
		if (event.data.ptr == &control->listener.fd) {
			client_accept(control);
		} else if (event.data.ptr == &control->timer_fd) {
			deadlines_check(control);
		} else {
			client_run(control, event.data.ptr, event.events);
		}
		timer_set(control);
	}
}

void control_push_events(struct control *control)
{
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *client = control->clients[i];

		if (!client || !client->monitors || client == control->answered)
			continue;
		monitor_push(control, client);
		client_settle(control, client);
	}
	timer_set(control);
}

static void ledger_grew(void *control)
{
	control_push_events(control);
}

/* ---- the socket ---- */

static int epoll_add(struct control *control, int *fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = fd };

	return epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, *fd, &event) ? -errno : 0;
}

static gid_t group_id(const char *name)
{
	const struct group *group = name && *name ? getgrnam(name) : NULL;

	return group ? group->gr_gid : (gid_t)-1;
}

/* Root and the group may connect: admins must be in both. */
int control_open(struct control **out, struct shuntd *shuntd, const char *path, const char *group)
{
	struct control *control = calloc(1, sizeof(*control));
	int err;

	if (!control)
		return -ENOMEM;
	control->shuntd = shuntd;
	control->admins = group_id(shuntd->config->control_admins);
	control->listener.fd = -1;
	control->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	control->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (control->epoll_fd < 0 || control->timer_fd < 0) {
		err = -errno;
		goto out;
	}
	err = unix_listen(&control->listener, path, SOCK_STREAM, 0660, group_id(group), CONTROL_CLIENTS_MAX);
	if (err)
		goto out;
	err = epoll_add(control, &control->listener.fd);
	if (!err)
		err = epoll_add(control, &control->timer_fd);
	if (err)
		goto out;
	ledger_listen(shuntd->ledger, ledger_grew, control);
	*out = control;
	control = NULL;
out:
	control_close(control);
	return err;
}

void control_close(struct control *control)
{
	if (!control)
		return;
	ledger_listen(control->shuntd->ledger, NULL, NULL);
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		if (control->clients[i])
			client_close(control, control->clients[i]);
	unix_close(&control->listener);
	if (control->timer_fd >= 0)
		close(control->timer_fd);
	if (control->epoll_fd >= 0)
		close(control->epoll_fd);
	free(control);
}

int control_fd(const struct control *control)
{
	return control->epoll_fd;
}
