/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reload.h - from one configuration to another without a broken connection: reads it, computes what changes
 * (core/plan.h), applies it. One that is wrong, or that asks for what can't be changed while running, changes nothing.
 */
#ifndef SHUNTD_RELOAD_H
#define SHUNTD_RELOAD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "shuntd/shuntd.h"

/* The configuration of a file. 0; or -errno and a line in `why`: -EINVAL "FILE:LINE:COLUMN: ...", others "FILE: ...". */
int config_load(struct config **out, const char *path, char *why, size_t why_size);

/* What a configuration asks for and can't have, though it parses. */
struct config_fault {
	struct config_error error; /* where, 0: where `key` stands; and what, in one sentence */
	char key[CONFIG_NAME_MAX]; /* as of config_place() */
};

/*
 * Whether this machine can do as the configuration says: its interfaces are there, and every backend can be reached by
 * its `forward`, no address is asked by BFD for two of them. 0; or -ENODEV, -EADDRNOTAVAIL or -EADDRINUSE, and the fault.
 */
int config_check(const struct shuntd *shuntd, const struct config *config, struct config_fault *fault);

/* The keys of its probe.key_file into *keys, whose `echo` is left alone; none where there is no such file. 0 or -errno. */
int config_keys(struct probe_keys *keys, const struct config *config, char *why, size_t why_size);

/* The CPU that asks and evaluates: the configured one, or the last that we may use; -1: any. */
int config_cpu(const struct config *config);

/* What is to become the running configuration. */
struct reload {
	const char *text; /* NULL: shuntd's own file as it is now */
	size_t length;
	const char *name; /* of the text's file, as whoever sent it calls it: begins what is said of it */
	bool force; /* removed backends are cut, not drained, those of a reload before too */
	bool only_look; /* say what would change, or what is wrong */
};

/*
 * Change from the running configuration to another one. Weights that commands gave stay in force.
 * 0, and *changes is a new array of sentences, one a change ("backend gpu4 added to pool gpus", ...; empty: none);
 * or -errno, and `why` says in one line what is wrong (FILE:LINE:COLUMN: ...). -EBUSY: flows are still being led over.
 * Returns when new packets follow the new configuration, but for VIPs that change their pool or hash, which follow one
 * after another; the ledger's "reloaded" says when all is done.
 */
int shuntd_reload(struct shuntd *shuntd, const struct reload *how, json_t **changes, char *why, size_t why_size);

/*
 * At the start, after adopt_read(): what runs is what an earlier run had; from now on shuntd->wanted holds, as after a reload.
 * 0; or -errno: what ran runs on, and the ledger says why.
 */
int shuntd_take_over(struct shuntd *shuntd);

/* SIGHUP: shuntd's own file, told by the ledger alone; while flows are being led over it waits for that. */
void shuntd_reload_asked(struct shuntd *shuntd);

/*
 * Give a backend that is configured a weight that holds against the configured one; 0: the configured one. Its pool's
 * flows are led over as those of a reload. 0; -ENOENT: the configuration no longer has it.
 */
int shuntd_set_weight(struct shuntd *shuntd, struct backend_run *backend, uint32_t weight);

/* Go on with a reload whose flows are being led over. In each turn of the main loop; mostly there is nothing to do. */
void reload_run(struct shuntd *shuntd);

#endif
