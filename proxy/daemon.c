/*
 * A changed configuration is compared with the one in force (CFG-3). Whatever
 * can fail is tried first: reading, checks, credentials, addresses to listen
 * on. Then each part takes what concerns it, so that a bad configuration
 * changes nothing at all, and a good one only what differs: the model, the
 * watches, the servers and what the kernel has live as long as the process.
 */
#include "proxy/daemon.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "proxy/base/clock.h"
#include "proxy/base/strbuf.h"
#include "proxy/feed.h"
#include "proxy/model/config_diff.h"
#include "proxy/serve/connections.h"
#include "proxy/serve/forward.h"
#include "proxy/serve/health.h"
#include "proxy/serve/local.h"
#include "proxy/serve/localports.h"
#include "proxy/serve/metrics.h"
#include "proxy/serve/metricsd.h"
#include "proxy/serve/news.h"
#include "proxy/serve/notify.h"
#include "proxy/serve/reporter.h"
#include "proxy/serve/status.h"
#include "proxy/startup.h"
#include "proxy/sync/sync.h"
#include "proxy/sysctl.h"
#include "proxy/takeover.h"
#include "watch/apisource.h"
#include "watch/manifests.h"

enum {
	EVENT_WAIT_S = 5,
	CONFIG_POLL_S =
		2, /* CFG-3: a mounted ConfigMap is swapped by a symbolic link */
	RELOAD_AGAIN_S = 1, /* without memory */
	RELOAD_DELAY_US =
		20 * 1000, /* editors and kubelet write in several steps */
	/* What changed while there was no API server is known after so many steps in a row with
	 * watches; after so many in all it is not waited for any more. */
	MEANWHILE_STEP_US = 500 * 1000,
	MEANWHILE_QUIET = 3,
	MEANWHILE_MAX = 240,
};

struct daemon {
	struct app *app;
	struct feed *feed;
	struct startup *startup;
	struct sync *sync;
	struct metrics *metrics;
	struct metricsd *metricsd;
	struct census *census; /* of connections */
	struct health *health;
	struct reporter *reporter;
	struct forwarder *forwarder;
	struct localports *localports;
	struct takeover *takeover;
	struct local *local;
	struct news *news;
	const char *topic; /* what is logged now is about; NULL: see on_logged_line() */
	unsigned int no_server; /* tries in a row that reached none, when last looked at */
	struct event *meanwhile_timer;
	unsigned int quiet_steps, meanwhile_steps;
	struct notify *notify; /* NULL: nobody manages us */
	struct event *manifests_event, *reload_timer, *config_timer;
	int64_t began_us;   /* monotonic */
	int64_t started_us; /* since 1970 */
	bool started; /* all parts are there, and the loop is about to run */
	/* NODE-3: in use, and of which Node */
	struct prefix pod_cidr[N_FAMILIES];
	bool has_pod_cidr[N_FAMILIES];
	char pod_cidr_node[NODE_NAME_SIZE];
};

static void on_message(void *ctx, int severity, const char *message)
{
	struct daemon *d = ctx;

	log_message(d->app->log, severity, message);
}

/* Sources of objects */

/* A good moment to sync. Whether the node is eligible (HZ-4) needs no sync. */
static void model_changed(struct daemon *d)
{
	health_set_node(d->health, model_node(d->feed->model));
	news_node(d->news);
	reporter_set_arrival(d->reporter, feed_arrived_us(d->feed));
	sync_request(d->sync);
	reporter_set_arrival(d->reporter, 0);
}

/* A broken file changes nothing; the next change of it is tried again. */
static void load_manifests(struct daemon *d)
{
	const struct timeval later = { RELOAD_AGAIN_S, 0 };
	struct errbuf eb = { "" };
	int err = feed_load_manifests(d->feed, &eb);

	if (err && err != -ENOMEM) {
		log_error(d->app->log, "manifests stay as they were: %s", eb.text);
		return;
	}
	if (err && d->reload_timer) { /* some of it may have arrived */
		log_limited(d->app->log, LOG_ERR, "manifests",
			    "manifests: out of memory; they are read again in %d s",
			    RELOAD_AGAIN_S);
		event_add(d->reload_timer, &later);
	}
	model_changed(d);
}

static void on_reload(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	load_manifests(ctx);
}

