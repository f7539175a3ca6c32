/*
 * Programs and their elements: what a packet meets for every combination of
 * policy, kind of VIP, liveness, affinity and ranges, told by an oracle that
 * reads the semantics; and the form of it.
 */
#include "proxy/model/dispatch.h"
#include "tests/support/suite.h"
#include "tests/support/build.h"
#include "tests/support/packet.h"

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum endpoints_of { DEAD, ELSEWHERE, HERE, DRAINING_HERE, N_LIVES };

/* One of each: 2 x 2 x 4 x 2 x 2 x 2 */
struct combination {
	bool internal_local, external_local, affinity, ranges;
	enum endpoints_of life;
	enum family family;
};

enum { N_COMBINATIONS = 2 * 2 * 2 * 2 * N_LIVES * N_FAMILIES };

static struct combination combination(int i)
{
	return (struct combination){
		.internal_local = i & 1,
		.external_local = i & 2,
		.affinity = i & 4,
		.ranges = i & 8,
		.life = (enum endpoints_of)(i / 16 % N_LIVES),
		.family = (enum family)(i / 16 / N_LIVES),
	};
}

static const char *const slices[N_LIVES][N_FAMILIES] = {
	[DEAD] = { "slice d/w-1 w v4 tcp:8080:http 10.244.1.1(unready)",
		   "slice d/w-1 w v6 tcp:8080:http fd00:244::11(unready)" },
	[ELSEWHERE] = { "slice d/w-1 w v4 tcp:8080:http 10.244.1.1 10.244.1.2",
			"slice d/w-1 w v6 tcp:8080:http fd00:244::11 fd00:244::12" },
	[HERE] = { "slice d/w-1 w v4 tcp:8080:http 10.244.1.1 10.244.0.2(local) 10.244.0.3(local)",
		   "slice d/w-1 w v6 tcp:8080:http fd00:244::11 fd00:244::2(local)" },
	[DRAINING_HERE] = { "slice d/w-1 w v4 tcp:8080:http 10.244.1.1"
			    " 10.244.0.2(local,unready,terminating)",
			    "slice d/w-1 w v6 tcp:8080:http fd00:244::11"
			    " fd00:244::2(local,unready,terminating)" },
};

static struct model *model_of(const struct config *config,
			      const struct combination *c)
{
	struct model *m = model_new(config, build_log, NULL);
	struct strbuf sb = STRBUF_INIT;
	struct addr local;

	local = build_addr("192.168.7.1");
	model_set_addresses(m, FAMILY_IPV4, &local, 1);
	local = build_addr("fd00:7::1");
	model_set_addresses(m, FAMILY_IPV6, &local, 1);
	build_put(m, "node n1 192.168.7.1 fd00:7::1");
	build_put(m, "cidr c 10.96.0.0/16 fd00:96::/108");
	strbuf_addf(
		&sb,
		"service d/w tcp:80:http@30080 ip=10.96.0.1 ip=fd00:96::1 ext=203.0.113.1"
		" lb=203.0.113.2 ext=203.0.113.3 lb=203.0.113.3 ext=2001:db8::1"
		" lb=2001:db8::2 ext=2001:db8::3 lb=2001:db8::3 load-balancer%s%s%s%s",
		c->internal_local ? " internal-local" : "",
		c->external_local ? " external-local" : "",
		c->affinity ? " affinity=60" : "",
		c->ranges ? " from=192.0.2.0/24 from=192.168.7.0/24 from=192.0.2.128/25"
			    " from=2001:db8:1::/48"
			  : "");
	build_put(m, sb.text);
	build_put(m, slices[c->life][c->family]);
	strbuf_free(&sb);
	return m;
}

