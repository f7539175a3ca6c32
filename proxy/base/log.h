/*
 * The log: one line per message on a descriptor, as text or JSON. A struct log is passed to whoever
 * decides what happens next; leaf modules return errors instead.
 *
 * Severities are those of syslog(3): LOG_ERR, LOG_WARNING, LOG_INFO; LOG_DEBUG counts as -v 3.
 *
 * What belongs to which level: 0 the story, 1 a line for each changed service port, 2 each sync, 3
 * each request to the API server. The keys of JSON are ts, severity and message, and where there is
 * one, event (what happened, in one word) and service (namespace/name:port).
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <syslog.h>

#include "proxy/base/clock.h"

struct log;

/* Does not close @fd. @clock is borrowed; NULL: the system's. NULL when out of memory. */
struct log *log_new(int fd, int verbosity, bool json, const struct clock *clock);
void log_free(struct log *log); /* NULL is allowed */

void log_set_verbosity(struct log *log, int verbosity);
void log_set_json(struct log *log, bool json);
/* Text without the time, for a command that somebody waits for. */
void log_set_plain(struct log *log, bool plain);

/*
 * Who hears of each line of level 0 besides: errors, warnings and the story.
 * NULL: nobody. It must not log.
 */
void log_set_listener(struct log *log,
		      void (*listen)(void *ctx, int severity, const char *message),
		      void *ctx);

/* Whether a line of level @v would be written: for lines that are costly to make. */
bool log_wants(const struct log *log, int v);

/* Lines of warnings and errors in the last @seconds, an hour at most. */
unsigned int log_warnings(const struct log *log, unsigned int seconds);

/* The latest lines, some 64 KB at most, as they were written. */
struct strbuf;
void log_recent(const struct log *log, struct strbuf *out);

void log_line(struct log *log, int severity, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void log_error(struct log *log, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void log_warning(struct log *log, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void log_info(struct log *log, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Written if the verbosity is at least @v, as klog's V(@v). */
void log_debug(struct log *log, int v, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * The same for what happens again and again and is looked for by programs:
 * @event is a word that stays, @service a service port, or NULL.
 */
void log_event(struct log *log, int v, const char *event, const char *service,
	       const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/*
 * For lines that may come again and again: lines with the same @key (at most 63
 * bytes count) share a bucket of 5, refilled by one every 30 seconds. The first
 * line after a pause says how many were left out.
 */
void log_limited(struct log *log, int severity, const char *key,
		 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* For callbacks of the form (ctx, severity, message) and (ctx, message); @log is a struct log. */
void log_message(void *log, int severity, const char *message);
void log_warning_message(void *log, const char *message);

/* Such a callback, and how it is called with a text that is put together. */
typedef void log_fn(void *ctx, int severity, const char *message);
typedef void warn_fn(void *ctx, const char *message);
void log_callf(log_fn *call, void *ctx, int severity, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* NULL: nobody hears of it. */
void warn_callf(warn_fn *call, void *ctx, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
