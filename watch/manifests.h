/*
 * Objects from files: YAML or JSON, single objects, several documents or lists;
 * a file, a directory (all *.yaml, *.yml and *.json in it, not deeper; followed
 * for changes), or "-" for standard input.
 *
 * What an API server would do for us is done here: the label selectors of API-1
 * and API-2, and, for a Service with a selector and no EndpointSlice, endpoints
 * from the Pods given.
 */
#ifndef WATCH_MANIFESTS_H
#define WATCH_MANIFESTS_H

#include "proxy/base/errbuf.h"
#include "proxy/model/objects.h"

struct manifests;

/* @paths is NULL-terminated and borrowed, as is @node_name (this node). NULL when out of memory. */
struct manifests *manifests_new(char *const *paths, const char *node_name);
void manifests_free(struct manifests *m);

/*
 * Reads everything again and gives it to @sink as one complete list per kind
 * (all four kinds, even empty ones). Bad objects go to sink->complain and are
 * left out. An unreadable file or one that is no YAML or JSON is an error:
 * returns a negative errno with @eb, and @sink has seen nothing.
 */
int manifests_load(struct manifests *m, const struct object_sink *sink,
		   struct errbuf *eb);

/* inotify on files and directories: readable when manifests_load() should be
 * called again. -1: nothing to follow. */
int manifests_fd(const struct manifests *m);
/* Empties the inotify queue; whether something relevant changed. */
bool manifests_changed(struct manifests *m);

#endif
