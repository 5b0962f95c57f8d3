// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * delay.c - a cable whose length can be changed: carries frames between two interfaces, at first without delay.
 *
 *   delay ONE OTHER
 *
 * For kernels without netem. Both interfaces belong to it: what they receive is for nobody else. Frames keep their order;
 * what comes while QUEUE of them are under way is dropped, and counted. Prints "ready" when it carries, then obeys lines
 * on standard input, and ends with it:
 *
 *   delay US            frames that come from now on arrive so much later: "delayed NS", CLOCK_MONOTONIC
 *   count               "carried N dropped N late_max_us N", late: sent so much after it was due
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define QUEUE 4096 /* frames under way in each direction */
#define FRAME_MAX 2048
#define PRIORITY 45 /* SCHED_FIFO, below the prober's: a cable isn't late */
#define RECEIVE_BYTES (8 << 20)

struct frame {
	uint64_t due_ns;
	uint32_t n_bytes;
	uint8_t bytes[FRAME_MAX];
};

struct way {
	int from, to;
	uint64_t head, tail; /* frames head .. tail - 1 are under way */
	struct frame *frames;
};

static uint64_t delay_ns, carried, dropped, late_max_ns;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static int port_open(const char *interface)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET,
				  .sll_protocol = htobe16(ETH_P_ALL),
				  .sll_ifindex = (int)if_nametoindex(interface) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, bytes = RECEIVE_BYTES;

	if (fd < 0 || !at.sll_ifindex || setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) || bind(fd, (void *)&at, sizeof(at))) {
		fprintf(stderr, "delay: %s: %s\n", interface, strerror(errno));
		return -1;
	}
	return fd;
}

static void way_receive(struct way *w)
{
	for (;;) {
		struct frame *f = &w->frames[w->tail % QUEUE];
		ssize_t n = recv(w->from, f->bytes, sizeof(f->bytes), 0);

		if (n <= 0)
			return;
		if (w->tail - w->head == QUEUE - 1) {
			dropped++;
			continue;
		}
		f->n_bytes = (uint32_t)n;
		f->due_ns = now_ns() + delay_ns;
		w->tail++;
	}
}

/* Send what is due; when the next one is. */
static uint64_t way_send(struct way *w)
{
	while (w->head != w->tail) {
		const struct frame *f = &w->frames[w->head % QUEUE];
		uint64_t now = now_ns();

		if (f->due_ns > now)
			return f->due_ns;
		if (now - f->due_ns > late_max_ns)
			late_max_ns = now - f->due_ns;
		if (send(w->to, f->bytes, f->n_bytes, 0) == (ssize_t)f->n_bytes)
			carried++;
		else
			dropped++;
		w->head++;
	}
	return UINT64_MAX;
}

/* One line; false: there are no more. */
static bool obey(void)
{
	char line[64];
	unsigned us;

	if (!fgets(line, sizeof(line), stdin))
		return false;
	if (sscanf(line, "delay %u", &us) == 1) {
		delay_ns = us * 1000ULL;
		printf("delayed %" PRIu64 "\n", now_ns());
	} else {
		printf("carried %" PRIu64 " dropped %" PRIu64 " late_max_us %" PRIu64 "\n", carried, dropped,
		       late_max_ns / 1000);
	}
	fflush(stdout);
	return true;
}

int main(int argc, char **argv)
{
	struct sched_param priority = { .sched_priority = PRIORITY };
	struct way ways[2] = { 0 };
	struct pollfd polled[3] = { [2] = { .fd = STDIN_FILENO, .events = POLLIN } };

	if (argc != 3) {
		fprintf(stderr, "usage: delay ONE OTHER\n");
		return 2;
	}
	ways[0].from = ways[1].to = port_open(argv[1]);
	ways[0].to = ways[1].from = port_open(argv[2]);
	for (int i = 0; i < 2; i++) {
		ways[i].frames = calloc(QUEUE, sizeof(*ways[i].frames));
		if (ways[i].from < 0 || !ways[i].frames)
			return 1;
		polled[i] = (struct pollfd){ .fd = ways[i].from, .events = POLLIN };
	}
	if (sched_setscheduler(0, SCHED_FIFO, &priority))
		fprintf(stderr, "delay: no real-time priority: %s\n", strerror(errno));
	setvbuf(stdin, NULL, _IONBF, 0); /* or poll() would miss lines */
	printf("ready\n");
	fflush(stdout);
	do {
		uint64_t due = way_send(&ways[0]), other = way_send(&ways[1]), now = now_ns();
		struct timespec wait = { 0 };

		due = due < other ? due : other;
		if (due > now)
			wait.tv_nsec = due - now < 100000000 ? (long)(due - now) : 100000000;
		polled[2].revents = 0;
		ppoll(polled, 3, &wait, NULL);
		way_receive(&ways[0]);
		way_receive(&ways[1]);
	} while (!polled[2].revents || obey());
	return 0;
}
