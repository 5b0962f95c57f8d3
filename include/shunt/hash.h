/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * hash.h - from a flow to its slot: the same bytes in BPF and in user space.
 *
 * The hash is keyed by the configuration's seed, so the two balancers of a pair agree and an outsider can't aim at a
 * slot. It is the multilinear hash with half the multiplications (Lemire and Kaser, "Strongly universal string hashing
 * is fast", The Computer Journal 57, 2014, section 3: sums of (key + word)(key + word) over 32-bit words), then one
 * keyed step that undoes its linearity, which regular ports would show. The keys are drawn from the seed by SipHash-2-4.
 * It promises nothing against somebody who sees the hashes. Nobody does: who can tell backends apart learns which of his
 * own flows share one, under any hash.
 * SipHash-1-3 in its place cost 20 ns of 104 for an IPv4 packet (tests/bench/bench_datapath.c).
 *
 * What is hashed is what the VIP's mask leaves of addresses, ports and protocol. Test vectors: tests/unit/hash_test.c.
 */
#ifndef SHUNT_HASH_H
#define SHUNT_HASH_H

#include "shunt/abi.h"
#include "shunt/siphash.h"

/*
 * The flow as words, before masking. IPv6: words 0-1 source, 2-3 destination. IPv4: word 0 holds the source in its
 * low half and the destination in its high half, words 1-3 are unused. Word 4: source port in bits 0-15, destination
 * port in bits 16-31, protocol in bits 32-39; ports as loaded from the wire.
 */
struct flow_words {
	__u64 w[SHUNT_FLOW_WORDS];
};

static __always_inline __u64 flow_word_l4(__be16 sport, __be16 dport, __u8 protocol)
{
	return (__u64)sport | (__u64)dport << 16 | (__u64)protocol << 32;
}

static __always_inline __u64 flow_word_v4(__be32 saddr, __be32 daddr)
{
	return (__u64)saddr | (__u64)daddr << 32;
}

/* Two keys for each 64-bit word of a flow, and one for the last step (odd). See flow_keys_of(). */
struct flow_keys {
	__u64 word[SHUNT_FLOW_WORDS][2];
	__u64 last;
};

static __always_inline __u64 flow_word_hash(__u64 key_low, __u64 key_high, __u64 word)
{
	return (key_low + (__u32)word) * (key_high + (word >> 32));
}

/* 32-bit hash of a flow. is_v6 may be a variable; mask is vip.hash_mask. */
static __always_inline __u32 flow_hash(const volatile struct flow_keys *k, const struct flow_words *flow,
				       const __u64 *mask, int is_v6)
{
	__u64 h = flow_word_hash(k->word[0][0], k->word[0][1], flow->w[0] & mask[0]) +
		  flow_word_hash(k->word[4][0], k->word[4][1], flow->w[4] & mask[4]);

	if (is_v6)
		h += flow_word_hash(k->word[1][0], k->word[1][1], flow->w[1] & mask[1]) +
		     flow_word_hash(k->word[2][0], k->word[2][1], flow->w[2] & mask[2]) +
		     flow_word_hash(k->word[3][0], k->word[3][1], flow->w[3] & mask[3]);
	h = (h ^ h >> 32) * k->last;
	return (__u32)(h >> 32);
}

/* Slot of a hash, 0 .. n_slots - 1: multiply and shift (Lemire, "Fast random integer generation", 2019). */
static __always_inline __u32 hash_slot(__u32 hash, __u32 n_slots)
{
	return (__u32)((__u64)hash * n_slots >> 32);
}

/*
 * The slot to try after `slot` when its owner and heir are both down: a fixed stride of the hash, so the flows of
 * one dead slot spread. n_slots is a prime above the longest stride, or 1: hence every slot is reached in the end.
 */
static __always_inline __u32 slot_after(__u32 slot, __u32 hash, __u32 n_slots)
{
	__u32 stride = 1 + (hash & 0x7f);
	__u32 next = slot + stride;

	if (next >= n_slots)
		next -= n_slots;
	return next < n_slots ? next : 0;
}

/* The key's two words from the configuration's 64-bit seed; the second is the first under a fixed bijection. */
static inline struct siphash_key seed_key(__u64 seed)
{
	__u64 z = seed + 0x9e3779b97f4a7c15ULL; /* splitmix64 (Steele, Lea, Flood, OOPSLA 2014) */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return (struct siphash_key){ .k0 = seed, .k1 = z ^ z >> 31 };
}

/* The keys of a seed: SipHash-2-4 of the key's number, so that they are as good as drawn independently. */
static inline struct flow_keys flow_keys_of(__u64 seed)
{
	const struct siphash_key key = seed_key(seed);
	struct flow_keys keys;

	for (__u64 i = 0; i <= 2 * SHUNT_FLOW_WORDS; i++) {
		const __u64 blocks[2] = { i, 8ULL << 56 };
		__u64 k = siphash_blocks(&key, blocks, 2, 2, 4);

		if (i < 2 * SHUNT_FLOW_WORDS)
			keys.word[i / 2][i % 2] = k;
		else
			keys.last = k | 1;
	}
	return keys;
}

#endif
