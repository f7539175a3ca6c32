/*
 * Service. What people write into a list of addresses or ranges may be of no
 * use (SVC-9, LB-2): such entries are passed over, as is an unknown word for a
 * policy, which counts as the default. Anything wrong with the ports or the
 * cluster IP condemns the Service: half of it is no use to anybody.
 *
 * The API server refuses repeated ports and names; files are not checked by it,
 * so that is done here.
 */
#include "watch/decode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "watch/reading.h"

enum { AFFINITY_DEFAULT_S = 10800, AFFINITY_MAX_S = 86400 };

/* ---- lists of addresses */

struct address_lists {
	struct addr *items[N_FAMILIES];
	unsigned int count[N_FAMILIES];
};

static int address_lists_begin(struct reading *r, struct address_lists *a,
			       unsigned int max)
{
	enum family f;

	*a = (struct address_lists){ 0 };
	for (f = 0; f < N_FAMILIES; f++) {
		a->items[f] = reading_alloc(r, max, sizeof(struct addr));
		if (!a->items[f])
			return -ENOMEM;
	}
	return 0;
}

static void addresses_add(struct address_lists *a, enum family family,
			  const struct addr *addr)
{
	a->items[family][a->count[family]++] = *addr;
}

static int address_list_order(const void *a, const void *b)
{
	return addr_compare(a, b);
}

/* Sorted, each once. */
static struct addr_list addresses_end(struct address_lists *a, enum family family)
{
	struct addr *items = a->items[family];
	unsigned int i, n = 0;

	qsort(items, a->count[family], sizeof(*items), address_list_order);
	for (i = 0; i < a->count[family]; i++)
		if (!n || addr_compare(&items[n - 1], &items[i]))
			items[n++] = items[i];
	return (struct addr_list){ n, items };
}

/* An address that must never become a VIP: the node's own services stand behind it. */
static bool is_unusable_vip(enum family family, const struct addr *addr)
{
	static const struct addr zero = { { 0 } };
	bool multicast = family == FAMILY_IPV4 ? (addr->bytes[0] & 0xf0) == 224
					       : addr->bytes[0] == 0xff;

	return multicast || addr_is_loopback(family, addr) ||
	       addr_compare(addr, &zero) == 0;
}

/* Returns whether there is a usable address; complains if not. */
static bool read_vip(struct reading *r, const struct json *parent,
		     const char *key, enum family *family, struct addr *addr)
{
	const struct json *item = key ? json_get(parent, key) : parent;
	const char *text = json_string(item);

	if (!text || addr_parse(text, family, addr)) {
		reading_complain(r, parent, key, "%s is not an IP address",
				 text ? reading_quote(r, text)
				      : json_type_name(json_type(item)));
		return false;
	}
	if (is_unusable_vip(*family, addr)) {
		reading_complain(r, parent, key, "%s cannot be a service address",
				 reading_quote(r, text));
		return false;
	}
	return true;
}

/* ---- cluster IPs (SVC-1, SVC-6) */

static int read_cluster_ip(struct reading *r, const struct json *parent,
			   const char *key, enum family *family, struct addr *addr)
{
	const struct json *item = key ? json_get(parent, key) : parent;
	const char *text = json_string(item);

	if (!text)
		return reading_bad(r, parent, key, "%s where a string belongs",
				   json_type_name(json_type(item)));
	if (addr_parse(text, family, addr))
		return reading_bad(r, parent, key, "%s is not an IP address",
				   reading_quote(r, text));
	if (is_unusable_vip(*family, addr))
		return reading_bad(r, parent, key, "%s cannot be a service address",
				   reading_quote(r, text));
	return 0;
}

/* @ip: entry of clusterIPs, for @item of ipFamilies. */
static int read_family(struct reading *r, const struct json *item,
		       const struct json *ip_parent, const char *ip_key,
		       struct service *service)
{
	const char *text = json_string(item);
	enum family wanted, family;
	struct addr addr;
	int err;

