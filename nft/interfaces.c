/*
 * The interfaces. What a notification says does not matter: the list is dumped anew, and compared
 * with the former one. Invariant: it is replaced as a whole, and only by a complete dump.
 */
#include "nft/interfaces.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "nft/attr.h"
#include "nft/route.h"
#include "proxy/base/array.h"

/* RTEXT_FILTER_SKIP_STATS: most of what the kernel would tell of an interface are counters. */
enum { SKIP_STATS = 1 << 3 };

struct list {
	struct interface *items;
	unsigned int count, room;
};

struct interfaces {
	struct route route;
	bool stale; /* the list may be out of date: nothing dumped yet, or the last dump failed */
	struct list list;
};

struct interfaces *interfaces_open(struct errbuf *eb)
{
	struct interfaces *i = calloc(1, sizeof(*i));
	int err = -ENOMEM;

	if (i) {
		i->stale = true;
		err = route_open(&i->route, RTMGRP_LINK);
		if (!err)
			return i;
		interfaces_close(i);
	}
	errf(eb, err, "interfaces: cannot open a routing socket: %s", strerror(-err));
	return NULL;
}

void interfaces_close(struct interfaces *i)
{
	if (!i)
		return;
	route_close(&i->route);
	free(i->list.items);
	free(i);
}

int interfaces_fd(const struct interfaces *i)
{
	return i->route.notify_fd;
}

static int interface_add(struct list *list, const char *name, size_t length, int index)
{
	struct interface one = { .index = index };
	int err = array_grow(list->items, list->count, list->room);

	if (err)
		return err;
	memcpy(one.name, name, length);
	list->items[list->count++] = one;
	return 0;
}

static int interface_decode(const struct nlmsghdr *nlh, void *ctx)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attr;
	size_t length;

	if (nlh->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(nlh) < sizeof(*info))
		return 0;
	if (info->ifi_flags & IFF_LOOPBACK)
		return 0;
	for_each_attr (attr, nlh, sizeof(*info)) {
		if (mnl_attr_get_type(attr) != IFLA_IFNAME)
			continue;
		length = strnlen(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr));
		if (length == 0 || length >= INTERFACE_NAME_SIZE)
			return 0;
		return interface_add(ctx, mnl_attr_get_payload(attr), length, info->ifi_index);
	}
	return 0;
}

static void interfaces_restart(void *ctx)
{
	struct list *list = ctx;

	list->count = 0;
}

static int interface_order(const void *a, const void *b)
{
	return strcmp(((const struct interface *)a)->name, ((const struct interface *)b)->name);
}

static int interfaces_dump(struct interfaces *i, struct list *list)
{
	struct {
		struct nlmsghdr nlh;
		struct ifinfomsg info;
		struct nlattr mask;
		uint32_t filter;
	} request = {
		.nlh = { .nlmsg_len = sizeof(request),
			 .nlmsg_type = RTM_GETLINK,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.info = { .ifi_family = AF_UNSPEC },
		.mask = { .nla_len = sizeof(struct nlattr) + sizeof(uint32_t),
			  .nla_type = IFLA_EXT_MASK },
		.filter = SKIP_STATS,
	};
	const struct route_dump dump = { &request.nlh, interfaces_restart, interface_decode, list };
	int err = route_dump(&i->route, &dump);

	if (!err && list->count)
		qsort(list->items, list->count, sizeof(*list->items), interface_order);
	return err;
}

static bool interfaces_equal(const struct list *a, const struct list *b)
{
	return a->count == b->count &&
	       (a->count == 0 || memcmp(a->items, b->items, a->count * sizeof(*a->items)) == 0);
}

int interfaces_read(struct interfaces *i, bool *changed, struct errbuf *eb)
{
	struct list list = { NULL, 0, 0 };
	int err = route_drain(&i->route);

	if (err < 0)
		return errf(eb, err, "interfaces: cannot read notifications: %s", strerror(-err));
	i->stale |= err;
	*changed = false;
	if (!i->stale)
		return 0;
	err = interfaces_dump(i, &list);
	if (err) {
		free(list.items);
		return errf(eb, err, "interfaces: cannot list them: %s", strerror(-err));
	}
	*changed = !interfaces_equal(&list, &i->list);
	free(i->list.items);
	i->list = list;
	i->stale = false;
	return 0;
}

const struct interface *interfaces_list(const struct interfaces *i, unsigned int *count)
{
	*count = i->list.count;
	return i->list.items;
}
