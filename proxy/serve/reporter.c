/*
 * Services with a health-check node port are remembered by name between their compilation and the
 * end of the sync, since the answer must follow the rules, never lead them (HC-5).
 */
#include "proxy/serve/reporter.h"

#include "proxy/base/clock.h"
#include "proxy/serve/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct changed_service {
	struct changed_service *next;
	const char *namespace, *name;
};

struct reporter {
	struct model *model;
	struct metrics *metrics;
	struct health *health;
	const struct sync *sync;
	struct notify *notify;
	bool reloading;
	bool ready; /* the first sync is done, and told */
	bool family[N_FAMILIES];
	struct changed_service *changed;
	struct arena scratch;
	int64_t started_us;			    /* MET-2: earlier triggers do not count */
	uint64_t service_changes, endpoint_changes; /* told to the metrics so far */
	/* Monotonic: the arrival of what is looked at now, and of the oldest change that waits. */
	int64_t arrived_us, waiting_us[N_FAMILIES]; /* 0: none */
};

struct reporter *reporter_new(struct model *model, struct metrics *metrics, struct health *health,
			      const bool family[N_FAMILIES])
{
	struct reporter *r = calloc(1, sizeof(*r));
	unsigned int f;

	if (!r)
		return NULL;
	r->model = model;
	r->metrics = metrics;
	r->health = health;
	r->started_us = clock_realtime_us(clock_system());
	for (f = 0; f < N_FAMILIES; f++) {
		r->family[f] = family[f];
		if (!family[f])
			continue;
		metrics_show_family(metrics, (enum family)f);
		health_add_family(health, (enum family)f);
	}
	return r;
}

static void changed_clear(struct reporter *r)
{
	struct changed_service *c;

	while ((c = r->changed)) {
		r->changed = c->next;
		free(c);
	}
}

void reporter_free(struct reporter *r)
{
	if (!r)
		return;
	changed_clear(r);
	arena_free(&r->scratch);
	free(r);
}

static double seconds(int64_t us)
{
	return (double)us / 1e6;
}

static double now_s(void)
{
	return seconds(clock_realtime_us(clock_system()));
}

static void observe_commit(struct reporter *r, enum family family)
{
	const int64_t now = clock_monotonic_us(clock_system());

	if (r->waiting_us[family])
		metrics_observe(r->metrics, METRIC_EVENT_TO_COMMIT, family,
				seconds(now - r->waiting_us[family]));
	r->waiting_us[family] = 0;
}

static void on_queued(void *ctx, enum family family)
{
	struct reporter *r = ctx;
	struct model *m = r->model;

	health_queued(r->health, family);
	if (!r->waiting_us[family] && model_is_dirty(m, family))
		r->waiting_us[family] =
			r->arrived_us ? r->arrived_us : clock_monotonic_us(clock_system());
	metrics_set(r->metrics, METRIC_LAST_QUEUED, family, now_s());
	metrics_set(r->metrics, METRIC_SERVICE_CHANGES_PENDING, 0, m->pending_services);
	metrics_set(r->metrics, METRIC_ENDPOINT_CHANGES_PENDING, 0, m->pending_slices);
	metrics_add(r->metrics, METRIC_SERVICE_CHANGES, 0,
		    (double)(m->counters.service_changes - r->service_changes));
	metrics_add(r->metrics, METRIC_ENDPOINT_CHANGES, 0,
		    (double)(m->counters.endpoint_changes - r->endpoint_changes));
	r->service_changes = m->counters.service_changes;
	r->endpoint_changes = m->counters.endpoint_changes;
}

/* MET-2 */
static void observe_programming(struct reporter *r, enum family family)
{
	struct model *m = r->model;
	const int64_t now = clock_realtime_us(clock_system());
	unsigned int i;

	for (i = 0; i < m->n_triggers[family]; i++)
		if (m->triggers[family][i] >= r->started_us && m->triggers[family][i] <= now)
			metrics_observe(r->metrics, METRIC_PROGRAMMING_DURATION, family,
					seconds(now - m->triggers[family][i]));
	m->n_triggers[family] = 0;
}

static void set_gauges(struct reporter *r, enum family family)
{
	const struct dataplane_gauges *g = r->sync ? sync_gauges(r->sync, family) : NULL;

	if (!g)
		return;
	metrics_set(r->metrics, METRIC_NO_LOCAL_ENDPOINTS, metrics_policy(POLICY_INTERNAL, family),
		    g->no_local[0]);
	metrics_set(r->metrics, METRIC_NO_LOCAL_ENDPOINTS, metrics_policy(POLICY_EXTERNAL, family),
		    g->no_local[1]);
	metrics_set(r->metrics, METRIC_SERVICE_PORTS, family, g->service_ports);
	metrics_set(r->metrics, METRIC_ENDPOINTS, family, g->endpoints);
	metrics_set(r->metrics, METRIC_SET_ASIDE, family, g->set_aside);
	metrics_set(r->metrics, METRIC_CONFLICTS, family, r->model->n_lost[family]);
}