static void on_manifests(evutil_socket_t fd, short what, void *ctx)
{
	const struct timeval delay = { 0, RELOAD_DELAY_US };
	struct daemon *d = ctx;

	(void)fd;
	(void)what;
	if (manifests_changed(d->feed->manifests))
		event_add(d->reload_timer, &delay);
}

static int follow_manifests(struct daemon *d)
{
	struct event_base *base = d->app->base;
	int fd = manifests_fd(d->feed->manifests);

	if (fd < 0)
		return 0;
	if (!d->reload_timer)
		d->reload_timer = evtimer_new(base, on_reload, d);
	d->manifests_event =
		event_new(base, fd, EV_READ | EV_PERSIST, on_manifests, d);
	if (!d->reload_timer || !d->manifests_event)
		return -ENOMEM;
	return event_add(d->manifests_event, NULL) ? -EIO : 0;
}

/* The node */

static void remember_pod_cidrs(struct daemon *d)
{
	const struct node *node = model_node(d->feed->model);
	unsigned int f;

	if (!node)
		return;
	snprintf(d->pod_cidr_node, sizeof(d->pod_cidr_node), "%s", node->name);
	for (f = 0; f < N_FAMILIES; f++) {
		d->has_pod_cidr[f] = node->pod_cidrs[f].count > 0;
		if (d->has_pod_cidr[f])
			d->pod_cidr[f] = node->pod_cidrs[f].items[0];
	}
}

/*
 * NODE-3: rules and detection depend on these; another range means another
 * program. Not so if it is another Node by now (hostnameOverride).
 */
static bool pod_cidrs_changed(struct daemon *d)
{
	const struct node *node = model_node(d->feed->model);
	unsigned int f;

	if (d->feed->options.config->detect_local != DETECT_NODE_CIDR || !node)
		return false;
	if (strcmp(node->name, d->pod_cidr_node)) {
		remember_pod_cidrs(d);
		return false;
	}
	for (f = 0; f < N_FAMILIES; f++) {
		const struct prefix_list *list = &node->pod_cidrs[f];

		if (d->has_pod_cidr[f] != (list->count > 0) ||
		    (list->count && memcmp(&d->pod_cidr[f], &list->items[0],
					   sizeof(struct prefix))))
			return true;
	}
	return false;
}

static void on_ready(void *ctx)
{
	struct daemon *d = ctx;

	remember_pod_cidrs(d);
	sync_start(d->sync);
}

/* Events from the API server */

static void on_startup_settled(void *ctx)
{
	struct daemon *d = ctx;

	startup_settled(d->startup);
	if (startup_is_over(d->startup) && pod_cidrs_changed(d)) {
		log_error(d->app->log,
			  "Node %s: spec.podCIDRs changed: ending, to begin afresh",
			  d->feed->node_name);
		app_exit(d->app, EXIT_FAILED);
		return;
	}
	model_changed(d);
}

static void close_all(struct daemon *d)
{
	if (d->config_timer)
		event_free(d->config_timer);
	if (d->meanwhile_timer)
		event_free(d->meanwhile_timer);
	if (d->manifests_event)
		event_free(d->manifests_event);
	if (d->reload_timer)
		event_free(d->reload_timer);
	startup_free(d->startup);
	census_free(d->census);
	sync_free(d->sync);
	takeover_free(d->takeover);
	reporter_free(d->reporter);
	localports_free(d->localports);
	forwarder_free(d->forwarder);
	metricsd_free(d->metricsd);
	health_free(d->health);
	feed_close(d->feed);
	metrics_free(d->metrics);
}

/* HC-7 */
static void on_service_event(void *ctx, const char *namespace, const char *name,
			     const char *uid, const char *reason, const char *note)
{
	struct daemon *d = ctx;
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

	if (d->feed->source)
		apisource_post_event(d->feed->source, &event);
}

/* For health and metrics */
static void ask_source(void *ctx, struct health_source *source)
{
	struct daemon *d = ctx;
	const struct apisource_status status = apisource_status(d->feed->source);

	source->connected =
		status.connected[KIND_SERVICE] && status.connected[KIND_SLICE];
	source->contact_us = status.last_contact_us;
}

