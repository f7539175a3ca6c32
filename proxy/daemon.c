/*
 * A changed configuration builds everything anew inside the process and drops the old parts; the
 * table stays as it is meanwhile, and is adopted like after a restart.
 */
#include "proxy/daemon.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/clock.h"
#include "proxy/base/strbuf.h"
#include "proxy/feed.h"
#include "proxy/serve/health.h"
#include "proxy/serve/local.h"
#include "proxy/serve/metrics.h"
#include "proxy/serve/metricsd.h"
#include "proxy/serve/notify.h"
#include "proxy/serve/reporter.h"
#include "proxy/serve/status.h"
#include "proxy/startup.h"
#include "proxy/sync/sync.h"
#include "proxy/sysctl.h"
#include "watch/apisource.h"
#include "watch/manifests.h"

enum {
	EVENT_WAIT_S = 5,
	CONFIG_POLL_S = 2,	     /* CFG-3: a mounted ConfigMap is swapped by a symbolic link */
	RELOAD_DELAY_US = 20 * 1000, /* editors and kubelet write in several steps */
};

/* Everything that a changed configuration replaces. */
struct instance {
	struct app *app;
	struct feed *feed;
	struct startup *startup;
	struct sync *sync;
	struct metrics *metrics;
	struct metricsd *metricsd;
	struct health *health;
	struct reporter *reporter;
	struct notify *notify; /* borrowed; NULL: nobody manages us */
	struct event *manifests_event, *reload_timer;
	bool started;
	struct prefix pod_cidr[N_FAMILIES]; /* NODE-3: in use */
	bool has_pod_cidr[N_FAMILIES];
};

struct daemon {
	struct app *app;
	struct instance *instance;
	struct local *local;
	struct event *config_timer;
	int64_t started_us; /* CLOCK_REALTIME */
	struct notify *notify;
};

static int64_t now_us(void)
{
	return clock_monotonic_us(clock_system());
}

static void on_message(void *ctx, int severity, const char *message)
{
	struct instance *in = ctx;

	log_message(in->app->log, severity, message);
}

/* Sources of objects */

/* A good moment to sync. Whether the node is eligible (HZ-4) needs no sync. */
static void model_changed(struct instance *in)
{
	health_set_node(in->health, in->feed->model->node);
	reporter_set_arrival(in->reporter, feed_arrived_us(in->feed));
	sync_request(in->sync);
	reporter_set_arrival(in->reporter, 0);
}

static void on_reload(evutil_socket_t fd, short what, void *ctx)
{
	struct instance *in = ctx;
	struct errbuf eb = { "" };

	(void)fd;
	(void)what;
	/* a broken file changes nothing; the next change of it is tried again */
	if (feed_load_manifests(in->feed, &eb))
		log_error(in->app->log, "manifests stay as they were: %s", eb.text);
	else
		model_changed(in);
}

static void on_manifests(evutil_socket_t fd, short what, void *ctx)
{
	const struct timeval delay = { 0, RELOAD_DELAY_US };
	struct instance *in = ctx;

	(void)fd;
	(void)what;
	if (manifests_changed(in->feed->manifests))
		event_add(in->reload_timer, &delay);
}

static int follow_manifests(struct instance *in)
{
	struct event_base *base = in->app->base;
	int fd = manifests_fd(in->feed->manifests);

	if (fd < 0)
		return 0;
	in->reload_timer = evtimer_new(base, on_reload, in);
	in->manifests_event = event_new(base, fd, EV_READ | EV_PERSIST, on_manifests, in);
	if (!in->reload_timer || !in->manifests_event)
		return -ENOMEM;
	return event_add(in->manifests_event, NULL) ? -EIO : 0;
}

/* The node */

/* NODE-3: rules and detection depend on these; another range means another program. */
static bool pod_cidrs_changed(struct instance *in)
{
	const struct node *node = in->feed->model->node;
	unsigned int f;

	if (in->feed->options.config->detect_local != DETECT_NODE_CIDR || !node)
		return false;
	for (f = 0; f < N_FAMILIES; f++) {
		const struct prefix_list *list = &node->pod_cidrs[f];

		if (in->has_pod_cidr[f] != (list->count > 0) ||
		    (list->count &&
		     memcmp(&in->pod_cidr[f], &list->items[0], sizeof(struct prefix))))
			return true;
	}
	return false;
}

static void remember_pod_cidrs(struct instance *in)
{
	const struct node *node = in->feed->model->node;
	unsigned int f;

	for (f = 0; node && f < N_FAMILIES; f++) {
		in->has_pod_cidr[f] = node->pod_cidrs[f].count > 0;
		if (in->has_pod_cidr[f])
			in->pod_cidr[f] = node->pod_cidrs[f].items[0];
	}
}

