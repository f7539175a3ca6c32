/*
 * A table of text as kubectl prints one: a line of headers in upper case,
 * columns aligned, nothing cut off.
 */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include <stdbool.h>

#include "proxy/base/strbuf.h"

struct table {
	const char *const *headers; /* borrowed */
	unsigned int n_columns;
	const unsigned int *least; /* widths of columns; NULL: as the cells need. Borrowed */
	struct strbuf cells; /* one after the other, each ended by NUL */
	unsigned int n_cells;
};

void table_begin(struct table *t, const char *const *headers,
		 unsigned int n_columns);
void table_free(struct table *t);

/* The next cell, from left to right and line by line. NULL and "" are shown as "-". */
void table_add(struct table *t, const char *text);
void table_addf(struct table *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Appends all lines, the headers if @with_headers, each with @indent spaces before it. */
void table_print(const struct table *t, bool with_headers, unsigned int indent,
		 struct strbuf *out);

#endif
