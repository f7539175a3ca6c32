/*
 * A small HTTP server on the event loop: one handler, any number of listening addresses, which may
 * change while it runs. For health, metrics and the health-check node ports.
 *
 * One request per connection. Everything that strangers can use up is bounded: header bytes, time,
 * and connections, of which the oldest gives way to a new one.
 */
#ifndef SERVE_HTTPD_H
#define SERVE_HTTPD_H

#include "proxy/base/addr.h"
#include "proxy/base/errbuf.h"

struct event_base;
struct httpd;
struct httpd_request;
struct strbuf;

/*
 * Connections of the servers that share a pool count together. The oldest gives
 * way to a new one, streams after all others.
 */
struct httpd_pool;
struct httpd_pool *httpd_pool_new(unsigned int max);
void httpd_pool_free(struct httpd_pool *pool); /* after its servers; NULL is allowed */

/* @path is without query. Answers with httpd_reply() before it returns; else the connection closes.
 */
typedef void httpd_handler(void *ctx, struct httpd_request *req, const char *path);

/* NULL when out of memory. */
struct httpd *httpd_new(struct event_base *base, struct httpd_pool *pool,
			httpd_handler *handler, void *ctx);
/* closes its connections; NULL is allowed; not from the handler */
void httpd_free(struct httpd *h);

/*
 * Listens on exactly these addresses: the others are closed, new ones opened.
 * An unspecified address stands for all; of IPv6 it takes IPv4 as well, unless
 * @one_family. Returns 0, or the error of the first address that cannot be had;
 * the others listen all the same. May be called again at any time.
 */
int httpd_listen(struct httpd *h, enum family family, const struct addr *addrs,
		 unsigned int n, uint16_t port, bool one_family,
		 struct errbuf *eb);

/*
 * Listens on "ADDRESS:PORT", or with "" on nothing. If that fails, returns the
 * error if @hard_fail, else tells @log and tries again every @retry_ms
 * milliseconds (HZ-6). @what names the server in messages. May be called again,
 * for another address: connections that are open go on, and an error that is
 * returned leaves everything as it was.
 */
struct httpd_keep {
	const char *what, *address;
	bool hard_fail;
	unsigned int retry_ms; /* 0: 5000 */
	void (*log)(void *ctx, int severity, const char *message);
	void *ctx;
};
int httpd_keep(struct httpd *h, const struct httpd_keep *keep, struct errbuf *eb);

/*
 * Listens on the abstract Unix socket @name of this network namespace, too.
 * Only root and the user of this process are let in; others are told so at once
 * and take no place in the pool. Returns 0 or a negative errno; -EADDRINUSE
 * with the process that has the name in @eb.
 */
int httpd_listen_local(struct httpd *h, const char *name, struct errbuf *eb);

/* The process that listens on the abstract Unix socket @name, or a negative errno. */
int httpd_local_owner(const char *name);

const char *httpd_query(const struct httpd_request *req); /* what follows "?", or "" */
/* One more header, before the reply. Neither part may contain a line end. */
void httpd_add_header(struct httpd_request *req, const char *name,
		      const char *value);
/* Adds X-Content-Type-Options: nosniff, and leaves @body out if the request is HEAD. */
void httpd_reply(struct httpd_request *req, int status, const char *type,
		 const struct strbuf *body);

/*
 * A reply without a known end, instead of httpd_reply(). @closed is the last
 * call for it: the client went, was too slow, had to make room for another, or
 * the server ends; not after httpd_stream_end(). NULL when out of memory.
 */
struct httpd_stream;
struct httpd_stream *httpd_stream_begin(struct httpd_request *req, const char *type,
					void (*closed)(void *ctx), void *ctx);
/* Returns false if the client reads too slowly: the stream is gone then, and @closed was called. */
bool httpd_stream_write(struct httpd_stream *stream, const char *text,
			size_t length);
size_t httpd_stream_waiting(
	const struct httpd_stream *stream); /* bytes that it has not read */
void httpd_stream_end(struct httpd_stream *stream); /* NULL is allowed */
/* The same after @last, however long that is. */
void httpd_stream_finish(struct httpd_stream *stream, const struct strbuf *last);

#endif
