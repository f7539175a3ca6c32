/*
 * Pick chains that are made before anybody wants them. A rule that looks into a
 * map binds it, and for a chain that has not done so before the kernel walks
 * the whole map: 35 ms with 100,000 endpoints, half a second with a million.
 * While the map is empty it costs nothing.
 */
#ifndef SYNC_SPARES_H
#define SYNC_SPARES_H

#include "proxy/model/dispatch.h"
#include "proxy/sync/registry.h"

enum {
	/* A table with fewer endpoints has no spares: the walk takes 3 ms, and lists are short. */
	SPARES_FROM = 10000,
	/* Idle pick chains that a table with spares may keep: 2 KiB each in the
	   kernel, and 26 ns more for each endpoint that comes. */
	SPARES_KEPT = 100,
};

/*
 * Asks @r for all that the @n dispatches (NULL among them is allowed) will want
 * of pick chains, for the numbers of endpoints next to those, and for small
 * numbers; for nothing if there are fewer endpoints than SPARES_FROM. Returns 0
 * or -ENOMEM.
 */
int spares_want(struct registry *r,
		const struct dispatch *(*dispatch)(void *ctx, unsigned int i),
		void *ctx, unsigned int n, enum family family,
		struct arena *scratch, int64_t now_us);

/* The endpoints of a dispatch (NULL is allowed), as they are counted for that. */
unsigned int spares_weight(const struct dispatch *dispatch);

#endif
