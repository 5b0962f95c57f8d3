/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * peer_test.c - two balancers that tell each other their flows, over a network and under a clock of the test's own: it
 * loses, repeats, reorders, cuts and spoils. Their journals are plain memory, the walk a few lines here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>

#include "core/peer.h"
#include "shunt/siphash.h"

#define MS 1000000ULL
#define SECOND (1000 * MS)
#define CAPACITY 131072
#define N_BACKENDS 8
#define WIRE 4096 /* datagrams under way */

static uint64_t now, seed;

static uint64_t draw64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static bool chance(unsigned permille)
{
	return draw64() >> 11 < (1ULL << 53) / 1000 * permille;
}

/* ---- a balancer ---- */

struct end {
	const char *name;
	struct peer *peer;
	struct flow flows[CAPACITY];
	struct journal_state state;
	uint32_t index[4 * CAPACITY]; /* by hash of the key: entry + 1 */
	uint32_t freed[CAPACITY], n_freed;
	uint32_t room; /* flows that it takes from its peer */
	int id_shift; /* backend and VIP ids are the same but for this */
	bool no_vip; /* its configuration lacks the VIP */
	struct peer_setting settings[N_BACKENDS];
	int n_up, n_lost, n_resynced;
	uint32_t n_copies_in; /* copies taken in */
};
static struct end ends[2], *const A = &ends[0], *const B = &ends[1];

static uint32_t key_hash(const struct flow_key *key)
{
	static const struct siphash_key none = { 1, 2 };
	__u64 blocks[6] = { 0 };

	memcpy(blocks, key, sizeof(*key));
	return (uint32_t)siphash_blocks(&none, blocks, 6, 1, 3);
}

/* The place of a key in the index, or the free one where it would be. */
static uint32_t *index_of(struct end *e, const struct flow_key *key)
{
	for (uint32_t h = key_hash(key);; h++) {
		uint32_t *at = &e->index[h % (4 * CAPACITY)];

		if (!*at || !memcmp(&e->flows[*at - 1].key, key, sizeof(*key)))
			return at;
	}
}

static int end_find(void *arg, const struct flow_key *key, uint32_t *entry)
{
	struct end *e = arg;
	uint32_t *at = index_of(e, key);

	if (!*at || !e->flows[*at - 1].word)
		return -ENOENT;
	*entry = *at - 1;
	return 0;
}

static uint32_t take(struct end *e, const struct flow_key *key)
{
	uint32_t entry = e->n_freed ? e->freed[--e->n_freed] : e->state.used++;

	assert_true(entry < CAPACITY);
	e->flows[entry].key = *key;
	*index_of(e, key) = entry + 1;
	return entry;
}

static uint64_t word_of(const struct peer_flow *flow, uint8_t more)
{
	return FLOW_WORD(flow->backend, 0, flow->state, flow->flags | more);
}

static int end_insert(void *arg, const struct peer_flow *flow, uint32_t *entry)
{
	struct end *e = arg;

	if (!e->room)
		return -ENOSPC;
	e->room--;
	*entry = take(e, &flow->key);
	e->flows[*entry].isn = flow->isn;
	e->flows[*entry].opened_ns = flow->opened_ns;
	e->flows[*entry].vip = flow->vip;
	e->flows[*entry].word = word_of(flow, FLOW_SYNCED);
	e->n_copies_in++;
	return 0;
}

static bool end_follow(void *arg, uint32_t entry, uint64_t word, const struct peer_flow *flow)
{
	struct end *e = arg;

	assert_int_equal(e->flows[entry].word, word);
	assert_memory_equal(&e->flows[entry].key, &flow->key, sizeof(flow->key));
	e->flows[entry].word = word_of(flow, FLOW_SYNCED);
	e->flows[entry].isn = flow->isn;
	e->flows[entry].opened_ns = flow->opened_ns;
	return true;
}

static void end_claim(void *arg, uint32_t entry)
{
	struct end *e = arg;

	assert_true(FLOW_WORD_FLAGS(e->flows[entry].word) & FLOW_SYNCED);
	e->flows[entry].word &= ~((uint64_t)FLOW_SYNCED << 40);
}

static void flow_free(struct end *e, uint32_t entry)
{
	assert_int_not_equal(e->flows[entry].word, 0);
	e->flows[entry].word = 0; /* its key stays, as it does in the journal, and so does the index */
	e->freed[e->n_freed++] = entry;
}

static void end_drop(void *arg, uint32_t entry)
{
	struct end *e = arg;

	assert_true(FLOW_WORD_FLAGS(e->flows[entry].word) & FLOW_SYNCED);
	flow_free(e, entry);
	e->room++;
}

static const char *const backend_names[N_BACKENDS] = {
	"",     "gpu1", "gpu2", "gpu3",
	"gpu4", "gpu5", "gpu6", "gpu-whose-name-is-as-long-as-any-may-be-in-our-configurations-1"
};

static const char *end_vip_name(void *arg, uint32_t id)
{
	struct end *e = arg;

	return id == 10 + (uint32_t)e->id_shift ? "chat" : id == 20 + (uint32_t)e->id_shift ? "chat6" : NULL;
}

