/*
 * The decision is made on dispatches, as the compiler makes elements from them,
 * but in the reader's direction: from a packet to its endpoints.
 */
#include "proxy/model/explain.h"

#include "proxy/model/model_internal.h"
#include "proxy/model/ruleset.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

static bool is_local(const struct model *m, enum family family,
		     const struct addr *addr)
{
	unsigned int i;

	for (i = 0; i < m->n_local[family]; i++)
		if (addr_compare(&m->local[family][i], addr) == 0)
			return true;
	for (i = 0; m->node && i < m->node->n_addresses; i++)
		if (m->node->addresses[i].family == family &&
		    addr_compare(&m->node->addresses[i].addr, addr) == 0)
			return true;
	return false;
}

static bool detects_by_interface(const struct ruleset *rs)
{
	return rs->detect_local == DETECT_BRIDGE_INTERFACE ||
	       rs->detect_local == DETECT_INTERFACE_NAME_PREFIX;
}

/* POL-7: pod before host. In the interface modes the packet's way in is not known here. */
static enum explain_source source_of(const struct model *m,
				     const struct ruleset *rs,
				     const struct explain_query *q)
{
	if (q->any_pod)
		return EXPLAIN_POD;
	if (rs->detect && !detects_by_interface(rs) &&
	    prefix_contains(&rs->pod_cidr, &q->source))
		return EXPLAIN_POD;
	return is_local(m, q->family, &q->source) ? EXPLAIN_HOST : EXPLAIN_OUTSIDE;
}

static const struct vip *find_vip(const struct dispatch *p,
				  const struct addr *addr, uint16_t port)
{
	unsigned int i;

	for (i = 0; i < p->n_vips; i++) {
		const struct vip *vip = &p->vips[i];
		const bool nodeport = vip->role == VIP_NODE_PORT;

		if (vip->port == port && nodeport == !addr &&
		    (nodeport || addr_compare(&vip->addr, addr) == 0))
			return vip;
	}
	return NULL;
}

static bool in_source_ranges(const struct dispatch *p,
			     const struct explain_query *q)
{
	unsigned int i;

	if (q->any_pod)
		return true;
	for (i = 0; i < p->n_ranges; i++)
		if (prefix_contains(&p->ranges[i], &q->source))
			return true;
	return !p->n_ranges;
}

static enum explain_source_reason source_reason_of(const struct dispatch *p,
						   const struct ruleset *rs,
						   const struct vip *vip,
						   enum explain_source source)
{
	if (vip->role != VIP_CLUSTER_IP)
		return !(p->flags & DISPATCH_EXTERNAL_LOCAL) ? SOURCE_POLICY_CLUSTER
		       : source == EXPLAIN_HOST		     ? SOURCE_FROM_HOST
						: SOURCE_POLICY_LOCAL;
	if (rs->masquerade_all)
		return SOURCE_MASQUERADE_ALL;
	if (!rs->detect)
		return SOURCE_PODS_UNKNOWN;
	return source == EXPLAIN_POD ? SOURCE_FROM_POD : SOURCE_NOT_FROM_POD;
}

static bool is_masqueraded(enum explain_source_reason reason)
{
	return reason == SOURCE_NOT_FROM_POD || reason == SOURCE_MASQUERADE_ALL ||
	       reason == SOURCE_POLICY_CLUSTER || reason == SOURCE_FROM_HOST;
}

/* BEY-3: some pod is in the ranges if all are. MASQ-1 comes first. */
static bool source_may_be_kept(const struct model *m, const struct ruleset *rs,
			       const struct explain_query *q, const struct vip *vip)
{
	const struct config *c = m->config;
	unsigned int i;

	if (rs->masquerade_all && vip->role == VIP_CLUSTER_IP)
		return false;
	if (!q->any_pod)
		return config_keeps_sources_of(c, q->family, &q->source);
	for (i = 0; rs->detect && !detects_by_interface(rs) &&
		    i < c->family[q->family].n_no_masquerade;
	     i++)
		if (prefix_covers(&c->family[q->family].no_masquerade[i],
				  &rs->pod_cidr))
			return true;
	return false;
}

bool explain_keeps_source(const struct model *m, const struct explain_query *q,
			  const struct explanation *x,
			  const struct endpoint *endpoint)
{
	const bool hairpin = endpoint->local && !q->any_pod &&
			     addr_compare(&endpoint->addr, &q->source) == 0;

	return x->masqueraded && x->may_keep && !hairpin &&
	       config_keeps_sources_of(m->config, q->family, &endpoint->addr);
}

static bool takes_local_list(const struct dispatch *p, const struct vip *vip,
			     enum explain_source source)
{
	if (vip->role == VIP_CLUSTER_IP)
		return p->flags & DISPATCH_INTERNAL_LOCAL;
	return (p->flags & DISPATCH_EXTERNAL_LOCAL) && source == EXPLAIN_OUTSIDE;
}

