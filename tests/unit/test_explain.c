/* What "explain" understands and answers, and whether it sees that the kernel has something else. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/serve/view.h"
#include "proxy/sync/dataplane.h"
#include "tests/support/suite.h"
#include "tests/support/nft.h"
#include "tests/support/program.h"
#include "watch/manifests.h"

#define OBJECTS                                                                            \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"                           \
	"spec: {clusterIP: 172.30.0.41, ports: [{port: 80}]}\n---\n"                       \
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-a\n" \
	"  labels: {kubernetes.io/service-name: web}\naddressType: IPv4\n"                 \
	"ports: [{name: \"\", port: 8080}]\nendpoints: [{addresses: [10.180.1.1]},"        \
	" {addresses: [10.180.1.2]}]\n"

struct world {
	struct scratch scratch;
	struct config *config;
	struct model *model;
	struct manifests *manifests;
	struct dataplane *compiler;
	struct log *log;
	struct sync *sync;
	struct view view;
};

/* A vipmap that has programmed the kernel and is blind to what happens there. */
static void begin(struct world *w)
{
	struct strbuf out = STRBUF_INIT, err = STRBUF_INIT;
	struct errbuf eb = { "" };
	int error;

	memset(w, 0, sizeof(*w));
	scratch_enter(&w->scratch);
	write_file("objects.yaml", OBJECTS);
	ck_assert_msg(run_apart("./vipmap --manifests objects.yaml --once",
				&out, &err) == 0,
		      "%s", err.text);
	w->config = config_new();
	ck_assert_int_eq(config_append(&w->config->manifests, "objects.yaml"), 0);
	ck_assert_int_eq(config_validate(w->config, NULL, NULL, &eb), 0);
	w->log = log_new(2, 0, false, NULL);
	w->model = model_new(w->config, log_message, w->log);
	w->manifests = manifests_new(w->config->manifests, "node1");
	ck_assert_msg(manifests_load(w->manifests, model_sink(w->model), &eb) == 0,
		      "%s", eb.text);
	w->compiler = dataplane_new(&(struct dataplane_options){
		.family = FAMILY_IPV4, .model = w->model });
	ck_assert_int_eq(dataplane_compile(w->compiler), 0);
	w->sync = sync_new(&(struct sync_options){ .config = w->config,
						   .model = w->model,
						   .log = w->log,
						   .family = { true, false } },
			   &error, &eb);
	ck_assert_msg(w->sync, "%s", eb.text);
	w->view = (struct view){
		.config = w->config,
		.model = w->model,
		.node_name = "node1",
		.sync = w->sync,
		.log = w->log,
	};
	strbuf_free(&out);
	strbuf_free(&err);
}

static void end(struct world *w)
{
	sync_free(w->sync);
	dataplane_free(w->compiler);
	manifests_free(w->manifests);
	model_free(w->model);
	log_free(w->log);
	config_free(w->config);
	scratch_leave(&w->scratch);
}

static const struct {
	const char *name, *command, *want;
} rows[] = {
	{ "untouched", "true",
	  "\"kernel\":{\"agrees\":true,\"differences\":0,\"message\":\"\",\"path\":\"service-ips "
	  "-> "
	  "cluster-pick-2\"}" },
	{ "another endpoint",
	  "nft delete element ip vipmap endpoints { 172.30.0.41 . tcp . 80 . 1 } && "
	  "nft add element ip vipmap endpoints { 172.30.0.41 . tcp . 80 . 1 : 10.9.9.9 . 8080 }",
	  "\"agrees\":false,\"differences\":1,\"message\":\"another value in the kernel in an "
	  "element "
	  "of endpoints\"" },
	{ "an endpoint less",
	  "nft delete element ip vipmap endpoints { 172.30.0.41 . tcp . 80 . 0 }",
	  "\"agrees\":false,\"differences\":1,\"message\":\"nothing in the kernel for an element "
	  "of "
	  "endpoints\"" },
	{ "another verdict",
	  "nft delete element ip vipmap service-ips { 172.30.0.41 . tcp . 80 } && "
	  "nft add element ip vipmap service-ips { 172.30.0.41 . tcp . 80 : goto reject-chain }",
	  "\"agrees\":false,\"differences\":1,\"message\":\"another value in the kernel in an "
	  "element "
	  "of service-ips\",\"path\":\"service-ips -> reject-chain\"" },
	{ "no table", "nft delete table ip vipmap",
	  "\"agrees\":false,\"differences\":3,\"message\":\"nothing in the kernel for an element "
	  "of "
	  "service-ips\",\"path\":\"service-ips (nothing)\"" },
};

