/*
 * Transactions: what nft makes of them, what the kernel refuses and whose fault that was, and what
 * goes over the wire. Tests with a kernel run in a namespace of their own.
 */
#include "nft/batch.h"
#include "nft/encode.h"
#include "nft/text.h"
#include "tests/support/suite.h"
#include "tests/support/nft.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>

enum { TIMEOUT_MS = 20000 };

static struct nlsock *kernel(void)
{
	struct errbuf eb = { "" };
	struct nlsock *nl = nlsock_open(&eb);

	ck_assert_msg(nl, "%s", eb.text);
	return nl;
}

/* Commits and frees the batch; it has to succeed. */
static void commit(struct nlsock *nl, struct batch *b)
{
	struct errbuf eb = { "" };
	int err = batch_commit(b, nl, TIMEOUT_MS, NULL, &eb);

	ck_assert_msg(err == 0, "%s", eb.text);
	batch_free(b);
}

static struct batch *sample_batch(enum family family, unsigned int flags)
{
	struct ruleset ruleset = sample_ruleset_with(family, flags);
	struct batch *b = batch_new(&ruleset, 0);

	ck_assert_ptr_nonnull(b);
	sample_write(batch_writer(b), family, flags);
	return b;
}

static char *sample_text(enum family family, unsigned int flags)
{
	struct ruleset ruleset = sample_ruleset_with(family, flags);
	struct text *t = text_new(&ruleset);
	struct strbuf out = STRBUF_INIT;

	sample_write(text_writer(t), family, flags);
	ck_assert_int_eq(text_print(t, &out), 0);
	text_free(t);
	return out.text;
}

static char *shell(const char *command)
{
	struct strbuf out = STRBUF_INIT;

	ck_assert_msg(run(command, &out) == 0, "%s: %s", command, out.text);
	return out.text ? out.text : strdup("");
}

static bool lists(const char *command, const char *want)
{
	char *out = shell(command);
	bool found = strstr(out, want);

	free(out);
	return found;
}

/* nft 1.0.6 aborts when it loads IPv6 session affinity. */
static const struct {
	const char *name, *list;
	enum family family;
	unsigned int loadable;
} families[] = {
	{ "IPv4", "nft list table ip vipmap", FAMILY_IPV4, SAMPLE_STICKY },
	{ "IPv6", "nft list table ip6 vipmap", FAMILY_IPV6, 0 },
	{ "IPv4, parts", "nft list table ip vipmap", FAMILY_IPV4, SAMPLE_PARTS },
	{ "IPv6, parts", "nft list table ip6 vipmap", FAMILY_IPV6, SAMPLE_PARTS },
	{ "IPv4, other rules", "nft list table ip vipmap", FAMILY_IPV4,
	  SAMPLE_PARTS | SAMPLE_OTHER },
	{ "IPv6, other rules", "nft list table ip6 vipmap", FAMILY_IPV6,
	  SAMPLE_PARTS | SAMPLE_OTHER },
};

enum { N_SAMPLES = sizeof(families) / sizeof(families[0]) };

/* A table as it is listed, after a batch, or after nft has loaded our text. */
static char *listed_after_batch(int i, unsigned int flags)
{
	struct nlsock *nl = kernel();
	char *list, *normal;

	commit(nl, sample_batch(families[i].family, flags));
	list = shell(families[i].list);
	normal = normalise_list(list);
	free(list);
	nlsock_close(nl);
	return normal;
}

static void load_text(int i, unsigned int flags)
{
	char *text = sample_text(families[i].family, flags);
	struct strbuf out = STRBUF_INIT;

	ck_assert_msg(run_with("nft -f %s", text, &out) == 0, "%s", out.text);
	strbuf_free(&out);
	free(text);
}

/* @a from where it differs from @b; a message of Check has at most 8 KiB. */
static const char *difference(const char *a, const char *b)
{
	size_t i = 0;

	while (a[i] && a[i] == b[i])
		i++;
	return a + (i > 200 ? i - 200 : 0);
}

START_TEST(test_lists_like_text)
{
	char *got, *want, *list;

	if (!new_namespace())
		return;
	got = listed_after_batch(_i, families[_i].loadable);
	ck_assert(new_namespace());
	load_text(_i, families[_i].loadable);
	list = shell(families[_i].list);
	want = normalise_list(list);
	ck_assert_msg(strcmp(got, want) == 0,
		      "%s: text lists as:\n%.2000s\nbatch as:\n%.2000s",
		      families[_i].name, difference(want, got),
		      difference(got, want));
	free(list);
	free(want);
	free(got);
}
END_TEST

/* nft 1.0.6 lists what it cannot load. */
START_TEST(test_lists_ipv6_affinity)
{
	static const char *const wants[] = {
		"\t\tupdate @affinity/default/sticky/tcp/http { ip6 saddr timeout 3h : fd00::10:1 "
		". 8080 }\n"
		"\t\tmeta l4proto tcp dnat ip6 to ip6 saddr map @affinity/default/sticky/tcp/http\n"
		"\t\tmeta l4proto tcp dnat to [fd00::10:1]:8080\n",
		"\t\tupdate @affinity/default/sticky/tcp/http { ip6 saddr timeout 1d2h3m4s : "
		"fd00::10:2 . 8080 }\n"
		"\t\tmeta l4proto sctp dnat ip6 to ip6 saddr map "
		"@affinity/default/sticky/tcp/http\n"
		"\t\tmeta l4proto sctp dnat to [fd00::10:2]:8080\n",
		"\tmap affinity/default/sticky/tcp/http {\n"
		"\t\ttypeof ip6 saddr : ip6 daddr . th dport\n"
		"\t\tsize 1048576\n"
		"\t\tflags dynamic,timeout\n"
		"\t\tcomment \"default/sticky:http\"\n",
	};
	char *got;
	size_t i;

	if (!new_namespace())
		return;
	got = listed_after_batch(1, SAMPLE_STICKY);
	for (i = 0; i < sizeof(wants) / sizeof(wants[0]); i++)
		ck_assert_msg(strstr(got, wants[i]), "no %s in %.3000s",
			      wants[i], strstr(got, "chain sticky/"));
	free(got);
}
END_TEST

