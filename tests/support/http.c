/* One thread: the client's connect() succeeds before the server accepts, so it
 * may block; the answer is then read while the loop turns. */
#include "tests/support/http.h"

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static socklen_t make_sockaddr(const char *address, uint16_t port,
			       struct sockaddr_storage *to)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
				   .sin6_port = htons(port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	enum family family = FAMILY_IPV4;
	struct addr addr;

	ck_assert_int_eq(addr_parse(address, &family, &addr), 0);
	memset(to, 0, sizeof(*to));
	if (family == FAMILY_IPV4) {
		memcpy(&v4.sin_addr, addr.bytes, 4);
		memcpy(to, &v4, sizeof(v4));
		return sizeof(v4);
	}
	memcpy(&v6.sin6_addr, addr.bytes, 16);
	memcpy(to, &v6, sizeof(v6));
	return sizeof(v6);
}

static int bound_socket(const char *address, uint16_t port)
{
	struct sockaddr_storage to;
	socklen_t length = make_sockaddr(address, port, &to);
	const int on = 1;
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&to, length)) {
		close(fd);
		return -1;
	}
	return fd;
}

int http_occupy(const char *address, uint16_t port)
{
	int fd = bound_socket(address, port);

	if (fd >= 0 && listen(fd, 1)) {
		close(fd);
		return -1;
	}
	return fd;
}

uint16_t http_free_port(void)
{
	struct sockaddr_in name = { 0 };
	socklen_t length = sizeof(name);
	int fd = bound_socket("127.0.0.1", 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&name, &length), 0);
	close(fd);
	return ntohs(name.sin_port);
}

int http_connect(const char *address, uint16_t port)
{
	struct sockaddr_storage to;
	socklen_t length = make_sockaddr(address, port, &to);
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&to, length)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

int http_read(struct event_base *base, int fd, struct strbuf *answer)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	char chunk[4096];
	ssize_t n = 1;
	int turns;

	for (turns = 0; turns < 5000 && n > 0; turns++) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		if (poll(&wait, 1, 1) <= 0)
			continue;
		n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);
		if (n > 0)
			strbuf_add(answer, chunk, (size_t)n);
	}
	return n < 0 ? -errno : n > 0 ? -ETIMEDOUT : 0;
}

int http_get(struct event_base *base, const char *address, uint16_t port,
	     const char *method, const char *path, struct strbuf *answer)
{
	int fd = http_connect(address, port), err, status = 0;
	struct strbuf request = STRBUF_INIT;

	if (fd < 0)
		return fd;
	strbuf_addf(&request,
		    "%s %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
		    method, path);
	ck_assert_int_eq(send(fd, request.text, request.length, MSG_NOSIGNAL),
			 request.length);
	strbuf_free(&request);
	strbuf_reset(answer);
	err = http_read(base, fd, answer);
	close(fd);
	if (!err &&
	    (!answer->text || sscanf(answer->text, "HTTP/1.1 %3d", &status) != 1))
		err = -EPROTO;
	return err ? err : status;
}
