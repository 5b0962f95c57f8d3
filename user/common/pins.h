/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pins.h - the directory in a bpffs by which a daemon's side in the kernel outlives it, and the next one finds it.
 *
 *   xdp-IFINDEX               link: the program at an interface. The next run replaces its program in one step
 *   NAME-RUN                  what belongs together
 *
 * of shunt-agent, where RUN is drawn at each start, so that nothing else is shared between runs:
 *   agent-RUN, watched-RUN    maps of a run, from which the next learns how things stand (before.h)
 *   watch_*-RUN               links: the programs that see the engine's end, for that run's map
 *   beat                      map: the memory that the engine beats in, used again by the next run
 * of shuntd, where RUN counts the layouts, and a run goes on with the maps of the one before (dataplane.h):
 *   about-RUN, backends-RUN.. maps; `about` is the last to be pinned, so where it is all of them are
 *   table-ID                  map: a table in force, ID being its number in the kernel
 *
 * A run puts its own beside what it finds, then replaces the programs at the interfaces, then removes what isn't its own.
 * So wherever it is killed, each interface's program still has all that belongs to it.
 *
 * A clean end of shunt-agent removes everything, one of shuntd nothing. The directory is locked: it is one daemon's.
 */
#ifndef COMMON_PINS_H
#define COMMON_PINS_H

#include <stddef.h>
#include <stdint.h>

#include "core/config.h"

#define PIN_NAME_MAX 32
#define PINS_MAX (SHUNT_MAX_INTERFACES + 2 * SHUNT_MAX_POOLS + 64) /* of one run */

struct pins {
	const char *program; /* who complains */
	const char *loss; /* what follows when nothing is pinned, as in "so this host falls silent if ..." */
	int fd; /* the directory; -1: nothing is pinned, because of `why` */
	char directory[CONFIG_PATH_MAX];
	char run[9];
	char why[CONFIG_PATH_MAX + 128];
	char own[PINS_MAX][PIN_NAME_MAX]; /* put or taken over by this run */
	size_t n_own;
};

/*
 * Make the directory (mode 0700) and lock it; a daemon that ends is waited for, a second. 0; or -EBUSY: another has it. What
 * else is in the way is said on stderr, and then nothing is pinned: the daemon goes on. "": nobody wants pins. `program` and
 * `loss` are the caller's, and are all that *p need have.
 */
int pins_open(struct pins *p, const char *directory);
void pins_run(struct pins *p, uint32_t run); /* RUN from now on */

/* Only to get, beside whoever has it. 0 or -errno. */
int pins_look(struct pins *p, const char *directory);

/* A name's path, PINS_PATH_MAX bytes at the most; and with the run's number. Each returns the buffer. */
#define PINS_PATH_MAX (CONFIG_PATH_MAX + PIN_NAME_MAX)
const char *pins_path(const struct pins *p, const char *name, char path[PINS_PATH_MAX]);

/* A pinned object's descriptor, or -errno; -ENOENT too if nothing is pinned. pins_get_run(): of NAME-RUN. */
int pins_get(const struct pins *p, const char *name);
int pins_get_run(const struct pins *p, const char *name);

/* Pin an object as `name`, in place of what has it; pins_put_run() as NAME-RUN. A failure is said, and survived. */
void pins_put(struct pins *p, const char *name, int fd);
void pins_put_run(struct pins *p, const char *name, int fd);

void pins_own(struct pins *p, const char *name); /* this one is there, and this run's; pins_own_run(): NAME-RUN */
void pins_own_run(struct pins *p, const char *name);
void pins_remove(struct pins *p, const char *name); /* one of our own */
void pins_sweep(struct pins *p); /* remove what isn't our own */
void pins_remove_all(struct pins *p); /* all of our own */
void pins_leave(struct pins *p); /* they stay, for the next run */
void pins_close(struct pins *p); /* remove our own, and the directory if nothing else is in it */

/* The greatest RUN below `below` that something of this name is pinned with; 0: none. */
uint32_t pins_newest(const struct pins *p, const char *name, uint32_t below);

/* The interface that an XDP link is at, and its program's number. 0: none any more. */
unsigned pins_link_ifindex(int link, uint32_t *program);

#endif
