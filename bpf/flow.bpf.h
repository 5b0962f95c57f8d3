/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.bpf.h - which flow is where. A SYN opens a flow: it is policed, led to a backend, recorded. Any other segment of a
 * journalled VIP that the hash alone doesn't lead follows its flow, or is an orphan: its backend is dead. Most packets
 * never come here: choose.bpf.h.
 *
 * An entry's word changes by compare-and-swap, and whoever wins adjusts the counts (`backend_flows.live`,
 * `backend.detours`): they are exact. Entries are given back by shuntd, but for one that the hash doesn't take.
 *
 * What an outsider can forge is believed as little as can be: no segment of his moves a flow that is open on a backend
 * that is up.
 */
#ifndef SHUNT_FLOW_BPF_H
#define SHUNT_FLOW_BPF_H

#include "maps.bpf.h"
#include "orphan.bpf.h"
#include "packet.bpf.h"
#include "police.bpf.h"
#include "slot.bpf.h"

/* Segments that open or end a flow, or pretend to. */
#define TCP_FLAGS_OF_FLOWS (TCP_FIN | TCP_SYN | TCP_RST)

/* The functions below return a backend's id, 0 (nobody) or, below 0, a reason. FLOW_REASON() is its own inverse. */
#define FLOW_REASON(x) (-1 - (int)(x))

#define WORD_TRIES 4 /* chosen: swaps that others may win before a packet goes on without having left its mark */

/* ---- words and counts ---- */

/* FLOW_DETOUR follows from the rest. */
static __always_inline __u64 flow_word(__u32 backend, __u32 owner, __u32 state, __u32 flags)
{
	flags &= ~FLOW_DETOUR;
	if (backend != owner || flags & (FLOW_RESET | FLOW_ASKED))
		flags |= FLOW_DETOUR;
	return FLOW_WORD((__u16)backend, (__u16)owner, state, flags);
}

/* Count for a word that came (n 1) or went (n -1). */
__noinline int flow_count(__u64 word, int n)
{
	__u32 id = FLOW_WORD_BACKEND(word), owner = FLOW_WORD_OWNER(word);
	struct backend_flows *served = bpf_map_lookup_elem(&backend_flows, &id);
	struct backend *b = bpf_map_lookup_elem(&backends, &owner);

	if (served && FLOW_WORD_STATE(word) == FLOW_OPEN)
		__sync_fetch_and_add(&served->live, (long)n);
	if (b && FLOW_WORD_FLAGS(word) & FLOW_DETOUR)
		__sync_fetch_and_add(&b->detours, n);
	return 0;
}

static __always_inline __u64 flow_word_load(const struct flow *f)
{
	return *(const volatile __u64 *)&f->word;
}

/* False: somebody else was faster. */
static __always_inline int flow_swap(struct flow *f, __u64 old, __u64 new)
{
	if (__sync_val_compare_and_swap(&f->word, old, new) != old)
		return 0;
	/* Flags that don't count are set most often. The new one first, so that no count passes through 0. */
	if ((old ^ new) & ~((__u64)(FLOW_CONFIRMED | FLOW_SYNCED) << 40)) {
		flow_count(new, 1);
		flow_count(old, -1);
	}
	return 1;
}

static __always_inline void flow_stats_add(__u32 opened, __u32 full, __u32 looked_up)
{
	__u32 zero = 0;
	struct flow_stats *stats = bpf_map_lookup_elem(&flow_stats, &zero);

	if (!stats)
		return;
	stats->opened += opened;
	stats->full += full;
	stats->looked_up += looked_up;
}

/* ---- entries ---- */

static __always_inline int flow_key_equal(const struct flow_key *a, const struct flow_key *b)
{
	const __u64 *x = (const void *)a, *y = (const void *)b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4]));
}

/* Word after word: all at once they would be on the stack, which has no room for them on Linux 6.1. */
static __always_inline void flow_key_copy(struct flow_key *to, const struct flow_key *from)
{
	__u64 *x = (void *)to;
	const __u64 *y = (const void *)from;

	x[0] = y[0];
	barrier();
	x[1] = y[1];
	barrier();
	x[2] = y[2];
	barrier();
	x[3] = y[3];
	barrier();
	x[4] = y[4];
}

