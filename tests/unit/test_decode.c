/*
 * Objects as JSON to plain structs. Each row is an object, what it decodes to in words, and what is
 * complained of on the way. Single quotes stand for double ones.
 */
#include "watch/decode.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"
#include "tests/support/suite.h"
#include "tests/support/objects.h"
#include "watch/reading.h"
#include "watch/splitter.h"

/* ---- the machinery */

struct outcome {
	struct strbuf object, complaints; /* a line each */
	struct errbuf error;
};

static void add_complaint(void *ctx, const char *message)
{
	struct strbuf *sb = ctx;

	strbuf_addf(sb, "%s\n", message);
}

static void outcome_free(struct outcome *o)
{
	strbuf_free(&o->object);
	strbuf_free(&o->complaints);
}

static void decode_any(struct decoder *d, enum kind kind,
		       const struct json *json, struct outcome *o)
{
	struct service_cidr *cidr;
	struct service *service;
	struct slice *slice;
	struct node *node;
	void *object = NULL;

	if (kind == KIND_SERVICE &&
	    (object = service = decode_service(d, json, &o->error)))
		describe_service(&o->object, service);
	if (kind == KIND_SLICE &&
	    (object = slice = decode_slice(d, json, &o->error)))
		describe_slice(&o->object, slice);
	if (kind == KIND_SERVICE_CIDR &&
	    (object = cidr = decode_service_cidr(d, json, &o->error)))
		describe_service_cidr(&o->object, cidr);
	if (kind == KIND_NODE && (object = node = decode_node(d, json, &o->error)))
		describe_node(&o->object, node);
	free(object);
}

static struct outcome decode_text(enum kind kind, const char *text,
				  const char *default_namespace)
{
	struct outcome o = { STRBUF_INIT, STRBUF_INIT, { "" } };
	struct arena scratch = ARENA_INIT;
	struct decoder d = { .node_name = "node-a",
			     .scratch = &scratch,
			     .default_namespace = default_namespace,
			     .complain = add_complaint,
			     .ctx = &o.complaints };
	char *quoted = with_quotes(text);
	struct errbuf eb = { "" };
	struct json *json = json_parse(quoted, strlen(quoted), &eb);

	ck_assert_msg(json, "%s: %s", quoted, eb.text);
	strbuf_adds(&o.object, "");
	strbuf_adds(&o.complaints, "");
	decode_any(&d, kind, json, &o);
	json_free(json);
	free(quoted);
	arena_free(&scratch);
	return o;
}

static void expect(const char *name, const char *what, const char *want,
		   const char *got)
{
	ck_assert_msg(strcmp(want, got) == 0, "%s: %s: want\n%s\ngot\n%s", name,
		      what, want, got);
}

struct row {
	const char *name, *text;
	const char *object;	/* NULL: none */
	const char *complaints; /* NULL: none; for no object the error */
};

static void check_row(enum kind kind, const struct row *row, const char *text)
{
	struct outcome o = decode_text(kind, text, NULL);

	if (row->object) {
		expect(row->name, "error", "", o.error.text);
		expect(row->name, "object", row->object, o.object.text);
		expect(row->name, "complaints",
		       row->complaints ? row->complaints : "", o.complaints.text);
	} else {
		expect(row->name, "object", "", o.object.text);
		expect(row->name, "error",
		       row->complaints ? row->complaints : "", o.error.text);
	}
	outcome_free(&o);
}

/* ---- Service; @text is what follows metadata */

