/*
 * Objects from files. Each case writes files to a directory of its own, loads it, and compares what
 * the sink saw, a line per call, with messages first. "@" stands for the directory.
 */
#include "watch/manifests.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"
#include "tests/support/suite.h"
#include "tests/support/objects.h"

/* ---- a sink that writes down what it gets */

struct recorder {
	struct strbuf log;
	bool in_list[N_KINDS];
	unsigned int lists;
};

static void record(struct recorder *r, enum kind kind, void *object)
{
	ck_assert_msg(r->in_list[kind], "%s outside of a list", kind_name(kind));
	strbuf_addc(&r->log, '\n');
	free(object);
}

static int put_service(void *ctx, struct service *service)
{
	struct recorder *r = ctx;

	describe_service(&r->log, service);
	record(r, KIND_SERVICE, service);
	return 0;
}

static int put_slice(void *ctx, struct slice *slice)
{
	struct recorder *r = ctx;

	describe_slice(&r->log, slice);
	record(r, KIND_SLICE, slice);
	return 0;
}

static int put_service_cidr(void *ctx, struct service_cidr *cidr)
{
	struct recorder *r = ctx;

	describe_service_cidr(&r->log, cidr);
	record(r, KIND_SERVICE_CIDR, cidr);
	return 0;
}

static int put_node(void *ctx, struct node *node)
{
	struct recorder *r = ctx;

	describe_node(&r->log, node);
	record(r, KIND_NODE, node);
	return 0;
}

static void gone(void *ctx, enum kind kind, const char *namespace, const char *name)
{
	(void)ctx;
	ck_abort_msg("gone: %s %s/%s", kind_name(kind), namespace, name);
}

static void list_begin(void *ctx, enum kind kind)
{
	struct recorder *r = ctx;

	ck_assert(!r->in_list[kind]);
	r->in_list[kind] = true;
}

static void list_end(void *ctx, enum kind kind)
{
	struct recorder *r = ctx;

	ck_assert(r->in_list[kind]);
	r->in_list[kind] = false;
	r->lists++;
}

static void complain(void *ctx, const char *message)
{
	struct recorder *r = ctx;

	strbuf_addf(&r->log, "! %s\n", message);
}

static struct object_sink sink_of(struct recorder *r)
{
	return (struct object_sink){
		r,    put_service, put_slice, put_service_cidr, put_node,
		gone, list_begin,  list_end,  complain
	};
}

/* ---- directories */

static char directory[64];

static void make_directory(void)
{
	snprintf(directory, sizeof(directory), "/tmp/test_manifests.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void remove_directory(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", directory);
	ck_assert_int_eq(system(command), 0);
}

static const char *path_of(const char *name)
{
	static char paths[4][128];
	static unsigned int turn;
	char *path = paths[turn++ % 4];

	snprintf(path, 128, "%s/%s", directory, name);
	return path;
}

static void write_bytes(const char *name, const char *text)
{
	FILE *f = fopen(path_of(name), "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
}

/* Single quotes stand for double ones. */
static void write_file(const char *name, const char *text)
{
	char *quoted = with_quotes(text);

	write_bytes(name, quoted);
	free(quoted);
}

/* Replaces "@" by the directory. */
static char *resolve(const char *text)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_adds(&sb, "");
	for (; *text; text++) {
		if (*text == '@')
			strbuf_adds(&sb, directory);
		else
			strbuf_addc(&sb, *text);
	}
	return sb.text;
}

static void expect(const char *name, const char *want, const char *got)
{
	char *resolved = resolve(want);

	ck_assert_msg(strcmp(resolved, got) == 0, "%s: want\n%s\ngot\n%s", name,
		      resolved, got);
	free(resolved);
}

static int load(struct manifests *m, struct recorder *r, struct errbuf *eb)
{
	struct object_sink sink = sink_of(r);

	memset(r, 0, sizeof(*r));
	strbuf_adds(&r->log, "");
	return manifests_load(m, &sink, eb);
}

/* ---- contents */

