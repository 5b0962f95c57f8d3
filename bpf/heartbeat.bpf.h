/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * heartbeat.bpf.h - takes in the answers to probes and the echoes that came back: checks each as RFC 5880 6.8.6, RFC 7880
 * 7.3.3, RFC 9747 2 and RFC 5082 ask, what is cheap first and the tag last, and only then stamps the session. An answer
 * that says the engine is dead or stalled takes its backend down right here; silence is left to detect.bpf.h (the tick) or
 * to shuntd.
 *
 * A program of its own, which the walk leaves for by a tail call: the walk has no stack left for it, and few packets need
 * it. It reads the packet anew.
 *
 * The UDP checksum is not verified: 32 bits of each discriminator, the address and the round must already agree.
 */
#ifndef SHUNT_HEARTBEAT_BPF_H
#define SHUNT_HEARTBEAT_BPF_H

#include <linux/udp.h>
#include <bpf/bpf_endian.h>

#include "keys.bpf.h"
#include "maps.bpf.h"
#include "packet.bpf.h"
#include "parse.bpf.h"
#include "shunt/detect.h"
#include "shunt/heartbeat.h"
#include "shunt/round_trip.h"
#include "verdict.bpf.h"

/* Is this UDP packet, not for a VIP, an answer to one of our probes, or an echo? Ports as loaded from the wire. */
static __always_inline int heartbeat_matches(__be16 source, __be16 dest)
{
	return dest == bpf_htons(ECHO_PORT) ||
	       (source == bpf_htons(SBFD_PORT) && (__u16)(bpf_ntohs(dest) - PROBE_SOURCE_PORT) < PROBE_SOURCE_PORTS);
}

static __always_inline int address_equal(const struct shunt_addr *a, const struct shunt_addr *b)
{
	return !((a->w[0] ^ b->w[0]) | (a->w[1] ^ b->w[1]) | (a->w[2] ^ b->w[2]) | (a->w[3] ^ b->w[3]));
}

/*
 * The answer to `round` says that the engine is no more, or not moving: a fact that needs no witness. The word is flipped,
 * then shuntd is told. `said` is in the packet. Not inlined: it is rare, and the walk is long enough.
 */
