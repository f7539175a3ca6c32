/* Metrics and their server: MET-1 to MET-4, section 16. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/serve/httpd.h"
#include "proxy/serve/metrics.h"
#include "proxy/serve/metricsd.h"
#include "tests/support/suite.h"
#include "tests/support/http.h"
#include "watch/http.h"

/* The names, types and labels that section 16 lists. */
static const struct {
	enum metric metric;
	unsigned int series;
	const char *want;
} names[] = {
	{ METRIC_SYNC_DURATION, FAMILY_IPV4,
	  "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram\n"
	  "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.001\"} " },
	{ METRIC_FULL_SYNC_DURATION, FAMILY_IPV6,
	  "# TYPE kubeproxy_sync_full_proxy_rules_duration_seconds histogram\n"
	  "kubeproxy_sync_full_proxy_rules_duration_seconds_bucket{ip_family=\"IPv6\"," },
	{ METRIC_PARTIAL_SYNC_DURATION, FAMILY_IPV4,
	  "# TYPE kubeproxy_sync_partial_proxy_rules_duration_seconds histogram\n" },
	{ METRIC_LAST_SYNC, FAMILY_IPV4,
	  "# TYPE kubeproxy_sync_proxy_rules_last_timestamp_seconds gauge\n"
	  "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1700000000.25\n" },
	{ METRIC_LAST_QUEUED, FAMILY_IPV6,
	  "# TYPE kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds gauge\n"
	  "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv6\"} "
	  "1700000000.25\n" },
	{ METRIC_PROGRAMMING_DURATION, FAMILY_IPV4,
	  "# TYPE kubeproxy_network_programming_duration_seconds histogram\n"
	  "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.25\"}"
	  " " },
	{ METRIC_ENDPOINT_CHANGES_PENDING, 0,
	  "# TYPE kubeproxy_sync_proxy_rules_endpoint_changes_pending gauge\n"
	  "kubeproxy_sync_proxy_rules_endpoint_changes_pending 1700000000.25\n" },
	{ METRIC_ENDPOINT_CHANGES, 0,
	  "# TYPE kubeproxy_sync_proxy_rules_endpoint_changes_total counter\n"
	  "kubeproxy_sync_proxy_rules_endpoint_changes_total " },
	{ METRIC_SERVICE_CHANGES_PENDING, 0,
	  "# TYPE kubeproxy_sync_proxy_rules_service_changes_pending gauge\n" },
	{ METRIC_SERVICE_CHANGES, 0,
	  "# TYPE kubeproxy_sync_proxy_rules_service_changes_total counter\n" },
	{ METRIC_NO_LOCAL_ENDPOINTS, 3,
	  "# TYPE kubeproxy_sync_proxy_rules_no_local_endpoints_total gauge\n"
	  "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv6\","
	  "traffic_policy=\"external\"} " },
	{ METRIC_SYNC_FAILURES, FAMILY_IPV4,
	  "# TYPE kubeproxy_sync_proxy_rules_nftables_sync_failures_total counter\n"
	  "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} " },
	{ METRIC_CLEANUP_FAILURES, FAMILY_IPV6,
	  "# TYPE kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total counter\n"
	  "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family=\"IPv6\"} " },
	{ METRIC_HEALTHZ, 1,
	  "# TYPE kubeproxy_proxy_healthz_total counter\n"
	  "kubeproxy_proxy_healthz_total{code=\"200\"} 0\n"
	  "kubeproxy_proxy_healthz_total{code=\"503\"} 1700000000.25\n" },
	{ METRIC_LIVEZ, 0,
	  "# TYPE kubeproxy_proxy_livez_total counter\n"
	  "kubeproxy_proxy_livez_total{code=\"200\"} 1700000000.25\n" },
	{ METRIC_CONNTRACK_SYNC_DURATION, FAMILY_IPV4,
	  "# TYPE kubeproxy_conntrack_reconciler_sync_duration_seconds histogram\n" },
	{ METRIC_CONNTRACK_DELETED, FAMILY_IPV6,
	  "# TYPE kubeproxy_conntrack_reconciler_deleted_entries_total counter\n"
	  "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv6\"} " },
};

