/*
 * Each allocation of our own code fails once, in turn: what is left must say so, send nothing,
 * print nothing and leak nothing. The linker leads allocations here (WRAP in the Makefile).
 */
#include "nft/batch.h"
#include "nft/flowtable.h"
#include "nft/text.h"
#include "tests/support/suite.h"
#include "tests/support/wrap.h"
#include "tests/support/nft.h"

#include <check.h>
#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>

/* Allocations until one fails; below 0: none does. A test's own state, and no test runs beside it.
 */
static long countdown = -1;

static bool allocation_fails(void)
{
	return countdown >= 0 && countdown-- == 0;
}

static int exchange(void *ctx, const struct iovec *iov, unsigned int n_iov,
		    uint32_t last_seq,
		    int (*reply)(const struct nlmsghdr *nlh, void *data),
		    void *data, unsigned int timeout_ms, struct errbuf *eb)
{
	(void)iov;
	(void)n_iov;
	(void)last_seq;
	(void)reply;
	(void)data;
	(void)timeout_ms;
	(void)eb;
	++*(unsigned int *)ctx;
	return 0;
}

/* With allocation @fail failing. Returns 0 or -ENOMEM. */
static int try_batch(long fail, struct nlsock *nl)
{
	struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct errbuf eb = { "" };
	struct batch *b;
	int err = -ENOMEM;

	countdown = fail;
	b = batch_new(&ruleset, 0);
	if (b) {
		sample_write(batch_writer(b), FAMILY_IPV4, SAMPLE_STICKY);
		err = batch_commit(b, nl, 1000, NULL, &eb);
	}
	countdown = -1;
	batch_free(b);
	return err;
}

static int try_text(long fail)
{
	struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct strbuf out = STRBUF_INIT;
	struct text *t;
	int err = -ENOMEM;

	countdown = fail;
	t = text_new(&ruleset);
	if (t) {
		sample_write(text_writer(t), FAMILY_IPV4, SAMPLE_STICKY);
		err = text_print(t, &out);
	}
	countdown = -1;
	text_free(t);
	strbuf_free(&out);
	return err;
}

START_TEST(test_batch)
{
	static const struct nlsock_ops ops = { .exchange = exchange };
	unsigned int exchanges = 0;
	struct nlsock *nl = nlsock_new(&ops, &exchanges);
	long fail;
	int err;

	for (fail = 0; (err = try_batch(fail, nl)) != 0; fail++) {
		ck_assert_int_eq(err, -ENOMEM);
		ck_assert_uint_eq(exchanges, 0);
		ck_assert_int_lt(fail, 10000);
	}
	ck_assert_int_gt(fail, 50);
	ck_assert_uint_eq(exchanges, 1);
	nlsock_close(nl);
}
END_TEST

START_TEST(test_text)
{
	long fail;
	int err;

	for (fail = 0; (err = try_text(fail)) != 0; fail++) {
		ck_assert_int_eq(err, -ENOMEM);
		ck_assert_int_lt(fail, 10000);
	}
	ck_assert_int_gt(fail, 10);
}
END_TEST

/* A change of devices, too. */
static int try_devices(long fail, struct nlsock *nl)
{
	struct device_change changes[64];
	struct errbuf eb = { "" };
	unsigned int i;
	int err;

	for (i = 0; i < 64; i++)
		changes[i] = (struct device_change){ "eth0", i % 2, 0 };
	countdown = fail;
	err = flowtable_change(nl, FAMILY_IPV4, changes, 64, &eb);
	countdown = -1;
	return err;
}

START_TEST(test_devices)
{
	static const struct nlsock_ops ops = { .exchange = exchange };
	unsigned int exchanges = 0;
	struct nlsock *nl = nlsock_new(&ops, &exchanges);
	long fail;
	int err;

	for (fail = 0; (err = try_devices(fail, nl)) != 0; fail++) {
		ck_assert_int_eq(err, -ENOMEM);
		ck_assert_uint_eq(exchanges, 0);
		ck_assert_int_lt(fail, 1000);
	}
	ck_assert_int_gt(fail, 2);
	ck_assert_uint_eq(exchanges, 1);
	nlsock_close(nl);
}
END_TEST

START_TEST(test_nlsock)
{
	struct errbuf eb = { "" };

	countdown = 0;
	ck_assert_ptr_null(nlsock_open(&eb));
	ck_assert_str_eq(eb.text, "netlink: out of memory");
	countdown = 0;
	ck_assert_ptr_null(nlsock_new(NULL, NULL));
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("nft memory");
	TCase *tc = tcase_create("nft memory");

	tcase_add_test(tc, test_batch);
	tcase_add_test(tc, test_text);
	tcase_add_test(tc, test_devices);
	tcase_add_test(tc, test_nlsock);
	suite_add_tcase(suite, tc);
	return suite;
}
