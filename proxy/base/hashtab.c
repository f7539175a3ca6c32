/*
 * Chained buckets, a power of two of them, doubled when there are as many
 * entries as buckets. The hash multiplies 8 bytes at a time and folds the 128
 * bits of the product, so that each bit of the key reaches the low bits that
 * choose the bucket. It only needs to spread well, since no key here is chosen
 * by somebody who can also time us.
 */
#include "proxy/base/hashtab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKETS = 64 };

/* Odd, with as many ones as zeros and no pattern; the other keeps a key of zeros from staying zero.
 */
#define FOLD_FACTOR 0xd6e8feb86659fd93ull
#define FOLD_XOR 0xa0761d6478bd642full

void hashtab_free(struct hashtab *t)
{
	free(t->buckets);
	memset(t, 0, sizeof(*t));
}

static struct hash_node **bucket_of(struct hashtab *t, uint64_t hash)
{
	assert(!(t->n_buckets & (t->n_buckets - 1)));
	assert(!t->n_buckets || !t->only);
	return t->n_buckets ? &t->buckets[hash & (t->n_buckets - 1)] : &t->only;
}

static void hashtab_grow(struct hashtab *t)
{
	size_t i, n = t->n_buckets ? t->n_buckets * 2 : FIRST_BUCKETS;
	struct hash_node **buckets = calloc(n, sizeof(struct hash_node *));
	struct hash_node *node, *next;

	if (!buckets)
		return;
	for (i = 0; i < (t->n_buckets ? t->n_buckets : 1); i++) {
		for (node = t->n_buckets ? t->buckets[i] : t->only; node;
		     node = next) {
			next = node->next;
			node->next = buckets[node->hash & (n - 1)];
			buckets[node->hash & (n - 1)] = node;
		}
	}
	free(t->buckets);
	t->buckets = buckets;
	t->n_buckets = n;
	t->only = NULL;
}

void hashtab_insert(struct hashtab *t, struct hash_node *node, uint64_t hash)
{
	struct hash_node **bucket;

	if (t->count >= (t->n_buckets ? t->n_buckets : 4))
		hashtab_grow(t);
	bucket = bucket_of(t, hash);
	node->hash = hash;
	node->next = *bucket;
	*bucket = node;
	t->count++;
}

void hashtab_remove(struct hashtab *t, struct hash_node *node)
{
	struct hash_node **at = bucket_of(t, node->hash);
	assert(t->count);

	while (*at && *at != node)
		at = &(*at)->next;
	assert(*at);
	*at = node->next;
	node->next = NULL;
	t->count--;
}

static struct hash_node *match_hash(struct hash_node *node, uint64_t hash)
{
	while (node && node->hash != hash)
		node = node->next;
	return node;
}

struct hash_node *hashtab_find(const struct hashtab *t, uint64_t hash)
{
	return match_hash(t->n_buckets ? t->buckets[hash & (t->n_buckets - 1)]
				       : t->only,
			  hash);
}

struct hash_node *hashtab_find_next(const struct hash_node *node)
{
	return match_hash(node->next, node->hash);
}

struct hash_walk hashtab_walk(const struct hashtab *t)
{
	return (struct hash_walk){ t, 0, t->n_buckets ? t->buckets[0] : t->only };
}

struct hash_node *hash_walk_next(struct hash_walk *walk)
{
	struct hash_node *node;

	assert(walk->table);
	while (!walk->next) {
		if (++walk->bucket >= walk->table->n_buckets)
			return NULL;
		walk->next = walk->table->buckets[walk->bucket];
	}
	node = walk->next;
	walk->next = node->next;
	return node;
}

uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
	const unsigned char *b = bytes;
	unsigned __int128 product;
	uint64_t word;

	while (size) {
		size_t n = size < sizeof(word) ? size : sizeof(word);

		word = 0;
		memcpy(&word, b, n);
		product = (unsigned __int128)(hash ^ word ^ FOLD_XOR) * FOLD_FACTOR;
		hash = (uint64_t)product ^ (uint64_t)(product >> 64);
		b += n;
		size -= n;
	}
	return hash;
}

uint64_t hash_text(uint64_t hash, const char *text)
{
	return hash_bytes(hash, text, strlen(text) + 1);
}
