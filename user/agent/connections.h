/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * connections.h - how many TCP connections this host's VIPs have: what a drain waits for.
 */
#ifndef AGENT_CONNECTIONS_H
#define AGENT_CONNECTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "shunt/abi.h"

/*
 * Count the TCP sockets of this network namespace whose local address is one of `vips`, sorted by memcmp(), and in which
 * this side still has something to say or to hear: SYN-RECEIVED, ESTABLISHED, CLOSE-WAIT, FIN-WAIT-1 (RFC 9293 3.3.2).
 * 0 or -errno.
 */
int connections_count(uint64_t *n, const struct shunt_addr *vips, size_t n_vips);

#endif
