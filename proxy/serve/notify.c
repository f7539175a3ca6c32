/*
 * A datagram that finds the manager's buffer full is not lost: the latest state
 * is sent again until it is through, since a manager that never hears READY=1
 * ends the service. Other failures are final; a manager that went away asks for
 * nothing.
 */
#include "proxy/serve/notify.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"

enum {
	STATUS_MAX = 256,
	RETRY_US = 100 * 1000,
	WATCHDOG_MIN_US =
		1000, /* a shorter one would keep the loop busy with nothing else */
};

struct notify {
	const struct clock *clock;
	int fd;
	struct sockaddr_un to;
	socklen_t to_length;
	struct event *watchdog, *retry;
	char status[STATUS_MAX];
	struct strbuf unsent; /* empty: nothing waits */
};

static int parse_socket(const char *name, struct sockaddr_un *to, socklen_t *length)
{
	const size_t n = strlen(name);

	if ((name[0] != '/' && name[0] != '@') || n < 2)
		return -EAFNOSUPPORT;
	if (n >= sizeof(to->sun_path))
		return -ENAMETOOLONG;
	memset(to, 0, sizeof(*to));
	to->sun_family = AF_UNIX;
	memcpy(to->sun_path, name, n);
	if (name[0] == '@')
		to->sun_path[0] = '\0';
	*length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	return 0;
}

static bool parse_unsigned(const char *text, unsigned long long *number)
{
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return !*end && !errno;
}

/* 0: there is no watchdog, or it is for another process. */
static unsigned long long watchdog_us(const struct notify_options *options)
{
	unsigned long long us, pid;

	if (!parse_unsigned(options->watchdog_usec, &us) || us / 2 < WATCHDOG_MIN_US)
		return 0;
	if (options->watchdog_pid && (!parse_unsigned(options->watchdog_pid, &pid) ||
				      pid != (unsigned long long)options->pid))
		return 0;
	return us;
}

static int send_text(const struct notify *n, const char *text, size_t length)
{
	ssize_t sent;

	do
		sent = sendto(n->fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL,
			      (const struct sockaddr *)&n->to, n->to_length);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

static void send_unsent(struct notify *n)
{
	const struct timeval delay = { 0, RETRY_US };

	if (!n->unsent.err &&
	    send_text(n, n->unsent.text, n->unsent.length) == -EAGAIN) {
		event_add(n->retry, &delay);
		return;
	}
	strbuf_reset(&n->unsent);
}

static void on_notify_retry(evutil_socket_t fd, short what, void *ctx)
{
	struct notify *n = ctx;

	(void)fd;
	(void)what;
	if (n->unsent.length)
		send_unsent(n);
}

/* Lost if the buffer is full: then the manager does not look at it either. */
static void on_watchdog(evutil_socket_t fd, short what, void *ctx)
{
	static const char text[] = "WATCHDOG=1\n";

	(void)fd;
	(void)what;
	send_text(ctx, text, sizeof(text) - 1);
}

static int start_watchdog(struct notify *n, struct event_base *base,
			  unsigned long long us)
{
	/* Half of it, as sd_watchdog_enabled(3) asks for */
	const struct timeval period = { (time_t)(us / 2 / 1000000),
					(suseconds_t)(us / 2 % 1000000) };

	n->watchdog = event_new(base, -1, EV_PERSIST, on_watchdog, n);
	return n->watchdog && !event_add(n->watchdog, &period) ? 0 : -ENOMEM;
}

struct notify *notify_new(const struct notify_options *options, struct errbuf *eb)
{
	const unsigned long long us = watchdog_us(options);
	struct notify *n = calloc(1, sizeof(*n));
	int err;

	if (!n) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	assert(options->clock && options->base && options->socket);
	n->clock = options->clock;
	n->fd = -1;
	err = parse_socket(options->socket, &n->to, &n->to_length);
	if (!err) {
		n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		err = n->fd < 0 ? -errno : 0;
	}
	if (!err && !(n->retry = evtimer_new(options->base, on_notify_retry, n)))
		err = -ENOMEM;
	if (!err && us)
		err = start_watchdog(n, options->base, us);
	if (err) {
		errf(eb, err, "%s: %s", options->socket, strerror(-err));
		notify_free(n);
		return NULL;
	}
	return n;
}

void notify_free(struct notify *n)
{
	if (!n)
		return;
	if (n->watchdog)
		event_free(n->watchdog);
	if (n->retry)
		event_free(n->retry);
	if (n->fd >= 0)
		close(n->fd);
	strbuf_free(&n->unsent);
	free(n);
}

/* A line break in it would begin another field. */
static void put_status(struct notify *n, const char *status)
{
	char *c;

	snprintf(n->status, sizeof(n->status), "%s", status);
	for (c = n->status; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
	strbuf_addf(&n->unsent, "STATUS=%s\n", n->status);
}

void notify_ready(struct notify *n, const char *status)
{
	if (!n)
		return;
	strbuf_reset(&n->unsent);
	strbuf_adds(&n->unsent, "READY=1\n");
	put_status(n, status);
	send_unsent(n);
}

void notify_reloading(struct notify *n, const char *status)
{
	if (!n)
		return;
	strbuf_reset(&n->unsent);
	/* Which reload this is the beginning of, the manager tells from the time. */
	strbuf_addf(&n->unsent, "RELOADING=1\nMONOTONIC_USEC=%lld\n",
		    (long long)clock_monotonic_us(n->clock));
	put_status(n, status);
	send_unsent(n);
}

void notify_stopping(struct notify *n)
{
	if (!n)
		return;
	strbuf_reset(&n->unsent);
	strbuf_adds(&n->unsent, "STOPPING=1\n");
	send_unsent(n);
}

void notify_status(struct notify *n, const char *status)
{
	/* What waits already must not be lost, nor grow while the manager sleeps. */
	if (!n || n->unsent.length ||
	    strncmp(n->status, status, sizeof(n->status) - 1) == 0)
		return;
	put_status(n, status);
	send_unsent(n);
}
