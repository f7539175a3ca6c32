/*
 * Elements are the bulk of a transaction (a million of them is the cold start of a large cluster),
 * so they are put down by hand, without allocation for each, with the layout of the set at hand. A
 * list of elements is one attribute, whose length has 16 bits; a longer list goes on in another
 * message.
 *
 * Owners are found by counting elements from the start: only failures pay for that.
 */
#include "nft/encode_elements.h"

#include <assert.h>
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include <libnftnl/udata.h>

#include "proxy/base/array.h"

void elements_init(struct elements *s, enum set_id set, bool add)
{
	assert(set < N_ELEMENT_SETS);
	*s = (struct elements){ .set = set, .add = add };
}

void elements_free(struct elements *s)
{
	wire_free(&s->wire);
	free(s->runs);
	free(s->ranges);
	s->runs = NULL;
	s->ranges = NULL;
	s->n_runs = s->runs_room = 0;
}

static void push_owner(struct elements *s, void *owner)
{
	if (s->n_runs && s->runs[s->n_runs - 1].owner == owner) {
		s->runs[s->n_runs - 1].count++;
		return;
	}
	if (array_grow(s->runs, s->n_runs, s->runs_room)) {
		s->wire.err = -ENOMEM;
		return;
	}
	s->runs[s->n_runs++] = (struct owner_run){ .owner = owner, .count = 1 };
}

static void begin_list(struct elements *s, enum family family)
{
	enum { ROOM = 128 }; /* for the name of the table and attributes */
	const char *name = s->ranges ? s->ranges : set_name(s->set);
	struct nlmsghdr *nlh;

	nlh = message_begin(&s->wire, family,
			    s->add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
			    s->add ? NLM_F_CREATE : 0, ROOM + strlen(name));
	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, TABLE_NAME);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, name);
	s->message = s->wire.length;
	s->list = s->message + nlh->nlmsg_len;
	mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	message_end(&s->wire, nlh);
}

/* Room for an element at the end of the list, in a new message if need be; NULL after a failure. */
static uint8_t *element_begin(struct elements *s, enum family family, size_t room)
{
	if (!s->wire.length || s->list_ended ||
	    s->wire.length - s->list + room > UINT16_MAX)
		begin_list(s, family);
	s->list_ended = false;
	return wire_reserve(&s->wire, room);
}

static void put_length(uint8_t *at, size_t length)
{
	uint16_t attr_length = (uint16_t)length;

	assert(length <= UINT16_MAX);
	memcpy(at, &attr_length, sizeof(attr_length));
}

/* Closes the attribute from @begin to @end, and the list and the message that hold it. */
static void element_end(struct elements *s, uint8_t *begin, const uint8_t *end,
			void *owner)
{
	uint32_t message_length;

	/* The room, and what the length of an attribute can say. */
	assert(s->wire.length + (size_t)(end - begin) <= s->wire.size);
	assert(s->wire.length + (size_t)(end - begin) - s->list <= UINT16_MAX);
	put_length(begin, (size_t)(end - begin));
	s->wire.length += (size_t)(end - begin);
	put_length(s->wire.bytes + s->list, s->wire.length - s->list);
	message_length = (uint32_t)(s->wire.length - s->message);
	memcpy(s->wire.bytes + s->message, &message_length, sizeof(message_length));
	push_owner(s, owner);
}

/* Attributes: each returns where the next one begins. The room is zeroed, and so padding is. */

static uint8_t *attr_header(uint8_t *at, uint16_t type, size_t length)
{
	const struct nlattr header = {
		.nla_len = (uint16_t)(NLA_HDRLEN + length),
		.nla_type = type,
	};

	assert(NLA_HDRLEN + length <= UINT16_MAX);
	memcpy(at, &header, sizeof(header));
	return at + NLA_HDRLEN;
}

/* NFTA_DATA_VALUE in an attribute. @length is a multiple of 4. */
static uint8_t *attr_value(uint8_t *at, uint16_t type, const uint8_t *value,
			   size_t length)
{
	assert(length % 4 == 0 && length);
	at = attr_header(at, type | NLA_F_NESTED, NLA_HDRLEN + length);
	at = attr_header(at, NFTA_DATA_VALUE, length);
	memcpy(at, value, length);
	return at + length;
}