static __noinline int engine_flip(__u32 id, const struct probe_trailer *said, __u64 round, __u64 sent_ns)
{
	struct backend *b = bpf_map_lookup_elem(&backends, &id);
	int dead = said->engine == ENGINE_DEAD;
	struct event *e;
	__u32 word;

	if (!b)
		return 0;
	word = *(volatile __u32 *)&b->word;
	if (!word_is_judged(word) ||
	    __sync_val_compare_and_swap(&b->word, word,
					BACKEND_WORD(BACKEND_DOWN, dead ? VERDICT_DEAD : VERDICT_STALLED)) != word)
		return 0; /* down already, or another's turn: the next answer says it again */
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0; /* a full ring loses the story, not the verdict: shuntd reads the words too */
	*e = (struct event){
		.kind = dead ? EVENT_DEAD : EVENT_STALLED,
		.backend = id,
		.at_ns = bpf_ktime_get_ns(),
		.first_round = round,
		.first_sent_ns = sent_ns,
		.last_round = round,
		.cause = bpf_ntohs(said->cause),
		.beat_age_us = bpf_ntohl(said->beat_age_us),
		.agent_age_us = bpf_ntohl(said->agent_age_us),
	};
	e->answered_ns = e->at_ns;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/*
 * An echo that isn't ours to judge: without our magic, or too short for it, it is another program's; with TTL 255 nobody has sent it back yet,
 * so this host is the one that is to do it.
 */
static __always_inline int echo_is_foreign(const struct packet *p, const struct probe *probe)
{
	return probe->trailer.magic != bpf_htonl(PROBE_MAGIC) || p->ttl == SBFD_TTL;
}

/*
 * RFC 5880 6.8.6. Of an answer also RFC 7880 7.3.3: no demand bit, and the state is Up or AdminDown. Of an echo, which
 * nobody but we wrote, the version must be ours.
 */
static __always_inline int probe_is_wellformed(const struct probe *probe, int is_echo)
{
	__u8 state = probe->bfd.flags >> BFD_STATE_SHIFT;

	if (probe->bfd.vers_diag >> 5 != BFD_VERSION || probe->bfd.length != BFD_LENGTH || !probe->bfd.detect_mult ||
	    (probe->bfd.flags & (BFD_AUTH | BFD_MULTIPOINT)) || probe->trailer.magic != bpf_htonl(PROBE_MAGIC))
		return 0;
	if (is_echo)
		return probe->trailer.version == PROBE_VERSION;
	return !(probe->bfd.flags & BFD_DEMAND) && (state == BFD_UP || state == BFD_ADMIN_DOWN);
}

/* What it says of the engine; nothing, if it is an echo or of a version that we can't read. */
static __always_inline void session_stamp(struct session *s, const struct probe_trailer *said, int is_readable)
{
	s->version = said->version;
	s->engine = is_readable ? said->engine : ENGINE_UNKNOWN;
	s->flags = is_readable ? bpf_ntohs(said->flags) : 0;
	s->agent_age_us = is_readable ? bpf_ntohl(said->agent_age_us) : PROBE_AGE_UNKNOWN;
	s->incarnation = is_readable ? bpf_ntohl(said->incarnation) : 0;
	s->in_flight = is_readable ? bpf_ntohl(said->in_flight) : 0;
	s->queued = is_readable ? bpf_ntohl(said->queued) : 0;
}

static __always_inline enum reason heartbeat_receive(struct packet *p)
{
	enum reason reason = parse(p);
	struct round_trips *trips;
	struct probe_keys *keys;
	struct detector *d;
	struct session *s;
	struct udphdr *udp;
	struct probe *probe;
	__u32 zero = 0, id, slot, missed;
	__u64 round, answered, now;
	int is_echo, is_readable;

	if (reason != GO_ON)
		return reason;
	udp = packet_at(p, p->l4, sizeof(*udp) + sizeof(*probe));
	is_echo = p->vip_port == bpf_htons(ECHO_PORT);
	if (!udp)
		return is_echo ? REASON_NOT_VIP : REASON_PROBE_MALFORMED;
	probe = (struct probe *)(udp + 1);
	if (is_echo && echo_is_foreign(p, probe))
		return REASON_NOT_VIP;
	if (p->flaw != GO_ON || bpf_ntohs(udp->len) < sizeof(*udp) + sizeof(*probe))
		return REASON_PROBE_MALFORMED;
	if (p->ttl != (is_echo ? ECHO_TTL : SBFD_TTL))
		return REASON_PROBE_TTL;
	if (!probe_is_wellformed(probe, is_echo))
		return REASON_PROBE_MALFORMED;

	id = bpf_ntohl(probe->bfd.your_discriminator) & (SHUNT_MAX_BACKENDS - 1);
	s = bpf_map_lookup_elem(&sessions, &id);
	trips = bpf_map_lookup_elem(&round_trips, &id);
	d = bpf_map_lookup_elem(&detector, &zero);
	keys = bpf_map_lookup_elem(&probe_keys, &zero);
	if (!s || !trips || !d || !keys)
		return REASON_TABLE_MISSING;
	if (!s->discriminator || s->kind != (is_echo ? SESSION_ECHO : SESSION_HEARTBEAT) ||
	    s->discriminator != bpf_ntohl(probe->bfd.your_discriminator) ||
	    s->your_discriminator != bpf_ntohl(probe->bfd.my_discriminator) ||
	    !address_equal(&s->address, &p->client.addr) || (is_echo && !address_equal(&s->address, &p->vip.addr)))
		return REASON_PROBE_UNKNOWN;

	round = bpf_be64_to_cpu(probe->trailer.round);
	slot = round & (SHUNT_ROUNDS - 1);
	if (d->rounds[slot].round < round)
		return REASON_PROBE_UNASKED;
	if (d->rounds[slot].round > round) {
		s->too_late++; /* not atomic: a hint */
		return REASON_PROBE_OLD;
	}
	answered = *(volatile __u64 *)&s->answered_round;
	if (round <= answered)
		return REASON_PROBE_OLD;
	if (is_echo ? tag_of(&keys->echo, probe) != probe->trailer.tag
		    : keys->n && tag_signer(keys, probe) == TAG_FORGED) {
		s->forged++; /* not atomic: a hint */
		return REASON_PROBE_FORGED;
	}
	if (__sync_val_compare_and_swap(&s->answered_round, answered, round) != answered)
		return REASON_PROBE_OLD; /* another CPU has its twin, or one of a later round */

	now = bpf_ktime_get_ns();
	s->answered_ns = now;
	s->rtt_ns = now - d->rounds[slot].sent_ns;
	__sync_fetch_and_add(&trips->buckets[round_trip_bucket(s->rtt_ns) & (ROUND_TRIP_BUCKETS - 1)], 1);
	is_readable = !is_echo && probe->trailer.version == PROBE_VERSION;
	missed = rounds_missed(*(volatile __u64 *)&s->asked, answered, round);
	if (missed) {
		struct backend *b = bpf_map_lookup_elem(&backends, &id);

		if (!b || !word_is_judged(*(volatile __u32 *)&b->word))
			missed = 0; /* it was down: an outage, no loss */
	}
	if (missed || s->loss)
		s->loss = loss_update(s->loss, missed);
	session_stamp(s, &probe->trailer, is_readable);
	__sync_fetch_and_add(&s->answers, 1);
	if (is_readable && (probe->trailer.engine == ENGINE_DEAD || probe->trailer.engine == ENGINE_STALLED))
		engine_flip(id, &probe->trailer, round, d->rounds[slot].sent_ns);
	return REASON_PROBE_ANSWER;
}

SEC("xdp")
int shunt_heartbeat(struct xdp_md *ctx)
{
	struct packet p = {
		.ctx = ctx,
		.frame_bytes = ctx->data_end - ctx->data,
		.flaw = GO_ON,
	};

	packet_reload(&p);
	return verdict(heartbeat_receive(&p));
}

/* Filled by libbpf as the object is loaded; the kernel empties it when no process has it open and nothing pins it. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} heartbeat_program SEC(".maps") = { .values = { [0] = (void *)&shunt_heartbeat } };

/* Leave the walk for it. Returns only if it isn't there. */
static __always_inline enum reason heartbeat_leave(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &heartbeat_program, 0);
	return REASON_TABLE_MISSING;
}

#endif
