/*
 * How many connections were made to virtual IPs and endpoints (BEY-5), as the
 * kernel counts them. Read when somebody asks: by service port for the pages of
 * the local socket, and of all virtual IPs, a little at a time, for metrics.
 */
#ifndef SERVE_CONNECTIONS_H
#define SERVE_CONNECTIONS_H

#include "proxy/base/arena.h"
#include "proxy/base/strbuf.h"
#include "proxy/model/model.h"
#include "proxy/sync/sync.h"

struct event_base;

/*
 * Of each virtual IP of a service port in one family, in the order of its dispatch; in @scratch.
 * Returns 0, -ENODATA if nobody counts, or another negative errno.
 */
int connections_of_port(const struct sync *sync, enum family family,
			const struct service_port_state *port,
			struct arena *scratch, const uint64_t **counts);

/*
 * Of each endpoint on its lists, whatever virtual IP they came by, sorted by endpoint; in @scratch.
 * Returns as before; -ENODATA also with session affinity, where they are not counted.
 */
struct endpoint_connections {
	struct endpoint endpoint;
	uint64_t count;
};
int connections_of_endpoints(const struct sync *sync, enum family family,
			     const struct service_port_state *port,
			     struct arena *scratch,
			     const struct endpoint_connections **list,
			     size_t *count);
uint64_t connections_find(const struct endpoint_connections *list, size_t count,
			  const struct endpoint *endpoint);

/* What a virtual IP is called: its address, or this. */
#define CONNECTIONS_NODE_PORT "nodePort"

/* All of them as text for Prometheus. Borrows all but the text. */
struct census;
struct census_options {
	struct event_base *base;
	const struct model *model;
	const struct sync *sync;
	/* After each census_begin(), later, once for all that came meanwhile */
	void (*done)(void *ctx, const struct strbuf *text);
	void *ctx;
};
struct census *
census_new(const struct census_options *options); /* NULL when out of memory */
void census_free(struct census *c);		  /* NULL is allowed */
/* Begins, unless one is under way. False if nobody counts: then there is no call of done(). */
bool census_begin(struct census *c);

#endif
