/*
 * A running vipmap as its operator sees it: files that change under it,
 * signals, and what it tells over HTTP. In a network namespace of its own, on a
 * node with 192.168.7.11 and fd00:7::11.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/support/http.h"
#include "tests/support/nft.h"
#include "tests/support/program.h"

#define NODE(taints)                                                                            \
	"apiVersion: v1\nkind: Node\nmetadata: {name: node1, uid: n1}\nspec: {taints: [" taints \
	"]}\nstatus: {addresses: [{type: InternalIP, address: 192.168.7.11}, "                  \
	"{type: InternalIP, address: \"fd00:7::11\"}]}\n"

#define WEB(last, endpoint)                                                                \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"                           \
	"spec: {clusterIP: 172.30.0." last ", ports: [{port: 80}]}\n---\n"                 \
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-a\n" \
	"  labels: {kubernetes.io/service-name: web}\naddressType: IPv4\n"                 \
	"ports: [{name: \"\", port: 8080}]\nendpoints: [{addresses: [" endpoint            \
	"]}]\n"

/* A load balancer's Service with policy Local in both families, and endpoints in IPv4. */
#define LB(port, policy, endpoints)                                                                \
	"apiVersion: v1\nkind: Service\nmetadata: {name: lb, namespace: shop}\n"                   \
	"spec:\n  type: LoadBalancer\n  externalTrafficPolicy: " policy                            \
	"\n  healthCheckNodePort: " port "\n  ipFamilies: [IPv4, IPv6]\n"                          \
	"  clusterIP: 172.30.0.60\n  clusterIPs: [172.30.0.60, \"fd00:30::60\"]\n"                 \
	"  ports: [{name: a, port: 80, nodePort: 30060}, {name: b, port: 81, nodePort: 30061}]\n"  \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"                              \
	"metadata:\n  name: lb-4\n  namespace: shop\n  labels: {kubernetes.io/service-name: lb}\n" \
	"addressType: IPv4\nports: [{name: a, port: 8080}, {name: b, port: 8081}]\n"               \
	"endpoints: [" endpoints "]\n"

#define FLAGS                                                                  \
	"--hostname-override=node1 --conntrack-max-per-core=0 --oom-score-adj=0 "
#define FROM_FOLDER FLAGS "--manifests m "

/* The folder "m" with a Node and one file. */
static bool begin(struct scratch *s, const char *manifest)
{
	scratch_enter(s);
	if (!program_namespace()) {
		scratch_leave(s);
		return false;
	}
	ck_assert_int_eq(mkdir("m", 0755), 0);
	write_file("m/node.yaml", NODE(""));
	write_file("m/a.yaml", manifest);
	return true;
}

static void end(struct scratch *s, pid_t pid)
{
	ck_assert_int_eq(daemon_stop(pid, SIGTERM), 0);
	scratch_leave(s);
}

START_TEST(test_folder_followed)
{
	struct scratch s;
	char *before, *after;
	pid_t pid;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	pid = daemon_start(FROM_FOLDER);
	until_rule("172.30.0.41 . tcp . 80 . 0 : 10.180.1.1 . 8080");

	write_file("m/a.yaml", WEB("41", "10.180.1.2"));
	until_rule("172.30.0.41 . tcp . 80 . 0 : 10.180.1.2 . 8080");
	write_file("m/b.json",
		   "{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":"
		   "\"more\"},\"spec\":{\"clusterIP\":\"172.30.0.42\",\"ports\":"
		   "[{\"port\":80}]}}");
	until_rule("172.30.0.42 . tcp . 80 comment \"default/more\" : goto reject-chain");
	ck_assert_int_eq(unlink("m/b.json"), 0);
	until_no_rule("172.30.0.42");

	/* the last good state holds while a file is broken, whatever else changes */
	before = program_rules();
	write_file("m/b.yaml", "kind: Service\n bad: [\n");
	until_logged("manifests stay as they were: m/b.yaml");
	write_file("m/a.yaml", WEB("43", "10.180.1.3"));
	until("reported twice",
	      "test $(grep -c 'manifests stay as they were' log) -ge 2");
	after = program_rules();
	ck_assert_str_eq(before, after);
	ck_assert_int_eq(unlink("m/b.yaml"), 0);
	until_rule("172.30.0.43 . tcp . 80 . 0 : 10.180.1.3 . 8080");
	until_no_rule("172.30.0.41");

	free(before);
	free(after);
	end(&s, pid);
}
END_TEST

START_TEST(test_file_followed)
{
	struct scratch s;
	pid_t pid;

	if (!begin(&s, ""))
		return;
	write_file("one.yaml", WEB("41", "10.180.1.1"));
	pid = daemon_start(FLAGS "--manifests one.yaml --manifests m/node.yaml");
	until_rule("172.30.0.41 . tcp . 80 . 0 : 10.180.1.1 . 8080");
	write_file("one.yaml", WEB("42", "10.180.1.1"));
	until_rule("172.30.0.42 . tcp . 80 . 0 : 10.180.1.1 . 8080");
	until_no_rule("172.30.0.41");
	end(&s, pid);
}
END_TEST

/* The rest of @b from the first line that is another in @a; "" if there is none. */
static const char *first_difference(const char *a, const char *b)
{
	const char *line = b;

	for (; *a && *a == *b; a++, b++)
		if (*b == '\n')
			line = b + 1;
	return !*a && !*b ? "" : *line ? line : "(end)";
}