static enum explain_verdict vip_outcome(const struct dispatch *p,
					const struct vip *vip,
					const struct explain_query *q, bool local)
{
	if (vip->role == VIP_LOAD_BALANCER && !in_source_ranges(p, q))
		return EXPLAIN_NOT_IN_RANGES;
	if (vip_is_passed(p, vip))
		return EXPLAIN_PASSED;
	if (!(p->flags & DISPATCH_ALIVE))
		return EXPLAIN_NO_ENDPOINTS;
	return dispatch_list(p, local)->count ? EXPLAIN_DNAT : EXPLAIN_NO_LOCAL;
}

static bool is_cluster_ip(const struct model *m, enum family family,
			  const struct addr *addr)
{
	struct service_entry *entry;

	for_each_service_entry (entry, m) {
		const struct service *s = entry->object;

		if (s && !(s->flags & SERVICE_IGNORED) &&
		    s->family[family].has_cluster_ip &&
		    addr_compare(&s->family[family].cluster_ip, addr) == 0)
			return true;
	}
	return false;
}

static bool in_service_cidr(const struct model *m, enum family family,
			    const struct addr *addr)
{
	const struct cidr_entry *e;
	unsigned int i;

	for (e = m->cidrs; e; e = e->next)
		for (i = 0; i < e->object->family[family].count; i++)
			if (prefix_contains(&e->object->family[family].items[i],
					    addr))
				return true;
	return false;
}

/* NP-2, NP-3 */
static bool is_nodeport_ip(const struct model *m, enum family family,
			   const struct addr *addr)
{
	unsigned int i;

	if (m->info.family[family].nodeports_everywhere)
		return is_local(m, family, addr) &&
		       !addr_is_loopback(family, addr);
	for (i = 0; i < m->info.family[family].n_nodeport_ips; i++)
		if (addr_compare(&m->info.family[family].nodeport_ips[i], addr) == 0)
			return true;
	return false;
}

/* BEY-4: a service port for which the address answers ping, or NULL. */
static const struct service_port_state *
ping_port(const struct model *m, enum family family, const struct addr *addr)
{
	const struct service_port_state *port;
	const struct service_entry *s;
	unsigned int i;

	for_each_service_entry (s, m)
		for (port = s->ports[family]; port; port = port->next) {
			if (!port->desired ||
			    !(port->desired->flags & DISPATCH_PING))
				continue;
			for (i = 0; i < port->desired->n_vips; i++)
				if (port->desired->vips[i].role != VIP_NODE_PORT &&
				    addr_compare(&port->desired->vips[i].addr,
						 addr) == 0)
					return port;
		}
	return NULL;
}

static void explain_ping(const struct model *m, const struct explain_query *q,
			 struct explanation *x)
{
	x->port = ping_port(m, q->family, &q->destination);
	if (x->port)
		x->verdict = EXPLAIN_ANSWERED;
	else if (is_cluster_ip(m, q->family, &q->destination))
		x->verdict = EXPLAIN_NO_PING;
	else if (in_service_cidr(m, q->family, &q->destination) &&
		 !is_local(m, q->family, &q->destination)) /* VER-20 */
		x->verdict = EXPLAIN_NO_SERVICE;
	else
		x->verdict = EXPLAIN_NOT_OURS;
}

void explain_packet(const struct model *m, const struct explain_query *q,
		    struct explanation *explanation)
{
	const struct addr *addr = &q->destination;
	const struct service_port_state *port;
	struct explanation x = { 0 };
	struct ruleset rs;

	model_ruleset(m, q->family, &rs);
	x.source = source_of(m, &rs, q);
	x.by_interface = detects_by_interface(&rs) && !q->any_pod;
	if (q->protocol == IPPROTO_ICMP) {
		explain_ping(m, q, &x);
		*explanation = x;
		return;
	}
	port = model_vip_owner(m, q->family, addr, q->protocol, q->port);
	if (!port && is_nodeport_ip(m, q->family, addr)) {
		addr = NULL;
		port = model_vip_owner(m, q->family, NULL, q->protocol, q->port);
	}
	if (port && port->desired)
		x.vip = find_vip(port->desired, addr, q->port);
	if (x.vip) {
		x.port = port;
		x.local = takes_local_list(port->desired, x.vip, x.source);
		x.source_reason =
			source_reason_of(port->desired, &rs, x.vip, x.source);
		x.masqueraded = is_masqueraded(x.source_reason);
		x.may_keep = source_may_be_kept(m, &rs, q, x.vip);
		x.verdict = vip_outcome(port->desired, x.vip, q, x.local);
	} else if (is_cluster_ip(m, q->family, &q->destination)) {
		x.verdict = EXPLAIN_NO_PORT;
	} else if (in_service_cidr(m, q->family, &q->destination) &&
		   !is_local(m, q->family, &q->destination)) { /* VER-20 */
		x.verdict = EXPLAIN_NO_SERVICE;
	} else {
		x.verdict = EXPLAIN_NOT_OURS;
	}
	*explanation = x;
}
