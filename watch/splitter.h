/*
 * A splitter cuts JSON text, which may arrive in any pieces, into objects small
 * enough to be parsed one at a time: the elements of a list's "items", or the
 * events of a watch. Memory does not grow with the list. It only looks for
 * where a value ends; json_parse() judges what is in it.
 */
#ifndef WATCH_SPLITTER_H
#define WATCH_SPLITTER_H

#include "proxy/base/errbuf.h"

#include <stddef.h>

struct splitter;

/*
 * Texts are complete JSON objects, not terminated, and live until the callback
 * returns. A callback that fails (a negative errno, with @eb filled) ends the
 * splitting: the error is returned.
 */
struct splitter_ops {
	/* SPLIT_LIST, may be NULL: "items" begins. @text is what stood before
	 * it, with an empty "items". */
	int (*head)(void *ctx, const char *text, size_t length, struct errbuf *eb);
	/* An element of "items", or with SPLIT_STREAM one of the objects that follow each other */
	int (*item)(void *ctx, const char *text, size_t length, struct errbuf *eb);
	/* SPLIT_LIST: a whole object ended. @text is all of it, but with
	 * "items" emptied if it is a list. */
	int (*rest)(void *ctx, const char *text, size_t length, struct errbuf *eb);
};

enum splitter_mode {
	SPLIT_LIST, /* objects, one after the other, and their "items" singly */
	SPLIT_STREAM, /* objects, one after the other, whole */
};

/* @ops and @ctx are borrowed. Caller owns it; NULL when out of memory. */
struct splitter *splitter_new(enum splitter_mode mode,
			      const struct splitter_ops *ops, void *ctx);
void splitter_free(struct splitter *s); /* NULL is allowed */

/*
 * Returns 0 or a negative errno with @eb. What is nested deeper than
 * JSON_MAX_DEPTH or longer than JSON_MAX_LENGTH, or is no object, is an error.
 * After one, only splitter_reset() helps.
 */
int splitter_feed(struct splitter *s, const char *bytes, size_t length,
		  struct errbuf *eb);
/* The end of the text: an error in the middle of an object. */
int splitter_finish(struct splitter *s, struct errbuf *eb);
void splitter_reset(struct splitter *s); /* as new, for another text */

#endif
