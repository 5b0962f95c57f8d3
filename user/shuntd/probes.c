/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * probes.c - see probes.h.
 */
#include "shuntd/probes.h"

#include "common/clock.h"
#include "shunt/heartbeat.h"

static void window_begin(struct shuntd *s, const struct backend_run *b, struct probe_window *w, uint64_t now_ns)
{
	const struct session *session = &dataplane_sessions(s->dataplane)[b->id];

	*w = (struct probe_window){ .at_ns = now_ns,
				    .asked = __atomic_load_n(&session->asked_count, __ATOMIC_RELAXED),
				    .answers = __atomic_load_n(&session->answers, __ATOMIC_RELAXED),
				    .trips = dataplane_round_trips(s->dataplane)[b->id] };
}

static void windows_follow(struct shuntd *s, struct backend_run *b, uint64_t now_ns)
{
	if (!b->windows[0].at_ns) {
		window_begin(s, b, &b->windows[0], now_ns);
		b->windows[1] = b->windows[0];
	} else if (now_ns - b->windows[1].at_ns >= PROBES_WINDOW_NS) {
		probes_round_trips(s, b, b->trips_before);
		b->windows[0] = b->windows[1];
		window_begin(s, b, &b->windows[1], now_ns);
	}
}

/* The kernel's counts wrap: what lies between two looks is their difference. */
void probes_round_trips(const struct shuntd *s, const struct backend_run *b, uint64_t counts[ROUND_TRIP_BUCKETS])
{
	const struct round_trips *now = &dataplane_round_trips(s->dataplane)[b->id];

	for (uint32_t i = 0; i < ROUND_TRIP_BUCKETS; i++) {
		uint32_t lately = __atomic_load_n(&now->buckets[i], __ATOMIC_RELAXED) - b->windows[1].trips.buckets[i];

		counts[i] = b->trips_before[i] + (b->windows[1].at_ns ? lately : 0);
	}
}

/* Who can't read the other's version says nothing of its engine: it serves, but only its host is known to live. */
static void version_follow(struct shuntd *s, struct backend_run *b, const struct session *session)
{
	uint32_t version = __atomic_load_n(&session->version, __ATOMIC_RELAXED), before = b->agent_version;

	if (!version || version == before)
		return;
	b->agent_version = version;
	if (version == PROBE_VERSION && (!before || before == PROBE_VERSION))
		return;
	backend_tell(s, b, 0, version == PROBE_VERSION ? "agent of our version again" : "agent of another version",
		     version == PROBE_VERSION ? NULL : "its answers say that the host lives, and nothing of its engine",
		     json_pack("{s:i, s:i}", "agent_version", (int)version, "our_version", PROBE_VERSION));
}

/* Its kernel side answers on when the agent is gone: what it says of the engine's health is then what it was. */
static void age_follow(struct shuntd *s, struct backend_run *b, const struct session *session)
{
	uint32_t age_us = __atomic_load_n(&session->agent_age_us, __ATOMIC_RELAXED);
	bool is_old = age_us != PROBE_AGE_UNKNOWN && age_us > PROBES_OLD_US;

	if (is_old == b->agent_is_old)
		return;
	b->agent_is_old = is_old;
	backend_tell(s, b, 0, is_old ? "agent's word is old" : "agent's word is fresh",
		     is_old ? "the kernel answers there, shunt-agent does not run or hangs" : NULL,
		     age_us == PROBE_AGE_UNKNOWN ? NULL : json_pack("{s:i}", "agent_age_ms", (int)(age_us / 1000)));
}

/* A backend of which only answers come that count for nothing looks like a silent one: what is wrong is named. */
static void useless_follow(struct shuntd *s, struct backend_run *b, const struct session *session)
{
	uint64_t answers = __atomic_load_n(&session->answers, __ATOMIC_RELAXED);
	uint32_t too_late = __atomic_load_n(&session->too_late, __ATOMIC_RELAXED) - b->too_late.seen;
	uint32_t forged = __atomic_load_n(&session->forged, __ATOMIC_RELAXED) - b->forged.seen;
	char interval[DURATION_TEXT_MAX];

	if (answers != b->answers_seen) {
		if (b->too_late.only)
			backend_tell(s, b, 0, "answers come in time", NULL, NULL);
		if (b->forged.only)
			backend_tell(s, b, 0, "answers bear our tag", NULL, NULL);
		b->answers_seen = answers;
		b->too_late.only = b->forged.only = false;
		b->too_late.seen += too_late;
		b->forged.seen += forged;
		return;
	}
	if (!b->too_late.only && too_late >= PROBES_USELESS) {
		b->too_late.only = true;
		backend_tell(s, b, 0, "answers come too late",
			     "a round trip is longer than 64 rounds: probe.interval is too short for it",
			     json_pack("{s:s, s:i}", "interval",
				       duration_format(s->pace.interval_ns, interval, sizeof(interval)), "too_late",
				       (int)too_late));
	}
	if (!b->forged.only && forged >= PROBES_USELESS) {
		b->forged.only = true;
		backend_tell(s, b, 0, "answers bear no tag of ours",
			     "its agent has no key_file, or somebody else answers for it",
			     json_pack("{s:i}", "forged", (int)forged));
	}
}

void probes_run(struct shuntd *s)
{
	const uint64_t now_ns = monotonic_ns();

	for (size_t i = 0; i < s->n_backends; i++) {
		struct backend_run *b = s->backends[i];
		const struct session *session = &dataplane_sessions(s->dataplane)[b->id];

		windows_follow(s, b, now_ns);
		useless_follow(s, b, session);
		if (session->kind != SESSION_HEARTBEAT || !__atomic_load_n(&session->answers, __ATOMIC_RELAXED))
			continue;
		version_follow(s, b, session);
		age_follow(s, b, session);
	}
}
