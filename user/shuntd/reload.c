/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reload.c - see reload.h.
 */
#include "shuntd/reload.h"

#include <errno.h>
#include <stdio.h>

int shuntd_reload(struct shuntd *s, bool force, json_t **changes, char *why, size_t why_size)
{
	(void)s;
	(void)force;
	(void)changes;
	snprintf(why, why_size, "not yet");
	return -ENOSYS;
}
