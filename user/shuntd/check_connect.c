// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * check_connect.c - `tcp`: a connection can be opened. Not a byte is sent, and the connection is reset, so that nothing
 * of it is left on either side.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "shuntd/check_kind.h"

static void connect_end(struct check *k)
{
	if (k->connect_fd >= 0)
		close(k->connect_fd); /* epoll forgets it */
	k->connect_fd = -1;
}

/* What connect(2) came to: 0, or an errno. */
static void connect_outcome(struct check *k, int error, uint64_t now_ns)
{
	char text[64];

	connect_end(k);
	if (!error) {
		snprintf(text, sizeof(text), "connected in %llu us",
			 (unsigned long long)((now_ns - k->series.sent_ns + 500) / 1000));
		series_end(k, OUTCOME_GOOD, now_ns, text);
	} else if (error == ECONNREFUSED) {
		series_end(k, OUTCOME_REFUSED, now_ns, "refused");
	} else {
		series_end(k, OUTCOME_SILENT, now_ns, error == ETIMEDOUT ? "no answer" : strerror(error));
	}
}

/* The kernel couldn't even begin: that isn't the backend's fault. */
static void connect_failed(struct check *k, int error, uint64_t now_ns)
{
	char text[80];

	connect_end(k);
	snprintf(text, sizeof(text), "not asked: %s", strerror(error));
	series_end(k, OUTCOME_NOT_ASKED, now_ns, text);
}

static void connect_begin(struct check *k, uint64_t now_ns)
{
	const struct linger reset = { .l_onoff = 1 };
	struct sockaddr_storage to;
	socklen_t size = check_address(k, k->of.check.port, &to);
	int err;

	series_begin(k, now_ns);
	k->connect_fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (k->connect_fd < 0 || setsockopt(k->connect_fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset))) {
		connect_failed(k, errno, now_ns);
		return;
	}
	err = connect(k->connect_fd, (struct sockaddr *)&to, size) ? errno : 0;
	if (!err || err == ECONNREFUSED) {
		connect_outcome(k, err, monotonic_ns());
		return;
	}
	if (err == EINPROGRESS)
		err = -checker_watch(k->checker, k->connect_fd, SOURCE_CONNECT, k->of.id, EPOLLOUT);
	if (err)
		connect_failed(k, err, now_ns);
}

void check_connect_ready(struct check *k, uint64_t now_ns)
{
	socklen_t size = sizeof(int);
	int error = 0;

	if (k->connect_fd < 0)
		return;
	if (getsockopt(k->connect_fd, SOL_SOCKET, SO_ERROR, &error, &size))
		error = errno;
	connect_outcome(k, error, now_ns);
	check_wake(k);
}

static int connect_open(struct check *k, uint64_t now_ns, const char **why)
{
	(void)now_ns;
	(void)why;
	k->connect_fd = -1;
	return 0;
}

static uint64_t connect_run(struct check *k, uint64_t now_ns)
{
	if (k->connect_fd >= 0 && now_ns >= k->series.sent_ns + k->of.check.timeout_ns)
		connect_outcome(k, ETIMEDOUT, now_ns);
	if (k->connect_fd < 0 && now_ns >= k->series.next_ns)
		connect_begin(k, now_ns);
	return k->connect_fd >= 0 ? k->series.sent_ns + k->of.check.timeout_ns : k->series.next_ns;
}

const struct check_kind check_connect = {
	.open = connect_open,
	.close = connect_end,
	.run = connect_run,
	.late = series_late,
	.pardon = series_pardon,
	.gap_ns = series_gap_ns,
	.describe = series_describe,
};
