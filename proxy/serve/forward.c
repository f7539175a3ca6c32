/*
 * A connection is two sockets and, while bytes are on their way, a pipe for
 * each direction: splice() moves them from socket to pipe to socket without a
 * copy in user space. A pipe is read into only when it is empty, so either the
 * source or the destination is waited for, never both; an idle connection holds
 * no pipe.
 *
 * Each turn of a connection is short and all events have a low priority in the
 * loop, so that a sync that becomes due waits for a few turns at most.
 */
#include "proxy/serve/forward.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "proxy/base/hashtab.h"
#include "proxy/base/log.h"

enum {
	CONNECT_MS = 5000,
	RETRY_MS = 5000,
	PAUSE_MS = 100, /* without descriptors */
	BACKLOG = 128,
	ACCEPTS = 16,	   /* in one turn of a listener */
	ROUNDS = 4,	   /* of moving bytes in one turn of a connection */
	CHUNK = 64 * 1024, /* what a pipe holds by default */
	SPARE_PIPES = 64,
};

struct tunnel {
	int end[2];
	bool open;
};

/* One direction. */
struct flow_half {
	struct tunnel pipe;
	size_t held;	/* bytes in the pipe */
	bool ended;	/* the source will send no more */
	bool passed_on; /* and the destination has been told */
};

/* Side 0 is the client, side 1 the endpoint; half[i] leads from side i to the other. */
struct forwarded {
	TAILQ_ENTRY(forwarded) in_forwarder;
	struct forwarder *forwarder;
	int fd[2];
	struct event readable[2], writable[2];
	struct event again; /* after a moment without descriptors */
	struct flow_half half[2];
};

TAILQ_HEAD(forwardeds, forwarded);

struct port_listener {
	struct hash_node node; /* by owner and family */
	struct forwarder *forwarder;
	char *owner, *label;
	enum family family;
	uint16_t port;
	int fd; /* -1: cannot be bound */
	struct event event;
	struct endpoint *endpoints;
	unsigned int n_endpoints;
	uint32_t affinity_timeout_s;
	struct endpoint remembered;
	int64_t remembered_until_us; /* 0: none */
	bool told, kept;
};

struct forwarder {
	struct forward_options options;
	struct hashtab listeners;
	unsigned int n_bound[N_FAMILIES], n_unbound;
	struct forwardeds connections;
	unsigned int n_connections;
	struct tunnel spare[SPARE_PIPES];
	unsigned int n_spare;
	struct event *retry, *resume;
	bool paused, told_full, told_descriptors;
	uint64_t random;
};

#define tell_failure(f, severity, ...)                                         \
	log_callf((f)->options.log, (f)->options.ctx, severity, __VA_ARGS__)

