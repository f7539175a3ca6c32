/*
 * The vocabulary of the ruleset: which sets, maps and verdicts there are, and
 * one element of them in plain fields. The compiler makes elements, the diff
 * compares them, nft/ writes and reads them.
 */
#ifndef MODEL_ELEMENT_H
#define MODEL_ELEMENT_H

#include "proxy/base/addr.h"

/*
 * The constant sets and maps of a table. A VIP is (address, protocol, port); a
 * node port is (protocol, port). Each comment says "key" or "key : data".
 */
enum set_id {
	SET_CLUSTER_IPS,   /* cluster-ips: address */
	SET_NODEPORT_IPS,  /* nodeport-ips: address */
	SET_SERVICE_CIDRS, /* service-cidrs: range (disjoint) */
	SET_HAIRPIN, /* hairpin: address . address . protocol . port of a local endpoint */

	/* there only if the ruleset asks for them: enum table_part */
	SET_NO_MASQUERADE, /* no-masquerade-cidrs: range (disjoint) */
	SET_PING_IPS,	   /* ping-ips: address */

	MAP_SERVICE_IPS,       /* service-ips: VIP : verdict */
	MAP_SERVICE_NODEPORTS, /* service-nodeports: node port : verdict */
	MAP_FIREWALLED, /* firewalled: VIP : verdict once the source is in a range */
	MAP_CLUSTER_POLICY, /* cluster-policy: VIP : verdict of a pod or host source */
	MAP_LOCAL_POLICY, /* local-policy: VIP : verdict of an outside source */
	MAP_NODEPORT_CLUSTER_POLICY, /* nodeport-cluster-policy: node port : verdict */
	MAP_NODEPORT_LOCAL_POLICY, /* nodeport-local-policy: node port : verdict */

	/* endpoint lists: VIP or node port . index : endpoint */
	MAP_ENDPOINTS,
	MAP_LOCAL_ENDPOINTS,
	MAP_NODEPORT_ENDPOINTS,
	MAP_NODEPORT_LOCAL_ENDPOINTS,

	/* the same with session affinity: VIP or node port . index : goto the endpoint's chain */
	MAP_STICKY_ENDPOINTS,
	MAP_STICKY_LOCAL_ENDPOINTS,
	MAP_STICKY_NODEPORT_ENDPOINTS,
	MAP_STICKY_NODEPORT_LOCAL_ENDPOINTS,

	N_SETS,

	/* No constant set: each Service with loadBalancerSourceRanges has one of its own. */
	SET_SOURCE_RANGES = N_SETS, /* ranges/NAMESPACE/NAME: range (disjoint) */
	N_ELEMENT_SETS
};

/* What a pick chain does; together with the count it is the chain's identity. */
enum pick_flags {
	PICK_LOCAL = 1 << 0,	/* from the local list, else the cluster list */
	PICK_NODEPORT = 1 << 1, /* looks up by node port, else by VIP */
	PICK_STICKY =
		1 << 2, /* picks an endpoint's affinity chain, else the endpoint */
	/* at most one of: */
	PICK_CLUSTER =
		1 << 3, /* masquerades as for a ClusterIP (MASQ-1 to MASQ-3) */
	PICK_EXTERNAL = 1 << 4, /* always masquerades */
	N_PICKS = 1 << 5,
};

enum verdict_kind {
	VERDICT_NONE,
	VERDICT_DROP,
	VERDICT_REJECT, /* goto reject-chain */
	VERDICT_FIREWALL, /* goto a Service's firewall chain: name in element->chain. Source
			     ranges, then MAP_FIREWALLED */
	VERDICT_EXTERNAL_LOCAL, /* goto external-local, or
				   nodeport-external-local with PICK_NODEPORT */
	VERDICT_PICK, /* goto [cluster-|external-][sticky-][nodeport-][local-]pick-COUNT */
	VERDICT_PASS, /* accept: nothing after it is asked (BEY-2) */
	VERDICT_STICKY, /* goto an endpoint's affinity chain: name in element->chain */
};

struct verdict {
	uint8_t kind; /* enum verdict_kind */
	uint8_t pick; /* enum pick_flags, of VERDICT_PICK and VERDICT_EXTERNAL_LOCAL */
	uint32_t count; /* of VERDICT_PICK, at least 1 */
};

/* Fields that a set's key and data do not have are zero. */
struct element {
	enum set_id set;
	struct addr addr; /* VIP, address, endpoint, or start of range (constant sets) */
	struct prefix range; /* of sets of ranges */
	uint8_t protocol;    /* IPPROTO_* */
	uint16_t port;	     /* host byte order */
	uint32_t index;	     /* of endpoint lists */
	struct verdict verdict;
	struct addr endpoint; /* data of endpoint lists */
	uint16_t endpoint_port;
	uint64_t count; /* of counted sets: connections so far; no part of the data */
	const char *chain;  /* of VERDICT_STICKY and VERDICT_FIREWALL */
	const char *ranges; /* source ranges: the name of their set */
	const char *comment; /* NULL: none. Verdict maps carry namespace/name:port of the service */
};

/* What the names of a Service's own objects begin with; its namespace/name follows. */
#define RANGES_PREFIX "ranges/"
#define FIREWALL_PREFIX "firewall/"

/* Kernel name, "service-ips". */
const char *set_name(enum set_id set);
bool set_has_verdict(enum set_id set);
bool set_has_endpoint(enum set_id set); /* data is an address and a port */
bool set_has_index(enum set_id set);
bool set_is_nodeport(enum set_id set); /* key starts with the protocol */
bool set_has_range(enum set_id set);   /* key is a range */
bool set_is_shared(enum set_id set); /* several service ports may want the same element */
bool set_is_counted(enum set_id set); /* its elements count connections if asked to (BEY-5) */

/* Chain name of a VERDICT_PICK; returns @text. */
enum { PICK_NAME_SIZE = 64 };
char *pick_name(const struct verdict *pick, char *text);
/* Returns 0, or -EINVAL if @name is not a pick chain's. */
int pick_parse(const char *name, struct verdict *pick);

int element_key_compare(const struct element *a,
			const struct element *b); /* by set, then key */
bool element_data_equal(const struct element *a,
			const struct element *b); /* data and comment */

#endif
