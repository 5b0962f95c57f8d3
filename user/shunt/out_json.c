/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * out_json.c - results for programs: the daemon's own result, on one line or indented. Many of them are an array. An error
 * is an object too, on stderr.
 */
#include "shunt/out.h"

static enum { ALONE, FIRST, FURTHER } place; /* of the next result: alone, or in an array */

static void print(const json_t *value, size_t flags)
{
	if (place == FURTHER)
		fputs(flags & JSON_COMPACT ? "," : ",\n", stdout);
	json_dumpf(value, stdout, flags | JSON_ENCODE_ANY);
	if (place == ALONE)
		putchar('\n');
	else
		place = FURTHER;
	fflush(stdout);
}

static void begin(void)
{
	putchar('[');
	place = FIRST;
}

static void end(void)
{
	puts("]");
	place = ALONE;
}

static void error_print(const struct complaint *complaint, size_t flags)
{
	json_t *o = json_pack("{s:s}", "error", complaint->text);

	fflush(stdout);
	/* NULL: the sentence quotes something that is not UTF-8, or was cut within a character. */
	if (!o)
		o = json_pack("{s:s}", "error", "failed, for a reason that is not UTF-8");
	if (complaint->file)
		json_object_update_new(o, json_pack("{s:s, s:i, s:i}", "file", complaint->file, "line",
						    (int)complaint->line, "column", (int)complaint->column));
	if (complaint->batch)
		json_object_update_new(o, json_pack("{s:s, s:i}", "batch", complaint->batch, "batch_line",
						    (int)complaint->batch_line));
	json_dumpf(o, stderr, flags);
	putc('\n', stderr);
	json_decref(o);
}

static void show(const json_t *result, const struct view *views)
{
	(void)views;
	print(result, JSON_COMPACT);
}

static void item(const json_t *object, const struct view *view)
{
	(void)view;
	print(object, JSON_COMPACT);
}

static void error(const struct complaint *complaint)
{
	error_print(complaint, JSON_COMPACT);
}

static void show_pretty(const json_t *result, const struct view *views)
{
	(void)views;
	print(result, JSON_INDENT(4));
}

static void item_pretty(const json_t *object, const struct view *view)
{
	(void)view;
	print(object, JSON_INDENT(4));
}

static void error_pretty(const struct complaint *complaint)
{
	error_print(complaint, JSON_INDENT(4));
}

/* Programs read results, nothing beside them. */
static void none(const char *text)
{
	(void)text;
}

const struct output out_json = {
	.show = show, .item = item, .error = error, .note = none, .progress = none, .begin = begin, .end = end
};
const struct output out_json_pretty = { .show = show_pretty,
					.item = item_pretty,
					.error = error_pretty,
					.note = none,
					.progress = none,
					.begin = begin,
					.end = end };
