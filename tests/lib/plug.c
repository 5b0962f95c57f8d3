// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * plug.c - pulls plugs and says when. Attaches plug.bpf.c to the switch's ports and to the hosts' interfaces, then
 * obeys lines on standard input and answers each with one line. Whoever starts it decides what is unplugged and why.
 *
 *   plug SWITCH_NETNS PORT... -- [HOST_NETNS:INTERFACE...]
 *
 *   unplug PORT...      "unplugged NS", NS taken just before the store that does it (one for each port)
 *   mute PORT...        only what comes from the host is lost: "muted NS"
 *   deafen PORT...      only what goes to it: "deafened NS"
 *   lose N PORT...      N of 1000 packets to it, by chance: "losing NS"
 *   plug PORT...        "plugged NS"
 *   arm FIRST-LAST...   "armed TRIAL NS": from now on packets from these source ports are watched, no others
 *   read                "seen FIRST_NS:WATCHED:PACKETS ...", one group a host, in order; FIRST_NS 0: none yet
 *
 * A line that is not understood is answered "error WHY". Namespaces are names under /run/netns. Prints "ready" when all
 * is attached; ends, and detaches, at end of input.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "plug.h"
#include "plug.skel.h"

struct attachment {
	char netns[64];
	unsigned ifindex;
};

static struct plug_bpf *ports; /* the programs of the switch; owns the maps */
static struct plug_bpf *stamps[PLUG_MAX_HOSTS];
static struct attachment hooked[PLUG_MAX_PORTS]; /* clsact qdiscs made, to be removed at the end */
static int n_hooked, n_hosts;
static uint64_t *unplugged, *watched, *armed;
static struct seen *seen;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

/* Make a named network namespace the calling thread's. 0 or -errno. */
static int netns_enter(const char *name)
{
	char path[128];
	int fd, err = 0;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (setns(fd, CLONE_NEWNET))
		err = -errno;
	close(fd);
	return err;
}

/* Attach a tc program at `point` of an interface in the current namespace, called `netns`. 0 or -errno. */
static int tc_attach(struct bpf_program *program, const char *netns, unsigned ifindex, enum bpf_tc_attach_point point)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = bpf_program__fd(program));
	int err;

	if (n_hooked == PLUG_MAX_PORTS)
		return -E2BIG;
	err = bpf_tc_hook_create(&hook);
	if (err && err != -EEXIST)
		return err;
	if (!err) {
		snprintf(hooked[n_hooked].netns, sizeof(hooked[0].netns), "%s", netns);
		hooked[n_hooked++].ifindex = ifindex;
	}
	return bpf_tc_attach(&hook, &opts);
}

static void tc_detach_all(void)
{
	for (int i = 0; i < n_hooked; i++) {
		LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)hooked[i].ifindex,
			    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);

		if (!netns_enter(hooked[i].netns))
			bpf_tc_hook_destroy(&hook);
	}
}

/* The memory of an mmap-able array; NULL if it can't be had. */
static void *map_memory(struct bpf_map *map, size_t entry_bytes)
{
	size_t size = ((entry_bytes + 7) & ~7ul) * bpf_map__max_entries(map);
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	return p == MAP_FAILED ? NULL : p;
}

static int ports_load(void)
{
	ports = plug_bpf__open();
	if (!ports)
		return -errno;
	bpf_program__set_autoload(ports->progs.stamp, false);
	return plug_bpf__load(ports);
}

static int port_attach(const char *netns, const char *port)
{
	unsigned ifindex = if_nametoindex(port);

	if (!ifindex)
		return -errno;
	if (ifindex >= PLUG_MAX_PORTS)
		return -ERANGE;
	if (!bpf_program__attach_xdp(ports->progs.port_ingress, (int)ifindex))
		return -errno;
	return tc_attach(ports->progs.port_egress, netns, ifindex, BPF_TC_EGRESS);
}

/* Load a stamp of its own for a host, on the maps of `ports`, and attach it to "NETNS:INTERFACE". */
static int stamp_attach(const char *where)
{
	struct plug_bpf *s;
	char netns[64], interface[IF_NAMESIZE];
	unsigned ifindex;
	int err;

	if (n_hosts == PLUG_MAX_HOSTS)
		return -E2BIG;
	if (sscanf(where, "%63[^:]:%15s", netns, interface) != 2)
		return -EINVAL;
	err = netns_enter(netns);
	if (err)
		return err;
	ifindex = if_nametoindex(interface);
	if (!ifindex)
		return -errno;
	s = plug_bpf__open();
	if (!s)
		return -errno;
	stamps[n_hosts] = s;
	s->rodata->host = (uint32_t)n_hosts++;
	bpf_program__set_autoload(s->progs.port_ingress, false);
	bpf_program__set_autoload(s->progs.port_egress, false);
	err = bpf_map__reuse_fd(s->maps.unplugged, bpf_map__fd(ports->maps.unplugged));
	err = err ? err : bpf_map__reuse_fd(s->maps.watched, bpf_map__fd(ports->maps.watched));
	err = err ? err : bpf_map__reuse_fd(s->maps.armed, bpf_map__fd(ports->maps.armed));
	err = err ? err : bpf_map__reuse_fd(s->maps.seen, bpf_map__fd(ports->maps.seen));
	err = err ? err : plug_bpf__load(s);
	return err ? err : tc_attach(s->progs.stamp, netns, ifindex, BPF_TC_INGRESS);
}

