/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config.c - shunt.yaml to its model. First the tree is read into arrays in the order of the file, item i beside node
 * i, so that what is wrong between items is said at its place; then everything is sorted.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/config.h"
#include "core/reader.h"
#include "core/writer.h"
#include "shunt/control.h"

static const char *const forward_names[] = { "l2", "ipip", NULL };
static const char *const protocol_names[] = { "tcp", "udp", NULL };
static const char *const detector_names[] = { "kernel", "controller", NULL };
static const char *const policy_names[] = { "maglev", NULL };
static const char *const on_failure_names[] = {
	[ON_FAILURE_RESET] = "reset", [ON_FAILURE_REHASH] = "rehash", [ON_FAILURE_DROP] = "drop", NULL
};
static const char *const syn_action_names[] = {
	[SYN_LIMIT_OFF] = "off", [SYN_LIMIT_COUNT] = "count", [SYN_LIMIT_DROP] = "drop", NULL
};

#define POOL_UNKNOWN SIZE_MAX /* config_vip.pool until all pools are read */

/* ---- scalars ---- */

static int read_seed(const struct node *node, void *into, struct config_error *error)
{
	uint64_t seed;

	if (reader_number(node, "seed", 0, UINT64_MAX, &seed, error))
		return reader_expected(node, "seed", error, "a whole number of 64 bits, such as 0x5eed0123456789ab");
	*(uint64_t *)into = seed;
	return 0;
}

static int read_name(const struct node *node, void *into, struct config_error *error)
{
	return reader_name(node, "name", into, CONFIG_NAME_MAX, error);
}

static int read_domain(const struct node *node, void *into, struct config_error *error)
{
	return reader_name(node, "domain", into, CONFIG_NAME_MAX, error);
}

static int read_group(const struct node *node, void *into, struct config_error *error)
{
	return reader_name(node, "group", into, CONFIG_NAME_MAX, error);
}

static int read_admins(const struct node *node, void *into, struct config_error *error)
{
	return reader_name(node, "admins", into, CONFIG_NAME_MAX, error);
}

static int read_address(const struct node *node, void *into, struct config_error *error)
{
	return reader_address(node, "address", into, error);
}

static int read_weight(const struct node *node, void *into, struct config_error *error)
{
	uint64_t number;
	int err = reader_number(node, "weight", 1, 65535, &number, error);

	if (!err)
		*(uint32_t *)into = (uint32_t)number;
	return err;
}

static int read_forward(const struct node *node, void *into, struct config_error *error)
{
	size_t choice;
	int err = reader_choice(node, "forward", forward_names, &choice, error);

	if (!err)
		*(enum forward_mode *)into = choice == 0 ? FORWARD_L2 : FORWARD_IPIP;
	return err;
}

static int read_protocol(const struct node *node, void *into, struct config_error *error)
{
	size_t choice;
	int err = reader_choice(node, "protocol", protocol_names, &choice, error);

	if (!err)
		*(uint8_t *)into = choice == 0 ? IPPROTO_TCP : IPPROTO_UDP;
	return err;
}

static int read_detector(const struct node *node, void *into, struct config_error *error)
{
	size_t choice;
	int err = reader_choice(node, "detector", detector_names, &choice, error);

	if (!err)
		*(enum config_detector *)into = choice == 0 ? DETECTOR_KERNEL : DETECTOR_CONTROLLER;
	return err;
}

/* There is one policy so far: checked, not kept. */
static int read_policy(const struct node *node, void *into, struct config_error *error)
{
	size_t choice;

	(void)into;
	return reader_choice(node, "policy", policy_names, &choice, error);
}

static int read_port(const struct node *node, void *into, struct config_error *error)
{
	uint64_t number = 0;

	if (node->kind == NODE_TEXT && !strcmp(node->text, "any")) {
		*(uint16_t *)into = 0;
		return 0;
	}
	if (reader_number(node, "port", 1, 65535, &number, error))
		return reader_expected(node, "port", error, "a whole number from 1 to 65535, or any");
	*(uint16_t *)into = (uint16_t)number;
	return 0;
}

static bool is_prime(uint32_t n)
{
	for (uint32_t i = 2; i * i <= n; i++)
		if (n % i == 0)
			return false;
	return n >= 2;
}

static int read_slots(const struct node *node, void *into, struct config_error *error)
{
	uint32_t below, above;
	uint64_t number;
	int err = reader_number(node, "slots", CONFIG_SLOTS_MIN, SHUNT_MAX_SLOTS, &number, error);

	if (err)
		return err;
	below = above = (uint32_t)number;
	while (!is_prime(below)) /* both limits are prime, so both loops end within them */
		below--;
	while (!is_prime(above))
		above++;
	if (below != above)
		return reader_expected(node, "slots", error, "a prime, such as %u or %u", below, above);
	*(uint32_t *)into = below;
	return 0;
}

