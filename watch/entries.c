#include "watch/entries.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/array.h"

enum { COMPLAINTS_MAX = 1024 * 1024 };

static void entry_empty(struct entry *e)
{
	free(e->object);
	e->object = NULL;
	e->pod = NULL;
	e->selector = NULL;
}

void entries_free(struct entries *list)
{
	size_t i;

	for (i = 0; i < list->count; i++)
		free(list->items[i].object);
	free(list->items);
	*list = (struct entries){ 0 };
}

int entries_add(struct entries *list, const struct entry *entry)
{
	int err = array_grow(list->items, list->count, list->room);

	if (err)
		free(entry->object);
	else
		list->items[list->count++] = *entry;
	return err;
}

void store_free(struct store *store)
{
	hashtab_free(&store->by_name);
	entries_free(&store->entries);
	arena_free(&store->arena);
	strbuf_free(&store->complaints);
	store->n_unused = 0;
}

void store_complain(struct store *store, const char *source, const char *message)
{
	store->complaints.max = COMPLAINTS_MAX;
	strbuf_addf(&store->complaints, "%s: %s\n", source, message);
}

void store_note_unused(struct store *store, const char *kind, const char *api_version)
{
	char name[sizeof(store->unused[0].name)];
	unsigned int i;

	assert(store->n_unused <= MAX_UNUSED_KINDS);
	snprintf(name, sizeof(name), "%.60s %.60s", api_version, kind);
	for (i = 0; i < store->n_unused; i++) {
		if (strcmp(store->unused[i].name, name) == 0) {
			store->unused[i].count++;
			return;
		}
	}
	if (i == MAX_UNUSED_KINDS)
		return;
	memcpy(store->unused[i].name, name, sizeof(name));
	store->unused[i].count = 1;
	store->n_unused++;
}

struct store_notes store_save_notes(const struct store *store)
{
	struct store_notes notes = { .complaints = store->complaints.length,
				     .n_unused = store->n_unused };
	unsigned int i;

	for (i = 0; i < store->n_unused; i++)
		notes.counts[i] = store->unused[i].count;
	return notes;
}

void store_restore_notes(struct store *store, const struct store_notes *notes)
{
	unsigned int i;

	assert(notes->n_unused <= store->n_unused);
	if (store->complaints.text && notes->complaints < store->complaints.length) {
		store->complaints.length = notes->complaints;
		store->complaints.text[notes->complaints] = '\0';
	}
	store->n_unused = notes->n_unused;
	for (i = 0; i < store->n_unused; i++)
		store->unused[i].count = notes->counts[i];
}

static uint64_t entry_name_hash(const struct entry *e)
{
	return hash_text(hash_text(HASH_SEED + e->kind, e->namespace), e->name);
}

static struct entry *store_find(const struct store *store, const struct entry *like)
{
	struct entry *e;

	for_each_hash_match (e, &store->by_name, entry_name_hash(like), by_name)
		if (e->kind == like->kind && strcmp(e->name, like->name) == 0 &&
		    strcmp(e->namespace, like->namespace) == 0)
			return e;
	return NULL;
}

static void complain_replaced(struct store *store, const struct entry *old,
			      const struct entry *e)
{
	char text[512];

	snprintf(text, sizeof(text), "%s %s%s%s: replaces the one in %s",
		 e->kind == KIND_POD ? "Pod" : kind_name((enum kind)e->kind),
		 e->namespace, *e->namespace ? "/" : "", e->name, old->source);
	store_complain(store, e->source, text);
}

void store_index(struct store *store)
{
	struct entry *e, *old;
	size_t i;

	for (i = 0; i < store->entries.count; i++) {
		e = &store->entries.items[i];
		old = store_find(store, e);
		if (old && e->kind == KIND_SLICED)
			continue;
		if (old) {
			complain_replaced(store, old, e);
			entry_empty(old);
			hashtab_remove(&store->by_name, &old->by_name);
		}
		hashtab_insert(&store->by_name, &e->by_name, entry_name_hash(e));
	}
}

bool store_has_slices(const struct store *store, const struct entry *service)
{
	struct entry like = *service;

	like.kind = KIND_SLICED;
	return store_find(store, &like) != NULL;
}
