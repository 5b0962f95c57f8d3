// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * check_bfd.c - `bfd`: a session of core/bfd.h with the backend's own BFD daemon, and what its end means.
 *
 * The session follows RFC 5880 whatever we think of it. That it fell is one thing, whose fault it was another: silence
 * needs a witness, and a peer that doesn't hear us may be right. A session that fell without a verdict has RECOVER_NS to
 * come up again.
 */
#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "core/config.h"
#include "shunt/heartbeat.h"
#include "shuntd/check_kind.h"

#define TOS 0xc0 /* DSCP CS6: network control, RFC 2474 4.2.2.2 */
#define PORTS_FIRST 49152 /* RFC 5881 section 4 */
#define PORTS 12288 /* chosen: three for each session that there may be, and the prober's own are above them */
#define PORT_TRIES 64 /* chosen: one of them is free unless the range is as good as full */
#define RECEIVED_MAX 4096 /* packets in a turn, chosen: more than the socket holds; the others wait for the next */
#define RECOVER_NS (3 * BFD_SLOW_NS) /* chosen: a peer that is down speaks once a second; twice it may be lost */

/* ---- sockets ---- */

static int socket_open(int family)
{
	static const int one = 1, ttl = BFD_TTL, tos = TOS, control = 6;
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP), err;

	if (fd < 0)
		return -errno;
	if (family == AF_INET)
		err = setsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl)) ||
		      setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof(tos)) ||
		      setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &one, sizeof(one));
	else
		err = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) ||
		      setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &ttl, sizeof(ttl)) ||
		      setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos)) ||
		      setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &one, sizeof(one));
	err = err || setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &control, sizeof(control)) ? -errno : 0;
	if (!err)
		return fd;
	close(fd);
	return err;
}

static int socket_bind(int fd, int family, uint16_t port)
{
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int err = family == AF_INET ? bind(fd, (struct sockaddr *)&a4, sizeof(a4))
				    : bind(fd, (struct sockaddr *)&a6, sizeof(a6));

	return err ? -errno : 0;
}

/* What isn't from this network is dropped before it takes room in the queue (GTSM, RFC 5082): none of it is a peer's. */
static int far_drop(int fd, int family)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_NET_OFF + (family == AF_INET ? 8 : 7)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, BFD_TTL, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog filter = { .len = sizeof(code) / sizeof(*code), .filter = code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) ? -errno : 0;
}

int check_bfd_receiver(struct checker *c, int family, const char **why)
{
	int which = family == AF_INET6, fd, err;

	if (c->bfd_fd[which] >= 0)
		return 0;
	*why = "cannot open a socket for BFD";
	fd = socket_open(family);
	if (fd < 0)
		return fd;
	err = far_drop(fd, family);
	err = err ? err : socket_bind(fd, family, BFD_PORT);
	if (err == -EADDRINUSE)
		*why = "UDP port 3784 is taken: does another BFD daemon run here?";
	err = err ? err : checker_watch(c, fd, SOURCE_BFD, (uint32_t)which, EPOLLIN);
	if (err)
		close(fd);
	else
		c->bfd_fd[which] = fd;
	return err;
}

/* A session's own, with a source port that no other has. */
static int sender_open(struct check *k, int family, const char **why)
{
	int fd = socket_open(family), err = 0;

	*why = "cannot open a socket for each BFD session: are there too few open files allowed?";
	if (fd < 0)
		return fd;
	*why = "no free UDP port for a BFD session";
	for (int i = 0; i < PORT_TRIES; i++) {
		err = socket_bind(fd, family, (uint16_t)(PORTS_FIRST + checker_random(k->checker) % PORTS));
		if (err != -EADDRINUSE)
			break;
	}
	if (err)
		close(fd);
	else
		k->bfd.fd = fd;
	return err;
}

