/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * outlet.c - see outlet.h. Two batches, one a family; a socket's buffer that is full keeps its batch for the next flush.
 */
#include "shuntd/outlet.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/config.h"
#include "core/segment.h"

#define BATCH 64
#define SEND_BUFFER_BYTES (32 << 20) /* chosen: 80,000 segments, should their neighbours be slow to answer */

struct batch {
	int fd; /* -1: the kernel doesn't know this family, so there is no client of it */
	unsigned n, n_sent;
	struct mmsghdr messages[BATCH];
	struct iovec bytes[BATCH];
	union {
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} to[BATCH];
	uint8_t segments[BATCH][SEGMENT_BYTES_MAX];
};

struct outlet {
	struct batch v4, v6;
	uint64_t random;
	uint64_t n_failed;
};

static int batch_open(struct batch *b, int family)
{
	int size = SEND_BUFFER_BYTES;

	/* IPPROTO_RAW takes packets with their IP header, in both families (raw(7), ipv6(7)). */
	b->fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (b->fd < 0)
		return errno == EAFNOSUPPORT ? 0 : -errno;
	if (setsockopt(b->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)))
		setsockopt(b->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	for (unsigned i = 0; i < BATCH; i++) {
		b->bytes[i].iov_base = b->segments[i];
		b->messages[i].msg_hdr = (struct msghdr){
			.msg_name = &b->to[i],
			.msg_namelen = family == AF_INET ? sizeof(b->to[i].v4) : sizeof(b->to[i].v6),
			.msg_iov = &b->bytes[i],
			.msg_iovlen = 1,
		};
	}
	return 0;
}

static bool batch_flush(struct outlet *o, struct batch *b)
{
	while (b->n_sent < b->n) {
		int n = sendmmsg(b->fd, b->messages + b->n_sent, b->n - b->n_sent, MSG_DONTWAIT);

		if (n > 0) {
			b->n_sent += (unsigned)n;
		} else if (errno == EAGAIN || errno == ENOBUFS) {
			return false;
		} else if (errno != EINTR) {
			b->n_sent++; /* this one's client can't be reached; the others' can */
			o->n_failed++;
		}
	}
	b->n = b->n_sent = 0;
	return true;
}

bool outlet_flush(struct outlet *o)
{
	bool v4 = batch_flush(o, &o->v4), v6 = batch_flush(o, &o->v6);

	return v4 && v6;
}

bool outlet_has_room(struct outlet *o)
{
	return (o->v4.n + 2 <= BATCH || batch_flush(o, &o->v4)) && (o->v6.n + 2 <= BATCH || batch_flush(o, &o->v6));
}

/* The segment's place in its batch; writes whom it goes to. */
static unsigned outlet_take(struct outlet *o, const struct flow *f, struct batch **batch)
{
	bool v4 = address_is_v4(&f->key.vip);
	struct batch *b = v4 ? &o->v4 : &o->v6;
	unsigned i = b->n++;

	*batch = b;
	if (v4) {
		b->to[i].v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = f->key.client.w[3] };
		return i;
	}
	b->to[i].v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6 };
	memcpy(&b->to[i].v6.sin6_addr, &f->key.client, sizeof(f->key.client));
	if (IN6_IS_ADDR_LINKLOCAL(&b->to[i].v6.sin6_addr))
		b->to[i].v6.sin6_scope_id = f->ingress_ifindex;
	return i;
}

/* Sequence numbers to draw: xorshift64 (Marsaglia, "Xorshift RNGs", 2003). Only that they differ matters. */
static uint32_t outlet_draw(struct outlet *o)
{
	o->random ^= o->random << 13;
	o->random ^= o->random >> 7;
	o->random ^= o->random << 17;
	return (uint32_t)(o->random >> 32);
}

void outlet_challenge(struct outlet *o, const struct flow *f)
{
	struct batch *b;
	unsigned i = outlet_take(o, f, &b);

	b->bytes[i].iov_len = segment_challenge(b->segments[i], f, outlet_draw(o));
}

void outlet_refuse(struct outlet *o, const struct flow *f)
{
	struct batch *b;
	unsigned i = outlet_take(o, f, &b);

	b->bytes[i].iov_len = segment_refuse(b->segments[i], f);
}

uint64_t outlet_failed(const struct outlet *o)
{
	return o->n_failed;
}

int outlet_open(struct outlet **out)
{
	struct outlet *o = calloc(1, sizeof(*o));
	int err;

	if (!o)
		return -ENOMEM;
	o->v4.fd = o->v6.fd = -1;
	err = batch_open(&o->v4, AF_INET);
	if (!err)
		err = batch_open(&o->v6, AF_INET6);
	if (!err && getrandom(&o->random, sizeof(o->random), 0) != sizeof(o->random))
		err = -EIO;
	o->random |= 1; /* xorshift stays at 0 for ever */
	if (err)
		outlet_close(o);
	else
		*out = o;
	return err;
}

void outlet_close(struct outlet *o)
{
	if (!o)
		return;
	if (o->v4.fd >= 0)
		close(o->v4.fd);
	if (o->v6.fd >= 0)
		close(o->v6.fd);
	free(o);
}
