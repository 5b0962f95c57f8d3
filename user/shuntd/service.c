/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * service.c - see service.h.
 */
#include "shuntd/service.h"

#include <inttypes.h>
#include <sys/prctl.h>

#include "common/clock.h"
#include "common/notify.h"
#include "shuntd/shuntd.h"

#define STATUS_PERIOD_NS 1000000000ULL /* at most one in this time, chosen */

/* How many are configured, and how many of these get new flows; where that is news. */
static void status_tell(struct shuntd *s)
{
	struct service *service = &s->service;
	unsigned n = 0, n_up = 0;

	for (size_t i = 0; i < s->n_backends; i++) {
		if (s->backends[i]->draining == VERDICT_REMOVED)
			continue;
		n++;
		n_up += BACKEND_WORD_STATE(s->backends[i]->last_word) == BACKEND_UP;
	}
	if (n == service->n_backends && n_up == service->n_up)
		return;
	service->n_backends = n;
	service->n_up = n_up;
	notify_send("STATUS=%u backends, %u up", n, n_up);
}

/* A sign of life, twice as often as it is wanted; withheld while the prober has not begun a round for as long, or two intervals. */
static void life_tell(struct shuntd *s, uint64_t now)
{
	struct service *service = &s->service;
	uint64_t round = __atomic_load_n(&dataplane_detector(s->dataplane)->round, __ATOMIC_RELAXED);
	uint64_t period_ns = service->watchdog_ns / 2;
	uint64_t patience_ns = period_ns > 2 * s->pace.interval_ns ? period_ns : 2 * s->pace.interval_ns;

	if (round != service->round || !service->moved_ns) {
		service->round = round;
		service->moved_ns = now;
	}
	if (!service->watchdog_ns || now < service->alive_ns || now - service->moved_ns > patience_ns)
		return;
	service->alive_ns = now + period_ns;
	notify_send("WATCHDOG=1");
}

void service_ready(struct shuntd *s)
{
	s->service = (struct service){ .watchdog_ns = notify_watchdog_ns() };
	prctl(PR_SET_NAME, SERVICE_READY_NAME);
	notify_send("READY=1");
}

void service_reloading(struct shuntd *s)
{
	s->service.reloads = true;
	notify_send("RELOADING=1");
}

void service_run(struct shuntd *s)
{
	struct service *service = &s->service;
	uint64_t now = monotonic_ns();

	if (service->reloads && !s->reloading && !s->reload_asked) {
		service->reloads = false;
		notify_send("READY=1");
	}
	life_tell(s, now);
	if (now < service->tell_ns)
		return;
	service->tell_ns = now + STATUS_PERIOD_NS;
	status_tell(s);
}

void service_stopping(void)
{
	notify_send("STOPPING=1");
}
