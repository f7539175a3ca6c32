/*
 * Any JSON, and any protobuf message, as any kind of object: what comes out
 * keeps to the rules that the ruleset relies on, since names end up in
 * comments, ports in keys, and ranges in interval sets. A first byte that no
 * JSON begins with says which message the rest is.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "watch/decode.h"
#include "watch/decode_protobuf.h"
#include "watch/pods.h"
#include "watch/reading.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_addresses(enum family family, const struct addr_list *list)
{
	char text[ADDR_TEXT_SIZE];
	unsigned int i;

	for (i = 0; i < list->count; i++) {
		assert(!addr_is_loopback(family, &list->items[i]));
		assert(*addr_format(family, &list->items[i], text));
		if (i)
			assert(addr_compare(&list->items[i - 1],
					    &list->items[i]) < 0);
	}
}

static void check_service(const struct service *s)
{
	unsigned int i, j;
	enum family f;

	assert(is_dns_label(s->namespace) && is_dns_label(s->name));
	assert(s->affinity_timeout_s <= 86400);
	for (i = 0; i < s->n_ports; i++) {
		assert(s->ports[i].port &&
		       *protocol_name(s->ports[i].protocol) != '?');
		assert(is_port_name(s->ports[i].name));
		for (j = 0; j < i; j++)
			assert(s->ports[i].port != s->ports[j].port ||
			       s->ports[i].protocol != s->ports[j].protocol);
	}
	for (f = 0; f < N_FAMILIES; f++) {
		const struct prefix_list *ranges =
			&service_extra(s, f)->source_ranges;

		check_addresses(f, &service_extra(s, f)->external_ips);
		check_addresses(f, &service_extra(s, f)->load_balancer_ips);
		for (i = 0; i < ranges->count; i++) {
			assert(ranges->items[i].length);
			for (j = 0; j < i; j++)
				assert(!prefix_covers(&ranges->items[j],
						      &ranges->items[i]) &&
				       !prefix_covers(&ranges->items[i],
						      &ranges->items[j]));
		}
	}
}

/* Every list of zones ends within the block. */
static void check_zones(const struct slice *slice, uint32_t at)
{
	size_t length;

	do {
		assert(at < slice->zones_size);
		length = strnlen(slice->zones + at, slice->zones_size - at);
		assert(at + length < slice->zones_size);
		at += (uint32_t)length + 1;
	} while (length);
}

static void check_slice(const struct slice *s)
{
	struct slice_endpoint ep;
	unsigned int i;

	assert(is_dns_label(s->namespace) && is_dns_label(s->service));
	for (i = 0; i < s->n_ports; i++)
		assert(s->ports[i].port && is_port_name(s->ports[i].name) &&
		       *protocol_name(s->ports[i].protocol) != '?');
	for (i = 0; i < s->n_endpoints; i++) {
		ep = slice_endpoint(s, i);
		assert(!addr_is_special(s->family, &ep.addr));
		if (ep.flags & ENDPOINT_ZONE_HINTS)
			check_zones(s, ep.zones);
	}
}

static void check_printable(void *ctx, const char *message)
{
	(void)ctx;
	for (; *message; message++)
		assert(*message >= 0x20 && *message < 0x7f);
}

static int check_pod_slice(void *ctx, struct slice *slice)
{
	(void)ctx;
	assert(slice->n_endpoints);
	check_slice(slice);
	free(slice);
	return 0;
}

/* A Pod that any selector would be matched against is made of the same object. */
static void try_pods(struct decoder *d, const struct json *json,
		     const struct service *service)
{
	struct arena keep = ARENA_INIT;
	struct errbuf eb = { "" };
	const struct pod *pod = decode_pod(d, json, &keep, &eb);
	struct pod_index *index;
	struct selector *selector;

	check_printable(NULL, eb.text);
	index = pod_index_new(&pod, pod ? 1 : 0);
	selector = decode_selector(d, json, &keep, &eb);
	if (selector && service)
		pods_to_slices(index, service, selector, check_pod_slice, NULL);
	pod_index_free(index);
	arena_free(&keep);
}

static void try_all(struct decoder *d, const struct json *json)
{
	struct errbuf eb = { "" };
	struct service *service = decode_service(d, json, &eb);
	struct slice *slice;

	assert(service || *eb.text);
	check_printable(NULL, eb.text);
	if (service)
		check_service(service);
	try_pods(d, json, service);
	free(service);
	slice = decode_slice(d, json, &eb);
	check_printable(NULL, eb.text);
	if (slice)
		check_slice(slice);
	free(slice);
	free(decode_service_cidr(d, json, &eb));
	free(decode_node(d, json, &eb));
	decode_service_selected(json);
	decode_slice_selected(json);
}

enum message { EVENT = N_KINDS, BODY, LIST, N_MESSAGES };

static struct json *read_message(struct arena *trees, unsigned int which,
				 const char *bytes, size_t length)
{
	struct errbuf eb = { "" };
	struct json *json;

	if (which < N_KINDS)
		json = protobuf_read_item(trees, (enum kind)which, bytes,
					  length, &eb);
	else if (which == EVENT)
		json = protobuf_read_event(trees, bytes, length, &eb);
	else if (which == BODY)
		json = protobuf_read_body(trees, bytes, length, &eb);
	else
		json = protobuf_read_list(trees, bytes, length, &eb);
	assert(json || *eb.text);
	check_printable(NULL, eb.text);
	return json;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const bool is_protobuf = size && data[0] < N_MESSAGES;
	struct arena scratch = ARENA_INIT, trees = ARENA_INIT;
	const char *bytes = (const char *)data;
	struct decoder d = { .node_name = "node-a",
			     .scratch = &scratch,
			     .default_namespace = "default",
			     .complain = check_printable };
	struct json *json =
		is_protobuf ? read_message(&trees, data[0], bytes + 1, size - 1)
			    : json_parse_object(bytes, size, NULL);

	if (json)
		try_all(&d, json);
	if (json && is_protobuf && json_get(json, "object"))
		try_all(&d, json_get(json, "object"));
	if (!is_protobuf)
		json_free(json);
	arena_free(&trees);
	arena_free(&scratch);
	return 0;
}