static const char *end_backend_name(void *arg, uint16_t id)
{
	struct end *e = arg;
	int n = id - e->id_shift;

	return n > 0 && n < N_BACKENDS ? backend_names[n] : NULL;
}

static bool end_vip_find(void *arg, const char *name, __be16 port, uint32_t *id, struct shunt_addr *address)
{
	struct end *e = arg;
	bool v6 = !strcmp(name, "chat6");

	if (e->no_vip || (!v6 && strcmp(name, "chat") != 0) || port != htons(80))
		return false;
	*id = (v6 ? 20 : 10) + (uint32_t)e->id_shift;
	return !address_parse(address, v6 ? "2001:db8:ff::10" : "203.0.113.10");
}

static bool end_backend_find(void *arg, const char *name, uint16_t *id)
{
	struct end *e = arg;

	for (int i = 1; i < N_BACKENDS; i++) {
		*id = (uint16_t)(i + e->id_shift);
		if (!strcmp(name, backend_names[i]))
			return true;
	}
	return false;
}

static uint64_t end_draw(void *arg)
{
	(void)arg;
	return draw64();
}

static void end_event(void *arg, enum peer_event event)
{
	struct end *e = arg;

	e->n_up += event == PEER_EVENT_UP;
	e->n_lost += event == PEER_EVENT_LOST;
	e->n_resynced += event == PEER_EVENT_RESYNCED;
}

static bool end_setting(void *arg, uint16_t id, struct peer_setting *out)
{
	struct end *e = arg;
	int n = id - e->id_shift;

	if (n <= 0 || n >= N_BACKENDS || !(e->settings[n].drain_at_ns | e->settings[n].weight_at_ns))
		return false;
	*out = e->settings[n];
	snprintf(out->backend, sizeof(out->backend), "%s", backend_names[n]);
	return true;
}

static void end_set(void *arg, const struct peer_setting *setting)
{
	struct end *e = arg;
	uint16_t id;
	struct peer_setting *mine;

	if (!end_backend_find(e, setting->backend, &id))
		return;
	mine = &e->settings[id - e->id_shift];
	if (setting->drain_at_ns > mine->drain_at_ns) {
		mine->drained = setting->drained;
		mine->deadline_ns = setting->deadline_ns;
		mine->drain_at_ns = setting->drain_at_ns;
	}
	if (setting->weight_at_ns > mine->weight_at_ns) {
		mine->weight = setting->weight;
		mine->weight_at_ns = setting->weight_at_ns;
	}
}

static const struct peer_ops ops = {
	.draw = end_draw,
	.event = end_event,
	.vip_name = end_vip_name,
	.backend_name = end_backend_name,
	.vip_find = end_vip_find,
	.backend_find = end_backend_find,
	.find = end_find,
	.insert = end_insert,
	.follow = end_follow,
	.claim = end_claim,
	.drop = end_drop,
	.setting = end_setting,
	.set = end_set,
};

static struct siphash_key keys[2] = { { 1, 2 }, { 1, 2 } };
static uint64_t bits_per_s;

static void end_start(struct end *e)
{
	struct peer_options options = { .keys = { keys[0], keys[1] },
					.bits_per_s = bits_per_s,
					.flows = e->flows,
					.state = &e->state,
					.ops = &ops,
					.arg = e };

	assert_int_equal(peer_open(&e->peer, &options, now), 0);
}

static void end_stop(struct end *e)
{
	peer_close(e->peer);
	e->peer = NULL;
}

static void journal_forget(struct end *e)
{
	memset(e->flows, 0, sizeof(e->flows));
	memset(e->index, 0, sizeof(e->index));
	memset(&e->state, 0, sizeof(e->state));
	e->state.capacity = CAPACITY;
	e->n_freed = 0;
	e->room = CAPACITY;
}

static struct peer_status status(struct end *e)
{
	struct peer_status s;

	peer_status(e->peer, &s, now);
	return s;
}

/* ---- the network ---- */

static struct wire {
	uint64_t at_ns; /* 0: free */
	uint64_t number; /* those of a moment arrive in the order in which they were sent */
	struct end *to;
	size_t n;
	uint8_t bytes[PEER_DATAGRAM_MAX];
} wire[WIRE];
static uint64_t n_put;
static unsigned loss, repeats, reorders, cuts, spoils; /* permille */
static bool is_cut; /* nothing passes */
static uint64_t bytes_to[2]; /* sent */
static void (*tap)(struct end *to, const uint8_t *bytes, size_t n);

static bool is_before(const struct wire *a, const struct wire *b)
{
	return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->number < b->number);
}

static void wire_put(struct end *to, const uint8_t *bytes, size_t n, uint64_t delay_ns)
{
	for (int i = 0; i < WIRE; i++) {
		if (wire[i].at_ns)
			continue;
		wire[i].at_ns = now + delay_ns;
		wire[i].number = ++n_put;
		wire[i].to = to;
		wire[i].n = n;
		memcpy(wire[i].bytes, bytes, n);
		return;
	}
}

