/*
 * From a dispatch to its elements. They are made set by set in the order of
 * set_id, and within a set by virtual IP and index, so they come out sorted and
 * two dispatches can be compared by merging.
 */
#include "proxy/model/dispatch.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int vip_compare(const struct vip *a, const struct vip *b)
{
	int order = addr_compare(&a->addr, &b->addr);

	return order ? order : (a->port > b->port) - (a->port < b->port);
}

/* What every dispatch is, that the compiler made. */
static void check_dispatch(const struct dispatch *p)
{
	unsigned int i;

	assert(!(p->flags & DISPATCH_PING) || p->flags & DISPATCH_ALIVE);
	assert(!(p->flags & DISPATCH_PASS) || !(p->flags & DISPATCH_ALIVE));
	assert(!p->n_vips || p->vips);
	assert(!p->n_ranges || p->ranges);
	assert(!p->cluster.count || p->cluster.items);
	assert(!p->local.count || p->local.items);
	for (i = 1; i < p->n_vips; i++)
		assert(vip_compare(&p->vips[i - 1], &p->vips[i]) < 0);
	for (i = 1; i < p->n_ranges; i++)
		assert(prefix_compare(&p->ranges[i - 1], &p->ranges[i]) < 0);
}

struct dispatch *dispatch_pack(const struct dispatch *dispatch)
{
	size_t ranges = sizeof(*dispatch) + dispatch->n_vips * sizeof(struct vip);
	size_t cluster = ranges + dispatch->n_ranges * sizeof(struct prefix);
	size_t local = cluster + endpoint_list_size(&dispatch->cluster);
	size_t size = local + endpoint_list_size(&dispatch->local);
	struct dispatch *p;
	char *base;

	_Static_assert(_Alignof(struct vip) <= _Alignof(struct dispatch) &&
			       _Alignof(struct prefix) == 1,
		       "one after the other");
	check_dispatch(dispatch);
	base = malloc(size);
	if (!base)
		return NULL;
	p = (struct dispatch *)(void *)base;
	*p = *dispatch;
	p->vips = memcpy(base + sizeof(*p), dispatch->vips,
			 dispatch->n_vips * sizeof(struct vip));
	p->ranges = dispatch->n_ranges
			    ? memcpy(base + ranges, dispatch->ranges,
				     dispatch->n_ranges * sizeof(struct prefix))
			    : NULL;
	p->cluster.items = (uint8_t *)base + cluster;
	p->local.items = (uint8_t *)base + local;
	if (dispatch->cluster.count)
		memcpy(base + cluster, dispatch->cluster.items, local - cluster);
	if (dispatch->local.count)
		memcpy(base + local, dispatch->local.items, size - local);
	return p;
}

static bool vips_equal(const struct dispatch *a, const struct dispatch *b)
{
	unsigned int i;

	if (a->n_vips != b->n_vips || a->n_ranges != b->n_ranges)
		return false;
	for (i = 0; i < a->n_vips; i++)
		if (vip_compare(&a->vips[i], &b->vips[i]) ||
		    a->vips[i].role != b->vips[i].role)
			return false;
	for (i = 0; i < a->n_ranges; i++)
		if (prefix_compare(&a->ranges[i], &b->ranges[i]))
			return false;
	return true;
}

bool dispatch_equal(const struct dispatch *a, const struct dispatch *b)
{
	if (!a || !b)
		return a == b;
	return a->protocol == b->protocol && a->flags == b->flags &&
	       a->has_lost_ip == b->has_lost_ip &&
	       addr_compare(&a->lost_ip, &b->lost_ip) == 0 &&
	       a->affinity_timeout_s == b->affinity_timeout_s &&
	       vips_equal(a, b) && endpoint_list_equal(&a->cluster, &b->cluster) &&
	       endpoint_list_equal(&a->local, &b->local);
}

/* Whether this VIP sends packets to the list: see the table of traffic policies, POL-1 and POL-2.
 */
