/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer_probe.c - what `probe show` is answered: all that is known of how a backend is asked and what it answers.
 */

#include "common/clock.h"
#include "core/cause.h"
#include "core/check.h"
#include "core/round_trips.h"
#include "shunt/detect.h"
#include "shuntd/answer.h"
#include "shuntd/checker.h"

static uint64_t load(const __u64 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static json_t *loss_json(uint64_t asked, uint64_t answers)
{
	return integer_or_null(asked, asked > answers ? (asked - answers) * 1000 / asked : 0);
}

static json_t *quantile_json(const struct round_trips *trips, const struct probe_window *window, unsigned permille)
{
	uint64_t ns = round_trips_quantile_ns(trips, &window->trips, permille);

	return ns ? us_json(ns) : json_null();
}

/* Rounds and answers, in all and lately. */
static void counts_set(json_t *o, const struct shuntd *s, const struct backend_run *b, uint64_t now_ns)
{
	const struct session *session = &dataplane_sessions(s->dataplane)[b->id];
	const struct round_trips *trips = &dataplane_round_trips(s->dataplane)[b->id];
	const struct probe_window *window = &b->windows[0];
	uint64_t asked = load(&session->asked_count), answers = load(&session->answers);
	uint64_t answered_ns = load(&session->answered_ns);
	bool known = answers > 0, lately = window->at_ns != 0;

	json_object_set_new(o, "rounds_asked", json_integer((json_int_t)asked));
	json_object_set_new(o, "answers", json_integer((json_int_t)answers));
	json_object_set_new(o, "too_late", json_integer((json_int_t)session->too_late));
	json_object_set_new(o, "forged", json_integer((json_int_t)session->forged));
	json_object_set_new(o, "late", json_integer((json_int_t)b->n_late));
	json_object_set_new(o, "loss_permille", loss_json(asked, answers));
	json_object_set_new(o, "rounds_to_convict",
			    session->kind == SESSION_CHECKED
				    ? json_null()
				    : json_integer(rounds_to_convict(session, dataplane_detector(s->dataplane))));
	json_object_set_new(o, "rtt_us",
			    known && load(&session->rtt_ns) ? us_json(load(&session->rtt_ns)) : json_null());
	json_object_set_new(o, "last_answer_us",
			    known ? us_json(now_ns > answered_ns ? now_ns - answered_ns : 0) : json_null());
	json_object_set_new(o, "window_us", lately ? us_json(now_ns - window->at_ns) : json_null());
	json_object_set_new(o, "window_asked", integer_or_null(lately, asked - window->asked));
	json_object_set_new(o, "window_answers", integer_or_null(lately, answers - window->answers));
	json_object_set_new(o, "window_loss_permille",
			    lately ? loss_json(asked - window->asked, answers - window->answers) : json_null());
	json_object_set_new(o, "rtt_p50_us", lately ? quantile_json(trips, window, 500) : json_null());
	json_object_set_new(o, "rtt_p99_us", lately ? quantile_json(trips, window, 990) : json_null());
}

/* What its agent says, where one was heard whose version we can read. */
static void agent_set(json_t *o, const struct session *session)
{
	bool known = session->kind == SESSION_HEARTBEAT && load(&session->answers) && session->version;
	bool readable = known && session->version == PROBE_VERSION;

	json_object_set_new(o, "engine",
			    load(&session->answers) ? json_string(engine_name(session->engine)) : json_null());
	json_object_set_new(o, "full", readable ? json_boolean(session->flags & PROBE_FULL) : json_null());
	json_object_set_new(o, "in_flight", integer_or_null(readable, session->in_flight));
	json_object_set_new(o, "queued", integer_or_null(readable, session->queued));
	json_object_set_new(
		o, "agent_age_us",
		integer_or_null(readable && session->agent_age_us != PROBE_AGE_UNKNOWN, session->agent_age_us));
	json_object_set_new(o, "agent_version", integer_or_null(known, session->version));
}

/* How it is asked, and how that stands where it isn't asked by probes. */
static json_t *check_json(const struct shuntd *s, const struct backend_run *b)
{
	char text[256];

	checker_describe(s->checker, b->id, text, sizeof(text));
	return json_pack("{s:s, s:s}", "type", check_name(b->conf.check.type), "text", text);
}

json_t *probe_json(const struct shuntd *s, const struct backend_run *b)
{
	uint32_t word = backend_word(s, b->id);
	json_t *o = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:s, s:s, s:o, s:o}", "backend", b->conf.name, "pool",
			      b->pool->name, "address", address_json(&b->conf.address), "check", check_json(s, b),
			      "interval_us", interval_json(s->pace.interval_ns), "configured_interval_us",
			      interval_json(s->config->probe_interval_ns), "state", backend_state_name(word), "verdict",
			      backend_verdict_name(word), "since_ns", integer_or_null(b->since_ns, b->since_ns),
			      "evidence", b->evidence ? json_incref(b->evidence) : json_null());

	hold_set(o, s, b);
	counts_set(o, s, b, monotonic_ns());
	agent_set(o, &dataplane_sessions(s->dataplane)[b->id]);
	return o;
}

json_t *probe_show(struct request *r)
{
	return backends_json(r, probe_json);
}
