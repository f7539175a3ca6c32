/*
 * The time, as an argument: tests put in their own, so that nothing sleeps.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Microseconds; realtime since 1970, monotonic since some moment. */
struct clock {
	int64_t (*realtime_us)(void *ctx);
	int64_t (*monotonic_us)(void *ctx);
	void *ctx;
	int64_t (*cpu_us)(void *ctx); /* processor time of this thread; NULL: it costs nothing */
};

const struct clock *clock_system(void);

static inline int64_t clock_realtime_us(const struct clock *clock)
{
	return clock->realtime_us(clock->ctx);
}

static inline int64_t clock_monotonic_us(const struct clock *clock)
{
	return clock->monotonic_us(clock->ctx);
}

static inline int64_t clock_cpu_us(const struct clock *clock)
{
	return clock->cpu_us ? clock->cpu_us(clock->ctx) : 0;
}

/* "2006-01-02T15:04:05.000000Z"; @text has CLOCK_TEXT_SIZE bytes. Returns @text. */
enum { CLOCK_TEXT_SIZE = 64 };
char *clock_format(int64_t realtime_us, char *text);

/* A time span as kubectl shows ages: "42s", "5m10s", "3d4h"; @text has AGE_TEXT_SIZE bytes. */
enum { AGE_TEXT_SIZE = 32 };
char *age_format(int64_t seconds, char *text);

#endif
