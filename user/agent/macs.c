// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * macs.c - see macs.h.
 */
#include "agent/macs.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/socket.h>

#include <bpf/bpf.h>

#include "shunt/agent.h"

#define MACS_PERIOD_NS 200000000ULL /* chosen: an address that changes is a silence of so long */

int macs_run(struct macs *m, uint64_t now_ns)
{
	struct ifaddrs *all;
	__u32 one = 1;
	int err = 0;

	if (now_ns < m->next_ns)
		return 0;
	m->next_ns = now_ns + MACS_PERIOD_NS;
	if (getifaddrs(&all))
		return -errno;
	for (const struct ifaddrs *i = all; i && !err; i = i->ifa_next) {
		const struct sockaddr_ll *link = (const void *)i->ifa_addr;
		struct agent_mac mac = { 0 };

		if (!link || link->sll_family != AF_PACKET || link->sll_halen != sizeof(mac.bytes))
			continue;
		memcpy(mac.bytes, link->sll_addr, sizeof(mac.bytes));
		err = bpf_map_update_elem(m->map_fd, &mac, &one, BPF_ANY);
	}
	freeifaddrs(all);
	return err;
}
