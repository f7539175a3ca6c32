/* What follows from the Node object, the configuration and the addresses of this machine. */
#include "proxy/model/node.h"
#include "tests/support/suite.h"
#include "tests/support/build.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOCAL "127.0.0.1 10.0.0.5 192.168.7.1 192.168.7.9 ::1 fd00:7::1 fe80::1"

/* "v4 ADDRESS|unknown, everywhere|ADDRESS...; v6 ...; primary v4|v6" */
static const struct {
	const char *name, *node, *ranges, *bind, *want;
} cases[] = {
	{ "NP-2: the primary address of each family",
	  "n 192.168.7.1 192.168.7.2 fd00:7::1", NULL, NULL,
	  "v4 192.168.7.1: 192.168.7.1; v6 fd00:7::1: fd00:7::1; primary v4" },
	{ "NODE-2: the first address is primary", "n fd00:7::1 192.168.7.1",
	  NULL, NULL,
	  "v4 192.168.7.1: 192.168.7.1; v6 fd00:7::1: fd00:7::1; primary v6" },
	{ "NP-2: \"primary\", spelled out", "n 192.168.7.1", "primary", NULL,
	  "v4 192.168.7.1: 192.168.7.1; v6 unknown: everywhere; primary v4" },
	{ "NODE-1, NP-2: no Node", NULL, NULL, NULL,
	  "v4 unknown: everywhere; v6 unknown: everywhere; primary v4" },
	{ "NODE-2: a Node without addresses", "n", NULL, NULL,
	  "v4 unknown: everywhere; v6 unknown: everywhere; primary v4" },
	{ "NODE-2: bindAddress replaces that of its family",
	  "n 192.168.7.1 fd00:7::1", NULL, "fd00:7::9",
	  "v4 192.168.7.1: 192.168.7.1; v6 fd00:7::9: fd00:7::9; primary v6" },
	{ "NODE-2: bindAddress without a Node", NULL, NULL, "10.0.0.5",
	  "v4 10.0.0.5: 10.0.0.5; v6 unknown: everywhere; primary v4" },
	{ "NP-2: loopback as primary is unknown", "n 127.0.0.1", NULL, NULL,
	  "v4 127.0.0.1: everywhere; v6 unknown: everywhere; primary v4" },
	{ "NP-2: this node's addresses inside a range", "n 192.168.7.1",
	  "192.168.0.0/16", NULL,
	  "v4 192.168.7.1: 192.168.7.1 192.168.7.9; v6 unknown: everywhere; primary v4" },
	{ "NP-2: several ranges, both families", "n 192.168.7.1",
	  "10.0.0.0/24,192.168.7.9/32,fd00::/16", NULL,
	  "v4 192.168.7.1: 10.0.0.5 192.168.7.9; v6 unknown: fd00:7::1; primary v4" },
	{ "NP-2: no address inside", "n 192.168.7.1", "172.16.0.0/12", NULL,
	  "v4 192.168.7.1:; v6 unknown: everywhere; primary v4" },
	{ "NP-2: a range of length 0", "n 192.168.7.1", "10.0.0.0/24,0.0.0.0/0",
	  NULL, "v4 192.168.7.1: everywhere; v6 unknown: everywhere; primary v4" },
	{ "NP-2: ranges of the other family only", "n 192.168.7.1", "fd00::/16",
	  NULL, "v4 192.168.7.1: everywhere; v6 unknown: fd00:7::1; primary v4" },
	{ "NP-2: primary and a range, sorted and once", "n 192.168.7.1",
	  "primary,10.0.0.0/24,192.168.7.0/24", NULL,
	  "v4 192.168.7.1: 10.0.0.5 192.168.7.1 192.168.7.9; v6 unknown: everywhere; primary v4" },
	{ "NP-2: all, whatever else", "n 192.168.7.1", "primary,all,10.0.0.0/24",
	  NULL, "v4 192.168.7.1: everywhere; v6 unknown: everywhere; primary v4" },
	{ "NP-3: localhost alone is nothing in the kernel", "n 192.168.7.1",
	  "localhost", NULL, "v4 192.168.7.1:; v6 unknown:; primary v4" },
	{ "NP-2: localhost and primary", "n 192.168.7.1 fd00:7::1",
	  "localhost,primary", NULL,
	  "v4 192.168.7.1: 192.168.7.1; v6 fd00:7::1: fd00:7::1; primary v4" },
	{ "NP-2: primary and localhost of one family",
	  "n 192.168.7.1 fd00:7::1", "primary,127.0.0.1/32", NULL,
	  "v4 192.168.7.1: 192.168.7.1; v6 fd00:7::1: fd00:7::1; primary v4" },
	{ "NP-3: never loopback", "n 192.168.7.1",
	  "127.0.0.0/8,10.0.0.0/8,::1/128,fd00::/16", NULL,
	  "v4 192.168.7.1: 10.0.0.5; v6 unknown: fd00:7::1; primary v4" },
	{ "NP-2: the range decides, not the Node", "n 192.168.7.77",
	  "192.168.7.77/32", NULL,
	  "v4 192.168.7.77:; v6 unknown: everywhere; primary v4" },
};

