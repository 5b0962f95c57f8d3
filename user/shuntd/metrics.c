/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * metrics.c - see metrics.h.
 *
 * All samples of a metric stand together in the text, while the objects are looked at one after another: so each metric
 * has a buffer of its own until the end. The samples' lines are the same in both formats, only the lines before them
 * differ.
 */
#include "shuntd/metrics.h"

#include <stdarg.h>
#include <time.h>

#include "common/clock.h"
#include "shunt/round_trip.h"
#include "shuntd/answer.h"
#include "shuntd/probes.h"
#include "shuntd/record.h"

/* What has samples: an object of an answer. */
enum subject {
	OF_RUN,
	OF_ATTACHMENT,
	OF_PEER,
	OF_DAEMON,
	OF_INTERFACE,
	OF_REASON,
	OF_VRRP,
	OF_POOL,
	OF_VIP,
	OF_BACKEND,
	OF_PROBE,
	OF_SLOT,
	N_SUBJECTS
};

/* What all samples of an object are labelled with: label and key. */
static const struct {
	const char *label, *key;
} subject_labels[N_SUBJECTS][2] = {
	[OF_ATTACHMENT] = { { "interface", "name" } },
	[OF_INTERFACE] = { { "interface", "name" } },
	[OF_REASON] = { { "reason", "name" }, { "action", "action" } },
	[OF_VRRP] = { { "vrrp", "name" }, { "group", "group" } },
	[OF_PEER] = { { "peer", "address" } },
	[OF_POOL] = { { "pool", "name" } },
	[OF_VIP] = { { "vip", "name" }, { "pool", "pool" } },
	[OF_BACKEND] = { { "backend", "name" }, { "pool", "pool" } },
	[OF_PROBE] = { { "backend", "backend" }, { "pool", "pool" } },
	[OF_SLOT] = { { "backend", "backend" }, { "pool", "pool" } },
};

enum reading {
	AS_IT_IS, /* a number; true and false: 1 and 0 */
	FROM_US,
	FROM_PERMILLE,
	FROM_PERCENT,
	AGE, /* a moment of CLOCK_MONOTONIC, ns */
	IS_THERE, /* 1; null: 0 */
	ONE_OF, /* 1 for the value that it has, 0 for the others; `more`: all of them, the label is the key */
	INFO, /* 1; `more`: keys, which are labels too */
	ELSEWHERE, /* not from a key */
};

