/*
 * libevent's evhttp with our own sockets, since evhttp's cannot be IPv6 only. Requests are small
 * and answers short: both are bounded, and a connection that says nothing is closed.
 *
 * Regret: evhttp does not bound the number of connections; that is left to the limit of
 * descriptors.
 */
#include "proxy/httpd.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <syslog.h>
#include <unistd.h>

#include "proxy/config.h"
#include "proxy/strbuf.h"

enum { IDLE_S = 10, HEADERS_MAX = 16384, BODY_MAX = 65536, BACKLOG = 128, RETRY_MS = 5000 };

struct listener {
	enum family family;
	struct addr addr;
	uint16_t port;
	bool one_family;
	struct evhttp_bound_socket *socket;
};

struct httpd {
	struct event_base *base;
	struct evhttp *http;
	httpd_handler *handler;
	void *ctx;
	struct listener *listeners;
	unsigned int n_listeners;
	/* of httpd_keep() */
	struct httpd_keep keep;
	char *what, *address;
	struct event *retry;
};

static void handle(struct evhttp_request *req, void *data)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	struct httpd *h = data;

	h->handler(h->ctx, req, path && *path ? path : "/");
}

struct httpd *httpd_new(struct event_base *base, httpd_handler *handler, void *ctx)
{
	struct httpd *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->base = base;
	h->handler = handler;
	h->ctx = ctx;
	h->http = evhttp_new(base);
	if (!h->http) {
		free(h);
		return NULL;
	}
	evhttp_set_allowed_methods(h->http, UINT16_MAX); /* HC-3: any */
	evhttp_set_timeout(h->http, IDLE_S);
	evhttp_set_max_headers_size(h->http, HEADERS_MAX);
	evhttp_set_max_body_size(h->http, BODY_MAX);
	evhttp_set_gencb(h->http, handle, h);
	return h;
}

void httpd_free(struct httpd *h)
{
	if (!h)
		return;
	if (h->retry)
		event_free(h->retry);
	evhttp_free(h->http); /* closes connections and listening sockets */
	free(h->listeners);
	free(h->what);
	free(h->address);
	free(h);
}

static socklen_t make_sockaddr(const struct listener *l, struct sockaddr_storage *storage)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(l->port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(l->port) };

	memset(storage, 0, sizeof(*storage));
	if (l->family == FAMILY_IPV4) {
		memcpy(&v4.sin_addr, l->addr.bytes, 4);
		memcpy(storage, &v4, sizeof(v4));
		return sizeof(v4);
	}
	memcpy(&v6.sin6_addr, l->addr.bytes, 16);
	memcpy(storage, &v6, sizeof(v6));
	return sizeof(v6);
}

static int open_socket(const struct listener *l)
{
	const int on = 1, v6only = l->one_family;
	struct sockaddr_storage address;
	socklen_t length = make_sockaddr(l, &address);
	int fd, err;

	fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    (l->family == FAMILY_IPV6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only))) ||
	    bind(fd, (struct sockaddr *)&address, length) || listen(fd, BACKLOG)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int listener_open(struct httpd *h, struct listener *l, struct errbuf *eb)
{
	char text[ADDR_TEXT_SIZE];
	int fd = open_socket(l);

	if (fd < 0)
		return errf(eb, fd, "cannot listen on %s port %u: %s",
			    addr_format(l->family, &l->addr, text), l->port, strerror(-fd));
	l->socket = evhttp_accept_socket_with_handle(h->http, fd);
	if (!l->socket) {
		close(fd);
		return errf(eb, -ENOMEM, "out of memory");
	}
	return 0;
}

static bool listener_equal(const struct listener *a, const struct listener *b)
{
	return a->family == b->family && a->port == b->port && a->one_family == b->one_family &&
	       addr_compare(&a->addr, &b->addr) == 0;
}

/* Moves the socket that listens on the same address, if there is one, to @l. */
static void listener_adopt(struct httpd *h, struct listener *l)
{
	unsigned int i;

	for (i = 0; i < h->n_listeners; i++)
		if (h->listeners[i].socket && listener_equal(&h->listeners[i], l)) {
			l->socket = h->listeners[i].socket;
			h->listeners[i].socket = NULL; /* @l has it now */
			return;
		}
}

int httpd_listen(struct httpd *h, enum family family, const struct addr *addrs, unsigned int n,
		 uint16_t port, bool one_family, struct errbuf *eb)
{
	struct listener *listeners = calloc(n ? n : 1, sizeof(*listeners));
	unsigned int i;
	int err = 0, e;

	if (!listeners)
		return errf(eb, -ENOMEM, "out of memory");
	for (i = 0; i < n; i++) {
		listeners[i] = (struct listener){ family, addrs[i], port, one_family, NULL };
		listener_adopt(h, &listeners[i]);
	}
	/* Close before opening: 0.0.0.0 cannot be had while 10.0.0.1 is in use. */
	for (i = 0; i < h->n_listeners; i++)
		if (h->listeners[i].socket)
			evhttp_del_accept_socket(h->http, h->listeners[i].socket);
	free(h->listeners);
	h->listeners = listeners;
	h->n_listeners = n;
	for (i = 0; i < n; i++) {
		if (listeners[i].socket)
			continue;
		e = listener_open(h, &listeners[i], err ? NULL : eb);
		err = err ? err : e;
	}
	return err;
}

