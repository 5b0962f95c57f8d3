/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * peer.c - see peer.h.
 */
#include "shuntd/peer.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/key_file.h"
#include "core/peer.h"
#include "shuntd/backends.h"
#include "shuntd/journal.h"
#include "shuntd/loop.h"
#include "shuntd/reload.h"

/* Chosen. */
#define SLICE_NS 1000000ULL /* of taking in, in a turn of the main loop */
#define SENDS_MAX 128 /* datagrams in a turn: about a millisecond */
#define BUFFER_BYTES (4 << 20) /* of the socket: what comes while the main loop is busy */
#define AGAIN_NS 10000000000ULL /* between two requests to tell everything again */
#define REFUSED_NS 10000000000ULL /* between two events of a kind about what was refused */
#define SAID_LONG_AGO 1 /* CLOCK_REALTIME, ns: before any word of an operator */

/* Causes for which something of the peer's is refused, each with an event at most every REFUSED_NS. */
static const struct cause {
	const char *what, *why;
	size_t counter; /* in struct peer_status */
} causes[] = {
	{ "datagrams refused", "forged, or signed with another key", offsetof(struct peer_status, forged) },
	{ "datagrams refused", "repeated, or of another connection", offsetof(struct peer_status, replayed) },
	{ "datagrams refused", "cut short", offsetof(struct peer_status, truncated) },
	{ "datagrams refused", "of another version", offsetof(struct peer_status, other_version) },
	{ "flows refused", "the journal is full", offsetof(struct peer_status, refused_full) },
	{ "flows refused", "their VIP or backend is not configured here",
	  offsetof(struct peer_status, refused_unknown) },
};
#define N_CAUSES (sizeof(causes) / sizeof(causes[0]))
#define REPLAYS_USUAL 16 /* a peer that begins anew is spoken to for a while as it was before: no event */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

struct peering {
	struct shuntd *shuntd;
	struct peer *peer;
	int fd;
	char name[ADDRESS_TEXT_MAX]; /* its address */
	union address address;
	socklen_t address_bytes;
	uint64_t send_errors; /* datagrams that this host didn't take */
	uint64_t again_ns; /* newest request */
	uint64_t refused_full, refused_unknown; /* counts then */
	bool reloaded; /* names that were unknown may be known now */
	uint64_t told[N_CAUSES], told_ns[N_CAUSES]; /* counts in the newest event, and when */
};

/* ---- names ---- */

static const char *vip_name(void *arg, uint32_t id)
{
	const struct peering *p = arg;
	const struct vip_run *v = vip_by_id(p->shuntd, id);

	return v ? v->conf.name : NULL;
}

static const char *name_of_backend(void *arg, uint16_t id)
{
	const struct peering *p = arg;
	const struct backend_run *b = backend_by_id(p->shuntd, id);

	return b ? b->identity : NULL;
}

static bool find_vip(void *arg, const char *name, __be16 port, uint32_t *id, struct shunt_addr *address)
{
	const struct peering *p = arg;
	const struct vip_run *v = vip_find(p->shuntd, name);

	if (!v || v->conf.protocol != IPPROTO_TCP || (v->conf.port && v->conf.port != ntohs(port)))
		return false;
	*id = v->id;
	*address = v->conf.address;
	return true;
}

static bool find_backend(void *arg, const char *name, uint16_t *id)
{
	const struct peering *p = arg;
	bool found = false, removed = true;

	for (size_t i = 0; removed && i < p->shuntd->n_backends; i++) {
		const struct backend_run *b = p->shuntd->backends[i];

		if (strcmp(b->identity, name))
			continue;
		*id = b->id;
		found = true;
		removed = b->draining == VERDICT_REMOVED || b->pool->removed; /* it may be there again */
	}
	return found;
}

/* ---- flows ---- */

static int flow_find(void *arg, const struct flow_key *key, uint32_t *entry)
{
	const struct peering *p = arg;

	return journal_find(p->shuntd->journal, key, entry);
}

