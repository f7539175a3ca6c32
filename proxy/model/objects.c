/*
 * Packing of objects: the size of the block is computed by the same walk that
 * copies, first without memory, then into it. So the two cannot disagree.
 */
#include "proxy/model/objects.h"

#include <stdlib.h>
#include <string.h>

/* Without base it only counts. The largest alignment comes first; strings go to the end. */
struct packer {
	char *base;
	size_t used;
};

static void *pack_bytes(struct packer *p, const void *bytes, size_t size,
			size_t align)
{
	void *at;

	p->used = (p->used + align - 1) / align * align;
	at = p->base ? p->base + p->used : NULL;
	if (at && size)
		memcpy(at, bytes, size);
	p->used += size;
	return at;
}

static const char *pack_text(struct packer *p, const char *text)
{
	return pack_bytes(p, text, strlen(text) + 1, 1);
}

#define PACK_ARRAY(p, items, count)                                            \
	pack_bytes(p, items, (size_t)(count) * sizeof(*(items)),               \
		   _Alignof(typeof(*(items))))

const char *kind_name(enum kind kind)
{
	static const char *const names[N_KINDS] = {
		[KIND_SERVICE] = "Service",
		[KIND_SLICE] = "EndpointSlice",
		[KIND_SERVICE_CIDR] = "ServiceCIDR",
		[KIND_NODE] = "Node",
	};

	return names[kind];
}

const struct service_extra *service_extra(const struct service *service,
					  enum family family)
{
	static const struct service_extra none;
	const struct service_extra *extra = service->family[family].extra;

	return extra ? extra : &none;
}

static const struct service_extra *extra_walk(struct packer *p,
					      const struct service_extra *from)
{
	struct service_extra local = *from, *to;

	if (!from->external_ips.count && !from->load_balancer_ips.count &&
	    !from->source_ranges.count)
		return NULL;
	to = pack_bytes(p, from, sizeof(*from), _Alignof(struct service_extra));
	if (!to)
		to = &local;
	to->external_ips.items =
		PACK_ARRAY(p, from->external_ips.items, from->external_ips.count);
	to->load_balancer_ips.items = PACK_ARRAY(p, from->load_balancer_ips.items,
						 from->load_balancer_ips.count);
	to->source_ranges.items = PACK_ARRAY(p, from->source_ranges.items,
					     from->source_ranges.count);
	return to == &local ? NULL : to;
}

/* Each walk copies the struct, then replaces its pointers by ones into the
 * block. With only a count under way the pointers are those of a local copy. */
static void service_walk(struct packer *p, const struct service *from)
{
	struct service local = *from, *to;
	struct service_port *ports;
	unsigned int i, f;

	to = pack_bytes(p, from, sizeof(*from), _Alignof(struct service));
	if (!to)
		to = &local;
	ports = PACK_ARRAY(p, from->ports, from->n_ports);
	to->ports = ports;
	for (f = 0; f < N_FAMILIES; f++)
		to->family[f].extra = extra_walk(p, service_extra(from, f));
	to->namespace = pack_text(p, from->namespace);
	to->name = pack_text(p, from->name);
	to->uid = pack_text(p, from->uid);
	for (i = 0; i < from->n_ports; i++) {
		const char *name = pack_text(p, from->ports[i].name);

		if (ports)
			ports[i].name = name;
	}
}

/* Of one in @slice, packed. */
static size_t endpoint_size(const struct slice *slice)
{
	return 1 + family_size(slice->family) +
	       (slice->zones_size ? sizeof(uint32_t) : 0);
}

size_t endpoints_pack(const struct slice *slice,
		      const struct slice_endpoint *endpoints, uint8_t *to)
{
	const size_t size = endpoint_size(slice),
		     n_addr = family_size(slice->family);
	unsigned int i;

	for (i = 0; to && i < slice->n_endpoints; i++, to += size) {
		to[0] = endpoints[i].flags;
		memcpy(to + 1, endpoints[i].addr.bytes, n_addr);
		if (slice->zones_size)
			memcpy(to + 1 + n_addr, &endpoints[i].zones,
			       sizeof(endpoints[i].zones));
	}
	return size * slice->n_endpoints;
}

struct slice_endpoint slice_endpoint(const struct slice *slice, unsigned int i)
{
	const uint8_t *from = slice->endpoints + i * endpoint_size(slice);
	const size_t n_addr = family_size(slice->family);
	struct slice_endpoint endpoint = { .flags = from[0] };

	memcpy(endpoint.addr.bytes, from + 1, n_addr);
	if (slice->zones_size)
		memcpy(&endpoint.zones, from + 1 + n_addr, sizeof(endpoint.zones));
	return endpoint;
}

