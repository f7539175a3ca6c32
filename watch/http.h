/*
 * HTTP requests on a libevent loop. The only place that knows libcurl.
 *
 * Nothing that the library says about a request's headers, URL or credentials
 * leaves this module: messages name the failure and at most the host.
 */
#ifndef WATCH_HTTP_H
#define WATCH_HTTP_H

#include "proxy/base/clock.h"
#include "proxy/base/errbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct http;
struct http_request;
struct strbuf;

/* Bytes in memory, PEM for instance; not terminated. */
struct http_blob {
	const char *data; /* NULL: none */
	size_t length;
};

/* Who we are and whom we trust. All is borrowed for the time of http_start() and copied. */
struct http_identity {
	struct http_blob ca;		 /* none: the system's authorities */
	struct http_blob cert, key;	 /* client certificate */
	const char *token;		 /* bearer; NULL: none */
	const char *username, *password; /* basic; NULL: none */
	const char *server_name; /* what the server's certificate must name; NULL: the host */
	const char *proxy; /* URL; NULL: none, whatever the environment says */
	bool insecure;	   /* the server's certificate is not looked at */
};

enum http_outcome {
	HTTP_COMPLETE, /* a whole response, whatever its status */
	HTTP_UNREACHED, /* no response: name, connection, TLS, or closed before a byte came */
	HTTP_BROKEN,  /* the response broke off */
	HTTP_SILENT,  /* no byte for idle_ms */
	HTTP_REFUSED, /* the data callback did not want more */
};

struct http_result {
	enum http_outcome outcome;
	int status;		/* 0: no response */
	int64_t retry_after_ms; /* -1: not given */
	char message[256];	/* what went wrong; "" for HTTP_COMPLETE */
};

/* Whether the kernel gave the connection up, since nobody answers at its other end. */
bool http_timed_out(const struct http_result *result);

struct http_params {
	const char *server; /* scheme://host[:port][/prefix], no user information */
	const char *socket; /* abstract Unix socket to ask instead of the host; NULL: none */
	const char *path;   /* from the slash on, with the query */
	const char *body;   /* JSON to POST; NULL: GET */
	const char *accept; /* media types; NULL: JSON */
	const struct http_identity *identity;
	int64_t connect_ms, idle_ms; /* deadlines; 0: none */
	bool fresh; /* on a connection of its own, not one that may be dead */
	void (*head)(void *ctx, int status); /* before the body; may be NULL */
	/*
	 * A piece of the body, decoded; http_status() is known. Not 0: no more, the result says
	 * HTTP_REFUSED. May start requests and cancel others, but not this one.
	 */
	int (*data)(void *ctx, const char *bytes, size_t length);
	/* Last call of a request, which is gone when it returns. Not after http_cancel(). */
	void (*done)(void *ctx, const struct http_result *result);
	void *ctx;
};

struct http_options {
	const char *user_agent;
	const struct clock *clock; /* NULL: the system's */
	/* All that has arrived in this round was given to the callbacks. May be NULL. */
	void (*round_end)(void *ctx);
	void *ctx;
};

/* NULL when out of memory. */
struct http *http_new(struct event_base *base, const struct http_options *options);
void http_free(struct http *http); /* cancels what runs; NULL is allowed; not from a callback */

/* Copies what it needs. NULL when out of memory; all other failures come through @params->done. */
struct http_request *http_start(struct http *http,
				const struct http_params *params);
void http_cancel(struct http_request *request); /* NULL is allowed */
void http_set_idle(struct http_request *request,
		   int64_t idle_ms); /* only if there was a deadline */
int http_status(const struct http_request *request); /* 0 before the response's head */
/* Whether the response says that its body is of this media type, whatever its parameters. */
bool http_is_type(const struct http_request *request, const char *type);
int64_t http_last_byte_us(const struct http *http); /* monotonic; 0: never */

/*
 * For commands: a request whose end is waited for on @base. Its callbacks are
 * not used; the body is appended to @body. Returns 0 with *result, or -ENOMEM.
 */
int http_fetch(struct event_base *base, const struct http_params *params,
	       struct strbuf *body, struct http_result *result);

/* The parts of an URL. */
struct http_address {
	char scheme[16]; /* "https" where none is said */
	char host[256];	 /* without brackets */
	char port[8];	 /* "" if it is the scheme's */
};

/* Returns NULL, or what is wrong with @url, without quoting it: a password may be in it. */
const char *http_split(const char *url, struct http_address *address);

/* Appends @text to an URL's query, percent-encoded. */
void http_escape(struct strbuf *sb, const char *text);

#endif
