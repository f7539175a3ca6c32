/* The small helpers: string builder, error buffer, scratch arena, time as text. */
#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/arena.h"
#include "proxy/base/clock.h"
#include "proxy/base/errbuf.h"
#include "proxy/base/strbuf.h"

#include "tests/support/suite.h"

START_TEST(append)
{
	struct strbuf sb = STRBUF_INIT;

	ck_assert_ptr_null(sb.text);
	strbuf_adds(&sb, "");
	CHECK_STR("even an empty append terminates", sb.text, "");
	strbuf_adds(&sb, "a");
	strbuf_addc(&sb, 'b');
	strbuf_add(&sb, "cdx", 2);
	strbuf_addf(&sb, "%s-%03d", "e", 7);
	CHECK_STR("append", sb.text, "abcde-007");
	ck_assert_uint_eq(sb.length, 9);
	ck_assert_int_eq(sb.err, 0);
	strbuf_reset(&sb);
	CHECK_STR("reset", sb.text, "");
	strbuf_adds(&sb, "again");
	CHECK_STR("after reset", sb.text, "again");
	strbuf_free(&sb);
	ck_assert_ptr_null(sb.text);
	ck_assert_uint_eq(sb.length, 0);
	strbuf_adds(&sb, "reused");
	CHECK_STR("after free", sb.text, "reused");
	strbuf_free(&sb);
}
END_TEST

START_TEST(grows)
{
	struct strbuf sb = STRBUF_INIT;
	size_t i;

	for (i = 0; i < 100000; i++)
		strbuf_addc(&sb, (char)('a' + i % 26));
	ck_assert_uint_eq(sb.length, 100000);
	ck_assert_uint_eq(strlen(sb.text), 100000);
	for (i = 0; i < 100000 && sb.text[i] == (char)('a' + i % 26);)
		i++;
	ck_assert_uint_eq(i, 100000);
	strbuf_reset(&sb);
	strbuf_addf(&sb, "%5000d", 1);
	ck_assert_uint_eq(strlen(sb.text), 5000);
	strbuf_free(&sb);
}
END_TEST

START_TEST(maximum_sticks)
{
	struct strbuf sb = { .max = 5 };

	strbuf_adds(&sb, "12345");
	ck_assert_int_eq(sb.err, 0);
	strbuf_addc(&sb, '6');
	ck_assert_int_eq(sb.err, -E2BIG);
	strbuf_adds(&sb, "");
	strbuf_addf(&sb, "%d", 7);
	CHECK_STR("whole up to the failure", sb.text, "12345");
	ck_assert_int_eq(sb.err, -E2BIG);
	strbuf_reset(&sb);
	ck_assert_int_eq(sb.err, 0);
	strbuf_addf(&sb, "%s", "123456");
	ck_assert_int_eq(sb.err, -E2BIG);
	CHECK_STR("nothing in halves", sb.text, "");
	strbuf_free(&sb);
}
END_TEST

START_TEST(impossible_length)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_adds(&sb, "x");
	strbuf_add(&sb, "y", SIZE_MAX);
	ck_assert_int_eq(sb.err, -E2BIG);
	CHECK_STR("untouched", sb.text, "x");
	strbuf_free(&sb);
}
END_TEST

static const struct {
	const char *name, *text, *want;
} quoted[] = {
	{ "empty", "", "\"\"" },
	{ "plain", "abc", "\"abc\"" },
	{ "quote and backslash", "a\"b\\c", "\"a\\\"b\\\\c\"" },
	{ "control characters", "\n\t\x01\x7f", "\"\\u000a\\u0009\\u0001\\u007f\"" },
	{ "UTF-8", "\u00e9", "\"\u00e9\"" },
	{ "no UTF-8", "\xe9(", "\"\\\\xe9(\"" },
	{ "text turned round", "\u202e", "\"\\u202e\"" },
};

static const struct {
	const char *name, *text, *want;
} visible[] = {
	{ "empty", "", "" },
	{ "plain, quotes and backslash", "a\"b\\c", "a\"b\\c" },
	{ "control characters", "\n\t\x1b[1m\x7f", "\\x0a\\x09\\x1b[1m\\x7f" },
	{ "UTF-8 of two, three and four bytes", "\u00e9\u20ac\U0001f600",
	  "\u00e9\u20ac\U0001f600" },
	{ "the last character there is", "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf" },
	{ "one beyond it", "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" },
	{ "a byte that never begins one", "\xff\xf8(", "\\xff\\xf8(" },
	{ "a continuation alone", "\x80x", "\\x80x" },
	{ "cut", "\xe2\x82", "\\xe2\\x82" },
	{ "cut by another", "\xe2\x82\u00e9", "\\xe2\\x82\u00e9" },
	{ "longer than needed", "\xc0\xaf\xe0\x80\xaf", "\\xc0\\xaf\\xe0\\x80\\xaf" },
	{ "half of a pair", "\xed\xa0\x80", "\\xed\\xa0\\x80" },
	{ "control characters of Latin-1", "\xc2\x85\xc2\x9b\xc2\xa0",
	  "\\xc2\\x85\\xc2\\x9b\xc2\xa0" },
	{ "another direction", "\u202e\u2066", "\\xe2\\x80\\xae\\xe2\\x81\\xa6" },
	{ "another line", "\u2028\u2029", "\\xe2\\x80\\xa8\\xe2\\x80\\xa9" },
	{ "without width", "\u200b\ufeff", "\\xe2\\x80\\x8b\\xef\\xbb\\xbf" },
};

