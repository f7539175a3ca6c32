#include "proxy/base/array.h"

#include <assert.h>
#include <stdlib.h>

enum { FIRST_ROOM = 16 };

void *array_grown(void *items, size_t count, size_t *room, size_t size)
{
	size_t more = FIRST_ROOM, bytes;

	assert(size && (items || !*room));
	assert(count <= *room);
	if (count < *room)
		return items;
	if (*room && __builtin_mul_overflow(*room, (size_t)2, &more))
		return NULL;
	if (__builtin_mul_overflow(more, size, &bytes))
		return NULL;
	items = realloc(items, bytes);
	if (items)
		*room = more;
	assert(!items || count < *room);
	return items;
}
