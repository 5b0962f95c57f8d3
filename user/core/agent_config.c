/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * agent_config.c - agent.yaml to its model and back.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/reader.h"
#include "core/writer.h"
#include "shunt/agent.h"

static int compare_addresses(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct shunt_addr));
}

/* *out is the model's, even after an error. */
static int read_addresses(const struct node *node, const char *what, size_t max, struct shunt_addr **out, size_t *n,
			  struct config_error *error)
{
	const struct node *first, *second;
	struct reader_place *places;
	bool duplicate;
	int err = reader_list(node, what, "an address", max, error);

	if (err)
		return err;
	*n = node->n_children;
	*out = calloc(*n, sizeof(**out));
	places = calloc(*n, sizeof(*places));
	if (!*out || !places)
		err = -ENOMEM;
	for (size_t i = 0; !err && i < *n; i++) {
		err = reader_address(node->children[i], "address", &(*out)[i], error);
		places[i] = (struct reader_place){ &(*out)[i], node->children[i] };
	}
	duplicate = !err && reader_duplicate(places, *n, compare_addresses, &first, &second);
	free(places);
	if (err)
		return err;
	if (duplicate)
		return node_fail(second, error, "duplicate address %s in %s, expected it once (first on line %u)",
				 second->text, what, first->line);
	qsort(*out, *n, sizeof(**out), compare_addresses);
	return 0;
}

static int read_interfaces(const struct node *node, void *into, struct config_error *error)
{
	struct agent_config *config = into;

	return reader_interfaces(node, &config->interfaces, &config->n_interfaces, error);
}

static int read_vips(const struct node *node, void *into, struct config_error *error)
{
	struct agent_config *config = into;

	return read_addresses(node, "vips", AGENT_MAX_VIPS, &config->vips, &config->n_vips, error);
}

static int read_balancers(const struct node *node, void *into, struct config_error *error)
{
	struct agent_config *config = into;

	return read_addresses(node, "balancers", AGENT_MAX_BALANCERS, &config->balancers, &config->n_balancers, error);
}

static int read_setup_vips(const struct node *node, void *into, struct config_error *error)
{
	return reader_bool(node, "setup_vips", into, error);
}

static int read_key_file(const struct node *node, void *into, struct config_error *error)
{
	return reader_text(node, "key_file", "/", "an absolute path", into, error);
}

static int read_pin(const struct node *node, void *into, struct config_error *error)
{
	return reader_path_or_none(node, "pin", into, error);
}

static int read_control(const struct node *node, void *into, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "control",
		.n_keys = 1,
		.keys = { { "socket", false, reader_socket, offsetof(struct agent_config, control_socket) } },
	};

	return reader_mapping(node, &mapping, into, error);
}

/* ---- engine ---- */

static int read_port(const struct node *node, void *into, struct config_error *error)
{
	uint64_t port;
	int err = reader_number(node, "listen", 1, UINT16_MAX, &port, error);

	if (!err)
		*(uint16_t *)into = (uint16_t)port;
	return err;
}

static int read_cgroup(const struct node *node, void *into, struct config_error *error)
{
	return reader_text(node, "cgroup", "/", "an absolute path", into, error);
}

static int read_pid_file(const struct node *node, void *into, struct config_error *error)
{
	return reader_text(node, "pid_file", "/", "an absolute path", into, error);
}

static int read_beat_pin(const struct node *node, void *into, struct config_error *error)
{
	return reader_text(node, "pin", "/", "an absolute path", into, error);
}

static int read_url(const struct node *node, void *into, struct config_error *error)
{
	return reader_text(node, "url", "http://", "a URL that begins with http://", into, error);
}

static int read_full_url(const struct node *node, void *into, struct config_error *error)
{
	return reader_text(node, "full_url", "http://", "a URL that begins with http://", into, error);
}

static int read_workers(const struct node *node, void *into, struct config_error *error)
{
	static const char *const words[] = { "all", "main", NULL };
	size_t choice;
	int err = reader_choice(node, "workers", words, &choice, error);

	if (!err)
		*(bool *)into = choice == 1;
	return err;
}

static int read_worker_age(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "worker_age", 0, 3600000000000ULL, into, error);
}

static int read_limit(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "limit", 1000000ULL, 3600000000000ULL, into, error);
}

