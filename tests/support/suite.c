/*
 * The runner of every unit test: the exit status says whether all passed. A test
 * that cannot run here is no test that passed: it is counted, over the borders of
 * the processes that tests run in, and scripts/test as root fails for it.
 */
#include "tests/support/suite.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static unsigned int *n_skipped;

void test_skipped(const char *why)
{
	printf("skipped: %s\n", why);
	fflush(stdout);
	__atomic_add_fetch(n_skipped, 1, __ATOMIC_RELAXED);
}

bool new_namespace(void)
{
	char why[128];

	if (unshare(CLONE_NEWNET) == 0)
		return true;
	snprintf(why, sizeof(why), "no network namespace: %s", strerror(errno));
	test_skipped(why);
	return false;
}

int suite_run(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	n_skipped = mmap(NULL, sizeof(*n_skipped), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (n_skipped == MAP_FAILED)
		return EXIT_FAILURE;
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	if (*n_skipped)
		printf("skipped: %u of %d\n", *n_skipped,
		       srunner_ntests_run(runner));
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(void)
{
	return suite_run(make_suite());
}
