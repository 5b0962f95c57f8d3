// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * hash_test.c - from a flow's words to its slot: vectors that must never change (two balancers of a pair, and the BPF
 * program and shuntd, agree on them), and what the slots must be: in bounds, even, all within reach.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "shunt/hash.h"

#define SEED 0x5eed0123456789abULL

static const __u64 all_of_it[SHUNT_FLOW_WORDS] = { ~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL };

/* Key 00 .. 0f, as in the paper's appendix A. */
static const struct siphash_key paper_key = { 0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL };

/* SipHash-c-d of the bytes 00, 01 .. length - 1, length up to 63. c, d: as the two uses in shunt. */
static uint64_t siphash_of_count(size_t length, int c, int d)
{
	__u64 blocks[8] = { 0 };
	int n_blocks = (int)(length / 8 + 1);

	for (size_t i = 0; i < length; i++)
		blocks[i / 8] |= (uint64_t)i << 8 * (i % 8);
	blocks[length / 8] |= (uint64_t)length << 56;
	return c == 2 ? siphash_blocks(&paper_key, blocks, n_blocks, 2, d)
		      : siphash_blocks(&paper_key, blocks, n_blocks, 1, d);
}

static void siphash_2_4_gives_the_papers_vectors(void **state)
{
	(void)state;
	assert_int_equal(siphash_of_count(15, 2, 4), 0xa129ca6149be45e5ULL); /* the paper, appendix A */
	/* its reference implementation's list, by length */
	assert_int_equal(siphash_of_count(0, 2, 4), 0x726fdb47dd0e0e31ULL);
	assert_int_equal(siphash_of_count(1, 2, 4), 0x74f839c593dc67fdULL);
	assert_int_equal(siphash_of_count(7, 2, 4), 0xab0200f58b01d137ULL);
	assert_int_equal(siphash_of_count(8, 2, 4), 0x93f5f5799a932462ULL);
	assert_int_equal(siphash_of_count(16, 2, 4), 0x3f2acc7f57c29bdbULL);
	assert_int_equal(siphash_of_count(40, 2, 4), 0x0e3ea96b5304a7d0ULL);
	assert_int_equal(siphash_of_count(63, 2, 4), 0x958a324ceb064572ULL);
}

/* The two first are also those of other implementations of 1-3; all were computed by an independent one. */
static void siphash_1_3_gives_its_vectors(void **state)
{
	(void)state;
	assert_int_equal(siphash_of_count(0, 1, 3), 0xabac0158050fc4dcULL);
	assert_int_equal(siphash_of_count(1, 1, 3), 0xc9f49bf37d57ca93ULL);
	assert_int_equal(siphash_of_count(15, 1, 3), 0xd320d86d2a519956ULL);
	assert_int_equal(siphash_of_count(40, 1, 3), 0xc1d2363299e41531ULL);
}

static struct flow_words flow_v4(const char *source, const char *destination, uint16_t sport, uint16_t dport)
{
	struct flow_words f = { { 0 } };
	uint32_t s, d;

	assert_int_equal(inet_pton(AF_INET, source, &s), 1);
	assert_int_equal(inet_pton(AF_INET, destination, &d), 1);
	f.w[0] = flow_word_v4(s, d);
	f.w[4] = flow_word_l4(htons(sport), htons(dport), IPPROTO_TCP);
	return f;
}

static struct flow_words flow_v6(const char *source, const char *destination, uint16_t sport, uint16_t dport)
{
	struct flow_words f;

	assert_int_equal(inet_pton(AF_INET6, source, &f.w[0]), 1);
	assert_int_equal(inet_pton(AF_INET6, destination, &f.w[2]), 1);
	f.w[4] = flow_word_l4(htons(sport), htons(dport), IPPROTO_TCP);
	return f;
}

/* Expected values: computed by an independent implementation of what hash.h says. */
static void flow_hash_of_a_v4_flow_is_pinned(void **state)
{
	struct flow_keys key = flow_keys_of(SEED);
	struct flow_words f = flow_v4("192.0.2.1", "203.0.113.10", 40000, 443);

	(void)state;
	assert_int_equal(flow_hash(&key, &f, all_of_it, 0), 0x3b61163f);
	assert_int_equal(hash_slot(0x3b61163f, SHUNT_DEFAULT_SLOTS), 15201);
	f.w[1] = f.w[2] = f.w[3] = ~0ULL; /* not of a v4 flow */
	assert_int_equal(flow_hash(&key, &f, all_of_it, 0), 0x3b61163f);
}

static void flow_hash_of_a_v6_flow_is_pinned(void **state)
{
	struct flow_keys key = flow_keys_of(SEED);
	struct flow_words f = flow_v6("2001:db8::1", "2001:db8:0:1::10", 40000, 443);

	(void)state;
	assert_int_equal(flow_hash(&key, &f, all_of_it, 1), 0x549c4f15);
}

static void what_the_mask_leaves_out_changes_nothing_and_what_it_keeps_does(void **state)
{
	struct flow_keys key = flow_keys_of(SEED);
	__u64 source_v4[SHUNT_FLOW_WORDS] = { 0xffffffffULL }; /* the low half of word 0 */
	__u64 source_v6_64[SHUNT_FLOW_WORDS] = { ~0ULL }; /* a /64 */
	struct flow_words a = flow_v4("192.0.2.1", "203.0.113.10", 40000, 443);
	struct flow_words b = flow_v4("192.0.2.1", "203.0.113.11", 40001, 80);
	struct flow_words c = flow_v4("192.0.2.2", "203.0.113.10", 40000, 443);
	struct flow_words d = flow_v6("2001:db8::1", "2001:db8:0:1::10", 40000, 443);
	struct flow_words e = flow_v6("2001:db8::2:0:0:1", "2001:db8:0:1::11", 40001, 80);
	struct flow_words f = flow_v6("2001:db8:0:1::1", "2001:db8:0:1::10", 40000, 443);

	(void)state;
	assert_int_equal(flow_hash(&key, &a, source_v4, 0), 0x76e8c508);
	assert_int_equal(flow_hash(&key, &b, source_v4, 0), 0x76e8c508);
	assert_int_not_equal(flow_hash(&key, &c, source_v4, 0), 0x76e8c508);
	assert_int_equal(flow_hash(&key, &d, source_v6_64, 1), 0xf30f8a24);
	assert_int_equal(flow_hash(&key, &e, source_v6_64, 1), 0xf30f8a24);
	assert_int_not_equal(flow_hash(&key, &f, source_v6_64, 1), 0xf30f8a24);
}