	if (text && strcmp(text, "IPv4") == 0)
		wanted = FAMILY_IPV4;
	else if (text && strcmp(text, "IPv6") == 0)
		wanted = FAMILY_IPV6;
	else
		return reading_bad(r, item, NULL, "neither IPv4 nor IPv6");
	if (service->family[wanted].has_cluster_ip)
		return reading_bad(r, item, NULL, "%s is repeated", text);
	err = read_cluster_ip(r, ip_parent, ip_key, &family, &addr);
	if (err)
		return err;
	if (family != wanted)
		return reading_bad(r, ip_parent, ip_key, "not of family %s", text);
	service->family[family].has_cluster_ip = true;
	service->family[family].cluster_ip = addr;
	return 0;
}

static int read_cluster_ips(struct reading *r, const struct json *spec,
			    struct service *service)
{
	const struct json *families = NULL, *ips = NULL, *ip;
	enum family f;
	struct addr addr;
	int err;

	if (reading_list(r, spec, "ipFamilies", &families) < 0 ||
	    reading_list(r, spec, "clusterIPs", &ips) < 0)
		return -EINVAL;
	if (!json_first(families)) {
		err = read_cluster_ip(r, spec, "clusterIP", &f, &addr);
		if (err)
			return err;
		service->family[f].has_cluster_ip = true;
		service->family[f].cluster_ip = addr;
		return 0;
	}
	/* Without clusterIPs, as people write it, clusterIP is their first, as
	 * the API server has it. */
	ip = json_first(ips);
	if (!ip)
		return read_family(r, json_first(families), spec, "clusterIP",
				   service);
	json_for_each (family, families) {
		if (!ip)
			break;
		err = read_family(r, family, ip, NULL, service);
		if (err)
			return err;
		ip = json_next(ip);
	}
	return 0;
}

/* ---- ports */

static int read_service_port(struct reading *r, const struct json *item,
			     struct service_port *port)
{
	*port = (struct service_port){ .name = "",
				       .protocol = protocol_parse("TCP") };
	if (json_type(item) != JSON_OBJECT)
		return reading_bad(r, item, NULL, "%s where an object belongs",
				   json_type_name(json_type(item)));
	if (reading_string(r, item, "name", &port->name) < 0 ||
	    reading_protocol(r, item, &port->protocol) < 0 ||
	    reading_port(r, item, "port", &port->port) < 0 ||
	    reading_port(r, item, "nodePort", &port->node_port) < 0)
		return -EINVAL;
	if (!is_port_name(port->name))
		return reading_bad(r, item, "name", "%s is not a port name",
				   reading_quote(r, port->name));
	if (!port->port)
		return reading_bad(r, item, "port", "%s",
				   json_get(item, "port") ? "0 is not a port"
							  : "missing");
	return 0;
}

/* The three identities of a port, none of which may repeat. 0 means equal. */
static int port_name_order(const struct service_port *a,
			   const struct service_port *b)
{
	int order = strcmp(a->name, b->name);

	return order ? order : a->protocol - b->protocol;
}

static int port_number_order(const struct service_port *a,
			     const struct service_port *b)
{
	return a->port != b->port ? a->port - b->port : a->protocol - b->protocol;
}

static int node_port_order(const struct service_port *a,
			   const struct service_port *b)
{
	return a->node_port != b->node_port ? a->node_port - b->node_port
					    : a->protocol - b->protocol;
}

static const struct identity {
	const char *key;
	int (*order)(const struct service_port *a, const struct service_port *b);
} identities[] = {
	{ "name", port_name_order },
	{ "port", port_number_order },
	{ "nodePort", node_port_order },
};

/* Of two that are equal the later one is to blame. */
static int identity_order(const void *a, const void *b, void *ctx)
{
	const struct service_port *const *left = a, *const *right = b;
	const struct identity *identity = ctx;
	int order = identity->order(*left, *right);

	return order ? order : (*left > *right) - (*left < *right);
}

