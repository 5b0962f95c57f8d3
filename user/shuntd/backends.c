/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * backends.c - see backends.h. The state word has two writers: the detector takes UP and DRAINING away, this file gives
 * them; both by compare-and-swap. Records and sessions are written here only; tables and VIPs are pools.c's.
 */
#include "shuntd/backends.h"

#include <errno.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>

#include "common/clock.h"
#include "core/bfd.h"
#include "core/cause.h"
#include "core/check.h"
#include "shunt/detect.h"
#include "shunt/heartbeat.h"
#include "shuntd/checker.h"
#include "shuntd/journal.h"
#include "shuntd/names.h"
#include "shuntd/pools.h"
#include "shuntd/state.h"

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
	case VERDICT_DEAD:
		return "dead";
	case VERDICT_STALLED:
		return "stalled";
	case VERDICT_LOADING:
		return "loading";
	case VERDICT_PEER_DOWN:
		return "peer-down";
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
static void word_seen(struct shuntd *s, struct backend_run *b, uint32_t word, uint64_t at_ns)
{
	b->last_word = word;
	b->since_ns = at_ns;
	b->since_wall_s = (int64_t)time(NULL);
	names_backend(s, b);
}

/* Into the ledger, and kept with the backend. Takes over the evidence. */
static void verdict_tell(struct shuntd *s, struct backend_run *b, uint64_t at_ns, const char *what, const char *why,
			 json_t *evidence)
{
	json_decref(b->evidence);
	b->evidence = json_incref(evidence);
	backend_tell(s, b, at_ns, what, why, evidence);
}

struct admission_limits backends_limits(const struct shuntd *s)
{
	return (struct admission_limits){
		.gap_ns = s->pace.interval_ns * s->config->probe_multiplier * PROBER_SLOW + BACKENDS_PERIOD_NS,
		.hold_ns = s->config->probe_hold_ns,
		.hold_max_ns = s->config->probe_hold_max_ns,
		.first_answers = ADMISSION_FIRST_ANSWERS,
	};
}

static bool is_checked(const struct shuntd *s, const struct backend_run *b)
{
	return dataplane_sessions(s->dataplane)[b->id].kind == SESSION_CHECKED;
}

/* The checker counts as an answer only what comes after `rise` good ones, or in a session that is Up. */
static struct admission_limits checked_limits(const struct shuntd *s, const struct backend_run *b)
{
	struct admission_limits limits = backends_limits(s);

	limits.gap_ns = checker_gap_ns(s->checker, b->id) + BACKENDS_PERIOD_NS;
	limits.first_answers = 0;
	return limits;
}

/* The word of one that answers. */
static uint32_t serving_word(const struct backend_run *b)
{
	return b->draining && !b->leaving ? BACKEND_WORD(BACKEND_DRAINING, b->draining)
					  : BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING);
}

/* Until when the data path leaves a silent one its flows. */
static uint64_t *doubted_until_ns(const struct shuntd *s, const struct backend_run *b)
{
	return (uint64_t *)&dataplane_backend_flows(s->dataplane)[b->id].doubted_until_ns;
}

bool backend_is_doubted(const struct shuntd *s, const struct backend_run *b)
{
	const struct backend *record = &dataplane_backends(s->dataplane)[b->id];

	return word_is_doubted(__atomic_load_n(&record->word, __ATOMIC_RELAXED),
			       __atomic_load_n(doubted_until_ns(s, b), __ATOMIC_RELAXED), monotonic_ns());
}

static bool is_removed(const struct backend_run *b)
{
	return b->draining == VERDICT_REMOVED || b->pool->removed;
}

/*
 * A removed one whose address BFD asks for another: the peer has one session an address (RFC 5881 3) and would end this one as
 * that begins, which is no sign of death. It drains, and falls with the other.
 */
static bool is_asked_for(const struct backend_run *b, const struct backend_run *other)
{
	if (b == other || b->gone || other->gone || !is_removed(b) || b->conf.check.type != CHECK_BFD ||
	    other->conf.check.type != CHECK_BFD ||
	    memcmp(&other->conf.address, &b->conf.address, sizeof(b->conf.address)) != 0)
		return false;
	return !is_removed(other) || other->drain_since_ns > b->drain_since_ns ||
	       (other->drain_since_ns == b->drain_since_ns && other->id > b->id);
}

static void twins_down(struct shuntd *s, const struct backend_run *b, uint32_t word, uint64_t at_ns);

/* A backend went down, however we learnt of it. */
static void backend_down(struct shuntd *s, struct backend_run *b, uint32_t word, uint64_t at_ns, json_t *evidence)
{
	struct admission_limits limits = backends_limits(s);

	__atomic_store_n(doubted_until_ns(s, b), 0, __ATOMIC_SEQ_CST);
	word_seen(s, b, word, at_ns);
	admission_fall(&b->admission, &limits, at_ns);
	b->n_failures++;
	verdict_tell(s, b, at_ns, "down", backend_verdict_name(word), evidence);
	journal_tell(s->journal, b->id); /* first: the heirs are chosen already, these are the heirs' heirs */
	pool_follow(b, false);
	twins_down(s, b, word, at_ns);
}

static void twins_down(struct shuntd *s, const struct backend_run *b, uint32_t word, uint64_t at_ns)
{
	for (size_t i = 0; b->conf.check.type == CHECK_BFD && i < s->n_backends; i++) {
		struct backend_run *twin = s->backends[i];
		uint32_t now = record(s, twin)->word;

		if (!is_asked_for(twin, b) || !word_is_judged(now))
			continue;
		if (__atomic_compare_exchange_n(&record(s, twin)->word, &now, word, false, __ATOMIC_SEQ_CST,
						__ATOMIC_RELAXED))
			backend_down(s, twin, word, at_ns, json_pack("{s:s}", "with", b->conf.name));
	}
}

