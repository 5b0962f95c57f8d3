/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * netlink.c - asks the kernel for the way to an address, and notices when the answer changes.
 *
 * No copy of the kernel's tables is kept. Each answer is three questions (route, link, neighbour) on one socket; a
 * second socket only listens. An event marks the ways that it may touch as stale, and when the queue is read those
 * are asked for again and compared. So a burst of events costs one round of questions, an event about somebody else
 * costs none, and a lost event (ENOBUFS) is cured by marking every way as stale.
 *
 * Limits. The egress interface is the one that the route names: for a VLAN, a bond or a bridge an XDP redirect would
 * need the port below it, which is not looked for. A path MTU that the kernel learned is in the answer, but no event
 * tells when it was learned or forgotten. An MTU from IPv6 router advertisements is not read.
 */
#include "shuntd/netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"

/* Bytes of a request: header, fixed part, and at most three attributes. */
#define REQUEST_BYTES 128
/* Bytes of the largest answer. A link's is the longest: about 1.5 KiB, more with alternative names. */
#define ANSWER_BYTES 32768
/* Receive buffer of the listening socket, chosen: some 10,000 events. */
#define EVENTS_BUFFER_BYTES (8 << 20)
/* Events read before the stale ways are asked for, chosen: a storm must not keep the caller's loop from its work. */
#define EVENTS_PER_READ 4096
/*
 * The kernel tells that an IPv4 route goes before it takes it away (fib_table_delete() of net/ipv4/fib_trie.c): who asks in
 * between is led by it still, and hears no more of it. So it is asked for again, after so long, and twice as long each time.
 */
#define AGAIN_FIRST_NS 10000000ULL
#define AGAIN_LAST_NS 1000000000ULL
/* A dump that the kernel marks as interrupted by a change (NLM_F_DUMP_INTR) is repeated this often, chosen. */
#define DUMP_TRIES 5

/* States in which the kernel sends to a neighbour's link address without asking first. */
#define NUD_USABLE (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP)

/* An address that was asked for, and the answer. */
struct way {
	struct shunt_addr address;
	bool stale; /* an event may have changed the answer */
	bool doubtful; /* a route of it went, and may still have been there when it was asked for */
	int error; /* 0 or -errno of netlink_resolve() */
	struct nexthop nexthop;
	uint32_t via_ifindex; /* the neighbour that was looked up; 0: it did not come to that */
	struct shunt_addr via;
};

struct netlink {
	struct mnl_socket *events;
	struct mnl_socket *requests;
	uint32_t sequence; /* of the newest request */
	netlink_changed_fn *changed;
	void *arg;
	bool addresses_changed; /* netlink_addresses_changed() */
	bool telling; /* `changed` runs: every way that is not stale was just asked for */
	struct way *ways;
	size_t n_ways;
	uint64_t again_ns,
		gap_ns; /* when doubtful ways are asked for again, 0: there are none; and how long after the time before */
	uint64_t buffer[ANSWER_BYTES / sizeof(uint64_t)]; /* aligned as messages are */
};

static const int event_groups[] = {
	RTNLGRP_LINK,       RTNLGRP_NEIGH,     RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
	RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE,   RTNLGRP_NEXTHOP,
};

/* ---- addresses ---- */

