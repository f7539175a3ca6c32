/*
 * Pods to slices. Pods are found by a hash of (namespace, label, value) in a
 * sorted array, of which a selector's first label is looked up: so many
 * Services and many Pods do not multiply.
 *
 * Pods whose named target ports have different numbers go to different slices,
 * since a slice has one list of ports. A port name that a Pod does not have
 * means that the Pod does not serve that port.
 */
#include "watch/pods.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/hashtab.h"
#include "watch/reading.h"

struct label {
	const char *key, *value;
};

struct labels {
	unsigned int count;
	struct label *items;
};

struct container_port {
	const char *name;
	uint16_t port;
	uint8_t protocol;
};

struct pod {
	const char *namespace, *name;
	struct labels labels;
	bool ready, terminating, local;
	bool has_addr[N_FAMILIES];
	struct addr addr[N_FAMILIES];
	unsigned int n_ports;
	struct container_port *ports;
};

struct target_port {
	const char *name;	 /* of the service port */
	const char *target_name; /* NULL: the number counts */
	uint16_t target_port;
	uint8_t protocol;
};

struct selector {
	struct labels labels;
	bool publish_not_ready;
	unsigned int n_targets;
	struct target_port *targets;
};

const char *pod_namespace(const struct pod *pod)
{
	return pod->namespace;
}

const char *pod_name(const struct pod *pod)
{
	return pod->name;
}

/* ---- reading */

static int keep_text(struct reading *r, struct arena *keep, const char *text,
		     const char **kept)
{
	*kept = arena_strdup(keep, text);
	return *kept ? 0 : reading_no_memory(r);
}

static void *keep_array(struct reading *r, struct arena *keep,
			unsigned int count, size_t size)
{
	void *array = arena_array(keep, count, size);

	if (!array)
		reading_no_memory(r);
	return array;
}

static int read_labels(struct reading *r, struct arena *keep,
		       const struct json *object, struct labels *labels)
{
	const char *value;

	labels->items =
		keep_array(r, keep, json_count(object), sizeof(*labels->items));
	if (!labels->items)
		return -ENOMEM;
	json_for_each (item, object) {
		struct label *label = &labels->items[labels->count++];

		value = json_string(item);
		if (!value)
			return reading_bad(r, item, NULL,
					   "%s where a string belongs",
					   json_type_name(json_type(item)));
		if (keep_text(r, keep, json_key(item), &label->key) ||
		    keep_text(r, keep, value, &label->value))
			return -ENOMEM;
	}
	return 0;
}

static int read_container_port(struct reading *r, struct arena *keep,
			       const struct json *item, struct pod *pod)
{
	struct container_port *port = &pod->ports[pod->n_ports];
	const char *name = "";

	port->protocol = protocol_parse("TCP");
	if (reading_string(r, item, "name", &name) < 0 ||
	    reading_port(r, item, "containerPort", &port->port) < 0 ||
	    reading_protocol(r, item, &port->protocol) < 0)
		return -EINVAL;
	if (!*name || !port->port)
		return 0;
	pod->n_ports++;
	return keep_text(r, keep, name, &port->name);
}

/* A sidecar: an init container that goes on running. */
static bool is_sidecar(const struct json *container)
{
	const char *policy = json_string(json_get(container, "restartPolicy"));

	return policy && strcmp(policy, "Always") == 0;
}

static int read_ports_of(struct reading *r, struct arena *keep,
			 const struct json *container, struct pod *pod)
{
	const struct json *ports = NULL;

	if (reading_list(r, container, "ports", &ports) < 0)
		return -EINVAL;
	json_for_each (item, ports)
		if (read_container_port(r, keep, item, pod))
			return -EINVAL;
	return 0;
}

