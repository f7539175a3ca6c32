/*
 * A look at all translated connections, on the event loop: a datagram of the kernel at a time, so
 * that keys and signals are heard meanwhile, however many there are.
 */
#ifndef COMMANDS_LOOK_H
#define COMMANDS_LOOK_H

#include "nft/conntrack.h"
#include "proxy/app.h"

struct look;

struct look_calls {
	void (*entry)(void *ctx, enum family family,
		      const struct conntrack_entry *entry);
	/* The end. @err: 0 or a negative errno with @eb. Not after look_cancel(). */
	void (*done)(void *ctx, int err, const struct errbuf *eb);
	void *ctx;
};

struct look *look_new(struct app *app,
		      const struct look_calls *calls); /* NULL: no memory */
void look_free(struct look *l);			       /* NULL is allowed */
void look_begin(struct look *l); /* one that is under way is given up */
void look_cancel(struct look *l);
bool look_is_on(const struct look *l);

#endif
