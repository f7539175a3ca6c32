/* The interfaces: one list, sorted by name. */
#include "nft/interfaces.h"

#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "nft/attr.h"
#include "nft/route.h"

/* RTEXT_FILTER_SKIP_STATS: most of what the kernel would tell of an interface are counters. */
enum { SKIP_STATS = 1 << 3 };

struct interfaces {
	struct route route;
};

static int interface_decode(const struct nlmsghdr *nlh, void *item)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(nlh);
	struct interface *one = item;
	const struct nlattr *attr;
	size_t length;

	if (nlh->nlmsg_type != RTM_NEWLINK ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(*info))
		return ROUTE_NONE;
	if (info->ifi_flags & IFF_LOOPBACK)
		return ROUTE_NONE;
	for_each_attr (attr, nlh, sizeof(*info)) {
		if (mnl_attr_get_type(attr) != IFLA_IFNAME)
			continue;
		length = strnlen(mnl_attr_get_payload(attr),
				 mnl_attr_get_payload_len(attr));
		if (length == 0 || length >= INTERFACE_NAME_SIZE)
			return ROUTE_NONE;
		memcpy(one->name, mnl_attr_get_payload(attr), length);
		one->index = info->ifi_index;
		return 0;
	}
	return ROUTE_NONE;
}

static int interface_order(const void *a, const void *b)
{
	return strcmp(((const struct interface *)a)->name,
		      ((const struct interface *)b)->name);
}

struct interfaces *interfaces_open(struct errbuf *eb)
{
	static const struct {
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
	static const struct route_kind kind = {
		.what = "interfaces",
		.groups = RTMGRP_LINK,
		.request = &request.nlh,
		.item_size = sizeof(struct interface),
		.decode = interface_decode,
		.order = interface_order,
	};
	struct interfaces *i = calloc(1, sizeof(*i));

	if (!i) {
		err_no_memory(eb);
		return NULL;
	}
	if (route_open(&i->route, &kind, eb) == 0)
		return i;
	interfaces_close(i);
	return NULL;
}

void interfaces_close(struct interfaces *i)
{
	if (i)
		route_close(&i->route);
	free(i);
}

int interfaces_fd(const struct interfaces *i)
{
	return i->route.notify_fd;
}

int interfaces_read(struct interfaces *i, bool *changed, struct errbuf *eb)
{
	return route_read(&i->route, changed, eb);
}

const struct interface *interfaces_list(const struct interfaces *i,
					unsigned int *count)
{
	*count = (unsigned int)i->route.lists[0].count;
	return (const void *)i->route.lists[0].items;
}
