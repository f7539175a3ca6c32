/* See the header. */
#include "tests/support/packet.h"

#include <stdlib.h>
#include <string.h>

static int key_order(const void *a, const void *b)
{
	return element_key_compare(a, b);
}

static int endpoint_order(const void *a, const void *b)
{
	return endpoint_compare(a, b);
}

/* By elements */

struct table {
	const struct model *m;
	enum family family;
	const struct element *list;
	size_t n;
	const struct packet *packet;
	struct arena *scratch;
	struct strbuf *complaint;
};

static const struct element *lookup(const struct table *t, enum set_id set,
				    bool nodeport, uint32_t index)
{
	struct element key = {
		.set = set,
		.protocol = t->packet->protocol,
		.port = t->packet->port,
		.index = index,
	};

	if (!nodeport)
		key.addr = t->packet->destination;
	return t->n ? bsearch(&key, t->list, t->n, sizeof(key), key_order) : NULL;
}

static bool has_address(const struct table *t, enum set_id set)
{
	const struct element key = { .set = set, .addr = t->packet->destination };

	return t->n && bsearch(&key, t->list, t->n, sizeof(key), key_order);
}

static bool in_ranges(const struct table *t, enum set_id set,
		      const struct addr *addr)
{
	size_t i;

	for (i = 0; i < t->n; i++)
		if (t->list[i].set == set &&
		    prefix_contains(&t->list[i].range, addr))
			return true;
	return false;
}

/* By the rule that comes before masquerading; the first 64 endpoints. */
static uint64_t kept(const struct table *t, const struct outcome *o)
{
	uint64_t bits = 0;
	unsigned int i;

	if (!o->masquerade || !in_ranges(t, SET_NO_MASQUERADE, &t->packet->source) ||
	    (model_config(t->m)->masquerade_all && has_address(t, SET_CLUSTER_IPS)))
		return 0;
	for (i = 0; i < o->n && i < 64; i++)
		if (in_ranges(t, SET_NO_MASQUERADE, &o->endpoints[i].addr))
			bits |= UINT64_C(1) << i;
	return bits;
}

/* @chain: the firewall chain that looks into them. */
static bool in_source_ranges(const struct table *t, const char *chain)
{
	const char *service = chain + strlen(FIREWALL_PREFIX);
	size_t i;

	for (i = 0; i < t->n; i++)
		if (t->list[i].set == SET_SOURCE_RANGES &&
		    strcmp(t->list[i].ranges + strlen(RANGES_PREFIX), service) == 0 &&
		    prefix_contains(&t->list[i].range, &t->packet->source))
			return true;
	return false;
}

static void complain(const struct table *t, const char *what)
{
	packet_print(t->complaint, t->family, t->packet);
	strbuf_addf(t->complaint, ": %s\n", what);
}

static struct outcome picked(const struct table *t, const struct verdict *v,
			     bool marked)
{
	const bool nodeport = v->pick & PICK_NODEPORT,
		   sticky = v->pick & PICK_STICKY;
	const enum set_id set = list_set(nodeport, v->pick & PICK_LOCAL, sticky);
	struct outcome o = { .fate = FATE_DNAT };
	const struct element *el;
	unsigned int i;

	o.masquerade = marked || (v->pick & PICK_EXTERNAL) ||
		       ((v->pick & PICK_CLUSTER) &&
			(model_config(t->m)->masquerade_all ||
			 (model_config(t->m)->family[t->family].has_cluster_cidr &&
			  !t->packet->pod)));
	o.n = v->count;
	o.endpoints = arena_array(t->scratch, o.n, sizeof(*o.endpoints));
	for (i = 0; i < o.n; i++) {
		el = lookup(t, set, nodeport, i);
		if (!el)
			complain(t, "an index of a list is missing");
		else if (!sticky)
			o.endpoints[i] =
				(struct endpoint){ .addr = el->endpoint,
						   .port = el->endpoint_port };
		else if (!el->chain || sticky_chain_parse(el->chain, t->family,
							  &o.endpoints[i]))
			complain(t, "an affinity chain has a bad name");
	}
	if (lookup(t, set, nodeport, o.n))
		complain(t, "a list is longer than the pick chain says");
	qsort(o.endpoints, o.n, sizeof(*o.endpoints), endpoint_order);
	o.kept = kept(t, &o);
	return o;
}

