/*
 * EndpointSlice. The hot one: a cluster has ten times as many endpoints as anything else, and they
 * change all the time. An endpoint that is of no use, for whatever value is wrong with it, is left
 * out and the others stay: each of them is a pod that serves.
 *
 * Zone hints are lists of names that nearly always equal those of the endpoint before; each
 * different list is stored once, as far as looking at the latest few of them tells.
 */
#include "watch/decode.h"

#include <errno.h>
#include <string.h>

#include "watch/reading.h"

#define SERVICE_LABEL "kubernetes.io/service-name"
#define TRIGGER_ANNOTATION "endpoints.kubernetes.io/last-change-trigger-time"

enum { RECENT_ZONES = 8 };

/* The zone lists of a slice while they are collected. */
struct zones {
	char *bytes;
	uint32_t used;
	uint32_t recent[RECENT_ZONES]; /* offsets */
	unsigned int n_recent;	       /* ever; the latest are kept */
};

/* EPS-1, EPS-2. Returns 1, 0 if the slice is of no use, or -EINVAL. */
static int read_identity(struct reading *r, struct slice *slice)
{
	const struct json *labels = NULL;
	const char *type = "";

	if (reading_object(r, r->metadata, "labels", &labels) < 0)
		return -EINVAL;
	slice->service = "";
	if (reading_string(r, labels, SERVICE_LABEL, &slice->service) < 0 ||
	    reading_string(r, r->root, "addressType", &type) < 0)
		return -EINVAL;
	if (!*slice->service)
		return 0;
	if (!is_dns_label(slice->service))
		return reading_bad(r, labels, SERVICE_LABEL,
				   "%s is not a DNS label",
				   reading_quote(r, slice->service));
	if (strcmp(type, "IPv4") == 0)
		slice->family = FAMILY_IPV4;
	else if (strcmp(type, "IPv6") == 0)
		slice->family = FAMILY_IPV6;
	else if (strcmp(type, "FQDN") == 0)
		return 0;
	else
		return reading_bad(r, r->root, "addressType",
				   "%s is not IPv4, IPv6 or FQDN",
				   reading_quote(r, type));
	return 1;
}

static int read_trigger(struct reading *r, struct slice *slice)
{
	const struct json *annotations = NULL;
	const char *text = "";

	if (reading_object(r, r->metadata, "annotations", &annotations) < 0 ||
	    reading_string(r, annotations, TRIGGER_ANNOTATION, &text) < 0)
		return -EINVAL;
	if (time_parse(text, &slice->trigger_us))
		slice->trigger_us = 0;
	return 0;
}

/* ---- ports (EPS-3, EPS-4). Returns 1 for a port, 0 for none, or -EINVAL. */

static int read_slice_port(struct reading *r, const struct json *item,
			   struct slice_port *port)
{
	const char *protocol = "";
	int named;

	*port = (struct slice_port){ .name = "",
				     .protocol = protocol_parse("TCP") };
	if (json_type(item) != JSON_OBJECT)
		return reading_bad(r, item, NULL, "%s where an object belongs",
				   json_type_name(json_type(item)));
	named = reading_string(r, item, "name", &port->name);
	if (named < 0 || reading_string(r, item, "protocol", &protocol) < 0 ||
	    reading_port(r, item, "port", &port->port) < 0)
		return -EINVAL;
	if (!is_port_name(port->name))
		return reading_bad(r, item, "name", "%s is not a port name",
				   reading_quote(r, port->name));
	if (*protocol)
		port->protocol = protocol_parse(protocol);
	if (!port->protocol)
		reading_complain(r, item, "protocol", "%s is not TCP, UDP or SCTP",
				 reading_quote(r, protocol));
	return named && port->protocol && port->port;
}

static int read_slice_ports(struct reading *r, struct slice *slice)
{
	const struct json *list = NULL;
	struct slice_port *ports;
	int ret;

	if (reading_list(r, r->root, "ports", &list) < 0)
		return -EINVAL;
	ports = reading_alloc(r, json_count(list), sizeof(*ports));
	if (!ports)
		return -ENOMEM;
	slice->ports = ports;
	json_for_each (item, list) {
		ret = read_slice_port(r, item, &ports[slice->n_ports]);
		if (ret < 0)
			return ret;
		slice->n_ports += (unsigned int)ret;
	}
	return 0;
}

/* ---- hints (EPS-12) */

static uint32_t zones_length(const char *list)
{
	uint32_t length = 0;

	while (list[length])
		length += (uint32_t)strlen(list + length) + 1;
	return length + 1;
}