static void refresh_metrics(void *ctx)
{
	struct daemon *d = ctx;
	struct health_source source;

	metrics_set(d->metrics, METRIC_HEALTHY, 0,
		    health_is_healthy(d->health) && health_is_eligible(d->health));
	if (!d->feed->source)
		return;
	ask_source(d, &source);
	metrics_set(d->metrics, METRIC_API_CONNECTED, 0, source.connected);
	if (source.contact_us)
		metrics_set(d->metrics, METRIC_API_CONTACT, 0,
			    (double)(clock_realtime_us(d->app->clock) -
				     clock_monotonic_us(d->app->clock) +
				     source.contact_us) /
				    1e6);
}

/* HZ-7 */
static void on_waiting(void *ctx, struct strbuf *why)
{
	const struct daemon *d = ctx;
	const struct model *m = d->feed->model;
	struct apisource_status status;
	const size_t begin = why->length;
	char age[AGE_TEXT_SIZE];

	if (!model_has_list(m, KIND_SERVICE))
		strbuf_adds(why, "no list of Services yet");
	else if (!model_has_list(m, KIND_SLICE))
		strbuf_adds(why, "no list of EndpointSlices yet");
	else
		startup_waiting(d->startup, why);
	if (why->length == begin || !d->feed->source)
		return;
	status = apisource_status(d->feed->source);
	if (*status.reason)
		strbuf_addf(why, "; %s: %s", status.server, status.reason);
	if (status.tries)
		strbuf_addf(why, " (%s)",
			    age_format((clock_monotonic_us(d->app->clock) -
					status.lost_us) /
					       1000000,
				       age));
}

static void on_first_ready(void *ctx)
{
	const struct daemon *d = ctx;
	const struct reporter_beginning begun = reporter_beginning(d->reporter);
	unsigned int service_ports = 0, endpoints = 0, f;
	const struct dataplane_gauges *g;

	for (f = 0; f < N_FAMILIES; f++) {
		g = sync_gauges(d->sync, (enum family)f);
		service_ports += g ? g->service_ports : 0;
		endpoints += g ? g->endpoints : 0;
	}
	log_info(d->app->log,
		 "ready after %.1f s: %u service port%s, %u endpoint%s; %s, %u element%s written",
		 (double)(clock_monotonic_us(d->app->clock) - d->began_us) / 1e6,
		 service_ports, service_ports == 1 ? "" : "s", endpoints,
		 endpoints == 1 ? "" : "s",
		 begun.replaced	 ? "replaced the table of another version"
		 : begun.adopted ? "adopted the table of the former process"
				 : "a new table",
		 begun.elements, begun.elements == 1 ? "" : "s");
	takeover_begin(d->takeover);
}

static int open_health(struct daemon *d, struct errbuf *eb)
{
	const struct config *config = d->feed->options.config;
	const struct health_options options = {
		.base = d->app->base,
		.address = config->healthz_bind_address,
		.hard_fail = config->bind_address_hard_fail,
		.sync_period_ms = config->sync_period_ms,
		.node_name = d->feed->node_name,
		.metrics = d->metrics,
		.clock = d->app->clock,
		.log = on_message,
		.source = d->feed->source ? ask_source : NULL,
		.waiting = on_waiting,
		.ready = on_first_ready,
		.service_event = on_service_event,
		.ctx = d,
	};

	d->health = health_new(&options, eb);
	if (d->health)
		return 0;
	feed_post_node_event(d->feed, "Warning",
			     "FailedToStartProxierHealthcheck", eb->text);
	return -EIO;
}

static int on_metrics_page(void *ctx, const char *path, const char *query,
			   struct strbuf *out)
{
	struct daemon *d = ctx;

	(void)query;
	if (strcmp(path, "/status"))
		return 404;
	status_format(d->feed->model, d->metrics, d->app->clock, out);
	return 200;
}

/* BEY-5 */
static bool gather_connections(void *ctx)
{
	const struct daemon *d = ctx;

	return d->census && census_begin(d->census);
}

static void on_census(void *ctx, const struct strbuf *text)
{
	struct daemon *d = ctx;

	metricsd_gathered(d->metricsd, text);
}

static int open_census(struct daemon *d)
{
	const struct census_options options = {
		.base = d->app->base,
		.model = d->feed->model,
		.sync = d->sync,
		.done = on_census,
		.ctx = d,
	};

	d->census = census_new(&options);
	return d->census ? 0 : -ENOMEM;
}

