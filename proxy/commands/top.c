/*
 * top: who has how many connections. They are read from the kernel by this
 * process, and only the names are the running vipmap's: whatever it costs to
 * read a million of them, syncs go on. The next look begins after a pause of
 * four times what the one before took, at least.
 */
#include "proxy/commands/commands.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/base/array.h"
#include "proxy/base/clock.h"
#include "proxy/base/jsonout.h"
#include "proxy/base/table.h"
#include "proxy/commands/ask.h"
#include "proxy/commands/look.h"
#include "proxy/commands/screen.h"
#include "proxy/commands/top_view.h"
#include "proxy/serve/view.h"
#include "proxy/serve/vips.h"

enum {
	INTERVAL_MS = 2000,
	INTERVAL_LEAST_MS = 100,
	ONE_INTERVAL_MS = 1000, /* of a frame alone */
	REST = 4,		/* times what a look takes */
	MAX_FLOWS = 5000,
};

const struct command_flag top_flags[] = {
	{ "one", '1', true, "print one frame as a table, and end" },
	{ "interval", 0, false,
	  "DURATION between two looks; by default 2s, with -1 1s" },
	{ "output", 'o', false, "\"json\" or \"yaml\": one frame as data" },
	{ "no-headers", 0, true, "leave the headers out" },
	{ NULL, 0, false, NULL },
};

struct top {
	struct app *app;
	int64_t interval_ms;
	struct look *look;
	struct screen *screen; /* NULL: one frame */
	struct top_view view;
	char *node;
	/* The latest whole look, with the names that it was made with; and the one under way */
	struct names names, next_names;
	struct tally *tally, *next;
	bool fresh_names; /* next_names are other ones */
	struct seen *seen;
	int64_t began_us, next_began_us; /* of these looks */
	int64_t took_us;
	double seconds;
	int64_t changes; /* of the running vipmap, when the names were asked for */
	struct top_endpoint *endpoints;
	size_t n_endpoints, endpoints_room;
	struct top_flow *flows, *next_flows;
	size_t n_flows, n_next_flows, flows_room, more_flows, more_next_flows;
	struct event *keys, *pause, *resized;
	bool waiting; /* for an event; not for an answer */
	bool due;     /* the pause is over */
	bool over, asks;
	int status;
	struct errbuf why; /* that conntrack cannot be read */
};

static struct top_data top_data(const struct top *t)
{
	return (struct top_data){
		.names = &t->names,
		.tally = t->tally,
		.seconds = t->seconds,
		.node = t->node,
		.endpoints = t->endpoints,
		.n_endpoints = t->n_endpoints,
		.flows = t->flows,
		.n_flows = t->n_flows,
		.more_flows = t->more_flows,
	};
}

static void stop_waiting(struct top *t)
{
	if (t->waiting)
		event_base_loopbreak(t->app->base);
}

/* Names */

static int ask_vipmap(struct top *t, const char *path, struct json **json)
{
	return t->screen ? ask_json_quietly(t->app, path, json)
			 : ask_json(t->app, path, json);
}

static void adopt_names(struct top *t)
{
	if (!t->fresh_names)
		return;
	names_free(&t->names);
	t->names = t->next_names;
	t->next_names = (struct names){ 0 };
	t->fresh_names = false;
}

/* Asks for them again if they may be others. Not during a look, which has them. */
static int refresh_names(struct top *t)
{
	struct json *json;
	int64_t changes;
	int status = ask_vipmap(t, "/v1/changes", &json);

	if (status)
		return status;
	changes = number_at(json, "changes");
	json_free(json);
	if (t->names.vips && changes == t->changes)
		return EXIT_DONE;
	names_free(&t->next_names);
	status = names_fetch(t->app, &t->next_names, t->screen);
	if (status)
		return status;
	t->changes = changes;
	t->fresh_names = true;
	if (!t->tally)
		adopt_names(t);
	return EXIT_DONE;
}

