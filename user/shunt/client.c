/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * client.c - the CLI's end of the control socket; the wire is include/shunt/control.h. Decides what a person is told
 * when the daemon can't be reached.
 */
#include "shunt/shunt.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

#define AGAIN_MS 50 /* chosen: what keeps the daemon busy mostly ends sooner */
#define REPLY_MAX (256u << 20) /* bytes, chosen: ten times what a full balancer answers */

/* The connection, and what came of the reply that is being read. */
struct connection {
	int fd;
	char *bytes; /* to be freed */
	size_t n, size;
};

/*
 * What is known without a daemon: shuntd itself, run for one request, reads what an earlier run has left pinned. Its end of a
 * pair of sockets is where it reads and answers. Returns ours, or -1.
 */
static int offline_start(const struct call *call)
{
	const char *config = getenv("SHUNT_CONFIG");
	char own[PATH_MAX] = "", beside[2][PATH_MAX + 16];
	int pair[2];
	pid_t pid;

	if (call->out == &out_none || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -1;
	if (readlink("/proc/self/exe", own, sizeof(own) - 1) < 0)
		own[0] = 0;
	snprintf(beside[0], sizeof(beside[0]), "%s/shuntd", dirname(own));
	snprintf(beside[1], sizeof(beside[1]), "%s/../sbin/shuntd", own);
	pid = fork();
	if (!pid) {
		const char *words[] = { "shuntd", "--answer", call->socket, config && *config ? "-f" : NULL,
					config,   NULL };
		char *const *argv = (char *const *)(uintptr_t)words;

		if (fork())
			_exit(0); /* so that nobody has to wait for it */
		if (dup2(pair[1], 0) < 0 || dup2(pair[1], 1) < 0 || dup2(open("/dev/null", O_WRONLY), 2) < 0)
			_exit(1);
		execv(beside[0], argv);
		execv(beside[1], argv);
		execvp(argv[0], argv);
		_exit(1);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
	close(pair[1]);
	return pair[0];
}

/* Whether it has an answer: else it ends without one. */
static bool offline_answers(const struct call *call, int fd, const char *line, size_t length)
{
	static bool said;
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	char first;

	if (send(fd, line, length, MSG_NOSIGNAL) != (ssize_t)length || shutdown(fd, SHUT_WR) ||
	    poll(&readable, 1, (int)call->patience_ms) != 1 || recv(fd, &first, 1, MSG_PEEK) != 1)
		return false;
	if (!said)
		fputs("shunt: shuntd is not running: this is what it left in the kernel\n", stderr);
	said = true;
	return true;
}

static int connect_complain(const struct call *call, int err)
{
	const char *offline = geteuid() ? " (what it left in the kernel is for root to see)" : "";
	struct group *group = NULL;
	struct stat st;

	switch (err) {
	case ENOENT:
		return complain(call, CONTROL_REFUSED, "shuntd is not running: there is no socket %s%s", call->socket,
				offline);
	case ECONNREFUSED:
		return complain(call, CONTROL_REFUSED, "shuntd is not running: nobody answers on %s%s", call->socket,
				offline);
	case EACCES:
		if (stat(call->socket, &st))
			return complain(call, CONTROL_REFUSED, "no permission for %s: its directory is closed to you",
					call->socket);
		group = getgrgid(st.st_gid);
		if (group && st.st_gid != 0)
			return complain(call, CONTROL_REFUSED, "no permission for %s: it is for root and group %s",
					call->socket, group->gr_name);
		return complain(call, CONTROL_REFUSED, "no permission for %s: it is for root", call->socket);
	case EAGAIN:
		return complain(call, CONTROL_REFUSED, "shuntd does not answer on %s", call->socket);
	default:
		return complain(call, CONTROL_REFUSED, "cannot connect to %s: %s", call->socket, strerror(err));
	}
}

/* Connect, send the request. 0, and the connection is to be closed; or the exit status. Takes over args. */
static int request_send(const struct call *call, const char *object, const char *command, json_t *args,
			struct connection *connection)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = call->patience_ms / 1000, .tv_usec = call->patience_ms % 1000 * 1000 };
	json_t *request = json_pack("{s:s, s:s, s:o*}", "object", object, "command", command, "args", args);
	char *line = request ? json_dumps(request, JSON_COMPACT) : NULL;
	int fd = -1, code = CONTROL_DONE;
	size_t length;

	json_decref(request);
	if (!line) {
		code = complain(call, CONTROL_REFUSED, "out of memory");
		goto out;
	}
	length = strlen(line);
	line[length++] = '\n'; /* in the place of the terminating zero */
	if (strlen(call->socket) >= sizeof(address.sun_path)) {
		code = complain(call, CONTROL_MISUSE, "the socket's path is longer than %zu bytes",
				sizeof(address.sun_path) - 1);
		goto out;
	}
	memcpy(address.sun_path, call->socket, strlen(call->socket));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		int err = errno;

		if (fd >= 0)
			close(fd);
		fd = err == ENOENT || err == ECONNREFUSED ? offline_start(call) : -1;
		if (fd < 0 || !offline_answers(call, fd, line, length)) {
			code = connect_complain(call, err);
			goto out;
		}
		*connection = (struct connection){ .fd = fd };
		fd = -1;
		goto out;
	}
	for (size_t sent = 0; sent < length;) {
		ssize_t n = send(fd, line + sent, length - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EPIPE)
			break; /* it may have said why */
		if (n < 0) {
			code = complain(call, CONTROL_REFUSED, "shuntd does not take the request: %s", strerror(errno));
			goto out;
		}
		sent += (size_t)n;
	}
	*connection = (struct connection){ .fd = fd };
	fd = -1;