static int flow_insert(void *arg, const struct peer_flow *flow, uint32_t *entry)
{
	const struct peering *p = arg;

	return journal_insert(p->shuntd->journal, flow, entry);
}

static bool flow_follow(void *arg, uint32_t entry, uint64_t word, const struct peer_flow *flow)
{
	const struct peering *p = arg;

	return journal_follow(p->shuntd->journal, entry, word, flow);
}

static void flow_claim(void *arg, uint32_t entry)
{
	const struct peering *p = arg;

	journal_claim(p->shuntd->journal, entry);
}

static void flow_drop(void *arg, uint32_t entry)
{
	const struct peering *p = arg;

	journal_drop(p->shuntd->journal, entry);
}

/* ---- what operators said ---- */

/* The moment of a word that was found now: later than the one before, whatever the clock does. */
static uint64_t word_ns(const struct backend_run *b, uint64_t before_ns)
{
	uint64_t now = clock_ns(CLOCK_REALTIME);

	if (!b->said.known)
		return SAID_LONG_AGO;
	return now > before_ns ? now : before_ns + 1;
}

static uint16_t weight_said(const struct backend_run *b)
{
	return b->conf.weight == b->conf.configured_weight ? 0 : (uint16_t)b->conf.weight;
}

/* Find what was said since the look before. */
static void said_follow(struct backend_run *b)
{
	uint16_t weight = weight_said(b);
	bool drained = b->draining == VERDICT_DRAINED;

	if (drained != b->said.drained || (drained && b->drain_deadline_ns != b->said.deadline_ns))
		b->said.drain_at_ns = word_ns(b, b->said.drain_at_ns);
	if (weight != b->said.weight)
		b->said.weight_at_ns = word_ns(b, b->said.weight_at_ns);
	b->said.drained = drained;
	b->said.deadline_ns = b->drain_deadline_ns;
	b->said.weight = weight;
	b->said.known = true;
}

static bool setting_of(void *arg, uint16_t id, struct peer_setting *out)
{
	const struct peering *p = arg;
	struct backend_run *b = backend_by_id(p->shuntd, id);
	uint64_t now;

	if (!b || b->draining == VERDICT_REMOVED)
		return false;
	said_follow(b);
	if (!(b->said.drain_at_ns | b->said.weight_at_ns))
		return false;
	*out = (struct peer_setting){ .drained = b->said.drained,
				      .weight = b->said.weight,
				      .drain_at_ns = b->said.drain_at_ns,
				      .weight_at_ns = b->said.weight_at_ns };
	snprintf(out->backend, sizeof(out->backend), "%s", b->conf.name);
	if (b->said.drained && b->drain_deadline_ns) {
		now = monotonic_ns();
		out->deadline_ns = b->drain_deadline_ns > now ? b->drain_deadline_ns - now : 1;
	}
	return true;
}

static void drain_take(struct shuntd *s, struct backend_run *b, const struct peer_setting *setting)
{
	uint64_t deadline_ns = setting->deadline_ns ? monotonic_ns() + setting->deadline_ns : 0;

	if (setting->drained)
		backends_drain(s, b, VERDICT_DRAINED, deadline_ns);
	else if (b->said.drained)
		backends_undrain(s, b);
	b->said.drained = b->draining == VERDICT_DRAINED; /* its agent may have another will */
	b->said.deadline_ns = b->drain_deadline_ns;
	b->said.drain_at_ns = setting->drain_at_ns;
}

static void setting_take(void *arg, const struct peer_setting *setting)
{
	struct peering *p = arg;
	struct backend_run *b = backend_find(p->shuntd, setting->backend);

	if (!b || b->draining == VERDICT_REMOVED)
		return;
	said_follow(b);
	if (setting->drain_at_ns > b->said.drain_at_ns)
		drain_take(p->shuntd, b, setting);
	if (setting->weight_at_ns <= b->said.weight_at_ns)
		return;
	shuntd_set_weight(p->shuntd, b, setting->weight);
	b->said.weight = weight_said(b);
	b->said.weight_at_ns = setting->weight_at_ns;
}

