/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * help.c - what the program says of itself, to people and to programs, made from the tables of its commands.
 */
#include "shunt/shunt.h"

static const struct column text_columns[] = { { "text", "", 0 }, { NULL, NULL, 0 } };
static const struct view text_views[] = { { SHAPE_TEXT, NULL, text_columns, NULL }, { 0 } };

/* ---- one command ---- */

/* The next key that the help shows: those of a group are one. */
static const struct key *key_next(const struct key *key)
{
	const char *group = key->group;

	do {
		key++;
	} while (group && key->word && key->group && !strcmp(key->group, group));
	return key;
}

static void key_print(FILE *f, const struct key *key)
{
	fprintf(f, "%s%s%s", key->word, key->title ? " " : "", key->title ? key->title : "");
}

char *usage_format(const struct object *object, const struct command *command)
{
	const char *gap = " ";
	char *text = NULL;
	int optional = 0;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	fprintf(f, "%s%s%s", object->name, *command->name ? " " : "", command->name);
	for (const struct argument *a = command->arguments; a->title; a++) {
		fprintf(f, " %s%s", a->optional ? "[" : "", a->title);
		optional += a->optional;
	}
	while (optional--)
		putc(']', f);
	for (const struct key *key = command->keys; key && key->word; key = key_next(key)) {
		fprintf(f, "%s%s", gap, command->needs_key ? "" : "[");
		if (key->group)
			fprintf(f, "%s ...", key->group);
		else
			key_print(f, key);
		if (!command->needs_key)
			putc(']', f);
		gap = command->needs_key ? " | " : " ";
	}
	fclose(f);
	return text;
}

/* What stands in a group, and what may be shorter. */
static void keys_print(FILE *f, const struct command *command)
{
	const char *group = NULL;

	for (const struct key *key = command->keys; key && key->word; key++) {
		if (key->group && key->group != group)
			fprintf(f, "        %s is\n", key->group);
		group = key->group;
		if (!group && !key->letter)
			continue;
		fputs(group ? "                " : "        ", f);
		key_print(f, key);
		if (key->letter)
			fprintf(f, " may be -%c%s%s", key->letter, key->title ? " " : "", key->title ? key->title : "");
		putc('\n', f);
	}
}

static void command_print(FILE *f, const struct object *object, const struct command *command)
{
	char *usage = usage_format(object, command);

	fprintf(f, "  shunt %s\n        %s\n", usage ? usage : object->name, command->help);
	keys_print(f, command);
	free(usage);
}

/* ---- all of it ---- */

static void options_print(FILE *f)
{
	const char *heading = "OPTIONS:";

	putc('\n', f);
	for (const struct program_option *o = program_options; o->word; o++) {
		char words[64];

		snprintf(words, sizeof(words), "-%c, --%s%s%s", o->letter, o->word, o->title ? " " : "",
			 o->title ? o->title : "");
		fprintf(f, "%-8s %-17s  %s\n", heading, words, o->help);
		heading = "";
	}
	fputs("Words may be cut short where that leaves no doubt: shunt v s\n", f);
}

static void object_print(FILE *f, const struct object *object)
{
	fprintf(f, "%s: %s\n", object->name, object->help);
	for (const struct command *c = object->commands; c->name; c++)
		command_print(f, object, c);
	options_print(f);
}

static void all_print(FILE *f)
{
	fputs("usage: shunt [OPTIONS] OBJECT COMMAND [ARGUMENTS]\n"
	      "       shunt help [OBJECT [COMMAND]]\n\n",
	      f);
	for (int i = 0; objects[i]; i++) {
		const char *gap = ": ";

		fprintf(f, "  %-8s  %s", objects[i]->name, objects[i]->help);
		for (const struct command *c = objects[i]->commands; c->name; c++, gap = " | ")
			if (*c->name)
				fprintf(f, "%s%s", gap, c->name);
		putc('\n', f);
	}
	options_print(f);
}

/* ---- for programs ---- */

static const char *value_name(enum value value)
{
	static const char *const names[] = {
		[VALUE_NONE] = "none",         [VALUE_TEXT] = "text", [VALUE_NUMBER] = "number",
		[VALUE_DURATION] = "duration", [VALUE_VIP] = "vip",   [VALUE_BACKEND] = "backend",
		[VALUE_POOL] = "pool",         [VALUE_FILE] = "file",
	};

	return names[value];
}

static json_t *command_json(const struct object *object, const struct command *command)
{
	json_t *arguments = json_array(), *keys = json_array();
	char *usage = usage_format(object, command);
	json_t *o;

	for (const struct argument *a = command->arguments; a->title; a++)
		json_array_append_new(arguments, json_pack("{s:s, s:s, s:b}", "title", a->title, "value",
							   value_name(a->value), "optional", a->optional));
	for (const struct key *key = command->keys; key && key->word; key++)
		json_array_append_new(keys,
				      json_pack("{s:s, s:s, s:s?, s:s?, s:o}", "word", key->word, "value",
						value_name(key->value), "title", key->title, "group", key->group,
						"letter", key->letter ? json_stringn(&key->letter, 1) : json_null()));
	o = json_pack("{s:s, s:s, s:s?, s:o, s:o, s:b}", "name", command->name, "help", command->help, "usage", usage,
		      "arguments", arguments, "keys", keys, "needs_key", command->needs_key);
	free(usage);
	return o;
}

static json_t *object_json(const struct object *object)
{
	json_t *commands = json_array();

	for (const struct command *c = object->commands; c->name; c++)
		json_array_append_new(commands, command_json(object, c));
	return json_pack("{s:s, s:s, s:o}", "name", object->name, "help", object->help, "commands", commands);
}

static json_t *all_json(void)
{
	json_t *list = json_array(), *options = json_array();

	for (int i = 0; objects[i]; i++)
		json_array_append_new(list, object_json(objects[i]));
	for (const struct program_option *o = program_options; o->word; o++)
		json_array_append_new(options,
				      json_pack("{s:s#, s:s, s:s, s:s?, s:s}", "letter", &o->letter, 1, "word", o->word,
						"value", value_name(o->value), "title", o->title, "help", o->help));
	return json_pack("{s:o, s:o}", "objects", list, "options", options);
}

void help_show(const struct call *call, const struct object *object, const struct command *command)
{
	json_t *o = command ? command_json(object, command) : object ? object_json(object) : all_json();
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f) {
		json_decref(o);
		return;
	}
	if (command)
		command_print(f, object, command);
	else if (object)
		object_print(f, object);
	else
		all_print(f);
	fclose(f);
	json_object_set_new(o, "text", json_string(text));
	free(text);
	call->out->show(o, text_views);
	json_decref(o);
}
