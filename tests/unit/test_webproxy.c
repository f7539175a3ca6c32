/*
 * CFG-9: the proxy of the environment. First the decision by itself, then the
 * program with such an environment: whom it really asks.
 */
#include "watch/webproxy.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/support/apiserver.h"
#include "tests/support/program.h"

static const struct {
	const char *server, *none;
	bool through;
} rows[] = {
	{ "https://10.0.0.1:6443", NULL, true },
	{ "https://api.example.com", "", true },
	/* Never: the API server of kubeadm, k3s, k0s and Talos nodes. */
	{ "https://127.0.0.1:6443", NULL, false },
	{ "https://127.77.0.1:6443", NULL, false },
	{ "https://[::1]:6443", NULL, false },
	{ "https://[::1]", NULL, false },
	{ "https://[::ffff:127.0.0.1]:6443", NULL, false },
	{ "https://localhost:6443", NULL, false },
	{ "https://LocalHost:6443/prefix", NULL, false },
	{ "https://localhost.example.com", NULL, true },
	{ "https://[::2]:6443", NULL, true },
	/* Everything */
	{ "https://10.0.0.1:6443", "*", false },
	{ "https://api.example.com", "a.b, * ", false },
	/* Addresses */
	{ "https://10.0.0.1:6443", "10.0.0.1", false },
	{ "https://10.0.0.1:6443", "10.0.0.2,10.0.0.1", false },
	{ "https://10.0.0.11:6443", "10.0.0.1", true },
	{ "https://10.0.0.1:6443", "10.0.0.1:6443", false },
	{ "https://10.0.0.1:6443", "10.0.0.1:443", true },
	{ "https://10.0.0.1", "10.0.0.1:443", false },
	{ "http://10.0.0.1", "10.0.0.1:80", false },
	{ "https://[fd00:0::1]:6443", "fd00::1", false },
	{ "https://[fd00::1]:6443", "[fd00::1]:6443", false },
	{ "https://[fd00::1]:6443", "[FD00::1]:6443", false },
	{ "https://[fd00::1]:6443", "[fd00::1]:443", true },
	{ "https://[fd00::1]", "[fd00::1]:443", false },
	{ "https://[fd00::1]", "[fd00::1]", true },
	/* Ranges */
	{ "https://10.0.0.1:6443", "10.0.0.0/8", false },
	{ "https://11.0.0.1:6443", "10.0.0.0/8", true },
	{ "https://10.0.0.1:6443", " 192.168.0.0/16 , 10.0.0.0/24 ", false },
	{ "https://[fd00::1]:6443", "fd00::/8", false },
	{ "https://[fe00::1]:6443", "fd00::/8", true },
	{ "https://10.0.0.1:6443", "::/0", true },
	{ "https://api.example.com", "0.0.0.0/0,::/0", true },
	/* Names */
	{ "https://example.com", "example.com", false },
	{ "https://API.example.com:6443", "Example.COM", false },
	{ "https://notexample.com", "example.com", true },
	{ "https://example.com.au", "example.com", true },
	{ "https://example.com", ".example.com", true },
	{ "https://api.example.com", ".example.com", false },
	{ "https://api.example.com", "*.example.com", false },
	{ "https://example.com", "*.example.com", true },
	{ "https://api.example.com:6443", "example.com:6443", false },
	{ "https://api.example.com:6443", ".example.com:6443", false },
	{ "https://api.example.com:6443", "example.com:443", true },
	{ "https://api.example.com", "example.com:443", false },
	{ "https://api.example.com/prefix", "example.com", false },
	/* Nothing in particular */
	{ "https://10.0.0.1:6443", ",,:6443, ,10.0.0.0/99", true },
	{ "https://com", ".", true },
};

