/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * outlet.h - segments (core/segment.h) on their way from a VIP to clients: batches through raw sockets, never waiting.
 * They take the way that the host's routes give. Used by the journal, in the main loop.
 */
#ifndef SHUNTD_OUTLET_H
#define SHUNTD_OUTLET_H

#include <stdbool.h>
#include <stdint.h>

#include "shunt/abi.h"

struct outlet;

int outlet_open(struct outlet **out); /* 0 or -errno; CAP_NET_RAW is needed */
void outlet_close(struct outlet *outlet); /* NULL is allowed; what waits is not sent */

/* Room for what one flow may need, a refusal and a challenge; sends what waits if it must. False: not now. */
bool outlet_has_room(struct outlet *outlet);

/* Queue a segment to a flow's client; there is room. Each challenge draws its own sequence number. */
void outlet_challenge(struct outlet *outlet, const struct flow *flow);
void outlet_refuse(struct outlet *outlet, const struct flow *flow);

/* Send what waits. False: the sockets take no more now, and the rest goes on waiting. */
bool outlet_flush(struct outlet *outlet);

/* Segments so far that could not be sent: there is no route to their client. */
uint64_t outlet_failed(const struct outlet *outlet);

#endif