static bool address_equal(const struct shunt_addr *a, const struct shunt_addr *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static int address_family(const struct shunt_addr *a)
{
	return !a->w[0] && !a->w[1] && a->w[2] == SHUNT_V4_MAPPED ? AF_INET : AF_INET6;
}

/* An address as the kernel writes it: 4 bytes for AF_INET, 16 for AF_INET6. False: neither. */
static bool address_read(struct shunt_addr *out, int family, const void *bytes, size_t size)
{
	memset(out, 0, sizeof(*out));
	if (family == AF_INET && size == 4) {
		out->w[2] = SHUNT_V4_MAPPED;
		memcpy(&out->w[3], bytes, 4);
		return true;
	}
	if (family == AF_INET6 && size == 16) {
		memcpy(out, bytes, 16);
		return true;
	}
	return false;
}

static void address_put(struct nlmsghdr *nlh, uint16_t type, const struct shunt_addr *a)
{
	if (address_family(a) == AF_INET)
		mnl_attr_put(nlh, type, 4, &a->w[3]);
	else
		mnl_attr_put(nlh, type, 16, a);
}

/* Whether the first n_bits (0 .. 128) of both are the same. */
static bool address_shares_prefix(const struct shunt_addr *a, const struct shunt_addr *b, unsigned n_bits)
{
	const uint8_t *x = (const uint8_t *)a, *y = (const uint8_t *)b;
	unsigned n_bytes = n_bits / 8, rest = n_bits % 8;

	if (n_bits > 128 || memcmp(x, y, n_bytes))
		return false;
	return !rest || !((x[n_bytes] ^ y[n_bytes]) >> (8 - rest));
}

/* ---- questions ---- */

/* Begin a request in `buffer` (REQUEST_BYTES, zeroed here); its fixed part of `size` bytes is returned in *fixed. */
static struct nlmsghdr *request_begin(void *buffer, uint16_t type, uint16_t flags, void **fixed, size_t size)
{
	struct nlmsghdr *nlh;

	memset(buffer, 0, REQUEST_BYTES);
	nlh = mnl_nlmsg_put_header(buffer);
	nlh->nlmsg_type = type;
	/* The acknowledgement ends every answer, so one loop reads them all. A dump ends with NLMSG_DONE instead. */
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	*fixed = mnl_nlmsg_put_extra_header(nlh, size);
	return nlh;
}

/* Send a request and hand each message of the answer to `cb`. 0 or -errno, the kernel's own included. */
static int request_run(struct netlink *nl, struct nlmsghdr *nlh, mnl_cb_t cb, void *arg)
{
	unsigned port = mnl_socket_get_portid(nl->requests);
	int n;

	nlh->nlmsg_seq = ++nl->sequence;
	if (mnl_socket_sendto(nl->requests, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		ssize_t size = mnl_socket_recvfrom(nl->requests, nl->buffer, sizeof(nl->buffer));

		if (size < 0)
			n = errno == EINTR ? MNL_CB_OK : MNL_CB_ERROR;
		else
			n = mnl_cb_run(nl->buffer, (size_t)size, nl->sequence, port, cb, arg);
		/* EPROTO: what is left of an answer whose reading was given up. */
	} while (n > MNL_CB_STOP || (n == MNL_CB_ERROR && errno == EPROTO));
	return n == MNL_CB_ERROR ? -errno : 0;
}

struct route {
	uint8_t type; /* RTN_* */
	bool has_gateway;
	uint32_t ifindex;
	uint32_t mtu_bytes; /* 0: the route has none */
	struct shunt_addr gateway;
	struct shunt_addr local; /* all zero: none */
};

static int route_read(const struct nlmsghdr *nlh, void *arg)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	struct route *route = arg;
	const struct nlattr *attr, *metric;

	route->type = rtm->rtm_type;
	mnl_attr_for_each(attr, nlh, sizeof(*rtm))
	{
		const void *payload = mnl_attr_get_payload(attr);
		size_t size = mnl_attr_get_payload_len(attr);

		switch (mnl_attr_get_type(attr)) {
		case RTA_OIF:
			route->ifindex = mnl_attr_get_u32(attr);
			break;
		case RTA_GATEWAY:
			route->has_gateway = address_read(&route->gateway, rtm->rtm_family, payload, size);
			break;
		case RTA_VIA: { /* a gateway of the other family */
			const struct rtvia *via = payload;

			if (size > sizeof(*via))
				route->has_gateway = address_read(&route->gateway, via->rtvia_family, via->rtvia_addr,
								  size - sizeof(*via));
			break;
		}
		case RTA_PREFSRC:
			address_read(&route->local, rtm->rtm_family, payload, size);
			break;
		case RTA_METRICS:
			mnl_attr_for_each_nested(metric, attr)
			{
				if (mnl_attr_get_type(metric) == RTAX_MTU)
					route->mtu_bytes = mnl_attr_get_u32(metric);
			}
			break;
		}
	}
	return MNL_CB_OK;
}

/* The route that the kernel would take. 0, -ENETUNREACH or another -errno. */
static int route_ask(struct netlink *nl, const struct shunt_addr *address, struct route *route)
{
	uint64_t buffer[REQUEST_BYTES / sizeof(uint64_t)];
	struct nlmsghdr *nlh;
	struct rtmsg *rtm;
	int err;

	memset(route, 0, sizeof(*route));
	nlh = request_begin(buffer, RTM_GETROUTE, 0, (void **)&rtm, sizeof(*rtm));
	rtm->rtm_family = address_family(address);
	rtm->rtm_dst_len = rtm->rtm_family == AF_INET ? 32 : 128;
	address_put(nlh, RTA_DST, address);

	err = request_run(nl, nlh, route_read, route);
	switch (-err) {
	case 0:
		/* IPv6 answers with a route that forbids, where IPv4 answers with its error. */
		return route->type == RTN_UNICAST && route->ifindex ? 0 : -ENETUNREACH;
	case EHOSTUNREACH: /* type unreachable */
	case EACCES: /* type prohibit */
	case EINVAL: /* type blackhole */
	case ENETDOWN:
	case EAGAIN: /* type throw */
		return -ENETUNREACH;
	}
	return err;
}

struct link {
	uint32_t flags; /* IFF_* */
	uint16_t type; /* ARPHRD_* */
	uint32_t mtu_bytes;
	bool has_mac;
	uint8_t mac[6];
};

static int link_read(const struct nlmsghdr *nlh, void *arg)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	struct link *link = arg;
	const struct nlattr *attr;

	link->flags = ifi->ifi_flags;
	link->type = ifi->ifi_type;
	mnl_attr_for_each(attr, nlh, sizeof(*ifi))
	{
		switch (mnl_attr_get_type(attr)) {
		case IFLA_MTU:
			link->mtu_bytes = mnl_attr_get_u32(attr);
			break;
		case IFLA_ADDRESS:
			link->has_mac = mnl_attr_get_payload_len(attr) == sizeof(link->mac);
			if (link->has_mac)
				memcpy(link->mac, mnl_attr_get_payload(attr), sizeof(link->mac));
			break;
		}
	}
	return MNL_CB_OK;
}

