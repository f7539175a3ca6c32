/*
 * Both configurations are printed as for /configz and walked side by side. So
 * each field that can be seen there is compared, and none can be forgotten
 * here. Whatever is printed has the same keys in the same order, since one
 * function prints both.
 */
#include "proxy/model/config_diff.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proxy/base/strbuf.h"

enum { PATH_SIZE = 128 };

struct text_cursor {
	const char *at;
	char path[PATH_SIZE]; /* of the field that was found */
	size_t depth_length;  /* of the part that names the objects around it */
};

struct value {
	const char *text;
	size_t length;
};

static const char *string_end(const char *at)
{
	for (at++; *at && *at != '"'; at++)
		if (*at == '\\' && at[1])
			at++;
	return *at ? at + 1 : at;
}

static const char *value_end(const char *at)
{
	unsigned int depth = 0;

	while (*at) {
		if (*at == '"') {
			at = string_end(at);
			continue;
		}
		depth += *at == '[';
		if (!depth && (*at == ',' || *at == '}'))
			break;
		depth -= *at == ']';
		at++;
	}
	return at;
}

static void leave_object(struct text_cursor *c)
{
	const char *dot;

	if (c->depth_length)
		c->depth_length--; /* its dot */
	c->path[c->depth_length] = '\0';
	dot = strrchr(c->path, '.');
	c->depth_length = dot ? (size_t)(dot - c->path) + 1 : 0;
	c->path[c->depth_length] = '\0';
}

/* Goes to the next field that is no object. Returns whether there is one. */
static bool next_field(struct text_cursor *c, struct value *value)
{
	const char *end;
	size_t room;

	for (; *c->at; c->at++) {
		if (*c->at == '}')
			leave_object(c);
		if (*c->at != '"')
			continue;
		end = string_end(c->at);
		room = sizeof(c->path) - c->depth_length;
		snprintf(c->path + c->depth_length, room, "%.*s%s",
			 (int)(end - c->at - 2), c->at + 1,
			 end[0] && end[1] == '{' ? "." : "");
		c->at = end + 1; /* the colon */
		if (*c->at == '{') {
			c->depth_length = strlen(c->path);
			continue;
		}
		value->text = c->at;
		c->at = value_end(c->at);
		value->length = (size_t)(c->at - value->text);
		return true;
	}
	return false;
}

/* Without quotes, unless that would show nothing. */
static void add_value(struct strbuf *out, const struct value *value)
{
	const bool quoted = value->length > 2 && value->text[0] == '"';

	strbuf_add(out, value->text + quoted, value->length - 2 * quoted);
}

static int report_change(const struct text_cursor *c, const struct value *old,
			 const struct value *new,
			 void (*found)(void *ctx, const char *field,
				       const char *old, const char *new),
			 void *ctx)
{
	struct strbuf before = STRBUF_INIT, after = STRBUF_INIT;
	int err;

	add_value(&before, old);
	add_value(&after, new);
	err = before.err ? before.err : after.err;
	if (!err)
		found(ctx, c->path, before.text, after.text);
	strbuf_free(&before);
	strbuf_free(&after);
	return err;
}

static int walk_both(const char *old, const char *new,
		     void (*found)(void *ctx, const char *field,
				   const char *old, const char *new),
		     void *ctx)
{
	struct text_cursor a = { .at = old }, b = { .at = new };
	struct value before, after;
	int n = 0, err = 0;

	while (!err && next_field(&a, &before) && next_field(&b, &after)) {
		assert(strcmp(a.path, b.path) == 0);
		if (before.length == after.length &&
		    memcmp(before.text, after.text, before.length) == 0)
			continue;
		err = report_change(&a, &before, &after, found, ctx);
		n++;
	}
	return err ? err : n;
}

/* The number of differences in what @format prints, or -ENOMEM. */
static int diff_printed(void (*format)(const struct config *config,
				       struct strbuf *json),
			const struct config *old, const struct config *new,
			void (*found)(void *ctx, const char *field,
				      const char *old, const char *new),
			void *ctx)
{
	struct strbuf before = STRBUF_INIT, after = STRBUF_INIT;
	int result;

	format(old, &before);
	format(new, &after);
	result = before.err ? before.err : after.err;
	if (!result)
		result = walk_both(before.text, after.text, found, ctx);
	strbuf_free(&before);
	strbuf_free(&after);
	return result;
}

int config_diff(const struct config *old, const struct config *new,
		void (*found)(void *ctx, const char *field, const char *old,
			      const char *new),
		void *ctx)
{
	int n = diff_printed(config_format, old, new, found, ctx), more;

	if (n < 0)
		return n;
	more = diff_printed(config_format_vipmap, old, new, found, ctx);
	return more < 0 ? more : n + more;
}