static struct outcome run(const struct table *t, const struct element *el,
			  bool marked)
{
	struct outcome o = { .fate = FATE_PASS };
	bool nodeport, pod_or_host = t->packet->pod || t->packet->host;
	enum set_id next;

	if (!el) {
		complain(t, "a verdict is missing");
		return o;
	}
	switch (el->verdict.kind) {
	case VERDICT_DROP:
		o.fate = FATE_DROP;
		return o;
	case VERDICT_REJECT:
		o.fate = FATE_REJECT;
		return o;
	case VERDICT_PASS:
		return o;
	case VERDICT_FIREWALL:
		o.fate = FATE_DROP;
		return in_source_ranges(t, el->chain)
			       ? run(t, lookup(t, MAP_FIREWALLED, false, 0), false)
			       : o;
	case VERDICT_EXTERNAL_LOCAL:
		nodeport = el->verdict.pick & PICK_NODEPORT;
		next = nodeport ? (pod_or_host ? MAP_NODEPORT_CLUSTER_POLICY
					       : MAP_NODEPORT_LOCAL_POLICY)
				: (pod_or_host ? MAP_CLUSTER_POLICY
					       : MAP_LOCAL_POLICY);
		return run(t, lookup(t, next, nodeport, 0),
			   t->packet->host && !t->packet->pod);
	case VERDICT_PICK:
		return picked(t, &el->verdict, marked);
	}
	complain(t, "a verdict that nobody knows");
	return o;
}

/* NP-2, NP-3 */
static bool is_local(const struct model *m, enum family family,
		     const struct addr *addr)
{
	unsigned int i;

	for (i = 0; i < model_addresses(m, family).count; i++)
		if (addr_compare(&model_addresses(m, family).items[i], addr) == 0)
			return !addr_is_loopback(family, addr);
	return false;
}

struct outcome packet_by_elements(const struct model *m, enum family family,
				  const struct element *list, size_t n,
				  const struct packet *packet,
				  struct arena *scratch, struct strbuf *complaint)
{
	const struct table t = { m, family, list, n, packet, scratch, complaint };
	const struct element *el = lookup(&t, MAP_SERVICE_IPS, false, 0);
	struct outcome o = { .fate = FATE_PASS };
	bool nodeport_address =
		model_node_info(m)->family[family].nodeports_everywhere
			? is_local(m, family, &packet->destination)
			: has_address(&t, SET_NODEPORT_IPS);

	if (!el && nodeport_address)
		el = lookup(&t, MAP_SERVICE_NODEPORTS, true, 0);
	if (el)
		return run(&t, el, false);
	if (has_address(&t, SET_CLUSTER_IPS))
		o.fate = FATE_REJECT;
	else if (in_ranges(&t, SET_SERVICE_CIDRS, &packet->destination))
		o.fate = FATE_DROP;
	return o;
}

/* By objects */

enum role {
	ROLE_NONE,
	ROLE_CLUSTER,
	ROLE_BALANCER,
	ROLE_EXTERNAL,
	ROLE_NODEPORT
};

struct owner {
	const struct service_entry *entry;
	const struct service_port *port;
	enum role role;
};

static bool list_has(const struct addr_list *list, const struct addr *addr)
{
	unsigned int i;

	for (i = 0; i < list->count; i++)
		if (addr_compare(&list->items[i], addr) == 0)
			return true;
	return false;
}

/* The role in which the service port offers the packet's destination (SVC-5 to SVC-10, LB-7). */
static enum role role_of(const struct model *m, enum family family,
			 const struct service *s, const struct service_port *port,
			 const struct packet *packet, bool nodeport)
{
	if (port->protocol != packet->protocol ||
	    (s->flags & SERVICE_IGNORED) || !s->family[family].has_cluster_ip)
		return ROLE_NONE;
	if (nodeport)
		return port->node_port && port->node_port == packet->port
			       ? ROLE_NODEPORT
			       : ROLE_NONE;
	if (port->port != packet->port)
		return ROLE_NONE;
	if (addr_compare(&s->family[family].cluster_ip, &packet->destination) == 0)
		return ROLE_CLUSTER;
	if (list_has(&service_extra(s, family)->load_balancer_ips,
		     &packet->destination))
		return ROLE_BALANCER;
	if (model_config(m)->allow_external_ips &&
	    list_has(&service_extra(s, family)->external_ips, &packet->destination))
		return ROLE_EXTERNAL;
	return ROLE_NONE;
}

