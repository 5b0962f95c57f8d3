// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * coroner.c - when did an engine die, and when would others have noticed? Obeys lines on standard input and answers each
 * with one line. Times are CLOCK_MONOTONIC, ns.
 *
 *   bury PID ADDRESS PORT   sends SIGKILL: "buried NS PIDFD_NS REFUSED_NS": the time just before, when its pidfd became
 *                           readable, and when a connection to its port was first refused. One is tried every
 *                           CONNECT_PERIOD_US, none before the kill; those before the refusal were accepted by the dead
 *   oom                     "oom NS" of the out-of-memory killer's first choice since the last `oom`, 0: none
 *
 * Both watchers run at real-time priority: what is measured is the kernel's delay, not the scheduler's. A watcher gives up
 * after GIVE_UP_MS and answers 0. Run it in the network namespace of the engine.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "coroner.skel.h"

#define CONNECT_PERIOD_US 200
#define GIVE_UP_MS 10000
#define PRIORITY 40 /* below the prober's */
#define NS_PER_MS 1000000ULL

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

struct pidfd_watch {
	int fd;
	uint64_t seen_ns;
};

static void *pidfd_watch(void *arg)
{
	struct pidfd_watch *w = arg;
	struct pollfd p = { .fd = w->fd, .events = POLLIN };

	w->seen_ns = poll(&p, 1, GIVE_UP_MS) == 1 ? now_ns() : 0;
	return NULL;
}

/* Connect until it is refused; the time then. Each connection is reset at once, so that it leaves nothing behind. */
static uint64_t refusal_wait(const struct sockaddr_in *to)
{
	static const struct linger reset = { .l_onoff = 1 };
	static const struct timeval patience = { .tv_sec = 1 };
	uint64_t until = now_ns() + GIVE_UP_MS * NS_PER_MS;

	while (now_ns() < until) {
		int err, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		uint64_t at_ns;

		if (fd < 0)
			return 0;
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)); /* of connect() */
		err = connect(fd, (const void *)to, sizeof(*to)) ? errno : 0;
		at_ns = now_ns();
		close(fd);
		if (err == ECONNREFUSED)
			return at_ns;
		nanosleep(&(struct timespec){ .tv_nsec = CONNECT_PERIOD_US * 1000 }, NULL);
	}
	return 0;
}

static void bury(const char *line)
{
	struct pidfd_watch watch = { 0 };
	struct sockaddr_in to = { .sin_family = AF_INET };
	uint64_t killed_ns, refused_ns;
	char address[INET_ADDRSTRLEN];
	uint16_t port;
	pthread_t thread;
	int pid;

	if (sscanf(line, "%d %15s %" SCNu16, &pid, address, &port) != 3 ||
	    inet_pton(AF_INET, address, &to.sin_addr) != 1) {
		printf("error not a process, an address and a port: %s\n", line);
		return;
	}
	to.sin_port = htons(port);
	watch.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (watch.fd < 0 || pthread_create(&thread, NULL, pidfd_watch, &watch)) {
		printf("error %s\n", strerror(errno));
		return;
	}
	nanosleep(&(struct timespec){ .tv_nsec = 2 * NS_PER_MS }, NULL); /* the thread waits */
	killed_ns = now_ns();
	if (kill(pid, SIGKILL)) {
		printf("error %s\n", strerror(errno));
		exit(1); /* the thread can't be left waiting */
	}
	refused_ns = refusal_wait(&to);
	pthread_join(thread, NULL);
	close(watch.fd);
	printf("buried %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", killed_ns, watch.seen_ns, refused_ns);
}

int main(void)
{
	struct sched_param priority = { .sched_priority = PRIORITY };
	struct coroner_bpf *skel = coroner_bpf__open_and_load();
	volatile uint64_t *chosen_ns;
	char line[256];

	if (!skel || coroner_bpf__attach(skel))
		return 1; /* libbpf said why */
	chosen_ns = mmap(NULL, sizeof(*chosen_ns), PROT_READ | PROT_WRITE, MAP_SHARED,
			 bpf_map__fd(skel->maps.chosen_ns), 0);
	if (chosen_ns == MAP_FAILED || sched_setscheduler(0, SCHED_FIFO, &priority)) {
		fprintf(stderr, "coroner: %s\n", strerror(errno));
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "bury ", 5)) {
			bury(line + 5);
		} else if (!strcmp(line, "oom")) {
			printf("oom %" PRIu64 "\n", *chosen_ns);
			*chosen_ns = 0;
		} else {
			printf("error not understood: %s\n", line);
		}
		fflush(stdout);
	}
	coroner_bpf__destroy(skel);
	return 0;
}