static const struct json *json_at(const struct json *parent, size_t index)
{
	json_for_each (item, parent)
		if (index-- == 0)
			return item;
	return NULL;
}

static int check_identity(struct reading *r, const struct json *list,
			  const struct service *service,
			  const struct service_port **sorted, size_t identity)
{
	struct identity by = identities[identity];
	bool node_port = by.order == node_port_order;
	unsigned int i;

	qsort_r(sorted, service->n_ports, sizeof(const struct service_port *),
		identity_order, &by);
	for (i = 1; i < service->n_ports; i++) {
		if (by.order(sorted[i - 1], sorted[i]))
			continue;
		if (node_port && !sorted[i]->node_port)
			continue;
		return reading_bad(
			r, json_at(list, (size_t)(sorted[i] - service->ports)),
			identities[identity].key,
			"the same as that of an earlier port");
	}
	return 0;
}

static int check_repeated_ports(struct reading *r, const struct json *list,
				const struct service *service)
{
	const struct service_port **sorted;
	unsigned int i;
	int err = 0;

	if (service->n_ports < 2)
		return 0;
	sorted = reading_alloc(r, service->n_ports,
			       sizeof(const struct service_port *));
	if (!sorted)
		return -ENOMEM;
	for (i = 0; i < service->n_ports; i++)
		sorted[i] = &service->ports[i];
	for (i = 0; i < sizeof(identities) / sizeof(identities[0]) && !err; i++)
		err = check_identity(r, list, service, sorted, i);
	return err;
}

static int read_service_ports(struct reading *r, const struct json *spec,
			      struct service *service)
{
	const struct json *list = NULL;
	struct service_port *ports;

	if (reading_list(r, spec, "ports", &list) < 0)
		return -EINVAL;
	ports = reading_alloc(r, json_count(list), sizeof(*ports));
	if (!ports)
		return -ENOMEM;
	service->ports = ports;
	json_for_each (item, list)
		if (read_service_port(r, item, &ports[service->n_ports++]))
			return -EINVAL;
	return check_repeated_ports(r, list, service);
}

/* ---- external addresses */

static int read_external_ips(struct reading *r, const struct json *spec,
			     struct service_extra *extra, bool *present)
{
	const struct json *list = NULL;
	struct address_lists addresses;
	struct addr addr;
	enum family f;

	if (reading_list(r, spec, "externalIPs", &list) < 0)
		return -EINVAL;
	*present = json_first(list);
	if (address_lists_begin(r, &addresses, json_count(list)))
		return -ENOMEM;
	json_for_each (item, list)
		if (read_vip(r, item, NULL, &f, &addr))
			addresses_add(&addresses, f, &addr);
	for (f = 0; f < N_FAMILIES; f++)
		extra[f].external_ips = addresses_end(&addresses, f);
	return 0;
}

/* LB-1. Returns 1 with an address, 0 if the entry has none for us, or -EINVAL. */
static int read_ingress(struct reading *r, const struct json *item,
			enum family *family, struct addr *addr)
{
	const char *ip = "", *mode = "VIP";

	if (reading_string(r, item, "ip", &ip) < 0 ||
	    reading_string(r, item, "ipMode", &mode) < 0)
		return -EINVAL;
	if (!*ip || strcmp(mode, "Proxy") == 0)
		return 0;
	if (strcmp(mode, "VIP")) {
		reading_complain(r, item, "ipMode", "%s is neither VIP nor Proxy",
				 reading_quote(r, mode));
		return 0;
	}
	return read_vip(r, item, "ip", family, addr);
}

