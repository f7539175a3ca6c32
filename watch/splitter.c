/*
 * The splitter counts brackets outside of strings and nothing more: a "]" that
 * closes a "{" is found by the parser. Text that is complete within the bytes
 * fed is passed on from there, without a copy.
 *
 * Only a key written as plain "items" begins a list; one with escapes in it
 * stays part of the rest.
 */
#include "watch/splitter.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "proxy/base/strbuf.h"
#include "watch/json.h"
#include "watch/scan.h"

enum place {
	BETWEEN, /* outside of all objects */
	TOP,	 /* in a top-level object of SPLIT_LIST, but not in its items */
	ITEMS,	 /* in items, between its elements */
	ITEM,	 /* in an object to be passed on whole */
};

enum { ITEMS_DEPTH = 2, KEEP_MAX = 1024 * 1024 };

struct splitter {
	const struct splitter_ops *ops;
	void *ctx;
	enum splitter_mode mode;
	enum place place;
	unsigned int depth; /* of the next byte */
	bool in_string, escaped;

	/* In TOP, at depth 1: how far the latest string is "items", and whether its colon came. */
	unsigned int matched;
	bool mismatch, colon;
	bool need_comma, need_item; /* in ITEMS */

	struct strbuf item, rest;  /* what of them came in earlier pieces */
	unsigned long long offset; /* of the bytes being fed */
	int err;
};

static const char items_key[] = "items";

struct splitter *splitter_new(enum splitter_mode mode,
			      const struct splitter_ops *ops, void *ctx)
{
	struct splitter *s = calloc(1, sizeof(*s));

	assert(ops && ops->item && (mode != SPLIT_LIST || ops->rest));
	if (!s)
		return NULL;
	s->ops = ops;
	s->ctx = ctx;
	s->mode = mode;
	s->item.max = s->rest.max = JSON_MAX_LENGTH;
	return s;
}

void splitter_free(struct splitter *s)
{
	if (!s)
		return;
	strbuf_free(&s->item);
	strbuf_free(&s->rest);
	free(s);
}

void splitter_reset(struct splitter *s)
{
	struct strbuf item = s->item, rest = s->rest;
	const struct splitter_ops *ops = s->ops;
	enum splitter_mode mode = s->mode;
	void *ctx = s->ctx;

	strbuf_reset(&item);
	strbuf_reset(&rest);
	*s = (struct splitter){
		.ops = ops, .ctx = ctx, .mode = mode, .item = item, .rest = rest
	};
}

/* One huge object should not occupy memory for ever. */
static void buffer_reset(struct strbuf *buffer)
{
	strbuf_reset(buffer);
	if (buffer->size > KEEP_MAX)
		strbuf_free(buffer);
}

static unsigned int item_base(const struct splitter *s)
{
	return s->mode == SPLIT_LIST ? ITEMS_DEPTH : 0;
}

/* @ahead: bytes between s->offset and the problem. */
static int splitter_fail(struct splitter *s, ptrdiff_t ahead,
			 const char *problem, struct errbuf *eb)
{
	return s->err = errf(eb, -EINVAL, "byte %llu: %s",
			     s->offset + (unsigned long long)ahead, problem);
}

static int splitter_keep(struct splitter *s, struct strbuf *buffer,
			 const char *bytes, size_t length, struct errbuf *eb)
{
	strbuf_add(buffer, bytes, length);
	if (buffer->err == -ENOMEM)
		return s->err = errf(eb, -ENOMEM, "out of memory");
	if (buffer->err)
		return s->err = errf(eb, -E2BIG, "an object of more than %d bytes",
				     JSON_MAX_LENGTH);
	return 0;
}

/* What matters in a string, and outside of one. Most bytes are neither, so that pays. */
static const bool ends_run_in_string[256] = { ['"'] = true, ['\\'] = true };
static const bool ends_run[256] = {
	['"'] = true, ['{'] = true, ['['] = true, ['}'] = true, [']'] = true,
};

