/*
 * Changes are numbered. A sweep covers all changes up to its beginning; flows
 * of service ports that did not change since the sweep before are passed over
 * quickly. What serves is asked of the slices once per service port and sweep,
 * and again after any change of the model.
 *
 * The kernel takes ten times as long to tell of an entry as to pass it over, so
 * a sweep asks for what may have become stale: first for flows that are
 * answered by who ceased to serve, later for all to the virtual IPs of what
 * changed otherwise. If that is too much, or something went wrong the last
 * time, it asks for everything.
 */
#include "proxy/sync/stale.h"

#include "nft/conntrack.h"

#include <assert.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* VIPs that went since the last sweep: 5 MB, then the rest is let go. */
enum { REMOVED_MAX = 65536 };

struct removed {
	struct hash_node node;
	struct vip vip; /* a node port without address, or an address without port */
	uint64_t change;
};

/* The endpoints of one service port that may have flows, sorted. */
struct serving {
	struct hash_node node;
	const struct service_port_state *port;
	unsigned int count;
	struct endpoint items[];
};

struct filters {
	struct flow_filter items[SWEEP_FILTERS_MAX];
	unsigned int count;
};

struct stale {
	const struct model *model;
	enum family family;
	uint8_t protocol;
	struct sweep *sweep;
	bool sweeping;
	uint64_t changes, swept, sweeping_to; /* numbers of changes */
	uint64_t all_changed; /* the latest that concerned all service ports */
	struct hashtab removed; /* struct removed, each once */
	struct hashtab cache;	/* struct serving */
	uint64_t cache_revision;
	/* What the next sweeps are to look at: those who ceased to serve, and
	   virtual IPs. @whole: everything, instead of these. */
	struct filters lost, vips;
	bool whole;
};

struct stale *stale_new(const struct model *model, enum family family,
			uint8_t protocol)
{
	struct stale *s = calloc(1, sizeof(*s));

	assert(family < N_FAMILIES);
	if (s) {
		s->model = model;
		s->family = family;
		s->protocol = protocol;
	}
	return s;
}

static void cache_clear(struct stale *s)
{
	struct serving *serving;

	for_each_hashed (serving, &s->cache, node)
		free(serving);
	hashtab_free(&s->cache);
}

/* Forgets those of changes up to @change. */
static void removed_clear(struct stale *s, uint64_t change)
{
	struct removed *r;

	for_each_hashed (r, &s->removed, node) {
		if (r->change > change)
			continue;
		hashtab_remove(&s->removed, &r->node);
		free(r);
	}
}

void stale_free(struct stale *s)
{
	if (!s)
		return;
	cache_clear(s);
	removed_clear(s, UINT64_MAX);
	hashtab_free(&s->removed);
	if (s->sweep)
		sweep_free(s->sweep);
	free(s);
}

static void look_at(struct stale *s, struct filters *list,
		    const struct flow_filter *filter)
{
	unsigned int i;

	for (i = 0; i < list->count; i++)
		if (list->items[i].any_address == filter->any_address &&
		    list->items[i].port == filter->port &&
		    addr_compare(&list->items[i].addr, &filter->addr) == 0)
			return;
	if (list->count == SWEEP_FILTERS_MAX)
		s->whole = true;
	else
		list->items[list->count++] = *filter;
}

static void look_at_vip(struct stale *s, const struct vip *vip)
{
	struct flow_filter filter = { .port = vip->port };

	filter.any_address = vip->role == VIP_NODE_PORT;
	if (!filter.any_address)
		filter.addr = vip->addr;
	look_at(s, &s->vips, &filter);
}

/* Whether there is anybody who ceased to serve. Both lists are sorted. */
static bool look_at_lost(struct stale *s, const struct serving *before,
			 const struct serving *now)
{
	unsigned int i, j = 0;
	bool lost = false;

	for (i = 0; i < before->count; i++) {
		const struct endpoint *e = &before->items[i];
		const struct flow_filter filter = { .answered = true,
						    .addr = e->addr,
						    .port = e->port };

		while (j < now->count && endpoint_compare(&now->items[j], e) < 0)
			j++;
		if (j < now->count && endpoint_compare(&now->items[j], e) == 0)
			continue;
		look_at(s, &s->lost, &filter);
		lost = true;
	}
	return lost;
}