/* RUN-8, and no second start writes anything */
START_TEST(test_signals_leave_the_rules)
{
	static const struct {
		const char *name;
		int signal, status;
	} rows[] = { { "SIGTERM", SIGTERM, 0 },
		     { "SIGINT", SIGINT, 0 },
		     { "SIGKILL", SIGKILL, -SIGKILL } };
	struct scratch s;
	char *before = NULL, *after;
	const char *at;
	pid_t pid;
	int i, status;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	for (i = 0; i < N_ROWS(rows); i++) {
		pid = daemon_start(FROM_FOLDER "-v 3");
		until_logged("synced IPv6: full");
		if (before)
			until_logged(", 0 elements added, 0 deleted");
		status = daemon_stop(pid, rows[i].signal);
		ck_assert_msg(status == rows[i].status,
			      "%s: want status %d, got %d", rows[i].name,
			      rows[i].status, status);
		after = program_rules();
		if (!before) /* only now: nft also shows the owner while it lives */
			before = strdup(after);
		at = first_difference(before, after);
		ck_assert_msg(!*at, "RUN-8: %s: other rules from here on:\n%.1000s",
			      rows[i].name, at);
		free(after);
	}
	ck_assert_ptr_nonnull(strstr(before, "172.30.0.41 . tcp . 80 . 0"));
	free(before);
	scratch_leave(&s);
}
END_TEST

#define CONFIG(range, more)                                                               \
	"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"    \
	"mode: nftables\noomScoreAdj: 0\nconntrack: {maxPerCore: 0}\nclusterCIDR: " range \
	"\n" more

/* The table is the same one all the time: no gap in the rules. */
static void until_range(const char *range, const char *handle)
{
	char text[128], *now;

	snprintf(text, sizeof(text), "ip saddr != %s", range);
	until_rule(text);
	ck_assert_int_eq(
		system("nft -a list table ip vipmap | head -n 1 >handle"), 0);
	now = read_whole("handle");
	if (handle)
		ck_assert_str_eq(now, handle);
	free(now);
}

/* CFG-3: by itself and at SIGHUP; a bad file is reported, the old one stays. */
START_TEST(test_config_followed)
{
	struct scratch s;
	char *handle;
	pid_t pid;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	write_file("config.yaml", CONFIG("10.180.0.0/16", ""));
	pid = daemon_start(
		"--config config.yaml --hostname-override=node1 --manifests m");
	until_range("10.180.0.0/16", NULL);
	handle = read_whole("handle");

	write_file("config.yaml", CONFIG("10.181.0.0/16", ""));
	ck_assert_int_eq(kill(pid, SIGHUP), 0);
	until_range("10.181.0.0/16", handle);

	write_file("config.yaml",
		   CONFIG("10.182.0.0/16", "")); /* noticed without a signal */
	until_range("10.182.0.0/16", handle);

	write_file("config.yaml", CONFIG("10.183.0.0/99", ""));
	ck_assert_int_eq(kill(pid, SIGHUP), 0);
	until_logged("configuration stays as it was: ");
	until_logged("10.183.0.0/99");
	until_range("10.182.0.0/16", handle);
	write_file("m/a.yaml", WEB("42", "10.180.1.1")); /* and the daemon goes on */
	until_rule("172.30.0.42 . tcp . 80 . 0 : 10.180.1.1 . 8080");

	ck_assert_int_eq(unlink("config.yaml"), 0);
	ck_assert_int_eq(kill(pid, SIGHUP), 0);
	until_logged("config.yaml: No such file");

	write_file("config.yaml", CONFIG("10.184.0.0/16", ""));
	until_range("10.184.0.0/16", handle);
	free(handle);
	end(&s, pid);
}
END_TEST

/* CFG-3: a ConfigMap is mounted as a link to a link to a folder, which kubelet replaces. */
START_TEST(test_mounted_config)
{
	struct scratch s;
	pid_t pid;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	ck_assert_int_eq(mkdir("one", 0755), 0);
	ck_assert_int_eq(mkdir("two", 0755), 0);
	write_file("one/config.conf", CONFIG("10.180.0.0/16", ""));
	write_file("two/config.conf", CONFIG("10.181.0.0/16", ""));
	ck_assert_int_eq(symlink("one", "data"), 0);
	ck_assert_int_eq(symlink("data/config.conf", "config.conf"), 0);
	pid = daemon_start(
		"--config config.conf --hostname-override=node1 --manifests m");
	until_range("10.180.0.0/16", NULL);
	ck_assert_int_eq(symlink("two", "next"), 0);
	ck_assert_int_eq(rename("next", "data"), 0);
	until_range("10.181.0.0/16", NULL);
	end(&s, pid);
}
END_TEST

/* A file such as kubeadm writes, with null and "" and 0 where the default is meant. */
START_TEST(test_kubeadm_config)
{
	struct strbuf answer = STRBUF_INIT;
	struct scratch s;
	pid_t pid;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	pid = daemon_start(
		"--config goldens/kubeadm.conf --hostname-override=node1 --manifests m");
	until_range("10.180.0.0/16", NULL);
	until_rule("meta mark & 0x00000400");
	ck_assert_int_eq(fetch("127.0.0.1", 10256, "/healthz", &answer), 200);
	ck_assert_int_eq(fetch("127.0.0.1", 10249, "/proxyMode", &answer), 200);
	strbuf_free(&answer);
	end(&s, pid);
}
END_TEST

/* The value of the line that begins with @name; fails if there is none. */
static double metric(const char *text, const char *name)
{
	const char *at = text;
	size_t length = strlen(name);

	while ((at = strstr(at, name))) {
		if (at > text && at[-1] == '\n' && at[length] == ' ')
			return strtod(at + length, NULL);
		at += length;
	}
	ck_abort_msg("no metric %s in:\n%.1500s", name, text);
}

