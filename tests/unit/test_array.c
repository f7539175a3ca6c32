/* Arrays that grow. */
#include "proxy/base/array.h"
#include "tests/support/suite.h"

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

struct numbers {
	uint32_t *items;
	unsigned int count, room;
};

START_TEST(keeps_what_is_in_it)
{
	struct numbers n = { NULL, 0, 0 };

	for (uint32_t i = 0; i < 10000; i++) {
		ck_assert_int_eq(array_grow(n.items, n.count, n.room), 0);
		ck_assert_uint_gt(n.room, n.count);
		n.items[n.count++] = i * 7;
	}
	for (uint32_t i = 0; i < 10000; i++)
		ck_assert_uint_eq(n.items[i], i * 7);
	ck_assert_uint_lt(n.room, 20000);
	free(n.items);
}
END_TEST

START_TEST(does_not_move_without_need)
{
	struct numbers n = { NULL, 0, 0 };
	uint32_t *before;

	ck_assert_int_eq(array_grow(n.items, 0, n.room), 0);
	before = n.items;
	ck_assert_int_eq(array_grow(n.items, n.room - 1, n.room), 0);
	ck_assert_ptr_eq(n.items, before);
	free(n.items);
}
END_TEST

/* A size that no memory has: nothing changes. */
START_TEST(fails_whole)
{
	struct numbers n = { NULL, 0, 0 };
	size_t room = SIZE_MAX / 4;

	ck_assert_int_eq(array_grow(n.items, n.count, n.room), 0);
	ck_assert_ptr_null(array_grown(n.items, room, &room, sizeof(*n.items)));
	ck_assert_uint_eq(room, SIZE_MAX / 4);
	n.items[0] = 1;
	free(n.items);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("array");
	TCase *tc = tcase_create("array");

	tcase_add_test(tc, keeps_what_is_in_it);
	tcase_add_test(tc, does_not_move_without_need);
	tcase_add_test(tc, fails_whole);
	suite_add_tcase(suite, tc);
	return suite;
}