static uint8_t *put_attr_u32(uint8_t *at, uint16_t type, uint32_t value)
{
	uint32_t value_be = htonl(value);

	at = attr_header(at, type, sizeof(value_be));
	memcpy(at, &value_be, sizeof(value_be));
	return at + sizeof(value_be);
}

static uint8_t *attr_u64(uint8_t *at, uint16_t type, uint64_t value)
{
	uint64_t value_be = htobe64(value);

	at = attr_header(at, type, sizeof(value_be));
	memcpy(at, &value_be, sizeof(value_be));
	return at + sizeof(value_be);
}

enum {
	COUNTER_NAME = NLA_ALIGN(sizeof("counter")),
	COUNTER_DATA = 2 * (NLA_HDRLEN + 8),
	COUNTER = 3 * NLA_HDRLEN + COUNTER_NAME + COUNTER_DATA,
};

/* Where it begins. Bytes mean nothing of what only sees the first packet. */
static uint8_t *attr_counter(uint8_t *at, uint64_t count)
{
	at = attr_header(at, NFTA_SET_ELEM_EXPR | NLA_F_NESTED,
			 COUNTER - NLA_HDRLEN);
	at = attr_header(at, NFTA_EXPR_NAME, sizeof("counter"));
	memcpy(at, "counter", sizeof("counter"));
	at += COUNTER_NAME;
	at = attr_header(at, NFTA_EXPR_DATA | NLA_F_NESTED, COUNTER_DATA);
	at = attr_u64(at, NFTA_COUNTER_BYTES, 0);
	return attr_u64(at, NFTA_COUNTER_PACKETS, count);
}

static uint8_t *attr_verdict(uint8_t *at, const struct verdict *verdict,
			     const char *chain)
{
	const uint32_t code = chain ? (uint32_t)NFT_GOTO
			      : verdict->kind == VERDICT_PASS ? NF_ACCEPT
							      : NF_DROP;
	size_t length = chain ? strlen(chain) + 1 : 0;
	size_t size =
		NLA_HDRLEN + 4 + (chain ? NLA_HDRLEN + NLA_ALIGN(length) : 0);

	at = attr_header(at, NFTA_SET_ELEM_DATA | NLA_F_NESTED, NLA_HDRLEN + size);
	at = attr_header(at, NFTA_DATA_VERDICT | NLA_F_NESTED, size);
	at = put_attr_u32(at, NFTA_VERDICT_CODE, code);
	if (chain) {
		at = attr_header(at, NFTA_VERDICT_CHAIN, length);
		memcpy(at, chain, length);
		at += NLA_ALIGN(length);
	}
	return at;
}

static uint8_t *attr_comment(uint8_t *at, const char *comment)
{
	char text[COMMENT_MAX + 1];
	size_t length = comment_copy(comment, text) + 1;

	assert(2 + length <= UINT8_MAX);
	at = attr_header(at, NFTA_SET_ELEM_USERDATA, 2 + length);
	at[0] = NFTNL_UDATA_SET_ELEM_COMMENT;
	at[1] = (uint8_t)length;
	memcpy(at + 2, text, length);
	return at + NLA_ALIGN(2 + length);
}

/* Keys and data as the kernel has them: each field padded with zeros to 4 bytes. */

static size_t put_address(uint8_t *at, enum family family, const struct addr *addr)
{
	memcpy(at, addr->bytes, family_size(family));
	return family_size(family);
}

static size_t put_port_be(uint8_t *at, uint16_t port)
{
	at[0] = (uint8_t)(port >> 8);
	at[1] = (uint8_t)port;
	return 4;
}

/* @key is zeroed. Returns the size. */
static size_t put_element_key(uint8_t *key, enum family family,
			      const struct key *fields, const struct element *e)
{
	size_t at = 0;
	unsigned int i;

	for (i = 0; i < fields->n; i++) {
		switch ((enum field)fields->fields[i]) {
		case FIELD_SADDR: /* hairpin: an endpoint that is its own client */
		case FIELD_DADDR:
			at += put_address(key + at, family, &e->addr);
			break;
		case FIELD_PROTOCOL:
			key[at] = e->protocol;
			at += 4;
			break;
		case FIELD_PORT:
			at += put_port_be(key + at, e->port);
			break;
		case FIELD_INDEX:
			memcpy(key + at, &e->index, sizeof(e->index));
			at += 4;
			break;
		case FIELD_ORIGINAL:
			assert(!"no set has it");
			break;
		}
	}
	return at;
}

