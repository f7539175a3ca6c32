/*
 * The program from outside: exit statuses, what it prints and where, signals, files. Each test that
 * writes rules does so in a network namespace of its own. VIPMAP names the program.
 */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/httpd.h"
#include "proxy/strbuf.h"
#include "tests/support_apiserver.h"

#define N(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))
#define CHECK_HAS(row, got, want)                                                                  \
	ck_assert_msg(strstr(got, want) != NULL, "%s: want %s in:\n%.4000s", row, want, got)
#define CHECK_HAS_NOT(row, got, want)                                                              \
	ck_assert_msg(strstr(got, want) == NULL, "%s: unwanted %s in:\n%.4000s", row, want, got)

enum { N_MAX_ARGS = 10, NOBODY = 65534, WAIT_S = 20 };

static const char service[] =
	"apiVersion: v1\n"
	"kind: Service\n"
	"metadata: {name: web, namespace: default}\n"
	"spec:\n"
	"  clusterIPs: [172.30.0.41, 'fd00:30::41']\n"
	"  clusterIP: 172.30.0.41\n"
	"  ipFamilies: [IPv4, IPv6]\n"
	"  ports: [{name: http, port: 80, protocol: TCP, nodePort: 30080}]\n"
	"---\n"
	"apiVersion: discovery.k8s.io/v1\n"
	"kind: EndpointSlice\n"
	"metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}\n"
	"addressType: IPv4\n"
	"endpoints: [{addresses: [10.180.0.1]}, {addresses: [10.180.0.2]}]\n"
	"ports: [{name: http, port: 8080, protocol: TCP}]\n";

struct fixture {
	char folder[64];
	struct strbuf out, err;
};

static const char *program(void)
{
	const char *path = getenv("VIPMAP");

	return path ? path : "build/gcc/vipmap";
}

static const char *path_in(const struct fixture *f, const char *name)
{
	static _Thread_local char path[128];

	snprintf(path, sizeof(path), "%s/%s", f->folder, name);
	return path;
}

static void put_file(const struct fixture *f, const char *name, const char *text)
{
	FILE *out = fopen(path_in(f, name), "w");

	ck_assert_ptr_nonnull(out);
	fputs(text, out);
	fclose(out);
}

static void begin(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	snprintf(f->folder, sizeof(f->folder), "/tmp/test_program.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->folder));
	ck_assert_int_eq(chmod(f->folder, 0755), 0);
	put_file(f, "web.yaml", service);
}

static void end(struct fixture *f)
{
	static const char *const names[] = { "web.yaml", "config", "written", "out", "err", "bad" };
	int i;

	for (i = 0; i < N(names); i++)
		unlink(path_in(f, names[i]));
	ck_assert_msg(rmdir(f->folder) == 0, "%s: %s", f->folder, strerror(errno));
	strbuf_free(&f->out);
	strbuf_free(&f->err);
}

static void read_file(const struct fixture *f, const char *name, struct strbuf *text)
{
	FILE *in = fopen(path_in(f, name), "r");
	char chunk[4096];
	size_t n;

	strbuf_reset(text);
	strbuf_adds(text, "");
	ck_assert_ptr_nonnull(in);
	while ((n = fread(chunk, 1, sizeof(chunk), in)) > 0)
		strbuf_add(text, chunk, n);
	fclose(in);
}

static void redirect(const char *path, int to)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || dup2(fd, to) < 0)
		_exit(126);
	close(fd);
}

/* Begins a program with its output in files. @uid 0: as we are. */
static pid_t launch(const struct fixture *f, const char *const *argv, unsigned int uid)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid)
		return pid;
	redirect(path_in(f, "out"), STDOUT_FILENO);
	redirect(path_in(f, "err"), STDERR_FILENO);
	if (uid && (setgid(uid) || setuid(uid)))
		_exit(125);
	execvp(argv[0], (char *const *)(const void *)argv);
	_exit(127);
}

