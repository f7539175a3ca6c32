/*
 * Sweeps over real conntrack tables, filled through ctnetlink in a namespace of
 * the test's own and counted with the conntrack command.
 */
#include "nft/conntrack.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/support/suite.h"

/* Between the sweep and the kernel: the next so many datagrams of a dump claim to be interrupted.
 */
static unsigned int interrupts;
/* The table claims to have a million entries, too many for the kernel to filter. */
static bool claims_a_million;

ssize_t recv(int fd, void *buf, size_t length, int flags)
{
	ssize_t n = syscall(SYS_recvfrom, fd, buf, length, flags, NULL, NULL);
	struct nlmsghdr *nlh = buf;

	if (n >= (ssize_t)sizeof(*nlh) && claims_a_million &&
	    nlh->nlmsg_type ==
		    (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS)) {
		struct nlattr *attr =
			mnl_nlmsg_get_payload_offset(nlh, sizeof(struct nfgenmsg));

		ck_assert_uint_eq(mnl_attr_get_type(attr),
				  CTA_STATS_GLOBAL_ENTRIES);
		*(uint32_t *)mnl_attr_get_payload(attr) = htonl(1000000);
	}
	if (n >= (ssize_t)sizeof(*nlh) && interrupts &&
	    nlh->nlmsg_type == (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW)) {
		interrupts--;
		nlh->nlmsg_flags |= NLM_F_DUMP_INTR;
	}
	return n;
}

/* A group of entries that differ in the client's port only. */
struct group {
	const char *name;
	uint8_t protocol;
	const char *client, *destination;
	uint16_t destination_port;
	const char *endpoint; /* NULL: not translated */
	uint16_t endpoint_port, zone;
	unsigned int count, left; /* how many are put in, how many stay */
};

static struct addr address(const char *text, enum family *family)
{
	struct addr addr;

	ck_assert_msg(addr_parse(text, family, &addr) == 0, "%s", text);
	return addr;
}

static void put_tuple(struct nlmsghdr *nlh, uint16_t type, enum family family,
		      uint8_t protocol, const struct addr *src, uint16_t src_port,
		      const struct addr *dst, uint16_t dst_port)
{
	const bool v4 = family == FAMILY_IPV4;
	struct nlattr *tuple = mnl_attr_nest_start(nlh, type), *nest;

	nest = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);
	mnl_attr_put(nlh, v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC,
		     family_size(family), src->bytes);
	mnl_attr_put(nlh, v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST,
		     family_size(family), dst->bytes);
	mnl_attr_nest_end(nlh, nest);
	nest = mnl_attr_nest_start(nlh, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(nlh, CTA_PROTO_NUM, protocol);
	mnl_attr_put_u16(nlh, CTA_PROTO_SRC_PORT, htons(src_port));
	mnl_attr_put_u16(nlh, CTA_PROTO_DST_PORT, htons(dst_port));
	mnl_attr_nest_end(nlh, nest);
	mnl_attr_nest_end(nlh, tuple);
}

static void put_nat(struct nlmsghdr *nlh, enum family family,
		    const struct addr *to, uint16_t port)
{
	const bool v4 = family == FAMILY_IPV4;
	struct nlattr *nat = mnl_attr_nest_start(nlh, CTA_NAT_DST), *proto;

	mnl_attr_put(nlh, v4 ? CTA_NAT_V4_MINIP : CTA_NAT_V6_MINIP,
		     family_size(family), to->bytes);
	mnl_attr_put(nlh, v4 ? CTA_NAT_V4_MAXIP : CTA_NAT_V6_MAXIP,
		     family_size(family), to->bytes);
	proto = mnl_attr_nest_start(nlh, CTA_NAT_PROTO);
	mnl_attr_put_u16(nlh, CTA_PROTONAT_PORT_MIN, htons(port));
	mnl_attr_put_u16(nlh, CTA_PROTONAT_PORT_MAX, htons(port));
	mnl_attr_nest_end(nlh, proto);
	mnl_attr_nest_end(nlh, nat);
}

