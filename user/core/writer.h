/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * writer.h - values as YAML that reader.h reads back as the same values. Streams are open_memstream(): no I/O.
 */
#ifndef SHUNT_CORE_WRITER_H
#define SHUNT_CORE_WRITER_H

#include <stdio.h>

#include "core/config.h"

/* IPv6 in quotes: it may end in ':', which would begin a value. */
void writer_address(FILE *f, const struct shunt_addr *address);

/* Printable ASCII, in double quotes where a plain word would not do. */
void writer_text(FILE *f, const char *text);

/* The line "interfaces: [a, b]". */
void writer_interfaces(FILE *f, char (*const interfaces)[IF_NAMESIZE], size_t n);

/* Close the stream over *text; *text, or NULL (and *text freed) where memory ran out on the way. */
char *writer_close(FILE *f, char **text);

#endif
