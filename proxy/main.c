/*
 * The program: puts the modules together and decides what to do with what they report. Nothing else
 * knows all of watch/, proxy/ and nft/, and nothing else exits.
 *
 * A changed configuration builds everything anew inside the process and drops the old parts; the
 * table stays as it is meanwhile, and is adopted like after a restart.
 */
#include "proxy/base/clock.h"
#include "proxy/capability.h"
#include "proxy/model/config.h"
#include "proxy/sync/dataplane.h"
#include "proxy/model/explain.h"
#include "proxy/serve/health.h"
#include "proxy/base/log.h"
#include "proxy/serve/metrics.h"
#include "proxy/serve/metricsd.h"
#include "proxy/model/model.h"
#include "proxy/model/node.h"
#include "proxy/options.h"
#include "proxy/serve/reporter.h"
#include "proxy/serve/status.h"
#include "proxy/base/strbuf.h"
#include "proxy/sync/sync.h"
#include "proxy/sysctl.h"
#include "watch/apisource.h"
#include "watch/manifests.h"
#include "watch/proxyconfig.h"
#include "nft/addresses.h"
#include "nft/readback.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { N_SIGNALS = 3 };

enum {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_KERNEL = 3,
};

enum {
	NODE_WAIT_S = 30,      /* NODE-1 */
	POD_CIDR_WAIT_S = 300, /* NODE-3 */
	EXPLAIN_WAIT_S = 30,
	EVENT_WAIT_S = 5,
	CONFIG_POLL_S = 2,	     /* CFG-3: a mounted ConfigMap is swapped by a symbolic link */
	RELOAD_DELAY_US = 20 * 1000, /* editors and kubelet write in several steps */
};

/* Everything that a changed configuration replaces. */
struct instance {
	struct app *app;
	struct options options;
	char node_name[NODE_NAME_SIZE];
	struct model *model;
	struct sync *sync;
	struct metrics *metrics; /* these four only for ACTION_RUN */
	struct metricsd *metricsd;
	struct health *health;
	struct reporter *reporter;
	struct manifests *manifests;
	struct apisource *source;
	struct event *manifests_event, *reload_timer, *node_timer;
	unsigned int node_waited_s;
	bool started;
	struct prefix pod_cidr[N_FAMILIES]; /* NODE-3: in use */
	bool has_pod_cidr[N_FAMILIES];
	int64_t parse_us, compile_us, commit_us;
};

struct app {
	int argc;
	char **argv;
	struct log *log;
	struct event_base *base;
	struct instance *instance;
	struct event *signals[N_SIGNALS], *config_timer;
	struct stat config_stat;
	bool family[N_FAMILIES];
	int exit_status;
	bool ending; /* exit_status holds, even if the loop has not begun */
};

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void app_exit(struct app *app, int status)
{
	app->exit_status = status;
	app->ending = true;
	event_base_loopbreak(app->base);
}

/* DS-1 */
static bool kernel_has_ipv6(void)
{
	FILE *f;
	int c;

	if (access("/proc/net/if_inet6", F_OK))
		return false;
	f = fopen("/proc/sys/net/ipv6/conf/all/disable_ipv6", "re");
	if (!f)
		return true;
	c = fgetc(f);
	fclose(f);
	return c != '1';
}

static void on_message(void *ctx, int severity, const char *message)
{
	struct instance *in = ctx;

	log_message(in->app->log, severity, message);
}

static void on_warning(void *ctx, const char *message)
{
	const struct app *app = ctx;

	log_warning_message(app->log, message);
}

/* A change while it is read, or soon after, is one that follows. */
static int read_config(const char *path, struct config *config,
		       void (*warn)(void *ctx, const char *message), void *ctx, struct errbuf *eb)
{
	struct app *app = ctx;

	if (stat(path, &app->config_stat))
		memset(&app->config_stat, 0, sizeof(app->config_stat));
	return proxyconfig_read(path, config, warn, ctx, eb);
}