static int link_ask(struct netlink *nl, uint32_t ifindex, struct link *link)
{
	uint64_t buffer[REQUEST_BYTES / sizeof(uint64_t)];
	struct nlmsghdr *nlh;
	struct ifinfomsg *ifi;

	memset(link, 0, sizeof(*link));
	nlh = request_begin(buffer, RTM_GETLINK, 0, (void **)&ifi, sizeof(*ifi));
	ifi->ifi_index = (int)ifindex;
	mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return request_run(nl, nlh, link_read, link);
}

struct neighbour {
	uint32_t ifindex;
	uint16_t state; /* NUD_*; 0: there is no entry */
	bool has_address, has_mac;
	struct shunt_addr address;
	uint8_t mac[6];
};

static bool neighbour_usable(const struct neighbour *n)
{
	return n->state & NUD_USABLE && n->has_mac;
}

/* For answers and events alike. */
static int neighbour_read(const struct nlmsghdr *nlh, void *arg)
{
	const struct ndmsg *ndm = mnl_nlmsg_get_payload(nlh);
	struct neighbour *n = arg;
	const struct nlattr *attr;

	n->ifindex = (uint32_t)ndm->ndm_ifindex;
	n->state = nlh->nlmsg_type == RTM_DELNEIGH ? 0 : ndm->ndm_state;
	mnl_attr_for_each(attr, nlh, sizeof(*ndm))
	{
		const void *payload = mnl_attr_get_payload(attr);
		size_t size = mnl_attr_get_payload_len(attr);

		switch (mnl_attr_get_type(attr)) {
		case NDA_DST:
			n->has_address = address_read(&n->address, ndm->ndm_family, payload, size);
			break;
		case NDA_LLADDR:
			n->has_mac = size == sizeof(n->mac);
			if (n->has_mac)
				memcpy(n->mac, payload, sizeof(n->mac));
			break;
		}
	}
	return MNL_CB_OK;
}