/* A share: one digit to three and '%', so that nobody takes it for a number of backends. */
static int read_percent(const struct node *node, void *into, struct config_error *error)
{
	const char *text = node->kind == NODE_TEXT ? node->text : "";
	size_t digits = strspn(text, "0123456789");
	unsigned percent = 0;

	for (size_t i = 0; i < digits && i < 4; i++)
		percent = 10 * percent + (unsigned)(text[i] - '0');
	if (!digits || strcmp(text + digits, "%") != 0 || (digits > 1 && text[0] == '0') || percent > 100)
		return reader_expected(node, "max_soft_eject", error, "a whole number of percent, 0%% to 100%%");
	*(uint8_t *)into = (uint8_t)percent;
	return 0;
}

/* ---- probe, control ---- */

static int read_interval(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "interval", CONFIG_INTERVAL_MIN_NS, CONFIG_INTERVAL_MAX_NS, into, error);
}

static int read_doubt(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "doubt", 0, CONFIG_DOUBT_MAX_NS, into, error);
}

static int read_hold(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "hold", 0, CONFIG_HOLD_MAX_NS, into, error);
}

static int read_hold_max(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "hold_max", 0, CONFIG_HOLD_MAX_NS, into, error);
}

static int read_key_file(const struct node *node, void *into, struct config_error *error)
{
	return reader_text(node, "key_file", "/", "an absolute path", into, error);
}

static int read_multiplier(const struct node *node, void *into, struct config_error *error)
{
	uint64_t number;
	int err = reader_number(node, "multiplier", CONFIG_MULTIPLIER_MIN, CONFIG_MULTIPLIER_MAX, &number, error);

	if (!err)
		*(uint32_t *)into = (uint32_t)number;
	return err;
}

static int read_cpu(const struct node *node, void *into, struct config_error *error)
{
	uint64_t number;

	if (node->kind == NODE_TEXT && !strcmp(node->text, "auto")) {
		*(int *)into = -1;
		return 0;
	}
	if (reader_number(node, "cpu", 0, CONFIG_CPU_MAX, &number, error))
		return reader_expected(node, "cpu", error, "a whole number from 0 to %d, or auto", CONFIG_CPU_MAX);
	*(int *)into = (int)number;
	return 0;
}

static int read_probe(const struct node *node, void *into, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "probe",
		.n_keys = 7,
		.keys = {
			{ "interval", false, read_interval, offsetof(struct config, probe_interval_ns) },
			{ "multiplier", false, read_multiplier, offsetof(struct config, probe_multiplier) },
			{ "doubt", false, read_doubt, offsetof(struct config, probe_doubt_ns) },
			{ "hold", false, read_hold, offsetof(struct config, probe_hold_ns) },
			{ "hold_max", false, read_hold_max, offsetof(struct config, probe_hold_max_ns) },
			{ "key_file", false, read_key_file, offsetof(struct config, probe_key_file) },
			{ "cpu", false, read_cpu, offsetof(struct config, probe_cpu) },
		},
	};
	struct config *config = into;
	const struct node *hold_max;
	char hold[DURATION_TEXT_MAX];
	int err = reader_mapping(node, &mapping, config, error);

	if (err || config->probe_hold_max_ns >= config->probe_hold_ns)
		return err;
	hold_max = reader_find(node, "hold_max");
	if (hold_max)
		return reader_expected(hold_max, "hold_max", error, "no less than hold, %s",
				       duration_format(config->probe_hold_ns, hold, sizeof(hold)));
	config->probe_hold_max_ns = config->probe_hold_ns;
	return 0;
}

static int read_control(const struct node *node, void *into, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "control",
		.n_keys = 3,
		.keys = {
			{ "socket", false, reader_socket, offsetof(struct config, control_socket) },
			{ "group", false, read_group, offsetof(struct config, control_group) },
			{ "admins", false, read_admins, offsetof(struct config, control_admins) },
		},
	};

	return reader_mapping(node, &mapping, into, error);
}

/* ---- what outlives it, and the pair ---- */

static int read_pin(const struct node *node, void *into, struct config_error *error)
{
	return reader_path_or_none(node, "pin", into, error);
}

static int read_state(const struct node *node, void *into, struct config_error *error)
{
	return reader_path_or_none(node, "state", into, error);
}

static int read_track_file(const struct node *node, void *into, struct config_error *error)
{
	return reader_text(node, "track_file", "/", "an absolute path", into, error);
}

static int read_notify_fifo(const struct node *node, void *into, struct config_error *error)
{
	return reader_text(node, "notify_fifo", "/", "an absolute path", into, error);
}

static int read_keepalived(const struct node *node, void *into, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "keepalived",
		.n_keys = 2,
		.keys = {
			{ "track_file", false, read_track_file, offsetof(struct config_keepalived, track_file) },
			{ "notify_fifo", false, read_notify_fifo, offsetof(struct config_keepalived, notify_fifo) },
		},
	};

	return reader_mapping(node, &mapping, into, error);
}

static int read_own_port(const struct node *node, void *into, struct config_error *error)
{
	uint64_t number;
	int err = reader_number(node, "port", CONFIG_PORT_MIN, UINT16_MAX, &number, error);

	if (!err)
		*(uint16_t *)into = (uint16_t)number;
	return err;
}

static int read_local(const struct node *node, void *into, struct config_error *error)
{
	return reader_address(node, "local", into, error);
}

static int read_bandwidth(const struct node *node, void *into, struct config_error *error)
{
	uint64_t number;
	int err = reader_number(node, "bandwidth_mbit", 1, CONFIG_PEER_MBIT_MAX, &number, error);

	if (!err)
		*(uint32_t *)into = (uint32_t)number;
	return err;
}