static int parse_options(struct app *app, struct options *options, struct errbuf *eb)
{
	const struct options_env env = {
		.read_config = read_config,
		.warn = on_warning,
		.ctx = app,
	};

	return options_parse(app->argc, app->argv, &env, options, eb);
}

/* Sources of objects */

static int load_manifests(struct instance *in, struct errbuf *eb)
{
	int64_t begin = now_us();
	int err = manifests_load(in->manifests, model_sink(in->model), eb);

	in->parse_us = now_us() - begin;
	return err;
}

/* A good moment to sync. Whether the node is eligible (HZ-4) needs no sync. */
static void model_changed(struct instance *in)
{
	if (in->health)
		health_set_node(in->health, in->model->node);
	sync_request(in->sync);
}

static void on_reload(evutil_socket_t fd, short what, void *ctx)
{
	struct instance *in = ctx;
	struct errbuf eb = { "" };

	(void)fd;
	(void)what;
	/* a broken file changes nothing; the next change of it is tried again */
	if (load_manifests(in, &eb))
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
	if (manifests_changed(in->manifests))
		event_add(in->reload_timer, &delay);
}

static int follow_manifests(struct instance *in)
{
	struct event_base *base = in->app->base;
	int fd = manifests_fd(in->manifests);

	if (fd < 0)
		return 0;
	in->reload_timer = evtimer_new(base, on_reload, in);
	in->manifests_event = event_new(base, fd, EV_READ | EV_PERSIST, on_manifests, in);
	if (!in->reload_timer || !in->manifests_event)
		return -ENOMEM;
	return event_add(in->manifests_event, NULL) ? -EIO : 0;
}

static bool is_one_shot(const struct instance *in)
{
	return in->options.action == ACTION_ONCE;
}

/* The node */

/* NODE-3: rules and detection depend on these; another range means another program. */
static bool pod_cidrs_changed(struct instance *in)
{
	const struct node *node = in->model->node;
	unsigned int f;

	if (in->options.config->detect_local != DETECT_NODE_CIDR || !node)
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
	const struct node *node = in->model->node;
	unsigned int f;

	for (f = 0; node && f < N_FAMILIES; f++) {
		in->has_pod_cidr[f] = node->pod_cidrs[f].count > 0;
		if (in->has_pod_cidr[f])
			in->pod_cidr[f] = node->pod_cidrs[f].items[0];
	}
}

static bool has_pod_cidrs(const struct model *m)
{
	return m->node &&
	       (m->node->pod_cidrs[FAMILY_IPV4].count || m->node->pod_cidrs[FAMILY_IPV6].count);
}

/* Whether the wait for the Node is over: it is there, or it has lasted long enough. */
static bool node_is_ready(struct instance *in)
{
	struct app *app = in->app;
	const bool node_cidr = in->options.config->detect_local == DETECT_NODE_CIDR;
	const struct node *node = in->model->node;

	if (node && node->n_addresses && (!node_cidr || has_pod_cidrs(in->model)))
		return true;
	if (node_cidr && in->node_waited_s >= NODE_WAIT_S + POD_CIDR_WAIT_S)
		return true; /* which start() will not take */
	if (node_cidr || in->node_waited_s < NODE_WAIT_S)
		return false;
	log_error(app->log, "Node %s: no addresses after %d s: going on without", in->node_name,
		  NODE_WAIT_S);
	return true;
}

/* DS-2: without rules in its primary family a node would look healthy and be useless. */
static bool primary_family_works(struct instance *in)
{
	const enum family primary = in->model->info.primary_family;

	if (in->app->family[primary])
		return true;
	log_error(in->app->log, "Node %s: its primary family is %s, which this kernel has not",
		  in->node_name, family_name(primary));
	app_exit(in->app, EXIT_FAILED);
	return false;
}

/* Without the Node's ranges every pod would be taken for a stranger (NODE-3). */
static bool pod_cidrs_known(struct instance *in)
{
	if (in->options.config->detect_local != DETECT_NODE_CIDR || has_pod_cidrs(in->model))
		return true;
	log_error(in->app->log, "Node %s: spec.podCIDRs: none, and detectLocalMode is NodeCIDR",
		  in->node_name);
	app_exit(in->app, EXIT_FAILED);
	return false;
}

