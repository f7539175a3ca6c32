/*
 * Each allocation fails once, and then all from there on: no crash, no leak (the sanitizer sees to
 * that), nothing half done, and the next sync brings it right.
 */
#include "tests/support/suite.h"
#include "tests/support/wrap.h"
#include "tests/support/world.h"

#include <check.h>
#include <netinet/in.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
	unsigned int countdown; /* 0: nothing fails */
	bool for_good, failed, kernel;
} memory;

static bool allocation_fails(void)
{
	if (!memory.countdown || memory.kernel)
		return false;
	if (memory.countdown > 1) {
		memory.countdown--;
		return false;
	}
	memory.failed = true;
	if (!memory.for_good)
		memory.countdown = 0;
	return true;
}

static void arm(unsigned int n, bool for_good)
{
	memory.countdown = n;
	memory.for_good = for_good;
	memory.failed = false;
}

static bool disarm(void)
{
	memory.countdown = 0;
	return memory.failed;
}

static void guard(bool inside)
{
	memory.kernel = inside;
}

static void settle(struct world *w, const char *name)
{
	unsigned int tries;

	for (tries = 0; tries < 3; tries++)
		world_must_sync(w, name);
	ck_assert(dataplane_is_known(w->dp[FAMILY_IPV4]) &&
		  dataplane_is_known(w->dp[FAMILY_IPV6]));
	world_verify(w, name);
	world_verify_quiet(w, name);
}

/* Every allocation of a sync, in each of the situations that there are. */
START_TEST(syncing)
{
	const unsigned int scenario = (unsigned int)_i % N_SCENARIOS;
	const bool for_good = _i >= N_SCENARIOS;
	char name[64];
	struct world *w;
	unsigned int n;
	bool failed = true;
	int err;

	for (n = 1; failed; n++) {
		snprintf(name, sizeof(name), "scenario %u, allocation %u%s",
			 scenario, n, for_good ? " and all after it" : "");
		w = world_new_rich(0);
		fake_faults(w->kernel)->guard = guard;
		world_scenario(w, scenario);
		arm(n, for_good);
		err = world_sync(w);
		failed = disarm();
		ck_assert_msg(!for_good || !failed || err ||
				      !dataplane_is_known(w->dp[0]) ||
				      !dataplane_is_known(w->dp[1]) ||
				      w->log.text.text,
			      "%s: nobody noticed", name);
		settle(w, name);
		world_free(w);
	}
	printf("scenario %u: %u allocations\n", scenario, n - 2);
	ck_assert_uint_gt(n, 20);
}
END_TEST

/*
 * What an object needs. Either the sink says that it has it not, and it is put again, or it will be
 * right without help. In the former case nothing else has changed.
 */
static const struct {
	const char *object;
	bool may_refuse;
} objects[] = {
	{ "service d/new tcp:80:a tcp:81:b@30099 ip=10.96.0.77 ip=fd00:96::77 ext=203.0.113.77",
	  true },
	{ "service d/web tcp:80:http tcp:90:more ip=10.96.0.1 ip=fd00:96::1 ext=203.0.113.9",
	  false },
	{ "slice d/new-1 new v4 tcp:80:a 10.244.0.1", true },
	{ "slice d/web-9 web v4 tcp:80:http 10.244.0.1", true },
	{ "slice d/web-1 other v4 tcp:80:http 10.244.0.1", true },
	{ "slice d/web-1 web v6 tcp:80:http fd00:244::1", false },
	{ "node n1 192.168.7.9 zone=b", false },
	{ "cidr e 10.97.0.0/16", true },
	{ "gone service d/web", false },
	{ "gone slice d/web-1", false },
	{ "gone node n1", false },
	{ "gone cidr c", false },
};

enum { N_OBJECTS = sizeof(objects) / sizeof(objects[0]) };

/* "gone service d/web" */
static enum kind parse_gone(const char *text, char **namespace, char **name)
{
	static const char *const words[N_KINDS] = { "service", "slice", "cidr",
						    "node" };
	char word[16], what[64], *slash;
	int kind = 0;

	ck_assert_int_eq(sscanf(text, "gone %15s %63s", word, what), 2);
	while (strcmp(words[kind], word))
		kind++;
	slash = strchr(what, '/');
	*namespace = strndup(what, slash ? (size_t)(slash - what) : 0);
	*name = strdup(slash ? slash + 1 : what);
	return (enum kind)kind;
}

