/* Which elements the endpoint lists ought to have, as the verdict maps tell it. */
#include <check.h>
#include <netinet/in.h>

#include "nft/lists.h"
#include "proxy/model/dispatch.h"
#include "tests/support/build.h"
#include "tests/support/suite.h"

static struct element vip(enum set_id set, const char *address, uint16_t port,
			  uint8_t pick, uint32_t count)
{
	return (struct element){
		.set = set,
		.addr = address ? build_addr(address) : (struct addr){ { 0 } },
		.protocol = IPPROTO_TCP,
		.port = port,
		.verdict = { .kind = VERDICT_PICK, .pick = pick, .count = count },
	};
}

static bool has(struct lists *l, enum set_id set, const char *address,
		uint16_t port, uint32_t index)
{
	struct element e = vip(set, address, port, 0, 0);

	e.index = index;
	return lists_has(l, &e);
}

static void note(struct lists *l, struct element e)
{
	ck_assert_int_eq(lists_note(l, &e), 0);
}

/* A load balancer's address and a policy map may both lead to it, and one of them is old. */
START_TEST(two_verdicts_lead_to_one_list)
{
	struct lists l = { 0 };

	note(&l, vip(MAP_SERVICE_IPS, "172.30.0.1", 80, 0, 2));
	note(&l, vip(MAP_SERVICE_IPS, "172.30.0.0", 80, 0, 1));
	note(&l, vip(MAP_FIREWALLED, "172.30.0.1", 80, 0, 5));
	note(&l, vip(MAP_CLUSTER_POLICY, "172.30.0.1", 80, PICK_EXTERNAL, 3));
	note(&l, vip(MAP_LOCAL_POLICY, "172.30.0.1", 80, PICK_LOCAL, 7));
	ck_assert_uint_eq(lists_expect(&l, MAP_ENDPOINTS), 5 + 1);
	ck_assert_uint_eq(lists_expect(&l, MAP_LOCAL_ENDPOINTS), 7);
	ck_assert_uint_eq(lists_expect(&l, MAP_STICKY_ENDPOINTS), 0);
	ck_assert(has(&l, MAP_ENDPOINTS, "172.30.0.1", 80, 0));
	ck_assert(has(&l, MAP_ENDPOINTS, "172.30.0.1", 80, 4));
	ck_assert(!has(&l, MAP_ENDPOINTS, "172.30.0.1", 80, 5));
	ck_assert(has(&l, MAP_ENDPOINTS, "172.30.0.0", 80, 0));
	ck_assert(!has(&l, MAP_ENDPOINTS, "172.30.0.0", 80, 1));
	ck_assert(has(&l, MAP_LOCAL_ENDPOINTS, "172.30.0.1", 80, 6));
	lists_free(&l);
}
END_TEST

START_TEST(key_is_whole)
{
	struct lists l = { 0 };
	struct element udp;

	note(&l, vip(MAP_SERVICE_IPS, "172.30.0.1", 80, 0, 2));
	note(&l, vip(MAP_SERVICE_IPS, "172.30.0.1", 81, PICK_STICKY, 2));
	ck_assert(!has(&l, MAP_ENDPOINTS, "172.30.0.1", 81, 0));
	ck_assert(has(&l, MAP_STICKY_ENDPOINTS, "172.30.0.1", 81, 1));
	ck_assert(!has(&l, MAP_ENDPOINTS, "172.30.0.2", 80, 0));
	ck_assert(!has(&l, MAP_LOCAL_ENDPOINTS, "172.30.0.1", 80, 0));
	udp = vip(MAP_ENDPOINTS, "172.30.0.1", 80, 0, 0);
	udp.protocol = IPPROTO_UDP;
	ck_assert(!lists_has(&l, &udp));
	lists_free(&l);
}
END_TEST

/* What looks up by another key than it has finds nothing. */
START_TEST(node_ports_and_others)
{
	struct lists l = { 0 };
	struct element drop = vip(MAP_SERVICE_IPS, "172.30.0.1", 80, 0, 9);

	drop.verdict.kind = VERDICT_DROP;
	note(&l, drop);
	note(&l, vip(MAP_SERVICE_NODEPORTS, NULL, 30080, 0, 9));
	note(&l, vip(MAP_SERVICE_IPS, "172.30.0.1", 80, PICK_NODEPORT, 9));
	ck_assert_uint_eq(l.count, 0);
	note(&l, vip(MAP_SERVICE_NODEPORTS, NULL, 30080, PICK_NODEPORT, 4));
	ck_assert_uint_eq(lists_expect(&l, MAP_NODEPORT_ENDPOINTS), 4);
	ck_assert_uint_eq(lists_expect(&l, MAP_ENDPOINTS), 0);
	ck_assert(has(&l, MAP_NODEPORT_ENDPOINTS, NULL, 30080, 3));
	ck_assert(!has(&l, MAP_NODEPORT_ENDPOINTS, NULL, 30081, 0));
	lists_free(&l);
}
END_TEST

START_TEST(nothing_noted)
{
	struct lists l = { 0 };

	ck_assert_uint_eq(lists_expect(&l, MAP_ENDPOINTS), 0);
	ck_assert(!has(&l, MAP_ENDPOINTS, "172.30.0.1", 80, 0));
	lists_free(&l);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("lists");
	TCase *tc = tcase_create("lists");

	tcase_add_test(tc, two_verdicts_lead_to_one_list);
	tcase_add_test(tc, key_is_whole);
	tcase_add_test(tc, node_ports_and_others);
	tcase_add_test(tc, nothing_noted);
	suite_add_tcase(suite, tc);
	return suite;
}
