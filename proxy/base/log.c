/*
 * The log. A line is made whole and written with one write(), so that lines of
 * several processes on one descriptor do not mix. What is not printable is
 * escaped: names and messages come from the API server, and must neither forge
 * lines nor steer a terminal. A line that cannot be written is lost; there is
 * nowhere to say so.
 *
 * A line is built in one buffer that stays, as text and not as a tree: once the
 * buffer has its size no line needs memory, not even one that says that there
 * is none.
 */
#include "proxy/base/log.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/jsonout.h"
#include "proxy/base/strbuf.h"

enum {
	MESSAGE_MAX = 2048,
	N_BUCKETS = 64, /* of log_limited(); the one unused for longest makes room */
	KEY_SIZE = 64,
	BURST = 5,
	DEBUG_LEVEL = 3, /* of LOG_DEBUG */
	RECENT_SIZE = 1 << 16,
	N_MINUTES = 60,
};

#define REFILL_US INT64_C(30000000)

struct token_bucket {
	char key[KEY_SIZE]; /* "": unused */
	int64_t refilled_us, used_us;
	unsigned int tokens, left_out;
};

struct log {
	int fd, verbosity;
	bool json, plain;
	const struct clock *clock;
	void (*listen)(void *ctx, int severity, const char *message);
	void *listen_ctx;
	struct strbuf line;
	struct token_bucket buckets[N_BUCKETS];
	/* The latest lines, the oldest overwritten; bytes that were never used are not resident. */
	size_t recent_end;
	bool recent_is_full;
	char recent[RECENT_SIZE];
	/* Warnings and errors by minute, monotonic. */
	struct {
		int64_t minute;
		unsigned int count;
	} warnings[N_MINUTES];
};

struct log *log_new(int fd, int verbosity, bool json, const struct clock *clock)
{
	struct log *log = calloc(1, sizeof(*log));

	if (!log)
		return NULL;
	log->fd = fd;
	log->verbosity = verbosity;
	log->json = json;
	log->clock = clock ? clock : clock_system();
	return log;
}

void log_free(struct log *log)
{
	if (!log)
		return;
	strbuf_free(&log->line);
	free(log);
}

void log_set_verbosity(struct log *log, int verbosity)
{
	log->verbosity = verbosity;
}

void log_set_plain(struct log *log, bool plain)
{
	log->plain = plain;
}

void log_set_json(struct log *log, bool json)
{
	log->json = json;
}

void log_set_listener(struct log *log,
		      void (*listen)(void *ctx, int severity, const char *message),
		      void *ctx)
{
	log->listen = listen;
	log->listen_ctx = ctx;
}

bool log_wants(const struct log *log, int v)
{
	return log->verbosity >= v;
}

static const char *severity_name(int severity)
{
	if (severity <= LOG_ERR)
		return "error";
	if (severity == LOG_WARNING)
		return "warning";
	return severity == LOG_DEBUG ? "debug" : "info";
}

static void write_all(int fd, const char *bytes, size_t length)
{
	while (length) {
		ssize_t n = write(fd, bytes, length);

		if (n <= 0)
			return;
		bytes += n;
		length -= (size_t)n;
	}
}

static void recent_add(struct log *log, const char *bytes, size_t length)
{
	size_t i;

	assert(log->recent_end < RECENT_SIZE);
	for (i = 0; i < length; i++) {
		log->recent[log->recent_end++] = bytes[i];
		if (log->recent_end == RECENT_SIZE) {
			log->recent_end = 0;
			log->recent_is_full = true;
		}
	}
}

void log_recent(const struct log *log, struct strbuf *out)
{
	const char *from = log->recent + log->recent_end,
		   *end = log->recent + RECENT_SIZE;

	assert(log->recent_end < RECENT_SIZE);
	if (log->recent_is_full) {
		/* The first line is mostly cut. */
		while (from < end && *from != '\n')
			from++;
		if (from < end)
			strbuf_add(out, from + 1, (size_t)(end - from) - 1);
	}
	strbuf_add(out, log->recent, log->recent_end);
}

static int64_t this_minute(const struct log *log)
{
	return clock_monotonic_us(log->clock) / 60000000;
}

static void count_warning(struct log *log)
{
	const int64_t minute = this_minute(log);
	const size_t i = (size_t)(minute % N_MINUTES);

	if (log->warnings[i].minute != minute) {
		log->warnings[i].minute = minute;
		log->warnings[i].count = 0;
	}
	log->warnings[i].count++;
}

unsigned int log_warnings(const struct log *log, unsigned int seconds)
{
	const int64_t now = this_minute(log);
	unsigned int n = 0;
	size_t i;

	for (i = 0; i < N_MINUTES; i++)
		if (now - log->warnings[i].minute <= seconds / 60)
			n += log->warnings[i].count;
	return n;
}

static void add_member(struct strbuf *line, const char *key, const char *value)
{
	if (value)
		jsonout_text(line, key, value);
}

