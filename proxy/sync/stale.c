/*
 * Changes are numbered. A sweep covers all changes up to its beginning; flows
 * of service ports that did not change since the sweep before are passed over
 * quickly. What serves is asked of the slices once per service port and sweep,
 * and again after any change of the model.
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

void stale_port_changed(struct stale *s, struct service_port_state *port)
{
	assert(port->flow_change <= s->changes);
	port->flow_change = ++s->changes;
}

void stale_all_changed(struct stale *s)
{
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

int stale_begin(struct stale *s, struct errbuf *eb)
{
	int err;

	assert(!s->sweeping);
	if (!s->sweep && !(s->sweep = sweep_new(s->family, s->protocol, eb)))
		return -EIO;
	err = sweep_start(s->sweep, eb);
	s->sweeping = err >= 0;
	s->sweeping_to = s->changes;
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
	s->sweeping_to = s->changes;
	sweep_done(s);
}

int stale_step(struct stale *s, unsigned int max_entries, struct errbuf *eb)
{
	int more = sweep_step(s->sweep, max_entries, stale_flow, s, eb);

	assert(s->sweeping && max_entries);
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
