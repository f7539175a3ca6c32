/*
 * When the first sync may begin: the wait for the Node (NODE-1, NODE-3), and whether a Node,
 * the configuration and this kernel fit together. For the daemon and for --once.
 */
#ifndef PROXY_STARTUP_H
#define PROXY_STARTUP_H

#include "proxy/feed.h"

struct strbuf;
struct startup;

/* Whether the wait for the Node is over; pure. */
enum startup_verdict {
	STARTUP_WAIT,
	STARTUP_READY,
	STARTUP_WITHOUT_ADDRESSES, /* NODE-1: it has lasted long enough, and goes on without */
	STARTUP_WITHOUT_POD_CIDRS, /* NODE-3: it has lasted long enough, and cannot go on */
};
enum startup_verdict startup_judge(const struct config *config,
				   const struct node *node, int64_t waited_us);

/* @ready is called once, when the wait is over and all fits; else the program ends by app_exit().
 */
struct startup *startup_new(struct feed *feed, void (*ready)(void *ctx), void *ctx);
void startup_free(struct startup *s); /* NULL is allowed */

/* Begins to wait, if the objects come from an API server; manifests are there already. */
void startup_begin(struct startup *s);
/* Objects have arrived. */
void startup_settled(struct startup *s);

bool startup_is_over(const struct startup *s);
/* Appends what is waited for; nothing if the wait is over. */
void startup_waiting(const struct startup *s, struct strbuf *why);

/* Says what does not fit, and ends the program with EXIT_FAILED. */
bool startup_node_fits(struct feed *feed);

/*
 * Whether @config, @node (NULL: unknown) and this kernel fit together: DS-2, NODE-3 and CFG-5.
 * Without @warn it only judges. Returns 0 or a negative errno with @eb.
 */
int startup_check(const struct app *app, const char *node_name,
		  const struct config *config, const struct node *node,
		  void (*warn)(void *ctx, const char *message), struct errbuf *eb);

/* RUN-10 */
void startup_look_for_rivals(struct app *app);

#endif
