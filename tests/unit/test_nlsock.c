/* Exchanges over a real netfilter socket, in a namespace of their own, and over a stand-in. */
#include "nft/nlsock.h"
#include "tests/support/suite.h"
#include "tests/support/nft.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct request {
	struct nlmsghdr nlh;
	struct nfgenmsg nfg;
};

static struct request request(struct nlsock *nl, uint16_t type, uint16_t flags)
{
	return (struct request){
		.nlh = { .nlmsg_len = sizeof(struct request),
			 .nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type),
			 .nlmsg_flags = NLM_F_REQUEST | flags,
			 .nlmsg_seq = nlsock_next_seq(nl) },
	};
}

struct seen {
	unsigned int messages, errors;
	int stop_with;
};

static int on_message(const struct nlmsghdr *nlh, void *data)
{
	struct seen *seen = data;

	if (nlh->nlmsg_type == NLMSG_ERROR)
		seen->errors++;
	else
		seen->messages++;
	return seen->stop_with;
}

static const struct {
	const char *name;
	uint16_t type, flags;
	int stop_with;
	unsigned int messages, errors;
	int err;
} exchanges[] = {
	{ "one answer and an acknowledgement", NFT_MSG_GETGEN, NLM_F_ACK, 0, 1,
	  1, 0 },
	{ "a dump of nothing", NFT_MSG_GETTABLE, NLM_F_DUMP, 0, 0, 0, 0 },
	{ "an error", NFT_MSG_GETTABLE, 0, 0, 0, 1, -EINVAL },
	{ "an answer that the caller ends with", NFT_MSG_GETGEN, NLM_F_ACK,
	  -ECANCELED, 1, 0, -ECANCELED },
};

START_TEST(test_real)
{
	struct errbuf eb = { "" };
	struct nlsock *nl;
	struct seen seen = { .stop_with = exchanges[_i].stop_with };
	struct request r;
	struct iovec iov = { &r, sizeof(r) };
	int err;

	if (!new_namespace())
		return;
	nl = nlsock_open(&eb);
	ck_assert_msg(nl, "%s", eb.text);
	ck_assert_uint_ne(nlsock_port_id(nl), 0);
	r = request(nl, exchanges[_i].type, exchanges[_i].flags);
	err = nlsock_exchange(nl, &iov, 1, r.nlh.nlmsg_seq, on_message, &seen,
			      1000, &eb);
	ck_assert_msg(err == exchanges[_i].err, "%s: want %d, got %d (%s)",
		      exchanges[_i].name, exchanges[_i].err, err, eb.text);
	ck_assert_msg(!err || strncmp(eb.text, "netlink: ", 9) == 0,
		      "%s: no text, but \"%s\"", exchanges[_i].name, eb.text);
	ck_assert_msg(seen.messages == exchanges[_i].messages &&
			      seen.errors == exchanges[_i].errors,
		      "%s: %u messages, %u errors", exchanges[_i].name,
		      seen.messages, seen.errors);
	nlsock_close(nl);
}
END_TEST

/* What is left of an exchange that was given up is not taken for the answer to the next one. */
START_TEST(test_leftovers)
{
	struct errbuf eb = { "" };
	struct seen first = { .stop_with = -ECANCELED }, second = { 0 };
	struct request r;
	struct iovec iov = { &r, sizeof(r) };
	struct nlsock *nl;
	int err;

	if (!new_namespace())
		return;
	nl = nlsock_open(&eb);
	r = request(nl, NFT_MSG_GETGEN, NLM_F_ACK);
	err = nlsock_exchange(nl, &iov, 1, r.nlh.nlmsg_seq, on_message, &first,
			      1000, &eb);
	ck_assert_int_eq(err, -ECANCELED);
	r = request(nl, NFT_MSG_GETGEN, NLM_F_ACK);
	err = nlsock_exchange(nl, &iov, 1, r.nlh.nlmsg_seq, on_message, &second,
			      1000, &eb);
	ck_assert_int_eq(err, 0);
	ck_assert_uint_eq(second.messages, 1);
	ck_assert_uint_eq(second.errors, 1);
	nlsock_close(nl);
}
END_TEST

/* So many errors that the receive buffer overflows: the next exchange works all the same. */
START_TEST(test_overflow)
{
	enum { COUNT = 60000 };
	struct errbuf eb = { "" };
	struct request *r = calloc(COUNT, sizeof(*r)), one;
	struct iovec iov = { r, COUNT * sizeof(*r) };
	struct seen seen = { 0 };
	struct nlsock *nl;
	unsigned int i;
	int err;

	if (!new_namespace())
		return;
	nl = nlsock_open(&eb);
	ck_assert(nl && r);
	for (i = 0; i < COUNT; i++)
		r[i] = request(nl, NFT_MSG_GETTABLE, 0);
	err = nlsock_exchange(nl, &iov, 1, r[COUNT - 1].nlh.nlmsg_seq,
			      on_message, &seen, 1000, &eb);
	ck_assert_msg(err == -ENOBUFS, "%d: %s", err, eb.text);
	for (i = 0; i < 2; i++) {
		seen = (struct seen){ 0 };
		one = request(nl, NFT_MSG_GETGEN, NLM_F_ACK);
		iov = (struct iovec){ &one, sizeof(one) };
		err = nlsock_exchange(nl, &iov, 1, one.nlh.nlmsg_seq,
				      on_message, &seen, 1000, &eb);
		ck_assert_msg(err == 0, "%d: %s", err, eb.text);
		ck_assert_uint_eq(seen.messages, 1);
	}
	free(r);
	nlsock_close(nl);
}
END_TEST

