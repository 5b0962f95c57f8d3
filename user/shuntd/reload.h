/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reload.h - from one configuration to another without a broken connection: reads the file anew, computes what
 * changes (core/plan.h), applies it. A file that is wrong, or that asks for what can't be changed while running, changes
 * nothing.
 */
#ifndef SHUNTD_RELOAD_H
#define SHUNTD_RELOAD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "shuntd/shuntd.h"

/* The configuration of a file. 0; or -errno and a line in `why`: -EINVAL "FILE:LINE:COLUMN: ...", others "FILE: ...". */
int config_load(struct config **out, const char *path, char *why, size_t why_size);

/*
 * Whether this machine can do as the configuration says: its interfaces are there, and every backend can be reached by
 * its `forward`, no address is asked by BFD for two of them. 0; or -ENODEV, -EADDRNOTAVAIL or -EADDRINUSE, and one line in `why`.
 */
int config_check(const struct shuntd *shuntd, const struct config *config, char *why, size_t why_size);

/* The keys of its probe.key_file into *keys, whose `echo` is left alone; none where there is no such file. As above. */
int config_keys(struct probe_keys *keys, const struct config *config, char *why, size_t why_size);

/* The CPU that asks and evaluates: the configured one, or the last that we may use; -1: any. */
int config_cpu(const struct config *config);

/*
 * Reload the configuration from its path (SIGHUP, `shunt config reload`). force: removed backends are cut, not drained.
 * 0, and *changes is a new array of sentences, one a change ("backend gpu4 added to pool gpus", ...; empty: none);
 * or -errno, and `why` says in one line what is wrong (FILE:LINE:COLUMN: ... where the file is). -EBUSY: flows are
 * still led over after the reload before. Returns when new packets follow the new configuration, but for VIPs that
 * change their pool or hash, which follow one after another; the ledger's "reloaded" says when all is done.
 */
int shuntd_reload(struct shuntd *shuntd, bool force, json_t **changes, char *why, size_t why_size);

/* SIGHUP: the same, told by the ledger alone; while flows are being led over it waits for that. */
void shuntd_reload_asked(struct shuntd *shuntd);

/* Go on with a reload whose flows are being led over. In each turn of the main loop; mostly there is nothing to do. */
void reload_run(struct shuntd *shuntd);

#endif
