/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * backends.c - see backends.h. The state word has two writers: the detector takes UP away, this file gives it; both by
 * compare-and-swap. Records, sessions and tables are written here only.
 */
#include "shuntd/backends.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#include "core/flow.h"
#include "shunt/heartbeat.h"

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

const char *backend_state_name(uint32_t word)
{
	switch (BACKEND_WORD_STATE(word)) {
	case BACKEND_UP:
		return "up";
	case BACKEND_DOWN:
		return "down";
	case BACKEND_DRAINING:
		return "draining";
	default:
		return "unused";
	}
}

const char *backend_verdict_name(uint32_t word)
{
	switch (BACKEND_WORD_VERDICT(word)) {
	case VERDICT_JOINING:
		return "joining";
	case VERDICT_ANSWERING:
		return "answering";
	case VERDICT_SILENT:
		return "silent";
	case VERDICT_UNRESOLVED:
		return "unresolved";
	case VERDICT_DRAINED:
		return "drained";
	case VERDICT_ASKED:
		return "asked";
	case VERDICT_REMOVED:
		return "removed";
	default:
		return "none";
	}
}

static struct backend *record(struct shuntd *s, const struct backend_run *b)
{
	return &dataplane_backends(s->dataplane)[b->id];
}

static const char *name_of(const struct shuntd *s, uint32_t id)
{
	const struct backend_run *b = backend_by_id(s, id);

	return b ? b->conf.name : "?";
}

/* Note the word that is in force now as seen. */
static void word_seen(struct backend_run *b, uint32_t word, uint64_t at_ns)
{
	b->last_word = word;
	b->since_ns = at_ns;
	b->since_wall_s = (int64_t)time(NULL);
}

/* Bring the pool's heirs into line with who is alive; pools_swap() hands the table to the kernel. */
static void pool_follow(const struct backend_run *b, bool alive)
{
	struct pool_run *pool = b->pool;
	uint64_t start = clock_ns(CLOCK_MONOTONIC);
	int changed = table_set_alive(pool->table, b->id, alive);

	if (changed > 0)
		pool->heirs_changed += (uint32_t)changed;
	pool->build_ns += clock_ns(CLOCK_MONOTONIC) - start;
}

/*
 * Swap in the tables that changed, once for all that happened together: the kernel's call returns only after every
 * packet that may still read the old table has gone (some 10 ms), though packets see the new one from its start.
 */
static void pools_swap(struct shuntd *s)
{
	for (size_t p = 0; p < s->n_pools; p++) {
		struct pool_run *pool = s->pools[p];
		const struct slot *slots;
		uint32_t n_slots;
		uint64_t at;
		int err;

		if (!pool->heirs_changed)
			continue;
		slots = table_slots(pool->table, &n_slots);
		at = clock_ns(CLOCK_MONOTONIC);
		err = dataplane_set_table(s->dataplane, pool->id, slots, n_slots);
		if (err) {
			ledger_add(s->ledger, at, "pool", pool->name, "table kept", strerror(-err), NULL);
			continue; /* tried again after the next change; the old table is still a right one */
		}
		pool->rebuilt_ns = at;
		ledger_add(s->ledger, at, "pool", pool->name, "table rebuilt", "the living changed",
			   json_pack("{s:I, s:I}", "heirs_changed", (json_int_t)pool->heirs_changed, "build_us",
				     (json_int_t)(pool->build_ns / 1000)));
		pool->heirs_changed = 0;
		pool->build_ns = 0;
	}
}

/* A backend went down, however we learnt of it. */
static void backend_down(struct shuntd *s, struct backend_run *b, uint32_t word, uint64_t at_ns, json_t *evidence)
{
	word_seen(b, word, at_ns);
	admission_reset(&b->admission, true);
	ledger_add(s->ledger, at_ns, "backend", b->conf.name, "down", backend_verdict_name(word), evidence);
	pool_follow(b, false);
}