START_TEST(name_type_label)
{
	struct metrics *m = metrics_new(0);
	struct strbuf out = STRBUF_INIT;

	ck_assert_ptr_nonnull(m);
	metrics_observe(m, names[_i].metric, names[_i].series, 0.5);
	metrics_set(m, names[_i].metric, names[_i].series, 1700000000.25);
	metrics_format(m, &out);
	ck_assert_int_eq(out.err, 0);
	CHECK_HAS("section 16", out.text, names[_i].want);
	strbuf_free(&out);
	metrics_free(m);
}
END_TEST

/* MET-6: names, labels and buckets of client-go. */
START_TEST(client_requests)
{
	struct metrics *m = metrics_new(0);
	struct strbuf out = STRBUF_INIT;
	char host[400];
	int i;

	metrics_format(m, &out);
	CHECK_HAS_NOT("no request", out.text, "rest_client");
	strbuf_reset(&out);
	metrics_client_answer(m, "GET", "10.0.0.1:6443", 200,
			      0.005); /* a bound is included */
	metrics_client_answer(m, "GET", "10.0.0.1:6443", 200, 0.3);
	metrics_client_answer(m, "GET", "10.0.0.1:6443", 0, 61);
	metrics_client_answer(m, "POST", "10.0.0.1:6443", 201, 0.1);
	metrics_client_answer(m, "GET", "a\"b\\c", 404, 0.1);
	metrics_format(m, &out);
#define R "rest_client_requests_total"
#define D "rest_client_request_duration_seconds"
#define L "{host=\"10.0.0.1:6443\",verb=\"GET\""
	CHECK_HAS("MET-6", out.text, "# TYPE " R " counter\n");
	CHECK_HAS("MET-6", out.text, "# TYPE " D " histogram\n");
	CHECK_HAS("MET-6", out.text,
		  R "{code=\"200\",host=\"10.0.0.1:6443\",method=\"GET\"} 2\n");
	CHECK_HAS("MET-6", out.text,
		  R "{code=\"<error>\",host=\"10.0.0.1:6443\",method=\"GET\"} 1\n");
	CHECK_HAS("MET-6", out.text,
		  R "{code=\"201\",host=\"10.0.0.1:6443\",method=\"POST\"} 1\n");
	CHECK_HAS("escaped", out.text,
		  R "{code=\"404\",host=\"a\\\"b\\\\c\",method=\"GET\"} 1\n");
	CHECK_HAS("MET-6", out.text,
		  D "_bucket" L ",le=\"0.005\"} 1\n" D "_bucket" L
		    ",le=\"0.025\"} 1\n" D "_bucket" L ",le=\"0.1\"} 1\n" D
		    "_bucket" L ",le=\"0.25\"} 1\n" D "_bucket" L
		    ",le=\"0.5\"} 2\n" D "_bucket" L ",le=\"1\"} 2\n" D
		    "_bucket" L ",le=\"2\"} 2\n" D "_bucket" L ",le=\"4\"} 2\n" D
		    "_bucket" L ",le=\"8\"} 2\n" D "_bucket" L ",le=\"15\"} 2\n" D
		    "_bucket" L ",le=\"30\"} 2\n" D "_bucket" L
		    ",le=\"60\"} 2\n" D "_bucket" L ",le=\"+Inf\"} 3\n" D
		    "_sum" L "} 61.305\n" D "_count" L "} 3\n");

	/* A server that answers with all statuses, and ever new hosts, take no room. */
	for (i = 0; i < 1000; i++) {
		snprintf(host, sizeof(host), "%d.%0300d", i, 0);
		metrics_client_answer(m, "GET", i % 2 ? "other.example" : host,
				      i, 1);
	}
	strbuf_reset(&out);
	metrics_format(m, &out);
	ck_assert_uint_lt(out.length, 200000);
	CHECK_HAS("counted together", out.text,
		  R "{code=\"other\",host=\"other\",method=\"other\"} ");
	CHECK_HAS("counted together", out.text,
		  D "_count{host=\"other\",verb=\"other\"} ");
	CHECK_HAS("known ones still count", out.text,
		  R "{code=\"200\",host=\"10.0.0.1:6443\",method=\"GET\"} 2\n");
#undef R
#undef D
#undef L
	strbuf_free(&out);
	metrics_free(m);
}
END_TEST

