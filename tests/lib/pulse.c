// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * pulse.c - a steady beat of numbered datagrams, for timing what happens between two of them, and counting what is lost.
 *
 *   pulse ADDRESS PORT RATE SECONDS SOURCE_PORT...
 *
 * RATE datagrams a second in turn from these source ports, each bears its number (8 bytes, from 0; tally.c), one at each wake-up of a real-time thread that sleeps in
 * between (one that spun would be throttled by the kernel, and its gaps would be mistaken for the balancer's). Ends
 * after SECONDS or at SIGTERM and prints "sent N late_max_us N".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SOURCES_MAX 256
#define NS_PER_S 1000000000ULL

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
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* A socket from this source port to the destination; -1 after a line on stderr. */
static int source_open(const struct addrinfo *to, const char *port)
{
	struct addrinfo hints = { .ai_family = to->ai_family, .ai_socktype = SOCK_DGRAM, .ai_flags = AI_PASSIVE },
			*from;
	int fd = -1;

	if (getaddrinfo(NULL, port, &hints, &from))
		return -1;
	fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, from->ai_addr, from->ai_addrlen) || connect(fd, to->ai_addr, to->ai_addrlen)) {
		fprintf(stderr, "pulse: source port %s: %s\n", port, strerror(errno));
		fd = -1;
	}
	freeaddrinfo(from);
	return fd;
}

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV }, *to;
	struct sched_param priority = { .sched_priority = 40 }; /* below the prober's */
	uint64_t period_ns, next, end, sent = 0, late_max_ns = 0;
	int sockets[SOURCES_MAX], n = 0;

	if (argc < 6 || getaddrinfo(argv[1], argv[2], &hints, &to)) {
		fprintf(stderr, "usage: pulse ADDRESS PORT RATE SECONDS SOURCE_PORT...\n");
		return 2;
	}
	for (int i = 5; i < argc && n < SOURCES_MAX; i++) {
		sockets[n] = source_open(to, argv[i]);
		if (sockets[n++] < 0)
			return 1;
	}
	signal(SIGTERM, stop);
	if (sched_setscheduler(0, SCHED_FIFO, &priority))
		fprintf(stderr, "pulse: no real-time priority: %s\n", strerror(errno));
	period_ns = NS_PER_S / strtoull(argv[3], NULL, 10);
	next = now_ns();
	end = next + strtoull(argv[4], NULL, 10) * NS_PER_S;
	while (!stopped && next < end) {
		struct timespec t;
		uint64_t now;

		t = (struct timespec){ .tv_sec = (time_t)(next / NS_PER_S), .tv_nsec = (long)(next % NS_PER_S) };
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		now = now_ns();
		if (now > next && now - next > late_max_ns) /* SIGTERM wakes it early */
			late_max_ns = now - next;
		/* What was slept through is sent at once, so that the rate holds. A refusal is the far end's business. */
		for (; next <= now; next += period_ns)
			if (send(sockets[sent % (unsigned)n], &sent, sizeof(sent), MSG_DONTWAIT) >= 0 ||
			    errno == ECONNREFUSED)
				sent++;
	}
	printf("sent %" PRIu64 " late_max_us %" PRIu64 "\n", sent, late_max_ns / 1000);
	return 0;
}
