/*
 * Rows are made anew for each frame. The cursor stays with its row, wherever
 * that goes, and at the top as long as it was never moved.
 */
#include "proxy/commands/top_view.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/clock.h"
#include "proxy/base/table.h"
#include "proxy/commands/screen.h"
#include "proxy/serve/view.h"
#include "proxy/serve/vips.h"

enum {
	BAR_PLACES = 10,
	LINES_ABOVE = 3, /* the rows: title, path, headers */
	LINES_BELOW = 1,
};

/* One line, of whatever kind: its number in the data. */
struct row {
	size_t index;
	unsigned long connections, fresh;
	const char *name; /* borrowed, or @text */
	char *text;
};

double top_rate(const struct top_data *data, unsigned long fresh)
{
	return data->seconds > 0 ? (double)fresh / data->seconds : 0;
}

char *rate_format(const struct top_data *data, unsigned long fresh,
		  char text[RATE_TEXT_SIZE])
{
	const double rate = top_rate(data, fresh);

	if (data->seconds <= 0)
		snprintf(text, RATE_TEXT_SIZE, "-");
	else
		snprintf(text, RATE_TEXT_SIZE,
			 fresh && rate < 9.95 ? "%.1f" : "%.0f", rate);
	return text;
}

/* Sorting */

static int by_number(unsigned long a, unsigned long b)
{
	return a < b ? 1 : a > b ? -1 : 0; /* most first */
}

static int by_name(const void *va, const void *vb)
{
	const struct row *a = va, *b = vb;

	return strcmp(a->name, b->name);
}

static int by_connections(const void *va, const void *vb)
{
	const struct row *a = va, *b = vb;
	int order = by_number(a->connections, b->connections);

	return order ? order : by_name(va, vb);
}

static int by_fresh(const void *va, const void *vb)
{
	const struct row *a = va, *b = vb;
	int order = by_number(a->fresh, b->fresh);

	return order ? order : by_connections(va, vb);
}

static void sort_rows(struct row *rows, size_t n, enum top_sort sort)
{
	if (n)
		qsort(rows, n, sizeof(*rows),
		      sort == TOP_BY_NAME  ? by_name
		      : sort == TOP_BY_NEW ? by_fresh
					   : by_connections);
}

static int tally_endpoint_order(const void *va, const void *vb)
{
	const struct tally_endpoint *a = *(const struct tally_endpoint *const *)va;
	const struct tally_endpoint *b = *(const struct tally_endpoint *const *)vb;
	int order = by_number(a->connections, b->connections);

	if (!order)
		order = (int)a->family - (int)b->family;
	if (!order)
		order = addr_compare(&a->addr, &b->addr);
	return order ? order : (int)a->number - (int)b->number;
}

const struct tally_endpoint **top_endpoints(const struct tally_port *port)
{
	const struct tally_endpoint **list = calloc(
		port->n_endpoints + 1, sizeof(const struct tally_endpoint *));
	const struct tally_endpoint *e;
	unsigned int n = 0;

	for (e = port->endpoints; list && e; e = e->next)
		list[n++] = e;
	assert(!list || n == port->n_endpoints);
	if (n)
		qsort(list, n, sizeof(*list), tally_endpoint_order);
	return list;
}

/* Rows */

static void free_rows(struct row *rows, size_t n)
{
	size_t i;

	for (i = 0; rows && i < n; i++)
		free(rows[i].text);
	free(rows);
}

static struct row *service_rows(const struct top_data *data, const char *filter,
				size_t *n)
{
	const struct vips *vips = data->names->vips;
	const struct tally *t = data->tally;
	struct row *rows = calloc(vips_count(vips) + 1, sizeof(*rows));
	unsigned int i;

	/* Numbers are those of @vips, which a tally of other names may not have. */
	for (*n = 0, i = 0; rows && i < vips_count(vips); i++) {
		const char *name = vips_name(vips, i);
		const bool known = t && t->vips == vips;

		if (!strstr(name, filter))
			continue;
		rows[(*n)++] = (struct row){
			.index = i,
			.connections = known ? t->ports[i].connections : 0,
			.fresh = known ? t->ports[i].fresh : 0,
			.name = name,
		};
	}
	return rows;
}