enum type { COUNTER, GAUGE, HISTOGRAM };
static const char *const type_names[] = { [COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram" };

/* A metric. What is null or missing has no sample; a metric without samples is left out. */
static const struct family {
	enum subject of;
	const char *name; /* a counter's samples end in _total */
	enum type type;
	const char *unit; /* base units; NULL: it has none */
	enum reading reading;
	const char *key; /* in the object, or KEY.KEY in an object of it */
	const char *more;
	const char *help;
} families[] = {
	{ OF_RUN, "shunt_build_info", GAUGE, NULL, INFO, NULL, "version", "Which shuntd this is." },
	{ OF_RUN, "shunt_maps_age_seconds", GAUGE, "seconds", AS_IT_IS, "maps_age_s", NULL,
	  "Time since the maps were made that packets and connections are counted in." },
	{ OF_ATTACHMENT, "shunt_interface_attached", GAUGE, NULL, AS_IT_IS, "attached", NULL,
	  "Whether the program is attached to an interface." },
	{ OF_DAEMON, "shunt_uptime_seconds", GAUGE, "seconds", AS_IT_IS, "uptime_s", NULL,
	  "Time since shuntd started." },
	{ OF_DAEMON, "shunt_detector_info", GAUGE, NULL, INFO, NULL, "detector", "Who judges silence." },
	{ OF_DAEMON, "shunt_ill", GAUGE, NULL, IS_THERE, "ill_because", NULL,
	  "The balancer is not fit to have the VIPs." },
	{ OF_DAEMON, "shunt_self_suspect", GAUGE, NULL, IS_THERE, "probe.suspect_since_ns", NULL,
	  "All backends are silent and nobody bears witness: the balancer suspects itself." },
	{ OF_DAEMON, "shunt_prober_interval_seconds", GAUGE, "seconds", FROM_US, "probe.interval_us", NULL,
	  "Time between rounds of probes, as it is in force." },
	{ OF_DAEMON, "shunt_prober_configured_interval_seconds", GAUGE, "seconds", FROM_US,
	  "probe.configured_interval_us", NULL, "Time between rounds of probes, as configured." },
	{ OF_DAEMON, "shunt_prober_multiplier", GAUGE, NULL, AS_IT_IS, "probe.multiplier", NULL,
	  "Rounds that have to stay unanswered for a verdict where none get lost." },
	{ OF_DAEMON, "shunt_prober_round_cost_seconds", GAUGE, "seconds", FROM_US, "probe.round_cost_us", NULL,
	  "Time that sending a round takes." },
	{ OF_DAEMON, "shunt_prober_late_max_seconds", GAUGE, "seconds", FROM_US, "probe.late_max_us", NULL,
	  "How late the latest round so far began." },
	{ OF_DAEMON, "shunt_prober_rounds", COUNTER, NULL, AS_IT_IS, "probe.round", NULL, "Rounds of probes." },
	{ OF_DAEMON, "shunt_prober_rounds_late", COUNTER, NULL, AS_IT_IS, "probe.rounds_late", NULL,
	  "Rounds that began more than half an interval late." },
	{ OF_DAEMON, "shunt_prober_rounds_skipped", COUNTER, NULL, AS_IT_IS, "probe.rounds_skipped", NULL,
	  "Rounds not asked because the prober came too late." },
	{ OF_DAEMON, "shunt_prober_send_errors", COUNTER, NULL, AS_IT_IS, "probe.send_errors", NULL,
	  "Probes that could not be sent." },
	{ OF_DAEMON, "shunt_detector_ticks", COUNTER, NULL, AS_IT_IS, "probe.ticks", NULL,
	  "Times that the rule was evaluated." },
	{ OF_DAEMON, "shunt_detector_late_max_seconds", GAUGE, "seconds", FROM_US, "probe.tick_late_max_us", NULL,
	  "How late the latest evaluation so far was." },
	{ OF_DAEMON, "shunt_journal_capacity", GAUGE, NULL, AS_IT_IS, "flows.capacity", NULL,
	  "Connections that the journal has room for." },
	{ OF_DAEMON, "shunt_journal_used", GAUGE, NULL, AS_IT_IS, "flows.in_use", NULL,
	  "Entries of the journal in use, closed connections that are kept for a while included." },
	{ OF_DAEMON, "shunt_journal_opened", COUNTER, NULL, AS_IT_IS, "flows.opened", NULL, "Connections recorded." },
	{ OF_DAEMON, "shunt_journal_full", COUNTER, NULL, AS_IT_IS, "flows.full", NULL,
	  "Connections served unrecorded because the journal was full." },
	{ OF_DAEMON, "shunt_journal_lookups", COUNTER, NULL, AS_IT_IS, "flows.looked_up", NULL,
	  "Packets looked up in the journal." },
	{ OF_DAEMON, "shunt_detection_seconds", HISTOGRAM, "seconds", ELSEWHERE, NULL, NULL,
	  "From the first probe that stayed unanswered, or whose answer said so, to the verdict; of backends that are "
	  "probed." },
	{ OF_DAEMON, "shunt_steering_seconds", HISTOGRAM, "seconds", ELSEWHERE, NULL, NULL,
	  "From a verdict to the first packet that an heir got instead." },
	{ OF_INTERFACE, "shunt_interface_info", GAUGE, NULL, INFO, NULL, "mode",
	  "An interface that the program is attached to." },
	{ OF_REASON, "shunt_packets", COUNTER, NULL, AS_IT_IS, "packets", NULL,
	  "Packets by what became of them and why; their sum is all that were seen." },

	{ OF_VRRP, "shunt_vrrp_state", GAUGE, NULL, ONE_OF, "state", "master,backup,fault,stop,deleted",
	  "1 for the state that keepalived said last of an instance or a group." },
	{ OF_PEER, "shunt_peer_state", GAUGE, NULL, ONE_OF, "state", "down,resyncing,in sync",
	  "1 for the state of the connection to the other balancer." },
	{ OF_PEER, "shunt_peer_lag_seconds", GAUGE, "seconds", FROM_US, "lag_us", NULL,
	  "Age of the oldest change that the other balancer hasn't acknowledged." },
	{ OF_PEER, "shunt_peer_round_trip_seconds", GAUGE, "seconds", FROM_US, "rtt_us", NULL,
	  "To the other balancer and back." },
	{ OF_PEER, "shunt_peer_flows_sent", COUNTER, NULL, AS_IT_IS, "flows_sent", NULL,
	  "Changes of connections told to the other balancer." },
	{ OF_PEER, "shunt_peer_flows_received", COUNTER, NULL, AS_IT_IS, "flows_received", NULL,
	  "Changes of connections that it told." },
	{ OF_PEER, "shunt_peer_flows_refused_full", COUNTER, NULL, AS_IT_IS, "flows_refused_full", NULL,
	  "Those of them that the journal had no room for." },
	{ OF_PEER, "shunt_peer_flows_refused_unknown", COUNTER, NULL, AS_IT_IS, "flows_refused_unknown", NULL,
	  "Those of them whose VIP or backend is not here." },
	{ OF_PEER, "shunt_peer_resyncs", COUNTER, NULL, AS_IT_IS, "resyncs", NULL, "Times that everything was told." },
	{ OF_PEER, "shunt_peer_sent_bytes", COUNTER, "bytes", AS_IT_IS, "bytes_sent", NULL,
	  "Bytes sent to the other balancer." },
	{ OF_PEER, "shunt_peer_received_bytes", COUNTER, "bytes", AS_IT_IS, "bytes_received", NULL,
	  "Bytes that came from it." },
	{ OF_PEER, "shunt_peer_datagrams_lost", COUNTER, NULL, AS_IT_IS, "lost", NULL,
	  "Datagrams with changes that had to be told anew." },
	{ OF_PEER, "shunt_peer_datagrams_forged", COUNTER, NULL, AS_IT_IS, "forged", NULL,
	  "Datagrams whose tag was made with none of the keys." },
	{ OF_PEER, "shunt_peer_datagrams_replayed", COUNTER, NULL, AS_IT_IS, "replayed", NULL,
	  "Datagrams that were repeated, overtaken, or of another connection." },
	{ OF_POOL, "shunt_pool_backends", GAUGE, NULL, AS_IT_IS, "backends", NULL, "Backends of a pool." },
	{ OF_POOL, "shunt_pool_backends_up", GAUGE, NULL, AS_IT_IS, "up", NULL, "Those of them that are up." },
	{ OF_POOL, "shunt_pool_availability_ratio", GAUGE, "ratio", FROM_PERCENT, "availability.availability_percent",
	  NULL,
	  "Time that a backend of it was up in the time that one was up or all were down, as far as the record goes." },

	{ OF_VIP, "shunt_vip_info", GAUGE, NULL, INFO, NULL, "address,protocol,port,hash,on_failure",
	  "What the configuration says of a VIP." },
	{ OF_VIP, "shunt_vip_held", GAUGE, NULL, AS_IT_IS, "held", NULL, "Whether this host has the VIP's address." },
	{ OF_VIP, "shunt_vip_packets", COUNTER, NULL, AS_IT_IS, "packets", NULL, "Packets for a VIP." },
	{ OF_VIP, "shunt_vip_bytes", COUNTER, "bytes", AS_IT_IS, "bytes", NULL,
	  "Bytes for a VIP, from the Ethernet header on." },
	{ OF_VIP, "shunt_vip_new_flows", COUNTER, NULL, AS_IT_IS, "new_flows", NULL,
	  "TCP connections that clients began to open to a VIP." },
	{ OF_VIP, "shunt_vip_syns_policed", COUNTER, NULL, AS_IT_IS, "policed", NULL,
	  "SYNs to a VIP above the limit of their source, dropped or only counted." },

	{ OF_BACKEND, "shunt_backend_info", GAUGE, NULL, INFO, NULL, "address,forward,domain",
	  "What the configuration says of a backend." },
	{ OF_BACKEND, "shunt_backend_state", GAUGE, NULL, ONE_OF, "state", "up,down,draining",
	  "1 for the state that a backend is in." },
	{ OF_BACKEND, "shunt_backend_verdict", GAUGE, NULL, INFO, NULL, "verdict", "Why a backend is in its state." },
	{ OF_BACKEND, "shunt_backend_verdict_age_seconds", GAUGE, "seconds", AGE, "since_ns", NULL,
	  "Time since a backend is in its state." },
	{ OF_BACKEND, "shunt_backend_weight", GAUGE, NULL, AS_IT_IS, "weight", NULL,
	  "Its share of its pool's slots, in proportion to the others'." },
	{ OF_BACKEND, "shunt_backend_failures", COUNTER, NULL, AS_IT_IS, "failures", NULL,
	  "Verdicts that took a backend down." },
	{ OF_SLOT, "shunt_backend_slots", GAUGE, NULL, AS_IT_IS, "owner", NULL, "Slots of its pool that it owns." },
	{ OF_BACKEND, "shunt_backend_packets", COUNTER, NULL, AS_IT_IS, "packets", NULL, "Packets sent to a backend." },
	{ OF_BACKEND, "shunt_backend_bytes", COUNTER, "bytes", AS_IT_IS, "bytes", NULL,
	  "Bytes sent to a backend, as received." },
	{ OF_BACKEND, "shunt_backend_new_flows", COUNTER, NULL, AS_IT_IS, "new_flows", NULL,
	  "TCP connections opened to a backend." },
	{ OF_BACKEND, "shunt_backend_live_flows", GAUGE, NULL, AS_IT_IS, "live", NULL,
	  "Open TCP connections that a backend serves." },
	{ OF_BACKEND, "shunt_backend_detours", GAUGE, NULL, AS_IT_IS, "detours", NULL,
	  "Connections whose slot it owns and that are looked up, being elsewhere." },

	{ OF_PROBE, "shunt_probe_rounds_asked", COUNTER, NULL, AS_IT_IS, "rounds_asked", NULL,
	  "Probes sent to a backend." },
	{ OF_PROBE, "shunt_probe_answers", COUNTER, NULL, AS_IT_IS, "answers", NULL, "Answers of a backend." },
	{ OF_PROBE, "shunt_probe_answers_too_late", COUNTER, NULL, AS_IT_IS, "too_late", NULL,
	  "Answers that came too late to count." },
	{ OF_PROBE, "shunt_probe_answers_forged", COUNTER, NULL, AS_IT_IS, "forged", NULL,
	  "Answers whose tag was made with none of the keys." },
	{ OF_PROBE, "shunt_probe_doubts_dispelled", COUNTER, NULL, AS_IT_IS, "late", NULL,
	  "Times that a backend was found silent, and answered before its connections were given up." },
	{ OF_PROBE, "shunt_probe_loss_ratio", GAUGE, "ratio", FROM_PERMILLE, "window_loss_permille", NULL,
	  "Share of the newest 10 to 20 seconds' probes that was not answered." },
	{ OF_PROBE, "shunt_probe_rounds_to_convict", GAUGE, NULL, AS_IT_IS, "rounds_to_convict", NULL,
	  "Rounds that have to stay unanswered for a verdict: more than the multiplier where some get lost." },
	{ OF_PROBE, "shunt_probe_last_answer_age_seconds", GAUGE, "seconds", FROM_US, "last_answer_us", NULL,
	  "Time since its newest answer." },
	{ OF_PROBE, "shunt_probe_round_trip_seconds", HISTOGRAM, "seconds", ELSEWHERE, NULL, NULL,
	  "From a round to its answer. The sum is made from the buckets: true to 12 %." },
	{ OF_PROBE, "shunt_engine_full", GAUGE, NULL, AS_IT_IS, "full", NULL, "Its engine takes no more requests." },
	{ OF_PROBE, "shunt_engine_requests_running", GAUGE, NULL, AS_IT_IS, "in_flight", NULL,
	  "Requests that run there, as its agent says." },
	{ OF_PROBE, "shunt_engine_requests_waiting", GAUGE, NULL, AS_IT_IS, "queued", NULL,
	  "Requests that wait there, as its agent says." },
	{ OF_PROBE, "shunt_agent_word_age_seconds", GAUGE, "seconds", FROM_US, "agent_age_us", NULL,
	  "Age of what its agent says of its engine." },
};
#define N_FAMILIES (sizeof(families) / sizeof(*families))

struct text {
	char *data;
	size_t length, size; /* size: bytes allocated */
};

struct metrics {
	struct shuntd *shuntd;
	unsigned n_others; /* that have it too: metrics_share() */
	uint32_t step; /* 0: the daemon, then a step each VIP, backend and pool that may be */
	uint64_t now_ns; /* CLOCK_MONOTONIC of this step */
	bool failed; /* no memory */
	struct text texts[N_FAMILIES]; /* the samples */
};

#define LABELS_MAX 512 /* two names of CONFIG_NAME_MAX with their labels, and what a reason is called */

__attribute__((format(printf, 3, 4))) static void text_print(struct metrics *m, struct text *text, const char *format,
							     ...)
{
	va_list ap;
	int n;

	for (;;) {
		size_t room = text->size - text->length, size = text->size ? 2 * text->size : 1024;
		char *grown;

		va_start(ap, format);
		n = vsnprintf(text->data ? text->data + text->length : NULL, room, format, ap);
		va_end(ap);
		if (n < 0 || (size_t)n < room)
			break;
		grown = realloc(text->data, size);
		if (!grown)
			break;
		text->data = grown;
		text->size = size;
	}
	if (n < 0 || (size_t)n >= text->size - text->length)
		m->failed = true;
	else
		text->length += (size_t)n;
}

/* ---- samples ---- */

static const json_t *key_find(const json_t *object, const char *key)
{
	const char *dot = strchr(key, '.');
	char outer[32];

	if (!dot)
		return json_object_get(object, key);
	snprintf(outer, sizeof(outer), "%.*s", (int)(dot - key), key);
	return json_object_get(json_object_get(object, outer), dot + 1);
}

/* Labels as they stand between the braces; what there is no room for is cut. */
struct labels {
	size_t length;
	char text[LABELS_MAX];
};

__attribute__((format(printf, 2, 3))) static void labels_print(struct labels *labels, const char *format, ...)
{
	size_t room = sizeof(labels->text) - labels->length;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(labels->text + labels->length, room, format, ap);
	va_end(ap);
	if (n > 0)
		labels->length += (size_t)n < room ? (size_t)n : room - 1;
}

static void label_add(struct labels *labels, const char *label, const json_t *value)
{
	const char *text = json_string_value(value);

	labels_print(labels, "%s%s=\"", labels->length ? "," : "", label);
	if (json_is_integer(value))
		labels_print(labels, "%lld", (long long)json_integer_value(value));
	if (json_is_boolean(value))
		labels_print(labels, "%s", json_is_true(value) ? "true" : "false");
	for (; text && *text; text++)
		labels_print(labels, "%s%c", strchr("\"\\\n", *text) ? "\\" : "", *text == '\n' ? 'n' : *text);
	labels_print(labels, "\"");
}

/* The next word of a list, cut to `size`; false: there is none. */
static bool word_next(const char **list, char *word, size_t size)
{
	size_t length = strcspn(*list, ",");

	if (!length)
		return false;
	snprintf(word, size, "%.*s", (int)length, *list);
	*list += length + ((*list)[length] == ',');
	return true;
}

static void line_print(struct metrics *m, const struct family *f, const struct labels *labels, double value,
		       bool is_whole)
{
	struct text *text = &m->texts[f - families];

	text_print(m, text, "%s%s%s%s%s ", f->name, f->type == COUNTER ? "_total" : "", labels->length ? "{" : "",
		   labels->text, labels->length ? "}" : "");
	if (is_whole)
		text_print(m, text, "%.0f\n", value);
	else
		text_print(m, text, "%.9g\n", value);
}

static bool is_it(const json_t *value, const char *word)
{
	return json_is_string(value) && !strcmp(json_string_value(value), word);
}

static void sample_add(struct metrics *m, const struct family *f, const struct labels *labels, const json_t *object)
{
	static const double divisors[] = {
		[AS_IT_IS] = 1, [FROM_US] = 1e6, [FROM_PERMILLE] = 1e3, [FROM_PERCENT] = 1e2
	};
	const json_t *value = f->key ? key_find(object, f->key) : NULL;
	double number = json_is_true(value) ? 1 : json_number_value(value);
	struct labels more = *labels;
	const char *words = f->more;
	char word[32];

	if (f->reading == IS_THERE) {
		line_print(m, f, labels, value && !json_is_null(value), true);
	} else if (f->reading == INFO) {
		while (word_next(&words, word, sizeof(word)))
			label_add(&more, word, json_object_get(object, word));
		line_print(m, f, &more, 1, true);
	} else if (f->reading == ONE_OF) {
		while (word_next(&words, word, sizeof(word))) {
			more = *labels;
			labels_print(&more, ",%s=\"%s\"", f->key, word);
			line_print(m, f, &more, is_it(value, word), true);
		}
	} else if (!value || json_is_null(value)) {
		return;
	} else if (f->reading == AGE) {
		number = m->now_ns > (uint64_t)number ? ((double)m->now_ns - number) / 1e9 : 0;
		line_print(m, f, labels, number, false);
	} else {
		line_print(m, f, labels, number / divisors[f->reading], f->reading == AS_IT_IS);
	}
}

static void object_labels(struct labels *labels, enum subject of, const json_t *object)
{
	labels->length = 0;
	*labels->text = 0;
	for (int i = 0; i < 2 && subject_labels[of][i].label; i++)
		label_add(labels, subject_labels[of][i].label, json_object_get(object, subject_labels[of][i].key));
}

/* All metrics of an object. Takes over the reference. */
static void object_add(struct metrics *m, enum subject of, json_t *object)
{
	struct labels labels;

	if (!object)
		m->failed = true;
	object_labels(&labels, of, object);
	for (const struct family *f = families; object && f < families + N_FAMILIES; f++)
		if (f->of == of && f->reading != ELSEWHERE)
			sample_add(m, f, &labels, object);
	json_decref(object);
}

static void objects_add(struct metrics *m, enum subject of, const json_t *list)
{
	json_t *object;
	size_t i;

	json_array_foreach(list, i, object) object_add(m, of, json_incref(object));
}

/* ---- histograms ---- */

static const struct family *family_find(const char *name)
{
	const struct family *f = families;

	while (strcmp(f->name, name) != 0)
		f++;
	return f;
}

static void histogram_end(struct metrics *m, const struct family *f, const char *labels, uint64_t n, double sum)
{
	const char *comma = *labels ? "," : "", *open = *labels ? "{" : "", *close = *labels ? "}" : "";
	struct text *text = &m->texts[f - families];

	text_print(m, text, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", f->name, labels, comma, (unsigned long long)n);
	text_print(m, text, "%s_sum%s%s%s %.9g\n", f->name, open, labels, close, sum);
	text_print(m, text, "%s_count%s%s%s %llu\n", f->name, open, labels, close, (unsigned long long)n);
}

/* The receiver's buckets, four of them in one: a limit each doubling, 4 us to 134 ms. */
static void round_trips_add(struct metrics *m, const struct backend_run *b, const char *labels)
{
	const struct family *f = family_find("shunt_probe_round_trip_seconds");
	struct text *text = &m->texts[f - families];
	uint64_t counts[ROUND_TRIP_BUCKETS], n = 0, below_ns = 0;
	double sum_ns = 0;

	probes_round_trips(m->shuntd, b, counts);
	for (uint32_t i = 0; i < ROUND_TRIP_BUCKETS - 1; i++) {
		uint64_t limit_ns = round_trip_limit_ns(i);

		n += counts[i];
		sum_ns += (double)counts[i] * (double)(below_ns + limit_ns) / 2;
		below_ns = limit_ns;
		if (i % 4 == 0)
			text_print(m, text, "%s_bucket{%s,le=\"%.9g\"} %llu\n", f->name, labels, (double)limit_ns / 1e9,
				   (unsigned long long)n);
	}
	n += counts[ROUND_TRIP_BUCKETS - 1];
	sum_ns += (double)counts[ROUND_TRIP_BUCKETS - 1] * (double)below_ns;
	histogram_end(m, f, labels, n, sum_ns / 1e9);
}

/* Of failovers: detection and steering. */
static void record_add(struct metrics *m)
{
	struct record_histogram h;

	for (unsigned i = 0; record_histogram(m->shuntd->record, i, &h); i++) {
		const struct family *f =
			family_find(strcmp(h.name, "steering") ? "shunt_detection_seconds" : "shunt_steering_seconds");
		struct text *text = &m->texts[f - families];
		char verdict[64] = "";
		double sum = (double)h.times->sum_ns / 1e9;

		if (h.verdict)
			snprintf(verdict, sizeof(verdict), "verdict=\"%s\"", h.verdict);
		for (unsigned b = 0; b < HISTOGRAM_BUCKETS - 1; b++)
			text_print(m, text, "%s_bucket{%s%sle=\"%.9g\"} %llu\n", f->name, verdict, *verdict ? "," : "",
				   (double)histogram_limit_ns(b) / 1e9, (unsigned long long)h.times->buckets[b]);
		histogram_end(m, f, verdict, h.times->buckets[HISTOGRAM_BUCKETS - 1], sum);
	}
}

/* ---- steps ---- */

static void daemon_add(struct metrics *m)
{
	struct request request = { .shuntd = m->shuntd, .uid = (uid_t)-1 };
	json_t *stats = answer_command(&request, "stats", "show", NULL);
	json_t *run = answer_command(&request, "daemon", "show", NULL);
	json_t *pools = answer_command(&request, "pool", "show", NULL);
	json_t *peers = answer_command(&request, "peer", "show", NULL);

	objects_add(m, OF_INTERFACE, json_object_get(stats, "interfaces"));
	objects_add(m, OF_REASON, json_object_get(stats, "reasons"));
	objects_add(m, OF_VRRP, json_object_get(stats, "vrrp"));
	objects_add(m, OF_POOL, pools);
	objects_add(m, OF_PEER, peers);
	json_decref(pools);
	json_decref(peers);
	object_add(m, OF_DAEMON, stats);
	objects_add(m, OF_ATTACHMENT, json_object_get(run, "interfaces"));
	object_add(m, OF_RUN, run);
	record_add(m);
}

/* One that was removed and drains yet is left out where another of its name is there: a name is a label. */
static void backend_add(struct metrics *m, const struct backend_run *b)
{
	struct labels labels;
	json_t *probe;

	if (b->gone || backend_is_replaced(m->shuntd, b))
		return;
	object_add(m, OF_BACKEND, backend_json(m->shuntd, b));
	probe = probe_json(m->shuntd, b);
	object_labels(&labels, OF_PROBE, probe);
	object_add(m, OF_PROBE, probe);
	round_trips_add(m, b, labels.text);
}

static void pool_add(struct metrics *m, const struct pool_run *pool)
{
	struct request request = { .shuntd = m->shuntd, .uid = (uid_t)-1 };
	json_t *args = json_pack("{s:s}", "pool", pool->name);
	json_t *slots = pool->removed ? json_array() : answer_command(&request, "slot", "show", args);

	objects_add(m, OF_SLOT, slots);
	m->failed = m->failed || !slots;
	json_decref(slots);
	json_decref(args);
}

/* Step number m->step; false: there is none. */
static bool step(struct metrics *m)
{
	uint32_t i = m->step++;

	m->now_ns = monotonic_ns();
	if (i-- == 0) {
		daemon_add(m);
	} else if (i < SHUNT_MAX_VIPS) {
		const struct vip_run *v = vip_by_id(m->shuntd, i);

		if (v)
			object_add(m, OF_VIP, vip_json(m->shuntd, v));
	} else if ((i -= SHUNT_MAX_VIPS) < SHUNT_MAX_BACKENDS) {
		const struct backend_run *b = backend_by_id(m->shuntd, i);

		if (b)
			backend_add(m, b);
	} else if ((i -= SHUNT_MAX_BACKENDS) < SHUNT_MAX_POOLS) {
		const struct pool_run *pool = pool_by_id(m->shuntd, i);

		if (pool)
			pool_add(m, pool);
	} else {
		return false;
	}
	return true;
}

struct metrics *metrics_begin(struct shuntd *s)
{
	struct metrics *m = calloc(1, sizeof(*m));

	if (m)
		m->shuntd = s;
	return m;
}

bool metrics_run(struct metrics *m, uint64_t until_ns)
{
	do {
		if (!step(m))
			return true;
	} while (m->now_ns < until_ns);
	return false;
}

/* ---- the text ---- */

/* HELP, TYPE and UNIT. The older format gives the type to the samples' name, and knows no unit. Always the same. */
static const char *head_of(const struct family *f, enum metrics_format format)
{
	static char heads[METRICS_FORMATS][N_FAMILIES][512];
	const char *total = format == METRICS_TEXT && f->type == COUNTER ? "_total" : "";
	char *head = heads[format][f - families];
	size_t size = sizeof(heads[format][0]), length;

	if (*head)
		return head;
	snprintf(head, size, "# HELP %s%s %s\n# TYPE %s%s %s\n", f->name, total, f->help, f->name, total,
		 type_names[f->type]);
	length = strlen(head);
	if (format == METRICS_OPEN && f->unit)
		snprintf(head + length, size - length, "# UNIT %s %s\n", f->name, f->unit);
	return head;
}

static size_t part_add(struct metrics_part *parts, size_t n, const char *data, size_t length)
{
	_Static_assert(METRICS_PARTS_MAX > 2 * N_FAMILIES, "room for each metric's head and samples, and the end");

	parts[n] = (struct metrics_part){ data, length };
	return n + 1;
}

size_t metrics_parts(const struct metrics *m, enum metrics_format format, struct metrics_part parts[METRICS_PARTS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < N_FAMILIES && !m->failed; i++) {
		const char *head = head_of(&families[i], format);

		if (!m->texts[i].length)
			continue;
		n = part_add(parts, n, head, strlen(head));
		n = part_add(parts, n, m->texts[i].data, m->texts[i].length);
	}
	if (format == METRICS_OPEN && !m->failed)
		n = part_add(parts, n, "# EOF\n", 6);
	return n;
}

json_t *stats_metrics(struct request *r)
{
	struct metrics_part parts[METRICS_PARTS_MAX];
	struct metrics *m = metrics_begin(r->shuntd);
	size_t n = m && metrics_run(m, UINT64_MAX) ? metrics_parts(m, METRICS_OPEN, parts) : 0, size;
	char *text = NULL;
	FILE *f = n ? open_memstream(&text, &size) : NULL;
	json_t *o = NULL;

	if (f) {
		for (size_t i = 0; i < n; i++)
			fwrite(parts[i].data, 1, parts[i].length, f);
		if (!fclose(f))
			o = json_pack("{s:s}", "text", text);
	}
	free(text);
	metrics_free(m);
	return o;
}

struct metrics *metrics_share(struct metrics *m)
{
	m->n_others++;
	return m;
}

void metrics_free(struct metrics *m)
{
	if (!m || m->n_others--)
		return;
	for (size_t i = 0; i < N_FAMILIES; i++)
		free(m->texts[i].data);
	free(m);
}
