/*
 * An HTTP server of our own, since libevent's evhttp bounds neither the number
 * of connections nor what happens when descriptors run out, and the health port
 * is open to everybody who can reach the node: strangers must not be able to
 * use up what the connection to the API server needs.
 *
 * A connection reads a request's head, answers, and closes. A body is thrown
 * away: closing with unread bytes would send a reset, which may overtake the
 * answer.
 */
#include "proxy/serve/httpd.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "proxy/model/config.h"
#include "proxy/base/strbuf.h"

enum {
	HEAD_MAX = 16384,
	BODY_MAX = 1 << 20, /* thrown away */
	IDLE_S = 10,
	LINGER_S = 2,	/* for the client to close, once it has the answer */
	PAUSE_MS = 100, /* in accepting, without descriptors */
	BACKLOG = 128,
	RETRY_MS = 5000,
	STREAM_MAX = 1 << 20, /* that a client of a stream has not read yet */
};

struct listener {
	enum family family;
	struct addr addr;
	uint16_t port;
	bool one_family;
	struct evconnlistener *socket;
};

struct connection {
	TAILQ_ENTRY(connection) in_pool;
	struct httpd *httpd;
	struct bufferevent *bev;
	bool answered, is_stream;
	size_t drained;
	/* of a stream; NULL: nobody is to be told */
	void (*closed)(void *ctx);
	void *closed_ctx;
};

TAILQ_HEAD(connections, connection);

struct httpd_pool {
	struct connections connections; /* oldest first */
	unsigned int count, max;
};

struct httpd {
	struct event_base *base;
	struct httpd_pool *pool;
	httpd_handler *handler;
	void *ctx;
	struct listener *listeners;
	unsigned int n_listeners;
	struct evconnlistener *local; /* on a Unix socket; NULL: none */
	struct event *resume;	      /* accepting again, after a pause */
	/* of httpd_keep() */
	struct httpd_keep keep;
	char *what, *address;
	struct event *retry;
};

struct httpd_request {
	const char *query;
	bool is_head, answered;
	struct strbuf headers;
	struct evbuffer *output;
	struct connection *connection;
};

struct httpd_pool *httpd_pool_new(unsigned int max)
{
	struct httpd_pool *pool = calloc(1, sizeof(*pool));

	assert(max);
	if (!pool)
		return NULL;
	TAILQ_INIT(&pool->connections);
	pool->max = max;
	return pool;
}

void httpd_pool_free(struct httpd_pool *pool)
{
	free(pool);
}

static void connection_free(struct connection *c)
{
	struct httpd_pool *pool = c->httpd->pool;

	TAILQ_REMOVE(&pool->connections, c, in_pool);
	assert(pool->count);
	pool->count--;
	bufferevent_free(c->bev); /* closes the socket */
	if (c->closed)
		c->closed(c->closed_ctx);
	free(c);
}

static void on_accept_again(evutil_socket_t fd, short what, void *data)
{
	struct httpd *h = data;
	unsigned int i;

	(void)fd;
	(void)what;
	for (i = 0; i < h->n_listeners; i++)
		if (h->listeners[i].socket)
			evconnlistener_enable(h->listeners[i].socket);
	if (h->local)
		evconnlistener_enable(h->local);
}

struct httpd *httpd_new(struct event_base *base, struct httpd_pool *pool,
			httpd_handler *handler, void *ctx)
{
	struct httpd *h = calloc(1, sizeof(*h));

	assert(base && pool && handler);
	if (!h)
		return NULL;
	h->base = base;
	h->pool = pool;
	h->handler = handler;
	h->ctx = ctx;
	h->resume = evtimer_new(base, on_accept_again, h);
	if (!h->resume) {
		free(h);
		return NULL;
	}
	return h;
}

static void close_connections(struct httpd *h)
{
	struct connection *c, *next;

	for (c = TAILQ_FIRST(&h->pool->connections); c; c = next) {
		next = TAILQ_NEXT(c, in_pool);
		if (c->httpd == h)
			connection_free(c);
	}
}

void httpd_free(struct httpd *h)
{
	unsigned int i;

	if (!h)
		return;
	close_connections(h);
	for (i = 0; i < h->n_listeners; i++)
		if (h->listeners[i].socket)
			evconnlistener_free(h->listeners[i].socket);
	if (h->local)
		evconnlistener_free(h->local);
	if (h->retry)
		event_free(h->retry);
	event_free(h->resume);
	free(h->listeners);
	free(h->what);
	free(h->address);
	free(h);
}

static const char *reason_phrase(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 404:
		return "Not Found";
	case 431:
		return "Request Header Fields Too Large";
	case 503:
		return "Service Unavailable";
	}
	return "Internal Server Error";
}

