/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shunt.h - what the files of the CLI share: one file an object, each ending in its table of commands.
 */
#ifndef SHUNT_CLI_H
#define SHUNT_CLI_H

#include "shunt/control.h"
#include "shunt/out.h"

/* One call of the program. */
struct call {
	const struct output *out;
	const char *socket; /* path */
	int argc; /* of the command's own arguments */
	char **argv;
};

struct command {
	const char *name; /* the last command's is NULL */
	const char *arguments; /* as the help shows them */
	const char *help; /* one line */
	int (*run)(struct call *call); /* returns the exit status, enum control_code */
	int min_arguments, max_arguments;
	const char *options; /* words of its arguments that may be options too: "wait deadline"; NULL: none */
};

struct object {
	const char *name;
	const char *help; /* one line */
	const struct command *commands; /* the first is what a bare object means, if it needs no arguments */
};

extern const struct object vip_object, backend_object, probe_object, stats_object, slot_object, event_object,
	flow_object, config_object;

/* Complain; returns the code, so that a command can end with it. */
__attribute__((format(printf, 3, 4))) int complain(const struct call *call, enum control_code code, const char *format,
						   ...);

/* Whether `word` is `name` or the beginning of it. */
bool is_prefix(const char *word, const char *name);

/* A whole number 0 .. 2^53; 0 or -EINVAL. */
int number_parse(json_int_t *out, const char *text);

/* ---- flow.c ---- */

/* All flows, counted: {open, closing, closed, detours}. 0, and *total is owned by the caller; or the exit status. */
int flow_total_ask(const struct call *call, json_t **total);

/* ---- keys.c: arguments that a word announces ---- */

enum key_kind {
	KEY_FLAG, /* the word alone: true */
	KEY_TEXT, /* the next word */
	KEY_NUMBER, /* the next word, a whole number 0 .. 2^53 */
	KEY_DURATION, /* the next word, such as 10m: nanoseconds */
};

struct key {
	const char *word; /* in the command line, may be cut short; the last one's is NULL */
	enum key_kind kind;
	const char *name; /* of the request's argument; NULL: the same as the word */
};

/*
 * Read the arguments from number `first` on into *args: any of the keys, each once, in any order. Returns the exit
 * status; *args, a JSON object, is made if it is NULL, and gone after an error.
 */
int keys_parse(const struct call *call, int first, const struct key *keys, json_t **args);

/* ---- client.c: the daemon ---- */

/* Ask once. 0, and *result is owned by the caller; or the exit status, complained of. Takes over args (NULL: none). */
int request_ask(const struct call *call, const char *object, const char *command, json_t *args, json_t **result);

/* Ask once and show the result. Takes over args (NULL: none). Returns the exit status. */
int request_show(const struct call *call, const char *object, const char *command, json_t *args,
		 const struct view *views);

/* Ask once and show results as they come, until the daemon closes. Takes over args. */
int request_follow(const struct call *call, const char *object, const char *command, json_t *args,
		   const struct view *view);

#endif
