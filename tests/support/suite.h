/*
 * What each file of tests/unit defines; main() is in suite.c.
 */
#ifndef TESTS_SUPPORT_SUITE_H
#define TESTS_SUPPORT_SUITE_H

#include <check.h>
#include <stdbool.h>
#include <string.h>

Suite *make_suite(void);

/* The exit status. */
int suite_run(Suite *suite);

/* This test, or the rest of it, cannot run here: says so, and counts. */
void test_skipped(const char *why);

/* A network namespace of the test's own. False: there is none, which is a skip. */
bool new_namespace(void);

#define N_ROWS(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

/* One test for each row of a table. */
#define ADD_LOOP(tc, test, rows) tcase_add_loop_test(tc, test, 0, N_ROWS(rows))

/* Of a row of a table, by its name. */
#define CHECK_STR(row, got, want)                                              \
	ck_assert_msg(strcmp(got, want) == 0, "%s: want \"%s\", got \"%s\"",   \
		      row, want, got)
#define CHECK_HAS(row, got, want)                                              \
	ck_assert_msg(strstr(got, want) != NULL, "%s: want %s in:\n%.3000s",   \
		      row, want, got)
#define CHECK_HAS_NOT(row, got, want)                                          \
	ck_assert_msg(strstr(got, want) == NULL,                               \
		      "%s: unwanted %s in:\n%.3000s", row, want, got)

#endif
