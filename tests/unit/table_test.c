// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * table_test.c - the properties P1 .. P6 that the tables promise, each a test bearing its name, and their edges.
 *
 * Everything here is deterministic: where a bound is statistical it was chosen with room, and a failure is a change
 * of the construction, not bad luck.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/mix.h"
#include "core/table.h"

#define SEED 0x5eed0123456789abULL
#define MAX_MEMBERS (SHUNT_MAX_BACKENDS - 1)

static char names[MAX_MEMBERS][TABLE_NAME_MAX];
static char domains[MAX_MEMBERS][32];
static struct table_member pool[MAX_MEMBERS + 1];

/* n living members gpu0.. of ids 1.., in n_domains racks in turn (0: none), each `nth` one of weight `heavy`. */
static void pool_make(size_t n, uint32_t light, uint32_t heavy, size_t nth, size_t n_domains)
{
	for (size_t i = 0; i < n; i++) {
		snprintf(names[i], sizeof(names[i]), "gpu%zu", i);
		domains[i][0] = 0;
		if (n_domains)
			snprintf(domains[i], sizeof(domains[i]), "rack-%zu", i % n_domains);
		pool[i] = (struct table_member){
			.id = (uint16_t)(i + 1),
			.alive = true,
			.weight = i % nth ? light : heavy,
			.name = names[i],
			.domain = domains[i],
		};
	}
}

static struct table *build(const struct table_member *members, size_t n, uint32_t n_slots)
{
	struct table *t;

	assert_int_equal(table_build(&t, members, n, n_slots, SEED), 0);
	return t;
}

static const struct slot *slots_of(const struct table *t)
{
	uint32_t n_slots;

	return table_slots(t, &n_slots);
}

static struct slot *slots_copy(const struct table *t)
{
	uint32_t n_slots;
	const struct slot *slots = table_slots(t, &n_slots);
	struct slot *copy = malloc(n_slots * sizeof(*copy));

	assert_non_null(copy);
	memcpy(copy, slots, n_slots * sizeof(*copy));
	return copy;
}

static void assert_slots_equal(const struct table *t, const struct slot *expected)
{
	uint32_t n_slots;
	const struct slot *slots = table_slots(t, &n_slots);

	assert_memory_equal(slots, expected, n_slots * sizeof(*slots));
}

/* FNV-1a of the slots' numbers, the same on machines of either byte order. */
static uint64_t digest(const struct table *t)
{
	uint32_t n_slots;
	const struct slot *slots = table_slots(t, &n_slots);
	uint64_t h = 0xcbf29ce484222325ULL;

	for (uint32_t i = 0; i < n_slots; i++) {
		const uint8_t bytes[4] = { slots[i].owner & 0xff, slots[i].owner >> 8, slots[i].heir & 0xff,
					   slots[i].heir >> 8 };

		for (int b = 0; b < 4; b++)
			h = (h ^ bytes[b]) * 0x100000001b3ULL;
	}
	return h;
}

static void shuffle(struct table_member *members, size_t n, uint64_t seed)
{
	for (size_t i = n - 1; i; i--) {
		size_t j = mix_below(seed, i, (uint32_t)i + 1);
		struct table_member swap = members[i];

		members[i] = members[j];
		members[j] = swap;
	}
}

static uint64_t weight_of_pool(size_t n)
{
	uint64_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += pool[i].weight;
	return total;
}

/* ---- P1 ---- */

static void p1_the_order_of_lines_does_not_matter(void **state)
{
	static const size_t pools[][5] = { { 10, 1, 1, 1, 0 },     { 100, 1, 10, 2, 0 }, { 100, 1, 10, 7, 5 },
					   { 37, 1, 65535, 5, 2 }, { 2, 1, 10, 2, 0 },   { 1, 7, 7, 1, 0 } };

	(void)state;
	for (size_t p = 0; p < sizeof(pools) / sizeof(pools[0]); p++) {
		struct table *t;
		struct slot *expected;

		pool_make(pools[p][0], (uint32_t)pools[p][1], (uint32_t)pools[p][2], pools[p][3], pools[p][4]);
		for (size_t i = 0; i < pools[p][0]; i += 9)
			pool[i].alive = false;
		t = build(pool, pools[p][0], 65537);
		expected = slots_copy(t);
		table_free(t);
		for (uint64_t turn = 0; turn < 2; turn++) {
			shuffle(pool, pools[p][0], turn);
			t = build(pool, pools[p][0], 65537);
			assert_slots_equal(t, expected);
			table_free(t);
		}
		free(expected);
	}
}