#define SERVICE(name, ip)                                                      \
	"{'kind':'Service','apiVersion':'v1','metadata':{'name':'" name        \
	"'},'spec':{'clusterIP':'" ip "'}}"
#define SERVICE_ITEM(name, ip)                                                 \
	"{'metadata':{'name':'" name "'},'spec':{'clusterIP':'" ip "'}}"

static const struct {
	const char *name;
	struct {
		const char *name, *text;
	} files[4];
	const char *want; /* the log, or the error */
	bool fails;
} cases[] = {
	{ "empty directory", { { NULL, NULL } }, "", false },
	{ "YAML with several documents",
	  { { "a.yaml",
	      "# comment\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: "
	      "x\nspec:\n"
	      "  clusterIP: 10.0.0.1\n  ports:\n  - port: 80\n---\n---\n"
	      "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n"
	      "  namespace: x\n  labels: {kubernetes.io/service-name: web}\naddressType: IPv4\n"
	      "ports: [{name: '', port: 8080}]\nendpoints:\n- addresses: [10.1.0.1]\n...\n" } },
	  "service x/web 10.0.0.1 :80/tcp\n"
	  "slice x/web-1 of web IPv4 :8080/tcp 10.1.0.1( ready serving )\n",
	  false },
	{ "all kinds, in JSON, one after the other",
	  { { "a.json",
	      SERVICE("web", "10.0.0.1") "\n"
					 "{'kind':'Node','apiVersion':'v1','metadata':{'name':'node-a'}}"
					 "{'kind':'Node','apiVersion':'v1','metadata':{'name':'node-b'}}"
					 "{'kind':'ServiceCIDR','apiVersion':'networking.k8s.io/"
					 "v1','metadata':{'name':'k'},"
					 "'spec':{'cidrs':['10.0.0.0/16']}}" } },
	  "service default/web 10.0.0.1\ncidr k range=10.0.0.0/16\nnode node-a\n",
	  false },
	{ "kind List, kubectl's order of keys",
	  { { "a.json",
	      "{'apiVersion':'v1','items':[" SERVICE("a", "10.0.0.1") ",\n" SERVICE(
		      "b", "10.0.0.2") "],'kind':'List','metadata':{'resourceVersion':''}}" } },
	  "service default/a 10.0.0.1\nservice default/b 10.0.0.2\n",
	  false },
	{ "typed list, items without kind",
	  { { "a.json",
	      "{'kind':'ServiceList','apiVersion':'v1','items':[" SERVICE_ITEM(
		      "a", "10.0.0.1") "," SERVICE_ITEM("b", "10.0.0.2") "]}" } },
	  "service default/a 10.0.0.1\nservice default/b 10.0.0.2\n",
	  false },
	{ "typed list, kind at the end",
	  { { "a.json",
	      "{'items':[" SERVICE_ITEM("a", "10.0.0.1") "," SERVICE_ITEM(
		      "b", "10.0.0.2") "," SERVICE_ITEM("c", "10.0.0.3") "],'kind':'ServiceList','"
									 "apiVersion':'v1'}" } },
	  "service default/a 10.0.0.1\nservice default/b 10.0.0.2\nservice default/c 10.0.0.3\n",
	  false },
	{ "the same in YAML",
	  { { "a.yml",
	      "items:\n- metadata: {name: a}\n  spec: {clusterIP: 10.0.0.1}\n- metadata: {name: "
	      "b}\n"
	      "  spec: {clusterIP: 10.0.0.2}\napiVersion: v1\nkind: ServiceList\n---\n"
	      "kind: List\napiVersion: v1\nitems:\n- {kind: Service, apiVersion: v1, metadata: "
	      "{name: c}, spec: {clusterIP: 10.0.0.3}}\n" } },
	  "service default/a 10.0.0.1\nservice default/b 10.0.0.2\nservice default/c 10.0.0.3\n",
	  false },
	{ "list without kind",
	  { { "a.json", "{'items':[" SERVICE_ITEM("a", "10.0.0.1") "]}" } },
	  "! @/a.json: an object default/: kind: missing\n",
	  false },
	{ "empty lists",
	  { { "a.json",
	      "{'kind':'List','apiVersion':'v1','items':[]}{'kind':'ServiceList',"
	      "'apiVersion':'v1','items':null}" SERVICE("a", "10.0.0.1") } },
	  "service default/a 10.0.0.1\n",
	  false },
	{ "List of things without a kind",
	  { { "a.json",
	      "{'kind':'List','apiVersion':'v1','items':[{'metadata':{'name':'x'}},{}]}" } },
	  "! @/a.json: an object default/x: kind: missing\n! @/a.json: an object default/: kind: "
	  "missing\n",
	  false },
	{ "unknown kinds are noted once",
	  { { "a.yaml", "kind: ConfigMap\napiVersion: v1\n---\nkind: ConfigMap\napiVersion: v1\n---\n"
			"kind: Service\napiVersion: serving.knative.dev/v1\n" },
	    { "b.yaml", "kind: ConfigMap\napiVersion: v1\n---\nkind: ConfigMapList\napiVersion: v1\nitems:\n"
			"- {}\n" } },
	  "! kind v1 ConfigMap is not used here, 4 objects left out\n"
	  "! kind serving.knative.dev/v1 Service is not used here, 1 object left out\n",
	  false },
	{ "what is read again as YAML is told once",
	  { { "a.json",
	      "{'kind':'ConfigMap','apiVersion':'v1'}\n{'kind':'Service','apiVersion':'v1',"
	      "'metadata':{'name':'a'},'spec':{'clusterIP':'10.0.0.1','externalIPs':['x']}}\n" },
	    { "b.yaml", "{'kind':'ConfigMap','apiVersion':'v1'}\n---\n{'kind':'Service','apiVersion':'v1',"
			"'metadata':{'name':'b'},'spec':{'clusterIP':'10.0.0.2','externalIPs':['y']}}\n"
			"---\n" SERVICE("c", "10.0.0.3") "\n" } },
	  "! @/a.json: Service default/a: spec.externalIPs[0]: 'x' is not an IP address\n"
	  "! @/b.yaml: Service default/b: spec.externalIPs[0]: 'y' is not an IP address\n"
	  "! kind v1 ConfigMap is not used here, 2 objects left out\n"
	  "service default/a 10.0.0.1\nservice default/b 10.0.0.2\nservice default/c 10.0.0.3\n",
	  false },
	{ "something else that has items",
	  { { "a.json", "{'kind':'Foo','apiVersion':'x/v1','items':[" SERVICE(
				"a", "10.0.0.1") ",{}]}" } },
	  "! kind x/v1 Foo is not used here, 1 object left out\n",
	  false },
	{ "unknown version of a known kind",
	  { { "a.yaml",
	      "kind: EndpointSlice\napiVersion: discovery.k8s.io/v1beta1\nmetadata: "
	      "{name: x}\n---\n"
	      "kind: Service\napiVersion: v2\nmetadata: {name: x, namespace: y}\n" } },
	  "! @/a.yaml: EndpointSlice default/x: apiVersion: 'discovery.k8s.io/v1beta1' is not "
	  "known, only "
	  "discovery.k8s.io/v1 is\n"
	  "! @/a.yaml: Service y/x: apiVersion: 'v2' is not known, only v1 is\n",
	  false },
	{ "no kind",
	  { { "a.yaml", "metadata: {name: x}\n" } },
	  "! @/a.yaml: an object default/x: kind: missing\n",
	  false },
	{ "API-10 a bad object changes nothing else",
	  { { "a.yaml",
	      "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {clusterIP: 10.0.0.1, "
	      "ports: "
	      "[{port: 80, name: x}, {port: 70000}]}\n---\n"
	      "kind: Service\napiVersion: v1\nmetadata: {name: b}\nspec: {clusterIP: "
	      "10.0.0.2}\n---\n"
	      "kind: Node\napiVersion: v1\nmetadata: {name: A}\n---\n"
	      "kind: ServiceCIDR\napiVersion: networking.k8s.io/v1\nmetadata: {name: a}\n---\n"
	      "kind: EndpointSlice\napiVersion: discovery.k8s.io/v1\nmetadata: {name: a}\n"
	      "addressType: IPv4\n---\n"
	      "kind: Pod\napiVersion: v1\nmetadata: {name: a, labels: x}\n" } },
	  "! @/a.yaml: Service default/a: spec.ports[1].port: 70000 is not a port\n"
	  "! @/a.yaml: Node A: metadata.name: 'A' is not a DNS subdomain\n"
	  "! @/a.yaml: ServiceCIDR a: spec.cidrs: missing\n"
	  "! @/a.yaml: Pod default/a: metadata.labels: a string where an object belongs\n"
	  "service default/b 10.0.0.2\n",
	  false },
	{ "what is no text is not told as such",
	  { { "a.json",
	      "{'kind':'Node','apiVersion':'v1','metadata':{'name':'a~\\u007f\\u001f b'}}" } },
	  "! @/a.json: Node a~?? b: metadata.name: 'a~?? b' is not a DNS subdomain\n",
	  false },
	{ "an entry that is passed over",
	  { { "a.json", "{'kind':'Service','apiVersion':'v1','metadata':{'name':'a'},'spec':{'clusterIP':"
			"'10.0.0.1','externalIPs':['x']}}" } },
	  "! @/a.json: Service default/a: spec.externalIPs[0]: 'x' is not an IP address\n"
	  "service default/a 10.0.0.1\n",
	  false },
	{ "repeated keys",
	  { { "a.yaml", "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {clusterIP: 10.0.0.1, "
			"clusterIP: 10.0.0.2}\n" } },
	  "! @/a.yaml: Service default/a: spec.clusterIP: repeated, the last one counts\n"
	  "service default/a 10.0.0.2\n",
	  false },
	{ "the later object of a name counts",
	  { { "b.json", SERVICE("web", "10.0.0.2") SERVICE("web", "10.0.0.3") },
	    { "a.yaml", SERVICE("web", "10.0.0.1") "\n" } },
	  "! @/b.json: Service default/web: replaces the one in @/a.yaml\n"
	  "! @/b.json: Service default/web: replaces the one in @/b.json\n"
	  "service default/web 10.0.0.3\n",
	  false },
	{ "the same name in other namespaces and kinds",
	  { { "a.json",
	      SERVICE("web", "10.0.0.1") "{'kind':'Service','apiVersion':'v1','metadata':{'name':"
					 "'web','namespace':'x'},'spec':{'clusterIP':'10.0.0.2'}}"
					 "{'kind':'ServiceCIDR','apiVersion':'networking.k8s.io/"
					 "v1','metadata':{'name':'web'},"
					 "'spec':{'cidrs':['10.0.0.0/16']}}" } },
	  "service default/web 10.0.0.1\nservice x/web 10.0.0.2\ncidr web range=10.0.0.0/16\n",
	  false },
	{ "SVC-3 API-1 API-2 API-7 selectors",
	  { { "a.yaml",
	      "kind: Service\napiVersion: v1\nmetadata: {name: a, labels: {service.kubernetes.io/"
	      "service-proxy-name: ''}}\nspec: {clusterIP: 10.0.0.1}\n---\n"
	      "kind: Service\napiVersion: v1\nmetadata: {name: b}\nspec: {clusterIP: None}\n---\n"
	      "kind: EndpointSlice\napiVersion: discovery.k8s.io/v1\nmetadata: {name: c, labels: {"
	      "kubernetes.io/service-name: x, service.kubernetes.io/headless: ''}}\naddressType: "
	      "IPv4\n---\n"
	      "kind: EndpointSlice\napiVersion: discovery.k8s.io/v1\nmetadata: {name: d}\n"
	      "addressType: IPv4\n" } },
	  "",
	  false },
	{ "an object that is not for us replaces one that is",
	  { { "a.json", SERVICE("web", "10.0.0.1") SERVICE("web", "None") } },
	  "! @/a.json: Service default/web: replaces the one in @/a.json\n",
	  false },
	{ "SVC-1 the documentation's Service without clusterIP, SVC-2 ExternalName",
	  { { "a.yaml",
	      "apiVersion: v1\nkind: Service\nmetadata:\n  name: my-service\nspec:\n  selector:\n"
	      "    app.kubernetes.io/name: MyApp\n  ports:\n    - protocol: TCP\n      port: 80\n"
	      "      targetPort: 9376\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: ext\n"
	      "spec:\n  type: ExternalName\n  externalName: my.database.example.com\n" } },
	  "! @/a.yaml: Service default/my-service: spec.clusterIP: missing, not programmed\n"
	  "service default/my-service ignored\nservice default/ext ignored\n",
	  false },
	{ "endpoints from Pods",
	  { { "a.yaml",
	      "apiVersion: v1\nkind: Service\nmetadata:\n  name: my-service\nspec:\n"
	      "  clusterIP: 10.0.0.1\n  selector:\n    app.kubernetes.io/name: MyApp\n  ports:\n"
	      "    - protocol: TCP\n      port: 80\n      targetPort: http\n" },
	    { "p.yaml",
	      "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p1\n  labels: {app.kubernetes.io/"
	      "name: MyApp}\nspec:\n  nodeName: node-a\n  containers:\n  - name: c\n    ports:\n"
	      "    - {name: http, containerPort: 9376}\nstatus:\n  podIP: 10.1.0.1\n  conditions:\n"
	      "  - {type: Ready, status: 'True'}\n---\n"
	      "apiVersion: v1\nkind: Pod\nmetadata: {name: p2}\nstatus: {phase: Succeeded}\n" } },
	  "service default/my-service 10.0.0.1 :80/tcp\n"
	  "slice default/my-service:IPv4-1 of my-service IPv4 :9376/tcp 10.1.0.1( ready serving "
	  "local )\n",
	  false },
	{ "no endpoints from Pods where there is a slice",
	  { { "a.yaml",
	      "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.0.0.1, "
	      "selector: {a: b}, ports: [{port: 80}]}\n---\n"
	      "apiVersion: v1\nkind: Pod\nmetadata: {name: p1, labels: {a: b}}\nstatus: {podIP: "
	      "10.1.0.1}\n---\n"
	      "kind: EndpointSlice\napiVersion: discovery.k8s.io/v1\nmetadata: {name: c, labels: {"
	      "kubernetes.io/service-name: web}}\naddressType: IPv4\n" } },
	  "service default/web 10.0.0.1 :80/tcp\nslice default/c of web IPv4\n",
	  false },
	{ "only the names of manifests",
	  { { "a.txt", "x: [" },
	    { ".b.yaml", "x: [" },
	    { "c.yaml~", "x: [" },
	    { ".yaml", "x: [" } },
	  "",
	  false },
	{ "JSON documents between dashes",
	  { { "a.yaml",
	      SERVICE("a", "10.0.0.1") "\n---\n{'kind':'ConfigMap','apiVersion':'v1'}\n--"
				       "-\n" SERVICE("b", "10.0.0.2") "\n" } },
	  "! kind v1 ConfigMap is not used here, 1 object left out\n"
	  "service default/a 10.0.0.1\nservice default/b 10.0.0.2\n",
	  false },
	{ "YAML with braces",
	  { { "a.yaml", "{kind: Service, apiVersion: v1, metadata: {name: a}, spec: {clusterIP: "
			"10.0.0.1}}" } },
	  "service default/a 10.0.0.1\n",
	  false },
	{ "broken YAML: nothing is loaded",
	  { { "a.yaml", SERVICE("a", "10.0.0.1") },
	    { "b.yaml", "kind: Service\nmetadata: [" } },
	  "@/b.yaml: line 3, column 1: did not find expected node content",
	  true },
	{ "broken JSON: nothing is loaded",
	  { { "a.json", SERVICE("a", "10.0.0.1") "{'kind'" } },
	  "@/a.json: byte 99: the text ends in the middle of an object",
	  true },
	{ "broken object in a list",
	  { { "a.json", "{'kind':'List','apiVersion':'v1','items':[" SERVICE(
				"a", "10.0.0.1") ",{'a':x}]}" } },
	  "@/a.json: in the object '{\"a\":x}...': line 1, column 6: not JSON",
	  true },
	{ "text that is no object",
	  { { "a.yaml", "hello world\n" } },
	  "@/a.yaml: document 1: a string where an object belongs",
	  true },
	{ "a list of objects without a List",
	  { { "a.yaml", "- kind: Service\n" } },
	  "@/a.yaml: document 1: a list where an object belongs",
	  true },
};