/* The list that was just written at @at: kept, or given up for an equal one. Returns its offset. */
static uint32_t zones_intern(struct zones *z, uint32_t at)
{
	uint32_t length = zones_length(z->bytes + at);
	unsigned int i, n = z->n_recent < RECENT_ZONES ? z->n_recent : RECENT_ZONES;

	for (i = 0; i < n; i++) {
		const char *other = z->bytes + z->recent[i];

		if (zones_length(other) == length &&
		    memcmp(other, z->bytes + at, length) == 0)
			return z->recent[i];
	}
	z->recent[z->n_recent++ % RECENT_ZONES] = at;
	z->used = at + length;
	return at;
}

static int read_zone_hints(struct reading *r, const struct json *list,
			   struct zones *z, struct slice_endpoint *endpoint)
{
	uint32_t at = z->used;
	const char *name;

	json_for_each (item, list) {
		name = "";
		if (reading_string(r, item, "name", &name) < 0)
			return -EINVAL;
		if (!*name)
			continue;
		memcpy(z->bytes + at, name, strlen(name) + 1);
		at += (uint32_t)strlen(name) + 1;
	}
	z->bytes[at] = '\0';
	if (json_first(list)) {
		endpoint->flags |= ENDPOINT_ZONE_HINTS;
		endpoint->zones = zones_intern(z, z->used);
	}
	return 0;
}

static int read_node_hints(struct reading *r, const struct json *list,
			   struct slice_endpoint *endpoint)
{
	const char *name;

	json_for_each (item, list) {
		name = "";
		if (reading_string(r, item, "name", &name) < 0)
			return -EINVAL;
		endpoint->flags |= ENDPOINT_NODE_HINTS;
		if (strcmp(name, r->decoder->node_name) == 0)
			endpoint->flags |= ENDPOINT_NODE_HINTED;
	}
	return 0;
}

static int read_hints(struct reading *r, const struct json *item,
		      struct zones *z, struct slice_endpoint *endpoint)
{
	const struct json *hints = NULL, *zones = NULL, *nodes = NULL;

	if (reading_object(r, item, "hints", &hints) < 0 ||
	    reading_list(r, hints, "forZones", &zones) < 0 ||
	    reading_list(r, hints, "forNodes", &nodes) < 0)
		return -EINVAL;
	if (read_zone_hints(r, zones, z, endpoint) ||
	    read_node_hints(r, nodes, endpoint))
		return -EINVAL;
	return 0;
}

/* Room for all lists, as if none were equal. */
static size_t zones_bound(const struct json *endpoints)
{
	size_t bound = 1;
	const char *name;

	json_for_each (item, endpoints) {
		bound++;
		json_for_each (zone, json_get(json_get(item, "hints"), "forZones")) {
			name = json_string(json_get(zone, "name"));
			bound += name ? strlen(name) + 1 : 0;
		}
	}
	return bound;
}

/* ---- endpoints */

/* Unset ready and serving are true, unset terminating is false (EPS-7). */
static int read_conditions(struct reading *r, const struct json *item,
			   struct slice_endpoint *endpoint)
{
	bool ready = true, serving = true, terminating = false;
	const struct json *conditions = NULL;

	if (reading_object(r, item, "conditions", &conditions) < 0 ||
	    reading_bool(r, conditions, "ready", &ready) < 0 ||
	    reading_bool(r, conditions, "serving", &serving) < 0 ||
	    reading_bool(r, conditions, "terminating", &terminating) < 0)
		return -EINVAL;
	endpoint->flags |= (uint8_t)((ready ? ENDPOINT_READY : 0) |
				     (serving ? ENDPOINT_SERVING : 0) |
				     (terminating ? ENDPOINT_TERMINATING : 0));
	return 0;
}

/* EPS-6. Returns 1, 0 (with a complaint) if there is no usable address, or -EINVAL. */
static int read_address(struct reading *r, const struct json *item,
			enum family wanted, struct slice_endpoint *endpoint)
{
	const struct json *addresses = NULL, *first;
	const char *text;
	enum family family;

	if (reading_list(r, item, "addresses", &addresses) < 0)
		return -EINVAL;
	first = json_first(addresses);
	if (!first) {
		reading_complain(r, item, "addresses", "missing");
		return 0;
	}
	text = json_string(first);
	if (!text)
		reading_complain(r, first, NULL, "%s is not an IP address",
				 json_type_name(json_type(first)));
	else if (addr_parse(text, &family, &endpoint->addr) || family != wanted)
		reading_complain(r, first, NULL, "%s is not an %s address",
				 reading_quote(r, text), family_name(wanted));
	else if (addr_is_special(family, &endpoint->addr))
		reading_complain(r, first, NULL, "%s cannot be an endpoint",
				 reading_quote(r, text));
	else
		return 1;
	return 0;
}

