/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vip_index.c - see vip_index.h. A bucket whose VIP went is marked VIP_BUCKET_GONE, so that the ones behind are still found;
 * it is filled by the next VIP that comes by.
 */
#include "core/vip_index.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "core/config.h"
#include "shunt/vips.h"

static struct vip_place place_of(const struct vip_key *key)
{
	__u64 half[2];

	memcpy(half, &key->address, sizeof(half));
	if (address_is_v4(&key->address))
		return vip_place_of(0, key->address.w[3], key->port, key->protocol);
	return vip_place_of(half[0], half[1], key->port, key->protocol);
}

/* The bucket that holds a key, or NULL. */
static __u64 *bucket_of(const struct vip_index *index, const struct vip_key *key)
{
	struct vip_place place = place_of(key);

	for (__u32 i = 0; i < VIP_PROBES; i++) {
		__u64 *bucket = &index->buckets[(place.bucket + i) % VIP_BUCKETS];

		if (!*bucket)
			return NULL;
		if (*bucket >> 32 == place.check && !memcmp(&index->records[(__u32)*bucket].key, key, sizeof(*key)))
			return bucket;
	}
	return NULL;
}

static __u64 *bucket_for(const struct vip_index *index, const struct vip_key *key)
{
	struct vip_place place = place_of(key);

	for (__u32 i = 0; i < VIP_PROBES; i++) {
		__u64 *bucket = &index->buckets[(place.bucket + i) % VIP_BUCKETS];

		if (!*bucket || *bucket == VIP_BUCKET_GONE)
			return bucket;
	}
	return NULL;
}

static bool is_used(const struct vip_index *index, __u32 record)
{
	const struct vip *vip = &index->records[record];
	const __u64 *bucket = vip->key.protocol ? bucket_of(index, &vip->key) : NULL;

	return bucket && (__u32)*bucket == record;
}

int vip_index_set(struct vip_index *index, const struct vip *vip)
{
	__u64 *bucket = bucket_of(index, &vip->key);

	bucket = bucket ? bucket : bucket_for(index, &vip->key);
	if (!bucket)
		return -ENOSPC;
	for (__u32 tries = 0; tries < VIP_RECORDS; tries++) {
		index->next = index->next % (VIP_RECORDS - 1) + 1; /* 1 .. VIP_RECORDS - 1, round and round */
		if (is_used(index, index->next))
			continue;
		index->records[index->next] = *vip;
		__atomic_store_n(bucket, vip_bucket_word(index->next, place_of(&vip->key).check), __ATOMIC_RELEASE);
		return 0;
	}
	return -ENOSPC;
}

int vip_index_delete(struct vip_index *index, const struct vip_key *key)
{
	__u64 *bucket = bucket_of(index, key);

	if (!bucket)
		return -ENOENT;
	__atomic_store_n(bucket, VIP_BUCKET_GONE, __ATOMIC_RELEASE);
	return 0;
}

const struct vip *vip_index_find(const struct vip_index *index, const struct vip_key *key)
{
	const __u64 *bucket = bucket_of(index, key);

	return bucket ? &index->records[(__u32)*bucket] : NULL;
}