static int neighbour_ask(struct netlink *nl, uint32_t ifindex, const struct shunt_addr *address, struct neighbour *n)
{
	uint64_t buffer[REQUEST_BYTES / sizeof(uint64_t)];
	struct nlmsghdr *nlh;
	struct ndmsg *ndm;
	int err;

	memset(n, 0, sizeof(*n));
	nlh = request_begin(buffer, RTM_GETNEIGH, 0, (void **)&ndm, sizeof(*ndm));
	ndm->ndm_family = address_family(address);
	ndm->ndm_ifindex = (int)ifindex;
	address_put(nlh, NDA_DST, address);
	err = request_run(nl, nlh, neighbour_read, n);
	return err == -ENOENT ? 0 : err;
}

/* Have the kernel find the neighbour as if it had a packet for it, without one (NTF_USE, linux/neighbour.h). */
static int neighbour_use(struct netlink *nl, uint32_t ifindex, const struct shunt_addr *address)
{
	uint64_t buffer[REQUEST_BYTES / sizeof(uint64_t)];
	struct nlmsghdr *nlh;
	struct ndmsg *ndm;

	nlh = request_begin(buffer, RTM_NEWNEIGH, NLM_F_CREATE, (void **)&ndm, sizeof(*ndm));
	ndm->ndm_family = address_family(address);
	ndm->ndm_ifindex = (int)ifindex;
	ndm->ndm_flags = NTF_USE;
	address_put(nlh, NDA_DST, address);
	return request_run(nl, nlh, NULL, NULL);
}

/* A usable neighbour: 0; -EHOSTUNREACH: the kernel is looking for it; or another -errno. */
static int neighbour_find(struct netlink *nl, uint32_t ifindex, const struct shunt_addr *address, struct neighbour *n)
{
	int err = neighbour_ask(nl, ifindex, address, n);

	if (err || neighbour_usable(n))
		return err;
	/* While the kernel is looking it needs no reminder. */
	if (n->state & NUD_INCOMPLETE)
		return -EHOSTUNREACH;
	err = neighbour_use(nl, ifindex, address);
	if (!err)
		err = neighbour_ask(nl, ifindex, address, n); /* where nothing needs to be asked it is known at once */
	if (err)
		return err;
	return neighbour_usable(n) ? 0 : -EHOSTUNREACH;
}

/* ---- ways ---- */

/* Ask the kernel anew for way->address and fill in the rest. */
static void way_ask(struct netlink *nl, struct way *way)
{
	struct nexthop *nh = &way->nexthop;
	struct neighbour neighbour;
	struct route route;
	struct link link;
	uint32_t mtu_bytes;

	way->stale = false;
	way->via_ifindex = 0;
	memset(nh, 0, sizeof(*nh));

	way->error = route_ask(nl, &way->address, &route);
	if (way->error)
		return;
	way->error = link_ask(nl, route.ifindex, &link);
	if (way->error)
		return;
	if (link.type != ARPHRD_ETHER || !link.has_mac) {
		way->error = -EOPNOTSUPP;
		return;
	}
	if (!(link.flags & IFF_UP) || !(link.flags & IFF_RUNNING)) {
		way->error = -ENETDOWN;
		return;
	}
	way->via = route.has_gateway ? route.gateway : way->address;
	way->via_ifindex = route.ifindex;
	way->error = neighbour_find(nl, way->via_ifindex, &way->via, &neighbour);
	if (way->error)
		return;

	nh->ifindex = route.ifindex;
	nh->on_link = !route.has_gateway;
	memcpy(nh->dst_mac, neighbour.mac, sizeof(nh->dst_mac));
	memcpy(nh->src_mac, link.mac, sizeof(nh->src_mac));
	mtu_bytes = route.mtu_bytes && route.mtu_bytes < link.mtu_bytes ? route.mtu_bytes : link.mtu_bytes;
	nh->mtu_bytes = mtu_bytes < UINT16_MAX ? (uint16_t)mtu_bytes : UINT16_MAX;
	nh->local = route.local;
}