static int read_peer(const struct node *node, void *into, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "peer",
		.n_keys = 5,
		.keys = {
			{ "address", true, read_address, offsetof(struct config_peer, address) },
			{ "local", true, read_local, offsetof(struct config_peer, local) },
			{ "port", false, read_own_port, offsetof(struct config_peer, port) },
			{ "key_file", true, read_key_file, offsetof(struct config_peer, key_file) },
			{ "bandwidth_mbit", false, read_bandwidth, offsetof(struct config_peer, bandwidth_mbit) },
		},
	};
	struct config_peer *peer = into;
	int err;

	peer->port = CONFIG_PEER_PORT;
	peer->bandwidth_mbit = CONFIG_PEER_MBIT_DEFAULT;
	err = reader_mapping(node, &mapping, peer, error);
	if (err)
		return err;
	if (address_is_v4(&peer->address) != address_is_v4(&peer->local))
		return reader_expected(reader_find(node, "local"), "local", error,
				       "an IPv%c address: the peer's is one",
				       address_is_v4(&peer->address) ? '4' : '6');
	if (!memcmp(&peer->address, &peer->local, sizeof(peer->local)))
		return reader_expected(reader_find(node, "local"), "local", error, "another address than the peer's");
	return 0;
}

static int read_listen_address(const struct node *node, void *into, struct config_error *error)
{
	return reader_listen_address(node, "address", into, error);
}

static int read_http(const struct node *node, void *into, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "http",
		.n_keys = 2,
		.keys = {
			{ "address", false, read_listen_address, offsetof(struct config_http, address) },
			{ "port", false, read_own_port, offsetof(struct config_http, port) },
		},
	};
	struct config_http *http = into;

	http->on = true;
	http->port = CONFIG_HTTP_PORT;
	address_parse(&http->address, "127.0.0.1");
	return reader_mapping(node, &mapping, http, error);
}

static int read_flows_max(const struct node *node, void *into, struct config_error *error)
{
	uint64_t number;
	int err = reader_number(node, "max", CONFIG_FLOWS_MIN, CONFIG_FLOWS_MAX, &number, error);

	if (!err)
		*(uint32_t *)into = (uint32_t)number;
	return err;
}

static int read_closed(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "closed", 0, CONFIG_CLOSED_MAX_NS, into, error);
}

static int read_idle(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "idle", CONFIG_IDLE_MIN_NS, CONFIG_IDLE_MAX_NS, into, error);
}

static int read_flows(const struct node *node, void *into, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "flows",
		.n_keys = 3,
		.keys = {
			{ "max", false, read_flows_max, offsetof(struct config, flows_max) },
			{ "closed", false, read_closed, offsetof(struct config, flows_closed_ns) },
			{ "idle", false, read_idle, offsetof(struct config, flows_idle_ns) },
		},
	};

	return reader_mapping(node, &mapping, into, error);
}

/* ---- vips ---- */

static int read_on_failure(const struct node *node, void *into, struct config_error *error)
{
	size_t choice;
	int err = reader_choice(node, "on_failure", on_failure_names, &choice, error);

	if (!err)
		*(enum on_failure *)into = (enum on_failure)choice;
	return err;
}

static int read_rate(const struct node *node, void *into, struct config_error *error)
{
	uint64_t number;
	int err = reader_number(node, "rate", 1, CONFIG_SYN_RATE_MAX, &number, error);

	if (!err)
		*(uint32_t *)into = (uint32_t)number;
	return err;
}

static int read_burst(const struct node *node, void *into, struct config_error *error)
{
	uint64_t number;
	int err = reader_number(node, "burst", 1, CONFIG_SYN_RATE_MAX, &number, error);

	if (!err)
		*(uint32_t *)into = (uint32_t)number;
	return err;
}

/* Whether it fits the family is known when the whole VIP is read. */
static int read_prefix(const struct node *node, void *into, struct config_error *error)
{
	uint64_t number;
	int err = reader_number(node, "prefix", 1, 128, &number, error);

	if (!err)
		*(uint8_t *)into = (uint8_t)number;
	return err;
}

static int read_syn_action(const struct node *node, void *into, struct config_error *error)
{
	size_t choice;
	int err = reader_choice(node, "action", syn_action_names, &choice, error);

	if (!err)
		*(enum config_syn_action *)into = (enum config_syn_action)choice;
	return err;
}

static int read_syn_limit(const struct node *node, void *into, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "syn_limit",
		.n_keys = 4,
		.keys = {
			{ "rate", false, read_rate, offsetof(struct config_syn_limit, rate) },
			{ "burst", false, read_burst, offsetof(struct config_syn_limit, burst) },
			{ "prefix", false, read_prefix, offsetof(struct config_syn_limit, prefix) },
			{ "action", false, read_syn_action, offsetof(struct config_syn_limit, action) },
		},
	};
	struct config_syn_limit *limit = into;
	int err;

	limit->action = SYN_LIMIT_DROP;
	err = reader_mapping(node, &mapping, limit, error);
	if (!err && limit->action != SYN_LIMIT_OFF && !limit->rate)
		return node_fail(node, error, "missing key in syn_limit, expected 'rate'");
	return err;
}

