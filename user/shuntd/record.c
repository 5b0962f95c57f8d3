/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * record.c - see record.h. Reads the ledger's events, those of former runs too, and nothing else but the times of first
 * packets at heirs, which the walk notes (backend_flows.moved_ns). So what it says can be found again in the ledger.
 */
#include "shuntd/record.h"

#include <errno.h>
#include <search.h>
#include <time.h>

#include "common/clock.h"
#include "core/wall_time.h"
#include "shuntd/shuntd.h"

#define HISTORY_MAX 32768 /* chosen: changes that are kept, half a megabyte */
#define LOOK_NS 1000000000ULL /* chosen: between two looks at backends that nothing is known of */
#define JOIN_NS 10000000000ULL /* chosen: who isn't up for so long after it was begun to be asked is down */
#define PACKET_NS 1000000000ULL /* chosen: no packet for an heir in so long, and none is waited for */
#define FAILOVER_NS 10000000000ULL /* chosen: nor anything else */
#define EARLY_NS 1000000ULL /* chosen: a flip's time is read that much after it at most, so a packet may be earlier */

/* Verdicts whose beginnings are known. */
static const enum verdict failures[] = { VERDICT_SILENT, VERDICT_DEAD, VERDICT_STALLED, VERDICT_PEER_DOWN };
#define N_FAILURES (sizeof(failures) / sizeof(*failures))

/* A failover that isn't through. */
struct failover {
	struct failover *next;
	json_t *down; /* the event */
	uint16_t backend;
	uint64_t flip_ns, learnt_ns; /* CLOCK_MONOTONIC */
	json_t *told; /* evidence of "flows told"; NULL: not yet */
	uint64_t table_ns; /* CLOCK_MONOTONIC, of the table swap; 0: not yet */
	json_t *outage_us; /* it is back; NULL: not yet */
	bool is_over; /* it is back, fell again, or is gone: nothing more will follow */
};

/* A name is an object of the history. */
struct name {
	char text[CONFIG_NAME_MAX];
	uint32_t object;
};

struct record {
	struct shuntd *shuntd;
	struct timeline line;
	struct history *history;
	void *names; /* tsearch(3) of struct name */
	uint32_t n_names;
	struct failover *failovers;
	uint64_t looked_ns;
	struct histogram detection[N_FAILURES], steering;
};

static const char *text_of(const json_t *event, const char *key)
{
	const char *text = json_string_value(json_object_get(event, key));

	return text ? text : "";
}

static uint64_t number_of(const json_t *event, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(event, key));
}

/* ---- names ---- */

static int name_compare(const void *a, const void *b)
{
	return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

/* False: no memory, or no name of a backend. */
static bool name_object(struct record *r, const char *text, uint32_t *object)
{
	struct name key, *new, **found;

	if (strlen(text) >= sizeof(key.text))
		return false;
	memcpy(key.text, text, strlen(text) + 1);
	found = tfind(&key, &r->names, name_compare);
	if (!found) {
		new = malloc(sizeof(*new));
		if (!new)
			return false;
		*new = key;
		new->object = r->n_names;
		found = tsearch(new, &r->names, name_compare);
		if (!found) {
			free(new);
			return false;
		}
		r->n_names++;
	}
	*object = (*found)->object;
	return true;
}

/* ---- the history ---- */

/* A boot's id as a number: FNV-1a (draft-eastlake-fnv). */
static uint64_t boot_number(const char *id)
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (; *id; id++)
		hash = (hash ^ (uint8_t)*id) * 0x100000001b3ULL;
	return hash;
}

static struct moment moment_of(const json_t *event)
{
	struct moment m = { .boot = boot_number(text_of(event, "boot")), .mono_ns = number_of(event, "at_ns") };

	if (wall_time_parse(&m.wall_ns, text_of(event, "time")))
		m.wall_ns = 0; /* of a clock that is before 1970 */
	return m;
}

/* How an event says that a backend stands; N_STANDINGS: it doesn't say. */
static enum standing standing_said(const json_t *event)
{
	const char *what = text_of(event, "what");

	if (!strcmp(what, "up"))
		return STANDING_UP;
	if (!strcmp(what, "down") || !strcmp(what, "not up"))
		return STANDING_DOWN;
	if (!strcmp(what, "draining"))
		return STANDING_DRAINED;
	if (!strcmp(what, "undrained"))
		return strcmp(text_of(json_object_get(event, "evidence"), "state"), "down") ? STANDING_UP
											    : STANDING_DOWN;
	return strcmp(what, "gone") ? N_STANDINGS : STANDING_UNKNOWN;
}