START_TEST(disagreement)
{
	struct strbuf out = STRBUF_INIT, said = STRBUF_INIT;
	struct world w;

	if (!program_namespace())
		return;
	begin(&w);
	ck_assert_msg(run(rows[_i].command, &said) == 0, "%s: %s",
		      rows[_i].name, said.text);
	ck_assert_int_eq(
		view_page(&w.view, "/v1/explain", "destination=web", &out), 200);
	ck_assert_msg(strstr(out.text, rows[_i].want), "%s: want %s in\n%s",
		      rows[_i].name, rows[_i].want, out.text);
	strbuf_free(&out);
	strbuf_free(&said);
	end(&w);
}
END_TEST

/* Nothing of these is in a kernel. */
#define SHOP                                                                            \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: "      \
	"172.30.0.41, ports: [{port: 80}]}\n---\n"                                      \
	"apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec: {clusterIP: "     \
	"172.30.0.42, ports: [{port: 80, name: http}, {port: 53, name: dns, protocol: " \
	"UDP}]}\n---\n"                                                                 \
	"apiVersion: v1\nkind: Service\nmetadata: {name: shop, namespace: b}\nspec: "   \
	"{clusterIP: 'fd00:30::43', ports: [{port: 443}]}\n---\n"                       \
	"apiVersion: v1\nkind: Service\nmetadata: {name: udp, namespace: b}\nspec: "    \
	"{clusterIP: 172.30.0.44, ports: [{port: 7}]}\n---\n"                           \
	"apiVersion: v1\nkind: Service\nmetadata: {name: none}\nspec: {clusterIP: "     \
	"None, ports: [{port: 7}]}\n---\n"                                              \
	"apiVersion: v1\nkind: Service\nmetadata: {name: alias}\nspec: {type: "         \
	"ExternalName, externalName: example.com}\n---\n"                               \
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: "     \
	"web-a\n  labels: {kubernetes.io/service-name: web}\naddressType: IPv4\n"       \
	"ports: [{name: \"\", port: 8080}]\nendpoints:\n"                               \
	"- {addresses: [10.180.1.1], nodeName: node1, targetRef: {kind: Pod, name: "    \
	"web-1, namespace: default}}\n"                                                 \
	"- {addresses: [10.180.1.2], nodeName: node2, targetRef: {kind: Pod, name: "    \
	"web-2, namespace: default}}\n"                                                 \
	"- {addresses: [10.180.1.3], nodeName: node2, conditions: {ready: false}}\n"

static const struct {
	const char *name, *query;
	int status;
	const char *want[4], *unwanted;
} words[] = {
	{ "address and port",
	  "destination=172.30.0.41:80",
	  200,
	  { "\"destination\":\"172.30.0.41\",\"port\":80,\"protocol\":\"tcp\"",
	    "\"verdict\":\"DNAT\"", "\"service\":\"default/web\"" },
	  NULL },
	{ "port apart",
	  "destination=172.30.0.41&port=80",
	  200,
	  { "\"port\":80,", "\"verdict\":\"DNAT\"" },
	  NULL },
	{ "the port apart counts",
	  "destination=172.30.0.41:81&port=80",
	  200,
	  { "\"port\":80,", "\"verdict\":\"DNAT\"" },
	  NULL },
	{ "protocol at the end",
	  "destination=172.30.0.41:80/udp",
	  200,
	  { "\"protocol\":\"udp\"", "\"verdict\":\"refused\"",
	    "\"reason\":\"no service has this port of the ClusterIP\"" },
	  "\"service\"" },
	{ "the protocol apart counts",
	  "destination=172.30.0.41:80/udp&protocol=tcp",
	  200,
	  { "\"protocol\":\"tcp\"", "\"verdict\":\"DNAT\"" },
	  NULL },
	{ "the protocol that there is",
	  "destination=172.30.0.42:53",
	  200,
	  { "\"protocol\":\"udp\"", "\"service\":\"default/shop:dns\"" },
	  NULL },
	{ "IPv6 in brackets",
	  "destination=%5Bfd00:30::43%5D:443",
	  200,
	  { "\"destination\":\"fd00:30::43\",\"port\":443,",
	    "\"service\":\"b/shop\"", "\"reason\":\"no endpoints\"" },
	  NULL },
	{ "IPv6 in brackets, port apart",
	  "destination=%5Bfd00:30::43%5D&port=443",
	  200,
	  { "\"port\":443,", "\"service\":\"b/shop\"" },
	  NULL },
	{ "IPv6, port apart",
	  "destination=fd00:30::43&port=443",
	  200,
	  { "\"port\":443,", "\"service\":\"b/shop\"" },
	  NULL },
	{ "after the bracket",
	  "destination=%5Bfd00:30::43%5D443",
	  400,
	  { "\"error\":\"there is no Service" },
	  NULL },
	{ "an address of nobody",
	  "destination=192.0.2.1:80",
	  200,
	  { "\"verdict\":\"passed\"", "\"reason\":\"not a service's address\"" },
	  NULL },
	{ "no port",
	  "destination=172.30.0.41",
	  400,
	  { "172.30.0.41: which port? Say ADDRESS:PORT" },
	  NULL },
	{ "port 0",
	  "destination=172.30.0.41:0",
	  400,
	  { "port \\\"0\\\" is not between 1 and 65535" },
	  NULL },
	{ "port 65535", "destination=172.30.0.41:65535", 200, { "\"port\":65535," }, NULL },
	{ "port 65536",
	  "destination=172.30.0.41:65536",
	  400,
	  { "port \\\"65536\\\" is not between" },
	  NULL },
	{ "port 1x",
	  "destination=172.30.0.41:1x",
	  400,
	  { "port \\\"1x\\\" is not between" },
	  NULL },
	{ "unknown protocol",
	  "destination=172.30.0.41:80&protocol=dccp",
	  400,
	  { "protocol \\\"dccp\\\" is not tcp, udp or sctp" },
	  NULL },
	{ "long protocol",
	  "destination=172.30.0.41:80&protocol=tcptcptcptcp",
	  400,
	  { "is not tcp, udp or sctp" },
	  NULL },
	{ "other family",
	  "source=fd00::1&destination=172.30.0.41:80",
	  400,
	  { "source and destination are not of one family" },
	  NULL },
	{ "nothing", "", 400, { "\"error\":\"which destination?\"" }, NULL },
	{ "an echo has no port",
	  "destination=172.30.0.41:80&protocol=icmp",
	  400,
	  { "icmp has no ports" },
	  NULL },
	{ "an echo",
	  "destination=172.30.0.41&protocol=icmp",
	  200,
	  { "\"protocol\":\"icmp\"", "\"verdict\":\"refused\"",
	    "a ClusterIP answers no ping" },
	  "\"port\"" },
	{ "an echo of the other family",
	  "destination=172.30.0.41&protocol=icmpv6",
	  400,
	  { "icmpv6 is not of the destination's family" },
	  NULL },
	{ "a name",
	  "destination=web",
	  200,
	  { "\"service\":\"default/web\",\"role\":\"ClusterIP\"",
	    "\"endpointsTotal\":3,", "\"choices\":2,", "\"list\":\"cluster\"" },
	  NULL },
	{ "endpoints of it",
	  "destination=default/web",
	  200,
	  { "{\"address\":\"10.180.1.1:8080\",\"pod\":\"web-1\",\"nodeName\":\"node1\","
	    "\"onThisNode\":true,\"sharePercent\":50.000,\"reason\":\"ready\"}",
	    "{\"address\":\"10.180.1.2:8080\",\"pod\":\"web-2\",\"nodeName\":\"node2\","
	    "\"onThisNode\":false,\"sharePercent\":50.000,",
	    "{\"address\":\"10.180.1.3:8080\",\"nodeName\":\"node2\","
	    "\"onThisNode\":false,\"sharePercent\":0.000,\"reason\":\"not ready\"}" },
	  NULL },
	{ "a name and a port",
	  "destination=default/shop:http",
	  200,
	  { "\"service\":\"default/shop:http\"" },
	  "shop:dns" },
	{ "a name and the number of a port",
	  "destination=default/shop:53",
	  200,
	  { "\"service\":\"default/shop:dns\"" },
	  "shop:http" },
	{ "all ports",
	  "destination=default/shop",
	  200,
	  { "\"service\":\"default/shop:http\"", "\"service\":\"default/shop:dns\"" },
	  NULL },
	{ "those of a protocol",
	  "destination=default/shop&protocol=udp",
	  200,
	  { "\"service\":\"default/shop:dns\"" },
	  "shop:http" },
	{ "a port that is not there",
	  "destination=default/shop:81/tcp",
	  400,
	  { "Service default/shop has no port 81/tcp; its ports: http (80/tcp), "
	    "dns (53/udp)" },
	  NULL },
	{ "a Service that is called as a protocol",
	  "destination=b/udp",
	  200,
	  { "\"service\":\"b/udp\"", "\"protocol\":\"tcp\"" },
	  NULL },
	{ "several of a name",
	  "destination=shop",
	  400,
	  { "shop: there are several: " },
	  NULL },
	{ "nearly a name",
	  "destination=wep:80",
	  400,
	  { "there is no Service wep; did you mean web?" },
	  NULL },
	{ "nearly a name, with its namespace",
	  "destination=b/shopp",
	  400,
	  { "there is no Service b/shopp; did you mean b/shop?" },
	  NULL },
	{ "no name at all",
	  "destination=something-else",
	  400,
	  { "there is no Service something-else, and it is no address" },
	  NULL },
	{ "headless",
	  "destination=none",
	  400,
	  { "there is no Service none" }, /* the API server is not asked for them */
	  NULL },
	{ "ExternalName",
	  "destination=alias",
	  400,
	  { "Service default/alias is a name in DNS (ExternalName): nothing" },
	  NULL },
	{ "a source of the other family",
	  "source=10.9.9.9&destination=b/shop",
	  400,
	  { "Service b/shop has no IPv4 address" },
	  NULL },
	{ "a source",
	  "source=10.180.1.1&destination=web",
	  200,
	  { "\"source\":\"10.180.1.1\",\"sourceKind\":\"",
	    "\"sourcePod\":\"default/web-1\"" },
	  NULL },
	{ "a source by name",
	  "source=default/web-2&destination=web",
	  200,
	  { "\"source\":\"10.180.1.2\"", "\"sourcePod\":\"default/web-2\"" },
	  NULL },
	{ "nearly a source",
	  "source=default/web-22&destination=web",
	  400,
	  { "no endpoint is Pod default/web-22; did you mean default/web-" },
	  NULL },
	{ "not a source",
	  "source=b/other&destination=web",
	  400,
	  { "no endpoint is Pod b/other: give its address" },
	  NULL },
	{ "no words of a source",
	  "source=web-1&destination=web",
	  400,
	  { "source \\\"web-1\\\" is neither an IP address nor NAMESPACE/POD" },
	  NULL },
};

/* Needs no kernel. */
START_TEST(understood)
{
	struct strbuf out = STRBUF_INIT;
	struct world w = { 0 };
	struct errbuf eb;
	int status;
	size_t i;

	scratch_enter(&w.scratch);
	write_file("objects.yaml", SHOP);
	w.config = config_new();
	ck_assert_int_eq(config_append(&w.config->manifests, "objects.yaml"), 0);
	ck_assert_int_eq(config_validate(w.config, NULL, NULL, &eb), 0);
	w.model = model_new(w.config, log_message, NULL);
	w.manifests = manifests_new(w.config->manifests, "node1");
	ck_assert_msg(manifests_load(w.manifests, model_sink(w.model), &eb) == 0,
		      "%s", eb.text);
	for (i = 0; i < N_FAMILIES; i++) {
		w.compiler = dataplane_new(&(struct dataplane_options){
			.family = (enum family)i, .model = w.model });
		ck_assert_int_eq(dataplane_compile(w.compiler), 0);
		dataplane_free(w.compiler);
	}
	w.compiler = NULL;
	w.view = (struct view){ .config = w.config,
				.model = w.model,
				.node_name = "node1" };
	status = view_page(&w.view, "/v1/explain", words[_i].query, &out);
	ck_assert_msg(status == words[_i].status, "%s: %d\n%s", words[_i].name,
		      status, out.text);
	for (i = 0; i < 4 && words[_i].want[i]; i++)
		CHECK_HAS(words[_i].name, out.text, words[_i].want[i]);
	if (words[_i].unwanted)
		CHECK_HAS_NOT(words[_i].name, out.text, words[_i].unwanted);
	strbuf_free(&out);
	end(&w);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("explain");
	TCase *tc = tcase_create("explain");

	tcase_set_timeout(tc, 30);
	ADD_LOOP(tc, disagreement, rows);
	ADD_LOOP(tc, understood, words);
	suite_add_tcase(suite, tc);
	return suite;
}
