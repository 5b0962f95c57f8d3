// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * shunt.bpf.c - the balancer's object: the program at the interface, and the detector's tick. The walk itself is in
 * walk.bpf.h, so that the bench runs the same text.
 */
#include "detect.bpf.h"
#include "walk.bpf.h"

SEC("xdp")
int shunt_ingress(struct xdp_md *ctx)
{
	return shunt_walk(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
