/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * journal.c - see journal.h. Decides which entries are given back, who is asked, who is told; leaves the choice of a
 * backend to the walk. The walk writes the entries at the same time: a word is changed by compare-and-swap alone, and the
 * counts (`backend_flows.live`, `backend.detours`) by whoever won.
 *
 * Nothing is remembered per flow but in the entry itself: a tell is a few passes over the entries, each of which looks
 * for what is still to be told.
 */
#include "shuntd/journal.h"

#include <errno.h>
#include <time.h>

#include "common/clock.h"
#include "core/flow.h"
#include "core/mix.h"
#include "core/peer.h"
#include "shunt/detect.h"
#include "shunt/hash.h"
#include "shuntd/backends.h"
#include "shuntd/outlet.h"

#define SECOND_NS 1000000000ULL

/* ---- chosen numbers ---- */

#define PERIOD_NS 10000000ULL /* the sweep's; BACKENDS_PERIOD_NS, the main loop's, is no longer */
#define PASS_PERIODS 256 /* a pass of the sweep takes so many periods: 2.6 s */
#define SLICE_MIN 64 /* entries of a slice of the sweep at least */
#define FREES_MAX 512 /* given back in a slice, which takes about 1 ms: 51,200 a second */
#define ASKS_MAX 64 /* clients asked in a slice: 6,400 a second */
#define CLOSED_NS SECOND_NS /* a closed entry answers stray segments with a RST for so long */
#define CLOSED_TOLD_NS (3 * SECOND_NS) /* and one whose client was told: until the last attempt has been made */
#define ASK_GAP_NS (10 * SECOND_NS)
#define ASKS 3
#define LISTEN_NS (3 * SECOND_NS) /* what a stream that goes on is not silent for, as a rule */
#define LISTEN_PERIODS 2 /* of flows.closed, between two times of listening: look-ups in 5 % of the time, 60 s given */
#define LISTEN_PART 4 /* more of the capacity in use than a so-manieth: always, or what ended would fill the journal */
#define PRESSED_IDLE_NS (60 * SECOND_NS) /* under pressure: idle, for who is asked whether he lives */
#define UNTOLD_NS (30 * SECOND_NS) /* told, and nothing heard: kept for so long after the last challenge */
#define UNPROVEN_PART 64 /* chosen: new and abandoned connections alone are fewer than capacity / so many */
#define UNCONFIRMED_NS (10 * SECOND_NS) /* under pressure: nothing followed its SYN for so long */

#define AUDIT_PAUSE_NS SECOND_NS /* before those that changed are counted again */
#define SLICE_NS 1000000ULL /* of telling or moving, at most so long */
#define SLICE_TELLS 256 /* and so many told */
#define SLICE_STEP 512 /* entries between two looks at the clock */
#define TELL_NOW_NS 10000000ULL /* of a tell before journal_tell() returns: choosing new heirs takes as long */
/*
 * So many challenges may wait for their answers, or a burst of them fills the queues through which the RSTs must leave.
 * When hardly any is answered, the way is a long one and more may go: first after WINDOW_PATIENCE_NS, then sooner each
 * time, down to WINDOW_NS: 128,000 a second.
 */
#define WINDOW 128
#define WINDOW_NS 1000000ULL
#define WINDOW_PATIENCE_NS 10000000ULL
#define WINDOW_SLEEP_NS 20000L /* between two looks for answers */
#define FRESH_NS SECOND_NS /* its SYN may still be unanswered: a client repeats it after a second (RFC 6298 2.1) */
/* A SYN that came so long before the backend's last heartbeat was answered. To walk again takes 100 us and more. */
#define ANSWERED_NS 5000000ULL

/*
 * Attempts of a tell after the first: so long after the end of the one before. A client's answer may be lost, and Linux
 * answers a bare segment outside its window once in 500 ms (tcp_invalid_ratelimit): the last comes after that. It is for
 * closed flows too: the RST may be what was lost.
 */
static const uint64_t tell_gaps_ns[] = { 0, 10000000, 100000000, 450000000 };
#define TELL_PASSES (sizeof(tell_gaps_ns) / sizeof(tell_gaps_ns[0]))
#define TELL_PASSES_OURS 2 /* in these the peer tells its own, and we ours */

/* ---- the journal ---- */

/* Clients being told that their backend is dead, or that their flow was ended. */
struct tell {
	struct tell *next;
	uint16_t backend; /* 0: flows under FLOW_RESET */
	uint64_t at_ns; /* journal_tell() */
	uint64_t unanswered_ns; /* SYNs from here on walk again */
	unsigned pass; /* 0 .. TELL_PASSES - 1 */
	uint64_t due_ns; /* of this pass */
	uint32_t syn, entry; /* where this pass stands: SYNs first */
	uint64_t n_found; /* in this pass, still to be told */
	uint64_t n_left; /* in this pass, left to the peer */
	uint64_t n_told, n_replayed, n_refused, n_challenged; /* in the first pass */
	uint64_t first_ns, last_ns; /* segments of the first pass were sent */
	uint64_t n_failed_before; /* outlet_failed() at its start */
	bool again; /* an earlier run may have told all of them: none is no news */
	bool reported;
};

/* Challenges whose answers are waited for. */
struct window {
	struct {
		uint32_t entry;
		uint64_t sent_ns;
	} waiting[WINDOW];
	unsigned n, n_answered; /* n_answered: since_ns */
	uint64_t since_ns, patience_ns;
};

/* What the entries that name a backend come to. */
struct audited {
	uint64_t sum; /* of what each of them is, so that a change of any makes it another */
	uint64_t live;
	uint32_t detours;
};

