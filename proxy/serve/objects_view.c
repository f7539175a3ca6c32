/*
 * /v1/objects: the objects as they are understood, written as Kubernetes would,
 * so that whoever reads manifests can read them: "vipmap diff", and people with
 * a bundle of "vipmap debug". What does not matter to a proxy was never kept.
 */
#include "proxy/serve/view.h"

#include <errno.h>
#include <string.h>

#include "proxy/base/clock.h"
#include "proxy/base/jsonout.h"

enum { PAGE_BYTES = 1 << 20 };

static void put_object_head(struct strbuf *out, const char *api_version,
			    const char *kind, const char *namespace,
			    const char *name, const char *uid)
{
	jsonout_object(out, NULL);
	jsonout_text(out, "apiVersion", api_version);
	jsonout_text(out, "kind", kind);
	jsonout_object(out, "metadata");
	if (*namespace)
		jsonout_text(out, "namespace", namespace);
	jsonout_text(out, "name", name);
	if (*uid)
		jsonout_text(out, "uid", uid);
}

static void put_addr(struct strbuf *out, const char *key, enum family family,
		     const struct addr *addr)
{
	char text[ADDR_TEXT_SIZE];

	jsonout_text(out, key, addr_format(family, addr, text));
}

static void put_prefix(struct strbuf *out, enum family family,
		       const struct prefix *prefix)
{
	char text[PREFIX_TEXT_SIZE];

	jsonout_text(out, NULL, prefix_format(family, prefix, text));
}

static const char *upper_protocol(uint8_t protocol)
{
	const char *name = protocol_name(protocol);

	return strcmp(name, "tcp") == 0	  ? "TCP"
	       : strcmp(name, "udp") == 0 ? "UDP"
					  : "SCTP";
}

/* The families in which it has a ClusterIP, the first of them first. */
static void put_cluster_ips(const struct service *s, struct strbuf *out)
{
	bool first = true;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		if (s->family[f].has_cluster_ip) {
			if (first)
				put_addr(out, "clusterIP", (enum family)f,
					 &s->family[f].cluster_ip);
			first = false;
		}
	jsonout_array(out, "clusterIPs");
	for (f = 0; f < N_FAMILIES; f++)
		if (s->family[f].has_cluster_ip)
			put_addr(out, NULL, (enum family)f,
				 &s->family[f].cluster_ip);
	jsonout_array_end(out);
	jsonout_array(out, "ipFamilies");
	for (f = 0; f < N_FAMILIES; f++)
		if (s->family[f].has_cluster_ip)
			jsonout_text(out, NULL, family_name((enum family)f));
	jsonout_array_end(out);
}

static void put_service_ports(const struct service *s, struct strbuf *out)
{
	unsigned int i;

	jsonout_array(out, "ports");
	for (i = 0; i < s->n_ports; i++) {
		jsonout_object(out, NULL);
		if (*s->ports[i].name)
			jsonout_text(out, "name", s->ports[i].name);
		jsonout_text(out, "protocol", upper_protocol(s->ports[i].protocol));
		jsonout_integer(out, "port", s->ports[i].port);
		if (s->ports[i].node_port)
			jsonout_integer(out, "nodePort", s->ports[i].node_port);
		jsonout_object_end(out);
	}
	jsonout_array_end(out);
}

static void put_service_lists(const struct service *s, struct strbuf *out)
{
	unsigned int f, i;

	jsonout_array(out, "externalIPs");
	for (f = 0; f < N_FAMILIES; f++)
		for (i = 0; i < service_extra(s, f)->external_ips.count; i++)
			put_addr(out, NULL, (enum family)f,
				 &service_extra(s, f)->external_ips.items[i]);
	jsonout_array_end(out);
	jsonout_array(out, "loadBalancerSourceRanges");
	for (f = 0; f < N_FAMILIES; f++)
		for (i = 0; i < service_extra(s, f)->source_ranges.count; i++)
			put_prefix(out, (enum family)f,
				   &service_extra(s, f)->source_ranges.items[i]);
	jsonout_array_end(out);
}

static void put_spec(const struct service *s, struct strbuf *out)
{
	jsonout_object(out, "spec");
	jsonout_text(out, "type", service_type(s));
	if (s->flags & SERVICE_IGNORED) {
		jsonout_text(out, "clusterIP", "None");
		jsonout_object_end(out);
		return;
	}
	put_cluster_ips(s, out);
	put_service_ports(s, out);
	put_service_lists(s, out);
	jsonout_text(out, "internalTrafficPolicy",
		     s->flags & SERVICE_INTERNAL_LOCAL ? "Local" : "Cluster");
	jsonout_text(out, "externalTrafficPolicy",
		     s->flags & SERVICE_EXTERNAL_LOCAL ? "Local" : "Cluster");
	if (s->health_check_node_port)
		jsonout_integer(out, "healthCheckNodePort",
				s->health_check_node_port);
	if (s->affinity_timeout_s) {
		jsonout_text(out, "sessionAffinity", "ClientIP");
		jsonout_object(out, "sessionAffinityConfig");
		jsonout_object(out, "clientIP");
		jsonout_integer(out, "timeoutSeconds", s->affinity_timeout_s);
		jsonout_object_end(out);
		jsonout_object_end(out);
	}
	jsonout_object_end(out);
}

