/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * control_test.c - the control socket against polite and hostile clients, what it answers, and the ledger.
 *
 * The real control.c, answer.c and ledger.c run in this thread over a real socket; the dataplane is two arrays. The
 * clients never block: between their steps the daemon's loop runs (pump()), as it would beside its other work.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/flow.h"
#include "shunt/control.h"
#include "shunt/hash.h"
#include "shunt/heartbeat.h"
#include "shunt/round_trip.h"
#include "shuntd/answer.h"
#include "shuntd/backends.h"
#include "shuntd/checker.h"
#include "shuntd/control.h"
#include "shuntd/health.h"
#include "shuntd/journal.h"
#include "shuntd/keepalived.h"
#include "shuntd/peer.h"
#include "shuntd/probes.h"
#include "shuntd/record.h"
#include "shuntd/reload.h"

#define DEADLINE_MS 20000 /* for what must happen; nothing here waits for time to pass, but for patience to end */
#define N_FLOWS 50000 /* entries of the journal: several pages */
#define N_CROWD 4000 /* backends whose listing does not fit into a socket's buffer */

/* ---- the dataplane that is not there ---- */

static struct backend records[SHUNT_MAX_BACKENDS];
static struct session sessions[SHUNT_MAX_BACKENDS];
static struct round_trips round_trips[SHUNT_MAX_BACKENDS];
static struct detector detector;
static int traffic_error;
static struct backend_flows backend_flows[SHUNT_MAX_BACKENDS];
static struct flow flows[N_FLOWS];
static struct journal_state journal_state;

struct backend *dataplane_backends(struct dataplane *dp)
{
	(void)dp;
	return records;
}

struct session *dataplane_sessions(struct dataplane *dp)
{
	(void)dp;
	return sessions;
}

struct detector *dataplane_detector(struct dataplane *dp)
{
	(void)dp;
	return &detector;
}

struct about *dataplane_about(struct dataplane *dp)
{
	static struct about about;

	(void)dp;
	return &about;
}

bool dataplane_inherited(const struct dataplane *dp)
{
	(void)dp;
	return false;
}

bool dataplane_replaces(const struct dataplane *dp)
{
	(void)dp;
	return false;
}

bool dataplane_attached(const struct dataplane *dp, unsigned ifindex)
{
	(void)dp;
	(void)ifindex;
	return false;
}

uint32_t dataplane_program_id(const struct dataplane *dp)
{
	(void)dp;
	return 0;
}

int dataplane_vip_traffic(struct dataplane *dp, uint32_t vip, struct traffic *out)
{
	(void)dp;
	*out = (struct traffic){ .packets = 100 + vip, .bytes = 6000, .new_flows = 7, .policed = 2 };
	return traffic_error;
}

int dataplane_backend_traffic(struct dataplane *dp, uint32_t backend, struct traffic *out)
{
	(void)dp;
	*out = (struct traffic){ .packets = 1000 + backend, .bytes = 60000, .new_flows = 70 };
	return traffic_error;
}

int dataplane_reasons(struct dataplane *dp, uint64_t out[REASON_COUNT])
{
	(void)dp;
	for (int i = 0; i < REASON_COUNT; i++)
		out[i] = (uint64_t)i;
	return traffic_error;
}

const struct prober_stats *prober_stats(const struct prober *p)
{
	static struct prober_stats stats = {
		.rounds_late = 3, .rounds_skipped = 2, .send_errors = 1, .late_max_ns = 4500
	};

	(void)p;
	return &stats;
}

const char *backend_state_name(uint32_t word)
{
	static const char *const names[] = { "unused", "down", "up", "draining" };

	return names[BACKEND_WORD_STATE(word)];
}

const char *backend_verdict_name(uint32_t word)
{
	static const char *const names[] = { "none",       "joining", "answering", "silent",
					     "unresolved", "drained", "asked",     "removed" };

	return names[BACKEND_WORD_VERDICT(word)];
}

const char *shuntd_ill(const struct shuntd *s, char *why, size_t size)
{
	(void)s;
	snprintf(why, size, "no backend of VIP chat is up");
	return why;
}

json_t *keepalived_track_json(const struct keepalived *k)
{
	(void)k;
	return json_integer(1);
}

json_t *keepalived_instances_json(const struct keepalived *k)
{
	(void)k;
	return json_pack("[{s:s, s:b, s:s, s:i, s:I}]", "name", "VI_1", "group", 0, "state", "master", "priority", 100,
			 "since_ns", (json_int_t)1);
}

void checker_describe(struct checker *c, uint32_t id, char *text, size_t size)
{
	(void)c;
	snprintf(text, size, "%s", id == 1 ? "how it stands" : "");
}

bool backend_is_doubted(const struct shuntd *s, const struct backend_run *b)
{
	(void)s;
	(void)b;
	return false;
}

struct admission_limits backends_limits(const struct shuntd *s)
{
	(void)s;
	return (struct admission_limits){ .gap_ns = 1, .hold_ns = 1000000000, .hold_max_ns = 60000000000 };
}

const struct round_trips *dataplane_round_trips(struct dataplane *dp)
{
	(void)dp;
	return round_trips;
}

struct backend_flows *dataplane_backend_flows(struct dataplane *dp)
{
	(void)dp;
	return backend_flows;
}

struct flow *dataplane_journal(struct dataplane *dp)
{
	(void)dp;
	return flows;
}

struct journal_state *dataplane_journal_state(struct dataplane *dp)
{
	(void)dp;
	return &journal_state;
}

int dataplane_flow_stats(struct dataplane *dp, struct flow_stats *out)
{
	(void)dp;
	*out = (struct flow_stats){ .opened = 5, .full = 4, .looked_up = 3 };
	return traffic_error;
}

int dataplane_flow_find(struct dataplane *dp, const struct flow_key *key, uint32_t *entry)
{
	(void)dp;
	for (*entry = 0; *entry < journal_state.used; ++*entry)
		if (!memcmp(&flows[*entry].key, key, sizeof(*key)))
			return 0;
	return -ENOENT;
}

uint64_t journal_in_use(const struct journal *journal)
{
	(void)journal;
	return 1234;
}

/* All of them took less than 100 us, but one. */
void probes_round_trips(const struct shuntd *s, const struct backend_run *b, uint64_t counts[ROUND_TRIP_BUCKETS])
{
	(void)s;
	memset(counts, 0, ROUND_TRIP_BUCKETS * sizeof(*counts));
	counts[round_trip_bucket(90000)] = b->id;
	counts[ROUND_TRIP_BUCKETS - 1] = 1;
}

bool record_histogram(const struct record *record, unsigned i, struct record_histogram *out)
{
	static struct histogram times;

	(void)record;
	*out = (struct record_histogram){ i ? "steering" : "detection", "", i ? NULL : "silent", &times };
	return i < 2;
}

/* ---- what the daemon's other parts were told ---- */

static struct {
	struct flow_filter filter;
	struct shunt_addr client;
	int resets, drains, undrains;
	int drain_error;
	bool forced, looked, busy;
	uid_t commander;
	size_t length; /* of the text that was applied */
	char name[32];
	uint32_t weight;
	json_t *changes; /* of the next reload */
	uint64_t window_ns; /* that figures were asked for */
} told;

/* Half of the time up, whatever the window, which is told. */
int record_figures(struct record *record, uint64_t window_ns, struct record_figures *out)
{
	const struct availability half = { .time_ns = { [STANDING_UP] = 3000, [STANDING_DOWN] = 3000 },
					   .failures = 2,
					   .up_times_ns = 8000,
					   .repairs = 1,
					   .repairs_ns = 5000 };

	(void)record;
	told.window_ns = window_ns;
	*out = (struct record_figures){ .backends = calloc(N_CROWD + 100, sizeof(half)),
					.pools = calloc(N_CROWD, sizeof(half)),
					.window_ns = 6000,
					.since_ns = 1795244399000000000 };
	for (size_t i = 0; i < N_CROWD; i++)
		out->backends[i] = out->pools[i] = half;
	return 0;
}

void record_figures_free(struct record_figures *figures)
{
	free(figures->backends);
	free(figures->pools);
}

/* The journal's filter in short: what this file asks for. */
bool flow_matches(const struct flow_filter *filter, const struct flow *flow)
{
	uint8_t bytes = filter->client_prefix / 8;
	const uint8_t *a = (const uint8_t *)filter->client, *b = (const uint8_t *)&flow->key.client;

	if (filter->client && address_is_v4(filter->client))
		bytes += 12;
	return (!filter->backend || filter->backend == FLOW_WORD_BACKEND(flow->word)) &&
	       (!filter->vip || filter->vip == flow->vip + 1) && (!filter->client || !memcmp(a, b, bytes)) &&
	       (!filter->client_port || filter->client_port == flow->key.client_port) &&
	       (!filter->state || filter->state == FLOW_WORD_STATE(flow->word)) &&
	       (!filter->detour || FLOW_WORD_FLAGS(flow->word) & FLOW_DETOUR);
}

size_t journal_reset(struct journal *journal, const struct flow_filter *filter)
{
	(void)journal;
	told.filter = *filter;
	if (filter->client)
		told.client = *filter->client;
	told.resets++;
	return 7;
}

json_t *peering_json(const struct peering *peering)
{
	(void)peering;
	return json_array();
}

int backends_drain(struct shuntd *s, struct backend_run *b, enum verdict why, uint64_t deadline_ns)
{
	(void)s;
	assert_int_equal(why, VERDICT_DRAINED);
	told.drains++;
	b->drain_deadline_ns = deadline_ns;
	b->draining = why;
	if (told.drain_error != -ENOTCONN)
		records[b->id].word = BACKEND_WORD(BACKEND_DRAINING, why);
	return told.drain_error;
}

int backends_undrain(struct shuntd *s, struct backend_run *b)
{
	(void)s;
	told.undrains++;
	if (told.drain_error)
		return told.drain_error;
	if (b->draining == VERDICT_NONE)
		return -EALREADY;
	b->draining = VERDICT_NONE;
	records[b->id].word = BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING);
	return 0;
}

int shuntd_reload(struct shuntd *s, const struct reload *how, json_t **changes, char *why, size_t why_size)
{
	told.forced = how->force;
	told.looked = how->only_look;
	told.commander = s->commander ? *s->commander : (uid_t)-1;
	told.length = how->length;
	snprintf(told.name, sizeof(told.name), "%s", how->name ? how->name : "");
	*changes = told.changes;
	if (!told.changes)
		snprintf(why, why_size, "shunt.yaml:2:1: unknown key 'sede'");
	return told.changes ? 0 : told.busy ? -EBUSY : -EINVAL;
}

int shuntd_set_weight(struct shuntd *s, struct backend_run *b, uint32_t weight)
{
	(void)s;
	told.weight = weight;
	b->conf.weight = weight ? weight : b->conf.configured_weight;
	return b->draining == VERDICT_REMOVED ? -ENOENT : 0;
}

/* ---- the daemon ---- */

static const char config_text[] =
	"interfaces: [eth0, eth1]\n"
	"seed: 0x5eed0123456789ab\n"
	"vips:\n"
	"  - {name: chat, address: 203.0.113.10, protocol: tcp, port: 443, pool: gpus}\n"
	"  - {name: chat6, address: '2001:db8::10', protocol: tcp, port: 443, pool: gpus}\n"
	"  - {name: every, address: 203.0.113.10, protocol: tcp, port: any, pool: gpus}\n"
	"  - {name: dns, address: 203.0.113.11, protocol: udp, port: 53, pool: spare, hash: source/24}\n"
	"  - {name: dnst, address: 203.0.113.11, protocol: tcp, port: 53, pool: spare}\n"
	"pools:\n"
	"  - name: gpus\n"
	"    forward: ipip\n"
	"    slots: 251\n"
	"    backends:\n"
	"      - {name: gpu1, address: 10.0.0.11, domain: rack-1}\n"
	"      - {name: gpu2, address: 10.0.0.12}\n"
	"      - {name: gpu3, address: 10.0.0.13}\n"
	"  - name: spare\n"
	"    forward: l2\n"
	"    slots: 257\n"
	"    backends:\n"
	"      - {name: old, address: 10.0.0.99, weight: 7}\n";

static struct rig {
	struct shuntd s;
	char directory[64], path[96];
	char modes[2][16];
} rig;

