/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * service.h - shuntd as a service: tells the service manager that it is ready, that it reloads, how many backends are up, and
 * that it moves. What doesn't move is killed and started again. Nothing happens where no manager asked for it.
 */
#ifndef SHUNTD_SERVICE_H
#define SHUNTD_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

struct shuntd;

/* What its process is called from then on, so that who tracks it isn't deceived by starts that fail; 15 bytes at most. */
#define SERVICE_READY_NAME "shuntd-ready"

struct service {
	uint64_t watchdog_ns; /* the manager's patience; 0: it has no end */
	uint64_t tell_ns, alive_ns; /* CLOCK_MONOTONIC: when the status and when a sign of life are due */
	uint64_t round, moved_ns; /* the prober's newest that was seen, and when */
	unsigned n_backends, n_up; /* as last told */
	bool reloads; /* told so */
};

void service_ready(struct shuntd *shuntd); /* packets are served, sockets answer */
void service_reloading(struct shuntd *shuntd); /* before a reload that the manager may have asked for */
void service_run(struct shuntd *shuntd); /* every BACKENDS_PERIOD_NS, from the main loop */
void service_stopping(void);

#endif
