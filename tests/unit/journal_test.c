/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * journal_test.c - what shuntd does with the journal, on plain memory, under a clock that the tests move.
 *
 * The real journal.c and shuntd.c; the dataplane is arrays, what is sent is a list, the walk is a few lines here. That
 * real clients answer what is sent: tests/net.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <time.h>

#include "core/flow.h"
#include "core/peer.h"
#include "shunt/hash.h"
#include "shuntd/backends.h"
#include "shuntd/journal.h"
#include "shuntd/outlet.h"
#include "shuntd/shuntd.h"

#define MS 1000000ULL
#define SECOND (1000 * MS)
#define CAPACITY 32768
#define N_SLOTS 251
#define GPU1 1
#define GPU2 2
#define GPU3 3

/* ---- the clock ---- */

static uint64_t now, step; /* step: what each look at the clock takes */

int clock_gettime(clockid_t clock, struct timespec *t)
{
	(void)clock;
	now += step;
	t->tv_sec = (time_t)(now / SECOND);
	t->tv_nsec = (long)(now % SECOND);
	return 0;
}

static void (*on_nap)(void); /* what happens while shuntd sleeps */

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *left)
{
	(void)clock;
	(void)flags;
	(void)left;
	now += (uint64_t)request->tv_nsec;
	if (on_nap)
		on_nap();
	return 0;
}

/* ---- the dataplane ---- */

static struct flow flows[CAPACITY];
static struct journal_state state;
static struct backend records[SHUNT_MAX_BACKENDS];
static struct session sessions[SHUNT_MAX_BACKENDS];
static struct backend_flows counts[SHUNT_MAX_BACKENDS];
static struct syn syns[SHUNT_SYNS];
static uint32_t n_freed, freed_last, n_replays;
static bool heir_takes; /* what the walk finds for a SYN that walks again */

struct flow *dataplane_journal(struct dataplane *dp)
{
	(void)dp;
	return flows;
}

struct journal_state *dataplane_journal_state(struct dataplane *dp)
{
	(void)dp;
	return &state;
}

struct backend *dataplane_backends(struct dataplane *dp)
{
	(void)dp;
	return records;
}

struct session *dataplane_sessions(struct dataplane *dp)
{
	(void)dp;
	return sessions;
}

struct backend_flows *dataplane_backend_flows(struct dataplane *dp)
{
	(void)dp;
	return counts;
}

const struct syn *dataplane_syns(struct dataplane *dp)
{
	(void)dp;
	return syns;
}

int dataplane_flow_free(struct dataplane *dp, uint32_t entry)
{
	(void)dp;
	assert_int_equal(flows[entry].word, 0);
	n_freed++;
	freed_last = entry;
	return 0;
}

/* The hash, as far as copies go: a flow that the walk opens at the moment when a copy is put in. */
static bool walk_is_faster, hash_is_full;

int dataplane_flow_take(struct dataplane *dp, uint32_t *entry)
{
	(void)dp;
	if (state.used == state.capacity)
		return -ENOSPC;
	*entry = state.used++;
	return 0;
}

int dataplane_flow_add(struct dataplane *dp, uint32_t entry)
{
	(void)dp;
	assert_int_not_equal(flows[entry].word, 0); /* whoever finds it finds it whole */
	return walk_is_faster ? -EEXIST : hash_is_full ? -E2BIG : 0;
}

int dataplane_flow_find(struct dataplane *dp, const struct flow_key *key, uint32_t *entry)
{
	(void)dp;
	for (*entry = 0; *entry < state.used; ++*entry)
		if (!memcmp(&flows[*entry].key, key, sizeof(*key)))
			return 0;
	return -ENOENT;
}

static void count(uint64_t word, int sign)
{
	if (FLOW_WORD_STATE(word) == FLOW_OPEN)
		__atomic_fetch_add(&counts[FLOW_WORD_BACKEND(word)].live, (__u64)sign, __ATOMIC_SEQ_CST);
	if (FLOW_WORD_FLAGS(word) & FLOW_DETOUR)
		__atomic_fetch_add(&records[FLOW_WORD_OWNER(word)].detours, (__u32)sign, __ATOMIC_SEQ_CST);
}

