/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * peer.c - see peer.h. Changes are found by looking through the journal's words, a slice at a time, and comparing each with
 * what the peer was told of it last (its shadow): so nothing is added to the packets' path, and a flow that changed often
 * between two looks is told once.
 */
#include "core/peer.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* ---- chosen numbers ---- */

#define HELLO_NS PEER_PING_NS /* between two attempts to find the peer */
#define ANSWER_NS 1000000ULL /* between two answers to HELLOs */
#define PASS_NS (8 * PEER_PERIOD_NS) /* a pass over the journal, where a period's slice suffices for that */
#define SLICE_MIN 4096 /* entries looked at in a period: 40 us */
#define SLICE_MAX 32768 /* 0.4 ms: a million flows take 30 periods */
#define FLIGHTS 256 /* datagrams with changes that wait for their acknowledgement */
#define RTO_FIRST_NS 100000000ULL
#define RTO_MIN_NS (2 * PEER_PERIOD_NS)
#define RTO_MAX_NS 500000000ULL
#define ACK_RANGES 32 /* what is below them is told anew, needlessly perhaps */
#define BURST_NS PEER_PERIOD_NS /* of the bandwidth */
#define SYNS_APART_NS 1000000000ULL
#define HEADERS_BYTES 66 /* Ethernet, IPv6 and UDP around a datagram, with the check sequence */

/* ---- the wire: peer.h ---- */

enum kind { KIND_HELLO = 1, KIND_DATA = 2 };
enum frame { FRAME_ACK = 1, FRAME_PING, FRAME_FLOWS, FRAME_GONE, FRAME_SETTING, FRAME_END, FRAME_AGAIN };

#define HEADER_BYTES 32
#define TAG_BYTES 8
#define FRAMES_END (PEER_DATAGRAM_MAX - TAG_BYTES)
#define FLOW_BYTES_MAX 38
#define FLOW_BYTES_V4 26
#define FLOWS_MAX (FRAMES_END / FLOW_BYTES_V4)
#define SETTING_BYTES_MAX (1 + 1 + CONFIG_NAME_MAX + 24)

/* What a datagram told: an entry of the journal, or one of these. */
#define ITEM_SETTING 0x80000000U /* | a backend's id */
#define ITEM_END 0xffffffffU
#define ITEM_AGAIN 0xfffffffeU
#define ITEMS_MAX (PEER_DATAGRAM_MAX / 4)

struct flight {
	uint64_t number, sent_ns;
	uint64_t found_ns; /* what it tells happened after this */
	uint32_t n;
	uint32_t items[ITEMS_MAX];
};

/* What is known of an entry of ours. */
struct shadow {
	uint64_t told; /* what the peer was told of it: TOLD(), 0: nothing, or that it is gone; with DIRTY: tell anew */
	uint32_t opened; /* opened_digest() of the flow that this is about */
	uint32_t theirs : 24; /* the peer's entry + 1, of which it is a copy; holds if it has FLOW_SYNCED. 0: of none */
	uint32_t was_theirs : 1; /* the last claim known of was the peer's */
	uint32_t claims : 7; /* how many there were, CLAIMS() */
};
#define THEIRS_MAX (1U << 24)
#define CLAIMS(n) ((n)&0x7fU)
_Static_assert(sizeof(struct shadow) == 16, "padding");

/* What of a word is told: not the owner, which the other computes, and FLOW_DETOUR follows from it. */
#define TOLD_MASK FLOW_WORD(0xffff, 0, 0xff, PEER_FLOW_FLAGS)
#define DIRTY (1ULL << 63)

struct range {
	uint64_t first, last;
};

struct peer {
	struct peer_options o;
	struct peer_status status; /* its counts, state, since_ns and peer_version */
	/* the connection */
	uint64_t run; /* ours: of the connection, or, while there is none, offered */
	uint64_t other; /* the peer's; 0: there is none */
	uint64_t next; /* ours for the next connection, offered to who says HELLO while there is one */
	uint64_t answer_to; /* run of who said HELLO; 0: nobody */
	uint64_t hello_ns, answered_ns, heard_ns, sent_ns;
	/* numbers, out */
	uint64_t number; /* of the newest datagram */
	struct flight flights[FLIGHTS]; /* a ring, the oldest first */
	unsigned first_flight, n_flights;
	uint64_t eliciting_ns; /* newest datagram that wants an ACK */
	uint64_t ping_number, ping_ns; /* newest PING; 0: acknowledged */
	uint64_t srtt_ns, rttvar_ns; /* RFC 6298 */
	unsigned backoff;
	uint64_t due_ns; /* bandwidth: the next datagram may leave BURST_NS before this (generic cell rate algorithm) */
	/* numbers, in */
	struct range ranges[ACK_RANGES]; /* taken in; the newest first */
	unsigned n_ranges;
	uint64_t received; /* the newest */
	bool ack_due;
	/* the look through what is here */
	struct shadow *shadow; /* by entry */
	uint64_t said[SHUNT_MAX_BACKENDS]; /* by backend: the setting that was told; 0: none */
	uint32_t at; /* next entry */
	uint32_t setting_at; /* next backend */
	uint32_t visits; /* entries that may still be looked at in this period */
	bool waits; /* what comes next found no room in the newest datagram */
	uint64_t visits_ns; /* when it began */
	uint64_t pass, pass_ns, pass_took_ns; /* passes ended; begin of this one; what the one before took */
	uint64_t lost_found_ns,
		lost_pass; /* found_ns of what was lost and isn't told anew yet, 0: none; when that was */
	/* telling everything */
	bool passed; /* a pass ended, */
	uint64_t passed_number; /* and this was the newest number then */
	bool passed_lost; /* something of it was lost: once more */
	bool end_sent, end_acked, end_heard, again_due;
	/* what the peer has */
	uint32_t *theirs; /* by its entry: ours + 1; 0: none */
	uint32_t n_theirs;
	bool claiming; /* copies that it doesn't know of are ours now */
	uint32_t claim_at;
};

