/*
 * Session affinity's clients of endpoints that have gone (AFF-4, AFF-5): which
 * maps are still to be looked through, and the looking.
 */
#ifndef SYNC_PURGES_H
#define SYNC_PURGES_H

#include "nft/nlsock.h"
#include "proxy/base/clock.h"
#include "proxy/model/dispatch.h"

struct purges;

/*
 * Deletes through @nl (borrowed, as is @clock). @stream: a large map is listed piece by piece
 * through a socket of its own, instead of whole through @nl. NULL: no memory.
 */
struct purges *purges_new(struct nlsock *nl, const struct clock *clock,
			  enum family family, bool stream);
void purges_free(struct purges *p); /* NULL is allowed; what was not done is left undone */

/*
 * The clients in @map of all endpoints but those in @wanted must go; copies
 * all. What was asked for this map before counts no more. @label names the
 * service port in messages. Returns 0 or -ENOMEM.
 */
int purges_add(struct purges *p, const char *map, const char *label,
	       const struct endpoint_list *wanted);

/*
 * Goes on until all is done or @until_us (monotonic) has passed. Returns 1 if there is more
 * to do, 0 if not, or a negative errno with @eb: that map was given up, and there may be more.
 */
int purges_run(struct purges *p, int64_t until_us, struct errbuf *eb);
bool purges_pending(const struct purges *p);

#endif