static void set_up(uint16_t id, bool up)
{
	records[id].word =
		up ? BACKEND_WORD(BACKEND_UP, VERDICT_ANSWERING) : BACKEND_WORD(BACKEND_DOWN, VERDICT_SILENT);
}

/* Pools in the order of the configuration: gpus has ids 1 to 3, spare id 4; sorted by name as well. */
static void runs_fill(struct shuntd *s)
{
	for (size_t p = 0; p < s->config->n_pools; p++) {
		const struct config_pool *conf = &s->config->pools[p];
		struct pool_run *pool = pool_run_add(s, conf);
		struct table_member members[3];

		for (size_t i = 0; i < conf->n_backends; i++) {
			const struct backend_run *b = backend_run_add(s, &conf->backends[i], pool);

			members[i] = (struct table_member){ .id = b->id,
							    .alive = true,
							    .weight = b->conf.weight,
							    .name = b->conf.name,
							    .domain = b->conf.domain };
			set_up(b->id, true);
		}
		assert_int_equal(table_build(&pool->table, members, conf->n_backends, conf->n_slots, s->config->seed),
				 0);
	}
	for (size_t v = 0; v < s->config->n_vips; v++)
		vip_run_add(s, &s->config->vips[v], s->pools[s->config->vips[v].pool]);
}

static int rig_open(void **state)
{
	const struct ledger_options no_file = { .directory = "" };
	struct shuntd *s = &rig.s;
	struct config_error error;

	(void)state;
	memset(&rig, 0, sizeof(rig));
	memset(records, 0, sizeof(records));
	memset(sessions, 0, sizeof(sessions));
	memset(round_trips, 0, sizeof(round_trips));
	memset(&detector, 0, sizeof(detector));
	memset(&told, 0, sizeof(told));
	memset(backend_flows, 0, sizeof(backend_flows));
	memset(flows, 0, sizeof(flows));
	journal_state = (struct journal_state){ .capacity = N_FLOWS };
	traffic_error = 0;
	snprintf(rig.directory, sizeof(rig.directory), "/tmp/shunt-control-%d", (int)getpid());
	snprintf(rig.path, sizeof(rig.path), "%s/shuntd.sock", rig.directory);
	s->config_path = "/etc/shunt/shunt.yaml";
	if (config_parse(&s->config, config_text, strlen(config_text), &error)) {
		print_error("%u:%u: %s\n", error.line, error.column, error.text);
		return -1;
	}
	runs_fill(s);
	s->pace.interval_ns = s->config->probe_interval_ns;
	s->xdp_mode = rig.modes;
	snprintf(rig.modes[0], sizeof(rig.modes[0]), "native");
	snprintf(rig.modes[1], sizeof(rig.modes[1]), "generic");
	return ledger_open(&s->ledger, &no_file) || control_open(&s->control, s, rig.path, NULL);
}

static int rig_close(void **state)
{
	struct shuntd *s = &rig.s;

	(void)state;
	control_close(s->control);
	ledger_close(s->ledger);
	runs_free(s);
	config_free(s->config);
	unlink(rig.path);
	rmdir(rig.directory);
	return 0;
}

/* Make `backend show` a big answer: a backend's name many times. */
static void rig_crowd(void)
{
	struct config_backend conf = rig.s.backends[0]->conf;
	struct pool_run *pool = rig.s.backends[0]->pool;

	while (rig.s.n_backends < N_CROWD)
		backend_run_add(&rig.s, &conf, pool);
}

/* Add an event; its log line goes nowhere. */
static void event_add(const char *name, json_t *evidence)
{
	int kept, nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

	fflush(stderr);
	kept = dup(STDERR_FILENO);
	dup2(nowhere, STDERR_FILENO);
	ledger_add(rig.s.ledger, 0, "backend", name, "down", "silent", evidence);
	dup2(kept, STDERR_FILENO);
	close(kept);
	close(nowhere);
}

/* ---- clients ---- */

struct peer {
	int fd;
	char *input;
	size_t size;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Let the daemon do what it can, or wait a little for what comes next. */
static void pump(void)
{
	struct pollfd p = { .fd = control_fd(rig.s.control), .events = POLLIN };

	if (poll(&p, 1, 10) > 0)
		control_run(rig.s.control);
}

/* Until the daemon has nothing left to do. */
static void pump_all(void)
{
	struct pollfd p = { .fd = control_fd(rig.s.control), .events = POLLIN };

	for (int i = 0; i < 100000 && poll(&p, 1, 0) > 0; i++)
		control_run(rig.s.control);
	assert_int_equal(poll(&p, 1, 0), 0); /* it must not spin */
}

static struct peer peer_open(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct peer peer = { .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) };