static int ask_node(struct top *t)
{
	struct json *json;
	int status = ask_vipmap(t, "/v1/node", &json);

	if (status)
		return status;
	t->node = strdup(text_at(json, "name"));
	json_free(json);
	return EXIT_DONE;
}

/* Looks */

static void keep_flow(struct top *t, enum family family,
		      const struct conntrack_entry *entry)
{
	char endpoint[ENDPOINT_TEXT_SIZE];

	assert(t->n_next_flows <= MAX_FLOWS);
	endpoint_format(family, &entry->endpoint, entry->endpoint_port, endpoint);
	if (strcmp(endpoint, t->view.endpoint))
		return;
	if (t->n_next_flows >= MAX_FLOWS ||
	    array_grow(t->next_flows, t->n_next_flows, t->flows_room))
		t->more_next_flows++;
	else
		t->next_flows[t->n_next_flows++] =
			(struct top_flow){ family, *entry };
}

static void on_looked_entry(void *ctx, enum family family,
			    const struct conntrack_entry *entry)
{
	struct top *t = ctx;
	const int port = tally_add(t->next, family, entry);

	if (port >= 0 && t->view.level == TOP_FLOWS &&
	    strcmp(vips_name(t->next->vips, (unsigned int)port),
		   t->view.service) == 0)
		keep_flow(t, family, entry);
}

/* The look that has ended becomes the one that is shown. */
static void adopt_look(struct top *t)
{
	assert(t->next);
	tally_free(t->tally);
	t->tally = t->next;
	t->next = NULL;
	adopt_names(t);
	t->seconds = t->seen ? (double)(t->next_began_us - t->began_us) / 1e6 : 0;
	seen_free(t->seen);
	t->tally->before = NULL;
	t->seen = tally_take_seen(t->tally);
	t->began_us = t->next_began_us;
	t->took_us = clock_monotonic_us(t->app->clock) - t->began_us;
	free(t->flows);
	t->flows = t->next_flows;
	t->n_flows = t->n_next_flows;
	t->more_flows = t->more_next_flows;
	t->next_flows = NULL;
}

static void pause_until_next(struct top *t)
{
	int64_t wait_us = t->began_us + t->interval_ms * 1000 -
			  clock_monotonic_us(t->app->clock);
	struct timeval wait;

	/* One frame ends by itself: whoever asks for it waits. */
	if (t->screen && wait_us < t->took_us * REST)
		wait_us = t->took_us * REST;
	if (wait_us < 0)
		wait_us = 0;
	wait = (struct timeval){ wait_us / 1000000, wait_us % 1000000 };
	event_add(t->pause, &wait);
}

static void draw_screen(struct top *t);

static void on_done(void *ctx, int err, const struct errbuf *eb)
{
	struct top *t = ctx;

	if (err) {
		t->why = *eb;
		if (err == -EPERM)
			errf(&t->why, err,
			     "not permitted: CAP_NET_ADMIN is needed");
		t->status = EXIT_FAILED;
		t->over = true;
	} else if (t->next->out_of_memory) {
		errf(&t->why, -ENOMEM, "out of memory");
		t->status = EXIT_FAILED;
		t->over = true;
	} else {
		adopt_look(t);
		pause_until_next(t);
		draw_screen(t);
	}
	stop_waiting(t);
}

static int begin_look(struct top *t)
{
	event_del(t->pause);
	t->due = false;
	tally_free(t->next);
	free(t->next_flows);
	t->next_flows = NULL;
	t->n_next_flows = t->flows_room = t->more_next_flows = 0;
	t->next = tally_new(t->fresh_names ? t->next_names.vips : t->names.vips,
			    t->seen);
	if (!t->next) {
		errf(&t->why, -ENOMEM, "out of memory");
		return EXIT_FAILED;
	}
	t->next_began_us = clock_monotonic_us(t->app->clock);
	look_begin(t->look);
	return EXIT_DONE;
}

static void on_pause(evutil_socket_t fd, short what, void *ctx)
{
	struct top *t = ctx;

	(void)fd;
	(void)what;
	t->due = true;
	stop_waiting(t);
}

