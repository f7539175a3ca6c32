/*
 * From the descriptions of rule.h to netlink. Tables, sets and chains are a handful of attributes
 * and are put down directly; rules go through libnftnl, which knows the attributes of each
 * expression.
 *
 * Registers, sets' userdata and the choice of expressions are those that nft itself makes, so that
 * what we install cannot be told from what nft loads from our text, and lists the same.
 */
#include "nft/encode.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>

#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/udata.h>

#include "nft/flowtable.h"

void wire_free(struct wire *w)
{
	free(w->bytes);
	*w = (struct wire){ 0 };
}

void *wire_reserve(struct wire *w, size_t more)
{
	size_t need, size;
	uint8_t *bytes;

	if (w->err)
		return NULL;
	if (__builtin_add_overflow(w->length, more, &need) || need > SIZE_MAX / 4)
		goto fail;
	if (need > w->size) {
		size = w->size ? w->size * 2 : 1024;
		if (size < need)
			size = need;
		bytes = realloc(w->bytes, size);
		if (!bytes)
			goto fail;
		w->bytes = bytes;
		w->size = size;
	}
	return memset(w->bytes + w->length, 0, more);

fail:
	w->err = -ENOMEM;
	return NULL;
}

static uint8_t nfproto(enum family family)
{
	return family == FAMILY_IPV4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
}

struct nlmsghdr *message_begin(struct wire *w, enum family family, uint16_t type, uint16_t flags,
			       size_t room)
{
	void *at = wire_reserve(w, MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg) + room);
	struct nlmsghdr *nlh;
	struct nfgenmsg *nfg;

	if (!at)
		return NULL;
	nlh = mnl_nlmsg_put_header(at);
	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = nfproto(family);
	nfg->version = NFNETLINK_V0;
	return nlh;
}

void message_end(struct wire *w, const struct nlmsghdr *nlh)
{
	w->length += MNL_ALIGN(nlh->nlmsg_len);
}

/* Names are at most 255 bytes, userdata 256: this is ample for all but rules. */
enum { ROOM = 2048 };

/* As begun, with the attributes that name an object; all of them have the table's in common. */
static struct nlmsghdr *object_begin(struct wire *w, enum family family, uint16_t type,
				     uint16_t flags, uint16_t attribute, const char *name)
{
	struct nlmsghdr *nlh;
	size_t length = name ? strlen(name) : 0;

	nlh = message_begin(w, family, type, flags, ROOM + length);
	if (!nlh)
		return NULL;
	/* NFTA_TABLE_NAME, NFTA_SET_TABLE, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE are all 1 */
	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, TABLE_NAME);
	if (name)
		mnl_attr_put_strz(nlh, attribute, name);
	return nlh;
}

/* A message that does nothing but name an object. */
static void object_message(struct wire *w, enum family family, uint16_t type, uint16_t attribute,
			   const char *name)
{
	struct nlmsghdr *nlh = object_begin(w, family, type, 0, attribute, name);

	if (nlh)
		message_end(w, nlh);
}

/*
 * Userdata is a list of type, length (1 byte each) and value, where a value may be a list again.
 * Numbers are in host order: only programs of this machine read them.
 */
struct udata {
	uint8_t bytes[NFT_USERDATA_MAXLEN];
	size_t length;
};

static void udata_put(struct udata *u, uint8_t type, const void *value, size_t length)
{
	/* The longest is our own: 4 fields, 2 for data and a comment of 128 bytes. */
	if (u->length + 2 + length > sizeof(u->bytes) || length > UINT8_MAX)
		return;
	u->bytes[u->length++] = type;
	u->bytes[u->length++] = (uint8_t)length;
	memcpy(u->bytes + u->length, value, length);
	u->length += length;
}

static void udata_put_u32(struct udata *u, uint8_t type, uint32_t value)
{
	udata_put(u, type, &value, sizeof(value));
}

static void udata_put_comment(struct udata *u, uint8_t type, const char *comment)
{
	char text[COMMENT_MAX + 1];

	udata_put(u, type, text, comment_copy(comment, text) + 1);
}

static size_t udata_nest(struct udata *u, uint8_t type)
{
	udata_put(u, type, "", 0);
	return u->length;
}

static void udata_nest_end(struct udata *u, size_t nest)
{
	u->bytes[nest - 1] = (uint8_t)(u->length - nest);
}

