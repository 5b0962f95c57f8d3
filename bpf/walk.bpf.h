/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * walk.bpf.h - the packet's walk. Each step decides (a reason) or passes the packet on (GO_ON); verdict() turns the
 * reason into an action and counts it. Heartbeats are looked at behind the VIPs: traffic for a VIP doesn't pay for
 * them, and nothing that a client sends to a VIP is taken for one.
 */
#ifndef SHUNT_WALK_BPF_H
#define SHUNT_WALK_BPF_H

#include "choose.bpf.h"
#include "forward.bpf.h"
#include "heartbeat.bpf.h"
#include "icmp.bpf.h"
#include "maps.bpf.h"
#include "packet.bpf.h"
#include "parse.bpf.h"
#include "verdict.bpf.h"
#include "vip.bpf.h"

static __always_inline enum reason not_for_vip(struct packet *p)
{
	if (p->protocol != IPPROTO_UDP || p->is_icmp_error || p->is_fragment ||
	    !heartbeat_matches(p->client_port, p->vip_port))
		return REASON_NOT_VIP;
	return heartbeat_leave(p->ctx);
}

static __always_inline enum reason walk(struct packet *p)
{
	struct served served;
	struct vip *vip;
	enum reason reason;

	reason = parse(p);
	if (reason == GO_ON && p->is_icmp_error)
		reason = icmp_follow(p);
	if (reason != GO_ON)
		return reason;
	p->hash = packet_hash(p, hash_whole);
	vip = vip_find(p);
	if (!vip)
		return not_for_vip(p);
	reason = vip_admit(p, vip);
	if (reason == GO_ON)
		reason = choose(p, vip, &served);
	if (reason != GO_ON)
		return reason;
	reason = forward(p, served.backend);
	if (reason == REASON_FORWARDED || reason == REASON_REDIRECTED)
		traffic_count(bpf_map_lookup_elem(&backend_stats, &served.id), p);
	return reason;
}

static __always_inline int shunt_walk(struct xdp_md *ctx)
{
	struct packet p = {
		.ctx = ctx,
		.frame_bytes = ctx->data_end - ctx->data,
		.flaw = GO_ON,
	};

	packet_reload(&p);
	return verdict(walk(&p));
}

#endif