/* Until something is to be asked, begun or ended. */
static void wait_for_events(struct top *t)
{
	assert(!t->waiting);
	t->waiting = true;
	if (t->keys)
		event_add(t->keys, NULL);
	while (!t->over && !t->asks && !t->due && !t->app->ending)
		event_base_dispatch(t->app->base);
	if (t->keys)
		event_del(t->keys);
	t->waiting = false;
}

/* Endpoints of one service port */

static void free_endpoints(struct top *t)
{
	size_t i;

	for (i = 0; i < t->n_endpoints; i++) {
		free(t->endpoints[i].address);
		free(t->endpoints[i].pod);
		free(t->endpoints[i].node);
		free(t->endpoints[i].reason);
	}
	free(t->endpoints);
	t->endpoints = NULL;
	t->n_endpoints = t->endpoints_room = 0;
}

static int keep_endpoint(struct top *t, const char *address, const char *pod,
			 const char *node, const char *reason)
{
	struct top_endpoint e = { strdup(address), strdup(pod), strdup(node),
				  strdup(reason),  0,		0 };

	if (e.address && e.pod && e.node && e.reason &&
	    array_grow(t->endpoints, t->n_endpoints, t->endpoints_room) == 0) {
		t->endpoints[t->n_endpoints++] = e;
		return 0;
	}
	free(e.address);
	free(e.pod);
	free(e.node);
	free(e.reason);
	return -ENOMEM;
}

static int on_endpoints(void *ctx, const struct json *page)
{
	struct top *t = ctx;
	char reason[256];

	json_for_each (item, json_get(page, "items")) {
		snprintf(reason, sizeof(reason), "%s%s",
			 is_at(item, "used") ? "" : "no: ", text_at(item, "reason"));
		if (keep_endpoint(t, text_at(item, "address"), text_at(item, "pod"),
				  text_at(item, "nodeName"), reason))
			return EXIT_FAILED;
	}
	return EXIT_DONE;
}

static int address_order(const void *va, const void *vb)
{
	const struct top_endpoint *a = va, *b = vb;

	return strcmp(a->address, b->address);
}

/* Their connections, and those of endpoints that have gone. */
static void count_endpoints(struct top *t)
{
	const size_t known = t->n_endpoints;
	char address[ENDPOINT_TEXT_SIZE];
	const struct tally_endpoint *e;
	struct top_endpoint *found;
	unsigned int i;
	size_t k;

	if (known)
		qsort(t->endpoints, known, sizeof(*t->endpoints), address_order);
	for (k = 0; k < known; k++)
		t->endpoints[k].connections = t->endpoints[k].fresh = 0;
	for (i = 0; t->tally && i < vips_count(t->tally->vips); i++)
		if (strcmp(vips_name(t->tally->vips, i), t->view.service) == 0)
			break;
	if (!t->tally || i == vips_count(t->tally->vips))
		return;
	for (e = t->tally->ports[i].endpoints; e; e = e->next) {
		const struct top_endpoint key = {
			.address = endpoint_format(e->family, &e->addr,
						   e->number, address),
		};

		found = known ? bsearch(&key, t->endpoints, known, sizeof(key),
					address_order)
			      : NULL;
		if (!found && keep_endpoint(t, address, "", "",
					    "gone; these connections go on") == 0)
			found = &t->endpoints[t->n_endpoints - 1];
		if (!found)
			continue;
		found->connections += e->connections;
		found->fresh += e->fresh;
	}
}