static uint8_t *put_endpoint_data(uint8_t *at, enum family family,
				  const struct element *e)
{
	uint8_t data[DATA_SIZE_MAX] = { 0 };
	size_t size = put_address(data, family, &e->endpoint);

	size += put_port_be(data + size, e->endpoint_port);
	return attr_value(at, NFTA_SET_ELEM_DATA, data, size);
}

/* At least what put_element() will write. Exact sizes are not worth it: the end is what counts. */
static size_t element_room(const struct element *e, const char *chain)
{
	enum {
		KEYS = 2 * NLA_HDRLEN + KEY_SIZE_MAX,
		DATA = 4 * NLA_HDRLEN + DATA_SIZE_MAX + 4,
		COMMENT = NLA_HDRLEN + 2 + COMMENT_MAX + 1 + 3,
	};

	return NLA_HDRLEN + KEYS + DATA + (chain ? strlen(chain) + 4 : 0) +
	       (e->comment ? COMMENT : 0) + (e->count ? COUNTER : 0);
}

static void put_element(struct elements *s, enum family family,
			const struct element *e, const char *chain, void *owner)
{
	const struct set_layout *layout = set_layout(s->set);
	uint8_t key[KEY_SIZE_MAX] = { 0 };
	uint8_t *begin = element_begin(s, family, element_room(e, chain)), *at;
	size_t size;

	if (!begin)
		return;
	at = attr_header(begin, NFTA_LIST_ELEM | NLA_F_NESTED, 0);
	size = put_element_key(key, family, &layout->key, e);
	assert(size == key_size(family, &layout->key));
	at = attr_value(at, NFTA_SET_ELEM_KEY, key, size);
	if (s->add && layout->data == DATA_VERDICT)
		at = attr_verdict(at, &e->verdict, chain);
	else if (s->add && layout->data == DATA_ENDPOINT)
		at = put_endpoint_data(at, family, e);
	if (s->add && e->comment)
		at = attr_comment(at, e->comment);
	if (s->add && e->count)
		at = attr_counter(at, e->count);
	element_end(s, begin, at, owner);
}

static void put_bound(struct elements *s, enum family family,
		      const struct addr *addr, uint32_t flags, void *owner)
{
	enum { ROOM = 5 * NLA_HDRLEN + 16 + 4 };
	uint8_t *begin = element_begin(s, family, ROOM), *at;

	if (!begin)
		return;
	at = attr_header(begin, NFTA_LIST_ELEM | NLA_F_NESTED, 0);
	at = attr_value(at, NFTA_SET_ELEM_KEY, addr->bytes, family_size(family));
	if (flags)
		at = put_attr_u32(at, NFTA_SET_ELEM_FLAGS, flags);
	element_end(s, begin, at, owner);
}

/*
 * A range in a set of plain addresses is two elements: where it begins, and the first address
 * behind it. One that reaches to the last address of all has no end.
 */
static void put_range(struct elements *s, enum family family,
		      const struct prefix *range, void *owner)
{
	struct addr end = prefix_last(family, range);
	size_t i = family_size(family);

	assert(range->length <= family_bits(family));
	put_bound(s, family, &range->addr, 0, owner);
	while (i && ++end.bytes[i - 1] == 0)
		i--;
	if (i)
		put_bound(s, family, &end, NFT_SET_ELEM_INTERVAL_END, owner);
}

/* Another set takes another message. */
static bool ranges_turn(struct elements *s, const char *ranges)
{
	assert(ranges && s->set == SET_SOURCE_RANGES);
	if (s->ranges && strcmp(s->ranges, ranges) == 0)
		return true;
	free(s->ranges);
	s->ranges = strdup(ranges);
	if (!s->ranges)
		s->wire.err = -ENOMEM;
	s->list_ended = true;
	return s->ranges;
}

