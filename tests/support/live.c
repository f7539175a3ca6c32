/* The loop is ended by the condition or by the deadline, both looked at every few milliseconds. */
#include "tests/support/live.h"

#include <check.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEADLINE_MS = 20 * 1000, TEXT_MAX = 1500 };

static void live_log(void *ctx, int severity, const char *message)
{
	struct live *live = ctx;

	strbuf_addf(&live->log, "%d %s\n", severity, message);
}

static void live_settled(void *ctx)
{
	struct live *live = ctx;

	live->n_settled++;
}

void live_open(struct live *live)
{
	memset(live, 0, sizeof(*live));
	live->base = event_base_new();
	live->config = config_new();
	ck_assert_ptr_nonnull(live->config);
	live->config->qps = -1;
	live->sink = recording_sink_new();
	strbuf_adds(&live->log, "");
	live->tuning.timing = (struct api_timing){
		.connect_ms = 5000,
		.list_idle_ms = 10000,
		.watch_idle_ms = 10000,
		.backoff_initial_ms = 4,
		.backoff_max_ms = 60,
		.absent_ms = 30,
		.retry_after_max_ms = 30,
		.short_watch_ms = 5,
		.steady_ms = 50,
		.log_ms = 1000,
		.token_age_ms = 20,
		.watch_min_s = 300,
		.watch_max_s = 600,
		.page_limit = 500,
	};
	live->tuning.clock = clock_system();
	live->tuning.service_account = "/nonexistent";
	live->tuning.seed = 1;
}

void live_master(struct live *live, int port)
{
	char master[64];

	snprintf(master, sizeof(master), "http://127.0.0.1:%d", port);
	ck_assert_int_eq(config_set(&live->config->master, master), 0);
}

void live_start(struct live *live)
{
	const struct apisource_options options = {
		.config = live->config,
		.node_name = "node-a",
		.log = live_log,
		.settled = live_settled,
		.ctx = live,
	};
	struct errbuf eb = { "" };

	live->source = apisource_new_tuned(live->base, &options, &live->tuning,
					   recording_sink_ops(live->sink), &eb);
	ck_assert_msg(live->source, "%s", eb.text);
	apisource_start(live->source);
}

void live_close(struct live *live)
{
	apisource_free(live->source);
	recording_sink_free(live->sink);
	config_free(live->config);
	event_base_free(live->base);
	strbuf_free(&live->log);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void tick(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	(void)ctx;
}

/* Check takes no messages of any length. */
static const char *end_of(const char *text)
{
	size_t length = strlen(text);

	return length > TEXT_MAX ? text + length - TEXT_MAX : text;
}

void live_until(struct live *live,
		bool (*is_so)(struct live *live, const void *arg),
		const void *arg, const char *what)
{
	struct event *event = event_new(live->base, -1, EV_PERSIST, tick, NULL);
	struct timeval interval = { 0, 3000 };
	int64_t end = now_ms() + DEADLINE_MS;

	event_add(event, &interval);
	while (!is_so(live, arg)) {
		if (now_ms() > end)
			ck_abort_msg(
				"%s: not so after %d s; log:\n%s\njournal:\n%s",
				what, DEADLINE_MS / 1000, end_of(live->log.text),
				end_of(recording_sink_journal(live->sink)));
		event_base_loop(live->base, EVLOOP_ONCE);
	}
	event_free(event);
}

static bool is_later(struct live *live, const void *end)
{
	(void)live;
	return now_ms() >= *(const int64_t *)end;
}

void live_run_ms(struct live *live, int ms)
{
	int64_t end = now_ms() + ms;

	live_until(live, is_later, &end, "time passes");
}

bool live_all_listed(struct live *live, const void *unused)
{
	struct apisource_status status = apisource_status(live->source);

	(void)unused;
	for (int kind = 0; kind < N_KINDS; kind++)
		if (!status.listed[kind])
			return false;
	return true;
}

bool live_all_connected(struct live *live, const void *unused)
{
	struct apisource_status status = apisource_status(live->source);

	(void)unused;
	for (int kind = 0; kind < N_KINDS; kind++)
		if (!status.connected[kind])
			return false;
	return true;
}

bool live_journal_has(struct live *live, const void *text)
{
	return strstr(recording_sink_journal(live->sink), text);
}

bool live_log_has(struct live *live, const void *text)
{
	return strstr(live->log.text, text);
}