static int refresh_endpoints(struct top *t)
{
	const char *name = strchr(t->view.service, '/'), *port;
	struct strbuf path = STRBUF_INIT;
	char namespace[256], service[256];
	int status;

	free_endpoints(t);
	if (t->view.level == TOP_SERVICES || !name)
		return EXIT_DONE;
	port = strchr(name, ':');
	snprintf(namespace, sizeof(namespace), "%.*s",
		 (int)(name - t->view.service), t->view.service);
	snprintf(service, sizeof(service), "%.*s", (int)strcspn(name + 1, ":"),
		 name + 1);
	strbuf_adds(&path, "/v1/endpoints?");
	ask_add(&path, "namespace", namespace);
	ask_add(&path, "name", service);
	ask_add(&path, "port", port ? port + 1 : "");
	status = path.err ? EXIT_FAILED
			  : ask_list_quietly(t->app, path.text, on_endpoints, t);
	strbuf_free(&path);
	return status;
}

/* The whole screen */

static void draw_screen(struct top *t)
{
	struct strbuf lines = STRBUF_INIT;
	unsigned int rows, columns;
	struct top_data data;
	struct tm tm;
	char clock[16] = "";
	time_t now = (time_t)(clock_realtime_us(t->app->clock) / 1000000);
	int marked;

	if (!t->screen || !t->names.vips || t->over)
		return;
	if (t->view.level != TOP_SERVICES)
		count_endpoints(t);
	if (localtime_r(&now, &tm))
		strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	screen_size(t->screen, &rows, &columns);
	data = top_data(t);
	marked = top_frame(&t->view, &data, rows, clock, &lines);
	if (lines.err || screen_draw(t->screen, &lines, marked)) {
		t->over = true;
		t->status = EXIT_FAILED;
		errf(&t->why, -EIO, "the terminal is gone");
	}
	strbuf_free(&lines);
}

static void on_keys(evutil_socket_t fd, short what, void *ctx)
{
	struct top *t = ctx;
	int key;

	(void)fd;
	(void)what;
	while (!t->over && !t->asks && (key = screen_key(t->screen)) != KEY_NONE) {
		const struct top_data data = top_data(t);
		enum top_action action = TOP_QUIT;

		if (key != KEY_CLOSED)
			action = top_key(&t->view, &data, key);
		t->over |= action == TOP_QUIT;
		t->asks |= action == TOP_LOOK;
	}
	if (t->over || t->asks)
		stop_waiting(t);
	else
		draw_screen(t);
}

static void on_resized(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	draw_screen(ctx);
}

static void on_top_hangup(void *ctx)
{
	struct top *t = ctx;

	app_exit(t->app, EXIT_DONE);
}

static int open_screen(struct top *t)
{
	struct errbuf eb;

	t->screen = screen_open(&eb);
	if (!t->screen)
		return command_fails(EXIT_FAILED, "top: %s", eb.text);
	t->view.utf8 = screen_has_utf8(t->screen);
	t->keys = event_new(t->app->base, screen_fd(t->screen),
			    EV_READ | EV_PERSIST, on_keys, t);
	t->resized = evsignal_new(t->app->base, SIGWINCH, on_resized, t);
	if (t->keys && t->resized && event_add(t->resized, NULL) == 0)
		return EXIT_DONE;
	errf(&t->why, -ENOMEM, "out of memory");
	return EXIT_FAILED;
}

static void close_screen(struct top *t)
{
	if (t->keys)
		event_free(t->keys);
	if (t->resized)
		event_free(t->resized);
	t->keys = t->resized = NULL;
	screen_close(t->screen);
	t->screen = NULL;
}

/* What is asked before each look. */
static int prepare_look(struct top *t)
{
	int status = t->node ? EXIT_DONE : ask_node(t);

	if (!status)
		status = refresh_names(t);
	if (!status && t->screen)
		status = refresh_endpoints(t);
	return t->app->ending ? EXIT_DONE : status;
}

/* Why it did not answer, once people can read it. If it does now, that was a moment only. */
static int ask_why(struct top *t)
{
	struct json *json;
	int status;

	close_screen(t);
	status = ask_json(t->app, "/v1/changes", &json);
	json_free(json);
	return status ? status : open_screen(t);
}