/* On any machine: these were computed once and hold for ever, or every pair of balancers must be upgraded at once. */
static void p1_tables_are_the_same_on_any_machine(void **state)
{
	struct table *t;

	(void)state;
	pool_make(10, 100, 100, 1, 0);
	t = build(pool, 10, 65537);
	assert_int_equal(digest(t), 0x3eb825fbf9acfd68ULL);
	table_free(t);

	pool_make(100, 3, 40, 3, 4);
	pool[5].alive = false;
	t = build(pool, 100, 65537);
	assert_int_equal(digest(t), 0x91762fafea69516bULL);
	table_free(t);

	pool_make(4, 100, 100, 1, 2);
	t = build(pool, 4, 251);
	assert_int_equal(digest(t), 0xed5554a63a061e7eULL);
	table_free(t);
}

static void p1_ids_decide_nothing(void **state)
{
	struct table *t, *other;

	(void)state;
	pool_make(20, 1, 10, 3, 4);
	t = build(pool, 20, 4099);
	for (size_t i = 0; i < 20; i++)
		pool[i].id = (uint16_t)(4000 - 7 * i);
	other = build(pool, 20, 4099);
	for (uint32_t s = 0; s < 4099; s++) {
		assert_int_equal(slots_of(other)[s].owner, 4000 - 7 * (slots_of(t)[s].owner - 1));
		assert_int_equal(slots_of(other)[s].heir, 4000 - 7 * (slots_of(t)[s].heir - 1));
	}
	table_free(other);
	table_free(t);
}

static void another_seed_gives_another_table(void **state)
{
	struct table *t, *other;
	uint32_t same_owner = 0, same_heir = 0;

	(void)state;
	pool_make(10, 100, 100, 1, 0);
	t = build(pool, 10, 65537);
	assert_int_equal(table_build(&other, pool, 10, 65537, SEED + 1), 0);
	for (uint32_t s = 0; s < 65537; s++) {
		same_owner += slots_of(t)[s].owner == slots_of(other)[s].owner;
		same_heir += slots_of(t)[s].heir == slots_of(other)[s].heir;
	}
	assert_in_range(same_owner, 6000, 7100); /* a tenth, by chance */
	assert_in_range(same_heir, 6000, 7100);
	table_free(other);
	table_free(t);
}

/* ---- P2 ---- */

static void p2_the_largest_share_is_at_most_1_05_of_its_weights_share_for_100_backends(void **state)
{
	static const uint32_t weights[][3] = {
		{ 100, 100, 1 }, { 1, 10, 2 }, { 1, 10, 10 }, { 1, 10, 50 }, { 10, 1, 9 }
	};

	(void)state;
	for (size_t p = 0; p < sizeof(weights) / sizeof(weights[0]); p++) {
		for (uint64_t seed = 0; seed < 3; seed++) {
			uint32_t owned[101] = { 0 }, n_slots;
			const struct slot *slots;
			struct table *t;
			uint64_t total;

			pool_make(100, weights[p][0], weights[p][1], weights[p][2], 0);
			total = weight_of_pool(100);
			assert_int_equal(table_build(&t, pool, 100, 65537, seed), 0);
			slots = table_slots(t, &n_slots);
			for (uint32_t s = 0; s < n_slots; s++)
				owned[slots[s].owner]++;
			for (size_t i = 0; i < 100; i++) {
				/* owned / n_slots <= 1.05 weight / total, and as much the other way */
				assert_true(owned[i + 1] * total * 100 <= 105ULL * n_slots * pool[i].weight);
				assert_true(owned[i + 1] * total * 105 >= 100ULL * n_slots * pool[i].weight);
			}
			table_free(t);
		}
	}
}

