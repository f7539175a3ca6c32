/*
 * Tables, sets and chains are a handful of attributes each and are put down
 * directly.
 *
 * Sets' userdata is what nft itself writes, so that what we install cannot be
 * told from what nft loads from our text, and lists the same.
 */
#include "nft/encode.h"

#include <assert.h>
#include <arpa/inet.h>
#include <string.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <libnftnl/udata.h>

#include "nft/flowtable.h"

/* Names are at most 255 bytes, userdata 256: this is ample for all but rules. */
enum { ROOM = 2048 };

/* As begun, with the attributes that name an object; all of them have the table's in common. */
static struct nlmsghdr *object_begin(struct wire *w, enum family family,
				     uint16_t type, uint16_t flags,
				     uint16_t attribute, const char *name)
{
	struct nlmsghdr *nlh;
	size_t length = name ? strlen(name) : 0;

	assert(!name || attribute);
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
static void object_message(struct wire *w, enum family family, uint16_t type,
			   uint16_t attribute, const char *name)
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
	assert(u->length + 2 + length <= sizeof(u->bytes) && length <= UINT8_MAX);
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
	assert(nest && u->length - nest <= UINT8_MAX);
	u->bytes[nest - 1] = (uint8_t)(u->length - nest);
}

void encode_table(struct wire *w, enum family family, uint32_t table_flags)
{
	struct nlmsghdr *nlh;
	struct udata u = { .length = 0 };

	nlh = object_begin(w, family, NFT_MSG_NEWTABLE,
			   NLM_F_CREATE | NLM_F_EXCL, 0, NULL);
	if (!nlh)
		return;
	udata_put_comment(&u, NFTNL_UDATA_TABLE_COMMENT, TABLE_COMMENT);
	mnl_attr_put_u32(nlh, NFTA_TABLE_FLAGS, htonl(table_flags));
	mnl_attr_put(nlh, NFTA_TABLE_USERDATA, u.length, u.bytes);
	message_end(w, nlh);
}

void encode_table_flags(struct wire *w, enum family family, uint32_t table_flags)
{
	struct nlmsghdr *nlh =
		object_begin(w, family, NFT_MSG_NEWTABLE, 0, 0, NULL);

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
 * What nft calls typeof: the numbers by which its userdata names expressions
 * and header fields. They are nft's own, an interface between its versions.
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
		typeof_payload(u, NFT_DESC_IP,
			       source ? NFT_FIELD_IP_SADDR : NFT_FIELD_IP_DADDR);
	else
		typeof_payload(u, NFT_DESC_IP6,
			       source ? NFT_FIELD_IP6_SADDR : NFT_FIELD_IP6_DADDR);
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
		assert(!"no set has it");
		break;
	}
}

