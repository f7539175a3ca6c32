/*
 * What is wanted apart from service ports: ServiceCIDRs, the addresses of node
 * ports, and ranges whose sources are kept.
 */
#include "proxy/model/model_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

void model_globals_changed(struct model *m)
{
	unsigned int f;

	m->revision++;
	for (f = 0; f < N_FAMILIES; f++) {
		m->globals_dirty[f] = true;
		m->changes[f]++;
	}
}

void model_globals_settled(struct model *m, enum family family)
{
	m->globals_dirty[family] = false;
}

const struct cidr_entry *model_cidrs(const struct model *m)
{
	return m->cidrs;
}

static struct cidr_entry **cidr_find(struct model *m, const char *name)
{
	struct cidr_entry **at = &m->cidrs;

	while (*at && strcmp((*at)->object->name, name))
		at = &(*at)->next;
	return at;
}

int model_put_cidr(void *ctx, struct service_cidr *object)
{
	struct model *m = ctx;
	struct cidr_entry **at = cidr_find(m, object->name);

	if (!*at)
		*at = calloc(1, sizeof(**at));
	if (!*at) {
		model_log(m, LOG_ERR, "ServiceCIDR %s: out of memory",
			  object->name);
		free(object);
		return -ENOMEM;
	}
	free((*at)->object);
	(*at)->object = object;
	(*at)->epoch = m->epoch;
	model_globals_changed(m);
	return 0;
}

static void cidr_remove(struct model *m, struct cidr_entry **at)
{
	struct cidr_entry *e = *at;

	assert(e && e->object);
	*at = e->next;
	free(e->object);
	free(e);
	model_globals_changed(m);
}

void model_drop_cidr(struct model *m, const char *name)
{
	struct cidr_entry **at = cidr_find(m, name);

	if (*at)
		cidr_remove(m, at);
}

void model_drop_cidrs(struct model *m, uint64_t since)
{
	struct cidr_entry **at = &m->cidrs;

	while (*at) {
		if ((*at)->epoch < since)
			cidr_remove(m, at);
		else
			at = &(*at)->next;
	}
}

static int collect_cidrs(const struct model *m, enum family family,
			 struct arena *scratch, struct prefix **list,
			 unsigned int *count)
{
	const struct cidr_entry *e;
	unsigned int n = 0;

	for (e = m->cidrs; e; e = e->next)
		n += e->object->family[family].count;
	*list = arena_array(scratch, n, sizeof(**list));
	if (!*list)
		return -ENOMEM;
	n = 0;
	for (e = m->cidrs; e; e = e->next) {
		const struct prefix_list *from = &e->object->family[family];

		if (from->count)
			memcpy(*list + n, from->items,
			       from->count * sizeof(**list));
		n += from->count;
	}
	*count = prefixes_disjoint(*list, n);
	assert(*count <= n);
	return 0;
}

static void ranges_to_elements(struct element *items, size_t *n, enum set_id set,
			       const struct prefix *ranges, unsigned int n_ranges)
{
	unsigned int i;

	for (i = 0; i < n_ranges; i++, ++*n) {
		items[*n].set = set;
		items[*n].addr = ranges[i].addr;
		items[*n].range = ranges[i];
	}
}

int model_globals(const struct model *m, enum family family, struct arena *scratch,
		  const struct element **elements, size_t *count)
{
	const unsigned int n_ips = m->info.family[family].n_nodeport_ips;
	const struct prefix *kept = m->config->family[family].no_masquerade;
	const unsigned int n_kept = m->config->family[family].n_no_masquerade;
	struct prefix *cidrs;
	struct element *items;
	unsigned int i, n_cidrs;
	size_t n = n_ips;

	if (collect_cidrs(m, family, scratch, &cidrs, &n_cidrs))
		return -ENOMEM;
	items = arena_array(scratch, (size_t)n_ips + n_cidrs + n_kept,
			    sizeof(*items));
	if (!items)
		return -ENOMEM;
	for (i = 0; i < n_ips; i++) {
		items[i].set = SET_NODEPORT_IPS;
		items[i].addr = m->info.family[family].nodeport_ips[i];
	}
	ranges_to_elements(items, &n, SET_SERVICE_CIDRS, cidrs, n_cidrs);
	ranges_to_elements(items, &n, SET_NO_MASQUERADE, kept, n_kept);
	assert(n == (size_t)n_ips + n_cidrs + n_kept);
	*elements = items;
	*count = n;
	return 0;
}
