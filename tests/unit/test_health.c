/* Health: HZ-1 to HZ-6 and the health-check node ports HC-1 to HC-8, over real HTTP on loopback. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"
#include "proxy/serve/health.h"
#include "tests/support/suite.h"
#include "tests/support/http.h"

#define SECOND INT64_C(1000000)
#define EPOCH INT64_C(1700000000000000) /* 2023-11-14T22:13:20Z */

static const struct addr loopback = { { 127, 0, 0, 1 } },
			 other = { { 127, 0, 0, 2 } };
static const struct node good_node = { .name = "n", .uid = "u", .zone = "" };

struct fixture {
	struct event_base *base;
	struct metrics *metrics;
	struct health *health;
	struct clock clock;
	int64_t now_us; /* since EPOCH; monotonic is one day ahead of nothing in particular */
	struct strbuf log, events, answer;
	char address[64];
	uint16_t port;
	bool has_source;
	const char *waiting;
	struct health_source source;
};

static int64_t realtime(void *ctx)
{
	return EPOCH + ((struct fixture *)ctx)->now_us;
}

static int64_t monotonic(void *ctx)
{
	return 86400 * SECOND + ((struct fixture *)ctx)->now_us;
}

static void note(void *ctx, int severity, const char *message)
{
	strbuf_addf(&((struct fixture *)ctx)->log, "%d %s\n", severity, message);
}

static void note_event(void *ctx, const char *namespace, const char *name,
		       const char *uid, const char *reason, const char *text)
{
	strbuf_addf(&((struct fixture *)ctx)->events, "%s/%s %s %s %s\n",
		    namespace, name, uid, reason, text);
}

static void told_source(void *ctx, struct health_source *source)
{
	*source = ((struct fixture *)ctx)->source;
}

static void told_waiting(void *ctx, struct strbuf *why)
{
	const struct fixture *f = ctx;

	strbuf_adds(why, f->waiting ? f->waiting : "");
}

static struct health *start(struct fixture *f, bool hard_fail, struct errbuf *eb)
{
	const struct health_options options = {
		.base = f->base,
		.address = f->address,
		.hard_fail = hard_fail,
		.retry_ms = 1,
		.sync_period_ms = 30000,
		.node_name = "node-a",
		.metrics = f->metrics,
		.clock = &f->clock,
		.log = note,
		.source = f->has_source ? told_source : NULL,
		.waiting = told_waiting,
		.service_event = note_event,
		.ctx = f,
	};

	f->health = health_new(&options, eb);
	return f->health;
}

static void prepare(struct fixture *f, bool server)
{
	memset(f, 0, sizeof(*f));
	f->clock = (struct clock){ realtime, monotonic, f, NULL };
	f->base = event_base_new();
	f->metrics = metrics_new(0);
	f->port = http_free_port();
	if (server)
		snprintf(f->address, sizeof(f->address), "127.0.0.1:%u", f->port);
}

static void begin(struct fixture *f, bool server)
{
	struct errbuf eb;

	prepare(f, server);
	ck_assert_ptr_nonnull(start(f, false, &eb));
	health_set_addresses(f->health, FAMILY_IPV4, false, &loopback, 1);
	strbuf_adds(&f->log, "");
	strbuf_adds(&f->events, "");
}

static void end(struct fixture *f)
{
	health_free(f->health);
	metrics_free(f->metrics);
	event_base_free(f->base);
	strbuf_free(&f->log);
	strbuf_free(&f->events);
	strbuf_free(&f->answer);
}

static int get(struct fixture *f, const char *path)
{
	return http_get(f->base, "127.0.0.1", f->port, "GET", path, &f->answer);
}

START_TEST(paths)
{
	static const struct {
		const char *path;
		int want;
	} rows[] = {
		{ "/healthz", 200 },	     { "/livez", 200 },
		{ "/healthz?verbose", 200 }, { "/", 404 },
		{ "/healthz/", 404 },	     { "/readyz/", 404 },
		{ "/metrics", 404 },	     { "/../healthz", 404 },
	};
	struct fixture f;
	int i, got;

	begin(&f, true);
	health_set_node(f.health, &good_node);
	for (i = 0; i < N_ROWS(rows); i++) {
		got = get(&f, rows[i].path);
		ck_assert_msg(got == rows[i].want, "HZ-1 %s: want %d, got %d",
			      rows[i].path, rows[i].want, got);
	}
	end(&f);
}
END_TEST

