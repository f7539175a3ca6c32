/* The string builder. Doubling keeps appends cheap; after the first failure nothing is appended any
 * more, so that a text is either whole or marked broken. */
#include "proxy/base/strbuf.h"

#include <errno.h>
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

	if (sb->err)
		return sb->err;
	if (__builtin_add_overflow(sb->length, more, &need) ||
	    __builtin_add_overflow(need, 1, &need) || (sb->max && need - 1 > sb->max))
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

void strbuf_add_json(struct strbuf *sb, const char *text)
{
	strbuf_addc(sb, '"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			strbuf_addf(sb, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			strbuf_addf(sb, "\\u%04x", c);
		else
			strbuf_addc(sb, *text);
	}
	strbuf_addc(sb, '"');
}
