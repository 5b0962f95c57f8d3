/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * availability.c - see availability.h.
 */
#include "core/availability.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the time line ---- */

static int64_t distance_ns(const struct moment *from, const struct moment *to)
{
	return from->boot == to->boot ? (int64_t)(to->mono_ns - from->mono_ns) : to->wall_ns - from->wall_ns;
}

int64_t timeline_at(struct timeline *line, const struct moment *m)
{
	int64_t step_ns = line->has_begun ? distance_ns(&line->last, m) : 0;

	if (line->has_begun && line->last.boot == m->boot && step_ns < 0)
		return line->at_ns; /* an event is told a little after it happened: the newest moment stays */
	line->has_begun = true;
	line->last = *m;
	line->at_ns += step_ns > 0 ? step_ns : 0;
	return line->at_ns;
}

int64_t timeline_between(const struct timeline *line, int64_t wall_ns, const struct moment *end)
{
	struct timeline ahead = *line;
	int64_t end_ns = timeline_at(&ahead, end), at_ns = line->at_ns + (wall_ns - line->last.wall_ns);

	if (!line->has_begun || at_ns > end_ns)
		return end_ns;
	return at_ns < line->at_ns ? line->at_ns : at_ns;
}

/* ---- the history ---- */

#define ALL_OBJECTS UINT32_MAX

struct change {
	int64_t at_ns;
	uint32_t object; /* or ALL_OBJECTS, to STANDING_UNKNOWN */
	uint32_t standing;
};

struct history {
	struct change *changes; /* n, oldest first */
	size_t n, n_max;
	int64_t start_ns;
	bool has_begun;
	/* by object: how it stood before the first change, and stands after the last */
	uint8_t *before, *now;
	size_t n_objects;
};

struct history *history_new(size_t n_max)
{
	struct history *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->n_max = n_max < 2 ? 2 : n_max;
	h->changes = calloc(h->n_max, sizeof(*h->changes));
	if (!h->changes) {
		free(h);
		return NULL;
	}
	return h;
}

void history_free(struct history *h)
{
	if (!h)
		return;
	free(h->changes);
	free(h->before);
	free(h->now);
	free(h);
}

static void standings_apply(uint8_t *standings, size_t n, const struct change *c)
{
	if (c->object == ALL_OBJECTS)
		memset(standings, STANDING_UNKNOWN, n);
	else
		standings[c->object] = (uint8_t)c->standing;
}

static int objects_grow(struct history *h, uint32_t object)
{
	size_t n = h->n_objects ? h->n_objects : 16;
	uint8_t *before, *now;

	while (n <= object)
		n *= 2;
	if (n == h->n_objects)
		return 0;
	before = realloc(h->before, n);
	if (before)
		h->before = before;
	now = realloc(h->now, n);
	if (now)
		h->now = now;
	if (!before || !now)
		return -ENOMEM;
	memset(before + h->n_objects, STANDING_UNKNOWN, n - h->n_objects);
	memset(now + h->n_objects, STANDING_UNKNOWN, n - h->n_objects);
	h->n_objects = n;
	return 0;
}

/* The older half is forgotten, but for what it came to. */
static void history_forget(struct history *h)
{
	size_t half = h->n / 2;

	for (size_t i = 0; i < half; i++)
		standings_apply(h->before, h->n_objects, &h->changes[i]);
	h->start_ns = h->changes[half].at_ns;
	h->n -= half;
	memmove(h->changes, h->changes + half, h->n * sizeof(*h->changes));
}

static void change_append(struct history *h, const struct change *c)
{
	if (!h->has_begun)
		h->start_ns = c->at_ns;
	h->has_begun = true;
	if (h->n == h->n_max)
		history_forget(h);
	h->changes[h->n++] = *c;
	standings_apply(h->now, h->n_objects, c);
}

int history_add(struct history *h, int64_t at_ns, uint32_t object, enum standing standing)
{
	const struct change c = { .at_ns = at_ns, .object = object, .standing = standing };
	int err = objects_grow(h, object);

	if (!err && (h->now[object] != standing || !h->has_begun))
		change_append(h, &c);
	return err;
}

int history_gap(struct history *h, int64_t at_ns)
{
	const struct change c = { .at_ns = at_ns, .object = ALL_OBJECTS, .standing = STANDING_UNKNOWN };
	int err = objects_grow(h, 0);

	if (!err)
		change_append(h, &c);
	return err;
}

enum standing history_standing(const struct history *h, uint32_t object)
{
	return object < h->n_objects ? (enum standing)h->now[object] : STANDING_UNKNOWN;
}

int64_t history_start(const struct history *h)
{
	return h->start_ns;
}

/* ---- the figures ---- */

