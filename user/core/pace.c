/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pace.c - see pace.h.
 */
#include <stdbool.h>

#include "core/pace.h"

static uint64_t longer(uint64_t interval_ns)
{
	return interval_ns < PACE_INTERVAL_MAX_NS / 2 ? 2 * interval_ns : PACE_INTERVAL_MAX_NS;
}

uint64_t pace_fit(uint64_t configured_ns, uint64_t cost_ns, uint64_t reach_ns)
{
	uint64_t interval_ns = configured_ns;

	while (interval_ns < PACE_INTERVAL_MAX_NS && (2 * cost_ns > interval_ns || reach_ns > interval_ns))
		interval_ns = longer(interval_ns);
	return interval_ns;
}

static enum pace_change over(const struct pace *p, const struct pace_look *look)
{
	if (2 * look->cost_ns > p->interval_ns)
		return PACE_COST;
	if (look->reach_ns > p->interval_ns)
		return PACE_FAR;
	return 4 * look->n_late > look->n_rounds ? PACE_LATE : PACE_KEPT;
}

static void widen(struct pace *p, const struct pace_look *look, uint64_t now_ns)
{
	uint64_t fit_ns = pace_fit(p->interval_ns, look->cost_ns, look->reach_ns);
	bool again = p->widened_ns && now_ns - p->widened_ns < PACE_PATIENCE_MAX_NS;

	p->interval_ns = fit_ns > p->interval_ns ? fit_ns : longer(p->interval_ns);
	p->patience_ns = again ? 2 * p->patience_ns : PACE_PATIENCE_MIN_NS;
	if (p->patience_ns > PACE_PATIENCE_MAX_NS)
		p->patience_ns = PACE_PATIENCE_MAX_NS;
	p->widened_ns = now_ns;
	p->n_over = 0;
}

enum pace_change pace_update(struct pace *p, const struct pace_look *look, uint64_t now_ns)
{
	enum pace_change why = over(p, look);
	uint64_t shorter_ns = p->interval_ns / 2 > look->configured_ns ? p->interval_ns / 2 : look->configured_ns;

	if (why) {
		p->room_since_ns = 0;
		if (++p->n_over < 2 || p->interval_ns >= PACE_INTERVAL_MAX_NS)
			return PACE_KEPT;
		widen(p, look, now_ns);
		return why;
	}
	p->n_over = 0;
	if (p->interval_ns == look->configured_ns || 6 * look->cost_ns > shorter_ns || look->reach_ns > shorter_ns) {
		p->room_since_ns = 0;
		return PACE_KEPT;
	}
	if (!p->room_since_ns)
		p->room_since_ns = now_ns;
	if (now_ns - p->room_since_ns < p->patience_ns)
		return PACE_KEPT;
	p->interval_ns = shorter_ns;
	p->room_since_ns = 0;
	return PACE_ROOM;
}
