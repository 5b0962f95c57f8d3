/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * banned.h - functions whose misuse is easier than their use do not compile. Included before every user-space file.
 */
#ifndef SHUNT_BANNED_H
#define SHUNT_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf gets strtok atoi atol atoll

#endif
