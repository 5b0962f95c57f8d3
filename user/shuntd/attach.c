// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * attach.c - see attach.h.
 */
#include "shuntd/attach.h"

#include <net/if.h>
#include <stdio.h>

#define RETRY_NS 1000000000ULL /* chosen */

static int complain(const char *name, const char *why)
{
	fprintf(stderr, "shuntd: interface %s: %s\n", name, why);
	return 1;
}

int attach_open(struct shuntd *s)
{
	const char *mode = "", *why = "";
	char name[IF_NAMESIZE] = "?";
	unsigned ifindex;

	for (size_t i = 0; i < s->config->n_interfaces; i++) {
		ifindex = if_nametoindex(s->config->interfaces[i]);
		if (!ifindex)
			return complain(s->config->interfaces[i], "no such interface");
		if (dataplane_attach(s->dataplane, ifindex, &mode, &why))
			return complain(s->config->interfaces[i], why);
		snprintf(s->xdp_mode[i], sizeof(s->xdp_mode[i]), "%s", mode);
	}
	if (!dataplane_take_over(s->dataplane, &ifindex, &why))
		return 0;
	if_indextoname(ifindex, name);
	return complain(name, why);
}

/* It is gone from an interface, and put there again if that is possible. */
static void interface_run(struct shuntd *s, size_t i, bool retry)
{
	const char *name = s->config->interfaces[i], *mode = "", *why = "no such interface";
	unsigned ifindex = if_nametoindex(name);

	if (ifindex && dataplane_attached(s->dataplane, ifindex))
		return;
	if (*s->xdp_mode[i])
		ledger_add(s->ledger, 0, "interface", name, "detached",
			   ifindex ? "somebody took the program off" : "the interface is gone", NULL);
	else if (!retry)
		return;
	s->xdp_mode[i][0] = 0;
	if (!ifindex || dataplane_attach(s->dataplane, ifindex, &mode, &why))
		return;
	snprintf(s->xdp_mode[i], sizeof(s->xdp_mode[i]), "%s", mode);
	ledger_add(s->ledger, 0, "interface", name, "attached again", mode, NULL);
}

void attach_run(struct shuntd *s, uint64_t now_ns)
{
	bool retry = now_ns >= s->attach_ns + RETRY_NS;

	for (size_t i = 0; i < s->config->n_interfaces; i++)
		interface_run(s, i, retry);
	if (retry)
		s->attach_ns = now_ns;
}
