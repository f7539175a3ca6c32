/*
 * The two sockets, and the loop around a dump. Nothing here blocks for long: a
 * dump is answered at once, and has a limit for a kernel that never does.
 */
#include "nft/route.h"

#include <assert.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "nft/attr.h"
#include "nft/netlink.h"
#include "proxy/base/array.h"

/* Large enough for any datagram of a dump (the kernel's are 32 KiB at most). */
enum { BUFFER_SIZE = 65536, DUMP_ATTEMPTS = 5, ITEM_MAX = 64 };

int route_open(struct route *r, const struct route_kind *kind, struct errbuf *eb)
{
	const struct timeval limit = { .tv_sec = 2 };
	int err = 0;

	assert(kind->item_size <= ITEM_MAX);
	*r = (struct route){
		.kind = kind, .notify_fd = -1, .dump_fd = -1, .stale = true
	};
	r->notify_fd =
		netlink_open(NETLINK_ROUTE, SOCK_NONBLOCK, kind->groups, NULL);
	if (r->notify_fd >= 0)
		r->dump_fd = netlink_open(NETLINK_ROUTE, 0, 0, NULL);
	err = r->notify_fd < 0 ? r->notify_fd : r->dump_fd;
	if (err < 0)
		return errf(eb, err, "%s: cannot open a routing socket: %s",
			    kind->what, strerror(-err));
	setsockopt(r->dump_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return 0;
}

static void lists_clear(struct route_list *lists)
{
	unsigned int i;

	for (i = 0; i < ROUTE_LISTS; i++) {
		free(lists[i].items);
		lists[i] = (struct route_list){ 0 };
	}
}

void route_close(struct route *r)
{
	if (r->notify_fd >= 0)
		close(r->notify_fd);
	if (r->dump_fd >= 0)
		close(r->dump_fd);
	lists_clear(r->lists);
}

/* Reads all notifications away. Returns 1 if there were any, 0, or a negative errno. */
static int drain_notifications(const struct route *r)
{
	int some = 0;
	char byte;

	for (;;) {
		if (recv(r->notify_fd, &byte, sizeof(byte),
			 MSG_DONTWAIT | MSG_TRUNC) >= 0 ||
		    errno == ENOBUFS)
			some = 1;
		else if (errno != EINTR)
			return errno == EAGAIN ? some : -errno;
	}
}

static int take_item(const struct route_kind *kind, struct route_list *lists,
		     const struct nlmsghdr *nlh)
{
	_Alignas(max_align_t) char item[ITEM_MAX] = "";
	int which = kind->decode(nlh, item);
	struct route_list *list;
	char *items;

	if (which == ROUTE_NONE)
		return 0;
	list = &lists[which];
	items = array_grown(list->items, list->count, &list->room, kind->item_size);
	if (!items)
		return -ENOMEM;
	list->items = items;
	memcpy(items + list->count++ * kind->item_size, item, kind->item_size);
	return 0;
}

/* Returns 1 while the dump goes on, 0 at its end, or a negative errno. */
static int dump_datagram(const struct route *r, const void *buf, size_t length,
			 struct route_list *lists)
{
	const struct nlmsghdr *nlh;
	int err;

	for_each_nlmsg (nlh, buf, length) {
		if (nlh->nlmsg_seq != r->seq)
			continue; /* rest of a dump that we gave up */
		if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
			return -EINTR;
		if (nlh->nlmsg_type == NLMSG_DONE)
			return 0;
		if (nlh->nlmsg_type == NLMSG_ERROR)
			return message_error(nlh);
		err = take_item(r->kind, lists, nlh);
		if (err)
			return err;
	}
	return 1;
}

static int dump_once(struct route *r, void *buf, struct route_list *lists)
{
	const size_t size = r->kind->request->nlmsg_len;
	struct nlmsghdr *request = memcpy(buf, r->kind->request, size);
	ssize_t length;
	int err = 1;

	request->nlmsg_seq = ++r->seq;
	if (send(r->dump_fd, request, size, 0) < 0)
		return -errno;
	while (err > 0) {
		length = recv(r->dump_fd, buf, BUFFER_SIZE, 0);
		if (length < 0 && errno == EINTR)
			err = 1;
		else if (length < 0)
			err = errno == EAGAIN ? -ETIMEDOUT : -errno;
		else
			err = dump_datagram(r, buf, (size_t)length, lists);
	}
	return err;
}

/* The rest of an interrupted dump must not fill the socket: it is read away with the next one. */
static int dump_lists(struct route *r, struct route_list *lists)
{
	void *buf = malloc(BUFFER_SIZE);
	int err = -ENOMEM, attempt;

	for (attempt = 0; buf && attempt < DUMP_ATTEMPTS; attempt++) {
		lists_clear(lists);
		err = dump_once(r, buf, lists);
		if (err != -EINTR)
			break;
	}
	free(buf);
	return err;
}

static void sort_items(const struct route_kind *kind, struct route_list *list)
{
	const size_t size = kind->item_size;
	size_t i, n = 0;

	if (!list->count)
		return;
	qsort(list->items, list->count, size, kind->order);
	for (i = 1; i < list->count; i++)
		if (kind->order(list->items + i * size, list->items + n * size) &&
		    ++n != i)
			memcpy(list->items + n * size, list->items + i * size,
			       size);
	list->count = n + 1;
}

static bool same_items(const struct route_kind *kind,
		       const struct route_list *a, const struct route_list *b)
{
	return a->count == b->count &&
	       (!a->count ||
		memcmp(a->items, b->items, a->count * kind->item_size) == 0);
}

int route_read(struct route *r, bool *changed, struct errbuf *eb)
{
	struct route_list lists[ROUTE_LISTS] = { { 0 } };
	bool differ = false;
	unsigned int i;
	int err = drain_notifications(r);

	if (err < 0)
		return errf(eb, err, "%s: cannot read notifications: %s",
			    r->kind->what, strerror(-err));
	r->stale |= err;
	*changed = false;
	if (!r->stale)
		return 0;
	err = dump_lists(r, lists);
	if (err) {
		lists_clear(lists);
		return errf(eb, err, "%s: cannot list them: %s", r->kind->what,
			    strerror(-err));
	}
	for (i = 0; i < ROUTE_LISTS; i++) {
		sort_items(r->kind, &lists[i]);
		differ = differ || !same_items(r->kind, &lists[i], &r->lists[i]);
	}
	lists_clear(r->lists);
	memcpy(r->lists, lists, sizeof(lists));
	r->stale = false;
	*changed = differ;
	return 0;
}