/* What is said of it depends on the family and the protocol. */
static int complete_syn_limit(const struct node *node, struct config_vip *vip, uint8_t bits, struct config_error *error)
{
	struct config_syn_limit *limit = &vip->syn_limit;

	if (!node)
		return 0;
	if (vip->protocol != IPPROTO_TCP)
		return node_fail(node, error,
				 "syn_limit on a VIP of protocol udp, expected it on tcp only: UDP has no SYN");
	if (limit->prefix > bits)
		return reader_expected(reader_find(node, "prefix"), "prefix", error, "1 to %u bits: the VIP is IPv%c",
				       bits, bits == 32 ? '4' : '6');
	if (limit->action == SYN_LIMIT_OFF)
		*limit = (struct config_syn_limit){ .action = SYN_LIMIT_OFF };
	else if (!limit->prefix)
		limit->prefix = bits == 32 ? 32 : 64;
	if (!limit->burst)
		limit->burst = 2 * limit->rate < CONFIG_SYN_RATE_MAX ? 2 * limit->rate : CONFIG_SYN_RATE_MAX;
	return 0;
}

/* 5tuple, source or source/PREFIX. Whether the prefix fits the family is known when the whole VIP is read. */
static int read_hash(const struct node *node, void *into, struct config_error *error)
{
	struct config_vip *vip = into;
	const char *text = node->kind == NODE_TEXT ? node->text : "";
	size_t digits;
	unsigned prefix = 0;

	if (!strcmp(text, "5tuple")) {
		vip->hash = HASH_5TUPLE;
		return 0;
	}
	vip->hash = HASH_SOURCE;
	vip->hash_prefix = 0;
	if (!strcmp(text, "source"))
		return 0;
	if (strncmp(text, "source/", 7))
		return reader_expected(node, "hash", error, "one of: 5tuple, source, source/PREFIX");
	text += 7;
	digits = strspn(text, "0123456789");
	for (size_t i = 0; i < digits && i < 4; i++)
		prefix = 10 * prefix + (unsigned)(text[i] - '0');
	if (!digits || text[digits] || text[0] == '0' || prefix > 128)
		return reader_expected(node, "hash", error,
				       "source/PREFIX with a prefix of 1 to 32 bits (IPv4) or 128 (IPv6)");
	vip->hash_prefix = (uint8_t)prefix;
	return 0;
}

static int read_pool_name(const struct node *node, void *into, struct config_error *error)
{
	char name[CONFIG_NAME_MAX];

	*(size_t *)into = POOL_UNKNOWN;
	return reader_name(node, "pool", name, sizeof(name), error);
}

static int read_required(const struct node *node, void *into, struct config_error *error)
{
	return reader_bool(node, "required", into, error);
}

static int read_vip(const struct node *node, struct config_vip *vip, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "a VIP",
		.n_keys = 10,
		.keys = {
			{ "name", true, read_name, offsetof(struct config_vip, name) },
			{ "address", true, read_address, offsetof(struct config_vip, address) },
			{ "protocol", true, read_protocol, offsetof(struct config_vip, protocol) },
			{ "port", true, read_port, offsetof(struct config_vip, port) },
			{ "pool", true, read_pool_name, offsetof(struct config_vip, pool) },
			{ "policy", false, read_policy, 0 },
			{ "hash", false, read_hash, 0 },
			{ "on_failure", false, read_on_failure, offsetof(struct config_vip, on_failure) },
			{ "syn_limit", false, read_syn_limit, offsetof(struct config_vip, syn_limit) },
			{ "required", false, read_required, offsetof(struct config_vip, required) },
		},
	};
	const struct node *on_failure;
	uint8_t bits;
	int err;

	vip->required = true;
	err = reader_mapping(node, &mapping, vip, error);
	if (err)
		return err;
	vip->line = reader_find(node, "name")->line;
	vip->column = reader_find(node, "name")->column;
	on_failure = reader_find(node, "on_failure");
	bits = address_is_v4(&vip->address) ? 32 : 128;
	if (vip->hash_prefix > bits)
		return reader_expected(reader_find(node, "hash"), "hash", error,
				       "a prefix of 1 to %u bits: %s is IPv%c", bits,
				       reader_find(node, "address")->text, bits == 32 ? '4' : '6');
	if (vip->hash == HASH_SOURCE && !vip->hash_prefix)
		vip->hash_prefix = bits;
	if (vip->protocol == IPPROTO_UDP && !on_failure)
		vip->on_failure = ON_FAILURE_REHASH;
	if (vip->protocol == IPPROTO_UDP && vip->on_failure == ON_FAILURE_RESET)
		return reader_expected(on_failure, "on_failure", error, "rehash or drop: UDP has no reset");
	return complete_syn_limit(reader_find(node, "syn_limit"), vip, bits, error);
}

static int read_vips(const struct node *node, void *into, struct config_error *error)
{
	struct config *config = into;
	int err = reader_list(node, "vips", "a mapping", SHUNT_MAX_VIPS, error);

	if (err)
		return err;
	config->vips = calloc(node->n_children, sizeof(*config->vips));
	if (!config->vips)
		return -ENOMEM;
	config->n_vips = node->n_children;
	for (size_t i = 0; !err && i < config->n_vips; i++)
		err = read_vip(node->children[i], &config->vips[i], error);
	return err;
}

