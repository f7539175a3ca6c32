/*
 * The command line as its user sees it: exit status, standard output and error.
 * Each row is a command of a shell, in a folder with the files below.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/support/program.h"

/* A Service of one endpoint. */
#define WEB(name, last, endpoint)                                                        \
	"apiVersion: v1\nkind: Service\nmetadata: {name: " name "}\n"                    \
	"spec: {clusterIP: 172.30.0." last ", ports: [{port: 80}]}\n---\n"               \
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: " name \
	"-a\n"                                                                           \
	"  labels: {kubernetes.io/service-name: " name "}\naddressType: IPv4\n"          \
	"ports: [{name: \"\", port: 8080}]\nendpoints: [{addresses: [" endpoint          \
	"]}]\n"

static const struct {
	const char *path, *text;
} files[] = {
	{ "good.yaml", WEB("good", "41", "10.180.1.1") },
	{ "broken.yaml",
	  "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n bad: [\n" },
	{ "broken.json", "{\"kind\": \"Service\",\n \"metadata\": oops}\n" },
	{ "bad-object.yaml", WEB("good", "41", "10.180.1.1") "---\n" WEB(
				     "bad", "412", "10.180.1.2") },
	{ "config.yaml",
	  "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
	  "kind: KubeProxyConfiguration\nmode: nftables\nclusterCIDR: 10.180.0.0/16\n" },
	{ "bad-value.yaml",
	  "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
	  "kind: KubeProxyConfiguration\nmode: nftables\noomScoreAdj: 5000\n" },
	{ "bad-type.yaml",
	  "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
	  "kind: KubeProxyConfiguration\nmode: nftables\nclusterCIDR: [1]\n" },
	{ "unknown-field.yaml",
	  "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
	  "kind: KubeProxyConfiguration\nmode: nftables\nspeed: high\n" },
	{ "two-documents.yaml",
	  "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
	  "clusterCIDR: 10.180.0.0/16\n---\napiVersion: kubelet.config.k8s.io/v1beta1\n"
	  "kind: KubeletConfiguration\nclusterCIDR: 10.181.0.0/16\n" },
	{ "other-kind.yaml",
	  "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n" },
	{ "folder/a.yaml", WEB("a", "51", "10.180.1.1") },
	{ "folder/b.yml", WEB("b", "52", "10.180.1.2") },
	{ "folder/notes.txt", "not a manifest: [" },
};

static void write_files(void)
{
	struct strbuf out = STRBUF_INIT, err = STRBUF_INIT;
	int i;

	ck_assert_int_eq(run_apart("mkdir folder", &out, &err), 0);
	for (i = 0; i < N_ROWS(files); i++)
		write_file(files[i].path, files[i].text);
	strbuf_free(&out);
	strbuf_free(&err);
}

struct row {
	const char *name, *command;
	int status;
	const char *out, *err,
		*more; /* substrings; NULL: nothing at all, except for @more */
};

static void check_text(const struct row *row, const char *what,
		       const char *want, const char *got)
{
	if (want)
		ck_assert_msg(strstr(got, want), "%s: %s: want '%s', got:\n%.2000s",
			      row->name, what, want, got);
	else
		ck_assert_msg(!*got, "%s: %s: want nothing, got:\n%.2000s",
			      row->name, what, got);
}

static void check_row(const struct row *row)
{
	struct strbuf out = STRBUF_INIT, err = STRBUF_INIT;
	int status = run_apart(row->command, &out, &err);

	ck_assert_msg(status == row->status,
		      "%s: want status %d, got %d:\n%.1000s%.1000s", row->name,
		      row->status, status, out.text, err.text);
	check_text(row, "standard output", row->out, out.text);
	check_text(row, "standard error", row->err, err.text);
	if (row->more)
		ck_assert_msg(strstr(out.text, row->more) ||
				      strstr(err.text, row->more),
			      "%s: want '%s', got:\n%.2000s%.2000s", row->name,
			      row->more, out.text, err.text);
	strbuf_free(&out);
	strbuf_free(&err);
}

static const struct row usage_rows[] = {
	{ "version", "./vipmap --version", 0, "vipmap 0.1.0 (", NULL, NULL },
	/* It says so as soon as it makes its tables. */
	{ "GnuTLS sleeps", "GNUTLS_DEBUG_LEVEL=9 ./vipmap --version", 0,
	  "vipmap 0.1.0 (", NULL, NULL },
	{ "version wins", "./vipmap --version --config=missing", 0,
	  "vipmap 0.1.0 (", NULL, NULL },
	{ "help", "./vipmap --help", 0, "Usage: vipmap ", NULL,
	  "--nodeport-addresses" },
	{ "help lists commands", "./vipmap --help", 0, "       vipmap status [",
	  NULL, NULL },
	{ "help of a command", "./vipmap explain --help", 0,
	  "Usage: vipmap explain [SOURCE] DESTINATION", NULL,
	  "  vipmap explain 10.244.1.5" },
	{ "FLAG-2: unknown flag", "./vipmap --nonsense", 2, NULL,
	  "unknown flag --nonsense", NULL },
	{ "FLAG-2: positional argument", "./vipmap serve", 2, NULL, "\"serve\"",
	  NULL },
	{ "FLAG-2: flag of another mode", "./vipmap --ipvs-scheduler=rr --version",
	  0, "vipmap 0.1.0 (", "--ipvs-scheduler: has no effect", NULL },
	{ "no value", "./vipmap --manifests", 2, NULL,
	  "--manifests: needs a value", NULL },
	{ "no number", "./vipmap --conntrack-min=many", 2, NULL,
	  "--conntrack-min: \"many\"", NULL },
	{ "no duration", "./vipmap --iptables-sync-period=soon", 2, NULL,
	  "--iptables-sync-period: \"soon\"", NULL },
	{ "CFG-2: no range", "./vipmap --cluster-cidr=10.0.0.0/99", 2, NULL,
	  "--cluster-cidr: \"10.0.0.0/99\"", NULL },
	{ "NP-8: no range", "./vipmap --nodeport-addresses=primary,10.0.0.0/8,eth0",
	  2, NULL, "--nodeport-addresses: \"eth0\" is neither a range", NULL },
	{ "FLAG-2: nearly a flag", "./vipmap --dryrun", 2, NULL,
	  "unknown flag --dryrun; did you mean --dry-run?", NULL },
	{ "FLAG-2: nearly a command", "./vipmap statsu", 2, NULL,
	  "unknown command \"statsu\"; did you mean \"status\"?", NULL },
	{ "FLAG-2: one dash", "./vipmap -dry-run", 2, NULL,
	  "unknown flag -dry-run; did you mean --dry-run?", NULL },
	{ "CFG-3: both documents",
	  "printf 'apiVersion: vipmap/v1alpha1\\nkind: VipmapConfiguration\\nanswerPing: true\\n'"
	  " >beyond.yaml; ./vipmap --vipmap-config beyond.yaml --write-config-to - |"
	  " sed -n '/^---/,$p' | grep -c 'Vipmap\\|answerPing: true\\|^---'",
	  0, "3\n", NULL, NULL },
	{ "CFG-3: one that says nothing is left out",
	  "./vipmap --write-config-to - | grep -c '^---'", 1, "0\n", NULL, NULL },
	{ "own errors without a time",
	  "./vipmap nosuch 2>&1 | grep -x 'error: unknown command .*'", 0,
	  "error: unknown command \"nosuch\"; vipmap --help lists all", NULL, NULL },
	{ "... of a flag",
	  "./vipmap --nonsense 2>&1 | grep -c '^error: unknown flag'", 0, "1\n",
	  NULL, NULL },
	{ "... and warnings",
	  "./vipmap --ipvs-scheduler=rr --version 2>&1 | grep -c ^warning:", 0,
	  "1\n", NULL, NULL },
	{ "... JSON has its time",
	  "./vipmap nosuch --logging-format=json 2>&1 | grep -c '^{\"ts\"'", 0,
	  "1\n", NULL, NULL },
	{ "another mode", "./vipmap --proxy-mode=iptables", 2, NULL,
	  "--proxy-mode: \"iptables\"", NULL },
	{ "blank name",
	  "./vipmap '--hostname-override= ' --manifests good.yaml --dry-run", 2,
	  NULL, "--hostname-override", NULL },
	{ "two contrary actions", "./vipmap --once --manifests good.yaml --cleanup",
	  2, NULL, "--once and --cleanup exclude each other", NULL },
	{ "no contrary actions", "./vipmap --once=false --cleanup --help", 0,
	  "Usage: vipmap ", NULL, NULL },
	{ "two sources", "./vipmap --manifests good.yaml --kubeconfig x", 2,
	  NULL, "--manifests and --kubeconfig", NULL },
	{ "dry run of nothing", "./vipmap --dry-run", 2, NULL, "--manifests", NULL },
	{ "no configuration", "./vipmap --config=missing.yaml", 2, NULL,
	  "missing.yaml: No such file", NULL },
	{ "CFG-2: bad value", "./vipmap --config=bad-value.yaml", 2, NULL,
	  "oomScoreAdj", NULL },
	{ "CFG-1: wrong type", "./vipmap --config=bad-type.yaml", 2, NULL,
	  "clusterCIDR", "bad-type.yaml" },
	{ "CFG-1: another kind", "./vipmap --config=other-kind.yaml", 2, NULL,
	  "other-kind.yaml", "apiVersion" },
	{ "broken configuration", "./vipmap --config=broken.yaml", 2, NULL,
	  "broken.yaml", "line" },
	{ "CFG-1: unknown field",
	  "./vipmap --config=unknown-field.yaml --manifests good.yaml --dry-run",
	  0, "172.30.0.41", "speed", NULL },
	{ "CFG-7: the first document counts",
	  "./vipmap --config=two-documents.yaml --manifests good.yaml --dry-run",
	  0, "ip saddr != 10.180.0.0/16",
	  "only the first document counts, ignored: KubeletConfiguration", NULL },
	{ "CFG-4: the file decides",
	  "./vipmap --config=config.yaml --cluster-cidr=10.9.0.0/16 --manifests good.yaml "
	  "--dry-run",
	  0, "ip saddr != 10.180.0.0/16", "--cluster-cidr: ignored", NULL },
	{ "status: no such form", "./vipmap status -o xml", 2, NULL,
	  "\"xml\" is neither", NULL },
	{ "status: no duration", "./vipmap status --wait soon", 2, NULL,
	  "\"soon\" is not a duration", NULL },
	{ "get what?", "./vipmap get", 2, NULL,
	  "services, endpoints, node, config and vipmap-config", NULL },
	{ "get help", "./vipmap get --help", 0,
	  "vipmap get endpoints prod/shop:https", NULL, NULL },
};

static const struct row manifest_rows[] = {
	{ "no such file", "./vipmap --dry-run --manifests missing.yaml", 1,
	  NULL, "missing.yaml: No such file", NULL },
	{ "broken YAML", "./vipmap --dry-run --manifests broken.yaml", 1, NULL,
	  "broken.yaml", "line 5" },
	{ "broken JSON", "./vipmap --dry-run --manifests broken.json", 1, NULL,
	  "broken.json", "oops" },
	{ "broken among good",
	  "./vipmap --dry-run --manifests good.yaml --manifests broken.yaml", 1,
	  NULL, "broken.yaml", NULL },
	{ "API-10: bad object",
	  "./vipmap --dry-run --manifests bad-object.yaml", 0, "172.30.0.41",
	  "Service default/bad: spec.clusterIP: '172.30.0.412' is not an IP address",
	  NULL },
	{ "standard input", "./vipmap --dry-run --manifests - <good.yaml", 0,
	  "172.30.0.41", "warning: Node", NULL },
	{ "JSON from standard input",
	  "printf '{\"kind\":\"List\",\"apiVersion\":\"v1\",\"items\":[{\"kind\":\"Service\","
	  "\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"j\"},\"spec\":{\"clusterIP\":\"172.30.0."
	  "9\","
	  "\"ports\":[{\"port\":80}]}}]}' | ./vipmap --dry-run --manifests -",
	  0, "172.30.0.9 . tcp . 80 comment \"default/j\" : goto reject-chain",
	  "warning: Node", NULL },
	{ "folder", "./vipmap --dry-run --manifests folder", 0, "172.30.0.51",
	  "warning: Node", "172.30.0.52" },
	{ "several", "./vipmap --dry-run --manifests folder --manifests good.yaml",
	  0, "172.30.0.41", "warning: Node", "172.30.0.52" },
	{ "a file and standard input",
	  "./vipmap --dry-run --manifests good.yaml --manifests - <folder/a.yaml",
	  0, "172.30.0.41", "warning: Node", "172.30.0.51" },
	{ "nothing in it", "./vipmap --dry-run --manifests - </dev/null", 0,
	  "table ip vipmap", "warning: Node", NULL },
	{ "needs no privileges",
	  "setpriv --reuid=65534 --clear-groups ./vipmap --dry-run --manifests - <good.yaml",
	  0, "172.30.0.41", "warning: Node", NULL },
	{ "output cannot be written",
	  "./vipmap --dry-run --manifests good.yaml >/dev/full", 1, NULL, "", NULL },
};

static const struct row config_rows[] = {
	{ "write and read",
	  "./vipmap --write-config-to a.json --cluster-cidr 10.7.0.0/16 --masquerade-all && "
	  "./vipmap --write-config-to b.json --config a.json && cmp a.json b.json && cat b.json",
	  0, "\"clusterCIDR\":\"10.7.0.0/16\"", NULL, "\"masqueradeAll\":true" },
	{ "defaults", "./vipmap --write-config-to a.json && cat a.json", 0,
	  "\"healthzBindAddress\":\"0.0.0.0:10256\"", NULL,
	  "\"kind\":\"KubeProxyConfiguration\"" },
	{ "not to be written", "./vipmap --write-config-to missing/a.json", 1,
	  NULL, "missing/a.json", NULL },
	{ "as kubeadm writes it",
	  "./vipmap --write-config-to a.json --config goldens/kubeadm.conf && cat a.json",
	  0, "\"masqueradeBit\":10", NULL, "\"maxPerCore\":32768" },
};

#define EXPLAIN(flags, golden, packet)                                         \
	"./vipmap explain --hostname-override=node1 " flags                    \
	" --manifests goldens/" golden ".yaml " packet
#define POLICIES(packet)                                                       \
	EXPLAIN("--cluster-cidr=10.180.0.0/16", "policies", packet " 2>/dev/null")

static const struct row explain_rows[] = {
	{ "VER-1, VER-9",
	  EXPLAIN("", "source-ranges", "203.0.113.9 tcp 192.0.2.72 80 2>/dev/null"),
	  0, "service   default/dead   load balancer address ", NULL,
	  "verdict   dropped: not in loadBalancerSourceRanges\n" },
	{ "LB-4: in a range",
	  EXPLAIN("", "source-ranges", "10.9.9.9 tcp 192.0.2.70 80 2>/dev/null"),
	  0, "masqueraded (externalTrafficPolicy Cluster)\n", NULL,
	  "  10.180.2.1:8080  -    -     -     100 %  ready\n" },
	{ "LB-5: the address itself",
	  EXPLAIN("", "source-ranges", "192.0.2.70 tcp 192.0.2.70 80 2>/dev/null"),
	  0, "verdict   DNAT to one of 1, ", NULL, NULL },
	{ "VER-2", POLICIES("203.0.113.9 tcp 192.0.2.64 80"), 0,
	  "externalTrafficPolicy Local\n", NULL,
	  "verdict   refused: no endpoints\n" },
	{ "VER-2: node port", POLICIES("203.0.113.9 tcp 192.168.7.11 30064"), 0,
	  "service   default/external-dead   node port ", NULL,
	  "verdict   refused: no endpoints\n" },
	{ "VER-3", POLICIES("203.0.113.9 tcp 192.0.2.63 80"), 0,
	  "packet    203.0.113.9 (outside) -> 192.0.2.63:80/tcp\n", NULL,
	  "verdict   dropped: no endpoints on this node\n" },
	{ "VER-3: internal", POLICIES("10.180.2.9 tcp 172.30.0.61 80"), 0,
	  "internalTrafficPolicy Local\n", NULL,
	  "verdict   dropped: no endpoints on this node\n" },
	{ "VER-4: pod", POLICIES("10.180.2.9 tcp 172.30.0.62 80"), 0,
	  "packet    10.180.2.9 (a pod) -> 172.30.0.62:80/tcp\n"
	  "service   default/external-local   ClusterIP   internalTrafficPolicy Cluster\n"
	  "verdict   DNAT to one of 2, source kept (from a pod: clusterCIDR "
	  "10.180.0.0/16)\n",
	  NULL, "  50 %   ready, this node\n" },
	{ "VER-4: outside", POLICIES("203.0.113.9 tcp 192.0.2.62 80"), 0,
	  "verdict   DNAT to one of 1 on this node, source kept "
	  "(externalTrafficPolicy Local)\n",
	  NULL, "-      not on this node, and the policy is Local\n" },
	{ "POL-2: pod, short-circuit", POLICIES("10.180.2.9 tcp 192.0.2.63 80"), 0,
	  "verdict   DNAT to one of 1, source kept (externalTrafficPolicy Local)\n",
	  NULL, NULL },
	{ "MASQ-3: pods are not told from others",
	  EXPLAIN("", "policies", "203.0.113.9 tcp 172.30.0.62 80 2>/dev/null"),
	  0, "source kept (pods are not told from others here)\n", NULL, NULL },
	{ "MASQ-6: a pod by its interface",
	  EXPLAIN("--detect-local-mode=BridgeInterface --pod-bridge-interface=cbr0",
		  "policies", "203.0.113.9 tcp 172.30.0.62 80 2>/dev/null"),
	  0, "source masqueraded (not from a pod: interface cbr0)\n", NULL, NULL },
	{ "POL-2: host, short-circuit", POLICIES("192.168.7.11 tcp 192.0.2.63 80"),
	  0, "192.168.7.11 (this node)", NULL,
	  "DNAT to one of 1, source masqueraded (from this node)\n" },
	{ "VER-4: affinity",
	  EXPLAIN("", "affinity", "10.180.2.9 tcp 172.30.0.75 80"), 0,
	  "   affinity 3h\n", NULL, NULL },
	{ "VER-4: IPv6, hints of nobody",
	  EXPLAIN("", "dual-stack", "fd00:9::9 tcp fd00:30::86 80 2>/dev/null"),
	  0, "  [fd00:180:1::5]:8080  -", NULL, "100 %  ready, this node\n" },
	{ "VER-5", POLICIES("10.180.2.9 tcp 172.30.0.62 81"), 0,
	  "verdict   refused: no service has this port of the ClusterIP\n",
	  NULL, NULL },
	{ "VER-5: another protocol", POLICIES("10.180.2.9 udp 172.30.0.62 80"),
	  0, "verdict   refused: no service has this port of the ClusterIP\n",
	  NULL, NULL },
	{ "VER-6",
	  EXPLAIN("", "service-cidrs", "10.180.2.9 tcp 172.30.200.1 80 2>/dev/null"),
	  0, "verdict   dropped: no service has this address\n", NULL, NULL },
	{ "VER-20: not an address of this node",
	  "echo '{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"node1\"},"
	  "\"status\":{\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"172.30.200.1\"}]}}'"
	  " | ./vipmap explain --hostname-override=node1 --manifests - --manifests "
	  "goldens/service-cidrs.yaml 10.180.2.9 tcp 172.30.200.1 80 2>/dev/null",
	  0, "verdict   passed: not a service's address\n", NULL, NULL },
	{ "VER-7", POLICIES("10.180.2.9 tcp 198.51.100.1 80"), 0,
	  "verdict   passed: not a service's address\n", NULL, NULL },
	{ "VER-7: load balancer address, another port",
	  POLICIES("10.180.2.9 tcp 192.0.2.62 81"), 0,
	  "verdict   passed: not a service's address\n", NULL, NULL },
	{ "NP-3: loopback",
	  EXPLAIN("", "nodeport-everywhere",
		  "127.0.0.1 tcp 127.0.0.1 30007 2>/dev/null"),
	  0, "verdict   passed: not a service's address\n", NULL, NULL },
	{ "by name", POLICIES("default/external-local"), 0,
	  "packet    a pod -> 172.30.0.62:80/tcp\n", NULL,
	  "DNAT to one of 2, source kept (from a pod: clusterCIDR 10.180.0.0/16)\n" },
	{ "by name and source", POLICIES("203.0.113.9 external-local"), 0,
	  "packet    203.0.113.9 (outside) -> 172.30.0.62:80/tcp\n", NULL, NULL },
	{ "address and port", POLICIES("192.0.2.62:80"), 0,
	  "packet    a pod -> 192.0.2.62:80/tcp\n", NULL, NULL },
	{ "brackets and protocol",
	  EXPLAIN("", "dual-stack", "'[fd00:30::86]:80/udp' 2>/dev/null"), 0,
	  "packet    a pod -> [fd00:30::86]:80/udp\n", NULL, NULL },
	{ "as data", POLICIES("-o json 10.180.2.9 tcp 172.30.0.62 80"), 0,
	  "\"service\": \"default/external-local\"", NULL, "\"sharePercent\": 50" },
	{ "a wrong name", EXPLAIN("", "policies", "default/external-locl"), 1,
	  NULL, "did you mean default/external-local?\n", NULL },
	{ "a wrong port", EXPLAIN("", "policies", "external-local:https"), 1, NULL,
	  "Service default/external-local has no port https; its ports: 80/tcp\n",
	  NULL },
	{ "no port", EXPLAIN("", "policies", "172.30.0.62"), 1, NULL,
	  "172.30.0.62: which port?", NULL },
	{ "bad packet", EXPLAIN("", "policies", "10.180.2.9 tcp 172.30.0.62 http"),
	  2, NULL, "explain: port \"http\"", NULL },
	{ "too little", EXPLAIN("", "policies", "10.180.2.9 tcp 172.30.0.62"),
	  2, NULL, "explain: which port? Say SRC tcp DST PORT", NULL },
	{ "too much", EXPLAIN("", "policies", "10.180.2.9 tcp 172.30.0.62 80 81"),
	  2, NULL, "explain: needs DESTINATION", NULL },
	{ "an echo request with a port",
	  EXPLAIN("", "policies", "10.180.2.9 icmp 172.30.0.62 80"), 2, NULL,
	  "explain: icmp has no ports: say SRC icmp DST", NULL },
	{ "an echo request of the other family",
	  EXPLAIN("", "policies", "10.180.2.9 icmpv6 172.30.0.62"), 2, NULL,
	  "explain: icmpv6 is not IPv4's", NULL },
	{ "an echo request",
	  EXPLAIN("", "policies", "10.180.2.9 icmp 172.30.0.62"), 0,
	  "172.30.0.62, icmp echo request\nverdict   refused: a ClusterIP answers no ping",
	  NULL, NULL },
	{ "two families", EXPLAIN("", "policies", "10.180.2.9 tcp fd00::1 80"),
	  2, NULL, "not of one family", NULL },
	{ "families that only the Service tells",
	  EXPLAIN("", "policies", "fd00::1 external-local"), 1, NULL,
	  "Service default/external-local has no IPv6 address", NULL },
};

static void check_in_scratch(const struct row *row)
{
	struct scratch s;

	scratch_enter(&s);
	write_files();
	check_row(row);
	scratch_leave(&s);
}

START_TEST(test_usage)
{
	check_in_scratch(&usage_rows[_i]);
}
END_TEST

START_TEST(test_manifests)
{
	check_in_scratch(&manifest_rows[_i]);
}
END_TEST

START_TEST(test_config)
{
	check_in_scratch(&config_rows[_i]);
}
END_TEST

START_TEST(test_explain)
{
	check_in_scratch(&explain_rows[_i]);
}
END_TEST

/* Below: with a kernel. Rows of one test are run in order in one namespace. */

static void check_rows(const struct row *rows, int n)
{
	struct scratch s;
	int i;

	scratch_enter(&s);
	write_files();
	if (program_namespace())
		for (i = 0; i < n; i++)
			check_row(&rows[i]);
	scratch_leave(&s);
}

/* Asks the kernel: with -F -c so that a row's status says whether the text is there. */
#define RULES "nft list ruleset"
#define HAS(text) RULES " | grep -F -e '" text "' >/dev/null"

START_TEST(test_once)
{
	static const struct row rows[] = {
		{ "once",
		  "./vipmap --once --manifests good.yaml 2>/dev/null && " RULES, 0,
		  "172.30.0.41 . tcp . 80 . 0 : 10.180.1.1 . 8080", NULL, NULL },
		{ "keep", RULES " >before", 0, NULL, NULL, NULL },
		{ "RUN-4: a broken file changes nothing",
		  "./vipmap --once --manifests broken.yaml", 1, NULL,
		  "broken.yaml", "line 5" },
		{ "a missing file changes nothing",
		  "./vipmap --once --manifests missing.yaml", 1, NULL,
		  "missing.yaml: No such file", NULL },
		{ "a bad flag changes nothing",
		  "./vipmap --once --manifests good.yaml --cluster-cidr=x", 2,
		  NULL, "--cluster-cidr", NULL },
		{ "nothing has changed", RULES " | diff before -", 0, NULL,
		  NULL, NULL },
		{ "API-10: the rest is programmed",
		  "./vipmap --once --manifests bad-object.yaml", 0, NULL,
		  "Service default/bad: spec.clusterIP", NULL },
		{ "API-10: the rest", RULES " | diff before -", 0, NULL, NULL, NULL },
		{ "SVC-12: what is gone goes",
		  "./vipmap --once --manifests folder 2>/dev/null && " RULES, 0,
		  "172.30.0.51 . tcp . 80 . 0", NULL, "172.30.0.52 . tcp . 80 . 0" },
		{ "SVC-12: without residue", HAS("172.30.0.41"), 1, NULL, NULL,
		  NULL },
	};

	check_rows(rows, N_ROWS(rows));
}
END_TEST

/* RUN-7, RUN-9 */
START_TEST(test_cleanup)
{
	static const struct row rows[] = {
		{ "RUN-9: nothing is there", "./vipmap --cleanup", 0, NULL,
		  NULL, NULL },
		{ "a foreign table",
		  "nft add table ip other && nft add chain ip other c && nft add rule ip other c "
		  "drop",
		  0, NULL, NULL, NULL },
		{ "keep", RULES " >before", 0, NULL, NULL, NULL },
		{ "once",
		  "./vipmap --once --manifests goldens/everything.yaml --hostname-override=node1 "
		  "2>/dev/null && " RULES,
		  0, "table ip6 vipmap", NULL, "table ip vipmap" },
		{ "RUN-9: all goes", "./vipmap --cleanup", 0, NULL, NULL, NULL },
		{ "RUN-7: and nothing else", RULES " | diff before -", 0, NULL,
		  NULL, NULL },
		{ "RUN-9: again", "./vipmap --cleanup", 0, NULL, NULL, NULL },
	};

	check_rows(rows, N_ROWS(rows));
}
END_TEST

/* A namespace has no nf_conntrack_max of its own to set. */
START_TEST(test_init_only)
{
	static const struct row rows[] = {
		{ "init only",
		  "./vipmap --init-only --conntrack-max-per-core=0 --oom-score-adj=0 "
		  "--conntrack-udp-timeout=77s --conntrack-tcp-timeout-established=2h "
		  "--conntrack-tcp-be-liberal && cd /proc/sys/net/netfilter && cat "
		  "nf_conntrack_udp_timeout nf_conntrack_tcp_timeout_established "
		  "nf_conntrack_tcp_be_liberal nf_conntrack_tcp_timeout_close_wait",
		  0, "77\n7200\n1\n3600\n", "", NULL },
		/* SYS-4: no failure, or a pod's init container would never be over. */
		{ "SYS-4: not the first namespace",
		  "./vipmap --init-only --conntrack-max-per-core=1 "
		  "--conntrack-min=1000000000 --oom-score-adj=0",
		  0, NULL, "/nf_conntrack_max: cannot be set from ", NULL },
		{ "SYS-4: no CAP_SYS_RESOURCE",
		  "setpriv --bounding-set -sys_resource ./vipmap --init-only "
		  "--conntrack-max-per-core=0 --oom-score-adj=-999",
		  0, NULL, "/oom_score_adj: cannot be set from ", NULL },
		{ "a timeout that cannot be set is one",
		  "unshare -m sh -c \"mount --bind /proc/sys/net /proc/sys/net && "
		  "mount -o remount,ro,bind /proc/sys/net && "
		  "./vipmap --init-only --conntrack-max-per-core=0 "
		  "--oom-score-adj=0 --conntrack-udp-timeout=78s\"",
		  1, NULL, "/nf_conntrack_udp_timeout: cannot be set from ", NULL },
		{ "no rules", RULES, 0, NULL, NULL, NULL },
	};

	check_rows(rows, N_ROWS(rows));
}
END_TEST

/* Nobody may be unable to enter the folders that the links lead to. */
#define NOBODY                                                                 \
	"setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all ./copy "

START_TEST(test_not_root)
{
	static const struct row rows[] = {
		{ "copy", "cp -L vipmap copy", 0, NULL, NULL, NULL },
		{ "once", NOBODY "--once --manifests - <good.yaml", 1, NULL,
		  "not permitted: CAP_NET_ADMIN is needed", NULL },
		{ "daemon", NOBODY "--manifests - <good.yaml", 1, NULL,
		  "not permitted: CAP_NET_ADMIN is needed", NULL },
		{ "cleanup", NOBODY "--cleanup", 1, NULL,
		  "not permitted: CAP_NET_ADMIN is needed", NULL },
		{ "no rules", RULES, 0, NULL, NULL, NULL },
	};

	check_rows(rows, N_ROWS(rows));
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("cli");
	TCase *pure = tcase_create("no kernel"), *kernel = tcase_create("kernel");

	tcase_set_timeout(pure, 30);
	ADD_LOOP(pure, test_usage, usage_rows);
	ADD_LOOP(pure, test_manifests, manifest_rows);
	ADD_LOOP(pure, test_config, config_rows);
	ADD_LOOP(pure, test_explain, explain_rows);
	suite_add_tcase(suite, pure);
	tcase_set_timeout(kernel, 60);
	tcase_add_test(kernel, test_once);
	tcase_add_test(kernel, test_cleanup);
	tcase_add_test(kernel, test_init_only);
	tcase_add_test(kernel, test_not_root);
	suite_add_tcase(suite, kernel);
	return suite;
}
