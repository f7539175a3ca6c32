/* What the kernel can do: this one, and kernels that lack something. */
#include "nft/readback.h"
#include "tests/support/suite.h"
#include "tests/support/nft.h"

#include <check.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct ruleset ruleset(enum family family)
{
	return (struct ruleset){
		.family = family,
		.masquerade_mark = 0x4000,
		.detect = true,
		.detect_local = DETECT_BRIDGE_INTERFACE,
		.interface = "br0",
	};
}

static bool quiet(const char *command)
{
	FILE *out = popen(command, "r");
	int c = out ? fgetc(out) : 0;

	ck_assert_msg(out && pclose(out) == 0, "failed: %s", command);
	return c == EOF;
}

/* This kernel has all that is needed, also what is optional, and nothing stays behind. */
START_TEST(this_kernel)
{
	struct errbuf eb = { "" };
	struct ruleset rs = ruleset((enum family)(_i % N_FAMILIES));
	struct nlsock *nl;
	bool owner = false;
	int err;

	if (!new_namespace())
		return;
	if (_i / N_FAMILIES)
		rs.parts = PART_NO_MASQUERADE | PART_PING_IPS | PART_COUNTERS;
	rs.masquerade_all = rs.has_ping_addr = _i / N_FAMILIES == 2;
	nl = nlsock_open(&eb);
	ck_assert_msg(nl, "%s", eb.text);
	err = kernel_probe(nl, &rs, &owner, &eb);
	ck_assert_msg(err == 0, "%d: %s", err, eb.text);
	ck_assert_msg(owner == kernel_has_owner(), "owner and persist: got %d",
		      owner);
	err = kernel_probe_counters(nl, rs.family, &eb);
	ck_assert_msg(err == 0, "%d: %s", err, eb.text);
	ck_assert_msg(quiet("nft list ruleset"), "something was left behind");
	nlsock_close(nl);
}
END_TEST

/* The table of a running instance does not disturb, nor is it disturbed. */
START_TEST(beside_a_table)
{
	struct errbuf eb = { "" };
	const struct ruleset rs = ruleset(FAMILY_IPV4);
	struct nlsock *nl;
	bool owner = false;

	if (!new_namespace())
		return;
	ck_assert_int_eq(
		system("nft 'table ip vipmap { set endpoints { type inet_service; }; }'"),
		0);
	nl = nlsock_open(&eb);
	ck_assert_msg(nl, "%s", eb.text);
	ck_assert_msg(kernel_probe(nl, &rs, &owner, &eb) == 0, "%s", eb.text);
	ck_assert_int_eq(system("nft list set ip vipmap endpoints > /dev/null"), 0);
	nlsock_close(nl);
}
END_TEST

START_TEST(not_permitted)
{
	struct errbuf eb = { "" };
	const struct ruleset rs = ruleset(FAMILY_IPV4);
	struct nlsock *nl;
	bool owner = false;

	if (!new_namespace())
		return;
	ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
	nl = nlsock_open(&eb);
	ck_assert_msg(nl, "%s", eb.text);
	ck_assert_int_eq(kernel_probe(nl, &rs, &owner, &eb), -EPERM);
	ck_assert_msg(strstr(eb.text, "CAP_NET_ADMIN"), "got: %s", eb.text);
	nlsock_close(nl);
}
END_TEST

/*
 * A kernel that refuses each message which has certain bytes in it. It answers as the real one
 * does, with the offset of the attribute, and acknowledges the last one otherwise.
 */
struct lacking {
	const char *name;
	const char *bytes;
	size_t length;
	int err;
	const char *want; /* in the message; NULL: success */
	int result;
	bool owner;
	unsigned int exchanges;
	uint16_t type; /* of messages that are looked at; 0: all */
	uint32_t before; /* the attribute is so many bytes before those looked for */
};

enum { NO_OFFSET = 1 << 30 };

struct answer {
	struct nlmsghdr nlh;
	struct nlmsgerr error;
	struct nlattr attr;
	uint32_t offset;
};

