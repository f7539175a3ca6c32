/*
 * Health. Ages are measured on the monotonic clock and shown on the real one, so that a clock set
 * back makes nobody unhealthy.
 *
 * A health-check port belongs to one Service: one HTTP server per family, since answers differ by
 * family. Entries stand in an array sorted by namespace and name; there are as many as Services
 * with externalTrafficPolicy Local, and only those. One without a port stands among them, so that
 * what is wrong with it is told once.
 */
#include "proxy/serve/health.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "proxy/serve/httpd.h"
#include "proxy/base/jsonout.h"
#include "proxy/base/strbuf.h"

struct health_service;

enum { MAX_CONNECTIONS = 64, MAX_CHECK_CONNECTIONS = 256 };

/* One family of a health-check port. */
struct check {
	struct health_service *service;
	enum family family;
	unsigned int local_endpoints;
	struct httpd *httpd; /* NULL: the Service has no ClusterIP in this family */
	bool failed;	     /* some address could not be had: to be tried again */
};

struct health_service {
	struct health *health;
	char *namespace, *name, *uid;
	uint16_t port;
	struct check checks[N_FAMILIES];
};

struct health_family {
	bool runs;
	bool programmed; /* the first sync since the start is in the kernel */
	bool pending;
	int64_t pending_us; /* monotonic: since when the oldest change waits */
	int64_t synced_us;  /* real: latest successful sync, or the start of the loop */
	bool everywhere;
	struct addr *addrs;
	unsigned int n_addrs;
};

struct health {
	struct health_options options;
	struct httpd_pool *pool, *check_pool; /* neither can starve the other */
	struct httpd *httpd;
	bool serves; /* the health server is not switched off */
	bool was_ready;
	struct health_family family[N_FAMILIES];
	bool eligible;
	struct health_service **services; /* sorted */
	size_t n_services, size;
};

static bool family_is_healthy(const struct health *h, enum family family)
{
	const struct health_family *f = &h->family[family];

	if (!f->pending)
		return true;
	return clock_monotonic_us(h->options.clock) - f->pending_us <=
	       2 * h->options.sync_period_ms * 1000;
}

bool health_is_healthy(const struct health *h)
{
	return family_is_healthy(h, FAMILY_IPV4) && family_is_healthy(h, FAMILY_IPV6);
}

bool health_is_eligible(const struct health *h)
{
	return h->eligible;
}

static void add_time(struct strbuf *body, const char *key, int64_t us)
{
	char text[CLOCK_TEXT_SIZE];

	strbuf_addf(body, "\"%s\": \"%s\"", key, clock_format(us, text));
}

static void add_families(const struct health *h, struct strbuf *body)
{
	const char *comma = "";
	unsigned int f;

	strbuf_adds(body, "\"status\": {");
	for (f = 0; f < N_FAMILIES; f++) {
		if (!h->family[f].runs)
			continue;
		strbuf_addf(body, "%s\"%s\": {", comma, family_name(f));
		add_time(body, "lastUpdated", h->family[f].synced_us);
		strbuf_addf(body, ",\"healthy\": %s}", family_is_healthy(h, f) ? "true" : "false");
		comma = ",";
	}
	strbuf_addc(body, '}');
}

static int64_t latest_sync_us(const struct health *h)
{
	int64_t v4 = h->family[FAMILY_IPV4].synced_us, v6 = h->family[FAMILY_IPV6].synced_us;

	return v4 > v6 ? v4 : v6;
}

/* Not among kube-proxy's fields. */
static void add_source(const struct health *h, struct strbuf *body)
{
	struct health_source source = { 0 };
	int64_t age_us;

	if (!h->options.source)
		return;
	h->options.source(h->options.ctx, &source);
	strbuf_addf(body, ",\"apiServer\": {\"connected\": %s",
		    source.connected ? "true" : "false");
	if (source.contact_us) {
		age_us = clock_monotonic_us(h->options.clock) - source.contact_us;
		strbuf_addc(body, ',');
		add_time(body, "lastContact", clock_realtime_us(h->options.clock) - age_us);
	}
	strbuf_addc(body, '}');
}

