/*
 * A key takes the kernel some 2 us, so a page of the local socket asks at once.
 * All virtual IPs of a large cluster are asked for in steps, and between two
 * steps the loop does whatever else there is. Services may come and go
 * meanwhile: the names are copied at the beginning.
 */
#include "proxy/serve/connections.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/array.h"
#include "proxy/serve/view.h"

enum {
	STEP_KEYS = 500,    /* a millisecond or so */
	SERIES_MAX = 10000, /* shown; a line has some 120 bytes */
};

/* The element of a virtual IP that all of its connections meet. */
static struct element vip_key(const struct vip *vip, uint8_t protocol)
{
	return (struct element){
		.set = vip->role == VIP_NODE_PORT ? MAP_SERVICE_NODEPORTS
						  : MAP_SERVICE_IPS,
		.addr = vip->addr,
		.protocol = protocol,
		.port = vip->port,
	};
}

int connections_of_port(const struct sync *sync, enum family family,
			const struct service_port_state *port,
			struct arena *scratch, const uint64_t **counts)
{
	const struct dispatch *p = port->applied;
	struct element *keys;
	struct errbuf ignored;
	uint64_t *list;
	unsigned int i;
	int err;

	if (!sync || !p)
		return -ENODATA;
	keys = arena_array(scratch, p->n_vips, sizeof(*keys));
	list = arena_array(scratch, p->n_vips, sizeof(*list));
	if (!keys || !list)
		return -ENOMEM;
	for (i = 0; i < p->n_vips; i++)
		keys[i] = vip_key(&p->vips[i], p->protocol);
	err = sync_count(sync, family, keys, p->n_vips, &ignored);
	for (i = 0; !err && i < p->n_vips; i++)
		list[i] = keys[i].count;
	*counts = list;
	return err;
}

static int connections_order(const void *a, const void *b)
{
	return endpoint_compare(
		&((const struct endpoint_connections *)a)->endpoint,
		&((const struct endpoint_connections *)b)->endpoint);
}

/* Those of one endpoint stand together: by different lists and virtual IPs. */
static size_t add_up(struct endpoint_connections *list, size_t n)
{
	size_t i, to = 0;

	if (n)
		qsort(list, n, sizeof(*list), connections_order);
	for (i = 0; i < n; i++)
		if (to && connections_order(&list[to - 1], &list[i]) == 0)
			list[to - 1].count += list[i].count;
		else
			list[to++] = list[i];
	return to;
}

int connections_of_endpoints(const struct sync *sync, enum family family,
			     const struct service_port_state *port,
			     struct arena *scratch,
			     const struct endpoint_connections **list,
			     size_t *count)
{
	struct endpoint_connections *found;
	const struct element *elements;
	struct element *keys;
	struct errbuf ignored;
	size_t n, i, k = 0;
	int err;

	if (!sync || !port->applied || port->applied->affinity_timeout_s)
		return -ENODATA;
	err = dispatch_elements(port->applied, family, scratch, &elements, &n);
	keys = err ? NULL : arena_array(scratch, n, sizeof(*keys));
	found = err ? NULL : arena_array(scratch, n, sizeof(*found));
	if (!keys || !found)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		if (set_is_counted(elements[i].set) &&
		    set_has_endpoint(elements[i].set))
			keys[k++] = elements[i];
	err = sync_count(sync, family, keys, k, &ignored);
	for (i = 0; !err && i < k; i++)
		found[i] = (struct endpoint_connections){
			.endpoint = { .addr = keys[i].endpoint,
				      .port = keys[i].endpoint_port },
			.count = keys[i].count,
		};
	*list = found;
	*count = err ? 0 : add_up(found, k);
	return err;
}

uint64_t connections_find(const struct endpoint_connections *list, size_t count,
			  const struct endpoint *endpoint)
{
	const struct endpoint_connections key = { .endpoint = *endpoint }, *found;

	found = count ? bsearch(&key, list, count, sizeof(key), connections_order)
		      : NULL;
	return found ? found->count : 0;
}

/* The census */

struct connection_series {
	size_t labels; /* where in the text */
	uint64_t count;
};

/* Of one set, so that many can be asked for at once. */
struct questions {
	struct element *keys;
	size_t *series; /* of each */
	size_t count, room, series_room, at;
	enum family family;
};

struct census {
	struct census_options options;
	struct event *step;
	bool running;
	struct questions questions[N_FAMILIES][2]; /* addresses, node ports */
	struct connection_series *series;
	size_t n_series, series_room;
	struct strbuf labels; /* one after the other, each with a NUL */
	int err;
};

static void census_clear(struct census *c)
{
	struct questions *q;
	unsigned int f, i;

	for (f = 0; f < N_FAMILIES; f++)
		for (i = 0; i < 2; i++) {
			q = &c->questions[f][i];
			free(q->keys);
			free(q->series);
			*q = (struct questions){ .family = (enum family)f };
		}
	free(c->series);
	c->series = NULL;
	c->n_series = c->series_room = 0;
	strbuf_free(&c->labels);
	c->err = 0;
}