static void on_ready(void *ctx)
{
	struct instance *in = ctx;

	in->started = true;
	remember_pod_cidrs(in);
	sync_start(in->sync);
}

/* Events from the API server */

static void on_settled(void *ctx)
{
	struct instance *in = ctx;

	startup_settled(in->startup);
	if (in->started && pod_cidrs_changed(in)) {
		log_error(in->app->log, "Node %s: spec.podCIDRs changed: ending, to begin afresh",
			  in->feed->node_name);
		app_exit(in->app, EXIT_FAILED);
		return;
	}
	model_changed(in);
}

/* Instances */

static void instance_free(struct instance *in)
{
	if (!in)
		return;
	if (in->manifests_event)
		event_free(in->manifests_event);
	if (in->reload_timer)
		event_free(in->reload_timer);
	startup_free(in->startup);
	sync_free(in->sync);
	reporter_free(in->reporter);
	metricsd_free(in->metricsd);
	health_free(in->health);
	feed_close(in->feed);
	metrics_free(in->metrics);
	free(in);
}

/* HC-7 */
static void on_service_event(void *ctx, const char *namespace, const char *name, const char *uid,
			     const char *reason, const char *note)
{
	struct instance *in = ctx;
	const struct apisource_event event = {
		.kind = KIND_SERVICE,
		.namespace = namespace,
		.name = name,
		.uid = uid,
		.type = "Warning",
		.reason = reason,
		.action = "Listen",
		.note = note,
	};

	if (in->feed->source)
		apisource_post_event(in->feed->source, &event);
}

/* For health and metrics */
static void ask_source(void *ctx, struct health_source *source)
{
	struct instance *in = ctx;
	const struct apisource_status status = apisource_status(in->feed->source);

	source->connected = status.connected[KIND_SERVICE] && status.connected[KIND_SLICE];
	source->contact_us = status.last_contact_us;
}

static void refresh_metrics(void *ctx)
{
	struct instance *in = ctx;
	struct health_source source;

	metrics_set(in->metrics, METRIC_HEALTHY, 0,
		    health_is_healthy(in->health) && health_is_eligible(in->health));
	if (!in->feed->source)
		return;
	ask_source(in, &source);
	metrics_set(in->metrics, METRIC_API_CONNECTED, 0, source.connected);
	if (source.contact_us)
		metrics_set(
			in->metrics, METRIC_API_CONTACT, 0,
			(double)(clock_realtime_us(clock_system()) - now_us() + source.contact_us) /
				1e6);
}

static int open_health(struct instance *in, struct errbuf *eb)
{
	const struct config *config = in->feed->options.config;
	const struct health_options options = {
		.base = in->app->base,
		.address = config->healthz_bind_address,
		.hard_fail = config->bind_address_hard_fail,
		.sync_period_ms = config->sync_period_ms,
		.node_name = in->feed->node_name,
		.metrics = in->metrics,
		.log = on_message,
		.source = in->feed->source ? ask_source : NULL,
		.service_event = on_service_event,
		.ctx = in,
	};

	in->health = health_new(&options, eb);
	if (in->health)
		return 0;
	feed_post_node_event(in->feed, "Warning", "FailedToStartProxierHealthcheck", eb->text);
	return -EIO;
}

static int on_page(void *ctx, const char *path, const char *query, struct strbuf *out)
{
	struct instance *in = ctx;

	(void)query;
	if (strcmp(path, "/status"))
		return 404;
	status_format(in->feed->model, in->metrics, out);
	return 200;
}

static int open_metricsd(struct instance *in, struct errbuf *eb)
{
	const struct metricsd_options options = {
		.base = in->app->base,
		.config = in->feed->options.config,
		.metrics = in->metrics,
		.refresh = refresh_metrics,
		.log = on_message,
		.page = on_page,
		.ctx = in,
	};

	in->metricsd = metricsd_new(&options, eb);
	if (in->metricsd)
		return 0;
	feed_post_node_event(in->feed, "Warning", "FailedToStartMetricServer", eb->text);
	return -EIO;
}

static int open_servers(struct instance *in, struct errbuf *eb)
{
	int err;

	in->metrics = metrics_new();
	if (!in->metrics)
		return errf(eb, -ENOMEM, "out of memory");
	metrics_set_revision(in->metrics, in->app->revision);
	metrics_set(in->metrics, METRIC_RELOAD_SUCCESSFUL, 0, 1);
	metrics_set(in->metrics, METRIC_RELOAD_TIME, 0,
		    (double)clock_realtime_us(clock_system()) / 1e6);
	if (in->feed->source)
		metrics_show_api(in->metrics);
	in->feed->metrics = in->metrics;
	err = open_health(in, eb);
	if (!err)
		err = open_metricsd(in, eb);
	if (err)
		return err;
	in->reporter = reporter_new(in->feed->model, in->metrics, in->health, in->app->family);
	if (!in->reporter)
		return errf(eb, -ENOMEM, "out of memory");
	reporter_set_notify(in->reporter, in->notify);
	return 0;
}

