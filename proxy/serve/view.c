/* What the views have in common. */
#include "proxy/serve/view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/jsonout.h"

static const struct {
	const char *path;
	int (*page)(const struct view *v, const char *query, struct strbuf *out);
	bool running; /* it is about the process, not only about its objects */
} pages[] = {
	{ "/v1/status", view_status, true },
	{ "/v1/services", view_services, false },
	{ "/v1/endpoints", view_endpoints, false },
	{ "/v1/node", view_node, false },
	{ "/v1/config", view_config, false },
	{ "/v1/config/vipmap", view_vipmap_config, false },
	{ "/v1/explain", view_explain, false },
	{ "/v1/objects", view_objects, false },
	{ "/v1/changes", view_changes, true },
	{ "/v1/debug/log", view_debug_log, true },
	{ "/v1/debug/metrics", view_debug_metrics, true },
};

static void put_error(struct strbuf *out, const char *message)
{
	strbuf_reset(out);
	jsonout_object(out, NULL);
	jsonout_text(out, "error", message);
	jsonout_object_end(out);
}

int view_page(const struct view *v, const char *path, const char *query,
	      struct strbuf *out)
{
	size_t i;
	int status;

	for (i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		if (strcmp(path, pages[i].path) != 0 ||
		    (pages[i].running && !v->sync))
			continue;
		status = pages[i].page(v, query, out);
		if (status == 500)
			put_error(out, "out of memory");
		return status;
	}
	put_error(out, "no such page; see vipmap(8), LOCAL SOCKET");
	return 404;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Up to "&". Control characters become spaces: some of it comes back in messages. */
static void decode_value(const char *from, char text[QUERY_TEXT_SIZE])
{
	size_t n = 0;

	while (*from && *from != '&' && n + 1 < QUERY_TEXT_SIZE) {
		char c = *from++;

		if (c == '%' && hex_digit(from[0]) >= 0 && hex_digit(from[1]) >= 0) {
			c = (char)(hex_digit(from[0]) << 4 | hex_digit(from[1]));
			from += 2;
		} else if (c == '+') {
			c = ' ';
		}
		text[n++] = c >= ' ' && c <= '~' ? c : ' ';
	}
	text[n] = '\0';
}

const char *query_get(const char *query, const char *key,
		      char text[QUERY_TEXT_SIZE])
{
	const size_t length = strlen(key);
	const char *at = query;

	text[0] = '\0';
	while (at && *at) {
		if (strncmp(at, key, length) == 0 && at[length] == '=') {
			decode_value(at + length + 1, text);
			return text;
		}
		at = strchr(at, '&');
		at = at ? at + 1 : NULL;
	}
	return text;
}

static int service_entry_order(const void *va, const void *vb)
{
	const struct service_entry *a = *(const struct service_entry *const *)va;
	const struct service_entry *b = *(const struct service_entry *const *)vb;
	int order = strcmp(a->namespace, b->namespace);

	return order ? order : strcmp(a->name, b->name);
}

/* Whether the entry comes after "NAMESPACE/NAME". */
static bool comes_after(const struct service_entry *s, const char *after)
{
	const char *slash = strchr(after, '/');
	size_t length = slash ? (size_t)(slash - after) : strlen(after);
	int order = strncmp(s->namespace, after, length);

	if (!order && s->namespace[length])
		order = 1;
	if (!order)
		order = strcmp(s->name, slash ? slash + 1 : "");
	return order > 0;
}

int view_entries(const struct view *v, const char *after, struct arena *scratch,
		 const struct service_entry *const **list, size_t *count)
{
	const struct service_entry **all, *s;
	size_t used = 0;

	all = arena_array(scratch, model_services(v->model)->count, sizeof(*all));
	if (!all)
		return -ENOMEM;
	for_each_service_entry (s, v->model)
		if (s->object && comes_after(s, after))
			all[used++] = s;
	if (used)
		qsort(all, used, sizeof(*all), service_entry_order);
	*list = all;
	*count = used;
	return 0;
}

char *endpoint_format(enum family family, const struct addr *addr,
		      uint16_t port, char *text)
{
	char address[ADDR_TEXT_SIZE];

	snprintf(text, ENDPOINT_TEXT_SIZE,
		 family == FAMILY_IPV6 ? "[%s]:%u" : "%s:%u",
		 addr_format(family, addr, address), port);
	return text;
}

const struct service_port_state *view_find_port(const struct service_entry *s,
						enum family family,
						const struct service_port *spec)
{
	const struct service_port_state *p;

	for (p = s->ports[family]; p; p = p->next)
		if (p->protocol == spec->protocol &&
		    strcmp(p->name, spec->name) == 0)
			return p;
	return NULL;
}

const char *port_state_name(enum port_state state)
{
	static const char *const names[] = {
		[PORT_OK] = "ok",
		[PORT_PENDING] = "pending",
		[PORT_DROPPED_OUTSIDE] = "dropped",
		[PORT_DROPPED_INSIDE] = "dropped",
		[PORT_REFUSED] = "refused",
		[PORT_SET_ASIDE] = "set aside",
		[PORT_CONFLICT] = "conflict",
	};

	return names[state];
}

const char *port_state_consequence(enum port_state state)
{
	static const char *const texts[] = {
		[PORT_OK] = "",
		[PORT_PENDING] = "its rules come soon",
		[PORT_DROPPED_OUTSIDE] = "connections from outside are dropped",
		[PORT_DROPPED_INSIDE] = "connections to its ClusterIP are dropped",
		[PORT_REFUSED] = "connections are refused",
		[PORT_SET_ASIDE] = "it is tried again",
		[PORT_CONFLICT] = "it gets no traffic there",
	};

	return texts[state];
}

static bool lost_claim(const struct view *v, enum family family,
		       const struct service_port_state *port, char *text,
		       size_t size)
{
	const struct service_port_state *winner;
	char vip[ENDPOINT_TEXT_SIZE];
	unsigned int i;

	for (i = 0; i < port->n_claims; i++) {
		const struct claim *c = &port->claims[i];
		const bool nodeport = c->vip.role == VIP_NODE_PORT;

		if (claim_wins(v->model, family, c))
			continue;
		winner = model_vip_owner(v->model, family,
					 nodeport ? NULL : &c->vip.addr,
					 port->protocol, c->vip.port);
		if (nodeport)
			snprintf(vip, sizeof(vip), "node port %u", c->vip.port);
		else
			endpoint_format(family, &c->vip.addr, c->vip.port, vip);
		snprintf(text, size, "%s holds %s/%s (older)",
			 winner ? winner->label : "?", vip,
			 protocol_name(port->protocol));
		return true;
	}
	return false;
}

static bool has_external(const struct dispatch *p)
{
	unsigned int i;

	for (i = 0; i < p->n_vips; i++)
		if (p->vips[i].role != VIP_CLUSTER_IP)
			return true;
	return false;
}

/* What traffic meets, by the dispatch in force. */
static enum port_state program_state(const struct dispatch *p, char *text,
				     size_t size)
{
	const bool lonely = !p->local.count;

	if (!(p->flags & DISPATCH_ALIVE)) {
		snprintf(text, size, "no endpoints");
		return PORT_REFUSED;
	}
	if (lonely && (p->flags & DISPATCH_INTERNAL_LOCAL)) {
		snprintf(text, size,
			 "internalTrafficPolicy Local, and no endpoint on this node");
		return PORT_DROPPED_INSIDE;
	}
	if (lonely && (p->flags & DISPATCH_EXTERNAL_LOCAL) && has_external(p)) {
		snprintf(text, size,
			 "externalTrafficPolicy Local, and no endpoint on this node");
		return PORT_DROPPED_OUTSIDE;
	}
	return PORT_OK;
}

enum port_state view_port_state(const struct view *v, enum family family,
				const struct service_port_state *port,
				char *text, size_t size)
{
	const struct dispatch *p = v->sync ? port->applied : port->desired;

	text[0] = '\0';
	if (lost_claim(v, family, port, text, size))
		return PORT_CONFLICT;
	if (port->refusals) {
		snprintf(text, size,
			 "the kernel refuses a change of it (%u times): %s",
			 port->refusals,
			 port->dropped ? "it has no rules"
				       : "its former rules stay in force");
		return PORT_SET_ASIDE;
	}
	if (!p) {
		snprintf(text, size, "not in the kernel yet");
		return PORT_PENDING;
	}
	return program_state(p, text, size);
}

int view_fates(const struct view *v, const struct service_entry *service,
	       enum family family, const char *port_name, uint8_t protocol,
	       struct arena *scratch, const struct endpoint_fate **fates,
	       unsigned int *count)
{
	const struct select_query query = {
		.family = family,
		.port_name = port_name,
		.protocol = protocol,
		.zone = model_zone(v->model),
	};
	const struct slice_entry *e;
	const struct slice **slices;
	unsigned int n = 0;

	for (e = service->slices; e; e = e->next)
		n++;
	slices = arena_array(scratch, n, sizeof(*slices));
	if (!slices)
		return -ENOMEM;
	for (n = 0, e = service->slices; e; e = e->next)
		slices[n++] = e->object;
	return select_fates(&query, slices, n, scratch, fates, count);
}

const char *why_text(enum endpoint_why why)
{
	static const char *const texts[] = {
		[WHY_READY] = "ready",
		[WHY_DRAINING] = "terminating, but none is ready",
		[WHY_DRAINING_UNUSED] = "terminating, and others are ready",
		[WHY_NOT_READY] = "not ready",
		[WHY_TERMINATING] = "terminating, and not serving any more",
		[WHY_OTHER_NODE_HINTS] = "ready, and meant for other nodes (hints)",
		[WHY_OTHER_ZONE_HINTS] = "ready, and meant for other zones (hints)",
	};

	return texts[why];
}

const struct endpoint_names *fate_names(struct name_cache *cache,
					const struct endpoint_fate *fate)
{
	static const struct endpoint_names nobody = { "", "", "" };
	struct name_cache *c;

	for (c = cache; c; c = c->next)
		if (c->slice == fate->slice)
			return &c->names[fate->index];
	c = arena_alloc(cache->scratch, sizeof(*c));
	if (!c)
		return &nobody;
	c->names = slice_names(fate->slice, cache->scratch);
	if (!c->names)
		return &nobody;
	c->slice = fate->slice;
	c->next = cache->next;
	cache->next = c;
	return &c->names[fate->index];
}