/* The walk's change of a word, as the contract has it. */
static bool walk_swaps(uint32_t entry, uint64_t old, uint64_t new)
{
	__u64 expected = old;

	if (!__atomic_compare_exchange_n(&flows[entry].word, &expected, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return false;
	count(old, -1);
	count(new, 1);
	return true;
}

int dataplane_syn_replay(struct dataplane *dp, const struct syn *syn)
{
	uint64_t word = flows[syn->entry].word;

	(void)dp;
	n_replays++;
	if (heir_takes)
		walk_swaps(syn->entry, word, FLOW_WORD(GPU2, FLOW_WORD_OWNER(word), FLOW_OPEN, FLOW_DETOUR));
	return 0;
}

/* ---- what is sent, said and asked for ---- */

static struct sent {
	uint32_t entry;
	bool refuse;
} sent[4 * CAPACITY];
static size_t n_sent, room; /* room: segments that the sockets take until the test empties them */
static char event_name[64], event_what[64];
static json_t *event_evidence;
static int n_events, n_applied;

int outlet_open(struct outlet **out)
{
	*out = (struct outlet *)sent;
	return 0;
}

void outlet_close(struct outlet *outlet)
{
	(void)outlet;
}

bool outlet_has_room(struct outlet *outlet)
{
	(void)outlet;
	return n_sent + 2 <= room;
}

bool outlet_flush(struct outlet *outlet)
{
	return outlet_has_room(outlet);
}

static void send_one(const struct flow *f, bool refuse)
{
	assert_true(n_sent < room);
	sent[n_sent++] = (struct sent){ .entry = (uint32_t)(f - flows), .refuse = refuse };
}

void outlet_challenge(struct outlet *outlet, const struct flow *f)
{
	(void)outlet;
	send_one(f, false);
}

void outlet_refuse(struct outlet *outlet, const struct flow *f)
{
	(void)outlet;
	send_one(f, true);
}

uint64_t outlet_failed(const struct outlet *outlet)
{
	(void)outlet;
	return 0;
}

void ledger_add(struct ledger *ledger, uint64_t at_ns, const char *object, const char *name, const char *what,
		const char *why, json_t *evidence)
{
	(void)ledger;
	(void)at_ns;
	(void)object;
	(void)why;
	json_decref(event_evidence);
	event_evidence = evidence;
	snprintf(event_name, sizeof(event_name), "%s", name);
	snprintf(event_what, sizeof(event_what), "%s", what);
	n_events++;
}

int vips_flags_apply(struct shuntd *s)
{
	(void)s;
	n_applied++;
	return 0;
}

static void assert_evidence(const char *key, long value)
{
	json_t *found = json_object_get(event_evidence, key);

	if (!json_is_integer(found) || json_integer_value(found) != value)
		fail_msg("%s of %s is %lld, not %ld", key, event_what, (long long)json_integer_value(found), value);
}

/* ---- the world ---- */

static struct config config;
static struct shuntd shuntd;
static struct vip_run chat, docs; /* on pool 0 and pool 1 */
static struct pool_run pools[2];
static struct backend_run backends[4];
static struct journal *journal;

static struct table *table_of(uint16_t a, uint16_t b)
{
	struct table_member members[2] = {
		{ .id = a, .alive = true, .weight = 100, .name = backends[a].conf.name, .domain = "" },
		{ .id = b, .alive = true, .weight = 100, .name = backends[b].conf.name, .domain = "" },
	};
	struct table *table;

	assert_int_equal(table_build(&table, members, 2, N_SLOTS, config.seed), 0);
	return table;
}

static int world_open(void **unused)
{
	(void)unused;
	memset(flows, 0, sizeof(flows));
	memset(records, 0, sizeof(records));
	memset(sessions, 0, sizeof(sessions));
	memset(counts, 0, sizeof(counts));
	memset(syns, 0, sizeof(syns));
	memset(&shuntd, 0, sizeof(shuntd));
	memset(pools, 0, sizeof(pools));
	state = (struct journal_state){ .capacity = CAPACITY };
	now = 10000 * SECOND;
	step = 0;
	n_freed = n_replays = 0;
	n_sent = 0;
	room = sizeof(sent) / sizeof(sent[0]);
	n_events = n_applied = 0;
	on_nap = NULL;
	heir_takes = true;
	walk_is_faster = hash_is_full = false;
	config = (struct config){ .seed = 0x5eed0123456789abULL,
				  .flows_closed_ns = 60 * SECOND,
				  .flows_idle_ns = 3600 * SECOND };
	shuntd.config = &config;
	for (uint16_t i = GPU1; i <= GPU3; i++) {
		backends[i] = (struct backend_run){ .id = i };
		snprintf(backends[i].conf.name, sizeof(backends[i].conf.name), "gpu%d", i);
		shuntd.backend_ids[i] = &backends[i];
		records[i].word = BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING);
	}
	for (uint32_t i = 0; i < 2; i++) {
		pools[i] = (struct pool_run){ .id = i, .n_slots = N_SLOTS, .table = table_of(GPU1, GPU2) };
		shuntd.pool_ids[i] = &pools[i];
	}
	chat = (struct vip_run){ .id = 3, .pool = &pools[0] };
	docs = (struct vip_run){ .id = 4, .pool = &pools[1] };
	assert_int_equal(address_parse(&chat.conf.address, "203.0.113.10"), 0);
	assert_int_equal(address_parse(&docs.conf.address, "2001:db8:ff::10"), 0);
	shuntd.vip_ids[3] = &chat;
	shuntd.vip_ids[4] = &docs;
	assert_int_equal(journal_open(&journal, &shuntd), 0);
	return 0;
}

static int world_close(void **unused)
{
	(void)unused;
	journal_close(journal);
	for (int i = 0; i < 2; i++)
		table_free(pools[i].table);
	json_decref(event_evidence);
	event_evidence = NULL;
	return 0;
}

/* A flow as the walk records it; its entry. */
static uint32_t flow_add(uint16_t backend, uint16_t owner, enum flow_state flow_state, uint8_t flags, uint64_t age_ns)
{
	uint32_t entry = state.used++;
	struct flow *f = &flows[entry];

	*f = (struct flow){ .vip = chat.id, .opened_ns = now - age_ns, .seen_ns = now - age_ns, .isn = entry };
	f->key = (struct flow_key){ .vip = chat.conf.address,
				    .client = chat.conf.address,
				    .client_port = htons((uint16_t)(1024 + entry)),
				    .vip_port = htons(443),
				    .protocol = IPPROTO_TCP };
	f->key.client.w[3] = htonl(0x0a000000 + entry);
	if (backend != owner || flags & (FLOW_RESET | FLOW_ASKED))
		flags |= FLOW_DETOUR;
	f->word = FLOW_WORD(backend, owner, flow_state, flags);
	count(f->word, 1);
	return entry;
}

/* Turns of the main loop, every 10 ms and whenever there is more to do. */
static void run_for(uint64_t ns)
{
	for (uint64_t end = now + ns; now <= end; now += 10 * MS)
		while (journal_run(journal))
			;
}

static uint8_t state_of(uint32_t entry)
{
	return FLOW_WORD_STATE(flows[entry].word);
}

static uint8_t flags_of(uint32_t entry)
{
	return FLOW_WORD_FLAGS(flows[entry].word);
}

static size_t sent_to(uint32_t entry, bool refuse)
{
	size_t n = 0;

	for (size_t i = 0; i < n_sent; i++)
		n += sent[i].entry == entry && sent[i].refuse == refuse;
	return n;
}

/* A packet of the flow is looked up. */
static void client_speaks(uint32_t entry)
{
	uint64_t word = flows[entry].word;

	walk_swaps(entry, word, word | (uint64_t)FLOW_CONFIRMED << 40);
	flows[entry].seen_ns = now;
}

/* The client was reset. */
static void client_is_reset(uint32_t entry)
{
	uint64_t word = flows[entry].word;

	walk_swaps(entry, word,
		   FLOW_WORD(FLOW_WORD_BACKEND(word), FLOW_WORD_OWNER(word), FLOW_CLOSED, FLOW_WORD_FLAGS(word)));
	flows[entry].seen_ns = now;
}

static void dies(uint16_t backend)
{
	records[backend].word = BACKEND_WORD(BACKEND_DOWN, VERDICT_SILENT);
	journal_tell(journal, backend);
}

/* Every count by its definition, over all entries. */
static void assert_counts_exact(void)
{
	uint64_t live[4] = { 0 }, detours[4] = { 0 };

	for (uint32_t i = 0; i < CAPACITY; i++) {
		uint64_t word = flows[i].word;

		live[FLOW_WORD_BACKEND(word)] += FLOW_WORD_STATE(word) == FLOW_OPEN;
		detours[FLOW_WORD_OWNER(word)] += FLOW_WORD_FLAGS(word) & FLOW_DETOUR;
	}
	for (int b = GPU1; b <= GPU3; b++) {
		assert_int_equal(counts[b].live, live[b]);
		assert_int_equal(records[b].detours, detours[b]);
	}
}

/* ---- the sweep ---- */

static void a_closed_detour_is_given_back_four_seconds_after_its_last_packet(void **unused)
{
	uint32_t f = flow_add(GPU2, GPU1, FLOW_CLOSED, 0, 0);

	(void)unused;
	run_for(900 * MS);
	assert_int_equal(n_freed, 0);
	client_is_reset(f); /* a packet was looked up once more */
	run_for(900 * MS);
	assert_int_equal(n_freed, 0);
	run_for(3200 * MS); /* it was listened to */
	assert_int_equal(n_freed, 1);
	assert_int_equal(records[GPU1].detours, 0);
	assert_counts_exact();
}

static void a_closing_detour_is_given_back_after_the_configured_time(void **unused)
{
	(void)unused;
	flow_add(GPU2, GPU1, FLOW_CLOSING, 0, 0);
	run_for(62 * SECOND);
	assert_int_equal(n_freed, 0);
	run_for(2 * SECOND);
	assert_int_equal(n_freed, 1);
	assert_counts_exact();
}

/* Until it is looked up: at its owner, none was. */
static void what_ended_at_its_owner_is_listened_to_before_it_is_given_back(void **unused)
{
	const enum flow_state states[] = { FLOW_CLOSING, FLOW_CLOSED };

	(void)unused;
	for (int i = 0; i < 2; i++) {
		uint32_t ended = flow_add(GPU1, GPU1, states[i], FLOW_CONFIRMED, 0);
		uint32_t lives = flow_add(GPU1, GPU1, states[i], FLOW_CONFIRMED, 0);

		n_freed = 0;
		while (!(flags_of(lives) & FLOW_ASKED))
			run_for(10 * MS); /* it must begin */
		assert_int_equal(n_freed, 0);
		assert_int_equal(flags_of(ended), FLOW_ASKED | FLOW_DETOUR);
		assert_int_equal(records[GPU1].detours, 2);
		run_for(2 * SECOND);
		client_speaks(lives);
		run_for(2 * SECOND);
		assert_int_equal(n_freed, 1);
		assert_int_equal(freed_last, ended);
		assert_int_equal(state_of(lives), i ? FLOW_OPEN : FLOW_CLOSING);
		assert_int_equal(flags_of(lives), FLOW_CONFIRMED);
		assert_int_equal(records[GPU1].detours, 0);
		assert_int_equal(n_sent, 0);
		client_is_reset(lives);
		run_for(200 * SECOND);
		assert_int_equal(n_freed, 2);
		assert_counts_exact();
	}
}

/* Half-closed streams of a backend that dies are told as all others are. */
static void a_client_that_was_listened_to_is_told(void **unused)
{
	uint32_t f = flow_add(GPU1, GPU1, FLOW_CLOSING, FLOW_CONFIRMED, 0);

	(void)unused;
	for (int i = 0; i < 600; i++) {
		run_for(SECOND);
		if (flags_of(f) & FLOW_DETOUR) /* else no packet of it is looked up */
			client_speaks(f);
	}
	assert_int_equal(n_freed, 0);
	dies(GPU1);
	assert_int_equal(sent_to(f, false), 1);
}

/* It was not looked up before: its owner drains since a moment, or its slot has moved. */
static void what_ended_long_ago_is_listened_to_where_it_is_looked_up_since_a_moment(void **unused)
{
	(void)unused;
	for (int i = 0; i < 2; i++) {
		uint32_t f;

		journal_run(journal); /* a pass that listens may end here, and none comes for two minutes */
		f = flow_add(GPU1, GPU1, FLOW_CLOSING, FLOW_CONFIRMED, 90 * SECOND);
		if (i)
			records[GPU1].word = BACKEND_WORD(BACKEND_DRAINING, VERDICT_DRAINED);
		else
			walk_swaps(f, flows[f].word, FLOW_WORD(GPU1, GPU2, FLOW_CLOSING, FLOW_CONFIRMED | FLOW_DETOUR));
		n_freed = 0;
		run_for(2900 * MS);
		assert_int_equal(n_freed, 0);
		client_speaks(f);
		run_for(58 * SECOND);
		assert_int_equal(n_freed, 0);
		assert_int_equal(state_of(f), FLOW_CLOSING);
		client_is_reset(f);
		run_for(200 * SECOND);
	}
}

static void who_ended_long_ago_is_told_as_often_as_others(void **unused)
{
	uint32_t f = flow_add(GPU1, GPU1, FLOW_CLOSING, FLOW_CONFIRMED, 90 * SECOND);

	(void)unused;
	dies(GPU1);
	run_for(SECOND);
	assert_int_equal(sent_to(f, false), 4);
}

/* What comes and goes in the default journal a thousand times a second, in this one. */
static void what_ends_does_not_fill_the_journal(void **unused)
{
	uint32_t entry = 0, free_entry;

	(void)unused;
	for (int second = 0; second < 300; second++) {
		for (int i = 0; i < CAPACITY / 100; i++, entry++) {
			free_entry = entry % CAPACITY;
			while (flows[free_entry].word)
				free_entry = ++entry % CAPACITY;
			flows[free_entry] = (struct flow){ .vip = chat.id, .opened_ns = now, .seen_ns = now };
			flows[free_entry].word = FLOW_WORD(GPU1, GPU1, FLOW_CLOSED, FLOW_CONFIRMED);
			state.used = state.used > free_entry ? state.used : free_entry + 1;
		}
		run_for(SECOND);
		assert_false(shuntd.confirm);
	}
}

static void a_flow_whose_vip_is_gone_is_given_back(void **unused)
{
	uint32_t f = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 0);

	(void)unused;
	flow_add(GPU1, GPU1, FLOW_OPEN, 0, 0);
	flows[f].vip = 77;
	run_for(20 * MS);
	assert_int_equal(n_freed, 1);
	assert_int_equal(freed_last, f);
	assert_int_equal(counts[GPU1].live, 1);
}

