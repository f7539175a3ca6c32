/* The words for a service manager, as they arrive at a real datagram socket. */
#include "proxy/serve/notify.h"

#include <check.h>
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

#include "proxy/base/clock.h"

#include "tests/support/suite.h"

/* The manager's end. */
static int manager_open(const char *name)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const size_t n = strlen(name);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	memcpy(to.sun_path, name, n);
	if (name[0] == '@')
		to.sun_path[0] = '\0';
	ck_assert_int_eq(
		bind(fd, (struct sockaddr *)&to,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)),
		0);
	return fd;
}

/* The next datagram; "" if there is none. */
static const char *manager_read(int fd, char *text, size_t size)
{
	ssize_t n = recv(fd, text, size - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* The timers that are set, and when the first of them is due. */
struct timers {
	const struct event *list[8];
	unsigned int count;
	int64_t due_ms; /* from now on */
};

static int note_timer(const struct event_base *base, const struct event *event,
		      void *ctx)
{
	struct timers *t = ctx;
	struct timeval due, now, left;

	if (event_get_fd(event) >= 0 || !event_pending(event, EV_TIMEOUT, &due))
		return 0;
	ck_assert_uint_lt(t->count, sizeof(t->list) / sizeof(t->list[0]));
	event_base_gettimeofday_cached((struct event_base *)(uintptr_t)base, &now);
	evutil_timersub(&due, &now, &left);
	t->list[t->count++] = event;
	t->due_ms = (int64_t)left.tv_sec * 1000 + left.tv_usec / 1000;
	return 0;
}

static struct timers timers_of(struct event_base *base)
{
	struct timers t = { .count = 0 };

	ck_assert_int_eq(event_base_foreach_event(base, note_timer, &t), 0);
	return t;
}

/* As if the time of all timers had come. */
static void pass_time(struct event_base *base)
{
	const struct timers t = timers_of(base);
	unsigned int i;

	for (i = 0; i < t.count; i++)
		event_active((struct event *)(uintptr_t)t.list[i], EV_TIMEOUT, 0);
	event_base_loop(base, EVLOOP_NONBLOCK);
}

static const char *name_of(bool abstract, char *name, size_t size)
{
	snprintf(name, size,
		 abstract ? "@vipmap-notify-%d" : "/tmp/vipmap-notify-%d",
		 (int)getpid());
	return name;
}

static int64_t monotonic_us(void *ctx)
{
	(void)ctx;
	return 12345678;
}

static int64_t realtime_us(void *ctx)
{
	(void)ctx;
	return 1700000000 * INT64_C(1000000);
}

static const struct clock at_12345678_us = { realtime_us, monotonic_us, NULL, NULL };

/* A path and an abstract name. */
START_TEST(what_is_said)
{
	struct event_base *base = event_base_new();
	char name[64], got[600], long_status[1000];
	struct notify_options options = { .base = base, .clock = &at_12345678_us };
	struct errbuf eb = { "" };
	struct notify *n;
	int fd;

	options.socket = name_of(_i, name, sizeof(name));
	fd = manager_open(name);
	n = notify_new(&options, &eb);
	ck_assert_msg(n, "%s", eb.text);
	ck_assert_str_eq(manager_read(fd, got, sizeof(got)), "");

	notify_status(n, "waiting");
	ck_assert_str_eq(manager_read(fd, got, sizeof(got)), "STATUS=waiting\n");
	notify_status(n, "waiting");
	ck_assert_str_eq(manager_read(fd, got, sizeof(got)), "");
	notify_ready(n, "3 service ports");
	ck_assert_str_eq(manager_read(fd, got, sizeof(got)),
			 "READY=1\nSTATUS=3 service ports\n");

	notify_reloading(n, "a\nSTOPPING=1");
	ck_assert_str_eq(
		manager_read(fd, got, sizeof(got)),
		"RELOADING=1\nMONOTONIC_USEC=12345678\nSTATUS=a STOPPING=1\n");

	memset(long_status, 'x', sizeof(long_status) - 1);
	long_status[sizeof(long_status) - 1] = '\0';
	notify_ready(n, long_status);
	ck_assert_uint_eq(strlen(manager_read(fd, got, sizeof(got))),
			  strlen("READY=1\nSTATUS=\n") + 255);
	notify_status(n, long_status);
	ck_assert_str_eq(manager_read(fd, got, sizeof(got)), "");
	notify_stopping(n);
	ck_assert_str_eq(manager_read(fd, got, sizeof(got)), "STOPPING=1\n");

	/* A manager that is gone harms nobody. */
	close(fd);
	notify_status(n, "alone");
	notify_free(n);
	event_base_free(base);
	if (!_i)
		unlink(name);
}
END_TEST

/* The manager's buffer is full: READY=1 comes all the same, later statuses do not replace it. */
START_TEST(ready_is_not_lost)
{
	struct event_base *base = event_base_new();
	char name[64], got[600];
	struct notify_options options = { .base = base, .clock = &at_12345678_us };
	struct errbuf eb = { "" };
	struct notify *n;
	int fd, i, sent = 0, ready = 0;

	options.socket = name_of(true, name, sizeof(name));
	fd = manager_open(name);
	n = notify_new(&options, &eb);
	ck_assert_ptr_nonnull(n);
	for (i = 0; i < 5000; i++) {
		snprintf(got, sizeof(got), "%d", i);
		notify_status(n, got);
	}
	notify_ready(n, "done");
	notify_status(n, "later");
	while (*manager_read(fd, got, sizeof(got))) {
		sent++;
		ready += strncmp(got, "READY=1", 7) == 0;
	}
	ck_assert_int_gt(sent, 0);
	ck_assert_msg(sent < 5000 && !ready,
		      "the buffer was never full: %d of 5000", sent);
	ck_assert_uint_eq(timers_of(base).count, 1);
	ck_assert_int_le(timers_of(base).due_ms, 1000);
	pass_time(base);
	ck_assert_str_eq(manager_read(fd, got, sizeof(got)),
			 "READY=1\nSTATUS=done\n");
	ck_assert_uint_eq(timers_of(base).count, 0);
	notify_free(n);
	event_base_free(base);
	close(fd);
}
END_TEST

static const struct {
	const char *name, *usec, *pid;
	int64_t every_ms; /* half of what is asked for; 0: never */
} watchdogs[] = {
	{ "an hour", "3600000000", NULL, 1800 * 1000 },
	{ "for us", "3600000000", "77", 1800 * 1000 },
	{ "for another process", "100000", "78", 0 },
	{ "none", NULL, NULL, 0 },
	{ "none, for us", NULL, "77", 0 },
	{ "off", "0", NULL, 0 },
	{ "too short to be meant", "100", NULL, 0 },
	{ "not a number", "100ms", NULL, 0 },
	{ "negative", "-100000", NULL, 0 },
	{ "too large", "99999999999999999999999", NULL, 0 },
	{ "no process", "100000", "x", 0 },
};

START_TEST(watchdog)
{
	struct event_base *base = event_base_new();
	char name[64], got[600];
	struct notify_options options = {
		.base = base,
		.clock = &at_12345678_us,
		.watchdog_usec = watchdogs[_i].usec,
		.watchdog_pid = watchdogs[_i].pid,
		.pid = 77,
	};
	struct errbuf eb = { "" };
	struct notify *n;
	const int64_t every_ms = watchdogs[_i].every_ms;
	struct timers timers;
	int fd, i;

	options.socket = name_of(true, name, sizeof(name));
	fd = manager_open(name);
	n = notify_new(&options, &eb);
	ck_assert_msg(n, "%s: %s", watchdogs[_i].name, eb.text);
	/*
	 * A beat at each turn, and the next one due half of the time after it. The loop counts from
	 * when this one was due; the test may lose a minute of the hour.
	 */
	for (i = 0; i < 3; i++) {
		timers = timers_of(base);
		ck_assert_msg(
			timers.count == (every_ms != 0) &&
				timers.due_ms <= (i + 1) * every_ms + 1000 &&
				timers.due_ms >= (i + 1) * every_ms - 60 * 1000,
			"%s: %u timers, after %lld ms", watchdogs[_i].name,
			timers.count, (long long)timers.due_ms);
		pass_time(base);
		ck_assert_str_eq(manager_read(fd, got, sizeof(got)),
				 every_ms ? "WATCHDOG=1\n" : "");
		ck_assert_str_eq(manager_read(fd, got, sizeof(got)), "");
	}
	notify_free(n);
	event_base_free(base);
	close(fd);
}
END_TEST

START_TEST(bad_names)
{
	static const char *const names[] = { "", "@", "/", "relative", "vsock:2:1" };
	struct event_base *base = event_base_new();
	char too_long[200];
	unsigned int i;

	memset(too_long, 'x', sizeof(too_long) - 1);
	too_long[0] = '/';
	too_long[sizeof(too_long) - 1] = '\0';
	for (i = 0; i <= sizeof(names) / sizeof(names[0]); i++) {
		const struct notify_options options = {
			.base = base,
			.clock = &at_12345678_us,
			.socket = i < sizeof(names) / sizeof(names[0]) ? names[i]
								       : too_long,
		};
		struct errbuf eb = { "" };

		ck_assert_msg(!notify_new(&options, &eb), "%s", options.socket);
		ck_assert_msg(eb.text[0], "%s: no message", options.socket);
	}
	event_base_free(base);
}
END_TEST

START_TEST(nobody_manages)
{
	notify_ready(NULL, "");
	notify_reloading(NULL, "");
	notify_stopping(NULL);
	notify_status(NULL, "");
	notify_free(NULL);
}
END_TEST

Suite *make_suite(void)
{
	Suite *s = suite_create("notify");
	TCase *tc = tcase_create("notify");

	tcase_add_loop_test(tc, what_is_said, 0, 2);
	tcase_add_test(tc, ready_is_not_lost);
	ADD_LOOP(tc, watchdog, watchdogs);
	tcase_add_test(tc, bad_names);
	tcase_add_test(tc, nobody_manages);
	suite_add_tcase(s, tc);
	return s;
}
