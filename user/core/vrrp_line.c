/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vrrp_line.c - see vrrp_line.h.
 */
#include "core/vrrp_line.h"

#include <errno.h>
#include <string.h>

/* What is left of the line. */
struct rest {
	const char *at;
	size_t length;
};

static bool take(struct rest *r, const char *word)
{
	size_t n = strlen(word);

	if (r->length < n || memcmp(r->at, word, n) != 0)
		return false;
	r->at += n;
	r->length -= n;
	return true;
}

static bool take_name(struct rest *r, char *name)
{
	size_t n = 0;

	while (n < r->length && n < VRRP_NAME_MAX && r->at[n] > ' ' && r->at[n] < 0x7f && r->at[n] != '"')
		n++;
	if (!n || n == VRRP_NAME_MAX)
		return false;
	memcpy(name, r->at, n);
	name[n] = 0;
	r->at += n;
	r->length -= n;
	return true;
}

static bool take_state(struct rest *r, const char **state)
{
	static const struct {
		const char *word, *state;
	} states[] = {
		{ "MASTER ", "master" },      { "BACKUP ", "backup" },      { "FAULT ", "fault" },
		{ "STOP ", "stop" },          { "DELETED ", "deleted" },    { "MASTER_RX_LOWER_PRI ", NULL },
		{ "MASTER_PRIORITY ", NULL }, { "BACKUP_PRIORITY ", NULL },
	};

	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
		if (!take(r, states[i].word))
			continue;
		*state = states[i].state;
		return true;
	}
	return false;
}

static bool take_priority(struct rest *r, unsigned *priority)
{
	size_t n = 0;

	*priority = 0;
	for (; n < r->length && n < 3 && r->at[n] >= '0' && r->at[n] <= '9'; n++)
		*priority = *priority * 10 + (unsigned)(r->at[n] - '0');
	r->length -= n;
	return n && *priority <= 255;
}

int vrrp_line_parse(struct vrrp_line *out, const char *line, size_t length)
{
	struct rest r = { line, length };

	*out = (struct vrrp_line){ .is_group = take(&r, "GROUP \"") };
	if ((!out->is_group && !take(&r, "INSTANCE \"")) || !take_name(&r, out->name) || !take(&r, "\" ") ||
	    !take_state(&r, &out->state) || !take_priority(&r, &out->priority) || r.length)
		return -EINVAL;
	return 0;
}