static bool vip_uses(const struct dispatch *p, const struct vip *vip, bool local)
{
	if (vip->role == VIP_CLUSTER_IP)
		return !!(p->flags & DISPATCH_INTERNAL_LOCAL) == local;
	return !local || (p->flags & DISPATCH_EXTERNAL_LOCAL);
}

bool dispatch_uses(const struct dispatch *p, bool local)
{
	unsigned int i;

	for (i = 0; p && i < p->n_vips; i++)
		if (vip_uses(p, &p->vips[i], local))
			return true;
	return false;
}

bool dispatch_remembers(const struct dispatch *p, bool local)
{
	return p && p->affinity_timeout_s && (p->flags & DISPATCH_ALIVE) &&
	       dispatch_uses(p, local);
}

const struct endpoint_list *dispatch_list(const struct dispatch *p, bool local)
{
	return local ? &p->local : &p->cluster;
}

bool dispatch_firewalled(const struct dispatch *p)
{
	unsigned int i;

	for (i = 0; p && p->n_ranges && i < p->n_vips; i++)
		if (p->vips[i].role == VIP_LOAD_BALANCER)
			return true;
	return false;
}

enum set_id list_set(bool nodeport, bool local, bool sticky)
{
	_Static_assert(MAP_NODEPORT_LOCAL_ENDPOINTS - MAP_ENDPOINTS == 3 &&
			       MAP_STICKY_NODEPORT_LOCAL_ENDPOINTS -
					       MAP_STICKY_ENDPOINTS ==
				       3,
		       "a bit for node ports and one for the local list");
	return (enum set_id)((sticky ? MAP_STICKY_ENDPOINTS : MAP_ENDPOINTS) +
			     (nodeport ? 2 : 0) + (local ? 1 : 0));
}

/* @head and the namespace and name that @sticky begins with. */
static char *service_object_name(const char *head, const char *sticky,
				 struct arena *scratch)
{
	const char *end = strchrnul(sticky, '/');
	size_t size;
	char *name;

	if (*end)
		end = strchrnul(end + 1, '/');
	size = strlen(head) + (size_t)(end - sticky) + 1;
	name = arena_alloc(scratch, size);
	if (name)
		snprintf(name, size, "%s%.*s", head, (int)(end - sticky), sticky);
	return name;
}

char *ranges_set_name(const char *sticky, struct arena *scratch)
{
	return service_object_name(RANGES_PREFIX, sticky, scratch);
}

char *affinity_map_name(const char *sticky, bool local, struct arena *scratch)
{
	const char *head = local ? "affinity-local/" : "affinity/";
	size_t size = strlen(head) + strlen(sticky) + 1;
	char *name = arena_alloc(scratch, size);

	if (name)
		snprintf(name, size, "%s%s", head, sticky);
	return name;
}

/* An identifier of nft has no colon: IPv6 addresses are written with dots. */
static void swap_characters(char *text, char from, char to)
{
	for (; *text; text++)
		if (*text == from)
			*text = to;
}

char *sticky_chain_name(const char *sticky, bool local, enum family family,
			const struct endpoint *ep, struct arena *scratch)
{
	const char *head = local ? "sticky-local/" : "sticky/";
	char addr[ADDR_TEXT_SIZE];
	size_t size;
	char *name;

	addr_format(family, &ep->addr, addr);
	if (family == FAMILY_IPV6)
		swap_characters(addr, ':', '.');
	size = strlen(head) + strlen(sticky) + 1 + strlen(addr) + sizeof("/65535");
	name = arena_alloc(scratch, size);
	if (name)
		snprintf(name, size, "%s%s/%s/%u", head, sticky, addr, ep->port);
	return name;
}