/* CFG-5 for @config on the node as it is known now; without @warn it only judges. */
static int check_families(const struct instance *in, const struct config *config,
			  const struct node *node, void (*warn)(void *ctx, const char *message),
			  struct errbuf *eb)
{
	static const struct addr_view nowhere[N_FAMILIES];
	const bool *kernel = in->app->family;
	bool pod_cidrs[N_FAMILIES] = { false };
	struct node_info info = { 0 };
	enum family primary;
	unsigned int f;

	for (f = 0; node && f < N_FAMILIES; f++)
		pod_cidrs[f] = node->pod_cidrs[f].count > 0;
	if (node_info_compute(&info, config, node, nowhere))
		return errf(eb, -ENOMEM, "out of memory");
	primary = info.primary_family;
	node_info_free(&info);
	return config_check_families(config, primary, kernel[FAMILY_IPV4] && kernel[FAMILY_IPV6],
				     pod_cidrs, warn, in->app->log, eb);
}

static bool families_fit(struct instance *in)
{
	struct errbuf eb = { "" };

	if (check_families(in, in->options.config, in->model->node, log_warning_message, &eb) == 0)
		return true;
	log_error(in->app->log, "%s", eb.text);
	app_exit(in->app, EXIT_FAILED);
	return false;
}

static bool node_fits(struct instance *in)
{
	return primary_family_works(in) && pod_cidrs_known(in) && families_fit(in);
}

static void start(struct instance *in)
{
	if (in->started || !node_fits(in))
		return;
	in->started = true;
	remember_pod_cidrs(in);
	sync_start(in->sync);
}

static void on_node_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct instance *in = ctx;
	const struct timeval second = { 1, 0 };

	(void)fd;
	(void)what;
	if (node_is_ready(in)) {
		start(in);
		return;
	}
	in->node_waited_s++;
	event_add(in->node_timer, &second);
}

/* Events from the API server */

static void on_settled(void *ctx)
{
	struct instance *in = ctx;

	if (in->options.action == ACTION_EXPLAIN) {
		if (model_is_complete(in->model))
			app_exit(in->app, EXIT_DONE);
		return;
	}
	if (!in->started && in->model->node && node_is_ready(in))
		start(in);
	if (in->started && pod_cidrs_changed(in)) {
		log_error(in->app->log, "Node %s: spec.podCIDRs changed: ending, to begin afresh",
			  in->node_name);
		app_exit(in->app, EXIT_FAILED);
		return;
	}
	model_changed(in);
}

static int open_source(struct instance *in, struct errbuf *eb)
{
	const struct apisource_options options = {
		.config = in->options.config,
		.node_name = in->node_name,
		.log = on_message,
		.settled = on_settled,
		.ctx = in,
	};

	in->source = apisource_new(in->app->base, &options, model_sink(in->model), eb);
	if (!in->source)
		return -EIO;
	in->node_timer = evtimer_new(in->app->base, on_node_timer, in);
	return in->node_timer ? 0 : errf(eb, -ENOMEM, "out of memory");
}

/* Results of --once */

static void on_once_synced(void *ctx, enum family family, int err, const struct sync_report *report,
			   int64_t duration_us)
{
	struct instance *in = ctx;

	(void)family;
	(void)duration_us;
	in->compile_us += report->compile_us;
	in->commit_us += report->commit_us;
	if (err && in->source)
		app_exit(in->app, EXIT_FAILED);
}

static void on_once_settled(void *ctx)
{
	struct instance *in = ctx;

	/* Service ranges may come last, and nobody would add them later. */
	if (in->source && in->model->complete[KIND_SERVICE_CIDR])
		app_exit(in->app, EXIT_DONE);
}