static const struct row services[] = {
	{ "SVC-5 plain", "'spec':{'clusterIP':'10.0.0.1','ports':[{'port':80}]}",
	  "service default/web 10.0.0.1 :80/tcp", NULL },
	{ "SVC-5 every port, PROTO-1 protocols",
	  "'spec':{'clusterIP':'10.0.0.1','ports':[{'name':'http','port':80,'protocol':'TCP'},"
	  "{'name':'dns','port':53,'protocol':'UDP','nodePort':30053},"
	  "{'name':'sctp.x-1','port':80,'protocol':'SCTP','nodePort':0,'targetPort':'x'}]}",
	  "service default/web 10.0.0.1 http:80/tcp dns:53/udp/30053 sctp.x-1:80/sctp",
	  NULL },
	{ "SVC-1 clusterIP None", "'spec':{'clusterIP':'None','ports':[{'port':0}]}",
	  "service default/web ignored", NULL },
	{ "SVC-1 clusterIP empty",
	  "'spec':{'clusterIP':'','clusterIPs':['10.0.0.1']}",
	  "service default/web ignored", NULL },
	{ "SVC-1 clusterIP absent", "'spec':{'ports':[]}",
	  "service default/web ignored", NULL },
	{ "SVC-2 ExternalName with a ClusterIP",
	  "'spec':{'type':'ExternalName','clusterIP':'10.0.0.1','externalName':'x.y'}",
	  "service default/web ignored", NULL },
	{ "SVC-6 two families",
	  "'spec':{'clusterIP':'10.0.0.1','clusterIPs':['10.0.0.1','fd00::1'],"
	  "'ipFamilies':['IPv4','IPv6']}",
	  "service default/web 10.0.0.1 fd00::1", NULL },
	{ "DS-5 the other order",
	  "'spec':{'clusterIP':'fd00::1','clusterIPs':['fd00::1','10.0.0.1'],"
	  "'ipFamilies':['IPv6','IPv4']}",
	  "service default/web 10.0.0.1 fd00::1", NULL },
	{ "SVC-6 without ipFamilies clusterIP counts",
	  "'spec':{'clusterIP':'fd00::1','clusterIPs':['fd00::1','10.0.0.1']}",
	  "service default/web fd00::1", NULL },
	{ "SVC-6 ipFamilies without clusterIPs",
	  "'spec':{'clusterIP':'10.0.0.1','ipFamilies':['IPv4']}",
	  "service default/web 10.0.0.1", NULL },
	{ "SVC-4 fewer clusterIPs than families",
	  "'spec':{'clusterIP':'fd00::1','clusterIPs':['fd00::1'],'ipFamilies':['IPv6','IPv4']}",
	  "service default/web fd00::1", NULL },
	{ "API-11 leading zeros",
	  "'spec':{'clusterIP':'172.30.0.041','externalIPs':['010.000.000.009'],"
	  "'loadBalancerSourceRanges':['203.0.113.129/025','203.0.113.000/025']}",
	  "service default/web 172.30.0.41 external=10.0.0.9 from=203.0.113.0/25 "
	  "from=203.0.113.128/25",
	  NULL },
	{ "API-10 clusterIP is no address", "'spec':{'clusterIP':'10.0.0.256'}", NULL,
	  "Service default/web: spec.clusterIP: '10.0.0.256' is not an IP address" },
	{ "API-10 clusterIPs entry",
	  "'spec':{'clusterIP':'10.0.0.1','clusterIPs':['10.0.0.1','x'],'ipFamilies':['IPv4','IPv6'"
	  "]}",
	  NULL,
	  "Service default/web: spec.clusterIPs[1]: 'x' is not an IP address" },
	{ "clusterIP of the wrong family",
	  "'spec':{'clusterIP':'10.0.0.1','clusterIPs':['10.0.0.1'],'ipFamilies':['IPv6']}",
	  NULL, "Service default/web: spec.clusterIPs[0]: not of family IPv6" },
	{ "unknown family", "'spec':{'clusterIP':'10.0.0.1','ipFamilies':['IPX']}",
	  NULL, "Service default/web: spec.ipFamilies[0]: neither IPv4 nor IPv6" },
	{ "repeated family",
	  "'spec':{'clusterIP':'10.0.0.1','clusterIPs':['10.0.0.1','10.0.0.2'],"
	  "'ipFamilies':['IPv4','IPv4']}",
	  NULL, "Service default/web: spec.ipFamilies[1]: IPv4 is repeated" },
	{ "clusterIP is loopback", "'spec':{'clusterIP':'127.0.0.1'}", NULL,
	  "Service default/web: spec.clusterIP: '127.0.0.1' cannot be a service address" },
	{ "clusterIP is a number", "'spec':{'clusterIP':1}", NULL,
	  "Service default/web: spec.clusterIP: a number where a string belongs" },

	{ "SVC-7 type ClusterIP with node port and ingress",
	  "'spec':{'type':'ClusterIP','clusterIP':'10.0.0.1','ports':[{'port':80,'nodePort':30000}]"
	  ","
	  "'externalIPs':['192.0.2.1']},'status':{'loadBalancer':{'ingress':[{'ip':'192.0.2.9'}]}}",
	  "service default/web 10.0.0.1 :80/tcp/30000 external=192.0.2.1 lb=192.0.2.9",
	  NULL },
	{ "SVC-7 unknown type", "'spec':{'type':'Foo\\nBar','clusterIP':'10.0.0.1'}",
	  "service default/web 10.0.0.1",
	  "Service default/web: spec.type: 'Foo?Bar' is unknown and taken for ClusterIP\n" },
	{ "SVC-8 ignored fields of any type",
	  "'spec':{'clusterIP':'10.0.0.1','selector':7,'loadBalancerIP':{},'trafficDistribution':[]"
	  ","
	  "'ports':[{'port':80,'targetPort':{},'appProtocol':1}]}",
	  "service default/web 10.0.0.1 :80/tcp", NULL },
	{ "SVC-9 external IPs that are none are skipped, families sorted, repeats dropped",
	  "'spec':{'clusterIP':'10.0.0.1','externalIPs':['192.0.2.2','fd00::2','host',5,'192.0.2.1'"
	  ","
	  "'192.0.2.2','127.0.0.1','224.0.0.1']}",
	  "service default/web 10.0.0.1 external=192.0.2.1 external=192.0.2.2 external=fd00::2",
	  "Service default/web: spec.externalIPs[2]: 'host' is not an IP address\n"
	  "Service default/web: spec.externalIPs[3]: a number is not an IP address\n"
	  "Service default/web: spec.externalIPs[6]: '127.0.0.1' cannot be a service address\n"
	  "Service default/web: spec.externalIPs[7]: '224.0.0.1' cannot be a service address\n" },
	{ "SVC-9 ingress addresses that are none are skipped",
	  "'spec':{'type':'LoadBalancer','clusterIP':'10.0.0.1'},"
	  "'status':{'loadBalancer':{'ingress':[{'ip':'x'},{'ip':'fd00::9'},{'ip':'192.0.2.9'}]}}",
	  "service default/web 10.0.0.1 lb=192.0.2.9 lb=fd00::9 load-balancer",
	  "Service default/web: status.loadBalancer.ingress[0].ip: 'x' is not an IP address\n" },
	{ "LB-1 ipMode and hostname",
	  "'spec':{'type':'LoadBalancer','clusterIP':'10.0.0.1'},"
	  "'status':{'loadBalancer':{'ingress':[{'ip':'192.0.2.1','ipMode':'VIP'},"
	  "{'ip':'192.0.2.2','ipMode':'Proxy'},{'hostname':'lb.example'},{'ip':'192.0.2.3',"
	  "'ipMode':null},{'ip':'192.0.2.4','ipMode':'New'}]}}",
	  "service default/web 10.0.0.1 lb=192.0.2.1 lb=192.0.2.3 load-balancer",
	  "Service default/web: status.loadBalancer.ingress[4].ipMode: 'New' is neither VIP nor "
	  "Proxy\n" },
	{ "LB-2 white space, empty and bad entries",
	  "'spec':{'clusterIP':'10.0.0.1','loadBalancerSourceRanges':[' 10.1.0.0/16\\t','','  "
	  "','10.2.0.0',"
	  "'fd00::/64',7]}",
	  "service default/web 10.0.0.1 from=10.1.0.0/16 from=fd00::/64",
	  "Service default/web: spec.loadBalancerSourceRanges[3]: '10.2.0.0' is not an address "
	  "range\n"
	  "Service default/web: spec.loadBalancerSourceRanges[5]: a number is not an address "
	  "range\n" },
	{ "LB-3 a range of length 0 voids its family",
	  "'spec':{'clusterIP':'10.0.0.1','loadBalancerSourceRanges':['10.1.0.0/16','0.0.0.0/0',"
	  "'fd00::/64']}",
	  "service default/web 10.0.0.1 from=fd00::/64", NULL },
	{ "LB-3 no usable range",
	  "'spec':{'clusterIP':'10.0.0.1','loadBalancerSourceRanges':['all']}",
	  "service default/web 10.0.0.1",
	  "Service default/web: spec.loadBalancerSourceRanges[0]: 'all' is not an address "
	  "range\n" },
	{ "LB-6 overlap, repeat, touch",
	  "'spec':{'clusterIP':'10.0.0.1','loadBalancerSourceRanges':['10.1.2.0/24','10.1.0.0/16',"
	  "'10.1.2.3/32','10.1.0.0/16','10.2.0.0/16','10.0.0.0/16','10.1.255.255/32','10.3.0.1/"
	  "32']}",
	  "service default/web 10.0.0.1 from=10.0.0.0/16 from=10.1.0.0/16 from=10.2.0.0/16 "
	  "from=10.3.0.1/32",
	  NULL },

	{ "POL-1 internal Local",
	  "'spec':{'clusterIP':'10.0.0.1','internalTrafficPolicy':'Local'}",
	  "service default/web 10.0.0.1 internal-local", NULL },
	{ "POL-3 external Local, ClusterIP without externalIPs",
	  "'spec':{'clusterIP':'10.0.0.1','externalTrafficPolicy':'Local'}",
	  "service default/web 10.0.0.1", NULL },
	{ "POL-3 external Local, ClusterIP with externalIPs",
	  "'spec':{'clusterIP':'10.0.0.1','externalTrafficPolicy':'Local','externalIPs':['192.0.2."
	  "1']}",
	  "service default/web 10.0.0.1 external=192.0.2.1 external-local", NULL },
	{ "POL-3 external Local, NodePort",
	  "'spec':{'type':'NodePort','clusterIP':'10.0.0.1','externalTrafficPolicy':'Local'}",
	  "service default/web 10.0.0.1 external-local", NULL },
	{ "POL-3 Cluster and unknown",
	  "'spec':{'type':'NodePort','clusterIP':'10.0.0.1','externalTrafficPolicy':'Cluster',"
	  "'internalTrafficPolicy':'local'}",
	  "service default/web 10.0.0.1",
	  "Service default/web: spec.internalTrafficPolicy: 'local' is neither Cluster nor "
	  "Local\n" },
	{ "HC-1 health-check port",
	  "'spec':{'type':'LoadBalancer','clusterIP':'10.0.0.1','externalTrafficPolicy':'Local',"
	  "'healthCheckNodePort':32000}",
	  "service default/web 10.0.0.1 load-balancer external-local health=32000",
	  NULL },
	{ "HC-1 missing port",
	  "'spec':{'type':'LoadBalancer','clusterIP':'10.0.0.1','externalTrafficPolicy':'Local'}",
	  "service default/web 10.0.0.1 load-balancer external-local", NULL },
	{ "HC-1 policy Cluster",
	  "'spec':{'type':'LoadBalancer','clusterIP':'10.0.0.1','healthCheckNodePort':32000}",
	  "service default/web 10.0.0.1 load-balancer", NULL },
	{ "HC-1 NodePort",
	  "'spec':{'type':'NodePort','clusterIP':'10.0.0.1','externalTrafficPolicy':'Local',"
	  "'healthCheckNodePort':32000}",
	  "service default/web 10.0.0.1 external-local", NULL },

	{ "BEY-2 Pass",
	  "'metadata':{'namespace':'default','name':'web','annotations':{'vipmap/"
	  "no-endpoints':'Pass'}},"
	  "'spec':{'clusterIP':'10.0.0.1'}",
	  "service default/web 10.0.0.1 pass", NULL },
	{ "BEY-2 Reject",
	  "'metadata':{'namespace':'default','name':'web','annotations':{'a':'b','vipmap/"
	  "no-endpoints':'Reject'}},"
	  "'spec':{'clusterIP':'10.0.0.1'}",
	  "service default/web 10.0.0.1 no-pass", NULL },
	{ "BEY-2 another word",
	  "'metadata':{'namespace':'default','name':'web','annotations':{'vipmap/"
	  "no-endpoints':'pass'}},"
	  "'spec':{'clusterIP':'10.0.0.1'}",
	  "service default/web 10.0.0.1",
	  "Service default/web: metadata.annotations.vipmap/no-endpoints: 'pass' is neither Reject "
	  "nor Pass; the configuration counts\n" },
	{ "BEY-2 no word",
	  "'metadata':{'namespace':'default','name':'web','annotations':{'vipmap/"
	  "no-endpoints':''}},"
	  "'spec':{'clusterIP':'10.0.0.1'}",
	  "service default/web 10.0.0.1",
	  "Service default/web: metadata.annotations.vipmap/no-endpoints: '' is neither Reject nor "
	  "Pass; the configuration counts\n" },

	{ "AFF-1 AFF-2 default timeout",
	  "'spec':{'clusterIP':'10.0.0.1','sessionAffinity':'ClientIP'}",
	  "service default/web 10.0.0.1 affinity=10800", NULL },
	{ "AFF-2 timeout",
	  "'spec':{'clusterIP':'10.0.0.1','sessionAffinity':'ClientIP','sessionAffinityConfig':"
	  "{'clientIP':{'timeoutSeconds':86400}}}",
	  "service default/web 10.0.0.1 affinity=86400", NULL },
	{ "AFF-2 timeout too long",
	  "'spec':{'clusterIP':'10.0.0.1','sessionAffinity':'ClientIP','sessionAffinityConfig':"
	  "{'clientIP':{'timeoutSeconds':86401}}}",
	  NULL,
	  "Service default/web: spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 is not "
	  "between 1 and 86400" },
	{ "AFF-2 timeout 0",
	  "'spec':{'clusterIP':'10.0.0.1','sessionAffinity':'ClientIP','sessionAffinityConfig':"
	  "{'clientIP':{'timeoutSeconds':0}}}",
	  NULL,
	  "Service default/web: spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not "
	  "between 1 "
	  "and 86400" },
	{ "no affinity",
	  "'spec':{'clusterIP':'10.0.0.1','sessionAffinity':'None','sessionAffinityConfig':"
	  "{'clientIP':{'timeoutSeconds':5}}}",
	  "service default/web 10.0.0.1", NULL },
	{ "unknown affinity",
	  "'spec':{'clusterIP':'10.0.0.1','sessionAffinity':'Cookie'}",
	  "service default/web 10.0.0.1",
	  "Service default/web: spec.sessionAffinity: 'Cookie' is neither None nor ClientIP\n" },

	{ "port out of range",
	  "'spec':{'clusterIP':'10.0.0.1','ports':[{'port':80},{'port':70000}]}",
	  NULL, "Service default/web: spec.ports[1].port: 70000 is not a port" },
	{ "port 0", "'spec':{'clusterIP':'10.0.0.1','ports':[{'port':0}]}",
	  NULL, "Service default/web: spec.ports[0].port: 0 is not a port" },
	{ "API-10 port missing",
	  "'spec':{'clusterIP':'10.0.0.1','ports':[{'name':'x'}]}", NULL,
	  "Service default/web: spec.ports[0].port: missing" },
	{ "port is a fraction",
	  "'spec':{'clusterIP':'10.0.0.1','ports':[{'port':80.5}]}", NULL,
	  "Service default/web: spec.ports[0].port: 80.5 is not a whole number" },
	{ "port is a string",
	  "'spec':{'clusterIP':'10.0.0.1','ports':[{'port':'80'}]}", NULL,
	  "Service default/web: spec.ports[0].port: a string where a number belongs" },
	{ "node port negative",
	  "'spec':{'clusterIP':'10.0.0.1','ports':[{'port':80,'nodePort':-1}]}",
	  NULL, "Service default/web: spec.ports[0].nodePort: -1 is not a port" },
	{ "unknown protocol",
	  "'spec':{'clusterIP':'10.0.0.1','ports':[{'port':80,'protocol':'tcp'}]}",
	  NULL,
	  "Service default/web: spec.ports[0].protocol: 'tcp' is not TCP, UDP or SCTP" },
	{ "port name",
	  "'spec':{'clusterIP':'10.0.0.1','ports':[{'port':80,'name':'a\\\" drop'}]}",
	  NULL,
	  "Service default/web: spec.ports[0].name: 'a\" drop' is not a port name" },
	{ "ports are an object", "'spec':{'clusterIP':'10.0.0.1','ports':{}}", NULL,
	  "Service default/web: spec.ports: an object where a list belongs" },
	{ "a port is a number", "'spec':{'clusterIP':'10.0.0.1','ports':[80]}", NULL,
	  "Service default/web: spec.ports[0]: a number where an object belongs" },
	{ "repeated name",
	  "'spec':{'clusterIP':'10.0.0.1','ports':[{'port':80},{'port':81}]}", NULL,
	  "Service default/web: spec.ports[1].name: the same as that of an earlier port" },
	{ "repeated port",
	  "'spec':{'clusterIP':'10.0.0.1','ports':[{'port':80,'name':'a'},{'port':80,'name':'b',"
	  "'protocol':'UDP'},{'port':80,'name':'c'}]}",
	  NULL,
	  "Service default/web: spec.ports[2].port: the same as that of an earlier port" },
	{ "repeated node port",
	  "'spec':{'clusterIP':'10.0.0.1','ports':[{'port':80,'name':'a','nodePort':30000},"
	  "{'port':81,'name':'b','nodePort':30000}]}",
	  NULL,
	  "Service default/web: spec.ports[1].nodePort: the same as that of an earlier port" },
	{ "the same node port for two protocols (NP-1)",
	  "'spec':{'clusterIP':'10.0.0.1','ports':[{'port':53,'nodePort':30053},"
	  "{'port':53,'protocol':'UDP','nodePort':30053}]}",
	  "service default/web 10.0.0.1 :53/tcp/30053 :53/udp/30053", NULL },
	{ "externalIPs is a string",
	  "'spec':{'clusterIP':'10.0.0.1','externalIPs':'192.0.2.1'}", NULL,
	  "Service default/web: spec.externalIPs: a string where a list belongs" },
	{ "status is a list", "'spec':{'clusterIP':'10.0.0.1'},'status':[]",
	  NULL, "Service default/web: status: a list where an object belongs" },
	{ "no spec", "'x':1", NULL, "Service default/web: spec: missing" },
	{ "nulls count as absent",
	  "'spec':{'clusterIP':'10.0.0.1','ports':null,'externalIPs':null,'type':null,'"
	  "sessionAffinity':"
	  "null,'ipFamilies':null,'loadBalancerSourceRanges':null},'status':{'loadBalancer':null}",
	  "service default/web 10.0.0.1", NULL },
};

