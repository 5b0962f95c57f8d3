/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * before.h - how things stood with an agent that was killed, read from what it left pinned, so that the one that takes
 * over says nothing else.
 */
#ifndef AGENT_BEFORE_H
#define AGENT_BEFORE_H

#include <stdbool.h>

#include "common/pins.h"
#include "shunt/agent.h"

struct before {
	bool found; /* there was one */
	bool draining; /* an operator took this host out of service */
	/* Its word, which the kernel's programs go on changing until they are replaced. NULL: none, or of another version,
	 * of which only `draining` is taken. */
	const struct agent_word *word;
	int watched_fd; /* its map `agent_watched`; -1: none, or of another version */
};

void before_open(struct before *b, const struct pins *p);
void before_close(struct before *b);

#endif