static void typeof_key(struct udata *u, enum family family, const struct key *key)
{
	size_t concat, nest;
	unsigned int i;

	assert(key->n);
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

static void set_udata(struct udata *u, enum family family,
		      const struct set_layout *layout, const char *comment)
{
	size_t nest;

	/* Of addresses; a concatenation has no order of its own. */
	udata_put_u32(u, NFTNL_UDATA_SET_KEYBYTEORDER,
		      layout->key.n == 1 ? NFT_BYTEORDER_BIG
					 : NFT_BYTEORDER_UNKNOWN);
	if (layout->data)
		udata_put_u32(u, NFTNL_UDATA_SET_DATABYTEORDER,
			      NFT_BYTEORDER_UNKNOWN);
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
	assert(u->length <= sizeof(u->bytes));
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

/*
 * Each element that is added gets such a counter of its own. In chains of type
 * nat it counts the first packets of connections. counter
 */
static void set_counter(struct nlmsghdr *nlh)
{
	struct nlattr *expr = mnl_attr_nest_start(nlh, NFTA_SET_EXPR), *data;

	mnl_attr_put_strz(nlh, NFTA_EXPR_NAME, "counter");
	data = mnl_attr_nest_start(nlh, NFTA_EXPR_DATA);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, expr);
}

void encode_set(struct wire *w, enum family family, const struct set_layout *layout,
		const char *name, const char *comment, bool counts, uint32_t id)
{
	struct nlmsghdr *nlh;
	struct udata u = { .length = 0 };

	assert(*name && id);
	nlh = object_begin(w, family, NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL,
			   NFTA_SET_NAME, name);
	if (!nlh)
		return;
	mnl_attr_put_u32(nlh, NFTA_SET_FLAGS, htonl(layout->flags));
	mnl_attr_put_u32(nlh, NFTA_SET_KEY_TYPE,
			 htonl(key_type(family, &layout->key)));
	mnl_attr_put_u32(nlh, NFTA_SET_KEY_LEN,
			 htonl(key_size(family, &layout->key)));
	if (layout->data) {
		mnl_attr_put_u32(nlh, NFTA_SET_DATA_TYPE,
				 htonl(set_data_type(family, layout)));
		mnl_attr_put_u32(nlh, NFTA_SET_DATA_LEN,
				 htonl(set_data_size(family, layout)));
	}
	mnl_attr_put_u32(nlh, NFTA_SET_ID, htonl(id));
	set_description(nlh, layout);
	set_udata(&u, family, layout, comment);
	mnl_attr_put(nlh, NFTA_SET_USERDATA, u.length, u.bytes);
	if (counts)
		set_counter(nlh);
	message_end(w, nlh);
}

void encode_set_delete(struct wire *w, enum family family, const char *name)
{
	assert(*name);
	object_message(w, family, NFT_MSG_DELSET, NFTA_SET_NAME, name);
}

void encode_chain(struct wire *w, enum family family, const struct chain *chain)
{
	struct nlmsghdr *nlh;
	struct nlattr *hook;

	assert(chain->name && *chain->name);
	nlh = object_begin(w, family, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL,
			   NFTA_CHAIN_NAME, chain->name);
	if (!nlh)
		return;
	if (chain->has_hook) {
		mnl_attr_put_strz(nlh, NFTA_CHAIN_TYPE, chain->type);
		hook = mnl_attr_nest_start(nlh, NFTA_CHAIN_HOOK);
		mnl_attr_put_u32(nlh, NFTA_HOOK_HOOKNUM, htonl(chain->hook));
		mnl_attr_put_u32(nlh, NFTA_HOOK_PRIORITY,
				 htonl((uint32_t)chain->priority));
		mnl_attr_nest_end(nlh, hook);
		mnl_attr_put_u32(nlh, NFTA_CHAIN_POLICY, htonl(NF_ACCEPT));
	}
	message_end(w, nlh);
}

/* The hook is the same for all: ingress of a device, priority filter. */
static struct nlmsghdr *flowtable_begin(struct wire *w, enum family family,
					uint16_t type, uint16_t flags,
					struct nlattr **hook)
{
	struct nlmsghdr *nlh = object_begin(w, family, type, flags,
					    NFTA_FLOWTABLE_NAME, FLOWTABLE_NAME);

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
	struct nlmsghdr *nlh = flowtable_begin(w, family, NFT_MSG_NEWFLOWTABLE,
					       NLM_F_CREATE | NLM_F_EXCL, &hook);

	if (!nlh)
		return;
	mnl_attr_nest_end(nlh, hook);
	message_end(w, nlh);
}

void encode_flowtable_device(struct wire *w, enum family family,
			     const char *device, bool remove)
{
	struct nlattr *hook, *devices;
	struct nlmsghdr *nlh = flowtable_begin(
		w, family, remove ? NFT_MSG_DELFLOWTABLE : NFT_MSG_NEWFLOWTABLE,
		0, &hook);

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
	object_message(w, family, NFT_MSG_DELFLOWTABLE, NFTA_FLOWTABLE_NAME,
		       FLOWTABLE_NAME);
}

/* With all rules in it. */
void encode_chain_delete(struct wire *w, enum family family, const char *name)
{
	assert(*name);
	object_message(w, family, NFT_MSG_DELCHAIN, NFTA_CHAIN_NAME, name);
}

void encode_rules_flush(struct wire *w, enum family family, const char *chain)
{
	assert(*chain);
	object_message(w, family, NFT_MSG_DELRULE, NFTA_RULE_CHAIN, chain);
}
