/* --once: brings the kernel in step with the objects, and ends. */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <event2/event.h>

#include "proxy/base/clock.h"
#include "proxy/base/strbuf.h"
#include "proxy/feed.h"
#include "proxy/startup.h"
#include "proxy/sync/sync.h"
#include "watch/apisource.h"

struct once {
	struct app *app;
	struct feed *feed;
	struct startup *startup;
	struct sync *sync;
	struct event *timer; /* of --timeout */
	int64_t compile_us, commit_us;
};

static void on_once_synced(void *ctx, enum family family, int err,
			   const struct sync_report *report, int64_t duration_us)
{
	struct once *once = ctx;

	(void)family;
	(void)duration_us;
	once->compile_us += report->compile_us;
	once->commit_us += report->commit_us;
	if (err && once->feed->source)
		app_exit(once->app, EXIT_FAILED);
}

static void on_in_step(void *ctx)
{
	struct once *once = ctx;

	/* Service ranges may come last, and nobody would add them later. */
	if (once->feed->source &&
	    model_has_list(once->feed->model, KIND_SERVICE_CIDR))
		app_exit(once->app, EXIT_DONE);
}

static void on_once_ready(void *ctx)
{
	struct once *once = ctx;

	sync_start(once->sync);
}

static void on_objects(void *ctx)
{
	struct once *once = ctx;

	startup_settled(once->startup);
	sync_request(once->sync);
}

static int open_once_sync(struct once *once, struct errbuf *eb)
{
	struct app *app = once->app;
	const struct sync_options options = {
		.base = app->base,
		.clock = app->clock,
		.config = once->feed->options.config,
		.model = once->feed->model,
		.log = app->log,
		.family = { app->family[FAMILY_IPV4], app->family[FAMILY_IPV6] },
		.synced = on_once_synced,
		.settled = on_in_step,
		.ctx = once,
	};
	int err;

	once->sync = sync_new(&options, &err, eb);
	return once->sync ? 0 : err;
}

static int sync_manifests(struct once *once)
{
	int err;

	if (!startup_node_fits(once->feed))
		return EXIT_FAILED;
	err = sync_once(once->sync);
	log_debug(once->app->log, 2,
		  "timing: parse %lld ms, compile %lld ms, commit %lld ms",
		  (long long)once->feed->parse_us / 1000,
		  (long long)once->compile_us / 1000,
		  (long long)once->commit_us / 1000);
	return err ? EXIT_FAILED : EXIT_DONE;
}

/* Once all is listed, the wait for the Node has limits of its own. */
static void on_timeout(evutil_socket_t fd, short what, void *ctx)
{
	struct once *once = ctx;
	struct strbuf why = STRBUF_INIT;
	char age[AGE_TEXT_SIZE];

	(void)fd;
	(void)what;
	if (feed_is_complete(once->feed))
		return;
	feed_missing(once->feed, &why);
	log_error(once->app->log, "gave up after %s: %s; rules stay as they are",
		  age_format(once->feed->options.timeout_ms / 1000, age),
		  why.text ? why.text : "");
	strbuf_free(&why);
	app_exit(once->app, EXIT_FAILED);
}

static int sync_source(struct once *once)
{
	const int64_t ms = once->feed->options.timeout_ms;
	const struct timeval patience = { ms / 1000, ms % 1000 * 1000 };

	once->timer = evtimer_new(once->app->base, on_timeout, once);
	if (!once->timer || event_add(once->timer, &patience)) {
		log_error(once->app->log, "out of memory");
		return EXIT_FAILED;
	}
	startup_begin(once->startup);
	log_info(once->app->log, "API server: %s",
		 apisource_status(once->feed->source).server);
	apisource_start(once->feed->source);
	if (!once->app->ending)
		event_base_dispatch(once->app->base);
	if (once->app->signal && once->app->exit_status)
		log_error(once->app->log,
			  "ended by a signal; rules stay as they are");
	return once->app->exit_status;
}

static int run_once(struct once *once)
{
	struct errbuf eb = { "" };
	int err;

	once->startup = startup_new(once->feed, on_once_ready, once);
	err = once->startup ? open_once_sync(once, &eb)
			    : errf(&eb, -ENOMEM, "out of memory");
	if (err) {
		log_error(once->app->log, "%s", eb.text);
		return err == -EOPNOTSUPP ? EXIT_KERNEL : EXIT_FAILED;
	}
	return once->feed->manifests ? sync_manifests(once) : sync_source(once);
}

int command_once(struct app *app, struct options *options)
{
	struct once once = { .app = app };
	struct errbuf eb = { "" };
	int status;

	app->end_status =
		EXIT_FAILED; /* whoever ends it, ends it before it is done */
	if (app_watch_signals(app, NULL, NULL)) {
		log_error(app->log, "signals: out of memory");
		return EXIT_FAILED;
	}
	startup_look_for_rivals(app);
	once.feed = feed_open(app, options, on_objects, &once, &eb);
	if (!once.feed) {
		status = feed_exit_status(errno);
		log_error(app->log, "%s", eb.text);
		return status;
	}
	status = run_once(&once);
	if (once.timer)
		event_free(once.timer);
	startup_free(once.startup);
	sync_free(once.sync);
	feed_close(once.feed);
	return status;
}