static char *wrap(const char *format, const char *text)
{
	struct strbuf sb = STRBUF_INIT;
	const char *mark = strchr(format, '@');

	strbuf_add(&sb, format, (size_t)(mark - format));
	strbuf_adds(&sb, text);
	strbuf_adds(&sb, mark + 1);
	return sb.text;
}

START_TEST(test_service)
{
	char *text = wrap("{'metadata':{'namespace':'default','name':'web'},@}",
			  services[_i].text);

	check_row(KIND_SERVICE, &services[_i], text);
	free(text);
}
END_TEST

/* ---- metadata */

#define CLOSING(word)                                                             \
	"{'metadata':{'namespace':'default','name':'web','annotations':{'a':'b'," \
	"'vipmap/close-connections':" word "}},'spec':{'clusterIP':'10.0.0.1'}}"

static const struct row metadata[] = {
	{ "uid and time",
	  "{'metadata':{'namespace':'default','name':'web','uid':'4e-da','creationTimestamp':"
	  "'2026-11-23T07:20:20Z'},'spec':{}}",
	  "service default/web ignored created=1795418420 uid=4e-da", NULL },
	{ "bad time",
	  "{'metadata':{'namespace':'default','name':'web','creationTimestamp':'yesterday'},'spec':"
	  "{}}",
	  "service default/web ignored",
	  "Service default/web: metadata.creationTimestamp: 'yesterday' is not a time\n" },
	{ "BEY-1 never", CLOSING("'Never'"),
	  "service default/web 10.0.0.1 close-never", NULL },
	{ "BEY-1 ends them", CLOSING("'EndpointGone'"),
	  "service default/web 10.0.0.1 close-gone", NULL },
	{ "BEY-1 another word", CLOSING("'endpointgone'"),
	  "service default/web 10.0.0.1",
	  "Service default/web: metadata.annotations.vipmap/close-connections: 'endpointgone' is "
	  "neither Never nor EndpointGone; the configuration counts\n" },
	{ "BEY-1 no word", CLOSING("true"), "service default/web 10.0.0.1",
	  "Service default/web: metadata.annotations.vipmap/close-connections: a boolean is "
	  "neither Never nor EndpointGone; the configuration counts\n" },
	{ "BEY-1 none of it",
	  "{'metadata':{'namespace':'default','name':'web','annotations':{'close-connections':"
	  "'Never'}},'spec':{'clusterIP':'10.0.0.1'}}",
	  "service default/web 10.0.0.1", NULL },
	{ "no object", "[1]", NULL, "Service: a list where an object belongs" },
	{ "no metadata", "{'spec':{}}", NULL, "Service: metadata: missing" },
	{ "no name", "{'metadata':{'namespace':'default'}}", NULL,
	  "Service default/: metadata.name: missing" },
	{ "no namespace", "{'metadata':{'name':'web'}}", NULL,
	  "Service: metadata.namespace: missing" },
	{ "name is a number", "{'metadata':{'namespace':'default','name':5}}", NULL,
	  "Service default/: metadata.name: a number where a string belongs" },
	{ "name upper case", "{'metadata':{'namespace':'default','name':'Web'}}",
	  NULL, "Service default/Web: metadata.name: 'Web' is not a DNS label" },
	{ "name with a dot", "{'metadata':{'namespace':'default','name':'a.b'}}",
	  NULL, "Service default/a.b: metadata.name: 'a.b' is not a DNS label" },
	{ "name of 64 letters",
	  "{'metadata':{'namespace':'default','name':'"
	  "abcdefghijklmnopabcdefghijklmnopabcdefghijklmnopabcdefghijklmnop'}}",
	  NULL,
	  "Service default/abcdefghijklmnopabcdefghijklmnopabcdefghijklmnopabcdefghijklmnop: "
	  "metadata.name: 'abcdefghijklmnopabcdefghijklmnopabcdefghijklmnopabcdefghijklmnop' is "
	  "not a "
	  "DNS label" },
	{ "namespace that would end a comment",
	  "{'metadata':{'namespace':'a\\\"\\u001b[m','name':'w'}}", NULL,
	  "Service a\"?[m/: metadata.namespace: 'a\"?[m' is not a DNS label" },
	{ "uid is a list",
	  "{'metadata':{'namespace':'default','name':'web','uid':[]}}", NULL,
	  "Service default/web: metadata.uid: a list where a string belongs" },
};

