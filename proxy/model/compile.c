/*
 * Compilation reads the model and writes nothing but the desired dispatch. A dispatch that turns
 * out equal to the applied one is not kept twice: at rest each service port owns one.
 */
#include "proxy/model/compile.h"

#include "proxy/model/model_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int compile_vips(const struct model *m, enum family family,
		 const struct service_port_state *port, struct arena *scratch,
		 const struct vip **vips, unsigned int *count)
{
	struct vip *won = arena_array(scratch, port->n_claims, sizeof(*won));
	unsigned int i, n = 0;

	assert(port->claims || !port->n_claims);
	if (!won)
		return -ENOMEM;
	for (i = 0; i < port->n_claims; i++)
		if (claim_wins(m, family, &port->claims[i]))
			won[n++] = port->claims[i].vip;
	*vips = won;
	*count = n;
	return 0;
}

static int slices_of(const struct service_entry *service, struct arena *scratch,
		     const struct slice *const **slices, unsigned int *count)
{
	const struct slice **list;
	const struct slice_entry *e;
	unsigned int n = 0;

	for (e = service->slices; e; e = e->next)
		n++;
	list = arena_array(scratch, n, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (*count = n, n = 0, e = service->slices; e; e = e->next)
		list[n++] = e->object;
	assert(n == *count);
	*slices = list;
	return 0;
}

/* LB-5: the node reaches a VIP that is bound to it with that VIP as its source. */
static bool ranges_hold_node(const struct model *m, enum family family,
			     const struct prefix_list *ranges)
{
	unsigned int i;

	for (i = 0; m->info.family[family].has_primary && i < ranges->count; i++)
		if (prefix_contains(&ranges->items[i],
				    &m->info.family[family].primary))
			return true;
	return false;
}

static int source_ranges(const struct model *m, enum family family,
			 const struct service *s, struct arena *scratch,
			 struct dispatch *p)
{
	const struct prefix_list *ranges = &service_extra(s, family)->source_ranges;
	const struct addr_list *own = &service_extra(s, family)->load_balancer_ips;
	unsigned int i, n = 0;
	struct prefix *list;

	if (!ranges->count)
		return 0;
	list = arena_array(scratch, (size_t)ranges->count + own->count,
			   sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (i = 0; i < ranges->count; i++)
		list[n++] = ranges->items[i];
	for (i = 0; ranges_hold_node(m, family, ranges) && i < own->count; i++) {
		list[n].addr = own->items[i];
		list[n++].length = (uint8_t)family_bits(family);
	}
	p->ranges = list;
	p->n_ranges = prefixes_disjoint(list, n);
	assert(p->n_ranges && p->n_ranges <= n);
	return 0;
}

/* BEY-2 */
static bool passes_without_endpoints(const struct model *m, const struct service *s)
{
	if (s->flags & (SERVICE_PASS | SERVICE_NO_PASS))
		return s->flags & SERVICE_PASS;
	return m->config->pass_without_endpoints;
}

/* Policies, lists and ranges of a dispatch whose VIPs are known. */
static int fill_dispatch(const struct model *m, enum family family,
			 const struct service_port_state *port,
			 struct arena *scratch, struct dispatch *p)
{
	const struct service *s = port->service->object;
	const struct select_query query = {
		.family = family,
		.port_name = port->name,
		.protocol = port->protocol,
		.zone = model_zone(m),
	};
	const struct slice *const *slices;
	struct selection selection;
	unsigned int n_slices;
	int err;

	assert(s && port->spec);
	err = slices_of(port->service, scratch, &slices, &n_slices);
	if (!err)
		err = select_endpoints(&query, slices, n_slices, scratch,
				       &selection);
	if (!err)
		err = source_ranges(m, family, s, scratch, p);
	if (err)
		return err;
	p->protocol = port->protocol;
	p->flags = (uint8_t)((selection.alive ? DISPATCH_ALIVE : 0) |
			     (s->flags & SERVICE_INTERNAL_LOCAL ? DISPATCH_INTERNAL_LOCAL
								: 0) |
			     (s->flags & SERVICE_EXTERNAL_LOCAL ? DISPATCH_EXTERNAL_LOCAL
								: 0));
	if (!selection.alive && passes_without_endpoints(m, s))
		p->flags |= DISPATCH_PASS;
	if (selection.alive && m->config->vipmap.answer_ping)
		p->flags |= DISPATCH_PING;
	p->affinity_timeout_s = s->affinity_timeout_s;
	p->label = port->label;
	p->sticky = port->sticky;
	if (dispatch_uses(p, false))
		p->cluster = selection.cluster;
	if (dispatch_uses(p, true))
		p->local = selection.local;
	return 0;
}

static int keep_order(enum family family, const struct dispatch *applied,
		      const struct kernel_order *order, struct arena *scratch,
		      struct dispatch *p)
{
	int err;

	if (!applied && !order)
		return 0;
	err = endpoints_order(family, applied ? &applied->cluster : &order->cluster,
			      &p->cluster, scratch, &p->cluster);
	if (err)
		return err;
	return endpoints_order(family, applied ? &applied->local : &order->local,
			       &p->local, scratch, &p->local);
}

static void set_desired(struct service_port_state *port, struct dispatch *dispatch)
{
	assert(!dispatch ||
	       (dispatch != port->desired && dispatch != port->applied));
	assert(!port->desired_is_applied || port->desired == port->applied);
	if (!port->desired_is_applied)
		free(port->desired);
	port->desired = dispatch;
	port->desired_is_applied = false;
	if (!dispatch_equal(dispatch, port->applied))
		return;
	free(dispatch);
	port->desired = port->applied;
	port->desired_is_applied = true;
}

/* VER-5: a programmed Service's ClusterIP is one, whoever has this port of it (SVC-11). */
static void note_lost_ip(const struct service_port_state *port,
			 enum family family, struct dispatch *p)
{
	const struct service *s = port->service->object;
	unsigned int i;

	assert(s);
	for (i = 0; i < p->n_vips; i++)
		if (p->vips[i].role == VIP_CLUSTER_IP)
			return;
	p->has_lost_ip = s->family[family].has_cluster_ip;
	p->lost_ip = s->family[family].cluster_ip;
	p->protocol = port->protocol;
	p->label = port->label;
	p->sticky = port->sticky;
}

int compile_port(const struct model *m, enum family family,
		 struct service_port_state *port,
		 const struct kernel_order *order, struct arena *scratch)
{
	struct dispatch p = { 0 }, *packed = NULL;
	int err;

	assert(!port->spec || port->service->object);
	if (port->spec) {
		err = compile_vips(m, family, port, scratch, &p.vips, &p.n_vips);
		if (!err)
			note_lost_ip(port, family, &p);
		if (!err && p.n_vips)
			err = fill_dispatch(m, family, port, scratch, &p);
		if (!err && p.n_vips)
			err = keep_order(family, port->applied, order, scratch, &p);
		if (err)
			return err;
	}
	if (p.n_vips || p.has_lost_ip) {
		packed = dispatch_pack(&p);
		if (!packed)
			return -ENOMEM;
	}
	set_desired(port, packed);
	return 0;
}