/* Where fair shares are small their slack is twice their root: 65.5 +- 16 here. Left to chance some would exceed it. */
static void the_largest_share_of_1000_backends_is_at_most_1_25_of_the_fair_one(void **state)
{
	uint32_t owned[1001] = { 0 };
	struct table *t;

	(void)state;
	pool_make(1000, 1, 1, 1, 0);
	t = build(pool, 1000, 65537);
	for (uint32_t s = 0; s < 65537; s++)
		owned[slots_of(t)[s].owner]++;
	for (size_t i = 1; i <= 1000; i++)
		assert_in_range(owned[i], 50, 81);
	table_free(t);
}

static void every_backend_with_a_fair_share_of_one_slot_owns_one(void **state)
{
	uint32_t owned[513] = { 0 };
	struct table *t;

	(void)state;
	pool_make(512, 1, 1, 1, 0);
	t = build(pool, 512, 521);
	for (uint32_t s = 0; s < 521; s++)
		owned[slots_of(t)[s].owner]++;
	for (size_t i = 1; i <= 512; i++)
		assert_in_range(owned[i], 1, 3);
	table_free(t);
}

/* ---- P3 ---- */

/*
 * Take down each `step`-th of n, compare with the table before. The slots of the lost must be all that are served by
 * another, and the survivors' parts of them must fit their weights: the sum of chi-squares over all losses has its mean
 * at the number of degrees of freedom and stays within `room` standard deviations of it.
 */
static void losses_check(size_t n, size_t step, double room)
{
	struct table *t = build(pool, n, 65537);
	struct slot *before = slots_copy(t);
	double chi2 = 0, freedom = 0, excess;

	for (size_t v = 0; v < n; v += step) {
		static uint32_t got[MAX_MEMBERS + 1];
		uint32_t lost = 0, changed = 0;
		uint64_t others = 0;
		const struct slot *slots;
		int n_changed;

		memset(got, 0, sizeof(got));
		n_changed = table_set_alive(t, pool[v].id, false);
		slots = slots_of(t);
		for (uint32_t s = 0; s < 65537; s++) {
			assert_int_equal(slots[s].owner, before[s].owner);
			changed += slots[s].heir != before[s].heir;
			if (before[s].heir != pool[v].id)
				assert_int_equal(slots[s].heir, before[s].heir);
			else
				assert_int_not_equal(slots[s].heir, pool[v].id);
			if (slots[s].owner != pool[v].id)
				continue; /* served by its owner as before */
			assert_int_not_equal(slots[s].heir, pool[v].id);
			got[slots[s].heir]++;
			lost++;
		}
		assert_int_equal(n_changed, changed);
		assert_int_equal(got[0], 0);
		for (size_t i = 0; i < n; i++)
			if (i != v && (!pool[v].domain[0] || strcmp(pool[v].domain, pool[i].domain)))
				others += pool[i].weight;
		for (size_t i = 0; i < n; i++) {
			double expected = (double)lost * pool[i].weight / (double)others;
			double off = (double)got[pool[i].id] - expected;

			if (i == v || (pool[v].domain[0] && !strcmp(pool[v].domain, pool[i].domain))) {
				assert_int_equal(got[pool[i].id], 0);
				continue;
			}
			chi2 += off * off / expected;
			freedom++;
		}
		freedom--;
		assert_int_equal(table_set_alive(t, pool[v].id, true), n_changed);
		assert_slots_equal(t, before);
	}
	excess = chi2 - freedom;
	if (excess * excess > room * room * 2 * freedom)
		fail_msg("n %zu: chi-square %.1f, degrees of freedom %.0f", n, chi2, freedom);
	free(before);
	table_free(t);
}

static void p3_losing_one_backend_moves_its_slots_only_and_they_spread_in_proportion_to_weight(void **state)
{
	(void)state;
	pool_make(10, 100, 100, 1, 0);
	losses_check(10, 1, 3);
	pool_make(100, 100, 100, 1, 0);
	losses_check(100, 5, 3);
	pool_make(10, 1, 10, 2, 0);
	losses_check(10, 1, 3);
	pool_make(100, 1, 10, 10, 0);
	losses_check(100, 11, 3);
	pool_make(20, 1, 10, 3, 4);
	losses_check(20, 3, 3);
	pool_make(3, 1, 10, 2, 0);
	losses_check(3, 1, 3);
}