static void history_take(struct record *r, const json_t *event)
{
	const struct moment moment = moment_of(event);
	int64_t until_ns, at_ns;
	enum standing standing;
	uint32_t object;

	if (!strcmp(text_of(event, "what"), "ledger opened")) {
		/* From the moment that the shuntd before was last known to run nobody looked. */
		if (!wall_time_parse(&until_ns, text_of(json_object_get(event, "evidence"), "ran_until")))
			history_gap(r->history, timeline_between(&r->line, until_ns, &moment));
	}
	at_ns = timeline_at(&r->line, &moment);
	if (strcmp(text_of(event, "object"), "backend") || event_is_of_replaced(event))
		return;
	standing = standing_said(event);
	if (standing == N_STANDINGS || !name_object(r, text_of(event, "name"), &object))
		return;
	/* Who is drained can't fail: what he is afterwards is said then. "not up" is said of nobody who is. */
	if (!strcmp(text_of(event, "what"), "down") && history_standing(r->history, object) == STANDING_DRAINED)
		return;
	history_add(r->history, at_ns, object, standing);
}

/* ---- failovers ---- */

static uint64_t *moved_ns(const struct record *r, uint16_t backend)
{
	return (uint64_t *)&dataplane_backend_flows(r->shuntd->dataplane)[backend].moved_ns;
}

/* From the first unanswered round, or the one whose answer said so, to the flip, microseconds; NULL: nobody knows. */
static const json_t *fault_us(const json_t *down)
{
	const json_t *evidence = json_object_get(down, "evidence"), *us = json_object_get(evidence, "unanswered_us");

	return us ? us : json_object_get(evidence, "asked_us");
}

/* Of those that are asked by probes: what others take is a matter of how they are asked. */
static void detection_count(struct record *r, const json_t *down)
{
	bool is_checked = json_object_get(json_object_get(down, "evidence"), "check");
	const json_t *us = is_checked ? NULL : fault_us(down);

	for (size_t i = 0; us && i < N_FAILURES; i++)
		if (!strcmp(text_of(down, "why"), backend_verdict_name(BACKEND_WORD(BACKEND_DOWN, failures[i]))))
			histogram_add(&r->detection[i], 1000 * (uint64_t)json_integer_value(us));
}

static void failover_begin(struct record *r, const json_t *down)
{
	const struct backend_run *b = backend_find(r->shuntd, text_of(down, "name"));
	struct failover *f = b ? calloc(1, sizeof(*f)) : NULL;
	uint64_t moved;

	detection_count(r, down);
	if (!f)
		return;
	*f = (struct failover){ .next = r->failovers,
				.down = json_incref((json_t *)down),
				.backend = b->id,
				.flip_ns = number_of(down, "at_ns"),
				.learnt_ns = monotonic_ns() };
	r->failovers = f;
	/* A packet that saw it down as it came up may have noted its time behind the 0 that was written then. */
	moved = __atomic_load_n(moved_ns(r, b->id), __ATOMIC_RELAXED);
	if (moved && moved + EARLY_NS < f->flip_ns)
		__atomic_store_n(moved_ns(r, b->id), 0, __ATOMIC_RELAXED);
}

/* What an event says of a failover that isn't through. */
static void failover_follow(const struct record *r, struct failover *f, const json_t *event)
{
	const char *what = text_of(event, "what"), *name = text_of(event, "name");
	const struct backend_run *b = backend_by_id(r->shuntd, f->backend);
	json_t *evidence = json_object_get(event, "evidence"), *outage = json_object_get(evidence, "outage_us");

	if (!strcmp(text_of(event, "object"), "pool")) {
		if (b && !f->table_ns && !strcmp(what, "table rebuilt") && !strcmp(name, b->pool->name) &&
		    number_of(event, "at_ns") >= f->flip_ns)
			f->table_ns = number_of(event, "at_ns");
		return;
	}
	if (strcmp(name, text_of(f->down, "name")))
		return;
	if (!strcmp(what, "flows told") && !f->told)
		f->told = json_incref(evidence);
	if (outage && !f->outage_us)
		f->outage_us = json_incref(outage);
	f->is_over = f->is_over || outage || !strcmp(what, "down") || !strcmp(what, "gone");
}

void record_event(void *record, const json_t *event, bool is_old)
{
	struct record *r = record;

	history_take(r, event);
	if (is_old || event_is_of_replaced(event))
		return;
	for (struct failover *f = r->failovers; f; f = f->next)
		failover_follow(r, f, event);
	if (!strcmp(text_of(event, "what"), "down") && !strcmp(text_of(event, "object"), "backend"))
		failover_begin(r, event);
}

