#include "proxy/feed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nft/addresses.h"
#include "proxy/base/hashtab.h"
#include "proxy/base/strbuf.h"
#include "proxy/serve/metrics.h"
#include "watch/apisource.h"
#include "watch/manifests.h"

int feed_load_manifests(struct feed *feed, struct errbuf *eb)
{
	int64_t begin = clock_monotonic_us(feed->app->clock);
	int err = manifests_load(feed->manifests, model_sink(feed->model), eb);

	feed->loaded_us = begin;
	feed->parse_us = clock_monotonic_us(feed->app->clock) - begin;
	return err;
}

bool feed_is_complete(const struct feed *feed)
{
	unsigned int kind;

	for (kind = 0; kind < N_KINDS; kind++)
		if (!model_has_list(feed->model, kind))
			return false;
	return true;
}

void feed_missing(const struct feed *feed, struct strbuf *out)
{
	static const char *const names[N_KINDS] = {
		[KIND_SERVICE] = "Services",
		[KIND_SLICE] = "EndpointSlices",
		[KIND_SERVICE_CIDR] = "ServiceCIDRs",
		[KIND_NODE] = "Nodes",
	};
	const size_t begin = out->length;
	struct apisource_status status;
	unsigned int kind;

	for (kind = 0; kind < N_KINDS; kind++)
		if (!model_has_list(feed->model, kind))
			strbuf_addf(out, "%s%s",
				    out->length > begin ? ", " : "no list of ",
				    names[kind]);
	if (out->length == begin || !feed->source)
		return;
	status = apisource_status(feed->source);
	strbuf_addf(out, " from %s", status.server);
	if (*status.reason)
		strbuf_addf(out, ": %s", status.reason);
}

int64_t feed_arrived_us(const struct feed *feed)
{
	return feed->source ? apisource_status(feed->source).last_contact_us
			    : feed->loaded_us;
}

static void on_source_message(void *ctx, int severity, const char *message)
{
	const struct feed *feed = ctx;

	log_message(feed->app->log, severity, message);
}

static void on_source_settled(void *ctx)
{
	const struct feed *feed = ctx;

	if (feed->settled)
		feed->settled(feed->settled_ctx);
}

/* MET-6 */
static void on_answered(void *ctx, const char *method, const char *host,
			int status, int64_t took_us)
{
	const struct feed *feed = ctx;

	if (feed->metrics)
		metrics_client_answer(feed->metrics, method, host, status,
				      (double)took_us / 1e6);
}

static void on_watch_ended(void *ctx, enum kind kind)
{
	const struct feed *feed = ctx;

	if (feed->metrics)
		metrics_add(feed->metrics, METRIC_WATCH_RESTARTS, kind, 1);
}

static struct apisource *source_new(struct feed *feed, const struct config *config,
				    const char *name, struct errbuf *eb)
{
	const struct apisource_options options = {
		.config = config,
		.clock = feed->app->clock,
		.node_name = name,
		.log = on_source_message,
		.settled = on_source_settled,
		.answered = on_answered,
		.watch_ended = on_watch_ended,
		.ctx = feed,
	};

	return apisource_new(feed->app->base, &options, model_sink(feed->model),
			     eb);
}

/* 0 if there is none, or it cannot be read: whoever opens it says why. */
static uint64_t hash_file(const char *path)
{
	FILE *f = *path ? fopen(path, "re") : NULL;
	uint64_t hash = HASH_SEED;
	char chunk[4096];
	size_t n;

	if (!f)
		return 0;
	while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
		hash = hash_bytes(hash, chunk, n);
	fclose(f);
	return hash;
}

static char *name_of_node(const struct config *config, struct errbuf *eb)
{
	char name[NODE_NAME_SIZE], *copy;

	if (node_name(config, getenv("NODE_NAME"), name, eb))
		return NULL;
	copy = strdup(name);
	if (!copy)
		errf(eb, -ENOMEM, "out of memory");
	return copy;
}

static int open_manifests(struct feed *feed, struct errbuf *eb)
{
	int err;

	feed->manifests =
		manifests_new(feed->options.config->manifests, feed->node_name);
	if (!feed->manifests)
		return errf(eb, -ENOMEM, "out of memory");
	err = feed_load_manifests(feed, eb);
	if (!err && !model_node(feed->model))
		log_warning(feed->app->log,
			    "Node %s: not among the manifests: its addresses and labels are unknown",
			    feed->node_name);
	return err;
}

static int open_all(struct feed *feed, struct errbuf *eb)
{
	const struct config *config = feed->options.config;

	feed->node_name = name_of_node(config, eb);
	if (!feed->node_name)
		return -EINVAL;
	feed->model = model_new(config, log_message, feed->app->log);
	if (!feed->model)
		return errf(eb, -ENOMEM, "out of memory");
	if (config->manifests)
		return open_manifests(feed, eb);
	feed->kubeconfig_hash = hash_file(config->kubeconfig);
	feed->source = source_new(feed, config, feed->node_name, eb);
	if (feed->source)
		return 0;
	return errno == ENOMEM ? -ENOMEM : -EDESTADDRREQ;
}

