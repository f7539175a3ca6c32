/*
 * What follows from the Node, the addresses of the machine and the configuration: when one of them
 * changes, the Services that depend on it become dirty, and only those.
 */
#include "proxy/model/model_internal.h"

#include "proxy/model/ruleset.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

static bool has_zone_hints(const struct service_entry *s, enum family family)
{
	const struct slice_entry *e;

	for (e = s->slices; e; e = e->next)
		if (e->object->family == family && e->object->zones_size)
			return true;
	return false;
}

/* What depends on the node: the zone decides on hints, the primary address on source ranges (LB-5).
 */
static void mark_dependents(struct model *m, bool zone, bool addresses)
{
	struct service_entry *s;
	unsigned int f;

	for_each_service_entry (s, m) {
		for (f = 0; f < N_FAMILIES; f++)
			if (s->object && s->ports[f] &&
			    ((zone && has_zone_hints(s, (enum family)f)) ||
			     (addresses &&
			      service_extra(s->object, f)->source_ranges.count)))
				model_mark(m, s, (enum family)f);
	}
}

struct local_addresses {
	struct addr_view family[N_FAMILIES];
};

static struct local_addresses local_addresses(const struct model *m)
{
	struct local_addresses local;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		local.family[f] = model_addresses(m, (enum family)f);
	return local;
}

/* Takes over @info, and marks what depends on it. */
static void take_node_info(struct model *m, struct node_info *info)
{
	assert(info != &m->info);
	m->info_is_old = false;
	if (node_info_equal(info, &m->info)) {
		node_info_free(info);
		return;
	}
	node_info_free(&m->info);
	m->info = *info;
	model_globals_changed(m);
	mark_dependents(m, false, true);
}

int model_refresh_node(struct model *m)
{
	struct node_info info = { 0 };

	if (node_info_compute(&info, m->config, m->node, local_addresses(m).family)) {
		model_log(m, LOG_ERR, "Node: out of memory");
		m->info_is_old = true;
		model_globals_changed(m);
		return -ENOMEM;
	}
	take_node_info(m, &info);
	return 0;
}

int model_catch_up(struct model *m)
{
	return m->info_is_old ? model_refresh_node(m) : 0;
}

const struct node *model_node(const struct model *m)
{
	return m->node;
}

const struct node_info *model_node_info(const struct model *m)
{
	return &m->info;
}

struct addr_view model_addresses(const struct model *m, enum family family)
{
	return (struct addr_view){ m->local[family], m->n_local[family] };
}

void model_allow_fast_path(struct model *m, bool allow)
{
	m->no_fast_path = !allow;
}

void model_allow_counters(struct model *m, bool allow)
{
	m->no_counters = !allow;
}

const char *model_zone(const struct model *m)
{
	return m->node ? m->node->zone : "";
}

static const struct prefix *pod_cidr(const struct node *node, unsigned int family)
{
	return node && node->pod_cidrs[family].count
		       ? &node->pod_cidrs[family].items[0]
		       : NULL;
}

/* NODE-3: the rules may depend on them. */
static bool pod_cidrs_differ(const struct node *a, const struct node *b)
{
	const struct prefix *pa, *pb;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		pa = pod_cidr(a, f);
		pb = pod_cidr(b, f);
		if (!pa != !pb || (pa && prefix_compare(pa, pb)))
			return true;
	}
	return false;
}

void model_set_node(struct model *m, struct node *node)
{
	struct node *old = m->node;
	const bool zone =
		strcmp(old ? old->zone : "", node ? node->zone : "") != 0;

	assert(!node || node != old);
	m->node = node;
	if (pod_cidrs_differ(old, node))
		model_globals_changed(m);
	model_refresh_node(m);
	free(old);
	if (zone)
		mark_dependents(m, true, false);
}

int model_put_node(void *ctx, struct node *node)
{
	struct model *m = ctx;

	m->node_epoch = m->epoch;
	model_set_node(m, node);
	return 0;
}