/* Exit status, or -SIGNAL. */
static int wait_for(struct fixture *f, pid_t pid)
{
	int status = 0, i;

	for (i = 0; i < WAIT_S * 100 && waitpid(pid, &status, WNOHANG) == 0; i++)
		poll(NULL, 0, 10);
	if (i == WAIT_S * 100) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	read_file(f, "out", &f->out);
	read_file(f, "err", &f->err);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* "@NAME" stands for that file in the test's folder. */
static void expand(const struct fixture *f, const char *const *args, const char **argv,
		   char text[][128])
{
	int i;

	argv[0] = program();
	for (i = 0; i < N_MAX_ARGS && args[i]; i++) {
		snprintf(text[i], 128, "%s", args[i][0] == '@' ? path_in(f, args[i] + 1) : args[i]);
		argv[i + 1] = text[i];
	}
	argv[i + 1] = NULL;
}

static pid_t start(const struct fixture *f, const char *const *args, unsigned int uid)
{
	const char *argv[N_MAX_ARGS + 2];
	char text[N_MAX_ARGS][128];

	expand(f, args, argv, text);
	return launch(f, argv, uid);
}

#define ARGS(...) ((const char *const[N_MAX_ARGS + 1]){ __VA_ARGS__ })

static int run(struct fixture *f, const char *const *args)
{
	return wait_for(f, start(f, args, 0));
}

/* A tool to look from outside; its output is in f->out. */
static int tool(struct fixture *f, const char *const *argv)
{
	return wait_for(f, launch(f, argv, 0));
}

static void loopback_up(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
	close(fd);
}

/* Check runs each test in a process of its own, so this need not be undone. */
static bool own_namespace(void)
{
	if (unshare(CLONE_NEWNET)) {
		printf("skipped: no network namespace: %s\n", strerror(errno));
		return false;
	}
	loopback_up();
	return true;
}

static const struct {
	const char *name;
	const char *args[N_MAX_ARGS + 1];
	int status;
	const char *out, *err; /* contained; NULL: nothing at all */
} runs[] = {
	{ "version", { "--version" }, 0, "vipmap " VIPMAP_VERSION, NULL },
	{ "help", { "--help" }, 0, "--manifests", NULL },
	{ "FLAG-2 unknown flag", { "--frobnicate" }, 2, NULL, "unknown flag: --frobnicate" },
	{ "FLAG-2 positional", { "frobnicate" }, 2, NULL, "unexpected argument \"frobnicate\"" },
	{ "CFG-2", { "--proxy-mode=ipvs" }, 2, NULL, "mode: \"ipvs\" is not offered" },
	{ "missing config", { "--config", "@missing" }, 2, NULL, "/missing: " },
	{ "CFG-1 wrong kind", { "--config", "@web.yaml" }, 2, NULL, "/web.yaml: " },
	{ "missing manifests", { "--manifests", "@missing", "--once" }, 1, NULL, "/missing: " },
	{ "dry run",
	  { "--manifests", "@web.yaml", "--dry-run", "--hostname-override=n" },
	  0,
	  "172.30.0.41 . tcp . 80 comment \"default/web:http\" : goto cluster-pick-2",
	  "Node n: not among the manifests" },
	{ "explain",
	  { "explain", "--manifests", "@web.yaml", "10.180.0.9", "tcp", "172.30.0.41", "80" },
	  0,
	  "50.00 %  10.180.0.2:8080",
	  "not among the manifests" },
	{ "DS-3 explain, the other family",
	  { "explain", "--manifests", "@web.yaml", "fd00::9", "tcp", "fd00:30::41", "80" },
	  0,
	  "refused: no endpoints",
	  "not among the manifests" },
	{ "VER-7 explain, nothing of ours",
	  { "explain", "--manifests", "@web.yaml", "10.180.0.9", "udp", "192.0.2.1", "53" },
	  0,
	  "passed",
	  "not among the manifests" },
};

START_TEST(exit_status)
{
	const char *row = runs[_i].name;
	struct fixture f;
	int status;

	begin(&f);
	status = run(&f, runs[_i].args);
	ck_assert_msg(status == runs[_i].status, "%s: want %d, got %d: %s", row, runs[_i].status,
		      status, f.err.text);
	if (runs[_i].out)
		CHECK_HAS(row, f.out.text, runs[_i].out);
	else
		ck_assert_msg(f.out.length == 0, "%s: on standard output: %s", row, f.out.text);
	if (runs[_i].err)
		CHECK_HAS(row, f.err.text, runs[_i].err);
	else
		ck_assert_msg(f.err.length == 0, "%s: on standard error: %s", row, f.err.text);
	end(&f);
}
END_TEST

START_TEST(dry_run_needs_nothing)
{
	struct strbuf first = STRBUF_INIT;
	struct fixture f;

	begin(&f);
	ck_assert_int_eq(wait_for(&f, start(&f, ARGS("--dry-run", "--manifests", "@web.yaml"),
					    geteuid() ? 0 : NOBODY)),
			 0);
	strbuf_adds(&first, f.out.text);
	CHECK_HAS("both families", first.text, "table ip vipmap {");
	CHECK_HAS("both families", first.text, "table ip6 vipmap {");
	CHECK_HAS_NOT("PROTO-4 packets that conntrack calls invalid", first.text, "invalid");
	CHECK_HAS_NOT("PROTO-4, VER-19", first.text, "ct state");
	CHECK_HAS("VER-16 only the hooks' own policy", first.text, "policy accept;");
	CHECK_HAS_NOT("VER-16 no rule accepts", first.text, "\taccept");
	CHECK_HAS_NOT("VER-16 no rule accepts", first.text, " accept\n");
	CHECK_HAS_NOT("VER-16 no filter hooks", first.text, "type filter");
	ck_assert_int_eq(run(&f, ARGS("--dry-run", "--manifests", "@web.yaml")), 0);
	ck_assert_msg(strcmp(first.text, f.out.text) == 0, "same objects, other bytes");
	strbuf_free(&first);
	end(&f);
}
END_TEST

START_TEST(unprivileged)
{
	struct fixture f;

	if (geteuid()) {
		printf("skipped: not root\n");
		return;
	}
	begin(&f);
	ck_assert_int_eq(
		wait_for(&f, start(&f, ARGS("--once", "--manifests", "@web.yaml"), NOBODY)), 1);
	CHECK_HAS("not root", f.err.text, "CAP_NET_ADMIN");
	end(&f);
}
END_TEST

START_TEST(written_config)
{
	struct fixture f;

	begin(&f);
	ck_assert_int_eq(run(&f, ARGS("--write-config-to", "@written")), 0);
	read_file(&f, "written", &f.out);
	CHECK_HAS("default", f.out.text, "\"kind\":\"KubeProxyConfiguration\"");
	CHECK_HAS("default", f.out.text, "\"masqueradeBit\":14");
	ck_assert_int_eq(run(&f, ARGS("--config", "@written", "--dry-run", "--manifests",
				      "@web.yaml", "--hostname-override=n")),
			 0);
	CHECK_HAS_NOT("reads its own file without complaint", f.err.text, "written");
	end(&f);
}
END_TEST

START_TEST(once_and_cleanup)
{
	static const char *const list[] = { "nft", "list", "ruleset", NULL };
	static const char *const add[] = { "nft", "add table ip other", NULL };
	char path[4096];
	struct fixture f;

	if (!own_namespace())
		return;
	begin(&f);
	snprintf(path, sizeof(path), "%s", getenv("PATH") ? getenv("PATH") : "");
	ck_assert_int_eq(tool(&f, add), 0);
	ck_assert_int_eq(setenv("PATH", "/nonexistent", 1), 0);
	ck_assert_msg(run(&f, ARGS("--once", "--manifests", "@web.yaml")) == 0, "RUN-11: %s",
		      f.err.text);
	ck_assert_int_eq(setenv("PATH", path, 1), 0);
	ck_assert_int_eq(tool(&f, list), 0);
	CHECK_HAS("once", f.out.text, "172.30.0.41 . tcp . 80 comment \"default/web:http\"");
	CHECK_HAS("once", f.out.text, "table ip6 vipmap {");
	ck_assert_msg(run(&f, ARGS("--cleanup")) == 0, "RUN-9: %s", f.err.text);
	ck_assert_int_eq(tool(&f, list), 0);
	CHECK_HAS_NOT("RUN-9", f.out.text, "vipmap");
	CHECK_HAS("RUN-7 others' tables", f.out.text, "table ip other");
	ck_assert_msg(run(&f, ARGS("--cleanup")) == 0, "RUN-9 already clean: %s", f.err.text);
	end(&f);
}
END_TEST

/* Waits until @text stands in file @name. */
static void wait_for_text(struct fixture *f, const char *name, const char *text)
{
	struct strbuf got = STRBUF_INIT;
	int i;

	for (i = 0; i < WAIT_S * 100; i++) {
		read_file(f, name, &got);
		if (strstr(got.text, text))
			break;
		poll(NULL, 0, 10);
	}
	ck_assert_msg(i < WAIT_S * 100, "%s: no \"%s\" in:\n%s", name, text, got.text);
	strbuf_free(&got);
}

/* The status of a page of the program that runs; waits until it listens. */
static int page(struct fixture *f, uint16_t port, const char *path)
{
	const struct addr lo = { { 127, 0, 0, 1 } };
	int status = -ECONNREFUSED, i;

	for (i = 0; i < WAIT_S * 100 && status == -ECONNREFUSED; i++) {
		strbuf_reset(&f->out);
		status = httpd_fetch(FAMILY_IPV4, &lo, port, path, 5000, &f->out, NULL);
		if (status == -ECONNREFUSED)
			poll(NULL, 0, 10);
	}
	return status;
}

static int rules_have(struct fixture *f, const char *text)
{
	struct fixture other = *f;
	int found;

	memset(&other.out, 0, sizeof(other.out));
	memset(&other.err, 0, sizeof(other.err));
	begin(&other);
	ck_assert_int_eq(tool(&other, (const char *const[]){ "nft", "list", "ruleset", NULL }), 0);
	found = strstr(other.out.text, text) != NULL;
	end(&other);
	return found;
}

static void wait_for_rules(struct fixture *f, const char *text)
{
	int i;

	for (i = 0; i < WAIT_S * 10 && !rules_have(f, text); i++)
		poll(NULL, 0, 100);
	ck_assert_msg(i < WAIT_S * 10, "no %s in the ruleset", text);
}

START_TEST(daemon_and_signals)
{
	struct fixture f;
	pid_t pid;

	if (!own_namespace())
		return;
	begin(&f);
	pid = start(&f, ARGS("--manifests", "@web.yaml", "--hostname-override=n"), 0);
	wait_for_rules(&f, "172.30.0.41 . tcp . 80 comment \"default/web:http\"");
	ck_assert_int_eq(page(&f, 10256, "/livez"), 200);
	ck_assert_msg(page(&f, 10256, "/healthz") == 503, "HZ-4: the node is unknown");
	ck_assert_int_eq(page(&f, 10249, "/metrics"), 200);
	CHECK_HAS("MET-4", f.out.text, "kubeproxy_sync_proxy_rules_last_timestamp_seconds{");
	ck_assert_int_eq(page(&f, 10249, "/configz"), 200);
	CHECK_HAS("configz", f.out.text, "\"hostnameOverride\":\"n\"");
	ck_assert_int_eq(kill(pid, _i ? SIGINT : SIGTERM), 0);
	ck_assert_msg(wait_for(&f, pid) == 0, "RUN-8: %s", f.err.text);
	ck_assert_msg(rules_have(&f, "172.30.0.41 . tcp . 80 comment"),
		      "RUN-8: the rules are gone");
	end(&f);
}
END_TEST

#define CONFIG(rest)                                                                               \
	"kind: KubeProxyConfiguration\napiVersion: kubeproxy.config.k8s.io/v1alpha1\n" rest

START_TEST(changed_config)
{
	struct fixture f;
	pid_t pid;

	if (!own_namespace())
		return;
	begin(&f);
	put_file(&f, "config", CONFIG("hostnameOverride: n\n"));
	pid = start(&f, ARGS("--config", "@config", "--manifests", "@web.yaml"), 0);
	wait_for_rules(&f, "172.30.0.41 . tcp . 80 comment");
	ck_assert_int_eq(page(&f, 10249, "/configz"), 200);
	/* CFG-3: a bad one is reported, and the old one stays in force */
	put_file(&f, "config", CONFIG("nftables: {masqueradeBit: 77}\n"));
	ck_assert_int_eq(kill(pid, SIGHUP), 0);
	wait_for_text(&f, "err", "nftables.masqueradeBit: 77");
	ck_assert_int_eq(page(&f, 10249, "/configz"), 200);
	CHECK_HAS("CFG-3", f.out.text, "\"hostnameOverride\":\"n\"");
	/* CFG-3: a good one is applied */
	put_file(&f, "config", CONFIG("hostnameOverride: n2\nnftables: {masqueradeBit: 5}\n"));
	ck_assert_int_eq(kill(pid, SIGHUP), 0);
	wait_for_rules(&f, "0x00000020");
	ck_assert_int_eq(page(&f, 10249, "/configz"), 200);
	CHECK_HAS("CFG-3", f.out.text, "\"hostnameOverride\":\"n2\"");
	ck_assert_int_eq(kill(pid, SIGTERM), 0);
	ck_assert_int_eq(wait_for(&f, pid), 0);
	end(&f);
}
END_TEST

#define CHECKED_SERVICE(endpoint)                                                                  \
	"apiVersion: v1\n"                                                                         \
	"kind: Service\n"                                                                          \
	"metadata: {name: lb, namespace: default}\n"                                               \
	"spec:\n"                                                                                  \
	"  type: LoadBalancer\n"                                                                   \
	"  clusterIP: 172.30.0.42\n"                                                               \
	"  externalTrafficPolicy: Local\n"                                                         \
	"  healthCheckNodePort: 31555\n"                                                           \
	"  ports: [{name: http, port: 80, protocol: TCP}]\n"                                       \
	"status: {loadBalancer: {ingress: [{ip: 192.0.2.7}]}}\n"                                   \
	"---\n"                                                                                    \
	"apiVersion: discovery.k8s.io/v1\n"                                                        \
	"kind: EndpointSlice\n"                                                                    \
	"metadata: {name: lb-1, namespace: default, labels: {kubernetes.io/service-name: lb}}\n"   \
	"addressType: IPv4\n"                                                                      \
	"endpoints: [{addresses: [10.180.0.1], nodeName: elsewhere}" endpoint "]\n"                \
	"ports: [{name: http, port: 8080, protocol: TCP}]\n"

/*
 * HC-5: with a long minSyncPeriod a change is known long before it is programmed. An answer that
 * led would be seen without rules for it.
 */
START_TEST(health_check_follows_rules)
{
	struct fixture f;
	int status = 0, i;
	pid_t pid;

	if (!own_namespace())
		return;
	begin(&f);
	put_file(&f, "web.yaml", CHECKED_SERVICE(""));
	pid = start(&f,
		    ARGS("--manifests", "@web.yaml", "--hostname-override=n",
			 "--iptables-min-sync-period=2s"),
		    0);
	ck_assert_msg(page(&f, 31555, "/") == 503, "HC-3: no endpoint on this node");
	put_file(&f, "web.yaml", CHECKED_SERVICE(", {addresses: [10.180.0.9], nodeName: n}"));
	for (i = 0; i < WAIT_S * 20 && status != 200; i++) {
		status = page(&f, 31555, "/");
		if (status == 200)
			ck_assert_msg(rules_have(&f, "10.180.0.9 . 8080"),
				      "HC-5: the answer was ahead of the rules");
		poll(NULL, 0, 50);
	}
	ck_assert_msg(status == 200, "HC-5: the answer never followed");
	CHECK_HAS("HC-4", f.out.text, "\"localEndpoints\": 1");
	ck_assert_msg(i > 10, "HC-5: programmed at once, so nothing is shown (%d)", i);
	ck_assert_int_eq(kill(pid, SIGTERM), 0);
	ck_assert_int_eq(wait_for(&f, pid), 0);
	end(&f);
}
END_TEST

static void put_node(struct fake *api, const char *range)
{
	fake_tell(api,
		  "{\"op\": \"put\", \"object\": {\"apiVersion\": \"v1\", \"kind\": \"Node\", "
		  "\"metadata\": {\"name\": \"n\"}, \"spec\": {\"podCIDRs\": [\"%s\"]}, "
		  "\"status\": {\"addresses\": [{\"type\": \"InternalIP\", "
		  "\"address\": \"192.0.2.1\"}]}}}",
		  range);
}

/* NODE-3: the range comes from the Node, and another one means to begin afresh. */
START_TEST(pod_cidrs)
{
	char master[64];
	struct fixture f;
	struct fake *api;
	pid_t pid;

	if (!own_namespace())
		return;
	begin(&f);
	api = fake_start(NULL);
	put_node(api, "10.180.0.0/24");
	snprintf(master, sizeof(master), "--master=http://127.0.0.1:%d", fake_port(api));
	pid = start(&f, ARGS(master, "--detect-local-mode=NodeCIDR", "--hostname-override=n"), 0);
	wait_for_rules(&f, "10.180.0.0/24");
	put_node(api, "10.180.7.0/24");
	ck_assert_msg(wait_for(&f, pid) == 1, "NODE-3: %s", f.err.text);
	CHECK_HAS("NODE-3", f.err.text, "spec.podCIDRs changed");
	fake_stop(api);
	end(&f);
}
END_TEST

START_TEST(settings_only)
{
	struct fixture f;
	int status;

	if (!own_namespace())
		return;
	begin(&f);
	status = run(&f, ARGS("--init-only", "--conntrack-max-per-core=0", "--oom-score-adj=0",
			      "--conntrack-udp-timeout=7s"));
	ck_assert_msg(status == 0, "init-only: got %d: %s", status, f.err.text);
	status =
		tool(&f, (const char *const[]){
				 "cat", "/proc/sys/net/netfilter/nf_conntrack_udp_timeout", NULL });
	ck_assert_int_eq(status, 0);
	ck_assert_str_eq(f.out.text, "7\n");
	ck_assert_msg(!rules_have(&f, "vipmap"), "init-only made rules");
	end(&f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("program");
	TCase *tc = tcase_create("program");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, exit_status, 0, N(runs));
	tcase_add_test(tc, dry_run_needs_nothing);
	tcase_add_test(tc, unprivileged);
	tcase_add_test(tc, written_config);
	tcase_add_test(tc, once_and_cleanup);
	tcase_add_loop_test(tc, daemon_and_signals, 0, 2);
	tcase_add_test(tc, changed_config);
	tcase_add_test(tc, health_check_follows_rules);
	tcase_add_test(tc, pod_cidrs);
	tcase_add_test(tc, settings_only);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
