// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * segment_tool.c - sends a client one segment as shuntd's journal would: `challenge` or `refuse`, then the client's
 * address and port, the VIP's, and the client's initial sequence number.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "core/config.h"
#include "shuntd/outlet.h"

int main(int argc, char **argv)
{
	struct flow f = { .key.protocol = IPPROTO_TCP };
	struct outlet *outlet;
	int err;

	if (argc != 7 || address_parse(&f.key.client, argv[2]) || address_parse(&f.key.vip, argv[4])) {
		fputs("usage: segment_tool challenge|refuse CLIENT PORT VIP PORT ISN\n", stderr);
		return 2;
	}
	f.key.client_port = htons((uint16_t)strtoul(argv[3], NULL, 0));
	f.key.vip_port = htons((uint16_t)strtoul(argv[5], NULL, 0));
	f.isn = (uint32_t)strtoul(argv[6], NULL, 0);
	err = outlet_open(&outlet);
	if (err) {
		fprintf(stderr, "segment_tool: %s\n", strerror(-err));
		return 1;
	}
	if (strcmp(argv[1], "refuse"))
		outlet_challenge(outlet, &f);
	else
		outlet_refuse(outlet, &f);
	err = !outlet_flush(outlet) || outlet_failed(outlet);
	outlet_close(outlet);
	return err;
}
