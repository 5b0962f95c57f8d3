/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer.h - what each request is answered; the socket itself is control.c's. The wire is include/shunt/control.h.
 */
#ifndef SHUNTD_ANSWER_H
#define SHUNTD_ANSWER_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "shunt/control.h"
#include "shuntd/shuntd.h"

struct request {
	struct shuntd *shuntd;
	uid_t uid; /* the client's, from the kernel */
	bool is_admin; /* and so may command, as root may */
	const json_t *args; /* an object or NULL; borrowed */
	/* out */
	enum control_code code; /* of the error */
	char error[640]; /* one sentence, without a full stop; with the place of what is wrong in a configuration */
	bool monitor; /* results follow from the ledger, from number `monitor_from` on */
	uint64_t monitor_from;
};

/*
 * Answer one line (without its newline). A new reference to the result (NULL for a monitor: its results come later),
 * or NULL with request->code and ->error filled. The caller fills shuntd and uid.
 */
json_t *answer(struct request *request, const char *line, size_t length);

/* The same for a command that was read already; args: an object or NULL, borrowed. */
json_t *answer_command(struct request *request, const char *object, const char *command, const json_t *args);

/* Arguments of a command that are all strings, as a URL has them, as what the command takes. A new object. */
json_t *answer_arguments(const char *object, const char *command, json_t *words);

/* ---- one object of an answer ---- */

json_t *vip_json(const struct shuntd *shuntd, const struct vip_run *vip);
json_t *backend_json(const struct shuntd *shuntd, const struct backend_run *backend);
json_t *probe_json(const struct shuntd *shuntd, const struct backend_run *backend);

/* ---- between answer.c and answer_*.c ---- */

/* Fill the refusal; returns NULL, so that a command can end with it. */
__attribute__((format(printf, 3, 4))) json_t *refuse(struct request *request, enum control_code code,
						     const char *format, ...);
json_t *refuse_unknown(struct request *request, const char *what, const char *name);

/* Of what the client sent, so much as may stand in a sentence: "" if it is too long to be a name of ours. */
const char *quoted(const char *text);

const char *arg_string(const struct request *request, const char *key); /* NULL: it is not there */
json_t *integer_or_null(bool known, uint64_t value);
json_t *us_json(uint64_t ns); /* rounded */
json_t *interval_json(uint64_t ns); /* exact */
json_t *address_json(const struct shunt_addr *address);

/* "hold_us" and "hold_left_us" of a backend into an object. */
void hold_set(json_t *object, const struct shuntd *shuntd, const struct backend_run *backend);

/* One object a backend, or of the one that args name. */
json_t *backends_json(struct request *request,
		      json_t *(*json)(const struct shuntd *shuntd, const struct backend_run *backend));

uint32_t backend_word(const struct shuntd *shuntd, uint16_t id);
bool backend_is_up(const void *shuntd, uint16_t id);
const char *backend_name(const struct shuntd *shuntd, uint16_t id); /* NULL for id 0 and for ids that nobody has */
const char *on_failure_name(enum on_failure on_failure);

json_t *backend_availability(const struct shuntd *shuntd,
			     const struct backend_run *backend); /* since the record began */

json_t *config_show(struct request *request);
json_t *config_reload(struct request *request);
json_t *config_apply(struct request *request);
json_t *config_diff(struct request *request);
json_t *probe_show(struct request *request);
json_t *pool_show(struct request *request);
json_t *event_show(struct request *request);
json_t *event_monitor(struct request *request);
json_t *event_summary(struct request *request);
json_t *stats_metrics(struct request *request); /* metrics.c */
json_t *daemon_show(struct request *request);
json_t *daemon_stop(struct request *request);
json_t *flow_where(struct request *request);
json_t *flow_show(struct request *request);
json_t *flow_count(struct request *request);
json_t *flow_reset(struct request *request);

#endif
