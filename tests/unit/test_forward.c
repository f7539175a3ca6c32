/* Localhost node ports with real sockets: both ends are in this process, which also runs the loop.
 */
#include "proxy/serve/forward.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/suite.h"

enum { N_ENDPOINTS = 4, PATIENCE_MS = 10000 };

static struct event_base *base;
static struct forwarder *forwarder;
static int endpoint_fd[N_ENDPOINTS];
static struct endpoint endpoints[N_ENDPOINTS];
static struct arena scratch;
static int64_t now_us;
static int reported_listeners[N_FAMILIES], failures, errors, infos;
static char last_message[256];

static int64_t fake_now(void *ctx)
{
	(void)ctx;
	return now_us;
}

static const struct clock fake_clock = { fake_now, fake_now, NULL, NULL };

static void on_log(void *ctx, int severity, const char *message)
{
	(void)ctx;
	errors += severity <= LOG_WARNING;
	infos += severity == LOG_INFO;
	snprintf(last_message, sizeof(last_message), "%s", message);
}

static void on_listeners(void *ctx, enum family family, unsigned int count)
{
	(void)ctx;
	reported_listeners[family] = (int)count;
}

static void on_failed(void *ctx, enum family family)
{
	(void)ctx;
	(void)family;
	failures++;
}

static int64_t real_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void turn_loop(void)
{
	struct pollfd none;

	event_base_loop(base, EVLOOP_NONBLOCK);
	poll(&none, 0, 0);
}

static struct sockaddr_storage at(enum family family, const struct addr *addr,
				  uint16_t port, socklen_t *size)
{
	struct sockaddr_storage to = { 0 };
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&to;
	struct sockaddr_in *four = (struct sockaddr_in *)&to;

	if (family == FAMILY_IPV4) {
		four->sin_family = AF_INET;
		four->sin_port = htons(port);
		memcpy(&four->sin_addr, addr->bytes, 4);
		*size = sizeof(*four);
	} else {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(port);
		memcpy(&six->sin6_addr, addr->bytes, 16);
		*size = sizeof(*six);
	}
	return to;
}

static const struct addr localhost[N_FAMILIES] = { { { 127, 0, 0, 1 } },
						   { { [15] = 1 } } };

/* A listening socket; *port becomes its port. */
static int listen_at(enum family family, const struct addr *addr,
		     uint16_t *port, int backlog)
{
	socklen_t size;
	struct sockaddr_storage here = at(family, addr, *port, &size);
	int fd = socket(here.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&here, size), 0);
	ck_assert_int_eq(listen(fd, backlog), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&here, &size), 0);
	*port = ntohs(family == FAMILY_IPV4
			      ? ((struct sockaddr_in *)&here)->sin_port
			      : ((struct sockaddr_in6 *)&here)->sin6_port);
	return fd;
}

/* A port that nobody listens on. */
static uint16_t free_port(enum family family)
{
	uint16_t port = 0;

	close(listen_at(family, &localhost[family], &port, 1));
	return port;
}

static int connect_to(enum family family, uint16_t port)
{
	socklen_t size;
	struct sockaddr_storage to = at(family, &localhost[family], port, &size);
	int fd = socket(to.ss_family, SOCK_STREAM, 0);

	ck_assert_int_ge(fd, 0);
	if (connect(fd, (struct sockaddr *)&to, size)) {
		close(fd);
		return -errno;
	}
	return fd;
}

static void make(unsigned int max_connections)
{
	const struct forward_options options = {
		.base = base,
		.max_connections = max_connections,
		.connect_ms = 200,
		.retry_ms = 50,
		.seed = 7,
		.clock = &fake_clock,
		.log = on_log,
		.listeners = on_listeners,
		.failed = on_failed,
	};

	forwarder = forwarder_new(&options);
	ck_assert_ptr_nonnull(forwarder);
}

