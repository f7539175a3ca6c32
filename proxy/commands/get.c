/*
 * get: what the running vipmap knows, as tables like kubectl's or as data. With -w the rows that
 * change are printed again, as kubectl does: a counter tells when it is worth asking anew.
 */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/nearest.h"
#include "proxy/base/table.h"
#include "proxy/commands/ask.h"
#include "proxy/commands/objects.h"

enum { WATCH_MS = 500, MAX_COLUMNS = 13 };

const struct command_flag get_flags[] = {
	{ "namespace", 'n', false, "NAMESPACE to look in; by default all of them" },
	{ "all-namespaces", 'A', true, "all namespaces, whatever -n says" },
	{ "output", 'o', false, "\"wide\" for more columns, \"json\" or \"yaml\"" },
	{ "no-headers", 0, true, "leave the headers out" },
	{ "watch", 'w', true, "go on, and print what changes" },
	{ NULL, 0, false, NULL },
};

struct column {
	const char *header;
	bool wide; /* only with -o wide */
	void (*cell)(const struct json *item, struct strbuf *text);
};

static void add_list(const struct json *list, struct strbuf *text)
{
	json_for_each (item, list)
		strbuf_addf(text, "%s%s", text->length ? "," : "",
			    json_string(item));
}

static void cell_namespace(const struct json *item, struct strbuf *text)
{
	strbuf_adds(text, text_at(item, "namespace"));
}

static void cell_name(const struct json *item, struct strbuf *text)
{
	strbuf_adds(text, text_at(item, "name"));
}

/* An unnamed port goes by its number. */
static void cell_port(const struct json *item, struct strbuf *text)
{
	if (*text_at(item, "port"))
		strbuf_adds(text, text_at(item, "port"));
	else if (json_has(item, "servicePort"))
		strbuf_addf(text, "%lld",
			    (long long)number_at(item, "servicePort"));
}

static void cell_address(const struct json *item, struct strbuf *text)
{
	json_for_each (ip, json_get(item, "clusterIPs"))
		strbuf_addf(text,
			    strchr(json_string(ip), ':') ? "%s[%s]:%lld/%s"
							 : "%s%s:%lld/%s",
			    text->length ? "," : "", json_string(ip),
			    (long long)number_at(item, "servicePort"),
			    text_at(item, "protocol"));
}

static void cell_type(const struct json *item, struct strbuf *text)
{
	strbuf_adds(text, text_at(item, "type"));
}

static void cell_external(const struct json *item, struct strbuf *text)
{
	add_list(json_get(item, "loadBalancerIPs"), text);
	add_list(json_get(item, "externalIPs"), text);
}

static void cell_node_port(const struct json *item, struct strbuf *text)
{
	if (number_at(item, "nodePort"))
		strbuf_addf(text, "%lld", (long long)number_at(item, "nodePort"));
}

static void cell_endpoints(const struct json *item, struct strbuf *text)
{
	const struct json *e = json_get(item, "endpoints");

	if (e)
		strbuf_addf(text, "%lld/%lld", (long long)number_at(e, "used"),
			    (long long)number_at(e, "total"));
}

static void cell_local(const struct json *item, struct strbuf *text)
{
	const struct json *e = json_get(item, "endpoints");

	if (e)
		strbuf_addf(text, "%lld", (long long)number_at(e, "local"));
}

/* The one that matters to those outside, where there are such addresses. */
static void cell_policy(const struct json *item, struct strbuf *text)
{
	const bool external = json_first(json_get(item, "loadBalancerIPs")) ||
			      json_first(json_get(item, "externalIPs")) ||
			      number_at(item, "nodePort");

	strbuf_adds(text, text_at(item, external ? "externalTrafficPolicy"
						 : "internalTrafficPolicy"));
}

static void cell_affinity(const struct json *item, struct strbuf *text)
{
	if (number_at(item, "affinityTimeoutSeconds"))
		strbuf_addf(text, "%llds",
			    (long long)number_at(item, "affinityTimeoutSeconds"));
}

static void cell_connections(const struct json *item, struct strbuf *text)
{
	if (json_has(item, "connections"))
		strbuf_addf(text, "%lld",
			    (long long)number_at(item, "connections"));
}

static void cell_state(const struct json *item, struct strbuf *text)
{
	const char *message = text_at(item, "message");

	strbuf_addf(text, "%s%s%s", text_at(item, "state"),
		    *message ? ": " : "", message);
}

static void cell_service(const struct json *item, struct strbuf *text)
{
	strbuf_adds(text, text_at(item, "service"));
}

static void cell_endpoint(const struct json *item, struct strbuf *text)
{
	strbuf_addf(text, "%s/%s", text_at(item, "address"),
		    text_at(item, "protocol"));
}

static void cell_pod(const struct json *item, struct strbuf *text)
{
	strbuf_adds(text, text_at(item, "pod"));
}

