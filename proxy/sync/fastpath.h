/*
 * The devices of the fast path (BEY-6): interfaces come and go, and the
 * flowtables of both families follow them. The flowtables themselves are parts
 * of the tables, which dataplane.h keeps.
 */
#ifndef SYNC_FASTPATH_H
#define SYNC_FASTPATH_H

#include "nft/nlsock.h"
#include "proxy/base/log.h"
#include "proxy/model/ruleset.h"

struct event_base;
struct fastpath;

/* @base may be NULL: then nothing is followed. All are borrowed. NULL when out of memory. */
struct fastpath *fastpath_new(struct event_base *base, struct nlsock *nl,
			      struct log *log);
void fastpath_free(struct fastpath *fp);

/*
 * The table is in the kernel as @ruleset wants it: with a flowtable that has the right devices, or
 * without one. @check: it was read back or made anew, so its devices are not known.
 */
void fastpath_synced(struct fastpath *fp, const struct ruleset *ruleset,
		     bool check);

/* The table's state is in doubt: it is left alone until the next fastpath_synced(). */
void fastpath_forget(struct fastpath *fp, enum family family);

#endif
