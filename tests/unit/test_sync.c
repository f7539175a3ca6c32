/*
 * When things are done, with a kernel: a table without an owner, in a network namespace of its own,
 * so that the clients of a sticky Service can be made by nft.
 */
#include "proxy/sync/sync.h"

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nft/batch.h"
#include "proxy/serve/reporter.h"
#include "tests/support/suite.h"
#include "tests/support/build.h"
#include "tests/support/http.h"
#include "tests/support/nft.h"

enum { CLIENTS = 60000, MIN_PERIOD_MS = 2000, PATIENCE_MS = 30000 };

struct world {
	struct event_base *base;
	struct config *config;
	struct model *model;
	struct build_log said;
	struct log *log;
	struct sync *sync;
	unsigned int n_full; /* syncs that read the kernel back */
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void on_synced(void *ctx, enum family family, int err,
		      const struct sync_report *report, int64_t duration_us)
{
	struct world *w = ctx;

	(void)duration_us;
	ck_assert_int_eq(err, 0);
	w->n_full += family == FAMILY_IPV4 && report->full;
}

/* Complete, and empty. */
static void world_lists(struct world *w)
{
	const struct object_sink *sink = model_sink(w->model);

	sink->list_begin(sink->ctx, KIND_SERVICE);
	sink->list_begin(sink->ctx, KIND_SLICE);
	sink->list_end(sink->ctx, KIND_SERVICE);
	sink->list_end(sink->ctx, KIND_SLICE);
}

static void world_open(struct world *w)
{
	struct sync_options options = {
		.family = { true, false },
		.no_owner = true,
		.synced = on_synced,
		.ctx = w,
	};
	struct errbuf eb = { "" };
	int err;

	w->base = event_base_new();
	w->config = build_config();
	w->config->min_sync_period_ms = MIN_PERIOD_MS;
	w->config->sync_period_ms = 600 * 1000;
	w->model = model_new(w->config, build_log, &w->said);
	w->log = log_new(2, 0, false, NULL);
	world_lists(w);
	build_put(w->model, "service a/w tcp:80 ip=10.96.0.1 affinity=10800");
	build_put(w->model, "slice a/w-1 w v4 tcp:80 10.0.0.1 10.0.0.2");
	options.base = w->base;
	options.config = w->config;
	options.model = w->model;
	options.log = w->log;
	w->sync = sync_new(&options, &err, &eb);
	ck_assert_msg(w->sync, "%s", eb.text);
}

/* No test here makes memory run out. */
static void expect_enough_memory(const struct world *w)
{
	struct strbuf lines = STRBUF_INIT;

	log_recent(w->log, &lines);
	ck_assert_msg(!lines.text || !strstr(lines.text, "out of memory"),
		      "%.4000s", lines.text);
	strbuf_free(&lines);
}

static void world_close(struct world *w)
{
	expect_enough_memory(w);
	sync_free(w->sync);
	model_free(w->model);
	config_free(w->config);
	log_free(w->log);
	strbuf_free(&w->said.text);
	event_base_free(w->base);
}

static void run_ms(struct world *w, int64_t ms)
{
	const struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	event_base_loopexit(w->base, &tv);
	event_base_dispatch(w->base);
}

/* How long it takes until the kernel is read back once more. */
static int64_t until_full(struct world *w, unsigned int n)
{
	const int64_t began = now_ms();

	while (w->n_full < n && now_ms() - began < PATIENCE_MS)
		run_ms(w, 20);
	ck_assert_uint_ge(w->n_full, n);
	return now_ms() - began;
}

static void make_clients(void)
{
	struct strbuf text = STRBUF_INIT, out = STRBUF_INIT;
	int i;

	strbuf_adds(&text, "add element ip vipmap affinity/a/w/tcp/ {\n");
	for (i = 0; i < CLIENTS; i++)
		strbuf_addf(&text, "10.8.%d.%d : 10.0.0.%d . 80,\n", i >> 8,
			    i & 255, 1 + i % 2);
	strbuf_adds(&text, "}\n");
	ck_assert_msg(run_with("nft -f %s", text.text, &out) == 0, "%.300s",
		      out.text);
	strbuf_free(&text);
	strbuf_free(&out);
}

/*
 * RUN-3 RUN-4 AFF-5: a sync that is due goes ahead while a large map is looked through, which takes
 * a dozen steps. Each of them used to put it off, twice as long each time.
 */
START_TEST(forgetting_clients_puts_nothing_off)
{
	struct world w = { 0 };
	unsigned int before;
	int64_t took;

	if (!new_namespace())
		return;
	world_open(&w);
	sync_start(w.sync);
	until_full(&w, 1);
	make_clients();
	run_ms(&w, 100); /* that was somebody else */
	until_full(&w, 2);
	run_ms(&w, MIN_PERIOD_MS + 500);
	/* This is done at once, and begins to forget; the check is due after the pause. */
	build_put(w.model, "slice a/w-1 w v4 tcp:80 10.0.0.1");
	sync_request(w.sync);
	ck_assert_uint_eq(w.said.text.length, 0);
	before = w.n_full;
	sync_check(w.sync);
	took = until_full(&w, before + 1);
	ck_assert_msg(took < 2 * MIN_PERIOD_MS, "after %lld ms", (long long)took);
	world_close(&w);
}
END_TEST

/*
 * DS-6 HC-5 RUN-4: while another process has the table of IPv6, IPv4 is programmed and asked about
 * as ever, nothing piles up, and IPv6 is tried now and then, not at each change.
 */
struct apart {
	struct world w;
	struct metrics *metrics;
	struct health *health;
	struct reporter *reporter;
	struct sync_options options; /* the reporter's */
	unsigned int good[N_FAMILIES], bad[N_FAMILIES];
};

static void apart_synced(void *ctx, enum family family, int err,
			 const struct sync_report *report, int64_t duration_us)
{
	struct apart *a = ctx;

	if (err)
		a->bad[family]++;
	else
		a->good[family]++;
	a->options.synced(a->options.ctx, family, err, report, duration_us);
}

static void apart_queued(void *ctx, enum family family)
{
	struct apart *a = ctx;

	a->options.queued(a->options.ctx, family);
}

static void apart_compiled(void *ctx, struct service_entry *service,
			   enum family family)
{
	struct apart *a = ctx;

