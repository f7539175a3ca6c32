/*
 * When the reporter and the status pages say that something was: the clock is
 * the test's, and so is the kernel.
 */
#include "proxy/serve/reporter.h"

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <linux/netfilter/nf_tables.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "proxy/serve/status.h"
#include "proxy/serve/view.h"
#include "tests/support/build.h"
#include "tests/support/kernel.h"
#include "tests/support/suite.h"

enum { MS = 1000, S = 1000000 };

#define REAL_US                                                                \
	(1700000000 * INT64_C(1000000)) /* what the real clock has ahead */

struct world {
	struct event_base *base;
	struct config *config;
	struct fake_kernel *kernel;
	struct model *model;
	struct build_log said;
	struct log *log;
	struct metrics *metrics;
	struct health *health;
	struct reporter *reporter;
	struct sync *sync;
	struct clock clock;
	int64_t now_us, began_us;
	bool refuses[N_FAMILIES];
};

static int64_t monotonic_us(void *ctx)
{
	return ((const struct world *)ctx)->now_us;
}

static int64_t realtime_us(void *ctx)
{
	return REAL_US + ((const struct world *)ctx)->now_us;
}

static int refuse(void *ctx, const struct fake_op *op)
{
	const struct world *w = ctx;

	return op->type == NFT_MSG_NEWSETELEM && w->refuses[op->family] ? -ENOBUFS
									: 0;
}

static void world_open(struct world *w)
{
	const bool both[N_FAMILIES] = { true, true };
	struct sync_options options = { .family = { true, true } };
	struct health_options health = { .address = "",
					 .node_name = "n1",
					 .log = build_log };
	const struct object_sink *sink;
	struct errbuf eb = { "" };
	int err;

	memset(w, 0, sizeof(*w));
	w->began_us = w->now_us = 1000 * (int64_t)S;
	w->clock = (struct clock){ realtime_us, monotonic_us, w, NULL };
	w->base = event_base_new();
	w->config = build_config();
	w->config->min_sync_period_ms = 0;
	w->config->sync_period_ms = 30 * 1000;
	w->kernel = fake_kernel_new();
	fake_faults(w->kernel)->refuse = refuse;
	fake_faults(w->kernel)->ctx = w;
	w->model = model_new(w->config, build_log, &w->said);
	w->log = log_new(-1, 0, false, &w->clock);
	sink = model_sink(w->model);
	sink->list_begin(sink->ctx, KIND_SERVICE);
	sink->list_begin(sink->ctx, KIND_SLICE);
	build_put(w->model, "service a/w tcp:80 ip=10.96.0.1 ip=fd00:96::1");
	build_put(w->model, "slice a/w-1 w v4 tcp:80 10.0.0.1");
	build_put(w->model, "slice a/w-6 w v6 tcp:80 fd00::1");
	sink->list_end(sink->ctx, KIND_SERVICE);
	sink->list_end(sink->ctx, KIND_SLICE);
	w->metrics = metrics_new(REAL_US);
	health.base = w->base;
	health.metrics = w->metrics;
	health.clock = &w->clock;
	health.sync_period_ms = w->config->sync_period_ms;
	health.ctx = &w->said;
	w->health = health_new(&health, &eb);
	ck_assert_msg(w->health, "%s", eb.text);
	w->reporter =
		reporter_new(w->model, w->metrics, w->health, &w->clock, both);
	reporter_attach(w->reporter, &options);
	options.base = w->base;
	options.clock = &w->clock;
	options.config = w->config;
	options.model = w->model;
	options.log = w->log;
	options.nl = fake_kernel_socket(w->kernel);
	w->sync = sync_new(&options, &err, &eb);
	ck_assert_msg(w->sync, "%s", eb.text);
	reporter_set_sync(w->reporter, w->sync);
	sync_start(w->sync);
}

