/*
 * Makes many connections (TCP) or flows (UDP), each from a source port of its own, to one address,
 * and counts who answered. The server is tests/tools/endpoints.c. Each line of the result is
 *
 *	COUNT reached NAMESPACE ADDRESS:PORT | COUNT refused | COUNT timeout | COUNT error NUMBER
 *
 * and the last one the longest time that an answer took: "slowest MILLISECONDS".
 *
 * usage: connect [-u] [-n COUNT] [-d SECONDS] [-w WINDOW] [-r PER-SECOND] [-t TIMEOUT-MS]
 *		  [-s SOURCE [-a]] [-P SEED] DESTINATION PORT
 *
 * -P binds each flow to the next source port of a permutation of 1024..65535 drawn with SEED, so
 * that no flow meets the conntrack entry of an earlier one. After SIGTERM nothing new begins.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_WINDOW = 4096,
	MAX_TALLY = 4096,
	TEXT_SIZE = 128,
	FIRST_PORT = 1024,
	N_PORTS = 64512
};

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

struct flow {
	int fd; /* -1: free */
	int64_t started_us;
};

struct tally {
	unsigned long count;
	char text[TEXT_SIZE];
};

struct run {
	bool udp, has_source, has_seed, many_sources;
	unsigned long count;
	unsigned int window, per_second;
	int64_t duration_us, timeout_us;
	union address source, destination;
	uint16_t ports[N_PORTS];

	int epoll;
	unsigned int n_tally, n_flows;
	unsigned long started;
	int64_t slowest_us, began_us;
	struct flow flows[MAX_WINDOW];
	struct tally tally[MAX_TALLY];
};

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void die(const char *what)
{
	fprintf(stderr, "connect: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void count(struct run *r, const char *text)
{
	struct tally *t;

	for (t = r->tally; t < r->tally + r->n_tally; t++)
		if (strcmp(t->text, text) == 0)
			break;
	if (t == r->tally + MAX_TALLY)
		die("too many different answers");
	if (t == r->tally + r->n_tally) {
		r->n_tally++;
		snprintf(t->text, sizeof(t->text), "%s", text);
	}
	t->count++;
}

static void count_error(struct run *r, int error)
{
	char text[TEXT_SIZE];

	snprintf(text, sizeof(text), "error %d", error);
	count(r, error == ECONNREFUSED ? "refused" : text);
}

static socklen_t address_size(const union address *a)
{
	return a->sa.sa_family == AF_INET ? sizeof(a->in) : sizeof(a->in6);
}

static void address_set_port(union address *a, uint16_t port)
{
	if (a->sa.sa_family == AF_INET)
		a->in.sin_port = htons(port);
	else
		a->in6.sin6_port = htons(port);
}

static bool address_parse(const char *text, union address *a)
{
	if (inet_pton(AF_INET, text, &a->in.sin_addr) == 1) {
		a->sa.sa_family = AF_INET;
		return true;
	}
	a->sa.sa_family = AF_INET6;
	return inet_pton(AF_INET6, text, &a->in6.sin6_addr) == 1;
}

/* The low 16 bits of the address count on; whoever asks for that gives a prefix with room. */
static void address_add(union address *a, unsigned long n)
{
	uint8_t *low = a->sa.sa_family == AF_INET
			       ? (uint8_t *)&a->in.sin_addr + 2
			       : (uint8_t *)&a->in6.sin6_addr + 14;
	unsigned int value =
		((unsigned int)low[0] << 8 | low[1]) + (unsigned int)n;

	low[0] = (uint8_t)(value >> 8);
	low[1] = (uint8_t)value;
}

static bool flow_bind(struct run *r, int fd)
{
	union address a = r->source;
	int one = 1;

	if (!r->has_source && !r->has_seed)
		return true;
	if (!r->has_source) {
		memset(&a, 0, sizeof(a));
		a.sa.sa_family = r->destination.sa.sa_family;
	}
	if (r->many_sources) {
		address_add(&a, r->started);
		setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one));
	}
	address_set_port(&a, r->has_seed ? r->ports[r->started % N_PORTS] : 0);
	return bind(fd, &a.sa, address_size(&a)) == 0;
}

static void flow_end(struct run *r, struct flow *f)
{
	close(f->fd);
	f->fd = -1;
	r->n_flows--;
}

static void flow_start(struct run *r, struct flow *f)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = f };
	int one = 1;
	int fd = socket(r->destination.sa.sa_family,
			(r->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK |
				SOCK_CLOEXEC,
			0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!r->udp)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	*f = (struct flow){ .fd = fd, .started_us = now_us() };
	r->n_flows++;
	if (!flow_bind(r, fd)) {
		/* A port in use by someone else says nothing about the service. */
		flow_end(r, f);
		r->started++;
		return;
	}
	r->started++;
	if (connect(fd, &r->destination.sa, address_size(&r->destination)) < 0 &&
	    errno != EINPROGRESS) {
		count_error(r, errno);
		flow_end(r, f);
		return;
	}
	if (r->udp)
		send(fd, "?", 1, 0);
	if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

/* "NAMESPACE LOCAL PEER": the peer is left out of the count. */
static void flow_answer(struct run *r, struct flow *f)
{
	char line[TEXT_SIZE - 16], text[TEXT_SIZE], *cut;
	int64_t took_us = now_us() - f->started_us;
	ssize_t got = recv(f->fd, line, sizeof(line) - 1, 0);

	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		count_error(r, got < 0 ? errno : EPIPE);
	} else {
		line[got] = '\0';
		cut = strrchr(line, ' ');
		if (cut)
			*cut = '\0';
		snprintf(text, sizeof(text), "reached %s", line);
		count(r, text);
	}
	if (took_us > r->slowest_us)
		r->slowest_us = took_us;
	flow_end(r, f);
}