struct locals {
	struct addr items[N_FAMILIES][16];
	struct addr_view views[N_FAMILIES];
};

static void locals_parse(const char *text, struct locals *l)
{
	char *copy = strdup(text), *at, *word;
	struct addr addr;
	enum family f;

	memset(l, 0, sizeof(*l));
	for (word = strtok_r(copy, " ", &at); word;
	     word = strtok_r(NULL, " ", &at)) {
		ck_assert_int_eq(addr_parse(word, &f, &addr), 0);
		l->items[f][l->views[f].count++] = addr;
	}
	for (f = 0; f < N_FAMILIES; f++)
		l->views[f].items = l->items[f];
	free(copy);
}

static struct config *config_of(const char *ranges, const char *bind)
{
	struct config *c = build_config();
	char *copy = strdup(ranges ? ranges : ""), *at, *word;
	struct errbuf eb;

	for (word = strtok_r(copy, ",", &at); word; word = strtok_r(NULL, ",", &at))
		ck_assert_int_eq(config_append(&c->nodeport_addresses, word), 0);
	if (bind)
		ck_assert_int_eq(config_set(&c->bind_address, bind), 0);
	ck_assert_msg(config_validate(c, NULL, NULL, &eb) == 0, "%s", eb.text);
	free(copy);
	return c;
}

static void describe(struct strbuf *sb, const struct node_info *info)
{
	char text[ADDR_TEXT_SIZE];
	unsigned int i;
	enum family f;

	for (f = 0; f < N_FAMILIES; f++) {
		strbuf_addf(sb, "%s %s:", f == FAMILY_IPV4 ? "v4" : "v6",
			    info->family[f].has_primary
				    ? addr_format(f, &info->family[f].primary, text)
				    : "unknown");
		if (info->family[f].nodeports_everywhere)
			strbuf_adds(sb, " everywhere");
		for (i = 0; i < info->family[f].n_nodeport_ips; i++)
			strbuf_addf(sb, " %s",
				    addr_format(f, &info->family[f].nodeport_ips[i],
						text));
		strbuf_adds(sb, "; ");
	}
	strbuf_addf(sb, "primary %s",
		    info->primary_family == FAMILY_IPV4 ? "v4" : "v6");
}

START_TEST(computes)
{
	struct config *c = config_of(cases[_i].ranges, cases[_i].bind);
	struct node *n = cases[_i].node ? build_node(cases[_i].node) : NULL;
	struct node_info info = { 0 }, again = { 0 };
	struct strbuf got = STRBUF_INIT;
	struct locals l;

	locals_parse(LOCAL, &l);
	ck_assert_int_eq(node_info_compute(&info, c, n, l.views), 0);
	ck_assert_int_eq(node_info_compute(&info, c, n, l.views),
			 0); /* over itself */
	ck_assert_int_eq(node_info_compute(&again, c, n, l.views), 0);
	describe(&got, &info);
	ck_assert_msg(strcmp(got.text, cases[_i].want) == 0,
		      "%s:\ngot  %s\nwant %s", cases[_i].name, got.text,
		      cases[_i].want);
	ck_assert(node_info_equal(&info, &again));
	strbuf_free(&got);
	node_info_free(&info);
	node_info_free(&again);
	free(n);
	config_free(c);
}
END_TEST

/* Any pair of different descriptions is not equal. */
START_TEST(equality)
{
	enum { N = sizeof(cases) / sizeof(cases[0]) };
	struct node_info infos[N];
	unsigned int i, j;
	struct locals l;

	memset(infos, 0, sizeof(infos));
	locals_parse(LOCAL, &l);
	for (i = 0; i < N; i++) {
		struct config *c = config_of(cases[i].ranges, cases[i].bind);
		struct node *n = cases[i].node ? build_node(cases[i].node) : NULL;

		ck_assert_int_eq(node_info_compute(&infos[i], c, n, l.views), 0);
		free(n);
		config_free(c);
	}
	for (i = 0; i < N; i++)
		for (j = 0; j < N; j++)
			ck_assert_msg(
				node_info_equal(&infos[i], &infos[j]) ==
					(strcmp(cases[i].want, cases[j].want) == 0),
				"%s against %s", cases[i].name, cases[j].name);
	for (i = 0; i < N; i++)
		node_info_free(&infos[i]);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("node");
	TCase *tc = tcase_create("node");

	ADD_LOOP(tc, computes, cases);
	tcase_add_test(tc, equality);
	suite_add_tcase(suite, tc);
	return suite;
}
