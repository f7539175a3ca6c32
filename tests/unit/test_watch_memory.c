/*
 * Each allocation while objects are read fails once, in turn, cJSON's among
 * them (libyaml's are out of reach), and those of the sink: a load shows the
 * sink all, or it fails and the next one does; nothing leaks, which the
 * sanitized build tells. The linker leads our own allocations here (WRAP in the
 * Makefile).
 */
#include "watch/manifests.h"

#include <check.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"
#include "tests/support/suite.h"
#include "tests/support/wrap.h"
#include "tests/support/objects.h"
#include "watch/proxyconfig.h"

/* Allocations until one fails; below 0: none does. */
static long countdown = -1;

static bool allocation_fails(void)
{
	if (countdown < 0 || countdown-- != 0)
		return false;
	errno = ENOMEM;
	return true;
}

static void hook_cjson(void)
{
	cJSON_Hooks hooks = { __wrap_malloc, free };

	cJSON_InitHooks(&hooks);
}

/* ---- a sink that writes down: one allocation for each object fails in its turn, others do not */

static struct strbuf seen;
static bool refused;   /* in the list under way */
static bool cut_short; /* such a list was ended */

static int see(void (*describe)(struct strbuf *sb, const void *object), void *object)
{
	long left;

	refused = allocation_fails();
	if (refused) {
		free(object);
		return -ENOMEM;
	}
	left = countdown;
	countdown = -1;
	describe(&seen, object);
	strbuf_addc(&seen, '\n');
	countdown = left;
	free(object);
	return 0;
}

static void service_text(struct strbuf *sb, const void *object)
{
	describe_service(sb, object);
}

static void slice_text(struct strbuf *sb, const void *object)
{
	describe_slice(sb, object);
}

static void cidr_text(struct strbuf *sb, const void *object)
{
	describe_service_cidr(sb, object);
}

static void node_text(struct strbuf *sb, const void *object)
{
	describe_node(sb, object);
}

static int put_service(void *ctx, struct service *service)
{
	(void)ctx;
	return see(service_text, service);
}

static int put_slice(void *ctx, struct slice *slice)
{
	(void)ctx;
	return see(slice_text, slice);
}

static int put_service_cidr(void *ctx, struct service_cidr *cidr)
{
	(void)ctx;
	return see(cidr_text, cidr);
}

static int put_node(void *ctx, struct node *node)
{
	(void)ctx;
	return see(node_text, node);
}

static void list_begins(void *ctx, enum kind kind)
{
	(void)ctx, (void)kind;
	refused = false;
}

/* What follows an object that could not be put would be taken as gone. */
static void list_ends(void *ctx, enum kind kind)
{
	(void)ctx, (void)kind;
	cut_short |= refused;
}

/* A complaint may get lost when memory is short, an object may not. */
static void ignore_complaint(void *ctx, const char *message)
{
	(void)ctx, (void)message;
}

static const struct object_sink sink = {
	.put_service = put_service,
	.put_slice = put_slice,
	.put_service_cidr = put_service_cidr,
	.put_node = put_node,
	.list_begin = list_begins,
	.list_end = list_ends,
	.complain = ignore_complaint,
};

/* ---- what is loaded */

static const char yaml_text[] =
	"kind: Service\napiVersion: v1\nmetadata: &meta {name: web}\nspec: {clusterIP: 10.0.0.1, "
	"selector: "
	"{a: b}, ports: [{port: 80, name: x}, {port: 81}], externalIPs: [192.0.2.1, x], "
	"loadBalancerSourceRanges: [10.0.0.0/8]}\n---\n"
	"kind: Pod\napiVersion: v1\nmetadata: {name: p, labels: {a: b}}\nspec: {containers: "
	"[{ports: "
	"[{name: n, containerPort: 8080}]}]}\nstatus: {podIP: 10.1.0.1}\n---\n"
	"kind: Node\napiVersion: v1\nmetadata: {name: node-a}\nspec: {podCIDRs: "
	"[10.1.0.0/24]}\n---\n"
	"kind: ConfigMap\napiVersion: v1\n---\n"
	"items:\n- metadata: &m {name: held}\n  spec: {<<: {clusterIP: 10.0.0.2}}\nkind: "
	"ServiceList\n"
	"apiVersion: v1\n";