/* @event and @service may be NULL. */
static void put_event(struct log *log, int severity, const char *event,
		      const char *service, const char *message)
{
	static const char no_memory[] =
		"error: a line of the log is lost: out of memory\n";
	struct strbuf *line = &log->line;
	char time[CLOCK_TEXT_SIZE];

	if (severity <= LOG_WARNING)
		count_warning(log);
	strbuf_reset(line);
	clock_format(clock_realtime_us(log->clock), time);
	if (log->json) {
		jsonout_object(line, NULL);
		jsonout_text(line, "ts", time);
		jsonout_text(line, "severity", severity_name(severity));
		add_member(line, "event", event);
		add_member(line, "service", service);
		jsonout_text(line, "message", message);
		jsonout_object_end(line);
		strbuf_addc(line, '\n');
	} else {
		if (!log->plain)
			strbuf_addf(line, "%s ", time);
		strbuf_addf(line, "%s: ", severity_name(severity));
		strbuf_add_visible(line, message);
		strbuf_addc(line, '\n');
	}
	if (!line->err) {
		recent_add(log, line->text, line->length);
		write_all(log->fd, line->text, line->length);
		return;
	}
	/* Out of memory is worth a line, too; the message may hold anything. */
	write_all(log->fd, no_memory, strlen(no_memory));
}

static void put_line(struct log *log, int severity, const char *message)
{
	put_event(log, severity, NULL, NULL, message);
	if (log->listen && severity < LOG_DEBUG)
		log->listen(log->listen_ctx, severity, message);
}

static void put_format(struct log *log, int severity, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

static void put_format(struct log *log, int severity, const char *fmt, va_list ap)
{
	char message[MESSAGE_MAX];

	if (severity >= LOG_DEBUG && !log_wants(log, DEBUG_LEVEL))
		return;
	vsnprintf(message, sizeof(message), fmt, ap);
	put_line(log, severity, message);
}

#define PUT(log, severity, fmt)                                                \
	do {                                                                   \
		va_list ap;                                                    \
                                                                               \
		va_start(ap, fmt);                                             \
		put_format(log, severity, fmt, ap);                            \
		va_end(ap);                                                    \
	} while (0)

void log_line(struct log *log, int severity, const char *fmt, ...)
{
	PUT(log, severity, fmt);
}

void log_error(struct log *log, const char *fmt, ...)
{
	PUT(log, LOG_ERR, fmt);
}

void log_warning(struct log *log, const char *fmt, ...)
{
	PUT(log, LOG_WARNING, fmt);
}

void log_info(struct log *log, const char *fmt, ...)
{
	PUT(log, LOG_INFO, fmt);
}

static void put_verbose(struct log *log, int v, const char *event,
			const char *service, const char *fmt, va_list ap)
	__attribute__((format(printf, 5, 0)));

static void put_verbose(struct log *log, int v, const char *event,
			const char *service, const char *fmt, va_list ap)
{
	char message[MESSAGE_MAX];

	if (!log_wants(log, v))
		return;
	vsnprintf(message, sizeof(message), fmt, ap);
	put_event(log, LOG_INFO, event, service, message);
}

void log_debug(struct log *log, int v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_verbose(log, v, NULL, NULL, fmt, ap);
	va_end(ap);
}

void log_event(struct log *log, int v, const char *event, const char *service,
	       const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_verbose(log, v, event, service, fmt, ap);
	va_end(ap);
}

static struct token_bucket *bucket_find(struct log *log, const char *key,
					int64_t now_us)
{
	struct token_bucket *b, *oldest = log->buckets;
	unsigned int i;

	for (i = 0; i < N_BUCKETS; i++) {
		b = &log->buckets[i];
		if (*b->key && strncmp(b->key, key, KEY_SIZE - 1) == 0)
			return b;
		if (!*b->key || (*oldest->key && b->used_us < oldest->used_us))
			oldest = b;
	}
	memset(oldest, 0, sizeof(*oldest));
	snprintf(oldest->key, sizeof(oldest->key), "%s", *key ? key : "?");
	oldest->tokens = BURST;
	oldest->refilled_us = now_us;
	return oldest;
}

static bool bucket_take(struct token_bucket *b, int64_t now_us)
{
	int64_t more = (now_us - b->refilled_us) / REFILL_US;

	assert(b->tokens <= BURST);
	b->used_us = now_us;
	if (more > 0) {
		b->tokens = more >= BURST - (int64_t)b->tokens
				    ? BURST
				    : b->tokens + (unsigned int)more;
		b->refilled_us += more * REFILL_US;
	}
	if (!b->tokens) {
		b->left_out++;
		return false;
	}
	b->tokens--;
	return true;
}

void log_limited(struct log *log, int severity, const char *key,
		 const char *fmt, ...)
{
	int64_t now_us = clock_monotonic_us(log->clock);
	char message[MESSAGE_MAX], more[64];
	struct token_bucket *b;
	va_list ap;
	size_t length;

	if (severity >= LOG_DEBUG && !log_wants(log, DEBUG_LEVEL))
		return;
	b = bucket_find(log, key, now_us);
	if (!bucket_take(b, now_us))
		return;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	if (b->left_out) {
		snprintf(more, sizeof(more), " (%u similar lines left out)",
			 b->left_out);
		length = strlen(message);
		if (length > sizeof(message) - sizeof(more))
			length = sizeof(message) - sizeof(more);
		snprintf(message + length, sizeof(message) - length, "%s", more);
		b->left_out = 0;
	}
	put_line(log, severity, message);
}

void log_message(void *log, int severity, const char *message)
{
	log_line(log, severity, "%s", message);
}

void log_warning_message(void *log, const char *message)
{
	log_line(log, LOG_WARNING, "%s", message);
}

void log_callf(log_fn *call, void *ctx, int severity, const char *fmt, ...)
{
	char message[MESSAGE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	call(ctx, severity, message);
}

void warn_callf(warn_fn *call, void *ctx, const char *fmt, ...)
{
	char message[MESSAGE_MAX];
	va_list ap;

	if (!call)
		return;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	call(ctx, message);
}
