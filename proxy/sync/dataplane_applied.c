/*
 * After a commit: service ports become applied, and what remembers their former
 * endpoints is told: clients with session affinity, flows of conntrack.
 */
#include "proxy/sync/dataplane_internal.h"

#include "proxy/sync/spares.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

/* The first of @list from @i on that is an address of node ports, or @n. */
static size_t next_nodeport_ip(const struct element *list, size_t n, size_t i)
{
	while (i < n && list[i].set != SET_NODEPORT_IPS)
		i++;
	return i;
}

/* Node ports have been on all addresses of this node, and are on those of @list now. */
static void left_everywhere(struct dataplane *dp, const struct element *list,
			    size_t n)
{
	const struct addr_view local = model_addresses(dp->model, dp->family);
	unsigned int i;
	size_t k;

	for (i = 0; i < local.count; i++) {
		k = next_nodeport_ip(list, n, 0);
		while (k < n && addr_compare(&list[k].addr, &local.items[i]))
			k = next_nodeport_ip(list, n, k + 1);
		if (k == n)
			stale_address_removed(dp->stale, &local.items[i]);
	}
}

/*
 * An address on which node ports are offered is part of VIPs as well: flows to
 * them that were there before it was one, or go on after it, are stale (CT-1,
 * CT-5). Both lists are sorted.
 */
static void nodeport_ips_applied(struct dataplane *dp,
				 const struct element *list, size_t n)
{
	const bool everywhere = dp->ruleset.nodeports_everywhere;
	const struct element *old = dp->globals;
	const size_t n_old = dp->n_globals;
	bool changed = everywhere != dp->everywhere;
	size_t i = next_nodeport_ip(old, n_old, 0),
	       k = next_nodeport_ip(list, n, 0);
	int order;

	while (i < n_old || k < n) {
		order = i == n_old ? 1
			: k == n   ? -1
				   : addr_compare(&old[i].addr, &list[k].addr);
		changed |= order != 0;
		if (order < 0 && !everywhere)
			stale_address_removed(dp->stale, &old[i].addr);
		if (order <= 0)
			i = next_nodeport_ip(old, n_old, i + 1);
		if (order >= 0)
			k = next_nodeport_ip(list, n, k + 1);
	}
	if (dp->everywhere && !everywhere)
		left_everywhere(dp, list, n);
	dp->everywhere = everywhere;
	/* At the start all flows are looked at anyway. */
	if (changed && old)
		stale_all_changed(dp->stale);
}

int dp_globals_applied(struct dataplane *dp, const struct element *list, size_t n)
{
	struct element *copy = calloc(n + 1, sizeof(*copy));

	assert(list || !n);
	if (!copy)
		return -ENOMEM;
	if (n)
		memcpy(copy, list, n * sizeof(*copy));
	if (dp->stale)
		nodeport_ips_applied(dp, list, n);
	free(dp->globals);
	dp->globals = copy;
	dp->n_globals = n;
	return 0;
}

static bool list_holds(const struct endpoint_list *list, const struct endpoint *ep)
{
	unsigned int i;

	for (i = 0; i < list->count; i++)
		if (endpoint_list_has_at(list, i, ep))
			return true;
	return false;
}

/* What stays keeps its index, so most of it is found at once. */
static bool list_lost(const struct endpoint_list *old,
		      const struct endpoint_list *new)
{
	struct endpoint ep;
	unsigned int i;

	for (i = 0; i < old->count; i++) {
		ep = endpoint_list_at(old, i);
		if (!endpoint_list_has_at(new, i, &ep) && !list_holds(new, &ep))
			return true;
	}
	return false;
}

/*
 * AFF-4, AFF-5: clients must not be sent to an endpoint that has left the list. A failure is not
 * worth failing the sync for: the whole table is read back, and this is done again, soon. Without
 * @keep nobody is kept: the Service is gone, or all of its endpoints are, and may come back.
 */
static void purge_clients(struct dataplane *dp, const struct dispatch *p,
			  bool local, bool keep)
{
	static const struct endpoint_list nobody;
	const char *map = affinity_map_name(p->sticky, local, &dp->brief);

	assert(p->sticky && dp->purges);
	if (!map || purges_add(dp->purges, map, p->label,
			       keep ? dispatch_list(p, local) : &nobody)) {
		model_log(dp->model, LOG_WARNING,
			  "Service %s: clients of former endpoints: out of memory",
			  p->label);
		dp->known = false;
	}
	arena_reset(&dp->brief);
}

bool dataplane_purge(struct dataplane *dp, int64_t budget_us)
{
	const int64_t until_us =
		budget_us == INT64_MAX
			? INT64_MAX
			: clock_monotonic_us(dp->clock) + budget_us;
	struct errbuf eb;
	int more;

	do {
		more = purges_run(dp->purges, until_us, &eb);
		if (more < 0) {
			model_log(dp->model, LOG_WARNING, "%s", eb.text);
			dp->known = false;
		}
	} while (more < 0);
	return more;
}

