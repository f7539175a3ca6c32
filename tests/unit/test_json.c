/* JSON text to trees: what is refused, what the accessors say about wrong types, and paths. */
#include "watch/json.h"
#include "proxy/base/strbuf.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/suite.h"

static struct json *parse(const char *text)
{
	struct errbuf eb = { "" };
	struct json *json = json_parse(text, strlen(text), &eb);

	ck_assert_msg(json, "%s: %s", text, eb.text);
	return json;
}

static const struct {
	const char *name, *text;
	size_t length;	  /* 0: strlen */
	const char *want; /* error, NULL: none */
} texts[] = {
	{ "object", "{\"a\": [1, true, null, \"x\"]}", 0, NULL },
	{ "space around", " \n[1]\r\n\t", 0, NULL },
	{ "not terminated", "{\"a\":1}garbage", 7, NULL },
	{ "escapes", "\"\\\"\\\\\\u0041\\ud83d\\ude00\"", 0, NULL },
	{ "empty", "", 0, "line 1, column 1: not JSON" },
	{ "space only", "  ", 0, "line 1, column 3: not JSON" },
	{ "trailing comma", "{\"a\":1,", 7, "line 1, column 8: not JSON" },
	{ "second line", "{\"a\":1,\n b:2}", 0, "line 2, column 3: not JSON" },
	{ "two values", "{} {}", 0, "line 1, column 4: more text after the end" },
	{ "cut in a string", "{\"a\":\"b", 0,
	  "line 1, column 7: unterminated string" },
	{ "cut in an escape", "\"\\", 0, "line 1, column 2: unterminated string" },
	{ "raw NUL", "[1\0]", 4, "line 1, column 3: NUL" },
	{ "raw NUL in a string", "\"a\0b\"", 5,
	  "line 1, column 3: control character in a string" },
	{ "escaped NUL", "[\"a\\u0000b\"]", 0, "line 1, column 4: NUL in a string" },
	{ "line feed in a string", "\"a\nb\"", 0,
	  "line 1, column 3: control character in a string" },
	{ "mismatched", "[1}", 0, "line 1, column 3: not JSON" },
	{ "lone surrogate", "\"\\ud800\"", 0, "line 1, column 2: not JSON" },
};

START_TEST(test_texts)
{
	size_t length =
		texts[_i].length ? texts[_i].length : strlen(texts[_i].text);
	char *copy = malloc(
		length); /* exactly as long, so that a sanitizer sees reads beyond */
	struct errbuf eb = { "" };
	struct json *json;

	memcpy(copy, texts[_i].text, length);
	json = json_parse(copy, length, &eb);
	free(copy);
	if (texts[_i].want)
		ck_assert_msg(!json && strcmp(eb.text, texts[_i].want) == 0,
			      "%s: want '%s', got '%s'", texts[_i].name,
			      texts[_i].want, json ? "a tree" : eb.text);
	else
		ck_assert_msg(json, "%s: %s", texts[_i].name, eb.text);
	json_free(json);
}
END_TEST

static struct json *parse_nested(size_t depth, char open, char close)
{
	char *text = malloc(2 * depth);
	struct json *json;

	memset(text, open, depth);
	memset(text + depth, close, depth);
	json = json_parse(text, 2 * depth, NULL);
	free(text);
	return json;
}

/* Anybody may write one into an annotation. */
START_TEST(test_nuls_of_objects)
{
	static const char text[] =
		"{\"a\\u0000\":\"\\\\u0000\\u0000\\\\\\u0000b\\u00001\"}";
	struct errbuf eb = { "" };
	struct json *json = json_parse_object(text, strlen(text), &eb);

	ck_assert_msg(json, "%s", eb.text);
	ck_assert_str_eq(json_string(json_get(json, "a\x1a")), "\\u0000\x1a\\\x1a"
							       "b\x1a"
							       "1");
	json_free(json);
	/* no less than others */
	ck_assert(!json_parse_object("\"\\u0000", 7, &eb));
	ck_assert(!json_parse_object("[\0]", 3, &eb));
}
END_TEST

START_TEST(test_bounds)
{
	size_t size = JSON_MAX_LENGTH + 1;
	struct json *json = parse_nested(JSON_MAX_DEPTH, '[', ']');
	char *text = malloc(size);

	ck_assert_msg(json, "depth %d", JSON_MAX_DEPTH);
	json_free(json);
	ck_assert_msg(!parse_nested(JSON_MAX_DEPTH + 1, '[', ']'), "depth %d",
		      JSON_MAX_DEPTH + 1);
	ck_assert_msg(!parse_nested(1000000, '[', ']'), "depth 1000000");
	memset(text, ' ', size);
	text[0] = '1';
	json = json_parse(text, size - 1, NULL);
	ck_assert_msg(json, "length %d", JSON_MAX_LENGTH);
	json_free(json);
	ck_assert_msg(!json_parse(text, size, NULL), "length %zu", size);
	free(text);
}
END_TEST

