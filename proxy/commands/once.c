/* --once: brings the kernel in step with the objects, and ends. */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <event2/event.h>

#include "proxy/feed.h"
#include "proxy/startup.h"
#include "proxy/sync/sync.h"
#include "watch/apisource.h"

struct once {
	struct app *app;
	struct feed *feed;
	struct startup *startup;
	struct sync *sync;
	int64_t compile_us, commit_us;
};

static void on_synced(void *ctx, enum family family, int err, const struct sync_report *report,
		      int64_t duration_us)
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
	if (once->feed->source && once->feed->model->complete[KIND_SERVICE_CIDR])
		app_exit(once->app, EXIT_DONE);
}

static void on_ready(void *ctx)
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

static int open_sync(struct once *once, struct errbuf *eb)
{
	struct app *app = once->app;
	const struct sync_options options = {
		.base = app->base,
		.config = once->feed->options.config,
		.model = once->feed->model,
		.log = app->log,
		.family = { app->family[FAMILY_IPV4], app->family[FAMILY_IPV6] },
		.synced = on_synced,
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
	log_debug(once->app->log, 2, "timing: parse %lld ms, compile %lld ms, commit %lld ms",
		  (long long)once->feed->parse_us / 1000, (long long)once->compile_us / 1000,
		  (long long)once->commit_us / 1000);
	return err ? EXIT_FAILED : EXIT_DONE;
}

static int sync_source(struct once *once)
{
	startup_begin(once->startup);
	apisource_start(once->feed->source);
	if (!once->app->ending)
		event_base_dispatch(once->app->base);
	return once->app->exit_status;
}

static int run_once(struct once *once)
{
	struct errbuf eb = { "" };
	int err;

	once->startup = startup_new(once->feed, on_ready, once);
	err = once->startup ? open_sync(once, &eb) : errf(&eb, -ENOMEM, "out of memory");
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
	startup_free(once.startup);
	sync_free(once.sync);
	feed_close(once.feed);
	return status;
}
