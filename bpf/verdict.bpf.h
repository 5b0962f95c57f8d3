/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * verdict.bpf.h - from reason to action, and the count: the only place that names an XDP action, so that every packet
 * is in exactly one counter.
 */
#ifndef SHUNT_VERDICT_BPF_H
#define SHUNT_VERDICT_BPF_H

#include "maps.bpf.h"
#include "shunt/reasons.h"

#define VERDICT_ACTION(name, action, sentence) \
	case REASON_##name:                    \
		return XDP_##action;

static __always_inline int verdict(enum reason reason)
{
	__u32 key = reason;
	__u64 *packets = bpf_map_lookup_elem(&reasons, &key);

	if (packets)
		(*packets)++;
	switch (reason) {
		SHUNT_REASONS(VERDICT_ACTION)
	default:
		return XDP_ABORTED;
	}
}

#endif
