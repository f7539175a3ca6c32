/*
 * What runs, as JSON: the pages below /v1/ of the local socket, and what
 * commands print when they are asked about other objects than the running ones.
 * Everything is read at the moment of the question; nothing is kept.
 *
 * A list comes in pages, so that no answer holds the loop up for long:
 * "continue" in a page is to be asked for next.
 */
#ifndef SERVE_VIEW_H
#define SERVE_VIEW_H

#include "proxy/base/arena.h"
#include "proxy/base/clock.h"
#include "proxy/base/strbuf.h"
#include "proxy/model/model.h"
#include "proxy/sync/sync.h"

struct health;
struct metrics;

/* Where the objects come from. */
struct view_source {
	const char *server; /* URL of the API server; NULL: manifests */
	bool connected;	    /* Services and EndpointSlices are being watched */
	bool listed;	    /* ... and were listed */
	int64_t contact_us; /* CLOCK_MONOTONIC of the last byte; 0: never */
	int64_t lost_us; /* ... since when no server can be reached; 0: one can */
	unsigned int tries; /* in a row without reaching one */
	const char *reason; /* what is wrong; "" if nothing is */
};

/* All is borrowed. Without @sync there is only a model, of objects that do not run here. */
struct view {
	const struct config *config;
	const struct model *model;
	const char *node_name, *revision; /* of the source text; "": unknown */
	const struct sync *sync;
	const struct health *health;
	const struct metrics *metrics;
	const struct log *log;
	const struct clock *clock;
	struct view_source source;
	int64_t started_us; /* CLOCK_REALTIME */
};

/* One part of an URL's query, decoded; "" if it is not there. @text has QUERY_TEXT_SIZE bytes. */
enum { QUERY_TEXT_SIZE = 320 };
const char *query_get(const char *query, const char *key,
		      char text[QUERY_TEXT_SIZE]);

/* All of them: appends what "PATH[?QUERY]" is about, or an error, and returns the HTTP status. */
int view_page(const struct view *v, const char *path, const char *query,
	      struct strbuf *out);

/* Each appends a page and returns the HTTP status; other than 200 with an error of one line. */
int view_status(const struct view *v, const char *query, struct strbuf *out);
int view_services(const struct view *v, const char *query, struct strbuf *out);
int view_endpoints(const struct view *v, const char *query, struct strbuf *out);
int view_node(const struct view *v, const char *query, struct strbuf *out);
int view_config(const struct view *v, const char *query, struct strbuf *out);
int view_vipmap_config(const struct view *v, const char *query, struct strbuf *out);
int view_debug_log(const struct view *v, const char *query, struct strbuf *out);
int view_debug_metrics(const struct view *v, const char *query, struct strbuf *out);
int view_objects(const struct view *v, const char *query, struct strbuf *out);
int view_explain(const struct view *v, const char *query, struct strbuf *out);
/* A counter that moves whenever one of the above may have changed. */
int view_changes(const struct view *v, const char *query, struct strbuf *out);

/* Shared between the views */

/* Services in the order of their names, behind @after ("NAMESPACE/NAME", or "" for all). */
int view_entries(const struct view *v, const char *after, struct arena *scratch,
		 const struct service_entry *const **list, size_t *count);

const char *service_type(const struct service *s); /* as in its spec.type */

/* The state of one of a Service's ports in one family; NULL: there is none. */
const struct service_port_state *view_find_port(const struct service_entry *s,
						enum family family,
						const struct service_port *spec);

/* What is wrong with a service port in one family. */
enum port_state {
	PORT_OK,
	PORT_PENDING,
	PORT_DROPPED_OUTSIDE, /* what comes from outside */
	PORT_DROPPED_INSIDE,  /* what goes to the ClusterIP */
	PORT_REFUSED,
	PORT_SET_ASIDE,
	PORT_CONFLICT, /* the worst */
};
const char *port_state_name(enum port_state state); /* "ok", "refused", ... */
const char *
port_state_consequence(enum port_state state); /* what it means for traffic */
/* @text is for people and may be cut. */
enum port_state view_port_state(const struct view *v, enum family family,
				const struct service_port_state *port,
				char *text, size_t size);

/* All endpoints of a service port in one family. Returns 0 or -ENOMEM. */
int view_fates(const struct view *v, const struct service_entry *service,
	       enum family family, const char *port_name, uint8_t protocol,
	       struct arena *scratch, const struct endpoint_fate **fates,
	       unsigned int *count);

/* "10.0.0.1:80" or "[fd00::1]:80"; @text has ENDPOINT_TEXT_SIZE bytes. Returns @text. */
enum { ENDPOINT_TEXT_SIZE = 64 };
char *endpoint_format(enum family family, const struct addr *addr,
		      uint16_t port, char *text);

/* Why an endpoint is or is not on the cluster list: "ready", "terminating, and others are ready" */
const char *why_text(enum endpoint_why why);

/* Names of a fate's endpoint; remembers the slices that it was asked about. */
struct name_cache {
	struct arena *scratch;
	const struct slice *slice;
	const struct endpoint_names *names;
	struct name_cache *next;
};
const struct endpoint_names *fate_names(struct name_cache *cache,
					const struct endpoint_fate *fate);

#endif
