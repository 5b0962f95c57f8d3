/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * offline.h - `shuntd --answer`: what `show` says while no shuntd runs, from the pinned maps, which are only read.
 */
#ifndef SHUNTD_OFFLINE_H
#define SHUNTD_OFFLINE_H

#include "shuntd/shuntd.h"

/*
 * Answer the request on standard input (shunt/control.h), as the shuntd would that had this socket and shuntd->config.
 * Returns the exit status. 1, and nothing on standard output: there is nothing to answer from, and stderr says why.
 */
int offline_answer(struct shuntd *shuntd, const char *socket);

#endif