/* What the hash says of a flow. */
struct flow_found {
	struct flow *flow; /* NULL: nothing, or an entry that is being given back */
	__u64 word; /* not 0 */
	__u32 entry;
	int is_stale; /* the hash has an entry that isn't the flow's any more */
};

static __always_inline struct flow_found flow_find(const struct flow_job *job)
{
	struct flow_found found = { 0 };
	__u32 *entry = bpf_map_lookup_elem(&flows, &job->key);
	struct flow *f;

	if (!entry)
		return found;
	found.entry = *entry;
	f = bpf_map_lookup_elem(&journal, &found.entry);
	if (!f)
		return found;
	found.word = flow_word_load(f);
	barrier();
	if (found.word && flow_key_equal(&f->key, &job->key))
		found.flow = f;
	else
		found.is_stale = 1;
	return found;
}

/* A free entry: one that was given back, else one never used. NULL: the journal is full. */
static __always_inline struct flow *flow_take(__u32 *entry)
{
	__u32 zero = 0;
	struct journal_state *state;

	if (bpf_map_pop_elem(&journal_free, entry)) {
		state = bpf_map_lookup_elem(&journal_state, &zero);
		if (!state || *(volatile __u32 *)&state->used >= state->capacity)
			return NULL;
		*entry = __sync_fetch_and_add(&state->used, 1);
	}
	return bpf_map_lookup_elem(&journal, entry);
}

/* All but the word and what shuntd alone writes. The frame is as it came. */
static __always_inline void flow_fill(struct flow *f, const struct packet *p, const struct flow_job *job, __u32 vip,
				      __u32 isn, __u64 now_ns)
{
	flow_key_copy(&f->key, &job->key);
	f->opened_ns = now_ns;
	f->seen_ns = now_ns;
	f->isn = isn;
	f->vip = vip;
	f->ingress_ifindex = p->ctx->ingress_ifindex;
}

/* Keep the frame of a SYN, so that it can walk again. The time says whether the rest is whole. */
static __always_inline void syn_keep(struct xdp_md *ctx, const struct flow_job *job, __u32 entry, __u64 now_ns)
{
	__u32 number = job->hash % SHUNT_SYNS, n_bytes = job->frame_bytes;
	struct syn *syn = bpf_map_lookup_elem(&syns, &number);

	barrier_var(n_bytes);
	if (!syn || n_bytes < ETH_HLEN || n_bytes > SYN_BYTES)
		return;
	__sync_lock_test_and_set(&syn->at_ns, 0);
	syn->entry = entry;
	syn->ifindex = ctx->ingress_ifindex;
	syn->n_bytes = n_bytes;
	if (!bpf_xdp_load_bytes(ctx, 0, syn->frame, n_bytes))
		__sync_lock_test_and_set(&syn->at_ns, now_ns);
}

/* ---- SYN ---- */

/* Who takes a new flow of the slot. */
static __always_inline int serve_new(const struct vip *vip, const struct flow_job *job)
{
	int id = vip->n_slots ? slot_serve(vip->table, job->slot, job->hash, vip->n_slots) : 0;

	return id < 0 ? FLOW_REASON(REASON_TABLE_MISSING) : id;
}

/* Record a flow in a free entry. is_stale: see struct flow_found. */
static __always_inline int flow_record(const struct packet *p, const struct flow_job *job, __u64 word, __u32 vip,
				       __u32 isn, __u64 now_ns, int is_stale, __u32 *entry)
{
	struct flow *f = flow_take(entry);

	if (!f) {
		flow_stats_add(0, 1, 0);
		return 0;
	}
	flow_fill(f, p, job, vip, isn, now_ns);
	if (__sync_val_compare_and_swap(&f->word, 0, word))
		return 0;
	flow_count(word, 1);
	if (!bpf_map_update_elem(&flows, &job->key, entry, is_stale ? BPF_ANY : BPF_NOEXIST))
		return 1;
	/* Another CPU recorded it at the same moment. If shuntd changed the word meanwhile, its sweep finds the entry. */
	if (__sync_val_compare_and_swap(&f->word, word, 0) == word) {
		flow_count(word, -1);
		bpf_map_push_elem(&journal_free, entry, 0);
	}
	return 0;
}

