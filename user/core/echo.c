/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * echo.c - see echo.h. Tests: tests/unit/segment_test.c.
 */
#include "core/echo.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

struct datagram {
	__be16 source, destination, bytes, checksum;
	struct probe probe;
};
_Static_assert(sizeof(struct datagram) == 8 + sizeof(struct probe), "padding");

size_t echo_write(uint8_t out[ECHO_BYTES_MAX], const struct shunt_addr *local, uint16_t source_port, uint8_t tos,
		  const struct probe *probe)
{
	struct datagram udp = { .source = htons(source_port),
				.destination = htons(ECHO_PORT),
				.bytes = htons(sizeof(udp)),
				.probe = *probe };
	const struct ip_packet ip = { .source = *local,
				      .destination = *local,
				      .protocol = IPPROTO_UDP,
				      .tos = tos,
				      .ttl = SBFD_TTL,
				      .payload_bytes = sizeof(udp) };
	size_t ip_bytes = ip_write(out, &ip);

	udp.checksum = ip_checksum(&ip, &udp);
	udp.checksum = udp.checksum ? udp.checksum : 0xffff; /* 0 says that there is none: RFC 768 */
	memcpy(out + ip_bytes, &udp, sizeof(udp));
	return ip_bytes + sizeof(udp);
}