int model_set_addresses(struct model *m, enum family family,
			const struct addr *list, unsigned int count)
{
	struct addr *copy = calloc((size_t)count + 1, sizeof(*copy));

	assert(list || !count);
	if (!copy)
		return -ENOMEM;
	if (count)
		memcpy(copy, list, count * sizeof(*copy));
	free(m->local[family]);
	m->local[family] = copy;
	m->n_local[family] = count;
	model_refresh_node(m);
	return 0;
}

/* SVC-10: whether external IPs count is another answer now. */
static void refresh_external_ips(struct model *m)
{
	struct service_entry *s;
	unsigned int f;

	for_each_service_entry (s, m) {
		for (f = 0; s->object && f < N_FAMILIES; f++) {
			if (!service_extra(s->object, f)->external_ips.count ||
			    !s->ports[f])
				continue;
			/* brought in by model_settle(), before the Service is compiled */
			s->unfinished[f] =
				model_refresh_service(m, s, (enum family)f,
						      false) != 0;
			model_mark(m, s, (enum family)f);
		}
	}
}

/* BEY-2: what becomes of external VIPs of service ports that are not alive. */
static void mark_external_vips(struct model *m)
{
	struct service_entry *s;
	unsigned int f;

	for_each_service_entry (s, m) {
		for (f = 0; s->object && f < N_FAMILIES; f++)
			if (s->ports[f] &&
			    (service_extra(s->object, f)->external_ips.count ||
			     service_extra(s->object, f)->load_balancer_ips.count))
				model_mark(m, s, (enum family)f);
	}
}

/* BEY-4: all that is alive. */
static void mark_all_services(struct model *m)
{
	struct service_entry *s;
	unsigned int f;

	for_each_service_entry (s, m) {
		for (f = 0; s->object && f < N_FAMILIES; f++)
			if (s->ports[f])
				model_mark(m, s, (enum family)f);
	}
}

/* BEY-3 */
static bool kept_sources_differ(const struct config *a, const struct config *b,
				enum family family)
{
	const unsigned int n = a->family[family].n_no_masquerade;
	unsigned int i;

	if (n != b->family[family].n_no_masquerade)
		return true;
	for (i = 0; i < n; i++)
		if (prefix_compare(&a->family[family].no_masquerade[i],
				   &b->family[family].no_masquerade[i]))
			return true;
	return false;
}

int model_set_config(struct model *m, const struct config *config,
		     bool rules[N_FAMILIES])
{
	const bool external_ips =
		config->allow_external_ips != m->config->allow_external_ips;
	const bool ping =
		config->vipmap.answer_ping != m->config->vipmap.answer_ping;
	const bool pass = config->pass_without_endpoints !=
			  m->config->pass_without_endpoints;
	struct ruleset before[N_FAMILIES], after;
	struct node_info info = { 0 };
	bool ranges[N_FAMILIES];
	unsigned int f;

	if (node_info_compute(&info, config, m->node, local_addresses(m).family))
		return -ENOMEM;
	for (f = 0; f < N_FAMILIES; f++) {
		model_ruleset(m, (enum family)f, &before[f]);
		ranges[f] = kept_sources_differ(config, m->config, (enum family)f);
	}
	m->config = config;
	take_node_info(m, &info);
	if (external_ips)
		refresh_external_ips(m);
	if (pass)
		mark_external_vips(m);
	if (ping)
		mark_all_services(m);
	for (f = 0; f < N_FAMILIES; f++) {
		model_ruleset(m, (enum family)f, &after);
		rules[f] = memcmp(&before[f], &after, sizeof(after)) != 0;
		if (!rules[f] && !ranges[f])
			continue;
		m->revision++;
		m->changes[f]++;
		m->globals_dirty[f] =
			true; /* for a sync to look at the rules and ranges */
	}
	return 0;
}
