/*
 * When conntrack is swept of the entries that stale.h finds: UDP flows as fast as the loop allows
 * with a long rest afterwards, TCP connections (BEY-1) a little at a time.
 */
#ifndef SYNC_SWEEPER_H
#define SYNC_SWEEPER_H

#include "proxy/base/clock.h"
#include "proxy/base/log.h"
#include "proxy/sync/stale.h"

struct event_base;
struct sweeper;

struct sweeper_options {
	struct event_base *base; /* NULL: only sweeper_run() */
	const struct clock *clock;
	struct log *log;
	struct stale *stale; /* borrowed, as all of these */
	enum family family;
	bool udp;
	/* After each sweep: NULL is allowed */
	void (*swept)(void *ctx, enum family family, unsigned long deleted,
		      int64_t took_us);
	void *ctx;
};

struct sweeper *sweeper_new(const struct sweeper_options *options); /* NULL: no memory */
void sweeper_free(struct sweeper *w); /* NULL is allowed */

/* Begins a sweep if one is wanted and due, or sees to it that it begins later. */
void sweeper_request(struct sweeper *w);
/* Sweeps now, to the end. */
void sweeper_run(struct sweeper *w);

#endif
