/* The string builder. Doubling keeps appends cheap; after the first failure nothing is appended any
 * more, so that a text is either whole or marked broken. */
#include "proxy/base/strbuf.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void strbuf_free(struct strbuf *sb)
{
	free(sb->text);
	sb->text = NULL;
	sb->length = sb->size = 0;
	sb->err = 0;
}

void strbuf_reset(struct strbuf *sb)
{
	assert(sb->text || !sb->length);
	sb->length = 0;
	sb->err = 0;
	if (sb->text)
		sb->text[0] = '\0';
}

/* Makes room for @more bytes and a terminator. */
static int strbuf_grow(struct strbuf *sb, size_t more)
{
	size_t need, size;
	char *text;

	assert(!sb->size || sb->length < sb->size);
	assert(sb->text || !sb->length);
	if (sb->err)
		return sb->err;
	if (__builtin_add_overflow(sb->length, more, &need) ||
	    __builtin_add_overflow(need, 1, &need) ||
	    (sb->max && need - 1 > sb->max))
		return sb->err = -E2BIG;
	if (need <= sb->size)
		return 0;
	size = sb->size ? sb->size : 64;
	while (size < need && size <= (size_t)-1 / 2)
		size *= 2;
	if (size < need)
		size = need;
	text = realloc(sb->text, size);
	if (!text)
		return sb->err = -ENOMEM;
	sb->text = text;
	sb->size = size;
	return 0;
}

void strbuf_add(struct strbuf *sb, const char *bytes, size_t length)
{
	if (strbuf_grow(sb, length))
		return;
	memcpy(sb->text + sb->length, bytes, length);
	sb->length += length;
	assert(sb->length < sb->size);
	sb->text[sb->length] = '\0';
}

void strbuf_adds(struct strbuf *sb, const char *text)
{
	strbuf_add(sb, text, strlen(text));
}

void strbuf_addc(struct strbuf *sb, char c)
{
	strbuf_add(sb, &c, 1);
}

void strbuf_addf(struct strbuf *sb, const char *fmt, ...)
{
	va_list ap, again;
	int length;

	va_start(ap, fmt);
	va_copy(again, ap);
	length = vsnprintf(NULL, 0, fmt, ap);
	if (length < 0)
		sb->err = sb->err ? sb->err : -EINVAL;
	else if (strbuf_grow(sb, (size_t)length) == 0) {
		vsnprintf(sb->text + sb->length, (size_t)length + 1, fmt, again);
		sb->length += (size_t)length;
	}
	va_end(again);
	va_end(ap);
}

/*
 * The character that @text begins with, and the bytes that it takes. 0 for what
 * is no UTF-8: a byte out of order, a form longer than needed, half of a
 * surrogate pair, or beyond Unicode's end.
 */
static uint32_t next_character(const char *text, size_t *length)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *at = (const unsigned char *)text;
	uint32_t c = *at;
	size_t i, n;

	*length = 1;
	if (c < 0x80)
		return c;
	n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
	if (c < 0xc0 || c > 0xf7)
		return 0;
	c &= 0x7fu >> n;
	for (i = 1; i < n; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (at[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*length = n;
	return c;
}

/* Not: control characters, and what breaks a line, turns its direction or cannot be seen. */
static bool is_printable_byte(uint32_t c)
{
	return c >= ' ' && (c < 0x7f || c > 0x9f) &&
	       (c < 0x200b || c > 0x200f) && (c < 0x2028 || c > 0x202e) &&
	       (c < 0x2060 || c > 0x206f) && c != 0xfeff;
}

void strbuf_add_visible(struct strbuf *sb, const char *text)
{
	size_t length;

	for (; *text; text += length) {
		if (is_printable_byte(next_character(text, &length)))
			strbuf_add(sb, text, length);
		else
			for (size_t i = 0; i < length; i++)
				strbuf_addf(sb, "\\x%02x", (unsigned char)text[i]);
	}
}

void strbuf_add_json(struct strbuf *sb, const char *text)
{
	size_t length;
	uint32_t c;

	strbuf_addc(sb, '"');
	for (; *text; text += length) {
		c = next_character(text, &length);
		if (c == '"' || c == '\\')
			strbuf_addf(sb, "\\%c", (char)c);
		else if (is_printable_byte(c))
			strbuf_add(sb, text, length);
		else if (c)
			strbuf_addf(sb, "\\u%04x", c);
		else
			strbuf_addf(sb, "\\\\x%02x", (unsigned char)*text);
	}
	strbuf_addc(sb, '"');
}
