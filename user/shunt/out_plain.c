/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * out_plain.c - results for people: aligned columns, units, a dash for what is not known, colours where they can be seen.
 */
#include "shunt/out.h"

#include <inttypes.h>
#include <unistd.h>

#include "common/clock.h"

#define GAP "  " /* between columns */
#define LINE_WIDTH 100 /* of what may be broken, chosen */
#define PROGRESS_PERIOD_NS 1000000000LL /* between lines of progress where they are not a terminal's, chosen */

/* Three significant digits and a unit: 999 -> "999", 12345 -> "12.3 k". */
static void scaled_format(char *text, size_t size, double value, const char *const *units, size_t n_units, double step)
{
	size_t i = 0;

	while (value >= step * 0.9995 && i + 1 < n_units) {
		value /= step;
		i++;
	}
	if (i == 0)
		snprintf(text, size, "%.0f%s%s", value, *units[0] ? " " : "", units[0]);
	else
		snprintf(text, size, "%.*f %s", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value, units[i]);
}

/* The two largest units that count: 90061 -> "1d1h", 1.23 -> "1.2s", 0.0123 -> "12ms". */
static void duration_format_s(char *text, size_t size, double seconds)
{
	int64_t s = (int64_t)seconds;

	if (seconds < 0.9995)
		snprintf(text, size, "%.0fms", seconds * 1000);
	else if (seconds < 9.95)
		snprintf(text, size, "%.1fs", seconds);
	else if (s < 60)
		snprintf(text, size, "%" PRId64 "s", s);
	else if (s < 3600)
		snprintf(text, size, "%" PRId64 "m%" PRId64 "s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(text, size, "%" PRId64 "h%" PRId64 "m", s / 3600, s % 3600 / 60);
	else
		snprintf(text, size, "%" PRId64 "d%" PRId64 "h", s / 86400, s % 86400 / 3600);
}

static void number_format(char *text, size_t size, double value, enum unit unit)
{
	static const char *const counts[] = { "", "k", "M", "G", "T", "P" };
	static const char *const bytes[] = { "B", "kB", "MB", "GB", "TB", "PB" };
	static const char *const times[] = { "us", "ms", "s" };
	double age_s, cut;

	switch (unit) {
	case UNIT_COUNT:
		scaled_format(text, size, value, counts, 6, 1000);
		break;
	case UNIT_BYTES:
		scaled_format(text, size, value, bytes, 6, 1000);
		break;
	case UNIT_US:
		if (value >= 60e6)
			duration_format_s(text, size, value / 1e6);
		else
			scaled_format(text, size, value, times, 3, 1000);
		break;
	case UNIT_SECONDS:
		duration_format_s(text, size, value);
		break;
	case UNIT_SINCE_NS:
		age_s = ((double)monotonic_ns() - value) / 1e9;
		duration_format_s(text, size, age_s > 0 ? age_s : 0);
		break;
	case UNIT_PERCENT:
		cut = (double)(int64_t)(value * 1000) / 1000;
		snprintf(text, size, value == (double)(int64_t)value ? "%.0f%%" : "%.3f%%", cut);
		break;
	case UNIT_PERMILLE:
		snprintf(text, size, "%.1f%%", value / 10);
		break;
	case UNIT_PORT:
		snprintf(text, size, value == 0 ? "any" : "%.0f", value);
		break;
	default:
		snprintf(text, size, "%.0f", value);
	}
}

/* {"rate": 500, "action": "drop"} -> rate 500 action drop */
static void object_print(FILE *f, const json_t *object)
{
	const char *key, *gap = "";
	json_t *value;

	json_object_foreach((json_t *)object, key, value)
	{
		if (json_is_string(value))
			fprintf(f, "%s%s %s", gap, key, json_string_value(value));
		else if (json_is_boolean(value))
			fprintf(f, "%s%s %s", gap, key, json_is_true(value) ? "yes" : "no");
		else
			fprintf(f, "%s%s %.0f", gap, key, json_number_value(value));
		gap = " ";
	}
}

static const json_t *value_of(const json_t *object, const struct column *column)
{
	const char *dot = strchr(column->key, '.');

	if (!dot)
		return json_object_get(object, column->key);
	return json_object_get(json_object_getn(object, column->key, (size_t)(dot - column->key)), dot + 1);
}

/* One value as text, to be freed. What would steer a terminal is taken out. */
static char *cell_format(const json_t *object, const struct column *column)
{
	const json_t *value = value_of(object, column), *element;
	char number[64], *text = NULL;
	size_t size, i;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	if (json_is_string(value)) {
		fputs(*json_string_value(value) ? json_string_value(value) : "-", f);
	} else if (json_is_number(value)) {
		number_format(number, sizeof(number), json_number_value(value), column->unit);
		fputs(number, f);
	} else if (json_is_boolean(value)) {
		fputs(json_is_true(value) ? "yes" : "no", f);
	} else if (json_is_object(value)) {
		object_print(f, value);
	} else if (json_is_array(value)) {
		json_array_foreach(value, i, element)
			fprintf(f, "%s%s", i ? " " : "", json_is_string(element) ? json_string_value(element) : "-");
	} else {
		fputs("-", f);
	}
	fclose(f);
	for (char *c = text; c && *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	return text;
}

static bool is_left_out(const struct view *view, const json_t *row)
{
	const json_t *value = view->but_zero ? json_object_get(row, view->but_zero) : NULL;

	return json_is_integer(value) && json_integer_value(value) == 0;
}

/* A column of numbers is aligned right, also if none is known. */
static bool is_numeric(const json_t *rows, const struct column *column)
{
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row) if (json_is_number(value_of(row, column))) return true;
	return column->unit != UNIT_NONE;
}

/* ---- colours ---- */

/* What catches the eye: SGR 31 is red, 33 yellow (ECMA-48 8.3.117). NULL: nothing. */
static const char *colour_of(const char *word)
{
	static const struct {
		const char *word, *colour;
	} colours[] = { { "down", "31" }, { "ill", "31" }, { "draining", "33" } };

	for (size_t i = 0; i < sizeof(colours) / sizeof(*colours); i++)
		if (!strcmp(word, colours[i].word))
			return colours[i].colour;
	return NULL;
}

/* Whether somebody sees them, and wants to (no-color.org). */
static bool is_coloured(void)
{
	const char *no = getenv("NO_COLOR"), *terminal = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && *no) && terminal && strcmp(terminal, "dumb");
}

