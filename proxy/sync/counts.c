/*
 * Elements are known by what they mean to people, set, virtual IP and endpoint,
 * and not by their index. Only what is not 0 takes memory: most endpoints never
 * see a connection of this node.
 */
#include "proxy/sync/counts.h"

#include "proxy/base/array.h"
#include "proxy/base/hashtab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct count {
	struct hash_node node;
	struct addr addr, endpoint;
	uint16_t port, endpoint_port;
	uint8_t set, protocol;
	unsigned int stays_in; /* the latest transaction that leaves it in the table */
	uint64_t count;
};

struct counts {
	struct hashtab entries;
	unsigned int transaction;
	struct element *gone; /* with their keys and endpoints */
	size_t n_gone, size;
};

struct counts *counts_new(void)
{
	return calloc(1, sizeof(struct counts));
}

static void forget_counts_gone(struct counts *c)
{
	free(c->gone);
	c->gone = NULL;
	c->n_gone = c->size = 0;
}

void counts_free(struct counts *c)
{
	struct count *e;

	if (!c)
		return;
	for_each_hashed (e, &c->entries, node)
		free(e);
	hashtab_free(&c->entries);
	forget_counts_gone(c);
	free(c);
}

static uint64_t hash_of(const struct element *el)
{
	const uint32_t rest[2] = { (uint32_t)el->port << 16 | el->endpoint_port,
				   (uint32_t)el->set << 8 | el->protocol };
	uint64_t hash = hash_bytes(HASH_SEED, &el->addr, sizeof(el->addr));

	hash = hash_bytes(hash, &el->endpoint, sizeof(el->endpoint));
	return hash_bytes(hash, rest, sizeof(rest));
}

static bool is_of(const struct count *e, const struct element *el)
{
	return e->set == el->set && e->protocol == el->protocol &&
	       e->port == el->port && e->endpoint_port == el->endpoint_port &&
	       addr_compare(&e->addr, &el->addr) == 0 &&
	       addr_compare(&e->endpoint, &el->endpoint) == 0;
}

static struct count *find_count(const struct counts *c, const struct element *el)
{
	struct count *e;

	for_each_hash_match (e, &c->entries, hash_of(el), node)
		if (is_of(e, el))
			return e;
	return NULL;
}

static void drop_count(struct counts *c, struct count *e)
{
	hashtab_remove(&c->entries, &e->node);
	free(e);
}

/* The larger one holds: what was read before is in the element that took its place. */
void counts_note(struct counts *c, const struct element *el)
{
	struct count *e;

	if (!el->count || !set_is_counted(el->set))
		return;
	e = find_count(c, el);
	if (!e) {
		e = calloc(1, sizeof(*e));
		if (!e)
			return;
		e->addr = el->addr;
		e->endpoint = el->endpoint;
		e->port = el->port;
		e->endpoint_port = el->endpoint_port;
		e->set = (uint8_t)el->set;
		e->protocol = el->protocol;
		hashtab_insert(&c->entries, &e->node, hash_of(el));
	}
	if (el->count > e->count)
		e->count = el->count;
}

uint64_t counts_of(const struct counts *c, const struct element *el)
{
	const struct count *e = find_count(c, el);

	return e ? e->count : 0;
}

void counts_begin(struct counts *c)
{
	assert(c->n_gone <= c->size);
	c->transaction++;
	c->n_gone = 0;
}

void counts_gone(struct counts *c, const struct element *el)
{
	assert(set_is_counted(el->set));
	if (array_grow(c->gone, c->n_gone, c->size) == 0)
		c->gone[c->n_gone++] = *el;
}

uint64_t counts_stay(struct counts *c, const struct element *el)
{
	struct count *e = find_count(c, el);

	if (!e)
		return 0;
	e->stays_in = c->transaction;
	return e->count;
}

void counts_applied(struct counts *c, bool all)
{
	struct count *e;
	size_t i;

	for (i = 0; i < c->n_gone; i++) {
		e = find_count(c, &c->gone[i]);
		if (e && e->stays_in != c->transaction)
			drop_count(c, e);
	}
	forget_counts_gone(c);
	if (!all)
		return;
	for_each_hashed (e, &c->entries, node)
		if (e->stays_in != c->transaction)
			drop_count(c, e);
}

const struct element *counts_questions(const struct counts *c, size_t *count)
{
	*count = c->n_gone;
	return c->gone;
}

size_t counts_known(const struct counts *c)
{
	return c->entries.count;
}