/* ---- P4 ---- */

static void p4_the_mapping_is_a_function_of_the_living_not_of_history(void **state)
{
	static const size_t pools[][6] = {
		/* n, light, heavy, nth, domains, slots */
		{ 12, 1, 10, 3, 0, 1009 },  { 12, 1, 10, 3, 3, 1009 }, { 5, 100, 100, 1, 2, 251 },
		{ 2, 1, 10, 2, 0, 251 },    { 6, 1, 1, 1, 1, 509 },    { 40, 1, 65535, 20, 2, 4099 },
		{ 30, 1, 10, 2, 0, 65537 },
	};

	(void)state;
	for (size_t p = 0; p < sizeof(pools) / sizeof(pools[0]); p++) {
		size_t n = pools[p][0];
		uint32_t n_slots = (uint32_t)pools[p][5];
		int steps = n_slots > 10000 ? 8 : 100;
		struct table *t;

		pool_make(n, (uint32_t)pools[p][1], (uint32_t)pools[p][2], pools[p][3], pools[p][4]);
		t = build(pool, n, n_slots);
		for (int step = 0; step < steps; step++) {
			size_t who = mix_below(p, (uint64_t)step, (uint32_t)n);
			struct table *fresh;

			pool[who].alive = !pool[who].alive;
			assert_true(table_set_alive(t, pool[who].id, pool[who].alive) >= 0);
			fresh = build(pool, n, n_slots);
			assert_slots_equal(t, slots_of(fresh));
			table_free(fresh);
		}
		table_free(t);
	}
}

static void p4_a_then_b_is_b_then_a_and_recovery_restores_the_mapping(void **state)
{
	struct table *t, *other;
	struct slot *healthy;

	(void)state;
	pool_make(100, 1, 10, 4, 5);
	t = build(pool, 100, 65537);
	other = build(pool, 100, 65537);
	healthy = slots_copy(t);
	assert_true(table_set_alive(t, 5, false) > 0);
	assert_true(table_set_alive(t, 42, false) > 0);
	assert_true(table_set_alive(other, 42, false) > 0);
	assert_true(table_set_alive(other, 5, false) > 0);
	assert_slots_equal(t, slots_of(other));
	assert_true(table_set_alive(t, 5, true) > 0);
	assert_true(table_set_alive(t, 42, true) > 0);
	assert_slots_equal(t, healthy);
	free(healthy);
	table_free(other);
	table_free(t);
}

/* ---- P5 ---- */

static void p5_what_the_data_path_does_after_the_flip_it_does_after_the_rebuild(void **state)
{
	static const size_t pools[][4] = { { 10, 1, 1, 0 }, { 10, 1, 10, 0 }, { 16, 1, 10, 4 }, { 2, 1, 1, 0 } };

	(void)state;
	for (size_t p = 0; p < sizeof(pools) / sizeof(pools[0]); p++) {
		size_t n = pools[p][0];
		bool alive[32];
		struct table *t;

		pool_make(n, (uint32_t)pools[p][1], (uint32_t)pools[p][2], 2, pools[p][3]);
		t = build(pool, n, 4099);
		memset(alive, true, sizeof(alive));
		/* One after another dies, each rebuilt, until one is left. */
		for (size_t dead = 0; dead + 1 < n; dead++) {
			struct slot *flipped = slots_copy(t);
			const struct slot *rebuilt;
			uint32_t both_down = 0;

			alive[pool[dead].id] = false;
			assert_true(table_set_alive(t, pool[dead].id, false) >= 0);
			rebuilt = slots_of(t);
			for (uint32_t s = 0; s < 4099; s++) {
				uint16_t at_once = alive[flipped[s].owner] ? flipped[s].owner : flipped[s].heir;
				uint16_t after = alive[rebuilt[s].owner] ? rebuilt[s].owner : rebuilt[s].heir;

				assert_true(alive[after]);
				if (alive[at_once])
					assert_int_equal(at_once, after);
				else
					both_down++; /* a second death hit this slot: the walk goes on to others */
			}
			/* The first death leaves no slot without somebody. */
			if (!dead)
				assert_int_equal(both_down, 0);
			free(flipped);
		}
		table_free(t);
	}
}

