/* Texts cut into objects, in pieces of every size: always the same objects. */
#include "watch/splitter.h"

#include <check.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"
#include "watch/json.h"

#include "tests/support/suite.h"

static int note(struct strbuf *log, const char *what, const char *text, size_t length)
{
	strbuf_addf(log, "%s %.*s\n", what, (int)length, text);
	return 0;
}

static int on_head(void *ctx, const char *text, size_t length, struct errbuf *eb)
{
	(void)eb;
	return note(ctx, "head", text, length);
}

static int on_item(void *ctx, const char *text, size_t length, struct errbuf *eb)
{
	if (length == strlen("{\"fail\":1}") &&
	    strncmp(text, "{\"fail\":1}", length) == 0)
		return errf(eb, -EPROTO, "as asked");
	return note(ctx, "item", text, length);
}

static int on_rest(void *ctx, const char *text, size_t length, struct errbuf *eb)
{
	(void)eb;
	return note(ctx, "rest", text, length);
}

static const struct splitter_ops ops = { on_head, on_item, on_rest };

/* Every piece is a block of its own, so that a sanitizer sees a read beyond it. */
static int feed_pieces(struct splitter *s, const char *text, size_t size,
		       struct errbuf *eb)
{
	size_t length = strlen(text), at, n;
	char *piece;
	int err = 0;

	for (at = 0; at < length && !err; at += n) {
		n = length - at < size ? length - at : size;
		piece = malloc(n);
		memcpy(piece, text + at, n);
		err = splitter_feed(s, piece, n, eb);
		free(piece);
	}
	return err ? err : splitter_finish(s, eb);
}

static const struct {
	const char *name;
	enum splitter_mode mode;
	const char *text, *want, *error;
} cases[] = {
	{ "nothing", SPLIT_LIST, " \n", "", NULL },
	{ "single object", SPLIT_LIST, "{\"kind\":\"Service\",\"x\":[{}]}",
	  "rest {\"kind\":\"Service\",\"x\":[{}]}\n", NULL },
	{ "list", SPLIT_LIST,
	  "{\"kind\":\"L\",\"items\": [ {\"a\":[1,{}]} , {\"b\":\"}]\\\"\"}\n],\"z\":1}",
	  "head {\"kind\":\"L\",\"items\": []}\nitem {\"a\":[1,{}]}\nitem {\"b\":\"}]\\\"\"}\n"
	  "rest {\"kind\":\"L\",\"items\": [],\"z\":1}\n",
	  NULL },
	{ "empty list", SPLIT_LIST, "{\"items\":[]}",
	  "head {\"items\":[]}\nrest {\"items\":[]}\n", NULL },
	{ "items null", SPLIT_LIST, "{\"items\":null}",
	  "rest {\"items\":null}\n", NULL },
	{ "items elsewhere", SPLIT_LIST,
	  "{\"data\":{\"items\":[{}]},\"items2\":[{}],\"x\":\"items\",\"y\":[{}],\"item\":[{}],"
	  "\"\\\"items\":[{}],\"i\\u0074ems\":[{}]}",
	  "rest "
	  "{\"data\":{\"items\":[{}]},\"items2\":[{}],\"x\":\"items\",\"y\":[{}],\"item\":[{}],"
	  "\"\\\"items\":[{}],\"i\\u0074ems\":[{}]}\n",
	  NULL },
	{ "two lists", SPLIT_LIST, "{\"items\":[{}]}\n{\"items\":[{\"x\":1}]}",
	  "head {\"items\":[]}\nitem {}\nrest {\"items\":[]}\nhead {\"items\":[]}\nitem {\"x\":1}\n"
	  "rest {\"items\":[]}\n",
	  NULL },
	{ "stream", SPLIT_STREAM, "{\"items\":[{}]}\n{\"b\":[]}{}",
	  "item {\"items\":[{}]}\nitem {\"b\":[]}\nitem {}\n", NULL },
	{ "no object", SPLIT_LIST, " [1]", "", "byte 1: an object is expected here" },
	{ "element is no object", SPLIT_LIST, "{\"items\":[1]}",
	  "head {\"items\":[]}\n",
	  "byte 10: an object, a comma or the end of items is expected here" },
	{ "comma missing", SPLIT_LIST, "{\"items\":[{}{}]}",
	  "head {\"items\":[]}\nitem {}\n",
	  "byte 12: an object, a comma or the end of items is expected here" },
	{ "comma too many", SPLIT_LIST, "{\"items\":[{},]}",
	  "head {\"items\":[]}\nitem {}\n",
	  "byte 13: an object, a comma or the end of items is expected here" },
	{ "cut in an item", SPLIT_LIST, "{\"items\":[{\"a\"",
	  "head {\"items\":[]}\n", "the text ends in the middle of an object" },
	{ "cut in the rest", SPLIT_LIST, "{\"items\":[{}]",
	  "head {\"items\":[]}\nitem {}\n",
	  "the text ends in the middle of an object" },
	{ "cut in an event", SPLIT_STREAM, "{}{\"a", "item {}\n",
	  "the text ends in the middle of an object" },
	{ "callback fails", SPLIT_STREAM, "{}{\"fail\":1}{}", "item {}\n",
	  "as asked" },
};