/* ---- bytes ---- */

static void put(uint8_t **at, uint64_t value, unsigned n_bytes)
{
	while (n_bytes--)
		*(*at)++ = (uint8_t)(value >> 8 * n_bytes);
}

static void put_bytes(uint8_t **at, const void *bytes, size_t n)
{
	memcpy(*at, bytes, n);
	*at += n;
}

struct cursor {
	const uint8_t *at, *end;
	bool cut; /* there was less than was asked for */
};

static uint64_t get(struct cursor *c, unsigned n_bytes)
{
	uint64_t value = 0;

	if ((size_t)(c->end - c->at) < n_bytes) {
		c->at = c->end;
		c->cut = true;
		return 0;
	}
	while (n_bytes--)
		value = value << 8 | *c->at++;
	return value;
}

static void get_bytes(struct cursor *c, void *out, size_t n)
{
	if ((size_t)(c->end - c->at) < n) {
		memset(out, 0, n);
		c->at = c->end;
		c->cut = true;
		return;
	}
	memcpy(out, c->at, n);
	c->at += n;
}

/* An empty one, and one that is longer than any of ours, is no name. */
static void get_name(struct cursor *c, char out[CONFIG_NAME_MAX])
{
	size_t n = get(c, 1);

	memset(out, 0, CONFIG_NAME_MAX);
	if (!n || n >= CONFIG_NAME_MAX)
		c->cut = true;
	else
		get_bytes(c, out, n);
}

static uint64_t tag_of(const struct siphash_key *key, const uint8_t *bytes, size_t n)
{
	__u64 blocks[PEER_DATAGRAM_MAX / 8 + 1] = { 0 };

	memcpy(blocks, bytes, n);
	for (size_t i = 0; i < n / 8 + 1; i++)
		blocks[i] = le64toh(blocks[i]);
	blocks[n / 8] |= (__u64)n << 56;
	return siphash_blocks(key, blocks, (int)(n / 8 + 1), 2, 4);
}

static bool tag_fits(const struct peer *p, const uint8_t *bytes, size_t n)
{
	struct cursor c = { bytes + n - TAG_BYTES, bytes + n, false };
	uint64_t tag = get(&c, 8);

	return !((tag ^ tag_of(&p->o.keys[0], bytes, n - TAG_BYTES)) &&
		 (tag ^ tag_of(&p->o.keys[1], bytes, n - TAG_BYTES)));
}

/* Header and tag around the frames that end at `end`; its bytes. */
static size_t datagram_close(struct peer *p, uint8_t *out, uint8_t *end, enum kind kind, uint64_t from, uint64_t to,
			     uint64_t number, uint64_t now)
{
	size_t n = (size_t)(end - out) + TAG_BYTES;
	uint8_t *at = out;

	put(&at, PEER_MAGIC, 4);
	put(&at, PEER_VERSION, 1);
	put(&at, kind, 1);
	put(&at, n, 2);
	put(&at, from, 8);
	put(&at, to, 8);
	put(&at, number, 8);
	put(&end, tag_of(&p->o.keys[0], out, n - TAG_BYTES), TAG_BYTES);
	p->due_ns = (p->due_ns > now ? p->due_ns : now) + (n + HEADERS_BYTES) * 8 * 1000000000 / p->o.bits_per_s;
	p->status.datagrams_sent++;
	p->status.bytes_sent += n;
	return n;
}

/* ---- the connection ---- */

static uint32_t entries_used(const struct peer *p)
{
	uint32_t used = __atomic_load_n(&p->o.state->used, __ATOMIC_ACQUIRE);

	return used < p->o.state->capacity ? used : p->o.state->capacity;
}

static uint64_t run_draw(const struct peer *p)
{
	uint64_t run = 0;

	while (!run || run == p->run || run == p->next)
		run = p->o.ops->draw(p->o.arg);
	return run;
}

static void state_set(struct peer *p, enum peer_state state, uint64_t now)
{
	p->status.state = state;
	p->status.since_ns = now;
}

/* Everything is to be told, from the first entry on. */
static void tell_everything(struct peer *p)
{
	p->at = 0;
	p->setting_at = 1;
	p->passed = p->passed_lost = p->end_sent = p->end_acked = false;
	p->lost_found_ns = 0;
	p->status.resyncs++;
}

static void connect_to(struct peer *p, uint64_t run, uint64_t other, uint64_t now)
{
	p->run = run;
	p->other = other;
	p->next = run_draw(p);
	p->heard_ns = p->eliciting_ns = p->pass_ns = now;
	p->number = p->received = p->ping_number = p->backoff = 0;
	p->n_flights = p->n_ranges = 0;
	p->pass_took_ns = 0;
	p->ack_due = p->end_heard = p->claiming = p->again_due = false;
	p->answer_to = 0;
	for (uint32_t i = 0, used = entries_used(p); i < used; i++) {
		p->shadow[i].told = 0; /* who claimed a flow last is known all the same */
		p->shadow[i].theirs = 0;
	}
	memset(p->said, 0, sizeof(p->said));
	if (p->theirs)
		memset(p->theirs, 0, p->n_theirs * sizeof(*p->theirs));
	tell_everything(p);
	state_set(p, PEER_RESYNCING, now);
	p->o.ops->event(p->o.arg, PEER_EVENT_UP);
}