struct metric_row {
	const char *name; /* without "kubeproxy_" */
	double low, high;
};

static void check_metrics(const char *when, const struct metric_row *rows, int n)
{
	struct strbuf answer = STRBUF_INIT;
	char name[128];
	double value;
	int i;

	ck_assert_int_eq(fetch("127.0.0.1", 10249, "/metrics", &answer), 200);
	ck_assert_ptr_nonnull(
		strstr(answer.text, "Content-Type: text/plain; version=0.0.4"));
	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "kubeproxy_%s", rows[i].name);
		value = metric(answer.text, name);
		ck_assert_msg(value >= rows[i].low && value <= rows[i].high,
			      "%s: %s: want %g to %g, got %g", when, name,
			      rows[i].low, rows[i].high, value);
	}
	strbuf_free(&answer);
}

#define NO_LOCAL(family, policy)                                               \
	"sync_proxy_rules_no_local_endpoints_total{ip_family=\"" family        \
	"\",traffic_policy=\"" policy "\"}"
#define YEAR_2020 1577836800.0
#define FAR 1e11
#define LOCAL "{addresses: [10.180.1.1], nodeName: node1}"
#define REMOTE "{addresses: [10.180.2.2], nodeName: node2}"

/* Section 16, MET-1, MET-3 */
START_TEST(test_metrics)
{
	static const struct metric_row first[] = {
		{ "sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}",
		  1, 3 },
		{ "sync_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"}",
		  1, 3 },
		{ "sync_proxy_rules_duration_seconds_sum{ip_family=\"IPv4\"}",
		  1e-6, 20 },
		{ "sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"16.384\"}",
		  0, 3 },
		{ "sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"+Inf\"}",
		  1, 3 },
		{ "sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}",
		  1, 3 },
		{ "sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}",
		  0, 2 },
		{ "sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"}",
		  YEAR_2020, FAR },
		{ "sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv6\"}",
		  YEAR_2020, FAR },
		{ "network_programming_duration_seconds_count{ip_family=\"IPv4\"}",
		  0, 0 },
		{ "sync_proxy_rules_endpoint_changes_pending", 0, 0 },
		{ "sync_proxy_rules_endpoint_changes_total", 1, 1 },
		{ "sync_proxy_rules_service_changes_pending", 0, 0 },
		{ "sync_proxy_rules_service_changes_total", 1, 1 },
		{ NO_LOCAL("IPv4", "external"), 2, 2 },
		{ NO_LOCAL("IPv4", "internal"), 0, 0 },
		/* not alive there, so it does not count */
		{ NO_LOCAL("IPv6", "external"), 0, 0 },
		{ "sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"}",
		  0, 0 },
		{ "sync_proxy_rules_nftables_cleanup_failures_total{ip_family=\"IPv4\"}",
		  0, 0 },
		{ "proxy_healthz_total{code=\"200\"}", 1, 1 },
		{ "proxy_healthz_total{code=\"503\"}", 0, 0 },
		{ "proxy_livez_total{code=\"200\"}", 0, 0 },
		{ "conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"}",
		  0, 0 },
		{ "conntrack_reconciler_sync_duration_seconds_count{ip_family=\"IPv4\"}",
		  0, 10 },
	};
	static const struct metric_row then[] = {
		{ "sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}",
		  2, 5 },
		{ "sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}",
		  1, 3 },
		{ "sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}",
		  1, 4 },
		{ "sync_proxy_rules_endpoint_changes_pending", 0, 0 },
		{ "sync_proxy_rules_endpoint_changes_total", 2, 2 },
		/* the Service was seen again in its file, but is the same */
		{ "sync_proxy_rules_service_changes_total", 1, 1 },
		{ NO_LOCAL("IPv4", "external"), 0, 0 },
		{ "sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"}",
		  0, 0 },
	};
	struct strbuf answer = STRBUF_INIT;
	struct scratch s;
	pid_t pid;

	if (!begin(&s, LB("0", "Local", REMOTE)))
		return;
	pid = daemon_start(FROM_FOLDER "-v 3");
	until_logged("synced IPv6: full");
	until_rule("nodeport-external-local");
	ck_assert_int_eq(fetch("127.0.0.1", 10256, "/healthz", &answer), 200);
	check_metrics("after one sync", first, N_ROWS(first));

	write_file("m/a.yaml", LB("0", "Local", LOCAL));
	until_rule("172.30.0.60 . tcp . 80 . 0 : 10.180.1.1 . 8080");
	until_logged("synced IPv4: partial");
	usleep(100 * 1000);
	check_metrics("after a change", then, N_ROWS(then));
	strbuf_free(&answer);
	end(&s, pid);
}
END_TEST

