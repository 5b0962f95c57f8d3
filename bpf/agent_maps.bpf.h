/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * agent_maps.bpf.h - the map that both of the agent's objects use; shunt-agent makes its two names mean one map. What only
 * one of them uses is declared there. Value: include/shunt/agent.h.
 */
#ifndef SHUNT_AGENT_MAPS_BPF_H
#define SHUNT_AGENT_MAPS_BPF_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "shunt/agent.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct agent_word);
} agent SEC(".maps");

#endif
