/*
 * When things are done, with a kernel: a table without an owner, in a network namespace of its own,
 * so that the clients of a sticky Service can be made by nft.
 */
#include "proxy/sync/sync.h"

#include <check.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/build.h"
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

static void on_synced(void *ctx, enum family family, int err, const struct sync_report *report,
		      int64_t duration_us)
{
	struct world *w = ctx;

	(void)duration_us;
	ck_assert_int_eq(err, 0);
	w->n_full += family == FAMILY_IPV4 && report->full;
}

static void world_open(struct world *w)
{
	const struct object_sink *sink;
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
	sink = model_sink(w->model);
	sink->list_begin(sink->ctx, KIND_SERVICE);
	sink->list_begin(sink->ctx, KIND_SLICE);
	build_put(w->model, "service a/w tcp:80 ip=10.96.0.1 affinity=10800");
	build_put(w->model, "slice a/w-1 w v4 tcp:80 10.0.0.1 10.0.0.2");
	sink->list_end(sink->ctx, KIND_SERVICE);
	sink->list_end(sink->ctx, KIND_SLICE);
	options.base = w->base;
	options.config = w->config;
	options.model = w->model;
	options.log = w->log;
	w->sync = sync_new(&options, &err, &eb);
	ck_assert_msg(w->sync, "%s", eb.text);
}

static void world_close(struct world *w)
{
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
		strbuf_addf(&text, "10.8.%d.%d : 10.0.0.%d . 80,\n", i >> 8, i & 255, 1 + i % 2);
	strbuf_adds(&text, "}\n");
	ck_assert_msg(run_with("nft -f %s", text.text, &out) == 0, "%.300s", out.text);
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

int main(void)
{
	Suite *suite = suite_create("sync");
	TCase *tcase = tcase_create("sync");
	SRunner *runner;
	int failed;

	tcase_add_test(tcase, forgetting_clients_puts_nothing_off);
	tcase_set_timeout(tcase, 120);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
