/* Service ports, one item each for both families, and their endpoints. */
#include "proxy/serve/view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/jsonout.h"
#include "proxy/serve/connections.h"

enum {
	PAGE_PORTS = 500,
	PAGE_ENDPOINTS = 5000, /* some 1.5 MB */
};

const char *service_type(const struct service *s)
{
	if (s->flags & SERVICE_EXTERNAL_NAME)
		return "ExternalName";
	if (s->flags & SERVICE_LOAD_BALANCER)
		return "LoadBalancer";
	return s->flags & SERVICE_NODE_PORT ? "NodePort" : "ClusterIP";
}

static void put_addresses(struct strbuf *out, enum family family,
			  const struct addr_list *list)
{
	char text[ADDR_TEXT_SIZE];
	unsigned int i;

	for (i = 0; i < list->count; i++)
		jsonout_text(out, NULL, addr_format(family, &list->items[i], text));
}

static void put_vips(const struct service *s, struct strbuf *out)
{
	char text[ADDR_TEXT_SIZE];
	unsigned int f;

	jsonout_array(out, "clusterIPs");
	for (f = 0; f < N_FAMILIES; f++)
		if (s->family[f].has_cluster_ip)
			jsonout_text(out, NULL,
				     addr_format((enum family)f,
						 &s->family[f].cluster_ip, text));
	jsonout_array_end(out);
	jsonout_array(out, "loadBalancerIPs");
	for (f = 0; f < N_FAMILIES; f++)
		put_addresses(out, (enum family)f,
			      &service_extra(s, f)->load_balancer_ips);
	jsonout_array_end(out);
	jsonout_array(out, "externalIPs");
	for (f = 0; f < N_FAMILIES; f++)
		put_addresses(out, (enum family)f,
			      &service_extra(s, f)->external_ips);
	jsonout_array_end(out);
}

struct endpoint_counts {
	unsigned int total, used, local;
};

static unsigned int larger_of(unsigned int a, unsigned int b)
{
	return a > b ? a : b;
}

static int count_family(const struct view *v, const struct service_entry *s,
			enum family family, const struct service_port *port,
			struct arena *scratch, struct endpoint_counts *counts)
{
	const struct endpoint_fate *fates;
	struct endpoint_counts one = { 0 };
	unsigned int n, i;
	int err = view_fates(v, s, family, port->name, port->protocol, scratch,
			     &fates, &n);

	for (i = 0; !err && i < n; i++) {
		one.used += fates[i].cluster;
		one.local += fates[i].local;
	}
	if (err)
		return err;
	/* a pod with an address of each family is one endpoint to people */
	counts->total = larger_of(counts->total, n);
	counts->used = larger_of(counts->used, one.used);
	counts->local = larger_of(counts->local, one.local);
	return 0;
}

/* The worst of both families. */
static void put_state(const struct view *v, const struct service_entry *s,
		      const struct service_port *port, struct strbuf *out)
{
	enum port_state worst = PORT_OK, state;
	const struct service_port_state *p;
	char text[512] = "", one[512];
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		p = s->object->family[f].has_cluster_ip
			    ? view_find_port(s, (enum family)f, port)
			    : NULL;
		state = p ? view_port_state(v, (enum family)f, p, one, sizeof(one))
			  : PORT_OK;
		if (state > worst) {
			worst = state;
			memcpy(text, one, sizeof(text));
		}
	}
	jsonout_text(out, "state", port_state_name(worst));
	jsonout_text(out, "message", text);
}

/* BEY-5. What cannot be read is left out. */
static void put_connections(const struct view *v, const struct service_entry *s,
			    const struct service_port *port,
			    struct arena *scratch, struct strbuf *out)
{
	const struct service_port_state *p;
	uint64_t total = 0, node_port = 0;
	char text[ADDR_TEXT_SIZE];
	const uint64_t *counts;
	unsigned int f, i;
	bool any = false;

	for (f = 0; f < N_FAMILIES; f++) {
		p = s->object->family[f].has_cluster_ip
			    ? view_find_port(s, (enum family)f, port)
			    : NULL;
		if (!p || connections_of_port(v->sync, (enum family)f, p,
					      scratch, &counts))
			continue;
		if (!any)
			jsonout_object(out, "connectionsByAddress");
		any = true;
		for (i = 0; i < p->applied->n_vips; i++) {
			const struct vip *vip = &p->applied->vips[i];

			total += counts[i];
			if (vip->role == VIP_NODE_PORT)
				node_port += counts[i];
			else
				jsonout_integer(out,
						addr_format((enum family)f,
							    &vip->addr, text),
						(int64_t)counts[i]);
		}
	}
	if (!any)
		return;
	if (port->node_port)
		jsonout_integer(out, CONNECTIONS_NODE_PORT, (int64_t)node_port);
	jsonout_object_end(out);
	jsonout_integer(out, "connections", (int64_t)total);
}

