/* From objects to the elements of a table, line by line; and what compilation keeps. */
#include "proxy/model/compile.h"
#include "tests/support/suite.h"
#include "tests/support/build.h"

#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TWO "slice d/w-1 w v4 tcp:8080:http 10.244.0.1 10.244.0.2(local)"

static const struct {
	const char *name, *objects[4],
		*want; /* objects, or "IPv6", or "no externalIPs" */
} cases[] = {
	{ "SVC-1: no ClusterIP",
	  { "service d/w tcp:80:http ext=203.0.113.1 ignored", TWO },
	  "" },
	{ "SVC-2: ExternalName, even with a ClusterIP",
	  { "service d/w tcp:80:http ip=10.96.0.1 ignored", TWO },
	  "" },
	{ "SVC-4: no ClusterIP in this family",
	  { "service d/w tcp:80:http@30080 ip=fd00:96::1 ext=203.0.113.1 lb=203.0.113.2",
	    TWO },
	  "" },
	{ "EPS-11: slices of nobody", { TWO }, "" },
	{ "EPS-11, VER-2: a Service without slices",
	  { "service d/w tcp:80:http ip=10.96.0.1" },
	  "cluster-ips 10.96.0.1\n"
	  "service-ips 10.96.0.1 tcp 80 : reject # d/w:http\n" },
	{ "VER-4, MASQ-2: a ClusterIP",
	  { "service d/w tcp:80:http ip=10.96.0.1", TWO },
	  "cluster-ips 10.96.0.1\n"
	  "hairpin 10.244.0.2 tcp 8080\n"
	  "service-ips 10.96.0.1 tcp 80 : cluster-pick-2 # d/w:http\n"
	  "endpoints 10.96.0.1 tcp 80 [0] : 10.244.0.1 8080\n"
	  "endpoints 10.96.0.1 tcp 80 [1] : 10.244.0.2 8080\n" },
	{ "SVC-5, PROTO-1: every port, of all protocols",
	  { "service d/w tcp:80 udp:53:dns sctp:99:s ip=10.96.0.1",
	    "slice d/w-1 w v4 tcp:1 udp:2:dns 10.244.0.1" },
	  "cluster-ips 10.96.0.1\n"
	  "service-ips 10.96.0.1 tcp 80 : cluster-pick-1 # d/w\n"
	  "service-ips 10.96.0.1 udp 53 : cluster-pick-1 # d/w:dns\n"
	  "service-ips 10.96.0.1 sctp 99 : reject # d/w:s\n"
	  "endpoints 10.96.0.1 tcp 80 [0] : 10.244.0.1 1\n"
	  "endpoints 10.96.0.1 udp 53 [0] : 10.244.0.1 2\n" },
	{ "POL-1: internalTrafficPolicy Local",
	  { "service d/w tcp:80:http ip=10.96.0.1 internal-local", TWO },
	  "cluster-ips 10.96.0.1\n"
	  "hairpin 10.244.0.2 tcp 8080\n"
	  "service-ips 10.96.0.1 tcp 80 : cluster-local-pick-1 # d/w:http\n"
	  "local-endpoints 10.96.0.1 tcp 80 [0] : 10.244.0.2 8080\n" },
	{ "POL-1, VER-3: ... with nobody here",
	  { "service d/w tcp:80:http ip=10.96.0.1 internal-local",
	    "slice d/w-1 w v4 tcp:8080:http 10.244.0.1" },
	  "cluster-ips 10.96.0.1\n"
	  "service-ips 10.96.0.1 tcp 80 : drop # d/w:http\n" },
	{ "POL-4, SVC-7: ... has no effect on external VIPs, whatever the type",
	  { "service d/w tcp:80:http@30080 ip=10.96.0.1 ext=203.0.113.1 lb=203.0.113.2 "
	    "internal-local",
	    "slice d/w-1 w v4 tcp:8080:http 10.244.0.1" },
	  "cluster-ips 10.96.0.1\n"
	  "service-ips 10.96.0.1 tcp 80 : drop # d/w:http\n"
	  "service-ips 203.0.113.1 tcp 80 : external-pick-1 # d/w:http\n"
	  "service-ips 203.0.113.2 tcp 80 : external-pick-1 # d/w:http\n"
	  "service-nodeports tcp 30080 : external-nodeport-pick-1 # d/w:http\n"
	  "endpoints 203.0.113.1 tcp 80 [0] : 10.244.0.1 8080\n"
	  "endpoints 203.0.113.2 tcp 80 [0] : 10.244.0.1 8080\n"
	  "nodeport-endpoints tcp 30080 [0] : 10.244.0.1 8080\n" },
	{ "POL-2, POL-4: externalTrafficPolicy Local",
	  { "service d/w tcp:80:http@30080 ip=10.96.0.1 lb=203.0.113.2 external-local",
	    TWO },
	  "cluster-ips 10.96.0.1\n"
	  "hairpin 10.244.0.2 tcp 8080\n"
	  "service-ips 10.96.0.1 tcp 80 : cluster-pick-2 # d/w:http\n"
	  "service-ips 203.0.113.2 tcp 80 : external-local # d/w:http\n"
	  "service-nodeports tcp 30080 : nodeport-external-local # d/w:http\n"
	  "cluster-policy 203.0.113.2 tcp 80 : pick-2 # d/w:http\n"
	  "local-policy 203.0.113.2 tcp 80 : local-pick-1 # d/w:http\n"
	  "nodeport-cluster-policy tcp 30080 : nodeport-pick-2 # d/w:http\n"
	  "nodeport-local-policy tcp 30080 : nodeport-local-pick-1 # d/w:http\n"
	  "endpoints 10.96.0.1 tcp 80 [0] : 10.244.0.1 8080\n"
	  "endpoints 10.96.0.1 tcp 80 [1] : 10.244.0.2 8080\n"
	  "endpoints 203.0.113.2 tcp 80 [0] : 10.244.0.1 8080\n"
	  "endpoints 203.0.113.2 tcp 80 [1] : 10.244.0.2 8080\n"
	  "local-endpoints 203.0.113.2 tcp 80 [0] : 10.244.0.2 8080\n"
	  "nodeport-endpoints tcp 30080 [0] : 10.244.0.1 8080\n"
	  "nodeport-endpoints tcp 30080 [1] : 10.244.0.2 8080\n"
	  "nodeport-local-endpoints tcp 30080 [0] : 10.244.0.2 8080\n" },
	{ "POL-5: ... the short-circuit with nobody here",
	  { "service d/w tcp:80:http ip=10.96.0.1 ext=203.0.113.1 external-local",
	    "slice d/w-1 w v4 tcp:8080:http 10.244.0.1" },
	  "cluster-ips 10.96.0.1\n"
	  "service-ips 10.96.0.1 tcp 80 : cluster-pick-1 # d/w:http\n"
	  "service-ips 203.0.113.1 tcp 80 : external-local # d/w:http\n"
	  "cluster-policy 203.0.113.1 tcp 80 : pick-1 # d/w:http\n"
	  "local-policy 203.0.113.1 tcp 80 : drop # d/w:http\n"
	  "endpoints 10.96.0.1 tcp 80 [0] : 10.244.0.1 8080\n"
	  "endpoints 203.0.113.1 tcp 80 [0] : 10.244.0.1 8080\n" },
	{ "VER-10: both policies Local, nobody anywhere",
	  { "service d/w tcp:80:http@30080 ip=10.96.0.1 internal-local external-local",
	    "slice d/w-1 w v4 tcp:8080:http 10.244.0.1(local,unready)" },
	  "cluster-ips 10.96.0.1\n"
	  "service-ips 10.96.0.1 tcp 80 : reject # d/w:http\n"
	  "service-nodeports tcp 30080 : reject # d/w:http\n" },
	{ "LB-4, LB-6, LB-7, VER-1: source ranges",
	  { "service d/w tcp:80:http ip=10.96.0.1 ext=203.0.113.1 lb=203.0.113.2 ext=203.0.113.2 "
	    "from=192.0.2.0/24 from=192.0.2.0/24 from=192.0.2.128/25 from=10.0.0.0/8",
	    "slice d/w-1 w v4 tcp:8080:http 10.244.0.1" },
	  "cluster-ips 10.96.0.1\n"
	  "service-ips 10.96.0.1 tcp 80 : cluster-pick-1 # d/w:http\n"
	  "service-ips 203.0.113.1 tcp 80 : external-pick-1 # d/w:http\n"
	  "service-ips 203.0.113.2 tcp 80 : firewall/d/w # d/w:http\n"
	  "firewalled 203.0.113.2 tcp 80 : external-pick-1 # d/w:http\n"
	  "endpoints 10.96.0.1 tcp 80 [0] : 10.244.0.1 8080\n"
	  "endpoints 203.0.113.1 tcp 80 [0] : 10.244.0.1 8080\n"
	  "endpoints 203.0.113.2 tcp 80 [0] : 10.244.0.1 8080\n"
	  "ranges/d/w 10.0.0.0/8\n"
	  "ranges/d/w 192.0.2.0/24\n" },
	{ "LB-5: a range that holds the node",
	  { "service d/w tcp:80:http ip=10.96.0.1 lb=203.0.113.2 from=192.168.0.0/16",
	    "node n1 192.168.7.1" },
	  "cluster-ips 10.96.0.1\n"
	  "nodeport-ips 192.168.7.1\n"
	  "service-ips 10.96.0.1 tcp 80 : reject # d/w:http\n"
	  "service-ips 203.0.113.2 tcp 80 : firewall/d/w # d/w:http\n"
	  "firewalled 203.0.113.2 tcp 80 : reject # d/w:http\n"
	  "ranges/d/w 192.168.0.0/16\n"
	  "ranges/d/w 203.0.113.2/32\n" },
	{ "LB-5: secondary addresses of the node do not count",
	  { "service d/w tcp:80:http ip=10.96.0.1 lb=203.0.113.2 from=172.16.0.0/16",
	    "node n1 192.168.7.1 172.16.0.1" },
	  "cluster-ips 10.96.0.1\n"
	  "nodeport-ips 192.168.7.1\n"
	  "service-ips 10.96.0.1 tcp 80 : reject # d/w:http\n"
	  "service-ips 203.0.113.2 tcp 80 : firewall/d/w # d/w:http\n"
	  "firewalled 203.0.113.2 tcp 80 : reject # d/w:http\n"
	  "ranges/d/w 172.16.0.0/16\n" },
	{ "LB-3: ranges of the other family only",
	  { "service d/w tcp:80:http ip=10.96.0.1 lb=203.0.113.2 from=2001:db8::/32" },
	  "cluster-ips 10.96.0.1\n"
	  "service-ips 10.96.0.1 tcp 80 : reject # d/w:http\n"
	  "service-ips 203.0.113.2 tcp 80 : reject # d/w:http\n" },
	{ "SVC-10: externalIPs are not allowed",
	  { "no externalIPs",
	    "service d/w tcp:80:http ip=10.96.0.1 ext=203.0.113.1 lb=203.0.113.2" },
	  "cluster-ips 10.96.0.1\n"
	  "service-ips 10.96.0.1 tcp 80 : reject # d/w:http\n"
	  "service-ips 203.0.113.2 tcp 80 : reject # d/w:http\n" },
	{ "AFF-1, AFF-8: session affinity, each list by itself",
	  { "service d/w tcp:80:http ip=10.96.0.1 ext=203.0.113.1 affinity=60 internal-local",
	    TWO },
	  "cluster-ips 10.96.0.1\n"
	  "hairpin 10.244.0.2 tcp 8080\n"
	  "service-ips 10.96.0.1 tcp 80 : cluster-sticky-local-pick-1 # d/w:http\n"
	  "service-ips 203.0.113.1 tcp 80 : external-sticky-pick-2 # d/w:http\n"
	  "sticky-endpoints 203.0.113.1 tcp 80 [0] : sticky/d/w/tcp/http/10.244.0.1/8080\n"
	  "sticky-endpoints 203.0.113.1 tcp 80 [1] : sticky/d/w/tcp/http/10.244.0.2/8080\n"
	  "sticky-local-endpoints 10.96.0.1 tcp 80 [0] : "
	  "sticky-local/d/w/tcp/http/10.244.0.2/8080\n" },
	{ "DS-3, DS-5: the other family is by itself",
	  { "IPv6", "service d/w tcp:80:http ip=10.96.0.1 ip=fd00:96::1 ext=2001:db8::1 affinity=60",
	    TWO, "slice d/w-2 w v6 tcp:8080:http fd00:244::1(local)" },
	  "cluster-ips fd00:96::1\n"
	  "hairpin fd00:244::1 tcp 8080\n"
	  "service-ips 2001:db8::1 tcp 80 : external-sticky-pick-1 # d/w:http\n"
	  "service-ips fd00:96::1 tcp 80 : cluster-sticky-pick-1 # d/w:http\n"
	  "sticky-endpoints 2001:db8::1 tcp 80 [0] : sticky/d/w/tcp/http/fd00.244..1/8080\n"
	  "sticky-endpoints fd00:96::1 tcp 80 [0] : sticky/d/w/tcp/http/fd00.244..1/8080\n" },
	{ "SVC-11, LB-8: what the loser keeps",
	  { "service d/w tcp:80:http ip=10.96.0.1 ext=203.0.113.1 created=2",
	    "service d/v tcp:80:http tcp:81:b ip=10.96.0.2 ext=203.0.113.1 created=1",
	    TWO },
	  "cluster-ips 10.96.0.1\n"
	  "cluster-ips 10.96.0.2\n"
	  "hairpin 10.244.0.2 tcp 8080\n"
	  "service-ips 10.96.0.1 tcp 80 : cluster-pick-2 # d/w:http\n"
	  "service-ips 10.96.0.2 tcp 80 : reject # d/v:http\n"
	  "service-ips 10.96.0.2 tcp 81 : reject # d/v:b\n"
	  "service-ips 203.0.113.1 tcp 80 : reject # d/v:http\n"
	  "service-ips 203.0.113.1 tcp 81 : reject # d/v:b\n"
	  "endpoints 10.96.0.1 tcp 80 [0] : 10.244.0.1 8080\n"
	  "endpoints 10.96.0.1 tcp 80 [1] : 10.244.0.2 8080\n" },
	{ "VER-5, SVC-11: a ClusterIP that another Service has taken",
	  { "service d/w tcp:80:http ip=10.96.0.1 created=2 affinity=60",
	    "service d/v tcp:80:http ip=10.96.0.2 ext=10.96.0.1 created=1", TWO },
	  "cluster-ips 10.96.0.1\n"
	  "cluster-ips 10.96.0.2\n"
	  "service-ips 10.96.0.1 tcp 80 : reject # d/v:http\n"
	  "service-ips 10.96.0.2 tcp 80 : reject # d/v:http\n" },
	{ "NP-1: one number for several protocols, NP-7: no other",
	  { "service d/w tcp:80:http@30080 udp:80:quic@30080 ip=10.96.0.1" },
	  "cluster-ips 10.96.0.1\n"
	  "service-ips 10.96.0.1 tcp 80 : reject # d/w:http\n"
	  "service-ips 10.96.0.1 udp 80 : reject # d/w:quic\n"
	  "service-nodeports tcp 30080 : reject # d/w:http\n"
	  "service-nodeports udp 30080 : reject # d/w:quic\n" },
};