static struct timeval ms_to_timeval(unsigned int ms)
{
	return (struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
}

/* xorshift: choices need to be even, not secret. */
static unsigned int draw_number(struct forwarder *f, unsigned int below)
{
	assert(below && f->random);
	f->random ^= f->random << 13;
	f->random ^= f->random >> 7;
	f->random ^= f->random << 17;
	return (unsigned int)(((f->random >> 32) * below) >> 32);
}

/* Pipes */

static int tunnel_take(struct forwarder *f, struct tunnel *t)
{
	assert(!t->open && f->n_spare <= SPARE_PIPES);
	if (f->n_spare) {
		*t = f->spare[--f->n_spare];
		return 0;
	}
	if (pipe2(t->end, O_NONBLOCK | O_CLOEXEC))
		return -errno;
	t->open = true;
	return 0;
}

static void tunnel_close(struct tunnel *t)
{
	if (!t->open)
		return;
	close(t->end[0]);
	close(t->end[1]);
	t->open = false;
}

/* Only an empty one is given to another connection. */
static void tunnel_give(struct forwarder *f, struct tunnel *t)
{
	assert(t->open && f->n_spare <= SPARE_PIPES);
	if (f->n_spare == SPARE_PIPES) {
		tunnel_close(t);
		return;
	}
	f->spare[f->n_spare++] = *t;
	t->open = false;
}

/* Connections */

static void forwarded_free(struct forwarded *c)
{
	struct forwarder *f = c->forwarder;
	unsigned int i;

	assert(f->n_connections);
	for (i = 0; i < 2; i++) {
		event_del(&c->readable[i]);
		event_del(&c->writable[i]);
		close(c->fd[i]);
		tunnel_close(&c->half[i].pipe);
	}
	event_del(&c->again);
	TAILQ_REMOVE(&f->connections, c, in_forwarder);
	f->n_connections--;
	free(c);
}

/* The other side learns of a reset by a reset. */
static void reset_both(struct forwarded *c)
{
	static const struct linger now = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(c->fd[0], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	setsockopt(c->fd[1], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	forwarded_free(c);
}

/* Fills the empty pipe of side @i. Returns whether there was anything, or a negative errno. */
static int fill_pipe(struct forwarded *c, unsigned int i)
{
	struct flow_half *h = &c->half[i];
	ssize_t n;
	int err;

	assert(i < 2 && !h->held && !h->ended);
	if (!h->pipe.open) {
		err = tunnel_take(c->forwarder, &h->pipe);
		if (err)
			return err;
	}
	n = splice(c->fd[i], NULL, h->pipe.end[1], NULL, CHUNK,
		   SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	h->ended = n == 0;
	h->held = (size_t)n;
	return 1;
}

/* Returns whether all that was held is gone, or a negative errno. */
static int drain_pipe(struct forwarded *c, unsigned int i)
{
	struct flow_half *h = &c->half[i];
	ssize_t n;

	assert(i < 2 && h->held && h->pipe.open);
	n = splice(h->pipe.end[0], NULL, c->fd[!i], NULL, h->held,
		   SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	assert((size_t)n <= h->held);
	h->held -= (size_t)n;
	return h->held == 0;
}

static bool is_shortage(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOMEM ||
	       err == -ENOBUFS;
}

static void told_of_shortage(struct forwarder *f)
{
	if (!f->told_descriptors)
		tell_failure(
			f, LOG_WARNING,
			"localhost node ports: out of descriptors or memory; new connections wait");
	f->told_descriptors = true;
}

/* Moves what can be moved from side @i to the other. Returns 0 or a negative errno. */
static int move_bytes(struct forwarded *c, unsigned int i)
{
	struct flow_half *h = &c->half[i];
	unsigned int round;
	int done = 1;

	for (round = 0; round < ROUNDS && done > 0; round++) {
		if (!h->held && !h->ended)
			done = fill_pipe(c, i);
		if (done > 0 && h->held)
			done = drain_pipe(c, i);
		if (h->ended)
			break;
	}
	if (done < 0)
		return done;
	if (!h->held && h->pipe.open)
		tunnel_give(c->forwarder, &h->pipe);
	assert(h->pipe.open || !h->held);
	if (h->ended && !h->held && !h->passed_on) {
		shutdown(c->fd[!i], SHUT_WR);
		h->passed_on = true;
	}
	return 0;
}

/* A direction waits for its destination if it holds something, else for its source. */
static void wait_for(struct forwarded *c, unsigned int i)
{
	const struct flow_half *h = &c->half[i];

	if (h->held)
		event_add(&c->writable[!i], NULL);
	else
		event_del(&c->writable[!i]);
	if (!h->held && !h->ended)
		event_add(&c->readable[i], NULL);
	else
		event_del(&c->readable[i]);
}

static void take_turn(struct forwarded *c, unsigned int i)
{
	const struct timeval pause = ms_to_timeval(PAUSE_MS);
	int err = move_bytes(c, i);

	if (is_shortage(err)) {
		told_of_shortage(c->forwarder);
		event_del(&c->readable[i]);
		event_add(&c->again, &pause);
		return;
	}
	if (err) {
		reset_both(c);
		return;
	}
	if (c->half[0].passed_on && c->half[1].passed_on) {
		forwarded_free(c);
		return;
	}
	wait_for(c, i);
}

static unsigned int side_of(const struct forwarded *c, evutil_socket_t fd)
{
	assert(fd == c->fd[0] || fd == c->fd[1]);
	return fd == c->fd[1];
}

static void on_forward_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct forwarded *c = ctx;

	(void)what;
	take_turn(c, side_of(c, fd));
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
	struct forwarded *c = ctx;

	(void)what;
	take_turn(c, !side_of(c, fd));
}

static void on_again(evutil_socket_t fd, short what, void *ctx)
{
	struct forwarded *c = ctx;

	(void)fd;
	(void)what;
	wait_for(c, 0);
	wait_for(c, 1);
}

static void on_connected(evutil_socket_t fd, short what, void *ctx)
{
	struct forwarded *c = ctx;
	struct event_base *base = c->forwarder->options.base;
	socklen_t size = sizeof(int);
	int err = ETIMEDOUT;

	assert(fd == c->fd[1]);
	/* a loop that comes late may find both: what counts is that it is connected */
	if (what & EV_WRITE && getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size))
		err = errno;
	event_del(&c->writable[1]);
	if (err) { /* NP-9.3 */
		forwarded_free(c);
		return;
	}
	event_assign(&c->writable[1], base, fd, EV_WRITE | EV_PERSIST,
		     on_writable, c);
	event_priority_set(&c->writable[1], event_base_get_npriorities(base) - 1);
	event_add(&c->readable[0], NULL);
	event_add(&c->readable[1], NULL);
}

static socklen_t sockaddr_fill(enum family family, const struct addr *addr,
			       uint16_t port, struct sockaddr_storage *to)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)to;
	struct sockaddr_in *four = (struct sockaddr_in *)to;

	assert(family < N_FAMILIES);
	memset(to, 0, sizeof(*to));
	if (family == FAMILY_IPV4) {
		four->sin_family = AF_INET;
		four->sin_port = htons(port);
		memcpy(&four->sin_addr, addr->bytes, 4);
		return sizeof(*four);
	}
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(port);
	memcpy(&six->sin6_addr, addr->bytes, 16);
	return sizeof(*six);
}

static int stream_socket(enum family family)
{
	return socket(family == FAMILY_IPV4 ? AF_INET : AF_INET6,
		      SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static void assign_events(struct forwarded *c)
{
	struct event_base *base = c->forwarder->options.base;
	const int lowest = event_base_get_npriorities(base) - 1;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		event_assign(&c->readable[i], base, c->fd[i],
			     EV_READ | EV_PERSIST, on_forward_readable, c);
		event_assign(&c->writable[i], base, c->fd[i],
			     EV_WRITE | EV_PERSIST, on_writable, c);
		event_priority_set(&c->readable[i], lowest);
		event_priority_set(&c->writable[i], lowest);
	}
	event_assign(&c->again, base, -1, 0, on_again, c);
	event_assign(&c->writable[1], base, c->fd[1], EV_WRITE, on_connected, c);
	event_priority_set(&c->writable[1], lowest);
}

/* A peer that is gone without a word is noticed, as Go's programs do it: after some two minutes. */
static void set_options(int fd)
{
	static const struct {
		int level, name, value;
	} wanted[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 15 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 15 },
		{ IPPROTO_TCP, TCP_KEEPCNT, 9 },
	};
	unsigned int i;

	for (i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		setsockopt(fd, wanted[i].level, wanted[i].name,
			   &wanted[i].value, sizeof(int));
}

/* Takes @client, whatever comes of it. Returns 0 or a negative errno. */
static int forward_client(struct forwarder *f, int client, enum family family,
			  const struct endpoint *ep)
{
	const struct timeval patience = ms_to_timeval(
		f->options.connect_ms ? f->options.connect_ms : CONNECT_MS);
	struct forwarded *c = calloc(1, sizeof(*c));
	struct sockaddr_storage to;
	socklen_t size = sockaddr_fill(family, &ep->addr, ep->port, &to);
	int fd = stream_socket(family), err = errno;

	if (!c || fd < 0) {
		if (fd >= 0)
			close(fd);
		free(c);
		close(client);
		return fd < 0 ? -err : -ENOMEM;
	}
	set_options(client);
	set_options(fd);
	c->forwarder = f;
	c->fd[0] = client;
	c->fd[1] = fd;
	assign_events(c);
	TAILQ_INSERT_TAIL(&f->connections, c, in_forwarder);
	f->n_connections++;
	if (connect(fd, (const struct sockaddr *)&to, size) &&
	    errno != EINPROGRESS) {
		forwarded_free(c);
		return 0;
	}
	event_add(&c->writable[1], &patience);
	return 0;
}

/* Listeners */

static bool list_has(const struct endpoint *items, unsigned int n,
		     const struct endpoint *ep)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (endpoint_compare(&items[i], ep) == 0)
			return true;
	return false;
}

/* NP-9.2 */
static const struct endpoint *choose_endpoint(struct port_listener *l)
{
	struct forwarder *f = l->forwarder;
	const int64_t now = clock_monotonic_us(f->options.clock);
	const struct endpoint *ep = &l->endpoints[draw_number(f, l->n_endpoints)];

	assert(l->n_endpoints && l->endpoints);
	if (!l->affinity_timeout_s)
		return ep;
	if (now >= l->remembered_until_us)
		l->remembered = *ep;
	l->remembered_until_us = now + (int64_t)l->affinity_timeout_s * 1000000;
	return &l->remembered;
}

static void pause_accepting(struct forwarder *f)
{
	const struct timeval pause = ms_to_timeval(PAUSE_MS);
	struct port_listener *l;

	told_of_shortage(f);
	f->paused = true;
	for_each_hashed (l, &f->listeners, node)
		if (l->fd >= 0)
			event_del(&l->event);
	event_add(f->resume, &pause);
}

static void on_resume(evutil_socket_t fd, short what, void *ctx)
{
	struct forwarder *f = ctx;
	struct port_listener *l;

	(void)fd;
	(void)what;
	f->paused = false;
	for_each_hashed (l, &f->listeners, node)
		if (l->fd >= 0)
			event_add(&l->event, NULL);
}

/* NP-9.7: refused as if nobody listened. */
static void turn_away(struct forwarder *f, int client, unsigned int most)
{
	static const struct linger now = { .l_onoff = 1, .l_linger = 0 };

	if (!f->told_full)
		tell_failure(f, LOG_WARNING,
			     "localhost node ports: %u connections are open; further ones are refused",
			     most);
	f->told_full = true;
	setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(client);
}

static void on_forward_client(evutil_socket_t fd, short what, void *ctx)
{
	struct port_listener *l = ctx;
	struct forwarder *f = l->forwarder;
	const unsigned int most = f->options.max_connections
					  ? f->options.max_connections
					  : FORWARD_CONNECTIONS;
	unsigned int i;
	int client, err;

	(void)what;
	for (i = 0; i < ACCEPTS; i++) {
		client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client < 0 && !is_shortage(-errno))
			return;
		if (client >= 0 && f->n_connections >= most) {
			turn_away(f, client, most);
			continue;
		}
		err = client < 0 ? -errno
				 : forward_client(f, client, l->family,
						  choose_endpoint(l));
		if (is_shortage(err)) {
			pause_accepting(f);
			return;
		}
		f->told_full = false;
		f->told_descriptors = false;
	}
}

