/*
 * A small HTTP server on the event loop: one handler, any number of listening addresses, which may
 * change while it runs. For health, metrics and the health-check node ports.
 */
#ifndef PROXY_HTTPD_H
#define PROXY_HTTPD_H

#include "proxy/addr.h"
#include "proxy/errbuf.h"

struct event_base;
struct evhttp_request;
struct httpd;
struct strbuf;

/* @path is without query. Must answer with httpd_reply(). */
typedef void httpd_handler(void *ctx, struct evhttp_request *req, const char *path);

struct httpd *httpd_new(struct event_base *base, httpd_handler *handler, void *ctx);
void httpd_free(struct httpd *h); /* NULL is allowed */

/*
 * Listens on exactly these addresses: the others are closed, new ones opened. An unspecified
 * address stands for all; of IPv6 it takes IPv4 as well, unless @one_family. Returns 0, or the
 * error of the first address that cannot be had; the others listen all the same. May be called
 * again at any time.
 */
int httpd_listen(struct httpd *h, enum family family, const struct addr *addrs, unsigned int n,
		 uint16_t port, bool one_family, struct errbuf *eb);

/*
 * Listens on "ADDRESS:PORT". If that fails, returns the error if @hard_fail, else tells @log and
 * tries again every @retry_ms milliseconds (HZ-6). @what names the server in messages.
 */
struct httpd_keep {
	const char *what, *address;
	bool hard_fail;
	unsigned int retry_ms; /* 0: 5000 */
	void (*log)(void *ctx, int severity, const char *message);
	void *ctx;
};
int httpd_keep(struct httpd *h, const struct httpd_keep *keep, struct errbuf *eb);

/* Adds X-Content-Type-Options: nosniff. Extra headers go into the request before. */
void httpd_reply(struct evhttp_request *req, int status, const char *type,
		 const struct strbuf *body);

/*
 * The other side: a blocking GET, for "vipmap status" and for tests. Appends the body to @body and
 * returns the status, or a negative errno with @eb.
 */
int httpd_fetch(enum family family, const struct addr *addr, uint16_t port, const char *path,
		unsigned int timeout_ms, struct strbuf *body, struct errbuf *eb);

#endif
