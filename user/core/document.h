/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * document.h - a YAML file as a tree of nodes that know their places.
 *
 * Decides which YAML is let in: one UTF-8 document of mappings, lists and text; no anchors, aliases or tags. Bounded
 * in bytes, nodes and depth before anything is built. What the nodes mean is the business of reader.h.
 */
#ifndef SHUNT_CORE_DOCUMENT_H
#define SHUNT_CORE_DOCUMENT_H

#include "core/config.h"

#define DOCUMENT_DEPTH_MAX 8 /* nested lists and mappings; shunt.yaml needs 6 */
#define DOCUMENT_NODES_MAX 131072 /* chosen: a file at every capacity has half as many */

enum node_kind { NODE_TEXT, NODE_LIST, NODE_MAPPING };

struct node {
	enum node_kind kind;
	unsigned line, column; /* of its first character, from 1; columns count characters */
	bool quoted; /* NODE_TEXT: it was written in quotes or as a block */
	char *text; /* NODE_TEXT: UTF-8, no NUL inside */
	struct node **children; /* NODE_LIST: the items; NODE_MAPPING: key, value, key, value... */
	size_t n_children, capacity;
};

struct document {
	struct node *root;
	struct node **nodes; /* all of them, for document_free() */
	size_t n_nodes, capacity;
};

/* 0, and *out is owned by the caller; or -EINVAL with *error filled; or -ENOMEM. */
int document_parse(struct document **out, const char *text, size_t length, struct config_error *error);
void document_free(struct document *document);

/* Fill *error with a node's place and a sentence; returns -EINVAL. */
int node_fail(const struct node *node, struct config_error *error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
