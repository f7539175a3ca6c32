/*
 * What the rules of a table depend on besides elements, and which parts of it
 * are there.
 */
#ifndef MODEL_RULESET_H
#define MODEL_RULESET_H

#include "proxy/model/config.h"

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

#endif
