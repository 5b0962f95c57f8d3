/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * document.c - libyaml's events to a tree of nodes. The event interface and not the document interface: each node is
 * checked against the bounds as it comes, and an alias is refused where it stands.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/document.h"

struct builder {
	struct document *document;
	struct node *open[DOCUMENT_DEPTH_MAX]; /* lists and mappings begun and not ended */
	size_t depth;
	struct config_error *error;
};

static int error_set(struct config_error *error, size_t line, size_t column, const char *format, va_list args)
{
	error->line = (unsigned)line;
	error->column = (unsigned)column;
	vsnprintf(error->text, sizeof(error->text), format, args);
	return -EINVAL;
}

__attribute__((format(printf, 3, 4))) static int mark_fail(const yaml_mark_t *mark, struct config_error *error,
							   const char *format, ...)
{
	va_list args;
	int err;

	va_start(args, format);
	err = error_set(error, mark->line + 1, mark->column + 1, format, args);
	va_end(args);
	return err;
}

int node_fail(const struct node *node, struct config_error *error, const char *format, ...)
{
	va_list args;
	int err;

	va_start(args, format);
	err = error_set(error, node->line, node->column, format, args);
	va_end(args);
	return err;
}

/* Append to an array of node pointers that doubles. */
static int nodes_append(struct node ***nodes, size_t *n, size_t *capacity, struct node *node)
{
	if (*n == *capacity) {
		size_t wanted = *capacity ? 2 * *capacity : 8;
		struct node **grown = reallocarray(*nodes, wanted, sizeof(**nodes));

		if (!grown)
			return -ENOMEM;
		*nodes = grown;
		*capacity = wanted;
	}
	(*nodes)[(*n)++] = node;
	return 0;
}

/* Make a node, let the document own it, and hang it under the innermost open one. */
static int node_add(struct builder *b, enum node_kind kind, const yaml_mark_t *mark, struct node **out)
{
	struct document *d = b->document;
	struct node *node, *parent = b->depth ? b->open[b->depth - 1] : NULL;

	if (d->n_nodes == DOCUMENT_NODES_MAX)
		return mark_fail(mark, b->error, "the file has too many values, expected at most %d",
				 DOCUMENT_NODES_MAX);
	node = calloc(1, sizeof(*node));
	if (!node)
		return -ENOMEM;
	if (nodes_append(&d->nodes, &d->n_nodes, &d->capacity, node)) {
		free(node);
		return -ENOMEM;
	}
	node->kind = kind;
	node->line = (unsigned)mark->line + 1;
	node->column = (unsigned)mark->column + 1;
	*out = node;
	if (parent)
		return nodes_append(&parent->children, &parent->n_children, &parent->capacity, node);
	d->root = node;
	return 0;
}

static int node_open(struct builder *b, enum node_kind kind, const yaml_mark_t *mark)
{
	struct node *node;
	int err;

	if (b->depth == DOCUMENT_DEPTH_MAX)
		return mark_fail(mark, b->error, "lists and mappings are nested too deeply, expected at most %d levels",
				 DOCUMENT_DEPTH_MAX);
	err = node_add(b, kind, mark, &node);
	if (!err)
		b->open[b->depth++] = node;
	return err;
}

static int refuse_extras(struct builder *b, const yaml_event_t *event, const yaml_char_t *anchor,
			 const yaml_char_t *tag)
{
	if (anchor)
		return mark_fail(&event->start_mark, b->error,
				 "anchors (&name) are not supported, expected the value itself");
	if (tag)
		return mark_fail(&event->start_mark, b->error,
				 "tags (!name) are not supported, expected the value itself");
	return 0;
}

