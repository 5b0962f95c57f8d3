/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * writer.c - see writer.h.
 */
#include <stdlib.h>
#include <string.h>

#include "core/writer.h"

void writer_address(FILE *f, const struct shunt_addr *address)
{
	char buffer[ADDRESS_TEXT_MAX];
	const char *quote = address_is_v4(address) ? "" : "\"";

	fprintf(f, "%s%s%s", quote, address_format(address, buffer, sizeof(buffer)), quote);
}

void writer_text(FILE *f, const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/";

	if (!text[strspn(text, plain)]) {
		fputs(text, f);
		return;
	}
	fputc('"', f);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', f);
		fputc(*text, f);
	}
	fputc('"', f);
}

void writer_interfaces(FILE *f, char (*const interfaces)[IF_NAMESIZE], size_t n)
{
	fprintf(f, "interfaces: [");
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%s%s", i ? ", " : "", interfaces[i]);
	fprintf(f, "]\n");
}

char *writer_close(FILE *f, char **text)
{
	bool failed = ferror(f);

	if (fclose(f) || failed) {
		free(*text);
		*text = NULL;
	}
	return *text;
}
