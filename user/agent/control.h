/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * control.h - the running agent's Unix socket, for root alone: out of service, back, how it stands.
 *
 * SOCK_SEQPACKET, one message each way: "drain", "undrain" or "status"; the answer is "STATE CONNECTIONS VIPS", such as
 * "draining 12 2": the state after it, how many connections this host's VIPs have, how many VIPs it knows; or
 * "error SENTENCE". That of "status" has more lines, for people. The agent never waits: a client that says nothing loses its
 * place to the next.
 */
#ifndef AGENT_CONTROL_H
#define AGENT_CONTROL_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "shunt/agent.h"

#define AGENT_CLIENTS_MAX 8 /* at a time, chosen */
#define AGENT_MESSAGE_MAX 16384 /* bytes; chosen: a line for each interface, and more */

struct control_server;

struct control_options {
	const char *path;
	const struct shunt_addr *vips; /* sorted; whose connections are counted */
	size_t n_vips;
	struct agent_word *word; /* `draining` is ours: 1 from `drain` to `undrain` */
	const uint64_t *beat; /* map `agent_beat` */
	void (*describe)(FILE *f, void *arg); /* the further lines of "status" */
	void *arg;
};

/* Bind and listen; an agent that answers on the same path is -EADDRINUSE, a stale socket is replaced. 0 or -errno. */
int control_open(struct control_server **out, const struct control_options *options);
void control_close(struct control_server *server); /* removes the socket; NULL is allowed */

/* What to poll: fills up to 1 + AGENT_CLIENTS_MAX descriptors, returns how many. Then control_run() with the same. */
nfds_t control_poll(const struct control_server *server, struct pollfd *fds);
void control_run(struct control_server *server, const struct pollfd *fds, nfds_t n);

/* ---- the asking side ---- */

/*
 * Ask the agent on `path`. 0 and its answer as text, or -errno; -ETIMEDOUT after a few seconds.
 */
int control_ask(const char *path, const char *request, char answer[AGENT_MESSAGE_MAX]);

#endif