	memcpy(address.sun_path, rig.path, strlen(rig.path));
	assert_int_equal(connect(peer.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	pump_all();
	return peer;
}

static void peer_close(struct peer *peer)
{
	close(peer->fd);
	free(peer->input);
	*peer = (struct peer){ .fd = -1 };
}

/* Send all of it, as long as the daemon takes it. False: it closed. */
static bool peer_send(struct peer *peer, const char *data, size_t size)
{
	uint64_t end = now_ms() + DEADLINE_MS;

	while (size && now_ms() < end) {
		ssize_t n = send(peer->fd, data, size, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return false;
		data += n > 0 ? n : 0;
		size -= n > 0 ? (size_t)n : 0;
		if (n < 0)
			pump();
	}
	assert_int_equal(size, 0);
	return true;
}

static void peer_say(struct peer *peer, const char *text)
{
	assert_true(peer_send(peer, text, strlen(text)));
}

/* Receive what is there. False: the daemon closed. */
static bool peer_receive(struct peer *peer)
{
	char buffer[65536];
	ssize_t n = recv(peer->fd, buffer, sizeof(buffer), 0);

	if (n == 0 || (n < 0 && errno != EAGAIN))
		return false;
	if (n > 0) {
		peer->input = realloc(peer->input, peer->size + (size_t)n);
		memcpy(peer->input + peer->size, buffer, (size_t)n);
		peer->size += (size_t)n;
	}
	return true;
}

/* The next line as JSON, to be released. NULL: the daemon closed before there was one. */
static json_t *peer_line(struct peer *peer)
{
	uint64_t end_ms = now_ms() + DEADLINE_MS;

	for (;;) {
		char *end = peer->size ? memchr(peer->input, '\n', peer->size) : NULL;
		json_t *line;

		if (end) {
			line = json_loadb(peer->input, (size_t)(end - peer->input), 0, NULL);
			assert_non_null(line);
			peer->size -= (size_t)(end + 1 - peer->input);
			memmove(peer->input, end + 1, peer->size);
			return line;
		}
		if (now_ms() > end_ms)
			fail_msg("no line within %d ms", DEADLINE_MS);
		pump();
		if (!peer_receive(peer) && !(peer->size && memchr(peer->input, '\n', peer->size)))
			return NULL;
	}
}

static void assert_closed(struct peer *peer)
{
	uint64_t end = now_ms() + DEADLINE_MS;

	while (peer_receive(peer)) {
		if (now_ms() > end)
			fail_msg("still connected after %d ms", DEADLINE_MS);
		pump();
	}
}

/* Ask one thing on a connection of its own; the whole reply. */
static json_t *ask(const char *request)
{
	struct peer peer = peer_open();
	json_t *reply;

	peer_say(&peer, request);
	peer_say(&peer, "\n");
	reply = peer_line(&peer);
	assert_non_null(reply);
	peer_close(&peer);
	return reply;
}

static void assert_serves(void)
{
	json_t *reply = ask("{\"object\":\"vip\",\"command\":\"show\"}");

	assert_int_equal(json_array_size(json_object_get(reply, "result")), 5);
	json_decref(reply);
}

/* The error's sentence, to be freed; the code must be as said. */
static char *refusal(const char *request, enum control_code code)
{
	json_t *reply = ask(request);
	const char *error = json_string_value(json_object_get(reply, "error"));
	char *text;

	if (!error)
		fail_msg("not refused: %s", request);
	assert_int_equal(json_integer_value(json_object_get(reply, "code")), code);
	text = strdup(error);
	json_decref(reply);
	return text;
}

static void assert_refused(const char *request, enum control_code code, const char *part)
{
	char *text = refusal(request, code);

	if (!strstr(text, part))
		fail_msg("'%s' does not say '%s'", text, part);
	free(text);
}

/* ---- answers ---- */

static void every_key_of_the_contract_is_in_its_result(void **state)
{
	static const struct {
		const char *request, *keys;
	} rows[] = {
		{ "{\"object\":\"vip\",\"command\":\"show\"}",
		  "name address protocol port pool policy hash id slots packets bytes new_flows policed on_failure "
		  "syn_limit held held_by" },
		{ "{\"object\":\"backend\",\"command\":\"show\"}",
		  "name pool id address forward weight configured_weight domain state verdict since since_ns packets "
		  "bytes new_flows "
		  "egress mac mtu local live failures detours doubted draining deadline_us drained cut hold_us "
		  "hold_left_us" },
		{ "{\"object\":\"backend\",\"command\":\"drain\",\"args\":{\"name\":\"gpu1\",\"within_ns\":1000000000}"
		  "}",
		  "name state live notes text draining deadline_us drained cut" },
		{ "{\"object\":\"backend\",\"command\":\"undrain\",\"args\":{\"name\":\"gpu1\"}}",
		  "name state live notes text draining deadline_us drained cut" },
		{ "{\"object\":\"probe\",\"command\":\"show\"}",
		  "backend pool address check interval_us configured_interval_us state verdict since_ns evidence "
		  "hold_us "
		  "hold_left_us rounds_asked answers too_late forged late loss_permille rounds_to_convict rtt_us "
		  "last_answer_us "
		  "window_us window_asked "
		  "window_answers window_loss_permille rtt_p50_us rtt_p99_us engine full in_flight queued agent_age_us "
		  "agent_version" },
		{ "{\"object\":\"stats\",\"command\":\"show\"}",
		  "now_ns uptime_s detector health ill_because track_file vrrp interfaces probe flows reasons" },
		{ "{\"object\":\"stats\",\"command\":\"metrics\"}", "text" },
		{ "{\"object\":\"slot\",\"command\":\"show\"}", "pool slots backend owner heir" },
		{ "{\"object\":\"slot\",\"command\":\"show\",\"args\":{\"pool\":\"gpus\",\"slot\":250}}",
		  "pool slot owner heir succession" },
		{ "{\"object\":\"event\",\"command\":\"show\"}",
		  "number time at_ns boot object name what why evidence text" },
		{ "{\"object\":\"event\",\"command\":\"summary\"}", "since window_us pools backends failovers" },
		{ "{\"object\":\"pool\",\"command\":\"show\"}",
		  "name slots backends up draining down live heirs_changed rebuilt rebuilt_ns max_soft_eject_percent "
		  "availability" },
		{ "{\"object\":\"flow\",\"command\":\"where\",\"args\":{\"source\":\"192.0.2.1:40000\",\"vip\":"
		  "\"chat\"}}",
		  "vip source slot owner heir backend why recorded" },
		{ "{\"object\":\"flow\",\"command\":\"show\"}", "flows next" },
		{ "{\"object\":\"flow\",\"command\":\"count\"}", "counts next" },
		{ "{\"object\":\"flow\",\"command\":\"reset\",\"args\":{\"all\":true}}", "reset text" },
		{ "{\"object\":\"backend\",\"command\":\"set\",\"args\":{\"name\":\"gpu1\",\"weight\":1}}",
		  "name weight configured_weight text" },
		{ "{\"object\":\"config\",\"command\":\"reload\"}", "changes text" },
		{ "{\"object\":\"config\",\"command\":\"show\"}", "text file" },
	};

	(void)state;
	event_add("gpu1", NULL);
	told.changes = json_array();
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		json_t *reply = ask(rows[i].request), *result = json_object_get(reply, "result");
		const json_t *object = json_is_array(result) ? json_array_get(result, 0) : result;
		char *keys = strdup(rows[i].keys), *rest = keys, *key;
		size_t n = 0;

		while ((key = strsep(&rest, " "))) {
			if (!json_object_get(object, key))
				fail_msg("%s: no key %s", rows[i].request, key);
			n++;
		}
		assert_int_equal(json_object_size(object), n);
		free(keys);
		json_decref(reply);
	}
}

static void unknown_values_are_null(void **state)
{
	static const struct {
		const char *object, *keys;
	} rows[] = {
		{ "backend", "since egress mac mtu local packets bytes new_flows" },
		{ "probe", "evidence hold_us hold_left_us loss_permille rtt_us last_answer_us window_us window_asked "
			   "window_answers window_loss_permille rtt_p50_us rtt_p99_us engine full in_flight queued "
			   "agent_age_us agent_version" },
		{ "vip", "packets bytes new_flows policed" },
	};

	(void)state;
	traffic_error = -EIO;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char request[128], *keys = strdup(rows[i].keys), *rest = keys, *key;
		json_t *reply, *object;

		snprintf(request, sizeof(request), "{\"object\":\"%s\",\"command\":\"show\"}", rows[i].object);
		reply = ask(request);
		object = json_array_get(json_object_get(reply, "result"), 0);
		while ((key = strsep(&rest, " ")))
			if (!json_is_null(json_object_get(object, key)))
				fail_msg("%s of %s is not null", key, rows[i].object);
		free(keys);
		json_decref(reply);
	}
}

/* What is left of a hold is told once it answers; nothing is, of one that is up. */
static void a_backend_that_is_down_shows_its_hold(void **state)
{
	static const char request[] = "{\"object\":\"backend\",\"command\":\"show\",\"args\":{\"name\":\"gpu2\"}}";
	struct admission *admission = &rig.s.backends[1]->admission;
	json_t *reply, *object;

	(void)state;
	admission->up_since_ns = 1;
	admission->n_falls = 7;
	for (int answering = 0; answering < 2; answering++) {
		set_up(2, false);
		admission->answering_since_ns = answering ? 1 : 0;
		reply = ask(request);
		object = json_array_get(json_object_get(reply, "result"), 0);
		assert_int_equal(json_integer_value(json_object_get(object, "hold_us")), 60000000);
		assert_int_equal(json_is_integer(json_object_get(object, "hold_left_us")), answering);
		json_decref(reply);
	}
	set_up(2, true);
	reply = ask(request);
	object = json_array_get(json_object_get(reply, "result"), 0);
	assert_true(json_is_null(json_object_get(object, "hold_us")));
	assert_true(json_is_null(json_object_get(object, "hold_left_us")));
	json_decref(reply);
}

static json_int_t integer_of(const json_t *object, const char *key)
{
	assert_true(json_is_integer(json_object_get(object, key)));
	return json_integer_value(json_object_get(object, key));
}

static void probe_shows_loss_round_trips_and_the_agents_word(void **state)
{
	struct backend_run *b = rig.s.backends[1];
	json_t *reply, *object;

	(void)state;
	sessions[2] = (struct session){ .asked_count = 1000,
					.answers = 990,
					.answered_ns = 1,
					.rtt_ns = 23600,
					.engine = ENGINE_SERVING,
					.flags = PROBE_FULL,
					.version = PROBE_VERSION,
					.in_flight = 3,
					.queued = 4,
					.agent_age_us = PROBE_AGE_UNKNOWN };
	round_trips[2].buckets[round_trip_bucket(20000)] = 985;
	round_trips[2].buckets[round_trip_bucket(900000)] = 100005;
	b->windows[0] = (struct probe_window){ .at_ns = 1, .asked = 900, .answers = 900 };
	b->windows[0].trips.buckets[round_trip_bucket(900000)] = 100000;
	b->evidence = json_pack("{s:s}", "witness", "gpu1");
	reply = ask("{\"object\":\"probe\",\"command\":\"show\",\"args\":{\"name\":\"gpu2\"}}");
	assert_int_equal(json_array_size(json_object_get(reply, "result")), 1);
	object = json_array_get(json_object_get(reply, "result"), 0);
	assert_int_equal(integer_of(object, "loss_permille"), 10);
	assert_int_equal(integer_of(object, "window_asked"), 100);
	assert_int_equal(integer_of(object, "window_loss_permille"), 100);
	assert_int_equal(integer_of(object, "rtt_us"), 24);
	assert_in_range(integer_of(object, "rtt_p50_us"), 20, 25);
	assert_in_range(integer_of(object, "rtt_p99_us"), 20, 25);
	assert_string_equal(json_string_value(json_object_get(object, "engine")), "serving");
	assert_true(json_is_true(json_object_get(object, "full")));
	assert_int_equal(integer_of(object, "in_flight"), 3);
	assert_int_equal(integer_of(object, "queued"), 4);
	assert_int_equal(integer_of(object, "agent_version"), PROBE_VERSION);
	assert_true(json_is_null(json_object_get(object, "agent_age_us")));
	assert_string_equal(json_string_value(json_object_get(json_object_get(object, "evidence"), "witness")), "gpu1");
	json_decref(reply);
}

/* The text, to be freed. */
static char *metrics_ask(void)
{
	json_t *reply = ask("{\"object\":\"stats\",\"command\":\"metrics\"}");
	const char *text = json_string_value(json_object_get(json_object_get(reply, "result"), "text"));
	char *copy = text ? strdup(text) : NULL;

	assert_non_null(copy);
	json_decref(reply);
	return copy;
}

static void assert_has_line(const char *text, const char *line)
{
	const char *at = strstr(text, line);

	if (!at || (at != text && at[-1] != '\n') || at[strlen(line)] != '\n')
		fail_msg("no line: %s", line);
}

static void metrics_are_what_show_tells_in_base_units(void **state)
{
	static const char *const lines[] = {
		"# TYPE shunt_vip_bytes counter",
		"# UNIT shunt_vip_bytes bytes",
		"shunt_vip_bytes_total{vip=\"chat\",pool=\"gpus\"} 6000",
		"shunt_vip_info{vip=\"every\",pool=\"gpus\",address=\"203.0.113.10\",protocol=\"tcp\",port=\"0\",hash="
		"\"5tuple\",on_failure=\"reset\"} 1",
		"shunt_backend_state{backend=\"old\",pool=\"spare\",state=\"up\"} 1",
		"shunt_backend_state{backend=\"old\",pool=\"spare\",state=\"down\"} 0",
		"shunt_backend_packets_total{backend=\"gpu2\",pool=\"gpus\"} 1002",
		"shunt_packets_total{reason=\"REDIRECTED\",action=\"REDIRECT\"} 1",
		"shunt_journal_used 1234",
		"shunt_prober_interval_seconds 0.0001",
		"shunt_self_suspect 0",
		"shunt_interface_info{interface=\"eth1\",mode=\"generic\"} 1",
		"# TYPE shunt_probe_round_trip_seconds histogram",
		"shunt_probe_round_trip_seconds_bucket{backend=\"gpu3\",pool=\"gpus\",le=\"6.5536e-05\"} 0",
		"shunt_probe_round_trip_seconds_bucket{backend=\"gpu3\",pool=\"gpus\",le=\"0.000131072\"} 3",
		"shunt_probe_round_trip_seconds_bucket{backend=\"gpu3\",pool=\"gpus\",le=\"+Inf\"} 4",
		"shunt_probe_round_trip_seconds_count{backend=\"gpu3\",pool=\"gpus\"} 4",
		"shunt_detection_seconds_bucket{verdict=\"silent\",le=\"+Inf\"} 0",
		"shunt_steering_seconds_count 0",
		"# EOF",
	};
	char *text = metrics_ask();

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		assert_has_line(text, lines[i]);
	assert_null(strstr(text, "shunt_backend_verdict_age_seconds")); /* nobody knows since when */
	free(text);
	traffic_error = -EIO;
	text = metrics_ask();
	assert_null(strstr(text, "shunt_vip_bytes"));
	free(text);
}

static void of_two_backends_of_a_name_metrics_have_the_one_that_stays(void **state)
{
	struct config_backend conf = rig.s.backends[0]->conf;
	struct backend_run *after = backend_run_add(&rig.s, &conf, rig.s.backends[0]->pool);
	char *text;

	(void)state;
	backend_by_id(&rig.s, 1)->draining = VERDICT_REMOVED;
	text = metrics_ask();
	assert_null(strstr(text, "shunt_backend_packets_total{backend=\"gpu1\",pool=\"gpus\"} 1001\n"));
	assert_int_equal(after->id, 5);
	assert_has_line(text, "shunt_backend_packets_total{backend=\"gpu1\",pool=\"gpus\"} 1005");
	free(text);
}

static void of_an_agent_of_another_version_the_version_alone_is_shown(void **state)
{
	json_t *reply, *object;

	(void)state;
	sessions[2] = (struct session){ .answers = 1, .version = PROBE_VERSION + 1, .agent_age_us = 7 };
	reply = ask("{\"object\":\"probe\",\"command\":\"show\",\"args\":{\"name\":\"gpu2\"}}");
	object = json_array_get(json_object_get(reply, "result"), 0);
	assert_int_equal(integer_of(object, "agent_version"), PROBE_VERSION + 1);
	assert_string_equal(json_string_value(json_object_get(object, "engine")), "unknown");
	assert_true(json_is_null(json_object_get(object, "full")));
	assert_true(json_is_null(json_object_get(object, "agent_age_us")));
	json_decref(reply);
}

static void slot_counts_add_up_to_the_pools_slots(void **state)
{
	json_t *reply = ask("{\"object\":\"slot\",\"command\":\"show\",\"args\":{\"pool\":\"gpus\"}}"), *row;
	json_int_t owner = 0, heir = 0;
	size_t i;

	(void)state;
	assert_int_equal(json_array_size(json_object_get(reply, "result")), 3);
	json_array_foreach(json_object_get(reply, "result"), i, row)
	{
		owner += json_integer_value(json_object_get(row, "owner"));
		heir += json_integer_value(json_object_get(row, "heir"));
	}
	assert_int_equal(owner, 251);
	assert_int_equal(heir, 251);
	json_decref(reply);
}

static void shown_configuration_parses_again(void **state)
{
	json_t *reply = ask("{\"object\":\"config\",\"command\":\"show\"}");
	const char *text = json_string_value(json_object_get(json_object_get(reply, "result"), "text"));
	struct config_error error;
	struct config *again;

	(void)state;
	assert_int_equal(config_parse(&again, text, strlen(text), &error), 0);
	assert_int_equal(again->n_vips, rig.s.config->n_vips);
	config_free(again);
	json_decref(reply);
}

static void misuse_is_told_from_refusal(void **state)
{
	(void)state;
	assert_refused("{\"object\":\"backend\",\"command\":\"show\",\"args\":{\"name\":\"gpu9\"}}", CONTROL_REFUSED,
		       "'gpu9'");
	assert_refused("{\"object\":\"vip\",\"command\":\"show\",\"args\":{\"name\":\"x\"}}", CONTROL_REFUSED,
		       "VIP 'x'");
	assert_refused("{\"object\":\"slot\",\"command\":\"show\",\"args\":{\"pool\":\"x\"}}", CONTROL_REFUSED,
		       "pool 'x'");
	assert_refused("{\"object\":\"slot\",\"command\":\"show\",\"args\":{\"pool\":\"gpus\",\"slot\":251}}",
		       CONTROL_REFUSED, "0 to 250");
	assert_refused("{\"object\":\"slot\",\"command\":\"show\",\"args\":{\"pool\":\"gpus\",\"slot\":-1}}",
		       CONTROL_REFUSED, "0 to 250");
	assert_refused("{\"object\":\"slot\",\"command\":\"show\",\"args\":{\"slot\":1}}", CONTROL_MISUSE, "pool");
	assert_refused("{\"object\":\"cow\",\"command\":\"show\"}", CONTROL_MISUSE, "object 'cow'");
	assert_refused("{\"object\":\"vip\",\"command\":\"milk\"}", CONTROL_MISUSE, "command 'milk'");
	assert_refused("{\"object\":\"vip\",\"command\":\"show\",\"args\":{\"nmae\":\"x\"}}", CONTROL_MISUSE, "'nmae'");
	assert_refused("{\"object\":\"vip\",\"command\":\"show\",\"args\":{\"name\":7}}", CONTROL_MISUSE, "a string");
	assert_refused("{\"object\":\"vip\",\"command\":\"show\",\"args\":[]}", CONTROL_MISUSE, "\"args\", an object");
	assert_refused("{\"object\":\"vip\",\"command\":\"show\",\"extra\":1}", CONTROL_MISUSE, "\"object\"");
	assert_refused("{\"object\":\"vip\",\"object\":\"vip\",\"command\":\"show\"}", CONTROL_MISUSE, "JSON");
	assert_refused("{\"object\":\"vip\"}", CONTROL_MISUSE, "\"command\"");
	assert_refused("[]", CONTROL_MISUSE, "\"object\"");
	assert_refused("", CONTROL_MISUSE, "JSON");
	assert_refused("{\"object\":\"flow\",\"command\":\"where\"}", CONTROL_MISUSE, "source");
	assert_refused("{\"object\":\"config\",\"command\":\"reload\",\"args\":{\"force\":false}}", CONTROL_MISUSE,
		       "to be true");
}

static void what_changes_something_is_for_root(void **state)
{
	static const char *const requests[] = {
		"{\"object\":\"backend\",\"command\":\"drain\",\"args\":{\"name\":\"gpu1\"}}",
		"{\"object\":\"backend\",\"command\":\"undrain\",\"args\":{\"name\":\"gpu1\"}}",
		"{\"object\":\"flow\",\"command\":\"reset\",\"args\":{\"all\":true}}",
		"{\"object\":\"backend\",\"command\":\"set\",\"args\":{\"name\":\"gpu1\",\"weight\":7}}",
		"{\"object\":\"config\",\"command\":\"reload\"}",
		"{\"object\":\"config\",\"command\":\"apply\",\"args\":{\"config\":\"x\",\"name\":\"y\"}}",
		"{\"object\":\"config\",\"command\":\"diff\"}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
		struct request request = { .shuntd = &rig.s, .uid = 1000 };

		assert_null(answer(&request, requests[i], strlen(requests[i])));
		assert_int_equal(request.code, CONTROL_REFUSED);
		assert_non_null(strstr(request.error, "root only"));
	}
	assert_int_equal(told.drains + told.undrains + told.resets + (int)told.weight, 0);
}

static void what_changes_something_is_for_admins_too(void **state)
{
	static const char drain[] = "{\"object\":\"backend\",\"command\":\"drain\",\"args\":{\"name\":\"gpu1\"}}";
	struct request request = { .shuntd = &rig.s, .uid = 1000, .is_admin = true };

	(void)state;
	json_decref(answer(&request, drain, strlen(drain)));
	assert_int_equal(told.drains, 1);
	request.is_admin = false;
	snprintf(rig.s.config->control_admins, sizeof(rig.s.config->control_admins), "ops");
	assert_null(answer(&request, drain, strlen(drain)));
	assert_string_equal(request.error, "backend drain is for root and group ops");
}

static void an_event_of_a_command_says_whose_it_was(void **state)
{
	static const char reset[] = "{\"object\":\"flow\",\"command\":\"reset\",\"args\":{\"all\":true}}";
	struct request request = { .shuntd = &rig.s };
	json_t *result = answer(&request, reset, strlen(reset)), *events = ledger_since(rig.s.ledger, 1, NULL);
	const json_t *event = json_array_get(events, json_array_size(events) - 1);
	const json_t *evidence = json_object_get(event, "evidence");

	(void)state;
	assert_string_equal(json_string_value(json_object_get(event, "what")), "flows reset");
	assert_int_equal(json_integer_value(json_object_get(evidence, "flows")), 7);
	assert_true(json_is_integer(json_object_get(evidence, "uid")));
	assert_null(rig.s.commander);
	json_decref(events);
	json_decref(result);
}

/* ---- draining ---- */

static json_t *drain(const char *command, const char *args)
{
	char request[256];

	snprintf(request, sizeof(request), "{\"object\":\"backend\",\"command\":\"%s\",\"args\":{%s}}", command, args);
	return ask(request);
}

/* A reply to drain or undrain has this state, this text, and so many notes, the last of which says this. */
static void assert_drain(const char *command, const char *args, const char *text, size_t n_notes, const char *part)
{
	json_t *reply = drain(command, args), *result = json_object_get(reply, "result");
	json_t *notes = json_object_get(result, "notes");

	assert_non_null(result);
	assert_string_equal(json_string_value(json_object_get(result, "text")), text);
	assert_int_equal(json_array_size(notes), n_notes);
	if (part)
		assert_non_null(strstr(json_string_value(json_array_get(notes, n_notes - 1)), part));
	json_decref(reply);
}

static void drain_tells_what_is_left_and_undrain_brings_back(void **state)
{
	(void)state;
	backend_flows[1].live = 12;
	backend_flows[2].live = 1;
	assert_drain("drain", "\"name\":\"gpu1\"", "gpu1: draining, 12 live flows", 0, NULL);
	assert_int_equal(rig.s.backends[0]->drain_deadline_ns, 0);
	assert_drain("drain", "\"name\":\"gpu2\"", "gpu2: draining, 1 live flow", 0, NULL);
	assert_drain("undrain", "\"name\":\"gpu1\"", "gpu1: up, 12 live flows", 0, NULL);
	assert_drain("undrain", "\"name\":\"gpu1\"", "gpu1: up, 12 live flows", 1, "was not draining");
}

static void drain_twice_is_done_and_noted(void **state)
{
	(void)state;
	told.drain_error = -EALREADY;
	assert_drain("drain", "\"name\":\"gpu1\"", "gpu1: draining, 0 live flows", 1, "was draining already");
	assert_drain("drain", "\"name\":\"gpu1\",\"within_ns\":1000", "gpu1: draining, 0 live flows", 1,
		     "the deadline is new");
}

static void drain_of_the_last_one_is_done_with_a_warning(void **state)
{
	(void)state;
	assert_drain("drain", "\"name\":\"old\"", "old: draining, 0 live flows", 1,
		     "warning: no backend of pool spare takes new flows now");
}

static void drain_of_one_that_is_down_keeps_it_out(void **state)
{
	(void)state;
	set_up(3, false);
	told.drain_error = -ENOTCONN;
	assert_drain("drain", "\"name\":\"gpu3\"", "gpu3: down, 0 live flows", 1, "gpu3 is down: it will stay out");
}

static void drain_of_nobody_or_into_the_past_is_refused(void **state)
{
	(void)state;
	assert_refused("{\"object\":\"backend\",\"command\":\"drain\",\"args\":{\"name\":\"gpu9\"}}", CONTROL_REFUSED,
		       "'gpu9'");
	assert_refused("{\"object\":\"backend\",\"command\":\"undrain\",\"args\":{\"name\":\"gpu9\"}}", CONTROL_REFUSED,
		       "'gpu9'");
	assert_refused("{\"object\":\"backend\",\"command\":\"drain\"}", CONTROL_MISUSE, "name one");
	assert_refused("{\"object\":\"backend\",\"command\":\"drain\",\"args\":{\"name\":\"gpu1\",\"within_ns\":-1}}",
		       CONTROL_MISUSE, "past");
	told.drain_error = -EINVAL;
	assert_refused("{\"object\":\"backend\",\"command\":\"drain\",\"args\":{\"name\":\"gpu1\"}}", CONTROL_REFUSED,
		       "cannot drain 'gpu1'");
	told.drain_error = -EBUSY;
	assert_refused("{\"object\":\"backend\",\"command\":\"undrain\",\"args\":{\"name\":\"gpu1\"}}", CONTROL_REFUSED,
		       "'shunt-agent undrain'");
	told.drain_error = -EPERM;
	assert_refused("{\"object\":\"backend\",\"command\":\"undrain\",\"args\":{\"name\":\"gpu1\"}}", CONTROL_REFUSED,
		       "no longer has it");
}

static void drain_shows_its_deadline_and_its_end(void **state)
{
	struct backend_run *b = rig.s.backends[0];
	json_t *reply, *result;

	(void)state;
	json_decref(drain("drain", "\"name\":\"gpu1\",\"within_ns\":600000000000"));
	reply = drain("show", "\"name\":\"gpu1\"");
	result = json_array_get(json_object_get(reply, "result"), 0);
	assert_string_equal(json_string_value(json_object_get(result, "draining")), "drained");
	assert_in_range(json_integer_value(json_object_get(result, "deadline_us")), 500000000, 600000000);
	assert_true(json_is_false(json_object_get(result, "drained")));
	assert_true(json_is_null(json_object_get(result, "cut")));
	json_decref(reply);
	b->drained = true;
	b->n_cut = 3;
	reply = drain("show", "\"name\":\"gpu1\"");
	result = json_array_get(json_object_get(reply, "result"), 0);
	assert_true(json_is_true(json_object_get(result, "drained")));
	assert_int_equal(json_integer_value(json_object_get(result, "cut")), 3);
	assert_true(json_is_null(json_object_get(result, "deadline_us")));
	json_decref(reply);
}

/* ---- reload ---- */

static void reload_tells_its_changes_or_what_is_wrong(void **state)
{
	json_t *reply;

	(void)state;
	told.changes = json_pack("[s, s]", "backend gpu4 added to pool gpus", "VIP x removed");
	reply = ask("{\"object\":\"config\",\"command\":\"reload\"}");
	assert_string_equal(json_string_value(json_object_get(json_object_get(reply, "result"), "text")),
			    "backend gpu4 added to pool gpus\nVIP x removed\n");
	assert_false(told.forced);
	json_decref(reply);
	told.changes = json_array();
	reply = ask("{\"object\":\"config\",\"command\":\"reload\",\"args\":{\"force\":true}}");
	assert_string_equal(json_string_value(json_object_get(json_object_get(reply, "result"), "text")),
			    "no change\n");
	assert_true(told.forced);
	json_decref(reply);
	told.changes = NULL;
	assert_refused("{\"object\":\"config\",\"command\":\"reload\"}", CONTROL_REFUSED,
		       "shunt.yaml:2:1: unknown key");
	told.busy = true;
	assert_refused("{\"object\":\"config\",\"command\":\"reload\"}", CONTROL_BUSY, "shunt.yaml:2:1: ");
}

static void a_configuration_is_applied_as_root_and_under_its_name(void **state)
{
	(void)state;
	told.changes = json_array();
	json_decref(ask(
		"{\"object\":\"config\",\"command\":\"apply\",\"args\":{\"config\":\"a: b\\n\",\"name\":\"x.yaml\"}}"));
	assert_string_equal(told.name, "x.yaml");
	assert_int_equal(told.length, 5);
	assert_int_equal(told.commander, 0);
	assert_false(told.looked || told.forced);
	told.changes = json_array();
	json_decref(ask("{\"object\":\"config\",\"command\":\"diff\",\"args\":{\"config\":\"a: b\",\"name\":\"y\"}}"));
	assert_string_equal(told.name, "y");
	assert_true(told.looked);
	told.changes = json_array();
	json_decref(ask("{\"object\":\"config\",\"command\":\"diff\"}"));
	assert_int_equal(told.length, 0);
	assert_true(told.looked);
	assert_refused("{\"object\":\"config\",\"command\":\"apply\",\"args\":{\"name\":\"y\"}}", CONTROL_MISUSE,
		       "a text and the name");
	assert_refused("{\"object\":\"config\",\"command\":\"diff\",\"args\":{\"config\":\"y\"}}", CONTROL_MISUSE,
		       "a text and the name");
}

/* ---- weights ---- */

static void a_weight_is_set_and_shown_beside_the_configured_one(void **state)
{
	json_t *reply = drain("set", "\"name\":\"gpu1\",\"weight\":300");

	(void)state;
	assert_string_equal(json_string_value(json_object_get(json_object_get(reply, "result"), "text")),
			    "gpu1: weight 300, configured 100");
	json_decref(reply);
	reply = drain("show", "\"name\":\"gpu1\"");
	assert_int_equal(
		json_integer_value(json_object_get(json_array_get(json_object_get(reply, "result"), 0), "weight")),
		300);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(reply, "result"), 0),
							    "configured_weight")),
			 100);
	json_decref(reply);
	reply = drain("set", "\"name\":\"gpu1\",\"weight\":0");
	assert_string_equal(json_string_value(json_object_get(json_object_get(reply, "result"), "text")),
			    "gpu1: weight 100");
	json_decref(reply);
	assert_refused("{\"object\":\"backend\",\"command\":\"set\",\"args\":{\"name\":\"gpu1\",\"weight\":65536}}",
		       CONTROL_REFUSED, "1 to 65535");
	assert_refused("{\"object\":\"backend\",\"command\":\"set\",\"args\":{\"name\":\"gpu1\",\"weight\":-1}}",
		       CONTROL_REFUSED, "1 to 65535");
	assert_refused("{\"object\":\"backend\",\"command\":\"set\",\"args\":{\"name\":\"gpu1\"}}", CONTROL_MISUSE,
		       "which weight");
	assert_refused("{\"object\":\"backend\",\"command\":\"set\",\"args\":{\"name\":\"gpu9\",\"weight\":1}}",
		       CONTROL_REFUSED, "'gpu9'");
	backend_find(&rig.s, "gpu1")->draining = VERDICT_REMOVED;
	assert_refused("{\"object\":\"backend\",\"command\":\"set\",\"args\":{\"name\":\"gpu1\",\"weight\":1}}",
		       CONTROL_REFUSED, "no longer has 'gpu1'");
}

