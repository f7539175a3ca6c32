/*
 * One growing string with a maximum length and a sticky error: append freely, check once.
 */
#ifndef BASE_STRBUF_H
#define BASE_STRBUF_H

#include <stdarg.h>
#include <stddef.h>

struct strbuf {
	char *text; /* always terminated once something was appended; NULL before */
	size_t length, size;
	size_t max; /* 0: no limit */
	int err;    /* 0, -ENOMEM or -E2BIG; later appends do nothing */
};

/* clang-format off */
#define STRBUF_INIT { 0 }
/* clang-format on */

void strbuf_free(struct strbuf *sb);  /* releases the text; @sb is empty afterwards and reusable */
void strbuf_reset(struct strbuf *sb); /* empties it, keeps the memory, clears the error */
void strbuf_add(struct strbuf *sb, const char *bytes, size_t length);
void strbuf_adds(struct strbuf *sb, const char *text);
void strbuf_addc(struct strbuf *sb, char c);
void strbuf_addf(struct strbuf *sb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strbuf_add_json(struct strbuf *sb, const char *text); /* quoted and escaped */

#endif
