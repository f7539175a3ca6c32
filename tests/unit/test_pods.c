/* Pods and Services with selectors to slices, as the EndpointSlice controller makes them. */
#include "watch/pods.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"
#include "tests/support/suite.h"
#include "tests/support/objects.h"

enum { MAX_PODS = 8 };

static const struct {
	const char *name;
	const char *service;	    /* what follows the name: spec */
	const char *pods[MAX_PODS]; /* what follows namespace and name */
	const char *want;	    /* slices, a line each */
} cases[] = {
	{ "issue's example: port 80 to 9376",
	  "{'clusterIP':'10.0.0.1','selector':{'app.kubernetes.io/name':'MyApp'},"
	  "'ports':[{'protocol':'TCP','port':80,'targetPort':9376}]}",
	  { "'labels':{'app.kubernetes.io/name':'MyApp','x':'y'}},'spec':{'nodeName':'node-a'},"
	    "'status':{'phase':'Running','podIPs':[{'ip':'10.1.0.1'}],"
	    "'conditions':[{'type':'Ready','status':'True'}]}",
	    "'labels':{'app.kubernetes.io/name':'Other'}},'status':{'podIP':'10.1.0.2'}" },
	  "slice default/web:IPv4-1 of web IPv4 :9376/tcp 10.1.0.1( ready serving local )\n" },
	{ "all labels must match, in the same namespace",
	  "{'clusterIP':'10.0.0.1','selector':{'a':'1','b':'2'},'ports':[{'port':80}]}",
	  { "'labels':{'a':'1'}},'status':{'podIP':'10.1.0.1'}",
	    "'labels':{'b':'2','a':'1'}},'status':{'podIP':'10.1.0.2'}",
	    "'labels':{'b':'2','a':'1'},'namespace':'other'},'status':{'podIP':'10.1.0.3'}",
	    "'labels':{'a':'2','b':'1'}},'status':{'podIP':'10.1.0.4'}" },
	  "slice default/web:IPv4-1 of web IPv4 :80/tcp 10.1.0.2( )\n" },
	{ "conditions",
	  "{'clusterIP':'10.0.0.1','selector':{'a':'1'},'ports':[{'port':80}]}",
	  { "'labels':{'a':'1'}},'status':{'podIP':'10.1.0.1','conditions':[{'type':'Ready','"
	    "status':"
	    "'False'}]}",
	    "'labels':{'a':'1'},'deletionTimestamp':'2026-11-23T07:20:20Z'},'status':{'podIP':'10."
	    "1.0.2',"
	    "'conditions':[{'type':'Ready','status':'True'}]}",
	    "'labels':{'a':'1'},'deletionTimestamp':'2026-11-23T07:20:20Z'},'status':{'podIP':'10."
	    "1.0.3'}",
	    "'labels':{'a':'1'}},'status':{'podIP':'10.1.0.4','phase':'Succeeded'}",
	    "'labels':{'a':'1'}},'status':{'podIP':'10.1.0.5','phase':'Failed'}",
	    "'labels':{'a':'1'}},'status':{'phase':'Pending'}" },
	  "slice default/web:IPv4-1 of web IPv4 :80/tcp 10.1.0.1( ) 10.1.0.2( serving terminating )"
	  " 10.1.0.3( terminating )\n" },
	{ "publishNotReadyAddresses",
	  "{'clusterIP':'10.0.0.1','selector':{'a':'1'},'ports':[{'port':80}],"
	  "'publishNotReadyAddresses':true}",
	  { "'labels':{'a':'1'}},'status':{'podIP':'10.1.0.1'}" },
	  "slice default/web:IPv4-1 of web IPv4 :80/tcp 10.1.0.1( ready )\n" },
	{ "named target ports, different in different Pods",
	  "{'clusterIP':'10.0.0.1','selector':{'a':'1'},'ports':[{'name':'http','port':80,'"
	  "targetPort':"
	  "'web'},{'name':'dns','port':53,'protocol':'UDP','targetPort':'dns'},{'name':'num','port'"
	  ":5,"
	  "'targetPort':0}]}",
	  { "'labels':{'a':'1'}},'spec':{'containers':[{'ports':[{'name':'web','containerPort':"
	    "8080},"
	    "{'name':'dns','containerPort':53},{'containerPort':9}]},{'ports':[{'name':'dns','"
	    "protocol':"
	    "'UDP','containerPort':5353}]}]},'status':{'podIP':'10.1.0.1'}",
	    "'labels':{'a':'1'}},'spec':{'containers':[{'ports':[{'name':'web','containerPort':"
	    "9090}]}]},"
	    "'status':{'podIP':'10.1.0.2'}",
	    "'labels':{'a':'1'}},'spec':{'containers':[{'ports':[{'name':'web','containerPort':"
	    "8080},"
	    "{'name':'dns','protocol':'UDP','containerPort':5353}]}]},'status':{'podIP':'10.1.0.3'"
	    "}" },
	  "slice default/web:IPv4-1 of web IPv4 http:8080/tcp dns:5353/udp num:5/tcp 10.1.0.1( ) "
	  "10.1.0.3( )\n"
	  "slice default/web:IPv4-2 of web IPv4 http:9090/tcp num:5/tcp 10.1.0.2( )\n" },
	{ "named target port of a sidecar, and only of one",
	  "{'clusterIP':'10.0.0.1','selector':{'a':'1'},'ports':[{'port':80,'targetPort':'web'}]}",
	  { "'labels':{'a':'1'}},'spec':{'containers':[{'ports':[{'name':'x','containerPort':1}]}],"
	    "'initContainers':[{'ports':[{'name':'web','containerPort':7}]},{'restartPolicy':"
	    "'Always','ports':[{'name':'web','containerPort':8080}]}]},'status':{'podIP':"
	    "'10.1.0.1'}",
	    "'labels':{'a':'1'}},'spec':{'initContainers':[{'restartPolicy':'Always','ports':"
	    "[{'name':'web','containerPort':1}]}],'containers':[{'ports':[{'name':'web',"
	    "'containerPort':8080}]}]},'status':{'podIP':'10.1.0.2'}",
	    "'labels':{'a':'1'}},'spec':{'initContainers':[{'ports':[{'name':'web',"
	    "'containerPort':8080}]}]},'status':{'podIP':'10.1.0.3'}" },
	  "slice default/web:IPv4-1 of web IPv4 :8080/tcp 10.1.0.1( ) 10.1.0.2( )\n"
	  "slice default/web:IPv4-2 of web IPv4 10.1.0.3( )\n" },
	{ "two families",
	  "{'clusterIP':'10.0.0.1','clusterIPs':['10.0.0.1','fd00::1'],'ipFamilies':['IPv4','IPv6']"
	  ","
	  "'selector':{'a':'1'},'ports':[{'port':80}]}",
	  { "'labels':{'a':'1'}},'status':{'podIP':'10.9.9.9','podIPs':[{'ip':'10.1.0.1'},{'ip':"
	    "'fd00:1::1'},{'ip':'10.1.0.99'}]}",
	    "'labels':{'a':'1'}},'status':{'podIPs':[{'ip':'fd00:1::2'}]}" },
	  "slice default/web:IPv4-1 of web IPv4 :80/tcp 10.1.0.1( )\n"
	  "slice default/web:IPv6-1 of web IPv6 :80/tcp fd00:1::1( ) fd00:1::2( )\n" },
	{ "the Service's families only",
	  "{'clusterIP':'fd00::1','selector':{'a':'1'},'ports':[{'port':80}]}",
	  { "'labels':{'a':'1'}},'status':{'podIPs':[{'ip':'10.1.0.1'},{'ip':'fd00:1::1'}]}" },
	  "slice default/web:IPv6-1 of web IPv6 :80/tcp fd00:1::1( )\n" },
	{ "empty selector",
	  "{'clusterIP':'10.0.0.1','selector':{},'ports':[{'port':80}]}",
	  { "'labels':{'a':'1'}},'status':{'podIP':'10.1.0.1'}" },
	  "no selector\n" },
	{ "no selector",
	  "{'clusterIP':'10.0.0.1','ports':[{'port':80}]}",
	  { "'labels':{'a':'1'}},'status':{'podIP':'10.1.0.1'}" },
	  "no selector\n" },
	{ "no Pods",
	  "{'clusterIP':'10.0.0.1','selector':{'a':'1'},'ports':[{'port':80}]}",
	  { NULL },
	  "" },
	{ "addresses that no endpoint can have, hostNetwork",
	  "{'clusterIP':'10.0.0.1','selector':{'a':'1'},'ports':[{'port':80}]}",
	  { "'labels':{'a':'1'}},'status':{'podIP':'127.0.0.1'}",
	    "'labels':{'a':'1'}},'status':{'podIP':'x'}",
	    "'labels':{'a':'1'}},'spec':{'hostNetwork':true},'status':{'podIP':'192.0.2.1'}" },
	  "Pod default/pod-0: status.podIP: '127.0.0.1' cannot be an endpoint\n"
	  "Pod default/pod-1: status.podIP: 'x' is not an IP address\n"
	  "slice default/web:IPv4-1 of web IPv4 :80/tcp 192.0.2.1( )\n" },
	{ "bad Pods",
	  "{'clusterIP':'10.0.0.1','selector':{'a':'1'},'ports':[{'port':80}]}",
	  { "'labels':{'a':1}}", "'labels':[]}",
	    "'labels':{'a':'1'}},'status':{'podIPs':{}}",
	    "'labels':{'a':'1'}},'spec':{'containers':[{'ports':[{'containerPort':70000}]}]}" },
	  "Pod default/pod-0: metadata.labels.a: a number where a string belongs\n"
	  "Pod default/pod-1: metadata.labels: a list where an object belongs\n"
	  "Pod default/pod-2: status.podIPs: an object where a list belongs\n"
	  "Pod default/pod-3: spec.containers[0].ports[0].containerPort: 70000 is not a port\n" },
	{ "bad init containers",
	  "{'clusterIP':'10.0.0.1','selector':{'a':'1'},'ports':[{'port':80}]}",
	  { "'labels':{'a':'1'}},'spec':{'initContainers':{}}",
	    "'labels':{'a':'1'}},'spec':{'initContainers':[{'restartPolicy':5,'ports':7}]},"
	    "'status':{'podIP':'10.1.0.1'}",
	    "'labels':{'a':'1'}},'spec':{'initContainers':[{'restartPolicy':'Always','ports':7}]"
	    "}" },
	  "Pod default/pod-0: spec.initContainers: an object where a list belongs\n"
	  "Pod default/pod-2: spec.initContainers[0].ports: a number where a list belongs\n"
	  "slice default/web:IPv4-1 of web IPv4 :80/tcp 10.1.0.1( )\n" },
	{ "bad selector",
	  "{'clusterIP':'10.0.0.1','selector':{'a':1},'ports':[{'port':80}]}",
	  { NULL },
	  "Service default/web: spec.selector.a: a number where a string belongs\n" },
	{ "bad target",
	  "{'clusterIP':'10.0.0.1','selector':{'a':'1'},'ports':[{'port':80,'targetPort':-5}]}",
	  { NULL },
	  "Service default/web: spec.ports[0].targetPort: -5 is not a port\n" },
};

