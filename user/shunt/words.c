/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * words.c - which of its like a word means: it may be cut short, and where it is none of them, the nearest is named.
 */
#include "shunt/shunt.h"

#define NEAR_MAX 2 /* edits that make one word another, chosen: with more, anything is near */

bool is_prefix(const char *word, const char *name)
{
	return *word && !strncmp(word, name, strlen(word));
}

int word_find(const char *word, const struct words *words, const char *two[2])
{
	int found = -1;

	for (int i = 0; i < words->n; i++) {
		if (!strcmp(word, words->word[i]))
			return i;
		if (!is_prefix(word, words->word[i]) || found == -2)
			continue;
		if (found >= 0) {
			two[0] = words->word[found];
			two[1] = words->word[i];
		}
		found = found >= 0 ? -2 : i;
	}
	return found;
}

static int least(int a, int b)
{
	return a < b ? a : b;
}

/* Letters to insert, take out, change, or swap with their neighbour: the optimal string alignment distance. */
static int distance(const char *a, const char *b)
{
	enum { LONGEST = 24 }; /* no word of the program is longer */
	int d[LONGEST + 1][LONGEST + 1];
	int n_a = (int)strlen(a), n_b = (int)strlen(b);

	if (n_a > LONGEST || n_b > LONGEST)
		return LONGEST;
	for (int i = 0; i <= n_a; i++) {
		for (int k = 0; k <= n_b; k++) {
			if (!i || !k) {
				d[i][k] = i + k;
				continue;
			}
			d[i][k] = least(least(d[i - 1][k], d[i][k - 1]) + 1, d[i - 1][k - 1] + (a[i - 1] != b[k - 1]));
			if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
				d[i][k] = least(d[i][k], d[i - 2][k - 2] + 1);
		}
	}
	return d[n_a][n_b];
}

const char *word_near(const char *word, const struct words *words)
{
	int best = NEAR_MAX + 1;
	const char *near = NULL;

	for (int i = 0; i < words->n; i++) {
		int d = distance(word, words->word[i]);

		if (d < best && d < (int)strlen(word)) {
			best = d;
			near = words->word[i];
		}
	}
	return near;
}

/* Complain of a word that fits none: `what` there isn't, and where to look. */
static void unknown_complain(const struct call *call, const char *what, const char *word, const struct words *words,
			     const char *help)
{
	const char *near = word_near(word, words);

	if (near)
		complain(call, CONTROL_MISUSE, "%s '%s': did you mean '%s'?", what, word, near);
	else
		complain(call, CONTROL_MISUSE, "%s '%s': see 'shunt%s%s help'", what, word, *help ? " " : "", help);
}

const struct object *object_find(const struct call *call, const char *word)
{
	struct words words = { .n = 0 };
	const char *two[2];
	int found;

	for (; objects[words.n]; words.n++)
		words.word[words.n] = objects[words.n]->name;
	found = word_find(word, &words, two);
	if (found >= 0)
		return objects[found];
	if (call && found == -2)
		complain(call, CONTROL_MISUSE, "'%s' may be '%s' or '%s'", word, two[0], two[1]);
	else if (call)
		unknown_complain(call, "there is no object", word, &words, "");
	return NULL;
}

const struct command *command_find(const struct call *call, const struct object *object, const char *word)
{
	struct words words = { .n = 0 };
	const char *two[2];
	char what[64];
	int found;

	for (; object->commands[words.n].name; words.n++)
		words.word[words.n] = object->commands[words.n].name;
	found = word_find(word, &words, two);
	if (found >= 0)
		return &object->commands[found];
	if (found == -1 && is_prefix(word, "list")) /* another word for it */
		for (const struct command *c = object->commands; c->name; c++)
			if (!strcmp(c->name, "show"))
				return c;
	snprintf(what, sizeof(what), "%s has no command", object->name);
	if (call && found == -2)
		complain(call, CONTROL_MISUSE, "'%s' may be '%s' or '%s'", word, two[0], two[1]);
	else if (call)
		unknown_complain(call, what, word, &words, object->name);
	return NULL;
}
