/*
 * Each allocation while an API server is followed fails once, in turn: our own,
 * and those of libevent (libcurl 7.88 does not survive that itself). Nothing
 * crashes, nothing leaks (which the sanitized build tells), it is told, and in
 * the end all objects are there as if nothing had happened. The linker leads
 * our own allocations here (WRAP in the Makefile).
 */
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/support/wrap.h"
#include "tests/support/live.h"

enum owner { OURS, EVENTS, NOBODY };

/* Whose allocations count, and how many of them until one fails. */
static enum owner counted = NOBODY;
static long countdown;

static bool fails(enum owner owner)
{
	if (owner != counted || countdown-- != 0)
		return false;
	counted = NOBODY;
	errno = ENOMEM;
	return true;
}

static bool allocation_fails(void)
{
	return fails(OURS);
}

static void *event_own_malloc(size_t size)
{
	return fails(EVENTS) ? NULL : __real_malloc(size);
}

static void *event_own_realloc(void *p, size_t size)
{
	return fails(EVENTS) ? NULL : __real_realloc(p, size);
}

/* ---- what listens: one allocation for each object counts, its others do not */

struct run {
	struct live live;
	struct object_sink sink;
	const struct object_sink *to;
};

#define UNCOUNTED(call)                                                        \
	do {                                                                   \
		enum owner before = counted;                                   \
                                                                               \
		counted = NOBODY;                                              \
		call;                                                          \
		counted = before;                                              \
	} while (0)

static const struct object_sink *to(void *ctx)
{
	return ((struct run *)ctx)->to;
}

/* The sink's own allocation fails in its turn, as one of ours: it says so, and has no object. */
#define PUT(call, object)                                                      \
	do {                                                                   \
		if (fails(OURS)) {                                             \
			free(object);                                          \
			return -ENOMEM;                                        \
		}                                                              \
		UNCOUNTED(call);                                               \
		return 0;                                                      \
	} while (0)

static int put_service(void *ctx, struct service *service)
{
	PUT(to(ctx)->put_service(to(ctx)->ctx, service), service);
}

static int put_slice(void *ctx, struct slice *slice)
{
	PUT(to(ctx)->put_slice(to(ctx)->ctx, slice), slice);
}

static int put_service_cidr(void *ctx, struct service_cidr *cidr)
{
	PUT(to(ctx)->put_service_cidr(to(ctx)->ctx, cidr), cidr);
}

static int put_node(void *ctx, struct node *node)
{
	PUT(to(ctx)->put_node(to(ctx)->ctx, node), node);
}

static void gone(void *ctx, enum kind kind, const char *namespace, const char *name)
{
	UNCOUNTED(to(ctx)->gone(to(ctx)->ctx, kind, namespace, name));
}

static void list_begin(void *ctx, enum kind kind)
{
	UNCOUNTED(to(ctx)->list_begin(to(ctx)->ctx, kind));
}

static void list_end(void *ctx, enum kind kind)
{
	UNCOUNTED(to(ctx)->list_end(to(ctx)->ctx, kind));
}

static void complain(void *ctx, const char *message)
{
	UNCOUNTED(to(ctx)->complain(to(ctx)->ctx, message));
}

static void note(void *ctx, int severity, const char *message)
{
	struct run *run = ctx;

	UNCOUNTED(strbuf_addf(&run->live.log, "%d %s\n", severity, message));
}

static void settled(void *ctx)
{
	(void)ctx;
}

/* ---- the runs */

static const char *const arguments[] = { "--bookmark-s",   "60",
					 "--generate",	   "5x2",
					 "--no-watchlist", "--token",
					 "t0ken",	   NULL };
static struct fake *fake;
static char *folder;

static void run_open(struct run *run)
{
	char path[128];

	live_open(&run->live);
	snprintf(path, sizeof(path), "%s/kubeconfig", folder);
	ck_assert_int_eq(config_set(&run->live.config->kubeconfig, path), 0);
	run->to = recording_sink_ops(run->live.sink);
	run->sink = (struct object_sink){
		.put_service = put_service,
		.put_slice = put_slice,
		.put_service_cidr = put_service_cidr,
		.put_node = put_node,
		.gone = gone,
		.list_begin = list_begin,
		.list_end = list_end,
		.complain = complain,
		.ctx = run,
	};
}

/* Whether it could be made. */
static bool run_start(struct run *run, struct errbuf *eb)
{
	const struct apisource_options options = {
		.config = run->live.config,
		.node_name = "node-a",
		.log = note,
		.settled = settled,
		.ctx = run,
	};

	run->live.source = apisource_new_tuned(run->live.base, &options,
					       &run->live.tuning, &run->sink, eb);
	if (run->live.source)
		apisource_start(run->live.source);
	return run->live.source;
}

static bool holds(struct live *live, const void *want)
{
	char *state;
	bool same = false;

	UNCOUNTED(state = recording_sink_state(live->sink));
	same = !strcmp(state, want) && live_all_connected(live, NULL);
	free(state);
	return same;
}

static const char *log_end(const struct run *run)
{
	const struct strbuf *log = &run->live.log;

	return log->text + (log->length > 1500 ? log->length - 1500 : 0);
}

