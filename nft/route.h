/*
 * Private to nft/: following a list of rtnetlink's. A notification only says "look again": the
 * whole list is dumped anew, which makes lost notifications harmless. Notifications and dumps have
 * a socket each, so that a storm of the former cannot overrun the answer to the latter.
 */
#ifndef NFT_ROUTE_H
#define NFT_ROUTE_H

#include <stdint.h>

struct nlmsghdr;

struct route {
	int notify_fd, dump_fd;
	uint32_t seq;
};

/* @groups: RTMGRP_*. Returns 0 or a negative errno; route_close() is due in both cases. */
int route_open(struct route *r, uint32_t groups);
void route_close(struct route *r);

/* Reads all notifications away. Returns 1 if there were any, 0, or a negative errno. */
int route_drain(struct route *r);

/*
 * One dump. @request (its sequence number is filled in) asks; each message goes to @decode, whose
 * error ends it. @restart is called before each attempt: a dump that was interrupted by a change is
 * done again. Returns 0 or a negative errno.
 */
struct route_dump {
	struct nlmsghdr *request;
	void (*restart)(void *ctx);
	int (*decode)(const struct nlmsghdr *nlh, void *ctx);
	void *ctx;
};
int route_dump(struct route *r, const struct route_dump *dump);

#endif