static void on_synced(void *ctx, enum family family, int err, const struct sync_report *report,
		      int64_t duration_us)
{
	struct reporter *r = ctx;
	struct metrics *m = r->metrics;
	const unsigned int written = report->elements_added + report->elements_deleted;

	metrics_observe(m, METRIC_SYNC_DURATION, family, seconds(duration_us));
	metrics_observe(m, report->full ? METRIC_FULL_SYNC_DURATION : METRIC_PARTIAL_SYNC_DURATION,
			family, seconds(duration_us));
	metrics_add(m, METRIC_SYNC_FAILURES, family, report->refused ? report->refused : err != 0);
	metrics_add(m, METRIC_TRANSACTIONS, family, report->wrote);
	metrics_add(m, METRIC_ELEMENTS_WRITTEN, family, written);
	if (report->full && !report->services)
		metrics_add(m, METRIC_REPAIRS, family, written);
	set_gauges(r, family);
	if (err)
		return;
	metrics_set(m, METRIC_LAST_SYNC, family, now_s());
	observe_programming(r, family);
	observe_commit(r, family);
	health_synced(r->health, family);
}

static void on_swept(void *ctx, enum family family, unsigned long deleted, int64_t duration_us)
{
	struct reporter *r = ctx;

	metrics_observe(r->metrics, METRIC_CONNTRACK_SYNC_DURATION, family, seconds(duration_us));
	metrics_add(r->metrics, METRIC_CONNTRACK_DELETED, family, (double)deleted);
}

static void on_cleanup_failed(void *ctx, enum family family)
{
	struct reporter *r = ctx;

	metrics_add(r->metrics, METRIC_CLEANUP_FAILURES, family, 1);
}

static void on_compiled(void *ctx, struct service_entry *service)
{
	const bool has = service->object && service_has_health_check(service->object);
	const size_t n_namespace = strlen(service->namespace) + 1,
		     n_name = strlen(service->name) + 1;
	struct reporter *r = ctx;
	struct changed_service *c;
	char *text;

	if (!has && !service->health_check)
		return;
	service->health_check = has;
	c = malloc(sizeof(*c) + n_namespace + n_name);
	if (!c)
		return;
	text = (char *)(c + 1);
	c->namespace = memcpy(text, service->namespace, n_namespace);
	c->name = memcpy(text + n_namespace, service->name, n_name);
	c->next = r->changed;
	r->changed = c;
}

static void tell_health(struct reporter *r, const struct changed_service *c)
{
	struct service_entry *s = model_find_service(r->model, c->namespace, c->name);
	unsigned int count[N_FAMILIES], f;

	if (!s || !s->object) {
		health_remove_service(r->health, c->namespace, c->name);
		return;
	}
	for (f = 0; f < N_FAMILIES; f++)
		count[f] = model_local_endpoints(s, (enum family)f, &r->scratch);
	arena_reset(&r->scratch);
	health_set_service(r->health, s->object, count);
}

static void tell_manager(struct reporter *r)
{
	unsigned int f, ports = 0, endpoints = 0;
	char status[128];

	if (r->reloading)
		return;
	for (f = 0; r->sync && f < N_FAMILIES; f++) {
		const struct dataplane_gauges *g = sync_gauges(r->sync, (enum family)f);

		ports += g ? g->service_ports : 0;
		endpoints += g ? g->endpoints : 0;
	}
	snprintf(status, sizeof(status), "%u service ports with %u endpoints are programmed", ports,
		 endpoints);
	if (r->ready)
		notify_status(r->notify, status);
	else
		notify_ready(r->notify, status);
	r->ready = true;
}

static void on_settled(void *ctx)
{
	struct reporter *r = ctx;
	const struct node_info *info = &r->model->info;
	const struct changed_service *c;
	unsigned int f;

	health_set_node(r->health, r->model->node);
	for (f = 0; f < N_FAMILIES; f++)
		if (r->family[f])
			health_set_addresses(
				r->health, (enum family)f, info->family[f].nodeports_everywhere,
				info->family[f].nodeport_ips, info->family[f].n_nodeport_ips);
	for (c = r->changed; c; c = c->next)
		tell_health(r, c);
	changed_clear(r);
	metrics_set(r->metrics, METRIC_SERVICE_CHANGES_PENDING, 0, 0);
	metrics_set(r->metrics, METRIC_ENDPOINT_CHANGES_PENDING, 0, 0);
	tell_manager(r);
}

void reporter_attach(struct reporter *r, struct sync_options *options)
{
	options->synced = on_synced;
	options->swept = on_swept;
	options->queued = on_queued;
	options->compiled = on_compiled;
	options->settled = on_settled;
	options->cleanup_failed = on_cleanup_failed;
	options->ctx = r;
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
			metrics_set(r->metrics, METRIC_KERNEL_FEATURE, FEATURE_TABLE_OWNER,
				    status.owner);
	metrics_set(r->metrics, METRIC_KERNEL_FEATURE, FEATURE_IPV6, r->family[FAMILY_IPV6]);
}