/* Whoever says something of this connection from now on speaks of the past. */
static void disconnect(struct peer *p, uint64_t now)
{
	p->run = p->next;
	p->next = run_draw(p);
	p->other = 0;
	p->n_flights = 0;
	p->hello_ns = 0;
	state_set(p, PEER_DOWN, now);
	p->o.ops->event(p->o.arg, PEER_EVENT_LOST);
}

static void state_follow(struct peer *p, uint64_t now)
{
	enum peer_state state = p->end_acked && p->end_heard ? PEER_IN_SYNC : PEER_RESYNCING;

	if (!p->other || p->status.state == state)
		return;
	state_set(p, state, now);
	if (state == PEER_IN_SYNC)
		p->o.ops->event(p->o.arg, PEER_EVENT_RESYNCED);
}

/* ---- entries ---- */

static uint64_t word_load(const struct flow *f)
{
	return __atomic_load_n(&f->word, __ATOMIC_ACQUIRE);
}

static bool is_copy(uint64_t word)
{
	return FLOW_WORD_FLAGS(word) & FLOW_SYNCED;
}

static uint32_t opened_digest(const struct flow *f)
{
	return (uint32_t)(__atomic_load_n(&f->opened_ns, __ATOMIC_RELAXED) >> 10);
}

/* The entry is another flow's than the one it was, or a flow's that was opened anew: what was told of it doesn't hold. */
static void shadow_follow(struct peer *p, uint32_t entry)
{
	struct shadow *s = &p->shadow[entry];
	uint32_t opened = opened_digest(&p->o.flows[entry]);

	if (s->opened == opened)
		return;
	s->opened = opened;
	if (s->told)
		s->told |= DIRTY;
}

static void item_dirty(struct peer *p, uint32_t item)
{
	if (item == ITEM_END)
		p->end_sent = false;
	else if (item == ITEM_AGAIN)
		p->again_due = true;
	else if (item & ITEM_SETTING)
		p->said[item & ~ITEM_SETTING] = 0;
	else
		p->shadow[item].told |= DIRTY;
}

/* ---- writing a datagram ---- */

struct names {
	uint32_t ids[FLOWS_MAX];
	unsigned n;
	size_t n_bytes;
	uint8_t bytes[PEER_DATAGRAM_MAX];
};

struct build {
	uint8_t *out, *at; /* frames end at `at`, but for: */
	struct names vips, backends; /* of the FLOWS */
	unsigned n_flows;
	size_t n_record_bytes;
	uint8_t records[PEER_DATAGRAM_MAX];
	unsigned n_gone;
	uint32_t gone[ITEMS_MAX];
	struct flight *flight; /* NULL: nothing may be told now */
};

static size_t build_room(const struct build *b)
{
	size_t used = (size_t)(b->at - b->out);

	if (b->n_flows)
		used += 5 + b->vips.n_bytes + b->backends.n_bytes + b->n_record_bytes;
	if (b->n_gone)
		used += 3 + 4 * (size_t)b->n_gone;
	return used < FRAMES_END ? FRAMES_END - used : 0;
}

static void build_item(struct build *b, uint32_t item)
{
	b->flight->items[b->flight->n++] = item;
}

/* A name's number in this datagram; it is added where it isn't there. */
static uint8_t names_number(struct names *names, uint32_t id, const char *name)
{
	unsigned i = 0;
	size_t n = strlen(name);
	uint8_t *at = names->bytes + names->n_bytes;

	while (i < names->n && names->ids[i] != id)
		i++;
	if (i < names->n)
		return (uint8_t)i;
	names->ids[names->n++] = id;
	put(&at, n, 1);
	put_bytes(&at, name, n);
	names->n_bytes += 1 + n;
	return (uint8_t)i;
}

static void build_flow(struct peer *p, struct build *b, uint32_t entry, uint64_t word, const char *vip,
		       const char *backend, uint64_t now)
{
	const struct flow *f = &p->o.flows[entry];
	bool v4 = address_is_v4(&f->key.client);
	uint64_t opened_ns = __atomic_load_n(&f->opened_ns, __ATOMIC_RELAXED);
	uint64_t age_ms = now > opened_ns ? (now - opened_ns) / 1000000 : 0;
	uint8_t *at = b->records + b->n_record_bytes;

	put(&at, entry, 4);
	put(&at, names_number(&b->vips, f->vip, vip), 1);
	put(&at, names_number(&b->backends, FLOW_WORD_BACKEND(word), backend), 1);
	put(&at, FLOW_WORD_STATE(word), 1);
	put(&at, FLOW_WORD_FLAGS(word) & PEER_FLOW_FLAGS, 1);
	put(&at, p->shadow[entry].claims, 1);
	put(&at, v4 ? 4 : 6, 1);
	put_bytes(&at, &f->key.client_port, 2);
	put_bytes(&at, &f->key.vip_port, 2);
	put(&at, f->isn, 4);
	put(&at, age_ms < UINT32_MAX ? age_ms : UINT32_MAX, 4);
	if (v4)
		put_bytes(&at, &f->key.client.w[3], 4);
	else
		put_bytes(&at, &f->key.client, 16);
	b->n_record_bytes = (size_t)(at - b->records);
	b->n_flows++;
	p->status.flows_sent++;
}

