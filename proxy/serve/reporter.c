/*
 * Services with a health-check node port are remembered by name between their
 * compilation and the end of the family's sync, since the answer must follow
 * the rules, never lead them (HC-5). Each name is there once, and not if the
 * Service came and went meanwhile: a family that cannot be programmed for days
 * costs no more than the Services there are.
 */
#include "proxy/serve/reporter.h"

#include "proxy/serve/localports.h"
#include "proxy/serve/news.h"
#include "proxy/serve/notify.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct changed_service {
	struct hash_node node;
	const char *namespace, *name;
};

/* Of one family. */
struct changes {
	struct hashtab services; /* struct changed_service */
	bool all; /* memory ran out over some: look at every Service */
};

struct reporter {
	struct model *model;
	struct metrics *metrics;
	struct health *health;
	const struct clock *clock;
	const struct sync *sync;
	struct localports *localports; /* NULL: nobody */
	struct news *news;	       /* NULL: nobody */
	struct notify *notify;
	bool reloading;
	bool ready; /* the first sync is done, and told */
	struct reporter_beginning beginning;
	bool family[N_FAMILIES];
	struct changes changes[N_FAMILIES];
	struct changes counted; /* if @counting */
	bool counting;
	struct arena scratch;
	int64_t started_us; /* MET-2: earlier triggers do not count */
	uint64_t service_changes,
		endpoint_changes; /* told to the metrics so far */
	/* Monotonic: the arrival of what is looked at now, and of the oldest change that waits. */
	int64_t arrived_us, waiting_us[N_FAMILIES]; /* 0: none */
};

struct reporter *reporter_new(struct model *model, struct metrics *metrics,
			      struct health *health, const struct clock *clock,
			      const bool family[N_FAMILIES])
{
	struct reporter *r = calloc(1, sizeof(*r));
	unsigned int f;

	assert(model && metrics && health && clock);
	if (!r)
		return NULL;
	r->model = model;
	r->metrics = metrics;
	r->health = health;
	r->clock = clock;
	r->started_us = clock_realtime_us(clock);
	for (f = 0; f < N_FAMILIES; f++) {
		r->family[f] = family[f];
		if (!family[f])
			continue;
		metrics_show_family(metrics, (enum family)f);
		health_add_family(health, (enum family)f);
	}
	return r;
}

static void changes_clear(struct changes *changes)
{
	struct changed_service *c;

	for_each_hashed (c, &changes->services, node)
		free(c);
	hashtab_free(&changes->services);
	changes->all = false;
}

void reporter_free(struct reporter *r)
{
	unsigned int f;

	if (!r)
		return;
	for (f = 0; f < N_FAMILIES; f++)
		changes_clear(&r->changes[f]);
	changes_clear(&r->counted);
	arena_free(&r->scratch);
	free(r);
}

static double as_seconds(int64_t us)
{
	return (double)us / 1e6;
}

static double now_s(const struct reporter *r)
{
	return as_seconds(clock_realtime_us(r->clock));
}

static void observe_commit(struct reporter *r, enum family family)
{
	const int64_t now = clock_monotonic_us(r->clock);

	assert(family < N_FAMILIES && r->family[family]);
	if (r->waiting_us[family])
		metrics_observe(r->metrics, METRIC_EVENT_TO_COMMIT, family,
				as_seconds(now - r->waiting_us[family]));
	r->waiting_us[family] = 0;
}

/* A Service counts once, whatever families it has; a slice has one. */
static void set_pending(struct reporter *r)
{
	const struct model_pending *p4 = model_pending(r->model, FAMILY_IPV4);
	const struct model_pending *p6 = model_pending(r->model, FAMILY_IPV6);

	metrics_set(r->metrics, METRIC_SERVICE_CHANGES_PENDING, 0,
		    p4->services > p6->services ? p4->services : p6->services);
	metrics_set(r->metrics, METRIC_ENDPOINT_CHANGES_PENDING, 0,
		    (double)p4->slices + p6->slices);
}

