/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * place.c - where in a configuration a key stands: for what turns out to be wrong when the model has been made of it.
 */
#include <string.h>

#include "core/document.h"
#include "core/reader.h"

/* The next node on the way: of a mapping the value of `word`, of a list the item that is it; NULL: there is none. */
static const struct node *step(const struct node *node, const char *word)
{
	if (node->kind == NODE_MAPPING)
		return reader_find(node, word);
	for (size_t i = 0; node->kind == NODE_LIST && i < node->n_children; i++)
		if (node->children[i]->kind == NODE_TEXT && !strcmp(node->children[i]->text, word))
			return node->children[i];
	return NULL;
}

void config_place(const char *text, size_t length, const char *key, struct config_error *error)
{
	const char *dot = strchr(key, '.');
	char first[CONFIG_NAME_MAX] = "";
	struct document *document;
	const struct node *node, *next;
	struct config_error unread;

	error->line = error->column = 1;
	if (document_parse(&document, text, length, &unread))
		return;
	node = document->root;
	memcpy(first, key, dot && dot - key < CONFIG_NAME_MAX ? (size_t)(dot - key) : 0);
	next = step(node, dot ? first : key);
	node = next ? next : node;
	next = next && dot ? step(next, dot + 1) : NULL; /* an interface's name may have dots of its own */
	node = next ? next : node;
	error->line = node->line;
	error->column = node->column;
	document_free(document);
}