static void put_ingress(const struct service *s, struct strbuf *out)
{
	unsigned int f, i;

	jsonout_object(out, "status");
	jsonout_object(out, "loadBalancer");
	jsonout_array(out, "ingress");
	for (f = 0; f < N_FAMILIES; f++)
		for (i = 0; i < service_extra(s, f)->load_balancer_ips.count; i++) {
			jsonout_object(out, NULL);
			put_addr(out, "ip", (enum family)f,
				 &service_extra(s, f)->load_balancer_ips.items[i]);
			jsonout_object_end(out);
		}
	jsonout_array_end(out);
	jsonout_object_end(out);
	jsonout_object_end(out);
}

static void put_service_object(const struct service *s, struct strbuf *out)
{
	char time[CLOCK_TEXT_SIZE];

	put_object_head(out, "v1", "Service", s->namespace, s->name, s->uid);
	if (s->created_s != INT64_MAX)
		jsonout_text(out, "creationTimestamp",
			     clock_format(s->created_s * 1000000, time));
	jsonout_object_end(out);
	put_spec(s, out);
	put_ingress(s, out);
	jsonout_object_end(out);
}

static void put_hints(const struct view *v, const struct slice *slice,
		      const struct slice_endpoint *ep, struct strbuf *out)
{
	const char *zone = slice->zones + ep->zones;

	if (!(ep->flags & (ENDPOINT_NODE_HINTS | ENDPOINT_ZONE_HINTS)))
		return;
	jsonout_object(out, "hints");
	if (ep->flags & ENDPOINT_ZONE_HINTS) {
		jsonout_array(out, "forZones");
		for (; *zone; zone += strlen(zone) + 1) {
			jsonout_object(out, NULL);
			jsonout_text(out, "name", zone);
			jsonout_object_end(out);
		}
		jsonout_array_end(out);
	}
	if (ep->flags & ENDPOINT_NODE_HINTS) {
		jsonout_array(out, "forNodes");
		jsonout_object(out, NULL);
		jsonout_text(out, "name",
			     ep->flags & ENDPOINT_NODE_HINTED ? v->node_name
							      : "another-node");
		jsonout_object_end(out);
		jsonout_array_end(out);
	}
	jsonout_object_end(out);
}

static void put_slice_endpoint(const struct view *v, const struct slice *slice,
			       unsigned int i, const struct endpoint_names *names,
			       struct strbuf *out)
{
	const struct slice_endpoint ep = slice_endpoint(slice, i);
	const char *node = ep.flags & ENDPOINT_LOCAL ? v->node_name : names->node;

	jsonout_object(out, NULL);
	jsonout_array(out, "addresses");
	put_addr(out, NULL, slice->family, &ep.addr);
	jsonout_array_end(out);
	jsonout_object(out, "conditions");
	jsonout_bool(out, "ready", ep.flags & ENDPOINT_READY);
	jsonout_bool(out, "serving", ep.flags & ENDPOINT_SERVING);
	jsonout_bool(out, "terminating", ep.flags & ENDPOINT_TERMINATING);
	jsonout_object_end(out);
	if (*node)
		jsonout_text(out, "nodeName", node);
	if (*names->zone)
		jsonout_text(out, "zone", names->zone);
	if (*names->pod) {
		jsonout_object(out, "targetRef");
		jsonout_text(out, "kind", "Pod");
		jsonout_text(out, "namespace", slice->namespace);
		jsonout_text(out, "name", names->pod);
		jsonout_object_end(out);
	}
	put_hints(v, slice, &ep, out);
	jsonout_object_end(out);
}

/* Slices made from Pods have names that no real one can have, and that nobody would read. */
static const char *readable_name(const struct slice *slice, char text[256])
{
	size_t i;

	if (!strchr(slice->name, ':'))
		return slice->name;
	for (i = 0; i < 255 && slice->name[i]; i++)
		text[i] = slice->name[i] == ':'	  ? '.'
			  : slice->name[i] == 'I' ? 'i'
			  : slice->name[i] == 'P' ? 'p'
						  : slice->name[i];
	text[i] = '\0';
	return text;
}

static int put_slice(const struct view *v, const struct slice *slice,
		     struct arena *scratch, struct strbuf *out)
{
	const struct endpoint_names *names = slice_names(slice, scratch);
	char name[256];
	unsigned int i;

