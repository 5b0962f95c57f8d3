/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * keys.bpf.h - the keys of tags and the check of a tag, once for balancer and agent. Keys are written by shuntd or
 * shunt-agent; while they do, a packet may see half a key, and is refused as if it were forged.
 */
#ifndef SHUNT_KEYS_BPF_H
#define SHUNT_KEYS_BPF_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "shunt/heartbeat.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_keys);
} probe_keys SEC(".maps");

/* A function of its own: some 700 instructions, needed up to three times. */
static __noinline __u64 tag_of(const struct siphash_key *key, const struct probe *probe)
{
	return probe_tag(key, probe);
}

/* Which of the two keys the probe's tag was made with, or TAG_FORGED. Both are tried whatever the first gives. */
#define TAG_FORGED 2
static __always_inline __u32 tag_signer(const struct probe_keys *keys, const struct probe *probe)
{
	__u64 first = tag_of(&keys->key[0], probe) ^ probe->trailer.tag;
	__u64 second = tag_of(&keys->key[1], probe) ^ probe->trailer.tag;

	barrier_var(first);
	barrier_var(second);
	return !first ? 0 : !second ? 1 : TAG_FORGED;
}

#endif