START_TEST(test_metadata)
{
	check_row(KIND_SERVICE, &metadata[_i], metadata[_i].text);
}
END_TEST

START_TEST(test_default_namespace)
{
	static const char *const texts[] = {
		"{'metadata':{'name':'web'},'spec':{}}",
		"{'metadata':{'name':'web','namespace':''},'spec':{}}",
		"{'metadata':{'name':'web','namespace':null},'spec':{}}",
	};
	struct outcome o;
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		o = decode_text(KIND_SERVICE, texts[i], "default");
		expect(texts[i], "object", "service default/web ignored",
		       o.object.text);
		outcome_free(&o);
	}
	o = decode_text(KIND_SERVICE,
			"{'metadata':{'name':'web','namespace':5},'spec':{}}",
			"default");
	expect("number", "error",
	       "Service: metadata.namespace: a number where a string belongs",
	       o.error.text);
	outcome_free(&o);
}
END_TEST

START_TEST(test_many_complaints)
{
	struct strbuf text = STRBUF_INIT;
	struct outcome o;
	const char *line;
	int i, lines = 0;

	strbuf_adds(&text, "{'metadata':{'name':'web','namespace':'default'},'spec':{'clusterIP':'10.0.0.1',"
			   "'externalIPs':['x'");
	for (i = 0; i < 10000; i++)
		strbuf_adds(&text, ",'x'");
	strbuf_adds(&text, "]}}");
	o = decode_text(KIND_SERVICE, text.text, NULL);
	for (line = o.complaints.text; (line = strchr(line, '\n')); line++)
		lines++;
	ck_assert_int_eq(lines, 9);
	ck_assert(strstr(
		o.complaints.text,
		"Service default/web: more problems of this kind are not shown\n"));
	outcome_free(&o);
	strbuf_free(&text);
}
END_TEST

