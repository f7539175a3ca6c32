/* EndpointSlices, each with the Service that it belongs to. */
#include "proxy/model/model_internal.h"

#include "proxy/base/array.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

enum { TRIGGERS_MAX = 1 << 16 };

static struct slice_entry *slice_find(const struct model *m,
				      const char *namespace, const char *name)
{
	struct slice_entry *e;

	for_each_hash_match (e, &m->slices, model_name_hash(namespace, name), node)
		if (strcmp(e->object->name, name) == 0 &&
		    strcmp(e->object->namespace, namespace) == 0)
			return e;
	return NULL;
}

static void slice_unlink(struct slice_entry *e)
{
	assert(*e->at == e);
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
	assert(*e->at == e);
}

static void slice_touched(struct model *m, struct service_entry *s,
			  enum family family)
{
	m->revision++;
	if (s->ports[family])
		model_mark(m, s, family);
}

static void slice_changed(struct model *m, enum family family)
{
	m->counters.endpoint_changes++;
	m->pending[family].slices += !m->ignored[family];
}

/* A family that is not programmed for long keeps the oldest: they are what MET-2 is to show. */
static void trigger_add(struct model *m, enum family family, int64_t trigger_us)
{
	struct model_pending *p = &m->pending[family];

	assert(p->n_triggers <= TRIGGERS_MAX);
	if (!trigger_us || m->ignored[family] || p->n_triggers == TRIGGERS_MAX ||
	    array_grow(p->triggers, p->n_triggers, p->triggers_room))
		return;
	p->triggers[p->n_triggers++] = trigger_us;
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
 * Whether an endpoint that may have connections is not among those of @new that
 * may. Most keep their order, so that the next one is found at once.
 */
static bool slice_lost(const struct slice *old, const struct slice *new)
{
	const unsigned int lives = ENDPOINT_READY | ENDPOINT_SERVING;
	const unsigned int n = new->n_endpoints;
	struct slice_endpoint was, is;
	unsigned int i, k, at = 0;

	for (i = 0; i < old->n_endpoints; i++) {
		was = slice_endpoint(old, i);
		if (!(was.flags & lives))
			continue;
		for (k = 0; k < n; k++, at++) {
			at = at < n ? at : 0;
			is = slice_endpoint(new, at);
			if ((is.flags & lives) &&
			    addr_compare(&is.addr, &was.addr) == 0)
				break;
		}
		if (k == n)
			return true;
	}
	return false;
}

/* @new replaces @old in the Service, or nothing does. */
static void mark_endpoints_left(struct model *m, struct service_entry *s,
				const struct slice *old, const struct slice *new)
{
	if (model_closes_connections(m, s) &&
	    (!new || new->family != old->family || !has_same_ports(old, new) ||
	     slice_lost(old, new)))
		s->endpoints_left[old->family] = true;
}

static void slice_remove(struct model *m, struct slice_entry *e)
{
	struct service_entry *s = e->service;

	assert(s && e->object);
	slice_changed(m, e->object->family);
	slice_unlink(e);
	mark_endpoints_left(m, s, e->object, NULL);
	hashtab_remove(&m->slices, &e->node);
	slice_touched(m, s, e->object->family);
	free(e->object);
	free(e);
	model_prune(m, s);
}

/* A slice that moves stays where it is until it has a place in the other Service (EPS-10). */
static void slice_move(struct model *m, struct slice_entry *e,
		       struct service_entry *to)
{
	struct service_entry *from = e->service;

	assert(from && from != to);
	slice_touched(m, from, e->object->family);
	slice_unlink(e);
	mark_endpoints_left(m, from, e->object, NULL);
	slice_link(e, to);
	model_prune(m, from);
}

int model_put_slice(void *ctx, struct slice *slice)
{
	struct model *m = ctx;
	struct slice_entry *e = slice_find(m, slice->namespace, slice->name);
	struct service_entry *s =
		model_get_service(m, slice->namespace, slice->service);

	if (!s || (!e && !(e = calloc(1, sizeof(*e))))) {
		model_log(m, LOG_ERR, "EndpointSlice %s/%s: out of memory",
			  slice->namespace, slice->name);
		free(slice);
		if (s)
			model_prune(m, s);
		return -ENOMEM;
	}
	assert(slice->family < N_FAMILIES);
	if (!e->object || !slice_equal(e->object, slice)) {
		slice_changed(m, slice->family);
		trigger_add(m, slice->family, slice->trigger_us);
	}
	if (!e->object) {
		hashtab_insert(&m->slices, &e->node,
			       model_name_hash(slice->namespace, slice->name));
		slice_link(e, s);
	} else if (e->service != s) {
		slice_move(m, e, s);
	} else {
		mark_endpoints_left(m, s, e->object, slice);
		if (e->object->family != slice->family)
			slice_touched(m, s, e->object->family);
	}
	free(e->object);
	e->object = slice;
	e->epoch = m->epoch;
	slice_touched(m, s, slice->family);
	return 0;
}

void model_drop_slice(struct model *m, const char *namespace, const char *name)
{
	struct slice_entry *e = slice_find(m, namespace, name);

	if (e)
		slice_remove(m, e);
}

void model_drop_slices(struct model *m, uint64_t since)
{
	struct slice_entry *e;

	for_each_slice_entry (e, m)
		if (e->epoch < since)
			slice_remove(m, e);
}

static int addr_order(const void *a, const void *b)
{
	return addr_compare(a, b);
}

unsigned int model_local_endpoints(const struct service_entry *service,
				   enum family family, struct arena *scratch)
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
		for (i = 0;
		     e->object->family == family && i < e->object->n_endpoints; i++)
			if ((slice_endpoint_flags(e->object, i) & wanted) == wanted)
				addrs[n++] = slice_endpoint(e->object, i).addr;
	assert(n <= size);
	if (n)
		qsort(addrs, n, sizeof(*addrs), addr_order);
	for (i = 0; i < n; i++)
		different += !i || addr_compare(&addrs[i - 1], &addrs[i]);
	assert(different <= n && !different == !n);
	return different;
}