static int read_group(const struct node *node, void *into, struct config_error *error)
{
	return reader_name(node, "group", into, CONFIG_NAME_MAX, error);
}

static int read_interval(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "interval", 10000000ULL, 3600000000000ULL, into, error);
}

static int read_timeout(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "timeout", 10000000ULL, 60000000000ULL, into, error);
}

static int read_count(const struct node *node, const char *what, uint32_t *out, struct config_error *error)
{
	uint64_t n;
	int err = reader_number(node, what, 1, 100, &n, error);

	if (!err)
		*out = (uint32_t)n;
	return err;
}

static int read_rise(const struct node *node, void *into, struct config_error *error)
{
	return read_count(node, "rise", into, error);
}

static int read_fall(const struct node *node, void *into, struct config_error *error)
{
	return read_count(node, "fall", into, error);
}

static int read_beat(const struct node *node, void *into, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "beat",
		.n_keys = 4,
		.keys = {
			{ "limit", true, read_limit, offsetof(struct config_engine, beat_limit_ns) },
			{ "socket", false, reader_socket, offsetof(struct config_engine, beat_socket) },
			{ "group", false, read_group, offsetof(struct config_engine, beat_group) },
			{ "pin", false, read_beat_pin, offsetof(struct config_engine, beat_pin) },
		},
	};

	return reader_mapping(node, &mapping, into, error);
}

static int read_health(const struct node *node, void *into, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "health",
		.n_keys = 6,
		.keys = {
			{ "url", true, read_url, offsetof(struct config_engine, health_url) },
			{ "full_url", false, read_full_url, offsetof(struct config_engine, health_full_url) },
			{ "interval", false, read_interval, offsetof(struct config_engine, health_interval_ns) },
			{ "timeout", false, read_timeout, offsetof(struct config_engine, health_timeout_ns) },
			{ "rise", false, read_rise, offsetof(struct config_engine, health_rise) },
			{ "fall", false, read_fall, offsetof(struct config_engine, health_fall) },
		},
	};

	return reader_mapping(node, &mapping, into, error);
}

static int read_engine(const struct node *node, void *into, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "engine",
		.n_keys = 7,
		.keys = {
			{ "listen", false, read_port, offsetof(struct config_engine, port) },
			{ "cgroup", false, read_cgroup, offsetof(struct config_engine, cgroup) },
			{ "pid_file", false, read_pid_file, offsetof(struct config_engine, pid_file) },
			{ "workers", false, read_workers, offsetof(struct config_engine, only_main) },
			{ "worker_age", false, read_worker_age, offsetof(struct config_engine, worker_age_ns) },
			{ "beat", false, read_beat, 0 },
			{ "health", false, read_health, 0 },
		},
	};
	static const char *const ways[] = { "listen", "cgroup", "pid_file" };
	struct config_engine *engine = into;
	int err = reader_mapping(node, &mapping, engine, error);

	if (err)
		return err;
	for (int i = 0; i < 3; i++) {
		const struct node *way = reader_find(node, ways[i]);

		if (way && engine->by)
			return node_fail(way, error, "%s beside %s, expected one way to find the engine", ways[i],
					 ways[engine->by - 1]);
		if (way)
			engine->by = (enum config_engine_by)(ENGINE_BY_PORT + i);
	}
	if (engine->only_main && !engine->by)
		return node_fail(reader_find(node, "workers"), error,
				 "workers of no engine, expected 'listen', 'cgroup' or 'pid_file' beside it");
	return 0;
}

static int read_config(const struct node *root, struct agent_config *config, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "the agent's configuration",
		.n_keys = 8,
		.keys = {
			{ "interfaces", true, read_interfaces, 0 },
			{ "vips", false, read_vips, 0 },
			{ "setup_vips", false, read_setup_vips, offsetof(struct agent_config, setup_vips) },
			{ "balancers", false, read_balancers, 0 },
			{ "control", false, read_control, 0 },
			{ "key_file", false, read_key_file, offsetof(struct agent_config, key_file) },
			{ "pin", false, read_pin, offsetof(struct agent_config, pin) },
			{ "engine", false, read_engine, offsetof(struct agent_config, engine) },
		},
	};
	int err = reader_mapping(root, &mapping, config, error);

	if (!err && config->setup_vips && !config->n_vips)
		return node_fail(reader_find(root, "setup_vips"), error,
				 "setup_vips is true but there are no VIPs, expected 'vips' beside it");
	return err;
}

