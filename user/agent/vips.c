/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vips.c - VIPs on the loopback by rtnetlink, and the interfaces' settings by /proc/sys, each step remembered in the
 * order it was made and taken back in reverse.
 */
#include "agent/vips.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct setting {
	char path[64 + IF_NAMESIZE];
	int before, after;
};

struct vips_undo {
	struct mnl_socket *socket;
	uint32_t sequence;
	struct shunt_addr *addresses; /* those that we added */
	size_t n_addresses;
	struct setting *settings; /* those that we changed */
	size_t n_settings;
};

/* Settings an interface gets: the value, and when. */
static const struct {
	const char *name;
	int value;
	bool only_if_one; /* only where 1 is in force; else wherever the interface's own is lower */
} wanted[] = {
	{ "arp_ignore", 1, false },
	{ "arp_announce", 2, false },
	{ "rp_filter", 2, true },
};
#define N_WANTED (sizeof(wanted) / sizeof(wanted[0]))

/* ---- settings ---- */

/* The number in a file of /proc/sys, or -errno. */
static int setting_read(const char *path)
{
	char text[16];
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return n ? -EIO : -ENODATA;
	text[n] = '\0';
	return (int)strtol(text, NULL, 10);
}

static int setting_write(const char *path, int value)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", value);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, (size_t)n) != n)
		err = errno ? -errno : -EIO;
	close(fd);
	return err;
}

/* One of `wanted` on one interface. The kernel goes by the larger of the interface's own value and that of "all". */
static int setting_apply(struct vips_undo *undo, const char *interface, size_t which)
{
	struct setting *s = &undo->settings[undo->n_settings];
	char all_path[sizeof(s->path)];
	int own, all, err;

	snprintf(s->path, sizeof(s->path), "/proc/sys/net/ipv4/conf/%s/%s", interface, wanted[which].name);
	snprintf(all_path, sizeof(all_path), "/proc/sys/net/ipv4/conf/all/%s", wanted[which].name);
	own = setting_read(s->path);
	all = setting_read(all_path);
	err = own < 0 ? own : all < 0 ? all : 0;
	if (err)
		goto out;
	if (wanted[which].only_if_one ? (own > all ? own : all) != 1 : own >= wanted[which].value)
		return 0;
	s->before = own;
	s->after = wanted[which].value;
	err = setting_write(s->path, s->after);
	if (!err)
		undo->n_settings++;
out:
	if (err)
		fprintf(stderr, "interface %s: %s cannot be set to %d (%s)\n", interface, wanted[which].name,
			wanted[which].value, strerror(-err));
	return err;
}

/* ---- addresses ---- */

/* Add or remove an address of lo. 0 or -errno, the kernel's own included. */
static int address_request(struct vips_undo *undo, uint16_t type, uint16_t flags, const struct shunt_addr *a)
{
	bool is_v4 = !a->w[0] && !a->w[1] && a->w[2] == SHUNT_V4_MAPPED;
	uint64_t buffer[64] = { 0 };
	struct ifaddrmsg *ifa;
	struct nlmsghdr *nlh;
	ssize_t n;

	nlh = mnl_nlmsg_put_header(buffer);
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	nlh->nlmsg_seq = ++undo->sequence;
	ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_family = is_v4 ? AF_INET : AF_INET6;
	ifa->ifa_prefixlen = is_v4 ? 32 : 128;
	ifa->ifa_index = if_nametoindex("lo");
	if (is_v4) {
		ifa->ifa_scope = RT_SCOPE_HOST; /* never the source of a connection that doesn't ask for it */
		mnl_attr_put(nlh, IFA_LOCAL, 4, &a->w[3]);
		mnl_attr_put(nlh, IFA_ADDRESS, 4, &a->w[3]);
	} else {
		ifa->ifa_flags = IFA_F_NODAD; /* every backend has it: a duplicate by design */
		mnl_attr_put(nlh, IFA_LOCAL, 16, a);
	}
	if (mnl_socket_sendto(undo->socket, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	n = mnl_socket_recvfrom(undo->socket, buffer, sizeof(buffer));
	if (n >= 0)
		n = mnl_cb_run(buffer, (size_t)n, undo->sequence, mnl_socket_get_portid(undo->socket), NULL, NULL);
	return n < 0 ? -errno : 0;
}

static int address_add(struct vips_undo *undo, const struct shunt_addr *a)
{
	int err = address_request(undo, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, a);
	char text[INET6_ADDRSTRLEN];

	if (err == -EEXIST)
		return 0;
	if (!err)
		undo->addresses[undo->n_addresses++] = *a;
	else
		fprintf(stderr, "vip %s: cannot be put on lo (%s)\n",
			a->w[2] == SHUNT_V4_MAPPED && !a->w[0] && !a->w[1]
				? inet_ntop(AF_INET, &a->w[3], text, sizeof(text))
				: inet_ntop(AF_INET6, a, text, sizeof(text)),
			strerror(-err));
	return err;
}

/* ---- the interface ---- */

int vips_setup(const struct shunt_addr *vips, size_t n, const char (*interfaces)[IF_NAMESIZE], size_t n_interfaces,
	       struct vips_undo **out)
{
	struct vips_undo *undo = calloc(1, sizeof(*undo));
	int err = 0;

	*out = NULL;
	if (!undo)
		return -ENOMEM;
	undo->addresses = calloc(n + 1, sizeof(*undo->addresses));
	undo->settings = calloc(n_interfaces * N_WANTED + 1, sizeof(*undo->settings));
	if (!undo->addresses || !undo->settings) {
		err = -ENOMEM;
		goto out;
	}
	undo->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!undo->socket || mnl_socket_bind(undo->socket, 0, MNL_SOCKET_AUTOPID) < 0) {
		err = -errno;
		goto out;
	}
	/* First the silence, then the addresses: they are never announced. */
	for (size_t i = 0; i < n_interfaces * N_WANTED && !err; i++)
		err = setting_apply(undo, interfaces[i / N_WANTED], i % N_WANTED);
	for (size_t i = 0; i < n && !err; i++)
		err = address_add(undo, &vips[i]);
out:
	if (err)
		vips_undo(undo);
	else
		*out = undo;
	return err;
}

void vips_undo(struct vips_undo *undo)
{
	if (!undo)
		return;
	while (undo->n_addresses)
		address_request(undo, RTM_DELADDR, 0, &undo->addresses[--undo->n_addresses]);
	while (undo->n_settings) {
		const struct setting *s = &undo->settings[--undo->n_settings];

		if (setting_read(s->path) == s->after)
			setting_write(s->path, s->before);
	}
	if (undo->socket)
		mnl_socket_close(undo->socket);
	free(undo->addresses);
	free(undo->settings);
	free(undo);
}
