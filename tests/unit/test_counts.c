/*
 * BEY-5: counts of connections, and what they survive. The fake kernel counts
 * what it is told to; what packets do is for tests/packets/test_counters.py.
 */
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nft/readback.h"
#include "proxy/base/clock.h"
#include "proxy/base/log.h"
#include "proxy/sync/counts.h"
#include "proxy/sync/sync.h"
#include "tests/support/suite.h"
#include "tests/support/world.h"

static struct element vip_element(const char *addr, uint64_t count)
{
	return (struct element){
		.set = MAP_SERVICE_IPS,
		.addr = build_addr(addr),
		.protocol = IPPROTO_TCP,
		.port = 80,
		.count = count,
	};
}

static struct element endpoint_element(uint32_t index, const char *endpoint,
				       uint64_t count)
{
	struct element el = vip_element("10.96.0.1", count);

	el.set = MAP_ENDPOINTS;
	el.index = index;
	el.endpoint = build_addr(endpoint);
	el.endpoint_port = 8080;
	return el;
}

/* The book of counts by itself */

START_TEST(known_by_meaning)
{
	struct counts *c = counts_new();
	struct element a = endpoint_element(0, "10.244.0.5", 7),
		       moved = endpoint_element(3, "10.244.0.5", 0);
	struct element other = endpoint_element(0, "10.244.0.6", 0),
		       vip = vip_element("10.96.0.1", 9);
	struct element less = vip_element("10.96.0.1", 4), sticky = vip;

	counts_note(c, &a);
	counts_note(c, &vip);
	counts_note(c, &less);
	sticky.set = MAP_STICKY_ENDPOINTS; /* does not count */
	counts_note(c, &sticky);
	ck_assert_uint_eq(counts_of(c, &moved), 7);
	ck_assert_uint_eq(counts_of(c, &other), 0);
	ck_assert_uint_eq(counts_of(c, &less), 9);
	ck_assert_uint_eq(counts_of(c, &sticky), 0);
	other.count = 0;
	counts_note(c, &other);
	ck_assert_uint_eq(counts_known(c), 2);
	counts_free(c);
}
END_TEST

START_TEST(what_is_gone_is_forgotten)
{
	struct counts *c = counts_new();
	struct element stays = endpoint_element(1, "10.244.0.5", 1);
	struct element goes = endpoint_element(0, "10.244.0.6", 2);
	struct element else_where = vip_element("10.96.0.2", 3);
	const struct element *asked;
	size_t n;

	counts_begin(c);
	counts_gone(c, &goes);
	counts_gone(c, &stays);
	asked = counts_questions(c, &n);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(element_key_compare(&asked[0], &goes), 0);
	ck_assert_int_eq(element_key_compare(&asked[1], &stays), 0);
	counts_note(c, &stays);
	counts_note(c, &goes);
	counts_note(c, &else_where);
	stays.index = 0;
	ck_assert_uint_eq(counts_stay(c, &stays), 1);
	counts_applied(c, false);
	ck_assert_uint_eq(counts_of(c, &stays), 1);
	ck_assert_uint_eq(counts_of(c, &goes), 0);
	ck_assert_uint_eq(counts_of(c, &else_where), 3);

	/* after a full comparison nothing else is there */
	counts_begin(c);
	counts_stay(c, &else_where);
	counts_applied(c, true);
	ck_assert_uint_eq(counts_of(c, &stays), 0);
	ck_assert_uint_eq(counts_of(c, &else_where), 3);
	ck_assert_uint_eq(counts_known(c), 1);
	counts_free(c);
}
END_TEST

/* What a transaction that failed had marked holds for that one only. */
START_TEST(tries_are_told_apart)
{
	struct counts *c = counts_new();
	struct element el = vip_element("10.96.0.1", 5);

	counts_note(c, &el);
	counts_begin(c);
	counts_stay(c, &el);
	counts_begin(c);
	counts_gone(c, &el);
	counts_applied(c, false);
	ck_assert_uint_eq(counts_known(c), 0);
	counts_free(c);
}
END_TEST

/* A table that counts */

static struct world *counting(void)
{
	struct world *w = world_new(0);