static int read_load_balancer(struct reading *r, struct service_extra *extra)
{
	const struct json *status = NULL, *balancer = NULL, *list = NULL;
	struct address_lists addresses;
	struct addr addr;
	enum family f;
	int ret;

	if (reading_object(r, r->root, "status", &status) < 0 ||
	    reading_object(r, status, "loadBalancer", &balancer) < 0 ||
	    reading_list(r, balancer, "ingress", &list) < 0)
		return -EINVAL;
	if (address_lists_begin(r, &addresses, json_count(list)))
		return -ENOMEM;
	json_for_each (item, list) {
		ret = read_ingress(r, item, &f, &addr);
		if (ret < 0)
			return ret;
		if (ret)
			addresses_add(&addresses, f, &addr);
	}
	for (f = 0; f < N_FAMILIES; f++)
		extra[f].load_balancer_ips = addresses_end(&addresses, f);
	return 0;
}

/* ---- source ranges (LB-2, LB-3) */

static bool is_white(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A copy without the white space around it. */
static const char *trim_list(struct reading *r, const char *text)
{
	size_t length;

	while (is_white(*text))
		text++;
	length = strlen(text);
	while (length && is_white(text[length - 1]))
		length--;
	return arena_strndup(r->decoder->scratch, text, length);
}

static struct prefix_list make_disjoint(struct prefix *items, unsigned int count)
{
	unsigned int n = prefixes_disjoint(items, count);

	if (n && items[0].length == 0)
		n = 0; /* all sources are in it: no effect */
	return (struct prefix_list){ n, items };
}

static int read_source_range(struct reading *r, const struct json *item,
			     struct prefix *items[N_FAMILIES],
			     unsigned int count[N_FAMILIES])
{
	const char *text = json_string(item);
	struct prefix prefix;
	enum family f;

	if (!text) {
		reading_complain(r, item, NULL, "%s is not an address range",
				 json_type_name(json_type(item)));
		return 0;
	}
	text = trim_list(r, text);
	if (!text)
		return reading_no_memory(r);
	if (!*text)
		return 0;
	if (prefix_parse(text, &f, &prefix))
		reading_complain(r, item, NULL, "%s is not an address range",
				 reading_quote(r, text));
	else
		items[f][count[f]++] = prefix;
	return 0;
}

static int read_source_ranges(struct reading *r, const struct json *spec,
			      struct service_extra *extra)
{
	struct prefix *items[N_FAMILIES];
	unsigned int count[N_FAMILIES] = { 0 };
	const struct json *list = NULL;
	enum family f;

	if (reading_list(r, spec, "loadBalancerSourceRanges", &list) < 0)
		return -EINVAL;
	for (f = 0; f < N_FAMILIES; f++) {
		items[f] =
			reading_alloc(r, json_count(list), sizeof(struct prefix));
		if (!items[f])
			return -ENOMEM;
	}
	json_for_each (item, list)
		if (read_source_range(r, item, items, count))
			return -ENOMEM;
	for (f = 0; f < N_FAMILIES; f++)
		extra[f].source_ranges = make_disjoint(items[f], count[f]);
	return 0;
}

/* ---- type, policies, affinity */

/* @field is "Local" or the default; returns which, or -EINVAL. */
static int read_policy(struct reading *r, const struct json *spec, const char *key)
{
	const char *text = "";

	if (reading_string(r, spec, key, &text) < 0)
		return -EINVAL;
	if (strcmp(text, "Local") == 0)
		return 1;
	if (*text && strcmp(text, "Cluster"))
		reading_complain(r, spec, key, "%s is neither Cluster nor Local",
				 reading_quote(r, text));
	return 0;
}

enum service_type { CLUSTER_IP, NODE_PORT, LOAD_BALANCER, EXTERNAL_NAME };

static int read_type(struct reading *r, const struct json *spec,
		     enum service_type *type)
{
	static const char *const names[] = { "ClusterIP", "NodePort",
					     "LoadBalancer", "ExternalName" };
	const char *text = "";
	unsigned int i;

	*type = CLUSTER_IP;
	if (reading_string(r, spec, "type", &text) < 0)
		return -EINVAL;
	if (!*text)
		return 0;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]) == 0) {
			*type = (enum service_type)i;
			return 0;
		}
	}
	reading_complain(r, spec, "type", "%s is unknown and taken for ClusterIP",
			 reading_quote(r, text));
	return 0;
}