/* HZ-1 to HZ-5, section 16 */
START_TEST(test_health)
{
	static const struct {
		const char *name;
		unsigned int port;
		const char *path;
		int status;
		const char *has, *body;
	} rows[] = {
		{ "HZ-5: healthz", 10256, "/healthz", 200,
		  "Content-Type: application/json", "\"nodeEligible\":true" },
		{ "HZ-2: livez", 10256, "/livez", 200,
		  "X-Content-Type-Options: nosniff", "\"healthy\":true" },
		{ "HZ-1: others", 10256, "/other", 404, "404", "" },
		{ "proxyMode", 10249, "/proxyMode", 200,
		  "Content-Type: text/plain; charset=utf-8", "\r\n\r\nnftables" },
		{ "healthz there", 10249, "/healthz", 200, "200 OK", "\r\n\r\nok" },
		{ "configz", 10249, "/configz", 200, "Content-Type: application/json",
		  "{\"kubeproxy.config.k8s.io\":{" },
		{ "configz: values", 10249, "/configz", 200,
		  "\"oomScoreAdj\":0", "\"hostnameOverride\":\"node1\"" },
		{ "others", 10249, "/secrets", 404, "404", "" },
	};
	struct strbuf answer = STRBUF_INIT;
	struct scratch s;
	pid_t pid;
	int i, status;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	pid = daemon_start(FROM_FOLDER);
	until_rule("172.30.0.41 . tcp . 80 . 0");
	for (i = 0; i < N_ROWS(rows); i++) {
		status = fetch("127.0.0.1", rows[i].port, rows[i].path, &answer);
		ck_assert_msg(status == rows[i].status &&
				      strstr(answer.text, rows[i].has) &&
				      strstr(answer.text, rows[i].body),
			      "%s: want %d, '%s' and '%s', got:\n%s",
			      rows[i].name, rows[i].status, rows[i].has,
			      rows[i].body, answer.text);
	}
	/* HZ-4: eligible no longer, but alive */
	write_file("m/node.yaml",
		   NODE("{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}"));
	for (i = 0;
	     i < 200 && fetch("127.0.0.1", 10256, "/healthz", &answer) != 503; i++)
		usleep(50 * 1000);
	ck_assert_ptr_nonnull(strstr(answer.text, "\"nodeEligible\":false"));
	ck_assert_int_eq(fetch("127.0.0.1", 10256, "/livez", &answer), 200);
	strbuf_free(&answer);
	end(&s, pid);
}
END_TEST

/* vipmap status asks the running one. */
START_TEST(test_status)
{
	struct strbuf out = STRBUF_INIT, err = STRBUF_INIT;
	struct scratch s;
	pid_t pid;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	pid = daemon_start(FROM_FOLDER);
	until_rule("172.30.0.41 . tcp . 80 . 0");
	ck_assert_msg(run_apart("./vipmap status", &out, &err) == 0, "%s",
		      err.text);
	ck_assert_msg(strstr(out.text,
			     "IPv4        ok          1 service port   1 endpoint "),
		      "%s", out.text);
	ck_assert_msg(run_apart("./vipmap get services", &out, &err) == 0, "%s",
		      err.text);
	ck_assert_msg(strstr(out.text, "web ") &&
			      strstr(out.text, "172.30.0.41:80/tcp"),
		      "%s", out.text);
	strbuf_free(&out);
	strbuf_free(&err);
	end(&s, pid);
}
END_TEST

struct health_step {
	const char *name, *manifest;
	const char *address;
	unsigned int port;
	int status; /* of HTTP; -ECONNREFUSED: closed */
	const char *weight, *body;
};

/* HC-5: the answer comes after the rules; so it is waited for. */
static void check_health_step(const struct health_step *step)
{
	struct strbuf answer = STRBUF_INIT;
	int i, status = 0;

	write_file("m/a.yaml", step->manifest);
	for (i = 0; i < 200; i++) {
		status = fetch(step->address, step->port, "/any/path", &answer);
		if (status == step->status &&
		    (status < 0 || (strstr(answer.text, step->weight) &&
				    strstr(answer.text, step->body))))
			break;
		usleep(50 * 1000);
	}
	ck_assert_msg(i < 200, "%s: want %d, '%s', '%s', got %d:\n%s",
		      step->name, step->status, step->weight, step->body,
		      status, answer.text);
	strbuf_free(&answer);
}

#define WEIGHT "X-Load-Balancing-Endpoint-Weight: "
#define TERMINATING                                                            \
	"{addresses: [10.180.1.1], nodeName: node1, conditions: "              \
	"{ready: false, serving: true, terminating: true}}"

START_TEST(test_health_check_ports)
{
	static const struct health_step steps[] = {
		{ "HC-4: two local ones over two ports",
		  LB("31060", "Local",
		     LOCAL ", {addresses: [10.180.1.3], nodeName: node1}, " REMOTE),
		  "192.168.7.11", 31060, 200, WEIGHT "2\r\n",
		  "{\"service\":{\"namespace\":\"shop\",\"name\":\"lb\"},\"localEndpoints\":2,"
		  "\"serviceProxyHealthy\":true}" },
		{ "HC-4: one", LB("31060", "Local", LOCAL ", " REMOTE),
		  "192.168.7.11", 31060, 200, WEIGHT "1\r\n",
		  "\"localEndpoints\":1" },
		{ "HC-2: IPv6 has none", LB("31060", "Local", LOCAL ", " REMOTE),
		  "fd00:7::11", 31060, 503, WEIGHT "0\r\n", "\"localEndpoints\":0" },
		{ "HC-2: on the node-port addresses only",
		  LB("31060", "Local", LOCAL), "127.0.0.1", 31060,
		  -ECONNREFUSED, NULL, NULL },
		{ "HC-4: draining", LB("31060", "Local", TERMINATING), "192.168.7.11",
		  31060, 503, WEIGHT "0\r\n", "Content-Type: application/json" },
		{ "HC-3: elsewhere only", LB("31060", "Local", REMOTE),
		  "192.168.7.11", 31060, 503, WEIGHT "0\r\n",
		  "X-Content-Type-Options: nosniff" },
		{ "HC-6: another port", LB("31061", "Local", LOCAL),
		  "192.168.7.11", 31061, 200, WEIGHT "1\r\n", "" },
		{ "HC-6: the old one is closed", LB("31061", "Local", LOCAL),
		  "192.168.7.11", 31060, -ECONNREFUSED, NULL, NULL },
		{ "HC-1: policy Cluster", LB("31061", "Cluster", LOCAL),
		  "192.168.7.11", 31061, -ECONNREFUSED, NULL, NULL },
		{ "HC-1: Local again", LB("31061", "Local", LOCAL),
		  "192.168.7.11", 31061, 200, WEIGHT "1\r\n", "" },
		{ "HC-6: the Service is gone", "", "192.168.7.11", 31061,
		  -ECONNREFUSED, NULL, NULL },
	};
	struct scratch s;
	pid_t pid;
	int i;

	if (!begin(&s, ""))
		return;
	pid = daemon_start(FROM_FOLDER);
	for (i = 0; i < N_ROWS(steps); i++)
		check_health_step(&steps[i]);
	end(&s, pid);
}
END_TEST

