/*
 * What strangers send to the health and metrics servers, and users to the local
 * socket: bytes on a connection, whole or in two pieces. The first byte says
 * where they are cut, and whether the client reads at once, late, or goes
 * without reading. What comes back is one answer whose head tells its length, a
 * stream, or nothing; and the server is left with no connection.
 *
 * A connection's own socket is left out: opening and closing one takes longer
 * than all the rest. The linker hands the server's calls of libevent to this
 * file, which gives it one end of a pair of buffers instead.
 */
#include <assert.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"
#include "proxy/serve/httpd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct evconnlistener *__wrap_evconnlistener_new(struct event_base *base,
						 evconnlistener_cb accepted,
						 void *ctx, unsigned int flags,
						 int backlog, evutil_socket_t fd);
struct evconnlistener *__real_evconnlistener_new(struct event_base *base,
						 evconnlistener_cb accepted,
						 void *ctx, unsigned int flags,
						 int backlog, evutil_socket_t fd);
struct bufferevent *__wrap_bufferevent_socket_new(struct event_base *base,
						  evutil_socket_t fd, int options);

enum {
	ROUNDS = 100,
	ANSWER_MAX = 1 << 16,
	CUT = 0x3f, /* of the first byte */
	READS_LATE = 0x40,
	GOES = 0x80,
};

struct server {
	struct event_base *base;
	struct httpd_pool *pool;
	struct httpd *httpd;
	struct evconnlistener *listener;
	evconnlistener_cb accepted; /* what the server made of a new connection */
	void *accepted_ctx;
	int fd; /* one end of a pair, by which the server knows who asks */
	struct bufferevent *ends[2]; /* the server's and the client's */
	struct httpd_stream *stream;
	unsigned int streams; /* that are open */
};

static struct server server;

struct evconnlistener *__wrap_evconnlistener_new(struct event_base *base,
						 evconnlistener_cb accepted,
						 void *ctx, unsigned int flags,
						 int backlog, evutil_socket_t fd)
{
	server.accepted = accepted;
	server.accepted_ctx = ctx;
	server.listener = __real_evconnlistener_new(base, accepted, ctx, flags,
						    backlog, fd);
	return server.listener;
}

struct bufferevent *__wrap_bufferevent_socket_new(struct event_base *base,
						  evutil_socket_t fd, int options)
{
	assert(fd == server.fd && options == BEV_OPT_CLOSE_ON_FREE);
	if (bufferevent_pair_new(base, 0, server.ends))
		abort();
	return server.ends[0];
}

static void on_closed(void *ctx)
{
	struct server *s = ctx;

	s->stream = NULL;
	s->streams--;
}

static void on_stream(struct server *s, struct httpd_request *req)
{
	s->stream = httpd_stream_begin(req, "text/plain", on_closed, s);
	if (!s->stream)
		return;
	s->streams++;
	if (!httpd_stream_write(s->stream, "line\n", 5) ||
	    !strcmp(httpd_query(req), "open"))
		return;
	httpd_stream_end(s->stream); /* no call of on_closed() any more */
	s->stream = NULL;
	s->streams--;
}

static void on_request(void *ctx, struct httpd_request *req, const char *path)
{
	struct strbuf body = STRBUF_INIT;

	assert(*path == '/' && !strchr(path, '?') && !strchr(path, ' '));
	if (strcmp(path, "/none") == 0)
		return;
	if (strcmp(path, "/stream") == 0) {
		on_stream(ctx, req);
		return;
	}
	strbuf_addf(&body, "%s?%s\n", path, httpd_query(req));
	httpd_add_header(req, "X-Header", "value");
	httpd_reply(req, 200, "text/plain", &body);
	httpd_reply(req, 503, "text/plain", &body); /* comes too late */
	strbuf_free(&body);
}

