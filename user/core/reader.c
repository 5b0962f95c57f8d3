/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reader.c - see reader.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/reader.h"

struct reader_quoted reader_quote(const char *text)
{
	struct reader_quoted q;
	size_t n = 0;

	q.s[n++] = '\'';
	for (; *text && n < sizeof(q.s) - 5; text++)
		q.s[n++] = *text >= ' ' && *text <= '~' ? *text : '?';
	for (int i = 0; *text && i < 3; i++)
		q.s[n++] = '.';
	q.s[n++] = '\'';
	q.s[n] = 0;
	return q;
}

int reader_expected(const struct node *node, const char *what, struct config_error *error, const char *format, ...)
{
	char expected[192];
	va_list args;

	va_start(args, format);
	vsnprintf(expected, sizeof(expected), format, args);
	va_end(args);
	if (node->kind == NODE_LIST)
		return node_fail(node, error, "%s is a list, expected %s", what, expected);
	if (node->kind == NODE_MAPPING)
		return node_fail(node, error, "%s is a mapping, expected %s", what, expected);
	if (!*node->text)
		return node_fail(node, error, "%s is empty, expected %s", what, expected);
	/* Only a number suffers from quotes: they make text of it. */
	return node_fail(node, error, "%s is %s%s, expected %s", what,
			 node->quoted && !node->text[strspn(node->text, "0123456789")] ? "the quoted text " : "",
			 reader_quote(node->text).s, expected);
}

/*
 * Optimal string alignment distance: insertions, deletions, substitutions, and swaps of neighbours (Damerau, "A
 * technique for computer detection and correction of spelling errors", 1964). `b` has fewer than CONFIG_NAME_MAX
 * characters; a much longer `a` is simply far.
 */
static size_t distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b), row[3][CONFIG_NAME_MAX + 1];

	if (n > 2 * CONFIG_NAME_MAX || m > CONFIG_NAME_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= m; j++)
		row[0][j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t *now = row[i % 3], *above = row[(i - 1) % 3], *swap = row[(i + 1) % 3];

		now[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);

			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && swap[j - 2] + 1 < best)
				best = swap[j - 2] + 1;
			now[j] = best;
		}
	}
	return row[n % 3][m];
}

const char *reader_candidates(const char *word, const char *const *words, size_t n, char *buffer, size_t size)
{
	size_t best = SIZE_MAX, used;
	const char *near = NULL;

	for (size_t i = 0; i < n; i++) {
		size_t d = distance(word, words[i]);

		if (n > 1 && d < best && d <= 1 + strlen(words[i]) / 4) {
			best = d;
			near = words[i];
		}
	}
	if (n > READER_KEYS_MAX) {
		snprintf(buffer, size, "one of %zu%s%s%s", n, near ? " (did you mean " : "",
			 near ? reader_quote(near).s : "", near ? "?)" : "");
		return buffer;
	}
	used = (size_t)snprintf(buffer, size, n > 1 ? "one of: " : "");
	for (size_t i = 0; i < n && used < size; i++)
		used += (size_t)snprintf(buffer + used, size - used, "%s%s", i ? ", " : "", words[i]);
	if (near && used < size)
		snprintf(buffer + used, size - used, " (did you mean %s?)", reader_quote(near).s);
	return buffer;
}

static int unknown_key(const struct node *key, const struct reader_mapping *mapping, struct config_error *error)
{
	const char *names[READER_KEYS_MAX];
	char candidates[192];

	for (size_t i = 0; i < mapping->n_keys; i++)
		names[i] = mapping->keys[i].name;
	return node_fail(key, error, "unknown key %s in %s, expected %s", reader_quote(key->text).s, mapping->what,
			 reader_candidates(key->text, names, mapping->n_keys, candidates, sizeof(candidates)));
}

int reader_mapping(const struct node *node, const struct reader_mapping *mapping, void *object,
		   struct config_error *error)
{
	const struct node *seen[READER_KEYS_MAX] = { NULL };
	int err;

	if (node->kind != NODE_MAPPING)
		return reader_expected(node, mapping->what, error, "a mapping (key: value)");
	for (size_t i = 0; i < node->n_children; i += 2) {
		const struct node *key = node->children[i], *value = node->children[i + 1];
		size_t k = 0;

		if (key->kind != NODE_TEXT)
			return reader_expected(key, "a key", error, "a word");
		while (k < mapping->n_keys && strcmp(mapping->keys[k].name, key->text))
			k++;
		if (k == mapping->n_keys)
			return unknown_key(key, mapping, error);
		if (seen[k])
			return node_fail(key, error, "duplicate key '%s' in %s, expected it once (first on line %u)",
					 mapping->keys[k].name, mapping->what, seen[k]->line);
		seen[k] = key;
		err = mapping->keys[k].read(value, (char *)object + mapping->keys[k].offset, error);
		if (err)
			return err;
	}
	for (size_t k = 0; k < mapping->n_keys; k++)
		if (mapping->keys[k].required && !seen[k])
			return node_fail(node, error, "missing key in %s, expected '%s'", mapping->what,
					 mapping->keys[k].name);
	return 0;
}