struct audit {
	struct audited first[SHUNT_MAX_BACKENDS], second[SHUNT_MAX_BACKENDS];
	/* the counts between the two looks */
	uint64_t live[SHUNT_MAX_BACKENDS];
	uint32_t detours[SHUNT_MAX_BACKENDS];
	/* what they were too high by when it was counted exactly; a walk may have been about to change them */
	int64_t live_off[SHUNT_MAX_BACKENDS];
	int32_t detours_off[SHUNT_MAX_BACKENDS];
	bool settled[SHUNT_MAX_BACKENDS];
	bool again; /* the second look */
	uint32_t entry, used; /* where this look stands, and ends */
	uint64_t due_ns; /* of the next two */
};

struct move {
	bool active;
	uint32_t entry; /* where it stands */
	void (*done)(void *arg, uint32_t pool);
	void *arg;
};

struct journal {
	struct shuntd *shuntd;
	struct flow *flows;
	struct journal_state *state;
	struct backend *backends;
	const struct session *sessions;
	struct backend_flows *counts;
	const struct syn *syns;
	struct outlet *outlet;
	struct window window;
	struct tell *tells; /* the next to have a slice is the first */
	struct move moves[SHUNT_MAX_POOLS];
	uint32_t n_moves; /* active ones */

	struct audit *audit; /* NULL: none */

	/* the sweep */
	uint64_t swept_ns; /* its newest slice */
	uint32_t entry; /* where it stands */
	uint32_t n_seen; /* entries in use, in this pass so far */
	uint32_t n_unproven; /* of them, open ones of which nothing but the SYN is known */
	uint32_t used_at_start; /* state.used when this pass began */
	uint32_t in_use, used_then; /* what the pass before found, and its used_at_start */
	uint64_t pressure_ns; /* since when the journal fills; 0: it doesn't */
	bool listening; /* in this pass, to who ended */
	uint64_t listened_ns; /* the newest such pass began */

	bool has_peer; /* journal_peer() */
};

/* The walk's clock is read on other CPUs: what it wrote may be a little later than our now. */
static bool older_than(uint64_t then_ns, uint64_t now, uint64_t age_ns)
{
	return then_ns + age_ns < now;
}

static uint32_t entries_used(const struct journal *j)
{
	uint32_t used = __atomic_load_n(&j->state->used, __ATOMIC_ACQUIRE);

	return used < j->state->capacity ? used : j->state->capacity; /* the walk may count beyond the end */
}

/* ---- words ---- */

static uint64_t word_load(const struct flow *f)
{
	return __atomic_load_n(&f->word, __ATOMIC_ACQUIRE);
}

static bool word_is_live(uint64_t word)
{
	return FLOW_WORD_STATE(word) == FLOW_OPEN || FLOW_WORD_STATE(word) == FLOW_CLOSING;
}

/* A copy, and the peer answers for it. */
static bool is_peers(const struct journal *j, uint64_t word)
{
	return j->has_peer && FLOW_WORD_FLAGS(word) & FLOW_SYNCED;
}

/* The word with another owner and other flags; FLOW_DETOUR follows from them. */
static uint64_t word_with(uint64_t word, uint16_t owner, uint8_t flags)
{
	bool detour = FLOW_WORD_BACKEND(word) != owner || flags & (FLOW_RESET | FLOW_ASKED);

	flags = detour ? flags | FLOW_DETOUR : flags & (uint8_t)~FLOW_DETOUR;
	return FLOW_WORD(FLOW_WORD_BACKEND(word), owner, FLOW_WORD_STATE(word), flags);
}

static void word_count(struct journal *j, uint64_t word, int sign)
{
	uint16_t backend = FLOW_WORD_BACKEND(word), owner = FLOW_WORD_OWNER(word);

	if (FLOW_WORD_STATE(word) == FLOW_OPEN && backend < SHUNT_MAX_BACKENDS)
		__atomic_fetch_add(&j->counts[backend].live, (__u64)sign, __ATOMIC_SEQ_CST);
	if (FLOW_WORD_FLAGS(word) & FLOW_DETOUR && owner < SHUNT_MAX_BACKENDS)
		__atomic_fetch_add(&j->backends[owner].detours, (__u32)sign, __ATOMIC_SEQ_CST);
}