/* ---- flows ---- */

/* Record a flow of VIP chat in the next entry. */
static struct flow *flow_add(const char *client, uint16_t port, uint16_t backend, uint16_t owner, enum flow_state how)
{
	struct flow *f = &flows[journal_state.used++];
	const struct vip_run *chat = vip_find(&rig.s, "chat");

	*f = (struct flow){ .word = FLOW_WORD(backend, owner, how, backend != owner ? FLOW_DETOUR : 0),
			    .opened_ns = 1000,
			    .seen_ns = 2000,
			    .vip = chat->id,
			    .key = { .vip = chat->conf.address,
				     .client_port = htons(port),
				     .vip_port = htons(443),
				     .protocol = IPPROTO_TCP } };
	address_parse(&f->key.client, client);
	return f;
}

/* Ports of the flows that `flow show` answers with, as "40000 40001 "; all pages. */
static void assert_shown(const char *args, const char *ports)
{
	char request[256], got[256] = "";
	json_t *reply, *flow;
	size_t i;

	snprintf(request, sizeof(request), "{\"object\":\"flow\",\"command\":\"show\",\"args\":{%s}}", args);
	reply = ask(request);
	if (!json_object_get(reply, "result"))
		fail_msg("%s: %s", args, json_string_value(json_object_get(reply, "error")));
	json_array_foreach(json_object_get(json_object_get(reply, "result"), "flows"), i, flow)
	{
		const char *client = json_string_value(json_object_get(flow, "client"));

		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s ", strrchr(client, ':') + 1);
	}
	json_decref(reply);
	if (strcmp(got, ports))
		fail_msg("%s: shown are '%s', not '%s'", args, got, ports);
}