static void send_packet(struct check *k, uint64_t now_ns)
{
	struct sockaddr_storage to;
	socklen_t size = check_address(k, BFD_PORT, &to);
	struct bfd_packet p;

	bfd_put(&k->bfd.session, &p, now_ns, checker_random(k->checker));
	k->bfd.error = 0;
	if (sendto(k->bfd.fd, &p, sizeof(p), 0, (struct sockaddr *)&to, size) == sizeof(p)) {
		check_asked(k);
		return;
	}
	k->bfd.error = -errno;
	k->bfd.late_ns = now_ns;
}

/* ---- what a session's end means ---- */

/* How long the peer needs to miss us, while Up (RFC 5880 6.8.4, seen from its side). */
static uint64_t missed_ns(const struct bfd *b)
{
	uint64_t interval_ns = b->settings.min_tx_ns;

	return b->settings.multiplier * (b->remote_min_rx_ns > interval_ns ? b->remote_min_rx_ns : interval_ns);
}

/* Between two packets of the peer, at most. */
static uint64_t heard_every_ns(const struct bfd *b)
{
	return b->remote_multiplier ? bfd_detection_ns(b) / b->remote_multiplier : b->settings.min_rx_ns;
}

/* Nothing came for the detection time. */
static void silent(struct check *k, uint64_t now_ns)
{
	const struct bfd *b = &k->bfd.session;

	k->bfd.recover_ns = now_ns + RECOVER_NS;
	check_accuse(k, &(struct accusation){ .kind = EVENT_SILENT,
					      .witness_ns = now_ns - heard_every_ns(b),
					      .until_ns = now_ns + heard_every_ns(b) / 2,
					      .first_sent_ns = now_ns - bfd_detection_ns(b) });
}

/*
 * The peer says Down. Unless it says that it missed us, that is its own affair, and a fact. If it does: our packets may
 * not get through to anybody. Somebody's answer since we sent what it misses proves that they do; or else BFD sessions
 * that are Up, if they still are when their peers would have missed us too.
 */
static void peer_down(struct check *k, uint64_t now_ns)
{
	const struct bfd *b = &k->bfd.session;
	uint64_t missed = missed_ns(b), since_ns = now_ns - missed + missed / b->settings.multiplier;
	uint32_t witness = 0;

	k->bfd.recover_ns = now_ns + RECOVER_NS;
	if (b->remote_diag == BFD_DIAG_EXPIRED) {
		if (k->bfd.late_ns && now_ns - k->bfd.late_ns < missed + BFD_SLOW_NS)
			return;
		witness = check_witness(k, since_ns, true);
	}
	if (b->remote_diag != BFD_DIAG_EXPIRED || witness) {
		check_convict(k, EVENT_PEER_DOWN, b->remote_diag, since_ns, witness);
		return;
	}
	check_accuse(k, &(struct accusation){ .kind = EVENT_PEER_DOWN,
					      .cause = b->remote_diag,
					      .witness_ns = now_ns + missed,
					      .until_ns = now_ns + 2 * missed,
					      .up_before_ns = now_ns,
					      .first_sent_ns = since_ns });
}

/* It had its time to come up again. */
static void not_recovered(struct check *k, uint64_t now_ns)
{
	const struct bfd *b = &k->bfd.session;
	bool speaks = b->received_ns && b->remote_state != BFD_UP;

	k->bfd.recover_ns = 0;
	check_accuse(k, &(struct accusation){ .kind = speaks ? EVENT_PEER_DOWN : EVENT_SILENT,
					      .cause = speaks ? b->remote_diag : 0,
					      .witness_ns = now_ns - BFD_SLOW_NS,
					      .until_ns = now_ns + BFD_SLOW_NS,
					      .first_sent_ns = now_ns - RECOVER_NS });
}