static void network_send(struct end *to, uint8_t *bytes, size_t n)
{
	bytes_to[to - ends] += n + 66;
	if (tap)
		tap(to, bytes, n);
	if (is_cut || chance(loss))
		return;
	if (chance(cuts))
		n = draw64() % n;
	if (n && chance(spoils))
		bytes[draw64() % n] ^= (uint8_t)(1 << draw64() % 8);
	for (int copies = chance(repeats) ? 2 : 1; copies--;)
		wire_put(to, bytes, n, MS / 5 + (chance(reorders) ? draw64() % (20 * MS) : 0));
}

static void end_run(struct end *e)
{
	uint8_t bytes[PEER_DATAGRAM_MAX];
	size_t n;

	while (e->peer && (n = peer_send(e->peer, bytes, now)))
		network_send(e == A ? B : A, bytes, n);
}

static void network_run(void)
{
	for (;;) {
		struct wire *first = NULL;

		for (int i = 0; i < WIRE; i++)
			if (wire[i].at_ns && wire[i].at_ns <= now && (!first || is_before(&wire[i], first)))
				first = &wire[i];
		if (!first)
			return;
		first->at_ns = 0;
		if (!first->to->peer)
			continue;
		peer_receive(first->to->peer, first->bytes, first->n, now);
		end_run(first->to);
	}
}

static void run_for(uint64_t ns)
{
	for (uint64_t end = now + ns; now < end; now += MS) {
		network_run();
		if (now / MS % 10 == 0)
			end_run(A);
		if (now / MS % 10 == 3)
			end_run(B);
	}
}

static void network_is_well(void)
{
	loss = repeats = reorders = cuts = spoils = 0;
	is_cut = false;
}

static int world_open(void **unused)
{
	(void)unused;
	now = 10000 * SECOND;
	seed = 0x5eed0123456789abULL;
	memset(ends, 0, sizeof(ends));
	memset(wire, 0, sizeof(wire));
	bytes_to[0] = bytes_to[1] = 0;
	tap = NULL;
	network_is_well();
	bits_per_s = 1000000000;
	keys[0] = keys[1] = (struct siphash_key){ 1, 2 };
	A->name = "A";
	B->name = "B";
	B->id_shift = 7;
	journal_forget(A);
	journal_forget(B);
	end_start(A);
	end_start(B);
	return 0;
}

static int world_close(void **unused)
{
	(void)unused;
	end_stop(A);
	end_stop(B);
	return 0;
}

static void wait_sync(uint64_t ns)
{
	for (uint64_t end = now + ns; now < end;) {
		run_for(10 * MS);
		if (status(A).state == PEER_IN_SYNC && status(B).state == PEER_IN_SYNC)
			return;
	}
	fail_msg("not in sync");
}

/* ---- flows ---- */

static struct flow_key key_of(uint32_t client)
{
	struct flow_key key = { .client_port = htons((uint16_t)(1024 + client % 60000)),
				.vip_port = htons(80),
				.protocol = IPPROTO_TCP };

	if (client % 3) {
		address_parse(&key.vip, "203.0.113.10");
		key.client.w[2] = SHUNT_V4_MAPPED;
		key.client.w[3] = htonl(0x0a000000 + client);
	} else {
		address_parse(&key.vip, "2001:db8:ff::10");
		key.client.w[0] = htonl(0x20010db8);
		key.client.w[3] = htonl(client);
	}
	return key;
}

/* A SYN from a client: the walk records it, or takes its entry anew. */
static uint32_t syn(struct end *e, uint32_t client, int backend)
{
	struct flow_key key = key_of(client);
	uint32_t entry;
	struct flow *f;

	if (end_find(e, &key, &entry))
		entry = take(e, &key);
	f = &e->flows[entry];
	f->isn = (uint32_t)draw64();
	f->opened_ns = now;
	f->vip = (client % 3 ? 10 : 20) + (uint32_t)e->id_shift;
	f->word = FLOW_WORD(backend + e->id_shift, 0, FLOW_OPEN, 0);
	return entry;
}

static uint32_t entry_of(struct end *e, uint32_t client)
{
	struct flow_key key = key_of(client);
	uint32_t entry;

	assert_int_equal(end_find(e, &key, &entry), 0);
	return entry;
}

static bool has(struct end *e, uint32_t client)
{
	struct flow_key key = key_of(client);
	uint32_t entry;

	return !end_find(e, &key, &entry);
}

static bool is_own(struct end *e, uint32_t client)
{
	return !(FLOW_WORD_FLAGS(e->flows[entry_of(e, client)].word) & FLOW_SYNCED);
}

/* A packet is looked up: with a FIN, if it is the last. */
static void packet(struct end *e, uint32_t entry, bool fin)
{
	uint64_t word = e->flows[entry].word;
	uint8_t flags = (FLOW_WORD_FLAGS(word) & (uint8_t)~FLOW_SYNCED) | FLOW_CONFIRMED;

	e->flows[entry].seen_ns = now;
	e->flows[entry].word = FLOW_WORD(FLOW_WORD_BACKEND(word), 0, fin ? FLOW_CLOSING : FLOW_WORD_STATE(word), flags);
}

