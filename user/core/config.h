/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config.h - the configuration as a model: what shunt.yaml and agent.yaml may say.
 *
 * Decides what is valid and names the place of what isn't; leaves to the programs what only a running machine knows
 * (does the interface exist, can this interval be sent, is there such a group). Pure: text in, model or error out.
 * libyaml (the library under libcyaml) parses; it keeps the line and column of every node, which the checks that come
 * after parsing need. Anchors, aliases, tags and a second document are refused: what a line says is what it means.
 *
 * The parts: document.c (YAML to a tree of places), reader.c (a tree to typed values), config.c and agent_config.c
 * (the two files), check.c, address.c, duration.c. Tests: tests/golden, tests/unit/config_test.c and config_fuzz_test.c.
 */
#ifndef SHUNT_CORE_CONFIG_H
#define SHUNT_CORE_CONFIG_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shunt/abi.h"

#define CONFIG_NAME_MAX 64 /* bytes, with the terminating zero; characters: [A-Za-z0-9._-], not '.' or '-' first */
#define CONFIG_TEXT_MAX (4U << 20) /* longest file, bytes; chosen: four times a full one */
#define CONFIG_SLOTS_MIN 251 /* smallest prime allowed for `slots:`, chosen: a table for two or three backends */
#define CONFIG_INTERVAL_MIN_NS 50000ULL /* chosen: 50 us is the tick's own period */
#define CONFIG_INTERVAL_MAX_NS 10000000000ULL
#define CONFIG_MULTIPLIER_MIN 2 /* one lost probe convicts nobody */
#define CONFIG_MULTIPLIER_MAX (SHUNT_ROUNDS / 2)
#define CONFIG_HOLD_MAX_NS 3600000000000ULL
#define CONFIG_DOUBT_MAX_NS 1000000000ULL
#define CONFIG_CPU_MAX 1023 /* glibc's CPU_SETSIZE - 1 */
#define CONFIG_SYN_RATE_MAX 1000000 /* of `rate` and of `burst` */
#define CONFIG_FLOWS_MIN 1024
#define CONFIG_FLOWS_MAX 16777216 /* entries: 1.6 GB of journal */
#define CONFIG_FLOWS_DEFAULT 262144
#define CONFIG_CLOSED_MAX_NS 3600000000000ULL
#define CONFIG_IDLE_MIN_NS 1000000000ULL
#define CONFIG_IDLE_MAX_NS 604800000000000ULL /* a week */
#define CONFIG_SOCKET_MAX 108 /* bytes of a Unix socket's path, with the terminating zero: sun_path of unix(7) */
#define CONFIG_PATH_MAX 256 /* bytes of any other path and of a URL, with the terminating zero; chosen */
#define CONFIG_CONTROL_GROUP "shunt"
#define AGENT_CONTROL_SOCKET "/run/shunt/agent.sock"
#define AGENT_BEAT_SOCKET "/run/shunt/beat.sock"
#define AGENT_PIN "/sys/fs/bpf/shunt-agent"
#define SHUNT_PIN "/sys/fs/bpf/shunt"
#define SHUNT_STATE "/var/lib/shunt"
#define CONFIG_PORT_MIN 1024 /* that shuntd has for itself: it keeps no CAP_NET_BIND_SERVICE for those below */
#define CONFIG_PEER_PORT 7785 /* UDP; chosen: the number after S-BFD's, of no service with IANA */
#define CONFIG_PEER_MBIT_MAX 100000
#define CONFIG_PEER_MBIT_DEFAULT 100
#define CONFIG_HTTP_PORT 9784

/* Where in the file and what: printed as "FILE:LINE:COLUMN: TEXT". Lines and columns count from 1. */
struct config_error {
	unsigned line, column;
	char text[256]; /* "what, and what was expected" */
};

enum config_detector { DETECTOR_KERNEL, DETECTOR_CONTROLLER };
enum config_hash { HASH_5TUPLE, HASH_SOURCE };