/* Change a word that is still `old`, and the counts with it. False: the walk was faster. */
static bool word_swap(struct journal *j, struct flow *f, uint64_t old, uint64_t new)
{
	__u64 expected = old;
	bool won;

	word_count(j, new, 1); /* first, so that no count is ever too low, wherever shuntd is killed: journal_audit() */
	won = __atomic_compare_exchange_n(&f->word, &expected, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	word_count(j, won ? old : new, -1);
	return won;
}

static bool flow_free(struct journal *j, uint32_t entry, uint64_t word)
{
	struct flow *f = &j->flows[entry];

	if (!word_swap(j, f, word, 0))
		return false;
	f->challenged = 0;
	/* An error is the hash's or the stack's refusal of what they hold for certain: nothing would mend it. */
	dataplane_flow_free(j->shuntd->dataplane, entry);
	return true;
}

/* Whether it keeps the flows that it has: backend_keeps_flows() of bpf/slot.bpf.h. */
static bool backend_serves(const struct journal *j, uint16_t id)
{
	uint32_t word;

	if (id >= SHUNT_MAX_BACKENDS)
		return false;
	word = __atomic_load_n(&j->backends[id].word, __ATOMIC_SEQ_CST);
	return word_is_judged(word) ||
	       word_is_doubted(word, __atomic_load_n(&j->counts[id].doubted_until_ns, __ATOMIC_RELAXED),
			       monotonic_ns());
}

static bool backend_is_up(const struct journal *j, uint16_t id)
{
	return id < SHUNT_MAX_BACKENDS &&
	       BACKEND_WORD_STATE(__atomic_load_n(&j->backends[id].word, __ATOMIC_SEQ_CST)) == BACKEND_UP;
}

/* ---- challenges ---- */

/* n: how many challenges that makes, as far as the entry counts them. */
static void flow_challenge(struct journal *j, struct flow *f, unsigned n, uint64_t now)
{
	f->challenged = FLOW_CHALLENGED(n < 15 ? n : 15, now);
	outlet_challenge(j->outlet, f);
}

/* Whether the newest challenge is older than that; exact to 1/16 s. */
static bool challenge_older_than(const struct flow *f, uint64_t now, uint64_t age_ns)
{
	uint32_t age = (FLOW_CHALLENGED(0, now) - (f->challenged & ~15U)) >> 4;

	return age > age_ns / 62500000U;
}

/* ---- the sweep ---- */

enum sweep {
	SWEEP_KEEP,
	SWEEP_FREE,
	SWEEP_ASK, /* the first time */
	SWEEP_ASK_AGAIN,
	SWEEP_LISTEN,
	SWEEP_BELIEVE, /* its client answered, or was heard */
};

/*
 * A flow that a FIN or RST ended. The client may only have nothing more to say and read on, or the segment was forged; and at
 * an owner that is up and has no detours no other packet of it was looked up since. So before it is given back they are, for
 * a while (FLOW_ASKED makes it a detour). It isn't asked: that would keep a client's TIME-WAIT up (RFC 9293 3.10.7.4).
 */
static enum sweep ended_decide(const struct journal *j, const struct flow *f, uint64_t word, uint64_t now)
{
	uint64_t seen_ns = __atomic_load_n(&f->seen_ns, __ATOMIC_RELAXED), age_ns = j->shuntd->config->flows_closed_ns;
	uint8_t flags = FLOW_WORD_FLAGS(word);
	bool was_told = FLOW_CHALLENGES(f->challenged);

	if (flags & FLOW_ASKED && f->challenged && !was_told) {
		if (flags & FLOW_CONFIRMED)
			return SWEEP_BELIEVE;
		return challenge_older_than(f, now, LISTEN_NS) ? SWEEP_FREE : SWEEP_KEEP;
	}
	if (FLOW_WORD_STATE(word) == FLOW_CLOSED)
		age_ns = was_told ? CLOSED_TOLD_NS : CLOSED_NS;
	if (!older_than(seen_ns, now, age_ns) || (was_told && !challenge_older_than(f, now, CLOSED_TOLD_NS)))
		return SWEEP_KEEP;
	if (was_told || j->pressure_ns)
		return SWEEP_FREE;
	/* Where they are looked up in any case nothing is lost by it; but it may be so since a moment only. */
	return j->listening || flags & FLOW_DETOUR || !backend_is_up(j, FLOW_WORD_BACKEND(word)) ? SWEEP_LISTEN
												 : SWEEP_KEEP;
}

/* What is to become of an entry whose word is not 0. */
static enum sweep sweep_decide(const struct journal *j, const struct flow *f, uint64_t word, uint64_t now)
{
	uint64_t opened_ns = __atomic_load_n(&f->opened_ns, __ATOMIC_RELAXED);
	uint64_t seen_ns = __atomic_load_n(&f->seen_ns, __ATOMIC_RELAXED);
	uint8_t flags = FLOW_WORD_FLAGS(word);
	uint64_t idle_ns = j->shuntd->config->flows_idle_ns;
	enum sweep ended;

	if (!vip_by_id(j->shuntd, f->vip))
		return SWEEP_FREE; /* the configuration no longer has its VIP, so no packet of it comes here */
	if (is_peers(j, word))
		return SWEEP_KEEP;
	if (FLOW_WORD_STATE(word) != FLOW_OPEN) {
		ended = ended_decide(j, f, word, now);
		if (ended != SWEEP_KEEP || FLOW_WORD_STATE(word) == FLOW_CLOSED)
			return ended;
	}
	if (flags & FLOW_RESET || !backend_serves(j, FLOW_WORD_BACKEND(word))) {
		/* A tell has it, or had it: that asks, and asks again. */
		if (FLOW_CHALLENGES(f->challenged) >= TELL_PASSES && challenge_older_than(f, now, UNTOLD_NS))
			return SWEEP_FREE;
	}
	if (flags & FLOW_RESET || FLOW_WORD_STATE(word) != FLOW_OPEN)
		return SWEEP_KEEP;
	if (flags & FLOW_ASKED) {
		if (flags & FLOW_CONFIRMED)
			return SWEEP_BELIEVE;
		if (!challenge_older_than(f, now, ASK_GAP_NS))
			return SWEEP_KEEP;
		return FLOW_CHALLENGES(f->challenged) >= ASKS ? SWEEP_FREE : SWEEP_ASK_AGAIN;
	}
	if (j->pressure_ns && !(flags & FLOW_CONFIRMED) && older_than(opened_ns, now, UNCONFIRMED_NS)) {
		/* Since VIP_CONFIRM is set any packet would have confirmed it. Before, and at the peer, nobody looked: ask. */
		return opened_ns > j->pressure_ns && !(flags & FLOW_SYNCED) ? SWEEP_FREE : SWEEP_ASK;
	}
	/* Anybody can have one packet follow his SYN. Since VIP_CONFIRM is set all are looked up, so that seen_ns is true. */
	if (j->pressure_ns && idle_ns > PRESSED_IDLE_NS) {
		idle_ns = PRESSED_IDLE_NS;
		seen_ns = seen_ns > j->pressure_ns ? seen_ns : j->pressure_ns;
	}
	return older_than(seen_ns, now, idle_ns) ? SWEEP_ASK : SWEEP_KEEP;
}

/* Entries in use now, as far as is known: what the pass before counted, and those taken for the first time since. */
uint64_t journal_in_use(const struct journal *j)
{
	return j ? (uint64_t)j->in_use + entries_used(j) - j->used_then : 0;
}

static void pressure_set(struct journal *j, bool on)
{
	j->shuntd->confirm = on;
	vips_flags_apply(j->shuntd); /* what fails is tried again by whoever writes the VIP next */
	j->pressure_ns = on ? monotonic_ns() : 0; /* flows opened from here on are confirmed by their next packet */
	ledger_add(j->shuntd->ledger, 0, "shuntd", "self", on ? "journal fills" : "journal has room",
		   on ? "flows are confirmed by their packets" : "below half",
		   json_pack("{s:I, s:I}", "entries", (json_int_t)journal_in_use(j), "capacity",
			     (json_int_t)j->state->capacity));
}

static void pass_end(struct journal *j, uint64_t now)
{
	j->in_use = j->n_seen;
	j->used_then = j->used_at_start;
	/* What is left of a flood would stay for the idle hour: go on until little of it is. */
	if (j->pressure_ns && journal_in_use(j) < j->state->capacity / 2 &&
	    j->n_unproven <= j->state->capacity / UNPROVEN_PART)
		pressure_set(j, false);
	j->listening = journal_in_use(j) > j->state->capacity / LISTEN_PART ||
		       older_than(j->listened_ns, now, LISTEN_PERIODS * j->shuntd->config->flows_closed_ns);
	if (j->listening)
		j->listened_ns = now;
	j->entry = j->n_seen = j->n_unproven = 0;
	j->used_at_start = entries_used(j);
}

static void sweep_slice(struct journal *j, uint64_t now)
{
	uint32_t used = entries_used(j), n = used / PASS_PERIODS + SLICE_MIN, frees = 0, asks = 0;

	if (!j->pressure_ns && journal_in_use(j) > (uint64_t)j->state->capacity * 3 / 4)
		pressure_set(j, true);
	for (; j->entry < used && n && frees < FREES_MAX; j->entry++, n--) {
		struct flow *f = &j->flows[j->entry];
		uint64_t word = word_load(f), new = word;
		uint8_t flags = FLOW_WORD_FLAGS(word);
		uint16_t owner = FLOW_WORD_OWNER(word);

		if (!word)
			continue;
		j->n_seen++;
		switch (sweep_decide(j, f, word, now)) {
		case SWEEP_KEEP:
			j->n_unproven +=
				FLOW_WORD_STATE(word) == FLOW_OPEN && !(flags & FLOW_CONFIRMED) && !is_peers(j, word);
			break;
		case SWEEP_FREE:
			if (flow_free(j, j->entry, word)) {
				frees++;
				j->n_seen--;
			}
			break;
		case SWEEP_ASK:
			flags = (flags & (uint8_t)~FLOW_CONFIRMED) | FLOW_ASKED;
			if (asks == ASKS_MAX || !outlet_has_room(j->outlet) ||
			    !word_swap(j, f, word, word_with(word, owner, flags)))
				break;
			flow_challenge(j, f, 1, now);
			asks++;
			break;
		case SWEEP_ASK_AGAIN:
			if (asks == ASKS_MAX || !outlet_has_room(j->outlet))
				break;
			flow_challenge(j, f, FLOW_CHALLENGES(f->challenged) + 1, now);
			asks++;
			break;
		case SWEEP_LISTEN:
			flags = (flags & (uint8_t)~FLOW_CONFIRMED) | FLOW_ASKED;
			f->challenged = FLOW_CHALLENGED(0, now);
			word_swap(j, f, word, word_with(word, owner, flags));
			break;
		case SWEEP_BELIEVE:
			f->challenged = 0;
			if (FLOW_WORD_STATE(word) == FLOW_CLOSED)
				new = FLOW_WORD(FLOW_WORD_BACKEND(word), owner, FLOW_OPEN, flags);
			word_swap(j, f, word, word_with(new, owner, flags & (uint8_t)~FLOW_ASKED));
			break;
		}
	}
	outlet_flush(j->outlet);
	if (j->entry >= used)
		pass_end(j, now);
}

/* ---- telling ---- */

/* Whether one more may be challenged now. */
static bool window_is_open(struct journal *j, uint64_t now)
{
	struct window *w = &j->window;
	unsigned n = 0;

	if (w->n < WINDOW)
		return true;
	for (unsigned i = 0; i < w->n; i++) {
		uint64_t seen_ns = __atomic_load_n(&j->flows[w->waiting[i].entry].seen_ns, __ATOMIC_RELAXED);

		if (seen_ns < w->waiting[i].sent_ns)
			w->waiting[n++] = w->waiting[i];
	}
	w->n_answered += w->n - n;
	w->n = n;
	if (w->n_answered >= WINDOW / 2 || older_than(w->since_ns, now, 10 * WINDOW_PATIENCE_NS)) {
		w->patience_ns = WINDOW_PATIENCE_NS; /* all goes well, or another tell begins */
	} else if (w->n_answered < WINDOW / 8) {
		if (!older_than(w->since_ns, now, w->patience_ns))
			return w->n < WINDOW;
		w->patience_ns = w->patience_ns > 2 * WINDOW_NS ? w->patience_ns / 2 : WINDOW_NS;
		w->n = 0;
	}
	w->n_answered = 0;
	w->since_ns = now;
	return w->n < WINDOW;
}

static void window_add(struct journal *j, uint32_t entry, uint64_t now)
{
	struct window *w = &j->window;

	w->waiting[w->n].entry = entry;
	w->waiting[w->n++].sent_ns = now;
}

static bool tell_concerns(const struct tell *t, uint64_t word)
{
	return (word_is_live(word) || (FLOW_WORD_STATE(word) == FLOW_CLOSED && t->pass + 1 == TELL_PASSES)) &&
	       (t->backend ? FLOW_WORD_BACKEND(word) == t->backend : (FLOW_WORD_FLAGS(word) & FLOW_RESET) != 0);
}

static bool is_fresh(const struct tell *t, const struct flow *f, uint64_t word)
{
	return !(FLOW_WORD_FLAGS(word) & FLOW_CONFIRMED) && f->opened_ns + FRESH_NS > t->at_ns;
}

/* Where the VIP says `rehash` or `drop` nobody hears of the death of a backend; a reset is an operator's will. */
static bool is_told(const struct journal *j, const struct tell *t, const struct flow *f)
{
	const struct vip_run *vip = vip_by_id(j->shuntd, f->vip);

	return !t->backend || (vip && vip->conf.on_failure == ON_FAILURE_RESET);
}

/*
 * Let a SYN that the dead backend may not have answered walk again: the walk leads it, and its flow, to the heir. False:
 * it didn't walk, and no time has passed.
 */
static bool tell_replay(struct journal *j, struct tell *t, const struct syn *shared)
{
	const uint64_t at_ns = __atomic_load_n(&shared->at_ns, __ATOMIC_ACQUIRE);
	const struct flow *f;
	struct syn syn;
	uint64_t word;

	if (at_ns < t->unanswered_ns || at_ns + FRESH_NS <= t->at_ns || !at_ns || shared->entry >= entries_used(j))
		return false;
	f = &j->flows[shared->entry];
	word = word_load(f);
	if (!tell_concerns(t, word) || !is_fresh(t, f, word) || !is_told(j, t, f))
		return false;
	memcpy(&syn, shared, sizeof(syn));
	/* Overwritten meanwhile, or of a flow that had this entry before. */
	if (__atomic_load_n(&shared->at_ns, __ATOMIC_ACQUIRE) != at_ns || at_ns < f->opened_ns)
		return false;
	if (!dataplane_syn_replay(j->shuntd->dataplane, &syn) && !tell_concerns(t, word_load(f))) {
		t->n_told++;
		t->n_replayed++;
	} /* else the pass over the entries refuses it */
	return true;
}

/* Whether that was a flow to be told. */
static bool tell_flow(struct journal *j, struct tell *t, struct flow *f, uint64_t now)
{
	uint64_t word = word_load(f);
	bool fresh;

	if (!tell_concerns(t, word) || !is_told(j, t, f) || (t->backend && f->opened_ns > t->at_ns))
		return false;
	if (FLOW_WORD_STATE(word) == FLOW_CLOSED && !FLOW_CHALLENGES(f->challenged))
		return false; /* it ended by itself */
	if (t->pass < TELL_PASSES_OURS && is_peers(j, word)) {
		t->n_left++;
		return false;
	}
	fresh = is_fresh(t, f, word);
	if (fresh)
		outlet_refuse(j->outlet, f);
	flow_challenge(j, f, t->pass + 1, now);
	window_add(j, (uint32_t)(f - j->flows), now);
	t->n_found += word_is_live(word);
	if (!t->pass) {
		t->n_told++;
		t->n_refused += fresh;
		t->n_challenged++;
	}
	return true;
}

static const char *backend_name(const struct journal *j, uint16_t id)
{
	const struct backend_run *b = backend_by_id(j->shuntd, id);

	return b ? b->conf.name : "?";
}

static void tell_report(struct journal *j, struct tell *t)
{
	uint64_t told = t->n_told - t->n_replayed;
	json_t *evidence;

	if (t->reported || (t->again && !t->n_told))
		return;
	t->reported = true;
	evidence = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "flows", (json_int_t)t->n_told, "replayed",
			     (json_int_t)t->n_replayed, "refused", (json_int_t)t->n_refused, "challenged",
			     (json_int_t)t->n_challenged, "closed",
			     (json_int_t)(told > t->n_found ? told - t->n_found : 0), "first_us",
			     (json_int_t)(t->first_ns ? (t->first_ns - t->at_ns) / 1000 : 0), "last_us",
			     (json_int_t)(t->last_ns ? (t->last_ns - t->at_ns) / 1000 : 0), "unsent",
			     (json_int_t)(outlet_failed(j->outlet) - t->n_failed_before));

	if (t->backend)
		ledger_add(j->shuntd->ledger, 0, "backend", backend_name(j, t->backend), "flows told", "it is dead",
			   evidence);
	else
		ledger_add(j->shuntd->ledger, 0, "shuntd", "self", "flows told", "they were reset", evidence);
}