/* One of them has each flow as its own, the other a copy that is alike. */
static void assert_alike(void)
{
	size_t n[2] = { 0 };

	for (int i = 0; i < 2; i++) {
		struct end *e = &ends[i], *other = &ends[!i];

		for (uint32_t k = 0; k < e->state.used; k++) {
			const struct flow *f = &e->flows[k], *copy;
			uint8_t flags = FLOW_WORD_FLAGS(f->word);
			uint32_t entry;

			n[i] += f->word != 0;
			if (!f->word || flags & FLOW_SYNCED)
				continue;
			if (end_find(other, &f->key, &entry))
				fail_msg("%s has no copy of entry %u of %s", other->name, k, e->name);
			copy = &other->flows[entry];
			assert_int_equal(FLOW_WORD_FLAGS(copy->word), flags | FLOW_SYNCED);
			assert_int_equal(FLOW_WORD_STATE(copy->word), FLOW_WORD_STATE(f->word));
			assert_int_equal(FLOW_WORD_BACKEND(copy->word) - other->id_shift,
					 FLOW_WORD_BACKEND(f->word) - e->id_shift);
			assert_int_equal(copy->isn, f->isn);
			assert_int_equal(copy->vip - (uint32_t)other->id_shift, f->vip - (uint32_t)e->id_shift);
			assert_in_range(copy->opened_ns, f->opened_ns, f->opened_ns + 30 * MS);
		}
	}
	assert_int_equal(n[0], n[1]);
}

/* shuntd gives back its own flows, a second after their end at the earliest. */
static void sweep(struct end *e, uint32_t entry)
{
	const struct flow *f = &e->flows[entry];

	if (!(FLOW_WORD_FLAGS(f->word) & FLOW_SYNCED) && FLOW_WORD_STATE(f->word) == FLOW_CLOSING &&
	    f->seen_ns + SECOND < now)
		flow_free(e, entry);
}

/* So much that happens to a journal: opened, looked up, ended, given back. */
static void busy(struct end *e, unsigned n)
{
	while (n--) {
		uint32_t client = (uint32_t)(draw64() % 600), entry;
		struct flow_key key = key_of(client);

		if (end_find(e, &key, &entry)) {
			syn(e, client, 1 + (int)(draw64() % (N_BACKENDS - 1)));
			continue;
		}
		switch (draw64() % 4) {
		case 0:
			syn(e, client, 1 + (int)(draw64() % (N_BACKENDS - 1)));
			break;
		case 1:
			packet(e, entry, true);
			break;
		case 2:
			packet(e, entry, false);
			break;
		default:
			sweep(e, entry);
		}
	}
}

/* ---- flows are told ---- */

static void flows_of_each_are_copies_at_the_other(void **unused)
{
	(void)unused;
	for (uint32_t i = 0; i < 1000; i++)
		syn(i % 2 ? A : B, i, 1 + (int)i % (N_BACKENDS - 1));
	wait_sync(SECOND);
	assert_alike();
	assert_int_equal(A->n_copies_in, 500);
	assert_int_equal(B->n_copies_in, 500);
	for (uint32_t i = 1000; i < 1100; i++)
		syn(A, i, 1);
	packet(A, entry_of(A, 1), true);
	flow_free(A, entry_of(A, 3));
	run_for(120 * MS);
	assert_alike();
	assert_false(has(B, 3));
	assert_int_equal(status(A).lag_ns, 0);
}

static void every_change_of_a_hundred_thousand_flows_is_told_within_100_ms(void **unused)
{
	uint64_t lag = 0;

	(void)unused;
	for (uint32_t i = 0; i < 100000; i++)
		syn(A, i, 1 + (int)i % 6);
	wait_sync(2 * SECOND);
	assert_alike();
	for (uint32_t i = 0; i < 200; i++) {
		packet(A, (uint32_t)(draw64() % 100000), true);
		syn(A, 100000 + i, 2);
		run_for(10 * MS);
		lag = status(A).lag_ns > lag ? status(A).lag_ns : lag;
		if (i >= 10)
			assert_true(has(B, 100000 + i - 10));
	}
	assert_in_range(lag, 0, 110 * MS);
	run_for(120 * MS);
	assert_alike();
}

static void a_network_that_loses_repeats_reorders_cuts_and_spoils_is_got_over(void **unused)
{
	(void)unused;
	for (int round = 0; round < 5; round++) {
		loss = 300;
		repeats = reorders = 200;
		cuts = spoils = 50;
		for (int i = 0; i < 100; i++) {
			busy(i % 2 ? A : B, 20);
			run_for(20 * MS);
		}
		assert_int_equal(status(A).state == PEER_DOWN, false);
		network_is_well();
		wait_sync(2 * SECOND);
		run_for(SECOND);
		assert_alike();
	}
	assert_int_equal(A->n_lost + B->n_lost, 0);
	assert_true(status(A).lost > 0 && status(A).replayed > 0 && status(A).forged > 0 && status(A).truncated > 0);
	assert_int_equal(status(A).resyncs, 1);
}

static void what_was_lost_is_told_as_it_is_by_then(void **unused)
{
	(void)unused;
	wait_sync(SECOND);
	is_cut = true;
	syn(A, 1, 1);
	run_for(100 * MS);
	packet(A, entry_of(A, 1), true);
	run_for(100 * MS);
	assert_in_range(status(A).lag_ns, 100 * MS, 300 * MS);
	is_cut = false;
	run_for(600 * MS);
	assert_alike();
	assert_int_equal(FLOW_WORD_STATE(B->flows[entry_of(B, 1)].word), FLOW_CLOSING);
	assert_int_equal(status(A).lag_ns, 0);
	assert_int_equal(A->n_lost, 0);
}

