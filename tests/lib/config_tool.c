/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config_tool.c - the configuration readers on a file, for the golden tests: config_tool check|show|agent-check|
 * agent-show FILE. Prints FILE:LINE:COLUMN: TEXT on stderr and exits 1 where the file is wrong.
 */
#include <errno.h>

#include "core/config.h"

/* The whole file and a byte more than the readers take, so that they see when it is too long. */
static char *file_read(const char *path, size_t *length)
{
	FILE *f = fopen(path, "rb");
	char *text = malloc(CONFIG_TEXT_MAX + 1);

	if (f && text) {
		*length = fread(text, 1, CONFIG_TEXT_MAX + 1, f);
	} else {
		free(text);
		text = NULL;
	}
	if (f)
		fclose(f);
	return text;
}

int main(int argc, char **argv)
{
	struct config_error error = { 0 };
	struct agent_config *agent = NULL;
	struct config *config = NULL;
	char *text, *shown = NULL;
	size_t length;
	bool show;
	int err;

	if (argc != 3) {
		fprintf(stderr, "usage: config_tool check|show|agent-check|agent-show FILE\n");
		return 2;
	}
	text = file_read(argv[2], &length);
	if (!text) {
		fprintf(stderr, "config_tool: cannot read %s: %s\n", argv[2], strerror(errno));
		return 2;
	}
	show = !!strstr(argv[1], "show");
	if (!strncmp(argv[1], "agent-", 6)) {
		err = agent_config_parse(&agent, text, length, &error);
		shown = !err && show ? agent_config_format(agent) : NULL;
	} else {
		err = config_parse(&config, text, length, &error);
		shown = !err && show ? config_format(config) : NULL;
	}
	if (err == -EINVAL)
		fprintf(stderr, "%s:%u:%u: %s\n", argv[2], error.line, error.column, error.text);
	else if (err || (show && !shown))
		fprintf(stderr, "config_tool: out of memory\n");
	else if (show)
		fputs(shown, stdout);
	agent_config_free(agent);
	config_free(config);
	free(shown);
	free(text);
	return err ? 1 : 0;
}
