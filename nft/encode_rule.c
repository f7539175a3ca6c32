/*
 * Rules as netlink. They go through libnftnl, which knows the attributes of
 * each expression.
 *
 * Registers and the choice of expressions are those that nft itself makes, so
 * that what we install cannot be told from what nft loads from our text, and
 * lists the same.
 */
#include "nft/encode_rule.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>

#include <libnftnl/expr.h>
#include <libnftnl/rule.h>

/*
 * Rules. Expressions are added to one until something fails; the error sticks
 * and the rule is not used then.
 */
struct builder {
	struct nftnl_rule *rule;
	enum family family;
	int err;
};

static struct nftnl_expr *expr_add(struct builder *b, const char *name)
{
	struct nftnl_expr *e = b->err ? NULL : nftnl_expr_alloc(name);

	if (!e) {
		b->err = -ENOMEM;
		return NULL;
	}
	nftnl_rule_add_expr(b->rule, e); /* the rule owns it from here on */
	return e;
}

static void expr_set(struct builder *b, struct nftnl_expr *e, uint16_t type,
		     const void *data, size_t length)
{
	if (nftnl_expr_set(e, type, data, (uint32_t)length))
		b->err = -ENOMEM;
}

static void expr_set_str(struct builder *b, struct nftnl_expr *e, uint16_t type,
			 const char *text)
{
	if (nftnl_expr_set_str(e, type, text))
		b->err = -ENOMEM;
}

/* The name of the register @offset bytes from the first, as nft has it. */
static uint32_t register_at(unsigned int offset)
{
	return offset % 16 ? NFT_REG32_00 + offset / 4 : NFT_REG_1 + offset / 16;
}

static void add_meta(struct builder *b, uint32_t key, uint32_t dreg)
{
	struct nftnl_expr *e = expr_add(b, "meta");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, dreg);
}

static void add_payload(struct builder *b, uint32_t base, uint32_t offset,
			uint32_t length, uint32_t dreg)
{
	struct nftnl_expr *e = expr_add(b, "payload");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, dreg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, length);
}

static void add_address(struct builder *b, bool source, uint32_t length,
			uint32_t dreg)
{
	static const uint32_t offset[N_FAMILIES][2] = {
		[FAMILY_IPV4] = { 16, 12 },
		[FAMILY_IPV6] = { 24, 8 },
	};

	add_payload(b, NFT_PAYLOAD_NETWORK_HEADER, offset[b->family][source],
		    length, dreg);
}

static void add_cmp(struct builder *b, bool differs, const void *data, size_t length)
{
	struct nftnl_expr *e = expr_add(b, "cmp");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP,
			   differs ? NFT_CMP_NEQ : NFT_CMP_EQ);
	expr_set(b, e, NFTNL_EXPR_CMP_DATA, data, length);
}

/* register 1 = (register 1 & mask) ^ xor */
static void add_bitwise(struct builder *b, const void *mask, const void * xor,
			size_t length)
{
	struct nftnl_expr *e = expr_add(b, "bitwise");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, (uint32_t)length);
	expr_set(b, e, NFTNL_EXPR_BITWISE_MASK, mask, length);
	expr_set(b, e, NFTNL_EXPR_BITWISE_XOR, xor, length);
}

static void add_immediate(struct builder *b, uint32_t dreg, const void *data,
			  size_t length)
{
	struct nftnl_expr *e = expr_add(b, "immediate");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, dreg);
	expr_set(b, e, NFTNL_EXPR_IMM_DATA, data, length);
}

static void add_rule_verdict(struct builder *b, int verdict, const char *chain)
{
	struct nftnl_expr *e = expr_add(b, "immediate");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, (uint32_t)verdict);
	if (chain)
		expr_set_str(b, e, NFTNL_EXPR_IMM_CHAIN, chain);
}

static void add_numgen(struct builder *b, uint32_t mod, uint32_t dreg)
{
	struct nftnl_expr *e = expr_add(b, "numgen");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_NG_DREG, dreg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NG_TYPE, NFT_NG_RANDOM);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NG_MODULUS, mod);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NG_OFFSET, 0);
}

