/*
 * "PATH?QUERY" as the local socket is asked, and as "get" and "explain" ask for
 * what is typed: every answer is one JSON object, with what was asked for or
 * with one printable line on why not. A list that has more to come leads on to
 * its end.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proxy/app.h"
#include "proxy/commands/objects.h"
#include "proxy/options.h"
#include "proxy/serve/view.h"
#include "watch/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char objects_text[] =
	"kind: Service\n"
	"apiVersion: v1\n"
	"metadata: {name: web}\n"
	"spec:\n"
	"  type: LoadBalancer\n"
	"  clusterIP: 172.30.0.41\n"
	"  clusterIPs: [172.30.0.41, 'fd00:172::41']\n"
	"  externalIPs: [203.0.113.7]\n"
	"  loadBalancerSourceRanges: [198.51.100.0/24]\n"
	"  ports:\n"
	"  - {name: http, port: 80, nodePort: 30080}\n"
	"  - {name: dns, port: 53, protocol: UDP, nodePort: 30053}\n"
	"status: {loadBalancer: {ingress: [{ip: 203.0.113.8}]}}\n"
	"---\n"
	"kind: Service\n"
	"apiVersion: v1\n"
	"metadata: {name: sticky}\n"
	"spec:\n"
	"  type: NodePort\n"
	"  clusterIP: 172.30.0.42\n"
	"  sessionAffinity: ClientIP\n"
	"  externalTrafficPolicy: Local\n"
	"  internalTrafficPolicy: Local\n"
	"  ports: [{port: 443, nodePort: 30443}]\n"
	"---\n"
	"kind: Service\n"
	"apiVersion: v1\n"
	"metadata: {name: lonely}\n"
	"spec: {clusterIP: 172.30.0.43, ports: [{port: 80, protocol: SCTP}]}\n"
	"---\n"
	"kind: Service\n"
	"apiVersion: v1\n"
	"metadata: {name: headless}\n"
	"spec: {clusterIP: None, ports: [{port: 80}]}\n"
	"---\n"
	"kind: Service\n"
	"apiVersion: v1\n"
	"metadata: {name: zz-thief}\n"
	"spec: {clusterIP: 172.30.0.41, ports: [{port: 80}]}\n"
	"---\n"
	"kind: EndpointSlice\n"
	"apiVersion: discovery.k8s.io/v1\n"
	"metadata: {name: web-a, labels: {kubernetes.io/service-name: web}}\n"
	"addressType: IPv4\n"
	"ports:\n"
	"- {name: http, port: 8080}\n"
	"- {name: dns, port: 5353, protocol: UDP}\n"
	"endpoints:\n"
	"- addresses: [10.180.1.1]\n"
	"  nodeName: node1\n"
	"  zone: a\n"
	"  targetRef: {kind: Pod, name: web-1}\n"
	"- addresses: [10.180.2.2]\n"
	"  conditions: {ready: false, serving: true, terminating: true}\n"
	"---\n"
	"kind: EndpointSlice\n"
	"apiVersion: discovery.k8s.io/v1\n"
	"metadata: {name: web-b, labels: {kubernetes.io/service-name: web}}\n"
	"addressType: IPv6\n"
	"ports: [{name: http, port: 8080}]\n"
	"endpoints: [{addresses: ['fd00:180::1']}]\n"
	"---\n"
	"kind: EndpointSlice\n"
	"apiVersion: discovery.k8s.io/v1\n"
	"metadata: {name: sticky-a, labels: {kubernetes.io/service-name: sticky}}\n"
	"addressType: IPv4\n"
	"ports: [{name: '', port: 8443}]\n"
	"endpoints: [{addresses: [10.180.2.9]}]\n"
	"---\n"
	"kind: Node\n"
	"apiVersion: v1\n"
	"metadata: {name: node1, labels: {topology.kubernetes.io/zone: a}}\n"
	"spec: {podCIDRs: [10.180.1.0/24]}\n"
	"status:\n"
	"  addresses:\n"
	"  - {type: InternalIP, address: 192.0.2.1}\n"
	"  - {type: InternalIP, address: '2001:db8::1'}\n";

/* What is looked at, made once and never changed. */
static const struct view *make_world(void)
{
	static struct app app;
	static struct objects objects;
	static char words[][40] = { "vipmap",	      "get",
				    "services",	      "--hostname-override",
				    "node1",	      "--cluster-cidr",
				    "10.180.0.0/16",  "--manifests",
				    "/proc/self/fd/N" };
	enum { N_WORDS = sizeof(words) / sizeof(words[0]) };
	static char *argv[N_WORDS + 1];
	const int fd = memfd_create("objects", MFD_CLOEXEC);
	struct options options = { 0 };
	struct errbuf eb;
	int argc;

	assert(fd >= 0);
	assert(write(fd, objects_text, sizeof(objects_text) - 1) ==
	       sizeof(objects_text) - 1);
	for (argc = 0; argc < N_WORDS; argc++)
		argv[argc] = words[argc];
	snprintf(words[argc - 1], sizeof(words[0]), "/proc/self/fd/%d", fd);
	if (app_open(&app, clock_system(), argc, argv) ||
	    app_parse_options(&app, &options, &eb) ||
	    objects_open(&objects, &app, &options))
		abort();
	return app.view;
}

static void check_error(const char *text)
{
	assert(text && *text);
	for (; *text; text++)
		assert(*text >= 0x20 && *text < 0x7f);
}

static struct json *ask(const struct view *view, const char *path,
			const char *query, int *status)
{
	struct strbuf out = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct json *json;

	*status = view_page(view, path, query, &out);
	assert(!out.err);
	json = json_parse(out.text, out.length, &eb);
	if (!json) {
		fprintf(stderr, "%s: %s\n", eb.text, out.text);
		abort();
	}
	strbuf_free(&out);
	return json;
}

/* The pages that follow, each asked for with what the one before it says. */
static void follow(const struct view *view, const char *path, const char *after)
{
	char query[QUERY_TEXT_SIZE + 16];
	unsigned int pages;
	struct json *json;
	int status;

	snprintf(query, sizeof(query), "continue=%s", after);
	for (pages = 0; *query; pages++) {
		assert(pages < 16);
		json = ask(view, path, query, &status);
		after = json_string(json_get(json, "continue"));
		snprintf(query, sizeof(query), "%s%s", after ? "continue=" : "",
			 after ? after : "");
		json_free(json);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct view *view;
	char *path = malloc(size + 1), *query;
	const char *after;
	struct json *json;
	int status;

	if (!path)
		return 0;
	if (!view)
		view = make_world();
	memcpy(path, data, size);
	path[size] = '\0';
	query = path;
	strsep(&query, "?");
	json = ask(view, path, query ? query : "", &status);
	assert(status == 200 || status == 400 || status == 404);
	if (status != 200)
		check_error(json_string(json_get(json, "error")));
	after = json_string(json_get(json, "continue"));
	if (after)
		follow(view, path, after);
	json_free(json);
	free(path);
	return 0;
}