START_TEST(test_cases)
{
	char *paths[] = { directory, NULL };
	struct errbuf eb = { "" };
	struct recorder r;
	struct manifests *m;
	size_t i;
	int err;

	make_directory();
	for (i = 0; i < 4 && cases[_i].files[i].name; i++)
		write_file(cases[_i].files[i].name, cases[_i].files[i].text);
	m = manifests_new(paths, "node-a");
	err = load(m, &r, &eb);
	ck_assert_msg(!err == !cases[_i].fails, "%s: %d %s", cases[_i].name,
		      err, eb.text);
	expect(cases[_i].name, cases[_i].want, err ? eb.text : r.log.text);
	ck_assert_uint_eq(r.lists, err ? 0 : N_KINDS);
	if (err)
		ck_assert_msg(!*r.log.text, "%s: the sink saw\n%s",
			      cases[_i].name, r.log.text);
	manifests_free(m);
	strbuf_free(&r.log);
	remove_directory();
}
END_TEST

/* ---- paths */

START_TEST(test_several_paths)
{
	char *paths[] = { NULL, NULL, NULL };
	struct errbuf eb = { "" };
	struct manifests *m;
	struct recorder r;

	make_directory();
	mkdir(path_of("sub.yaml"), 0755); /* not deeper */
	write_file("sub.yaml/x.yaml", "x: [");
	write_file("a.yaml", SERVICE("web", "10.0.0.1"));
	write_file("list",
		   SERVICE("web", "10.0.0.2")); /* a file that is named may be called anything */
	paths[0] = directory;
	paths[1] = strdup(path_of("list"));
	m = manifests_new(paths, "node-a");
	ck_assert_msg(load(m, &r, &eb) == 0, "%s", eb.text);
	expect("paths",
	       "! @/list: Service default/web: replaces the one in @/a.yaml\n"
	       "service default/web 10.0.0.2\n",
	       r.log.text);
	strbuf_free(&r.log);
	manifests_free(m);
	free(paths[1]);
	remove_directory();
}
END_TEST