/* `check: {type: ...}` of a pool, and of a backend in its place: how it is asked whether it lives. */
struct config_check {
	enum config_check_type {
		CHECK_HEARTBEAT, /* its agent answers the probes: the default, and what all promises are about */
		CHECK_ECHO, /* probes that its host forwards back (RFC 9747); interval and multiplier are probe's */
		CHECK_BFD, /* BFD, asynchronous mode, one hop (RFC 5880, RFC 5881) */
		CHECK_TCP, /* a connection to `port` can be opened */
		CHECK_HTTP, /* GET of `path` at `port` is answered with a status from 200 to 299 */
	} type;
	/* what a type doesn't have is 0 or "" */
	uint64_t interval_ns; /* bfd: 3 ms .. 10 s, default 10 ms; tcp, http: 10 ms .. 1 h, default 1 s */
	uint64_t
		timeout_ns; /* tcp, http: 10 ms .. 1 min, default 1 s; longer than the interval, it delays the next question */
	uint32_t multiplier; /* bfd: 2 .. 255, default 3 */
	uint32_t rise, fall; /* tcp, http: answers, failures in a row, 1 .. 100; defaults 2 and 3 */
	uint16_t port; /* tcp, http: required, host order */
	char path[CONFIG_PATH_MAX]; /* http: begins with '/', printable, no space; default "/health" */
};

struct config_backend {
	char name[CONFIG_NAME_MAX]; /* unique in the file: it is the identity that the tables hash */
	struct shunt_addr address; /* unique in its pool */
	uint32_t weight; /* in force, 1 .. 65535, default 100 */
	uint32_t configured_weight; /* as the file says it; another than `weight` while a command holds against it */
	char domain[CONFIG_NAME_MAX]; /* failure domain; "": its own */
	enum forward_mode forward; /* the pool's, unless it says otherwise */
	struct config_check check; /* the pool's, unless it says otherwise */
	unsigned line, column; /* of its name, for what is found out later */
};

struct config_pool {
	char name[CONFIG_NAME_MAX];
	enum forward_mode forward; /* required: l2 or ipip */
	uint32_t n_slots; /* prime, CONFIG_SLOTS_MIN .. SHUNT_MAX_SLOTS, default SHUNT_DEFAULT_SLOTS */
	struct config_check check; /* default heartbeat */
	uint8_t max_soft_eject; /* percent of its backends that soft verdicts may take new flows from, 0 .. 100, default 50 */
	struct config_backend *backends; /* sorted by name: the order of lines never matters */
	size_t n_backends; /* 1 .. SHUNT_MAX_BACKENDS - 1, counted over all pools; never more than n_slots */
	unsigned line, column;
};

/* `syn_limit: {rate: 100, burst: 200, prefix: 32, action: drop}`, TCP only; absent: off. */
struct config_syn_limit {
	enum config_syn_action { SYN_LIMIT_OFF, SYN_LIMIT_COUNT, SYN_LIMIT_DROP } action; /* default drop */
	uint32_t rate; /* SYNs a second from one source prefix, 1 .. CONFIG_SYN_RATE_MAX; required but for `off` */
	uint32_t burst; /* SYNs at once, 1 .. CONFIG_SYN_RATE_MAX, default 2 x rate */
	uint8_t prefix; /* bits of the source, 1..32 or 1..128; default 32 or 64. All of it is 0 where it is off */
};

struct config_vip {
	char name[CONFIG_NAME_MAX];
	struct shunt_addr address;
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	uint16_t port; /* host order; 0: every port ("any") */
	size_t pool; /* index into pools */
	enum config_hash hash;
	uint8_t hash_prefix; /* HASH_SOURCE: bits of the source that count, 1..32 or 1..128 */
	enum on_failure on_failure; /* reset, rehash or drop, default reset; UDP: rehash or drop, default rehash */
	struct config_syn_limit syn_limit;
	bool required; /* default true: without a living backend for it this balancer calls itself ill */
	unsigned line, column;
};

/* `peer: {address, local, port, key_file, bandwidth_mbit}`: the other balancer of a pair. Off where it is absent. */
struct config_peer {
	struct shunt_addr address; /* all 0: there is none */
	struct shunt_addr local; /* ours, of the same family; required */
	uint16_t port; /* UDP, of both, host order; default CONFIG_PEER_PORT */
	char key_file[CONFIG_PATH_MAX]; /* required: a key file as probe's */
	uint32_t bandwidth_mbit; /* Mbit/s that are sent at most, 1 .. CONFIG_PEER_MBIT_MAX */
};

