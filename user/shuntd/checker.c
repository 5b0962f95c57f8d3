// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * checker.c - see checker.h. The thread and its loop, and who is convicted of what; how each kind asks is in check_bfd.c,
 * check_connect.c and check_http.c, and what the latter two have in common in check_series.c.
 *
 * A turn: what has arrived is read, then what is due is done, then the accusations are judged. One that nobody bears
 * witness to makes us suspect ourselves: as in shunt/detect.h, nobody is judged then until somebody is heard again, and
 * what was left open meanwhile is pardoned.
 */
#include "common/clock.h"
#include "shuntd/check_kind.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "core/check.h"
#include "shunt/detect.h"
#include "shunt/heartbeat.h"

#define CHECKER_PRIORITY 40 /* SCHED_FIFO; chosen: below the prober's, whose questions are the shorter ones */
#define CHECKER_STACK (256 << 10) /* bytes, chosen: it is locked into memory */
#define NS_PER_S 1000000000ULL
#define LATE_NS 2000000ULL /* chosen: a fifth of BFD's usual interval; who wakes so much later judges nobody */
#define AGAIN_NS 1000000ULL /* chosen: after that he looks again */
#define DEAF_NS 5000000ULL /* chosen: how often a deaf one looks whether the prober's sessions are heard */
#define BATCH 64

/* xorshift64 (Marsaglia, "Xorshift RNGs", 2003): for jitter and ports, not for secrets. */
uint32_t checker_random(struct checker *c)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return (uint32_t)(c->random >> 32);
}

int checker_watch(struct checker *c, int fd, enum source source, uint32_t value, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.u64 = (uint64_t)source << 32 | value };

	if (!epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &e))
		return 0;
	if (errno == EEXIST && !epoll_ctl(c->epoll_fd, EPOLL_CTL_MOD, fd, &e))
		return 0;
	return -errno;
}

/* ---- what the kinds say ---- */

void check_asked(struct check *k)
{
	k->session->asked_count++;
}

void check_heard(struct check *k, uint64_t now_ns)
{
	k->heard_ns = now_ns;
	k->accusation = (struct accusation){ 0 };
}

void check_answered(struct check *k, uint64_t now_ns, uint64_t sent_ns, uint64_t round)
{
	struct session *s = k->session;

	check_heard(k, now_ns);
	__atomic_store_n(&s->rtt_ns, sent_ns ? now_ns - sent_ns : 0, __ATOMIC_RELAXED);
	__atomic_store_n(&s->answers, s->answers + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&s->answered_round, round, __ATOMIC_RELAXED);
	__atomic_store_n(&s->answered_ns, now_ns, __ATOMIC_RELEASE);
}

void check_engine(struct check *k, enum engine_state engine)
{
	__atomic_store_n(&k->session->engine, engine, __ATOMIC_RELAXED);
}

static uint32_t *word_of(const struct check *k)
{
	return &k->checker->o.backends[k->of.id].word;
}

void check_accuse(struct check *k, const struct accusation *a)
{
	if (!k->accusation.kind && word_is_judged(__atomic_load_n(word_of(k), __ATOMIC_RELAXED)))
		k->accusation = *a;
}