static int event_take(struct builder *b, const yaml_event_t *event)
{
	struct node *node;
	int err;

	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (b->document->root)
			return mark_fail(&event->start_mark, b->error,
					 "a second document begins here, expected one document in the file");
		return 0;
	case YAML_ALIAS_EVENT:
		return mark_fail(&event->start_mark, b->error,
				 "aliases (*name) are not supported, expected the value itself");
	case YAML_SCALAR_EVENT:
		err = refuse_extras(b, event, event->data.scalar.anchor, event->data.scalar.tag);
		if (err)
			return err;
		if (memchr(event->data.scalar.value, 0, event->data.scalar.length))
			return mark_fail(&event->start_mark, b->error, "a NUL byte in a value, expected text");
		err = node_add(b, NODE_TEXT, &event->start_mark, &node);
		if (err)
			return err;
		node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
		node->text = strdup((const char *)event->data.scalar.value);
		return node->text ? 0 : -ENOMEM;
	case YAML_SEQUENCE_START_EVENT:
		err = refuse_extras(b, event, event->data.sequence_start.anchor, event->data.sequence_start.tag);
		return err ? err : node_open(b, NODE_LIST, &event->start_mark);
	case YAML_MAPPING_START_EVENT:
		err = refuse_extras(b, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
		return err ? err : node_open(b, NODE_MAPPING, &event->start_mark);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		b->depth--;
		return 0;
	default:
		return 0;
	}
}

/* What libyaml could not parse. Its reader knows a byte offset, its scanner and parser know marks. */
static int parser_fail(const yaml_parser_t *parser, const char *text, size_t length, struct config_error *error)
{
	yaml_mark_t mark = parser->problem_mark;
	const char *problem = parser->problem ? parser->problem : "unknown problem";

	switch (parser->error) {
	case YAML_MEMORY_ERROR:
		return -ENOMEM;
	case YAML_READER_ERROR:
		mark = (yaml_mark_t){ 0 };
		for (size_t i = 0; i < length && i < parser->problem_offset; i++) {
			if (text[i] == '\n') {
				mark.line++;
				mark.column = 0;
			} else if ((text[i] & 0xc0) != 0x80) {
				mark.column++;
			}
		}
		return mark_fail(&mark, error, "%s, expected UTF-8 text", problem);
	default:
		if (parser->context)
			return mark_fail(&mark, error, "%s %s that began on line %zu, expected valid YAML", problem,
					 parser->context, parser->context_mark.line + 1);
		return mark_fail(&mark, error, "%s, expected valid YAML", problem);
	}
}

int document_parse(struct document **out, const char *text, size_t length, struct config_error *error)
{
	static const yaml_mark_t start;
	struct builder b = { .error = error };
	yaml_parser_t parser;
	yaml_event_t event;
	yaml_event_type_t type;
	int err = 0;

	if (length > CONFIG_TEXT_MAX)
		return mark_fail(&start, error, "the file is too long, expected at most %u bytes", CONFIG_TEXT_MAX);
	if (length >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) { /* a byte order mark says nothing about UTF-8 */
		text += 3;
		length -= 3;
	}
	b.document = calloc(1, sizeof(*b.document));
	if (!b.document)
		return -ENOMEM;
	if (!yaml_parser_initialize(&parser)) {
		err = -ENOMEM;
		goto out_document;
	}
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
	do {
		if (!yaml_parser_parse(&parser, &event)) {
			err = parser_fail(&parser, text, length, error);
			goto out;
		}
		type = event.type;
		err = event_take(&b, &event);
		yaml_event_delete(&event);
	} while (!err && type != YAML_STREAM_END_EVENT);
	if (!err && !b.document->root)
		err = mark_fail(&start, error, "the file is empty, expected a mapping");
out:
	yaml_parser_delete(&parser);
out_document:
	if (err)
		document_free(b.document);
	else
		*out = b.document;
	return err;
}

void document_free(struct document *document)
{
	if (!document)
		return;
	for (size_t i = 0; i < document->n_nodes; i++) {
		free(document->nodes[i]->text);
		free(document->nodes[i]->children);
		free(document->nodes[i]);
	}
	free(document->nodes);
	free(document);
}
