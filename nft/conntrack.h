/*
 * Removal of stale conntrack entries over ctnetlink: a streamed dump of one
 * family's entries of one protocol, in small steps, so that a table of a
 * million entries neither blocks the loop nor is held in memory.
 */
#ifndef NFT_CONNTRACK_H
#define NFT_CONNTRACK_H

#include "proxy/base/addr.h"
#include "proxy/base/errbuf.h"

struct flow {
	struct addr client, destination; /* original direction */
	uint16_t client_port, destination_port;
	struct addr reply_source; /* who answers: the endpoint, if translated */
	uint16_t reply_source_port;
	bool translated;   /* IPS_DST_NAT */
	uint8_t tcp_state; /* enum tcp_conntrack; 0: none, or not TCP */
};

struct nlmsghdr;

/*
 * Reads a ctnetlink entry. Returns 0, or -EINVAL if it is not of @family and
 * @protocol or is damaged.
 */
int flow_decode(const struct nlmsghdr *nlh, enum family family,
		uint8_t protocol, struct flow *flow);

/* A translated connection of any protocol, for people. */
struct conntrack_entry {
	struct addr client, destination; /* original direction */
	uint16_t client_port, destination_port;
	struct addr endpoint; /* who answers */
	uint16_t endpoint_port;
	uint8_t protocol;
	uint8_t tcp_state;  /* enum tcp_conntrack; 0: none, or not TCP */
	uint32_t timeout_s; /* until it is forgotten */
	uint32_t id; /* of another connection with the same addresses another one */
};

/* Returns false for what is not translated, not of @family, or damaged. */
bool conntrack_entry_decode(const struct nlmsghdr *nlh, enum family family,
			    struct conntrack_entry *entry);

/*
 * All entries of @family whose destination is translated, one datagram of the
 * kernel at a time, which it fills as the one before is taken: nothing piles
 * up. NULL with a negative errno in *@err, and @eb.
 */
struct listing;
struct listing *listing_open(enum family family, int *err, struct errbuf *eb);
void listing_close(struct listing *l);	 /* NULL is allowed */
int listing_fd(const struct listing *l); /* readable until the end */

/*
 * Calls @call for each entry of the next datagram, if there is one. Returns 1
 * while there is more, 0 at the end or when @call returned false, or a negative
 * errno with @eb; -EINTR: at the end, and some entries may have been left out.
 */
int listing_step(struct listing *l,
		 bool (*call)(void *ctx, const struct conntrack_entry *entry),
		 void *ctx, struct errbuf *eb);

/* The same to the end. Blocks; not for the daemon. */
int conntrack_each(enum family family,
		   bool (*call)(void *ctx, const struct conntrack_entry *entry),
		   void *ctx, struct errbuf *eb);
const char *conntrack_state_name(uint8_t tcp_state); /* "ESTABLISHED" */

struct sweep;

/* NULL with @eb on failure. The sweep has its own sockets. */
struct sweep *sweep_new(enum family family, uint8_t protocol, struct errbuf *eb);
void sweep_free(struct sweep *s);
int sweep_fd(const struct sweep *s); /* readable while a sweep is under way */

/* Entries that one endpoint answers, or that were sent to one destination. */
struct flow_filter {
	bool answered;	  /* by that address and port; else sent there */
	bool any_address; /* of a destination: a node port */
	struct addr addr;
	uint16_t port;
};

enum { SWEEP_FILTERS_MAX = 8 };

/*
 * Begins a sweep; one that is under way is given up. It looks at entries that
 * pass one of the @n filters (SWEEP_FILTERS_MAX at most), or at more: all of
 * them if @n is 0, the kernel cannot filter, or the table is large or small.
 * @stale of sweep_step() may be asked about any.
 */
int sweep_start(struct sweep *s, const struct flow_filter *filters,
		unsigned int n, struct errbuf *eb);

/*
 * Handles @max_entries, and the rest of the datagram that holds the last of
 * them, without blocking; entries for which @stale says true are deleted, one
 * request each. Returns 1 while there is more to come, 0 at the end, or a
 * negative errno, which ends the sweep. EINTR makes it begin again, 5 attempts
 * at most, and then use what it got (CT-9).
 */
int sweep_step(struct sweep *s, unsigned int max_entries,
	       bool (*stale)(void *ctx, const struct flow *flow), void *ctx,
	       struct errbuf *eb);
unsigned long sweep_deleted(const struct sweep *s); /* entries, since sweep_start() */

#endif
