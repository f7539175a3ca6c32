/* YAML to trees: what plain words mean, bounds, aliases, several documents, streamed items. */
#include "watch/yaml.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"

#include "tests/support/suite.h"

/* The tree as JSON-like text. */
static void print(struct strbuf *sb, const struct json *json)
{
	const char *comma = "";

	if (json_type(json) == JSON_NULL)
		strbuf_adds(sb, "null");
	if (json_type(json) == JSON_BOOL)
		strbuf_adds(sb, json_is_true(json) ? "true" : "false");
	if (json_type(json) == JSON_NUMBER)
		strbuf_addf(sb, "%.17g", json_number(json));
	if (json_type(json) == JSON_STRING)
		strbuf_addf(sb, "'%s'", json_string(json));
	if (json_type(json) < JSON_ARRAY)
		return;
	strbuf_addc(sb, json_type(json) == JSON_ARRAY ? '[' : '{');
	json_for_each (item, json) {
		strbuf_adds(sb, comma);
		comma = ",";
		if (json_key(item))
			strbuf_addf(sb, "%s:", json_key(item));
		print(sb, item);
	}
	strbuf_addc(sb, json_type(json) == JSON_ARRAY ? ']' : '}');
}

static const struct {
	const char *name, *text, *want; /* a tree, or a message if @fails */
	bool fails;
} cases[] = {
	{ "empty", "", "null", false },
	{ "comment only", "# nothing\n", "null", false },
	{ "block style", "a: 1\nb:\n- x\n- y: z\n  w: 'v'\nc: |\n  line\n  line\n",
	  "{a:1,b:['x',{y:'z',w:'v'}],c:'line\nline\n'}", false },
	{ "flow style and JSON", "{\"a\": [1, true, null, \"x\"], b: {c: d}}",
	  "{a:[1,true,null,'x'],b:{c:'d'}}", false },
	{ "nulls", "[null, Null, NULL, ~, '', 'null']",
	  "[null,null,null,null,'','null']", false },
	{ "empty value", "a:\nb: x", "{a:null,b:'x'}", false },
	{ "booleans", "[true, True, yes, on, ON, false, no, off, 'yes', y, n, tRUE]",
	  "[true,true,true,true,true,false,false,false,'yes','y','n','tRUE']",
	  false },
	{ "integers", "[0, 80, -1, +5, 0x1F, 0o17, 017, 0b11, 08, 1_000, 0x, '80']",
	  "[0,80,-1,5,31,15,15,3,8,'1_000','0x','80']", false },
	{ "floats", "[1.5, .5, 5., 1e3, 1E-2, ., 1.2.3, e5, .e5, 1e, .inf]",
	  "[1.5,0.5,5,1000,0.01,'.','1.2.3','e5','.e5','1e','.inf']", false },
	{ "addresses and times",
	  "[10.0.0.1, fd00::1, 30s, 2026-11-23T07:20:20Z, 10.0.0.0/8]",
	  "['10.0.0.1','fd00::1','30s','2026-11-23T07:20:20Z','10.0.0.0/8']",
	  false },
	{ "tags", "[!!str 80, !!int '80', !!float 1, !!bool 'yes', !!null '', ! 80]",
	  "['80',80,1,true,null,'80']", false },
	{ "wrong tag", "a: !!int x",
	  "line 1, column 4: unknown tag, or not of that type", true },
	{ "unknown tag", "a: !thing x",
	  "line 1, column 4: unknown tag, or not of that type", true },
	{ "numeric key", "80: x", "{80:'x'}", false },
	{ "anchors", "a: &x {b: [1]}\nc: *x\nd: &y z\ne: [*y, *x]",
	  "{a:{b:[1]},c:{b:[1]},d:'z',e:['z',{b:[1]}]}", false },
	{ "anchor again", "[&x 1, *x, &x 2, *x]", "[1,1,2,2]", false },
	{ "merge",
	  "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: {<<: [{b: 9}, *x], f: 4}",
	  "{a:{b:1,c:2},d:{c:3,b:1},e:{f:4,b:9,c:2}}", false },
	{ "quoted <<", "{'<<': {a: 1}}", "{<<:{a:1}}", false },
	{ "merge of a scalar", "{<<: 5}",
	  "line 1, column 7: only a mapping can be merged", true },
	{ "alias in its own anchor", "a: &x [*x]",
	  "line 1, column 8: no such anchor", true },
	{ "unknown alias", "a: *x", "line 1, column 4: no such anchor", true },
	{ "mapping as a key", "{{a: b}: c}",
	  "line 1, column 2: a key that is no plain text", true },
	{ "escaped NUL", "a: \"x\\0y\"", "line 1, column 4: NUL in a string", true },
	{ "escaped NUL in a key", "\"x\\0y\": 1",
	  "line 1, column 1: NUL in a key", true },
	{ "tab as indentation", "a:\n\tb: 1",
	  "line 2, column 1: found character that cannot start any token", true },
	{ "cut", "a: [1, 2",
	  "line 2, column 1: did not find expected ',' or ']'", true },
	{ "no UTF-8", "a: \xff", "byte 3: invalid leading UTF-8 octet", true },
	{ "two documents", "a: 1\n---\nb: 2", "more than one document", true },
	{ "separators only", "---\na: 1\n---\n", "{a:1}", false },
	{ "repeated keys stay", "a: 1\na: 2", "{a:1,a:2}", false },
};