static void compare(const struct model *m, enum family f,
		    const struct element *list, size_t n,
		    const struct packet *packet, const char *name)
{
	struct arena scratch = ARENA_INIT;
	struct strbuf sb = STRBUF_INIT, complaint = STRBUF_INIT;
	struct outcome got =
		packet_by_elements(m, f, list, n, packet, &scratch, &complaint);
	struct outcome want = packet_by_objects(m, f, packet, &scratch);

	if (!outcomes_equal(&got, &want) || complaint.length) {
		packet_print(&sb, f, packet);
		strbuf_adds(&sb, "\ngot  ");
		outcome_print(&sb, f, &got);
		strbuf_adds(&sb, "want ");
		outcome_print(&sb, f, &want);
		ck_abort_msg("%s: %s%s", name, sb.text,
			     complaint.length ? complaint.text : "");
	}
	strbuf_free(&complaint);
	arena_free(&scratch);
}

/* Kinds of source, and addresses to send from and to. */
static const char *const sources[N_FAMILIES][6] = {
	{ "10.244.1.9", "192.168.7.1", "192.0.2.200", "198.51.100.1",
	  "203.0.113.2", NULL },
	{ "fd00:244::99", "fd00:7::1", "2001:db8:1::9", "2001:db8:9::9",
	  "2001:db8::2", NULL },
};
static const char *const destinations[N_FAMILIES][8] = {
	{ "10.96.0.1", "203.0.113.1", "203.0.113.2", "203.0.113.3",
	  "192.168.7.1", "10.96.0.2", "203.0.113.4", NULL },
	{ "fd00:96::1", "2001:db8::1", "2001:db8::2", "2001:db8::3",
	  "fd00:7::1", "fd00:96::2", "2001:db8::4", NULL },
};

static void try_packets(const struct model *m, enum family f,
			const struct element *list, size_t n, const char *name)
{
	static const uint16_t ports[] = { 80, 30080, 81 };
	struct packet p;
	unsigned int s, d, port, kind;

	for (s = 0; sources[f][s]; s++)
		for (d = 0; destinations[f][d]; d++)
			for (port = 0; port < 3; port++)
				for (kind = 0; kind < 8; kind++) {
					p = (struct packet){
						.pod = kind & 1,
						.host = kind & 2,
						.source = build_addr(sources[f][s]),
						.destination = build_addr(
							destinations[f][d]),
						.protocol = kind & 4 ? IPPROTO_UDP
								     : IPPROTO_TCP,
						.port = ports[port],
					};
					compare(m, f, list, n, &p, name);
				}
}

/*
 * VER-1, VER-2, VER-3, VER-4, VER-5, VER-6, VER-7, VER-9, VER-10, VER-11,
 * VER-14, POL-1, POL-2, POL-3, POL-4, POL-5, POL-7, SEL-7, MASQ-2, MASQ-4,
 * MASQ-9, LB-3, LB-4, LB-5, LB-6, LB-7, NP-1, NP-5, SVC-7
 */
START_TEST(every_combination)
{
	const struct combination c = combination(_i);
	struct config *config = build_config();
	struct model *m = model_of(config, &c);
	struct arena scratch = ARENA_INIT;
	const struct element *list;
	char name[128];
	size_t n, i;

	snprintf(name, sizeof(name), "combination %d: %s%s%s%s life %d, %s", _i,
		 c.internal_local ? "internal-local " : "",
		 c.external_local ? "external-local " : "",
		 c.affinity ? "affinity " : "", c.ranges ? "ranges " : "",
		 c.life, family_name(c.family));
	list = build_elements(m, c.family, &scratch, &n);
	try_packets(m, c.family, list, n, name);
	config->masquerade_all = true; /* MASQ-1 */
	try_packets(m, c.family, list, n, name);
	config->masquerade_all = false;
	config->family[c.family].has_cluster_cidr = false; /* MASQ-3 */
	try_packets(m, c.family, list, n, name);
	/* In the order in which the diff merges them. */
	for (i = 1; i < n; i++)
		ck_assert_msg(element_key_compare(&list[i - 1], &list[i]) < 0,
			      "%s", name);
	arena_free(&scratch);
	model_free(m);
	config_free(config);
}
END_TEST

