// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bench_datapath.c - nanoseconds a packet, beside a program that only forwards (floor) and one that does nothing
 * (empty). Test runs of the walk inside walk_bench.bpf.c, pinned to one CPU; what is compared runs in turns, so that a
 * neighbour's load falls on all of it. Usage: bench_datapath FILE.json
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <jansson.h>
#include <linux/ip.h> /* the skeleton names its types */
#include <linux/ipv6.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.skel.h"
#include "core/table.h"
#include "core/vip_index.h"
#include "shunt/agent.h"
#include "shunt/hash.h"
#include "shunt/heartbeat.h"
#include "shunt/reasons.h"
#include "walk_bench.skel.h"

#define REPEATS 1000000
#define RUNS 11
#define BACKENDS 100
#define SLOTS SHUNT_DEFAULT_SLOTS
#define SEED 0x5eed0123456789abULL
#define VIP_PORT 443
#define FLOWS_MAX 8388608
#define DATA_BYTES 26 /* behind the TCP header: a frame of 80 bytes for IPv4 */
#define VIP_V4 0xcb00710aU
#define CLIENT 0x0b000000U /* the flow's number is added to it */

enum mode { MODE_IPIP, MODE_L2, N_MODES };
static const char *const mode_names[] = { "ipip", "l2" };
static const uint32_t flow_counts[] = { 1, 65536, 1048576, FLOWS_MAX };
#define N_FLOWS 4

enum program {
	PROGRAM_EMPTY,
	PROGRAM_FLOOR,
	PROGRAM_WALK,
	/* in an object of their own, whose journal holds a million flows */
	PROGRAM_WALK_FULL,
	PROGRAM_SYN_NEW,
	PROGRAM_SYN_AGAIN,
	/* heartbeats, from the frame's arrival on */
	PROGRAM_ANSWER, /* taken in; no keys */
	PROGRAM_ANSWER_SIGNED, /* taken in */
	PROGRAM_ANSWER_FORGED, /* refused by its tag, the last of all checks */
	PROGRAM_PROBE_FORGED, /* refused by the reflector by its tag */
};
#define OPENED 90910 /* flows of a run of SYNs: all runs open a million */
#define TCP_V4 34 /* offset of the TCP header */

/* One line of the table: its runs, sorted when they are all there. */
struct line {
	enum program program;
	enum mode mode;
	int family;
	uint32_t flows;
	uint32_t ns[RUNS];
};

/* A loaded object per family and number of flows: both are constants to the program. And one with a journal. */
struct loaded {
	int family;
	uint32_t flows;
	uint32_t journal; /* entries that it takes */
	struct walk_bench_bpf *skel;
	struct vip_index vip_index;
};
static struct loaded loaded[2 * N_FLOWS + 1];
#define N_LOADED (sizeof(loaded) / sizeof(loaded[0]))

static int put(struct bpf_map *map, const void *key, const void *value)
{
	return bpf_map_update_elem(bpf_map__fd(map), key, value, BPF_ANY) ? -errno : 0;
}

static struct shunt_addr address_v4(uint32_t a)
{
	return (struct shunt_addr){ .w = { 0, 0, SHUNT_V4_MAPPED, htonl(a) } };
}

static struct shunt_addr address_v6(uint32_t last)
{
	return (struct shunt_addr){ .w = { htonl(0x20010db8), 0, 0, htonl(last) } };
}

static struct backend backend_of(enum mode mode, int family, uint32_t i)
{
	return (struct backend){
		.word = BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING),
		.forward = mode == MODE_L2 ? FORWARD_L2 : FORWARD_IPIP,
		.family = family == 6 ? AF_INET6 : AF_INET,
		.mtu_bytes = 1500,
		.egress_ifindex = 1,
		.dst_mac = { 2, 0, 0, 0, 0xbe, (uint8_t)i },
		.src_mac = { 2, 0, 0, 0, 0xba, 1 },
		.local = family == 6 ? address_v6(1) : address_v4(0x0a000001),
		.address = family == 6 ? address_v6(0x100 + i) : address_v4(0x0a000100 + i),
	};
}

