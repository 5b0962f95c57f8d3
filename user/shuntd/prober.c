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
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/config.h"
#include "shunt/detect.h"
#include "shunt/heartbeat.h"

#define PROBER_PRIORITY 50 /* SCHED_FIFO; chosen: that of threaded interrupts, so it never outranks the answers */
#define PROBER_TOS 0xc0 /* DSCP CS6: network control, RFC 2474 4.2.2.2 */
#define NS_PER_S 1000000000ULL

struct family {
	int sockets[PROBE_SOURCE_PORTS];
	struct mmsghdr *messages; /* one a session of this family */
	uint32_t *ids;
	struct mmsghdr *batch; /* those of this round */
	uint32_t *batch_ids;
	unsigned n;
};

struct prober {
	struct prober_options o;
	struct prober_stats stats;
	pthread_t thread;
	bool started;
	atomic_bool stop;
	struct family v4, v6;
	struct probe *probes; /* by backend id, the bytes on the wire */
	struct iovec *iov;
	struct sockaddr_storage *to;
	uint64_t interval_ns;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
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

/* Ids that nobody has lie between those in use. */
static bool session_is_of(const struct session *s, int family)
{
	return s->discriminator && address_is_v4(&s->address) == (family == AF_INET);
}

static int family_open(struct family *f, struct prober *p, int family, const char **why)
{
	static char sentence[128];
	uint32_t n_sessions = p->o.detector->n_sessions;

	for (uint32_t id = 1; id <= n_sessions; id++)
		f->n += session_is_of(&p->o.sessions[id], family);
	if (!f->n)
		return 0;
	for (int i = 0; i < PROBE_SOURCE_PORTS; i++) {
		f->sockets[i] = socket_open(family, (uint16_t)(PROBE_SOURCE_PORT + i));
		if (f->sockets[i] < 0) {
			snprintf(sentence, sizeof(sentence), "cannot probe from UDP port %d (%s)%s",
				 PROBE_SOURCE_PORT + i, strerror(-f->sockets[i]),
				 f->sockets[i] == -EADDRINUSE ? ": does another shuntd run here?" : "");
			*why = sentence;
			return f->sockets[i];
		}
	}
	f->messages = calloc(f->n, sizeof(*f->messages));
	f->batch = calloc(f->n, sizeof(*f->batch));
	f->ids = calloc(f->n, sizeof(*f->ids));
	f->batch_ids = calloc(f->n, sizeof(*f->batch_ids));
	if (!f->messages || !f->batch || !f->ids || !f->batch_ids)
		return -ENOMEM;
	f->n = 0;
	for (uint32_t id = 1; id <= n_sessions; id++) {
		const struct session *s = &p->o.sessions[id];
		struct sockaddr_in *a4 = (struct sockaddr_in *)&p->to[id];
		struct sockaddr_in6 *a6 = (struct sockaddr_in6 *)&p->to[id];
		struct msghdr *m = &f->messages[f->n].msg_hdr;

		if (!session_is_of(s, family))
			continue;
		p->probes[id] = (struct probe){
			.bfd = { .vers_diag = BFD_VERS_DIAG(0),
				 .flags = BFD_UP << BFD_STATE_SHIFT | BFD_DEMAND,
				 .detect_mult = (__u8)p->o.detector->multiplier,
				 .length = BFD_LENGTH,
				 .my_discriminator = htonl(s->discriminator),
				 .your_discriminator = htonl(s->your_discriminator),
				 .desired_min_tx_us = htonl((uint32_t)(p->interval_ns / 1000)) },
			.trailer = { .magic = htonl(PROBE_MAGIC), .version = PROBE_VERSION },
		};
		p->iov[id] = (struct iovec){ &p->probes[id], sizeof(struct probe) };
		if (family == AF_INET)
			*a4 = (struct sockaddr_in){ .sin_family = AF_INET,
						    .sin_port = htons(SBFD_PORT),
						    .sin_addr.s_addr = s->address.w[3] };
		else {
			*a6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(SBFD_PORT) };
			memcpy(&a6->sin6_addr, &s->address, 16);
		}
		*m = (struct msghdr){ .msg_name = &p->to[id],
				      .msg_namelen = family == AF_INET ? sizeof(*a4) : sizeof(*a6),
				      .msg_iov = &p->iov[id],
				      .msg_iovlen = 1 };
		f->ids[f->n++] = id;
	}
	return 0;
}