int sticky_chain_parse(const char *name, enum family family, struct endpoint *ep)
{
	const char *port = strrchr(name, '/'), *at = port;
	struct endpoint e = { 0 };
	char addr[ADDR_TEXT_SIZE];
	enum family found;
	unsigned long value;
	char *end;

	if (!port || port == name)
		return -EINVAL;
	while (at > name && at[-1] != '/')
		at--;
	if ((size_t)(port - at) >= sizeof(addr))
		return -EINVAL;
	memcpy(addr, at, (size_t)(port - at));
	addr[port - at] = '\0';
	if (family == FAMILY_IPV6)
		swap_characters(addr, '.', ':');
	value = strtoul(port + 1, &end, 10);
	if (*end || !value || value > UINT16_MAX ||
	    addr_parse(addr, &found, &e.addr) || found != family)
		return -EINVAL;
	e.port = (uint16_t)value;
	*ep = e;
	return 0;
}

/* Collects elements; err sticks. */
struct maker {
	const struct dispatch *dispatch;
	enum family family;
	struct arena *scratch;
	struct element *items;
	size_t count, size;
	char **chains[2]; /* names of the endpoints' affinity chains, by list */
	char *firewall;	  /* name of the Service's firewall chain */
	int err;
};

static size_t elements_max(const struct dispatch *p)
{
	/* cluster-ips, ping-ips, a verdict and three more for policies and
	 * firewall, per VIP; lists; hairpin
	 */
	size_t lists = (size_t)p->cluster.count + p->local.count;

	return p->n_vips * (6 + lists) + lists + p->has_lost_ip;
}

static struct element *make_element(struct maker *m, enum set_id set,
				    const struct vip *vip)
{
	struct element *el = &m->items[m->count];

	assert(set < N_SETS);
	assert(m->count < m->size);
	m->count++;
	el->set = set;
	el->addr = vip->addr;
	el->port = vip->port;
	el->protocol = m->dispatch->protocol;
	return el;
}

static void make_verdict(struct maker *m, enum set_id set,
			 const struct vip *vip, struct verdict verdict)
{
	struct element *el = make_element(m, set, vip);

	assert(set_has_verdict(set));
	assert(verdict.kind != VERDICT_PICK || verdict.count);
	el->verdict = verdict;
	el->comment = m->dispatch->label;
}

static bool vip_is_firewalled(const struct dispatch *p, const struct vip *vip)
{
	return vip->role == VIP_LOAD_BALANCER && p->n_ranges;
}

static bool vip_is_external_local(const struct dispatch *p, const struct vip *vip)
{
	return vip->role != VIP_CLUSTER_IP &&
	       (p->flags & DISPATCH_EXTERNAL_LOCAL) &&
	       (p->flags & DISPATCH_ALIVE);
}

/* A random endpoint of the list, or VER-3. */
static struct verdict pick_verdict(const struct dispatch *p, const struct vip *vip,
				   bool local, unsigned int masquerade)
{
	const struct endpoint_list *list = dispatch_list(p, local);
	struct verdict v = { .kind = VERDICT_PICK, .count = list->count };

	assert(p->flags & DISPATCH_ALIVE);
	if (!list->count)
		return (struct verdict){ .kind = VERDICT_DROP };
	v.pick = (uint8_t)(masquerade | (local ? PICK_LOCAL : 0) |
			   (vip->role == VIP_NODE_PORT ? PICK_NODEPORT : 0) |
			   (p->affinity_timeout_s ? PICK_STICKY : 0));
	return v;
}

bool vip_is_passed(const struct dispatch *p, const struct vip *vip)
{
	return p->flags & DISPATCH_PASS &&
	       (vip->role == VIP_LOAD_BALANCER || vip->role == VIP_EXTERNAL_IP);
}

/*
 * What becomes of a packet to this VIP once its source is allowed: VER-2 to VER-4. One that is
 * passed has an element all the same, so that no node port is looked for (VER-14).
 */
