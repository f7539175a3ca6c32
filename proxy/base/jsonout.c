/*
 * Whether a comma belongs before a value shows in the last character written:
 * no state is needed besides the text.
 */
#include "proxy/base/jsonout.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void jsonout_key(struct strbuf *out, const char *key)
{
	const char last = out->length ? out->text[out->length - 1] : '\0';

	assert(!key || out->err || last != ':');
	if (last && last != '{' && last != '[' && last != ':' && last != '\n')
		strbuf_addc(out, ',');
	if (!key)
		return;
	strbuf_add_json(out, key);
	strbuf_addc(out, ':');
}

/* Behind a value or the begin of something. */
static void close_bracket(struct strbuf *out, char bracket)
{
	assert(out->err ||
	       (out->length && !strchr(":,", out->text[out->length - 1])));
	strbuf_addc(out, bracket);
}

void jsonout_object(struct strbuf *out, const char *key)
{
	jsonout_key(out, key);
	strbuf_addc(out, '{');
}

void jsonout_object_end(struct strbuf *out)
{
	close_bracket(out, '}');
}

void jsonout_array(struct strbuf *out, const char *key)
{
	jsonout_key(out, key);
	strbuf_addc(out, '[');
}

void jsonout_array_end(struct strbuf *out)
{
	close_bracket(out, ']');
}

void jsonout_text(struct strbuf *out, const char *key, const char *text)
{
	jsonout_key(out, key);
	strbuf_add_json(out, text);
}

void jsonout_textf(struct strbuf *out, const char *key, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	jsonout_text(out, key, text);
}

void jsonout_integer(struct strbuf *out, const char *key, int64_t value)
{
	jsonout_key(out, key);
	strbuf_addf(out, "%" PRId64, value);
}

void jsonout_real(struct strbuf *out, const char *key, double value)
{
	jsonout_key(out, key);
	strbuf_addf(out, "%.3f", value);
}

void jsonout_bool(struct strbuf *out, const char *key, bool value)
{
	jsonout_key(out, key);
	strbuf_adds(out, value ? "true" : "false");
}