/* ---- what happens ---- */

static uint64_t draw(void *arg)
{
	uint64_t random = 0;

	(void)arg;
	/* Never fails for so few bytes once the kernel has started; 0 is drawn anew. */
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return 0;
	return random;
}

static void happened(void *arg, enum peer_event event)
{
	struct peering *p = arg;
	struct ledger *ledger = p->shuntd->ledger;
	struct peer_status status;
	char run[17];

	journal_peer(p->shuntd->journal, event != PEER_EVENT_LOST);
	peer_status(p->peer, &status, monotonic_ns());
	snprintf(run, sizeof(run), "%016llx", (unsigned long long)status.peer_run);
	switch (event) {
	case PEER_EVENT_UP:
		ledger_add(ledger, 0, "peer", p->name, "up", "it answers", json_pack("{s:s}", "run", run));
		return;
	case PEER_EVENT_LOST:
		ledger_add(ledger, 0, "peer", p->name, "lost", "it says nothing",
			   json_pack("{s:I}", "silence_ms", (json_int_t)(PEER_LOST_NS / 1000000)));
		return;
	case PEER_EVENT_RESYNCED:
		ledger_add(ledger, 0, "peer", p->name, "resynced", "each told the other all it has",
			   json_pack("{s:I, s:I}", "flows_sent", (json_int_t)status.flows_sent, "flows_received",
				     (json_int_t)status.flows_received));
	}
}

static const struct peer_ops ops = {
	.draw = draw,
	.event = happened,
	.vip_name = vip_name,
	.backend_name = name_of_backend,
	.vip_find = find_vip,
	.backend_find = find_backend,
	.find = flow_find,
	.insert = flow_insert,
	.follow = flow_follow,
	.claim = flow_claim,
	.drop = flow_drop,
	.setting = setting_of,
	.set = setting_take,
};

static uint64_t counter(const struct peer_status *status, const struct cause *cause)
{
	uint64_t value;

	memcpy(&value, (const char *)status + cause->counter, sizeof(value));
	return value;
}

static void refusals_tell(struct peering *p, const struct peer_status *status, uint64_t now)
{
	for (size_t i = 0; i < N_CAUSES; i++) {
		uint64_t n = counter(status, &causes[i]) - p->told[i];
		bool usual = causes[i].counter == offsetof(struct peer_status, replayed) && n < REPLAYS_USUAL;
		json_t *evidence;

		if (!n || usual || (p->told_ns[i] && now < p->told_ns[i] + REFUSED_NS))
			continue;
		p->told[i] += n;
		p->told_ns[i] = now;
		evidence = json_pack("{s:I}", "number", (json_int_t)n);
		if (causes[i].counter == offsetof(struct peer_status, other_version)) {
			json_object_set_new(evidence, "peer_version", json_integer(status->peer_version));
			json_object_set_new(evidence, "our_version", json_integer(PEER_VERSION));
		}
		ledger_add(p->shuntd->ledger, 0, "peer", p->name, causes[i].what, causes[i].why, evidence);
	}
}

/* What was refused and may fit now is asked for again. */
static void again_ask(struct peering *p, const struct peer_status *status, uint64_t now)
{
	uint32_t capacity = dataplane_journal_state(p->shuntd->dataplane)->capacity;
	bool room = status->refused_full != p->refused_full &&
		    journal_in_use(p->shuntd->journal) < (uint64_t)capacity / 4 * 3;

	if (now < p->again_ns + AGAIN_NS || !(room || (p->reloaded && status->refused_unknown != p->refused_unknown)))
		return;
	p->again_ns = now;
	p->refused_full = status->refused_full;
	p->refused_unknown = status->refused_unknown;
	p->reloaded = false;
	peer_ask_again(p->peer);
}

/* ---- datagrams ---- */

