// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * world.c - see world.h. The ingress interface of a test run is the loopback, 1; `egress` holds it as interface 2 too,
 * so that "another interface" needs none.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/vip_index.h"
#include "shunt/hash.h"
#include "shunt/heartbeat.h"
#include "shunt.skel.h"
#include "world.h"

#define INGRESS 1
#define ELSEWHERE 2
#define NOWHERE 77
#define CPUS_MAX 1024

/* Shared with the program. */
static struct flow *journal;
static struct journal_state *journal_state;
static struct backend_flows *backend_flows;
static struct backend *backends;
static struct syn *syns;
static struct session *sessions;
static struct detector *detector;
static struct round_trips *round_trips;

const uint8_t mac_next_hop[MAC_BYTES] = { 0x02, 0, 0, 0, 0xbe, 0x01 };

static struct shunt_bpf *skel;
static struct slot many[SHUNT_DEFAULT_SLOTS];
static struct vip_index vip_index;

static struct shunt_addr address_of(const char *text)
{
	struct shunt_addr a = { .w = { 0, 0, SHUNT_V4_MAPPED, 0 } };

	if (inet_pton(AF_INET, text, &a.w[3]) != 1)
		inet_pton(AF_INET6, text, &a);
	return a;
}

static int put(struct bpf_map *map, const void *key, const void *value)
{
	return bpf_map_update_elem(bpf_map__fd(map), key, value, BPF_ANY) ? -errno : 0;
}

static int put_backend(uint32_t id, uint8_t forward, int family, uint32_t egress, uint16_t mtu_bytes, uint32_t state)
{
	struct backend b = {
		.word = BACKEND_WORD(state, VERDICT_ANSWERING),
		.forward = forward,
		.family = family == 6 ? AF_INET6 : AF_INET,
		.mtu_bytes = mtu_bytes,
		.egress_ifindex = egress,
		.local = address_of(family == 6 ? LOCAL_6 : LOCAL_4),
		.address = address_of(family == 6 ? BACKEND_6 : BACKEND_4),
	};

	memcpy(b.dst_mac, mac_next_hop, MAC_BYTES);
	memcpy(b.src_mac, mac_balancer, MAC_BYTES);
	return put(skel->maps.backends, &id, &b);
}

static int put_table(struct bpf_map *map, uint32_t pool, const struct slot *slots, uint32_t n_slots)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "table", 4, sizeof(struct slot_pair), (n_slots + 1) / 2, &options);
	int err = 0;

	if (fd < 0)
		return -errno;
	for (uint32_t i = 0; i < n_slots && !err; i += 2) {
		struct slot_pair pair = { .slot = { slots[i] } };
		uint32_t key = i / 2;

		if (i + 1 < n_slots)
			pair.slot[1] = slots[i + 1];
		if (bpf_map_update_elem(fd, &key, &pair, BPF_ANY))
			err = -errno;
	}
	if (!err)
		err = put(map, &pool, &fd);
	close(fd);
	return err;
}

static int put_vip(const char *address, int protocol, uint16_t port, struct vip vip, bool source_only)
{
	bool is_v6;

	vip.key =
		(struct vip_key){ .address = address_of(address), .port = htons(port), .protocol = (uint8_t)protocol };
	is_v6 = vip.key.address.w[2] != SHUNT_V4_MAPPED;
	vip.id = vip.table;
	if (protocol == IPPROTO_TCP)
		vip.flags |= VIP_JOURNAL;
	memset(vip.hash_mask, 0xff, sizeof(vip.hash_mask));
	if (source_only) {
		vip.flags |= VIP_MASKED;
		if (!is_v6)
			vip.hash_mask[0] = 0xffffffff;
		vip.hash_mask[2] = vip.hash_mask[3] = vip.hash_mask[4] = 0;
	}
	return vip_index_set(&vip_index, &vip);
}

bool world_few_served(uint32_t slot)
{
	return slot % 32 == 7;
}

