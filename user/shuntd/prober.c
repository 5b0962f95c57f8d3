/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * prober.c - asks every backend, round after round; see prober.h. Leaves the answers to the receiver in XDP, and the
 * verdict to the tick in the kernel, unless it was told to judge itself.
 *
 * A probe counts as asked only after the kernel took it: what could not be sent was not asked.
 */
#include "shuntd/prober.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "core/config.h"
#include "core/echo.h"
#include "shunt/detect.h"
#include "shunt/heartbeat.h"

#define PROBER_PRIORITY 50 /* SCHED_FIFO; chosen: that of threaded interrupts, so it never outranks the answers */
#define PROBER_TOS 0xc0 /* DSCP CS6: network control, RFC 2474 4.2.2.2 */
#define NS_PER_S 1000000000ULL

/* Sockets of one family, one a source port; of echoes, whose ports are in the packet, only one. */
struct outlets {
	int fd[PROBE_SOURCE_PORTS];
	unsigned n;
};

/* Sessions that are asked through the same sockets: all of an address family, or all echoes. */
struct family {
	const struct outlets *outlets;
	struct mmsghdr *messages; /* one a session of this family */
	uint32_t *ids;
	struct mmsghdr *batch; /* those of this round */
	uint32_t *batch_ids;
	unsigned n;
};

/* Whom to ask and how. Made by the main loop, then the thread's; what it was before goes back through `retired`. */
struct questions {
	struct questions *older; /* in `retired` */
	struct prober_settings settings;
	struct family v4, v6, echo;
	struct probe *probes; /* by backend id, the bytes on the wire; of an echo without what is before them: */
	uint8_t (*echoes)[ECHO_BYTES_MAX]; /* by place in `echo` */
	struct iovec *iov;
	struct sockaddr_storage *to;
};

struct prober {
	struct prober_options o;
	struct prober_stats stats;
	pthread_t thread;
	bool started;
	atomic_bool stop;
	struct outlets v4, v6, echo; /* opened when the first backend of the family is to be asked */
	struct questions *questions; /* the thread's, once it runs */
	_Atomic(struct questions *) next; /* to be taken up with the next round */
	_Atomic(struct questions *) retired; /* to be freed by the main loop */
};

/* Takes IP packets and the MAC addresses that they go to; protocol 0: receives nothing (packet(7)). */
static int echo_socket_open(void)
{
	static const int control = 6;
	int err, fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || !setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &control, sizeof(control)))
		return fd < 0 ? -errno : fd;
	err = -errno;
	close(fd);
	return err;
}

static int socket_open(int family, uint16_t port)
{
	static const int one = 1, ttl = SBFD_TTL, tos = PROBER_TOS, small = 4096, control = 6;
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int err, fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);

	if (fd < 0)
		return -errno;
	if (family == AF_INET) {
		err = setsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl)) ||
		      setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof(tos)) ||
		      bind(fd, (struct sockaddr *)&a4, sizeof(a4));
	} else {
		err = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) ||
		      setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &ttl, sizeof(ttl)) ||
		      setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos)) ||
		      bind(fd, (struct sockaddr *)&a6, sizeof(a6));
	}
	/* Answers end in XDP; what reaches the socket is of no use. */
	err = err || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)) ||
	      setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &control, sizeof(control));
	if (err) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int outlets_open(struct outlets *outlets, int family, const char **why)
{
	static char sentence[128];
	unsigned n = family == AF_PACKET ? 1 : PROBE_SOURCE_PORTS;

	for (; outlets->n < n; outlets->n++) {
		uint16_t port = (uint16_t)(PROBE_SOURCE_PORT + outlets->n);
		int fd = family == AF_PACKET ? echo_socket_open() : socket_open(family, port);

		outlets->fd[outlets->n] = fd;
		if (fd >= 0)
			continue;
		if (family == AF_PACKET)
			snprintf(sentence, sizeof(sentence), "cannot send echoes (%s)%s", strerror(-fd),
				 fd == -EPERM ? ": CAP_NET_RAW is needed" : "");
		else
			snprintf(sentence, sizeof(sentence), "cannot probe from UDP port %u (%s)%s", port,
				 strerror(-fd), fd == -EADDRINUSE ? ": does another shuntd run here?" : "");
		*why = sentence;
		return fd;
	}
	return 0;
}

static void outlets_close(struct outlets *outlets)
{
	while (outlets->n)
		close(outlets->fd[--outlets->n]);
}

