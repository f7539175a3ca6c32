/*
 * Health. Ages are measured on the monotonic clock and shown on the real one,
 * so that a clock set back makes nobody unhealthy.
 *
 * A health-check port belongs to one Service and family: answers differ by
 * family, and a family that cannot be programmed holds up its own answers only.
 * Entries stand in an array per family, sorted by namespace and name; there are
 * as many as Services with externalTrafficPolicy Local, and only those. One
 * without a port stands among them, so that what is wrong with it is told once.
 */
#include "proxy/serve/health.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "proxy/serve/httpd.h"
#include "proxy/base/array.h"
#include "proxy/base/jsonout.h"
#include "proxy/base/strbuf.h"

enum { MAX_CONNECTIONS = 64, MAX_CHECK_CONNECTIONS = 256, RETRY_MS = 5000 };

/* The health-check port of one Service in one family. */
struct port_check {
	struct health *health;
	enum family family;
	char *namespace, *name, *uid;
	uint16_t port; /* 0: the Service has none, and that was told */
	unsigned int local_endpoints;
	struct httpd *httpd;
	bool failed; /* some address could not be had: to be tried again */
};

struct checks {
	struct port_check **items; /* sorted */
	size_t n, room;
};

struct health_family {
	bool runs;
	bool programmed; /* the first sync since the start is in the kernel */
	bool pending;
	int64_t pending_us; /* monotonic: since when the oldest change waits */
	int64_t synced_us; /* real: latest successful sync, or the start of the loop */
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
	struct checks checks[N_FAMILIES];
	struct event *retry; /* pending while a check has failed */
};

static bool family_is_healthy(const struct health *h, enum family family)
{
	const struct health_family *f = &h->family[family];

	assert(h->options.sync_period_ms > 0);
	if (!f->pending)
		return true;
	return clock_monotonic_us(h->options.clock) - f->pending_us <=
	       2 * h->options.sync_period_ms * 1000;
}

bool health_is_healthy(const struct health *h)
{
	return family_is_healthy(h, FAMILY_IPV4) &&
	       family_is_healthy(h, FAMILY_IPV6);
}

bool health_is_eligible(const struct health *h)
{
	return h->eligible;
}

static void add_timestamp(struct strbuf *body, const char *key, int64_t us)
{
	char text[CLOCK_TEXT_SIZE];

	jsonout_text(body, key, clock_format(us, text));
}

static void add_families(const struct health *h, struct strbuf *body)
{
	unsigned int f;

	jsonout_object(body, "status");
	for (f = 0; f < N_FAMILIES; f++) {
		if (!h->family[f].runs)
			continue;
		jsonout_object(body, family_name(f));
		add_timestamp(body, "lastUpdated", h->family[f].synced_us);
		jsonout_bool(body, "healthy", family_is_healthy(h, f));
		jsonout_object_end(body);
	}
	jsonout_object_end(body);
}

static int64_t latest_sync_us(const struct health *h)
{
	int64_t v4 = h->family[FAMILY_IPV4].synced_us,
		v6 = h->family[FAMILY_IPV6].synced_us;

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
	jsonout_object(body, "apiServer");
	jsonout_bool(body, "connected", source.connected);
	if (source.contact_us) {
		age_us = clock_monotonic_us(h->options.clock) - source.contact_us;
		add_timestamp(body, "lastContact",
			      clock_realtime_us(h->options.clock) - age_us);
	}
	jsonout_object_end(body);
}

