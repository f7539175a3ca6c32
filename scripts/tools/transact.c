/*
 * What netperf's TCP_RR, TCP_CRR, TCP_STREAM and UDP_RR do, for a fixed count and not for a fixed
 * time: the same work in each run is what a clock that counts instructions can compare.
 *
 * usage: transact serve PORT ADDRESS...
 *	  transact tcp-rr|tcp-crr|tcp-stream|udp-rr COUNT DESTINATION PORT SOURCE
 *
 * "serve" answers on all addresses over TCP, and on the given ones over UDP, until it is
 * killed; it says "ready" when it can. A transaction is a request and a response of one byte
 * each, in tcp-crr on a connection of its own that the client closes first. tcp-stream sends
 * COUNT KiB. SOURCE need not be an address of an interface, a local route is enough. The result
 * is one line: how many transactions or KiB, and the nanoseconds that they took by
 * CLOCK_MONOTONIC. What is not answered for two seconds is an error.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Transactions that warm up caches and neighbours before the clock starts. */
enum { WARM_UP = 32, CHUNK = 65536, BUFFER = 200000 };

/* The first byte of a connection says what it is for. */
enum { ECHO = 'e', SINK = 's' };

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

struct client {
	union address source, destination;
	unsigned long count;
};

static char chunk[CHUNK];