START_TEST(compiles)
{
	struct config *config = build_config();
	struct strbuf got = STRBUF_INIT;
	enum family family = FAMILY_IPV4;
	const char *object;
	struct model *m;
	int i;

	config->allow_external_ips =
		strcmp(cases[_i].objects[0], "no externalIPs") != 0;
	m = model_new(config, build_log, NULL);
	for (i = 0; i < 4 && (object = cases[_i].objects[i]); i++) {
		if (strcmp(object, "IPv6") == 0)
			family = FAMILY_IPV6;
		else if (strcmp(object, "no externalIPs"))
			build_put(m, object);
	}
	build_compile(m, family, &got);
	check_text(cases[_i].name, got.text, cases[_i].want);
	strbuf_free(&got);
	model_free(m);
	config_free(config);
}
END_TEST

/* One service port, compiled by hand. */
struct one {
	struct config *config;
	struct model *m;
	struct service_port_state *port;
	struct arena scratch;
};

static void one_begin(struct one *o, const char *endpoints)
{
	struct strbuf sb = STRBUF_INIT;

	memset(o, 0, sizeof(*o));
	o->config = build_config();
	o->m = model_new(o->config, build_log, NULL);
	build_put(o->m,
		  "service d/w tcp:80 ip=10.96.0.1 ext=203.0.113.1 external-local");
	strbuf_addf(&sb, "slice d/w-1 w v4 tcp:8080 %s", endpoints);
	build_put(o->m, sb.text);
	o->port = model_find_service(o->m, "d", "w")->ports[FAMILY_IPV4];
	strbuf_free(&sb);
}

