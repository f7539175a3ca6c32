/* KubeProxyConfiguration: types, warnings, and that each field arrives where it belongs. */
#include "watch/proxyconfig.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"

#include "tests/support/suite.h"

#define HEADER                                                                 \
	"kind: KubeProxyConfiguration\napiVersion: kubeproxy.config.k8s.io/v1alpha1\n"

static void add_warning(void *ctx, const char *message)
{
	strbuf_addf(ctx, "%s\n", message);
}

static void expect(const char *name, const char *what, const char *want,
		   const char *got)
{
	ck_assert_msg(strcmp(want, got) == 0, "%s: %s: want\n%s\ngot\n%s", name,
		      what, want, got);
}

/* ---- what is wrong, and what is warned of */

static const struct {
	const char *name, *text;
	const char *error; /* NULL: none */
	const char *warnings;
} cases[] = {
	{ "header only", HEADER, NULL, "" },
	{ "JSON",
	  "{\"kind\":\"KubeProxyConfiguration\",\n\t\"apiVersion\":\"kubeproxy.config.k8s.io/"
	  "v1alpha1\"}",
	  NULL, "" },
	{ "CFG-1 unknown fields",
	  HEADER "foo: 1\nnftables:\n  bar: 2\nmodE: x\n", NULL,
	  "foo: unknown field, ignored\nnftables.bar: unknown field, ignored\n"
	  "modE: unknown field, ignored\n" },
	{ "CFG-1 repeated fields",
	  HEADER "mode: nftables\nmode: nftables\nconntrack: {min: 1, min: 2}\n",
	  NULL,
	  "mode: repeated, the last one counts\nconntrack.min: repeated, the last one counts\n" },
	{ "without effect",
	  HEADER "ipvs: {scheduler: rr}\nenableProfiling: true\nportRange: ''\n"
		 "winkernel:\n",
	  NULL,
	  "ipvs.scheduler: has no effect here\nenableProfiling: has no effect here\n" },
	{ "without effect, as written by the reference",
	  HEADER "iptables: {masqueradeBit: 14, localhostNodePorts: true, syncPeriod: 30s, "
		 "minSyncPeriod: 1s}\nlogging: {flushFrequency: 5s}\n",
	  NULL, "" },
	{ "without effect, other values",
	  HEADER
	  "iptables: {masqueradeBit: 15, localhostNodePorts: false, syncPeriod: 31s}\n",
	  NULL,
	  "iptables.masqueradeBit: has no effect here\niptables.syncPeriod: has no effect here\n" },
	{ "nulls",
	  HEADER "mode: null\nnftables: null\nfeatureGates: null\noomScoreAdj: ~\n",
	  NULL, "" },

	{ "CFG-1 empty", "", "null where a KubeProxyConfiguration belongs", "" },
	{ "CFG-1 a list", "[]", "a list where a KubeProxyConfiguration belongs", "" },
	{ "CFG-1 no kind", "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n",
	  "kind: missing, KubeProxyConfiguration is expected", "" },
	{ "CFG-1 another kind",
	  "kind: KubeletConfiguration\napiVersion: kubeproxy.config.k8s.io/v1alpha1\n",
	  "kind: \"KubeletConfiguration\" is not KubeProxyConfiguration", "" },
	{ "CFG-1 another version",
	  "kind: KubeProxyConfiguration\napiVersion: kubeproxy.config.k8s.io/v1beta1\n",
	  "apiVersion: \"kubeproxy.config.k8s.io/v1beta1\" is not kubeproxy.config.k8s.io/v1alpha1",
	  "" },
	{ "CFG-1 kind is a number",
	  "kind: 5\napiVersion: kubeproxy.config.k8s.io/v1alpha1\n",
	  "kind: a number where a string belongs", "" },
	{ "CFG-1 number for a string", HEADER "mode: 5\n",
	  "mode: a number where a string belongs", "" },
	{ "CFG-1 string for a boolean", HEADER "nftables: {masqueradeAll: \"yes\"}\n",
	  "nftables.masqueradeAll: a string where a boolean belongs", "" },
	{ "CFG-1 string for a number", HEADER "oomScoreAdj: \"5\"\n",
	  "oomScoreAdj: a string where a number belongs", "" },
	{ "CFG-1 fraction", HEADER "conntrack: {min: 1.5}\n",
	  "conntrack.min: 1.5 is not a whole number", "" },
	{ "CFG-1 too large", HEADER "clientConnection: {burst: 5000000000}\n",
	  "clientConnection.burst: 5000000000 is not between -2147483648 and 2147483647",
	  "" },
	{ "CFG-1 number for a duration", HEADER "nftables: {syncPeriod: 30}\n",
	  "nftables.syncPeriod: a number where a string belongs", "" },
	{ "CFG-2 no duration", HEADER "nftables: {syncPeriod: 30 s}\n",
	  "nftables.syncPeriod: \"30 s\" is not a duration like 1h30m or 500ms",
	  "" },
	{ "CFG-1 string for an object", HEADER "conntrack: x\n",
	  "conntrack: a string where an object belongs", "" },
	{ "CFG-1 string for a list", HEADER "nodePortAddresses: primary\n",
	  "nodePortAddresses: a string where a list belongs", "" },
	{ "CFG-1 number in a list", HEADER "nodePortAddresses: [primary, 5]\n",
	  "nodePortAddresses[1]: a number where a string belongs", "" },
	{ "CFG-1 wrong type without effect", HEADER "winkernel: {enableDSR: 1}\n",
	  "winkernel.enableDSR: a number where a boolean belongs", "" },
	{ "CFG-1 list without effect", HEADER "ipvs: {excludeCIDRs: x}\n",
	  "ipvs.excludeCIDRs: a string where a list belongs", "" },
	{ "CFG-2 iptables.masqueradeBit", HEADER "iptables: {masqueradeBit: 32}\n",
	  "iptables.masqueradeBit: 32 is not between 0 and 31", "" },
	{ "gate of a wrong type",
	  HEADER "featureGates: {AllowServiceExternalIPs: 1}\n",
	  "featureGates.AllowServiceExternalIPs: a number where a boolean belongs",
	  "" },
	{ "gate fixed to true", HEADER "featureGates: {NFTablesProxyMode: false}\n",
	  "featureGates.NFTablesProxyMode: is always true and cannot be set to false",
	  "" },
	{ "unknown gate", HEADER "featureGates: {Foo: true}\n", NULL,
	  "featureGates.Foo: not known, ignored\n" },
	{ "no YAML", HEADER "a: [",
	  "line 4, column 1: did not find expected node content", "" },
	{ "CFG-7 two documents",
	  HEADER "mode: nftables\n---\n" HEADER "mode: 5\n", NULL,
	  "only the first document counts, ignored: KubeProxyConfiguration\n" },
	{ "CFG-7 several documents",
	  "---\n" HEADER "---\nkind: KubeletConfiguration\n---\n[1]\n---\n", NULL,
	  "only the first document counts, ignored: KubeletConfiguration, one without a kind\n" },
	{ "CFG-7 another kind first", "kind: ConfigMap\napiVersion: v1\n---\n" HEADER,
	  "apiVersion: \"v1\" is not kubeproxy.config.k8s.io/v1alpha1",
	  "only the first document counts, ignored: KubeProxyConfiguration\n" },
	{ "CFG-7 not even YAML behind it", HEADER "---\na: [", NULL, "" },
};