/* HZ-7 */
static const struct {
	const char *name;
	bool runs6, synced4, synced6;
	int64_t pending_s; /* since when IPv6 has something to program; 0: it has not */
	const char *waiting;
	int want;
	const char *has;
} readiness[] = {
	{ "nothing in the kernel", true, false, false, 0, NULL, 503,
	  "\"waitingFor\":\"IPv4: rules are not in the kernel yet; IPv6: rules are not in the "
	  "kernel yet\"" },
	{ "no objects", true, false, false, 0, "no list of Services yet", 503,
	  "{\"ready\":false,\"waitingFor\":\"no list of Services yet\",\"currentTime\":\"" },
	{ "one family", true, true, false, 0, NULL, 503,
	  "\"waitingFor\":\"IPv6: rules are not in the kernel yet\"" },
	{ "both", true, true, true, 0, NULL, 200,
	  "{\"ready\":true,\"currentTime\":\"" },
	{ "the only one", false, true, false, 0, NULL, 200, "\"ready\":true" },
	{ "both, and a list is waited for no more", true, true, true, 0,
	  "a list", 200, "\"ready\":true" },
	{ "a change that waits", true, true, true, 60, NULL, 200,
	  "\"healthy\":true" },
	{ "a change that waits too long", true, true, true, 61, NULL, 503,
	  "\"waitingFor\":\"IPv6: a change is not in the kernel for too long\"" },
};

START_TEST(ready)
{
	struct strbuf why = STRBUF_INIT;
	struct fixture f;
	int got;

	begin(&f, true);
	f.waiting = readiness[_i].waiting;
	health_add_family(f.health, FAMILY_IPV4);
	if (readiness[_i].runs6)
		health_add_family(f.health, FAMILY_IPV6);
	if (readiness[_i].synced4)
		health_synced(f.health, FAMILY_IPV4);
	if (readiness[_i].synced6)
		health_synced(f.health, FAMILY_IPV6);
	if (readiness[_i].pending_s)
		health_queued(f.health, FAMILY_IPV6);
	f.now_us += readiness[_i].pending_s * 1000000;
	got = get(&f, "/readyz");
	ck_assert_msg(got == readiness[_i].want, "HZ-7 %s: want %d, got %d: %s",
		      readiness[_i].name, readiness[_i].want, got, f.answer.text);
	CHECK_HAS(readiness[_i].name, f.answer.text, readiness[_i].has);
	ck_assert_int_eq(health_is_ready(f.health, &why), got == 200);
	ck_assert_int_eq(why.length == 0, got == 200);
	strbuf_free(&why);
	end(&f);
}
END_TEST

START_TEST(body_when_healthy)
{
	struct fixture f;

	begin(&f, true);
	health_set_node(f.health, &good_node);
	health_add_family(f.health, FAMILY_IPV4);
	f.now_us = 5 * SECOND;
	health_synced(f.health, FAMILY_IPV4);
	f.now_us = 1000 * SECOND + 250000;
	ck_assert_int_eq(get(&f, "/healthz"), 200);
	CHECK_HAS("HZ-2", f.answer.text, "Content-Type: application/json\r\n");
	CHECK_HAS("HZ-2", f.answer.text, "X-Content-Type-Options: nosniff\r\n");
	CHECK_HAS("HZ-2: lastUpdated is now; one family runs", f.answer.text,
		  "\r\n\r\n{\"lastUpdated\":\"2023-11-14T22:30:00.250000Z\","
		  "\"currentTime\":\"2023-11-14T22:30:00.250000Z\",\"nodeEligible\":true,"
		  "\"healthy\":true,\"status\":{\"IPv4\":"
		  "{\"lastUpdated\":\"2023-11-14T22:13:25.000000Z\",\"healthy\":true}}}");
	health_add_family(f.health, FAMILY_IPV6);
	ck_assert_int_eq(get(&f, "/livez"), 200);
	CHECK_HAS_NOT("HZ-2", f.answer.text, "nodeEligible");
	CHECK_HAS("HZ-2: a family appears once its loop runs", f.answer.text,
		  "\"IPv6\":{\"lastUpdated\":\"2023-11-14T22:30:00.250000Z\",\"healthy\":true}");
	end(&f);
}
END_TEST

START_TEST(body_when_unhealthy)
{
	struct fixture f;

	begin(&f, true);
	health_set_node(f.health, &good_node);
	health_synced(f.health, FAMILY_IPV4);
	f.now_us = 2 * SECOND;
	health_synced(f.health, FAMILY_IPV6);
	f.now_us = 4 * SECOND;
	health_queued(f.health, FAMILY_IPV6);
	f.now_us = 100 * SECOND;
	ck_assert_int_eq(get(&f, "/healthz"), 503);
	CHECK_HAS("HZ-2: lastUpdated is the latest sync of any family",
		  f.answer.text,
		  "{\"lastUpdated\":\"2023-11-14T22:13:22.000000Z\","
		  "\"currentTime\":\"2023-11-14T22:15:00.000000Z\",\"nodeEligible\":true,"
		  "\"healthy\":false,\"status\":{\"IPv4\":"
		  "{\"lastUpdated\":\"2023-11-14T22:13:20.000000Z\",\"healthy\":true},"
		  "\"IPv6\":{\"lastUpdated\":\"2023-11-14T22:13:22.000000Z\",\"healthy\":"
		  "false}}}");
	ck_assert_int_eq(get(&f, "/livez"), 503);
	end(&f);
}
END_TEST

