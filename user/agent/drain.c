/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * drain.c - see drain.h. The agent only changes its word; the balancers hear of it with their next probe, and send no new
 * connection from then on. What waits is this program: one command for a host's or a container's preStop hook.
 */
#include "agent/drain.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/control.h"
#include "common/clock.h"

#define LOOK_PERIOD_NS 200000000ULL /* between two looks at the connections, chosen */
/*
 * No connection, for so long, before the wait is over: by then every balancer has asked and been told, a connection that
 * one of them opened just before has been seen, and a probe lost on the way has been repeated. Chosen, for intervals of
 * up to a tenth of it.
 */
#define SETTLE_NS 1000000000ULL
#define PROGRESS_PERIOD_NS 1000000000ULL /* between two lines where they don't go to a terminal, chosen */

struct standing {
	char state[16];
	uint64_t connections;
	unsigned vips;
	char more[AGENT_MESSAGE_MAX]; /* the further lines */
};

static volatile sig_atomic_t interrupted; /* by this signal */

static void interrupt(int signal)
{
	interrupted = signal;
}

/* 0, or 1 after a sentence on stderr. */
static int ask(const char *socket, const char *verb, struct standing *s)
{
	char answer[AGENT_MESSAGE_MAX], *more;
	int err = control_ask(socket, verb, answer);

	if (err == -ENOENT || err == -ECONNREFUSED)
		fprintf(stderr, "shunt-agent: no agent runs: nobody answers on %s\n", socket);
	else if (err == -EACCES)
		fprintf(stderr, "shunt-agent: no permission for %s: it is for root\n", socket);
	else if (err)
		fprintf(stderr, "shunt-agent: %s: %s\n", socket, strerror(-err));
	else if (!strncmp(answer, "error ", 6))
		fprintf(stderr, "shunt-agent: %s\n", answer + 6);
	else if (sscanf(answer, "%15s %" SCNu64 " %u", s->state, &s->connections, &s->vips) != 3)
		fprintf(stderr, "shunt-agent: the agent's answer makes no sense: is it of another version?\n");
	else {
		more = strchr(answer, '\n');
		snprintf(s->more, sizeof(s->more), "%s", more ? more + 1 : "");
		return 0;
	}
	return 1;
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "connection" : "connections";
}

static void standing_print(const struct standing *s)
{
	printf("%s, %" PRIu64 " %s\n", s->state, s->connections, plural(s->connections));
}

/* On a terminal one line, written anew; elsewhere a line every now and then. */
static void progress(const struct standing *s, uint64_t now, uint64_t *next_ns)
{
	if (isatty(STDOUT_FILENO))
		printf("\rdraining, %" PRIu64 " %s\033[K", s->connections, plural(s->connections));
	else if (now >= *next_ns)
		standing_print(s);
	else
		return;
	*next_ns = now + PROGRESS_PERIOD_NS;
	fflush(stdout);
}

static void progress_end(void)
{
	if (isatty(STDOUT_FILENO))
		putchar('\n');
	fflush(stdout);
}

/* Until there has been no connection for SETTLE_NS. The exit status. */
static int drain_wait(const struct drain_options *options, struct standing *s)
{
	const struct timespec period = { .tv_nsec = LOOK_PERIOD_NS };
	const struct sigaction action = { .sa_handler = interrupt };
	uint64_t start = monotonic_ns(), now = start, busy_ns = start, next_ns = 0;

	if (!s->vips) {
		fprintf(stderr, "shunt-agent: draining, but the agent knows no VIPs to count the connections of\n");
		return 1;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	for (;;) {
		if (strcmp(s->state, "draining")) {
			progress_end();
			fprintf(stderr, "shunt-agent: put back into service meanwhile\n");
			return 1;
		}
		if (s->connections)
			busy_ns = now;
		progress(s, now, &next_ns);
		if (now - busy_ns >= SETTLE_NS) {
			progress_end();
			puts("drained");
			return 0;
		}
		if (options->deadline_ns && now - start >= options->deadline_ns) {
			progress_end();
			fprintf(stderr, "shunt-agent: the deadline came first: %" PRIu64 " %s left\n", s->connections,
				plural(s->connections));
			return 1;
		}
		if (!interrupted)
			nanosleep(&period, NULL);
		if (interrupted)
			break;
		if (ask(options->socket, "status", s))
			return 1;
		now = monotonic_ns();
	}
	progress_end();
	fprintf(stderr, "shunt-agent: goes on draining, %" PRIu64 " %s left\n", s->connections, plural(s->connections));
	signal(interrupted, SIG_DFL);
	raise(interrupted); /* so that whoever called sees why it ended */
	return 1;
}

int drain_command(const char *verb, const struct drain_options *options)
{
	struct standing s;

	if (strcmp(verb, "drain") && strcmp(verb, "undrain") && strcmp(verb, "status"))
		return 2;
	if (ask(options->socket, verb, &s))
		return 1;
	if (options->wait)
		return drain_wait(options, &s);
	standing_print(&s);
	fputs(s.more, stdout);
	return 0;
}
