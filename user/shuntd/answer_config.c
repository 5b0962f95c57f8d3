/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer_config.c - the running configuration, and what another one would change of it, or changes. The work is reload.c's.
 */
#include <errno.h>
#include <stdlib.h>

#include "shuntd/answer.h"
#include "shuntd/reload.h"

json_t *config_show(struct request *r)
{
	char *text = config_format(r->shuntd->config);
	json_t *o = text ? json_pack("{s:s, s:s}", "text", text, "file", r->shuntd->config_path) : NULL;

	free(text);
	return o;
}

/* The changes, and the same as a person reads them. Takes over the list. */
static json_t *changes_json(json_t *changes)
{
	json_t *change, *o = NULL;
	char *text = NULL;
	size_t size, i;
	FILE *f = open_memstream(&text, &size);

	json_array_foreach(changes, i, change) if (f) fprintf(f, "%s\n", json_string_value(change));
	if (f && !fclose(f))
		o = json_pack("{s:O, s:s}", "changes", changes, "text", *text ? text : "no change\n");
	free(text);
	json_decref(changes);
	return o;
}

static json_t *reload(struct request *r, const struct reload *how)
{
	json_t *changes = NULL;
	int err = shuntd_reload(r->shuntd, how, &changes, r->error, sizeof(r->error));

	if (!err)
		return changes_json(changes);
	r->code = err == -EBUSY ? CONTROL_BUSY : CONTROL_REFUSED;
	return NULL;
}

json_t *config_reload(struct request *r)
{
	return reload(r, &(struct reload){ .force = json_object_get(r->args, "force") });
}

/* A text that was sent, and its name. */
static bool text_read(struct request *r, struct reload *how)
{
	const json_t *text = json_object_get(r->args, "config");

	how->name = arg_string(r, "name");
	how->text = json_string_value(text);
	how->length = json_string_length(text);
	return how->name && how->text;
}

json_t *config_apply(struct request *r)
{
	struct reload how = { .force = json_object_get(r->args, "force") };

	if (!text_read(r, &how))
		return refuse(r, CONTROL_MISUSE, "a configuration has a text and the name of its file");
	return reload(r, &how);
}

json_t *config_diff(struct request *r)
{
	struct reload how = { .only_look = true };

	if (!text_read(r, &how) && json_object_size(r->args))
		return refuse(r, CONTROL_MISUSE, "a configuration has a text and the name of its file");
	return reload(r, &how);
}
