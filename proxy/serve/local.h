/*
 * The local socket: HTTP on the abstract Unix socket @vipmap of the network namespace, for root and
 * the user of the daemon. It answers with JSON and changes nothing.
 */
#ifndef SERVE_LOCAL_H
#define SERVE_LOCAL_H

#include "proxy/base/errbuf.h"
#include "proxy/serve/view.h"

#define LOCAL_SOCKET "vipmap"

struct event_base;
struct httpd_request;
struct local;

struct local_options {
	struct event_base *base;
	/* At what runs, for one answer; leaves @view empty if that is not possible now. */
	void (*look)(void *ctx, struct view *view);
	void (*log)(void *ctx, int severity, const char *message);
	/* /v1/monitor; as news_begin(). NULL: there is no such page. */
	int (*monitor)(void *ctx, struct httpd_request *req, struct strbuf *out);
	void *ctx;
	unsigned int retry_ms; /* 0: 5000 */
};

/*
 * If another process has the name that is told once, and tried again in
 * silence. NULL when out of memory.
 */
struct local *local_new(const struct local_options *options);
void local_free(struct local *l); /* NULL is allowed */

#endif
