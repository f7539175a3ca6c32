#include "proxy/base/array.h"

#include <assert.h>
#include <stdlib.h>

enum { FIRST_ROOM = 16 };

void *array_grown(void *items, size_t count, size_t *room, size_t size)
{
	size_t more = *room ? 2 * *room : FIRST_ROOM;

	assert(count <= *room);
	if (count < *room)
		return items;
	items = reallocarray(items, more, size);
	if (items)
		*room = more;
	return items;
}