static json_t *us_since(uint64_t from_ns, uint64_t at_ns)
{
	if (!at_ns)
		return json_null();
	return json_integer(at_ns > from_ns ? (json_int_t)((at_ns - from_ns) / 1000) : 0);
}

static json_t *copy_or_null(const json_t *value)
{
	return value ? json_incref((json_t *)value) : json_null();
}

static const char *detector_name(const struct shuntd *s, const struct backend_run *b, const json_t *down)
{
	if (!strcmp(text_of(down, "why"), backend_verdict_name(BACKEND_WORD(BACKEND_DOWN, VERDICT_UNRESOLVED))))
		return "routes";
	if (dataplane_sessions(s->dataplane)[b->id].kind == SESSION_CHECKED)
		return "checker";
	return s->detector == DETECTOR_KERNEL ? "kernel" : "controller";
}

static void failover_tell(struct record *r, const struct failover *f, const struct backend_run *b, uint64_t moved)
{
	const json_t *n_told = json_object_get(f->told, "flows");
	uint64_t told_ns = 0;

	if (moved)
		histogram_add(&r->steering, moved > f->flip_ns ? moved - f->flip_ns : 0);
	/* The tell began when its fall was learnt of. */
	if (json_integer_value(n_told))
		told_ns = f->learnt_ns + 1000 * number_of(f->told, "last_us");
	ledger_add(r->shuntd->ledger, f->flip_ns, "backend", b->conf.name, "failover", text_of(f->down, "why"),
		   json_pack("{s:s, s:I, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "pool", b->pool->name, "down",
			     (json_int_t)number_of(f->down, "number"), "detector", detector_name(r->shuntd, b, f->down),
			     "fault_us", copy_or_null(fault_us(f->down)), "learnt_us",
			     us_since(f->flip_ns, f->learnt_ns), "first_heir_us", us_since(f->flip_ns, moved),
			     "flows_told", copy_or_null(n_told), "flows_reset",
			     copy_or_null(json_object_get(f->told, "closed")), "told_us", us_since(f->flip_ns, told_ns),
			     "table_us", us_since(f->flip_ns, f->table_ns), "outage_us", copy_or_null(f->outage_us)));
}

static void failover_free(struct failover *f)
{
	json_decref(f->down);
	json_decref(f->told);
	json_decref(f->outage_us);
	free(f);
}

/* Tell of it, if all is through or nothing more is waited for. */
static bool failover_ends(struct record *r, struct failover *f, uint64_t now_ns)
{
	const struct backend_run *b = backend_by_id(r->shuntd, f->backend);
	uint64_t moved = __atomic_load_n(moved_ns(r, f->backend), __ATOMIC_RELAXED);
	bool is_through =
		b && f->told && (f->table_ns || !b->pool->heirs_changed) && (moved || now_ns > f->flip_ns + PACKET_NS);

	if (b && !is_through && !f->is_over && now_ns < f->flip_ns + FAILOVER_NS)
		return false;
	if (b)
		failover_tell(r, f, b, moved);
	return true;
}

/* ---- backends that nothing is known of ---- */

/* Whether something is; of one that never served it may be of another that had its name. */
static bool is_known(const struct record *r, uint32_t object, const struct backend_run *b)
{
	enum standing standing = history_standing(r->history, object);
	bool is_new = BACKEND_WORD_VERDICT(b->last_word) == VERDICT_JOINING && !b->draining;

	return standing == STANDING_DOWN || (standing != STANDING_UNKNOWN && !is_new);
}

static void look(struct record *r, uint64_t now_ns)
{
	const struct shuntd *s = r->shuntd;

	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];
		uint32_t object;

		if (b->draining == VERDICT_REMOVED || !name_object(r, b->conf.name, &object) || is_known(r, object, b))
			continue;
		if (b->draining)
			ledger_add(s->ledger, 0, "backend", b->conf.name, "draining", "it drained already", NULL);
		else if (BACKEND_WORD_STATE(b->last_word) == BACKEND_UP)
			ledger_add(s->ledger, 0, "backend", b->conf.name, "up", "it served already", NULL);
		else if (now_ns > b->since_ns + JOIN_NS)
			ledger_add(s->ledger, 0, "backend", b->conf.name, "not up", backend_verdict_name(b->last_word),
				   json_pack("{s:I}", "for_ms", (json_int_t)((now_ns - b->since_ns) / 1000000)));
	}
}

