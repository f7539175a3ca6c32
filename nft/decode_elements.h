/*
 * Private to nft/: elements out of netlink, the way back from what batch.c writes.
 */
#ifndef NFT_DECODE_ELEMENTS_H
#define NFT_DECODE_ELEMENTS_H

#include "proxy/model/element.h"

struct nlattr;

/* An element of a set of ranges comes in two: its first address, and the first one behind it. */
struct bound {
	struct addr addr;
	bool is_end;
};

/*
 * Reads one element of @set from its NFTA_LIST_ELEM. Strings point into the message. Returns 0, or
 * -EINVAL for what batch.c would not have written. Not for sets of ranges: see below.
 */
int element_decode(enum family family, enum set_id set,
		   const struct nlattr *attr, struct element *element);

/* An element of a set of ranges. */
int bound_decode(enum family family, const struct nlattr *attr,
		 struct bound *bound);

/*
 * Sorts @bounds and hands the ranges that they make to @found, in order. Returns 0, -EINVAL if some
 * bound has no counterpart or some range is no prefix, or what @found fails with.
 */
int bounds_join(enum family family, struct bound *bounds, unsigned int count,
		int (*found)(void *ctx, const struct prefix *prefix), void *ctx);

/* An address and a port as in the data of an endpoint list. */
int endpoint_decode(enum family family, const struct nlattr *data,
		    struct addr *addr, uint16_t *port);

/* The verdict that leads to chain @name; -EINVAL if ours never would. */
int verdict_parse(const char *name, struct verdict *verdict);

/* Whether it is the expression @name ("counter"); NULL is none. */
bool expression_is(const struct nlattr *expression, const char *name);

/* affinity/..., affinity-local/...; ranges/... */
bool name_is_affinity(const char *name);
bool name_is_ranges(const char *name);

#endif
