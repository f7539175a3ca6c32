/* Notifications of changes that nft, a socket called ours, or the kernel itself make. */
#include "nft/monitor.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/suite.h"

static void run(const char *command)
{
	ck_assert_msg(system(command) == 0, "failed: %s", command);
}

static struct nlmsghdr *put_header(void *buf, uint16_t type, uint16_t flags,
				   uint8_t family, uint16_t res_id)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nfg->nfgen_family = family;
	nfg->res_id = htons(res_id);
	return nlh;
}

/* Adds set @name, or @n elements to it, to table vipmap of family ip over @nl. */
static void transact(struct mnl_socket *nl, const char *set, unsigned int first,
		     unsigned int n)
{
	size_t size = 4096 + n * 32, at = 0;
	char *buf = calloc(1, size);
	struct nlattr *list = NULL, *element, *key;
	struct nlmsghdr *nlh;
	int limit = 32 << 20;
	unsigned int i = 0;
	uint32_t value;

	ck_assert(buf);
	setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_SNDBUFFORCE, &limit,
		   sizeof(limit));
	nlh = put_header(buf, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC,
			 NFNL_SUBSYS_NFTABLES);
	at += nlh->nlmsg_len;
	do {
		nlh = put_header(buf + at,
				 NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM,
				 NLM_F_CREATE, NFPROTO_IPV4, 0);
		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, "vipmap");
		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set);
		list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
		for (; i < n && mnl_nlmsg_get_payload_len(nlh) < 60000; i++) {
			element = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
			key = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
			value = htonl(first + i);
			mnl_attr_put(nlh, NFTA_DATA_VALUE, sizeof(value), &value);
			mnl_attr_nest_end(nlh, key);
			mnl_attr_nest_end(nlh, element);
		}
		mnl_attr_nest_end(nlh, list);
		at += MNL_ALIGN(nlh->nlmsg_len);
	} while (i < n);
	/* The list's 4-byte attributes and headers stay below 32 bytes an element. */
	nlh = put_header(buf + at, NFNL_MSG_BATCH_END, NLM_F_ACK, AF_UNSPEC,
			 NFNL_SUBSYS_NFTABLES);
	at += nlh->nlmsg_len;
	ck_assert(at <= size);
	ck_assert_msg(mnl_socket_sendto(nl, buf, at) == (ssize_t)at, "%s",
		      strerror(errno));
	free(buf);
}

static const char setup[] =
	"nft 'table ip vipmap { set s { type ipv4_addr; }; map m { type ipv4_addr : ipv4_addr; "
	"flags dynamic,timeout; timeout 1s; size 100; }; chain c { }; }; "
	"table ip6 vipmap { chain c { }; }; table ip other { set s { type ipv4_addr; }; chain c { "
	"}; };"
	"table ip vipmap2 { chain c { }; }; table inet vipmap { chain c { }; }'";

enum { V4 = 1 << FAMILY_IPV4, V6 = 1 << FAMILY_IPV6 };

static const struct {
	const char *name, *command;
	unsigned int want;
} cases[] = {
	{ "nothing", "true", 0 },
	{ "element added (RUN-5)", "nft add element ip vipmap s { 10.0.0.1 }", V4 },
	{ "element of an affinity map added by hand",
	  "nft add element ip vipmap m { 10.0.0.1 : 10.0.0.2 }", V4 },
	{ "rule added", "nft add rule ip6 vipmap c drop", V6 },
	{ "rule and chain",
	  "nft 'add chain ip vipmap d; add rule ip6 vipmap c drop'", V4 | V6 },
	{ "set deleted", "nft delete set ip vipmap s", V4 },
	{ "table deleted", "nft delete table ip6 vipmap", V6 },
	{ "flush ruleset", "nft flush ruleset", V4 | V6 },
	{ "flush ruleset of a family", "nft flush ruleset ip", V4 },
	{ "another table",
	  "nft 'add rule ip other c drop; add element ip other s { 10.0.0.1 }'", 0 },
	{ "a name that begins like ours", "nft add rule ip vipmap2 c drop", 0 },
	{ "our name in a family that is not ours",
	  "nft add rule inet vipmap c drop", 0 },
	{ "deleted and made again",
	  "nft 'delete table ip vipmap; add table ip vipmap; add chain ip vipmap c'",
	  V4 },
	{ "a check changes nothing", "nft -c add rule ip vipmap c drop", 0 },
};

