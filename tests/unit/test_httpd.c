/* The HTTP server against clients that are odd, slow, many or hostile. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proxy/serve/httpd.h"
#include "tests/support/suite.h"
#include "tests/support/http.h"

enum { POOL_MAX = 8, MANY = 30 };

static const struct addr loopback = { { 127, 0, 0, 1 } };

struct fixture {
	struct event_base *base;
	struct httpd_pool *pool;
	struct httpd *httpd;
	struct strbuf answer;
	uint16_t port;
	unsigned int handled;
};

/* Echoes what it understood. "/large" answers with more than a socket's buffer,
 * "/silent" not at all. */
static void handle(void *ctx, struct httpd_request *req, const char *path)
{
	struct strbuf body = STRBUF_INIT;
	struct fixture *f = ctx;

	f->handled++;
	strbuf_addf(&body, "path=%s query=%s", path, httpd_query(req));
	if (strcmp(path, "/large") == 0)
		while (body.length < 8 << 20)
			strbuf_adds(&body, "0123456789abcdef");
	httpd_add_header(req, "X-Own", "1");
	if (strcmp(path, "/silent") != 0)
		httpd_reply(req, 200, "text/plain", &body);
	strbuf_free(&body);
}

static void begin(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	f->base = event_base_new();
	f->pool = httpd_pool_new(POOL_MAX);
	f->httpd = httpd_new(f->base, f->pool, handle, f);
	ck_assert_ptr_nonnull(f->httpd);
	f->port = http_free_port();
	ck_assert_int_eq(httpd_listen(f->httpd, FAMILY_IPV4, &loopback, 1,
				      f->port, true, NULL),
			 0);
	strbuf_adds(&f->answer, "");
}

static void end(struct fixture *f)
{
	httpd_free(f->httpd);
	httpd_pool_free(f->pool);
	event_base_free(f->base);
	strbuf_free(&f->answer);
}

static void turn(struct fixture *f)
{
	int i;

	for (i = 0; i < 20; i++)
		event_base_loop(f->base, EVLOOP_NONBLOCK);
}

static int dial(struct fixture *f)
{
	int fd = http_connect("127.0.0.1", f->port);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void say(int fd, const char *text)
{
	ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL),
			 (ssize_t)strlen(text));
}

/* Runs the loop until the server closes; what it said is in f->answer. */
static void hear(struct fixture *f, int fd)
{
	strbuf_reset(&f->answer);
	ck_assert_int_eq(http_read(f->base, fd, &f->answer), 0);
	if (!f->answer.text)
		strbuf_adds(&f->answer, "");
}

static const struct {
	const char *name, *request, *want, *unwanted;
} requests[] = {
	{ "plain", "GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n",
	  NULL },
	{ "body", "GET /a?b=c&d HTTP/1.1\r\n\r\n",
	  "\r\n\r\npath=/a query=b=c&d", NULL },
	{ "headers", "GET / HTTP/1.0\r\n\r\n",
	  "Content-Type: text/plain\r\nContent-Length: 13\r\nX-Content-Type-Options: nosniff\r\n"
	  "X-Own: 1\r\nConnection: close\r\n\r\npath=/ query=",
	  NULL },
	{ "HEAD", "HEAD /a HTTP/1.1\r\n\r\n", "Content-Length: 14\r\n", "path=" },
	{ "HC-3 any method", "FROB /a HTTP/1.1\r\n\r\n", "path=/a", NULL },
	{ "with body", "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
	  "path=/a", NULL },
	{ "two at once", "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
	  "path=/a", "path=/b" },
	{ "not HTTP", "hello\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n", "path=" },
	{ "another version", "GET / SPDY/3\r\n\r\n", "HTTP/1.1 400 ", "path=" },
	{ "no target", "GET HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", "path=" },
	{ "no path", "GET x HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", "path=" },
	{ "empty line", "\r\n\r\n", "HTTP/1.1 400 ", "path=" },
	{ "TLS", "\x16\x03\x01\x02\r\n\r\n", "HTTP/1.1 400 ", "path=" },
};

START_TEST(request)
{
	struct fixture f;
	int fd;

	begin(&f);
	fd = dial(&f);
	say(fd, requests[_i].request);
	hear(&f, fd);
	CHECK_HAS(requests[_i].name, f.answer.text, requests[_i].want);
	if (requests[_i].unwanted)
		CHECK_HAS_NOT(requests[_i].name, f.answer.text,
			      requests[_i].unwanted);
	close(fd);
	end(&f);
}
END_TEST

