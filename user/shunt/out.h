/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * out.h - how results leave the program. A command says what its result is made of (views); only an instance of
 * struct output knows a format. out_plain is for people, out_json for programs.
 */
#ifndef SHUNT_CLI_OUT_H
#define SHUNT_CLI_OUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* What a number counts, and so how a person reads it. Numbers are shown exact in JSON. Text ignores its unit. */
enum unit {
	UNIT_NONE,
	UNIT_COUNT, /* 12345678 -> 12.3 M */
	UNIT_BYTES, /* 12345678 -> 12.3 MB */
	UNIT_SECONDS, /* 90061 -> 1d1h */
	UNIT_US, /* microseconds: 1234 -> 1.23 ms */
	UNIT_SINCE_NS, /* a moment of CLOCK_MONOTONIC -> how long ago */
	UNIT_PERMILLE, /* 12 -> 1.2% */
	UNIT_PERCENT, /* 99.99876 -> 99.998%; cut off, so that 100% is all of it */
	UNIT_PORT, /* 0 -> any */
};

struct column {
	const char *key; /* in the object shown, or KEY.KEY in an object of it; the last column's is NULL */
	const char *title;
	enum unit unit;
};

enum shape {
	SHAPE_TABLE = 1, /* an array of objects: a heading, a line each */
	SHAPE_RECORD, /* one object: a line each column; of an array, its first object */
	SHAPE_LINES, /* an array of objects: a line each, no heading, not aligned */
	SHAPE_TEXT, /* an object: the first column's text as it is */
};

/* A part of a result and how a person looks at it. */
struct view {
	enum shape shape; /* the last view's is 0 */
	const char *key; /* the part's key in the result; NULL: the result itself */
	const struct column *columns;
	const char *but_zero; /* leave out objects in which this key is 0; NULL: none */
};

/* Why a command ended badly. */
struct complaint {
	const char *text; /* one sentence, without a full stop */
	const char *file; /* NULL, or the place it is about */
	unsigned line, column;
	const char *batch; /* NULL, or the file of the command, and where it stands there */
	unsigned batch_line;
};

struct output {
	bool for_people;
	void (*show)(const json_t *result, const struct view *views);
	void (*item)(const json_t *item, const struct view *view); /* one more of a stream; flushed */
	void (*error)(const struct complaint *complaint);
	void (*note)(const char *text); /* beside a result that programs find the same in */
	void (*progress)(const char *text); /* of a wait: takes the place of the one before; NULL: no more follows */
	void (*begin)(void); /* many results follow, which are to be one */
	void (*end)(void); /* no more of them */
};

/* Errors go to stderr. */
extern const struct output out_plain;
extern const struct output out_json; /* one line */
extern const struct output out_json_pretty;
extern const struct output out_none; /* shows nothing, for whoever only asks whether there is an answer */

/* What out_plain shows, elsewhere. */
void out_plain_print(FILE *f, const json_t *result, const struct view *views);

#endif