uint8_t slice_endpoint_flags(const struct slice *slice, unsigned int i)
{
	return slice->endpoints[i * endpoint_size(slice)];
}

static void slice_walk(struct packer *p, const struct slice *from)
{
	struct slice local = *from, *to;
	struct slice_port *ports;
	unsigned int i;

	to = pack_bytes(p, from, sizeof(*from), _Alignof(struct slice));
	if (!to)
		to = &local;
	ports = PACK_ARRAY(p, from->ports, from->n_ports);
	to->ports = ports;
	to->endpoints = pack_bytes(p, from->endpoints,
				   from->n_endpoints * endpoint_size(from), 1);
	to->namespace = pack_text(p, from->namespace);
	to->name = pack_text(p, from->name);
	to->service = pack_text(p, from->service);
	to->zones = pack_bytes(p, from->zones, from->zones_size, 1);
	to->names = pack_bytes(p, from->names, from->names_size, 1);
	for (i = 0; i < from->n_ports; i++) {
		const char *name = pack_text(p, from->ports[i].name);

		if (ports)
			ports[i].name = name;
	}
}

static void service_cidr_walk(struct packer *p, const struct service_cidr *from)
{
	struct service_cidr local = *from, *to;
	unsigned int f;

	to = pack_bytes(p, from, sizeof(*from), _Alignof(struct service_cidr));
	if (!to)
		to = &local;
	for (f = 0; f < N_FAMILIES; f++)
		to->family[f].items = PACK_ARRAY(p, from->family[f].items,
						 from->family[f].count);
	to->name = pack_text(p, from->name);
}

static void node_walk(struct packer *p, const struct node *from)
{
	struct node local = *from, *to;
	unsigned int f;

	to = pack_bytes(p, from, sizeof(*from), _Alignof(struct node));
	if (!to)
		to = &local;
	to->addresses = PACK_ARRAY(p, from->addresses, from->n_addresses);
	for (f = 0; f < N_FAMILIES; f++)
		to->pod_cidrs[f].items = PACK_ARRAY(p, from->pod_cidrs[f].items,
						    from->pod_cidrs[f].count);
	to->name = pack_text(p, from->name);
	to->uid = pack_text(p, from->uid);
	to->zone = pack_text(p, from->zone);
}

enum { NAME_LONGEST = UINT8_MAX, N_NAMES = 3 };

static void names_split(const struct endpoint_names *names,
			const char *part[N_NAMES])
{
	part[0] = names->pod;
	part[1] = names->node;
	part[2] = names->zone;
}