static void word_print(FILE *f, const char *text)
{
	const char *colour = colour_of(text);

	if (colour && is_coloured())
		fprintf(f, "\033[%sm%s\033[m", colour, text);
	else
		fputs(text, f);
}

/* ---- shapes ---- */

/* What is longer than the line goes on below itself, where a word begins. */
static void wrapped_print(FILE *f, char *text, size_t indent)
{
	const size_t width = indent < LINE_WIDTH ? LINE_WIDTH - indent : 0;

	while (strlen(text) > width) {
		char *end = text + width;

		while (end > text && *end != ' ')
			end--;
		if (end == text)
			break; /* one word */
		fprintf(f, "%.*s\n%*s", (int)(end - text), text, (int)indent, "");
		text = end + 1;
	}
	word_print(f, text);
	putc('\n', f);
}

/* The line ends with its last word: nothing pads it. */
static void cell_print(FILE *f, char *text, size_t width, bool right, bool last, size_t indent)
{
	int pad = (int)(width - strlen(text));

	fprintf(f, "%*s", right ? pad : 0, "");
	if (last) {
		wrapped_print(f, text, indent);
		return;
	}
	word_print(f, text);
	fprintf(f, "%*s" GAP, right ? 0 : pad, "");
}

/* One line; NULL: nothing is there. */
static void row_print(FILE *f, char *const *cells, const size_t *widths, const bool *right, size_t n)
{
	size_t indent = 0;

	for (size_t c = 0; c < n; c++) {
		cell_print(f, cells[c] ? cells[c] : (char[]){ "" }, widths[c], right[c], c + 1 == n, indent);
		indent += widths[c] + strlen(GAP);
	}
}

static void table_print(FILE *f, const json_t *rows, const struct view *view)
{
	size_t n_rows = json_array_size(rows), n = 0, i;
	char **cells, **titles;
	size_t *widths;
	bool *right;
	const json_t *row;

	while (view->columns[n].key)
		n++;
	cells = calloc(n_rows * n + 1, sizeof(*cells));
	titles = calloc(n, sizeof(*titles));
	widths = calloc(n, sizeof(*widths));
	right = calloc(n, sizeof(*right));
	if (!cells || !titles || !widths || !right)
		goto out;
	for (size_t c = 0; c < n; c++) {
		titles[c] = (char *)view->columns[c].title;
		widths[c] = strlen(view->columns[c].title);
		right[c] = is_numeric(rows, &view->columns[c]);
	}
	json_array_foreach(rows, i, row)
	{
		for (size_t c = 0; c < n && !is_left_out(view, row); c++) {
			char *cell = cell_format(row, &view->columns[c]);

			cells[i * n + c] = cell;
			if (cell && strlen(cell) > widths[c])
				widths[c] = strlen(cell);
		}
	}
	row_print(f, titles, widths, right, n);
	json_array_foreach(rows, i, row) if (!is_left_out(view, row)) row_print(f, cells + i * n, widths, right, n);
	for (i = 0; i < n_rows * n; i++)
		free(cells[i]);
out:
	free(cells);
	free(titles);
	free(widths);
	free(right);
}

