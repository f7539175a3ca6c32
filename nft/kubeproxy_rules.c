/*
 * What kube-proxy answers for, in mode nftables: its sets are named and keyed
 * as in its own source, pkg/proxy/nftables of Kubernetes v1.37.
 */
#include "nft/kubeproxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>

#include "nft/attr.h"
#include "nft/request.h"

struct collected {
	unsigned int count;
	enum family family;
	struct kubeproxy_rules *rules; /* NULL: elements are counted only */
};

static void collect_address(struct collected *c, const struct nlattr *element)
{
	const size_t size = family_bits(c->family) / 8;
	const struct nlattr *attrs[NFTA_SET_ELEM_MAX + 1],
		*data[NFTA_DATA_MAX + 1];
	struct kubeproxy_rules *rules = c->rules;

	nested_attrs(element, attrs, NFTA_SET_ELEM_MAX + 1);
	if (!attrs[NFTA_SET_ELEM_KEY] ||
	    rules->n_node_addresses == KUBEPROXY_ADDRESSES)
		return;
	nested_attrs(attrs[NFTA_SET_ELEM_KEY], data, NFTA_DATA_MAX + 1);
	if (!data[NFTA_DATA_VALUE] ||
	    mnl_attr_get_payload_len(data[NFTA_DATA_VALUE]) < size)
		return;
	memcpy(rules->node_addresses[rules->n_node_addresses++].bytes,
	       mnl_attr_get_payload(data[NFTA_DATA_VALUE]), size);
}

static int on_collected_elements(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *list = message_elements(nlh), *element;
	struct collected *c = data;

	if (!list)
		return 0;
	for_each_attr_in (element, list) {
		c->count++;
		if (c->rules)
			collect_address(c, element);
	}
	return 0;
}

/* A dump that others have changed meanwhile is good enough to be counted. */
static int collect_elements(struct nlsock *nl, const char *set,
			    struct collected *c, struct errbuf *eb)
{
	const struct request request = {
		.family = (int)c->family,
		.type = NFT_MSG_GETSETELEM,
		.dump = true,
		.table = KUBEPROXY_TABLE,
		.set = set,
	};
	int err = request_send(nl, &request, on_collected_elements, c, eb);

	return err == -EINTR ? 0 : err;
}

static int node_address_compare(const void *a, const void *b)
{
	return addr_compare(a, b);
}

int kubeproxy_read_rules(struct nlsock *nl, enum family family,
			 struct kubeproxy_rules *rules, struct errbuf *eb)
{
	struct collected addresses = { .family = family }, ports = addresses,
			 nodes = addresses;
	int err;

	memset(rules, 0, sizeof(*rules));
	nodes.rules = rules;
	err = collect_elements(nl, "service-ips", &addresses, eb);
	if (!err)
		err = collect_elements(nl, "service-nodeports", &ports, eb);
	if (!err)
		err = collect_elements(nl, "nodeport-ips", &nodes, eb);
	rules->n_addresses = addresses.count;
	rules->n_node_ports = ports.count;
	/* The kernel lists a set in another order with each boot or table. */
	qsort(rules->node_addresses, rules->n_node_addresses,
	      sizeof(*rules->node_addresses), node_address_compare);
	return err;
}
