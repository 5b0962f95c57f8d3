/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vips.h - from (address, port, protocol) to a VIP's record: an open hash in two arrays, the same bytes in BPF and in
 * user space. The kernel's own hash map took 14 of the walk's 46 ns above the floor; two array look-ups take 4.
 *
 * The index has VIP_BUCKETS buckets; a VIP is in the first of VIP_PROBES consecutive ones from its hash on that was free.
 * A bucket is one aligned 64-bit word, so a packet sees a VIP's old record, its new one, or none. Written by shuntd
 * (user/core/vip_index.c), read by the walk.
 */
#ifndef SHUNT_VIPS_H
#define SHUNT_VIPS_H

#include "shunt/abi.h"
#include "shunt/siphash.h" /* __always_inline */

/* Where to begin to look, and what the bucket must hold besides, from one hash: multiplications by odd constants. */
struct vip_place {
	__u32 bucket;
	__u32 check; /* never 0 */
};

/*
 * high, low: the address's two halves as loaded from memory; of an IPv4 address 0 and its four bytes. Not keyed: which
 * VIPs there are is the operator's choice, nobody else's.
 */
static __always_inline struct vip_place vip_place_of(__u64 high, __u64 low, __be16 port, __u8 protocol)
{
	/* The golden ratio's and two of SHA-512's round constants (FIPS 180-4, 4.2.3), made odd. */
	__u64 h = high * 0x7137449123ef65cdULL + low * 0x9e3779b97f4a7c15ULL +
		  ((__u64)port << 8 | protocol) * 0xe9b5dba58189dbbdULL;

	h = (h ^ h >> 32) * 0x9e3779b97f4a7c15ULL;
	return (struct vip_place){ .bucket = (__u32)(h >> 52), .check = (__u32)h | 1 };
}
_Static_assert(VIP_BUCKETS == 1 << 12, "vip_place_of() takes the top 12 bits");

static __always_inline __u64 vip_bucket_word(__u32 record, __u32 check)
{
	return (__u64)check << 32 | record;
}

#endif