static void world_close(struct world *w)
{
	reporter_set_sync(w->reporter, NULL);
	sync_free(w->sync);
	reporter_free(w->reporter);
	health_free(w->health);
	metrics_free(w->metrics);
	model_free(w->model);
	fake_kernel_free(w->kernel);
	config_free(w->config);
	log_free(w->log);
	strbuf_free(&w->said.text);
	event_base_free(w->base);
}

/* An IPv4 endpoint more, heard of @late_us ago, which the cluster says happened at @trigger_us. */
static void change(struct world *w, unsigned int n, int64_t late_us,
		   int64_t trigger_us)
{
	const struct object_sink *sink = model_sink(w->model);
	struct slice *slice;
	char text[100];

	snprintf(text, sizeof(text), "a/w-1 w v4 tcp:80 10.0.0.%u", n);
	slice = build_slice(text);
	slice->trigger_us = trigger_us;
	sink->put_slice(sink->ctx, slice);
	reporter_set_arrival(w->reporter, w->now_us - late_us);
	sync_request(w->sync);
	reporter_set_arrival(w->reporter, 0);
}

static void expect_seconds(const struct world *w, enum metric metric,
			   enum family family, double want, const char *what)
{
	const double got = metrics_get(w->metrics, metric, family);

	ck_assert_msg(fabs(got - want) < 1e-4, "%s: want %.6f got %.6f", what,
		      want, got);
}

/* From the arrival of the oldest change that waits to the commit, however many tries it took. */
START_TEST(event_to_commit)
{
	struct world w;

	world_open(&w);
	expect_seconds(&w, METRIC_EVENT_TO_COMMIT, FAMILY_IPV4, 0, "at once");
	expect_seconds(&w, METRIC_LAST_SYNC, FAMILY_IPV4,
		       (double)(REAL_US + w.began_us) / 1e6, "first sync");
	w.now_us += 5 * S;
	change(&w, 2, 20 * MS, 0);
	expect_seconds(&w, METRIC_EVENT_TO_COMMIT, FAMILY_IPV4, 0.020, "late");
	expect_seconds(&w, METRIC_LAST_SYNC, FAMILY_IPV4,
		       (double)(REAL_US + w.began_us) / 1e6 + 5, "second sync");

	/* Nothing is observed while the kernel refuses; the others' commits say nothing of it. */
	w.refuses[FAMILY_IPV4] = true;
	w.now_us += 1 * S;
	change(&w, 3, 0, 0);
	w.now_us += 40 * MS;
	change(&w, 4, 0, 0);
	expect_seconds(&w, METRIC_EVENT_TO_COMMIT, FAMILY_IPV4, 0.020, "refused");
	expect_seconds(&w, METRIC_LAST_SYNC, FAMILY_IPV4,
		       (double)(REAL_US + w.began_us) / 1e6 + 5, "no sync");
	w.refuses[FAMILY_IPV4] = false;
	w.now_us += 60 * MS;
	change(&w, 5, 0, 0);
	expect_seconds(&w, METRIC_EVENT_TO_COMMIT, FAMILY_IPV4, 0.120,
		       "the oldest waited for 100 ms");
	world_close(&w);
}
END_TEST

/* MET-2: what happened before the start, or is to happen, says nothing. */
START_TEST(programming_duration)
{
	struct world w;
	int64_t real_us;

	world_open(&w);
	w.now_us += 10 * S;
	real_us = REAL_US + w.now_us;
	change(&w, 2, 0, REAL_US + w.began_us - 1);
	change(&w, 3, 0, real_us + 1);
	expect_seconds(&w, METRIC_PROGRAMMING_DURATION, FAMILY_IPV4, 0, "none");
	change(&w, 4, 0, real_us - 250 * MS);
	expect_seconds(&w, METRIC_PROGRAMMING_DURATION, FAMILY_IPV4, 0.250, "one");
	world_close(&w);
}
END_TEST

