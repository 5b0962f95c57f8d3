/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * connections.c - see connections.h.
 */
#include "agent/connections.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#define DUMP_BYTES 32768 /* the most that the kernel puts into one message of a dump: netlink_dump() */
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

/* mnl_cb_t: one socket. */
static int socket_take(const struct nlmsghdr *message, void *arg)
{
	const struct inet_diag_msg *diag = mnl_nlmsg_get_payload(message);
	struct shunt_addr local = { .w = { 0, 0, SHUNT_V4_MAPPED, diag->id.idiag_src[0] } };
	struct count *count = arg;

	if (message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(*diag))
		return MNL_CB_OK;
	if (diag->idiag_family == AF_INET6) /* IPv4 through such a socket is IPv4-mapped: as we write it */
		memcpy(&local, diag->id.idiag_src, sizeof(local));
	count->n += bsearch(&local, count->vips, count->n_vips, sizeof(local), compare_addresses) != NULL;
	return MNL_CB_OK;
}

static int family_count(struct mnl_socket *nl, uint8_t family, struct count *count)
{
	_Alignas(struct nlmsghdr) char buffer[DUMP_BYTES];
	struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
	struct inet_diag_req_v2 *request = mnl_nlmsg_put_extra_header(message, sizeof(*request));
	ssize_t n;
	int more;

	message->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	message->nlmsg_seq = family;
	request->sdiag_family = family;
	request->sdiag_protocol = IPPROTO_TCP;
	request->idiag_states = STATES;
	if (mnl_socket_sendto(nl, message, message->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(nl, buffer, sizeof(buffer));
		if (n < 0)
			return -errno;
		more = mnl_cb_run(buffer, (size_t)n, family, mnl_socket_get_portid(nl), socket_take, count);
	} while (more > 0);
	return more < 0 ? -errno : 0;
}

int connections_count(uint64_t *n, const struct shunt_addr *vips, size_t n_vips)
{
	struct count count = { .vips = vips, .n_vips = n_vips };
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	int err;

	if (!nl)
		return -errno;
	err = mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) ? -errno : 0;
	if (!err)
		err = family_count(nl, AF_INET, &count);
	if (!err)
		err = family_count(nl, AF_INET6, &count);
	mnl_socket_close(nl);
	*n = count.n;
	return err;
}