void encode_table(struct wire *w, enum family family, uint32_t table_flags)
{
	struct nlmsghdr *nlh;
	struct udata u = { .length = 0 };

	nlh = object_begin(w, family, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, 0, NULL);
	if (!nlh)
		return;
	udata_put_comment(&u, NFTNL_UDATA_TABLE_COMMENT, TABLE_COMMENT);
	mnl_attr_put_u32(nlh, NFTA_TABLE_FLAGS, htonl(table_flags));
	mnl_attr_put(nlh, NFTA_TABLE_USERDATA, u.length, u.bytes);
	message_end(w, nlh);
}

void encode_table_flags(struct wire *w, enum family family, uint32_t table_flags)
{
	struct nlmsghdr *nlh = object_begin(w, family, NFT_MSG_NEWTABLE, 0, 0, NULL);

	if (!nlh)
		return;
	mnl_attr_put_u32(nlh, NFTA_TABLE_FLAGS, htonl(table_flags));
	message_end(w, nlh);
}

void encode_table_delete(struct wire *w, enum family family)
{
	struct nlmsghdr *nlh;

	/* Creating what exists already does nothing, and lets the deletion find one. */
	nlh = object_begin(w, family, NFT_MSG_NEWTABLE, NLM_F_CREATE, 0, NULL);
	if (nlh)
		message_end(w, nlh);
	object_message(w, family, NFT_MSG_DELTABLE, 0, NULL);
}

/*
 * What nft calls typeof: the numbers by which its userdata names expressions and header fields.
 * They are nft's own, an interface between its versions.
 */
enum {
	NFT_EXPR_VERDICT = 1,
	NFT_EXPR_PAYLOAD = 7,
	NFT_EXPR_META = 9,
	NFT_EXPR_CONCAT = 13,
	NFT_EXPR_NUMGEN = 23,

	NFT_DESC_TH = 11,
	NFT_DESC_IP = 12,
	NFT_DESC_IP6 = 13,
	NFT_FIELD_TH_DPORT = 2,
	NFT_FIELD_IP_SADDR = 11,
	NFT_FIELD_IP_DADDR = 12,
	NFT_FIELD_IP6_SADDR = 8,
	NFT_FIELD_IP6_DADDR = 9,

	NFT_BYTEORDER_UNKNOWN = 0,
	NFT_BYTEORDER_BIG = 2,
};

static void typeof_payload(struct udata *u, uint32_t desc, uint32_t field)
{
	size_t nest;

	udata_put_u32(u, NFTNL_UDATA_SET_TYPEOF_EXPR, NFT_EXPR_PAYLOAD);
	nest = udata_nest(u, NFTNL_UDATA_SET_TYPEOF_DATA);
	udata_put_u32(u, 0, desc);
	udata_put_u32(u, 1, field);
	udata_nest_end(u, nest);
}

static void typeof_address(struct udata *u, enum family family, bool source)
{
	if (family == FAMILY_IPV4)
		typeof_payload(u, NFT_DESC_IP, source ? NFT_FIELD_IP_SADDR : NFT_FIELD_IP_DADDR);
	else
		typeof_payload(u, NFT_DESC_IP6, source ? NFT_FIELD_IP6_SADDR : NFT_FIELD_IP6_DADDR);
}

static void typeof_field(struct udata *u, enum family family, enum field field)
{
	size_t nest;

	switch (field) {
	case FIELD_SADDR:
	case FIELD_DADDR:
		typeof_address(u, family, field == FIELD_SADDR);
		break;
	case FIELD_PROTOCOL:
		udata_put_u32(u, NFTNL_UDATA_SET_TYPEOF_EXPR, NFT_EXPR_META);
		nest = udata_nest(u, NFTNL_UDATA_SET_TYPEOF_DATA);
		udata_put_u32(u, 0, NFT_META_L4PROTO);
		udata_nest_end(u, nest);
		break;
	case FIELD_PORT:
		typeof_payload(u, NFT_DESC_TH, NFT_FIELD_TH_DPORT);
		break;
	case FIELD_INDEX:
		udata_put_u32(u, NFTNL_UDATA_SET_TYPEOF_EXPR, NFT_EXPR_NUMGEN);
		nest = udata_nest(u, NFTNL_UDATA_SET_TYPEOF_DATA);
		udata_put_u32(u, 0, NFT_NG_RANDOM);
		udata_put_u32(u, 1, TYPEOF_MOD);
		udata_put_u32(u, 2, 0);
		udata_nest_end(u, nest);
		break;
	case FIELD_ORIGINAL: /* no set has it */
		break;
	}
}