static int put_pools(void)
{
	static struct slot few[FEW_SLOTS];
	int err = 0;

	err = err ?: put_backend(POOL_L2, FORWARD_L2, 4, INGRESS, MTU, BACKEND_UP);
	err = err ?: put_backend(POOL_IPIP4, FORWARD_IPIP, 4, INGRESS, MTU, BACKEND_UP);
	err = err ?: put_backend(POOL_IPIP6, FORWARD_IPIP, 6, INGRESS, MTU, BACKEND_UP);
	err = err ?: put_backend(POOL_IPIP4_ELSEWHERE, FORWARD_IPIP, 4, ELSEWHERE, MTU, BACKEND_UP);
	err = err ?: put_backend(POOL_L2_ELSEWHERE, FORWARD_L2, 4, ELSEWHERE, MTU, BACKEND_UP);
	err = err ?: put_backend(POOL_IPIP4_SMALL, FORWARD_IPIP, 4, INGRESS, MTU_SMALL, BACKEND_UP);
	err = err ?: put_backend(POOL_IPIP6_SMALL, FORWARD_IPIP, 6, INGRESS, MTU_SMALL_6, BACKEND_UP);
	err = err ?: put_backend(POOL_IPIP4_TINY, FORWARD_IPIP, 4, INGRESS, 87, BACKEND_UP);
	err = err ?: put_backend(POOL_UNRESOLVED, FORWARD_IPIP, 4, 0, 0, BACKEND_UP);
	err = err ?: put_backend(POOL_NO_EGRESS, FORWARD_IPIP, 4, NOWHERE, MTU, BACKEND_UP);
	err = err ?: put_backend(POOL_DOWN, FORWARD_IPIP, 4, INGRESS, MTU, BACKEND_DOWN);
	for (uint16_t pool = POOL_L2; pool <= POOL_DOWN; pool++)
		err = err ?: put_table(skel->maps.tables, pool, &(struct slot){ pool, pool }, 1);
	err = err ?: put_table(skel->maps.tables, POOL_NO_RECORD, &(struct slot){ SHUNT_MAX_BACKENDS, 0 }, 1);
	err = err ?: put_table(skel->maps.tables, POOL_HEIR, &(struct slot){ POOL_DOWN, POOL_L2 }, 1);
	for (uint32_t i = 0; i < FEW_SLOTS; i++)
		few[i] = (struct slot){ POOL_DOWN, world_few_served(i) ? POOL_L2 : 0 };
	err = err ?: put_table(skel->maps.tables, POOL_FEW, few, FEW_SLOTS);
	for (uint32_t i = 0; i < MANY; i++)
		err = err ?: put_backend(MANY_FIRST + i, FORWARD_L2, 4, INGRESS, MTU, BACKEND_UP);
	for (uint32_t i = 0; i < SHUNT_DEFAULT_SLOTS; i++)
		many[i] = (struct slot){ (uint16_t)(MANY_FIRST + i * 37 % MANY),
					 (uint16_t)(MANY_FIRST + (i * 37 + 1) % MANY) };
	for (uint32_t id = FLOW_OWNER; id <= FLOW_THIRD; id++) {
		struct backend b;

		err = err ?: put_backend(id, FORWARD_L2, 4, INGRESS, MTU, BACKEND_UP);
		bpf_map_lookup_elem(bpf_map__fd(skel->maps.backends), &id, &b);
		b.dst_mac[4] = (uint8_t)(id >> 8);
		b.dst_mac[5] = (uint8_t)id;
		err = err ?: put(skel->maps.backends, &id, &b);
	}
	err = err ?: put_table(skel->maps.tables, POOL_FLOWS, &(struct slot){ FLOW_OWNER, FLOW_HEIR }, 1);
	return err ?: put_table(skel->maps.tables, POOL_MANY, many, SHUNT_DEFAULT_SLOTS);
}