/* `keepalived: {track_file, notify_fifo}`; "": not that. */
struct config_keepalived {
	char track_file[CONFIG_PATH_MAX]; /* written by shuntd: 0, well; 1, ill */
	char notify_fifo[CONFIG_PATH_MAX]; /* read by shuntd */
};

/* `http: {address, port}`: metrics and the status page. Off where it is absent. */
struct config_http {
	bool on;
	struct shunt_addr address; /* default 127.0.0.1; the loopback's and the unspecified ones are allowed */
	uint16_t port; /* host order; default CONFIG_HTTP_PORT */
};

struct config {
	char (*interfaces)[IF_NAMESIZE]; /* sorted, unique */
	size_t n_interfaces; /* 1 .. SHUNT_MAX_INTERFACES */
	uint64_t seed; /* required: both balancers of a pair must say the same */
	uint64_t probe_interval_ns; /* 50 us .. 10 s, default 100 us */
	uint32_t probe_multiplier; /* 2 .. SHUNT_ROUNDS / 2, default 3 */
	uint64_t probe_doubt_ns; /* 0 .. 1 s, default 3 ms */
	uint64_t probe_hold_ns; /* 0 .. 1 h, default 1 s */
	uint64_t
		probe_hold_max_ns; /* doubled with each fall, up to here; probe_hold_ns .. 1 h, default 1 min or hold if longer */
	char probe_key_file[CONFIG_PATH_MAX]; /* `key_file: PATH` of probe; "": probes bear no tag */
	int probe_cpu; /* CPU of the probing thread and the tick; -1 ("auto", the default): chosen */
	enum config_detector detector;
	uint32_t flows_max; /* `flows: {max: N}`: entries of the journal, CONFIG_FLOWS_MIN .. CONFIG_FLOWS_MAX */
	uint64_t flows_closed_ns; /* `closed`: a flow whose client said FIN is kept so long; 0 .. 1 h, default 1 min */
	uint64_t flows_idle_ns; /* `idle`: unseen for so long, its client is asked; 1 s .. 1 week, default 1 h */
	char control_socket[CONFIG_SOCKET_MAX]; /* default SHUNT_CONTROL_SOCKET */
	char control_group[CONFIG_NAME_MAX]; /* may read; default CONFIG_CONTROL_GROUP, which need not exist */
	char control_admins[CONFIG_NAME_MAX]; /* its members may command; "": root alone */
	char pin[CONFIG_PATH_MAX]; /* `pin: DIR` in a bpffs: programs and maps outlive shuntd; default SHUNT_PIN; none: "" */
	char state
		[CONFIG_PATH_MAX]; /* `state: DIR`: what outlives a restart of the host; default SHUNT_STATE; none: "" */
	struct config_keepalived keepalived;
	struct config_peer peer;
	struct config_http http;
	struct config_vip *vips; /* sorted by name; (address, protocol, port) unique */
	size_t n_vips; /* 1 .. SHUNT_MAX_VIPS */
	struct config_pool *pools; /* sorted by name */
	size_t n_pools; /* 1 .. SHUNT_MAX_POOLS */
};

/*
 * Parse and check `length` bytes of shunt.yaml. 0, and *out is owned by the caller (config_free); or -EINVAL with
 * *error filled; or -ENOMEM.
 */
int config_parse(struct config **out, const char *text, size_t length, struct config_error *error);
void config_free(struct config *config);

/*
 * Where a text that parses says `key` ("seed", "flows.max", "interfaces.eth0": that item): into error->line and ->column.
 * Where it doesn't, the place of what would hold it.
 */
void config_place(const char *text, size_t length, const char *key, struct config_error *error);

/* The whole model as shunt.yaml, with the weights in force and defaults written out; parses to an equal model. To be freed; NULL: no memory. */
char *config_format(const struct config *config);