const char *httpd_query(const struct httpd_request *req)
{
	return req->query;
}

void httpd_add_header(struct httpd_request *req, const char *name, const char *value)
{
	strbuf_addf(&req->headers, "%s: %s\r\n", name, value);
}

void httpd_reply(struct httpd_request *req, int status, const char *type,
		 const struct strbuf *body)
{
	if (body->err || req->headers.err || req->answered)
		return;
	req->answered = true;
	evbuffer_add_printf(
		req->output,
		"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
		"X-Content-Type-Options: nosniff\r\n%sConnection: close\r\n\r\n",
		status, reason_phrase(status), type, body->length,
		req->headers.text ? req->headers.text : "");
	if (body->length && !req->is_head)
		evbuffer_add(req->output, body->text, body->length);
}

static void reply_error(struct httpd_request *req, int status)
{
	struct strbuf body = STRBUF_INIT;

	strbuf_addf(&body, "%d %s\n", status, reason_phrase(status));
	httpd_reply(req, status, "text/plain; charset=utf-8", &body);
	strbuf_free(&body);
}

/* "GET /path?query HTTP/1.1"; @line is cut into its parts. */
static void answer_request(struct httpd *h, struct httpd_request *req, char *line)
{
	char *method = strsep(&line, " "), *target = strsep(&line, " "), *path;

	req->is_head = strcmp(method, "HEAD") == 0;
	if (!line || strncmp(line, "HTTP/1.", 7) != 0 || *target != '/') {
		reply_error(req, 400);
		return;
	}
	path = strsep(&target, "?");
	req->query = target ? target : "";
	h->handler(h->ctx, req, path);
}

/* The answer is out: say so, and wait for the client to close, unless it has done so already. */
static void on_written(struct bufferevent *bev, void *data)
{
	const struct timeval linger = { LINGER_S, 0 };
	struct connection *c = data;

	if (!c->answered || c->is_stream)
		return;
	if (!(bufferevent_get_enabled(bev) & EV_READ)) {
		connection_free(c);
		return;
	}
	shutdown(bufferevent_getfd(bev), SHUT_WR);
	bufferevent_set_timeouts(bev, &linger, NULL);
}

/* Length of the head with its empty line; 0: not complete yet; -1: too long. */
static ssize_t head_length(struct evbuffer *input)
{
	struct evbuffer_ptr end = evbuffer_search(input, "\r\n\r\n", 4, NULL);

	if (end.pos >= 0 && end.pos <= HEAD_MAX)
		return end.pos + 4;
	return evbuffer_get_length(input) > HEAD_MAX ? -1 : 0;
}

static void respond_to_input(struct connection *c, struct evbuffer *input,
			     bool too_long)
{
	struct httpd_request req = {
		.query = "",
		.output = bufferevent_get_output(c->bev),
		.connection = c,
	};
	char *line = evbuffer_readln(input, NULL, EVBUFFER_EOL_CRLF_STRICT);

	assert(!c->answered && !c->is_stream);
	c->answered = true;
	if (too_long)
		reply_error(&req, 431);
	else if (line)
		answer_request(c->httpd, &req, line);
	free(line);
	strbuf_free(&req.headers);
	if (!req.answered)
		connection_free(c);
}

static void on_request_readable(struct bufferevent *bev, void *data)
{
	struct evbuffer *input = bufferevent_get_input(bev);
	struct connection *c = data;
	ssize_t length;

	if (c->answered) {
		c->drained += evbuffer_get_length(input);
		evbuffer_drain(input, evbuffer_get_length(input));
		if (c->drained > BODY_MAX)
			connection_free(c);
		return;
	}
	length = head_length(input);
	if (length)
		respond_to_input(c, input, length < 0);
}

/* The other side closed, an error, or silence for too long. */
static void on_event(struct bufferevent *bev, short what, void *data)
{
	struct connection *c = data;

	/* Only one direction is closed: it may well wait for the answer. */
	if ((what & BEV_EVENT_EOF) && c->answered && !c->is_stream &&
	    evbuffer_get_length(bufferevent_get_output(bev)))
		bufferevent_disable(bev, EV_READ);
	else
		connection_free(c);
}

static bool stays_open(struct httpd_request *req, const char *type)
{
	evbuffer_add_printf(
		req->output,
		"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n"
		"X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
		type);
	return !req->is_head;
}