static int put_service_port(const struct view *v, const struct service_entry *s,
			    const struct service_port *port,
			    struct arena *scratch, struct strbuf *out)
{
	const struct service *o = s->object;
	struct endpoint_counts counts = { 0 };
	unsigned int f;
	int err = 0;

	for (f = 0; !err && f < N_FAMILIES; f++)
		if (o->family[f].has_cluster_ip)
			err = count_family(v, s, (enum family)f, port, scratch,
					   &counts);
	if (err)
		return err;
	jsonout_text(out, "port", port->name);
	jsonout_text(out, "protocol", protocol_name(port->protocol));
	jsonout_integer(out, "servicePort", port->port);
	put_vips(o, out);
	if (port->node_port)
		jsonout_integer(out, "nodePort", port->node_port);
	jsonout_object(out, "endpoints");
	jsonout_integer(out, "total", counts.total);
	jsonout_integer(out, "used", counts.used);
	jsonout_integer(out, "local", counts.local);
	jsonout_object_end(out);
	jsonout_text(out, "internalTrafficPolicy",
		     o->flags & SERVICE_INTERNAL_LOCAL ? "Local" : "Cluster");
	jsonout_text(out, "externalTrafficPolicy",
		     o->flags & SERVICE_EXTERNAL_LOCAL ? "Local" : "Cluster");
	if (o->affinity_timeout_s)
		jsonout_integer(out, "affinityTimeoutSeconds",
				o->affinity_timeout_s);
	put_connections(v, s, port, scratch, out);
	put_state(v, s, port, out);
	return 0;
}

static void put_names(const struct service_entry *s, struct strbuf *out)
{
	jsonout_text(out, "namespace", s->namespace);
	jsonout_text(out, "name", s->name);
	jsonout_text(out, "type", service_type(s->object));
}

static void put_ignored(const struct service_entry *s, struct strbuf *out)
{
	const bool dns =
		s->object->flags & (SERVICE_EXTERNAL_NAME | SERVICE_IGNORED);

	jsonout_object(out, NULL);
	put_names(s, out);
	jsonout_text(out, "state", dns ? "ignored" : "ok");
	jsonout_text(out, "message",
		     !dns ? "no ports"
		     : s->object->flags & SERVICE_EXTERNAL_NAME
			     ? "a name in DNS, nothing for a proxy"
			     : "headless: addresses in DNS, nothing for a proxy");
	jsonout_object_end(out);
}

/* What a list is asked for. */
struct selection_query {
	char namespace[QUERY_TEXT_SIZE], name[QUERY_TEXT_SIZE],
		port[QUERY_TEXT_SIZE];
	char after[QUERY_TEXT_SIZE]; /* NAMESPACE/NAME */
};

static void read_query(const char *query, struct selection_query *q)
{
	query_get(query, "namespace", q->namespace);
	query_get(query, "name", q->name);
	query_get(query, "port", q->port);
	query_get(query, "continue", q->after);
}

static bool is_asked_for(const struct selection_query *q,
			 const struct service_entry *s)
{
	return (!*q->namespace || strcmp(s->namespace, q->namespace) == 0) &&
	       (!*q->name || strcmp(s->name, q->name) == 0);
}

static bool port_is_asked_for(const struct selection_query *q,
			      const struct service_port *p)
{
	char number[8];

	snprintf(number, sizeof(number), "%u", p->port);
	return !*q->port || strcmp(p->name, q->port) == 0 ||
	       strcmp(number, q->port) == 0;
}

static int put_service(const struct view *v, const struct selection_query *q,
		       const struct service_entry *s, struct arena *scratch,
		       unsigned int *n, struct strbuf *out)
{
	unsigned int i;
	int err = 0;

	if (!s->object->n_ports && !*q->port) {
		put_ignored(s, out);
		++*n;
	}
	for (i = 0; !err && i < s->object->n_ports; i++) {
		if (!port_is_asked_for(q, &s->object->ports[i]))
			continue;
		jsonout_object(out, NULL);
		put_names(s, out);
		err = put_service_port(v, s, &s->object->ports[i], scratch, out);
		jsonout_object_end(out);
		++*n;
	}
	return err;
}

static void put_port_endpoint(const struct service_entry *s,
			      const struct service_port *port, enum family family,
			      const struct endpoint_fate *fate,
			      const uint64_t *connections,
			      struct name_cache *cache, struct strbuf *out)
{
	const struct endpoint_names *names = fate_names(cache, fate);
	char text[ENDPOINT_TEXT_SIZE];

