/* The system's clocks, and time as text: RFC 3339 in UTC with microseconds, as Kubernetes writes
 * it. */
#include "proxy/base/clock.h"

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

const struct clock *clock_system(void)
{
	static const struct clock system_clock = { system_realtime_us, system_monotonic_us, NULL };

	return &system_clock;
}

char *clock_format(int64_t realtime_us, char *text)
{
	time_t seconds = (time_t)(realtime_us / 1000000);
	struct tm utc = { 0 };
	char day[32] = "";

	if (gmtime_r(&seconds, &utc))
		strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(text, CLOCK_TEXT_SIZE, "%s.%06uZ", day, (unsigned int)(realtime_us % 1000000));
	return text;
}
