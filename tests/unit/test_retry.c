/*
 * When things are done, without a kernel and without waiting: the clock is the test's. First the
 * arithmetic of pauses, then the same of a sync whose kernel refuses.
 */
#include "proxy/sync/retry.h"

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <string.h>

#include "proxy/sync/sync.h"
#include "tests/support/suite.h"
#include "tests/support/build.h"
#include "tests/support/kernel.h"

enum { MS = 1000, S = 1000000 };

static const struct {
	const char *name;
	unsigned int failures; /* before this one */
	int64_t longest_us, took_us, at_us, earliest_us;
} pauses[] = {
	{ "first", 0, 30 * S, 0, 100 * MS, 100 * MS },
	{ "second", 1, 30 * S, 0, 200 * MS, 200 * MS },
	{ "a change waits a second at most", 5, 30 * S, 0, 3200 * MS, 1 * S },
	{ "syncPeriod ends the doubling", 20, 30 * S, 0, 30 * S, 1 * S },
	{ "a short syncPeriod", 0, 50 * MS, 0, 50 * MS, 50 * MS },
	{ "what took long is not repeated soon", 0, 30 * S, 2 * S, 100 * MS, 18 * S },
};

START_TEST(pauses_of_failures)
{
	const int64_t now = 1000 * (int64_t)S;
	struct retry r;
	unsigned int i;

	retry_init(&r);
	ck_assert(r.at_us == INT64_MAX);
	ck_assert_int_eq(retry_due_us(&r, 7), 0);
	for (i = 0; i < pauses[_i].failures; i++)
		retry_later(&r, 0, pauses[_i].longest_us);
	retry_failed(&r, now, pauses[_i].took_us, 7, pauses[_i].longest_us);
	ck_assert_msg(r.at_us - now == pauses[_i].at_us &&
			      r.earliest_us - now == pauses[_i].earliest_us,
		      "%s: %lld, with a change %lld", pauses[_i].name,
		      (long long)(r.at_us - now),
		      (long long)(r.earliest_us - now));
	ck_assert_int_eq(retry_due_us(&r, 7), r.at_us);
	ck_assert_int_eq(retry_due_us(&r, 8),
			 r.at_us < r.earliest_us ? r.at_us : r.earliest_us);
}
END_TEST

/* DS-6: no change helps, and the other process is looked for every five seconds at most. */
START_TEST(locked_out)
{
	struct retry r;
	unsigned int i;

	retry_init(&r);
	for (i = 0; i < 20; i++)
		retry_locked_out(&r, 10 * S, 7);
	ck_assert_int_eq(retry_due_us(&r, 7), 15 * S);
	ck_assert_int_eq(retry_due_us(&r, 8), 15 * S);
}
END_TEST

struct world {
	struct event_base *base;
	struct config *config;
	struct fake_kernel *kernel;
	struct model *model;
	struct build_log said;
	struct log *log;
	struct sync *sync;
	struct clock clock;
	int64_t now_us;
	unsigned int attempts[N_FAMILIES], good[N_FAMILIES];
	bool refuses[N_FAMILIES];
	unsigned int n_put;
};

static int64_t world_now(void *ctx)
{
	const struct world *w = ctx;

	return w->now_us;
}

static int refuse(void *ctx, const struct fake_op *op)
{
	const struct world *w = ctx;

	return op->type == NFT_MSG_NEWTABLE && w->refuses[op->family] ? -ENOBUFS
								      : 0;
}

static void on_synced(void *ctx, enum family family, int err,
		      const struct sync_report *report, int64_t duration_us)
{
	struct world *w = ctx;

	(void)report;
	(void)duration_us;
	w->attempts[family]++;
	w->good[family] += !err;
}

static void world_open(struct world *w, int64_t min_period_ms,
		       bool refuses_ipv4, bool refuses_ipv6)
{
	struct sync_options options = { .family = { true, true },
					.synced = on_synced,
					.ctx = w };
	const struct object_sink *sink;
	struct errbuf eb = { "" };
	int err;

	memset(w, 0, sizeof(*w));
	w->now_us = 1000 * (int64_t)S;
	w->clock = (struct clock){ world_now, world_now, w, NULL };
	w->base = event_base_new();
	w->config = build_config();
	w->config->min_sync_period_ms = min_period_ms;
	w->config->sync_period_ms = 30 * 1000;
	w->kernel = fake_kernel_new();
	fake_faults(w->kernel)->refuse = refuse;
	fake_faults(w->kernel)->ctx = w;
	w->model = model_new(w->config, build_log, &w->said);
	w->log = log_new(-1, 0, false, NULL);
	sink = model_sink(w->model);
	sink->list_begin(sink->ctx, KIND_SERVICE);
	sink->list_begin(sink->ctx, KIND_SLICE);
	build_put(w->model, "service a/w tcp:80 ip=10.96.0.1 ip=fd00:96::1");
	build_put(w->model, "slice a/w-1 w v4 tcp:80 10.0.0.1");
	build_put(w->model, "slice a/w-6 w v6 tcp:80 fd00::1");
	sink->list_end(sink->ctx, KIND_SERVICE);
	sink->list_end(sink->ctx, KIND_SLICE);
	options.base = w->base;
	options.config = w->config;
	options.model = w->model;
	options.log = w->log;
	options.clock = &w->clock;
	options.nl = fake_kernel_socket(w->kernel);
	w->sync = sync_new(&options, &err, &eb);
	ck_assert_msg(w->sync, "%s", eb.text);
	w->refuses[FAMILY_IPV4] = refuses_ipv4;
	w->refuses[FAMILY_IPV6] = refuses_ipv6;
	sync_start(w->sync);
}

