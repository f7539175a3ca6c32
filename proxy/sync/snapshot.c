/*
 * One array of fixed-size entries, found by an open hash of indices; names of chains go to a pool.
 * Comments are kept as hashes: they are only compared.
 *
 * Looking up costs cache misses above all. So a bucket holds half of the hash, which spares looking
 * at the wrong entries, and since large lists are read in order, what follows the entry that was
 * found last is tried first.
 */
#include "proxy/sync/snapshot.h"

#include "proxy/base/hashtab.h"
#include "proxy/base/strbuf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	struct addr addr;
	struct addr data; /* endpoint, or start of the range */
	uint32_t index;
	uint32_t chain;	  /* offset in the pool; 0: none */
	uint32_t comment; /* hash; 0: none */
	uint32_t count;	  /* of the verdict */
	uint16_t port, data_port;
	uint8_t set, protocol, range_length, kind, pick;
	bool seen;
};

struct bucket {
	uint32_t number; /* index + 1; 0: free */
	uint32_t hash;	 /* its upper half */
};

struct snapshot {
	enum family family;
	struct entry *entries;
	size_t count, size;
	size_t last; /* that was matched */
	struct bucket *buckets;
	size_t n_buckets;
	struct strbuf pool;
	int err;
};

struct snapshot *snapshot_new(enum family family)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	if (s)
		s->family = family;
	return s;
}

void snapshot_free(struct snapshot *s)
{
	if (!s)
		return;
	free(s->entries);
	free(s->buckets);
	strbuf_free(&s->pool);
	free(s);
}

int snapshot_error(const struct snapshot *s)
{
	return s->err ? s->err : s->pool.err;
}

size_t snapshot_count(const struct snapshot *s)
{
	return s->count;
}

void snapshot_clear(struct snapshot *s)
{
	s->count = s->last = 0;
	if (s->buckets)
		memset(s->buckets, 0, s->n_buckets * sizeof(*s->buckets));
	strbuf_reset(&s->pool);
}

void snapshot_unsee(struct snapshot *s)
{
	size_t i;

	for (i = 0; i < s->count; i++)
		s->entries[i].seen = false;
}

static uint64_t entry_hash(const struct entry *e)
{
	const uint32_t rest[2] = { e->index,
				   (uint32_t)e->port << 16 | (uint32_t)e->protocol << 8 | e->set };
	uint64_t hash = hash_bytes(HASH_SEED, &e->addr, sizeof(e->addr));

	hash = hash_bytes(hash, rest, sizeof(rest));
	if (set_has_range(e->set))
		hash = hash_bytes(hash, &e->data, sizeof(e->data)) ^ e->range_length;
	return hash;
}

static bool same_key(const struct entry *a, const struct entry *b)
{
	return a->set == b->set && a->protocol == b->protocol && a->port == b->port &&
	       a->index == b->index && addr_compare(&a->addr, &b->addr) == 0 &&
	       (!set_has_range(a->set) ||
		(a->range_length == b->range_length && addr_compare(&a->data, &b->data) == 0));
}

static uint32_t comment_hash(const char *comment)
{
	return comment ? (uint32_t)hash_text(HASH_SEED, comment) | 1 : 0;
}

static uint32_t pool_add(struct snapshot *s, const char *text)
{
	size_t at;

	if (!s->pool.length)
		strbuf_addc(&s->pool, '\0'); /* offset 0 means none */
	at = s->pool.length;
	strbuf_add(&s->pool, text, strlen(text) + 1);
	return (uint32_t)at;
}

/* All but the chain's name. */
static void entry_fill(struct entry *e, const struct element *el)
{
	*e = (struct entry){
		.addr = el->addr,
		.data = set_has_range(el->set) ? el->range.addr : el->endpoint,
		.index = el->index,
		.comment = comment_hash(el->comment),
		.count = el->verdict.count,
		.port = el->port,
		.data_port = el->endpoint_port,
		.set = (uint8_t)el->set,
		.protocol = el->protocol,
		.range_length = el->range.length,
		.kind = el->verdict.kind,
		.pick = el->verdict.pick,
	};
}

/* The bucket of the entry, or the free one where it belongs. */
static struct bucket *bucket_of(const struct snapshot *s, const struct entry *e, uint64_t hash)
{
	size_t i = hash & (s->n_buckets - 1);

	while (s->buckets[i].number && (s->buckets[i].hash != hash >> 32 ||
					!same_key(&s->entries[s->buckets[i].number - 1], e)))
		i = (i + 1) & (s->n_buckets - 1);
	return &s->buckets[i];
}

/* For an entry that is not there. */
static void bucket_take(const struct snapshot *s, size_t entry)
{
	uint64_t hash = entry_hash(&s->entries[entry]);
	size_t i = hash & (s->n_buckets - 1);

	while (s->buckets[i].number)
		i = (i + 1) & (s->n_buckets - 1);
	s->buckets[i] = (struct bucket){ (uint32_t)entry + 1, (uint32_t)(hash >> 32) };
}

