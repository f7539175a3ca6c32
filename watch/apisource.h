/*
 * Objects from a Kubernetes API server: a reflector per resource (list, watch, list again) on one
 * libevent loop. Keeps going through anything the server does; never ends by itself.
 */
#ifndef WATCH_APISOURCE_H
#define WATCH_APISOURCE_H

#include "proxy/base/clock.h"
#include "proxy/base/errbuf.h"
#include "proxy/model/config.h"
#include "proxy/model/objects.h"

struct event_base;
struct apisource;

struct apisource_options {
	/* kubeconfig, master, content types, qps and burst; borrowed */
	const struct config *config;
	const struct clock *clock; /* borrowed; NULL: the system's */
	const char *node_name;	   /* borrowed */
	/* One line for the operator; @severity as in syslog(3). Never contains a credential. */
	void (*log)(void *ctx, int severity, const char *message);
	/* Objects delivered so far are a good moment to sync: called at the end
	 * of each chunk of events. */
	void (*settled)(void *ctx);
	/* For those who count; each may be NULL. A request was answered (@status 0: it failed)
	 * after @took_us; @host has the port if the address names one. */
	void (*answered)(void *ctx, const char *method, const char *host,
			 int status, int64_t took_us);
	void (*watch_ended)(void *ctx, enum kind kind);
	void *ctx; /* of all of these */
};

/* Reads credentials. NULL with @eb and errno as from credentials_read(). @sink
 * and @options' pointers are borrowed. */
struct apisource *apisource_new(struct event_base *base,
				const struct apisource_options *options,
				const struct object_sink *sink, struct errbuf *eb);
void apisource_free(struct apisource *source);
void apisource_start(struct apisource *source); /* returns at once; all else happens on the loop */

struct apisource_status {
	bool connected[N_KINDS]; /* a watch is running */
	bool listed[N_KINDS];	 /* a complete list has arrived */
	int64_t last_contact_us; /* CLOCK_MONOTONIC of the last byte from the server; 0: never */
	const char *server; /* the URL in use */
	unsigned int tries; /* in a row that reached no server; 0: it can be reached */
	int64_t lost_us;    /* CLOCK_MONOTONIC of the first of them */
	const char *reason; /* what is wrong; "" if nothing is */
};
struct apisource_status apisource_status(const struct apisource *source);

/* Creates an events.k8s.io/v1 Event (section 22). Failure is logged only. */
struct apisource_event {
	enum kind kind; /* KIND_NODE or KIND_SERVICE */
	const char *namespace, *name, *uid;
	const char *type, *reason, *action, *note;
};
void apisource_post_event(struct apisource *source,
			  const struct apisource_event *event);
bool apisource_is_posting(
	const struct apisource *source); /* the server has not answered yet */

#endif