struct world {
	struct decoder decoder;
	struct arena scratch, keep;
	struct strbuf log;
	const struct pod *pods[MAX_PODS];
	size_t n_pods;
};

static void log_line(void *ctx, const char *text)
{
	struct world *w = ctx;

	strbuf_addf(&w->log, "%s\n", text);
}

static struct json *parse(const struct strbuf *text)
{
	char *quoted = with_quotes(text->text);
	struct errbuf eb = { "" };
	struct json *json = json_parse(quoted, strlen(quoted), &eb);

	ck_assert_msg(json, "%s: %s", text->text, eb.text);
	free(quoted);
	return json;
}

static void add_pod(struct world *w, size_t number, const char *rest)
{
	struct strbuf text = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct json *json;
	struct pod *pod;

	strbuf_addf(&text, "{'metadata':{'name':'pod-%zu',%s}", number, rest);
	json = parse(&text);
	pod = decode_pod(&w->decoder, json, &w->keep, &eb);
	if (pod)
		w->pods[w->n_pods++] = pod;
	else if (*eb.text)
		log_line(w, eb.text);
	json_free(json);
	strbuf_free(&text);
}

static int log_slice(void *ctx, struct slice *slice)
{
	struct world *w = ctx;

	describe_slice(&w->log, slice);
	strbuf_addc(&w->log, '\n');
	free(slice);
	return 0;
}

