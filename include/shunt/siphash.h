/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * siphash.h - SipHash (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012) over 64-bit words,
 * for BPF and user space alike. The rounds per word and at the end are compile-time constants: 2-4, the paper's choice,
 * wherever nothing is said.
 */
#ifndef SHUNT_SIPHASH_H
#define SHUNT_SIPHASH_H

#include <linux/types.h>

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#ifdef __clang__
#define SHUNT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SHUNT_UNROLL _Pragma("GCC unroll 8")
#endif

/* 128-bit key as two host-order words (the paper's k0, k1). */
struct siphash_key {
	__u64 k0, k1;
};

struct siphash_state {
	__u64 v0, v1, v2, v3;
};

#define SIPHASH_ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

static __always_inline void siphash_round(struct siphash_state *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = SIPHASH_ROTL(s->v1, 13) ^ s->v0;
	s->v3 = SIPHASH_ROTL(s->v3, 16) ^ s->v2;
	s->v0 = SIPHASH_ROTL(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = SIPHASH_ROTL(s->v1, 17) ^ s->v2;
	s->v3 = SIPHASH_ROTL(s->v3, 21) ^ s->v0;
	s->v2 = SIPHASH_ROTL(s->v2, 32);
}

/*
 * SipHash-c-d of a message already cut into n_blocks little-endian 64-bit blocks, the last of which ends in
 * the length byte as in the paper's section 2.2 (the caller puts it there: length mod 256, shifted left by 56).
 * c, d and n_blocks must be constants at the call: the loops are unrolled for BPF.
 */
static __always_inline __u64 siphash_blocks(const struct siphash_key *key, const __u64 *blocks, int n_blocks, int c,
					    int d)
{
	struct siphash_state s = {
		.v0 = key->k0 ^ 0x736f6d6570736575ULL,
		.v1 = key->k1 ^ 0x646f72616e646f6dULL,
		.v2 = key->k0 ^ 0x6c7967656e657261ULL,
		.v3 = key->k1 ^ 0x7465646279746573ULL,
	};

	SHUNT_UNROLL
	for (int i = 0; i < n_blocks; i++) {
		s.v3 ^= blocks[i];
		SHUNT_UNROLL
		for (int r = 0; r < c; r++)
			siphash_round(&s);
		s.v0 ^= blocks[i];
	}
	s.v2 ^= 0xff;
	SHUNT_UNROLL
	for (int r = 0; r < d; r++)
		siphash_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

#endif