static void setup_family(enum family family)
{
	unsigned int i;

	base = event_base_new();
	now_us = 1000000000;
	errors = infos = failures = 0;
	for (i = 0; i < N_ENDPOINTS; i++) {
		endpoints[i] = (struct endpoint){ .addr = localhost[family] };
		if (family == FAMILY_IPV4)
			endpoints[i].addr.bytes[3] = (uint8_t)(2 + i);
		endpoint_fd[i] = listen_at(family, &endpoints[i].addr,
					   &endpoints[i].port, 1024);
	}
	make(0);
}

static void setup(void)
{
	setup_family(FAMILY_IPV4);
}

static void teardown(void)
{
	unsigned int i;

	forwarder_free(forwarder);
	for (i = 0; i < N_ENDPOINTS; i++)
		close(endpoint_fd[i]);
	event_base_free(base);
	arena_free(&scratch);
}

/* The first @n endpoints, until the test ends. */
static struct endpoint_list first_endpoints(enum family family, unsigned int n)
{
	struct endpoint_list list;

	ck_assert_int_eq(
		endpoint_list_pack(family, endpoints, n, &scratch, &list), 0);
	return list;
}

static void serve(enum family family, uint16_t port, unsigned int n,
		  uint32_t affinity_s)
{
	const struct forward_port one = {
		.port = port,
		.label = "default/web:http",
		.affinity_timeout_s = affinity_s,
		.endpoints = first_endpoints(family, n),
	};

	ck_assert_int_eq(forwarder_set(forwarder, "default/web", family, &one, 1),
			 0);
}

/* Which endpoint got the next connection: its socket, and *which. */
static int accepted(unsigned int *which)
{
	const int64_t end = real_ms() + PATIENCE_MS;
	unsigned int i;
	int fd;

	while (real_ms() < end) {
		turn_loop();
		for (i = 0; i < N_ENDPOINTS; i++) {
			fd = accept(endpoint_fd[i], NULL, NULL);
			if (fd < 0)
				continue;
			*which = i;
			return fd;
		}
	}
	ck_abort_msg("no endpoint was connected to");
	return -1;
}

/* What recv() says in the end: a number of bytes, 0 at the end, or a negative errno. */
static ssize_t received(int fd, void *buffer, size_t size)
{
	const int64_t end = real_ms() + PATIENCE_MS;
	ssize_t n;

	while (real_ms() < end) {
		turn_loop();
		n = recv(fd, buffer, size, MSG_DONTWAIT);
		if (n >= 0)
			return n;
		if (errno != EAGAIN)
			return -errno;
	}
	ck_abort_msg("nothing was received");
	return -1;
}

static void expect_text(int fd, const char *want)
{
	char got[64] = "";

	ck_assert_int_eq(received(fd, got, sizeof(got) - 1), (int)strlen(want));
	ck_assert_str_eq(got, want);
}

static void until_connections(unsigned int want)
{
	const int64_t end = real_ms() + PATIENCE_MS;

	while (forwarder_connections(forwarder) != want && real_ms() < end)
		turn_loop();
	ck_assert_uint_eq(forwarder_connections(forwarder), want);
}

static unsigned int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* NP-9: bytes go both ways, and each side's end is passed on while the other side goes on. */
static void check_bytes(enum family family)
{
	uint16_t port = free_port(family);
	unsigned int which, first;
	int client, server;
	char byte;

	for (first = 0; first < 2; first++) {
		serve(family, port, 1, 0);
		ck_assert_int_eq(reported_listeners[family], 1);
		client = connect_to(family, port);
		ck_assert_int_ge(client, 0);
		server = accepted(&which);
		ck_assert_int_eq(send(client, "to the server", 13, 0), 13);
		expect_text(server, "to the server");
		ck_assert_int_eq(send(server, "to the client", 13, 0), 13);
		expect_text(client, "to the client");
		/* the one that ends first is still sent to */
		ck_assert_int_eq(shutdown(first ? server : client, SHUT_WR), 0);
		ck_assert_int_eq(received(first ? client : server, &byte, 1), 0);
		ck_assert_int_eq(send(first ? client : server, "late", 4, 0), 4);
		expect_text(first ? server : client, "late");
		close(first ? client : server);
		ck_assert_int_eq(received(first ? server : client, &byte, 1), 0);
		close(first ? server : client);
		until_connections(0);
	}
}