void backends_event(struct shuntd *s, const struct event *e)
{
	struct backend_run *b;
	json_t *evidence;

	if (e->kind == EVENT_SELF_SUSPECT) {
		ledger_add(s->ledger, e->at_ns, "shuntd", "self", "self-suspect", "silence without a witness",
			   json_pack("{s:I, s:I}", "first_round", (json_int_t)e->first_round, "last_round",
				     (json_int_t)e->last_round));
		return;
	}
	b = e->kind == EVENT_SILENT ? backend_by_id(s, e->backend) : NULL;
	if (!b)
		return;
	if (BACKEND_WORD_STATE(b->last_word) != BACKEND_UP)
		return; /* backends_run() saw the word first */
	evidence = json_pack("{s:i, s:I, s:I, s:I, s:I, s:s, s:I}", "rounds", (int)s->config->probe_multiplier,
			     "first_round", (json_int_t)e->first_round, "last_round", (json_int_t)e->last_round,
			     "unanswered_us", (json_int_t)((e->at_ns - e->first_sent_ns) / 1000), "silence_us",
			     (json_int_t)((e->at_ns - e->answered_ns) / 1000), "witness", name_of(s, e->witness),
			     "witness_round", (json_int_t)e->witness_round);
	backend_down(s, b, BACKEND_WORD(BACKEND_DOWN, VERDICT_SILENT), e->at_ns, evidence);
}

/* The way to a backend: 0 or -errno. */
static int backend_way(struct shuntd *s, const struct backend_run *b, struct nexthop *way)
{
	int err = netlink_resolve(s->netlink, &b->conf.address, way);

	if (!err && b->conf.forward == FORWARD_L2 && !way->on_link)
		return -EMULTIHOP; /* rewriting the MAC reaches the gateway only, which would send the VIP's packet back */
	if (!err && b->conf.forward == FORWARD_IPIP && !(way->local.w[0] | way->local.w[3]))
		return -EADDRNOTAVAIL;
	return err;
}

static const char *way_error(int err)
{
	switch (err) {
	case -EHOSTUNREACH:
		return "no neighbour entry yet";
	case -ENETUNREACH:
		return "no route";
	case -ENETDOWN:
		return "no carrier on its interface";
	case -EOPNOTSUPP:
		return "behind an interface that is not Ethernet";
	case -EADDRNOTAVAIL:
		return "no local address to write as the outer source";
	case -EMULTIHOP:
		return "behind a gateway, which forward l2 cannot pass";
	default:
		return strerror(-err);
	}
}

static void record_write(struct shuntd *s, struct backend_run *b, const struct nexthop *way)
{
	struct backend *r = record(s, b);

	/* A packet in between is dropped as NO_NEIGHBOUR rather than sent to half an address. */
	__atomic_store_n(&r->egress_ifindex, 0, __ATOMIC_SEQ_CST);
	r->forward = b->conf.forward;
	r->family = address_is_v4(&b->conf.address) ? AF_INET : AF_INET6;
	r->mtu_bytes = way->mtu_bytes;
	memcpy(r->dst_mac, way->dst_mac, sizeof(r->dst_mac));
	memcpy(r->src_mac, way->src_mac, sizeof(r->src_mac));
	r->local = way->local;
	r->address = b->conf.address;
	dataplane_add_egress(s->dataplane, way->ifindex);
	__atomic_store_n(&r->egress_ifindex, way->ifindex, __ATOMIC_SEQ_CST);
}

