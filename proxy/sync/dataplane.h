/*
 * One family's table in the kernel, kept equal to what the model wants: the diff, its transactions,
 * adoption and repair, and the later removal of what nobody uses any more.
 */
#ifndef SYNC_DATAPLANE_H
#define SYNC_DATAPLANE_H

#include "nft/nlsock.h"
#include "proxy/base/clock.h"
#include "proxy/model/ruleset.h"
#include "proxy/model/model.h"
#include "proxy/sync/stale.h"

struct dataplane;

struct dataplane_options {
	enum family family;
	struct model *model;	   /* borrowed, as is @nl */
	struct nlsock *nl;	   /* NULL: only dataplane_print() */
	const struct clock *clock; /* NULL: the system's */
	struct stale *stale; /* told which UDP flows may be stale; NULL is allowed, as below */
	struct stale *closing; /* the same of TCP connections that are to be ended (BEY-1) */
	bool owner; /* the kernel has table flags owner|persist */
	/* For printing and comparing what the fast path takes of them; NULL: none of them */
	const struct interfaces *interfaces;
	/* Clients of former endpoints may be forgotten later, by dataplane_purge(). */
	bool purge_later;
	/* Each Service that is compiled, before its rules are in the kernel. NULL is allowed */
	void (*compiled)(void *ctx, struct service_entry *service,
			 enum family family);
	/* Before and after a large transaction, for whoever listens to
	 * notifications. NULL is allowed */
	void (*bulk)(void *ctx, bool begin);
	/* The kernel has something new for a service port; NULL: nothing. May be NULL */
	void (*changed)(void *ctx, enum family family,
			const struct service_port_state *port,
			const struct dispatch *before,
			const struct dispatch *after);
	void *ctx;
	void *bulk_ctx; /* of bulk and changed */
};

struct dataplane *dataplane_new(const struct dataplane_options *options);
void dataplane_free(struct dataplane *dp); /* leaves the kernel alone */

/* What is in the kernel now. */
struct dataplane_gauges {
	unsigned int service_ports, endpoints, set_aside;
	unsigned int no_local[2]; /* MET-3: by internal and external traffic policy */
};
const struct dataplane_gauges *dataplane_gauges(const struct dataplane *dp);

struct sync_report {
	bool full; /* the kernel was read back and compared; then at most one of: */
	bool adopted;  /* a table of an earlier process was there, and stays */
	bool replaced; /* one was there, of another layout */
	bool repair; /* all was in step before: what was written had been changed by others */
	unsigned int wrote; /* transactions committed; several fill a new table */
	unsigned int elements_added, elements_deleted;
	unsigned int services; /* service ports compiled */
	size_t bytes;	       /* of the transactions */
	unsigned int refused; /* transactions that the kernel refused on the way */
	int64_t compile_us, commit_us;
};

/*
 * Compiles what is dirty and commits the difference; reads the kernel back
 * first if its state is not known. Returns 0, or a negative errno with @eb:
 * then nothing is lost, and the next call tries again. Service ports that the
 * kernel refuses are set aside, which is no error.
 */
int dataplane_sync(struct dataplane *dp, int64_t now_us,
		   struct sync_report *report, struct errbuf *eb);

/*
 * Goes on forgetting clients of former endpoints, for @budget_us (INT64_MAX: to the end). Returns
 * whether there is more to do. After a failure the dataplane is not known any more.
 */
bool dataplane_purge(struct dataplane *dp, int64_t budget_us);
bool dataplane_is_purging(const struct dataplane *dp);

/* Somebody else changed the table, or an outcome is unknown: read back at the next sync. */
void dataplane_forget(struct dataplane *dp);
/* Whether the table is ours alone, so that nobody else can change it. */
bool dataplane_is_owner(const struct dataplane *dp);
/* Of the latest sync. */
const struct ruleset *dataplane_ruleset(const struct dataplane *dp);
bool dataplane_is_known(const struct dataplane *dp);

/*
 * Reads how many connections the elements @keys of counted sets have counted so
 * far (BEY-5): each with its data, those of one set in a row. Returns 0 or a
 * negative errno with @eb; -ENODATA if nobody counts.
 */
int dataplane_count(struct dataplane *dp, struct element *keys, size_t count,
		    struct errbuf *eb);

/* When a service port that was set aside is due again, or INT64_MAX. */
int64_t dataplane_retry_us(const struct dataplane *dp);

/*
 * Removes chains and maps that have been unused for a while, in a transaction
 * of their own. Returns the number removed, or a negative errno. *again_us
 * becomes the time of the next call, INT64_MAX: none needed.
 */
int dataplane_collect(struct dataplane *dp, int64_t now_us, int64_t *again_us,
		      struct errbuf *eb);

/* Compiles what is dirty and goes no further. Returns 0 or -ENOMEM. */
int dataplane_compile(struct dataplane *dp);

/* Everything that the model wants, compiled from nothing. Returns 0 or a negative errno. */
int dataplane_print(struct dataplane *dp, struct strbuf *out);

/*
 * What a full sync would write now, as text: a line each, "-" before what is in
 * the kernel and "+" before what is wanted; nothing if they agree. Compiles,
 * and changes nothing in the kernel. Returns 0 or a negative errno with @eb.
 */
int dataplane_diff(struct dataplane *dp, struct strbuf *out, struct errbuf *eb);

/*
 * Removes the family's table (RUN-9); that there is none is success. Returns 0
 * or a negative errno; -EBUSY if another process owns it, which @eb names.
 */
int dataplane_remove(struct nlsock *nl, enum family family, struct errbuf *eb);

#endif
