// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * swarm.c - thousands of TCP clients of one service in one process, and what became of each. The service is server.c.
 *
 *   swarm ADDRESS PORT
 *
 * Obeys lines on standard input and answers each with one line, `report` with more. Times are CLOCK_MONOTONIC, ns.
 *
 *   open read 0 WINDOW SOURCE...        one connection from each SOURCE ("ADDRESS PORT" with a comma in between), at most WINDOW
 *                                       being set up at a time: asks for a stream, then only reads. "group G" at once
 *   open echo PERIOD_MS WINDOW SOURCE.. the same, but each sends a numbered line every PERIOD_MS and expects it back
 *   count G                             "count SETTING_UP OPEN ENDED LATE": LATE ones are open and wait for a line to come back
 *                                       since more than LATE_NS
 *   report G                            "report N", then a line for each of N connections:
 *                                       ADDRESS,PORT BACKEND STATE OPENED_NS CONNECTED_NS ENDED_NS LINES
 *   close G rst|fin                     ends what is open of the group: "closed N"
 *
 * STATE: setting-up, open, closed (by us), EOF, or the error's name (ECONNRESET, ETIMEDOUT, ...; EPROTO: a wrong line came
 * back). A connection is open when the service has told its name, BACKEND ("-": not yet). Ends at the end of input.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS 1000000ULL
#define LATE_NS (3000 * NS_PER_MS) /* longer than two retransmissions */
#define GROUPS_MAX 256
#define EVENTS 256
#define LINE_MAX_BYTES (4U << 20) /* of a command */

enum state { WAITING, SETTING_UP, OPEN, CLOSED, ENDED };

struct connection {
	struct sockaddr_storage source;
	int fd, group;
	enum state state;
	int error; /* ENDED: 0 is EOF */
	struct connection *next; /* in to_close */
	char backend[64], line[64]; /* line: received so far */
	unsigned n_line;
	uint64_t opened_ns, connected_ns, ended_ns, sent_ns; /* sent_ns: of the line not yet back; 0: none */
	uint32_t lines; /* echo: came back; read: came */
};

struct group {
	struct connection *connections;
	size_t n, next, cursor; /* next to be opened; next to send a line */
	size_t window, setting_up, open, ended;
	uint64_t period_ns; /* 0: readers */
	uint64_t paced_ns; /* lines were sent up to this moment */
};

static struct group groups[GROUPS_MAX];
static int n_groups, poll_fd;
static struct connection
	*to_close; /* ended; closed when nothing else is to be done, so that no other end is seen late */
static struct sockaddr_storage service;
static char command[LINE_MAX_BYTES];
static size_t n_command;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 * NS_PER_MS + (uint64_t)t.tv_nsec;
}

/* 0 or -EINVAL. */
static int address_read(struct sockaddr_storage *out, const char *address, unsigned port)
{
	struct sockaddr_in *v4 = (void *)out;
	struct sockaddr_in6 *v6 = (void *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		return 0;
	}
	if (inet_pton(AF_INET6, address, &v6->sin6_addr) != 1)
		return -EINVAL;
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)port);
	return 0;
}