/* ---- P6 ---- */

/* Slots whose owner is another without pool[v], in thousandths of its ideal share. The same table before and after:
 * so much moves when it is removed, and when it is added. */
static uint32_t moved_permille(const struct slot *with, size_t n, size_t v, uint32_t n_slots)
{
	static struct table_member rest[MAX_MEMBERS];
	uint64_t moved = 0;
	struct table *t;

	memcpy(rest, pool, v * sizeof(*rest));
	memcpy(rest + v, pool + v + 1, (n - v - 1) * sizeof(*rest));
	t = build(rest, n - 1, n_slots);
	for (uint32_t s = 0; s < n_slots; s++)
		moved += slots_of(t)[s].owner != with[s].owner;
	table_free(t);
	return (uint32_t)(moved * 1000 * weight_of_pool(n) / n_slots / pool[v].weight);
}

static void p6_adding_or_removing_a_backend_moves_at_most_1_3_of_the_ideal_share(void **state)
{
	static const size_t pools[][4] = { { 2, 1, 1, 1 },     { 2, 1, 10, 2 },  { 10, 1, 1, 1 },   { 10, 1, 10, 2 },
					   { 30, 1, 10, 3 },   { 100, 1, 1, 1 }, { 100, 1, 10, 2 }, { 100, 1, 10, 10 },
					   { 100, 1, 10, 50 }, { 300, 1, 1, 1 }, { 1000, 1, 1, 1 } };

	(void)state;
	for (size_t p = 0; p < sizeof(pools) / sizeof(pools[0]); p++) {
		size_t n = pools[p][0];
		struct table *t;
		struct slot *with;

		pool_make(n, (uint32_t)pools[p][1], (uint32_t)pools[p][2], pools[p][3], 3);
		t = build(pool, n, 65537);
		with = slots_copy(t);
		/* The first is a heavy one, its neighbour a light one. */
		for (size_t v = 0; v < n; v = v ? v + (n + 3) / 4 : 1) {
			uint32_t moved = moved_permille(with, n, v, 65537);

			if (moved > 1300)
				fail_msg("%zu backends, weight %u: %u thousandths of its share moved", n,
					 pool[v].weight, moved);
		}
		free(with);
		table_free(t);
	}
}

/* ---- heirs ---- */

/* Every slot's heir is the first living one after the owner in table_succession(), found there by hand. */
static void heirs_check(const struct table *t, size_t n, uint32_t step)
{
	static uint16_t ids[MAX_MEMBERS];
	static struct table_member *by_id[SHUNT_MAX_BACKENDS];
	uint32_t n_slots;
	const struct slot *slots = table_slots(t, &n_slots);

	for (size_t i = 0; i < n; i++)
		by_id[pool[i].id] = &pool[i];
	for (uint32_t s = 0; s < n_slots; s += step) {
		const struct table_member *owner = by_id[slots[s].owner];
		uint16_t heir = 0;
		bool seen[SHUNT_MAX_BACKENDS] = { false }, abroad = false, near = false;

		assert_int_equal(table_succession(t, s, ids, MAX_MEMBERS), n);
		assert_int_equal(ids[0], slots[s].owner);
		seen[ids[0]] = true;
		for (size_t i = 1; i < n; i++) {
			const struct table_member *m = by_id[ids[i]];
			bool same = m->domain[0] && !strcmp(m->domain, owner->domain);

			assert_false(seen[ids[i]]);
			seen[ids[i]] = true;
			assert_false(near && !same); /* other domains first */
			near |= same;
			abroad |= !same && m->alive;
			if (!heir && m->alive)
				heir = m->id;
		}
		assert_int_equal(slots[s].heir, heir);
		if (abroad)
			assert_false(owner->domain[0] && !strcmp(by_id[heir]->domain, owner->domain));
	}
}