static void one_end(struct one *o)
{
	arena_free(&o->scratch);
	model_free(o->m);
	config_free(o->config);
}

static void compile(struct one *o, const struct kernel_order *order)
{
	ck_assert_int_eq(
		compile_port(o->m, FAMILY_IPV4, o->port, order, &o->scratch), 0);
}

/* As the dataplane does after a commit. */
static void apply(struct one *o)
{
	if (o->port->desired_is_applied)
		return;
	free(o->port->applied);
	o->port->applied = o->port->desired;
	o->port->desired_is_applied = true;
}

static void check_lists(struct one *o, const char *name, const char *want)
{
	const struct dispatch *p = o->port->desired;
	struct strbuf got = STRBUF_INIT;
	unsigned int local, i;

	for (local = 0; local < 2; local++) {
		const struct endpoint_list *list = dispatch_list(p, local);

		for (i = 0; i < list->count; i++)
			strbuf_addf(&got, "%s%u", i ? " " : "",
				    endpoint_list_at(list, i).addr.bytes[3]);
		strbuf_adds(&got, local ? "" : " | ");
	}
	check_text(name, got.text, want);
	strbuf_free(&got);
}

START_TEST(keeps_indices)
{
	struct one o;

	one_begin(&o, "10.244.0.1 10.244.0.2(local) 10.244.0.3(local)");
	compile(&o, NULL);
	check_lists(&o, "from nothing", "1 2 3 | 2 3");
	apply(&o);
	build_put(o.m,
		  "slice d/w-1 w v4 tcp:8080 10.244.0.2(local) 10.244.0.3(local)");
	compile(&o, NULL);
	check_lists(&o, "one less", "3 2 | 2 3");
	ck_assert(!o.port->desired_is_applied);
	build_put(o.m,
		  "slice d/w-1 w v4 tcp:8080 10.244.0.3(local) 10.244.0.2(local) 10.244.0.1");
	compile(&o, NULL);
	check_lists(&o, "back before it was applied", "1 2 3 | 2 3");
	ck_assert(o.port->desired_is_applied && o.port->desired == o.port->applied);
	build_put(o.m, "slice d/w-1 w v4 tcp:8080 10.244.0.3");
	compile(&o, NULL);
	check_lists(&o, "nobody local", "3 | ");
	apply(&o);
	build_put(o.m, "slice d/w-1 w v4 tcp:8080");
	compile(&o, NULL);
	check_lists(&o, "nobody", " | ");
	one_end(&o);
}
END_TEST