static bool way_same_answer(const struct way *a, const struct way *b)
{
	const struct nexthop *x = &a->nexthop, *y = &b->nexthop;

	return a->error == b->error && x->ifindex == y->ifindex && x->on_link == y->on_link &&
	       x->mtu_bytes == y->mtu_bytes && !memcmp(x->dst_mac, y->dst_mac, sizeof(x->dst_mac)) &&
	       !memcmp(x->src_mac, y->src_mac, sizeof(x->src_mac)) && address_equal(&x->local, &y->local);
}

/* The way of an address, added if it is new; NULL: no memory. */
static struct way *way_get(struct netlink *nl, const struct shunt_addr *address)
{
	struct way *ways;

	for (size_t i = 0; i < nl->n_ways; i++) {
		if (address_equal(&nl->ways[i].address, address))
			return &nl->ways[i];
	}
	ways = realloc(nl->ways, (nl->n_ways + 1) * sizeof(*ways));
	if (!ways)
		return NULL;
	nl->ways = ways;
	ways[nl->n_ways] = (struct way){ .address = *address, .stale = true };
	return &ways[nl->n_ways++];
}

/* ---- events ---- */

static void ways_mark_all(struct netlink *nl)
{
	for (size_t i = 0; i < nl->n_ways; i++)
		nl->ways[i].stale = true;
}

/* A route came or went: it touches the addresses that its prefix covers. */
static void ways_mark_route(struct netlink *nl, const struct nlmsghdr *nlh)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attr;
	struct shunt_addr prefix;

	memset(&prefix, 0, sizeof(prefix));
	mnl_attr_for_each(attr, nlh, sizeof(*rtm))
	{
		if (mnl_attr_get_type(attr) == RTA_DST)
			address_read(&prefix, rtm->rtm_family, mnl_attr_get_payload(attr),
				     mnl_attr_get_payload_len(attr));
	}
	for (size_t i = 0; i < nl->n_ways; i++) {
		struct way *way = &nl->ways[i];
		unsigned offset = rtm->rtm_family == AF_INET ? 96 : 0; /* bits before a mapped IPv4 address */

		if (address_family(&way->address) != rtm->rtm_family)
			continue;
		if (rtm->rtm_dst_len && !address_shares_prefix(&way->address, &prefix, offset + rtm->rtm_dst_len))
			continue;
		way->stale = true;
		if (nlh->nlmsg_type != RTM_DELROUTE)
			continue;
		way->doubtful = true;
		nl->gap_ns = AGAIN_FIRST_NS;
		nl->again_ns = monotonic_ns() + nl->gap_ns;
	}
}

/*
 * A neighbour's entry changed. Most changes are of its state between usable ones, with the same link address: those
 * touch nothing. An entry that the kernel gave up is asked for again; that is the pace of the repetition.
 */
static void ways_mark_neighbour(struct netlink *nl, const struct nlmsghdr *nlh)
{
	struct neighbour n = { 0 };
	bool usable;

	neighbour_read(nlh, &n);
	usable = neighbour_usable(&n);
	if (!n.has_address)
		return;
	for (size_t i = 0; i < nl->n_ways; i++) {
		struct way *way = &nl->ways[i];

		if (way->via_ifindex != n.ifindex || !address_equal(&way->via, &n.address))
			continue;
		if (usable ? way->error || memcmp(way->nexthop.dst_mac, n.mac, sizeof(n.mac))
			   : !way->error || !(n.state & NUD_INCOMPLETE))
			way->stale = true;
	}
}