/* ---- pools ---- */

static int read_backend(const struct node *node, struct config_backend *backend, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "a backend",
		.n_keys = 6,
		.keys = {
			{ "name", true, read_name, offsetof(struct config_backend, name) },
			{ "address", true, read_address, offsetof(struct config_backend, address) },
			{ "weight", false, read_weight, offsetof(struct config_backend, weight) },
			{ "domain", false, read_domain, offsetof(struct config_backend, domain) },
			{ "forward", false, read_forward, offsetof(struct config_backend, forward) },
			{ "check", false, check_read, offsetof(struct config_backend, check) },
		},
	};
	int err;

	backend->weight = 100;
	err = reader_mapping(node, &mapping, backend, error);
	if (err)
		return err;
	backend->line = reader_find(node, "name")->line;
	backend->column = reader_find(node, "name")->column;
	backend->configured_weight = backend->weight;
	return 0;
}

static int read_backends(const struct node *node, void *into, struct config_error *error)
{
	struct config_pool *pool = into;
	int err = reader_list(node, "backends", "a mapping", SHUNT_MAX_BACKENDS - 1, error);

	if (err)
		return err;
	pool->backends = calloc(node->n_children, sizeof(*pool->backends));
	if (!pool->backends)
		return -ENOMEM;
	pool->n_backends = node->n_children;
	for (size_t i = 0; !err && i < pool->n_backends; i++)
		err = read_backend(node->children[i], &pool->backends[i], error);
	return err;
}

/* What the backends don't say themselves is said by their pool. */
static void backends_complete(const struct config_pool *pool, const struct node *nodes)
{
	for (size_t i = 0; i < pool->n_backends; i++) {
		struct config_backend *backend = &pool->backends[i];

		if (!backend->forward)
			backend->forward = pool->forward;
		if (!reader_find(nodes->children[i], "check"))
			backend->check = pool->check;
	}
}

static int read_pool(const struct node *node, struct config_pool *pool, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "a pool",
		.n_keys = 6,
		.keys = {
			{ "name", true, read_name, offsetof(struct config_pool, name) },
			{ "forward", true, read_forward, offsetof(struct config_pool, forward) },
			{ "slots", false, read_slots, offsetof(struct config_pool, n_slots) },
			{ "check", false, check_read, offsetof(struct config_pool, check) },
			{ "max_soft_eject", false, read_percent, offsetof(struct config_pool, max_soft_eject) },
			{ "backends", true, read_backends, 0 },
		},
	};
	int err;

	pool->n_slots = SHUNT_DEFAULT_SLOTS;
	pool->max_soft_eject = 50;
	err = reader_mapping(node, &mapping, pool, error);
	if (err)
		return err;
	pool->line = reader_find(node, "name")->line;
	pool->column = reader_find(node, "name")->column;
	backends_complete(pool, reader_find(node, "backends"));
	if (pool->n_backends > pool->n_slots) /* never with the default, so the key is there */
		return reader_expected(reader_find(node, "slots"), "slots", error,
				       "no fewer than the %zu backends of the pool", pool->n_backends);
	return 0;
}

static int read_pools(const struct node *node, void *into, struct config_error *error)
{
	struct config *config = into;
	int err = reader_list(node, "pools", "a mapping", SHUNT_MAX_POOLS, error);

	if (err)
		return err;
	config->pools = calloc(node->n_children, sizeof(*config->pools));
	if (!config->pools)
		return -ENOMEM;
	config->n_pools = node->n_children;
	for (size_t i = 0; !err && i < config->n_pools; i++)
		err = read_pool(node->children[i], &config->pools[i], error);
	return err;
}

static int read_interfaces(const struct node *node, void *into, struct config_error *error)
{
	struct config *config = into;

	return reader_interfaces(node, &config->interfaces, &config->n_interfaces, error);
}

/* ---- what must hold between items ---- */

/* Names come first in their structs, so one comparison serves VIPs, pools and backends. */
_Static_assert(offsetof(struct config_vip, name) == 0 && offsetof(struct config_pool, name) == 0 &&
		       offsetof(struct config_backend, name) == 0,
	       "compare_names() reads the name at offset 0");

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int compare_addresses(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct shunt_addr));
}

static int compare_services(const void *a, const void *b)
{
	const struct config_vip *v = a, *w = b;
	int order = compare_addresses(&v->address, &w->address);

	if (order)
		return order;
	return v->protocol != w->protocol ? v->protocol - w->protocol : v->port - w->port;
}

static int check_unique(struct reader_place *places, size_t n, int (*compare)(const void *, const void *),
			const char *what, const char *where, struct config_error *error)
{
	const struct node *first, *second;

	if (!reader_duplicate(places, n, compare, &first, &second))
		return 0;
	return node_fail(second, error, "duplicate %s %s, expected it once %s (first on line %u)", what,
			 reader_quote(second->text).s, where, first->line);
}