/* live_until() asks libevent for memory itself. */
static void until(struct run *run, const char *want, const char *name)
{
	int rounds = 0;

	/* Check's assertions ask for memory even if they hold */
	while (!holds(&run->live, want)) {
		if (rounds++ == 20000)
			ck_abort_msg("%s: not so after 20 s; log ends:\n%s",
				     name, log_end(run));
		event_base_loop(run->live.base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
}

/* What the server has now. */
static char *wanted(void)
{
	struct errbuf eb = { "" };
	struct run run;
	char *state;

	run_open(&run);
	ck_assert_msg(run_start(&run, &eb), "%s", eb.text);
	live_until(&run.live, live_all_connected, NULL, "without failure");
	state = recording_sink_state(run.live.sink);
	live_close(&run.live);
	return state;
}

/* Not each: some are for words in messages only. */
static bool is_told(const struct run *run, const struct errbuf *eb)
{
	return eb->text[0] || strstr(run->live.log.text, "memory");
}

/* From the start on. Returns whether it came to allocation @fail. */
static bool try_start(enum owner owner, long fail, const char *want, long *told)
{
	struct errbuf eb = { "" };
	struct run run;
	char name[64];
	bool failed;

	run_open(&run);
	snprintf(name, sizeof(name), "start, allocation %ld of %d", fail, owner);
	countdown = fail;
	counted = owner;
	if (run_start(&run, &eb))
		until(&run, want, name);
	failed = counted == NOBODY;
	counted = NOBODY;
	*told += failed && is_told(&run, &eb);
	ck_assert_msg(run.live.source || strstr(eb.text, "memory"), "%s: %s",
		      name, eb.text);
	live_close(&run.live);
	return failed;
}

START_TEST(at_the_start)
{
	static const struct {
		enum owner owner;
		long least;
	} rows[] = { { OURS, 100 }, { EVENTS, 10 } };
	char *want = wanted();
	long fail, told = 0;

	for (fail = 0; try_start(rows[_i].owner, fail, want, &told); fail++)
		;
	ck_assert_msg(rows[_i].owner != OURS || told >= fail * 3 / 4,
		      "%ld of %ld are told", told, fail);
	ck_assert_msg(fail >= rows[_i].least,
		      "only %ld allocations of %d: are they led here?", fail,
		      rows[_i].owner);
	free(want);
}
END_TEST

/* While it runs: events, a broken watch, a list that begins again, an Event of ours. */
static bool try_change(struct run *run, enum owner owner, long fail)
{
	const struct apisource_event event = { .kind = KIND_NODE,
					       .name = "node-a",
					       .type = "Normal",
					       .reason = "Starting",
					       .action = "StartKubeProxy",
					       .note = "" };
	char name[64], *want;
	bool failed;

	snprintf(name, sizeof(name), "change, allocation %ld of %d", fail, owner);
	fake_tell(fake, "{\"op\":\"touch_endpoint\",\"n\":%ld}", fail % 5);
	fake_tell(fake, "{\"op\":\"touch_service\",\"n\":%ld}", fail % 5);
	fake_tell(fake,
		  "{\"op\":\"break\",\"how\":\"error\",\"code\":410,\"resource\":\"services\"}");
	fake_tell(fake,
		  "{\"op\":\"break\",\"how\":\"abort\",\"resource\":\"endpointslices\"}");
	fake_tell(fake, "{\"op\":\"touch_endpoint\",\"n\":%ld}", (fail + 1) % 5);
	want = wanted();
	countdown = fail;
	counted = owner;
	apisource_post_event(run->live.source, &event);
	until(run, want, name);
	failed = counted == NOBODY;
	counted = NOBODY;
	free(want);
	return failed;
}

START_TEST(while_it_runs)
{
	static const struct {
		enum owner owner;
		long least;
	} rows[] = { { OURS, 50 }, { EVENTS, 5 } };
	struct errbuf eb = { "" };
	struct run run;
	long fail;

	run_open(&run);
	ck_assert(run_start(&run, &eb));
	live_until(&run.live, live_all_connected, NULL, "without failure");
	for (fail = 0; try_change(&run, rows[_i].owner, fail); fail++)
		;
	ck_assert_msg(fail >= rows[_i].least, "only %ld allocations of %d",
		      fail, rows[_i].owner);
	live_close(&run.live);
}
END_TEST

static void make_folder(void)
{
	char text[512];

	folder = __real_strdup("/tmp/test_api_memory.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	write_text(folder, "token", "t0ken\n");
	snprintf(text, sizeof(text),
		 "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:%d'}}]\n"
		 "users: [{name: u, user: {tokenFile: token}}]\n"
		 "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n",
		 fake_port(fake));
	write_text(folder, "kubeconfig", text);
}

static void setup(void)
{
	event_set_mem_functions(event_own_malloc, event_own_realloc, free);
	fake = fake_start(arguments);
	make_folder();
}

static void teardown(void)
{
	fake_stop(fake);
	certificates_free(folder);
}

Suite *make_suite(void)
{
	Suite *suite = suite_create("api memory");
	TCase *tc = tcase_create("api memory");

	tcase_set_timeout(tc, 300);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, at_the_start, 0, 2);
	tcase_add_loop_test(tc, while_it_runs, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