static socklen_t address_bytes(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* The connection leaves the counts it is in and gets its last state. */
static void finish(struct connection *c, enum state state, int error)
{
	struct group *g = &groups[c->group];

	c->ended_ns = now_ns();
	if (c->state == OPEN)
		g->open--;
	else
		g->setting_up--;
	g->ended++;
	c->state = state;
	c->error = error;
	if (state == CLOSED) {
		close(c->fd);
		return;
	}
	c->next = to_close;
	to_close = c;
}

static void close_ended(void)
{
	for (; to_close; to_close = to_close->next)
		close(to_close->fd);
}

static void begin(struct connection *c)
{
	struct group *g = &groups[c->group];
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
	int on = 1;

	c->state = SETTING_UP;
	g->setting_up++;
	c->fd = socket(service.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	c->opened_ns = now_ns();
	if (c->fd < 0 || setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(c->fd, (void *)&c->source, address_bytes(&c->source)) ||
	    (connect(c->fd, (void *)&service, address_bytes(&service)) && errno != EINPROGRESS) ||
	    epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event))
		finish(c, ENDED, errno);
}

/* A whole line has come. */
static int take_line(struct connection *c)
{
	struct group *g = &groups[c->group];
	char expected[24];

	if (c->state == SETTING_UP) {
		memcpy(c->backend, c->line, sizeof(c->backend));
		c->state = OPEN;
		g->setting_up--;
		g->open++;
		return 0;
	}
	snprintf(expected, sizeof(expected), "%" PRIu32, c->lines);
	if (g->period_ns && (!c->sent_ns || strcmp(expected, c->line)))
		return -EPROTO;
	c->sent_ns = 0;
	c->lines++;
	return 0;
}

static void receive(struct connection *c)
{
	char bytes[512];
	ssize_t n;

	while ((n = recv(c->fd, bytes, sizeof(bytes), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			c->line[c->n_line] = bytes[i] == '\n' ? 0 : bytes[i];
			if (bytes[i] != '\n' && ++c->n_line < sizeof(c->line))
				continue;
			if (c->n_line == sizeof(c->line) || take_line(c)) {
				finish(c, ENDED, EPROTO);
				return;
			}
			c->n_line = 0;
		}
	}
	if (n == 0 || errno != EAGAIN)
		finish(c, ENDED, n == 0 ? 0 : errno);
}

static void handle(struct connection *c, uint32_t events)
{
	if (c->state == ENDED)
		return;
	if (c->state == SETTING_UP && !c->connected_ns && events & EPOLLOUT && !(events & (EPOLLERR | EPOLLHUP))) {
		c->connected_ns = now_ns();
		if (!groups[c->group].period_ns && send(c->fd, "read\n", 5, MSG_NOSIGNAL) < 0) {
			finish(c, ENDED, errno);
			return;
		}
	}
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		receive(c);
}

/* The lines of an echo group that are due by now: one a connection each period, spread over it. */
static void pace(struct group *g)
{
	uint64_t now = now_ns(), due;

	if (!g->period_ns || !g->open)
		return;
	due = (now - g->paced_ns) * g->n / g->period_ns;
	if (!due)
		return;
	g->paced_ns = now;
	for (uint64_t i = 0; i < due && i < g->n; i++) {
		struct connection *c = &g->connections[g->cursor++ % g->n];
		char line[24];
		int n;

		if (c->state != OPEN || c->sent_ns)
			continue;
		n = snprintf(line, sizeof(line), "%" PRIu32 "\n", c->lines);
		c->sent_ns = now;
		if (send(c->fd, line, (size_t)n, MSG_NOSIGNAL) < 0)
			finish(c, ENDED, errno);
	}
}

static void run_groups(void)
{
	for (int i = 0; i < n_groups; i++) {
		struct group *g = &groups[i];

		while (g->next < g->n && g->setting_up < g->window)
			begin(&g->connections[g->next++]);
		pace(g);
	}
}

static const char *group_open(char *words)
{
	char *kind = strsep(&words, " "), *period = strsep(&words, " "), *window = strsep(&words, " "), *word;
	struct group *g = &groups[n_groups];
	size_t n = 1;

	if (!kind || !period || !window || !words || (strcmp(kind, "read") && strcmp(kind, "echo")))
		return "not understood";
	if (n_groups == GROUPS_MAX)
		return "too many groups";
	for (const char *p = words; *p; p++)
		n += *p == ' ';
	*g = (struct group){ .connections = calloc(n, sizeof(*g->connections)),
			     .window = strtoul(window, NULL, 10),
			     .period_ns = !strcmp(kind, "echo") ? strtoull(period, NULL, 10) * NS_PER_MS : 0,
			     .paced_ns = now_ns() };
	if (!g->connections)
		return "no memory";
	while ((word = strsep(&words, " "))) {
		char *address = strsep(&word, ",");
		struct connection *c = &g->connections[g->n++];

		*c = (struct connection){ .group = n_groups, .backend = "-" };
		if (!word || address_read(&c->source, address, (unsigned)strtoul(word, NULL, 10))) {
			free(g->connections);
			return "not a source";
		}
	}
	printf("group %d\n", n_groups++);
	return NULL;
}

static void group_count(const struct group *g)
{
	uint64_t before = now_ns() - LATE_NS;
	size_t late = 0;

	for (size_t i = 0; i < g->n; i++)
		late += g->connections[i].state == OPEN && g->connections[i].sent_ns &&
			g->connections[i].sent_ns < before;
	printf("count %zu %zu %zu %zu\n", g->n - g->open - g->ended, g->open, g->ended, late);
}

static void group_report(const struct group *g)
{
	static const char *const names[] = { "setting-up", "setting-up", "open", "closed" };

	printf("report %zu\n", g->n);
	for (size_t i = 0; i < g->n; i++) {
		const struct connection *c = &g->connections[i];
		const struct sockaddr_in6 *v6 = (const void *)&c->source; /* the port is in the same place in both */
		char address[INET6_ADDRSTRLEN];

		inet_ntop(c->source.ss_family,
			  c->source.ss_family == AF_INET ? (const void *)&((const struct sockaddr_in *)v6)->sin_addr
							 : (const void *)&v6->sin6_addr,
			  address, sizeof(address));
		printf("%s,%u %s %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu32 "\n", address, ntohs(v6->sin6_port),
		       c->backend,
		       c->state != ENDED ? names[c->state]
		       : !c->error       ? "EOF"
					 : strerrorname_np(c->error),
		       c->opened_ns, c->connected_ns, c->ended_ns, c->lines);
	}
}

static void group_close(struct group *g, bool rst)
{
	struct linger at_once = { .l_onoff = 1 };
	size_t n = 0;

	g->n = g->next; /* no more are opened */
	for (size_t i = 0; i < g->n; i++) {
		struct connection *c = &g->connections[i];

		if (c->state != OPEN && c->state != SETTING_UP)
			continue;
		if (rst)
			setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		finish(c, CLOSED, 0);
		n++;
	}
	printf("closed %zu\n", n);
}

static void obey(char *line)
{
	char *verb = strsep(&line, " "), *word;
	const char *why = "not understood";
	struct group *g;

	if (!strcmp(verb, "open") && line) {
		why = group_open(line);
		if (why)
			printf("error %s\n", why);
		return;
	}
	word = line ? strsep(&line, " ") : NULL;
	if (!word || strtol(word, NULL, 10) >= n_groups) {
		printf("error no such group\n");
		return;
	}
	g = &groups[strtol(word, NULL, 10)];
	if (!strcmp(verb, "count"))
		group_count(g);
	else if (!strcmp(verb, "report"))
		group_report(g);
	else if (!strcmp(verb, "close") && line)
		group_close(g, !strcmp(line, "rst"));
	else
		printf("error %s\n", why);
}

/* What has come on standard input; false at its end. */
static bool input(void)
{
	ssize_t n = read(STDIN_FILENO, command + n_command, sizeof(command) - n_command);
	char *end;

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	n_command += (size_t)n;
	while ((end = memchr(command, '\n', n_command))) {
		size_t used = (size_t)(end - command) + 1;

		*end = 0;
		obey(command);
		fflush(stdout);
		n_command -= used;
		memmove(command, command + used, n_command);
	}
	return n_command < sizeof(command);
}

int main(int argc, char **argv)
{
	struct rlimit files;
	struct epoll_event events[EVENTS], event = { .events = EPOLLIN };
	bool go_on = true;

	if (argc != 3 || address_read(&service, argv[1], (unsigned)strtoul(argv[2], NULL, 10))) {
		fprintf(stderr, "usage: swarm ADDRESS PORT\n");
		return 2;
	}
	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (poll_fd < 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event)) {
		fprintf(stderr, "swarm: can't start: %s\n", strerror(errno));
		return 1;
	}
	while (go_on) {
		int n = epoll_wait(poll_fd, events, EVENTS, 2);

		if (!n)
			close_ended();
		for (int i = 0; i < n && go_on; i++) {
			if (events[i].data.ptr)
				handle(events[i].data.ptr, events[i].events);
			else
				go_on = input();
		}
		run_groups();
	}
	return 0;
}
