/*
 * Private to watch/manifests*.c: one file, of JSON or YAML, to entries.
 */
#ifndef WATCH_MANIFEST_FILE_H
#define WATCH_MANIFEST_FILE_H

#include "watch/entries.h"

/*
 * Appends the objects of an open file to the store's. A file that is neither
 * JSON nor YAML leaves nothing there: a negative errno, with @eb naming
 * @source. @scratch is for decoders.
 */
int manifest_read(struct store *store, int fd, const char *source,
		  const char *node_name, struct arena *scratch, struct errbuf *eb);

#endif