/* A transport that keeps what is sent, and says what it is told to. */
struct fake {
	struct wire sent;
	unsigned int exchanges;
	int fail_with; /* the exchange as a whole */
	int error;     /* of the message at place refused, BEGIN being 0 */
	unsigned int refused;
	uint32_t offset; /* 0: none is told */
};

static void fake_reply(const struct nlmsghdr *request, int error, uint32_t offset,
		       int (*reply)(const struct nlmsghdr *nlh, void *data),
		       void *data)
{
	char bytes[256] = "";
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(bytes);
	struct nlmsgerr *e = mnl_nlmsg_put_extra_header(nlh, sizeof(*e));

	nlh->nlmsg_type = NLMSG_ERROR;
	nlh->nlmsg_flags = NLM_F_CAPPED;
	nlh->nlmsg_seq = request->nlmsg_seq;
	e->error = error;
	e->msg = *request;
	if (offset) {
		nlh->nlmsg_flags |= NLM_F_ACK_TLVS;
		mnl_attr_put_strz(nlh, NLMSGERR_ATTR_MSG, "a reason");
		mnl_attr_put_u32(nlh, NLMSGERR_ATTR_OFFS, offset);
	}
	(void)reply(nlh, data);
}

static int fake_exchange(void *ctx, const struct iovec *iov, unsigned int n_iov,
			 uint32_t last_seq,
			 int (*reply)(const struct nlmsghdr *nlh, void *data),
			 void *data, unsigned int timeout_ms, struct errbuf *eb)
{
	struct fake *fake = ctx;
	const struct nlmsghdr *nlh;
	unsigned int i, place = 0;
	size_t at;
	void *room;

	(void)timeout_ms;
	fake->exchanges++;
	fake->sent.length = 0;
	for (i = 0; i < n_iov; i++) {
		room = wire_reserve(&fake->sent, iov[i].iov_len);
		memcpy(room, iov[i].iov_base, iov[i].iov_len);
		fake->sent.length += iov[i].iov_len;
	}
	if (fake->fail_with)
		return errf(eb, fake->fail_with, "fake");
	for (at = 0; at < fake->sent.length;
	     at += NLMSG_ALIGN(nlh->nlmsg_len), place++) {
		nlh = (const struct nlmsghdr *)(const void *)(fake->sent.bytes + at);
		if (fake->error && place == fake->refused)
			fake_reply(nlh, fake->error, fake->offset, reply, data);
		if (nlh->nlmsg_seq == last_seq) {
			ck_assert(nlh->nlmsg_flags & NLM_F_ACK);
			fake_reply(nlh, 0, 0, reply, data);
		}
	}
	return 0;
}

static const struct nlsock_ops fake_ops = { .exchange = fake_exchange };

#define for_each_sent(nlh, at, fake)                                           \
	for (at = 0;                                                           \
	     at < (fake)->sent.length &&                                       \
	     (nlh = (struct nlmsghdr *)(void *)((fake)->sent.bytes + at), 1);  \
	     at += NLMSG_ALIGN(nlh->nlmsg_len))

static unsigned int message_type(const struct nlmsghdr *nlh)
{
	return nlh->nlmsg_type & 0xff;
}

/* "chain\n  [ expression ]\n" for all rules that were sent, in order. */
static char *sent_expressions(struct fake *fake)
{
	struct strbuf out = STRBUF_INIT;
	struct nlmsghdr *nlh;
	char text[4096];
	const char *line;
	size_t at;

	for_each_sent (nlh, at, fake) {
		struct nftnl_rule *rule;

		if (nlh->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE))
			continue;
		rule = nftnl_rule_alloc();
		ck_assert_int_eq(nftnl_rule_nlmsg_parse(nlh, rule), 0);
		nftnl_rule_snprintf(text, sizeof(text), rule,
				    NFTNL_OUTPUT_DEFAULT, 0);
		strbuf_addf(&out, "%s\n",
			    nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN));
		for (line = strstr(text, "  [ "); line;
		     line = strstr(line + 1, "  [ "))
			strbuf_addf(&out, "%.*s]\n", (int)strcspn(line, "]"), line);
		nftnl_rule_free(rule);
	}
	return out.text;
}

/*
 * nft converts each field but payload before it looks among ranges, even one of a single byte,
 * where this does nothing. Since Linux 6.12 the kernel refuses it.
 */
static bool does_nothing(const char *line)
{
	unsigned int to, from, size, length;

	return sscanf(line, "  [ byteorder reg %u = hton(reg %u, %u, %u)", &to,
		      &from, &size, &length) == 4 &&
	       to == from && length < size;
}