START_TEST(no_answer)
{
	struct fixture f;
	int fd;

	begin(&f);
	fd = dial(&f);
	say(fd, "GET /silent HTTP/1.1\r\n\r\n");
	hear(&f, fd);
	ck_assert_str_eq(f.answer.text, "");
	close(fd);
	end(&f);
}
END_TEST

START_TEST(byte_by_byte)
{
	const char *text = "GET /slow HTTP/1.1\r\nA: b\r\n\r\n";
	struct fixture f;
	int fd;

	begin(&f);
	fd = dial(&f);
	for (; *text; text++) {
		char one[2] = { *text, '\0' };

		ck_assert_uint_eq(f.handled, 0);
		say(fd, one);
		turn(&f);
	}
	hear(&f, fd);
	CHECK_HAS("byte by byte", f.answer.text, "path=/slow");
	close(fd);
	end(&f);
}
END_TEST

/* "printf ... | nc -N": the client closes its direction before it reads. */
START_TEST(half_closed)
{
	struct fixture f;
	int fd;

	begin(&f);
	fd = dial(&f);
	say(fd, "GET /large HTTP/1.1\r\n\r\n");
	shutdown(fd, SHUT_WR);
	turn(&f);
	hear(&f, fd);
	ck_assert_uint_gt(f.answer.length, 8 << 20);
	close(fd);
	end(&f);
}
END_TEST

/* With an unread body, close() would reset the connection and take the answer with it. */
START_TEST(large_body)
{
	struct strbuf body = STRBUF_INIT;
	struct fixture f;
	int fd;

	begin(&f);
	while (body.length < 100000)
		strbuf_adds(&body, "0123456789abcdef");
	fd = dial(&f);
	say(fd, "POST /a HTTP/1.1\r\nContent-Length: 100000\r\n\r\n");
	turn(&f);
	say(fd, body.text);
	hear(&f, fd);
	CHECK_HAS("large body", f.answer.text, "path=/a");
	strbuf_free(&body);
	close(fd);
	end(&f);
}
END_TEST

START_TEST(endless_head)
{
	char line[] = "X-Header: 0123456789012345678901234567890123456789\r\n";
	struct fixture f;
	int fd, i;

	begin(&f);
	fd = dial(&f);
	say(fd, "GET / HTTP/1.1\r\n");
	for (i = 0; i < 1000; i++)
		say(fd, line);
	hear(&f, fd);
	CHECK_HAS("endless head", f.answer.text, "HTTP/1.1 431 ");
	ck_assert_uint_eq(f.handled, 0);
	close(fd);
	end(&f);
}
END_TEST

static bool is_closed(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

/* Many that say nothing: the oldest give way, and who asks gets an answer. */
START_TEST(idle_crowd)
{
	int fds[MANY], i, closed = 0;
	struct fixture f;

	begin(&f);
	for (i = 0; i < MANY; i++) {
		fds[i] = dial(&f);
		turn(&f);
	}
	ck_assert_int_eq(
		http_get(f.base, "127.0.0.1", f.port, "GET", "/a", &f.answer), 200);
	for (i = 0; i < MANY; i++) {
		ck_assert_msg(is_closed(fds[i]) == (i < MANY - POOL_MAX + 1),
			      "connection %d", i);
		closed += is_closed(fds[i]);
		close(fds[i]);
	}
	ck_assert_int_eq(closed, MANY - POOL_MAX + 1);
	end(&f);
}
END_TEST

static double cpu_seconds(void)
{
	return (double)clock() / CLOCKS_PER_SEC;
}

/* Its accept() closes what has come when the limit is reached; the kernel's leaves it waiting. */
static bool under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "vgpreload");
}