static int keep_listen(struct httpd *h, struct errbuf *eb)
{
	enum family family = FAMILY_IPV4;
	struct addr addr;
	uint16_t port;

	if (bind_address_parse(h->address, &family, &addr, &port))
		return errf(eb, -EINVAL, "\"%s\" is not ADDRESS:PORT", h->address);
	return httpd_listen(h, family, &addr, 1, port, false, eb);
}

static void keep_log(struct httpd *h, int severity, const char *what)
{
	char text[640];

	snprintf(text, sizeof(text), "%s: %s", h->what, what);
	h->keep.log(h->keep.ctx, severity, text);
}

static void keep_again(evutil_socket_t fd, short what, void *data)
{
	struct httpd *h = data;

	(void)fd;
	(void)what;
	if (keep_listen(h, NULL))
		return;
	event_del(h->retry);
	keep_log(h, LOG_INFO, "listens now");
}

int httpd_keep(struct httpd *h, const struct httpd_keep *keep, struct errbuf *eb)
{
	unsigned int ms = keep->retry_ms ? keep->retry_ms : RETRY_MS;
	struct timeval interval = { ms / 1000, ms % 1000 * 1000 };
	struct errbuf local;
	int err;

	h->keep = *keep;
	h->what = strdup(keep->what);
	h->address = strdup(keep->address);
	h->retry = event_new(h->base, -1, EV_PERSIST, keep_again, h);
	if (!h->what || !h->address || !h->retry)
		return errf(eb, -ENOMEM, "out of memory");
	err = keep_listen(h, &local);
	if (!err)
		return 0;
	if (keep->hard_fail || err == -EINVAL)
		return errf(eb, err, "%s: %s", h->what, local.text);
	keep_log(h, LOG_ERR, local.text);
	event_add(h->retry, &interval);
	return 0;
}

static const char *reason_phrase(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 404:
		return "Not Found";
	case 503:
		return "Service Unavailable";
	}
	return "Error";
}

void httpd_reply(struct evhttp_request *req, int status, const char *type,
		 const struct strbuf *body)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	struct evbuffer *buffer = evbuffer_new();

	if (!buffer || body->err) {
		if (buffer)
			evbuffer_free(buffer);
		evhttp_send_error(req, HTTP_INTERNAL, NULL);
		return;
	}
	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	if (body->length)
		evbuffer_add(buffer, body->text, body->length);
	evhttp_send_reply(req, status, reason_phrase(status), buffer);
	evbuffer_free(buffer);
}

static int fetch_connect(enum family family, const struct addr *addr, uint16_t port,
			 unsigned int timeout_ms)
{
	const struct timeval timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	const struct listener to = { family, *addr, port, false, NULL };
	struct sockaddr_storage address;
	socklen_t length = make_sockaddr(&to, &address);
	int fd, err;

	fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) ||
	    connect(fd, (struct sockaddr *)&address, length)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* Sends the request and reads until the other side closes. */
static int fetch_exchange(int fd, const struct strbuf *request, struct strbuf *answer)
{
	char chunk[4096];
	ssize_t n;

	if (request->err)
		return request->err;
	if (send(fd, request->text, request->length, MSG_NOSIGNAL) != (ssize_t)request->length)
		return -EIO;
	while ((n = recv(fd, chunk, sizeof(chunk), 0)) > 0)
		strbuf_add(answer, chunk, (size_t)n);
	return n < 0 ? -errno : answer->err;
}

/* "HTTP/1.0 200 OK", headers, empty line, body */
static int fetch_split(const struct strbuf *answer, struct strbuf *body)
{
	const char *end = answer->length ? strstr(answer->text, "\r\n\r\n") : NULL;
	int status;

	if (!end || sscanf(answer->text, "HTTP/1.%*1[01] %3d", &status) != 1)
		return -EPROTO;
	strbuf_add(body, end + 4, answer->length - (size_t)(end + 4 - answer->text));
	return body->err ? body->err : status;
}

int httpd_fetch(enum family family, const struct addr *addr, uint16_t port, const char *path,
		unsigned int timeout_ms, struct strbuf *body, struct errbuf *eb)
{
	struct strbuf request = STRBUF_INIT, answer = { .max = 64 << 20 };
	char text[ADDR_TEXT_SIZE];
	int fd, result;

	fd = fetch_connect(family, addr, port, timeout_ms);
	result = fd;
	if (fd >= 0) {
		strbuf_addf(&request, "GET %s HTTP/1.0\r\nHost: vipmap\r\n\r\n", path);
		result = fetch_exchange(fd, &request, &answer);
		close(fd);
	}
	if (result >= 0)
		result = fetch_split(&answer, body);
	strbuf_free(&request);
	strbuf_free(&answer);
	if (result < 0)
		return errf(eb, result, "%s port %u: %s", addr_format(family, addr, text), port,
			    strerror(-result));
	return result;
}
