// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * coroner.bpf.c - when the kernel's out-of-memory killer last chose a victim, for coroner.c: nobody else can tell the
 * moment of that fault.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} chosen_ns SEC(".maps"); /* CLOCK_MONOTONIC of the first choice since it was zeroed; 0: none */

SEC("raw_tp/mark_victim")
int choice(void *ctx)
{
	__u32 zero = 0;
	__u64 *at_ns = bpf_map_lookup_elem(&chosen_ns, &zero);

	if (at_ns && !*at_ns)
		*at_ns = bpf_ktime_get_ns();
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
