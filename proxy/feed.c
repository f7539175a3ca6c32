#include "proxy/feed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nft/addresses.h"
#include "proxy/base/clock.h"
#include "proxy/serve/metrics.h"
#include "watch/apisource.h"
#include "watch/manifests.h"

int feed_load_manifests(struct feed *feed, struct errbuf *eb)
{
	int64_t begin = clock_monotonic_us(clock_system());
	int err = manifests_load(feed->manifests, model_sink(feed->model), eb);

	feed->loaded_us = begin;
	feed->parse_us = clock_monotonic_us(clock_system()) - begin;
	return err;
}

int64_t feed_arrived_us(const struct feed *feed)
{
	return feed->source ? apisource_status(feed->source).last_contact_us : feed->loaded_us;
}

static void on_message(void *ctx, int severity, const char *message)
{
	const struct feed *feed = ctx;

	log_message(feed->app->log, severity, message);
}

static void on_settled(void *ctx)
{
	const struct feed *feed = ctx;

	if (feed->settled)
		feed->settled(feed->settled_ctx);
}

/* MET-6 */
static void on_answered(void *ctx, const char *method, const char *host, int status,
			int64_t took_us)
{
	const struct feed *feed = ctx;

	if (feed->metrics)
		metrics_client_answer(feed->metrics, method, host, status, (double)took_us / 1e6);
}

static void on_watch_ended(void *ctx, enum kind kind)
{
	const struct feed *feed = ctx;

	if (feed->metrics)
		metrics_add(feed->metrics, METRIC_WATCH_RESTARTS, kind, 1);
}

static int open_source(struct feed *feed, struct errbuf *eb)
{
	const struct apisource_options options = {
		.config = feed->options.config,
		.node_name = feed->node_name,
		.log = on_message,
		.settled = on_settled,
		.answered = on_answered,
		.watch_ended = on_watch_ended,
		.ctx = feed,
	};

	feed->source = apisource_new(feed->app->base, &options, model_sink(feed->model), eb);
	if (feed->source)
		return 0;
	return errno == ENOMEM ? -ENOMEM : -EDESTADDRREQ;
}

static int open_manifests(struct feed *feed, struct errbuf *eb)
{
	int err;

	feed->manifests = manifests_new(feed->options.config->manifests, feed->node_name);
	if (!feed->manifests)
		return errf(eb, -ENOMEM, "out of memory");
	err = feed_load_manifests(feed, eb);
	if (!err && !feed->model->node)
		log_warning(
			feed->app->log,
			"Node %s: not among the manifests: its addresses and labels are unknown",
			feed->node_name);
	return err;
}

static int open_all(struct feed *feed, struct errbuf *eb)
{
	const struct config *config = feed->options.config;
	int err;

	err = node_name(config, getenv("NODE_NAME"), feed->node_name, eb);
	if (err)
		return err;
	feed->model = model_new(config, log_message, feed->app->log);
	if (!feed->model)
		return errf(eb, -ENOMEM, "out of memory");
	return config->manifests ? open_manifests(feed, eb) : open_source(feed, eb);
}

struct feed *feed_open(struct app *app, struct options *options, void (*settled)(void *ctx),
		       void *ctx, struct errbuf *eb)
{
	struct feed *feed = calloc(1, sizeof(*feed));
	int err;

	if (!feed) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	feed->app = app;
	feed->options = *options;
	memset(options, 0, sizeof(*options)); /* ours now */
	feed->settled = settled;
	feed->settled_ctx = ctx;
	err = open_all(feed, eb);
	if (err) {
		feed_close(feed);
		errno = -err;
		return NULL;
	}
	return feed;
}

int feed_exit_status(int error)
{
	return error == EDESTADDRREQ ? EXIT_USAGE : EXIT_FAILED;
}

void feed_close(struct feed *feed)
{
	if (!feed)
		return;
	if (feed->source)
		apisource_free(feed->source);
	if (feed->manifests)
		manifests_free(feed->manifests);
	model_free(feed->model);
	options_free(&feed->options);
	free(feed);
}

static int assume_addresses_of(struct feed *feed, enum family family,
			       const struct addresses *machine)
{
	const struct node *node = feed->model->node;
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
	err = model_set_addresses(feed->model, family, list, n);
	free(list);
	return err;
}

int feed_assume_addresses(struct feed *feed, const struct addresses *machine)
{
	int err = assume_addresses_of(feed, FAMILY_IPV4, machine);

	return err ? err : assume_addresses_of(feed, FAMILY_IPV6, machine);
}

void feed_post_node_event(struct feed *feed, const char *type, const char *reason, const char *note)
{
	const struct node *node = feed->model->node;
	const struct apisource_event event = {
		.kind = KIND_NODE,
		.namespace = "",
		.name = feed->node_name,
		.uid = node ? node->uid : "",
		.type = type,
		.reason = reason,
		.action = "StartKubeProxy",
		.note = note,
	};

	if (feed->source)
		apisource_post_event(feed->source, &event);
}
