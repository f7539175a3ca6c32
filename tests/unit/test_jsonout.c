/* Text that others read: JSON, and tables. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/jsonout.h"
#include "proxy/base/table.h"

#include "tests/support/suite.h"

START_TEST(json)
{
	struct strbuf out = STRBUF_INIT;

	jsonout_object(&out, NULL);
	jsonout_text(&out, "name", "a\"b");
	jsonout_array(&out, "list");
	jsonout_integer(&out, NULL, -1);
	jsonout_integer(&out, NULL, INT64_MAX);
	jsonout_array(&out, NULL);
	jsonout_array_end(&out);
	jsonout_object(&out, NULL);
	jsonout_object_end(&out);
	jsonout_textf(&out, NULL, "%d:%s", 1, "x");
	jsonout_array_end(&out);
	jsonout_key(&out, "own");
	strbuf_adds(&out, "null");
	jsonout_bool(&out, "yes", true);
	jsonout_bool(&out, "no", false);
	jsonout_real(&out, "real", 1.5);
	jsonout_text(&out, "ends like an object {", "{");
	jsonout_text(&out, "last", "");
	jsonout_object_end(&out);
	ck_assert_str_eq(
		out.text,
		"{\"name\":\"a\\\"b\",\"list\":[-1,9223372036854775807,[],{},"
		"\"1:x\"],\"own\":null,\"yes\":true,\"no\":false,\"real\":1.500,"
		"\"ends like an object {\":\"{\",\"last\":\"\"}");
	strbuf_free(&out);
}
END_TEST

static const char *const headers[] = { "NAME", "COUNT", "STATE" };

static const struct {
	const char *name, *cells[6];
	bool with_headers;
	unsigned int indent;
	const char *want;
} tables[] = {
	{ "none", { NULL }, true, 0, "NAME  COUNT  STATE\n" },
	{ "none, and no headers", { NULL }, false, 0, "" },
	{ "aligned",
	  { "a", "1", "ok", "longer", "1234567", "refused: no endpoints" },
	  true,
	  0,
	  "NAME    COUNT    STATE\na       1        ok\nlonger  1234567  refused: no endpoints\n" },
	{ "no headers", { "a", "1", "ok", "bb", "22", "" }, false, 0, "a   1   ok\nbb  22  -\n" },
	{ "a row that breaks off", { "a", "1" }, true, 0, "NAME  COUNT  STATE\na     1\n" },
	{ "indented", { "a", "1", "ok" }, true, 2, "  NAME  COUNT  STATE\n  a     1      ok\n" },
	{ "UTF-8",
	  { "\u00e9\u00e9\u00e9\u00e9\u00e9", "1", "ok", "abcde", "2", "ok" },
	  false,
	  0,
	  "\u00e9\u00e9\u00e9\u00e9\u00e9  1  ok\nabcde  2  ok\n" },
};

START_TEST(columns)
{
	struct strbuf out = STRBUF_INIT;
	struct table t;
	int i;

	table_begin(&t, headers, N_ROWS(headers));
	for (i = 0; i < 6 && tables[_i].cells[i]; i++)
		table_add(&t, tables[_i].cells[i]);
	strbuf_adds(&out, "");
	table_print(&t, tables[_i].with_headers, tables[_i].indent, &out);
	ck_assert_msg(strcmp(out.text, tables[_i].want) == 0,
		      "%s: want\n%s, got\n%s", tables[_i].name, tables[_i].want,
		      out.text);
	table_free(&t);
	strbuf_free(&out);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("jsonout");
	TCase *tc = tcase_create("jsonout");

	tcase_add_test(tc, json);
	ADD_LOOP(tc, columns, tables);
	suite_add_tcase(suite, tc);
	return suite;
}