/* The destination before translation. */
static void add_original(struct builder *b, uint32_t dreg)
{
	struct nftnl_expr *e = expr_add(b, "ct");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY,
			   b->family == FAMILY_IPV4 ? NFT_CT_DST_IP
						    : NFT_CT_DST_IP6);
	nftnl_expr_set_u8(e, NFTNL_EXPR_CT_DIR, IP_CT_DIR_ORIGINAL);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, dreg);
}

static void add_key_field(struct builder *b, enum field field, uint32_t mod,
			  uint32_t dreg)
{
	switch (field) {
	case FIELD_SADDR:
	case FIELD_DADDR:
		add_address(b, field == FIELD_SADDR,
			    (uint32_t)family_size(b->family), dreg);
		break;
	case FIELD_PROTOCOL:
		add_meta(b, NFT_META_L4PROTO, dreg);
		break;
	case FIELD_PORT:
		add_payload(b, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, dreg);
		break;
	case FIELD_INDEX:
		add_numgen(b, mod, dreg);
		break;
	case FIELD_ORIGINAL:
		add_original(b, dreg);
		break;
	}
}

enum { NO_RESULT = -1 };

/* Loads the key into the first registers and looks it up; @dreg takes what a map has for it. */
static void add_lookup(struct builder *b, const struct stmt *stmt, int dreg)
{
	unsigned int i, offset = 0;
	struct nftnl_expr *e;

	for (i = 0; i < stmt->key.n; i++) {
		add_key_field(b, stmt->key.fields[i], stmt->mod,
			      register_at(offset));
		offset += (field_size(b->family, stmt->key.fields[i]) + 3) & ~3u;
	}
	e = expr_add(b, "lookup");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
	if (dreg != NO_RESULT)
		nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_DREG, (uint32_t)dreg);
	if (stmt->differs)
		nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
	expr_set_str(b, e, NFTNL_EXPR_LOOKUP_SET, stmt->name);
}

/* Compares whole bytes only, where the length of the prefix allows it. */
static void add_prefix(struct builder *b, const struct stmt *stmt)
{
	const struct prefix *p = &stmt->prefix;
	uint8_t mask[16] = { 0 }, zero[16] = { 0 };
	size_t size = family_size(b->family);
	unsigned int i;

	if (p->length % 8 == 0)
		size = p->length / 8u;
	add_address(b, stmt->kind == STMT_SADDR, (uint32_t)size, NFT_REG_1);
	if (p->length % 8) {
		for (i = 0; i < p->length; i++)
			mask[i / 8] |= (uint8_t)(0x80 >> i % 8);
		add_bitwise(b, mask, zero, size);
	}
	add_cmp(b, stmt->differs, p->addr.bytes, size);
}

static void add_interface(struct builder *b, const struct stmt *stmt)
{
	char name[16] = { 0 };
	size_t length = strnlen(stmt->name, sizeof(name));
	bool out = stmt->kind == STMT_OIFNAME || stmt->kind == STMT_OIFNAME_BEGIN;
	bool begin = stmt->kind == STMT_IIFNAME_BEGIN ||
		     stmt->kind == STMT_OIFNAME_BEGIN;

	memcpy(name, stmt->name, length);
	add_meta(b, out ? NFT_META_OIFNAME : NFT_META_IIFNAME, NFT_REG_1);
	add_cmp(b, stmt->differs, name, begin ? length : sizeof(name));
}

static void add_local(struct builder *b, bool source, bool differs)
{
	struct nftnl_expr *e = expr_add(b, "fib");
	const uint32_t local = RTN_LOCAL;

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_FLAGS,
			   source ? NFTA_FIB_F_SADDR : NFTA_FIB_F_DADDR);
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_DREG, NFT_REG_1);
	add_cmp(b, differs, &local, sizeof(local));
}

static void add_protocol(struct builder *b, uint8_t protocol)
{
	add_meta(b, NFT_META_L4PROTO, NFT_REG_1);
	add_cmp(b, false, &protocol, sizeof(protocol));
}

/* ICMP and ICMPv6 number it differently. */
static void add_echo_request(struct builder *b)
{
	const bool ipv4 = b->family == FAMILY_IPV4;
	const uint8_t type = ipv4 ? 8 : 128;

	add_protocol(b, ipv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	add_payload(b, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, NFT_REG_1);
	add_cmp(b, false, &type, sizeof(type));
}

/* register 1 & bit != 0 */
static void add_bit_test(struct builder *b, uint32_t bit)
{
	const uint32_t zero = 0;

	add_bitwise(b, &bit, &zero, sizeof(bit));
	add_cmp(b, true, &zero, sizeof(zero));
}

/* @key: NFT_CT_STATUS, NFT_CT_STATE */
static void add_ct_bit(struct builder *b, uint32_t key, uint32_t bit)
{
	struct nftnl_expr *e = expr_add(b, "ct");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, NFT_REG_1);
	add_bit_test(b, bit);
}