START_TEST(test_cases)
{
	struct config *config = config_new();
	struct strbuf warnings = STRBUF_INIT;
	struct errbuf eb = { "" };
	int err = proxyconfig_parse(cases[_i].text, strlen(cases[_i].text),
				    config, add_warning, &warnings, &eb);

	expect(cases[_i].name, "error", cases[_i].error ? cases[_i].error : "",
	       eb.text);
	ck_assert_msg(err == (cases[_i].error ? -EINVAL : 0), "%s: %d",
		      cases[_i].name, err);
	expect(cases[_i].name, "warnings", cases[_i].warnings,
	       warnings.text ? warnings.text : "");
	strbuf_free(&warnings);
	config_free(config);
}
END_TEST

/* ---- whole files */

/* Paths are relative to the top of the tree, where make runs the tests. */
static struct config *read_config(const char *path, struct strbuf *warnings)
{
	struct config *config = config_new();
	struct errbuf eb = { "" };

	strbuf_adds(warnings, "");
	ck_assert_msg(proxyconfig_read(path, config, add_warning, warnings, &eb) == 0,
		      "%s", eb.text);
	ck_assert_int_eq(config_default(config), 0);
	ck_assert_msg(config_validate(config, add_warning, warnings, &eb) == 0,
		      "%s", eb.text);
	return config;
}

