/*
 * Service ports are told when all of a transaction is known, so their lines
 * wait until the end of the sync. A sync of everything would be a line for each
 * of 10,000: what goes beyond a bound is counted instead.
 */
#include "proxy/serve/news.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <syslog.h>

#include "proxy/base/jsonout.h"
#include "proxy/base/strbuf.h"
#include "proxy/serve/httpd.h"
#include "proxy/serve/view.h"

enum {
	MAX_LISTENERS = 4,
	/* Bytes that a listener has not read: all lines of a sync of both families go in. */
	QUEUE_MAX = 512 << 10,
	LOST_PERIOD_S =
		1, /* until it is told that it lost some, if nothing else comes */
	PORTS_MAX = 500, /* of one family's sync, some 430 bytes each */
	NAMED_MAX = 20, /* endpoints and addresses of one change that are named */
	WORK_MAX = 50000, /* endpoints that are looked at in one sync, for the details */
};

struct news_listener {
	TAILQ_ENTRY(news_listener) link;
	struct news *news;
	struct httpd_stream *stream;
	unsigned long lost; /* lines since the latest that it got */
};

TAILQ_HEAD(listeners, news_listener);

/* What of the node is compared, and as which field it is told. */
enum facet {
	FACET_STATE,
	FACET_ZONE,
	FACET_ADDRESSES,
	FACET_POD_CIDRS,
	FACET_LOCAL,
	N_FACETS
};

struct news {
	const struct clock *clock;
	const struct model *model;
	const char *node_name;
	struct listeners listeners;
	unsigned int n_listeners;
	struct event *lost_timer;
	/* Of the sync under way: objects without their end, each terminated by NUL */
	struct strbuf ports;
	unsigned int n_ports, more_ports, work;
	struct strbuf facets[N_FACETS], line;
	struct arena scratch;
};

static void on_lost_timer(evutil_socket_t fd, short what, void *ctx);

struct news *news_new(struct event_base *base, const struct clock *clock,
		      const struct model *model)
{
	struct news *n = calloc(1, sizeof(*n));

	assert(base && clock && model);
	if (!n)
		return NULL;
	n->clock = clock;
	n->model = model;
	TAILQ_INIT(&n->listeners);
	n->lost_timer = evtimer_new(base, on_lost_timer, n);
	if (n->lost_timer)
		return n;
	free(n);
	return NULL;
}

static void drop_facets(struct news *n)
{
	unsigned int i;

	for (i = 0; i < N_FACETS; i++)
		strbuf_free(&n->facets[i]);
}

void news_set_node_name(struct news *n, const char *node_name)
{
	if (n)
		n->node_name = node_name;
}

void news_free(struct news *n)
{
	struct news_listener *l;

	if (!n)
		return;
	while ((l = TAILQ_FIRST(&n->listeners))) {
		TAILQ_REMOVE(&n->listeners, l, link);
		httpd_stream_end(l->stream);
		free(l);
	}
	event_free(n->lost_timer);
	drop_facets(n);
	strbuf_free(&n->ports);
	strbuf_free(&n->line);
	arena_free(&n->scratch);
	free(n);
}

static bool is_heard(const struct news *n)
{
	return n && n->n_listeners;
}

/* Listeners */

static void on_listener_closed(void *ctx)
{
	struct news_listener *l = ctx;

	assert(l->news->n_listeners);
	TAILQ_REMOVE(&l->news->listeners, l, link);
	l->news->n_listeners--;
	free(l);
}

static void begin_line(struct news *n, struct strbuf *out, const char *type)
{
	char time[CLOCK_TEXT_SIZE];

	jsonout_object(out, NULL);
	jsonout_text(out, "time", clock_format(clock_realtime_us(n->clock), time));
	jsonout_text(out, "type", type);
}

/*
 * What it has lost comes first. Returns false if there is no room; after true
 * the listener may be gone.
 */
static bool listener_tell(struct news *n, struct news_listener *l,
			  const char *text, size_t length)
{
	struct strbuf both = STRBUF_INIT;
	bool told;

	if (l->lost) {
		begin_line(n, &both, "lost");
		jsonout_integer(&both, "lines", (int64_t)l->lost);
		jsonout_object_end(&both);
		strbuf_addc(&both, '\n');
	}
	strbuf_add(&both, text, length);
	told = !both.err &&
	       httpd_stream_waiting(l->stream) + both.length <= QUEUE_MAX;
	if (told) {
		l->lost = 0;
		httpd_stream_write(l->stream, both.text, both.length);
	}
	strbuf_free(&both);
	return told;
}

/* Half of the queue has to be read before it goes on: not line by line. */
static bool listener_is_behind(const struct news_listener *l)
{
	return l->lost && httpd_stream_waiting(l->stream) > QUEUE_MAX / 2;
}

