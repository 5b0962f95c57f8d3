// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bfd.c - see bfd.h. Sections named here are RFC 5880's.
 */
#include "core/bfd.h"

#include <arpa/inet.h>

#define US 1000ULL
#define AUTHENTICATED_LENGTH 26 /* least Length with the A bit: 6.8.6 */

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint8_t packet_state(const struct bfd_packet *p)
{
	return p->flags >> BFD_STATE_SHIFT;
}

/* What we advertise as Desired Min TX: slow unless Up (6.8.3). */
static uint64_t desired_tx_ns(const struct bfd *b)
{
	return b->state == BFD_UP ? b->settings.min_tx_ns : later(b->settings.min_tx_ns, BFD_SLOW_NS);
}

/*
 * What we advertise changed: a Poll Sequence tells the peer (6.8.3). While Up, a longer interval of ours holds only when
 * the peer knows it, and so does a shorter one of the peer's, which we count the detection time by.
 */
static void timers_change(struct bfd *b)
{
	uint64_t tx_ns = desired_tx_ns(b), rx_ns = b->settings.min_rx_ns;

	if (tx_ns != b->tx_ns || rx_ns != b->rx_ns) {
		b->poll_again = b->poll && b->polled;
		b->poll = true;
	}
	if (tx_ns < b->tx_ns || b->state != BFD_UP)
		b->tx_ns = tx_ns;
	if (rx_ns > b->rx_ns || b->state != BFD_UP)
		b->rx_ns = rx_ns;
}

static void poll_end(struct bfd *b)
{
	b->polled = false;
	b->poll = b->poll_again;
	b->poll_again = false;
	if (b->poll)
		return;
	b->tx_ns = desired_tx_ns(b);
	b->rx_ns = b->settings.min_rx_ns;
}

static void state_change(struct bfd *b, uint8_t state, enum bfd_diag diag)
{
	b->state = state;
	b->diag = diag;
	b->changed = true;
	timers_change(b);
}

void bfd_open(struct bfd *b, uint32_t discriminator, const struct bfd_settings *settings)
{
	*b = (struct bfd){ .settings = *settings,
			   .state = BFD_DOWN,
			   .remote_state = BFD_DOWN,
			   .discriminator = discriminator,
			   .remote_min_rx_ns = 1 * US }; /* 6.8.1 */
	b->tx_ns = desired_tx_ns(b);
	b->rx_ns = settings->min_rx_ns;
}

void bfd_change(struct bfd *b, const struct bfd_settings *settings)
{
	b->settings = *settings;
	timers_change(b);
}

void bfd_admin(struct bfd *b, bool down)
{
	if (down == (b->state == BFD_ADMIN_DOWN))
		return;
	state_change(b, down ? BFD_ADMIN_DOWN : BFD_DOWN, down ? BFD_DIAG_ADMIN : BFD_DIAG_NONE);
}

uint64_t bfd_detection_ns(const struct bfd *b)
{
	return b->remote_multiplier * later(b->rx_ns, b->remote_min_tx_ns);
}

uint64_t bfd_interval_ns(const struct bfd *b)
{
	bool demand = b->remote_demand && b->state == BFD_UP && b->remote_state == BFD_UP;

	if (!b->remote_min_rx_ns || (demand && !b->poll))
		return 0;
	return later(b->tx_ns, b->remote_min_rx_ns);
}

/* ---- received ---- */

enum bfd_refusal bfd_check(const void *payload, size_t size, uint8_t ttl)
{
	const struct bfd_packet *p = payload;

	if (ttl != BFD_TTL)
		return BFD_REFUSED_TTL;
	if (size < sizeof(*p))
		return BFD_REFUSED_LENGTH;
	if (p->vers_diag >> 5 != BFD_VERSION)
		return BFD_REFUSED_VERSION;
	if (p->length < (p->flags & BFD_AUTH ? AUTHENTICATED_LENGTH : BFD_LENGTH) || p->length > size)
		return BFD_REFUSED_LENGTH;
	if (!p->detect_mult)
		return BFD_REFUSED_MULTIPLIER;
	if (p->flags & BFD_MULTIPOINT)
		return BFD_REFUSED_MULTIPOINT;
	if (!p->my_discriminator)
		return BFD_REFUSED_DISCRIMINATOR;
	if (!p->your_discriminator && packet_state(p) != BFD_DOWN && packet_state(p) != BFD_ADMIN_DOWN)
		return BFD_REFUSED_SESSION;
	if (p->flags & BFD_AUTH)
		return BFD_REFUSED_AUTHENTICATION;
	return BFD_TAKEN;
}

