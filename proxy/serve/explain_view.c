/*
 * /v1/explain: what becomes of a packet, each endpoint with the reason why it
 * may or may not be drawn, and whether the kernel has what we believe. Words
 * for sources and destinations are understood here, since only here it is known
 * who is called what.
 */
#include "proxy/serve/view.h"

#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nft/lookup.h"
#include "proxy/base/jsonout.h"
#include "proxy/base/nearest.h"
#include "proxy/model/explain.h"

enum {
	LOOKUPS_MAX = 2000, /* elements that are asked for; each takes some 10 us */
	ENDPOINTS_SHOWN = 1000, /* of one service port */
};

/* A question as it was asked. */
struct asked {
	char source[QUERY_TEXT_SIZE], destination[QUERY_TEXT_SIZE];
	char protocol[QUERY_TEXT_SIZE], port[QUERY_TEXT_SIZE];
	/* understood */
	bool has_source;
	enum family source_family;
	struct addr source_addr;
};

struct explaining {
	const struct view *v;
	struct asked asked;
	struct arena scratch;
	struct strbuf *out;
	struct errbuf error; /* for the asker */
	struct nlsock *nl;   /* NULL: nothing of the kernel */
	unsigned int lookups;
};

/* Words */

static uint8_t protocol_word(const char *text)
{
	char upper[8];
	size_t i;

	for (i = 0; i < sizeof(upper) - 1 && text[i]; i++)
		upper[i] = (char)toupper((unsigned char)text[i]);
	upper[i] = '\0';
	return text[i] ? 0 : protocol_parse(upper);
}

/* An echo request: "icmp" for both families. */
static bool is_ping_word(const char *text)
{
	return strcasecmp(text, "icmp") == 0 || strcasecmp(text, "icmpv6") == 0;
}

/* Takes "/PROTOCOL" off the end of @word, but not the name of a Service called "udp". */
static void cut_protocol(struct asked *a)
{
	char *slash = strrchr(a->destination, '/');

	if (!slash || slash == a->destination || !protocol_word(slash + 1))
		return;
	if (!strchr(a->destination, ':') && strchr(a->destination, '/') == slash)
		return;
	if (!*a->protocol)
		snprintf(a->protocol, sizeof(a->protocol), "%s", slash + 1);
	*slash = '\0';
}

/* "ADDRESS", "ADDRESS:PORT", "[ADDRESS]:PORT"; the port is cut off. Returns false for a name. */
static bool address_word(struct asked *a, enum family *family, struct addr *addr)
{
	char host[QUERY_TEXT_SIZE];
	const char *port;

	if (addr_parse(a->destination, family, addr) == 0)
		return true;
	if (host_port_split(a->destination, host, sizeof(host), &port) ||
	    addr_parse(host, family, addr))
		return false;
	if (port && !*a->port)
		snprintf(a->port, sizeof(a->port), "%s", port);
	return true;
}

/* The Service named "[NAMESPACE/]NAME[:PORT]"; the port is cut off. NULL with the error. */
static const struct service_entry *service_word(struct explaining *x)
{
	const struct service_entry *const *list, *found = NULL;
	char whole[600], *colon, *slash;
	struct asked *a = &x->asked;
	struct nearest near;
	size_t i, n;

	slash = strchr(a->destination, '/');
	colon = strchr(slash ? slash : a->destination, ':');
	if (colon) {
		if (!*a->port)
			snprintf(a->port, sizeof(a->port), "%s", colon + 1);
		*colon = '\0';
	}
	if (view_entries(x->v, "", &x->scratch, &list, &n)) {
		errf(&x->error, 0, "out of memory");
		return NULL;
	}
	nearest_begin(&near, a->destination);
	for (i = 0; i < n; i++) {
		snprintf(whole, sizeof(whole), "%s/%s", list[i]->namespace,
			 list[i]->name);
		if (strcmp(slash ? whole : list[i]->name, a->destination) == 0) {
			if (found)
				errf(&x->error, 0,
				     "%s: there are several: %s/%s, %s",
				     a->destination, found->namespace,
				     found->name, whole);
			found = list[i];
		}
	}
	if (found && *x->error.text)
		return NULL;
	if (found)
		return found;
	for (i = 0; i < n; i++) {
		char *copy;

		snprintf(whole, sizeof(whole), "%s/%s", list[i]->namespace,
			 list[i]->name);
		copy = arena_strdup(&x->scratch, slash ? whole : list[i]->name);
		if (copy)
			nearest_try(&near, copy);
	}
	errf(&x->error, 0,
	     near.best ? "there is no Service %s; did you mean %s?"
		       : "there is no Service %s, and it is no address",
	     a->destination, near.best);
	return NULL;
}