static void an_entry_that_is_another_flows_now_leaves_no_copy_of_the_one_before(void **unused)
{
	uint32_t entry;

	(void)unused;
	entry = syn(A, 1, 1);
	wait_sync(SECOND);
	flow_free(A, entry);
	now += 2000; /* a SYN at the same moment would be the same flow */
	assert_int_equal(syn(A, 2, 1), entry); /* the same word */
	run_for(100 * MS);
	assert_false(has(B, 1));
	assert_true(has(B, 2));
	assert_alike();
}

static void a_flow_that_is_opened_anew_is_told_anew(void **unused)
{
	(void)unused;
	syn(A, 1, 1);
	wait_sync(SECOND);
	syn(A, 1, 1);
	run_for(100 * MS);
	assert_alike();
}

/* ---- whose a flow is ---- */

static void a_flow_becomes_his_who_sees_its_packets(void **unused)
{
	(void)unused;
	syn(A, 1, 3);
	wait_sync(SECOND);
	assert_true(is_own(A, 1) && !is_own(B, 1));
	for (int i = 0; i < 300; i++) {
		struct end *e = i % 2 ? A : B;

		packet(e, entry_of(e, 1), false);
		run_for(100 * MS);
		assert_true(is_own(e, 1));
		assert_alike();
	}
}

static void of_two_who_claim_a_flow_at_once_one_keeps_it(void **unused)
{
	(void)unused;
	for (uint32_t i = 0; i < 50; i++)
		syn(A, i, 1);
	wait_sync(SECOND);
	for (int i = 0; i < 200; i++) {
		uint32_t client = (uint32_t)(draw64() % 50);

		packet(B, entry_of(B, client), false);
		run_for(draw64() % (20 * MS));
		packet(A, entry_of(A, client), false);
		run_for(draw64() % (20 * MS));
	}
	run_for(300 * MS);
	assert_alike();
}

static void the_later_syn_counts(void **unused)
{
	(void)unused;
	syn(A, 1, 1);
	syn(A, 2, 1);
	wait_sync(SECOND);
	is_cut = true;
	syn(A, 3, 1); /* of these neither knows that the other has them */
	syn(B, 4, 1);
	run_for(2 * SECOND);
	syn(B, 1, 2);
	syn(B, 3, 2);
	syn(A, 4, 2);
	run_for(50 * MS);
	syn(A, 2, 3);
	is_cut = false;
	run_for(SECOND);
	wait_sync(SECOND);
	run_for(100 * MS);
	assert_alike();
	assert_true(is_own(B, 1) && is_own(A, 2) && is_own(B, 3) && is_own(A, 4));
	assert_int_equal(FLOW_WORD_BACKEND(A->flows[entry_of(A, 1)].word), 2);
}

static void a_copy_goes_when_its_holder_gives_it_back_and_a_flow_of_ours_doesnt(void **unused)
{
	(void)unused;
	syn(A, 1, 1);
	syn(A, 2, 1);
	wait_sync(SECOND);
	packet(B, entry_of(B, 2), false); /* claimed at the moment in which */
	flow_free(A, entry_of(A, 1));
	flow_free(A, entry_of(A, 2));
	run_for(200 * MS);
	assert_false(has(B, 1));
	assert_true(is_own(B, 2) && !is_own(A, 2));
	assert_alike();
}

/* ---- connections ---- */

static void who_lost_his_journal_gets_his_flows_back_as_copies(void **unused)
{
	(void)unused;
	for (uint32_t i = 0; i < 500; i++)
		syn(A, i, 1);
	wait_sync(SECOND);
	end_stop(A);
	journal_forget(A);
	end_start(A);
	wait_sync(400 * MS); /* the other needn't miss it first */
	run_for(100 * MS);
	assert_alike();
	for (uint32_t i = 0; i < 500; i++)
		assert_true(is_own(B, i));
}

static void who_kept_his_journal_keeps_his_flows(void **unused)
{
	(void)unused;
	for (uint32_t i = 0; i < 500; i++)
		syn(i % 2 ? A : B, i, 1);
	wait_sync(SECOND);
	for (int round = 0; round < 3; round++) {
		end_stop(A);
		flow_free(A, entry_of(A, 1 + 2 * (uint32_t)round)); /* its end is not told */
		run_for(round * SECOND);
		end_start(A);
		run_for(200 * MS);
		wait_sync(SECOND);
		run_for(100 * MS);
		assert_alike();
	}
	assert_true(is_own(A, 101) && is_own(B, 100));
}

static void a_peer_that_says_nothing_for_a_second_is_lost_and_found_again(void **unused)
{
	uint64_t run;

	(void)unused;
	syn(A, 1, 1);
	wait_sync(SECOND);
	run = status(A).run;
	is_cut = true;
	run_for(950 * MS);
	assert_int_equal(A->n_lost, 0);
	run_for(200 * MS);
	assert_int_equal(A->n_lost, 1);
	assert_int_equal(status(A).state, PEER_DOWN);
	assert_int_equal(status(A).peer_run, 0);
	syn(B, 2, 1);
	run_for(5 * SECOND);
	is_cut = false;
	wait_sync(SECOND);
	run_for(100 * MS);
	assert_alike();
	assert_int_equal(A->n_resynced, 2);
	assert_int_equal(status(A).resyncs, 2);
	assert_int_not_equal(status(A).run, run); /* what was said before counts no more */
}

