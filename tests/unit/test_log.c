/* The log: format, escapes, levels, and the rate of repeated lines. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/log.h"
#include "proxy/base/strbuf.h"

#include "tests/support/suite.h"

#define STAMP "2023-11-14T22:13:20.000042Z"

struct fixture {
	int fd[2];
	int64_t monotonic_us;
	struct clock clock;
	struct log *log;
	char text[8192];
};

static int64_t fake_realtime(void *ctx)
{
	(void)ctx;
	return INT64_C(1700000000000042);
}

static int64_t fake_monotonic(void *ctx)
{
	const struct fixture *f = ctx;

	return f->monotonic_us;
}

static void begin(struct fixture *f, int verbosity, bool json)
{
	memset(f, 0, sizeof(*f));
	f->clock = (struct clock){ fake_realtime, fake_monotonic, f, NULL };
	ck_assert_int_eq(pipe(f->fd), 0);
	f->log = log_new(f->fd[1], verbosity, json, &f->clock);
	ck_assert_ptr_nonnull(f->log);
}

/* All that was written. */
static const char *end(struct fixture *f)
{
	ssize_t n;

	log_free(f->log);
	close(f->fd[1]);
	n = read(f->fd[0], f->text, sizeof(f->text) - 1);
	ck_assert_int_ge(n, 0);
	f->text[n] = '\0';
	close(f->fd[0]);
	return f->text;
}

