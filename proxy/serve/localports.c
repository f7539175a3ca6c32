/*
 * A Service is looked at when it was compiled; all of them when loopback joins
 * or leaves the node-port addresses, or when memory ran out over one of them.
 */
#include "proxy/serve/localports.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	OWNER_SIZE = 63 + 1 + 253 + 1
}; /* the longest names that the API allows */

struct localports {
	const struct model *model;
	struct forwarder *forwarder;
	struct arena scratch;
	bool wanted[N_FAMILIES], synced[N_FAMILIES];
	bool all_due[N_FAMILIES];
};

struct localports *localports_new(const struct model *model,
				  struct forwarder *forwarder)
{
	struct localports *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->model = model;
	l->forwarder = forwarder;
	return l;
}

void localports_free(struct localports *l)
{
	if (!l)
		return;
	arena_free(&l->scratch);
	free(l);
}

/* NP-9.1: the list of the policy, without the short-circuit of POL-5. */
static const struct endpoint_list *usable_list(const struct dispatch *p)
{
	return dispatch_list(p, p->flags & DISPATCH_EXTERNAL_LOCAL);
}

static bool is_served(const struct dispatch *p, const struct vip *vip)
{
	return vip->role == VIP_NODE_PORT && p->protocol == IPPROTO_TCP &&
	       (p->flags & DISPATCH_ALIVE) && usable_list(p)->count;
}

static unsigned int count_vips(const struct service_entry *s, enum family family)
{
	const struct service_port_state *port;
	unsigned int n = 0;

	for (port = s->ports[family]; port; port = port->next)
		n += port->applied ? port->applied->n_vips : 0;
	return n;
}

static unsigned int collect_ports(const struct service_entry *s,
				  enum family family, struct forward_port *ports)
{
	const struct service_port_state *state;
	const struct dispatch *p;
	unsigned int i, n = 0;

	for (state = s->ports[family]; state; state = state->next) {
		p = state->applied;
		for (i = 0; p && i < p->n_vips; i++) {
			if (!is_served(p, &p->vips[i]))
				continue;
			ports[n].port = p->vips[i].port;
			ports[n].label = state->label;
			ports[n].affinity_timeout_s = p->affinity_timeout_s;
			ports[n++].endpoints = *usable_list(p);
		}
	}
	return n;
}

/* The ports of @s, which may be NULL, in scratch memory. Returns 0 or -ENOMEM. */
static int wanted_ports(struct localports *l, const struct service_entry *s,
			enum family family, struct forward_port **ports,
			unsigned int *count)
{
	const unsigned int most =
		s && l->wanted[family] ? count_vips(s, family) : 0;

	*ports = NULL;
	*count = 0;
	if (!most)
		return 0;
	*ports = arena_array(&l->scratch, most, sizeof(**ports));
	if (!*ports)
		return -ENOMEM;
	*count = collect_ports(s, family, *ports);
	return 0;
}

static int update_family(struct localports *l, const char *owner,
			 const struct service_entry *s, enum family family)
{
	struct forward_port *ports;
	unsigned int n;
	int err = wanted_ports(l, s, family, &ports, &n);

	return err ? err : forwarder_set(l->forwarder, owner, family, ports, n);
}

static const char *owner_name(char owner[OWNER_SIZE], const char *namespace,
			      const char *name)
{
	snprintf(owner, OWNER_SIZE, "%s/%s", namespace, name);
	return owner;
}

void localports_release(struct localports *l, enum family family,
			const char *namespace, const char *name)
{
	const struct service_entry *s =
		model_find_service(l->model, namespace, name);
	struct forward_port *ports;
	char owner[OWNER_SIZE];
	unsigned int n;

	/* Without memory they are closed when the Service is updated. */
	if (wanted_ports(l, s, family, &ports, &n) == 0)
		forwarder_release(l->forwarder, owner_name(owner, namespace, name),
				  family, ports, n);
	arena_reset(&l->scratch);
}

static void update_service(struct localports *l, enum family family,
			   const char *namespace, const char *name,
			   const struct service_entry *s)
{
	char owner[OWNER_SIZE];

	owner_name(owner, namespace, name);
	if (update_family(l, owner, s, family))
		l->all_due[family] = true;
	arena_reset(&l->scratch);
}

bool localports_concern(const struct localports *l, enum family family,
			struct service_entry *s)
{
	const bool had = s->localhost_ports[family];
	unsigned int i;

	s->localhost_ports[family] = false;
	if (!l->wanted[family])
		return had;
	for (i = 0; s->object && i < s->object->n_ports; i++)
		if (s->object->ports[i].node_port &&
		    s->object->ports[i].protocol == IPPROTO_TCP)
			s->localhost_ports[family] = true;
	return had || s->localhost_ports[family];
}

void localports_update(struct localports *l, enum family family,
		       const char *namespace, const char *name)
{
	update_service(l, family, namespace, name,
		       model_find_service(l->model, namespace, name));
}

void localports_update_all(struct localports *l, enum family family)
{
	l->all_due[family] = true;
}

static void update_all(struct localports *l, enum family family)
{
	struct service_entry *s;

	l->all_due[family] = false;
	for_each_service_entry (s, l->model)
		if (localports_concern(l, family, s))
			update_service(l, family, s->namespace, s->name, s);
}

void localports_enable(struct localports *l, enum family family, bool wanted)
{
	if (l->wanted[family] == wanted)
		return;
	l->wanted[family] = wanted;
	if (l->synced[family])
		update_all(l, family);
}

void localports_synced(struct localports *l, enum family family)
{
	if (l->all_due[family] || (l->wanted[family] && !l->synced[family]))
		update_all(l, family);
	l->synced[family] = true;
	forwarder_retry(l->forwarder);
}