static void make_slices(struct world *w, const char *spec)
{
	struct pod_index *index = pod_index_new(w->pods, w->n_pods);
	struct strbuf text = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct selector *selector;
	struct service *service;
	struct json *json;

	strbuf_addf(&text, "{'metadata':{'name':'web'},'spec':%s}", spec);
	json = parse(&text);
	selector = decode_selector(&w->decoder, json, &w->keep, &eb);
	service = decode_service(&w->decoder, json, NULL);
	ck_assert_ptr_nonnull(service);
	if (selector)
		ck_assert_int_eq(
			pods_to_slices(index, service, selector, log_slice, w), 0);
	else
		log_line(w, *eb.text ? eb.text : "no selector");
	free(service);
	pod_index_free(index);
	json_free(json);
	strbuf_free(&text);
}

static void world_init(struct world *w)
{
	memset(w, 0, sizeof(*w));
	strbuf_adds(&w->log, "");
	w->decoder = (struct decoder){ .node_name = "node-a",
				       .scratch = &w->scratch,
				       .default_namespace = "default",
				       .complain = log_line,
				       .ctx = w };
}

static void world_free(struct world *w)
{
	arena_free(&w->scratch);
	arena_free(&w->keep);
	strbuf_free(&w->log);
}

START_TEST(test_cases)
{
	struct world w;
	size_t i;

	world_init(&w);
	for (i = 0; i < MAX_PODS && cases[_i].pods[i]; i++)
		add_pod(&w, i, cases[_i].pods[i]);
	make_slices(&w, cases[_i].service);
	ck_assert_msg(strcmp(w.log.text, cases[_i].want) == 0,
		      "%s: want\n%s\ngot\n%s", cases[_i].name, cases[_i].want,
		      w.log.text);
	world_free(&w);
}
END_TEST