/* Without descriptors the loop must neither spin nor stay deaf. */
START_TEST(no_descriptors)
{
	struct rlimit old, few;
	struct fixture f;
	int fds[3], i, next;
	double before;

	begin(&f);
	turn(&f);
	for (i = 0; i < 3; i++)
		fds[i] = dial(&f);
	next = dup(0);
	close(next);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = (rlim_t)next;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	before = cpu_seconds();
	for (i = 0; i < 30; i++) {
		event_base_loop(f.base, EVLOOP_NONBLOCK);
		poll(NULL, 0, 10);
	}
	ck_assert_double_lt(cpu_seconds() - before, 0.15);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	if (under_valgrind()) {
		close(fds[0]);
		fds[0] = dial(&f);
	}
	say(fds[0], "GET /later HTTP/1.1\r\n\r\n");
	hear(&f, fds[0]);
	CHECK_HAS("heard later", f.answer.text, "path=/later");
	for (i = 0; i < 3; i++)
		close(fds[i]);
	end(&f);
}
END_TEST

/* A changed list of addresses: sockets of those that stay are kept, with who waits at them. */
START_TEST(listens_anew)
{
	struct errbuf eb = { "" };
	struct addr two[2] = { loopback, { { 127, 0, 0, 2 } } };
	struct fixture f;
	int waits, status;

	begin(&f);
	waits = dial(&f);
	say(waits, "GET /waited HTTP/1.1\r\n\r\n");
	ck_assert_msg(httpd_listen(f.httpd, FAMILY_IPV4, two, 2, f.port, true,
				   &eb) == 0,
		      "%s", eb.text);
	hear(&f, waits);
	CHECK_HAS("who waited", f.answer.text, "path=/waited");
	close(waits);
	strbuf_reset(&f.answer);
	status = http_get(f.base, "127.0.0.2", f.port, "GET", "/", &f.answer);
	ck_assert_int_eq(status, 200);
	ck_assert_int_eq(httpd_listen(f.httpd, FAMILY_IPV4, two + 1, 1, f.port,
				      true, &eb),
			 0);
	ck_assert_int_eq(http_connect("127.0.0.1", f.port), -ECONNREFUSED);
	strbuf_reset(&f.answer);
	status = http_get(f.base, "127.0.0.2", f.port, "GET", "/", &f.answer);
	ck_assert_int_eq(status, 200);
	end(&f);
}
END_TEST

/* Connections of one server count in the pool of another, and end with their own server only. */
START_TEST(shared_pool)
{
	struct httpd *other;
	struct fixture f;
	uint16_t port;
	int mine, its;

	begin(&f);
	port = http_free_port();
	other = httpd_new(f.base, f.pool, handle, &f);
	ck_assert_int_eq(httpd_listen(other, FAMILY_IPV4, &loopback, 1, port,
				      true, NULL),
			 0);
	mine = dial(&f);
	its = http_connect("127.0.0.1", port);
	ck_assert_int_ge(its, 0);
	turn(&f);
	httpd_free(other);
	turn(&f);
	ck_assert(is_closed(its));
	ck_assert(!is_closed(mine));
	say(mine, "GET /a HTTP/1.1\r\n\r\n");
	hear(&f, mine);
	CHECK_HAS("the other goes on", f.answer.text, "path=/a");
	ck_assert_int_eq(http_connect("127.0.0.1", port), -ECONNREFUSED);
	close(mine);
	close(its);
	end(&f);
}
END_TEST

static int dial_local(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t length;

	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1,
		 "vipmap-test-%d", getpid());
	length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			     strlen(address.sun_path + 1));
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, length), 0);
	return fd;
}

static void listen_local(struct fixture *f)
{
	char name[64];
	struct errbuf eb;

	snprintf(name, sizeof(name), "vipmap-test-%d", getpid());
	ck_assert_msg(httpd_listen_local(f->httpd, name, &eb) == 0, "%s", eb.text);
}

START_TEST(local_socket)
{
	char name[64], want[64];
	struct httpd *other;
	struct errbuf eb;
	struct fixture f;
	int fd;

	begin(&f);
	listen_local(&f);
	fd = dial_local();
	say(fd, "GET /a?b HTTP/1.1\r\n\r\n");
	hear(&f, fd);
	CHECK_HAS("local", f.answer.text, "path=/a query=b");
	close(fd);
	/* whoever comes second is told who was first */
	snprintf(name, sizeof(name), "vipmap-test-%d", getpid());
	ck_assert_int_eq(httpd_local_owner(name), getpid());
	other = httpd_new(f.base, f.pool, handle, &f);
	ck_assert_int_eq(httpd_listen_local(other, name, &eb), -EADDRINUSE);
	snprintf(want, sizeof(want), "is taken by process %d", getpid());
	CHECK_HAS("second", eb.text, want);
	httpd_free(other);
	end(&f);
	ck_assert_int_eq(httpd_local_owner(name), -ECONNREFUSED);
}
END_TEST