static void open_server(struct server *s)
{
	char name[64];
	int pair[2];

	snprintf(name, sizeof(name), "vipmap-fuzz-%d", (int)getpid());
	s->base = event_base_new();
	s->pool = httpd_pool_new(4);
	s->httpd = httpd_new(s->base, s->pool, on_request, s);
	if (!s->httpd || httpd_listen_local(s->httpd, name, NULL) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		abort();
	s->fd = pair[0];
	assert(s->accepted);
}

static void connect_client(struct server *s)
{
	s->ends[1] = NULL;
	s->accepted(s->listener, s->fd, NULL, 0, s->accepted_ctx);
	assert(s->ends[1]);
}

/* The server has closed its end. */
static bool is_closed(const struct server *s)
{
	return !bufferevent_pair_get_partner(s->ends[1]);
}

static void turn(const struct server *s)
{
	event_base_loop(s->base, EVLOOP_NONBLOCK);
}

static void send_bytes(const struct server *s, const uint8_t *bytes, size_t size)
{
	if (!is_closed(s) && bufferevent_write(s->ends[1], bytes, size))
		abort();
	turn(s);
}

/* No more is sent. Reads until the other side closes. */
static size_t receive(const struct server *s, char *answer)
{
	struct evbuffer *input = bufferevent_get_input(s->ends[1]);
	unsigned int i;
	size_t length;

	bufferevent_flush(s->ends[1], EV_WRITE, BEV_FINISHED);
	turn(s);
	bufferevent_enable(s->ends[1], EV_READ);
	for (i = 0; i < ROUNDS && !is_closed(s); i++)
		turn(s);
	assert(is_closed(s));
	length = evbuffer_get_length(input);
	assert(length <= ANSWER_MAX);
	evbuffer_remove(input, answer, length);
	answer[length] = '\0';
	return length;
}

/* Closes without a word: what the server still writes to it is an error. */
static void go(const struct server *s)
{
	bufferevent_flush(s->ends[1], EV_READ | EV_WRITE, BEV_FINISHED);
	turn(s);
	if (!is_closed(s))
		bufferevent_trigger_event(s->ends[0],
					  BEV_EVENT_ERROR | BEV_EVENT_WRITING, 0);
	turn(s);
	assert(is_closed(s));
}

/* @request is followed by a zero byte. */
static void check_answer(const char *request, const char *answer, size_t length)
{
	const char *end = strstr(answer, "\r\n\r\n"), *field;
	unsigned long said;

	if (!length)
		return;
	assert(strncmp(answer, "HTTP/1.1 ", 9) == 0 && end);
	field = strstr(answer, "Content-Length: ");
	if (!field || field > end)
		return; /* a stream */
	said = strtoul(field + 16, NULL, 10);
	length -= (size_t)(end + 4 - answer);
	/* Whether it is HEAD is not known yet of a line that is too long. */
	if (strncmp(request, "HEAD ", 5) == 0 && strncmp(answer + 9, "431", 3) != 0)
		assert(!length);
	else
		assert(length == said ||
		       (!length && strncmp(request, "HEAD", 4) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char answer[ANSWER_MAX + 1];
	struct server *s = &server;
	char request[8];
	size_t length, first;

	if (size < 1)
		return 0;
	if (!s->httpd)
		open_server(s);
	connect_client(s);
	if (!(data[0] & (READS_LATE | GOES)))
		bufferevent_enable(s->ends[1], EV_READ);
	first = (data[0] & CUT) < size - 1 ? data[0] & CUT : size - 1;
	send_bytes(s, data + 1, first);
	send_bytes(s, data + 1 + first, size - 1 - first);
	if (data[0] & GOES) {
		go(s);
	} else {
		length = receive(s, answer);
		snprintf(request, sizeof(request), "%.*s", (int)size - 1,
			 (const char *)data + 1);
		check_answer(request, answer, length);
	}
	bufferevent_free(s->ends[1]);
	turn(s);
	assert(!s->streams);
	return 0;
}
