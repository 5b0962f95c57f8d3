// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * succession.c - the order of succession of a slot, by weighted rendezvous hashing (Thaler and Ravishankar, "Using
 * name-based mappings to increase hit rates", 1998; weights: Schindelhauer and Schomaker, "Weighted distributed hash
 * tables", 2005): each member waits for the slot a random time, exponential with its weight for a rate; who waits
 * least is first. So a slot's heir is a member with a chance in proportion to its weight, and a member that dies or
 * returns concerns only the slots where it is or becomes the heir. Before all, members of another failure domain than
 * the owner's come before those of the owner's own.
 *
 * Two choices make it fast and free of floating point:
 *
 * - A member's random numbers over the slots are a permutation of 0 .. n_slots - 1, its *places*. The time that
 *   belongs to place p is the mean of the (p + 1)-th smallest of n_slots exponential times: 1 / n_slots +
 *   1 / (n_slots - 1) + ... + 1 / (n_slots - p) (Renyi, "On the theory of order statistics", 1953). A running sum of
 *   integer divisions, no logarithm.
 * - The permutation can be walked from its first place on: a line over the prime field of n_slots elements, bent by
 *   one random permutation that all members share (with bare lines, some pairs of members would wait for the same
 *   slots). A slot's heir is nearly always early in that member's places, so filling n_slots heirs walks only the
 *   first n_slots x ln(n) places or so of all members together, and looks at every member for the few slots left.
 *
 * Who is alive is told by the caller, who owns heirs[] too.
 */
#include <errno.h>
#include <stdlib.h>

#include "shunt/abi.h"
#include "core/mix.h"
#include "core/succession.h"

/* A wait's unit: 2^27 is the mean wait at rate 1. The longest, ln(SHUNT_MAX_SLOTS) + 1 means, fits 32 bits. */
#define WAIT_MEAN (1U << 27)

struct heir_member {
	uint32_t slope, slope_inverse, offset; /* its line, modulo n_slots */
	uint32_t weight;
	uint16_t domain;
	bool alive;
};

struct succession {
	uint32_t n_slots;
	uint64_t reciprocal; /* 2^64 / n_slots, at most 1 too small */
	uint32_t *bend, *unbend; /* [n_slots]: the shared permutation and its inverse */
	uint32_t *wait; /* [n_slots]: of a place, at rate 1 */
	size_t n;
	struct heir_member members[];
};

/* One member's standing for one slot. */
struct claim {
	bool near; /* of the owner's failure domain */
	uint32_t wait; /* at rate 1 */
	uint32_t weight;
	uint16_t member;
};

/* x mod n_slots for x < 2^63: Barrett's reduction; the quotient is right or one too small. */
static uint32_t reduce(const struct succession *s, uint64_t x)
{
	uint64_t quotient = (uint64_t)((unsigned __int128)x * s->reciprocal >> 64);
	uint64_t rest = x - quotient * s->n_slots;

	return (uint32_t)(rest < s->n_slots ? rest : rest - s->n_slots);
}

/* The slot at a member's place, and the place of a slot: inverse of each other. */
static uint32_t slot_at(const struct succession *s, const struct heir_member *m, uint32_t place)
{
	return reduce(s, (uint64_t)m->slope * s->bend[place] + m->offset);
}

static uint32_t place_of(const struct succession *s, const struct heir_member *m, uint32_t slot)
{
	return s->unbend[reduce(s, (uint64_t)m->slope_inverse * (slot + s->n_slots - m->offset))];
}

/* 1 / x modulo n_slots, by Fermat: x^(n_slots - 2). */
static uint32_t invert(const struct succession *s, uint32_t x)
{
	uint64_t result = 1 % s->n_slots, power = x;

	for (uint32_t e = s->n_slots - 2; e; e >>= 1) {
		if (e & 1)
			result = reduce(s, result * power);
		power = reduce(s, power * power);
	}
	return (uint32_t)result;
}

static struct claim claim_of(const struct succession *s, uint16_t member, uint32_t slot, uint16_t owner)
{
	const struct heir_member *m = &s->members[member];

	return (struct claim){
		.near = m->domain == s->members[owner].domain,
		.wait = s->wait[place_of(s, m, slot)],
		.weight = m->weight,
		.member = member,
	};
}

/* Does a come before b? Compares wait / weight by cross-multiplying; of equals the one with the lower index. */
static bool claim_before(const struct claim *a, const struct claim *b)
{
	uint64_t x = (uint64_t)a->wait * b->weight, y = (uint64_t)b->wait * a->weight;

	if (a->near != b->near)
		return b->near;
	return x != y ? x < y : a->member < b->member;
}