static int open_metricsd(struct daemon *d, struct errbuf *eb)
{
	const struct metricsd_options options = {
		.base = d->app->base,
		.config = d->feed->options.config,
		.metrics = d->metrics,
		.refresh = refresh_metrics,
		.gather = gather_connections,
		.log = on_message,
		.page = on_metrics_page,
		.ctx = d,
	};

	d->metricsd = metricsd_new(&options, eb);
	if (d->metricsd)
		return 0;
	feed_post_node_event(d->feed, "Warning", "FailedToStartMetricServer",
			     eb->text);
	return -EIO;
}

/* The configuration is in force since now, or could not be taken. */
static void tell_reload(struct daemon *d, bool taken)
{
	metrics_set(d->metrics, METRIC_RELOAD_SUCCESSFUL, 0, taken);
	if (taken)
		metrics_set(d->metrics, METRIC_RELOAD_TIME, 0,
			    (double)clock_realtime_us(d->app->clock) / 1e6);
}

/* NP-9 */

static void on_listeners(void *ctx, enum family family, unsigned int count)
{
	struct daemon *d = ctx;

	metrics_set(d->metrics, METRIC_LOCALHOST_LISTENERS, family, count);
}

static void on_listener_failed(void *ctx, enum family family)
{
	struct daemon *d = ctx;

	metrics_add(d->metrics, METRIC_LOCALHOST_LISTENER_FAILURES, family, 1);
}

static void enable_localports(struct daemon *d, const struct config *config)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		const bool wanted = config->family[f].nodeport_localhost &&
				    d->app->family[f];

		if (wanted)
			metrics_show_localhost(d->metrics, (enum family)f);
		localports_enable(d->localports, (enum family)f, wanted);
	}
}

static int open_localports(struct daemon *d)
{
	const struct forward_options options = {
		.base = d->app->base,
		.clock = d->app->clock,
		.log = on_message,
		.listeners = on_listeners,
		.failed = on_listener_failed,
		.ctx = d,
	};

	d->forwarder = forwarder_new(&options);
	if (d->forwarder)
		d->localports = localports_new(d->feed->model, d->forwarder);
	if (!d->localports)
		return -ENOMEM;
	enable_localports(d, d->feed->options.config);
	reporter_set_localports(d->reporter, d->localports);
	return 0;
}

static int open_servers(struct daemon *d, struct errbuf *eb)
{
	int err;

	d->metrics = metrics_new(d->started_us);
	if (!d->metrics)
		return errf(eb, -ENOMEM, "out of memory");
	metrics_set_revision(d->metrics, d->app->revision);
	tell_reload(d, true);
	if (d->feed->source)
		metrics_show_api(d->metrics);
	d->feed->metrics = d->metrics;
	err = open_health(d, eb);
	if (!err)
		err = open_metricsd(d, eb);
	if (err)
		return err;
	d->reporter = reporter_new(d->feed->model, d->metrics, d->health,
				   d->app->clock, d->app->family);
	if (!d->reporter)
		return errf(eb, -ENOMEM, "out of memory");
	reporter_set_notify(d->reporter, d->notify);
	reporter_set_news(d->reporter, d->news);
	return open_localports(d) ? errf(eb, -ENOMEM, "out of memory") : 0;
}

/* BEY-7 */

static bool all_in_force(void *ctx)
{
	const struct daemon *d = ctx;
	struct strbuf why = STRBUF_INIT;
	struct sync_status status;
	bool in_force = health_is_ready(d->health, &why);
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		if (d->app->family[f] &&
		    (!sync_status(d->sync, (enum family)f, &status) ||
		     !status.known || !status.synced_us || status.failed))
			in_force = false;
	strbuf_free(&why);
	return in_force;
}

static bool wants_takeover(const struct config *config)
{
	return strcmp(config->vipmap.take_over, "KubeProxy") == 0;
}

static int open_takeover(struct daemon *d)
{
	const struct takeover_options options = {
		.base = d->app->base,
		.clock = d->app->clock,
		.log = on_message,
		.in_force = all_in_force,
		.ctx = d,
	};

	d->takeover = takeover_new(&options);
	if (!d->takeover)
		return -ENOMEM;
	takeover_enable(d->takeover, wants_takeover(d->feed->options.config));
	return 0;
}

