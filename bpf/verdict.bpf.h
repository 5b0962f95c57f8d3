/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * verdict.bpf.h - from reason to action, and the count: the only place that names an XDP action, so that every packet
 * is in exactly one counter.
 */
#ifndef SHUNT_VERDICT_BPF_H
#define SHUNT_VERDICT_BPF_H

#include "maps.bpf.h"
#include "shunt/reasons.h"

#define VERDICT_ACTION(name, action, sentence) XDP_##action,
static const __u8 verdict_actions[] = { SHUNT_REASONS(VERDICT_ACTION) };

static __always_inline int verdict(enum reason reason)
{
	__u32 key = reason;
	__u64 *packets;

	if (reason >= REASON_COUNT)
		return XDP_ABORTED;
	packets = bpf_map_lookup_elem(&reasons, &key);
	if (packets)
		(*packets)++;
	return verdict_actions[reason]; /* not key: after the call 6.12's verifier knows no bounds of it */
}

#endif
