/*
 * What a service manager is told, in the protocol of sd_notify(3): datagrams to the socket that it
 * named. All calls take NULL, and then do nothing: nobody manages this process.
 */
#ifndef SERVE_NOTIFY_H
#define SERVE_NOTIFY_H

#include "proxy/base/clock.h"
#include "proxy/base/errbuf.h"

#include <sys/types.h>

struct event_base;
struct notify;

struct notify_options {
	struct event_base *base;
	const struct clock *clock;
	const char *socket; /* $NOTIFY_SOCKET: a path, or "@" and an abstract name */
	const char *watchdog_usec; /* $WATCHDOG_USEC, $WATCHDOG_PID; each may be NULL */
	const char *watchdog_pid;
	pid_t pid; /* ours */
};

/*
 * From now on the watchdog is told that the loop runs, if there is one and it is for us. NULL with
 * @eb on failure; nothing of @options but base and clock is kept.
 */
struct notify *notify_new(const struct notify_options *options, struct errbuf *eb);
void notify_free(struct notify *n);

/* @status is one line for "systemctl status". None of these waits. */
void notify_ready(struct notify *n, const char *status);
void notify_reloading(struct notify *n,
		      const char *status); /* ends with notify_ready() */
void notify_stopping(struct notify *n);
void notify_status(struct notify *n,
		   const char *status); /* not sent again if it is the same */

#endif