/* Of ports of one name the first counts, so those of sidecars come last. */
static int read_containers(struct reading *r, struct arena *keep,
			   const struct json *spec, struct pod *pod)
{
	const struct json *containers = NULL, *init = NULL;
	unsigned int count = 0;

	if (reading_list(r, spec, "containers", &containers) < 0 ||
	    reading_list(r, spec, "initContainers", &init) < 0)
		return -EINVAL;
	json_for_each (container, containers)
		count += json_count(json_get(container, "ports"));
	json_for_each (container, init)
		count += json_count(json_get(container, "ports"));
	pod->ports = keep_array(r, keep, count, sizeof(*pod->ports));
	if (!pod->ports)
		return -ENOMEM;
	json_for_each (container, containers)
		if (read_ports_of(r, keep, container, pod))
			return -EINVAL;
	json_for_each (container, init)
		if (is_sidecar(container) && read_ports_of(r, keep, container, pod))
			return -EINVAL;
	return 0;
}

/* The first address of a family counts. */
static void read_pod_ip(struct reading *r, const struct json *parent,
			const char *key, const char *text, struct pod *pod)
{
	enum family family;
	struct addr addr;

	if (addr_parse(text, &family, &addr)) {
		reading_complain(r, parent, key, "%s is not an IP address",
				 reading_quote(r, text));
	} else if (addr_is_special(family, &addr)) {
		reading_complain(r, parent, key, "%s cannot be an endpoint",
				 reading_quote(r, text));
	} else if (!pod->has_addr[family]) {
		pod->has_addr[family] = true;
		pod->addr[family] = addr;
	}
}

static int read_pod_ips(struct reading *r, const struct json *status,
			struct pod *pod)
{
	const struct json *list = NULL;
	const char *text = "";

	if (reading_list(r, status, "podIPs", &list) < 0 ||
	    reading_string(r, status, "podIP", &text) < 0)
		return -EINVAL;
	if (!json_first(list) && *text)
		read_pod_ip(r, status, "podIP", text, pod);
	json_for_each (item, list) {
		text = "";
		if (reading_string(r, item, "ip", &text) < 0)
			return -EINVAL;
		if (*text)
			read_pod_ip(r, item, "ip", text, pod);
	}
	return 0;
}

static int read_ready(struct reading *r, const struct json *status, struct pod *pod)
{
	const struct json *list = NULL;
	const char *type, *value;

	if (reading_list(r, status, "conditions", &list) < 0)
		return -EINVAL;
	json_for_each (item, list) {
		type = value = "";
		if (reading_string(r, item, "type", &type) < 0 ||
		    reading_string(r, item, "status", &value) < 0)
			return -EINVAL;
		if (strcmp(type, "Ready") == 0)
			pod->ready = strcmp(value, "True") == 0;
	}
	return 0;
}

/* Returns 1, 0 if the Pod has ended, or a negative errno. */
static int read_pod(struct reading *r, struct arena *keep, struct pod *pod)
{
	const struct json *spec = NULL, *status = NULL, *labels = NULL;
	const char *phase = "", *node = "";

	if (reading_metadata(r, METADATA_NAMESPACED | METADATA_NAME_SUBDOMAIN))
		return -EINVAL;
	if (reading_object(r, r->root, "spec", &spec) < 0 ||
	    reading_object(r, r->root, "status", &status) < 0 ||
	    reading_object(r, r->metadata, "labels", &labels) < 0 ||
	    reading_string(r, status, "phase", &phase) < 0 ||
	    reading_string(r, spec, "nodeName", &node) < 0)
		return -EINVAL;
	if (strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0)
		return 0;
	pod->local = *node && strcmp(node, r->decoder->node_name) == 0;
	pod->terminating = json_get(r->metadata, "deletionTimestamp");
	if (keep_text(r, keep, r->namespace, &pod->namespace) ||
	    keep_text(r, keep, r->name, &pod->name) ||
	    read_labels(r, keep, labels, &pod->labels) ||
	    read_containers(r, keep, spec, pod) ||
	    read_pod_ips(r, status, pod) || read_ready(r, status, pod))
		return -EINVAL;
	return 1;
}

struct pod *decode_pod(struct decoder *d, const struct json *json,
		       struct arena *keep, struct errbuf *eb)
{
	struct pod *pod = arena_alloc(keep, sizeof(*pod));
	struct reading r;
	int ret;