static void cell_node(const struct json *item, struct strbuf *text)
{
	strbuf_adds(text, text_at(item, "nodeName"));
}

static void cell_zone(const struct json *item, struct strbuf *text)
{
	strbuf_adds(text, text_at(item, "zone"));
}

static void cell_here(const struct json *item, struct strbuf *text)
{
	strbuf_adds(text, is_at(item, "onThisNode") ? "yes" : "no");
}

static void cell_used(const struct json *item, struct strbuf *text)
{
	strbuf_adds(text, is_at(item, "used") ? "yes" : "no");
}

static void cell_reason(const struct json *item, struct strbuf *text)
{
	strbuf_adds(text, text_at(item, "reason"));
}

static const struct column service_columns[] = {
	{ "NAMESPACE", false, cell_namespace },
	{ "NAME", false, cell_name },
	{ "PORT", false, cell_port },
	{ "ADDRESS", false, cell_address },
	{ "TYPE", false, cell_type },
	{ "EXTERNAL", false, cell_external },
	{ "NODE-PORT", false, cell_node_port },
	{ "ENDPOINTS", false, cell_endpoints },
	{ "LOCAL", true, cell_local },
	{ "POLICY", true, cell_policy },
	{ "AFFINITY", true, cell_affinity },
	{ "CONNECTIONS", true, cell_connections },
	{ "STATE", false, cell_state },
	{ NULL, false, NULL },
};

static const struct column endpoint_columns[] = {
	{ "NAMESPACE", false, cell_namespace },
	{ "SERVICE", false, cell_service },
	{ "PORT", false, cell_port },
	{ "ENDPOINT", false, cell_endpoint },
	{ "POD", false, cell_pod },
	{ "NODE", false, cell_node },
	{ "ZONE", false, cell_zone },
	{ "LOCAL", true, cell_here },
	{ "USED", false, cell_used },
	{ "CONNECTIONS", true, cell_connections },
	{ "REASON", false, cell_reason },
	{ NULL, false, NULL },
};

static const struct shown_resource {
	const char *names[5]; /* the first is the one to show */
	const char *path;
	const struct column *columns; /* NULL: one object, printed as data */
	const char *more; /* in YAML, a second document; NULL: none */
} resources[] = {
	{ { "services", "service", "svc" }, "/v1/services", service_columns, NULL },
	{ { "endpoints", "endpoint", "ep" }, "/v1/endpoints", endpoint_columns, NULL },
	{ { "node", "nodes", "no" }, "/v1/node", NULL, NULL },
	{ { "config", "configuration" }, "/v1/config", NULL, "/v1/config/vipmap" },
	{ { "vipmap-config" }, "/v1/config/vipmap", NULL, NULL },
};

enum { N_RESOURCES = sizeof(resources) / sizeof(resources[0]) };

static const struct shown_resource *resource_find(const char *word)
{
	size_t i, k;

	for (i = 0; i < N_RESOURCES; i++)
		for (k = 0; resources[i].names[k]; k++)
			if (strcmp(resources[i].names[k], word) == 0)
				return &resources[i];
	return NULL;
}

static int unknown_resource(const char *word, struct errbuf *eb)
{
	struct nearest near;
	size_t i;

	nearest_begin(&near, word);
	for (i = 0; i < N_RESOURCES; i++)
		nearest_try(&near, resources[i].names[0]);
	if (near.best)
		return errf(eb, -EINVAL,
			    "get: unknown resource \"%s\"; did you mean %s?",
			    word, near.best);
	return errf(eb, -EINVAL,
		    "get: unknown resource \"%s\": there are services, endpoints, node, config "
		    "and vipmap-config",
		    word);
}

int command_get_check(const struct options *options, struct errbuf *eb)
{
	const char *output = options_own(options, "output");
	const struct shown_resource *resource;

	if (!options->n_words)
		return errf(eb, -EINVAL,
			    "get: what? One of services, endpoints, node, config and "
			    "vipmap-config");
	resource = resource_find(options->words[0]);
	if (!resource)
		return unknown_resource(options->words[0], eb);
	if (output && strcmp(output, "wide") && strcmp(output, "json") &&
	    strcmp(output, "yaml"))
		return errf(eb, -EINVAL,
			    "get: --output: \"%s\" is not wide, json or yaml",
			    output);
	if (options_own_is_on(options, "watch") && objects_are_named(options))
		return errf(eb, -EINVAL,
			    "get: --watch follows what runs: not with --manifests, --config, "
			    "--kubeconfig or --master");
	if (!resource->columns && options->n_words > 1)
		return errf(eb, -EINVAL, "get %s: unexpected argument \"%s\"",
			    resource->names[0], options->words[1]);
	return 0;
}