static uint32_t frame_bytes(int family)
{
	return (uint32_t)(14 + (family == 6 ? 40 : 20) + 20 + DATA_BYTES);
}

/* Pool MODE_IPIP has backends 1 .. 100, pool MODE_L2 101 .. 200; the VIP's port chooses the pool. */
static int put_pool(struct walk_bench_bpf *skel, enum mode mode, int family)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	struct table_member members[BACKENDS];
	char names[BACKENDS][16];
	struct table *table = NULL;
	const struct slot *slots;
	uint32_t n_slots, pool = mode;
	int err = 0, fd = -1;

	for (uint32_t i = 0; i < BACKENDS; i++) {
		uint32_t id = 1 + i + (uint32_t)mode * BACKENDS;
		struct backend b = backend_of(mode, family, i);

		snprintf(names[i], sizeof(names[i]), "gpu%u", i);
		members[i] = (struct table_member){
			.id = (uint16_t)id, .alive = true, .weight = 100, .name = names[i], .domain = ""
		};
		err = err ?: put(skel->maps.backends, &id, &b);
	}
	err = err ?: table_build(&table, members, BACKENDS, SLOTS, SEED);
	if (err)
		goto out;
	slots = table_slots(table, &n_slots);
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "table", 4, sizeof(struct slot_pair), (n_slots + 1) / 2, &options);
	if (fd < 0) {
		err = -errno;
		goto out;
	}
	for (uint32_t i = 0; i < n_slots && !err; i += 2) {
		struct slot_pair pair = { .slot = { slots[i] } };
		uint32_t key = i / 2;

		if (i + 1 < n_slots)
			pair.slot[1] = slots[i + 1];
		if (bpf_map_update_elem(fd, &key, &pair, BPF_ANY))
			err = -errno;
	}
	err = err ?: put(skel->maps.tables, &pool, &fd);
out:
	if (fd >= 0)
		close(fd);
	table_free(table);
	return err;
}

/* The one VIP, on the pool of this mode. */
static int put_vip(struct loaded *l, enum mode mode)
{
	struct vip vip = { .id = 1,
			   .table = mode,
			   .n_slots = SLOTS,
			   .flags = VIP_JOURNAL,
			   .key = { .address = l->family == 6 ? address_v6(VIP_PORT) : address_v4(VIP_V4),
				    .port = htons(VIP_PORT),
				    .protocol = IPPROTO_TCP } };

	memset(vip.hash_mask, 0xff, sizeof(vip.hash_mask));
	return vip_index_set(&l->vip_index, &vip);
}

/* An array's memory, or NULL. */
static void *share(const struct bpf_map *map)
{
	size_t bytes = (size_t)bpf_map__value_size(map) * bpf_map__max_entries(map);
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	return at == MAP_FAILED ? NULL : at;
}

/* The headers of flow 0's packet; IPv4 and TCP fields in their order: RFC 791 3.1, RFC 8200 3, RFC 9293 3.1. */
static void put_headers(struct walk_bench_bpf *skel, int family)
{
	static const uint8_t link[12] = { 2, 0, 0, 0, 0xba, 1, 2, 0, 0, 0, 0xc1, 1 };
	static const uint8_t tcp[20] = { 0x9c, 0x40, VIP_PORT >> 8, VIP_PORT & 0xff, [12] = 0x50, [13] = 0x10 };
	uint16_t v4[10] = { htons(0x4500),       htons(40 + DATA_BYTES), 0, 0, htons(64 << 8 | IPPROTO_TCP), 0, 0, 0,
			    htons(VIP_V4 >> 16), htons(VIP_V4 & 0xffff) };
	uint8_t v6[40] = { 0x60, [5] = 20 + DATA_BYTES, [6] = IPPROTO_TCP, [7] = 64 };
	struct shunt_addr client = address_v6(CLIENT), vip = address_v6(VIP_PORT);
	uint8_t *at = (uint8_t *)&skel->bss->bench_headers;

	memcpy(at, link, sizeof(link));
	at[12] = family == 6 ? 0x86 : 0x08;
	at[13] = family == 6 ? 0xdd : 0x00;
	memcpy(v6 + 8, &client, 16);
	memcpy(v6 + 24, &vip, 16);
	memcpy(at + 14, family == 6 ? (void *)v6 : (void *)v4, family == 6 ? 40 : 20);
	memcpy(at + (family == 6 ? 54 : 34), tcp, sizeof(tcp));
	skel->bss->bench_client = CLIENT;
	for (int i = 0; i < 10; i++)
		skel->bss->bench_sum += ntohs(v4[i]);
}

