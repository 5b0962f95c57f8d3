/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * check.h - `check:` of a pool or a backend as text and back: which keys each type has, their limits and defaults.
 */
#ifndef SHUNT_CORE_CHECK_H
#define SHUNT_CORE_CHECK_H

#include <stdio.h>

#include "core/config.h"
#include "core/document.h"

/* A reader_key's reader: `into` is a struct config_check. */
int check_read(const struct node *node, void *into, struct config_error *error);

/* "heartbeat", "{type: tcp, port: 8000, ...}": every key of its type; check_read() makes an equal check of it. */
void check_format(FILE *f, const struct config_check *check);

const char *check_name(enum config_check_type type); /* "tcp" */
bool check_equal(const struct config_check *a, const struct config_check *b);

#endif