/* The same of what nft says that it makes of a text, without that. */
static char *nft_expressions(const char *debug, const char *family)
{
	struct strbuf out = STRBUF_INIT;
	char *copy = strdup(debug), *line, *rest = NULL, chain[256],
	     keyword[16], table[16];

	for (line = strtok_r(copy, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		if (does_nothing(line))
			continue;
		if (strncmp(line, "  [ ", 4) == 0)
			strbuf_addf(&out, "%.*s]\n", (int)strcspn(line, "]"), line);
		else if (sscanf(line, "%15s %15s %255s", keyword, table, chain) == 3 &&
			 strcmp(keyword, family) == 0 &&
			 strcmp(table, "vipmap") == 0)
			strbuf_addf(&out, "%s\n", chain);
	}
	free(copy);
	return out.text;
}

START_TEST(test_expressions)
{
	unsigned int flags = families[_i].loadable;
	char *text = sample_text(families[_i].family, flags), *got, *want;
	struct batch *b = sample_batch(families[_i].family, flags);
	struct fake fake = { .exchanges = 0 };
	struct nlsock *nl = nlsock_new(&fake_ops, &fake);
	struct strbuf debug = STRBUF_INIT;

	commit(nl, b);
	if (new_namespace()) {
		ck_assert_int_eq(
			run_with("nft --debug=netlink -c -f %s", text, &debug), 0);
		got = sent_expressions(&fake);
		ck_assert_msg(!strstr(got, "byteorder"), "needless in: %.3000s",
			      got);
		want = nft_expressions(debug.text, _i % 2 ? "ip6" : "ip");
		ck_assert_msg(strcmp(got, want) == 0,
			      "%s: want:\n%.2000s\ngot:\n%.2000s",
			      families[_i].name, difference(want, got),
			      difference(got, want));
		free(got);
		free(want);
	}
	strbuf_free(&debug);
	nlsock_close(nl);
	wire_free(&fake.sent);
	free(text);
}
END_TEST

/* A dump: all attributes of each message but its handle, a line each, sorted by name. */
struct dump {
	char *lines[64];
	unsigned int n, elements;
};

static int on_set(const struct nlmsghdr *nlh, void *data)
{
	struct dump *dump = data;
	struct strbuf line = STRBUF_INIT;
	const struct nlattr *attr;
	unsigned int i;

	if (nlh->nlmsg_type == NLMSG_ERROR)
		return 0;
	for_each_attr (attr, nlh, sizeof(struct nfgenmsg)) {
		/* Behind them: padding, type and count of the implementation, in new kernels. */
		if (mnl_attr_get_type(attr) == NFTA_SET_HANDLE ||
		    mnl_attr_get_type(attr) > NFTA_SET_EXPRESSIONS)
			continue;
		if (mnl_attr_get_type(attr) == NFTA_SET_NAME)
			strbuf_addf(&line, "%s", mnl_attr_get_str(attr));
		strbuf_addf(&line, "\n %u:", mnl_attr_get_type(attr));
		for (i = 0; i < mnl_attr_get_payload_len(attr); i++)
			strbuf_addf(
				&line, " %02x",
				((const uint8_t *)mnl_attr_get_payload(attr))[i]);
	}
	dump->lines[dump->n++] = line.text;
	return 0;
}

static int on_elements(const struct nlmsghdr *nlh, void *data)
{
	struct dump *dump = data;
	const struct nlattr *attr, *element;

	if (nlh->nlmsg_type == NLMSG_ERROR)
		return 0;
	for_each_attr (attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_LIST_ELEMENTS)
			for_each_attr_in (element, attr)
				dump->elements++;
	return 0;
}

static void dump_kernel(enum family family, uint16_t type, const char *set,
			int (*reply)(const struct nlmsghdr *nlh, void *data),
			struct dump *dump)
{
	struct wire w = { .length = 0 };
	struct nlmsghdr *nlh = message_begin(&w, family, type, NLM_F_DUMP, 256);
	struct nlsock *nl = kernel();
	struct errbuf eb = { "" };
	struct iovec iov;

	nlh->nlmsg_seq = nlsock_next_seq(nl);
	mnl_attr_put_strz(nlh, NFTA_SET_TABLE, TABLE_NAME);
	if (set)
		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set);
	message_end(&w, nlh);
	iov = (struct iovec){ w.bytes, w.length };
	ck_assert_msg(nlsock_exchange(nl, &iov, 1, nlh->nlmsg_seq, reply, dump,
				      TIMEOUT_MS, &eb) == 0,
		      "%s", eb.text);
	nlsock_close(nl);
	wire_free(&w);
}