static int run_once(struct instance *in)
{
	int err;

	if (!node_fits(in))
		return EXIT_FAILED;
	err = sync_once(in->sync);
	log_debug(in->app->log, 2, "timing: parse %lld ms, compile %lld ms, commit %lld ms",
		  (long long)in->parse_us / 1000, (long long)in->compile_us / 1000,
		  (long long)in->commit_us / 1000);
	return err ? EXIT_FAILED : EXIT_DONE;
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
	if (in->node_timer)
		event_free(in->node_timer);
	sync_free(in->sync);
	reporter_free(in->reporter);
	metricsd_free(in->metricsd);
	health_free(in->health);
	metrics_free(in->metrics);
	if (in->source)
		apisource_free(in->source);
	if (in->manifests)
		manifests_free(in->manifests);
	model_free(in->model);
	options_free(&in->options);
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

	if (in->source)
		apisource_post_event(in->source, &event);
}

/* An event about this node (section 22). */
static void post_node_event(struct instance *in, const char *type, const char *reason,
			    const char *note)
{
	const struct node *node = in->model->node;
	const struct apisource_event event = {
		.kind = KIND_NODE,
		.namespace = "",
		.name = in->node_name,
		.uid = node ? node->uid : "",
		.type = type,
		.reason = reason,
		.action = "StartKubeProxy",
		.note = note,
	};

	if (in->source)
		apisource_post_event(in->source, &event);
}

/* For health and metrics */
static void ask_source(void *ctx, struct health_source *source)
{
	struct instance *in = ctx;
	const struct apisource_status status = apisource_status(in->source);

	source->connected = status.connected[KIND_SERVICE] && status.connected[KIND_SLICE];
	source->contact_us = status.last_contact_us;
}

static void refresh_metrics(void *ctx)
{
	struct instance *in = ctx;
	struct health_source source;

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
	const struct config *config = in->options.config;
	const struct health_options options = {
		.base = in->app->base,
		.address = config->healthz_bind_address,
		.hard_fail = config->bind_address_hard_fail,
		.sync_period_ms = config->sync_period_ms,
		.node_name = in->node_name,
		.metrics = in->metrics,
		.log = on_message,
		.source = in->source ? ask_source : NULL,
		.service_event = on_service_event,
		.ctx = in,
	};

	in->health = health_new(&options, eb);
	if (in->health)
		return 0;
	post_node_event(in, "Warning", "FailedToStartProxierHealthcheck", eb->text);
	return -EIO;
}

static int on_page(void *ctx, const char *path, const char *query, struct strbuf *out)
{
	struct instance *in = ctx;

	(void)query;
	if (strcmp(path, "/status"))
		return 404;
	status_format(in->model, in->metrics, out);
	return 200;
}

static int open_metricsd(struct instance *in, struct errbuf *eb)
{
	const struct metricsd_options options = {
		.base = in->app->base,
		.config = in->options.config,
		.metrics = in->metrics,
		.refresh = in->source ? refresh_metrics : NULL,
		.log = on_message,
		.page = on_page,
		.ctx = in,
	};

	in->metricsd = metricsd_new(&options, eb);
	if (in->metricsd)
		return 0;
	post_node_event(in, "Warning", "FailedToStartMetricServer", eb->text);
	return -EIO;
}

static int open_servers(struct instance *in, struct errbuf *eb)
{
	int err;

	in->metrics = metrics_new();
	if (!in->metrics)
		return errf(eb, -ENOMEM, "out of memory");
	err = open_health(in, eb);
	if (!err)
		err = open_metricsd(in, eb);
	if (err)
		return err;
	in->reporter = reporter_new(in->model, in->metrics, in->health, in->app->family);
	return in->reporter ? 0 : errf(eb, -ENOMEM, "out of memory");
}

static int open_sync(struct instance *in, struct errbuf *eb)
{
	struct app *app = in->app;
	struct sync_options options = {
		.base = app->base,
		.config = in->options.config,
		.model = in->model,
		.log = app->log,
		.family = { app->family[FAMILY_IPV4], app->family[FAMILY_IPV6] },
		.synced = on_once_synced,
		.settled = on_once_settled,
		.ctx = in,
	};
	int err;

	if (in->reporter)
		reporter_attach(in->reporter, &options);
	in->sync = sync_new(&options, &err, eb);
	if (in->reporter)
		reporter_set_sync(in->reporter, in->sync);
	return in->sync ? 0 : err;
}

