/*
 * The Kubernetes objects that matter to a node proxy, decoded to plain structs:
 * what watch/ produces and the model keeps. Each is one block of memory that
 * its owner releases with free().
 *
 * A decoder fills such a struct on its own scratch memory and has a *_pack()
 * call copy it, with all that it points to, into one block.
 */
#ifndef MODEL_OBJECTS_H
#define MODEL_OBJECTS_H

#include "proxy/base/addr.h"
#include "proxy/base/arena.h"

enum kind { KIND_SERVICE, KIND_SLICE, KIND_SERVICE_CIDR, KIND_NODE, N_KINDS };

const char *kind_name(enum kind kind); /* "Service", "EndpointSlice", ... */

struct addr_list {
	unsigned int count;
	const struct addr *items;
};

struct prefix_list {
	unsigned int count;
	const struct prefix *items;
};

/* Service v1, spec.ports[] */
struct service_port {
	const char *name; /* "" if unnamed */
	uint16_t port;
	uint16_t node_port; /* 0: none */
	uint8_t protocol;   /* IPPROTO_* */
};

enum service_flags {
	/* spec.type ExternalName, or clusterIP None or empty: nothing is programmed (SVC-1, SVC-2)
	 */
	SERVICE_IGNORED = 1 << 0,
	SERVICE_LOAD_BALANCER = 1 << 1,	 /* spec.type */
	SERVICE_INTERNAL_LOCAL = 1 << 2, /* spec.internalTrafficPolicy */
	SERVICE_EXTERNAL_LOCAL =
		1 << 3, /* spec.externalTrafficPolicy, where it counts (POL-3) */
	SERVICE_NODE_PORT = 1 << 4, /* spec.type; shown only, as is the next */
	SERVICE_EXTERNAL_NAME = 1 << 5,
	/* BEY-1: the annotation, if there is one with a word that is known */
	SERVICE_CLOSE_NEVER = 1 << 6,
	SERVICE_CLOSE_GONE = 1 << 7,
	/* annotation vipmap/no-endpoints (BEY-2); neither: the setting counts */
	SERVICE_PASS = 1 << 8,
	SERVICE_NO_PASS = 1 << 9,
};

/* Addresses beside the ClusterIP, in one family; most Services have none. */
struct service_extra {
	struct addr_list external_ips; /* spec.externalIPs */
	/* status.loadBalancer.ingress[], ipMode VIP or unset */
	struct addr_list load_balancer_ips;
	struct prefix_list source_ranges; /* spec.loadBalancerSourceRanges, usable ones */
};

struct service {
	const char *namespace, *name;
	const char *uid; /* "" if absent; names the object in events */
	int64_t created_s; /* metadata.creationTimestamp, seconds since 1970; INT64_MAX if absent */
	unsigned int flags;	     /* enum service_flags */
	uint32_t affinity_timeout_s; /* sessionAffinity ClientIP; 0: none */
	uint16_t health_check_node_port;
	unsigned int n_ports;
	const struct service_port *ports;
	struct {
		bool has_cluster_ip;
		struct addr cluster_ip;
		const struct service_extra *extra; /* NULL: none; see service_extra() */
	} family[N_FAMILIES];
};

/* Empty lists where there are none. */
const struct service_extra *service_extra(const struct service *service,
					  enum family family);

/* EndpointSlice discovery.k8s.io/v1, ports[] with a name, a known protocol and a number */
struct slice_port {
	const char *name; /* "" if unnamed */
	uint16_t port;
	uint8_t protocol;
};

enum endpoint_flags {
	ENDPOINT_READY = 1 << 0,       /* conditions.ready, default true */
	ENDPOINT_SERVING = 1 << 1,     /* conditions.serving, default true */
	ENDPOINT_TERMINATING = 1 << 2, /* conditions.terminating */
	ENDPOINT_LOCAL = 1 << 3,       /* nodeName is this node */
	ENDPOINT_NODE_HINTS = 1 << 4,  /* hints.forNodes is not empty */
	ENDPOINT_NODE_HINTED = 1 << 5, /* ... and names this node */
	ENDPOINT_ZONE_HINTS = 1 << 6, /* hints.forZones is not empty: see zones */
};

/* A value: slices hold them packed, as there are more of them than of anything else. */
struct slice_endpoint {
	struct addr addr; /* addresses[0] */
	uint32_t zones;	  /* offset into slice->zones of a list of names, each
			     ended by NUL, the list   by an empty one */
	uint8_t flags;	  /* enum endpoint_flags */
};