static unsigned int count_elements(enum family family, const char *set)
{
	struct dump dump = { .n = 0 };

	dump_kernel(family, NFT_MSG_GETSETELEM, set, on_elements, &dump);
	return dump.elements;
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static unsigned int count_sets(bool all)
{
	unsigned int id, n = 0;

	for (id = 0; id < N_SETS; id++)
		n += set_is_in(all ? ~0u : 0, id);
	return n;
}

/* Types, lengths, flags, sizes and the userdata in which nft keeps typeof. */
START_TEST(test_sets_like_nft)
{
	unsigned int flags = families[_i].loadable, i;
	struct dump got = { .n = 0 }, want = { .n = 0 };
	struct nlsock *nl;

	if (!new_namespace())
		return;
	nl = kernel();
	commit(nl, sample_batch(families[_i].family, flags));
	nlsock_close(nl);
	dump_kernel(families[_i].family, NFT_MSG_GETSET, NULL, on_set, &got);
	ck_assert(new_namespace());
	load_text(_i, flags);
	dump_kernel(families[_i].family, NFT_MSG_GETSET, NULL, on_set, &want);

	/* and two of source ranges, and an affinity map */
	ck_assert_uint_eq(got.n, count_sets(flags & SAMPLE_PARTS) + 2 +
					 (flags & SAMPLE_STICKY));
	ck_assert_uint_eq(got.n, want.n);
	qsort(got.lines, got.n, sizeof(got.lines[0]), compare_lines);
	qsort(want.lines, want.n, sizeof(want.lines[0]), compare_lines);
	for (i = 0; i < got.n; i++) {
		ck_assert_str_eq(got.lines[i], want.lines[i]);
		free(got.lines[i]);
		free(want.lines[i]);
	}
}
END_TEST

/* Owners are numbers here. */
static void *owner(uintptr_t n)
{
	return (void *)n;
}

static struct element endpoint(enum family family, unsigned int service,
			       unsigned int index)
{
	return (struct element){
		.set = MAP_ENDPOINTS,
		.addr = sample_addr(family, service),
		.protocol = IPPROTO_UDP,
		.port = 53,
		.index = index,
		.endpoint = sample_addr(family, 0x100000 + index),
		.endpoint_port = 5353,
	};
}

/* Endpoints 0 to 9 of services @from to @from + @count - 1, which own them. */
static void add_endpoints(struct batch *b, enum family family,
			  unsigned int from, unsigned int count)
{
	const struct writer *w = batch_writer(b);
	unsigned int i, j;

	for (i = from; i < from + count; i++)
		for (j = 0; j < 10; j++) {
			struct element e = endpoint(family, i, j);

			w->element(w->ctx, CHANGE_ADD, &e, owner(i + 1));
		}
}

static struct batch *new_batch(enum family family, bool table)
{
	struct ruleset ruleset = sample_ruleset(family);
	struct batch *b = batch_new(&ruleset, 0);

	ck_assert_ptr_nonnull(b);
	if (table)
		batch_writer(b)->table(b, CHANGE_ADD, 0);
	return b;
}

/* A nested attribute ends at 64 KiB. */
START_TEST(test_long_lists)
{
	enum family family = families[_i].family;
	struct batch *b = new_batch(family, true);
	struct fake fake = { .exchanges = 0 };
	struct nlsock *nl = nlsock_new(&fake_ops, &fake);
	struct errbuf eb = { "" };
	unsigned int messages = 0;
	struct dump sent = { .n = 0 };
	struct nlmsghdr *nlh;
	uint32_t seq = 0;
	size_t at;

	add_endpoints(b, family, 0, 1200);
	ck_assert_uint_eq(batch_counts(b).elements_added, 12000);
	ck_assert_uint_eq(batch_counts(b).chains_added, CHAIN_FAST_PATH);
	ck_assert_int_eq(batch_commit(b, nl, TIMEOUT_MS, NULL, &eb), 0);
	ck_assert_uint_eq(fake.exchanges, 1);
	ck_assert_uint_eq(fake.sent.length, batch_size(b));
	for_each_sent (nlh, at, &fake) {
		ck_assert(seq == 0 || nlh->nlmsg_seq == seq + 1);
		seq = nlh->nlmsg_seq;
		if (nlh->nlmsg_type !=
		    (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM))
			continue;
		messages++;
		ck_assert_uint_lt(nlh->nlmsg_len, UINT16_MAX + 128);
		on_elements(nlh, &sent);
	}
	ck_assert_uint_ge(messages, 9);
	ck_assert_uint_eq(sent.elements, 12000);
	nlsock_close(nl);

	if (new_namespace()) {
		nl = kernel();
		commit(nl, b);
		ck_assert_uint_eq(count_elements(family, "endpoints"), 12000);
		nlsock_close(nl);
	} else {
		batch_free(b);
	}
	wire_free(&fake.sent);
}
END_TEST

/* Elements are not counted by a dump: that takes the kernel time in proportion to the square. */
START_TEST(test_million)
{
	struct errbuf eb = { "" };
	struct refusal refusal;
	struct element e;
	struct nlsock *nl;
	struct batch *b;

	if (!new_namespace())
		return;
	b = new_batch(FAMILY_IPV4, true);
	nl = kernel();
	add_endpoints(b, FAMILY_IPV4, 0, 100000);
	ck_assert_uint_eq(batch_counts(b).elements_added, 1000000);
	commit(nl, b);

	b = new_batch(FAMILY_IPV4, false);
	e = endpoint(FAMILY_IPV4, 99999, 9);
	e.endpoint_port++;
	batch_writer(b)->element(b, CHANGE_ADD, &e, owner(5));
	ck_assert_int_eq(batch_commit(b, nl, TIMEOUT_MS, &refusal, &eb), -EEXIST);
	ck_assert_ptr_eq(refusal.owner, owner(5));
	batch_free(b);
	nlsock_close(nl);
}
END_TEST

/* What the kernel has before a transaction that it refuses. */
static struct nlsock *prepared(enum family family)
{
	struct nlsock *nl = kernel();
	struct batch *b = new_batch(family, true);
	const struct verdict pick = { .kind = VERDICT_PICK, .count = 3 };

	add_endpoints(b, family, 400, 1);
	batch_writer(b)->pick(b, CHANGE_ADD, &pick);
	commit(nl, b);
	return nl;
}

static void write_clash(const struct writer *w, enum family family)
{
	struct element e = endpoint(family, 400, 3);

	e.endpoint_port++;
	w->element(w->ctx, CHANGE_ADD, &e, owner(77));
}

static void write_absent(const struct writer *w, enum family family)
{
	struct element e = endpoint(family, 400, 30);

	w->element(w->ctx, CHANGE_DELETE, &e, owner(78));
}

static void write_no_chain(const struct writer *w, enum family family)
{
	struct element e = endpoint(family, 1, 0);

	e.set = MAP_SERVICE_IPS;
	e.verdict = (struct verdict){ .kind = VERDICT_PICK, .count = 5 };
	e.comment = "default/web:http";
	w->element(w->ctx, CHANGE_ADD, &e, owner(79));
}

static void write_pick_again(const struct writer *w, enum family family)
{
	const struct verdict pick = { .kind = VERDICT_PICK, .count = 3 };

	(void)family;
	w->pick(w->ctx, CHANGE_ADD, &pick);
}

static void write_pick_absent(const struct writer *w, enum family family)
{
	const struct verdict pick = { .kind = VERDICT_PICK,
				      .pick = PICK_LOCAL,
				      .count = 9 };

	(void)family;
	w->pick(w->ctx, CHANGE_DELETE, &pick);
}

static void write_pick_update(const struct writer *w, enum family family)
{
	const struct verdict pick = { .kind = VERDICT_PICK,
				      .pick = PICK_LOCAL,
				      .count = 9 };

	(void)family;
	w->pick(w->ctx, CHANGE_UPDATE, &pick);
}

static void write_affinity_absent(const struct writer *w, enum family family)
{
	(void)family;
	w->affinity(w->ctx, CHANGE_DELETE, "affinity/a/b/tcp/c", NULL);
}

static void write_sticky_without_map(const struct writer *w, enum family family)
{
	const struct sticky_chain sticky = {
		.name = "sticky/a",
		.map = "affinity/a",
		.endpoint = sample_addr(family, 1),
		.port = 80,
		.protocol = IPPROTO_TCP,
		.timeout_s = 1,
	};

	w->sticky(w->ctx, CHANGE_ADD, &sticky);
}

static void write_table_again(const struct writer *w, enum family family)
{
	(void)family;
	w->table(w->ctx, CHANGE_ADD, 0);
}

static const struct {
	const char *name;
	void (*write)(const struct writer *w, enum family family);
	int err;
	uintptr_t owner;
	const char *object; /* for IPv4 */
} refusals[] = {
	{ "element with other data", write_clash, -EEXIST, 77,
	  "add to set ip endpoints, element 10.0.1.144 . udp . 53 . 3" },
	{ "element that is not there", write_absent, -ENOENT, 78,
	  "delete from set ip endpoints, element 10.0.1.144 . udp . 53 . 30" },
	{ "verdict to a chain that is not there", write_no_chain, -ENOENT, 79,
	  "add to set ip service-ips, element 10.0.0.1 . udp . 53" },
	{ "chain that exists", write_pick_again, -EEXIST, 0, "add chain ip pick-3" },
	{ "chain that is not there", write_pick_absent, -ENOENT, 0,
	  "delete chain ip local-pick-9" },
	{ "rules of a chain that is not there", write_pick_update, -ENOENT, 0,
	  "flush chain ip local-pick-9" },
	{ "map that is not there", write_affinity_absent, -ENOENT, 0,
	  "delete set ip affinity/a/b/tcp/c" },
	{ "rule with a map that is not there", write_sticky_without_map,
	  -ENOENT, 0, "add rule 1 of chain ip sticky/a, expression dynset" },
	{ "table that exists", write_table_again, -EEXIST, 0, "add table ip vipmap" },
};

enum { N_REFUSALS = sizeof(refusals) / sizeof(refusals[0]) };

/* Among 5,000 elements of 500 others, which are not applied either (RUN-4). */
START_TEST(test_refusal)
{
	enum family family = _i < N_REFUSALS ? FAMILY_IPV4 : FAMILY_IPV6;
	unsigned int i = (unsigned int)_i % N_REFUSALS;
	struct errbuf eb = { "" };
	struct refusal refusal;
	struct nlsock *nl;
	struct batch *b;
	int err;

	if (!new_namespace())
		return;
	nl = prepared(family);
	b = new_batch(family, false);
	add_endpoints(b, family, 1000, 250);
	refusals[i].write(batch_writer(b), family);
	add_endpoints(b, family, 1250, 250);
	err = batch_commit(b, nl, TIMEOUT_MS, &refusal, &eb);
	ck_assert_msg(err == refusals[i].err && refusal.err == err,
		      "%s: want %d, got %d: %s", refusals[i].name,
		      refusals[i].err, err, eb.text);
	ck_assert_msg(refusal.owner == owner(refusals[i].owner),
		      "%s: want owner %ju, got %p: %s", refusals[i].name,
		      (uintmax_t)refusals[i].owner, refusal.owner, eb.text);
	if (family == FAMILY_IPV4)
		ck_assert_str_eq(refusal.object, refusals[i].object);
	ck_assert_uint_eq(count_elements(family, "endpoints"), 10);
	batch_free(b);
	nlsock_close(nl);
}
END_TEST

/* Kernels that do not tell the element: its owner is known only if nobody else is in the message.
 */
static const struct {
	const char *name;
	unsigned int owners;
	int error;
	unsigned int refused; /* message; BEGIN is 0, then one with elements */
	uint32_t offset;
	uintptr_t want;
	const char *text;
} blames[] = {
	{ "one owner, no offset", 1, -EBUSY, 1, 0, 1001,
	  "add to set ip endpoints: Device" },
	{ "two owners, no offset", 2, -EBUSY, 1, 0, 0,
	  "add to set ip endpoints: Device" },
	{ "two owners, offset of the name", 2, -EBUSY, 1, 24, 0, "(a reason)" },
	{ "two owners, offset of an element", 2, -EBUSY, 1, 60, 1001,
	  "element 10.0.3.232 . udp . 53 . 0: Device" },
	{ "offset behind the end", 2, -EBUSY, 1, 1000000, 0, "endpoints: Device" },
	{ "the commit as a whole", 2, -EPERM, 0, 0, 0,
	  "commit table ip vipmap: Operation" },
};

START_TEST(test_blame)
{
	struct fake fake = { .error = blames[_i].error,
			     .refused = blames[_i].refused,
			     .offset = blames[_i].offset };
	struct nlsock *nl = nlsock_new(&fake_ops, &fake);
	struct batch *b = new_batch(FAMILY_IPV4, false);
	struct errbuf eb = { "" };
	struct refusal refusal;

	add_endpoints(b, FAMILY_IPV4, 1000, blames[_i].owners);
	ck_assert_int_eq(batch_commit(b, nl, TIMEOUT_MS, &refusal, &eb),
			 blames[_i].error);
	ck_assert_int_eq(refusal.err, blames[_i].error);
	ck_assert_msg(refusal.owner == owner(blames[_i].want), "%s: got %p",
		      blames[_i].name, refusal.owner);
	ck_assert_msg(strstr(eb.text, blames[_i].text), "%s: no \"%s\" in \"%s\"",
		      blames[_i].name, blames[_i].text, eb.text);
	/* A batch may be sent again. */
	fake.error = 0;
	ck_assert_int_eq(batch_commit(b, nl, TIMEOUT_MS, &refusal, &eb), 0);
	batch_free(b);
	nlsock_close(nl);
	wire_free(&fake.sent);
}
END_TEST

START_TEST(test_transport_fails)
{
	struct fake fake = { .fail_with = -ETIMEDOUT };
	struct nlsock *nl = nlsock_new(&fake_ops, &fake);
	struct batch *b = new_batch(FAMILY_IPV4, true);
	struct errbuf eb = { "" };

	ck_assert_int_eq(batch_commit(b, nl, TIMEOUT_MS, NULL, &eb), -ETIMEDOUT);
	ck_assert_str_eq(eb.text, "fake");
	batch_free(b);
	nlsock_close(nl);
	wire_free(&fake.sent);
}
END_TEST

START_TEST(test_empty)
{
	struct fake fake = { .exchanges = 0 };
	struct nlsock *nl = nlsock_new(&fake_ops, &fake);
	struct batch *b = new_batch(FAMILY_IPV4, false);
	struct errbuf eb = { "" };

	ck_assert(batch_is_empty(b));
	ck_assert_int_eq(batch_commit(b, nl, TIMEOUT_MS, NULL, &eb), 0);
	ck_assert_uint_eq(fake.exchanges, 0);
	batch_writer(b)->table(b, CHANGE_UPDATE, 0);
	ck_assert(!batch_is_empty(b));
	batch_free(b);
	batch_free(NULL);
	nlsock_close(nl);
}
END_TEST

/*
 * What lacks something is not sent: a chain that would translate ports of no
 * protocol, elements without a verdict.
 */
START_TEST(test_not_whole)
{
	const struct sticky_chain sticky = { .name = "sticky/a",
					     .map = "affinity/a" };
	const struct element elements[] = {
		{ .set = MAP_SERVICE_IPS, .protocol = IPPROTO_TCP, .port = 1 },
		{ .set = MAP_STICKY_ENDPOINTS,
		  .verdict = { .kind = VERDICT_STICKY } },
	};
	struct fake fake = { .exchanges = 0 };
	struct nlsock *nl = nlsock_new(&fake_ops, &fake);
	struct batch *b = new_batch(FAMILY_IPV4, true);
	struct errbuf eb = { "" };

	if (_i < 2)
		batch_writer(b)->element(b, CHANGE_ADD, &elements[_i], NULL);
	else
		batch_writer(b)->sticky(b, CHANGE_ADD, &sticky);
	ck_assert_int_eq(batch_commit(b, nl, TIMEOUT_MS, NULL, &eb), -EINVAL);
	ck_assert_uint_eq(fake.exchanges, 0);
	batch_free(b);
	nlsock_close(nl);
}
END_TEST

/* The order on the wire, whatever the order of calls. */
START_TEST(test_order)
{
	static const unsigned int want[] = {
		NFT_MSG_NEWTABLE,   NFT_MSG_DELTABLE,	NFT_MSG_NEWTABLE,
		NFT_MSG_NEWSET,	    NFT_MSG_NEWCHAIN,	NFT_MSG_NEWRULE,
		NFT_MSG_DELSETELEM, NFT_MSG_NEWSETELEM, NFT_MSG_DELCHAIN,
		NFT_MSG_DELSET,	    NFNL_MSG_BATCH_END,
	};
	const struct verdict pick = { .kind = VERDICT_PICK, .count = 1 };
	struct element e = endpoint(FAMILY_IPV4, 1, 0);
	struct fake fake = { .exchanges = 0 };
	struct nlsock *nl = nlsock_new(&fake_ops, &fake);
	struct batch *b = new_batch(FAMILY_IPV4, false);
	const struct writer *w = batch_writer(b);
	unsigned int n = 0, last = NFNL_MSG_BATCH_BEGIN;
	struct nlmsghdr *nlh;
	size_t at;

	w->affinity(w->ctx, CHANGE_DELETE, "affinity", NULL);
	w->pick(w->ctx, CHANGE_DELETE, &pick);
	w->element(w->ctx, CHANGE_ADD, &e, NULL);
	e.set = MAP_LOCAL_ENDPOINTS;
	w->element(w->ctx, CHANGE_ADD, &e, NULL);
	w->element(w->ctx, CHANGE_DELETE, &e, NULL);
	w->pick(w->ctx, CHANGE_ADD, &pick);
	w->table(w->ctx, CHANGE_ADD, 0);
	w->table(w->ctx, CHANGE_DELETE, 0);
	commit(nl, b);
	for_each_sent (nlh, at, &fake) {
		if (message_type(nlh) == last)
			continue;
		ck_assert_uint_lt(n, sizeof(want) / sizeof(want[0]));
		ck_assert_uint_eq(message_type(nlh), want[n]);
		last = want[n++];
	}
	ck_assert_uint_eq(n, sizeof(want) / sizeof(want[0]));
	nlsock_close(nl);
	wire_free(&fake.sent);
}
END_TEST

/* Without END the kernel checks and applies nothing. */
START_TEST(test_check)
{
	struct errbuf eb = { "" };
	struct refusal refusal;
	struct nlsock *nl;
	struct batch *b;

	if (!new_namespace())
		return;
	nl = kernel();
	b = sample_batch(FAMILY_IPV4, SAMPLE_STICKY);
	ck_assert_msg(batch_check(b, nl, TIMEOUT_MS, NULL, &eb) == 0, "%s",
		      eb.text);
	ck_assert(!lists("nft list ruleset", "table"));
	write_absent(batch_writer(b), FAMILY_IPV4);
	ck_assert_int_eq(batch_check(b, nl, TIMEOUT_MS, &refusal, &eb), -ENOENT);
	ck_assert_ptr_eq(refusal.owner, owner(78));
	batch_free(b);
	nlsock_close(nl);
}
END_TEST

START_TEST(test_unprivileged)
{
	struct errbuf eb = { "" };
	struct refusal refusal;
	struct nlsock *nl;
	struct batch *b;

	if (!new_namespace())
		return;
	ck_assert_int_eq(setuid(65534), 0);
	nl = kernel();
	b = sample_batch(FAMILY_IPV4, 0);
	ck_assert_int_eq(batch_commit(b, nl, TIMEOUT_MS, &refusal, &eb), -EPERM);
	ck_assert_ptr_null(refusal.owner);
	batch_free(b);
	nlsock_close(nl);
}
END_TEST

/* Each step is a transaction upon what the ones before left. */
static void step_add(const struct writer *w)
{
	sample_write(w, FAMILY_IPV4, SAMPLE_STICKY);
}

static void step_change_element(const struct writer *w)
{
	struct element e = endpoint(FAMILY_IPV4, MAP_ENDPOINTS, 0);

	e.addr = sample_addr(FAMILY_IPV4, 7);
	e.protocol = IPPROTO_TCP;
	e.port = 80;
	w->element(w->ctx, CHANGE_ADD, &e, NULL);
	w->element(w->ctx, CHANGE_DELETE, &e, NULL);
}

static const struct sticky_chain sample_sticky = {
	.name = "sticky/default/sticky/tcp/http/a/8080",
	.map = "affinity/default/sticky/tcp/http",
	.endpoint = { { 10, 16, 0, 1 } },
	.port = 8080,
	.protocol = IPPROTO_TCP,
	.timeout_s = 60,
};

static void step_update_sticky(const struct writer *w)
{
	w->sticky(w->ctx, CHANGE_UPDATE, &sample_sticky);
}

static void step_delete_sticky(const struct writer *w)
{
	struct sticky_chain other = sample_sticky;
	unsigned int set, i;

	for (set = 0; set < N_SETS; set++)
		for (i = 0; set_has_verdict(set) && set_has_index(set) && i < 2;
		     i++) {
			struct element e = endpoint(FAMILY_IPV4, 7, i);

			e.set = set;
			e.protocol = IPPROTO_TCP;
			e.port = 80;
			w->element(w->ctx, CHANGE_DELETE, &e, NULL);
		}
	w->affinity(w->ctx, CHANGE_DELETE, sample_sticky.map, NULL);
	w->sticky(w->ctx, CHANGE_DELETE, &sample_sticky);
	other.name = "sticky/default/sticky/tcp/http/b/8080";
	w->sticky(w->ctx, CHANGE_DELETE, &other);
}

static void step_delete_pick(const struct writer *w)
{
	const struct verdict pick = { .kind = VERDICT_PICK, .count = 1 };

	w->pick(w->ctx, CHANGE_DELETE, &pick);
}

static void step_update_pick(const struct writer *w)
{
	const struct verdict pick = { .kind = VERDICT_PICK,
				      .pick = PICK_CLUSTER,
				      .count = 3 };

	w->pick(w->ctx, CHANGE_UPDATE, &pick);
}

static void step_update(const struct writer *w)
{
	w->table(w->ctx, CHANGE_UPDATE, 0);
}

static void step_cidrs(const struct writer *w)
{
	struct element e = { .set = SET_SERVICE_CIDRS,
			     .range = { sample_addr(FAMILY_IPV4, 0), 24 } };

	w->element(w->ctx, CHANGE_DELETE, &e, NULL);
	e.range = (struct prefix){ sample_addr(FAMILY_IPV4, 0x010000), 16 };
	w->element(w->ctx, CHANGE_ADD, &e, NULL);
}

/* The last that leads to a firewall chain: see write_verdicts() of the sample. */
static struct element vip_goto_firewall(void)
{
	return (struct element){ .set = MAP_SERVICE_IPS,
				 .addr = sample_addr(FAMILY_IPV4, 7),
				 .protocol = IPPROTO_TCP,
				 .port = 87 };
}

static void step_source_ranges(const struct writer *w)
{
	struct element e = { .set = SET_SOURCE_RANGES,
			     .ranges = "ranges/default/web",
			     .range = { { { 10, 1, 1 } }, 24 } };

	w->element(w->ctx, CHANGE_DELETE, &e, NULL);
	e.ranges = "ranges/shop/cart"; /* in one transaction: each set has its own message */
	e.range = (struct prefix){ { { 10, 1 } }, 16 };
	w->element(w->ctx, CHANGE_DELETE, &e, NULL);
	e.ranges = "ranges/default/web";
	e.range = (struct prefix){ { { 10, 1, 1 } }, 25 };
	w->element(w->ctx, CHANGE_ADD, &e, NULL);
	w->ranges(w->ctx, CHANGE_UPDATE, "ranges/default/web");
}

static void step_no_source_ranges(const struct writer *w)
{
	struct element e = vip_goto_firewall();

	w->element(w->ctx, CHANGE_DELETE, &e, NULL);
	e.set = MAP_SERVICE_NODEPORTS;
	w->element(w->ctx, CHANGE_DELETE, &e, NULL);
	w->ranges(w->ctx, CHANGE_DELETE, "ranges/default/web");
}

static void step_replace(const struct writer *w)
{
	w->table(w->ctx, CHANGE_DELETE, 0);
	w->table(w->ctx, CHANGE_ADD, 0);
}

static void step_delete(const struct writer *w)
{
	w->table(w->ctx, CHANGE_DELETE, 0);
}

static const struct {
	const char *name;
	void (*write)(const struct writer *w);
	const char *list, *want; /* if @list has it */
	bool want_not;
} steps[] = {
	{ "add all", step_add, "nft list table ip vipmap", "chain services", false },
	{ "an element changes", step_change_element,
	  "nft list map ip vipmap endpoints",
	  "10.0.0.7 . tcp . 80 . 0 : 10.16.0.0 . 5353", false },
	{ "a timeout changes (AFF-7)", step_update_sticky,
	  "nft list chain ip vipmap sticky/default/sticky/tcp/http/a/8080",
	  "{\n\t\tupdate @affinity/default/sticky/tcp/http { ip saddr timeout 1m : 10.16.0.1 . "
	  "8080 }\n",
	  false },
	{ "affinity ends (AFF-6)", step_delete_sticky,
	  "nft list table ip vipmap", "affinity", true },
	{ "a pick chain goes", step_delete_pick, "nft list table ip vipmap",
	  "chain pick-1 {", true },
	{ "the rules of a pick chain change", step_update_pick,
	  "nft list chain ip vipmap cluster-pick-3",
	  "{\n\t\tiifname != \"cni0\" meta mark set meta mark | 0x00008000\n\t\tdnat",
	  false },
	{ "the constant rules change", step_update,
	  "nft list chain ip vipmap external-local",
	  "{\n\t\tiifname \"cni0\" goto short-circuit\n\t\tfib saddr type local meta mark set meta "
	  "mark | 0x00008000 goto short-circuit\n\t\tip daddr . meta l4proto . th dport vmap "
	  "@local-policy\n\t}",
	  false },
	{ "a service range changes (VER-13)", step_cidrs,
	  "nft list set ip vipmap service-cidrs",
	  "10.0.2.0/24, 10.0.4.1,\n\t\t\t     10.1.0.0/16, 255.255.255.0/24 }",
	  false },
	{ "a source range is another", step_source_ranges,
	  "nft list set ip vipmap ranges/default/web",
	  "10.1.0.0/24, 10.1.1.0/25,\n\t\t\t     10.1.2.0/25, 10.2.0.3 }", false },
	{ "and one of another Service is gone", NULL,
	  "nft list set ip vipmap ranges/shop/cart",
	  "elements = { 255.255.255.0/24 }", false },
	{ "source ranges go (LB-3)", step_no_source_ranges,
	  "nft list table ip vipmap", "default/web {", true },
	{ "the table is replaced", step_replace, "nft list table ip vipmap",
	  "pick-3", true },
	{ "and is whole", NULL, "nft list table ip vipmap",
	  "chain nat-postrouting", false },
	{ "cleanup (RUN-9)", step_delete, "nft list ruleset", "table", true },
	{ "cleanup of nothing (RUN-9)", step_delete, "nft list ruleset",
	  "table", true },
};

/* The bridge comes with the sixth step: what was there before keeps its rules until it is updated.
 */
START_TEST(test_steps)
{
	struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct errbuf eb = { "" };
	struct nlsock *nl;
	struct batch *b;
	size_t i;
	int err;

	if (!new_namespace())
		return;
	nl = kernel();
	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (i == 5) {
			ruleset.detect_local = DETECT_BRIDGE_INTERFACE;
			ruleset.masquerade_mark = 0x8000;
			snprintf(ruleset.interface, sizeof(ruleset.interface),
				 "cni0");
		}
		b = batch_new(&ruleset, 0);
		if (steps[i].write)
			steps[i].write(batch_writer(b));
		err = batch_commit(b, nl, TIMEOUT_MS, NULL, &eb);
		ck_assert_msg(err == 0, "%s: %s", steps[i].name, eb.text);
		batch_free(b);
		ck_assert_msg(lists(steps[i].list, steps[i].want) !=
				      steps[i].want_not,
			      "%s", steps[i].name);
	}
	nlsock_close(nl);
}
END_TEST