static void on_bulk(void *ctx, bool begin)
{
	const struct daemon *d = ctx;

	takeover_bulk(d->takeover, begin);
}

static int open_sync(struct daemon *d, struct errbuf *eb)
{
	struct app *app = d->app;
	struct sync_options options = {
		.base = app->base,
		.clock = app->clock,
		.config = d->feed->options.config,
		.model = d->feed->model,
		.log = app->log,
		.family = { app->family[FAMILY_IPV4], app->family[FAMILY_IPV6] },
		.bulk = on_bulk,
		.bulk_ctx = d,
	};
	int err;

	reporter_attach(d->reporter, &options);
	d->sync = sync_new(&options, &err, eb);
	reporter_set_sync(d->reporter, d->sync);
	return d->sync ? 0 : err;
}

/* Section 21. Failures are told and go no further. */

static void on_sysctl_failed(void *ctx, const char *message)
{
	struct daemon *d = ctx;

	log_warning(d->app->log, "%s", message);
	feed_post_node_event(d->feed, "Warning", "FailedToSetKernelParameter",
			     message);
}

static void on_sysctl_written(void *ctx, const char *message)
{
	struct daemon *d = ctx;

	log_info(d->app->log, "%s", message);
}

static void set_kernel(struct daemon *d)
{
	const struct config *config = d->feed->options.config;
	const struct sysctl_report report = {
		.failed = on_sysctl_failed,
		.refused = on_sysctl_written,
		.written = on_sysctl_written,
		.ctx = d,
	};

	sysctl_apply(config, sysctl_count_cpus(), NULL, &report);
	sysctl_apply_oom_score(config, NULL, &report);
}

/* Another configuration */

static struct health_settings health_settings(const struct config *config,
					      const char *node_name)
{
	return (struct health_settings){
		.address = config->healthz_bind_address,
		.node_name = node_name,
		.hard_fail = config->bind_address_hard_fail,
		.sync_period_ms = config->sync_period_ms,
	};
}

/* What can be judged of a configuration before anything is touched. */
static int check_config(const struct daemon *d, const struct config *config,
			const struct feed_change *change, struct errbuf *eb)
{
	/* What would end the program as soon as it knows the Node, is known now. */
	if (!startup_is_over(d->startup) || change->new_node)
		return 0;
	return startup_check(d->app, d->feed->node_name, config,
			     model_node(d->feed->model), NULL, eb);
}

/* Servers and the model take @config, all of them or none. The old one is still there. */
static int take_config(struct daemon *d, const struct config *config,
		       const char *node_name, bool rules[N_FAMILIES],
		       struct errbuf *eb)
{
	const struct config *old = d->feed->options.config;
	const struct health_settings after = health_settings(config, node_name);
	const struct health_settings before =
		health_settings(old, d->feed->node_name);
	int err;

	err = health_change(d->health, &after, eb);
	if (err)
		return err;
	err = metricsd_set_config(d->metricsd, config, eb);
	if (!err && model_set_config(d->feed->model, config, rules)) {
		err = errf(eb, -ENOMEM, "out of memory");
		metricsd_set_config(d->metricsd, old, NULL);
	}
	if (err)
		health_change(d->health, &before, NULL);
	return err;
}

static void add_difference(void *ctx, const char *field, const char *old,
			   const char *new)
{
	struct strbuf *out = ctx;

	strbuf_addf(out, "%s%s %s -> %s", out->length ? ", " : "", field, old, new);
}

/* @rules: those of which family depend on what has changed. */
static void tell_change(struct daemon *d, const struct strbuf *differences,
			const struct feed_change *change,
			const bool rules[N_FAMILIES])
{
	struct strbuf text = STRBUF_INIT;
	const char *and = "; rules of ";
	bool pending = false;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		if (!rules[f] || !d->app->family[f] || !startup_is_over(d->startup))
			continue;
		strbuf_addf(&text, "%s%s", and, family_name(f));
		pending |= model_is_dirty(d->feed->model, (enum family)f);
		and = " and ";
	}
	if (text.length)
		strbuf_adds(&text, pending ? " will be replaced" : " replaced");
	if (change->new_source && d->feed->source)
		strbuf_addf(&text, "; API server %s",
			    apisource_status(d->feed->source).server);
	if (change->new_source)
		strbuf_adds(&text,
			    "; objects are listed again, and stay as they are until then");
	if (differences->length)
		log_info(d->app->log, "configuration changed: %s%s",
			 differences->text, text.text ? text.text : "");
	else if (change->new_source)
		log_info(d->app->log,
			 "configuration read again: the kubeconfig or the node's "
			 "name is another%s",
			 text.text);
	else
		log_info(d->app->log,
			 "configuration read again: nothing has changed");
	strbuf_free(&text);
}

