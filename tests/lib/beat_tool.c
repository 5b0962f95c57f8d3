/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * beat_tool.c - the smallest engine that beats: SOCKET N beats N times on the memory behind the agent's socket.
 */
#include "shunt/beat.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	uint64_t *beat = argc == 3 ? shunt_beat_attach(argv[1]) : NULL;

	if (!beat) {
		perror(argc == 3 ? argv[1] : "usage: beat_tool SOCKET N");
		return 1;
	}
	for (long n = strtol(argv[2], NULL, 10); n > 0; n--)
		shunt_beat(beat);
	return 0;
}
