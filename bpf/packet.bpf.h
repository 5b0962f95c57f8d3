/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * packet.bpf.h - what the walk knows of a packet. Decides nothing; parse.bpf.h and icmp.bpf.h fill it, everybody reads.
 *
 * Offsets count from the start of the frame and are bounded, so that data + offset stays provable; pointers into the
 * frame are made afresh from data after each move of its head or tail.
 */
#ifndef SHUNT_PACKET_BPF_H
#define SHUNT_PACKET_BPF_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "shunt/abi.h"
#include "shunt/reasons.h"

#ifndef NULL
#define NULL ((void *)0)
#endif

/* A step's result when it has decided nothing: the next step is to look at the packet. */
#define GO_ON ((enum reason)REASON_COUNT)

/* RFC 9293 3.1, bits of the octet that holds them. */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define VLAN_TAGS_MAX 2
#define L3_MAX (ETH_HLEN + VLAN_TAGS_MAX * 4) /* largest offset of the IP header */
#define OFFSET_MAX \
	0x3fff /* of anything behind it: chosen, a power of two less 1, above any frame that XDP sees whole */

/* An address, also as the two words that keys and hashes take. */
union address {
	struct shunt_addr addr;
	__u64 half[2];
};

/*
 * Its own address is given to no helper and no function, so that the compiler keeps it in registers. Keys are built where
 * they are used, of whole words.
 */
struct packet {
	struct xdp_md *ctx;
	void *data, *data_end;
	__u32 frame_bytes; /* as received, padding included */
	__u32 l3; /* offset of the IP header: 14, 18 or 22 */
	__u32 l4; /* offset of the TCP, UDP or ICMP header, behind options and extension headers */
	__u32 ip_bytes; /* of the whole IP packet, as its header says */
	__u32 hash; /* of the flow: choose() */
	enum reason flaw; /* what is wrong with it if it is for a VIP; GO_ON: nothing */
	union address client; /* who sent it; of an ICMP error: whom the quoted packet was sent to */
	union address vip; /* whom it is for */
	__be16 client_port;
	__be16 vip_port; /* of an ICMP error: the quoted packet's source port */
	__u8 protocol; /* of an ICMP error: the quoted packet's */
	__u8 is_v6;
	__u8 ttl; /* or hop limit */
	__u8 is_icmp_error;
	__u8 is_fragment; /* it, or the packet that the ICMP error quotes */
	__u8 is_later_fragment; /* not the first: no ports */
	__u8 tcp_flags; /* of a whole TCP segment; 0: it is none */
	__u8 is_new_flow; /* TCP SYN without ACK, FIN or RST */
	__u8 is_any_port; /* the VIP that was found takes every port */
};

/* Make the pointers anew. */
static __always_inline void packet_reload(struct packet *p)
{
	p->data = (void *)(long)p->ctx->data;
	p->data_end = (void *)(long)p->ctx->data_end;
}

/*
 * Pointer to n_bytes of the frame at an offset (at most OFFSET_MAX), or NULL if the frame ends before. For the verifier's
 * sake: the mask bounds an offset that lay on the stack, the barriers keep the compiler from knowing better, and make it
 * use the pointer that it checked.
 */
static __always_inline void *packet_at(const struct packet *p, __u32 offset, __u32 n_bytes)
{
	void *at;

	barrier_var(offset);
	at = p->data + (offset & OFFSET_MAX);
	barrier_var(at);
	__builtin_assume(at != NULL);
	return at + n_bytes > p->data_end ? NULL : at;
}

/* Copy as whole words what the compiler would copy bytewise, not knowing its alignment. */
static __always_inline void mac_copy(void *to, const void *from)
{
	*(__u32 *)to = *(const __u32 *)from;
	*(__u16 *)(to + 4) = *(const __u16 *)(from + 4);
}

/*
 * Write the link header of a frame whose head was moved forward by `moved` bytes (0, or a multiple of 4 above 8): the
 * addresses given, the tags it came with, and the EtherType of what lies behind. Tags are kept, whatever the interface.
 * False: the frame is too short.
 */
static __always_inline int link_write(struct packet *p, __u32 moved, const void *dst_mac, const void *src_mac,
				      __be16 ethertype)
{
	void *new = p->data, *old = new + moved;

	if (new + L3_MAX > p->data_end || old + L3_MAX > p->data_end)
		return 0;
	if (p->l3 == ETH_HLEN) {
		*(__be16 *)(new + 12) = ethertype;
	} else {
		*(__u32 *)(new + 12) = *(__u32 *)(old + 12);
		if (p->l3 == ETH_HLEN + 4) {
			*(__be16 *)(new + 16) = ethertype;
		} else {
			*(__u32 *)(new + 16) = *(__u32 *)(old + 16);
			*(__be16 *)(new + 20) = ethertype;
		}
	}
	mac_copy(new, dst_mac);
	mac_copy(new + ETH_ALEN, src_mac);
	return 1;
}

/* Fold a sum of up to 65,536 32-bit words, as loaded, to the one's complement sum of RFC 1071. */
static __always_inline __u16 csum_fold(__u64 sum)
{
	__u32 half;

	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	half = (__u32)sum;
	half = (half & 0xffff) + (half >> 16);
	return half + (half >> 16);
}

#endif