static void us_set(json_t *o, const char *key, uint64_t from_ns, uint64_t to_ns)
{
	if (from_ns && to_ns >= from_ns)
		json_object_set_new(o, key, json_integer((json_int_t)((to_ns - from_ns) / 1000)));
}

/* What convicted one that is asked otherwise than by probes. */
static json_t *checked_evidence(const struct shuntd *s, const struct backend_run *b, const struct event *e)
{
	json_t *o = json_pack("{s:s}", "check", check_name(b->conf.check.type));
	char cause[CAUSE_TEXT_MAX];

	us_set(o, "unanswered_us", e->kind == EVENT_SILENT ? e->first_sent_ns : 0, e->at_ns);
	us_set(o, "silence_us", e->answered_ns, e->at_ns);
	if (e->kind == EVENT_DEAD)
		json_object_set_new(o, "cause", json_string(cause_format(e->cause, cause, sizeof(cause))));
	if (e->kind == EVENT_PEER_DOWN)
		json_object_set_new(o, "diagnostic", json_string(bfd_diag_name((uint8_t)e->cause)));
	if (e->witness)
		json_object_set_new(o, "witness", json_string(name_of(s, e->witness)));
	return o;
}

/* What convicted it: the rounds that it left unanswered, or the answer that said so. */
static json_t *event_evidence(const struct shuntd *s, const struct backend_run *b, const struct event *e)
{
	char cause[CAUSE_TEXT_MAX];
	json_t *o;

	if (is_checked(s, b))
		return checked_evidence(s, b, e);
	if (e->kind == EVENT_SILENT)
		return json_pack("{s:i, s:I, s:I, s:I, s:I, s:s, s:I, s:I}", "rounds", (int)e->cause, "first_round",
				 (json_int_t)e->first_round, "last_round", (json_int_t)e->last_round, "unanswered_us",
				 (json_int_t)((e->at_ns - e->first_sent_ns) / 1000), "silence_us",
				 (json_int_t)((e->at_ns - e->answered_ns) / 1000), "witness", name_of(s, e->witness),
				 "witness_round", (json_int_t)e->witness_round, "interval_us",
				 (json_int_t)(s->pace.interval_ns / 1000));
	o = json_pack("{s:I, s:I}", "round", (json_int_t)e->first_round, "asked_us",
		      (json_int_t)((e->at_ns - e->first_sent_ns) / 1000));
	if (e->kind == EVENT_DEAD) {
		json_object_set_new(o, "cause", json_string(cause_format(e->cause, cause, sizeof(cause))));
		json_object_set_new(o, "planned", json_boolean(e->cause & ENGINE_CAUSE_PLANNED));
	}
	if (e->beat_age_us != PROBE_AGE_UNKNOWN)
		json_object_set_new(o, "beat_age_us", json_integer(e->beat_age_us));
	if (e->agent_age_us != PROBE_AGE_UNKNOWN)
		json_object_set_new(o, "agent_age_us", json_integer(e->agent_age_us));
	return o;
}

/* The checker asks in no rounds. */
static json_t *suspicion_evidence(const struct event *e)
{
	json_t *o;

	if (e->first_round)
		return json_pack("{s:I, s:I}", "first_round", (json_int_t)e->first_round, "last_round",
				 (json_int_t)e->last_round);
	o = json_object();
	us_set(o, "silence_us", e->answered_ns, e->at_ns);
	return o;
}

/* ---- doubt ---- */

#define DOUBT_LOOK_NS 250000ULL /* between two looks for the answers of who is in doubt; chosen */
#define LATE_TOLD_NS 60000000000ULL /* the ledger hears of a backend that is late once in so long; chosen */

static void doubts_wake_at(const struct shuntd *s, uint64_t at_ns)
{
	const struct itimerspec at = { .it_value = { .tv_sec = (time_t)(at_ns / 1000000000),
						     .tv_nsec = (long)(at_ns % 1000000000) } };

	timerfd_settime(s->doubts, TFD_TIMER_ABSTIME, &at, NULL);
}

static void late_tell(struct shuntd *s, struct backend_run *b, uint64_t now)
{
	uint64_t answered_ns = dataplane_sessions(s->dataplane)[b->id].answered_ns;
	json_t *evidence = event_evidence(s, b, &b->doubt);

	b->n_late++;
	if (b->late_told_ns && now - b->late_told_ns < LATE_TOLD_NS) {
		json_decref(evidence);
		return;
	}
	us_set(evidence, "late_us", b->doubt.at_ns, answered_ns);
	json_object_set_new(evidence, "times", json_integer((json_int_t)(b->n_late - b->late_told)));
	backend_tell(s, b, b->doubt.at_ns, "late", "its answers came before its connections were given up", evidence);
	b->late_told_ns = now;
	b->late_told = b->n_late;
}