static void tell_begin_pass(struct tell *t, unsigned pass, uint64_t due_ns)
{
	t->pass = pass;
	t->due_ns = due_ns;
	t->syn = pass || !t->backend ? SHUNT_SYNS : 0; /* a SYN walks again once */
	t->entry = 0;
	t->n_found = t->n_left = 0;
}

/* Where the window is full, let others have the processor: what is waited for may be in their hands. */
static void wait_a_little(struct journal *j)
{
	const struct timespec nap = { .tv_nsec = WINDOW_SLEEP_NS };

	if (!window_is_open(j, monotonic_ns()))
		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
}

/* A slice of a pass that is due. True: the pass is through. */
static bool tell_slice(struct journal *j, struct tell *t, uint64_t now)
{
	const uint64_t end_ns = now + SLICE_NS;
	uint32_t used = entries_used(j), n = 0;

	for (; t->syn < SHUNT_SYNS && now < end_ns; t->syn++)
		if (tell_replay(j, t, &j->syns[t->syn]) || !(t->syn % SLICE_STEP))
			now = monotonic_ns();
	for (; t->syn == SHUNT_SYNS && t->entry < used && n < SLICE_TELLS && now < end_ns; t->entry++) {
		if (!outlet_has_room(j->outlet) || !window_is_open(j, now))
			break;
		n += tell_flow(j, t, &j->flows[t->entry], now);
		if (!(t->entry % SLICE_STEP))
			now = monotonic_ns();
	}
	outlet_flush(j->outlet);
	if (!t->pass && t->n_told) {
		t->last_ns = monotonic_ns();
		if (!t->first_ns)
			t->first_ns = t->last_ns;
	}
	return t->syn == SHUNT_SYNS && t->entry >= used;
}