static void check_case(size_t i, size_t piece)
{
	struct splitter *s;
	struct strbuf log = STRBUF_INIT;
	struct errbuf eb = { "" };
	int err;

	s = splitter_new(cases[i].mode, &ops, &log);
	strbuf_adds(&log, "");
	err = feed_pieces(s, cases[i].text, piece, &eb);
	ck_assert_msg(strcmp(log.text, cases[i].want) == 0,
		      "%s in pieces of %zu: want\n%sgot\n%s", cases[i].name,
		      piece, cases[i].want, log.text);
	ck_assert_msg(!err == !cases[i].error, "%s in pieces of %zu: %d %s",
		      cases[i].name, piece, err, eb.text);
	if (cases[i].error)
		ck_assert_msg(strstr(eb.text, cases[i].error),
			      "%s in pieces of %zu: want '%s', got '%s'",
			      cases[i].name, piece, cases[i].error, eb.text);
	splitter_free(s);
	strbuf_free(&log);
}

START_TEST(test_cases)
{
	size_t piece;

	for (piece = 1; piece <= strlen(cases[_i].text) + 1; piece++)
		check_case((size_t)_i, piece);
}
END_TEST

START_TEST(test_depth)
{
	struct splitter *s = splitter_new(SPLIT_STREAM, &ops, NULL);
	struct errbuf eb = { "" };
	int i, err = 0;

	for (i = 0; i < 2 * JSON_MAX_DEPTH && !err; i++)
		err = splitter_feed(s, "{\"a\":", 5, &eb);
	ck_assert_int_eq(err, -EINVAL);
	ck_assert_msg(strstr(eb.text, "nested too deeply"), "%s", eb.text);
	ck_assert_int_eq(splitter_feed(s, "{}", 2, &eb), -EINVAL);
	splitter_free(s);
}
END_TEST

/* An element, or what is around the elements, that never ends. */
START_TEST(test_length)
{
	static const char *const begin[] = { "{\"items\":[{\"x\":\"", "{\"x\":\"" };
	size_t size = 1024 * 1024, fed = 0;
	char *filler = malloc(size);
	struct strbuf log = STRBUF_INIT;
	struct splitter *s = splitter_new(SPLIT_LIST, &ops, &log);
	struct errbuf eb = { "" };
	int err;

	memset(filler, 'x', size);
	err = splitter_feed(s, begin[_i], strlen(begin[_i]), &eb);
	while (!err && fed < 2 * (size_t)JSON_MAX_LENGTH) {
		err = splitter_feed(s, filler, size, &eb);
		fed += size;
	}
	ck_assert_msg(err == -E2BIG && fed <= (size_t)JSON_MAX_LENGTH + size,
		      "%d after %zu", err, fed);
	splitter_reset(s);
	ck_assert_int_eq(splitter_feed(s, "{}", 2, &eb), 0);
	ck_assert_int_eq(splitter_finish(s, &eb), 0);
	splitter_free(s);
	strbuf_free(&log);
	free(filler);
}
END_TEST

struct gauge {
	size_t items, most;
};

static int weigh(void *ctx, const char *text, size_t length, struct errbuf *eb)
{
	struct gauge *gauge = ctx;
	size_t used = mallinfo2().uordblks;

	(void)text;
	(void)length;
	(void)eb;
	gauge->items++;
	gauge->most = used > gauge->most ? used : gauge->most;
	return 0;
}

static int rest_is_short(void *ctx, const char *text, size_t length,
			 struct errbuf *eb)
{
	(void)ctx;
	(void)text;
	return length < 100 ? 0 : errf(eb, -E2BIG, "%zu bytes are left", length);
}

/* Lists and watches of 20 MB: no more than an object is kept. A sanitizer's heap weighs nothing. */
START_TEST(test_memory)
{
	static const struct splitter_ops weighing = { NULL, weigh, rest_is_short };
	static const char *const begin[] = { "", "{\"items\":[" }, *const end[] = {
		"", "{}]}"
	};
	struct strbuf object = STRBUF_INIT;
	struct gauge gauge = { 0 };
	struct splitter *s =
		splitter_new(_i ? SPLIT_LIST : SPLIT_STREAM, &weighing, &gauge);
	struct errbuf eb = { "" };
	size_t before, i;

	strbuf_addf(&object, "{\"x\":\"%01000d\"}%s", 0, _i ? "," : "\n");
	before = mallinfo2().uordblks;
	ck_assert_int_eq(splitter_feed(s, begin[_i], strlen(begin[_i]), &eb), 0);
	for (i = 0; i < 20000; i++)
		ck_assert_int_eq(
			splitter_feed(s, object.text, object.length, &eb), 0);
	ck_assert_int_eq(splitter_feed(s, end[_i], strlen(end[_i]), &eb), 0);
	ck_assert_msg(splitter_finish(s, &eb) == 0, "%s", eb.text);
	ck_assert_uint_ge(gauge.items, 20000);
	ck_assert_msg(gauge.most <= before + 8192, "%zu bytes more",
		      gauge.most - before);
	splitter_free(s);
	strbuf_free(&object);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("splitter");
	TCase *tc = tcase_create("splitter");

	ADD_LOOP(tc, test_cases, cases);
	tcase_add_test(tc, test_depth);
	tcase_add_loop_test(tc, test_length, 0, 2);
	tcase_add_loop_test(tc, test_memory, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
