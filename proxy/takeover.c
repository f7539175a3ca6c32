/*
 * Looks every few seconds whether kube-proxy is still there: its rules are
 * watched through notifications, which cost nothing while nothing happens, and
 * its ports are asked. What is removed was looked at under the same generation
 * of the ruleset, so that a refresh between look and removal makes the kernel
 * refuse.
 *
 * A kube-proxy that answers may have nothing to refresh: nothing is removed
 * then, however long.
 */
#include "proxy/takeover.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "nft/kubeproxy.h"
#include "nft/monitor.h"
#include "nft/readback.h"
#include "proxy/base/log.h"
#include "proxy/base/strbuf.h"
#include "watch/http.h"

enum {
	LOOK_S = 5,
	IDLE_S = 300, /* with nothing to remove; an upgrade may bring kube-proxy back */
	UNTOUCHED_S = 60, /* BEY-7 */
	SILENT_LOOKS =
		2, /* of a port that answered before: a restart takes moments */
	ANSWER_MS = 2000,
	ANSWER_MAX = 4096,
};

/*
 * One of kube-proxy's ports answers @path with @word in it. vipmap's own
 * answers alike there, but has a page @ours too.
 */
static const struct port {
	const char *server, *path, *word, *ours;
} ports[] = {
	{ "http://127.0.0.1:10256", "/healthz", "\"lastUpdated\"", "/readyz" },
	{ "http://127.0.0.1:10249", "/proxyMode", "", "/status" },
};
enum { N_PORTS = sizeof(ports) / sizeof(ports[0]) };

struct takeover {
	struct takeover_options options;
	bool wanted, begun, told_waiting, told_rest;
	struct event *timer, *monitor_event;
	struct monitor *monitor; /* while there is something to remove */
	struct takeover_facts facts;
	int64_t refreshed_us;
	/* The question under way */
	struct http *http;
	struct http_request *request;
	struct strbuf answer;
	unsigned int port;
	bool asking_ours;
};

bool takeover_may_remove(const struct takeover_facts *facts)
{
	if (!facts->silent)
		return false;
	if (facts->refreshed_us_ago >= UNTOUCHED_S * INT64_C(1000000))
		return true;
	return facts->was_answering && facts->silent >= SILENT_LOOKS &&
	       facts->refreshed_us_ago >= LOOK_S * INT64_C(1000000);
}

#define takeover_say(t, severity, ...)                                         \
	log_callf((t)->options.log, (t)->options.ctx, severity, __VA_ARGS__)

static void arm_timer(struct takeover *t, int seconds)
{
	const struct timeval later = { seconds, 0 };

	assert(seconds >= 0);
	if (t->wanted && t->begun)
		event_add(t->timer, &later);
}

static void stop_watching(struct takeover *t)
{
	if (t->monitor_event)
		event_free(t->monitor_event);
	t->monitor_event = NULL;
	if (t->monitor)
		monitor_close(t->monitor);
	t->monitor = NULL;
	t->facts = (struct takeover_facts){ 0 };
}

/* Lost notifications and failures count as a refresh: then it is looked at for longer. */
static void on_refreshed(evutil_socket_t fd, short what, void *ctx)
{
	struct takeover *t = ctx;
	unsigned int changed = 0;
	struct errbuf eb;

	assert(t->monitor);
	(void)fd;
	(void)what;
	if (monitor_read(t->monitor, &changed, &eb) || changed)
		t->refreshed_us = clock_monotonic_us(t->options.clock);
}

static int watch_rules(struct takeover *t, struct errbuf *eb)
{
	if (t->monitor)
		return 0;
	t->monitor = monitor_open_rival(eb);
	if (!t->monitor)
		return -EIO;
	t->refreshed_us = clock_monotonic_us(t->options.clock);
	t->monitor_event = event_new(t->options.base, monitor_fd(t->monitor),
				     EV_READ | EV_PERSIST, on_refreshed, t);
	if (t->monitor_event && event_add(t->monitor_event, NULL) == 0)
		return 0;
	stop_watching(t);
	return errf(eb, -ENOMEM, "out of memory");
}

void takeover_bulk(struct takeover *t, bool begin)
{
	if (!t || !t->monitor)
		return;
	t->refreshed_us = clock_monotonic_us(
		t->options.clock); /* nothing is known of the time between */
	if (begin)
		monitor_pause(t->monitor);
	else if (monitor_resume(t->monitor))
		stop_watching(t);
}