/* Shown, and of no consequence. */
START_TEST(source_is_shown)
{
	struct fixture f;
	struct errbuf eb;

	prepare(&f, true);
	f.has_source = true;
	ck_assert_ptr_nonnull(start(&f, false, &eb));
	health_set_node(f.health, &good_node);
	ck_assert_int_eq(get(&f, "/healthz"), 200);
	CHECK_HAS("never heard", f.answer.text,
		  ",\"apiServer\":{\"connected\":false}}");
	f.now_us = 10 * SECOND;
	f.source.contact_us = monotonic(&f) - 4 * SECOND;
	ck_assert_int_eq(get(&f, "/livez"), 200);
	CHECK_HAS("heard 4 s ago", f.answer.text,
		  ",\"apiServer\":{\"connected\":false,"
		  "\"lastContact\":\"2023-11-14T22:13:26.000000Z\"}}");
	f.source.connected = true;
	ck_assert_int_eq(get(&f, "/healthz"), 200);
	CHECK_HAS("connected", f.answer.text,
		  ",\"apiServer\":{\"connected\":true,");
	end(&f);
}
END_TEST

/* HZ-3 as a story: at each second something happens, and then it is healthy or not. */
START_TEST(ages)
{
	enum { QUEUED = 1, SYNCED = 2 };
	static const struct {
		const char *name;
		int64_t at_s;
		int action;
		enum family family;
		bool healthy;
	} rows[] = {
		{ "starting up", 0, 0, FAMILY_IPV4, true },
		{ "starting up, long", 1000, 0, FAMILY_IPV4, true },
		{ "queued", 1000, QUEUED, FAMILY_IPV4, true },
		{ "queued again: the oldest counts", 1050, QUEUED, FAMILY_IPV4,
		  true },
		{ "at twice the sync period", 1060, 0, FAMILY_IPV4, true },
		{ "after twice the sync period", 1061, 0, FAMILY_IPV4, false },
		{ "the other family does not help", 1062, SYNCED, FAMILY_IPV6,
		  false },
		{ "synced", 1063, SYNCED, FAMILY_IPV4, true },
		{ "quiet for long", 99999, 0, FAMILY_IPV4, true },
		{ "queued after quiet", 99999, QUEUED, FAMILY_IPV6, true },
		{ "one family is late", 100100, 0, FAMILY_IPV6, false },
		{ "synced", 100101, SYNCED, FAMILY_IPV6, true },
	};
	struct fixture f;
	int i, status;

	begin(&f, true);
	health_add_family(f.health, FAMILY_IPV4);
	health_add_family(f.health, FAMILY_IPV6);
	for (i = 0; i < N_ROWS(rows); i++) {
		f.now_us = rows[i].at_s * SECOND;
		if (rows[i].action == QUEUED)
			health_queued(f.health, rows[i].family);
		if (rows[i].action == SYNCED)
			health_synced(f.health, rows[i].family);
		ck_assert_msg(health_is_healthy(f.health) == rows[i].healthy,
			      "HZ-3 %s: want %d", rows[i].name, rows[i].healthy);
		status = get(&f, "/livez");
		ck_assert_msg(status == (rows[i].healthy ? 200 : 503),
			      "HZ-3 %s: got %d", rows[i].name, status);
	}
	end(&f);
}
END_TEST

static const struct {
	const char *name;
	bool known;
	unsigned int flags;
	int healthz;
} nodes[] = {
	{ "HZ-4 unknown or deleted", false, 0, 503 },
	{ "HZ-4 good", true, 0, 200 },
	{ "HZ-4 deletion timestamp", true, NODE_DELETED, 503 },
	{ "HZ-4 taint", true, NODE_TO_BE_DELETED, 503 },
};