/* One thing whose standing is followed. */
struct meter {
	struct availability *out;
	enum standing standing;
	int64_t since_ns; /* accounted for up to here */
	uint64_t up_ns; /* of the up time that is under way, interruptions left out */
	int64_t failed_ns; /* when the outage began that is under way */
	bool is_outage; /* and was not interrupted */
};

/* Up to a moment it stood as it does. */
static void meter_run(struct meter *m, int64_t from_ns, int64_t at_ns)
{
	int64_t begin_ns = m->since_ns > from_ns ? m->since_ns : from_ns;

	if (at_ns > begin_ns)
		m->out->time_ns[m->standing] += (uint64_t)(at_ns - begin_ns);
	if (m->standing == STANDING_UP)
		m->up_ns += (uint64_t)(at_ns - m->since_ns);
	m->since_ns = at_ns;
}

static void meter_set(struct meter *m, int64_t from_ns, int64_t at_ns, enum standing standing)
{
	enum standing before = m->standing;
	bool counts = at_ns >= from_ns;

	if (standing == before)
		return;
	meter_run(m, from_ns, at_ns);
	m->standing = standing;
	if (before == STANDING_UP && standing == STANDING_DOWN) {
		m->is_outage = true;
		m->failed_ns = at_ns;
		m->out->failures += counts;
		m->out->up_times_ns += counts ? m->up_ns : 0;
	} else if (standing == STANDING_UP && m->is_outage) {
		m->out->repairs += counts;
		m->out->repairs_ns += counts ? (uint64_t)(at_ns - m->failed_ns) : 0;
	}
	if (standing == STANDING_DOWN)
		m->up_ns = 0;
	else
		m->is_outage = false;
}

/* A group's members by their standing. */
struct members {
	size_t n[N_STANDINGS];
};

static enum standing members_standing(const struct members *m)
{
	return m->n[STANDING_UP]        ? STANDING_UP
	       : m->n[STANDING_UNKNOWN] ? STANDING_UNKNOWN
	       : m->n[STANDING_DRAINED] ? STANDING_DRAINED
	       : m->n[STANDING_DOWN]    ? STANDING_DOWN
					: STANDING_UNKNOWN;
}

struct sweep {
	int64_t from_ns;
	const uint32_t *group_of;
	struct meter *objects, *groups;
	struct members *members;
};

static void object_set(struct sweep *s, int64_t at_ns, uint32_t object, enum standing standing)
{
	struct meter *m = &s->objects[object];
	uint32_t group = s->group_of[object];

	if (group != NO_GROUP) {
		s->members[group].n[m->standing]--;
		s->members[group].n[standing]++;
		meter_set(&s->groups[group], s->from_ns, at_ns, members_standing(&s->members[group]));
	}
	meter_set(m, s->from_ns, at_ns, standing);
}

int history_figures(const struct history *h, int64_t from_ns, int64_t now_ns, const uint32_t *group_of,
		    struct availability *objects, size_t n_objects, struct availability *groups, size_t n_groups)
{
	struct sweep s = { .from_ns = from_ns > h->start_ns ? from_ns : h->start_ns,
			   .group_of = group_of,
			   .objects = calloc(n_objects + 1, sizeof(*s.objects)),
			   .groups = calloc(n_groups + 1, sizeof(*s.groups)),
			   .members = calloc(n_groups + 1, sizeof(*s.members)) };
	int err = s.objects && s.groups && s.members ? 0 : -ENOMEM;

	for (uint32_t i = 0; !err && i < n_objects; i++) {
		enum standing standing = i < h->n_objects ? (enum standing)h->before[i] : STANDING_UNKNOWN;

		objects[i] = (struct availability){ 0 };
		s.objects[i] = (struct meter){ .out = &objects[i], .standing = standing, .since_ns = h->start_ns };
		if (group_of[i] != NO_GROUP)
			s.members[group_of[i]].n[standing]++;
	}
	for (uint32_t i = 0; !err && i < n_groups; i++) {
		groups[i] = (struct availability){ 0 };
		s.groups[i] = (struct meter){ .out = &groups[i],
					      .standing = members_standing(&s.members[i]),
					      .since_ns = h->start_ns };
	}
	for (size_t i = 0; !err && i < h->n; i++) {
		const struct change *c = &h->changes[i];

		if (c->object < n_objects)
			object_set(&s, c->at_ns, c->object, (enum standing)c->standing);
		for (uint32_t o = 0; c->object == ALL_OBJECTS && o < n_objects; o++)
			object_set(&s, c->at_ns, o, STANDING_UNKNOWN);
	}
	for (size_t i = 0; !err && i < n_objects; i++)
		meter_run(&s.objects[i], s.from_ns, now_ns);
	for (size_t i = 0; !err && i < n_groups; i++)
		meter_run(&s.groups[i], s.from_ns, now_ns);
	free(s.objects);
	free(s.groups);
	free(s.members);
	return err;
}
