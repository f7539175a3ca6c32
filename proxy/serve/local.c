/*
 * The pages are view.h's. Who may ask is the HTTP server's to know, and so are the limits on
 * connections, bytes and time; a page is at most some 2 MB and takes milliseconds to make.
 */
#include "proxy/serve/local.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/jsonout.h"
#include "proxy/serve/httpd.h"

enum {
	MAX_CONNECTIONS = 16,
	RETRY_MS = 5000,
};

static const char MONITOR_PATH[] = "/v1/monitor";

struct local {
	struct local_options options;
	struct httpd_pool *pool;
	struct httpd *httpd;
	struct event *retry;
};

/* Returns the status of what is in @out; 200 of the monitor is answered already. */
static int make_page(const struct local *l, struct httpd_request *req,
		     const char *path, struct strbuf *out)
{
	struct view view = { 0 };

	l->options.look(l->options.ctx, &view);
	if (view.model && l->options.monitor && strcmp(path, MONITOR_PATH) == 0)
		return l->options.monitor(l->options.ctx, req, out);
	if (view.model)
		return view_page(&view, path, httpd_query(req), out);
	jsonout_object(out, NULL);
	jsonout_text(out, "error", "starting");
	jsonout_object_end(out);
	return 503;
}

static void on_local_request(void *ctx, struct httpd_request *req, const char *path)
{
	const struct local *l = ctx;
	struct strbuf body = STRBUF_INIT;
	int status = make_page(l, req, path, &body);

	strbuf_addc(&body, '\n');
	httpd_reply(req, status, "application/json", &body);
	strbuf_free(&body);
}

static void on_retry(evutil_socket_t fd, short what, void *ctx)
{
	struct local *l = ctx;

	(void)fd;
	(void)what;
	if (httpd_listen_local(l->httpd, LOCAL_SOCKET, NULL) == 0) {
		event_del(l->retry);
		l->options.log(l->options.ctx, LOG_INFO,
			       "local socket @" LOCAL_SOCKET ": listens now");
	}
}

static void listen_or_retry(struct local *l)
{
	const unsigned int ms =
		l->options.retry_ms ? l->options.retry_ms : RETRY_MS;
	const struct timeval interval = { ms / 1000, ms % 1000 * 1000 };
	struct errbuf eb, text;

	if (httpd_listen_local(l->httpd, LOCAL_SOCKET, &eb) == 0)
		return;
	errf(&text, 0,
	     "local socket %.300s: \"vipmap status\" and the like do not show this process; "
	     "traffic "
	     "is not affected",
	     eb.text);
	l->options.log(l->options.ctx, LOG_WARNING, text.text);
	event_add(l->retry, &interval);
}

struct local *local_new(const struct local_options *options)
{
	struct local *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->options = *options;
	l->pool = httpd_pool_new(MAX_CONNECTIONS);
	l->retry = event_new(options->base, -1, EV_PERSIST, on_retry, l);
	if (l->pool)
		l->httpd = httpd_new(options->base, l->pool, on_local_request, l);
	if (!l->httpd || !l->retry) {
		local_free(l);
		return NULL;
	}
	listen_or_retry(l);
	return l;
}

void local_free(struct local *l)
{
	if (!l)
		return;
	httpd_free(l->httpd);
	httpd_pool_free(l->pool);
	if (l->retry)
		event_free(l->retry);
	free(l);
}