/* `engine:` of agent.yaml: which processes are the engine, and what else says how it is. Off where it is absent. */
struct config_engine {
	/* at most one of `listen: PORT`, `cgroup: PATH`, `pid_file: PATH` */
	enum config_engine_by { ENGINE_BY_NOTHING, ENGINE_BY_PORT, ENGINE_BY_CGROUP, ENGINE_BY_PID_FILE } by;
	uint16_t port; /* TCP, host order: whoever listens on it, on any address of this network namespace */
	char cgroup[CONFIG_PATH_MAX]; /* a directory of /sys/fs/cgroup, and all below it */
	char pid_file[CONFIG_PATH_MAX];
	bool only_main; /* `workers: main`: what becomes of its children doesn't matter; default `all` */
	uint64_t worker_age_ns; /* a younger worker's end doesn't matter; 0 .. 1 h, default 10 s */
	uint64_t beat_limit_ns; /* `beat: {limit: TIME}`, 1 ms .. 1 h; 0: it isn't listened to */
	char beat_socket
		[CONFIG_SOCKET_MAX]; /* where the engine gets the memory it beats in; default AGENT_BEAT_SOCKET */
	char beat_group[CONFIG_NAME_MAX]; /* who may, beside root; "": nobody */
	char beat_pin[CONFIG_PATH_MAX]; /* that memory outlives the agent as this file in a bpffs; "": it doesn't */
	char health_url[CONFIG_PATH_MAX]; /* `health: {url: http://...}`; "": nobody is asked */
	char health_full_url[CONFIG_PATH_MAX]; /* `full_url: http://...`; "": only `url` is asked, and may say 429 */
	uint64_t health_interval_ns; /* 10 ms .. 1 h, default 1 s */
	uint64_t health_timeout_ns; /* 10 ms .. 1 min, default 2 s */
	uint32_t health_rise, health_fall; /* answers in a row, 1 .. 100; defaults 2 and 3 */
};

/* agent.yaml */
struct agent_config {
	char (*interfaces)[IF_NAMESIZE]; /* where probes and tunnelled packets arrive; sorted, unique */
	size_t n_interfaces; /* 1 .. SHUNT_MAX_INTERFACES */
	struct shunt_addr *vips; /* put on the loopback when setup_vips; the only inner destinations decapsulated */
	size_t n_vips; /* 0 .. AGENT_MAX_VIPS; sorted, unique, as the balancers are */
	bool setup_vips; /* `setup_vips: true`: add the VIPs to lo, arp_ignore and arp_announce on the interfaces */
	struct shunt_addr *balancers; /* whose probes are answered; none: anybody's */
	size_t n_balancers; /* 0 .. AGENT_MAX_BALANCERS */
	char control_socket[CONFIG_SOCKET_MAX]; /* `control: {socket: PATH}`, default AGENT_CONTROL_SOCKET */
	char key_file
		[CONFIG_PATH_MAX]; /* `key_file: PATH`: probes without the right tag are refused; "": tags aren't looked at */
	char pin[CONFIG_PATH_MAX]; /* `pin: DIR` in a bpffs: the kernel's side outlives the agent; default AGENT_PIN; `pin: none`: "" */
	struct config_engine engine;
};

int agent_config_parse(struct agent_config **out, const char *text, size_t length, struct config_error *error);
void agent_config_free(struct agent_config *config);
char *agent_config_format(const struct agent_config *config); /* as config_format() */

/*
 * "203.0.113.10" or "2001:db8::1" to an address; 0 or -EINVAL. An IPv4-mapped literal (::ffff:a.b.c.d) is refused:
 * inside, it is the IPv4 address (RFC 4291 2.5.5.2), and one address must have one spelling.
 */
int address_parse(struct shunt_addr *out, const char *text);

/* The reverse, RFC 5952 for IPv6; writes at most ADDRESS_TEXT_MAX bytes, zero included; returns the buffer. */
#define ADDRESS_TEXT_MAX 46 /* INET6_ADDRSTRLEN */
const char *address_format(const struct shunt_addr *address, char *buffer, size_t size);
bool address_is_v4(const struct shunt_addr *address);

/* "100us", "1s", "10m": a whole number and one of ns us ms s m h; 0 or -EINVAL (no unit, no number, overflow). */
int duration_parse(uint64_t *ns, const char *text);

/* The reverse, in the largest unit that loses nothing; writes at most DURATION_TEXT_MAX bytes; returns the buffer. */
#define DURATION_TEXT_MAX 24
const char *duration_format(uint64_t ns, char *buffer, size_t size);

#endif
