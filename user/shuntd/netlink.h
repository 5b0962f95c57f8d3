/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * netlink.h - what the kernel's tables say about the way to an address: route, neighbour, link. The only file of
 * shuntd that sees libmnl is netlink.c.
 *
 * Decides nothing: the kernel is asked for each answer, so policy rules, longest prefix and learned path MTUs are
 * its own. What a way without an answer means for a backend is the caller's business. One thread uses all of it.
 */
#ifndef SHUNTD_NETLINK_H
#define SHUNTD_NETLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "shunt/abi.h"

struct netlink;

struct nexthop {
	uint32_t ifindex; /* egress interface. A limit: for a VLAN, bond or bridge it is that device, not the port */
	bool on_link; /* no gateway between: needed by forward l2 */
	uint8_t dst_mac[6]; /* the neighbour's (or the gateway's) */
	uint8_t src_mac[6]; /* the egress interface's */
	uint16_t mtu_bytes; /* the smaller of the route's, where it has one, and the interface's; capped at 65535 */
	struct shunt_addr local; /* source address the kernel would take; all zero: it has none */
};

/*
 * Called from netlink_read() and netlink_run(), at most once in each, when the answer of netlink_resolve() for any address it was asked
 * for has become another one. What differs is not said: ask again, from here at no cost.
 */
typedef void netlink_changed_fn(void *arg);

/* Open, subscribe. 0 or -errno. */
int netlink_open(struct netlink **out, netlink_changed_fn *changed, void *arg);
void netlink_close(struct netlink *nl);

/*
 * To be polled for reading (level-triggered); then netlink_read(): 0 or -errno. Lost messages (ENOBUFS) are no error:
 * every known address is asked for again.
 */
int netlink_fd(const struct netlink *nl);
int netlink_read(struct netlink *nl);

/* To be called every 10 ms: asks again for what may have been asked for too early, as netlink_read() does. 0 or -errno. */
int netlink_run(struct netlink *nl);

/*
 * The way to an address now; from then on its changes are told. *out is all zero unless 0 is returned.
 * 0;
 * -ENETUNREACH: no route, or one that forbids (blackhole, unreachable, prohibit), or the address is our own, a
 *   broadcast or a multicast; also while the route's interface is set down, because the kernel takes the route away;
 * -ENETDOWN: the route's interface has no carrier;
 * -EHOSTUNREACH: no usable neighbour entry. The kernel was asked to find one, and is asked again each time it gives
 *   up: about one solicitation a second, no data; a change follows when it has an answer;
 * -EOPNOTSUPP: the interface is not Ethernet;
 * or another -errno, for instance -ENOBUFS: the neighbour table is full. No change announces its end.
 */
int netlink_resolve(struct netlink *nl, const struct shunt_addr *address, struct nexthop *out);

/*
 * Whether an interface carries an address of a family (AF_INET, AF_INET6) that can be used as a source towards other
 * networks: not link-local, not tentative, not a duplicate. False where there is no such interface.
 */
bool netlink_has_family(struct netlink *nl, const char *ifname, int family);

/*
 * Every address that this host has and may use, tentative ones and duplicates left out, is told to `fn` in no order. 0, or
 * -errno, and then not all of them were.
 */
typedef void netlink_address_fn(void *arg, const struct shunt_addr *address, uint32_t ifindex);
int netlink_addresses(struct netlink *nl, netlink_address_fn *fn, void *arg);

/* Whether netlink_read() heard of an address that came or went, since this was asked the last time. */
bool netlink_addresses_changed(struct netlink *nl);

#endif
