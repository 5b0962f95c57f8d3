/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * dataplane.c - loads the balancer's programs, shares their maps' memory, attaches them and swaps tables. Decides
 * nothing about backends; see dataplane.h.
 */
#include "shuntd/dataplane.h"

#include <errno.h>
#include <linux/if_link.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "core/vip_index.h"
#include "shunt/hash.h"
#include "shunt.skel.h"

struct dataplane {
	struct shunt_bpf *skel;
	bool has_timer;
	struct {
		int fd;
		unsigned ifindex;
	} links[SHUNT_MAX_INTERFACES];
	size_t n_links;
	struct ring_buffer *ring;
	dataplane_event_fn *on_event;
	void *arg;
	struct backend *backends;
	struct session *sessions;
	struct detector *detector;
	struct round_trips *round_trips;
	struct vip_index vip_index;
	struct flow *journal;
	struct journal_state *journal_state;
	struct backend_flows *backend_flows;
	struct syn *syns;
	int n_cpus;
};

/* libbpf's newest complaint; shown only if what it complains of turns out to matter. */
static char complaint[512];

static int keep_complaint(enum libbpf_print_level level, const char *format, va_list args)
{
	char line[sizeof(complaint)];

	if (level != LIBBPF_WARN)
		return 0;
	vsnprintf(line, sizeof(line), format, args);
	line[strcspn(line, "\n")] = 0;
	if (line[0])
		memcpy(complaint, line, sizeof(complaint));
	return 0;
}

static size_t array_bytes(size_t entries, size_t value_bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	value_bytes = (value_bytes + 7) & ~(size_t)7;
	return (entries * value_bytes + page - 1) / page * page;
}

