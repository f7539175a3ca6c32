/*
 * The wire format, and how answers are cut: bytes by hand, whole and in pieces of every size. What
 * is in the messages is tests/unit/test_decode_protobuf.c's.
 */
#include "watch/protobuf.h"

#include <check.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"
#include "watch/json.h"
#include "watch/protobuf_stream.h"

#include "tests/support/suite.h"

#define BYTES(text) text, sizeof(text) - 1

/* ---- fields */

static const struct {
	const char *name, *bytes;
	size_t length;
	/* "NUMBER=VALUE" or "NUMBER'TEXT'" for each field, then "!" if malformed */
	const char *want;
} messages[] = {
	{ "nothing", BYTES(""), "" },
	{ "a number", BYTES("\x08\x96\x01"), "1=150 " },
	{ "the largest number",
	  BYTES("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	  "1=18446744073709551615 " },
	{ "longer than needed", BYTES("\x08\x80\x80\x00"), "1=0 " },
	{ "a text", BYTES("\x12\x02hi"), "2'hi' " },
	{ "an empty text", BYTES("\x12\x00"), "2'' " },
	{ "fixed", BYTES("\x1d\x01\x00\x00\x00\x21\x00\x00\x00\x00\x00\x00\x00\x80"),
	  "3=1 4=9223372036854775808 " },
	{ "the largest field", BYTES("\xf8\xff\xff\xff\x0f\x01"), "536870911=1 " },
	{ "field 0", BYTES("\x00\x01"), "!" },
	{ "a field's number of 33 bits", BYTES("\x88\x80\x80\x80\x10\x01"), "!" },
	{ "a group", BYTES("\x0b\x0c"), "!" },
	{ "wire type 6", BYTES("\x0e\x01"), "!" },
	{ "wire type 7", BYTES("\x0f\x01"), "!" },
	{ "cut in a tag", BYTES("\x08\x01\x88"), "1=1 !" },
	{ "cut after a tag", BYTES("\x08"), "!" },
	{ "cut in a number", BYTES("\x08\x80"), "!" },
	{ "cut in a text", BYTES("\x12\x03hi"), "!" },
	{ "cut in fixed32", BYTES("\x1d\x01\x00\x00"), "!" },
	{ "cut in fixed64", BYTES("\x21\x01\x00\x00\x00\x00\x00\x00"), "!" },
	{ "a number of 65 bits",
	  BYTES("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), "!" },
	{ "a number of 11 bytes",
	  BYTES("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), "!" },
	{ "a text of 64 MB that is not there", BYTES("\x12\x80\x80\x80\x20hi"), "!" },
	{ "a text of 2^64 - 1 bytes",
	  BYTES("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01hi"), "!" },
};

START_TEST(reads_fields)
{
	char *copy = malloc(messages[_i].length ? messages[_i].length : 1);
	struct protobuf message = { copy, copy + messages[_i].length };
	struct strbuf got = STRBUF_INIT;
	struct protobuf_field field;
	int ret;

	/* A block of just that size, so that a sanitizer sees a read beyond it. */
	memcpy(copy, messages[_i].bytes, messages[_i].length);
	strbuf_adds(&got, "");
	while ((ret = protobuf_next(&message, &field)) > 0)
		if (field.wire == PROTOBUF_BYTES)
			strbuf_addf(&got, "%u'%.*s' ", field.number,
				    (int)(field.bytes.end - field.bytes.at),
				    field.bytes.at);
		else
			strbuf_addf(&got, "%u=%llu ", field.number,
				    (unsigned long long)field.value);
	if (ret < 0)
		strbuf_adds(&got, "!");
	ck_assert_msg(!strcmp(got.text, messages[_i].want), "%s: want %s, got %s",
		      messages[_i].name, messages[_i].want, got.text);
	ck_assert_int_eq(ret, strchr(messages[_i].want, '!') ? -EINVAL : 0);
	strbuf_free(&got);
	free(copy);
}
END_TEST

/* ---- streams */

static int note(struct strbuf *log, const char *what, const char *bytes,
		size_t length)
{
	strbuf_addf(log, "%s ", what);
	for (size_t i = 0; i < length; i++)
		strbuf_addf(log, bytes[i] > ' ' && bytes[i] < 127 ? "%c" : "\\%02x",
			    (unsigned char)bytes[i]);
	strbuf_addc(log, '\n');
	return 0;
}

static int on_item(void *ctx, const char *bytes, size_t length, struct errbuf *eb)
{
	if (length == 4 && memcmp(bytes, "fail", 4) == 0)
		return errf(eb, -EPROTO, "as asked");
	return note(ctx, "item", bytes, length);
}

static int on_rest(void *ctx, const char *bytes, size_t length, struct errbuf *eb)
{
	(void)eb;
	return note(ctx, "rest", bytes, length);
}

static const struct splitter_ops ops = { .item = on_item, .rest = on_rest };

static int feed_pieces(struct protobuf_stream *s, const char *bytes,
		       size_t length, size_t size, struct errbuf *eb)
{
	size_t at, n;
	char *piece;
	int err = 0;

	for (at = 0; at < length && !err; at += n) {
		n = length - at < size ? length - at : size;
		piece = malloc(n);
		memcpy(piece, bytes + at, n);
		err = protobuf_stream_feed(s, piece, n, eb);
		free(piece);
	}
	return err ? err : protobuf_stream_finish(s, eb);
}

#define KIND "\x0a\x0e\x0a\x02v1\x12\x08PodsList" /* TypeMeta */

static const struct {
	const char *name;
	enum splitter_mode mode;
	const char *bytes;
	size_t length;
	const char *want, *error; /* a part of the message; NULL: none */
} streams[] = {
	{ "no event", SPLIT_STREAM, BYTES(""), "", NULL },
	{ "events", SPLIT_STREAM, BYTES("\0\0\0\2ab\0\0\0\1c"),
	  "item ab\nitem c\n", NULL },
	{ "cut in a frame's length", SPLIT_STREAM, BYTES("\0\0\0\2ab\0\0"),
	  "item ab\n", "the answer ends in the middle of an object" },
	{ "cut in a frame", SPLIT_STREAM, BYTES("\0\0\0\3ab"), "",
	  "the answer ends in the middle of an object" },
	{ "an empty frame", SPLIT_STREAM, BYTES("\0\0\0\1a\0\0\0\0\0\0\0\1b"),
	  "item a\n", "an empty frame" },
	{ "a frame of 64 MB", SPLIT_STREAM, BYTES("\4\0\0\0a"), "",
	  "an object of more than 16777216 bytes" },
	{ "a frame of 4 GB", SPLIT_STREAM, BYTES("\377\377\377\377a"), "",
	  "an object of more than 16777216 bytes" },
	{ "an event that is refused", SPLIT_STREAM,
	  BYTES("\0\0\0\4fail\0\0\0\1b"), "", "as asked" },
	{ "JSON for events", SPLIT_STREAM, BYTES("{\"type\":\"ADDED\"}"), "",
	  "an object of more than 16777216 bytes" },

	{ "an empty list", SPLIT_LIST, BYTES("k8s\0" KIND "\x12\0"), "rest \n",
	  NULL },
	{ "lengths that do not fit", SPLIT_LIST,
	  BYTES("k8s\0" KIND "\x12\x0c\x0a\3meta\x12\2ab\x12\1c"), "",
	  "a field reaches beyond the end of the list" },
	{ "items", SPLIT_LIST,
	  BYTES("k8s\0" KIND "\x12\x0d\x0a\4meta\x12\2ab\x12\1c\x1a\0\x22\0"),
	  "item ab\nitem c\nrest \\0a\\04meta\n", NULL },
	{ "items of no length", SPLIT_LIST,
	  BYTES("k8s\0" KIND "\x12\4\x12\0\x12\0"), "item \nitem \nrest \n", NULL },
	{ "other fields", SPLIT_LIST,
	  BYTES("k8s\0" KIND "\x12\x20\x18\x96\x01\x22\3xyz\x25"
		"abcd"
		"\x29"
		"abcdefgh"
		"\x32\0"
		"\x12\1a\x0a\1m\x22\0"),
	  "item a\nrest \\0a\\01m\n", NULL },
	{ "a list of another kind", SPLIT_LIST,
	  BYTES("k8s\0\x0a\x05\x12\x03Pod\x12\0"), "", "not a PodsList" },
	{ "a list of no kind", SPLIT_LIST, BYTES("k8s\0\x12\0"), "",
	  "a list of no kind" },
	{ "a kind that is malformed", SPLIT_LIST,
	  BYTES("k8s\0\x0a\x02\x12\x03"), "", "not a PodsList" },
	{ "two lists", SPLIT_LIST, BYTES("k8s\0" KIND "\x12\0\x12\0"), "",
	  "a second list" },
	{ "no list", SPLIT_LIST, BYTES("k8s\0" KIND), "",
	  "the answer ends in the middle of an object" },
	{ "no magic", SPLIT_LIST, BYTES("k9s\0" KIND), "",
	  "a list does not begin with \"k8s\"" },
	{ "JSON for a list", SPLIT_LIST, BYTES("{\"items\":[]}"), "",
	  "a list does not begin with \"k8s\"" },
	{ "nothing for a list", SPLIT_LIST, BYTES(""), "",
	  "the answer ends in the middle of an object" },
	{ "a list that is cut", SPLIT_LIST, BYTES("k8s\0" KIND "\x12\x08\x12\2ab"),
	  "item ab\n", "the answer ends in the middle of an object" },
	{ "an item that is cut", SPLIT_LIST, BYTES("k8s\0" KIND "\x12\4\x12\2a"),
	  "", "the answer ends in the middle of an object" },
	{ "an item beyond the list", SPLIT_LIST,
	  BYTES("k8s\0" KIND "\x12\3\x12\2ab"), "",
	  "a field reaches beyond the end of the list" },
	{ "a number beyond the list", SPLIT_LIST,
	  BYTES("k8s\0" KIND "\x12\2\x18\x80\x01"), "",
	  "a field reaches beyond the end of the list" },
	{ "an item of 64 MB", SPLIT_LIST,
	  BYTES("k8s\0" KIND "\x12\xff\xff\xff\xff\x0f\x12\x80\x80\x80\x20"),
	  "", "an object of more than 16777216 bytes" },
	{ "metadata of 64 MB", SPLIT_LIST,
	  BYTES("k8s\0" KIND "\x12\xff\xff\xff\xff\x0f\x0a\x80\x80\x80\x20"),
	  "", "an object of more than 65536 bytes" },
	{ "an unknown field of 64 MB", SPLIT_LIST,
	  BYTES("k8s\0" KIND "\x12\xff\xff\xff\xff\x0f\x1a\x80\x80\x80\x20"),
	  "", "the answer ends in the middle of an object" },
	{ "a group", SPLIT_LIST, BYTES("k8s\0" KIND "\x12\4\x1b\x1c"), "",
	  "no field begins like this" },
	{ "field 0", SPLIT_LIST, BYTES("k8s\0" KIND "\x02\0"), "",
	  "no field begins like this" },
	{ "too long a number", SPLIT_LIST,
	  BYTES("k8s\0\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "",
	  "too long a number" },
};

/* Whole, and in pieces of every size: the same. */
START_TEST(cuts_streams)
{
	size_t length = streams[_i].length;

	for (size_t size = length + 1; size; size--) {
		struct strbuf log = STRBUF_INIT;
		struct protobuf_stream *s = protobuf_stream_new(
			streams[_i].mode, "PodsList", &ops, &log);
		struct errbuf eb = { "" };
		int err;

		strbuf_adds(&log, "");
		err = feed_pieces(s, streams[_i].bytes, length, size, &eb);
		ck_assert_msg(!strcmp(log.text, streams[_i].want),
			      "%s, pieces of %zu: want\n%sgot\n%s",
			      streams[_i].name, size, streams[_i].want, log.text);
		ck_assert_msg(!err == !streams[_i].error, "%s, pieces of %zu: %d",
			      streams[_i].name, size, err);
		ck_assert_msg(!err || strstr(eb.text, streams[_i].error),
			      "%s, pieces of %zu: %s", streams[_i].name, size,
			      eb.text);
		if (err)
			ck_assert_int_lt(protobuf_stream_feed(s, "", 1, &eb), 0);
		protobuf_stream_reset(s);
		strbuf_reset(&log);
		strbuf_adds(&log, "");
		ck_assert_int_eq(feed_pieces(s, streams[_i].bytes, length,
					     length + 1, &eb),
				 err);
		ck_assert_str_eq(log.text, streams[_i].want);
		protobuf_stream_free(s);
		strbuf_free(&log);
	}
}
END_TEST

/* ---- memory */

/* Lets what is claimed be seen: it must not be there. */
START_TEST(claims_take_no_memory)
{
	static const char frame[] = "\0\xff\xff\xff"
				    "abc";
	static const char list[] =
		"k8s\0" KIND "\x12\xff\xff\xff\x0f\x12\xff\xff\xff\x07"
		"abc";
	struct protobuf_stream *events =
		protobuf_stream_new(SPLIT_STREAM, "PodsList", &ops, NULL);
	struct protobuf_stream *items =
		protobuf_stream_new(SPLIT_LIST, "PodsList", &ops, NULL);
	size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
	struct errbuf eb;

	ck_assert_int_eq(protobuf_stream_feed(events, BYTES(frame), &eb), 0);
	ck_assert_int_eq(protobuf_stream_feed(items, BYTES(list), &eb), 0);
	ck_assert_uint_lt(mallinfo2().uordblks + mallinfo2().hblkhd - before,
			  16384);
	protobuf_stream_free(events);
	protobuf_stream_free(items);
}
END_TEST

static int count_item(void *ctx, const char *bytes, size_t length, struct errbuf *eb)
{
	(void)eb, (void)bytes;
	ck_assert_uint_eq(length, 1000);
	++*(unsigned int *)ctx;
	return 0;
}

static int ignore_rest(void *ctx, const char *bytes, size_t length,
		       struct errbuf *eb)
{
	(void)ctx, (void)bytes, (void)length, (void)eb;
	return 0;
}

/* 100 MB of items in pieces that end anywhere. */
START_TEST(memory_does_not_grow_with_the_list)
{
	static const struct splitter_ops counting = { .item = count_item,
						      .rest = ignore_rest };
	static const char head[] =
		"k8s\0" KIND "\x12\xe0\xe9\xe9\x2f"; /* 100,000 items */
	char item[1003] = "\x12\xe8\x07";
	unsigned int n = 0;
	struct protobuf_stream *s =
		protobuf_stream_new(SPLIT_LIST, "PodsList", &counting, &n);
	size_t before = mallinfo2().uordblks + mallinfo2().hblkhd, most = 0, now;
	struct errbuf eb = { "" };

	ck_assert_int_eq(protobuf_stream_feed(s, BYTES(head), &eb), 0);
	for (unsigned int i = 0; i < 100000; i++) {
		size_t cut = i * 7919 % sizeof(item);

		ck_assert_msg(!protobuf_stream_feed(s, item, cut, &eb), "%s",
			      eb.text);
		ck_assert_msg(!protobuf_stream_feed(s, item + cut,
						    sizeof(item) - cut, &eb),
			      "%s", eb.text);
		now = mallinfo2().uordblks + mallinfo2().hblkhd - before;
		most = now > most ? now : most;
	}
	ck_assert_int_eq(protobuf_stream_finish(s, &eb), 0);
	ck_assert_uint_eq(n, 100000);
	ck_assert_uint_lt(most, 8192);
	protobuf_stream_free(s);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("protobuf");
	TCase *tcase = tcase_create("protobuf");

	tcase_set_timeout(tcase, 60); /* 100 MB take seconds on a busy machine */
	ADD_LOOP(tcase, reads_fields, messages);
	ADD_LOOP(tcase, cuts_streams, streams);
	tcase_add_test(tcase, claims_take_no_memory);
	tcase_add_test(tcase, memory_does_not_grow_with_the_list);
	suite_add_tcase(suite, tcase);
	return suite;
}