/* What would be an alarm, or means nothing without an API server, is not shown before it is set. */
START_TEST(shown_when_set)
{
	static const char *const hidden[] = {
		"vipmap_api_server_connected", "vipmap_api_server_last_contact",
		"vipmap_watch_restarts_total", "vipmap_healthy",
		"vipmap_config_last_reload",   "vipmap_kernel_feature"
	};
	struct metrics *m = metrics_new(0);
	struct strbuf out = STRBUF_INIT;
	unsigned int i;

	metrics_format(m, &out);
	for (i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		CHECK_HAS_NOT("not set", out.text, hidden[i]);
	metrics_show_api(m);
	metrics_add(m, METRIC_WATCH_RESTARTS, KIND_SLICE, 3);
	metrics_set(m, METRIC_KERNEL_FEATURE, FEATURE_TABLE_OWNER, 1);
	strbuf_reset(&out);
	metrics_format(m, &out);
	CHECK_HAS("API", out.text, "vipmap_api_server_connected 0\n");
	CHECK_HAS("API", out.text,
		  "vipmap_watch_restarts_total{resource=\"services\"} 0\n"
		  "vipmap_watch_restarts_total{resource=\"endpointslices\"} 3\n"
		  "vipmap_watch_restarts_total{resource=\"servicecidrs\"} 0\n"
		  "vipmap_watch_restarts_total{resource=\"nodes\"} 0\n");
	CHECK_HAS("API", out.text,
		  "vipmap_api_server_last_contact_timestamp_seconds 0\n");
	CHECK_HAS("feature", out.text,
		  "vipmap_kernel_feature{feature=\"table-owner\"} 1\n");
	strbuf_free(&out);
	metrics_free(m);
}
END_TEST

/* The bounds of a histogram as they are printed, separated by spaces. */
static void bounds_of(const char *text, const char *name, struct strbuf *bounds)
{
	struct strbuf prefix = STRBUF_INIT;
	const char *at = text, *end;

	strbuf_addf(&prefix, "%s_bucket{ip_family=\"IPv4\",le=\"", name);
	while ((at = strstr(at, prefix.text))) {
		at += prefix.length;
		end = strchr(at, '"');
		strbuf_add(bounds, at, (size_t)(end - at));
		strbuf_addc(bounds, ' ');
	}
	strbuf_free(&prefix);
}

START_TEST(bucket_bounds)
{
	struct strbuf out = STRBUF_INIT, bounds = STRBUF_INIT, want = STRBUF_INIT;
	struct metrics *m = metrics_new(0);
	int i;

	metrics_show_family(m, FAMILY_IPV4);
	metrics_format(m, &out);
	bounds_of(out.text, "kubeproxy_sync_proxy_rules_duration_seconds", &bounds);
	ck_assert_msg(strcmp(bounds.text,
			     "0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 "
			     "0.512 1.024 2.048 4.096 8.192 16.384 +Inf ") == 0,
		      "MET-1: got %s", bounds.text);
	strbuf_reset(&bounds);
	bounds_of(out.text, "kubeproxy_network_programming_duration_seconds",
		  &bounds);
	strbuf_adds(&want, "0.25 0.5 ");
	for (i = 1; i < 60; i++)
		strbuf_addf(&want, "%d ", i);
	for (i = 60; i <= 115; i += 5)
		strbuf_addf(&want, "%d ", i);
	for (i = 120; i <= 300; i += 30)
		strbuf_addf(&want, "%d ", i);
	strbuf_adds(&want, "+Inf ");
	ck_assert_msg(strcmp(bounds.text, want.text) == 0,
		      "MET-2: want %s, got %s", want.text, bounds.text);
	strbuf_reset(&bounds);
	bounds_of(out.text, "vipmap_event_to_commit_seconds", &bounds);
	ck_assert_msg(strncmp(bounds.text,
			      "0.0001 0.0002 0.0004 0.0008 0.0016 ", 35) == 0 &&
			      strstr(bounds.text, " 13.1072 +Inf "),
		      "got %s", bounds.text);
	strbuf_free(&want);
	strbuf_free(&bounds);
	strbuf_free(&out);
	metrics_free(m);
}
END_TEST

START_TEST(histogram_counts)
{
	struct metrics *m = metrics_new(0);
	struct strbuf out = STRBUF_INIT;

	metrics_observe(m, METRIC_SYNC_DURATION, FAMILY_IPV6,
			0.001); /* a bound is included */
	metrics_observe(m, METRIC_SYNC_DURATION, FAMILY_IPV6, 0.003);
	metrics_observe(m, METRIC_SYNC_DURATION, FAMILY_IPV6, 100);
	metrics_format(m, &out);
#define B "kubeproxy_sync_proxy_rules_duration_seconds"
	CHECK_HAS("MET-1", out.text,
		  B "_bucket{ip_family=\"IPv6\",le=\"0.001\"} 1\n");
	CHECK_HAS("MET-1", out.text,
		  B "_bucket{ip_family=\"IPv6\",le=\"0.002\"} 1\n");
	CHECK_HAS("MET-1", out.text,
		  B "_bucket{ip_family=\"IPv6\",le=\"0.004\"} 2\n");
	CHECK_HAS("MET-1", out.text,
		  B "_bucket{ip_family=\"IPv6\",le=\"16.384\"} 2\n");
	CHECK_HAS("MET-1", out.text,
		  B "_bucket{ip_family=\"IPv6\",le=\"+Inf\"} 3\n");
	CHECK_HAS("MET-1", out.text, B "_sum{ip_family=\"IPv6\"} 100.004\n");
	CHECK_HAS("MET-1", out.text, B "_count{ip_family=\"IPv6\"} 3\n");
	CHECK_HAS_NOT("nothing of IPv4 yet", out.text,
		      B "_count{ip_family=\"IPv4\"}");
	ck_assert_double_eq_tol(metrics_get(m, METRIC_SYNC_DURATION, FAMILY_IPV6),
				100.004, 1e-9);
	strbuf_free(&out);
	metrics_free(m);
}
END_TEST

START_TEST(shown_families)
{
	struct metrics *m = metrics_new(0);
	struct strbuf out = STRBUF_INIT;

	metrics_show_family(m, FAMILY_IPV4);
	metrics_add(m, METRIC_SYNC_FAILURES, FAMILY_IPV4, 1);
	metrics_add(m, METRIC_SYNC_FAILURES, FAMILY_IPV4, 2);
	metrics_set(m, METRIC_NO_LOCAL_ENDPOINTS,
		    metrics_policy(POLICY_INTERNAL, FAMILY_IPV4), 7);
	metrics_format(m, &out);
	CHECK_HAS("added", out.text,
		  "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 3\n");
	CHECK_HAS("begins at 0", out.text,
		  "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"} 0\n");
	CHECK_HAS_NOT("other family", out.text, "IPv6");
	CHECK_HAS_NOT("time stamp that was never set", out.text,
		      "last_timestamp_seconds");
	CHECK_HAS("MET-3", out.text,
		  "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\","
		  "traffic_policy=\"internal\"} 7\n");
	CHECK_HAS_NOT("MET-3", out.text, "traffic_policy=\"external\"");
	strbuf_free(&out);
	metrics_free(m);
}
END_TEST

static double value_of(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	ck_assert_msg(at != NULL, "MET-4: no %s", name);
	return strtod(at + strlen(name), NULL);
}

START_TEST(process_metrics)
{
	struct metrics *m = metrics_new(1700000000250000);
	struct strbuf out = STRBUF_INIT;

	metrics_format(m, &out);
	ck_assert_double_gt(
		value_of(out.text, "\nprocess_resident_memory_bytes "), 100000);
	ck_assert_double_gt(value_of(out.text, "\nprocess_virtual_memory_bytes "),
			    100000);
	ck_assert_double_ge(value_of(out.text, "\nprocess_cpu_seconds_total "), 0);
	ck_assert_double_ge(value_of(out.text, "\nprocess_open_fds "), 3);
	ck_assert_double_gt(value_of(out.text, "\nprocess_max_fds "), 3);
	ck_assert_double_eq(value_of(out.text, "\nprocess_start_time_seconds "),
			    1700000000.25);
	CHECK_HAS("MET-4", out.text,
		  "vipmap_build_info{revision=\"\",version=\"" VIPMAP_VERSION
		  "\"} 1\n");
	CHECK_HAS("MET-6", out.text, "\nkubernetes_build_info{compiler=");
	CHECK_HAS("MET-6", out.text, "git_version=\"v" VIPMAP_VERSION "-vipmap\"");
	metrics_set_revision(m, "a1b2c3d");
	strbuf_reset(&out);
	metrics_format(m, &out);
	CHECK_HAS("revision", out.text, "vipmap_build_info{revision=\"a1b2c3d\",");
	CHECK_HAS("revision", out.text, "git_commit=\"a1b2c3d\"");
	CHECK_HAS_NOT("MET-4: other modes", out.text, "iptables");
	CHECK_HAS_NOT("MET-4: other modes", out.text, "ipvs");
	strbuf_free(&out);
	metrics_free(m);
}
END_TEST

/* Every line of the exposition is a comment or "name{labels} number"; no name has two TYPE lines.
 */
START_TEST(well_formed)
{
	struct metrics *m = metrics_new(0);
	struct strbuf out = STRBUF_INIT;
	char *line, *rest, *end, *space;
	unsigned int i;

	for (i = 0; i < N_METRICS; i++)
		metrics_observe(m, i, 0, 1);
	metrics_client_answer(m, "GET", "10.0.0.1:6443", 200, 0.01);
	metrics_format(m, &out);
	for (rest = out.text; (line = strsep(&rest, "\n")) && *line;) {
		if (strncmp(line, "# TYPE ", 7) == 0) {
			ck_assert_msg(!rest || !strstr(rest, line), "twice: %s",
				      line);
			continue;
		}
		if (*line == '#')
			continue;
		space = strrchr(line, ' ');
		ck_assert_msg(space != NULL, "no value: %s", line);
		strtod(space + 1, &end);
		ck_assert_msg(*end == '\0' && end > space + 1, "no number: %s",
			      line);
		ck_assert_msg(strncmp(line, "kubeproxy_", 10) == 0 ||
				      strncmp(line, "vipmap_", 7) == 0 ||
				      strncmp(line, "rest_client_", 12) == 0 ||
				      strncmp(line, "kubernetes_build_info{",
					      22) == 0 ||
				      strncmp(line, "process_", 8) == 0,
			      "prefix: %s", line);
	}
	ck_assert_ptr_null(rest);
	strbuf_free(&out);
	metrics_free(m);
}
END_TEST

struct fixture {
	struct event_base *base;
	struct config *config;
	struct metrics *metrics;
	struct metricsd *server;
	struct strbuf log, answer;
	uint16_t port;
};

static void note(void *ctx, int severity, const char *message)
{
	struct fixture *f = ctx;

	strbuf_addf(&f->log, "%d %s\n", severity, message);
}

static int page(void *ctx, const char *path, const char *query, struct strbuf *out)
{
	(void)ctx;
	strbuf_addf(out, "query=%s", query);
	return strcmp(path, "/status") == 0 ? 200 : 404;
}

static void begin(struct fixture *f, const char *address)
{
	memset(f, 0, sizeof(*f));
	f->base = event_base_new();
	f->config = config_new();
	f->metrics = metrics_new(0);
	f->port = http_free_port();
	if (address) {
		char text[64];

		snprintf(text, sizeof(text), "%s:%u", address, f->port);
		ck_assert_int_eq(
			config_set(&f->config->metrics_bind_address, text), 0);
	} else {
		ck_assert_int_eq(config_set(&f->config->metrics_bind_address, ""),
				 0);
	}
}

static struct metricsd *serve(struct fixture *f, struct errbuf *eb)
{
	const struct metricsd_options options = { .base = f->base,
						  .config = f->config,
						  .metrics = f->metrics,
						  .retry_ms = 1,
						  .log = note,
						  .page = page,
						  .ctx = f };

	f->server = metricsd_new(&options, eb);
	return f->server;
}

static void end(struct fixture *f)
{
	metricsd_free(f->server);
	metrics_free(f->metrics);
	config_free(f->config);
	event_base_free(f->base);
	strbuf_free(&f->log);
	strbuf_free(&f->answer);
}

static const struct {
	const char *method, *path;
	int status;
	const char *want[3]; /* contained in the answer */
} pages[] = {
	{ "GET",
	  "/metrics",
	  200,
	  { "Content-Type: text/plain; version=0.0.4",
	    "kubeproxy_proxy_healthz_total{", "process_cpu_seconds_total" } },
	{ "GET",
	  "/proxyMode",
	  200,
	  { "Content-Type: text/plain; charset=utf-8\r\n",
	    "X-Content-Type-Options: nosniff\r\n", "\r\n\r\nnftables" } },
	{ "GET", "/healthz", 200, { "\r\n\r\nok" } },
	{ "GET",
	  "/configz",
	  200,
	  { "Content-Type: application/json\r\n",
	    "\r\n\r\n{\"kubeproxy.config.k8s.io\":{\"kind\":\"KubeProxyConfiguration\"",
	    "\"mode\":\"nftables\"" } },
	{ "GET", "/status?a=b", 200, { "\r\n\r\nquery=a=b" } },
	{ "GET", "/status", 200, { "\r\n\r\nquery=" } },
	{ "GET", "/other", 404, { "\r\n\r\n404 page not found\n" } },
	{ "GET", "/", 404, { "404 page" } },
	{ "GET", "/metrics/", 404, { "404 page" } },
	{ "POST", "/proxyMode", 200, { "nftables" } },
};

START_TEST(served)
{
	struct fixture f;
	struct errbuf eb;
	int status, i;

	begin(&f, "127.0.0.1");
	ck_assert_ptr_nonnull(serve(&f, &eb));
	status = http_get(f.base, "127.0.0.1", f.port, pages[_i].method,
			  pages[_i].path, &f.answer);
	ck_assert_msg(status == pages[_i].status, "%s: want %d, got %d",
		      pages[_i].path, pages[_i].status, status);
	for (i = 0; i < 3 && pages[_i].want[i]; i++)
		CHECK_HAS(pages[_i].path, f.answer.text, pages[_i].want[i]);
	ck_assert_uint_eq(f.log.length, 0);
	end(&f);
}
END_TEST

START_TEST(served_on_ipv6)
{
	struct fixture f;
	struct errbuf eb;
	int occupied;

	begin(&f, "[::1]");
	occupied = http_occupy("::1", f.port);
	if (occupied < 0) {
		test_skipped("no IPv6 loopback");
		end(&f);
		return;
	}
	close(occupied);
	ck_assert_ptr_nonnull(serve(&f, &eb));
	ck_assert_int_eq(
		http_get(f.base, "::1", f.port, "GET", "/healthz", &f.answer), 200);
	ck_assert_int_eq(http_get(f.base, "127.0.0.1", f.port, "GET",
				  "/healthz", &f.answer),
			 -ECONNREFUSED);
	end(&f);
}
END_TEST

START_TEST(switched_off)
{
	struct fixture f;
	struct errbuf eb;

	begin(&f, NULL);
	ck_assert_ptr_nonnull(serve(&f, &eb));
	ck_assert_int_eq(http_get(f.base, "127.0.0.1", f.port, "GET",
				  "/healthz", &f.answer),
			 -ECONNREFUSED);
	end(&f);
}
END_TEST

START_TEST(port_taken)
{
	struct errbuf eb = { "" };
	struct fixture f;
	int taken;

	begin(&f, "127.0.0.1");
	taken = http_occupy("127.0.0.1", f.port);
	ck_assert_int_ge(taken, 0);
	f.config->bind_address_hard_fail = true;
	ck_assert_ptr_null(serve(&f, &eb));
	CHECK_HAS("hard fail", eb.text,
		  "metrics server: cannot listen on 127.0.0.1 port");
	f.config->bind_address_hard_fail = false;
	ck_assert_ptr_nonnull(serve(&f, &eb));
	CHECK_HAS("retried", f.log.text,
		  "3 metrics server: cannot listen on 127.0.0.1 port");
	close(taken);
	event_base_loop(f.base, EVLOOP_ONCE);
	CHECK_HAS("listens later", f.log.text, "6 metrics server: listens now");
	ck_assert_int_eq(http_get(f.base, "127.0.0.1", f.port, "GET",
				  "/healthz", &f.answer),
			 200);
	end(&f);
}
END_TEST

static const struct {
	const char *path;
	int status;
	const char *body;
} fetches[] = {
	{ "/proxyMode", 200, "nftables" },
	{ "/no", 404, "404 page not found\n" },
};

/* By the client that preflight asks with. */
START_TEST(fetched)
{
	struct strbuf body = STRBUF_INIT;
	struct http_result result;
	struct errbuf eb = { "" };
	char server[64];
	struct fixture f;
	const struct http_params params = {
		.server = server,
		.path = fetches[_i].path,
		.connect_ms = 5000,
		.idle_ms = 5000,
	};

	begin(&f, "127.0.0.1");
	snprintf(server, sizeof(server), "http://127.0.0.1:%u", f.port);
	ck_assert_ptr_nonnull(serve(&f, &eb));
	ck_assert_int_eq(http_fetch(f.base, &params, &body, &result), 0);
	ck_assert_int_eq(result.outcome, HTTP_COMPLETE);
	ck_assert_int_eq(result.status, fetches[_i].status);
	ck_assert_str_eq(body.text, fetches[_i].body);
	strbuf_free(&body);
	end(&f);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("metrics");
	TCase *tc = tcase_create("metrics");

	ADD_LOOP(tc, name_type_label, names);
	tcase_add_test(tc, bucket_bounds);
	tcase_add_test(tc, client_requests);
	tcase_add_test(tc, shown_when_set);
	tcase_add_test(tc, histogram_counts);
	tcase_add_test(tc, shown_families);
	tcase_add_test(tc, process_metrics);
	tcase_add_test(tc, well_formed);
	ADD_LOOP(tc, served, pages);
	tcase_add_test(tc, served_on_ipv6);
	tcase_add_test(tc, switched_off);
	tcase_add_test(tc, port_taken);
	ADD_LOOP(tc, fetched, fetches);
	suite_add_tcase(suite, tc);
	return suite;
}