/* Only B is deaf: A hears it, and must notice that B began anew. */
static void drop_to_b(struct end *to, const uint8_t *bytes, size_t n)
{
	(void)bytes;
	(void)n;
	is_cut = to == B;
}

static void a_way_that_is_cut_in_one_direction_is_got_over(void **unused)
{
	(void)unused;
	syn(A, 1, 1);
	wait_sync(SECOND);
	tap = drop_to_b;
	run_for(3 * SECOND);
	syn(A, 2, 1);
	tap = NULL;
	is_cut = false;
	run_for(500 * MS);
	wait_sync(SECOND);
	run_for(100 * MS);
	assert_alike();
}

static void a_lone_balancer_says_hello_ten_times_a_second(void **unused)
{
	(void)unused;
	end_stop(B);
	syn(A, 1, 1);
	run_for(10 * SECOND);
	assert_in_range(status(A).datagrams_sent, 95, 105);
	assert_int_equal(status(A).state, PEER_DOWN);
	assert_int_equal(status(A).lag_ns, 0);
}

static void who_has_nothing_to_say_says_little(void **unused)
{
	uint64_t before;

	(void)unused;
	wait_sync(SECOND);
	before = status(A).datagrams_sent;
	run_for(10 * SECOND);
	assert_in_range(status(A).datagrams_sent - before, 90, 210);
	assert_in_range(status(A).rtt_ns, MS / 5, 12 * MS);
}

/* ---- hostile ones ---- */

static struct wire kept[512];
static unsigned n_kept;

static void keep(struct end *to, const uint8_t *bytes, size_t n)
{
	struct wire *w = &kept[n_kept % 512];

	n_kept++;
	w->to = to;
	w->n = n;
	memcpy(w->bytes, bytes, n);
}

static void replay_all(void)
{
	for (unsigned i = 0; i < (n_kept < 512 ? n_kept : 512); i++)
		peer_receive(kept[i].to->peer, kept[i].bytes, kept[i].n, now);
}

static void replays_of_this_connection_and_of_earlier_ones_count_for_nothing(void **unused)
{
	struct peer_status before;

	(void)unused;
	n_kept = 0;
	tap = keep;
	syn(A, 1, 1);
	wait_sync(SECOND);
	end_stop(B);
	end_start(B);
	run_for(200 * MS);
	wait_sync(SECOND);
	end_stop(A); /* the same run of B met another of A */
	end_start(A);
	run_for(200 * MS);
	wait_sync(SECOND);
	tap = NULL;
	flow_free(A, entry_of(A, 1));
	run_for(200 * MS);
	before = status(B);
	for (int i = 0; i < 10; i++) {
		replay_all();
		run_for(100 * MS);
	}
	assert_int_equal(status(B).run, before.run);
	assert_int_equal(status(B).peer_run, before.peer_run);
	assert_int_equal(status(B).state, PEER_IN_SYNC);
	assert_int_equal(status(A).state, PEER_IN_SYNC);
	assert_true(status(B).replayed > before.replayed + 10);
	assert_false(has(B, 1));
	assert_alike();
}

static void send_back(struct end *to, const uint8_t *bytes, size_t n)
{
	wire_put(to == A ? B : A, bytes, n, MS);
}

static void datagrams_that_are_sent_back_count_for_nothing(void **unused)
{
	(void)unused;
	tap = send_back;
	syn(A, 1, 1);
	wait_sync(SECOND);
	run_for(SECOND);
	assert_true(status(A).replayed > 0 && A->n_up == 1);
	assert_alike();
	end_stop(B); /* nobody but itself to talk to */
	run_for(5 * SECOND);
	assert_int_equal(status(A).state, PEER_DOWN);
	assert_int_equal(A->n_up, 1);
}

static void datagrams_under_another_key_are_forged(void **unused)
{
	(void)unused;
	end_stop(B);
	keys[0] = keys[1] = (struct siphash_key){ 3, 4 };
	end_start(B);
	run_for(SECOND);
	assert_int_equal(status(A).state, PEER_DOWN);
	assert_int_equal(status(B).state, PEER_DOWN);
	assert_in_range(status(A).forged, 9, 11);
	assert_int_equal(status(A).datagrams_received, 0);
}

static void keys_are_changed_without_losing_the_peer(void **unused)
{
	static const struct siphash_key old = { 1, 2 }, new = { 3, 4 };
	struct siphash_key both[2] = { old, new }, both_new_first[2] = { new, old }, only_new[2] = { new, new };

	(void)unused;
	wait_sync(SECOND);
	peer_set_keys(A->peer, both);
	run_for(200 * MS);
	peer_set_keys(B->peer, both);
	run_for(200 * MS);
	peer_set_keys(A->peer, both_new_first);
	run_for(200 * MS);
	peer_set_keys(B->peer, only_new);
	run_for(200 * MS);
	peer_set_keys(A->peer, only_new);
	syn(A, 1, 1);
	run_for(200 * MS);
	assert_alike();
	assert_int_equal(status(A).forged + status(B).forged, 0);
	assert_int_equal(A->n_lost + B->n_lost, 0);
}

