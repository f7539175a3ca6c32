/* This node, as rules depend on it, and the configuration in force. */
#include "proxy/serve/view.h"

#include "proxy/base/jsonout.h"

static void put_prefixes(struct strbuf *out, enum family family,
			 const struct prefix_list *list)
{
	char text[PREFIX_TEXT_SIZE];
	unsigned int i;

	for (i = 0; i < list->count; i++)
		jsonout_text(out, NULL,
			     prefix_format(family, &list->items[i], text));
}

static void put_object(const struct node *node, struct strbuf *out)
{
	char text[ADDR_TEXT_SIZE];
	unsigned int i, f;

	jsonout_bool(out, "known", node != NULL);
	if (!node)
		return;
	jsonout_text(out, "zone", node->zone);
	jsonout_array(out, "addresses");
	for (i = 0; i < node->n_addresses; i++)
		jsonout_text(out, NULL,
			     addr_format(node->addresses[i].family,
					 &node->addresses[i].addr, text));
	jsonout_array_end(out);
	jsonout_array(out, "podCIDRs");
	for (f = 0; f < N_FAMILIES; f++)
		put_prefixes(out, (enum family)f, &node->pod_cidrs[f]);
	jsonout_array_end(out);
	jsonout_bool(out, "deleted", node->flags & NODE_DELETED);
	jsonout_bool(out, "toBeDeleted", node->flags & NODE_TO_BE_DELETED);
}

static void put_info(const struct model *m, enum family family, struct strbuf *out)
{
	const struct node_info *info = model_node_info(m);
	const struct addr_view local = model_addresses(m, family);
	char text[ADDR_TEXT_SIZE];
	unsigned int i;

	jsonout_object(out, NULL);
	jsonout_text(out, "family", family_name(family));
	if (info->family[family].has_primary)
		jsonout_text(out, "primary",
			     addr_format(family, &info->family[family].primary,
					 text));
	jsonout_bool(out, "nodePortsOnAllAddresses",
		     info->family[family].nodeports_everywhere);
	jsonout_array(out, "nodePortAddresses");
	for (i = 0; i < info->family[family].n_nodeport_ips; i++)
		jsonout_text(out, NULL,
			     addr_format(family,
					 &info->family[family].nodeport_ips[i],
					 text));
	jsonout_array_end(out);
	jsonout_array(out, "localAddresses");
	for (i = 0; i < local.count; i++)
		jsonout_text(out, NULL, addr_format(family, &local.items[i], text));
	jsonout_array_end(out);
	jsonout_object_end(out);
}

static void put_cidrs(const struct model *m, struct strbuf *out)
{
	const struct cidr_entry *e;
	unsigned int f;

	jsonout_array(out, "serviceCIDRs");
	for (e = model_cidrs(m); e; e = e->next)
		for (f = 0; f < N_FAMILIES; f++)
			put_prefixes(out, (enum family)f, &e->object->family[f]);
	jsonout_array_end(out);
}

int view_node(const struct view *v, const char *query, struct strbuf *out)
{
	unsigned int f;

	(void)query;
	jsonout_object(out, NULL);
	jsonout_text(out, "name", v->node_name);
	put_object(model_node(v->model), out);
	jsonout_text(out, "primaryFamily",
		     family_name(model_node_info(v->model)->primary_family));
	jsonout_array(out, "families");
	for (f = 0; f < N_FAMILIES; f++)
		put_info(v->model, (enum family)f, out);
	jsonout_array_end(out);
	put_cidrs(v->model, out);
	jsonout_object_end(out);
	return out->err ? 500 : 200;
}

int view_config(const struct view *v, const char *query, struct strbuf *out)
{
	(void)query;
	config_format(v->config, out);
	return out->err ? 500 : 200;
}

int view_changes(const struct view *v, const char *query, struct strbuf *out)
{
	struct sync_status status;
	uint64_t changes = model_revision(v->model);
	unsigned int f;

	(void)query;
	for (f = 0; f < N_FAMILIES; f++)
		if (sync_status(v->sync, (enum family)f, &status))
			changes += status.syncs;
	jsonout_object(out, NULL);
	jsonout_integer(out, "changes", (int64_t)changes);
	jsonout_object_end(out);
	return out->err ? 500 : 200;
}

int view_vipmap_config(const struct view *v, const char *query, struct strbuf *out)
{
	(void)query;
	config_format_vipmap(v->config, out);
	return out->err ? 500 : 200;
}