/* CFG-9: which servers are reached directly */
START_TEST(choice)
{
	const struct webproxy_env env = {
		.https = "http://tls.proxy",
		.http = "http://plain.proxy",
		.none = rows[_i].none,
	};
	const char *got = webproxy_choose(&env, rows[_i].server);
	const char *proxy =
		strncmp(rows[_i].server, "https", 5) ? env.http : env.https;
	const char *want = rows[_i].through ? proxy : NULL;

	ck_assert_msg(got == want, "%s, NO_PROXY=%s: want %s, got %s",
		      rows[_i].server, rows[_i].none, want ? want : "none",
		      got ? got : "none");
}
END_TEST

START_TEST(no_variable_no_proxy)
{
	const struct webproxy_env none = { 0 }, empty = { "", "", "" };
	const struct webproxy_env plain = { .http = "http://plain.proxy" };

	ck_assert_ptr_null(webproxy_choose(&none, "https://10.0.0.1"));
	ck_assert_ptr_null(webproxy_choose(&empty, "http://10.0.0.1"));
	ck_assert_ptr_null(webproxy_choose(&plain, "https://10.0.0.1"));
}
END_TEST

START_TEST(upper_case_counts_first)
{
	struct webproxy_env env;

	setenv("https_proxy", "lower", 1);
	setenv("HTTPS_PROXY", "", 1);
	setenv("no_proxy", "lower", 1);
	setenv("NO_PROXY", "upper", 1);
	env = webproxy_environment();
	ck_assert_str_eq(env.https, "lower");
	ck_assert_str_eq(env.none, "upper");
	setenv("HTTPS_PROXY", "upper", 1);
	ck_assert_str_eq(webproxy_environment().https, "upper");
}
END_TEST

/* The program */

struct proxy {
	pid_t pid;
	int port;
	FILE *out;
};

static void proxy_start(struct proxy *proxy)
{
	char line[32] = "";
	int from[2];

	ck_assert_int_eq(pipe(from), 0);
	proxy->pid = fork();
	ck_assert_int_ge(proxy->pid, 0);
	if (!proxy->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(from[1], STDOUT_FILENO);
		execl("tests/support/fake_proxy.py", "fake_proxy.py", (char *)NULL);
		_exit(127);
	}
	close(from[1]);
	proxy->out = fdopen(from[0], "r");
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), proxy->out));
	ck_assert_int_eq(sscanf(line, "port %d", &proxy->port), 1);
}

static void proxy_stop(struct proxy *proxy)
{
	kill(proxy->pid, SIGKILL);
	waitpid(proxy->pid, NULL, 0);
	fclose(proxy->out);
}

#define EXPLAIN "explain 10.0.0.1 tcp 172.30.0.1 80"
#define DEAD "http://127.0.0.1:1"

static const char *const proxy_variables[] = {
	"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy",
	"ALL_PROXY",  "all_proxy",  "NO_PROXY",	   "no_proxy",
};

static void forget_environment(void)
{
	int i;

	for (i = 0; i < N_ROWS(proxy_variables); i++)
		unsetenv(proxy_variables[i]);
}

/* Each would fail if the proxy, where nobody listens, were asked. */
static const struct {
	const char *name, *variable, *value, *host;
} direct_rows[] = {
	{ "loopback", "HTTP_PROXY", DEAD, "127.0.0.1" },
	{ "loopback, lower case", "http_proxy", DEAD, "127.0.0.1" },
	{ "localhost", "HTTP_PROXY", DEAD, "localhost" },
	{ "ALL_PROXY", "ALL_PROXY", DEAD, "127.0.0.1" },
	{ "all_proxy", "all_proxy", DEAD, "127.0.0.1" },
};