static void record_print(FILE *f, const json_t *object, const struct view *view)
{
	size_t width = 0;

	if (!object)
		return;
	for (const struct column *c = view->columns; c->key; c++)
		if (strlen(c->title) > width)
			width = strlen(c->title);
	for (const struct column *c = view->columns; c->key; c++) {
		char *cell = cell_format(object, c);

		fprintf(f, "%-*s" GAP, (int)width, c->title);
		wrapped_print(f, cell ? cell : (char[]){ "" }, width + strlen(GAP));
		free(cell);
	}
}

static void line_print(FILE *f, const json_t *object, const struct view *view)
{
	for (const struct column *c = view->columns; c->key; c++) {
		char *cell = cell_format(object, c);

		fprintf(f, "%s%s", c == view->columns ? "" : " ", cell ? cell : "");
		free(cell);
	}
	putc('\n', f);
}

/* A text of many lines, without what would steer a terminal. */
static void text_print(FILE *f, const char *text)
{
	for (; text && *text; text++)
		putc((unsigned char)*text >= ' ' || *text == '\n' || *text == '\t' ? *text : '?', f);
}

void out_plain_print(FILE *f, const json_t *result, const struct view *views)
{
	bool first = true;

	for (const struct view *view = views; view->shape; view++) {
		const json_t *part = view->key ? json_object_get(result, view->key) : result, *item;
		size_t i;

		if (view->shape == SHAPE_TABLE && !json_array_size(part) && (view != views || view[1].shape))
			continue; /* a heading tells nothing beside other things */
		if (!first)
			putc('\n', f);
		first = false;
		switch (view->shape) {
		case SHAPE_TABLE:
			table_print(f, part, view);
			break;
		case SHAPE_RECORD:
			record_print(f, json_is_array(part) ? json_array_get(part, 0) : part, view);
			break;
		case SHAPE_LINES:
			json_array_foreach(part, i, item) line_print(f, item, view);
			break;
		case SHAPE_TEXT:
			text_print(f, json_string_value(json_object_get(part, view->columns[0].key)));
			break;
		}
	}
}

/* ---- the output ---- */

static void show(const json_t *result, const struct view *views)
{
	out_plain_print(stdout, result, views);
}

static void item(const json_t *object, const struct view *view)
{
	line_print(stdout, object, view);
	fflush(stdout);
}

/* A place goes first and stands alone, as compilers print it, so that editors find it. */
static void error(const struct complaint *complaint)
{
	fflush(stdout);
	if (complaint->batch)
		fprintf(stderr, "%s:%u: ", complaint->batch, complaint->batch_line);
	if (complaint->file)
		fprintf(stderr, "%s:%u:%u: ", complaint->file, complaint->line, complaint->column);
	fprintf(stderr, "%s%s\n", complaint->batch || complaint->file ? "" : "shunt: ", complaint->text);
}

static void note(const char *text)
{
	fflush(stdout);
	fprintf(stderr, "shunt: %s\n", text);
}

/* On a terminal one line, written anew; elsewhere a line every now and then. */
static void progress(const char *text)
{
	static bool unfinished;
	static uint64_t next_ns;
	uint64_t now_ns;

	if (isatty(STDOUT_FILENO)) {
		if (text)
			printf("\r%s\033[K", text); /* erase to the end of the line: ECMA-48 8.3.41 */
		else if (unfinished)
			putchar('\n');
		unfinished = text;
	} else if (text) {
		now_ns = monotonic_ns();
		if (now_ns < next_ns)
			return;
		puts(text);
		next_ns = now_ns + PROGRESS_PERIOD_NS;
	}
	fflush(stdout);
}

/* Results stand below each other as they are. */
static void none(void)
{
}

const struct output out_plain = { .for_people = true,
				  .show = show,
				  .item = item,
				  .error = error,
				  .note = note,
				  .progress = progress,
				  .begin = none,
				  .end = none };
