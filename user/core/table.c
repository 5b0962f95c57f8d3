// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * table.c - a pool's slots: checks the members, gives each an identity and a fixed order, and holds what owners
 * (maglev.c) and heirs (succession.c) come to, as the ids that the data path reads.
 *
 * Identity is the hash of the name under the seed, and everything below goes by identity: neither the order of the
 * members nor their ids decide anything. Written and read by shuntd's controller, which copies the slots into a map.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/maglev.h"
#include "core/mix.h"
#include "core/succession.h"
#include "core/table.h"
#include "shunt/hash.h"

#define NAME_BLOCKS (TABLE_NAME_MAX / 8)

struct table {
	uint32_t n_slots;
	size_t n;
	struct slot *slots; /* [n_slots] */
	uint16_t *owners, *heirs; /* [n_slots]: indexes; of heirs may be SUCCESSION_NONE */
	struct succession *succession; /* NULL: no members */
	uint16_t *ids; /* [n]: index to id */
};

/* A member and its identity, to be sorted. */
struct entry {
	uint64_t identity;
	const struct table_member *member;
	uint16_t domain;
};

/* SipHash-2-4 of a name, under the seed. */
static uint64_t name_identity(const struct siphash_key *key, const char *name)
{
	__u64 blocks[NAME_BLOCKS] = { 0 };
	size_t length = strlen(name);

	for (size_t i = 0; i < length; i++)
		blocks[i / 8] |= (__u64)(unsigned char)name[i] << 8 * (i % 8);
	blocks[length / 8] |= (__u64)length << 56;
	return siphash_blocks(key, blocks, (int)(length / 8 + 1), 2, 4);
}

/* By identity; two names of one identity, unlikely as they are, by name. */
static int entry_compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->identity != y->identity)
		return x->identity < y->identity ? -1 : 1;
	return strcmp(x->member->name, y->member->name);
}

static int entry_compare_domain(const void *a, const void *b)
{
	const struct entry *x = *(const struct entry *const *)a, *y = *(const struct entry *const *)b;

	return strcmp(x->member->domain, y->member->domain);
}

static bool is_prime(uint32_t x)
{
	for (uint32_t d = 2; d * d <= x; d++)
		if (x % d == 0)
			return false;
	return x > 1;
}

/* Ids that are all different bound n too. */
static int members_check(const struct table_member *members, size_t n, uint32_t n_slots)
{
	bool taken[SHUNT_MAX_BACKENDS] = { false };

	if (n_slots > SHUNT_MAX_SLOTS || !is_prime(n_slots))
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		const struct table_member *m = &members[i];

		if (!m->id || m->id >= SHUNT_MAX_BACKENDS || taken[m->id] || !m->weight || m->weight > UINT16_MAX ||
		    !m->name[0] || strnlen(m->name, TABLE_NAME_MAX) == TABLE_NAME_MAX)
			return -EINVAL;
		taken[m->id] = true;
	}
	return 0;
}

/* The members in the order of their identities, which all below goes by. 0, -EINVAL (a name twice) or -ENOMEM. */
static int entries_make(struct entry *entries, const struct table_member *members, size_t n,
			const struct siphash_key *key)
{
	struct entry **by_domain = calloc(n, sizeof(*by_domain));
	uint16_t domain = 0;

	if (!by_domain)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		entries[i] = (struct entry){ .identity = name_identity(key, members[i].name), .member = &members[i] };
	qsort(entries, n, sizeof(*entries), entry_compare);

	/* Number the domains; each "" is one of its own. */
	for (size_t i = 0; i < n; i++)
		by_domain[i] = &entries[i];
	qsort(by_domain, n, sizeof(struct entry *), entry_compare_domain);
	for (size_t i = 0; i < n; i++) {
		const char *name = by_domain[i]->member->domain;

		if (i && (!name[0] || strcmp(name, by_domain[i - 1]->member->domain) != 0))
			domain++;
		by_domain[i]->domain = domain;
	}
	free(by_domain);

	for (size_t i = 1; i < n; i++)
		if (!entry_compare(&entries[i - 1], &entries[i]))
			return -EINVAL;
	return 0;
}

/* Bring the slots' ids up to owners and heirs; returns how many heirs changed. */
static int slots_follow(struct table *t)
{
	int n_changed = 0;

	for (uint32_t slot = 0; slot < t->n_slots; slot++) {
		uint16_t heir = t->heirs[slot] == SUCCESSION_NONE ? 0 : t->ids[t->heirs[slot]];

		n_changed += t->slots[slot].heir != heir;
		t->slots[slot] = (struct slot){ .owner = t->ids[t->owners[slot]], .heir = heir };
	}
	return n_changed;
}