struct pod_search {
	const char *namespace, *name;
	enum family family;
	bool found;
	struct addr addr;
	struct nearest near;
};

static void search_slice(struct pod_search *s, const struct slice *slice,
			 struct arena *scratch)
{
	const struct endpoint_names *names;
	unsigned int i;

	if (strcmp(slice->namespace, s->namespace) || !slice->names_size)
		return;
	names = slice_names(slice, scratch);
	for (i = 0; names && i < slice->n_endpoints; i++) {
		if (strcmp(names[i].pod, s->name) == 0) {
			if (s->found && slice->family != FAMILY_IPV4)
				continue;
			s->found = true;
			s->family = slice->family;
			s->addr = slice_endpoint(slice, i).addr;
		} else if (*names[i].pod && !s->found) {
			nearest_try(&s->near, names[i].pod);
		}
	}
}

/* "NAMESPACE/POD": an endpoint of some Service. Others are not known here. */
static bool pod_word(struct explaining *x)
{
	struct asked *a = &x->asked;
	char namespace[QUERY_TEXT_SIZE];
	const char *slash = strchr(a->source, '/');
	struct pod_search s = { .namespace = namespace,
				.name = slash ? slash + 1 : "" };
	struct slice_entry *e;

	if (!slash) {
		errf(&x->error, 0,
		     "source \"%s\" is neither an IP address nor NAMESPACE/POD",
		     a->source);
		return false;
	}
	snprintf(namespace, sizeof(namespace), "%.*s", (int)(slash - a->source),
		 a->source);
	nearest_begin(&s.near, s.name);
	for_each_slice_entry (e, x->v->model)
		search_slice(&s, e->object, &x->scratch);
	if (!s.found) {
		errf(&x->error, 0,
		     s.near.best ? "no endpoint is Pod %s; did you mean %s/%s? Otherwise give its "
				   "address"
				 : "no endpoint is Pod %s: give its address",
		     a->source, namespace, s.near.best);
		return false;
	}
	a->has_source = true;
	a->source_family = s.family;
	a->source_addr = s.addr;
	return true;
}

static bool source_word(struct explaining *x)
{
	struct asked *a = &x->asked;

	if (!*a->source)
		return true;
	if (addr_parse(a->source, &a->source_family, &a->source_addr))
		return pod_word(x);
	a->has_source = true;
	return true;
}

/* The kernel */

static bool key_is_of(const struct element *el, const struct explain_query *q,
		      const struct vip *vip)
{
	if (!set_has_verdict(el->set) && !set_has_endpoint(el->set))
		return false;
	if (set_is_nodeport(el->set) != (vip->role == VIP_NODE_PORT) ||
	    el->port != vip->port || el->protocol != q->protocol)
		return false;
	return vip->role == VIP_NODE_PORT ||
	       addr_compare(&el->addr, &vip->addr) == 0;
}

/* Appends " -> CHAIN" for the verdict of @set, and returns its kind, VERDICT_NONE if there is none.
 */
static enum verdict_kind follow_packet(struct explaining *x,
				       const struct explain_query *q,
				       const struct vip *vip, enum set_id set,
				       struct strbuf *path)
{
	const struct element key = {
		.set = set,
		.addr = vip->addr,
		.protocol = q->protocol,
		.port = vip->port,
	};
	struct lookup found;
	struct errbuf eb;

