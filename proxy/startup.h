/*
 * When the first sync may begin: the wait for the Node (NODE-1, NODE-3), and whether a Node,
 * the configuration and this kernel fit together. For the daemon and for --once.
 */
#ifndef PROXY_STARTUP_H
#define PROXY_STARTUP_H

#include "proxy/feed.h"

struct startup;

/* @ready is called once, when the wait is over and all fits; else the program ends by app_exit().
 */
struct startup *startup_new(struct feed *feed, void (*ready)(void *ctx), void *ctx);
void startup_free(struct startup *s); /* NULL is allowed */

/* Begins to wait, if the objects come from an API server; manifests are there already. */
void startup_begin(struct startup *s);
/* Objects have arrived. */
void startup_settled(struct startup *s);

/* Says what does not fit, and ends the program with EXIT_FAILED. */
bool startup_node_fits(struct feed *feed);

/*
 * CFG-5 for @config on @node (NULL: unknown). Without @warn it only judges. Returns 0 or a negative
 * errno with @eb.
 */
int startup_check_families(const struct app *app, const struct config *config,
			   const struct node *node, void (*warn)(void *ctx, const char *message),
			   struct errbuf *eb);

/* RUN-10 */
void startup_look_for_rivals(struct app *app);

#endif