static int bind_port(struct port_listener *l)
{
	static const struct addr loopback[N_FAMILIES] = {
		[FAMILY_IPV4] = { { 127, 0, 0, 1 } },
		[FAMILY_IPV6] = { { [15] = 1 } },
	};
	struct forwarder *f = l->forwarder;
	struct sockaddr_storage at;
	socklen_t size =
		sockaddr_fill(l->family, &loopback[l->family], l->port, &at);
	int fd = stream_socket(l->family), one = 1, err = 0;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)&at, size) || listen(fd, BACKLOG))
		err = -errno;
	if (!err && event_assign(&l->event, f->options.base, fd,
				 EV_READ | EV_PERSIST, on_forward_client, l))
		err = -ENOMEM;
	if (!err)
		event_priority_set(&l->event,
				   event_base_get_npriorities(f->options.base) - 1);
	if (!err && !f->paused && event_add(&l->event, NULL))
		err = -ENOMEM;
	if (err) {
		close(fd);
		return err;
	}
	l->fd = fd;
	return 0;
}

static void count_changed(struct forwarder *f, enum family family)
{
	if (f->options.listeners)
		f->options.listeners(f->options.ctx, family, f->n_bound[family]);
}

/* Told once until it works (NP-9.5). */
static void listener_bind(struct port_listener *l)
{
	struct forwarder *f = l->forwarder;
	int err = bind_port(l);

	if (!err) {
		f->n_unbound--;
		f->n_bound[l->family]++;
		count_changed(f, l->family);
		if (l->told)
			tell_failure(f, LOG_INFO,
				     "%s: localhost node port %u (%s) is served now",
				     l->label, l->port, family_name(l->family));
		return;
	}
	if (!l->told) {
		tell_failure(f, LOG_ERR,
			     "%s: localhost node port %u (%s) is not served: %s; tried again, "
			     "others are "
			     "unaffected",
			     l->label, l->port, family_name(l->family),
			     strerror(-err));
		if (f->options.failed)
			f->options.failed(f->options.ctx, l->family);
	}
	l->told = true;
}