	w->config->vipmap.service_counters = true;
	world_put(w, "service d/web tcp:80:http@30080 ip=10.96.0.1 ip=fd00:96::1 lb=203.0.113.1");
	world_put(w, "slice d/web-4 web v4 tcp:8080:http 10.244.0.5 10.244.0.6 10.244.0.7");
	world_put(w, "slice d/web-6 web v6 tcp:8080:http fd00:244::5 fd00:244::6");
	world_must_sync(w, "counting");
	return w;
}

/* The first element of @set that has the address, and if @endpoint is given, leads there. */
static bool find(struct world *w, enum set_id set, const char *vip,
		 const char *endpoint, struct element *found)
{
	const enum family family = strchr(endpoint ? endpoint : vip, ':')
					   ? FAMILY_IPV6
					   : FAMILY_IPV4;
	struct addr nowhere = { { 0 } }, addr = vip ? build_addr(vip) : nowhere;
	struct addr to = endpoint ? build_addr(endpoint) : nowhere;
	struct arena scratch = ARENA_INIT;
	const struct element *list;
	bool there = false;
	size_t n, i;

	list = world_elements(w, family, &scratch, &n);
	for (i = 0; i < n && !there; i++) {
		there = list[i].set == set &&
			addr_compare(&list[i].addr, &addr) == 0 &&
			(!endpoint || addr_compare(&list[i].endpoint, &to) == 0);
		*found = list[i];
	}
	arena_free(&scratch);
	found->chain = found->comment = NULL;
	return there;
}

static void connections(struct world *w, enum set_id set, const char *vip,
			const char *endpoint, uint64_t n)
{
	const enum family family = strchr(endpoint ? endpoint : vip, ':')
					   ? FAMILY_IPV6
					   : FAMILY_IPV4;
	struct element el;

	ck_assert_msg(find(w, set, vip, endpoint, &el), "%s %s", vip,
		      endpoint ? endpoint : "");
	ck_assert(fake_count(w->kernel, family, &el, n));
}

static uint64_t counted(struct world *w, enum set_id set, const char *vip,
			const char *endpoint)
{
	struct element el;

	ck_assert_msg(find(w, set, vip, endpoint, &el), "%s %s", vip,
		      endpoint ? endpoint : "");
	return el.count;
}

static void sample(struct world *w)
{
	connections(w, MAP_SERVICE_IPS, "10.96.0.1", NULL, 100);
	connections(w, MAP_SERVICE_IPS, "203.0.113.1", NULL, 10);
	connections(w, MAP_SERVICE_IPS, "fd00:96::1", NULL, 20);
	connections(w, MAP_SERVICE_NODEPORTS, "0.0.0.0", NULL, 5);
	connections(w, MAP_ENDPOINTS, "10.96.0.1", "10.244.0.5", 40);
	connections(w, MAP_ENDPOINTS, "10.96.0.1", "10.244.0.6", 30);
	connections(w, MAP_ENDPOINTS, "10.96.0.1", "10.244.0.7", 30);
	connections(w, MAP_ENDPOINTS, "203.0.113.1", "10.244.0.7", 10);
	connections(w, MAP_NODEPORT_ENDPOINTS, "0.0.0.0", "10.244.0.7", 5);
	connections(w, MAP_ENDPOINTS, "fd00:96::1", "fd00:244::6", 20);
}

static void check_sample(struct world *w, const char *when)
{
	ck_assert_msg(counted(w, MAP_SERVICE_IPS, "10.96.0.1", NULL) == 100,
		      "%s: ClusterIP", when);
	ck_assert_msg(counted(w, MAP_SERVICE_IPS, "203.0.113.1", NULL) == 10,
		      "%s: balancer", when);
	ck_assert_msg(counted(w, MAP_SERVICE_IPS, "fd00:96::1", NULL) == 20,
		      "%s: IPv6", when);
	ck_assert_msg(counted(w, MAP_SERVICE_NODEPORTS, "0.0.0.0", NULL) == 5,
		      "%s: port", when);
	ck_assert_msg(counted(w, MAP_ENDPOINTS, "10.96.0.1", "10.244.0.7") == 30,
		      "%s: .7", when);
	ck_assert_msg(counted(w, MAP_ENDPOINTS, "203.0.113.1", "10.244.0.7") == 10,
		      "%s: .7 by the balancer", when);
	ck_assert_msg(counted(w, MAP_NODEPORT_ENDPOINTS, "0.0.0.0",
			      "10.244.0.7") == 5,
		      "%s: .7 by the node port", when);
	ck_assert_msg(counted(w, MAP_ENDPOINTS, "fd00:96::1", "fd00:244::6") == 20,
		      "%s: ::6", when);
}

