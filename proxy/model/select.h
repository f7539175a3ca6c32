/*
 * Which endpoints a packet to a service port may reach (section 5 of the service semantics): pure,
 * from EndpointSlices to a cluster list and a local list.
 */
#ifndef MODEL_SELECT_H
#define MODEL_SELECT_H

#include "proxy/base/arena.h"
#include "proxy/model/objects.h"

struct endpoint {
	struct addr addr;
	uint16_t port;
	bool local; /* on this node: may need hairpin masquerading (MASQ-5) */
};

/* Packed, since each service port keeps its own: see endpoint_list_at(). */
struct endpoint_list {
	unsigned int count;
	uint8_t addr_size;    /* of the family */
	const uint8_t *items; /* each with address, port and whether it is local */
};

/* Both lists are sorted by address, then port. */
struct selection {
	struct endpoint_list cluster, local;
	bool alive; /* some endpoint anywhere is ready, or serving and terminating (SEL-6) */
};

struct select_query {
	enum family family;
	const char *port_name;
	uint8_t protocol;
	const char *zone; /* of this node; "" if unknown */
};

/* @slices are those of the service, of any family. Lists live in @scratch. Returns 0 or -ENOMEM. */
int select_endpoints(const struct select_query *query,
		     const struct slice *const *slices, unsigned int n_slices,
		     struct arena *scratch, struct selection *selection);

/* What became of one endpoint, for people. */
enum endpoint_why {
	WHY_READY,
	WHY_DRAINING,	     /* terminating and serving, and none is ready */
	WHY_DRAINING_UNUSED, /* ... and others are ready */
	WHY_NOT_READY,
	WHY_TERMINATING,      /* and not serving any more */
	WHY_OTHER_NODE_HINTS, /* ready, but meant for other nodes */
	WHY_OTHER_ZONE_HINTS, /* ... or zones */
};

struct endpoint_fate {
	struct endpoint endpoint;
	uint8_t flags;	       /* enum endpoint_flags */
	bool cluster, local;   /* on which lists */
	enum endpoint_why why; /* of the cluster list */
	const struct slice *slice;
	uint32_t index; /* in slice->endpoints */
};

/* All endpoints that the query is about, chosen or not, sorted. Returns 0 or -ENOMEM. */
int select_fates(const struct select_query *query,
		 const struct slice *const *slices, unsigned int n_slices,
		 struct arena *scratch, const struct endpoint_fate **fates,
		 unsigned int *count);

int endpoint_compare(const struct endpoint *a, const struct endpoint *b);

/* In @scratch. Returns 0 or -ENOMEM. */
int endpoint_list_pack(enum family family, const struct endpoint *endpoints,
		       unsigned int n, struct arena *scratch,
		       struct endpoint_list *list);
/* @to has room for all of them. */
void endpoint_list_unpack(const struct endpoint_list *list, struct endpoint *to);
struct endpoint endpoint_list_at(const struct endpoint_list *list, unsigned int i);
size_t endpoint_list_size(const struct endpoint_list *list); /* of items, in bytes */
/* In the same order. */
bool endpoint_list_equal(const struct endpoint_list *a,
			 const struct endpoint_list *b);
bool endpoint_list_has_at(const struct endpoint_list *list, unsigned int i,
			  const struct endpoint *ep);

/*
 * Puts the sorted @wanted in the order in which they change least against
 * @applied: what stays keeps its index, holes are filled from the end of
 * @applied, then by new ones. Returns 0 or -ENOMEM.
 */
int endpoints_order(enum family family, const struct endpoint_list *applied,
		    const struct endpoint_list *wanted, struct arena *scratch,
		    struct endpoint_list *ordered);

#endif