static int follow_top(struct top *t)
{
	int status = open_screen(t);

	while (!status && !t->over && !t->app->ending) {
		t->asks = false;
		look_cancel(t->look);
		status = prepare_look(t);
		if (status) {
			status = ask_why(t);
			continue;
		}
		status = begin_look(t);
		if (!status)
			draw_screen(t);
		if (!status)
			wait_for_events(t);
	}
	return status		? status
	       : t->app->ending ? t->app->exit_status
				: t->status;
}

/* One frame */

static void put_endpoint_rates(const struct top_data *data,
			       const struct tally_endpoint *e, struct strbuf *out)
{
	char address[ENDPOINT_TEXT_SIZE];

	jsonout_object(out, NULL);
	jsonout_text(out, "address",
		     endpoint_format(e->family, &e->addr, e->number, address));
	jsonout_integer(out, "connections", (int64_t)e->connections);
	jsonout_real(out, "newPerSecond", top_rate(data, e->fresh));
	jsonout_object_end(out);
}

static void put_port(const struct top_data *data, unsigned int port,
		     struct strbuf *out)
{
	const struct port_facts *facts = &data->names->facts[port];
	const struct tally_port *p = &data->tally->ports[port];
	const struct tally_endpoint **list = top_endpoints(p);
	unsigned int i;

	jsonout_object(out, NULL);
	jsonout_text(out, "service", vips_name(data->names->vips, port));
	jsonout_integer(out, "connections", (int64_t)p->connections);
	jsonout_real(out, "newPerSecond", top_rate(data, p->fresh));
	jsonout_integer(out, "endpointsUsed", facts->used);
	if (facts->affinity_s)
		jsonout_integer(out, "affinityTimeoutSeconds", facts->affinity_s);
	jsonout_array(out, "endpoints");
	for (i = 0; list && i < p->n_endpoints; i++)
		put_endpoint_rates(data, list[i], out);
	out->err = list ? out->err : -ENOMEM;
	jsonout_array_end(out);
	jsonout_object_end(out);
	free(list);
}

static void add_port_row(const struct top_data *data, unsigned int port,
			 struct table *table)
{
	const struct port_facts *facts = &data->names->facts[port];
	const struct tally_port *p = &data->tally->ports[port];
	const struct tally_endpoint **list = top_endpoints(p);
	struct strbuf text = STRBUF_INIT;
	char address[ENDPOINT_TEXT_SIZE], rate[RATE_TEXT_SIZE];
	unsigned int i;

	for (i = 0; list && i < p->n_endpoints; i++)
		strbuf_addf(&text, "%s%s %lu", i ? ", " : "",
			    endpoint_format(list[i]->family, &list[i]->addr,
					    list[i]->number, address),
			    list[i]->connections);
	if (facts->affinity_s)
		strbuf_adds(&text, text.length ? " (affinity)" : "(affinity)");
	table_add(table, vips_name(data->names->vips, port));
	table_addf(table, "%lu", p->connections);
	table_add(table, rate_format(data, p->fresh, rate));
	table_addf(table, "%lld", (long long)facts->used);
	table_add(table, text.text);
	strbuf_free(&text);
	free(list);
}

static int put_data(const struct top_data *data, const unsigned int *order,
		    size_t n, const char *output)
{
	struct strbuf text = STRBUF_INIT;
	int status;
	size_t i;

	jsonout_object(&text, NULL);
	jsonout_text(&text, "nodeName", data->node ? data->node : "");
	jsonout_integer(&text, "connections", (int64_t)data->tally->connections);
	jsonout_real(&text, "newPerSecond", top_rate(data, data->tally->fresh));
	jsonout_real(&text, "intervalSeconds", data->seconds);
	jsonout_array(&text, "items");
	for (i = 0; i < n; i++)
		put_port(data, order[i], &text);
	jsonout_array_end(&text);
	jsonout_object_end(&text);
	status = put_json(&text, output, "top: too much for one answer");
	strbuf_free(&text);
	return status;
}