const struct node *reader_find(const struct node *mapping, const char *key)
{
	for (size_t i = 0; i < mapping->n_children; i += 2)
		if (!strcmp(mapping->children[i]->text, key))
			return mapping->children[i + 1];
	return NULL;
}

int reader_list(const struct node *node, const char *what, const char *item, size_t max, struct config_error *error)
{
	if (node->kind != NODE_LIST)
		return reader_expected(node, what, error, "a list, each item %s", item);
	if (!node->n_children)
		return node_fail(node, error, "%s is an empty list, expected at least one item, each %s", what, item);
	if (node->n_children > max)
		return node_fail(node->children[max], error, "%s has %zu items, expected at most %zu", what,
				 node->n_children, max);
	return 0;
}

int reader_number(const struct node *node, const char *what, uint64_t min, uint64_t max, uint64_t *out,
		  struct config_error *error)
{
	char *end = NULL;
	uint64_t number = 0;

	if (node->kind == NODE_TEXT && !node->quoted) {
		const char *text = node->text;
		bool hex = text[0] == '0' && text[1] == 'x';
		size_t digits = strspn(text + 2 * hex, hex ? "0123456789abcdefABCDEF" : "0123456789");

		/* No other spelling: a leading zero is octal to some, a sign or a point is not a whole number. */
		if (digits && !text[2 * hex + digits] && (hex || digits == 1 || text[0] != '0')) {
			errno = 0;
			number = strtoull(text, &end, hex ? 16 : 10);
		}
	}
	if (!end || errno || number < min || number > max)
		return reader_expected(node, what, error, "a whole number from %llu to %llu", (unsigned long long)min,
				       (unsigned long long)max);
	*out = number;
	return 0;
}

int reader_name(const struct node *node, const char *what, char *out, size_t size, struct config_error *error)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

	if (node->kind != NODE_TEXT || !*node->text || strlen(node->text) >= size ||
	    node->text[strspn(node->text, allowed)] || *node->text == '.' || *node->text == '-')
		return reader_expected(node, what, error,
				       "1 to %zu characters, letters, digits, '.', '_' or '-', not '.' or '-' first",
				       size - 1);
	memcpy(out, node->text, strlen(node->text) + 1);
	return 0;
}

int reader_choice(const struct node *node, const char *what, const char *const *words, size_t *out,
		  struct config_error *error)
{
	char candidates[128];
	size_t n = 0;

	for (; words[n]; n++) {
		if (node->kind == NODE_TEXT && !strcmp(node->text, words[n])) {
			*out = n;
			return 0;
		}
	}
	return reader_expected(
		node, what, error, "%s",
		reader_candidates(node->kind == NODE_TEXT ? node->text : "", words, n, candidates, sizeof(candidates)));
}

int reader_duration(const struct node *node, const char *what, uint64_t min_ns, uint64_t max_ns, uint64_t *out,
		    struct config_error *error)
{
	char min[DURATION_TEXT_MAX], max[DURATION_TEXT_MAX];
	uint64_t ns;

	if (node->kind != NODE_TEXT || duration_parse(&ns, node->text))
		return reader_expected(node, what, error,
				       "a whole number and its unit (ns, us, ms, s, m or h), such as 100us");
	if (ns < min_ns || ns > max_ns)
		return reader_expected(node, what, error, "%s to %s", duration_format(min_ns, min, sizeof(min)),
				       duration_format(max_ns, max, sizeof(max)));
	*out = ns;
	return 0;
}

/* Why an address can't be one host's on a network; NULL: it can. RFC 6890's tables have the ranges. */
static const char *address_refusal(const struct shunt_addr *address)
{
	const uint8_t *b = (const uint8_t *)address;
	static const uint8_t unspecified[16], loopback[16] = { [15] = 1 };

	if (address_is_v4(address)) {
		b += 12;
		if (b[0] == 0)
			return "an unspecified address";
		if (b[0] == 127)
			return "a loopback address";
		if (b[0] >= 224 && b[0] <= 239)
			return "a multicast address";
		return address->w[3] == 0xffffffffU ? "the broadcast address" : NULL;
	}
	if (!memcmp(address, unspecified, 16))
		return "the unspecified address";
	if (!memcmp(address, loopback, 16))
		return "the loopback address";
	if (b[0] == 0xff)
		return "a multicast address";
	return b[0] == 0xfe && (b[1] & 0xc0) == 0x80 ? "a link-local address" : NULL;
}