static void the_heir_is_the_first_living_one_of_the_succession(void **state)
{
	static const size_t pools[][5] = { { 10, 1, 1, 1, 0 },
					   { 10, 1, 10, 2, 3 },
					   { 7, 1, 65535, 7, 0 },
					   { 7, 1, 65535, 7, 1 },
					   { 40, 1, 10, 4, 2 } };

	(void)state;
	for (size_t p = 0; p < sizeof(pools) / sizeof(pools[0]); p++) {
		size_t n = pools[p][0];

		for (uint64_t dead = 0; dead < 3; dead++) {
			struct table *t;

			pool_make(n, (uint32_t)pools[p][1], (uint32_t)pools[p][2], pools[p][3], pools[p][4]);
			for (size_t i = 0; i < n; i++)
				pool[i].alive = mix_below(p * 10 + dead, i, 4) >= dead;
			t = build(pool, n, 2003);
			heirs_check(t, n, 1);
			table_free(t);
		}
	}
}

static void the_heir_is_in_another_domain_wherever_one_lives(void **state)
{
	uint32_t both_unnamed = 0;
	struct table *t;

	(void)state;
	/* All but one in one rack: the one is heir of all others' slots. */
	pool_make(60, 100, 100, 1, 1);
	snprintf(domains[17], sizeof(domains[17]), "rack-b");
	t = build(pool, 60, 65537);
	heirs_check(t, 60, 301);
	for (uint32_t s = 0; s < 65537; s++)
		assert_true((slots_of(t)[s].owner == 18) != (slots_of(t)[s].heir == 18));
	/* It dies: the rack inherits from itself. It returns. */
	pool[17].alive = false;
	assert_in_range(table_set_alive(t, 18, false), 60000, 65537);
	heirs_check(t, 60, 301);
	pool[17].alive = true;
	assert_in_range(table_set_alive(t, 18, true), 60000, 65537);
	heirs_check(t, 60, 301);
	table_free(t);

	/* Who names no domain has one of its own, apart from others who name none. */
	pool_make(7, 1, 10, 3, 0);
	for (size_t i = 0; i < 3; i++)
		snprintf(domains[i], sizeof(domains[i]), "rack-a");
	t = build(pool, 7, 2003);
	heirs_check(t, 7, 1);
	for (uint32_t s = 0; s < 2003; s++)
		both_unnamed += slots_of(t)[s].owner > 3 && slots_of(t)[s].heir > 3;
	assert_true(both_unnamed > 200);
	table_free(t);

	/* Two racks, one goes down member by member. */
	pool_make(8, 1, 10, 3, 2);
	t = build(pool, 8, 2003);
	for (size_t i = 0; i < 8; i += 2) {
		pool[i].alive = false;
		assert_true(table_set_alive(t, pool[i].id, false) > 0);
		heirs_check(t, 8, 1);
	}
	table_free(t);
}

static void succession_writes_no_more_than_asked_for(void **state)
{
	uint16_t all[20], some[20];
	struct table *t;

	(void)state;
	pool_make(20, 1, 10, 3, 4);
	t = build(pool, 20, 251);
	memset(some, 0, sizeof(some));
	assert_int_equal(table_succession(t, 250, all, 20), 20);
	assert_int_equal(table_succession(t, 250, some, 3), 3);
	assert_memory_equal(all, some, 3 * sizeof(all[0]));
	assert_int_equal(some[3], 0);
	assert_int_equal(table_succession(t, 250, some, 0), 0);
	table_free(t);
}

/* ---- few and none ---- */

static void two_backends_are_each_others_heirs(void **state)
{
	struct table *t;
	uint32_t of_light = 0;

	(void)state;
	pool_make(2, 1, 10, 2, 0);
	t = build(pool, 2, 65537);
	for (uint32_t s = 0; s < 65537; s++) {
		assert_int_equal(slots_of(t)[s].owner + slots_of(t)[s].heir, 3);
		of_light += slots_of(t)[s].owner == 2;
	}
	assert_in_range(of_light, 65537 / 11 - 10, 65537 / 11 + 10);
	assert_int_equal(table_set_alive(t, 1, false), of_light);
	for (uint32_t s = 0; s < 65537; s++)
		assert_int_equal(slots_of(t)[s].heir, slots_of(t)[s].owner == 1 ? 2 : 0);
	table_free(t);
}