static void *array_map(const struct bpf_map *map)
{
	size_t bytes = array_bytes(bpf_map__max_entries(map), bpf_map__value_size(map));
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void array_unmap(const struct bpf_map *map, void *memory)
{
	if (memory)
		munmap(memory, array_bytes(bpf_map__max_entries(map), bpf_map__value_size(map)));
}

static int take_event(void *arg, void *data, size_t size)
{
	struct dataplane *dp = arg;

	if (size >= sizeof(struct event))
		dp->on_event(dp->arg, data);
	return 0;
}

static int load(struct dataplane *dp, const struct dataplane_options *options, bool with_timer)
{
	struct flow_keys key = flow_keys_of(options->seed);
	int err;

	dp->skel = shunt_bpf__open();
	if (!dp->skel)
		return -errno;
	memcpy((void *)&dp->skel->rodata->flow_keys, &key, sizeof(key));
	bpf_map__set_max_entries(dp->skel->maps.flows, options->flows_max);
	bpf_map__set_max_entries(dp->skel->maps.journal, options->flows_max);
	bpf_map__set_max_entries(dp->skel->maps.journal_free, options->flows_max);
	if (!with_timer) {
		bpf_program__set_autoload(dp->skel->progs.tick_start, false);
		bpf_map__set_autocreate(dp->skel->maps.tick, false);
	}
	err = shunt_bpf__load(dp->skel);
	if (err) {
		shunt_bpf__destroy(dp->skel);
		dp->skel = NULL;
		return err;
	}
	dp->has_timer = with_timer;
	return 0;
}

int dataplane_open(struct dataplane **out, const struct dataplane_options *options, const char **why)
{
	static char sentence[sizeof(complaint) + 128];
	struct dataplane *dp = calloc(1, sizeof(*dp));
	int err;

	if (!dp)
		return -ENOMEM;
	dp->on_event = options->on_event;
	dp->arg = options->arg;
	dp->n_cpus = libbpf_num_possible_cpus();
	libbpf_set_print(keep_complaint);

	err = load(dp, options, true);
	if (err && err != -EPERM)
		err = load(dp, options, false);
	if (err == -EPERM) {
		*why = "not allowed to load BPF programs: CAP_BPF and CAP_NET_ADMIN are needed (and not a locked-down "
		       "BPF)";
		goto out;
	}
	if (err) {
		snprintf(sentence, sizeof(sentence),
			 "the kernel refused the BPF programs, 6.1 or newer is needed (%s: %s)", strerror(-err),
			 complaint);
		*why = sentence;
		goto out;
	}
	dp->backends = array_map(dp->skel->maps.backends);
	dp->sessions = array_map(dp->skel->maps.sessions);
	dp->detector = array_map(dp->skel->maps.detector);
	dp->round_trips = array_map(dp->skel->maps.round_trips);
	dp->vip_index.buckets = array_map(dp->skel->maps.vip_index);
	dp->vip_index.records = array_map(dp->skel->maps.vips);
	dp->journal = array_map(dp->skel->maps.journal);
	dp->journal_state = array_map(dp->skel->maps.journal_state);
	dp->backend_flows = array_map(dp->skel->maps.backend_flows);
	dp->syns = array_map(dp->skel->maps.syns);
	dp->ring = ring_buffer__new(bpf_map__fd(dp->skel->maps.events), take_event, dp, NULL);
	if (!dp->backends || !dp->sessions || !dp->detector || !dp->round_trips || !dp->vip_index.buckets ||
	    !dp->vip_index.records || !dp->journal || !dp->journal_state || !dp->backend_flows || !dp->syns ||
	    !dp->ring) {
		err = -ENOMEM;
		*why = "no memory for the shared maps";
		goto out;
	}
	dp->journal_state->capacity = options->flows_max;
out:
	if (err) {
		dataplane_close(dp);
		return err;
	}
	*out = dp;
	return 0;
}

void dataplane_close(struct dataplane *dp)
{
	if (!dp)
		return;
	for (size_t i = 0; i < dp->n_links; i++)
		close(dp->links[i].fd);
	if (dp->skel) {
		array_unmap(dp->skel->maps.backends, dp->backends);
		array_unmap(dp->skel->maps.sessions, dp->sessions);
		array_unmap(dp->skel->maps.detector, dp->detector);
		array_unmap(dp->skel->maps.round_trips, dp->round_trips);
		array_unmap(dp->skel->maps.vip_index, dp->vip_index.buckets);
		array_unmap(dp->skel->maps.vips, dp->vip_index.records);
		array_unmap(dp->skel->maps.journal, dp->journal);
		array_unmap(dp->skel->maps.journal_state, dp->journal_state);
		array_unmap(dp->skel->maps.backend_flows, dp->backend_flows);
		array_unmap(dp->skel->maps.syns, dp->syns);
	}
	ring_buffer__free(dp->ring);
	shunt_bpf__destroy(dp->skel);
	free(dp);
}

int dataplane_attach(struct dataplane *dp, unsigned ifindex, const char **mode, const char **why)
{
	static const struct {
		__u32 flags;
		const char *name;
	} modes[] = { { XDP_FLAGS_DRV_MODE, "native" }, { XDP_FLAGS_SKB_MODE, "generic" } };
	int prog = bpf_program__fd(dp->skel->progs.shunt_ingress), link = -EINVAL;

	if (dp->n_links == SHUNT_MAX_INTERFACES) {
		*why = "too many interfaces";
		return -E2BIG;
	}
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = modes[i].flags);

		link = bpf_link_create(prog, (int)ifindex, BPF_XDP, &opts);
		if (link >= 0) {
			dp->links[dp->n_links].fd = link;
			dp->links[dp->n_links++].ifindex = ifindex;
			*mode = modes[i].name;
			return 0;
		}
		if (link == -EBUSY || link == -EEXIST) {
			*why = "an XDP program is already attached there, another shuntd's or somebody else's, and "
			       "shunt does "
			       "not replace it";
			return -EBUSY;
		}
		if (link == -EPERM)
			break;
	}
	*why = link == -EPERM ? "not allowed to attach XDP programs: CAP_NET_ADMIN is needed"
			      : "the interface takes no XDP program, neither native nor generic";
	return link;
}

void dataplane_detach(struct dataplane *dp, unsigned ifindex)
{
	for (size_t i = 0; i < dp->n_links; i++) {
		if (dp->links[i].ifindex != ifindex)
			continue;
		close(dp->links[i].fd);
		dp->links[i] = dp->links[--dp->n_links];
		return;
	}
}

bool dataplane_attached(const struct dataplane *dp, unsigned ifindex)
{
	for (size_t i = 0; i < dp->n_links; i++) {
		struct bpf_link_info info = { 0 };
		__u32 size = sizeof(info);

		/* A link that was detached names no interface any more. */
		if (dp->links[i].ifindex == ifindex && !bpf_obj_get_info_by_fd(dp->links[i].fd, &info, &size) &&
		    info.xdp.ifindex == ifindex)
			return true;
	}
	return false;
}

