/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * keys.h - the keys of the probes' tags, from their file to the program's map; and a word to the operator when probes are
 * refused for want of the right one.
 */
#ifndef AGENT_KEYS_H
#define AGENT_KEYS_H

#include <stdint.h>
#include <stdio.h>

#include "core/config.h"
#include "shunt/agent.h"

struct keys {
	const struct agent_config *config;
	int map_fd; /* map `probe_keys` */
	int reasons_fd; /* map `agent_reasons` */
	const struct agent_word *word;
	uint64_t n; /* in force; 0: tags aren't looked at */
	uint64_t refused; /* probes without the right tag, when last said */
	uint64_t look_ns, say_ns; /* CLOCK_MONOTONIC: not to look, not to say before */
};

/*
 * Read the file, and from then on its keys are in force. At the start and whenever it may be another. 0, or -errno after a
 * sentence on stderr: those from before stay.
 */
int keys_read(struct keys *k);

/* In each turn: say that probes bear no right tag, at most once a minute. */
void keys_run(struct keys *k, uint64_t now_ns);

/* A line for people, if tags are demanded. */
void keys_describe(const struct keys *k, FILE *f);

#endif
