/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * beat.h - hands the engine the memory it beats in, over a Unix socket. See shunt/beat.h for the engine's side.
 *
 * A map pinned in a bpffs would do for an engine of root's only: to open it needs bpf(2), which containers' filters refuse,
 * and before Linux 5.19 a capability. A descriptor that was passed can be mapped by anybody.
 */
#ifndef AGENT_BEAT_H
#define AGENT_BEAT_H

#include "common/unix.h"
#include "core/config.h"

/* 0, or -errno with *why. -ENOENT: there is no such group. Close it in either case. */
int beat_open(struct unix_listener *l, const struct config_engine *config, const char **why);

/* Answer whoever has connected with the map's descriptor. Never waits. */
void beat_run(struct unix_listener *l, int map_fd);

#endif