	strbuf_addf(path, "%s%s", path->length ? " -> " : "", set_name(set));
	if (lookup_element(x->nl, q->family, &key, &found, &eb)) {
		strbuf_adds(path, " (nothing)");
		return VERDICT_NONE;
	}
	strbuf_addf(path, " -> %s",
		    *found.chain				 ? found.chain
		    : found.element.verdict.kind == VERDICT_PASS ? "accept"
								 : "drop");
	return (enum verdict_kind)found.element.verdict.kind;
}

static void follow_all(struct explaining *x, const struct explain_query *q,
		       const struct explanation *e, struct strbuf *path)
{
	const bool nodeport = e->vip->role == VIP_NODE_PORT;
	enum verdict_kind kind = follow_packet(
		x, q, e->vip,
		nodeport ? MAP_SERVICE_NODEPORTS : MAP_SERVICE_IPS, path);

	if (kind == VERDICT_FIREWALL && e->verdict != EXPLAIN_NOT_IN_RANGES)
		kind = follow_packet(x, q, e->vip, MAP_FIREWALLED, path);
	if (kind != VERDICT_EXTERNAL_LOCAL)
		return;
	if (e->source == EXPLAIN_OUTSIDE)
		follow_packet(x, q, e->vip,
			      nodeport ? MAP_NODEPORT_LOCAL_POLICY : MAP_LOCAL_POLICY,
			      path);
	else
		follow_packet(x, q, e->vip,
			      nodeport ? MAP_NODEPORT_CLUSTER_POLICY
				       : MAP_CLUSTER_POLICY,
			      path);
}

/* Compares what we believe with what is there. Returns the number of differences. */
static unsigned int element_order(struct explaining *x,
				  const struct explain_query *q,
				  const struct explanation *e, char *first,
				  size_t size)
{
	const struct element *list;
	unsigned int differ = 0;
	struct lookup found;
	struct errbuf eb;
	size_t i, n;
	int err;

	if (dispatch_elements(e->port->desired, q->family, &x->scratch, &list, &n))
		return 0;
	for (i = 0; i < n && x->lookups < LOOKUPS_MAX; i++) {
		struct element wanted = list[i];

		if (!key_is_of(&wanted, q, e->vip))
			continue;
		x->lookups++;
		err = lookup_element(x->nl, q->family, &wanted, &found, &eb);
		wanted.comment = NULL;
		if (!err && element_data_equal(&wanted, &found.element))
			continue;
		if (!differ++)
			snprintf(first, size, "%s of %s",
				 err ? "nothing in the kernel for an element"
				     : "another value in the kernel in an element",
				 set_name(wanted.set));
	}
	return differ;
}

static void put_remembered(struct explaining *x, const struct explain_query *q,
			   const struct explanation *e)
{
	const struct dispatch *p = e->port->desired;
	char text[ENDPOINT_TEXT_SIZE];
	const char *map;
	struct addr endpoint;
	int64_t expires_ms;
	struct errbuf eb;
	uint16_t port;

	if (!p->affinity_timeout_s || q->any_pod || e->verdict != EXPLAIN_DNAT)
		return;
	map = affinity_map_name(p->sticky, e->local, &x->scratch);
	if (!map || lookup_client(x->nl, q->family, map, &q->source, &endpoint,
				  &port, &expires_ms, &eb))
		return;
	jsonout_text(x->out, "rememberedFor",
		     endpoint_format(q->family, &endpoint, port, text));
	jsonout_integer(x->out, "rememberedSeconds", expires_ms / 1000);
}

