/*
 * What others ask about our health: /healthz, /livez and /readyz, and the
 * health-check node ports of Services with externalTrafficPolicy Local. State
 * is pushed in by the sync; nothing is computed here but ages.
 */
#ifndef SERVE_HEALTH_H
#define SERVE_HEALTH_H

#include "proxy/base/clock.h"
#include "proxy/base/errbuf.h"
#include "proxy/serve/metrics.h"
#include "proxy/model/objects.h"

struct event_base;
struct health;
struct strbuf;

/* Where objects come from. It is shown, and makes nobody unhealthy: traffic goes on without it. */
struct health_source {
	bool connected;
	int64_t contact_us; /* monotonic, of the last byte from there; 0: never */
};

/* Pointers are borrowed and must outlive the health. */
struct health_options {
	struct event_base *base;
	const char *address; /* healthzBindAddress; "": no server, and healthy for HC-8 */
	bool hard_fail;	       /* bindAddressHardFail */
	unsigned int retry_ms; /* 0: 5000 (HZ-6, HC-7) */
	int64_t sync_period_ms;
	const char *node_name;
	struct metrics *metrics;
	const struct clock *clock;
	void (*log)(void *ctx, int severity, const char *message);
	/* NULL: there is no API server */
	void (*source)(void *ctx, struct health_source *source);
	/*
	 * HZ-7: appends what the first sync waits for, in words; nothing if it
	 * waits for nothing but the kernel. NULL: likewise.
	 */
	void (*waiting)(void *ctx, struct strbuf *why);
	void (*ready)(void *ctx); /* HZ-7: now, for the first time. NULL is allowed */
	/* HC-7: a Warning event on the Service, section 22. NULL: nobody to tell */
	void (*service_event)(void *ctx, const char *namespace,
			      const char *name, const char *uid,
			      const char *reason, const char *note);
	void *ctx;
};

/* NULL with @eb: out of memory, or with hard_fail the server cannot listen. */
struct health *health_new(const struct health_options *options, struct errbuf *eb);

/*
 * Another configuration takes effect (CFG-3): what differs is changed, and all that is known stays
 * (HZ-8). A negative errno with @eb leaves everything as it was.
 */
struct health_settings {
	const char *address,
		*node_name; /* as in health_options; node_name is borrowed */
	bool hard_fail;
	int64_t sync_period_ms;
};
int health_change(struct health *h, const struct health_settings *settings,
		  struct errbuf *eb);
void health_free(struct health *h); /* NULL is allowed */

/* The loop of @family runs from now on (HZ-2); it may be called again without effect. */
void health_add_family(struct health *h, enum family family);

/* Something waits to be programmed; the oldest wait counts (HZ-3). */
void health_queued(struct health *h, enum family family);

/*
 * All that was queued is in the kernel. Health-check ports that could not listen are tried again
 * (HC-7), as they are by a timer. Not called for a sync that failed.
 */
void health_synced(struct health *h, enum family family);

/* The addresses of the machine changed: tries at once those that could not listen (NODE-4). */
void health_retry(struct health *h);

bool health_is_healthy(const struct health *h); /* HZ-3, all families */

bool health_is_eligible(const struct health *h); /* HZ-4; what /healthz needs besides */
/*
 * HZ-7: the first sync since the start is in the kernel, in all families, and
 * HZ-3 holds. Else appends what is waited for, in words and on one line.
 */
bool health_is_ready(const struct health *h, struct strbuf *why);

/* NULL: unknown or deleted (HZ-4). Nothing of @node is kept. */
void health_set_node(struct health *h, const struct node *node);

/* Node-port addresses of @family (HC-2), or all. @addrs is copied. At first there are none. */
void health_set_addresses(struct health *h, enum family family, bool everywhere,
			  const struct addr *addrs, unsigned int n);

/*
 * For every Service that was added or changed, or whose number of local ready
 * IPs changed (HC-4), once the kernel has its rules of that family (HC-5).
 * Whether it gets a port at all (HC-1) is decided here. Returns 0 or -ENOMEM:
 * then it is as if it had not been called.
 */
int health_set_service(struct health *h, enum family family,
		       const struct service *service,
		       unsigned int local_endpoints);
/*
 * For Services that changed together, before any of them is set: closes the
 * port that @service does not have any more, since another may have it now.
 */
void health_release_service(struct health *h, enum family family,
			    const struct service *service);
void health_remove_service(struct health *h, enum family family,
			   const char *namespace, const char *name);
/* Whether the Service is known here: it has a port, or lacks one that it should have. */
bool health_has_service(const struct health *h, enum family family,
			const char *namespace, const char *name);

/* HC-1 */
bool service_has_health_check(const struct service *service);

#endif