/* Its answers came after all: it serves on as if nothing had been. False: another word is in force. */
static bool doubt_dispel(struct shuntd *s, struct backend_run *b, uint64_t now)
{
	uint32_t silent = BACKEND_WORD(BACKEND_DOWN, VERDICT_SILENT), word = serving_word(b);

	if (!__atomic_compare_exchange_n(&record(s, b)->word, &silent, word, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return false;
	__atomic_store_n(&dataplane_backend_flows(s->dataplane)[b->id].moved_ns, 0, __ATOMIC_RELAXED);
	if (b->last_word != word)
		word_seen(s, b, word, now);
	if (!b->draining || b->leaving)
		pool_follow(b, true); /* it may have been undrained meanwhile */
	late_tell(s, b, now);
	return true;
}

void backends_doubts_run(struct shuntd *s)
{
	uint64_t now = monotonic_ns(), next_ns = UINT64_MAX;

	for (size_t i = 0; i < s->n_backends; i++) {
		struct backend_run *b = s->backends[i];
		const struct session *session = &dataplane_sessions(s->dataplane)[b->id];
		const struct event *e = &b->doubt;
		uint64_t until_ns = e->at_ns + s->config->probe_doubt_ns;
		bool answered = __atomic_load_n(&session->answered_ns, __ATOMIC_RELAXED) > e->at_ns;

		if (!e->at_ns)
			continue;
		if (!answered && now < until_ns) {
			until_ns = until_ns < now + DOUBT_LOOK_NS ? until_ns : now + DOUBT_LOOK_NS;
			next_ns = until_ns < next_ns ? until_ns : next_ns;
			continue;
		}
		if (!answered || !doubt_dispel(s, b, now))
			backend_down(s, b, BACKEND_WORD(BACKEND_DOWN, VERDICT_SILENT), e->at_ns,
				     event_evidence(s, b, e));
		b->doubt.at_ns = 0;
	}
	if (next_ns != UINT64_MAX)
		doubts_wake_at(s, next_ns);
}

void backends_event(struct shuntd *s, const struct event *e)
{
	static const enum verdict verdicts[] = { [EVENT_SILENT] = VERDICT_SILENT,
						 [EVENT_DEAD] = VERDICT_DEAD,
						 [EVENT_STALLED] = VERDICT_STALLED,
						 [EVENT_PEER_DOWN] = VERDICT_PEER_DOWN };
	struct backend_run *b;

	if (e->kind == EVENT_SELF_SUSPECT) {
		ledger_add(s->ledger, e->at_ns, "shuntd", "self", "self-suspect", "silence without a witness",
			   suspicion_evidence(e));
		return;
	}
	if (e->kind >= sizeof(verdicts) / sizeof(*verdicts) || !verdicts[e->kind])
		return;
	b = backend_by_id(s, e->backend);
	if (!b)
		return;
	if (!word_is_judged(b->last_word))
		return; /* backends_run() saw the word first */
	if (e->kind == EVENT_SILENT && __atomic_load_n(doubted_until_ns(s, b), __ATOMIC_RELAXED) > e->at_ns &&
	    !b->gone) {
		b->doubt = *e;
		backends_doubts_run(s);
		return;
	}
	backend_down(s, b, BACKEND_WORD(BACKEND_DOWN, verdicts[e->kind]), e->at_ns, event_evidence(s, b, e));
}

/* The way to a backend: 0 or -errno. */
static int backend_way(struct shuntd *s, const struct backend_run *b, struct nexthop *way)
{
	int err = netlink_resolve(s->netlink, &b->conf.address, way);

	/* The gateway would send back what its MAC address alone leads to: the VIP's packet, or an echo, proving nothing. */
	if (!err && (b->conf.forward == FORWARD_L2 || b->conf.check.type == CHECK_ECHO) && !way->on_link)
		return -EMULTIHOP;
	if (!err && (b->conf.forward == FORWARD_IPIP || b->conf.check.type == CHECK_ECHO) &&
	    !(way->local.w[0] | way->local.w[3]))
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
		return "no local address to write as the outer source, or to send an echo to";
	case -EMULTIHOP:
		return "behind a gateway, which neither forward l2 nor an echo can pass";
	default:
		return strerror(-err);
	}
}

#define WAY_LOST_NS 50000000ULL /* chosen: a route that is replaced, or a link that flaps, is back sooner */

/* No way at all, rather than one that isn't known yet or wasn't found for want of memory. */
static bool way_is_none(int error)
{
	return error == -ENETUNREACH || error == -ENETDOWN || error == -EMULTIHOP || error == -EADDRNOTAVAIL ||
	       error == -EOPNOTSUPP;
}

/* False: it was there already, an earlier run wrote the same. */
static bool record_write(struct shuntd *s, struct backend_run *b, const struct nexthop *way)
{
	struct backend *r = record(s, b), new = *r;
	const size_t from = offsetof(struct backend, forward);

	new.forward = b->conf.forward;
	new.family = address_is_v4(&b->conf.address) ? AF_INET : AF_INET6;
	new.mtu_bytes = way->mtu_bytes;
	new.egress_ifindex = way->ifindex;
	memcpy(new.dst_mac, way->dst_mac, sizeof(new.dst_mac));
	memcpy(new.src_mac, way->src_mac, sizeof(new.src_mac));
	new.local = way->local;
	new.address = b->conf.address;
	if (b->conf.check.type == CHECK_ECHO)
		dataplane_sessions(s->dataplane)[b->id].address = way->local;
	dataplane_add_egress(s->dataplane, way->ifindex);
	if (!memcmp((char *)r + from, (char *)&new + from, sizeof(new) - from))
		return false;
	/* A packet in between is dropped as NO_NEIGHBOUR rather than sent to half an address. */
	__atomic_store_n(&r->egress_ifindex, 0, __ATOMIC_SEQ_CST);
	new.egress_ifindex = 0;
	memcpy((char *)r + from, (char *)&new + from, sizeof(new) - from);
	__atomic_store_n(&r->egress_ifindex, way->ifindex, __ATOMIC_SEQ_CST);
	return true;
}

void backends_resolve(struct shuntd *s)
{
	struct nexthop way;

	for (size_t i = 0; i < s->n_backends; i++) {
		struct backend_run *b = s->backends[i];
		int err = backend_way(s, b, &way);
		char mac[18];

		memset(mac, 0, sizeof(mac));
		if (!err) {
			bool changed = !b->resolved || memcmp(&way, &b->nexthop, sizeof(way));

			if (!changed)
				continue;
			snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", way.dst_mac[0], way.dst_mac[1],
				 way.dst_mac[2], way.dst_mac[3], way.dst_mac[4], way.dst_mac[5]);
			if (record_write(s, b, &way) || b->way_error)
				backend_tell(s, b, 0, "resolved", b->ever_resolved ? "its way changed" : "first",
					     json_pack("{s:s, s:i, s:i}", "mac", mac, "ifindex", (int)way.ifindex,
						       "mtu", (int)way.mtu_bytes));
			b->nexthop = way;
			b->resolved = b->ever_resolved = true;
			b->way_error = 0;
			continue;
		}
		/* The last known way stays in the record: whether the backend lives is for the heartbeats to say. */
		if (b->resolved || !b->way_error || b->way_error != err)
			backend_tell(s, b, 0, "unresolved", way_error(err), NULL);
		if (b->resolved || !way_is_none(b->way_error))
			b->way_lost_ns = monotonic_ns();
		b->resolved = false;
		b->way_error = err;
	}
}