static void send_all(struct peering *p, uint64_t now)
{
	uint8_t bytes[PEER_DATAGRAM_MAX];
	size_t n;

	for (int i = 0; i < SENDS_MAX && (n = peer_send(p->peer, bytes, now)); i++)
		if (sendto(p->fd, bytes, n, MSG_DONTWAIT, &p->address.any, p->address_bytes) < 0)
			p->send_errors++; /* lost, as any may be */
}

static bool is_from_peer(const struct peering *p, const union address *from)
{
	if (from->any.sa_family != p->address.any.sa_family)
		return false;
	if (from->any.sa_family == AF_INET)
		return from->v4.sin_port == p->address.v4.sin_port &&
		       from->v4.sin_addr.s_addr == p->address.v4.sin_addr.s_addr;
	return from->v6.sin6_port == p->address.v6.sin6_port &&
	       !memcmp(&from->v6.sin6_addr, &p->address.v6.sin6_addr, sizeof(from->v6.sin6_addr));
}

/* Level-triggered: what isn't read now is read in the next turn. */
static void on_datagrams(void *arg)
{
	struct peering *p = arg;
	uint8_t bytes[PEER_DATAGRAM_MAX + 1]; /* one that is longer shows by its length */
	uint64_t now = monotonic_ns(), end_ns = now + SLICE_NS;

	for (; now < end_ns; now = monotonic_ns()) {
		union address from = { .any.sa_family = AF_UNSPEC };
		socklen_t from_bytes = sizeof(from);
		ssize_t n = recvfrom(p->fd, bytes, sizeof(bytes), MSG_DONTWAIT, &from.any, &from_bytes);

		if (n < 0)
			break;
		if (is_from_peer(p, &from))
			peer_receive(p->peer, bytes, (size_t)n, now);
		else
			peer_receive_strange(p->peer);
	}
	send_all(p, now);
}

void peering_run(struct peering *p)
{
	struct peer_status status;
	uint64_t now;

	if (!p)
		return;
	now = monotonic_ns();
	send_all(p, now);
	peer_status(p->peer, &status, now);
	refusals_tell(p, &status, now);
	again_ask(p, &status, now);
}

/* ---- open, reload, close ---- */

int peering_keys(struct probe_keys *keys, const struct config *config, char *why, size_t why_size)
{
	if (*config->peer.key_file)
		return key_file_read(keys, config->peer.key_file, why, why_size);
	*keys = (struct probe_keys){ .n = 0 };
	return 0;
}

static socklen_t address_set(union address *out, const struct shunt_addr *address, uint16_t port)
{
	memset(out, 0, sizeof(*out));
	if (address_is_v4(address)) {
		out->v4 = (struct sockaddr_in){ .sin_family = AF_INET,
						.sin_port = htons(port),
						.sin_addr.s_addr = address->w[3] };
		return sizeof(out->v4);
	}
	out->v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port) };
	memcpy(&out->v6.sin6_addr, address, sizeof(*address));
	return sizeof(out->v6);
}

static int socket_open(struct peering *p, const struct config_peer *conf)
{
	union address local;
	socklen_t local_bytes = address_set(&local, &conf->local, conf->port);
	int on = 1, size = BUFFER_BYTES;

	p->address_bytes = address_set(&p->address, &conf->address, conf->port);
	p->fd = socket(p->address.any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		return -errno;
	/* The address may come later than we do. */
	if (setsockopt(p->fd, SOL_IP, IP_FREEBIND, &on, sizeof(on)))
		return -errno;
	if (setsockopt(p->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)))
		setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	return bind(p->fd, &local.any, local_bytes) ? -errno : 0;
}