/* The next slice of a tell. False: it is over. */
static bool tell_run(struct journal *j, struct tell *t, uint64_t now)
{
	unsigned next = t->pass + 1;

	if (t->backend && backend_serves(j, t->backend))
		return false; /* it is back, and new flows on it are nobody's business here */
	if (!tell_slice(j, t, now)) {
		wait_a_little(j);
		return true;
	}
	if (next == TELL_PASSES)
		return false;
	/* The second pass is made in any case: a SYN that was under way at the verdict may have come behind the first. */
	if (t->pass && !t->n_found && !t->n_left) {
		tell_report(j, t);
		next = TELL_PASSES - 1;
	}
	tell_begin_pass(t, next, monotonic_ns() + tell_gaps_ns[next]);
	return true;
}

static struct tell **tell_find(struct journal *j, uint16_t backend)
{
	struct tell **at = &j->tells;

	while (*at && (*at)->backend != backend)
		at = &(*at)->next;
	return at;
}

/* Give the first tell that is due its slice, and the place behind the others. False: none is due. */
static bool tells_run(struct journal *j, uint64_t now)
{
	struct tell **at = &j->tells, **last, *t;

	while (*at && (*at)->due_ns > now)
		at = &(*at)->next;
	t = *at;
	if (!t)
		return false;
	*at = t->next;
	t->next = NULL;
	if (!tell_run(j, t, now)) {
		tell_report(j, t);
		free(t);
		return true;
	}
	for (last = &j->tells; *last; last = &(*last)->next)
		;
	*last = t;
	return true;
}

