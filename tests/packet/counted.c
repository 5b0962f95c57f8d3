// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * counted.c - see counted.h.
 */
#include <linux/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "counted.h"

#define REASON_NAME(name, action, sentence) #name,
#define REASON_ACTION(name, action, sentence) XDP_##action,
const char *const reason_names[REASON_COUNT] = { SHUNT_REASONS(REASON_NAME) };
const uint32_t reason_actions[REASON_COUNT] = { SHUNT_REASONS(REASON_ACTION) };

static bool reached[REASON_COUNT];

bool reason_was_reached(enum reason reason)
{
	return reached[reason];
}

enum reason run(struct run *out, const struct frame *in, unsigned meta_bytes)
{
	uint64_t before[REASON_COUNT], after[REASON_COUNT];
	enum reason moved = REASON_COUNT;

	world_reasons(before);
	assert_int_equal(world_run(out, in, meta_bytes), 0);
	world_reasons(after);
	for (int r = 0; r < REASON_COUNT; r++) {
		if (after[r] == before[r])
			continue;
		if (moved != REASON_COUNT)
			fail_msg("counted as %s and as %s", reason_names[moved], reason_names[r]);
		if (after[r] != before[r] + 1)
			fail_msg("%s counted %d times", reason_names[r], (int)(after[r] - before[r]));
		moved = (enum reason)r;
	}
	if (moved == REASON_COUNT)
		fail_msg("counted nowhere");
	assert_int_equal(out->action, reason_actions[moved]);
	reached[moved] = true;
	return moved;
}

void assert_frame(const struct frame *got, const struct frame *want)
{
	for (size_t i = 0; i < got->size && i < want->size; i++)
		if (got->bytes[i] != want->bytes[i])
			fail_msg("byte %zu is %02x, not %02x (sizes %zu, %zu)", i, got->bytes[i], want->bytes[i],
				 got->size, want->size);
	assert_int_equal(got->size, want->size);
}