static void die(const char *what)
{
	fprintf(stderr, "transact: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void set(int fd, int level, int option, int value)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)) < 0)
		die("setsockopt");
}

/* Buffers that the kernel sizes by itself make streams differ from run to run. */
static void prepare_tcp(int fd)
{
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set(fd, SOL_SOCKET, SO_SNDBUF, BUFFER);
	set(fd, SOL_SOCKET, SO_RCVBUF, BUFFER);
}

/* Server */

static union address parse_address(const char *text, uint16_t port)
{
	union address a = { .sa = { .sa_family = AF_INET } };

	if (inet_pton(AF_INET, text, &a.in.sin_addr) == 1) {
		a.in.sin_port = htons(port);
	} else if (inet_pton(AF_INET6, text, &a.in6.sin6_addr) == 1) {
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = htons(port);
	} else {
		errno = EINVAL;
		die(text);
	}
	return a;
}

static socklen_t size_of(const union address *a)
{
	return a->sa.sa_family == AF_INET ? sizeof(a->in) : sizeof(a->in6);
}

static int server_socket(int type, const union address *a)
{
	int fd = socket(a->sa.sa_family, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (a->sa.sa_family == AF_INET6)
		set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (bind(fd, &a->sa, size_of(a)) < 0)
		die("bind");
	return fd;
}

static void serve_connection(int fd)
{
	char kind;
	ssize_t n;

	prepare_tcp(fd);
	n = recv(fd, &kind, 1, 0);
	if (n == 1 && kind == ECHO) {
		do {
			if (send(fd, &kind, 1, MSG_NOSIGNAL) != 1)
				break;
			n = recv(fd, &kind, 1, 0);
		} while (n == 1);
	} else if (n == 1) {
		while ((n = recv(fd, chunk, sizeof(chunk), 0)) > 0)
			;
	}
	/* A client that resets the connection is no reason to stop serving the next one. */
	close(fd);
}

static void serve_tcp(int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			serve_connection(fd);
		else if (errno != ECONNABORTED && errno != EINTR)
			die("accept");
	}
}

static void serve_udp(int fd)
{
	union address from;

	for (;;) {
		socklen_t length = sizeof(from);
		ssize_t n =
			recvfrom(fd, chunk, sizeof(chunk), 0, &from.sa, &length);

		/* Errors that arrive by ICMP belong to clients that are gone. */
		if (n >= 0)
			(void)!sendto(fd, chunk, (size_t)n, 0, &from.sa, length);
	}
}

static void start_server(const char *address, uint16_t port, int type, pid_t parent)
{
	union address a = parse_address(address, port);
	int fd = server_socket(type, &a);
	pid_t child;

	if (type == SOCK_STREAM && listen(fd, 128) < 0)
		die("listen");
	child = fork();
	if (child < 0)
		die("fork");
	if (child > 0) {
		close(fd);
		return;
	}
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		exit(1);
	if (type == SOCK_STREAM)
		serve_tcp(fd);
	else
		serve_udp(fd);
}

/*
 * One process for all TCP of a family: who is woken up must not depend on how many addresses there
 * are. With UDP, only a socket that is bound to an address answers from there.
 */
static void serve(uint16_t port, char **addresses)
{
	pid_t parent = getpid();

	start_server("0.0.0.0", port, SOCK_STREAM, parent);
	start_server("::", port, SOCK_STREAM, parent);
	for (; *addresses; addresses++)
		start_server(*addresses, port, SOCK_DGRAM, parent);
	puts("ready");
	fflush(stdout);
	/* A child only ends by an error, which it has told. */
	wait(NULL);
	exit(1);
}

/* Client */

static int client_socket(const struct client *c, int type)
{
	struct timeval patience = { .tv_sec = 2 };
	int fd = socket(c->source.sa.sa_family, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (c->source.sa.sa_family == AF_INET)
		set(fd, IPPROTO_IP, IP_FREEBIND, 1);
	else
		set(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		die("setsockopt");
	if (type == SOCK_STREAM)
		prepare_tcp(fd);
	/* connect() chooses the port: bind() alone would look for one that is free for all. */
	set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	if (bind(fd, &c->source.sa, size_of(&c->source)) < 0)
		die("bind");
	if (connect(fd, &c->destination.sa, size_of(&c->destination)) < 0)
		die("connect");
	return fd;
}

static void transaction(int fd)
{
	char byte = ECHO;

	if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
		die("send");
	if (recv(fd, &byte, 1, 0) != 1)
		die("recv");
}

static void transactions(int fd, unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		transaction(fd);
}

static void connections(const struct client *c, unsigned long n)
{
	for (unsigned long i = 0; i < n; i++) {
		int fd = client_socket(c, SOCK_STREAM);

		transaction(fd);
		close(fd);
	}
}

/* Ends when the server has read all of it and closed. */
static void stream(int fd, unsigned long kib)
{
	char kind = SINK;

	if (send(fd, &kind, 1, MSG_NOSIGNAL) != 1)
		die("send");
	for (size_t left = kib * 1024; left;) {
		ssize_t n = send(fd, chunk, left < CHUNK ? left : CHUNK,
				 MSG_NOSIGNAL);

		if (n <= 0)
			die("send");
		left -= (size_t)n;
	}
	if (shutdown(fd, SHUT_WR) < 0 || recv(fd, &kind, 1, 0) != 0)
		die("end of stream");
}

static int64_t measure(const struct client *c, const char *kind)
{
	bool udp = !strcmp(kind, "udp-rr");
	int64_t began;
	int fd;

	if (!strcmp(kind, "tcp-crr")) {
		connections(c, WARM_UP);
		began = now_ns();
		connections(c, c->count);
		return now_ns() - began;
	}
	fd = client_socket(c, udp ? SOCK_DGRAM : SOCK_STREAM);
	if (!strcmp(kind, "tcp-stream")) {
		began = now_ns();
		stream(fd, c->count);
	} else {
		transactions(fd, WARM_UP);
		began = now_ns();
		transactions(fd, c->count);
	}
	return now_ns() - began;
}

static uint16_t parse_port(const char *text)
{
	unsigned long port = strtoul(text, NULL, 10);

	if (!port || port > UINT16_MAX) {
		errno = EINVAL;
		die(text);
	}
	return (uint16_t)port;
}

static bool known(const char *kind)
{
	return !strcmp(kind, "tcp-rr") || !strcmp(kind, "tcp-crr") ||
	       !strcmp(kind, "tcp-stream") || !strcmp(kind, "udp-rr");
}

int main(int argc, char **argv)
{
	struct client c;

	if (argc > 3 && !strcmp(argv[1], "serve"))
		serve(parse_port(argv[2]), argv + 3);
	if (argc != 6 || !known(argv[1])) {
		fputs("usage: transact serve PORT ADDRESS...\n"
		      "       transact tcp-rr|tcp-crr|tcp-stream|udp-rr COUNT DESTINATION PORT "
		      "SOURCE\n",
		      stderr);
		return 2;
	}
	c.count = strtoul(argv[2], NULL, 10);
	c.destination = parse_address(argv[3], parse_port(argv[4]));
	c.source = parse_address(argv[5], 0);
	if (!c.count || c.source.sa.sa_family != c.destination.sa.sa_family) {
		fputs("transact: COUNT must be a number above 0, and the addresses of one family\n",
		      stderr);
		return 2;
	}
	printf("%lu %lld\n", c.count, (long long)measure(&c, argv[1]));
	return 0;
}
