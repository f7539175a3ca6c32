/*
 * Arrays that grow by doubling: the one way to make room for one more item.
 */
#ifndef BASE_ARRAY_H
#define BASE_ARRAY_H

#include <errno.h>
#include <stddef.h>

/*
 * @items with room for one more than @count, where *room is what it has room
 * for so far; it may move. NULL: no memory, and nothing has changed.
 */
void *array_grown(void *items, size_t count, size_t *room, size_t size);

/*
 * Makes room for items[count]: @items (a pointer) and @room (a number) are
 * variables or members that go with it. Returns 0 or -ENOMEM, which leaves all
 * as it was.
 */
#define array_grow(items, count, room)                                           \
	({                                                                       \
		size_t room_ = (room);                                           \
		typeof(items) items_ =                                           \
			array_grown((items), (count), &room_, sizeof(*(items))); \
		if (items_) {                                                    \
			(items) = items_;                                        \
			(room) = (typeof(room))room_;                            \
		}                                                                \
		items_ ? 0 : -ENOMEM;                                            \
	})

#endif