/* Who an endpoint is, for people only; "" where that is not known. */
struct endpoint_names {
	const char *pod; /* targetRef, of kind Pod */
	const char *node, *zone;
};

struct slice {
	const char *namespace, *name;
	const char *service; /* label kubernetes.io/service-name; never empty */
	enum family family;  /* addressType */
	int64_t trigger_us; /* annotation endpoints.kubernetes.io/last-change-trigger-time, since
			       1970; 0: none */
	unsigned int n_ports, n_endpoints;
	const struct slice_port *ports;
	const uint8_t *endpoints; /* see endpoints_pack() */
	const char *zones;
	uint32_t zones_size; /* bytes in zones */
	uint32_t names_size; /* bytes in names; 0: nothing is known */
	const char *names;   /* see names_pack() */
};

/*
 * The endpoints of @slice, whose family, n_endpoints and zones_size are set:
 * each one's flags and address, in the size of the family, and where the slice
 * has zones the offset of its own. Returns the size; with @to NULL nothing is
 * written.
 */
size_t endpoints_pack(const struct slice *slice,
		      const struct slice_endpoint *endpoints, uint8_t *to);
struct slice_endpoint slice_endpoint(const struct slice *slice, unsigned int i);
/* The same as slice_endpoint(slice, i).flags. */
uint8_t slice_endpoint_flags(const struct slice *slice, unsigned int i);

/*
 * The names of @n endpoints, one after the other: each name as the number of
 * bytes that it begins with as the same one of the endpoint before, then the
 * others and a NUL. Names that are too long for that, and ones that are not
 * plain ASCII, are left out. Returns the size; with @to NULL nothing is
 * written. 0: there is no name at all.
 */
size_t names_pack(const struct endpoint_names *names, unsigned int n, char *to);
/* Those of a slice's endpoints, in order, in @scratch; NULL when out of memory. */
const struct endpoint_names *slice_names(const struct slice *slice,
					 struct arena *scratch);

struct service_cidr {
	const char *name;
	struct prefix_list family[N_FAMILIES]; /* spec.cidrs */
};

struct node_address {
	enum family family;
	struct addr addr;
};

enum node_flags {
	NODE_DELETED = 1 << 0, /* metadata.deletionTimestamp is set */
	NODE_TO_BE_DELETED =
		1 << 1, /* taint ToBeDeletedByClusterAutoscaler (HZ-4) */
};

struct node {
	const char *name;
	const char *uid;
	const char *zone; /* label topology.kubernetes.io/zone, "" if absent */
	unsigned int flags;
	unsigned int n_addresses; /* all InternalIPs in order, then all ExternalIPs (NODE-2) */
	const struct node_address *addresses;
	struct prefix_list pod_cidrs[N_FAMILIES]; /* spec.podCIDRs, in order */
};

/* Copies into one block; NULL when out of memory. The caller owns it. */
struct service *service_pack(const struct service *service);
struct slice *slice_pack(const struct slice *slice);
struct service_cidr *service_cidr_pack(const struct service_cidr *cidr);
struct node *node_pack(const struct node *node);
void *object_pack(enum kind kind, const void *object);

/* Whether nothing that we look at differs. */
bool service_equal(const struct service *a, const struct service *b);
bool slice_equal(const struct slice *a, const struct slice *b);

/*
 * Where objects go. put_* take the object over and return 0, or -ENOMEM: then
 * it is as if the object had not come, an older one of the name stays, and
 * whoever has it puts it again. A complete list is bracketed by list_begin()
 * and list_end(): what existed before and was not put in between has vanished.
 * A list that breaks off is simply begun again. Objects of a name not known to
 * @gone are ignored.
 */
struct object_sink {
	void *ctx;
	int (*put_service)(void *ctx, struct service *service);
	int (*put_slice)(void *ctx, struct slice *slice);
	int (*put_service_cidr)(void *ctx, struct service_cidr *cidr);
	int (*put_node)(void *ctx, struct node *node);
	/* @namespace is "" for ServiceCIDR and Node */
	void (*gone)(void *ctx, enum kind kind, const char *namespace,
		     const char *name);
	void (*list_begin)(void *ctx, enum kind kind);
	void (*list_end)(void *ctx, enum kind kind);
	/* A bad object or field: one line, naming kind, namespace/name and field. To be logged. */
	void (*complain)(void *ctx, const char *message);
};

/* The put_*() of its kind. */
int sink_put(const struct object_sink *sink, enum kind kind, void *object);

#endif
