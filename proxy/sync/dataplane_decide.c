/*
 * Deciding: the services that are dirty are compiled, and those that differ from what the kernel
 * has come into a list of changes. Also what is wanted apart from service ports.
 */
#include "proxy/sync/dataplane_internal.h"

#include "proxy/base/array.h"
#include "proxy/model/compile.h"
#include "proxy/sync/spares.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

enum { CONFLICTS_TOLD = 8 }; /* of a Service, each time that it is compiled */

void dp_changed_begin(struct dataplane *dp)
{
	dp->n_changed = 0;
	dp->round++;
}

/*
 * A Service may be compiled twice: what memory ran out over is taken up at its
 * turn, and then marks rivals that had theirs.
 */
static int changed_add(struct dataplane *dp, struct service_port_state *port)
{
	if (port->changed_in == dp->round)
		return 0;
	if (array_grow(dp->changed, dp->n_changed, dp->changed_room))
		return -ENOMEM;
	dp->changed[dp->n_changed++] = port;
	port->changed_in = dp->round;
	return 0;
}

static int compile_one(struct dataplane *dp, struct service_port_state *port,
		       const struct snapshot *snapshot)
{
	struct kernel_order order;
	const struct vip *vips;
	unsigned int n;
	int err;

	if (!snapshot || port->applied)
		return compile_port(dp->model, dp->family, port, NULL, &dp->brief);
	err = compile_vips(dp->model, dp->family, port, &dp->brief, &vips, &n);
	if (!err)
		err = snapshot_order(snapshot, vips, n, port->protocol,
				     &dp->brief, &order);
	if (!err)
		err = compile_port(dp->model, dp->family, port, &order, &dp->brief);
	return err;
}

static void tell_conflict(const struct dataplane *dp,
			  const struct service_port_state *port,
			  const struct claim *c)
{
	const bool nodeport = c->vip.role == VIP_NODE_PORT;
	const struct service_port_state *winner = model_vip_owner(
		dp->model, dp->family, nodeport ? NULL : &c->vip.addr,
		port->protocol, c->vip.port);
	char addr[ADDR_TEXT_SIZE];

	model_log(dp->model, LOG_WARNING,
		  "Service %s: %s%s port %u/%s is taken by Service %s",
		  port->label, nodeport ? "node" : "",
		  nodeport ? "" : addr_format(dp->family, &c->vip.addr, addr),
		  c->vip.port, protocol_name(port->protocol),
		  winner ? winner->label : "?");
}

/*
 * SVC-11: said once, until the claim wins or goes. Whoever may make Services
 * can have one lose thousands; then a few are named, and the others counted.
 * @told goes on from port to port of the Service.
 */
static void report_conflicts(struct dataplane *dp,
			     struct service_port_state *port, unsigned int *told)
{
	struct claim *c;
	unsigned int i;
	bool lost;

	for (i = 0; i < port->n_claims; i++) {
		c = &port->claims[i];
		lost = !claim_wins(dp->model, dp->family, c);
		if (lost && !c->lost && ++*told <= CONFLICTS_TOLD)
			tell_conflict(dp, port, c);
		claim_set_lost(dp->model, dp->family, c, lost);
	}
}

static void report_more_conflicts(const struct dataplane *dp,
				  const struct service_entry *s, unsigned int told)
{
	if (told > CONFLICTS_TOLD)
		model_log(dp->model, LOG_WARNING,
			  "Service %s/%s: %u more of its %s virtual IPs are taken by other Services",
			  s->namespace, s->name, told - CONFLICTS_TOLD,
			  family_name(dp->family));
}

/*
 * Endpoints may cease to serve without any change of the dispatch: those that
 * were draining are on no list while others are ready. So UDP flows are looked
 * at after each compilation (CT-2, CT-6), TCP connections after one that may
 * have left some without their endpoint (BEY-1).
 */
static bool has_flows(const struct dataplane *dp,
		      const struct service_port_state *p)
{
	const struct service_entry *s = p->service;

	if (p->protocol == IPPROTO_UDP)
		return dp->stale && (p->applied || p->desired);
	return p->protocol == IPPROTO_TCP && dp->closing && p->desired &&
	       (!p->applied || s->endpoints_left[dp->family]) &&
	       model_closes_connections(dp->model, s);
}

static int compile_service(struct dataplane *dp, struct service_entry *s,
			   const struct snapshot *snapshot,
			   struct sync_report *report)
{
	struct service_port_state *p;
	unsigned int told = 0;
	int err = model_settle(dp->model, s, dp->family);

	if (!err && dp->compiled)
		dp->compiled(dp->ctx, s, dp->family);
	for (p = s->ports[dp->family]; !err && p; p = p->next) {
		err = compile_one(dp, p, snapshot);
		arena_reset(&dp->brief);
		if (!err && has_flows(dp, p))
			p->flows_touched = true;
		if (!err && (!p->desired_is_applied || p->flows_touched))
			err = changed_add(dp, p);
		if (err)
			break;
		p->retry_us = dp->now_us; /* another dispatch, another chance */
		report_conflicts(dp, p, &told);
		report->services++;
	}
	report_more_conflicts(dp, s, told);
	if (!err)
		s->endpoints_left[dp->family] = false;
	return err;
}