static int load(struct loaded *l)
{
	struct flow_keys key = flow_keys_of(SEED);
	struct journal_state state = { .capacity = l->journal };
	uint32_t zero = 0;
	int err;

	l->skel = walk_bench_bpf__open();
	if (!l->skel)
		return -errno;
	memcpy((void *)&l->skel->rodata->flow_keys, &key, sizeof(key));
	l->skel->rodata->bench_family = (uint32_t)l->family;
	l->skel->rodata->flow_mask = l->flows - 1;
	l->skel->rodata->bench_frame_bytes = frame_bytes(l->family);
	put_headers(l->skel, l->family);
	if (l->journal) {
		bpf_map__set_max_entries(l->skel->maps.flows, l->journal);
		bpf_map__set_max_entries(l->skel->maps.journal, l->journal);
		bpf_map__set_max_entries(l->skel->maps.journal_free, l->journal);
	}
	err = walk_bench_bpf__load(l->skel);
	if (err)
		return err;
	l->vip_index.buckets = share(l->skel->maps.vip_index);
	l->vip_index.records = share(l->skel->maps.vips);
	err = l->vip_index.buckets && l->vip_index.records ? 0 : -ENOMEM;
	err = err ?: put(l->skel->maps.journal_state, &zero, &state);
	for (enum mode m = 0; m < N_MODES; m++)
		err = err ?: put_pool(l->skel, m, l->family);
	return err;
}

/* ---- heartbeats: session 1, backend 10.0.0.2, balancer 10.0.0.1 ---- */

#define BALANCER 0x0a000001U
#define BACKEND 0x0a000002U
#define SESSION 1 /* BENCH_SESSION */
#define DISCRIMINATOR (0x42000U | SESSION)
#define HEARTBEAT_BYTES (14 + 20 + 8 + sizeof(struct probe))

static const struct siphash_key key_right = { 1, 2 }, key_wrong = { 3, 4 };
static struct agent_bpf *agent;

/* The frame of a probe or of its answer, signed. No UDP checksum: RFC 768. */
static void put_heartbeat(uint8_t frame[HEARTBEAT_BYTES], bool is_answer, const struct siphash_key *key)
{
	uint16_t ip[10] = { htons(0x4500), htons(HEARTBEAT_BYTES - 14), 0, 0, htons(255 << 8 | IPPROTO_UDP) };
	uint16_t udp[4] = { htons(SBFD_PORT), htons(PROBE_SOURCE_PORT), htons(HEARTBEAT_BYTES - 34) };
	uint32_t from = htonl(is_answer ? BACKEND : BALANCER), to = htonl(is_answer ? BALANCER : BACKEND), sum = 0;
	struct probe probe = {
		.bfd = { .vers_diag = BFD_VERS_DIAG(0),
			 .flags = (uint8_t)(BFD_UP << BFD_STATE_SHIFT | (is_answer ? 0 : BFD_DEMAND)),
			 .detect_mult = 3,
			 .length = BFD_LENGTH,
			 .my_discriminator = htonl(is_answer ? BACKEND : DISCRIMINATOR),
			 .your_discriminator = htonl(is_answer ? DISCRIMINATOR : BACKEND) },
		.trailer = { .magic = htonl(PROBE_MAGIC),
			     .version = PROBE_VERSION,
			     .engine = ENGINE_SERVING,
			     .round = __builtin_bswap64(1) },
	};

	probe.trailer.tag = probe_tag(key, &probe);
	memcpy(&ip[6], &from, 4);
	memcpy(&ip[8], &to, 4);
	for (int i = 0; i < 10; i++)
		sum += ip[i];
	sum = (sum & 0xffff) + (sum >> 16);
	ip[5] = (uint16_t) ~(sum + (sum >> 16));
	if (!is_answer) {
		udp[0] = htons(PROBE_SOURCE_PORT);
		udp[1] = htons(SBFD_PORT);
	}
	memset(frame, 2, 12);
	frame[12] = 0x08;
	frame[13] = 0x00;
	memcpy(frame + 14, ip, sizeof(ip));
	memcpy(frame + 34, udp, sizeof(udp));
	memcpy(frame + 42, &probe, sizeof(probe));
}