/* The session's state was another one. */
static void state_follow(struct check *k, uint8_t before, uint64_t now_ns)
{
	struct bfd *b = &k->bfd.session;

	if (b->remote_state == BFD_ADMIN_DOWN) {
		/* No failure (RFC 5882 4.2). It may fall silent now, and nothing follows from that. */
		k->accusation = (struct accusation){ 0 };
		k->bfd.up_since_ns = k->bfd.recover_ns = 0;
		check_engine(k, ENGINE_DRAINING);
		return;
	}
	if (b->state == before)
		return;
	if (b->state == BFD_UP) {
		k->bfd.up_since_ns = now_ns;
		k->bfd.recover_ns = 0;
		k->accusation = (struct accusation){ 0 };
		check_engine(k, ENGINE_SERVING);
	} else if (before == BFD_UP) {
		k->bfd.up_since_ns = 0;
		if (b->diag == BFD_DIAG_EXPIRED)
			silent(k, now_ns);
		else
			peer_down(k, now_ns);
	}
}

/* ---- receiving ---- */

/* The TTL or hop limit that a message came with; 0: none was told. */
static uint8_t ttl_of(struct msghdr *m)
{
	int ttl = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
		if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL) ||
		    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT))
			memcpy(&ttl, CMSG_DATA(c), sizeof(ttl));
	return (uint8_t)ttl;
}

static struct shunt_addr sender_of(const struct sockaddr_storage *from)
{
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)from;
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)from;
	struct shunt_addr a = { .w = { 0, 0, SHUNT_V4_MAPPED, a4->sin_addr.s_addr } };

	if (from->ss_family == AF_INET6)
		memcpy(&a, &a6->sin6_addr, sizeof(a));
	return a;
}

/* Whose packet it is: by our discriminator, or by its address where it doesn't know that yet. From its address only. */
static struct check *session_find(struct checker *c, uint32_t discriminator, const struct shunt_addr *from)
{
	uint32_t first = discriminator ? discriminator % SHUNT_MAX_BACKENDS : 1;
	uint32_t end = discriminator ? first + 1 : c->n_ids;

	for (uint32_t id = first; id < end; id++) {
		struct check *k = c->checks[id];

		if (k && k->kind == &check_bfd && !memcmp(&k->of.address, from, sizeof(*from)))
			return k;
	}
	return NULL;
}

static void packet_take(struct checker *c, const struct bfd_packet *p, const struct shunt_addr *from, uint64_t now_ns)
{
	struct check *k = session_find(c, ntohl(p->your_discriminator), from);
	struct bfd *b = k ? &k->bfd.session : NULL;
	uint8_t before = b ? b->state : 0;

	if (!b || bfd_receive(b, p, now_ns))
		return;
	state_follow(k, before, now_ns);
	if (b->state == BFD_UP && b->remote_state == BFD_UP)
		check_answered(k, now_ns, 0, 0);
	check_wake(k);
}

void check_bfd_receive(struct checker *c, int which, uint64_t now_ns)
{
	_Alignas(struct bfd_packet) uint8_t payload[64];
	_Alignas(struct cmsghdr) uint8_t control[64];

	for (int i = 0; i < RECEIVED_MAX; i++) {
		struct sockaddr_storage from;
		struct iovec iov = { payload, sizeof(payload) };
		struct msghdr m = { .msg_name = &from,
				    .msg_namelen = sizeof(from),
				    .msg_iov = &iov,
				    .msg_iovlen = 1,
				    .msg_control = control,
				    .msg_controllen = sizeof(control) };
		ssize_t size = recvmsg(c->bfd_fd[which], &m, 0);
		struct shunt_addr sender;

		if (size < 0)
			return;
		if (bfd_check(payload, (size_t)size, ttl_of(&m)))
			continue;
		sender = sender_of(&from);
		packet_take(c, (const struct bfd_packet *)payload, &sender, now_ns);
	}
}

/* ---- the kind ---- */

