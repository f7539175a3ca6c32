/* Formatting of error messages. They are cut at the buffer's size, never
 * allocated: running out of memory is one of the things they report. */
#include "proxy/base/errbuf.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int errf(struct errbuf *eb, int err, const char *fmt, ...)
{
	va_list ap;

	assert(fmt);
	if (!eb)
		return err;
	va_start(ap, fmt);
	vsnprintf(eb->text, sizeof(eb->text), fmt, ap);
	va_end(ap);
	return err;
}

int err_no_memory(struct errbuf *eb)
{
	return errf(eb, -ENOMEM, "out of memory");
}