/* A port may be without any dispatch and yet be looked at in this round, for its UDP flows. */
static bool has_changed(const struct dataplane *dp, const struct service_entry *s)
{
	const struct service_port_state *p;

	for (p = s->ports[dp->family]; p; p = p->next)
		if (p->changed_in == dp->round)
			return true;
	return false;
}

int dp_compile_dirty(struct dataplane *dp, const struct snapshot *snapshot,
		     struct sync_report *report)
{
	struct service_entry *s;
	int err = 0;

	while (!err && (s = model_take_dirty(dp->model, dp->family))) {
		err = compile_service(dp, s, snapshot, report);
		if (err)
			model_mark(dp->model, s, dp->family);
		else if ((!s->ports[dp->family] || !s->object) &&
			 !has_changed(dp, s))
			model_prune(dp->model, s);
	}
	return err;
}

struct kept_ranges {
	const struct element *wanted;
	size_t n_wanted;
	struct element *list; /* NULL: only counted */
	size_t count;
};

static bool ranges_overlap(const struct prefix *a, const struct prefix *b)
{
	return prefix_contains(a, &b->addr) || prefix_contains(b, &a->addr);
}

static void keep_range(void *ctx, const struct element *el)
{
	struct kept_ranges *kept = ctx;
	size_t i;

	if (el->set != SET_SERVICE_CIDRS)
		return;
	for (i = 0; i < kept->n_wanted; i++)
		if (kept->wanted[i].set == SET_SERVICE_CIDRS &&
		    ranges_overlap(&kept->wanted[i].range, &el->range))
			return;
	if (kept->list)
		kept->list[kept->count] = *el;
	kept->count++;
}

static void each_range(const struct dataplane *dp, struct snapshot *snapshot,
		       struct kept_ranges *kept)
{
	size_t i;

	kept->count = kept->n_wanted;
	if (snapshot)
		snapshot_each_unseen(snapshot, keep_range, kept);
	for (i = 0; !snapshot && i < dp->n_globals; i++)
		keep_range(kept, &dp->globals[i]);
}

static int key_order(const void *a, const void *b)
{
	return element_key_compare(a, b);
}

/*
 * Until ServiceCIDRs are listed, the ranges that the table has from an earlier
 * run stay: their list may come later than the others, or not at all (API-8).
 */
int dp_wanted_globals(struct dataplane *dp, struct snapshot *snapshot,
		      const struct element **list, size_t *count)
{
	struct kept_ranges kept = { 0 };
	size_t n;
	int err = model_globals(dp->model, dp->family, &dp->scratch, list, count);

	if (err || model_has_list(dp->model, KIND_SERVICE_CIDR))
		return err;
	kept.wanted = *list;
	kept.n_wanted = *count;
	if (snapshot)
		snapshot_unsee(snapshot);
	each_range(dp, snapshot, &kept);
	n = kept.count;
	assert(n >= *count);
	if (n == *count)
		return 0;
	kept.list = arena_array(&dp->scratch, n, sizeof(*kept.list));
	if (!kept.list)
		return -ENOMEM;
	memcpy(kept.list, *list, *count * sizeof(**list));
	each_range(dp, snapshot, &kept);
	assert(kept.count == n);
	qsort(kept.list, kept.count, sizeof(*kept.list), key_order);
	*list = kept.list;
	*count = kept.count;
	return 0;
}

int dp_all_ports(struct dataplane *dp, struct service_port_state ***ports,
		 unsigned int *count)
{
	struct service_port_state *p;
	struct service_entry *s;
	unsigned int n = 0;

	for_each_service_entry (s, dp->model)
		for (p = s->ports[dp->family]; p; p = p->next)
			n++;
	*ports = arena_array(&dp->scratch, n, sizeof(**ports));
	if (!*ports)
		return -ENOMEM;
	*count = 0;
	for_each_service_entry (s, dp->model)
		for (p = s->ports[dp->family]; p; p = p->next)
			(*ports)[(*count)++] = p;
	assert(*count == n);
	return 0;
}

struct port_list {
	const struct dataplane *dp;
	struct service_port_state **ports;
};

static const struct dispatch *listed_target(void *ctx, unsigned int i)
{
	const struct port_list *list = ctx;

	return dp_target(list->dp, list->ports[i]);
}

int dp_want_spares(struct dataplane *dp, struct service_port_state **ports,
		   unsigned int n)
{
	struct port_list list = { dp, ports };

	assert(ports || !n);
	return spares_want(&dp->registry, listed_target, &list, n, dp->family,
			   &dp->brief, dp->now_us);
}