/* Ids that nobody has lie between those in use. AF_PACKET: echoes. */
static bool session_is_of(const struct session *s, int family)
{
	int its = s->kind == SESSION_ECHO ? AF_PACKET : address_is_v4(&s->address) ? AF_INET : AF_INET6;

	return s->discriminator && s->kind != SESSION_CHECKED && its == family;
}

/* What one session is asked, and where; where an echo goes is filled in with each round. */
static void question_make(struct questions *q, const struct session *s, uint32_t id, struct msghdr *m)
{
	struct sockaddr_in *a4 = (struct sockaddr_in *)&q->to[id];
	struct sockaddr_in6 *a6 = (struct sockaddr_in6 *)&q->to[id];
	bool is_v4 = address_is_v4(&s->address);

	q->probes[id] = (struct probe){
		.bfd = { .vers_diag = BFD_VERS_DIAG(0),
			 .flags = BFD_UP << BFD_STATE_SHIFT | BFD_DEMAND,
			 .detect_mult = (__u8)q->settings.multiplier,
			 .length = BFD_LENGTH,
			 .my_discriminator = htonl(s->discriminator),
			 .your_discriminator = htonl(s->your_discriminator),
			 .desired_min_tx_us = htonl((uint32_t)(q->settings.interval_ns / 1000)) },
		.trailer = { .magic = htonl(PROBE_MAGIC), .version = PROBE_VERSION },
	};
	q->iov[id] = (struct iovec){ &q->probes[id], sizeof(struct probe) };
	*m = (struct msghdr){ .msg_name = &q->to[id],
			      .msg_namelen = sizeof(struct sockaddr_ll),
			      .msg_iov = &q->iov[id],
			      .msg_iovlen = 1 };
	if (s->kind == SESSION_ECHO)
		return;
	m->msg_namelen = is_v4 ? sizeof(*a4) : sizeof(*a6);
	if (is_v4) {
		*a4 = (struct sockaddr_in){ .sin_family = AF_INET,
					    .sin_port = htons(SBFD_PORT),
					    .sin_addr.s_addr = s->address.w[3] };
	} else {
		*a6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(SBFD_PORT) };
		memcpy(&a6->sin6_addr, &s->address, 16);
	}
}

static int family_open(struct family *f, struct questions *q, const struct prober *p, int family)
{
	uint32_t n_sessions = p->o.detector->n_sessions;

	f->outlets = family == AF_PACKET ? &p->echo : family == AF_INET ? &p->v4 : &p->v6;
	for (uint32_t id = 1; id <= n_sessions; id++)
		f->n += session_is_of(&p->o.sessions[id], family);
	if (!f->n)
		return 0;
	f->messages = calloc(f->n, sizeof(*f->messages));
	f->batch = calloc(f->n, sizeof(*f->batch));
	f->ids = calloc(f->n, sizeof(*f->ids));
	f->batch_ids = calloc(f->n, sizeof(*f->batch_ids));
	if (!f->messages || !f->batch || !f->ids || !f->batch_ids)
		return -ENOMEM;
	f->n = 0;
	for (uint32_t id = 1; id <= n_sessions; id++) {
		if (!session_is_of(&p->o.sessions[id], family))
			continue;
		question_make(q, &p->o.sessions[id], id, &f->messages[f->n].msg_hdr);
		f->ids[f->n++] = id;
	}
	return 0;
}

static void family_close(struct family *f)
{
	free(f->messages);
	free(f->batch);
	free(f->ids);
	free(f->batch_ids);
}

static void questions_free(struct questions *q)
{
	while (q) {
		struct questions *older = q->older;

		family_close(&q->v4);
		family_close(&q->v6);
		family_close(&q->echo);
		free(q->probes);
		free(q->echoes);
		free(q->iov);
		free(q->to);
		free(q);
		q = older;
	}
}

/* The questions to the sessions that there are now; the sockets they need are opened. */
static int questions_make(struct questions **out, struct prober *p, const struct prober_settings *settings,
			  const char **why)
{
	struct questions *q = calloc(1, sizeof(*q));
	size_t n = p->o.detector->n_sessions + 1;
	int err = -ENOMEM;

	*why = "no memory for the prober";
	if (!q)
		return -ENOMEM;
	q->settings = *settings;
	q->probes = calloc(n, sizeof(*q->probes));
	q->iov = calloc(n, sizeof(*q->iov));
	q->to = calloc(n, sizeof(*q->to));
	if (q->probes && q->iov && q->to)
		err = family_open(&q->v4, q, p, AF_INET);
	if (!err)
		err = family_open(&q->v6, q, p, AF_INET6);
	if (!err)
		err = family_open(&q->echo, q, p, AF_PACKET);
	if (!err && q->echo.n) {
		q->echoes = calloc(q->echo.n, sizeof(*q->echoes));
		err = q->echoes ? outlets_open(&p->echo, AF_PACKET, why) : -ENOMEM;
	}
	if (!err && q->v4.n)
		err = outlets_open(&p->v4, AF_INET, why);
	if (!err && q->v6.n)
		err = outlets_open(&p->v6, AF_INET6, why);
	if (err) {
		questions_free(q);
		return err;
	}
	*out = q;
	return 0;
}