static void put_all(struct news *n, const char *text, size_t length)
{
	const struct timeval soon = { LOST_PERIOD_S, 0 };
	struct news_listener *l, *next;

	assert(length && text[length - 1] == '\n');
	for (l = TAILQ_FIRST(&n->listeners); l; l = next) {
		next = TAILQ_NEXT(l, link);
		if (!listener_is_behind(l) && listener_tell(n, l, text, length))
			continue;
		l->lost++;
		if (!event_pending(n->lost_timer, EV_TIMEOUT, NULL))
			event_add(n->lost_timer, &soon);
	}
}

static void on_lost_timer(evutil_socket_t fd, short what, void *ctx)
{
	const struct timeval soon = { LOST_PERIOD_S, 0 };
	struct news *n = ctx;
	struct news_listener *l, *next;
	bool again = false;

	(void)fd;
	(void)what;
	for (l = TAILQ_FIRST(&n->listeners); l; l = next) {
		next = TAILQ_NEXT(l, link);
		if (l->lost &&
		    (listener_is_behind(l) || !listener_tell(n, l, "", 0)))
			again = true;
	}
	if (again)
		event_add(n->lost_timer, &soon);
}

static void end_line(struct news *n)
{
	jsonout_object_end(&n->line);
	strbuf_addc(&n->line, '\n');
	if (!n->line.err)
		put_all(n, n->line.text, n->line.length);
	strbuf_reset(&n->line);
}

/* The node */

static void add_to_list(struct strbuf *out, const char *text)
{
	strbuf_addf(out, "%s%s", out->length ? "," : "", text);
}

static void format_facet(const struct model *m, enum facet facet, struct strbuf *out)
{
	const struct node *node = model_node(m);
	struct addr_view local;
	char text[PREFIX_TEXT_SIZE];
	unsigned int i, f;

	assert(facet < N_FACETS);
	switch (facet) {
	case FACET_STATE:
		add_to_list(out, !node				    ? "unknown"
				 : node->flags & NODE_DELETED	    ? "deleted"
				 : node->flags & NODE_TO_BE_DELETED ? "to be deleted"
								    : "present");
		break;
	case FACET_ZONE:
		add_to_list(out, model_zone(m));
		break;
	case FACET_ADDRESSES:
		for (i = 0; node && i < node->n_addresses; i++)
			add_to_list(out,
				    addr_format(node->addresses[i].family,
						&node->addresses[i].addr, text));
		break;
	case FACET_POD_CIDRS:
		for (f = 0; node && f < N_FAMILIES; f++)
			for (i = 0; i < node->pod_cidrs[f].count; i++)
				add_to_list(out,
					    prefix_format(
						    (enum family)f,
						    &node->pod_cidrs[f].items[i],
						    text));
		break;
	case FACET_LOCAL:
		for (f = 0; f < N_FAMILIES; f++) {
			local = model_addresses(m, (enum family)f);
			for (i = 0; i < local.count; i++)
				add_to_list(out,
					    addr_format((enum family)f,
							&local.items[i], text));
		}
		break;
	case N_FACETS:
		break;
	}
}

static const char *facet_text(const struct strbuf *facet)
{
	return facet->text ? facet->text : "";
}

/* Appends those that have changed, and remembers them. Returns how many. */
static unsigned int compare_facets(struct news *n, struct strbuf *out)
{
	static const char *const fields[] = {
		[FACET_STATE] = "state",
		[FACET_ZONE] = "zone",
		[FACET_ADDRESSES] = "addresses",
		[FACET_POD_CIDRS] = "podCIDRs",
		[FACET_LOCAL] = "localAddresses",
	};
	unsigned int i, changed = 0;

	for (i = 0; i < N_FACETS; i++) {
		struct strbuf now = STRBUF_INIT;

		format_facet(n->model, (enum facet)i, &now);
		if (now.err ||
		    strcmp(facet_text(&now), facet_text(&n->facets[i])) == 0) {
			strbuf_free(&now);
			continue;
		}
		jsonout_object(out, NULL);
		jsonout_text(out, "field", fields[i]);
		jsonout_text(out, "from", facet_text(&n->facets[i]));
		jsonout_text(out, "to", facet_text(&now));
		jsonout_object_end(out);
		strbuf_free(&n->facets[i]);
		n->facets[i] = now; /* ours now */
		changed++;
	}
	return changed;
}

void news_node(struct news *n)
{
	unsigned int changed;

	if (!is_heard(n))
		return;
	begin_line(n, &n->line, "node");
	jsonout_text(&n->line, "node", n->node_name);
	jsonout_array(&n->line, "changes");
	changed = compare_facets(n, &n->line);
	jsonout_array_end(&n->line);
	if (changed)
		end_line(n);
	else
		strbuf_reset(&n->line);
}