/* One backend has no way for long, where others have theirs: it can't be asked, so it can't be found silent. */
static void ways_judge(struct shuntd *s, uint64_t now)
{
	size_t n_resolved = 0;

	for (size_t i = 0; i < s->n_backends; i++)
		n_resolved += s->backends[i]->resolved;
	for (size_t i = 0; n_resolved && i < s->n_backends; i++) {
		struct backend_run *b = s->backends[i];
		uint32_t word = record(s, b)->word, down = BACKEND_WORD(BACKEND_DOWN, VERDICT_UNRESOLVED);

		if (b->resolved || !way_is_none(b->way_error) || now - b->way_lost_ns < WAY_LOST_NS ||
		    !word_is_judged(word))
			continue;
		if (__atomic_compare_exchange_n(&record(s, b)->word, &word, down, false, __ATOMIC_SEQ_CST,
						__ATOMIC_RELAXED))
			backend_down(s, b, down, monotonic_ns(), json_pack("{s:s}", "cause", way_error(b->way_error)));
	}
}

/* The usual round trip, where it exceeds an interval, is not silence. Smoothed over about eight looks. */
static void grace_follow(struct shuntd *s, struct backend_run *b, struct session *session)
{
	uint64_t rtt = __atomic_load_n(&session->rtt_ns, __ATOMIC_RELAXED);

	b->rtt_ns = b->rtt_ns - b->rtt_ns / 8 + rtt / 8;
	__atomic_store_n(&session->grace_ns, b->rtt_ns > s->pace.interval_ns ? b->rtt_ns : 0, __ATOMIC_RELAXED);
}

/* Swap a backend's word from one of a state to another; false: it is not in that state (any more). */
static bool word_swap(struct shuntd *s, struct backend_run *b, enum backend_state from, uint32_t to)
{
	uint32_t word = __atomic_load_n(&record(s, b)->word, __ATOMIC_SEQ_CST);

	while (BACKEND_WORD_STATE(word) == (uint32_t)from)
		if (__atomic_compare_exchange_n(&record(s, b)->word, &word, to, false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST)) {
			word_seen(s, b, to, monotonic_ns());
			return true;
		}
	return false;
}

/* ---- drain ---- */

static uint64_t live_flows(const struct shuntd *s, const struct backend_run *b)
{
	return __atomic_load_n(&dataplane_backend_flows(s->dataplane)[b->id].live, __ATOMIC_RELAXED);
}

#define SLICE 32768 /* entries of the journal in a turn, chosen: 3 MB, about a millisecond */
#define STREAM_NS 2000000000ULL /* chosen: a stream that goes on after its client's FIN is heard of as often */

static uint32_t journal_used(const struct shuntd *s)
{
	const struct journal_state *state = dataplane_journal_state(s->dataplane);
	uint32_t used = __atomic_load_n(&state->used, __ATOMIC_RELAXED);

	return used < state->capacity ? used : state->capacity;
}

static const char *drain_why(const struct backend_run *b, enum verdict why)
{
	if (why == VERDICT_ASKED && b->conf.check.type == CHECK_BFD)
		return "its BFD peer is administratively down";
	return why == VERDICT_ASKED     ? "asked by its agent"
	       : why == VERDICT_LOADING ? "its engine is not ready"
	       : why == VERDICT_REMOVED ? "no longer configured"
					: "asked by an operator";
}

bool backends_is_last(const struct shuntd *s, const struct backend_run *b)
{
	for (size_t i = 0; i < s->n_backends; i++)
		if (s->backends[i] != b && s->backends[i]->pool == b->pool &&
		    BACKEND_WORD_STATE(s->backends[i]->last_word) == BACKEND_UP)
			return false;
	return BACKEND_WORD_STATE(b->last_word) == BACKEND_UP;
}

