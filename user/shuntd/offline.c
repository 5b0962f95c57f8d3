// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * offline.c - see offline.h. Only commands that show what is in the maps.
 */
#include "shuntd/offline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shuntd/adopt.h"
#include "shuntd/answer.h"

static const char *const shown[][2] = {
	{ "vip", "show" },   { "backend", "show" }, { "pool", "show" }, { "slot", "show" },
	{ "stats", "show" }, { "flow", "where" },   { "flow", "show" }, { "flow", "count" },
};

static bool is_shown(const char *line, size_t length)
{
	json_t *message = json_loadb(line, length, 0, NULL);
	const char *object = json_string_value(json_object_get(message, "object"));
	const char *command = json_string_value(json_object_get(message, "command"));
	bool found = false;

	for (size_t i = 0; object && command && i < sizeof(shown) / sizeof(*shown); i++)
		found = found || (!strcmp(shown[i][0], object) && !strcmp(shown[i][1], command));
	json_decref(message);
	return found;
}

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "shuntd: %s: %s\n", what, why);
	return 1;
}

/* The ways are those that packets find. */
static void ways_read(struct shuntd *s)
{
	for (size_t i = 0; i < s->n_backends; i++) {
		struct backend_run *b = s->backends[i];
		const struct backend *record = &dataplane_backends(s->dataplane)[b->id];

		b->resolved = record->egress_ifindex;
		b->nexthop = (struct nexthop){ .ifindex = record->egress_ifindex,
					       .mtu_bytes = record->mtu_bytes,
					       .local = record->local };
		memcpy(b->nexthop.dst_mac, record->dst_mac, sizeof(record->dst_mac));
		memcpy(b->nexthop.src_mac, record->src_mac, sizeof(record->src_mac));
	}
}

static int line_answer(struct shuntd *s, const char *line, size_t length)
{
	struct request request = { .shuntd = s, .uid = getuid() };
	json_t *result = answer(&request, line, length);
	json_t *reply = result ? json_pack("{s:o}", "result", result)
			       : json_pack("{s:s, s:i}", "error", request.error, "code", request.code);
	int err = reply ? json_dumpf(reply, stdout, JSON_COMPACT) : -1;

	json_decref(reply);
	return err || putchar('\n') == EOF || fflush(stdout) ? fail("standard output", strerror(errno)) : 0;
}

int offline_answer(struct shuntd *s, const char *socket)
{
	static char line[CONTROL_REQUEST_MAX];
	const char *why = "";
	size_t length = fgets(line, sizeof(line), stdin) ? strcspn(line, "\n") : 0;
	int err;

	if (strcmp(socket, s->config->control_socket) != 0)
		return fail(s->config_path, "its socket is another one: SHUNT_CONFIG may name the right file");
	if (!is_shown(line, length))
		return fail("this request", "needs a shuntd that runs");
	if (!*s->config->pin)
		return fail(s->config_path, "it says 'pin: none', so nothing is left of an earlier run");
	if (dataplane_look(&s->dataplane, &s->pins, s->config->pin, &why))
		return fail(s->config->pin, why);
	err = adopt_read(s);
	if (err) {
		fail(s->config->pin, strerror(-err));
		goto out;
	}
	s->pace.interval_ns = s->config->probe_interval_ns;
	s->xdp_mode = calloc(s->config->n_interfaces, sizeof(*s->xdp_mode));
	if (!s->xdp_mode) {
		err = fail("no memory", strerror(ENOMEM));
		goto out;
	}
	ways_read(s);
	err = line_answer(s, line, length);
out:
	runs_free(s);
	dataplane_close(s->dataplane, DATAPLANE_LEAVE);
	free(s->xdp_mode);
	config_free(s->wanted);
	s->wanted = NULL;
	return err ? 1 : 0;
}