/* Between two rounds. Answers that are under way were asked for under other rules: they convict nobody. */
static void questions_take_up(struct prober *p, struct questions *q)
{
	struct detector *d = p->o.detector;
	struct questions *before = p->questions;

	__atomic_store_n(&d->pardoned_round, d->round, __ATOMIC_SEQ_CST);
	__atomic_store_n(&d->interval_ns, q->settings.interval_ns, __ATOMIC_SEQ_CST);
	__atomic_store_n(&d->multiplier, q->settings.multiplier, __ATOMIC_SEQ_CST);
	__atomic_store_n(&d->tick_ns, q->settings.judge ? q->settings.interval_ns : q->settings.interval_ns / 2,
			 __ATOMIC_SEQ_CST);
	/* Who is no longer asked here left nothing open: its bits would be read as those of rounds to come. */
	for (uint32_t id = 1; id <= d->n_sessions; id++)
		if (p->o.sessions[id].kind == SESSION_CHECKED)
			__atomic_store_n(&p->o.sessions[id].asked, 0, __ATOMIC_SEQ_CST);
	p->questions = q;
	if (!before)
		return;
	before->older = atomic_load(&p->retired);
	while (!atomic_compare_exchange_weak(&p->retired, &before->older, before))
		;
}

/*
 * The echo of this round, along the way that shuntd keeps in the backend's record. False: there is none, or it is just
 * being written (backends.c: the interface is 0 meanwhile).
 */
static bool echo_lead(struct family *f, struct prober *p, unsigned i, uint64_t round)
{
	struct questions *q = p->questions;
	const struct backend *b = &p->o.backends[f->ids[i]];
	struct sockaddr_ll *to = (struct sockaddr_ll *)&q->to[f->ids[i]];
	uint32_t ifindex = __atomic_load_n(&b->egress_ifindex, __ATOMIC_ACQUIRE);
	struct shunt_addr local = b->local;

	*to = (struct sockaddr_ll){ .sll_family = AF_PACKET,
				    .sll_protocol = htons(address_is_v4(&local) ? ETH_P_IP : ETH_P_IPV6),
				    .sll_ifindex = (int)ifindex,
				    .sll_halen = ETH_ALEN };
	memcpy(to->sll_addr, b->dst_mac, ETH_ALEN);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (!ifindex || __atomic_load_n(&b->egress_ifindex, __ATOMIC_RELAXED) != ifindex)
		return false;
	q->iov[f->ids[i]] =
		(struct iovec){ q->echoes[i], echo_write(q->echoes[i], &local,
							 (uint16_t)(PROBE_SOURCE_PORT + round % PROBE_SOURCE_PORTS),
							 PROBER_TOS, &q->probes[f->ids[i]]) };
	return true;
}

/* The question of this round, signed. False: it can't be asked. */
static bool question_lead(struct family *f, struct prober *p, unsigned i, uint64_t round)
{
	struct probe *probe = &p->questions->probes[f->ids[i]];
	const struct probe_keys *keys = &p->questions->settings.keys;
	bool is_echo = f == &p->questions->echo;

	probe->trailer.round = htobe64(round);
	if (is_echo || keys->n)
		probe->trailer.tag = probe_tag(is_echo ? &keys->echo : &keys->key[0], probe);
	return !is_echo || echo_lead(f, p, i, round);
}

