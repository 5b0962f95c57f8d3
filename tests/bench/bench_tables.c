// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bench_tables.c - what the tables cost and how even and calm they are: bench_tables OUT.json
 *
 * For pools of 10, 100 and 1000 backends of equal weight and 65,537 slots, 11 times, each time with another backend as
 * the victim: build the table, take the victim down, bring it back, and build once more without it. Prints a table for
 * people and writes the figures, medians with the smallest and largest beside them, as JSON.
 *
 * Shares and moved_on_remove are relative to the ideal: 1 is an exactly fair share, and as many slots moved as a fair
 * share has. moved_on_loss is a number of slots and has to be that of the lost backend; if ever it is not, the exit
 * status is 1.
 */
#include <errno.h>
#include <jansson.h>
#include <time.h>

#include "core/table.h"

#define N_SLOTS SHUNT_DEFAULT_SLOTS
#define N_REPEATS 11
#define MAX_BACKENDS 1000
#define SEED 0x5eed0123456789abULL

static const size_t pool_sizes[] = { 10, 100, MAX_BACKENDS };

struct figure {
	double value[N_REPEATS]; /* sorted by figure_sort() */
};

struct result {
	struct figure build_ms, rebuild_ms, return_ms; /* build; after a death; after the return */
	struct figure moved_on_remove;
	double largest_share, smallest_share;
	uint32_t moved_on_loss, lost; /* of the first repeat: slots served by another; slots its victim owned */
};

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int value_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void figure_sort(struct figure *f)
{
	qsort(f->value, N_REPEATS, sizeof(f->value[0]), value_compare);
}

static void pool_make(struct table_member *members, char (*names)[TABLE_NAME_MAX], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		snprintf(names[i], TABLE_NAME_MAX, "gpu%zu", i + 1);
		members[i] = (struct table_member){
			.id = (uint16_t)(i + 1), .alive = true, .weight = 100, .name = names[i], .domain = ""
		};
	}
}

/* Largest and smallest number of slots owned, relative to the fair one. */
static void shares_measure(struct result *r, const struct slot *slots, size_t n)
{
	uint32_t owned[MAX_BACKENDS + 1] = { 0 }, largest = 0, smallest = UINT32_MAX;

	for (uint32_t slot = 0; slot < N_SLOTS; slot++)
		owned[slots[slot].owner]++;
	for (size_t id = 1; id <= n; id++) {
		if (owned[id] > largest)
			largest = owned[id];
		if (owned[id] < smallest)
			smallest = owned[id];
	}
	r->largest_share = (double)largest * (double)n / N_SLOTS;
	r->smallest_share = (double)smallest * (double)n / N_SLOTS;
}

/* One repeat. 0, -errno, or -EPROTO: a loss moved other slots than the lost backend's. */
static int repeat_measure(struct result *r, int repeat, const struct table_member *members, size_t n)
{
	static struct slot before[N_SLOTS];
	static struct table_member rest[MAX_BACKENDS];
	size_t victim = n * (size_t)repeat / N_REPEATS;
	uint16_t id = members[victim].id;
	uint32_t n_slots, moved = 0, lost = 0, removed = 0;
	struct table *table = NULL, *without = NULL;
	const struct slot *slots;
	double start = now_ms();
	int err = table_build(&table, members, n, N_SLOTS, SEED);

	r->build_ms.value[repeat] = now_ms() - start;
	if (err)
		return err;
	slots = table_slots(table, &n_slots);
	memcpy(before, slots, sizeof(before));
	shares_measure(r, slots, n);

	start = now_ms();
	err = table_set_alive(table, id, false);
	r->rebuild_ms.value[repeat] = now_ms() - start;
	if (err < 0)
		goto out;
	slots = table_slots(table, &n_slots);
	for (uint32_t slot = 0; slot < N_SLOTS; slot++) {
		uint16_t served = slots[slot].owner == id ? slots[slot].heir : slots[slot].owner;

		moved += served != before[slot].owner;
		lost += before[slot].owner == id;
	}
	if (!repeat) {
		r->moved_on_loss = moved;
		r->lost = lost;
	}

	start = now_ms();
	err = table_set_alive(table, id, true);
	r->return_ms.value[repeat] = now_ms() - start;
	if (err < 0)
		goto out;

	memcpy(rest, members, victim * sizeof(*rest));
	memcpy(rest + victim, members + victim + 1, (n - victim - 1) * sizeof(*rest));
	err = table_build(&without, rest, n - 1, N_SLOTS, SEED);
	if (err)
		goto out;
	slots = table_slots(without, &n_slots);
	for (uint32_t slot = 0; slot < N_SLOTS; slot++)
		removed += slots[slot].owner != before[slot].owner;
	r->moved_on_remove.value[repeat] = (double)removed * (double)n / N_SLOTS;
	if (moved != lost) {
		fprintf(stderr, "bench_tables: %zu backends: losing %s moved %u slots, it owned %u\n", n,
			members[victim].name, moved, lost);
		err = -EPROTO;
	}
out:
	table_free(without);
	table_free(table);
	return err;
}