START_TEST(test_many_values)
{
	size_t i, n = JSON_MAX_VALUES + 1;
	char *text = malloc(2 * n + 1);
	struct json *json;
	struct errbuf eb = { "" };

	for (i = 0; i < n; i++)
		memcpy(text + 2 * i, i ? ",1" : "[1", 2);
	text[2 * n] = ']';
	ck_assert_ptr_null(json_parse(text, 2 * n + 1, &eb));
	ck_assert_msg(strstr(eb.text, "too many values"), "%s", eb.text);
	text[2 * n - 2] = ']';
	json = json_parse(text, 2 * n - 1, &eb);
	ck_assert_msg(json, "%s", eb.text);
	json_free(json);
	free(text);
}
END_TEST

static const char *text_of(const struct json *json)
{
	return json_string(json_first(json));
}

/* Several trees at once, small and large, freed in another order, and built ones between them. */
START_TEST(test_trees)
{
	enum { N = 5, LENGTH = 300000 };
	struct json *parsed[N], *copy[N], *built = json_new(JSON_ARRAY);
	char *text = malloc(LENGTH + 5);

	for (int i = 0; i < N; i++) {
		size_t length = i % 2 ? LENGTH : 10;

		memset(text, 'a' + i, length + 4);
		memcpy(text, "[\"", 2);
		memcpy(text + 2 + length, "\"]", 3);
		parsed[i] = parse(text);
		copy[i] = json_copy(parsed[i]);
		ck_assert_ptr_null(json_parse("[1,2", 4, NULL));
	}
	free(text);
	for (int i = 0; i < N; i++) {
		const char *string = text_of(parsed[i]);

		ck_assert_uint_eq(strlen(string), i % 2 ? LENGTH : 10);
		ck_assert_int_eq(string[strlen(string) - 1], 'a' + i);
		ck_assert_str_eq(text_of(copy[i]), string);
		json_free(parsed[i]);
		ck_assert_int_eq(text_of(copy[i])[0], 'a' + i);
		ck_assert_int_eq(json_append(built, copy[i]), 0);
	}
	ck_assert_int_eq(text_of(json_first(built))[0], 'a');
	json_free(built);
}
END_TEST

static const char fields[] =
	"{\"s\":\"text\",\"b\":true,\"n\":80,\"half\":0.5,\"big\":9007199254740993e3,\"neg\":-1,"
	"\"huge\":1e999,\"nothing\":null,\"list\":[{\"port\":70000},{\"port\":\"80\"}],\"twice\":1,"
	"\"twice\":2,\"odd\\nkey\":[1]}";

START_TEST(test_get)
{
	struct json *json = parse(fields);
	const struct json *list = NULL;
	struct errbuf eb = { "" };
	const char *text = "unset";
	int64_t number = 7;
	bool flag = false;

	ck_assert_int_eq(json_get_string(json, json, "s", &text, &eb), 1);
	ck_assert_str_eq(text, "text");
	ck_assert_int_eq(json_get_bool(json, json, "b", &flag, &eb), 1);
	ck_assert(flag);
	ck_assert_int_eq(json_get_integer(json, json, "neg", -1, 5, &number, &eb),
			 1);
	ck_assert_int_eq(number, -1);
	ck_assert_int_eq(
		json_get_integer(json, json, "nothing", 0, 5, &number, &eb), 0);
	ck_assert_int_eq(
		json_get_integer(json, json, "absent", 0, 5, &number, &eb), 0);
	ck_assert_int_eq(
		json_get_integer(json, NULL, "absent", 0, 5, &number, &eb), 0);
	ck_assert_int_eq(number, -1);
	ck_assert_int_eq(
		json_get_integer(json, json, "twice", 0, 5, &number, &eb), 1);
	ck_assert_msg(number == 2, "the last of a repeated key counts");
	ck_assert_int_eq(
		json_get_tree(json, json, "list", JSON_ARRAY, &list, &eb), 1);
	ck_assert_int_eq(json_get_string(json, json_get(json, "absent"), "x",
					 &text, &eb),
			 0);
	ck_assert_str_eq(eb.text, "");
	json_free(json);
}
END_TEST

enum getter { STRING, BOOL, INTEGER, OBJECT, ARRAY };

static const struct {
	const char *name, *key;
	enum getter getter;
	const char *want;
} wrong[] = {
	{ "number for a string", "n", STRING, "n: a number where a string belongs" },
	{ "string for a boolean", "s", BOOL, "s: a string where a boolean belongs" },
	{ "boolean for a number", "b", INTEGER,
	  "b: a boolean where a number belongs" },
	{ "list for an object", "list", OBJECT,
	  "list: a list where an object belongs" },
	{ "object for a list", "s", ARRAY, "s: a string where a list belongs" },
	{ "fraction", "half", INTEGER, "half: 0.5 is not a whole number" },
	{ "too large to be exact", "big", INTEGER,
	  "big: 9.007199254740993e+18 is not a whole number" },
	{ "infinite integer", "huge", INTEGER, "huge: inf is not a whole number" },
	{ "below", "neg", INTEGER, "neg: -1 is not between 0 and 10" },
	{ "above", "n", INTEGER, "n: 80 is not between 0 and 10" },
};