static int heartbeats_open(struct walk_bench_bpf *skel)
{
	struct session s = { .discriminator = DISCRIMINATOR,
			     .your_discriminator = BACKEND,
			     .address = address_v4(BACKEND) };
	struct detector d = { .round = 1, .rounds[1] = { .round = 1, .sent_ns = 1 } };
	struct probe_keys keys = { .n = 1, .key = { key_right, key_right } };
	const struct agent_mac own = { .bytes = { 2, 2, 2, 2, 2, 2 } }; /* as put_heartbeat() has it */
	uint32_t id = SESSION, zero = 0, one = 1;
	int err;

	agent = agent_bpf__open_and_load();
	if (!agent)
		return -errno;
	err = put(skel->maps.sessions, &id, &s);
	err = err ?: put(skel->maps.detector, &zero, &d);
	err = err ?: put(agent->maps.agent_macs, &own, &one);
	return err ?: put(agent->maps.probe_keys, &zero, &keys);
}

/* Packets that a program counted under a reason. */
static uint64_t counted(const struct bpf_map *reasons, uint32_t reason)
{
	static uint64_t values[CPU_SETSIZE];
	uint64_t sum = 0;

	bpf_map_lookup_elem(bpf_map__fd(reasons), &reason, values);
	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
		sum += values[cpu];
	return sum;
}

static int measure_heartbeat(enum program program, uint32_t *ns)
{
	struct walk_bench_bpf *skel = loaded[0].skel;
	bool is_probe = program == PROGRAM_PROBE_FORGED, is_signed = program != PROGRAM_ANSWER;
	bool is_forged = is_probe || program == PROGRAM_ANSWER_FORGED;
	struct probe_keys keys = { .n = is_signed, .key = { key_right, key_right } };
	const struct bpf_map *reasons = is_probe ? agent->maps.agent_reasons : skel->maps.reasons;
	uint32_t zero = 0, reason = is_probe    ? AGENT_REASON_REFUSED_TAG
				    : is_forged ? REASON_PROBE_FORGED
						: REASON_PROBE_ANSWER;
	uint64_t before = counted(reasons, reason);
	uint8_t frame[HEARTBEAT_BYTES];
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof(frame), .repeat = REPEATS);
	int err = put(skel->maps.probe_keys, &zero, &keys);

	put_heartbeat(frame, !is_probe, is_forged ? &key_wrong : &key_right);
	if (err || bpf_prog_test_run_opts(
			   bpf_program__fd(is_probe ? agent->progs.shunt_agent : skel->progs.bench_answer), &options))
		return err ?: -errno;
	*ns = options.duration;
	return counted(reasons, reason) == before + REPEATS ? 0 : -EPROTO;
}

/* The next packets of a journal's object: a run of SYNs is of flows of its own, or of the first run's with other numbers. */
static void put_segment(struct walk_bench_bpf *skel, enum program program, int run)
{
	uint8_t *tcp = (uint8_t *)&skel->bss->bench_headers + TCP_V4;

	tcp[7] = program == PROGRAM_SYN_AGAIN ? (uint8_t)(run + 1) : 0;
	tcp[13] = program == PROGRAM_WALK_FULL ? 0x10 : 0x02;
	skel->bss->next_flow = program == PROGRAM_SYN_NEW ? (uint32_t)run * OPENED : 0;
}