/* Ask this family's backends; a message the kernel refuses is passed over and was not asked. */
static void family_ask(struct family *f, struct prober *p, uint64_t round)
{
	uint64_t bit = 1ULL << (round % SHUNT_ROUNDS);
	unsigned n = 0, done = 0;

	for (unsigned i = 0; i < f->n; i++) {
		uint32_t id = f->ids[i];
		uint32_t word = __atomic_load_n(&p->o.backends[id].word, __ATOMIC_RELAXED);
		struct session *s = &p->o.sessions[id];

		__atomic_store_n(&s->asked, s->asked & ~bit, __ATOMIC_RELAXED);
		if (__atomic_load_n(&s->discriminator, __ATOMIC_RELAXED) !=
		    ntohl(p->questions->probes[id].bfd.my_discriminator))
			continue; /* it has been given up meanwhile, or is asked otherwise from the next questions on */
		if (BACKEND_WORD_STATE(word) == BACKEND_DOWN && (round + id) % PROBER_SLOW &&
		    atomic_load(&p->stats.full_rounds) == PROBER_FULL_ROUNDS)
			continue;
		if (!question_lead(f, p, i, round))
			continue;
		f->batch[n] = f->messages[i];
		f->batch_ids[n++] = id;
	}
	while (done < n) {
		int sent = sendmmsg(f->outlets->fd[round % f->outlets->n], f->batch + done, n - done, 0);

		if (sent <= 0) {
			atomic_fetch_add(&p->stats.send_errors, 1);
			done++;
			continue;
		}
		for (int i = 0; i < sent; i++, done++) {
			struct session *s = &p->o.sessions[f->batch_ids[done]];

			__atomic_store_n(&s->asked, s->asked | bit, __ATOMIC_RELAXED);
			s->asked_count++;
		}
	}
}

/* The median follows by a 64th of itself a round, whatever the round cost: one that was interrupted counts as one. */
static void cost_note(struct prober *p, uint64_t took_ns)
{
	uint64_t usual_ns = atomic_load(&p->stats.round_ns);

	if (!usual_ns)
		usual_ns = took_ns;
	else if (took_ns > usual_ns)
		usual_ns += usual_ns / 64 + 1;
	else
		usual_ns -= usual_ns / 64;
	atomic_store(&p->stats.round_ns, usual_ns);
}

static void ask(struct prober *p, uint64_t round)
{
	struct detector *d = p->o.detector;
	struct round_time *t = &d->rounds[round % SHUNT_ROUNDS];
	uint64_t start = monotonic_ns(), took;

	__atomic_store_n(&t->sent_ns, start, __ATOMIC_RELAXED);
	__atomic_store_n(&t->round, round, __ATOMIC_RELEASE);
	family_ask(&p->questions->v4, p, round);
	family_ask(&p->questions->v6, p, round);
	family_ask(&p->questions->echo, p, round);
	__atomic_store_n(&d->round, round, __ATOMIC_RELEASE);
	took = monotonic_ns() - start;
	cost_note(p, took);
	if (atomic_load(&p->stats.full_rounds) == PROBER_FULL_ROUNDS)
		return;
	if (!atomic_load(&p->stats.full_round_ns) || took < atomic_load(&p->stats.full_round_ns))
		atomic_store(&p->stats.full_round_ns, took);
	atomic_fetch_add(&p->stats.full_rounds, 1);
}