	if (eb)
		eb->text[0] = '\0';
	reading_begin(&r, d, "Pod", json);
	ret = pod ? read_pod(&r, keep, pod) : reading_no_memory(&r);
	if (ret < 0)
		reading_report(&r, eb);
	return ret > 0 ? pod : NULL;
}

/* A number, a name, or absent: then it is the service port's own number. */
static int read_target_port(struct reading *r, struct arena *keep,
			    const struct json *item, struct target_port *target)
{
	const char *name = json_string(json_get(item, "targetPort"));
	int ret;

	if (name && *name)
		return keep_text(r, keep, name, &target->target_name);
	if (!name) {
		ret = reading_port(r, item, "targetPort", &target->target_port);
		if (ret < 0)
			return ret;
	}
	if (!target->target_port &&
	    reading_port(r, item, "port", &target->target_port) < 0)
		return -EINVAL;
	return 0;
}

static int read_targets(struct reading *r, struct arena *keep,
			const struct json *spec, struct selector *selector)
{
	const struct json *list = NULL;
	const char *name;

	if (reading_list(r, spec, "ports", &list) < 0)
		return -EINVAL;
	selector->targets =
		keep_array(r, keep, json_count(list), sizeof(*selector->targets));
	if (!selector->targets)
		return -ENOMEM;
	json_for_each (item, list) {
		struct target_port *target =
			&selector->targets[selector->n_targets++];

		name = "";
		target->protocol = protocol_parse("TCP");
		if (reading_string(r, item, "name", &name) < 0 ||
		    reading_protocol(r, item, &target->protocol) < 0 ||
		    read_target_port(r, keep, item, target) ||
		    keep_text(r, keep, name, &target->name))
			return -EINVAL;
	}
	return 0;
}

/* Returns 1, 0 if there is no selector, or a negative errno. */
static int read_selector(struct reading *r, struct arena *keep,
			 struct selector *selector)
{
	const struct json *spec = NULL, *labels = NULL;

	if (reading_metadata(r, METADATA_NAMESPACED) ||
	    reading_object(r, r->root, "spec", &spec) < 0 ||
	    reading_object(r, spec, "selector", &labels) < 0)
		return -EINVAL;
	if (!json_first(labels))
		return 0;
	if (reading_bool(r, spec, "publishNotReadyAddresses",
			 &selector->publish_not_ready) < 0 ||
	    read_labels(r, keep, labels, &selector->labels) ||
	    read_targets(r, keep, spec, selector))
		return -EINVAL;
	return 1;
}

struct selector *decode_selector(struct decoder *d, const struct json *json,
				 struct arena *keep, struct errbuf *eb)
{
	struct selector *selector = arena_alloc(keep, sizeof(*selector));
	struct reading r;
	int ret;

	if (eb)
		eb->text[0] = '\0';
	reading_begin(&r, d, "Service", json);
	ret = selector ? read_selector(&r, keep, selector) : reading_no_memory(&r);
	if (ret < 0)
		reading_report(&r, eb);
	return ret > 0 ? selector : NULL;
}

/* ---- finding Pods */

struct index_entry {
	uint64_t hash;
	size_t order; /* of the Pod */
	const struct pod *pod;
};

struct pod_index {
	struct index_entry *entries;
	size_t count;
};

static uint64_t hash_label(const char *namespace, const struct label *label)
{
	uint64_t hash = hash_text(HASH_SEED, namespace);

	return hash_text(hash_text(hash, label->key), label->value);
}

static int index_order(const void *a, const void *b)
{
	const struct index_entry *left = a, *right = b;

	if (left->hash != right->hash)
		return left->hash < right->hash ? -1 : 1;
	return (left->order > right->order) - (left->order < right->order);
}

struct pod_index *pod_index_new(const struct pod *const *pods, size_t count)
{
	struct pod_index *index = calloc(1, sizeof(*index));
	size_t i, n = 0;
	unsigned int j;

