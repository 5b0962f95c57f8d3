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

#include "common/pins.h"
#include "core/vip_index.h"
#include "shunt/hash.h"
#include "shunt.skel.h"

/* The maps that outlive shuntd. `about` is the last. */
static const char *const kept[] = {
	"vip_index",     "vips",       "tables",    "tables_before",  "backends",     "egress",        "vip_stats",
	"backend_stats", "reasons",    "flows",     "journal",        "journal_free", "journal_state", "backend_flows",
	"flow_stats",    "syns",       "police",    "police_buckets", "sessions",     "detector",      "round_trips",
	"backend_names", "pool_names", "vip_names", "about",
};
#define N_KEPT (sizeof(kept) / sizeof(*kept))

/*
 * Not among them: `heartbeat_program` and `tick`, which the kernel empties when shuntd ends (the last to have them open), so
 * that then nobody judges and no answer counts; `events`, `probe_keys` and what is scratch.
 */

struct dataplane {
	struct shunt_bpf *skel;
	struct pins *pins;
	bool inherited, replaces, read_only;
	bool took_over; /* a link has our program instead of an earlier run's */
	bool has_timer;
	struct link {
		int fd;
		unsigned ifindex;
		bool found; /* it has the program of an earlier run still */
	} links[SHUNT_MAX_INTERFACES];
	/* numbers in the kernel of the tables in force, by pool; 0: none. Their pins are called by them. */
	__u32 table_ids[SHUNT_MAX_POOLS], table_before_ids[SHUNT_MAX_POOLS];
	struct about *about;
	struct backend_name *backend_names;
	struct pool_name *pool_names;
	struct vip_name *vip_names;
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

static void *array_map(const struct dataplane *dp, const struct bpf_map *map)
{
	size_t bytes = array_bytes(bpf_map__max_entries(map), bpf_map__value_size(map));
	void *memory = mmap(NULL, bytes, PROT_READ | (dp->read_only ? 0 : PROT_WRITE), MAP_SHARED, bpf_map__fd(map), 0);

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

/* ---- what an earlier run has left ---- */

/* Whether a pinned map is what the object has under its name. */
static bool map_fits(const struct bpf_map *map, int fd)
{
	struct bpf_map_info info = { 0 };
	__u32 length = sizeof(info);

	/* The kernel adds BPF_F_RDONLY_PROG to a DEVMAP's flags by itself (kernel/bpf/devmap.c). */
	return !bpf_obj_get_info_by_fd(fd, &info, &length) && info.type == bpf_map__type(map) &&
	       info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
	       info.max_entries == bpf_map__max_entries(map) &&
	       (info.map_flags & ~(__u32)BPF_F_RDONLY_PROG) == bpf_map__map_flags(map);
}

/* What the pinned `about` of pins->run says of its version, which any version can read; and all of it, if it is ours. */
static bool about_read(const struct pins *pins, struct about *about)
{
	char bytes[4096] = { 0 }; /* of any version's, chosen */
	struct bpf_map_info info = { 0 };
	__u32 zero = 0, length = sizeof(info);
	int fd = pins_get_run(pins, "about");
	bool read;

	if (fd < 0)
		return false;
	read = !bpf_obj_get_info_by_fd(fd, &info, &length) && info.type == BPF_MAP_TYPE_ARRAY &&
	       info.key_size == sizeof(zero) && info.value_size >= sizeof(about->abi_version) &&
	       info.value_size <= sizeof(bytes) && !bpf_map_lookup_elem(fd, &zero, bytes);
	close(fd);
	memcpy(about, bytes, sizeof(*about));
	return read && about->abi_version == SHUNT_ABI_VERSION && info.value_size == sizeof(*about);
}

static void capacity_set(struct shunt_bpf *skel, uint32_t flows_max)
{
	bpf_map__set_max_entries(skel->maps.flows, flows_max);
	bpf_map__set_max_entries(skel->maps.journal, flows_max);
	bpf_map__set_max_entries(skel->maps.journal_free, flows_max);
}

/* Use the pinned maps of pins->run in place of the object's own; none unless all fit. */
static bool maps_reuse(struct shunt_bpf *skel, const struct pins *pins)
{
	int fds[N_KEPT];
	size_t n = 0;
	bool fit = true;

	for (; fit && n < N_KEPT; n++) {
		struct bpf_map *map = bpf_object__find_map_by_name(skel->obj, kept[n]);

		fds[n] = pins_get_run(pins, kept[n]);
		fit = fds[n] >= 0 && map_fits(map, fds[n]);
	}
	for (size_t i = 0; i < n; i++) {
		if (fit)
			fit = !bpf_map__reuse_fd(bpf_object__find_map_by_name(skel->obj, kept[i]), fds[i]);
		if (fds[i] >= 0)
			close(fds[i]); /* the object has its own */
	}
	return fit;
}

/* Go on with what fits, or give the new maps the next number. */
static void run_choose(struct dataplane *dp, const struct dataplane_options *options)
{
	uint32_t newest = pins_newest(dp->pins, "about", UINT32_MAX);
	struct about about;

	for (uint32_t run = newest; run && !options->anew; run = pins_newest(dp->pins, "about", run)) {
		pins_run(dp->pins, run);
		dp->inherited = about_read(dp->pins, &about) && about.seed == options->seed &&
				about.flows_max == options->flows_max && maps_reuse(dp->skel, dp->pins);
		if (dp->inherited)
			return;
	}
	dp->replaces = newest;
	pins_run(dp->pins, newest + 1);
}

static int load(struct dataplane *dp, const struct dataplane_options *options, bool with_timer)
{
	struct flow_keys key = flow_keys_of(options->seed);
	int err;

	dp->skel = shunt_bpf__open();
	if (!dp->skel)
		return -errno;
	memcpy((void *)&dp->skel->rodata->flow_keys, &key, sizeof(key));
	capacity_set(dp->skel, options->flows_max);
	if (!with_timer) {
		bpf_program__set_autoload(dp->skel->progs.tick_start, false);
		bpf_map__set_autocreate(dp->skel->maps.tick, false);
	}
	run_choose(dp, options);
	err = shunt_bpf__load(dp->skel);
	if (err) {
		shunt_bpf__destroy(dp->skel);
		dp->skel = NULL;
		return err;
	}
	dp->has_timer = with_timer;
	return 0;
}

/* The arrays' memory. 0 or -ENOMEM. */
static int maps_share(struct dataplane *dp)
{
	dp->backends = array_map(dp, dp->skel->maps.backends);
	dp->sessions = array_map(dp, dp->skel->maps.sessions);
	dp->detector = array_map(dp, dp->skel->maps.detector);
	dp->round_trips = array_map(dp, dp->skel->maps.round_trips);
	dp->vip_index.buckets = array_map(dp, dp->skel->maps.vip_index);
	dp->vip_index.records = array_map(dp, dp->skel->maps.vips);
	dp->journal = array_map(dp, dp->skel->maps.journal);
	dp->journal_state = array_map(dp, dp->skel->maps.journal_state);
	dp->backend_flows = array_map(dp, dp->skel->maps.backend_flows);
	dp->syns = array_map(dp, dp->skel->maps.syns);
	dp->about = array_map(dp, dp->skel->maps.about);
	dp->backend_names = array_map(dp, dp->skel->maps.backend_names);
	dp->pool_names = array_map(dp, dp->skel->maps.pool_names);
	dp->vip_names = array_map(dp, dp->skel->maps.vip_names);
	if (!dp->backends || !dp->sessions || !dp->detector || !dp->round_trips || !dp->vip_index.buckets ||
	    !dp->vip_index.records || !dp->journal || !dp->journal_state || !dp->backend_flows || !dp->syns ||
	    !dp->about || !dp->backend_names || !dp->pool_names || !dp->vip_names)
		return -ENOMEM;
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
	dp->pins = options->pins;
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
	err = maps_share(dp);
	dp->ring = err ? NULL : ring_buffer__new(bpf_map__fd(dp->skel->maps.events), take_event, dp, NULL);
	if (!dp->ring) {
		err = -ENOMEM;
		*why = "no memory for the shared maps";
		goto out;
	}
	if (!dp->inherited) {
		dp->journal_state->capacity = options->flows_max;
		dp->about->seed = options->seed;
		dp->about->flows_max = options->flows_max;
		dp->about->abi_version = SHUNT_ABI_VERSION;
	}
	for (size_t i = 0; dp->inherited && i < N_KEPT; i++)
		pins_own_run(dp->pins, kept[i]);
out:
	if (err) {
		dataplane_close(dp, DATAPLANE_LEAVE);
		return err;
	}
	*out = dp;
	return 0;
}

int dataplane_look(struct dataplane **out, struct pins *pins, const char *directory, const char **why)
{
	struct dataplane *dp = calloc(1, sizeof(*dp));
	int err = dp ? pins_look(pins, directory) : -ENOMEM;
	struct about about;

	*why = strerror(-err);
	if (err)
		goto out;
	dp->pins = pins;
	dp->read_only = true;
	dp->n_cpus = libbpf_num_possible_cpus();
	libbpf_set_print(keep_complaint);
	err = -ENOENT;
	*why = "shuntd has left nothing of this version there";
	for (uint32_t run = pins_newest(pins, "about", UINT32_MAX); run; run = pins_newest(pins, "about", run)) {
		pins_run(pins, run);
		if (!about_read(pins, &about))
			continue;
		dp->skel = shunt_bpf__open();
		if (!dp->skel)
			continue;
		capacity_set(dp->skel, about.flows_max);
		if (maps_reuse(dp->skel, pins)) {
			err = maps_share(dp);
			*why = "no memory for the shared maps";
			break;
		}
		shunt_bpf__destroy(dp->skel);
		dp->skel = NULL;
	}
out:
	if (err)
		dataplane_close(dp, DATAPLANE_LEAVE);
	else
		*out = dp;
	return err;
}

bool dataplane_inherited(const struct dataplane *dp)
{
	return dp->inherited;
}

bool dataplane_replaces(const struct dataplane *dp)
{
	return dp->replaces;
}

int dataplane_pin(struct dataplane *dp)
{
	if (dp->pins->fd < 0)
		return -ENOENT;
	for (size_t i = 0; !dp->inherited && i < N_KEPT && !*dp->pins->why; i++)
		pins_put_run(dp->pins, kept[i], bpf_map__fd(bpf_object__find_map_by_name(dp->skel->obj, kept[i])));
	if (!*dp->pins->why)
		return 0;
	if (!dp->inherited)
		pins_close(dp->pins);
	return -EIO;
}

static void link_close(struct dataplane *dp, struct link *link, bool unpin)
{
	char name[PIN_NAME_MAX];

	snprintf(name, sizeof(name), "xdp-%u", link->ifindex);
	if (unpin)
		pins_remove(dp->pins, name);
	close(link->fd);
}

void dataplane_close(struct dataplane *dp, enum dataplane_end end)
{
	if (!dp)
		return;
	/* Where an earlier run's program was replaced by one with these maps, they are what serves. */
	if (end == DATAPLANE_FAILED && (dp->inherited || dp->took_over))
		end = DATAPLANE_LEAVE;
	if (dp->detector && !dp->read_only)
		dp->detector->tick_stopped = 1;
	for (size_t i = 0; i < dp->n_links; i++)
		link_close(dp, &dp->links[i], false);
	if (end == DATAPLANE_AGAIN)
		dp->pins->n_own = 0;
	else if (end == DATAPLANE_LEAVE)
		pins_leave(dp->pins);
	else
		pins_close(dp->pins);
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
		array_unmap(dp->skel->maps.about, dp->about);
		array_unmap(dp->skel->maps.backend_names, dp->backend_names);
		array_unmap(dp->skel->maps.pool_names, dp->pool_names);
		array_unmap(dp->skel->maps.vip_names, dp->vip_names);
	}
	ring_buffer__free(dp->ring);
	shunt_bpf__destroy(dp->skel);
	free(dp);
}

/* ---- interfaces ---- */

/* The link of an earlier run, if it is pinned and still in force here, and not in another network namespace; or -1. */
static int link_find(const struct dataplane *dp, unsigned ifindex, const char **mode)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	char name[PIN_NAME_MAX];
	__u32 linked = 0;
	int link;

