/*
 * What this kernel can do, found out by asking it to: a scratch table with all
 * that ours has goes out in a transaction without END, which the kernel checks
 * and forgets. Only if it objects are features tried one by one, to name the
 * one that lacks. No version numbers: distributions move features between them.
 */
#include "nft/readback.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "nft/encode_elements.h"
#include "nft/encode.h"
#include "nft/encode_rule.h"
#include "nft/refused.h"

enum { TIMEOUT_MS = 10000 };

/* As long as the table's own name, which it replaces in encoded messages. */
#define SCRATCH_NAME "probe."
_Static_assert(sizeof(SCRATCH_NAME) == sizeof(TABLE_NAME),
	       "names differ in length");

static const char scratch_map[] = "affinity/probe",
		  scratch_ranges[] = RANGES_PREFIX "probe";

/* The name is the first attribute of every message but the markers. */
static void rename_tables(struct wire *w)
{
	size_t at, name_at = MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg) +
			     MNL_ATTR_HDRLEN;
	const struct nlmsghdr *nlh;

	if (w->err)
		return;
	for (at = 0; at < w->length; at += MNL_ALIGN(nlh->nlmsg_len)) {
		nlh = (const void *)(w->bytes + at);
		memcpy(w->bytes + at + name_at, SCRATCH_NAME, sizeof(SCRATCH_NAME));
	}
}

static int probe_on_answer(const struct nlmsghdr *nlh, void *data)
{
	struct refused *refused = data;

	refused_read(refused, nlh);
	return refused->err; /* one objection is enough */
}

/* Sends BEGIN and @w, without END. */
static int try_messages(struct nlsock *nl, struct wire *w,
			struct refused *refused, struct errbuf *eb)
{
	struct nlmsghdr *begin, *nlh = NULL;
	struct nfgenmsg *nfg;
	uint32_t buf[8];
	struct iovec iov[2];
	size_t at;
	int result;

	*refused = (struct refused){ 0 };
	rename_tables(w);
	if (w->err)
		return errf(eb, w->err, "out of memory");
	begin = mnl_nlmsg_put_header(buf);
	nfg = mnl_nlmsg_put_extra_header(begin, sizeof(*nfg));
	begin->nlmsg_type = NFNL_MSG_BATCH_BEGIN;
	begin->nlmsg_flags = NLM_F_REQUEST;
	begin->nlmsg_seq = nlsock_next_seq(nl);
	nfg->res_id = htons(NFNL_SUBSYS_NFTABLES);
	for (at = 0; at < w->length; at += MNL_ALIGN(nlh->nlmsg_len)) {
		nlh = (void *)(w->bytes + at);
		nlh->nlmsg_seq = nlsock_next_seq(nl);
	}
	assert(nlh); /* there is always the table */
	nlh->nlmsg_flags |= NLM_F_ACK;
	iov[0] = (struct iovec){ .iov_base = begin, .iov_len = begin->nlmsg_len };
	iov[1] = (struct iovec){ .iov_base = w->bytes, .iov_len = w->length };
	result = nlsock_exchange(nl, iov, 2, nlh->nlmsg_seq, probe_on_answer,
				 refused, TIMEOUT_MS, eb);
	if (refused->err)
		return errf(eb, refused->err, "%s%s", strerror(-refused->err),
			    refused->reason);
	return result;
}

/* A feature is tried as a set, as a rule in a chain of a nat hook, or as a rule that uses the set.
 */
struct feature {
	const char *name;
	const struct set_layout *layout; /* of the set that @rule names; NULL: none */
	const char *set;
	enum chain_id chain; /* where @rule stands */
	struct rule rule;
};

enum { N_FEATURES = 18 };

/* clang-format off */
#define KEY(...) { sizeof((uint8_t[]){ __VA_ARGS__ }), { __VA_ARGS__ } }
/* clang-format on */