static void an_idle_flow_that_answers_lives_on_and_leaves_no_detour(void **unused)
{
	uint32_t idle = flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED, 3601 * SECOND);
	uint32_t busy = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 3599 * SECOND);

	(void)unused;
	journal_run(journal);
	assert_int_equal(sent_to(idle, false), 1);
	assert_int_equal(sent_to(busy, false), 0);
	assert_int_equal(flags_of(idle), FLOW_ASKED | FLOW_DETOUR);
	assert_int_equal(records[GPU1].detours, 1);
	client_speaks(idle);
	run_for(20 * MS);
	assert_int_equal(flags_of(idle), FLOW_CONFIRMED);
	client_speaks(busy);
	run_for(60 * SECOND);
	assert_int_equal(n_sent, 1);
	assert_int_equal(n_freed, 0);
	assert_int_equal(state_of(idle), FLOW_OPEN);
	assert_counts_exact();
	/* and is asked again after another idle hour */
	run_for(3600 * SECOND);
	assert_int_equal(sent_to(idle, false), 4);
}

static void an_idle_detour_that_answers_stays_a_detour(void **unused)
{
	uint32_t f = flow_add(GPU2, GPU1, FLOW_OPEN, 0, 3601 * SECOND);

	(void)unused;
	journal_run(journal);
	assert_int_equal(flags_of(f), FLOW_ASKED | FLOW_DETOUR);
	assert_int_equal(records[GPU1].detours, 1);
	client_speaks(f);
	run_for(20 * MS);
	assert_int_equal(flags_of(f), FLOW_CONFIRMED | FLOW_DETOUR);
	assert_counts_exact();
}

static void an_idle_flow_is_given_back_after_three_questions_ten_seconds_apart(void **unused)
{
	uint32_t f = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 3601 * SECOND);

	(void)unused;
	run_for(9900 * MS);
	assert_int_equal(sent_to(f, false), 1);
	run_for(200 * MS);
	assert_int_equal(sent_to(f, false), 2);
	run_for(10100 * MS);
	assert_int_equal(sent_to(f, false), 3);
	run_for(9700 * MS);
	assert_int_equal(n_freed, 0);
	run_for(500 * MS);
	assert_int_equal(n_freed, 1);
	assert_int_equal(counts[GPU1].live, 0);
	assert_counts_exact();
}

static void a_slice_of_the_sweep_is_bounded_and_a_pass_takes_three_seconds_at_most(void **unused)
{
	(void)unused;
	for (int i = 0; i < CAPACITY / 2; i++)
		flows[flow_add(GPU1, GPU1, FLOW_OPEN, 0, 0)].vip = 77; /* is there no more */
	journal_run(journal);
	assert_in_range(n_freed, 1, 1024);
	assert_false(journal_run(journal)); /* the next period hasn't come */
	assert_in_range(n_freed, 1, 1024);
	run_for(3 * SECOND);
	assert_int_equal(n_freed, CAPACITY / 2);
}

static void spoofed_syns_go_when_the_journal_fills_and_established_flows_stay(void **unused)
{
	uint32_t old = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 600 * SECOND), spoofed_before = 0, spoofed, quiet;

	(void)unused;
	while (state.used < CAPACITY * 3 / 4)
		spoofed_before = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 5 * SECOND);
	run_for(10 * MS);
	assert_false(shuntd.confirm);
	quiet = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 0);
	run_for(0);
	assert_true(shuntd.confirm);
	assert_int_equal(n_applied, 1);
	assert_string_equal(event_what, "journal fills");

	now += 10 * MS;
	spoofed = flow_add(GPU2, GPU2, FLOW_OPEN, 0, 0);
	uint32_t served = flow_add(GPU2, GPU2, FLOW_OPEN, FLOW_CONFIRMED, 0);
	run_for(9 * SECOND);
	assert_int_equal(state_of(spoofed), FLOW_OPEN);
	run_for(4 * SECOND);
	assert_int_equal(state_of(spoofed), FLOW_FREE); /* nothing followed its SYN */
	assert_int_equal(state_of(served), FLOW_OPEN);
	assert_int_equal(state_of(quiet), FLOW_OPEN); /* opened before anybody looked */

	/* Who was there before is asked; who answers stays. */
	for (int i = 0; i < 60; i++) {
		run_for(SECOND);
		if (sent_to(old, false))
			client_speaks(old);
		if (sent_to(quiet, false))
			client_speaks(quiet);
	}
	assert_int_equal(state_of(old), FLOW_OPEN);
	assert_int_equal(state_of(quiet), FLOW_OPEN);
	assert_int_equal(state_of(spoofed_before), FLOW_FREE);
	assert_int_equal(flags_of(old), FLOW_CONFIRMED);
	assert_false(shuntd.confirm);
	assert_int_equal(n_applied, 2);
	assert_string_equal(event_what, "journal has room");
	assert_counts_exact();
}

