// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * server.c - a backend's service for swarm.c: holds ten thousand connections in one process.
 *
 *   server NAME TICK_MS ADDRESS:PORT...      e.g. server gpu1 5000 203.0.113.10:80 [2001:db8:ff::10]:80
 *
 * Sends NAME and a newline to whoever connects. A first line "read" makes the peer a reader: it gets a line "tick" every
 * TICK_MS, as a stream of tokens would give it. Everything else is sent back as it came. It need not own the addresses
 * yet when it starts (IP_FREEBIND). Prints "ready" when it listens. SIGTERM ends it as a power cut does: its connections
 * are forgotten, with a RST each at most.
 */
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <netinet/in.h>

#define NS_PER_MS 1000000ULL
#define EVENTS 256
#define BACKLOG 4096

enum role { NOBODY, LISTENER, NEW, READER, ECHO };

static uint8_t *roles; /* by descriptor */
static int fd_end, fds_max; /* descriptors in use are below fd_end, possible ones below fds_max */
static int poll_fd;
static char greeting[66];
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 * NS_PER_MS + (uint64_t)t.tv_nsec;
}

static int watch(int fd, enum role role)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (fd >= fds_max)
		return -EMFILE;
	if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event))
		return -errno;
	roles[fd] = role;
	fd_end = fd >= fd_end ? fd + 1 : fd_end;
	return 0;
}

static void drop(int fd)
{
	roles[fd] = NOBODY;
	close(fd);
}

/* "ADDRESS:PORT", IPv6 in brackets. 0 or -errno. */
static int listen_at(char *place)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV }, *to;
	char *port = strrchr(place, ':'), *address = place;
	int fd, on = 1, err = 0;

	if (!port)
		return -EINVAL;
	*port++ = 0;
	if (*address == '[') {
		address++;
		address[strcspn(address, "]")] = 0;
	}
	if (getaddrinfo(address, port, &hints, &to))
		return -EINVAL;
	fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(fd, to->ai_family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP,
		       to->ai_family == AF_INET6 ? IPV6_FREEBIND : IP_FREEBIND, &on, sizeof(on)) ||
	    bind(fd, to->ai_addr, to->ai_addrlen) || listen(fd, BACKLOG))
		err = -errno;
	freeaddrinfo(to);
	return err ? err : watch(fd, LISTENER);
}

static void forget_all(void)
{
	struct linger at_once = { .l_onoff = 1 };

	for (int fd = 0; fd < fd_end; fd++)
		if (roles[fd] != NOBODY && roles[fd] != LISTENER)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

static void take_all(int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		if (watch(fd, NEW))
			close(fd);
		else if (send(fd, greeting, strlen(greeting), MSG_NOSIGNAL) < 0)
			drop(fd);
	}
}

static void serve(int fd)
{
	char bytes[4096];
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		drop(fd);
		return;
	}
	if (roles[fd] == NEW && n >= 5 && !memcmp(bytes, "read\n", 5)) {
		roles[fd] = READER;
		return;
	}
	roles[fd] = roles[fd] == NEW ? ECHO : roles[fd];
	if (roles[fd] == ECHO && send(fd, bytes, (size_t)n, MSG_NOSIGNAL) < 0)
		drop(fd);
}

/* A line for each reader once in tick_ns, spread over it; *cursor goes round the descriptors. Returns ms to sleep. */
static int tick(uint64_t tick_ns, uint64_t *last_ns, int *cursor)
{
	uint64_t now = now_ns(), share = (now - *last_ns) * (uint64_t)fd_end / tick_ns;

	if (!share)
		return 10;
	*last_ns = now;
	for (uint64_t i = 0; i < share && i < (uint64_t)fd_end; i++) {
		*cursor = (*cursor + 1) % fd_end;
		if (roles[*cursor] == READER)
			send(*cursor, "tick\n", 5, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	return 10;
}

int main(int argc, char **argv)
{
	struct rlimit files;
	struct epoll_event events[EVENTS];
	uint64_t tick_ns, last_ns = now_ns();
	int cursor = 0, err;

	if (argc < 4) {
		fprintf(stderr, "usage: server NAME TICK_MS ADDRESS:PORT...\n");
		return 2;
	}
	snprintf(greeting, sizeof(greeting), "%.64s\n", argv[1]);
	tick_ns = strtoull(argv[2], NULL, 10) * NS_PER_MS;
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		fds_max = setrlimit(RLIMIT_NOFILE, &files) ? 0 : (int)files.rlim_max;
		roles = calloc(files.rlim_max, 1);
	}
	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!tick_ns || !fds_max || !roles || poll_fd < 0) {
		fprintf(stderr, "server: can't start: %s\n", strerror(errno));
		return 1;
	}
	for (int i = 3; i < argc; i++) {
		err = listen_at(argv[i]);
		if (err) {
			fprintf(stderr, "server: %s: %s\n", argv[i], strerror(-err));
			return 1;
		}
	}
	signal(SIGTERM, stop);
	printf("ready\n");
	fflush(stdout);
	while (!stopped) {
		int n = epoll_wait(poll_fd, events, EVENTS, tick(tick_ns, &last_ns, &cursor));

		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;

			if (roles[fd] == LISTENER)
				take_all(fd);
			else
				serve(fd);
		}
	}
	forget_all();
	return 0;
}