out:
	if (fd >= 0)
		close(fd);
	free(line);
	return code;
}

static void connection_close(struct connection *connection)
{
	close(connection->fd);
	free(connection->bytes);
}

static int64_t now_ms(void)
{
	return (int64_t)(monotonic_ns() / 1000000);
}

/* Read what there is, for which to wait until then (-1: for ever). How much it was, 0 at the end, or -errno. */
static ssize_t bytes_read(struct connection *c, int64_t until_ms)
{
	struct pollfd readable = { .fd = c->fd, .events = POLLIN };
	int64_t left_ms;
	char *more;
	ssize_t n;

	if (c->n == c->size) {
		if (c->size >= REPLY_MAX)
			return -EMSGSIZE;
		more = realloc(c->bytes, c->size ? 2 * c->size : 65536);
		if (!more)
			return -ENOMEM;
		c->bytes = more;
		c->size = c->size ? 2 * c->size : 65536;
	}
	do {
		left_ms = until_ms - now_ms();
		n = poll(&readable, 1, until_ms < 0 ? -1 : left_ms > 0 ? (int)left_ms : 0);
	} while (n < 0 && errno == EINTR); /* whoever asks looks at his signals afterwards */
	if (n == 0)
		return -EAGAIN;
	if (n > 0)
		n = recv(c->fd, c->bytes + c->n, c->size - c->n, 0);
	if (n < 0)
		return -errno;
	c->n += (size_t)n;
	return n;
}

/* The next line of the daemon's, parsed. 0 and an object or NULL, if it is none; or -errno, -ENODATA: there is no more. */
static int line_read(struct connection *c, int64_t until_ms, json_t **line)
{
	char *end = c->n ? memchr(c->bytes, '\n', c->n) : NULL;

	while (!end) {
		size_t before = c->n;
		ssize_t n = bytes_read(c, until_ms);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return -ENODATA;
		end = memchr(c->bytes + before, '\n', (size_t)n);
	}
	*line = json_loadb(c->bytes, (size_t)(end - c->bytes), 0, NULL);
	c->n -= (size_t)(end + 1 - c->bytes);
	memmove(c->bytes, end + 1, c->n);
	return 0;
}

/*
 * The next reply's result, borrowed from *reply (to be released), or NULL and *code, complained of; but not of CONTROL_BUSY,
 * when there is time to ask again. Waits until then (-1: for ever).
 */
static json_t *reply_read(const struct call *call, struct connection *connection, int64_t until_ms, json_t **reply,
			  int *code)
{
	json_t *result, *error;
	int err;

	*reply = NULL;
	err = line_read(connection, until_ms, reply);
	result = json_object_get(*reply, "result");
	error = json_object_get(*reply, "error");
	if (result)
		return result;
	if (json_is_string(error)) {
		*code = (int)json_integer_value(json_object_get(*reply, "code"));
		if (*code == CONTROL_BUSY && now_ms() + AGAIN_MS < until_ms)
			return NULL;
		if (*code != CONTROL_REFUSED && *code != CONTROL_MISUSE)
			*code = CONTROL_REFUSED;
		complain(call, *code, "%s", json_string_value(error));
	} else if (err == -EAGAIN) {
		*code = complain(call, CONTROL_REFUSED, "shuntd does not answer on %s: for %u s nothing whole came",
				 call->socket, call->patience_ms / 1000);
	} else if (err == -EMSGSIZE) {
		*code = complain(call, CONTROL_REFUSED, "shuntd's answer has no end: is it shuntd that listens on %s?",
				 call->socket);
	} else if (err == -ENODATA || err == -ECONNRESET) {
		*code = complain(call, CONTROL_REFUSED, "shuntd closed the connection");
	} else if (err) {
		*code = complain(call, CONTROL_REFUSED, "cannot read shuntd's answer: %s", strerror(-err));
	} else {
		*code = complain(call, CONTROL_REFUSED, "shuntd's answer makes no sense: is it of another version?");
	}
	return NULL;
}

int request_ask(const struct call *call, const char *object, const char *command, json_t *args, json_t **result)
{
	const struct timespec again = { .tv_nsec = AGAIN_MS * 1000000 };
	int64_t until_ms = now_ms() + call->patience_ms;
	struct connection connection;
	json_t *reply;
	int code;

	*result = NULL;
	do {
		code = request_send(call, object, command, json_incref(args), &connection);
		if (code)
			break;
		*result = json_incref(reply_read(call, &connection, until_ms, &reply, &code));
		json_decref(reply);
		connection_close(&connection);
		if (code == CONTROL_BUSY)
			nanosleep(&again, NULL);
	} while (code == CONTROL_BUSY);
	json_decref(args);
	return code;
}

int request_show(const struct call *call, const char *object, const char *command, json_t *args,
		 const struct view *views)
{
	json_t *result;
	int code = request_ask(call, object, command, args, &result);

	if (code)
		return code;
	call->out->show(result, views);
	json_decref(result);
	return code;
}

int request_follow(const struct call *call, const char *object, const char *command, json_t *args,
		   const struct view *view)
{
	struct connection connection;
	json_t *reply, *result;
	int code = request_send(call, object, command, args, &connection);

	if (code)
		return code;
	while ((result = reply_read(call, &connection, -1, &reply, &code))) {
		call->out->item(result, view);
		json_decref(reply);
		if (ferror(stdout))
			break; /* main() says so */
	}
	if (!result)
		json_decref(reply);
	connection_close(&connection);
	return code;
}
