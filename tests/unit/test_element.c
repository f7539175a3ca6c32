/* The vocabulary of the ruleset: names of sets and pick chains, order and equality of elements. */
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/model/element.h"

#include "tests/support/suite.h"

/* People read these names in "nft list": they are written down once more on purpose. */
static const struct {
	enum set_id set;
	const char *name;
	bool verdict, endpoint, index, nodeport, range, shared;
} sets[N_ELEMENT_SETS] = {
	{ SET_CLUSTER_IPS, "cluster-ips", false, false, false, false, false, true },
	{ SET_NODEPORT_IPS, "nodeport-ips", false, false, false, false, false,
	  false },
	{ SET_SERVICE_CIDRS, "service-cidrs", false, false, false, false, true,
	  false },
	{ SET_HAIRPIN, "hairpin", false, false, false, false, false, true },
	{ SET_NO_MASQUERADE, "no-masquerade-cidrs", false, false, false, false,
	  true, false },
	{ SET_PING_IPS, "ping-ips", false, false, false, false, false, true },
	{ MAP_SERVICE_IPS, "service-ips", true, false, false, false, false, false },
	{ MAP_SERVICE_NODEPORTS, "service-nodeports", true, false, false, true,
	  false, false },
	{ MAP_FIREWALLED, "firewalled", true, false, false, false, false, false },
	{ MAP_CLUSTER_POLICY, "cluster-policy", true, false, false, false,
	  false, false },
	{ MAP_LOCAL_POLICY, "local-policy", true, false, false, false, false, false },
	{ MAP_NODEPORT_CLUSTER_POLICY, "nodeport-cluster-policy", true, false,
	  false, true, false, false },
	{ MAP_NODEPORT_LOCAL_POLICY, "nodeport-local-policy", true, false,
	  false, true, false, false },
	{ MAP_ENDPOINTS, "endpoints", false, true, true, false, false, false },
	{ MAP_LOCAL_ENDPOINTS, "local-endpoints", false, true, true, false,
	  false, false },
	{ MAP_NODEPORT_ENDPOINTS, "nodeport-endpoints", false, true, true, true,
	  false, false },
	{ MAP_NODEPORT_LOCAL_ENDPOINTS, "nodeport-local-endpoints", false, true,
	  true, true, false, false },
	{ MAP_STICKY_ENDPOINTS, "sticky-endpoints", true, false, true, false,
	  false, false },
	{ MAP_STICKY_LOCAL_ENDPOINTS, "sticky-local-endpoints", true, false,
	  true, false, false, false },
	{ MAP_STICKY_NODEPORT_ENDPOINTS, "sticky-nodeport-endpoints", true,
	  false, true, true, false, false },
	{ MAP_STICKY_NODEPORT_LOCAL_ENDPOINTS, "sticky-nodeport-local-endpoints",
	  true, false, true, true, false, false },
	{ SET_SOURCE_RANGES, "ranges", false, false, false, false, true, false },
};

START_TEST(set_traits)
{
	enum set_id set = sets[_i].set;

	ck_assert_int_eq(set, _i); /* every set has its row */
	CHECK_STR("name", set_name(set), sets[_i].name);
	ck_assert_uint_le(strlen(set_name(set)), 255);
	ck_assert_msg(set_has_verdict(set) == sets[_i].verdict, "%s: verdict",
		      sets[_i].name);
	ck_assert_msg(set_has_endpoint(set) == sets[_i].endpoint,
		      "%s: endpoint", sets[_i].name);
	ck_assert_msg(set_has_index(set) == sets[_i].index, "%s: index",
		      sets[_i].name);
	ck_assert_msg(set_is_nodeport(set) == sets[_i].nodeport,
		      "%s: node port", sets[_i].name);
	ck_assert_msg(set_has_range(set) == sets[_i].range, "%s: range",
		      sets[_i].name);
	ck_assert_msg(set_is_shared(set) == sets[_i].shared, "%s: shared",
		      sets[_i].name);
}
END_TEST

