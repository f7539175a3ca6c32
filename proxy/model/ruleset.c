/*
 * What the rules depend on, as the model and the configuration have it now.
 */
#include "proxy/model/ruleset.h"

#include "proxy/model/model_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static void interface_name(const char *from, char to[16])
{
	snprintf(to, 16, "%s", from);
}

/* BEY-4: the node's own address answers, if it is certain that this node has it. */
static void ping_rules(const struct model *m, enum family family, struct ruleset *rs)
{
	const struct addr *own = &m->info.family[family].primary;
	unsigned int i;

	rs->parts |= PART_PING_IPS;
	for (i = 0;
	     m->info.family[family].has_primary && i < m->n_local[family]; i++)
		rs->has_ping_addr |= addr_compare(&m->local[family][i], own) == 0;
	if (addr_is_loopback(family, own))
		rs->has_ping_addr = false;
	if (rs->has_ping_addr)
		rs->ping_addr = *own;
}

static bool pattern_matches(const struct interface_pattern *p, const char *name)
{
	return p->is_prefix ? strncmp(name, p->name, strlen(p->name)) == 0
			    : strcmp(name, p->name) == 0;
}

bool ruleset_is_fast(const struct ruleset *ruleset, const char *interface)
{
	unsigned int i;

	assert(ruleset->n_fast <= FAST_INTERFACES_MAX);
	for (i = 0; i < ruleset->n_fast; i++)
		if (pattern_matches(&ruleset->fast[i], interface))
			return true;
	return false;
}

/* BEY-6. What is too long or too many has been refused (config_validate()). */
static void fast_path(struct ruleset *rs, char *const *patterns)
{
	struct interface_pattern *p;
	size_t length;

	for (; patterns && *patterns && rs->n_fast < FAST_INTERFACES_MAX;
	     patterns++) {
		length = strlen(*patterns);
		p = &rs->fast[rs->n_fast++];
		p->is_prefix = length && (*patterns)[length - 1] == '*';
		length -= p->is_prefix;
		memcpy(p->name, *patterns,
		       length < sizeof(p->name) ? length : sizeof(p->name) - 1);
		rs->parts |= PART_FAST_PATH;
	}
}

void model_ruleset(const struct model *m, enum family family, struct ruleset *rs)
{
	const struct config *c = m->config;
	const struct prefix_list *pods =
		m->node ? &m->node->pod_cidrs[family] : NULL;

	assert(c->masquerade_bit < 32);
	assert(family < N_FAMILIES);
	memset(rs, 0, sizeof(*rs));
	rs->family = family;
	rs->masquerade_mark = 1u << c->masquerade_bit;
	rs->masquerade_all = c->masquerade_all;
	rs->detect_local = c->detect_local;
	if (c->family[family].n_no_masquerade)
		rs->parts |= PART_NO_MASQUERADE;
	if (c->vipmap.answer_ping)
		ping_rules(m, family, rs);
	rs->nodeports_everywhere = m->info.family[family].nodeports_everywhere;
	switch (c->detect_local) {
	case DETECT_CLUSTER_CIDR:
		rs->detect = c->family[family].has_cluster_cidr;
		rs->pod_cidr = c->family[family].cluster_cidr;
		break;
	case DETECT_NODE_CIDR:
		rs->detect = pods && pods->count;
		if (rs->detect)
			rs->pod_cidr = pods->items[0];
		break;
	case DETECT_BRIDGE_INTERFACE:
		rs->detect = true;
		interface_name(c->bridge_interface, rs->interface);
		break;
	case DETECT_INTERFACE_NAME_PREFIX:
		rs->detect = true;
		interface_name(c->interface_name_prefix, rs->interface);
		break;
	}
	if (c->vipmap.service_counters && !m->no_counters)
		rs->parts |= PART_COUNTERS;
	if (!m->no_fast_path)
		fast_path(rs, c->vipmap.fast_path_interfaces);
}
