/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * choose.bpf.h - which backend: the slot's owner, if nothing speaks against it. What does is a state other than up, flows
 * that are not where the hash says, or a segment that opens or ends a flow: those are flow.bpf.h's.
 *
 * What isn't journalled, UDP and fragments, goes to the owner if it is up, else to the heir, else to the same of a few
 * other slots.
 */
#ifndef SHUNT_CHOOSE_BPF_H
#define SHUNT_CHOOSE_BPF_H

#include "flow.bpf.h"
#include "maps.bpf.h"
#include "packet.bpf.h"
#include "slot.bpf.h"

/* Who serves a packet. */
struct served {
	struct backend *backend;
	__u32 id;
};

/* By its id, as a function returned it: 0: nobody; negative: FLOW_REASON(). */
static __always_inline enum reason serve(struct served *s, int id)
{
	if (id < 0) {
		__u32 reason = FLOW_REASON(id);

		barrier_var(reason); /* the verifier is to see that it isn't GO_ON */
		return reason < REASON_COUNT ? reason : REASON_TABLE_MISSING;
	}
	if (!id)
		return REASON_NO_BACKEND;
	s->id = id;
	s->backend = bpf_map_lookup_elem(&backends, &s->id);
	return s->backend ? GO_ON : REASON_TABLE_MISSING;
}

/*
 * Something speaks against the slot's owner, or at least against not looking. One way out of here for all packets, so that
 * the verifier follows the rest of the walk no more often than it must. The packet may be changed behind its pointers:
 * into a RST.
 */
static __always_inline enum reason choose_otherwise(struct packet *p, struct vip *vip, __u32 slot, __u32 owner,
						    struct served *s)
{
	struct flow_job *job;
	int id;

	if (!(vip->flags & VIP_JOURNAL) || p->is_fragment) {
		id = vip->n_slots ? slot_serve(vip->table, slot, p->hash, vip->n_slots) : 0;
	} else {
		job = flow_job_here();
		if (!job)
			return REASON_TABLE_MISSING;
		job->key.client = p->client.addr;
		job->key.vip = p->vip.addr;
		job->key.client_port = p->client_port;
		job->key.vip_port = p->vip_port;
		job->key.protocol = p->protocol;
		job->hash = p->hash;
		job->slot = slot;
		job->owner = owner;
		job->l3 = p->l3;
		job->l4 = p->l4;
		job->ip_bytes = p->ip_bytes;
		job->frame_bytes = p->frame_bytes;
		job->tcp_flags = p->tcp_flags;
		job->is_v6 = p->is_v6;
		job->is_icmp_error = p->is_icmp_error;
		id = p->is_new_flow ? flow_open(p->ctx, vip) : flow_follow(p->ctx, vip);
	}
	packet_reload(p);
	return serve(s, id);
}

/* Sets the backend and its id. */
static __always_inline enum reason choose(struct packet *p, struct vip *vip, struct served *s)
{
	__u32 n_slots = vip->n_slots, number = 0;
	const struct slot *slot;
	void *table;

	if (vip->flags & VIP_MASKED)
		p->hash = packet_hash(p, vip->hash_mask);
	s->id = 0;
	if (n_slots) { /* else it was emptied: the flows that it had go on */
		table = bpf_map_lookup_elem(&tables, &vip->table);
		if (!table)
			return REASON_TABLE_MISSING;
		number = hash_slot(p->hash, n_slots);
		slot = slot_look_up(table, number);
		if (!slot)
			return REASON_TABLE_MISSING;
		s->id = slot->owner;
		s->backend = bpf_map_lookup_elem(&backends, &s->id);
		if (!s->backend)
			return REASON_TABLE_MISSING;
		if (__builtin_expect(!((backend_state(s->backend) ^ BACKEND_UP) |
				       *(volatile __u32 *)&s->backend->detours | (p->tcp_flags & TCP_FLAGS_OF_FLOWS) |
				       (vip->flags & (VIP_MIGRATING | VIP_CONFIRM))),
				     1))
			return GO_ON;
	}
	return choose_otherwise(p, vip, number, s->id, s);
}

#endif
