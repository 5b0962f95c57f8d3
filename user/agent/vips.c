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

#include "common/file.h"

#define RECORD_BYTES_MAX 65536
#define SETTINGS_ROOT "/proc/sys/net/ipv4/conf/"

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
	size_t n_addresses_before, n_settings_before; /* of them an earlier run's, until vips_settle() */
	const char *record; /* the file that says so */
	const struct shunt_addr *vips;
	size_t n_vips;
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

	snprintf(s->path, sizeof(s->path), SETTINGS_ROOT "%s/%s", interface, wanted[which].name);
	snprintf(all_path, sizeof(all_path), SETTINGS_ROOT "all/%s", wanted[which].name);
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

static const char *address_text(const struct shunt_addr *a, char text[INET6_ADDRSTRLEN])
{
	bool is_v4 = a->w[2] == SHUNT_V4_MAPPED && !a->w[0] && !a->w[1];

	return is_v4 ? inet_ntop(AF_INET, &a->w[3], text, INET6_ADDRSTRLEN)
		     : inet_ntop(AF_INET6, a, text, INET6_ADDRSTRLEN);
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
		fprintf(stderr, "vip %s: cannot be put on lo (%s)\n", address_text(a, text), strerror(-err));
	return err;
}

/* Those that an earlier run put there and that aren't VIPs any more. */
static void addresses_drop(struct vips_undo *undo)
{
	size_t n_kept = 0;

	for (size_t i = 0; i < undo->n_addresses; i++) {
		bool kept = false;

		for (size_t k = 0; k < undo->n_vips && !kept; k++)
			kept = !memcmp(&undo->addresses[i], &undo->vips[k], sizeof(*undo->vips));
		if (kept)
			undo->addresses[n_kept++] = undo->addresses[i];
		else
			address_request(undo, RTM_DELADDR, 0, &undo->addresses[i]);
	}
	undo->n_addresses = n_kept;
}

/* ---- the record ---- */

/* A line each: "address ADDRESS", "setting PATH BEFORE AFTER". */
static void record_write(const struct vips_undo *undo)
{
	char text[INET6_ADDRSTRLEN], *bytes = NULL;
	size_t size;
	FILE *f = open_memstream(&bytes, &size);
	int err = f ? 0 : -ENOMEM;

	for (size_t i = 0; f && i < undo->n_addresses; i++)
		fprintf(f, "address %s\n", address_text(&undo->addresses[i], text));
	for (size_t i = 0; f && i < undo->n_settings; i++)
		fprintf(f, "setting %s %d %d\n", undo->settings[i].path, undo->settings[i].before,
			undo->settings[i].after);
	if (f && !fclose(f))
		err = file_replace(undo->record, bytes, size, 0600, false);
	if (err)
		fprintf(stderr, "%s: cannot be written (%s): what is set up now stays if the agent is killed\n",
			undo->record, strerror(-err));
	free(bytes);
}

/* What an earlier run left, with room for so many more. 0 or -ENOMEM; a record that makes no sense says nothing. */
static int record_read(struct vips_undo *undo, size_t n_addresses, size_t n_settings)
{
	size_t length, n = 0;
	int err, end;
	char *text = file_read(undo->record, RECORD_BYTES_MAX, &length, &err), *line, *rest = text;

	for (const char *c = text; c && *c; c++)
		n += *c == '\n';
	undo->addresses = calloc(n_addresses + n + 1, sizeof(*undo->addresses));
	undo->settings = calloc(n_settings + n + 1, sizeof(*undo->settings));
	while (undo->addresses && undo->settings && n && (line = strsep(&rest, "\n"))) {
		struct shunt_addr *a = &undo->addresses[undo->n_addresses];
		struct setting *s = &undo->settings[undo->n_settings];
		char word[INET6_ADDRSTRLEN];

		n--;
		if (sscanf(line, "address %45s%n", word, &end) == 1 && !line[end]) {
			*a = (struct shunt_addr){ .w = { 0, 0, SHUNT_V4_MAPPED, 0 } };
			undo->n_addresses +=
				inet_pton(AF_INET, word, &a->w[3]) == 1 || inet_pton(AF_INET6, word, a) == 1;
		} else if (sscanf(line, "setting %79s %d %d", s->path, &s->before, &s->after) == 3) {
			undo->n_settings +=
				!strncmp(s->path, SETTINGS_ROOT, strlen(SETTINGS_ROOT)) && !strstr(s->path, "..");
		}
	}
	free(text);
	undo->n_addresses_before = undo->n_addresses;
	undo->n_settings_before = undo->n_settings;
	return undo->addresses && undo->settings ? 0 : -ENOMEM;
}

/* ---- the interface ---- */

int vips_setup(const struct shunt_addr *vips, size_t n, const char (*interfaces)[IF_NAMESIZE], size_t n_interfaces,
	       const char *record, struct vips_undo **out)
{
	struct vips_undo *undo = calloc(1, sizeof(*undo));
	int err;

	*out = NULL;
	if (!undo)
		return -ENOMEM;
	undo->record = record;
	undo->vips = vips;
	undo->n_vips = n;
	err = record_read(undo, n, n_interfaces * N_WANTED);
	if (err)
		goto out;
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
	if (!err)
		record_write(undo);
out:
	if (err)
		vips_undo(undo);
	else
		*out = undo;
	return err;
}

void vips_settle(struct vips_undo *undo)
{
	if (!undo)
		return;
	undo->n_addresses_before = 0;
	undo->n_settings_before = 0;
	addresses_drop(undo);
	record_write(undo);
}

void vips_undo(struct vips_undo *undo)
{
	if (!undo)
		return;
	while (undo->socket && undo->n_addresses > undo->n_addresses_before)
		address_request(undo, RTM_DELADDR, 0, &undo->addresses[--undo->n_addresses]);
	while (undo->n_settings > undo->n_settings_before) {
		const struct setting *s = &undo->settings[--undo->n_settings];

		if (setting_read(s->path) == s->after)
			setting_write(s->path, s->before);
	}
	if (undo->n_addresses || undo->n_settings)
		record_write(undo);
	else
		unlink(undo->record);
	if (undo->socket)
		mnl_socket_close(undo->socket);
	free(undo->addresses);
	free(undo->settings);
	free(undo);
}