static size_t put_entry(void *buf, const struct group *g, uint16_t client_port)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	struct addr client, destination, endpoint;
	struct nlattr *info, *tcp;
	enum family family;

	client = address(g->client, &family);
	destination = address(g->destination, &family);
	nlh->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL;
	nfg->nfgen_family = family == FAMILY_IPV4 ? AF_INET : AF_INET6;
	put_tuple(nlh, CTA_TUPLE_ORIG, family, g->protocol, &client,
		  client_port, &destination, g->destination_port);
	put_tuple(nlh, CTA_TUPLE_REPLY, family, g->protocol, &destination,
		  g->destination_port, &client, client_port);
	mnl_attr_put_u32(nlh, CTA_TIMEOUT, htonl(600));
	if (g->zone)
		mnl_attr_put_u16(nlh, CTA_ZONE, htons(g->zone));
	if (g->protocol == IPPROTO_TCP) {
		info = mnl_attr_nest_start(nlh, CTA_PROTOINFO);
		tcp = mnl_attr_nest_start(nlh, CTA_PROTOINFO_TCP);
		mnl_attr_put_u8(nlh, CTA_PROTOINFO_TCP_STATE,
				TCP_CONNTRACK_ESTABLISHED);
		mnl_attr_nest_end(nlh, tcp);
		mnl_attr_nest_end(nlh, info);
	}
	if (g->endpoint) {
		endpoint = address(g->endpoint, &family);
		put_nat(nlh, family, &endpoint, g->endpoint_port);
	}
	return MNL_ALIGN(nlh->nlmsg_len);
}

static void inject(const struct group *g)
{
	struct mnl_socket *nl = mnl_socket_open(NETLINK_NETFILTER);
	uint32_t buf[8192] = { 0 }, reply[1024]; /* attributes are padded */
	const struct nlmsgerr *error;
	unsigned int i = 0;
	size_t length;
	ssize_t n;

	ck_assert(nl && mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) == 0);
	while (i < g->count) {
		for (length = 0; i < g->count && length < sizeof(buf) - 1024; i++)
			length += put_entry((char *)buf + length, g,
					    (uint16_t)(10000 + i));
		ck_assert(mnl_socket_sendto(nl, buf, length) == (ssize_t)length);
		n = syscall(SYS_recvfrom, mnl_socket_get_fd(nl), reply,
			    sizeof(reply), MSG_DONTWAIT, NULL, NULL);
		error = mnl_nlmsg_get_payload((struct nlmsghdr *)reply);
		ck_assert_msg(n < 0, "%s: refused: %s", g->name,
			      strerror(-error->error));
	}
	mnl_socket_close(nl);
}

/* What the conntrack command finds of a group. */
static unsigned int count_left(const struct group *g)
{
	char command[512];
	unsigned int n = 0;
	FILE *out;

	snprintf(command, sizeof(command),
		 "conntrack -L -f %s -p %s -s %s -d %s --dport %u --reply-src %s "
		 "--reply-port-src %u -w %u 2>/dev/null | wc -l",
		 strchr(g->client, ':') ? "ipv6" : "ipv4",
		 g->protocol == IPPROTO_TCP ? "tcp" : "udp", g->client,
		 g->destination, g->destination_port,
		 g->endpoint ? g->endpoint : g->destination,
		 g->endpoint ? g->endpoint_port : g->destination_port, g->zone);
	out = popen(command, "r");
	ck_assert(out && fscanf(out, "%u", &n) == 1);
	pclose(out);
	return n;
}