struct feed *feed_open(struct app *app, struct options *options,
		       void (*settled)(void *ctx), void *ctx, struct errbuf *eb)
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
	config_free(feed->origin);
	free(feed->node_name);
	free(feed);
}

/* Another configuration */

static bool same_text(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static bool wants_new_source(const struct feed *feed, const struct config *fresh,
			     uint64_t kubeconfig_hash)
{
	const struct config *in_use =
		feed->origin ? feed->origin : feed->options.config;

	return !same_text(in_use->kubeconfig, fresh->kubeconfig) ||
	       kubeconfig_hash != feed->kubeconfig_hash ||
	       !same_text(in_use->master, fresh->master) ||
	       !same_text(in_use->accept_content_types,
			  fresh->accept_content_types) ||
	       !same_text(in_use->content_type, fresh->content_type) ||
	       in_use->qps < fresh->qps || in_use->qps > fresh->qps ||
	       in_use->burst != fresh->burst;
}

static bool reads_standard_input(const struct config *config)
{
	char *const *path;

	for (path = config->manifests; path && *path; path++)
		if (same_text(*path, "-"))
			return true;
	return false;
}

static void drop_message(void *ctx, int severity, const char *message)
{
	(void)ctx;
	(void)severity;
	(void)message;
}

/* Read once, into a model that nobody looks at: for another node other endpoints are local. */
static int prepare_manifests(struct feed_change *change,
			     const struct config *config, struct errbuf *eb)
{
	struct model *trial = NULL;
	int err;

	if (reads_standard_input(config))
		return errf(eb, -EINVAL,
			    "hostnameOverride: cannot change while manifests come from standard "
			    "input, which can be read only once");
	change->manifests = manifests_new(config->manifests, change->node_name);
	if (change->manifests)
		trial = model_new(config, drop_message, NULL);
	if (!trial)
		return errf(eb, -ENOMEM, "out of memory");
	err = manifests_load(change->manifests, model_sink(trial), eb);
	model_free(trial);
	return err;
}

static int prepare_source(struct feed *feed, struct feed_change *change,
			  const struct config *config, struct errbuf *eb)
{
	change->node_name = name_of_node(config, eb);
	if (!change->node_name)
		return -EINVAL;
	change->new_node = !same_text(change->node_name, feed->node_name);
	if (feed->manifests) {
		change->new_source = change->new_node;
		return change->new_source ? prepare_manifests(change, config, eb)
					  : 0;
	}
	change->kubeconfig_hash = hash_file(config->kubeconfig);
	change->new_source =
		change->new_node ||
		wants_new_source(feed, config, change->kubeconfig_hash);
	if (!change->new_source)
		return 0;
	change->source = source_new(feed, config, change->node_name, eb);
	return change->source ? 0 : -EIO;
}

struct feed_change *feed_prepare(struct feed *feed, const struct options *fresh,
				 struct errbuf *eb)
{
	struct feed_change *change = calloc(1, sizeof(*change));

	if (!change) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	if (prepare_source(feed, change, fresh->config, eb)) {
		feed_change_free(change);
		return NULL;
	}
	return change;
}

void feed_change_free(struct feed_change *change)
{
	if (!change)
		return;
	if (change->source)
		apisource_free(change->source);
	if (change->manifests)
		manifests_free(change->manifests);
	free(change->node_name);
	free(change);
}

/* The old source goes with what it borrowed, the new one borrows from what is in force now. */
static void swap_source(struct feed *feed, struct feed_change *change)
{
	if (feed->source)
		apisource_free(feed->source);
	if (feed->manifests)
		manifests_free(feed->manifests);
	feed->source = change->source;
	feed->manifests = change->manifests;
	feed->kubeconfig_hash = change->kubeconfig_hash;
	change->source = NULL; /* the feed has them now */
	change->manifests = NULL;
	config_free(feed->origin);
	feed->origin = NULL;
	free(feed->node_name);
	feed->node_name = change->node_name;
	change->node_name = NULL; /* likewise */
}

void feed_adopt(struct feed *feed, struct feed_change *change, struct options *fresh)
{
	struct errbuf eb;

	if (change->new_source) {
		swap_source(feed, change);
	} else if (!feed->origin) {
		feed->origin = feed->options.config;
		feed->options.config =
			NULL; /* kept, since the source borrows from it */
	}
	options_free(&feed->options);
	feed->options = *fresh;
	memset(fresh, 0, sizeof(*fresh)); /* ours now */
	if (change->new_source && feed->source)
		apisource_start(feed->source);
	if (change->new_source && feed->manifests && feed_load_manifests(feed, &eb))
		log_error(feed->app->log, "manifests stay as they were: %s",
			  eb.text);
}

static int assume_addresses_of(struct feed *feed, enum family family,
			       const struct addresses *machine)
{
	const struct node *node = model_node(feed->model);
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

void feed_post_node_event(struct feed *feed, const char *type,
			  const char *reason, const char *note)
{
	const struct node *node = model_node(feed->model);
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