void backends_resolve(struct shuntd *s)
{
	struct nexthop way;
	size_t n_resolved = 0;

	for (size_t i = 0; i < s->n_backends; i++) {
		struct backend_run *b = s->backends[i];
		int err = backend_way(s, b, &way);
		char mac[18];

		memset(mac, 0, sizeof(mac));
		if (!err) {
			bool changed = !b->resolved || memcmp(&way, &b->nexthop, sizeof(way));

			n_resolved++;
			if (!changed)
				continue;
			record_write(s, b, &way);
			snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", way.dst_mac[0], way.dst_mac[1],
				 way.dst_mac[2], way.dst_mac[3], way.dst_mac[4], way.dst_mac[5]);
			ledger_add(s->ledger, 0, "backend", b->conf.name, "resolved",
				   b->ever_resolved ? "its way changed" : "first",
				   json_pack("{s:s, s:i, s:i}", "mac", mac, "ifindex", (int)way.ifindex, "mtu",
					     (int)way.mtu_bytes));
			b->nexthop = way;
			b->resolved = b->ever_resolved = true;
			continue;
		}
		/* The last known way stays in the record: whether the backend lives is for the heartbeats to say. */
		if (b->resolved || !b->way_error || b->way_error != err)
			ledger_add(s->ledger, 0, "backend", b->conf.name, "unresolved", way_error(err), NULL);
		b->resolved = false;
		b->way_error = err;
	}
	/* No route at all to one backend, where others have theirs: it can't be asked, so it can't be found silent. */
	for (size_t i = 0; i < s->n_backends; i++) {
		struct backend_run *b = s->backends[i];
		uint32_t word = record(s, b)->word, down = BACKEND_WORD(BACKEND_DOWN, VERDICT_UNRESOLVED);

		if (b->resolved || b->way_error == -EHOSTUNREACH || !n_resolved ||
		    BACKEND_WORD_STATE(word) != BACKEND_UP)
			continue;
		if (__atomic_compare_exchange_n(&record(s, b)->word, &word, down, false, __ATOMIC_SEQ_CST,
						__ATOMIC_RELAXED))
			backend_down(s, b, down, clock_ns(CLOCK_MONOTONIC),
				     json_pack("{s:s}", "cause", way_error(b->way_error)));
	}
}

/* The usual round trip, where it exceeds an interval, is not silence. Smoothed over about eight looks. */
static void grace_follow(struct shuntd *s, struct backend_run *b, struct session *session)
{
	uint64_t rtt = __atomic_load_n(&session->rtt_ns, __ATOMIC_RELAXED);

	b->rtt_ns = b->rtt_ns - b->rtt_ns / 8 + rtt / 8;
	__atomic_store_n(&session->grace_ns, b->rtt_ns > s->config->probe_interval_ns ? b->rtt_ns : 0,
			 __ATOMIC_RELAXED);
}

void backends_run(struct shuntd *s)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC);
	struct admission_limits limits = {
		.gap_ns = s->config->probe_interval_ns * s->config->probe_multiplier * PROBER_SLOW + BACKENDS_PERIOD_NS,
		.hold_ns = s->config->probe_hold_ns,
	};

	for (size_t i = 0; i < s->n_backends; i++) {
		struct backend_run *b = s->backends[i];
		struct session *session = &dataplane_sessions(s->dataplane)[b->id];
		uint32_t word = __atomic_load_n(&record(s, b)->word, __ATOMIC_SEQ_CST);

		grace_follow(s, b, session);
		if (BACKEND_WORD_STATE(word) == BACKEND_UP)
			continue;
		if (BACKEND_WORD_STATE(b->last_word) == BACKEND_UP) {
			/* Flipped, and its event is late or lost. Late: the ring is drained before the next look. */
			if (b->flip_unexplained)
				backend_down(s, b, word, now, NULL);
			b->flip_unexplained = !b->flip_unexplained;
			continue;
		}
		b->flip_unexplained = false;
		if (!admission_update(&b->admission, &limits, now, session->answers, session->answered_ns) ||
		    !b->ever_resolved)
			continue;
		pool_follow(b, true);
		word_seen(b, BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING), now);
		__atomic_store_n(&record(s, b)->word, b->last_word, __ATOMIC_SEQ_CST);
		ledger_add(s->ledger, 0, "backend", b->conf.name, "up",
			   b->admission.was_up ? "answered for the hold time" : "answering",
			   json_pack("{s:I, s:I}", "answers", (json_int_t)session->answers, "rtt_us",
				     (json_int_t)(session->rtt_ns / 1000)));
		admission_reset(&b->admission, true);
	}
	pools_swap(s);
}

/* Build a pool's table from those of its backends that are not removed and hand it to the kernel. */
static int pool_open(struct shuntd *s, struct pool_run *pool, const char **why)
{
	struct table_member *members = calloc(s->n_backends, sizeof(*members));
	const struct slot *slots;
	uint32_t n_slots;
	size_t n = 0;
	int err;

	if (!members)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];

		if (b->pool == pool)
			members[n++] = (struct table_member){ .id = b->id,
							      .alive = false,
							      .weight = b->conf.weight,
							      .name = b->conf.name,
							      .domain = b->conf.domain };
	}
	err = table_build(&pool->table, members, n, pool->n_slots, s->config->seed);
	free(members);
	if (err)
		return err;
	slots = table_slots(pool->table, &n_slots);
	err = dataplane_set_table(s->dataplane, pool->id, slots, n_slots);
	if (err)
		*why = "cannot load a table into the kernel";
	return err;
}