static void typeof_key(struct udata *u, enum family family, const struct key *key)
{
	size_t concat, nest;
	unsigned int i;

	if (key->n == 1) {
		typeof_field(u, family, key->fields[0]);
		return;
	}
	udata_put_u32(u, NFTNL_UDATA_SET_TYPEOF_EXPR, NFT_EXPR_CONCAT);
	concat = udata_nest(u, NFTNL_UDATA_SET_TYPEOF_DATA);
	for (i = 0; i < key->n; i++) {
		nest = udata_nest(u, (uint8_t)i);
		typeof_field(u, family, key->fields[i]);
		udata_nest_end(u, nest);
	}
	udata_nest_end(u, concat);
}

static void typeof_data(struct udata *u, enum family family, enum data_kind data)
{
	static const struct key endpoint = { 2, { FIELD_DADDR, FIELD_PORT } };

	if (data == DATA_ENDPOINT) {
		typeof_key(u, family, &endpoint);
	} else {
		udata_put_u32(u, NFTNL_UDATA_SET_TYPEOF_EXPR, NFT_EXPR_VERDICT);
		udata_nest_end(u, udata_nest(u, NFTNL_UDATA_SET_TYPEOF_DATA));
	}
}

static void set_udata(struct udata *u, enum family family, const struct set_layout *layout,
		      const char *comment)
{
	size_t nest;

	/* Of addresses; a concatenation has no order of its own. */
	udata_put_u32(u, NFTNL_UDATA_SET_KEYBYTEORDER,
		      layout->key.n == 1 ? NFT_BYTEORDER_BIG : NFT_BYTEORDER_UNKNOWN);
	if (layout->data)
		udata_put_u32(u, NFTNL_UDATA_SET_DATABYTEORDER, NFT_BYTEORDER_UNKNOWN);
	nest = udata_nest(u, NFTNL_UDATA_SET_KEY_TYPEOF);
	typeof_key(u, family, &layout->key);
	udata_nest_end(u, nest);
	if (layout->data) {
		nest = udata_nest(u, NFTNL_UDATA_SET_DATA_TYPEOF);
		typeof_data(u, family, layout->data);
		udata_nest_end(u, nest);
		udata_put_u32(u, NFTNL_UDATA_SET_DATA_INTERVAL, 0);
	}
	if (comment)
		udata_put_comment(u, NFTNL_UDATA_SET_COMMENT, comment);
}

static void set_description(struct nlmsghdr *nlh, const struct set_layout *layout)
{
	struct nlattr *description;

	if (!layout->size)
		return;
	description = mnl_attr_nest_start(nlh, NFTA_SET_DESC);
	mnl_attr_put_u32(nlh, NFTA_SET_DESC_SIZE, htonl(layout->size));
	mnl_attr_nest_end(nlh, description);
}

void encode_set(struct wire *w, enum family family, const struct set_layout *layout,
		const char *name, const char *comment, uint32_t id)
{
	struct nlmsghdr *nlh;
	struct udata u = { .length = 0 };

	nlh = object_begin(w, family, NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL, NFTA_SET_NAME,
			   name);
	if (!nlh)
		return;
	mnl_attr_put_u32(nlh, NFTA_SET_FLAGS, htonl(layout->flags));
	mnl_attr_put_u32(nlh, NFTA_SET_KEY_TYPE, htonl(key_type(family, &layout->key)));
	mnl_attr_put_u32(nlh, NFTA_SET_KEY_LEN, htonl(key_size(family, &layout->key)));
	if (layout->data) {
		mnl_attr_put_u32(nlh, NFTA_SET_DATA_TYPE, htonl(set_data_type(family, layout)));
		mnl_attr_put_u32(nlh, NFTA_SET_DATA_LEN, htonl(set_data_size(family, layout)));
	}
	mnl_attr_put_u32(nlh, NFTA_SET_ID, htonl(id));
	set_description(nlh, layout);
	set_udata(&u, family, layout, comment);
	mnl_attr_put(nlh, NFTA_SET_USERDATA, u.length, u.bytes);
	message_end(w, nlh);
}