int reader_listen_address(const struct node *node, const char *what, struct shunt_addr *out, struct config_error *error)
{
	char buffer[ADDRESS_TEXT_MAX];
	struct shunt_addr mapped;

	if (node->kind != NODE_TEXT || address_parse(out, node->text)) {
		if (node->kind == NODE_TEXT && inet_pton(AF_INET6, node->text, &mapped) == 1)
			return reader_expected(node, what, error, "the IPv4 address that it maps, %s",
					       address_format(&mapped, buffer, sizeof(buffer)));
		return reader_expected(node, what, error, "an IPv4 or IPv6 address, such as 192.0.2.1 or 2001:db8::1");
	}
	return 0;
}

int reader_address(const struct node *node, const char *what, struct shunt_addr *out, struct config_error *error)
{
	const char *refusal;
	int err = reader_listen_address(node, what, out, error);

	if (err)
		return err;
	refusal = address_refusal(out);
	if (refusal)
		return node_fail(node, error, "%s %s is %s, expected the address of one host", what, node->text,
				 refusal);
	return 0;
}

int reader_bool(const struct node *node, const char *what, void *out, struct config_error *error)
{
	static const char *const words[] = { "false", "true", NULL };
	size_t choice;
	int err = reader_choice(node, what, words, &choice, error);

	if (!err)
		*(bool *)out = choice == 1;
	return err;
}

int reader_path_or_none(const struct node *node, const char *what, char *out, struct config_error *error)
{
	if (node->kind == NODE_TEXT && !strcmp(node->text, "none")) {
		*out = 0;
		return 0;
	}
	return reader_text(node, what, "/", "none, or an absolute path", out, error);
}

int reader_text(const struct node *node, const char *what, const char *start, const char *expected, char *out,
		struct config_error *error)
{
	size_t length = 0;

	if (node->kind == NODE_TEXT)
		while (node->text[length] > ' ' && node->text[length] <= '~')
			length++;
	if (node->kind != NODE_TEXT || strncmp(node->text, start, strlen(start)) || !node->text[strlen(start)] ||
	    node->text[length] || length >= CONFIG_PATH_MAX)
		return reader_expected(node, what, error, "%s of at most %d printable characters", expected,
				       CONFIG_PATH_MAX - 1);
	memcpy(out, node->text, length + 1);
	return 0;
}

/* Printable ASCII: it is shown in messages, and a path is no place for surprises. */
int reader_socket(const struct node *node, void *out, struct config_error *error)
{
	size_t length = 0;

	if (node->kind == NODE_TEXT)
		while (node->text[length] >= ' ' && node->text[length] <= '~')
			length++;
	if (node->kind != NODE_TEXT || node->text[0] != '/' || node->text[length] || length >= CONFIG_SOCKET_MAX)
		return reader_expected(node, "socket", error, "an absolute path of at most %d printable characters",
				       CONFIG_SOCKET_MAX - 1);
	memcpy(out, node->text, length + 1);
	return 0;
}

static int compare_interfaces(const void *a, const void *b)
{
	return strcmp(a, b);
}

int reader_interfaces(const struct node *node, char (**out)[IF_NAMESIZE], size_t *n, struct config_error *error)
{
	struct reader_place places[SHUNT_MAX_INTERFACES];
	const struct node *first, *second;
	int err;

	err = reader_list(node, "interfaces", "the name of a network interface", SHUNT_MAX_INTERFACES, error);
	if (err)
		return err;
	*n = node->n_children;
	*out = calloc(*n, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	for (size_t i = 0; i < *n; i++) {
		err = reader_name(node->children[i], "an interface", (*out)[i], IF_NAMESIZE, error);
		if (err)
			return err;
		places[i] = (struct reader_place){ (*out)[i], node->children[i] };
	}
	if (reader_duplicate(places, *n, compare_interfaces, &first, &second))
		return node_fail(second, error, "duplicate interface %s, expected it once (first on line %u)",
				 reader_quote(second->text).s, first->line);
	qsort(*out, *n, sizeof(**out), compare_interfaces);
	return 0;
}

static int compare_places(const void *a, const void *b, void *compare)
{
	const struct reader_place *p = a, *q = b;
	int order = (*(int (**)(const void *, const void *))compare)(p->item, q->item);

	if (order)
		return order;
	if (p->node->line != q->node->line)
		return p->node->line < q->node->line ? -1 : 1;
	return p->node->column < q->node->column ? -1 : p->node->column > q->node->column;
}

bool reader_duplicate(struct reader_place *places, size_t n, int (*compare)(const void *, const void *),
		      const struct node **first, const struct node **second)
{
	const struct reader_place *found = NULL;

	qsort_r(places, n, sizeof(*places), compare_places, &compare);
	for (size_t i = 1; i < n; i++) {
		if (compare(places[i - 1].item, places[i].item))
			continue;
		if (found && found->node->line <= places[i].node->line)
			continue;
		found = &places[i];
		*first = places[i - 1].node;
		*second = places[i].node;
	}
	return found;
}
