/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * keys.c - arguments that a word announces: `vip chat state open` becomes {"vip": "chat", "state": "open"}. Which words
 * there are is each command's business; what the values mean, the daemon's.
 */
#include "shunt/shunt.h"

#include <errno.h>

#include "core/config.h"

/* As for objects and commands: a word that begins two is refused. */
static const struct key *key_find(const struct call *call, const struct key *keys, const char *word)
{
	const struct key *found = NULL;

	for (const struct key *key = keys; key->word; key++) {
		if (!strcmp(word, key->word))
			return key;
		if (!is_prefix(word, key->word))
			continue;
		if (found) {
			complain(call, CONTROL_MISUSE, "'%s' may be '%s' or '%s'", word, found->word, key->word);
			return NULL;
		}
		found = key;
	}
	if (!found) {
		char words[256] = "";
		size_t used = 0;

		for (const struct key *key = keys; key->word && used < sizeof(words); key++)
			used += (size_t)snprintf(words + used, sizeof(words) - used, "%s%s", used ? ", " : "",
						 key->word);
		complain(call, CONTROL_MISUSE, "there is no '%s' here, but: %s", word, words);
	}
	return found;
}

/* The value of a key that has one, or NULL, complained of. */
static json_t *value_parse(const struct call *call, const struct key *key, const char *text)
{
	json_int_t number;
	uint64_t ns;

	switch (key->kind) {
	case KEY_NUMBER:
		if (!number_parse(&number, text))
			return json_integer(number);
		complain(call, CONTROL_MISUSE, "'%s' needs a whole number, not '%s'", key->word, text);
		return NULL;
	case KEY_DURATION:
		if (!duration_parse(&ns, text) && ns <= INT64_MAX)
			return json_integer((json_int_t)ns);
		complain(call, CONTROL_MISUSE,
			 "'%s' needs a whole number and its unit (ns, us, ms, s, m or h), such as 10m, not '%s'",
			 key->word, text);
		return NULL;
	default:
		return json_string(text);
	}
}

int keys_parse(const struct call *call, int first, const struct key *keys, json_t **args)
{
	int code = CONTROL_MISUSE;

	if (!*args)
		*args = json_object();
	for (int i = first; i < call->argc; i++) {
		const struct key *key = key_find(call, keys, call->argv[i]);
		const char *name;
		json_t *value;

		if (!key)
			goto out;
		name = key->name ? key->name : key->word;
		if (json_object_get(*args, name)) {
			complain(call, CONTROL_MISUSE, "'%s' is there twice", key->word);
			goto out;
		}
		if (key->kind != KEY_FLAG && ++i == call->argc) {
			complain(call, CONTROL_MISUSE, "'%s' needs a value after it", key->word);
			goto out;
		}
		value = key->kind == KEY_FLAG ? json_true() : value_parse(call, key, call->argv[i]);
		if (!value)
			goto out;
		json_object_set_new(*args, name, value);
	}
	code = CONTROL_DONE;
out:
	if (code) {
		json_decref(*args);
		*args = NULL;
	}
	return code;
}