	snprintf(name, sizeof(name), "xdp-%u", ifindex);
	link = pins_get(dp->pins, name);
	if (link < 0)
		return -1;
	if (pins_link_ifindex(link, &linked) == ifindex && !bpf_xdp_query((int)ifindex, 0, &query) &&
	    linked == query.prog_id) {
		*mode = query.attach_mode == XDP_ATTACHED_SKB ? "generic" : "native";
		return link;
	}
	close(link);
	return -1;
}

static int link_create(struct dataplane *dp, unsigned ifindex, const char **mode, const char **why)
{
	static const struct {
		__u32 flags;
		const char *name;
	} modes[] = { { XDP_FLAGS_DRV_MODE, "native" }, { XDP_FLAGS_SKB_MODE, "generic" } };
	int prog = bpf_program__fd(dp->skel->progs.shunt_ingress), link = -EINVAL;

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = modes[i].flags);

		link = bpf_link_create(prog, (int)ifindex, BPF_XDP, &opts);
		*mode = modes[i].name;
		if (link >= 0)
			return link;
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

static void link_pin(struct dataplane *dp, const struct link *link)
{
	char name[PIN_NAME_MAX];

	snprintf(name, sizeof(name), "xdp-%u", link->ifindex);
	pins_put(dp->pins, name, link->fd);
}