/* Owners and heirs for n >= 1 members. */
static int table_fill(struct table *t, const struct table_member *members, uint64_t seed)
{
	const struct siphash_key key = seed_key(seed);
	struct entry *entries = calloc(t->n, sizeof(*entries));
	struct maglev_member *owners = calloc(t->n, sizeof(*owners));
	struct succession_member *heirs = calloc(t->n, sizeof(*heirs));
	int err = -ENOMEM;

	if (!entries || !owners || !heirs)
		goto out;
	err = entries_make(entries, members, t->n, &key);
	if (err)
		goto out;
	for (size_t i = 0; i < t->n; i++) {
		const struct entry *e = &entries[i];

		t->ids[i] = e->member->id;
		owners[i] = (struct maglev_member){ .identity = e->identity, .weight = e->member->weight };
		heirs[i] = (struct succession_member){
			/* Number 0 of a sequence whose numbers from 1 on choose the owners. */
			.identity = mix_at(e->identity, 0),
			.weight = e->member->weight,
			.domain = e->domain,
			.alive = e->member->alive,
		};
	}
	err = maglev_fill(t->owners, t->n_slots, owners, t->n);
	if (err)
		goto out;
	/* What the members share is the hash of no name. */
	err = succession_new(&t->succession, heirs, t->n, t->n_slots, name_identity(&key, ""));
	if (err)
		goto out;
	for (uint32_t slot = 0; slot < t->n_slots; slot++)
		t->heirs[slot] = SUCCESSION_NONE;
	err = succession_fill(t->succession, t->owners, t->heirs);
	if (!err)
		slots_follow(t);
out:
	free(heirs);
	free(owners);
	free(entries);
	return err;
}

int table_build(struct table **out, const struct table_member *members, size_t n, uint32_t n_slots, uint64_t seed)
{
	struct table *t;
	int err;

	*out = NULL;
	err = members_check(members, n, n_slots);
	if (err)
		return err;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->n_slots = n_slots;
	t->n = n;
	t->slots = calloc(n_slots, sizeof(*t->slots));
	t->owners = calloc(n_slots, sizeof(*t->owners));
	t->heirs = calloc(n_slots, sizeof(*t->heirs));
	t->ids = calloc(n + 1, sizeof(*t->ids));
	err = -ENOMEM;
	if (t->slots && t->owners && t->heirs && t->ids)
		err = n ? table_fill(t, members, seed) : 0;
	if (err) {
		table_free(t);
		return err;
	}
	*out = t;
	return 0;
}

void table_free(struct table *table)
{
	if (!table)
		return;
	succession_free(table->succession);
	free(table->ids);
	free(table->heirs);
	free(table->owners);
	free(table->slots);
	free(table);
}

int table_set_alive(struct table *table, uint16_t id, bool alive)
{
	uint16_t member = 0;
	int err;

	while (member < table->n && table->ids[member] != id)
		member++;
	if (member == table->n)
		return -ENOENT;
	if (succession_is_alive(table->succession, member) == alive)
		return 0;

	succession_set_alive(table->succession, member, alive);
	if (alive) {
		succession_return(table->succession, member, table->owners, table->heirs);
		return slots_follow(table);
	}
	for (uint32_t slot = 0; slot < table->n_slots; slot++)
		if (table->heirs[slot] == member)
			table->heirs[slot] = SUCCESSION_NONE;
	err = succession_fill(table->succession, table->owners, table->heirs);
	if (err) {
		/* Every open slot was this member's, or nobody's before it too: then nobody else lived. */
		succession_set_alive(table->succession, member, true);
		succession_return(table->succession, member, table->owners, table->heirs);
		return err;
	}
	return slots_follow(table);
}

const struct slot *table_slots(const struct table *table, uint32_t *n_slots)
{
	*n_slots = table->n_slots;
	return table->slots;
}

size_t table_succession(const struct table *table, uint32_t slot, uint16_t *ids, size_t max)
{
	uint16_t owner, member;
	size_t n = 0;

	if (!table->n || !max)
		return 0;
	owner = member = table->owners[slot];
	ids[n++] = table->ids[owner];
	for (member = SUCCESSION_NONE; n < max && n < table->n;) {
		member = succession_next(table->succession, slot, owner, member);
		ids[n++] = table->ids[member];
	}
	return n;
}