/* ---- EndpointSlice; @text is what follows metadata of service "web" */

static const struct row slices[] = {
	{ "plain",
	  "'addressType':'IPv4','ports':[{'name':'http','protocol':'TCP','port':8080}],"
	  "'endpoints':[{'addresses':['10.1.0.1']}]",
	  "slice default/web-1 of web IPv4 http:8080/tcp 10.1.0.1( ready serving )",
	  NULL },
	{ "EPS-2 IPv6",
	  "'addressType':'IPv6','endpoints':[{'addresses':['fd00::1']}]",
	  "slice default/web-1 of web IPv6 fd00::1( ready serving )", NULL },
	{ "EPS-2 FQDN",
	  "'addressType':'FQDN','endpoints':[{'addresses':['a.example']}]",
	  NULL, NULL },
	{ "address type unknown", "'addressType':'IPX'", NULL,
	  "EndpointSlice default/web-1: addressType: 'IPX' is not IPv4, IPv6 or FQDN" },
	{ "API-10 address type missing", "'endpoints':[]", NULL,
	  "EndpointSlice default/web-1: addressType: '' is not IPv4, IPv6 or FQDN" },
	{ "EPS-3 port without a name or protocol",
	  "'addressType':'IPv4','ports':[{'port':80},{'name':'','port':81},{'name':null,'port':82},"
	  "{'name':'u','port':83,'protocol':'UDP'}]",
	  "slice default/web-1 of web IPv4 :81/tcp u:83/udp", NULL },
	{ "EPS-4 port without number or number 0",
	  "'addressType':'IPv4','ports':[{'name':'a'},{'name':'b','port':0},{'name':'c','port':"
	  "null},"
	  "{'name':'d','port':65535}]",
	  "slice default/web-1 of web IPv4 d:65535/tcp", NULL },
	{ "EPS-4 no ports at all", "'addressType':'IPv4','ports':null",
	  "slice default/web-1 of web IPv4", NULL },
	{ "port of an unknown protocol is skipped",
	  "'addressType':'IPv4','ports':[{'name':'a','port':1,'protocol':'DCCP'},{'name':'b','port'"
	  ":2}]",
	  "slice default/web-1 of web IPv4 b:2/tcp",
	  "EndpointSlice default/web-1: ports[0].protocol: 'DCCP' is not TCP, UDP or SCTP\n" },
	{ "port out of range",
	  "'addressType':'IPv4','ports':[{'name':'a','port':65536}]", NULL,
	  "EndpointSlice default/web-1: ports[0].port: 65536 is not a port" },
	{ "port name", "'addressType':'IPv4','ports':[{'name':'A B','port':1}]", NULL,
	  "EndpointSlice default/web-1: ports[0].name: 'A B' is not a port name" },
	{ "EPS-6 first address only",
	  "'addressType':'IPv4','endpoints':[{'addresses':['10.1.0.1','10.1.0.2']}]",
	  "slice default/web-1 of web IPv4 10.1.0.1( ready serving )", NULL },
	{ "API-10 endpoints without a usable address are left out",
	  "'addressType':'IPv4','endpoints':[{'addresses':[]},{},{'addresses':['x']},{'addresses':["
	  "1]},"
	  "{'addresses':['fd00::1']},{'addresses':['10.1.0.7']}]",
	  "slice default/web-1 of web IPv4 10.1.0.7( ready serving )",
	  "EndpointSlice default/web-1: endpoints[0].addresses: missing\n"
	  "EndpointSlice default/web-1: endpoints[1].addresses: missing\n"
	  "EndpointSlice default/web-1: endpoints[2].addresses[0]: 'x' is not an IPv4 address\n"
	  "EndpointSlice default/web-1: endpoints[3].addresses[0]: a number is not an IP address\n"
	  "EndpointSlice default/web-1: endpoints[4].addresses[0]: 'fd00::1' is not an IPv4 "
	  "address\n" },
	{ "addresses that no endpoint can have",
	  "'addressType':'IPv4','endpoints':[{'addresses':['127.0.0.1']},{'addresses':['0.0.0.0']},"
	  "{'addresses':['169.254.1.1']},{'addresses':['224.0.0.1']},{'addresses':['10.1.0.7']}]",
	  "slice default/web-1 of web IPv4 10.1.0.7( ready serving )",
	  "EndpointSlice default/web-1: endpoints[0].addresses[0]: '127.0.0.1' cannot be an "
	  "endpoint\n"
	  "EndpointSlice default/web-1: endpoints[1].addresses[0]: '0.0.0.0' cannot be an "
	  "endpoint\n"
	  "EndpointSlice default/web-1: endpoints[2].addresses[0]: '169.254.1.1' cannot be an "
	  "endpoint\n"
	  "EndpointSlice default/web-1: endpoints[3].addresses[0]: '224.0.0.1' cannot be an "
	  "endpoint\n" },
	{ "IPv6 addresses that no endpoint can have",
	  "'addressType':'IPv6','endpoints':[{'addresses':['::1']},{'addresses':['::']},"
	  "{'addresses':['fe80::1']},{'addresses':['ff02::1']},{'addresses':['::ffff:10.0.0.1']}]",
	  "slice default/web-1 of web IPv6",
	  "EndpointSlice default/web-1: endpoints[0].addresses[0]: '::1' cannot be an endpoint\n"
	  "EndpointSlice default/web-1: endpoints[1].addresses[0]: '::' cannot be an endpoint\n"
	  "EndpointSlice default/web-1: endpoints[2].addresses[0]: 'fe80::1' cannot be an "
	  "endpoint\n"
	  "EndpointSlice default/web-1: endpoints[3].addresses[0]: 'ff02::1' cannot be an "
	  "endpoint\n"
	  "EndpointSlice default/web-1: endpoints[4].addresses[0]: '::ffff:10.0.0.1' is not an "
	  "IPv6 "
	  "address\n" },
	{ "API-11 leading zeros",
	  "'addressType':'IPv4','endpoints':[{'addresses':['010.1.0.09']}]",
	  "slice default/web-1 of web IPv4 10.1.0.9( ready serving )", NULL },
	{ "EPS-7 conditions",
	  "'addressType':'IPv4','endpoints':[{'addresses':['10.1.0.1'],'conditions':{}},"
	  "{'addresses':['10.1.0.2'],'conditions':{'ready':null,'serving':null,'terminating':null}}"
	  ","
	  "{'addresses':['10.1.0.3'],'conditions':{'ready':false,'serving':true,'terminating':true}"
	  "},"
	  "{'addresses':['10.1.0.4'],'conditions':{'ready':false,'serving':false}},"
	  "{'addresses':['10.1.0.5'],'conditions':{'ready':false}}]",
	  "slice default/web-1 of web IPv4 10.1.0.1( ready serving ) 10.1.0.2( ready serving )"
	  " 10.1.0.3( serving terminating ) 10.1.0.4( ) 10.1.0.5( serving )",
	  NULL },
	{ "condition is no boolean",
	  "'addressType':'IPv4','endpoints':[{'addresses':['10.1.0.1'],'conditions':{'ready':'yes'}"
	  "}]",
	  NULL,
	  "EndpointSlice default/web-1: endpoints[0].conditions.ready: a string where a boolean "
	  "belongs" },
	{ "EPS-9 local by nodeName only",
	  "'addressType':'IPv4','endpoints':[{'addresses':['10.1.0.1'],'nodeName':'node-a'},"
	  "{'addresses':['10.1.0.2'],'nodeName':'node-b'},{'addresses':['10.1.0.3'],'nodeName':''},"
	  "{'addresses':['10.1.0.4'],'nodeName':null}]",
	  "slice default/web-1 of web IPv4 10.1.0.1( ready serving local ) 10.1.0.2( ready serving "
	  ")"
	  " 10.1.0.3( ready serving ) 10.1.0.4( ready serving )",
	  NULL },
	{ "EPS-12 hints; the zone field is not looked at",
	  "'addressType':'IPv4','endpoints':["
	  "{'addresses':['10.1.0.1'],'zone':'c','hints':{'forZones':[{'name':'a'},{'name':'b'}]}},"
	  "{'addresses':['10.1.0.2'],'hints':{'forNodes':[{'name':'node-b'},{'name':'node-a'}]}},"
	  "{'addresses':['10.1.0.3'],'hints':{'forNodes':[{'name':'node-b'}],'forZones':[{'name':'"
	  "a'}]}},"
	  "{'addresses':['10.1.0.4'],'hints':{'forZones':[{'name':'a'},{'name':'b'}]}},"
	  "{'addresses':['10.1.0.5'],'zone':'a','hints':{'forZones':[],'forNodes':null}}]",
	  "slice default/web-1 of web IPv4 10.1.0.1( ready serving zones=a+b+ )"
	  " 10.1.0.2( ready serving node-hints node-hinted )"
	  " 10.1.0.3( ready serving node-hints zones=a+ ) 10.1.0.4( ready serving zones=a+b+ )"
	  " 10.1.0.5( ready serving )",
	  NULL },
	{ "endpoints is an object", "'addressType':'IPv4','endpoints':{}", NULL,
	  "EndpointSlice default/web-1: endpoints: an object where a list belongs" },
	{ "an endpoint is a string",
	  "'addressType':'IPv4','endpoints':['10.1.0.1']", NULL,
	  "EndpointSlice default/web-1: endpoints[0]: a string where an object belongs" },
};