/* kubeadm's ConfigMap gives what no file gives, but for the three values in it. */
START_TEST(test_kubeadm)
{
	struct strbuf warnings = STRBUF_INIT, want = STRBUF_INIT, got = STRBUF_INIT;
	struct config *config =
		read_config("tests/data/proxyconfig/kubeadm.yaml", &warnings);
	struct config *defaults = config_new();

	ck_assert_str_eq(config->kubeconfig, "/var/lib/kube-proxy/kubeconfig.conf");
	ck_assert_str_eq(config->cluster_cidr, "10.244.0.0/16");
	ck_assert_int_eq(config_set(&defaults->kubeconfig, config->kubeconfig), 0);
	ck_assert_int_eq(
		config_set(&defaults->cluster_cidr, config->cluster_cidr), 0);
	config_format(config, &got);
	config_format(defaults, &want);
	expect("kubeadm", "configuration", want.text, got.text);
	ck_assert_msg(!strstr(warnings.text, "no effect") &&
			      !strstr(warnings.text, "unknown"),
		      "%s", warnings.text);
	config_free(config);
	config_free(defaults);
	strbuf_free(&warnings);
	strbuf_free(&want);
	strbuf_free(&got);
}
END_TEST

static const char all_warnings[] =
	"logging.flushFrequency: has no effect here\nlogging.vmodule: has no effect here\n"
	"logging.options: has no effect here\nenableProfiling: has no effect here\n"
	"showHiddenMetricsForVersion: has no effect here\niptables.masqueradeBit: has no effect "
	"here\n"
	"iptables.masqueradeAll: has no effect here\niptables.syncPeriod: has no effect here\n"
	"iptables.minSyncPeriod: has no effect here\nipvs.syncPeriod: has no effect here\n"
	"ipvs.minSyncPeriod: has no effect here\nipvs.scheduler: has no effect here\n"
	"ipvs.excludeCIDRs: has no effect here\nipvs.strictARP: has no effect here\n"
	"ipvs.tcpTimeout: has no effect here\nipvs.tcpFinTimeout: has no effect here\n"
	"ipvs.udpTimeout: has no effect here\nwinkernel.networkName: has no effect here\n"
	"winkernel.sourceVip: has no effect here\nwinkernel.enableDSR: has no effect here\n"
	"winkernel.rootHnsEndpointName: has no effect here\n"
	"winkernel.forwardHealthCheckVip: has no effect here\nwindowsRunAsService: has no effect "
	"here\n"
	"configSyncPeriod: has no effect here\nportRange: has no effect here\n";