/* BFD has one session an address (RFC 5881 section 3), in whatever pool. */
static int check_bfd_addresses(const struct config *config, const struct node *pools, struct reader_place *places,
			       struct config_error *error)
{
	size_t n = 0;

	for (size_t p = 0; p < config->n_pools; p++) {
		const struct config_pool *pool = &config->pools[p];
		const struct node *nodes = reader_find(pools->children[p], "backends");

		for (size_t i = 0; i < pool->n_backends; i++)
			if (pool->backends[i].check.type == CHECK_BFD)
				places[n++] = (struct reader_place){ &pool->backends[i].address,
								     reader_find(nodes->children[i], "address") };
	}
	return check_unique(places, n, compare_addresses, "backend address", "among those that BFD asks", error);
}

/* `places` has room for all backends, and for all VIPs and pools. */
static int check_backends(const struct config *config, const struct node *pools, struct reader_place *places,
			  struct config_error *error)
{
	size_t n = 0;
	int err;

	for (size_t p = 0; p < config->n_pools; p++) {
		const struct config_pool *pool = &config->pools[p];
		const struct node *nodes = reader_find(pools->children[p], "backends");

		for (size_t i = 0; i < pool->n_backends; i++)
			places[i] = (struct reader_place){ &pool->backends[i].address,
							   reader_find(nodes->children[i], "address") };
		err = check_unique(places, pool->n_backends, compare_addresses, "backend address", "in its pool",
				   error);
		if (err)
			return err;
	}
	for (size_t p = 0; p < config->n_pools; p++) {
		const struct config_pool *pool = &config->pools[p];
		const struct node *nodes = reader_find(pools->children[p], "backends");

		for (size_t i = 0; i < pool->n_backends; i++)
			places[n++] =
				(struct reader_place){ &pool->backends[i], reader_find(nodes->children[i], "name") };
	}
	err = check_unique(places, n, compare_names, "backend name", "in the file", error);
	return err ? err : check_bfd_addresses(config, pools, places, error);
}

/* A VIP on a backend's own address would send a packet to itself, or probe a service instead of a host. */
static int check_vip_addresses(const struct config *config, const struct node *vips, struct reader_place *places,
			       struct config_error *error)
{
	const struct reader_place *places_end;

	for (size_t v = 0; v < config->n_vips; v++)
		places[v] =
			(struct reader_place){ &config->vips[v].address, reader_find(vips->children[v], "address") };
	places_end = places + config->n_vips;
	for (size_t p = 0; p < config->n_pools; p++) {
		for (size_t i = 0; i < config->pools[p].n_backends; i++) {
			const struct config_backend *backend = &config->pools[p].backends[i];

			for (const struct reader_place *at = places; at < places_end; at++)
				if (!compare_addresses(at->item, &backend->address))
					return node_fail(at->node, error,
							 "address %s belongs to backend %s (line %u), expected one "
							 "for the VIP alone",
							 at->node->text, reader_quote(backend->name).s, backend->line);
		}
	}
	return 0;
}

static int check_vips(const struct config *config, const struct node *vips, struct reader_place *places,
		      struct config_error *error)
{
	int err;

	for (size_t v = 0; v < config->n_vips; v++)
		places[v] = (struct reader_place){ &config->vips[v], reader_find(vips->children[v], "name") };
	err = check_unique(places, config->n_vips, compare_names, "VIP name", "in the file", error);
	if (err)
		return err;
	for (size_t v = 0; v < config->n_vips; v++)
		places[v] = (struct reader_place){ &config->vips[v], reader_find(vips->children[v], "address") };
	err = check_unique(places, config->n_vips, compare_services, "VIP address", "with the same protocol and port",
			   error);
	if (err)
		return err;
	return check_vip_addresses(config, vips, places, error);
}

static int check_pools(const struct config *config, const struct node *pools, struct reader_place *places,
		       struct config_error *error)
{
	for (size_t p = 0; p < config->n_pools; p++)
		places[p] = (struct reader_place){ &config->pools[p], reader_find(pools->children[p], "name") };
	return check_unique(places, config->n_pools, compare_names, "pool name", "in the file", error);
}

/* All that one item can't know of another. */
static int check_items(const struct config *config, const struct node *root, struct config_error *error)
{
	const struct node *pools = reader_find(root, "pools"), *vips = reader_find(root, "vips");
	struct reader_place *places;
	size_t n = 0;
	int err;

	for (size_t p = 0; p < config->n_pools; p++) {
		size_t room = SHUNT_MAX_BACKENDS - 1 - n;

		if (config->pools[p].n_backends > room)
			return node_fail(reader_find(pools->children[p], "backends")->children[room], error,
					 "too many backends, expected at most %d in the file", SHUNT_MAX_BACKENDS - 1);
		n += config->pools[p].n_backends;
	}
	places = calloc(SHUNT_MAX_BACKENDS, sizeof(*places));
	_Static_assert(SHUNT_MAX_BACKENDS >= SHUNT_MAX_VIPS && SHUNT_MAX_BACKENDS >= SHUNT_MAX_POOLS, "room");
	if (!places)
		return -ENOMEM;
	err = check_pools(config, pools, places, error);
	if (!err)
		err = check_backends(config, pools, places, error);
	if (!err)
		err = check_vips(config, vips, places, error);
	free(places);
	return err;
}