/* Look at an entry, and tell of it if it isn't what the peer knows. False: there is no room. */
static bool visit(struct peer *p, struct build *b, uint64_t now)
{
	struct shadow *s = &p->shadow[p->at];
	uint64_t word = word_load(&p->o.flows[p->at]);
	uint64_t told = is_copy(word) ? 0 : word & TOLD_MASK;
	const char *vip, *backend;

	if (told)
		shadow_follow(p, p->at);
	if (told == s->told)
		return true;
	if (!told) {
		if (!b->flight || build_room(b) < 3 + 4)
			return false;
		b->gone[b->n_gone++] = p->at;
		if (!word)
			s->claims = s->was_theirs = 0;
		p->status.flows_sent++;
	} else {
		vip = p->o.ops->vip_name(p->o.arg, p->o.flows[p->at].vip);
		backend = p->o.ops->backend_name(p->o.arg, FLOW_WORD_BACKEND(word));
		if (!vip || !backend)
			return true; /* nobody's any more: it will end */
		if (!b->flight || build_room(b) < 5 + FLOW_BYTES_MAX + 2 + strlen(vip) + strlen(backend))
			return false;
		s->claims = CLAIMS(s->claims + s->was_theirs);
		s->was_theirs = 0;
		build_flow(p, b, p->at, word, vip, backend, now);
	}
	build_item(b, p->at);
	s->told = told;
	return true;
}

/* The same of a backend's setting. */
static bool visit_setting(struct peer *p, struct build *b)
{
	struct peer_setting setting;
	uint16_t id = (uint16_t)p->setting_at;
	uint64_t deadline_ms;

	if (!p->o.ops->setting(p->o.arg, id, &setting) || p->said[id] == setting.drain_at_ns + setting.weight_at_ns)
		return true;
	if (!b->flight || build_room(b) < SETTING_BYTES_MAX)
		return false;
	deadline_ms = (setting.deadline_ns + 999999) / 1000000;
	put(&b->at, FRAME_SETTING, 1);
	put(&b->at, strlen(setting.backend), 1);
	put_bytes(&b->at, setting.backend, strlen(setting.backend));
	put(&b->at, setting.drained, 1);
	put(&b->at, 0, 1);
	put(&b->at, setting.weight, 2);
	put(&b->at, deadline_ms < UINT32_MAX ? deadline_ms : UINT32_MAX, 4);
	put(&b->at, setting.drain_at_ns, 8);
	put(&b->at, setting.weight_at_ns, 8);
	build_item(b, ITEM_SETTING | id);
	p->said[id] = setting.drain_at_ns + setting.weight_at_ns;
	return true;
}

static void pass_end(struct peer *p, uint64_t now)
{
	if (!p->passed) {
		p->passed = true;
		p->passed_number = p->number + 1; /* that of the datagram that is being written */
	}
	if (p->lost_found_ns && p->pass > p->lost_pass)
		p->lost_found_ns = 0;
	p->pass++;
	p->pass_took_ns = now - p->pass_ns;
	p->pass_ns = now;
	p->at = 0;
	p->setting_at = 1;
	p->visits = 0;
}

static void look_through(struct peer *p, struct build *b, uint64_t now)
{
	p->waits = true;
	for (; p->visits && p->setting_at < SHUNT_MAX_BACKENDS; p->setting_at++)
		if (!visit_setting(p, b))
			return;
	while (p->visits) {
		if (p->at >= entries_used(p)) {
			pass_end(p, now);
			break;
		}
		if (!visit(p, b, now))
			return;
		p->at++;
		p->visits--;
	}
	p->waits = false;
}

static void build_ack(struct peer *p, struct build *b)
{
	put(&b->at, FRAME_ACK, 1);
	put(&b->at, p->received, 8);
	put(&b->at, p->n_ranges, 1);
	for (unsigned i = 0; i < p->n_ranges; i++) {
		const struct range *r = &p->ranges[i];

		put(&b->at, r->last - r->first + 1, 2);
		put(&b->at, i + 1 < p->n_ranges ? r->first - r[1].last - 1 : 0, 2);
	}
	p->ack_due = false;
}

static void build_lists(struct build *b)
{
	if (b->n_flows) {
		put(&b->at, FRAME_FLOWS, 1);
		put(&b->at, b->vips.n, 1);
		put_bytes(&b->at, b->vips.bytes, b->vips.n_bytes);
		put(&b->at, b->backends.n, 1);
		put_bytes(&b->at, b->backends.bytes, b->backends.n_bytes);
		put(&b->at, b->n_flows, 2);
		put_bytes(&b->at, b->records, b->n_record_bytes);
	}
	/* After the flows: one that has another entry now is told before its old one is said to be gone. */
	if (b->n_gone) {
		put(&b->at, FRAME_GONE, 1);
		put(&b->at, b->n_gone, 2);
		for (unsigned i = 0; i < b->n_gone; i++)
			put(&b->at, b->gone[i], 4);
	}
}

/* Whether everything has been told and taken in, so that END may be said; where something was lost, once more. */
static bool end_is_due(struct peer *p)
{
	if (!p->passed || p->end_sent)
		return false;
	if (p->n_flights && p->flights[p->first_flight].number <= p->passed_number)
		return false;
	if (!p->passed_lost)
		return true;
	p->passed = p->passed_lost = false;
	p->at = 0;
	p->setting_at = 1;
	return false;
}