#define OPEN_QUIET_NS 60000000000LL /* chosen: what an open stream may be silent for; see bpf/README.md */
#define ENDED_QUIET_NS 1000000000LL /* chosen: what a client that goes on after a forged FIN or RST is */

/*
 * Whether a SYN stays with the backend that an entry names: it is a retransmission, or it is forged, or the flow ended
 * without a word. One that is up may have it, whichever it is. Else it is a new flow once nothing was heard of the old one
 * for a while: every packet of a flow that is away from its owner, or whose owner drains, is looked up.
 */
static __always_inline int syn_stays(const struct flow *f, __u64 word, __u32 isn, __u64 now_ns)
{
	__u32 is_open = FLOW_WORD_STATE(word) == FLOW_OPEN, state = backend_state_of(FLOW_WORD_BACKEND(word));

	if (FLOW_WORD_FLAGS(word) & FLOW_RESET || (state != BACKEND_UP && state != BACKEND_DRAINING))
		return 0;
	if (is_open && (state == BACKEND_UP || f->isn == isn))
		return 1;
	return (__s64)(now_ns - f->seen_ns) <
	       (is_open ? OPEN_QUIET_NS : ENDED_QUIET_NS); /* another CPU's may be later */
}

/* A SYN: a new flow, unless it belongs to one that is there. */
__noinline int flow_open(struct xdp_md *ctx, struct vip *vip)
{
	struct flow_job *job = flow_job_here();
	struct packet p = { .ctx = ctx };
	struct flow_found found;
	__u64 now_ns = bpf_ktime_get_ns(), word = 0;
	__u32 isn, kept = 0, entry = 0;
	struct tcphdr *tcp;
	int id = 0;

	if (!vip || !job)
		return FLOW_REASON(REASON_TABLE_MISSING);
	if (vip->flags & VIP_POLICED && police_syn(&job->key, vip->id, now_ns))
		return FLOW_REASON(REASON_SYN_POLICED);
	packet_reload(&p);
	tcp = packet_at(&p, job->l4, sizeof(*tcp));
	if (!tcp)
		return FLOW_REASON(REASON_TRUNCATED);
	isn = bpf_ntohl(tcp->seq);

	found = flow_find(job);
	if (found.flow && syn_stays(found.flow, found.word, isn, now_ns)) {
		id = FLOW_WORD_BACKEND(found.word);
		kept = FLOW_WORD_FLAGS(found.word) & FLOW_CONFIRMED;
		if (FLOW_WORD_STATE(found.word) == FLOW_OPEN && found.flow->isn == isn) {
			found.flow->seen_ns = now_ns;
			return id;
		}
	}
	if (!id)
		id = serve_new(vip, job);
	if (id <= 0)
		return id;

	word = flow_word(id, job->owner, FLOW_OPEN, kept);
	if (found.flow) {
		found.flow->seen_ns = now_ns; /* first: what was idle is not to be given back now */
		entry = found.entry;
		for (int i = 0; i < WORD_TRIES && found.word; i++) {
			if (flow_swap(found.flow, found.word, word)) {
				flow_fill(found.flow, &p, job, vip->id, isn, now_ns);
				goto recorded;
			}
			found.word = flow_word_load(found.flow);
		}
		if (found.word)
			return id;
		found.is_stale = 1;
	}
	if (!flow_record(&p, job, word, vip->id, isn, now_ns, found.is_stale, &entry))
		return id;
recorded:
	flow_stats_add(1, 0, 0);
	syn_keep(ctx, job, entry, now_ns);
	return id;
}

/* ---- every other segment, and errors about flows ---- */