START_TEST(eligible)
{
	struct node node = good_node;
	struct fixture f;
	int status;

	begin(&f, true);
	node.flags = nodes[_i].flags;
	health_set_node(f.health, &good_node);
	health_set_node(f.health, nodes[_i].known ? &node : NULL);
	status = get(&f, "/healthz");
	ck_assert_msg(status == nodes[_i].healthz, "%s: want %d, got %d",
		      nodes[_i].name, nodes[_i].healthz, status);
	CHECK_HAS(nodes[_i].name, f.answer.text,
		  nodes[_i].healthz == 200 ? "\"nodeEligible\":true"
					   : "\"nodeEligible\":false");
	CHECK_HAS(nodes[_i].name, f.answer.text, "\"healthy\":true");
	ck_assert_msg(get(&f, "/livez") == 200, "HZ-5 %s: /livez", nodes[_i].name);
	end(&f);
}
END_TEST

START_TEST(counted)
{
	struct fixture f;

	begin(&f, true);
	get(&f, "/healthz");
	get(&f, "/livez");
	health_set_node(f.health, &good_node);
	get(&f, "/healthz");
	get(&f, "/healthz");
	ck_assert_double_eq(metrics_get(f.metrics, METRIC_HEALTHZ, 0), 2);
	ck_assert_double_eq(metrics_get(f.metrics, METRIC_HEALTHZ, 1), 1);
	ck_assert_double_eq(metrics_get(f.metrics, METRIC_LIVEZ, 0), 1);
	ck_assert_double_eq(metrics_get(f.metrics, METRIC_LIVEZ, 1), 0);
	end(&f);
}
END_TEST

START_TEST(address_taken)
{
	struct errbuf eb = { "" };
	struct fixture f;
	int taken;

	prepare(&f, true);
	taken = http_occupy("127.0.0.1", f.port);
	ck_assert_int_ge(taken, 0);
	ck_assert_ptr_null(start(&f, true, &eb));
	CHECK_HAS("HZ-6 hard fail", eb.text,
		  "health server: cannot listen on 127.0.0.1 port");
	ck_assert_ptr_nonnull(start(&f, false, &eb));
	CHECK_HAS("HZ-6 retry", f.log.text,
		  "3 health server: cannot listen on 127.0.0.1 port");
	close(taken);
	event_base_loop(f.base, EVLOOP_ONCE);
	CHECK_HAS("HZ-6 retry", f.log.text, "6 health server: listens now");
	ck_assert_int_eq(get(&f, "/livez"), 200);
	end(&f);
}
END_TEST

/* A Service that gets a health-check port on @port, in IPv4 unless a test says more. */
static struct service make_service(const char *name, uint16_t port)
{
	struct service s = {
		.namespace = "ns",
		.name = name,
		.uid = "uid",
		.flags = SERVICE_LOAD_BALANCER | SERVICE_EXTERNAL_LOCAL,
		.health_check_node_port = port,
	};

	s.family[FAMILY_IPV4].has_cluster_ip = true;
	return s;
}

static void set_service(struct fixture *f, const struct service *s,
			unsigned int v4, unsigned int v6)
{
	ck_assert_int_eq(health_set_service(f->health, FAMILY_IPV4, s, v4), 0);
	ck_assert_int_eq(health_set_service(f->health, FAMILY_IPV6, s, v6), 0);
}

static int check_port(struct fixture *f, const char *address, uint16_t port)
{
	return http_get(f->base, address, port, "GET", "/", &f->answer);
}

static const struct {
	const char *name;
	unsigned int flags;
	bool has_port, listens, logged;
} kinds[] = {
	{ "HC-1 LoadBalancer, Local",
	  SERVICE_LOAD_BALANCER | SERVICE_EXTERNAL_LOCAL, true, true, false },
	{ "HC-1 LoadBalancer, Cluster", SERVICE_LOAD_BALANCER, true, false, false },
	{ "HC-1 NodePort, Local", SERVICE_EXTERNAL_LOCAL, true, false, false },
	{ "HC-1 internal Local", SERVICE_LOAD_BALANCER | SERVICE_INTERNAL_LOCAL,
	  true, false, false },
	{ "HC-1 headless",
	  SERVICE_LOAD_BALANCER | SERVICE_EXTERNAL_LOCAL | SERVICE_IGNORED,
	  true, false, false },
	{ "HC-1 no port", SERVICE_LOAD_BALANCER | SERVICE_EXTERNAL_LOCAL, false,
	  false, true },
};

START_TEST(which_services)
{
	struct fixture f;
	struct service s;
	uint16_t port;
	int got;

	begin(&f, true);
	port = http_free_port();
	s = make_service("a", kinds[_i].has_port ? port : 0);
	s.flags = kinds[_i].flags;
	set_service(&f, &s, 1, 0);
	got = check_port(&f, "127.0.0.1", port);
	ck_assert_msg(got == (kinds[_i].listens ? 200 : -ECONNREFUSED),
		      "%s: got %d", kinds[_i].name, got);
	ck_assert_msg((f.log.length > 0) == kinds[_i].logged, "%s: log: %s",
		      kinds[_i].name, f.log.text);
	if (kinds[_i].logged)
		CHECK_HAS(kinds[_i].name, f.log.text, "3 Service ns/a: ");
	end(&f);
}
END_TEST