static void on_queued(void *ctx, enum family family)
{
	struct reporter *r = ctx;
	const struct model_counters seen = model_counters(r->model);

	health_queued(r->health, family);
	if (!r->waiting_us[family] && model_is_dirty(r->model, family))
		r->waiting_us[family] = r->arrived_us
						? r->arrived_us
						: clock_monotonic_us(r->clock);
	metrics_set(r->metrics, METRIC_LAST_QUEUED, family, now_s(r));
	set_pending(r);
	metrics_add(r->metrics, METRIC_SERVICE_CHANGES, 0,
		    (double)(seen.service_changes - r->service_changes));
	metrics_add(r->metrics, METRIC_ENDPOINT_CHANGES, 0,
		    (double)(seen.endpoint_changes - r->endpoint_changes));
	r->service_changes = seen.service_changes;
	r->endpoint_changes = seen.endpoint_changes;
}

/* MET-2 */
static void observe_programming(struct reporter *r, enum family family)
{
	const struct model_pending *p = model_pending(r->model, family);
	const int64_t now = clock_realtime_us(r->clock);
	unsigned int i;

	assert(family < N_FAMILIES);
	for (i = 0; i < p->n_triggers; i++)
		if (p->triggers[i] >= r->started_us && p->triggers[i] <= now)
			metrics_observe(r->metrics, METRIC_PROGRAMMING_DURATION,
					family, as_seconds(now - p->triggers[i]));
	model_forget_triggers(r->model, family);
}

static void set_gauges(struct reporter *r, enum family family)
{
	const struct dataplane_gauges *g =
		r->sync ? sync_gauges(r->sync, family) : NULL;

	if (!g)
		return;
	metrics_set(r->metrics, METRIC_NO_LOCAL_ENDPOINTS,
		    metrics_policy(POLICY_INTERNAL, family), g->no_local[0]);
	metrics_set(r->metrics, METRIC_NO_LOCAL_ENDPOINTS,
		    metrics_policy(POLICY_EXTERNAL, family), g->no_local[1]);
	metrics_set(r->metrics, METRIC_SERVICE_PORTS, family, g->service_ports);
	metrics_set(r->metrics, METRIC_ENDPOINTS, family, g->endpoints);
	metrics_set(r->metrics, METRIC_SET_ASIDE, family, g->set_aside);
	metrics_set(r->metrics, METRIC_CONFLICTS, family,
		    model_conflicts(r->model, family));
}

static int tell_service(struct reporter *r, enum family family,
			const struct service_entry *s)
{
	unsigned int count = model_local_endpoints(s, family, &r->scratch);

	arena_reset(&r->scratch);
	return health_set_service(r->health, family, s->object, count);
}

/* Ports that one Service leaves may be another's now, whichever is told first. */
static void release_ports(struct reporter *r, enum family family,
			  const struct changed_service *c)
{
	const struct service_entry *s =
		model_find_service(r->model, c->namespace, c->name);

	if (r->localports)
		localports_release(r->localports, family, c->namespace, c->name);
	if (s && s->object)
		health_release_service(r->health, family, s->object);
	else
		health_remove_service(r->health, family, c->namespace, c->name);
}

static int tell_changed(struct reporter *r, enum family family,
			const struct changed_service *c)
{
	const struct service_entry *s =
		model_find_service(r->model, c->namespace, c->name);

	if (r->localports)
		localports_update(r->localports, family, c->namespace, c->name);
	return s && s->object ? tell_service(r, family, s) : 0;
}

static int tell_all(struct reporter *r, enum family family)
{
	const struct service_entry *s;
	int err = 0;

	for_each_service_entry (s, r->model)
		if (s->object && tell_service(r, family, s))
			err = -ENOMEM;
	return err;
}

/* The family's rules are in the kernel: answers and listeners follow. */
static void tell_health(struct reporter *r, enum family family)
{
	const struct node_info *info = model_node_info(r->model);
	struct changes *changes = &r->changes[family];
	struct changed_service *c;
	bool again = false;

	assert(r->family[family]);
	health_set_node(r->health, model_node(r->model));
	health_set_addresses(r->health, family,
			     info->family[family].nodeports_everywhere,
			     info->family[family].nodeport_ips,
			     info->family[family].n_nodeport_ips);
	for_each_hashed (c, &changes->services, node)
		release_ports(r, family, c);
	for_each_hashed (c, &changes->services, node)
		again |= tell_changed(r, family, c) != 0;
	if (changes->all)
		again |= tell_all(r, family) != 0;
	if (changes->all && r->localports)
		localports_update_all(r->localports, family);
	if (r->localports)
		localports_synced(r->localports, family);
	changes_clear(changes);
	changes->all = again;
}

struct reporter_beginning reporter_beginning(const struct reporter *r)
{
	return r->beginning;
}