/* Whom the slots that moved belonged to; 0: nobody. */
static __always_inline __u32 owner_before(const struct vip *vip, const struct flow_job *job)
{
	__u32 pool = vip->table; /* on the stack: to an old verifier *vip is no key */
	const struct slot *slot;
	void *table;

	if (!vip->n_slots_before)
		return 0;
	table = bpf_map_lookup_elem(&tables_before, &pool);
	if (!table)
		return 0;
	slot = slot_look_up(table, hash_slot(job->hash, vip->n_slots_before));
	return slot ? slot->owner : 0;
}

/*
 * Mark what a client's segment says of its flow, which is no copy then: that it lives, or by a RST the contrary. *word
 * becomes what the entry holds then, 0 if it was given back.
 */
static __always_inline void flow_mark(struct flow *f, __u64 *word, __u8 tcp_flags)
{
	__u64 confirmed = tcp_flags & TCP_RST ? 0 : (__u64)FLOW_CONFIRMED << 40;

	for (int i = 0; i < WORD_TRIES; i++) {
		__u64 old = *word, new;
		__u32 state = FLOW_WORD_STATE(old);

		if (tcp_flags & TCP_RST)
			state = FLOW_CLOSED;
		else if (tcp_flags & TCP_FIN && state == FLOW_OPEN)
			state = FLOW_CLOSING;
		new = (old & ~(0xffULL << 32 | (__u64)FLOW_SYNCED << 40)) | (__u64)state << 32 | confirmed;
		if (new == old)
			return;
		if (flow_swap(f, old, new)) {
			*word = new;
			return;
		}
		*word = flow_word_load(f);
		if (!*word)
			return;
	}
}

/* A dead backend's flow, or one that an operator ended: that is reset whatever the VIP does with the others. */
static __always_inline int orphan(struct xdp_md *ctx, const struct vip *vip, struct flow_job *job, struct flow *f,
				  __u64 word)
{
	__u32 on_failure = FLOW_WORD_FLAGS(word) & FLOW_RESET ? ON_FAILURE_RESET : vip->on_failure;
	int id;

	if (on_failure == ON_FAILURE_REHASH) {
		id = serve_new(vip, job);
		/* It stays there. Who loses the swap leaves it to the next packet. */
		if (id > 0 && f && !job->is_icmp_error)
			flow_swap(f, word, flow_word(id, job->owner, FLOW_WORD_STATE(word), FLOW_WORD_FLAGS(word)));
		return id;
	}
	if (on_failure == ON_FAILURE_DROP || !orphan_may_answer(job))
		return FLOW_REASON(REASON_ORPHAN_DROPPED);
	if (!orphan_is_in_time(bpf_ktime_get_ns()))
		return FLOW_REASON(REASON_ORPHAN_UNTOLD);
	if (f)
		flow_mark(f, &word, TCP_RST);
	return FLOW_REASON(orphan_reset(ctx));
}

/* Any segment but a SYN, or an error about one: the backend of its flow. */
__noinline int flow_follow(struct xdp_md *ctx, struct vip *vip)
{
	struct flow_job *job = flow_job_here();
	struct flow_found found;
	__u32 id;

	if (!vip || !job)
		return FLOW_REASON(REASON_TABLE_MISSING);
	found = flow_find(job);
	flow_stats_add(0, 0, 1);
	/* An error is no sign of life: anybody may have sent it. */
	if (found.flow && !job->is_icmp_error) {
		found.flow->seen_ns = bpf_ktime_get_ns();
		flow_mark(found.flow, &found.word, job->tcp_flags);
		if (!found.word)
			found.flow = NULL;
	}
	if (found.flow) {
		id = FLOW_WORD_BACKEND(found.word);
		if (!(FLOW_WORD_FLAGS(found.word) & FLOW_RESET) && backend_keeps_flows(id))
			return id;
		return orphan(ctx, vip, job, found.flow, found.word);
	}
	if (vip->flags & VIP_MIGRATING) {
		id = owner_before(vip, job);
		if (id && backend_keeps_flows(id))
			return id;
	}
	if (backend_keeps_flows(job->owner))
		return job->owner;
	return orphan(ctx, vip, job, NULL, 0);
}

#endif
