/*
 * The four resources that are asked for, and how (section 1 of the semantics).
 */
#ifndef WATCH_RESOURCE_H
#define WATCH_RESOURCE_H

#include <stdbool.h>

#include "proxy/model/objects.h"

struct strbuf;

struct resource {
	const char *path, *list_kind;
	const char *selector; /* query, encoded, ends with '&' or is empty */
	const char *optional_selector; /* one that older servers do not know */
	bool of_node;	/* only the object with the node's name */
	bool refusable; /* works without it */
};

const struct resource *resource_of(enum kind kind);

/*
 * Path and selectors, to which parameters can be added: it ends with a question
 * mark or an ampersand.
 */
void resource_path(const struct resource *resource, const char *node_name,
		   bool optional_selector, struct strbuf *path);

#endif
