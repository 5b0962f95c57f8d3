/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vips.h - makes a backend's host accept packets for VIPs: the addresses on the loopback, and the interfaces' settings
 * that keep the host from announcing them. Everything is remembered, so that it can be taken back.
 *
 * Each failure is said once, on stderr. What was changed is in a file too, the record: who comes after a killed agent
 * takes it back when it ends, or at once where it is not to be set up any more.
 */
#ifndef AGENT_VIPS_H
#define AGENT_VIPS_H

#include <net/if.h>
#include <stddef.h>

#include "shunt/abi.h"

struct vips_undo; /* what was changed, and what was there before */

/*
 * Put n VIPs on lo (/32 or /128), and on each of the interfaces, where IPv4's settings are below these:
 *   arp_ignore 1: answer ARP only for addresses of the interface that is asked, so never for a VIP on lo;
 *   arp_announce 2: don't name a VIP as the sender of our own ARP requests;
 *   rp_filter 2 where strict (1) is in force: decapsulated packets arrive with clients' addresses.
 * (Documentation/networking/ip-sysctl.rst of the kernel.) An address that is there already is left as it is. IPv6
 * needs no such setting: a neighbour solicitation is answered only for addresses of the interface it came in by.
 * vips and record, the file's path, are kept until vips_undo(); that the file can't be written is no error. 0, and *undo
 * is the caller's; or -errno, and then nothing is changed.
 */
int vips_setup(const struct shunt_addr *vips, size_t n, const char (*interfaces)[IF_NAMESIZE], size_t n_interfaces,
	       const char *record, struct vips_undo **undo);

/* This run takes the place of the one before: what that set up is this one's, but addresses that are no VIPs any more. */
void vips_settle(struct vips_undo *undo);

/*
 * Take back what is this run's, except what somebody else changed since; before vips_settle() that is what vips_setup()
 * changed. Frees `undo` (may be NULL, here and there).
 */
void vips_undo(struct vips_undo *undo);

#endif