START_TEST(test_unreadable)
{
	char *paths[] = { NULL, NULL };
	struct errbuf eb = { "" };
	struct manifests *m;
	struct recorder r;

	make_directory();
	paths[0] = strdup(path_of("nothing"));
	m = manifests_new(paths, "node-a");
	ck_assert_int_eq(load(m, &r, &eb), -ENOENT);
	expect("error", "@/nothing: No such file or directory", eb.text);
	strbuf_free(&r.log);
	manifests_free(m);
	free(paths[0]);
	paths[0] = directory;
	ck_assert_int_eq(symlink("nowhere", path_of("a.yaml")), 0);
	m = manifests_new(paths, "node-a");
	ck_assert_int_eq(load(m, &r, &eb), -ENOENT);
	expect("dangling link", "@/a.yaml: No such file or directory", eb.text);
	strbuf_free(&r.log);
	manifests_free(m);
	remove_directory();
}
END_TEST

static void replace_stdin(const char *text)
{
	char *quoted = with_quotes(text);
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(write(fds[1], quoted, strlen(quoted)),
			 (ssize_t)strlen(quoted));
	close(fds[1]);
	ck_assert_int_eq(dup2(fds[0], STDIN_FILENO), STDIN_FILENO);
	close(fds[0]);
	free(quoted);
}

