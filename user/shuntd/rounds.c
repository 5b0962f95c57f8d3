/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rounds.c - see rounds.h.
 */
#include "shuntd/rounds.h"

#include <time.h>

#include "common/clock.h"
#include "shunt/detect.h"
#include "shuntd/reload.h"

/* How often and how long to wait for the prober to have asked everybody some times; a long interval can be kept. */
#define DOUBT_BUSY_NS 1000000000ULL /* chosen: the main loop is hardly ever busy for so long */
#define CALIBRATE_NS 5000000L
#define CALIBRATE_TURNS 50

/* Rounds that silence_judge() has to look back over beside those of a round trip: its multiplier, and these; chosen. */
#define LOOK_BACK_SPARE 4

static struct prober_settings settings_make(const struct shuntd *s)
{
	return (struct prober_settings){ .interval_ns = s->pace.interval_ns,
					 .multiplier = s->config->probe_multiplier,
					 .keys = s->keys,
					 .judge = s->detector == DETECTOR_CONTROLLER };
}

/* Backends that the prober asks. */
static size_t asked_count(const struct shuntd *s)
{
	const struct session *sessions = dataplane_sessions(s->dataplane);
	const struct detector *d = dataplane_detector(s->dataplane);
	size_t n = 0;

	for (uint32_t id = 1; id <= d->n_sessions; id++)
		n += sessions[id].discriminator && sessions[id].kind != SESSION_CHECKED;
	return n;
}

/* Who is so far away that its answers bound the interval; NULL: there is nobody up that is asked in rounds. */
static const struct backend_run *farthest(const struct shuntd *s)
{
	const struct session *sessions = dataplane_sessions(s->dataplane);
	const struct backend_run *far = NULL;

	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];

		if (word_is_judged(b->last_word) && sessions[b->id].kind != SESSION_CHECKED &&
		    (!far || b->rtt_ns > far->rtt_ns))
			far = b;
	}
	return far;
}

static uint64_t reach_ns(const struct shuntd *s, const struct backend_run *far)
{
	return far ? far->rtt_ns / (SHUNT_ROUNDS - LOOK_BACK_SPARE - s->config->probe_multiplier) : 0;
}

/* The interval has become another; the prober knows. */
static void tell(struct shuntd *s, enum pace_change change, uint64_t before_ns, const struct pace_look *look)
{
	static const char *const whys[] = {
		[PACE_COST] = "a round takes more than half of its interval",
		[PACE_LATE] = "rounds begin late",
		[PACE_FAR] = "a round trip is longer than silence is looked back over",
		[PACE_ROOM] = "there is room again",
	};
	char now[DURATION_TEXT_MAX], before[DURATION_TEXT_MAX], configured[DURATION_TEXT_MAX];
	const struct backend_run *far = change == PACE_FAR ? farthest(s) : NULL;
	json_t *evidence = json_pack(
		"{s:s, s:s, s:s, s:I, s:I, s:I}", "interval", duration_format(s->pace.interval_ns, now, sizeof(now)),
		"configured", duration_format(look->configured_ns, configured, sizeof(configured)), "before",
		duration_format(before_ns, before, sizeof(before)), "round_us", (json_int_t)(look->cost_ns / 1000),
		"rounds", (json_int_t)look->n_rounds, "late", (json_int_t)look->n_late);

	if (far) {
		json_object_set_new(evidence, "backend", json_string(far->conf.name));
		json_object_set_new(evidence, "round_trip_us", json_integer((json_int_t)(far->rtt_ns / 1000)));
	}
	ledger_add(s->ledger, 0, "shuntd", "self", change == PACE_ROOM ? "probes narrowed" : "probes widened",
		   whys[change], evidence);
}

/* Ask in this interval from now on. 0 or -errno: it stays what it was. */
static int interval_set(struct shuntd *s, const struct pace *before)
{
	struct prober_settings settings = settings_make(s);
	const char *why = "";
	int err = prober_update(s->prober, &settings, &why);

	s->rounds_seen_ns = 0;
	if (!err)
		return 0;
	ledger_add(s->ledger, 0, "shuntd", "self", "probes not changed", why, NULL);
	s->pace = *before;
	return err;
}

static void interval_begin(struct shuntd *s, uint64_t interval_ns)
{
	s->pace = (struct pace){ .interval_ns = interval_ns, .patience_ns = PACE_PATIENCE_MIN_NS };
}

/* The main loop may be busy when the doubt ends: to the data path it ends later, or when shuntd has decided. */
static void doubt_apply(struct shuntd *s)
{
	uint64_t doubt_ns = s->config->probe_doubt_ns;

	__atomic_store_n(&dataplane_detector(s->dataplane)->doubt_ns, doubt_ns ? doubt_ns + DOUBT_BUSY_NS : 0,
			 __ATOMIC_RELAXED);
}

