#include <check.h>
#include <errno.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/sync/purges.h"

#include "tests/support/suite.h"

/* A kernel whose maps are all empty, or absent, or that fails; it counts what it was asked for. */
struct kernel {
	int err;
	unsigned int asked;
	char last[512]; /* the names of maps, in order */
};

static int answer(void *ctx, const struct iovec *iov, unsigned int n_iov,
		  uint32_t last_seq,
		  int (*reply)(const struct nlmsghdr *nlh, void *data),
		  void *data, unsigned int timeout_ms, struct errbuf *eb)
{
	const char *message = iov[0].iov_base, *name;
	struct kernel *k = ctx;

	(void)n_iov;
	(void)last_seq;
	(void)reply;
	(void)data;
	(void)timeout_ms;
	name = memmem(message, iov[0].iov_len, "affinity/", 9);
	ck_assert_ptr_nonnull(name);
	k->asked++;
	snprintf(k->last + strlen(k->last), sizeof(k->last) - strlen(k->last),
		 "%s ", name + 9);
	return k->err ? errf(eb, k->err, "no") : 0;
}

static const struct nlsock_ops ops = { .exchange = answer };
static const struct endpoint_list nobody;

static struct purges *begin(struct kernel *k, struct nlsock **nl)
{
	struct purges *p;

	*nl = nlsock_new(&ops, k);
	ck_assert_ptr_nonnull(*nl);
	p = purges_new(*nl, clock_system(), FAMILY_IPV4, false);
	ck_assert_ptr_nonnull(p);
	return p;
}

static void end(struct purges *p, struct nlsock *nl)
{
	purges_free(p);
	nlsock_close(nl);
}

START_TEST(in_order_once_each)
{
	struct kernel k = { 0 };
	struct errbuf eb = { "" };
	struct nlsock *nl;
	struct purges *p = begin(&k, &nl);

	ck_assert(!purges_pending(p));
	ck_assert_int_eq(purges_run(p, INT64_MAX, &eb), 0);
	ck_assert_int_eq(purges_add(p, "affinity/b", "b", &nobody), 0);
	ck_assert_int_eq(purges_add(p, "affinity/a", "a", &nobody), 0);
	ck_assert_int_eq(purges_add(p, "affinity/b", "b", &nobody), 0);
	ck_assert(purges_pending(p));
	ck_assert_int_eq(purges_run(p, INT64_MAX, &eb), 0);
	ck_assert_str_eq(k.last, "b a ");
	ck_assert(!purges_pending(p));
	end(p, nl);
}
END_TEST

START_TEST(stops_when_time_is_up)
{
	struct kernel k = { 0 };
	struct errbuf eb = { "" };
	struct nlsock *nl;
	struct purges *p = begin(&k, &nl);

	ck_assert_int_eq(purges_add(p, "affinity/a", "a", &nobody), 0);
	ck_assert_int_eq(purges_add(p, "affinity/b", "b", &nobody), 0);
	ck_assert_int_eq(purges_run(p, 0, &eb), 1);
	ck_assert_str_eq(k.last, "a ");
	ck_assert(purges_pending(p));
	ck_assert_int_eq(purges_run(p, INT64_MAX, &eb), 0);
	ck_assert_str_eq(k.last, "a b ");
	end(p, nl);
}
END_TEST

/* What is wanted may change while a map is looked through: then it begins again. */
START_TEST(begins_again)
{
	struct kernel k = { 0 };
	struct errbuf eb = { "" };
	struct nlsock *nl;
	struct purges *p = begin(&k, &nl);

	ck_assert_int_eq(purges_add(p, "affinity/a", "a", &nobody), 0);
	ck_assert_int_eq(purges_run(p, 0, &eb), 1);
	ck_assert_int_eq(purges_add(p, "affinity/a", "a", &nobody), 0);
	ck_assert_int_eq(purges_run(p, INT64_MAX, &eb), 0);
	ck_assert_str_eq(k.last, "a a ");
	end(p, nl);
}
END_TEST

START_TEST(failures)
{
	struct kernel k = { .err = -EPERM };
	struct errbuf eb = { "" };
	struct nlsock *nl;
	struct purges *p = begin(&k, &nl);

	ck_assert_int_eq(purges_add(p, "affinity/a", "default/web:http", &nobody),
			 0);
	ck_assert_int_eq(purges_add(p, "affinity/b", "b", &nobody), 0);
	ck_assert_int_eq(purges_run(p, INT64_MAX, &eb), -EPERM);
	ck_assert_str_eq(eb.text,
			 "Service default/web:http: clients of former endpoints: "
			 "map affinity/a: cannot remove clients: no");
	ck_assert(purges_pending(p)); /* the other one */
	k.err = -ENOENT;	      /* a map that is gone has no clients */
	ck_assert_int_eq(purges_run(p, INT64_MAX, &eb), 0);
	ck_assert_str_eq(k.last, "a b ");
	end(p, nl);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("purges");
	TCase *tcase = tcase_create("queue");

	tcase_add_test(tcase, in_order_once_each);
	tcase_add_test(tcase, stops_when_time_is_up);
	tcase_add_test(tcase, begins_again);
	tcase_add_test(tcase, failures);
	suite_add_tcase(suite, tcase);
	return suite;
}
