/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * plug.h - what plug.bpf.c and the programs that pull plugs share. Times are CLOCK_MONOTONIC, ns.
 */
#ifndef TESTS_PLUG_H
#define TESTS_PLUG_H

#include <linux/types.h>

#define PLUG_MAX_PORTS 256 /* map `unplugged`: ifindex in the switch's namespace -> __u64, 0: plugged */
#define PLUG_FROM 1ULL /* what comes from the host is dropped */
#define PLUG_TO 2ULL /* what goes to it */
#define PLUG_LOSS(permille) ((__u64)(permille) << 8) /* so much of what goes to it, by chance */
#define PLUG_LOSS_PERMILLE(word) ((word) >> 8)
#define PLUG_MAX_HOSTS 64 /* map `seen`: host -> struct seen */
#define PLUG_SOURCE_PORTS 65536 /* map `watched`: source port -> __u64, the trial it is watched in */

/* map `armed`: one __u64, the trial in progress, counted from 1; 0: none. */

/* What one host's interface received, after its XDP program. */
struct seen {
	__u64 trial; /* the newest trial that saw a watched packet here */
	__u64 first_ns; /* when it saw the first one; zeroed before a trial is armed */
	__u64 watched; /* packets of watched flows, ever */
	__u64 packets; /* TCP and UDP packets, ever */
	__u64 pad[4];
};

#endif
