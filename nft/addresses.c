/*
 * The node's own addresses. Each change has the whole list dumped anew, which also counts an
 * address that two interfaces carry by itself. Invariant: a list is replaced as a whole, and only
 * by a complete dump. A node with very many pod interfaces pays one dump of all their link-local
 * addresses for each that comes or goes.
 */
#include "nft/addresses.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "nft/attr.h"
#include "nft/route.h"
#include "proxy/base/array.h"

struct list {
	struct addr *addrs;
	unsigned int count, room;
};

struct addresses {
	struct route route;
	bool stale; /* the lists may be out of date: nothing dumped yet, or the last dump failed */
	struct list lists[N_FAMILIES];
};

struct addresses *addresses_open(struct errbuf *eb)
{
	struct addresses *a = calloc(1, sizeof(*a));
	int err = -ENOMEM;

	if (a) {
		a->stale = true;
		err = route_open(&a->route, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR);
		if (!err)
			return a;
		addresses_close(a);
	}
	errf(eb, err, "addresses: cannot open a routing socket: %s", strerror(-err));
	return NULL;
}

void addresses_close(struct addresses *a)
{
	unsigned int i;

	if (!a)
		return;
	route_close(&a->route);
	for (i = 0; i < N_FAMILIES; i++)
		free(a->lists[i].addrs);
	free(a);
}

int addresses_fd(const struct addresses *a)
{
	return a->route.notify_fd;
}

static int address_add(struct list *list, const void *bytes, size_t size)
{
	struct addr addr = { { 0 } };
	int err = array_grow(list->addrs, list->count, list->room);

	if (err)
		return err;
	memcpy(addr.bytes, bytes, size);
	list->addrs[list->count++] = addr;
	return 0;
}

/* A point-to-point interface has its own address in IFA_LOCAL and its peer's in IFA_ADDRESS. */
static int address_decode(const struct nlmsghdr *nlh, void *ctx)
{
	struct list *lists = ctx;
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attr, *local = NULL, *address = NULL;
	enum family family;

	if (nlh->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(nlh) < sizeof(*ifa))
		return 0;
	if (ifa->ifa_family != AF_INET && ifa->ifa_family != AF_INET6)
		return 0;
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
		return 0;
	return address_add(&lists[family], mnl_attr_get_payload(local), family_size(family));
}

static void addresses_restart(void *ctx)
{
	struct list *lists = ctx;

	lists[FAMILY_IPV4].count = lists[FAMILY_IPV6].count = 0;
}

static int addresses_dump(struct addresses *a, struct list *lists)
{
	struct {
		struct nlmsghdr nlh;
		struct ifaddrmsg ifa;
	} request = {
		.nlh = { .nlmsg_len = sizeof(request),
			 .nlmsg_type = RTM_GETADDR,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.ifa = { .ifa_family = AF_UNSPEC },
	};
	const struct route_dump dump = { &request.nlh, addresses_restart, address_decode, lists };

	return route_dump(&a->route, &dump);
}

static int local_address_order(const void *a, const void *b)
{
	return addr_compare(a, b);
}

static void addresses_sort(struct list *list)
{
	unsigned int i, n = 0;

	if (list->count)
		qsort(list->addrs, list->count, sizeof(*list->addrs), local_address_order);
	for (i = 0; i < list->count; i++)
		if (n == 0 || addr_compare(&list->addrs[i], &list->addrs[n - 1]))
			list->addrs[n++] = list->addrs[i];
	list->count = n;
}

static bool addresses_equal(const struct list *a, const struct list *b)
{
	return a->count == b->count &&
	       (a->count == 0 || memcmp(a->addrs, b->addrs, a->count * sizeof(*a->addrs)) == 0);
}

int addresses_read(struct addresses *a, bool *changed, struct errbuf *eb)
{
	struct list lists[N_FAMILIES] = { { 0 } };
	unsigned int i;
	bool differ = false;
	int err = route_drain(&a->route);

	if (err < 0)
		return errf(eb, err, "addresses: cannot read notifications: %s", strerror(-err));
	a->stale |= err;
	err = 0;
	if (a->stale) {
		err = addresses_dump(a, lists);
		for (i = 0; i < N_FAMILIES; i++) {
			addresses_sort(&lists[i]);
			differ = differ || !addresses_equal(&lists[i], &a->lists[i]);
		}
		for (i = 0; i < N_FAMILIES; i++) {
			free(err ? lists[i].addrs : a->lists[i].addrs);
			if (!err)
				a->lists[i] = lists[i];
		}
	}
	if (err)
		return errf(eb, err, "addresses: cannot list them: %s", strerror(-err));
	a->stale = false;
	*changed = differ;
	return 0;
}

const struct addr *addresses_list(const struct addresses *a, enum family family,
				  unsigned int *count)
{
	*count = a->lists[family].count;
	return a->lists[family].addrs;
}