bool dataplane_is_purging(const struct dataplane *dp)
{
	return purges_pending(dp->purges);
}

static void purge_after(struct dataplane *dp, const struct dispatch *from,
			const struct dispatch *to, bool all)
{
	int local;

	for (local = 0; local < 2; local++) {
		const bool before = dispatch_remembers(from, local);

		if (!dispatch_remembers(to, local)) {
			if (before)
				purge_clients(dp, from, local, false);
		} else if (all || !before ||
			   list_lost(dispatch_list(from, local),
				     dispatch_list(to, local))) {
			purge_clients(dp, to, local, true);
		}
	}
}

static bool has_vip(const struct dispatch *p, const struct vip *vip)
{
	unsigned int i;

	for (i = 0; p && i < p->n_vips; i++)
		if (vip_compare(&p->vips[i], vip) == 0)
			return true;
	return false;
}

static void flows_changed(struct dataplane *dp, struct service_port_state *port,
			  const struct dispatch *from, const struct dispatch *to)
{
	unsigned int i;

	if (port->protocol == IPPROTO_TCP && dp->closing &&
	    port->flows_touched && to)
		stale_port_changed(dp->closing, port, from, to);
	if (!dp->stale || port->protocol != IPPROTO_UDP)
		return;
	stale_port_changed(dp->stale, port, from, to);
	for (i = 0; from && i < from->n_vips; i++)
		if (!has_vip(to, &from->vips[i]))
			stale_vip_removed(dp->stale, &from->vips[i]);
}

static bool has_external_vip(const struct dispatch *p)
{
	unsigned int i;

	for (i = 0; i < p->n_vips; i++)
		if (p->vips[i].role != VIP_CLUSTER_IP)
			return true;
	return false;
}

/* MET-3 speaks of service ports that are alive and have nobody here for a policy Local. */
static void gauges_count(struct dataplane_gauges *g, const struct dispatch *p,
			 unsigned int by)
{
	const bool lonely = p && (p->flags & DISPATCH_ALIVE) && !p->local.count;

	if (!p || !p->n_vips)
		return;
	assert(by == 1 || g->service_ports);
	assert(by == 1 || g->endpoints >= spares_weight(p));
	g->service_ports += by;
	g->endpoints += by * spares_weight(p);
	if (lonely && (p->flags & DISPATCH_INTERNAL_LOCAL))
		g->no_local[0] += by;
	if (lonely && (p->flags & DISPATCH_EXTERNAL_LOCAL) && has_external_vip(p))
		g->no_local[1] += by;
}

/* What was set aside has nothing in the kernel any more, if it was dropped. */
static void port_dropped(struct dataplane *dp, struct service_port_state *p)
{
	if (!p->dropped)
		return;
	gauges_count(&dp->gauges, p->applied, -1u);
	if (!p->desired_is_applied)
		free(p->applied);
	p->applied = NULL;
	p->desired_is_applied = !p->desired;
}

void dp_port_applied(struct dataplane *dp, struct service_port_state *p, bool full)
{
	struct dispatch *old = p->applied;

	assert(!p->desired_is_applied || p->desired == p->applied);
	if (dp_is_aside(dp, p)) {
		port_dropped(dp, p);
		return;
	}
	purge_after(dp, old, p->desired, full);
	if (!p->desired_is_applied || p->flows_touched)
		flows_changed(dp, p, old, p->desired);
	p->flows_touched = false;
	if (!p->desired_is_applied) {
		if (dp->port_changed)
			dp->port_changed(dp->bulk_ctx, dp->family, p, old,
					 p->desired);
		gauges_count(&dp->gauges, old, -1u);
		gauges_count(&dp->gauges, p->desired, 1);
		p->applied = p->desired;
		p->desired_is_applied = true;
		free(old);
	}
	assert(p->desired_is_applied && p->desired == p->applied);
	p->refusals = 0;
	p->dropped = false;
}

/* A VIP that was in the kernel and that nobody wants: it went while we were away (CT-5). */
static void vip_unseen(void *ctx, const struct element *el)
{
	struct dataplane *dp = ctx;
	const struct vip vip = {
		.addr = el->addr,
		.port = el->port,
		.role = el->set == MAP_SERVICE_NODEPORTS ? VIP_NODE_PORT
							 : VIP_EXTERNAL_IP,
	};

	assert(dp->stale);
	if (el->set == SET_NODEPORT_IPS)
		stale_address_removed(dp->stale, &el->addr);
	if (el->protocol == IPPROTO_UDP &&
	    (el->set == MAP_SERVICE_IPS || el->set == MAP_SERVICE_NODEPORTS))
		stale_vip_removed(dp->stale, &vip);
}

void dp_unseen_applied(struct dataplane *dp, struct snapshot *snapshot)
{
	if (dp->stale)
		snapshot_each_unseen(snapshot, vip_unseen, dp);
}
