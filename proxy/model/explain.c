/*
 * The decision is made on programs, as the compiler makes elements from them, but in the reader's
 * direction: from a packet to its endpoints.
 */
#include "proxy/model/explain.h"

#include "proxy/model/ruleset.h"

#include <errno.h>
#include <string.h>

enum source { SOURCE_POD, SOURCE_HOST, SOURCE_OUTSIDE };

static const char *const source_names[] = {
	[SOURCE_POD] = "a pod",
	[SOURCE_HOST] = "this node",
	[SOURCE_OUTSIDE] = "outside",
};

static bool is_local(const struct model *m, enum family family, const struct addr *addr)
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
static enum source source_of(const struct model *m, const struct ruleset *rs,
			     const struct explain_query *q)
{
	if (rs->detect && !detects_by_interface(rs) && prefix_contains(&rs->pod_cidr, &q->source))
		return SOURCE_POD;
	return is_local(m, q->family, &q->source) ? SOURCE_HOST : SOURCE_OUTSIDE;
}

static const struct vip *find_vip(const struct program *p, const struct addr *addr, uint16_t port)
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

static bool in_source_ranges(const struct program *p, const struct addr *source)
{
	unsigned int i;

	for (i = 0; i < p->n_ranges; i++)
		if (prefix_contains(&p->ranges[i], source))
			return true;
	return !p->n_ranges;
}

static bool is_masqueraded(const struct program *p, const struct ruleset *rs, const struct vip *vip,
			   enum source source)
{
	if (vip->role == VIP_CLUSTER_IP)
		return rs->masquerade_all || (rs->detect && source != SOURCE_POD);
	return !(p->flags & PROGRAM_EXTERNAL_LOCAL) || source == SOURCE_HOST;
}

static bool takes_local_list(const struct program *p, const struct vip *vip, enum source source)
{
	if (vip->role == VIP_CLUSTER_IP)
		return p->flags & PROGRAM_INTERNAL_LOCAL;
	return (p->flags & PROGRAM_EXTERNAL_LOCAL) && source == SOURCE_OUTSIDE;
}

static void print_endpoints(const struct endpoint_list *list, enum family family,
			    struct strbuf *out)
{
	char addr[ADDR_TEXT_SIZE];
	unsigned int i;

	for (i = 0; i < list->count; i++)
		strbuf_addf(out,
			    family == FAMILY_IPV6 ? "  %6.2f %%  [%s]:%u%s\n"
						  : "  %6.2f %%  %s:%u%s\n",
			    100.0 / list->count, addr_format(family, &list->items[i].addr, addr),
			    list->items[i].port, list->items[i].local ? "  (this node)" : "");
}

static void explain_vip(const struct service_port_state *port, const struct ruleset *rs,
			const struct vip *vip, enum source source, const struct explain_query *q,
			struct strbuf *out)
{
	static const char *const roles[] = {
		[VIP_CLUSTER_IP] = "ClusterIP",
		[VIP_LOAD_BALANCER] = "load balancer address",
		[VIP_EXTERNAL_IP] = "external IP",
		[VIP_NODE_PORT] = "node port",
	};
	const struct program *p = port->desired;
	const bool local = takes_local_list(p, vip, source);
	const struct endpoint_list *list = program_list(p, local);

	strbuf_addf(out, "service  %s (%s)\n", port->label, roles[vip->role]);
	strbuf_addf(out, "policy   %s\n",
		    vip->role == VIP_CLUSTER_IP
			    ? (p->flags & PROGRAM_INTERNAL_LOCAL ? "internalTrafficPolicy Local"
								 : "internalTrafficPolicy Cluster")
			    : (p->flags & PROGRAM_EXTERNAL_LOCAL
				       ? "externalTrafficPolicy Local"
				       : "externalTrafficPolicy Cluster"));
	if (vip->role == VIP_LOAD_BALANCER && !in_source_ranges(p, &q->source)) {
		strbuf_adds(out, "verdict  dropped: not in loadBalancerSourceRanges\n");
		return;
	}
	if (!(p->flags & PROGRAM_ALIVE)) {
		strbuf_adds(out, "verdict  refused: no endpoints\n");
		return;
	}
	if (!list->count) {
		strbuf_adds(out, "verdict  dropped: no endpoints on this node\n");
		return;
	}
	strbuf_addf(out, "verdict  to one of %u endpoints of the %s list, %s\n", list->count,
		    local ? "local" : "cluster",
		    is_masqueraded(p, rs, vip, source) ? "masqueraded" : "source address kept");
	if (p->affinity_timeout_s)
		strbuf_addf(out, "affinity a client returns to its endpoint for %u s\n",
			    p->affinity_timeout_s);
	print_endpoints(list, q->family, out);
}

static bool is_cluster_ip(const struct model *m, enum family family, const struct addr *addr)
{
	struct hash_walk walk;
	struct hash_node *n;

	for (n = hashtab_first(&m->services, &walk); n; n = hashtab_next(&m->services, &walk)) {
		const struct service *s = hash_entry(n, struct service_entry, node)->object;

		if (s && !(s->flags & SERVICE_IGNORED) && s->family[family].has_cluster_ip &&
		    addr_compare(&s->family[family].cluster_ip, addr) == 0)
			return true;
	}
	return false;
}

static bool in_service_cidr(const struct model *m, enum family family, const struct addr *addr)
{
	const struct cidr_entry *e;
	unsigned int i;

	for (e = m->cidrs; e; e = e->next)
		for (i = 0; i < e->object->family[family].count; i++)
			if (prefix_contains(&e->object->family[family].items[i], addr))
				return true;
	return false;
}

/* NP-2, NP-3 */
static bool is_nodeport_ip(const struct model *m, enum family family, const struct addr *addr)
{
	unsigned int i;

	if (m->info.family[family].nodeports_everywhere)
		return is_local(m, family, addr) && !addr_is_loopback(family, addr);
	for (i = 0; i < m->info.family[family].n_nodeport_ips; i++)
		if (addr_compare(&m->info.family[family].nodeport_ips[i], addr) == 0)
			return true;
	return false;
}

int explain_packet(const struct model *m, const struct explain_query *q, struct strbuf *out)
{
	const struct addr *addr = &q->destination;
	const struct service_port_state *port;
	const struct vip *vip = NULL;
	struct ruleset rs;
	enum source source;

	model_ruleset(m, q->family, &rs);
	source = source_of(m, &rs, q);
	strbuf_addf(out, "source   %s\n", source_names[source]);
	if (detects_by_interface(&rs))
		strbuf_adds(out,
			    "note     pods are told by interface here: taken as not from a pod\n");
	port = model_vip_owner(m, q->family, addr, q->protocol, q->port);
	if (!port && is_nodeport_ip(m, q->family, addr)) {
		addr = NULL;
		port = model_vip_owner(m, q->family, NULL, q->protocol, q->port);
	}
	if (port && port->desired)
		vip = find_vip(port->desired, addr, q->port);
	if (vip)
		explain_vip(port, &rs, vip, source, q, out);
	else if (is_cluster_ip(m, q->family, &q->destination))
		strbuf_adds(out, "verdict  refused: no service has this port of the ClusterIP\n");
	else if (in_service_cidr(m, q->family, &q->destination))
		strbuf_adds(out, "verdict  dropped: no service has this address\n");
	else
		strbuf_adds(out, "verdict  passed: not a service's address\n");
	return out->err;
}