/* HC-1: said once for each object, however often its endpoints change. */
START_TEST(a_missing_port_is_told_once)
{
	struct fixture f;
	struct service s;
	uint16_t port;

	begin(&f, true);
	port = http_free_port();
	s = make_service("a", 0);
	set_service(&f, &s, 1, 0);
	CHECK_HAS("HC-1", f.log.text,
		  "3 Service ns/a: externalTrafficPolicy is Local, but there "
		  "is no healthCheckNodePort");
	strbuf_reset(&f.log);
	set_service(&f, &s, 2, 0);
	health_set_addresses(f.health, FAMILY_IPV4, true, NULL, 0);
	health_set_addresses(f.health, FAMILY_IPV4, false, &loopback, 1);
	ck_assert_msg(f.log.length == 0, "HC-1 told again: %s", f.log.text);
	s.health_check_node_port = port;
	set_service(&f, &s, 2, 0);
	ck_assert_int_eq(check_port(&f, "127.0.0.1", port), 200);
	s.health_check_node_port = 0;
	set_service(&f, &s, 2, 0);
	ck_assert_int_eq(check_port(&f, "127.0.0.1", port), -ECONNREFUSED);
	CHECK_HAS("HC-1 missing again", f.log.text, "3 Service ns/a: ");
	strbuf_reset(&f.log);
	health_remove_service(f.health, FAMILY_IPV4, s.namespace, s.name);
	health_remove_service(f.health, FAMILY_IPV6, s.namespace, s.name);
	set_service(&f, &s, 2, 0);
	CHECK_HAS("HC-1 another object", f.log.text, "3 Service ns/a: ");
	end(&f);
}
END_TEST

START_TEST(check_answer)
{
	static const struct {
		const char *method, *path;
	} requests[] = { { "GET", "/" },
			 { "GET", "/healthz" },
			 { "POST", "/x?y=z" },
			 { "PUT", "/" } };
	struct service s;
	struct fixture f;
	uint16_t port;
	int i, got;

	begin(&f, true);
	port = http_free_port();
	s = make_service("a", port);
	set_service(&f, &s, 3, 0);
	for (i = 0; i < N_ROWS(requests); i++) {
		got = http_get(f.base, "127.0.0.1", port, requests[i].method,
			       requests[i].path, &f.answer);
		ck_assert_msg(got == 200, "HC-3 %s %s: got %d",
			      requests[i].method, requests[i].path, got);
		CHECK_HAS("HC-3", f.answer.text,
			  "Content-Type: application/json\r\n");
		CHECK_HAS("HC-3", f.answer.text,
			  "X-Content-Type-Options: nosniff\r\n");
		CHECK_HAS("HC-3", f.answer.text,
			  "X-Load-Balancing-Endpoint-Weight: 3\r\n");
		CHECK_HAS("HC-3", f.answer.text,
			  "\r\n\r\n{\"service\":{\"namespace\":\"ns\",\"name\":\"a\"},"
			  "\"localEndpoints\":3,\"serviceProxyHealthy\":true}");
	}
	set_service(&f, &s, 0, 0);
	ck_assert_msg(check_port(&f, "127.0.0.1", port) == 503,
		      "HC-3: no local endpoint");
	CHECK_HAS("HC-4", f.answer.text, "X-Load-Balancing-Endpoint-Weight: 0\r\n");
	set_service(&f, &s, 1, 0);
	health_queued(f.health, FAMILY_IPV6);
	f.now_us = 61 * SECOND;
	ck_assert_msg(check_port(&f, "127.0.0.1", port) == 503, "HC-3: unhealthy");
	CHECK_HAS("HC-3", f.answer.text,
		  "\"localEndpoints\":1,\"serviceProxyHealthy\":false}");
	end(&f);
}
END_TEST

START_TEST(eligibility_does_not_matter)
{
	struct service s;
	struct fixture f;
	uint16_t port;

	begin(&f, true);
	port = http_free_port();
	s = make_service("a", port);
	set_service(&f, &s, 1, 0);
	health_set_node(f.health, NULL);
	ck_assert_int_eq(get(&f, "/healthz"), 503);
	ck_assert_msg(check_port(&f, "127.0.0.1", port) == 200,
		      "HC-8: node not eligible");
	end(&f);

	begin(&f, false);
	port = http_free_port();
	s = make_service("a", port);
	set_service(&f, &s, 1, 0);
	health_queued(f.health, FAMILY_IPV4);
	f.now_us = 1000 * SECOND;
	ck_assert_msg(check_port(&f, "127.0.0.1", port) == 200,
		      "HC-8: health server off");
	CHECK_HAS("HC-8", f.answer.text, "\"serviceProxyHealthy\":true");
	end(&f);
}
END_TEST