/* VIP 172.30.0.1:53 or fd00::1:53 has one serving endpoint, 10.0.0.2:5353 or fd01::2:5353. */
static const struct group groups[] = {
	{ "endpoint gone (CT-1)", IPPROTO_UDP, "10.1.0.1", "172.30.0.1", 53,
	  "10.0.0.1", 5353, 0, 2000, 0 },
	{ "living flow (CT-2)", IPPROTO_UDP, "10.1.0.2", "172.30.0.1", 53,
	  "10.0.0.2", 5353, 0, 2000, 2000 },
	{ "former target port (CT-3)", IPPROTO_UDP, "10.1.0.3", "172.30.0.1",
	  53, "10.0.0.2", 5300, 0, 300, 0 },
	{ "never translated (CT-3)", IPPROTO_UDP, "10.1.0.4", "172.30.0.1", 53,
	  NULL, 0, 0, 300, 0 },
	{ "another port of the VIP (CT-8)", IPPROTO_UDP, "10.1.0.5",
	  "172.30.0.1", 54, "10.0.0.1", 5353, 0, 300, 300 },
	{ "another destination (CT-8)", IPPROTO_UDP, "10.1.0.6", "172.30.0.2",
	  53, NULL, 0, 0, 300, 300 },
	{ "TCP (CT-8)", IPPROTO_TCP, "10.1.0.7", "172.30.0.1", 53, "10.0.0.1",
	  5353, 0, 300, 300 },
	{ "opposite direction", IPPROTO_UDP, "172.30.0.1", "10.1.0.8", 53, NULL,
	  0, 0, 300, 300 },
	{ "endpoint gone, in a zone", IPPROTO_UDP, "10.1.0.9", "172.30.0.1", 53,
	  "10.0.0.1", 5353, 7, 300, 0 },
	{ "living flow, in a zone", IPPROTO_UDP, "10.1.0.9", "172.30.0.1", 53,
	  "10.0.0.2", 5353, 8, 300, 300 },
	{ "IPv6: endpoint gone", IPPROTO_UDP, "fd02::1", "fd00::1", 53,
	  "fd01::1", 5353, 0, 2000, 0 },
	{ "IPv6: living flow", IPPROTO_UDP, "fd02::2", "fd00::1", 53, "fd01::2",
	  5353, 0, 2000, 2000 },
	{ "IPv6: never translated", IPPROTO_UDP, "fd02::3", "fd00::1", 53, NULL,
	  0, 0, 300, 0 },
	{ "IPv6: TCP", IPPROTO_TCP, "fd02::4", "fd00::1", 53, "fd01::1", 5353,
	  0, 300, 300 },
};

enum { N_GROUPS = sizeof(groups) / sizeof(groups[0]) };

struct world {
	struct addr vip, endpoint;
	unsigned int asked, stale;
};

static struct world world_of(enum family family)
{
	enum family f;

	return (struct world){
		.vip = address(family == FAMILY_IPV4 ? "172.30.0.1" : "fd00::1", &f),
		.endpoint = address(
			family == FAMILY_IPV4 ? "10.0.0.2" : "fd01::2", &f),
	};
}