/* Of a forged SYN and a forged segment behind it. */
static void spoofed_flows_that_spoke_once_go_too(void **unused)
{
	uint32_t lives = flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED, 0);

	(void)unused;
	while (state.used <= CAPACITY * 3 / 4)
		flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED, 0);
	for (int i = 0; i < 150; i++) {
		run_for(SECOND);
		if (sent_to(lives, false))
			client_speaks(lives);
	}
	assert_false(shuntd.confirm);
	assert_int_equal(n_freed, state.used - 1);
	assert_int_equal(state_of(lives), FLOW_OPEN);
	assert_counts_exact();
}

static void pressure_ends_below_half_and_not_before(void **unused)
{
	uint32_t n = CAPACITY * 3 / 4 + 1;

	(void)unused;
	for (uint32_t i = 0; i < n; i++)
		flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED, 0);
	run_for(10 * MS);
	assert_true(shuntd.confirm);
	for (uint32_t i = 0; i < n - CAPACITY / 2; i++)
		client_is_reset(i);
	run_for(8 * SECOND);
	assert_int_equal(n_freed, n - CAPACITY / 2);
	assert_true(shuntd.confirm);
	client_is_reset(n - 1);
	run_for(8 * SECOND);
	assert_false(shuntd.confirm);
}

static void pressure_goes_on_until_the_rest_of_a_flood_is_gone(void **unused)
{
	(void)unused;
	for (uint32_t i = 0; i < CAPACITY * 3 / 4 + 1; i++)
		flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED, 0);
	run_for(10 * MS);
	assert_true(shuntd.confirm);
	for (uint32_t i = 0; i < CAPACITY * 3 / 4; i++)
		client_is_reset(i);
	for (uint32_t i = 0; i < CAPACITY / 8; i++)
		flow_add(GPU1, GPU1, FLOW_OPEN, 0, 0); /* spoofed, too young to be judged */
	run_for(8 * SECOND);
	assert_true(shuntd.confirm);
	run_for(16 * SECOND);
	assert_false(shuntd.confirm);
	assert_int_equal(n_freed, CAPACITY * 3 / 4 + CAPACITY / 8);
}

/* ---- telling ---- */

static void every_live_flow_of_a_dead_backend_is_challenged_and_no_other(void **unused)
{
	uint32_t own[3], other;

	(void)unused;
	own[0] = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 60 * SECOND);
	own[1] = flow_add(GPU1, GPU1, FLOW_CLOSING, 0, 5 * SECOND);
	own[2] = flow_add(GPU1, GPU2, FLOW_OPEN, FLOW_CONFIRMED, 100 * MS); /* a detour to the dead one */
	other = flow_add(GPU2, GPU1, FLOW_OPEN, 0, 60 * SECOND);
	flow_add(GPU1, GPU1, FLOW_CLOSED, 0, 0);
	dies(GPU1);
	assert_int_equal(n_sent, 3); /* before journal_tell() returns */
	for (int i = 0; i < 3; i++)
		assert_int_equal(sent_to(own[i], false), 1);
	assert_int_equal(sent_to(other, false), 0);
	assert_false(journal_telling(journal));
	client_is_reset(own[0]);
	client_is_reset(own[1]);
	client_is_reset(own[2]);
	run_for(20 * MS);
	assert_int_equal(n_sent, 3);
	assert_int_equal(n_events, 1);
	assert_string_equal(event_name, "gpu1");
	assert_string_equal(event_what, "flows told");
	assert_evidence("flows", 3);
	assert_evidence("challenged", 3);
	assert_evidence("closed", 3);
	assert_evidence("refused", 0);
	assert_evidence("replayed", 0);
	assert_counts_exact();
}

static void who_is_not_heard_of_is_told_again_after_10_and_100_and_500_ms(void **unused)
{
	uint32_t mute = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 60 * SECOND), heard;
	static const struct {
		uint64_t after;
		size_t n;
	} steps[] = { { 0, 1 },       { 5 * MS, 1 },   { 10 * MS, 2 }, { 90 * MS, 2 },
		      { 20 * MS, 3 }, { 420 * MS, 3 }, { 50 * MS, 4 } };

	(void)unused;
	heard = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 60 * SECOND);
	dies(GPU1);
	client_is_reset(heard);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		now += steps[i].after;
		while (journal_run(journal))
			;
		assert_int_equal(sent_to(mute, false), steps[i].n);
	}
	assert_int_equal(sent_to(heard, false), 2); /* the RST may be what was lost */
	assert_int_equal(n_events, 1);
	assert_evidence("flows", 2);
	assert_evidence("closed", 1);
	run_for(29 * SECOND);
	assert_int_equal(state_of(mute), FLOW_OPEN);
	run_for(3 * SECOND);
	assert_int_equal(state_of(mute), FLOW_FREE);
	assert_int_equal(n_sent, 6);
	assert_counts_exact();
}

static void who_was_reset_is_told_once_more_half_a_second_later_and_who_ended_by_itself_never(void **unused)
{
	uint32_t reset = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 60 * SECOND);
	uint32_t ended = flow_add(GPU1, GPU1, FLOW_CLOSED, 0, 0);

	(void)unused;
	dies(GPU1);
	client_is_reset(reset);
	run_for(400 * MS);
	assert_int_equal(n_events, 1); /* all are through, as far as is known */
	assert_evidence("closed", 1);
	assert_int_equal(n_sent, 1);
	run_for(200 * MS);
	assert_int_equal(sent_to(reset, false), 2);
	assert_int_equal(sent_to(ended, false), 0);
	assert_int_equal(n_events, 1);
	run_for(10 * SECOND);
	assert_int_equal(n_freed, 2);
	assert_int_equal(n_sent, 2);
}

static size_t n_answered; /* of those in `sent`, in their order */

static void a_few_clients_answer(void)
{
	assert_in_range(n_sent - n_answered, 0, 128);
	for (int i = 0; i < 20 && n_answered < n_sent; i++)
		client_is_reset(sent[n_answered++].entry);
}

static void no_more_wait_for_their_answers_than_the_queues_hold(void **unused)
{
	(void)unused;
	for (int i = 0; i < 2000; i++)
		flow_add(GPU1, GPU1, FLOW_OPEN, 0, 60 * SECOND);
	on_nap = a_few_clients_answer;
	n_answered = 0;
	dies(GPU1);
	while (journal_telling(journal))
		journal_run(journal);
	assert_int_equal(n_sent, 2000);
	assert_true(n_answered >= 2000 - 128);
}

static void answers_on_a_long_way_hold_nobody_back(void **unused)
{
	const int n = 16384;
	uint64_t began;

	(void)unused;
	for (int i = 0; i < n; i++)
		flow_add(GPU1, GPU1, FLOW_OPEN, 0, 60 * SECOND);
	began = now;
	dies(GPU1);
	while (journal_telling(journal))
		journal_run(journal);
	assert_int_equal(n_sent, n);
	assert_in_range(now - began, 100 * MS, 170 * MS); /* 100,000 a second and more, but no burst */
}

static void syn_record(uint32_t slot, uint32_t entry, uint64_t at_ns)
{
	syns[slot] = (struct syn){ .at_ns = at_ns, .entry = entry, .n_bytes = 60 };
}