void check_convict(struct check *k, enum event_kind kind, uint32_t cause, uint64_t first_sent_ns, uint32_t witness)
{
	static const enum verdict verdicts[] = {
		[EVENT_SILENT] = VERDICT_SILENT, [EVENT_DEAD] = VERDICT_DEAD, [EVENT_PEER_DOWN] = VERDICT_PEER_DOWN
	};
	uint32_t word = __atomic_load_n(word_of(k), __ATOMIC_SEQ_CST);
	struct checker *c = k->checker;

	k->accusation = (struct accusation){ 0 };
	check_engine(k, ENGINE_UNKNOWN);
	while (word_is_judged(word))
		if (__atomic_compare_exchange_n(word_of(k), &word, BACKEND_WORD(BACKEND_DOWN, verdicts[kind]), false,
						__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
			struct event e = { .kind = kind,
					   .backend = k->of.id,
					   .at_ns = monotonic_ns(),
					   .first_sent_ns = first_sent_ns,
					   .answered_ns = k->session->answered_ns,
					   .witness = witness,
					   .cause = cause,
					   .beat_age_us = PROBE_AGE_UNKNOWN,
					   .agent_age_us = PROBE_AGE_UNKNOWN };

			c->o.on_event(c->o.arg, &e);
			return;
		}
}

/* ---- witnesses ---- */

/* When another backend was last heard, by whomever it is asked. */
static uint64_t heard_ns(const struct checker *c, uint32_t id)
{
	const struct session *s = &c->o.sessions[id];

	if (!__atomic_load_n(&s->discriminator, __ATOMIC_RELAXED))
		return 0;
	return c->checks[id] ? c->checks[id]->heard_ns : __atomic_load_n(&s->answered_ns, __ATOMIC_ACQUIRE);
}

static bool is_bfd(const struct checker *c, uint32_t id)
{
	return c->checks[id] && c->checks[id]->kind == &check_bfd;
}

static uint32_t n_sessions(const struct checker *c)
{
	return __atomic_load_n(&c->o.detector->n_sessions, __ATOMIC_RELAXED);
}

uint32_t check_witness(const struct check *k, uint64_t since_ns, bool answered)
{
	const struct checker *c = k->checker;

	for (uint32_t id = 1; id <= n_sessions(c); id++)
		if (id != k->of.id && heard_ns(c, id) >= since_ns && heard_ns(c, id) && !(answered && is_bfd(c, id)))
			return id;
	return 0;
}

/* A BFD session that was Up all the time, and was heard then. */
static uint32_t steady_witness(const struct check *k, uint64_t since_ns, uint64_t up_before_ns)
{
	const struct checker *c = k->checker;

	for (uint32_t id = 1; id < c->n_ids; id++) {
		const struct check *other = c->checks[id];

		if (other && other != k && other->kind == &check_bfd && other->bfd.up_since_ns &&
		    other->bfd.up_since_ns < up_before_ns && other->heard_ns >= since_ns)
			return id;
	}
	return 0;
}

/* When anybody was heard last, and who it was. */
static uint64_t newest_heard_ns(const struct checker *c, uint32_t *by)
{
	uint64_t newest = 0;

	*by = 0;
	for (uint32_t id = 1; id <= n_sessions(c); id++) {
		if (heard_ns(c, id) > newest) {
			newest = heard_ns(c, id);
			*by = id;
		}
	}
	return newest;
}

/*
 * Whoever was heard last, and ended a suspicion by that, is one who is asked now and then: he isn't silent in between,
 * and his next answer will do as a witness.
 */
static bool witness_is_seldom(const struct checker *c)
{
	uint32_t by;

	return newest_heard_ns(c, &by) <= c->pardoned_ns && c->checks[by] && !is_bfd(c, by);
}

/* ---- judging ---- */

void check_wake(struct check *k)
{
	k->wake_ns = k->checker->wake_ns = 0;
}

static void suspect_self(struct checker *c, const struct check *k, uint64_t now_ns)
{
	uint32_t by;
	struct event e = { .kind = EVENT_SELF_SUSPECT,
			   .at_ns = now_ns,
			   .first_sent_ns = k->accusation.first_sent_ns,
			   .answered_ns = newest_heard_ns(c, &by) };

	__atomic_store_n(&c->deaf_ns, now_ns, __ATOMIC_RELAXED);
	c->o.on_event(c->o.arg, &e);
}

static void wake_by(struct checker *c, uint64_t at_ns)
{
	if (at_ns < c->wake_ns)
		c->wake_ns = at_ns;
}

/* Somebody is heard again: whatever was left open until now proves nothing about anybody. */
static void pardon_all(struct checker *c, uint64_t now_ns)
{
	uint32_t by;

	__atomic_store_n(&c->deaf_ns, 0, __ATOMIC_RELAXED);
	c->pardoned_ns = newest_heard_ns(c, &by);
	for (uint32_t id = 1; id < c->n_ids; id++) {
		struct check *k = c->checks[id];

		if (!k)
			continue;
		k->accusation = (struct accusation){ 0 };
		k->kind->pardon(k, now_ns);
		check_wake(k);
	}
}

static void judge(struct checker *c, uint64_t now_ns)
{
	uint32_t by;

	if (now_ns < c->late_until_ns) {
		wake_by(c, c->late_until_ns);
		return;
	}
	if (c->deaf_ns) {
		if (newest_heard_ns(c, &by) > c->deaf_ns)
			pardon_all(c, now_ns);
		else
			wake_by(c, now_ns + DEAF_NS);
		return;
	}
	for (uint32_t id = 1; id < c->n_ids; id++) {
		struct check *k = c->checks[id];
		struct accusation a;
		uint32_t witness;

		if (!k || !k->accusation.kind)
			continue;
		a = k->accusation;
		witness = a.up_before_ns ? steady_witness(k, a.witness_ns, a.up_before_ns)
					 : check_witness(k, a.witness_ns, false);
		if (witness) {
			check_convict(k, a.kind, a.cause, a.first_sent_ns, witness);
		} else if (now_ns < a.until_ns) {
			wake_by(c, a.until_ns);
		} else if (witness_is_seldom(c)) {
			wake_by(c, now_ns + DEAF_NS);
		} else {
			suspect_self(c, k, now_ns);
			wake_by(c, now_ns + DEAF_NS);
			return;
		}
	}
}

/* ---- the thread ---- */

static void check_run(struct check *k, uint64_t now_ns)
{
	k->wake_ns = k->kind->run(k, now_ns);
	wake_by(k->checker, k->wake_ns);
}

/* Everything that has arrived, whoever it is for. */
static void take_arrived(struct checker *c, struct epoll_event *ready, int n)
{
	uint64_t now_ns;

	do {
		now_ns = monotonic_ns();
		for (int i = 0; i < n; i++) {
			uint32_t value = (uint32_t)ready[i].data.u64;
			uint64_t ticks;

			switch ((enum source)(ready[i].data.u64 >> 32)) {
			case SOURCE_TIMER:
			case SOURCE_WAKE:
				if (read((int)value, &ticks, sizeof(ticks)) < 0)
					continue; /* it was set anew meanwhile */
				break;
			case SOURCE_BFD:
				check_bfd_receive(c, (int)value, now_ns);
				break;
			case SOURCE_CONNECT:
				if (c->checks[value] && c->checks[value]->kind == &check_connect)
					check_connect_ready(c->checks[value], now_ns);
				break;
			case SOURCE_HTTP:
				check_http_step(
					c, (int)value,
					(ready[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
						(ready[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
						(ready[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0),
					now_ns);
				break;
			}
		}
	} while (n == BATCH && (n = epoll_wait(c->epoll_fd, ready, BATCH, 0)) > 0);
}

static void turn(struct checker *c, struct epoll_event *ready, int n)
{
	uint64_t now_ns = monotonic_ns(), late_ns = now_ns > c->wake_ns ? now_ns - c->wake_ns : 0;

	/* Due at 0 is due at once, not late. */
	if (c->wake_ns && late_ns > LATE_NS) {
		c->late_until_ns = now_ns + AGAIN_NS;
		for (uint32_t id = 1; id < c->n_ids; id++)
			if (c->checks[id])
				c->checks[id]->kind->late(c->checks[id], late_ns, now_ns);
	}
	take_arrived(c, ready, n);
	now_ns = monotonic_ns();
	if (now_ns >= c->curl_ns) {
		c->curl_ns = UINT64_MAX;
		check_http_step(c, CURL_SOCKET_TIMEOUT, 0, now_ns);
	}
	if (now_ns >= c->wake_ns) {
		c->wake_ns = UINT64_MAX;
		for (uint32_t id = 1; id < c->n_ids; id++) {
			if (!c->checks[id])
				continue;
			if (now_ns >= c->checks[id]->wake_ns)
				check_run(c->checks[id], now_ns);
			wake_by(c, c->checks[id]->wake_ns);
		}
	}
	judge(c, now_ns);
	wake_by(c, c->curl_ns);
}

static void timer_set(struct checker *c)
{
	struct itimerspec at = { 0 };

	if (c->wake_ns != UINT64_MAX) {
		at.it_value.tv_sec = (time_t)(c->wake_ns / NS_PER_S);
		at.it_value.tv_nsec = (long)(c->wake_ns % NS_PER_S);
		if (!c->wake_ns)
			at.it_value.tv_nsec = 1; /* 0 would disarm it */
	}
	timerfd_settime(c->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void *run(void *arg)
{
	struct epoll_event ready[BATCH];
	struct checker *c = arg;
	int n = 0;

	pthread_mutex_lock(&c->lock);
	while (!c->stop) {
		turn(c, ready, n < 0 ? 0 : n);
		timer_set(c);
		pthread_mutex_unlock(&c->lock);
		n = epoll_wait(c->epoll_fd, ready, BATCH, -1);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ---- from the main loop ---- */

socklen_t check_address(const struct check *k, uint16_t port, struct sockaddr_storage *to)
{
	struct sockaddr_in *a4 = (struct sockaddr_in *)to;
	struct sockaddr_in6 *a6 = (struct sockaddr_in6 *)to;

	memset(to, 0, sizeof(*to));
	if (address_is_v4(&k->of.address)) {
		a4->sin_family = AF_INET;
		a4->sin_port = htons(port);
		a4->sin_addr.s_addr = k->of.address.w[3];
		return sizeof(*a4);
	}
	a6->sin6_family = AF_INET6;
	a6->sin6_port = htons(port);
	memcpy(&a6->sin6_addr, &k->of.address, 16);
	return sizeof(*a6);
}

static void wake(struct checker *c)
{
	uint64_t one = 1;

	if (write(c->wake_fd, &one, sizeof(one)) < 0)
		return; /* it is full: the thread is about to wake */
}

static int thread_start(struct checker *c, const char **why)
{
	struct sched_param priority = { .sched_priority = CHECKER_PRIORITY };
	pthread_attr_t attr;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, CHECKER_STACK);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
	pthread_attr_setschedparam(&attr, &priority);
	if (c->o.cpu >= 0) {
		cpu_set_t cpus;

		CPU_ZERO(&cpus);
		CPU_SET((size_t)c->o.cpu, &cpus);
		pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
	}
	err = -pthread_create(&c->thread, &attr, run, c);
	pthread_attr_destroy(&attr);
	if (err)
		*why = "cannot start the thread that asks backends without an agent: CAP_SYS_NICE is needed";
	c->started = !err;
	return err;
}

static void check_close(struct check *k)
{
	k->checker->checks[k->of.id] = NULL;
	k->kind->close(k);
	free(k);
}

static int check_open(struct checker *c, const struct checked *of, const char **why)
{
	static const struct check_kind *const kinds[] = {
		[CHECK_BFD] = &check_bfd, [CHECK_TCP] = &check_connect, [CHECK_HTTP] = &check_http
	};
	struct check *k = calloc(1, sizeof(*k));
	int err;

	*why = "no memory for the checks";
	if (!k)
		return -ENOMEM;
	*k = (struct check){
		.checker = c, .of = *of, .kind = kinds[of->check.type], .session = &c->o.sessions[of->id]
	};
	k->session->agent_age_us = PROBE_AGE_UNKNOWN;
	err = k->kind->open(k, monotonic_ns(), why);
	if (err) {
		k->kind->close(k);
		free(k);
		return err;
	}
	c->checks[of->id] = k;
	if (c->n_ids <= of->id)
		c->n_ids = of->id + 1;
	c->wake_ns = 0;
	return 0;
}

/* Whether a check goes on as it is, or with other numbers. */
static bool check_follow(struct check *k, const struct checked *of)
{
	if (memcmp(&k->of.address, &of->address, sizeof(of->address)) != 0)
		return false;
	if (k->kind == &check_bfd && k->bfd.session.discriminator != k->session->discriminator)
		return false; /* another one that has got the id */
	if (check_equal(&k->of.check, &of->check))
		return true;
	if (k->kind != &check_bfd || of->check.type != CHECK_BFD)
		return false;
	k->of = *of;
	bfd_change(&k->bfd.session, &(struct bfd_settings){ of->check.interval_ns, of->check.interval_ns,
							    (uint8_t)of->check.multiplier });
	check_wake(k);
	return true;
}

int checker_can(struct checker *c, const struct checked *checked, const char **why)
{
	int which = !address_is_v4(&checked->address), err = 0;
	bool was_open;

	pthread_mutex_lock(&c->lock);
	was_open = c->bfd_fd[which] >= 0;
	if (checked->check.type == CHECK_BFD)
		err = check_bfd_receiver(c, which ? AF_INET6 : AF_INET, why);
	if (!was_open && c->bfd_fd[which] >= 0) {
		close(c->bfd_fd[which]);
		c->bfd_fd[which] = -1;
	}
	pthread_mutex_unlock(&c->lock);
	return err;
}

int checker_update(struct checker *c, const struct checked *checked, size_t n, const char **why)
{
	const struct checked *wanted[SHUNT_MAX_BACKENDS] = { NULL };
	const char *because;
	int err = 0, failed;

	for (size_t i = 0; i < n; i++)
		wanted[checked[i].id] = &checked[i];
	pthread_mutex_lock(&c->lock);
	for (uint32_t id = 1; id < c->n_ids; id++)
		if (c->checks[id] && !(wanted[id] && check_follow(c->checks[id], wanted[id])))
			check_close(c->checks[id]);
	for (uint32_t id = 1; id < SHUNT_MAX_BACKENDS; id++) {
		failed = wanted[id] && !c->checks[id] ? check_open(c, wanted[id], &because) : 0;
		if (failed && !err) {
			err = failed;
			*why = because;
		}
	}
	pthread_mutex_unlock(&c->lock);
	failed = n && !c->started ? thread_start(c, &because) : 0;
	if (failed) {
		err = failed;
		*why = because;
	}
	wake(c);
	return err;
}

uint64_t checker_deaf_ns(const struct checker *c)
{
	return c ? __atomic_load_n(&c->deaf_ns, __ATOMIC_RELAXED) : 0;
}

void checker_describe(struct checker *c, uint32_t id, char *text, size_t size)
{
	const struct check *k;

	*text = 0;
	pthread_mutex_lock(&c->lock);
	k = id < SHUNT_MAX_BACKENDS ? c->checks[id] : NULL;
	if (k)
		k->kind->describe(k, text, size);
	pthread_mutex_unlock(&c->lock);
}

uint64_t checker_gap_ns(struct checker *c, uint32_t id)
{
	uint64_t gap_ns = 0;

	pthread_mutex_lock(&c->lock);
	if (id < SHUNT_MAX_BACKENDS && c->checks[id])
		gap_ns = c->checks[id]->kind->gap_ns(c->checks[id]);
	pthread_mutex_unlock(&c->lock);
	return gap_ns;
}

int checker_open(struct checker **out, const struct checker_options *options, const char **why)
{
	struct checker *c = calloc(1, sizeof(*c));
	pthread_mutexattr_t attr;
	int err;

	*why = "no memory for the checks";
	if (!c)
		return -ENOMEM;
	c->o = *options;
	c->bfd_fd[0] = c->bfd_fd[1] = -1;
	c->curl_ns = UINT64_MAX;
	/* Who holds the lock while the thread wants it is not kept by others. */
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&c->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->epoll_fd < 0 || c->timer_fd < 0 || c->wake_fd < 0 ||
	    getrandom(&c->random, sizeof(c->random), 0) != sizeof(c->random)) {
		err = -errno;
		*why = "no descriptors for the checks";
		goto out;
	}
	c->random |= 1;
	err = checker_watch(c, c->timer_fd, SOURCE_TIMER, (uint32_t)c->timer_fd, EPOLLIN);
	err = err ? err : checker_watch(c, c->wake_fd, SOURCE_WAKE, (uint32_t)c->wake_fd, EPOLLIN);
out:
	if (err) {
		checker_close(c);
		return err;
	}
	*out = c;
	return 0;
}

void checker_close(struct checker *c)
{
	if (!c)
		return;
	if (c->started) {
		pthread_mutex_lock(&c->lock);
		c->stop = true;
		pthread_mutex_unlock(&c->lock);
		wake(c);
		pthread_join(c->thread, NULL);
	}
	for (uint32_t id = 1; id < c->n_ids; id++)
		if (c->checks[id])
			check_close(c->checks[id]);
	check_http_close(c);
	for (int i = 0; i < 2; i++)
		if (c->bfd_fd[i] >= 0)
			close(c->bfd_fd[i]);
	if (c->epoll_fd >= 0)
		close(c->epoll_fd);
	if (c->timer_fd >= 0)
		close(c->timer_fd);
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