START_TEST(test_slice)
{
	char *text = wrap("{'metadata':{'namespace':'default','name':'web-1','labels':"
			  "{'kubernetes.io/service-name':'web'}},@}",
			  slices[_i].text);

	check_row(KIND_SLICE, &slices[_i], text);
	free(text);
}
END_TEST

static const struct row slice_metadata[] = {
	{ "EPS-1 no labels",
	  "{'metadata':{'namespace':'default','name':'x'},'addressType':'IPv4'}",
	  NULL, NULL },
	{ "EPS-1 empty label",
	  "{'metadata':{'namespace':'default','name':'x','labels':{'kubernetes.io/"
	  "service-name':''}},"
	  "'addressType':'IPv4'}",
	  NULL, NULL },
	{ "EPS-1 name and owners mean nothing",
	  "{'metadata':{'namespace':'default','name':'web-1.x','ownerReferences':[{'kind':'Service'"
	  ","
	  "'name':'web'}],'labels':{'kubernetes.io/"
	  "service-name':'other','endpointslice.kubernetes.io/"
	  "managed-by':'me'}},'addressType':'IPv4'}",
	  "slice default/web-1.x of other IPv4", NULL },
	{ "label is no name",
	  "{'metadata':{'namespace':'default','name':'x','labels':{'kubernetes.io/service-name':'a "
	  "b'}},"
	  "'addressType':'IPv4'}",
	  NULL,
	  "EndpointSlice default/x: metadata.labels.kubernetes.io/service-name: 'a b' is not a DNS "
	  "label" },
	{ "label is a number",
	  "{'metadata':{'namespace':'default','name':'x','labels':{'kubernetes.io/"
	  "service-name':5}},"
	  "'addressType':'IPv4'}",
	  NULL,
	  "EndpointSlice default/x: metadata.labels.kubernetes.io/service-name: a number where a "
	  "string "
	  "belongs" },
	{ "name ends with a dot",
	  "{'metadata':{'namespace':'default','name':'x.','labels':{'kubernetes.io/"
	  "service-name':'a'}},"
	  "'addressType':'IPv4'}",
	  NULL,
	  "EndpointSlice default/x.: metadata.name: 'x.' is not a DNS subdomain" },
	{ "MET-2 trigger time",
	  "{'metadata':{'namespace':'default','name':'x','labels':{'kubernetes.io/"
	  "service-name':'a'},"
	  "'annotations':{'endpoints.kubernetes.io/"
	  "last-change-trigger-time':'1970-01-01T00:00:01.5Z'}},"
	  "'addressType':'IPv4'}",
	  "slice default/x of a IPv4 trigger=1500000", NULL },
	{ "MET-2 unreadable trigger time",
	  "{'metadata':{'namespace':'default','name':'x','labels':{'kubernetes.io/"
	  "service-name':'a'},"
	  "'annotations':{'endpoints.kubernetes.io/last-change-trigger-time':'soon'}},"
	  "'addressType':'IPv4'}",
	  "slice default/x of a IPv4", NULL },
};

START_TEST(test_slice_metadata)
{
	check_row(KIND_SLICE, &slice_metadata[_i], slice_metadata[_i].text);
}
END_TEST

/* Different lists of zones beyond what is remembered must stay apart. */
START_TEST(test_many_zone_lists)
{
	struct strbuf text = STRBUF_INIT, want = STRBUF_INIT;
	struct outcome o;
	int i;

	strbuf_adds(&text, "{'metadata':{'namespace':'d','name':'s','labels':{'kubernetes.io/service-name':"
			   "'w'}},'addressType':'IPv4','endpoints':[");
	strbuf_adds(&want, "slice d/s of w IPv4");
	for (i = 0; i < 100; i++) {
		strbuf_addf(&text,
			    "%s{'addresses':['10.1.0.%d'],'hints':{'forZones':[{'name':'z%d'}]}}",
			    i ? "," : "", i, i % 30);
		strbuf_addf(&want, " 10.1.0.%d( ready serving zones=z%d+ )", i,
			    i % 30);
	}
	strbuf_adds(&text, "]}");
	o = decode_text(KIND_SLICE, text.text, NULL);
	expect("zones", "object", want.text, o.object.text);
	outcome_free(&o);
	strbuf_free(&text);
	strbuf_free(&want);
}
END_TEST

