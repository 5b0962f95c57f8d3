/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * out_none.c - an output that shows nothing.
 */
#include "shunt/out.h"

static void ignore_show(const json_t *result, const struct view *views)
{
	(void)result, (void)views;
}

static void ignore_item(const json_t *result, const struct view *view)
{
	(void)result, (void)view;
}

static void ignore_error(const struct complaint *complaint)
{
	(void)complaint;
}

static void ignore_text(const char *text)
{
	(void)text;
}

static void ignore(void)
{
}

const struct output out_none = { .show = ignore_show,
				 .item = ignore_item,
				 .error = ignore_error,
				 .note = ignore_text,
				 .progress = ignore_text,
				 .begin = ignore,
				 .end = ignore };