/* Cannot fail any more. */
static void adopt_config(struct daemon *d, struct feed_change *change,
			 struct options *fresh)
{
	struct errbuf eb;

	sync_set_config(d->sync, fresh->config);
	reporter_set_fast_path(d->reporter);
	enable_localports(d, fresh->config);
	takeover_enable(d->takeover, wants_takeover(fresh->config));
	if (change->new_source && d->manifests_event) {
		event_free(d->manifests_event);
		d->manifests_event = NULL;
	}
	feed_adopt(d->feed, change, fresh);
	news_set_node_name(d->news, d->feed->node_name);
	app_set_log(d->app, d->feed->options.config);
	if (change->new_source && d->feed->manifests && follow_manifests(d))
		log_error(d->app->log, "manifests: cannot follow changes");
	if (startup_is_over(d->startup) && !change->new_node) {
		remember_pod_cidrs(d);
		startup_check(d->app, d->feed->node_name, d->feed->options.config,
			      model_node(d->feed->model), log_warning_message,
			      &eb);
	}
	model_changed(d);
}

static int exchange_config(struct daemon *d, struct options *fresh,
			   struct errbuf *eb)
{
	struct feed_change *change = feed_prepare(d->feed, fresh, eb);
	struct strbuf differences = STRBUF_INIT;
	bool rules[N_FAMILIES] = { false };
	int err = change ? 0 : -EINVAL;

	if (!err)
		err = check_config(d, fresh->config, change, eb);
	if (!err && config_diff(d->feed->options.config, fresh->config,
				add_difference, &differences) < 0)
		err = errf(eb, -ENOMEM, "out of memory");
	if (!err)
		err = take_config(d, fresh->config,
				  change->new_source ? change->node_name
						     : d->feed->node_name,
				  rules, eb);
	if (!err) {
		adopt_config(d, change, fresh);
		tell_change(d, &differences, change, rules);
		set_kernel(d);
	}
	strbuf_free(&differences);
	feed_change_free(change);
	return err;
}

/* CFG-3 */
static void reload_config(struct daemon *d)
{
	struct options fresh = { 0 };
	struct errbuf eb = { "" };
	int err;

	d->topic = "configuration";
	reporter_reload_begins(d->reporter);
	app_remember_files(d->app, &d->feed->options);
	err = app_parse_options(d->app, &fresh, &eb);
	if (!err)
		err = exchange_config(d, &fresh, &eb);
	if (err)
		log_error(d->app->log, "configuration stays as it was: %s",
			  eb.text);
	d->topic = NULL;
	tell_reload(d, !err);
	reporter_reload_ended(d->reporter, err != 0);
	options_free(&fresh);
}

/* Manifests are read again as well: not every file system tells of changes. */
static void on_reload_signal(void *ctx)
{
	struct daemon *d = ctx;

	if (!d->started)
		return; /* it is about to end */
	reload_config(d);
	if (d->feed->manifests)
		load_manifests(d);
}

/* For the local socket */
static void look_at_daemon(void *ctx, struct view *view)
{
	const struct daemon *d = ctx;
	struct apisource_status source;

	if (!d->sync)
		return;
	*view = (struct view){
		.config = d->feed->options.config,
		.model = d->feed->model,
		.node_name = d->feed->node_name,
		.revision = d->app->revision,
		.sync = d->sync,
		.health = d->health,
		.metrics = d->metrics,
		.log = d->app->log,
		.clock = d->app->clock,
		.started_us = d->started_us,
	};
	if (!d->feed->source)
		return;
	source = apisource_status(d->feed->source);
	view->source = (struct view_source){
		.server = source.server,
		.connected = source.connected[KIND_SERVICE] &&
			     source.connected[KIND_SLICE],
		.listed = source.listed[KIND_SERVICE] && source.listed[KIND_SLICE],
		.contact_us = source.last_contact_us,
		.lost_us = source.tries ? source.lost_us : 0,
		.tries = source.tries,
		.reason = source.reason,
	};
}

