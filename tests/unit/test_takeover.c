/* When kube-proxy's rules may go (BEY-7), and which chains are its own. */
#include "proxy/takeover.h"

#include <check.h>
#include <stdlib.h>

#include "nft/kubeproxy.h"

#include "tests/support/suite.h"

#define S(seconds) ((seconds)*INT64_C(1000000))

static const struct {
	const char *name;
	struct takeover_facts facts;
	bool want;
} rows[] = {
	{ "never asked yet", { false, 0, S(600) }, false },
	{ "answers, and has nothing to refresh", { true, 0, S(600) }, false },
	{ "has no port, refreshed now", { false, 9, 0 }, false },
	{ "has no port, refreshed 59 s ago", { false, 12, S(59) }, false },
	{ "has no port, refreshed a minute ago", { false, 12, S(60) }, true },
	{ "a port that fell silent just now", { true, 1, S(30) }, false },
	{ "a port that stays silent", { true, 2, S(30) }, true },
	{ "a port that stays silent, but refreshed", { true, 2, S(4) }, false },
	{ "a port that never answered is no sign", { false, 2, S(30) }, false },
};

START_TEST(may_remove)
{
	ck_assert_msg(takeover_may_remove(&rows[_i].facts) == rows[_i].want,
		      "%s: want %d", rows[_i].name, rows[_i].want);
}
END_TEST

static const struct {
	const char *name;
	bool want;
} chains[] = {
	{ "KUBE-SERVICES", true },
	{ "KUBE-SVC-ERIFXISQEP7F7OF4", true },
	{ "KUBE-SEP-XWEKSPFJZQKJFH7F", true },
	{ "KUBE-MARK-MASQ", true },
	{ "KUBE-NODE-PORT", true },
	/* kubelet's */
	{ "KUBE-FIREWALL", false },
	{ "KUBE-MARK-DROP", false },
	{ "KUBE-IPTABLES-HINT", false },
	{ "KUBE-KUBELET-CANARY", false },
	/* those of others */
	{ "KUBE-ROUTER-INPUT", false },
	{ "KUBE-POD-FW-ERIFXISQEP7F7OF4", false },
	{ "KUBE-NWPLCY-ERIFXISQEP7F7OF4", false },
	{ "KUBE-", false },
	{ "PREROUTING", false },
	{ "", false },
};

START_TEST(chain_is_kubeproxys)
{
	ck_assert_msg(kubeproxy_is_chain(chains[_i].name) == chains[_i].want,
		      "%s: want %d", chains[_i].name, chains[_i].want);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("takeover");
	TCase *tc = tcase_create("takeover");

	ADD_LOOP(tc, may_remove, rows);
	ADD_LOOP(tc, chain_is_kubeproxys, chains);
	suite_add_tcase(suite, tc);
	return suite;
}
