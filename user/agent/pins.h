/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pins.h - the directory in a bpffs by which the kernel's side outlives a killed agent, and the next one finds it.
 *
 *   xdp-IFINDEX               link: the program at an interface. The next run replaces its program in one step
 *   agent-RUN, watched-RUN    maps of a run, from which the next learns how things stand (before.h)
 *   watch_*-RUN               links: the programs that see the engine's end, for that run's map
 *   beat                      map: the memory that the engine beats in, used again by the next run
 *
 * RUN is drawn at each start. Nothing else is shared between runs, which may be of different versions. A run puts its own
 * beside what it finds, then replaces the programs at the interfaces, then removes what isn't its own. So wherever it is
 * killed, each interface's program still has the programs that end the engine's life in its map. Who left what, and which
 * of it is in force, need not be known: until the last step nobody can change what the runs say.
 *
 * A clean end removes everything. The directory is locked: it is one agent's.
 */
#ifndef AGENT_PINS_H
#define AGENT_PINS_H

#include <stddef.h>
#include <stdint.h>

#include "core/config.h"

#define PIN_NAME_MAX 32
#define PINS_MAX (SHUNT_MAX_INTERFACES + 16) /* of one run */

struct pins {
	int fd; /* the directory; -1: nothing is pinned, because of `why` */
	char directory[CONFIG_PATH_MAX];
	char run[9];
	char why[CONFIG_PATH_MAX + 128];
	char own[PINS_MAX][PIN_NAME_MAX]; /* put or taken over by this run */
	size_t n_own;
};

/*
 * Make the directory (mode 0700) and lock it; an agent that ends is waited for, a second. 0; or -EBUSY: another has it. What
 * else is in the way is said on stderr, and then nothing is pinned: the agent goes on. "": nobody wants pins.
 */
int pins_open(struct pins *p, const char *directory, uint32_t run);

/* A name's path, PINS_PATH_MAX bytes at the most; and with the run's number. Each returns the buffer. */
#define PINS_PATH_MAX (CONFIG_PATH_MAX + PIN_NAME_MAX)
const char *pins_path(const struct pins *p, const char *name, char path[PINS_PATH_MAX]);

/* A pinned object's descriptor, or -errno; -ENOENT too if nothing is pinned. */
int pins_get(const struct pins *p, const char *name);

/* Pin an object as `name`, in place of what has it; pins_put_run() as NAME-RUN. A failure is said, and survived. */
void pins_put(struct pins *p, const char *name, int fd);
void pins_put_run(struct pins *p, const char *name, int fd);

void pins_own(struct pins *p, const char *name); /* this one is there, and this run's */
void pins_remove(struct pins *p, const char *name); /* one of our own */
void pins_sweep(struct pins *p); /* remove what isn't our own */
void pins_close(struct pins *p); /* remove our own, and the directory if nothing else is in it */

#endif
