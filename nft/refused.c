/*
 * Errors of the kernel, read and put into words. A refused rule is told by its
 * place in its chain and by the expression that was looked at: whoever meets a
 * kernel that nobody has tried can say what it objects to.
 */
#include "nft/refused.h"

#include <assert.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>

#include <libmnl/libmnl.h>

#include "nft/attr.h"

/* What the kernel says about an error stands after a copy of the request, or of its header. */
static void read_reason(struct refused *r, const struct nlmsghdr *nlh,
			const struct nlmsgerr *e)
{
	size_t skip = sizeof(*e);
	const struct nlattr *attr;

	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(nlh->nlmsg_flags & NLM_F_CAPPED) && e->msg.nlmsg_len > sizeof(e->msg))
		skip += NLMSG_ALIGN(e->msg.nlmsg_len) - sizeof(e->msg);
	if (skip > mnl_nlmsg_get_payload_len(nlh))
		return;
	for_each_attr (attr, nlh, (unsigned int)skip) {
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_OFFS &&
		    mnl_attr_get_payload_len(attr) == sizeof(uint32_t))
			r->offset = mnl_attr_get_u32(attr);
		else if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
			 mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) == 0)
			snprintf(r->reason, sizeof(r->reason), " (%s)",
				 mnl_attr_get_str(attr));
	}
}

void refused_read(struct refused *r, const struct nlmsghdr *nlh)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

	if (r->err || nlh->nlmsg_type != NLMSG_ERROR || !message_error(nlh))
		return;
	r->err = message_error(nlh);
	r->seq = nlh->nlmsg_seq;
	if (mnl_nlmsg_get_payload_len(nlh) >= sizeof(*e))
		read_reason(r, nlh, e);
}

const struct nlmsghdr *refused_message(const struct refused *r,
				       const struct wire *wire, size_t *position)
{
	const struct nlmsghdr *nlh;

	for_each_message (nlh, *position, wire)
		if (nlh->nlmsg_seq == r->seq)
			return nlh;
	return NULL;
}

static const struct {
	const char *action, *kind;
	uint16_t name; /* attribute; 0: it is the table */
} message_words[] = {
	[NFT_MSG_NEWTABLE] = { "add", "table", 0 },
	[NFT_MSG_DELTABLE] = { "delete", "table", 0 },
	[NFT_MSG_NEWSET] = { "add", "set", NFTA_SET_NAME },
	[NFT_MSG_DELSET] = { "delete", "set", NFTA_SET_NAME },
	[NFT_MSG_NEWCHAIN] = { "add", "chain", NFTA_CHAIN_NAME },
	[NFT_MSG_DELCHAIN] = { "delete", "chain", NFTA_CHAIN_NAME },
	[NFT_MSG_NEWRULE] = { "add", "chain", NFTA_RULE_CHAIN },
	[NFT_MSG_DELRULE] = { "flush", "chain", NFTA_RULE_CHAIN },
	[NFT_MSG_NEWSETELEM] = { "add", "to set", NFTA_SET_ELEM_LIST_SET },
	[NFT_MSG_DELSETELEM] = { "delete", "from set", NFTA_SET_ELEM_LIST_SET },
	[NFT_MSG_NEWFLOWTABLE] = { "add", "flowtable", NFTA_FLOWTABLE_NAME },
	[NFT_MSG_DELFLOWTABLE] = { "delete", "flowtable", NFTA_FLOWTABLE_NAME },
};

/* Of a message of ours. */
static unsigned int type_of(const struct nlmsghdr *nlh)
{
	const unsigned int type = nlh->nlmsg_type & 0xff;

	assert(type < sizeof(message_words) / sizeof(message_words[0]));
	assert(message_words[type].action);
	return type;
}

static const char *string_of(const struct nlmsghdr *nlh, uint16_t type)
{
	const struct nlattr *attr;

	for_each_attr (attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == type)
			return mnl_attr_get_str(attr);
	return "";
}

static bool is_rule(const struct nlmsghdr *nlh)
{
	return type_of(nlh) == NFT_MSG_NEWRULE;
}

/* Among the rules of its chain. */
static unsigned int rule_number(const struct wire *wire, const struct nlmsghdr *rule)
{
	const char *chain = string_of(rule, NFTA_RULE_CHAIN);
	const struct nlmsghdr *nlh;
	unsigned int n = 0;
	size_t at;

	for_each_message (nlh, at, wire) {
		if (is_rule(nlh) &&
		    strcmp(string_of(nlh, NFTA_RULE_CHAIN), chain) == 0)
			n++;
		if (nlh == rule)
			break;
	}
	return n;
}

/* The expression of a rule at, or around, @offset; NULL if there is none. */
static const char *expression_at(const struct nlmsghdr *rule, uint32_t offset)
{
	const struct nlattr *list, *expression, *attr;

	for_each_attr (list, rule, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(list) != NFTA_RULE_EXPRESSIONS)
			continue;
		for_each_attr_in (expression, list) {
			size_t from = (size_t)((const char *)expression -
					       (const char *)rule);

			if (offset < from || offset >= from + expression->nla_len)
				continue;
			for_each_attr_in (attr, expression)
				if (mnl_attr_get_type(attr) == NFTA_EXPR_NAME)
					return mnl_attr_get_str(attr);
		}
	}
	return NULL;
}

/* @keyword stands between the kind and the name. */
static void refused_print_object(const struct refused *r, const struct wire *wire,
				 const struct nlmsghdr *nlh,
				 const char *keyword, struct strbuf *out)
{
	const uint16_t name = message_words[type_of(nlh)].name;
	const char *expression =
		is_rule(nlh) ? expression_at(nlh, r->offset) : NULL;

	if (is_rule(nlh))
		strbuf_addf(out, "rule %u of ", rule_number(wire, nlh));
	strbuf_addf(out, "%s %s%s", message_words[type_of(nlh)].kind, keyword,
		    name ? string_of(nlh, name) : TABLE_NAME);
	if (expression)
		strbuf_addf(out, ", expression %s", expression);
}

void refused_object(const struct refused *r, const struct wire *wire,
		    const struct nlmsghdr *nlh, struct strbuf *out)
{
	assert(r->seq == nlh->nlmsg_seq);
	refused_print_object(r, wire, nlh, "", out);
}

void refused_print(const struct refused *r, enum family family,
		   const struct wire *wire, const struct nlmsghdr *nlh,
		   struct strbuf *out)
{
	char keyword[16];

	snprintf(keyword, sizeof(keyword), "%s ", family_keyword(family));
	strbuf_addf(out, "%s ", message_words[type_of(nlh)].action);
	refused_print_object(r, wire, nlh, keyword, out);
}
