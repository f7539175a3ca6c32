/*
 * Private to nft/: following a list of rtnetlink's. A notification only says
 * "look again": the whole list is dumped anew, which makes lost notifications
 * harmless. Notifications and dumps have a socket each, so that a storm of the
 * former cannot overrun the answer to the latter.
 *
 * Invariant: a list is replaced as a whole, and only by a complete dump. It is
 * sorted, and nothing is in it twice.
 */
#ifndef NFT_ROUTE_H
#define NFT_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/base/errbuf.h"

struct nlmsghdr;

enum { ROUTE_LISTS = 2, ROUTE_NONE = -1 };

struct route_kind {
	const char *what;		/* "addresses", for messages */
	uint32_t groups;		/* RTMGRP_* */
	const struct nlmsghdr *request; /* of a dump */
	size_t item_size;
	/* Fills *item, which is all zero, from a message; returns the number of its list. */
	int (*decode)(const struct nlmsghdr *nlh, void *item);
	int (*order)(const void *a, const void *b); /* 0: the same */
};

struct route_list {
	char *items;
	size_t count, room;
};

struct route {
	const struct route_kind *kind;
	int notify_fd, dump_fd;
	uint32_t seq;
	bool stale; /* the lists may be out of date: nothing dumped yet, or the last dump failed */
	struct route_list lists[ROUTE_LISTS];
};

/* Returns 0, or a negative errno with @eb; route_close() is due in both cases. */
int route_open(struct route *r, const struct route_kind *kind, struct errbuf *eb);
void route_close(struct route *r);

/*
 * Dumps at first, and after notifications; *changed tells whether a list differs. Returns 0, or a
 * negative errno with @eb: then the former lists stay. Never blocks for long.
 */
int route_read(struct route *r, bool *changed, struct errbuf *eb);

#endif
