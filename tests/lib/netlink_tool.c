/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * netlink_tool.c - a handle on user/shuntd/netlink.c and user/agent/vips.c for tests/net.
 *
 *   netlink_tool resolve [--rcvbuf BYTES] ADDRESS...   one JSON line at once and one at each change, until stdin ends:
 *       {"changes": N, "ways": [{"address","error",("ifindex","dev","on_link","dst_mac","src_mac","mtu","local")}]}
 *   netlink_tool family INTERFACE 4|6                  "yes" or "no"
 *   netlink_tool vips RECORD INTERFACE[,INTERFACE...] VIP...  set up, print "ready"; at a byte settle, print "settled";
 *                                                      undo when stdin ends
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/vips.h"
#include "shuntd/netlink.h"

#define MAX_ADDRESSES 64

struct tool {
	struct netlink *nl;
	struct shunt_addr addresses[MAX_ADDRESSES];
	size_t n_addresses;
	unsigned n_changes;
};

static int parse(struct shunt_addr *out, const char *text)
{
	memset(out, 0, sizeof(*out));
	out->w[2] = SHUNT_V4_MAPPED;
	if (inet_pton(AF_INET, text, &out->w[3]) == 1)
		return 0;
	return inet_pton(AF_INET6, text, out) == 1 ? 0 : -EINVAL;
}

static const char *format(const struct shunt_addr *a, char *buffer)
{
	if (!a->w[0] && !a->w[1] && a->w[2] == SHUNT_V4_MAPPED)
		return inet_ntop(AF_INET, &a->w[3], buffer, INET6_ADDRSTRLEN);
	return inet_ntop(AF_INET6, a, buffer, INET6_ADDRSTRLEN);
}

static void print_mac(const char *key, const uint8_t *mac)
{
	printf(", \"%s\": \"%02x:%02x:%02x:%02x:%02x:%02x\"", key, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static void print_ways(struct tool *tool)
{
	char text[INET6_ADDRSTRLEN], dev[IF_NAMESIZE] = "";

	printf("{\"changes\": %u, \"ways\": [", tool->n_changes);
	for (size_t i = 0; i < tool->n_addresses; i++) {
		struct nexthop nh;
		int err = netlink_resolve(tool->nl, &tool->addresses[i], &nh);

		printf("%s{\"address\": \"%s\", \"error\": \"%s\"", i ? ", " : "", format(&tool->addresses[i], text),
		       err ? strerrorname_np(-err) : "");
		if (!err) {
			printf(", \"ifindex\": %u, \"dev\": \"%s\", \"on_link\": %s, \"mtu\": %u, \"local\": \"%s\"",
			       nh.ifindex, if_indextoname(nh.ifindex, dev) ? dev : "", nh.on_link ? "true" : "false",
			       nh.mtu_bytes, format(&nh.local, text));
			print_mac("dst_mac", nh.dst_mac);
			print_mac("src_mac", nh.src_mac);
		}
		printf("}");
	}
	printf("]}\n");
	fflush(stdout);
}

static void on_change(void *arg)
{
	struct tool *tool = arg;

	tool->n_changes++;
	print_ways(tool);
}

static int resolve(struct tool *tool, int rcvbuf_bytes)
{
	int err = netlink_open(&tool->nl, on_change, tool);

	if (err) {
		fprintf(stderr, "netlink_open: %s\n", strerror(-err));
		return 1;
	}
	if (rcvbuf_bytes)
		setsockopt(netlink_fd(tool->nl), SOL_SOCKET, SO_RCVBUF, &rcvbuf_bytes, sizeof(rcvbuf_bytes));
	print_ways(tool);
	for (;;) {
		struct pollfd fds[] = { { .fd = STDIN_FILENO, .events = POLLIN },
					{ .fd = netlink_fd(tool->nl), .events = POLLIN } };

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[0].revents)
			break;
		if (fds[1].revents)
			err = netlink_read(tool->nl);
		if (err) {
			fprintf(stderr, "netlink_read: %s\n", strerror(-err));
			break;
		}
	}
	netlink_close(tool->nl);
	return err ? 1 : 0;
}

static int family(struct tool *tool, const char *ifname, const char *which)
{
	int err = netlink_open(&tool->nl, on_change, tool);

	if (err)
		return 1;
	puts(netlink_has_family(tool->nl, ifname, *which == '4' ? AF_INET : AF_INET6) ? "yes" : "no");
	netlink_close(tool->nl);
	return 0;
}

static int vips(const struct tool *tool, const char *record, const char *list)
{
	char interfaces[8][IF_NAMESIZE];
	struct vips_undo *undo;
	char byte;
	size_t n = 0;
	int err;

	for (; n < 8 && *list; n++) {
		size_t length = strcspn(list, ",");

		snprintf(interfaces[n], IF_NAMESIZE, "%.*s", (int)length, list);
		list += length + (list[length] == ',');
	}
	err = vips_setup(tool->addresses, tool->n_addresses, interfaces, n, record, &undo);
	if (err) {
		printf("%s\n", strerrorname_np(-err));
		return 1;
	}
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0) {
		vips_settle(undo);
		puts("settled");
		fflush(stdout);
	}
	vips_undo(undo);
	return 0;
}

int main(int argc, char **argv)
{
	struct tool tool = { 0 };
	int rcvbuf_bytes = 0, i = 2;

	if (argc == 4 && !strcmp(argv[1], "family"))
		return family(&tool, argv[2], argv[3]);
	if (argc > 4 && !strcmp(argv[1], "resolve") && !strcmp(argv[2], "--rcvbuf")) {
		rcvbuf_bytes = (int)strtol(argv[3], NULL, 10);
		i = 4;
	} else if (argc > 4 && !strcmp(argv[1], "vips")) {
		i = 4;
	}
	for (; i < argc && tool.n_addresses < MAX_ADDRESSES; i++) {
		if (parse(&tool.addresses[tool.n_addresses++], argv[i])) {
			fprintf(stderr, "%s: not an address\n", argv[i]);
			return 2;
		}
	}
	if (argc > 2 && !strcmp(argv[1], "resolve"))
		return resolve(&tool, rcvbuf_bytes);
	if (argc > 4 && !strcmp(argv[1], "vips"))
		return vips(&tool, argv[2], argv[3]);
	fprintf(stderr, "usage: netlink_tool resolve [--rcvbuf BYTES] ADDRESS... | family INTERFACE 4|6 | vips "
			"RECORD INTERFACES VIP...\n");
	return 2;
}