START_TEST(test_wrong)
{
	struct json *json = parse(fields);
	const struct json *tree;
	struct errbuf eb = { "" };
	const char *text, *key = wrong[_i].key;
	int64_t number;
	bool flag;
	int ret = 0;

	switch (wrong[_i].getter) {
	case STRING:
		ret = json_get_string(json, json, key, &text, &eb);
		break;
	case BOOL:
		ret = json_get_bool(json, json, key, &flag, &eb);
		break;
	case INTEGER:
		ret = json_get_integer(json, json, key, 0, 10, &number, &eb);
		break;
	case OBJECT:
		ret = json_get_tree(json, json, key, JSON_OBJECT, &tree, &eb);
		break;
	case ARRAY:
		ret = json_get_tree(json, json, key, JSON_ARRAY, &tree, &eb);
		break;
	}
	ck_assert_msg(ret < 0 && strcmp(eb.text, wrong[_i].want) == 0,
		      "%s: want '%s', got %d '%s'", wrong[_i].name,
		      wrong[_i].want, ret, eb.text);
	json_free(json);
}
END_TEST

START_TEST(test_path)
{
	struct json *json = parse(fields);
	const struct json *item = json_first(json_get(json, "list"));
	char text[JSON_PATH_SIZE];

	ck_assert_str_eq(json_path(json, json, text), "");
	ck_assert_str_eq(json_path(json, item, text), "list[0]");
	ck_assert_str_eq(json_path(json, json_get(json_next(item), "port"), text),
			 "list[1].port");
	ck_assert_str_eq(
		json_path(json, json_first(json_get(json, "odd\nkey")), text),
		"odd?key[0]");
	json_free(json);
}
END_TEST

START_TEST(test_long_path)
{
	char key[JSON_PATH_SIZE + 1] = "", doc[4 * JSON_PATH_SIZE],
				  text[JSON_PATH_SIZE];
	struct json *json;

	memset(key, 'k', sizeof(key) - 1);
	snprintf(doc, sizeof(doc), "{\"%s\":{\"%s\":[1]}}", key, key);
	json = parse(doc);
	json_path(json, json_first(json_get(json_get(json, key), key)), text);
	ck_assert_uint_eq(strlen(text), JSON_PATH_SIZE - 1);
	json_free(json);
}
END_TEST

static void remember(void *ctx, const char *path)
{
	strbuf_adds(ctx, path);
	strbuf_adds(ctx, ";");
}

START_TEST(test_duplicates)
{
	struct json *json = parse(
		"{\"a\":1,\"b\":[{\"x\":1,\"y\":{\"z\":1,\"z\":2},\"x\":3}],\"a\":1}");
	struct strbuf found = STRBUF_INIT;

	ck_assert_int_eq(json_duplicates(json, remember, &found), 0);
	ck_assert_str_eq(found.text, "a;b[0].x;b[0].y.z;");
	strbuf_free(&found);
	json_free(json);
}
END_TEST

START_TEST(test_build)
{
	struct json *json = json_new(JSON_OBJECT), *list = json_new(JSON_ARRAY),
		    *copy;
	int64_t number = 0;

	ck_assert_int_eq(json_append(list, json_new_number(5)), 0);
	ck_assert_int_eq(json_append(list, json_new_bool(true)), 0);
	ck_assert_int_eq(json_append(list, json_new(JSON_NULL)), 0);
	ck_assert_int_eq(json_append(list, NULL), -12);
	ck_assert_int_eq(json_insert(json, "list", list), 0);
	ck_assert_int_eq(json_insert(json, "text", json_new_string("x")), 0);
	copy = json_copy(json);
	json_free(json);
	ck_assert_uint_gt(json_size(copy), 6 * 32);
	ck_assert(json_integer(json_first(json_get(copy, "list")), &number));
	ck_assert_int_eq(number, 5);
	ck_assert_str_eq(json_string(json_get(copy, "text")), "x");
	json_free(copy);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("json");
	TCase *tc = tcase_create("json");

	tcase_set_timeout(tc, 60);
	ADD_LOOP(tc, test_texts, texts);
	tcase_add_test(tc, test_nuls_of_objects);
	tcase_add_test(tc, test_bounds);
	tcase_add_test(tc, test_many_values);
	tcase_add_test(tc, test_trees);
	tcase_add_test(tc, test_get);
	ADD_LOOP(tc, test_wrong, wrong);
	tcase_add_test(tc, test_path);
	tcase_add_test(tc, test_long_path);
	tcase_add_test(tc, test_duplicates);
	tcase_add_test(tc, test_build);
	suite_add_tcase(suite, tc);
	return suite;
}