/* Names are for people: what is wrong with them, or lacks, does no harm. */
START_TEST(test_endpoint_names)
{
	static const char text[] =
		"{'metadata':{'namespace':'d','name':'s','labels':{'kubernetes.io/service-name':"
		"'w'}},'addressType':'IPv4','endpoints':["
		"{'addresses':['10.1.0.1'],'nodeName':'n1','zone':'a',"
		"'targetRef':{'kind':'Pod','name':'p1'}},"
		"{'addresses':[],'nodeName':'left-out'},"
		"{'addresses':['10.1.0.2'],'targetRef':{'kind':'Node','name':'p2'},'zone':7},"
		"{'addresses':['10.1.0.3'],'nodeName':'n1','targetRef':{'kind':'Pod','name':'p3'}},"
		"{'addresses':['10.1.0.4'],'targetRef':{'name':'p4'}},"
		"{'addresses':['10.1.0.5'],'targetRef':{'kind':'Pod','uid':'name'}},"
		"{'addresses':['10.1.0.6'],'targetRef':{'kind':'Pod','name':{'name':'p6'}}},"
		"{'addresses':['10.1.0.7'],'targetRef':'p7'},"
		"{'addresses':['10.1.0.8'],'targetRef':{'name':'x','name':'p8','kind':'Pod'}}]}";
	static const char *const want[] = { "p1 n1 a", "  ", "p3 n1 ", "  ",
					    "  ",      "  ", "  ",     "p8  " };
	const unsigned int n = sizeof(want) / sizeof(want[0]);
	const struct endpoint_names *names;
	struct arena scratch = ARENA_INIT;
	struct strbuf complaints = STRBUF_INIT;
	struct decoder d = { .node_name = "n",
			     .scratch = &scratch,
			     .complain = add_complaint,
			     .ctx = &complaints };
	char *copy = with_quotes(text), got[64];
	struct errbuf eb = { "" };
	struct slice *slice;
	struct json *json;
	unsigned int i;

	json = json_parse(copy, strlen(copy), &eb);
	ck_assert_msg(json, "%s", eb.text);
	slice = decode_slice(&d, json, &eb);
	ck_assert_msg(slice, "%s", eb.text);
	ck_assert_uint_eq(slice->n_endpoints, n);
	names = slice_names(slice, &scratch);
	for (i = 0; i < n; i++) {
		snprintf(got, sizeof(got), "%s %s %s", names[i].pod,
			 names[i].node, names[i].zone);
		expect("names", "endpoint", want[i], got);
	}
	free(slice);
	json_free(json);
	free(copy);
	strbuf_free(&complaints);
	arena_free(&scratch);
}
END_TEST

/* ---- ServiceCIDR and Node */

static const struct row cidrs[] = {
	{ "VER-13 two families, whatever the status",
	  "{'metadata':{'name':'kubernetes'},'spec':{'cidrs':['172.30.0.0/16','fd00:10:96::/112']},"
	  "'status':{'conditions':[{'type':'Ready','status':'False'}]}}",
	  "cidr kubernetes range=172.30.0.0/16 range=fd00:10:96::/112", NULL },
	{ "API-11 host bits",
	  "{'metadata':{'name':'a.b'},'spec':{'cidrs':['172.30.000.041/016']}}",
	  "cidr a.b range=172.30.0.0/16", NULL },
	{ "API-10 bad range",
	  "{'metadata':{'name':'a'},'spec':{'cidrs':['172.30.0.0/16','x']}}",
	  NULL, "ServiceCIDR a: spec.cidrs[1]: 'x' is not an address range" },
	{ "everything", "{'metadata':{'name':'a'},'spec':{'cidrs':['0.0.0.0/0']}}",
	  NULL, "ServiceCIDR a: spec.cidrs[0]: '0.0.0.0/0' covers all addresses" },
	{ "no ranges", "{'metadata':{'name':'a'},'spec':{}}", NULL,
	  "ServiceCIDR a: spec.cidrs: missing" },
	{ "not a list", "{'metadata':{'name':'a'},'spec':{'cidrs':'10.0.0.0/8'}}",
	  NULL, "ServiceCIDR a: spec.cidrs: a string where a list belongs" },
};

START_TEST(test_service_cidr)
{
	check_row(KIND_SERVICE_CIDR, &cidrs[_i], cidrs[_i].text);
}
END_TEST

static const struct row nodes[] = {
	{ "NODE-2 order of addresses, EPS-13 zone",
	  "{'metadata':{'name':'node-a','uid':'u1','labels':{'topology.kubernetes.io/zone':'z1'}},"
	  "'spec':{'podCIDRs':['10.180.0.0/24','fd00:1::/64','10.181.0.0/"
	  "24']},'status':{'addresses':["
	  "{'type':'Hostname','address':'node-a'},{'type':'ExternalIP','address':'192.0.2.1'},"
	  "{'type':'InternalIP','address':'fd00::1'},{'type':'InternalIP','address':'10.0.0.1'}]}}",
	  "node node-a zone=z1 fd00::1 10.0.0.1 192.0.2.1 pods=10.180.0.0/24 pods=10.181.0.0/24 "
	  "pods=fd00:1::/64 uid=u1",
	  NULL },
	{ "nothing known", "{'metadata':{'name':'node-a'}}", "node node-a", NULL },
	{ "API-10 bad entries are left out",
	  "{'metadata':{'name':'node-a'},'spec':{'podCIDRs':['x','10.180.0.0/"
	  "24']},'status':{'addresses':["
	  "{'type':'InternalIP','address':'x'},{'type':'InternalIP','address':'10.0.0.1'},{'type':"
	  "'InternalIP'}]}}",
	  "node node-a 10.0.0.1 pods=10.180.0.0/24",
	  "Node node-a: spec.podCIDRs[0]: 'x' is not an address range\n"
	  "Node node-a: status.addresses[0].address: 'x' is not an IP address\n"
	  "Node node-a: status.addresses[2].address: '' is not an IP address\n" },
	{ "HZ-4 taint and deletion",
	  "{'metadata':{'name':'node-a','deletionTimestamp':'2026-11-23T07:20:20Z'},'spec':{'"
	  "taints':["
	  "{'key':'other','effect':'NoSchedule'},{'key':'ToBeDeletedByClusterAutoscaler','value':'"
	  "1'}]}}",
	  "node node-a deleted to-be-deleted", NULL },
	{ "HZ-4 other taints",
	  "{'metadata':{'name':'node-a'},'spec':{'taints':[{'key':'other'}]}}",
	  "node node-a", NULL },
	{ "zone is a number",
	  "{'metadata':{'name':'node-a','labels':{'topology.kubernetes.io/zone':1}}}",
	  NULL,
	  "Node node-a: metadata.labels.topology.kubernetes.io/zone: a number where a string "
	  "belongs" },
	{ "addresses is an object",
	  "{'metadata':{'name':'node-a'},'status':{'addresses':{}}}", NULL,
	  "Node node-a: status.addresses: an object where a list belongs" },
};

START_TEST(test_node)
{
	check_row(KIND_NODE, &nodes[_i], nodes[_i].text);
}
END_TEST

/* ---- selectors */

static const struct {
	const char *name, *text;
	bool service, slice;
} selections[] = {
	{ "plain",
	  "{'metadata':{'labels':{'a':'b'}},'spec':{'clusterIP':'10.0.0.1'}}",
	  true, true },
	{ "SVC-3 API-7 empty value counts",
	  "{'metadata':{'labels':{'service.kubernetes.io/service-proxy-name':''}}}",
	  false, true },
	{ "API-7 null value counts",
	  "{'metadata':{'labels':{'service.kubernetes.io/service-proxy-name':null}}}",
	  false, true },
	{ "API-1 clusterIP None", "{'metadata':{},'spec':{'clusterIP':'None'}}",
	  false, true },
	{ "API-2 headless",
	  "{'metadata':{'labels':{'service.kubernetes.io/headless':'x'}}}",
	  true, false },
	{ "annotations are no labels",
	  "{'metadata':{'annotations':{'service.kubernetes.io/headless':'x'}}}",
	  true, true },
	{ "labels are a list",
	  "{'metadata':{'labels':['service.kubernetes.io/headless']}}", true, true },
};

