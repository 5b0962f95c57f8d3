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

/* ---- client.c: the daemon ---- */

/* Ask once and show the result. Takes over args (NULL: none). Returns the exit status. */
int request_show(const struct call *call, const char *object, const char *command, json_t *args,
		 const struct view *views);

/* Ask once and show results as they come, until the daemon closes. Takes over args. */
int request_follow(const struct call *call, const char *object, const char *command, json_t *args,
		   const struct view *view);

#endif