	if (!names)
		return -ENOMEM;
	put_object_head(out, "discovery.k8s.io/v1", "EndpointSlice",
			slice->namespace, readable_name(slice, name), "");
	jsonout_object(out, "labels");
	jsonout_text(out, "kubernetes.io/service-name", slice->service);
	jsonout_object_end(out);
	jsonout_object_end(out);
	jsonout_text(out, "addressType", family_name(slice->family));
	jsonout_array(out, "ports");
	for (i = 0; i < slice->n_ports; i++) {
		jsonout_object(out, NULL);
		jsonout_text(out, "name", slice->ports[i].name);
		jsonout_text(out, "protocol",
			     upper_protocol(slice->ports[i].protocol));
		jsonout_integer(out, "port", slice->ports[i].port);
		jsonout_object_end(out);
	}
	jsonout_array_end(out);
	jsonout_array(out, "endpoints");
	for (i = 0; i < slice->n_endpoints; i++)
		put_slice_endpoint(v, slice, i, &names[i], out);
	jsonout_array_end(out);
	jsonout_object_end(out);
	return 0;
}

static void put_taint(struct strbuf *out)
{
	jsonout_array(out, "taints");
	jsonout_object(out, NULL);
	jsonout_text(out, "key", "ToBeDeletedByClusterAutoscaler");
	jsonout_text(out, "effect", "NoSchedule");
	jsonout_object_end(out);
	jsonout_array_end(out);
}

static void put_node(const struct node *node, struct strbuf *out)
{
	unsigned int i, f;

	put_object_head(out, "v1", "Node", "", node->name, node->uid);
	if (*node->zone) {
		jsonout_object(out, "labels");
		jsonout_text(out, "topology.kubernetes.io/zone", node->zone);
		jsonout_object_end(out);
	}
	jsonout_object_end(out);
	jsonout_object(out, "spec");
	jsonout_array(out, "podCIDRs");
	for (f = 0; f < N_FAMILIES; f++)
		for (i = 0; i < node->pod_cidrs[f].count; i++)
			put_prefix(out, (enum family)f,
				   &node->pod_cidrs[f].items[i]);
	jsonout_array_end(out);
	if (node->flags & NODE_TO_BE_DELETED)
		put_taint(out);
	jsonout_object_end(out);
	jsonout_object(out, "status");
	jsonout_array(out, "addresses");
	for (i = 0; i < node->n_addresses; i++) {
		jsonout_object(out, NULL);
		jsonout_text(out, "type", "InternalIP");
		put_addr(out, "address", node->addresses[i].family,
			 &node->addresses[i].addr);
		jsonout_object_end(out);
	}
	jsonout_array_end(out);
	jsonout_object_end(out);
	jsonout_object_end(out);
}

static void put_cidr(const struct service_cidr *cidr, struct strbuf *out)
{
	unsigned int f, i;

	put_object_head(out, "networking.k8s.io/v1", "ServiceCIDR", "",
			cidr->name, "");
	jsonout_object_end(out);
	jsonout_object(out, "spec");
	jsonout_array(out, "cidrs");
	for (f = 0; f < N_FAMILIES; f++)
		for (i = 0; i < cidr->family[f].count; i++)
			put_prefix(out, (enum family)f, &cidr->family[f].items[i]);
	jsonout_array_end(out);
	jsonout_object_end(out);
	jsonout_object_end(out);
}

static int put_entry(const struct view *v, const struct service_entry *s,
		     struct arena *scratch, struct strbuf *out)
{
	const struct slice_entry *e;
	int err = 0;

	put_service_object(s->object, out);
	for (e = s->slices; !err && e; e = e->next) {
		err = put_slice(v, e->object, scratch, out);
		arena_reset(scratch);
	}
	return err;
}

/* The node and the ranges come with the first page, each Service with its slices. */
int view_objects(const struct view *v, const char *query, struct strbuf *out)
{
	struct arena of_list = ARENA_INIT, scratch = ARENA_INIT;
	const struct service_entry *const *list;
	char after[QUERY_TEXT_SIZE];
	const struct cidr_entry *cidr;
	size_t i, n;
	int err;

	query_get(query, "continue", after);
	err = view_entries(v, after, &of_list, &list, &n);
	jsonout_object(out, NULL);
	jsonout_text(out, "apiVersion", "v1");
	jsonout_text(out, "kind", "List");
	jsonout_array(out, "items");
	if (!*after && model_node(v->model))
		put_node(model_node(v->model), out);
	for (cidr = *after ? NULL : model_cidrs(v->model); cidr; cidr = cidr->next)
		put_cidr(cidr->object, out);
	for (i = 0; !err && i < n && out->length < PAGE_BYTES; i++)
		err = put_entry(v, list[i], &scratch, out);
	jsonout_array_end(out);
	if (!err && i < n)
		jsonout_textf(out, "continue", "%s/%s", list[i - 1]->namespace,
			      list[i - 1]->name);
	jsonout_object_end(out);
	arena_free(&scratch);
	arena_free(&of_list);
	return err || out->err ? 500 : 200;
}
