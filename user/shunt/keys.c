/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * keys.c - a command's arguments: those that stand in their place, then those that a word announces. `vip chat state open`
 * becomes {"vip": "chat", "state": "open"}. Which there are is each command's business; what they mean, the daemon's.
 */
#include "shunt/shunt.h"

#include <errno.h>

#include "core/config.h"

static int number_parse(json_int_t *out, const char *text)
{
	char *end;

	errno = 0;
	*out = strtoll(text, &end, 10);
	return errno || *text < '0' || *text > '9' || *end || *out > 1LL << 53 ? -EINVAL : 0;
}

/* What `text` is as a value of that kind, or NULL, complained of. `what` has it, a word or a title. */
static json_t *value_parse(const struct call *call, const char *what, enum value value, const char *text)
{
	json_int_t number;
	uint64_t ns;

	switch (value) {
	case VALUE_NUMBER:
		if (!number_parse(&number, text))
			return json_integer(number);
		complain(call, CONTROL_MISUSE, "'%s' needs a whole number, not '%s'", what, text);
		return NULL;
	case VALUE_DURATION:
		if (!duration_parse(&ns, text) && ns <= INT64_MAX)
			return json_integer((json_int_t)ns);
		complain(call, CONTROL_MISUSE,
			 "'%s' needs a whole number and its unit (ns, us, ms, s, m or h), such as 10m, not '%s'", what,
			 text);
		return NULL;
	default:
		return json_string(text);
	}
}

/* ---- words ---- */

static void keys_words(const struct key *keys, struct words *words)
{
	words->n = 0;
	for (const struct key *key = keys; key && key->word; key++)
		words->word[words->n++] = key->word;
}

const struct key *key_find(const struct key *keys, const char *word)
{
	struct words words;
	const char *two[2];
	int found;

	keys_words(keys, &words);
	found = word_find(word, &words, two);
	return found >= 0 ? &keys[found] : NULL;
}

/* The word is none, or two. */
static void key_complain(const struct call *call, const struct key *keys, const char *word)
{
	struct words words;
	const char *two[2], *near;
	char list[512] = "";
	size_t used = 0;

	keys_words(keys, &words);
	if (word_find(word, &words, two) == -2) {
		complain(call, CONTROL_MISUSE, "'%s' may be '%s' or '%s'", word, two[0], two[1]);
		return;
	}
	for (int i = 0; i < words.n && used < sizeof(list); i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", words.word[i]);
	near = word_near(word, &words);
	if (near)
		complain(call, CONTROL_MISUSE, "there is no '%s' here: did you mean '%s'?", word, near);
	else
		complain(call, CONTROL_MISUSE, "there is no '%s' here, but: %s", word, list);
}

/* Add what a key says; its value is `text`, NULL: it has none. */
static int key_add(struct call *call, const struct key *key, const char *text)
{
	const char *name = key->name ? key->name : key->word;
	json_t *value;

	if (json_object_get(call->args, name))
		return complain(call, CONTROL_MISUSE, "'%s' is there twice", key->word);
	if (key->value != VALUE_NONE && !text)
		return complain(call, CONTROL_MISUSE, "'%s' needs a value after it: %s", key->word, key->title);
	value = key->value == VALUE_NONE ? json_true() : value_parse(call, key->word, key->value, text);
	if (!value)
		return CONTROL_MISUSE;
	json_object_set_new(call->args, name, value);
	return CONTROL_DONE;
}

/* ---- all of them ---- */

static int usage_complain(const struct call *call, const struct object *object, const struct command *command)
{
	char *usage = usage_format(object, command);

	complain(call, CONTROL_MISUSE, "usage: shunt %s", usage ? usage : object->name);
	free(usage);
	return CONTROL_MISUSE;
}

int arguments_placed(const struct command *command, int argc, char **argv)
{
	int n = 0;

	for (const struct argument *a = command->arguments; a->title && n < argc; a++, n++)
		for (const struct key *key = command->keys; a->optional && key && key->word; key++)
			if (!strcmp(key->word, argv[n]))
				return n; /* left out: a word follows */
	return n;
}

int arguments_parse(struct call *call, const struct object *object, const struct command *command, int argc,
		    char **argv, const struct option_word *options, int n_options)
{
	const struct argument *a = command->arguments;
	int code = CONTROL_DONE;

	call->argc = arguments_placed(command, argc, argv);
	call->argv = argv;
	for (int i = 0; i < call->argc; i++, a++) {
		json_t *value = value_parse(call, a->title, a->value, argv[i]);

		if (!value)
			return CONTROL_MISUSE;
		json_object_set_new(call->args, a->name, value);
	}
	if ((a->title && !a->optional) || (call->argc < argc && !command->keys))
		return usage_complain(call, object, command);
	for (int i = call->argc; i < argc && !code; i++) {
		const struct key *key = key_find(command->keys, argv[i]);

		if (!key) {
			key_complain(call, command->keys, argv[i]);
			return CONTROL_MISUSE;
		}
		code = key_add(call, key, key->value != VALUE_NONE && i + 1 < argc ? argv[++i] : NULL);
	}
	for (int i = 0; i < n_options && !code; i++) {
		const struct key *key = command->keys;

		while (key && key->word && strcmp(key->word, options[i].word))
			key++;
		if (!key || !key->word)
			return complain(call, CONTROL_MISUSE, "%s%s%s has no option '--%s'", object->name,
					*command->name ? " " : "", command->name, options[i].word);
		code = key_add(call, key, options[i].value);
	}
	if (!code && command->needs_key && call->argc == argc && !n_options)
		return usage_complain(call, object, command);
	return code;
}
