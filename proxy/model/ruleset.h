/*
 * What a table consists of besides elements, and the verbs with which a table
 * is written. A batch (netlink) and a text (--dry-run) both implement the
 * verbs, so that what is printed is what is installed.
 */
#ifndef MODEL_RULESET_H
#define MODEL_RULESET_H

#include "proxy/model/config.h"
#include "proxy/model/element.h"

/*
 * Sets and chains that are in the table only if somebody asks for what they do,
 * each with a bit of its own. The rest of the constant table is always there.
 */
enum table_part {
	PART_NO_MASQUERADE = 1 << 0, /* SET_NO_MASQUERADE */
	PART_PING_IPS = 1 << 1,	     /* SET_PING_IPS */
	PART_FAST_PATH = 1 << 2, /* the flowtable and the chains that lead to it */
	/* Not a set of its own: the maps of set_is_counted() count. It cannot be added to a table
	 */
	PART_COUNTERS = 1 << 3,
};

/* An entry of fastPath.interfaces. */
struct interface_pattern {
	char name[16];
	bool is_prefix; /* any interface whose name begins so */
};

enum { FAST_INTERFACES_MAX = 16 };

/* What the rules of the constant chains and of the pick chains depend on. */
struct ruleset {
	enum family family;
	unsigned int parts;	  /* enum table_part */
	uint32_t masquerade_mark; /* 1 << masqueradeBit */
	bool masquerade_all;
	bool detect; /* false: no local detection in this family (MASQ-3, POL-6) */
	enum detect_local_mode detect_local;
	struct prefix pod_cidr; /* DETECT_CLUSTER_CIDR, DETECT_NODE_CIDR */
	char interface[16]; /* DETECT_BRIDGE_INTERFACE: name; DETECT_INTERFACE_NAME_PREFIX: prefix
			     */
	bool nodeports_everywhere; /* node ports on all local addresses but
				      loopback, else on SET_NODEPORT_IPS */
	bool has_ping_addr; /* PART_PING_IPS: false: the kernel chooses who answers */
	struct addr ping_addr; /* of this node */
	unsigned int n_fast;   /* PART_FAST_PATH */
	struct interface_pattern fast[FAST_INTERFACES_MAX];
};

struct model;

/* Whether the fast path is for the interface of that name. */
bool ruleset_is_fast(const struct ruleset *ruleset, const char *interface);

/* As the model and the configuration have it now. */
void model_ruleset(const struct model *m, enum family family,
		   struct ruleset *ruleset);

/* One endpoint of a service port with session affinity: a chain that remembers and translates. */
struct sticky_chain {
	/* sticky/NAMESPACE/NAME/PROTOCOL/PORTNAME/ADDRESS/PORT, sticky-local/... */
	const char *name;
	const char *map; /* affinity/NAMESPACE/NAME/PROTOCOL/PORTNAME, affinity-local/... */
	struct addr endpoint;
	uint16_t port;
	uint8_t protocol; /* IPPROTO_* of the service port; not 0 */
	uint32_t timeout_s;
};

enum change { CHANGE_ADD, CHANGE_UPDATE, CHANGE_DELETE };

/*
 * @ctx is the first argument of each. Failures (memory) stick in the writer and
 * surface at its end. Order between calls does not matter within one
 * transaction: deletions of elements go before additions, objects before what
 * refers to them. All arguments are copied.
 *
 * table:    ADD makes the table, its constant sets, maps and chains with their
 * rules; UPDATE rewrites the rules of the constant chains, and makes and
 * removes parts (enum table_part) of a table that has those in @parts, to which
 * other calls do not look; DELETE removes all. DELETE followed by ADD replaces.
 * pick:     ADD makes a pick chain with its rules, UPDATE rewrites its rules,
 * DELETE removes it. affinity: the map of a service port and list (UPDATE is
 * not used). sticky:   as pick. Before Linux 6.2 DELETE of a chain needs that
 * no element of the same transaction pointed at it. ranges:   the set
 * ranges/NAMESPACE/NAME of a Service's source ranges, and the chain
 * firewall/NAMESPACE/NAME that looks into it; UPDATE rewrites the chain's
 * rules. element:  ADD or DELETE; an element whose data changes is deleted and
 * added. @owner comes back if the kernel refuses.
 */
struct writer {
	void *ctx;
	void (*table)(void *ctx, enum change change, unsigned int parts);
	void (*pick)(void *ctx, enum change change, const struct verdict *pick);
	void (*affinity)(void *ctx, enum change change, const char *name,
			 const char *comment);
	void (*sticky)(void *ctx, enum change change,
		       const struct sticky_chain *chain);
	void (*ranges)(void *ctx, enum change change, const char *set);
	void (*element)(void *ctx, enum change change,
			const struct element *element, void *owner);
};

#endif
