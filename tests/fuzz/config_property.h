/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config_property.h - what must hold of the readers for any bytes: they end, they say yes or where it is wrong, and
 * what they say yes to prints as a file of the same model. Used by the fuzzer and by the mutations in the unit tests.
 */
#ifndef SHUNT_TESTS_CONFIG_PROPERTY_H
#define SHUNT_TESTS_CONFIG_PROPERTY_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"

#define PROPERTY(holds)                                                                            \
	do {                                                                                       \
		if (!(holds)) {                                                                    \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #holds); \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* An error has a place inside of the text and a printable sentence. */
static inline void property_error(const char *text, size_t length, const struct config_error *error)
{
	size_t lines = 1;

	for (size_t i = 0; i < length; i++)
		lines += text[i] == '\n' || text[i] == '\r' || text[i] == '\x85' || text[i] == '\xa8' ||
			 text[i] == '\xa9';
	PROPERTY(error->line >= 1 && error->line <= lines + 1);
	PROPERTY(error->column >= 1 && error->column <= length + 1);
	PROPERTY(strstr(error->text, "expected") || strlen(error->text) == sizeof(error->text) - 1);
	for (const char *p = error->text; *p; p++)
		PROPERTY(*p >= ' ' && *p <= '~');
}

/* True: the text is a good shunt.yaml. */
static inline bool property_config(const char *text, size_t length)
{
	struct config_error error = { 0 };
	struct config *config, *again;
	char *printed, *printed_again;
	int err = config_parse(&config, text, length, &error);

	if (err) {
		PROPERTY(err == -EINVAL);
		property_error(text, length, &error);
		return false;
	}
	printed = config_format(config);
	PROPERTY(printed && config_parse(&again, printed, strlen(printed), &error) == 0);
	printed_again = config_format(again);
	PROPERTY(printed_again && !strcmp(printed, printed_again));
	free(printed_again);
	free(printed);
	config_free(again);
	config_free(config);
	return true;
}

/* The same of an agent.yaml. */
static inline bool property_agent_config(const char *text, size_t length)
{
	struct config_error error = { 0 };
	struct agent_config *config, *again;
	char *printed, *printed_again;
	int err = agent_config_parse(&config, text, length, &error);

	if (err) {
		PROPERTY(err == -EINVAL);
		property_error(text, length, &error);
		return false;
	}
	printed = agent_config_format(config);
	PROPERTY(printed && agent_config_parse(&again, printed, strlen(printed), &error) == 0);
	printed_again = agent_config_format(again);
	PROPERTY(printed_again && !strcmp(printed, printed_again));
	free(printed_again);
	free(printed);
	agent_config_free(again);
	agent_config_free(config);
	return true;
}

#endif