/* The object is made with memory, and given to the model without. */
static int put_without_memory(struct model *m, const char *text, unsigned int n)
{
	const struct object_sink *sink = model_sink(m);
	struct service *service = NULL;
	struct slice *slice = NULL;
	struct service_cidr *cidr = NULL;
	struct node *node = NULL;
	enum kind kind = KIND_SERVICE;
	char *namespace = NULL, *name = NULL;
	int err = 0;

	if (strncmp(text, "service ", 8) == 0)
		service = build_service(text + 8);
	else if (strncmp(text, "slice ", 6) == 0)
		slice = build_slice(text + 6);
	else if (strncmp(text, "cidr ", 5) == 0)
		cidr = build_service_cidr(text + 5);
	else if (strncmp(text, "node ", 5) == 0)
		node = build_node(text + 5);
	else
		kind = parse_gone(text, &namespace, &name);
	arm(n, false);
	if (service)
		err = sink->put_service(sink->ctx, service);
	else if (slice)
		err = sink->put_slice(sink->ctx, slice);
	else if (cidr)
		err = sink->put_service_cidr(sink->ctx, cidr);
	else if (node)
		err = sink->put_node(sink->ctx, node);
	else
		sink->gone(sink->ctx, kind, namespace, name);
	free(namespace);
	free(name);
	return err;
}

START_TEST(storing)
{
	const char *text = objects[_i].object;
	unsigned int n, refused = 0;
	bool failed = true;
	struct world *w;
	int err;

	for (n = 1; failed && n < 100; n++) {
		w = world_new_rich(0);
		world_remember(w, text);
		err = put_without_memory(w->model, text, n);
		failed = disarm();
		ck_assert(!err || (err == -ENOMEM && failed));
		if (err) {
			refused++;
			fake_counts_reset(w->kernel);
			world_must_sync(w, text);
			ck_assert_uint_eq(fake_counts(w->kernel).elements_added, 0);
			ck_assert_uint_eq(fake_counts(w->kernel).elements_deleted,
					  0);
			build_put(w->model, text);
		}
		settle(w, text);
		world_free(w);
	}
	ck_assert(!failed);
	ck_assert_msg((refused > 0) == objects[_i].may_refuse, "%s: %u", text,
		      refused);
}
END_TEST

START_TEST(beginning)
{
	struct config *config = build_config();
	struct strbuf sb = STRBUF_INIT;
	struct dataplane_options options = { .family = FAMILY_IPV4 };
	struct dataplane *dp;
	struct model *m;
	struct stale *s;
	unsigned int n;
	bool failed = true;
	int err;

	for (n = 1; failed; n++) {
		arm(n, _i);
		m = model_new(config, build_log, NULL);
		options.model = m;
		dp = m ? dataplane_new(&options) : NULL;
		s = m ? stale_new(m, FAMILY_IPV4, IPPROTO_UDP) : NULL;
		failed = disarm();
		ck_assert(failed || (m && dp && s));
		stale_free(s);
		dataplane_free(dp);
		model_free(m);
	}
	/* printing */
	failed = true;
	for (n = 1; failed; n++) {
		m = model_new(config, build_log, NULL);
		build_put(m, "service d/w tcp:80@30001 ip=10.96.0.1 affinity=60");
		build_put(m, "slice d/w-1 w v4 tcp:80 10.244.0.1 10.244.0.2");
		build_put(m, "cidr c 10.96.0.0/16");
		options.model = m;
		dp = dataplane_new(&options);
		strbuf_reset(&sb);
		arm(n, _i);
		err = dataplane_print(dp, &sb);
		failed = disarm();
		ck_assert(!err || failed);
		dataplane_free(dp);
		model_free(m);
	}
	strbuf_free(&sb);
	config_free(config);
}
END_TEST

/* Collection, and removal of the table. */
START_TEST(collecting)
{
	bool failed = true;
	struct world *w;
	int64_t again_us;
	unsigned int n;

	for (n = 1; failed; n++) {
		w = world_new_rich(0);
		fake_faults(w->kernel)->guard = guard;
		world_put(w, "gone service d/sticky");
		world_must_sync(w, "gone");
		w->now_us += 20000000;
		arm(n, _i);
		dataplane_collect(w->dp[FAMILY_IPV4], w->now_us, &again_us, &w->eb);
		failed = disarm();
		settle(w, "after a collection without memory");
		arm(n, _i);
		dataplane_remove(w->nl, FAMILY_IPV4, &w->eb);
		disarm();
		world_free(w);
	}
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("nomemory");
	TCase *tc = tcase_create("nomemory");

	tcase_add_loop_test(tc, syncing, 0, 2 * N_SCENARIOS);
	tcase_add_loop_test(tc, storing, 0, N_OBJECTS);
	tcase_add_loop_test(tc, beginning, 0, 2);
	tcase_add_loop_test(tc, collecting, 0, 2);
	tcase_set_timeout(tc, 600);
	suite_add_tcase(suite, tc);
	return suite;
}