static void put_kernel(struct explaining *x, const struct explain_query *q,
		       const struct explanation *e)
{
	struct strbuf path = STRBUF_INIT;
	char first[200] = "";
	unsigned int differ;

	if (!x->nl || !e->vip)
		return;
	jsonout_object(x->out, "kernel");
	follow_all(x, q, e, &path);
	differ = element_order(x, q, e, first, sizeof(first));
	jsonout_bool(x->out, "agrees", !differ);
	jsonout_integer(x->out, "differences", differ);
	jsonout_text(x->out, "message", first);
	jsonout_text(x->out, "path", path.text ? path.text : "");
	put_remembered(x, q, e);
	jsonout_object_end(x->out);
	strbuf_free(&path);
}

/* BEY-4: whether the kernel has the address among those that answer. */
static void put_ping_kernel(struct explaining *x, const struct explain_query *q,
			    const struct explanation *e)
{
	const struct element key = { .set = SET_PING_IPS, .addr = q->destination };
	const bool wanted = e->verdict == EXPLAIN_ANSWERED;
	struct lookup found;
	struct errbuf eb;
	bool there;

	if (!x->nl || !model_config(x->v->model)->vipmap.answer_ping)
		return;
	there = lookup_element(x->nl, q->family, &key, &found, &eb) == 0;
	jsonout_object(x->out, "kernel");
	jsonout_bool(x->out, "agrees", there == wanted);
	jsonout_integer(x->out, "differences", there != wanted);
	jsonout_text(x->out, "message",
		     there == wanted ? ""
		     : there ? "an element in the kernel that is not wanted, of ping-ips"
			     : "nothing in the kernel for an element of ping-ips");
	jsonout_textf(x->out, "path", "%s%s", set_name(SET_PING_IPS),
		      there ? "" : " (nothing)");
	jsonout_object_end(x->out);
}

/* The answer */

static const char *const source_kinds[] = {
	[EXPLAIN_POD] = "pod",
	[EXPLAIN_HOST] = "host",
	[EXPLAIN_OUTSIDE] = "outside",
};

static const char *const roles[] = {
	[VIP_CLUSTER_IP] = "ClusterIP",
	[VIP_LOAD_BALANCER] = "load balancer address",
	[VIP_EXTERNAL_IP] = "external IP",
	[VIP_NODE_PORT] = "node port",
};

static const char *verdict_word(enum explain_verdict verdict)
{
	switch (verdict) {
	case EXPLAIN_DNAT:
		return "DNAT";
	case EXPLAIN_NO_ENDPOINTS:
	case EXPLAIN_NO_PORT:
	case EXPLAIN_NO_PING:
		return "refused";
	case EXPLAIN_ANSWERED:
		return "answered";
	case EXPLAIN_PASSED:
	case EXPLAIN_NOT_OURS:
		return "passed";
	case EXPLAIN_NOT_IN_RANGES:
	case EXPLAIN_NO_LOCAL:
	case EXPLAIN_NO_SERVICE:
		break;
	}
	return "dropped";
}

static const char *const reasons[] = {
	[EXPLAIN_DNAT] = "",
	[EXPLAIN_NOT_IN_RANGES] = "not in loadBalancerSourceRanges",
	[EXPLAIN_NO_ENDPOINTS] = "no endpoints",
	[EXPLAIN_PASSED] = "no endpoints, and noEndpoints is Pass for the Service",
	[EXPLAIN_NO_LOCAL] = "no endpoints on this node",
	[EXPLAIN_NO_PORT] = "no service has this port of the ClusterIP",
	[EXPLAIN_NO_SERVICE] = "no service has this address",
	[EXPLAIN_NOT_OURS] = "not a service's address",
	[EXPLAIN_ANSWERED] = "by this node, from that address; answerPing is on",
	[EXPLAIN_NO_PING] =
		("a ClusterIP answers no ping, unless answerPing is on and the service "
		 "has endpoints"),
};

