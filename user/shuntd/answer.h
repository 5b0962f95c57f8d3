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
	const struct shuntd *shuntd;
	uid_t uid; /* the client's, from the kernel */
	const json_t *args; /* an object or NULL; borrowed */
	/* out */
	enum control_code code; /* of the error */
	char error[256]; /* one sentence, without a full stop */
	bool monitor; /* results follow from the ledger, from number `monitor_from` on */
	uint64_t monitor_from;
};

/*
 * Answer one line (without its newline). A new reference to the result (NULL for a monitor: its results come later),
 * or NULL with request->code and ->error filled. The caller fills shuntd and uid.
 */
json_t *answer(struct request *request, const char *line, size_t length);

#endif