static uint64_t rto_ns(const struct peer *p)
{
	uint64_t rto = p->srtt_ns ? p->srtt_ns + 4 * p->rttvar_ns : RTO_FIRST_NS;

	rto = (rto > RTO_MIN_NS ? rto : RTO_MIN_NS) << p->backoff;
	return rto < RTO_MAX_NS ? rto : RTO_MAX_NS;
}

static bool ping_is_due(struct peer *p, uint64_t now)
{
	if (p->n_flights && now >= p->eliciting_ns + rto_ns(p)) {
		p->backoff += p->backoff < 8;
		return true;
	}
	return now >= p->sent_ns + PEER_PING_NS;
}

static size_t data_send(struct peer *p, uint8_t *out, uint64_t now)
{
	static struct build build; /* too large for the stack; one datagram is written at a time */
	struct build *b = &build;
	struct flight *f = &p->flights[(p->first_flight + p->n_flights) % FLIGHTS];
	bool elicits;

	b->out = out;
	b->at = out + HEADER_BYTES;
	b->vips.n = b->backends.n = b->n_flows = b->n_gone = 0;
	b->vips.n_bytes = b->backends.n_bytes = b->n_record_bytes = 0;
	b->flight = p->n_flights < FLIGHTS ? f : NULL;
	f = b->flight;
	if (f)
		f->n = 0;
	if (p->ack_due)
		build_ack(p, b);
	if (f && p->again_due) {
		put(&b->at, FRAME_AGAIN, 1);
		build_item(b, ITEM_AGAIN);
		p->again_due = false;
	}
	look_through(p, b, now);
	build_lists(b);
	if (f && end_is_due(p) && build_room(b)) {
		put(&b->at, FRAME_END, 1);
		build_item(b, ITEM_END);
		p->end_sent = true;
	}
	elicits = f && f->n;
	if (!elicits && ping_is_due(p, now)) {
		put(&b->at, FRAME_PING, 1);
		p->ping_number = p->number + 1;
		p->ping_ns = now;
		elicits = true;
	}
	if (b->at == out + HEADER_BYTES)
		return 0;
	p->number++;
	p->sent_ns = now;
	if (elicits)
		p->eliciting_ns = now;
	if (f && f->n) {
		f->number = p->number;
		f->sent_ns = now;
		f->found_ns = now > p->pass_took_ns ? now - p->pass_took_ns : 0;
		p->n_flights++;
	}
	return datagram_close(p, out, b->at, KIND_DATA, p->run, p->other, p->number, now);
}

/* Copies that the peer no longer knows of: it told all it has. */
static void claim_slice(struct peer *p)
{
	uint32_t used = entries_used(p), end = used - p->claim_at > SLICE_MAX ? p->claim_at + SLICE_MAX : used;

	for (; p->claim_at < end; p->claim_at++)
		if (is_copy(word_load(&p->o.flows[p->claim_at])) && !p->shadow[p->claim_at].theirs)
			p->o.ops->claim(p->o.arg, p->claim_at);
	p->claiming = p->claim_at < used;
}

/* What a new period brings. */
static void period_follow(struct peer *p, uint64_t now)
{
	uint32_t used = entries_used(p);
	uint64_t elapsed_ns = now - p->visits_ns, n;

	if (elapsed_ns < PEER_PERIOD_NS - PEER_PERIOD_NS / 4)
		return;
	if (elapsed_ns > PASS_NS)
		elapsed_ns = PASS_NS;
	p->visits_ns = now;
	n = used * elapsed_ns / PASS_NS;
	p->visits = n < SLICE_MIN ? SLICE_MIN : n > SLICE_MAX ? SLICE_MAX : (uint32_t)n;
	if (p->claiming)
		claim_slice(p);
}

size_t peer_send(struct peer *p, uint8_t out[PEER_DATAGRAM_MAX], uint64_t now)
{
	uint8_t *frames = out + HEADER_BYTES;

	if (p->other && now > p->heard_ns + PEER_LOST_NS)
		disconnect(p, now);
	if (p->due_ns > now + BURST_NS)
		return 0;
	if (p->answer_to && now >= p->answered_ns + ANSWER_NS) {
		uint64_t to = p->answer_to;

		p->answer_to = 0;
		p->answered_ns = now;
		return datagram_close(p, out, frames, KIND_HELLO, p->other ? p->next : p->run, to, 0, now);
	}
	if (p->other) {
		period_follow(p, now);
		return data_send(p, out, now);
	}
	if (now < p->hello_ns + HELLO_NS)
		return 0;
	p->hello_ns = now;
	return datagram_close(p, out, frames, KIND_HELLO, p->run, 0, 0, now);
}

/* ---- reading one ---- */

static void rtt_take(struct peer *p, uint64_t rtt)
{
	uint64_t off = rtt > p->srtt_ns ? rtt - p->srtt_ns : p->srtt_ns - rtt;

	if (!p->srtt_ns) {
		p->srtt_ns = rtt ? rtt : 1;
		p->rttvar_ns = rtt / 2;
		return;
	}
	p->rttvar_ns = p->rttvar_ns - p->rttvar_ns / 4 + off / 4;
	p->srtt_ns = p->srtt_ns - p->srtt_ns / 8 + rtt / 8;
}