static void describe_kubeproxy(const struct kubeproxy *k, struct strbuf *out)
{
	static const char *const keywords[N_FAMILIES] = { "ip", "ip6" };
	const struct kubeproxy_counts *c;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		c = kubeproxy_counts(k, (enum family)f);
		if (c->table)
			strbuf_addf(out, "%stable %s " KUBEPROXY_TABLE,
				    out->length ? ", " : "", keywords[f]);
		if (c->chains)
			strbuf_addf(out, "%s%u chains and %u rules of %s",
				    out->length ? ", " : "", c->chains, c->jumps,
				    f == FAMILY_IPV4 ? "iptables-nft"
						     : "ip6tables-nft");
	}
}

/* What cannot be removed by us, once, with the command that does it. */
static void tell_rest(struct takeover *t, const struct kubeproxy *k, bool had_link)
{
	unsigned int f, held = 0;

	if (t->told_rest)
		return;
	t->told_rest = true;
	for (f = 0; f < N_FAMILIES; f++) {
		held += kubeproxy_counts(k, (enum family)f)->held;
		if (readback_legacy((enum family)f))
			takeover_say(
				t, LOG_WARNING,
				"kube-proxy's rules in legacy %s stay and still translate: remove "
				"them "
				"with \"kube-proxy --cleanup\" of kube-proxy's image on this node",
				f == FAMILY_IPV4 ? "iptables" : "ip6tables");
	}
	if (held)
		takeover_say(t, LOG_WARNING,
			     "%u chains of kube-proxy stay: rules of another program lead to them, "
			     "such as "
			     "a CNI plugin's",
			     held);
	if (had_link)
		takeover_say(t, LOG_WARNING,
			     "kube-proxy ran in mode ipvs: clear its virtual servers with \"ipvsadm "
			     "--clear\" on this node");
}

static void remove_link(struct takeover *t, bool *had_link)
{
	struct errbuf eb = { "" };
	int err = kubeproxy_remove_link(&eb);

	*had_link = err != -ENODEV;
	if (!err)
		takeover_say(t, LOG_INFO,
			     "interface " KUBEPROXY_LINK
			     " of kube-proxy removed: its addresses are no "
			     "longer this node's own");
	else if (*had_link)
		takeover_say(t, LOG_WARNING,
			     "%s; remove it with \"ip link del " KUBEPROXY_LINK
			     "\"",
			     eb.text);
}

static void remove_all(struct takeover *t, const struct kubeproxy *k,
		       struct nlsock *nl)
{
	struct strbuf what = STRBUF_INIT;
	struct errbuf eb = { "" };
	bool had_link;
	int err = kubeproxy_remove(k, nl, &eb);

	assert(t->facts.silent);
	if (err ==
	    -ERESTART) { /* somebody changed something meanwhile, perhaps we did */
		arm_timer(t, 1);
		return;
	}
	if (err) {
		takeover_say(t, LOG_WARNING, "%s; tried again", eb.text);
		arm_timer(t, UNTOUCHED_S);
		return;
	}
	describe_kubeproxy(k, &what);
	if (what.length)
		takeover_say(t, LOG_INFO,
			     "kube-proxy is gone, and its rules are removed: %s",
			     what.text ? what.text : "all");
	strbuf_free(&what);
	remove_link(t, &had_link);
	tell_rest(t, k, had_link);
	stop_watching(t);
	t->told_waiting = false;
	arm_timer(t, IDLE_S);
}

/* Now, or never mind: what is there, and whether it may go. */
static void decide_removal(struct takeover *t, const struct kubeproxy *k,
			   struct nlsock *nl)
{
	const bool link = if_nametoindex(KUBEPROXY_LINK) != 0;
	struct strbuf what = STRBUF_INIT;
	struct errbuf eb = { "" };
	unsigned int changed = 0;

	if (kubeproxy_is_empty(k) && !link) {
		tell_rest(t, k, false);
		stop_watching(t);
		arm_timer(t, IDLE_S);
		return;
	}
	if (watch_rules(t, &eb)) {
		takeover_say(t, LOG_WARNING, "taking over from kube-proxy: %s",
			     eb.text);
		arm_timer(t, UNTOUCHED_S);
		return;
	}
	if (monitor_read(t->monitor, &changed, &eb) || changed)
		t->refreshed_us = clock_monotonic_us(t->options.clock);
	t->facts.refreshed_us_ago =
		clock_monotonic_us(t->options.clock) - t->refreshed_us;
	if (takeover_may_remove(&t->facts) && t->options.in_force(t->options.ctx)) {
		remove_all(t, k, nl);
		return;
	}
	describe_kubeproxy(k, &what);
	if (!t->told_waiting)
		takeover_say(t, LOG_INFO,
			     "kube-proxy's rules stay until it has stopped: %s%s%s; they are "
			     "removed once "
			     "it "
			     "does not answer and has changed nothing for %d s",
			     what.text ? what.text : "",
			     what.length && link ? ", " : "",
			     link ? "interface " KUBEPROXY_LINK : "", UNTOUCHED_S);
	t->told_waiting = true;
	strbuf_free(&what);
	arm_timer(t, LOOK_S);
}

