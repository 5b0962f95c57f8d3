/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * echo.h - the question to a host that only forwards (RFC 9747; shunt/heartbeat.h), as bytes. Pure: whoever calls sends it,
 * to the MAC address of the host that is asked.
 */
#ifndef SHUNT_CORE_ECHO_H
#define SHUNT_CORE_ECHO_H

#include <stddef.h>
#include <stdint.h>

#include "core/ip.h"
#include "shunt/heartbeat.h"

#define ECHO_BYTES_MAX (IP_HEADER_MAX + 8 + sizeof(struct probe))

/* From and to our own address, from this UDP port. Returns the IP packet's bytes. */
size_t echo_write(uint8_t out[ECHO_BYTES_MAX], const struct shunt_addr *local, uint16_t source_port, uint8_t tos,
		  const struct probe *probe);

#endif