/* End those that end, or all. */
static void failovers_end(struct record *r, uint64_t now_ns, bool all)
{
	for (struct failover **at = &r->failovers, *f; (f = *at);) {
		f->is_over = f->is_over || all;
		if (!failover_ends(r, f, now_ns)) {
			at = &f->next;
			continue;
		}
		*at = f->next;
		failover_free(f);
	}
}

void record_run(struct record *r)
{
	uint64_t now_ns = monotonic_ns();

	failovers_end(r, now_ns, false);
	if (now_ns < r->looked_ns + LOOK_NS)
		return;
	r->looked_ns = now_ns;
	look(r, now_ns);
}

void record_end(struct record *r)
{
	if (r)
		failovers_end(r, monotonic_ns(), true);
}

/* ---- figures ---- */

int record_figures(struct record *r, uint64_t window_ns, struct record_figures *out)
{
	const struct shuntd *s = r->shuntd;
	const struct moment now = {
		.boot = r->line.last.boot, /* this one's: an event was added since it began, or none is old */
		.mono_ns = monotonic_ns(),
		.wall_ns = (int64_t)clock_ns(CLOCK_REALTIME)
	};
	struct timeline line = r->line;
	int64_t now_ns = timeline_at(&line, &now), start_ns = history_start(r->history), from_ns;
	uint32_t *object_of = calloc(s->n_backends + 1, sizeof(*object_of)), *group_of = NULL;
	struct availability *objects = NULL;
	int err = -ENOMEM;

	from_ns = window_ns > (uint64_t)(now_ns - start_ns) ? start_ns : now_ns - (int64_t)window_ns;
	*out = (struct record_figures){ .backends = calloc(s->n_backends + 1, sizeof(*out->backends)),
					.pools = calloc(s->n_pools + 1, sizeof(*out->pools)),
					.window_ns = (uint64_t)(now_ns - from_ns),
					.since_ns = now.wall_ns - (now_ns - from_ns) };
	if (!out->backends || !out->pools || !object_of)
		goto out;
	for (size_t i = 0; i < s->n_backends; i++)
		if (!name_object(r, s->backends[i]->conf.name, &object_of[i]))
			goto out;
	group_of = malloc((r->n_names + 1) * sizeof(*group_of));
	objects = calloc(r->n_names + 1, sizeof(*objects));
	if (!group_of || !objects)
		goto out;
	memset(group_of, 0xff, r->n_names * sizeof(*group_of)); /* NO_GROUP */
	for (size_t i = 0; i < s->n_backends; i++)
		for (uint32_t p = 0; p < s->n_pools && !backend_is_replaced(s, s->backends[i]); p++)
			if (s->pools[p] == s->backends[i]->pool)
				group_of[object_of[i]] = p;
	err = history_figures(r->history, from_ns, now_ns, group_of, objects, r->n_names, out->pools, s->n_pools);
	for (size_t i = 0; !err && i < s->n_backends; i++)
		out->backends[i] = objects[object_of[i]];
out:
	free(object_of);
	free(group_of);
	free(objects);
	if (err)
		record_figures_free(out);
	return err;
}

void record_figures_free(struct record_figures *figures)
{
	free(figures->backends);
	free(figures->pools);
	*figures = (struct record_figures){ 0 };
}

/* ---- histograms ---- */

bool record_histogram(const struct record *record, unsigned i, struct record_histogram *out)
{
	if (i > N_FAILURES)
		return false;
	*out = (struct record_histogram){ .name = "steering",
					  .help = "from the flip to the first packet that an heir got instead",
					  .times = &record->steering };
	if (i < N_FAILURES)
		*out = (struct record_histogram){
			.name = "detection",
			.help = "from the first probe that stayed unanswered, or whose answer said so, to the flip",
			.verdict = backend_verdict_name(BACKEND_WORD(BACKEND_DOWN, failures[i])),
			.times = &record->detection[i]
		};
	return true;
}

/* ---- open, close ---- */

int record_open(struct record **out, struct shuntd *shuntd)
{
	struct record *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->shuntd = shuntd;
	r->history = history_new(HISTORY_MAX);
	if (!r->history) {
		free(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

void record_close(struct record *r)
{
	if (!r)
		return;
	while (r->failovers) {
		struct failover *f = r->failovers;

		r->failovers = f->next;
		failover_free(f);
	}
	tdestroy(r->names, free);
	history_free(r->history);
	free(r);
}