START_TEST(test_cases)
{
	struct strbuf sb = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct json *json =
		yaml_parse(cases[_i].text, strlen(cases[_i].text), &eb);

	if (json)
		print(&sb, json);
	ck_assert_msg(!json == cases[_i].fails, "%s: got %s", cases[_i].name,
		      json ? sb.text : eb.text);
	if (cases[_i].want)
		ck_assert_msg(strcmp(json ? sb.text : eb.text, cases[_i].want) == 0,
			      "%s: want\n%s\ngot\n%s", cases[_i].name,
			      cases[_i].want, json ? sb.text : eb.text);
	json_free(json);
	strbuf_free(&sb);
}
END_TEST

static struct json *parse(const struct strbuf *sb, struct errbuf *eb)
{
	ck_assert_int_eq(sb->err, 0);
	return yaml_parse(sb->text, sb->length, eb);
}

START_TEST(test_depth)
{
	struct strbuf sb = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct json *json;
	int i, depth;

	for (depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
		strbuf_reset(&sb);
		for (i = 0; i < depth; i++)
			strbuf_addc(&sb, '[');
		for (i = 0; i < depth; i++)
			strbuf_addc(&sb, ']');
		json = parse(&sb, &eb);
		ck_assert_msg(!json == (depth > JSON_MAX_DEPTH), "depth %d: %s",
			      depth, eb.text);
		json_free(json);
	}
	ck_assert_msg(strstr(eb.text, "nested too deeply"), "%s", eb.text);
	strbuf_free(&sb);
}
END_TEST

/* Each anchor is one deeper than what it holds, and ends in an alias to the one before. */
START_TEST(test_depth_of_aliases)
{
	struct strbuf sb = STRBUF_INIT;
	struct errbuf eb = { "" };
	int i;

	strbuf_adds(&sb, "- &a0 [x]\n");
	for (i = 1; i < JSON_MAX_DEPTH; i++)
		strbuf_addf(&sb, "- &a%d [[*a%d]]\n", i, i - 1);
	ck_assert_ptr_null(parse(&sb, &eb));
	ck_assert_msg(strstr(eb.text, "nested too deeply"), "%s", eb.text);
	strbuf_free(&sb);
}
END_TEST

/* Nine lists of nine aliases each to the one before: 9^9 values. */
START_TEST(test_billion_laughs)
{
	struct strbuf sb = STRBUF_INIT;
	struct errbuf eb = { "" };
	int i, j;

	strbuf_adds(&sb, "l0: &l0 lol\n");
	for (i = 1; i < 10; i++) {
		strbuf_addf(&sb, "l%d: &l%d [", i, i);
		for (j = 0; j < 9; j++)
			strbuf_addf(&sb, "%s*l%d", j ? "," : "", i - 1);
		strbuf_adds(&sb, "]\n");
	}
	ck_assert_ptr_null(parse(&sb, &eb));
	ck_assert_msg(strstr(eb.text, "anchors and aliases multiply to too much"),
		      "%s", eb.text);
	strbuf_free(&sb);
}
END_TEST

START_TEST(test_long_alias)
{
	struct strbuf sb = STRBUF_INIT;
	struct errbuf eb = { "" };
	int i;

	strbuf_adds(&sb, "a: &x ");
	for (i = 0; i < 100000; i++)
		strbuf_adds(&sb, "abcdefghij");
	strbuf_adds(&sb, "\nb: [");
	for (i = 0; i < 100; i++)
		strbuf_adds(&sb, "*x,");
	strbuf_adds(&sb, "]");
	ck_assert_ptr_null(parse(&sb, &eb));
	ck_assert_msg(strstr(eb.text, "multiply to too much"), "%s", eb.text);
	strbuf_free(&sb);
}
END_TEST

START_TEST(test_many_anchors)
{
	struct strbuf sb = STRBUF_INIT;
	struct errbuf eb = { "" };
	int i;

	for (i = 0; i < 1001; i++)
		strbuf_addf(&sb, "- &a%d 1\n", i);
	ck_assert_ptr_null(parse(&sb, &eb));
	ck_assert_msg(strstr(eb.text, "too many anchors"), "%s", eb.text);
	strbuf_free(&sb);
}
END_TEST

START_TEST(test_many_values)
{
	struct strbuf sb = STRBUF_INIT;
	struct errbuf eb = { "" };
	int i;

	strbuf_addc(&sb, '[');
	for (i = 0; i <= JSON_MAX_VALUES; i++)
		strbuf_adds(&sb, "1,");
	strbuf_addc(&sb, ']');
	ck_assert_ptr_null(parse(&sb, &eb));
	ck_assert_msg(strstr(eb.text, "too many values"), "%s", eb.text);
	strbuf_free(&sb);
}
END_TEST

/* ---- streams */

struct source {
	const char *text;
	size_t at, piece;
	size_t endless; /* bytes of a scalar that does not end */
	int fail;
};

