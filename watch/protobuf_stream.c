/*
 * A watch is a row of frames, each with its length before it. A list is one message inside of
 * another one: the stream walks through the fields of both, passes by what nobody wants, and
 * collects the parts that are to be read whole.
 *
 * No memory is taken for a length that is only claimed: a part that is not all there is collected
 * as it comes, and one that is too long is refused by its length alone.
 */
#include "watch/protobuf_stream.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "proxy/base/strbuf.h"
#include "watch/decode_protobuf.h"

enum stream_state {
	FRAME, /* the length of an event; where an event may end */
	MAGIC,
	TAG,	/* where a field of a list may end */
	LENGTH, /* of a field's bytes */
	VARINT, /* a field that is a number */
	SKIP,	/* bytes that nobody wants */
	PART,	/* bytes that are collected */
};

enum { FRAME_LENGTH = 4, METADATA_MAX = 64 * 1024, KEEP_MAX = 1024 * 1024 };

/* Which message the fields are of. */
enum message_level { UNKNOWN, LIST };

struct protobuf_stream {
	const struct splitter_ops *ops;
	void *ctx;
	enum splitter_mode mode;
	const char *list_kind;

	enum stream_state state;
	uint64_t number; /* a varint, or the length of a frame */
	unsigned int n;	 /* bytes of it, or of the magic */
	uint64_t left;	 /* of what is skipped or collected */
	struct strbuf part;

	enum message_level level;
	uint32_t field;
	uint64_t list_left; /* of the list's message */
	bool kind_known, list_seen;
	struct strbuf rest;

	unsigned long long offset; /* of the bytes being fed */
	int err;
};

struct protobuf_stream *protobuf_stream_new(enum splitter_mode mode,
					    const char *list_kind,
					    const struct splitter_ops *ops,
					    void *ctx)
{
	struct protobuf_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->mode = mode;
	s->list_kind = list_kind;
	s->ops = ops;
	s->ctx = ctx;
	s->part.max = JSON_MAX_LENGTH;
	s->rest.max = METADATA_MAX;
	protobuf_stream_reset(s);
	return s;
}

void protobuf_stream_free(struct protobuf_stream *s)
{
	if (!s)
		return;
	strbuf_free(&s->part);
	strbuf_free(&s->rest);
	free(s);
}

void protobuf_stream_reset(struct protobuf_stream *s)
{
	struct strbuf part = s->part, rest = s->rest;

	strbuf_reset(&part);
	strbuf_reset(&rest);
	*s = (struct protobuf_stream){
		.ops = s->ops,
		.ctx = s->ctx,
		.mode = s->mode,
		.list_kind = s->list_kind,
		.state = s->mode == SPLIT_STREAM ? FRAME : MAGIC,
		.part = part,
		.rest = rest,
	};
}

/* @ahead: bytes between s->offset and the problem. */
static int stream_fail(struct protobuf_stream *s, size_t ahead,
		       const char *problem, struct errbuf *eb)
{
	return s->err = errf(eb, -EINVAL, "byte %llu: %s", s->offset + ahead,
			     problem);
}

static int too_long(struct protobuf_stream *s, unsigned int max, struct errbuf *eb)
{
	return s->err = errf(eb, -E2BIG, "an object of more than %u bytes", max);
}

static int stream_keep(struct protobuf_stream *s, struct strbuf *buffer,
		       const char *bytes, size_t length, struct errbuf *eb)
{
	strbuf_add(buffer, bytes, length);
	if (buffer->err == -ENOMEM)
		return s->err = errf(eb, -ENOMEM, "out of memory");
	return buffer->err ? too_long(s, (unsigned int)buffer->max, eb) : 0;
}

/* One huge object should not occupy memory for ever. */
static void part_reset(struct protobuf_stream *s)
{
	strbuf_reset(&s->part);
	if (s->part.size > KEEP_MAX)
		strbuf_free(&s->part);
}

/* ---- fields of a list's messages */

static void next_state(struct protobuf_stream *s, enum stream_state state)
{
	s->state = state;
	s->number = 0;
	s->n = 0;
}

/* @used bytes of the list's message, if that is where we are. */
static int count_list(struct protobuf_stream *s, uint64_t used, struct errbuf *eb)
{
	if (s->level != LIST)
		return 0;
	if (used > s->list_left)
		return stream_fail(
			s, 0, "a field reaches beyond the end of the list", eb);
	s->list_left -= used;
	return 0;
}