static const struct {
	unsigned int flags, count;
	const char *name;
} picks[] = {
	{ 0, 3, "pick-3" },
	{ PICK_CLUSTER, 1, "cluster-pick-1" },
	{ PICK_EXTERNAL, 4294967295u, "external-pick-4294967295" },
	{ PICK_LOCAL, 2, "local-pick-2" },
	{ PICK_NODEPORT, 2, "nodeport-pick-2" },
	{ PICK_STICKY, 2, "sticky-pick-2" },
	{ PICK_CLUSTER | PICK_STICKY | PICK_LOCAL, 10,
	  "cluster-sticky-local-pick-10" },
	{ PICK_EXTERNAL | PICK_STICKY | PICK_NODEPORT | PICK_LOCAL, 7,
	  "external-sticky-nodeport-local-pick-7" },
};

START_TEST(pick_names)
{
	struct verdict v = { VERDICT_PICK, (uint8_t)picks[_i].flags,
			     picks[_i].count };
	struct verdict back = { 0 };
	char text[PICK_NAME_SIZE];

	CHECK_STR("name", pick_name(&v, text), picks[_i].name);
	ck_assert_msg(pick_parse(picks[_i].name, &back) == 0, "%s: not parsed",
		      picks[_i].name);
	ck_assert_int_eq(back.kind, VERDICT_PICK);
	ck_assert_msg(back.pick == picks[_i].flags && back.count == picks[_i].count,
		      "%s: want %u, %u, got %u, %u", picks[_i].name,
		      picks[_i].flags, picks[_i].count, back.pick, back.count);
}
END_TEST

/* What pick_parse() reads, pick_name() writes: no second spelling of one chain. */
START_TEST(all_pick_names)
{
	struct verdict v = { VERDICT_PICK, (uint8_t)_i, 12 }, back = { 0 };
	char text[PICK_NAME_SIZE], again[PICK_NAME_SIZE];

	if ((_i & PICK_CLUSTER) && (_i & PICK_EXTERNAL))
		return; /* exclude each other */
	ck_assert_int_eq(pick_parse(pick_name(&v, text), &back), 0);
	CHECK_STR("and back", pick_name(&back, again), text);
}
END_TEST

static const char *const no_picks[] = {
	"",
	"pick",
	"pick-",
	"pick-0",
	"pick-01",
	"pick--1",
	"pick-+1",
	"pick- 1",
	"pick-1x",
	"pick-4294967296",
	"pick-99999999999999999999",
	"Pick-1",
	"xpick-1",
	"services",
	"reject-chain",
	"local-",
	"cluster-local",
	"local-cluster-pick-1",
	"local-sticky-pick-1",
	"sticky/ns/name/tcp/p/10.0.0.1/80",
};

START_TEST(no_pick)
{
	struct verdict v = { VERDICT_DROP, 1, 1 };

	ck_assert_msg(pick_parse(no_picks[_i], &v) == -EINVAL,
		      "\"%s\" was taken for a pick chain", no_picks[_i]);
	ck_assert_msg(v.kind == VERDICT_DROP && v.pick == 1 && v.count == 1,
		      "\"%s\": written to", no_picks[_i]);
}
END_TEST

#define ADDR(last)                                                             \
	{                                                                      \
		{                                                              \
			10, 0, 0, last                                         \
		}                                                              \
	}

/* In ascending order: each differs from the one before in one field. */
static const struct element ordered[] = {
	{ .set = SET_CLUSTER_IPS, .addr = ADDR(9) },
	{ .set = MAP_SERVICE_IPS, .addr = ADDR(1), .protocol = IPPROTO_UDP, .port = 9 },
	{ .set = MAP_SERVICE_IPS, .addr = ADDR(2), .protocol = IPPROTO_TCP, .port = 9 },
	{ .set = MAP_SERVICE_IPS, .addr = ADDR(2), .protocol = IPPROTO_TCP, .port = 256 },
	{ .set = MAP_SERVICE_IPS, .addr = ADDR(2), .protocol = IPPROTO_UDP, .port = 1 },
	{ .set = MAP_SERVICE_IPS, .addr = ADDR(200), .protocol = IPPROTO_TCP, .port = 1 },
	{ .set = MAP_ENDPOINTS, .addr = ADDR(1), .index = 0 },
	{ .set = MAP_ENDPOINTS, .addr = ADDR(1), .index = 1 },
	{ .set = MAP_ENDPOINTS, .addr = ADDR(1), .index = 256 },
};