static int drain_begin(struct shuntd *s, struct backend_run *b, enum verdict why, uint64_t deadline_ns)
{
	uint32_t word = BACKEND_WORD(BACKEND_DRAINING, why);
	bool is_last = backends_is_last(s, b), is_down;
	json_t *evidence;

	if (b->leaving && why != VERDICT_REMOVED)
		backend_leave(s, b); /* somebody wants it sooner */
	/* The configuration's word outweighs the operator's, his the agent's, and that the engine's. */
	if (b->draining == why || b->draining == VERDICT_REMOVED || (b->draining && why == VERDICT_LOADING) ||
	    (b->draining == VERDICT_DRAINED && why == VERDICT_ASKED)) {
		if (deadline_ns)
			b->drain_deadline_ns = deadline_ns;
		names_backend(s, b);
		state_changed(s->state);
		return -EALREADY;
	}
	b->draining = why;
	b->drain_since_ns = monotonic_ns();
	b->drain_deadline_ns = deadline_ns;
	b->ending = true;
	b->drained = false;
	b->n_cut = 0;
	names_backend(s, b);
	is_down = !b->leaving && !word_swap(s, b, BACKEND_UP, word) && !word_swap(s, b, BACKEND_DRAINING, word);
	if (!b->leaving)
		pool_follow(b, false);
	state_changed(s->state);
	evidence = commanded(s, json_pack("{s:I}", "live", (json_int_t)live_flows(s, b)));
	if (is_down)
		json_object_set_new(evidence, "state", json_string("down"));
	if (b->leaving)
		json_object_set_new(evidence, "until", json_string("those who come in its place serve"));
	else if (is_last)
		json_object_set_new(evidence, "warning", json_string("the last one up in its pool"));
	verdict_tell(s, b, b->drain_since_ns, "draining", drain_why(b, why), evidence);
	return is_down ? -ENOTCONN : 0;
}

int backends_drain(struct shuntd *s, struct backend_run *b, enum verdict why, uint64_t deadline_ns)
{
	int err = drain_begin(s, b, why, deadline_ns);

	pools_swap(s); /* when this returns, so has every packet that saw it up */
	return err;
}

void backend_drop(struct shuntd *s, struct backend_run *b, uint64_t deadline_ns)
{
	drain_begin(s, b, VERDICT_REMOVED, deadline_ns);
}

void backend_leave(struct shuntd *s, struct backend_run *b)
{
	b->leaving = false;
	b->drain_since_ns = monotonic_ns();
	if (!word_swap(s, b, BACKEND_UP, BACKEND_WORD(BACKEND_DRAINING, VERDICT_REMOVED)))
		word_swap(s, b, BACKEND_DRAINING, BACKEND_WORD(BACKEND_DRAINING, VERDICT_REMOVED));
	pool_follow(b, false);
	names_backend(s, b);
}

int backends_undrain(struct shuntd *s, struct backend_run *b)
{
	json_t *evidence;

	if (!b->draining)
		return -EALREADY;
	if (b->draining == VERDICT_REMOVED)
		return -EPERM;
	if (b->engine == ENGINE_DRAINING)
		return -EBUSY;
	if (b->draining == VERDICT_LOADING && b->engine == ENGINE_LOADING)
		return -EAGAIN;
	b->draining = VERDICT_NONE;
	names_backend(s, b);
	state_changed(s->state);
	evidence = commanded(s, json_pack("{s:I}", "live", (json_int_t)live_flows(s, b)));
	if (BACKEND_WORD_STATE(b->last_word) == BACKEND_DOWN)
		json_object_set_new(evidence, "state", json_string("down"));
	verdict_tell(s, b, 0, "undrained", NULL, evidence);
	if (word_swap(s, b, BACKEND_DRAINING, BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING))) {
		pool_follow(b, true);
		pools_swap(s);
	}
	return 0;
}

/*
 * That an engine isn't ready is a soft verdict: a health check may err, and for all engines at once. So at most
 * `max_soft_eject` percent of the backends of a pool that could serve get no new flow because of it.
 */
static bool soft_verdict_fits(const struct shuntd *s, const struct backend_run *b)
{
	size_t n = 0, n_soft = 0;

	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *other = s->backends[i];

		if (other->pool != b->pool || !word_is_judged(other->last_word))
			continue;
		n += !other->draining || other->draining == VERDICT_LOADING;
		n_soft += other->draining == VERDICT_LOADING;
	}
	return 100 * (n_soft + 1) <= n * b->pool->max_soft_eject;
}

/* An engine that served isn't ready. Tried again until there is room, or it is ready. */
static void engine_not_ready(struct shuntd *s, struct backend_run *b)
{
	if (b->draining || BACKEND_WORD_STATE(b->last_word) != BACKEND_UP)
		return;
	if (soft_verdict_fits(s, b)) {
		backends_drain(s, b, VERDICT_LOADING, 0);
	} else if (!b->kept) {
		b->kept = true;
		backend_tell(s, b, 0, "kept", "its engine is not ready, nor are as many of its pool as may be",
			     json_pack("{s:i}", "max_soft_eject_percent", b->pool->max_soft_eject));
	}
}

/* What its agent says of the engine is acted upon when it becomes another: drain, or an end of it. */
static void engine_follow(struct shuntd *s, struct backend_run *b, const struct session *session)
{
	uint32_t engine = __atomic_load_n(&session->engine, __ATOMIC_RELAXED), before = b->engine;

	b->engine = engine;
	b->kept = b->kept && engine == ENGINE_LOADING;
	if (engine != before && engine == ENGINE_DRAINING)
		backends_drain(s, b, VERDICT_ASKED, 0);
	else if (engine != before &&
		 (b->draining == VERDICT_ASKED || (b->draining == VERDICT_LOADING && engine != ENGINE_LOADING)))
		backends_undrain(s, b);
	if (engine == ENGINE_LOADING)
		engine_not_ready(s, b);
}

/* A backend whose engine can't serve isn't admitted, however well its host answers. */
static bool engine_may_serve(uint32_t engine)
{
	return engine == ENGINE_UNKNOWN || engine == ENGINE_SERVING || engine == ENGINE_DRAINING;
}

