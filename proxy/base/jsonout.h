/*
 * Writing JSON, piece by piece, at the end of a string. Commas come by
 * themselves. Errors stick in the strbuf.
 */
#ifndef BASE_JSONOUT_H
#define BASE_JSONOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/base/strbuf.h"

/* @key is NULL for an element of an array, and for the outermost value. */
void jsonout_key(struct strbuf *out,
		 const char *key); /* a value of the caller's own follows */
void jsonout_object(struct strbuf *out, const char *key);
void jsonout_object_end(struct strbuf *out);
void jsonout_array(struct strbuf *out, const char *key);
void jsonout_array_end(struct strbuf *out);
void jsonout_text(struct strbuf *out, const char *key, const char *text);
void jsonout_textf(struct strbuf *out, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void jsonout_integer(struct strbuf *out, const char *key, int64_t value);
void jsonout_real(struct strbuf *out, const char *key,
		  double value); /* three decimals */
void jsonout_bool(struct strbuf *out, const char *key, bool value);

#endif