static void listener_free(struct port_listener *l)
{
	struct forwarder *f = l->forwarder;

	hashtab_remove(&f->listeners, &l->node);
	if (l->fd >= 0) {
		event_del(&l->event);
		close(l->fd);
		f->n_bound[l->family]--;
		count_changed(f, l->family);
	} else {
		f->n_unbound--;
	}
	free(l->endpoints);
	free(l->owner);
	free(l->label);
	free(l);
}

static uint64_t owner_hash(const char *owner, enum family family)
{
	return hash_bytes(hash_text(HASH_SEED, owner), &family, sizeof(family));
}

static bool listens_for(const struct port_listener *l, const char *owner,
			enum family family)
{
	return l->family == family && strcmp(l->owner, owner) == 0;
}

#define for_each_listener_of(l, f, owner, family)                                 \
	for_each_hash_match (l, &(f)->listeners, owner_hash(owner, family), node) \
		if (!listens_for(l, owner, family))                               \
			continue;                                                 \
		else

static struct port_listener *listener_find(struct forwarder *f, const char *owner,
					   enum family family, uint16_t port)
{
	struct port_listener *l;

	for_each_listener_of (l, f, owner, family)
		if (l->port == port)
			return l;
	return NULL;
}

static struct port_listener *listener_new(struct forwarder *f, const char *owner,
					  enum family family, uint16_t port)
{
	struct port_listener *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->owner = strdup(owner);
	if (!l->owner) {
		free(l);
		return NULL;
	}
	l->forwarder = f;
	l->family = family;
	l->port = port;
	l->fd = -1;
	f->n_unbound++;
	hashtab_insert(&f->listeners, &l->node, owner_hash(owner, family));
	return l;
}

