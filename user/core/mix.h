/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mix.h - cheap numbers that look random, from numbers that are keyed already. Not a keyed hash itself: what comes in
 * was hashed under the configuration's seed (siphash.h).
 */
#ifndef SHUNT_CORE_MIX_H
#define SHUNT_CORE_MIX_H

#include <stdint.h>

/* The `i`-th number of the sequence that starts at `start`: splitmix64 (Steele, Lea, Flood, OOPSLA 2014), period 2^64. */
static inline uint64_t mix_at(uint64_t start, uint64_t i)
{
	uint64_t z = start + (i + 1) * 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* The same, spread over 0 .. n - 1 by its high half. */
static inline uint32_t mix_below(uint64_t start, uint64_t i, uint32_t n)
{
	return (uint32_t)((mix_at(start, i) >> 32) * n >> 32);
}

#endif
