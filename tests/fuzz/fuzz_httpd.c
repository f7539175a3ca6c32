/*
 * What strangers send to the health and metrics servers, and users to the local
 * socket: bytes on a connection, whole or in two pieces. The first byte says
 * where they are cut and whether the client goes without reading. What comes
 * back is one answer whose head tells its length, a stream, or nothing; and the
 * server is left with no connection.
 */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"
#include "proxy/serve/httpd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROUNDS = 100, ANSWER_MAX = 1 << 16 };

struct server {
	struct event_base *base;
	struct httpd_pool *pool;
	struct httpd *httpd;
	struct sockaddr_un address;
	socklen_t length;
	struct httpd_stream *stream;
	unsigned int streams; /* that are open */
};

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

	snprintf(name, sizeof(name), "vipmap-fuzz-%d", (int)getpid());
	s->base = event_base_new();
	s->pool = httpd_pool_new(4);
	s->httpd = httpd_new(s->base, s->pool, on_request, s);
	if (!s->httpd || httpd_listen_local(s->httpd, name, NULL))
		abort();
	s->address.sun_family = AF_UNIX;
	memcpy(s->address.sun_path + 1, name, strlen(name));
	s->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
				strlen(name));
}

/* Sends all, while the server reads; it may close at any time. */
static void send_all(const struct server *s, int fd, const uint8_t *bytes,
		     size_t size)
{
	unsigned int i;
	ssize_t n;

	for (i = 0; i < ROUNDS && size; i++) {
		n = send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN)
			return;
		bytes += n < 0 ? 0 : n;
		size -= n < 0 ? 0 : (size_t)n;
		event_base_loop(s->base, EVLOOP_NONBLOCK);
	}
}

/* Until the other side closes. */
static size_t receive(const struct server *s, int fd, char *answer)
{
	size_t length = 0;
	unsigned int i;
	ssize_t n;

	for (i = 0; i < ROUNDS; i++) {
		event_base_loop(s->base, EVLOOP_NONBLOCK);
		n = recv(fd, answer + length, ANSWER_MAX - length, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			break;
		length += n < 0 ? 0 : (size_t)n;
	}
	assert(i < ROUNDS);
	answer[length] = '\0';
	return length;
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
	static struct server s;
	static char answer[ANSWER_MAX + 1];
	char request[8];
	size_t length, first;
	int fd;

	if (size < 1)
		return 0;
	if (!s.httpd)
		open_server(&s);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&s.address, s.length))
		abort();
	first = (data[0] & 0x7f) < size - 1 ? data[0] & 0x7f : size - 1;
	send_all(&s, fd, data + 1, first);
	event_base_loop(s.base, EVLOOP_NONBLOCK);
	send_all(&s, fd, data + 1 + first, size - 1 - first);
	if (!(data[0] & 0x80)) {
		shutdown(fd, SHUT_WR);
		length = receive(&s, fd, answer);
		snprintf(request, sizeof(request), "%.*s", (int)size - 1,
			 (const char *)data + 1);
		check_answer(request, answer, length);
	}
	close(fd);
	for (first = 0; first < 3; first++)
		event_base_loop(s.base, EVLOOP_NONBLOCK);
	assert(!s.streams);
	return 0;
}