/* Bytes of a string, which may begin in its middle; returns the first byte behind it, or @end. */
static const char *skip_string(struct splitter *s, const char *p, const char *end)
{
	assert(s->in_string && p <= end);
	if (s->escaped && p < end) {
		s->escaped = false;
		p++;
	}
	while ((p = skip_run(p, end, ends_run_in_string)) < end) {
		if (*p++ == '"') {
			s->in_string = false;
			return p;
		}
		if (p == end)
			s->escaped = true;
		else
			p++;
	}
	return end;
}

/*
 * Goes on until the depth is @base; returns the byte behind, or @end. On an
 * excess of depth it stops, which the caller sees by s->depth.
 */
static const char *scan_value(struct splitter *s, const char *p,
			      const char *end, unsigned int base)
{
	assert(p <= end);
	while (p < end && s->depth <= JSON_MAX_DEPTH + ITEMS_DEPTH) {
		if (s->in_string)
			p = skip_string(s, p, end);
		p = skip_run(p, end, ends_run);
		if (p == end)
			break;
		switch (*p++) {
		case '"':
			s->in_string = true;
			break;
		case '{':
		case '[':
			s->depth++;
			break;
		default:
			if (--s->depth == base)
				return p;
		}
	}
	return p;
}

static bool too_deep(const struct splitter *s)
{
	return s->depth > JSON_MAX_DEPTH + ITEMS_DEPTH;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* ---- one function per place: each consumes something, and returns how much, or a negative errno
 */

static ssize_t feed_between(struct splitter *s, const char *bytes,
			    const char *end, struct errbuf *eb)
{
	const char *p = bytes;

	assert(s->depth == 0 && !s->in_string);
	while (p < end && is_space(*p))
		p++;
	if (p == end)
		return p - bytes;
	if (*p != '{')
		return splitter_fail(s, p - bytes, "an object is expected here",
				     eb);
	/* The bracket itself is left to the place it leads to. */
	s->place = s->mode == SPLIT_LIST ? TOP : ITEM;
	s->mismatch = true;
	s->colon = false;
	return p - bytes;
}

static ssize_t feed_item(struct splitter *s, const char *bytes, const char *end,
			 struct errbuf *eb)
{
	const char *p = scan_value(s, bytes, end, item_base(s));
	size_t length = (size_t)(p - bytes);
	bool complete = s->depth == item_base(s) && !s->in_string;

	if (too_deep(s))
		return splitter_fail(s, p - bytes, "nested too deeply", eb);
	if (!complete || s->item.length || length > JSON_MAX_LENGTH)
		if (splitter_keep(s, &s->item, bytes, length, eb))
			return s->err;
	if (!complete)
		return p - bytes;
	if (s->item.length)
		s->err = s->ops->item(s->ctx, s->item.text, s->item.length, eb);
	else
		s->err = s->ops->item(s->ctx, bytes, length, eb);
	buffer_reset(&s->item);
	s->place = s->mode == SPLIT_LIST ? ITEMS : BETWEEN;
	s->need_comma = true;
	return s->err ? s->err : p - bytes;
}

static ssize_t feed_items(struct splitter *s, const char *bytes,
			  const char *end, struct errbuf *eb)
{
	const char *p = bytes;

	assert(s->mode == SPLIT_LIST && s->depth == ITEMS_DEPTH && !s->in_string);
	while (p < end && is_space(*p))
		p++;
	if (p == end)
		return p - bytes;
	if (*p == '{' && !s->need_comma) {
		s->place = ITEM;
		s->need_item = false;
	} else if (*p == ',' && s->need_comma) {
		s->need_comma = false;
		s->need_item = true;
		p++;
	} else if (*p == ']' && !s->need_item) {
		s->place = TOP; /* where the bracket becomes part of the rest */
	} else {
		return splitter_fail(
			s, p - bytes,
			"an object, a comma or the end of items is expected here",
			eb);
	}
	return p - bytes;
}

/* Closes what is there of the list, for once. */
static int splitter_head(struct splitter *s, struct errbuf *eb)
{
	size_t length = s->rest.length;

	assert(s->place == ITEMS);
	if (!s->ops->head)
		return 0;
	if (splitter_keep(s, &s->rest, "]}", 2, eb))
		return s->err;
	s->err = s->ops->head(s->ctx, s->rest.text, s->rest.length, eb);
	s->rest.length = length;
	return s->err;
}

/* A byte of a string at depth 1. */
static void top_string_byte(struct splitter *s, char c)
{
	if (s->escaped) {
		s->escaped = false;
	} else if (c == '"') {
		s->in_string = false;
		s->mismatch |= s->matched != sizeof(items_key) - 1;
		return;
	} else if (c == '\\') {
		s->escaped = true;
	}
	if (s->matched < sizeof(items_key) - 1 && c == items_key[s->matched])
		s->matched++;
	else
		s->mismatch = true;
}

/* A byte outside of strings at depth 0 or 1. */
static void top_byte(struct splitter *s, char c)
{
	bool items_follow = s->colon;

	if (is_space(c))
		return;
	s->colon = c == ':' && !s->mismatch;
	if (c == '[' && items_follow) {
		s->place = ITEMS;
		s->need_comma = s->need_item = false;
	}
	if (c == '"') {
		s->in_string = true;
		s->matched = 0;
	}
	s->mismatch = c != '"' && !s->colon;
	if (c == '{' || c == '[')
		s->depth++;
	else if (c == '}' || c == ']')
		s->depth--;
}

static const char *scan_top(struct splitter *s, const char *p, const char *end)
{
	while (p < end && s->place == TOP && !too_deep(s)) {
		if (s->depth > 1)
			p = scan_value(s, p, end, 1);
		else if (s->in_string)
			top_string_byte(s, *p++);
		else
			top_byte(s, *p++);
		if (s->depth == 0)
			break;
	}
	return p;
}

static ssize_t feed_top(struct splitter *s, const char *bytes, const char *end,
			struct errbuf *eb)
{
	const char *p = scan_top(s, bytes, end);

	assert(s->mode == SPLIT_LIST);
	if (too_deep(s))
		return splitter_fail(s, p - bytes, "nested too deeply", eb);
	if (splitter_keep(s, &s->rest, bytes, (size_t)(p - bytes), eb))
		return s->err;
	if (s->place == ITEMS && splitter_head(s, eb))
		return s->err;
	if (s->depth == 0) {
		s->err = s->ops->rest(s->ctx, s->rest.text, s->rest.length, eb);
		buffer_reset(&s->rest);
		s->place = BETWEEN;
	}
	return s->err ? s->err : p - bytes;
}

int splitter_feed(struct splitter *s, const char *bytes, size_t length,
		  struct errbuf *eb)
{
	static ssize_t (*const feed[])(struct splitter *, const char *,
				       const char *, struct errbuf *) = {
		[BETWEEN] = feed_between,
		[TOP] = feed_top,
		[ITEMS] = feed_items,
		[ITEM] = feed_item,
	};
	const char *end = bytes + length;
	ssize_t used;

	if (s->err)
		return errf(eb, s->err, "after an earlier error");
	while (bytes < end) {
		used = feed[s->place](s, bytes, end, eb);
		if (used < 0)
			return (int)used;
		assert(used <= end - bytes);
		bytes += used;
		s->offset += (unsigned long long)used;
	}
	return 0;
}

int splitter_finish(struct splitter *s, struct errbuf *eb)
{
	if (s->err)
		return errf(eb, s->err, "after an earlier error");
	if (s->place != BETWEEN)
		return splitter_fail(
			s, 0, "the text ends in the middle of an object", eb);
	return 0;
}