	jsonout_object(out, NULL);
	jsonout_text(out, "namespace", s->namespace);
	jsonout_text(out, "service", s->name);
	jsonout_text(out, "port", port->name);
	jsonout_text(out, "protocol", protocol_name(port->protocol));
	jsonout_text(out, "address",
		     endpoint_format(family, &fate->endpoint.addr,
				     fate->endpoint.port, text));
	if (*names->pod)
		jsonout_text(out, "pod", names->pod);
	if (*names->node)
		jsonout_text(out, "nodeName", names->node);
	if (*names->zone)
		jsonout_text(out, "zone", names->zone);
	jsonout_bool(out, "ready", fate->flags & ENDPOINT_READY);
	jsonout_bool(out, "serving", fate->flags & ENDPOINT_SERVING);
	jsonout_bool(out, "terminating", fate->flags & ENDPOINT_TERMINATING);
	jsonout_bool(out, "onThisNode", fate->endpoint.local);
	jsonout_bool(out, "used", fate->cluster);
	jsonout_bool(out, "usedLocally", fate->local);
	jsonout_text(out, "reason", why_text(fate->why));
	if (connections)
		jsonout_integer(out, "connections", (int64_t)*connections);
	jsonout_object_end(out);
}

static int put_endpoints_of(const struct view *v, const struct service_entry *s,
			    const struct service_port *port, enum family family,
			    struct name_cache *cache, unsigned int *n,
			    struct strbuf *out)
{
	const struct service_port_state *p = view_find_port(s, family, port);
	const struct endpoint_connections *list;
	const struct endpoint_fate *fates;
	unsigned int i, count;
	size_t n_list;
	uint64_t connections;
	bool counted;
	int err = view_fates(v, s, family, port->name, port->protocol,
			     cache->scratch, &fates, &count);

	if (err)
		return err;
	counted = p && connections_of_endpoints(v->sync, family, p, cache->scratch,
						&list, &n_list) == 0;
	for (i = 0; i < count; i++) {
		if (counted)
			connections = connections_find(list, n_list,
						       &fates[i].endpoint);
		put_port_endpoint(s, port, family, &fates[i],
				  counted ? &connections : NULL, cache, out);
	}
	*n += count;
	return 0;
}

static int put_endpoints(const struct view *v, const struct selection_query *q,
			 const struct service_entry *s, struct arena *scratch,
			 unsigned int *n, struct strbuf *out)
{
	struct name_cache cache = { .scratch = scratch };
	unsigned int i, f;
	int err = 0;

	for (i = 0; i < s->object->n_ports; i++) {
		const struct service_port *port = &s->object->ports[i];

		if (!port_is_asked_for(q, port))
			continue;
		for (f = 0; !err && f < N_FAMILIES; f++)
			if (s->object->family[f].has_cluster_ip)
				err = put_endpoints_of(v, s, port, (enum family)f,
						       &cache, n, out);
	}
	return err;
}

typedef int put_function(const struct view *v, const struct selection_query *q,
			 const struct service_entry *s, struct arena *scratch,
			 unsigned int *n, struct strbuf *out);

/* A Service is never divided among pages. */
static int put_page(const struct view *v, const char *query, put_function *put,
		    unsigned int page_items, struct strbuf *out)
{
	const struct service_entry *const *list, *last = NULL;
	struct arena of_list = ARENA_INIT, scratch = ARENA_INIT;
	struct selection_query q;
	unsigned int n = 0;
	size_t count, i;
	int err;

	read_query(query, &q);
	err = view_entries(v, q.after, &of_list, &list, &count);
	jsonout_object(out, NULL);
	jsonout_array(out, "items");
	for (i = 0; !err && i < count && n < page_items; i++) {
		last = list[i];
		if (is_asked_for(&q, last))
			err = put(v, &q, last, &scratch, &n, out);
		arena_reset(&scratch);
	}
	jsonout_array_end(out);
	if (!err && i < count)
		jsonout_textf(out, "continue", "%s/%s", last->namespace,
			      last->name);
	jsonout_object_end(out);
	arena_free(&scratch);
	arena_free(&of_list);
	return err || out->err ? 500 : 200;
}

int view_services(const struct view *v, const char *query, struct strbuf *out)
{
	return put_page(v, query, put_service, PAGE_PORTS, out);
}

int view_endpoints(const struct view *v, const char *query, struct strbuf *out)
{
	return put_page(v, query, put_endpoints, PAGE_ENDPOINTS, out);
}
