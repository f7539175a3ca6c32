/*
 * Node and ServiceCIDR, and the label selectors. Services and slices have files of their own.
 *
 * A Node with a bad address or pod range is still a Node: the entry is left out. A ServiceCIDR with
 * a bad range is left out as a whole, since there is nothing else in it.
 */
#include "watch/decode.h"

#include <errno.h>
#include <string.h>

#include "watch/reading.h"

/* Also if it is null, or no string. */
static bool has_label(const struct json *json, const char *key)
{
	return json_has(json_get(json_get(json, "metadata"), "labels"), key);
}

bool decode_service_selected(const struct json *json)
{
	const char *cluster_ip =
		json_string(json_get(json_get(json, "spec"), "clusterIP"));

	return !has_label(json, "service.kubernetes.io/service-proxy-name") &&
	       !(cluster_ip && strcmp(cluster_ip, "None") == 0);
}

bool decode_slice_selected(const struct json *json)
{
	return !has_label(json, "service.kubernetes.io/headless");
}

/* ---- ranges, by family and in the order given */

struct ranges {
	struct prefix *items[N_FAMILIES];
	unsigned int count[N_FAMILIES];
};

static int ranges_begin(struct reading *r, struct ranges *ranges, unsigned int max)
{
	enum family f;

	*ranges = (struct ranges){ 0 };
	for (f = 0; f < N_FAMILIES; f++) {
		ranges->items[f] = reading_alloc(r, max, sizeof(struct prefix));
		if (!ranges->items[f])
			return -ENOMEM;
	}
	return 0;
}

/* Returns whether @item is a range, which is then added. */
static bool ranges_add(struct ranges *ranges, const struct json *item)
{
	const char *text = json_string(item);
	struct prefix prefix;
	enum family f;

	if (!text || prefix_parse(text, &f, &prefix))
		return false;
	ranges->items[f][ranges->count[f]++] = prefix;
	return true;
}

static void ranges_end(const struct ranges *ranges,
		       struct prefix_list lists[N_FAMILIES])
{
	enum family f;

	for (f = 0; f < N_FAMILIES; f++) {
		lists[f].items = ranges->items[f];
		lists[f].count = ranges->count[f];
	}
}

static const char *item_text(const struct reading *r, const struct json *item)
{
	const char *text = json_string(item);

	return text ? reading_quote(r, text) : json_type_name(json_type(item));
}

/* ---- ServiceCIDR */

/* A ServiceCIDR of all addresses would make VER-6 drop everything that is no Service. */
static int check_service_range(struct reading *r, const struct json *item)
{
	const char *text = json_string(item);
	struct prefix prefix;
	enum family f;

	if (!text || prefix_parse(text, &f, &prefix))
		return reading_bad(r, item, NULL, "%s is not an address range",
				   item_text(r, item));
	if (prefix.length == 0)
		return reading_bad(r, item, NULL, "%s covers all addresses",
				   item_text(r, item));
	return 0;
}

static int read_service_cidr(struct reading *r, struct service_cidr *cidr)
{
	const struct json *spec = NULL, *list = NULL;
	struct ranges ranges;
	int err = reading_metadata(r, METADATA_NAME_SUBDOMAIN);

	if (err)
		return err;
	cidr->name = r->name;
	if (reading_object(r, r->root, "spec", &spec) < 0 ||
	    reading_list(r, spec, "cidrs", &list) < 0)
		return -EINVAL;
	if (!list)
		return reading_bad(r, r->root, "spec.cidrs", "missing");
	err = ranges_begin(r, &ranges, json_count(list));
	json_for_each (item, list) {
		if (!err)
			err = check_service_range(r, item);
		if (!err)
			ranges_add(&ranges, item);
	}
	if (!err)
		ranges_end(&ranges, cidr->family);
	return err;
}

struct service_cidr *decode_service_cidr(struct decoder *d, const struct json *json,
					 struct errbuf *eb)
{
	struct service_cidr cidr = { 0 }, *packed = NULL;
	struct reading r;

	reading_begin(&r, d, "ServiceCIDR", json);
	if (read_service_cidr(&r, &cidr) == 0) {
		packed = service_cidr_pack(&cidr);
		if (!packed)
			reading_no_memory(&r);
	}
	if (!packed)
		reading_report(&r, eb);
	return packed;
}

/* ---- Node */