static void add_flow_offload(struct builder *b, const char *flowtable)
{
	struct nftnl_expr *e = expr_add(b, "flow_offload");

	if (e)
		expr_set_str(b, e, NFTNL_EXPR_FLOW_TABLE_NAME, flowtable);
}

/* meta mark = (meta mark & mask) ^ xor */
static void add_mark(struct builder *b, uint32_t mask, uint32_t xor)
{
	struct nftnl_expr *e;

	add_meta(b, NFT_META_MARK, NFT_REG_1);
	add_bitwise(b, &mask, &xor, sizeof(mask));
	e = expr_add(b, "meta");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, NFT_META_MARK);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_SREG, NFT_REG_1);
}

enum { NO_PORT = 0, STATE_ESTABLISHED = 1 << (IP_CT_ESTABLISHED + 1) };

/* The address is in register 1, the port in @port_reg. */
static void add_dnat(struct builder *b, uint32_t port_reg, uint32_t flags)
{
	struct nftnl_expr *e = expr_add(b, "nat");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FAMILY, family_nfproto(b->family));
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG_1);
	if (port_reg != NO_PORT)
		nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MIN, port_reg);
	if (flags)
		nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FLAGS, flags);
}

static void add_dnat_constant(struct builder *b, const struct stmt *stmt)
{
	uint16_t port_be = htons(stmt->port);

	add_immediate(b, NFT_REG_1, stmt->addr.bytes, family_size(b->family));
	add_immediate(b, NFT_REG_2, &port_be, sizeof(port_be));
	add_dnat(b, NFT_REG_2, NF_NAT_RANGE_PROTO_SPECIFIED);
}

static void add_remember(struct builder *b, const struct stmt *stmt)
{
	uint16_t port_be = htons(stmt->port);
	struct nftnl_expr *e;

	add_address(b, true, (uint32_t)family_size(b->family), NFT_REG_1);
	add_immediate(b, NFT_REG_2, stmt->addr.bytes, family_size(b->family));
	add_immediate(b, register_at(16 + (unsigned int)family_size(b->family)),
		      &port_be, sizeof(port_be));
	e = expr_add(b, "dynset");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_SREG_KEY, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_SREG_DATA, NFT_REG_2);
	nftnl_expr_set_u64(e, NFTNL_EXPR_DYNSET_TIMEOUT,
			   stmt->number * (uint64_t)1000);
	expr_set_str(b, e, NFTNL_EXPR_DYNSET_SET_NAME, stmt->name);
}

static void add_masquerade(struct builder *b)
{
	struct nftnl_expr *e = expr_add(b, "masq");

	if (e)
		nftnl_expr_set_u32(e, NFTNL_EXPR_MASQ_FLAGS,
				   NF_NAT_RANGE_PROTO_RANDOM_FULLY);
}

static void add_reject(struct builder *b, uint32_t type, uint8_t code)
{
	struct nftnl_expr *e = expr_add(b, "reject");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_REJECT_TYPE, type);
	nftnl_expr_set_u8(e, NFTNL_EXPR_REJECT_CODE, code);
}

/* ICMP and ICMPv6 number port-unreachable differently. */
static uint8_t port_unreachable(enum family family)
{
	return family == FAMILY_IPV4 ? 3 : 4;
}

