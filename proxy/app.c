#include "proxy/app.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proxy/commands/commands.h"
#include "watch/proxyconfig.h"

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

/*
 * Three priorities: new events have the middle one, and connections of localhost node ports the
 * last. After a few calls of those the loop looks for others.
 */
static struct event_base *new_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config &&
	    event_config_set_max_dispatch_interval(config, NULL, 4, 2) == 0)
		base = event_base_new_with_config(config);
	if (base && event_base_priority_init(base, 3)) {
		event_base_free(base);
		base = NULL;
	}
	if (config)
		event_config_free(config);
	return base;
}

int app_open(struct app *app, const struct clock *clock, int argc, char **argv)
{
	sigset_t hangup;

	assert(clock); /* argc may be 0: whoever starts a program decides */
	/* Whoever sends one during the start must not end a daemon that is about to listen. */
	sigemptyset(&hangup);
	sigaddset(&hangup, SIGHUP);
	sigprocmask(SIG_BLOCK, &hangup, NULL);
	memset(app, 0, sizeof(*app));
	app->argc = argc;
	app->argv = argv;
	app->clock = clock;
	app->log = log_new(STDERR_FILENO, 0, false, clock);
	app->base = new_base();
	app->family[FAMILY_IPV4] = true;
	app->family[FAMILY_IPV6] = kernel_has_ipv6();
	return app->log && app->base ? 0 : -ENOMEM;
}

void app_close(struct app *app)
{
	unsigned int i;

	for (i = 0; i < N_APP_SIGNALS; i++)
		if (app->signals[i])
			event_free(app->signals[i]);
	if (app->base)
		event_base_free(app->base);
	log_free(app->log);
}

void app_release_hangup(void)
{
	sigset_t hangup;

	sigemptyset(&hangup);
	sigaddset(&hangup, SIGHUP);
	sigprocmask(SIG_UNBLOCK, &hangup, NULL);
}

void app_set_log(struct app *app, const struct config *config)
{
	log_set_verbosity(app->log, config->verbosity);
	log_set_json(app->log, strcmp(config->logging_format, "json") == 0);
}

void app_exit(struct app *app, int status)
{
	app->exit_status = status;
	app->ending = true;
	event_base_loopbreak(app->base);
}

static void on_warning(void *ctx, const char *message)
{
	const struct app *app = ctx;

	log_warning_message(app->log, message);
}

static void remember_file(const char *path, struct stat *st)
{
	if (stat(path, st))
		memset(st, 0, sizeof(*st));
}

/* A change while it is read, or soon after, is one that follows. */
static int app_read_config(void *ctx, const char *path, struct config *config,
			   void (*warn)(void *ctx, const char *message),
			   void *warn_ctx, struct errbuf *eb)
{
	struct app *app = ctx;

	remember_file(path, &app->config_stat);
	return proxyconfig_read(path, config, warn, warn_ctx, eb);
}

static int read_vipmap_config(void *ctx, const char *path, struct config *config,
			      void (*warn)(void *ctx, const char *message),
			      void *warn_ctx, struct errbuf *eb)
{
	struct app *app = ctx;

	remember_file(path, &app->vipmap_config_stat);
	return vipmapconfig_read(path, config, warn, warn_ctx, eb);
}

/* At the start, so that already the first line is as it should be; a reload must be good first. */
static void on_logging(void *ctx, const struct config *config, bool lasts)
{
	struct app *app = ctx;

	if (!app->log_is_set)
		app_set_log(app, config);
	if (!app->log_is_set)
		log_set_plain(app->log, !lasts);
	app->log_is_set = true;
}

int app_parse_options(struct app *app, struct options *options, struct errbuf *eb)
{
	const struct options_env env = {
		.read_config = app_read_config,
		.read_vipmap_config = read_vipmap_config,
		.warn = on_warning,
		.logging = on_logging,
		.find_command = command_find,
		.ctx = app,
	};

	return options_parse(app->argc, app->argv, &env, options, eb);
}

void app_remember_files(struct app *app, const struct options *options)
{
	if (options->config_path)
		remember_file(options->config_path, &app->config_stat);
	if (options->vipmap_config_path)
		remember_file(options->vipmap_config_path,
			      &app->vipmap_config_stat);
}

static void on_app_hangup(evutil_socket_t fd, short what, void *ctx)
{
	struct app *app = ctx;

	(void)fd;
	(void)what;
	app->hangup(app->hangup_ctx);
}

static void on_terminate(evutil_socket_t fd, short what, void *ctx)
{
	struct app *app = ctx;

	(void)what;
	app->signal = (int)fd;
	app_exit(app, app->end_status);
}

int app_watch_signals(struct app *app, void (*hangup)(void *ctx), void *ctx)
{
	static const struct {
		int number;
		event_callback_fn call;
	} wanted[N_APP_SIGNALS] = {
		{ SIGTERM, on_terminate },
		{ SIGINT, on_terminate },
		{ SIGHUP, on_app_hangup },
	};
	const unsigned int n = hangup ? N_APP_SIGNALS : N_APP_SIGNALS - 1;
	unsigned int i;

	app->hangup = hangup;
	app->hangup_ctx = ctx;
	for (i = 0; i < n; i++) {
		app->signals[i] = evsignal_new(app->base, wanted[i].number,
					       wanted[i].call, app);
		if (!app->signals[i] || event_add(app->signals[i], NULL))
			return -ENOMEM;
	}
	app_release_hangup();
	return 0;
}
