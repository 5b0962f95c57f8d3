/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * detect.bpf.h - the detector's tick: a bpf_timer that evaluates the rule of shunt/detect.h for every session and
 * flips the word of a backend it convicts. shuntd hears of it through the ring buffer, after the fact.
 *
 * Kernels that refuse bpf_timer (PREEMPT_RT) load the object without these programs; shuntd runs the same rule then.
 */
#ifndef SHUNT_DETECT_BPF_H
#define SHUNT_DETECT_BPF_H

#include "maps.bpf.h"
#include "shunt/detect.h"

#ifndef CLOCK_MONOTONIC
#define CLOCK_MONOTONIC 1
#endif
#define TICK_CPU_PIN 2 /* BPF_F_TIMER_CPU_PIN, linux/bpf.h since 6.7 */

struct tick {
	struct bpf_timer timer;
	__u64 flags; /* what bpf_timer_start() takes on this kernel */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tick);
} tick SEC(".maps");

struct tick_round {
	struct witnesses witnesses;
	__u64 now_ns;
	__u32 unwitnessed; /* somebody is silent and nobody can say whose fault it is */
};

static int tick_collect(__u32 i, struct tick_round *t)
{
	__u32 id = i + 1;
	struct session *s = bpf_map_lookup_elem(&sessions, &id);

	if (s && s->discriminator)
		witnesses_add(&t->witnesses, id, *(volatile __u64 *)&s->answered_round, s->kind);
	return 0;
}

static __always_inline void event_send(__u32 kind, __u32 backend, const struct session *s, const struct silence *why)
{
	struct event e = {
		.kind = kind,
		.backend = backend,
		.at_ns = bpf_ktime_get_ns(),
		.first_round = why->first_round,
		.first_sent_ns = why->first_sent_ns,
		.last_round = why->last_round,
		.answered_ns = s->answered_ns,
		.witness_round = why->witness_round,
		.witness = why->witness,
		.cause = why->rounds,
	};

	/* A full ring loses the story, not the verdict: shuntd reads the words too. */
	bpf_ringbuf_output(&events, &e, sizeof(e), 0);
}

static int tick_judge(__u32 i, struct tick_round *t)
{
	__u32 id = i + 1, zero = 0, word;
	struct session *s = bpf_map_lookup_elem(&sessions, &id);
	struct detector *d = bpf_map_lookup_elem(&detector, &zero);
	struct backend *b = bpf_map_lookup_elem(&backends, &id);
	struct backend_flows *flows_of = bpf_map_lookup_elem(&backend_flows, &id);
	struct silence why = {};

	if (!s || !d || !b || !flows_of)
		return 1;
	word = *(volatile __u32 *)&b->word;
	if (!s->discriminator || !word_is_judged(word))
		return 0;
	switch (silence_judge(s, d, &t->witnesses, id, t->now_ns, &why)) {
	case SILENCE_CONVICTED:
		flows_of->doubted_until_ns = t->now_ns + d->doubt_ns; /* first: packets see the word */
		if (__sync_val_compare_and_swap(&b->word, word, BACKEND_WORD(BACKEND_DOWN, VERDICT_SILENT)) == word)
			event_send(EVENT_SILENT, id, s, &why);
		break;
	case SILENCE_UNWITNESSED:
		if (!d->suspect_since_ns) {
			d->suspect_since_ns = t->now_ns;
			event_send(EVENT_SELF_SUSPECT, 0, s, &why);
		}
		t->unwitnessed = 1;
		suspicion_begin(d, &t->witnesses, &why);
		break;
	case SILENCE_NO:
		break;
	}
	return 0;
}

static int tick_run(void *map, __u32 *key, struct tick *t)
{
	struct tick_round r = { .now_ns = bpf_ktime_get_ns() };
	__u32 zero = 0;
	struct detector *d = bpf_map_lookup_elem(&detector, &zero);
	__u64 last, newest;

	if (!d || d->tick_stopped)
		return 0;
	bpf_timer_start(&t->timer, d->tick_ns, t->flags);
	last = d->last_tick_ns;
	d->last_tick_ns = r.now_ns;
	d->ticks++;
	if (last && r.now_ns - last > d->tick_ns && r.now_ns - last - d->tick_ns > d->late_max_ns)
		d->late_max_ns = r.now_ns - last - d->tick_ns;
	if (tick_was_late(last, r.now_ns, d->tick_ns))
		return 0;
	newest = *(volatile __u64 *)&d->round;
	bpf_loop(d->n_sessions, tick_collect, &r, 0);
	if (suspicion_holds(d, &r.witnesses, newest))
		return 0;
	bpf_loop(d->n_sessions, tick_judge, &r, 0);
	if (!r.unwitnessed)
		d->suspect_since_ns = 0;
	return 0;
}

/* Run by shuntd on the CPU that shall evaluate; again, to move it there or after it stopped. Returns 0 or -errno. */
SEC("syscall")
int tick_start(void *ctx)
{
	__u32 zero = 0;
	struct tick *t = bpf_map_lookup_elem(&tick, &zero);
	struct detector *d = bpf_map_lookup_elem(&detector, &zero);
	long err;

	if (!t || !d)
		return -2;
	err = bpf_timer_init(&t->timer, &tick, CLOCK_MONOTONIC);
	if (err && err != -16) /* -EBUSY: it was before */
		return err;
	err = bpf_timer_set_callback(&t->timer, tick_run);
	if (err)
		return err;
	t->flags = TICK_CPU_PIN;
	err = bpf_timer_start(&t->timer, d->tick_ns, t->flags);
	if (err) {
		t->flags = 0;
		err = bpf_timer_start(&t->timer, d->tick_ns, 0);
	}
	return err;
}

#endif
