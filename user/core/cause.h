/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cause.h - engine states and causes of heartbeat.h in words, the same in the agent's log, in events and in the CLI.
 */
#ifndef SHUNT_CORE_CAUSE_H
#define SHUNT_CORE_CAUSE_H

#include <stddef.h>
#include <stdint.h>

#include "shunt/heartbeat.h"

const char *engine_name(uint32_t engine); /* enum engine_state; "unknown" if it is none */

/*
 * How an engine ended, such as "a worker was killed by signal 11". ENGINE_CAUSE_PLANNED is not in the words. Writes at most
 * CAUSE_TEXT_MAX bytes, zero included; returns the buffer.
 */
#define CAUSE_TEXT_MAX 64
const char *cause_format(uint32_t cause, char *buffer, size_t size);

#endif
