/* Cells are kept as one text, and measured when all of them are there. */
#include "proxy/base/table.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 2 };

void table_begin(struct table *t, const char *const *headers, unsigned int n_columns)
{
	assert(n_columns);
	*t = (struct table){ .headers = headers, .n_columns = n_columns };
}

void table_free(struct table *t)
{
	strbuf_free(&t->cells);
	t->n_cells = 0;
}

void table_add(struct table *t, const char *text)
{
	if (!text || !*text)
		text = "-";
	strbuf_add_visible(&t->cells, text);
	strbuf_add(&t->cells, "", 1); /* a terminator of its own */
	t->n_cells++;
}

void table_addf(struct table *t, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	table_add(t, text);
}

/*
 * Places that @text takes on a terminal, if each character takes one: the bytes
 * that continue a character of UTF-8 take none.
 */
static unsigned int text_width(const char *text)
{
	unsigned int n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static void print_cell(const char *text, unsigned int width, bool last,
		       unsigned int indent, struct strbuf *out)
{
	unsigned int pad = last ? 0 : width - text_width(text) + GAP;

	assert(last || width >= text_width(text));
	strbuf_addf(out, "%*s%s%*s", (int)indent, "", text, (int)pad, "");
	if (last)
		strbuf_addc(out, '\n');
}

void table_print(const struct table *t, bool with_headers, unsigned int indent,
		 struct strbuf *out)
{
	unsigned int *widths = calloc(t->n_columns + 1, sizeof(*widths));
	const char *cell = t->cells.text;
	unsigned int i, column, width;

	assert(t->n_columns);
	if (!widths || t->cells.err) {
		out->err = out->err ? out->err : -ENOMEM;
		free(widths);
		return;
	}
	for (i = 0; i < t->n_columns; i++) {
		widths[i] = with_headers ? text_width(t->headers[i]) : 0;
		if (t->least && t->least[i] > widths[i])
			widths[i] = t->least[i];
	}
	for (i = 0; i < t->n_cells; i++, cell += strlen(cell) + 1) {
		width = text_width(cell);
		if (width > widths[i % t->n_columns])
			widths[i % t->n_columns] = width;
	}
	for (i = 0; with_headers && i < t->n_columns; i++)
		print_cell(t->headers[i], widths[i], i + 1 == t->n_columns,
			   i ? 0 : indent, out);
	cell = t->cells.text;
	for (i = 0; i < t->n_cells; i++, cell += strlen(cell) + 1) {
		column = i % t->n_columns;
		print_cell(cell, widths[column],
			   column + 1 == t->n_columns || i + 1 == t->n_cells,
			   column ? 0 : indent, out);
	}
	free(widths);
}
