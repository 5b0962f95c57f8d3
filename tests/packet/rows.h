/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rows.h - the packet tests as a table: packet in, reason, whole frame out.
 */
#ifndef SHUNT_TESTS_ROWS_H
#define SHUNT_TESTS_ROWS_H

#include "world.h"

/* What the frame looks like when it leaves. */
enum leaves {
	UNTOUCHED = 0, /* byte for byte as it came */
	REWRITTEN, /* next hop's MAC, one hop less */
	IN_IPV4, /* the same behind an IPv4 header */
	IN_IPV6,
	ANSWERED, /* turned back by the VIP with the ICMP error that says `mtu` */
	RESET, /* turned back by the VIP as a RST */
};

struct row {
	const char *name; /* a sentence */
	struct spec in;
	enum reason reason;
	enum leaves leaves;
	unsigned mtu; /* ANSWERED */
	size_t quote_bytes; /* ANSWERED */
	unsigned meta_bytes; /* of the headroom, taken by metadata */
};

extern const struct row rows[];
extern const size_t n_rows;

#endif