static void world_close(struct world *w)
{
	sync_free(w->sync);
	model_free(w->model);
	fake_kernel_free(w->kernel);
	config_free(w->config);
	log_free(w->log);
	strbuf_free(&w->said.text);
	event_base_free(w->base);
}

static void ask_at(struct world *w, int64_t us)
{
	w->now_us = us;
	sync_request(w->sync);
}

static void change(struct world *w, enum family family)
{
	char text[100];

	snprintf(text, sizeof(text),
		 family == FAMILY_IPV4 ? "slice a/w-1 w v4 tcp:80 10.0.0.%u"
				       : "slice a/w-6 w v6 tcp:80 fd00::%u",
		 2 + w->n_put++ % 200);
	build_put(w->model, text);
}

/* RUN-4 */
START_TEST(failures_back_off)
{
	int64_t pause = 100 * MS, at;
	struct world w;
	unsigned int i;

	world_open(&w, 0, true, false);
	ck_assert_uint_eq(w.attempts[FAMILY_IPV4], 1);
	at = w.now_us;
	for (i = 1; i < 14; i++) {
		ask_at(&w, at + pause - 1);
		ck_assert_msg(w.attempts[FAMILY_IPV4] == i, "try %u came early",
			      i + 1);
		ask_at(&w, at + pause);
		ck_assert_msg(w.attempts[FAMILY_IPV4] == i + 1,
			      "try %u came late", i + 1);
		at += pause;
		pause = pause < 15 * S ? pause * 2 : 30 * S;
	}
	ck_assert_int_eq(pause, 30 * S);
	/* With a change it is a second. */
	change(&w, FAMILY_IPV4);
	ask_at(&w, at + 1 * S - 1);
	ck_assert_uint_eq(w.attempts[FAMILY_IPV4], 14);
	w.refuses[FAMILY_IPV4] = false;
	ask_at(&w, at + 1 * S);
	ck_assert_uint_eq(w.good[FAMILY_IPV4], 1);
	/* All is well again: the next change goes out at once. */
	change(&w, FAMILY_IPV4);
	ask_at(&w, at + 1 * S + 1);
	ck_assert_uint_eq(w.good[FAMILY_IPV4], 2);
	world_close(&w);
}
END_TEST

/* DS-6: one family fails, the other one's changes go out at once. */
START_TEST(families_apart)
{
	struct world w;
	unsigned int i;

	world_open(&w, 0, false, true);
	ck_assert_uint_eq(w.good[FAMILY_IPV4], 1);
	ck_assert_uint_eq(w.attempts[FAMILY_IPV6], 1);
	for (i = 0; i < 50; i++) {
		change(&w, FAMILY_IPV4);
		ask_at(&w, w.now_us + 1 * MS);
	}
	ck_assert_uint_eq(w.good[FAMILY_IPV4], 51);
	ck_assert_uint_eq(w.attempts[FAMILY_IPV6], 1);
	ask_at(&w, w.now_us + 50 * MS);
	ck_assert_uint_eq(w.attempts[FAMILY_IPV6], 2);
	ck_assert_uint_eq(w.attempts[FAMILY_IPV4], 51);
	world_close(&w);
}
END_TEST

/* RUN-3 CFG-3: minSyncPeriod spaces changes, and a reload takes effect for what already waits. */
START_TEST(pacing_and_reload)
{
	struct config *at_once = build_config();
	struct world w;
	int64_t began;

	world_open(&w, 2000, false, false);
	began = w.now_us;
	ck_assert_uint_eq(w.good[FAMILY_IPV4], 1);
	change(&w, FAMILY_IPV4);
	ask_at(&w, began + 2 * S - 1);
	ck_assert_uint_eq(w.good[FAMILY_IPV4], 1);
	ask_at(&w, began + 2 * S);
	ck_assert_uint_eq(w.good[FAMILY_IPV4], 2);
	change(&w, FAMILY_IPV4);
	ask_at(&w, began + 2 * S + 1);
	ck_assert_uint_eq(w.good[FAMILY_IPV4], 2);
	sync_set_config(w.sync, at_once);
	ask_at(&w, began + 2 * S + 2);
	ck_assert_uint_eq(w.good[FAMILY_IPV4], 3);
	world_close(&w);
	config_free(at_once);
}
END_TEST

/* RUN-4: and so does a shorter syncPeriod, for the next pause. */
START_TEST(reload_shortens_pauses)
{
	struct config *shorter = build_config();
	struct world w;
	int64_t at;

	shorter->sync_period_ms = 150;
	world_open(&w, 0, true, false);
	at = w.now_us + 100 * MS;
	ask_at(&w, at);
	ck_assert_uint_eq(w.attempts[FAMILY_IPV4], 2);
	sync_set_config(w.sync, shorter);
	at += 200 * MS;
	ask_at(&w, at);
	ck_assert_uint_eq(w.attempts[FAMILY_IPV4], 3);
	ask_at(&w, at + 150 * MS - 1);
	ck_assert_uint_eq(w.attempts[FAMILY_IPV4], 3);
	ask_at(&w, at + 150 * MS);
	ck_assert_uint_eq(w.attempts[FAMILY_IPV4], 4);
	world_close(&w);
	config_free(shorter);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("retry");
	TCase *tcase = tcase_create("retry");

	ADD_LOOP(tcase, pauses_of_failures, pauses);
	tcase_add_test(tcase, locked_out);
	tcase_add_test(tcase, failures_back_off);
	tcase_add_test(tcase, families_apart);
	tcase_add_test(tcase, pacing_and_reload);
	tcase_add_test(tcase, reload_shortens_pauses);
	suite_add_tcase(suite, tcase);
	return suite;
}
