/*
 * One look at conntrack: how many connections each service port and each of its
 * endpoints has, and how many of them an earlier look did not see.
 */
#ifndef COMMANDS_TALLY_H
#define COMMANDS_TALLY_H

#include "nft/conntrack.h"
#include "proxy/base/hashtab.h"

struct vips;

struct tally_endpoint {
	struct hash_node node;
	struct tally_endpoint *next; /* of the same service port */
	unsigned int port;	     /* number of the service port */
	enum family family;
	struct addr addr;
	uint16_t number;
	unsigned long connections, fresh;
};

struct tally_port {
	unsigned long connections,
		fresh; /* fresh: not seen before; 0 in a first look */
	unsigned int n_endpoints;
	struct tally_endpoint *endpoints; /* that have connections; in no order */
};

/* Which connections there were. */
struct seen;

struct tally {
	const struct vips *vips;  /* borrowed */
	struct tally_port *ports; /* one each of @vips */
	struct hashtab endpoints;
	unsigned long connections, fresh; /* of all */
	const struct seen *before;	  /* borrowed; NULL: a first look */
	struct seen *seen;
	bool out_of_memory; /* some were not counted */
};

struct tally *tally_new(const struct vips *vips,
			const struct seen *before); /* NULL: no memory */
void tally_free(struct tally *t);		    /* NULL is allowed */

/* Counts. Returns the number of the service port, or -1: it is none of ours. */
int tally_add(struct tally *t, enum family family,
	      const struct conntrack_entry *entry);

/* Takes what was seen out of it, for the next look. */
struct seen *tally_take_seen(struct tally *t);
void seen_free(struct seen *s); /* NULL is allowed */

#endif