/* In an order such that a feature comes after those which it builds on. */
static void list_features(const struct ruleset *ruleset, struct feature *features)
{
	const struct stmt is_tcp = { .kind = STMT_PROTOCOL, .number = IPPROTO_TCP };
	const struct feature list[N_FEATURES] = {
		{ .name = "nf_tables" },
		{ .name = "chains of type nat", .chain = CHAIN_NAT_PREROUTING },
		{ "sets with concatenated keys", set_layout(SET_HAIRPIN), "s", 0, { 0 } },
		{ "interval sets", set_layout(SET_SERVICE_CIDRS), "s", 0, { 0 } },
		{ "maps to verdicts", set_layout(MAP_SERVICE_IPS), "m", 0, { 0 } },
		{ "maps to an address and a port",
		  set_layout(MAP_ENDPOINTS),
		  "m",
		  0,
		  { 0 } },
		{ "dynamic maps with a timeout", affinity_layout(), "m", 0, { 0 } },
		{ "meta expression", NULL, NULL, CHAIN_NAT_PREROUTING, { 1, { is_tcp } } },
		{ "bitwise expression",
		  NULL,
		  NULL,
		  CHAIN_NAT_PREROUTING,
		  { 1, { { .kind = STMT_MARK, .number = ruleset->masquerade_mark } } } },
		{ "fib expression",
		  NULL,
		  NULL,
		  CHAIN_NAT_PREROUTING,
		  { 1, { { .kind = STMT_SADDR_LOCAL } } } },
		{ "ct expression",
		  NULL,
		  NULL,
		  CHAIN_NAT_POSTROUTING,
		  { 1, { { .kind = STMT_DNATED } } } },
		{ "dnat statement",
		  NULL,
		  NULL,
		  CHAIN_NAT_PREROUTING,
		  { 2, { is_tcp, { .kind = STMT_DNAT, .port = 1 } } } },
		{ "masquerade statement",
		  NULL,
		  NULL,
		  CHAIN_NAT_POSTROUTING,
		  { 1, { { .kind = STMT_MASQUERADE } } } },
		{ "numgen expression",
		  set_layout(MAP_ENDPOINTS),
		  "m",
		  CHAIN_NAT_PREROUTING,
		  { 1,
		    { { .kind = STMT_DNAT_MAP,
			.mod = 1,
			.key = KEY(FIELD_DADDR, FIELD_PROTOCOL, FIELD_PORT, FIELD_INDEX),
			.name = "m" } } } },
		{ "reject in chains of type nat",
		  NULL,
		  NULL,
		  CHAIN_NAT_PREROUTING,
		  { 1, { { .kind = STMT_UNREACHABLE } } } },
		{ "reject with tcp reset in chains of type nat",
		  NULL,
		  NULL,
		  CHAIN_NAT_PREROUTING,
		  { 2, { is_tcp, { .kind = STMT_RESET } } } },
		{ "update of maps by rules (dynset expression)",
		  affinity_layout(),
		  "m",
		  CHAIN_NAT_PREROUTING,
		  { 1, { { .kind = STMT_REMEMBER, .port = 1, .number = 1, .name = "m" } } } },
		/* the last, as only answerPing needs it */
		{ "redirect statement",
		  NULL,
		  NULL,
		  CHAIN_NAT_PREROUTING,
		  { 1, { { .kind = STMT_REDIRECT } } } },
	};

	memcpy(features, list, sizeof(list));
}

static void encode_feature(struct wire *w, const struct ruleset *ruleset,
			   const struct feature *f)
{
	struct chain chain;

	encode_table(w, ruleset->family, 0);
	if (f->layout)
		encode_set(w, ruleset->family, f->layout, f->set, NULL, false, 1);
	if (!f->chain)
		return;
	chain_constant(ruleset, f->chain, &chain);
	chain.n_rules = f->rule.n ? 1 : 0;
	chain.rules[0] = f->rule;
	encode_chain(w, ruleset->family, &chain);
	encode_rules(w, ruleset->family, &chain);
}

/* One of each kind of pick chain. */
static void encode_picks(struct wire *w, const struct ruleset *ruleset, bool rules)
{
	struct verdict pick = { .kind = VERDICT_PICK, .count = 2 };
	struct chain chain;
	unsigned int flags;

	for (flags = 0; flags < N_PICKS; flags++) {
		pick.pick = (uint8_t)flags;
		chain_pick(ruleset, &pick, &chain);
		if (rules)
			encode_rules(w, ruleset->family, &chain);
		else
			encode_chain(w, ruleset->family, &chain);
	}
}

static void encode_ranges(struct wire *w, const struct ruleset *ruleset)
{
	struct chain chain;

	chain_firewall(scratch_ranges, &chain);
	encode_chain(w, ruleset->family, &chain);
	encode_rules(w, ruleset->family, &chain);
}