/* One test run of a line; 0 and *ns, or -errno. */
static int measure(const struct line *line, int run, uint32_t *ns)
{
	bool is_journal = line->program >= PROGRAM_WALK_FULL && line->program <= PROGRAM_SYN_AGAIN;
	uint8_t frame[160] = { 0 }; /* the program writes the headers */
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .repeat = REPEATS);
	struct loaded *l = loaded;
	struct bpf_program *program;
	int err;

	if (line->program >= PROGRAM_ANSWER)
		return measure_heartbeat(line->program, ns);
	while (l->family != line->family || l->flows != line->flows || !l->journal == is_journal)
		l++;
	if (is_journal)
		put_segment(l->skel, line->program, run);
	if (line->program > PROGRAM_WALK_FULL)
		options.repeat = OPENED;
	options.data_size_in = frame_bytes(line->family);
	program = line->program == PROGRAM_EMPTY   ? l->skel->progs.bench_empty
		  : line->program == PROGRAM_FLOOR ? l->skel->progs.bench_floor
						   : l->skel->progs.bench_walk;
	l->skel->bss->bench_backend = backend_of(line->mode, line->family, 0);
	err = put_vip(l, line->mode);
	if (err)
		return err;
	if (bpf_prog_test_run_opts(bpf_program__fd(program), &options))
		return -errno;
	if (options.retval != XDP_TX)
		return -EPROTO;
	*ns = options.duration;
	return 0;
}

/* Flows that were recorded. */
static uint32_t journal_used(void)
{
	struct journal_state state = { 0 };
	uint32_t zero = 0;

	bpf_map_lookup_elem(bpf_map__fd(loaded[N_LOADED - 1].skel->maps.journal_state), &zero, &state);
	return state.used;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void line_print(const struct line *line)
{
	static const char *const programs[] = { "empty",          "floor",        "walk",   "walk, journal",
						"SYN, new",       "SYN, again",   "answer", "answer, signed",
						"answer, forged", "probe, forged" };

	printf("%-14s %-5s %7s %9u %7u %7u %7u\n", programs[line->program],
	       line->program == PROGRAM_EMPTY || line->program >= PROGRAM_ANSWER ? "-" : mode_names[line->mode],
	       line->family == 6 ? "IPv6" : "IPv4", line->flows, line->ns[RUNS / 2], line->ns[0], line->ns[RUNS - 1]);
}

static json_t *to_json(const struct line *lines, size_t n)
{
	static const char *const keys[] = { [PROGRAM_WALK_FULL] = "walk_ns",
					    [PROGRAM_SYN_NEW] = "syn_new_ns",
					    [PROGRAM_SYN_AGAIN] = "syn_again_ns",
					    [PROGRAM_ANSWER] = "answer_ns",
					    [PROGRAM_ANSWER_SIGNED] = "answer_signed_ns",
					    [PROGRAM_ANSWER_FORGED] = "answer_forged_ns",
					    [PROGRAM_PROBE_FORGED] = "probe_forged_ns" };
	json_t *floor = json_object(), *results = json_array(), *journal = json_object(), *heartbeats = json_object();
	json_int_t empty = 0;

	for (size_t i = 0; i < n; i++) {
		const struct line *l = &lines[i];
		json_int_t ns = l->ns[RUNS / 2];

		if (l->program == PROGRAM_EMPTY)
			empty = ns;
		else if (l->program == PROGRAM_FLOOR)
			json_object_set_new(floor, mode_names[l->mode], json_integer(ns));
		else if (l->program == PROGRAM_WALK)
			json_array_append_new(results,
					      json_pack("{s:s, s:i, s:I, s:I}", "mode", mode_names[l->mode], "family",
							l->family, "flows", (json_int_t)l->flows, "ns", ns));
		else
			json_object_set_new(l->program >= PROGRAM_ANSWER ? heartbeats : journal, keys[l->program],
					    json_integer(ns));
	}
	json_object_set_new(journal, "flows", json_integer(RUNS * OPENED));
	return json_pack("{s:I, s:o, s:o, s:o, s:o}", "empty_ns", empty, "floor_ns", floor, "results", results,
			 "journal", journal, "heartbeats", heartbeats);
}

static int pin(void)
{
	cpu_set_t cpus;
	int cpu = 0;

	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		return -errno;
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &cpus))
			cpu = i; /* the last one: interrupts favour the first */
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	return sched_setaffinity(0, sizeof(cpus), &cpus) ? -errno : 0;
}

