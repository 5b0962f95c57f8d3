/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow_test.c - what a VIP hashes, and whom the walk's rule chooses. Hash vectors themselves: hash_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "core/flow.h"
#include "shunt/hash.h"

#define N_SLOTS 11

static struct flow_tuple flow_of(const char *source, const char *destination, uint16_t sport, uint16_t dport)
{
	struct flow_tuple f = { .source_port = htons(sport),
				.destination_port = htons(dport),
				.protocol = IPPROTO_TCP };

	assert_int_equal(address_parse(&f.source, source), 0);
	assert_int_equal(address_parse(&f.destination, destination), 0);
	return f;
}

static uint32_t hash_of(const struct flow_tuple *f, enum config_hash hash, uint8_t prefix)
{
	struct config_vip vip = { .address = f->destination, .hash = hash, .hash_prefix = prefix };
	uint64_t mask[SHUNT_FLOW_WORDS];

	vip_hash_mask(mask, &vip);
	return flow_hash_under(f, 0x5eed0123456789abULL, mask);
}

static void five_tuple_hash_sees_every_field_in_both_families(void **state)
{
	const char *pairs[2][4] = { { "192.0.2.1", "203.0.113.10", "192.0.2.2", "203.0.113.11" },
				    { "2001:db8::1", "2001:db8:1::1", "2001:db8::2", "2001:db8:1::2" } };

	(void)state;
	for (int i = 0; i < 2; i++) {
		const char **p = pairs[i];
		struct flow_tuple base = flow_of(p[0], p[1], 40000, 443);
		struct flow_tuple other[5] = { flow_of(p[2], p[1], 40000, 443), flow_of(p[0], p[3], 40000, 443),
					       flow_of(p[0], p[1], 40001, 443), flow_of(p[0], p[1], 40000, 444), base };

		other[4].protocol = IPPROTO_UDP;
		for (int k = 0; k < 5; k++)
			assert_int_not_equal(hash_of(&base, HASH_5TUPLE, 0), hash_of(&other[k], HASH_5TUPLE, 0));
	}
}

static void five_tuple_hash_of_ipv4_is_that_of_thirteen_wire_bytes(void **state)
{
	struct flow_tuple f = flow_of("192.0.2.1", "203.0.113.10", 0x1234, 443);
	struct flow_keys key = flow_keys_of(0x5eed0123456789abULL);
	uint8_t bytes[16] = { 192, 0, 2, 1, 203, 0, 113, 10, 0x12, 0x34, 443 >> 8, 443 & 0xff, IPPROTO_TCP };
	const __u64 all[SHUNT_FLOW_WORDS] = { ~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL };
	struct flow_words words = { { 0 } };

	(void)state;
	memcpy(&words.w[0], bytes, 8);
	memcpy(&words.w[4], bytes + 8, 8);
	assert_int_equal(hash_of(&f, HASH_5TUPLE, 0), flow_hash(&key, &words, all, 0));
}

static void source_hash_sees_the_source_prefix_and_nothing_else(void **state)
{
	struct flow_tuple a = flow_of("192.0.2.1", "203.0.113.10", 40000, 443);
	struct flow_tuple b = flow_of("192.0.2.1", "203.0.113.99", 40001, 80);
	struct flow_tuple c = flow_of("192.0.2.200", "203.0.113.10", 40000, 443);
	struct flow_tuple d = flow_of("192.0.3.1", "203.0.113.10", 40000, 443);
	struct flow_tuple e = flow_of("2001:db8:0:1::1", "2001:db8:1::1", 40000, 443);
	struct flow_tuple g = flow_of("2001:db8:0:1::2", "2001:db8:1::9", 1, 2);
	struct flow_tuple h = flow_of("2001:db8:0:2::1", "2001:db8:1::1", 40000, 443);

	(void)state;
	b.protocol = IPPROTO_UDP;
	assert_int_equal(hash_of(&a, HASH_SOURCE, 32), hash_of(&b, HASH_SOURCE, 32));
	assert_int_not_equal(hash_of(&a, HASH_SOURCE, 32), hash_of(&c, HASH_SOURCE, 32));
	assert_int_equal(hash_of(&a, HASH_SOURCE, 24), hash_of(&c, HASH_SOURCE, 24));
	assert_int_not_equal(hash_of(&a, HASH_SOURCE, 24), hash_of(&d, HASH_SOURCE, 24));
	assert_int_equal(hash_of(&a, HASH_SOURCE, 23), hash_of(&d, HASH_SOURCE, 23));
	assert_int_equal(hash_of(&e, HASH_SOURCE, 64), hash_of(&g, HASH_SOURCE, 64));
	assert_int_not_equal(hash_of(&e, HASH_SOURCE, 128), hash_of(&g, HASH_SOURCE, 128));
	assert_int_not_equal(hash_of(&e, HASH_SOURCE, 64), hash_of(&h, HASH_SOURCE, 64));
	assert_int_equal(hash_of(&e, HASH_SOURCE, 62), hash_of(&h, HASH_SOURCE, 62));
}

