/* Pure derivation; whoever follows the Node object and the addresses calls it again upon a change.
 */
#include "proxy/model/node.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void primary_addresses(struct node_info *info, const struct config *config,
			      const struct node *node)
{
	unsigned int i, n = node ? node->n_addresses : 0;
	const struct node_address *a;

	for (i = 0; i < n; i++) {
		a = &node->addresses[i];
		if (info->family[a->family].has_primary)
			continue;
		info->family[a->family].has_primary = true;
		info->family[a->family].primary = a->addr;
	}
	info->primary_family = n ? node->addresses[0].family : FAMILY_IPV4;
	if (config->has_bind_addr) {
		info->primary_family = config->bind_family;
		info->family[config->bind_family].has_primary = true;
		info->family[config->bind_family].primary = config->bind_addr;
	}
}

static bool in_ranges(const struct config *config, enum family family,
		      const struct addr *addr)
{
	unsigned int i;

	assert(family < N_FAMILIES);
	if (addr_is_loopback(family, addr))
		return false;
	for (i = 0; i < config->family[family].n_nodeport_ranges; i++)
		if (prefix_contains(&config->family[family].nodeport_ranges[i], addr))
			return true;
	return false;
}

/* NP-2: a primary address that is unknown could be any. */
static bool is_everywhere(const struct node_info *info,
			  const struct config *config, enum family family)
{
	if (config_nodeports_everywhere(config, family))
		return true;
	return config->family[family].nodeport_primary &&
	       (!info->family[family].has_primary ||
		addr_is_loopback(family, &info->family[family].primary));
}

static int node_address_order(const void *a, const void *b)
{
	return addr_compare(a, b);
}

static bool addr_is_among(const struct addr *list, unsigned int n,
			  const struct addr *addr)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (addr_compare(&list[i], addr) == 0)
			return true;
	return false;
}

static int nodeport_ips(struct node_info *info, const struct config *config,
			enum family family, const struct addr_view *local)
{
	unsigned int i, n = 0;
	struct addr *ips;

	info->family[family].nodeports_everywhere =
		is_everywhere(info, config, family);
	if (info->family[family].nodeports_everywhere)
		return 0;
	ips = calloc((size_t)local->count + 1, sizeof(*ips));
	if (!ips)
		return -ENOMEM;
	for (i = 0; i < local->count; i++)
		if (in_ranges(config, family, &local->items[i]))
			ips[n++] = local->items[i];
	if (config->family[family].nodeport_primary &&
	    !addr_is_among(ips, n, &info->family[family].primary))
		ips[n++] = info->family[family].primary;
	assert(n <= local->count + 1);
	qsort(ips, n, sizeof(*ips), node_address_order);
	info->family[family].nodeport_ips = ips;
	info->family[family].n_nodeport_ips = n;
	return 0;
}

int node_info_compute(struct node_info *info, const struct config *config,
		      const struct node *node,
		      const struct addr_view local[N_FAMILIES])
{
	struct node_info fresh = { 0 };
	unsigned int f;

	primary_addresses(&fresh, config, node);
	for (f = 0; f < N_FAMILIES; f++) {
		if (nodeport_ips(&fresh, config, (enum family)f, &local[f]) == 0)
			continue;
		node_info_free(&fresh);
		return -ENOMEM;
	}
	node_info_free(info);
	*info = fresh;
	return 0;
}

void node_info_free(struct node_info *info)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		free(info->family[f].nodeport_ips);
	memset(info, 0, sizeof(*info));
}

bool node_info_equal(const struct node_info *a, const struct node_info *b)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		if (a->family[f].has_primary != b->family[f].has_primary ||
		    addr_compare(&a->family[f].primary, &b->family[f].primary) ||
		    a->family[f].nodeports_everywhere !=
			    b->family[f].nodeports_everywhere ||
		    a->family[f].n_nodeport_ips != b->family[f].n_nodeport_ips)
			return false;
		if (a->family[f].n_nodeport_ips &&
		    memcmp(a->family[f].nodeport_ips, b->family[f].nodeport_ips,
			   a->family[f].n_nodeport_ips * sizeof(struct addr)))
			return false;
	}
	return a->primary_family == b->primary_family;
}