static void a_connection_being_opened_walks_again_to_the_heir_and_nobody_tells_its_client(void **unused)
{
	uint32_t f = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 300 * MS);

	(void)unused;
	syn_record(1234, f, flows[f].opened_ns);
	dies(GPU1);
	assert_int_equal(n_sent, 0);
	assert_int_equal(FLOW_WORD_BACKEND(flows[f].word), GPU2);
	run_for(20 * MS);
	assert_evidence("flows", 1);
	assert_evidence("replayed", 1);
	assert_evidence("challenged", 0);
	assert_evidence("closed", 0);
	assert_counts_exact();
}

static void a_connection_being_opened_is_refused_where_no_heir_takes_it(void **unused)
{
	uint32_t no_heir = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 300 * MS);
	uint32_t no_snapshot = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 300 * MS);
	uint32_t old = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 1100 * MS);
	uint32_t confirmed = flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED, 300 * MS);

	(void)unused;
	heir_takes = false;
	syn_record(0, no_heir, flows[no_heir].opened_ns);
	syn_record(1, old, flows[old].opened_ns);
	syn_record(2, confirmed, flows[confirmed].opened_ns);
	dies(GPU1);
	assert_int_equal(sent_to(no_heir, true), 1);
	assert_int_equal(sent_to(no_snapshot, true), 1);
	assert_int_equal(sent_to(old, true), 0);
	assert_int_equal(sent_to(confirmed, true), 0);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(sent_to(i, false), 1);
	run_for(2 * SECOND);
	assert_int_equal(n_replays, 1); /* once is enough: its client was refused */
	assert_evidence("flows", 4);
	assert_evidence("refused", 2);
	assert_evidence("challenged", 4);
	assert_evidence("closed", 0);
}

static void a_syn_from_before_the_last_heartbeat_was_answered_and_does_not_walk_again(void **unused)
{
	uint32_t before = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 300 * MS),
		 after = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 1 * MS);

	(void)unused;
	sessions[GPU1].answered_ns = now - 3 * MS;
	syn_record(1, before, flows[before].opened_ns);
	syn_record(2, after, flows[after].opened_ns);
	dies(GPU1);
	assert_int_equal(FLOW_WORD_BACKEND(flows[after].word), GPU2);
	assert_int_equal(FLOW_WORD_BACKEND(flows[before].word), GPU1);
	assert_int_equal(sent_to(before, true), 1); /* should it be SYN-SENT all the same */
	assert_int_equal(sent_to(before, false), 1);
	assert_int_equal(n_sent, 2);
}

static void the_snapshot_of_a_flow_that_had_the_entry_before_does_not_walk(void **unused)
{
	uint32_t f = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 300 * MS);

	(void)unused;
	syn_record(7, f, flows[f].opened_ns - 1);
	dies(GPU1);
	assert_int_equal(FLOW_WORD_BACKEND(flows[f].word), GPU1);
	assert_int_equal(sent_to(f, true), 1);
}

static void nobody_is_told_where_the_vip_says_rehash_or_drop(void **unused)
{
	static const enum on_failure kinds[] = { ON_FAILURE_REHASH, ON_FAILURE_DROP };
	uint32_t opening = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 1 * MS);

	(void)unused;
	flow_add(GPU1, GPU1, FLOW_OPEN, 0, 60 * SECOND);
	for (int i = 0; i < 2; i++) {
		chat.conf.on_failure = kinds[i];
		syn_record(9, opening, flows[opening].opened_ns);
		dies(GPU1);
		run_for(2 * SECOND);
		assert_int_equal(n_sent, 0);
		assert_int_equal(n_replays, 0);
		assert_evidence("flows", 0);
	}
}

static void telling_ends_when_the_backend_serves_again(void **unused)
{
	uint32_t f = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 60 * SECOND);

	(void)unused;
	dies(GPU1);
	records[GPU1].word = BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING);
	run_for(120 * SECOND);
	assert_int_equal(n_sent, 1);
	assert_int_equal(n_events, 1);
	assert_int_equal(state_of(f), FLOW_OPEN);
}

static void two_dead_backends_are_told_in_turn_a_slice_each(void **unused)
{
	size_t last[2] = { 0 };

	(void)unused;
	for (int i = 0; i < 2000; i++) {
		flow_add(GPU1, GPU1, FLOW_OPEN, 0, 60 * SECOND);
		flow_add(GPU2, GPU2, FLOW_OPEN, 0, 60 * SECOND);
	}
	step = 100000; /* a slow machine: a few slices and journal_tell() returns */
	dies(GPU1);
	assert_in_range(n_sent, 1, 1999);
	dies(GPU2);
	assert_in_range(n_sent, 2, 3999);
	assert_true(journal_telling(journal));
	while (journal_telling(journal)) {
		size_t before = n_sent;

		assert_true(journal_run(journal));
		assert_in_range(n_sent - before, 0, 256);
	}
	assert_int_equal(n_sent, 4000);
	for (size_t i = 0; i < n_sent; i++)
		last[FLOW_WORD_BACKEND(flows[sent[i].entry].word) - 1] = i;
	assert_in_range(last[0], 3000, 3999); /* neither waited for the other */
	assert_in_range(last[1], 3000, 3999);
}

static void sockets_that_are_full_lose_no_client_and_tell_none_twice(void **unused)
{
	size_t n = 1000;

	(void)unused;
	for (size_t i = 0; i < n; i++)
		flow_add(GPU1, GPU1, FLOW_OPEN, 0, 60 * SECOND);
	room = 100;
	step = 1000; /* while nothing can be sent, time goes on */
	dies(GPU1);
	for (size_t turns = 0; journal_telling(journal); turns++) {
		while (journal_run(journal))
			;
		room += 100;
		assert_in_range(turns, 0, 100);
	}
	assert_int_equal(n_sent, n);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(sent_to(i, false), 1);
}

/* ---- resets ---- */

static void a_reset_flow_becomes_a_detour_and_its_client_is_challenged(void **unused)
{
	uint32_t f = flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED, 60 * SECOND);
	uint32_t detour = flow_add(GPU1, GPU2, FLOW_CLOSING, 0, 5 * SECOND);
	uint32_t other = flow_add(GPU2, GPU2, FLOW_OPEN, 0, 60 * SECOND);
	struct flow_filter filter = { .backend = GPU1 };

	(void)unused;
	flow_add(GPU1, GPU2, FLOW_CLOSED, 0, 0);
	assert_int_equal(journal_reset(journal, &filter), 2);
	assert_int_equal(flags_of(f), FLOW_CONFIRMED | FLOW_RESET | FLOW_DETOUR);
	assert_int_equal(flags_of(detour), FLOW_RESET | FLOW_DETOUR);
	assert_int_equal(flags_of(other), 0);
	assert_counts_exact();
	assert_int_equal(journal_reset(journal, &filter), 0);
	run_for(0);
	assert_int_equal(sent_to(f, false), 1);
	assert_int_equal(sent_to(detour, false), 1);
	assert_int_equal(n_sent, 2);
	client_is_reset(f);
	run_for(40 * SECOND);
	assert_int_equal(sent_to(detour, false), 4); /* as often as when a backend dies, then given back */
	assert_int_equal(n_freed, 3);
	assert_int_equal(state_of(other), FLOW_OPEN);
	assert_counts_exact();
}

