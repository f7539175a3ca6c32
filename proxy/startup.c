#include "proxy/startup.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

#include "nft/nlsock.h"
#include "nft/readback.h"

enum {
	NODE_WAIT_S = 30,      /* NODE-1 */
	POD_CIDR_WAIT_S = 300, /* NODE-3 */
};

struct startup {
	struct feed *feed;
	void (*ready)(void *ctx);
	void *ctx;
	struct event *timer;
	unsigned int waited_s;
	bool over;
};

static bool wants_pod_cidrs(const struct feed *feed)
{
	return feed->options.config->detect_local == DETECT_NODE_CIDR;
}

static bool has_pod_cidrs(const struct feed *feed)
{
	const struct node *node = feed->model->node;

	return node && (node->pod_cidrs[FAMILY_IPV4].count || node->pod_cidrs[FAMILY_IPV6].count);
}

/* Whether the wait for the Node is over: it is there, or it has lasted long enough. */
static bool node_is_ready(struct startup *s)
{
	struct feed *feed = s->feed;
	const struct node *node = feed->model->node;
	const bool node_cidr = wants_pod_cidrs(feed);

	if (node && node->n_addresses && (!node_cidr || has_pod_cidrs(feed)))
		return true;
	if (node_cidr && s->waited_s >= NODE_WAIT_S + POD_CIDR_WAIT_S)
		return true; /* which startup_node_fits() will not take */
	if (node_cidr || s->waited_s < NODE_WAIT_S)
		return false;
	log_error(feed->app->log, "Node %s: no addresses after %d s: going on without",
		  feed->node_name, NODE_WAIT_S);
	return true;
}

/* DS-2: without rules in its primary family a node would look healthy and be useless. */
static bool primary_family_works(struct feed *feed)
{
	const enum family primary = feed->model->info.primary_family;

	if (feed->app->family[primary])
		return true;
	log_error(feed->app->log, "Node %s: its primary family is %s, which this kernel has not",
		  feed->node_name, family_name(primary));
	return false;
}

/* Without the Node's ranges every pod would be taken for a stranger (NODE-3). */
static bool pod_cidrs_known(struct feed *feed)
{
	if (!wants_pod_cidrs(feed) || has_pod_cidrs(feed))
		return true;
	log_error(feed->app->log, "Node %s: spec.podCIDRs: none, and detectLocalMode is NodeCIDR",
		  feed->node_name);
	return false;
}

int startup_check_families(const struct app *app, const struct config *config,
			   const struct node *node, void (*warn)(void *ctx, const char *message),
			   struct errbuf *eb)
{
	static const struct addr_view nowhere[N_FAMILIES];
	const bool *kernel = app->family;
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
				     pod_cidrs, warn, app->log, eb);
}

static bool families_fit(struct feed *feed)
{
	struct errbuf eb = { "" };

	if (startup_check_families(feed->app, feed->options.config, feed->model->node,
				   log_warning_message, &eb) == 0)
		return true;
	log_error(feed->app->log, "%s", eb.text);
	return false;
}

bool startup_node_fits(struct feed *feed)
{
	if (primary_family_works(feed) && pod_cidrs_known(feed) && families_fit(feed))
		return true;
	app_exit(feed->app, EXIT_FAILED);
	return false;
}

static void finish(struct startup *s)
{
	if (s->over || !startup_node_fits(s->feed))
		return;
	s->over = true;
	s->ready(s->ctx);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	const struct timeval second = { 1, 0 };
	struct startup *s = ctx;

	(void)fd;
	(void)what;
	if (node_is_ready(s)) {
		finish(s);
		return;
	}
	s->waited_s++;
	event_add(s->timer, &second);
}

struct startup *startup_new(struct feed *feed, void (*ready)(void *ctx), void *ctx)
{
	struct startup *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->feed = feed;
	s->ready = ready;
	s->ctx = ctx;
	s->timer = evtimer_new(feed->app->base, on_timer, s);
	if (!s->timer) {
		free(s);
		return NULL;
	}
	return s;
}

void startup_free(struct startup *s)
{
	if (!s)
		return;
	event_free(s->timer);
	free(s);
}

void startup_begin(struct startup *s)
{
	const struct timeval now = { 0, 0 };

	if (s->feed->source)
		event_add(s->timer, &now);
	else
		finish(s);
}

void startup_settled(struct startup *s)
{
	if (!s->over && s->feed->model->node && node_is_ready(s))
		finish(s);
}

static void warn_of_rivals(void *ctx, const char *what)
{
	log_warning(ctx, "%s: another service proxy's rules are active", what);
}

void startup_look_for_rivals(struct app *app)
{
	struct errbuf eb;
	struct nlsock *nl = nlsock_open(&eb);

	if (nl && readback_rivals(nl, warn_of_rivals, app->log, &eb) < 0)
		log_debug(app->log, 1, "looking for other service proxies: %s", eb.text);
	nlsock_close(nl);
}