/* The generation comes with the look, and the look comes last: asking takes time. */
static void look_for_kubeproxy(struct takeover *t)
{
	struct errbuf eb = { "" };
	struct nlsock *nl = nlsock_open(&eb);
	struct kubeproxy *k = nl ? kubeproxy_look(nl, &eb) : NULL;

	if (k) {
		decide_removal(t, k, nl);
	} else {
		if (!nl || errno != EINTR)
			takeover_say(t, LOG_DEBUG,
				     "taking over from kube-proxy: %s", eb.text);
		arm_timer(t, LOOK_S);
	}
	kubeproxy_free(k);
	nlsock_close(nl);
}

static void ask_kubeproxy(struct takeover *t);

static void count_answer(struct takeover *t, bool answers)
{
	if (answers) {
		t->facts.was_answering = true;
		t->facts.silent = 0;
	} else {
		t->facts.silent++;
	}
	look_for_kubeproxy(t);
}

static void ask_next(struct takeover *t)
{
	t->asking_ours = false;
	if (++t->port < N_PORTS)
		ask_kubeproxy(t);
	else
		count_answer(t, false);
}

static int on_kubeproxy_data(void *ctx, const char *bytes, size_t length)
{
	struct takeover *t = ctx;

	strbuf_add(&t->answer, bytes, length);
	return t->answer.err;
}

/* What cannot be understood is somebody who is not done yet. */
static void on_kubeproxy_answer(void *ctx, const struct http_result *result)
{
	const struct port *port;
	struct takeover *t = ctx;

	t->request = NULL;
	assert(t->port < N_PORTS);
	port = &ports[t->port];
	if (t->asking_ours) {
		if (result->outcome == HTTP_COMPLETE && result->status != 404)
			ask_next(t);
		else
			count_answer(t, true);
		return;
	}
	if (result->outcome == HTTP_UNREACHED) {
		ask_next(t);
	} else if (result->outcome != HTTP_COMPLETE) {
		count_answer(t, true);
	} else if (result->status == 404 || !t->answer.text ||
		   !strstr(t->answer.text, port->word)) {
		ask_next(t); /* whoever that is */
	} else {
		t->asking_ours = true;
		ask_kubeproxy(t);
	}
}

static void ask_kubeproxy(struct takeover *t)
{
	const struct port *port = &ports[t->port];
	const struct http_params params = {
		.server = port->server,
		.path = t->asking_ours ? port->ours : port->path,
		.accept = "*/*",
		.connect_ms = ANSWER_MS,
		.idle_ms = ANSWER_MS,
		.fresh = true,
		.data = on_kubeproxy_data,
		.done = on_kubeproxy_answer,
		.ctx = t,
	};

	assert(!t->request);
	strbuf_reset(&t->answer);
	t->request = http_start(t->http, &params);
	if (!t->request)
		arm_timer(t, LOOK_S);
}

static void on_takeover_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct takeover *t = ctx;

	(void)fd;
	(void)what;
	if (t->request)
		return;
	t->port = 0;
	t->asking_ours = false;
	ask_kubeproxy(t);
}

struct takeover *takeover_new(const struct takeover_options *options)
{
	const struct http_options http = { .user_agent = "vipmap/" VIPMAP_VERSION,
					   .clock = options->clock };
	struct takeover *t = calloc(1, sizeof(*t));

	assert(options->base && options->clock && options->log && options->in_force);
	if (!t)
		return NULL;
	t->options = *options;
	t->answer.max = ANSWER_MAX;
	t->timer = evtimer_new(options->base, on_takeover_timer, t);
	t->http = http_new(options->base, &http);
	if (t->timer && t->http)
		return t;
	takeover_free(t);
	return NULL;
}

void takeover_free(struct takeover *t)
{
	if (!t)
		return;
	stop_watching(t);
	http_free(t->http);
	if (t->timer)
		event_free(t->timer);
	strbuf_free(&t->answer);
	free(t);
}

void takeover_begin(struct takeover *t)
{
	if (t->begun)
		return;
	t->begun = true;
	arm_timer(t, 0);
}

void takeover_enable(struct takeover *t, bool wanted)
{
	if (wanted == t->wanted)
		return;
	t->wanted = wanted;
	if (wanted) {
		t->told_waiting = t->told_rest = false;
		arm_timer(t, 0);
		return;
	}
	event_del(t->timer);
	http_cancel(t->request);
	t->request = NULL;
	stop_watching(t);
}