/* HC-7: told once, and tried again at a later sync. HC-8: healthy without a health server. */
START_TEST(test_health_check_port_in_use)
{
	static const struct health_step step = { "HC-7: free again",
						 LB("31060", "Local", LOCAL),
						 "192.168.7.11",
						 31060,
						 200,
						 WEIGHT "1\r\n",
						 "\"serviceProxyHealthy\":true" };
	struct scratch s;
	pid_t pid;
	int fd;

	if (!begin(&s, LB("31060", "Local", REMOTE)))
		return;
	fd = http_occupy("192.168.7.11", 31060);
	ck_assert_int_ge(fd, 0);
	pid = daemon_start(FROM_FOLDER "--healthz-bind-address=");
	until_logged("failed to start healthcheck \"shop/lb\" on port 31060");
	until_rule("nodeport-external-local"); /* the rules are there all the same */
	close(fd);
	check_health_step(&step);
	end(&s, pid);
}
END_TEST

/* HZ-6 */
START_TEST(test_server_address_in_use)
{
	struct strbuf answer = STRBUF_INIT;
	struct scratch s;
	int fd, i;
	pid_t pid;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	fd = http_occupy("127.0.0.1", 9999);
	ck_assert_int_ge(fd, 0);
	pid = daemon_start(
		FROM_FOLDER
		"--bind-address-hard-fail --healthz-bind-address=127.0.0.1:9999");
	until_logged("9999");
	ck_assert_int_eq(daemon_stop(pid, 0), 1);
	pid = daemon_start(FROM_FOLDER "--healthz-bind-address=127.0.0.1:9999");
	until_rule("172.30.0.41 . tcp . 80 . 0");
	close(fd);
	for (i = 0;
	     i < 200 && fetch("127.0.0.1", 9999, "/healthz", &answer) != 200; i++)
		usleep(50 * 1000);
	ck_assert_int_lt(i, 200);
	strbuf_free(&answer);
	end(&s, pid);
}
END_TEST

/* What a reload is tried with: a file, and objects from @objects. */
#define RELOAD "--config config.yaml --hostname-override=node1 "

static unsigned int logged(const char *text)
{
	char *all = read_whole("log"), *at = all;
	unsigned int n = 0;

	while ((at = strstr(at, text))) {
		at += strlen(text);
		n++;
	}
	free(all);
	return n;
}

/* Sends SIGHUP and waits until @text is in the log once more. */
static void hang_up(pid_t pid, const char *text)
{
	unsigned int before = logged(text), i;

	ck_assert_int_eq(kill(pid, SIGHUP), 0);
	for (i = 0; i < 400 && logged(text) == before; i++)
		usleep(50 * 1000);
	if (i == 400)
		until_logged(text); /* shows the log */
	ck_assert_msg(i < 400, "SIGHUP: '%s' is not said again", text);
}

/* CFG-3: standard input is at its end, and is not asked again. */
START_TEST(test_reload_standard_input)
{
	struct scratch s;
	pid_t pid;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	ck_assert_int_eq(
		system("cat m/node.yaml - m/a.yaml >objects <<-EOF\n---\nEOF\n"),
		0);
	write_file("config.yaml", CONFIG("10.180.0.0/16", ""));
	pid = daemon_start(RELOAD "--manifests - <objects");
	until_range("10.180.0.0/16", NULL);
	until_rule("172.30.0.41 . tcp . 80 . 0 : 10.180.1.1 . 8080");
	hang_up(pid, "nothing has changed");
	write_file("config.yaml", CONFIG("10.181.0.0/16", ""));
	hang_up(pid, "configuration changed: clusterCIDR 10.180.0.0/16 -> 10.181.0.0/16; rules of "
		     "IPv4 replaced");
	until_range("10.181.0.0/16", NULL);
	until_rule("172.30.0.41 . tcp . 80 . 0 : 10.180.1.1 . 8080");

	/* for another node other endpoints would be local, which nobody can tell any more */
	ck_assert_int_eq(daemon_stop(pid, SIGTERM), 0);
	ck_assert_int_eq(unlink("log"), 0);
	write_file("config.yaml",
		   CONFIG("10.181.0.0/16", "hostnameOverride: node1\n"));
	pid = daemon_start("--config config.yaml --manifests - <objects");
	until_logged("ready after");
	write_file("config.yaml",
		   CONFIG("10.182.0.0/16", "hostnameOverride: node2\n"));
	hang_up(pid,
		"configuration stays as it was: hostnameOverride: cannot change while");
	until_range("10.181.0.0/16", NULL);
	write_file("config.yaml",
		   CONFIG("10.182.0.0/16", "hostnameOverride: node1\n"));
	hang_up(pid, "configuration changed: clusterCIDR");
	until_range("10.182.0.0/16", NULL);
	until_rule("172.30.0.41 . tcp . 80 . 0 : 10.180.1.1 . 8080");
	end(&s, pid);
}
END_TEST