/* Names of Services and ports were checked when they came: none has a quotation mark. */
static int add_series(struct census *c, const struct service_entry *s,
		      const struct service_port *port, const char *vip)
{
	if (array_grow(c->series, c->n_series, c->series_room))
		return -ENOMEM;
	c->series[c->n_series++] =
		(struct connection_series){ .labels = c->labels.length };
	strbuf_addf(&c->labels, "namespace=\"%s\",service=\"%s\",port=\"",
		    s->namespace, s->name);
	if (*port->name)
		strbuf_adds(&c->labels, port->name);
	else
		strbuf_addf(&c->labels, "%u", port->port);
	strbuf_addf(&c->labels, "\",vip=\"%s\"", vip);
	strbuf_addc(&c->labels, '\0');
	return c->labels.err;
}

static int add_question(struct questions *q, const struct element *key, size_t series)
{
	if (array_grow(q->keys, q->count, q->room) ||
	    array_grow(q->series, q->count, q->series_room))
		return -ENOMEM;
	q->keys[q->count] = *key;
	q->series[q->count++] = series;
	return 0;
}

/* A node port is one for both families. */
static int census_add_port(struct census *c, const struct service_entry *s,
			   const struct service_port *port)
{
	const struct service_port_state *p;
	size_t node_port = SIZE_MAX;
	char text[ADDR_TEXT_SIZE];
	const struct vip *vip;
	struct element key;
	unsigned int f, i;
	bool is_node_port;
	int err = 0;

	for (f = 0; f < N_FAMILIES; f++) {
		p = s->object->family[f].has_cluster_ip
			    ? view_find_port(s, (enum family)f, port)
			    : NULL;
		for (i = 0; !err && p && p->applied && i < p->applied->n_vips; i++) {
			vip = &p->applied->vips[i];
			is_node_port = vip->role == VIP_NODE_PORT;
			key = vip_key(vip, p->protocol);
			if (!is_node_port || node_port == SIZE_MAX)
				err = add_series(
					c, s, port,
					is_node_port
						? CONNECTIONS_NODE_PORT
						: addr_format((enum family)f,
							      &vip->addr, text));
			if (!err && is_node_port && node_port == SIZE_MAX)
				node_port = c->n_series - 1;
			if (!err)
				err = add_question(
					&c->questions[f][is_node_port], &key,
					is_node_port ? node_port : c->n_series - 1);
		}
	}
	return err;
}

static void print_census(const struct census *c, struct strbuf *out)
{
	static const char name[] = "vipmap_service_connections_total";
	static const char left[] = "vipmap_service_connections_left_out";
	size_t i, shown = 0, omitted = 0;

	strbuf_addf(out,
		    "# HELP %s Connections to a virtual IP, refused ones too.\n# TYPE %s counter\n",
		    name, name);
	for (i = 0; i < c->n_series; i++) {
		if (!c->series[i].count)
			continue;
		if (shown == SERIES_MAX) {
			omitted++;
			continue;
		}
		shown++;
		strbuf_addf(out, "%s{%s} %" PRIu64 "\n", name,
			    c->labels.text + c->series[i].labels,
			    c->series[i].count);
	}
	strbuf_addf(out,
		    "# HELP %s Virtual IPs with connections that are too many to be shown.\n"
		    "# TYPE %s gauge\n%s %zu\n",
		    left, left, left, omitted);
}

static void census_end(struct census *c)
{
	struct strbuf text = STRBUF_INIT;

	if (!c->err)
		print_census(c, &text);
	c->running = false;
	census_clear(c);
	c->options.done(c->options.ctx, &text);
	strbuf_free(&text);
}

static struct questions *next_questions(struct census *c)
{
	unsigned int f, i;

	for (f = 0; f < N_FAMILIES; f++)
		for (i = 0; i < 2; i++)
			if (c->questions[f][i].at < c->questions[f][i].count)
				return &c->questions[f][i];
	return NULL;
}

static void on_step(evutil_socket_t fd, short what, void *ctx)
{
	static const struct timeval at_once;
	struct census *c = ctx;
	struct questions *q = c->err ? NULL : next_questions(c);
	struct errbuf ignored;
	size_t i, n;
	int err;

	(void)fd;
	(void)what;
	if (!q) {
		census_end(c);
		return;
	}
	n = q->count - q->at < STEP_KEYS ? q->count - q->at : STEP_KEYS;
	err = sync_count(c->options.sync, q->family, &q->keys[q->at], n, &ignored);
	for (i = q->at; !err && i < q->at + n; i++)
		c->series[q->series[i]].count += q->keys[i].count;
	/* Then nothing is shown: a part of a count would seem to begin anew. */
	if (err && err != -ENODATA)
		c->err = err;
	q->at += n;
	event_add(c->step, &at_once);
}

struct census *census_new(const struct census_options *options)
{
	struct census *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->options = *options;
	c->step = evtimer_new(options->base, on_step, c);
	if (!c->step) {
		free(c);
		return NULL;
	}
	event_priority_set(c->step, event_base_get_npriorities(options->base) - 1);
	census_clear(c);
	return c;
}

void census_free(struct census *c)
{
	if (!c)
		return;
	event_free(c->step);
	census_clear(c);
	free(c);
}

bool census_begin(struct census *c)
{
	static const struct timeval at_once;
	const struct service_entry *s;
	unsigned int i;

	if (c->running)
		return true;
	if (sync_counters(c->options.sync) != COUNTERS_ON)
		return false;
	for_each_service_entry (s, c->options.model)
		for (i = 0; !c->err && s->object && i < s->object->n_ports; i++)
			c->err = census_add_port(c, s, &s->object->ports[i]);
	c->running = true;
	event_add(c->step, &at_once);
	return true;
}