static void another_seed_hashes_to_something_else(void **state)
{
	struct flow_keys key = flow_keys_of(SEED), other = flow_keys_of(SEED ^ 1);
	struct flow_words f = flow_v4("192.0.2.1", "203.0.113.10", 40000, 443);

	(void)state;
	assert_int_not_equal(flow_hash(&key, &f, all_of_it, 0), flow_hash(&other, &f, all_of_it, 0));
}

static void slots_are_in_bounds_and_all_in_use(void **state)
{
	static const uint32_t sizes[] = { 1, 2, 251, 65537, SHUNT_MAX_SLOTS };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t n = sizes[i];

		assert_int_equal(hash_slot(0, n), 0);
		assert_int_equal(hash_slot(UINT32_MAX, n), n - 1);
		/* The slots' parts of the hash's range differ by one value at most. */
		for (uint32_t slot = 0; slot < n; slot++) {
			uint64_t first = (((uint64_t)slot << 32) + n - 1) / n;

			assert_int_equal(hash_slot((uint32_t)first, n), slot);
			if (slot)
				assert_int_equal(hash_slot((uint32_t)first - 1, n), slot - 1);
		}
	}
}

/* Flows that differ in few bits, as real ones do: chi-square within 4 standard deviations of its mean. */
static void flows_of_one_client_spread_evenly(void **state)
{
	enum { N_SLOTS = 251, N_FLOWS = 64512 };
	struct flow_keys key = flow_keys_of(SEED);
	uint32_t v4[N_SLOTS] = { 0 }, v6[N_SLOTS] = { 0 };
	double chi2[2] = { 0 }, expected = (double)N_FLOWS / N_SLOTS;

	(void)state;
	for (uint32_t port = 1024; port < 1024 + N_FLOWS; port++) {
		struct flow_words f = flow_v4("192.0.2.1", "203.0.113.10", (uint16_t)port, 443);

		v4[hash_slot(flow_hash(&key, &f, all_of_it, 0), N_SLOTS)]++;
		f = flow_v6("2001:db8::1", "2001:db8:0:1::10", (uint16_t)port, 443);
		v6[hash_slot(flow_hash(&key, &f, all_of_it, 1), N_SLOTS)]++;
	}
	for (int slot = 0; slot < N_SLOTS; slot++) {
		chi2[0] += (v4[slot] - expected) * (v4[slot] - expected) / expected;
		chi2[1] += (v6[slot] - expected) * (v6[slot] - expected) / expected;
	}
	for (int i = 0; i < 2; i++) {
		double off = chi2[i] - (N_SLOTS - 1);

		assert_true(off * off < 16 * 2 * (N_SLOTS - 1));
	}
}

static void slot_after_reaches_every_slot_of_a_prime_number(void **state)
{
	/* The smallest number of slots a configuration may ask for; the usual one. */
	static const uint32_t sizes[] = { 251, 65537 };
	static uint8_t seen[65537];

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		/* Every stride there is for the small one, some for the other. */
		for (uint32_t hash = 0; hash < 256; hash += i ? 51 : 1) {
			uint32_t n = sizes[i], slot = hash_slot(hash * 0x01010101U, n);

			memset(seen, 0, n);
			for (uint32_t step = 0; step < n; step++) {
				assert_in_range(slot, 0, n - 1);
				assert_false(seen[slot]++);
				slot = slot_after(slot, hash, n);
			}
		}
	}
	for (uint32_t hash = 0; hash < 256; hash++)
		assert_int_equal(slot_after(0, hash, 1), 0);
}

static void flows_of_one_dead_slot_go_to_different_slots_next(void **state)
{
	uint8_t seen[SHUNT_DEFAULT_SLOTS] = { 0 };
	uint32_t n_next = 0;

	(void)state;
	/* All hashes of slot 7. */
	for (uint32_t hash = (uint32_t)(((7ULL << 32) + 65536) / SHUNT_DEFAULT_SLOTS);
	     hash_slot(hash, SHUNT_DEFAULT_SLOTS) == 7; hash++)
		n_next += !seen[slot_after(7, hash, SHUNT_DEFAULT_SLOTS)]++;
	assert_true(n_next > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(siphash_2_4_gives_the_papers_vectors),
		cmocka_unit_test(siphash_1_3_gives_its_vectors),
		cmocka_unit_test(flow_hash_of_a_v4_flow_is_pinned),
		cmocka_unit_test(flow_hash_of_a_v6_flow_is_pinned),
		cmocka_unit_test(what_the_mask_leaves_out_changes_nothing_and_what_it_keeps_does),
		cmocka_unit_test(another_seed_hashes_to_something_else),
		cmocka_unit_test(slots_are_in_bounds_and_all_in_use),
		cmocka_unit_test(flows_of_one_client_spread_evenly),
		cmocka_unit_test(slot_after_reaches_every_slot_of_a_prime_number),
		cmocka_unit_test(flows_of_one_dead_slot_go_to_different_slots_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