/* Each dispatch by itself is sorted, and equal to its packed copy and to no other. */
START_TEST(packing)
{
	struct config *config = build_config();
	struct model *models[32];
	struct dispatch *copies[32];
	const struct element *a, *b;
	struct arena scratch = ARENA_INIT;
	size_t n_a, n_b, i;
	unsigned int k, j;

	for (k = 0; k < 32; k++) {
		const struct combination c = combination((int)k * 2);
		struct service_entry *s;

		models[k] = model_of(config, &c);
		build_elements(models[k], c.family, &scratch, &n_a);
		s = model_find_service(models[k], "d", "w");
		copies[k] = dispatch_pack(s->ports[FAMILY_IPV4]->desired);
		ck_assert(dispatch_equal(copies[k], s->ports[FAMILY_IPV4]->desired));
		ck_assert_int_eq(dispatch_elements(copies[k], FAMILY_IPV4,
						   &scratch, &a, &n_a),
				 0);
		ck_assert_int_eq(dispatch_elements(s->ports[FAMILY_IPV4]->desired,
						   FAMILY_IPV4, &scratch, &b, &n_b),
				 0);
		ck_assert_uint_eq(n_a, n_b);
		for (i = 0; i < n_a; i++)
			ck_assert(element_key_compare(&a[i], &b[i]) == 0 &&
				  element_data_equal(&a[i], &b[i]) &&
				  (!i || element_key_compare(&a[i - 1], &a[i]) < 0));
	}
	for (k = 0; k < 32; k++)
		for (j = 0; j < 32; j++)
			ck_assert_msg(dispatch_equal(copies[k], copies[j]) ==
					      (k == j),
				      "%u, %u", k, j);
	ck_assert(dispatch_equal(NULL, NULL));
	ck_assert(!dispatch_equal(NULL, copies[0]) &&
		  !dispatch_equal(copies[0], NULL));
	for (k = 0; k < 32; k++) {
		free(copies[k]);
		model_free(models[k]);
	}
	arena_free(&scratch);
	config_free(config);
}
END_TEST

START_TEST(nothing_has_no_elements)
{
	struct arena scratch = ARENA_INIT;
	const struct element *list;
	size_t n = 1;

	ck_assert_int_eq(
		dispatch_elements(NULL, FAMILY_IPV4, &scratch, &list, &n), 0);
	ck_assert_uint_eq(n, 0);
	ck_assert(!dispatch_uses(NULL, false) && !dispatch_uses(NULL, true));
	ck_assert(!dispatch_remembers(NULL, false) &&
		  !dispatch_remembers(NULL, true));
	arena_free(&scratch);
}
END_TEST

static const struct {
	const char *addr;
	uint16_t port;
	bool local;
	const char *chain, *map;
} names[] = {
	{ "10.0.0.1", 80, false, "sticky/d/w/tcp/http/10.0.0.1/80",
	  "affinity/d/w/tcp/http" },
	{ "10.0.0.1", 65535, true, "sticky-local/d/w/tcp/http/10.0.0.1/65535",
	  "affinity-local/d/w/tcp/http" },
	{ "fd00::1", 1, false, "sticky/d/w/tcp/http/fd00..1/1",
	  "affinity/d/w/tcp/http" },
	{ "2001:db8:1:2:3:4:5:6", 8080, true,
	  "sticky-local/d/w/tcp/http/2001.db8.1.2.3.4.5.6/8080",
	  "affinity-local/d/w/tcp/http" },
	{ "::1", 9, false, "sticky/d/w/tcp/http/..1/9", "affinity/d/w/tcp/http" },
	{ "fd00::", 9, false, "sticky/d/w/tcp/http/fd00../9",
	  "affinity/d/w/tcp/http" },
};