/* HZ-2 */
static void answer_health(struct health *h, struct httpd_request *req, bool livez)
{
	int64_t now_us = clock_realtime_us(h->options.clock);
	bool healthy = health_is_healthy(h),
	     ok = healthy && (livez || h->eligible);
	struct strbuf body = STRBUF_INIT;

	jsonout_object(&body, NULL);
	add_timestamp(&body, "lastUpdated", ok ? now_us : latest_sync_us(h));
	add_timestamp(&body, "currentTime", now_us);
	if (!livez)
		jsonout_bool(&body, "nodeEligible", h->eligible);
	jsonout_bool(&body, "healthy", healthy);
	add_families(h, &body);
	add_source(h, &body);
	jsonout_object_end(&body);
	metrics_add(h->options.metrics, livez ? METRIC_LIVEZ : METRIC_HEALTHZ,
		    ok ? 0 : 1, 1);
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
		strbuf_addf(why, "%s%s: %s", why->length > begin ? "; " : "",
			    family_name(f), reason);
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
	add_timestamp(&body, "currentTime", clock_realtime_us(h->options.clock));
	jsonout_bool(&body, "healthy", health_is_healthy(h));
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

static void on_health_retry(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	health_retry(ctx);
}

int health_change(struct health *h, const struct health_settings *settings,
		  struct errbuf *eb)
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

	assert(options->clock && options->metrics && options->log);
	if (!h) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	h->options = *options;
	h->pool = httpd_pool_new(MAX_CONNECTIONS);
	h->check_pool = httpd_pool_new(MAX_CHECK_CONNECTIONS);
	h->retry = event_new(options->base, -1, EV_PERSIST, on_health_retry, h);
	if (h->pool && h->check_pool && h->retry)
		h->httpd = httpd_new(options->base, h->pool, handle_health, h);
	if (!h->httpd)
		errf(eb, -ENOMEM, "out of memory");
	if (!h->httpd || health_change(h, &settings, eb)) {
		health_free(h);
		return NULL;
	}
	return h;
}

static void check_free(struct port_check *check)
{
	if (!check)
		return;
	httpd_free(check->httpd);
	free(check->namespace);
	free(check->name);
	free(check->uid);
	free(check);
}

void health_free(struct health *h)
{
	unsigned int f;
	size_t i;

	if (!h)
		return;
	for (f = 0; f < N_FAMILIES; f++) {
		for (i = 0; i < h->checks[f].n; i++)
			check_free(h->checks[f].items[i]);
		free(h->checks[f].items);
		free(h->family[f].addrs);
	}
	if (h->retry)
		event_free(h->retry);
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
	assert(family < N_FAMILIES);
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
	const struct port_check *check = ctx;
	const struct health *h = check->health;
	bool healthy = !h->serves || health_is_healthy(h);
	struct strbuf body = STRBUF_INIT;
	char weight[16];

	(void)path;
	snprintf(weight, sizeof(weight), "%u", check->local_endpoints);
	httpd_add_header(req, "X-Load-Balancing-Endpoint-Weight", weight);
	jsonout_object(&body, NULL);
	jsonout_object(&body, "service");
	jsonout_text(&body, "namespace", check->namespace);
	jsonout_text(&body, "name", check->name);
	jsonout_object_end(&body);
	jsonout_integer(&body, "localEndpoints", check->local_endpoints);
	jsonout_bool(&body, "serviceProxyHealthy", healthy);
	jsonout_object_end(&body);
	httpd_reply(req, healthy && check->local_endpoints ? 200 : 503,
		    "application/json", &body);
	strbuf_free(&body);
}

/* HC-7; once per failure, not at each attempt. */
static void report_failure(const struct port_check *c, const char *error)
{
	const struct health_options *o = &c->health->options;
	char note[800];

	assert(c->failed);
	snprintf(note, sizeof(note),
		 "node %s failed to start healthcheck \"%s/%s\" on port %u: %s",
		 o->node_name, c->namespace, c->name, c->port, error);
	o->log(o->ctx, LOG_ERR, note);
	if (o->service_event)
		o->service_event(o->ctx, c->namespace, c->name, c->uid,
				 "FailedToStartServiceHealthcheck", note);
}

static void report_success(const struct port_check *c)
{
	const struct health_options *o = &c->health->options;
	char text[800];

	snprintf(text, sizeof(text),
		 "Service %s/%s: health-check port %u (%s) listens now",
		 c->namespace, c->name, c->port, family_name(c->family));
	o->log(o->ctx, LOG_INFO, text);
}

