/*
 * Scratch memory of one round of the loop: allocate freely, release everything at once.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
	struct arena_block *block; /* newest first */
	size_t used;		   /* in the newest block */
};

/* clang-format off */
#define ARENA_INIT { 0 }
/* clang-format on */

void *arena_alloc(struct arena *a,
		  size_t size); /* zeroed, aligned for any type; NULL: no memory */
void *arena_array(struct arena *a, size_t count,
		  size_t size); /* the same, product checked */
char *arena_strndup(struct arena *a, const char *text, size_t length);
char *arena_strdup(struct arena *a, const char *text);
void arena_reset(struct arena *a); /* everything is gone; one block is kept for the next round */
void arena_free(struct arena *a);

#endif