/* SVC-11 */
static bool beats(const struct owner *a, const struct owner *b)
{
	const struct service *x = a->entry->object, *y = b->entry->object;
	int order;

	if (x->created_s != y->created_s)
		return x->created_s < y->created_s;
	order = strcmp(x->namespace, y->namespace);
	if (!order)
		order = strcmp(x->name, y->name);
	if (!order)
		order = strcmp(a->port->name, b->port->name);
	return order < 0;
}

static struct owner find_owner(const struct model *m, enum family family,
			       const struct packet *packet, bool nodeport)
{
	struct owner best = { .role = ROLE_NONE };
	struct service_entry *s;
	unsigned int i;

	for_each_service_entry (s, m) {
		struct owner o = { .entry = s };

		for (i = 0; o.entry->object && i < o.entry->object->n_ports; i++) {
			o.port = &o.entry->object->ports[i];
			o.role = role_of(m, family, o.entry->object, o.port,
					 packet, nodeport);
			if (o.role != ROLE_NONE &&
			    (best.role == ROLE_NONE || beats(&o, &best)))
				best = o;
		}
	}
	return best;
}

/* EPS-3 to EPS-8: every endpoint once. */
struct seen {
	struct endpoint endpoint;
	unsigned int flags;
	bool here; /* zone hints name this node's zone */
};

static bool zone_named(const struct slice *slice,
		       const struct slice_endpoint *ep, const char *zone)
{
	const char *name;

	if (!(ep->flags & ENDPOINT_ZONE_HINTS) || !*zone)
		return false;
	for (name = slice->zones + ep->zones; *name; name += strlen(name) + 1)
		if (strcmp(name, zone) == 0)
			return true;
	return false;
}

/* Of two for one key: not terminating first, as EPS-8 has it; then, as we have it, the usable one.
 */
static int seen_rank(const struct seen *s)
{
	return (s->flags & ENDPOINT_TERMINATING ? 0 : 4) +
	       (s->flags & ENDPOINT_READY ? 2 : 0) +
	       (s->flags & ENDPOINT_SERVING ? 1 : 0);
}

static void see(struct seen *all, unsigned int *n, const struct slice *slice,
		uint16_t port, unsigned int index, const char *zone)
{
	const struct slice_endpoint ep = slice_endpoint(slice, index);
	struct seen s = {
		.endpoint = { .addr = ep.addr, .port = port },
		.flags = ep.flags,
		.here = zone_named(slice, &ep, zone),
	};
	unsigned int i;

	for (i = 0; i < *n; i++)
		if (endpoint_compare(&all[i].endpoint, &s.endpoint) == 0)
			break;
	if (i == *n)
		all[(*n)++] = s;
	else if (seen_rank(&s) > seen_rank(&all[i]))
		all[i] = s;
}

static struct seen *endpoints_of(const struct model *m, enum family family,
				 const struct owner *owner,
				 struct arena *scratch, unsigned int *n)
{
	const struct slice_entry *e;
	unsigned int i, p, max = 0;
	struct seen *all;

	for (e = owner->entry->slices; e; e = e->next)
		max += e->object->n_endpoints * e->object->n_ports;
	all = arena_array(scratch, max + 1, sizeof(*all));
	*n = 0;
	for (e = owner->entry->slices; e; e = e->next)
		for (p = 0;
		     e->object->family == family && p < e->object->n_ports; p++)
			for (i = 0; strcmp(e->object->ports[p].name,
					   owner->port->name) == 0 &&
				    e->object->ports[p].protocol ==
					    owner->port->protocol &&
				    i < e->object->n_endpoints;
			     i++)
				see(all, n, e->object, e->object->ports[p].port,
				    i, model_zone(m));
	return all;
}

static bool ready(const struct seen *s)
{
	return s->flags & ENDPOINT_READY;
}

static bool draining(const struct seen *s)
{
	return (s->flags & ENDPOINT_SERVING) && (s->flags & ENDPOINT_TERMINATING);
}