void encode_set_delete(struct wire *w, enum family family, const char *name)
{
	object_message(w, family, NFT_MSG_DELSET, NFTA_SET_NAME, name);
}

void encode_chain(struct wire *w, enum family family, const struct chain *chain)
{
	struct nlmsghdr *nlh;
	struct nlattr *hook;

	nlh = object_begin(w, family, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, NFTA_CHAIN_NAME,
			   chain->name);
	if (!nlh)
		return;
	if (chain->has_hook) {
		mnl_attr_put_strz(nlh, NFTA_CHAIN_TYPE, chain->type);
		hook = mnl_attr_nest_start(nlh, NFTA_CHAIN_HOOK);
		mnl_attr_put_u32(nlh, NFTA_HOOK_HOOKNUM, htonl(chain->hook));
		mnl_attr_put_u32(nlh, NFTA_HOOK_PRIORITY, htonl((uint32_t)chain->priority));
		mnl_attr_nest_end(nlh, hook);
		mnl_attr_put_u32(nlh, NFTA_CHAIN_POLICY, htonl(NF_ACCEPT));
	}
	message_end(w, nlh);
}

/* The hook is the same for all: ingress of a device, priority filter. */
static struct nlmsghdr *flowtable_begin(struct wire *w, enum family family, uint16_t type,
					uint16_t flags, struct nlattr **hook)
{
	struct nlmsghdr *nlh =
		object_begin(w, family, type, flags, NFTA_FLOWTABLE_NAME, FLOWTABLE_NAME);

	if (!nlh)
		return NULL;
	*hook = mnl_attr_nest_start(nlh, NFTA_FLOWTABLE_HOOK);
	mnl_attr_put_u32(nlh, NFTA_FLOWTABLE_HOOK_NUM, htonl(NF_NETDEV_INGRESS));
	mnl_attr_put_u32(nlh, NFTA_FLOWTABLE_HOOK_PRIORITY, 0);
	return nlh;
}

void encode_flowtable(struct wire *w, enum family family)
{
	struct nlattr *hook;
	struct nlmsghdr *nlh =
		flowtable_begin(w, family, NFT_MSG_NEWFLOWTABLE, NLM_F_CREATE | NLM_F_EXCL, &hook);

	if (!nlh)
		return;
	mnl_attr_nest_end(nlh, hook);
	message_end(w, nlh);
}

void encode_flowtable_device(struct wire *w, enum family family, const char *device, bool remove)
{
	struct nlattr *hook, *devices;
	struct nlmsghdr *nlh = flowtable_begin(
		w, family, remove ? NFT_MSG_DELFLOWTABLE : NFT_MSG_NEWFLOWTABLE, 0, &hook);

	if (!nlh)
		return;
	devices = mnl_attr_nest_start(nlh, NFTA_FLOWTABLE_HOOK_DEVS);
	mnl_attr_put_strz(nlh, NFTA_DEVICE_NAME, device);
	mnl_attr_nest_end(nlh, devices);
	mnl_attr_nest_end(nlh, hook);
	message_end(w, nlh);
}

void encode_flowtable_delete(struct wire *w, enum family family)
{
	object_message(w, family, NFT_MSG_DELFLOWTABLE, NFTA_FLOWTABLE_NAME, FLOWTABLE_NAME);
}

/* With all rules in it. */
void encode_chain_delete(struct wire *w, enum family family, const char *name)
{
	object_message(w, family, NFT_MSG_DELCHAIN, NFTA_CHAIN_NAME, name);
}

void encode_rules_flush(struct wire *w, enum family family, const char *chain)
{
	object_message(w, family, NFT_MSG_DELRULE, NFTA_RULE_CHAIN, chain);
}

/*
 * Rules. Expressions are added to one until something fails; the error sticks and the rule is not
 * used then.
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

static void expr_set(struct builder *b, struct nftnl_expr *e, uint16_t type, const void *data,
		     size_t length)
{
	if (nftnl_expr_set(e, type, data, (uint32_t)length))
		b->err = -ENOMEM;
}

static void expr_set_str(struct builder *b, struct nftnl_expr *e, uint16_t type, const char *text)
{
	if (nftnl_expr_set_str(e, type, text))
		b->err = -ENOMEM;
}

/* The name of the register @offset bytes from the first, as nft has it. */
static uint32_t reg(unsigned int offset)
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