static double transactions(void)
{
	struct strbuf answer = STRBUF_INIT;
	double sum;

	ck_assert_int_eq(fetch("127.0.0.1", 10249, "/metrics", &answer), 200);
	sum = metric(answer.text, "vipmap_transactions_total{ip_family=\"IPv4\"}") +
	      metric(answer.text, "vipmap_transactions_total{ip_family=\"IPv6\"}");
	strbuf_free(&answer);
	return sum;
}

/* HZ-8: what does not concern the rules writes nothing, however often it comes. */
START_TEST(test_reload_writes_nothing)
{
	struct strbuf answer = STRBUF_INIT;
	char *before, *after;
	struct scratch s;
	pid_t pid;
	double wrote;
	int i;

	if (!begin(&s, LB("31060", "Local", LOCAL)))
		return;
	write_file("config.yaml", CONFIG("10.180.0.0/16", ""));
	pid = daemon_start(RELOAD "--manifests m");
	until_rule("nodeport-external-local");
	for (i = 0;
	     i < 200 && fetch("192.168.7.11", 31060, "/", &answer) != 200; i++)
		usleep(50 * 1000);
	before = program_rules();
	wrote = transactions();
	for (i = 0; i < 20; i++)
		ck_assert_int_eq(kill(pid, SIGHUP), 0);
	hang_up(pid, "nothing has changed");
	write_file("config.yaml",
		   CONFIG("10.180.0.0/16",
			  "configSyncPeriod: 1m\nnftables: {syncPeriod: 10s}\n"
			  "logging: {verbosity: 3}\n"));
	hang_up(pid, "configuration changed: logging.verbosity 0 -> 3, nftables.syncPeriod 30s -> "
		     "10s, configSyncPeriod 15m0s -> 1m0s\n");
	ck_assert_int_eq(fetch("192.168.7.11", 31060, "/", &answer), 200);
	ck_assert_int_eq(fetch("127.0.0.1", 10256, "/healthz", &answer), 200);
	ck_assert_int_eq(fetch("127.0.0.1", 10249, "/configz", &answer), 200);
	ck_assert_ptr_nonnull(strstr(answer.text, "\"syncPeriod\":\"10s\""));
	ck_assert_msg(transactions() <= wrote, "a reload wrote to the kernel");
	after = program_rules();
	ck_assert_str_eq(before, after);

	/* the verbosity counts at once */
	write_file("m/a.yaml", LB("31060", "Local", LOCAL ", " REMOTE));
	until_logged("synced IPv4: partial");
	free(before);
	free(after);
	strbuf_free(&answer);
	end(&s, pid);
}
END_TEST

static void until_file(const char *path, const char *want)
{
	char command[256];

	snprintf(command, sizeof(command), "test \"$(cat %s)\" = %s", path, want);
	until(path, command);
}

#define TIMEOUT_FILE                                                           \
	"/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established"

/* Kernel settings and the process' own are set again (section 21). */
START_TEST(test_reload_kernel_settings)
{
	static const char format[] =
		"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
		"mode: nftables\noomScoreAdj: %s\n"
		"conntrack: {maxPerCore: 0, tcpEstablishedTimeout: %s}\n";
	char text[512], path[64];
	struct scratch s;
	pid_t pid;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	snprintf(text, sizeof(text), format, "0", "1000s");
	write_file("config.yaml", text);
	pid = daemon_start(RELOAD "--manifests m");
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
	until_file(TIMEOUT_FILE, "1000");
	snprintf(text, sizeof(text), format, "7", "2000s");
	write_file("config.yaml", text);
	hang_up(pid, "configuration changed: oomScoreAdj 0 -> 7, conntrack.tcpEstablishedTimeout "
		     "16m40s -> 33m20s");
	until_file(TIMEOUT_FILE, "2000");
	until_file(path, "7");
	end(&s, pid);
}
END_TEST

/* Servers move, or stay wholly as they are. */
START_TEST(test_reload_servers)
{
	struct strbuf answer = STRBUF_INIT;
	struct scratch s;
	pid_t pid;
	int fd;

	if (!begin(&s, LB("31060", "Local", LOCAL)))
		return;
	write_file("config.yaml", CONFIG("10.180.0.0/16", ""));
	pid = daemon_start(RELOAD "--manifests m");
	until_rule("nodeport-external-local");
	write_file("config.yaml", CONFIG("10.180.0.0/16",
					 "healthzBindAddress: 127.0.0.1:9001\n"
					 "metricsBindAddress: 127.0.0.1:9002\n"));
	hang_up(pid, "configuration changed: healthzBindAddress 0.0.0.0:10256 -> 127.0.0.1:9001, "
		     "metricsBindAddress 127.0.0.1:10249 -> 127.0.0.1:9002");
	ck_assert_int_eq(fetch("127.0.0.1", 9001, "/healthz", &answer), 200);
	ck_assert_int_eq(fetch("127.0.0.1", 9001, "/readyz", &answer), 200);
	ck_assert_int_eq(fetch("127.0.0.1", 9002, "/proxyMode", &answer), 200);
	ck_assert_int_eq(fetch("127.0.0.1", 10256, "/healthz", &answer),
			 -ECONNREFUSED);
	ck_assert_int_eq(fetch("127.0.0.1", 10249, "/proxyMode", &answer),
			 -ECONNREFUSED);
	ck_assert_int_eq(fetch("192.168.7.11", 31060, "/", &answer), 200);

	/* the second cannot be had: the first stays as well, and so does the range */
	fd = http_occupy("127.0.0.1", 9004);
	write_file("config.yaml", CONFIG("10.181.0.0/16",
					 "healthzBindAddress: 127.0.0.1:9003\n"
					 "metricsBindAddress: 127.0.0.1:9004\n"
					 "bindAddressHardFail: true\n"));
	hang_up(pid, "configuration stays as it was: metrics server: cannot listen on 127.0.0.1 "
		     "port 9004");
	ck_assert_int_eq(fetch("127.0.0.1", 9001, "/healthz", &answer), 200);
	ck_assert_int_eq(fetch("127.0.0.1", 9002, "/configz", &answer), 200);
	ck_assert_ptr_nonnull(
		strstr(answer.text, "\"clusterCIDR\":\"10.180.0.0/16\""));
	ck_assert_int_eq(fetch("127.0.0.1", 9003, "/healthz", &answer),
			 -ECONNREFUSED);
	until_range("10.180.0.0/16", NULL);
	close(fd);
	hang_up(pid, "configuration changed: ");
	ck_assert_int_eq(fetch("127.0.0.1", 9003, "/healthz", &answer), 200);
	ck_assert_int_eq(fetch("127.0.0.1", 9004, "/proxyMode", &answer), 200);
	until_range("10.181.0.0/16", NULL);
	strbuf_free(&answer);
	end(&s, pid);
}
END_TEST