/* Read once, and there again at the next load. */
START_TEST(test_standard_input)
{
	char minus[] = "-", *paths[] = { minus, directory, NULL },
	     *alone[] = { minus, NULL };
	struct errbuf eb = { "" };
	struct manifests *m;
	struct recorder r;
	int i;

	make_directory();
	replace_stdin("{'kind':'List','apiVersion':'v1','items':[" SERVICE(
		"a",
		"10.0.0.1") ","
			    "{'kind':'EndpointSlice','apiVersion':'discovery.k8s.io/"
			    "v1','metadata':{'name':'s',"
			    "'labels':{'kubernetes.io/service-name':'a'}},'addressType':'IPv4'},"
			    "{'kind':'Node','apiVersion':'v1','metadata':{'name':'node-a'}},"
			    "{'kind':'Secret','apiVersion':'v1'},"
			    "{'kind':'ServiceCIDR','apiVersion':'networking.k8s.io/"
			    "v1','metadata':{'name':'k'},"
			    "'spec':{'cidrs':['10.0.0.0/"
			    "16']}},{'kind':'Service','apiVersion':'v1','metadata':"
			    "{'name':'B'}}]}");
	write_file("c.yaml", SERVICE("c", "10.0.0.3"));
	m = manifests_new(paths, "node-a");
	for (i = 0; i < 3; i++) {
		ck_assert_msg(load(m, &r, &eb) == 0, "%s", eb.text);
		expect("input",
		       i ? "service default/a 10.0.0.1\nservice default/c 10.0.0.3\nslice "
			   "default/s of a IPv4\n"
			   "cidr k range=10.0.0.0/16\nnode node-a\n"
			 : "! -: Service default/B: metadata.name: 'B' is not a DNS label\n"
			   "! kind v1 Secret is not used here, 1 object left out\n"
			   "service default/a 10.0.0.1\nservice default/c 10.0.0.3\nslice "
			   "default/s of a IPv4\n"
			   "cidr k range=10.0.0.0/16\nnode node-a\n",
		       r.log.text);
		strbuf_free(&r.log);
	}
	manifests_free(m);
	remove_directory();
	replace_stdin("{");
	m = manifests_new(alone, "node-a");
	ck_assert_int_eq(manifests_fd(m), -1);
	ck_assert(!manifests_changed(m));
	ck_assert_int_eq(load(m, &r, &eb), -EINVAL);
	ck_assert_str_eq(eb.text,
			 "-: byte 1: the text ends in the middle of an object");
	strbuf_free(&r.log);
	manifests_free(m);
}
END_TEST