static const char *pod_of(const struct json *item)
{
	const struct json *reference = json_get(item, "targetRef");
	const char *kind = json_string(json_get(reference, "kind"));

	return kind && strcmp(kind, "Pod") == 0
		       ? json_string(json_get(reference, "name"))
		       : NULL;
}

/* They are for people to read, so whatever is wrong with them is no problem. */
static struct endpoint_names names_of(const struct json *item)
{
	const char *pod = pod_of(item),
		   *node = json_string(json_get(item, "nodeName")),
		   *zone = json_string(json_get(item, "zone"));

	return (struct endpoint_names){ pod ? pod : "", node ? node : "",
					zone ? zone : "" };
}

static int pack_names(struct reading *r, const struct endpoint_names *names,
		      struct slice *slice)
{
	const size_t size = names_pack(names, slice->n_endpoints, NULL);
	char *packed = reading_alloc(r, size, 1);

	if (!packed || size > UINT32_MAX)
		return -ENOMEM;
	if (size)
		names_pack(names, slice->n_endpoints, packed);
	slice->names = packed;
	slice->names_size = (uint32_t)size;
	return 0;
}

static int pack_endpoints(struct reading *r, const struct slice_endpoint *endpoints,
			  struct slice *slice)
{
	uint8_t *packed =
		reading_alloc(r, endpoints_pack(slice, endpoints, NULL), 1);

	if (!packed)
		return -ENOMEM;
	endpoints_pack(slice, endpoints, packed);
	slice->endpoints = packed;
	return 0;
}

static int read_endpoint(struct reading *r, const struct json *item,
			 enum family family, struct zones *z,
			 struct slice_endpoint *endpoint)
{
	const char *node_name = "";
	int ret;

	*endpoint = (struct slice_endpoint){ 0 };
	if (json_type(item) != JSON_OBJECT)
		return reading_bad(r, item, NULL, "%s where an object belongs",
				   json_type_name(json_type(item)));
	ret = read_address(r, item, family, endpoint);
	if (ret <= 0)
		return ret;
	if (read_conditions(r, item, endpoint) || read_hints(r, item, z, endpoint) ||
	    reading_string(r, item, "nodeName", &node_name) < 0)
		return -EINVAL;
	if (*node_name && strcmp(node_name, r->decoder->node_name) == 0)
		endpoint->flags |= ENDPOINT_LOCAL;
	return 1;
}

static int read_endpoints(struct reading *r, struct slice *slice)
{
	const struct json *list = NULL;
	struct slice_endpoint *endpoints;
	struct endpoint_names *names;
	struct zones z = { 0 };
	int ret;

	if (reading_list(r, r->root, "endpoints", &list) < 0)
		return -EINVAL;
	endpoints = reading_alloc(r, json_count(list), sizeof(*endpoints));
	names = reading_alloc(r, json_count(list), sizeof(*names));
	z.bytes = reading_alloc(r, zones_bound(list), 1);
	if (!endpoints || !names || !z.bytes)
		return -ENOMEM;
	json_for_each (item, list) {
		ret = read_endpoint(r, item, slice->family, &z,
				    &endpoints[slice->n_endpoints]);
		if (ret < 0)
			return ret;
		if (ret)
			names[slice->n_endpoints] = names_of(item);
		slice->n_endpoints += (unsigned int)ret;
	}
	slice->zones = z.bytes;
	slice->zones_size = z.used;
	ret = pack_endpoints(r, endpoints, slice);
	return ret ? ret : pack_names(r, names, slice);
}

/* Returns 1, 0 if the slice is of no use, or a negative errno. */
static int read_slice(struct reading *r, struct slice *slice)
{
	int ret = reading_metadata(r, METADATA_NAMESPACED | METADATA_NAME_SUBDOMAIN);

	if (ret)
		return ret;
	slice->namespace = r->namespace;
	slice->name = r->name;
	ret = read_identity(r, slice);
	if (ret <= 0)
		return ret;
	ret = read_trigger(r, slice);
	if (!ret)
		ret = read_slice_ports(r, slice);
	if (!ret)
		ret = read_endpoints(r, slice);
	return ret ? ret : 1;
}

struct slice *decode_slice(struct decoder *d, const struct json *json,
			   struct errbuf *eb)
{
	struct slice slice = { 0 }, *packed = NULL;
	struct reading r;
	int ret;

	if (eb)
		eb->text[0] = '\0';
	reading_begin(&r, d, "EndpointSlice", json);
	ret = read_slice(&r, &slice);
	if (ret == 0)
		return NULL;
	if (ret > 0) {
		packed = slice_pack(&slice);
		if (!packed)
			reading_no_memory(&r);
	}
	if (!packed)
		reading_report(&r, eb);
	return packed;
}