static void flight_lost(struct peer *p, const struct flight *f)
{
	p->status.lost++;
	p->passed_lost = p->passed_lost || !p->end_sent;
	if (!p->lost_found_ns || f->found_ns < p->lost_found_ns)
		p->lost_found_ns = f->found_ns ? f->found_ns : 1;
	p->lost_pass = p->pass;
	for (uint32_t i = 0; i < f->n; i++)
		item_dirty(p, f->items[i]);
}

static void flight_acked(struct peer *p, const struct flight *f)
{
	for (uint32_t i = 0; i < f->n; i++)
		p->end_acked = p->end_acked || (f->items[i] == ITEM_END && p->end_sent);
}

/* Each number up to the newest was taken in, or never will be. False: no such number was sent. */
static bool ack_take(struct peer *p, struct cursor *c, uint64_t now)
{
	uint64_t newest = get(c, 8), at = newest;
	struct range ranges[ACK_RANGES];
	unsigned n = (unsigned)get(c, 1);

	if (n > ACK_RANGES || newest > p->number)
		return false;
	for (unsigned i = 0; i < n; i++) {
		uint64_t taken = get(c, 2), gap = get(c, 2);

		if (taken + gap > at)
			return false;
		ranges[i] = (struct range){ .first = at - taken + 1, .last = at };
		at -= taken + gap;
	}
	if (c->cut)
		return false;
	if (p->ping_number && newest >= p->ping_number) {
		if (newest == p->ping_number)
			rtt_take(p, now - p->ping_ns);
		p->ping_number = p->backoff = 0;
	}
	while (p->n_flights && p->flights[p->first_flight].number <= newest) {
		const struct flight *f = &p->flights[p->first_flight];
		bool taken = false;

		for (unsigned i = 0; i < n && !taken; i++)
			taken = f->number >= ranges[i].first && f->number <= ranges[i].last;
		if (f->number == newest && taken)
			rtt_take(p, now - f->sent_ns);
		if (taken)
			flight_acked(p, f);
		else
			flight_lost(p, f);
		p->first_flight = (p->first_flight + 1) % FLIGHTS;
		p->n_flights--;
		p->backoff = 0;
	}
	return true;
}

static void copy_drop(struct peer *p, uint32_t entry)
{
	p->shadow[entry].theirs = p->shadow[entry].claims = p->shadow[entry].was_theirs = 0;
	p->o.ops->drop(p->o.arg, entry);
}

/* Our copy of the peer's entry; false: there is none. */
static bool copy_of(const struct peer *p, uint32_t their_entry, uint32_t *entry)
{
	if (their_entry >= p->n_theirs || !p->theirs[their_entry])
		return false;
	*entry = p->theirs[their_entry] - 1;
	return p->shadow[*entry].theirs == their_entry + 1 && is_copy(word_load(&p->o.flows[*entry]));
}

static bool theirs_grow(struct peer *p, uint32_t their_entry)
{
	uint32_t n = p->n_theirs ? p->n_theirs : CONFIG_FLOWS_MIN, *grown;

	if (their_entry < p->n_theirs)
		return true;
	if (their_entry >= THEIRS_MAX - 1)
		return false;
	while (n <= their_entry)
		n *= 2;
	grown = realloc(p->theirs, n * sizeof(*grown));
	if (!grown)
		return false;
	memset(grown + p->n_theirs, 0, (n - p->n_theirs) * sizeof(*grown));
	p->theirs = grown;
	p->n_theirs = n;
	return true;
}

/*
 * Both call the flow theirs: whether the peer's word counts. Each side must come to the opposite of the other: so times,
 * which they don't see alike, count only where they are far apart.
 */
static bool peer_wins(const struct peer *p, const struct flow *ours, const struct shadow *s,
		      const struct peer_flow *flow, uint8_t claims)
{
	uint64_t opened_ns = __atomic_load_n(&ours->opened_ns, __ATOMIC_RELAXED);
	unsigned ahead = CLAIMS(claims - (s->claims + s->was_theirs));

	if (ahead)
		return ahead < CLAIMS(~0U) / 2;
	if (ours->isn != flow->isn && flow->opened_ns > opened_ns + SYNS_APART_NS)
		return true;
	if (ours->isn != flow->isn && opened_ns > flow->opened_ns + SYNS_APART_NS)
		return false;
	return p->other < p->run;
}

/* The peer has a flow that has an entry here. */
static bool flow_adopt(struct peer *p, uint32_t entry, const struct peer_flow *flow, uint8_t claims)
{
	const struct flow *f = &p->o.flows[entry];
	struct shadow *s = &p->shadow[entry];

	for (int i = 0; i < 4; i++) {
		uint64_t word = word_load(f);

		if (!word)
			return false;
		if (!is_copy(word)) {
			shadow_follow(p, entry);
			if (!peer_wins(p, f, s, flow, claims)) {
				s->told |= DIRTY; /* ours counts, it must know */
				return false;
			}
		}
		if (p->o.ops->follow(p->o.arg, entry, word, flow))
			return true;
	}
	return false;
}

