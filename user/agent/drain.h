/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * drain.h - shunt-agent drain, undrain, status: what is asked of an agent that runs.
 */
#ifndef AGENT_DRAIN_H
#define AGENT_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

struct drain_options {
	const char *socket; /* path */
	bool wait; /* drain: until the last connection is gone */
	uint64_t deadline_ns; /* wait no longer than this; 0: for ever */
};

/* Do `verb`, say how it stands. Returns the exit status: 0 done, 1 failed or the deadline came first, 2 no such verb. */
int drain_command(const char *verb, const struct drain_options *options);

#endif