/* HZ-2 */
static void answer_health(struct health *h, struct httpd_request *req, bool livez)
{
	int64_t now_us = clock_realtime_us(h->options.clock);
	bool healthy = health_is_healthy(h), ok = healthy && (livez || h->eligible);
	struct strbuf body = STRBUF_INIT;

	strbuf_addc(&body, '{');
	add_time(&body, "lastUpdated", ok ? now_us : latest_sync_us(h));
	strbuf_addc(&body, ',');
	add_time(&body, "currentTime", now_us);
	if (!livez)
		strbuf_addf(&body, ",\"nodeEligible\": %s", h->eligible ? "true" : "false");
	strbuf_addf(&body, ",\"healthy\": %s,", healthy ? "true" : "false");
	add_families(h, &body);
	add_source(h, &body);
	strbuf_addc(&body, '}');
	metrics_add(h->options.metrics, livez ? METRIC_LIVEZ : METRIC_HEALTHZ, ok ? 0 : 1, 1);
	httpd_reply(req, ok ? 200 : 503, "application/json", &body);
	strbuf_free(&body);
}

static bool all_programmed(const struct health *h)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		if (h->family[f].runs && !h->family[f].programmed)
			return false;
	return true;
}

bool health_is_ready(const struct health *h, struct strbuf *why)
{
	const bool ready = all_programmed(h);
	const size_t begin = why->length;
	const char *reason;
	unsigned int f;
	bool told;

	if (!ready && h->options.waiting)
		h->options.waiting(h->options.ctx, why);
	told = why->length > begin;
	for (f = 0; f < N_FAMILIES; f++) {
		reason = NULL;
		if (!family_is_healthy(h, f))
			reason = "a change is not in the kernel for too long";
		else if (h->family[f].runs && !h->family[f].programmed && !told)
			reason = "rules are not in the kernel yet";
		if (!reason)
			continue;
		strbuf_addf(why, "%s%s: %s", why->length > begin ? "; " : "", family_name(f),
			    reason);
	}
	return ready && health_is_healthy(h);
}

/* HZ-7 */
static void answer_ready(struct health *h, struct httpd_request *req)
{
	struct strbuf why = STRBUF_INIT, body = STRBUF_INIT;
	const bool ready = health_is_ready(h, &why);

	jsonout_object(&body, NULL);
	jsonout_bool(&body, "ready", ready);
	if (!ready)
		jsonout_text(&body, "waitingFor", why.text ? why.text : "");
	strbuf_addc(&body, ',');
	add_time(&body, "currentTime", clock_realtime_us(h->options.clock));
	strbuf_addf(&body, ",\"healthy\": %s,", health_is_healthy(h) ? "true" : "false");
	add_families(h, &body);
	add_source(h, &body);
	jsonout_object_end(&body);
	httpd_reply(req, ready ? 200 : 503, "application/json", &body);
	strbuf_free(&why);
	strbuf_free(&body);
}

static void handle_health(void *ctx, struct httpd_request *req, const char *path)
{
	struct strbuf body = STRBUF_INIT;

	if (strcmp(path, "/readyz") == 0) {
		answer_ready(ctx, req);
		return;
	}
	if (strcmp(path, "/healthz") == 0 || strcmp(path, "/livez") == 0) {
		answer_health(ctx, req, path[1] == 'l');
		return;
	}
	strbuf_adds(&body, "404 page not found\n");
	httpd_reply(req, 404, "text/plain; charset=utf-8", &body);
	strbuf_free(&body);
}

int health_change(struct health *h, const struct health_settings *settings, struct errbuf *eb)
{
	const struct httpd_keep keep = {
		.what = "health server",
		.address = settings->address,
		.hard_fail = settings->hard_fail,
		.retry_ms = h->options.retry_ms,
		.log = h->options.log,
		.ctx = h->options.ctx,
	};
	int err = httpd_keep(h->httpd, &keep, eb);

	if (err)
		return err;
	h->serves = *settings->address;
	h->options.node_name = settings->node_name;
	h->options.sync_period_ms = settings->sync_period_ms;
	return 0;
}

struct health *health_new(const struct health_options *options, struct errbuf *eb)
{
	const struct health_settings settings = {
		.address = options->address,
		.node_name = options->node_name,
		.hard_fail = options->hard_fail,
		.sync_period_ms = options->sync_period_ms,
	};
	struct health *h = calloc(1, sizeof(*h));

	if (!h) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	h->options = *options;
	if (!h->options.clock)
		h->options.clock = clock_system();
	h->pool = httpd_pool_new(MAX_CONNECTIONS);
	h->check_pool = httpd_pool_new(MAX_CHECK_CONNECTIONS);
	if (h->pool && h->check_pool)
		h->httpd = httpd_new(options->base, h->pool, handle_health, h);
	if (!h->httpd)
		errf(eb, -ENOMEM, "out of memory");
	if (!h->httpd || health_change(h, &settings, eb)) {
		health_free(h);
		return NULL;
	}
	return h;
}

static void service_free(struct health_service *service)
{
	unsigned int f;

	if (!service)
		return;
	for (f = 0; f < N_FAMILIES; f++)
		httpd_free(service->checks[f].httpd);
	free(service->namespace);
	free(service->name);
	free(service->uid);
	free(service);
}

