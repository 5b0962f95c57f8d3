/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * check.c - see check.h.
 */
#include <string.h>

#include "core/check.h"
#include "core/reader.h"
#include "core/writer.h"

static const char *const type_names[] = { [CHECK_HEARTBEAT] = "heartbeat",
					  [CHECK_ECHO] = "echo",
					  [CHECK_BFD] = "bfd",
					  [CHECK_TCP] = "tcp",
					  [CHECK_HTTP] = "http",
					  NULL };

const char *check_name(enum config_check_type type)
{
	return type_names[type];
}

bool check_equal(const struct config_check *a, const struct config_check *b)
{
	return a->type == b->type && a->interval_ns == b->interval_ns && a->timeout_ns == b->timeout_ns &&
	       a->multiplier == b->multiplier && a->rise == b->rise && a->fall == b->fall && a->port == b->port &&
	       !strcmp(a->path, b->path);
}

static int read_type(const struct node *node, void *into, struct config_error *error)
{
	size_t choice;
	int err = reader_choice(node, "type", type_names, &choice, error);

	if (!err)
		*(enum config_check_type *)into = (enum config_check_type)choice;
	return err;
}

static int read_bfd_interval(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "interval", 3000000ULL, 10000000000ULL, into, error);
}

static int read_interval(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "interval", 10000000ULL, 3600000000000ULL, into, error);
}

static int read_timeout(const struct node *node, void *into, struct config_error *error)
{
	return reader_duration(node, "timeout", 10000000ULL, 60000000000ULL, into, error);
}

static int read_count(const struct node *node, const char *what, uint64_t min, uint64_t max, uint32_t *out,
		      struct config_error *error)
{
	uint64_t number;
	int err = reader_number(node, what, min, max, &number, error);

	if (!err)
		*out = (uint32_t)number;
	return err;
}

static int read_multiplier(const struct node *node, void *into, struct config_error *error)
{
	return read_count(node, "multiplier", 2, UINT8_MAX, into, error);
}

static int read_rise(const struct node *node, void *into, struct config_error *error)
{
	return read_count(node, "rise", 1, 100, into, error);
}

static int read_fall(const struct node *node, void *into, struct config_error *error)
{
	return read_count(node, "fall", 1, 100, into, error);
}

static int read_port(const struct node *node, void *into, struct config_error *error)
{
	uint64_t number;
	int err = reader_number(node, "port", 1, UINT16_MAX, &number, error);

	if (!err)
		*(uint16_t *)into = (uint16_t)number;
	return err;
}

static int read_path(const struct node *node, void *into, struct config_error *error)
{
	return reader_text(node, "path", "/", "the path of a URL", into, error);
}

/* A check has the first keys of one of these, as many as its type says. */
static const struct reader_key connection_keys[] = {
	{ "type", true, read_type, offsetof(struct config_check, type) },
	{ "port", true, read_port, offsetof(struct config_check, port) },
	{ "interval", false, read_interval, offsetof(struct config_check, interval_ns) },
	{ "timeout", false, read_timeout, offsetof(struct config_check, timeout_ns) },
	{ "rise", false, read_rise, offsetof(struct config_check, rise) },
	{ "fall", false, read_fall, offsetof(struct config_check, fall) },
	{ "path", false, read_path, offsetof(struct config_check, path) },
};

static const struct reader_key bfd_keys[] = {
	{ "type", true, read_type, offsetof(struct config_check, type) },
	{ "interval", false, read_bfd_interval, offsetof(struct config_check, interval_ns) },
	{ "multiplier", false, read_multiplier, offsetof(struct config_check, multiplier) },
};

static const struct {
	const char *what;
	const struct reader_key *keys;
	size_t n_keys;
	struct config_check defaults;
} types[] = {
	[CHECK_HEARTBEAT] = { "a check by heartbeat", connection_keys, 1, { .type = CHECK_HEARTBEAT } },
	[CHECK_ECHO] = { "a check by echo", connection_keys, 1, { .type = CHECK_ECHO } },
	[CHECK_BFD] = { "a check by bfd", bfd_keys, 3, { CHECK_BFD, .interval_ns = 10000000, .multiplier = 3 } },
	[CHECK_TCP] = { "a check by tcp",
			connection_keys,
			6,
			{ CHECK_TCP, .interval_ns = 1000000000, .timeout_ns = 1000000000, .rise = 2, .fall = 3 } },
	[CHECK_HTTP] = { "a check by http",
			 connection_keys,
			 7,
			 { CHECK_HTTP, .interval_ns = 1000000000, .timeout_ns = 1000000000, .rise = 2, .fall = 3,
			   .path = "/health" } },
};

static int read_keys(const struct node *node, struct config_check *check, struct config_error *error)
{
	struct reader_mapping mapping = { .what = types[check->type].what, .n_keys = types[check->type].n_keys };

	memcpy(mapping.keys, types[check->type].keys, mapping.n_keys * sizeof(mapping.keys[0]));
	return reader_mapping(node, &mapping, check, error);
}

/* The node that says the type: the check itself, or its value of `type`; NULL: there is none. */
static const struct node *type_node(const struct node *check)
{
	if (check->kind != NODE_MAPPING)
		return check;
	for (size_t i = 0; i < check->n_children; i += 2)
		if (check->children[i]->kind == NODE_TEXT && !strcmp(check->children[i]->text, "type"))
			return check->children[i + 1];
	return NULL;
}

int check_read(const struct node *node, void *into, struct config_error *error)
{
	const struct node *type = type_node(node);
	struct config_check *check = into;
	size_t choice;
	int err;

	if (!type)
		return node_fail(node, error, "missing key in a check, expected 'type'");
	err = reader_choice(type, type == node ? "check" : "type", type_names, &choice, error);
	if (err)
		return err;
	*check = types[choice].defaults;
	if (node->kind == NODE_MAPPING)
		return read_keys(node, check, error);
	if (check->type == CHECK_TCP || check->type == CHECK_HTTP)
		return reader_expected(node, "check", error, "its port beside it, such as {type: %s, port: 8000}",
				       node->text);
	return 0;
}

static void format_duration(FILE *f, const char *key, uint64_t ns)
{
	char buffer[DURATION_TEXT_MAX];

	fprintf(f, ", %s: %s", key, duration_format(ns, buffer, sizeof(buffer)));
}

void check_format(FILE *f, const struct config_check *check)
{
	if (check->type == CHECK_HEARTBEAT || check->type == CHECK_ECHO) {
		fputs(check_name(check->type), f);
		return;
	}
	fprintf(f, "{type: %s", check_name(check->type));
	if (check->port)
		fprintf(f, ", port: %u", check->port);
	if (check->path[0]) {
		fprintf(f, ", path: ");
		writer_text(f, check->path);
	}
	format_duration(f, "interval", check->interval_ns);
	if (check->type == CHECK_BFD) {
		fprintf(f, ", multiplier: %u}", check->multiplier);
		return;
	}
	format_duration(f, "timeout", check->timeout_ns);
	fprintf(f, ", rise: %u, fall: %u}", check->rise, check->fall);
}