/* ---- changes */

static struct manifests *watch_path(char *path)
{
	static char *paths[2];
	struct errbuf eb = { "" };
	struct manifests *m;
	struct recorder r;

	paths[0] = path;
	m = manifests_new(paths, "node-a");
	load(m, &r, &eb);
	strbuf_free(&r.log);
	return m;
}

/* Whether the descriptor becomes readable and tells of a relevant change. inotify does not delay.
 */
static bool has_changed(struct manifests *m)
{
	struct pollfd pfd = { .fd = manifests_fd(m), .events = POLLIN };

	return poll(&pfd, 1, 0) == 1 && manifests_changed(m);
}

static void reload(struct manifests *m)
{
	struct errbuf eb = { "" };
	struct recorder r;

	load(m, &r, &eb);
	strbuf_free(&r.log);
}

START_TEST(test_directory_changes)
{
	struct manifests *m;
	int fd;

	make_directory();
	write_file("a.yaml", "");
	m = watch_path(directory);
	ck_assert_msg(!has_changed(m), "nothing happened");
	write_file("b.txt", "");
	write_file(".c.yaml.swp", "");
	ck_assert_msg(!has_changed(m), "names that are no manifests");
	fd = open(path_of("a.yaml"), O_WRONLY | O_TRUNC);
	ck_assert_int_eq(write(fd, "# x", 3), 3);
	ck_assert_msg(!has_changed(m), "half written");
	close(fd);
	ck_assert_msg(has_changed(m), "written in place");
	write_file("new.json", "");
	ck_assert_msg(has_changed(m), "new file");
	write_file("tmp", "");
	ck_assert_msg(!has_changed(m), "temporary file");
	rename(path_of("tmp"), path_of("a.yaml"));
	ck_assert_msg(has_changed(m), "renamed onto");
	rename(path_of("a.yaml"), path_of("a.off"));
	ck_assert_msg(has_changed(m), "renamed away");
	ck_assert_int_eq(link(path_of("a.off"), path_of("l.yaml")), 0);
	ck_assert_msg(has_changed(m), "hard link");
	unlink(path_of("new.json"));
	ck_assert_msg(has_changed(m), "deleted");
	ck_assert_msg(!has_changed(m), "told once");
	manifests_free(m);
	remove_directory();
}
END_TEST

