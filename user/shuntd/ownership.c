/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ownership.c - see ownership.h.
 */
#include "shuntd/ownership.h"

#include <net/if.h>
#include <string.h>

#include "shuntd/shuntd.h"

#define LOOPBACK_IFINDEX 1 /* of every network namespace: LOOPBACK_IFINDEX of the kernel's net_namespace.h */

/* Of several interfaces that have the address the one that isn't the loopback. */
static void take_address(void *arg, const struct shunt_addr *address, uint32_t ifindex)
{
	struct shuntd *s = arg;

	for (size_t i = 0; i < s->n_vips; i++) {
		struct vip_run *v = s->vips[i];

		if (!memcmp(&v->conf.address, address, sizeof(*address)) &&
		    (!v->held_ifindex || v->held_ifindex == LOOPBACK_IFINDEX))
			v->held_ifindex = ifindex;
	}
}

static void tell(struct shuntd *s, const struct vip_run *v, const char *what, uint32_t ifindex)
{
	char name[IF_NAMESIZE];

	ledger_add(s->ledger, 0, "vip", v->conf.name, what,
		   if_indextoname(ifindex, name) ? name : "an interface that is gone", NULL);
}

void ownership_read(struct shuntd *s)
{
	uint32_t before[SHUNT_MAX_VIPS];

	for (size_t i = 0; i < s->n_vips; i++) {
		before[i] = s->vips[i]->held_ifindex;
		s->vips[i]->held_ifindex = 0;
	}
	if (netlink_addresses(s->netlink, take_address, s)) {
		for (size_t i = 0; i < s->n_vips; i++)
			s->vips[i]->held_ifindex = before[i];
		return;
	}
	for (size_t i = 0; i < s->n_vips; i++) {
		const struct vip_run *v = s->vips[i];

		if (v->held_ifindex == before[i])
			continue;
		if (v->held_ifindex)
			tell(s, v, "held", v->held_ifindex);
		else
			tell(s, v, "released", before[i]);
	}
}

bool ownership_any(const struct shuntd *s)
{
	for (size_t i = 0; i < s->n_vips; i++)
		if (s->vips[i]->held_ifindex > LOOPBACK_IFINDEX)
			return true;
	return false;
}