START_TEST(key_order)
{
	int j;

	for (j = 0; j < N_ROWS(ordered); j++) {
		int got = element_key_compare(&ordered[_i], &ordered[j]);
		int want = (_i > j) - (_i < j);

		ck_assert_msg((got > 0) - (got < 0) == want,
			      "%d and %d: want %d, got %d", _i, j, want, got);
	}
}
END_TEST

START_TEST(range_keys)
{
	struct element a = { .set = SET_SOURCE_RANGES,
			     .ranges = "ranges/a/b",
			     .range = { ADDR(0), 24 } };
	struct element b = a;

	ck_assert_int_eq(element_key_compare(&a, &b), 0);
	b.range.length = 25;
	ck_assert_int_lt(element_key_compare(&a, &b), 0);
	b.range.addr.bytes[0] = 9;
	ck_assert_int_gt(element_key_compare(&a, &b), 0);
	b.ranges = "ranges/a/c"; /* another set comes behind, whatever is in it */
	ck_assert_int_lt(element_key_compare(&a, &b), 0);
}
END_TEST

START_TEST(data_is_not_key)
{
	struct element a = { .set = MAP_ENDPOINTS, .addr = ADDR(1) }, b = a;

	b.endpoint.bytes[0] = 1;
	b.endpoint_port = 2;
	b.verdict.kind = VERDICT_DROP;
	b.comment = "x";
	ck_assert_int_eq(element_key_compare(&a, &b), 0);
}
END_TEST

START_TEST(data_equality)
{
	char chain[] = "sticky/a", comment[] = "ns/a:p";
	const struct element a = { .set = MAP_SERVICE_IPS,
				   .verdict = { VERDICT_PICK, PICK_CLUSTER, 3 },
				   .endpoint = ADDR(1),
				   .endpoint_port = 80,
				   .chain = "sticky/a",
				   .comment = "ns/a:p" };
	struct element b = a;

	b.chain = chain; /* by text, not by pointer */
	b.comment = comment;
	b.addr.bytes[0] = 77; /* the key does not matter */
	ck_assert(element_data_equal(&a, &b));
#define DIFFERS(change)                                                        \
	do {                                                                   \
		b = a;                                                         \
		change;                                                        \
		ck_assert_msg(!element_data_equal(&a, &b), "%s", #change);     \
		ck_assert_msg(!element_data_equal(&b, &a), "%s", #change);     \
	} while (0)
	DIFFERS(b.verdict.kind = VERDICT_DROP);
	DIFFERS(b.verdict.pick = PICK_EXTERNAL);
	DIFFERS(b.verdict.count = 4);
	DIFFERS(b.endpoint.bytes[3] = 2);
	DIFFERS(b.endpoint_port = 81);
	DIFFERS(b.chain = "sticky/b");
	DIFFERS(b.chain = NULL);
	DIFFERS(b.comment = "ns/a:q");
	DIFFERS(b.comment = NULL);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("element");
	TCase *tc = tcase_create("element");

	tcase_add_loop_test(tc, set_traits, 0, N_ELEMENT_SETS);
	ADD_LOOP(tc, pick_names, picks);
	tcase_add_loop_test(tc, all_pick_names, 0, N_PICKS);
	ADD_LOOP(tc, no_pick, no_picks);
	ADD_LOOP(tc, key_order, ordered);
	tcase_add_test(tc, range_keys);
	tcase_add_test(tc, data_is_not_key);
	tcase_add_test(tc, data_equality);
	suite_add_tcase(suite, tc);
	return suite;
}