	if (!index)
		return NULL;
	for (i = 0; i < count; i++)
		n += pods[i]->labels.count;
	index->entries = calloc(n ? n : 1, sizeof(*index->entries));
	if (!index->entries) {
		free(index);
		return NULL;
	}
	for (i = 0; i < count; i++)
		for (j = 0; j < pods[i]->labels.count; j++)
			index->entries[index->count++] = (struct index_entry){
				hash_label(pods[i]->namespace,
					   &pods[i]->labels.items[j]),
				i, pods[i]
			};
	qsort(index->entries, index->count, sizeof(*index->entries), index_order);
	return index;
}

void pod_index_free(struct pod_index *index)
{
	if (index)
		free(index->entries);
	free(index);
}

/* The first entry of @hash or after it. */
static size_t index_find(const struct pod_index *index, uint64_t hash)
{
	size_t low = 0, high = index->count, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (index->entries[middle].hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool pod_has_label(const struct pod *pod, const struct label *wanted)
{
	const char *value = NULL;
	unsigned int i;

	/* As everywhere, the last of a repeated key counts. */
	for (i = 0; i < pod->labels.count; i++)
		if (strcmp(pod->labels.items[i].key, wanted->key) == 0)
			value = pod->labels.items[i].value;
	return value && strcmp(value, wanted->value) == 0;
}

static bool pod_is_selected(const struct pod *pod, const char *namespace,
			    const struct labels *labels)
{
	unsigned int i;

	if (strcmp(pod->namespace, namespace))
		return false;
	for (i = 0; i < labels->count; i++)
		if (!pod_has_label(pod, &labels->items[i]))
			return false;
	return true;
}

/* ---- slices */

/* Pods of one family that have the same port numbers; 0 stands for a port that they do not serve.
 */
struct group {
	const uint16_t *numbers;
	struct slice_endpoint *endpoints;
	struct endpoint_names *names;
	unsigned int count;
	struct group *next;
};

struct grouping {
	const struct service *service;
	const struct selector *selector;
	struct arena scratch;
	const struct pod **pods; /* selected */
	size_t n_pods;
};

static uint16_t target_number(const struct target_port *target,
			      const struct pod *pod)
{
	unsigned int i;

	if (!target->target_name)
		return target->target_port;
	for (i = 0; i < pod->n_ports; i++)
		if (pod->ports[i].protocol == target->protocol &&
		    strcmp(pod->ports[i].name, target->target_name) == 0)
			return pod->ports[i].port;
	return 0;
}

static int select_pods(struct grouping *g, const struct pod_index *index)
{
	const struct labels *labels = &g->selector->labels;
	uint64_t hash = hash_label(g->service->namespace, &labels->items[0]);
	size_t first = index_find(index, hash), last = first;
	const struct pod *pod;

	while (last < index->count && index->entries[last].hash == hash)
		last++;
	g->pods = arena_array(&g->scratch, last - first,
			      sizeof(const struct pod *));
	if (!g->pods)
		return -ENOMEM;
	for (; first < last; first++) {
		pod = index->entries[first].pod;
		/* A Pod with a repeated label may be there twice, in a row. */
		if (pod_is_selected(pod, g->service->namespace, labels) &&
		    !(g->n_pods && g->pods[g->n_pods - 1] == pod))
			g->pods[g->n_pods++] = pod;
	}
	return 0;
}

static struct group *find_group(struct grouping *g, struct group **groups,
				const uint16_t *numbers)
{
	size_t size = g->selector->n_targets * sizeof(*numbers);
	struct group *group;
	uint16_t *copy;

	for (; *groups; groups = &(*groups)->next)
		if (memcmp((*groups)->numbers, numbers, size) == 0)
			return *groups;
	group = arena_alloc(&g->scratch, sizeof(*group));
	copy = arena_alloc(&g->scratch, size);
	if (!group || !copy)
		return NULL;
	memcpy(copy, numbers, size);
	group->numbers = copy;
	group->endpoints =
		arena_array(&g->scratch, g->n_pods, sizeof(*group->endpoints));
	group->names = arena_array(&g->scratch, g->n_pods, sizeof(*group->names));
	if (!group->endpoints || !group->names)
		return NULL;
	*groups = group;
	return group;
}

/* As the controller sets the conditions. */
static struct slice_endpoint pod_endpoint(const struct pod *pod, enum family family,
					  bool publish_not_ready)
{
	struct slice_endpoint endpoint = { .addr = pod->addr[family] };

	if (publish_not_ready || (pod->ready && !pod->terminating))
		endpoint.flags |= ENDPOINT_READY;
	if (pod->ready)
		endpoint.flags |= ENDPOINT_SERVING;
	if (pod->terminating)
		endpoint.flags |= ENDPOINT_TERMINATING;
	if (pod->local)
		endpoint.flags |= ENDPOINT_LOCAL;
	return endpoint;
}

static int group_pods(struct grouping *g, enum family family, struct group **groups)
{
	uint16_t *numbers = arena_array(&g->scratch, g->selector->n_targets,
					sizeof(*numbers));
	struct group *group;
	unsigned int j;
	size_t i;

	if (!numbers)
		return -ENOMEM;
	for (i = 0; i < g->n_pods; i++) {
		if (!g->pods[i]->has_addr[family])
			continue;
		for (j = 0; j < g->selector->n_targets; j++)
			numbers[j] = target_number(&g->selector->targets[j],
						   g->pods[i]);
		group = find_group(g, groups, numbers);
		if (!group)
			return -ENOMEM;
		group->names[group->count] =
			(struct endpoint_names){ pod_name(g->pods[i]), "", "" };
		group->endpoints[group->count++] = pod_endpoint(
			g->pods[i], family, g->selector->publish_not_ready);
	}
	return 0;
}

static struct slice *group_to_slice(struct grouping *g, enum family family,
				    unsigned int number, const struct group *group)
{
	struct slice_port *ports =
		arena_array(&g->scratch, g->selector->n_targets, sizeof(*ports));
	struct slice slice = {
		.namespace = g->service->namespace,
		.service = g->service->name,
		.family = family,
		.ports = ports,
		.n_endpoints = group->count,
		.zones = "",
	};
	unsigned int i;
	const size_t size = names_pack(group->names, group->count, NULL);
	char *names = arena_alloc(&g->scratch, size), name[128];
	uint8_t *endpoints = arena_alloc(
		&g->scratch, endpoints_pack(&slice, group->endpoints, NULL));

	if (!ports || !names || !endpoints)
		return NULL;
	endpoints_pack(&slice, group->endpoints, endpoints);
	slice.endpoints = endpoints;
	if (size)
		names_pack(group->names, group->count, names);
	slice.names = names;
	slice.names_size = (uint32_t)size;
	snprintf(name, sizeof(name), "%s:%s-%u", g->service->name,
		 family_name(family), number);
	slice.name = name;
	for (i = 0; i < g->selector->n_targets; i++)
		if (group->numbers[i])
			ports[slice.n_ports++] = (struct slice_port){
				.name = g->selector->targets[i].name,
				.port = group->numbers[i],
				.protocol = g->selector->targets[i].protocol,
			};
	return slice_pack(&slice);
}

static int put_family_slices(struct grouping *g, enum family family,
			     int (*put)(void *ctx, struct slice *slice), void *ctx)
{
	struct group *groups = NULL, *group;
	struct slice *slice;
	unsigned int number = 0;
	int err = group_pods(g, family, &groups);

	for (group = groups; group && !err; group = group->next) {
		slice = group_to_slice(g, family, ++number, group);
		err = slice ? put(ctx, slice) : -ENOMEM;
	}
	return err;
}

int pods_to_slices(const struct pod_index *index, const struct service *service,
		   const struct selector *selector,
		   int (*put)(void *ctx, struct slice *slice), void *ctx)
{
	struct grouping g = { .service = service, .selector = selector };
	int err = select_pods(&g, index);
	enum family f;

	for (f = 0; f < N_FAMILIES && !err; f++)
		if (service->family[f].has_cluster_ip)
			err = put_family_slices(&g, f, put, ctx);
	arena_free(&g.scratch);
	return err;
}