int news_begin(struct news *n, struct httpd_request *req, struct strbuf *out)
{
	struct news_listener *l;

	if (n->n_listeners >= MAX_LISTENERS) {
		jsonout_object(out, NULL);
		jsonout_textf(out, "error",
			      "%d others listen already, which is as many as may",
			      MAX_LISTENERS);
		jsonout_object_end(out);
		return 503;
	}
	l = calloc(1, sizeof(*l));
	if (!l)
		return 500;
	l->stream = httpd_stream_begin(req, "application/jsonl",
				       on_listener_closed, l);
	if (!l->stream) { /* a HEAD, which is answered by now */
		free(l);
		return 200;
	}
	if (!n->n_listeners) {
		struct strbuf ignored = STRBUF_INIT;

		compare_facets(n, &ignored);
		strbuf_free(&ignored);
	}
	l->news = n;
	TAILQ_INSERT_TAIL(&n->listeners, l, link);
	n->n_listeners++;
	assert(n->n_listeners <= MAX_LISTENERS);
	begin_line(n, out, "begin");
	jsonout_text(out, "version", VIPMAP_VERSION);
	jsonout_text(out, "node", n->node_name);
	jsonout_object_end(out);
	strbuf_addc(out, '\n');
	if (!out->err)
		httpd_stream_write(l->stream, out->text, out->length);
	return 200;
}

void news_message(struct news *n, const char *type, int severity, const char *text)
{
	if (!is_heard(n))
		return;
	begin_line(n, &n->line, type);
	jsonout_text(&n->line, "severity",
		     severity <= LOG_ERR       ? "error"
		     : severity == LOG_WARNING ? "warning"
					       : "info");
	jsonout_text(&n->line, "message", text);
	end_line(n);
}

/* Service ports */

/* What traffic is spread over: the larger of the lists, where one is not used. */
static const struct endpoint_list *list_of(const struct dispatch *p)
{
	static const struct endpoint_list none;

	if (!p)
		return &none;
	return p->cluster.count >= p->local.count ? &p->cluster : &p->local;
}

static int by_endpoint(const void *va, const void *vb)
{
	return endpoint_compare(va, vb);
}

static struct endpoint *sorted_copy(struct news *n, const struct endpoint_list *list)
{
	struct endpoint *copy =
		arena_array(&n->scratch, list->count + 1, sizeof(*copy));

	if (copy && list->count) {
		endpoint_list_unpack(list, copy);
		qsort(copy, list->count, sizeof(*copy), by_endpoint);
	}
	return copy;
}

/* Why it is used no more, in a word or two. */
static const char *left_why(const struct endpoint_fate *fates,
			    unsigned int n_fates, const struct endpoint *endpoint)
{
	static const char *const texts[] = {
		[WHY_READY] = "ready, not on this node",
		[WHY_DRAINING] = "terminating",
		[WHY_DRAINING_UNUSED] = "terminating",
		[WHY_NOT_READY] = "not ready",
		[WHY_TERMINATING] = "terminating",
		[WHY_OTHER_NODE_HINTS] = "meant for other nodes",
		[WHY_OTHER_ZONE_HINTS] = "meant for other zones",
	};
	unsigned int i;

	for (i = 0; i < n_fates; i++) {
		assert(fates[i].why < sizeof(texts) / sizeof(texts[0]));
		if (endpoint_compare(&fates[i].endpoint, endpoint) == 0)
			return texts[fates[i].why];
	}
	return "gone";
}

static void put_endpoint(enum family family, const struct endpoint *e,
			 const char *reason, struct strbuf *out)
{
	char text[ENDPOINT_TEXT_SIZE];

	jsonout_object(out, NULL);
	jsonout_text(out, "address",
		     endpoint_format(family, &e->addr, e->port, text));
	if (reason)
		jsonout_text(out, "reason", reason);
	jsonout_object_end(out);
}

/* What @a has and @b has not, both sorted; with reasons if there are @fates. */
static void put_difference(enum family family, const struct endpoint *a,
			   unsigned int n_a, const struct endpoint *b,
			   unsigned int n_b, const struct endpoint_fate *fates,
			   unsigned int n_fates, struct strbuf *out)
{
	unsigned int i, k = 0, named = 0;

	assert((a || !n_a) && (b || !n_b));
	for (i = 0; i < n_a; i++) {
		while (k < n_b && endpoint_compare(&b[k], &a[i]) < 0)
			k++;
		if (k < n_b && endpoint_compare(&b[k], &a[i]) == 0)
			continue;
		if (named++ < NAMED_MAX)
			put_endpoint(family, &a[i],
				     fates ? left_why(fates, n_fates, &a[i]) : NULL,
				     out);
	}
}