static int read_session_affinity(struct reading *r, const struct json *spec,
				 struct service *service)
{
	const struct json *config = NULL, *client_ip = NULL;
	int64_t timeout_s = AFFINITY_DEFAULT_S;
	const char *text = "";

	if (reading_string(r, spec, "sessionAffinity", &text) < 0)
		return -EINVAL;
	if (*text && strcmp(text, "None") && strcmp(text, "ClientIP"))
		reading_complain(r, spec, "sessionAffinity",
				 "%s is neither None nor ClientIP",
				 reading_quote(r, text));
	if (strcmp(text, "ClientIP"))
		return 0;
	if (reading_object(r, spec, "sessionAffinityConfig", &config) < 0 ||
	    reading_object(r, config, "clientIP", &client_ip) < 0 ||
	    reading_integer(r, client_ip, "timeoutSeconds", 1, AFFINITY_MAX_S,
			    &timeout_s) < 0)
		return -EINVAL;
	service->affinity_timeout_s = (uint32_t)timeout_s;
	return 0;
}

/* HC-1: the port counts for one kind of Service only. Whoever would listen tells if it is missing.
 */
static int read_health_check(struct reading *r, const struct json *spec,
			     struct service *service)
{
	const unsigned int flags = SERVICE_LOAD_BALANCER | SERVICE_EXTERNAL_LOCAL;
	uint16_t port = 0;

	if (reading_port(r, spec, "healthCheckNodePort", &port) < 0)
		return -EINVAL;
	if ((service->flags & flags) == flags)
		service->health_check_node_port = port;
	return 0;
}

/* POL-3: externalTrafficPolicy counts where there can be external VIPs. */
static int read_policies(struct reading *r, const struct json *spec,
			 enum service_type type, bool has_external_ips,
			 struct service *service)
{
	int internal = read_policy(r, spec, "internalTrafficPolicy");
	int external = read_policy(r, spec, "externalTrafficPolicy");

	if (internal < 0 || external < 0)
		return -EINVAL;
	if (internal)
		service->flags |= SERVICE_INTERNAL_LOCAL;
	if (external && (type != CLUSTER_IP || has_external_ips))
		service->flags |= SERVICE_EXTERNAL_LOCAL;
	if (type == LOAD_BALANCER)
		service->flags |= SERVICE_LOAD_BALANCER;
	if (type == NODE_PORT)
		service->flags |= SERVICE_NODE_PORT;
	return 0;
}

/*
 * BEY-1: a Service may say otherwise than the configuration. A word that is
 * unknown leaves it to that. @words end with NULL; *found becomes the index of
 * the one that is there, or -1. Returns 0 or -EINVAL.
 */
static int read_word(struct reading *r, const char *annotation,
		     const char *const *words, int *found)
{
	const struct json *annotations = NULL, *item;
	const char *text;
	int i;

	*found = -1;
	if (reading_object(r, r->metadata, "annotations", &annotations) < 0)
		return -EINVAL;
	item = json_get(annotations, annotation);
	if (!item)
		return 0;
	text = json_string(item);
	for (i = 0; text && words[i]; i++)
		if (strcmp(text, words[i]) == 0)
			*found = i;
	if (*found < 0)
		reading_complain(r, annotations, annotation,
				 "%s is neither %s nor %s; the configuration counts",
				 text ? reading_quote(r, text)
				      : json_type_name(json_type(item)),
				 words[0], words[1]);
	return 0;
}

static int read_close_connections(struct reading *r, struct service *service)
{
	static const char *const words[] = { "Never", "EndpointGone", NULL };
	int found;

	if (read_word(r, "vipmap/close-connections", words, &found))
		return -EINVAL;
	if (found >= 0)
		service->flags |= found ? SERVICE_CLOSE_GONE : SERVICE_CLOSE_NEVER;
	return 0;
}