static struct verdict vip_verdict(const struct dispatch *p, const struct vip *vip)
{
	if (vip_is_passed(p, vip))
		return (struct verdict){ .kind = VERDICT_PASS };
	if (!(p->flags & DISPATCH_ALIVE))
		return (struct verdict){ .kind = VERDICT_REJECT };
	if (vip_is_external_local(p, vip))
		return (struct verdict){
			.kind = VERDICT_EXTERNAL_LOCAL,
			.pick = vip->role == VIP_NODE_PORT ? PICK_NODEPORT : 0,
		};
	if (vip->role == VIP_CLUSTER_IP)
		return pick_verdict(p, vip, p->flags & DISPATCH_INTERNAL_LOCAL,
				    PICK_CLUSTER);
	return pick_verdict(p, vip, false, PICK_EXTERNAL);
}

static int key_compare(const void *a, const void *b)
{
	return element_key_compare(a, b);
}

static void make_cluster_ips(struct maker *m)
{
	static const struct vip nowhere;
	const struct dispatch *p = m->dispatch;
	struct element *el;
	unsigned int i;

	for (i = 0; i < p->n_vips; i++) {
		if (p->vips[i].role != VIP_CLUSTER_IP)
			continue;
		el = make_element(m, SET_CLUSTER_IPS, &nowhere);
		el->addr = p->vips[i].addr;
		el->protocol = 0;
	}
	if (!p->has_lost_ip)
		return;
	el = make_element(m, SET_CLUSTER_IPS, &nowhere);
	el->addr = p->lost_ip;
	el->protocol = 0;
}

static void make_hairpin_of(struct maker *m, const struct endpoint_list *list)
{
	struct vip endpoint = { 0 };
	struct endpoint ep;
	unsigned int i;

	for (i = 0; i < list->count; i++) {
		ep = endpoint_list_at(list, i);
		if (!ep.local)
			continue;
		endpoint.addr = ep.addr;
		endpoint.port = ep.port;
		make_element(m, SET_HAIRPIN, &endpoint);
	}
}

/* The lists are ordered by index, and may share endpoints. */
static void make_hairpin(struct maker *m)
{
	const struct dispatch *p = m->dispatch;
	size_t first = m->count, from, to = first;

	if (dispatch_uses(p, false))
		make_hairpin_of(m, &p->cluster);
	if (dispatch_uses(p, true))
		make_hairpin_of(m, &p->local);
	if (m->count - first < 2)
		return;
	qsort(&m->items[first], m->count - first, sizeof(*m->items), key_compare);
	for (from = first + 1; from < m->count; from++)
		if (element_key_compare(&m->items[to], &m->items[from]))
			m->items[++to] = m->items[from];
	memset(&m->items[to + 1], 0, (m->count - to - 1) * sizeof(*m->items));
	m->count = to + 1;
	assert(m->count > first && m->count <= m->size);
}

static void make_ping_ips(struct maker *m)
{
	const struct dispatch *p = m->dispatch;
	struct element *el;
	unsigned int i;

	for (i = 0; (p->flags & DISPATCH_PING) && i < p->n_vips; i++) {
		if (p->vips[i].role == VIP_NODE_PORT)
			continue;
		el = make_element(m, SET_PING_IPS, &p->vips[i]);
		el->protocol = 0;
		el->port = 0;
	}
}

static void make_firewall(struct maker *m, const struct vip *vip)
{
	assert(vip_is_firewalled(m->dispatch, vip));
	if (!m->firewall)
		m->firewall = service_object_name(
			FIREWALL_PREFIX, m->dispatch->sticky, m->scratch);
	if (!m->firewall)
		m->err = -ENOMEM;
	make_verdict(m, MAP_SERVICE_IPS, vip,
		     (struct verdict){ .kind = VERDICT_FIREWALL });
	m->items[m->count - 1].chain = m->firewall;
}

/* service-ips and service-nodeports, and where those lead on to */
static void make_verdicts(struct maker *m, bool nodeport)
{
	const struct dispatch *p = m->dispatch;
	const struct vip *vip;
	unsigned int i;

	for (i = 0; i < p->n_vips; i++) {
		vip = &p->vips[i];
		if ((vip->role == VIP_NODE_PORT) != nodeport)
			continue;
		if (vip_is_firewalled(p, vip))
			make_firewall(m, vip);
		else
			make_verdict(m,
				     nodeport ? MAP_SERVICE_NODEPORTS
					      : MAP_SERVICE_IPS,
				     vip, vip_verdict(p, vip));
	}
}

