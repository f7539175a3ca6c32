/*
 * Selection works on candidates: one per address and port, taken from all
 * slices, sorted and freed of duplicates. The order makes a build from nothing
 * reproducible; keeping indices against what the kernel has is a step of its
 * own.
 */
#include "proxy/model/select.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
	struct endpoint endpoint;
	uint32_t index : 24; /* in slice->endpoints; no slice is that long */
	uint32_t flags : 8;  /* enum endpoint_flags */
	const struct slice *slice;
};

struct candidates {
	unsigned int count;
	struct candidate *items;
};

int endpoint_compare(const struct endpoint *a, const struct endpoint *b)
{
	int order = addr_compare(&a->addr, &b->addr);

	return order ? order : (a->port > b->port) - (a->port < b->port);
}

bool endpoint_list_has_at(const struct endpoint_list *list, unsigned int i,
			  const struct endpoint *ep)
{
	struct endpoint at;

	if (i >= list->count)
		return false;
	at = endpoint_list_at(list, i);
	return endpoint_compare(&at, ep) == 0;
}

/* An item: the address, the port, and a byte that says whether it is local. */
static size_t item_size(size_t addr_size)
{
	return addr_size + sizeof(uint16_t) + 1;
}

size_t endpoint_list_size(const struct endpoint_list *list)
{
	return list->count * item_size(list->addr_size);
}

int endpoint_list_pack(enum family family, const struct endpoint *endpoints,
		       unsigned int n, struct arena *scratch,
		       struct endpoint_list *list)
{
	const size_t n_addr = family_size(family);
	uint8_t *to = arena_array(scratch, n, item_size(n_addr));
	unsigned int i;

	if (!to)
		return -ENOMEM;
	*list = (struct endpoint_list){ n, (uint8_t)n_addr, to };
	for (i = 0; i < n; i++) {
		memcpy(to, endpoints[i].addr.bytes, n_addr);
		to += n_addr;
		memcpy(to, &endpoints[i].port, sizeof(endpoints[i].port));
		to += sizeof(endpoints[i].port);
		*to++ = endpoints[i].local;
	}
	return 0;
}

struct endpoint endpoint_list_at(const struct endpoint_list *list, unsigned int i)
{
	const uint8_t *from = list->items + i * item_size(list->addr_size);
	struct endpoint ep = { .port = 0 };

	memcpy(ep.addr.bytes, from, list->addr_size);
	from += list->addr_size;
	memcpy(&ep.port, from, sizeof(ep.port));
	ep.local = from[sizeof(ep.port)];
	return ep;
}

void endpoint_list_unpack(const struct endpoint_list *list, struct endpoint *to)
{
	unsigned int i;

	for (i = 0; i < list->count; i++)
		to[i] = endpoint_list_at(list, i);
}

bool endpoint_list_equal(const struct endpoint_list *a,
			 const struct endpoint_list *b)
{
	return a->count == b->count &&
	       (!a->count ||
		(a->addr_size == b->addr_size &&
		 memcmp(a->items, b->items, endpoint_list_size(a)) == 0));
}

/* Names, each ended by NUL; the list by an empty one. */
static const char *candidate_zones(const struct candidate *c)
{
	assert(c->index < c->slice->n_endpoints);
	return c->flags & ENDPOINT_ZONE_HINTS
		       ? c->slice->zones + slice_endpoint(c->slice, c->index).zones
		       : "";
}

static int names_compare(const char *a, const char *b)
{
	int order = strcmp(a, b);

	while (!order && *a) {
		a += strlen(a) + 1;
		b += strlen(b) + 1;
		order = strcmp(a, b);
	}
	return order;
}

/* Which of two entries for the same key counts: the greater one (EPS-8), and
 * rather one that is usable. */
static int candidate_rank(const struct candidate *c)
{
	return (c->flags & ENDPOINT_TERMINATING ? 0 : 4) +
	       (c->flags & ENDPOINT_READY ? 2 : 0) +
	       (c->flags & ENDPOINT_SERVING ? 1 : 0);
}

/* A total order, so that the order of slices makes no difference. */
static int candidate_compare(const void *va, const void *vb)
{
	const struct candidate *a = va, *b = vb;
	int order = endpoint_compare(&a->endpoint, &b->endpoint);

	if (!order)
		order = candidate_rank(b) - candidate_rank(a);
	if (!order)
		order = (int)a->flags - (int)b->flags;
	return order ? order
		     : names_compare(candidate_zones(a), candidate_zones(b));
}

static bool port_matches(const struct slice_port *port,
			 const struct select_query *query)
{
	return port->protocol == query->protocol &&
	       strcmp(port->name, query->port_name) == 0;
}

static void candidates_add(struct candidates *c, const struct slice *slice,
			   uint16_t port)
{
	struct slice_endpoint ep;
	struct candidate *to;
	unsigned int i;

	for (i = 0; i < slice->n_endpoints; i++) {
		ep = slice_endpoint(slice, i);
		to = &c->items[c->count++];
		to->endpoint.addr = ep.addr;
		to->endpoint.port = port;
		to->endpoint.local = ep.flags & ENDPOINT_LOCAL;
		to->flags = ep.flags;
		to->index = i & 0xffffff;
		to->slice = slice;
	}
}