/* The state machine (6.8.6, figure in 6.2). */
static void state_follow(struct bfd *b, uint8_t received)
{
	switch (b->state) {
	case BFD_DOWN:
		if (received == BFD_DOWN)
			state_change(b, BFD_INIT, BFD_DIAG_NONE);
		else if (received == BFD_INIT)
			state_change(b, BFD_UP, BFD_DIAG_NONE);
		break;
	case BFD_INIT:
		if (received == BFD_ADMIN_DOWN)
			state_change(b, BFD_DOWN, BFD_DIAG_NEIGHBOUR);
		else if (received != BFD_DOWN)
			state_change(b, BFD_UP, BFD_DIAG_NONE);
		break;
	case BFD_UP:
		if (received == BFD_ADMIN_DOWN || received == BFD_DOWN)
			state_change(b, BFD_DOWN, BFD_DIAG_NEIGHBOUR);
		break;
	}
}

enum bfd_refusal bfd_receive(struct bfd *b, const struct bfd_packet *p, uint64_t now_ns)
{
	if (p->your_discriminator && ntohl(p->your_discriminator) != b->discriminator)
		return BFD_REFUSED_SESSION;
	b->remote_discriminator = ntohl(p->my_discriminator);
	b->remote_state = packet_state(p);
	b->remote_diag = p->vers_diag & 31;
	b->remote_demand = p->flags & BFD_DEMAND;
	b->remote_min_rx_ns = ntohl(p->required_min_rx_us) * US;
	b->remote_min_tx_ns = ntohl(p->desired_min_tx_us) * US;
	b->remote_multiplier = p->detect_mult;
	b->received_ns = now_ns;
	if (p->flags & BFD_FINAL && b->polled)
		poll_end(b);
	if (b->state == BFD_ADMIN_DOWN)
		return BFD_TAKEN;
	state_follow(b, b->remote_state);
	b->final = b->final || p->flags & BFD_POLL;
	return BFD_TAKEN;
}

/* ---- time ---- */

void bfd_run(struct bfd *b, uint64_t now_ns)
{
	if (!b->received_ns || now_ns < b->received_ns + bfd_detection_ns(b))
		return;
	b->received_ns = 0;
	b->remote_discriminator = 0; /* 6.8.1 */
	if (b->state == BFD_INIT || b->state == BFD_UP)
		state_change(b, BFD_DOWN, BFD_DIAG_EXPIRED);
}

void bfd_pardon(struct bfd *b, uint64_t now_ns)
{
	if (b->received_ns)
		b->received_ns = now_ns;
}

/* When the next periodic packet is due, UINT64_MAX: never. The interval counts as it is now, so a shorter one holds at once (6.8.3). */
static uint64_t due_ns(const struct bfd *b)
{
	uint64_t interval_ns = bfd_interval_ns(b);

	if (!interval_ns)
		return UINT64_MAX;
	if (!b->sent_ns)
		return 0;
	return b->sent_ns + interval_ns - (uint64_t)((unsigned __int128)(interval_ns / 4) * b->jitter >> 32);
}

bool bfd_should_send(const struct bfd *b, uint64_t now_ns)
{
	return b->changed || b->final || now_ns >= due_ns(b);
}

void bfd_put(struct bfd *b, struct bfd_packet *p, uint64_t now_ns, uint32_t random)
{
	/* P and F are never both set (6.5): the answer first. */
	uint8_t flags = b->final ? BFD_FINAL : b->poll ? BFD_POLL : 0;

	*p = (struct bfd_packet){ .vers_diag = BFD_VERS_DIAG(b->diag),
				  .flags = (uint8_t)(b->state << BFD_STATE_SHIFT | flags),
				  .detect_mult = b->settings.multiplier,
				  .length = BFD_LENGTH,
				  .my_discriminator = htonl(b->discriminator),
				  .your_discriminator = htonl(b->remote_discriminator),
				  .desired_min_tx_us = htonl((uint32_t)(desired_tx_ns(b) / US)),
				  .required_min_rx_us = htonl((uint32_t)(b->settings.min_rx_ns / US)) };
	b->polled = b->polled || flags == BFD_POLL;
	b->final = b->changed = false;
	b->sent_ns = now_ns;
	b->jitter = random;
}

uint64_t bfd_wake_ns(const struct bfd *b)
{
	uint64_t wake_ns = b->changed || b->final ? 0 : due_ns(b);

	if (b->received_ns && b->received_ns + bfd_detection_ns(b) < wake_ns)
		wake_ns = b->received_ns + bfd_detection_ns(b);
	return wake_ns;
}

/* ---- words ---- */

const char *bfd_state_name(uint8_t state)
{
	static const char *const names[] = {
		[BFD_ADMIN_DOWN] = "admin down", [BFD_DOWN] = "down", [BFD_INIT] = "init", [BFD_UP] = "up"
	};

	return names[state & 3];
}

const char *bfd_diag_name(uint8_t diag)
{
	static const char *const names[] = {
		"no diagnostic",
		"control detection time expired",
		"echo function failed",
		"neighbour signaled session down",
		"forwarding plane reset",
		"path down",
		"concatenated path down",
		"administratively down",
		"reverse concatenated path down",
	};

	return diag < sizeof(names) / sizeof(*names) ? names[diag] : "reserved diagnostic";
}