	a->options.compiled(a->options.ctx, service, family);
}

static void apart_log(void *ctx, int severity, const char *message)
{
	build_log(ctx, severity, message);
}

static void apart_open(struct apart *a, uint16_t port)
{
	struct sync_options options = {
		.family = { true, true },
		.synced = apart_synced,
		.queued = apart_queued,
		.compiled = apart_compiled,
		.ctx = a,
	};
	struct health_options health = { .address = "",
					 .node_name = "n1",
					 .clock = clock_system(),
					 .log = apart_log };
	const bool both[N_FAMILIES] = { true, true };
	struct world *w = &a->w;
	struct errbuf eb = { "" };
	char text[200];
	int err;

	w->base = event_base_new();
	w->config = build_config();
	w->config->sync_period_ms = 600 * 1000;
	w->model = model_new(w->config, build_log, &w->said);
	w->log = log_new(2, 0, false, NULL);
	world_lists(w);
	snprintf(text, sizeof(text),
		 "service a/w tcp:80 ip=10.96.0.1 ip=fd00:96::1 load-balancer external-local "
		 "health=%u",
		 port);
	build_put(w->model, text);
	build_put(w->model, "slice a/w-1 w v4 tcp:80 10.0.0.1(local)");
	build_put(w->model, "slice a/w-6 w v6 tcp:80 fd00::1(local)");
	a->metrics = metrics_new(0);
	health.base = w->base;
	health.metrics = a->metrics;
	health.sync_period_ms = w->config->sync_period_ms;
	health.ctx = &w->said;
	a->health = health_new(&health, &eb);
	a->reporter = reporter_new(w->model, a->metrics, a->health,
				   clock_system(), both);
	reporter_attach(a->reporter, &a->options);
	options.base = w->base;
	options.config = w->config;
	options.model = w->model;
	options.log = w->log;
	w->sync = sync_new(&options, &err, &eb);
	ck_assert_msg(w->sync, "%s", eb.text);
}

static void apart_close(struct apart *a)
{
	sync_free(a->w.sync);
	a->w.sync = NULL;
	reporter_free(a->reporter);
	health_free(a->health);
	metrics_free(a->metrics);
	world_close(&a->w);
}

/* Another process's table, or false if this kernel has none such. */
static bool take_table(struct nlsock *nl, enum family family)
{
	struct ruleset ruleset = sample_ruleset(family);
	struct batch *b = batch_new(&ruleset, BATCH_OWNER);
	struct errbuf eb = { "" };
	bool owned;

	batch_writer(b)->table(batch_writer(b)->ctx, CHANGE_ADD, 0);
	ck_assert_msg(batch_commit(b, nl, 5000, NULL, &eb) == 0, "%s", eb.text);
	owned = batch_is_owned(b);
	batch_free(b);
	return owned;
}

static void change_slice(struct apart *a, enum family family, unsigned int i)
{
	const struct object_sink *sink = model_sink(a->w.model);
	struct slice *slice;
	char text[100];

	if (family == FAMILY_IPV4)
		snprintf(text, sizeof(text),
			 "a/w-1 w v4 tcp:80 10.0.0.%u(local)", 1 + i % 200);
	else
		snprintf(text, sizeof(text),
			 "a/w-6 w v6 tcp:80 fd00::%u(local)", 1 + i % 200);
	slice = build_slice(text);
	slice->trigger_us = 1 + i;
	sink->put_slice(sink->ctx, slice);
	sync_request(a->w.sync);
}

START_TEST(families_back_off_on_their_own)
{
	enum { CHANGES = 300 };
	const uint16_t port = http_free_port();
	struct strbuf answer = STRBUF_INIT;
	struct nlsock *other;
	struct errbuf eb = { "" };
	struct apart a = { 0 };
	unsigned int i;

	if (!new_namespace())
		return;
	ck_assert_int_eq(run("ip link set lo up", &answer), 0);
	other = nlsock_open(&eb);
	ck_assert_msg(other, "%s", eb.text);
	if (!take_table(other, FAMILY_IPV6)) {
		test_skipped("no owned tables");
		nlsock_close(other);
		strbuf_free(&answer);
		return;
	}
	apart_open(&a, port);
	sync_start(a.w.sync);
	run_ms(&a.w, 100);
	ck_assert_uint_eq(a.good[FAMILY_IPV4], 1);
	ck_assert_int_eq(
		http_get(a.w.base, "127.0.0.1", port, "GET", "/", &answer), 200);
	ck_assert_int_eq(http_get(a.w.base, "::1", port, "GET", "/", &answer),
			 -ECONNREFUSED);
	a.bad[FAMILY_IPV6] = 0;
	for (i = 0; i < CHANGES; i++) {
		change_slice(&a, FAMILY_IPV4, i);
		change_slice(&a, FAMILY_IPV6, i);
		run_ms(&a.w, 1);
	}
	run_ms(&a.w, 200);
	ck_assert_uint_ge(a.good[FAMILY_IPV4], 10);
	ck_assert_uint_eq(a.good[FAMILY_IPV6], 0);
	/* pauses of 100, 200, 400 ms and so on, whatever happens meanwhile */
	ck_assert_msg(a.bad[FAMILY_IPV6] <= 8, "%u attempts", a.bad[FAMILY_IPV6]);
	ck_assert_uint_eq(model_pending(a.w.model, FAMILY_IPV4)->n_triggers, 0);
	ck_assert_uint_eq(model_pending(a.w.model, FAMILY_IPV4)->slices, 0);
	ck_assert_uint_ge(model_pending(a.w.model, FAMILY_IPV6)->slices,
			  CHANGES - 1);
	for (i = 0; i < 1 << 17; i++) {
		change_slice(&a, FAMILY_IPV6, i);
	}
	ck_assert_uint_le(model_pending(a.w.model, FAMILY_IPV6)->n_triggers,
			  1 << 16);
	nlsock_close(other);
	for (i = 0; i < 400 && !a.good[FAMILY_IPV6]; i++)
		run_ms(&a.w, 25);
	ck_assert_uint_ge(a.good[FAMILY_IPV6], 1);
	ck_assert_int_eq(http_get(a.w.base, "::1", port, "GET", "/", &answer), 200);
	ck_assert_uint_eq(model_pending(a.w.model, FAMILY_IPV6)->slices, 0);
	strbuf_free(&answer);
	apart_close(&a);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("sync");
	TCase *tcase = tcase_create("sync");

	tcase_add_test(tcase, families_back_off_on_their_own);
	tcase_add_test(tcase, forgetting_clients_puts_nothing_off);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	return suite;
}
