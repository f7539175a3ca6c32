/* The system's clocks, and time as text: RFC 3339 in UTC with microseconds, as
 * Kubernetes writes it. */
#include "proxy/base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t system_realtime_us(void *ctx)
{
	(void)ctx;
	return read_us(CLOCK_REALTIME);
}

static int64_t system_monotonic_us(void *ctx)
{
	(void)ctx;
	return read_us(CLOCK_MONOTONIC);
}

static int64_t system_cpu_us(void *ctx)
{
	(void)ctx;
	return read_us(CLOCK_THREAD_CPUTIME_ID);
}

const struct clock *clock_system(void)
{
	static const struct clock system_clock = { system_realtime_us,
						   system_monotonic_us, NULL,
						   system_cpu_us };

	return &system_clock;
}

char *clock_format(int64_t realtime_us, char *text)
{
	time_t seconds = (time_t)(realtime_us / 1000000);
	struct tm utc = { 0 };
	char day[32] = "";

	if (gmtime_r(&seconds, &utc))
		strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(text, CLOCK_TEXT_SIZE, "%s.%06uZ", day,
		 (unsigned int)(realtime_us % 1000000));
	return text;
}

/* Two units at most, the smaller one only while it matters. */
char *age_format(int64_t s, char *text)
{
	const int64_t minute = 60, hour = 3600, day = 86400;

	if (s < 0)
		s = 0;
	if (s < 2 * minute)
		snprintf(text, AGE_TEXT_SIZE, "%" PRId64 "s", s);
	else if (s < 10 * minute && s % minute)
		snprintf(text, AGE_TEXT_SIZE, "%" PRId64 "m%" PRId64 "s",
			 s / minute, s % minute);
	else if (s < 3 * hour)
		snprintf(text, AGE_TEXT_SIZE, "%" PRId64 "m", s / minute);
	else if (s < 8 * hour && s % hour >= minute)
		snprintf(text, AGE_TEXT_SIZE, "%" PRId64 "h%" PRId64 "m",
			 s / hour, s % hour / minute);
	else if (s < 2 * day)
		snprintf(text, AGE_TEXT_SIZE, "%" PRId64 "h", s / hour);
	else if (s < 8 * day && s % day >= hour)
		snprintf(text, AGE_TEXT_SIZE, "%" PRId64 "d%" PRId64 "h",
			 s / day, s % day / hour);
	else
		snprintf(text, AGE_TEXT_SIZE, "%" PRId64 "d", s / day);
	return text;
}