void health_free(struct health *h)
{
	unsigned int f;
	size_t i;

	if (!h)
		return;
	for (i = 0; i < h->n_services; i++)
		service_free(h->services[i]);
	free(h->services);
	for (f = 0; f < N_FAMILIES; f++)
		free(h->family[f].addrs);
	httpd_free(h->httpd);
	httpd_pool_free(h->pool);
	httpd_pool_free(h->check_pool);
	free(h);
}

void health_add_family(struct health *h, enum family family)
{
	if (h->family[family].runs)
		return;
	h->family[family].runs = true;
	h->family[family].synced_us = clock_realtime_us(h->options.clock);
}

void health_queued(struct health *h, enum family family)
{
	if (h->family[family].pending)
		return;
	h->family[family].pending = true;
	h->family[family].pending_us = clock_monotonic_us(h->options.clock);
}

void health_set_node(struct health *h, const struct node *node)
{
	h->eligible = node && !(node->flags & (NODE_DELETED | NODE_TO_BE_DELETED));
}

/* HC-3. HC-8: without a health server of our own we count as healthy, and the node does not matter.
 */
static void handle_check(void *ctx, struct httpd_request *req, const char *path)
{
	const struct check *check = ctx;
	const struct health_service *service = check->service;
	const struct health *h = service->health;
	bool healthy = !h->serves || health_is_healthy(h);
	struct strbuf body = STRBUF_INIT;
	char weight[16];

	(void)path;
	snprintf(weight, sizeof(weight), "%u", check->local_endpoints);
	httpd_add_header(req, "X-Load-Balancing-Endpoint-Weight", weight);
	strbuf_adds(&body, "{\"service\": {\"namespace\": ");
	strbuf_add_json(&body, service->namespace);
	strbuf_adds(&body, ",\"name\": ");
	strbuf_add_json(&body, service->name);
	strbuf_addf(&body, "},\"localEndpoints\": %u,\"serviceProxyHealthy\": %s}",
		    check->local_endpoints, healthy ? "true" : "false");
	httpd_reply(req, healthy && check->local_endpoints ? 200 : 503, "application/json", &body);
	strbuf_free(&body);
}

/* HC-7; once per failure, not at each attempt. */
static void report_failure(const struct check *check, const char *error)
{
	const struct health_service *s = check->service;
	const struct health_options *o = &s->health->options;
	char note[800];

	snprintf(note, sizeof(note), "node %s failed to start healthcheck \"%s/%s\" on port %u: %s",
		 o->node_name, s->namespace, s->name, s->port, error);
	o->log(o->ctx, LOG_ERR, note);
	if (o->service_event)
		o->service_event(o->ctx, s->namespace, s->name, s->uid,
				 "FailedToStartServiceHealthcheck", note);
}

/* HC-1; the Service is kept for this to be said once. */
static void report_missing_port(const struct health_service *service)
{
	const struct health_options *o = &service->health->options;
	char text[800];

	snprintf(text, sizeof(text),
		 "Service %s/%s: externalTrafficPolicy is Local, but there is no "
		 "healthCheckNodePort: the load balancer cannot ask for local endpoints",
		 service->namespace, service->name);
	o->log(o->ctx, LOG_ERR, text);
}

/* HC-2 */
static void check_listen(struct check *check)
{
	static const struct addr any = { { 0 } };
	const struct health_family *f = &check->service->health->family[check->family];
	bool failed_before = check->failed;
	struct errbuf eb;
	int err;

	if (!check->httpd)
		return;
	err = httpd_listen(check->httpd, check->family, f->everywhere ? &any : f->addrs,
			   f->everywhere ? 1 : f->n_addrs, check->service->port, true, &eb);
	check->failed = err != 0;
	if (err && !failed_before)
		report_failure(check, eb.text);
}

void health_set_addresses(struct health *h, enum family family, bool everywhere,
			  const struct addr *addrs, unsigned int n)
{
	struct health_family *f = &h->family[family];
	struct addr *copy = NULL;
	size_t i;

	if (everywhere)
		n = 0;
	if (f->everywhere == everywhere && f->n_addrs == n &&
	    (!n || memcmp(f->addrs, addrs, n * sizeof(*addrs)) == 0))
		return;
	if (n) {
		copy = reallocarray(NULL, n, sizeof(*copy));
		if (!copy)
			return; /* stays as it is, and differs at the next call as well */
		memcpy(copy, addrs, n * sizeof(*copy));
	}
	free(f->addrs);
	f->addrs = copy;
	f->n_addrs = n;
	f->everywhere = everywhere;
	for (i = 0; i < h->n_services; i++)
		check_listen(&h->services[i]->checks[family]);
}