static struct batch *owner_batch(bool table)
{
	struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct batch *b = batch_new(&ruleset, BATCH_OWNER);

	if (table)
		batch_writer(b)->table(b, CHANGE_ADD, 0);
	return b;
}

/* Nobody else can flush the table; it outlives its owner; the next one takes it over. */
START_TEST(test_owner)
{
	struct errbuf eb = { "" };
	struct nlsock *nl;
	struct batch *b;
	int err;

	if (!new_namespace())
		return;
	nl = kernel();
	b = owner_batch(true);
	err = batch_commit(b, nl, TIMEOUT_MS, NULL, &eb);
	batch_free(b);
	ck_assert_msg((err == 0) == kernel_has_owner(), "%d: %s", err, eb.text);
	if (err) { /* such a kernel refuses it, which is how the probe knows */
		nlsock_close(nl);
		return;
	}
	free(shell("nft flush ruleset"));
	ck_assert(lists("nft list table ip vipmap", "chain services"));
	nlsock_close(nl);
	ck_assert(lists("nft list table ip vipmap", "chain services"));

	nl = kernel();
	commit(nl, owner_batch(false));
	free(shell("nft flush ruleset"));
	ck_assert(lists("nft list table ip vipmap", "chain services"));
	b = owner_batch(false);
	batch_writer(b)->table(b, CHANGE_DELETE, 0);
	commit(nl, b);
	ck_assert(!lists("nft list ruleset", "table"));
	nlsock_close(nl);
}
END_TEST

