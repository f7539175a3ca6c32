/*
 * What changes, told as it happens to those who listen (/v1/monitor): one
 * object of JSON a line. Without a listener it costs nothing.
 *
 * A listener that does not keep up loses lines, and is told how many; one that
 * does not read at all is left. So nobody holds anything up, and memory is
 * bounded.
 */
#ifndef SERVE_NEWS_H
#define SERVE_NEWS_H

#include "proxy/base/clock.h"
#include "proxy/model/model.h"
#include "proxy/base/strbuf.h"

struct event_base;
struct httpd_request;
struct news;

/* All is borrowed, the name of the node as well. NULL when out of memory. */
struct news *news_new(struct event_base *base, const struct clock *clock,
		      const struct model *model);
void news_free(struct news *n); /* NULL is allowed, as below */
void news_set_node_name(struct news *n,
			const char *node_name); /* before all that follows */

/*
 * Another listener: @req is answered by a stream. Returns 200, or the status of
 * an error whose text is appended to @out.
 */
int news_begin(struct news *n, struct httpd_request *req,
	       struct strbuf *out); /* not NULL */

/*
 * A service port has other rules now; @before or @after is NULL if it had or
 * has none. Told at the end of the sync, with what that wrote and how long the
 * change took: @took_us, from its arrival to the kernel.
 */
void news_port(struct news *n, enum family family,
	       const struct service_port_state *port,
	       const struct dispatch *before, const struct dispatch *after);
void news_synced(struct news *n, enum family family, unsigned int elements,
		 bool repair, int64_t took_us);

/* The Node, or addresses of this machine, may be others. */
void news_node(struct news *n);

/* A line for people: @type is "apiServer", "configuration" or "message". */
void news_message(struct news *n, const char *type, int severity, const char *text);

#endif