/* "[NAMESPACE/]NAME[:PORT]" */
static void name_split(const char *word, char namespace[256], char name[256],
		       char port[256])
{
	const char *slash = strchr(word, '/'), *rest = slash ? slash + 1 : word;
	const char *colon = strchr(rest, ':');

	if (slash)
		snprintf(namespace, 256, "%.*s", (int)(slash - word), word);
	snprintf(name, 256, "%.*s",
		 colon ? (int)(colon - rest) : (int)strlen(rest), rest);
	snprintf(port, 256, "%s", colon ? colon + 1 : "");
}

/* What was printed of an item, to tell whether it changed. */
struct seen_object {
	struct seen_object *next;
	bool alive; /* in the latest round */
	char *key, *row;
};

struct get {
	struct app *app;
	const struct options *options;
	const struct shown_resource *resource;
	const char *output; /* "" if not given */
	struct strbuf json; /* items of all pages */
	struct table table;
	const char *headers[MAX_COLUMNS];
	struct seen_object *seen;
	bool watching, headers_done;
	size_t n_items;
};

static unsigned int choose_headers(struct get *g)
{
	const struct column *c;
	unsigned int n = 0;

	for (c = g->resource->columns; c->header; c++)
		if (!c->wide || strcmp(g->output, "wide") == 0)
			g->headers[n++] = c->header;
	return n;
}

/* Cells with a tab behind each; one in a cell itself is made visible. */
static void make_row(struct get *g, const struct json *item, struct strbuf *row)
{
	const struct column *c;
	struct strbuf cell = STRBUF_INIT;

	for (c = g->resource->columns; c->header; c++) {
		if (c->wide && strcmp(g->output, "wide"))
			continue;
		strbuf_reset(&cell);
		c->cell(item, &cell);
		strbuf_add_visible(row, cell.length ? cell.text : "-");
		strbuf_addc(row, '\t');
	}
	strbuf_free(&cell);
}

static void add_row(struct get *g, char *row)
{
	char *cell;

	while ((cell = strsep(&row, "\t")) && row)
		table_add(&g->table, cell);
}

static void make_key(const struct json *item, struct strbuf *key)
{
	strbuf_addf(key, "%s/%s%s:%s/%s %s", text_at(item, "namespace"),
		    text_at(item, "name"), text_at(item, "service"),
		    text_at(item, "port"), text_at(item, "protocol"),
		    text_at(item, "address"));
}

/* Whether the row has to be printed. */
static bool row_is_news(struct get *g, const struct json *item, const char *row)
{
	struct strbuf key = STRBUF_INIT;
	struct seen_object *s;
	bool news = false;

	make_key(item, &key);
	for (s = g->seen; s && key.text && strcmp(s->key, key.text); s = s->next)
		;
	if (!s && (s = calloc(1, sizeof(*s)))) {
		s->key = strdup(key.text ? key.text : "");
		s->row = strdup("");
		s->next = g->seen;
		g->seen = s;
	}
	if (s && s->key && s->row) {
		news = strcmp(s->row, row) != 0;
		free(s->row);
		s->row = strdup(row);
		s->alive = true;
	}
	strbuf_free(&key);
	return news;
}

static int on_objects_page(void *ctx, const struct json *page)
{
	struct get *g = ctx;
	struct strbuf row = STRBUF_INIT;
	bool as_data = strcmp(g->output, "json") == 0 ||
		       strcmp(g->output, "yaml") == 0;
	bool lost = false;

	json_for_each (item, json_get(page, "items")) {
		g->n_items++;
		if (as_data) {
			strbuf_adds(&g->json, g->json.length > 10 ? "," : "");
			print_json(item, &g->json);
			continue;
		}
		strbuf_reset(&row);
		make_row(g, item, &row);
		lost |= row.err != 0;
		if (!row.err && row.text &&
		    (!g->watching || row_is_news(g, item, row.text)))
			add_row(g, row.text);
	}
	strbuf_free(&row);
	return g->json.err || lost ? command_fails(EXIT_FAILED, "out of memory")
				   : EXIT_DONE;
}

static int fetch_list(struct get *g, const char *word)
{
	char namespace[256] = "", name[256] = "", port[256] = "";
	const char *wanted = options_own(g->options, "namespace");
	struct strbuf path = STRBUF_INIT;
	int status;

	if (wanted && !options_own_is_on(g->options, "all-namespaces"))
		snprintf(namespace, sizeof(namespace), "%s", wanted);
	if (word)
		name_split(word, namespace, name, port);
	strbuf_addf(&path, "%s?", g->resource->path);
	ask_add(&path, "namespace", namespace);
	ask_add(&path, "name", name);
	ask_add(&path, "port", port);
	status = path.err ? command_fails(EXIT_FAILED, "out of memory")
			  : ask_list(g->app, path.text, on_objects_page, g);
	strbuf_free(&path);
	return status;
}