/* Pools are sorted, VIPs are not yet: name i of the file belongs to VIP i. */
static int resolve_pools(struct config *config, const struct node *vips, struct config_error *error)
{
	for (size_t v = 0; v < config->n_vips; v++) {
		const struct node *node = reader_find(vips->children[v], "pool");
		const struct config_pool *pool =
			bsearch(node->text, config->pools, config->n_pools, sizeof(*config->pools), compare_names);
		const char *names[SHUNT_MAX_POOLS];
		char candidates[192];

		if (pool) {
			config->vips[v].pool = (size_t)(pool - config->pools);
			continue;
		}
		for (size_t p = 0; p < config->n_pools; p++)
			names[p] = config->pools[p].name;
		return node_fail(node, error, "unknown pool %s, expected %s", reader_quote(node->text).s,
				 reader_candidates(node->text, names, config->n_pools, candidates, sizeof(candidates)));
	}
	return 0;
}

static int read_config(const struct node *root, struct config *config, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "the configuration",
		.n_keys = 13,
		.keys = {
			{ "interfaces", true, read_interfaces, 0 },
			{ "seed", true, read_seed, offsetof(struct config, seed) },
			{ "probe", false, read_probe, 0 },
			{ "detector", false, read_detector, offsetof(struct config, detector) },
			{ "flows", false, read_flows, 0 },
			{ "control", false, read_control, 0 },
			{ "pin", false, read_pin, offsetof(struct config, pin) },
			{ "state", false, read_state, offsetof(struct config, state) },
			{ "keepalived", false, read_keepalived, offsetof(struct config, keepalived) },
			{ "peer", false, read_peer, offsetof(struct config, peer) },
			{ "http", false, read_http, offsetof(struct config, http) },
			{ "vips", true, read_vips, 0 },
			{ "pools", true, read_pools, 0 },
		},
	};
	int err = reader_mapping(root, &mapping, config, error);

	if (!err)
		err = check_items(config, root, error);
	if (err)
		return err;
	for (size_t p = 0; p < config->n_pools; p++)
		qsort(config->pools[p].backends, config->pools[p].n_backends, sizeof(*config->pools[p].backends),
		      compare_names);
	qsort(config->pools, config->n_pools, sizeof(*config->pools), compare_names);
	err = resolve_pools(config, reader_find(root, "vips"), error);
	if (err)
		return err;
	qsort(config->vips, config->n_vips, sizeof(*config->vips), compare_names);
	return 0;
}

int config_parse(struct config **out, const char *text, size_t length, struct config_error *error)
{
	struct document *document;
	struct config *config;
	int err = document_parse(&document, text, length, error);

	if (err)
		return err;
	config = calloc(1, sizeof(*config));
	if (!config) {
		document_free(document);
		return -ENOMEM;
	}
	config->probe_interval_ns = 100000;
	config->probe_multiplier = 3;
	config->probe_doubt_ns = 3000000;
	config->probe_hold_ns = 1000000000;
	config->probe_hold_max_ns = 60000000000;
	config->probe_cpu = -1;
	config->detector = DETECTOR_KERNEL;
	config->flows_max = CONFIG_FLOWS_DEFAULT;
	config->flows_closed_ns = 60000000000;
	config->flows_idle_ns = 3600000000000;
	memcpy(config->control_socket, SHUNT_CONTROL_SOCKET, sizeof(SHUNT_CONTROL_SOCKET));
	memcpy(config->control_group, CONFIG_CONTROL_GROUP, sizeof(CONFIG_CONTROL_GROUP));
	memcpy(config->pin, SHUNT_PIN, sizeof(SHUNT_PIN));
	memcpy(config->state, SHUNT_STATE, sizeof(SHUNT_STATE));

	err = read_config(document->root, config, error);
	document_free(document);
	if (err)
		config_free(config);
	else
		*out = config;
	return err;
}

void config_free(struct config *config)
{
	if (!config)
		return;
	for (size_t p = 0; p < config->n_pools; p++)
		free(config->pools[p].backends);
	free(config->pools);
	free(config->vips);
	free(config->interfaces);
	free(config);
}

/* ---- the way back ---- */

static const char *forward_name(enum forward_mode forward)
{
	return forward_names[forward == FORWARD_L2 ? 0 : 1];
}

static void format_vip(FILE *f, const struct config *config, const struct config_vip *vip)
{
	fprintf(f, "  - {name: %s, address: ", vip->name);
	writer_address(f, &vip->address);
	fprintf(f, ", protocol: %s, ", protocol_names[vip->protocol == IPPROTO_TCP ? 0 : 1]);
	if (vip->port)
		fprintf(f, "port: %u, ", vip->port);
	else
		fprintf(f, "port: any, ");
	fprintf(f, "pool: %s, policy: %s, ", config->pools[vip->pool].name, policy_names[0]);
	if (vip->hash == HASH_5TUPLE)
		fprintf(f, "hash: 5tuple, ");
	else
		fprintf(f, "hash: source/%u, ", vip->hash_prefix);
	fprintf(f, "on_failure: %s", on_failure_names[vip->on_failure]);
	if (vip->syn_limit.action != SYN_LIMIT_OFF)
		fprintf(f, ", syn_limit: {rate: %u, burst: %u, prefix: %u, action: %s}", vip->syn_limit.rate,
			vip->syn_limit.burst, vip->syn_limit.prefix, syn_action_names[vip->syn_limit.action]);
	fprintf(f, "%s}\n", vip->required ? "" : ", required: false");
}

