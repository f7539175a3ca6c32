/*
 * "Did you mean?": the word among some that a mistyped one is nearest to.
 */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

#include <stddef.h>

struct nearest {
	const char *typed; /* borrowed */
	unsigned int distance;
	/* so far; NULL: none is near. Borrowed from the caller of nearest_try() */
	const char *best;
};

/* At most 63 bytes of a word count. */
void nearest_begin(struct nearest *n, const char *typed);
void nearest_try(struct nearest *n, const char *word);

#endif