static int open_sync(struct instance *in, struct errbuf *eb)
{
	struct app *app = in->app;
	struct sync_options options = {
		.base = app->base,
		.config = in->feed->options.config,
		.model = in->feed->model,
		.log = app->log,
		.family = { app->family[FAMILY_IPV4], app->family[FAMILY_IPV6] },
	};
	int err;

	reporter_attach(in->reporter, &options);
	in->sync = sync_new(&options, &err, eb);
	reporter_set_sync(in->reporter, in->sync);
	return in->sync ? 0 : err;
}

/* Takes over @options. NULL with @eb after an error; the kernel is not touched yet. */
static struct instance *instance_new(struct app *app, struct options *options, struct errbuf *eb)
{
	struct instance *in = calloc(1, sizeof(*in));

	if (!in) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	in->app = app;
	in->feed = feed_open(app, options, on_settled, in, eb);
	if (in->feed && !(in->startup = startup_new(in->feed, on_ready, in)))
		errf(eb, -ENOMEM, "out of memory");
	if (!in->startup) {
		instance_free(in);
		return NULL;
	}
	return in;
}

/* Begins to program the kernel, and to follow the source. */
static int instance_start(struct instance *in, struct errbuf *eb)
{
	int err;

	err = open_servers(in, eb);
	if (!err)
		err = open_sync(in, eb);
	if (err)
		return err;
	if (in->feed->manifests && follow_manifests(in))
		return errf(eb, -EIO, "manifests: cannot follow changes");
	startup_begin(in->startup);
	if (in->feed->source)
		apisource_start(in->feed->source);
	return 0;
}

/*
 * CFG-3: a good configuration replaces the old one, a bad one is reported. The table may belong to
 * the old instance's socket, so that one is closed before the new one adopts the table.
 */
static void reload_config(void *ctx)
{
	struct daemon *d = ctx;
	struct app *app = d->app;
	struct instance *old = d->instance;
	struct options options = { 0 };
	struct errbuf eb = { "" };
	struct instance *fresh = NULL;
	const bool ready = reporter_has_settled(old->reporter);

	if (ready)
		notify_reloading(d->notify, "the configuration is read again");
	if (app_parse_options(app, &options, &eb) == 0)
		fresh = instance_new(app, &options, &eb);
	options_free(&options);
	/* What would end the new instance as soon as it knows the Node, the old one knows now. */
	if (fresh && old->started &&
	    startup_check_families(app, fresh->feed->options.config, old->feed->model->node, NULL,
				   &eb)) {
		instance_free(fresh);
		fresh = NULL;
	}
	if (!fresh) {
		metrics_set(old->metrics, METRIC_RELOAD_SUCCESSFUL, 0, 0);
		log_error(app->log, "configuration stays as it was: %s", eb.text);
		if (ready)
			notify_ready(d->notify, "the new configuration is refused, the one before "
						"stays in force");
		return;
	}
	log_info(app->log, "configuration is read again");
	instance_free(old);
	d->instance = fresh;
	fresh->notify = d->notify;
	app_set_log(app, fresh->feed->options.config);
	if (instance_start(fresh, &eb)) {
		log_error(app->log, "beginning again with the new configuration: %s", eb.text);
		app_exit(app, EXIT_FAILED);
	}
}

/* For the local socket */
static void look(void *ctx, struct view *view)
{
	const struct daemon *d = ctx;
	const struct instance *in = d->instance;
	struct apisource_status source;

	if (!in || !in->sync)
		return;
	*view = (struct view){
		.config = in->feed->options.config,
		.model = in->feed->model,
		.node_name = in->feed->node_name,
		.revision = d->app->revision,
		.sync = in->sync,
		.health = in->health,
		.metrics = in->metrics,
		.log = d->app->log,
		.started_us = d->started_us,
	};
	if (!in->feed->source)
		return;
	source = apisource_status(in->feed->source);
	view->source = (struct view_source){
		.server = source.server,
		.connected = source.connected[KIND_SERVICE] && source.connected[KIND_SLICE],
		.listed = source.listed[KIND_SERVICE] && source.listed[KIND_SLICE],
		.contact_us = source.last_contact_us,
		.lost_us = source.tries ? source.lost_us : 0,
		.tries = source.tries,
		.reason = source.reason,
	};
}