static void encode_sticky(struct wire *w, const struct ruleset *ruleset)
{
	const struct sticky_chain sticky = {
		.name = "sticky/probe",
		.map = scratch_map,
		.port = 1,
		.protocol = IPPROTO_TCP,
		.timeout_s = 1,
	};
	struct chain chain;

	chain_sticky(&sticky, &chain);
	encode_chain(w, ruleset->family, &chain);
	encode_rules(w, ruleset->family, &chain);
}

/* All that a table can have but elements. */
static void encode_everything(struct wire *w, const struct ruleset *ruleset)
{
	struct chain chain;
	unsigned int i;

	encode_table(w, ruleset->family, 0);
	for (i = 0; i < N_SETS; i++)
		if (set_is_in(ruleset->parts, i))
			encode_set(w, ruleset->family, set_layout(i), set_name(i),
				   NULL, set_counts(ruleset->parts, i), i + 1);
	encode_set(w, ruleset->family, affinity_layout(), scratch_map, NULL,
		   false, N_SETS + 1);
	encode_set(w, ruleset->family, set_layout(SET_SOURCE_RANGES),
		   scratch_ranges, NULL, false, N_SETS + 2);
	for (i = 0; i < N_CHAINS; i++) {
		chain_constant(ruleset, i, &chain);
		if (chain_is_in(ruleset->parts, i))
			encode_chain(w, ruleset->family, &chain);
	}
	if (ruleset->parts & PART_FAST_PATH)
		encode_flowtable(w, ruleset->family);
	encode_picks(w, ruleset, false);
	encode_picks(w, ruleset, true);
	encode_sticky(w, ruleset);
	encode_ranges(w, ruleset);
	for (i = 0; i < N_CHAINS; i++) {
		chain_constant(ruleset, i, &chain);
		if (chain_is_in(ruleset->parts, i))
			encode_rules(w, ruleset->family, &chain);
	}
}

/* @object: what the kernel objects to, or left empty. */
static int try_everything(struct nlsock *nl, const struct ruleset *ruleset,
			  struct strbuf *object, struct errbuf *eb)
{
	const struct nlmsghdr *nlh;
	struct refused refused;
	struct wire w = { 0 };
	size_t at;
	int err;

	encode_everything(&w, ruleset);
	err = try_messages(nl, &w, &refused, eb);
	nlh = refused.err ? refused_message(&refused, &w, &at) : NULL;
	if (nlh)
		refused_object(&refused, &w, nlh, object);
	wire_free(&w);
	return err;
}

static int try_feature(struct nlsock *nl, const struct ruleset *ruleset,
		       const struct feature *f, struct errbuf *eb)
{
	struct refused refused;
	struct wire w = { 0 };
	int err;

	encode_feature(&w, ruleset, f);
	err = try_messages(nl, &w, &refused, eb);
	wire_free(&w);
	return err;
}

static int try_owner(struct nlsock *nl, const struct ruleset *ruleset,
		     struct errbuf *eb)
{
	struct refused refused;
	struct wire w = { 0 };
	int err;

	encode_table(&w, ruleset->family, TABLE_FLAGS_OWNED);
	err = try_messages(nl, &w, &refused, eb);
	wire_free(&w);
	return err;
}

/* Errors that say nothing about the kernel's abilities. */
static bool is_trouble(int err)
{
	return err == -ENOMEM || err == -ENOBUFS || err == -ETIMEDOUT ||
	       err == -EINTR;
}

/* A kernel that has each feature and objects all the same: whoever reads this has found a bug. */
static int name_what_is_refused(const struct ruleset *ruleset,
				const struct strbuf *object,
				const struct errbuf *reason, struct errbuf *eb)
{
	struct utsname kernel = { .release = "?" };

	(void)uname(&kernel);
	return errf(eb, -EOPNOTSUPP,
		    "kernel %.64s refuses %.300s (%s): %.160s; vipmap cannot work on it: please report "
		    "this message",
		    kernel.release, object->text ? object->text : "the ruleset",
		    family_name(ruleset->family), reason->text);
}