/* Another node: other endpoints are local, and its own object counts. */
START_TEST(test_reload_node_name)
{
	struct strbuf answer = STRBUF_INIT;
	struct scratch s;
	pid_t pid;
	int i;

	if (!begin(&s, LB("31060", "Local",
			  LOCAL ", " REMOTE
				", {addresses: [10.180.2.3], nodeName: node2}")))
		return;
	write_file("m/other.yaml",
		   "apiVersion: v1\nkind: Node\nmetadata: {name: node2, uid: n2}\nstatus: "
		   "{addresses: [{type: InternalIP, address: 192.168.7.11}]}\n");
	write_file("config.yaml",
		   CONFIG("10.180.0.0/16", "hostnameOverride: node1\n"));
	pid = daemon_start("--config config.yaml --manifests m");
	for (i = 0;
	     i < 200 && fetch("192.168.7.11", 31060, "/", &answer) != 200; i++)
		usleep(50 * 1000);
	ck_assert_ptr_nonnull(strstr(answer.text, WEIGHT "1\r\n"));
	write_file("config.yaml",
		   CONFIG("10.180.0.0/16", "hostnameOverride: node2\n"));
	hang_up(pid, "configuration changed: hostnameOverride node1 -> node2; objects are listed "
		     "again");
	for (i = 0; i < 200 && !strstr(answer.text, WEIGHT "2\r\n"); i++) {
		usleep(50 * 1000);
		ck_assert_int_eq(fetch("192.168.7.11", 31060, "/", &answer), 200);
	}
	ck_assert_int_lt(i, 200);
	/* files are followed as before */
	write_file("m/a.yaml", LB("31060", "Local", LOCAL ", " REMOTE));
	for (i = 0; i < 200 && !strstr(answer.text, WEIGHT "1\r\n"); i++) {
		usleep(50 * 1000);
		ck_assert_int_eq(fetch("192.168.7.11", 31060, "/", &answer), 200);
	}
	ck_assert_int_lt(i, 200);
	ck_assert_int_eq(fetch("127.0.0.1", 10256, "/healthz", &answer), 200);
	strbuf_free(&answer);
	end(&s, pid);
}
END_TEST

/* CFG-3: at any time, be it before anything is there. */
START_TEST(test_hangup_during_start)
{
	sigset_t hangup, before;
	struct scratch s;
	pid_t pid;
	int i;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	write_file("config.yaml", CONFIG("10.180.0.0/16", ""));
	sigemptyset(&hangup);
	sigaddset(&hangup, SIGHUP);
	for (i = 0; i < 12; i++) {
		/* held back from the shell, which would end */
		ck_assert_int_eq(sigprocmask(SIG_BLOCK, &hangup, &before), 0);
		pid = daemon_start(RELOAD "--manifests m");
		ck_assert_int_eq(sigprocmask(SIG_SETMASK, &before, NULL), 0);
		usleep((unsigned int)i * 2000);
		ck_assert_int_eq(kill(pid, SIGHUP), 0);
		until_logged("configuration read again: nothing has changed");
		until_range("10.180.0.0/16", NULL);
		ck_assert_int_eq(daemon_stop(pid, SIGTERM), 0);
		ck_assert_int_eq(unlink("log"), 0);
	}
	scratch_leave(&s);
}
END_TEST

/* A program that ends, and only waits for a server to take its events, has nothing to reload. */
START_TEST(test_hangup_while_events_are_sent)
{
	struct scratch s;
	int taken, silent, i;
	pid_t pid;

	if (!begin(&s, ""))
		return;
	taken = http_occupy("127.0.0.1", 9001);
	silent = http_occupy("127.0.0.1", 9002); /* never answers */
	write_file("config.yaml",
		   CONFIG("10.180.0.0/16", "healthzBindAddress: 127.0.0.1:9001\n"
					   "bindAddressHardFail: true\n"));
	pid = daemon_start(RELOAD "--master http://127.0.0.1:9002");
	until_logged("cannot listen on 127.0.0.1 port 9001");
	for (i = 0; i < 20; i++) {
		ck_assert_int_eq(kill(pid, SIGHUP), 0);
		usleep(10 * 1000);
	}
	ck_assert_int_eq(daemon_stop(pid, 0), 1);
	close(taken);
	close(silent);
	scratch_leave(&s);
}
END_TEST

