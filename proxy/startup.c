#include "proxy/startup.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

#include "nft/nlsock.h"
#include "nft/readback.h"
#include "proxy/base/strbuf.h"

enum {
	NODE_WAIT_S = 30,      /* NODE-1 */
	POD_CIDR_WAIT_S = 300, /* NODE-3 */
};

struct startup {
	struct feed *feed;
	void (*ready)(void *ctx);
	void *ctx;
	struct event *timer;
	int64_t began_us;
	bool over;
};

static bool has_pod_cidrs(const struct node *node)
{
	return node && (node->pod_cidrs[FAMILY_IPV4].count ||
			node->pod_cidrs[FAMILY_IPV6].count);
}

enum startup_verdict startup_judge(const struct config *config,
				   const struct node *node, int64_t waited_us)
{
	const bool node_cidr = config->detect_local == DETECT_NODE_CIDR;
	const int64_t waited_s = waited_us / 1000000;

	if (node && node->n_addresses && (!node_cidr || has_pod_cidrs(node)))
		return STARTUP_READY;
	if (node_cidr)
		return waited_s < NODE_WAIT_S + POD_CIDR_WAIT_S
			       ? STARTUP_WAIT
			       : STARTUP_WITHOUT_POD_CIDRS;
	return waited_s < NODE_WAIT_S ? STARTUP_WAIT : STARTUP_WITHOUT_ADDRESSES;
}

static enum startup_verdict judge_node_now(const struct startup *s)
{
	const struct feed *feed = s->feed;

	return startup_judge(feed->options.config, model_node(feed->model),
			     clock_monotonic_us(feed->app->clock) - s->began_us);
}

int startup_check(const struct app *app, const char *node_name,
		  const struct config *config, const struct node *node,
		  void (*warn)(void *ctx, const char *message), struct errbuf *eb)
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
	/* DS-2: without rules in it a node would look healthy and be useless. */
	if (!kernel[primary])
		return errf(eb, -EAFNOSUPPORT,
			    "Node %s: its primary family is %s, which this kernel lacks",
			    node_name, family_name(primary));
	/* NODE-3: without the Node's ranges every pod would be taken for a stranger. */
	if (config->detect_local == DETECT_NODE_CIDR && !has_pod_cidrs(node))
		return errf(eb, -ENOENT,
			    "Node %s: spec.podCIDRs: none, and detectLocalMode is NodeCIDR",
			    node_name);
	return config_check_families(config, primary,
				     kernel[FAMILY_IPV4] && kernel[FAMILY_IPV6],
				     pod_cidrs, warn, app->log, eb);
}

bool startup_node_fits(struct feed *feed)
{
	struct errbuf eb = { "" };

	if (startup_check(feed->app, feed->node_name, feed->options.config,
			  model_node(feed->model), log_warning_message, &eb) == 0)
		return true;
	log_error(feed->app->log, "%s", eb.text);
	app_exit(feed->app, EXIT_FAILED);
	return false;
}

bool startup_is_over(const struct startup *s)
{
	return s->over;
}

void startup_waiting(const struct startup *s, struct strbuf *why)
{
	const struct node *node = model_node(s->feed->model);

	if (s->over)
		return;
	strbuf_addf(why, "Node %s: %s yet", s->feed->node_name,
		    !node		 ? "unknown"
		    : !node->n_addresses ? "has no addresses"
					 : "has no spec.podCIDRs");
}

static void startup_finish(struct startup *s)
{
	assert(s->ready);
	if (s->over || !startup_node_fits(s->feed))
		return;
	s->over = true;
	s->ready(s->ctx);
}

static void on_startup_timer(evutil_socket_t fd, short what, void *ctx)
{
	const struct timeval second = { 1, 0 };
	struct startup *s = ctx;
	const enum startup_verdict verdict = judge_node_now(s);

	(void)fd;
	(void)what;
	if (s->over)
		return;
	if (verdict == STARTUP_WAIT) {
		event_add(s->timer, &second);
		return;
	}
	if (verdict == STARTUP_WITHOUT_ADDRESSES)
		log_error(s->feed->app->log,
			  "Node %s: no addresses after %d s: going on without",
			  s->feed->node_name, NODE_WAIT_S);
	startup_finish(s);
}

struct startup *startup_new(struct feed *feed, void (*ready)(void *ctx), void *ctx)
{
	struct startup *s = calloc(1, sizeof(*s));

	assert(ready);
	if (!s)
		return NULL;
	s->feed = feed;
	s->ready = ready;
	s->ctx = ctx;
	s->timer = evtimer_new(feed->app->base, on_startup_timer, s);
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

	s->began_us = clock_monotonic_us(s->feed->app->clock);
	if (s->feed->source)
		event_add(s->timer, &now);
	else
		startup_finish(s);
}

void startup_settled(struct startup *s)
{
	if (!s->over && judge_node_now(s) == STARTUP_READY)
		startup_finish(s);
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
		log_debug(app->log, 1, "looking for other service proxies: %s",
			  eb.text);
	nlsock_close(nl);
}