START_TEST(bytes_ipv4)
{
	check_bytes(FAMILY_IPV4);
}
END_TEST

START_TEST(bytes_ipv6)
{
	teardown();
	setup_family(FAMILY_IPV6);
	check_bytes(FAMILY_IPV6);
}
END_TEST

/* NP-9.6: more than pipes and sockets hold, to a reader that is slow, arrives as it was sent. */
START_TEST(a_large_transfer)
{
	enum { SIZE = 12 << 20 };
	unsigned char *out = malloc(SIZE), *in = malloc(SIZE);
	const uint16_t port = free_port(FAMILY_IPV4);
	const int64_t end = real_ms() + PATIENCE_MS;
	size_t sent = 0, got = 0, i;
	unsigned int which;
	int client, server;
	ssize_t n;

	for (i = 0; i < SIZE; i++)
		out[i] = (unsigned char)(i * 2654435761u >> 11);
	serve(FAMILY_IPV4, port, 1, 0);
	client = connect_to(FAMILY_IPV4, port);
	server = accepted(&which);
	while (got < SIZE && real_ms() < end) {
		n = send(client, out + sent, SIZE - sent, MSG_DONTWAIT);
		sent += n > 0 ? (size_t)n : 0;
		turn_loop();
		/* less at a time than comes in */
		n = recv(server, in + got,
			 SIZE - got < 30000 ? SIZE - got : 30000, MSG_DONTWAIT);
		got += n > 0 ? (size_t)n : 0;
	}
	ck_assert_uint_eq(got, SIZE);
	ck_assert_int_eq(memcmp(in, out, SIZE), 0);
	close(client);
	close(server);
	until_connections(0);
	free(in);
	free(out);
}
END_TEST

static void count_choices(uint16_t port, unsigned int n,
			  unsigned int counts[N_ENDPOINTS])
{
	unsigned int i, which;
	int client, server;

	memset(counts, 0, N_ENDPOINTS * sizeof(counts[0]));
	for (i = 0; i < n; i++) {
		client = connect_to(FAMILY_IPV4, port);
		ck_assert_int_ge(client, 0);
		server = accepted(&which);
		counts[which]++;
		close(client);
		close(server);
		until_connections(0);
	}
}

/* NP-9.2: of 400, each of four gets 100; outside of 60 to 140 is one case in 100,000. */
START_TEST(choice_is_even)
{
	const uint16_t port = free_port(FAMILY_IPV4);
	unsigned int counts[N_ENDPOINTS], i;

	serve(FAMILY_IPV4, port, N_ENDPOINTS, 0);
	count_choices(port, 400, counts);
	for (i = 0; i < N_ENDPOINTS; i++) {
		ck_assert_uint_ge(counts[i], 60);
		ck_assert_uint_le(counts[i], 140);
	}
}
END_TEST

static unsigned int one_choice(uint16_t port)
{
	unsigned int counts[N_ENDPOINTS], i;

	count_choices(port, 1, counts);
	for (i = 0; i < N_ENDPOINTS; i++)
		if (counts[i])
			return i;
	return N_ENDPOINTS;
}

static unsigned int n_used(const unsigned int counts[N_ENDPOINTS])
{
	unsigned int i, n = 0;

	for (i = 0; i < N_ENDPOINTS; i++)
		n += counts[i] > 0;
	return n;
}