static void expect_page(const struct world *w, const struct view_source *source,
			const char *const *wanted)
{
	const struct view view = {
		.config = w->config,
		.model = w->model,
		.node_name = "n1",
		.revision = "",
		.sync = w->sync,
		.health = w->health,
		.metrics = w->metrics,
		.log = w->log,
		.clock = &w->clock,
		.source = *source,
		.started_us = REAL_US + w->began_us,
	};
	struct strbuf page = STRBUF_INIT;

	ck_assert_int_eq(view_status(&view, "", &page), 200);
	for (; *wanted; wanted++)
		ck_assert_msg(strstr(page.text, *wanted), "no %s in %s",
			      *wanted, page.text);
	strbuf_free(&page);
}

/* How long ago, and since when: of an API server that went 90 s after the start. */
START_TEST(ages_of_status)
{
	static const char *const well[] = { "\"uptimeSeconds\":90,",
					    "\"lastContactSecondsAgo\":3,",
					    "\"lastSyncSecondsAgo\":12.500,",
					    "\"state\":\"ok\"", NULL };
	static const char *const lost[] = { "\"uptimeSeconds\":200,",
					    "\"lastContactSecondsAgo\":113,",
					    "\"unreachableSeconds\":110,",
					    "\"tries\":7,",
					    "\"reason\":\"gone\"",
					    "\"lastSyncSecondsAgo\":122.500,",
					    "\"state\":\"degraded\"",
					    NULL };
	struct view_source source = { .server = "https://a",
				      .connected = true,
				      .listed = true,
				      .reason = "" };
	struct strbuf text = STRBUF_INIT;
	struct world w;

	world_open(&w);
	w.now_us = w.began_us + 77 * (int64_t)S + 500 * MS;
	change(&w, 2, 0, 0);
	build_put(w.model, "slice a/w-6 w v6 tcp:80 fd00::2");
	sync_request(w.sync);
	w.now_us = w.began_us + 90 * (int64_t)S;
	source.contact_us = w.now_us - 3 * S;
	expect_page(&w, &source, well);
	source.connected = false;
	source.tries = 7;
	source.lost_us = w.now_us;
	source.reason = "gone";
	w.now_us = w.began_us + 200 * (int64_t)S;
	expect_page(&w, &source, lost);
	status_format(w.model, w.metrics, &w.clock, &text);
	ck_assert_msg(strstr(text.text, "IPv4: last sync 122.5 s ago,"), "%s",
		      text.text);
	strbuf_free(&text);
	world_close(&w);
}
END_TEST

/* The family that fails is told of, with how often; the other one is as ever. */
START_TEST(one_family_fails)
{
	static const char *const wanted[] = {
		"{\"family\":\"IPv4\",\"state\":\"degraded\"",
		"\"failedSyncs\":2,", "{\"family\":\"IPv6\",\"state\":\"ok\"",
		"\"lastSyncSecondsAgo\":0.000,", NULL
	};
	const struct view_source manifests = { .server = NULL };
	struct world w;

	world_open(&w);
	w.refuses[FAMILY_IPV4] = true;
	w.now_us += 1 * S;
	change(&w, 2, 0, 0);
	w.now_us += 100 * MS;
	build_put(w.model, "slice a/w-6 w v6 tcp:80 fd00::2");
	sync_request(w.sync);
	expect_page(&w, &manifests, wanted);
	ck_assert(health_is_healthy(w.health));
	/* HZ-3: unhealthy once it waits for twice syncPeriod. */
	w.now_us = w.began_us + 1 * S + 60 * (int64_t)S;
	ck_assert(health_is_healthy(w.health));
	w.now_us++;
	ck_assert(!health_is_healthy(w.health));
	world_close(&w);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("reporter");
	TCase *tcase = tcase_create("reporter");

	tcase_add_test(tcase, event_to_commit);
	tcase_add_test(tcase, programming_duration);
	tcase_add_test(tcase, ages_of_status);
	tcase_add_test(tcase, one_family_fails);
	suite_add_tcase(suite, tcase);
	return suite;
}