static int bfd_kind_open(struct check *k, uint64_t now_ns, const char **why)
{
	const struct config_check *conf = &k->of.check;
	int family = address_is_v4(&k->of.address) ? AF_INET : AF_INET6, err;

	k->bfd.fd = -1;
	err = check_bfd_receiver(k->checker, family, why);
	err = err ? err : sender_open(k, family, why);
	if (err)
		return err;
	bfd_open(&k->bfd.session, k->session->discriminator,
		 &(struct bfd_settings){ conf->interval_ns, conf->interval_ns, (uint8_t)conf->multiplier });
	if (k->session->engine == ENGINE_DRAINING)
		k->bfd.session.remote_state =
			BFD_ADMIN_DOWN; /* so it said to an earlier run, and it may be silent since */
	else
		k->bfd.recover_ns = now_ns + RECOVER_NS; /* it may serve already, asked in another way until now */
	return 0;
}

static void bfd_kind_close(struct check *k)
{
	if (k->bfd.fd < 0)
		return;
	bfd_admin(&k->bfd.session, true);
	send_packet(k, monotonic_ns());
	close(k->bfd.fd);
}

static uint64_t bfd_kind_run(struct check *k, uint64_t now_ns)
{
	struct bfd *b = &k->bfd.session;
	uint8_t before = b->state;
	uint64_t wake_ns;

	bfd_run(b, now_ns);
	if (b->state != before)
		state_follow(k, before, now_ns);
	if (k->bfd.recover_ns && now_ns >= k->bfd.recover_ns)
		not_recovered(k, now_ns);
	if (bfd_should_send(b, now_ns))
		send_packet(k, now_ns);
	wake_ns = bfd_wake_ns(b);
	return k->bfd.recover_ns && k->bfd.recover_ns < wake_ns ? k->bfd.recover_ns : wake_ns;
}

static void bfd_kind_late(struct check *k, uint64_t late_ns, uint64_t now_ns)
{
	if (late_ns < heard_every_ns(&k->bfd.session) / 2)
		return;
	k->bfd.late_ns = now_ns; /* so were our packets */
	bfd_pardon(&k->bfd.session, now_ns);
	if (k->bfd.recover_ns)
		k->bfd.recover_ns = now_ns + RECOVER_NS;
}

static void bfd_kind_pardon(struct check *k, uint64_t now_ns)
{
	const struct bfd *b = &k->bfd.session;

	bfd_pardon(&k->bfd.session, now_ns);
	if (b->state != BFD_UP && b->remote_state != BFD_ADMIN_DOWN)
		k->bfd.recover_ns = now_ns + RECOVER_NS;
}

static uint64_t bfd_kind_gap_ns(const struct check *k)
{
	return bfd_detection_ns(&k->bfd.session);
}

static void bfd_kind_describe(const struct check *k, char *text, size_t size)
{
	const struct bfd *b = &k->bfd.session;
	char heard[DURATION_TEXT_MAX], sent[DURATION_TEXT_MAX];

	if (b->state == BFD_UP)
		snprintf(text, size, "up, hears %u x %s, sends every %s, peer's discriminator %u", b->remote_multiplier,
			 duration_format(heard_every_ns(b), heard, sizeof(heard)),
			 duration_format(bfd_interval_ns(b), sent, sizeof(sent)), b->remote_discriminator);
	else if (b->remote_state == BFD_ADMIN_DOWN)
		snprintf(text, size, "%s, peer is administratively down", bfd_state_name(b->state));
	else if (b->received_ns)
		snprintf(text, size, "%s (%s), peer is %s (%s)", bfd_state_name(b->state), bfd_diag_name(b->diag),
			 bfd_state_name(b->remote_state), bfd_diag_name(b->remote_diag));
	else
		snprintf(text, size, "%s (%s), %s", bfd_state_name(b->state), bfd_diag_name(b->diag),
			 k->bfd.error ? strerror(-k->bfd.error) : "nothing heard");
}

const struct check_kind check_bfd = {
	.open = bfd_kind_open,
	.close = bfd_kind_close,
	.run = bfd_kind_run,
	.late = bfd_kind_late,
	.pardon = bfd_kind_pardon,
	.gap_ns = bfd_kind_gap_ns,
	.describe = bfd_kind_describe,
};
