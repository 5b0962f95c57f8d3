/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * netlink.h - what the kernel's tables say about the way to an address: route, neighbour, link. The only file of
 * shuntd that sees libmnl is netlink.c.
 */
#ifndef SHUNTD_NETLINK_H
#define SHUNTD_NETLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "shunt/abi.h"

struct netlink;

struct nexthop {
	uint32_t ifindex; /* egress interface */
	bool on_link; /* no gateway between: needed by forward l2 */
	uint8_t dst_mac[6]; /* the neighbour's (or the gateway's) */
	uint8_t src_mac[6]; /* the egress interface's */
	uint16_t mtu_bytes; /* of the route where it has one, else of the interface; capped at 65535 */
	struct shunt_addr local; /* preferred source address */
};

/* Called from netlink_read() once for a batch of changes to links, addresses, routes or neighbours. */
typedef void netlink_changed_fn(void *arg);

/* Open, subscribe. 0 or -errno. */
int netlink_open(struct netlink **out, netlink_changed_fn *changed, void *arg);
void netlink_close(struct netlink *nl);

/* To be polled for reading; then netlink_read(): 0 or -errno. A lost message (ENOBUFS) counts as a change. */
int netlink_fd(const struct netlink *nl);
int netlink_read(struct netlink *nl);

/*
 * The way to an address now. 0; -ENETUNREACH: no route; -EHOSTUNREACH: no usable neighbour entry yet, and the kernel
 * was asked to find one (a change follows when it has); -ENETDOWN: the interface is down; or another -errno.
 */
int netlink_resolve(struct netlink *nl, const struct shunt_addr *address, struct nexthop *out);

#endif
