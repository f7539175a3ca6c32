/* A chain of blocks, bump-allocated. A reset keeps the largest block unless it is huge, so that a
 * daemon at rest does not hold on to the memory of its busiest moment. */
#include "proxy/base/arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_SIZE = 64 * 1024, KEEP_MAX = 1024 * 1024 };

struct arena_block {
	struct arena_block *older;
	size_t size;
	max_align_t data[];
};

static struct arena_block *block_new(struct arena_block *older, size_t size)
{
	struct arena_block *block;

	if (size > SIZE_MAX - sizeof(*block))
		return NULL;
	block = malloc(sizeof(*block) + size);
	if (!block)
		return NULL;
	block->older = older;
	block->size = size;
	return block;
}

void *arena_alloc(struct arena *a, size_t size)
{
	const size_t align = sizeof(max_align_t);
	struct arena_block *block;
	void *p;

	assert(!a->block || a->used <= a->block->size);
	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + align - 1) / align * align;
	if (!a->block || a->block->size - a->used < size) {
		block = block_new(a->block, size > BLOCK_SIZE ? size : BLOCK_SIZE);
		if (!block)
			return NULL;
		a->block = block;
		a->used = 0;
	}
	p = (char *)a->block->data + a->used;
	a->used += size;
	assert(a->used <= a->block->size);
	return memset(p, 0, size);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(count, size, &total))
		return NULL;
	return arena_alloc(a, total);
}

char *arena_strndup(struct arena *a, const char *text, size_t length)
{
	char *copy = length == SIZE_MAX ? NULL : arena_alloc(a, length + 1);

	if (copy)
		memcpy(copy, text, length);
	return copy;
}

char *arena_strdup(struct arena *a, const char *text)
{
	return arena_strndup(a, text, strlen(text));
}

static void blocks_free(struct arena_block *block)
{
	struct arena_block *older;

	for (; block; block = older) {
		older = block->older;
		free(block);
	}
}

void arena_reset(struct arena *a)
{
	assert(a->block || !a->used);
	if (!a->block)
		return;
	blocks_free(a->block->older);
	a->block->older = NULL;
	a->used = 0;
	if (a->block->size > KEEP_MAX)
		arena_free(a);
}

void arena_free(struct arena *a)
{
	assert(a->block || !a->used);
	blocks_free(a->block);
	a->block = NULL;
	a->used = 0;
}