/* A datagram as one that has the key would write it. */
static size_t signed_datagram(uint8_t *bytes, uint8_t version, uint8_t kind, uint64_t from, uint64_t to,
			      uint64_t number, const uint8_t *frames, size_t n_frames)
{
	size_t n = 32 + n_frames + 8, blocks_n = (n - 8) / 8 + 1;
	uint64_t fields[3] = { htobe64(from), htobe64(to), htobe64(number) }, tag;
	__u64 blocks[PEER_DATAGRAM_MAX / 8 + 1] = { 0 };
	uint8_t head[8] = { 's', 'h', 'u', 'p', version, kind, (uint8_t)(n >> 8), (uint8_t)n };

	memcpy(bytes, head, 8);
	memcpy(bytes + 8, fields, 24);
	memcpy(bytes + 32, frames, n_frames);
	memcpy(blocks, bytes, n - 8);
	blocks[blocks_n - 1] |= (__u64)(n - 8) << 56;
	tag = htobe64(siphash_blocks(&keys[0], blocks, (int)blocks_n, 2, 4));
	memcpy(bytes + n - 8, &tag, 8);
	return n;
}

static void another_version_is_named_and_nothing_else_is_done(void **unused)
{
	uint8_t bytes[PEER_DATAGRAM_MAX];
	size_t n = signed_datagram(bytes, 9, 1, 123, 0, 0, (const uint8_t *)"new and unknown", 15);

	(void)unused;
	end_stop(B);
	peer_receive(A->peer, bytes, n, now);
	run_for(50 * MS);
	assert_int_equal(status(A).other_version, 1);
	assert_int_equal(status(A).peer_version, 9);
	assert_int_equal(status(A).state, PEER_DOWN);
	bytes[n - 1] ^= 1; /* nobody's word is not believed */
	bytes[4] = 8;
	peer_receive(A->peer, bytes, n, now);
	assert_int_equal(status(A).peer_version, 9);
	assert_int_equal(status(A).forged, 1);
}

static void what_is_cut_is_counted(void **unused)
{
	uint8_t bytes[PEER_DATAGRAM_MAX];
	size_t n = signed_datagram(bytes, PEER_VERSION, 1, 123, 0, 0, (const uint8_t *)"ten bytes.", 10);

	(void)unused;
	for (size_t i = 0; i < n; i++)
		peer_receive(A->peer, bytes, i, now);
	assert_int_equal(status(A).truncated, n - 4);
	assert_int_equal(status(A).forged, 4); /* what hasn't even our magic */
	peer_receive(A->peer, bytes, n, now);
	assert_int_equal(status(A).datagrams_received, 1);
}

static void frames_of_any_content_harm_nothing(void **unused)
{
	uint8_t bytes[PEER_DATAGRAM_MAX], frames[PEER_DATAGRAM_MAX - 40];
	uint64_t number;

	(void)unused;
	for (uint32_t i = 0; i < 100; i++)
		syn(A, i, 1);
	wait_sync(SECOND);
	number = status(A).datagrams_sent + 1000;
	n_kept = 0;
	tap = keep;
	busy(A, 200);
	run_for(200 * MS);
	tap = NULL;
	for (int i = 0; i < 60000; i++) {
		struct peer_status s = status(B);
		size_t n = 1 + draw64() % sizeof(frames);

		if (i % 3) { /* a right one, spoilt */
			const struct wire *w = &kept[draw64() % (n_kept < 512 ? n_kept : 512)];

			n = w->n - 40;
			memcpy(frames, w->bytes + 32, n);
			for (int k = 0; n && k < 1 + i % 4; k++)
				frames[draw64() % n] = (uint8_t)draw64();
			n = i % 5 ? n : n ? draw64() % n : 0;
		} else {
			for (size_t k = 0; k < n; k++)
				frames[k] = (uint8_t)draw64();
			frames[0] = (uint8_t)(1 + draw64() % 8);
			n = 1 + draw64() % 60;
		}
		n = signed_datagram(bytes, PEER_VERSION, 2, s.peer_run, s.run, number + (uint64_t)i, frames, n);
		peer_receive(B->peer, bytes, n, now);
		if (i % 1000 == 0) {
			while (peer_send(B->peer, bytes, now))
				;
			now += 10 * MS;
		}
	}
	/* What such a peer says may be believed; a new connection sets it right. */
	run_for(2 * SECOND);
	end_stop(A);
	end_start(A);
	run_for(2 * SECOND);
	wait_sync(SECOND);
	run_for(300 * MS);
	assert_alike();
}

/* ---- bounds ---- */

static void the_bandwidth_is_kept(void **unused)
{
	uint64_t began = now;

	(void)unused;
	end_stop(A);
	end_stop(B);
	bits_per_s = 1000000;
	end_start(A);
	end_start(B);
	loss = 100;
	for (uint32_t i = 0; i < 20000; i++)
		syn(A, i, 1);
	run_for(3 * SECOND);
	/* All of three seconds, the burst, and the datagram that began in it. */
	assert_in_range(bytes_to[1] * 8 * 1000 / ((now - began) / MS + 10), bits_per_s / 10 * 9, bits_per_s + 1466 * 8);
	network_is_well();
	wait_sync(20 * SECOND);
	assert_alike();
	for (uint32_t i = 20000; i < 24000; i++)
		syn(A, i, 1);
	run_for(500 * MS);
	assert_in_range(status(A).lag_ns, 300 * MS, 600 * MS);
}