START_TEST(others)
{
	struct errbuf eb = { "" };
	struct monitor *m;
	unsigned int changed = 99;

	if (!new_namespace())
		return;
	run(setup);
	m = monitor_open(0, &eb);
	ck_assert_msg(m, "%s", eb.text);
	run(cases[_i].command);
	ck_assert_int_eq(monitor_read(m, &changed, &eb), 0);
	ck_assert_msg(changed == cases[_i].want, "%s: want %u got %u",
		      cases[_i].name, cases[_i].want, changed);
	ck_assert_int_eq(monitor_read(m, &changed, &eb), 0);
	ck_assert_msg(changed == 0, "%s: told twice", cases[_i].name);
	monitor_close(m);
}
END_TEST

static const char rival_setup[] =
	"nft 'table ip kube-proxy { set s { type ipv4_addr; }; chain c { }; }; "
	"table ip6 nat { chain KUBE-SVC-AAAA { }; chain KUBE-ROUTER-X { }; chain other { }; }; "
	"table ip vipmap { chain c { }; }; table ip kube-proxy2 { chain c { }; }'";

/* What a refresh by kube-proxy looks like (BEY-7). */
static const struct {
	const char *name, *command;
	unsigned int want;
} rival_cases[] = {
	{ "nothing", "true", 0 },
	{ "element", "nft add element ip kube-proxy s { 10.0.0.1 }", V4 },
	{ "a chain filled anew",
	  "nft 'flush chain ip kube-proxy c; add rule ip kube-proxy c drop'", V4 },
	{ "table deleted", "nft delete table ip kube-proxy", V4 },
	{ "table made", "nft add table ip6 kube-proxy", V6 },
	{ "rule of iptables-nft", "nft add rule ip6 nat KUBE-SVC-AAAA counter", V6 },
	{ "chain of iptables-nft", "nft add chain ip6 nat KUBE-SEP-AAAA", V6 },
	{ "chain deleted", "nft delete chain ip6 nat KUBE-SVC-AAAA", V6 },
	{ "another's chain",
	  "nft 'add rule ip6 nat other drop; add rule ip6 nat KUBE-ROUTER-X drop'",
	  0 },
	{ "its chain's name elsewhere",
	  "nft add chain ip kube-proxy2 KUBE-SVC-AAAA", 0 },
	{ "ours", "nft add rule ip vipmap c drop", 0 },
};

START_TEST(rivals)
{
	struct errbuf eb = { "" };
	struct monitor *m;
	unsigned int changed = 99;

	if (!new_namespace())
		return;
	run(rival_setup);
	m = monitor_open_rival(&eb);
	ck_assert_msg(m, "%s", eb.text);
	run(rival_cases[_i].command);
	ck_assert_int_eq(monitor_read(m, &changed, &eb), 0);
	ck_assert_msg(changed == rival_cases[_i].want, "%s: want %u got %u",
		      rival_cases[_i].name, rival_cases[_i].want, changed);
	monitor_close(m);
}
END_TEST

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* Our own changes do not even wake us, however large; those of others in between are seen. */
START_TEST(ours)
{
	struct errbuf eb = { "" };
	struct mnl_socket *nl;
	struct monitor *m;
	unsigned int changed = 99;

	if (!new_namespace())
		return;
	run(setup);
	nl = mnl_socket_open(NETLINK_NETFILTER);
	ck_assert(nl && mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) == 0);
	m = monitor_open(mnl_socket_get_portid(nl), &eb);
	ck_assert_msg(m, "%s", eb.text);
	transact(nl, "s", 1, 80000);
	ck_assert_msg(
		system("nft get element ip vipmap s { 0.1.56.128 } > /dev/null") == 0,
		"the transaction did not commit");
	ck_assert_msg(!readable(monitor_fd(m)), "woken by our own transaction");
	ck_assert_int_eq(monitor_read(m, &changed, &eb), 0);
	ck_assert_uint_eq(changed, 0);
	run("nft add rule ip6 vipmap c drop");
	transact(nl, "s", 1000000, 10);
	ck_assert_msg(readable(monitor_fd(m)), "not woken by another's");
	ck_assert_int_eq(monitor_read(m, &changed, &eb), 0);
	ck_assert_uint_eq(changed, V6);
	monitor_close(m);
	mnl_socket_close(nl);
}
END_TEST

