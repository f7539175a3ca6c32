/*
 * CFG-8: what the program does with a kubeconfig. One that can never work ends it at once, with
 * status 2 and the name of file and field; what comes by itself is waited for.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/support/apiserver.h"
#include "tests/support/http.h"
#include "tests/support/program.h"

#define EXPLAIN "explain 10.0.0.1 tcp 172.30.0.1 80 --kubeconfig=kubeconfig"
#define CONFIG(context, cluster, user)                                         \
	"apiVersion: v1\nkind: Config\ncurrent-context: " context "\n"         \
	"contexts: [{name: a, context: {cluster: c, user: u}}]\n"              \
	"clusters: [{name: c, cluster: {" cluster                              \
	"}}]\nusers: [{name: u, user: {" user "}}]\n"

static const struct {
	const char *name, *text; /* NULL: there is no such file */
	const char *error;
} hopeless[] = {
	{ "no file", NULL, "kubeconfig: No such file or directory" },
	{ "no YAML", "a: [", "kubeconfig: " },
	{ "IPv6 without brackets",
	  CONFIG("a", "server: \"https://fd00::1:6443\"", "token: x"),
	  "kubeconfig: clusters[c].server: more than one colon" },
	{ "no URL", CONFIG("a", "server: \"ftp://h\"", "token: x"),
	  "kubeconfig: clusters[c].server: does not begin with" },
	{ "no server", CONFIG("a", "", "token: x"),
	  "kubeconfig: clusters[c].server: not set" },
	{ "no such context", CONFIG("b", "server: \"https://h\"", "token: x"),
	  "kubeconfig: contexts: no entry named \"b\"" },
	{ "no authority",
	  CONFIG("a", "server: \"https://h\", certificate-authority: missing",
		 "token: x"),
	  "kubeconfig: certificate-authority: missing: No such file" },
	{ "no key",
	  CONFIG("a", "server: \"https://h\"",
		 "client-certificate: missing, client-key: missing"),
	  "kubeconfig: client-certificate: missing: No such file" },
	{ "exec", CONFIG("a", "server: \"https://h\"", "exec: {command: x}"),
	  "kubeconfig: users[u].exec: not supported" },
};

static const char *const ways[] = { ("./vipmap " EXPLAIN),
				    "./vipmap --once --kubeconfig=kubeconfig",
				    "./vipmap --kubeconfig=kubeconfig" };

static void check_hopeless(int row, const char *command)
{
	struct strbuf out = STRBUF_INIT, err = STRBUF_INIT;
	char whole[256];
	int status;

	snprintf(whole, sizeof(whole), "timeout 20 %s", command);
	status = run_apart(whole, &out, &err);
	ck_assert_msg(status == 2, "%s: %s: want status 2, got %d:\n%s",
		      hopeless[row].name, command, status, err.text);
	ck_assert_msg(strstr(err.text, hopeless[row].error),
		      "%s: want '%s', got:\n%s", hopeless[row].name,
		      hopeless[row].error, err.text);
	strbuf_free(&out);
	strbuf_free(&err);
}

START_TEST(hopeless_ones_end_the_program)
{
	struct scratch scratch;
	int i;

	scratch_enter(&scratch);
	if (hopeless[_i].text)
		write_file("kubeconfig", hopeless[_i].text);
	for (i = 0; i < N_ROWS(ways); i++)
		check_hopeless(_i, ways[i]);
	scratch_leave(&scratch);
}
END_TEST

static void write_kubeconfig(int port)
{
	char text[512];

	snprintf(text, sizeof(text),
		 CONFIG("a", "server: \"http://127.0.0.1:%d\"", "tokenFile: token"),
		 port);
	write_file("kubeconfig", text);
}

static const char *const generated[] = { "--generate", "1x1", NULL };

/* Nothing is asked without the token, as nobody would be let in. */
START_TEST(a_token_may_come_later)
{
	struct fake *fake = fake_start(generated);
	struct scratch scratch;
	int status = 0;
	pid_t pid;

	fake_tell(fake, "{\"op\":\"set\",\"token\":\"here\"}");
	scratch_enter(&scratch);
	write_kubeconfig(fake_port(fake));
	pid = daemon_start(EXPLAIN);
	until_logged("token: No such file or directory");
	ck_assert_ptr_null(strstr(fake_tell(fake, "{\"op\":\"requests\"}"),
				  "/api/v1/services"));
	write_file("token", "here");
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
		      "status %x:\n%s", status, read_whole("log"));
	scratch_leave(&scratch);
	fake_stop(fake);
}
END_TEST

START_TEST(a_server_may_come_later)
{
	const unsigned int number = http_free_port();
	char port[16];
	const char *arguments[] = { "--generate", "1x1", "--port", port, NULL };
	struct scratch scratch;
	struct fake *fake;
	int status = 0;
	char *home;
	pid_t pid;

	snprintf(port, sizeof(port), "%u", number);
	scratch_enter(&scratch);
	write_kubeconfig((int)number);
	write_file("token", "x");
	pid = daemon_start(EXPLAIN);
	until_logged("API server unreachable: ");
	home = getcwd(NULL, 0);
	ck_assert_int_eq(chdir(scratch.before), 0);
	fake = fake_start(arguments);
	ck_assert_int_eq(chdir(home), 0);
	free(home);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
		      "status %x:\n%s", status, read_whole("log"));
	scratch_leave(&scratch);
	fake_stop(fake);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("access");
	TCase *tc = tcase_create("access");

	tcase_set_timeout(tc, 60);
	ADD_LOOP(tc, hopeless_ones_end_the_program, hopeless);
	tcase_add_test(tc, a_token_may_come_later);
	tcase_add_test(tc, a_server_may_come_later);
	suite_add_tcase(suite, tc);
	return suite;
}