int succession_new(struct succession **out, const struct succession_member *members, size_t n, uint32_t n_slots,
		   uint64_t secret)
{
	struct succession *s = calloc(1, sizeof(*s) + n * sizeof(s->members[0]));
	uint64_t sum = 0;

	*out = NULL;
	if (!s)
		return -ENOMEM;
	s->n_slots = n_slots;
	s->reciprocal = UINT64_MAX / n_slots;
	s->n = n;
	s->bend = calloc(n_slots, sizeof(*s->bend));
	s->unbend = calloc(n_slots, sizeof(*s->unbend));
	s->wait = calloc(n_slots, sizeof(*s->wait));
	if (!s->bend || !s->unbend || !s->wait) {
		succession_free(s);
		return -ENOMEM;
	}

	/* Fisher and Yates, built from the front (Knuth, "The Art of Computer Programming" 2, 3.4.2, algorithm P). */
	for (uint32_t i = 0; i < n_slots; i++) {
		uint32_t j = mix_below(secret, i, i + 1);

		s->bend[i] = s->bend[j];
		s->bend[j] = i;
	}
	for (uint32_t i = 0; i < n_slots; i++)
		s->unbend[s->bend[i]] = i;
	for (uint32_t place = 0; place < n_slots; place++) {
		sum += ((uint64_t)WAIT_MEAN << 20) / (n_slots - place);
		s->wait[place] = (uint32_t)(sum >> 20);
	}
	for (size_t i = 0; i < n; i++) {
		struct heir_member *m = &s->members[i];

		m->slope = 1 + mix_below(members[i].identity, 0, n_slots - 1);
		m->offset = mix_below(members[i].identity, 1, n_slots);
		m->slope_inverse = invert(s, m->slope);
		m->weight = members[i].weight;
		m->domain = members[i].domain;
		m->alive = members[i].alive;
	}
	*out = s;
	return 0;
}

void succession_free(struct succession *s)
{
	if (!s)
		return;
	free(s->bend);
	free(s->unbend);
	free(s->wait);
	free(s);
}

bool succession_is_alive(const struct succession *s, uint16_t member)
{
	return s->members[member].alive;
}

void succession_set_alive(struct succession *s, uint16_t member, bool alive)
{
	s->members[member].alive = alive;
}

uint16_t succession_next(const struct succession *s, uint32_t slot, uint16_t owner, uint16_t previous)
{
	struct claim after = { 0 }, best = { .member = SUCCESSION_NONE };

	if (previous != SUCCESSION_NONE)
		after = claim_of(s, previous, slot, owner);
	for (size_t i = 0; i < s->n; i++) {
		struct claim c = claim_of(s, (uint16_t)i, slot, owner);

		if (i == owner || (previous != SUCCESSION_NONE && !claim_before(&after, &c)))
			continue;
		if (best.member == SUCCESSION_NONE || claim_before(&c, &best))
			best = c;
	}
	return best.member;
}

/* The living, and their weights as far as the walk needs them. */
struct living {
	size_t n;
	uint16_t *members; /* [n], in their order */
	uint64_t total;
	uint32_t largest; /* of one member */
	uint64_t *domain; /* [n members]: of each domain */
	uint16_t heaviest, second; /* the two domains with most; SUCCESSION_NONE: there is none */
};

static int living_weigh(struct living *l, const struct succession *s)
{
	*l = (struct living){ .heaviest = SUCCESSION_NONE, .second = SUCCESSION_NONE };
	l->members = calloc(s->n, sizeof(*l->members));
	l->domain = calloc(s->n, sizeof(*l->domain));
	if (!l->members || !l->domain)
		return -ENOMEM;
	for (size_t i = 0; i < s->n; i++) {
		const struct heir_member *m = &s->members[i];

		if (!m->alive)
			continue;
		l->members[l->n++] = (uint16_t)i;
		l->total += m->weight;
		if (m->weight > l->largest)
			l->largest = m->weight;
		l->domain[m->domain] += m->weight;
	}
	for (size_t d = 0; d < s->n; d++) {
		if (!l->domain[d])
			continue;
		if (l->heaviest == SUCCESSION_NONE || l->domain[d] > l->domain[l->heaviest]) {
			l->second = l->heaviest;
			l->heaviest = (uint16_t)d;
		} else if (l->second == SUCCESSION_NONE || l->domain[d] > l->domain[l->second]) {
			l->second = (uint16_t)d;
		}
	}
	return 0;
}

/*
 * The weight that competes for a slot whose owner is of this domain, or less than that: of all others; or, where
 * nobody else lives, of its own domain without the owner, who is the largest in the worst case.
 */
static uint64_t rivals_of_domain(const struct living *l, uint16_t domain)
{
	uint64_t others = l->total - l->domain[domain];

	if (others)
		return others;
	return l->n > 1 ? l->total - l->largest : l->total;
}