static void family_close(struct family *f)
{
	for (int i = 0; i < PROBE_SOURCE_PORTS; i++)
		if (f->sockets[i] >= 0)
			close(f->sockets[i]);
	free(f->messages);
	free(f->batch);
	free(f->ids);
	free(f->batch_ids);
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
		if (!__atomic_load_n(&s->discriminator, __ATOMIC_RELAXED))
			continue; /* it has been given up meanwhile */
		if (BACKEND_WORD_STATE(word) == BACKEND_DOWN && (round + id) % PROBER_SLOW)
			continue;
		p->probes[id].trailer.round = htobe64(round);
		f->batch[n] = f->messages[i];
		f->batch_ids[n++] = id;
	}
	while (done < n) {
		int sent = sendmmsg(f->sockets[round % PROBE_SOURCE_PORTS], f->batch + done, n - done, 0);

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

static void ask(struct prober *p, uint64_t round)
{
	struct detector *d = p->o.detector;
	struct round_time *t = &d->rounds[round % SHUNT_ROUNDS];
	uint64_t start = now_ns();

	__atomic_store_n(&t->sent_ns, start, __ATOMIC_RELAXED);
	__atomic_store_n(&t->round, round, __ATOMIC_RELEASE);
	family_ask(&p->v4, p, round);
	family_ask(&p->v6, p, round);
	__atomic_store_n(&d->round, round, __ATOMIC_RELEASE);
	atomic_store(&p->stats.send_ns, now_ns() - start);
}

/* The rule of detect.h, run here where the kernel has no tick. */
static void judge(struct prober *p)
{
	struct detector *d = p->o.detector;
	struct witnesses w = { 0 };
	bool unwitnessed = false;
	uint64_t now = now_ns(), last = d->last_tick_ns;

	d->last_tick_ns = now;
	d->ticks++;
	if (last && now - last > d->tick_ns && now - last - d->tick_ns > d->late_max_ns)
		d->late_max_ns = now - last - d->tick_ns;
	if (tick_was_late(last, now, d->tick_ns))
		return;
	for (uint32_t id = 1; id <= d->n_sessions; id++)
		if (__atomic_load_n(&p->o.sessions[id].discriminator, __ATOMIC_RELAXED))
			witnesses_add(&w, id, __atomic_load_n(&p->o.sessions[id].answered_round, __ATOMIC_RELAXED));
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
		} else if (!__atomic_compare_exchange_n(&b->word, &word, BACKEND_WORD(BACKEND_DOWN, VERDICT_SILENT),
							false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
			continue;
		}
		e = (struct event){
			.kind = verdict == SILENCE_CONVICTED ? EVENT_SILENT : EVENT_SELF_SUSPECT,
			.backend = verdict == SILENCE_CONVICTED ? id : 0,
			.at_ns = now_ns(),
			.first_round = why.first_round,
			.first_sent_ns = why.first_sent_ns,
			.last_round = why.last_round,
			.answered_ns = s->answered_ns,
			.witness_round = why.witness_round,
			.witness = why.witness,
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
	uint64_t round = p->o.detector->round, next = now_ns() + p->interval_ns;

	while (!atomic_load(&p->stop)) {
		uint64_t late;

		if (p->o.judge) {
			sleep_until(next - p->interval_ns / 2);
			judge(p);
		}
		sleep_until(next);
		late = now_ns() - next;
		if (late > p->interval_ns / 2)
			atomic_fetch_add(&p->stats.rounds_late, 1);
		if (late > atomic_load(&p->stats.late_max_ns))
			atomic_store(&p->stats.late_max_ns, late);
		/* Rounds slept through are not caught up: a burst would ask one question several times. */
		if (late >= p->interval_ns) {
			atomic_fetch_add(&p->stats.rounds_skipped, late / p->interval_ns);
			next += late / p->interval_ns * p->interval_ns;
		}
		ask(p, ++round);
		next += p->interval_ns;
	}
	return NULL;
}

int prober_start(struct prober **out, const struct prober_options *options, const char **why)
{
	struct prober *p = calloc(1, sizeof(*p));
	struct sched_param priority = { .sched_priority = PROBER_PRIORITY };
	size_t n = options->detector->n_sessions + 1;
	pthread_attr_t attr;
	int err = -ENOMEM;

	*why = "no memory for the prober";
	if (!p)
		return -ENOMEM;
	for (int i = 0; i < PROBE_SOURCE_PORTS; i++)
		p->v4.sockets[i] = p->v6.sockets[i] = -1;
	p->o = *options;
	p->interval_ns = options->detector->interval_ns;
	p->probes = calloc(n, sizeof(*p->probes));
	p->iov = calloc(n, sizeof(*p->iov));
	p->to = calloc(n, sizeof(*p->to));
	if (!p->probes || !p->iov || !p->to)
		goto out;
	err = family_open(&p->v4, p, AF_INET, why);
	err = err ? err : family_open(&p->v6, p, AF_INET6, why);
	if (err)
		goto out;

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
	family_close(&p->v4);
	family_close(&p->v6);
	free(p->probes);
	free(p->iov);
	free(p->to);
	free(p);
}