static int put_vips(void)
{
	static const uint32_t n_slots[N_POOLS] = {
		[POOL_EMPTY] = 0, [POOL_FEW] = FEW_SLOTS, [POOL_MANY] = SHUNT_DEFAULT_SLOTS
	};
	static const int protocols[] = { IPPROTO_TCP, IPPROTO_UDP };
	int err = 0;

	for (int i = 0; i < 2; i++) {
		for (uint16_t pool = 1; pool < N_POOLS; pool++) {
			uint32_t n = n_slots[pool] ?: pool != POOL_EMPTY;

			err = err
				      ?: put_vip(VIP_4, protocols[i], pool, (struct vip){ .table = pool, .n_slots = n },
						 false);
			err = err
				      ?: put_vip(VIP_6, protocols[i], pool, (struct vip){ .table = pool, .n_slots = n },
						 false);
		}
		err = err ?: put_vip(ANY_4, protocols[i], 0, (struct vip){ .table = POOL_IPIP4, .n_slots = 1 }, true);
		err = err ?: put_vip(ANY_6, protocols[i], 0, (struct vip){ .table = POOL_IPIP6, .n_slots = 1 }, true);
		err = err
			      ?: put_vip(ANY_4, protocols[i], POOL_L2, (struct vip){ .table = POOL_L2, .n_slots = 1 },
					 false);
		err = err
			      ?: put_vip(ANY_5TUPLE_4, protocols[i], 0,
					 (struct vip){ .table = POOL_IPIP4, .n_slots = 1 }, false);
		err = err
			      ?: put_vip(ANY_5TUPLE_6, protocols[i], 0,
					 (struct vip){ .table = POOL_IPIP6, .n_slots = 1 }, false);
	}
	return err;
}

/* A map's memory; NULL: none. It stays until the process ends. */
static void *share(const struct bpf_map *map)
{
	size_t bytes = (size_t)bpf_map__value_size(map) * bpf_map__max_entries(map), page = 4096;
	void *at =
		mmap(NULL, (bytes + page - 1) / page * page, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	return at == MAP_FAILED ? NULL : at;
}

int world_open(void)
{
	struct flow_keys key = flow_keys_of(WORLD_SEED);
	uint32_t elsewhere = ELSEWHERE, loopback = INGRESS;
	int err;

	skel = shunt_bpf__open();
	if (!skel)
		return -errno;
	memcpy((void *)&skel->rodata->flow_keys, &key, sizeof(key));
	bpf_program__set_autoload(skel->progs.tick_start, false); /* not run here, and refused where PREEMPT_RT is */
	bpf_map__set_autocreate(skel->maps.tick, false);
	bpf_map__set_max_entries(skel->maps.flows, FLOWS_MAX);
	bpf_map__set_max_entries(skel->maps.journal, FLOWS_MAX);
	bpf_map__set_max_entries(skel->maps.journal_free, FLOWS_MAX);
	err = shunt_bpf__load(skel);
	if (err)
		return err;
	journal = share(skel->maps.journal);
	journal_state = share(skel->maps.journal_state);
	backend_flows = share(skel->maps.backend_flows);
	backends = share(skel->maps.backends);
	syns = share(skel->maps.syns);
	sessions = share(skel->maps.sessions);
	detector = share(skel->maps.detector);
	round_trips = share(skel->maps.round_trips);
	vip_index.buckets = share(skel->maps.vip_index);
	vip_index.records = share(skel->maps.vips);
	if (!journal || !journal_state || !backend_flows || !backends || !syns || !sessions || !detector ||
	    !round_trips || !vip_index.buckets || !vip_index.records)
		return -ENOMEM;
	journal_state->capacity = FLOWS_MAX;
	return put_pools() ?: put_vips() ?: put(skel->maps.egress, &elsewhere, &loopback);
}

void world_close(void)
{
	shunt_bpf__destroy(skel);
}

void world_set_state(uint32_t backend, uint32_t state)
{
	backends[backend].word = BACKEND_WORD(state, VERDICT_ANSWERING);
}

void world_find_silent(uint32_t backend, enum verdict verdict, uint64_t doubted_until_ns)
{
	backend_flows[backend].doubted_until_ns = doubted_until_ns;
	backends[backend].word = BACKEND_WORD(BACKEND_DOWN, verdict);
}

void world_reset_session(int family)
{
	const struct probe_keys none = { 0 };
	struct session s = {
		.discriminator = SESSION_DISCRIMINATOR,
		.address = address_of(family == 6 ? BACKEND_6 : BACKEND_4),
		.answered_round = ROUND_NOW - 3,
		.asked = ~0ULL,
	};

	*detector = (struct detector){
		.interval_ns = 100000, .multiplier = 3, .n_sessions = SESSION_ID, .round = ROUND_NOW
	};
	for (uint64_t r = ROUND_NOW - SHUNT_ROUNDS + 1; r <= ROUND_NOW; r++)
		detector->rounds[r % SHUNT_ROUNDS] = (struct round_time){ .round = r, .sent_ns = r * 100000 };
	s.your_discriminator = reflector_discriminator(&s.address);
	sessions[SESSION_ID] = s;
	memset(&round_trips[SESSION_ID], 0, sizeof(round_trips[0]));
	world_set_keys(&none);
}

void world_set_session_kind(enum session_kind kind)
{
	struct session *s = &sessions[SESSION_ID];

	s->kind = kind;
	if (kind != SESSION_ECHO)
		return;
	s->your_discriminator = s->discriminator;
	s->address = address_of(s->address.w[2] == SHUNT_V4_MAPPED ? LOCAL_4 : LOCAL_6);
}

void world_set_keys(const struct probe_keys *keys)
{
	uint32_t zero = 0;

	put(skel->maps.probe_keys, &zero, keys);
}

void world_ask(uint64_t round, uint64_t ago_ns)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	detector->rounds[round % SHUNT_ROUNDS] =
		(struct round_time){ .round = round,
				     .sent_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec - ago_ns };
}

