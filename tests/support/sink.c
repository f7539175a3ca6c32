/* Objects are kept as lines of text in a sorted array: slow, and easy to compare. */
#include "tests/support/sink.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"

struct entry {
	char *key;  /* "Service default/lb" */
	char *text; /* all fields */
	bool stale; /* not seen in the list that runs */
	enum kind kind;
};

struct recording_sink {
	struct object_sink ops;
	struct strbuf journal;
	struct entry *entries;
	size_t n, size;
	bool listed[N_KINDS];
};

static char *key_of(enum kind kind, const char *namespace, const char *name)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_addf(&sb, "%s %s%s%s", kind_name(kind), namespace,
		    *namespace ? "/" : "", name);
	return sb.text;
}

/* Where @key is, or where it would be. */
static size_t find(const struct recording_sink *sink, const char *key, bool *there)
{
	size_t low = 0, high = sink->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(key, sink->entries[middle].key);

		if (!order) {
			*there = true;
			return middle;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	*there = false;
	return low;
}

static void put(struct recording_sink *sink, enum kind kind, char *key, char *text)
{
	bool there;
	size_t at = find(sink, key, &there);

	strbuf_addf(&sink->journal, "put %s\n", key);
	if (there) {
		free(sink->entries[at].text);
		free(key);
		sink->entries[at].text = text;
		sink->entries[at].stale = false;
		return;
	}
	if (sink->n == sink->size) {
		sink->size = sink->size ? sink->size * 2 : 64;
		sink->entries = realloc(sink->entries,
					sink->size * sizeof(*sink->entries));
		ck_assert_ptr_nonnull(sink->entries);
	}
	memmove(sink->entries + at + 1, sink->entries + at,
		(sink->n - at) * sizeof(*sink->entries));
	sink->entries[at] =
		(struct entry){ .key = key, .text = text, .kind = kind };
	sink->n++;
}

static void drop(struct recording_sink *sink, size_t at)
{
	free(sink->entries[at].key);
	free(sink->entries[at].text);
	sink->n--;
	memmove(sink->entries + at, sink->entries + at + 1,
		(sink->n - at) * sizeof(*sink->entries));
}

static void add_addr(struct strbuf *sb, enum family family, const struct addr *addr)
{
	char text[ADDR_TEXT_SIZE];

	strbuf_addf(sb, " %s", addr_format(family, addr, text));
}

static void add_addrs(struct strbuf *sb, const char *name, enum family family,
		      const struct addr_list *list)
{
	if (list->count)
		strbuf_addf(sb, " %s", name);
	for (unsigned int i = 0; i < list->count; i++)
		add_addr(sb, family, &list->items[i]);
}

static void add_prefixes(struct strbuf *sb, const char *name,
			 enum family family, const struct prefix_list *list)
{
	if (list->count)
		strbuf_addf(sb, " %s", name);
	for (unsigned int i = 0; i < list->count; i++) {
		add_addr(sb, family, &list->items[i].addr);
		strbuf_addf(sb, "/%u", list->items[i].length);
	}
}

static int put_service(void *ctx, struct service *s)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_addf(&sb, "uid %s created %lld flags %x affinity %u check %u",
		    s->uid, (long long)s->created_s, s->flags,
		    s->affinity_timeout_s, s->health_check_node_port);
	for (unsigned int i = 0; i < s->n_ports; i++)
		strbuf_addf(&sb, " port %s/%u/%u/%u", s->ports[i].name,
			    s->ports[i].protocol, s->ports[i].port,
			    s->ports[i].node_port);
	for (int f = 0; f < N_FAMILIES; f++) {
		if (s->family[f].has_cluster_ip)
			add_addr(&sb, (enum family)f, &s->family[f].cluster_ip);
		add_addrs(&sb, "external", (enum family)f,
			  &service_extra(s, f)->external_ips);
		add_addrs(&sb, "lb", (enum family)f,
			  &service_extra(s, f)->load_balancer_ips);
		add_prefixes(&sb, "ranges", (enum family)f,
			     &service_extra(s, f)->source_ranges);
	}
	put(ctx, KIND_SERVICE, key_of(KIND_SERVICE, s->namespace, s->name),
	    sb.text);
	free(s);
	return 0;
}