START_TEST(addresses)
{
	struct addr both[2] = { loopback, other };
	struct service s;
	struct fixture f;
	uint16_t port;

	begin(&f, true);
	port = http_free_port();
	s = make_service("a", port);
	set_service(&f, &s, 1, 0);
	ck_assert_msg(check_port(&f, "127.0.0.1", port) == 200,
		      "HC-2: its address");
	ck_assert_msg(check_port(&f, "127.0.0.2", port) == -ECONNREFUSED,
		      "HC-2: another address");
	health_set_addresses(f.health, FAMILY_IPV4, false, both, 2);
	ck_assert_msg(check_port(&f, "127.0.0.1", port) == 200,
		      "HC-2, NP-4: it stays");
	ck_assert_msg(check_port(&f, "127.0.0.2", port) == 200,
		      "HC-2, NP-4: one more");
	health_set_addresses(f.health, FAMILY_IPV4, false, &other, 1);
	ck_assert_msg(check_port(&f, "127.0.0.1", port) == -ECONNREFUSED,
		      "HC-2, NP-4: it goes");
	ck_assert_msg(check_port(&f, "127.0.0.2", port) == 200,
		      "HC-2, NP-4: the other stays");
	health_set_addresses(f.health, FAMILY_IPV4, true, NULL, 0);
	ck_assert_msg(check_port(&f, "127.0.0.1", port) == 200,
		      "HC-2: all addresses");
	ck_assert_msg(check_port(&f, "127.0.0.3", port) == 200,
		      "HC-2: all addresses");
	health_set_addresses(f.health, FAMILY_IPV4, false, NULL, 0);
	ck_assert_msg(check_port(&f, "127.0.0.1", port) == -ECONNREFUSED,
		      "HC-2: none");
	ck_assert_msg(f.events.length == 0, "no event: %s", f.events.text);
	end(&f);
}
END_TEST

START_TEST(families_apart)
{
	struct service s;
	struct fixture f;
	uint16_t port;
	int probe;

	begin(&f, true);
	port = http_free_port();
	probe = http_occupy("::1", port);
	if (probe < 0) {
		test_skipped("no IPv6 loopback");
		end(&f);
		return;
	}
	close(probe);
	health_set_addresses(f.health, FAMILY_IPV4, true, NULL, 0);
	health_set_addresses(f.health, FAMILY_IPV6, true, NULL, 0);
	s = make_service("a", port);
	s.family[FAMILY_IPV6].has_cluster_ip = true;
	set_service(&f, &s, 2, 0);
	ck_assert_msg(check_port(&f, "127.0.0.1", port) == 200, "HC-2: IPv4");
	ck_assert_msg(check_port(&f, "::1", port) == 503,
		      "HC-2: IPv6, no local endpoint");
	CHECK_HAS("HC-2", f.answer.text, "\"localEndpoints\":0");
	s.family[FAMILY_IPV4].has_cluster_ip = false;
	set_service(&f, &s, 2, 1);
	ck_assert_msg(check_port(&f, "127.0.0.1", port) == -ECONNREFUSED,
		      "DS-4: IPv4 gone");
	ck_assert_msg(check_port(&f, "::1", port) == 200, "DS-4: IPv6 stays");
	end(&f);
}
END_TEST

START_TEST(port_changes)
{
	struct service s;
	struct fixture f;
	uint16_t first, second;

	begin(&f, true);
	first = http_free_port();
	s = make_service("a", first);
	set_service(&f, &s, 1, 0);
	do
		second = http_free_port();
	while (second == first);
	s.health_check_node_port = second;
	set_service(&f, &s, 1, 0);
	ck_assert_msg(check_port(&f, "127.0.0.1", first) == -ECONNREFUSED,
		      "HC-6: old closed");
	ck_assert_msg(check_port(&f, "127.0.0.1", second) == 200,
		      "HC-6: new opened");
	s.flags = SERVICE_LOAD_BALANCER;
	set_service(&f, &s, 1, 0);
	ck_assert_msg(check_port(&f, "127.0.0.1", second) == -ECONNREFUSED,
		      "HC-6: no longer qualifies");
	s.flags |= SERVICE_EXTERNAL_LOCAL;
	set_service(&f, &s, 1, 0);
	ck_assert_msg(check_port(&f, "127.0.0.1", second) == 200,
		      "HC-6: qualifies again");
	health_remove_service(f.health, FAMILY_IPV4, "ns", "b");
	ck_assert_msg(check_port(&f, "127.0.0.1", second) == 200,
		      "HC-6: another one goes");
	health_remove_service(f.health, FAMILY_IPV6, "ns", "a");
	ck_assert_msg(check_port(&f, "127.0.0.1", second) == 200,
		      "HC-6: the other family");
	health_remove_service(f.health, FAMILY_IPV4, "ns", "a");
	ck_assert_msg(check_port(&f, "127.0.0.1", second) == -ECONNREFUSED,
		      "HC-6: gone");
	end(&f);
}
END_TEST