static void filters_match_what_they_name(void **unused)
{
	uint32_t e = flow_add(GPU1, GPU2, FLOW_OPEN, 0, 0);
	struct flow *f = &flows[e];
	struct shunt_addr client;
	struct flow_filter filter = { .client = &client };

	(void)unused;
	assert_int_equal(address_parse(&f->key.client, "192.0.2.129"), 0);
	assert_int_equal(address_parse(&client, "192.0.2.128"), 0);
	filter.client_prefix = 24;
	assert_true(flow_matches(&filter, f));
	filter.client_prefix = 31;
	assert_true(flow_matches(&filter, f));
	filter.client_prefix = 32;
	assert_false(flow_matches(&filter, f));
	filter.client_prefix = 0;
	assert_true(flow_matches(&filter, f));
	assert_int_equal(address_parse(&client, "::"), 0);
	assert_true(flow_matches(&filter, f));
	filter.client_prefix = 128;
	assert_int_equal(address_parse(&client, "2001:db8::1"), 0);
	f->key.client = client;
	assert_true(flow_matches(&filter, f));

	assert_true(flow_matches(&(struct flow_filter){ 0 }, f));
	assert_true(flow_matches(&(struct flow_filter){ .backend = GPU1 }, f));
	assert_false(flow_matches(&(struct flow_filter){ .backend = GPU2 }, f));
	assert_true(flow_matches(&(struct flow_filter){ .vip = chat.id + 1 }, f));
	assert_false(flow_matches(&(struct flow_filter){ .vip = chat.id }, f));
	assert_true(flow_matches(&(struct flow_filter){ .client_port = f->key.client_port }, f));
	assert_false(flow_matches(&(struct flow_filter){ .client_port = htons(1) }, f));
	assert_true(flow_matches(&(struct flow_filter){ .state = FLOW_OPEN }, f));
	assert_false(flow_matches(&(struct flow_filter){ .state = FLOW_CLOSED }, f));
	assert_true(flow_matches(&(struct flow_filter){ .detour = 1 }, f));
	assert_false(flow_matches(&(struct flow_filter){ .detour = -1 }, f));
	f->word = 0;
	assert_false(flow_matches(&(struct flow_filter){ 0 }, f));
}

/* ---- moving ---- */

static int n_done;

static void done(void *arg, uint32_t pool)
{
	assert_ptr_equal(arg, &n_done);
	assert_int_equal(pool, 0);
	n_done++;
}

static uint16_t owner_now(uint32_t entry, const struct table *table)
{
	const struct flow_key *k = &flows[entry].key;
	struct flow_tuple tuple = { .source = k->client,
				    .destination = k->vip,
				    .source_port = k->client_port,
				    .destination_port = k->vip_port,
				    .protocol = k->protocol };
	uint64_t mask[SHUNT_FLOW_WORDS];
	uint32_t n_slots;
	const struct slot *slots = table_slots(table, &n_slots);

	vip_hash_mask(mask, &chat.conf);
	return slots[hash_slot(flow_hash_under(&tuple, config.seed, mask), n_slots)].owner;
}

static void flows_on_slots_that_move_become_detours_and_come_home_when_they_move_back(void **unused)
{
	const uint32_t n = 3000;
	uint32_t elsewhere, n_detours = 0;

	(void)unused;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t f = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 10 * SECOND);
		uint16_t owner = owner_now(f, pools[0].table);

		count(flows[f].word, -1);
		flows[f].word = FLOW_WORD(owner, owner, i % 3 ? FLOW_OPEN : FLOW_CLOSING, FLOW_CONFIRMED);
		count(flows[f].word, 1);
	}
	elsewhere = flow_add(GPU1, GPU1, FLOW_OPEN, 0, 60 * SECOND);
	flows[elsewhere].vip = docs.id;
	n_done = 0;
	table_free(pools[0].table);
	pools[0].table = table_of(GPU2, GPU3);
	journal_move(journal, 0, done, &n_done);
	step = 600000; /* a slow machine: several slices */
	assert_true(journal_run(journal));
	assert_int_equal(n_done, 0);
	while (journal_run(journal))
		;
	step = 0;
	assert_int_equal(n_done, 1);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t word = flows[i].word;

		assert_int_equal(FLOW_WORD_OWNER(word), owner_now(i, pools[0].table));
		assert_int_equal(!!(FLOW_WORD_FLAGS(word) & FLOW_DETOUR),
				 FLOW_WORD_BACKEND(word) != FLOW_WORD_OWNER(word));
		n_detours += FLOW_WORD_FLAGS(word) & FLOW_DETOUR;
	}
	assert_in_range(n_detours, n / 3, n - 1);
	assert_int_equal(FLOW_WORD_OWNER(flows[elsewhere].word), GPU1);
	assert_counts_exact();

	table_free(pools[0].table);
	pools[0].table = table_of(GPU1, GPU2);
	journal_move(journal, 0, done, &n_done);
	journal_move(journal, 0, done, &n_done); /* anew: done once */
	run_for(10 * MS);
	assert_int_equal(n_done, 2);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(flags_of(i), FLOW_CONFIRMED);
	assert_counts_exact();
}

static void a_reset_flow_stays_a_detour_when_its_slot_moves(void **unused)
{
	uint32_t f = flow_add(GPU3, GPU1, FLOW_OPEN, FLOW_RESET, 60 * SECOND);

	(void)unused;
	table_free(pools[0].table);
	pools[0].table = table_of(GPU3, GPU2);
	while (owner_now(f, pools[0].table) != GPU3)
		flows[f].key.client_port++;
	journal_move(journal, 0, done, &n_done);
	run_for(10 * MS);
	assert_int_equal(FLOW_WORD_OWNER(flows[f].word), GPU3);
	assert_int_equal(flags_of(f), FLOW_RESET | FLOW_DETOUR);
	assert_counts_exact();
}

/* ---- copies of the peer's flows ---- */

/* A flow of the peer's, as it is told. */
static struct peer_flow told(uint32_t client, uint16_t backend)
{
	struct peer_flow flow = { .vip = chat.id,
				  .backend = backend,
				  .state = FLOW_OPEN,
				  .isn = 7,
				  .opened_ns = now - SECOND,
				  .key = { .vip = chat.conf.address,
					   .client = chat.conf.address,
					   .client_port = htons(5000),
					   .vip_port = htons(443),
					   .protocol = IPPROTO_TCP } };

	flow.key.client.w[3] = htonl(0x0b000000 + client);
	return flow;
}

static void a_copy_is_put_in_whole_with_the_owner_that_the_table_here_says(void **unused)
{
	uint32_t n_detours = 0, found;

	(void)unused;
	journal_peer(journal, true);
	for (uint32_t i = 0; i < 100; i++) {
		struct peer_flow flow = told(i, GPU2);
		uint16_t owner;
		uint32_t entry;

		assert_int_equal(journal_insert(journal, &flow, &entry), 0);
		owner = FLOW_WORD_OWNER(flows[entry].word);
		assert_true(owner == GPU1 || owner == GPU2);
		assert_int_equal(flows[entry].word,
				 FLOW_WORD(GPU2, owner, FLOW_OPEN, FLOW_SYNCED | (owner == GPU1 ? FLOW_DETOUR : 0)));
		n_detours += owner == GPU1;
		assert_int_equal(flows[entry].opened_ns, now - SECOND);
		assert_int_equal(flows[entry].isn, 7);
		assert_int_equal(journal_find(journal, &flow.key, &found), 0);
		assert_int_equal(found, entry);
	}
	assert_int_equal(counts[GPU2].live, 100);
	assert_int_equal(records[GPU1].detours, n_detours);
	assert_in_range(n_detours, 20, 80);
	assert_counts_exact();
}

static void a_copy_whose_flow_the_walk_opens_first_goes_back_as_one_does_that_the_hash_refuses(void **unused)
{
	struct peer_flow flow = told(1, GPU1);
	uint32_t entry;

	(void)unused;
	walk_is_faster = true;
	assert_int_equal(journal_insert(journal, &flow, &entry), -EEXIST);
	assert_int_equal(n_freed, 1);
	walk_is_faster = false;
	hash_is_full = true;
	assert_int_equal(journal_insert(journal, &flow, &entry), -ENOSPC);
	assert_int_equal(n_freed, 2);
	hash_is_full = false;
	state.used = CAPACITY;
	assert_int_equal(journal_insert(journal, &flow, &entry), -ENOSPC);
	assert_int_equal(n_freed, 2);
	assert_counts_exact();
}

