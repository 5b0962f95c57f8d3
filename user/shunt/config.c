/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config.c - shunt config: check a file without a daemon, show what the daemon runs, let it read its file anew.
 */
#include "shunt/shunt.h"

#include <errno.h>

#include "core/config.h"

static const struct column text_columns[] = { { "text", "", 0 }, { NULL, NULL, 0 } };
static const struct view text_views[] = { { SHAPE_TEXT, NULL, text_columns, NULL }, { 0 } };

static const struct column count_columns[] = {
	{ "file", "file", 0 },         { "vips", "vips", 0 }, { "pools", "pools", 0 },
	{ "backends", "backends", 0 }, { NULL, NULL, 0 },
};
static const struct view count_views[] = { { SHAPE_RECORD, NULL, count_columns, NULL }, { 0 } };

/* The whole file, to be freed, or NULL and errno. A file longer than any valid one is cut, and so refused. */
static char *file_read(const char *path, size_t *length)
{
	FILE *f = fopen(path, "re");
	char *text = f ? malloc(CONFIG_TEXT_MAX + 1) : NULL;
	int err = 0;

	if (!f)
		return NULL;
	if (text) {
		*length = fread(text, 1, CONFIG_TEXT_MAX + 1, f);
		err = ferror(f) ? errno : 0;
	}
	fclose(f);
	if (!err)
		return text;
	free(text);
	errno = err;
	return NULL;
}

static int config_check(struct call *call)
{
	const char *path = call->argv[0];
	struct config_error error = { 0 };
	struct config *config = NULL;
	size_t length = 0, n_backends = 0;
	char *text = file_read(path, &length);
	json_t *result;
	int err;

	if (!text)
		return complain(call, CONTROL_REFUSED, "cannot read %s: %s", path, strerror(errno));
	err = config_parse(&config, text, length, &error);
	free(text);
	if (err == -EINVAL) {
		return complain_at(call, path, error.line, error.column, error.text);
	}
	if (err)
		return complain(call, CONTROL_REFUSED, "%s", strerror(-err));
	for (size_t i = 0; i < config->n_pools; i++)
		n_backends += config->pools[i].n_backends;
	result = json_pack("{s:s, s:i, s:i, s:i}", "file", path, "vips", (int)config->n_vips, "pools",
			   (int)config->n_pools, "backends", (int)n_backends);
	call->out->show(result, count_views);
	json_decref(result);
	config_free(config);
	return CONTROL_DONE;
}

static int config_show(struct call *call)
{
	return request_show(call, "config", "show", NULL, text_views);
}

static int config_reload(struct call *call)
{
	return request_show(call, "config", "reload", json_incref(call->args), text_views);
}

static const struct key reload_keys[] = { { .word = "force" }, { 0 } };

static const struct command commands[] = {
	{ .name = "show", .help = "the running configuration, defaults written out", .run = config_show },
	{ .name = "check",
	  .help = "whether shuntd would take this file; needs no shuntd",
	  .run = config_check,
	  .arguments = { { "FILE", VALUE_FILE, "file", false } } },
	{ .name = "reload",
	  .help = "read shuntd's file anew and say what changes; force cuts what is removed",
	  .run = config_reload,
	  .keys = reload_keys },
	{ 0 },
};

const struct object config_object = { "config", "the configuration that runs, and the next one", commands };