START_TEST(cannot_listen)
{
	struct strbuf want = STRBUF_INIT;
	struct service s;
	struct fixture f;
	uint16_t port;
	int taken;

	begin(&f, true);
	port = http_free_port();
	taken = http_occupy("127.0.0.1", port);
	ck_assert_int_ge(taken, 0);
	s = make_service("a", port);
	set_service(&f, &s, 1, 0);
	strbuf_addf(&want,
		    "ns/a uid FailedToStartServiceHealthcheck node node-a failed to start healthcheck "
		    "\"ns/a\" on port %u: cannot listen on 127.0.0.1 port %u: Address already in use\n",
		    port, port);
	ck_assert_msg(strcmp(f.events.text, want.text) == 0,
		      "HC-7: want %s, got %s", want.text, f.events.text);
	health_synced(f.health, FAMILY_IPV4);
	ck_assert_msg(strcmp(f.events.text, want.text) == 0,
		      "HC-7: one event per failure, got %s", f.events.text);
	close(taken);
	health_synced(f.health, FAMILY_IPV4);
	ck_assert_msg(check_port(&f, "127.0.0.1", port) == 200,
		      "HC-7: tried again");
	CHECK_HAS("HC-7", f.log.text, "6 Service ns/a: health-check port ");
	strbuf_free(&want);
	end(&f);
}
END_TEST

/* HC-7, NODE-4: no event needs to come. */
START_TEST(listens_later)
{
	static const struct addr elsewhere = { { 192, 0, 2, 77 } };
	const struct timeval moment = { 0, 50000 };
	struct service s;
	struct fixture f;
	uint16_t port;
	int taken;

	begin(&f, true);
	port = http_free_port();
	taken = http_occupy("127.0.0.1", port);
	ck_assert_int_ge(taken, 0);
	s = make_service("a", port);
	set_service(&f, &s, 1, 0);
	event_base_loopexit(f.base, &moment);
	event_base_dispatch(f.base);
	CHECK_HAS_NOT("HC-7", f.log.text, "listens now");
	close(taken);
	event_base_loopexit(f.base, &moment);
	event_base_dispatch(f.base);
	CHECK_HAS("HC-7: by a timer", f.log.text, "listens now");
	ck_assert_int_eq(check_port(&f, "127.0.0.1", port), 200);
	/* an address that the machine has not (yet), then one that it has */
	strbuf_reset(&f.log);
	health_set_addresses(f.health, FAMILY_IPV4, false, &elsewhere, 1);
	CHECK_HAS("NODE-4", f.log.text, "failed to start healthcheck");
	event_base_loopexit(f.base, &moment);
	event_base_dispatch(f.base);
	CHECK_HAS_NOT("NODE-4", f.log.text, "listens now");
	health_set_addresses(f.health, FAMILY_IPV4, false, &loopback, 1);
	ck_assert_int_eq(check_port(&f, "127.0.0.1", port), 200);
	end(&f);
}
END_TEST

