/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * connections.c - see connections.h.
 */
#include "agent/connections.h"

#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/sockets.h"

#define STATES (1U << TCP_SYN_RECV | 1U << TCP_ESTABLISHED | 1U << TCP_CLOSE_WAIT | 1U << TCP_FIN_WAIT1)

struct count {
	const struct shunt_addr *vips;
	size_t n_vips;
	uint64_t n;
};

static int compare_addresses(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct shunt_addr));
}

static void connection_take(const struct inet_diag_msg *socket, void *arg)
{
	struct shunt_addr local = { .w = { 0, 0, SHUNT_V4_MAPPED, socket->id.idiag_src[0] } };
	struct count *count = arg;

	if (socket->idiag_family == AF_INET6) /* IPv4 through such a socket is IPv4-mapped: as we write it */
		memcpy(&local, socket->id.idiag_src, sizeof(local));
	count->n += bsearch(&local, count->vips, count->n_vips, sizeof(local), compare_addresses) != NULL;
}

int connections_count(uint64_t *n, const struct shunt_addr *vips, size_t n_vips)
{
	struct count count = { .vips = vips, .n_vips = n_vips };
	int err = sockets_dump(STATES, 0, connection_take, &count);

	*n = count.n;
	return err;
}