/* Takes over @options. Returns NULL with @eb; the kernel is not touched yet. */
static struct instance *instance_new(struct app *app, struct options *options, struct errbuf *eb)
{
	struct instance *in = calloc(1, sizeof(*in));
	const struct config *config = options->config;
	int err;

	if (!in) {
		errf(eb, -ENOMEM, "out of memory");
		options_free(options);
		return NULL;
	}
	in->app = app;
	in->options = *options;
	err = node_name(config, getenv("NODE_NAME"), in->node_name, eb);
	if (!err && !(in->model = model_new(config, log_message, app->log)))
		err = errf(eb, -ENOMEM, "out of memory");
	if (!err && config->manifests &&
	    !(in->manifests = manifests_new(config->manifests, in->node_name)))
		err = errf(eb, -ENOMEM, "out of memory");
	if (!err && in->manifests)
		err = load_manifests(in, eb);
	else if (!err)
		err = open_source(in, eb);
	if (err) {
		instance_free(in);
		return NULL;
	}
	if (in->manifests && !in->model->node)
		log_warning(
			app->log,
			"Node %s: not among the manifests: its addresses and labels are unknown",
			in->node_name);
	return in;
}

/* Begins to program the kernel, and to follow the source. */
static int instance_start(struct instance *in, struct errbuf *eb)
{
	const struct timeval now = { 0, 0 };
	int err = 0;

	if (!is_one_shot(in))
		err = open_servers(in, eb);
	if (!err)
		err = open_sync(in, eb);
	if (err || (in->manifests && is_one_shot(in)))
		return err;
	if (in->source) {
		event_add(in->node_timer, &now);
		apisource_start(in->source);
		return 0;
	}
	err = follow_manifests(in);
	if (err)
		return errf(eb, err, "manifests: cannot follow changes");
	start(in);
	return 0;
}

/*
 * CFG-3: a good configuration replaces the old one, a bad one is reported. The table may belong to
 * the old instance's socket, so that one is closed before the new one adopts the table.
 */
static void reload_config(struct app *app)
{
	struct options options = { 0 };
	struct errbuf eb = { "" };
	struct instance *fresh = NULL;

	if (parse_options(app, &options, &eb) == 0)
		fresh = instance_new(app, &options, &eb);
	/* What would end the new instance as soon as it knows the Node, the old one knows now. */
	if (fresh && app->instance->started &&
	    check_families(fresh, fresh->options.config, app->instance->model->node, NULL, &eb)) {
		instance_free(fresh);
		fresh = NULL;
	}
	if (!fresh) {
		log_error(app->log, "configuration stays as it was: %s", eb.text);
		return;
	}
	log_info(app->log, "configuration is read again");
	instance_free(app->instance);
	app->instance = fresh;
	log_set_verbosity(app->log, fresh->options.config->verbosity);
	if (instance_start(fresh, &eb)) {
		log_error(app->log, "beginning again with the new configuration: %s", eb.text);
		app_exit(app, EXIT_FAILED);
	}
}

static void on_hangup(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	reload_config(ctx);
}