/* A stream is its connection. */
struct httpd_stream *httpd_stream_begin(struct httpd_request *req, const char *type,
					void (*closed)(void *ctx), void *ctx)
{
	const struct timeval patience = { IDLE_S, 0 };
	struct connection *c = req->connection;

	if (req->answered)
		return NULL;
	req->answered = true;
	if (!stays_open(req, type))
		return NULL;
	assert(!c->is_stream && !c->closed);
	c->is_stream = true;
	c->closed = closed;
	c->closed_ctx = ctx;
	bufferevent_set_timeouts(c->bev, NULL, &patience);
	return (struct httpd_stream *)c;
}

bool httpd_stream_write(struct httpd_stream *stream, const char *text, size_t length)
{
	struct connection *c = (struct connection *)stream;
	struct evbuffer *output = bufferevent_get_output(c->bev);

	assert(c->is_stream && c->answered);
	if (evbuffer_get_length(output) + length <= STREAM_MAX &&
	    evbuffer_add(output, text, length) == 0)
		return true;
	connection_free(c);
	return false;
}

size_t httpd_stream_waiting(const struct httpd_stream *stream)
{
	const struct connection *c = (const struct connection *)stream;

	return evbuffer_get_length(bufferevent_get_output(c->bev));
}

void httpd_stream_end(struct httpd_stream *stream)
{
	struct connection *c = (struct connection *)stream;

	if (!c)
		return;
	c->closed = NULL;
	c->is_stream =
		false; /* what is written goes out, then on_written() closes */
	if (!evbuffer_get_length(bufferevent_get_output(c->bev)))
		on_written(c->bev, c);
}

void httpd_stream_finish(struct httpd_stream *stream, const struct strbuf *last)
{
	struct connection *c = (struct connection *)stream;

	if (last->err ||
	    (last->length && evbuffer_add(bufferevent_get_output(c->bev),
					  last->text, last->length))) {
		c->closed = NULL;
		connection_free(c);
		return;
	}
	httpd_stream_end(stream);
}

/* The oldest; a stream lasts, and would always be that. */
static struct connection *who_gives_way(const struct httpd_pool *pool)
{
	struct connection *c;

	TAILQ_FOREACH(c, &pool->connections, in_pool)
	if (!c->is_stream)
		return c;
	assert(!TAILQ_EMPTY(&pool->connections));
	return TAILQ_FIRST(&pool->connections);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
		      struct sockaddr *address, int length, void *data)
{
	const struct timeval idle = { IDLE_S, 0 };
	struct httpd *h = data;
	struct connection *c = calloc(1, sizeof(*c));

	(void)listener;
	(void)address;
	(void)length;
	if (h->pool->count >= h->pool->max)
		connection_free(who_gives_way(h->pool));
	if (c)
		c->bev = bufferevent_socket_new(h->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c || !c->bev) {
		free(c);
		close(fd);
		return;
	}
	c->httpd = h;
	TAILQ_INSERT_TAIL(&h->pool->connections, c, in_pool);
	h->pool->count++;
	assert(h->pool->count <= h->pool->max);
	bufferevent_setcb(c->bev, on_request_readable, on_written, on_event, c);
	bufferevent_set_timeouts(c->bev, &idle, &idle);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

/* Without descriptors the loop would call us again and again: give one back, and pause. */
static void on_accept_error(struct evconnlistener *listener, void *data)
{
	const struct timeval pause = { 0, PAUSE_MS * 1000 };
	struct httpd *h = data;

	if (!TAILQ_EMPTY(&h->pool->connections))
		connection_free(who_gives_way(h->pool));
	evconnlistener_disable(listener);
	event_add(h->resume, &pause);
}

static socklen_t make_sockaddr(const struct listener *l,
			       struct sockaddr_storage *storage)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
				   .sin6_port = htons(l->port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET,
				  .sin_port = htons(l->port) };

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

