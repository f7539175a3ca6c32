/*
 * Keeping the kernel in step with the model, on the event loop: when to sync,
 * both families, repair of foreign changes, the addresses of the node,
 * collection of unused objects, and conntrack sweeps.
 */
#ifndef SYNC_SYNC_H
#define SYNC_SYNC_H

#include "proxy/sync/dataplane.h"
#include "proxy/base/log.h"

struct event_base;
struct sync;

struct sync_options {
	struct event_base *base; /* NULL: only sync_once() */
	const struct config *config;
	struct model *model;
	struct log *log;
	const struct clock *clock; /* NULL: the system's */
	bool family[N_FAMILIES];   /* which are handled (DS-1) */
	struct nlsock *nl;	   /* NULL: opens its own. Taken over */
	bool no_owner; /* as on kernels without owned tables, whatever this one has */
	/*
	 * For metrics and health; each may be NULL. After each attempt of a
	 * family (@err: 0 or a negative errno), and after each conntrack sweep:
	 */
	void (*synced)(void *ctx, enum family family, int err,
		       const struct sync_report *report, int64_t duration_us);
	void (*swept)(void *ctx, enum family family, unsigned long deleted,
		      int64_t duration_us);
	/* connections ended (BEY-1), after each such sweep */
	void (*closed)(void *ctx, enum family family, unsigned long count);
	void (*queued)(void *ctx,
		       enum family family); /* something waits to be programmed */
	void (*compiled)(void *ctx, struct service_entry *service,
			 enum family family);
	/* the kernel has something new for a service port; NULL: nothing */
	void (*changed)(void *ctx, enum family family,
			const struct service_port_state *port,
			const struct dispatch *before,
			const struct dispatch *after);
	void (*settled)(void *ctx); /* every family is in step with the model */
	void (*addresses_changed)(void *ctx); /* of this machine; the model knows them */
	void (*cleanup_failed)(void *ctx, enum family family);
	void *ctx;
	/* Before and after a large transaction, for whoever else listens to nf_tables; or NULL */
	void (*bulk)(void *bulk_ctx, bool begin);
	void *bulk_ctx;
};

/*
 * Opens sockets and asks the kernel whether it has all that is needed. NULL
 * with @eb; *@err becomes -EOPNOTSUPP if the kernel lacks something, -EPERM
 * without CAP_NET_ADMIN. All in @options is borrowed.
 */
struct sync *sync_new(const struct sync_options *options, int *err,
		      struct errbuf *eb);
void sync_free(struct sync *s); /* leaves the rules in force (RUN-8) */

/* From now on sync_request() acts, once the model has complete Services and EndpointSlices (RUN-1).
 */
void sync_start(struct sync *s);
/* The model may have changed: syncs now or soon. */
void sync_request(struct sync *s);
/* Syncs now, conntrack sweep included. Returns 0 or the first negative errno, which is logged. */
int sync_once(struct sync *s);
/* NULL if the family is not handled. */
const struct dataplane_gauges *sync_gauges(const struct sync *s,
					   enum family family);
/* How it went of late. False if the family is not handled. */
struct sync_status {
	bool owner; /* the table is ours alone */
	bool known; /* the kernel has what is applied; false: to be read back */
	int64_t synced_us; /* CLOCK_MONOTONIC of the end of the latest good sync; 0: none yet */
	int64_t took_us; /* that one */
	uint64_t syncs;	 /* ever, good or not */
	unsigned int failed; /* syncs in a row since then, with the reason of the latest: */
	const char *reason;
};
bool sync_status(const struct sync *s, enum family family,
		 struct sync_status *status);

/* Whether established connections are handed to a flowtable (BEY-6). */
enum fast_path_state {
	FAST_PATH_OFF,
	FAST_PATH_ON,
	FAST_PATH_LACKING, /* wanted, and the kernel cannot do it */
};
enum fast_path_state sync_fast_path(const struct sync *s);

/* Whether connections are counted (BEY-5). */
enum counters_state {
	COUNTERS_OFF,
	COUNTERS_ON,
	COUNTERS_LACKING, /* wanted, and the kernel cannot do it */
};
enum counters_state sync_counters(const struct sync *s);
/* See dataplane_count(). -ENODATA also if the family is not handled. */
int sync_count(const struct sync *s, enum family family, struct element *keys,
	       size_t count, struct errbuf *eb);

/* Another configuration takes effect for the periods, and is borrowed from here
 * on. What rules depend on is the model's. */
void sync_set_config(struct sync *s, const struct config *config);
/* Reads the kernel back and compares everything, soon. */
void sync_check(struct sync *s);

#endif