/* The Pod that has the address, if it is an endpoint of something. */
static void put_source_name(struct explaining *x, const struct explain_query *q)
{
	const struct endpoint_names *names;
	const struct slice_entry *e;
	struct addr addr;
	unsigned int i;

	for_each_slice_entry (e, x->v->model) {
		for (i = 0;
		     e->object->family == q->family && i < e->object->n_endpoints;
		     i++) {
			addr = slice_endpoint(e->object, i).addr;
			if (addr_compare(&addr, &q->source))
				continue;
			names = slice_names(e->object, &x->scratch);
			if (!names || !*names[i].pod)
				continue;
			jsonout_textf(x->out, "sourcePod", "%s/%s",
				      e->object->namespace, names[i].pod);
			if (*names[i].node) {
				jsonout_text(x->out, "sourceNode", names[i].node);
				jsonout_bool(x->out, "sourceOnThisNode",
					     strcmp(names[i].node,
						    x->v->node_name) == 0);
			}
			return;
		}
	}
}

static void put_packet(struct explaining *x, const struct explain_query *q,
		       const struct explanation *e)
{
	char text[ADDR_TEXT_SIZE];

	if (!q->any_pod)
		jsonout_text(x->out, "source",
			     addr_format(q->family, &q->source, text));
	jsonout_text(x->out, "sourceKind", source_kinds[e->source]);
	if (!q->any_pod)
		put_source_name(x, q);
	jsonout_text(x->out, "destination",
		     addr_format(q->family, &q->destination, text));
	if (q->protocol != IPPROTO_ICMP)
		jsonout_integer(x->out, "port", q->port);
	jsonout_text(x->out, "protocol",
		     q->protocol != IPPROTO_ICMP ? protocol_name(q->protocol)
		     : q->family == FAMILY_IPV4	 ? "icmp"
						 : "icmpv6");
	if (e->by_interface)
		jsonout_text(x->out, "note",
			     "pods are told by their interface here: this one is taken as not from a "
			     "pod");
}

/* How pods are told from others, for people: "clusterCIDR 10.244.0.0/16". */
static void describe_pods(const struct ruleset *rs, char *text, size_t size)
{
	char range[PREFIX_TEXT_SIZE];

	switch (rs->detect_local) {
	case DETECT_CLUSTER_CIDR:
		snprintf(text, size, "clusterCIDR %s",
			 prefix_format(rs->family, &rs->pod_cidr, range));
		break;
	case DETECT_NODE_CIDR:
		snprintf(text, size, "the Node's range %s",
			 prefix_format(rs->family, &rs->pod_cidr, range));
		break;
	case DETECT_BRIDGE_INTERFACE:
	case DETECT_INTERFACE_NAME_PREFIX:
		snprintf(text, size, "interface %s%s", rs->interface,
			 rs->detect_local == DETECT_BRIDGE_INTERFACE ? "" : "*");
		break;
	}
}

static void put_source_reason(struct explaining *x, const struct explain_query *q,
			      const struct explanation *e)
{
	struct ruleset rs;
	char pods[96];

	model_ruleset(x->v->model, q->family, &rs);
	switch (e->source_reason) {
	case SOURCE_FROM_POD:
	case SOURCE_NOT_FROM_POD:
		describe_pods(&rs, pods, sizeof(pods));
		jsonout_textf(x->out, "sourceReason", "%sfrom a pod: %s",
			      e->masqueraded ? "not " : "", pods);
		break;
	case SOURCE_PODS_UNKNOWN:
		jsonout_text(x->out, "sourceReason",
			     "pods are not told from others here");
		break;
	case SOURCE_MASQUERADE_ALL:
		jsonout_text(x->out, "sourceReason", "masqueradeAll");
		break;
	case SOURCE_POLICY_CLUSTER:
		jsonout_text(x->out, "sourceReason",
			     "externalTrafficPolicy Cluster");
		break;
	case SOURCE_POLICY_LOCAL:
		jsonout_text(x->out, "sourceReason", "externalTrafficPolicy Local");
		break;
	case SOURCE_FROM_HOST:
		jsonout_text(x->out, "sourceReason", "from this node");
		break;
	}
}