static void add_payload(struct builder *b, uint32_t base, uint32_t offset, uint32_t length,
			uint32_t dreg)
{
	struct nftnl_expr *e = expr_add(b, "payload");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, dreg);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, length);
}

static void add_address(struct builder *b, bool source, uint32_t length, uint32_t dreg)
{
	static const uint32_t offset[N_FAMILIES][2] = {
		[FAMILY_IPV4] = { 16, 12 },
		[FAMILY_IPV6] = { 24, 8 },
	};

	add_payload(b, NFT_PAYLOAD_NETWORK_HEADER, offset[b->family][source], length, dreg);
}

static void add_cmp(struct builder *b, bool differs, const void *data, size_t length)
{
	struct nftnl_expr *e = expr_add(b, "cmp");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, differs ? NFT_CMP_NEQ : NFT_CMP_EQ);
	expr_set(b, e, NFTNL_EXPR_CMP_DATA, data, length);
}

/* register 1 = (register 1 & mask) ^ xor */
static void add_bitwise(struct builder *b, const void *mask, const void * xor, size_t length)
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

static void add_immediate(struct builder *b, uint32_t dreg, const void *data, size_t length)
{
	struct nftnl_expr *e = expr_add(b, "immediate");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, dreg);
	expr_set(b, e, NFTNL_EXPR_IMM_DATA, data, length);
}

static void add_verdict(struct builder *b, int verdict, const char *chain)
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
			   b->family == FAMILY_IPV4 ? NFT_CT_DST_IP : NFT_CT_DST_IP6);
	nftnl_expr_set_u8(e, NFTNL_EXPR_CT_DIR, IP_CT_DIR_ORIGINAL);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, dreg);
}

static void add_field(struct builder *b, enum field field, uint32_t mod, uint32_t dreg)
{
	switch (field) {
	case FIELD_SADDR:
	case FIELD_DADDR:
		add_address(b, field == FIELD_SADDR, (uint32_t)family_size(b->family), dreg);
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
		add_field(b, stmt->key.fields[i], stmt->mod, reg(offset));
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
	bool begin = stmt->kind == STMT_IIFNAME_BEGIN || stmt->kind == STMT_OIFNAME_BEGIN;

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
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_FLAGS, source ? NFTA_FIB_F_SADDR : NFTA_FIB_F_DADDR);
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

static void add_flow(struct builder *b, const char *flowtable)
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
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FAMILY, nfproto(b->family));
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
	add_immediate(b, reg(16 + (unsigned int)family_size(b->family)), &port_be, sizeof(port_be));
	e = expr_add(b, "dynset");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_SREG_KEY, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_SREG_DATA, NFT_REG_2);
	nftnl_expr_set_u64(e, NFTNL_EXPR_DYNSET_TIMEOUT, stmt->number * (uint64_t)1000);
	expr_set_str(b, e, NFTNL_EXPR_DYNSET_SET_NAME, stmt->name);
}

static void add_masquerade(struct builder *b)
{
	struct nftnl_expr *e = expr_add(b, "masq");

	if (e)
		nftnl_expr_set_u32(e, NFTNL_EXPR_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
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
		add_dnat(b, reg((unsigned int)family_size(b->family)), 0);
		break;
	case STMT_DNAT:
		add_dnat_constant(b, stmt);
		break;
	case STMT_DNAT_ADDR:
		add_immediate(b, NFT_REG_1, stmt->addr.bytes, family_size(b->family));
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
		add_verdict(b, NFT_GOTO, stmt->name);
		break;
	case STMT_FLOW:
		add_flow(b, stmt->name);
		break;
	case STMT_DROP:
		add_verdict(b, NF_DROP, NULL);
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
static int rule_build(struct nftnl_rule *rule, enum family family, const struct rule *from)
{
	struct builder b = { .rule = rule, .family = family };
	uint8_t userdata[RULE_UDATA_SIZE];
	unsigned int i;

	for (i = 0; i < from->n; i++)
		add_stmt(&b, &from->stmts[i]);
	rule_userdata(rule_digest(family, from), userdata);
	if (nftnl_rule_set_data(rule, NFTNL_RULE_USERDATA, userdata, sizeof(userdata)))
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
	nlh = message_begin(w, family, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, RULE_ROOM);
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