static void one_backend_owns_all_and_has_no_heir(void **state)
{
	uint16_t ids[2];
	struct table *t;

	(void)state;
	pool_make(1, 5, 5, 1, 1);
	t = build(pool, 1, 65537);
	for (int alive = 1; alive >= 0; alive--) {
		assert_int_equal(table_set_alive(t, 1, alive), 0);
		for (uint32_t s = 0; s < 65537; s++) {
			assert_int_equal(slots_of(t)[s].owner, 1);
			assert_int_equal(slots_of(t)[s].heir, 0);
		}
	}
	assert_int_equal(table_succession(t, 0, ids, 2), 1);
	table_free(t);
}

static void no_backends_make_an_empty_table(void **state)
{
	uint32_t n_slots;
	uint16_t id;
	const struct slot *slots;
	struct table *t = build(NULL, 0, 251);

	(void)state;
	slots = table_slots(t, &n_slots);
	assert_int_equal(n_slots, 251);
	for (uint32_t s = 0; s < n_slots; s++)
		assert_int_equal(slots[s].owner + slots[s].heir, 0);
	assert_int_equal(table_succession(t, 0, &id, 1), 0);
	assert_int_equal(table_set_alive(t, 1, true), -ENOENT);
	table_free(t);
	table_free(NULL);
}

static void the_dead_stay_owners_and_are_nobodys_heirs(void **state)
{
	struct table *t, *dead;

	(void)state;
	pool_make(10, 1, 10, 2, 3);
	t = build(pool, 10, 4099);
	for (size_t i = 0; i < 10; i++)
		pool[i].alive = false;
	dead = build(pool, 10, 4099);
	for (uint32_t s = 0; s < 4099; s++) {
		assert_int_equal(slots_of(dead)[s].owner, slots_of(t)[s].owner);
		assert_int_equal(slots_of(dead)[s].heir, 0);
	}
	for (size_t i = 0; i < 10; i++)
		assert_true(table_set_alive(t, pool[i].id, false) >= 0);
	assert_slots_equal(t, slots_of(dead));
	table_free(dead);
	table_free(t);
}

static void saying_again_what_is_known_changes_nothing(void **state)
{
	struct table *t;
	struct slot *before;

	(void)state;
	pool_make(10, 100, 100, 1, 0);
	pool[3].alive = false;
	t = build(pool, 10, 251);
	before = slots_copy(t);
	assert_int_equal(table_set_alive(t, 4, false), 0);
	assert_int_equal(table_set_alive(t, 5, true), 0);
	assert_int_equal(table_set_alive(t, 11, true), -ENOENT);
	assert_int_equal(table_set_alive(t, 0, false), -ENOENT);
	assert_slots_equal(t, before);
	free(before);
	table_free(t);
}

static void extreme_pools_are_built(void **state)
{
	uint32_t of_heavy = 0;
	struct table *t;

	(void)state;
	/* More backends than slots; all that can be. */
	pool_make(MAX_MEMBERS, 1, 65535, 2, 0);
	t = build(pool, MAX_MEMBERS, 251);
	table_free(t);
	pool_make(MAX_MEMBERS, 65535, 65535, 1, 3);
	t = build(pool, MAX_MEMBERS, 65537);
	table_free(t);
	/* One far heavier than all others. */
	pool_make(100, 1, 65535, 100, 1);
	t = build(pool, 100, 65537);
	for (uint32_t s = 0; s < 65537; s++)
		of_heavy += slots_of(t)[s].owner == 1;
	assert_in_range(of_heavy, 65537 - 200, 65537 - 1);
	heirs_check(t, 100, 6000);
	table_free(t);
	/* The smallest primes. */
	pool_make(5, 1, 10, 2, 2);
	t = build(pool, 5, 2);
	heirs_check(t, 5, 1);
	table_free(t);
	t = build(pool, 5, 3);
	heirs_check(t, 5, 1);
	table_free(t);
}

