/*
 * The page is made from the applied dispatches: what the kernel has, not what is wanted.
 */
#include "proxy/serve/status.h"

#include "proxy/base/array.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unapplied_ports {
	const struct service_port_state **items;
	size_t count, room;
};

static int port_order(const void *va, const void *vb)
{
	const struct service_port_state *a =
		*(const struct service_port_state *const *)va;
	const struct service_port_state *b =
		*(const struct service_port_state *const *)vb;
	int order = strcmp(a->label, b->label);

	return order ? order : (int)a->protocol - (int)b->protocol;
}

static int port_add(struct unapplied_ports *list,
		    const struct service_port_state *port)
{
	if (array_grow(list->items, list->count, list->room))
		return -ENOMEM;
	list->items[list->count++] = port;
	return 0;
}

static int applied_ports(const struct model *m, enum family family,
			 struct unapplied_ports *list)
{
	const struct service_port_state *p;
	const struct service_entry *s;

	for_each_service_entry (s, m)
		for (p = s->ports[family]; p; p = p->next)
			if (p->applied && port_add(list, p))
				return -ENOMEM;
	if (list->count)
		qsort(list->items, list->count, sizeof(*list->items), port_order);
	return 0;
}

static void format_vip(const struct vip *vip, enum family family, struct strbuf *out)
{
	static const char *const roles[] = {
		[VIP_CLUSTER_IP] = "cluster",
		[VIP_LOAD_BALANCER] = "load balancer",
		[VIP_EXTERNAL_IP] = "external",
		[VIP_NODE_PORT] = "node port",
	};
	char addr[ADDR_TEXT_SIZE];

	if (vip->role == VIP_NODE_PORT)
		strbuf_addf(out, "  %s %u", roles[vip->role], vip->port);
	else
		strbuf_addf(out,
			    family == FAMILY_IPV6 ? "  %s [%s]:%u" : "  %s %s:%u",
			    roles[vip->role],
			    addr_format(family, &vip->addr, addr), vip->port);
}

static void format_port(const struct service_port_state *port,
			enum family family, struct strbuf *out)
{
	const struct dispatch *p = port->applied;
	unsigned int i;

	strbuf_addf(out, "%s %s", port->label, protocol_name(port->protocol));
	for (i = 0; i < p->n_vips; i++)
		format_vip(&p->vips[i], family, out);
	if (dispatch_uses(p, false))
		strbuf_addf(out, "  endpoints %u", p->cluster.count);
	if (dispatch_uses(p, true))
		strbuf_addf(out, "  local endpoints %u", p->local.count);
	if (p->affinity_timeout_s)
		strbuf_addf(out, "  affinity %u s", p->affinity_timeout_s);
	if (!(p->flags & DISPATCH_ALIVE))
		strbuf_adds(out, "  refused: no endpoints");
	if (port->refusals)
		strbuf_adds(out, "  set aside: the kernel refuses a change");
	strbuf_addc(out, '\n');
}

static void format_family(const struct model *m, const struct metrics *metrics,
			  const struct clock *clock, enum family family,
			  struct strbuf *out)
{
	const double synced = metrics_get(metrics, METRIC_LAST_SYNC, family);
	struct unapplied_ports list = { 0 };
	size_t i;

	if (synced <= 0)
		return;
	strbuf_addf(out,
		    "%s: last sync %.1f s ago, %.0f transactions, %.0f elements written, "
		    "%.0f failures\n",
		    family_name(family),
		    (double)clock_realtime_us(clock) / 1e6 - synced,
		    metrics_get(metrics, METRIC_TRANSACTIONS, family),
		    metrics_get(metrics, METRIC_ELEMENTS_WRITTEN, family),
		    metrics_get(metrics, METRIC_SYNC_FAILURES, family));
	if (applied_ports(m, family, &list))
		out->err = -ENOMEM;
	for (i = 0; i < list.count; i++)
		format_port(list.items[i], family, out);
	free(list.items);
}

void status_format(const struct model *m, const struct metrics *metrics,
		   const struct clock *clock, struct strbuf *out)
{
	unsigned int f;

	strbuf_addf(out, "node %s, zone %s, %zu services known\n",
		    model_node(m) ? model_node(m)->name : "unknown",
		    *model_zone(m) ? model_zone(m) : "unknown",
		    model_services(m)->count);
	for (f = 0; f < N_FAMILIES; f++)
		format_family(m, metrics, clock, (enum family)f, out);
}