static void on_terminate(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	app_exit(ctx, EXIT_DONE);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void on_config_poll(evutil_socket_t fd, short what, void *ctx)
{
	struct app *app = ctx;
	struct stat now;

	(void)fd;
	(void)what;
	if (stat(app->instance->options.config_path, &now) || same_file(&now, &app->config_stat))
		return;
	reload_config(app);
}

/* Before anything is programmed: a signal that comes in the middle ends the program in order. */
static int watch_signals(struct app *app)
{
	static const struct {
		int number;
		event_callback_fn call;
	} wanted[N_SIGNALS] = {
		{ SIGHUP, on_hangup },
		{ SIGTERM, on_terminate },
		{ SIGINT, on_terminate },
	};
	unsigned int i;

	for (i = 0; i < N_SIGNALS; i++) {
		app->signals[i] = evsignal_new(app->base, wanted[i].number, wanted[i].call, app);
		if (!app->signals[i] || event_add(app->signals[i], NULL))
			return -ENOMEM;
	}
	return 0;
}

static void watch_config(struct app *app)
{
	const struct timeval poll_period = { CONFIG_POLL_S, 0 };
	const char *path = app->instance->options.config_path;

	if (!path)
		return;
	app->config_timer = event_new(app->base, -1, EV_PERSIST, on_config_poll, app);
	if (app->config_timer)
		event_add(app->config_timer, &poll_period);
}

static void app_free(struct app *app)
{
	unsigned int i;

	instance_free(app->instance);
	for (i = 0; i < N_SIGNALS; i++)
		if (app->signals[i])
			event_free(app->signals[i]);
	if (app->config_timer)
		event_free(app->config_timer);
	if (app->base)
		event_base_free(app->base);
	log_free(app->log);
}

/* What to do */

static void warn_of_rivals(void *ctx, const char *what)
{
	log_warning(ctx, "%s: another service proxy's rules are active", what);
}

static void look_for_rivals(struct app *app)
{
	struct errbuf eb;
	struct nlsock *nl = nlsock_open(&eb);

	if (nl && readback_rivals(nl, warn_of_rivals, app->log, &eb) < 0)
		log_debug(app->log, 1, "looking for other service proxies: %s", eb.text);
	nlsock_close(nl);
}

static void on_sysctl_failed(void *ctx, const char *message)
{
	struct app *app = ctx;

	log_warning(app->log, "%s", message);
	if (app->instance)
		post_node_event(app->instance, "Warning", "FailedToSetKernelParameter", message);
}

static void on_sysctl_written(void *ctx, const char *message)
{
	struct app *app = ctx;

	log_info(app->log, "%s", message);
}

/* Section 21. Failures are told and go no further. */
static unsigned int set_kernel(struct app *app, const struct config *config)
{
	const struct sysctl_report report = {
		.failed = on_sysctl_failed,
		.written = on_sysctl_written,
		.ctx = app,
	};

	return sysctl_apply(config, sysctl_count_cpus(), NULL, &report) +
	       sysctl_apply_oom_score(config, NULL, &report);
}

/* Those that tell why it ends would end with it. */
static void send_events(struct instance *in)
{
	const struct timeval patience = { EVENT_WAIT_S, 0 };

	if (!in->source || !apisource_is_posting(in->source))
		return;
	event_base_loopexit(in->app->base, &patience);
	while (!event_base_got_exit(in->app->base) && !in->app->ending &&
	       apisource_is_posting(in->source))
		event_base_loop(in->app->base, EVLOOP_ONCE);
}

static int run(struct app *app, struct options *options)
{
	struct errbuf eb = { "" };
	int err;

	if (watch_signals(app)) {
		log_error(app->log, "signals: out of memory");
		options_free(options);
		return EXIT_FAILED;
	}
	look_for_rivals(app);
	app->instance = instance_new(app, options, &eb);
	if (!app->instance) {
		log_error(app->log, "%s", eb.text);
		return EXIT_FAILED;
	}
	err = instance_start(app->instance, &eb);
	if (err) {
		log_error(app->log, "%s", eb.text);
		send_events(app->instance);
		return err == -EOPNOTSUPP ? EXIT_KERNEL : EXIT_FAILED;
	}
	if (is_one_shot(app->instance) && app->instance->manifests)
		return run_once(app->instance);
	if (!is_one_shot(app->instance)) {
		set_kernel(app, app->instance->options.config);
		post_node_event(app->instance, "Normal", "Starting", "");
	}
	watch_config(app);
	if (!app->ending)
		event_base_dispatch(app->base);
	return app->exit_status;
}

/* The addresses of the Node object, and those that @machine has, if it is given. */
static int assume_addresses_of(struct instance *in, enum family family,
			       const struct addresses *machine)
{
	const struct node *node = in->model->node;
	const struct addr *own = NULL;
	unsigned int i, n = 0;
	struct addr *list;
	int err;

	if (machine)
		own = addresses_list(machine, family, &n);
	list = calloc(n + (node ? node->n_addresses : 0) + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	if (n)
		memcpy(list, own, n * sizeof(*list));
	for (i = 0; node && i < node->n_addresses; i++)
		if (node->addresses[i].family == family)
			list[n++] = node->addresses[i].addr;
	err = model_set_addresses(in->model, family, list, n);
	free(list);
	return err;
}

static int assume_addresses(struct instance *in, const struct addresses *machine)
{
	int err = assume_addresses_of(in, FAMILY_IPV4, machine);

	return err ? err : assume_addresses_of(in, FAMILY_IPV6, machine);
}

static int print_family(struct app *app, enum family family)
{
	const struct dataplane_options options = {
		.family = family,
		.model = app->instance->model,
	};
	struct dataplane *dp = dataplane_new(&options);
	struct strbuf out = STRBUF_INIT;
	int err = -ENOMEM;

	if (dp)
		err = dataplane_print(dp, &out);
	if (!err && fwrite(out.text, 1, out.length, stdout) != out.length)
		err = -EIO;
	if (err)
		log_error(app->log, "dry run: %s", strerror(-err));
	strbuf_free(&out);
	dataplane_free(dp);
	return err;
}

/* Both families, whatever this kernel has: the output may be meant for another machine. */
static int dry_run(struct app *app, struct options *options)
{
	struct errbuf eb = { "" };
	unsigned int f;

	if (!options->config->manifests) {
		log_error(app->log, "--dry-run needs --manifests");
		options_free(options);
		return EXIT_USAGE;
	}
	app->instance = instance_new(app, options, &eb);
	if (!app->instance) {
		log_error(app->log, "%s", eb.text);
		return EXIT_FAILED;
	}
	if (assume_addresses(app->instance, NULL)) {
		log_error(app->log, "out of memory");
		return EXIT_FAILED;
	}
	for (f = 0; f < N_FAMILIES; f++)
		if (print_family(app, (enum family)f))
			return EXIT_FAILED;
	return fflush(stdout) ? EXIT_FAILED : EXIT_DONE;
}

/* A packet's source or destination may be any address of this machine, not only its Node's. */
static int ask_addresses(struct instance *in)
{
	struct errbuf eb = { "" };
	struct addresses *machine = addresses_open(&eb);
	bool changed;
	int err;

	if (!machine || addresses_read(machine, &changed, &eb) < 0)
		log_warning(in->app->log, "explain: addresses of this machine: %s", eb.text);
	err = assume_addresses(in, machine);
	if (machine)
		addresses_close(machine);
	return err;
}

static int explain_now(struct instance *in)
{
	const struct options *o = &in->options;
	const struct explain_query query = {
		.family = o->explain.family,
		.source = o->explain.source,
		.destination = o->explain.destination,
		.protocol = o->explain.protocol,
		.port = o->explain.port,
	};
	const struct dataplane_options options = {
		.family = o->explain.family,
		.model = in->model,
	};
	struct dataplane *dp = dataplane_new(&options);
	struct strbuf out = STRBUF_INIT;
	int err = dp ? ask_addresses(in) : -ENOMEM;

	if (!err)
		err = dataplane_compile(dp);
	if (!err)
		err = explain_packet(in->model, &query, &out);
	if (!err)
		fputs(out.text, stdout);
	strbuf_free(&out);
	dataplane_free(dp);
	return err ? EXIT_FAILED : EXIT_DONE;
}

static void on_explain_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct app *app = ctx;

	(void)fd;
	(void)what;
	log_error(app->log, "explain: no answer from the API server");
	app_exit(app, EXIT_FAILED);
}

static int explain(struct app *app, struct options *options)
{
	const struct timeval patience = { EXPLAIN_WAIT_S, 0 };
	struct errbuf eb = { "" };

	app->instance = instance_new(app, options, &eb);
	if (!app->instance) {
		log_error(app->log, "%s", eb.text);
		return EXIT_FAILED;
	}
	if (app->instance->manifests)
		return explain_now(app->instance);
	apisource_start(app->instance->source);
	event_base_once(app->base, -1, EV_TIMEOUT, on_explain_timer, app, &patience);
	event_base_dispatch(app->base);
	return app->exit_status ? app->exit_status : explain_now(app->instance);
}

static int print_status(struct app *app, const struct options *options)
{
	struct strbuf text = STRBUF_INIT;
	struct errbuf eb = { "" };
	int err = status_fetch(options->config->metrics_bind_address, &text, &eb);

	if (err)
		log_error(app->log, "status: %s", eb.text);
	else
		fputs(text.text ? text.text : "", stdout);
	strbuf_free(&text);
	return err ? EXIT_FAILED : EXIT_DONE;
}

static int cleanup(struct app *app)
{
	struct errbuf eb = { "" };
	struct nlsock *nl = nlsock_open(&eb);
	unsigned int f;
	int err = nl ? 0 : -EIO;

	for (f = 0; !err && f < N_FAMILIES; f++)
		err = dataplane_remove(nl, (enum family)f, &eb);
	if (err)
		log_error(app->log, "cleanup: %s",
			  err == -EPERM ? "not permitted: CAP_NET_ADMIN is needed" : eb.text);
	nlsock_close(nl);
	return err ? EXIT_FAILED : EXIT_DONE;
}

static int write_config(struct app *app, const struct options *options)
{
	struct strbuf json = STRBUF_INIT;
	FILE *f = fopen(options->write_config_path, "we");
	int err = 0;

	config_format(options->config, &json);
	if (!f || json.err || fwrite(json.text, 1, json.length, f) != json.length)
		err = -EIO;
	if (f && fclose(f))
		err = -EIO;
	if (err)
		log_error(app->log, "%s: cannot be written", options->write_config_path);
	strbuf_free(&json);
	return err ? EXIT_FAILED : EXIT_DONE;
}

static int usage(void)
{
	struct strbuf text = STRBUF_INIT;

	options_usage(&text);
	if (!text.err)
		fputs(text.text, stdout);
	strbuf_free(&text);
	return EXIT_DONE;
}

static int act(struct app *app, struct options *options)
{
	int status;

	switch (options->action) {
	case ACTION_RUN:
	case ACTION_ONCE:
		return run(app, options);
	case ACTION_DRY_RUN:
		return dry_run(app, options);
	case ACTION_EXPLAIN:
		return explain(app, options);
	case ACTION_INIT_ONLY:
		status = set_kernel(app, options->config) ? EXIT_FAILED : EXIT_DONE;
		break;
	case ACTION_CLEANUP:
		status = cleanup(app);
		break;
	case ACTION_WRITE_CONFIG:
		status = write_config(app, options);
		break;
	case ACTION_VERSION:
		status = printf("vipmap %s\n", VIPMAP_VERSION) < 0 ? EXIT_FAILED : EXIT_DONE;
		break;
	case ACTION_HELP:
		status = usage();
		break;
	case ACTION_STATUS:
		status = print_status(app, options);
		break;
	default:
		status = EXIT_USAGE;
		break;
	}
	options_free(options);
	return status;
}

int main(int argc, char **argv)
{
	struct app app = { .argc = argc, .argv = argv };
	struct options options = { 0 };
	struct errbuf eb = { "" };
	int status = EXIT_FAILED;

	signal(SIGPIPE, SIG_IGN);
	app.log = log_new(STDERR_FILENO, 0, false, NULL);
	app.base = event_base_new();
	if (!app.log || !app.base) {
		fputs("vipmap: out of memory\n", stderr);
		app_free(&app);
		return EXIT_FAILED;
	}
	capability_raise_net_admin(); /* what needs it, tells if it is missing */
	app.family[FAMILY_IPV4] = true;
	app.family[FAMILY_IPV6] = kernel_has_ipv6();
	if (parse_options(&app, &options, &eb)) {
		log_error(app.log, "%s", eb.text);
		status = EXIT_USAGE;
	} else {
		if (options.config)
			log_set_verbosity(app.log, options.config->verbosity);
		status = act(&app, &options);
	}
	app_free(&app);
	return status;
}
