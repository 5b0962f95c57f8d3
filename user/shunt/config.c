/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config.c - shunt config: check a file without a daemon, show what the daemon runs, compare, change and save that. A file
 * that is sent is parsed here first: what is wrong with it is said of the name that the user knows it by.
 */
#include "shunt/shunt.h"

#include <errno.h>

#include "common/file.h"
#include "core/config.h"

static const struct column text_columns[] = { { "text", "", 0 }, { NULL, NULL, 0 } };
static const struct view text_views[] = { { SHAPE_TEXT, NULL, text_columns, NULL }, { 0 } };

static const struct column count_columns[] = {
	{ "file", "file", 0 },         { "vips", "vips", 0 }, { "pools", "pools", 0 },
	{ "backends", "backends", 0 }, { NULL, NULL, 0 },
};
static const struct view count_views[] = { { SHAPE_RECORD, NULL, count_columns, NULL }, { 0 } };

static const struct column saved_columns[] = { { "file", "written", 0 },
					       { "before", "the one before", 0 },
					       { NULL, NULL, 0 } };
static const struct view saved_views[] = { { SHAPE_RECORD, NULL, saved_columns, NULL }, { 0 } };

static bool is_standard_input(const char *path)
{
	return !strcmp(path, "-");
}

/* As it is called in complaints. */
static const char *name_of(const char *path)
{
	return is_standard_input(path) ? "<stdin>" : path;
}

/* The whole file, to be freed, or NULL and errno. A file longer than any valid one is cut, and so refused. */
static char *text_read(const char *path, size_t *length)
{
	FILE *f = is_standard_input(path) ? stdin : fopen(path, "re");
	char *text = f ? malloc(CONFIG_TEXT_MAX + 2) : NULL;
	int err = f && text ? 0 : errno;

	if (!err) {
		*length = fread(text, 1, CONFIG_TEXT_MAX + 1, f);
		text[*length] = 0;
		err = ferror(f) ? errno : 0;
	}
	if (f && f != stdin)
		fclose(f);
	if (!err)
		return text;
	free(text);
	errno = err;
	return NULL;
}

/* The text of a good file and its model, both the caller's; or the exit status, complained of. */
static int file_load(const struct call *call, const char *path, char **text, struct config **config)
{
	struct config_error error = { 0 };
	size_t length;
	int err;

	*text = text_read(path, &length);
	if (!*text)
		return complain(call, CONTROL_REFUSED, "cannot read %s: %s", name_of(path), strerror(errno));
	err = config_parse(config, *text, length, &error);
	if (!err)
		return CONTROL_DONE;
	free(*text);
	if (err != -EINVAL)
		return complain(call, CONTROL_REFUSED, "%s", strerror(-err));
	return complain_at(call, name_of(path), error.line, error.column, error.text);
}

static int config_check(struct call *call)
{
	const char *path = call->argv[0];
	struct config *config;
	size_t n_backends = 0;
	json_t *result;
	char *text;
	int code = file_load(call, path, &text, &config);

	if (code)
		return code;
	for (size_t i = 0; i < config->n_pools; i++)
		n_backends += config->pools[i].n_backends;
	result = json_pack("{s:s, s:i, s:i, s:i}", "file", name_of(path), "vips", (int)config->n_vips, "pools",
			   (int)config->n_pools, "backends", (int)n_backends);
	call->out->show(result, count_views);
	json_decref(result);
	config_free(config);
	free(text);
	return code;
}

static int config_show(struct call *call)
{
	return request_show(call, "config", "show", NULL, text_views);
}

static int config_reload(struct call *call)
{
	return request_show(call, "config", "reload", json_incref(call->args), text_views);
}

/* Send a file that parses; the daemon sees what else may be wrong with it. */
static int text_send(struct call *call, const char *command)
{
	struct config *config;
	char *text;
	int code = file_load(call, call->argv[0], &text, &config);

	if (code)
		return code;
	config_free(config);
	json_object_set_new(call->args, "config", json_string(text));
	json_object_set_new(call->args, "name", json_string(name_of(call->argv[0])));
	free(text);
	return request_show(call, "config", command, json_incref(call->args), text_views);
}

static int config_apply(struct call *call)
{
	return text_send(call, "apply");
}

static int config_diff(struct call *call)
{
	return call->argc ? text_send(call, "diff") : request_show(call, "config", "diff", NULL, text_views);
}

/* The running configuration and its file's path, absolute, to be freed; or the exit status, complained of. */
static int running_ask(const struct call *call, char **text, char **path)
{
	struct config_error error;
	struct config *config;
	json_t *result;
	int code = request_ask(call, "config", "show", NULL, &result);

	if (code)
		return code;
	*text = NULL;
	*path = NULL;
	if (json_unpack(result, "{s:s, s:s}", "text", text, "file", path) ||
	    config_parse(&config, *text, strlen(*text), &error)) {
		code = complain(call, CONTROL_REFUSED, "shuntd's answer makes no sense: is it of another version?");
	} else {
		config_free(config);
		*text = strdup(*text);
		*path = strdup(*path);
	}
	json_decref(result);
	return code;
}

/* Written here and not by the daemon, which need not be allowed to; nor has it to wait for the disk. */
static int config_save(struct call *call)
{
	char *text, *file, *path;
	json_t *result;
	int code = running_ask(call, &text, &file), err;
	bool is_first;

	if (code)
		return code;
	path = realpath(file, NULL); /* a link stays one */
	is_first = !path && errno == ENOENT;
	path = is_first ? strdup(file) : path;
	err = path ? file_replace(path, text, strlen(text), 0644, true) : -errno;
	if (err) {
		code = complain(call, CONTROL_REFUSED, "%s is not written: %s", file, strerror(-err));
	} else {
		result = json_pack("{s:s, s:o}", "file", path, "before",
				   is_first ? json_null() : json_pack("s+", path, "~"));
		call->out->show(result, saved_views);
		json_decref(result);
	}
	free(path);
	free(file);
	free(text);
	return code;
}

static const struct key force_keys[] = { { .word = "force" }, { 0 } };

static const struct command commands[] = {
	{ .name = "show", .help = "the running configuration, defaults written out", .run = config_show },
	{ .name = "check",
	  .help = "whether shuntd would take this file; needs no shuntd",
	  .run = config_check,
	  .arguments = { { "FILE", VALUE_FILE, "file", false } } },
	{ .name = "diff",
	  .help = "what would change with this file, or shuntd's own; changes nothing",
	  .run = config_diff,
	  .arguments = { { "FILE", VALUE_FILE, "name", true } } },
	{ .name = "apply",
	  .help = "make this file the running configuration; force cuts what is removed",
	  .run = config_apply,
	  .arguments = { { "FILE", VALUE_FILE, "name", false } },
	  .keys = force_keys },
	{ .name = "save", .help = "write the running configuration to shuntd's file", .run = config_save },
	{ .name = "reload",
	  .help = "read shuntd's file anew and say what changes; force cuts what is removed",
	  .run = config_reload,
	  .keys = force_keys },
	{ 0 },
};

const struct object config_object = { "config", "the running configuration, and the next", commands };