static void a_copy_of_which_a_packet_came_is_neither_changed_nor_dropped(void **unused)
{
	struct peer_flow flow = told(1, GPU1);
	uint64_t word;
	uint32_t entry;

	(void)unused;
	journal_peer(journal, true);
	assert_int_equal(journal_insert(journal, &flow, &entry), 0);
	word = flows[entry].word;
	flow.backend = GPU2;
	assert_true(journal_follow(journal, entry, word, &flow));
	assert_int_equal(FLOW_WORD_BACKEND(flows[entry].word), GPU2);
	word = flows[entry].word;
	assert_true(walk_swaps(entry, word, word & ~((uint64_t)FLOW_SYNCED << 40)));
	flow.backend = GPU1;
	assert_false(journal_follow(journal, entry, word, &flow));
	journal_drop(journal, entry);
	assert_int_equal(n_freed, 0);
	assert_int_equal(FLOW_WORD_BACKEND(flows[entry].word), GPU2);
	assert_true(journal_follow(journal, entry, flows[entry].word, &flow)); /* a flow of ours is yielded */
	journal_drop(journal, entry);
	assert_int_equal(n_freed, 1);
	assert_counts_exact();
}

static void copies_are_swept_and_asked_only_while_the_peer_is_away(void **unused)
{
	uint32_t idle = flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_SYNCED, 2 * 3600 * SECOND);
	uint32_t closed = flow_add(GPU2, GPU1, FLOW_CLOSED, FLOW_SYNCED, 60 * SECOND);

	(void)unused;
	journal_peer(journal, true);
	run_for(60 * SECOND);
	assert_int_equal(n_sent + n_freed, 0);
	journal_peer(journal, false);
	run_for(5 * SECOND);
	assert_int_equal(n_freed, 1);
	assert_int_equal(freed_last, closed);
	assert_int_equal(sent_to(idle, false), 1);
	journal_peer(journal, true);
	journal_claim(journal, idle);
	assert_int_equal(flags_of(idle), FLOW_ASKED | FLOW_DETOUR);
	client_speaks(idle);
	run_for(5 * SECOND);
	assert_int_equal(flags_of(idle), FLOW_CONFIRMED);
	assert_counts_exact();
}

/* Their packets came to the peer, which had no reason to confirm them. */
static void copies_are_asked_under_pressure_when_the_peer_is_lost(void **unused)
{
	uint32_t copy;

	(void)unused;
	journal_peer(journal, true);
	for (uint32_t i = 0; i < CAPACITY / 4 * 3 + 100; i++)
		flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED, 0);
	run_for(10 * MS);
	assert_true(shuntd.confirm);
	now += 10 * MS;
	copy = flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_SYNCED, 0);
	run_for(20 * SECOND);
	journal_peer(journal, false);
	run_for(3 * SECOND);
	assert_int_equal(sent_to(copy, false), 1);
	client_speaks(copy);
	run_for(40 * SECOND);
	assert_int_equal(state_of(copy), FLOW_OPEN);
	assert_counts_exact();
}

static void copies_don_t_keep_a_flood_s_alarm_up(void **unused)
{
	(void)unused;
	journal_peer(journal, true);
	for (uint32_t i = 0; i < CAPACITY / 4 * 3 + 100; i++)
		flow_add(GPU1, GPU1, FLOW_OPEN, i < CAPACITY / 4 ? FLOW_SYNCED : 0, 0);
	run_for(4 * SECOND);
	assert_true(shuntd.confirm);
	run_for(60 * SECOND); /* unproven ones of ours are asked, and given back */
	assert_int_equal(n_freed, CAPACITY / 2 + 100);
	assert_false(shuntd.confirm);
	assert_counts_exact();
}

static void what_the_peer_left_untold_of_a_dead_backend_s_is_told_later(void **unused)
{
	uint32_t ours[10], untold[10], resets[10];

	(void)unused;
	journal_peer(journal, true);
	for (int i = 0; i < 10; i++) {
		ours[i] = flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED, 10 * SECOND);
		untold[i] = flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED | FLOW_SYNCED, 10 * SECOND);
		resets[i] = flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED | FLOW_SYNCED, 10 * SECOND);
	}
	dies(GPU1);
	run_for(80 * MS);
	for (int i = 0; i < 10; i++) {
		assert_in_range(sent_to(ours[i], false), 1, 2);
		assert_int_equal(sent_to(untold[i], false), 0);
		client_is_reset(ours[i]);
		client_is_reset(resets[i]); /* the peer's doing, which it told us of */
	}
	run_for(60 * MS);
	for (int i = 0; i < 10; i++)
		assert_int_equal(sent_to(untold[i], false), 1);
	run_for(SECOND);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(sent_to(untold[i], false), 2);
		assert_int_equal(sent_to(resets[i], false), 0);
	}
}

static void who_has_only_copies_of_a_dead_backend_s_looks_for_them_as_soon(void **unused)
{
	uint32_t f = flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED | FLOW_SYNCED, 10 * SECOND);

	(void)unused;
	journal_peer(journal, true);
	dies(GPU1);
	run_for(90 * MS);
	assert_int_equal(sent_to(f, false), 0);
	run_for(60 * MS);
	assert_int_equal(sent_to(f, false), 1);
}

static void copies_are_told_at_once_while_the_peer_is_away(void **unused)
{
	uint32_t f = flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_CONFIRMED | FLOW_SYNCED, 10 * SECOND);

	(void)unused;
	journal_peer(journal, false);
	dies(GPU1);
	assert_int_equal(sent_to(f, false), 1);
}

static void a_deadline_cuts_ours_and_an_operator_s_reset_copies_too(void **unused)
{
	uint32_t ours = flow_add(GPU1, GPU1, FLOW_OPEN, 0, SECOND);
	uint32_t copy = flow_add(GPU1, GPU1, FLOW_OPEN, FLOW_SYNCED, SECOND);

	(void)unused;
	journal_peer(journal, true);
	assert_int_equal(journal_reset(journal, &(struct flow_filter){ .backend = GPU1, .ours = true }), 1);
	assert_true(flags_of(ours) & FLOW_RESET);
	assert_int_equal(flags_of(copy), FLOW_SYNCED);
	assert_int_equal(journal_reset(journal, &(struct flow_filter){ .backend = GPU1 }), 1);
	assert_int_equal(flags_of(copy), FLOW_RESET | FLOW_DETOUR);
	assert_counts_exact();
}

/* ---- counts ---- */

static void counts_are_those_of_the_entries(void **unused)
{
	struct journal_counts c;

	(void)unused;
	flow_add(GPU1, GPU1, FLOW_OPEN, 0, 0);
	flow_add(GPU2, GPU1, FLOW_OPEN, 0, 0);
	flow_add(GPU2, GPU1, FLOW_CLOSING, 0, 0);
	flow_add(GPU2, GPU2, FLOW_CLOSED, 0, 0);
	state.used = CAPACITY + 5; /* the walk adds before it looks */
	journal_count(journal, &c);
	assert_int_equal(c.used, 4);
	assert_int_equal(c.capacity, CAPACITY);
	assert_int_equal(c.open, 2);
	assert_int_equal(c.closing, 1);
	assert_int_equal(c.closed, 1);
	assert_int_equal(c.detours, 2);
}

static void audit_pass(void)
{
	now += 2 * SECOND;
	while (journal_run(journal))
		;
}