/* SEL-1 to SEL-4 */
static void choose(struct outcome *o, const struct seen *all, unsigned int n,
		   bool local, struct arena *scratch)
{
	bool any_ready = false, node_demanded = true, node_met = false,
	     zone_demanded = true;
	bool zone_met = false, take;
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (!ready(&all[i]) || (local && !(all[i].flags & ENDPOINT_LOCAL)))
			continue;
		any_ready = true;
		node_demanded &= (all[i].flags & ENDPOINT_NODE_HINTS) != 0;
		node_met |= (all[i].flags & ENDPOINT_NODE_HINTED) != 0;
		zone_demanded &= (all[i].flags & ENDPOINT_ZONE_HINTS) != 0;
		zone_met |= all[i].here;
	}
	o->endpoints = arena_array(scratch, n + 1, sizeof(*o->endpoints));
	o->n = 0;
	for (i = 0; i < n; i++) {
		if (!any_ready)
			take = draining(&all[i]);
		else if (local || !ready(&all[i]))
			take = ready(&all[i]);
		else if (node_demanded && node_met)
			take = all[i].flags & ENDPOINT_NODE_HINTED;
		else if (zone_demanded && zone_met)
			take = all[i].here;
		else
			take = true;
		if (take && (!local || (all[i].flags & ENDPOINT_LOCAL)))
			o->endpoints[o->n++] = all[i].endpoint;
	}
	qsort(o->endpoints, o->n, sizeof(*o->endpoints), endpoint_order);
}

/* LB-3 to LB-5 */
static bool source_allowed(const struct model *m, enum family family,
			   const struct service *s, const struct packet *packet)
{
	const struct prefix_list *ranges = &service_extra(s, family)->source_ranges;
	bool node_inside = false;
	unsigned int i;

	if (!ranges->count)
		return true;
	for (i = 0; i < ranges->count; i++) {
		if (prefix_contains(&ranges->items[i], &packet->source))
			return true;
		if (model_node_info(m)->family[family].has_primary)
			node_inside |= prefix_contains(
				&ranges->items[i],
				&model_node_info(m)->family[family].primary);
	}
	return node_inside && list_has(&service_extra(s, family)->load_balancer_ips,
				       &packet->source);
}

static bool passes(const struct model *m, const struct service *s)
{
	if (s->flags & SERVICE_NO_PASS)
		return false;
	return (s->flags & SERVICE_PASS) ||
	       strcmp(model_config(m)->vipmap.no_endpoints, "Pass") == 0;
}

static bool is_cluster_ip(const struct model *m, enum family family,
			  const struct addr *addr);

/* BEY-3, by the ranges as they are written. */
static bool keeps(const struct config *config, enum family family,
		  const struct addr *addr)
{
	char *const *text = config->vipmap.no_masquerade_cidrs;
	struct prefix range;
	enum family of;

	for (; text && *text; text++)
		if (prefix_parse(*text, &of, &range) == 0 && of == family &&
		    prefix_contains(&range, addr))
			return true;
	return false;
}

static void keep_sources(struct outcome *o, const struct model *m,
			 enum family family, const struct packet *packet)
{
	unsigned int i;

	if (model_config(m)->masquerade_all &&
	    is_cluster_ip(m, family, &packet->destination))
		return;
	for (i = 0; o->masquerade && i < o->n && i < 64; i++)
		if (keeps(model_config(m), family, &packet->source) &&
		    keeps(model_config(m), family, &o->endpoints[i].addr))
			o->kept |= UINT64_C(1) << i;
}

static struct outcome judge(const struct model *m, enum family family,
			    const struct owner *owner,
			    const struct packet *packet, struct arena *scratch)
{
	const struct service *s = owner->entry->object;
	struct outcome o = { .fate = FATE_REJECT };
	bool local, alive = false, external = owner->role != ROLE_CLUSTER;
	unsigned int n, i;
	struct seen *all;

	if (owner->role == ROLE_BALANCER && !source_allowed(m, family, s, packet))
		return (struct outcome){ .fate = FATE_DROP }; /* VER-1, VER-9 */
	all = endpoints_of(m, family, owner, scratch, &n);
	for (i = 0; i < n; i++)
		alive |= ready(&all[i]) || draining(&all[i]);
	if (!alive && external && owner->role != ROLE_NODEPORT && passes(m, s))
		o.fate = FATE_PASS; /* BEY-2 */
	if (!alive)
		return o; /* VER-2, VER-10 */
	if (external)
		local = (s->flags & SERVICE_EXTERNAL_LOCAL) && !packet->pod &&
			!packet->host;
	else
		local = s->flags & SERVICE_INTERNAL_LOCAL;
	choose(&o, all, n, local, scratch);
	o.fate = o.n ? FATE_DNAT : FATE_DROP; /* VER-3, VER-4 */
	if (o.fate == FATE_DROP)
		return o;
	if (!external) /* MASQ-1 to MASQ-3 */
		o.masquerade = model_config(m)->masquerade_all ||
			       (model_config(m)->family[family].has_cluster_cidr &&
				!packet->pod);
	else if (s->flags & SERVICE_EXTERNAL_LOCAL) /* MASQ-4 */
		o.masquerade = packet->host && !packet->pod;
	else
		o.masquerade = true;
	keep_sources(&o, m, family, packet);
	return o;
}

