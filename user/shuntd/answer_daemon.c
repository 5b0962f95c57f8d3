// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * answer_daemon.c - what requests about shuntd itself are answered: which one runs, what it went on with, and its end.
 */
#include <net/if.h>
#include <unistd.h>

#include "common/clock.h"
#include "shuntd/answer.h"

static json_t *interfaces_json(const struct shuntd *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->config->n_interfaces; i++) {
		const char *name = s->config->interfaces[i];
		unsigned ifindex = if_nametoindex(name);
		bool attached = ifindex && dataplane_attached(s->dataplane, ifindex);

		json_array_append_new(list, json_pack("{s:s, s:b, s:s?, s:o}", "name", name, "attached", attached,
						      "mode", attached ? s->xdp_mode[i] : NULL, "program",
						      integer_or_null(attached, dataplane_program_id(s->dataplane))));
	}
	return list;
}

json_t *daemon_show(struct request *r)
{
	const struct shuntd *s = r->shuntd;
	const struct about *about = dataplane_about(s->dataplane);
	bool pinned = s->pins.fd >= 0;
	const char *start = dataplane_inherited(s->dataplane)  ? "took over"
			    : dataplane_replaces(s->dataplane) ? "began anew"
							       : "first";
	uint64_t now_ns = monotonic_ns();

	return json_pack("{s:s, s:i, s:I, s:s, s:s?, s:s?, s:s, s:s, s:I, s:i, s:i, s:o}", "version", SHUNT_VERSION,
			 "pid", (int)getpid(), "uptime_s", (json_int_t)((now_ns - s->started_ns) / 1000000000),
			 "config", s->config_path, "pin", pinned ? s->pins.directory : NULL, "not_pinned_because",
			 pinned ? NULL : s->pins.why, "start", start, "generation", pinned ? s->pins.run : "",
			 "maps_age_s", (json_int_t)((now_ns - about->began_ns) / 1000000000), "runs",
			 (int)about->n_runs, "layout", SHUNT_ABI_VERSION, "interfaces", interfaces_json(s));
}

/* The answer is on its way when the main loop ends: whoever asked waits for the process. */
json_t *daemon_stop(struct request *r)
{
	struct shuntd *s = r->shuntd;

	s->detach = json_object_get(r->args, "detach");
	s->ending = true;
	return json_pack("{s:i, s:b}", "pid", (int)getpid(), "detach", s->detach);
}