static void flow_show_filters_by_every_key(void **state)
{
	(void)state;
	flow_add("192.0.2.1", 1, 1, 1, FLOW_OPEN);
	flow_add("192.0.2.2", 2, 2, 1, FLOW_CLOSING);
	flow_add("198.51.100.1", 3, 3, 3, FLOW_CLOSED);
	flow_add("192.0.2.1", 4, 1, 1, FLOW_FREE)->word = 0;
	flow_add("2001:db8::1", 5, 2, 2, FLOW_OPEN)->vip = vip_find(&rig.s, "chat6")->id;
	assert_shown("", "1 2 3 5 ");
	assert_shown("\"vip\":\"chat6\"", "5 ");
	assert_shown("\"backend\":\"gpu2\"", "2 5 ");
	assert_shown("\"state\":\"closing\"", "2 ");
	assert_shown("\"state\":\"open\",\"vip\":\"chat\"", "1 ");
	assert_shown("\"detours\":true", "2 ");
	assert_shown("\"client\":\"192.0.2.1\"", "1 ");
	assert_shown("\"client\":\"192.0.2.0/24\"", "1 2 ");
	assert_shown("\"client\":\"192.0.2.0/24:2\"", "2 ");
	assert_shown("\"client\":\"192.0.2.1:9\"", "");
	assert_shown("\"client\":\"2001:db8::1\"", "5 ");
	assert_shown("\"client\":\"2001:db8::/32\"", "5 ");
	assert_shown("\"client\":\"[2001:db8::/32]:5\"", "5 ");
	assert_shown("\"client\":\"[2001:db8::1]:6\"", "");
	assert_shown("\"limit\":2", "1 2 ");
	assert_shown("\"from\":2", "3 5 ");
	assert_shown("\"from\":1000000", "");
}

static void flow_filters_that_make_no_sense_are_refused(void **state)
{
	static const struct {
		const char *args, *part;
		enum control_code code;
	} rows[] = {
		{ "\"vip\":\"x\"", "VIP 'x'", CONTROL_REFUSED },
		{ "\"backend\":\"x\"", "backend 'x'", CONTROL_REFUSED },
		{ "\"state\":\"free\"", "open, closing, closed", CONTROL_MISUSE },
		{ "\"state\":\"\"", "open, closing, closed", CONTROL_MISUSE },
		{ "\"limit\":0", "1 or more", CONTROL_MISUSE },
		{ "\"from\":-1", "a page begins", CONTROL_MISUSE },
		{ "\"client\":\"\"", "a client is", CONTROL_MISUSE },
		{ "\"client\":\"192.0.2.1/33\"", "a client is", CONTROL_MISUSE },
		{ "\"client\":\"192.0.2.1/\"", "a client is", CONTROL_MISUSE },
		{ "\"client\":\"192.0.2.1:0\"", "a client is", CONTROL_MISUSE },
		{ "\"client\":\"192.0.2.1:65536\"", "a client is", CONTROL_MISUSE },
		{ "\"client\":\"[192.0.2.1]:1\"", "a client is", CONTROL_MISUSE },
		{ "\"client\":\"[2001:db8::1\"", "a client is", CONTROL_MISUSE },
		{ "\"client\":\"[2001:db8::1]1\"", "a client is", CONTROL_MISUSE },
		{ "\"client\":\"2001:db8::1/129\"", "a client is", CONTROL_MISUSE },
		{ "\"client\":\"2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:2001:db8/1\"", "a client is",
		  CONTROL_MISUSE },
	};
	char request[256];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		snprintf(request, sizeof(request), "{\"object\":\"flow\",\"command\":\"show\",\"args\":{%s}}",
			 rows[i].args);
		assert_refused(request, rows[i].code, rows[i].part);
	}
}

/* Every entry is in exactly one page, and no page keeps the daemon long. */
static void many_flows_are_answered_in_pages(void **state)
{
	size_t n_shown = 0, n_counted = 0, n_pages = 0;
	json_int_t from = 0;
	json_t *reply, *result;
	char request[128];

	(void)state;
	for (unsigned i = 0; i < N_FLOWS; i++)
		flow_add("192.0.2.1", (uint16_t)i, (uint16_t)(1 + i % 3), 1, i % 1000 ? FLOW_OPEN : FLOW_CLOSED);
	journal_state.used += 3; /* as the walk leaves it when it finds the journal full */
	do {
		snprintf(request, sizeof(request),
			 "{\"object\":\"flow\",\"command\":\"show\",\"args\":{\"limit\":1000000,\"from\":%lld}}",
			 (long long)from);
		reply = ask(request);
		result = json_object_get(reply, "result");
		assert_in_range(json_array_size(json_object_get(result, "flows")), 1, 100);
		n_shown += json_array_size(json_object_get(result, "flows"));
		from = json_integer_value(json_object_get(result, "next"));
		json_decref(reply);
	} while (from);
	assert_int_equal(n_shown, N_FLOWS);
	do {
		snprintf(request, sizeof(request),
			 "{\"object\":\"flow\",\"command\":\"count\",\"args\":{\"state\":\"closed\",\"from\":%lld}}",
			 (long long)from);
		reply = ask(request);
		result = json_object_get(reply, "result");
		for (size_t i = 0; i < json_array_size(json_object_get(result, "counts")); i++)
			n_counted += (size_t)json_integer_value(
				json_object_get(json_array_get(json_object_get(result, "counts"), i), "closed"));
		from = json_integer_value(json_object_get(result, "next"));
		json_decref(reply);
		n_pages++;
	} while (from);
	assert_int_equal(n_counted, N_FLOWS / 1000);
	assert_in_range(n_pages, 2, N_FLOWS / 1000);
}

static void flow_count_tells_states_and_detours_of_each_backend(void **state)
{
	json_t *reply, *counts;

	(void)state;
	flow_add("192.0.2.1", 1, 1, 1, FLOW_OPEN);
	flow_add("192.0.2.1", 2, 1, 2, FLOW_OPEN);
	flow_add("192.0.2.1", 3, 1, 1, FLOW_CLOSED);
	flow_add("192.0.2.1", 4, 2, 2, FLOW_CLOSING);
	reply = ask("{\"object\":\"flow\",\"command\":\"count\"}");
	counts = json_pack("[{s:s, s:i, s:i, s:i, s:i}, {s:s, s:i, s:i, s:i, s:i}]", "backend", "gpu1", "open", 2,
			   "closing", 0, "closed", 1, "detours", 1, "backend", "gpu2", "open", 0, "closing", 1,
			   "closed", 0, "detours", 0);
	assert_true(json_equal(json_object_get(json_object_get(reply, "result"), "counts"), counts));
	json_decref(counts);
	json_decref(reply);
}

static void flow_reset_wants_to_be_told_which(void **state)
{
	json_t *reply;

	(void)state;
	assert_refused("{\"object\":\"flow\",\"command\":\"reset\"}", CONTROL_MISUSE, "which flows");
	assert_refused("{\"object\":\"flow\",\"command\":\"reset\",\"args\":{}}", CONTROL_MISUSE, "which flows");
	assert_refused("{\"object\":\"flow\",\"command\":\"reset\",\"args\":{\"all\":true,\"vip\":\"chat\"}}",
		       CONTROL_MISUSE, "'all' alone");
	assert_refused("{\"object\":\"flow\",\"command\":\"reset\",\"args\":{\"backend\":\"x\"}}", CONTROL_REFUSED,
		       "backend 'x'");
	assert_int_equal(told.resets, 0);
	reply = ask("{\"object\":\"flow\",\"command\":\"reset\",\"args\":{\"backend\":\"gpu2\",\"client\":"
		    "\"192.0.2.0/24:7\"}}");
	assert_string_equal(json_string_value(json_object_get(json_object_get(reply, "result"), "text")),
			    "7 flows reset");
	assert_int_equal(told.filter.backend, 2);
	assert_int_equal(told.filter.client_prefix, 24);
	assert_int_equal(told.filter.client_port, htons(7));
	assert_int_equal(told.client.w[3], htonl(0xc0000200));
	json_decref(reply);
	reply = ask("{\"object\":\"flow\",\"command\":\"reset\",\"args\":{\"backend\":\"gpu3\"}}");
	assert_int_equal(told.filter.backend, 3);
	json_decref(reply);
	reply = ask("{\"object\":\"flow\",\"command\":\"reset\",\"args\":{\"all\":true}}");
	assert_int_equal(told.resets, 3);
	assert_int_equal(told.filter.backend, 0);
	json_decref(reply);
}

/* ---- flow where ---- */

static json_t *where(const char *source, const char *vip)
{
	char request[256];

	snprintf(request, sizeof(request),
		 "{\"object\":\"flow\",\"command\":\"where\",\"args\":{\"source\":\"%s\",\"vip\":\"%s\"}}", source,
		 vip);
	return ask(request);
}

static void assert_where(const char *source, const char *vip, const char *backend, const char *why)
{
	json_t *reply = where(source, vip), *result = json_object_get(reply, "result");
	const char *got = json_string_value(json_object_get(result, "backend"));

	assert_non_null(result);
	if (backend)
		assert_string_equal(got, backend);
	else
		assert_null(got);
	assert_string_equal(json_string_value(json_object_get(result, "why")), why);
	json_decref(reply);
}

/* The slot that `source` has at VIP chat, by the shared hash itself. */
static struct slot slot_of(const char *source, uint16_t port)
{
	struct config_vip vip = { .hash = HASH_5TUPLE };
	struct flow_tuple flow = { .source_port = htons(port),
				   .destination_port = htons(443),
				   .protocol = IPPROTO_TCP };
	uint64_t mask[SHUNT_FLOW_WORDS];
	const struct slot *slots;
	uint32_t n_slots;

	address_parse(&flow.source, source);
	address_parse(&flow.destination, "203.0.113.10");
	vip_hash_mask(mask, &vip);
	slots = table_slots(rig.s.pools[0]->table, &n_slots);
	return slots[hash_slot(flow_hash_under(&flow, rig.s.config->seed, mask), n_slots)];
}