START_TEST(test_directory_replaced)
{
	struct manifests *m;
	char *path;

	make_directory();
	path = strdup(path_of("sub"));
	mkdir(path, 0755);
	m = watch_path(path);
	rename(path, path_of("old"));
	ck_assert_msg(has_changed(m), "renamed away");
	reload(m); /* fails, and goes on */
	mkdir(path, 0755);
	ck_assert_msg(has_changed(m), "there again");
	reload(m);
	write_file("sub/a.yaml", "");
	ck_assert_msg(has_changed(m), "file in the new one");
	manifests_free(m);
	free(path);
	remove_directory();
}
END_TEST

START_TEST(test_file_changes)
{
	struct manifests *m;
	char *path;

	make_directory();
	path = strdup(path_of("objects"));
	write_file("objects", "");
	m = watch_path(path);
	write_file("other.yaml", "");
	ck_assert_msg(!has_changed(m), "another file");
	write_file("objects", "# x");
	ck_assert_msg(has_changed(m), "written in place");
	write_file("tmp", "");
	rename(path_of("tmp"), path);
	ck_assert_msg(has_changed(m), "renamed onto");
	reload(m);
	unlink(path);
	ck_assert_msg(has_changed(m), "deleted");
	reload(m);
	write_file("objects", "");
	ck_assert_msg(has_changed(m), "there again");
	manifests_free(m);
	free(path);
	remove_directory();
}
END_TEST

