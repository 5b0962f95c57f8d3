// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * vip_index_test.c - VIPs are found where they were put, whatever comes and goes beside them.
 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "core/vip_index.h"
#include "shunt/vips.h"

static __u64 buckets[VIP_BUCKETS];
static struct vip records[VIP_RECORDS];
static struct vip_index empty_index(void)
{
	memset(buckets, 0, sizeof(buckets));
	memset(records, 0, sizeof(records));
	return (struct vip_index){ .buckets = buckets, .records = records };
}

/* VIP number n of many: both families, some ports of each address. */
static struct vip vip_of(__u32 n)
{
	struct vip vip = { .id = n, .n_slots = n + 1, .key = { .protocol = n % 3 ? IPPROTO_TCP : IPPROTO_UDP } };

	vip.key.port = htons((uint16_t)(n % 8 ? 440 + n % 8 : 0));
	if (n % 2)
		vip.key.address = (struct shunt_addr){ .w = { 0, 0, SHUNT_V4_MAPPED, htonl(0xcb007100 + n / 8) } };
	else
		vip.key.address = (struct shunt_addr){ .w = { htonl(0x20010db8), 0, 0, htonl(n / 8) } };
	return vip;
}

static void assert_found(const struct vip_index *index, const struct vip *vip)
{
	const struct vip *found = vip_index_find(index, &vip->key);

	assert_non_null(found);
	assert_memory_equal(found, vip, sizeof(*vip));
}

static void as_many_vips_as_there_may_be_are_found_and_no_others(void **state)
{
	struct vip_index index = empty_index();

	(void)state;
	for (__u32 n = 0; n < SHUNT_MAX_VIPS; n++) {
		struct vip vip = vip_of(n);

		assert_int_equal(vip_index_set(&index, &vip), 0);
	}
	for (__u32 n = 0; n < SHUNT_MAX_VIPS; n++) {
		struct vip vip = vip_of(n);

		assert_found(&index, &vip);
	}
	for (__u32 n = SHUNT_MAX_VIPS; n < 4 * SHUNT_MAX_VIPS; n++) {
		struct vip vip = vip_of(n);

		assert_null(vip_index_find(&index, &vip.key));
	}
}

static void a_vip_that_is_set_again_is_replaced_and_its_old_record_left_alone(void **state)
{
	struct vip_index index = empty_index();
	struct vip vip = vip_of(5), other = vip_of(6);
	const struct vip *old;

	(void)state;
	assert_int_equal(vip_index_set(&index, &vip), 0);
	assert_int_equal(vip_index_set(&index, &other), 0);
	old = vip_index_find(&index, &vip.key);
	vip.n_slots = 251;
	assert_int_equal(vip_index_set(&index, &vip), 0);
	assert_found(&index, &vip);
	assert_int_equal(old->n_slots, 6);
	for (int i = 0; i < VIP_RECORDS / 2; i++) {
		assert_int_equal(old->n_slots, 6); /* a packet may still read it */
		assert_int_equal(vip_index_set(&index, &other), 0);
	}
	assert_found(&index, &other);
	assert_found(&index, &vip);
}

static void a_vip_that_was_taken_out_hides_none_behind_it(void **state)
{
	struct vip_index index = empty_index();

	(void)state;
	for (__u32 n = 0; n < SHUNT_MAX_VIPS; n++) {
		struct vip vip = vip_of(n);

		assert_int_equal(vip_index_set(&index, &vip), 0);
	}
	for (__u32 n = 0; n < SHUNT_MAX_VIPS; n += 2) {
		struct vip vip = vip_of(n);

		assert_int_equal(vip_index_delete(&index, &vip.key), 0);
		assert_int_equal(vip_index_delete(&index, &vip.key), -ENOENT);
	}
	for (__u32 n = 0; n < SHUNT_MAX_VIPS; n++) {
		struct vip vip = vip_of(n);

		if (n % 2)
			assert_found(&index, &vip);
		else
			assert_null(vip_index_find(&index, &vip.key));
	}
}

static void vips_may_come_and_go_for_ever(void **state)
{
	struct vip_index index = empty_index();

	(void)state;
	for (__u32 n = 0; n < 50000; n++) {
		struct vip vip = vip_of(n), gone = vip_of(n - 100);

		assert_int_equal(vip_index_set(&index, &vip), 0);
		if (n >= 100)
			assert_int_equal(vip_index_delete(&index, &gone.key), 0);
		assert_found(&index, &vip);
	}
}

static void buckets_are_spread_evenly(void **state)
{
	static unsigned counts[VIP_BUCKETS / 16];
	unsigned most = 0;

	(void)state;
	for (__u32 n = 0; n < 16384; n++) {
		struct vip_key key = vip_of(n).key;
		__u64 half[2];
		struct vip_place place;

		memcpy(half, &key.address, sizeof(half));
		place = n % 2 ? vip_place_of(0, key.address.w[3], key.port, key.protocol)
			      : vip_place_of(half[0], half[1], key.port, key.protocol);
		assert_in_range(place.bucket, 0, VIP_BUCKETS - 1);
		if (++counts[place.bucket / 16] > most)
			most = counts[place.bucket / 16];
	}
	assert_true(most < 2 * 16384 / (VIP_BUCKETS / 16)); /* 64 expected */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_many_vips_as_there_may_be_are_found_and_no_others),
		cmocka_unit_test(a_vip_that_is_set_again_is_replaced_and_its_old_record_left_alone),
		cmocka_unit_test(a_vip_that_was_taken_out_hides_none_behind_it),
		cmocka_unit_test(vips_may_come_and_go_for_ever),
		cmocka_unit_test(buckets_are_spread_evenly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