static int fetch_all(struct get *g)
{
	unsigned int i;
	size_t before;
	int status = EXIT_DONE;

	if (g->options->n_words < 2)
		return fetch_list(g, NULL);
	for (i = 1; !status && i < g->options->n_words; i++) {
		before = g->n_items;
		status = fetch_list(g, g->options->words[i]);
		if (!status && g->n_items == before && !g->watching)
			status = name_unknown(g->app, g->options->words[i]);
	}
	return status;
}

static int print_table(struct get *g)
{
	const bool headers = !options_own_is_on(g->options, "no-headers") &&
			     !g->headers_done &&
			     (g->table.n_cells || !g->watching);
	struct strbuf out = STRBUF_INIT;

	if (!g->n_items && !g->watching) {
		command_fails(EXIT_DONE, "get: there are no %s",
			      g->resource->names[0]);
		return EXIT_DONE;
	}
	if (g->table.n_cells)
		table_print(&g->table, headers, 0, &out);
	g->headers_done |= headers;
	return put_out(&out);
}

static int one_round(struct get *g)
{
	int status;

	table_begin(&g->table, g->headers, choose_headers(g));
	g->n_items = 0;
	strbuf_reset(&g->json);
	strbuf_adds(&g->json, "{\"items\":[");
	status = fetch_all(g);
	strbuf_adds(&g->json, "]}");
	if (!status &&
	    (strcmp(g->output, "json") == 0 || strcmp(g->output, "yaml") == 0))
		status = put_json(&g->json, g->output,
				  "get: too much for one answer");
	else if (!status)
		status = print_table(g);
	table_free(&g->table);
	return status;
}

static int add_object(struct get *g, const char *path, struct strbuf *out)
{
	struct json *json;
	int status = ask_json(g->app, path, &json);

	if (status)
		return status;
	/* What is no table is YAML, unless JSON is asked for. */
	print_data(json, strcmp(g->output, "json") == 0 ? "json" : "yaml", out);
	json_free(json);
	return EXIT_DONE;
}

static int print_one(struct get *g)
{
	const char *more = strcmp(g->output, "json") ? g->resource->more : NULL;
	struct strbuf out = STRBUF_INIT;
	int status = add_object(g, g->resource->path, &out);

	if (!status && more) {
		strbuf_adds(&out, "---\n");
		status = add_object(g, more, &out);
	}
	if (!status)
		return put_out(&out);
	strbuf_free(&out);
	return status;
}

static int show_page(struct get *g)
{
	return g->resource->columns ? one_round(g) : print_one(g);
}

static void forget_unseen(struct get *g)
{
	struct seen_object **at = &g->seen, *s;

	while ((s = *at)) {
		if (s->alive) {
			s->alive = false;
			at = &s->next;
			continue;
		}
		*at = s->next;
		free(s->key);
		free(s->row);
		free(s);
	}
}

static void on_watch_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct get *g = ctx;

	(void)fd;
	(void)what;
	event_base_loopbreak(g->app->base);
}

static int count_changes(struct get *g, int64_t *changes)
{
	struct json *json;
	int status = ask_json(g->app, "/v1/changes", &json);

	if (!status)
		*changes = number_at(json, "changes");
	json_free(json);
	return status;
}

static void pause_watch(struct get *g)
{
	const struct timeval pause = { 0, WATCH_MS * 1000 };

	event_base_once(g->app->base, -1, EV_TIMEOUT, on_watch_timer, g, &pause);
	event_base_dispatch(g->app->base);
}

/* Until a signal ends it, or vipmap is gone. */
static int watch_changes(struct get *g)
{
	int64_t before = -1, changes = 0;
	int status = EXIT_DONE;

	if (app_watch_signals(g->app, NULL, NULL))
		return command_fails(EXIT_FAILED, "out of memory");
	g->watching = true;
	while (!status && !g->app->ending) {
		status = count_changes(g, &changes);
		if (!status && changes != before) {
			before = changes;
			status = show_page(g);
			forget_unseen(g);
		}
		if (!status && !g->app->ending)
			pause_watch(g);
	}
	return g->app->ending ? g->app->exit_status : status;
}

int command_get(struct app *app, struct options *options)
{
	const char *output = options_own(options, "output");
	struct get g = { .app = app,
			 .options = options,
			 .output = output ? output : "" };
	struct objects objects = { 0 };
	int status = EXIT_DONE;

	g.resource = resource_find(options->words[0]);
	if (objects_are_named(options)) {
		status = objects_open(&objects, app, options);
		if (objects.feed)
			g.options = &objects.feed->options;
	}
	if (!status)
		status = options_own_is_on(g.options, "watch") ? watch_changes(&g)
							       : show_page(&g);
	objects_close(&objects);
	forget_unseen(&g);
	forget_unseen(&g);
	strbuf_free(&g.json);
	return status;
}
