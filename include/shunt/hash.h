/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * hash.h - from a flow to its slot: the same bytes in BPF and in user space.
 *
 * The hash is keyed by the configuration's seed, so the two balancers of a pair agree and an outsider can't aim at a
 * slot. It is the multilinear hash with half the multiplications (Lemire and Kaser, "Strongly universal string hashing
 * is fast", The Computer Journal 57, 2014, section 3: sums of (key + word)(key + word) over 32-bit words), then one
 * keyed step that undoes its linearity, which regular ports would show. Two deviations: the paper's keys are
 * independent, ours follow from 128 bits; and it promises nothing against somebody who sees the hashes. Nobody does: who
 * can tell backends apart learns which of his own flows share one, under any hash.
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

/* The product for one 64-bit word, number 0 .. SHUNT_FLOW_WORDS - 1, of the flow: its two halves under two keys. */
static __always_inline __u64 flow_word_hash(const struct siphash_key *key, int number, __u64 word)
{
	/* Without a structure of their own: SHA-512's first round constants (FIPS 180-4, 4.2.3). */
	static const __u64 multipliers[SHUNT_FLOW_WORDS][2] = {
		{ 0x428a2f98d728ae22ULL, 0x7137449123ef65cdULL }, { 0xb5c0fbcfec4d3b2fULL, 0xe9b5dba58189dbbcULL },
		{ 0x3956c25bf348b538ULL, 0x59f111f1b605d019ULL }, { 0x923f82a4af194f9bULL, 0xab1c5ed5da6d8118ULL },
		{ 0xd807aa98a3030242ULL, 0x12835b0145706fbeULL },
	};

	return (key->k0 * multipliers[number][0] + key->k1 + (__u32)word) *
	       (key->k0 * multipliers[number][1] + key->k1 + (word >> 32));
}

/* 32-bit hash of a flow. is_v6 may be a variable; mask is vip.hash_mask. */
static __always_inline __u32 flow_hash(const struct siphash_key *key, const struct flow_words *flow, const __u64 *mask,
				       int is_v6)
{
	__u64 h = flow_word_hash(key, 0, flow->w[0] & mask[0]) + flow_word_hash(key, 4, flow->w[4] & mask[4]);

	if (is_v6)
		h += flow_word_hash(key, 1, flow->w[1] & mask[1]) + flow_word_hash(key, 2, flow->w[2] & mask[2]) +
		     flow_word_hash(key, 3, flow->w[3] & mask[3]);
	h = (h ^ h >> 32) * (key->k1 | 1);
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

#endif
