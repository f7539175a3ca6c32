/*
 * What the files of the dataplane share: dataplane.c (when which path is taken),
 * dataplane_decide.c, dataplane_full.c, dataplane_commit.c, dataplane_applied.c,
 * dataplane_refusal.c, dataplane_counts.c and dataplane_print.c. Nobody else includes this.
 */
#ifndef SYNC_DATAPLANE_INTERNAL_H
#define SYNC_DATAPLANE_INTERNAL_H

#include "nft/batch.h"
#include "nft/readback.h"
#include "proxy/sync/counts.h"
#include "proxy/sync/dataplane.h"
#include "proxy/sync/purges.h"
#include "proxy/sync/registry.h"
#include "proxy/sync/snapshot.h"
#include "proxy/sync/difference.h"

enum {
	COMMIT_TIMEOUT_MS =
		30 * 1000, /* a load of 100,000 services takes seconds */
};

struct dataplane {
	enum family family;
	struct model *model;
	struct nlsock *nl;
	const struct clock *clock;
	struct stale *stale, *closing;
	void (*compiled)(void *ctx, struct service_entry *service,
			 enum family family);
	void (*bulk)(void *ctx, bool begin);
	void (*port_changed)(void *ctx, enum family family,
			     const struct service_port_state *port,
			     const struct dispatch *before,
			     const struct dispatch *after);
	void *ctx, *bulk_ctx;
	struct dataplane_gauges gauges;
	const struct interfaces *interfaces; /* NULL: none */
	bool owner;			     /* tables are ours alone ... */
	bool owned; /* ... and this one is: a transaction of ours took it */
	bool doubtful; /* somebody may have changed the table while nobody listened */
	bool known; /* applied dispatches and registries are what the kernel has */
	bool in_step; /* the latest sync left nothing to do */
	struct ruleset ruleset;
	struct counts *counts; /* NULL: nobody counts connections */
	struct registry registry;
	struct purges *purges; /* NULL without a kernel */
	bool purge_later;
	struct element *globals; /* applied elements of no service port, sorted */
	size_t n_globals;
	bool everywhere;      /* applied: node ports are on all addresses */
	struct arena scratch; /* of a sync */
	struct arena brief;   /* of one service port */
	/* compiled, and different from what is applied, or with flows that may be stale; each once
	 */
	struct service_port_state **changed;
	unsigned int n_changed, changed_room;
	uint64_t round; /* counts these lists */
	int64_t now_us, retry_us;
};

/* dataplane_decide.c */

/* Empties the list of service ports that are compiled and differ from what is applied. */
void dp_changed_begin(struct dataplane *dp);

/*
 * Compiles all that is dirty. What cannot be compiled for lack of memory stays
 * dirty. What is in the list of changes is pruned when the round is over.
 * @snapshot is NULL if what is in the kernel is known. Returns 0 or -ENOMEM, as
 * do the next three.
 */
int dp_compile_dirty(struct dataplane *dp, const struct snapshot *snapshot,
		     struct sync_report *report);

/* What is wanted apart from service ports, sorted, in the scratch memory of the sync. */
int dp_wanted_globals(struct dataplane *dp, struct snapshot *snapshot,
		      const struct element **list, size_t *count);
int dp_all_ports(struct dataplane *dp, struct service_port_state ***ports,
		 unsigned int *count);

/* For a table that is made now: see spares.h. */
int dp_want_spares(struct dataplane *dp, struct service_port_state **ports,
		   unsigned int n);

/* dataplane_commit.c */

struct difference dp_difference(struct dataplane *dp, const struct writer *writer,
				struct snapshot *snapshot);

/*
 * Sends a transaction, if it has anything; @err is what came of building it.
 * Returns 0, or a negative errno with @eb.
 */
int dp_commit(struct dataplane *dp, struct batch *b, int err,
	      struct sync_report *report, struct refusal *refusal,
	      struct errbuf *eb);

/* dataplane_applied.c: after a commit */

/* The kernel has what the service port wants, if it is not set aside. @full: after a comparison. */
void dp_port_applied(struct dataplane *dp, struct service_port_state *p, bool full);
int dp_globals_applied(struct dataplane *dp, const struct element *list, size_t n);
/* The table had elements that nobody wants: their UDP flows are looked at. */
void dp_unseen_applied(struct dataplane *dp, struct snapshot *snapshot);

/* dataplane_counts.c */

/* Before each try of a sync: counts if the ruleset asks for it. Returns 0 or -ENOMEM. */
int dp_counts_begin(struct dataplane *dp);
/* Asks for the counts of what the changes of @t will replace. */
void dp_counts_foresee(struct dataplane *dp, struct difference *t);
/* The same of what was built just now; false if it replaces nothing that counts. */
bool dp_counts_ask(struct dataplane *dp);

/* dataplane_refusal.c */

bool dp_is_aside(const struct dataplane *dp, const struct service_port_state *p);

/* A service port that was set aside keeps what the kernel has of it, if possible. */
const struct dispatch *dp_target(const struct dataplane *dp,
				 const struct service_port_state *p);
void dp_set_aside(struct dataplane *dp, struct service_port_state *p,
		  const char *reason);

/*
 * Whether any that has changed was refused before. What others have of the
 * virtual IPs of a service port that was set aside cannot be told from its
 * dispatch: only a full comparison is safe.
 */
bool dp_any_refused(const struct dataplane *dp);

/* When the earliest of those set aside is due. Only looked for while there are any. */
void dp_find_retry(struct dataplane *dp);

/* dataplane_full.c */

struct full_sync {
	struct snapshot *snapshot;
	enum table_state state;
	unsigned int parts; /* enum table_part, that the table has */
	struct service_port_state **ports;
	unsigned int n_ports;
	const struct element *globals;
	size_t n_globals;
};

/*
 * Reads the table, also one that belongs to another (@whoever); the registries know afterwards what
 * is there, and that nothing is wanted yet. The caller frees the snapshot after success.
 */
int dp_read_kernel(struct dataplane *dp, bool whoever, struct full_sync *full,
		   struct errbuf *eb);

/*
 * Reads all, compares all, commits. Without @blame a refusal ends it: the table
 * may have changed since it was read, and then nobody is to blame.
 */
int dp_sync_full(struct dataplane *dp, bool blame, struct sync_report *report,
		 struct errbuf *eb);
bool dp_is_refusal(int err);

#endif