int dataplane_attach(struct dataplane *dp, unsigned ifindex, const char **mode, const char **why)
{
	struct link *link;
	__u32 program;

	for (size_t i = dp->n_links; i--;) /* those that were lost */
		if (!pins_link_ifindex(dp->links[i].fd, &program))
			dataplane_detach(dp, dp->links[i].ifindex);
	link = &dp->links[dp->n_links];
	if (dp->n_links == SHUNT_MAX_INTERFACES) {
		*why = "too many interfaces";
		return -E2BIG;
	}
	*link = (struct link){ .fd = link_find(dp, ifindex, mode), .ifindex = ifindex, .found = true };
	if (link->fd < 0) {
		link->fd = link_create(dp, ifindex, mode, why);
		if (link->fd < 0)
			return link->fd;
		link->found = false;
		link_pin(dp, link);
	}
	dp->n_links++;
	return 0;
}

int dataplane_take_over(struct dataplane *dp, unsigned *ifindex, const char **why)
{
	const char *mode;
	char name[PIN_NAME_MAX];

	for (size_t i = 0; i < dp->n_links; i++) {
		struct link *link = &dp->links[i];

		*ifindex = link->ifindex;
		if (!link->found)
			continue;
		snprintf(name, sizeof(name), "xdp-%u", link->ifindex);
		link->found = false;
		if (!bpf_link_update(link->fd, bpf_program__fd(dp->skel->progs.shunt_ingress), NULL)) {
			dp->took_over = true;
			pins_own(dp->pins, name);
			continue;
		}
		close(link->fd); /* somebody detached it meanwhile */
		link->fd = link_create(dp, link->ifindex, &mode, why);
		if (link->fd < 0) {
			int err = link->fd;

			*link = dp->links[--dp->n_links];
			return err;
		}
		link_pin(dp, link);
	}
	pins_sweep(dp->pins);
	return 0;
}