/* After a field, or where the list's message begins. */
static void field_end(struct protobuf_stream *s)
{
	if (s->level == LIST && s->list_left == 0)
		s->level = UNKNOWN;
	next_state(s, TAG);
}

static int check_kind(struct protobuf_stream *s, const char *bytes,
		      size_t length, struct errbuf *eb)
{
	struct protobuf type_meta = { bytes, bytes + length };
	const size_t wanted = strlen(s->list_kind);
	struct protobuf_field field;
	int ret;

	s->kind_known = false;
	while ((ret = protobuf_next(&type_meta, &field)) > 0)
		if (field.number == TYPE_META_KIND && field.wire == PROTOBUF_BYTES)
			s->kind_known =
				(size_t)(field.bytes.end - field.bytes.at) ==
					wanted &&
				memcmp(field.bytes.at, s->list_kind, wanted) == 0;
	if (ret < 0 || !s->kind_known)
		return s->err = errf(eb, -EPROTO, "not a %s", s->list_kind);
	return 0;
}

static int list_begins(struct protobuf_stream *s, uint64_t length, struct errbuf *eb)
{
	if (!s->kind_known || s->list_seen)
		return stream_fail(
			s, 0,
			s->list_seen ? "a second list" : "a list of no kind", eb);
	s->list_seen = true;
	s->level = LIST;
	s->list_left = length;
	field_end(s);
	return 0;
}

/* The bytes of s->field are to come. */
static int field_begins(struct protobuf_stream *s, uint64_t length,
			struct errbuf *eb)
{
	const bool type_meta = s->level == UNKNOWN && s->field == UNKNOWN_TYPE_META;
	const bool metadata = s->level == LIST && s->field == LIST_METADATA;
	const bool item = s->level == LIST && s->field == LIST_ITEMS;

	if (s->level == UNKNOWN && s->field == UNKNOWN_RAW)
		return list_begins(s, length, eb);
	if (count_list(s, length, eb))
		return s->err;
	if (item && length > JSON_MAX_LENGTH)
		return too_long(s, JSON_MAX_LENGTH, eb);
	if ((type_meta || metadata) && length > METADATA_MAX)
		return too_long(s, METADATA_MAX, eb);
	next_state(s, type_meta || metadata || item ? PART : SKIP);
	s->left = length;
	return 0;
}

/* As a field of its own, so that what is collected is a message again. */
static int keep_metadata(struct protobuf_stream *s, const char *bytes,
			 size_t length, struct errbuf *eb)
{
	const char tag = LIST_METADATA << 3 | PROTOBUF_BYTES;
	size_t rest = length;

	if (stream_keep(s, &s->rest, &tag, 1, eb))
		return s->err;
	for (; rest >= 0x80; rest >>= 7)
		strbuf_addc(&s->rest, (char)(rest | 0x80));
	strbuf_addc(&s->rest, (char)rest);
	return stream_keep(s, &s->rest, bytes, length, eb);
}

static int part_ends(struct protobuf_stream *s, const char *bytes,
		     size_t length, struct errbuf *eb)
{
	if (s->mode == SPLIT_STREAM || (s->level == LIST && s->field == LIST_ITEMS))
		s->err = s->ops->item(s->ctx, bytes, length, eb);
	else if (s->level == LIST)
		keep_metadata(s, bytes, length, eb);
	else
		check_kind(s, bytes, length, eb);
	return s->err;
}

/* ---- one function per state: each returns how much it used, or a negative errno */

static ssize_t feed_frame(struct protobuf_stream *s, const char *bytes,
			  size_t length, struct errbuf *eb)
{
	size_t used = 0;

	while (used < length && s->n < FRAME_LENGTH) {
		s->number = s->number << 8 | (uint8_t)bytes[used++];
		s->n++;
	}
	if (s->n < FRAME_LENGTH)
		return (ssize_t)used;
	if (s->number == 0)
		return stream_fail(s, used, "an empty frame", eb);
	if (s->number > JSON_MAX_LENGTH)
		return too_long(s, JSON_MAX_LENGTH, eb);
	s->left = s->number;
	next_state(s, PART);
	return (ssize_t)used;
}

static ssize_t feed_magic(struct protobuf_stream *s, const char *bytes,
			  size_t length, struct errbuf *eb)
{
	size_t used = 0;

	while (used < length && s->n < sizeof(protobuf_magic))
		if (bytes[used++] != protobuf_magic[s->n++])
			return stream_fail(s, used - 1,
					   "a list does not begin with \"k8s\"",
					   eb);
	if (s->n == sizeof(protobuf_magic))
		next_state(s, TAG);
	return (ssize_t)used;
}