static struct row *endpoint_rows(const struct top_data *data,
				 const char *filter, size_t *n)
{
	struct row *rows = calloc(data->n_endpoints + 1, sizeof(*rows));
	const struct top_endpoint *e;
	size_t i;

	for (*n = 0, i = 0; rows && i < data->n_endpoints; i++) {
		e = &data->endpoints[i];
		if (strstr(e->address, filter) || strstr(e->pod, filter) ||
		    strstr(e->node, filter) || strstr(e->reason, filter))
			rows[(*n)++] = (struct row){ i, e->connections, e->fresh,
						     e->address, NULL };
	}
	return rows;
}

/* Its places are those of a key's text: what is fresh here is the time that is left. */
static struct row *flow_rows(const struct top_data *data, const char *filter,
			     size_t *n)
{
	struct row *rows = calloc(data->n_flows + 1, sizeof(*rows));
	char client[ENDPOINT_TEXT_SIZE], to[ENDPOINT_TEXT_SIZE];
	const struct conntrack_entry *e;
	char *text;
	size_t i;

	for (*n = 0, i = 0; rows && i < data->n_flows; i++) {
		e = &data->flows[i].entry;
		endpoint_format(data->flows[i].family, &e->client,
				e->client_port, client);
		endpoint_format(data->flows[i].family, &e->destination,
				e->destination_port, to);
		if (asprintf(&text, "%s %s/%s", client, to,
			     protocol_name(e->protocol)) < 0)
			continue;
		if (strstr(text, filter))
			rows[(*n)++] = (struct row){ i, e->timeout_s,
						     e->timeout_s, text, text };
		else
			free(text);
	}
	return rows;
}

static struct row *make_rows(const struct top_view *v,
			     const struct top_data *data, size_t *n)
{
	static struct row *(*const makers[])(const struct top_data *,
					     const char *, size_t *) = {
		[TOP_SERVICES] = service_rows,
		[TOP_ENDPOINTS] = endpoint_rows,
		[TOP_FLOWS] = flow_rows,
	};
	struct row *rows = makers[v->level](data, v->filter[v->level], n);

	assert(v->level < sizeof(makers) / sizeof(makers[0]));
	if (rows)
		sort_rows(rows, *n, v->sort);
	return rows;
}

unsigned int *top_order(const struct top_data *data, enum top_sort sort,
			const char *filter, size_t *n)
{
	struct row *rows = service_rows(data, filter, n);
	unsigned int *order = calloc(*n + 1, sizeof(*order));
	size_t i;

	if (rows && order) {
		sort_rows(rows, *n, sort);
		for (i = 0; i < *n; i++)
			order[i] = (unsigned int)rows[i].index;
	}
	free_rows(rows, *n);
	if (rows)
		return order;
	free(order);
	return NULL;
}

/* Cells */

static void add_number(struct table *t, unsigned long number)
{
	table_addf(t, "%7lu", number);
}

static void add_rate(struct table *t, const struct top_data *data,
		     unsigned long fresh)
{
	char text[RATE_TEXT_SIZE];

	table_addf(t, "%6s", rate_format(data, fresh, text));
}

static void add_bar(const struct top_view *v, unsigned long part,
		    unsigned long whole, struct strbuf *out)
{
	unsigned long places = whole ? (part * BAR_PLACES + whole / 2) / whole : 0;

	for (places = places ? places : 1; places; places--)
		strbuf_adds(out, v->utf8 ? "\xe2\x96\x87" : "#");
}

