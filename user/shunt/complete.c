/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * complete.c - shunt --complete WORD ...: what the last word may become, for the shell. Words come from the tables of
 * commands, names from the daemon, if it answers at once. Says nothing else, whatever happens.
 */
#include "shunt/shunt.h"

#define PATIENCE_MS 80 /* chosen: nobody who presses a key notices */

/* ---- what is offered ---- */

/* The beginning that is to be completed. */
static const char *begun;

static void offer(const char *prefix, const char *word)
{
	size_t length = strlen(prefix);

	if (!strncmp(begun, prefix, strlen(begun) < length ? strlen(begun) : length) &&
	    (strlen(begun) <= length || !strncmp(begun + length, word, strlen(begun) - length)))
		printf("%s%s\n", prefix, word);
}

/* The names of an object's things, each once. */
static void names_offer(const struct call *call, const char *object)
{
	json_t *list, *seen, *item;
	size_t i;

	if (request_ask(call, object, "show", NULL, &list))
		return;
	seen = json_object();
	json_array_foreach(list, i, item)
	{
		const char *name = json_string_value(json_object_get(item, "name"));

		if (!name || json_object_get(seen, name))
			continue;
		json_object_set_new(seen, name, json_true());
		offer("", name);
	}
	json_decref(seen);
	json_decref(list);
}

/* What of a title is meant literally: open|closing, the default of N|default. */
static void literals_offer(const char *title)
{
	char word[32];

	while (*title) {
		size_t length = strcspn(title, "|");

		if (*title >= 'a' && *title <= 'z' && length < sizeof(word)) {
			memcpy(word, title, length);
			word[length] = '\0';
			offer("", word);
		}
		title += length;
		title += *title == '|';
	}
}

static void value_offer(const struct call *call, enum value value, const char *title)
{
	literals_offer(title);
	switch (value) {
	case VALUE_VIP:
		names_offer(call, "vip");
		break;
	case VALUE_BACKEND:
		names_offer(call, "backend");
		break;
	case VALUE_POOL:
		names_offer(call, "pool");
		break;
	case VALUE_FILE:
		puts("/"); /* the shell knows files */
		break;
	default:
		break;
	}
}

/* ---- where we are ---- */

static const struct program_option *program_option_find(const char *word)
{
	for (const struct program_option *o = program_options; o->word; o++)
		if (word[0] == '-' &&
		    ((word[1] == o->letter && !word[2]) || (word[1] == '-' && !strcmp(word + 2, o->word))))
			return o;
	return NULL;
}

static void options_offer(const struct command *command)
{
	for (const struct program_option *o = program_options; o->word; o++)
		offer("--", o->word);
	for (const struct key *key = command ? command->keys : NULL; key && key->word; key++)
		offer("--", key->word);
}

static void objects_offer(void)
{
	for (int i = 0; objects[i]; i++)
		offer("", objects[i]->name);
	offer("", "help");
}

static void commands_offer(const struct object *object)
{
	for (const struct command *c = object->commands; c->name; c++)
		if (*c->name)
			offer("", c->name);
	offer("", "help");
}

/* Whether a word that stands there already means this key. */
static bool is_given(const struct command *command, const struct key *key, int argc, char **argv)
{
	for (int i = arguments_placed(command, argc, argv); i < argc; i++) {
		const struct key *given = key_find(command->keys, argv[i]);

		if (given == key)
			return true;
		i += given && given->value != VALUE_NONE;
	}
	return false;
}

/* The next argument of a command that has those of argv: one in its place, a key, or the value of the one before. */
static void argument_offer(const struct call *call, const struct command *command, int argc, char **argv)
{
	int n = arguments_placed(command, argc, argv);
	const struct argument *a = command->arguments + n;
	const struct key *pending = NULL;

	for (int i = n; i < argc; i++) {
		pending = pending ? NULL : key_find(command->keys, argv[i]);
		pending = pending && pending->value != VALUE_NONE ? pending : NULL;
	}
	if (pending) {
		value_offer(call, pending->value, pending->title);
		return;
	}
	if (a->title && n == argc)
		value_offer(call, a->value, a->title);
	if (a->title && !a->optional)
		return;
	for (const struct key *key = command->keys; key && key->word; key++)
		if (!is_given(command, key, argc, argv))
			offer("", key->word);
}

/* The words without options, the last one without its dashes where it is a key: `--vip` is `vip`. What an option needs is offered. */
static bool words_collect(struct call *call, int *argc, char **argv)
{
	int n = 0;

	for (int i = 0; i < *argc; i++) {
		const struct program_option *o = program_option_find(argv[i]);

		if (o && o->title && i + 1 == *argc) {
			value_offer(call, o->value, o->title);
			return false;
		}
		if (o && o->title)
			i++;
		if (o && o->letter == 's')
			call->socket = argv[i];
		if (!o && strncmp(argv[i], "--", 2))
			argv[n++] = argv[i];
		else if (!o && !strchr(argv[i], '='))
			argv[n++] = argv[i] + 2;
	}
	*argc = n;
	return true;
}

void complete(struct call *call, int argc, char **argv)
{
	const struct command *command = NULL;
	const struct object *object;
	bool help;
	int n;

	if (argc < 1)
		return;
	call->out = &out_none;
	call->patience_ms = PATIENCE_MS;
	begun = argv[--argc];
	if (!words_collect(call, &argc, argv))
		return;
	help = argc > 0 && !strcmp(argv[0], "help");
	argc -= help;
	argv += help;
	object = argc > 0 ? object_find(NULL, argv[0]) : NULL;
	n = object && !*object->commands->name ? 1 : 2;
	if (object)
		command = n == 1 ? object->commands : argc > 1 ? command_find(NULL, object, argv[1]) : NULL;
	if (*begun == '-')
		options_offer(command);
	else if (argc == 0)
		objects_offer();
	else if (object && argc == 1 && n == 2)
		commands_offer(object);
	else if (command && !help)
		argument_offer(call, command, argc - n, argv + n);
}