START_TEST(visible_text)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_adds(&sb, "");
	strbuf_add_visible(&sb, visible[_i].text);
	CHECK_STR(visible[_i].name, sb.text, visible[_i].want);
	strbuf_free(&sb);
}
END_TEST

START_TEST(json_quoting)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_add_json(&sb, quoted[_i].text);
	CHECK_STR(quoted[_i].name, sb.text, quoted[_i].want);
	strbuf_free(&sb);
}
END_TEST

START_TEST(error_text)
{
	struct errbuf eb = { "old" };
	char longest[2000];

	ck_assert_int_eq(errf(&eb, -EINVAL, "service %s/%s: %d", "a", "b", 5),
			 -EINVAL);
	CHECK_STR("filled", eb.text, "service a/b: 5");
	ck_assert_int_eq(errf(NULL, -ENOMEM, "nobody reads %s", "this"), -ENOMEM);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	ck_assert_int_eq(errf(&eb, -EIO, "%s", longest), -EIO);
	ck_assert_uint_eq(strlen(eb.text), sizeof(eb.text) - 1);
}
END_TEST

/* The number of bytes that are @value from the beginning on. */
static size_t run_of(const unsigned char *bytes, size_t size, unsigned char value)
{
	size_t n = 0;

	while (n < size && bytes[n] == value)
		n++;
	return n;
}

START_TEST(arena_gives_zeroed_aligned_memory)
{
	struct arena a = ARENA_INIT;
	unsigned char *p[500];
	size_t i, size;

	for (i = 0; i < 500; i++) {
		size = i * 7 + 1;
		p[i] = arena_alloc(&a, size);
		ck_assert_ptr_nonnull(p[i]);
		ck_assert_uint_eq((uintptr_t)p[i] % _Alignof(max_align_t), 0);
		ck_assert_uint_eq(run_of(p[i], size, 0), size);
		memset(p[i], (int)(i % 255 + 1), size);
	}
	for (i = 0; i < 500; i++)
		ck_assert_msg(run_of(p[i], i * 7 + 1,
				     (unsigned char)(i % 255 + 1)) == i * 7 + 1,
			      "block %zu was overwritten", i);
	arena_free(&a);
	ck_assert_ptr_null(a.block);
}
END_TEST

START_TEST(arena_reuses_memory)
{
	struct arena a = ARENA_INIT;
	unsigned char *p, *q;

	p = arena_alloc(&a, 100);
	memset(p, 0xff, 100);
	arena_reset(&a);
	q = arena_alloc(&a, 100);
	ck_assert_ptr_eq(p, q);
	ck_assert_uint_eq(run_of(q, 100, 0), 100);
	/* A huge block is not kept. */
	ck_assert_ptr_nonnull(arena_alloc(&a, 8 << 20));
	arena_reset(&a);
	ck_assert_ptr_null(a.block);
	arena_reset(&a);
	ck_assert_ptr_nonnull(arena_alloc(&a, 1));
	arena_free(&a);
}
END_TEST

START_TEST(arena_refuses_nonsense)
{
	struct arena a = ARENA_INIT;

	ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX));
	ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX / 2 + 1));
	ck_assert_ptr_null(arena_array(&a, SIZE_MAX / 2, 3));
	ck_assert_ptr_null(arena_strndup(&a, "x", SIZE_MAX));
	ck_assert_ptr_nonnull(arena_array(&a, 10, 3));
	arena_free(&a);
}
END_TEST

START_TEST(arena_strings)
{
	struct arena a = ARENA_INIT;
	char *text = arena_strdup(&a, "hello"),
	     *part = arena_strndup(&a, "hello", 4);

	CHECK_STR("whole", text, "hello");
	CHECK_STR("part", part, "hell");
	CHECK_STR("empty", arena_strdup(&a, ""), "");
	arena_free(&a);
}
END_TEST

static const struct {
	int64_t us;
	const char *want;
} times[] = {
	{ 0, "1970-01-01T00:00:00.000000Z" },
	{ INT64_C(1700000000000042), "2023-11-14T22:13:20.000042Z" },
	{ INT64_C(1709210096999999), "2024-02-29T12:34:56.999999Z" },
};

START_TEST(time_text)
{
	char text[CLOCK_TEXT_SIZE];

	CHECK_STR("time", clock_format(times[_i].us, text), times[_i].want);
}
END_TEST

START_TEST(clock_of_the_system)
{
	const struct clock *clock = clock_system();
	int64_t before = clock_monotonic_us(clock);

	ck_assert_int_gt(clock_realtime_us(clock), INT64_C(1700000000000000));
	ck_assert_int_ge(clock_monotonic_us(clock), before);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("strbuf");
	TCase *tc = tcase_create("helpers");

	tcase_add_test(tc, append);
	tcase_add_test(tc, grows);
	tcase_add_test(tc, maximum_sticks);
	tcase_add_test(tc, impossible_length);
	ADD_LOOP(tc, json_quoting, quoted);
	ADD_LOOP(tc, visible_text, visible);
	tcase_add_test(tc, error_text);
	tcase_add_test(tc, arena_gives_zeroed_aligned_memory);
	tcase_add_test(tc, arena_reuses_memory);
	tcase_add_test(tc, arena_refuses_nonsense);
	tcase_add_test(tc, arena_strings);
	ADD_LOOP(tc, time_text, times);
	tcase_add_test(tc, clock_of_the_system);
	suite_add_tcase(suite, tc);
	return suite;
}