static void format_pool(FILE *f, const struct config_pool *pool)
{
	fprintf(f, "  - name: %s\n    forward: %s\n    slots: %u\n    check: ", pool->name, forward_name(pool->forward),
		pool->n_slots);
	check_format(f, &pool->check);
	fprintf(f, "\n    max_soft_eject: %u%%\n    backends:\n", pool->max_soft_eject);
	for (size_t i = 0; i < pool->n_backends; i++) {
		const struct config_backend *backend = &pool->backends[i];

		fprintf(f, "      - {name: %s, address: ", backend->name);
		writer_address(f, &backend->address);
		fprintf(f, ", weight: %u, ", backend->weight);
		if (*backend->domain)
			fprintf(f, "domain: %s, ", backend->domain);
		fprintf(f, "forward: %s", forward_name(backend->forward));
		if (!check_equal(&backend->check, &pool->check)) {
			fprintf(f, ", check: ");
			check_format(f, &backend->check);
		}
		fprintf(f, "}\n");
	}
}

static void format_path(FILE *f, const char *key, const char *path)
{
	fputs(key, f);
	writer_text(f, *path ? path : "none");
}

static void format_keepalived(FILE *f, const struct config_keepalived *k)
{
	if (!k->track_file[0] && !k->notify_fifo[0])
		return;
	fprintf(f, "keepalived: {");
	if (k->track_file[0])
		format_path(f, "track_file: ", k->track_file);
	if (k->notify_fifo[0])
		format_path(f, k->track_file[0] ? ", notify_fifo: " : "notify_fifo: ", k->notify_fifo);
	fprintf(f, "}\n");
}

static void format_peer(FILE *f, const struct config_peer *peer)
{
	if (!peer->key_file[0])
		return;
	fprintf(f, "peer: {address: ");
	writer_address(f, &peer->address);
	fprintf(f, ", local: ");
	writer_address(f, &peer->local);
	fprintf(f, ", port: %u", peer->port);
	format_path(f, ", key_file: ", peer->key_file);
	fprintf(f, ", bandwidth_mbit: %u}\n", peer->bandwidth_mbit);
}

static void format_http(FILE *f, const struct config_http *http)
{
	if (!http->on)
		return;
	fprintf(f, "http: {address: ");
	writer_address(f, &http->address);
	fprintf(f, ", port: %u}\n", http->port);
}

char *config_format(const struct config *config)
{
	char interval[DURATION_TEXT_MAX], doubt[DURATION_TEXT_MAX], hold[DURATION_TEXT_MAX],
		hold_max[DURATION_TEXT_MAX];
	char closed[DURATION_TEXT_MAX], idle[DURATION_TEXT_MAX];
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	writer_interfaces(f, config->interfaces, config->n_interfaces);
	fprintf(f, "seed: 0x%016llx\n", (unsigned long long)config->seed);
	fprintf(f, "probe: {interval: %s, multiplier: %u, doubt: %s, hold: %s, hold_max: %s, ",
		duration_format(config->probe_interval_ns, interval, sizeof(interval)), config->probe_multiplier,
		duration_format(config->probe_doubt_ns, doubt, sizeof(doubt)),
		duration_format(config->probe_hold_ns, hold, sizeof(hold)),
		duration_format(config->probe_hold_max_ns, hold_max, sizeof(hold_max)));
	if (config->probe_key_file[0]) {
		fprintf(f, "key_file: ");
		writer_text(f, config->probe_key_file);
		fprintf(f, ", ");
	}
	fprintf(f, "cpu: ");
	if (config->probe_cpu < 0)
		fprintf(f, "auto}\n");
	else
		fprintf(f, "%d}\n", config->probe_cpu);
	fprintf(f, "detector: %s\n", detector_names[config->detector == DETECTOR_KERNEL ? 0 : 1]);
	fprintf(f, "flows: {max: %u, closed: %s, idle: %s}\n", config->flows_max,
		duration_format(config->flows_closed_ns, closed, sizeof(closed)),
		duration_format(config->flows_idle_ns, idle, sizeof(idle)));
	fprintf(f, "control: {socket: ");
	writer_text(f, config->control_socket);
	fprintf(f, ", group: %s", config->control_group);
	if (config->control_admins[0])
		fprintf(f, ", admins: %s", config->control_admins);
	fprintf(f, "}\n");
	format_path(f, "pin: ", config->pin);
	format_path(f, "\nstate: ", config->state);
	fprintf(f, "\n");
	format_keepalived(f, &config->keepalived);
	format_peer(f, &config->peer);
	format_http(f, &config->http);
	fprintf(f, "vips:\n");
	for (size_t i = 0; i < config->n_vips; i++)
		format_vip(f, config, &config->vips[i]);
	fprintf(f, "pools:\n");
	for (size_t i = 0; i < config->n_pools; i++)
		format_pool(f, &config->pools[i]);
	return writer_close(f, &text);
}
