/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * health.c - see health.h. Reads what others keep; the only memory is of what must move and didn't.
 */
#include "shuntd/health.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shunt/detect.h"
#include "shuntd/backends.h"
#include "shuntd/checker.h"
#include "shuntd/shuntd.h"

/* Rounds and ticks stand still for so long beyond their interval, while the main loop runs: they have stopped. Chosen: a
 * real-time thread is throttled for 50 ms at most, a virtual machine is stalled for some 100. */
#define STOPPED_NS 500000000ULL
/* Looks further apart than this were made by a main loop that had no processor: nobody else may have had one. */
#define LOOK_LATE_NS (10 * BACKENDS_PERIOD_NS)
/* A start: who has not answered by then is not there. Chosen: a TCP check's second answer, ARP's second try. */
#define STARTING_NS 5000000000ULL
/* All are silent, and nobody bears witness, for so long: chosen, longer than any stall, shorter than a client waits. */
#define DEAF_NS 200000000ULL

/* A number that somebody counts up. */
struct watch {
	uint64_t value, moved_ns;
};

struct health {
	struct shuntd *shuntd;
	struct watch rounds, ticks;
	uint64_t looked_ns; /* CLOCK_MONOTONIC; 0: not yet */
	bool ever_well;
	char why[256]; /* "": well */
};

/* Whether it stood still for longer than STOPPED_NS and ten of its intervals. */
static bool watch_stopped(struct watch *w, uint64_t value, uint64_t interval_ns, bool late, uint64_t now)
{
	if (value != w->value || late || !w->moved_ns)
		*w = (struct watch){ value, now };
	return now - w->moved_ns > STOPPED_NS + 10 * interval_ns;
}

/* The first interface that has not our program; NULL: all have it. */
static const char *bare_interface(const struct shuntd *s)
{
	for (size_t i = 0; i < s->config->n_interfaces; i++)
		if (!dataplane_attached(s->dataplane, if_nametoindex(s->config->interfaces[i])))
			return s->config->interfaces[i];
	return NULL;
}

static bool is_alive(const struct shuntd *s, const struct backend_run *b)
{
	return word_is_judged(__atomic_load_n(&dataplane_backends(s->dataplane)[b->id].word, __ATOMIC_RELAXED));
}

/*
 * The first required VIP without a living backend; NULL: there is none. Who drains lives: its connections go on. A VIP
 * that a reload added counts from its first living backend on: that its backends are yet to join is no reason to leave.
 */
static const char *orphaned_vip(const struct health *h)
{
	const struct shuntd *s = h->shuntd;
	bool lives[SHUNT_MAX_POOLS] = { false };
	const char *name = NULL;

	for (size_t i = 0; i < s->n_backends; i++)
		if (is_alive(s, s->backends[i]))
			lives[s->backends[i]->pool->id] = true;
	for (size_t i = 0; i < s->n_vips; i++) {
		struct vip_run *v = s->vips[i];

		v->ever_served = v->ever_served || lives[v->pool->id];
		if (!name && v->conf.required && !lives[v->pool->id] && (v->ever_served || !h->ever_well))
			name = v->conf.name;
	}
	return name;
}

/*
 * Before it was ever fit: the first backend that is yet to be up. Its connections are at it, says the other balancer's table;
 * until it is up here as well, ours says something else.
 */
static const char *yet_to_answer(const struct health *h, uint64_t now)
{
	const struct shuntd *s = h->shuntd;

	if (h->ever_well || now > s->started_ns + STARTING_NS)
		return NULL;
	for (size_t i = 0; i < s->n_backends; i++) {
		const struct backend_run *b = s->backends[i];

		if (b->draining == VERDICT_NONE && !is_alive(s, b))
			return b->conf.name;
	}
	return NULL;
}

/* One sentence into `why`; "": well. */
static void look(struct health *h, uint64_t now, char *why, size_t size)
{
	const struct shuntd *s = h->shuntd;
	const struct detector *d = dataplane_detector(s->dataplane);
	uint64_t suspect_ns = __atomic_load_n(&d->suspect_since_ns, __ATOMIC_RELAXED);
	uint64_t deaf_ns = checker_deaf_ns(s->checker);
	bool late = now - h->looked_ns > LOOK_LATE_NS;
	bool asks = !watch_stopped(&h->rounds, __atomic_load_n(&d->round, __ATOMIC_RELAXED), s->pace.interval_ns, late,
				   now);
	bool judges =
		!watch_stopped(&h->ticks, __atomic_load_n(&d->ticks, __ATOMIC_RELAXED), s->pace.interval_ns, late, now);
	const char *interface = bare_interface(s), *vip = orphaned_vip(h), *backend = yet_to_answer(h, now);

	h->looked_ns = now;
	*why = 0;
	if (interface)
		snprintf(why, size, "the program is not attached to %s", interface);
	else if (!asks)
		snprintf(why, size, "the prober has stopped");
	else if (!judges)
		snprintf(why, size, "the detector has stopped");
	else if ((suspect_ns && now > suspect_ns + DEAF_NS) || (deaf_ns && now > deaf_ns + DEAF_NS))
		snprintf(why, size, "all backends are silent: is this host's own link cut?");
	else if (vip)
		snprintf(why, size, "%sno backend of VIP %s is up%s", h->ever_well ? "" : "starting: ", vip,
			 h->ever_well ? "" : " yet");
	else if (backend)
		snprintf(why, size, "starting: backend %s is not up yet", backend);
}

int health_open(struct health **out, struct shuntd *s, bool taken_over)
{
	struct health *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->shuntd = s;
	h->ever_well = taken_over;
	for (size_t i = 0; i < s->n_vips; i++)
		s->vips[i]->ever_served = taken_over;
	snprintf(h->why, sizeof(h->why), "%s", taken_over ? "" : "starting");
	*out = h;
	return 0;
}

void health_close(struct health *h)
{
	free(h);
}

void health_run(struct health *h, uint64_t now_ns)
{
	char why[sizeof(h->why)];

	look(h, now_ns, why, sizeof(why));
	h->ever_well = h->ever_well || !*why;
	if (!strcmp(why, h->why))
		return;
	memcpy(h->why, why, sizeof(why));
	ledger_add(h->shuntd->ledger, 0, "shuntd", "self", *why ? "ill" : "well", *why ? why : "fit to have the VIPs",
		   NULL);
}

const char *shuntd_ill(const struct shuntd *s, char *why, size_t size)
{
	snprintf(why, size, "%s", s->health ? s->health->why : "shuntd does not run");
	return *why ? why : NULL;
}
