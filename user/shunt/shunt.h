/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shunt.h - what the files of the CLI share: one file an object, each ending in its table of commands.
 */
#ifndef SHUNT_CLI_H
#define SHUNT_CLI_H

#include "shunt/control.h"
#include "shunt/out.h"

/* One command that is to be run. */
struct call {
	const struct output *out;
	const char *socket; /* path */
	unsigned patience_ms; /* with a daemon that doesn't answer */
	int argc; /* of its arguments that stand in their place */
	char **argv;
	json_t *args; /* these and the words that were given, by name: what a request takes (json_incref() hands it on) */
	const char *batch; /* the file that it stands in, or NULL */
	unsigned batch_line;
};

/* What is to be filled in; the completion offers what there is of it. In requests all but numbers are strings. */
enum value {
	VALUE_NONE, /* nothing: the word stands alone, and means true */
	VALUE_TEXT,
	VALUE_NUMBER, /* a whole number 0 .. 2^53 */
	VALUE_DURATION, /* such as 10m; nanoseconds */
	VALUE_VIP, /* the name of one */
	VALUE_BACKEND,
	VALUE_POOL,
	VALUE_FILE,
};

/* An argument that stands in its place. */
struct argument {
	const char *title; /* as the help shows it; the last one's is NULL */
	enum value value;
	const char *name; /* in call->args */
	bool optional; /* and so are those after it */
};

/* An argument that its word announces, in any order behind those: `deadline 10m`. Each may be an option: `--deadline 10m`. */
struct key {
	const char *word; /* the last one's is NULL */
	enum value value; /* the same wherever the word is one */
	const char *
		title; /* of the value as the help shows it: TIME; what is in lower case is meant literally: open|closing */
	const char *name; /* in call->args; NULL: the same as the word */
	char letter; /* of a short option for it, or 0 */
	const char *group; /* what the help calls those of a kind that follow each other: FILTER; or NULL */
};

/*
 * Everything that there is to know of a command. The help, the completion and `shunt -j help` are made from it; tests
 * compare it with the manual.
 */
struct command {
	const char *name; /* the last command's is NULL; "": of an object that is its own command */
	const char *help; /* one line */
	int (*run)(struct call *call); /* returns the exit status, enum control_code */
	struct argument arguments[4];
	const struct key *keys; /* NULL: none */
	bool needs_key; /* at least one */
};

struct object {
	const char *name;
	const char *help; /* one line */
	const struct command *commands; /* the first is what a bare object means, if it needs no arguments */
};

extern const struct object vip_object, backend_object, pool_object, probe_object, stats_object, slot_object,
	event_object, flow_object, peer_object, config_object, daemon_object, top_object;

extern const struct object *const objects[]; /* main.c; ends with NULL */

/* Complain; returns the code, so that a command can end with it. */
__attribute__((format(printf, 3, 4))) int complain(const struct call *call, enum control_code code, const char *format,
						   ...);

/* The same about a place in a file. */
int complain_at(const struct call *call, const char *file, unsigned line, unsigned column, const char *text);

/* ---- flow.c ---- */

/* All flows, counted: {open, closing, closed, detours}. 0, and *total is owned by the caller; or the exit status. */
int flow_total_ask(const struct call *call, json_t **total);

/* ---- words.c: which of its like a word means ---- */

enum { WORDS_MAX = 64 };

struct words {
	const char *word[WORDS_MAX];
	int n;
};

/* Whether `word` is `name` or the beginning of it. */
bool is_prefix(const char *word, const char *name);

/*
 * The number of the one that `word` is or begins, -1: none, -2: it begins two, those in *two. Unlike bpftool, which takes
 * the first that fits: what a word means must not change as commands are added.
 */
int word_find(const char *word, const struct words *words, const char *two[2]);

/* The one that somebody may have meant who wrote `word`, or NULL. */
const char *word_near(const char *word, const struct words *words);

/* An object, or a command of it, as people write them. NULL: none, complained of unless `call` is NULL. */
const struct object *object_find(const struct call *call, const char *word);
const struct command *command_find(const struct call *call, const struct object *object, const char *word);

/* ---- keys.c: a command's arguments ---- */

/*
 * Read a command's arguments, `options` with them (each a word that may be a key, and its value or NULL), into call->argc,
 * argv and args. Returns the exit status.
 */
struct option_word {
	const char *word;
	char *value;
};
int arguments_parse(struct call *call, const struct object *object, const struct command *command, int argc,
		    char **argv, const struct option_word *options, int n_options);

/* How many of these words stand in their place. */
int arguments_placed(const struct command *command, int argc, char **argv);

/* The key that `word` is or begins, or NULL. */
const struct key *key_find(const struct key *keys, const char *word);

/* ---- help.c ---- */

/* How the command is used, without the program's name, to be freed. */
char *usage_format(const struct object *object, const struct command *command);

/* Help on a command, an object (command: NULL) or all of it (both NULL), or its description for programs. */
void help_show(const struct call *call, const struct object *object, const struct command *command);

/* ---- batch.c ---- */

/* Run the commands of a file, "-": of standard input. Returns the exit status. */
int batch_run(struct call *call, const char *path);

/* ---- complete.c ---- */

/* Print what the last of these words may become, a line each. */
void complete(struct call *call, int argc, char **argv);

/* ---- main.c ---- */

/* The program's own options. */
struct program_option {
	char letter;
	const char *word; /* the last one's is NULL */
	const char *title; /* of its value, or NULL */
	enum value value;
	const char *help;
};
extern const struct program_option program_options[];

/* Run one line of a batch: argv[0] is the program. Returns the exit status. */
int line_run(struct call *call, int argc, char **argv);

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
