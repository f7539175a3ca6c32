/*
 * A dispatch is all that one service port wants of the dataplane in one family:
 * its virtual IPs, its policies and its endpoint lists. The elements of the
 * ruleset follow from it alone, so the state of the kernel is remembered as
 * dispatches, not as elements.
 */
#ifndef MODEL_DISPATCH_H
#define MODEL_DISPATCH_H

#include "proxy/model/element.h"
#include "proxy/model/select.h"

enum vip_role {
	VIP_CLUSTER_IP,
	VIP_LOAD_BALANCER,
	VIP_EXTERNAL_IP,
	VIP_NODE_PORT
};

/* The protocol is that of the dispatch. A node port has no address. */
struct vip {
	struct addr addr;
	uint16_t port;
	uint8_t role; /* enum vip_role */
};

enum dispatch_flags {
	DISPATCH_ALIVE = 1 << 0,
	DISPATCH_INTERNAL_LOCAL = 1 << 1,
	DISPATCH_EXTERNAL_LOCAL = 1 << 2,
	DISPATCH_PING = 1 << 4, /* alive, and its addresses answer ping (BEY-4) */
	DISPATCH_PASS =
		1 << 3, /* not alive, and external VIPs are not to be rejected (BEY-2) */
};

struct dispatch {
	uint8_t protocol;
	uint8_t flags;		     /* enum dispatch_flags */
	uint32_t affinity_timeout_s; /* 0: no session affinity */
	/* The ClusterIP, whose port another Service has: other ports are refused all the same */
	bool has_lost_ip;
	struct addr lost_ip;
	unsigned int n_vips, n_ranges;
	const struct vip *vips; /* sorted by vip_compare() */
	/* of the load balancer addresses; sorted, disjoint; none: open */
	const struct prefix *ranges;
	struct endpoint_list cluster,
		local; /* in the order of their indices; local only if some VIP uses it */
	const char *label; /* namespace/name:port, the elements' comment; not copied */
	const char *sticky; /* namespace/name/protocol/port, in the names of
			       affinity objects; not copied */
};

int vip_compare(const struct vip *a,
		const struct vip *b); /* by address, then port */

/* One block that the caller frees; NULL when out of memory. */
struct dispatch *dispatch_pack(const struct dispatch *dispatch);
bool dispatch_equal(const struct dispatch *a, const struct dispatch *b);

/* Whether any VIP uses the cluster (or local) list. NULL uses nothing. */
bool dispatch_uses(const struct dispatch *dispatch, bool local);
/* The same with session affinity: then there is an affinity map, and a chain per endpoint. */
bool dispatch_remembers(const struct dispatch *dispatch, bool local);
const struct endpoint_list *dispatch_list(const struct dispatch *dispatch,
					  bool local);

/* Whether what is sent there is left alone, since nobody is alive (BEY-2). */
bool vip_is_passed(const struct dispatch *dispatch, const struct vip *vip);

/* Whether some VIP lets in only the sources in @dispatch->ranges. NULL does not. */
bool dispatch_firewalled(const struct dispatch *dispatch);

/*
 * All elements, sorted by element_key_compare(), but the source ranges: they belong to the Service,
 * not to its ports. @dispatch may be NULL. Returns 0 or -ENOMEM.
 */
int dispatch_elements(const struct dispatch *dispatch, enum family family,
		      struct arena *scratch, const struct element **elements,
		      size_t *count);

/*
 * The set of a Service's source ranges, ranges/NAMESPACE/NAME, and the chain that looks into it;
 * @sticky as in struct dispatch. No port is in the names: one that is renamed keeps its ranges. In
 * @scratch, NULL when out of memory.
 */
char *ranges_set_name(const char *sticky, struct arena *scratch);

/* Names of affinity objects, see struct sticky_chain; in @scratch, NULL when out of memory. */
char *affinity_map_name(const char *sticky, bool local, struct arena *scratch);
char *sticky_chain_name(const char *sticky, bool local, enum family family,
			const struct endpoint *endpoint, struct arena *scratch);
/* The endpoint in such a name. Returns 0 or -EINVAL. */
int sticky_chain_parse(const char *name, enum family family,
		       struct endpoint *endpoint);

/* The set of an endpoint list, for a VIP or a node port. */
enum set_id list_set(bool nodeport, bool local, bool sticky);

#endif