static void on_local_message(void *ctx, int severity, const char *message)
{
	struct daemon *d = ctx;

	log_message(d->app->log, severity, message);
}

static int open_local(struct daemon *d)
{
	const struct local_options options = {
		.base = d->app->base,
		.look = look,
		.log = on_local_message,
		.ctx = d,
	};

	d->local = local_new(&options);
	return d->local ? 0 : -ENOMEM;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void on_config_poll(evutil_socket_t fd, short what, void *ctx)
{
	struct daemon *d = ctx;
	struct stat now;

	(void)fd;
	(void)what;
	if (stat(d->instance->feed->options.config_path, &now) ||
	    same_file(&now, &d->app->config_stat))
		return;
	reload_config(d);
}

static void watch_config(struct daemon *d)
{
	const struct timeval poll_period = { CONFIG_POLL_S, 0 };
	const char *path = d->instance->feed->options.config_path;

	if (!path)
		return;
	d->config_timer = event_new(d->app->base, -1, EV_PERSIST, on_config_poll, d);
	if (d->config_timer)
		event_add(d->config_timer, &poll_period);
}

static void on_sysctl_failed(void *ctx, const char *message)
{
	struct daemon *d = ctx;

	log_warning(d->app->log, "%s", message);
	feed_post_node_event(d->instance->feed, "Warning", "FailedToSetKernelParameter", message);
}

static void on_sysctl_written(void *ctx, const char *message)
{
	struct daemon *d = ctx;

	log_info(d->app->log, "%s", message);
}

/* Section 21. Failures are told and go no further. */
static void set_kernel(struct daemon *d)
{
	const struct config *config = d->instance->feed->options.config;
	const struct sysctl_report report = {
		.failed = on_sysctl_failed,
		.refused = on_sysctl_written,
		.written = on_sysctl_written,
		.ctx = d,
	};

	sysctl_apply(config, sysctl_count_cpus(), NULL, &report);
	sysctl_apply_oom_score(config, NULL, &report);
}

/* Those that tell why it ends would end with it. */
static void send_events(struct instance *in)
{
	const struct timeval patience = { EVENT_WAIT_S, 0 };

	if (!in->feed->source || !apisource_is_posting(in->feed->source))
		return;
	event_base_loopexit(in->app->base, &patience);
	while (!event_base_got_exit(in->app->base) && !in->app->ending &&
	       apisource_is_posting(in->feed->source))
		event_base_loop(in->app->base, EVLOOP_ONCE);
}

static int start(struct daemon *d, struct options *options)
{
	struct errbuf eb = { "" };
	int err;

	d->instance = instance_new(d->app, options, &eb);
	if (!d->instance) {
		err = feed_exit_status(errno);
		log_error(d->app->log, "%s", eb.text);
		return err;
	}
	d->instance->notify = d->notify;
	err = open_local(d);
	if (err)
		errf(&eb, err, "local socket: out of memory");
	else
		err = instance_start(d->instance, &eb);
	if (err) {
		log_error(d->app->log, "%s", eb.text);
		send_events(d->instance);
		return err == -EOPNOTSUPP ? EXIT_KERNEL : EXIT_FAILED;
	}
	set_kernel(d);
	feed_post_node_event(d->instance->feed, "Normal", "Starting", "");
	watch_config(d);
	if (!d->app->ending)
		event_base_dispatch(d->app->base);
	return d->app->exit_status;
}

/* What the service manager says it listens to, if there is one. */
static struct notify *open_notify(struct app *app)
{
	const struct notify_options options = {
		.base = app->base,
		.socket = getenv("NOTIFY_SOCKET"),
		.watchdog_usec = getenv("WATCHDOG_USEC"),
		.watchdog_pid = getenv("WATCHDOG_PID"),
		.pid = getpid(),
	};
	struct errbuf eb = { "" };
	struct notify *notify;

	if (!options.socket || !*options.socket)
		return NULL;
	notify = notify_new(&options, &eb);
	if (!notify)
		log_warning(app->log, "NOTIFY_SOCKET: %s: the service manager hears nothing",
			    eb.text);
	return notify;
}

int daemon_run(struct app *app, struct options *options)
{
	struct daemon d = { .app = app, .started_us = clock_realtime_us(clock_system()) };
	int status;

	if (app_watch_signals(app, reload_config, &d)) {
		log_error(app->log, "signals: out of memory");
		return EXIT_FAILED;
	}
	d.notify = open_notify(app);
	startup_look_for_rivals(app);
	status = start(&d, options);
	local_free(d.local);
	notify_stopping(d.notify);
	instance_free(d.instance);
	notify_free(d.notify);
	if (d.config_timer)
		event_free(d.config_timer);
	return status;
}