static int read_zone(struct reading *r, struct node *node)
{
	const struct json *labels = NULL;

	node->zone = "";
	if (reading_object(r, r->metadata, "labels", &labels) < 0 ||
	    reading_string(r, labels, "topology.kubernetes.io/zone", &node->zone) < 0)
		return -EINVAL;
	return 0;
}

static int read_taints(struct reading *r, const struct json *spec, struct node *node)
{
	const struct json *taints = NULL;
	const char *key;

	if (reading_list(r, spec, "taints", &taints) < 0)
		return -EINVAL;
	json_for_each (taint, taints) {
		key = "";
		if (reading_string(r, taint, "key", &key) < 0)
			return -EINVAL;
		if (strcmp(key, "ToBeDeletedByClusterAutoscaler") == 0)
			node->flags |= NODE_TO_BE_DELETED;
	}
	return 0;
}

static int read_pod_ranges(struct reading *r, const struct json *spec,
			   struct node *node)
{
	const struct json *list = NULL;
	struct ranges ranges;

	if (reading_list(r, spec, "podCIDRs", &list) < 0)
		return -EINVAL;
	if (ranges_begin(r, &ranges, json_count(list)))
		return -ENOMEM;
	json_for_each (item, list)
		if (!ranges_add(&ranges, item))
			reading_complain(r, item, NULL,
					 "%s is not an address range",
					 item_text(r, item));
	ranges_end(&ranges, node->pod_cidrs);
	return 0;
}

/* Adds the addresses of one type. */
static int read_addresses_of_type(struct reading *r, const struct json *list,
				  const char *wanted,
				  struct node_address *addresses,
				  unsigned int *count)
{
	const char *type, *text;
	struct node_address *a;

	json_for_each (item, list) {
		type = text = "";
		if (reading_string(r, item, "type", &type) < 0 ||
		    reading_string(r, item, "address", &text) < 0)
			return -EINVAL;
		if (strcmp(type, wanted))
			continue;
		a = &addresses[*count];
		if (addr_parse(text, &a->family, &a->addr))
			reading_complain(r, item, "address",
					 "%s is not an IP address",
					 reading_quote(r, text));
		else
			(*count)++;
	}
	return 0;
}

/* NODE-2: the order is that of preference. */
static int read_node_addresses(struct reading *r, struct node *node)
{
	const struct json *status = NULL, *list = NULL;
	struct node_address *addresses;
	int err;

	if (reading_object(r, r->root, "status", &status) < 0 ||
	    reading_list(r, status, "addresses", &list) < 0)
		return -EINVAL;
	addresses = reading_alloc(r, json_count(list), sizeof(*addresses));
	if (!addresses)
		return -ENOMEM;
	node->addresses = addresses;
	err = read_addresses_of_type(r, list, "InternalIP", addresses,
				     &node->n_addresses);
	if (err)
		return err;
	return read_addresses_of_type(r, list, "ExternalIP", addresses,
				      &node->n_addresses);
}

static int read_node(struct reading *r, struct node *node)
{
	const struct json *spec = NULL;
	int err = reading_metadata(r, METADATA_NAME_SUBDOMAIN);

	if (err)
		return err;
	node->name = r->name;
	node->uid = r->uid;
	if (json_get(r->metadata, "deletionTimestamp"))
		node->flags |= NODE_DELETED;
	if (reading_object(r, r->root, "spec", &spec) < 0)
		return -EINVAL;
	err = read_zone(r, node);
	if (!err)
		err = read_taints(r, spec, node);
	if (!err)
		err = read_pod_ranges(r, spec, node);
	if (!err)
		err = read_node_addresses(r, node);
	return err;
}

struct node *decode_node(struct decoder *d, const struct json *json,
			 struct errbuf *eb)
{
	struct node node = { 0 }, *packed = NULL;
	struct reading r;

	reading_begin(&r, d, "Node", json);
	if (read_node(&r, &node) == 0) {
		packed = node_pack(&node);
		if (!packed)
			reading_no_memory(&r);
	}
	if (!packed)
		reading_report(&r, eb);
	return packed;
}

void *decode_object(struct decoder *d, enum kind kind, const struct json *json,
		    struct errbuf *eb)
{
	errno = 0;
	switch (kind) {
	case KIND_SERVICE:
		return decode_service(d, json, eb);
	case KIND_SLICE:
		return decode_slice(d, json, eb);
	case KIND_SERVICE_CIDR:
		return decode_service_cidr(d, json, eb);
	case KIND_NODE:
		return decode_node(d, json, eb);
	case N_KINDS:
		break;
	}
	return NULL;
}
