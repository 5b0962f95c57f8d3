// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tally.c - notes which of pulse.c's numbered datagrams arrived, and when.
 *
 *   tally ADDRESS PORT FILE
 *
 * It need not own the address yet when it starts (IP_FREEBIND). Prints "ready". SIGTERM ends it: FILE then has a pair of
 * 8 bytes for each datagram in the order of arrival, its number and the time (CLOCK_MONOTONIC, ns).
 */
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <netinet/in.h>

#define ARRIVALS_MAX (1U << 22) /* 4 minutes of 15,000 a second */
#define BUFFER_BYTES (16 << 20) /* what waits while this process has no processor */

struct arrival {
	uint64_t number, at_ns;
};

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

int main(int argc, char **argv)
{
	static const struct sigaction on_term = { .sa_handler = stop }; /* no SA_RESTART: it wakes recv() */
	struct addrinfo hints = { .ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV }, *at;
	struct sched_param priority = { .sched_priority = 30 };
	struct arrival *arrivals = malloc(ARRIVALS_MAX * sizeof(*arrivals));
	int fd, one = 1, size = BUFFER_BYTES;
	size_t n = 0;
	FILE *f;

	if (argc != 4 || !arrivals || getaddrinfo(argv[1], argv[2], &hints, &at)) {
		fprintf(stderr, "usage: tally ADDRESS PORT FILE\n");
		return 2;
	}
	fd = socket(at->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) || bind(fd, at->ai_addr, at->ai_addrlen)) {
		fprintf(stderr, "tally: %s\n", strerror(errno));
		return 1;
	}
	sigaction(SIGTERM, &on_term, NULL);
	if (sched_setscheduler(0, SCHED_FIFO, &priority))
		fprintf(stderr, "tally: no real-time priority: %s\n", strerror(errno));
	printf("ready\n");
	fflush(stdout);
	while (!stopped && n < ARRIVALS_MAX) {
		struct timespec t;
		uint64_t number;

		if (recv(fd, &number, sizeof(number), 0) != sizeof(number))
			continue;
		clock_gettime(CLOCK_MONOTONIC, &t);
		arrivals[n++] = (struct arrival){ number, (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec };
	}
	f = fopen(argv[3], "wb");
	if (!f || fwrite(arrivals, sizeof(*arrivals), n, f) != n || fclose(f)) {
		fprintf(stderr, "tally: %s: %s\n", argv[3], strerror(errno));
		return 1;
	}
	return 0;
}