START_TEST(maps_that_count)
{
	static const enum set_id maps[] = {
		MAP_SERVICE_IPS,	MAP_SERVICE_NODEPORTS,
		MAP_ENDPOINTS,		MAP_LOCAL_ENDPOINTS,
		MAP_NODEPORT_ENDPOINTS, MAP_NODEPORT_LOCAL_ENDPOINTS
	};
	struct world *w = counting();
	unsigned int f, i, k;

	for (f = 0; f < N_FAMILIES; f++)
		for (i = 0; i < N_SETS; i++) {
			bool want = false;

			for (k = 0; k < sizeof(maps) / sizeof(maps[0]); k++)
				want |= maps[k] == i;
			ck_assert_msg(fake_counts_in(w->kernel, (enum family)f,
						     i) == want,
				      "%s", set_name(i));
		}
	world_free(w);
}
END_TEST

/* An endpoint goes, the last takes its index, and every verdict changes. */
START_TEST(endpoints_change)
{
	struct world *w = counting();

	sample(w);
	world_put(w, "slice d/web-4 web v4 tcp:8080:http 10.244.0.6 10.244.0.7");
	world_put(w, "slice d/web-6 web v6 tcp:8080:http fd00:244::6 fd00:244::8");
	world_must_sync(w, "change");
	ck_assert(!w->report.full);
	check_sample(w, "one gone");
	ck_assert_uint_eq(counted(w, MAP_ENDPOINTS, "fd00:96::1", "fd00:244::8"),
			  0);

	/* back again: another pod, perhaps */
	world_put(w, "slice d/web-4 web v4 tcp:8080:http 10.244.0.5 10.244.0.6 10.244.0.7");
	world_must_sync(w, "back");
	check_sample(w, "back");
	ck_assert_uint_eq(counted(w, MAP_ENDPOINTS, "10.96.0.1", "10.244.0.5"), 0);

	/* nobody there, and the virtual IP is refused */
	world_put(w, "slice d/web-4 web v4 tcp:8080:http");
	world_must_sync(w, "none");
	connections(w, MAP_SERVICE_IPS, "10.96.0.1", NULL, 1);
	world_put(w, "slice d/web-4 web v4 tcp:8080:http 10.244.0.9");
	world_must_sync(w, "another");
	ck_assert_uint_eq(counted(w, MAP_SERVICE_IPS, "10.96.0.1", NULL), 101);
	world_verify(w, "end");
	world_free(w);
}
END_TEST

START_TEST(restart)
{
	struct world *w = counting();

	sample(w);
	world_restart(w);
	world_must_sync(w, "nothing changed");
	ck_assert(w->report.adopted && !w->report.wrote);
	check_sample(w, "adopted");

	world_remember(w, "slice d/web-4 web v4 tcp:8080:http 10.244.0.7");
	world_restart(w);
	world_must_sync(w, "changed meanwhile");
	ck_assert(w->report.adopted && w->report.wrote);
	check_sample(w, "changed meanwhile");
	world_verify_quiet(w, "counts are no difference");
	check_sample(w, "compared");
	world_free(w);
}
END_TEST