/* Give the ports named this word, one store each with nothing between them. */
static void ports_set(char *names, uint64_t word, const char *done)
{
	unsigned indices[PLUG_MAX_PORTS], n = 0;
	uint64_t at_ns;
	char *name;

	while ((name = strsep(&names, " "))) {
		unsigned ifindex = if_nametoindex(name);

		if (!ifindex || ifindex >= PLUG_MAX_PORTS || n == PLUG_MAX_PORTS) {
			printf("error no port %s\n", name);
			return;
		}
		indices[n++] = ifindex;
	}
	at_ns = now_ns();
	for (unsigned i = 0; i < n; i++)
		*(volatile uint64_t *)&unplugged[indices[i]] = word;
	printf("%s %" PRIu64 "\n", done, at_ns);
}

/* "PERMILLE PORT..." */
static void ports_lose(char *line)
{
	unsigned long permille = strtoul(line, &line, 10);

	if (!permille || permille > 1000 || *line != ' ')
		printf("error not 1 to 1000 and ports\n");
	else
		ports_set(line + 1, PLUG_LOSS(permille), "losing");
}

/* Watch the source ports of "FIRST-LAST FIRST-LAST ..." under a new trial. */
static void watch(char *ranges)
{
	uint64_t trial = *armed + 1;
	unsigned first, last;
	char *range;

	*(volatile uint64_t *)armed = 0;
	for (int i = 0; i < n_hosts; i++)
		seen[i].first_ns = 0;
	while ((range = strsep(&ranges, " "))) {
		if (sscanf(range, "%u-%u", &first, &last) != 2 || first > last || last >= PLUG_SOURCE_PORTS) {
			printf("error not a range of ports: %s\n", range);
			return;
		}
		for (unsigned p = first; p <= last; p++)
			watched[p] = trial;
	}
	__atomic_store_n(armed, trial, __ATOMIC_RELEASE);
	printf("armed %" PRIu64 " %" PRIu64 "\n", trial, now_ns());
}

static void seen_print(void)
{
	printf("seen");
	for (int i = 0; i < n_hosts; i++)
		printf(" %llu:%llu:%llu", *(volatile __u64 *)&seen[i].first_ns, seen[i].watched, seen[i].packets);
	putchar('\n');
}

static void obey(void)
{
	static char line[1 << 20];

	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "unplug ", 7))
			ports_set(line + 7, PLUG_FROM | PLUG_TO, "unplugged");
		else if (!strncmp(line, "mute ", 5))
			ports_set(line + 5, PLUG_FROM, "muted");
		else if (!strncmp(line, "deafen ", 7))
			ports_set(line + 7, PLUG_TO, "deafened");
		else if (!strncmp(line, "lose ", 5))
			ports_lose(line + 5);
		else if (!strncmp(line, "plug ", 5))
			ports_set(line + 5, 0, "plugged");
		else if (!strncmp(line, "arm ", 4))
			watch(line + 4);
		else if (!strcmp(line, "read"))
			seen_print();
		else
			printf("error not understood: %s\n", line);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int err, i;

	if (argc < 3) {
		fprintf(stderr, "usage: plug SWITCH_NETNS PORT... [-- HOST_NETNS:INTERFACE...]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN); /* whoever reads the answers may have gone; the end of input follows */
	libbpf_set_print(quiet);
	err = netns_enter(argv[1]);
	if (err)
		goto out;
	what = "programs";
	err = ports_load();
	if (err)
		goto out;
	for (i = 2; i < argc && strcmp(argv[i], "--"); i++) {
		what = argv[i];
		err = port_attach(argv[1], what);
		if (err)
			goto out;
	}
	for (i++; i < argc; i++) {
		what = argv[i];
		err = stamp_attach(what);
		if (err)
			goto out;
	}
	unplugged = map_memory(ports->maps.unplugged, sizeof(*unplugged));
	watched = map_memory(ports->maps.watched, sizeof(*watched));
	armed = map_memory(ports->maps.armed, sizeof(*armed));
	seen = map_memory(ports->maps.seen, sizeof(*seen));
	what = "maps";
	err = unplugged && watched && armed && seen ? 0 : -ENOMEM;
	if (!err)
		err = netns_enter(argv[1]);
	if (err)
		goto out;
	printf("ready\n");
	fflush(stdout);
	obey();
out:
	if (err)
		fprintf(stderr, "plug: %s: %s\n", what, strerror(-err));
	tc_detach_all();
	for (i = 0; i < n_hosts; i++)
		plug_bpf__destroy(stamps[i]);
	plug_bpf__destroy(ports);
	return err ? 1 : 0;
}
