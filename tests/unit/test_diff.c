/*
 * What "vipmap diff" says of a table that others have had their hands in: each object that is
 * missing or too much has its line, nothing else has one, and nothing is written.
 */
#include "tests/support/suite.h"
#include "tests/support/world.h"

#include <check.h>
#include <errno.h>
#include <string.h>

static void nothing(struct world *w)
{
	(void)w;
}

static void table_goes(struct world *w)
{
	ck_assert(fake_delete_table(w->kernel, FAMILY_IPV4));
}

static void table_is_flushed(struct world *w)
{
	ck_assert(fake_flush_table(w->kernel, FAMILY_IPV4));
}

static void rule_goes(struct world *w)
{
	ck_assert(fake_delete_rule(w->kernel, FAMILY_IPV4, 0));
}

static void element_goes(struct world *w)
{
	struct element key = { .set = SET_CLUSTER_IPS,
			       .addr = build_addr("10.96.0.3") };

	ck_assert(fake_delete_key(w->kernel, FAMILY_IPV4, &key));
}

static void element_is_another(struct world *w)
{
	struct element key = { .set = SET_CLUSTER_IPS,
			       .addr = build_addr("10.96.0.77") };

	ck_assert_int_eq(fake_add_element(w->kernel, FAMILY_IPV4, &key), 0);
}

static void service_is_new(struct world *w)
{
	world_put(w, "service d/new tcp:81 ip=10.96.0.50");
	world_put(w, "slice d/new-1 new v4 tcp:81 10.244.0.1 10.244.0.2");
}

static void sticky_is_new(struct world *w)
{
	world_put(w, "service d/glue tcp:82 ip=10.96.0.51 affinity=30");
	world_put(w, "slice d/glue-1 glue v4 tcp:82 10.244.0.1");
}

static void sticky_goes(struct world *w)
{
	world_put(w, "gone service d/sticky");
}

static void ranges_are_new(struct world *w)
{
	world_put(w, "service d/wall tcp:83:a ip=10.96.0.52 lb=203.0.113.9 from=10.0.0.0/8 "
		     "load-balancer");
	world_put(w, "slice d/wall-1 wall v4 tcp:83:a 10.244.0.1");
}

static void web_goes(struct world *w)
{
	world_put(w, "gone service d/web");
}

static const struct {
	const char *name;
	void (*happens)(struct world *w);
	const char *want[6]; /* each is in the answer */
	const char *none;    /* no line begins so; NULL: nothing to say */
} rows[] = {
	{ "nothing", nothing, { NULL }, NULL },
	{ "the table is gone",
	  table_goes,
	  { "+ table ip vipmap\n", "+ chain ip vipmap cluster-pick-3\n",
	    "+ element ip vipmap service-ips { 10.96.0.3 . udp . 53 comment \"d/dns\" : "
	    "goto cluster-pick-2 }\n",
	    "+ element ip vipmap cluster-ips { 10.96.0.3 }\n",
	    "+ chain ip vipmap sticky/d/sticky/tcp//10.244.1.2/8080\n" },
	  "- " },
	{ "the table has no rules",
	  table_is_flushed,
	  { "+ table ip vipmap { rules of constant chains }\n",
	    "+ chain ip vipmap cluster-pick-3\n",
	    "+ rules of the chain for set ip vipmap ranges/d/web\n",
	    "+ chain ip vipmap sticky/d/sticky/tcp//10.244.1.2/8080\n" },
	  "- " },
	{ "a rule is gone",
	  rule_goes,
	  { "+ table ip vipmap { rules of constant chains }\n" },
	  "- " },
	{ "an element is gone",
	  element_goes,
	  { "+ element ip vipmap cluster-ips { 10.96.0.3 }\n" },
	  "- " },
	{ "an element is too much",
	  element_is_another,
	  { "- element ip vipmap cluster-ips { 10.96.0.77 }\n" },
	  "+ " },
	{ "a Service that is not in the kernel",
	  service_is_new,
	  { "+ element ip vipmap service-ips { 10.96.0.50 . tcp . 81 comment \"d/new\" : "
	    "goto cluster-pick-2 }\n",
	    "+ element ip vipmap endpoints { 10.96.0.50 . tcp . 81 . 1 : 10.244.0.2 . 81 }\n" },
	  "- " },
	{ "a sticky Service that is not in the kernel",
	  sticky_is_new,
	  { "+ map ip vipmap affinity/d/glue/tcp/\n",
	    "+ chain ip vipmap sticky/d/glue/tcp//10.244.0.1/82\n",
	    "+ element ip vipmap sticky-endpoints { 10.96.0.51 . tcp . 82 . 0 : "
	    "goto sticky/d/glue/tcp//10.244.0.1/82 }\n" },
	  "- " },
	/* Chains, maps and sets that nobody uses any more go later. */
	{ "a sticky Service that is gone",
	  sticky_goes,
	  { "- element ip vipmap service-ips { 10.96.0.2 . tcp . 80 : "
	    "goto cluster-sticky-local-pick-2 }\n",
	    "- element ip vipmap sticky-endpoints { 203.0.113.3 . tcp . 80 . 3 : "
	    "goto sticky/d/sticky/tcp//10.244.1.2/8080 }\n" },
	  "+ " },
	{ "source ranges that are not in the kernel",
	  ranges_are_new,
	  { "+ set ip vipmap ranges/d/wall\n",
	    "+ element ip vipmap ranges/d/wall { 10.0.0.0/8 }\n",
	    "+ element ip vipmap firewalled { 203.0.113.9 . tcp . 83 comment \"d/wall:a\" : "
	    "goto external-pick-1 }\n" },
	  "- " },
	{ "a Service with a node port that is gone",
	  web_goes,
	  { "- element ip vipmap service-nodeports { tcp . 30080 : goto nodeport-external-local "
	    "}\n",
	    "- element ip vipmap endpoints { 203.0.113.2 . tcp . 80 . 0 : 10.244.0.1 . 8080 }\n",
	    "- element ip vipmap cluster-ips { 10.96.0.1 }\n" },
	  "+ " },
};