static int put_table(const struct top_data *data, const unsigned int *order,
		     size_t n, bool with_headers)
{
	static const char *const headers[] = { "SERVICE", "CONNS", "NEW/s",
					       "USED", "ENDPOINTS" };
	struct strbuf out = STRBUF_INIT;
	struct table table;
	size_t i;

	table_begin(&table, headers, sizeof(headers) / sizeof(headers[0]));
	for (i = 0; i < n; i++)
		add_port_row(data, order[i], &table);
	table_print(&table, with_headers, 0, &out);
	table_free(&table);
	return put_out(&out);
}

static int print_frame(struct top *t, const struct options *options)
{
	const char *output = options_own(options, "output");
	const struct top_data data = top_data(t);
	unsigned int *order;
	size_t n;
	int status;

	order = top_order(&data, TOP_BY_CONNECTIONS,
			  t->view.filter[TOP_SERVICES], &n);
	if (!order)
		status = command_fails(EXIT_FAILED, "out of memory");
	else if (output)
		status = put_data(&data, order, n, output);
	else
		status = put_table(&data, order, n,
				   !options_own_is_on(options, "no-headers"));
	free(order);
	return status;
}

static void wait_for_look(struct top *t)
{
	t->waiting = true;
	while (look_is_on(t->look) && !t->app->ending)
		event_base_dispatch(t->app->base);
	t->waiting = false;
}

/* Two looks, for what is new between them. */
static int one_frame(struct top *t, const struct options *options)
{
	int status = EXIT_DONE;
	unsigned int i;

	for (i = 0; i < 2 && !status && !t->over && !t->app->ending; i++) {
		status = prepare_look(t);
		if (!status && !t->app->ending)
			status = begin_look(t);
		if (!status)
			wait_for_look(t);
		if (i == 0 && !status)
			wait_for_events(t);
	}
	if (t->app->ending)
		return t->app->exit_status;
	return status ? status : t->over ? t->status : print_frame(t, options);
}

static int read_interval(const struct options *options, int64_t *ms)
{
	const char *text = options_own(options, "interval");

	return text && (duration_parse(text, ms) || *ms < INTERVAL_LEAST_MS)
		       ? -EINVAL
		       : 0;
}

int command_top_check(const struct options *options, struct errbuf *eb)
{
	int64_t ms;

	if (output_check(options, "top", eb))
		return -EINVAL;
	if (read_interval(options, &ms))
		return errf(eb, -EINVAL,
			    "top: --interval: \"%s\" is not a duration of 100ms or more",
			    options_own(options, "interval"));
	if (options->n_words > 1)
		return errf(eb, -EINVAL, "top: unexpected argument \"%s\"",
			    options->words[1]);
	return 0;
}

static void top_end(struct top *t)
{
	look_free(t->look);
	tally_free(t->tally);
	tally_free(t->next);
	names_free(&t->names);
	names_free(&t->next_names);
	seen_free(t->seen);
	free_endpoints(t);
	free(t->flows);
	free(t->next_flows);
	free(t->node);
	if (t->pause)
		event_free(t->pause);
}

int command_top(struct app *app, struct options *options)
{
	const bool one = options_own_is_on(options, "one") ||
			 options_own(options, "output") || !screen_is_possible();
	struct top t = { .app = app,
			 .interval_ms = one ? ONE_INTERVAL_MS : INTERVAL_MS };
	const struct look_calls calls = { on_looked_entry, on_done, &t };
	int status;

	read_interval(options, &t.interval_ms);
	if (options->n_words)
		snprintf(t.view.filter[TOP_SERVICES], TOP_FILTER_SIZE, "%s",
			 options->words[0]);
	t.look = look_new(app, &calls);
	t.pause = evtimer_new(app->base, on_pause, &t);
	if (!t.look || !t.pause || app_watch_signals(app, on_top_hangup, &t))
		status = command_fails(EXIT_FAILED, "out of memory");
	else
		status = one ? one_frame(&t, options) : follow_top(&t);
	close_screen(&t);
	if (*t.why.text)
		command_fails(status, "top: %s", t.why.text);
	top_end(&t);
	return status;
}
