/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * keys.c - see keys.h.
 */
#include "agent/keys.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "common/key_file.h"
#include "shunt/reasons.h"

#define LOOK_PERIOD_NS 1000000000ULL /* chosen */
#define SAY_PERIOD_NS 60000000000ULL /* chosen: who floods us doesn't fill the log */

int keys_read(struct keys *k)
{
	const char *path = k->config->key_file;
	struct probe_keys keys = { 0 };
	__u32 zero = 0;
	char why[CONFIG_PATH_MAX + 128];
	int err = *path ? key_file_read(&keys, path, why, sizeof(why)) : 0;

	if (!err) {
		err = bpf_map_update_elem(k->map_fd, &zero, &keys, BPF_ANY);
		if (err)
			snprintf(why, sizeof(why), "cannot set the keys of tags: %s", strerror(-err));
	}
	if (err)
		fprintf(stderr, "shunt-agent: %s\n", why);
	else
		k->n = keys.n;
	return err;
}

/* Over all CPUs. 0 where it can't be told. */
static uint64_t refused(const struct keys *k)
{
	__u32 key = AGENT_REASON_REFUSED_TAG;
	int n_cpus = libbpf_num_possible_cpus();
	uint64_t *counts = n_cpus > 0 ? calloc((size_t)n_cpus, sizeof(*counts)) : NULL, sum = 0;

	if (counts && !bpf_map_lookup_elem(k->reasons_fd, &key, counts))
		for (int i = 0; i < n_cpus; i++)
			sum += counts[i];
	free(counts);
	return sum;
}

void keys_run(struct keys *k, uint64_t now_ns)
{
	uint64_t n;
	char address[ADDRESS_TEXT_MAX];

	if (!k->n || now_ns < k->look_ns || now_ns < k->say_ns)
		return;
	k->look_ns = now_ns + LOOK_PERIOD_NS;
	n = refused(k);
	if (n <= k->refused)
		return;
	fprintf(stderr,
		"shunt-agent: probes of %s bear no right tag, %" PRIu64
		" of them: is key_file the same on both sides?\n",
		address_format(&k->word->refused, address, sizeof(address)), n - k->refused);
	k->refused = n;
	k->say_ns = now_ns + SAY_PERIOD_NS;
}

void keys_describe(const struct keys *k, FILE *f)
{
	uint64_t n = k->n ? refused(k) : 0;

	if (k->n)
		fprintf(f, "tags: demanded, %" PRIu64 " %s", k->n, k->n == 1 ? "key" : "keys");
	if (n)
		fprintf(f, ", %" PRIu64 " probes refused", n);
	if (k->n)
		fputc('\n', f);
}