int rounds_start(struct shuntd *s, struct prober_options *options, const char **why)
{
	const struct timespec settle = { .tv_nsec = CALIBRATE_NS };
	struct pace_look look = { .configured_ns = s->config->probe_interval_ns };
	const struct prober_stats *stats;
	struct pace before;
	int err;

	s->configured_interval_ns = s->config->probe_interval_ns;
	doubt_apply(s);
	/* Who was up before us may be far away. */
	interval_begin(s, pace_fit(s->configured_interval_ns, 0, reach_ns(s, farthest(s))));
	options->settings = settings_make(s);
	err = prober_start(&s->prober, options, why);
	if (err)
		return err;
	s->n_asked = asked_count(s);
	stats = prober_stats(s->prober);
	for (int i = 0; i < CALIBRATE_TURNS && atomic_load(&stats->full_rounds) < PROBER_FULL_ROUNDS; i++)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &settle, NULL);
	before = s->pace;
	look.n_rounds = atomic_load(&stats->full_rounds);
	look.cost_ns = atomic_load(&stats->full_round_ns);
	s->pace.interval_ns = pace_fit(look.configured_ns, look.cost_ns, reach_ns(s, farthest(s)));
	if (s->pace.interval_ns != before.interval_ns && !interval_set(s, &before))
		tell(s, PACE_COST, before.interval_ns, &look);
	return 0;
}

/* What the interval must be for those that are asked now: foreseen, where there are more of them. Why, if it is widened. */
static enum pace_change interval_foresee(struct shuntd *s, struct pace_look *look)
{
	uint64_t configured_ns = s->config->probe_interval_ns, before_ns = s->pace.interval_ns, fit_ns;
	size_t n = asked_count(s);

	*look = (struct pace_look){ .configured_ns = configured_ns,
				    .cost_ns = atomic_load(&prober_stats(s->prober)->round_ns),
				    .reach_ns = reach_ns(s, farthest(s)) };
	if (s->n_asked && n > s->n_asked)
		look->cost_ns = look->cost_ns * n / s->n_asked;
	s->n_asked = n;
	fit_ns = pace_fit(configured_ns, look->cost_ns, look->reach_ns);
	if (configured_ns == s->configured_interval_ns && fit_ns <= before_ns)
		return PACE_KEPT;
	s->configured_interval_ns = configured_ns;
	interval_begin(s, fit_ns);
	if (fit_ns == configured_ns)
		return PACE_KEPT;
	return 2 * look->cost_ns > configured_ns ? PACE_COST : PACE_FAR;
}

void rounds_apply(struct shuntd *s)
{
	struct detector *d = dataplane_detector(s->dataplane);
	const struct config *c = s->config;
	enum config_detector before = s->detector;
	struct pace pace = s->pace;
	enum pace_change change;
	struct pace_look look;
	int cpu = config_cpu(c), err;

	doubt_apply(s);
	s->detector = dataplane_has_timer(s->dataplane) ? c->detector : DETECTOR_CONTROLLER;
	change = interval_foresee(s, &look);
	err = interval_set(s, &pace);
	if (err) {
		s->detector = before;
		return;
	}
	if (change != PACE_KEPT)
		tell(s, change, pace.interval_ns, &look);
	d->tick_stopped = s->detector == DETECTOR_CONTROLLER;
	if (cpu == s->cpu && before == s->detector)
		return;
	err = cpu >= 0 ? prober_pin(s->prober, cpu) : 0;
	if (!err && s->detector == DETECTOR_KERNEL)
		err = dataplane_start_tick(s->dataplane, cpu);
	if (err)
		ledger_add(s->ledger, 0, "shuntd", "self", "probes not moved", strerror(-err),
			   json_pack("{s:i}", "cpu", cpu));
	s->cpu = cpu;
}

void rounds_run(struct shuntd *s)
{
	const struct prober_stats *stats = prober_stats(s->prober);
	uint64_t round = dataplane_detector(s->dataplane)->round, late = atomic_load(&stats->rounds_late);
	struct pace before = s->pace;
	enum pace_change change = PACE_KEPT;
	struct pace_look look;
	const uint64_t now_ns = monotonic_ns();

	if (s->rounds_seen_ns &&
	    (now_ns - s->rounds_seen_ns < PACE_LOOK_NS || round - s->rounds_seen < PACE_ROUNDS_MIN))
		return;
	look = (struct pace_look){ .configured_ns = s->config->probe_interval_ns,
				   .cost_ns = atomic_load(&stats->round_ns),
				   .n_rounds = round - s->rounds_seen,
				   .n_late = late - s->late_seen,
				   .reach_ns = reach_ns(s, farthest(s)) };
	if (s->rounds_seen_ns)
		change = pace_update(&s->pace, &look, now_ns);
	s->rounds_seen_ns = now_ns;
	s->rounds_seen = round;
	s->late_seen = late;
	if (change != PACE_KEPT && !interval_set(s, &before))
		tell(s, change, before.interval_ns, &look);
}
