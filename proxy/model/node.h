/*
 * What this node is, as far as rules depend on it: derived from the Node
 * object, the configuration and the addresses of the network namespace.
 */
#ifndef MODEL_NODE_H
#define MODEL_NODE_H

#include "proxy/model/config.h"
#include "proxy/model/objects.h"

struct node_info {
	enum family primary_family; /* DS-2 */
	struct {
		bool has_primary; /* false: unknown (NODE-2) */
		struct addr primary;
		bool nodeports_everywhere; /* on all local addresses but loopback (NP-2) */
		unsigned int n_nodeport_ips;
		struct addr *nodeport_ips; /* sorted; none if everywhere */
	} family[N_FAMILIES];
};

struct addr_view {
	const struct addr *items;
	unsigned int count;
};

/*
 * @node may be NULL (unknown). @local are the addresses of this node per
 * family. Overwrites @info, whose arrays were NULL or from an earlier call.
 * Returns 0 or -ENOMEM, then @info is unchanged.
 */
int node_info_compute(struct node_info *info, const struct config *config,
		      const struct node *node,
		      const struct addr_view local[N_FAMILIES]);
void node_info_free(struct node_info *info);
bool node_info_equal(const struct node_info *a, const struct node_info *b);

#endif
