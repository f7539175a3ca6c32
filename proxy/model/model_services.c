/* Services: their ports in each family, and the virtual IPs that these claim. */
#include "proxy/model/model_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

static struct service_port_state *service_port_find(struct service_entry *s,
						    enum family family,
						    const struct service_port *spec)
{
	struct service_port_state *p;

	for (p = s->ports[family]; p; p = p->next)
		if (p->protocol == spec->protocol &&
		    strcmp(p->name, spec->name) == 0)
			return p;
	return NULL;
}

static struct service_port_state *service_port_new(struct service_entry *s,
						   enum family family,
						   const struct service_port *spec)
{
	const char *protocol = protocol_name(spec->protocol);
	size_t n_name = strlen(spec->name) + 1;
	size_t n_whole = strlen(s->namespace) + strlen(s->name) + n_name + 2;
	/* The kernel's comment has at most 128 bytes with its end (NFTNL_UDATA_COMMENT_MAXLEN). */
	size_t n_label = n_whole < 128 ? n_whole : 128;
	size_t n_sticky = n_whole + strlen(protocol) + 1;
	struct service_port_state *p = calloc(1, sizeof(*p) + n_label + n_sticky);
	char *text;

	if (!p)
		return NULL;
	text = (char *)(p + 1);
	p->service = s;
	p->protocol = spec->protocol;
	p->label = text;
	snprintf(text, n_label, *spec->name ? "%s/%s:%s" : "%s/%s%s",
		 s->namespace, s->name, spec->name);
	p->sticky = text + n_label;
	snprintf(text + n_label, n_sticky, "%s/%s/%s/%s", s->namespace, s->name,
		 protocol, spec->name);
	assert(strlen(p->sticky) == n_sticky - 1);
	p->name = p->sticky + n_sticky - n_name; /* which it ends with */
	p->next = s->ports[family];
	s->ports[family] = p;
	return p;
}

void model_free_port(struct model *m, enum family family,
		     struct service_port_state *p)
{
	assert(!p->desired_is_applied || p->desired == p->applied);
	claims_drop(m, family, p);
	assert(!p->n_claims);
	if (!p->desired_is_applied)
		free(p->desired);
	free(p->applied);
	free(p->answering);
	free(p);
}

static int vip_order(const void *va, const void *vb)
{
	const struct vip *a = va, *b = vb;
	int order = vip_compare(a, b);

	return order ? order : (int)a->role - (int)b->role;
}

static void claimed_vips_add(struct vip *vips, unsigned int *n,
			     const struct addr_list *list, uint16_t port,
			     enum vip_role role)
{
	unsigned int i;

	for (i = 0; i < list->count; i++)
		vips[(*n)++] = (struct vip){
			.addr = list->items[i],
			.port = port,
			.role = (uint8_t)role,
		};
}

/* The VIPs of a service port, sorted; the same address:port given twice counts
 * in the first role (LB-7). */
static int claimed_vips_new(struct model *m, const struct service *s,
			    enum family family, const struct service_port *spec,
			    struct vip **vips, unsigned int *count)
{
	const struct addr_list one = { 1, &s->family[family].cluster_ip };
	const struct addr_list *ext = &service_extra(s, family)->external_ips;
	const struct addr_list *lb = &service_extra(s, family)->load_balancer_ips;
	unsigned int i, n = 0, kept = 0;
	struct vip *v = calloc((size_t)2 + ext->count + lb->count, sizeof(*v));

	assert(one.items);
	if (!v)
		return -ENOMEM;
	claimed_vips_add(v, &n, &one, spec->port, VIP_CLUSTER_IP);
	claimed_vips_add(v, &n, lb, spec->port, VIP_LOAD_BALANCER);
	if (m->config->allow_external_ips)
		claimed_vips_add(v, &n, ext, spec->port, VIP_EXTERNAL_IP);
	if (spec->node_port)
		v[n++] = (struct vip){ .port = spec->node_port,
				       .role = VIP_NODE_PORT };
	assert(n && n <= (size_t)2 + ext->count + lb->count);
	qsort(v, n, sizeof(*v), vip_order);
	for (i = 0; i < n; i++)
		if (!kept || vip_compare(&v[kept - 1], &v[i]))
			v[kept++] = v[i];
	assert(kept && kept <= n);
	*vips = v;
	*count = kept;
	return 0;
}