/* Others are refused at once, and do not push out those who may ask. */
START_TEST(local_stranger)
{
	struct fixture f;
	int fd, mine, i;

	if (geteuid() != 0) {
		test_skipped("needs root");
		return;
	}
	begin(&f);
	listen_local(&f);
	mine = dial_local();
	turn(&f);
	for (i = 0; i < 3 * POOL_MAX; i++) {
		ck_assert_int_eq(seteuid(65534), 0);
		fd = dial_local();
		ck_assert_int_eq(seteuid(0), 0);
		hear(&f, fd);
		CHECK_HAS("stranger", f.answer.text, "HTTP/1.1 403 ");
		close(fd);
	}
	ck_assert_uint_eq(f.handled, 0);
	say(mine, "GET /mine HTTP/1.1\r\n\r\n");
	hear(&f, mine);
	CHECK_HAS("the other goes on", f.answer.text, "path=/mine");
	close(mine);
	end(&f);
}
END_TEST

static void on_closed(void *ctx)
{
	++*(unsigned int *)ctx;
}

struct streaming {
	struct httpd_stream *stream;
	unsigned int closed;
};

static void handle_stream(void *ctx, struct httpd_request *req, const char *path)
{
	struct streaming *s = ctx;

	(void)path;
	s->stream = httpd_stream_begin(req, "text/plain", on_closed, &s->closed);
}

static void begin_stream(struct fixture *f, struct streaming *s, int *fd)
{
	begin(f);
	*s = (struct streaming){ 0 };
	httpd_free(f->httpd);
	f->httpd = httpd_new(f->base, f->pool, handle_stream, s);
	listen_local(f);
	*fd = dial_local();
	say(*fd, "GET / HTTP/1.1\r\n\r\n");
	turn(f);
	ck_assert_ptr_nonnull(s->stream);
}

START_TEST(stream_lines)
{
	struct streaming s;
	struct fixture f;
	int fd;

	begin_stream(&f, &s, &fd);
	ck_assert(httpd_stream_write(s.stream, "one\n", 4));
	turn(&f);
	ck_assert(httpd_stream_write(s.stream, "two\n", 4));
	httpd_stream_end(s.stream);
	hear(&f, fd);
	CHECK_HAS("both", f.answer.text, "\r\n\r\none\ntwo\n");
	close(fd);
	turn(&f);
	ck_assert_uint_eq(s.closed, 0);
	end(&f);
}
END_TEST

START_TEST(stream_left)
{
	struct streaming s;
	struct fixture f;
	int fd;

	begin_stream(&f, &s, &fd);
	close(fd);
	turn(&f);
	ck_assert_uint_eq(s.closed, 1);
	end(&f);
}
END_TEST

/* What a client does not read does not pile up without end. */
START_TEST(stream_not_read)
{
	char line[1000];
	struct streaming s;
	struct fixture f;
	unsigned int n = 0;
	int fd;

	begin_stream(&f, &s, &fd);
	memset(line, 'x', sizeof(line));
	while (n < 100000 && httpd_stream_write(s.stream, line, sizeof(line))) {
		turn(&f);
		n++;
	}
	ck_assert_uint_eq(s.closed, 1);
	ck_assert_uint_gt(n, 900);
	ck_assert_uint_lt(n, 3000);
	close(fd);
	end(&f);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("httpd");
	TCase *tc = tcase_create("httpd");

	tcase_set_timeout(tc, 30);
	ADD_LOOP(tc, request, requests);
	tcase_add_test(tc, no_answer);
	tcase_add_test(tc, byte_by_byte);
	tcase_add_test(tc, half_closed);
	tcase_add_test(tc, large_body);
	tcase_add_test(tc, endless_head);
	tcase_add_test(tc, idle_crowd);
	tcase_add_test(tc, no_descriptors);
	tcase_add_test(tc, listens_anew);
	tcase_add_test(tc, shared_pool);
	tcase_add_test(tc, local_socket);
	tcase_add_test(tc, local_stranger);
	tcase_add_test(tc, stream_lines);
	tcase_add_test(tc, stream_left);
	tcase_add_test(tc, stream_not_read);
	suite_add_tcase(suite, tc);
	return suite;
}