/* A change that nothing waited for, such as a repair, took as long as the sync. */
static void tell_news(struct reporter *r, enum family family,
		      const struct sync_report *report, int64_t duration_us)
{
	const int64_t now = clock_monotonic_us(r->clock),
		      since = r->waiting_us[family];

	news_synced(r->news, family,
		    report->elements_added + report->elements_deleted,
		    report->repair, since ? now - since : duration_us);
}

static void on_synced(void *ctx, enum family family, int err,
		      const struct sync_report *report, int64_t duration_us)
{
	struct reporter *r = ctx;
	struct metrics *m = r->metrics;
	const unsigned int written =
		report->elements_added + report->elements_deleted;

	metrics_observe(m, METRIC_SYNC_DURATION, family, as_seconds(duration_us));
	metrics_observe(m,
			report->full ? METRIC_FULL_SYNC_DURATION
				     : METRIC_PARTIAL_SYNC_DURATION,
			family, as_seconds(duration_us));
	metrics_add(m, METRIC_SYNC_FAILURES, family,
		    report->refused ? report->refused : err != 0);
	metrics_add(m, METRIC_TRANSACTIONS, family, report->wrote);
	metrics_add(m, METRIC_ELEMENTS_WRITTEN, family, written);
	if (!err) {
		r->beginning.adopted |= report->adopted;
		r->beginning.replaced |= report->replaced;
	}
	r->beginning.elements += written;
	if (report->repair)
		metrics_add(m, METRIC_REPAIRS, family, written);
	tell_news(r, family, report, duration_us);
	set_gauges(r, family);
	set_pending(r);
	if (err)
		return;
	metrics_set(m, METRIC_LAST_SYNC, family, now_s(r));
	observe_programming(r, family);
	observe_commit(r, family);
	health_synced(r->health, family);
	tell_health(r, family);
}

static void on_swept(void *ctx, enum family family, unsigned long deleted,
		     int64_t duration_us)
{
	struct reporter *r = ctx;

	metrics_observe(r->metrics, METRIC_CONNTRACK_SYNC_DURATION, family,
			as_seconds(duration_us));
	metrics_add(r->metrics, METRIC_CONNTRACK_DELETED, family, (double)deleted);
}

static void on_connections_closed(void *ctx, enum family family, unsigned long count)
{
	struct reporter *r = ctx;

	metrics_add(r->metrics, METRIC_CONNECTIONS_CLOSED, family, (double)count);
}

static void on_cleanup_failed(void *ctx, enum family family)
{
	struct reporter *r = ctx;

	metrics_add(r->metrics, METRIC_CLEANUP_FAILURES, family, 1);
}

static struct changed_service *changed_find(const struct changes *changes,
					    uint64_t hash,
					    const struct service_entry *service)
{
	struct changed_service *c;

	for_each_hash_match (c, &changes->services, hash, node)
		if (strcmp(c->name, service->name) == 0 &&
		    strcmp(c->namespace, service->namespace) == 0)
			return c;
	return NULL;
}

static struct changed_service *changed_new(const struct service_entry *service)
{
	const size_t n_namespace = strlen(service->namespace) + 1,
		     n_name = strlen(service->name) + 1;
	struct changed_service *c = malloc(sizeof(*c) + n_namespace + n_name);
	char *text;

	if (!c)
		return NULL;
	text = (char *)(c + 1);
	c->namespace = memcpy(text, service->namespace, n_namespace);
	c->name = memcpy(text + n_namespace, service->name, n_name);
	return c;
}

/* One that memory runs out over is not counted. */
static void count_service(struct reporter *r, const struct service_entry *service)
{
	const uint64_t hash = hash_text(hash_text(HASH_SEED, service->namespace),
					service->name);
	struct changed_service *c;

	if (changed_find(&r->counted, hash, service))
		return;
	c = changed_new(service);
	if (c)
		hashtab_insert(&r->counted.services, &c->node, hash);
}

static void on_changed(void *ctx, enum family family,
		       const struct service_port_state *port,
		       const struct dispatch *before, const struct dispatch *after)
{
	struct reporter *r = ctx;

	if (r->counting)
		count_service(r, port->service);
	news_port(r->news, family, port, before, after);
}

void reporter_count_services(struct reporter *r, bool on)
{
	changes_clear(&r->counted);
	r->counting = on;
}

size_t reporter_counted_services(const struct reporter *r)
{
	return r->counted.services.count;
}