static void add_spread(const struct top_view *v, const struct top_data *data,
		       size_t port, struct table *table)
{
	const struct port_facts *facts = &data->names->facts[port];
	const struct tally_port *p = &data->tally->ports[port];
	const struct tally_endpoint **list = top_endpoints(p);
	struct strbuf text = STRBUF_INIT;
	char address[ENDPOINT_TEXT_SIZE];
	unsigned int i;

	for (i = 0; list && i < p->n_endpoints && text.length < 1000; i++) {
		endpoint_format(list[i]->family, &list[i]->addr,
				list[i]->number, address);
		strbuf_addf(&text, "%s%s ", i ? "   " : "", address);
		add_bar(v, list[i]->connections, p->connections, &text);
		strbuf_addf(&text, " %lu", list[i]->connections);
	}
	if (facts->affinity_s)
		strbuf_adds(&text, text.length ? "   <- affinity" : "<- affinity");
	table_add(table, text.text);
	strbuf_free(&text);
	free(list);
}

static void add_service(const struct top_view *v, const struct top_data *data,
			const struct row *row, struct table *t)
{
	assert(row->index < vips_count(data->names->vips));
	add_number(t, row->connections);
	add_rate(t, data, row->fresh);
	table_addf(t, "%4lld", (long long)data->names->facts[row->index].used);
	if (data->tally && data->tally->vips == data->names->vips)
		add_spread(v, data, row->index, t);
	else
		table_add(t, "");
}

static void add_endpoint_row(const struct top_view *v, const struct top_data *data,
			     const struct row *row, struct table *t)
{
	const struct top_endpoint *e = &data->endpoints[row->index];

	assert(row->index < data->n_endpoints);
	(void)v;
	add_number(t, row->connections);
	add_rate(t, data, row->fresh);
	table_add(t, e->pod);
	table_add(t, e->node);
	table_add(t, e->reason);
}

static void add_flow(const struct top_view *v, const struct top_data *data,
		     const struct row *row, struct table *t)
{
	const struct top_flow *flow = &data->flows[row->index];
	const struct conntrack_entry *e = &flow->entry;
	char text[ENDPOINT_TEXT_SIZE], age[AGE_TEXT_SIZE];

	assert(row->index < data->n_flows);
	(void)v;
	endpoint_format(flow->family, &e->destination, e->destination_port, text);
	table_addf(t, "%s/%s", text, protocol_name(e->protocol));
	table_add(t, endpoint_format(flow->family, &e->endpoint,
				     e->endpoint_port, text));
	table_add(t, e->tcp_state ? conntrack_state_name(e->tcp_state) : "");
	table_add(t, age_format(e->timeout_s, age));
}

static const struct level {
	unsigned int n_columns;
	const char *headers[6];
	void (*add)(const struct top_view *v, const struct top_data *data,
		    const struct row *row, struct table *t);
	const char *sorts[3]; /* by what, for the keys c, n and s */
	const char *keys;
} levels[] = {
	[TOP_SERVICES] = {
		5, { "  SERVICE", "  CONNS", " NEW/s", "USED", "ENDPOINTS" }, add_service,
		{ "connections", "new connections", "name" },
		"q quit  c n s sort by conns, new, name  / filter  Enter endpoints",
	},
	[TOP_ENDPOINTS] = {
		6, { "  ENDPOINT", "  CONNS", " NEW/s", "POD", "NODE", "USED" }, add_endpoint_row,
		{ "connections", "new connections", "address" },
		"q quit  c n s sort by conns, new, address  / filter  Enter flows  Esc back",
	},
	[TOP_FLOWS] = {
		5, { "  CLIENT", "DESTINATION", "ENDPOINT", "STATE", "EXPIRES" }, add_flow,
		{ "the time left", "the time left", "client" },
		"q quit  c s sort by time left, client  / filter  Esc back",
	},
};

/* Frames */

static void put_title(const struct top_data *data, const char *time,
		      struct strbuf *out)
{
	char rate[RATE_TEXT_SIZE];