/* Begin to tell, or begin anew. */
static struct tell *tell_begin(struct journal *j, uint16_t backend)
{
	struct tell **at = tell_find(j, backend), *t = *at;

	if (!t) {
		t = calloc(1, sizeof(*t));
		if (!t) {
			ledger_add(j->shuntd->ledger, 0, "backend", backend_name(j, backend), "flows not told",
				   "no memory", NULL);
			return NULL;
		}
		*at = t;
	}
	*t = (struct tell){ .next = t->next,
			    .backend = backend,
			    .at_ns = monotonic_ns(),
			    .n_failed_before = outlet_failed(j->outlet) };
	if (backend) {
		uint64_t answered_ns = __atomic_load_n(&j->sessions[backend].answered_ns, __ATOMIC_RELAXED);

		t->unanswered_ns = answered_ns > ANSWERED_NS ? answered_ns - ANSWERED_NS : 0;
	}
	tell_begin_pass(t, 0, t->at_ns);
	return t;
}

void journal_tell(struct journal *j, uint16_t backend)
{
	struct tell *t = tell_begin(j, backend);

	for (uint64_t now = t ? t->at_ns : 0; t && !t->pass && now < t->at_ns + TELL_NOW_NS; now = monotonic_ns())
		if (!tell_run(j, t, now))
			break; /* serves again: journal_run() ends it */
}

void journal_resume(struct journal *j)
{
	tell_begin(j, 0);
	for (uint16_t id = 1; id < SHUNT_MAX_BACKENDS; id++)
		if (j->shuntd->backend_ids[id] && !backend_serves(j, id))
			tell_begin(j, id);
	for (struct tell *t = j->tells; t; t = t->next)
		t->again = true;
}

bool journal_telling(const struct journal *j)
{
	for (const struct tell *t = j->tells; t; t = t->next)
		if (!t->pass)
			return true;
	return false;
}

/* ---- filters, resets, counts ---- */

static bool client_matches(const struct flow_filter *filter, const struct shunt_addr *client)
{
	unsigned bits = filter->client_prefix + (address_is_v4(filter->client) ? 96U : 0);
	const uint8_t *a = (const uint8_t *)filter->client, *b = (const uint8_t *)client;

	if (memcmp(a, b, bits / 8))
		return false;
	return !(bits % 8) || !((a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8));
}

bool flow_matches(const struct flow_filter *filter, const struct flow *f)
{
	uint64_t word = word_load(f);
	bool detour = FLOW_WORD_FLAGS(word) & FLOW_DETOUR;

	return FLOW_WORD_STATE(word) != FLOW_FREE && (!filter->state || FLOW_WORD_STATE(word) == filter->state) &&
	       (!filter->backend || FLOW_WORD_BACKEND(word) == filter->backend) &&
	       (!filter->heard_ns || FLOW_WORD_STATE(word) == FLOW_OPEN ||
		!older_than(f->seen_ns, filter->heard_ns, 0)) &&
	       (!filter->vip || f->vip + 1 == filter->vip) &&
	       (!filter->client || client_matches(filter, &f->key.client)) &&
	       (!filter->client_port || f->key.client_port == filter->client_port) &&
	       (!filter->detour || (filter->detour > 0) == detour);
}

size_t journal_reset(struct journal *j, const struct flow_filter *filter)
{
	const uint32_t used = entries_used(j);
	size_t n = 0;

	for (uint32_t i = 0; i < used; i++) {
		struct flow *f = &j->flows[i];
		uint64_t word = word_load(f);

		if (!word || !flow_matches(filter, f) || (filter->ours && is_peers(j, word)))
			continue;
		/* The walk may change it meanwhile (a FIN, a first packet): it is reset all the same, unless it ended. */
		while (word_is_live(word) && !(FLOW_WORD_FLAGS(word) & FLOW_RESET)) {
			uint8_t flags = (FLOW_WORD_FLAGS(word) & (uint8_t) ~(FLOW_ASKED | FLOW_SYNCED)) | FLOW_RESET;

			if (word_swap(j, f, word, word_with(word, FLOW_WORD_OWNER(word), flags))) {
				n++;
				break;
			}
			word = word_load(f);
		}
	}
	if (n)
		tell_begin(j, 0);
	return n;
}

void journal_count(const struct journal *j, struct journal_counts *out)
{
	const uint32_t used = entries_used(j);

	*out = (struct journal_counts){ .capacity = j->state->capacity };
	for (uint32_t i = 0; i < used; i++) {
		uint64_t word = word_load(&j->flows[i]);

		out->used += word != 0;
		out->open += FLOW_WORD_STATE(word) == FLOW_OPEN;
		out->closing += FLOW_WORD_STATE(word) == FLOW_CLOSING;
		out->closed += FLOW_WORD_STATE(word) == FLOW_CLOSED;
		out->detours += (FLOW_WORD_FLAGS(word) & FLOW_DETOUR) != 0;
	}
}

