/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * metrics.h - figures for Prometheus, made from the same objects that `show` answers (answer.h), as OpenMetrics 1.0 or as
 * the older text format 0.0.4. One table says what each metric is called and which key of which object it is.
 *
 * Thousands of backends make megabytes of text: it is made a slice at a time, so that the main loop gets its turn.
 */
#ifndef SHUNTD_METRICS_H
#define SHUNTD_METRICS_H

#include "shuntd/shuntd.h"

struct metrics;

enum metrics_format {
	METRICS_TEXT, /* https://prometheus.io/docs/instrumenting/exposition_formats/, text format 0.0.4 */
	METRICS_OPEN, /* https://github.com/OpenObservability/OpenMetrics, specification/OpenMetrics.md, 1.0 */
	METRICS_FORMATS,
};

struct metrics *metrics_begin(struct shuntd *shuntd); /* NULL: no memory */

/* Go on until it is done (true) or CLOCK_MONOTONIC is past until_ns; at least one step is made. */
bool metrics_run(struct metrics *metrics, uint64_t until_ns);

/* The text once it is done, in pieces one after another that live as long as it does. How many; 0: no memory. */
struct metrics_part {
	const char *data;
	size_t length;
};
#define METRICS_PARTS_MAX 192
size_t metrics_parts(const struct metrics *metrics, enum metrics_format format,
		     struct metrics_part parts[METRICS_PARTS_MAX]);

struct metrics *metrics_share(struct metrics *metrics); /* one more has it, and is to free it */
void metrics_free(struct metrics *metrics); /* NULL is allowed */

#endif
