#include "proxy/commands/objects.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nft/addresses.h"
#include "nft/interfaces.h"
#include "proxy/base/clock.h"
#include "proxy/base/strbuf.h"
#include "proxy/commands/ask.h"
#include "watch/apisource.h"
#include "watch/proxyconfig.h"

bool objects_are_named(const struct options *options)
{
	const struct config *config = options->config;

	return config->manifests || options->config_path ||
	       *config->kubeconfig || *config->master;
}

static void on_objects_settled(void *ctx)
{
	struct objects *o = ctx;

	if (feed_is_complete(o->feed))
		app_exit(o->app, EXIT_DONE);
}

static void on_objects_timeout(evutil_socket_t fd, short what, void *ctx)
{
	struct objects *o = ctx;
	struct strbuf why = STRBUF_INIT;
	char age[AGE_TEXT_SIZE];
	int status = EXIT_DONE;

	(void)fd;
	(void)what;
	feed_missing(o->feed, &why);
	if (model_is_complete(o->feed->model))
		log_warning(o->app->log, "%s: the answer is without them",
			    why.text ? why.text : "");
	else
		status = command_fails(
			EXIT_FAILED, "gave up after %s: %s",
			age_format(o->feed->options.timeout_ms / 1000, age),
			why.text ? why.text : "");
	strbuf_free(&why);
	app_exit(o->app, status);
}

static int wait_for_objects(struct objects *o)
{
	const int64_t ms = o->feed->options.timeout_ms;
	const struct timeval patience = { ms / 1000, ms % 1000 * 1000 };

	apisource_start(o->feed->source);
	event_base_once(o->app->base, -1, EV_TIMEOUT, on_objects_timeout, o,
			&patience);
	event_base_dispatch(o->app->base);
	return o->app->exit_status;
}

/* A packet's source or destination may be any address of this machine, not only its Node's. */
static int know_addresses(struct objects *o)
{
	struct errbuf eb = { "" };
	struct addresses *machine = addresses_open(&eb);
	bool changed;
	int err;

	if (!machine || addresses_read(machine, &changed, &eb) < 0)
		log_warning(o->app->log, "addresses of this machine: %s", eb.text);
	err = feed_assume_addresses(o->feed, machine);
	if (machine)
		addresses_close(machine);
	return err;
}

struct interfaces *interfaces_now(const struct config *config, struct log *log)
{
	struct interfaces *interfaces;
	struct errbuf eb = { "" };
	bool changed;

	if (!config_has_fast_path(config))
		return NULL;
	interfaces = interfaces_open(&eb);
	if (!interfaces || interfaces_read(interfaces, &changed, &eb))
		log_warning(log, "%s", eb.text);
	return interfaces;
}

static int compile_all(struct objects *o)
{
	unsigned int f;
	int err = know_addresses(o);

	for (f = 0; !err && f < N_FAMILIES; f++) {
		const struct dataplane_options options = {
			.family = (enum family)f,
			.model = o->feed->model,
			.clock = o->app->clock,
		};

		o->dataplanes[f] = dataplane_new(&options);
		err = o->dataplanes[f] ? dataplane_compile(o->dataplanes[f])
				       : -ENOMEM;
	}
	return err ? command_fails(EXIT_FAILED, "out of memory") : EXIT_DONE;
}

static int open_feed(struct objects *o, struct app *app, struct options *options)
{
	struct errbuf eb = { "" };
	int status = EXIT_DONE;

	o->feed = feed_open(app, options, on_objects_settled, o, &eb);
	if (!o->feed) {
		status = feed_exit_status(errno);
		return command_fails(status, "%s", eb.text);
	}
	if (o->feed->source)
		status = wait_for_objects(o);
	if (!status)
		status = compile_all(o);
	if (status)
		return status;
	o->view = (struct view){
		.config = o->feed->options.config,
		.model = o->feed->model,
		.node_name = o->feed->node_name,
		.revision = app->revision,
		.log = app->log,
		.clock = app->clock,
	};
	app->view = &o->view;
	return EXIT_DONE;
}

int objects_open(struct objects *o, struct app *app, struct options *options)
{
	memset(o, 0, sizeof(*o));
	o->app = app;
	return open_feed(o, app, options);
}