START_TEST(program_asks_the_server)
{
	static const char *const arguments[] = { "--generate", "1x1", NULL };
	struct strbuf out = STRBUF_INIT, err = STRBUF_INIT;
	struct fake *fake = fake_start(arguments);
	struct scratch scratch;
	char command[256];
	int status;

	forget_environment();
	setenv(direct_rows[_i].variable, direct_rows[_i].value, 1);
	scratch_enter(&scratch);
	snprintf(command, sizeof(command),
		 "timeout 20 ./vipmap " EXPLAIN " --master=http://%s:%d",
		 direct_rows[_i].host, fake_port(fake));
	status = run_apart(command, &out, &err);
	ck_assert_msg(status == 0, "%s: status %d:\n%s", direct_rows[_i].name,
		      status, err.text);
	scratch_leave(&scratch);
	fake_stop(fake);
	strbuf_free(&out);
	strbuf_free(&err);
}
END_TEST

static const struct {
	const char *name, *variable, *server, *none, *want;
} proxied_rows[] = {
	{ "http", "HTTP_PROXY", "http://api.invalid:8080", NULL,
	  "GET http://api.invalid:8080/" },
	{ "https", "https_proxy", "https://api.invalid:6443", NULL,
	  "CONNECT api.invalid:6443 HTTP" },
	{ "another port", "HTTPS_PROXY", "https://api.invalid:6443",
	  "api.invalid:443", "CONNECT api.invalid:6443 HTTP" },
};

START_TEST(program_asks_the_proxy)
{
	char url[64], command[256], line[512] = "";
	struct scratch scratch;
	struct proxy proxy;
	pid_t pid;

	proxy_start(&proxy);
	forget_environment();
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", proxy.port);
	setenv(proxied_rows[_i].variable, url, 1);
	if (proxied_rows[_i].none)
		setenv("NO_PROXY", proxied_rows[_i].none, 1);
	scratch_enter(&scratch);
	snprintf(command, sizeof(command), EXPLAIN " --master=%s",
		 proxied_rows[_i].server);
	pid = daemon_start(command);
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), proxy.out));
	ck_assert_msg(strncmp(line, proxied_rows[_i].want,
			      strlen(proxied_rows[_i].want)) == 0,
		      "%s: want %s, got %s", proxied_rows[_i].name,
		      proxied_rows[_i].want, line);
	daemon_stop(pid, SIGKILL);
	scratch_leave(&scratch);
	proxy_stop(&proxy);
}
END_TEST

#define KUBECONFIG(server, proxy)                                              \
	"apiVersion: v1\nkind: Config\ncurrent-context: a\n"                   \
	"contexts: [{name: a, context: {cluster: a}}]\n"                       \
	"clusters: [{name: a, cluster: {server: \"http://" server              \
	"\", proxy-url: \"" proxy "\"}}]\n"

/* It also wins over NO_PROXY and over what is said of loopback. */
START_TEST(proxy_url_wins)
{
	char text[512], line[512] = "";
	struct scratch scratch;
	struct proxy proxy;
	pid_t pid;

	proxy_start(&proxy);
	forget_environment();
	setenv("HTTP_PROXY", DEAD, 1);
	setenv("NO_PROXY", "*", 1);
	snprintf(text, sizeof(text),
		 KUBECONFIG("127.0.0.1:2", "http://127.0.0.1:%d"), proxy.port);
	scratch_enter(&scratch);
	write_file("kubeconfig", text);
	pid = daemon_start(EXPLAIN " --kubeconfig=kubeconfig");
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), proxy.out));
	ck_assert_msg(strncmp(line, "GET http://127.0.0.1:2/", 23) == 0,
		      "got %s", line);
	daemon_stop(pid, SIGKILL);
	scratch_leave(&scratch);
	proxy_stop(&proxy);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("webproxy");
	TCase *tc = tcase_create("webproxy");

	tcase_set_timeout(tc, 60);
	ADD_LOOP(tc, choice, rows);
	tcase_add_test(tc, no_variable_no_proxy);
	tcase_add_test(tc, upper_case_counts_first);
	ADD_LOOP(tc, program_asks_the_server, direct_rows);
	ADD_LOOP(tc, program_asks_the_proxy, proxied_rows);
	tcase_add_test(tc, proxy_url_wins);
	suite_add_tcase(suite, tc);
	return suite;
}