/* The least weight that a member of this domain competes within, whosever the slot is. */
static uint64_t rivals_least(const struct living *l, uint16_t domain)
{
	uint16_t other = domain == l->heaviest ? l->second : l->heaviest;

	return rivals_of_domain(l, other == SUCCESSION_NONE ? domain : other);
}

/* The slot's heir by looking at every living member. */
static uint16_t heir_search(const struct succession *s, const struct living *l, uint32_t slot, uint16_t owner)
{
	struct claim best = { .member = SUCCESSION_NONE };

	for (size_t i = 0; i < l->n; i++) {
		struct claim c;

		if (l->members[i] == owner)
			continue;
		c = claim_of(s, l->members[i], slot, owner);
		if (best.member == SUCCESSION_NONE || claim_before(&c, &best))
			best = c;
	}
	return best.member;
}

/*
 * Walk every living member's places as far as a heir is likely, and keep the best claim of each open slot.
 *
 * If the rivals for a slot weigh R, the least wait / weight among them is exponential with rate R: beyond
 * patience / R with the chance e^-patience. Each member is walked up to patience / (the least R it meets), so a best
 * claim within patience / R of its own slot is the best of all; heirs beyond that are put back to SUCCESSION_NONE.
 */
static void heirs_walk(const struct succession *s, const struct living *l, uint64_t patience, const uint16_t *owners,
		       uint16_t *heirs, uint32_t *best_wait)
{
	for (size_t i = 0; i < l->n; i++) {
		uint16_t member = l->members[i];
		const struct heir_member *m = &s->members[member];
		uint64_t limit = patience * m->weight / rivals_least(l, m->domain);

		for (uint32_t place = 0; place < s->n_slots && s->wait[place] <= limit; place++) {
			uint32_t slot = slot_at(s, m, place), wait = s->wait[place];
			uint16_t owner = owners[slot], heir = heirs[slot], domain;

			if (owner == member || !best_wait[slot]) /* 0: not an open slot */
				continue;
			domain = s->members[owner].domain;
			if (domain == m->domain && l->domain[domain] != l->total)
				continue; /* somebody lives in another domain */
			/* Members come in their order, so an equal claim loses. */
			if (heir != SUCCESSION_NONE &&
			    (uint64_t)wait * s->members[heir].weight >= (uint64_t)best_wait[slot] * m->weight)
				continue;
			heirs[slot] = member;
			best_wait[slot] = wait;
		}
	}
	for (uint32_t slot = 0; slot < s->n_slots; slot++) {
		uint64_t rivals;

		if (!best_wait[slot] || heirs[slot] == SUCCESSION_NONE)
			continue;
		rivals = rivals_of_domain(l, s->members[owners[slot]].domain);
		if (best_wait[slot] * rivals > patience * s->members[heirs[slot]].weight)
			heirs[slot] = SUCCESSION_NONE;
	}
}

int succession_fill(const struct succession *s, const uint16_t *owners, uint16_t *heirs)
{
	uint32_t *best_wait = calloc(s->n_slots, sizeof(*best_wait)); /* of an open slot not 0 */
	struct living l;
	uint64_t n_open = 0, patience = 0;
	int err = living_weigh(&l, s);

	if (err || !best_wait) {
		err = -ENOMEM;
		goto out;
	}
	for (uint32_t slot = 0; slot < s->n_slots; slot++) {
		if (heirs[slot] != SUCCESSION_NONE)
			continue;
		best_wait[slot] = UINT32_MAX;
		n_open++;
	}
	/* ln(members), for the least work of walk and search together: 3/4 of the number's bits is near enough. */
	for (size_t rest = l.n; rest; rest >>= 1)
		patience += WAIT_MEAN / 4 * 3;
	/* The walk passes as many places of slots that are not open; below this the search alone is cheaper. */
	if (n_open * l.n > patience / WAIT_MEAN * s->n_slots)
		heirs_walk(s, &l, patience, owners, heirs, best_wait);
	for (uint32_t slot = 0; slot < s->n_slots; slot++)
		if (best_wait[slot] && heirs[slot] == SUCCESSION_NONE)
			heirs[slot] = heir_search(s, &l, slot, owners[slot]);
	err = 0;
out:
	free(l.domain);
	free(l.members);
	free(best_wait);
	return err;
}

void succession_return(const struct succession *s, uint16_t member, const uint16_t *owners, uint16_t *heirs)
{
	for (uint32_t slot = 0; slot < s->n_slots; slot++) {
		struct claim new, old;

		if (owners[slot] == member)
			continue;
		new = claim_of(s, member, slot, owners[slot]);
		if (heirs[slot] != SUCCESSION_NONE) {
			old = claim_of(s, heirs[slot], slot, owners[slot]);
			if (!claim_before(&new, &old))
				continue;
		}
		heirs[slot] = member;
	}
}
