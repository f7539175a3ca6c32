/*
 * Private to nft/: lists of elements on the wire, and whose they are.
 */
#ifndef NFT_ENCODE_ELEMENTS_H
#define NFT_ENCODE_ELEMENTS_H

#include "nft/layout.h"
#include "nft/wire.h"

/* Neighbours with the same owner share an entry: a service port brings its elements in a row. */
struct owner_run {
	void *owner;
	size_t count;
};

/* The elements that are added to one set, or deleted from it; source ranges of all of their sets.
 */
struct elements {
	enum set_id set;
	bool add;
	char *ranges; /* name of the last set of source ranges; owned */
	struct wire wire;
	size_t message; /* where in it the last message begins, and the list of elements in that */
	size_t list;
	bool list_ended; /* the next element belongs to another set */
	struct owner_run *runs;
	size_t n_runs, runs_room;
};

void elements_init(struct elements *s, enum set_id set, bool add);
void elements_free(struct elements *s);

/* @chain: where a verdict goes, NULL for a drop. Out of memory is told by wire.err. */
void elements_put(struct elements *s, enum family family,
		  const struct element *e, const char *chain, void *owner);

/*
 * The owner of the element at @offset of the message at @position of the wire.
 * If the offset is that of no element, the owner of all elements in the
 * message, or NULL if they have several.
 */
void *elements_owner(const struct elements *s, size_t position, uint32_t offset);

/* The element at @offset of a message, as "10.0.0.1 . tcp . 80". Nothing if there is none. */
void elements_print(const struct elements *s, size_t position, uint32_t offset,
		    enum family family, struct strbuf *out);

#endif
