/*
 * Which node ports are served on loopback (NP-3, NP-9): from the dispatches
 * that the kernel has acknowledged to the ports of a forwarder.
 */
#ifndef SERVE_LOCALPORTS_H
#define SERVE_LOCALPORTS_H

#include "proxy/model/model.h"
#include "proxy/serve/forward.h"

struct localports;

/* @model and @forwarder are borrowed. NULL when out of memory. */
struct localports *localports_new(const struct model *model,
				  struct forwarder *forwarder);
void localports_free(struct localports *l); /* NULL is allowed; the listeners stay */

/* Whether loopback is among the node-port addresses. Takes effect now, if the family was synced. */
void localports_enable(struct localports *l, enum family family, bool wanted);

/* Whether @service has, or had, ports to be served: then localports_update() is due after a sync.
 */
bool localports_concern(const struct localports *l, enum family family,
			struct service_entry *service);

/*
 * For Services that changed together, before any of them is updated: closes
 * listeners on ports that the Service does not have any more.
 */
void localports_release(struct localports *l, enum family family,
			const char *namespace, const char *name);
/* The Service as it is in the kernel now; it may be gone. */
void localports_update(struct localports *l, enum family family,
		       const char *namespace, const char *name);
/* Not only one Service is to be looked at, but all, at the next localports_synced(). */
void localports_update_all(struct localports *l, enum family family);

/* The family is in step with the model: what was put off, and ports that were taken. */
void localports_synced(struct localports *l, enum family family);

#endif
