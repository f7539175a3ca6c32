/*
 * Node ports on loopback (NP-9, KEP-6032): the kernel cannot translate connections to 127.0.0.1 and
 * ::1 without settings that open the node, so those are accepted here and their bytes passed on.
 * TCP only. Connections outlive their listener, their endpoint's place in the list, and a reload.
 */
#ifndef SERVE_FORWARD_H
#define SERVE_FORWARD_H

#include "proxy/base/clock.h"
#include "proxy/base/errbuf.h"
#include "proxy/model/select.h"

struct event_base;
struct forwarder;

enum { FORWARD_CONNECTIONS = 4096 }; /* NP-9.7 */

struct forward_options {
	struct event_base *base;
	unsigned int max_connections; /* 0: FORWARD_CONNECTIONS */
	unsigned int connect_ms;      /* 0: 5000 (NP-9.3) */
	unsigned int retry_ms; /* 0: 5000, for ports that could not be bound */
	uint64_t seed;	       /* of choices; 0: the kernel's */
	const struct clock *clock;
	void (*log)(void *ctx, int severity, const char *message);
	void (*listeners)(void *ctx, enum family family,
			  unsigned int count); /* NULL is allowed */
	void (*failed)(void *ctx,
		       enum family family); /* a port cannot be bound. NULL is allowed */
	void *ctx;
};

/* All in @options is borrowed. NULL when out of memory. */
struct forwarder *forwarder_new(const struct forward_options *options);
/* Closes listeners and cuts connections. NULL is allowed. */
void forwarder_free(struct forwarder *f);

/* A node port of one family. An empty list of endpoints: no listener. */
struct forward_port {
	uint16_t port;
	const char *label;	     /* namespace/name:port, for messages */
	uint32_t affinity_timeout_s; /* 0: none */
	struct endpoint_list endpoints;
};

/*
 * The node ports of @owner (a Service, "namespace/name") in @family are these
 * and no others. Everything is copied. A port that cannot be bound is told, and
 * tried again. Returns 0, or -ENOMEM with the former state of each port that
 * could not be taken over: to be called again.
 */
int forwarder_set(struct forwarder *f, const char *owner, enum family family,
		  const struct forward_port *ports, unsigned int count);

/*
 * For owners that changed together, before any of them is set: listeners of
 * @owner that are not among @ports are closed, since another may have their
 * ports now.
 */
void forwarder_release(struct forwarder *f, const char *owner, enum family family,
		       const struct forward_port *ports, unsigned int count);

/* Tries ports that could not be bound: after each sync (NP-9.5); a timer does the same. */
void forwarder_retry(struct forwarder *f);

unsigned int forwarder_connections(const struct forwarder *f);
unsigned int forwarder_listeners(const struct forwarder *f,
				 enum family family); /* bound */

#endif