static uint32_t vip_flags(const struct shuntd *s, const struct vip_run *v)
{
	uint32_t flags = 0;

	if (v->conf.protocol != IPPROTO_TCP)
		return 0;
	flags |= VIP_JOURNAL;
	flags |= v->migrating ? VIP_MIGRATING : 0;
	flags |= s->confirm ? VIP_CONFIRM : 0;
	flags |= v->conf.syn_limit.action != SYN_LIMIT_OFF ? VIP_POLICED : 0;
	return flags;
}

static int vip_write(struct shuntd *s, const struct vip_run *v)
{
	struct vip_key key = { .address = v->conf.address, .port = htons(v->conf.port), .protocol = v->conf.protocol };
	struct vip vip = { .id = v->id,
			   .table = v->pool->id,
			   .n_slots = v->pool->n_slots,
			   .flags = vip_flags(s, v),
			   .on_failure = v->conf.on_failure,
			   .n_slots_before = v->migrating ? v->n_slots_before : 0 };

	vip_hash_mask((uint64_t *)vip.hash_mask, &v->conf);
	return dataplane_set_vip(s->dataplane, &key, &vip);
}

int vips_flags_apply(struct shuntd *s)
{
	int err = 0;

	for (size_t i = 0; i < s->n_vips; i++) {
		int failed = vip_write(s, s->vips[i]);

		err = err ? err : failed;
	}
	return err;
}

/* A session and a record for a backend that was added: it joins. */
static int backend_join(struct shuntd *s, struct backend_run *b)
{
	struct session *session = &dataplane_sessions(s->dataplane)[b->id];
	struct detector *d = dataplane_detector(s->dataplane);
	uint32_t salt;

	if (getrandom(&salt, sizeof(salt), 0) != sizeof(salt))
		return -EIO;
	memset(session, 0, sizeof(*session));
	session->discriminator = (salt & ~(SHUNT_MAX_BACKENDS - 1U)) | b->id;
	session->your_discriminator = reflector_discriminator(&b->conf.address);
	session->address = b->conf.address;
	if (d->n_sessions < b->id)
		d->n_sessions = b->id;
	word_seen(b, BACKEND_WORD(BACKEND_DOWN, VERDICT_JOINING), clock_ns(CLOCK_MONOTONIC));
	record(s, b)->word = b->last_word;
	return 0;
}

int backends_open(struct shuntd *s, const char **why)
{
	struct detector *d = dataplane_detector(s->dataplane);
	int err;

	*why = "no memory for the backends";
	d->interval_ns = s->config->probe_interval_ns;
	d->multiplier = s->config->probe_multiplier;
	d->tick_ns = s->detector == DETECTOR_KERNEL ? d->interval_ns / 2 : d->interval_ns;
	for (size_t p = 0; p < s->config->n_pools; p++) {
		const struct config_pool *conf = &s->config->pools[p];
		struct pool_run *pool = pool_run_add(s, conf);

		if (!pool)
			return -ENOMEM;
		for (size_t i = 0; i < conf->n_backends; i++) {
			struct backend_run *b = backend_run_add(s, &conf->backends[i], pool);

			err = b ? backend_join(s, b) : -ENOMEM;
			if (err)
				return err;
		}
		err = pool_open(s, pool, why);
		if (err)
			return err;
	}
	backends_resolve(s);
	for (size_t i = 0; i < s->config->n_vips; i++) {
		const struct config_vip *conf = &s->config->vips[i];
		struct vip_run *v = vip_run_add(s, conf, pool_find(s, s->config->pools[conf->pool].name));

		err = v ? vip_write(s, v) : -ENOMEM;
		if (err) {
			*why = "cannot load a VIP into the kernel";
			return err;
		}
	}
	return 0;
}

void backends_close(struct shuntd *s)
{
	runs_free(s);
}
