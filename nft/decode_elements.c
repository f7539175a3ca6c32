/*
 * Elements out of netlink. Strict: what we read is compared with what we want,
 * and whatever this file lets pass must come out of batch.c again as it came
 * in. The kernel's answer is trusted no more than anybody else's; lengths are
 * checked throughout.
 */
#include "nft/decode_elements.h"

#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include "nft/attr.h"
#include "nft/request.h"
#include "nft/layout.h"

enum { UDATA_COMMENT = 0 }; /* NFTNL_UDATA_SET_ELEM_COMMENT */

static bool name_begins(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* sticky/..., sticky-local/... */
static bool name_is_sticky(const char *name)
{
	return name_begins(name, "sticky/") || name_begins(name, "sticky-local/");
}

bool name_is_affinity(const char *name)
{
	return name_begins(name, "affinity/") ||
	       name_begins(name, "affinity-local/");
}

bool name_is_ranges(const char *name)
{
	return name_begins(name, RANGES_PREFIX);
}

bool expression_is(const struct nlattr *expression, const char *name)
{
	const struct nlattr *attrs[NFTA_EXPR_MAX + 1];
	const char *found;

	nested_attrs(expression, attrs, NFTA_EXPR_MAX + 1);
	found = attr_string(attrs[NFTA_EXPR_NAME]);
	return found && strcmp(found, name) == 0;
}

int verdict_parse(const char *name, struct verdict *verdict)
{
	static const struct verdict constant[] = {
		{ .kind = VERDICT_REJECT },
		{ .kind = VERDICT_EXTERNAL_LOCAL },
		{ .kind = VERDICT_EXTERNAL_LOCAL, .pick = PICK_NODEPORT },
	};
	char text[PICK_NAME_SIZE];
	size_t i;

	if (name_is_sticky(name)) {
		*verdict = (struct verdict){ .kind = VERDICT_STICKY };
		return 0;
	}
	if (name_begins(name, FIREWALL_PREFIX)) {
		*verdict = (struct verdict){ .kind = VERDICT_FIREWALL };
		return 0;
	}
	/* Only the one name that we would give it: flags in another order are somebody else's. */
	if (pick_parse(name, verdict) == 0)
		return strcmp(pick_name(verdict, text), name) == 0 ? 0 : -EINVAL;
	for (i = 0; i < sizeof(constant) / sizeof(constant[0]); i++)
		if (strcmp(verdict_chain(&constant[i], NULL, text), name) == 0) {
			*verdict = constant[i];
			return 0;
		}
	return -EINVAL;
}

/* The bytes of NFTA_DATA_VALUE in @data, if there are exactly @size of them. */
static const uint8_t *sized_value(const struct nlattr *data, size_t size)
{
	const struct nlattr *attrs[NFTA_DATA_MAX + 1];

	nested_attrs(data, attrs, NFTA_DATA_MAX + 1);
	if (!attrs[NFTA_DATA_VALUE] ||
	    mnl_attr_get_payload_len(attrs[NFTA_DATA_VALUE]) != size)
		return NULL;
	return mnl_attr_get_payload(attrs[NFTA_DATA_VALUE]);
}

static bool is_zero(const uint8_t *bytes, size_t length)
{
	while (length)
		if (bytes[--length])
			return false;
	return true;
}

/* An element's key with all that may be in one. */
struct key_fields {
	struct addr saddr, daddr;
	uint8_t protocol;
	uint16_t port;
	uint32_t index;
};

static int key_decode(enum family family, const struct key *key,
		      const struct nlattr *attr, struct key_fields *f)
{
	const uint8_t *at = sized_value(attr, key_size(family, key));
	unsigned int i, size;

	memset(f, 0, sizeof(*f));
	if (!at)
		return -EINVAL;
	for (i = 0; i < key->n; i++) {
		size = field_size(family, key->fields[i]);
		switch ((enum field)key->fields[i]) {
		case FIELD_SADDR:
			memcpy(f->saddr.bytes, at, size);
			break;
		case FIELD_DADDR:
			memcpy(f->daddr.bytes, at, size);
			break;
		case FIELD_PROTOCOL:
			f->protocol = at[0];
			break;
		case FIELD_PORT:
			f->port = (uint16_t)(at[0] << 8 | at[1]);
			break;
		case FIELD_INDEX:
			memcpy(&f->index, at, sizeof(f->index));
			break;
		case FIELD_ORIGINAL:
			break;
		}
		if (!is_zero(at + size, -size & 3))
			return -EINVAL;
		at += (size + 3) & ~3u;
	}
	return 0;
}

int endpoint_decode(enum family family, const struct nlattr *data,
		    struct addr *addr, uint16_t *port)
{
	const size_t size = family_size(family);
	const uint8_t *at = sized_value(data, size + 4);

	if (!at || !is_zero(at + size + 2, 2))
		return -EINVAL;
	memset(addr, 0, sizeof(*addr));
	memcpy(addr->bytes, at, size);
	*port = (uint16_t)(at[size] << 8 | at[size + 1]);
	return 0;
}

static int verdict_decode(const struct nlattr *data, struct element *e)
{
	const struct nlattr *attrs[NFTA_DATA_MAX + 1],
		*verdict[NFTA_VERDICT_MAX + 1];
	const char *chain;

	nested_attrs(data, attrs, NFTA_DATA_MAX + 1);
	nested_attrs(attrs[NFTA_DATA_VERDICT], verdict, NFTA_VERDICT_MAX + 1);
	chain = attr_string(verdict[NFTA_VERDICT_CHAIN]);
	switch ((int)attr_u32(verdict[NFTA_VERDICT_CODE], (uint32_t)NFT_CONTINUE)) {
	case NF_DROP:
		e->verdict.kind = VERDICT_DROP;
		return 0;
	case NF_ACCEPT:
		e->verdict.kind = VERDICT_PASS;
		return 0;
	case NFT_GOTO:
		if (!chain || verdict_parse(chain, &e->verdict))
			return -EINVAL;
		if (e->verdict.kind == VERDICT_STICKY ||
		    e->verdict.kind == VERDICT_FIREWALL)
			e->chain = chain;
		return 0;
	}
	return -EINVAL;
}

/* Userdata: type, length (a byte each), value; the comment's value ends with a zero byte. */
static const char *comment_decode(const struct nlattr *attr)
{
	const uint8_t *u = attr ? mnl_attr_get_payload(attr) : NULL;
	size_t left = attr ? mnl_attr_get_payload_len(attr) : 0;

	while (left >= 2 && u[1] <= left - 2) {
		if (u[0] == UDATA_COMMENT && u[1] && u[1 + u[1]] == '\0')
			return (const char *)u + 2;
		left -= 2u + u[1];
		u += 2u + u[1];
	}
	return NULL;
}

static uint64_t number_decode(const struct nlattr *attr)
{
	uint64_t number_be = 0;

	if (attr && mnl_attr_get_payload_len(attr) == sizeof(number_be))
		memcpy(&number_be, mnl_attr_get_payload(attr), sizeof(number_be));
	return be64toh(number_be);
}

/* The packets of a counter; 0 if it is none. */
static uint64_t counter_decode(const struct nlattr *attr)
{
	const struct nlattr *expr[NFTA_EXPR_MAX + 1], *data[NFTA_COUNTER_MAX + 1];

	nested_attrs(attr, expr, NFTA_EXPR_MAX + 1);
	if (!expression_is(attr, "counter"))
		return 0;
	nested_attrs(expr[NFTA_EXPR_DATA], data, NFTA_COUNTER_MAX + 1);
	return number_decode(data[NFTA_COUNTER_PACKETS]);
}

/* @last is the last address of the range, not the first behind it. */
static int range_to_prefix(enum family family, const struct addr *first,
			   const struct addr *last, struct prefix *prefix)
{
	struct prefix p = { .addr = *first };
	struct addr end;
	unsigned int i, bits = family_bits(family);

	for (i = 0; i < bits; i++)
		if ((first->bytes[i / 8] ^ last->bytes[i / 8]) & (0x80 >> i % 8))
			break;
	p.length = (uint8_t)i;
	end = prefix_last(family, &p);
	/* It contains its own address only if that has no host bits. */
	if (!prefix_contains(&p, first) || addr_compare(&end, last))
		return -EINVAL;
	*prefix = p;
	return 0;
}

int element_decode(enum family family, enum set_id set,
		   const struct nlattr *attr, struct element *element)
{
	const struct set_layout *layout = set_layout(set);
	const struct nlattr *attrs[NFTA_SET_ELEM_MAX + 1];
	struct element e = { .set = set };
	struct key_fields f;

	nested_attrs(attr, attrs, NFTA_SET_ELEM_MAX + 1);
	if (key_decode(family, &layout->key, attrs[NFTA_SET_ELEM_KEY], &f))
		return -EINVAL;
	e.addr = f.daddr;
	e.protocol = f.protocol;
	e.port = f.port;
	e.index = f.index;
	e.comment = comment_decode(attrs[NFTA_SET_ELEM_USERDATA]);
	if (set_is_counted(set))
		e.count = counter_decode(attrs[NFTA_SET_ELEM_EXPR]);
	if (set == SET_HAIRPIN && addr_compare(&f.saddr, &f.daddr))
		return -EINVAL;
	if (layout->data == DATA_VERDICT &&
	    verdict_decode(attrs[NFTA_SET_ELEM_DATA], &e))
		return -EINVAL;
	if (layout->data == DATA_ENDPOINT &&
	    endpoint_decode(family, attrs[NFTA_SET_ELEM_DATA], &e.endpoint,
			    &e.endpoint_port))
		return -EINVAL;
	*element = e;
	return 0;
}

int bound_decode(enum family family, const struct nlattr *attr, struct bound *bound)
{
	const struct nlattr *attrs[NFTA_SET_ELEM_MAX + 1];
	struct key_fields f;
	uint32_t flags;

	nested_attrs(attr, attrs, NFTA_SET_ELEM_MAX + 1);
	flags = attr_u32(attrs[NFTA_SET_ELEM_FLAGS], 0);
	if (key_decode(family, &set_layout(SET_SERVICE_CIDRS)->key,
		       attrs[NFTA_SET_ELEM_KEY], &f) ||
	    flags & ~(uint32_t)NFT_SET_ELEM_INTERVAL_END)
		return -EINVAL;
	*bound = (struct bound){ .addr = f.daddr,
				 .is_end = flags & NFT_SET_ELEM_INTERVAL_END };
	return 0;
}

/* At the same address the end of one range comes before the start of the next. */
static int bound_compare(const void *a, const void *b)
{
	const struct bound *x = a, *y = b;
	int order = addr_compare(&x->addr, &y->addr);

	return order ? order : y->is_end - x->is_end;
}

static struct addr bound_before(enum family family, struct addr addr)
{
	size_t i = family_size(family);

	while (i && addr.bytes[--i]-- == 0)
		;
	return addr;
}

int bounds_join(enum family family, struct bound *bounds, unsigned int count,
		int (*found)(void *ctx, const struct prefix *prefix), void *ctx)
{
	const struct addr zero = { { 0 } };
	const struct prefix all = { .length = 0 };
	struct prefix prefix;
	struct addr last;
	unsigned int i;
	int err;

	if (count)
		qsort(bounds, count, sizeof(*bounds), bound_compare);
	for (i = 0; i < count; i++) {
		if (bounds[i].is_end) {
			/* nft begins a set with "nothing up to here". */
			if (i == 0 && addr_compare(&bounds[i].addr, &zero) == 0)
				continue;
			return -EINVAL;
		}
		last = prefix_last(family, &all);
		if (i + 1 < count && !bounds[i + 1].is_end)
			return -EINVAL;
		if (i + 1 < count)
			last = bound_before(family, bounds[i + 1].addr);
		if (range_to_prefix(family, &bounds[i].addr, &last, &prefix))
			return -EINVAL;
		err = found(ctx, &prefix);
		if (err)
			return err;
		i++;
	}
	return 0;
}