static void figure_print(const struct figure *f, int width, int decimals)
{
	char text[64];

	snprintf(text, sizeof(text), "%.*f (%.*f..%.*f)", decimals, f->value[N_REPEATS / 2], decimals, f->value[0],
		 decimals, f->value[N_REPEATS - 1]);
	printf(" %*s", width, text);
}

static void figure_put(json_t *object, const char *name, const struct figure *f)
{
	char key[64];

	json_object_set_new(object, name, json_real(f->value[N_REPEATS / 2]));
	snprintf(key, sizeof(key), "%s_min", name);
	json_object_set_new(object, key, json_real(f->value[0]));
	snprintf(key, sizeof(key), "%s_max", name);
	json_object_set_new(object, key, json_real(f->value[N_REPEATS - 1]));
}

static json_t *result_json(const struct result *r, size_t n)
{
	json_t *object = json_object();

	json_object_set_new(object, "backends", json_integer((json_int_t)n));
	figure_put(object, "build_ms", &r->build_ms);
	figure_put(object, "rebuild_ms", &r->rebuild_ms);
	figure_put(object, "return_ms", &r->return_ms);
	json_object_set_new(object, "largest_share", json_real(r->largest_share));
	json_object_set_new(object, "smallest_share", json_real(r->smallest_share));
	json_object_set_new(object, "moved_on_loss", json_integer(r->moved_on_loss));
	json_object_set_new(object, "slots_of_lost", json_integer(r->lost));
	figure_put(object, "moved_on_remove", &r->moved_on_remove);
	return object;
}

int main(int argc, char **argv)
{
	static char names[MAX_BACKENDS][TABLE_NAME_MAX];
	static struct table_member members[MAX_BACKENDS];
	json_t *root, *results;
	int status = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: bench_tables OUT.json\n");
		return 2;
	}
	root = json_object();
	results = json_array();
	json_object_set_new(root, "slots", json_integer(N_SLOTS));
	json_object_set_new(root, "repeats", json_integer(N_REPEATS));
	json_object_set_new(root, "results", results);

	printf("tables: %d slots, medians of %d (smallest..largest)\n", N_SLOTS, N_REPEATS);
	printf("%8s %24s %24s %24s %15s %15s %24s\n", "backends", "build ms", "after a death ms", "after a return ms",
	       "share of ideal", "moved on loss", "moved on removal");
	for (size_t i = 0; i < sizeof(pool_sizes) / sizeof(pool_sizes[0]); i++) {
		size_t n = pool_sizes[i];
		struct result r = { 0 };
		char shares[32], loss[32];

		pool_make(members, names, n);
		for (int repeat = 0; repeat < N_REPEATS; repeat++) {
			int err = repeat_measure(&r, repeat, members, n);

			if (err && err != -EPROTO) {
				fprintf(stderr, "bench_tables: %zu backends: %s\n", n, strerror(-err));
				json_decref(root);
				return 1;
			}
			status |= err != 0;
		}
		figure_sort(&r.build_ms);
		figure_sort(&r.rebuild_ms);
		figure_sort(&r.return_ms);
		figure_sort(&r.moved_on_remove);
		snprintf(shares, sizeof(shares), "%.3f..%.3f", r.smallest_share, r.largest_share);
		snprintf(loss, sizeof(loss), "%u of its %u", r.moved_on_loss, r.lost);
		printf("%8zu", n);
		figure_print(&r.build_ms, 24, 2);
		figure_print(&r.rebuild_ms, 24, 2);
		figure_print(&r.return_ms, 24, 2);
		printf(" %15s %15s", shares, loss);
		figure_print(&r.moved_on_remove, 24, 3);
		printf("\n");
		json_array_append_new(results, result_json(&r, n));
	}
	if (json_dump_file(root, argv[1], JSON_INDENT(2) | JSON_REAL_PRECISION(6))) {
		fprintf(stderr, "bench_tables: cannot write %s\n", argv[1]);
		status = 1;
	}
	json_decref(root);
	return status;
}
