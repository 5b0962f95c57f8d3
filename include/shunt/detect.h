/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * detect.h - when silence becomes a verdict. One rule, compiled into the BPF tick and into shuntd.
 *
 * A backend is `silent` when `multiplier` consecutive rounds that were really asked are unanswered, the oldest of
 * them for at least interval x multiplier (plus the session's grace), and a witness exists: another session answered
 * a round at or after the last of them. Silence alone convicts nobody: a balancer that stalls, or whose own link is
 * cut, asks no questions and hears no answers, so it has no witness.
 *
 * Pure: the caller brings the clock. Tests: tests/unit/detect_test.c.
 */
#ifndef SHUNT_DETECT_H
#define SHUNT_DETECT_H

#include "shunt/abi.h"
#include "shunt/siphash.h" /* __always_inline */

/* The two sessions with the highest answered round, so that each session finds the best one that is not itself. */
struct witnesses {
	__u64 round[2];
	__u32 id[2];
};

static __always_inline void witnesses_add(struct witnesses *w, __u32 id, __u64 answered_round)
{
	if (answered_round > w->round[0]) {
		w->round[1] = w->round[0];
		w->id[1] = w->id[0];
		w->round[0] = answered_round;
		w->id[0] = id;
	} else if (answered_round > w->round[1]) {
		w->round[1] = answered_round;
		w->id[1] = id;
	}
}

/* The evidence of a silence; what event.h's consumers are shown. */
struct silence {
	__u64 first_round; /* oldest unanswered round asked */
	__u64 first_sent_ns;
	__u64 last_round; /* the multiplier-th of them */
	__u64 witness_round; /* 0: no witness */
	__u32 witness; /* backend id; 0: no witness */
	__u32 n_unanswered; /* counted up to multiplier */
};

enum silence_verdict {
	SILENCE_NO = 0, /* it answers, or not enough was asked, or not long enough ago */
	SILENCE_UNWITNESSED, /* the silence is complete but nobody else answered either: suspect ourselves */
	SILENCE_CONVICTED,
};

/*
 * Judge session `id` at `now_ns` (CLOCK_MONOTONIC). Reads the session's asked rounds and the detector's round times;
 * an entry that was overwritten meanwhile is a round not asked. At most SHUNT_ROUNDS entries are read.
 */
static __always_inline enum silence_verdict silence_judge(const struct session *s, const struct detector *d,
							  const struct witnesses *w, __u32 id, __u64 now_ns,
							  struct silence *out)
{
	__u64 answered = *(const volatile __u64 *)&s->answered_round;
	__u64 newest = *(const volatile __u64 *)&d->round;
	__u64 round = answered + 1;
	__u32 n = 0, multiplier = d->multiplier;
	int which;

	if (newest < round || !multiplier)
		return SILENCE_NO;
	if (newest - answered > SHUNT_ROUNDS)
		round = newest - SHUNT_ROUNDS + 1;

	for (int i = 0; i < SHUNT_ROUNDS; i++, round++) {
		__u32 k = (__u32)(round & (SHUNT_ROUNDS - 1));

		if (round > newest)
			return SILENCE_NO;
		if (s->asked[k] != round || d->rounds[k].round != round)
			continue;
		if (n == 0) {
			out->first_round = round;
			out->first_sent_ns = d->rounds[k].sent_ns;
			if (now_ns < out->first_sent_ns + d->interval_ns * multiplier + s->grace_ns)
				return SILENCE_NO;
		}
		out->last_round = round;
		if (++n == multiplier)
			break;
	}
	out->n_unanswered = n;
	if (n < multiplier)
		return SILENCE_NO;

	which = w->id[0] == id;
	out->witness = w->id[which];
	out->witness_round = w->round[which];
	if (!out->witness || out->witness_round < out->last_round) {
		out->witness = 0;
		out->witness_round = 0;
		return SILENCE_UNWITNESSED;
	}
	return SILENCE_CONVICTED;
}

/*
 * Lateness credit: an evaluation that comes more than two periods after the one before it saw a stall of its own
 * CPU; answers may still wait in a queue there. It judges nobody; the next one does.
 */
static __always_inline int tick_was_late(__u64 last_tick_ns, __u64 now_ns, __u64 tick_ns)
{
	return last_tick_ns && now_ns - last_tick_ns > 2 * tick_ns;
}

#endif
