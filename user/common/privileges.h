/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * privileges.h - give up the capabilities that aren't needed, for good. Which are needed, each daemon's main.c says.
 */
#ifndef COMMON_PRIVILEGES_H
#define COMMON_PRIVILEGES_H

#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>

#define PRIVILEGE(name) (1ULL << CAP_##name)

/*
 * Keep of the capabilities at most these, in every set that a thread has, and never gain one by executing a program
 * (capabilities(7)). It is the calling thread that gives up, and the threads that it makes afterwards: call it while there is
 * no other. Repeated with fewer, the call before must have kept CAP_SETPCAP. 0 or -errno.
 */
int privileges_keep(uint64_t set);
bool privileges_have(uint64_t set); /* whether the calling thread has all of these */

#endif
