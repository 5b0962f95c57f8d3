/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sockets.c - see sockets.h.
 */
#include "agent/sockets.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>

#define DUMP_BYTES 32768 /* the most that the kernel puts into one message of a dump: netlink_dump() */

struct dump {
	uint16_t port;
	socket_take_t take;
	void *arg;
};

/* mnl_cb_t: one socket. */
static int message_take(const struct nlmsghdr *message, void *arg)
{
	const struct inet_diag_msg *socket = mnl_nlmsg_get_payload(message);
	const struct dump *d = arg;

	if (message->nlmsg_len >= MNL_NLMSG_HDRLEN + sizeof(*socket) &&
	    (!d->port || ntohs(socket->id.idiag_sport) == d->port))
		d->take(socket, d->arg);
	return MNL_CB_OK;
}

static int family_dump(struct mnl_socket *nl, uint8_t family, uint32_t states, struct dump *d)
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
	request->idiag_states = states;
	request->id.idiag_sport = htons(d->port); /* the kernel sends no others */
	if (mnl_socket_sendto(nl, message, message->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(nl, buffer, sizeof(buffer));
		if (n < 0)
			return -errno;
		more = mnl_cb_run(buffer, (size_t)n, family, mnl_socket_get_portid(nl), message_take, d);
	} while (more > 0);
	return more < 0 ? -errno : 0;
}

int sockets_dump(uint32_t states, uint16_t port, socket_take_t take, void *arg)
{
	struct dump d = { .port = port, .take = take, .arg = arg };
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	int err;

	if (!nl)
		return -errno;
	err = mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) ? -errno : 0;
	if (!err)
		err = family_dump(nl, AF_INET, states, &d);
	if (!err)
		err = family_dump(nl, AF_INET6, states, &d);
	mnl_socket_close(nl);
	return err;
}