/* HC-1; the check is kept for this to be said once. */
static void report_missing_port(const struct port_check *c)
{
	const struct health_options *o = &c->health->options;
	char text[800];

	assert(!c->port);
	snprintf(text, sizeof(text),
		 "Service %s/%s: externalTrafficPolicy is Local, but there is no "
		 "healthCheckNodePort: the load balancer cannot ask for local endpoints",
		 c->namespace, c->name);
	o->log(o->ctx, LOG_ERR, text);
}

/* HC-2 */
static int try_listen(struct port_check *c, struct errbuf *eb)
{
	static const struct addr any = { { 0 } };
	struct health *h = c->health;
	const struct health_family *f = &h->family[c->family];

	assert(c->port);
	if (!c->httpd)
		c->httpd = httpd_new(h->options.base, h->check_pool,
				     handle_check, c);
	if (!c->httpd)
		return errf(eb, -ENOMEM, "out of memory");
	return httpd_listen(c->httpd, c->family, f->everywhere ? &any : f->addrs,
			    f->everywhere ? 1 : f->n_addrs, c->port, true, eb);
}

/* HC-7: what cannot be had now may be had later: another program ends, an address arrives. */
static void health_retry_later(struct health *h)
{
	const unsigned int ms =
		h->options.retry_ms ? h->options.retry_ms : RETRY_MS;
	const struct timeval interval = { ms / 1000, ms % 1000 * 1000 };

	if (!event_pending(h->retry, EV_TIMEOUT, NULL))
		event_add(h->retry, &interval);
}

static void check_listen(struct port_check *c)
{
	const bool failed_before = c->failed;
	struct errbuf eb;

	if (!c->port)
		return;
	c->failed = try_listen(c, &eb) != 0;
	if (c->failed)
		health_retry_later(c->health);
	if (c->failed && !failed_before)
		report_failure(c, eb.text);
	else if (!c->failed && failed_before)
		report_success(c);
}

/* Returns whether one still fails. */
static bool retry_family(struct health *h, enum family family)
{
	const struct checks *checks = &h->checks[family];
	bool failed = false;
	size_t i;

	assert(!checks->n || checks->items);
	for (i = 0; i < checks->n; i++) {
		if (checks->items[i]->failed)
			check_listen(checks->items[i]);
		failed |= checks->items[i]->failed;
	}
	return failed;
}

void health_retry(struct health *h)
{
	bool failed = false;
	unsigned int f;

	if (!event_pending(h->retry, EV_TIMEOUT, NULL))
		return;
	for (f = 0; f < N_FAMILIES; f++)
		failed |= retry_family(h, (enum family)f);
	if (!failed)
		event_del(h->retry);
}

void health_set_addresses(struct health *h, enum family family, bool everywhere,
			  const struct addr *addrs, unsigned int n)
{
	struct health_family *f = &h->family[family];
	struct addr *copy = NULL;
	size_t i;

	assert(everywhere || addrs || !n);
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
	for (i = 0; i < h->checks[family].n; i++)
		check_listen(h->checks[family].items[i]);
}

void health_synced(struct health *h, enum family family)
{
	assert(family < N_FAMILIES);
	health_add_family(h, family);
	h->family[family].pending = false;
	h->family[family].programmed = true;
	h->family[family].synced_us = clock_realtime_us(h->options.clock);
	retry_family(h, family);
	if (h->was_ready || !all_programmed(h))
		return;
	h->was_ready = true;
	if (h->options.ready)
		h->options.ready(h->options.ctx);
}

/* The index at which (namespace, name) stands, or would. */
static size_t check_index(const struct checks *checks, const char *namespace,
			  const char *name, bool *found)
{
	size_t low = 0, high = checks->n, middle;
	int order;

	*found = false;
	while (low < high && !*found) {
		middle = low + (high - low) / 2;
		order = strcmp(checks->items[middle]->namespace, namespace);
		if (!order)
			order = strcmp(checks->items[middle]->name, name);
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
		if (!order) {
			*found = true;
			low = middle;
		}
	}
	assert(low <= checks->n);
	return low;
}

