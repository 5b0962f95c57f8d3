/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * keys.bpf.h - the keys of tags, declared once for balancer and agent. Written by shuntd or shunt-agent.
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

#endif