static int send_answer(const struct nlmsghdr *to, int err, uint32_t offset,
		       int (*reply)(const struct nlmsghdr *nlh, void *data),
		       void *data)
{
	struct answer answer = {
		.nlh = { .nlmsg_len = sizeof(answer),
			 .nlmsg_type = NLMSG_ERROR,
			 .nlmsg_flags = NLM_F_CAPPED | NLM_F_ACK_TLVS,
			 .nlmsg_seq = to->nlmsg_seq },
		.error = { .error = err, .msg = *to },
		.attr = { .nla_len = 8, .nla_type = NLMSGERR_ATTR_OFFS },
		.offset = offset,
	};

	return reply(&answer.nlh, data);
}

static int answer(const struct iovec *iov, const struct lacking *kernel,
		  uint32_t last_seq,
		  int (*reply)(const struct nlmsghdr *nlh, void *data), void *data)
{
	const struct nlmsghdr *nlh;
	uint32_t offset;
	const char *match;
	size_t at;
	int err;

	for (at = 0; at < iov->iov_len; at += NLMSG_ALIGN(nlh->nlmsg_len)) {
		nlh = (const void *)((const char *)iov->iov_base + at);
		match = memmem(nlh, nlh->nlmsg_len, kernel->bytes, kernel->length);
		if (kernel->type && (nlh->nlmsg_type & 0xff) != kernel->type)
			match = NULL;
		if (!match && nlh->nlmsg_seq != last_seq)
			continue;
		offset = match ? (uint32_t)(match - (const char *)nlh) : 0;
		offset = kernel->before == NO_OFFSET ? 0 : offset - kernel->before;
		err = send_answer(nlh, match ? kernel->err : 0, offset, reply,
				  data);
		if (err)
			return err;
	}
	return 0;
}

static int exchange(void *ctx, const struct iovec *iov, unsigned int n_iov,
		    uint32_t last_seq,
		    int (*reply)(const struct nlmsghdr *nlh, void *data),
		    void *data, unsigned int timeout_ms, struct errbuf *eb)
{
	struct lacking *kernel = ctx;

	(void)timeout_ms;
	(void)eb;
	kernel->exchanges++;
	ck_assert_uint_eq(n_iov, 2); /* BEGIN and the rest */
	return answer(&iov[1], kernel, last_seq, reply, data);
}

static const struct nlsock_ops ops = { .exchange = exchange };

/*
 * From the name of a set back to the beginning of the expression that looks
 * into it: headers of the name, of the data and of the expression, and the
 * register and the expression's name before.
 */
enum { TO_LOOKUP = 4 + 4 + 4 + 8 + 12 };

/* NFTA_EXPR_NAME and the like: the name with its length before it. */
#define EXPR(length, text) length "\0\1\0" text "\0", sizeof(text) + 4
static const struct lacking cases[] = {
	{ "nothing lacks", "nothing", 7, -ENOENT, NULL, 0, true, 0, 0, 0 },
	{ "no owner flag", "probe.\0\0\x8\0\2\0\0\0\0\6", 16, -EOPNOTSUPP, NULL,
	  0, false, 0, 0, 0 },
	{ "no nf_tables", "probe.", 6, -EOPNOTSUPP, "nf_tables", -EOPNOTSUPP,
	  false, 0, 0, 0 },
	{ "no nat", "\7\0nat", 6, -ENOENT, "chains of type nat", -EOPNOTSUPP,
	  false, 0, 0, 0 },
	{ "no fib", EXPR("\x8", "fib"), -ENOENT, "fib expression", -EOPNOTSUPP,
	  false, 0, 0, 0 },
	{ "no numgen", EXPR("\xb", "numgen"), -ENOENT, "numgen expression",
	  -EOPNOTSUPP, false, 0, 0, 0 },
	{ "no reject in nat", EXPR("\xb", "reject"), -EOPNOTSUPP,
	  "reject in chains of type nat", -EOPNOTSUPP, false, 0, 0, 0 },
	{ "no masquerade", EXPR("\x9", "masq"), -ENOENT, "masquerade",
	  -EOPNOTSUPP, false, 0, 0, 0 },
	{ "no dynset", EXPR("\xb", "dynset"), -ENOENT, "dynset", -EOPNOTSUPP,
	  false, 0, 0, 0 },
	{ "no ct", EXPR("\x7", "ct"), -ENOENT, "ct expression", -EOPNOTSUPP,
	  false, 0, 0, 0 },
	{ "something unheard of", "goto-like\0", 9, -EINVAL, NULL, 0, true, 0, 0, 0 },
	{ "a chain of the whole", "short-circuit", 13, -EINVAL,
	  " refuses chain short-circuit (IPv4): Invalid argument; ",
	  -EOPNOTSUPP, false, 0, 0, 0 },
	{ "a set", "ranges/probe", 12, -E2BIG,
	  " refuses set ranges/probe (IPv4): ", -EOPNOTSUPP, false, 0, 0, 0 },
	{ "a rule, and no more is told", "ranges/probe", 12, -EINVAL,
	  " refuses rule 1 of chain firewall/probe (IPv4): ", -EOPNOTSUPP,
	  false, 0, NFT_MSG_NEWRULE, NO_OFFSET },
	{ "an expression of one rule", "ranges/probe", 12, -EOPNOTSUPP,
	  " refuses rule 1 of chain firewall/probe, expression lookup (IPv4): Operation not "
	  "supported; ",
	  -EOPNOTSUPP, false, 0, NFT_MSG_NEWRULE, TO_LOOKUP },
	{ "one of a later rule", "hairpin", 7, -EOPNOTSUPP,
	  " refuses rule 2 of chain nat-postrouting, expression lookup (IPv4): ",
	  -EOPNOTSUPP, false, 0, NFT_MSG_NEWRULE, TO_LOOKUP },
	{ "not root", "probe.", 6, -EPERM, "CAP_NET_ADMIN", -EPERM, false, 0, 0, 0 },
	{ "out of memory", "probe.", 6, -ENOMEM, "nftables", -ENOMEM, false, 0,
	  0, 0 },
	{ "no answer", "probe.", 6, -ETIMEDOUT, "nftables", -ETIMEDOUT, false,
	  0, 0, 0 },
};

