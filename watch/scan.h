/*
 * Private to watch/: going over text whose bytes are mostly of no interest.
 */
#ifndef WATCH_SCAN_H
#define WATCH_SCAN_H

#include <stdbool.h>

/* The first byte from @p on that is in @ends, or @end. */
static inline const char *skip_run(const char *p, const char *end,
				   const bool ends[256])
{
	while (p < end && !ends[(unsigned char)*p])
		p++;
	return p;
}

#endif