void dataplane_detach(struct dataplane *dp, unsigned ifindex)
{
	for (size_t i = 0; i < dp->n_links; i++) {
		if (dp->links[i].ifindex != ifindex)
			continue;
		link_close(dp, &dp->links[i], true);
		dp->links[i] = dp->links[--dp->n_links];
		return;
	}
}

bool dataplane_attached(const struct dataplane *dp, unsigned ifindex)
{
	__u32 program;

	for (size_t i = 0; i < dp->n_links; i++)
		if (dp->links[i].ifindex == ifindex)
			return pins_link_ifindex(dp->links[i].fd, &program) == ifindex;
	return false;
}

uint32_t dataplane_program_id(const struct dataplane *dp)
{
	struct bpf_prog_info info = { 0 };
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(bpf_program__fd(dp->skel->progs.shunt_ingress), &info, &length))
		return 0;
	return info.id;
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

struct about *dataplane_about(struct dataplane *dp)
{
	return dp->about;
}

struct backend_name *dataplane_backend_names(struct dataplane *dp)
{
	return dp->backend_names;
}

struct pool_name *dataplane_pool_names(struct dataplane *dp)
{
	return dp->pool_names;
}

struct vip_name *dataplane_vip_names(struct dataplane *dp)
{
	return dp->vip_names;
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

/* As the walk takes it: one that was given back, else one never used. */
int dataplane_flow_take(struct dataplane *dp, uint32_t *entry)
{
	struct journal_state *state = dp->journal_state;

	if (!bpf_map_lookup_and_delete_elem(bpf_map__fd(dp->skel->maps.journal_free), NULL, entry))
		return 0;
	if (__atomic_load_n(&state->used, __ATOMIC_RELAXED) >= state->capacity)
		return -ENOSPC;
	*entry = __atomic_fetch_add(&state->used, 1, __ATOMIC_SEQ_CST);
	return *entry < state->capacity ? 0 : -ENOSPC;
}

int dataplane_flow_add(struct dataplane *dp, uint32_t entry)
{
	struct flow_key key = dp->journal[entry].key;

	return bpf_map_update_elem(bpf_map__fd(dp->skel->maps.flows), &key, &entry, BPF_NOEXIST);
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
	}
	free(values);
	return err;
}

/* ---- tables ---- */

static __u32 map_id(int fd)
{
	struct bpf_map_info info = { 0 };
	__u32 length = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &length) ? 0 : info.id;
}

static const char *table_pin_name(__u32 id, char name[PIN_NAME_MAX])
{
	snprintf(name, PIN_NAME_MAX, "table-%u", id);
	return name;
}

static void table_unpin(struct dataplane *dp, __u32 id)
{
	char name[PIN_NAME_MAX];

	if (id)
		pins_remove(dp->pins, table_pin_name(id, name));
}

