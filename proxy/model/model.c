/*
 * The store. Everything here is proportional to the object that changes, except for the end of a
 * list (which looks for what has vanished) and changes of the node itself.
 *
 * Claims on virtual IPs are kept as soon as a Service changes, before anything is compiled: whoever
 * else claims the same VIP becomes dirty, so that a later compilation finds the right winner
 * without an order between Services.
 */
#include "proxy/model/model.h"

#include "proxy/model/ruleset.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

enum { TRIGGERS_MAX = 1 << 16 };

static void model_log(struct model *m, int severity, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void model_log(struct model *m, int severity, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	m->log(m->log_ctx, severity, text);
}

static uint64_t name_hash(const char *namespace, const char *name)
{
	return hash_text(hash_text(HASH_SEED, namespace), name);
}

struct service_entry *model_find_service(const struct model *m, const char *namespace,
					 const char *name)
{
	struct hash_node *n = hashtab_find(&m->services, name_hash(namespace, name));
	struct service_entry *s;

	for (; n; n = hashtab_find_next(n)) {
		s = hash_entry(n, struct service_entry, node);
		if (strcmp(s->name, name) == 0 && strcmp(s->namespace, namespace) == 0)
			return s;
	}
	return NULL;
}

static struct slice_entry *find_slice(const struct model *m, const char *namespace,
				      const char *name)
{
	struct hash_node *n = hashtab_find(&m->slices, name_hash(namespace, name));
	struct slice_entry *s;

	for (; n; n = hashtab_find_next(n)) {
		s = hash_entry(n, struct slice_entry, node);
		if (strcmp(s->object->name, name) == 0 &&
		    strcmp(s->object->namespace, namespace) == 0)
			return s;
	}
	return NULL;
}

static struct service_entry *service_get(struct model *m, const char *namespace, const char *name)
{
	struct service_entry *s = model_find_service(m, namespace, name);
	size_t n_namespace = strlen(namespace) + 1, n_name = strlen(name) + 1;
	char *text;

	if (s)
		return s;
	s = calloc(1, sizeof(*s) + n_namespace + n_name);
	if (!s)
		return NULL;
	text = (char *)(s + 1);
	s->namespace = memcpy(text, namespace, n_namespace);
	s->name = memcpy(text + n_namespace, name, n_name);
	hashtab_insert(&m->services, &s->node, name_hash(namespace, name));
	return s;
}

void model_mark(struct model *m, struct service_entry *service, enum family family)
{
	m->revision++;
	m->changes[family]++;
	if (service->dirty[family] || m->ignored[family])
		return;
	service->dirty[family] = true;
	service->next_dirty[family] = m->dirty[family];
	m->dirty[family] = service;
}

struct service_entry *model_take_dirty(struct model *m, enum family family)
{
	struct service_entry *s = m->dirty[family];

	if (s) {
		m->dirty[family] = s->next_dirty[family];
		s->next_dirty[family] = NULL;
		s->dirty[family] = false;
	}
	return s;
}

bool model_is_complete(const struct model *m)
{
	return m->complete[KIND_SERVICE] && m->complete[KIND_SLICE];
}

bool model_is_dirty(const struct model *m, enum family family)
{
	return m->dirty[family] || m->globals_dirty[family];
}

/* Claims */

static uint64_t vip_hash(const struct vip *vip, uint8_t protocol)
{
	const uint16_t rest[2] = { vip->port,
				   (uint16_t)(protocol << 1 | (vip->role == VIP_NODE_PORT)) };

	return hash_bytes(hash_bytes(HASH_SEED, &vip->addr, sizeof(vip->addr)), rest, sizeof(rest));
}

static bool claims_same(const struct claim *a, const struct claim *b)
{
	return a->vip.port == b->vip.port && a->port->protocol == b->port->protocol &&
	       (a->vip.role == VIP_NODE_PORT) == (b->vip.role == VIP_NODE_PORT) &&
	       addr_compare(&a->vip.addr, &b->vip.addr) == 0;
}

/* The next claim on the same VIP, beginning with a hash chain's @n. */
static struct claim *rival(struct hash_node *n, const struct claim *of)
{
	for (; n; n = hashtab_find_next(n)) {
		struct claim *c = hash_entry(n, struct claim, node);

		if (c != of && claims_same(c, of))
			return c;
	}
	return NULL;
}

#define for_each_rival(c, claims, of)                                                              \
	for (c = rival(hashtab_find(claims, (of)->node.hash), of); c;                              \
	     c = rival(hashtab_find_next(&c->node), of))

/* SVC-11: by age, then namespace/name, then port name. */
static int claim_compare(const struct claim *a, const struct claim *b)
{
	const struct service *sa = a->port->service->object, *sb = b->port->service->object;
	int order;

	if (sa->created_s != sb->created_s)
		return sa->created_s < sb->created_s ? -1 : 1;
	order = strcmp(sa->namespace, sb->namespace);
	if (!order)
		order = strcmp(sa->name, sb->name);
	return order ? order : strcmp(a->port->name, b->port->name);
}

bool claim_wins(const struct model *m, enum family family, const struct claim *claim)
{
	struct claim *c;

	for_each_rival(c, &m->claims[family], claim) if (claim_compare(c, claim) < 0) return false;
	return true;
}

static void mark_rivals(struct model *m, enum family family, const struct claim *claim)
{
	struct claim *c;

	for_each_rival(c, &m->claims[family], claim) model_mark(m, c->port->service, family);
}

static void claims_drop(struct model *m, enum family family, struct service_port_state *port)
{
	unsigned int i;

	for (i = 0; i < port->n_claims; i++) {
		mark_rivals(m, family, &port->claims[i]);
		m->n_lost[family] -= port->claims[i].lost;
		hashtab_remove(&m->claims[family], &port->claims[i].node);
	}
	free(port->claims);
	port->claims = NULL;
	port->n_claims = 0;
}

static bool claims_equal(const struct service_port_state *port, const struct vip *vips,
			 unsigned int n)
{
	unsigned int i;

	if (n != port->n_claims)
		return false;
	for (i = 0; i < n; i++)
		if (vip_compare(&port->claims[i].vip, &vips[i]) ||
		    port->claims[i].vip.role != vips[i].role)
			return false;
	return true;
}

static int claims_set(struct model *m, enum family family, struct service_port_state *port,
		      const struct vip *vips, unsigned int n)
{
	struct claim *claims;
	unsigned int i;

	claims_drop(m, family, port);
	if (!n)
		return 0;
	claims = calloc(n, sizeof(*claims));
	if (!claims)
		return -ENOMEM;
	port->claims = claims;
	port->n_claims = n;
	for (i = 0; i < n; i++) {
		claims[i].vip = vips[i];
		claims[i].port = port;
		hashtab_insert(&m->claims[family], &claims[i].node,
			       vip_hash(&vips[i], port->protocol));
		mark_rivals(m, family, &claims[i]);
	}
	return 0;
}

struct service_port_state *model_vip_owner(const struct model *m, enum family family,
					   const struct addr *addr, uint8_t protocol, uint16_t port)
{
	struct service_port_state self = { .protocol = protocol };
	struct claim key = { .port = &self, .vip.port = port }, *c, *best = NULL;

	if (addr)
		key.vip.addr = *addr;
	else
		key.vip.role = VIP_NODE_PORT;
	key.node.hash = vip_hash(&key.vip, protocol);
	for_each_rival(c, &m->claims[family], &key) if (!best || claim_compare(c, best) < 0) best =
		c;
	return best ? best->port : NULL;
}

/* Service ports */

static struct service_port_state *port_find(struct service_entry *s, enum family family,
					    const struct service_port *spec)
{
	struct service_port_state *p;

	for (p = s->ports[family]; p; p = p->next)
		if (p->protocol == spec->protocol && strcmp(p->name, spec->name) == 0)
			return p;
	return NULL;
}

static struct service_port_state *port_new(struct service_entry *s, enum family family,
					   const struct service_port *spec)
{
	const char *protocol = protocol_name(spec->protocol);
	size_t n_name = strlen(spec->name) + 1;
	size_t n_whole = strlen(s->namespace) + strlen(s->name) + n_name + 2;
	/* The kernel's comment has at most 128 bytes with its end (NFTNL_UDATA_COMMENT_MAXLEN). */
	size_t n_label = n_whole < 128 ? n_whole : 128;
	size_t n_sticky = n_whole + strlen(protocol) + 1;
	struct service_port_state *p = calloc(1, sizeof(*p) + n_name + n_label + n_sticky);
	char *text;

	if (!p)
		return NULL;
	text = (char *)(p + 1);
	p->service = s;
	p->protocol = spec->protocol;
	p->name = memcpy(text, spec->name, n_name);
	p->label = text + n_name;
	snprintf(text + n_name, n_label, *spec->name ? "%s/%s:%s" : "%s/%s%s", s->namespace,
		 s->name, spec->name);
	p->sticky = text + n_name + n_label;
	snprintf(text + n_name + n_label, n_sticky, "%s/%s/%s/%s", s->namespace, s->name, protocol,
		 spec->name);
	p->next = s->ports[family];
	s->ports[family] = p;
	return p;
}

static void port_free(struct model *m, enum family family, struct service_port_state *p)
{
	claims_drop(m, family, p);
	if (!p->desired_is_applied)
		free(p->desired);
	free(p->applied);
	free(p);
}

void model_prune(struct model *m, struct service_entry *s)
{
	struct service_port_state **at, *p;
	unsigned int f;
	bool used = s->object || s->slices;

	for (f = 0; f < N_FAMILIES; f++) {
		at = &s->ports[f];
		while ((p = *at)) {
			if (p->spec || p->applied || p->desired) {
				at = &p->next;
				continue;
			}
			*at = p->next;
			port_free(m, (enum family)f, p);
		}
		used |= s->ports[f] || s->dirty[f];
	}
	if (used)
		return;
	hashtab_remove(&m->services, &s->node);
	free(s);
}

void model_ignore_family(struct model *m, enum family family)
{
	struct service_entry *s;

	m->ignored[family] = true;
	while ((s = model_take_dirty(m, family)))
		model_prune(m, s);
	m->n_triggers[family] = 0;
}

static int vip_order(const void *va, const void *vb)
{
	const struct vip *a = va, *b = vb;
	int order = vip_compare(a, b);

	return order ? order : (int)a->role - (int)b->role;
}

static void add_vips(struct vip *vips, unsigned int *n, const struct addr_list *list, uint16_t port,
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

/* The VIPs of a service port, sorted; the same address:port given twice counts in the first role
 * (LB-7). */
static int vips_of(struct model *m, const struct service *s, enum family family,
		   const struct service_port *spec, struct vip **vips, unsigned int *count)
{
	const struct addr_list one = { 1, &s->family[family].cluster_ip };
	const struct addr_list *ext = &s->family[family].external_ips;
	const struct addr_list *lb = &s->family[family].load_balancer_ips;
	unsigned int i, n = 0, kept = 0;
	struct vip *v = calloc((size_t)2 + ext->count + lb->count, sizeof(*v));

	if (!v)
		return -ENOMEM;
	add_vips(v, &n, &one, spec->port, VIP_CLUSTER_IP);
	add_vips(v, &n, lb, spec->port, VIP_LOAD_BALANCER);
	if (m->config->allow_external_ips)
		add_vips(v, &n, ext, spec->port, VIP_EXTERNAL_IP);
	if (spec->node_port)
		v[n++] = (struct vip){ .port = spec->node_port, .role = VIP_NODE_PORT };
	qsort(v, n, sizeof(*v), vip_order);
	for (i = 0; i < n; i++)
		if (!kept || vip_compare(&v[kept - 1], &v[i]))
			v[kept++] = v[i];
	*vips = v;
	*count = kept;
	return 0;
}

static bool is_programmed(const struct service *s, enum family family)
{
	return s && !(s->flags & SERVICE_IGNORED) && s->family[family].has_cluster_ip;
}

/*
 * Brings the service ports and claims in step with the object. @recreated: its age is another, so
 * who wins may be too. Out of memory it leaves ports out, until model_settle() has brought them in.
 */
static int service_refresh(struct model *m, struct service_entry *s, enum family family,
			   bool recreated)
{
	struct service_port_state *p;
	struct vip *vips;
	unsigned int i, n;
	int err = 0;

	for (p = s->ports[family]; p; p = p->next)
		p->spec = NULL;
	for (i = 0; is_programmed(s->object, family) && i < s->object->n_ports; i++) {
		p = port_find(s, family, &s->object->ports[i]);
		if (!p)
			p = port_new(s, family, &s->object->ports[i]);
		if (!p)
			return -ENOMEM;
		p->spec = &s->object->ports[i];
	}
	for (p = s->ports[family]; p; p = p->next) {
		if (!p->spec) {
			claims_drop(m, family, p);
			continue;
		}
		if (vips_of(m, s->object, family, p->spec, &vips, &n))
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
	int err = s->unfinished[family] ? service_refresh(m, s, family, true) : 0;

	if (!err)
		s->unfinished[family] = false;
	return err;
}

bool model_closes_connections(const struct model *m, const struct service_entry *service)
{
	const unsigned int flags = service->object ? service->object->flags : SERVICE_CLOSE_NEVER;

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

/* Replaces the object (NULL: removes it). */
static void service_set(struct model *m, struct service_entry *s, struct service *object)
{
	struct service *old = s->object;
	struct service_port_state *p;
	unsigned int f;
	bool recreated = !old || !object || old->created_s != object->created_s;
	/* A list that is read again brings most objects as they were. */
	bool changed = !old || !object || !service_equal(old, object);

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
		s->unfinished[f] = object && service_refresh(m, s, (enum family)f, recreated);
		if (s->unfinished[f])
			model_log(m, LOG_ERR, "Service %s/%s: out of memory", s->namespace,
				  s->name);
		if (!s->ports[f] && !s->unfinished[f])
			continue;
		model_mark(m, s, (enum family)f);
		m->pending_services[f] += changed && !m->ignored[f];
	}
	free(old);
	model_prune(m, s);
}

/* Slices */

static void slice_unlink(struct slice_entry *e)
{
	*e->at = e->next;
	if (e->next)
		e->next->at = e->at;
}

static void slice_link(struct slice_entry *e, struct service_entry *s)
{
	e->service = s;
	e->next = s->slices;
	e->at = &s->slices;
	if (e->next)
		e->next->at = &e->next;
	s->slices = e;
}

static void slice_touched(struct model *m, struct service_entry *s, enum family family)
{
	m->revision++;
	if (s->ports[family])
		model_mark(m, s, family);
}

static void slice_changed(struct model *m, enum family family)
{
	m->counters.endpoint_changes++;
	m->pending_slices[family] += !m->ignored[family];
}

/* A family that is not programmed for long keeps the oldest: they are what MET-2 is to show. */
static void trigger_add(struct model *m, enum family family, int64_t trigger_us)
{
	unsigned int n = m->n_triggers[family];
	int64_t *more;

	if (!trigger_us || m->ignored[family] || n == TRIGGERS_MAX)
		return;
	if ((n & (n - 1)) == 0) { /* full at each power of two */
		more = realloc(m->triggers[family], (n ? n * 2 : 1) * sizeof(*more));
		if (!more)
			return;
		m->triggers[family] = more;
	}
	m->triggers[family][n] = trigger_us;
	m->n_triggers[family] = n + 1;
}

static bool has_same_ports(const struct slice *a, const struct slice *b)
{
	unsigned int i;

	if (a->n_ports != b->n_ports)
		return false;
	for (i = 0; i < a->n_ports; i++)
		if (a->ports[i].port != b->ports[i].port ||
		    a->ports[i].protocol != b->ports[i].protocol ||
		    strcmp(a->ports[i].name, b->ports[i].name))
			return false;
	return true;
}

/*
 * Whether an endpoint that may have connections is not among those of @new that may. Most keep
 * their order, so that the next one is found at once.
 */
static bool slice_lost(const struct slice *old, const struct slice *new)
{
	const unsigned int lives = ENDPOINT_READY | ENDPOINT_SERVING;
	const unsigned int n = new->n_endpoints;
	unsigned int i, k, at = 0;

	for (i = 0; i < old->n_endpoints; i++) {
		if (!(old->endpoints[i].flags & lives))
			continue;
		for (k = 0; k < n; k++, at++) {
			at = at < n ? at : 0;
			if (new->endpoints[at].flags &
			    lives &&addr_compare(&new->endpoints[at].addr,
						 &old->endpoints[i].addr) == 0)
				break;
		}
		if (k == n)
			return true;
	}
	return false;
}

/* @new replaces @old in the Service, or nothing does. */
static void endpoints_left(struct model *m, struct service_entry *s, const struct slice *old,
			   const struct slice *new)
{
	if (model_closes_connections(m, s) && (!new || new->family != old->family ||
					       !has_same_ports(old, new) || slice_lost(old, new)))
		s->endpoints_left[old->family] = true;
}

static void slice_remove(struct model *m, struct slice_entry *e)
{
	struct service_entry *s = e->service;

	slice_changed(m, e->object->family);
	slice_unlink(e);
	endpoints_left(m, s, e->object, NULL);
	hashtab_remove(&m->slices, &e->node);
	slice_touched(m, s, e->object->family);
	free(e->object);
	free(e);
	model_prune(m, s);
}

/* A slice that moves stays where it is until it has a place in the other Service (EPS-10). */
static void slice_move(struct model *m, struct slice_entry *e, struct service_entry *to)
{
	struct service_entry *from = e->service;

	slice_touched(m, from, e->object->family);
	slice_unlink(e);
	endpoints_left(m, from, e->object, NULL);
	slice_link(e, to);
	model_prune(m, from);
}

static int put_slice(void *ctx, struct slice *slice)
{
	struct model *m = ctx;
	struct slice_entry *e = find_slice(m, slice->namespace, slice->name);
	struct service_entry *s = service_get(m, slice->namespace, slice->service);

	if (!s || (!e && !(e = calloc(1, sizeof(*e))))) {
		model_log(m, LOG_ERR, "EndpointSlice %s/%s: out of memory", slice->namespace,
			  slice->name);
		free(slice);
		if (s)
			model_prune(m, s);
		return -ENOMEM;
	}
	if (!e->object || !slice_equal(e->object, slice)) {
		slice_changed(m, slice->family);
		trigger_add(m, slice->family, slice->trigger_us);
	}
	if (!e->object) {
		hashtab_insert(&m->slices, &e->node, name_hash(slice->namespace, slice->name));
		slice_link(e, s);
	} else if (e->service != s) {
		slice_move(m, e, s);
	} else {
		endpoints_left(m, s, e->object, slice);
		if (e->object->family != slice->family)
			slice_touched(m, s, e->object->family);
	}
	free(e->object);
	e->object = slice;
	e->epoch = m->epoch;
	slice_touched(m, s, slice->family);
	return 0;
}

/* What memory runs out over later is made up for by model_settle(). */
static int put_service(void *ctx, struct service *object)
{
	struct model *m = ctx;
	struct service_entry *s = service_get(m, object->namespace, object->name);

	if (!s) {
		model_log(m, LOG_ERR, "Service %s/%s: out of memory", object->namespace,
			  object->name);
		free(object);
		return -ENOMEM;
	}
	s->epoch = m->epoch;
	service_set(m, s, object);
	return 0;
}

/* The node */

static void globals_changed(struct model *m)
{
	unsigned int f;

	m->revision++;
	for (f = 0; f < N_FAMILIES; f++) {
		m->globals_dirty[f] = true;
		m->changes[f]++;
	}
}

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
	struct hash_walk walk;
	struct hash_node *n;
	unsigned int f;

	for (n = hashtab_first(&m->services, &walk); n; n = hashtab_next(&m->services, &walk)) {
		struct service_entry *s = hash_entry(n, struct service_entry, node);

		for (f = 0; f < N_FAMILIES; f++)
			if (s->object && s->ports[f] &&
			    ((zone && has_zone_hints(s, (enum family)f)) ||
			     (addresses && s->object->family[f].source_ranges.count)))
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
		local.family[f] = (struct addr_view){ m->local[f], m->n_local[f] };
	return local;
}

/* Takes over @info, and marks what depends on it. */
static void node_info_take(struct model *m, struct node_info *info)
{
	m->info_is_old = false;
	if (node_info_equal(info, &m->info)) {
		node_info_free(info);
		return;
	}
	node_info_free(&m->info);
	m->info = *info;
	globals_changed(m);
	mark_dependents(m, false, true);
}

/* Without memory what depends on the node stays as it was, until model_catch_up(). */
static int node_refresh(struct model *m)
{
	struct node_info info = { 0 };

	if (node_info_compute(&info, m->config, m->node, local_addresses(m).family)) {
		model_log(m, LOG_ERR, "Node: out of memory");
		m->info_is_old = true;
		globals_changed(m);
		return -ENOMEM;
	}
	node_info_take(m, &info);
	return 0;
}

int model_catch_up(struct model *m)
{
	return m->info_is_old ? node_refresh(m) : 0;
}

const char *model_zone(const struct model *m)
{
	return m->node ? m->node->zone : "";
}

static const struct prefix *pod_cidr(const struct node *node, unsigned int family)
{
	return node && node->pod_cidrs[family].count ? &node->pod_cidrs[family].items[0] : NULL;
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

static void node_set(struct model *m, struct node *node)
{
	struct node *old = m->node;
	const bool zone = strcmp(old ? old->zone : "", node ? node->zone : "") != 0;

	m->node = node;
	if (pod_cidrs_differ(old, node))
		globals_changed(m);
	node_refresh(m);
	free(old);
	if (zone)
		mark_dependents(m, true, false);
}

static int put_node(void *ctx, struct node *node)
{
	struct model *m = ctx;

	m->node_epoch = m->epoch;
	node_set(m, node);
	return 0;
}

int model_set_addresses(struct model *m, enum family family, const struct addr *list,
			unsigned int count)
{
	struct addr *copy = calloc((size_t)count + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (count)
		memcpy(copy, list, count * sizeof(*copy));
	free(m->local[family]);
	m->local[family] = copy;
	m->n_local[family] = count;
	node_refresh(m);
	return 0;
}

/* ServiceCIDRs */

static struct cidr_entry **cidr_find(struct model *m, const char *name)
{
	struct cidr_entry **at = &m->cidrs;

	while (*at && strcmp((*at)->object->name, name))
		at = &(*at)->next;
	return at;
}

static int put_service_cidr(void *ctx, struct service_cidr *object)
{
	struct model *m = ctx;
	struct cidr_entry **at = cidr_find(m, object->name);

	if (!*at)
		*at = calloc(1, sizeof(**at));
	if (!*at) {
		model_log(m, LOG_ERR, "ServiceCIDR %s: out of memory", object->name);
		free(object);
		return -ENOMEM;
	}
	free((*at)->object);
	(*at)->object = object;
	(*at)->epoch = m->epoch;
	globals_changed(m);
	return 0;
}

static void cidr_remove(struct model *m, struct cidr_entry **at)
{
	struct cidr_entry *e = *at;

	*at = e->next;
	free(e->object);
	free(e);
	globals_changed(m);
}

/* Lists and deletions */

static void gone(void *ctx, enum kind kind, const char *namespace, const char *name)
{
	struct model *m = ctx;
	struct service_entry *service;
	struct slice_entry *slice;
	struct cidr_entry **cidr;

	switch (kind) {
	case KIND_SERVICE:
		service = model_find_service(m, namespace, name);
		if (service && service->object)
			service_set(m, service, NULL);
		break;
	case KIND_SLICE:
		slice = find_slice(m, namespace, name);
		if (slice)
			slice_remove(m, slice);
		break;
	case KIND_SERVICE_CIDR:
		cidr = cidr_find(m, name);
		if (*cidr)
			cidr_remove(m, cidr);
		break;
	case KIND_NODE:
		if (m->node && strcmp(m->node->name, name) == 0)
			node_set(m, NULL);
		break;
	case N_KINDS:
		break;
	}
}

static void list_begin(void *ctx, enum kind kind)
{
	struct model *m = ctx;

	m->list_epoch[kind] = ++m->epoch;
}

static void drop_unlisted_services(struct model *m, uint64_t since)
{
	struct hash_walk walk;
	struct hash_node *n;
	struct service_entry *s;

	for (n = hashtab_first(&m->services, &walk); n; n = hashtab_next(&m->services, &walk)) {
		s = hash_entry(n, struct service_entry, node);
		if (s->object && s->epoch < since)
			service_set(m, s, NULL);
	}
}

static void drop_unlisted_slices(struct model *m, uint64_t since)
{
	struct hash_walk walk;
	struct hash_node *n;
	struct slice_entry *e;

	for (n = hashtab_first(&m->slices, &walk); n; n = hashtab_next(&m->slices, &walk)) {
		e = hash_entry(n, struct slice_entry, node);
		if (e->epoch < since)
			slice_remove(m, e);
	}
}

static void list_end(void *ctx, enum kind kind)
{
	struct model *m = ctx;
	const uint64_t since = m->list_epoch[kind];
	struct cidr_entry **at = &m->cidrs;

	if (kind == KIND_SERVICE_CIDR && !m->complete[kind])
		globals_changed(m); /* ranges of an earlier run have been kept until now */
	m->complete[kind] = true;
	if (kind == KIND_SERVICE)
		drop_unlisted_services(m, since);
	else if (kind == KIND_SLICE)
		drop_unlisted_slices(m, since);
	else if (kind == KIND_NODE && m->node && m->node_epoch < since)
		node_set(m, NULL);
	while (kind == KIND_SERVICE_CIDR && *at) {
		if ((*at)->epoch < since)
			cidr_remove(m, at);
		else
			at = &(*at)->next;
	}
}

static void complain(void *ctx, const char *message)
{
	struct model *m = ctx;

	model_log(m, LOG_WARNING, "%s", message);
}

struct model *model_new(const struct config *config,
			void (*log)(void *ctx, int severity, const char *message), void *log_ctx)
{
	struct model *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->config = config;
	m->log = log;
	m->log_ctx = log_ctx;
	m->sink = (struct object_sink){
		.ctx = m,
		.put_service = put_service,
		.put_slice = put_slice,
		.put_service_cidr = put_service_cidr,
		.put_node = put_node,
		.gone = gone,
		.list_begin = list_begin,
		.list_end = list_end,
		.complain = complain,
	};
	node_refresh(m);
	return m;
}

/* SVC-10: whether external IPs count is another answer now. */
static void refresh_external_ips(struct model *m)
{
	struct hash_walk walk;
	struct hash_node *n;
	unsigned int f;

	for (n = hashtab_first(&m->services, &walk); n; n = hashtab_next(&m->services, &walk)) {
		struct service_entry *s = hash_entry(n, struct service_entry, node);

		for (f = 0; s->object && f < N_FAMILIES; f++) {
			if (!s->object->family[f].external_ips.count || !s->ports[f])
				continue;
			/* brought in by model_settle(), before the Service is compiled */
			s->unfinished[f] = service_refresh(m, s, (enum family)f, false) != 0;
			model_mark(m, s, (enum family)f);
		}
	}
}

/* BEY-2: what becomes of external VIPs of service ports that are not alive. */
static void mark_external(struct model *m)
{
	struct hash_walk walk;
	struct hash_node *n;
	unsigned int f;

	for (n = hashtab_first(&m->services, &walk); n; n = hashtab_next(&m->services, &walk)) {
		struct service_entry *s = hash_entry(n, struct service_entry, node);

		for (f = 0; s->object && f < N_FAMILIES; f++)
			if (s->ports[f] && (s->object->family[f].external_ips.count ||
					    s->object->family[f].load_balancer_ips.count))
				model_mark(m, s, (enum family)f);
	}
}

/* BEY-4: all that is alive. */
static void mark_all(struct model *m)
{
	struct hash_walk walk;
	struct hash_node *n;
	unsigned int f;

	for (n = hashtab_first(&m->services, &walk); n; n = hashtab_next(&m->services, &walk)) {
		struct service_entry *s = hash_entry(n, struct service_entry, node);

		for (f = 0; s->object && f < N_FAMILIES; f++)
			if (s->ports[f])
				model_mark(m, s, (enum family)f);
	}
}

int model_set_config(struct model *m, const struct config *config, bool rules[N_FAMILIES])
{
	const bool external_ips = config->allow_external_ips != m->config->allow_external_ips;
	const bool ping = config->vipmap.answer_ping != m->config->vipmap.answer_ping;
	const bool pass = config->pass_without_endpoints != m->config->pass_without_endpoints;
	struct ruleset before[N_FAMILIES], after;
	struct node_info info = { 0 };
	unsigned int f;

	if (node_info_compute(&info, config, m->node, local_addresses(m).family))
		return -ENOMEM;
	for (f = 0; f < N_FAMILIES; f++)
		model_ruleset(m, (enum family)f, &before[f]);
	m->config = config;
	node_info_take(m, &info);
	if (external_ips)
		refresh_external_ips(m);
	if (pass)
		mark_external(m);
	if (ping)
		mark_all(m);
	for (f = 0; f < N_FAMILIES; f++) {
		model_ruleset(m, (enum family)f, &after);
		rules[f] = memcmp(&before[f], &after, sizeof(after)) != 0;
		if (!rules[f])
			continue;
		m->revision++;
		m->changes[f]++;
		m->globals_dirty[f] = true; /* for a sync to look at the rules */
	}
	return 0;
}

const struct object_sink *model_sink(struct model *m)
{
	return &m->sink;
}

static void service_free(struct model *m, struct service_entry *s)
{
	struct service_port_state *p, *next;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		for (p = s->ports[f]; p; p = next) {
			next = p->next;
			free(p->claims);
			p->claims = NULL;
			p->n_claims = 0;
			port_free(m, (enum family)f, p);
		}
	free(s->object);
	free(s);
}

void model_free(struct model *m)
{
	struct hash_walk walk;
	struct hash_node *n;
	unsigned int f;

	if (!m)
		return;
	for (n = hashtab_first(&m->slices, &walk); n; n = hashtab_next(&m->slices, &walk)) {
		struct slice_entry *e = hash_entry(n, struct slice_entry, node);

		free(e->object);
		free(e);
	}
	for (n = hashtab_first(&m->services, &walk); n; n = hashtab_next(&m->services, &walk))
		service_free(m, hash_entry(n, struct service_entry, node));
	hashtab_free(&m->slices);
	hashtab_free(&m->services);
	while (m->cidrs)
		cidr_remove(m, &m->cidrs);
	for (f = 0; f < N_FAMILIES; f++) {
		hashtab_free(&m->claims[f]);
		free(m->local[f]);
		free(m->triggers[f]);
	}
	node_info_free(&m->info);
	free(m->node);
	free(m);
}

/* Elements of no service port */

static int prefix_order(const void *a, const void *b)
{
	return prefix_compare(a, b);
}

/* Sorts and drops what another prefix covers: the kernel's interval sets refuse overlaps. */
static unsigned int prefixes_disjoint(struct prefix *list, unsigned int n)
{
	unsigned int i, kept = 0;

	qsort(list, n, sizeof(*list), prefix_order);
	for (i = 0; i < n; i++)
		if (!kept || !prefix_covers(&list[kept - 1], &list[i]))
			list[kept++] = list[i];
	return kept;
}

static int all_cidrs(const struct model *m, enum family family, struct arena *scratch,
		     struct prefix **list, unsigned int *count)
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
			memcpy(*list + n, from->items, from->count * sizeof(**list));
		n += from->count;
	}
	*count = prefixes_disjoint(*list, n);
	return 0;
}

int model_globals(const struct model *m, enum family family, struct arena *scratch,
		  const struct element **elements, size_t *count)
{
	const unsigned int n_ips = m->info.family[family].n_nodeport_ips;
	struct prefix *cidrs;
	struct element *items;
	unsigned int i, n_cidrs;

	if (all_cidrs(m, family, scratch, &cidrs, &n_cidrs))
		return -ENOMEM;
	items = arena_array(scratch, (size_t)n_ips + n_cidrs, sizeof(*items));
	if (!items)
		return -ENOMEM;
	for (i = 0; i < n_ips; i++) {
		items[i].set = SET_NODEPORT_IPS;
		items[i].addr = m->info.family[family].nodeport_ips[i];
	}
	for (i = 0; i < n_cidrs; i++) {
		items[n_ips + i].set = SET_SERVICE_CIDRS;
		items[n_ips + i].addr = cidrs[i].addr;
		items[n_ips + i].range = cidrs[i];
	}
	*elements = items;
	*count = (size_t)n_ips + n_cidrs;
	return 0;
}

static int addr_order(const void *a, const void *b)
{
	return addr_compare(a, b);
}

unsigned int model_local_endpoints(const struct service_entry *service, enum family family,
				   struct arena *scratch)
{
	const uint8_t wanted = ENDPOINT_READY | ENDPOINT_LOCAL;
	const struct slice_entry *e;
	unsigned int i, n = 0, different = 0;
	struct addr *addrs;
	size_t size = 0;

	for (e = service->slices; e; e = e->next)
		size += e->object->n_endpoints;
	addrs = arena_array(scratch, size, sizeof(*addrs));
	for (e = service->slices; addrs && e; e = e->next)
		for (i = 0; e->object->family == family && i < e->object->n_endpoints; i++)
			if ((e->object->endpoints[i].flags & wanted) == wanted)
				addrs[n++] = e->object->endpoints[i].addr;
	if (n)
		qsort(addrs, n, sizeof(*addrs), addr_order);
	for (i = 0; i < n; i++)
		different += !i || addr_compare(&addrs[i - 1], &addrs[i]);
	return different;
}