static const char json_text[] =
	"{'kind':'List','apiVersion':'v1','items':[{'kind':'EndpointSlice','apiVersion':"
	"'discovery.k8s.io/v1','metadata':{'name':'s','labels':{'kubernetes.io/"
	"service-name':'held'}},"
	"'addressType':'IPv4','endpoints':[{'addresses':['10.1.0.2'],'hints':{'forZones':[{'name':'"
	"z'}]}}]},"
	"{'kind':'ServiceCIDR','apiVersion':'networking.k8s.io/"
	"v1','metadata':{'name':'k'},'spec':{'cidrs':"
	"['10.0.0.0/16']}},{'kind':'Service','apiVersion':'v1','metadata':{'name':'Bad'}}]}";

static const char want[] =
	"service default/web 10.0.0.1 x:80/tcp :81/tcp external=192.0.2.1 from=10.0.0.0/8\n"
	"service default/held 10.0.0.2\n"
	"slice default/s of held IPv4 10.1.0.2( ready serving zones=z+ )\n"
	"slice default/web:IPv4-1 of web IPv4 x:80/tcp :81/tcp 10.1.0.1( )\n"
	"cidr k range=10.0.0.0/16\nnode node-a pods=10.1.0.0/24\n";

static void write_file(const char *directory, const char *name, const char *text)
{
	char *quoted = with_quotes(text), path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(quoted, f);
	ck_assert_int_eq(fclose(f), 0);
	free(quoted);
}

/* With allocation @fail failing. Returns whether it came to that. */
static bool try_load(char *directory, long fail, unsigned int *partly)
{
	char *paths[] = { directory, NULL };
	struct errbuf eb = { "" };
	struct manifests *m;
	bool failed;
	int err = -ENOMEM;

	strbuf_reset(&seen);
	strbuf_adds(&seen, "");
	countdown = fail;
	m = manifests_new(paths, "node-a");
	if (m)
		err = manifests_load(m, &sink, &eb);
	failed = countdown < 0;
	countdown = -1;
	ck_assert_msg(err == 0 || err == -ENOMEM, "allocation %ld: %d %s", fail,
		      err, eb.text);
	ck_assert_msg(err ? strncmp(seen.text, want, seen.length) == 0 && failed
			  : strcmp(seen.text, want) == 0,
		      "allocation %ld, %d: want\n%sgot\n%s", fail, err, want,
		      seen.text);
	ck_assert_msg(!cut_short,
		      "allocation %ld: a list that is not whole is ended", fail);
	*partly += err && seen.length;
	if (m && err) { /* as the daemon does it a second later */
		strbuf_reset(&seen);
		ck_assert_int_eq(manifests_load(m, &sink, &eb), 0);
		ck_assert_msg(strcmp(seen.text, want) == 0,
			      "after %ld: got\n%s", fail, seen.text);
	}
	manifests_free(m);
	return failed;
}

START_TEST(test_manifests)
{
	char directory[] = "/tmp/test_watch_memory.XXXXXX", command[64];
	unsigned int partly = 0;
	long fail = 0;

	ck_assert_ptr_nonnull(mkdtemp(directory));
	write_file(directory, "b.yaml", yaml_text);
	write_file(directory, "c.json", json_text);
	hook_cjson();
	while (try_load(directory, fail, &partly))
		fail++;
	/* each object but the first, after those before it */
	ck_assert_uint_eq(partly, 5);
	ck_assert_msg(fail > 200, "only %ld allocations: are they led here?", fail);
	strbuf_free(&seen);
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	ck_assert_int_eq(system(command), 0);
}
END_TEST

static const char config_text[] =
	"kind: KubeProxyConfiguration\napiVersion: "
	"kubeproxy.config.k8s.io/v1alpha1\nmode: nftables\n"
	"nodePortAddresses: [10.0.0.0/8, primary]\nfeatureGates: "
	"{AllowServiceExternalIPs: false}\n";

START_TEST(test_proxyconfig)
{
	struct config *config;
	struct errbuf eb;
	bool failed;
	long fail;
	int err;

	hook_cjson();
	for (fail = 0, failed = true; failed; fail++) {
		config = config_new();
		countdown = fail;
		err = proxyconfig_parse(config_text, strlen(config_text),
					config, NULL, NULL, &eb);
		failed = countdown < 0;
		countdown = -1;
		ck_assert_msg(failed == (err < 0), "allocation %ld: %d", fail, err);
		ck_assert_msg(!err || strstr(eb.text, "out of memory"),
			      "allocation %ld: %s", fail, eb.text);
		config_free(config);
	}
	ck_assert_int_gt(fail, 20);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("watch memory");
	TCase *tc = tcase_create("watch memory");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_manifests);
	tcase_add_test(tc, test_proxyconfig);
	suite_add_tcase(suite, tc);
	return suite;
}
