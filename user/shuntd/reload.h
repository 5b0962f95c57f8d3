/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reload.h - from one configuration to another without a broken connection: reads the file anew, computes what changes
 * (core/plan.h), applies it. A file that is wrong, or that asks for what can't be changed while running, changes nothing.
 */
#ifndef SHUNTD_RELOAD_H
#define SHUNTD_RELOAD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "shuntd/shuntd.h"

/*
 * Reload the configuration from its path (SIGHUP, `shunt config reload`). force: removed backends are cut, not drained.
 * 0, and *changes is a new array of sentences, one a change ("backend gpu4 added to pool gpus", ...; empty: none);
 * or -errno, and `why` says in one line what is wrong (FILE:LINE:COLUMN: ... where the file is).
 */
int shuntd_reload(struct shuntd *shuntd, bool force, json_t **changes, char *why, size_t why_size);

#endif
