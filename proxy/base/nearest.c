/*
 * The distance counts insertions, deletions, replacements and swaps of
 * neighbours. A word counts as near if at most a third of it, or two letters of
 * a short one, were typed wrong. What stands before a slash does not make a
 * word longer, and of a single letter nothing is near.
 */
#include "proxy/base/nearest.h"

#include <assert.h>
#include <string.h>

enum { LONGEST = 63 };

static unsigned int smaller_of(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

static unsigned int edit_distance(const char *a, const char *b)
{
	const size_t n = strnlen(a, LONGEST), m = strnlen(b, LONGEST);
	unsigned int rows[3][LONGEST + 1], *two = rows[0], *one = rows[1],
					   *now = rows[2], *spare;
	size_t i, j;

	for (j = 0; j <= m; j++)
		one[j] = (unsigned int)j;
	for (i = 1; i <= n; i++) {
		now[0] = (unsigned int)i;
		for (j = 1; j <= m; j++) {
			now[j] = smaller_of(one[j - 1] + (a[i - 1] != b[j - 1]),
					    smaller_of(one[j], now[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1])
				now[j] = smaller_of(now[j], two[j - 2] + 1);
		}
		spare = two;
		two = one;
		one = now;
		now = spare;
	}
	assert(one[m] <= LONGEST);
	return one[m];
}

void nearest_begin(struct nearest *n, const char *typed)
{
	const char *slash = strrchr(typed, '/');
	const size_t length = strnlen(slash ? slash + 1 : typed, LONGEST);

	n->typed = typed;
	n->best = NULL;
	n->distance = (unsigned int)(length < 2	  ? 0
				     : length < 3 ? 1
				     : length < 7 ? 2
						  : length / 3) +
		      1;
}

void nearest_try(struct nearest *n, const char *word)
{
	unsigned int d = edit_distance(n->typed, word);

	assert(n->typed);
	if (d < n->distance) {
		n->distance = d;
		n->best = word;
	}
}