/* NP-9.2: a new timeout, or an endpoint that left, ends what is remembered. */
static int listener_update(struct port_listener *l, const struct forward_port *port)
{
	const struct endpoint_list *list = &port->endpoints;
	struct endpoint *copy = malloc(list->count * sizeof(*copy));
	char *label = strdup(port->label);

	if (!copy || !label) {
		free(copy);
		free(label);
		return -ENOMEM;
	}
	endpoint_list_unpack(list, copy);
	free(l->endpoints);
	free(l->label);
	l->endpoints = copy;
	l->n_endpoints = list->count;
	l->label = label;
	if (l->affinity_timeout_s != port->affinity_timeout_s ||
	    !list_has(copy, list->count, &l->remembered))
		l->remembered_until_us = 0;
	l->affinity_timeout_s = port->affinity_timeout_s;
	return 0;
}

static void drop_the_rest(struct forwarder *f, const char *owner, enum family family)
{
	struct port_listener *l;
	bool again;

	do { /* removing one ends the walk */
		again = false;
		for_each_listener_of (l, f, owner, family) {
			if (l->kept)
				continue;
			listener_free(l);
			again = true;
			break;
		}
	} while (again);
}

void forwarder_release(struct forwarder *f, const char *owner, enum family family,
		       const struct forward_port *ports, unsigned int count)
{
	struct port_listener *l;
	unsigned int i;

	for_each_listener_of (l, f, owner, family)
		l->kept = false;
	for (i = 0; i < count; i++) {
		l = listener_find(f, owner, family, ports[i].port);
		if (l)
			l->kept = true;
	}
	drop_the_rest(f, owner, family);
}