static void make_firewalled(struct maker *m)
{
	const struct dispatch *p = m->dispatch;
	unsigned int i;

	for (i = 0; i < p->n_vips; i++)
		if (vip_is_firewalled(p, &p->vips[i]))
			make_verdict(m, MAP_FIREWALLED, &p->vips[i],
				     vip_verdict(p, &p->vips[i]));
}

static void make_policy(struct maker *m, enum set_id set, bool nodeport, bool local)
{
	const struct dispatch *p = m->dispatch;
	unsigned int i;

	for (i = 0; i < p->n_vips; i++)
		if ((p->vips[i].role == VIP_NODE_PORT) == nodeport &&
		    vip_is_external_local(p, &p->vips[i]))
			make_verdict(m, set, &p->vips[i],
				     pick_verdict(p, &p->vips[i], local, 0));
}

static const char *chain_name(struct maker *m, bool local, unsigned int index)
{
	const struct dispatch *p = m->dispatch;
	const struct endpoint_list *list = dispatch_list(p, local);
	const struct endpoint ep = endpoint_list_at(list, index);
	char **names = m->chains[local];

	assert(index < list->count);
	if (!names)
		names = m->chains[local] =
			arena_array(m->scratch, list->count, sizeof(char *));
	if (names && !names[index])
		names[index] = sticky_chain_name(p->sticky, local, m->family,
						 &ep, m->scratch);
	if (!names || !names[index])
		m->err = -ENOMEM;
	return names ? names[index] : NULL;
}

static void make_list(struct maker *m, bool nodeport, bool local)
{
	const struct dispatch *p = m->dispatch;
	const struct endpoint_list *list = dispatch_list(p, local);
	const bool sticky = p->affinity_timeout_s;
	const enum set_id set = list_set(nodeport, local, sticky);
	struct endpoint ep;
	struct element *el;
	unsigned int i, n;

	if (!(p->flags & DISPATCH_ALIVE))
		return;
	for (i = 0; i < p->n_vips; i++) {
		if ((p->vips[i].role == VIP_NODE_PORT) != nodeport ||
		    !vip_uses(p, &p->vips[i], local))
			continue;
		for (n = 0; n < list->count; n++) {
			el = make_element(m, set, &p->vips[i]);
			el->index = n;
			if (sticky) {
				el->verdict.kind = VERDICT_STICKY;
				el->chain = chain_name(m, local, n);
			} else {
				ep = endpoint_list_at(list, n);
				el->endpoint = ep.addr;
				el->endpoint_port = ep.port;
			}
		}
	}
}

int dispatch_elements(const struct dispatch *dispatch, enum family family,
		      struct arena *scratch, const struct element **elements,
		      size_t *count)
{
	struct maker m = { .dispatch = dispatch,
			   .family = family,
			   .scratch = scratch };

	*elements = NULL;
	*count = 0;
	if (!dispatch)
		return 0;
	m.size = elements_max(dispatch);
	m.items = arena_array(scratch, m.size, sizeof(*m.items));
	if (!m.items)
		return -ENOMEM;
	make_cluster_ips(&m);
	make_hairpin(&m);
	make_ping_ips(&m);
	make_verdicts(&m, false);
	make_verdicts(&m, true);
	make_firewalled(&m);
	make_policy(&m, MAP_CLUSTER_POLICY, false, false);
	make_policy(&m, MAP_LOCAL_POLICY, false, true);
	make_policy(&m, MAP_NODEPORT_CLUSTER_POLICY, true, false);
	make_policy(&m, MAP_NODEPORT_LOCAL_POLICY, true, true);
	make_list(&m, false, false);
	make_list(&m, false, true);
	make_list(&m, true, false);
	make_list(&m, true, true);
	assert(m.count <= m.size);
	*elements = m.items;
	*count = m.count;
	return m.err;
}