/* NP-9.2: one endpoint for all, as long as the listener is used within the timeout. */
START_TEST(affinity)
{
	const uint16_t port = free_port(FAMILY_IPV4);
	unsigned int counts[N_ENDPOINTS], first, i, others = 0;

	serve(FAMILY_IPV4, port, N_ENDPOINTS, 60);
	first = one_choice(port);
	for (i = 0; i < 20; i++) {
		now_us += 59 * 1000000;
		ck_assert_uint_eq(one_choice(port), first);
	}
	/* after the timeout it is chosen afresh */
	for (i = 0; i < 20; i++) {
		now_us += 61 * 1000000;
		others += one_choice(port) != first;
	}
	ck_assert_uint_gt(others, 0);
	/* another timeout forgets, the same one does not */
	first = one_choice(port);
	serve(FAMILY_IPV4, port, N_ENDPOINTS, 60);
	ck_assert_uint_eq(one_choice(port), first);
	for (i = others = 0; i < 20; i++) {
		serve(FAMILY_IPV4, port, N_ENDPOINTS, 100 + i);
		others += one_choice(port) != first;
	}
	ck_assert_uint_gt(others, 0);
	serve(FAMILY_IPV4, port, N_ENDPOINTS, 0);
	count_choices(port, 40, counts);
	ck_assert_uint_eq(n_used(counts), N_ENDPOINTS);
}
END_TEST

/* NP-9.2: what left the list is used no more, even if it comes back. */
START_TEST(affinity_to_an_endpoint_that_left)
{
	const uint16_t port = free_port(FAMILY_IPV4);
	unsigned int round, which;

	for (round = 0; round < 10; round++) {
		serve(FAMILY_IPV4, port, N_ENDPOINTS, 60);
		which = one_choice(port);
		if (which == 0)
			continue;
		serve(FAMILY_IPV4, port, 1, 60);
		ck_assert_uint_eq(one_choice(port), 0);
		serve(FAMILY_IPV4, port, N_ENDPOINTS, 60);
		ck_assert_uint_eq(one_choice(port), 0);
	}
}
END_TEST

/* NP-9.3: nobody listens; nobody answers. */
static void until_readable(int fd)
{
	const int64_t end = real_ms() + PATIENCE_MS;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (real_ms() < end) {
		turn_loop();
		if (poll(&p, 1, 0) == 1)
			return;
	}
	ck_abort_msg("nothing to read");
}

START_TEST(dead_endpoints)
{
	const uint16_t port = free_port(FAMILY_IPV4);
	struct endpoint good = endpoints[0];
	int64_t began;
	int client, silent, filler;
	char byte;

	endpoints[0].port = free_port(FAMILY_IPV4);
	serve(FAMILY_IPV4, port, 1, 0);
	client = connect_to(FAMILY_IPV4, port);
	ck_assert_int_le(received(client, &byte, 1), 0);
	close(client);
	until_connections(0);

	/* a queue that is full answers no more */
	endpoints[0].port = 0;
	silent = listen_at(FAMILY_IPV4, &endpoints[0].addr, &endpoints[0].port, 0);
	serve(FAMILY_IPV4, port, 1, 0);
	filler = connect_to(FAMILY_IPV4, port);
	until_connections(1);
	until_readable(silent); /* it is the one that fills the queue */
	began = real_ms();
	client = connect_to(FAMILY_IPV4, port);
	ck_assert_int_le(received(client, &byte, 1), 0);
	ck_assert_int_ge(real_ms() - began, 150);
	ck_assert_int_le(real_ms() - began, PATIENCE_MS / 2);
	close(client);
	close(filler);
	close(silent);
	endpoints[0] = good;
}
END_TEST

/* NP-9.4: neither an endpoint that leaves nor the end of the listener cuts a connection. */
START_TEST(connections_outlive)
{
	const uint16_t port = free_port(FAMILY_IPV4);
	unsigned int which;
	int client, server;

	serve(FAMILY_IPV4, port, 1, 0);
	client = connect_to(FAMILY_IPV4, port);
	server = accepted(&which);
	ck_assert_int_eq(
		forwarder_set(forwarder, "default/web", FAMILY_IPV4, NULL, 0), 0);
	ck_assert_int_eq(reported_listeners[FAMILY_IPV4], 0);
	ck_assert_int_eq(connect_to(FAMILY_IPV4, port), -ECONNREFUSED);
	ck_assert_int_eq(send(client, "still", 5, 0), 5);
	expect_text(server, "still");
	ck_assert_int_eq(send(server, "here", 4, 0), 4);
	expect_text(client, "here");
	/* an empty list is no listener either */
	serve(FAMILY_IPV4, port, 0, 0);
	ck_assert_int_eq(connect_to(FAMILY_IPV4, port), -ECONNREFUSED);
	close(client);
	close(server);
	until_connections(0);
}
END_TEST

