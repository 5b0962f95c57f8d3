/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * duration.c - durations as text and back. A number without a unit is refused: nobody should have to know which unit
 * was meant.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/config.h"

/* From the largest to the smallest. */
static const struct {
	const char *name;
	uint64_t ns;
} units[] = {
	{ "h", 3600000000000 }, { "m", 60000000000 }, { "s", 1000000000 },
	{ "ms", 1000000 },      { "us", 1000 },       { "ns", 1 },
};

#define N_UNITS (sizeof(units) / sizeof(units[0]))

int duration_parse(uint64_t *ns, const char *text)
{
	uint64_t number = 0, product;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
			return -EINVAL;
	if (p == text)
		return -EINVAL;
	for (size_t i = 0; i < N_UNITS; i++) {
		if (strcmp(p, units[i].name))
			continue;
		if (__builtin_mul_overflow(number, units[i].ns, &product))
			return -EINVAL;
		*ns = product;
		return 0;
	}
	return -EINVAL;
}

const char *duration_format(uint64_t ns, char *buffer, size_t size)
{
	size_t i = 0;

	while (ns % units[i].ns)
		i++;
	if (ns == 0)
		i = 2; /* "0s" */
	snprintf(buffer, size, "%llu%s", (unsigned long long)(ns / units[i].ns), units[i].name);
	return buffer;
}
