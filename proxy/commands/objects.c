#include "proxy/commands/objects.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>

#include "nft/addresses.h"
#include "proxy/commands/ask.h"
#include "watch/apisource.h"

enum { OBJECTS_WAIT_S = 30 };

bool objects_are_named(const struct options *options)
{
	const struct config *config = options->config;

	return config->manifests || options->config_path || *config->kubeconfig || *config->master;
}

static void on_settled(void *ctx)
{
	struct objects *o = ctx;

	if (model_is_complete(o->feed->model))
		app_exit(o->app, EXIT_DONE);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct objects *o = ctx;

	(void)fd;
	(void)what;
	command_fails(EXIT_FAILED, "no answer from the API server for %d s", OBJECTS_WAIT_S);
	app_exit(o->app, EXIT_FAILED);
}

static int wait_for_objects(struct objects *o)
{
	const struct timeval patience = { OBJECTS_WAIT_S, 0 };

	apisource_start(o->feed->source);
	event_base_once(o->app->base, -1, EV_TIMEOUT, on_timer, o, &patience);
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

static int compile_all(struct objects *o)
{
	unsigned int f;
	int err = know_addresses(o);

	for (f = 0; !err && f < N_FAMILIES; f++) {
		const struct dataplane_options options = {
			.family = (enum family)f,
			.model = o->feed->model,
		};

		o->dataplanes[f] = dataplane_new(&options);
		err = o->dataplanes[f] ? dataplane_compile(o->dataplanes[f]) : -ENOMEM;
	}
	return err ? command_fails(EXIT_FAILED, "out of memory") : EXIT_DONE;
}

int objects_open(struct objects *o, struct app *app, struct options *options)
{
	struct errbuf eb = { "" };
	int status = EXIT_DONE;

	memset(o, 0, sizeof(*o));
	o->app = app;
	o->feed = feed_open(app, options, on_settled, o, &eb);
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
	};
	app->view = &o->view;
	return EXIT_DONE;
}

void objects_close(struct objects *o)
{
	unsigned int f;

	if (o->app)
		o->app->view = NULL;
	for (f = 0; f < N_FAMILIES; f++)
		dataplane_free(o->dataplanes[f]);
	feed_close(o->feed);
	memset(o, 0, sizeof(*o));
}