/* Another address of the service port, that it does not have. */
static void put_lost_claim(struct explaining *x, const struct explain_query *q,
			   const struct service_port_state *port)
{
	char text[600];

	if (view_port_state(x->v, q->family, port, text, sizeof(text)) ==
	    PORT_CONFLICT)
		jsonout_text(x->out, "conflict", text);
}

static double share_of(const struct endpoint_list *list, const struct endpoint *ep)
{
	unsigned int i;

	for (i = 0; i < list->count; i++)
		if (endpoint_list_has_at(list, i, ep))
			return 100.0 / list->count;
	return 0;
}

static const char *fate_reason(const struct explanation *e,
			       const struct endpoint_fate *fate)
{
	if (e->local && !fate->endpoint.local)
		return "not on this node, and the policy is Local";
	if (e->local && fate->local && !(fate->flags & ENDPOINT_READY))
		return "terminating, but none on this node is ready";
	if (e->local && fate->local)
		return "ready";
	return why_text(fate->why);
}

/* In the order of the fates, which is that of addresses; the lists may have another one. */
static void put_fates(struct explaining *x, const struct explain_query *q,
		      const struct explanation *e)
{
	const struct dispatch *p = e->port->desired;
	const struct endpoint_list *list = dispatch_list(p, e->local);
	struct name_cache cache = { .scratch = &x->scratch };
	const struct endpoint_fate *fates;
	char text[ENDPOINT_TEXT_SIZE];
	unsigned int i, n;

	if (view_fates(x->v, e->port->service, q->family, e->port->name,
		       e->port->protocol, &x->scratch, &fates, &n))
		n = 0;
	jsonout_integer(x->out, "endpointsTotal", n);
	jsonout_array(x->out, "endpoints");
	for (i = 0; i < n && i < ENDPOINTS_SHOWN; i++) {
		const struct endpoint_names *names = fate_names(&cache, &fates[i]);
		const double share = e->verdict == EXPLAIN_DNAT
					     ? share_of(list, &fates[i].endpoint)
					     : 0;

		jsonout_object(x->out, NULL);
		jsonout_text(x->out, "address",
			     endpoint_format(q->family, &fates[i].endpoint.addr,
					     fates[i].endpoint.port, text));
		if (*names->pod)
			jsonout_text(x->out, "pod", names->pod);
		if (*names->node)
			jsonout_text(x->out, "nodeName", names->node);
		if (*names->zone)
			jsonout_text(x->out, "zone", names->zone);
		jsonout_bool(x->out, "onThisNode", fates[i].endpoint.local);
		jsonout_real(x->out, "sharePercent", share);
		jsonout_text(x->out, "reason", fate_reason(e, &fates[i]));
		if (share > 0 &&
		    explain_keeps_source(x->v->model, q, e, &fates[i].endpoint))
			jsonout_text(x->out, "sourceKept", "noMasqueradeCIDRs");
		jsonout_object_end(x->out);
	}
	jsonout_array_end(x->out);
}

/* BEY-3: of the list that applies. */
static unsigned int count_kept(struct explaining *x, const struct explain_query *q,
			       const struct explanation *e)
{
	const struct endpoint_list *list =
		dispatch_list(e->port->desired, e->local);
	struct endpoint ep;
	unsigned int i, n = 0;

	for (i = 0; i < list->count; i++) {
		ep = endpoint_list_at(list, i);
		n += explain_keeps_source(x->v->model, q, e, &ep);
	}
	return n;
}