START_TEST(test_selected)
{
	char *text = with_quotes(selections[_i].text);
	struct json *json = json_parse(text, strlen(text), NULL);

	ck_assert_msg(decode_service_selected(json) == selections[_i].service,
		      "%s: service", selections[_i].name);
	ck_assert_msg(decode_slice_selected(json) == selections[_i].slice,
		      "%s: slice", selections[_i].name);
	json_free(json);
	free(text);
}
END_TEST

/* ---- time */

static const struct {
	const char *text;
	int err;
	int64_t want_us;
} times[] = {
	{ "1970-01-01T00:00:00Z", 0, 0 },
	{ "1970-01-01T00:00:00.000001Z", 0, 1 },
	{ "1970-01-01T00:00:00.1234567899Z", 0, 123456 },
	{ "1969-12-31T23:59:59Z", 0, -1000000 },
	{ "2026-11-23T07:20:20Z", 0, 1795418420000000 },
	{ "2026-11-23T08:20:20+01:00", 0, 1795418420000000 },
	{ "2026-11-23T01:50:20-05:30", 0, 1795418420000000 },
	{ "2000-02-29T00:00:00Z", 0, 951782400000000 },
	{ "0000-01-01T00:00:00Z", 0, -62167219200000000 },
	{ "", -22, 0 },
	{ "2026-11-23", -22, 0 },
	{ "2026-11-23T07:20:20", -22, 0 },
	{ "2026-13-23T07:20:20Z", -22, 0 },
	{ "2026-00-23T07:20:20Z", -22, 0 },
	{ "2026-11-23T24:20:20Z", -22, 0 },
	{ "2026-11-23T07:20:20.Z", -22, 0 },
	{ "2026-11-23T07:20:20Zx", -22, 0 },
	{ "2026-11-23T07:20:20+0100", -22, 0 },
};

START_TEST(test_time)
{
	int64_t got = 0;
	int err = time_parse(times[_i].text, &got);

	ck_assert_msg(err == times[_i].err && got == times[_i].want_us,
		      "%s: want %d %lld, got %d %lld", times[_i].text,
		      times[_i].err, (long long)times[_i].want_us, err,
		      (long long)got);
}
END_TEST

/* ---- bodies of answers of kube-apiserver v1.36 */

static struct strbuf read_body(const char *name)
{
	struct strbuf sb = STRBUF_INIT;
	char path[256], bytes[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "tests/data/apiserver/%s.json", name);
	f = fopen(path, "r");
	ck_assert_msg(f, "%s: not there; run at the top of the tree", path);
	while ((n = fread(bytes, 1, sizeof(bytes), f)) > 0)
		strbuf_add(&sb, bytes, n);
	fclose(f);
	return sb;
}

struct recorded {
	struct decoder decoder;
	struct outcome outcome;
	enum kind kind;
	bool events;
};

static int decode_recorded(void *ctx, const char *text, size_t length,
			   struct errbuf *eb)
{
	struct json *json = json_parse(text, length, eb);
	struct recorded *rec = ctx;

	ck_assert_msg(json, "%s: %.*s", eb->text, (int)length, text);
	decode_any(&rec->decoder, rec->kind,
		   rec->events ? json_get(json, "object") : json, &rec->outcome);
	if (!*rec->outcome.error.text)
		strbuf_addc(&rec->outcome.object, '\n');
	json_free(json);
	return 0;
}

static int ignore_rest(void *ctx, const char *text, size_t length, struct errbuf *eb)
{
	(void)ctx, (void)text, (void)length, (void)eb;
	return 0;
}

static const struct {
	const char *file;
	enum kind kind;
	bool events;
	const char *want; /* a line of the result */
} recordings[] = {
	{ "list-services", KIND_SERVICE, false,
	  "service default/headless ignored created=" },
	{ "list-services", KIND_SERVICE, false,
	  "service default/ext ignored created=" },
	{ "list-endpointslices", KIND_SLICE, false,
	  " of headless IPv4 :9376/tcp 10.180.0.2( ready serving ) 10.180.0.1( ready serving local "
	  ") "
	  "trigger=" },
	{ "list-servicecidrs", KIND_SERVICE_CIDR, false,
	  "cidr kubernetes range=172.30.0.0/16 range=fd00:10:96::/112\n" },
	{ "list-node-fieldselector", KIND_NODE, false,
	  "node node-a zone=zone-1 uid=" },
	{ "watch-services-live", KIND_SERVICE, true,
	  "service default/my-service 172.30.20.117 :80/tcp/31369 created=" },
	{ "watch-endpointslices-live", KIND_SLICE, true, "( serving terminating" },
};

START_TEST(test_recorded)
{
	static const struct splitter_ops ops = { NULL, decode_recorded,
						 ignore_rest };
	struct strbuf body = read_body(recordings[_i].file);
	struct arena scratch = ARENA_INIT;
	struct recorded rec = { .kind = recordings[_i].kind,
				.events = recordings[_i].events };
	struct errbuf eb = { "" };
	struct splitter *s;

	rec.decoder = (struct decoder){ .node_name = "node-a",
					.scratch = &scratch,
					.complain = add_complaint,
					.ctx = &rec.outcome.complaints };
	strbuf_adds(&rec.outcome.complaints, "");
	s = splitter_new(rec.events ? SPLIT_STREAM : SPLIT_LIST, &ops, &rec);
	ck_assert_msg(splitter_feed(s, body.text, body.length, &eb) == 0, "%s",
		      eb.text);
	ck_assert_str_eq(rec.outcome.complaints.text, "");
	ck_assert_msg(strstr(rec.outcome.object.text, recordings[_i].want),
		      "%s: want\n%s\nin\n%s", recordings[_i].file,
		      recordings[_i].want, rec.outcome.object.text);
	splitter_free(s);
	outcome_free(&rec.outcome);
	arena_free(&scratch);
	strbuf_free(&body);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("decode");
	TCase *tc = tcase_create("decode");

	ADD_LOOP(tc, test_service, services);
	ADD_LOOP(tc, test_metadata, metadata);
	tcase_add_test(tc, test_default_namespace);
	tcase_add_test(tc, test_many_complaints);
	ADD_LOOP(tc, test_slice, slices);
	ADD_LOOP(tc, test_slice_metadata, slice_metadata);
	tcase_add_test(tc, test_many_zone_lists);
	tcase_add_test(tc, test_endpoint_names);
	ADD_LOOP(tc, test_service_cidr, cidrs);
	ADD_LOOP(tc, test_node, nodes);
	ADD_LOOP(tc, test_selected, selections);
	ADD_LOOP(tc, test_time, times);
	ADD_LOOP(tc, test_recorded, recordings);
	suite_add_tcase(suite, tc);
	return suite;
}