/* ---- moving ---- */

/* The flow's owner by the pool's table. */
static uint16_t flow_owner(const struct journal *j, const struct flow *f, const struct vip_run *vip,
			   const struct slot *slots, uint32_t n_slots)
{
	const struct flow_tuple tuple = { .source = f->key.client,
					  .destination = f->key.vip,
					  .source_port = f->key.client_port,
					  .destination_port = f->key.vip_port,
					  .protocol = f->key.protocol };
	uint64_t mask[SHUNT_FLOW_WORDS];

	if (!n_slots)
		return 0;
	vip_hash_mask(mask, &vip->conf);
	return slots[hash_slot(flow_hash_under(&tuple, j->shuntd->config->seed, mask), n_slots)].owner;
}

static void move_flow(struct journal *j, struct flow *f, const struct vip_run *vip, const struct slot *slots,
		      uint32_t n_slots)
{
	uint16_t owner = flow_owner(j, f, vip, slots, n_slots);
	uint64_t word = word_load(f);

	while (word && FLOW_WORD_OWNER(word) != owner &&
	       !word_swap(j, f, word, word_with(word, owner, FLOW_WORD_FLAGS(word))))
		word = word_load(f);
}

/* The next slice of the moves. */
static void moves_run(struct journal *j, uint64_t now)
{
	const uint64_t end_ns = now + SLICE_NS;
	struct move *m = j->moves;
	const struct pool_run *pool;
	const struct slot *slots = NULL;
	uint32_t id, used = entries_used(j), n_slots = 0;

	while (!m->active)
		m++;
	id = (uint32_t)(m - j->moves);
	pool = pool_by_id(j->shuntd, id);
	if (pool)
		slots = table_slots(pool->table, &n_slots);
	else
		m->entry = used; /* removed meanwhile */
	for (; m->entry < used && now < end_ns; m->entry++) {
		struct flow *f = &j->flows[m->entry];
		const struct vip_run *vip = word_load(f) ? vip_by_id(j->shuntd, f->vip) : NULL;

		if (vip && vip->pool == pool)
			move_flow(j, f, vip, slots, n_slots);
		if (!(m->entry % SLICE_STEP))
			now = monotonic_ns();
	}
	if (m->entry < used)
		return;
	m->active = false;
	j->n_moves--;
	m->done(m->arg, id);
}

void journal_move(struct journal *j, uint32_t pool, void (*done)(void *arg, uint32_t pool), void *arg)
{
	struct move *m = &j->moves[pool];

	j->n_moves += !m->active;
	*m = (struct move){ .active = true, .done = done, .arg = arg };
}

/* ---- copies of the peer's flows ---- */

void journal_peer(struct journal *j, bool is_there)
{
	j->has_peer = is_there;
}

int journal_find(struct journal *j, const struct flow_key *key, uint32_t *entry)
{
	const struct flow *f;

	if (dataplane_flow_find(j->shuntd->dataplane, key, entry))
		return -ENOENT;
	f = &j->flows[*entry];
	return word_load(f) && !memcmp(&f->key, key, sizeof(*key)) ? 0 : -ENOENT;
}

/* The copy's word here: the owner is this balancer's affair. */
static uint64_t word_of_copy(const struct journal *j, const struct flow *f, const struct peer_flow *flow)
{
	const struct vip_run *vip = vip_by_id(j->shuntd, flow->vip);
	const struct slot *slots = NULL;
	uint32_t n_slots = 0;

	if (vip)
		slots = table_slots(vip->pool->table, &n_slots);
	return word_with(FLOW_WORD(flow->backend, 0, flow->state, 0), vip ? flow_owner(j, f, vip, slots, n_slots) : 0,
			 flow->flags | FLOW_SYNCED);
}

int journal_insert(struct journal *j, const struct peer_flow *flow, uint32_t *entry)
{
	int err = dataplane_flow_take(j->shuntd->dataplane, entry);
	struct flow *f;
	uint64_t word;

	if (err)
		return -ENOSPC;
	f = &j->flows[*entry];
	f->key = flow->key;
	f->opened_ns = flow->opened_ns;
	f->seen_ns = monotonic_ns();
	f->isn = flow->isn;
	f->vip = flow->vip;
	f->ingress_ifindex = 0;
	f->challenged = 0;
	word = word_of_copy(j, f, flow);
	if (!word_swap(j, f, 0, word))
		return -ENOSPC; /* taken twice: never, and then it is nobody's any more */
	err = dataplane_flow_add(j->shuntd->dataplane, *entry);
	if (!err)
		return 0;
	flow_free(j, *entry, word);
	return err == -EEXIST ? err : -ENOSPC;
}

bool journal_follow(struct journal *j, uint32_t entry, uint64_t word, const struct peer_flow *flow)
{
	struct flow *f = &j->flows[entry];

	if (!word_swap(j, f, word, word_of_copy(j, f, flow)))
		return false;
	f->isn = flow->isn;
	f->opened_ns = flow->opened_ns;
	f->seen_ns = monotonic_ns();
	f->challenged = 0;
	return true;
}

void journal_claim(struct journal *j, uint32_t entry)
{
	struct flow *f = &j->flows[entry];
	uint64_t word = word_load(f);
	uint8_t flags = FLOW_WORD_FLAGS(word) & (uint8_t)~FLOW_SYNCED;

	/* What followed its SYN nobody here saw: it counts as confirmed, unless its client is being asked. */
	flags |= flags & FLOW_ASKED ? 0 : FLOW_CONFIRMED;
	if (FLOW_WORD_FLAGS(word) & FLOW_SYNCED)
		word_swap(j, f, word, word_with(word, FLOW_WORD_OWNER(word), flags));
}

