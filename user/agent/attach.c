/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * attach.c - see attach.h.
 */
#include "agent/attach.h"

#include <errno.h>
#include <linux/if_link.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#define RETRY_NS 1000000000ULL /* chosen */

struct place {
	const char *name;
	unsigned ifindex;
	int link; /* -1: our program isn't there, because of `why` */
	bool found; /* the link was pinned by an earlier run, and still has that one's program */
	char why[256];
};

struct attach {
	int program_fd;
	struct pins *pins;
	uint64_t retry_ns; /* CLOCK_MONOTONIC */
	size_t n;
	struct place places[];
};

static const char *pin_name(const struct place *p, char name[PIN_NAME_MAX])
{
	snprintf(name, PIN_NAME_MAX, "xdp-%u", p->ifindex);
	return name;
}

/* Who is there, since we can't be: `p->why`. The program's name is for those with CAP_SYS_ADMIN, which an agent has no use for. */
static void occupant_tell(struct place *p)
{
	__u32 id = 0;

	if (bpf_xdp_query_id((int)p->ifindex, 0, &id))
		id = 0;
	snprintf(p->why, sizeof(p->why),
		 "XDP program %u is already attached there and shunt-agent does not replace it: somebody else's "
		 "(bpftool prog"
		 " show id %u), or of an agent that runs, or that was killed when 'pin' named another directory",
		 id, id);
}

/* 0, or -1 and `p->why`. */
static int place_attach(struct place *p, int program_fd)
{
	static const __u32 modes[] = { XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE };
	int link = -EINVAL;

	p->ifindex = if_nametoindex(p->name);
	if (!p->ifindex) {
		snprintf(p->why, sizeof(p->why), "no such interface");
		return -1;
	}
	for (size_t i = 0; i < 2 && link < 0 && link != -EBUSY && link != -EEXIST; i++) {
		LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = modes[i]);

		link = bpf_link_create(program_fd, (int)p->ifindex, BPF_XDP, &opts);
	}
	if (link == -EBUSY || link == -EEXIST)
		occupant_tell(p);
	else if (link < 0)
		snprintf(p->why, sizeof(p->why), "%s", strerror(-link));
	if (link < 0)
		return -1;
	p->link = link;
	*p->why = 0;
	return 0;
}

/* The link of an earlier run, if it is pinned and still in force here, and not in another network namespace. */
static void place_find(struct place *p, const struct pins *pins)
{
	char name[PIN_NAME_MAX];
	__u32 linked = 0, here = 0;
	int link;

	p->ifindex = if_nametoindex(p->name);
	link = p->ifindex ? pins_get(pins, pin_name(p, name)) : -1;
	if (link < 0)
		return;
	if (pins_link_ifindex(link, &linked) == p->ifindex && !bpf_xdp_query_id((int)p->ifindex, 0, &here) &&
	    linked == here) {
		p->link = link;
		p->found = true;
	} else {
		close(link);
	}
}

static int complain(const struct place *p)
{
	fprintf(stderr, "shunt-agent: interface %s: %s\n", p->name, p->why);
	return 1;
}

int attach_open(struct attach **out, int program_fd, const char (*interfaces)[IF_NAMESIZE], size_t n, struct pins *pins)
{
	struct attach *a = calloc(1, sizeof(*a) + n * sizeof(a->places[0]));

	*out = a;
	if (!a) {
		fprintf(stderr, "shunt-agent: no memory\n");
		return 1;
	}
	a->program_fd = program_fd;
	a->pins = pins;
	for (a->n = 0; a->n < n; a->n++) {
		struct place *p = &a->places[a->n];

		*p = (struct place){ .name = interfaces[a->n], .link = -1 };
		place_find(p, pins);
		if (p->link < 0 && place_attach(p, program_fd))
			return complain(p);
	}
	return 0;
}

int attach_take_over(struct attach *a)
{
	char name[PIN_NAME_MAX];

	for (size_t i = 0; i < a->n; i++) {
		struct place *p = &a->places[i];

		if (p->found && !bpf_link_update(p->link, a->program_fd, NULL)) {
			p->found = false;
			pins_own(a->pins, pin_name(p, name));
			continue;
		}
		if (p->found) { /* somebody detached it meanwhile */
			close(p->link);
			p->link = -1;
			p->found = false;
			if (place_attach(p, a->program_fd))
				return complain(p);
		}
		pins_put(a->pins, pin_name(p, name), p->link);
	}
	return 0;
}

static void place_lose(struct place *p, struct pins *pins)
{
	char name[PIN_NAME_MAX];

	pins_remove(pins, pin_name(p, name));
	close(p->link);
	p->link = -1;
	snprintf(p->why, sizeof(p->why), "%s",
		 if_nametoindex(p->name) == p->ifindex ? "somebody detached the XDP program" : "the interface is gone");
	complain(p);
}

void attach_run(struct attach *a, uint64_t now_ns)
{
	bool retry = now_ns >= a->retry_ns;
	char name[PIN_NAME_MAX], why[sizeof(a->places[0].why)];
	__u32 program;

	for (size_t i = 0; i < a->n; i++) {
		struct place *p = &a->places[i];

		if (p->link >= 0 && !pins_link_ifindex(p->link, &program))
			place_lose(p, a->pins);
		else if (p->link >= 0 || !retry)
			continue;
		memcpy(why, p->why, sizeof(why));
		if (!place_attach(p, a->program_fd)) {
			pins_put(a->pins, pin_name(p, name), p->link);
			fprintf(stderr, "shunt-agent: interface %s: attached again\n", p->name);
		} else if (strcmp(why, p->why)) {
			complain(p);
		}
	}
	if (retry)
		a->retry_ns = now_ns + RETRY_NS;
}

void attach_describe(const struct attach *a, FILE *f)
{
	for (size_t i = 0; i < a->n; i++)
		fprintf(f, "interface %s: %s%s\n", a->places[i].name,
			a->places[i].link < 0 ? "not attached: " : "attached", a->places[i].why);
}

void attach_close(struct attach *a)
{
	char name[PIN_NAME_MAX];

	for (size_t i = 0; a && i < a->n; i++) {
		struct place *p = &a->places[i];

		if (p->link < 0)
			continue;
		pins_remove(a->pins, pin_name(p, name));
		close(p->link);
	}
	free(a);
}