START_TEST(test_all)
{
	struct strbuf warnings = STRBUF_INIT;
	struct config *c = config_new();
	struct errbuf eb = { "" };

	ck_assert_msg(proxyconfig_read("tests/data/proxyconfig/all.yaml", c,
				       add_warning, &warnings, &eb) == 0,
		      "%s", eb.text);
	expect("all", "warnings", all_warnings, warnings.text);
	ck_assert(!c->allow_external_ips); /* SVC-10 */
	ck_assert_str_eq(c->kubeconfig, "/etc/kubeconfig");
	ck_assert_str_eq(c->accept_content_types, "application/json");
	ck_assert_str_eq(c->content_type, "application/yaml");
	ck_assert_double_eq(c->qps, 7.5);
	ck_assert_int_eq(c->burst, 20);
	ck_assert_int_eq(c->verbosity, 4);
	ck_assert_str_eq(c->logging_format, "json");
	ck_assert_str_eq(c->hostname_override, "node-x");
	ck_assert_str_eq(c->bind_address, "10.0.0.9");
	ck_assert_str_eq(c->healthz_bind_address, "10.0.0.9:1");
	ck_assert_str_eq(c->metrics_bind_address, "10.0.0.9:2");
	ck_assert(c->bind_address_hard_fail);
	ck_assert_str_eq(c->mode, "nftables");
	ck_assert_int_eq(c->masquerade_bit, 15);
	ck_assert(c->masquerade_all);
	ck_assert_int_eq(c->sync_period_ms, 3600000);
	ck_assert_int_eq(c->min_sync_period_ms, 1500);
	ck_assert_int_eq(c->config_sync_period_ms, 7000);
	ck_assert_str_eq(c->detect_local_mode, "BridgeInterface");
	ck_assert_str_eq(c->bridge_interface, "br0");
	ck_assert_str_eq(c->interface_name_prefix, "veth");
	ck_assert_str_eq(c->cluster_cidr, "10.1.0.0/16,fd00:1::/64");
	ck_assert_str_eq(c->nodeport_addresses[0], "10.0.0.0/8");
	ck_assert_str_eq(c->nodeport_addresses[1], "fd00::/8");
	ck_assert_ptr_null(c->nodeport_addresses[2]);
	ck_assert_int_eq(c->oom_score_adj, -5);
	ck_assert_int_eq(c->conntrack.max_per_core, 1);
	ck_assert_int_eq(c->conntrack.min, 2);
	ck_assert_int_eq(c->conntrack.tcp_established_timeout_ms, 3000);
	ck_assert_int_eq(c->conntrack.tcp_close_wait_timeout_ms, 4);
	ck_assert(c->conntrack.tcp_be_liberal);
	ck_assert_int_eq(c->conntrack.udp_timeout_ms, 5000);
	ck_assert_int_eq(c->conntrack.udp_stream_timeout_ms, 6000);
	config_free(c);
	strbuf_free(&warnings);
}
END_TEST

/* What we print as the effective configuration is read back as itself. */
START_TEST(test_round_trip)
{
	struct strbuf warnings = STRBUF_INIT, once = STRBUF_INIT,
		      twice = STRBUF_INIT;
	struct config *config =
		read_config("tests/data/proxyconfig/all.yaml", &warnings);
	struct config *again = config_new();
	struct errbuf eb = { "" };

	strbuf_reset(&warnings);
	config_format(config, &once);
	ck_assert_msg(proxyconfig_parse(once.text, once.length, again,
					add_warning, &warnings, &eb) == 0,
		      "%s", eb.text);
	config_format(again, &twice);
	expect("round trip", "configuration", once.text, twice.text);
	expect("round trip", "warnings",
	       "configSyncPeriod: has no effect here\n", warnings.text);
	config_free(config);
	config_free(again);
	strbuf_free(&warnings);
	strbuf_free(&once);
	strbuf_free(&twice);
}
END_TEST

START_TEST(test_unreadable)
{
	struct config *config = config_new();
	struct errbuf eb = { "" };

	ck_assert_int_eq(proxyconfig_read("/nonexistent", config, NULL, NULL, &eb),
			 -ENOENT);
	ck_assert_str_eq(eb.text, "/nonexistent: No such file or directory");
	ck_assert_int_eq(proxyconfig_read("/", config, NULL, NULL, &eb), -EISDIR);
	ck_assert_int_eq(proxyconfig_read("/dev/null", config, NULL, NULL, &eb),
			 -EINVAL);
	ck_assert_str_eq(eb.text,
			 "/dev/null: null where a KubeProxyConfiguration belongs");
	config_free(config);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("proxyconfig");
	TCase *tc = tcase_create("proxyconfig");

	ADD_LOOP(tc, test_cases, cases);
	tcase_add_test(tc, test_kubeadm);
	tcase_add_test(tc, test_all);
	tcase_add_test(tc, test_round_trip);
	tcase_add_test(tc, test_unreadable);
	suite_add_tcase(suite, tc);
	return suite;
}