/* Whether the same packets are led to endpoints. */
static bool same_traffic(const struct dispatch *a, const struct dispatch *b)
{
	unsigned int i;

	if (a->n_vips != b->n_vips || a->flags != b->flags)
		return false;
	for (i = 0; i < a->n_vips; i++)
		if (vip_compare(&a->vips[i], &b->vips[i]))
			return false;
	return true;
}

static struct serving *serving_new(const struct stale *s,
				   const struct service_port_state *port);

void stale_port_changed(struct stale *s, struct service_port_state *port,
			const struct dispatch *from, const struct dispatch *to)
{
	struct serving *before = port->answering, *now = NULL;
	unsigned int i;

	assert(port->flow_change <= s->changes);
	port->flow_change = ++s->changes;
	if (s->protocol != IPPROTO_UDP) {
		s->whole = true;
		return;
	}
	if (to)
		now = serving_new(s, port);
	if (!from || !to || !before || !now || !same_traffic(from, to) ||
	    !look_at_lost(s, before, now))
		for (i = 0; to && i < to->n_vips; i++)
			look_at_vip(s, &to->vips[i]);
	port->answering = now;
	free(before);
}

void stale_all_changed(struct stale *s)
{
	s->whole = true;
	s->all_changed = ++s->changes;
}

static uint64_t removed_hash(const struct vip *vip)
{
	const uint16_t rest[2] = { vip->port, vip->role == VIP_NODE_PORT };

	return hash_bytes(hash_bytes(HASH_SEED, &vip->addr, sizeof(vip->addr)),
			  rest, sizeof(rest));
}

static struct removed *removed_find(const struct stale *s, const struct vip *vip)
{
	struct removed *r;

	for_each_hash_match (r, &s->removed, removed_hash(vip), node)
		if (r->vip.port == vip->port &&
		    (r->vip.role == VIP_NODE_PORT) == (vip->role == VIP_NODE_PORT) &&
		    addr_compare(&r->vip.addr, &vip->addr) == 0)
			return r;
	return NULL;
}

void stale_vip_removed(struct stale *s, const struct vip *vip)
{
	struct vip key = *vip;
	struct removed *r;

	if (vip->role == VIP_NODE_PORT)
		memset(&key.addr, 0, sizeof(key.addr));
	s->changes++;
	if (key.port)
		look_at_vip(s, &key);
	else
		s->whole = true; /* an address, of all ports */
	r = removed_find(s, &key);
	if (!r) {
		r = s->removed.count < REMOVED_MAX ? malloc(sizeof(*r)) : NULL;
		if (!r)
			return;
		r->vip = key;
		hashtab_insert(&s->removed, &r->node, removed_hash(&key));
	}
	r->change = s->changes;
	assert(s->removed.count <= REMOVED_MAX);
}

void stale_address_removed(struct stale *s, const struct addr *addr)
{
	const struct vip any_port = { .addr = *addr, .role = VIP_EXTERNAL_IP };

	stale_vip_removed(s, &any_port);
}

bool stale_is_pending(const struct stale *s)
{
	return s->changes > s->swept;
}

bool stale_is_sweeping(const struct stale *s)
{
	return s->sweeping;
}

unsigned long stale_deleted(const struct stale *s)
{
	return s->sweep ? sweep_deleted(s->sweep) : 0;
}

int stale_fd(const struct stale *s)
{
	return s->sweep ? sweep_fd(s->sweep) : -1;
}

const struct flow_filter *stale_lost(const struct stale *s, unsigned int *n)
{
	*n = s->lost.count;
	return s->lost.items;
}