/* What comes from the API server ends on a terminal. */
static const char *plain_name(const char *text)
{
	size_t i;

	for (i = 0; text[i]; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return "";
	return i <= NAME_LONGEST ? text : "";
}

static size_t name_pack(const char *name, const char **before, char *to)
{
	size_t shared = 0, length;

	while (name[shared] && name[shared] == (*before)[shared])
		shared++;
	*before = name;
	length = strlen(name + shared);
	if (to) {
		*to = (char)shared;
		memcpy(to + 1, name + shared, length + 1);
	}
	return length + 2;
}

size_t names_pack(const struct endpoint_names *names, unsigned int n, char *to)
{
	const char *before[N_NAMES] = { "", "", "" }, *part[N_NAMES];
	bool any = false;
	size_t used = 0;
	unsigned int i, k;

	for (i = 0; i < n; i++) {
		names_split(&names[i], part);
		for (k = 0; k < N_NAMES; k++) {
			part[k] = plain_name(part[k]);
			any |= *part[k] != '\0';
			used += name_pack(part[k], &before[k],
					  to ? to + used : NULL);
		}
	}
	return any ? used : 0;
}

/* The next name at *@at, from the same one of the endpoint before. NULL: no memory. */
static const char *name_unpack(const char **at, const char *before,
			       struct arena *scratch)
{
	const size_t shared = (unsigned char)**at, length = strlen(*at + 1);
	const char *rest = *at + 1;
	char *name;

	*at += length + 2;
	/* mostly the same node's or zone's */
	if (!length && !before[shared])
		return before;
	name = arena_alloc(scratch, shared + length + 1);
	if (!name)
		return NULL;
	memcpy(name, before, shared);
	memcpy(name + shared, rest, length + 1);
	return name;
}

const struct endpoint_names *slice_names(const struct slice *slice,
					 struct arena *scratch)
{
	struct endpoint_names *names =
		arena_array(scratch, slice->n_endpoints, sizeof(*names));
	const char *before[N_NAMES] = { "", "", "" }, *at = slice->names;
	unsigned int i, k;

	for (i = 0; names && i < slice->n_endpoints; i++) {
		for (k = 0; slice->names_size && k < N_NAMES; k++) {
			before[k] = name_unpack(&at, before[k], scratch);
			if (!before[k])
				return NULL;
		}
		names[i] = (struct endpoint_names){ before[0], before[1],
						    before[2] };
	}
	return names;
}

#define DEFINE_PACK(type)                                                      \
	struct type *type##_pack(const struct type *from)                      \
	{                                                                      \
		struct packer p = { 0 };                                       \
                                                                               \
		type##_walk(&p, from);                                         \
		p.base = malloc(p.used);                                       \
		p.used = 0;                                                    \
		if (p.base)                                                    \
			type##_walk(&p, from);                                 \
		return (struct type *)(void *)p.base;                          \
	}

DEFINE_PACK(service)
DEFINE_PACK(slice)
DEFINE_PACK(service_cidr)
DEFINE_PACK(node)

void *object_pack(enum kind kind, const void *object)
{
	switch (kind) {
	case KIND_SERVICE:
		return service_pack(object);
	case KIND_SLICE:
		return slice_pack(object);
	case KIND_SERVICE_CIDR:
		return service_cidr_pack(object);
	case KIND_NODE:
		return node_pack(object);
	case N_KINDS:
		break;
	}
	return NULL;
}

int sink_put(const struct object_sink *sink, enum kind kind, void *object)
{
	switch (kind) {
	case KIND_SERVICE:
		return sink->put_service(sink->ctx, object);
	case KIND_SLICE:
		return sink->put_slice(sink->ctx, object);
	case KIND_SERVICE_CIDR:
		return sink->put_service_cidr(sink->ctx, object);
	case KIND_NODE:
		return sink->put_node(sink->ctx, object);
	case N_KINDS:
		break;
	}
	return 0;
}

/* Lists of plain bytes: addresses and prefixes have no padding. */
#define SAME_LIST(a, b)                                                        \
	((a).count == (b).count &&                                             \
	 (!(a).count ||                                                        \
	  memcmp((a).items, (b).items, (a).count * sizeof(*(a).items)) == 0))

static bool service_port_equal(const struct service_port *a,
			       const struct service_port *b)
{
	return a->port == b->port && a->node_port == b->node_port &&
	       a->protocol == b->protocol && strcmp(a->name, b->name) == 0;
}

static bool service_family_equal(const struct service *a,
				 const struct service *b, enum family f)
{
	const struct service_extra *x = service_extra(a, f),
				   *y = service_extra(b, f);

	return a->family[f].has_cluster_ip == b->family[f].has_cluster_ip &&
	       addr_compare(&a->family[f].cluster_ip, &b->family[f].cluster_ip) ==
		       0 &&
	       SAME_LIST(x->external_ips, y->external_ips) &&
	       SAME_LIST(x->load_balancer_ips, y->load_balancer_ips) &&
	       SAME_LIST(x->source_ranges, y->source_ranges);
}

bool service_equal(const struct service *a, const struct service *b)
{
	bool same = strcmp(a->namespace, b->namespace) == 0 &&
		    strcmp(a->name, b->name) == 0 && strcmp(a->uid, b->uid) == 0 &&
		    a->created_s == b->created_s && a->flags == b->flags &&
		    a->affinity_timeout_s == b->affinity_timeout_s &&
		    a->health_check_node_port == b->health_check_node_port &&
		    a->n_ports == b->n_ports;
	unsigned int i;

	for (i = 0; same && i < a->n_ports; i++)
		same = service_port_equal(&a->ports[i], &b->ports[i]);
	for (i = 0; same && i < N_FAMILIES; i++)
		same = service_family_equal(a, b, i);
	return same;
}

static bool slice_port_equal(const struct slice_port *a, const struct slice_port *b)
{
	return a->port == b->port && a->protocol == b->protocol &&
	       strcmp(a->name, b->name) == 0;
}

bool slice_equal(const struct slice *a, const struct slice *b)
{
	bool same = strcmp(a->namespace, b->namespace) == 0 &&
		    strcmp(a->name, b->name) == 0 &&
		    strcmp(a->service, b->service) == 0 &&
		    a->family == b->family && a->trigger_us == b->trigger_us &&
		    a->names_size == b->names_size && a->n_ports == b->n_ports &&
		    a->n_endpoints == b->n_endpoints &&
		    a->zones_size == b->zones_size;
	unsigned int i;

	for (i = 0; same && i < a->n_ports; i++)
		same = slice_port_equal(&a->ports[i], &b->ports[i]);
	return same &&
	       (!a->n_endpoints || memcmp(a->endpoints, b->endpoints,
					  a->n_endpoints * endpoint_size(a)) == 0) &&
	       (!a->zones_size || memcmp(a->zones, b->zones, a->zones_size) == 0) &&
	       (!a->names_size || memcmp(a->names, b->names, a->names_size) == 0);
}
