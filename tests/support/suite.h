/*
 * What each file of tests/unit defines; main() is in suite.c.
 */
#ifndef TESTS_SUPPORT_SUITE_H
#define TESTS_SUPPORT_SUITE_H

#include <check.h>

Suite *make_suite(void);

/* One test for each row of a table. */
#define ADD_LOOP(tc, test, rows) tcase_add_loop_test(tc, test, 0, sizeof(rows) / sizeof((rows)[0]))

#endif