static void candidates_dedupe(struct candidates *c)
{
	unsigned int i, n = 0;

	for (i = 0; i < c->count; i++)
		if (!n || endpoint_compare(&c->items[n - 1].endpoint,
					   &c->items[i].endpoint))
			c->items[n++] = c->items[i];
	c->count = n;
}

/* Calls for each slice port that feeds the query; with @c NULL it only counts. */
static size_t gather_candidates(const struct select_query *query,
				const struct slice *const *slices,
				unsigned int n_slices, struct candidates *c)
{
	unsigned int i, p;
	size_t n = 0;

	for (i = 0; i < n_slices; i++) {
		if (slices[i]->family != query->family)
			continue;
		for (p = 0; p < slices[i]->n_ports; p++) {
			if (!port_matches(&slices[i]->ports[p], query))
				continue;
			n += slices[i]->n_endpoints;
			if (c)
				candidates_add(c, slices[i],
					       slices[i]->ports[p].port);
		}
	}
	return n;
}

static bool is_sorted(const struct candidates *c)
{
	unsigned int i;

	for (i = 1; i < c->count; i++)
		if (candidate_compare(&c->items[i - 1], &c->items[i]) > 0)
			return false;
	return true;
}

static bool names_contain(const char *names, const char *name)
{
	for (; *names; names += strlen(names) + 1)
		if (strcmp(names, name) == 0)
			return true;
	return false;
}

static bool is_draining(const struct candidate *c)
{
	return (c->flags & (ENDPOINT_SERVING | ENDPOINT_TERMINATING)) ==
	       (ENDPOINT_SERVING | ENDPOINT_TERMINATING);
}

/* The ways to choose among candidates, in the words of SEL-1 and SEL-4. */
enum choice {
	READY,
	READY_NODE_HINTED,
	READY_ZONE_HINTED,
	DRAINING,
	READY_LOCAL,
	DRAINING_LOCAL
};

static bool is_of_choice(const struct candidate *c, enum choice choice,
			 const char *zone)
{
	switch (choice) {
	case READY:
		return c->flags & ENDPOINT_READY;
	case READY_NODE_HINTED:
		return (c->flags & ENDPOINT_READY) &&
		       (c->flags & ENDPOINT_NODE_HINTED);
	case READY_ZONE_HINTED:
		return (c->flags & ENDPOINT_READY) &&
		       names_contain(candidate_zones(c), zone);
	case DRAINING:
		return is_draining(c);
	case READY_LOCAL:
		return (c->flags & ENDPOINT_READY) && c->endpoint.local;
	case DRAINING_LOCAL:
		return is_draining(c) && c->endpoint.local;
	}
	return false;
}

static int choose_endpoints(enum family family, const struct candidates *c,
			    enum choice choice, const char *zone,
			    struct arena *scratch, struct endpoint_list *list)
{
	struct endpoint *items;
	unsigned int i, n = 0;

	items = arena_array(scratch, c->count, sizeof(*items));
	if (!items)
		return -ENOMEM;
	for (i = 0; i < c->count; i++)
		if (is_of_choice(&c->items[i], choice, zone))
			items[n++] = c->items[i].endpoint;
	assert(n <= c->count);
	return endpoint_list_pack(family, items, n, scratch, list);
}

/* SEL-1: which step applies. SEL-2: only ready endpoints have a say about hints. */
static enum choice cluster_choice(const struct candidates *c, const char *zone)
{
	bool all_node = true, any_node = false, all_zone = true,
	     any_zone = false, any = false;
	unsigned int i;

	for (i = 0; i < c->count; i++) {
		const struct candidate *ready = &c->items[i];

		if (!(ready->flags & ENDPOINT_READY))
			continue;
		any = true;
		all_node &= !!(ready->flags & ENDPOINT_NODE_HINTS);
		any_node |= !!(ready->flags & ENDPOINT_NODE_HINTED);
		all_zone &= !!(ready->flags & ENDPOINT_ZONE_HINTS);
		any_zone |= *zone && names_contain(candidate_zones(ready), zone);
	}
	if (!any)
		return DRAINING;
	if (all_node && any_node)
		return READY_NODE_HINTED;
	if (all_zone && any_zone)
		return READY_ZONE_HINTED;
	return READY;
}

static bool any_alive(const struct candidates *c)
{
	unsigned int i;

	for (i = 0; i < c->count; i++)
		if ((c->items[i].flags & ENDPOINT_READY) ||
		    is_draining(&c->items[i]))
			return true;
	return false;
}

static int candidates_of(const struct select_query *query,
			 const struct slice *const *slices, unsigned int n_slices,
			 struct arena *scratch, struct candidates *c)
{
	const size_t n = gather_candidates(query, slices, n_slices, NULL);

	*c = (struct candidates){ 0 };
	if (n > UINT_MAX) /* a slice may have one port many times */
		return -ENOMEM;
	c->items = arena_array(scratch, n, sizeof(*c->items));
	if (!c->items)
		return -ENOMEM;
	gather_candidates(query, slices, n_slices, c);
	assert(c->count == n);
	if (!is_sorted(c))
		qsort(c->items, c->count, sizeof(*c->items), candidate_compare);
	candidates_dedupe(c);
	return 0;
}