static void a_full_journal_refuses_and_takes_in_later(void **unused)
{
	(void)unused;
	B->room = 100;
	for (uint32_t i = 0; i < 300; i++)
		syn(A, i, 1);
	wait_sync(SECOND);
	run_for(300 * MS);
	assert_int_equal(status(B).refused_full, 200);
	assert_int_equal(B->n_copies_in, 100);
	packet(A, 5, true); /* what is there is followed all the same */
	run_for(200 * MS);
	assert_int_equal(status(B).refused_full, 200 + !has(B, 5));
	B->room = 1000;
	peer_ask_again(B->peer);
	run_for(50 * MS);
	wait_sync(SECOND);
	run_for(100 * MS);
	assert_alike();
	assert_int_equal(status(A).resyncs, 2);
	assert_int_equal(B->n_up, 1);
}

static void a_vip_or_a_backend_that_is_not_here_is_refused(void **unused)
{
	(void)unused;
	B->no_vip = true;
	for (uint32_t i = 0; i < 30; i++)
		syn(A, i, 1);
	wait_sync(SECOND);
	assert_int_equal(status(B).refused_unknown, 30);
	assert_int_equal(B->n_copies_in, 0);
	B->no_vip = false;
	peer_ask_again(B->peer);
	run_for(200 * MS);
	assert_alike();
}

/* ---- what operators said ---- */

static void the_later_word_of_an_operator_counts_at_both(void **unused)
{
	(void)unused;
	A->settings[1] = (struct peer_setting){ .drained = true, .drain_at_ns = 100, .deadline_ns = 90 * SECOND };
	B->settings[2] = (struct peer_setting){ .weight = 50, .weight_at_ns = 100 };
	wait_sync(SECOND);
	assert_true(B->settings[1].drained);
	assert_int_equal(B->settings[1].deadline_ns, 90 * SECOND);
	assert_int_equal(A->settings[2].weight, 50);
	B->settings[1] = (struct peer_setting){ .drained = false, .drain_at_ns = 200 };
	run_for(200 * MS);
	assert_false(A->settings[1].drained);
	is_cut = true;
	A->settings[2].weight = 20;
	A->settings[2].weight_at_ns = 300;
	run_for(3 * SECOND);
	B->settings[2].weight = 30;
	B->settings[2].weight_at_ns = 400;
	is_cut = false;
	run_for(SECOND);
	assert_int_equal(A->settings[2].weight, 30);
	assert_int_equal(B->settings[2].weight, 30);
	end_stop(A);
	memset(A->settings, 0, sizeof(A->settings)); /* it forgot */
	A->settings[3] = (struct peer_setting){ .drained = true, .drain_at_ns = 500 };
	end_start(A);
	loss = 300;
	run_for(2 * SECOND);
	assert_int_equal(A->settings[2].weight, 30);
	assert_int_equal(A->settings[1].drain_at_ns, 200);
	assert_true(B->settings[3].drained);
}

#define test(name) cmocka_unit_test_setup_teardown(name, world_open, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(flows_of_each_are_copies_at_the_other),
		test(every_change_of_a_hundred_thousand_flows_is_told_within_100_ms),
		test(a_network_that_loses_repeats_reorders_cuts_and_spoils_is_got_over),
		test(what_was_lost_is_told_as_it_is_by_then),
		test(an_entry_that_is_another_flows_now_leaves_no_copy_of_the_one_before),
		test(a_flow_that_is_opened_anew_is_told_anew),
		test(a_flow_becomes_his_who_sees_its_packets),
		test(of_two_who_claim_a_flow_at_once_one_keeps_it),
		test(the_later_syn_counts),
		test(a_copy_goes_when_its_holder_gives_it_back_and_a_flow_of_ours_doesnt),
		test(who_lost_his_journal_gets_his_flows_back_as_copies),
		test(who_kept_his_journal_keeps_his_flows),
		test(a_peer_that_says_nothing_for_a_second_is_lost_and_found_again),
		test(a_way_that_is_cut_in_one_direction_is_got_over),
		test(a_lone_balancer_says_hello_ten_times_a_second),
		test(who_has_nothing_to_say_says_little),
		test(replays_of_this_connection_and_of_earlier_ones_count_for_nothing),
		test(datagrams_that_are_sent_back_count_for_nothing),
		test(datagrams_under_another_key_are_forged),
		test(keys_are_changed_without_losing_the_peer),
		test(another_version_is_named_and_nothing_else_is_done),
		test(what_is_cut_is_counted),
		test(frames_of_any_content_harm_nothing),
		test(the_bandwidth_is_kept),
		test(a_full_journal_refuses_and_takes_in_later),
		test(a_vip_or_a_backend_that_is_not_here_is_refused),
		test(the_later_word_of_an_operator_counts_at_both),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