static bool is_stale(void *ctx, const struct flow *flow)
{
	struct world *w = ctx;
	bool stale;

	stale = addr_compare(&flow->destination, &w->vip) == 0 &&
		flow->destination_port == 53 &&
		!(flow->translated &&
		  addr_compare(&flow->reply_source, &w->endpoint) == 0 &&
		  flow->reply_source_port == 5353);
	w->asked++;
	w->stale += stale;
	return stale;
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* Runs a sweep to its end in steps of @per_step; returns the number of steps. */
static unsigned int run_sweep(struct sweep *s, unsigned int per_step,
			      struct world *w)
{
	struct errbuf eb = { "" };
	unsigned int steps = 0, before;
	int result;

	ck_assert_msg(sweep_start(s, NULL, 0, &eb) == 0, "%s", eb.text);
	do {
		ck_assert_msg(readable(sweep_fd(s)), "under way, yet not readable");
		before = w->asked;
		result = sweep_step(s, per_step, is_stale, w, &eb);
		ck_assert_msg(result >= 0, "%s", eb.text);
		/* A datagram of 32 KiB holds fewer than 300 entries. */
		ck_assert_uint_le(w->asked - before, per_step + 300);
		steps++;
	} while (result > 0);
	ck_assert_msg(!readable(sweep_fd(s)), "readable after the end");
	ck_assert_int_eq(sweep_step(s, per_step, is_stale, w, &eb), 0);
	return steps;
}

/* With a table that the kernel filters, and with one that is too large for that. */
START_TEST(removes_stale)
{
	struct errbuf eb = { "" };
	enum family family;
	struct sweep *s;
	struct world w;
	unsigned int want, left, stay, i;

	if (!new_namespace())
		return;
	for (i = 0; i < N_GROUPS; i++)
		inject(&groups[i]);
	for (family = 0; family < N_FAMILIES; family++) {
		s = sweep_new(family, IPPROTO_UDP, &eb);
		ck_assert_msg(s, "%s", eb.text);
		want = stay = 0;
		for (i = 0; i < N_GROUPS; i++) {
			if (!strchr(groups[i].client, ':') !=
			    (family == FAMILY_IPV4))
				continue;
			ck_assert_msg(count_left(&groups[i]) == groups[i].count,
				      "%s: not injected", groups[i].name);
			want += groups[i].count - groups[i].left;
			stay += groups[i].protocol == IPPROTO_UDP ? groups[i].left
								  : 0;
		}
		w = world_of(family);
		claims_a_million = _i;
		ck_assert_uint_ge(run_sweep(s, 200, &w), 2);
		ck_assert_uint_eq(sweep_deleted(s), want);
		ck_assert_uint_eq(w.asked, want + stay);
		for (i = 0; i < N_GROUPS; i++) {
			if (!strchr(groups[i].client, ':') !=
			    (family == FAMILY_IPV4))
				continue;
			left = count_left(&groups[i]);
			ck_assert_msg(left == groups[i].left,
				      "%s: want %u left got %u", groups[i].name,
				      groups[i].left, left);
		}
		/* Again: nothing to do, and the counter starts over. */
		w = world_of(family);
		run_sweep(s, 1000000, &w);
		ck_assert_uint_eq(sweep_deleted(s), 0);
		ck_assert_uint_eq(w.asked, stay);
		sweep_free(s);
	}
}
END_TEST

/* BEY-1: a sweep of TCP sees TCP alone. */
START_TEST(sweeps_tcp)
{
	struct world w = world_of(FAMILY_IPV4);
	struct errbuf eb = { "" };
	struct sweep *s;

	if (!new_namespace())
		return;
	inject(&groups[0]);
	inject(&groups[6]);
	s = sweep_new(FAMILY_IPV4, IPPROTO_TCP, &eb);
	ck_assert_msg(s, "%s", eb.text);
	claims_a_million = _i;
	run_sweep(s, 100, &w);
	ck_assert_uint_eq(w.asked, groups[6].count);
	ck_assert_uint_eq(sweep_deleted(s), groups[6].count);
	ck_assert_uint_eq(count_left(&groups[6]), 0);
	ck_assert_uint_eq(count_left(&groups[0]), groups[0].count);
	sweep_free(s);
}
END_TEST

/* What a sweep with filters is asked about, if the kernel filters. */
static const struct {
	const char *name, *addr[2]; /* NULL: any */
	bool answered[2];
	uint16_t port[2];
	unsigned int n;
	enum family family;
	unsigned int groups; /* a bit for each of groups[] */
} few[] = {
	{ "nobody in particular", { NULL }, { 0 }, { 0 }, 0, FAMILY_IPV4, 0x3bf },
	{ "who answers", { "10.0.0.1" }, { true }, { 5353 }, 1, FAMILY_IPV4, 0x111 },
	{ "who answers, another port", { "10.0.0.2" }, { true }, { 5300 }, 1, FAMILY_IPV4, 0x004 },
	{ "a virtual IP", { "172.30.0.1" }, { false }, { 53 }, 1, FAMILY_IPV4, 0x30f },
	{ "a node port", { NULL }, { false }, { 54 }, 1, FAMILY_IPV4, 0x010 },
	{ "two",
	  { "172.30.0.2", "10.0.0.1" },
	  { false, true },
	  { 53, 5353 },
	  2,
	  FAMILY_IPV4,
	  0x131 },
	/* of IPv6 the port counts */
	{ "IPv6: who answers", { "fd01::1" }, { true }, { 5353 }, 1, FAMILY_IPV6, 0xc00 },
	{ "IPv6: a virtual IP", { "fd00::1" }, { false }, { 53 }, 1, FAMILY_IPV6, 0x1c00 },
	{ "IPv6: nobody", { "fd00::9" }, { true }, { 54 }, 1, FAMILY_IPV6, 0 },
};

static bool count_flow(void *ctx, const struct flow *flow)
{
	(void)flow;
	++*(unsigned int *)ctx;
	return false;
}

START_TEST(looks_at_few)
{
	struct flow_filter filters[2] = { 0 };
	unsigned int i, asked = 0, want = 0;
	struct errbuf eb = { "" };
	enum family family;
	struct sweep *s;
	int result;

	if (!new_namespace())
		return;
	for (i = 0; i < N_GROUPS; i++) {
		inject(&groups[i]);
		want += few[_i].groups & 1u << i ? groups[i].count : 0;
	}
	for (i = 0; i < few[_i].n; i++) {
		filters[i].answered = few[_i].answered[i];
		filters[i].any_address = !few[_i].addr[i];
		filters[i].port = few[_i].port[i];
		if (few[_i].addr[i])
			filters[i].addr = address(few[_i].addr[i], &family);
	}
	s = sweep_new(few[_i].family, IPPROTO_UDP, &eb);
	ck_assert_msg(s, "%s", eb.text);
	ck_assert_msg(sweep_start(s, filters, few[_i].n, &eb) == 0, "%s", eb.text);
	while ((result = sweep_step(s, 100, count_flow, &asked, &eb)) > 0)
		;
	ck_assert_msg(result == 0, "%s", eb.text);
	ck_assert_msg(asked == want, "%s: asked about %u, want %u",
		      few[_i].name, asked, want);
	sweep_free(s);
}
END_TEST

/* A large table is looked at whole: a walk of the kernel is not to be divided. */
START_TEST(looks_at_all_of_many)
{
	struct flow_filter filter = { .answered = true, .port = 5353 };
	unsigned int asked = 0;
	struct errbuf eb = { "" };
	enum family family;
	struct sweep *s;

	if (!new_namespace())
		return;
	inject(&groups[0]);
	inject(&groups[1]);
	filter.addr = address("10.0.0.1", &family);
	s = sweep_new(family, IPPROTO_UDP, &eb);
	ck_assert_msg(s, "%s", eb.text);
	claims_a_million = 1;
	ck_assert_msg(sweep_start(s, &filter, 1, &eb) == 0, "%s", eb.text);
	while (sweep_step(s, 100, count_flow, &asked, &eb) > 0)
		;
	ck_assert_uint_eq(asked, groups[0].count + groups[1].count);
	sweep_free(s);
}
END_TEST

START_TEST(empty_table)
{
	struct world w = world_of(FAMILY_IPV6);
	struct errbuf eb = { "" };
	struct sweep *s;

	if (!new_namespace())
		return;
	s = sweep_new(FAMILY_IPV6, IPPROTO_UDP, &eb);
	ck_assert_msg(s, "%s", eb.text);
	ck_assert_int_eq(sweep_step(s, 100, is_stale, &w, &eb), 0);
	ck_assert_uint_eq(run_sweep(s, 100, &w), 1);
	ck_assert_uint_eq(w.asked, 0);
	sweep_free(s);
}
END_TEST

/* A second start gives the first up: no leftovers of it are seen. */
START_TEST(starts_over)
{
	struct world w = world_of(FAMILY_IPV4);
	struct errbuf eb = { "" };
	struct sweep *s;

	if (!new_namespace())
		return;
	inject(&groups[1]);
	s = sweep_new(FAMILY_IPV4, IPPROTO_UDP, &eb);
	ck_assert_msg(s, "%s", eb.text);
	ck_assert_int_eq(sweep_start(s, NULL, 0, &eb), 0);
	ck_assert_int_eq(sweep_step(s, 10, is_stale, &w, &eb), 1);
	w.asked = 0;
	run_sweep(s, 100, &w);
	ck_assert_uint_eq(w.asked, groups[1].count);
	sweep_free(s);
}
END_TEST

/* CT-9: interrupted dumps are repeated, 5 attempts in all, and then used as far as they go. */
static const struct {
	const char *name;
	unsigned int interrupts, asked_at_least, deleted;
} interrupted[] = {
	{ "never", 0, 300, 300 },
	{ "once", 1, 300, 300 },
	{ "4 times", 4, 300, 300 },
	{ "5 times: given up without an error", 5, 0, 0 },
};

START_TEST(is_interrupted)
{
	struct world w = world_of(FAMILY_IPV4);
	struct errbuf eb = { "" };
	struct sweep *s;

	if (!new_namespace())
		return;
	inject(&groups[3]);
	s = sweep_new(FAMILY_IPV4, IPPROTO_UDP, &eb);
	ck_assert_msg(s, "%s", eb.text);
	interrupts = interrupted[_i].interrupts;
	run_sweep(s, 100, &w);
	ck_assert_msg(interrupts == 0, "%s: %u left", interrupted[_i].name,
		      interrupts);
	ck_assert_msg(w.asked >= interrupted[_i].asked_at_least, "%s: asked %u",
		      interrupted[_i].name, w.asked);
	ck_assert_msg(sweep_deleted(s) == interrupted[_i].deleted,
		      "%s: want %u got %lu", interrupted[_i].name,
		      interrupted[_i].deleted, sweep_deleted(s));
	sweep_free(s);
}
END_TEST

/* The entry goes and comes again between the dump and the deletion. */
static bool replace_entry(void *ctx, const struct flow *flow)
{
	struct group filler = groups[5], again = groups[3];

	(void)flow;
	++*(unsigned int *)ctx;
	ck_assert_int_eq(
		system("conntrack -D -p udp -s 10.1.0.4 > /dev/null 2>&1"), 0);
	filler.count = 20; /* so that the new entry has another place in memory */
	inject(&filler);
	again.count = 1;
	inject(&again);
	return true;
}

START_TEST(spares_new_entry)
{
	struct group one = groups[3];
	struct errbuf eb = { "" };
	unsigned int asked = 0;
	struct sweep *s;
	int result;

	if (!new_namespace())
		return;
	one.count = 1;
	inject(&one);
	s = sweep_new(FAMILY_IPV4, IPPROTO_UDP, &eb);
	ck_assert_msg(s, "%s", eb.text);
	ck_assert_int_eq(sweep_start(s, NULL, 0, &eb), 0);
	while ((result = sweep_step(s, 100, replace_entry, &asked, &eb)) > 0)
		;
	ck_assert_msg(result == 0, "%s", eb.text);
	ck_assert_uint_eq(asked, 1);
	ck_assert_uint_eq(sweep_deleted(s), 0);
	ck_assert_uint_eq(count_left(&one), 1);
	sweep_free(s);
}
END_TEST

START_TEST(decodes_flow)
{
	uint32_t buf[512];
	struct nlmsghdr *nlh = (void *)buf;
	enum family family;
	struct flow flow;
	struct addr addr;

	put_entry(buf, &groups[0], 10000);
	ck_assert_int_eq(flow_decode(nlh, FAMILY_IPV4, IPPROTO_UDP, &flow),
			 -EINVAL); /* no status */
	mnl_attr_put_u32(nlh, CTA_STATUS, htonl(1 << 5 | 1 << 3));
	ck_assert_int_eq(flow_decode(nlh, FAMILY_IPV6, IPPROTO_UDP, &flow),
			 -EINVAL);
	ck_assert_int_eq(flow_decode(nlh, FAMILY_IPV4, IPPROTO_UDP, &flow), 0);
	addr = address(groups[0].client, &family);
	ck_assert(addr_compare(&flow.client, &addr) == 0);
	addr = address(groups[0].destination, &family);
	ck_assert(addr_compare(&flow.destination, &addr) == 0);
	ck_assert(addr_compare(&flow.reply_source, &addr) == 0);
	ck_assert_uint_eq(flow.client_port, 10000);
	ck_assert_uint_eq(flow.destination_port, 53);
	ck_assert_uint_eq(flow.reply_source_port, 53);
	ck_assert(flow.translated);
	put_entry(buf, &groups[6], 10000);
	mnl_attr_put_u32(nlh, CTA_STATUS, 0);
	ck_assert_int_eq(flow_decode(nlh, FAMILY_IPV4, IPPROTO_UDP, &flow),
			 -EINVAL); /* TCP */
	ck_assert_int_eq(flow_decode(nlh, FAMILY_IPV4, IPPROTO_TCP, &flow), 0);
	ck_assert_uint_eq(flow.tcp_state, TCP_CONNTRACK_ESTABLISHED);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("conntrack");
	TCase *tcase = tcase_create("kernel");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, decodes_flow);
	tcase_add_loop_test(tcase, removes_stale, 0, 2);
	tcase_add_loop_test(tcase, sweeps_tcp, 0, 2);
	ADD_LOOP(tcase, looks_at_few, few);
	tcase_add_test(tcase, looks_at_all_of_many);
	tcase_add_test(tcase, empty_table);
	tcase_add_test(tcase, starts_over);
	ADD_LOOP(tcase, is_interrupted, interrupted);
	tcase_add_test(tcase, spares_new_entry);
	suite_add_tcase(suite, tcase);
	return suite;
}