/* HZ-7 */
START_TEST(test_ready)
{
	struct strbuf answer = STRBUF_INIT, out = STRBUF_INIT, err = STRBUF_INIT;
	struct scratch s;
	pid_t pid;
	int i, fd, status = 0;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	pid = daemon_start(FLAGS "--master http://127.0.0.1:9");
	for (i = 0; i < 200; i++) {
		status = fetch("127.0.0.1", 10256, "/readyz", &answer);
		if (status == 503 && strstr(answer.text, "refused"))
			break;
		usleep(50 * 1000);
	}
	ck_assert_int_eq(status, 503);
	ck_assert_msg(strstr(answer.text,
			     "\"ready\":false,\"waitingFor\":\"no list of Services "
			     "yet; http://127.0.0.1:9: ") != NULL,
		      "%s", answer.text);
	ck_assert_int_eq(fetch("127.0.0.1", 10256, "/livez", &answer), 200);
	ck_assert_int_eq(run_apart("./vipmap status --ready", &out, &err), 1);
	ck_assert_msg(strstr(out.text, "not ready: no list of Services yet") != NULL,
		      "%s", out.text);
	ck_assert_int_eq(daemon_stop(pid, SIGTERM), 0);

	/* while another program has the ports, as during a migration */
	fd = http_occupy("0.0.0.0", 10256);
	pid = daemon_start(FROM_FOLDER);
	until("ready", "./vipmap status --ready | grep -qx ready");
	ck_assert_int_eq(daemon_stop(pid, SIGTERM), 0);
	close(fd);

	ck_assert_int_eq(unlink("log"), 0);
	pid = daemon_start(FROM_FOLDER);
	until_rule("172.30.0.41 . tcp . 80 . 0");
	for (i = 0;
	     i < 200 && fetch("127.0.0.1", 10256, "/readyz", &answer) != 200; i++)
		usleep(50 * 1000);
	ck_assert_ptr_nonnull(strstr(answer.text, "{\"ready\":true,"));
	until("ready is told once",
	      "test $(grep -c 'ready after [0-9.]* s: 1 service port, 1 "
	      "endpoint;' log) = 1");
	strbuf_free(&answer);
	strbuf_free(&out);
	strbuf_free(&err);
	end(&s, pid);
}
END_TEST

/* What an operator reads at level 0, from the first line to the last. */
START_TEST(test_story)
{
	struct scratch s;
	pid_t pid;

	if (!begin(&s, WEB("41", "10.180.1.1")))
		return;
	pid = daemon_start(FROM_FOLDER " --cluster-cidr 10.180.0.0/16");
	until("who starts, and on what",
	      "grep -qE 'info: vipmap [0-9.]+ starting: node node1, manifests [^ ]+, "
	      "clusterCIDR 10.180.0.0/16, kernel '$(uname -r)' "
	      "[(]table (owned|watched)[)]$' log");
	until("ready",
	      "grep -qE 'info: ready after [0-9.]+ s: 1 service port, 1 endpoint; "
	      "a new table, [1-9][0-9]* elements written$' log");
	ck_assert_int_eq(daemon_stop(pid, SIGTERM), 0);
	until("the end",
	      "tail -n 1 log | grep -q 'info: stopped by SIGTERM; rules stay in force$'");

	ck_assert_int_eq(unlink("log"), 0);
	pid = daemon_start(FROM_FOLDER " --cluster-cidr 10.180.0.0/16");
	until("adopted",
	      "grep -qE 'info: ready after [0-9.]+ s: 1 service port, 1 endpoint; "
	      "adopted the table of the former process, 0 elements written$' log");
	ck_assert_int_eq(daemon_stop(pid, SIGINT), 0);
	until("the end",
	      "tail -n 1 log | grep -q 'info: stopped by SIGINT; rules stay in force$'");
	until_rule("172.30.0.41 . tcp . 80 . 0 : 10.180.1.1 . 8080");

	/* the other way round: a table that is of no version of ours */
	ck_assert_int_eq(system("nft delete table ip vipmap && nft add table ip vipmap && "
				"nft add chain ip vipmap foreign"),
			 0);
	ck_assert_int_eq(unlink("log"), 0);
	pid = daemon_start(FROM_FOLDER);
	until("replaced", "grep -qE 'info: .* replaced the table of another version, "
			  "[1-9][0-9]* elements written$' log");
	until("without a range", "grep -q 'clusterCIDR unset' log");
	end(&s, pid);
}
END_TEST

Suite *make_suite(void)
{
	const TTest *const tests[] = {
		test_folder_followed,
		test_file_followed,
		test_signals_leave_the_rules,
		test_config_followed,
		test_mounted_config,
		test_kubeadm_config,
		test_metrics,
		test_health,
		test_status,
		test_health_check_ports,
		test_health_check_port_in_use,
		test_server_address_in_use,
		test_reload_standard_input,
		test_reload_writes_nothing,
		test_reload_kernel_settings,
		test_reload_servers,
		test_reload_node_name,
		test_hangup_during_start,
		test_hangup_while_events_are_sent,
		test_ready,
		test_story,
	};
	Suite *suite = suite_create("daemon");
	TCase *tcase = tcase_create("daemon");
	int i;

	/* several waits of support_program.c's 20 s, which say more than this */
	tcase_set_timeout(tcase, 180);
	for (i = 0; i < N_ROWS(tests); i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	return suite;
}