/* `id`: of the table in force, which is pinned as long as it is. */
static int table_put(struct dataplane *dp, const struct bpf_map *tables, __u32 *id, uint32_t pool,
		     const struct slot *slots, uint32_t n_slots)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__u32 n_pairs = (n_slots + 1) / 2, new_id;
	size_t bytes = array_bytes(n_pairs, sizeof(struct slot_pair));
	char name[PIN_NAME_MAX];
	void *memory;
	int err = 0,
	    fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "table", sizeof(__u32), sizeof(struct slot_pair), n_pairs, &opts);

	if (fd < 0)
		return fd;
	new_id = map_id(fd);
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		err = -errno;
		goto out;
	}
	memcpy(memory, slots, n_slots * sizeof(*slots));
	munmap(memory, bytes);
	pins_put(dp->pins, table_pin_name(new_id, name), fd);
	err = bpf_map_update_elem(bpf_map__fd(tables), &pool, &fd, BPF_ANY);
	table_unpin(dp, err ? new_id : *id);
	if (!err)
		*id = new_id;
out:
	close(fd);
	return err;
}

int dataplane_set_table(struct dataplane *dp, uint32_t pool, const struct slot *slots, uint32_t n_slots)
{
	return table_put(dp, dp->skel->maps.tables, &dp->table_ids[pool], pool, slots, n_slots);
}

int dataplane_set_table_before(struct dataplane *dp, uint32_t pool, const struct slot *slots, uint32_t n_slots)
{
	return table_put(dp, dp->skel->maps.tables_before, &dp->table_before_ids[pool], pool, slots, n_slots);
}

static int table_clear(struct dataplane *dp, const struct bpf_map *tables, __u32 *id, uint32_t pool)
{
	int err = bpf_map_delete_elem(bpf_map__fd(tables), &pool);

	if (err && err != -ENOENT)
		return err;
	table_unpin(dp, *id);
	*id = 0;
	return 0;
}

int dataplane_clear_table(struct dataplane *dp, uint32_t pool)
{
	int err = table_clear(dp, dp->skel->maps.tables, &dp->table_ids[pool], pool);
	int err_before = table_clear(dp, dp->skel->maps.tables_before, &dp->table_before_ids[pool], pool);

	return err ? err : err_before;
}

/* The kernel tells a table's number only; by that it is found among the pins, and by no privilege. */
static int table_get(struct dataplane *dp, const struct bpf_map *tables, __u32 *id, uint32_t pool, struct slot **slots,
		     uint32_t *n_slots)
{
	struct bpf_map_info info = { 0 };
	__u32 length = sizeof(info);
	char name[PIN_NAME_MAX];
	void *memory;
	size_t bytes;
	int fd, err = bpf_map_lookup_elem(bpf_map__fd(tables), &pool, id);

	*slots = NULL;
	if (err)
		return err;
	fd = pins_get(dp->pins, table_pin_name(*id, name));
	if (fd < 0)
		return fd;
	err = bpf_obj_get_info_by_fd(fd, &info, &length);
	bytes = array_bytes(info.max_entries, sizeof(struct slot_pair));
	memory = err || info.value_size != sizeof(struct slot_pair) ? MAP_FAILED
								    : mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (memory != MAP_FAILED) {
		if (*n_slots > 2 * info.max_entries)
			*n_slots = 2 * info.max_entries;
		*slots = calloc(*n_slots + 1, sizeof(**slots));
		if (*slots)
			memcpy(*slots, memory, *n_slots * sizeof(**slots));
		munmap(memory, bytes);
		pins_own(dp->pins, name);
	}
	close(fd);
	return *slots ? 0 : -ENOMEM;
}

int dataplane_get_table(struct dataplane *dp, uint32_t pool, struct slot **slots, uint32_t *n_slots)
{
	return table_get(dp, dp->skel->maps.tables, &dp->table_ids[pool], pool, slots, n_slots);
}

int dataplane_get_table_before(struct dataplane *dp, uint32_t pool, struct slot **slots, uint32_t *n_slots)
{
	return table_get(dp, dp->skel->maps.tables_before, &dp->table_before_ids[pool], pool, slots, n_slots);
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

size_t dataplane_vips(struct dataplane *dp, const struct vip **out)
{
	size_t n = 0;

	for (size_t i = 0; i < VIP_BUCKETS && n < SHUNT_MAX_VIPS; i++) {
		__u32 record = (__u32)dp->vip_index.buckets[i];

		if (record && record < VIP_RECORDS)
			out[n++] = &dp->vip_index.records[record];
	}
	return n;
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
		out->policed += values[i].policed;
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