static void schedule_forward_retry(struct forwarder *f)
{
	const struct timeval pause = ms_to_timeval(
		f->options.retry_ms ? f->options.retry_ms : RETRY_MS);

	if (f->n_unbound && !event_pending(f->retry, EV_TIMEOUT, NULL))
		event_add(f->retry, &pause);
}

int forwarder_set(struct forwarder *f, const char *owner, enum family family,
		  const struct forward_port *ports, unsigned int count)
{
	struct port_listener *l;
	unsigned int i;
	int err = 0;

	for_each_listener_of (l, f, owner, family)
		l->kept = false;
	for (i = 0; i < count; i++) {
		if (!ports[i].endpoints.count)
			continue;
		l = listener_find(f, owner, family, ports[i].port);
		if (!l)
			l = listener_new(f, owner, family, ports[i].port);
		if (!l) {
			err = -ENOMEM;
			continue;
		}
		l->kept = true;
		if (listener_update(l, &ports[i])) {
			err = -ENOMEM;
			l->kept = l->n_endpoints > 0;
		}
	}
	drop_the_rest(f, owner, family);
	for_each_listener_of (l, f, owner, family)
		if (l->fd < 0 && !l->told)
			listener_bind(l);
	schedule_forward_retry(f);
	return err;
}

void forwarder_retry(struct forwarder *f)
{
	struct port_listener *l;

	if (!f->n_unbound)
		return;
	for_each_hashed (l, &f->listeners, node)
		if (l->fd < 0)
			listener_bind(l);
	schedule_forward_retry(f);
}

static void on_forward_retry(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	forwarder_retry(ctx);
}

unsigned int forwarder_connections(const struct forwarder *f)
{
	return f->n_connections;
}

unsigned int forwarder_listeners(const struct forwarder *f, enum family family)
{
	return f->n_bound[family];
}

/* A connection takes two descriptors and up to four more while bytes are on their way. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

struct forwarder *forwarder_new(const struct forward_options *options)
{
	struct forwarder *f = calloc(1, sizeof(*f));

	assert(options->base && options->clock && options->log);
	if (!f)
		return NULL;
	f->options = *options;
	TAILQ_INIT(&f->connections);
	f->random = options->seed;
	if (!f->random &&
	    getrandom(&f->random, sizeof(f->random), GRND_NONBLOCK) < 0)
		f->random = (uint64_t)clock_monotonic_us(f->options.clock);
	f->random |= 1; /* it must not be 0 */
	f->retry = evtimer_new(options->base, on_forward_retry, f);
	f->resume = evtimer_new(options->base, on_resume, f);
	if (!f->retry || !f->resume) {
		forwarder_free(f);
		return NULL;
	}
	raise_descriptor_limit();
	return f;
}

void forwarder_free(struct forwarder *f)
{
	struct port_listener *l;
	struct forwarded *c;

	if (!f)
		return;
	while ((c = TAILQ_FIRST(&f->connections)))
		reset_both(c);
	for_each_hashed (l, &f->listeners, node)
		listener_free(l);
	hashtab_free(&f->listeners);
	while (f->n_spare)
		tunnel_close(&f->spare[--f->n_spare]);
	if (f->retry)
		event_free(f->retry);
	if (f->resume)
		event_free(f->resume);
	free(f);
}