bool health_has_service(const struct health *h, enum family family,
			const char *namespace, const char *name)
{
	bool found;

	check_index(&h->checks[family], namespace, name, &found);
	return found;
}

void health_remove_service(struct health *h, enum family family,
			   const char *namespace, const char *name)
{
	struct checks *checks = &h->checks[family];
	bool found;
	size_t i = check_index(checks, namespace, name, &found);

	if (!found)
		return;
	check_free(checks->items[i]);
	checks->n--;
	assert(i <= checks->n);
	memmove(&checks->items[i], &checks->items[i + 1],
		(checks->n - i) * sizeof(checks->items[0]));
}

static struct port_check *check_new(struct health *h, enum family family,
				    const struct service *from)
{
	struct port_check *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->health = h;
	c->family = family;
	c->namespace = strdup(from->namespace);
	c->name = strdup(from->name);
	c->uid = strdup(from->uid);
	c->port = from->health_check_node_port;
	if (c->namespace && c->name && c->uid)
		return c;
	check_free(c);
	return NULL;
}

static struct port_check *check_insert(struct health *h, enum family family,
				       size_t at, const struct service *from)
{
	struct checks *checks = &h->checks[family];
	struct port_check *c;

	if (array_grow(checks->items, checks->n, checks->room))
		return NULL;
	assert(at <= checks->n && checks->n < checks->room);
	c = check_new(h, family, from);
	if (!c)
		return NULL;
	memmove(&checks->items[at + 1], &checks->items[at],
		(checks->n - at) * sizeof(checks->items[0]));
	checks->items[at] = c;
	checks->n++;
	return c;
}

bool service_has_health_check(const struct service *service)
{
	const unsigned int needed = SERVICE_LOAD_BALANCER | SERVICE_EXTERNAL_LOCAL;

	return (service->flags & needed) == needed &&
	       !(service->flags & SERVICE_IGNORED);
}

/* The other family may have told it already. */
static void told_missing_port(struct health *h, const struct port_check *c)
{
	const enum family other =
		c->family == FAMILY_IPV4 ? FAMILY_IPV6 : FAMILY_IPV4;

	if (!health_has_service(h, other, c->namespace, c->name))
		report_missing_port(c);
}

/* Whether the Service has no health-check port in the family, or not this one. */
static bool check_is_outdated(const struct port_check *c, enum family family,
			      const struct service *service)
{
	return !service_has_health_check(service) ||
	       !service->family[family].has_cluster_ip ||
	       c->port != service->health_check_node_port ||
	       strcmp(c->uid, service->uid);
}

void health_release_service(struct health *h, enum family family,
			    const struct service *service)
{
	bool found;
	size_t i = check_index(&h->checks[family], service->namespace,
			       service->name, &found);

	if (found && check_is_outdated(h->checks[family].items[i], family, service))
		health_remove_service(h, family, service->namespace, service->name);
}

int health_set_service(struct health *h, enum family family,
		       const struct service *service, unsigned int local_endpoints)
{
	struct checks *checks = &h->checks[family];
	struct port_check *c = NULL;
	bool found;
	size_t i = check_index(checks, service->namespace, service->name, &found);

	if (found)
		c = checks->items[i];
	if (c && check_is_outdated(c, family, service)) {
		health_remove_service(h, family, service->namespace, service->name);
		c = NULL;
	}
	if (!service_has_health_check(service) ||
	    !service->family[family].has_cluster_ip)
		return 0;
	if (c) {
		c->local_endpoints = local_endpoints;
		return 0;
	}
	c = check_insert(h, family, i, service);
	if (!c) {
		h->options.log(h->options.ctx, LOG_ERR,
			       "health check: out of memory");
		return -ENOMEM;
	}
	c->local_endpoints = local_endpoints;
	if (c->port)
		check_listen(c);
	else
		told_missing_port(h, c);
	return 0;
}