const struct flow_filter *stale_vips(const struct stale *s, unsigned int *n)
{
	*n = s->vips.count;
	return s->vips.items;
}

bool stale_is_urgent(const struct stale *s)
{
	return s->lost.count && !s->whole;
}

/* Puts all filters into @all. Returns how many: 0 if that is too many. */
static unsigned int filters_join(const struct stale *s, struct flow_filter *all)
{
	const unsigned int n = s->lost.count + s->vips.count;

	if (s->whole || n > SWEEP_FILTERS_MAX)
		return 0;
	memcpy(all, s->lost.items, s->lost.count * sizeof(*all));
	memcpy(all + s->lost.count, s->vips.items, s->vips.count * sizeof(*all));
	return n;
}

/* The sweep that begins now covers these. */
static void filters_taken(struct stale *s, bool urgent)
{
	s->lost.count = 0;
	if (urgent && s->vips.count)
		return; /* of those changes there is more to look at */
	s->sweeping_to = s->changes;
	s->vips.count = 0;
	s->whole = false;
}

int stale_begin(struct stale *s, bool urgent, struct errbuf *eb)
{
	struct flow_filter all[SWEEP_FILTERS_MAX];
	int err;

	assert(!s->sweeping);
	assert(!urgent || stale_is_urgent(s));
	if (!s->sweep && !(s->sweep = sweep_new(s->family, s->protocol, eb)))
		return -EIO;
	if (urgent)
		err = sweep_start(s->sweep, s->lost.items, s->lost.count, eb);
	else
		err = sweep_start(s->sweep, all, filters_join(s, all), eb);
	s->sweeping = err >= 0;
	s->sweeping_to = s->swept;
	if (err >= 0)
		filters_taken(s, urgent);
	return err;
}

static void sweep_done(struct stale *s)
{
	assert(s->swept <= s->sweeping_to && s->sweeping_to <= s->changes);
	s->sweeping = false;
	s->swept = s->sweeping_to;
	removed_clear(s, s->swept);
	cache_clear(s);
}

void stale_swept(struct stale *s)
{
	filters_taken(s, false);
	sweep_done(s);
}

int stale_step(struct stale *s, unsigned int max_entries, struct errbuf *eb)
{
	int more = sweep_step(s->sweep, max_entries, stale_flow, s, eb);

	assert(s->sweeping && max_entries);
	if (more < 0)
		s->whole = true;
	if (more <= 0)
		sweep_done(s); /* after an error too: the next change tries again (CT-9) */
	return more;
}

/* The rule */

static int serving_order(const void *a, const void *b)
{
	return endpoint_compare(a, b);
}

/* CT-2: who serves. A TCP connection stays with one that is on a list for being ready as well. */
static unsigned int flags_that_keep(const struct stale *s)
{
	return s->protocol == IPPROTO_TCP ? ENDPOINT_SERVING | ENDPOINT_READY
					  : ENDPOINT_SERVING;
}

static void serving_add(struct serving *serving, const struct slice *slice,
			uint16_t port, unsigned int flags)
{
	unsigned int i;

	for (i = 0; i < slice->n_endpoints; i++)
		if (slice_endpoint_flags(slice, i) & flags)
			serving->items[serving->count++] = (struct endpoint){
				.addr = slice_endpoint(slice, i).addr,
				.port = port,
			};
}

static struct serving *serving_new(const struct stale *s,
				   const struct service_port_state *port)
{
	const struct slice_entry *e;
	struct serving *serving;
	size_t size = 0;
	unsigned int i;

	for (e = port->service->slices; e; e = e->next)
		size += (size_t)e->object->n_endpoints * e->object->n_ports;
	serving = calloc(1, sizeof(*serving) + size * sizeof(struct endpoint));
	if (!serving)
		return NULL;
	serving->port = port;
	for (e = port->service->slices; e; e = e->next)
		for (i = 0;
		     e->object->family == s->family && i < e->object->n_ports; i++)
			if (e->object->ports[i].protocol == port->protocol &&
			    strcmp(e->object->ports[i].name, port->name) == 0)
				serving_add(serving, e->object,
					    e->object->ports[i].port,
					    flags_that_keep(s));
	assert(serving->count <= size);
	qsort(serving->items, serving->count, sizeof(struct endpoint),
	      serving_order);
	return serving;
}