/* The rule of detect.h, run here where the kernel has no tick. */
static void judge(struct prober *p)
{
	struct detector *d = p->o.detector;
	struct witnesses w = { 0 };
	bool unwitnessed = false;
	uint64_t now = monotonic_ns(), last = d->last_tick_ns;

	d->last_tick_ns = now;
	d->ticks++;
	if (last && now - last > d->tick_ns && now - last - d->tick_ns > d->late_max_ns)
		d->late_max_ns = now - last - d->tick_ns;
	if (tick_was_late(last, now, d->tick_ns))
		return;
	for (uint32_t id = 1; id <= d->n_sessions; id++)
		if (__atomic_load_n(&p->o.sessions[id].discriminator, __ATOMIC_RELAXED))
			witnesses_add(&w, id, __atomic_load_n(&p->o.sessions[id].answered_round, __ATOMIC_RELAXED),
				      p->o.sessions[id].kind);
	/* d->round is the newest: this thread asks. */
	if (suspicion_holds(d, &w, d->round))
		return;
	for (uint32_t id = 1; id <= d->n_sessions; id++) {
		struct backend *b = &p->o.backends[id];
		struct session *s = &p->o.sessions[id];
		uint32_t word = __atomic_load_n(&b->word, __ATOMIC_RELAXED);
		struct silence why = { 0 };
		enum silence_verdict verdict;
		struct event e;

		if (!word_is_judged(word) || !s->discriminator)
			continue;
		verdict = silence_judge(s, d, &w, id, now, &why);
		if (verdict == SILENCE_NO)
			continue;
		if (verdict == SILENCE_UNWITNESSED) {
			unwitnessed = true;
			suspicion_begin(d, &w, &why);
			if (d->suspect_since_ns)
				continue;
			d->suspect_since_ns = now;
		} else {
			__atomic_store_n(&p->o.flows[id].doubted_until_ns, now + d->doubt_ns, __ATOMIC_SEQ_CST);
			if (!__atomic_compare_exchange_n(&b->word, &word, BACKEND_WORD(BACKEND_DOWN, VERDICT_SILENT),
							 false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
				continue;
		}
		e = (struct event){
			.kind = verdict == SILENCE_CONVICTED ? EVENT_SILENT : EVENT_SELF_SUSPECT,
			.backend = verdict == SILENCE_CONVICTED ? id : 0,
			.at_ns = monotonic_ns(),
			.first_round = why.first_round,
			.first_sent_ns = why.first_sent_ns,
			.last_round = why.last_round,
			.answered_ns = s->answered_ns,
			.witness_round = why.witness_round,
			.witness = why.witness,
			.cause = why.rounds,
		};
		p->o.on_event(p->o.arg, &e);
	}
	if (!unwitnessed)
		d->suspect_since_ns = 0;
}

static void sleep_until(uint64_t at_ns)
{
	struct timespec t = { .tv_sec = (time_t)(at_ns / NS_PER_S), .tv_nsec = (long)(at_ns % NS_PER_S) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static void *run(void *arg)
{
	struct prober *p = arg;
	uint64_t round = p->o.detector->round, next = monotonic_ns() + p->questions->settings.interval_ns;

	while (!atomic_load(&p->stop)) {
		struct questions *q = atomic_exchange(&p->next, NULL);
		uint64_t late, interval_ns;

		if (q) {
			questions_take_up(p, q);
			next = monotonic_ns() + q->settings.interval_ns;
		}
		interval_ns = p->questions->settings.interval_ns;
		if (p->questions->settings.judge) {
			sleep_until(next - interval_ns / 2);
			judge(p);
		}
		sleep_until(next);
		late = monotonic_ns() - next;
		if (late > interval_ns / 2)
			atomic_fetch_add(&p->stats.rounds_late, 1);
		if (late > atomic_load(&p->stats.late_max_ns))
			atomic_store(&p->stats.late_max_ns, late);
		/* Rounds slept through are not caught up: a burst would ask one question several times. */
		if (late >= interval_ns) {
			atomic_fetch_add(&p->stats.rounds_skipped, late / interval_ns);
			next += late / interval_ns * interval_ns;
		}
		ask(p, ++round);
		next += interval_ns;
	}
	return NULL;
}

int prober_start(struct prober **out, const struct prober_options *options, const char **why)
{
	struct prober *p = calloc(1, sizeof(*p));
	struct sched_param priority = { .sched_priority = PROBER_PRIORITY };
	struct questions *q;
	pthread_attr_t attr;
	int err;

	*why = "no memory for the prober";
	if (!p)
		return -ENOMEM;
	p->o = *options;
	err = questions_make(&q, p, &options->settings, why);
	if (err)
		goto out;
	questions_take_up(p, q);

	pthread_attr_init(&attr);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
	pthread_attr_setschedparam(&attr, &priority);
	if (options->cpu >= 0) {
		cpu_set_t cpus;

		CPU_ZERO(&cpus);
		CPU_SET((size_t)options->cpu, &cpus);
		pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
	}
	err = -pthread_create(&p->thread, &attr, run, p);
	pthread_attr_destroy(&attr);
	if (err == -EPERM)
		*why = "not allowed to run the probing thread at real-time priority: CAP_SYS_NICE is needed, and "
		       "real-time "
		       "budget in its cgroup";
	else if (err == -EINVAL)
		*why = "cannot run the probing thread on that CPU (probe.cpu)";
	else if (err)
		*why = "cannot start the probing thread";
	p->started = !err;
out:
	if (err) {
		prober_stop(p);
		return err;
	}
	*out = p;
	return 0;
}

int prober_update(struct prober *p, const struct prober_settings *settings, const char **why)
{
	struct questions *q;
	int err = questions_make(&q, p, settings, why);

	if (err)
		return err;
	questions_free(atomic_exchange(&p->next, q)); /* one that was not taken up yet */
	questions_free(atomic_exchange(&p->retired, NULL));
	return 0;
}

int prober_pin(struct prober *p, int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET((size_t)cpu, &cpus);
	return -pthread_setaffinity_np(p->thread, sizeof(cpus), &cpus);
}

const struct prober_stats *prober_stats(const struct prober *p)
{
	return &p->stats;
}

void prober_stop(struct prober *p)
{
	if (!p)
		return;
	atomic_store(&p->stop, true);
	if (p->started)
		pthread_join(p->thread, NULL);
	outlets_close(&p->v4);
	outlets_close(&p->v6);
	outlets_close(&p->echo);
	questions_free(p->questions);
	questions_free(p->next);
	questions_free(p->retired);
	free(p);
}