static int name_what_lacks(struct nlsock *nl, const struct ruleset *ruleset,
			   const struct strbuf *object,
			   const struct errbuf *everything, struct errbuf *eb)
{
	struct feature features[N_FEATURES];
	struct errbuf reason;
	unsigned int i;
	int err;

	list_features(ruleset, features);
	for (i = 0; i < N_FEATURES - !(ruleset->parts & PART_PING_IPS); i++) {
		err = try_feature(nl, ruleset, &features[i], &reason);
		if (is_trouble(err))
			return errf(eb, err, "nftables: %s", reason.text);
		if (err)
			return errf(eb, -EOPNOTSUPP,
				    "the kernel lacks %s for %s: %s",
				    features[i].name,
				    family_name(ruleset->family), reason.text);
	}
	return name_what_is_refused(ruleset, object, everything, eb);
}

/*
 * Older kernels refuse to delete a conntrack entry whose packets go through a
 * flowtable (EBUSY), so that the datagrams of a client would go to an endpoint
 * that is gone, for as long as the client goes on. 6.1 is the oldest that is
 * tried.
 */
static bool can_end_flows(const char *release)
{
	unsigned int major = 0, minor = 0;

	return sscanf(release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 1));
}

int kernel_probe_fast_path(struct nlsock *nl, enum family family, struct errbuf *eb)
{
	const struct ruleset ruleset = {
		.family = family,
		.parts = PART_FAST_PATH,
		.n_fast = 1,
		.fast = { { "lo", false } },
	};
	struct utsname kernel = { .release = "" };
	struct refused refused;
	struct errbuf reason;
	struct wire w = { 0 };
	struct chain chain;
	unsigned int i;
	int err;

	encode_table(&w, family, 0);
	encode_flowtable(&w, family);
	for (i = CHAIN_FAST_PATH; i < N_CHAINS; i++) {
		chain_constant(&ruleset, i, &chain);
		encode_chain(&w, family, &chain);
	}
	for (i = CHAIN_FAST_PATH; i < N_CHAINS; i++) {
		chain_constant(&ruleset, i, &chain);
		encode_rules(&w, family, &chain);
	}
	err = try_messages(nl, &w, &refused, &reason);
	wire_free(&w);
	if (err)
		return errf(eb, err, "the kernel has no flowtables for %s: %s",
			    family_name(family), reason.text);
	if (uname(&kernel) || !can_end_flows(kernel.release))
		return errf(eb, -EOPNOTSUPP,
			    "kernel %.64s is too old to end connections in a flowtable (Linux 6.1)",
			    kernel.release);
	return 0;
}

/* With an element that begins with a count: what carries counts over. */
int kernel_probe_counters(struct nlsock *nl, enum family family, struct errbuf *eb)
{
	const struct element el = {
		.set = MAP_SERVICE_NODEPORTS,
		.protocol = IPPROTO_TCP,
		.port = 1,
		.verdict = { .kind = VERDICT_DROP },
		.count = 1,
	};
	struct elements elements;
	struct refused refused;
	struct errbuf reason;
	struct wire w = { 0 };
	void *at;
	int err;

	elements_init(&elements, el.set, true);
	elements_put(&elements, family, &el, NULL, NULL);
	encode_table(&w, family, 0);
	encode_set(&w, family, set_layout(el.set), set_name(el.set), NULL, true, 1);
	at = elements.wire.err ? NULL : wire_reserve(&w, elements.wire.length);
	if (at) {
		memcpy(at, elements.wire.bytes, elements.wire.length);
		w.length += elements.wire.length;
	}
	err = elements.wire.err ? elements.wire.err
				: try_messages(nl, &w, &refused, &reason);
	wire_free(&w);
	elements_free(&elements);
	return err ? errf(eb, err, "the kernel has no counters in maps for %s: %s",
			  family_name(family),
			  err == -ENOMEM ? "out of memory" : reason.text)
		   : 0;
}

int kernel_probe(struct nlsock *nl, const struct ruleset *ruleset, bool *owner,
		 struct errbuf *eb)
{
	struct strbuf object = STRBUF_INIT;
	struct errbuf reason = { "" };
	bool can_own;
	int err;

	err = try_owner(nl, ruleset, &reason);
	can_own = !err;
	if (!is_trouble(err) && err != -EPERM)
		err = try_everything(nl, ruleset, &object, &reason);
	if (err == -EPERM)
		errf(eb, err, "nftables: not permitted: CAP_NET_ADMIN is needed");
	else if (is_trouble(err))
		errf(eb, err, "nftables: %s", reason.text);
	else if (err)
		err = name_what_lacks(nl, ruleset, &object, &reason, eb);
	else
		*owner = can_own;
	strbuf_free(&object);
	return err;
}