static int put_slice(void *ctx, struct slice *s)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_addf(&sb, "of %s family %d trigger %lld", s->service,
		    (int)s->family, (long long)s->trigger_us);
	for (unsigned int i = 0; i < s->n_ports; i++)
		strbuf_addf(&sb, " port %s/%u/%u", s->ports[i].name,
			    s->ports[i].protocol, s->ports[i].port);
	for (unsigned int i = 0; i < s->n_endpoints; i++) {
		const struct slice_endpoint ep = slice_endpoint(s, i);

		add_addr(&sb, s->family, &ep.addr);
		strbuf_addf(&sb, "[%x]", ep.flags);
	}
	put(ctx, KIND_SLICE, key_of(KIND_SLICE, s->namespace, s->name), sb.text);
	free(s);
	return 0;
}

static int put_service_cidr(void *ctx, struct service_cidr *c)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_adds(&sb, "");
	for (int f = 0; f < N_FAMILIES; f++)
		add_prefixes(&sb, "cidrs", (enum family)f, &c->family[f]);
	put(ctx, KIND_SERVICE_CIDR, key_of(KIND_SERVICE_CIDR, "", c->name),
	    sb.text);
	free(c);
	return 0;
}

static int put_node(void *ctx, struct node *n)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_addf(&sb, "zone %s flags %x", n->zone, n->flags);
	for (unsigned int i = 0; i < n->n_addresses; i++)
		add_addr(&sb, n->addresses[i].family, &n->addresses[i].addr);
	for (int f = 0; f < N_FAMILIES; f++)
		add_prefixes(&sb, "pods", (enum family)f, &n->pod_cidrs[f]);
	put(ctx, KIND_NODE, key_of(KIND_NODE, "", n->name), sb.text);
	free(n);
	return 0;
}

static void gone(void *ctx, enum kind kind, const char *namespace, const char *name)
{
	struct recording_sink *sink = ctx;
	char *key = key_of(kind, namespace, name);
	bool there;
	size_t at = find(sink, key, &there);

	strbuf_addf(&sink->journal, "gone %s\n", key);
	if (there)
		drop(sink, at);
	free(key);
}

static void list_begin(void *ctx, enum kind kind)
{
	struct recording_sink *sink = ctx;

	strbuf_addf(&sink->journal, "begin %s\n", kind_name(kind));
	for (size_t i = 0; i < sink->n; i++)
		if (sink->entries[i].kind == kind)
			sink->entries[i].stale = true;
}

static void list_end(void *ctx, enum kind kind)
{
	struct recording_sink *sink = ctx;

	strbuf_addf(&sink->journal, "end %s\n", kind_name(kind));
	sink->listed[kind] = true;
	for (size_t i = sink->n; i-- > 0;)
		if (sink->entries[i].kind == kind && sink->entries[i].stale)
			drop(sink, i);
}

static void complain(void *ctx, const char *message)
{
	struct recording_sink *sink = ctx;

	strbuf_addf(&sink->journal, "complain %s\n", message);
}

struct recording_sink *recording_sink_new(void)
{
	struct recording_sink *sink = calloc(1, sizeof(*sink));

	ck_assert_ptr_nonnull(sink);
	strbuf_adds(&sink->journal, "");
	sink->ops = (struct object_sink){
		.ctx = sink,
		.put_service = put_service,
		.put_slice = put_slice,
		.put_service_cidr = put_service_cidr,
		.put_node = put_node,
		.gone = gone,
		.list_begin = list_begin,
		.list_end = list_end,
		.complain = complain,
	};
	return sink;
}

void recording_sink_free(struct recording_sink *sink)
{
	while (sink->n)
		drop(sink, sink->n - 1);
	free(sink->entries);
	strbuf_free(&sink->journal);
	free(sink);
}

const struct object_sink *recording_sink_ops(struct recording_sink *sink)
{
	return &sink->ops;
}

const char *recording_sink_journal(const struct recording_sink *sink)
{
	return sink->journal.text;
}

void recording_sink_forget_journal(struct recording_sink *sink)
{
	strbuf_reset(&sink->journal);
}

char *recording_sink_state(const struct recording_sink *sink)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_adds(&sb, "");
	for (size_t i = 0; i < sink->n; i++)
		strbuf_addf(&sb, "%s: %s\n", sink->entries[i].key,
			    sink->entries[i].text);
	return sb.text;
}

unsigned int recording_sink_count(const struct recording_sink *sink, enum kind kind)
{
	unsigned int count = 0;

	for (size_t i = 0; i < sink->n; i++)
		count += sink->entries[i].kind == kind;
	return count;
}

bool recording_sink_listed(const struct recording_sink *sink, enum kind kind)
{
	return sink->listed[kind];
}
