// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cause.c - see cause.h.
 */
#include "core/cause.h"

#include <stdio.h>

const char *engine_name(uint32_t engine)
{
	static const char *const names[] = {
		[ENGINE_UNKNOWN] = "unknown",   [ENGINE_LOADING] = "loading", [ENGINE_SERVING] = "serving",
		[ENGINE_DRAINING] = "draining", [ENGINE_STALLED] = "stalled", [ENGINE_DEAD] = "dead",
	};

	return engine < sizeof(names) / sizeof(*names) ? names[engine] : "unknown";
}

const char *cause_format(uint32_t cause, char *buffer, size_t size)
{
	const char *who = cause & ENGINE_CAUSE_WORKER ? "a worker " : "";
	unsigned detail = ENGINE_CAUSE_DETAIL(cause);

	switch (ENGINE_CAUSE_END(cause)) {
	case ENGINE_EXITED:
		snprintf(buffer, size, "%sexited with status %u", who, detail);
		break;
	case ENGINE_KILLED:
		snprintf(buffer, size, "%s%skilled by signal %u", who, *who ? "was " : "", detail);
		break;
	case ENGINE_OOM_VICTIM:
		snprintf(buffer, size, "%s%skilled for want of memory", who, *who ? "was " : "");
		break;
	case ENGINE_NOT_LISTENING:
		snprintf(buffer, size, "its listening socket is gone");
		break;
	case ENGINE_VANISHED:
		snprintf(buffer, size, "its process is gone");
		break;
	default:
		snprintf(buffer, size, "for an unknown cause");
	}
	return buffer;
}