static void flow_take(struct peer *p, uint32_t their_entry, const struct peer_flow *flow, uint8_t claims)
{
	uint32_t entry, before;
	bool had = copy_of(p, their_entry, &before), has = false;
	int err;

	if (!theirs_grow(p, their_entry)) {
		p->status.refused_full++;
		return;
	}
	err = p->o.ops->find(p->o.arg, &flow->key, &entry);
	if (err) {
		err = p->o.ops->insert(p->o.arg, flow, &entry);
		has = !err;
		if (err == -EEXIST) /* the walk opened it at this moment */
			err = p->o.ops->find(p->o.arg, &flow->key, &entry);
	}
	if (!err && !has)
		has = flow_adopt(p, entry, flow, claims);
	else if (err)
		p->status.refused_full++;
	if (had && (err || before != entry))
		copy_drop(p, before); /* that entry was another flow's */
	p->theirs[their_entry] = has ? entry + 1 : 0;
	if (!has)
		return;
	p->shadow[entry].theirs = (their_entry + 1) & (THEIRS_MAX - 1);
	p->shadow[entry].was_theirs = 1;
	p->shadow[entry].claims = CLAIMS(claims);
	p->shadow[entry].opened = opened_digest(&p->o.flows[entry]);
	if (p->shadow[entry].told)
		p->shadow[entry].told |= DIRTY; /* it was ours: what was told of it holds no longer */
}

/* The names at the head of FLOWS, and what they are here. */
struct found {
	bool known;
	char name[CONFIG_NAME_MAX];
	uint16_t backend;
};

static void names_read(struct peer *p, struct cursor *c, struct found *found, unsigned n, bool backends)
{
	for (unsigned i = 0; i < n; i++) {
		get_name(c, found[i].name);
		found[i].known =
			!c->cut && (!backends || p->o.ops->backend_find(p->o.arg, found[i].name, &found[i].backend));
	}
}

static bool flow_read(struct peer *p, struct cursor *c, const struct found *vips, unsigned n_vips,
		      const struct found *backends, unsigned n_backends, uint64_t now)
{
	struct peer_flow flow = { .key.protocol = IPPROTO_TCP };
	uint32_t their_entry = (uint32_t)get(c, 4), before;
	uint8_t vip = (uint8_t)get(c, 1), backend = (uint8_t)get(c, 1), claims, version;
	uint64_t age_ns;

	flow.state = (uint8_t)get(c, 1);
	flow.flags = (uint8_t)get(c, 1) & PEER_FLOW_FLAGS;
	claims = (uint8_t)get(c, 1);
	version = (uint8_t)get(c, 1);
	get_bytes(c, &flow.key.client_port, 2);
	get_bytes(c, &flow.key.vip_port, 2);
	flow.isn = (uint32_t)get(c, 4);
	age_ns = get(c, 4) * 1000000;
	if (version == 4) {
		flow.key.client.w[2] = SHUNT_V4_MAPPED;
		get_bytes(c, &flow.key.client.w[3], 4);
	} else {
		get_bytes(c, &flow.key.client, 16);
	}
	if (c->cut || vip >= n_vips || backend >= n_backends || (version != 4 && version != 6) ||
	    flow.state < FLOW_OPEN || flow.state > FLOW_CLOSED)
		return false;
	flow.opened_ns = now > age_ns ? now - age_ns : 1;
	flow.backend = backends[backend].backend;
	p->status.flows_received++;
	if (vips[vip].known && backends[backend].known &&
	    p->o.ops->vip_find(p->o.arg, vips[vip].name, flow.key.vip_port, &flow.vip, &flow.key.vip) &&
	    address_is_v4(&flow.key.vip) == (version == 4)) {
		flow_take(p, their_entry, &flow, claims);
		return true;
	}
	p->status.refused_unknown++;
	if (copy_of(p, their_entry, &before))
		copy_drop(p, before);
	return true;
}

static bool flows_read(struct peer *p, struct cursor *c, uint64_t now)
{
	static struct found vips[256], backends[256]; /* too large for the stack */
	unsigned n_vips, n_backends, n;

	n_vips = (unsigned)get(c, 1);
	names_read(p, c, vips, n_vips, false);
	n_backends = (unsigned)get(c, 1);
	names_read(p, c, backends, n_backends, true);
	n = (unsigned)get(c, 2);
	for (unsigned i = 0; i < n; i++)
		if (c->cut || !flow_read(p, c, vips, n_vips, backends, n_backends, now))
			return false;
	return true;
}

static bool gone_read(struct peer *p, struct cursor *c)
{
	unsigned n = (unsigned)get(c, 2);

	for (unsigned i = 0; i < n && !c->cut; i++) {
		uint32_t their_entry = (uint32_t)get(c, 4), entry;

		if (c->cut)
			break;
		p->status.flows_received++;
		if (copy_of(p, their_entry, &entry))
			copy_drop(p, entry);
		if (their_entry < p->n_theirs)
			p->theirs[their_entry] = 0;
	}
	return true;
}

static bool setting_read(struct peer *p, struct cursor *c)
{
	struct peer_setting setting = { .drained = false };

	get_name(c, setting.backend);
	setting.drained = get(c, 1);
	get(c, 1);
	setting.weight = (uint16_t)get(c, 2);
	setting.deadline_ns = get(c, 4) * 1000000;
	setting.drain_at_ns = get(c, 8);
	setting.weight_at_ns = get(c, 8);
	if (c->cut)
		return false;
	p->o.ops->set(p->o.arg, &setting);
	return true;
}

