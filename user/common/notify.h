/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * notify.h - tell the service manager that started us how we are: the datagrams of sd_notify(3). Without one, nothing happens.
 */
#ifndef COMMON_NOTIFY_H
#define COMMON_NOTIFY_H

#include <stdint.h>

/*
 * Send assignments, a line each, such as "READY=1\nSTATUS=serving" (sd_notify(3), "Well-known assignments"). Never blocks: what the
 * manager doesn't take is lost.
 */
__attribute__((format(printf, 1, 2))) void notify_send(const char *format, ...);

/* How long the manager waits for WATCHDOG=1 before it takes us for hung, ns (sd_watchdog_enabled(3)); 0: for ever. */
uint64_t notify_watchdog_ns(void);

#endif