/*
 * Of the flows of a draining backend that a FIN or RST ended, those that were seen since go on. While it drains all that
 * their clients send is looked up, but before it wasn't: for as long it may be any of them.
 */
static uint64_t streams_since(const struct backend_run *b, uint64_t now)
{
	return now < b->drain_since_ns + STREAM_NS ? 1 : now - STREAM_NS;
}

/* A draining backend has lost its last flow, or come to its deadline. */
static void drain_follow(struct shuntd *s, struct backend_run *b, uint64_t now)
{
	struct flow_filter its = { .backend = b->id, .heard_ns = streams_since(b, now), .ours = true };
	bool is_due = b->drain_deadline_ns && now >= b->drain_deadline_ns;
	json_t *evidence;

	if (b->drained || b->leaving)
		return;
	b->ending = b->ending || live_flows(s, b);
	if (b->ending && !is_due)
		return;
	b->drained = true;
	b->n_cut = b->ending ? journal_reset(s->journal, &its) : 0;
	evidence = json_pack("{s:I}", "took_ms", (json_int_t)((now - b->drain_since_ns) / 1000000));
	if (b->n_cut)
		json_object_set_new(evidence, "flows", json_integer((json_int_t)b->n_cut));
	backend_tell(s, b, 0, b->n_cut ? "cut" : "drained", b->n_cut ? "deadline" : "no live flow", evidence);
	names_backend(s, b);
}

/* Draining backends without an open flow. A packet that saw one up just before may record its flow a moment after. */
static void ending_begin(struct shuntd *s, uint64_t now)
{
	struct ending *e = &s->endings;

	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];

		if (!b->draining || b->drained || b->leaving || live_flows(s, b) ||
		    now < b->drain_since_ns + BACKENDS_PERIOD_NS)
			continue;
		e->since_ns[b->id] = streams_since(b, now);
		e->heard[b->id] = false;
		e->n++;
	}
	e->at = 0;
}

/* The next slice of the search: `live` counts open flows, but a client that has sent a FIN may read on. */
static void ending_run(struct shuntd *s, uint64_t now)
{
	const struct flow *journal = dataplane_journal(s->dataplane);
	struct ending *e = &s->endings;
	uint32_t used = journal_used(s);

	if (!e->n && now >= e->next_ns)
		ending_begin(s, now);
	if (!e->n)
		return;
	for (uint32_t i = 0; i < SLICE && e->at < used; i++, e->at++) {
		const struct flow *f = &journal[e->at];
		uint64_t word = __atomic_load_n(&f->word, __ATOMIC_RELAXED);

		uint16_t id = FLOW_WORD_BACKEND(word) % SHUNT_MAX_BACKENDS;

		if (word && e->since_ns[id] && !FLOW_CHALLENGES(f->challenged) &&
		    __atomic_load_n(&f->seen_ns, __ATOMIC_RELAXED) >= e->since_ns[id])
			e->heard[id] = true;
	}
	if (e->at < used)
		return;
	for (size_t i = 0; i < s->n_backends; i++) {
		struct backend_run *b = s->backends[i];

		if (e->since_ns[b->id] && !e->heard[b->id] && !live_flows(s, b))
			b->ending = false;
	}
	memset(e->since_ns, 0, sizeof(e->since_ns));
	e->n = 0;
	e->next_ns = now + STREAM_NS / 10;
}

/* ---- removed ones ---- */

/*
 * A removed backend that has no live flow is gone: nobody asks it any more and it is no longer shown. Its record stays,
 * for the last segments of flows that close. Its id may be another's when no entry of the journal names it, as backend or
 * as owner. No table does since it was removed, so no new entry can; they are looked through a slice at a time.
 */
#define FORGET_PAUSE_NS 1000000000ULL /* chosen: between two rounds through the journal */

static void backend_go(struct shuntd *s, struct backend_run *b)
{
	struct detector *d = dataplane_detector(s->dataplane);
	const char *why;

	backend_run_hide(s, b);
	names_backend(s, b);
	__atomic_store_n(&dataplane_sessions(s->dataplane)[b->id].discriminator, 0, __ATOMIC_SEQ_CST);
	if (is_checked(s, b))
		backends_check(s, &why);
	while (d->n_sessions && !dataplane_sessions(s->dataplane)[d->n_sessions].discriminator)
		d->n_sessions--;
	backend_tell(s, b, 0, "gone", "no live flow", NULL);
}

static void backend_forget(struct shuntd *s, struct backend_run *b)
{
	struct pool_run *pool = b->pool;
	bool is_empty = pool->removed;

	__atomic_store_n(&record(s, b)->word, BACKEND_WORD(BACKEND_UNUSED, VERDICT_NONE), __ATOMIC_SEQ_CST);
	__atomic_store_n(&record(s, b)->egress_ifindex, 0, __ATOMIC_SEQ_CST);
	backend_tell(s, b, 0, "forgotten", "no flow names it", json_pack("{s:i}", "id", (int)b->id));
	names_backend_forget(s, b->id);
	backend_run_remove(s, b);
	for (size_t id = 1; id < SHUNT_MAX_BACKENDS; id++)
		is_empty = is_empty && !(s->backend_ids[id] && s->backend_ids[id]->pool == pool);
	if (!is_empty)
		return;
	dataplane_clear_table(s->dataplane, pool->id);
	names_pool_forget(s, pool->id);
	ledger_add(s->ledger, 0, "pool", pool->name, "gone", "no backend is left", NULL);
	pool_run_remove(s, pool);
}