static void counts_that_a_killed_run_left_too_high_are_corrected_when_they_were_found_so_twice(void **unused)
{
	(void)unused;
	flow_add(GPU1, GPU1, FLOW_OPEN, 0, 0);
	flow_add(GPU2, GPU1, FLOW_OPEN, 0, 0);
	counts[GPU1].live++;
	records[GPU1].detours += 2;
	journal_audit(journal);
	audit_pass();
	assert_int_equal(counts[GPU1].live, 2);
	audit_pass();
	assert_counts_exact();
	assert_string_equal(event_what, "counts corrected");
	assert_evidence("live", 1);
	assert_evidence("detours", 2);
	assert_int_equal(n_events, 1);
	counts[GPU2].live++;
	for (int i = 0; i < 4; i++)
		audit_pass();
	assert_int_equal(counts[GPU2].live, 2); /* once, after a take-over: what comes later is none of its business */
	counts[GPU2].live--;
}

static uint64_t n_looks;

static void counts_of_a_backend_whose_flows_change_meanwhile_wait_for_a_quiet_time(void **unused)
{
	const uint32_t n = 4096; /* several slices */
	uint32_t e = 0;

	(void)unused;
	for (uint32_t i = 0; i < n; i++)
		flow_add(GPU1, GPU1, FLOW_OPEN, 0, 0);
	counts[GPU1].live += 3;
	step = 300000; /* three looks at the clock a slice */
	journal_audit(journal);
	for (int pass = 0; pass < 6; pass++) {
		now += 2 * SECOND;
		while (journal_run(journal)) {
			uint64_t word = flows[e].word;

			walk_swaps(e, word, FLOW_WORD(GPU1, GPU1, FLOW_CLOSING, FLOW_WORD_FLAGS(word)));
			e++;
			n_looks++;
		}
	}
	assert_true(n_looks > 6);
	assert_int_equal(n_events, 0);
	for (int pass = 0; pass < 2; pass++)
		audit_pass();
	assert_int_equal(n_events, 1);
	assert_counts_exact();
}

/* The walk beside us: opens, confirms, closes flows at random, as fast as it can, until it is told to stop. */
static bool walking;

static void *walk(void *arg)
{
	uint32_t x = *(uint32_t *)arg;

	while (__atomic_load_n(&walking, __ATOMIC_RELAXED)) {
		uint32_t e, state_new;
		uint64_t word;
		uint8_t flags;

		x = x * 1664525 + 1013904223;
		e = (x >> 8) % 64;
		word = __atomic_load_n(&flows[e].word, __ATOMIC_SEQ_CST);
		if (!word)
			continue; /* shuntd's */
		state_new = 1 + (x >> 20) % 3;
		flags = FLOW_WORD_FLAGS(word);
		walk_swaps(e, word, FLOW_WORD(FLOW_WORD_BACKEND(word), FLOW_WORD_OWNER(word), state_new, flags));
	}
	return NULL;
}

static void counts_stay_exact_while_the_walk_changes_the_same_words(void **unused)
{
	const uint32_t n = 64;
	struct table *tables[2] = { pools[0].table, table_of(GPU2, GPU3) };
	uint32_t seeds[2] = { 1, 2 };
	pthread_t walks[2];

	(void)unused;
	for (uint32_t e = 0; e < n; e++)
		flow_add(GPU1, GPU1, FLOW_OPEN, 0, 0);
	walking = true;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&walks[i], NULL, walk, &seeds[i]), 0);
	for (int i = 0; i < 20000; i++) {
		pools[0].table = tables[i % 2];
		journal_move(journal, 0, done, &n_done);
		journal_reset(journal, &(struct flow_filter){ .client_port = htons((uint16_t)(1024 + i % n)) });
		if (i % 50 == 0)
			now += SECOND; /* closed ones are given back */
		while (journal_run(journal))
			n_sent = 0;
		for (uint32_t e = 0; e < n; e++) {
			if (!flows[e].word)
				walk_swaps(e, 0, FLOW_WORD(GPU1, GPU2, FLOW_OPEN, FLOW_DETOUR));
			flows[e].seen_ns = now - SECOND / 2;
		}
	}
	__atomic_store_n(&walking, false, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		pthread_join(walks[i], NULL);
	assert_true(n_freed > 0);
	assert_counts_exact();
	pools[0].table = tables[0];
	table_free(tables[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_open, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_closed_detour_is_given_back_four_seconds_after_its_last_packet),
		TEST(a_closing_detour_is_given_back_after_the_configured_time),
		TEST(what_ended_at_its_owner_is_listened_to_before_it_is_given_back),
		TEST(a_client_that_was_listened_to_is_told),
		TEST(what_ended_long_ago_is_listened_to_where_it_is_looked_up_since_a_moment),
		TEST(who_ended_long_ago_is_told_as_often_as_others),
		TEST(what_ends_does_not_fill_the_journal),
		TEST(a_flow_whose_vip_is_gone_is_given_back),
		TEST(an_idle_flow_that_answers_lives_on_and_leaves_no_detour),
		TEST(an_idle_detour_that_answers_stays_a_detour),
		TEST(an_idle_flow_is_given_back_after_three_questions_ten_seconds_apart),
		TEST(a_slice_of_the_sweep_is_bounded_and_a_pass_takes_three_seconds_at_most),
		TEST(spoofed_syns_go_when_the_journal_fills_and_established_flows_stay),
		TEST(spoofed_flows_that_spoke_once_go_too),
		TEST(pressure_ends_below_half_and_not_before),
		TEST(pressure_goes_on_until_the_rest_of_a_flood_is_gone),
		TEST(every_live_flow_of_a_dead_backend_is_challenged_and_no_other),
		TEST(who_is_not_heard_of_is_told_again_after_10_and_100_and_500_ms),
		TEST(who_was_reset_is_told_once_more_half_a_second_later_and_who_ended_by_itself_never),
		TEST(no_more_wait_for_their_answers_than_the_queues_hold),
		TEST(answers_on_a_long_way_hold_nobody_back),
		TEST(a_connection_being_opened_walks_again_to_the_heir_and_nobody_tells_its_client),
		TEST(a_connection_being_opened_is_refused_where_no_heir_takes_it),
		TEST(a_syn_from_before_the_last_heartbeat_was_answered_and_does_not_walk_again),
		TEST(the_snapshot_of_a_flow_that_had_the_entry_before_does_not_walk),
		TEST(nobody_is_told_where_the_vip_says_rehash_or_drop),
		TEST(telling_ends_when_the_backend_serves_again),
		TEST(two_dead_backends_are_told_in_turn_a_slice_each),
		TEST(sockets_that_are_full_lose_no_client_and_tell_none_twice),
		TEST(a_reset_flow_becomes_a_detour_and_its_client_is_challenged),
		TEST(filters_match_what_they_name),
		TEST(flows_on_slots_that_move_become_detours_and_come_home_when_they_move_back),
		TEST(a_reset_flow_stays_a_detour_when_its_slot_moves),
		TEST(counts_are_those_of_the_entries),
		TEST(counts_that_a_killed_run_left_too_high_are_corrected_when_they_were_found_so_twice),
		TEST(counts_of_a_backend_whose_flows_change_meanwhile_wait_for_a_quiet_time),
		TEST(counts_stay_exact_while_the_walk_changes_the_same_words),
		TEST(a_copy_is_put_in_whole_with_the_owner_that_the_table_here_says),
		TEST(a_copy_whose_flow_the_walk_opens_first_goes_back_as_one_does_that_the_hash_refuses),
		TEST(a_copy_of_which_a_packet_came_is_neither_changed_nor_dropped),
		TEST(copies_are_swept_and_asked_only_while_the_peer_is_away),
		TEST(copies_are_asked_under_pressure_when_the_peer_is_lost),
		TEST(copies_don_t_keep_a_flood_s_alarm_up),
		TEST(what_the_peer_left_untold_of_a_dead_backend_s_is_told_later),
		TEST(who_has_only_copies_of_a_dead_backend_s_looks_for_them_as_soon),
		TEST(copies_are_told_at_once_while_the_peer_is_away),
		TEST(a_deadline_cuts_ours_and_an_operator_s_reset_copies_too),
	};

	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
