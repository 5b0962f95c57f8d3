/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * watch.h - which processes are the engine: found by its listening port, its cgroup or its pid file, and told to
 * bpf/agent_watch.bpf.c, which sees them end. Here engines begin; and here is noticed what those programs can't see.
 *
 * The engine's main processes: of those that hold the listening socket the ones that descend from no other that does; the
 * oldest of the cgroup; the one of the pid file. Its workers: all that descend from a main process. The end of a main
 * process is the engine's, unless it left in good order to others that go on. So is the crash of a worker; then the engine is
 * dead until another main process comes. An engine whose main processes all caught SIGTERM or SIGINT drains: its host gets no
 * new connections while it ends those that it has.
 */
#ifndef AGENT_WATCH_H
#define AGENT_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "agent/before.h"
#include "common/pins.h"
#include "core/config.h"
#include "shunt/agent.h"

struct watch;

struct watch_options {
	const struct config_engine *config;
	int agent_fd; /* map `agent` */
	struct agent_word *word; /* its memory */
	uint64_t *beat; /* memory of map `agent_beat` */
	const struct before *before; /* what an agent that was killed knew of the engine */
};

/*
 * 0, or -errno. A kernel that refuses the programs is said on stderr, and then ends are noticed by looking, within tens of
 * milliseconds.
 */
int watch_open(struct watch **out, const struct watch_options *options);
void watch_close(struct watch *w); /* NULL is allowed */

/* Pin what sees the engine's end, so that it goes on seeing it if this agent is killed. */
void watch_pin(const struct watch *w, struct pins *pins);

enum watch_news {
	WATCH_NOTHING,
	WATCH_BEGAN, /* an engine began; its `word->engine` is ENGINE_LOADING */
	WATCH_WENT_ON, /* this agent found the engine that the one before it knew; likewise */
};

/* A turn, every some 20 ms. Says on stderr what becomes of the engine. */
enum watch_news watch_run(struct watch *w);

/* Whether the engine that an earlier agent knew is still looked for: a few turns at the most. */
bool watch_seeks(const struct watch *w);

/* A line, for people. */
void watch_describe(const struct watch *w, FILE *f);

#endif