void world_set_heartbeats(bool is_there)
{
	int fd = bpf_program__fd(skel->progs.shunt_heartbeat);
	uint32_t zero = 0;

	if (is_there)
		put(skel->maps.heartbeat_program, &zero, &fd);
	else
		bpf_map_delete_elem(bpf_map__fd(skel->maps.heartbeat_program), &zero);
}

struct session *world_session(void)
{
	return &sessions[SESSION_ID];
}

const struct round_trips *world_round_trips(void)
{
	return &round_trips[SESSION_ID];
}

uint32_t *world_word(uint32_t backend)
{
	return &backends[backend].word;
}

int world_events_fd(void)
{
	return bpf_map__fd(skel->maps.events);
}

uint16_t world_owner(uint32_t slot)
{
	return many[slot].owner;
}

uint32_t world_hash(const char *src, const char *dst, int protocol, uint16_t sport, uint16_t dport, int source_only)
{
	struct flow_keys key = flow_keys_of(WORLD_SEED);
	struct shunt_addr s = address_of(src), d = address_of(dst);
	bool is_v6 = d.w[2] != SHUNT_V4_MAPPED;
	struct flow_words flow = { .w = { [4] = flow_word_l4(htons(sport), htons(dport), (uint8_t)protocol) } };
	uint64_t all = ~0ULL, no = source_only ? 0 : ~0ULL;
	__u64 mask[SHUNT_FLOW_WORDS] = { source_only && !is_v6 ? 0xffffffff : all, all, no, no, no };

	if (is_v6) {
		memcpy(&flow.w[0], &s, sizeof(s));
		memcpy(&flow.w[2], &d, sizeof(d));
	} else {
		flow.w[0] = flow_word_v4(s.w[3], d.w[3]);
	}
	return flow_hash(&key, &flow, mask, is_v6);
}

