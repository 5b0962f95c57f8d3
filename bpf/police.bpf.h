/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * police.bpf.h - how many are too many: the generic cell rate algorithm (ITU-T I.371, virtual scheduling), for SYNs of a
 * source prefix and for RSTs that a CPU sends. A rate is held by one word, the time at which the next one is due.
 */
#ifndef SHUNT_POLICE_BPF_H
#define SHUNT_POLICE_BPF_H

#include "maps.bpf.h"

#define RATE_TRIES 4 /* chosen: CPUs that count for one source at the same moment */

/*
 * Is this one above the rate, coming more than burst_ns before it is due? What is within puts the next one's time off by
 * a period. Who loses against other CPUs each time is within, uncounted.
 */
static __always_inline int rate_is_above(__u64 *due_ns, __u64 now_ns, __u64 period_ns, __u64 burst_ns)
{
	for (int i = 0; i < RATE_TRIES; i++) {
		__u64 due = *(volatile __u64 *)due_ns, from = due > now_ns ? due : now_ns;

		if (from - now_ns > burst_ns)
			return 1;
		if (__sync_val_compare_and_swap(due_ns, due, from + period_ns) == due)
			return 0;
	}
	return 0;
}

/* Is this SYN to be dropped? One that is above its source's limit is counted in any case. */
__noinline int police_syn(struct flow_key *flow, __u32 vip, __u64 now_ns)
{
	struct police *limit = bpf_map_lookup_elem(&police, &vip);
	struct police_key key = { .vip = vip };
	struct traffic *traffic;
	__u64 *due, first;

	if (!flow || !limit)
		return 0;
	key.prefix.w[0] = flow->client.w[0] & limit->mask[0];
	key.prefix.w[1] = flow->client.w[1] & limit->mask[1];
	key.prefix.w[2] = flow->client.w[2] & limit->mask[2];
	key.prefix.w[3] = flow->client.w[3] & limit->mask[3];
	due = bpf_map_lookup_elem(&police_buckets, &key);
	if (!due) {
		first = now_ns + limit->period_ns;
		if (!bpf_map_update_elem(&police_buckets, &key, &first, BPF_NOEXIST))
			return 0;
		due = bpf_map_lookup_elem(&police_buckets, &key); /* another CPU was faster */
	}
	if (!due || !rate_is_above(due, now_ns, limit->period_ns, limit->burst_ns))
		return 0;
	traffic = bpf_map_lookup_elem(&vip_stats, &vip);
	if (traffic)
		traffic->policed++;
	return limit->drop;
}

#endif
