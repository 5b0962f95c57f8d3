/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * batch.c - the commands of a file, one a line, until one fails.
 *
 * Words are as in a shell, as far as that is of use here: blanks part them; '...' and "..." hold them together, and in
 * the latter, as outside, a backslash takes the meaning from what follows; at the end of a line it goes on with the next. A #
 * where a word could begin is a comment.
 */
#include "shunt/shunt.h"

#include <errno.h>

/* The words of a line, in place. */
struct split {
	char **words; /* the first is the program's name */
	int n;
	const char *wrong; /* why it can't be read, or NULL */
};

/* One word from *from on, which is not blank, written to *to and ended. Whether it ends well. */
static bool word_split(char **from, char **to)
{
	char quote = 0, *r = *from, *w = *to;

	for (; *r && (quote || !strchr(" \t", *r)); r++) {
		if (*r == quote)
			quote = 0;
		else if (!quote && (*r == '\'' || *r == '"'))
			quote = *r;
		else if (*r == '\\' && quote != '\'' && r[1])
			*w++ = *++r;
		else
			*w++ = *r;
	}
	*from = *r ? r + 1 : r; /* before the end takes the blank's place */
	*w++ = '\0';
	*to = w;
	return !quote;
}

/* The line is written over; split->words is to be freed. */
static void line_split(struct split *split, char *line)
{
	static char program[] = "shunt";
	char *to = line;

	*split = (struct split){ .words = calloc(strlen(line) / 2 + 3, sizeof(*split->words)) };
	if (!split->words) {
		split->wrong = "out of memory";
		return;
	}
	split->words[split->n++] = program;
	for (;;) {
		line += strspn(line, " \t");
		if (!*line || *line == '#')
			return;
		split->words[split->n++] = to;
		if (!word_split(&line, &to)) {
			split->wrong = "a quotation mark is not closed";
			return;
		}
	}
}

/* Cut off the line's end. Whether a backslash says that it goes on; two are one that doesn't. */
static bool line_end(char *line, size_t *length)
{
	size_t backslashes = 0;

	if (*length && line[*length - 1] == '\n')
		(*length)--;
	if (*length && line[*length - 1] == '\r')
		(*length)--;
	line[*length] = '\0';
	while (backslashes < *length && line[*length - 1 - backslashes] == '\\')
		backslashes++;
	return backslashes % 2;
}

/* The next line with those that it goes on with, to be freed, or NULL at the end; 0 or -errno. *n counts the file's lines. */
static int line_read(FILE *f, unsigned *n, char **line)
{
	char *piece = NULL, *longer;
	size_t size = 0, used = 0;
	bool goes_on = true;
	int err = 0;

	*line = NULL;
	while (goes_on && !err) {
		ssize_t got = getline(&piece, &size, f);
		size_t length = (size_t)got;

		if (got < 0) {
			err = ferror(f) ? -errno : 0;
			break;
		}
		(*n)++;
		if (memchr(piece, '\0', length))
			err = -EILSEQ; /* no text */
		goes_on = line_end(piece, &length);
		length -= goes_on;
		longer = realloc(*line, used + length + 1);
		if (!longer) {
			err = -ENOMEM;
			break;
		}
		*line = longer;
		memcpy(*line + used, piece, length);
		used += length;
		(*line)[used] = '\0';
	}
	free(piece);
	return err;
}

static int line_do(struct call *call, char *line)
{
	struct split split;
	int code = CONTROL_DONE;

	line_split(&split, line);
	if (split.wrong)
		code = complain(call, CONTROL_MISUSE, "%s", split.wrong);
	else if (split.n > 1)
		code = line_run(call, split.n, split.words);
	free(split.words);
	return code;
}

int batch_run(struct call *call, const char *path)
{
	bool standard = !strcmp(path, "-");
	FILE *f = standard ? stdin : fopen(path, "re");
	int code = CONTROL_DONE, err;
	unsigned n = 0;
	char *line;

	if (!f)
		return complain(call, CONTROL_REFUSED, "cannot read %s: %s", path, strerror(errno));
	call->batch = path;
	call->out->begin();
	do {
		call->batch_line = n + 1;
		err = line_read(f, &n, &line);
		if (err)
			code = complain(call, CONTROL_REFUSED, "cannot be read: %s", strerror(-err));
		else if (line)
			code = line_do(call, line);
		free(line);
	} while (line && !code && !ferror(stdout));
	call->out->end();
	if (!standard)
		fclose(f);
	return code;
}
