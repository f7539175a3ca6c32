/*
 * The node's own addresses, a list of each family. As each change has the whole
 * list dumped anew, an address that two interfaces carry is counted by itself.
 * A node with very many pod interfaces pays one dump of all their link-local
 * addresses for each that comes or goes.
 */
#include "nft/addresses.h"

#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "nft/attr.h"
#include "nft/route.h"

_Static_assert((int)N_FAMILIES <= (int)ROUTE_LISTS, "a list of each family");

struct addresses {
	struct route route;
};

/* A point-to-point interface has its own address in IFA_LOCAL and its peer's in IFA_ADDRESS. */
static int address_decode(const struct nlmsghdr *nlh, void *item)
{
	struct addr *addr = item;
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attr, *local = NULL, *address = NULL;
	enum family family;

	if (nlh->nlmsg_type != RTM_NEWADDR ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(*ifa))
		return ROUTE_NONE;
	if (ifa->ifa_family != AF_INET && ifa->ifa_family != AF_INET6)
		return ROUTE_NONE;
	family = ifa->ifa_family == AF_INET ? FAMILY_IPV4 : FAMILY_IPV6;
	for_each_attr (attr, nlh, sizeof(*ifa)) {
		if (mnl_attr_get_payload_len(attr) < family_size(family))
			continue;
		if (mnl_attr_get_type(attr) == IFA_LOCAL)
			local = attr;
		else if (mnl_attr_get_type(attr) == IFA_ADDRESS)
			address = attr;
	}
	if (!local)
		local = address;
	if (!local)
		return ROUTE_NONE;
	memcpy(addr->bytes, mnl_attr_get_payload(local), family_size(family));
	return (int)family;
}

static int local_address_order(const void *a, const void *b)
{
	return addr_compare(a, b);
}

struct addresses *addresses_open(struct errbuf *eb)
{
	static const struct {
		struct nlmsghdr nlh;
		struct ifaddrmsg ifa;
	} request = {
		.nlh = { .nlmsg_len = sizeof(request),
			 .nlmsg_type = RTM_GETADDR,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.ifa = { .ifa_family = AF_UNSPEC },
	};
	static const struct route_kind kind = {
		.what = "addresses",
		.groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
		.request = &request.nlh,
		.item_size = sizeof(struct addr),
		.decode = address_decode,
		.order = local_address_order,
	};
	struct addresses *a = calloc(1, sizeof(*a));

	if (!a) {
		err_no_memory(eb);
		return NULL;
	}
	if (route_open(&a->route, &kind, eb) == 0)
		return a;
	addresses_close(a);
	return NULL;
}

void addresses_close(struct addresses *a)
{
	if (a)
		route_close(&a->route);
	free(a);
}

int addresses_fd(const struct addresses *a)
{
	return a->route.notify_fd;
}

int addresses_read(struct addresses *a, bool *changed, struct errbuf *eb)
{
	return route_read(&a->route, changed, eb);
}

const struct addr *addresses_list(const struct addresses *a, enum family family,
				  unsigned int *count)
{
	*count = (unsigned int)a->route.lists[family].count;
	return (const void *)a->route.lists[family].items;
}