	strbuf_adds(out, "vipmap top  ");
	if (data->node && *data->node) {
		strbuf_adds(out, "node ");
		strbuf_add_visible(out, data->node);
		strbuf_adds(out, "  ");
	}
	if (data->tally)
		strbuf_addf(out, "%lu connections, %s new/s  ",
			    data->tally->connections,
			    rate_format(data, data->tally->fresh, rate));
	else
		strbuf_adds(out, "reading conntrack  ");
	strbuf_addf(out, "%s\n", time);
}

static void put_path(const struct top_view *v, const struct top_data *data,
		     struct strbuf *out)
{
	static const char *const what[] = { "Services", "endpoints", "flows" };
	const char *filter = v->filter[v->level];

	if (v->level != TOP_SERVICES) {
		strbuf_add_visible(out, v->service);
		strbuf_adds(out, " ");
	}
	if (v->level == TOP_FLOWS && *v->endpoint)
		strbuf_addf(out, "at %s ", v->endpoint);
	strbuf_addf(out, "%s by %s: %zu", what[v->level],
		    levels[v->level].sorts[v->sort], v->n_rows);
	if (v->level == TOP_FLOWS && data->more_flows)
		strbuf_addf(out, " (and %zu more)", data->more_flows);
	if (*filter) {
		strbuf_adds(out, " with \"");
		strbuf_add_visible(out, filter);
		strbuf_adds(out, "\"");
	}
	strbuf_addc(out, '\n');
}

static void put_bottom(const struct top_view *v, struct strbuf *out)
{
	if (!v->typing) {
		strbuf_adds(out, levels[v->level].keys);
		return;
	}
	strbuf_adds(out, "filter: ");
	strbuf_add_visible(out, v->filter[v->level]);
	strbuf_adds(out, "_   Enter: done  Esc: none");
}

/* Where the cursor's row is now. */
static size_t find_cursor(const struct top_view *v, const struct row *rows, size_t n)
{
	const char *cursor = v->cursor[v->level];
	size_t i;

	assert(rows || !n);
	for (i = 0; *cursor && i < n; i++)
		if (strcmp(rows[i].name, cursor) == 0)
			return i;
	if (!*cursor || !n)
		return 0;
	return v->at < n ? v->at : n - 1; /* gone: its neighbour */
}

static void scroll_page(struct top_view *v, unsigned int rows)
{
	const unsigned int taken = LINES_ABOVE + LINES_BELOW;

	v->page = rows > taken ? rows - taken : 0;
	if (v->at < v->first)
		v->first = v->at;
	if (v->page && v->at >= v->first + v->page)
		v->first = v->at + 1 - v->page;
	if (v->first && v->first + v->page > v->n_rows)
		v->first = v->n_rows > v->page ? v->n_rows - v->page : 0;
	assert(v->first <= v->n_rows);
}

static unsigned int put_rows(struct top_view *v, const struct top_data *data,
			     const struct row *rows, struct strbuf *out)
{
	const struct level *level = &levels[v->level];
	struct table t;
	size_t i, end = v->first + v->page;

	end = end < v->n_rows ? end : v->n_rows;
	assert(v->first <= end);
	table_begin(&t, level->headers, level->n_columns);
	for (i = v->first; i < end; i++) {
		if (v->level == TOP_FLOWS)
			table_addf(&t, "%c %.*s", i == v->at ? '>' : ' ',
				   (int)strcspn(rows[i].name, " "), rows[i].name);
		else
			table_addf(&t, "%c %s", i == v->at ? '>' : ' ',
				   rows[i].name);
		level->add(v, data, &rows[i], &t);
	}
	table_print(&t, true, 0, out);
	table_free(&t);
	return (unsigned int)(end - v->first);
}

int top_frame(struct top_view *v, const struct top_data *data,
	      unsigned int rows, const char *time, struct strbuf *out)
{
	struct row *list;
	unsigned int shown;

	list = make_rows(v, data, &v->n_rows);
	if (!list) {
		out->err = -ENOMEM;
		return -1;
	}
	v->at = find_cursor(v, list, v->n_rows);
	scroll_page(v, rows);
	put_title(data, time, out);
	put_path(v, data, out);
	shown = put_rows(v, data, list, out);
	free_rows(list, v->n_rows);
	for (; shown < v->page; shown++)
		strbuf_adds(out, " \n");
	put_bottom(v, out);
	return v->n_rows ? (int)(LINES_ABOVE + v->at - v->first) : -1;
}

