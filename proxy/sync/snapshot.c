/*
 * One array of fixed-size entries, found by an open hash of indices; names of
 * chains go to a pool. Comments are kept as hashes: they are only compared.
 *
 * Nearly all elements are endpoints with an index, and neighbours of one list
 * at that. So these stand in runs: eight indices share a key and a look-up, and
 * of each only address and port are kept. An endpoint that is not of our
 * making, with a comment say, is an entry like any other.
 *
 * Looking up costs cache misses above all. So a bucket holds half of the hash,
 * which spares looking at the wrong entries, and since large lists are read in
 * order, what follows the entry that was found last is tried first.
 *
 * Hence tables of its own and not hashtab.h's: with a node in each entry, and
 * entries that cannot move, a table that was read back was 8 to 41 % larger.
 */
#include "proxy/sync/snapshot.h"

#include "proxy/base/hashtab.h"
#include "proxy/base/strbuf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct snapshot_entry {
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

/* Indices first to first + RUN - 1 of an endpoint list. */
enum { RUN = 8 };

struct run {
	struct addr addr;
	uint32_t first;
	uint16_t port;
	uint8_t set, protocol;
	uint8_t present, seen; /* a bit for each index */
};

struct runs {
	struct run *items;
	uint8_t *slots; /* RUN for each: address and port */
	size_t count, size;
	size_t last; /* that was added or matched */
	struct bucket *buckets;
	size_t n_buckets;
};

struct snapshot {
	enum family family;
	struct snapshot_entry *entries;
	size_t count, size;
	size_t last; /* that was matched */
	struct bucket *buckets;
	size_t n_buckets;
	struct runs runs;
	size_t n_slots; /* present */
	struct strbuf pool;
	int err;
};

struct snapshot *snapshot_new(enum family family)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	assert(family < N_FAMILIES);
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
	free(s->runs.items);
	free(s->runs.slots);
	free(s->runs.buckets);
	strbuf_free(&s->pool);
	free(s);
}

int snapshot_error(const struct snapshot *s)
{
	return s->err ? s->err : s->pool.err;
}

void snapshot_clear(struct snapshot *s)
{
	s->count = s->last = 0;
	s->runs.count = s->runs.last = s->n_slots = 0;
	if (s->buckets)
		memset(s->buckets, 0, s->n_buckets * sizeof(*s->buckets));
	if (s->runs.buckets)
		memset(s->runs.buckets, 0,
		       s->runs.n_buckets * sizeof(*s->runs.buckets));
	strbuf_reset(&s->pool);
}

void snapshot_unsee(struct snapshot *s)
{
	size_t i;

	for (i = 0; i < s->count; i++)
		s->entries[i].seen = false;
	for (i = 0; i < s->runs.count; i++)
		s->runs.items[i].seen = 0;
}

static uint64_t snapshot_hash(const struct snapshot_entry *e)
{
	const uint32_t rest[2] = { e->index, (uint32_t)e->port << 16 |
						     (uint32_t)e->protocol << 8 |
						     e->set };
	uint64_t hash = hash_bytes(HASH_SEED, &e->addr, sizeof(e->addr));

	hash = hash_bytes(hash, rest, sizeof(rest));
	if (set_has_range(e->set))
		hash = hash_bytes(hash, &e->data, sizeof(e->data)) ^
		       e->range_length;
	return hash;
}