static bool frame_read(struct peer *p, struct cursor *c, uint64_t now)
{
	enum frame frame = (enum frame)get(c, 1);

	p->ack_due = p->ack_due || frame != FRAME_ACK;
	switch (frame) {
	case FRAME_ACK:
		return ack_take(p, c, now);
	case FRAME_PING:
		return true;
	case FRAME_FLOWS:
		return flows_read(p, c, now);
	case FRAME_GONE:
		return gone_read(p, c);
	case FRAME_SETTING:
		return setting_read(p, c);
	case FRAME_END:
		p->claiming = p->claiming || !p->end_heard;
		p->claim_at = p->end_heard ? p->claim_at : 0;
		p->end_heard = true;
		return true;
	case FRAME_AGAIN:
		for (uint32_t i = 0; i < entries_used(p); i++)
			p->shadow[i].told |= p->shadow[i].told ? DIRTY : 0;
		memset(p->said, 0, sizeof(p->said));
		tell_everything(p);
		return true;
	default:
		return false;
	}
}

/* Taken in whole: `number` is the newest. */
static void range_add(struct peer *p, uint64_t number)
{
	if (p->n_ranges && p->ranges[0].last + 1 == number) {
		struct range *r = &p->ranges[0];

		r->last = number;
		if (r->last - r->first >= UINT16_MAX)
			r->first = r->last - UINT16_MAX + 1;
		return;
	}
	/* A gap that doesn't fit is one beyond which nothing is waited for. */
	if (p->n_ranges && number - p->ranges[0].last > UINT16_MAX)
		p->n_ranges = 0;
	p->n_ranges -= p->n_ranges == ACK_RANGES;
	memmove(p->ranges + 1, p->ranges, p->n_ranges * sizeof(*p->ranges));
	p->ranges[0] = (struct range){ number, number };
	p->n_ranges++;
}

static void data_receive(struct peer *p, struct cursor *c, uint64_t number, uint64_t now)
{
	if (number <= p->received) {
		p->status.replayed++;
		return;
	}
	p->heard_ns = now;
	while (c->at < c->end) {
		if (frame_read(p, c, now) && !c->cut)
			continue;
		p->status.truncated++; /* the sender erred: it hears that this one wasn't taken in */
		return;
	}
	p->received = number;
	range_add(p, number);
	state_follow(p, now);
}

static void hello_receive(struct peer *p, uint64_t from, uint64_t to, uint64_t now)
{
	if (from == p->run || from == p->next || !from)
		p->status.replayed++; /* our own word come back */
	else if (to == (p->other ? p->next : p->run))
		connect_to(p, to, from, now);
	else if (!to && from != p->other)
		p->answer_to = from;
	else
		p->status.replayed += to && to != p->run; /* an answer to somebody who is no more */
}

void peer_receive(struct peer *p, const void *bytes, size_t n, uint64_t now)
{
	struct cursor c = { bytes, (const uint8_t *)bytes + n, false };
	uint64_t magic = get(&c, 4), version = get(&c, 1), kind = get(&c, 1), length = get(&c, 2);
	uint64_t from, to, number;

	if (n > PEER_DATAGRAM_MAX || n < HEADER_BYTES + TAG_BYTES || length != n || magic != PEER_MAGIC) {
		p->status.truncated += magic == PEER_MAGIC;
		p->status.forged += magic != PEER_MAGIC;
		return;
	}
	if (!tag_fits(p, bytes, n)) {
		p->status.forged++;
		return;
	}
	p->status.peer_version = (uint8_t)version;
	if (version != PEER_VERSION) {
		p->status.other_version++;
		return;
	}
	p->status.datagrams_received++;
	p->status.bytes_received += n;
	from = get(&c, 8);
	to = get(&c, 8);
	number = get(&c, 8);
	c.end -= TAG_BYTES;
	if (kind == KIND_HELLO) {
		hello_receive(p, from, to, now);
		return;
	}
	/* Who knows the run that is offered heard it a moment ago. */
	if (kind == KIND_DATA && from && from != p->other && to == (p->other ? p->next : p->run))
		connect_to(p, to, from, now);
	if (kind == KIND_DATA && p->other && from == p->other && to == p->run)
		data_receive(p, &c, number, now);
	else
		p->status.replayed++;
}

void peer_receive_strange(struct peer *p)
{
	p->status.forged++;
}

void peer_ask_again(struct peer *p)
{
	p->again_due = p->other != 0;
}

void peer_status(const struct peer *p, struct peer_status *out, uint64_t now)
{
	uint64_t found_ns = p->lost_found_ns;

	*out = p->status;
	out->run = p->other ? p->run : 0;
	out->peer_run = p->other;
	out->rtt_ns = p->srtt_ns;
	if (!p->other)
		return;
	if (p->n_flights && (!found_ns || p->flights[p->first_flight].found_ns < found_ns))
		found_ns = p->flights[p->first_flight].found_ns;
	if (p->waits && (!found_ns || p->pass_ns < found_ns))
		found_ns = p->pass_ns;
	if (!p->end_acked)
		found_ns = p->status.since_ns;
	out->lag_ns = found_ns && now > found_ns ? now - found_ns : 0;
}

/* ---- open, close ---- */

void peer_set_keys(struct peer *p, const struct siphash_key keys[2])
{
	memcpy(p->o.keys, keys, sizeof(p->o.keys));
}

int peer_open(struct peer **out, const struct peer_options *options, uint64_t now)
{
	struct peer *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->o = *options;
	p->shadow = calloc(p->o.state->capacity, sizeof(*p->shadow));
	if (!p->shadow) {
		peer_close(p);
		return -ENOMEM;
	}
	p->run = run_draw(p);
	p->next = run_draw(p);
	state_set(p, PEER_DOWN, now);
	*out = p;
	return 0;
}

void peer_close(struct peer *p)
{
	if (!p)
		return;
	free(p->shadow);
	free(p->theirs);
	free(p);
}