/* Keys */

static void set_text(char *to, size_t size, const char *text)
{
	snprintf(to, size, "%s", text);
}

/* The cursor goes to a row, which it stays with from now on. */
static void move_to(struct top_view *v, const struct top_data *data, size_t at)
{
	struct row *rows = make_rows(v, data, &v->n_rows);

	if (rows && v->n_rows) {
		v->at = at < v->n_rows ? at : v->n_rows - 1;
		set_text(v->cursor[v->level], TOP_KEY_SIZE, rows[v->at].name);
	}
	free_rows(rows, v->n_rows);
}

static void enter_level(struct top_view *v, enum top_level level)
{
	assert(level <= TOP_FLOWS);
	v->level = level;
	v->at = v->first = 0;
	v->typing = false;
}

static enum top_action go_deeper(struct top_view *v, const struct top_data *data)
{
	move_to(v, data, v->at);
	if (v->level == TOP_FLOWS || !v->n_rows)
		return TOP_STAY;
	set_text(v->level == TOP_SERVICES ? v->service : v->endpoint,
		 TOP_KEY_SIZE, v->cursor[v->level]);
	enter_level(v, v->level + 1);
	v->cursor[v->level][0] = '\0';
	v->filter[v->level][0] = '\0';
	return TOP_LOOK;
}

/* A filter goes first, and then the level. */
static enum top_action go_back(struct top_view *v)
{
	if (*v->filter[v->level]) {
		v->filter[v->level][0] = '\0';
		return TOP_STAY;
	}
	if (v->level == TOP_SERVICES)
		return TOP_STAY;
	enter_level(v, v->level - 1);
	return TOP_LOOK;
}

static void type_filter(struct top_view *v, int key)
{
	char *filter = v->filter[v->level];
	const size_t length = strlen(filter);

	if (key == KEY_ENTER || key == KEY_ESCAPE)
		v->typing = false;
	if (key == KEY_ESCAPE)
		*filter = '\0';
	else if (key == KEY_ERASE && length)
		filter[length - 1] = '\0';
	if (key > ' ' && key <= '~' && length + 1 < TOP_FILTER_SIZE) {
		filter[length] = (char)key;
		filter[length + 1] = '\0';
	}
}

enum top_action top_key(struct top_view *v, const struct top_data *data, int key)
{
	const size_t page = v->page ? v->page : 1;

	if (v->typing) {
		type_filter(v, key);
		return TOP_STAY;
	}
	switch (key) {
	case 'q':
		return TOP_QUIT;
	case 'c':
		v->sort = TOP_BY_CONNECTIONS;
		break;
	case 'n':
		v->sort = TOP_BY_NEW;
		break;
	case 's':
		v->sort = TOP_BY_NAME;
		break;
	case '/':
		v->typing = true;
		break;
	case KEY_UP:
	case 'k':
		move_to(v, data, v->at ? v->at - 1 : 0);
		break;
	case KEY_DOWN:
	case 'j':
		move_to(v, data, v->at + 1);
		break;
	case KEY_PAGE_UP:
		move_to(v, data, v->at > page ? v->at - page : 0);
		break;
	case KEY_PAGE_DOWN:
		move_to(v, data, v->at + page);
		break;
	case KEY_HOME: /* and stays at the top, whoever comes there */
		v->cursor[v->level][0] = '\0';
		break;
	case KEY_END:
		move_to(v, data, v->n_rows);
		break;
	case KEY_ENTER:
	case KEY_RIGHT:
		return go_deeper(v, data);
	case KEY_ESCAPE:
	case KEY_LEFT:
	case KEY_ERASE:
		return go_back(v);
	default:
		break;
	}
	return TOP_STAY;
}
