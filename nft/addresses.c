/*
 * The node's own addresses. A notification only says "look again": the whole list is dumped anew,
 * which makes lost notifications harmless and counts an address that two interfaces carry by
 * itself. Notifications and dumps have a socket each, so that a storm of the former cannot overrun
 * the answer to the latter. Invariant: a list is replaced as a whole, and only by a complete dump.
 * A node with very many pod interfaces pays one dump of all their link-local addresses for each
 * that comes or goes.
 */
#include "nft/addresses.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "nft/attr.h"

struct list {
	struct addr *addrs;
	unsigned int count, size;
};

struct addresses {
	int notify_fd, dump_fd;
	uint32_t seq;
	bool stale; /* the lists may be out of date: nothing dumped yet, or the last dump failed */
	struct list lists[N_FAMILIES];
};

/* Large enough for any datagram of a dump (the kernel's are 32 KiB at most). */
enum { BUFFER_SIZE = 65536, DUMP_ATTEMPTS = 5 };

static int route_socket(uint32_t groups, int flags)
{
	struct sockaddr_nl local = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int fd, err;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, NETLINK_ROUTE);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&local, sizeof(local)) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

struct addresses *addresses_open(struct errbuf *eb)
{
	/* A dump is answered at once; the limit only guards against a kernel that never does. */
	const struct timeval limit = { .tv_sec = 2 };
	struct addresses *a = calloc(1, sizeof(*a));
	int err = -ENOMEM;

	if (!a)
		goto fail;
	a->stale = true;
	a->dump_fd = -1;
	a->notify_fd = err = route_socket(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, SOCK_NONBLOCK);
	if (err < 0)
		goto fail;
	a->dump_fd = err = route_socket(0, 0);
	if (err < 0)
		goto fail;
	setsockopt(a->dump_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return a;
fail:
	errf(eb, err, "addresses: cannot open a routing socket: %s", strerror(-err));
	addresses_close(a);
	return NULL;
}

void addresses_close(struct addresses *a)
{
	unsigned int i;

	if (!a)
		return;
	if (a->notify_fd >= 0)
		close(a->notify_fd);
	if (a->dump_fd >= 0)
		close(a->dump_fd);
	for (i = 0; i < N_FAMILIES; i++)
		free(a->lists[i].addrs);
	free(a);
}

int addresses_fd(const struct addresses *a)
{
	return a->notify_fd;
}

static int list_add(struct list *list, const void *bytes, size_t size)
{
	unsigned int new_size = list->size ? list->size * 2 : 32;
	struct addr *addrs = list->addrs;

	if (list->count == list->size) {
		addrs = reallocarray(addrs, new_size, sizeof(*addrs));
		if (!addrs)
			return -ENOMEM;
		list->addrs = addrs;
		list->size = new_size;
	}
	memset(&addrs[list->count], 0, sizeof(*addrs));
	memcpy(addrs[list->count].bytes, bytes, size);
	list->count++;
	return 0;
}

/* A point-to-point interface has its own address in IFA_LOCAL and its peer's in IFA_ADDRESS. */
static int address_decode(const struct nlmsghdr *nlh, struct list *lists)
{
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
	return list_add(&lists[family], mnl_attr_get_payload(local), family_size(family));
}

/* Returns 1 while the dump goes on, 0 at its end, or a negative errno. */
static int dump_datagram(const struct addresses *a, const void *buf, size_t length,
			 struct list *lists)
{
	const struct nlmsghdr *nlh;
	int err;

	for_each_nlmsg (nlh, buf, length) {
		if (nlh->nlmsg_seq != a->seq)
			continue; /* rest of a dump that we gave up */
		if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
			return -EINTR;
		if (nlh->nlmsg_type == NLMSG_DONE)
			return 0;
		if (nlh->nlmsg_type == NLMSG_ERROR)
			return message_error(nlh);
		err = address_decode(nlh, lists);
		if (err)
			return err;
	}
	return 1;
}

static int dump_request(struct addresses *a)
{
	struct {
		struct nlmsghdr nlh;
		struct ifaddrmsg ifa;
	} request = {
		.nlh = { .nlmsg_len = sizeof(request),
			 .nlmsg_type = RTM_GETADDR,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			 .nlmsg_seq = ++a->seq },
		.ifa = { .ifa_family = AF_UNSPEC },
	};

	return send(a->dump_fd, &request, sizeof(request), 0) < 0 ? -errno : 0;
}

static int dump_once(struct addresses *a, void *buf, struct list *lists)
{
	ssize_t length;
	int err = dump_request(a);

	if (err)
		return err;
	do {
		length = recv(a->dump_fd, buf, BUFFER_SIZE, 0);
		if (length < 0 && errno == EINTR)
			err = 1;
		else if (length < 0)
			err = errno == EAGAIN ? -ETIMEDOUT : -errno;
		else
			err = dump_datagram(a, buf, (size_t)length, lists);
	} while (err > 0);
	return err;
}

/* The rest of an interrupted dump must not fill the socket: it is read away with the next one. */
static int dump(struct addresses *a, struct list *lists)
{
	void *buf = malloc(BUFFER_SIZE);
	int err = -ENOMEM, attempt;

	for (attempt = 0; buf && attempt < DUMP_ATTEMPTS; attempt++) {
		lists[FAMILY_IPV4].count = lists[FAMILY_IPV6].count = 0;
		err = dump_once(a, buf, lists);
		if (err != -EINTR)
			break;
	}
	free(buf);
	return err;
}

static int compare(const void *a, const void *b)
{
	return addr_compare(a, b);
}

static void list_normalise(struct list *list)
{
	unsigned int i, n = 0;

	if (list->count)
		qsort(list->addrs, list->count, sizeof(*list->addrs), compare);
	for (i = 0; i < list->count; i++)
		if (n == 0 || addr_compare(&list->addrs[i], &list->addrs[n - 1]))
			list->addrs[n++] = list->addrs[i];
	list->count = n;
}

static bool list_equal(const struct list *a, const struct list *b)
{
	return a->count == b->count &&
	       (a->count == 0 || memcmp(a->addrs, b->addrs, a->count * sizeof(*a->addrs)) == 0);
}

/* What the notifications say does not matter, only that there were some. */
static int drain(struct addresses *a)
{
	char byte;

	for (;;) {
		if (recv(a->notify_fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) >= 0 ||
		    errno == ENOBUFS)
			a->stale = true;
		else if (errno != EINTR)
			return errno == EAGAIN ? 0 : -errno;
	}
}

int addresses_read(struct addresses *a, bool *changed, struct errbuf *eb)
{
	struct list lists[N_FAMILIES] = { { 0 } };
	unsigned int i;
	bool differ = false;
	int err = drain(a);

	if (err)
		return errf(eb, err, "addresses: cannot read notifications: %s", strerror(-err));
	if (a->stale) {
		err = dump(a, lists);
		for (i = 0; i < N_FAMILIES; i++) {
			list_normalise(&lists[i]);
			differ = differ || !list_equal(&lists[i], &a->lists[i]);
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
