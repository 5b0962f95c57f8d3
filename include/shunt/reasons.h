/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reasons.h - why a packet met its fate: one name, one action, one sentence each.
 *
 * Source of the BPF enum, of the CLI's names and of the manual. Every packet is counted under exactly one reason,
 * and tests/packet reaches every one of them.
 * X(NAME, ACTION, SENTENCE): ACTION is XDP_ACTION without its prefix.
 */
#ifndef SHUNT_REASONS_H
#define SHUNT_REASONS_H

/* The balancer's walk. The order is the ABI: append only. */
#define SHUNT_REASONS(X)                                                                                              \
	X(FORWARDED, TX, "sent to its backend out of the interface it came in by")                                    \
	X(REDIRECTED, REDIRECT, "sent to its backend out of another interface")                                       \
	X(TOO_BIG, TX, "larger than the way to its backend carries: the sender was told the size that fits")          \
	X(NOT_IP, PASS, "neither IPv4 nor IPv6, or more than two VLAN tags: left to the host")                        \
	X(NOT_VIP, PASS, "not for a VIP, or neither TCP, UDP nor an ICMP error: left to the host")                    \
	X(UNPARSED, PASS,                                                                                             \
	  "headers cut short or contradicting themselves before a VIP could be read: left to the host")               \
	X(TRUNCATED, DROP, "for a VIP, but shorter than its own headers say")                                         \
	X(FRAGMENT, DROP, "fragment for a VIP whose hash needs the ports")                                            \
	X(TTL_EXPIRED, DROP, "for a VIP, but its TTL or hop limit was 1 or less")                                     \
	X(NO_BACKEND, DROP, "no living backend in the VIP's pool")                                                    \
	X(NO_NEIGHBOUR, DROP, "its backend has no resolved link address or route")                                    \
	X(NO_ROOM, DROP, "no headroom for the outer header")                                                          \
	X(ICMP_UNRELATED, DROP, "ICMP error to a VIP whose quote is not of a flow from that VIP")                     \
	X(TABLE_MISSING, DROP,                                                                                        \
	  "a fault of shunt: a table, a backend's record, an egress interface or the heartbeats' program is missing") \
	X(PROBE_ANSWER, DROP, "heartbeat answer or echo, taken in")                                                   \
	X(PROBE_OLD, DROP, "heartbeat answer to a round already answered or no longer remembered")                    \
	X(PROBE_UNKNOWN, DROP, "heartbeat answer of an unknown discriminator or from another address")                \
	X(PROBE_TTL, DROP,                                                                                            \
	  "heartbeat answer whose TTL or hop limit is not 255 (RFC 5082), or echo whose is not 254 (RFC 9747 2)")     \
	X(PROBE_MALFORMED, DROP, "heartbeat answer with a wrong length, BFD version, flag or magic")                  \
	X(PROBE_UNASKED, DROP, "heartbeat answer to a round that was not asked")                                      \
	X(BAD_CHECKSUM, DROP, "for a VIP, but its IPv4 header doesn't match its checksum")                            \
	X(TOO_BIG_UNTOLD, DROP,                                                                                       \
	  "larger than the way to its backend carries, and its sender can't be told (RFC 1122 3.2.2, RFC 4443 2.4)")  \
	X(ORPHAN_RESET, TX, "its backend is dead, or its flow was reset: the client was told")                        \
	X(ORPHAN_DROPPED, DROP, "its backend is dead, and its VIP says drop or it can't be answered")                 \
	X(ORPHAN_UNTOLD, DROP, "its backend is dead; RSTs are paced, so the client is told later")                    \
	X(SYN_POLICED, DROP, "SYN above its source's limit")                                                          \
	X(PROBE_FORGED, DROP, "heartbeat answer or echo whose tag was made with none of the keys")

/* The agent's program. */
#define SHUNT_AGENT_REASONS(X)                                                                                       \
	X(REFLECTED, TX, "probe answered")                                                                           \
	X(DECAPSULATED, PASS, "outer header taken off")                                                              \
	X(OTHER, PASS, "not ours: left to the host")                                                                 \
	X(REFUSED_TTL, DROP, "probe whose TTL or hop limit is not 255 (RFC 5082)")                                   \
	X(REFUSED_MALFORMED, DROP, "probe with a wrong length, BFD version, flag or discriminator")                  \
	X(REFUSED_SOURCE, DROP, "probe or encapsulated packet from an address that is not a listed balancer")        \
	X(REFUSED_LOOP, DROP, "probe that is itself an answer: source port 7784 or demand bit clear (RFC 7881 4.2)") \
	X(REFUSED_INNER, DROP, "encapsulated packet for one of our VIPs whose inner header contradicts itself")      \
	X(REFUSED_TAG, DROP, "probe whose tag was made with none of the keys")                                       \
	X(REFLECTED_OTHER_VERSION, TX,                                                                               \
	  "probe of another version answered: who asked learns of the host, not of its engine")

#define SHUNT_REASON_ENUM(name, action, sentence) REASON_##name,
#define SHUNT_AGENT_REASON_ENUM(name, action, sentence) AGENT_REASON_##name,
enum reason { SHUNT_REASONS(SHUNT_REASON_ENUM) REASON_COUNT };
enum agent_reason { SHUNT_AGENT_REASONS(SHUNT_AGENT_REASON_ENUM) AGENT_REASON_COUNT };

#endif