/* What was seen does not go back, though others delete the table. */
START_TEST(flushed_by_others)
{
	struct world *w = counting();
	struct element keys[2];
	struct errbuf eb;

	sample(w);
	ck_assert(find(w, MAP_SERVICE_IPS, "10.96.0.1", NULL, &keys[0]));
	ck_assert(find(w, MAP_ENDPOINTS, "10.96.0.1", "10.244.0.5", &keys[1]));
	ck_assert_int_eq(dataplane_count(w->dp[FAMILY_IPV4], keys, 2, &eb), 0);
	ck_assert_uint_eq(keys[0].count, 100);
	ck_assert_uint_eq(keys[1].count, 40);
	ck_assert(fake_delete_table(w->kernel, FAMILY_IPV4));
	dataplane_forget(w->dp[FAMILY_IPV4]);
	world_must_sync(w, "repair");
	ck_assert_uint_eq(counted(w, MAP_SERVICE_IPS, "10.96.0.1", NULL), 100);
	ck_assert_uint_eq(counted(w, MAP_ENDPOINTS, "10.96.0.1", "10.244.0.5"), 40);
	ck_assert_uint_eq(counted(w, MAP_ENDPOINTS, "10.96.0.1", "10.244.0.6"), 0);
	world_verify(w, "repaired");
	world_free(w);
}
END_TEST

/* Something foreign makes the table be replaced as a whole. */
START_TEST(replaced_for_other_reasons)
{
	struct world *w = counting();

	sample(w);
	ck_assert(fake_add_chain(w->kernel, FAMILY_IPV4, "foreign"));
	dataplane_forget(w->dp[FAMILY_IPV4]);
	world_must_sync(w, "foreign chain");
	ck_assert(w->report.replaced);
	check_sample(w, "replaced");
	world_verify(w, "replaced");
	world_free(w);
}
END_TEST

static void set_counters(struct world *w, bool on)
{
	struct config *old = w->config, *config = build_config();
	bool rules[N_FAMILIES];

	config->vipmap.service_counters = on;
	ck_assert_int_eq(model_set_config(w->model, config, rules), 0);
	ck_assert(rules[FAMILY_IPV4] && rules[FAMILY_IPV6]);
	config_free(old);
	w->config = config;
	fake_counts_reset(w->kernel);
	world_must_sync(w, on ? "on" : "off");
}

START_TEST(turned_off_and_on)
{
	struct world *w = counting();
	struct errbuf eb;
	struct element key;

	sample(w);
	set_counters(w, false);
	ck_assert_uint_eq(fake_counts(w->kernel).transactions, N_FAMILIES);
	ck_assert(!fake_counts_in(w->kernel, FAMILY_IPV4, MAP_SERVICE_IPS));
	ck_assert(find(w, MAP_SERVICE_IPS, "10.96.0.1", NULL, &key));
	ck_assert_int_eq(dataplane_count(w->dp[FAMILY_IPV4], &key, 1, &eb),
			 -ENODATA);
	world_verify(w, "off");
	world_verify_quiet(w, "off");

	set_counters(w, true);
	ck_assert_uint_eq(fake_counts(w->kernel).transactions, N_FAMILIES);
	ck_assert(fake_counts_in(w->kernel, FAMILY_IPV6, MAP_ENDPOINTS));
	ck_assert_uint_eq(counted(w, MAP_SERVICE_IPS, "10.96.0.1", NULL), 0);
	world_verify(w, "on");
	world_verify_quiet(w, "on");
	world_free(w);
}
END_TEST

/* Each exchange fails once: counts may be lost, rules are not. */
START_TEST(failures)
{
	static const int errors[] = { -ENOBUFS, -ETIMEDOUT, -EPERM };
	unsigned int at, e;

	for (at = 1; at < 12; at++)
		for (e = 0; e < 2 * 3; e++) {
			struct world *w = counting();
			struct fake_faults *faults = fake_faults(w->kernel);

			sample(w);
			faults->fail_at = at;
			faults->fail_err = errors[e / 2];
			faults->fail_applied = e % 2;
			world_put(w, "slice d/web-4 web v4 tcp:8080:http 10.244.0.6 10.244.0.7");
			world_sync(w);
			faults->fail_at = 0;
			w->now_us += 60 * 1000000;
			world_must_sync(w, "again");
			world_verify(w, "again");
			ck_assert_uint_le(
				counted(w, MAP_SERVICE_IPS, "10.96.0.1", NULL),
				100);
			ck_assert_uint_eq(
				counted(w, MAP_SERVICE_IPS, "fd00:96::1", NULL),
				20);
			world_free(w);
		}
}
END_TEST