int world_run(struct run *out, const struct frame *in, unsigned meta_bytes)
{
	static uint8_t bytes[FRAME_MAX + 256], left[FRAME_MAX + 256];
	struct xdp_md ctx = { .data = meta_bytes,
			      .data_end = meta_bytes + (uint32_t)in->size,
			      .ingress_ifindex = INGRESS };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = bytes, .data_size_in = ctx.data_end, .data_out = left,
		    .data_size_out = sizeof(left), .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .repeat = 1);

	memset(bytes, 0, meta_bytes);
	memcpy(bytes + meta_bytes, in->bytes, in->size);
	if (bpf_prog_test_run_opts(bpf_program__fd(skel->progs.shunt_ingress), &options))
		return -errno;
	out->action = options.retval;
	out->frame.size = options.data_size_out - meta_bytes; /* what leaves starts with the metadata */
	memcpy(out->frame.bytes, left + meta_bytes, out->frame.size);
	return 0;
}

void world_reasons(uint64_t out[REASON_COUNT])
{
	static uint64_t values[CPUS_MAX];
	int n = libbpf_num_possible_cpus();

	for (uint32_t i = 0; i < REASON_COUNT; i++) {
		out[i] = 0;
		if (bpf_map_lookup_elem(bpf_map__fd(skel->maps.reasons), &i, values))
			continue;
		for (int cpu = 0; cpu < n; cpu++)
			out[i] += values[cpu];
	}
}

void world_traffic(int is_vip, uint32_t id, struct traffic *out)
{
	static struct traffic values[CPUS_MAX];
	int n = libbpf_num_possible_cpus();

	memset(out, 0, sizeof(*out));
	if (bpf_map_lookup_elem(bpf_map__fd(is_vip ? skel->maps.vip_stats : skel->maps.backend_stats), &id, values))
		return;
	for (int cpu = 0; cpu < n; cpu++) {
		out->packets += values[cpu].packets;
		out->bytes += values[cpu].bytes;
		out->new_flows += values[cpu].new_flows;
		out->policed += values[cpu].policed;
	}
}

uint32_t world_verified_insns(const char *program)
{
	struct bpf_prog_info info = { 0 };
	uint32_t size = sizeof(info);

	bpf_obj_get_info_by_fd(bpf_program__fd(bpf_object__find_program_by_name(skel->obj, program)), &info, &size);
	return info.verified_insns;
}

/* ---- flows ---- */

static void map_empty(const struct bpf_map *map, void *key)
{
	while (!bpf_map_get_next_key(bpf_map__fd(map), NULL, key))
		bpf_map_delete_elem(bpf_map__fd(map), key);
}

/* One value on every CPU. */
static void put_everywhere(struct bpf_map *map, const void *value, size_t bytes)
{
	static uint8_t values[CPUS_MAX * 64];
	uint32_t zero = 0;

	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
		memcpy(values + (size_t)cpu * bytes, value, bytes);
	put(map, &zero, values);
}

void world_flows_vip(uint32_t flags, uint32_t on_failure, uint16_t owner_before)
{
	struct vip vip = { .table = POOL_FLOWS,
			   .n_slots = flags & WORLD_EMPTY_POOL ? 0 : 1,
			   .flags = flags & ~WORLD_EMPTY_POOL,
			   .on_failure = on_failure,
			   .n_slots_before = owner_before ? 1 : 0 };

	if (owner_before)
		put_table(skel->maps.tables_before, POOL_FLOWS, &(struct slot){ owner_before, 0 }, 1);
	put_vip(VIP_4, IPPROTO_TCP, POOL_FLOWS, vip, false);
	put_vip(VIP_6, IPPROTO_TCP, POOL_FLOWS, vip, false);
}

void world_flows_reset(void)
{
	const struct flow_stats none = { 0 };
	struct flow_key key;
	struct police_key prefix;
	uint32_t entry;

	map_empty(skel->maps.flows, &key);
	map_empty(skel->maps.police_buckets, &prefix);
	while (!bpf_map_lookup_and_delete_elem(bpf_map__fd(skel->maps.journal_free), NULL, &entry))
		;
	memset(journal, 0, FLOWS_MAX * sizeof(*journal));
	memset(syns, 0, SHUNT_SYNS * sizeof(*syns));
	memset(backend_flows, 0, SHUNT_MAX_BACKENDS * sizeof(*backend_flows));
	for (uint32_t id = 0; id < SHUNT_MAX_BACKENDS; id++)
		backends[id].detours = 0;
	for (uint32_t id = FLOW_OWNER; id <= FLOW_THIRD; id++)
		world_set_state(id, BACKEND_UP);
	put_everywhere(skel->maps.flow_stats, &none, sizeof(none));
	world_journal(FLOWS_MAX);
	world_pace(0);
	world_flows_vip(0, ON_FAILURE_RESET, 0);
}