	fd = socket(address.ss_family,
		    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
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

	assert(!l->socket);
	if (fd < 0)
		return errf(eb, fd, "cannot listen on %s port %u: %s",
			    addr_format(l->family, &l->addr, text), l->port,
			    strerror(-fd));
	l->socket = evconnlistener_new(
		h->base, on_accept, h,
		LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!l->socket) {
		close(fd);
		return errf(eb, -ENOMEM, "out of memory");
	}
	evconnlistener_set_error_cb(l->socket, on_accept_error);
	return 0;
}

static bool listener_equal(const struct listener *a, const struct listener *b)
{
	return a->family == b->family && a->port == b->port &&
	       a->one_family == b->one_family &&
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

int httpd_listen(struct httpd *h, enum family family, const struct addr *addrs,
		 unsigned int n, uint16_t port, bool one_family, struct errbuf *eb)
{
	struct listener *listeners = calloc(n ? n : 1, sizeof(*listeners));
	unsigned int i;
	int err = 0, e;

	assert(addrs || !n);
	if (!listeners)
		return errf(eb, -ENOMEM, "out of memory");
	for (i = 0; i < n; i++) {
		listeners[i] = (struct listener){ family, addrs[i], port,
						  one_family, NULL };
		listener_adopt(h, &listeners[i]);
	}
	/* Close before opening: 0.0.0.0 cannot be had while 10.0.0.1 is in use. */
	for (i = 0; i < h->n_listeners; i++)
		if (h->listeners[i].socket)
			evconnlistener_free(h->listeners[i].socket);
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

static socklen_t make_abstract(const char *name, struct sockaddr_un *address)
{
	size_t length = strnlen(name, sizeof(address->sun_path) - 1);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path + 1, name, length);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
}

int httpd_local_owner(const char *name)
{
	struct sockaddr_un address;
	socklen_t length = make_abstract(name, &address), size;
	struct ucred peer = { 0 };
	int fd, result;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	size = sizeof(peer);
	if (connect(fd, (struct sockaddr *)&address, length) ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		result = -errno;
	else
		result = peer.pid;
	close(fd);
	return result;
}

static bool may_ask(int fd)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

static void on_accept_local(struct evconnlistener *listener, evutil_socket_t fd,
			    struct sockaddr *address, int length, void *data)
{
	static const char refusal[] =
		"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\n"
		"Connection: close\r\n\r\nonly root and the user of vipmap may ask\n";

	if (may_ask(fd)) {
		on_accept(listener, fd, address, length, data);
		return;
	}
	(void)send(fd, refusal, sizeof(refusal) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

int httpd_listen_local(struct httpd *h, const char *name, struct errbuf *eb)
{
	struct sockaddr_un address;
	socklen_t length = make_abstract(name, &address);
	int fd, owner, err = 0;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errf(eb, -errno, "@%s: %s", name, strerror(errno));
	if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, BACKLOG))
		err = -errno;
	if (!err) {
		h->local = evconnlistener_new(
			h->base, on_accept_local, h,
			LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
		err = h->local ? 0 : -ENOMEM;
	}
	if (!err) {
		evconnlistener_set_error_cb(h->local, on_accept_error);
		return 0;
	}
	close(fd);
	owner = err == -EADDRINUSE ? httpd_local_owner(name) : -1;
	if (owner > 0)
		return errf(eb, err, "@%s is taken by process %d", name, owner);
	return errf(eb, err, "@%s: %s", name, strerror(-err));
}

static int keep_listen(struct httpd *h, struct errbuf *eb)
{
	enum family family = FAMILY_IPV4;
	struct addr addr;
	uint16_t port;

	assert(h->address);
	if (!*h->address)
		return httpd_listen(h, family, NULL, 0, 0, false, eb);
	if (bind_address_parse(h->address, &family, &addr, &port))
		return errf(eb, -EINVAL, "\"%s\" is not ADDRESS:PORT", h->address);
	return httpd_listen(h, family, &addr, 1, port, false, eb);
}

static void keep_log(struct httpd *h, int severity, const char *what)
{
	char text[640];

	assert(h->what);
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

static void keep_retry(struct httpd *h, unsigned int retry_ms)
{
	const unsigned int ms = retry_ms ? retry_ms : RETRY_MS;
	const struct timeval interval = { ms / 1000, ms % 1000 * 1000 };

	assert(h->retry);
	event_add(h->retry, &interval);
}

/* The address that was, after the new one could not be had. */
static void keep_former(struct httpd *h, char *address)
{
	free(h->address);
	h->address = address;
	if (address && keep_listen(h, NULL))
		keep_retry(h, h->keep.retry_ms);
}

int httpd_keep(struct httpd *h, const struct httpd_keep *keep, struct errbuf *eb)
{
	char *former = h->address, *address = strdup(keep->address);
	struct errbuf local;
	int err;

	if (!h->what)
		h->what = strdup(keep->what);
	if (!h->retry)
		h->retry = event_new(h->base, -1, EV_PERSIST, keep_again, h);
	if (!h->what || !address || !h->retry) {
		free(address);
		return errf(eb, -ENOMEM, "out of memory");
	}
	event_del(h->retry);
	h->address = address;
	err = keep_listen(h, &local);
	if (err && (keep->hard_fail || err == -EINVAL)) {
		errf(eb, err, "%s: %s", h->what, local.text);
		keep_former(h, former);
		return err;
	}
	free(former);
	h->keep = *keep;
	if (!err)
		return 0;
	keep_log(h, LOG_ERR, local.text);
	keep_retry(h, keep->retry_ms);
	return 0;
}