/* The kubelet's way: name -> ..data/name, ..data -> ..1, which is turned to ..2 by a rename. */
static void mount_config_map(void)
{
	mkdir(path_of("..1"), 0755);
	mkdir(path_of("..2"), 0755);
	write_file("..1/a.yaml", SERVICE("a", "10.0.0.1"));
	write_file("..2/a.yaml", SERVICE("a", "10.0.0.2"));
	ck_assert_int_eq(symlink("..1", path_of("..data")), 0);
	ck_assert_int_eq(symlink("..data/a.yaml", path_of("a.yaml")), 0);
}

static void swap_config_map(void)
{
	ck_assert_int_eq(symlink("..2", path_of("..data_tmp")), 0);
	ck_assert_int_eq(rename(path_of("..data_tmp"), path_of("..data")), 0);
}

START_TEST(test_config_map)
{
	struct errbuf eb = { "" };
	struct manifests *m;
	struct recorder r;
	char *path;

	make_directory();
	mount_config_map();
	path = _i ? strdup(path_of("a.yaml")) : strdup(directory);
	m = watch_path(path);
	ck_assert_msg(!has_changed(m), "nothing happened");
	swap_config_map();
	ck_assert_msg(has_changed(m), "swapped");
	ck_assert_msg(load(m, &r, &eb) == 0, "%s", eb.text);
	ck_assert_str_eq(r.log.text, "service default/a 10.0.0.2\n");
	strbuf_free(&r.log);
	write_file("..2/a.yaml", "");
	ck_assert_msg(has_changed(m), "written behind the links");
	write_file("..1/a.yaml", "");
	ck_assert_msg(!has_changed(m), "where no link leads any more");
	manifests_free(m);
	free(path);
	remove_directory();
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("manifests");
	TCase *tc = tcase_create("manifests");

	tcase_set_timeout(tc, 60);
	ADD_LOOP(tc, test_cases, cases);
	tcase_add_test(tc, test_several_paths);
	tcase_add_test(tc, test_unreadable);
	tcase_add_test(tc, test_standard_input);
	tcase_add_test(tc, test_directory_changes);
	tcase_add_test(tc, test_directory_replaced);
	tcase_add_test(tc, test_file_changes);
	tcase_add_loop_test(tc, test_config_map, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