int agent_config_parse(struct agent_config **out, const char *text, size_t length, struct config_error *error)
{
	struct document *document;
	struct agent_config *config;
	int err = document_parse(&document, text, length, error);

	if (err)
		return err;
	config = calloc(1, sizeof(*config));
	if (config) {
		memcpy(config->control_socket, AGENT_CONTROL_SOCKET, sizeof(AGENT_CONTROL_SOCKET));
		memcpy(config->pin, AGENT_PIN, sizeof(AGENT_PIN));
		memcpy(config->engine.beat_socket, AGENT_BEAT_SOCKET, sizeof(AGENT_BEAT_SOCKET));
		config->engine.worker_age_ns = 10000000000ULL;
		config->engine.health_interval_ns = 1000000000ULL;
		config->engine.health_timeout_ns = 2000000000ULL;
		config->engine.health_rise = 2;
		config->engine.health_fall = 3;
	}
	err = config ? read_config(document->root, config, error) : -ENOMEM;
	document_free(document);
	if (err)
		agent_config_free(config);
	else
		*out = config;
	return err;
}

void agent_config_free(struct agent_config *config)
{
	if (!config)
		return;
	free(config->interfaces);
	free(config->vips);
	free(config->balancers);
	free(config);
}

static void format_addresses(FILE *f, const char *key, const struct shunt_addr *addresses, size_t n)
{
	if (!n) /* an empty list is refused on the way in: absent is how "none" is said */
		return;
	fprintf(f, "%s:\n", key);
	for (size_t i = 0; i < n; i++) {
		fprintf(f, "  - ");
		writer_address(f, &addresses[i]);
		fprintf(f, "\n");
	}
}

/* An absent text is an empty one: it isn't written. */
static void format_text(FILE *f, const char *key, const char *text)
{
	if (!*text)
		return;
	fprintf(f, "%s", key);
	writer_text(f, text);
}

static void format_duration(FILE *f, const char *key, uint64_t ns)
{
	char buffer[DURATION_TEXT_MAX];

	fprintf(f, "%s%s", key, duration_format(ns, buffer, sizeof(buffer)));
}

static void format_engine(FILE *f, const struct config_engine *e)
{
	if (!e->by && !e->beat_limit_ns && !e->health_url[0])
		return;
	fprintf(f, "engine:\n");
	if (e->by) {
		if (e->by == ENGINE_BY_PORT)
			fprintf(f, "  listen: %u", e->port);
		format_text(f, "  cgroup: ", e->cgroup);
		format_text(f, "  pid_file: ", e->pid_file);
		fprintf(f, "\n  workers: %s\n", e->only_main ? "main" : "all");
		format_duration(f, "  worker_age: ", e->worker_age_ns);
		fprintf(f, "\n");
	}
	if (e->beat_limit_ns) {
		format_duration(f, "  beat: {limit: ", e->beat_limit_ns);
		format_text(f, ", socket: ", e->beat_socket);
		format_text(f, ", group: ", e->beat_group);
		format_text(f, ", pin: ", e->beat_pin);
		fprintf(f, "}\n");
	}
	if (e->health_url[0]) {
		format_text(f, "  health: {url: ", e->health_url);
		format_text(f, ", full_url: ", e->health_full_url);
		format_duration(f, ", interval: ", e->health_interval_ns);
		format_duration(f, ", timeout: ", e->health_timeout_ns);
		fprintf(f, ", rise: %u, fall: %u}\n", e->health_rise, e->health_fall);
	}
}

char *agent_config_format(const struct agent_config *config)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	writer_interfaces(f, config->interfaces, config->n_interfaces);
	format_addresses(f, "vips", config->vips, config->n_vips);
	fprintf(f, "setup_vips: %s\n", config->setup_vips ? "true" : "false");
	format_addresses(f, "balancers", config->balancers, config->n_balancers);
	fprintf(f, "control: {socket: ");
	writer_text(f, config->control_socket);
	fprintf(f, "}\n");
	if (config->key_file[0]) {
		format_text(f, "key_file: ", config->key_file);
		fprintf(f, "\n");
	}
	format_text(f, "pin: ", config->pin[0] ? config->pin : "none");
	fprintf(f, "\n");
	format_engine(f, &config->engine);
	return writer_close(f, &text);
}
