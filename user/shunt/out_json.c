/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * out_json.c - results for programs: the daemon's own result, on one line or indented. An error is an object on
 * stdout too, as bpftool does it, so that whoever reads stdout always gets JSON.
 */
#include "shunt/out.h"

static void print(const json_t *value, size_t flags)
{
	json_dumpf(value, stdout, flags | JSON_ENCODE_ANY);
	putchar('\n');
	fflush(stdout);
}

static void error_print(const struct complaint *complaint, size_t flags)
{
	json_t *o = complaint->file
			    ? json_pack("{s:s, s:s, s:i, s:i}", "error", complaint->text, "file", complaint->file,
					"line", (int)complaint->line, "column", (int)complaint->column)
			    : json_pack("{s:s}", "error", complaint->text);

	/* NULL: the sentence quotes something that is not UTF-8, or was cut within a character. */
	if (o)
		print(o, flags);
	else
		puts("{\"error\":\"failed, for a reason that is not UTF-8\"}");
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

const struct output out_json = { .show = show, .item = item, .error = error, .note = none, .progress = none };
const struct output out_json_pretty = {
	.show = show_pretty, .item = item_pretty, .error = error_pretty, .note = none, .progress = none
};