static void the_largest_number_of_slots_is_built(void **state)
{
	struct table *t;

	(void)state;
	pool_make(3, 1, 1, 1, 0);
	t = build(pool, 3, SHUNT_MAX_SLOTS);
	heirs_check(t, 3, 5003);
	table_free(t);
}

static void assert_refused(size_t n, uint32_t n_slots)
{
	struct table *t = (struct table *)pool;

	assert_int_equal(table_build(&t, pool, n, n_slots, SEED), -EINVAL);
	assert_null(t);
}

static void what_cannot_be_a_table_is_refused(void **state)
{
	static char long_name[TABLE_NAME_MAX + 1];
	struct table *t;

	(void)state;
	pool_make(4, 1, 1, 1, 0);
	assert_refused(4, 0);
	assert_refused(4, 1);
	assert_refused(4, 65536);
	assert_refused(4, 65537 * 3);
	assert_refused(4, 251 * 251);
	assert_refused(4, 655379); /* a prime, but too many */
	pool[2].weight = 0;
	assert_refused(4, 251);
	pool[2].weight = 65536;
	assert_refused(4, 251);
	pool[2].weight = 65535;
	pool[2].id = 2;
	assert_refused(4, 251);
	pool[2].id = 0;
	assert_refused(4, 251);
	pool[2].id = SHUNT_MAX_BACKENDS;
	assert_refused(4, 251);
	pool[2].id = SHUNT_MAX_BACKENDS - 1;
	pool[2].name = "gpu0";
	assert_refused(4, 251);
	pool[2].name = "";
	assert_refused(4, 251);
	memset(long_name, 'x', TABLE_NAME_MAX);
	pool[2].name = long_name;
	assert_refused(4, 251);
	long_name[TABLE_NAME_MAX - 1] = 0;
	t = build(pool, 4, 251);
	table_free(t);
	pool_make(MAX_MEMBERS, 1, 1, 1, 0);
	assert_refused(SHUNT_MAX_BACKENDS, 251);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(p1_the_order_of_lines_does_not_matter),
		cmocka_unit_test(p1_tables_are_the_same_on_any_machine),
		cmocka_unit_test(p1_ids_decide_nothing),
		cmocka_unit_test(another_seed_gives_another_table),
		cmocka_unit_test(p2_the_largest_share_is_at_most_1_05_of_its_weights_share_for_100_backends),
		cmocka_unit_test(the_largest_share_of_1000_backends_is_at_most_1_25_of_the_fair_one),
		cmocka_unit_test(every_backend_with_a_fair_share_of_one_slot_owns_one),
		cmocka_unit_test(p3_losing_one_backend_moves_its_slots_only_and_they_spread_in_proportion_to_weight),
		cmocka_unit_test(p4_the_mapping_is_a_function_of_the_living_not_of_history),
		cmocka_unit_test(p4_a_then_b_is_b_then_a_and_recovery_restores_the_mapping),
		cmocka_unit_test(p5_what_the_data_path_does_after_the_flip_it_does_after_the_rebuild),
		cmocka_unit_test(p6_adding_or_removing_a_backend_moves_at_most_1_3_of_the_ideal_share),
		cmocka_unit_test(the_heir_is_the_first_living_one_of_the_succession),
		cmocka_unit_test(the_heir_is_in_another_domain_wherever_one_lives),
		cmocka_unit_test(succession_writes_no_more_than_asked_for),
		cmocka_unit_test(two_backends_are_each_others_heirs),
		cmocka_unit_test(one_backend_owns_all_and_has_no_heir),
		cmocka_unit_test(no_backends_make_an_empty_table),
		cmocka_unit_test(the_dead_stay_owners_and_are_nobodys_heirs),
		cmocka_unit_test(saying_again_what_is_known_changes_nothing),
		cmocka_unit_test(extreme_pools_are_built),
		cmocka_unit_test(the_largest_number_of_slots_is_built),
		cmocka_unit_test(what_cannot_be_a_table_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
