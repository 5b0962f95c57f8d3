/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sockets.h - the TCP sockets of this network namespace, from the kernel's own list (sock_diag(7)). Some 0.5 us for each
 * socket of the host.
 */
#ifndef AGENT_SOCKETS_H
#define AGENT_SOCKETS_H

#include <linux/inet_diag.h>
#include <stdint.h>

/* Called for one socket. */
typedef void (*socket_take_t)(const struct inet_diag_msg *socket, void *arg);

/* Those of IPv4 and of IPv6 in these states (bits 1 << TCP_ESTABLISHED and so on), with this local port; 0: any. 0 or -errno. */
int sockets_dump(uint32_t states, uint16_t port, socket_take_t take, void *arg);

#endif
