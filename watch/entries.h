/*
 * Private to watch/manifests*.c: what the files of a load hold, object by
 * object, and what is to be said about them.
 */
#ifndef WATCH_ENTRIES_H
#define WATCH_ENTRIES_H

#include "proxy/base/arena.h"
#include "proxy/base/hashtab.h"
#include "proxy/base/strbuf.h"
#include "watch/pods.h"

enum {
	MAX_UNUSED_KINDS = 64,
	/* Besides the kinds of objects.h; the second says which Services have slices. */
	KIND_POD = N_KINDS,
	KIND_SLICED,
};

struct entry {
	unsigned int kind;
	const char *namespace, *name; /* in the arena of the store */
	const char *source;
	void *object; /* as objects.h has it; NULL if it is not for us, or it is a Pod */
	const struct pod *pod;
	const struct selector *selector; /* of a Service, or NULL */
	struct hash_node by_name;
};

struct entries {
	struct entry *items;
	size_t count, room;
};

/* Takes the object over; it is released when that fails. Returns 0 or -ENOMEM. */
int entries_add(struct entries *list, const struct entry *entry);
void entries_free(struct entries *list);

/* A kind of object that is of no use here, and how often it came. */
struct unused_kind {
	char name[128];
	unsigned int count;
};

/* What lives as long as a load, or for standard input as long as the manifests. */
struct store {
	struct arena arena;
	struct entries entries;
	struct hashtab by_name;	  /* after store_index() */
	struct strbuf complaints; /* a line each */
	struct unused_kind unused[MAX_UNUSED_KINDS];
	unsigned int n_unused;
};

void store_free(struct store *store);
void store_complain(struct store *store, const char *source, const char *message);
void store_note_unused(struct store *store, const char *kind,
		       const char *api_version);

/* What was said so far; to be taken back when a file is read in another way. */
struct store_notes {
	size_t complaints;
	unsigned int n_unused;
	unsigned int counts[MAX_UNUSED_KINDS];
};

struct store_notes store_save_notes(const struct store *store);
void store_restore_notes(struct store *store, const struct store_notes *notes);

/* One object for each name: the last one, the others are emptied and complained of. */
void store_index(struct store *store);
/* Whether there is an EndpointSlice of this Service. */
bool store_has_slices(const struct store *store, const struct entry *service);

#endif
