/*
 * Objects that do not run here: what "get", "explain" and "diff" look at when flags say where from.
 */
#ifndef COMMANDS_OBJECTS_H
#define COMMANDS_OBJECTS_H

#include "proxy/feed.h"
#include "proxy/serve/view.h"
#include "proxy/sync/dataplane.h"

/* Whether the flags name objects of their own: --manifests, --config, --kubeconfig or --master. */
bool objects_are_named(const struct options *options);

struct objects {
	struct app *app;
	struct feed *feed;
	struct dataplane *dataplanes[N_FAMILIES]; /* without a kernel */
	struct view view;
	int *files, n_files; /* of a copy: pages in memory */
	struct log *quiet;   /* in the place of the program's, which is: */
	struct log *log;
};

/*
 * Reads them, waiting for an API server if need be, compiles everything, and
 * has ask_text() and the like answer from them until objects_close(). Takes
 * over @options. Returns EXIT_DONE, or another exit status after it told why;
 * objects_close() in any case.
 */
int objects_open(struct objects *o, struct app *app, struct options *options);
void objects_close(struct objects *o);

/*
 * A copy of what the running vipmap has: its configuration, its objects, its
 * node. Nothing is logged on the way. Otherwise as above.
 */
int objects_copy(struct objects *o, struct app *app);

/* The machine's, if the configuration has a fast path; else NULL. The caller closes them. */
struct interfaces *interfaces_now(const struct config *config, struct log *log);

#endif