static int read_creation(struct reading *r, struct service *service)
{
	const char *text = NULL;
	int64_t time_us;

	service->created_s = INT64_MAX;
	if (reading_string(r, r->metadata, "creationTimestamp", &text) < 0)
		return -EINVAL;
	if (!text)
		return 0;
	if (time_parse(text, &time_us))
		reading_complain(r, r->metadata, "creationTimestamp",
				 "%s is not a time", reading_quote(r, text));
	else
		service->created_s = time_us / 1000000;
	return 0;
}

static int read_no_endpoints(struct reading *r, struct service *service)
{
	static const char *const words[] = { "Reject", "Pass", NULL };
	int found;

	if (read_word(r, "vipmap/no-endpoints", words, &found))
		return -EINVAL;
	if (found >= 0)
		service->flags |= found ? SERVICE_PASS : SERVICE_NO_PASS;
	return 0;
}

/* SVC-1, SVC-2. Returns whether there is anything to program, or -EINVAL. */
static int read_ignored(struct reading *r, const struct json *spec,
			enum service_type type)
{
	const char *cluster_ip = "";

	if (reading_string(r, spec, "clusterIP", &cluster_ip) < 0)
		return -EINVAL;
	return type == EXTERNAL_NAME || !*cluster_ip ||
	       strcmp(cluster_ip, "None") == 0;
}

static int read_programmed(struct reading *r, const struct json *spec,
			   enum service_type type, struct service *service,
			   struct service_extra *extra)
{
	bool has_external_ips = false;
	int err = read_cluster_ips(r, spec, service);

	if (!err)
		err = read_service_ports(r, spec, service);
	if (!err)
		err = read_external_ips(r, spec, extra, &has_external_ips);
	if (!err)
		err = read_load_balancer(r, extra);
	if (!err)
		err = read_source_ranges(r, spec, extra);
	if (!err)
		err = read_policies(r, spec, type, has_external_ips, service);
	if (!err)
		err = read_session_affinity(r, spec, service);
	if (!err)
		err = read_health_check(r, spec, service);
	if (!err)
		err = read_close_connections(r, service);
	if (!err)
		err = read_no_endpoints(r, service);
	return err;
}

/* @extra: one for each family, which the Service refers to. */
static int read_service(struct reading *r, struct service *service,
			struct service_extra *extra)
{
	const struct json *spec = NULL;
	enum service_type type;
	int ret = reading_metadata(r, METADATA_NAMESPACED);

	if (ret)
		return ret;
	service->namespace = r->namespace;
	service->name = r->name;
	service->uid = r->uid;
	if (read_creation(r, service) ||
	    reading_object(r, r->root, "spec", &spec) < 0)
		return -EINVAL;
	if (!spec)
		return reading_bad(r, r->root, "spec", "missing");
	ret = read_type(r, spec, &type);
	if (!ret)
		ret = read_ignored(r, spec, type);
	if (ret > 0)
		service->flags |= SERVICE_IGNORED;
	if (ret > 0 && type == EXTERNAL_NAME)
		service->flags |= SERVICE_EXTERNAL_NAME;
	return ret ? (ret > 0 ? 0 : ret)
		   : read_programmed(r, spec, type, service, extra);
}

struct service *decode_service(struct decoder *d, const struct json *json,
			       struct errbuf *eb)
{
	struct service service = { 0 }, *packed = NULL;
	struct service_extra extra[N_FAMILIES] = { 0 };
	struct reading r;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		service.family[f].extra = &extra[f];

	reading_begin(&r, d, "Service", json);
	if (read_service(&r, &service, extra) == 0) {
		packed = service_pack(&service);
		if (!packed)
			reading_no_memory(&r);
	}
	if (!packed)
		reading_report(&r, eb);
	return packed;
}