/* A reset is passed on as a reset. */
START_TEST(a_reset)
{
	static const struct linger now = { 1, 0 };
	const uint16_t port = free_port(FAMILY_IPV4);
	unsigned int which;
	int client, server;
	char byte;

	serve(FAMILY_IPV4, port, 1, 0);
	client = connect_to(FAMILY_IPV4, port);
	server = accepted(&which);
	setsockopt(server, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(server);
	ck_assert_int_eq(received(client, &byte, 1), -ECONNRESET);
	until_connections(0);
	close(client);
}
END_TEST

/* NP-9.5: told once, counted, tried again; others are unaffected. */
START_TEST(a_port_that_is_taken)
{
	uint16_t taken = 0, port = free_port(FAMILY_IPV4);
	int holder = listen_at(FAMILY_IPV4, &localhost[FAMILY_IPV4], &taken, 1),
	    client;
	const struct forward_port two[] = {
		{ .port = taken,
		  .label = "default/web:a",
		  .endpoints = first_endpoints(FAMILY_IPV4, 1) },
		{ .port = port,
		  .label = "default/web:b",
		  .endpoints = first_endpoints(FAMILY_IPV4, 1) },
	};
	const int64_t end = real_ms() + PATIENCE_MS;

	ck_assert_int_eq(
		forwarder_set(forwarder, "default/web", FAMILY_IPV4, two, 2), 0);
	ck_assert_int_eq(
		forwarder_set(forwarder, "default/web", FAMILY_IPV4, two, 2), 0);
	forwarder_retry(forwarder);
	ck_assert_int_eq(failures, 1);
	ck_assert_int_eq(errors, 1);
	ck_assert_ptr_nonnull(
		strstr(last_message, "default/web:a: localhost node port"));
	ck_assert_uint_eq(forwarder_listeners(forwarder, FAMILY_IPV4), 1);
	client = connect_to(FAMILY_IPV4, port);
	ck_assert_int_ge(client, 0);
	close(client);
	close(holder);
	while (forwarder_listeners(forwarder, FAMILY_IPV4) < 2 && real_ms() < end)
		turn_loop();
	ck_assert_uint_eq(forwarder_listeners(forwarder, FAMILY_IPV4), 2);
	ck_assert_int_eq(reported_listeners[FAMILY_IPV4], 2);
	ck_assert_int_eq(infos, 1);
}
END_TEST

/* Two Services hand a port over in either order. */
START_TEST(a_port_changes_hands)
{
	const uint16_t port = free_port(FAMILY_IPV4);
	const struct forward_port one = { .port = port,
					  .label = "b/b:b",
					  .endpoints = first_endpoints(
						  FAMILY_IPV4, 1) };
	const int64_t end = real_ms() + PATIENCE_MS;

	serve(FAMILY_IPV4, port, 1, 0);
	ck_assert_int_eq(forwarder_set(forwarder, "b/b", FAMILY_IPV4, &one, 1), 0);
	ck_assert_uint_eq(forwarder_listeners(forwarder, FAMILY_IPV4), 1);
	ck_assert_int_eq(
		forwarder_set(forwarder, "default/web", FAMILY_IPV4, NULL, 0), 0);
	while (!forwarder_listeners(forwarder, FAMILY_IPV4) && real_ms() < end)
		turn_loop();
	ck_assert_uint_eq(forwarder_listeners(forwarder, FAMILY_IPV4), 1);
	close(connect_to(FAMILY_IPV4, port));
}
END_TEST

/* NP-9.7 */
START_TEST(too_many_connections)
{
	const uint16_t port = free_port(FAMILY_IPV4);
	unsigned int which;
	int held[2], more, server[2];
	char byte;

	forwarder_free(forwarder);
	make(2);
	serve(FAMILY_IPV4, port, 1, 0);
	held[0] = connect_to(FAMILY_IPV4, port);
	server[0] = accepted(&which);
	held[1] = connect_to(FAMILY_IPV4, port);
	server[1] = accepted(&which);
	more = connect_to(FAMILY_IPV4, port);
	ck_assert_int_eq(received(more, &byte, 1), -ECONNRESET);
	ck_assert_int_eq(errors, 1);
	close(more);
	close(held[0]);
	close(server[0]);
	until_connections(1);
	more = connect_to(FAMILY_IPV4, port);
	close(server[1]);
	server[1] = accepted(&which);
	ck_assert_int_eq(send(more, "room", 4, 0), 4);
	expect_text(server[1], "room");
	close(more);
	close(held[1]);
	close(server[1]);
}
END_TEST

/* NP-9.5: accepting pauses, is told once, and goes on. */
START_TEST(out_of_descriptors)
{
	const uint16_t port = free_port(FAMILY_IPV4);
	struct rlimit limit, low;
	int clients[8], i, server, spare;
	unsigned int which;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	serve(FAMILY_IPV4, port, 1, 0);
	for (i = 0; i < 8; i++)
		clients[i] = connect_to(FAMILY_IPV4, port);
	spare = dup(0);
	low = limit;
	low.rlim_cur = (rlim_t)spare + 1;
	close(spare);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	for (i = 0; i < 200; i++)
		turn_loop();
	ck_assert_int_eq(errors, 1);
	ck_assert_uint_le(forwarder_connections(forwarder), 1);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	/* the first was accepted without a descriptor left for its endpoint: it is closed */
	for (i = 0; i < 7; i++) {
		server = accepted(&which);
		close(server);
	}
	for (i = 0; i < 8; i++)
		close(clients[i]);
	until_connections(0);
}
END_TEST

START_TEST(ten_thousand_without_a_leak)
{
	const uint16_t port = free_port(FAMILY_IPV4);
	unsigned int before, i, which;
	int client, server;

	serve(FAMILY_IPV4, port, N_ENDPOINTS, 0);
	count_choices(port, 100, (unsigned int[N_ENDPOINTS]){ 0 });
	before = count_descriptors();
	for (i = 0; i < 10000; i++) {
		client = connect_to(FAMILY_IPV4, port);
		ck_assert_int_ge(client, 0);
		server = accepted(&which);
		if (i % 3 == 0) {
			ck_assert_int_eq(send(client, "x", 1, 0), 1);
			expect_text(server, "x");
		}
		close(i % 2 ? client : server);
		close(i % 2 ? server : client);
	}
	until_connections(0);
	ck_assert_uint_le(count_descriptors(), before);
}
END_TEST

Suite *make_suite(void)
{
	Suite *s = suite_create("forward");
	TCase *tc = tcase_create("sockets");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, bytes_ipv4);
	tcase_add_test(tc, bytes_ipv6);
	tcase_add_test(tc, a_large_transfer);
	tcase_add_test(tc, choice_is_even);
	tcase_add_test(tc, affinity);
	tcase_add_test(tc, affinity_to_an_endpoint_that_left);
	tcase_add_test(tc, dead_endpoints);
	tcase_add_test(tc, connections_outlive);
	tcase_add_test(tc, a_reset);
	tcase_add_test(tc, a_port_that_is_taken);
	tcase_add_test(tc, a_port_changes_hands);
	tcase_add_test(tc, too_many_connections);
	tcase_add_test(tc, out_of_descriptors);
	tcase_add_test(tc, ten_thousand_without_a_leak);
	suite_add_tcase(s, tc);
	return s;
}
