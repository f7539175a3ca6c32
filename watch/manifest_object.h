/*
 * Private to watch/manifests*.c: from one object of a file to an entry.
 */
#ifndef WATCH_MANIFEST_OBJECT_H
#define WATCH_MANIFEST_OBJECT_H

#include "watch/entries.h"

/* A file that is being read, and what has come of it so far. */
struct manifest {
	const char *source; /* its name, for messages; in the store's arena */
	const char *node_name; /* this node */
	struct arena *scratch; /* of decoders */
	struct store *store;   /* for names, and for what is to be said */
	struct entries entries;
	bool is_yaml;
};

/*
 * @json is an object of @kind and @api_version. One that is bad or of no use is
 * complained of or counted, and left out. Returns 0 or -ENOMEM.
 */
int manifest_add(struct manifest *m, const char *kind, const char *api_version,
		 const struct json *json);

void manifest_complain(struct manifest *m, const char *message);
/* The same, naming an object. */
void manifest_complain_about(struct manifest *m, const char *kind,
			     const struct json *json, const char *problem);

#endif