START_TEST(sticky_names)
{
	struct arena scratch = ARENA_INIT;
	struct endpoint ep = { .port = names[_i].port }, back;
	enum family f;
	char *name;

	ck_assert_int_eq(addr_parse(names[_i].addr, &f, &ep.addr), 0);
	name = sticky_chain_name("d/w/tcp/http", names[_i].local, f, &ep, &scratch);
	ck_assert_str_eq(name, names[_i].chain);
	ck_assert_str_eq(
		affinity_map_name("d/w/tcp/http", names[_i].local, &scratch),
		names[_i].map);
	ck_assert_int_eq(sticky_chain_parse(name, f, &back), 0);
	ck_assert_int_eq(endpoint_compare(&ep, &back), 0);
	ck_assert_int_ne(
		sticky_chain_parse(
			name, f == FAMILY_IPV4 ? FAMILY_IPV6 : FAMILY_IPV4, &back),
		0);
	arena_free(&scratch);
}
END_TEST

static const char *const bad_names[] = {
	"",
	"/",
	"80",
	"/80",
	"sticky",
	"sticky/d/w/tcp/http/10.0.0.1",
	"sticky/d/w/tcp/http/10.0.0.1/",
	"sticky/d/w/tcp/http/10.0.0.1/0",
	"sticky/d/w/tcp/http/10.0.0.1/65536",
	"sticky/d/w/tcp/http/10.0.0.1/8o",
	"sticky/d/w/tcp/http//80",
	"sticky/d/w/tcp/http/10.0.0/80",
	"sticky/d/w/tcp/http/10.0.0.1/99999999999999999999",
	"sticky/d/w/tcp/http/1111111111111111111111111111111111111111111111111111/80",
};

START_TEST(sticky_names_of_others)
{
	struct endpoint ep;

	ck_assert_msg(sticky_chain_parse(bad_names[_i], FAMILY_IPV4, &ep) == -EINVAL,
		      "\"%s\"", bad_names[_i]);
}
END_TEST

/* The kernel takes names of 255 bytes. */
START_TEST(longest_names_fit)
{
	struct arena scratch = ARENA_INIT;
	struct endpoint ep = { .port = 65535 };
	struct strbuf sb = STRBUF_INIT;
	char label[64];

	memset(label, 'x', 63);
	label[63] = '\0';
	strbuf_addf(&sb, "%s/%s/sctp/%s", label, label, label);
	memset(&ep.addr, 0xff, sizeof(ep.addr));
	ck_assert_uint_le(strlen(sticky_chain_name(sb.text, true, FAMILY_IPV6,
						   &ep, &scratch)),
			  255);
	ck_assert_uint_le(strlen(affinity_map_name(sb.text, true, &scratch)), 255);
	strbuf_free(&sb);
	arena_free(&scratch);
}
END_TEST

START_TEST(orders)
{
	struct vip a = { .addr = { { 1 } }, .port = 2 },
		   b = { .addr = { { 1 } }, .port = 3 };
	struct prefix p = { .addr = { { 1 } }, .length = 8 },
		      q = { .addr = { { 1 } }, .length = 9 };

	ck_assert(vip_compare(&a, &b) < 0 && vip_compare(&b, &a) > 0 &&
		  vip_compare(&a, &a) == 0);
	b.addr.bytes[0] = 0;
	ck_assert(vip_compare(&a, &b) > 0);
	ck_assert(prefix_compare(&p, &q) < 0 && prefix_compare(&q, &p) > 0);
	q.addr.bytes[0] = 0;
	ck_assert(prefix_compare(&p, &q) > 0);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("dispatch");
	TCase *tc = tcase_create("dispatch");

	tcase_add_loop_test(tc, every_combination, 0, N_COMBINATIONS);
	tcase_add_test(tc, packing);
	tcase_add_test(tc, nothing_has_no_elements);
	ADD_LOOP(tc, sticky_names, names);
	ADD_LOOP(tc, sticky_names_of_others, bad_names);
	tcase_add_test(tc, longest_names_fit);
	tcase_add_test(tc, orders);
	suite_add_tcase(suite, tc);
	return suite;
}
