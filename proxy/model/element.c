/* Names and comparison of elements. The kernel's names are part of the interface to people who read
 * "nft list": they do not change from version to version. */
#include "proxy/model/element.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum set_traits {
	HAS_VERDICT = 1 << 0,
	HAS_ENDPOINT = 1 << 1,
	HAS_INDEX = 1 << 2,
	IS_NODEPORT = 1 << 3,
	HAS_RANGE = 1 << 4,
	IS_SHARED = 1 << 5,
	IS_COUNTED = 1 << 6,
};

enum { LIST = HAS_ENDPOINT | HAS_INDEX | IS_COUNTED };

/*
 * Session affinity decides whom a client is remembered for after its element has been looked up: a
 * count of sticky-endpoints would be of draws and not of connections.
 */
static const struct {
	const char *name;
	unsigned int traits;
} sets[N_ELEMENT_SETS] = {
	[SET_CLUSTER_IPS] = { "cluster-ips", IS_SHARED },
	[SET_NODEPORT_IPS] = { "nodeport-ips", 0 },
	[SET_SERVICE_CIDRS] = { "service-cidrs", HAS_RANGE },
	[SET_HAIRPIN] = { "hairpin", IS_SHARED },
	[SET_NO_MASQUERADE] = { "no-masquerade-cidrs", HAS_RANGE },
	[SET_PING_IPS] = { "ping-ips", IS_SHARED },
	[MAP_SERVICE_IPS] = { "service-ips", HAS_VERDICT | IS_COUNTED },
	[MAP_SERVICE_NODEPORTS] = { "service-nodeports",
				    HAS_VERDICT | IS_NODEPORT | IS_COUNTED },
	[MAP_FIREWALLED] = { "firewalled", HAS_VERDICT },
	[MAP_CLUSTER_POLICY] = { "cluster-policy", HAS_VERDICT },
	[MAP_LOCAL_POLICY] = { "local-policy", HAS_VERDICT },
	[MAP_NODEPORT_CLUSTER_POLICY] = { "nodeport-cluster-policy",
					  HAS_VERDICT | IS_NODEPORT },
	[MAP_NODEPORT_LOCAL_POLICY] = { "nodeport-local-policy",
					HAS_VERDICT | IS_NODEPORT },
	[MAP_ENDPOINTS] = { "endpoints", LIST },
	[MAP_LOCAL_ENDPOINTS] = { "local-endpoints", LIST },
	[MAP_NODEPORT_ENDPOINTS] = { "nodeport-endpoints", LIST | IS_NODEPORT },
	[MAP_NODEPORT_LOCAL_ENDPOINTS] = { "nodeport-local-endpoints",
					   LIST | IS_NODEPORT },
	[MAP_STICKY_ENDPOINTS] = { "sticky-endpoints", HAS_VERDICT | HAS_INDEX },
	[MAP_STICKY_LOCAL_ENDPOINTS] = { "sticky-local-endpoints",
					 HAS_VERDICT | HAS_INDEX },
	[MAP_STICKY_NODEPORT_ENDPOINTS] = { "sticky-nodeport-endpoints",
					    HAS_VERDICT | HAS_INDEX | IS_NODEPORT },
	[MAP_STICKY_NODEPORT_LOCAL_ENDPOINTS] = { "sticky-nodeport-local-endpoints",
						  HAS_VERDICT | HAS_INDEX |
							  IS_NODEPORT },
	[SET_SOURCE_RANGES] = { "ranges", HAS_RANGE },
};

const char *set_name(enum set_id set)
{
	assert(set < N_ELEMENT_SETS);
	return sets[set].name;
}

static unsigned int traits_of(enum set_id set)
{
	assert(set < N_ELEMENT_SETS);
	return sets[set].traits;
}

bool set_has_verdict(enum set_id set)
{
	return traits_of(set) & HAS_VERDICT;
}

bool set_has_endpoint(enum set_id set)
{
	return traits_of(set) & HAS_ENDPOINT;
}

bool set_has_index(enum set_id set)
{
	return traits_of(set) & HAS_INDEX;
}

bool set_is_nodeport(enum set_id set)
{
	return traits_of(set) & IS_NODEPORT;
}

bool set_has_range(enum set_id set)
{
	return traits_of(set) & HAS_RANGE;
}

bool set_is_shared(enum set_id set)
{
	return traits_of(set) & IS_SHARED;
}

bool set_is_counted(enum set_id set)
{
	return traits_of(set) & IS_COUNTED;
}

/* In the order in which they stand in a chain's name. */
static const struct {
	unsigned int flag;
	const char *word;
} pick_words[] = {
	{ PICK_CLUSTER, "cluster-" }, { PICK_EXTERNAL, "external-" },
	{ PICK_STICKY, "sticky-" },   { PICK_NODEPORT, "nodeport-" },
	{ PICK_LOCAL, "local-" },
};

enum { N_PICK_WORDS = sizeof(pick_words) / sizeof(pick_words[0]) };

char *pick_name(const struct verdict *pick, char *text)
{
	size_t i, length = 0;

	assert(pick->count && pick->pick < N_PICKS);
	text[0] = '\0';
	for (i = 0; i < N_PICK_WORDS; i++)
		if (pick->pick & pick_words[i].flag)
			length += (size_t)snprintf(text + length,
						   PICK_NAME_SIZE - length,
						   "%s", pick_words[i].word);
	snprintf(text + length, PICK_NAME_SIZE - length, "pick-%u", pick->count);
	assert(length < PICK_NAME_SIZE);
	return text;
}

int pick_parse(const char *name, struct verdict *pick)
{
	struct verdict v = { .kind = VERDICT_PICK };
	unsigned long count;
	size_t i, length;
	char *end;

	for (i = 0; i < N_PICK_WORDS; i++) {
		length = strlen(pick_words[i].word);
		if (strncmp(name, pick_words[i].word, length) == 0) {
			v.pick |= (uint8_t)pick_words[i].flag;
			name += length;
		}
	}
	if (strncmp(name, "pick-", 5) || name[5] < '1' || name[5] > '9')
		return -EINVAL;
	errno = 0;
	count = strtoul(name + 5, &end, 10);
	if (errno || *end || count > UINT32_MAX)
		return -EINVAL;
	v.count = (uint32_t)count;
	*pick = v;
	return 0;
}

static int number_compare(uint32_t a, uint32_t b)
{
	return (a > b) - (a < b);
}

int element_key_compare(const struct element *a, const struct element *b)
{
	int order = number_compare(a->set, b->set);

	if (!order && a->ranges && b->ranges)
		order = strcmp(a->ranges, b->ranges);
	if (!order)
		order = addr_compare(&a->addr, &b->addr);
	if (!order)
		order = number_compare(a->protocol, b->protocol);
	if (!order)
		order = number_compare(a->port, b->port);
	if (!order)
		order = addr_compare(&a->range.addr, &b->range.addr);
	if (!order)
		order = number_compare(a->range.length, b->range.length);
	if (!order)
		order = number_compare(a->index, b->index);
	return order;
}

static bool text_equal(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool element_data_equal(const struct element *a, const struct element *b)
{
	return a->verdict.kind == b->verdict.kind &&
	       a->verdict.pick == b->verdict.pick &&
	       a->verdict.count == b->verdict.count &&
	       addr_compare(&a->endpoint, &b->endpoint) == 0 &&
	       a->endpoint_port == b->endpoint_port &&
	       text_equal(a->chain, b->chain) &&
	       text_equal(a->comment, b->comment);
}