/* Many keys, of which some are not there. */
START_TEST(read_many)
{
	enum { N = 1203 };
	struct world *w = counting();
	struct element *keys = calloc(N, sizeof(*keys)), here;
	struct errbuf eb;
	unsigned int i;

	sample(w);
	ck_assert(find(w, MAP_SERVICE_IPS, "10.96.0.1", NULL, &here));
	for (i = 0; i < N; i++) {
		keys[i] = here;
		keys[i].count = 77;
		if (i % 400 == 7)
			keys[i].port = 81;
	}
	ck_assert_int_eq(dataplane_count(w->dp[FAMILY_IPV4], keys, N, &eb), 0);
	for (i = 0; i < N; i++)
		ck_assert_uint_eq(keys[i].count, i % 400 == 7 ? 0 : 100);
	free(keys);
	world_free(w);
}
END_TEST

/* The kernel: what it lacks is told, and all else works */

static int refuse_counts(void *ctx, const struct fake_op *op)
{
	(void)ctx;
	return op->has_element && op->element.count ? -EOPNOTSUPP : 0;
}

START_TEST(kernel_without_counters)
{
	struct config *config = build_config();
	struct fake_kernel *kernel = fake_kernel_new();
	struct log *log = log_new(2, 0, true, NULL);
	struct build_log said = { 0 };
	struct strbuf recent = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct element key = vip_element("10.96.0.1", 0);
	struct sync_options options = {
		.config = config,
		.log = log,
		.family = { true, false },
		.clock = clock_system(),
	};
	struct sync *sync;
	int err;

	config->vipmap.service_counters = true;
	options.model = model_new(config, build_log, &said);
	options.nl = fake_kernel_socket(kernel);
	build_put(options.model, "service d/web tcp:80 ip=10.96.0.1");
	if (_i)
		fake_faults(kernel)->refuse = refuse_counts;
	sync = sync_new(&options, &err, &eb);
	ck_assert_msg(sync, "%s", eb.text);
	ck_assert_int_eq(sync_counters(sync), _i ? COUNTERS_LACKING : COUNTERS_ON);
	log_recent(log, &recent);
	ck_assert((recent.text &&
		   strstr(recent.text, "serviceCounters: the kernel has no counters "
				       "in maps for IPv4: ") &&
		   strstr(recent.text,
			  "connections are not counted, and all else works")) == _i);
	ck_assert_int_eq(sync_once(sync), 0);
	ck_assert(fake_has_table(kernel, FAMILY_IPV4));
	ck_assert(fake_counts_in(kernel, FAMILY_IPV4, MAP_SERVICE_IPS) == !_i);
	ck_assert_int_eq(sync_count(sync, FAMILY_IPV4, &key, 1, &eb),
			 _i ? -ENODATA : 0);
	ck_assert_int_eq(sync_count(sync, FAMILY_IPV6, &key, 1, &eb), -ENODATA);

	/* and it is asked again if the setting goes and comes */
	config->vipmap.service_counters = false;
	sync_set_config(sync, config);
	ck_assert_int_eq(sync_counters(sync), COUNTERS_OFF);
	sync_free(sync);
	model_free(options.model);
	fake_kernel_free(kernel);
	config_free(config);
	log_free(log);
	strbuf_free(&recent);
	strbuf_free(&said.text);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("counts");
	TCase *tc = tcase_create("book");

	tcase_add_test(tc, known_by_meaning);
	tcase_add_test(tc, what_is_gone_is_forgotten);
	tcase_add_test(tc, tries_are_told_apart);
	suite_add_tcase(suite, tc);
	tc = tcase_create("table");
	tcase_add_test(tc, maps_that_count);
	tcase_add_test(tc, endpoints_change);
	tcase_add_test(tc, restart);
	tcase_add_test(tc, flushed_by_others);
	tcase_add_test(tc, replaced_for_other_reasons);
	tcase_add_test(tc, turned_off_and_on);
	tcase_add_test(tc, failures);
	tcase_add_test(tc, read_many);
	suite_add_tcase(suite, tc);
	tc = tcase_create("kernel");
	tcase_add_loop_test(tc, kernel_without_counters, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