static int snapshot_grow(struct snapshot *s)
{
	size_t i, size = s->size ? s->size * 2 : 256;
	struct entry *entries;

	if (size > UINT32_MAX / 2)
		return -ENOMEM;
	entries = realloc(s->entries, size * sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	s->entries = entries;
	s->size = size;
	free(s->buckets);
	s->n_buckets = size * 2;
	s->buckets = calloc(s->n_buckets, sizeof(*s->buckets));
	if (!s->buckets)
		return -ENOMEM;
	for (i = 0; i < s->count; i++)
		bucket_take(s, i);
	return 0;
}

void snapshot_add(struct snapshot *s, const struct element *element)
{
	struct bucket *bucket;
	struct entry *e;
	uint64_t hash;

	if (s->count == s->size && !s->err)
		s->err = snapshot_grow(s);
	if (s->err)
		return;
	e = &s->entries[s->count];
	entry_fill(e, element);
	if (element->chain)
		e->chain = pool_add(s, element->chain);
	hash = entry_hash(e);
	bucket = bucket_of(s, e, hash);
	if (bucket->number) /* listed twice: two entries would never both be seen */
		s->entries[bucket->number - 1] = *e;
	else
		*bucket = (struct bucket){ (uint32_t)++s->count, (uint32_t)(hash >> 32) };
}

/* @last: of the entry that was found before. */
static struct entry *find(const struct snapshot *s, const struct entry *key, size_t *last)
{
	const struct bucket *bucket;

	if (*last + 1 < s->count && same_key(&s->entries[*last + 1], key))
		return &s->entries[++*last];
	if (!s->n_buckets)
		return NULL;
	bucket = bucket_of(s, key, entry_hash(key));
	if (!bucket->number)
		return NULL;
	*last = bucket->number - 1;
	return &s->entries[*last];
}

static bool same_data(const struct snapshot *s, const struct entry *have, const struct entry *want,
		      const char *chain)
{
	if (have->kind != want->kind || have->pick != want->pick || have->count != want->count ||
	    have->comment != want->comment || have->data_port != want->data_port ||
	    addr_compare(&have->data, &want->data))
		return false;
	if (!have->chain || !chain)
		return !have->chain && !chain;
	return strcmp(s->pool.text + have->chain, chain) == 0;
}

enum snapshot_match snapshot_match(struct snapshot *s, const struct element *element)
{
	struct entry want, *have;

	entry_fill(&want, element);
	have = find(s, &want, &s->last);
	if (!have)
		return SNAPSHOT_MISSING;
	have->seen = true;
	return same_data(s, have, &want, element->chain) ? SNAPSHOT_SAME : SNAPSHOT_DIFFERS;
}

static void element_fill(const struct snapshot *s, const struct entry *e, struct element *el)
{
	*el = (struct element){
		.set = (enum set_id)e->set,
		.addr = e->addr,
		.protocol = e->protocol,
		.port = e->port,
		.index = e->index,
		.verdict = { .kind = e->kind, .pick = e->pick, .count = e->count },
		.endpoint_port = e->data_port,
		.chain = e->chain ? s->pool.text + e->chain : NULL,
	};
	if (set_has_range(e->set))
		el->range = (struct prefix){ e->data, e->range_length };
	else
		el->endpoint = e->data;
}

void snapshot_each_unseen(struct snapshot *s,
			  void (*call)(void *ctx, const struct element *element), void *ctx)
{
	struct element el;
	size_t i;

	for (i = 0; i < s->count; i++) {
		if (s->entries[i].seen)
			continue;
		element_fill(s, &s->entries[i], &el);
		call(ctx, &el);
	}
}

static bool entry_endpoint(const struct snapshot *s, const struct entry *e, struct endpoint *ep)
{
	if (e->chain)
		return sticky_chain_parse(s->pool.text + e->chain, s->family, ep) == 0;
	*ep = (struct endpoint){ .addr = e->data, .port = e->data_port };
	return true;
}

/* The list of one VIP in one set; 0 endpoints if the kernel has none. */
static int list_of(const struct snapshot *s, enum set_id set, const struct vip *vip,
		   uint8_t protocol, struct arena *scratch, struct endpoint_list *list)
{
	struct entry key = {
		.addr = vip->addr,
		.port = vip->port,
		.set = (uint8_t)set,
		.protocol = protocol,
	};
	struct endpoint *items;
	unsigned int n = 0;
	size_t last = 0;

	while (find(s, &key, &last))
		key.index++;
	items = arena_array(scratch, key.index, sizeof(*items));
	if (!items)
		return -ENOMEM;
	for (n = key.index, key.index = 0; key.index < n; key.index++)
		if (!entry_endpoint(s, find(s, &key, &last), &items[key.index]))
			break;
	list->items = items;
	list->count = key.index;
	return 0;
}

static int order_of(const struct snapshot *s, const struct vip *vips, unsigned int n_vips,
		    uint8_t protocol, bool local, struct arena *scratch, struct endpoint_list *list)
{
	unsigned int i, sticky;
	int err;

	for (i = 0; i < n_vips; i++) {
		for (sticky = 0; sticky < 2; sticky++) {
			err = list_of(s, list_set(vips[i].role == VIP_NODE_PORT, local, sticky),
				      &vips[i], protocol, scratch, list);
			if (err || list->count)
				return err;
		}
	}
	return 0;
}

int snapshot_order(const struct snapshot *s, const struct vip *vips, unsigned int n_vips,
		   uint8_t protocol, struct arena *scratch, struct kernel_order *order)
{
	int err;

	memset(order, 0, sizeof(*order));
	err = order_of(s, vips, n_vips, protocol, false, scratch, &order->cluster);
	if (!err)
		err = order_of(s, vips, n_vips, protocol, true, scratch, &order->local);
	return err;
}