void health_synced(struct health *h, enum family family)
{
	size_t i;

	health_add_family(h, family);
	h->family[family].pending = false;
	h->family[family].programmed = true;
	h->family[family].synced_us = clock_realtime_us(h->options.clock);
	for (i = 0; i < h->n_services; i++)
		if (h->services[i]->checks[family].failed)
			check_listen(&h->services[i]->checks[family]);
	if (h->was_ready || !all_programmed(h))
		return;
	h->was_ready = true;
	if (h->options.ready)
		h->options.ready(h->options.ctx);
}

/* The index at which (namespace, name) stands, or would. */
static size_t service_index(const struct health *h, const char *namespace, const char *name,
			    bool *found)
{
	size_t low = 0, high = h->n_services, middle;
	int order;

	*found = false;
	while (low < high && !*found) {
		middle = low + (high - low) / 2;
		order = strcmp(h->services[middle]->namespace, namespace);
		if (!order)
			order = strcmp(h->services[middle]->name, name);
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
		if (!order) {
			*found = true;
			low = middle;
		}
	}
	return low;
}

void health_remove_service(struct health *h, const char *namespace, const char *name)
{
	bool found;
	size_t i = service_index(h, namespace, name, &found);

	if (!found)
		return;
	service_free(h->services[i]);
	h->n_services--;
	memmove(&h->services[i], &h->services[i + 1], (h->n_services - i) * sizeof(h->services[0]));
}

static struct health_service *service_new(struct health *h, const struct service *from)
{
	struct health_service *service = calloc(1, sizeof(*service));
	unsigned int f;

	if (!service)
		return NULL;
	service->health = h;
	service->namespace = strdup(from->namespace);
	service->name = strdup(from->name);
	service->uid = strdup(from->uid);
	service->port = from->health_check_node_port;
	for (f = 0; f < N_FAMILIES; f++) {
		service->checks[f].service = service;
		service->checks[f].family = f;
	}
	if (!service->namespace || !service->name || !service->uid) {
		service_free(service);
		return NULL;
	}
	return service;
}

static struct health_service *service_insert(struct health *h, size_t at,
					     const struct service *from)
{
	size_t size = h->size ? h->size * 2 : 8;
	struct health_service *service, **longer;

	if (h->n_services == h->size) {
		longer = reallocarray(h->services, size, sizeof(*longer));
		if (!longer)
			return NULL;
		h->services = longer;
		h->size = size;
	}
	service = service_new(h, from);
	if (!service)
		return NULL;
	memmove(&h->services[at + 1], &h->services[at],
		(h->n_services - at) * sizeof(h->services[0]));
	h->services[at] = service;
	h->n_services++;
	return service;
}

bool service_has_health_check(const struct service *service)
{
	const unsigned int needed = SERVICE_LOAD_BALANCER | SERVICE_EXTERNAL_LOCAL;

	return (service->flags & needed) == needed && !(service->flags & SERVICE_IGNORED);
}

static void check_update(struct check *check, const struct service *from,
			 unsigned int local_endpoints)
{
	const struct health_options *o = &check->service->health->options;

	check->local_endpoints = local_endpoints;
	if (!from->family[check->family].has_cluster_ip) {
		httpd_free(check->httpd);
		check->httpd = NULL;
		check->failed = false;
		return;
	}
	if (check->httpd)
		return;
	check->httpd = httpd_new(o->base, check->service->health->check_pool, handle_check, check);
	if (check->httpd)
		check_listen(check);
	else
		report_failure(check, "out of memory");
}

void health_set_service(struct health *h, const struct service *service,
			const unsigned int local_endpoints[N_FAMILIES])
{
	struct health_service *s;
	unsigned int f;
	bool found;
	size_t i;

	if (!service_has_health_check(service)) {
		health_remove_service(h, service->namespace, service->name);
		return;
	}
	i = service_index(h, service->namespace, service->name, &found);
	if (found && (h->services[i]->port != service->health_check_node_port ||
		      strcmp(h->services[i]->uid, service->uid) != 0)) {
		health_remove_service(h, service->namespace, service->name);
		found = false;
	}
	s = found ? h->services[i] : service_insert(h, i, service);
	if (!s)
		h->options.log(h->options.ctx, LOG_ERR, "health check: out of memory");
	if (s && !s->port) {
		if (!found)
			report_missing_port(s);
		return;
	}
	for (f = 0; s && f < N_FAMILIES; f++)
		check_update(&s->checks[f], service, local_endpoints[f]);
}
