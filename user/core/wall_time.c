/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wall_time.c - see wall_time.h.
 */
#include "core/wall_time.h"

#include <errno.h>
#include <stdbool.h>
#include <time.h>

#define SECOND_NS 1000000000LL

const char *wall_time_format(int64_t wall_ns, char *buffer, size_t size)
{
	time_t seconds = wall_ns / SECOND_NS;
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(buffer, size, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buffer + n, size - n, ".%06dZ", (int)(wall_ns % SECOND_NS / 1000));
	return buffer;
}

/* Exactly `digits` of them; moves *text behind them. -1: they aren't there. */
static int number_take(const char **text, unsigned digits)
{
	int number = 0;

	for (; digits; digits--, (*text)++) {
		if (**text < '0' || **text > '9')
			return -1;
		number = number * 10 + **text - '0';
	}
	return number;
}

static bool char_take(const char **text, const char *any)
{
	if (!**text || !strchr(any, **text))
		return false;
	(*text)++;
	return true;
}

static int64_t fraction_take(const char **text)
{
	int64_t ns = 0, unit = SECOND_NS / 10;

	for (; **text >= '0' && **text <= '9'; (*text)++, unit /= 10)
		ns += (**text - '0') * unit;
	return ns;
}

/* "Z" or an offset, in seconds; false: neither. */
static bool offset_take(const char **text, int *seconds)
{
	int sign = **text == '-' ? -1 : 1, hours, minutes;

	*seconds = 0;
	if (char_take(text, "Zz"))
		return true;
	if (!char_take(text, "+-"))
		return false;
	hours = number_take(text, 2);
	if (hours < 0 || hours > 23 || !char_take(text, ":"))
		return false;
	minutes = number_take(text, 2);
	*seconds = sign * (hours * 3600 + minutes * 60);
	return minutes >= 0 && minutes < 60;
}

int wall_time_parse(int64_t *wall_ns, const char *text)
{
	struct tm tm = { 0 }, check;
	int64_t fraction_ns = 0;
	time_t seconds;
	int offset;

	tm.tm_year = number_take(&text, 4) - 1900;
	tm.tm_mon = char_take(&text, "-") ? number_take(&text, 2) - 1 : -1;
	tm.tm_mday = char_take(&text, "-") ? number_take(&text, 2) : -1;
	tm.tm_hour = char_take(&text, "Tt ") ? number_take(&text, 2) : -1;
	tm.tm_min = char_take(&text, ":") ? number_take(&text, 2) : -1;
	tm.tm_sec = char_take(&text, ":") ? number_take(&text, 2) : -1;
	if (tm.tm_year < 70 || tm.tm_year >= 300 || tm.tm_mon < 0 || tm.tm_mday < 1 || tm.tm_hour < 0 ||
	    tm.tm_min < 0 || tm.tm_sec < 0)
		return -EINVAL;
	if (char_take(&text, ".")) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		fraction_ns = fraction_take(&text);
	}
	if (!offset_take(&text, &offset) || *text)
		return -EINVAL;
	check = tm;
	seconds = timegm(&tm); /* it mends what no calendar has: that is refused */
	if (check.tm_mon != tm.tm_mon || check.tm_mday != tm.tm_mday || check.tm_hour != tm.tm_hour ||
	    check.tm_min != tm.tm_min || check.tm_sec != tm.tm_sec)
		return -EINVAL;
	*wall_ns = ((int64_t)seconds - offset) * SECOND_NS + fraction_ns;
	return *wall_ns < 0 ? -EINVAL : 0;
}