static bool may_be_forgotten(const struct shuntd *s, const struct backend_run *b)
{
	return b && b->gone && !live_flows(s, b) && !s->reloading &&
	       !__atomic_load_n(&dataplane_backends(s->dataplane)[b->id].detours, __ATOMIC_RELAXED);
}

/* The next slice of the search for ids that nothing names. */
static void backends_forget(struct shuntd *s, uint64_t now)
{
	struct forgetting *f = &s->forgetting;
	const struct flow *journal = dataplane_journal(s->dataplane);
	uint32_t used = journal_used(s);

	if (!f->n) {
		if (now < f->next_ns)
			return;
		for (size_t id = 1; id < SHUNT_MAX_BACKENDS; id++) {
			f->named[id] = !may_be_forgotten(s, s->backend_ids[id]);
			f->n += !f->named[id];
		}
		f->at = 0;
		f->next_ns = now + FORGET_PAUSE_NS;
		if (!f->n)
			return;
	}
	for (uint32_t i = 0; i < SLICE && f->at < used; i++, f->at++) {
		uint64_t word = __atomic_load_n(&journal[f->at].word, __ATOMIC_RELAXED);

		f->named[FLOW_WORD_BACKEND(word) % SHUNT_MAX_BACKENDS] = true;
		f->named[FLOW_WORD_OWNER(word) % SHUNT_MAX_BACKENDS] = true;
	}
	if (f->at < used)
		return;
	f->n = 0;
	for (size_t id = 1; id < SHUNT_MAX_BACKENDS; id++)
		if (!f->named[id] && may_be_forgotten(s, s->backend_ids[id]))
			backend_forget(s, s->backend_ids[id]);
}

/* ---- the period ---- */

/* It answered for long enough: it serves, or goes on draining. */
static void backend_admit(struct shuntd *s, struct backend_run *b, const struct session *session,
			  const struct admission_limits *limits, uint64_t now)
{
	uint32_t word = serving_word(b);
	uint64_t hold_ns = admission_hold_ns(&b->admission, limits);
	uint64_t down_ns = BACKEND_WORD_VERDICT(b->last_word) == VERDICT_JOINING ? 0 : b->since_ns;
	json_t *evidence;

	if (!b->draining || b->leaving)
		pool_follow(b, true);
	if (!word_swap(s, b, BACKEND_DOWN, word))
		return;
	/* What it lost from here on is another failover's. */
	__atomic_store_n(&dataplane_backend_flows(s->dataplane)[b->id].moved_ns, 0, __ATOMIC_RELAXED);
	evidence = json_pack("{s:I}", "answers", (json_int_t)session->answers);
	if (session->rtt_ns) /* not of a BFD peer: it isn't asked */
		json_object_set_new(evidence, "rtt_us", json_integer((json_int_t)(session->rtt_ns / 1000)));
	if (hold_ns)
		json_object_set_new(evidence, "hold_ms", json_integer((json_int_t)(hold_ns / 1000000)));
	us_set(evidence, "outage_us", down_ns, b->since_ns);
	verdict_tell(s, b, 0, backend_state_name(word), hold_ns ? "answered for the hold time" : "answering", evidence);
	admission_rise(&b->admission, now);
}

static void backend_run_one(struct shuntd *s, struct backend_run *b, const struct admission_limits *limits,
			    uint64_t now)
{
	struct session *session = &dataplane_sessions(s->dataplane)[b->id];
	struct admission_limits its_own;
	uint32_t word;

	grace_follow(s, b, session);
	engine_follow(s, b, session);
	if (b->draining)
		drain_follow(s, b, now);
	word = __atomic_load_n(&record(s, b)->word, __ATOMIC_SEQ_CST);
	if (word_is_judged(word) || b->doubt.at_ns) {
		b->flip_found_ns = 0;
		return;
	}
	if (word_is_judged(b->last_word)) {
		/* Flipped, and its event is late or lost. Late: the ring is drained before the next turn looks. */
		if (!b->flip_found_ns)
			b->flip_found_ns = now;
		else if (now - b->flip_found_ns >= BACKENDS_PERIOD_NS / 2)
			backend_down(s, b, word, now, NULL);
		return;
	}
	b->flip_found_ns = 0;
	if (!engine_may_serve(b->engine)) {
		admission_restart(&b->admission);
		return;
	}
	if (is_checked(s, b)) {
		its_own = checked_limits(s, b);
		limits = &its_own;
	}
	if (admission_update(&b->admission, limits, now, session->answers, session->answered_ns) && b->ever_resolved)
		backend_admit(s, b, session, limits, now);
}

#define CHECKS_AGAIN_NS 1000000000ULL /* chosen: so long after one that couldn't be opened all are tried again */

void backends_run(struct shuntd *s)
{
	uint64_t now = monotonic_ns();
	struct admission_limits limits = backends_limits(s);
	const char *why;

	ways_judge(s, now);
	ending_run(s, now);
	for (size_t i = 0; i < s->n_backends; i++)
		backend_run_one(s, s->backends[i], &limits, now);
	for (size_t i = s->n_backends; i--;)
		if (s->backends[i]->draining == VERDICT_REMOVED && s->backends[i]->drained &&
		    !live_flows(s, s->backends[i]))
			backend_go(s, s->backends[i]);
	if (s->checks_again_ns && now >= s->checks_again_ns)
		backends_check(s, &why);
	pools_swap(s);
	backends_forget(s, now);
}

/* ---- coming and going ---- */

static enum session_kind session_kind_of(enum config_check_type type)
{
	return type == CHECK_HEARTBEAT ? SESSION_HEARTBEAT : type == CHECK_ECHO ? SESSION_ECHO : SESSION_CHECKED;
}

