/*
 * The store. Everything here is proportional to the object that changes, except for the end of a
 * list (which looks for what has vanished) and changes of the node itself.
 */
#include "proxy/model/model_internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

void model_log(struct model *m, int severity, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	m->log(m->log_ctx, severity, text);
}

uint64_t model_name_hash(const char *namespace, const char *name)
{
	return hash_text(hash_text(HASH_SEED, namespace), name);
}

struct service_entry *model_find_service(const struct model *m,
					 const char *namespace, const char *name)
{
	struct service_entry *s;

	for_each_hash_match (s, &m->services, model_name_hash(namespace, name), node)
		if (strcmp(s->name, name) == 0 &&
		    strcmp(s->namespace, namespace) == 0)
			return s;
	return NULL;
}

struct service_entry *model_get_service(struct model *m, const char *namespace,
					const char *name)
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
	hashtab_insert(&m->services, &s->node, model_name_hash(namespace, name));
	return s;
}

void model_mark(struct model *m, struct service_entry *service, enum family family)
{
	assert(family < N_FAMILIES);
	assert(service->dirty[family] || !service->next_dirty[family]);
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
		assert(s->dirty[family]);
		m->dirty[family] = s->next_dirty[family];
		s->next_dirty[family] = NULL;
		s->dirty[family] = false;
	}
	return s;
}

const struct config *model_config(const struct model *m)
{
	return m->config;
}

const struct hashtab *model_services(const struct model *m)
{
	return &m->services;
}

const struct hashtab *model_slices(const struct model *m)
{
	return &m->slices;
}

const struct model_pending *model_pending(const struct model *m, enum family family)
{
	return &m->pending[family];
}

void model_synced(struct model *m, enum family family)
{
	assert(family < N_FAMILIES);
	m->pending[family].services = m->pending[family].slices = 0;
}

void model_forget_triggers(struct model *m, enum family family)
{
	m->pending[family].n_triggers = 0;
}

struct model_counters model_counters(const struct model *m)
{
	return m->counters;
}

uint64_t model_revision(const struct model *m)
{
	return m->revision;
}

uint64_t model_changes(const struct model *m, enum family family)
{
	return m->changes[family];
}

bool model_has_list(const struct model *m, enum kind kind)
{
	return m->complete[kind];
}

bool model_is_complete(const struct model *m)
{
	return m->complete[KIND_SERVICE] && m->complete[KIND_SLICE];
}

bool model_is_dirty(const struct model *m, enum family family)
{
	return m->dirty[family] || m->globals_dirty[family];
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
			model_free_port(m, (enum family)f, p);
		}
		used |= s->ports[f] || s->dirty[f];
	}
	if (used)
		return;
	assert(m->services.count);
	hashtab_remove(&m->services, &s->node);
	free(s);
}

void model_ignore_family(struct model *m, enum family family)
{
	struct service_entry *s;

	m->ignored[family] = true;
	while ((s = model_take_dirty(m, family)))
		model_prune(m, s);
	assert(!m->dirty[family]);
	m->pending[family].n_triggers = 0;
}

static void on_object_gone(void *ctx, enum kind kind, const char *namespace,
			   const char *name)
{
	struct model *m = ctx;
	struct service_entry *service;

	switch (kind) {
	case KIND_SERVICE:
		service = model_find_service(m, namespace, name);
		if (service && service->object)
			model_set_service(m, service, NULL);
		break;
	case KIND_SLICE:
		model_drop_slice(m, namespace, name);
		break;
	case KIND_SERVICE_CIDR:
		model_drop_cidr(m, name);
		break;
	case KIND_NODE:
		if (m->node && strcmp(m->node->name, name) == 0)
			model_set_node(m, NULL);
		break;
	case N_KINDS:
		break;
	}
}

static void on_list_begin(void *ctx, enum kind kind)
{
	struct model *m = ctx;

	assert(kind < N_KINDS);
	m->list_epoch[kind] = ++m->epoch;
}

static void on_list_end(void *ctx, enum kind kind)
{
	struct model *m = ctx;
	const uint64_t since = m->list_epoch[kind];

	assert(kind < N_KINDS && since <= m->epoch);
	if (kind == KIND_SERVICE_CIDR && !m->complete[kind])
		model_globals_changed(
			m); /* ranges of an earlier run have been kept until now */
	m->complete[kind] = true;
	if (kind == KIND_SERVICE)
		model_drop_services(m, since);
	else if (kind == KIND_SLICE)
		model_drop_slices(m, since);
	else if (kind == KIND_NODE && m->node && m->node_epoch < since)
		model_set_node(m, NULL);
	else if (kind == KIND_SERVICE_CIDR)
		model_drop_cidrs(m, since);
}

static void on_complaint(void *ctx, const char *message)
{
	struct model *m = ctx;

	model_log(m, LOG_WARNING, "%s", message);
}

struct model *model_new(const struct config *config,
			void (*log)(void *ctx, int severity, const char *message),
			void *log_ctx)
{
	struct model *m = calloc(1, sizeof(*m));

	assert(config);
	if (!m)
		return NULL;
	m->config = config;
	m->log = log;
	m->log_ctx = log_ctx;
	m->sink = (struct object_sink){
		.ctx = m,
		.put_service = model_put_service,
		.put_slice = model_put_slice,
		.put_service_cidr = model_put_cidr,
		.put_node = model_put_node,
		.gone = on_object_gone,
		.list_begin = on_list_begin,
		.list_end = on_list_end,
		.complain = on_complaint,
	};
	model_refresh_node(m);
	return m;
}

const struct object_sink *model_sink(struct model *m)
{
	return &m->sink;
}

static void free_service(struct model *m, struct service_entry *s)
{
	struct service_port_state *p, *next;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		for (p = s->ports[f]; p; p = next) {
			next = p->next;
			free(p->claims);
			p->claims = NULL;
			p->n_claims = 0;
			model_free_port(m, (enum family)f, p);
		}
	free(s->object);
	free(s);
}

void model_free(struct model *m)
{
	struct service_entry *s;
	struct slice_entry *e;
	unsigned int f;

	if (!m)
		return;
	for_each_slice_entry (e, m) {
		free(e->object);
		free(e);
	}
	for_each_service_entry (s, m)
		free_service(m, s);
	hashtab_free(&m->slices);
	hashtab_free(&m->services);
	model_drop_cidrs(m, UINT64_MAX);
	for (f = 0; f < N_FAMILIES; f++) {
		hashtab_free(&m->claims[f]);
		free(m->local[f]);
		free(m->pending[f].triggers);
	}
	node_info_free(&m->info);
	free(m->node);
	free(m);
}