static int event_read(const struct nlmsghdr *nlh, void *arg)
{
	struct netlink *nl = arg;

	switch (nlh->nlmsg_type) {
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		ways_mark_neighbour(nl, nlh);
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		ways_mark_route(nl, nlh);
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		nl->addresses_changed = true;
		ways_mark_all(nl);
		break;
	default:
		/* A link or an address takes IPv4 routes along without an event of their own. Rules and nexthop
		 * objects may move any route. All of these are rare. */
		ways_mark_all(nl);
		break;
	}
	return MNL_CB_OK;
}

/* ---- the interface ---- */

int netlink_open(struct netlink **out, netlink_changed_fn *changed, void *arg)
{
	int size = EVENTS_BUFFER_BYTES;
	struct netlink *nl;
	int err = 0;

	nl = calloc(1, sizeof(*nl));
	if (!nl)
		return -ENOMEM;
	nl->changed = changed;
	nl->arg = arg;

	nl->requests = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!nl->requests || mnl_socket_bind(nl->requests, 0, MNL_SOCKET_AUTOPID) < 0) {
		err = -errno;
		goto out;
	}
	nl->events = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!nl->events || mnl_socket_bind(nl->events, 0, MNL_SOCKET_AUTOPID) < 0) {
		err = -errno;
		goto out;
	}
	/* Beyond the system's limit where we may (CAP_NET_ADMIN), else up to it; a smaller one is no error. */
	if (setsockopt(mnl_socket_get_fd(nl->events), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(mnl_socket_get_fd(nl->events), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	for (size_t i = 0; i < sizeof(event_groups) / sizeof(event_groups[0]); i++) {
		int group = event_groups[i];

		if (mnl_socket_setsockopt(nl->events, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0) {
			err = -errno;
			goto out;
		}
	}
out:
	if (err) {
		netlink_close(nl);
		nl = NULL;
	}
	*out = nl;
	return err;
}

void netlink_close(struct netlink *nl)
{
	if (!nl)
		return;
	if (nl->events)
		mnl_socket_close(nl->events);
	if (nl->requests)
		mnl_socket_close(nl->requests);
	free(nl->ways);
	free(nl);
}

int netlink_fd(const struct netlink *nl)
{
	return mnl_socket_get_fd(nl->events);
}

int netlink_read(struct netlink *nl)
{
	bool differs = false;
	int err = 0;

	for (int i = 0; i < EVENTS_PER_READ; i++) {
		ssize_t size = mnl_socket_recvfrom(nl->events, nl->buffer, sizeof(nl->buffer));

		if (size >= 0) {
			mnl_cb_run(nl->buffer, (size_t)size, 0, 0, event_read, nl);
		} else if (errno == ENOBUFS || errno == ENOSPC) {
			ways_mark_all(nl); /* messages were lost, or one was cut short */
			nl->addresses_changed = true;
		} else if (errno != EINTR) {
			if (errno != EAGAIN)
				err = -errno;
			break;
		}
	}
	for (size_t i = 0; i < nl->n_ways; i++) {
		struct way fresh = nl->ways[i];

		if (!fresh.stale)
			continue;
		way_ask(nl, &fresh);
		differs |= !way_same_answer(&nl->ways[i], &fresh);
		nl->ways[i] = fresh;
	}
	if (differs) {
		nl->telling = true;
		nl->changed(nl->arg);
		nl->telling = false;
	}
	return err;
}

int netlink_run(struct netlink *nl)
{
	uint64_t now = nl->again_ns ? monotonic_ns() : 0;

	if (!nl->again_ns || now < nl->again_ns)
		return 0;
	nl->gap_ns *= 2;
	nl->again_ns = nl->gap_ns > AGAIN_LAST_NS ? 0 : now + nl->gap_ns;
	for (size_t i = 0; i < nl->n_ways; i++) {
		nl->ways[i].stale = nl->ways[i].stale || nl->ways[i].doubtful;
		nl->ways[i].doubtful = nl->ways[i].doubtful && nl->again_ns;
	}
	return netlink_read(nl);
}

int netlink_resolve(struct netlink *nl, const struct shunt_addr *address, struct nexthop *out)
{
	struct way *way = way_get(nl, address);

	memset(out, 0, sizeof(*out));
	if (!way)
		return -ENOMEM;
	if (way->stale || !nl->telling)
		way_ask(nl, way);
	memcpy(out, &way->nexthop, sizeof(*out)); /* padding included: callers may compare bytes */
	return way->error;
}

struct address_question {
	netlink_address_fn *fn;
	void *arg;
};

static int address_answer(const struct nlmsghdr *nlh, void *arg)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	const struct address_question *q = arg;
	struct shunt_addr address = { 0 };
	uint32_t flags = ifa->ifa_flags;
	bool local = false;
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(*ifa))
	{
		/* Of a point-to-point address IFA_ADDRESS is the peer's, and IFA_LOCAL ours; IPv6 mostly has the first alone. */
		bool is_local = mnl_attr_get_type(attr) == IFA_LOCAL;

		if (mnl_attr_get_type(attr) == IFA_FLAGS)
			flags = mnl_attr_get_u32(attr);
		if (is_local || (!local && mnl_attr_get_type(attr) == IFA_ADDRESS))
			address_read(&address, ifa->ifa_family, mnl_attr_get_payload(attr),
				     mnl_attr_get_payload_len(attr));
		local = local || is_local;
	}
	if (!(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)))
		q->fn(q->arg, &address, ifa->ifa_index);
	return MNL_CB_OK;
}

