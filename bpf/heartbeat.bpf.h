/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * heartbeat.bpf.h - takes in the answers to probes: checks each as RFC 5880 6.8.6, RFC 7880 7.3.3 and RFC 5082 ask, and
 * only then stamps the session. An answer that says the engine is dead or stalled takes its backend down right here;
 * silence is left to detect.bpf.h (the tick) or to shuntd.
 *
 * The UDP checksum is not verified: 32 bits of each discriminator, the address and the round must already agree.
 */
#ifndef SHUNT_HEARTBEAT_BPF_H
#define SHUNT_HEARTBEAT_BPF_H

#include <linux/udp.h>
#include <bpf/bpf_endian.h>

#include "keys.bpf.h"
#include "maps.bpf.h"
#include "shunt/detect.h"
#include "shunt/heartbeat.h"

/* Is this UDP packet, not for a VIP, an answer to one of our probes? Ports as loaded from the wire. */
static __always_inline int heartbeat_matches(__be16 source, __be16 dest)
{
	return source == bpf_htons(SBFD_PORT) && (__u16)(bpf_ntohs(dest) - PROBE_SOURCE_PORT) < PROBE_SOURCE_PORTS;
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

/* The answer whose UDP header starts l4_offset bytes into the packet. */
static __always_inline enum reason heartbeat_receive(struct xdp_md *ctx, __u32 l4_offset,
						     const struct shunt_addr *saddr, __u8 ttl)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct detector *d;
	struct session *s;
	struct udphdr *udp;
	struct probe *probe;
	__u32 zero = 0, id, slot;
	__u64 round, answered, now;

	if (l4_offset > 256)
		return REASON_PROBE_MALFORMED;
	udp = data + l4_offset;
	probe = (void *)(udp + 1);
	if ((void *)(probe + 1) > data_end || bpf_ntohs(udp->len) < sizeof(*udp) + sizeof(*probe))
		return REASON_PROBE_MALFORMED;
	if (ttl != SBFD_TTL)
		return REASON_PROBE_TTL;
	/* RFC 7880 7.3.3: an initiator drops what has the demand bit; the state is Up or AdminDown only. */
	if (probe->bfd.vers_diag >> 5 != BFD_VERSION || probe->bfd.length != BFD_LENGTH || !probe->bfd.detect_mult ||
	    (probe->bfd.flags & (BFD_AUTH | BFD_DEMAND | BFD_MULTIPOINT)) ||
	    (probe->bfd.flags >> BFD_STATE_SHIFT != BFD_UP && probe->bfd.flags >> BFD_STATE_SHIFT != BFD_ADMIN_DOWN) ||
	    probe->trailer.magic != bpf_htonl(PROBE_MAGIC) || probe->trailer.version != PROBE_VERSION)
		return REASON_PROBE_MALFORMED;

	id = bpf_ntohl(probe->bfd.your_discriminator) & (SHUNT_MAX_BACKENDS - 1);
	s = bpf_map_lookup_elem(&sessions, &id);
	d = bpf_map_lookup_elem(&detector, &zero);
	if (!s || !d || !s->discriminator || s->discriminator != bpf_ntohl(probe->bfd.your_discriminator) ||
	    s->your_discriminator != bpf_ntohl(probe->bfd.my_discriminator) || !address_equal(&s->address, saddr))
		return REASON_PROBE_UNKNOWN;

	round = bpf_be64_to_cpu(probe->trailer.round);
	slot = round & (SHUNT_ROUNDS - 1);
	if (d->rounds[slot].round != round)
		return round < d->rounds[slot].round ? REASON_PROBE_OLD : REASON_PROBE_UNASKED;
	answered = *(volatile __u64 *)&s->answered_round;
	if (round <= answered || __sync_val_compare_and_swap(&s->answered_round, answered, round) != answered)
		return REASON_PROBE_OLD;

	now = bpf_ktime_get_ns();
	s->answered_ns = now;
	s->rtt_ns = now - d->rounds[slot].sent_ns;
	s->engine = probe->trailer.engine;
	s->flags = bpf_ntohs(probe->trailer.flags);
	s->agent_age_us = bpf_ntohl(probe->trailer.agent_age_us);
	s->incarnation = bpf_ntohl(probe->trailer.incarnation);
	__sync_fetch_and_add(&s->answers, 1);
	if (probe->trailer.engine == ENGINE_DEAD || probe->trailer.engine == ENGINE_STALLED)
		engine_flip(id, &probe->trailer, round, d->rounds[slot].sent_ns);
	return REASON_PROBE_ANSWER;
}

#endif
