/* When the wait for the Node is over (NODE-1, NODE-3), and what fits together (DS-2, CFG-5). */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/startup.h"
#include "tests/support/suite.h"
#include "tests/support/build.h"

#define SECOND INT64_C(1000000)

enum node_kind {
	NO_NODE,
	NO_ADDRESSES,
	ADDRESSES,
	ADDRESSES_AND_PODS,
	V6_AND_PODS
};

static const struct {
	const char *name;
	bool node_cidr;
	enum node_kind node;
	int64_t waited_us;
	enum startup_verdict want;
} waits[] = {
	{ "no Node at first", false, NO_NODE, 0, STARTUP_WAIT },
	{ "NODE-1: no Node just before", false, NO_NODE, 30 * SECOND - 1,
	  STARTUP_WAIT },
	{ "NODE-1: no Node", false, NO_NODE, 30 * SECOND, STARTUP_WITHOUT_ADDRESSES },
	{ "NODE-1: no addresses", false, NO_ADDRESSES, 29 * SECOND, STARTUP_WAIT },
	{ "NODE-1: none for long", false, NO_ADDRESSES, 31 * SECOND,
	  STARTUP_WITHOUT_ADDRESSES },
	{ "NODE-1: there", false, ADDRESSES, 0, STARTUP_READY },
	{ "NODE-1: there, late", false, ADDRESSES, 999 * SECOND, STARTUP_READY },
	{ "NODE-3: no Node", true, NO_NODE, 30 * SECOND, STARTUP_WAIT },
	{ "NODE-3: no ranges", true, ADDRESSES, 0, STARTUP_WAIT },
	{ "NODE-3: just before", true, ADDRESSES, 330 * SECOND - 1, STARTUP_WAIT },
	{ "NODE-3: the end", true, ADDRESSES, 330 * SECOND,
	  STARTUP_WITHOUT_POD_CIDRS },
	{ "NODE-3: there", true, ADDRESSES_AND_PODS, 200 * SECOND, STARTUP_READY },
};

static struct node *make_node(enum node_kind kind)
{
	static struct node_address address;
	static struct prefix range;
	static struct node node;

	memset(&node, 0, sizeof(node));
	memset(&address, 0, sizeof(address));
	address.family = kind == V6_AND_PODS ? FAMILY_IPV6 : FAMILY_IPV4;
	address.addr = build_addr(kind == V6_AND_PODS ? "fd00::1" : "192.168.7.1");
	node.name = "node1";
	node.addresses = &address;
	node.n_addresses = kind >= ADDRESSES;
	node.pod_cidrs[address.family].items = &range;
	node.pod_cidrs[address.family].count = kind >= ADDRESSES_AND_PODS;
	return kind == NO_NODE ? NULL : &node;
}

START_TEST(wait)
{
	struct config *config = build_config();
	enum startup_verdict got;

	config->detect_local =
		waits[_i].node_cidr ? DETECT_NODE_CIDR : DETECT_CLUSTER_CIDR;
	got = startup_judge(config, make_node(waits[_i].node), waits[_i].waited_us);
	ck_assert_msg(got == waits[_i].want, "%s: want %d, got %d",
		      waits[_i].name, waits[_i].want, got);
	config_free(config);
}
END_TEST

static const struct {
	const char *name;
	bool ipv6; /* the kernel has it */
	bool node_cidr;
	const char *range;
	enum node_kind node;
	const char *want; /* begins the error; NULL: fits */
} fits[] = {
	{ "all", true, false, "10.0.0.0/8", ADDRESSES, NULL },
	{ "unknown Node", true, false, "10.0.0.0/8", NO_NODE, NULL },
	{ "DS-2", false, false, "fd00::/8", V6_AND_PODS,
	  "Node node1: its primary family is IPv6, which this kernel lacks" },
	{ "DS-2: can", true, false, "fd00::/8", V6_AND_PODS, NULL },
	{ "NODE-3", true, true, "", ADDRESSES, "Node node1: spec.podCIDRs: none" },
	{ "NODE-3: has", true, true, "", ADDRESSES_AND_PODS, NULL },
	{ "CFG-5", false, false, "fd00::/8", ADDRESSES, "clusterCIDR: " },
};

START_TEST(fit)
{
	struct app app = { .family = { true, fits[_i].ipv6 } };
	struct config *config = build_config();
	struct errbuf eb = { "" };
	int err;

	ck_assert_int_eq(config_set(&config->detect_local_mode,
				    fits[_i].node_cidr ? "NodeCIDR" : "ClusterCIDR"),
			 0);
	ck_assert_int_eq(config_set(&config->cluster_cidr, fits[_i].range), 0);
	ck_assert_msg(config_validate(config, NULL, NULL, &eb) == 0, "%s", eb.text);
	err = startup_check(&app, "node1", config, make_node(fits[_i].node),
			    NULL, &eb);
	ck_assert_msg(!err == !fits[_i].want, "%s: got %d, %s", fits[_i].name,
		      err, eb.text);
	if (fits[_i].want)
		ck_assert_msg(strncmp(eb.text, fits[_i].want,
				      strlen(fits[_i].want)) == 0,
			      "%s: want '%s', got '%s'", fits[_i].name,
			      fits[_i].want, eb.text);
	config_free(config);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("startup");
	TCase *tc = tcase_create("startup");

	ADD_LOOP(tc, wait, waits);
	ADD_LOOP(tc, fit, fits);
	suite_add_tcase(suite, tc);
	return suite;
}