int netlink_addresses(struct netlink *nl, netlink_address_fn *fn, void *arg)
{
	struct address_question question = { fn, arg };
	int err = -EINTR;

	for (int i = 0; i < DUMP_TRIES && err == -EINTR; i++) {
		uint64_t buffer[REQUEST_BYTES / sizeof(uint64_t)];
		struct nlmsghdr *nlh;
		struct ifaddrmsg *ifa;

		nlh = request_begin(buffer, RTM_GETADDR, NLM_F_DUMP, (void **)&ifa, sizeof(*ifa));
		ifa->ifa_family = AF_UNSPEC;
		err = request_run(nl, nlh, address_answer, &question);
	}
	return err;
}

bool netlink_addresses_changed(struct netlink *nl)
{
	bool changed = nl->addresses_changed;

	nl->addresses_changed = false;
	return changed;
}

struct family_question {
	uint32_t ifindex;
	bool found;
};

static int family_read(const struct nlmsghdr *nlh, void *arg)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	struct family_question *q = arg;
	uint32_t flags = ifa->ifa_flags;
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(*ifa))
	{
		if (mnl_attr_get_type(attr) == IFA_FLAGS)
			flags = mnl_attr_get_u32(attr);
	}
	if (ifa->ifa_index == q->ifindex && ifa->ifa_scope < RT_SCOPE_LINK &&
	    !(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)))
		q->found = true;
	return MNL_CB_OK;
}

bool netlink_has_family(struct netlink *nl, const char *ifname, int family)
{
	struct family_question question = { .ifindex = if_nametoindex(ifname) };
	int err = -EINTR;

	for (int i = 0; i < DUMP_TRIES && question.ifindex && err == -EINTR && !question.found; i++) {
		uint64_t buffer[REQUEST_BYTES / sizeof(uint64_t)];
		struct nlmsghdr *nlh;
		struct ifaddrmsg *ifa;

		nlh = request_begin(buffer, RTM_GETADDR, NLM_F_DUMP, (void **)&ifa, sizeof(*ifa));
		ifa->ifa_family = (uint8_t)family;
		err = request_run(nl, nlh, family_read, &question);
	}
	return question.found;
}