static void expect_lines(int row, const char *text)
{
	unsigned int i;
	const char *line;

	for (i = 0; i < 6 && rows[row].want[i]; i++)
		ck_assert_msg(strstr(text, rows[row].want[i]),
			      "%s: no \"%s\" in\n%.6000s", rows[row].name,
			      rows[row].want[i], text);
	for (line = text; rows[row].none && *line; line = strchr(line, '\n') + 1)
		ck_assert_msg(strncmp(line, rows[row].none,
				      strlen(rows[row].none)) != 0,
			      "%s: %.2000s", rows[row].name, line);
}

START_TEST(says_what_differs)
{
	struct world *w = world_new_rich(0);
	struct strbuf out = STRBUF_INIT, again = STRBUF_INIT;

	rows[_i].happens(w);
	world_restart(w);
	fake_counts_reset(w->kernel);
	ck_assert_msg(dataplane_diff(w->dp[FAMILY_IPV4], &out, &w->eb) == 0,
		      "%s: %s", rows[_i].name, w->eb.text);
	ck_assert_uint_eq(fake_counts(w->kernel).transactions, 0);
	expect_lines(_i, out.text ? out.text : "");
	ck_assert_msg(rows[_i].want[0] || !out.length, "%s", out.text);

	/* And once it is put right there is nothing more to say. */
	world_restart(w);
	world_must_sync(w, rows[_i].name);
	ck_assert_int_eq(dataplane_diff(w->dp[FAMILY_IPV4], &again, &w->eb), 0);
	ck_assert_msg(!again.length, "%s: %s", rows[_i].name, again.text);
	strbuf_free(&out);
	strbuf_free(&again);
	world_free(w);
}
END_TEST

START_TEST(says_why_not)
{
	struct world *w = world_new_rich(0);
	struct strbuf out = STRBUF_INIT;

	world_restart(w);
	fake_faults(w->kernel)->fail_at = 1;
	fake_faults(w->kernel)->fail_err = -EPERM;
	ck_assert_int_eq(dataplane_diff(w->dp[FAMILY_IPV4], &out, &w->eb), -EPERM);
	ck_assert_msg(*w->eb.text && !out.length, "%s", w->eb.text);
	strbuf_free(&out);
	world_free(w);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("diff");
	TCase *tc = tcase_create("fake kernel");

	ADD_LOOP(tc, says_what_differs, rows);
	tcase_add_test(tc, says_why_not);
	suite_add_tcase(suite, tc);
	return suite;
}
