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
	static const char *const words[] = { "false", "true", NULL };
	size_t choice;
	int err = reader_choice(node, "setup_vips", words, &choice, error);

	if (!err)
		*(bool *)into = choice == 1;
	return err;
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

static int read_config(const struct node *root, struct agent_config *config, struct config_error *error)
{
	static const struct reader_mapping mapping = {
		.what = "the agent's configuration",
		.n_keys = 5,
		.keys = {
			{ "interfaces", true, read_interfaces, 0 },
			{ "vips", false, read_vips, 0 },
			{ "setup_vips", false, read_setup_vips, offsetof(struct agent_config, setup_vips) },
			{ "balancers", false, read_balancers, 0 },
			{ "control", false, read_control, 0 },
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
	if (config)
		memcpy(config->control_socket, AGENT_CONTROL_SOCKET, sizeof(AGENT_CONTROL_SOCKET));
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
	return writer_close(f, &text);
}