START_TEST(paused)
{
	struct errbuf eb = { "" };
	struct monitor *m;
	unsigned int changed = 99;

	if (!new_namespace())
		return;
	run(setup);
	m = monitor_open(0, &eb);
	ck_assert_msg(m, "%s", eb.text);
	ck_assert_int_eq(monitor_pause(m), 0);
	run("nft add rule ip6 vipmap c drop");
	ck_assert_int_eq(monitor_read(m, &changed, &eb), 0);
	ck_assert_msg(changed == 0, "paused: want 0 got %u", changed);
	ck_assert_int_eq(monitor_resume(m), 0);
	run("nft add rule ip6 vipmap c drop");
	ck_assert_int_eq(monitor_read(m, &changed, &eb), 0);
	ck_assert_msg(changed == V6, "resumed: want %u got %u", V6, changed);
	monitor_close(m);
}
END_TEST

START_TEST(lost)
{
	struct errbuf eb = { "" };
	struct mnl_socket *nl;
	struct monitor *m;
	unsigned int changed = 0;

	if (!new_namespace())
		return;
	run(setup);
	nl = mnl_socket_open(NETLINK_NETFILTER);
	ck_assert(nl && mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) == 0);
	m = monitor_open(0, &eb);
	ck_assert_msg(m, "%s", eb.text);
	/* Some 7 MB of notifications, of one family, against 4 MB of buffer. */
	transact(nl, "s", 1, 80000);
	ck_assert_int_eq(monitor_read(m, &changed, &eb), 0);
	ck_assert_msg(changed == (V4 | V6), "want both families got %u", changed);
	run("nft add rule ip6 vipmap c drop");
	ck_assert_int_eq(monitor_read(m, &changed, &eb), 0);
	ck_assert_msg(changed == V6, "after a loss: want %u got %u", V6, changed);
	monitor_close(m);
	mnl_socket_close(nl);
}
END_TEST

static void send_packet(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)) == 1);
	close(fd);
}

/* Session affinity: what rules remember and what expires is no foreign change. */
START_TEST(affinity)
{
	const struct timespec more_than_timeout = { .tv_sec = 2,
						    .tv_nsec = 500000000 };
	struct errbuf eb = { "" };
	struct monitor *m;
	unsigned int changed = 99;

	if (!new_namespace())
		return;
	run(setup);
	run("nft 'add chain ip vipmap out { type filter hook output priority 0; }; "
	    "add rule ip vipmap out update @m { ip saddr timeout 1s : 10.0.0.2 }'");
	run("ip link set dev lo up");
	m = monitor_open(0, &eb);
	ck_assert_msg(m, "%s", eb.text);
	send_packet();
	run("nft list map ip vipmap m | grep -q 'elements.*127.0.0.1'");
	nanosleep(&more_than_timeout, NULL);
	run("! nft list map ip vipmap m | grep -q elements");
	ck_assert_int_eq(monitor_read(m, &changed, &eb), 0);
	ck_assert_uint_eq(changed, 0);
	monitor_close(m);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("monitor");
	TCase *tcase = tcase_create("kernel");

	tcase_set_timeout(tcase, 60);
	ADD_LOOP(tcase, others, cases);
	ADD_LOOP(tcase, rivals, rival_cases);
	tcase_add_test(tcase, ours);
	tcase_add_test(tcase, paused);
	tcase_add_test(tcase, lost);
	tcase_add_test(tcase, affinity);
	suite_add_tcase(suite, tcase);
	return suite;
}
