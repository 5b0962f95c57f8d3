/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * address.c - addresses as text and back. Decides the one spelling of each; what an address may be used for is its
 * reader's business.
 */
#include <arpa/inet.h>
#include <errno.h>

#include "core/config.h"

bool address_is_v4(const struct shunt_addr *address)
{
	return !address->w[0] && !address->w[1] && address->w[2] == SHUNT_V4_MAPPED;
}

int address_parse(struct shunt_addr *out, const char *text)
{
	struct shunt_addr address = { { 0 } };

	if (inet_pton(AF_INET, text, &address.w[3]) == 1)
		address.w[2] = SHUNT_V4_MAPPED;
	else if (inet_pton(AF_INET6, text, &address) != 1 || address_is_v4(&address))
		return -EINVAL;
	*out = address;
	return 0;
}

const char *address_format(const struct shunt_addr *address, char *buffer, size_t size)
{
	bool v4 = address_is_v4(address);

	return inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? &address->w[3] : &address->w[0], buffer, (socklen_t)size);
}