static void flows_expire(struct run *r)
{
	int64_t now = now_us();

	for (unsigned int i = 0; i < r->window; i++) {
		struct flow *f = &r->flows[i];

		if (f->fd >= 0 && now - f->started_us > r->timeout_us) {
			count(r, "timeout");
			flow_end(r, f);
		}
	}
}

static bool more_to_start(const struct run *r)
{
	sigset_t asked;

	if (sigpending(&asked) == 0 && sigismember(&asked, SIGTERM))
		return false;
	if (r->duration_us)
		return now_us() - r->began_us < r->duration_us;
	return r->started < r->count;
}

static bool rate_allows(const struct run *r)
{
	if (!r->per_second)
		return true;
	return (int64_t)r->started * 1000000 / r->per_second <=
	       now_us() - r->began_us;
}

static void flows_start(struct run *r)
{
	for (unsigned int i = 0; i < r->window; i++) {
		if (r->flows[i].fd >= 0)
			continue;
		if (!more_to_start(r) || !rate_allows(r))
			return;
		flow_start(r, &r->flows[i]);
	}
}

static void run(struct run *r)
{
	struct epoll_event events[256];
	int64_t checked_us = now_us();

	r->began_us = now_us();
	while (more_to_start(r) || r->n_flows) {
		int n;

		flows_start(r);
		n = epoll_wait(r->epoll, events, 256, r->per_second ? 1 : 20);
		for (int i = 0; i < n; i++)
			flow_answer(r, events[i].data.ptr);
		if (now_us() - checked_us > 20000) {
			checked_us = now_us();
			flows_expire(r);
		}
	}
	for (unsigned int i = 0; i < r->n_tally; i++)
		printf("%lu %s\n", r->tally[i].count, r->tally[i].text);
	printf("slowest %.1f\n", (double)r->slowest_us / 1000);
}

static void ports_shuffle(struct run *r, unsigned int seed)
{
	unsigned short state[3] = { (unsigned short)seed,
				    (unsigned short)(seed >> 16), 0x330e };

	for (unsigned int i = 0; i < N_PORTS; i++)
		r->ports[i] = (uint16_t)(FIRST_PORT + i);
	for (unsigned int i = N_PORTS - 1; i > 0; i--) {
		unsigned int j =
			(unsigned int)((unsigned long)nrand48(state) % (i + 1));
		uint16_t swap = r->ports[i];

		r->ports[i] = r->ports[j];
		r->ports[j] = swap;
	}
	r->has_seed = true;
}

static void usage(void)
{
	fprintf(stderr,
		"usage: connect [-u] [-n COUNT] [-d SECONDS] [-w WINDOW] [-r PER-SECOND]\n"
		"               [-t TIMEOUT-MS] [-s SOURCE [-a]] [-P SEED] DESTINATION PORT\n");
	exit(2);
}

static void option(struct run *r, int opt)
{
	switch (opt) {
	case 'u':
		r->udp = true;
		break;
	case 'n':
		r->count = strtoul(optarg, NULL, 10);
		break;
	case 'd':
		r->duration_us = (int64_t)(strtod(optarg, NULL) * 1000000);
		break;
	case 'w':
		r->window = (unsigned int)strtoul(optarg, NULL, 10);
		break;
	case 'r':
		r->per_second = (unsigned int)strtoul(optarg, NULL, 10);
		break;
	case 't':
		r->timeout_us = strtoll(optarg, NULL, 10) * 1000;
		break;
	case 's':
		r->has_source = address_parse(optarg, &r->source);
		break;
	case 'a':
		r->many_sources = true;
		break;
	case 'P':
		ports_shuffle(r, (unsigned int)strtoul(optarg, NULL, 10));
		break;
	default:
		usage();
	}
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	struct run *r = calloc(1, sizeof(*r));
	sigset_t wait_for;
	int opt;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&wait_for);
	sigaddset(&wait_for, SIGTERM);
	sigprocmask(SIG_BLOCK, &wait_for, NULL);
	if (!r || getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("start");
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	r->count = 1;
	r->window = 64;
	r->timeout_us = 3000000;
	r->epoll = epoll_create1(EPOLL_CLOEXEC);
	while ((opt = getopt(argc, argv, "un:d:w:r:t:s:aP:")) != -1)
		option(r, opt);
	if (argc - optind != 2 || !address_parse(argv[optind], &r->destination) ||
	    !r->window || r->window > MAX_WINDOW)
		usage();
	address_set_port(&r->destination,
			 (uint16_t)strtoul(argv[optind + 1], NULL, 10));
	for (unsigned int i = 0; i < MAX_WINDOW; i++)
		r->flows[i].fd = -1;
	run(r);
	free(r);
	return 0;
}