/* The syntax of each stands in rule.h. */
static void add_stmt(struct builder *b, const struct stmt *stmt)
{
	switch (stmt->kind) {
	case STMT_SADDR:
	case STMT_DADDR:
		add_prefix(b, stmt);
		break;
	case STMT_IIFNAME:
	case STMT_IIFNAME_BEGIN:
	case STMT_OIFNAME:
	case STMT_OIFNAME_BEGIN:
		add_interface(b, stmt);
		break;
	case STMT_SADDR_LOCAL:
	case STMT_DADDR_LOCAL:
		add_local(b, stmt->kind == STMT_SADDR_LOCAL, stmt->differs);
		break;
	case STMT_PROTOCOL:
		add_protocol(b, (uint8_t)stmt->number);
		break;
	case STMT_ECHO_REQUEST:
		add_echo_request(b);
		break;
	case STMT_MARKED:
		add_meta(b, NFT_META_MARK, NFT_REG_1);
		add_bit_test(b, stmt->number);
		break;
	case STMT_DNATED:
		add_ct_bit(b, NFT_CT_STATUS, IPS_DST_NAT);
		break;
	case STMT_ASSURED:
		add_ct_bit(b, NFT_CT_STATUS, IPS_ASSURED);
		break;
	case STMT_ESTABLISHED:
		add_ct_bit(b, NFT_CT_STATE, STATE_ESTABLISHED);
		break;
	case STMT_LOOKUP:
		add_lookup(b, stmt, NO_RESULT);
		break;
	case STMT_VMAP:
		add_lookup(b, stmt, NFT_REG_VERDICT);
		break;
	case STMT_DNAT_MAP:
		add_lookup(b, stmt, NFT_REG_1);
		add_dnat(b, register_at((unsigned int)family_size(b->family)), 0);
		break;
	case STMT_DNAT:
		add_dnat_constant(b, stmt);
		break;
	case STMT_DNAT_ADDR:
		add_immediate(b, NFT_REG_1, stmt->addr.bytes,
			      family_size(b->family));
		add_dnat(b, NO_PORT, 0);
		break;
	case STMT_REDIRECT:
		expr_add(b, "redir");
		break;
	case STMT_REMEMBER:
		add_remember(b, stmt);
		break;
	case STMT_MARK:
		add_mark(b, ~stmt->number, stmt->number);
		break;
	case STMT_UNMARK:
		add_mark(b, UINT32_MAX, stmt->number);
		break;
	case STMT_MASQUERADE:
		add_masquerade(b);
		break;
	case STMT_GOTO:
		add_rule_verdict(b, NFT_GOTO, stmt->name);
		break;
	case STMT_FLOW:
		add_flow_offload(b, stmt->name);
		break;
	case STMT_DROP:
		add_rule_verdict(b, NF_DROP, NULL);
		break;
	case STMT_RESET:
		add_reject(b, NFT_REJECT_TCP_RST, 0);
		break;
	case STMT_UNREACHABLE:
		add_reject(b, NFT_REJECT_ICMP_UNREACH, port_unreachable(b->family));
		break;
	}
}

/* Expressions and the userdata with the digest. */
static int rule_build(struct nftnl_rule *rule, enum family family,
		      const struct rule *from)
{
	struct builder b = { .rule = rule, .family = family };
	uint8_t userdata[RULE_UDATA_SIZE];
	unsigned int i;

	for (i = 0; i < from->n; i++)
		add_stmt(&b, &from->stmts[i]);
	rule_userdata(rule_digest(family, from), userdata);
	if (nftnl_rule_set_data(rule, NFTNL_RULE_USERDATA, userdata,
				sizeof(userdata)))
		b.err = -ENOMEM;
	return b.err;
}

static void encode_rule(struct wire *w, enum family family, const char *chain,
			const struct rule *from)
{
	/* 6 statements with keys of 4 fields and a name of 255 bytes each are well below that. */
	enum { RULE_ROOM = 8192 };
	struct nftnl_rule *rule = nftnl_rule_alloc();
	struct nlmsghdr *nlh;

	if (!rule || rule_build(rule, family, from)) {
		w->err = -ENOMEM;
		goto out;
	}
	nlh = message_begin(w, family, NFT_MSG_NEWRULE,
			    NLM_F_CREATE | NLM_F_APPEND, RULE_ROOM);
	if (!nlh)
		goto out;
	mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, TABLE_NAME);
	mnl_attr_put_strz(nlh, NFTA_RULE_CHAIN, chain);
	nftnl_rule_nlmsg_build_payload(nlh, rule);
	message_end(w, nlh);
out:
	if (rule)
		nftnl_rule_free(rule);
}

void encode_rules(struct wire *w, enum family family, const struct chain *chain)
{
	unsigned int i;

	for (i = 0; i < chain->n_rules; i++)
		encode_rule(w, family, chain->name, &chain->rules[i]);
}