static void flow_where_says_who_serves_and_why(void **state)
{
	struct slot slot = slot_of("192.0.2.1", 40000);
	uint16_t third = (uint16_t)(6 - slot.owner - slot.heir); /* ids 1, 2, 3 */
	char owner[16], heir[16], why[256];
	json_t *reply;

	(void)state;
	snprintf(owner, sizeof(owner), "gpu%u", slot.owner);
	snprintf(heir, sizeof(heir), "gpu%u", slot.heir);
	assert_where("192.0.2.1:40000", "chat", owner, "owner up");
	assert_where("192.0.2.1:40000", "203.0.113.10:443", owner, "owner up");

	set_up(slot.owner, false);
	snprintf(why, sizeof(why), "owner %s down (silent), heir", owner);
	assert_where("192.0.2.1:40000", "chat", heir, why);

	/* Nobody at home: a few other slots are tried; the third backend serves one of them. */
	set_up(slot.heir, false);
	reply = where("192.0.2.1:40000", "chat");
	snprintf(why, sizeof(why), "gpu%u", third);
	assert_string_equal(json_string_value(json_object_get(json_object_get(reply, "result"), "backend")), why);
	assert_non_null(
		strstr(json_string_value(json_object_get(json_object_get(reply, "result"), "why")), " further on"));
	json_decref(reply);

	set_up(third, false);
	snprintf(why, sizeof(why),
		 "owner %s down (silent), heir %s down (silent), nor has any of 8 further slots a living backend",
		 owner, heir);
	assert_where("192.0.2.1:40000", "chat", NULL, why);
}

/* A flow that is recorded stays where it is; why it is there is told from the owner's times. */
static void flow_where_knows_what_is_recorded(void **state)
{
	const char *source = "192.0.2.1:40000";
	struct slot slot = slot_of("192.0.2.1", 40000);
	uint16_t third = (uint16_t)(6 - slot.owner - slot.heir);
	struct flow *f = flow_add("192.0.2.1", 40000, slot.owner, slot.owner, FLOW_OPEN);
	struct vip_run *chat = vip_find(&rig.s, "chat");
	struct backend_run *owner_run = backend_by_id(&rig.s, slot.owner);
	char owner[16], heir[16], other[16], why[256];

	(void)state;
	snprintf(owner, sizeof(owner), "gpu%u", slot.owner);
	snprintf(heir, sizeof(heir), "gpu%u", slot.heir);
	snprintf(other, sizeof(other), "gpu%u", third);
	assert_where(source, "chat", owner, "recorded: at its owner");
	assert_where("192.0.2.1:40001", "dns", "old", "owner up"); /* UDP is not recorded */

	records[slot.owner].word = BACKEND_WORD(BACKEND_DRAINING, VERDICT_DRAINED);
	assert_where(source, "chat", owner, "recorded: stays at its owner, which drains");

	/* Elsewhere: the owner was down before it opened, came back after, or got the slot later. */
	f->word = FLOW_WORD(third, slot.owner, FLOW_OPEN, FLOW_DETOUR);
	f->opened_ns = 1000;
	owner_run->since_ns = 500;
	set_up(slot.owner, false);
	snprintf(why, sizeof(why), "recorded: detour since its owner %s was down when it opened", owner);
	assert_where(source, "chat", other, why);
	set_up(slot.owner, true);
	snprintf(why, sizeof(why), "recorded: detour since its owner %s was given its slot after it opened", owner);
	assert_where(source, "chat", other, why);
	owner_run->since_ns = 1500;
	snprintf(why, sizeof(why), "recorded: detour since its owner %s was out of service when it opened", owner);
	assert_where(source, "chat", other, why);

	/* Orphans. */
	set_up(third, false);
	snprintf(why, sizeof(why), "recorded: its backend %s is down (silent): its client is reset", other);
	assert_where(source, "chat", NULL, why);
	chat->conf.on_failure = ON_FAILURE_DROP;
	snprintf(why, sizeof(why), "recorded: its backend %s is down (silent): dropped", other);
	assert_where(source, "chat", NULL, why);
	chat->conf.on_failure = ON_FAILURE_REHASH;
	snprintf(why, sizeof(why), "recorded: its backend %s is down (silent): rehashed to %s", other, owner);
	assert_where(source, "chat", owner, why);
	chat->conf.on_failure = ON_FAILURE_RESET;
	set_up(third, true);
	f->word = FLOW_WORD(third, slot.owner, FLOW_OPEN, FLOW_DETOUR | FLOW_RESET);
	snprintf(why, sizeof(why), "recorded: on %s, ended by an operator: its client is reset", other);
	assert_where(source, "chat", NULL, why);

	f->word = FLOW_WORD(third, slot.owner, FLOW_CLOSED, FLOW_DETOUR);
	assert_where(source, "chat", owner, "owner up");
}

static void flow_where_finds_the_vip_as_a_packet_does(void **state)
{
	json_t *reply;

	(void)state;
	reply = where("192.0.2.1:40000", "203.0.113.10:8080");
	assert_string_equal(json_string_value(json_object_get(json_object_get(reply, "result"), "vip")), "every");
	json_decref(reply);
	reply = where("192.0.2.1:40000", "203.0.113.10:443");
	assert_string_equal(json_string_value(json_object_get(json_object_get(reply, "result"), "vip")), "chat");
	json_decref(reply);
	reply = where("[2001:db8::7]:40000", "[2001:db8::10]:443");
	assert_string_equal(json_string_value(json_object_get(json_object_get(reply, "result"), "vip")), "chat6");
	json_decref(reply);
	assert_where("192.0.2.1:1", "dns", "old", "owner up");
}

static void flow_where_refuses_what_no_packet_could_be(void **state)
{
	static const char *const sources[] = {
		"",
		"192.0.2.1",
		"192.0.2.1:",
		"192.0.2.1:65536",
		"192.0.2.1:-1",
		"192.0.2.1: 1",
		"192.0.2.1:1x",
		"[192.0.2.1]:1",
		"2001:db8::1:1",
		"[2001:db8::1]",
		"[2001:db8::1:1",
		"[]:1",
		":1",
		"[:1",
		"]:1",
		"192.0.2.1:0000001",
		"2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:1"
	};
	json_t *reply;

	(void)state;
	for (size_t i = 0; i < sizeof(sources) / sizeof(*sources); i++) {
		reply = where(sources[i], "chat");
		if (json_integer_value(json_object_get(reply, "code")) != CONTROL_MISUSE)
			fail_msg("source '%s' was taken", sources[i]);
		json_decref(reply);
	}
	reply = where("[2001:db8::7]:1", "chat");
	assert_non_null(strstr(json_string_value(json_object_get(reply, "error")), "other address family"));
	json_decref(reply);
	reply = where("192.0.2.1:1", "every");
	assert_non_null(strstr(json_string_value(json_object_get(reply, "error")), "every port"));
	json_decref(reply);
	reply = where("192.0.2.1:1", "203.0.113.11:53");
	assert_non_null(strstr(json_string_value(json_object_get(reply, "error")), "'dns' and 'dnst'"));
	json_decref(reply);
	reply = where("192.0.2.1:1", "203.0.113.77:1");
	assert_int_equal(json_integer_value(json_object_get(reply, "code")), CONTROL_REFUSED);
	json_decref(reply);
}

/* ---- hostile clients ---- */

static void garbage_is_answered_with_an_error_and_the_connection_goes_on(void **state)
{
	struct peer peer = peer_open();
	char garbage[4096];
	json_t *reply;
	int n = 0;

	(void)state;
	srand(1);
	for (size_t i = 0; i < sizeof(garbage); i++)
		garbage[i] = (char)rand();
	garbage[sizeof(garbage) - 1] = '\n';
	for (size_t i = 0; i < sizeof(garbage); i++)
		n += garbage[i] == '\n';
	assert_true(peer_send(&peer, garbage, sizeof(garbage)));
	while (n--) {
		reply = peer_line(&peer);
		assert_int_equal(json_integer_value(json_object_get(reply, "code")), CONTROL_MISUSE);
		json_decref(reply);
	}
	memset(garbage, '[', sizeof(garbage) - 1); /* a parser that recurses without end would end here */
	assert_true(peer_send(&peer, garbage, sizeof(garbage)));
	reply = peer_line(&peer);
	assert_int_equal(json_integer_value(json_object_get(reply, "code")), CONTROL_MISUSE);
	json_decref(reply);
	peer_say(&peer, "{\"object\":\"vip\",\"command\":\"show\"}\n");
	reply = peer_line(&peer);
	assert_non_null(json_object_get(reply, "result"));
	json_decref(reply);
	peer_close(&peer);
}

static void mutated_requests_always_get_a_result_or_a_sentence(void **state)
{
	static const char *const seeds[] = {
		"{\"object\":\"flow\",\"command\":\"where\",\"args\":{\"source\":\"[2001:db8::7]:40000\",\"vip\":\"["
		"2001:db8::10]:443\"}}",
		"{\"object\":\"flow\",\"command\":\"where\",\"args\":{\"source\":\"192.0.2.1:40000\",\"vip\":\"chat\"}"
		"}",
		"{\"object\":\"slot\",\"command\":\"show\",\"args\":{\"pool\":\"gpus\",\"slot\":7}}",
		"{\"object\":\"event\",\"command\":\"monitor\",\"args\":{\"from\":1}}",
		"{\"object\":\"backend\",\"command\":\"show\",\"args\":{\"name\":\"gpu1\"}}",
		"{\"object\":\"flow\",\"command\":\"show\",\"args\":{\"client\":\"[2001:db8::/"
		"32]:5\",\"vip\":\"chat\"}}",
		"{\"object\":\"flow\",\"command\":\"count\",\"args\":{\"client\":\"192.0.2.0/"
		"24:5\",\"state\":\"open\"}}",
	};

	(void)state;
	flow_add("192.0.2.1", 5, 1, 1, FLOW_OPEN);
	srand(2);
	for (int round = 0; round < 20000; round++) {
		const char *seed = seeds[(size_t)rand() % (sizeof(seeds) / sizeof(*seeds))];
		size_t length = strlen(seed);
		char *line = malloc(length); /* exactly as long, so that ASan sees a byte too far */
		struct request request = { .shuntd = &rig.s };
		json_t *result;

		memcpy(line, seed, length);
		for (int n = rand() % 4; n >= 0; n--)
			line[(size_t)rand() % length] = "\"{}[]:,0-9\\u.\377\0 e"[rand() % 17];
		result = answer(&request, line, length - (size_t)rand() % 3);
		if (request.code != CONTROL_DONE)
			assert_true(!result && *request.error);
		else
			assert_true(result || request.monitor);
		json_decref(result);
		free(line);
	}
}

/* As somebody who may only read. Who runs this may be nobody but that already. */
static struct peer peer_open_reader(void)
{
	bool is_root = !geteuid();
	struct peer peer;

	assert_int_equal(chmod(rig.path, 0666), 0);
	assert_int_equal(chmod(rig.directory, 0755), 0);
	assert_true(!is_root || !seteuid(65534));
	peer = peer_open();
	assert_true(!is_root || !seteuid(0));
	return peer;
}

static void line_that_is_too_long_is_refused_and_the_connection_closed(void **state)
{
	struct peer peer = peer_open_reader();
	char *line = malloc(2 * CONTROL_REQUEST_MAX);
	json_t *reply;

	(void)state;
	memset(line, ' ', 2 * CONTROL_REQUEST_MAX);
	peer_send(&peer, line, 2 * CONTROL_REQUEST_MAX); /* may fail: it is cut off in the middle */
	reply = peer_line(&peer);
	assert_non_null(strstr(json_string_value(json_object_get(reply, "error")), "longer than 65536"));
	json_decref(reply);
	assert_closed(&peer);
	peer_close(&peer);

	/* The longest that fits is still read. */
	peer = peer_open_reader();
	line[CONTROL_REQUEST_MAX - 1] = '\n';
	assert_true(peer_send(&peer, line, CONTROL_REQUEST_MAX));
	reply = peer_line(&peer);
	assert_non_null(strstr(json_string_value(json_object_get(reply, "error")), "JSON"));
	json_decref(reply);
	assert_serves();
	peer_close(&peer);
	free(line);
}

/* {"object":"config","command":"apply","args":{"name":"x","config":"aaa..."}}, with so long a text; to be freed. */
static char *apply_line(size_t length)
{
	static const char begin[] =
		"{\"object\":\"config\",\"command\":\"apply\",\"args\":{\"name\":\"x\",\"config\":\"";
	char *line = malloc(sizeof(begin) + length + 5);

	memcpy(line, begin, sizeof(begin) - 1);
	memset(line + sizeof(begin) - 1, 'a', length);
	memcpy(line + sizeof(begin) - 1 + length, "\"}}\n", 5);
	return line;
}

