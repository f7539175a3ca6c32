/* See the header. */
#include "tests/support/objects.h"

#include <stdlib.h>
#include <string.h>

static void describe_addresses(struct strbuf *sb, const char *what,
			       enum family family, const struct addr_list *list)
{
	char text[ADDR_TEXT_SIZE];
	unsigned int i;

	for (i = 0; i < list->count; i++)
		strbuf_addf(sb, " %s=%s", what,
			    addr_format(family, &list->items[i], text));
}

static void describe_prefixes(struct strbuf *sb, const char *what,
			      enum family family, const struct prefix_list *list)
{
	char text[PREFIX_TEXT_SIZE];
	unsigned int i;

	for (i = 0; i < list->count; i++)
		strbuf_addf(sb, " %s=%s", what,
			    prefix_format(family, &list->items[i], text));
}

static void describe_flags(struct strbuf *sb, unsigned int flags,
			   const char *const *names)
{
	unsigned int i;

	for (i = 0; names[i]; i++)
		if (flags & 1u << i)
			strbuf_addf(sb, " %s", names[i]);
}

void describe_service(struct strbuf *sb, const struct service *service)
{
	static const char *const flags[] = { "ignored", "load-balancer",
					     "internal-local", "external-local",
					     NULL };
	char text[ADDR_TEXT_SIZE];
	enum family f;
	unsigned int i;

	strbuf_addf(sb, "service %s/%s", service->namespace, service->name);
	for (f = 0; f < N_FAMILIES; f++)
		if (service->family[f].has_cluster_ip)
			strbuf_addf(sb, " %s",
				    addr_format(f, &service->family[f].cluster_ip,
						text));
	for (i = 0; i < service->n_ports; i++) {
		strbuf_addf(sb, " %s:%u/%s", service->ports[i].name,
			    service->ports[i].port,
			    protocol_name(service->ports[i].protocol));
		if (service->ports[i].node_port)
			strbuf_addf(sb, "/%u", service->ports[i].node_port);
	}
	for (f = 0; f < N_FAMILIES; f++) {
		describe_addresses(sb, "external", f,
				   &service_extra(service, f)->external_ips);
		describe_addresses(sb, "lb", f,
				   &service_extra(service, f)->load_balancer_ips);
		describe_prefixes(sb, "from", f,
				  &service_extra(service, f)->source_ranges);
	}
	describe_flags(sb, service->flags, flags);
	if (service->flags & SERVICE_CLOSE_NEVER)
		strbuf_adds(sb, " close-never");
	if (service->flags & SERVICE_CLOSE_GONE)
		strbuf_adds(sb, " close-gone");
	if (service->flags & SERVICE_PASS)
		strbuf_adds(sb, " pass");
	if (service->flags & SERVICE_NO_PASS)
		strbuf_adds(sb, " no-pass");
	if (service->affinity_timeout_s)
		strbuf_addf(sb, " affinity=%u", service->affinity_timeout_s);
	if (service->health_check_node_port)
		strbuf_addf(sb, " health=%u", service->health_check_node_port);
	if (service->created_s != INT64_MAX)
		strbuf_addf(sb, " created=%lld", (long long)service->created_s);
	if (*service->uid)
		strbuf_addf(sb, " uid=%s", service->uid);
}

static void describe_endpoint(struct strbuf *sb, const struct slice *slice,
			      const struct slice_endpoint *endpoint)
{
	static const char *const flags[] = { "ready",	    "serving",
					     "terminating", "local",
					     "node-hints",  "node-hinted",
					     NULL };
	const char *zone = slice->zones + endpoint->zones;
	char text[ADDR_TEXT_SIZE];

	strbuf_addf(sb, " %s(", addr_format(slice->family, &endpoint->addr, text));
	describe_flags(sb, endpoint->flags, flags);
	if (endpoint->flags & ENDPOINT_ZONE_HINTS) {
		strbuf_adds(sb, " zones=");
		for (; *zone; zone += strlen(zone) + 1)
			strbuf_addf(sb, "%s+", zone);
	}
	strbuf_adds(sb, " )");
}

void describe_slice(struct strbuf *sb, const struct slice *slice)
{
	struct slice_endpoint endpoint;
	unsigned int i;

	strbuf_addf(sb, "slice %s/%s of %s %s", slice->namespace, slice->name,
		    slice->service, family_name(slice->family));
	for (i = 0; i < slice->n_ports; i++)
		strbuf_addf(sb, " %s:%u/%s", slice->ports[i].name,
			    slice->ports[i].port,
			    protocol_name(slice->ports[i].protocol));
	for (i = 0; i < slice->n_endpoints; i++) {
		endpoint = slice_endpoint(slice, i);
		describe_endpoint(sb, slice, &endpoint);
	}
	if (slice->trigger_us)
		strbuf_addf(sb, " trigger=%lld", (long long)slice->trigger_us);
}

void describe_service_cidr(struct strbuf *sb, const struct service_cidr *cidr)
{
	enum family f;

	strbuf_addf(sb, "cidr %s", cidr->name);
	for (f = 0; f < N_FAMILIES; f++)
		describe_prefixes(sb, "range", f, &cidr->family[f]);
}

void describe_node(struct strbuf *sb, const struct node *node)
{
	static const char *const flags[] = { "deleted", "to-be-deleted", NULL };
	char text[ADDR_TEXT_SIZE];
	unsigned int i;
	enum family f;

	strbuf_addf(sb, "node %s", node->name);
	if (*node->zone)
		strbuf_addf(sb, " zone=%s", node->zone);
	for (i = 0; i < node->n_addresses; i++)
		strbuf_addf(sb, " %s",
			    addr_format(node->addresses[i].family,
					&node->addresses[i].addr, text));
	for (f = 0; f < N_FAMILIES; f++)
		describe_prefixes(sb, "pods", f, &node->pod_cidrs[f]);
	describe_flags(sb, node->flags, flags);
	if (*node->uid)
		strbuf_addf(sb, " uid=%s", node->uid);
}

char *with_quotes(const char *text)
{
	char *copy = strdup(text), *at;

	for (at = copy; at && *at; at++)
		if (*at == '\'')
			*at = '"';
	return copy;
}
