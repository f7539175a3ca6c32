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

void strbuf_free(struct strbuf *sb); /* releases the text; @sb is empty afterwards and reusable */
void strbuf_reset(struct strbuf *sb); /* empties it, keeps the memory, clears the error */
void strbuf_add(struct strbuf *sb, const char *bytes, size_t length);
void strbuf_adds(struct strbuf *sb, const char *text);
void strbuf_addc(struct strbuf *sb, char c);
void strbuf_addf(struct strbuf *sb, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * For eyes: what is no printable character of UTF-8 (control characters, bytes
 * that are no UTF-8, marks that turn or hide text) becomes \xNN, byte by byte.
 * So the result is one line, and can neither forge another nor steer a
 * terminal.
 */
void strbuf_add_visible(struct strbuf *sb, const char *text);

/* Quoted and escaped, and always UTF-8: bytes that are none become the text \xNN. */
void strbuf_add_json(struct strbuf *sb, const char *text);

#endif