bool dataplane_has_timer(const struct dataplane *dp)
{
	return dp->has_timer;
}

int dataplane_start_tick(struct dataplane *dp, int cpu)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	cpu_set_t before, here;
	int err;

	if (!dp->has_timer)
		return -EOPNOTSUPP;
	CPU_ZERO(&here);
	if (sched_getaffinity(0, sizeof(before), &before))
		return -errno;
	if (cpu >= 0) {
		CPU_SET(cpu, &here);
		if (sched_setaffinity(0, sizeof(here), &here))
			return -errno;
	}
	err = bpf_prog_test_run_opts(bpf_program__fd(dp->skel->progs.tick_start), &opts);
	if (!err && opts.retval)
		err = (int)opts.retval;
	sched_setaffinity(0, sizeof(before), &before);
	return err;
}

struct backend *dataplane_backends(struct dataplane *dp)
{
	return dp->backends;
}

struct session *dataplane_sessions(struct dataplane *dp)
{
	return dp->sessions;
}

struct detector *dataplane_detector(struct dataplane *dp)
{
	return dp->detector;
}

const struct round_trips *dataplane_round_trips(struct dataplane *dp)
{
	return dp->round_trips;
}

int dataplane_set_keys(struct dataplane *dp, const struct probe_keys *keys)
{
	__u32 zero = 0;

	return bpf_map_update_elem(bpf_map__fd(dp->skel->maps.probe_keys), &zero, keys, BPF_ANY);
}

struct flow *dataplane_journal(struct dataplane *dp)
{
	return dp->journal;
}

struct journal_state *dataplane_journal_state(struct dataplane *dp)
{
	return dp->journal_state;
}

struct backend_flows *dataplane_backend_flows(struct dataplane *dp)
{
	return dp->backend_flows;
}

const struct syn *dataplane_syns(struct dataplane *dp)
{
	return dp->syns;
}

int dataplane_flow_free(struct dataplane *dp, uint32_t entry)
{
	struct flow_key key = dp->journal[entry].key;
	__u32 index = entry;

	/* The walk may have failed to make the hash's entry, or taken its place for a new flow with this very key. */
	if (!bpf_map_lookup_elem(bpf_map__fd(dp->skel->maps.flows), &key, &index) && index == entry)
		bpf_map_delete_elem(bpf_map__fd(dp->skel->maps.flows), &key);
	return bpf_map_update_elem(bpf_map__fd(dp->skel->maps.journal_free), NULL, &entry, BPF_ANY);
}

int dataplane_flow_find(struct dataplane *dp, const struct flow_key *key, uint32_t *entry)
{
	return bpf_map_lookup_elem(bpf_map__fd(dp->skel->maps.flows), key, entry);
}

int dataplane_syn_replay(struct dataplane *dp, const struct syn *syn)
{
	struct xdp_md ctx = { .data_end = syn->n_bytes, .ingress_ifindex = syn->ifindex };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = syn->frame, .data_size_in = syn->n_bytes, .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = 1, .batch_size = 1, .flags = BPF_F_TEST_XDP_LIVE_FRAMES);

	if (syn->n_bytes > SYN_BYTES)
		return -EINVAL;
	return bpf_prog_test_run_opts(bpf_program__fd(dp->skel->progs.shunt_ingress), &opts);
}

int dataplane_flow_stats(struct dataplane *dp, struct flow_stats *out)
{
	struct flow_stats *values = calloc((size_t)dp->n_cpus, sizeof(*values));
	__u32 key = 0;
	int err;

	*out = (struct flow_stats){ 0 };
	if (!values)
		return -ENOMEM;
	err = bpf_map_lookup_elem(bpf_map__fd(dp->skel->maps.flow_stats), &key, values);
	for (int i = 0; !err && i < dp->n_cpus; i++) {
		out->opened += values[i].opened;
		out->full += values[i].full;
		out->looked_up += values[i].looked_up;
		out->policed += values[i].policed;
	}
	free(values);
	return err;
}

static int table_put(const struct bpf_map *tables, uint32_t pool, const struct slot *slots, uint32_t n_slots)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__u32 n_pairs = (n_slots + 1) / 2;
	size_t bytes = array_bytes(n_pairs, sizeof(struct slot_pair));
	void *memory;
	int err = 0,
	    fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "table", sizeof(__u32), sizeof(struct slot_pair), n_pairs, &opts);

	if (fd < 0)
		return fd;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		err = -errno;
		goto out;
	}
	memcpy(memory, slots, n_slots * sizeof(*slots));
	munmap(memory, bytes);
	err = bpf_map_update_elem(bpf_map__fd(tables), &pool, &fd, BPF_ANY);