/* A table that somebody made without flags is worked with as it is. */
START_TEST(test_owner_of_plain_table)
{
	struct nlsock *nl;
	struct batch *b;

	if (!new_namespace())
		return;
	nl = kernel();
	commit(nl, sample_batch(FAMILY_IPV4, 0));
	b = owner_batch(false);
	add_endpoints(b, FAMILY_IPV4, 1000, 1);
	commit(nl, b);
	ck_assert(lists("nft list map ip vipmap endpoints",
			"10.0.3.232 . udp . 53 . 9"));
	nlsock_close(nl);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("batch");
	TCase *tc = tcase_create("batch");
	TCase *load = tcase_create("load"); /* much at once */
	TCase *like = tcase_create("expressions of this nft");

	tcase_set_timeout(tc, 120);
	tcase_set_timeout(load, 120);
	tcase_set_timeout(like, 120);
	tcase_add_loop_test(tc, test_lists_like_text, 0, N_SAMPLES);
	tcase_add_test(tc, test_lists_ipv6_affinity);
	tcase_add_loop_test(like, test_expressions, 0, N_SAMPLES);
	tcase_add_loop_test(tc, test_sets_like_nft, 0, N_SAMPLES);
	tcase_add_loop_test(load, test_long_lists, 0, 2);
	tcase_add_test(load, test_million);
	tcase_add_loop_test(tc, test_refusal, 0, 2 * N_REFUSALS);
	ADD_LOOP(tc, test_blame, blames);
	tcase_add_test(tc, test_transport_fails);
	tcase_add_test(tc, test_empty);
	tcase_add_loop_test(tc, test_not_whole, 0, 3);
	tcase_add_test(tc, test_order);
	tcase_add_test(tc, test_check);
	tcase_add_test(tc, test_unprivileged);
	tcase_add_test(tc, test_steps);
	tcase_add_test(tc, test_owner);
	tcase_add_test(tc, test_owner_of_plain_table);
	suite_add_tcase(suite, tc);
	suite_add_tcase(suite, load);
	suite_add_tcase(suite, like);
	return suite;
}