int peering_open(struct peering **out, struct shuntd *s, char *why, size_t why_size)
{
	const struct config_peer *conf = &s->config->peer;
	struct peer_options options = { .bits_per_s = (uint64_t)conf->bandwidth_mbit * 1000000,
					.flows = dataplane_journal(s->dataplane),
					.state = dataplane_journal_state(s->dataplane),
					.ops = &ops };
	struct probe_keys keys;
	struct peering *p;
	int err = peering_keys(&keys, s->config, why, why_size);

	*out = NULL;
	if (err || !keys.n)
		return err;
	p = calloc(1, sizeof(*p));
	if (!p)
		goto no_memory;
	p->shuntd = s;
	p->fd = -1;
	address_format(&conf->address, p->name, sizeof(p->name));
	memcpy(options.keys, keys.key, sizeof(options.keys));
	options.arg = p;
	err = socket_open(p, conf);
	if (err) {
		char local[ADDRESS_TEXT_MAX];

		snprintf(why, why_size, "peer: cannot use %s port %u: %s",
			 address_format(&conf->local, local, sizeof(local)), conf->port,
			 err == -EADDRINUSE ? "something uses it already: give both balancers another `port`"
					    : strerror(-err));
		goto out;
	}
	err = peer_open(&p->peer, &options, monotonic_ns());
	if (err)
		goto no_memory;
	err = loop_add(s->loop, p->fd, on_datagrams, p);
	if (!err) {
		*out = p;
		return 0;
	}
no_memory:
	err = err ? err : -ENOMEM;
	snprintf(why, why_size, "peer: %s", strerror(-err));
out:
	peering_close(p);
	return err;
}

void peering_reloaded(struct peering *p, const struct probe_keys *keys)
{
	if (!p)
		return;
	peer_set_keys(p->peer, keys->key);
	p->reloaded = true;
}

void peering_close(struct peering *p)
{
	if (!p)
		return;
	peer_close(p->peer);
	if (p->fd >= 0) {
		loop_remove(p->shuntd->loop, p->fd);
		close(p->fd);
	}
	free(p);
}

/* ---- showing ---- */

static json_t *run_json(uint64_t run)
{
	char text[17];

	snprintf(text, sizeof(text), "%016llx", (unsigned long long)run);
	return run ? json_string(text) : json_null();
}

static json_t *us_or_null(bool known, uint64_t ns)
{
	return known ? json_integer((json_int_t)((ns + 500) / 1000)) : json_null();
}

json_t *peering_json(const struct peering *p)
{
	static const char *const states[] = { "down", "resyncing", "in sync" };
	json_t *list = json_array(), *o;
	struct peer_status s;

	if (!p)
		return list;
	peer_status(p->peer, &s, monotonic_ns());
	o = json_pack("{s:s, s:s, s:I}", "address", p->name, "state", states[s.state], "since_ns",
		      (json_int_t)s.since_ns);
	json_object_set_new(o, "lag_us", us_or_null(s.state != PEER_DOWN, s.lag_ns));
	json_object_set_new(o, "rtt_us", us_or_null(s.rtt_ns, s.rtt_ns));
	json_object_set_new(o, "run", run_json(s.run));
	json_object_set_new(o, "peer_run", run_json(s.peer_run));
	json_object_set_new(o, "version", json_integer(PEER_VERSION));
	json_object_set_new(o, "peer_version", s.peer_version ? json_integer(s.peer_version) : json_null());
	json_object_update_new(
		o, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			     "flows_sent", (json_int_t)s.flows_sent, "flows_received", (json_int_t)s.flows_received,
			     "flows_refused_full", (json_int_t)s.refused_full, "flows_refused_unknown",
			     (json_int_t)s.refused_unknown, "resyncs", (json_int_t)s.resyncs, "datagrams_sent",
			     (json_int_t)s.datagrams_sent, "datagrams_received", (json_int_t)s.datagrams_received,
			     "bytes_sent", (json_int_t)s.bytes_sent, "bytes_received", (json_int_t)s.bytes_received,
			     "lost", (json_int_t)s.lost, "send_errors", (json_int_t)p->send_errors, "forged",
			     (json_int_t)s.forged, "replayed", (json_int_t)s.replayed, "truncated",
			     (json_int_t)s.truncated, "other_version", (json_int_t)s.other_version));
	json_array_append_new(list, o);
	return list;
}