int select_endpoints(const struct select_query *query,
		     const struct slice *const *slices, unsigned int n_slices,
		     struct arena *scratch, struct selection *selection)
{
	struct candidates c;
	int err = candidates_of(query, slices, n_slices, scratch, &c);

	if (err)
		return err;
	err = choose_endpoints(query->family, &c, cluster_choice(&c, query->zone),
			       query->zone, scratch, &selection->cluster);
	if (!err)
		err = choose_endpoints(query->family, &c, READY_LOCAL, "",
				       scratch, &selection->local);
	if (!err && !selection->local.count)
		err = choose_endpoints(query->family, &c, DRAINING_LOCAL, "",
				       scratch, &selection->local);
	selection->alive = any_alive(&c);
	assert(err || selection->alive == !!selection->cluster.count);
	assert(err || selection->alive || !selection->local.count);
	return err;
}

static enum endpoint_why candidate_why(const struct candidate *c,
				       enum choice choice, bool is_chosen)
{
	if (c->flags & ENDPOINT_READY)
		return is_chosen		     ? WHY_READY
		       : choice == READY_NODE_HINTED ? WHY_OTHER_NODE_HINTS
						     : WHY_OTHER_ZONE_HINTS;
	if (is_draining(c))
		return is_chosen ? WHY_DRAINING : WHY_DRAINING_UNUSED;
	return c->flags & ENDPOINT_TERMINATING ? WHY_TERMINATING : WHY_NOT_READY;
}

static bool any_chosen(const struct candidates *c, enum choice choice)
{
	unsigned int i;

	for (i = 0; i < c->count; i++)
		if (is_of_choice(&c->items[i], choice, ""))
			return true;
	return false;
}

int select_fates(const struct select_query *query,
		 const struct slice *const *slices, unsigned int n_slices,
		 struct arena *scratch, const struct endpoint_fate **fates,
		 unsigned int *count)
{
	enum choice cluster, local;
	struct endpoint_fate *list;
	struct candidates c;
	unsigned int i;
	int err = candidates_of(query, slices, n_slices, scratch, &c);

	if (err)
		return err;
	list = arena_array(scratch, c.count, sizeof(*list));
	if (!list)
		return -ENOMEM;
	cluster = cluster_choice(&c, query->zone);
	local = any_chosen(&c, READY_LOCAL) ? READY_LOCAL : DRAINING_LOCAL;
	for (i = 0; i < c.count; i++) {
		const struct candidate *from = &c.items[i];

		list[i] = (struct endpoint_fate){
			.endpoint = from->endpoint,
			.flags = (uint8_t)from->flags,
			.cluster = is_of_choice(from, cluster, query->zone),
			.local = is_of_choice(from, local, ""),
			.slice = from->slice,
			.index = from->index,
		};
		list[i].why = candidate_why(from, cluster, list[i].cluster);
	}
	*fates = list;
	*count = c.count;
	return 0;
}

static int endpoint_compare_void(const void *a, const void *b)
{
	return endpoint_compare(a, b);
}

/* Where in @wanted the endpoint stands, or -1. */
static long index_in(const struct endpoint *wanted, size_t n,
		     const struct endpoint *ep)
{
	const struct endpoint *at =
		bsearch(ep, wanted, n, sizeof(*ep), endpoint_compare_void);

	return at ? at - wanted : -1;
}

int endpoints_order(enum family family, const struct endpoint_list *applied,
		    const struct endpoint_list *wanted, struct arena *scratch,
		    struct endpoint_list *ordered)
{
	unsigned int i, next = 0, n_late = 0, late = 0;
	struct endpoint *items, *from, ep;
	bool *taken, *filled;
	long *moved, at;

	from = arena_array(scratch, wanted->count, sizeof(*from));
	items = arena_array(scratch, wanted->count, sizeof(*items));
	taken = arena_array(scratch, wanted->count, sizeof(*taken));
	filled = arena_array(scratch, wanted->count, sizeof(*filled));
	moved = arena_array(scratch, applied->count, sizeof(*moved));
	if (!from || !items || !taken || !filled || !moved)
		return -ENOMEM;
	endpoint_list_unpack(wanted, from);
	for (i = 0; i < applied->count; i++) {
		ep = endpoint_list_at(applied, i);
		at = index_in(from, wanted->count, &ep);
		if (at < 0 || taken[at])
			continue;
		taken[at] = true;
		if (i < wanted->count) {
			items[i] = from[at];
			filled[i] = true;
		} else {
			moved[n_late++] = at;
		}
	}
	for (i = 0; i < wanted->count; i++) {
		if (filled[i])
			continue;
		if (late < n_late) {
			items[i] = from[moved[late++]];
			continue;
		}
		while (taken[next])
			next++;
		assert(next < wanted->count);
		items[i] = from[next++];
	}
	assert(late == n_late && n_late <= applied->count);
	return endpoint_list_pack(family, items, wanted->count, scratch, ordered);
}
