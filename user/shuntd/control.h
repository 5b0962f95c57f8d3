/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * control.h - the Unix socket: who may ask, and what is answered. The wire is include/shunt/control.h.
 *
 * Never blocks the main loop: clients are non-blocking, their output is buffered up to a bound and a client that
 * doesn't read is cut off.
 */
#ifndef SHUNTD_CONTROL_H
#define SHUNTD_CONTROL_H

#include "shuntd/shuntd.h"

struct control;

/* Bind and listen; a live daemon on the same path is -EADDRINUSE, a stale socket is replaced. */
int control_open(struct control **out, struct shuntd *shuntd, const char *path, const char *group);
void control_close(struct control *control); /* removes the socket */

/* One epoll descriptor for the listener and all clients; poll it for reading, then control_run(). */
int control_fd(const struct control *control);
void control_run(struct control *control);

/* The ledger grew: pass the new events on to whoever monitors. */
void control_push_events(struct control *control);

#endif