static const struct serving *serving_get(struct stale *s,
					 const struct service_port_state *port)
{
	const uint64_t hash = hash_bytes(HASH_SEED, &port, sizeof(port));
	struct serving *serving;

	if (s->cache_revision != model_revision(s->model))
		cache_clear(s);
	s->cache_revision = model_revision(s->model);
	for_each_hash_match (serving, &s->cache, hash, node)
		if (serving->port == port)
			return serving;
	serving = serving_new(s, port);
	if (serving)
		hashtab_insert(&s->cache, &serving->node, hash);
	return serving;
}

/* Whether node ports are offered on the address (NP-2, NP-3, CT-7). */
static bool is_nodeport_address(const struct stale *s, const struct addr *addr)
{
	const struct node_info *info = model_node_info(s->model);
	const enum family f = s->family;
	struct addr_view list = { info->family[f].nodeport_ips,
				  info->family[f].n_nodeport_ips };
	unsigned int i;

	if (info->family[f].nodeports_everywhere)
		list = model_addresses(s->model, f);
	for (i = 0; i < list.count; i++)
		if (addr_compare(&list.items[i], addr) == 0)
			return !addr_is_loopback(f, addr);
	return false;
}

static bool was_removed(const struct stale *s, const struct addr *addr, uint16_t port)
{
	const struct vip vip = { .addr = *addr,
				 .port = port,
				 .role = VIP_EXTERNAL_IP };
	const struct vip nodeport = { .port = port, .role = VIP_NODE_PORT };
	const struct vip any_port = { .addr = *addr, .role = VIP_EXTERNAL_IP };
	bool was_theirs;

	if (!s->removed.count)
		return false;
	if (removed_find(s, &vip))
		return true;
	was_theirs = removed_find(s, &any_port);
	if (removed_find(s, &nodeport))
		return was_theirs || is_nodeport_address(s, addr);
	return was_theirs &&
	       model_vip_owner(s->model, s->family, NULL, s->protocol, port);
}

/* The service port that the destination belongs to, or NULL. */
static const struct service_port_state *port_of(const struct stale *s,
						const struct flow *flow)
{
	const struct service_port_state *port;

	port = model_vip_owner(s->model, s->family, &flow->destination,
			       s->protocol, flow->destination_port);
	if (!port && is_nodeport_address(s, &flow->destination))
		port = model_vip_owner(s->model, s->family, NULL, s->protocol,
				       flow->destination_port);
	return port;
}

/* A connection that has ended leaves an entry that nobody needs, and that does no harm. */
static bool is_over(const struct flow *flow)
{
	return flow->tcp_state == TCP_CONNTRACK_TIME_WAIT ||
	       flow->tcp_state == TCP_CONNTRACK_CLOSE;
}

static bool may_close(const struct stale *s, const struct service_port_state *port,
		      const struct flow *flow)
{
	return flow->translated && !is_over(flow) &&
	       model_closes_connections(s->model, port->service);
}

bool stale_flow(void *ctx, const struct flow *flow)
{
	struct stale *s = ctx;
	const struct service_port_state *port = port_of(s, flow);
	const struct serving *serving;
	struct endpoint answers = { .addr = flow->reply_source,
				    .port = flow->reply_source_port };

	if (!port)
		return flow->translated &&
		       was_removed(s, &flow->destination, flow->destination_port);
	if ((port->flow_change <= s->swept && s->all_changed <= s->swept) ||
	    !port->applied)
		return false;
	if (s->protocol == IPPROTO_TCP && !may_close(s, port, flow))
		return false;
	serving = serving_get(s, port);
	return serving && !bsearch(&answers, serving->items, serving->count,
				   sizeof(answers), serving_order);
}