static bool is_programmed(const struct service *s, enum family family)
{
	return s && !(s->flags & SERVICE_IGNORED) &&
	       s->family[family].has_cluster_ip;
}

int model_refresh_service(struct model *m, struct service_entry *s,
			  enum family family, bool recreated)
{
	struct service_port_state *p;
	struct vip *vips;
	unsigned int i, n;
	int err = 0;

	for (p = s->ports[family]; p; p = p->next)
		p->spec = NULL;
	for (i = 0; is_programmed(s->object, family) && i < s->object->n_ports;
	     i++) {
		p = service_port_find(s, family, &s->object->ports[i]);
		if (!p)
			p = service_port_new(s, family, &s->object->ports[i]);
		if (!p)
			return -ENOMEM;
		p->spec = &s->object->ports[i];
	}
	for (p = s->ports[family]; p; p = p->next) {
		if (!p->spec) {
			claims_drop(m, family, p);
			continue;
		}
		if (claimed_vips_new(m, s->object, family, p->spec, &vips, &n))
			return -ENOMEM;
		if (recreated || !claims_equal(p, vips, n))
			err = claims_set(m, family, p, vips, n);
		free(vips);
		if (err)
			return err;
	}
	return 0;
}

int model_settle(struct model *m, struct service_entry *s, enum family family)
{
	int err = s->unfinished[family]
			  ? model_refresh_service(m, s, family, true)
			  : 0;

	if (!err)
		s->unfinished[family] = false;
	return err;
}

bool model_closes_connections(const struct model *m,
			      const struct service_entry *service)
{
	const unsigned int flags =
		service->object ? service->object->flags : SERVICE_CLOSE_NEVER;

	if (flags & (SERVICE_CLOSE_GONE | SERVICE_CLOSE_NEVER))
		return flags & SERVICE_CLOSE_GONE;
	return config_closes_connections(m->config);
}

/* Endpoints that went while their connections were left alone count as soon as they are not. */
static void closing_changed(struct service_entry *s, const struct service *old)
{
	const unsigned int both = SERVICE_CLOSE_GONE | SERVICE_CLOSE_NEVER;
	unsigned int f;

	if (old && s->object && (old->flags & both) == (s->object->flags & both))
		return;
	for (f = 0; f < N_FAMILIES; f++)
		s->endpoints_left[f] = true;
}

void model_set_service(struct model *m, struct service_entry *s,
		       struct service *object)
{
	struct service *old = s->object;
	struct service_port_state *p;
	unsigned int f;
	bool recreated = !old || !object || old->created_s != object->created_s;
	/* A list that is read again brings most objects as they were. */
	bool changed = !old || !object || !service_equal(old, object);

	assert(!object || object != old);
	m->counters.service_changes += changed;
	/* Claims compare by the objects' age: those of the old one must go before it does. */
	for (f = 0; f < N_FAMILIES && !object; f++)
		for (p = s->ports[f]; p; p = p->next) {
			claims_drop(m, (enum family)f, p);
			p->spec = NULL;
		}
	s->object = object;
	closing_changed(s, old);
	for (f = 0; f < N_FAMILIES; f++) {
		s->unfinished[f] =
			object &&
			model_refresh_service(m, s, (enum family)f, recreated);
		if (s->unfinished[f])
			model_log(m, LOG_ERR, "Service %s/%s: out of memory",
				  s->namespace, s->name);
		if (!s->ports[f] && !s->unfinished[f])
			continue;
		model_mark(m, s, (enum family)f);
		m->pending[f].services += changed && !m->ignored[f];
	}
	free(old);
	model_prune(m, s);
}

/* What memory runs out over later is made up for by model_settle(). */
int model_put_service(void *ctx, struct service *object)
{
	struct model *m = ctx;
	struct service_entry *s =
		model_get_service(m, object->namespace, object->name);

	if (!s) {
		model_log(m, LOG_ERR, "Service %s/%s: out of memory",
			  object->namespace, object->name);
		free(object);
		return -ENOMEM;
	}
	s->epoch = m->epoch;
	model_set_service(m, s, object);
	return 0;
}

void model_drop_services(struct model *m, uint64_t since)
{
	struct service_entry *s;

	for_each_service_entry (s, m)
		if (s->object && s->epoch < since)
			model_set_service(m, s, NULL);
}
