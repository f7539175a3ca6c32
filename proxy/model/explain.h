/*
 * What becomes of a packet: the service port it meets, the policy that applies,
 * and the verdict. Pure; it follows the order of verdicts VER-1 to VER-7.
 */
#ifndef MODEL_EXPLAIN_H
#define MODEL_EXPLAIN_H

#include "proxy/model/model.h"

struct explain_query {
	enum family family;
	bool any_pod; /* from some pod, whose address is not said: then there is no source */
	struct addr source, destination;
	uint8_t protocol; /* IPPROTO_ICMP stands for an echo request of either family */
	uint16_t port;
};

enum explain_source { EXPLAIN_POD, EXPLAIN_HOST, EXPLAIN_OUTSIDE };

/* Why the endpoint sees the source, or an address of this node instead. */
enum explain_source_reason {
	SOURCE_FROM_POD,
	SOURCE_NOT_FROM_POD,   /* masqueraded */
	SOURCE_PODS_UNKNOWN,   /* no range to tell pods by: kept */
	SOURCE_MASQUERADE_ALL, /* masqueraded */
	SOURCE_POLICY_CLUSTER, /* masqueraded */
	SOURCE_POLICY_LOCAL,
	SOURCE_FROM_HOST, /* masqueraded, though the policy is Local */
};

enum explain_verdict {
	EXPLAIN_DNAT,
	EXPLAIN_NOT_IN_RANGES, /* dropped: loadBalancerSourceRanges */
	EXPLAIN_NO_ENDPOINTS,  /* refused */
	EXPLAIN_PASSED,	       /* passed, as there are no endpoints (BEY-2) */
	EXPLAIN_NO_LOCAL, /* dropped: none on this node, and the policy is Local */
	EXPLAIN_NO_PORT,    /* refused: a ClusterIP, but not this port */
	EXPLAIN_NO_SERVICE, /* dropped: in a ServiceCIDR, and nobody's */
	EXPLAIN_NOT_OURS,   /* passed */
	EXPLAIN_ANSWERED,   /* by this node (BEY-4) */
	EXPLAIN_NO_PING,    /* refused: a ClusterIP (PROTO-2) */
};

struct explanation {
	enum explain_source source;
	bool by_interface; /* pods are told by interface here: the source may be a pod all the same
			    */
	enum explain_verdict verdict;
	/* NULL if no service port is met, and then nothing of the rest counts.
	   Of EXPLAIN_ANSWERED one that is alive, and no more of it */
	const struct service_port_state *port;
	const struct vip *vip;
	bool local; /* the local list applies, else the cluster list */
	enum explain_source_reason source_reason;
	bool masqueraded; /* but for endpoints that explain_keeps_source() names */
	bool may_keep; /* BEY-3: the source is in noMasqueradeCIDRs, and that counts */
};

/* All Services must be compiled: service_port_state->desired is read. */
void explain_packet(const struct model *m, const struct explain_query *query,
		    struct explanation *explanation);

/* BEY-3: whether @endpoint sees the source of a packet that would be masqueraded otherwise. */
bool explain_keeps_source(const struct model *m, const struct explain_query *query,
			  const struct explanation *explanation,
			  const struct endpoint *endpoint);

#endif