static bool same_key(const struct snapshot_entry *a, const struct snapshot_entry *b)
{
	return a->set == b->set && a->protocol == b->protocol &&
	       a->port == b->port && a->index == b->index &&
	       addr_compare(&a->addr, &b->addr) == 0 &&
	       (!set_has_range(a->set) || (a->range_length == b->range_length &&
					   addr_compare(&a->data, &b->data) == 0));
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
static void entry_fill(struct snapshot_entry *e, const struct element *el)
{
	*e = (struct snapshot_entry){
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
static struct bucket *snapshot_bucket(const struct snapshot *s,
				      const struct snapshot_entry *e, uint64_t hash)
{
	size_t i = hash & (s->n_buckets - 1);

	assert(s->n_buckets && !(s->n_buckets & (s->n_buckets - 1)));
	while (s->buckets[i].number &&
	       (s->buckets[i].hash != hash >> 32 ||
		!same_key(&s->entries[s->buckets[i].number - 1], e)))
		i = (i + 1) & (s->n_buckets - 1);
	return &s->buckets[i];
}

/* For an entry that is not there. */
static void snapshot_bucket_take(const struct snapshot *s, size_t entry)
{
	uint64_t hash = snapshot_hash(&s->entries[entry]);
	size_t i = hash & (s->n_buckets - 1);

	while (s->buckets[i].number)
		i = (i + 1) & (s->n_buckets - 1);
	s->buckets[i] =
		(struct bucket){ (uint32_t)entry + 1, (uint32_t)(hash >> 32) };
}

static int snapshot_grow(struct snapshot *s)
{
	size_t i, size = s->size ? s->size * 2 : 256;
	struct snapshot_entry *entries;

	if (size > UINT32_MAX / 2)
		return -ENOMEM;
	entries = realloc(s->entries, size * sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	s->entries = entries;
	s->size = size;
	assert(s->count < s->size);
	free(s->buckets);
	s->n_buckets = size * 2;
	s->buckets = calloc(s->n_buckets, sizeof(*s->buckets));
	if (!s->buckets)
		return -ENOMEM;
	for (i = 0; i < s->count; i++)
		snapshot_bucket_take(s, i);
	return 0;
}

/* Runs */

static size_t slot_size(const struct snapshot *s)
{
	return family_size(s->family) + sizeof(uint16_t);
}

static uint8_t *slot_of(const struct snapshot *s, const struct run *run,
			uint32_t index)
{
	const size_t number = (size_t)(run - s->runs.items) * RUN + index % RUN;

	assert(run >= s->runs.items && run < s->runs.items + s->runs.count);
	return s->runs.slots + number * slot_size(s);
}

static uint8_t slot_bit(uint32_t index)
{
	return (uint8_t)(1u << index % RUN);
}

static void slot_put(const struct snapshot *s, uint8_t *slot,
		     const struct addr *addr, uint16_t port)
{
	memcpy(slot, addr->bytes, family_size(s->family));
	memcpy(slot + family_size(s->family), &port, sizeof(port));
}

static struct endpoint slot_endpoint(const struct snapshot *s, const uint8_t *slot)
{
	struct endpoint ep = { .port = 0 };

	memcpy(ep.addr.bytes, slot, family_size(s->family));
	memcpy(&ep.port, slot + family_size(s->family), sizeof(ep.port));
	return ep;
}

/* Whether a slot says all that there is to say of it. */
static bool fits_slot(const struct element *el)
{
	return set_has_index(el->set) && set_has_endpoint(el->set) &&
	       !el->chain && !el->comment && el->verdict.kind == VERDICT_NONE &&
	       !el->verdict.pick && !el->verdict.count;
}

static struct run run_key(const struct element *el)
{
	return (struct run){
		.addr = el->addr,
		.first = el->index - el->index % RUN,
		.port = el->port,
		.set = (uint8_t)el->set,
		.protocol = el->protocol,
	};
}

static uint64_t run_hash(const struct run *run)
{
	const uint32_t rest[2] = { run->first, (uint32_t)run->port << 16 |
						       (uint32_t)run->protocol << 8 |
						       run->set };

	return hash_bytes(hash_bytes(HASH_SEED, &run->addr, sizeof(run->addr)),
			  rest, sizeof(rest));
}

static bool same_run(const struct run *a, const struct run *b)
{
	return a->first == b->first && a->port == b->port && a->set == b->set &&
	       a->protocol == b->protocol && addr_compare(&a->addr, &b->addr) == 0;
}

/* The bucket of the run, or the free one where it belongs. */
static struct bucket *run_bucket(const struct runs *runs, const struct run *key,
				 uint64_t hash)
{
	size_t i = hash & (runs->n_buckets - 1);

	assert(runs->n_buckets && !(runs->n_buckets & (runs->n_buckets - 1)));
	while (runs->buckets[i].number &&
	       (runs->buckets[i].hash != hash >> 32 ||
		!same_run(&runs->items[runs->buckets[i].number - 1], key)))
		i = (i + 1) & (runs->n_buckets - 1);
	return &runs->buckets[i];
}

static int runs_grow(struct snapshot *s)
{
	struct runs *runs = &s->runs;
	size_t i, size = runs->size ? runs->size * 2 : 64;
	struct bucket *bucket;
	uint64_t hash;
	void *more;

	if (size > UINT32_MAX / 2)
		return -ENOMEM;
	more = reallocarray(runs->items, size, sizeof(*runs->items));
	if (!more)
		return -ENOMEM;
	runs->items = more;
	more = reallocarray(runs->slots, size, RUN * slot_size(s));
	if (!more)
		return -ENOMEM;
	runs->slots = more;
	runs->size = size;
	assert(runs->count < runs->size);
	free(runs->buckets);
	runs->n_buckets = size * 2;
	runs->buckets = calloc(runs->n_buckets, sizeof(*runs->buckets));
	if (!runs->buckets)
		return -ENOMEM;
	for (i = 0; i < runs->count; i++) {
		hash = run_hash(&runs->items[i]);
		bucket = run_bucket(runs, &runs->items[i], hash);
		*bucket = (struct bucket){ (uint32_t)i + 1,
					   (uint32_t)(hash >> 32) };
	}
	return 0;
}

/* @last: the run that was found before. Lists are read in order: it is that, or the next. */
static struct run *run_find(const struct snapshot *s, const struct run *key,
			    size_t *last)
{
	const struct runs *runs = &s->runs;
	const struct bucket *bucket;
	size_t i;

	for (i = *last; i < runs->count && i < *last + 2; i++)
		if (same_run(&runs->items[i], key))
			return &runs->items[*last = i];
	if (!runs->n_buckets)
		return NULL;
	bucket = run_bucket(runs, key, run_hash(key));
	if (!bucket->number)
		return NULL;
	assert(bucket->number <= runs->count);
	*last = bucket->number - 1;
	return &runs->items[*last];
}

static struct run *run_get(struct snapshot *s, const struct run *key)
{
	struct run *run = run_find(s, key, &s->runs.last);
	struct bucket *bucket;
	uint64_t hash;

	if (run)
		return run;
	if (s->runs.count == s->runs.size)
		s->err = runs_grow(s);
	if (s->err)
		return NULL;
	hash = run_hash(key);
	bucket = run_bucket(&s->runs, key, hash);
	s->runs.last = s->runs.count++;
	*bucket = (struct bucket){ (uint32_t)s->runs.count,
				   (uint32_t)(hash >> 32) };
	run = &s->runs.items[s->runs.last];
	assert(s->runs.last < s->runs.size);
	*run = *key;
	return run;
}

static void slot_add(struct snapshot *s, const struct element *el)
{
	const struct run key = run_key(el);
	struct run *run = run_get(s, &key);

	if (!run)
		return;
	s->n_slots += !(run->present & slot_bit(el->index));
	run->present |= slot_bit(el->index);
	slot_put(s, slot_of(s, run, el->index), &el->endpoint, el->endpoint_port);
}

void snapshot_add(struct snapshot *s, const struct element *element)
{
	struct bucket *bucket;
	struct snapshot_entry *e;
	uint64_t hash;

	if (fits_slot(element)) {
		if (!s->err)
			slot_add(s, element);
		return;
	}
	if (s->count == s->size && !s->err)
		s->err = snapshot_grow(s);
	if (s->err)
		return;
	assert(s->count < s->size);
	e = &s->entries[s->count];
	entry_fill(e, element);
	if (element->chain)
		e->chain = pool_add(s, element->chain);
	hash = snapshot_hash(e);
	bucket = snapshot_bucket(s, e, hash);
	if (bucket->number) /* listed twice: two entries would never both be seen */
		s->entries[bucket->number - 1] = *e;
	else
		*bucket = (struct bucket){ (uint32_t)++s->count,
					   (uint32_t)(hash >> 32) };
}

/* @last: of the entry that was found before. */
static struct snapshot_entry *snapshot_find(const struct snapshot *s,
					    const struct snapshot_entry *key,
					    size_t *last)
{
	const struct bucket *bucket;

	if (*last + 1 < s->count && same_key(&s->entries[*last + 1], key))
		return &s->entries[++*last];
	if (!s->n_buckets)
		return NULL;
	bucket = snapshot_bucket(s, key, snapshot_hash(key));
	if (!bucket->number)
		return NULL;
	assert(bucket->number <= s->count);
	*last = bucket->number - 1;
	return &s->entries[*last];
}

static bool same_data(const struct snapshot *s, const struct snapshot_entry *have,
		      const struct snapshot_entry *want, const char *chain)
{
	if (have->kind != want->kind || have->pick != want->pick ||
	    have->count != want->count || have->comment != want->comment ||
	    have->data_port != want->data_port ||
	    addr_compare(&have->data, &want->data))
		return false;
	if (!have->chain || !chain)
		return !have->chain && !chain;
	return strcmp(s->pool.text + have->chain, chain) == 0;
}

/* The run with the endpoint that @el has the key of, if there is one. */
static struct run *find_slot(const struct snapshot *s, const struct element *el,
			     size_t *last)
{
	const struct run key = run_key(el);
	struct run *run;

	if (!set_has_index(el->set) || !set_has_endpoint(el->set))
		return NULL;
	run = run_find(s, &key, last);
	return run && run->present & slot_bit(el->index) ? run : NULL;
}

static enum snapshot_match slot_match(const struct snapshot *s, struct run *run,
				      const struct element *el)
{
	const struct endpoint ep = slot_endpoint(s, slot_of(s, run, el->index));

	run->seen |= slot_bit(el->index);
	return fits_slot(el) && ep.port == el->endpoint_port &&
			       addr_compare(&ep.addr, &el->endpoint) == 0
		       ? SNAPSHOT_SAME
		       : SNAPSHOT_DIFFERS;
}

enum snapshot_match snapshot_match(struct snapshot *s, const struct element *element)
{
	struct run *run = find_slot(s, element, &s->runs.last);
	struct snapshot_entry want, *have;

	if (run)
		return slot_match(s, run, element);
	entry_fill(&want, element);
	have = snapshot_find(s, &want, &s->last);
	if (!have)
		return SNAPSHOT_MISSING;
	have->seen = true;
	return same_data(s, have, &want, element->chain) ? SNAPSHOT_SAME
							 : SNAPSHOT_DIFFERS;
}

static void element_fill(const struct snapshot *s,
			 const struct snapshot_entry *e, struct element *el)
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

static void each_unseen_slot(const struct snapshot *s, const struct run *run,
			     void (*call)(void *ctx, const struct element *element),
			     void *ctx)
{
	struct element el = {
		.set = (enum set_id)run->set,
		.addr = run->addr,
		.protocol = run->protocol,
		.port = run->port,
	};
	struct endpoint ep;
	uint32_t i;

	for (i = 0; i < RUN; i++) {
		if (!(run->present & ~run->seen & slot_bit(i)))
			continue;
		ep = slot_endpoint(s, slot_of(s, run, i));
		el.index = run->first + i;
		el.endpoint = ep.addr;
		el.endpoint_port = ep.port;
		call(ctx, &el);
	}
}

void snapshot_each_unseen(struct snapshot *s,
			  void (*call)(void *ctx, const struct element *element),
			  void *ctx)
{
	struct element el;
	size_t i;

	for (i = 0; i < s->count; i++) {
		if (s->entries[i].seen)
			continue;
		element_fill(s, &s->entries[i], &el);
		call(ctx, &el);
	}
	for (i = 0; i < s->runs.count; i++)
		each_unseen_slot(s, &s->runs.items[i], call, ctx);
}

/* Where the look-ups of one list were last. */
struct snapshot_cursor {
	size_t run, entry;
};

/* False if there is none, or none that is of our making. */
static bool find_endpoint(const struct snapshot *s, const struct element *key,
			  struct snapshot_cursor *last, struct endpoint *ep)
{
	const struct run *run = find_slot(s, key, &last->run);
	const struct snapshot_entry *e;
	struct snapshot_entry entry;

	if (run) {
		*ep = slot_endpoint(s, slot_of(s, run, key->index));
		return true;
	}
	entry_fill(&entry, key);
	e = snapshot_find(s, &entry, &last->entry);
	if (e && e->chain)
		return sticky_chain_parse(s->pool.text + e->chain, s->family,
					  ep) == 0;
	if (e)
		*ep = (struct endpoint){ .addr = e->data, .port = e->data_port };
	return e;
}

/* The list of one VIP in one set; 0 endpoints if the kernel has none. */
static int snapshot_list(const struct snapshot *s, enum set_id set,
			 const struct vip *vip, uint8_t protocol,
			 struct arena *scratch, struct endpoint_list *list)
{
	struct element key = {
		.set = set,
		.addr = vip->addr,
		.protocol = protocol,
		.port = vip->port,
	};
	struct snapshot_cursor last = { 0 };
	struct endpoint ep, *items;
	uint32_t n;

	while (find_endpoint(s, &key, &last, &ep))
		key.index++;
	n = key.index;
	items = arena_array(scratch, n, sizeof(*items));
	if (!items)
		return -ENOMEM;
	for (key.index = 0; key.index < n; key.index++)
		find_endpoint(s, &key, &last, &items[key.index]);
	return endpoint_list_pack(s->family, items, n, scratch, list);
}

static int snapshot_list_of(const struct snapshot *s, const struct vip *vips,
			    unsigned int n_vips, uint8_t protocol, bool local,
			    struct arena *scratch, struct endpoint_list *list)
{
	unsigned int i, sticky;
	int err;

	for (i = 0; i < n_vips; i++) {
		for (sticky = 0; sticky < 2; sticky++) {
			err = snapshot_list(s,
					    list_set(vips[i].role == VIP_NODE_PORT,
						     local, sticky),
					    &vips[i], protocol, scratch, list);
			if (err || list->count)
				return err;
		}
	}
	return 0;
}

int snapshot_order(const struct snapshot *s, const struct vip *vips,
		   unsigned int n_vips, uint8_t protocol, struct arena *scratch,
		   struct kernel_order *order)
{
	int err;

	memset(order, 0, sizeof(*order));
	err = snapshot_list_of(s, vips, n_vips, protocol, false, scratch,
			       &order->cluster);
	if (!err)
		err = snapshot_list_of(s, vips, n_vips, protocol, true, scratch,
				       &order->local);
	return err;
}
