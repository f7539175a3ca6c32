/*
 * YAML to the same trees as JSON, and the only home of libyaml. Plain words
 * mean what they mean to Kubernetes, that is YAML 1.1 as Go reads it: "yes" and
 * "on" are booleans, 010 is 8.
 *
 * The bounds of JSON hold, and what aliases multiply is bounded too. Repeated
 * keys are kept, see json_duplicates().
 */
#ifndef WATCH_YAML_H
#define WATCH_YAML_H

#include "watch/json.h"

#include <sys/types.h>

/* A single document; an empty one is null. NULL with @eb (line, column and reason). Caller owns it.
 */
struct json *yaml_parse(const char *text, size_t length, struct errbuf *eb);

/*
 * The same where only the first of several documents counts: the others are
 * shown to @other, as far as they can be read.
 */
struct json *yaml_parse_first(const char *text, size_t length,
			      void (*other)(void *ctx, const struct json *document),
			      void *ctx, struct errbuf *eb);

/* Trees are given away. A callback that fails (a negative errno, with @eb filled) ends the reading.
 */
struct yaml_ops {
	/*
	 * May be NULL. An element of "items" at the top of a document, so that a long list need not
	 * be in memory as a whole; @document is what came before items.
	 */
	int (*item)(void *ctx, const struct json *document, struct json *item,
		    struct errbuf *eb);
	/* A whole document, null if empty; "items" is an empty list if its elements went to @item.
	 */
	int (*document)(void *ctx, struct json *document, struct errbuf *eb);
};

/*
 * All documents of a stream. @read gives at most @size bytes, 0 at the end, or
 * a negative errno. Returns 0 or a negative errno with @eb.
 */
int yaml_read(ssize_t (*read)(void *ctx, char *bytes, size_t size), void *read_ctx,
	      const struct yaml_ops *ops, void *ctx, struct errbuf *eb);

#endif