static void put_asked_service(struct explaining *x, const struct explain_query *q,
			      const struct explanation *e)
{
	const struct dispatch *p = e->port->desired;
	const bool cluster_ip = e->vip->role == VIP_CLUSTER_IP;
	const bool is_local = p->flags & (cluster_ip ? DISPATCH_INTERNAL_LOCAL
						     : DISPATCH_EXTERNAL_LOCAL);

	jsonout_text(x->out, "service", e->port->label);
	jsonout_text(x->out, "role", roles[e->vip->role]);
	jsonout_textf(x->out, "policy", "%s %s",
		      cluster_ip ? "internalTrafficPolicy" : "externalTrafficPolicy",
		      is_local ? "Local" : "Cluster");
	if (p->affinity_timeout_s)
		jsonout_integer(x->out, "affinityTimeoutSeconds",
				p->affinity_timeout_s);
	put_lost_claim(x, q, e->port);
	if (e->verdict == EXPLAIN_DNAT) {
		const unsigned int choices = dispatch_list(p, e->local)->count;
		const unsigned int kept = count_kept(x, q, e);

		jsonout_integer(x->out, "choices", choices);
		jsonout_bool(x->out, "masqueraded",
			     e->masqueraded && kept < choices);
		put_source_reason(x, q, e);
		if (kept)
			jsonout_integer(x->out, "choicesThatSeeTheSource", kept);
		jsonout_text(x->out, "list", e->local ? "local" : "cluster");
	}
	put_fates(x, q, e);
}

static void put_explanation(struct explaining *x, const struct explain_query *q)
{
	struct explanation e;

	explain_packet(x->v->model, q, &e);
	jsonout_object(x->out, NULL);
	put_packet(x, q, &e);
	jsonout_text(x->out, "verdict", verdict_word(e.verdict));
	jsonout_text(x->out, "reason", reasons[e.verdict]);
	if (e.vip)
		put_asked_service(x, q, &e);
	else if (e.port)
		jsonout_text(x->out, "service", e.port->label);
	if (q->protocol == IPPROTO_ICMP)
		put_ping_kernel(x, q, &e);
	else
		put_kernel(x, q, &e);
	jsonout_object_end(x->out);
}

static struct explain_query make_query(const struct asked *a, enum family family)
{
	return (struct explain_query){
		.family = family,
		.any_pod = !a->has_source,
		.source = a->source_addr,
	};
}

static int explain_echo(struct explaining *x, struct explain_query *q)
{
	if (*x->asked.port) {
		errf(&x->error, 0, "%s has no ports: say SOURCE %s DESTINATION",
		     x->asked.protocol, x->asked.protocol);
		return 400;
	}
	if (strcasecmp(x->asked.protocol, "icmpv6") == 0 &&
	    q->family == FAMILY_IPV4) {
		errf(&x->error, 0, "icmpv6 is not of the destination's family");
		return 400;
	}
	q->protocol = IPPROTO_ICMP;
	put_explanation(x, q);
	return 200;
}

static int explain_address(struct explaining *x, enum family family,
			   const struct addr *addr)
{
	struct explain_query q = make_query(&x->asked, family);

	q.destination = *addr;
	if (x->asked.has_source && x->asked.source_family != family) {
		errf(&x->error, 0, "source and destination are not of one family");
		return 400;
	}
	if (is_ping_word(x->asked.protocol))
		return explain_echo(x, &q);
	if (!*x->asked.port) {
		errf(&x->error, 0, "%s: which port? Say ADDRESS:PORT[/PROTOCOL]",
		     x->asked.destination);
		return 400;
	}
	if (port_parse(x->asked.port, &q.port)) {
		errf(&x->error, 0, "port \"%s\" is not between 1 and 65535",
		     x->asked.port);
		return 400;
	}
	q.protocol = *x->asked.protocol ? protocol_word(x->asked.protocol)
					: IPPROTO_TCP;
	if (!q.protocol) {
		errf(&x->error, 0, "protocol \"%s\" is not tcp, udp or sctp",
		     x->asked.protocol);
		return 400;
	}
	/* not said: the one that there is */
	if (!*x->asked.protocol &&
	    !model_vip_owner(x->v->model, family, addr, IPPROTO_TCP, q.port) &&
	    model_vip_owner(x->v->model, family, addr, IPPROTO_UDP, q.port))
		q.protocol = IPPROTO_UDP;
	put_explanation(x, &q);
	return 200;
}