int main(int argc, char **argv)
{
	static struct line lines[10 + 2 * N_MODES * N_FLOWS];
	size_t n = 0;
	json_t *json = NULL;
	int err;

	if (argc != 2) {
		fprintf(stderr, "usage: bench_datapath FILE.json\n");
		return 2;
	}
	err = pin();
	for (size_t i = 0; i < 2 * N_FLOWS; i++) {
		loaded[i].family = i < N_FLOWS ? 4 : 6;
		loaded[i].flows = flow_counts[i % N_FLOWS];
	}
	loaded[2 * N_FLOWS] = (struct loaded){ .family = 4, .flows = 1048576, .journal = 1048576 };
	for (size_t i = 0; i < N_LOADED && !err; i++)
		err = load(&loaded[i]);
	err = err ?: heartbeats_open(loaded[0].skel);
	if (err) {
		fprintf(stderr, "bench_datapath: the program does not load: %s\n", strerror(-err));
		goto out;
	}
	lines[n++] = (struct line){ .program = PROGRAM_SYN_NEW, .family = 4, .flows = 1048576 };
	lines[n++] = (struct line){ .program = PROGRAM_SYN_AGAIN, .family = 4, .flows = 1048576 };
	lines[n++] = (struct line){ .program = PROGRAM_WALK_FULL, .family = 4, .flows = 1048576 };
	for (enum program p = PROGRAM_ANSWER; p <= PROGRAM_PROBE_FORGED; p++)
		lines[n++] = (struct line){ .program = p, .family = 4, .flows = 1 };
	lines[n++] = (struct line){ .program = PROGRAM_EMPTY, .family = 4, .flows = 1 };
	for (enum mode m = 0; m < N_MODES; m++)
		lines[n++] = (struct line){ .program = PROGRAM_FLOOR, .mode = m, .family = 4, .flows = 1048576 };
	for (enum mode m = 0; m < N_MODES; m++)
		for (int family = 4; family <= 6; family += 2)
			for (int i = 0; i < N_FLOWS; i++)
				lines[n++] = (struct line){
					.program = PROGRAM_WALK, .mode = m, .family = family, .flows = flow_counts[i]
				};

	/* First all the flows are opened. */
	for (int run = 0; run < RUNS && !err; run++)
		err = measure(&lines[0], run, &lines[0].ns[run]);
	for (int run = 0; run < RUNS && !err; run++)
		for (size_t i = 1; i < n && !err; i++)
			err = measure(&lines[i], run, &lines[i].ns[run]);
	if (!err && journal_used() != RUNS * OPENED)
		err = -EPROTO;
	if (err) {
		fprintf(stderr, "bench_datapath: a test run failed: %s\n", strerror(-err));
		goto out;
	}
	printf("%-14s %-5s %7s %9s %7s %7s %7s   ns a packet, %d runs of %d\n", "what", "mode", "family", "flows",
	       "median", "least", "most", RUNS, REPEATS);
	for (size_t i = 0; i < n; i++) {
		qsort(lines[i].ns, RUNS, sizeof(lines[i].ns[0]), compare);
		line_print(&lines[i]);
	}
	json = to_json(lines, n);
	if (!json || json_dump_file(json, argv[1], JSON_INDENT(2))) {
		fprintf(stderr, "bench_datapath: %s can't be written\n", argv[1]);
		err = -EIO;
	}
out:
	json_decref(json);
	for (size_t i = 0; i < N_LOADED; i++)
		walk_bench_bpf__destroy(loaded[i].skel);
	agent_bpf__destroy(agent);
	return err ? 1 : 0;
}