/*
 * VER-5. A Service that lost its ClusterIP to another's VIP on all of its ports
 * does not count: nobody can tell whose address that is.
 */
static bool is_cluster_ip(const struct model *m, enum family family,
			  const struct addr *addr)
{
	const struct service_entry *entry;
	struct packet packet = { .destination = *addr };
	struct owner owner;
	unsigned int i;

	for_each_service_entry (entry, m) {
		const struct service *s = entry->object;

		if (!s || (s->flags & SERVICE_IGNORED) ||
		    !s->family[family].has_cluster_ip ||
		    addr_compare(&s->family[family].cluster_ip, addr))
			continue;
		for (i = 0; i < s->n_ports; i++) {
			packet.protocol = s->ports[i].protocol;
			packet.port = s->ports[i].port;
			owner = find_owner(m, family, &packet, false);
			if (owner.role == ROLE_CLUSTER)
				return true;
		}
	}
	return false;
}

static bool in_service_cidr(const struct model *m, enum family family,
			    const struct addr *addr)
{
	const struct cidr_entry *e;
	unsigned int i;

	for (e = model_cidrs(m); e; e = e->next)
		for (i = 0; i < e->object->family[family].count; i++)
			if (prefix_contains(&e->object->family[family].items[i],
					    addr))
				return true;
	return false;
}

static bool offers_nodeports(const struct model *m, enum family family,
			     const struct addr *addr)
{
	unsigned int i;

	if (model_node_info(m)->family[family].nodeports_everywhere)
		return is_local(m, family, addr);
	for (i = 0; i < model_node_info(m)->family[family].n_nodeport_ips; i++)
		if (addr_compare(&model_node_info(m)->family[family].nodeport_ips[i],
				 addr) == 0)
			return true;
	return false;
}

struct outcome packet_by_objects(const struct model *m, enum family family,
				 const struct packet *packet, struct arena *scratch)
{
	struct owner owner = find_owner(m, family, packet, false);
	struct outcome o = { .fate = FATE_PASS };

	if (owner.role == ROLE_NONE &&
	    offers_nodeports(m, family, &packet->destination))
		owner = find_owner(m, family, packet, true);
	if (owner.role != ROLE_NONE)
		return judge(m, family, &owner, packet, scratch);
	if (is_cluster_ip(m, family, &packet->destination))
		o.fate = FATE_REJECT; /* VER-5 */
	else if (in_service_cidr(m, family, &packet->destination))
		o.fate = FATE_DROP; /* VER-6 */
	return o;
}

bool outcomes_equal(const struct outcome *a, const struct outcome *b)
{
	unsigned int i;

	if (a->fate != b->fate || a->masquerade != b->masquerade ||
	    a->n != b->n || a->kept != b->kept)
		return false;
	for (i = 0; i < a->n; i++)
		if (endpoint_compare(&a->endpoints[i], &b->endpoints[i]))
			return false;
	return true;
}

void packet_print(struct strbuf *sb, enum family family, const struct packet *packet)
{
	char source[ADDR_TEXT_SIZE], destination[ADDR_TEXT_SIZE];

	strbuf_addf(sb, "%s%s%s > %s %s %u", packet->pod ? "pod " : "",
		    packet->host ? "host " : "",
		    addr_format(family, &packet->source, source),
		    addr_format(family, &packet->destination, destination),
		    protocol_name(packet->protocol), packet->port);
}

void outcome_print(struct strbuf *sb, enum family family,
		   const struct outcome *outcome)
{
	static const char *const fates[] = { "pass", "drop", "reject", "dnat" };
	char text[ADDR_TEXT_SIZE];
	unsigned int i;

	strbuf_addf(sb, "%s%s", fates[outcome->fate],
		    outcome->masquerade ? " masquerade" : "");
	if (outcome->kept)
		strbuf_addf(sb, " kept %#llx", (unsigned long long)outcome->kept);
	for (i = 0; i < outcome->n; i++)
		strbuf_addf(sb, " %s:%u",
			    addr_format(family, &outcome->endpoints[i].addr, text),
			    outcome->endpoints[i].port);
	strbuf_addc(sb, '\n');
}