static bool port_is_meant(const struct asked *a, const struct service_port *p)
{
	char number[8];

	snprintf(number, sizeof(number), "%u", p->port);
	if (*a->protocol && protocol_word(a->protocol) != p->protocol)
		return false;
	return !*a->port || strcmp(p->name, a->port) == 0 ||
	       strcmp(number, a->port) == 0;
}

static void put_asked_ports(const struct service *s, struct strbuf *text)
{
	unsigned int i;

	for (i = 0; i < s->n_ports; i++)
		strbuf_addf(text, "%s%s%s%u/%s%s", i ? ", " : "",
			    s->ports[i].name, *s->ports[i].name ? " (" : "",
			    s->ports[i].port, protocol_name(s->ports[i].protocol),
			    *s->ports[i].name ? ")" : "");
}

static int wrong_port(struct explaining *x, const struct service *s)
{
	struct strbuf ports = STRBUF_INIT;

	put_asked_ports(s, &ports);
	errf(&x->error, 0, "Service %s/%s has no port %s%s%s; its ports: %.300s",
	     s->namespace, s->name, x->asked.port, *x->asked.protocol ? "/" : "",
	     x->asked.protocol, ports.text ? ports.text : "none");
	strbuf_free(&ports);
	return 400;
}

static int explain_service(struct explaining *x, const struct service_entry *s)
{
	enum family family = x->asked.has_source
				     ? x->asked.source_family
				     : model_node_info(x->v->model)->primary_family;
	struct explain_query q;
	unsigned int i, n = 0;

	if (s->object->flags & SERVICE_IGNORED) {
		errf(&x->error, 0, "Service %s/%s is %s: nothing for a proxy",
		     s->namespace, s->name,
		     s->object->flags & SERVICE_EXTERNAL_NAME
			     ? "a name in DNS (ExternalName)"
			     : "headless, addresses in DNS");
		return 400;
	}
	if (!x->asked.has_source && !s->object->family[family].has_cluster_ip)
		family = family == FAMILY_IPV4 ? FAMILY_IPV6 : FAMILY_IPV4;
	if (!s->object->family[family].has_cluster_ip) {
		errf(&x->error, 0, "Service %s/%s has no %s address",
		     s->namespace, s->name, family_name(family));
		return 400;
	}
	q = make_query(&x->asked, family);
	q.destination = s->object->family[family].cluster_ip;
	for (i = 0; i < s->object->n_ports; i++) {
		if (!port_is_meant(&x->asked, &s->object->ports[i]))
			continue;
		n++;
		q.port = s->object->ports[i].port;
		q.protocol = s->object->ports[i].protocol;
		put_explanation(x, &q);
	}
	return n ? 200 : wrong_port(x, s->object);
}

static int explain_asked(struct explaining *x)
{
	const struct service_entry *s;
	enum family family;
	struct addr addr;

	if (!*x->asked.destination) {
		errf(&x->error, 0, "which destination?");
		return 400;
	}
	if (!source_word(x))
		return 400;
	cut_protocol(&x->asked);
	if (address_word(&x->asked, &family, &addr))
		return explain_address(x, family, &addr);
	s = service_word(x);
	return s ? explain_service(x, s) : 400;
}

int view_explain(const struct view *v, const char *query, struct strbuf *out)
{
	struct explaining x = { .v = v, .out = out };
	struct errbuf eb;
	int status;

	query_get(query, "source", x.asked.source);
	query_get(query, "destination", x.asked.destination);
	query_get(query, "protocol", x.asked.protocol);
	query_get(query, "port", x.asked.port);
	if (v->sync)
		x.nl = nlsock_open(&eb);
	jsonout_object(out, NULL);
	jsonout_array(out, "items");
	status = explain_asked(&x);
	jsonout_array_end(out);
	jsonout_object_end(out);
	if (status != 200) {
		strbuf_reset(out);
		jsonout_object(out, NULL);
		jsonout_text(out, "error", x.error.text);
		jsonout_object_end(out);
	}
	nlsock_close(x.nl);
	arena_free(&x.scratch);
	return out->err ? 500 : status;
}
