/* The hash table, against a plain list. */
#include "proxy/base/hashtab.h"
#include "tests/support/suite.h"
#include "tests/support/build.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

struct item {
	struct hash_node node;
	unsigned int key;
	bool in, seen;
};

enum { N_ITEMS = 2000 };

/* Few values, so that many keys share one. */
static uint64_t bad_hash(unsigned int key)
{
	return key % 97;
}

static uint64_t good_hash(unsigned int key)
{
	return hash_bytes(HASH_SEED, &key, sizeof(key));
}

static struct item *lookup(const struct hashtab *t, uint64_t hash, unsigned int key)
{
	struct item *it;

	for_each_hash_match (it, t, hash, node)
		if (it->key == key)
			return it;
	return NULL;
}

static unsigned int walk(const struct hashtab *t, struct item *items)
{
	unsigned int count = 0, i;
	struct item *it;

	for_each_hashed (it, t, node) {
		it->seen = true;
		count++;
	}
	for (i = 0; i < N_ITEMS; i++) {
		if (items[i].seen != items[i].in)
			return ~0u;
		items[i].seen = false;
	}
	return count;
}

START_TEST(like_a_list)
{
	struct random r = { random_seed("VIPMAP_SEED") };
	uint64_t (*hash)(unsigned int key) = _i ? bad_hash : good_hash;
	struct item *items = calloc(N_ITEMS, sizeof(*items)), *it;
	struct hashtab t = { 0 };
	unsigned int step, i, n = 0, wrong = 0;

	for (i = 0; i < N_ITEMS; i++)
		items[i].key = i;
	for (step = 0; step < 20000; step++) {
		it = &items[random_below(&r, 1 + step / 10)];
		if (it->in)
			hashtab_remove(&t, &it->node);
		else
			hashtab_insert(&t, &it->node, hash(it->key));
		it->in = !it->in;
		n += it->in ? 1u : -1u;
		wrong += t.count != n;
		wrong += lookup(&t, hash(it->key), it->key) !=
			 (it->in ? it : NULL);
		if (step % 1000 == 0)
			wrong += walk(&t, items) != n;
	}
	ck_assert_uint_eq(wrong, 0);
	hashtab_free(&t);
	ck_assert_uint_eq(t.count, 0);
	free(items);
}
END_TEST

/* Each entry may go, and be freed, while the table is walked. */
START_TEST(removal_while_walking)
{
	struct hashtab t = { 0 };
	unsigned int i, seen = 0;
	struct item *it;

	for (i = 0; i < (unsigned int)_i; i++) {
		it = calloc(1, sizeof(*it));
		hashtab_insert(&t, &it->node, bad_hash(i));
	}
	for_each_hashed (it, &t, node) {
		hashtab_remove(&t, &it->node);
		free(it);
		seen++;
	}
	ck_assert_uint_eq(seen, (unsigned int)_i);
	ck_assert_uint_eq(t.count, 0);
	hashtab_free(&t);
}
END_TEST

START_TEST(empty)
{
	struct hashtab t = { 0 };
	struct item *it;

	for_each_hashed (it, &t, node)
		ck_abort_msg("an entry of an empty table");
	ck_assert_ptr_null(hashtab_find(&t, 1));
	hashtab_free(&t);
}
END_TEST

/* Keys that differ in a bit spread over the buckets. */
START_TEST(spreads)
{
	unsigned int counts[64] = { 0 }, i, most = 0;
	uint32_t key[4] = { 0 };

	for (i = 0; i < 64 * 100; i++) {
		key[_i] = i << 8;
		counts[hash_bytes(HASH_SEED, key, sizeof(key)) % 64]++;
	}
	for (i = 0; i < 64; i++)
		most = counts[i] > most ? counts[i] : most;
	ck_assert_uint_lt(most, 200);
}
END_TEST

START_TEST(text)
{
	ck_assert_uint_eq(hash_text(HASH_SEED, "abc"), hash_text(HASH_SEED, "abc"));
	ck_assert_uint_ne(hash_text(hash_text(HASH_SEED, "ab"), "c"),
			  hash_text(hash_text(HASH_SEED, "a"), "bc"));
	ck_assert_uint_ne(hash_text(HASH_SEED, ""), HASH_SEED);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("hashtab");
	TCase *tc = tcase_create("hashtab");

	tcase_add_loop_test(tc, like_a_list, 0, 2);
	tcase_add_loop_test(tc, removal_while_walking, 0, 200);
	tcase_add_test(tc, empty);
	tcase_add_loop_test(tc, spreads, 0, 4);
	tcase_add_test(tc, text);
	suite_add_tcase(suite, tc);
	return suite;
}