/* An API server is back, and tells what has changed. */
static void on_meanwhile(evutil_socket_t fd, short what, void *ctx)
{
	const struct timeval step = { 0, MEANWHILE_STEP_US };
	struct daemon *d = ctx;
	struct apisource_status status;
	size_t n;

	(void)fd;
	(void)what;
	if (!d->feed->source || !d->reporter)
		return;
	status = apisource_status(d->feed->source);
	if (status.tries || d->meanwhile_steps++ == MEANWHILE_MAX) {
		reporter_count_services(d->reporter, false);
		return;
	}
	d->quiet_steps += 1;
	if (!status.connected[KIND_SERVICE] || !status.connected[KIND_SLICE])
		d->quiet_steps = 0;
	if (d->quiet_steps < MEANWHILE_QUIET) {
		event_add(d->meanwhile_timer, &step);
		return;
	}
	n = reporter_counted_services(d->reporter);
	reporter_count_services(d->reporter, false);
	d->topic = "apiServer";
	if (n)
		log_info(d->app->log, "API server: %zu Service%s changed meanwhile",
			 n, n == 1 ? "" : "s");
	else
		log_info(d->app->log, "API server: no Service changed meanwhile");
	d->topic = NULL;
}

static void begin_meanwhile(struct daemon *d)
{
	const struct timeval step = { 0, MEANWHILE_STEP_US };

	if (!d->meanwhile_timer)
		d->meanwhile_timer = evtimer_new(d->app->base, on_meanwhile, d);
	if (!d->meanwhile_timer || !d->reporter)
		return;
	d->quiet_steps = d->meanwhile_steps = 0;
	reporter_count_services(d->reporter, true);
	event_add(d->meanwhile_timer, &step);
}

/* What the log says, told to those who listen to what changes. */
static void on_logged_line(void *ctx, int severity, const char *message)
{
	struct daemon *d = ctx;
	const unsigned int before = d->no_server;
	const char *topic = d->topic ? d->topic : "message";

	if (d->feed->source)
		d->no_server = apisource_status(d->feed->source).tries;
	if (!d->topic && (before != 0) != (d->no_server != 0))
		topic = "apiServer";
	if (before && !d->no_server && model_is_complete(d->feed->model))
		begin_meanwhile(d);
	news_message(d->news, topic, severity, message);
}

static int on_news_request(void *ctx, struct httpd_request *req, struct strbuf *out)
{
	struct daemon *d = ctx;

	return news_begin(d->news, req, out);
}

