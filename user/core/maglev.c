// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * maglev.c - who owns a slot: members take turns, and in its turn a member names the next slot of a sequence of its
 * own; a free slot is then its slot (Eisenbud et al., "Maglev", NSDI 2016, 3.4, "population"). Knows nothing of names,
 * domains or who is alive: owners change with the configuration only.
 *
 * It leaves the paper in three points, because the paper's table moves too much when the pool changes: the loss of one
 * of 100 members moved 1.57 times its fair share of slots, that of one of 1000 moved 6.7 times (65,537 slots, equal
 * weights). Here it is 1.0 for both, 1.2 at worst; shares may stray by 5 % for 100 members where the paper's by 0.1 %.
 *
 * - A turn that names a slot already taken has lapsed. The paper's member goes on until it finds a free one, so each
 *   slot's fate hangs on every earlier one. With lapsing turns a slot goes to the member that names it first, as in
 *   rendezvous hashing, whatever happens elsewhere.
 * - That alone leaves the shares to chance. So a member that owns `most` slots stops; and when no more slots are free
 *   than members lack to `least`, only those go on. Between the two it is left alone: this slack is what the calm
 *   is bought with (the idea of consistent hashing with bounded loads, Mirrokni, Thorup, Zadimoghaddam, SODA 2018).
 * - The sequence is drawn with repeats, not a permutation. The time until a member first names a slot is then
 *   memoryless, so without a bound the chance to own a slot is exactly in proportion to weight. Drawn from a
 *   generator that reaches every number, so it ends; expected after n_slots x (ln n_slots + 0.6) turns.
 *
 * Weight is pace: the k-th turn of a member comes at time k / weight. Time advances in windows of about one turn a
 * member; within a window the members come in their order. Integers only.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/maglev.h"
#include "core/mix.h"

#define OWNER_NONE UINT16_MAX

/* A member of weight 1 has a turn each TIME_UNIT; enough for the rounding of 65535 turns in it to be harmless. */
#define TIME_UNIT (1ULL << 36)

struct contender {
	uint64_t sequence; /* start of its sequence of slots */
	uint64_t turn; /* the next one, from 1 */
	uint64_t next, period; /* when it comes, and the time between two */
	uint32_t owned; /* slots so far */
	uint32_t least, most; /* bounds of `owned` */
	uint16_t index; /* into the caller's members */
};

static uint32_t square_root(uint32_t x)
{
	uint32_t root = 0;

	for (uint32_t bit = 1U << 15; bit; bit >>= 1)
		if ((uint64_t)(root | bit) * (root | bit) <= x)
			root |= bit;
	return root;
}

/*
 * How many slots a member whose fair share is `share` may have more or less than that.
 *
 * Left alone a share strays by about its root, and what a change of the pool moves beyond the ideal grows with the
 * number of members that a bound holds back, and as a multiple of one member's share with n. So the slack grows with
 * n: n / (8 sqrt(n_slots)) of the share, 4.9 % for 100 members and 65,537 slots, up to twice the root of the share,
 * which binds few. Chosen by measuring both ends, see P2 and P6 in tests/unit/table_test.c.
 */
static uint32_t share_slack(uint32_t share, uint32_t n_slots, size_t n)
{
	uint64_t slack = (uint64_t)share * n / (8 * square_root(n_slots));
	uint64_t limit = 2 * square_root(share);

	if (slack > limit)
		slack = limit;
	return slack ? (uint32_t)slack : 1;
}

/* The largest power of two that is no longer than the mean time between two turns of a member. */
static uint64_t time_window(uint64_t total_weight, size_t n)
{
	uint64_t window = TIME_UNIT;

	while (window * total_weight > TIME_UNIT * n)
		window >>= 1;
	return window;
}

/* Does it own all it may? When what is free is needed by those who lack, more than `least` is too much. */
static bool contender_is_out(const struct contender *c, uint32_t n_free, uint32_t n_lacking)
{
	return c->owned >= (n_free > n_lacking ? c->most : c->least);
}

int maglev_fill(uint16_t *owners, uint32_t n_slots, const struct maglev_member *members, size_t n)
{
	struct contender *contenders = calloc(n, sizeof(*contenders));
	uint64_t total_weight = 0, window, now = 0;
	uint32_t n_free = n_slots, n_lacking = 0; /* slots; what all members together lack to their `least` */

	if (!contenders)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		total_weight += members[i].weight;
	window = time_window(total_weight, n);
	for (size_t i = 0; i < n; i++) {
		uint64_t scaled = (uint64_t)n_slots * members[i].weight;
		uint32_t share = (uint32_t)(scaled / total_weight);
		uint32_t share_up = share + (scaled % total_weight != 0);
		uint32_t slack = share_slack(share, n_slots, n);
		struct contender *c = &contenders[i];

		*c = (struct contender){
			.sequence = members[i].identity,
			.turn = 1,
			.period = TIME_UNIT / members[i].weight,
			.least = share_up > slack ? share_up - slack : share > 0,
			.most = share + slack, /* slack is at least 1, so together they can own all */
			.index = (uint16_t)i,
		};
		c->next = c->period;
		n_lacking += c->least;
	}
	for (uint32_t slot = 0; slot < n_slots; slot++)
		owners[slot] = OWNER_NONE;

	while (n_free) {
		uint64_t soonest = UINT64_MAX;
		size_t kept = 0;

		now += window;
		for (size_t i = 0; i < n; i++) {
			struct contender *c = &contenders[i];

			while (c->next <= now && !contender_is_out(c, n_free, n_lacking)) {
				uint32_t slot = mix_below(c->sequence, c->turn, n_slots);

				if (owners[slot] == OWNER_NONE) {
					owners[slot] = c->index;
					n_free--;
					n_lacking -= c->owned < c->least;
					c->owned++;
				}
				c->turn++;
				c->next += c->period;
			}
			if (contender_is_out(c, n_free, n_lacking))
				continue; /* for good: no bound is ever raised */
			if (c->next < soonest)
				soonest = c->next;
			if (kept != i)
				contenders[kept] = *c;
			kept++;
		}
		n = kept;
		if (soonest > now + window)
			now = (soonest - 1) / window * window; /* nobody's turn until the next window */
	}
	free(contenders);
	return 0;
}