static void put_endpoint_changes(struct news *n, enum family family,
				 const struct service_port_state *port,
				 const struct endpoint_list *was,
				 const struct endpoint_list *is)
{
	const struct view view = { .model = n->model };
	const struct endpoint_fate *fates = NULL;
	struct endpoint *a, *b;
	unsigned int n_fates = 0;

	n->work += was->count + is->count;
	if (n->work > WORK_MAX)
		return;
	a = sorted_copy(n, was);
	b = sorted_copy(n, is);
	if (!a || !b)
		return;
	if (view_fates(&view, port->service, family, port->name, port->protocol,
		       &n->scratch, &fates, &n_fates))
		n_fates = 0;
	n->work += n_fates;
	jsonout_array(&n->ports, "added");
	put_difference(family, b, is->count, a, was->count, NULL, 0, &n->ports);
	jsonout_array_end(&n->ports);
	jsonout_array(&n->ports, "removed");
	put_difference(family, a, was->count, b, is->count, fates, n_fates,
		       &n->ports);
	jsonout_array_end(&n->ports);
}

static void put_vip(enum family family, const struct vip *vip, struct strbuf *out)
{
	char text[ENDPOINT_TEXT_SIZE];

	if (vip->role == VIP_NODE_PORT)
		jsonout_textf(out, NULL, "node port %u", vip->port);
	else
		jsonout_text(out, NULL,
			     endpoint_format(family, &vip->addr, vip->port, text));
}

/* Those of @a that @b has not; both are sorted. */
static void put_vips_without(enum family family, const char *key,
			     const struct dispatch *a, const struct dispatch *b,
			     struct strbuf *out)
{
	unsigned int i, k = 0, named = 0;

	jsonout_array(out, key);
	for (i = 0; a && i < a->n_vips; i++) {
		while (b && k < b->n_vips &&
		       vip_compare(&b->vips[k], &a->vips[i]) < 0)
			k++;
		if (b && k < b->n_vips && vip_compare(&b->vips[k], &a->vips[i]) == 0)
			continue;
		if (named++ < NAMED_MAX)
			put_vip(family, &a->vips[i], out);
	}
	jsonout_array_end(out);
}

void news_port(struct news *n, enum family family,
	       const struct service_port_state *port,
	       const struct dispatch *before, const struct dispatch *after)
{
	const struct endpoint_list *was = list_of(before), *is = list_of(after);

	if (!is_heard(n))
		return;
	if (n->n_ports == PORTS_MAX) {
		n->more_ports++;
		return;
	}
	n->n_ports++;
	assert(n->n_ports <= PORTS_MAX);
	assert(before || after);
	begin_line(n, &n->ports, "servicePort");
	jsonout_text(&n->ports, "service", port->label);
	jsonout_text(&n->ports, "protocol", protocol_name(port->protocol));
	jsonout_text(&n->ports, "family", family_name(family));
	jsonout_text(&n->ports, "change",
		     !before  ? "added"
		     : !after ? "removed"
			      : "changed");
	put_vips_without(family, "addressesAdded", after, before, &n->ports);
	put_vips_without(family, "addressesRemoved", before, after, &n->ports);
	jsonout_integer(&n->ports, "endpointsBefore", was->count);
	jsonout_integer(&n->ports, "endpoints", is->count);
	if (after)
		jsonout_bool(&n->ports, "refused",
			     !(after->flags & (DISPATCH_ALIVE | DISPATCH_PASS)));
	if (before && after)
		put_endpoint_changes(n, family, port, was, is);
	strbuf_add(&n->ports, "", 1); /* a terminator of its own */
	arena_reset(&n->scratch);
}

static void put_commit(struct news *n, unsigned int elements, int64_t took_us)
{
	jsonout_integer(&n->line, "servicePorts", n->n_ports + n->more_ports);
	jsonout_integer(&n->line, "elements", elements);
	jsonout_real(&n->line, "milliseconds", (double)took_us / 1e3);
}

void news_synced(struct news *n, enum family family, unsigned int elements,
		 bool repair, int64_t took_us)
{
	const char *at;

	if (!is_heard(n) || n->ports.err)
		goto out;
	for (at = n->ports.text; at && at < n->ports.text + n->ports.length;
	     at += strlen(at) + 1) {
		strbuf_adds(&n->line, at);
		put_commit(n, elements, took_us);
		end_line(n);
	}
	if (n->more_ports || (!n->n_ports && elements)) {
		begin_line(n, &n->line, "sync");
		jsonout_text(&n->line, "family", family_name(family));
		jsonout_bool(&n->line, "repair", repair);
		put_commit(n, elements, took_us);
		jsonout_integer(&n->line, "servicePortsNotTold", n->more_ports);
		end_line(n);
	}
out:
	if (!n)
		return;
	strbuf_reset(&n->ports);
	n->n_ports = n->more_ports = n->work = 0;
}