static int tag_complete(struct protobuf_stream *s, struct errbuf *eb)
{
	enum protobuf_wire wire;

	if (protobuf_tag(s->number, &s->field, &wire))
		return stream_fail(s, 0, "no field begins like this", eb);
	switch (wire) {
	case PROTOBUF_VARINT:
		next_state(s, VARINT);
		return 0;
	case PROTOBUF_BYTES:
		next_state(s, LENGTH);
		return 0;
	case PROTOBUF_FIXED64:
	case PROTOBUF_FIXED32:
		break;
	}
	next_state(s, SKIP);
	s->left = wire == PROTOBUF_FIXED64 ? 8 : 4;
	return count_list(s, s->left, eb);
}

static ssize_t feed_varint(struct protobuf_stream *s, const char *bytes,
			   size_t length, struct errbuf *eb)
{
	size_t used = 0;
	int ret = 0;

	while (used < length && !ret)
		ret = protobuf_varint_byte((uint8_t)bytes[used++], &s->number,
					   &s->n);
	if (ret < 0)
		return stream_fail(s, used, "too long a number", eb);
	if (count_list(s, used, eb))
		return s->err;
	if (!ret)
		return (ssize_t)used;
	if (s->state == TAG)
		tag_complete(s, eb);
	else if (s->state == LENGTH)
		field_begins(s, s->number, eb);
	else
		field_end(s);
	return s->err ? s->err : (ssize_t)used;
}

static ssize_t feed_skip(struct protobuf_stream *s, const char *bytes,
			 size_t length, struct errbuf *eb)
{
	size_t used = length < s->left ? length : (size_t)s->left;

	(void)bytes;
	(void)eb;
	s->left -= used;
	if (!s->left)
		field_end(s);
	return (ssize_t)used;
}

static ssize_t feed_part(struct protobuf_stream *s, const char *bytes,
			 size_t length, struct errbuf *eb)
{
	size_t used = length < s->left ? length : (size_t)s->left;
	bool complete = used == s->left;

	if ((!complete || s->part.length) &&
	    stream_keep(s, &s->part, bytes, used, eb))
		return s->err;
	s->left -= used;
	if (!complete)
		return (ssize_t)used;
	if (s->part.length)
		part_ends(s, s->part.text, s->part.length, eb);
	else
		part_ends(s, bytes, used, eb);
	part_reset(s);
	if (s->mode == SPLIT_STREAM)
		next_state(s, FRAME);
	else
		field_end(s);
	return s->err ? s->err : (ssize_t)used;
}

/* What is skipped or collected may be of no length: then its end needs no more bytes. */
static bool needs_bytes(const struct protobuf_stream *s)
{
	return (s->state != SKIP && s->state != PART) || s->left;
}

int protobuf_stream_feed(struct protobuf_stream *s, const char *bytes,
			 size_t length, struct errbuf *eb)
{
	static ssize_t (*const feed[])(struct protobuf_stream *, const char *,
				       size_t, struct errbuf *) = {
		[FRAME] = feed_frame,	[MAGIC] = feed_magic,
		[TAG] = feed_varint,	[LENGTH] = feed_varint,
		[VARINT] = feed_varint, [SKIP] = feed_skip,
		[PART] = feed_part,
	};
	ssize_t used;

	if (s->err)
		return errf(eb, s->err, "after an earlier error");
	while (length || !needs_bytes(s)) {
		used = feed[s->state](s, bytes, length, eb);
		if (used < 0)
			return (int)used;
		bytes += used;
		length -= (size_t)used;
		s->offset += (unsigned long long)used;
	}
	return 0;
}

static bool is_complete(const struct protobuf_stream *s)
{
	if (s->mode == SPLIT_STREAM)
		return s->state == FRAME && s->n == 0;
	return s->state == TAG && s->n == 0 && s->level == UNKNOWN && s->list_seen;
}

int protobuf_stream_finish(struct protobuf_stream *s, struct errbuf *eb)
{
	if (s->err)
		return errf(eb, s->err, "after an earlier error");
	if (!is_complete(s))
		return stream_fail(
			s, 0, "the answer ends in the middle of an object", eb);
	if (s->mode == SPLIT_LIST)
		s->err = s->ops->rest(s->ctx, s->rest.text ? s->rest.text : "",
				      s->rest.length, eb);
	return s->err;
}