static ssize_t read_source(void *ctx, char *bytes, size_t size)
{
	struct source *source = ctx;
	size_t n = strlen(source->text + source->at);

	n = n < source->piece ? n : source->piece;
	n = n < size ? n : size;
	memcpy(bytes, source->text + source->at, n);
	source->at += n;
	if (n)
		return (ssize_t)n;
	if (source->endless) {
		memset(bytes, 'x', size);
		source->endless -= size < source->endless ? size : source->endless;
		return (ssize_t)size;
	}
	return source->fail;
}

static int log_item(void *ctx, const struct json *document, struct json *item,
		    struct errbuf *eb)
{
	const char *kind = json_string(json_get(document, "kind"));

	if (json_get(item, "fail")) {
		json_free(item);
		return errf(eb, -EPROTO, "as asked");
	}
	strbuf_addf(ctx, "%s item ", kind ? kind : "-");
	print(ctx, item);
	strbuf_addc(ctx, '\n');
	json_free(item);
	return 0;
}

static int log_document(void *ctx, struct json *document, struct errbuf *eb)
{
	(void)eb;
	print(ctx, document);
	strbuf_addc(ctx, '\n');
	json_free(document);
	return 0;
}

static const struct yaml_ops ops = { log_item, log_document };

static const struct {
	const char *name, *text, *want;
	int err;
} streams[] = {
	{ "documents", "a: 1\n---\n---\nb: 2\n...\n", "{a:1}\nnull\n{b:2}\n", 0 },
	{ "list", "kind: List\nitems:\n- a: 1\n- b: [2]\nmetadata: {}\n",
	  "List item {a:1}\nList item {b:[2]}\n{kind:'List',items:[],metadata:{}}\n",
	  0 },
	{ "kind afterwards", "items: [{a: 1}]\nkind: List\n",
	  "- item {a:1}\n{items:[],kind:'List'}\n", 0 },
	{ "items elsewhere", "a: {items: [1]}\n", "{a:{items:[1]}}\n", 0 },
	{ "items is no list", "items: x\n", "{items:'x'}\n", 0 },
	{ "anchor from another item", "items: [{a: &x 1}, {b: *x}]\n",
	  "- item {a:1}\n- item {b:1}\n{items:[]}\n", 0 },
	{ "anchor from another document", "a: &x 1\n---\nb: *x\n", "{a:1}\n",
	  -EINVAL },
	{ "callback fails", "items: [{a: 1}, {fail: 1}, {b: 1}]\n",
	  "- item {a:1}\n", -EPROTO },
};

START_TEST(test_streams)
{
	struct strbuf sb = STRBUF_INIT;
	struct source source = { .text = streams[_i].text };
	struct errbuf eb = { "" };
	int err;

	for (source.piece = 1; source.piece < 40; source.piece += 13) {
		source.at = 0;
		strbuf_reset(&sb);
		err = yaml_read(read_source, &source, &ops, &sb, &eb);
		ck_assert_msg(err == streams[_i].err, "%s: %d %s",
			      streams[_i].name, err, eb.text);
		ck_assert_msg(strcmp(sb.text, streams[_i].want) == 0,
			      "%s: want\n%s\ngot\n%s", streams[_i].name,
			      streams[_i].want, sb.text);
	}
	strbuf_free(&sb);
}
END_TEST

START_TEST(test_endless_scalar)
{
	struct source source = { .text = "b: 1\nc: 2\na: ",
				 .piece = 10,
				 .endless = 4 * (size_t)JSON_MAX_LENGTH };
	struct strbuf sb = STRBUF_INIT;
	struct errbuf eb = { "" };

	ck_assert_int_eq(yaml_read(read_source, &source, &ops, &sb, &eb), -E2BIG);
	ck_assert_msg(strstr(eb.text, "line 3: a value of more than"), "%s",
		      eb.text);
	ck_assert_uint_gt(source.endless, 2 * (size_t)JSON_MAX_LENGTH);
	strbuf_free(&sb);
}
END_TEST

START_TEST(test_read_error)
{
	struct source source = { .text = "a: b\n", .piece = 10, .fail = -EIO };
	struct strbuf sb = STRBUF_INIT;
	struct errbuf eb = { "" };

	ck_assert_int_eq(yaml_read(read_source, &source, &ops, &sb, &eb), -EIO);
	ck_assert_str_eq(eb.text, "cannot be read: Input/output error");
	strbuf_free(&sb);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("yaml");
	TCase *tc = tcase_create("yaml");

	tcase_set_timeout(tc, 60);
	ADD_LOOP(tc, test_cases, cases);
	tcase_add_test(tc, test_depth);
	tcase_add_test(tc, test_depth_of_aliases);
	tcase_add_test(tc, test_billion_laughs);
	tcase_add_test(tc, test_long_alias);
	tcase_add_test(tc, test_many_anchors);
	tcase_add_test(tc, test_many_values);
	ADD_LOOP(tc, test_streams, streams);
	tcase_add_test(tc, test_endless_scalar);
	tcase_add_test(tc, test_read_error);
	suite_add_tcase(suite, tc);
	return suite;
}