out:
	close(fd);
	return err;
}

int dataplane_set_table(struct dataplane *dp, uint32_t pool, const struct slot *slots, uint32_t n_slots)
{
	return table_put(dp->skel->maps.tables, pool, slots, n_slots);
}

int dataplane_set_table_before(struct dataplane *dp, uint32_t pool, const struct slot *slots, uint32_t n_slots)
{
	return table_put(dp->skel->maps.tables_before, pool, slots, n_slots);
}

int dataplane_clear_table(struct dataplane *dp, uint32_t pool)
{
	int err = bpf_map_delete_elem(bpf_map__fd(dp->skel->maps.tables), &pool);
	int err_before = bpf_map_delete_elem(bpf_map__fd(dp->skel->maps.tables_before), &pool);

	if (err && err != -ENOENT)
		return err;
	return err_before == -ENOENT ? 0 : err_before;
}

int dataplane_set_police(struct dataplane *dp, uint32_t vip, const struct police *police)
{
	return bpf_map_update_elem(bpf_map__fd(dp->skel->maps.police), &vip, police, BPF_ANY);
}

int dataplane_delete_vip(struct dataplane *dp, const struct vip_key *key)
{
	return vip_index_delete(&dp->vip_index, key);
}

int dataplane_set_vip(struct dataplane *dp, const struct vip *vip)
{
	return vip_index_set(&dp->vip_index, vip);
}

int dataplane_add_egress(struct dataplane *dp, unsigned ifindex)
{
	__u32 key = ifindex;

	return bpf_map_update_elem(bpf_map__fd(dp->skel->maps.egress), &key, &key, BPF_ANY);
}

static int traffic_sum(struct dataplane *dp, const struct bpf_map *map, uint32_t id, struct traffic *out)
{
	struct traffic *values = calloc((size_t)dp->n_cpus, sizeof(*values));
	int err;

	*out = (struct traffic){ 0 };
	if (!values)
		return -ENOMEM;
	err = bpf_map_lookup_elem(bpf_map__fd(map), &id, values);
	for (int i = 0; !err && i < dp->n_cpus; i++) {
		out->packets += values[i].packets;
		out->bytes += values[i].bytes;
		out->new_flows += values[i].new_flows;
	}
	free(values);
	return err;
}

int dataplane_vip_traffic(struct dataplane *dp, uint32_t vip, struct traffic *out)
{
	return traffic_sum(dp, dp->skel->maps.vip_stats, vip, out);
}

int dataplane_backend_traffic(struct dataplane *dp, uint32_t backend, struct traffic *out)
{
	return traffic_sum(dp, dp->skel->maps.backend_stats, backend, out);
}

static void traffic_forget(struct dataplane *dp, const struct bpf_map *map, uint32_t id)
{
	struct traffic *values = calloc((size_t)dp->n_cpus, sizeof(*values));

	if (values)
		bpf_map_update_elem(bpf_map__fd(map), &id, values, BPF_ANY);
	free(values);
}

void dataplane_forget_vip(struct dataplane *dp, uint32_t vip)
{
	traffic_forget(dp, dp->skel->maps.vip_stats, vip);
}

void dataplane_forget_backend(struct dataplane *dp, uint32_t backend)
{
	traffic_forget(dp, dp->skel->maps.backend_stats, backend);
}

int dataplane_reasons(struct dataplane *dp, uint64_t out[REASON_COUNT])
{
	__u64 *values = calloc((size_t)dp->n_cpus, sizeof(*values));
	int err = values ? 0 : -ENOMEM;

	for (__u32 r = 0; !err && r < REASON_COUNT; r++) {
		err = bpf_map_lookup_elem(bpf_map__fd(dp->skel->maps.reasons), &r, values);
		out[r] = 0;
		for (int i = 0; !err && i < dp->n_cpus; i++)
			out[r] += values[i];
	}
	free(values);
	return err;
}

int dataplane_event_fd(const struct dataplane *dp)
{
	return ring_buffer__epoll_fd(dp->ring);
}

int dataplane_drain_events(struct dataplane *dp)
{
	int n = ring_buffer__consume(dp->ring);

	return n < 0 ? n : 0;
}
