/*
 * A hash table of structs that embed a node: no allocation per entry, several
 * entries may have the same key. The table borrows its entries; whoever owns
 * them removes them before freeing them.
 */
#ifndef BASE_HASHTAB_H
#define BASE_HASHTAB_H

#include <stddef.h>
#include <stdint.h>

struct hash_node {
	struct hash_node *next;
	uint64_t hash;
};

/* Empty when all of it is zero. */
struct hashtab {
	struct hash_node **buckets; /* NULL: the one below */
	struct hash_node *only;
	size_t n_buckets, count; /* 0 buckets: the one above */
};

void hashtab_free(struct hashtab *t); /* not the entries */

/* Cannot fail: without memory to grow, the chains get longer. */
void hashtab_insert(struct hashtab *t, struct hash_node *node, uint64_t hash);
void hashtab_remove(struct hashtab *t, struct hash_node *node);

/* The first entry with this hash, and the one after @node: the caller compares keys. */
struct hash_node *hashtab_find(const struct hashtab *t, uint64_t hash);
struct hash_node *hashtab_find_next(const struct hash_node *node);

/* All entries in no particular order. @node may be removed and freed before the next step. */
struct hash_walk {
	const struct hashtab *table;
	size_t bucket;
	struct hash_node *next;
};
struct hash_walk hashtab_walk(const struct hashtab *t);
struct hash_node *hash_walk_next(struct hash_walk *walk); /* NULL: that was all */

/* Continue a hash with more bytes; begin with HASH_SEED. */
#define HASH_SEED 0x9e3779b97f4a7c15ull
uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size);
uint64_t hash_text(uint64_t hash, const char *text); /* with its terminator */

#define hash_entry(node, type, member)                                             \
	({                                                                         \
		struct hash_node *n_ = (node);                                     \
		n_ ? (type *)(void *)((char *)n_ - offsetof(type, member)) : NULL; \
	})

/* @entry becomes each of the structs whose @member is a node of @table; it may be removed. */
#define for_each_hashed(entry, table, member)                                  \
	for (struct hash_walk walk_ = hashtab_walk(table);                     \
	     (entry = hash_entry(hash_walk_next(&walk_), typeof(*(entry)),     \
				 member));)

/* The same of those with this hash, but none may be removed. */
#define for_each_hash_match(entry, table, hash, member)                        \
	for (entry = hash_entry(hashtab_find(table, hash), typeof(*(entry)),   \
				member);                                       \
	     entry; entry = hash_entry(hashtab_find_next(&(entry)->member),    \
				       typeof(*(entry)), member))

#endif