/* After a restart the kernel's order counts, as far as the endpoints are still there. */
START_TEST(keeps_the_kernels_indices)
{
	const struct endpoint cluster[] = {
		{ .addr = { { 10, 244, 0, 3 } }, .port = 8080 },
		{ .addr = { { 10, 244, 0, 9 } }, .port = 8080 },
		{ .addr = { { 10, 244, 0, 1 } }, .port = 8080 },
	};
	struct kernel_order order = { 0 };
	struct arena scratch = ARENA_INIT;
	struct one o;

	endpoint_list_pack(FAMILY_IPV4, cluster, 3, &scratch, &order.cluster);
	one_begin(&o, "10.244.0.1 10.244.0.2(local) 10.244.0.3(local)");
	compile(&o, &order);
	check_lists(&o, "the kernel's", "3 2 1 | 2 3");
	apply(&o);
	compile(&o, NULL);
	check_lists(&o, "and from then on", "3 2 1 | 2 3");
	ck_assert(o.port->desired_is_applied);
	arena_free(&scratch);
	one_end(&o);
}
END_TEST

/* A service port that the Service has no more wants nothing; one that has nothing keeps nothing. */
START_TEST(wants_nothing)
{
	struct one o;

	one_begin(&o, "10.244.0.1");
	compile(&o, NULL);
	apply(&o);
	build_put(o.m, "service d/w tcp:81:other ip=10.96.0.1");
	compile(&o, NULL);
	ck_assert_ptr_null(o.port->desired);
	ck_assert(!o.port->desired_is_applied);
	apply(&o);
	compile(&o, NULL);
	ck_assert_ptr_null(o.port->desired);
	ck_assert(o.port->desired_is_applied);
	one_end(&o);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("compile");
	TCase *tc = tcase_create("compile");

	ADD_LOOP(tc, compiles, cases);
	tcase_add_test(tc, keeps_indices);
	tcase_add_test(tc, keeps_the_kernels_indices);
	tcase_add_test(tc, wants_nothing);
	suite_add_tcase(suite, tc);
	return suite;
}