/* Each look at it is an hour later. */
static int64_t hours_us(void *ctx)
{
	return ++*(int64_t *)ctx * 3600 * 1000000;
}

/* Nobody acknowledges a request that did not ask for it. */
START_TEST(test_timeout)
{
	int64_t hour = 0;
	const struct clock clock = { hours_us, hours_us, &hour, NULL };
	struct errbuf eb = { "" };
	struct request r;
	struct iovec iov = { &r, sizeof(r) };
	struct seen seen = { 0 };
	struct nlsock *nl;
	int err;

	if (!new_namespace())
		return;
	nl = nlsock_open(&eb);
	nlsock_set_clock(nl, &clock);
	r = request(nl, NFT_MSG_GETGEN, 0);
	err = nlsock_exchange(nl, &iov, 1, r.nlh.nlmsg_seq, on_message, &seen,
			      60000, &eb);
	ck_assert_int_eq(err, -ETIMEDOUT);
	ck_assert_int_eq(hour, 2);
	ck_assert_uint_eq(seen.messages, 1);
	ck_assert_ptr_nonnull(strstr(eb.text, "in time"));
	nlsock_close(nl);
}
END_TEST

START_TEST(test_nothing_to_send)
{
	struct errbuf eb = { "" };
	struct nlsock *nl = nlsock_open(&eb);

	ck_assert_msg(nl, "%s", eb.text);
	ck_assert_int_eq(nlsock_exchange(nl, NULL, 0, 1, NULL, NULL, 20, &eb),
			 -EINVAL);
	nlsock_close(nl);
	nlsock_close(NULL);
}
END_TEST

/* A message so large that it needs more than the usual send buffer. */
START_TEST(test_large)
{
	enum { COUNT = 200000 };
	struct errbuf eb = { "" };
	struct request *r;
	struct iovec iov;
	struct seen seen = { 0 };
	struct nlsock *nl;
	unsigned int i;
	int err;

	if (!new_namespace())
		return;
	nl = nlsock_open(&eb);
	r = calloc(COUNT, sizeof(*r));
	ck_assert(nl && r);
	for (i = 0; i < COUNT; i++) {
		r[i] = request(nl, 0, 0);
		r[i].nlh.nlmsg_type = NLMSG_NOOP;
	}
	r[COUNT - 1] = request(nl, NFT_MSG_GETGEN, NLM_F_ACK);
	iov = (struct iovec){ r, COUNT * sizeof(*r) };
	err = nlsock_exchange(nl, &iov, 1, r[COUNT - 1].nlh.nlmsg_seq,
			      on_message, &seen, 5000, &eb);
	ck_assert_msg(err == 0, "%d: %s", err, eb.text);
	ck_assert_uint_eq(seen.messages, 1);
	free(r);
	nlsock_close(nl);
}
END_TEST

static int stand_in_exchange(void *ctx, const struct iovec *iov,
			     unsigned int n_iov, uint32_t last_seq,
			     int (*reply)(const struct nlmsghdr *nlh, void *data),
			     void *data, unsigned int timeout_ms, struct errbuf *eb)
{
	struct nlmsghdr nlh = { .nlmsg_len = sizeof(nlh), .nlmsg_seq = last_seq };

	ck_assert_uint_eq(n_iov, 1);
	ck_assert_uint_eq(iov->iov_len, 7);
	ck_assert_uint_eq(timeout_ms, 99);
	++*(unsigned int *)ctx;
	if (last_seq == 13)
		return errf(eb, -EPERM, "no");
	return reply(&nlh, data);
}

static void stand_in_close(void *ctx)
{
	*(unsigned int *)ctx += 100;
}

START_TEST(test_stand_in)
{
	static const struct nlsock_ops ops = { stand_in_exchange, stand_in_close };
	unsigned int calls = 0;
	struct nlsock *nl = nlsock_new(&ops, &calls);
	char bytes[7] = "";
	struct iovec iov = { bytes, sizeof(bytes) };
	struct seen seen = { 0 };
	struct errbuf eb = { "" };

	ck_assert_uint_eq(nlsock_port_id(nl), 0);
	ck_assert_uint_ne(nlsock_next_seq(nl), nlsock_next_seq(nl));
	ck_assert_int_eq(
		nlsock_exchange(nl, &iov, 1, 5, on_message, &seen, 99, &eb), 0);
	ck_assert_uint_eq(seen.messages, 1);
	ck_assert_int_eq(
		nlsock_exchange(nl, &iov, 1, 13, on_message, &seen, 99, &eb),
		-EPERM);
	ck_assert_str_eq(eb.text, "no");
	/* A callback that fails has no text of its own, nor is an old one left. */
	seen.stop_with = -ENOMEM;
	ck_assert_int_eq(nlsock_exchange(nl, &iov, 1, 5, on_message, &seen, 99, &eb),
			 -ENOMEM);
	ck_assert_str_eq(
		eb.text,
		"netlink: an answer cannot be used: Cannot allocate memory");
	nlsock_close(nl);
	ck_assert_uint_eq(calls, 103);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("nlsock");
	TCase *tc = tcase_create("nlsock");

	ADD_LOOP(tc, test_real, exchanges);
	tcase_add_test(tc, test_leftovers);
	tcase_add_test(tc, test_overflow);
	tcase_add_test(tc, test_timeout);
	tcase_add_test(tc, test_nothing_to_send);
	tcase_add_test(tc, test_large);
	tcase_add_test(tc, test_stand_in);
	suite_add_tcase(suite, tc);
	return suite;
}
