/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * client.c - the CLI's end of the control socket; the wire is include/shunt/control.h. Decides what a person is told
 * when the daemon can't be reached.
 */
#include "shunt/shunt.h"

#include <errno.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_complain(const struct call *call, int err)
{
	struct group *group = NULL;
	struct stat st;

	switch (err) {
	case ENOENT:
		return complain(call, CONTROL_REFUSED, "shuntd is not running: there is no socket %s", call->socket);
	case ECONNREFUSED:
		return complain(call, CONTROL_REFUSED, "shuntd is not running: nobody answers on %s", call->socket);
	case EACCES:
		if (!stat(call->socket, &st))
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

/* Connect, send the request. 0 and a stream to read from, or the exit status. Takes over args. */
static int request_send(const struct call *call, const char *object, const char *command, json_t *args, FILE **stream)
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
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		code = connect_complain(call, errno);
		goto out;
	}
	for (size_t sent = 0; sent < length;) {
		ssize_t n = send(fd, line + sent, length - sent, MSG_NOSIGNAL);

		if (n < 0) {
			code = complain(call, CONTROL_REFUSED, "shuntd does not take the request: %s", strerror(errno));
			goto out;
		}
		sent += (size_t)n;
	}
	*stream = fdopen(fd, "r");
	if (*stream)
		fd = -1;
	else
		code = complain(call, CONTROL_REFUSED, "%s", strerror(errno));
out:
	if (fd >= 0)
		close(fd);
	free(line);
	return code;
}

/* The next reply's result, borrowed from *reply (to be released), or NULL and *code. */
static json_t *reply_read(const struct call *call, FILE *stream, json_t **reply, int *code)
{
	json_t *result, *error;
	char *line = NULL;
	size_t size = 0;
	ssize_t length;

	errno = 0;
	length = getline(&line, &size, stream);
	*reply = length > 0 ? json_loadb(line, (size_t)length, 0, NULL) : NULL;
	free(line);
	result = json_object_get(*reply, "result");
	error = json_object_get(*reply, "error");
	if (result)
		return result;
	if (json_is_string(error)) {
		*code = (int)json_integer_value(json_object_get(*reply, "code"));
		if (*code == CONTROL_DONE)
			*code = CONTROL_REFUSED;
		complain(call, *code, "%s", json_string_value(error));
	} else if (length < 0 && errno == EAGAIN) {
		*code = complain(call, CONTROL_REFUSED, "shuntd does not answer on %s", call->socket);
	} else if (length < 0) {
		*code = complain(call, CONTROL_REFUSED, "shuntd closed the connection");
	} else {
		*code = complain(call, CONTROL_REFUSED, "shuntd's answer makes no sense: is it of another version?");
	}
	return NULL;
}

int request_ask(const struct call *call, const char *object, const char *command, json_t *args, json_t **result)
{
	json_t *reply;
	FILE *stream;
	int code = request_send(call, object, command, args, &stream);

	if (code)
		return code;
	*result = json_incref(reply_read(call, stream, &reply, &code));
	json_decref(reply);
	fclose(stream);
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
	struct timeval forever = { 0 };
	json_t *reply, *result;
	FILE *stream;
	int code = request_send(call, object, command, args, &stream);

	if (code)
		return code;
	setsockopt(fileno(stream), SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
	while ((result = reply_read(call, stream, &reply, &code))) {
		call->out->item(result, view);
		json_decref(reply);
		if (ferror(stdout))
			break; /* main() says so */
	}
	if (!result)
		json_decref(reply);
	fclose(stream);
	return code;
}