static unsigned int count_lines(const char *text)
{
	unsigned int n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static const struct {
	const char *name;
	bool json;
	int severity;
	const char *message, *want;
} lines[] = {
	{ "error", false, LOG_ERR, "a", STAMP " error: a\n" },
	{ "critical is an error", false, LOG_CRIT, "a", STAMP " error: a\n" },
	{ "warning", false, LOG_WARNING, "a b", STAMP " warning: a b\n" },
	{ "info", false, LOG_INFO, "a", STAMP " info: a\n" },
	{ "notice is info", false, LOG_NOTICE, "a", STAMP " info: a\n" },
	{ "debug is not wanted", false, LOG_DEBUG, "a", "" },
	{ "a line cannot be forged", false, LOG_INFO, "a\nb\x1b[1m\x7f",
	  STAMP " info: a\\x0ab\\x1b[1m\\x7f\n" },
	{ "UTF-8 stays", false, LOG_INFO, "\u00e4", STAMP " info: \u00e4\n" },
	{ "bytes that are no UTF-8 are escaped", false, LOG_INFO,
	  "a\xff\x80\xc3(\xe2\x82", STAMP " info: a\\xff\\x80\\xc3(\\xe2\\x82\n" },
	{ "a terminal is not steered", false, LOG_INFO, "\xc2\x9b[2J\xe2\x80\xae",
	  STAMP " info: \\xc2\\x9b[2J\\xe2\\x80\\xae\n" },
	{ "JSON", true, LOG_WARNING, "a",
	  "{\"ts\":\"" STAMP "\",\"severity\":\"warning\",\"message\":\"a\"}\n" },
	{ "JSON escapes", true, LOG_ERR, "a\"b\\c\nd",
	  "{\"ts\":\"" STAMP
	  "\",\"severity\":\"error\",\"message\":\"a\\\"b\\\\c\\u000ad\"}\n" },
	{ "JSON is UTF-8 whatever comes", true, LOG_ERR, "a\xff\xc2\x9b\u00e4",
	  "{\"ts\":\"" STAMP
	  "\",\"severity\":\"error\",\"message\":\"a\\\\xff\\u009b\u00e4\"}\n" },
};

START_TEST(line)
{
	struct fixture f;
	const char *got;

	begin(&f, 0, lines[_i].json);
	log_message(f.log, lines[_i].severity, lines[_i].message);
	got = end(&f);
	ck_assert_msg(strcmp(got, lines[_i].want) == 0, "%s: want %s, got %s",
		      lines[_i].name, lines[_i].want, got);
}
END_TEST

START_TEST(verbosity)
{
	struct fixture f;

	begin(&f, 2, false);
	ck_assert(log_wants(f.log, 2));
	ck_assert(!log_wants(f.log, 3));
	log_debug(f.log, 2, "two");
	log_debug(f.log, 3, "three");
	log_line(f.log, LOG_DEBUG, "four");
	log_event(f.log, 3, "word", "a/b:c", "five");
	log_set_verbosity(f.log, 3);
	log_line(f.log, LOG_DEBUG, "debug");
	log_set_verbosity(f.log, 0);
	log_debug(f.log, 1, "one");
	log_info(f.log, "%s", "info");
	ck_assert_str_eq(end(&f), STAMP " info: two\n" STAMP
					" debug: debug\n" STAMP " info: info\n");
}
END_TEST

START_TEST(long_message)
{
	char *message = malloc(10000);
	struct fixture f;

	memset(message, 'x', 9999);
	message[9999] = '\0';
	begin(&f, 0, false);
	log_error(f.log, "%s", message);
	log_warning(f.log, "short");
	end(&f);
	ck_assert_uint_eq(count_lines(f.text), 2);
	ck_assert_uint_le(strlen(f.text), 2 * 2048);
	ck_assert_ptr_nonnull(strstr(f.text, " warning: short\n"));
	free(message);
}
END_TEST

START_TEST(recent)
{
	struct strbuf text = STRBUF_INIT;
	struct fixture f;
	unsigned int i;
	char byte;

	begin(&f, 0, false);
	log_info(f.log, "one");
	log_error(f.log, "two");
	log_debug(f.log, 1, "not written");
	log_recent(f.log, &text);
	ck_assert_str_eq(text.text, STAMP " info: one\n" STAMP " error: two\n");
	/* a hundred kilobytes more: whole lines, the latest of them */
	for (i = 0; i < 2000; i++) {
		log_info(f.log, "line %u", i);
		while (read(f.fd[0], &byte, 1) == 1 && byte != '\n')
			;
	}
	strbuf_reset(&text);
	log_recent(f.log, &text);
	ck_assert_uint_gt(text.length, 65000);
	ck_assert_uint_le(text.length, 1 << 16);
	ck_assert_int_eq(strncmp(text.text, STAMP " info: line ",
				 strlen(STAMP " info: line ")),
			 0);
	ck_assert_str_eq(text.text + text.length - strlen("line 1999\n"),
			 "line 1999\n");
	strbuf_free(&text);
	end(&f);
}
END_TEST

START_TEST(warnings)
{
	struct fixture f;

	begin(&f, 0, false);
	ck_assert_uint_eq(log_warnings(f.log, 3600), 0);
	f.monotonic_us = INT64_C(100000000000);
	log_info(f.log, "a");
	log_warning(f.log, "b");
	log_error(f.log, "c");
	f.monotonic_us += 30 * INT64_C(60000000);
	log_warning(f.log, "d");
	ck_assert_uint_eq(log_warnings(f.log, 3600), 3);
	ck_assert_uint_eq(log_warnings(f.log, 600), 1);
	f.monotonic_us += 45 * INT64_C(60000000);
	ck_assert_uint_eq(log_warnings(f.log, 3600), 1);
	end(&f);
}
END_TEST

START_TEST(rate)
{
	struct fixture f;
	int i;

	begin(&f, 0, false);
	for (i = 0; i < 100; i++)
		log_limited(f.log, LOG_ERR, "key", "again");
	log_limited(f.log, LOG_ERR, "other", "own bucket");
	f.monotonic_us += 30000000;
	log_limited(f.log, LOG_ERR, "key", "after a pause");
	log_limited(f.log, LOG_ERR, "key", "too soon");
	f.monotonic_us += INT64_C(3600000000);
	for (i = 0; i < 10; i++)
		log_limited(f.log, LOG_ERR, "key", "full again");
	end(&f);
	ck_assert_uint_eq(count_lines(f.text), 5 + 1 + 1 + 5);
	ck_assert_ptr_nonnull(strstr(f.text, "own bucket\n"));
	ck_assert_ptr_nonnull(
		strstr(f.text, "after a pause (95 similar lines left out)\n"));
	ck_assert_ptr_null(strstr(f.text, "too soon"));
	ck_assert_ptr_nonnull(
		strstr(f.text, "full again (1 similar lines left out)\n"));
}
END_TEST

/* More keys than buckets: memory is bounded, and a busy key is not forgotten for idle ones. */
START_TEST(many_keys)
{
	struct fixture f;
	char key[32];
	int i;

	begin(&f, 0, false);
	for (i = 0; i < 1000; i++) {
		f.monotonic_us++;
		snprintf(key, sizeof(key), "key %d", i);
		log_limited(f.log, LOG_INFO, "busy", "x");
		if (i >= 100)
			continue;
		f.monotonic_us++;
		log_limited(f.log, LOG_INFO, key, "y");
		log_limited(f.log, LOG_DEBUG, key, "not wanted");
	}
	end(&f);
	ck_assert_uint_eq(count_lines(f.text), 5 + 100);
}
END_TEST

static void on_heard(void *ctx, int severity, const char *message)
{
	struct strbuf *out = ctx;

	strbuf_addf(out, "%d %s\n", severity, message);
}

/* Level 0 and nothing more, once each, whatever the verbosity. */
START_TEST(listener)
{
	struct strbuf heard = STRBUF_INIT;
	struct fixture f;
	int i;

	begin(&f, 3, true);
	log_set_listener(f.log, on_heard, &heard);
	log_error(f.log, "%s", "one");
	log_message(f.log, LOG_INFO, "two");
	log_debug(f.log, 1, "not this");
	log_event(f.log, 2, "sync", NULL, "nor this");
	log_message(f.log, LOG_DEBUG, "nor that");
	for (i = 0; i < 6; i++)
		log_limited(f.log, LOG_WARNING, "key", "again %d", i);
	log_set_listener(f.log, NULL, NULL);
	log_error(f.log, "nobody hears");
	end(&f);
	ck_assert_str_eq(heard.text,
			 "3 one\n6 two\n4 again 0\n4 again 1\n4 again 2\n4 again 3\n"
			 "4 again 4\n");
	ck_assert_uint_eq(count_lines(f.text), 11);
	strbuf_free(&heard);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("log");
	TCase *tc = tcase_create("log");

	ADD_LOOP(tc, line, lines);
	tcase_add_test(tc, verbosity);
	tcase_add_test(tc, long_message);
	tcase_add_test(tc, recent);
	tcase_add_test(tc, warnings);
	tcase_add_test(tc, rate);
	tcase_add_test(tc, many_keys);
	tcase_add_test(tc, listener);
	suite_add_tcase(suite, tc);
	return suite;
}