void journal_drop(struct journal *j, uint32_t entry)
{
	uint64_t word = word_load(&j->flows[entry]);

	if (FLOW_WORD_FLAGS(word) & FLOW_SYNCED)
		flow_free(j, entry, word);
}

/* ---- audit ---- */

static void audit_entry(struct audited *of, uint32_t entry, uint64_t word, uint64_t opened_ns)
{
	uint16_t backend = FLOW_WORD_BACKEND(word) % SHUNT_MAX_BACKENDS,
		 owner = FLOW_WORD_OWNER(word) % SHUNT_MAX_BACKENDS;
	/* That a packet of it was seen changes no count. */
	uint64_t is = mix_at(mix_at(word & ~((uint64_t)FLOW_CONFIRMED << 40), entry), opened_ns);

	of[backend].sum += is;
	of[backend].live += FLOW_WORD_STATE(word) == FLOW_OPEN;
	of[owner].detours += (FLOW_WORD_FLAGS(word) & FLOW_DETOUR) != 0;
	if (owner != backend)
		of[owner].sum += is;
}

static void audit_begin(struct journal *j, bool again)
{
	struct audit *a = j->audit;

	a->again = again;
	a->entry = 0;
	memset(again ? a->second : a->first, 0, sizeof(a->first));
	for (size_t id = 0; again && id < SHUNT_MAX_BACKENDS; id++) {
		a->live[id] = __atomic_load_n(&j->counts[id].live, __ATOMIC_SEQ_CST);
		a->detours[id] = __atomic_load_n(&j->backends[id].detours, __ATOMIC_SEQ_CST);
	}
	/* The second look sees more only if entries were taken meanwhile, and then the sums differ. */
	a->used = entries_used(j);
}

/* Counted exactly. True: nothing is wrong, or the same as the time before, and corrected. */
static bool audit_correct(struct journal *j, uint16_t id)
{
	struct audit *a = j->audit;
	int64_t live = (int64_t)(a->live[id] - a->first[id].live);
	int32_t detours = (int32_t)(a->detours[id] - a->first[id].detours);

	if (!live && !detours)
		return true;
	if (live != a->live_off[id] || detours != a->detours_off[id]) {
		a->live_off[id] = live;
		a->detours_off[id] = detours;
		return false;
	}
	__atomic_fetch_sub(&j->counts[id].live, (__u64)live, __ATOMIC_SEQ_CST);
	__atomic_fetch_sub(&j->backends[id].detours, (__u32)detours, __ATOMIC_SEQ_CST);
	ledger_add(j->shuntd->ledger, 0, "backend", backend_name(j, id), "counts corrected",
		   "an earlier run was killed while it changed them",
		   json_pack("{s:I, s:i}", "live", (json_int_t)live, "detours", (int)detours));
	return true;
}

/* Whose entries were the same in both looks had them in between too, when the counts were read. */
static void audit_end(struct journal *j, uint64_t now)
{
	struct audit *a = j->audit;
	size_t n_left = 0;

	for (uint16_t id = 1; id < SHUNT_MAX_BACKENDS; id++) {
		if (a->settled[id])
			continue;
		a->settled[id] = a->first[id].sum == a->second[id].sum && audit_correct(j, id);
		n_left += !a->settled[id];
	}
	a->due_ns = now + AUDIT_PAUSE_NS;
	audit_begin(j, false);
	if (n_left)
		return;
	free(a);
	j->audit = NULL;
}

/* The next slice of a look. True: there is more to do at once, so that as little as possible changes in between. */
static bool audit_run(struct journal *j, uint64_t now)
{
	const uint64_t end_ns = now + SLICE_NS;
	struct audit *a = j->audit;

	if (!a || now < a->due_ns)
		return false;
	for (; a->entry < a->used && now < end_ns; a->entry++) {
		const struct flow *f = &j->flows[a->entry];
		uint64_t word = word_load(f);

		if (word)
			audit_entry(a->again ? a->second : a->first, a->entry, word,
				    __atomic_load_n(&f->opened_ns, __ATOMIC_RELAXED));
		if (!(a->entry % SLICE_STEP))
			now = monotonic_ns();
	}
	if (a->entry < a->used)
		return true;
	if (a->again)
		audit_end(j, now);
	else
		audit_begin(j, true);
	return j->audit && a->again;
}

void journal_audit(struct journal *j)
{
	free(j->audit);
	j->audit = calloc(1, sizeof(*j->audit));
	if (j->audit)
		audit_begin(j, false);
}

/* ---- open, run, close ---- */

bool journal_run(struct journal *j)
{
	uint64_t now = monotonic_ns();

	/* What the sockets didn't take waits for the next period: nothing is gained by trying at once. */
	if (!outlet_flush(j->outlet))
		return false;
	if (tells_run(j, now))
		return true;
	if (j->n_moves) {
		moves_run(j, now);
		return true;
	}
	if (older_than(j->swept_ns, now, PERIOD_NS - PERIOD_NS / 10)) {
		j->swept_ns = now;
		sweep_slice(j, now);
	}
	return audit_run(j, now);
}

int journal_open(struct journal **out, struct shuntd *shuntd)
{
	struct journal *j = calloc(1, sizeof(*j));
	int err;

	if (!j)
		return -ENOMEM;
	j->shuntd = shuntd;
	j->flows = dataplane_journal(shuntd->dataplane);
	j->state = dataplane_journal_state(shuntd->dataplane);
	j->backends = dataplane_backends(shuntd->dataplane);
	j->sessions = dataplane_sessions(shuntd->dataplane);
	j->counts = dataplane_backend_flows(shuntd->dataplane);
	j->syns = dataplane_syns(shuntd->dataplane);
	err = outlet_open(&j->outlet);
	if (err)
		journal_close(j);
	else
		*out = j;
	return err;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	while (j->tells) {
		struct tell *t = j->tells;

		j->tells = t->next;
		free(t);
	}
	outlet_close(j->outlet);
	free(j->audit);
	free(j);
}