static int open_local(struct daemon *d)
{
	const struct local_options options = {
		.base = d->app->base,
		.look = look_at_daemon,
		.log = on_message,
		.monitor = on_news_request,
		.ctx = d,
	};

	d->news = news_new(d->app->base, d->app->clock, d->feed->model);
	if (!d->news)
		return -ENOMEM;
	news_set_node_name(d->news, d->feed->node_name);
	log_set_listener(d->app->log, on_logged_line, d);
	d->local = local_new(&options);
	return d->local ? 0 : -ENOMEM;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* A file that is not there for a moment is no change. */
static bool file_changed(const char *path, const struct stat *known)
{
	struct stat now;

	return path && stat(path, &now) == 0 && !same_file(&now, known);
}

static void on_config_poll(evutil_socket_t fd, short what, void *ctx)
{
	struct daemon *d = ctx;
	const struct options *o = &d->feed->options;

	(void)fd;
	(void)what;
	if (file_changed(o->config_path, &d->app->config_stat) ||
	    file_changed(o->vipmap_config_path, &d->app->vipmap_config_stat))
		reload_config(d);
}

static void watch_config(struct daemon *d)
{
	const struct timeval poll_period = { CONFIG_POLL_S, 0 };

	if (!d->feed->options.config_path && !d->feed->options.vipmap_config_path)
		return;
	d->config_timer =
		event_new(d->app->base, -1, EV_PERSIST, on_config_poll, d);
	if (d->config_timer)
		event_add(d->config_timer, &poll_period);
}

/* Beginning and end */

/* Those that tell why it ends would end with it. */
static void send_events(struct daemon *d)
{
	const struct timeval patience = { EVENT_WAIT_S, 0 };

	if (!d->feed->source || !apisource_is_posting(d->feed->source))
		return;
	event_base_loopexit(d->app->base, &patience);
	while (!event_base_got_exit(d->app->base) && !d->app->ending &&
	       apisource_is_posting(d->feed->source))
		event_base_loop(d->app->base, EVLOOP_ONCE);
}

static int open_parts(struct daemon *d, struct errbuf *eb)
{
	int err;

	d->startup = startup_new(d->feed, on_ready, d);
	if (!d->startup)
		return errf(eb, -ENOMEM, "out of memory");
	err = open_local(d);
	if (err)
		return errf(eb, err, "local socket: out of memory");
	err = open_servers(d, eb);
	if (!err && open_takeover(d))
		err = errf(eb, -ENOMEM, "out of memory");
	if (!err)
		err = open_sync(d, eb);
	if (!err && open_census(d))
		err = errf(eb, -ENOMEM, "out of memory");
	if (!err && d->feed->manifests && follow_manifests(d))
		err = errf(eb, -EIO, "manifests: cannot follow changes");
	return err;
}

/* The first line of the story: who, for which node, from where, on what. */
static void tell_start(const struct daemon *d)
{
	const struct config *config = d->feed->options.config;
	struct strbuf from = STRBUF_INIT;
	struct sync_status status;
	struct utsname kernel;
	bool owned = true;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		if (sync_status(d->sync, (enum family)f, &status))
			owned &= status.owner;
	if (d->feed->source)
		strbuf_addf(&from, "API server %s",
			    apisource_status(d->feed->source).server);
	else
		for (f = 0; config->manifests[f]; f++)
			strbuf_addf(&from, "%s %s", f ? "" : "manifests",
				    config->manifests[f]);
	log_info(d->app->log,
		 "vipmap %s starting: node %s, %s, clusterCIDR %s, kernel %s (%s)",
		 VIPMAP_VERSION, d->feed->node_name, from.text ? from.text : "",
		 *config->cluster_cidr ? config->cluster_cidr : "unset",
		 uname(&kernel) ? "unknown" : kernel.release,
		 owned ? "table owned" : "table watched");
	strbuf_free(&from);
}

static void tell_end(const struct app *app)
{
	if (app->signal)
		log_info(app->log, "stopped by %s; rules stay in force",
			 app->signal == SIGINT ? "SIGINT" : "SIGTERM");
}

static int run_daemon(struct daemon *d, struct options *options)
{
	struct errbuf eb = { "" };
	int err;

	d->feed = feed_open(d->app, options, on_startup_settled, d, &eb);
	if (!d->feed) {
		err = feed_exit_status(errno);
		log_error(d->app->log, "%s", eb.text);
		return err;
	}
	err = open_parts(d, &eb);
	if (err) {
		log_error(d->app->log, "%s", eb.text);
		send_events(d);
		return err == -EOPNOTSUPP ? EXIT_KERNEL : EXIT_FAILED;
	}
	d->started = true;
	tell_start(d);
	startup_begin(d->startup);
	if (d->feed->source)
		apisource_start(d->feed->source);
	set_kernel(d);
	feed_post_node_event(d->feed, "Normal", "Starting", "");
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
		.clock = app->clock,
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
		log_warning(app->log,
			    "NOTIFY_SOCKET: %s: the service manager hears nothing",
			    eb.text);
	return notify;
}

int daemon_run(struct app *app, struct options *options)
{
	struct daemon d = {
		.app = app,
		.began_us = clock_monotonic_us(app->clock),
		.started_us = clock_realtime_us(app->clock),
	};
	int status;

	if (app_watch_signals(app, on_reload_signal, &d)) {
		log_error(app->log, "signals: out of memory");
		return EXIT_FAILED;
	}
	d.notify = open_notify(app);
	startup_look_for_rivals(app);
	status = run_daemon(&d, options);
	log_set_listener(app->log, NULL, NULL);
	if (d.reporter)
		reporter_set_news(d.reporter, NULL);
	news_free(d.news);
	d.news = NULL;
	local_free(d.local);
	notify_stopping(d.notify);
	close_all(&d);
	notify_free(d.notify);
	tell_end(app);
	return status;
}
