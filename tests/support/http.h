/*
 * An HTTP client for tests of servers that run on the test's own event loop.
 */
#ifndef TESTS_SUPPORT_HTTP_H
#define TESTS_SUPPORT_HTTP_H

#include <event2/event.h>
#include <stdint.h>

#include "proxy/base/addr.h"
#include "proxy/base/strbuf.h"

/* A port of 127.0.0.1 and, if there is one, ::1 that nobody uses now. */
uint16_t http_free_port(void);

/* A socket that listens on @address and @port, to be in the way; -1 if that cannot be had. */
int http_occupy(const char *address, uint16_t port);

int http_connect(const char *address,
		 uint16_t port); /* a socket, or a negative errno */

/* Runs @base and appends what comes, until the server closes; 5 s at most. 0 or a negative errno.
 */
int http_read(struct event_base *base, int fd, struct strbuf *answer);

/*
 * Sends "METHOD PATH" and runs @base until the server closes. @answer gets all of it, headers
 * included. Returns the status, or a negative errno (-ECONNREFUSED: nobody listens).
 */
int http_get(struct event_base *base, const char *address, uint16_t port,
	     const char *method, const char *path, struct strbuf *answer);

#endif