void world_journal(uint32_t capacity)
{
	journal_state->used = 0;
	journal_state->capacity = capacity;
}

uint32_t world_journal_used(void)
{
	return journal_state->used;
}

void world_pace(uint64_t due_ns)
{
	put_everywhere(skel->maps.orphan_pace, &due_ns, sizeof(due_ns));
}

void world_police(uint64_t period_ns, uint64_t burst_ns, const char *mask, bool drop)
{
	struct shunt_addr address = address_of(mask);
	struct police police = { .period_ns = period_ns, .burst_ns = burst_ns, .drop = drop };
	uint32_t id = POOL_FLOWS;

	if (address.w[2] == SHUNT_V4_MAPPED) /* the mask of a v4-mapped address leaves the mapping whole */
		memset(&address, 0xff, 12);
	memcpy(police.mask, &address, sizeof(police.mask));
	put(skel->maps.police, &id, &police);
}

struct flow_key world_flow_key(const struct spec *s)
{
	const char *client = s->src ? s->src : s->family == 6 ? CLIENT_6 : CLIENT_4;

	return (struct flow_key){ .client = address_of(client),
				  .vip = address_of(s->dst),
				  .client_port = htons(s->sport ? s->sport : 40000),
				  .vip_port = htons(s->dport),
				  .protocol = IPPROTO_TCP };
}

struct flow *world_flow(const struct spec *s)
{
	struct flow_key key = world_flow_key(s);
	uint32_t entry;

	if (bpf_map_lookup_elem(bpf_map__fd(skel->maps.flows), &key, &entry))
		return NULL;
	return &journal[entry];
}

uint32_t world_flow_entry(const struct flow *f)
{
	return (uint32_t)(f - journal);
}

void world_flow_free(struct flow *f)
{
	uint32_t entry = world_flow_entry(f);

	world_flow_set(f, 0);
	bpf_map_delete_elem(bpf_map__fd(skel->maps.flows), &f->key);
	bpf_map_update_elem(bpf_map__fd(skel->maps.journal_free), NULL, &entry, BPF_ANY);
}

static void word_count(uint64_t word, int n)
{
	if (FLOW_WORD_STATE(word) == FLOW_OPEN)
		backend_flows[FLOW_WORD_BACKEND(word)].live += (uint64_t)n;
	if (FLOW_WORD_FLAGS(word) & FLOW_DETOUR)
		backends[FLOW_WORD_OWNER(word)].detours += (uint32_t)n;
}

void world_flow_set(struct flow *f, uint64_t word)
{
	word_count(f->word, -1);
	word_count(word, 1);
	f->word = word;
}

uint64_t world_live(uint32_t backend)
{
	return backend_flows[backend].live;
}

uint64_t *world_moved_ns(uint32_t backend)
{
	return (uint64_t *)&backend_flows[backend].moved_ns;
}

uint32_t world_detours(uint32_t backend)
{
	return backends[backend].detours;
}

struct flow_stats world_flow_stats(void)
{
	static struct flow_stats values[CPUS_MAX];
	struct flow_stats sum = { 0 };
	uint32_t zero = 0;

	bpf_map_lookup_elem(bpf_map__fd(skel->maps.flow_stats), &zero, values);
	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++) {
		sum.opened += values[cpu].opened;
		sum.full += values[cpu].full;
		sum.looked_up += values[cpu].looked_up;
	}
	return sum;
}

const struct syn *world_syn(uint32_t hash)
{
	return &syns[hash % SHUNT_SYNS];
}