static void roots_line_may_be_as_long_as_a_configuration(void **state)
{
	const size_t longest = 2 * CONFIG_TEXT_MAX;
	struct peer peer;
	char *line;

	(void)state;
	if (geteuid())
		return;
	peer = peer_open();
	for (size_t length = longest; length > 1000; length /= 7) {
		line = apply_line(length);
		told.changes = json_array();
		peer_say(&peer, line);
		json_decref(peer_line(&peer));
		assert_int_equal(told.length, length);
		peer_say(&peer,
			 "{\"object\":\"stats\",\"command\":\"show\"}\n{\"object\":\"vip\",\"command\":\"show\"}\n");
		json_decref(peer_line(&peer));
		json_decref(peer_line(&peer));
		free(line);
	}
	line = apply_line(longest + CONTROL_REQUEST_MAX);
	peer_send(&peer, line, strlen(line));
	free(line);
	assert_closed(&peer);
	peer_close(&peer);
	assert_serves();
}

/* Without reading: whether the other end is gone. */
static void assert_cut_off(const struct peer *peer)
{
	for (uint64_t end = now_ms() + DEADLINE_MS;; pump()) {
		struct pollfd p = { .fd = peer->fd };

		poll(&p, 1, 0);
		if (p.revents & POLLHUP)
			return;
		if (now_ms() > end)
			fail_msg("still connected after %d ms", DEADLINE_MS);
	}
}

static void half_a_request_and_unread_replies_hold_up_nobody_and_are_cut_off(void **state)
{
	struct peer half = peer_open(), deaf = peer_open(), flood = peer_open(), idle = peer_open();
	uint64_t start = now_ms();
	json_t *reply;

	(void)state;
	rig_crowd();
	peer_say(&half, "{\"object\":\"vip\",");
	peer_say(&deaf,
		 "{\"object\":\"backend\",\"command\":\"show\"}\n{\"object\":\"backend\",\"command\":\"show\"}\n");
	/* Small requests without end, no reply taken, until nothing goes in any more. */
	while (send(flood.fd, "{}\n{}\n", 6, MSG_NOSIGNAL) == 6)
		pump_all();
	for (int i = 0; i < 20; i++)
		assert_serves();
	assert_true(peer_receive(&half)); /* still connected: patience, not a reflex */

	assert_cut_off(&half);
	assert_cut_off(&deaf);
	assert_cut_off(&flood);
	assert_true(now_ms() - start >= CONTROL_PATIENCE_MS);
	/* Who owes nothing may stay. */
	peer_say(&idle, "{\"object\":\"vip\",\"command\":\"show\"}\n");
	reply = peer_line(&idle);
	assert_non_null(json_object_get(reply, "result"));
	json_decref(reply);
	peer_close(&half);
	peer_close(&deaf);
	peer_close(&flood);
	peer_close(&idle);
}

static void big_reply_arrives_whole(void **state)
{
	struct peer peer = peer_open();

	(void)state;
	rig_crowd();
	for (int i = 0; i < 2; i++)
		peer_say(&peer, "{\"object\":\"backend\",\"command\":\"show\"}\n");
	for (int i = 0; i < 2; i++) {
		json_t *reply = peer_line(&peer);

		assert_int_equal(json_array_size(json_object_get(reply, "result")), N_CROWD);
		json_decref(reply);
	}
	peer_close(&peer);
}

static void requests_are_answered_in_order_however_they_are_cut(void **state)
{
	static const char requests[] = "{\"object\":\"vip\",\"command\":\"show\"}\n"
				       "{\"object\":\"cow\",\"command\":\"show\"}\n"
				       "{\"object\":\"config\",\"command\":\"show\"}\n";
	struct peer peer = peer_open();
	char many[34000];

	(void)state;
	for (size_t cut = 1; cut < sizeof(requests) - 1; cut += 7) {
		json_t *reply;

		assert_true(peer_send(&peer, requests, cut));
		pump_all();
		assert_true(peer_send(&peer, requests + cut, sizeof(requests) - 1 - cut));
		reply = peer_line(&peer);
		assert_true(json_is_array(json_object_get(reply, "result")));
		json_decref(reply);
		reply = peer_line(&peer);
		assert_int_equal(json_integer_value(json_object_get(reply, "code")), CONTROL_MISUSE);
		json_decref(reply);
		reply = peer_line(&peer);
		assert_true(json_is_object(json_object_get(reply, "result")));
		json_decref(reply);
	}
	/* A thousand at once, from a client that reads afterwards. */
	for (int i = 0; i < 1000; i++)
		memcpy(many + 34 * i, "{\"object\":\"cow\",\"command\":\"show\"}\n", 34);
	assert_true(peer_send(&peer, many, sizeof(many)));
	for (int i = 0; i < 1000; i++)
		json_decref(peer_line(&peer));
	peer_close(&peer);
}

static void client_that_ends_its_side_gets_its_answer_and_then_the_end(void **state)
{
	struct peer peer = peer_open();
	json_t *reply;

	(void)state;
	peer_say(&peer, "{\"object\":\"vip\",\"command\":\"show\"}\n{\"object\":\"vip\",\"command\":\"show\"}\nhalf");
	shutdown(peer.fd, SHUT_WR);
	for (int i = 0; i < 2; i++) {
		reply = peer_line(&peer);
		assert_non_null(json_object_get(reply, "result"));
		json_decref(reply);
	}
	assert_closed(&peer);
	peer_close(&peer);
	pump_all();
}

static void client_that_goes_away_in_the_middle_leaves_nothing_behind(void **state)
{
	(void)state;
	rig_crowd();
	for (int i = 0; i < 10; i++) {
		struct peer peer = peer_open();

		peer_say(&peer, "{\"object\":\"backend\",\"command\":\"show\"}\n");
		if (i % 2)
			pump();
		peer_close(&peer);
		pump_all();
	}
	assert_serves();
}

static void one_client_too_many_takes_the_place_of_the_longest_silent_one(void **state)
{
	struct peer peers[CONTROL_CLIENTS_MAX + 10];

	(void)state;
	for (int i = 0; i < CONTROL_CLIENTS_MAX + 10; i++)
		peers[i] = peer_open();
	for (int i = 0; i < CONTROL_CLIENTS_MAX + 10; i++) {
		bool sent = peer_send(&peers[i], "{\"object\":\"cow\",\"command\":\"show\"}\n", 35);
		json_t *reply = sent ? peer_line(&peers[i]) : NULL;

		assert_int_equal(reply != NULL, i >= 10);
		json_decref(reply);
	}
	for (int i = 0; i < CONTROL_CLIENTS_MAX + 10; i++)
		peer_close(&peers[i]);
	pump_all();
	assert_serves();
}

/* ---- events ---- */

static json_int_t event_number(struct peer *peer)
{
	json_t *line = peer_line(peer);
	json_int_t number = json_integer_value(json_object_get(json_object_get(line, "result"), "number"));

	json_decref(line);
	return number;
}

static void monitor_gets_events_as_they_happen(void **state)
{
	struct peer now = peer_open(), from = peer_open();

	(void)state;
	event_add("gpu1", NULL);
	event_add("gpu2", NULL);
	peer_say(&now, "{\"object\":\"event\",\"command\":\"monitor\"}\n");
	peer_say(&from, "{\"object\":\"event\",\"command\":\"monitor\",\"args\":{\"from\":2}}\n");
	pump_all();
	event_add("gpu3", NULL);
	assert_int_equal(event_number(&now), 3);
	assert_int_equal(event_number(&from), 2);
	assert_int_equal(event_number(&from), 3);
	/* Half a connection is enough to listen. */
	shutdown(now.fd, SHUT_WR);
	pump_all();
	event_add("gpu1", NULL);
	assert_int_equal(event_number(&now), 4);
	peer_close(&now);
	pump_all();
	event_add("gpu2", NULL);
	assert_int_equal(event_number(&from), 4);
	assert_int_equal(event_number(&from), 5);
	peer_close(&from);
}

static void monitor_that_does_not_read_is_cut_off_and_the_others_are_not(void **state)
{
	struct peer deaf = peer_open(), good = peer_open();
	struct pollfd p = { .fd = deaf.fd };
	char filler[20000];
	int n;

	(void)state;
	memset(filler, 'x', sizeof(filler) - 1);
	filler[sizeof(filler) - 1] = 0;
	peer_say(&deaf, "{\"object\":\"event\",\"command\":\"monitor\"}\n");
	peer_say(&good, "{\"object\":\"event\",\"command\":\"monitor\"}\n");
	pump_all();
	for (n = 1; n < 1000; n++) {
		event_add("gpu1", json_pack("{s:s}", "filler", filler));
		assert_int_equal(event_number(&good), n);
		pump_all();
		poll(&p, 1, 0);
		if (p.revents & POLLHUP)
			break;
	}
	/* Twice the evidence an event, once as JSON and once in its text. */
	assert_in_range(n, CONTROL_MONITOR_BACKLOG_MAX / 40000, 2 * CONTROL_MONITOR_BACKLOG_MAX / 40000);
	peer_close(&deaf);
	peer_close(&good);
}

/* Its own command makes an event, which finds it gone while the command is answered. */
static void monitor_that_commands_and_is_gone_harms_nobody(void **state)
{
	struct peer gone = peer_open(), good = peer_open();

	(void)state;
	shutdown(gone.fd, SHUT_RD);
	peer_say(&gone, "{\"object\":\"event\",\"command\":\"monitor\"}\n");
	pump_all();
	peer_say(&gone, "{\"object\":\"flow\",\"command\":\"reset\",\"args\":{\"all\":true}}\n");
	pump_all();
	/* One that is there gets its reply first, and then the event. */
	peer_say(&good, "{\"object\":\"event\",\"command\":\"monitor\"}\n");
	peer_say(&good, "{\"object\":\"flow\",\"command\":\"reset\",\"args\":{\"all\":true}}\n");
	json_t *reply = peer_line(&good);

	assert_non_null(json_object_get(json_object_get(reply, "result"), "reset"));
	json_decref(reply);
	assert_int_equal(event_number(&good), 2);
	peer_close(&gone);
	peer_close(&good);
}

static void monitors_leave_room_for_others(void **state)
{
	struct peer monitors[CONTROL_MONITORS_MAX + 1], others[CONTROL_CLIENTS_MAX];
	json_t *reply;

	(void)state;
	for (int i = 0; i < CONTROL_MONITORS_MAX + 1; i++) {
		monitors[i] = peer_open();
		peer_say(&monitors[i], "{\"object\":\"event\",\"command\":\"monitor\"}\n");
		pump_all();
	}
	reply = peer_line(&monitors[CONTROL_MONITORS_MAX]);
	assert_int_equal(json_integer_value(json_object_get(reply, "code")), CONTROL_REFUSED);
	json_decref(reply);
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		others[i] = peer_open();
	assert_serves();
	event_add("gpu1", NULL);
	for (int i = 0; i < CONTROL_MONITORS_MAX; i++)
		assert_int_equal(event_number(&monitors[i]), 1);
	for (int i = 0; i < CONTROL_MONITORS_MAX + 1; i++)
		peer_close(&monitors[i]);
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		peer_close(&others[i]);
}

/* Numbers of the events that a filter leaves, as text. */
static void assert_events(const char *args, const char *wanted)
{
	char request[256], got[256] = "";
	json_t *reply, *event;
	size_t i;

	snprintf(request, sizeof(request), "{\"object\":\"event\",\"command\":\"show\",\"args\":%s}", args);
	reply = ask(request);
	json_array_foreach(json_object_get(reply, "result"), i, event)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%d", i ? " " : "",
			 (int)json_integer_value(json_object_get(event, "number")));
	json_decref(reply);
	assert_string_equal(got, wanted);
}