/* Answers and ports do not mix, in whatever order Services come and go. */
/* HZ-8: another address, and everything that is known stays. */
START_TEST(another_configuration)
{
	struct health_settings settings = { .node_name = "node-b",
					    .sync_period_ms = 1000 };
	struct service s;
	struct fixture f;
	char elsewhere[64];
	uint16_t port;
	int occupied;
	struct errbuf eb;

	begin(&f, true);
	port = http_free_port();
	s = make_service("a", port);
	health_set_node(f.health, &good_node);
	set_service(&f, &s, 1, 0);
	health_synced(f.health, FAMILY_IPV4);
	health_queued(f.health, FAMILY_IPV4);
	f.now_us += 3000000;
	ck_assert_int_eq(get(&f, "/healthz"), 200);

	/* the period of HZ-3 counts for what waits already */
	settings.address = f.address;
	ck_assert_int_eq(health_change(f.health, &settings, &eb), 0);
	ck_assert_int_eq(get(&f, "/healthz"), 503);
	ck_assert_int_eq(check_port(&f, "127.0.0.1", port), 503);
	settings.sync_period_ms = 30000;
	ck_assert_int_eq(health_change(f.health, &settings, &eb), 0);
	ck_assert_int_eq(get(&f, "/readyz"), 200);
	ck_assert_int_eq(check_port(&f, "127.0.0.1", port), 200);

	/* a taken address is refused if it must be had, and nothing has changed then */
	snprintf(elsewhere, sizeof(elsewhere), "127.0.0.1:%u", http_free_port());
	occupied = http_occupy("127.0.0.1",
			       (uint16_t)atol(strchr(elsewhere, ':') + 1));
	settings = (struct health_settings){ elsewhere, "node-c", true, 1000 };
	ck_assert_int_eq(health_change(f.health, &settings, &eb), -EADDRINUSE);
	CHECK_HAS("refused", eb.text,
		  "health server: cannot listen on 127.0.0.1 port");
	ck_assert_int_eq(get(&f, "/healthz"), 200);
	ck_assert_msg(f.log.length == 0, "said: %s", f.log.text);

	/* else it is had as soon as it is free */
	settings.hard_fail = false;
	settings.sync_period_ms = 30000;
	ck_assert_int_eq(health_change(f.health, &settings, &eb), 0);
	ck_assert_int_eq(get(&f, "/healthz"), -ECONNREFUSED);
	ck_assert_int_eq(check_port(&f, "127.0.0.1", port), 200);
	CHECK_HAS("told", f.log.text, "3 health server: cannot listen on");
	close(occupied);
	f.port = (uint16_t)atol(strchr(elsewhere, ':') + 1);
	while (get(&f, "/healthz") != 200)
		event_base_loop(f.base, EVLOOP_ONCE);

	/* HC-8: switched off; the check ports go on */
	settings.address = "";
	ck_assert_int_eq(health_change(f.health, &settings, &eb), 0);
	ck_assert_int_eq(get(&f, "/healthz"), -ECONNREFUSED);
	f.now_us += 600 * INT64_C(1000000);
	ck_assert_int_eq(check_port(&f, "127.0.0.1", port), 200);
	end(&f);
}
END_TEST

START_TEST(many_services)
{
	enum { COUNT = 40 };
	uint16_t ports[COUNT];
	char name[16];
	struct service s;
	struct fixture f;
	int i;

	begin(&f, true);
	for (i = 0; i < COUNT; i++) {
		ports[i] = http_free_port();
		snprintf(name, sizeof(name), "s%d", (i * 7) % COUNT);
		s = make_service(name, ports[i]);
		set_service(&f, &s, (unsigned int)i + 1, 0);
	}
	for (i = 0; i < COUNT; i++) {
		char want[64];

		snprintf(name, sizeof(name), "s%d", (i * 7) % COUNT);
		snprintf(want, sizeof(want),
			 "\"name\":\"%s\"},\"localEndpoints\":%d,", name, i + 1);
		ck_assert_int_eq(check_port(&f, "127.0.0.1", ports[i]), 200);
		CHECK_HAS("own answer", f.answer.text, want);
		if (i % 2)
			health_remove_service(f.health, FAMILY_IPV4, "ns", name);
	}
	for (i = 0; i < COUNT; i++)
		ck_assert_int_eq(check_port(&f, "127.0.0.1", ports[i]),
				 i % 2 ? -ECONNREFUSED : 200);
	end(&f);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("health");
	TCase *tc = tcase_create("health");

	tcase_add_test(tc, paths);
	ADD_LOOP(tc, ready, readiness);
	tcase_add_test(tc, another_configuration);
	tcase_add_test(tc, body_when_healthy);
	tcase_add_test(tc, source_is_shown);
	tcase_add_test(tc, body_when_unhealthy);
	tcase_add_test(tc, ages);
	ADD_LOOP(tc, eligible, nodes);
	tcase_add_test(tc, counted);
	tcase_add_test(tc, address_taken);
	ADD_LOOP(tc, which_services, kinds);
	tcase_add_test(tc, a_missing_port_is_told_once);
	tcase_add_test(tc, check_answer);
	tcase_add_test(tc, eligibility_does_not_matter);
	tcase_add_test(tc, addresses);
	tcase_add_test(tc, families_apart);
	tcase_add_test(tc, port_changes);
	tcase_add_test(tc, cannot_listen);
	tcase_add_test(tc, listens_later);
	tcase_add_test(tc, many_services);
	suite_add_tcase(suite, tc);
	return suite;
}
