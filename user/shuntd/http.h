/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * http.h - what can be seen of shuntd over HTTP, read-only: metrics, the objects as JSON, whether it is well, and a page.
 * Off unless the configuration has `http`.
 *
 *   /                    the page (page.html)
 *   /metrics             metrics.h
 *   /healthz             200, or 503 and why the balancer is ill
 *   /api/v1/OBJECTS      what `shunt -j OBJECT show` prints; ?KEY=VALUE: arguments of the command
 *
 * On the main loop, which it must not keep: few connections, none for long, small requests; what takes long to make is kept
 * for a while, and metrics are made in slices.
 */
#ifndef SHUNTD_HTTP_H
#define SHUNTD_HTTP_H

#include "shuntd/shuntd.h"

#define HTTP_CLIENTS_MAX 64 /* connections at a time, chosen */
#define HTTP_CLIENTS_SPARE 8 /* kept free: one more takes the place of the one that was silent longest */
#define HTTP_CLIENTS_PER_ADDRESS \
	32 /* of one client's address, chosen: two browsers and some scrapers behind one proxy */
#define HTTP_PATIENCE_NS \
	10000000000ULL /* to send a request, and to take its answer; as Prometheus' own scrape_timeout */
#define HTTP_REQUEST_MAX 16384 /* bytes of memory that MHD may use for a connection: line and headers of a request */

struct http;

/* Listen where the configuration says and join the main loop; *out is NULL where it says nothing. 0 or -errno. */
int http_open(struct http **out, struct shuntd *shuntd);
void http_close(struct http *http); /* NULL is allowed */

#endif
