// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * flood.c - what an attacker who can spoof sends in masses: SYNs from addresses that nobody has, or frames of his choice.
 *
 *   flood INTERFACE COUNT RATE GATEWAY_MAC VIP PORT
 *   flood INTERFACE COUNT RATE < FRAMES
 *
 * COUNT frames out of INTERFACE, RATE a second (0: as fast as they leave). SYNs go to GATEWAY_MAC, and each is of a flow of
 * its own: sources count through 198.18.0.0/15 (RFC 2544, C.2.2: for benches, routed nowhere), ports and sequence numbers
 * are scattered; IPv4. FRAMES are whole Ethernet frames in hex, one a line, and are sent in turn. Prints "sent N ms MS". A
 * frame that the interface refuses is sent again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ULL
#define BATCH 64
#define FRAMES_MAX 4096
#define FRAME_BYTES_MAX 256
#define SOURCES 0xc6120000u /* 198.18.0.0 */
#define SOURCES_MASK 0x1ffffu /* /15 */

struct frame {
	struct ethhdr eth;
	struct iphdr ip;
	struct tcphdr tcp;
	uint8_t mss[4]; /* as every real SYN has (RFC 9293 3.7.1) */
} __attribute__((packed));

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Ones' complement sum of an even number of bytes, not yet folded (RFC 1071). */
static uint64_t sum(const void *bytes, size_t n)
{
	const uint8_t *b = bytes;
	uint64_t s = 0;

	for (size_t i = 0; i < n; i += 2)
		s += (uint64_t)b[i] << 8 | b[i + 1];
	return s;
}

static uint16_t check(uint64_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return htons((uint16_t)~s);
}

/* The n-th SYN. */
static void frame_fill(struct frame *f, uint64_t n)
{
	uint32_t scattered =
		(uint32_t)(n * 0x9e3779b97f4a7c15ULL >> 32); /* Knuth, TAOCP 3, 6.4: multiplicative hashing */

	f->ip.saddr = htonl(SOURCES | ((uint32_t)n & SOURCES_MASK));
	f->tcp.source = htons((uint16_t)(1024 + n / (SOURCES_MASK + 1) * 509 % 60000));
	f->tcp.seq = htonl(scattered);
	f->ip.check = 0;
	f->ip.check = check(sum(&f->ip, sizeof(f->ip)));
	f->tcp.check = 0;
	f->tcp.check = check(sum(&f->ip.saddr, 8) + IPPROTO_TCP + sizeof(f->tcp) + sizeof(f->mss) +
			     sum(&f->tcp, sizeof(f->tcp) + sizeof(f->mss)));
}

static void frame_prepare(struct frame *f, const uint8_t *mac, struct in_addr vip, uint16_t port)
{
	*f = (struct frame){
		.eth.h_source = { 2, 0, 0, 0, 0, 1 },
		.eth.h_proto = htons(ETH_P_IP),
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP, .frag_off = htons(IP_DF) },
		.tcp = { .syn = 1, .window = htons(64240), .doff = 6 },
		.mss = { 2, 4, 1460 >> 8, 1460 & 0xff },
	};
	memcpy(f->eth.h_dest, mac, ETH_ALEN);
	f->ip.tot_len = htons(sizeof(*f) - sizeof(f->eth));
	f->ip.daddr = vip.s_addr;
	f->tcp.dest = htons(port);
}

/* The frames of standard input. */
struct stock {
	uint8_t bytes[FRAMES_MAX][FRAME_BYTES_MAX];
	size_t size[FRAMES_MAX], n;
};

static int stock_read(struct stock *s)
{
	char line[2 * FRAME_BYTES_MAX + 2];

	for (; s->n < FRAMES_MAX && fgets(line, sizeof(line), stdin); s->n++) {
		unsigned byte;

		for (size_t i = 0; sscanf(line + 2 * i, "%2x", &byte) == 1; i++) {
			s->bytes[s->n][i] = (uint8_t)byte;
			s->size[s->n] = i + 1;
		}
	}
	return s->n ? 0 : -1;
}

int main(int argc, char **argv)
{
	static struct frame frames[BATCH];
	static struct stock stock;
	struct mmsghdr messages[BATCH] = { 0 };
	struct iovec parts[BATCH];
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_halen = ETH_ALEN };
	uint64_t count, rate, sent = 0, begun;
	struct in_addr vip;
	unsigned mac[6];
	uint8_t gateway[6];
	int fd, on = 1;

	if (!(argc == 4 && !stock_read(&stock)) &&
	    !(argc == 7 &&
	      sscanf(argv[4], "%x:%x:%x:%x:%x:%x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]) == 6 &&
	      inet_pton(AF_INET, argv[5], &vip) == 1)) {
		fprintf(stderr, "usage: flood INTERFACE COUNT RATE [GATEWAY_MAC VIP PORT] [< FRAMES]\n");
		return 2;
	}
	for (int i = 0; argc == 7 && i < 6; i++)
		gateway[i] = (uint8_t)mac[i];
	count = strtoull(argv[2], NULL, 10);
	rate = strtoull(argv[3], NULL, 10);
	to.sll_ifindex = (int)if_nametoindex(argv[1]);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0 || !to.sll_ifindex || setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) ||
	    bind(fd, (void *)&to, sizeof(to))) {
		fprintf(stderr, "flood: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	for (int i = 0; i < BATCH; i++) {
		if (argc == 7)
			frame_prepare(&frames[i], gateway, vip, (uint16_t)strtoul(argv[6], NULL, 10));
		parts[i] = (struct iovec){ &frames[i], sizeof(frames[i]) };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
	}
	begun = now_ns();
	while (sent < count) {
		unsigned n = count - sent < BATCH ? (unsigned)(count - sent) : BATCH;
		int done;

		while (rate && sent * NS_PER_S / rate > now_ns() - begun)
			nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
		for (unsigned i = 0; i < n; i++) {
			size_t k = stock.n ? (sent + i) % stock.n : 0;

			if (argc == 7)
				frame_fill(&frames[i], sent + i);
			else
				parts[i] = (struct iovec){ stock.bytes[k], stock.size[k] };
		}
		done = sendmmsg(fd, messages, n, 0);
		if (done < 0 && errno != ENOBUFS && errno != EAGAIN) {
			fprintf(stderr, "flood: %s\n", strerror(errno));
			return 1;
		}
		sent += done > 0 ? (uint64_t)done : 0;
	}
	printf("sent %" PRIu64 " ms %" PRIu64 "\n", sent, (now_ns() - begun) / 1000000);
	return 0;
}