static int refuse_slice(void *ctx, struct slice *slice)
{
	(void)ctx;
	free(slice);
	return -ENOMEM;
}

START_TEST(test_put_fails)
{
	static const char text[] =
		"{\"metadata\":{\"name\":\"web\"},\"spec\":{\"clusterIP\":\"10.0.0.1\","
		"\"selector\":{\"a\":\"1\"},\"ports\":[{\"port\":80}]}}";
	struct json *json = json_parse(text, strlen(text), NULL);
	struct selector *selector;
	struct pod_index *index;
	struct service *service;
	struct world w;

	world_init(&w);
	add_pod(&w, 0, "'labels':{'a':'1'}},'status':{'podIP':'10.1.0.1'}");
	index = pod_index_new(w.pods, w.n_pods);
	selector = decode_selector(&w.decoder, json, &w.keep, NULL);
	service = decode_service(&w.decoder, json, NULL);
	ck_assert_int_eq(
		pods_to_slices(index, service, selector, refuse_slice, NULL),
		-ENOMEM);
	free(service);
	pod_index_free(index);
	json_free(json);
	world_free(&w);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("pods");
	TCase *tc = tcase_create("pods");

	ADD_LOOP(tc, test_cases, cases);
	tcase_add_test(tc, test_put_fails);
	suite_add_tcase(suite, tc);
	return suite;
}