/* The session says how it is asked. An echo comes back to our own address, which is known with the backend's way. */
static void session_open(struct session *session, const struct backend_run *b, uint32_t salt)
{
	uint32_t discriminator = (salt & ~(SHUNT_MAX_BACKENDS - 1U)) | b->id;
	enum config_check_type type = b->conf.check.type;

	session->kind = session_kind_of(type);
	session->your_discriminator = type == CHECK_ECHO ? discriminator : reflector_discriminator(&b->conf.address);
	session->address = type == CHECK_ECHO ? b->nexthop.local : b->conf.address;
	__atomic_store_n(&session->discriminator, discriminator, __ATOMIC_RELEASE);
}

int backend_join(struct shuntd *s, struct backend_run *b)
{
	struct session *session = &dataplane_sessions(s->dataplane)[b->id];
	struct detector *d = dataplane_detector(s->dataplane);
	uint32_t salt;

	if (getrandom(&salt, sizeof(salt), 0) != sizeof(salt))
		return -EIO;
	names_backend(s, b);
	dataplane_forget_backend(s->dataplane, b->id);
	memset(session, 0, sizeof(*session));
	session_open(session, b, salt);
	if (d->n_sessions < b->id)
		d->n_sessions = b->id;
	word_seen(s, b, BACKEND_WORD(BACKEND_DOWN, VERDICT_JOINING), monotonic_ns());
	__atomic_store_n(&record(s, b)->word, b->last_word, __ATOMIC_SEQ_CST);
	return 0;
}

static void cold_begin(struct shuntd *s, struct backend_run *b)
{
	if (b->rtt_ns < BACKENDS_COLD_NS)
		b->rtt_ns = BACKENDS_COLD_NS;
	__atomic_store_n(&dataplane_sessions(s->dataplane)[b->id].grace_ns, b->rtt_ns, __ATOMIC_SEQ_CST);
}

int backend_resume(struct shuntd *s, struct backend_run *b)
{
	const struct session *session = &dataplane_sessions(s->dataplane)[b->id];
	uint32_t word = __atomic_load_n(&record(s, b)->word, __ATOMIC_SEQ_CST);
	int err = 0;

	if (b->gone)
		return 0;
	if (BACKEND_WORD_STATE(word) == BACKEND_UNUSED)
		return backend_join(s, b);
	if (!session->discriminator || session->kind != session_kind_of(b->conf.check.type))
		err = backend_ask_anew(s, b);
	cold_begin(s, b);
	/* That run was in doubt yet: it is judged anew. */
	if (backend_is_doubted(s, b))
		word_swap(s, b, BACKEND_DOWN, BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING));
	if (b->draining)
		word_swap(s, b, BACKEND_UP, BACKEND_WORD(BACKEND_DRAINING, b->draining));
	else
		word_swap(s, b, BACKEND_DRAINING, BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING));
	return err;
}

/* What was answered and asked stays: rounds are numbered on, and the prober writes `asked` meanwhile. */
int backend_ask_anew(struct shuntd *s, struct backend_run *b)
{
	struct session *session = &dataplane_sessions(s->dataplane)[b->id];
	uint32_t salt;

	if (getrandom(&salt, sizeof(salt), 0) != sizeof(salt))
		return -EIO;
	__atomic_store_n(&session->discriminator, 0, __ATOMIC_SEQ_CST);
	session->engine = ENGINE_UNKNOWN;
	session->flags = session->version = session->in_flight = session->queued = 0;
	session_open(session, b, salt);
	return 0;
}

int backends_check(struct shuntd *s, const char **why)
{
	struct checked *checked = calloc(s->n_backends + 1, sizeof(*checked));
	size_t n = 0;
	int err;

	*why = "no memory for the checks";
	if (!checked)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];
		bool is_twin = false;

		for (size_t k = 0; k < s->n_backends && !is_twin; k++)
			is_twin = is_asked_for(b, s->backends[k]);
		if (is_checked(s, b) && !is_twin)
			checked[n++] =
				(struct checked){ .id = b->id, .address = b->conf.address, .check = b->conf.check };
	}
	err = checker_update(s->checker, checked, n, why);
	s->checks_again_ns = err ? monotonic_ns() + CHECKS_AGAIN_NS : 0;
	free(checked);
	return err;
}

/* It serves already: who is silent falls within a few rounds. */
static void backend_assume_up(struct shuntd *s, struct backend_run *b)
{
	word_swap(s, b, BACKEND_DOWN, BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING));
	admission_rise(&b->admission, b->since_ns);
	cold_begin(s, b);
}

int backends_open(struct shuntd *s, bool assume_up, const char **why)
{
	int err;

	*why = "no memory for the backends";
	for (size_t p = 0; p < s->config->n_pools; p++) {
		const struct config_pool *conf = &s->config->pools[p];
		struct pool_run *pool = pool_run_add(s, conf);

		if (!pool)
			return -ENOMEM;
		names_pool(s, pool);
		for (size_t i = 0; i < conf->n_backends; i++) {
			struct backend_run *b = backend_run_add(s, &conf->backends[i], pool);

			err = b ? backend_join(s, b) : -ENOMEM;
			if (err)
				return err;
			if (assume_up)
				backend_assume_up(s, b);
		}
		err = pool_load(s, pool);
		if (err) {
			*why = "cannot load a table into the kernel";
			return err;
		}
	}
	backends_resolve(s);
	for (size_t i = 0; i < s->config->n_vips; i++) {
		const struct config_vip *conf = &s->config->vips[i];
		struct vip_run *v = vip_run_add(s, conf, pool_find(s, s->config->pools[conf->pool].name));

		err = v ? vip_load(s, v) : -ENOMEM;
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
