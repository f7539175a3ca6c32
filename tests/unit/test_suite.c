/* The runner: what passes, fails and is skipped comes out as such. */
#include "tests/support/suite.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

START_TEST(passes)
{
	ck_assert(true);
}
END_TEST

START_TEST(fails)
{
	ck_assert_msg(false, "on purpose");
}
END_TEST

START_TEST(cannot_run)
{
	test_skipped("on purpose");
}
END_TEST

static const struct {
	const char *name;
	bool pass, fail, skip;
	int status;
	const char *says, *says_not;
} runs[] = {
	{ "all pass", true, false, false, EXIT_SUCCESS,
	  "Checks: 1, Failures: 0", "skipped" },
	{ "one fails", true, true, false, EXIT_FAILURE,
	  "Checks: 2, Failures: 1", "skipped" },
	{ "one is skipped", true, false, true, EXIT_SUCCESS,
	  "skipped: 1 of 2\n", "fails" },
	{ "all are skipped", false, false, true, EXIT_SUCCESS,
	  "skipped: 1 of 1\n", "passes" },
};

static Suite *inner_suite(int row)
{
	Suite *suite = suite_create("inner");
	TCase *tc = tcase_create("inner");

	if (runs[row].pass)
		tcase_add_test(tc, passes);
	if (runs[row].fail)
		tcase_add_test(tc, fails);
	if (runs[row].skip)
		tcase_add_test(tc, cannot_run);
	suite_add_tcase(suite, tc);
	return suite;
}

/* In a process of its own, with its output in a pipe. */
static int run_inner(int row, char *output, size_t size)
{
	int pipes[2], status;
	size_t length = 0;
	ssize_t n;
	pid_t pid;

	ck_assert_int_eq(pipe(pipes), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		dup2(pipes[1], STDOUT_FILENO);
		exit(suite_run(inner_suite(row)));
	}
	close(pipes[1]);
	while (length < size - 1 &&
	       (n = read(pipes[0], output + length, size - 1 - length)) > 0)
		length += (size_t)n;
	output[length] = '\0';
	close(pipes[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

START_TEST(says_what_happened)
{
	char output[4096];
	int status = run_inner(_i, output, sizeof(output));

	ck_assert_msg(status == runs[_i].status, "%s: status %d", runs[_i].name,
		      status);
	ck_assert_msg(strstr(output, runs[_i].says), "%s: %s", runs[_i].name,
		      output);
	ck_assert_msg(!strstr(output, runs[_i].says_not), "%s: %s",
		      runs[_i].name, output);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("suite");
	TCase *tc = tcase_create("suite");

	ADD_LOOP(tc, says_what_happened, runs);
	suite_add_tcase(suite, tc);
	return suite;
}