static bool up_in_set(const void *arg, uint16_t id)
{
	return *(const uint32_t *)arg >> id & 1;
}

static struct flow_way choose(const struct slot *slots, uint32_t up)
{
	struct flow_way way;

	flow_choose(&way, 0x40000003, slots, N_SLOTS, up_in_set, &up);
	return way;
}

static void owner_serves_then_heir_then_the_next_slots_then_nobody(void **state)
{
	struct slot slots[N_SLOTS];
	struct flow_way way;
	uint32_t own = hash_slot(0x40000003, N_SLOTS), next = slot_after(own, 0x40000003, N_SLOTS);

	(void)state;
	for (int i = 0; i < N_SLOTS; i++)
		slots[i] = (struct slot){ 5, 6 };
	slots[own] = (struct slot){ 1, 2 };
	slots[next] = (struct slot){ 3, 4 };

	way = choose(slots, 1 << 1 | 1 << 2);
	assert_int_equal(way.slot, own);
	assert_int_equal(way.at.owner, 1);
	assert_int_equal(way.at.heir, 2);
	assert_int_equal(way.backend, 1);
	assert_false(way.by_heir);
	way = choose(slots, 1 << 2 | 1 << 3);
	assert_int_equal(way.backend, 2);
	assert_true(way.by_heir);
	assert_int_equal(way.n_walked, 0);
	way = choose(slots, 1 << 3 | 1 << 4);
	assert_int_equal(way.backend, 3);
	assert_int_equal(way.served_slot, next);
	assert_int_equal(way.n_walked, 1);
	way = choose(slots, 1 << 4 | 1 << 5);
	assert_int_equal(way.backend, 4);
	assert_true(way.by_heir);
	way = choose(slots, 0);
	assert_int_equal(way.backend, 0);
	assert_int_equal(way.n_walked, SHUNT_SLOT_TRIES);
}

static void walk_gives_up_after_the_agreed_number_of_further_slots(void **state)
{
	struct slot slots[N_SLOTS];
	uint32_t slot = hash_slot(0x40000003, N_SLOTS), up = 1 << 7;

	(void)state;
	memset(slots, 0, sizeof(slots));
	for (int i = 0; i < SHUNT_SLOT_TRIES; i++)
		slot = slot_after(slot, 0x40000003, N_SLOTS);
	slots[slot].heir = 7;
	assert_int_equal(choose(slots, up).backend, 7);
	assert_int_equal(choose(slots, up).served_slot, slot);
	slots[slot].heir = 0;
	slots[slot_after(slot, 0x40000003, N_SLOTS)].heir = 7;
	assert_int_equal(choose(slots, up).backend, 0);
}

static void empty_table_has_nobody(void **state)
{
	struct flow_way way;
	uint32_t up = ~0U;

	(void)state;
	flow_choose(&way, 1, NULL, 0, up_in_set, &up);
	assert_int_equal(way.backend, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(five_tuple_hash_sees_every_field_in_both_families),
		cmocka_unit_test(five_tuple_hash_of_ipv4_is_that_of_thirteen_wire_bytes),
		cmocka_unit_test(source_hash_sees_the_source_prefix_and_nothing_else),
		cmocka_unit_test(owner_serves_then_heir_then_the_next_slots_then_nobody),
		cmocka_unit_test(walk_gives_up_after_the_agreed_number_of_further_slots),
		cmocka_unit_test(empty_table_has_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