static void on_compiled(void *ctx, struct service_entry *service, enum family family)
{
	const bool has =
		service->object && service_has_health_check(service->object);
	const uint64_t hash = hash_text(hash_text(HASH_SEED, service->namespace),
					service->name);
	struct reporter *r = ctx;
	struct changes *changes = &r->changes[family];
	struct changed_service *c;
	bool listens;

	c = changed_find(changes, hash, service);
	listens = c && r->localports; /* what is to be told already */
	if (r->localports)
		listens |= localports_concern(r->localports, family, service);
	if (!has && !listens &&
	    !health_has_service(r->health, family, service->namespace,
				service->name)) {
		if (c)
			hashtab_remove(&changes->services, &c->node);
		free(c);
		return;
	}
	if (c)
		return;
	c = changed_new(service);
	if (c)
		hashtab_insert(&changes->services, &c->node, hash);
	else
		changes->all = true;
}

static void tell_manager(struct reporter *r)
{
	unsigned int f, ports = 0, endpoints = 0;
	char status[128];

	if (r->reloading)
		return;
	for (f = 0; r->sync && f < N_FAMILIES; f++) {
		const struct dataplane_gauges *g =
			sync_gauges(r->sync, (enum family)f);

		ports += g ? g->service_ports : 0;
		endpoints += g ? g->endpoints : 0;
	}
	snprintf(status, sizeof(status),
		 "%u service ports with %u endpoints are programmed", ports,
		 endpoints);
	if (r->ready)
		notify_status(r->notify, status);
	else
		notify_ready(r->notify, status);
	r->ready = true;
}

static void on_sync_settled(void *ctx)
{
	struct reporter *r = ctx;

	tell_manager(r);
}

static void on_addresses(void *ctx)
{
	struct reporter *r = ctx;

	health_retry(r->health);
	news_node(r->news);
}

void reporter_attach(struct reporter *r, struct sync_options *options)
{
	options->synced = on_synced;
	options->swept = on_swept;
	options->closed = on_connections_closed;
	options->queued = on_queued;
	options->compiled = on_compiled;
	options->changed = on_changed;
	options->settled = on_sync_settled;
	options->addresses_changed = on_addresses;
	options->cleanup_failed = on_cleanup_failed;
	options->ctx = r;
}

void reporter_set_localports(struct reporter *r, struct localports *localports)
{
	assert(localports);
	r->localports = localports;
}

void reporter_set_news(struct reporter *r, struct news *news)
{
	r->news = news;
}

void reporter_set_notify(struct reporter *r, struct notify *notify)
{
	r->notify = notify;
}

void reporter_reload_begins(struct reporter *r)
{
	if (!r->ready)
		return;
	r->reloading = true;
	notify_reloading(r->notify, "the configuration is read again");
}

void reporter_reload_ended(struct reporter *r, bool refused)
{
	if (!r->reloading)
		return;
	r->reloading = false;
	notify_ready(r->notify, refused ? "the new configuration is refused, the one before stays "
					  "in force"
					: "the configuration is in force");
	if (!refused)
		tell_manager(r);
}

void reporter_set_arrival(struct reporter *r, int64_t arrived_us)
{
	r->arrived_us = arrived_us;
}

void reporter_set_sync(struct reporter *r, const struct sync *sync)
{
	struct sync_status status;
	unsigned int f;

	r->sync = sync;
	for (f = 0; sync && f < N_FAMILIES; f++)
		if (sync_status(sync, (enum family)f, &status))
			metrics_set(r->metrics, METRIC_KERNEL_FEATURE,
				    FEATURE_TABLE_OWNER, status.owner);
	metrics_set(r->metrics, METRIC_KERNEL_FEATURE, FEATURE_IPV6,
		    r->family[FAMILY_IPV6]);
	reporter_set_fast_path(r);
}

void reporter_set_fast_path(struct reporter *r)
{
	const enum fast_path_state state =
		r->sync ? sync_fast_path(r->sync) : FAST_PATH_OFF;

	if (state != FAST_PATH_OFF)
		metrics_set(r->metrics, METRIC_KERNEL_FEATURE,
			    FEATURE_FLOWTABLE, state == FAST_PATH_ON);
	if (r->sync && sync_counters(r->sync) != COUNTERS_OFF)
		metrics_set(r->metrics, METRIC_KERNEL_FEATURE, FEATURE_COUNTERS,
			    sync_counters(r->sync) == COUNTERS_ON);
}