static void events_are_shown_by_object_name_what_number_and_time(void **state)
{
	struct timespec mono;
	uint64_t now_ns;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &mono);
	now_ns = (uint64_t)mono.tv_sec * 1000000000 + (uint64_t)mono.tv_nsec;
	ledger_add(rig.s.ledger, now_ns > 7200000000000 ? now_ns - 7200000000000 : 1, "backend", "gpu1", "down", NULL,
		   NULL);
	ledger_add(rig.s.ledger, 0, "backend", "gpu1", "up", NULL, NULL);
	ledger_add(rig.s.ledger, 0, "backend", "gpu2", "down", NULL, NULL);
	ledger_add(rig.s.ledger, 0, "pool", "gpu2", "gone", NULL, NULL);
	assert_events("{}", "1 2 3 4");
	assert_events("{\"object\":\"backend\"}", "1 2 3");
	assert_events("{\"name\":\"gpu2\"}", "3 4");
	assert_events("{\"what\":\"down\",\"from\":2}", "3");
	assert_events("{\"since\":\"3\"}", "3 4");
	assert_events("{\"since\":\"1ms\",\"what\":\"nothing\"}", "");
	if (now_ns > 7200000000000) /* else this machine has not been up for so long */
		assert_events("{\"since\":\"1h\"}", "2 3 4");
	assert_events("{\"since\":\"2001-02-03T04:05:06Z\"}", "1 2 3 4");
	assert_events("{\"since\":\"2101-02-03T04:05:06Z\"}", "");
	assert_refused("{\"object\":\"event\",\"command\":\"show\",\"args\":{\"since\":\"yesterday\"}}", CONTROL_MISUSE,
		       "not 'yesterday'");
}

/* The one event that tells of the failover comes before the backend is back. */
static void a_summary_tells_how_long_who_failed_over_was_away(void **state)
{
	json_t *reply, *failovers, *pool;

	(void)state;
	ledger_add(rig.s.ledger, 0, "backend", "gpu1", "failover", "silent", json_pack("{s:n}", "outage_us"));
	ledger_add(rig.s.ledger, 0, "backend", "gpu2", "failover", "dead", json_pack("{s:n}", "outage_us"));
	ledger_add(rig.s.ledger, 0, "backend", "gpu1", "up", NULL, json_pack("{s:i}", "outage_us", 7));
	ledger_add(rig.s.ledger, 0, "backend", "gpu2", "down", NULL, NULL);
	ledger_add(rig.s.ledger, 0, "backend", "gpu2", "up", NULL, json_pack("{s:i}", "outage_us", 8));
	reply = ask("{\"object\":\"event\",\"command\":\"summary\",\"args\":{\"since\":\"24h\"}}");
	assert_int_equal(told.window_ns, 86400000000000);
	failovers = json_object_get(json_object_get(reply, "result"), "failovers");
	assert_int_equal(json_array_size(failovers), 2);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(failovers, 0), "outage_us")), 7);
	assert_true(json_is_null(json_object_get(json_array_get(failovers, 1), "outage_us")));
	pool = json_array_get(json_object_get(json_object_get(reply, "result"), "pools"), 0);
	assert_float_equal(json_real_value(json_object_get(pool, "availability_percent")), 50, 0);
	assert_int_equal(json_integer_value(json_object_get(pool, "mttf_us")), 4);
	assert_int_equal(json_integer_value(json_object_get(pool, "mttr_us")), 5);
	json_decref(reply);
	json_decref(ask("{\"object\":\"event\",\"command\":\"summary\"}"));
	assert_true(told.window_ns == UINT64_MAX);
	assert_refused("{\"object\":\"pool\",\"command\":\"show\",\"args\":{\"name\":\"none\"}}", CONTROL_REFUSED,
		       "there is no pool 'none'");
}

static void ledger_keeps_the_newest_events_in_order(void **state)
{
	uint64_t next;
	json_t *events;

	(void)state;
	for (int i = 0; i < LEDGER_SIZE + 100; i++)
		event_add("gpu1", NULL);
	events = ledger_since(rig.s.ledger, 1, &next);
	assert_int_equal(json_array_size(events), LEDGER_SIZE);
	assert_int_equal(next, LEDGER_SIZE + 101);
	for (size_t i = 0; i < LEDGER_SIZE; i++)
		assert_int_equal(json_integer_value(json_object_get(json_array_get(events, i), "number")), i + 101);
	json_decref(events);
	events = ledger_since(rig.s.ledger, next, &next);
	assert_int_equal(json_array_size(events), 0);
	json_decref(events);
}

static void event_reads_as_a_log_line_and_carries_the_time_of_the_thing_itself(void **state)
{
	char log[256] = "";
	int kept, file[2];
	struct timespec mono, wall;
	json_t *events, *event;
	struct tm tm = { 0 };
	const char *text, *rest;
	ssize_t n;

	(void)state;
	assert_int_equal(pipe(file), 0);
	fflush(stderr);
	kept = dup(STDERR_FILENO);
	dup2(file[1], STDERR_FILENO);
	clock_gettime(CLOCK_MONOTONIC, &mono);
	clock_gettime(CLOCK_REALTIME, &wall);
	ledger_add(rig.s.ledger, (uint64_t)(mono.tv_sec - 100) * 1000000000 + (uint64_t)mono.tv_nsec, "backend", "gpu3",
		   "down", "silent", json_pack("{s:i, s:s, s:i}", "rounds", 3, "witness", "gpu1", "silence_us", 310));
	ledger_add(rig.s.ledger, 0, "shuntd", NULL, "started", NULL, NULL);
	dup2(kept, STDERR_FILENO);
	close(kept);
	close(file[1]);
	n = read(file[0], log, sizeof(log) - 1);
	close(file[0]);
	assert_true(n > 0);
	assert_string_equal(log,
			    "backend gpu3: down (silent: rounds 3, witness gpu1, silence_us 310)\nshuntd: started\n");

	events = ledger_since(rig.s.ledger, 1, NULL);
	event = json_array_get(events, 0);
	text = json_string_value(json_object_get(event, "text"));
	assert_int_equal(strncmp(log, text, strlen(text)), 0);
	text = json_string_value(json_object_get(event, "time"));
	assert_int_equal(strlen(text), strlen("2026-11-20T23:36:21.123456Z"));
	rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	assert_non_null(rest);
	assert_int_equal(*rest, '.');
	assert_in_range(wall.tv_sec - timegm(&tm), 99, 101);
	assert_true(json_is_null(json_object_get(json_array_get(events, 1), "name")));
	json_decref(events);
}

/* ---- the socket itself ---- */

static void socket_is_for_root_and_the_group_and_its_directory_is_made(void **state)
{
	struct group *group = getgrnam("daemon");
	char path[128];
	struct control *other;
	struct stat st;
	mode_t mask;

	(void)state;
	assert_non_null(group);
	snprintf(path, sizeof(path), "%s/below/shuntd.sock", rig.directory);
	mask = umask(077);
	assert_int_equal(control_open(&other, &rig.s, path, "daemon"), 0);
	umask(mask);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(st.st_gid, group->gr_gid);
	control_close(other);
	assert_int_equal(stat(path, &st), -1);
	*strrchr(path, '/') = 0;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	rmdir(path);
}

static void group_that_does_not_exist_leaves_the_socket_to_root(void **state)
{
	char path[128];
	struct control *other;
	struct stat st;

	(void)state;
	snprintf(path, sizeof(path), "%s/other.sock", rig.directory);
	assert_int_equal(control_open(&other, &rig.s, path, "no-such-group"), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_gid, getegid());
	control_close(other);
}

static void live_socket_is_left_alone_a_stale_one_is_replaced(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct control *other = NULL;
	char path[128];
	int fd;

	(void)state;
	assert_int_equal(control_open(&other, &rig.s, rig.path, NULL), -EADDRINUSE);
	pump_all();
	assert_serves();

	snprintf(path, sizeof(path), "%s/stale.sock", rig.directory);
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	assert_int_equal(control_open(&other, &rig.s, path, NULL), 0);
	control_close(other);
}

static void only_a_socket_and_only_ones_own_is_removed(void **state)
{
	struct control *first, *second;
	char path[256];
	struct stat st;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/file", rig.directory);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(control_open(&first, &rig.s, path, NULL), -EEXIST);
	assert_int_equal(unlink(path), 0);

	assert_int_equal(control_open(&first, &rig.s, path, NULL), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(control_open(&second, &rig.s, path, NULL), 0);
	control_close(first);
	assert_int_equal(stat(path, &st), 0);
	control_close(second);

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	assert_int_equal(control_open(&first, &rig.s, path, NULL), -ENAMETOOLONG);
	assert_int_equal(control_open(&first, &rig.s, "/nonexistent/a/b.sock", NULL), -ENOENT);
}

#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_open, rig_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(every_key_of_the_contract_is_in_its_result),
		RIG_TEST(unknown_values_are_null),
		RIG_TEST(a_backend_that_is_down_shows_its_hold),
		RIG_TEST(probe_shows_loss_round_trips_and_the_agents_word),
		RIG_TEST(metrics_are_what_show_tells_in_base_units),
		RIG_TEST(of_two_backends_of_a_name_metrics_have_the_one_that_stays),
		RIG_TEST(of_an_agent_of_another_version_the_version_alone_is_shown),
		RIG_TEST(slot_counts_add_up_to_the_pools_slots),
		RIG_TEST(shown_configuration_parses_again),
		RIG_TEST(misuse_is_told_from_refusal),
		RIG_TEST(what_changes_something_is_for_root),
		RIG_TEST(what_changes_something_is_for_admins_too),
		RIG_TEST(an_event_of_a_command_says_whose_it_was),
		RIG_TEST(drain_tells_what_is_left_and_undrain_brings_back),
		RIG_TEST(drain_twice_is_done_and_noted),
		RIG_TEST(drain_of_the_last_one_is_done_with_a_warning),
		RIG_TEST(drain_of_one_that_is_down_keeps_it_out),
		RIG_TEST(drain_of_nobody_or_into_the_past_is_refused),
		RIG_TEST(drain_shows_its_deadline_and_its_end),
		RIG_TEST(reload_tells_its_changes_or_what_is_wrong),
		RIG_TEST(a_configuration_is_applied_as_root_and_under_its_name),
		RIG_TEST(a_weight_is_set_and_shown_beside_the_configured_one),
		RIG_TEST(flow_show_filters_by_every_key),
		RIG_TEST(flow_filters_that_make_no_sense_are_refused),
		RIG_TEST(many_flows_are_answered_in_pages),
		RIG_TEST(flow_count_tells_states_and_detours_of_each_backend),
		RIG_TEST(flow_reset_wants_to_be_told_which),
		RIG_TEST(flow_where_knows_what_is_recorded),
		RIG_TEST(flow_where_says_who_serves_and_why),
		RIG_TEST(flow_where_finds_the_vip_as_a_packet_does),
		RIG_TEST(flow_where_refuses_what_no_packet_could_be),
		RIG_TEST(garbage_is_answered_with_an_error_and_the_connection_goes_on),
		RIG_TEST(mutated_requests_always_get_a_result_or_a_sentence),
		RIG_TEST(line_that_is_too_long_is_refused_and_the_connection_closed),
		RIG_TEST(roots_line_may_be_as_long_as_a_configuration),
		RIG_TEST(half_a_request_and_unread_replies_hold_up_nobody_and_are_cut_off),
		RIG_TEST(big_reply_arrives_whole),
		RIG_TEST(requests_are_answered_in_order_however_they_are_cut),
		RIG_TEST(client_that_ends_its_side_gets_its_answer_and_then_the_end),
		RIG_TEST(client_that_goes_away_in_the_middle_leaves_nothing_behind),
		RIG_TEST(one_client_too_many_takes_the_place_of_the_longest_silent_one),
		RIG_TEST(monitor_gets_events_as_they_happen),
		RIG_TEST(monitor_that_does_not_read_is_cut_off_and_the_others_are_not),
		RIG_TEST(monitor_that_commands_and_is_gone_harms_nobody),
		RIG_TEST(monitors_leave_room_for_others),
		RIG_TEST(events_are_shown_by_object_name_what_number_and_time),
		RIG_TEST(a_summary_tells_how_long_who_failed_over_was_away),
		RIG_TEST(ledger_keeps_the_newest_events_in_order),
		RIG_TEST(event_reads_as_a_log_line_and_carries_the_time_of_the_thing_itself),
		RIG_TEST(socket_is_for_root_and_the_group_and_its_directory_is_made),
		RIG_TEST(group_that_does_not_exist_leaves_the_socket_to_root),
		RIG_TEST(live_socket_is_left_alone_a_stale_one_is_replaced),
		RIG_TEST(only_a_socket_and_only_ones_own_is_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