START_TEST(other_kernels)
{
	struct lacking kernel = cases[_i];
	const struct ruleset rs = ruleset(FAMILY_IPV4);
	struct nlsock *nl = nlsock_new(&ops, &kernel);
	struct errbuf eb = { "" };
	bool owner = false;
	int err;

	ck_assert(nl);
	err = kernel_probe(nl, &rs, &owner, &eb);
	ck_assert_msg(err == kernel.result, "%s: want %d got %d: %s",
		      kernel.name, kernel.result, err, eb.text);
	ck_assert_msg(owner == kernel.owner, "%s: owner: want %d got %d",
		      kernel.name, kernel.owner, owner);
	if (kernel.want)
		ck_assert_msg(strstr(eb.text, kernel.want), "%s: want %s got %s",
			      kernel.name, kernel.want, eb.text);
	if (!kernel.result)
		ck_assert_uint_eq(kernel.exchanges, 2);
	nlsock_close(nl);
}
END_TEST

static const struct lacking counterless[] = {
	{ "counters in maps", "nothing", 7, -ENOENT, NULL, 0, false, 0, 0, 0 },
	{ "none at all", EXPR("\xc", "counter"), -ENOENT,
	  "the kernel has no counters in maps for IPv4: No such file", -ENOENT,
	  false, 0, NFT_MSG_NEWSET, 0 },
	{ "none that begins with a count", EXPR("\xc", "counter"), -EOPNOTSUPP,
	  "no counters in maps for IPv4: Operation not supported", -EOPNOTSUPP,
	  false, 0, NFT_MSG_NEWSETELEM, 0 },
};

START_TEST(kernels_without_counters)
{
	struct lacking kernel = counterless[_i];
	struct nlsock *nl = nlsock_new(&ops, &kernel);
	struct errbuf eb = { "" };
	int err;

	ck_assert(nl);
	err = kernel_probe_counters(nl, FAMILY_IPV4, &eb);
	ck_assert_msg(err == kernel.result, "%s: want %d got %d: %s",
		      kernel.name, kernel.result, err, eb.text);
	if (kernel.want)
		ck_assert_msg(strstr(eb.text, kernel.want), "%s: want %s got %s",
			      kernel.name, kernel.want, eb.text);
	ck_assert_uint_eq(kernel.exchanges, 1);
	nlsock_close(nl);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("probe");
	TCase *tcase = tcase_create("kernel");

	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, this_kernel, 0, 3 * N_FAMILIES);
	tcase_add_test(tcase, beside_a_table);
	tcase_add_test(tcase, not_permitted);
	ADD_LOOP(tcase, other_kernels, cases);
	ADD_LOOP(tcase, kernels_without_counters, counterless);
	suite_add_tcase(suite, tcase);
	return suite;
}