void elements_put(struct elements *s, enum family family,
		  const struct element *e, const char *chain, void *owner)
{
	assert(e->set == s->set);
	if (s->set == SET_SOURCE_RANGES && !ranges_turn(s, e->ranges))
		return;
	if (set_has_range(s->set))
		put_range(s, family, &e->range, owner);
	else
		put_element(s, family, e, chain, owner);
}

/* Looking back */

static const struct nlmsghdr *element_message(const struct elements *s,
					      size_t position)
{
	assert(position < s->wire.length);
	return (const struct nlmsghdr *)(const void *)(s->wire.bytes + position);
}

static const struct nlattr *list_at(const struct nlmsghdr *nlh)
{
	const struct nlattr *attr;

	for_each_attr (attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_LIST_ELEMENTS)
			return attr;
	return NULL;
}

static size_t count_elements(const struct nlmsghdr *nlh)
{
	const struct nlattr *attr, *list = list_at(nlh);
	size_t count = 0;

	if (list)
		for_each_attr_in (attr, list)
			count++;
	return count;
}

/* The element that holds the byte at @offset of the message, and its place in the list. */
static const struct nlattr *element_at(const struct nlmsghdr *nlh,
				       uint32_t offset, size_t *place)
{
	const struct nlattr *attr, *list = list_at(nlh);
	size_t begin;

	*place = 0;
	if (!list || !offset)
		return NULL;
	for_each_attr_in (attr, list) {
		begin = (size_t)((const char *)attr - (const char *)nlh);
		if (offset >= begin && offset < begin + attr->nla_len)
			return attr;
		++*place;
	}
	return NULL;
}

/* Of elements @from to @from + @count - 1. */
static void *owner_of(const struct elements *s, size_t from, size_t count)
{
	size_t i;

	for (i = 0; i < s->n_runs && from >= s->runs[i].count; i++)
		from -= s->runs[i].count;
	if (i == s->n_runs || from + count > s->runs[i].count)
		return NULL;
	return s->runs[i].owner;
}

void *elements_owner(const struct elements *s, size_t position, uint32_t offset)
{
	const struct nlmsghdr *nlh = element_message(s, position);
	size_t before = 0, at = 0, place;

	for (at = 0; at < position;
	     at += NLMSG_ALIGN(element_message(s, at)->nlmsg_len))
		before += count_elements(element_message(s, at));
	if (element_at(nlh, offset, &place))
		return owner_of(s, before + place, 1);
	return owner_of(s, before, count_elements(nlh));
}

static void print_key_field(struct strbuf *out, enum family family,
			    enum field field, const uint8_t *value)
{
	struct addr addr = { { 0 } };
	char text[ADDR_TEXT_SIZE];
	uint32_t index;

	switch (field) {
	case FIELD_SADDR:
	case FIELD_DADDR:
		memcpy(addr.bytes, value, family_size(family));
		strbuf_adds(out, addr_format(family, &addr, text));
		break;
	case FIELD_PROTOCOL:
		strbuf_adds(out, protocol_name(value[0]));
		break;
	case FIELD_PORT:
		strbuf_addf(out, "%u", value[0] << 8 | value[1]);
		break;
	case FIELD_INDEX:
		memcpy(&index, value, sizeof(index));
		strbuf_addf(out, "%u", index);
		break;
	case FIELD_ORIGINAL:
		break;
	}
}

void elements_print(const struct elements *s, size_t position, uint32_t offset,
		    enum family family, struct strbuf *out)
{
	const struct key *key = &set_layout(s->set)->key;
	const struct nlattr *element, *value;
	const uint8_t *at;
	unsigned int i;
	size_t place;

	element = element_at(element_message(s, position), offset, &place);
	if (!element)
		return;
	/* The key comes first in an element, as NFTA_DATA_VALUE in NFTA_SET_ELEM_KEY. */
	value = mnl_attr_get_payload(mnl_attr_get_payload(element));
	at = mnl_attr_get_payload(value);
	for (i = 0; i < key->n; i++) {
		if (i)
			strbuf_adds(out, " . ");
		print_key_field(out, family, key->fields[i], at);
		at += (field_size(family, key->fields[i]) + 3) & ~3u;
	}
}