/* A file in memory with @text, and its path. */
static int memory_file(struct objects *o, const struct strbuf *text, char path[32])
{
	int fd = memfd_create("vipmap", MFD_CLOEXEC), *more;

	more = fd < 0 ? NULL
		      : reallocarray(o->files, (size_t)o->n_files + 1,
				     sizeof(*more));
	if (!more) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	o->files = more;
	o->files[o->n_files++] = fd;
	snprintf(path, 32, "/proc/self/fd/%d", fd);
	return text->err || write(fd, text->text, text->length) !=
				       (ssize_t)text->length
		       ? -EIO
		       : 0;
}

static void no_warning(void *ctx, const char *message)
{
	(void)ctx;
	(void)message;
}

static int copy_config(struct objects *o, struct config *config)
{
	struct strbuf text = STRBUF_INIT, beyond = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct json *node = NULL;
	char path[32], beyond_path[32];
	int status = ask_text(o->app, "/v1/config", &text), err;

	if (!status)
		status = ask_text(o->app, "/v1/config/vipmap", &beyond);
	if (!status)
		status = ask_json(o->app, "/v1/node", &node);
	if (!status) {
		err = memory_file(o, &text, path);
		if (!err)
			err = proxyconfig_read(path, config, no_warning, NULL, &eb);
		if (!err)
			err = memory_file(o, &beyond, beyond_path);
		if (!err)
			err = vipmapconfig_read(beyond_path, config, no_warning,
						NULL, &eb);
		if (!err)
			err = config_set(&config->hostname_override,
					 text_at(node, "name"));
		if (!err)
			err = config_validate(config, no_warning, NULL, &eb);
		if (err)
			status = command_fails(
				EXIT_FAILED, "the running configuration: %s",
				*eb.text ? eb.text : strerror(-err));
	}
	json_free(node);
	strbuf_free(&text);
	strbuf_free(&beyond);
	return status;
}

/* Page by page, each a file of its own. */
static int copy_objects(struct objects *o, struct config *config)
{
	struct strbuf target = STRBUF_INIT, text = STRBUF_INIT;
	char path[32], after[600] = "";
	struct errbuf eb = { "" };
	struct json *json;
	int status, err;

	do {
		strbuf_reset(&target);
		strbuf_adds(&target, "/v1/objects?");
		ask_add(&target, "continue", after);
		strbuf_reset(&text);
		status = ask_text(o->app, target.text, &text);
		if (status)
			break;
		json = json_parse(text.text, text.length, &eb);
		snprintf(after, sizeof(after), "%s", text_at(json, "continue"));
		err = json ? memory_file(o, &text, path) : -EINVAL;
		json_free(json);
		if (!err)
			err = config_append(&config->manifests, path);
		if (err)
			status = command_fails(
				EXIT_FAILED, "the running objects: %s",
				*eb.text ? eb.text : strerror(-err));
	} while (!status && *after);
	strbuf_free(&target);
	strbuf_free(&text);
	return status;
}

int objects_copy(struct objects *o, struct app *app)
{
	struct options options = { .action = ACTION_COMMAND };
	int status = EXIT_FAILED;

	memset(o, 0, sizeof(*o));
	o->app = app;
	o->log = app->log;
	o->quiet = log_new(-1, 0, false, app->clock);
	options.config = config_new();
	if (!options.config || !o->quiet) {
		command_fails(EXIT_FAILED, "out of memory");
	} else {
		status = copy_config(o, options.config);
		if (!status)
			status = copy_objects(o, options.config);
		app->log = o->quiet;
		if (!status)
			status = open_feed(o, app, &options);
	}
	options_free(&options);
	return status;
}

void objects_close(struct objects *o)
{
	unsigned int f;
	int i;

	if (o->app)
		o->app->view = NULL;
	if (o->quiet) {
		o->app->log = o->log;
		log_free(o->quiet);
	}
	for (i = 0; i < o->n_files; i++)
		close(o->files[i]);
	free(o->files);
	for (f = 0; f < N_FAMILIES; f++)
		dataplane_free(o->dataplanes[f]);
	feed_close(o->feed);
	memset(o, 0, sizeof(*o));
}
